//! Parses files into JSON values with line numbers: YAML of several documents, or JSON.
//!
//! Documents are split first and parsed one by one, so that a broken one does not hide the others.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

/// One document; empty and comment-only ones are skipped.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    /// JSON path to line, from 1; empty for JSON.
    lines: HashMap<String, u64>,
    /// Paths of keys that occur twice in their mapping, with the line of the later one, whose value counts.
    pub(super) duplicates: Vec<(String, u64)>,
    first_line: Option<u64>,
}

impl Document {
    /// Returns the line of a field of the object at `prefix`, or of its nearest existing ancestor.
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

/// A document that is not valid YAML.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) line: Option<u64>,
    pub(super) message: String,
    /// Whether it is a template that was not rendered, which explains the error.
    pub(super) is_template: bool,
}

/// Returns every document of a text, or what is wrong with it.
pub(super) fn split(text: &str) -> Vec<Result<Document, Unreadable>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with(['{', '[']) {
        // YAML may begin like this too; JSON is tried first because its types are unambiguous.
        if let Ok(values) = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>() {
            let document = |value| {
                let value = with_whole_numbers(value);
                Ok(Document { value, lines: HashMap::new(), duplicates: Vec::new(), first_line: None })
            };
            return values.into_iter().map(document).collect();
        }
    }
    parts(text).into_iter().filter_map(|(offset, part)| parse(offset, &part)).collect()
}

/// Returns the texts between document markers, each with the number of lines before it.
fn parts(text: &str) -> Vec<(u64, String)> {
    let mut parts = vec![(0, String::new())];
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
        }
        if let Some((_, part)) = parts.last_mut() {
            part.push_str(&content);
            part.push('\n');
        }
    }
    parts
}

fn parse(offset: u64, text: &str) -> Option<Result<Document, Unreadable>> {
    let is_blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_blank) {
        return None;
    }
    // Full YAML parsers accept directives, kubectl does not.
    if let Some(number) =
        (0..).zip(text.lines()).find(|(_, line)| !is_blank(line)).filter(|(_, line)| line.starts_with('%'))
    {
        let message = "is not valid YAML for kubectl: a text or directive cannot begin with %".to_owned();
        return Some(Err(Unreadable { line: Some(offset + number.0 + 1), message, is_template: false }));
    }
    let last = text.matches(['\n', '\r']).count() as u64;
    let mut places = Places { offset, last, lines: HashMap::new(), duplicates: Vec::new() };
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    // The same settings as kubectl's parser.
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.legacy_octal_numbers = true;
    options.non_finite_float_policy = NonFiniteFloatPolicy::AsString;
    Some(match serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options) {
        Ok(node) => {
            let first_line = Some(places.line(node.referenced));
            let value = node.value.into_value("", &mut places);
            let Places { lines, duplicates, .. } = places;
            Ok(Document { value, lines, duplicates, first_line })
        }
        Err(error) => {
            let line = error.location().map(|location| places.line(location));
            Err(Unreadable { line, message: message(&error, text), is_template: is_template(text) })
        }
    })
}

/// Returns whether the text contains actions of Go templates, as Helm charts do.
pub(super) fn is_template(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        rest = &rest[start + 2..];
        let line = rest.lines().next().unwrap_or_default();
        if let Some(end) = line.find("}}") {
            let action = line[..end].trim_matches(['-', ' ']);
            let word = action.split([' ', '(']).next().unwrap_or_default();
            let is_keyword = ["if", "else", "end", "range", "with", "include", "template", "define", "block", "toYaml"];
            if action.starts_with(['.', '$', '"', '/']) || is_keyword.contains(&word) || action.contains('|') {
                return true;
            }
        }
    }
    false
}

/// Returns what is wrong, in terms of YAML.
fn message(error: &serde_saphyr::Error, text: &str) -> String {
    let full = error.to_string();
    let first = full.lines().next().unwrap_or_default();
    let line = error.location().map_or(0, |location| usize::try_from(location.line()).unwrap_or(0));
    let at = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    // The parser reports an error at the end of its context; the visible mistake is usually nearer.
    let indented_by_tab = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        indent.contains('\t')
    };
    let lower = first.to_lowercase();
    let mentions = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let what = if text.contains('\0') {
        "it has bytes that no text has".to_owned()
    } else if indented_by_tab(at) {
        "lines must be indented with blanks, not with tabs".to_owned()
    } else if mentions(&["anchor"]) {
        "a * or & begins the name of an anchor: put the text into quotes".to_owned()
    } else if mentions(&["budget", "limit", "depth", "alias"]) {
        "it repeats itself, or is nested, beyond any manifest".to_owned()
    } else if mentions(&["escape"]) {
        "in double quotes a \\ begins an escape: write \\\\, or take single quotes".to_owned()
    } else if mentions(&["bracket", "flow", "illegal placement of ':'", "',' or", "expected ',"]) {
        "a [ or { is not closed, a ] or } is too many, or a comma is missing between two entries".to_owned()
    } else if mentions(&["unexpected character", "cannot start any token", "reserved"]) {
        "a text cannot begin with this character: put it into quotes".to_owned()
    } else if mentions(&["quoted scalar", "quote", "end of stream"]) {
        "a quote is not closed, or text follows the closing one (within single quotes, write '' for one)".to_owned()
    } else if mentions(&["mapping values are not allowed", "only valid inside a block"]) {
        "this line does not fit the ones above it: look at their indentation, and put texts with \": \" into quotes"
            .to_owned()
    } else if mentions(&["indent", "block", "simple key", "expected", "colon"]) {
        "this line does not fit the ones above it: look at their indentation, and for a missing \":\"".to_owned()
    } else if mentions(&["tag"]) {
        "a ! begins a tag: put the text into quotes".to_owned()
    } else if mentions(&["null into string"]) {
        "a \":\" has no key before it".to_owned()
    } else {
        plain(text)
    };
    format!("is not valid YAML: {what}")
}

/// Returns the parser's message without its hints for programmers.
fn plain(text: &str) -> String {
    let end = ["; set ", " (set ", "; use ", " Options", " DuplicateKeyPolicy", "; consider"]
        .iter()
        .filter_map(|words| text.find(words))
        .min()
        .unwrap_or(text.len());
    text[..end].trim_start_matches("error: ").trim_end().to_owned()
}

/// Converts floats like `75.0` to whole numbers, as kubectl does.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => number.as_f64().map_or(Value::Null, number_value),
        Value::Array(items) => items.into_iter().map(with_whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, with_whole_numbers(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

fn number_value(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation)]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss)]
    let is_whole = whole as f64 == value && whole.unsigned_abs() < 1 << 53;
    // JSON has no NaN, so it becomes a text.
    if is_whole {
        whole.into()
    } else {
        Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
    }
}

/// A YAML value whose parts know their position.
enum Node {
    Scalar(Value),
    Sequence(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<Key>, Spanned<Node>)>),
}

/// Positions, collected while walking the tree.
struct Places {
    offset: u64,
    /// Lines of the text. The parser places what ends with it on the line after the last.
    last: u64,
    lines: HashMap<String, u64>,
    duplicates: Vec<(String, u64)>,
}

impl Places {
    /// Returns the line in the file.
    fn line(&self, location: Location) -> u64 {
        self.offset + location.line().min(self.last)
    }
}

impl Node {
    fn into_value(self, path: &str, places: &mut Places) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::Sequence(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let path = format!("{path}[{index}]");
                    let line = places.line(item.referenced);
                    places.lines.insert(path.clone(), line);
                    item.value.into_value(&path, places)
                })
                .collect(),
            Self::Mapping(entries) => {
                let mut map = Map::new();
                let mut names = HashSet::new();
                for (key, value) in entries {
                    let name = key.value.0;
                    // Keys of labels and annotations contain dots, so paths put them in brackets.
                    let path = if name.contains(['.', '/']) {
                        format!("{path}[{name}]")
                    } else if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    let line = places.line(key.referenced);
                    places.lines.insert(path.clone(), line);
                    if !names.insert(name.clone()) {
                        places.duplicates.push((path.clone(), line));
                    }
                    // The last one wins, as in kubectl.
                    map.insert(name, value.value.into_value(&path, places));
                }
                Value::Object(map)
            }
        }
    }
}

/// A mapping's key as text: `1: x` has the key `1`, as in the API server.
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
        Ok(Node::Scalar(number_value(value)))
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
    fn fields_have_the_line_numbers_of_their_document() {
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
        let Unreadable { line, message, .. } = documents[1].as_ref().expect_err("is broken");
        assert!(line.is_some_and(|line| (11..=12).contains(&line)), "{line:?}");
        assert!(message.starts_with("is not valid YAML: "), "{message}");
        let last = documents[2].as_ref().expect("is valid");
        assert_eq!(last.value.to_string(), r#"{"d":75,"e":true,"f":"05","g":null}"#);
    }

    #[test]
    fn what_ends_with_the_text_is_on_its_last_line() {
        for (text, line) in [("? ", 1), ("---\n\r\u{feff}", 3), ("a: [\n", 1)] {
            let document = split(text).pop().expect("is not blank");
            let found = document.map_or_else(|error| error.line, |document| document.line("", ""));
            assert_eq!(found, Some(line), "{text:?}");
        }
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
