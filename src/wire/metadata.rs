//! Reads the few fields of `metadata` that are used.
//!
//! The API server guarantees the types of this part, so a derived deserializer is right: anything else is not a
//! Kubernetes object.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use litemap::LiteMap;

use super::fields::{Diagnostics, describe, scalar_text};
use super::time::parse_rfc3339;
use crate::scaling::model::{Step, UnixMillis};

/// Bytes that are not a Kubernetes object, without a name to report problems on. The text gives the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) uid: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) generation: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) resource_version: String,
    pub(crate) creation_timestamp: Option<String>,
    pub(crate) deletion_timestamp: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) finalizers: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) labels: LiteMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) annotations: LiteMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) owner_references: Vec<OwnerReference>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnerReference {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) controller: Option<bool>,
}

impl Metadata {
    /// Removes `metadata` from `object`. Unquoted labels and annotations, which only a manifest in a file can have, are
    /// problems, and then read as if quoted.
    pub(crate) fn take(object: &mut Value, report: &mut Diagnostics) -> Result<Self, Unreadable> {
        let mut metadata = object
            .get_mut("metadata")
            .map(Value::take)
            .filter(|metadata| !metadata.is_null())
            .ok_or_else(|| Unreadable("the object has no metadata".to_owned()))?;
        for name in ["labels", "annotations"] {
            let Some(map) = metadata.get_mut(name).and_then(Value::as_object_mut) else {
                continue;
            };
            for (key, value) in map.iter_mut().filter(|(_, value)| !value.is_string()) {
                // Go reads null as an empty string.
                if value.is_null() {
                    *value = Value::String(String::new());
                    continue;
                }
                let text = scalar_text(value);
                report.problem(
                    Step::Target,
                    format!("metadata.{name}[{key}]"),
                    format!("must be a quoted string, is {}", describe(value)),
                    format!("write {key}: {text:?}"),
                );
                *value = Value::String(text);
            }
        }
        let metadata: Self =
            serde_json::from_value(metadata).map_err(|error| Unreadable(format!("metadata: {error}")))?;
        if metadata.name.is_empty() {
            return Err(Unreadable("metadata.name: is missing".to_owned()));
        }
        Ok(metadata)
    }

    /// Returns the epoch if absent, as in a manifest that was never applied.
    pub(crate) fn created_at(&self) -> UnixMillis {
        self.creation_timestamp.as_deref().and_then(parse_rfc3339).unwrap_or_default()
    }
}

/// Returns a list without room for more, since it is kept as long as its object.
pub(super) fn exact<T>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut list: Vec<T> = items.into_iter().collect();
    list.shrink_to_fit();
    list
}

/// Returns a map without room for more, as [`exact`] does.
pub(super) fn exact_map<V>(map: LiteMap<String, V>) -> LiteMap<String, V> {
    LiteMap::from_sorted_store_unchecked(exact(map.into_tuple_vec()))
}

/// Reads `null` as the default, since Go programs write nil maps and lists like that.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
