//! `metadata` of any object: the few fields of it that somebody here uses.
//!
//! The one part whose types the API server vouches for, so a derived reader is right: what does not
//! fit is no Kubernetes object at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::fields::{Diagnostics, describe, scalar_text};
use super::time::parse_rfc3339;
use crate::scaling::model::{Step, UnixMillis};

/// Why something is no Kubernetes object. Without a name nothing can be reported on it.
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
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) annotations: BTreeMap<String, String>,
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
    /// Takes `metadata` out of `object`. Labels and annotations that lack their quotes, which only a
    /// manifest in a file can have, are problems and then read as if quoted.
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
                // Go reads null as no text.
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

    /// The epoch when absent, as in a manifest that was never applied.
    pub(crate) fn created_at(&self) -> UnixMillis {
        self.creation_timestamp.as_deref().and_then(parse_rfc3339).unwrap_or_default()
    }
}

/// `null` as the default, since Go programs write nil maps and lists so.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
