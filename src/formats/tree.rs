//! Dotted paths into a tree: names of members, and list indices from 0.

use serde_json::Value;

/// Returns the value at the path; `None` if there is none.
pub(super) fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Object(members) => members.get(key),
        Value::Array(elements) => elements.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let value = json!({"a": {"b": [{"c": 1}, {"c": 2}], "-x": "y"}});
        for (path, expected) in [
            ("a.b.1.c", Some(json!(2))),
            ("a.-x", Some(json!("y"))),
            ("a.b.2.c", None),
            ("a.b.c", None),
            ("a.-x.y", None),
            ("", None),
            ("a.", None),
        ] {
            assert_eq!(find(&value, path).cloned(), expected, "{path}");
        }
    }
}
