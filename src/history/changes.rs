//! Compares a definition with the previous version, field by field. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// Further changed fields are only counted.
const CHANGES_MAX: usize = 20;

/// Longer values are cut: a query may have 16,384 characters.
const VALUE_CHARS_MAX: usize = 200;

/// Returns lines such as `triggers[0].metadata.threshold: "75" -> "100"`.
pub(crate) fn between(before: &str, after: &str) -> Vec<String> {
    let (Ok(before), Ok(after)) = (serde_json::from_str(before), serde_json::from_str(after)) else {
        return vec!["the definition cannot be read as JSON".to_owned()];
    };
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten(String::new(), &before, &mut old);
    flatten(String::new(), &after, &mut new);
    let mut changes: Vec<String> = Vec::new();
    for path in old.keys().chain(new.keys().filter(|path| !old.contains_key(*path))) {
        let text = match (old.get(path), new.get(path)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(a), Some(b)) => format!("{path}: {} -> {}", cut(a), cut(b)),
            (Some(a), None) => format!("{path}: {} removed", cut(a)),
            (_, b) => format!("{path}: {} added", cut(b.map_or("", String::as_str))),
        };
        changes.push(text);
    }
    if changes.len() > CHANGES_MAX {
        let more = changes.len() - CHANGES_MAX;
        changes.truncate(CHANGES_MAX);
        changes.push(format!("and {more} more fields"));
    }
    changes
}

fn flatten(path: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(path, value, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, value) in items.iter().enumerate() {
                flatten(format!("{path}[{i}]"), value, into);
            }
        }
        // An empty definition has no fields.
        _ if path.is_empty() => {}
        scalar => {
            into.insert(path, scalar.to_string());
        }
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_by_their_path() {
        let before = r#"{"maxReplicaCount":5,"triggers":[{"metadata":{"threshold":"75","query":"up"}}],"old":[]}"#;
        let after = r#"{"maxReplicaCount":9,"triggers":[{"metadata":{"threshold":"75","query":"down"}},{"type":"x"}]}"#;
        assert_eq!(
            between(before, after),
            [
                "maxReplicaCount: 5 -> 9",
                "old: [] removed",
                "triggers[0].metadata.query: \"up\" -> \"down\"",
                "triggers[1].type: \"x\" added",
            ]
        );
        assert_eq!(between(before, before), Vec::<String>::new());
        assert_eq!(between("{", "{}").len(), 1);
    }

    #[test]
    fn much_is_bounded() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5_000));
        let change = between("{}", &long);
        assert!(change[0].len() < 260 && change[0].ends_with("… added"), "{}", change[0]);
        let many: Vec<i32> = (0..100).collect();
        let many = serde_json::json!({ "list": many }).to_string();
        let changes = between("{}", &many);
        assert_eq!((changes.len(), changes[20].as_str()), (21, "and 80 more fields"));
    }
}
