//! JSON read in place: values are slices of the text, and no tree is built.
//!
//! A tree of a megabyte of `{"a":0}` takes a hundred megabytes, although only one number is wanted. [`Raw::parse`]
//! validates the whole text once, so that traversal may be simple; it is iterative, whatever the nesting.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// Maximum nesting of lists and objects, the same as in other JSON parsers.
const DEPTH_MAX: usize = 128;

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The text of one value, without surrounding blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

/// A value's type, with its value if it is a scalar.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind<'a> {
    Null,
    Bool(bool),
    /// Infinite if it is out of range.
    Number(f64),
    Text(Cow<'a, str>),
    /// A string with an unpaired surrogate, which is not valid text.
    Broken,
    List,
    Object,
}

impl<'a> Raw<'a> {
    /// Returns `None` if it is not JSON, or nested too deeply.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        if is_too_deep(body) {
            return None;
        }
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Some(Self(text.trim_matches(BLANKS)))
    }

    #[must_use]
    pub fn kind(self) -> Kind<'a> {
        match self.0.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b'"') => self.text().map_or(Kind::Broken, Kind::Text),
            Some(b't') => Kind::Bool(true),
            Some(b'f') => Kind::Bool(false),
            Some(b'n') | None => Kind::Null,
            // Every JSON number is also a valid number in Rust.
            Some(_) => Kind::Number(self.0.parse().unwrap_or(f64::INFINITY)),
        }
    }

    /// Returns the content of a string.
    #[must_use]
    pub fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inner))
    }

    #[cfg(test)]
    pub(super) fn show(self) -> &'a str {
        self.0
    }

    /// Returns the length of the text in bytes, which is the cost of skipping it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no value is empty")]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Returns the elements of a list.
    #[must_use]
    pub fn elements(self) -> Option<Parts<'a>> {
        self.0.starts_with('[').then_some(Parts { text: self.0, at: 1 })
    }

    /// Returns the members of an object: names and values alternate.
    #[must_use]
    pub fn members(self) -> Option<Parts<'a>> {
        self.0.starts_with('{').then_some(Parts { text: self.0, at: 1 })
    }
}

/// Iterates over the values in a list or an object.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = bytes.get(self.at) {
            self.at += 1;
        }
        if let None | Some(b']' | b'}') = bytes.get(self.at) {
            return None;
        }
        let (from, until) = (self.at, end(bytes, self.at));
        self.at = until;
        self.text.get(from..until).map(Raw)
    }
}

/// Returns the end of the value that begins at `at`, in text that is valid JSON.
fn end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(b'"') => end_of_string(bytes, at),
        Some(b'{' | b'[') => {
            let (mut at, mut depth) = (at, 0_usize);
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => {
                        at = end_of_string(bytes, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            at
        }
        _ => {
            let rest = bytes.get(at..).unwrap_or_default();
            let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
            at + rest.iter().position(ends).unwrap_or(rest.len())
        }
    }
}

/// Returns the end of a string; `at` is the position of its opening quote.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Works on any bytes, valid JSON or not.
fn is_too_deep(bytes: &[u8]) -> bool {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        let raw = Raw::parse(text.as_bytes()).unwrap();
        let parts = raw.elements().or_else(|| raw.members()).unwrap();
        parts.map(|part| part.0.to_owned()).collect()
    }

    #[test]
    fn parts_are_stretches_of_the_text() {
        for (text, expected) in [
            ("[]", vec![]),
            (" [ ] ", vec![]),
            ("{}", vec![]),
            ("[1,-2.5e3 , \"a,]\\\"\" ,null]", vec!["1", "-2.5e3", "\"a,]\\\"\"", "null"]),
            ("{\"a\" : [1,{\"b\":\"}\"}],\"ü\":true}", vec!["\"a\"", "[1,{\"b\":\"}\"}]", "\"ü\"", "true"]),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn kinds() {
        for (text, expected) in [
            ("null", Kind::Null),
            ("true", Kind::Bool(true)),
            ("false", Kind::Bool(false)),
            ("-1.5e2", Kind::Number(-150.0)),
            ("1e999", Kind::Number(f64::INFINITY)),
            ("\"a\\u0041\"", Kind::Text("aA".into())),
            ("\"\\ud800\"", Kind::Broken),
            ("[1]", Kind::List),
            ("{}", Kind::Object),
        ] {
            assert_eq!(Raw::parse(text.as_bytes()).unwrap().kind(), expected, "{text}");
        }
    }

    #[test]
    fn invalid_json_is_refused() {
        for text in ["", " ", "[", "[1,]", "{\"a\"}", "nul", "1 2", "\u{feff}1", "\"a", "{\"a\":1}}", "[1}"] {
            assert_eq!(Raw::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Raw::parse(b"\"\xff\""), None);
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Raw::parse(deep(DEPTH_MAX).as_bytes()).is_some());
        assert_eq!(Raw::parse(deep(DEPTH_MAX + 1).as_bytes()), None);
        assert_eq!(Raw::parse("[".repeat(1 << 20).as_bytes()), None);
    }

    /// Compares this traversal with a tree of the same bytes.
    #[test]
    fn traversal_agrees_with_a_tree() {
        fn rebuilt(raw: Raw<'_>) -> serde_json::Value {
            if let Some(elements) = raw.elements() {
                return elements.map(rebuilt).collect();
            }
            let Some(members) = raw.members() else { return serde_json::from_str(raw.0).unwrap() };
            let parts: Vec<_> = members.collect();
            parts.chunks(2).map(|pair| (pair[0].text().unwrap().into_owned(), rebuilt(pair[1]))).collect()
        }
        let pieces = ["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\\"]\"", "1", "-0.5", "null", " ", "\"\\\\\""];
        let mut random = fastrand::Rng::with_seed(3);
        let mut read = 0;
        for _ in 0..200_000 {
            let text: String = (0..random.usize(1..12)).map(|_| pieces[random.usize(0..pieces.len())]).collect();
            let tree: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            let raw = Raw::parse(text.as_bytes());
            assert_eq!(raw.map(rebuilt), tree, "{text}");
            read += usize::from(tree.is_some());
        }
        assert!(read > 1_000, "{read}");
    }
}
