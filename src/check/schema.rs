//! Validates objects against the CRDs as the API server does, without asking it.
//!
//! The files of k8s/crds are the only list of fields, types, bounds and rules; this implements the part of structural
//! schemas that they use (a test fails at any other keyword). CEL rules and patterns are evaluated in [`super::rules`].

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::rules;
use crate::spelling::nearest;
use crate::wire::{describe, quoted};

const FILES: [&str; 5] = [
    include_str!("../../k8s/crds/scaledobjects.keda.sh.yaml"),
    include_str!("../../k8s/crds/triggerauthentications.keda.sh.yaml"),
    include_str!("../../k8s/crds/clustertriggerauthentications.keda.sh.yaml"),
    include_str!("../../k8s/crds/keda-v1/scaledobjects.keda.k8s.io.yaml"),
    include_str!("../../k8s/crds/keda-v1/triggerauthentications.keda.k8s.io.yaml"),
];

/// One kind in one version.
pub(super) struct Crd {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) is_namespaced: bool,
    schema: Value,
}

impl Crd {
    /// Returns `group/version`.
    pub(super) fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}

/// Returns all CRDs, which are built in.
pub(super) fn crds() -> &'static [Crd] {
    static CRDS: OnceLock<Vec<Crd>> = OnceLock::new();
    CRDS.get_or_init(|| FILES.iter().flat_map(|file| read(file)).collect())
}

fn read(file: &str) -> Vec<Crd> {
    let crd: Value = serde_saphyr::from_str(file).expect("k8s/crds holds YAML, as tests apply it");
    let text = |pointer: &str| crd.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true);
    served
        .map(|version| Crd {
            group: text("/spec/group"),
            version: version["name"].as_str().unwrap_or_default().to_owned(),
            kind: text("/spec/names/kind"),
            is_namespaced: text("/spec/scope") == "Namespaced",
            schema: version["schema"]["openAPIV3Schema"].clone(),
        })
        .collect()
}

/// The kind of violation, as far as one can explain another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    UnknownField,
    Missing,
    Other,
}

/// One reason for the API server to refuse an object.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) fault: Fault,
    /// JSON path from the object's root.
    pub(super) field: String,
    pub(super) message: String,
    pub(super) fix: String,
}

/// Returns all reasons to refuse the creation of `object`, except those in `metadata`.
pub(super) fn violations(crd: &Crd, object: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    decode(&crd.schema, &crd.schema, object, "", &mut found);
    let mut object = prune(&crd.schema, object);
    if let Some(fields) = object.as_object_mut() {
        // A create drops the status, since the CRDs have the status subresource.
        fields.remove("status");
    }
    let before = found.len();
    validate(&crd.schema, &object, "", &mut found);
    // Rules rely on valid types, so they are evaluated only if there are no other violations.
    if found.len() == before {
        validate_rules(&crd.schema, &object, "", &mut found);
    }
    found
}

/// Returns the path of a field; a key that contains a dot or slash is put in brackets.
pub(super) fn join(path: &str, name: &str) -> String {
    if name.contains(['.', '/']) {
        format!("{path}[{name}]")
    } else if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

fn keeps_unknown(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

/// Returns the schema of a field, or of a value in a map; `None` for unknown fields.
fn schema_of<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    properties(schema).and_then(|properties| properties.get(name)).or_else(|| schema.get("additionalProperties"))
}

/// Performs strict field validation, which kubectl requests.
fn decode(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<Violation>) {
    match value {
        // The root's metadata has only the type `object`, which stands for all of ObjectMeta.
        Value::Object(fields) if path != "metadata" => {
            for (name, value) in fields {
                let path = join(path, name);
                match schema_of(schema, name) {
                    Some(schema) => decode(root, schema, value, &path, found),
                    None if keeps_unknown(schema) => {}
                    None => {
                        let known: Vec<&str> =
                            properties(schema).into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                        let mut violation = unknown_field(path, name, &known);
                        let elsewhere = paths_of(root, name);
                        if (1..=2).contains(&elsewhere.len()) {
                            violation.fix = format!("it belongs at {}", elsewhere.join(" or "));
                        }
                        found.push(violation);
                    }
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                decode(root, &schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Returns the paths in the spec at which a field of this name exists.
fn paths_of(root: &Value, name: &str) -> Vec<String> {
    fn walk(schema: &Value, name: &str, path: &str, found: &mut Vec<String>) {
        for (known, schema) in properties(schema).into_iter().flatten() {
            let path = join(path, known);
            if known == name {
                found.push(path.clone());
            }
            walk(schema, name, &path, found);
        }
        if let Some(items) = schema.get("items") {
            walk(items, name, &format!("{path}[]"), found);
        }
    }
    let mut found = Vec::new();
    walk(&root["properties"]["spec"], name, "spec", &mut found);
    found
}

pub(super) fn unknown_field(field: String, name: &str, known: &[&str]) -> Violation {
    let fix =
        nearest(name, known).map(|near| format!("did you mean {near}?")).unwrap_or_else(|| "remove it".to_owned());
    Violation {
        fault: Fault::UnknownField,
        field,
        message: "unknown field: kubectl refuses it, other clients drop it".to_owned(),
        fix,
    }
}

/// Returns the object as it would be stored: without unknown fields and nulls, with defaults.
fn prune(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (name, value) in fields {
                let of = schema_of(schema, name);
                if value.is_null() && of.is_some_and(|of| of["nullable"] != true) {
                    continue;
                }
                if let Some(of) = of {
                    kept.insert(name.clone(), prune(of, value));
                } else if keeps_unknown(schema) {
                    kept.insert(name.clone(), value.clone());
                }
            }
            for (name, of) in properties(schema).into_iter().flatten() {
                if let Some(default) = of.get("default").filter(|_| !kept.contains_key(name)) {
                    kept.insert(name.clone(), default.clone());
                }
            }
            Value::Object(kept)
        }
        Value::Array(items) => items.iter().map(|item| prune(&schema["items"], item)).collect(),
        other => other.clone(),
    }
}

fn validate(schema: &Value, value: &Value, path: &str, found: &mut Vec<Violation>) {
    let mut violation = |fault: Fault, field: &str, message: String, fix: &str| {
        found.push(Violation { fault, field: field.to_owned(), message, fix: fix.to_owned() });
    };
    if let Some(expected) = wrong_type(schema, value) {
        return violation(Fault::Other, path, format!("must be {expected}, is {}", describe(value)), "");
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array).filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<String> = allowed.iter().filter_map(Value::as_str).map(quoted).collect();
        violation(
            Fault::Other,
            path,
            format!("{} is not one of {}", describe(value), allowed.join(", ")),
            "write one of these, or remove the field",
        );
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    match value {
        Value::Number(number) => {
            let least = schema.get("minimum").and_then(Value::as_f64).unwrap_or(f64::NEG_INFINITY);
            let most = schema.get("maximum").and_then(Value::as_f64).unwrap_or(f64::INFINITY);
            let (least, most) = match schema.get("format").and_then(Value::as_str) {
                Some("int32") => (least.max(f64::from(i32::MIN)), most.min(f64::from(i32::MAX))),
                _ => (least, most),
            };
            if number.as_f64().is_some_and(|number| number < least || number > most) {
                violation(Fault::Other, path, format!("{number} is not within {least} to {most}"), "");
            }
        }
        Value::String(text) => {
            let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
            if let Some(least) = bound("minLength").filter(|least| length < *least) {
                violation(Fault::Other, path, format!("has {length} characters, and needs at least {least}"), "");
            }
            if let Some(most) = bound("maxLength").filter(|most| length > *most) {
                violation(Fault::Other, path, format!("has {length} characters, and {most} are allowed"), "shorten it");
            }
            let pattern = schema.get("pattern").and_then(Value::as_str);
            if pattern.is_some_and(|pattern| !rules::matches(pattern, text)) {
                violation(Fault::Other, path, format!("{} has not the form that is wanted", quoted(text)), "");
            }
        }
        Value::Array(items) => {
            let length = u64::try_from(items.len()).unwrap_or(u64::MAX);
            if let Some(least) = bound("minItems").filter(|least| length < *least) {
                violation(Fault::Missing, path, format!("has {length} items, and needs at least {least}"), "");
            }
            if let Some(most) = bound("maxItems").filter(|most| length > *most) {
                violation(Fault::Other, path, format!("has {length} items, and {most} are allowed"), "");
            }
            for (index, item) in items.iter().enumerate() {
                validate(&schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            for name in required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
                violation(Fault::Missing, &join(path, name), "is missing".to_owned(), "");
            }
            for (name, value) in fields {
                if let Some(schema) = schema_of(schema, name) {
                    validate(schema, value, &join(path, name), found);
                }
            }
        }
        _ => {}
    }
}

/// Returns the expected type, if the value has another.
fn wrong_type(schema: &Value, value: &Value) -> Option<&'static str> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return (!is_integer(value) && !value.is_string()).then_some("a whole number or a string");
    }
    let (is, expected) = match schema.get("type").and_then(Value::as_str)? {
        "object" => (value.is_object(), "an object"),
        "array" => (value.is_array(), "a list"),
        "string" => (value.is_string(), "a string"),
        "integer" => (is_integer(value), "a whole number"),
        "number" => (value.is_number(), "a number"),
        "boolean" => (value.is_boolean(), "true or false"),
        _ => return None,
    };
    (!is).then_some(expected)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn validate_rules(schema: &Value, value: &Value, path: &str, found: &mut Vec<Violation>) {
    let text = |rule: &Value, name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
        if !rules::holds(&text(rule, "rule"), value) {
            let (message, fix) = match text(rule, "message").split_once(": ") {
                Some((message, fix)) => (message.to_owned(), fix.to_owned()),
                None => (text(rule, "message"), String::new()),
            };
            let field = format!("{path}{}", text(rule, "fieldPath"));
            found.push(Violation { fault: Fault::Other, field, message, fix });
        }
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                validate_rules(&schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = schema_of(schema, name) {
                    validate_rules(schema, value, &join(path, name), found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    /// Visits a schema and all schemas below it.
    fn each_schema<'a>(schema: &'a Value, visit: &mut dyn FnMut(&'a Value)) {
        visit(schema);
        let below = properties(schema).into_iter().flat_map(Map::values);
        for schema in below.chain(schema.get("items")).chain(schema.get("additionalProperties")) {
            each_schema(schema, visit);
        }
    }

    #[test]
    fn every_keyword_rule_and_pattern_of_the_crds_is_known() {
        const KEYWORDS: &[&str] = &[
            "description",
            "type",
            "required",
            "properties",
            "items",
            "additionalProperties",
            "enum",
            "default",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "pattern",
            "format",
            // Only with x-kubernetes-int-or-string.
            "anyOf",
            "x-kubernetes-int-or-string",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-validations",
            // How lists merge; an atomic one has no rule for its items.
            "x-kubernetes-list-type",
        ];
        assert_eq!(crds().len(), 5);
        let (mut rules_found, mut patterns) = (BTreeSet::new(), BTreeSet::new());
        for crd in crds() {
            assert!(!crd.group.is_empty() && !crd.version.is_empty() && !crd.kind.is_empty());
            each_schema(&crd.schema, &mut |schema| {
                for keyword in schema.as_object().expect("a schema is an object").keys() {
                    assert!(KEYWORDS.contains(&keyword.as_str()), "{}: {keyword}", crd.kind);
                }
                let is_int_or_string = schema.get("x-kubernetes-int-or-string").is_some();
                assert_eq!(schema.get("anyOf").is_some(), is_int_or_string, "{}", crd.kind);
                let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
                assert!(matches!(list_type, None | Some("atomic")), "{list_type:?}");
                patterns.extend(schema.get("pattern").and_then(Value::as_str));
                for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                    for keyword in rule.as_object().expect("a rule is an object").keys() {
                        assert!(["message", "rule", "fieldPath", "reason"].contains(&keyword.as_str()), "{keyword}");
                    }
                    rules_found.insert(rules::normal(rule["rule"].as_str().expect("a rule has its text")));
                }
            });
            // Formats in the status only need no validation.
            for (name, schema) in properties(&crd.schema).into_iter().flatten().filter(|(name, _)| *name != "status") {
                each_schema(schema, &mut |schema| {
                    let format = schema.get("format").and_then(Value::as_str);
                    assert!(matches!(format, None | Some("int32")), "{name}: {format:?}");
                });
            }
        }
        rules::assert_known(&rules_found, &patterns);
    }

    #[test]
    fn a_schema_refuses_invalid_objects() {
        let schema = json!({
            "type": "object", "required": ["a"],
            "properties": {
                "a": {"type": "string", "minLength": 2, "maxLength": 3},
                "n": {"type": "integer", "format": "int32", "minimum": 1},
                "e": {"type": "string", "enum": ["x", "y"], "default": "x"},
                "l": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "boolean"}},
                "m": {"type": "object", "additionalProperties": {"type": "string"}},
                "q": {"x-kubernetes-int-or-string": true},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        });
        for (value, expected) in [
            (json!({"a": "ab"}), ""),
            (json!({"a": "äöü", "n": 3.0, "q": "x", "m": {"k": null}, "any": {"x": 1}, "e": null, "n2": 1}), "n2"),
            (json!({}), "a"),
            (json!({"a": null}), "a"),
            (json!({"a": "a"}), "a"),
            (json!({"a": "abcd"}), "a"),
            (json!({"a": "ab", "n": 0}), "n"),
            (json!({"a": "ab", "n": 3_000_000_000_i64}), "n"),
            (json!({"a": "ab", "n": 1.5}), "n"),
            (json!({"a": "ab", "n": "1"}), "n"),
            (json!({"a": "ab", "e": "z"}), "e"),
            (json!({"a": "ab", "l": []}), "l"),
            (json!({"a": "ab", "l": [true, true, true]}), "l"),
            (json!({"a": "ab", "l": [null]}), "l[0]"),
            (json!({"a": "ab", "m": {"x.y/z": 1}}), "m[x.y/z]"),
            (json!({"a": "ab", "q": true}), "q"),
            (json!([]), ""),
        ] {
            let crd = Crd {
                group: String::new(),
                version: String::new(),
                kind: String::new(),
                is_namespaced: true,
                schema: schema.clone(),
            };
            let fields: Vec<String> = violations(&crd, &value).into_iter().map(|found| found.field).collect();
            let expected: Vec<&str> =
                if expected.is_empty() && value.is_object() { Vec::new() } else { vec![expected] };
            assert_eq!(fields, expected, "{value}");
        }
    }
}
