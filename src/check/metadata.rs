//! Checks `metadata` by the API server's built-in rules, which are in no CRD.

use serde_json::{Map, Value};

use super::schema::{Crd, Fault, Violation, join, unknown_field};
use crate::wire::time::parse_rfc3339;
use crate::wire::{describe, is_dns_label, is_dns_subdomain, quoted};

/// The fields of ObjectMeta and the JSON types of their values.
const FIELDS: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("generateName", Kind::Text),
    ("namespace", Kind::Text),
    ("selfLink", Kind::Text),
    ("uid", Kind::Text),
    ("resourceVersion", Kind::Text),
    ("generation", Kind::Number),
    ("creationTimestamp", Kind::Time),
    ("deletionTimestamp", Kind::Time),
    ("deletionGracePeriodSeconds", Kind::Number),
    ("labels", Kind::Map),
    ("annotations", Kind::Map),
    ("ownerReferences", Kind::List),
    ("finalizers", Kind::List),
    ("managedFields", Kind::List),
];

const OWNER_REFERENCE_FIELDS: &[&str] = &["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    Time,
    Map,
    List,
}

/// Maximum size of all annotations of an object, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// The annotation in which `kubectl apply` keeps a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Maximum size of an etcd request in bytes, unless its flags change it.
const OBJECT_BYTES_MAX: usize = 1536 * 1024;

const NAME_FIX: &str =
    "write lower-case letters, digits, '-' and '.', with a letter or digit at both ends, at most 253";
const KEY_FIX: &str = "write letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends; a domain \
                       and a slash may stand before it";

/// Returns what is wrong with `metadata`, and `object` without what cannot be decoded, so that the rest can be checked.
pub(super) fn violations(crd: &Crd, object: &Value) -> (Vec<Violation>, Value) {
    let mut found = Vec::new();
    let mut readable = object.clone();
    let metadata = match object.get("metadata") {
        None | Some(Value::Null) => &Map::new(),
        Some(Value::Object(metadata)) => metadata,
        Some(other) => {
            other_fault(&mut found, "metadata", format!("must be an object, is {}", describe(other)), "");
            &Map::new()
        }
    };
    let mut kept = metadata.clone();
    kept.retain(|name, value| {
        let Some((_, kind)) = FIELDS.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            let mut violation = unknown_field(join("metadata", name), name, &known);
            if matches!(name.as_str(), "spec" | "kind" | "apiVersion") {
                violation.fix = "it belongs beside metadata: indent it less".to_owned();
            }
            found.push(violation);
            return false;
        };
        let wanted = wrong_type(*kind, value);
        if let Some(wanted) = wanted {
            let field = format!("metadata.{name}");
            let fix = match value {
                Value::Bool(_) | Value::Number(_) if *kind == Kind::Text => format!("write {name}: \"{value}\""),
                _ => String::new(),
            };
            other_fault(&mut found, &field, format!("must be {wanted}, is {}", describe(value)), &fix);
        }
        wanted.is_none()
    });
    name(crd, &kept, metadata, &mut found);
    labels(&kept, &mut found);
    annotations(&kept, object, &mut found);
    finalizers(&kept, &mut found);
    owner_references(&kept, &mut found);
    // A placeholder replaces an unreadable name, so that other problems can still be reported.
    if kept.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
        kept.insert("name".to_owned(), "unnamed".into());
    }
    kept.remove("ownerReferences");
    if let Some(fields) = readable.as_object_mut() {
        fields.insert("metadata".to_owned(), Value::Object(kept));
    }
    (found, readable)
}

fn other_fault(found: &mut Vec<Violation>, field: &str, message: String, fix: &str) {
    found.push(Violation { fault: Fault::Other, field: field.to_owned(), message, fix: fix.to_owned() });
}

fn wrong_type(kind: Kind, value: &Value) -> Option<&'static str> {
    let (is, wanted) = match kind {
        Kind::Text => (value.is_string(), "a string"),
        Kind::Number => (value.is_i64() || value.is_u64(), "a whole number"),
        Kind::Time => (value.as_str().is_some_and(|text| parse_rfc3339(text).is_some()), "a time as of RFC 3339"),
        Kind::Map => (value.is_object(), "a map"),
        Kind::List => (value.is_array(), "a list"),
    };
    (!is && !value.is_null()).then_some(wanted)
}

fn name(crd: &Crd, kept: &Map<String, Value>, written: &Map<String, Value>, found: &mut Vec<Violation>) {
    match kept.get("name").and_then(Value::as_str).unwrap_or_default() {
        "" if written.get("name").is_some_and(|name| !name.is_string() && !name.is_null()) => {}
        "" => {
            let fix = if written.contains_key("generateName") {
                "kubectl apply cannot make one up from generateName: write a name"
            } else {
                "write a name for the object"
            };
            found.push(Violation {
                fault: Fault::Missing,
                field: "metadata.name".to_owned(),
                message: "is missing".to_owned(),
                fix: fix.to_owned(),
            });
        }
        name if !is_dns_subdomain(name) => {
            other_fault(found, "metadata.name", format!("{} cannot name an object", quoted(name)), NAME_FIX);
        }
        _ => {}
    }
    let namespace = kept.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if crd.is_namespaced && !namespace.is_empty() && !is_dns_label(namespace) {
        let fix = "write lower-case letters, digits and '-', with a letter or digit at both ends, at most 63";
        other_fault(found, "metadata.namespace", format!("{} cannot name a namespace", quoted(namespace)), fix);
    }
}

fn labels(metadata: &Map<String, Value>, found: &mut Vec<Violation>) {
    for (key, value) in metadata.get("labels").and_then(Value::as_object).into_iter().flatten() {
        let field = format!("metadata.labels[{key}]");
        if !is_qualified_name(key, false) {
            other_fault(found, &field, format!("{} cannot be the key of a label", quoted(key)), KEY_FIX);
        } else if let Some(value) = value.as_str().filter(|value| !value.is_empty() && !is_name_part(value)) {
            let fix = "write letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends";
            other_fault(found, &field, format!("{} cannot be the value of a label", quoted(value)), fix);
        }
    }
}

fn annotations(metadata: &Map<String, Value>, object: &Value, found: &mut Vec<Violation>) {
    let mut bytes = 0;
    for (key, value) in metadata.get("annotations").and_then(Value::as_object).into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        if !is_qualified_name(key, true) {
            let field = format!("metadata.annotations[{key}]");
            other_fault(found, &field, format!("{} cannot be the key of an annotation", quoted(key)), KEY_FIX);
        }
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        let message = format!("have {bytes} bytes together, and 262144 are allowed");
        return other_fault(found, "metadata.annotations", message, "shorten them");
    }
    let object_bytes = object.to_string().len();
    if object_bytes > OBJECT_BYTES_MAX {
        let message = format!("the object has {object_bytes} bytes as JSON, and etcd stores at most 1572864");
        other_fault(found, "", message, "split it");
    } else if bytes + LAST_APPLIED.len() + object_bytes > ANNOTATIONS_BYTES_MAX {
        let message = format!(
            "the object has {object_bytes} bytes as JSON, and kubectl apply keeps a copy in an annotation, where 262144 \
             are allowed in all"
        );
        other_fault(found, "", message, "shorten it, or use kubectl apply --server-side");
    }
}

fn finalizers(metadata: &Map<String, Value>, found: &mut Vec<Violation>) {
    for (index, value) in metadata.get("finalizers").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let field = format!("metadata.finalizers[{index}]");
        match value.as_str() {
            Some(text) if is_qualified_name(text, false) => {}
            Some(text) => other_fault(found, &field, format!("{} cannot be a finalizer", quoted(text)), KEY_FIX),
            None => other_fault(found, &field, format!("must be a string, is {}", describe(value)), ""),
        }
    }
}

fn owner_references(metadata: &Map<String, Value>, found: &mut Vec<Violation>) {
    let mut controllers = 0;
    for (index, value) in metadata.get("ownerReferences").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = format!("metadata.ownerReferences[{index}]");
        let Some(fields) = value.as_object() else {
            other_fault(found, &path, format!("must be an object, is {}", describe(value)), "");
            continue;
        };
        for (name, value) in fields {
            let field = join(&path, name);
            let is_flag = matches!(name.as_str(), "controller" | "blockOwnerDeletion");
            if !OWNER_REFERENCE_FIELDS.contains(&name.as_str()) {
                found.push(unknown_field(field, name, OWNER_REFERENCE_FIELDS));
            } else if !value.is_null() && (if is_flag { !value.is_boolean() } else { !value.is_string() }) {
                let wanted = if is_flag { "true or false" } else { "a string" };
                other_fault(found, &field, format!("must be {wanted}, is {}", describe(value)), "");
            }
        }
        for name in &OWNER_REFERENCE_FIELDS[..4] {
            if fields.get(*name).is_none_or(|value| value.is_null() || value == "") {
                found.push(Violation {
                    fault: Fault::Missing,
                    field: format!("{path}.{name}"),
                    message: "is missing".to_owned(),
                    fix: "write all of apiVersion, kind, name and uid, or leave the reference to whoever owns"
                        .to_owned(),
                });
            }
        }
        controllers += usize::from(fields.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let message = "more than one of them is the controller".to_owned();
        other_fault(found, "metadata.ownerReferences", message, "set controller: true once");
    }
}

/// Checks `name` or `domain/name`. The domain of an annotation may have upper case.
fn is_qualified_name(text: &str, any_case: bool) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => {
            let domain = if any_case { domain.to_lowercase() } else { domain.to_owned() };
            // The API server converts the whole key of an annotation to lower case first.
            is_dns_subdomain(&domain) && is_name_part(name)
        }
        None => is_name_part(text),
    }
}

/// Checks 1 to 63 characters with a letter or digit at both ends.
fn is_name_part(text: &str) -> bool {
    let is_outer = |c: u8| c.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|c| is_outer(*c) || matches!(c, b'-' | b'_' | b'.'))
        && bytes.first().is_some_and(|c| is_outer(*c))
        && bytes.last().is_some_and(|c| is_outer(*c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema::crds;
    use super::*;

    /// The expectations are an API server's answers.
    #[test]
    fn metadata_is_validated_as_by_the_api_server() {
        let long = "x".repeat(254);
        for (change, fields) in [
            (json!({}), &[][..]),
            (
                json!({"labels": null, "namespace": null, "annotations": {"A.B/c": "x"}, "finalizers": ["a", "a/b"]}),
                &[],
            ),
            (json!({"name": "B"}), &["metadata.name"]),
            (json!({"name": 5}), &["metadata.name"]),
            (json!({"name": null}), &["metadata.name"]),
            (json!({"name": "a..b"}), &["metadata.name"]),
            (json!({"name": long}), &["metadata.name"]),
            (json!({"name": &long[1..]}), &[]),
            (json!({"namespace": "a.b"}), &["metadata.namespace"]),
            (json!({"namespace": 5}), &["metadata.namespace"]),
            (json!({"labels": {"a b": "c"}}), &["metadata.labels[a b]"]),
            (json!({"labels": {"a": "c d"}}), &["metadata.labels[a]"]),
            (json!({"labels": {"a": ""}}), &[]),
            (json!({"labels": []}), &["metadata.labels"]),
            (json!({"annotations": {"a/b/c": ""}}), &["metadata.annotations[a/b/c]"]),
            (json!({"annotations": {"": "x"}}), &["metadata.annotations[]"]),
            (json!({"annotations": {"a": "x".repeat(262_144)}}), &["metadata.annotations"]),
            (json!({"annotations": {"a": "x".repeat(140_000)}}), &[""]),
            (json!({"finalizers": ["a b/c"]}), &["metadata.finalizers[0]"]),
            (json!({"clusterName": "x"}), &["metadata.clusterName"]),
            (json!({"selfLink": "x", "uid": "x", "generation": 3}), &[]),
            (json!({"generation": "3"}), &["metadata.generation"]),
            (json!({"creationTimestamp": "yesterday"}), &["metadata.creationTimestamp"]),
            (
                json!({"ownerReferences": [{"name": "x", "kind": "K", "apiVersion": "v1"}]}),
                &["metadata.ownerReferences[0].uid"],
            ),
        ] {
            let mut object = json!({"metadata": {"name": "web"}});
            for (name, value) in change.as_object().expect("an object") {
                object["metadata"][name] = value.clone();
            }
            let (found, readable) = violations(&crds()[0], &object);
            let found: Vec<String> = found.into_iter().map(|found| found.field).collect();
            let change = change.to_string();
            assert_eq!(found, fields, "{}", &change[..change.len().min(80)]);
            assert!(readable["metadata"]["name"].is_string());
        }
        for (metadata, field) in [(json!(null), "metadata.name"), (json!([]), "metadata"), (json!({}), "metadata.name")]
        {
            let (found, _) = violations(&crds()[0], &json!({"metadata": metadata}));
            assert_eq!(found[0].field, field);
        }
    }
}
