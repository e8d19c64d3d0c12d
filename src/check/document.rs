//! Files to JSON values that know their lines: YAML of several documents, or JSON.
//!
//! Documents are parted here and parsed one by one, so that a broken one does not hide its
//! neighbours.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// One document, without its empty and comment-only neighbours.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    /// JSON path to line, from 1; empty for JSON.
    lines: HashMap<String, u64>,
    first_line: Option<u64>,
}

impl Document {
    /// Line of a field of the object at `prefix`, or of the nearest thing around it that exists.
    pub(super) fn line(&self, prefix: &str, field: &str) -> Option<u64> {
        let mut path = match (prefix, field) {
            ("", field) => field.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, field) => format!("{prefix}.{field}"),
        };
        loop {
            if let Some(line) = self.lines.get(&path) {
                return Some(*line);
            }
            let Some(cut) = path.rfind(['.', '[']).filter(|cut| *cut > 0) else {
                return self.first_line;
            };
            path.truncate(cut);
        }
    }
}

/// Every document of a text, or the line and text of what is wrong with it.
pub(super) fn split(text: &str) -> Vec<Result<Document, (Option<u64>, String)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '[']) {
        // Some YAML also begins so; JSON is tried first since it needs no guess about its types.
        if let Ok(values) = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>() {
            let document = |value| Ok(Document { value, lines: HashMap::new(), first_line: None });
            return values.into_iter().map(document).collect();
        }
    }
    parts(text).into_iter().filter_map(|(offset, part)| parse(offset, &part)).collect()
}

/// Texts between document markers, each with the number of lines before it.
fn parts(text: &str) -> Vec<(u64, String)> {
    let mut parts = vec![(0, String::new())];
    let mut may_be_directive = true;
    for (number, line) in (0..).zip(text.lines()) {
        let is_marker = |marker: &str| {
            line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
        };
        let (starts, content) = if is_marker("---") {
            (true, format!("   {}", &line[3..]))
        } else if is_marker("...") {
            (true, String::new())
        } else {
            (false, line.to_owned())
        };
        if starts {
            parts.push((number, String::new()));
            may_be_directive = is_marker("...");
        }
        if let Some((_, part)) = parts.last_mut() {
            // A directive such as %YAML stands before a document, never in it, and concerns nobody here.
            if !(may_be_directive && content.starts_with('%')) {
                part.push_str(&content);
            }
            part.push('\n');
        }
    }
    parts
}

fn parse(offset: u64, text: &str) -> Option<Result<Document, (Option<u64>, String)>> {
    let is_blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_blank) {
        return None;
    }
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    Some(match serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options) {
        Ok(node) => {
            let mut lines = HashMap::new();
            let first = node.referenced.line();
            let value = node.value.into_value("", offset, &mut lines);
            Ok(Document { value, lines, first_line: Some(offset + first) })
        }
        Err(error) => {
            let line = error.location().map(|location| offset + location.line());
            Err((line, format!("is not valid YAML: {}", error.to_string().lines().next().unwrap_or_default())))
        }
    })
}

/// A YAML value whose parts know where they stand.
enum Node {
    Scalar(Value),
    Sequence(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<Key>, Spanned<Node>)>),
}

impl Node {
    fn into_value(self, path: &str, offset: u64, lines: &mut HashMap<String, u64>) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::Sequence(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let path = format!("{path}[{index}]");
                    lines.insert(path.clone(), offset + item.referenced.line());
                    item.value.into_value(&path, offset, lines)
                })
                .collect(),
            Self::Mapping(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let name = key.value.0;
                    // Keys of labels and annotations contain dots; problems name them in brackets.
                    let path = if name.contains(['.', '/']) {
                        format!("{path}[{name}]")
                    } else if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    lines.insert(path.clone(), offset + key.referenced.line());
                    map.insert(name, value.value.into_value(&path, offset, lines));
                }
                Value::Object(map)
            }
        }
    }
}

/// A mapping's key as text: `1: x` is the key `1`, as for the API server.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // `75.0` is the integer 75 to the API server too; JSON has no NaN, so text must do.
        #[expect(clippy::cast_possible_truncation)]
        let whole = value as i64;
        #[expect(clippy::cast_precision_loss)]
        let is_whole = whole as f64 == value && whole.unsigned_abs() < 1 << 53;
        Ok(Node::Scalar(if is_whole {
            whole.into()
        } else {
            Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
        }))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value)))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_their_lines() {
        let text = "# head\n---\na:\n  b: 1\n  list:\n  - x: \"1\"\n    y.z/w: true\n---\n# nothing\n---\nc: [1\n---\nd: 75.0\ne: yes\nf: '05'\ng: ~\n";
        let documents = split(text);
        assert_eq!(documents.len(), 3);
        let first = documents[0].as_ref().expect("is valid");
        assert_eq!(first.value.to_string(), r#"{"a":{"b":1,"list":[{"x":"1","y.z/w":true}]}}"#);
        for (prefix, field, line) in [
            ("", "a.b", 4),
            ("", "a.list[0].x", 6),
            ("", "a.list[0][y.z/w]", 7),
            ("a", "list", 5),
            ("", "a.list[0].missing.deeper", 6),
            ("", "nothing", 3),
            ("", "", 3),
        ] {
            assert_eq!(first.line(prefix, field), Some(line), "{prefix} {field}");
        }
        let (line, message) = documents[1].as_ref().expect_err("is broken");
        assert!(line.is_some_and(|line| (11..=12).contains(&line)), "{line:?}");
        assert!(message.starts_with("is not valid YAML: "), "{message}");
        let last = documents[2].as_ref().expect("is valid");
        assert_eq!(last.value.to_string(), r#"{"d":75,"e":true,"f":"05","g":null}"#);
    }

    #[test]
    fn json_may_follow_json() {
        let values: Vec<String> =
            split("{\"a\": 1}\n{\"b\": 2}").into_iter().filter_map(|d| Some(d.ok()?.value.to_string())).collect();
        assert_eq!(values, [r#"{"a":1}"#, r#"{"b":2}"#]);
        let flow = split("{a: 1, b: [x]}");
        assert_eq!(flow[0].as_ref().ok().map(|d| d.value.to_string()).as_deref(), Some(r#"{"a":1,"b":["x"]}"#));
        assert!(split("").is_empty() && split("# only a comment\n").is_empty());
    }
}
