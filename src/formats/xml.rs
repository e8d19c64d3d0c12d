//! XML by dotted paths: names of elements, and indices from 0 where a name repeats.
//!
//! Only elements and attributes whose names are in the path are kept, so that a large text takes little memory. An
//! element without attributes and children is its text; others are objects with `-name` for each attribute, `#text` for
//! the text, and a list where a name repeats. Prefixes of names are dropped. Document types are refused, so no entity
//! can expand.

use serde_json::{Map, Value};

use super::tree;

/// Maximum nesting of elements, since each takes a stack frame.
const DEPTH_MAX: usize = 64;

/// Upper bound on the elements and attributes kept, of up to a kilobyte each.
const KEPT_MAX: usize = 16_384;

/// Returns the value at the path; `None` if there is none. A list or an object may be incomplete.
///
/// # Errors
/// What is wrong with it, the same for the same bytes.
pub fn find(text: &str, path: &str) -> Result<Option<Value>, &'static str> {
    let names = path.split('.').collect();
    let document = parse(text, Some(names))?;
    Ok(tree::find(&document, path).cloned())
}

/// Parses a document into an object with the root element as its only member, keeping the given names or everything.
fn parse(text: &str, names: Option<Vec<&str>>) -> Result<Value, &'static str> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), names, kept: 0 };
    reader.skip_misc()?;
    let (name, root) = reader.element(0)?;
    reader.skip_misc()?;
    if !reader.rest.is_empty() {
        return Err("something follows its root element");
    }
    Ok(Value::Object(Map::from_iter(root.map(|root| (name.to_owned(), root)))))
}

struct Reader<'a> {
    rest: &'a str,
    /// The names to keep; `None` for everything.
    names: Option<Vec<&'a str>>,
    kept: usize,
}

/// The kept members of an element.
#[derive(Default)]
struct Members {
    kept: Map<String, Value>,
    /// Whether the element has members, kept or not.
    any: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, prefix: &str) -> bool {
        self.rest.strip_prefix(prefix).map(|rest| self.rest = rest).is_some()
    }

    fn until(&mut self, end: &str) -> Result<&'a str, &'static str> {
        let (before, after) = self.rest.split_once(end).ok_or("it ends too early")?;
        self.rest = after;
        Ok(before)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// Skips what may surround the root element.
    fn skip_misc(&mut self) -> Result<(), &'static str> {
        loop {
            self.skip_blanks();
            if self.take("<?") {
                self.until("?>")?;
            } else if self.take("<!--") {
                self.until("-->")?;
            } else if self.rest.starts_with("<!") {
                return Err("it has a document type, which is not read");
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<&'a str, &'static str> {
        let end = self.rest.find(|c: char| c.is_whitespace() || "<>/=\"'&".contains(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        let local = name.rsplit(':').next().unwrap_or(name);
        if local.is_empty() { Err("a name is missing") } else { Ok(local) }
    }

    /// Returns whether this name is kept, and counts it if so.
    fn keeps(&mut self, name: &str) -> Result<bool, &'static str> {
        let keeps = self.names.as_ref().is_none_or(|names| names.contains(&name));
        self.kept += usize::from(keeps);
        if self.kept > KEPT_MAX { Err("it has too many elements of the names in valueLocation") } else { Ok(keeps) }
    }

    /// Parses an element; returns its name, and its value if it is kept.
    fn element(&mut self, depth: usize) -> Result<(&'a str, Option<Value>), &'static str> {
        if depth >= DEPTH_MAX {
            return Err("its elements are nested too deeply");
        }
        if !self.take("<") {
            return Err("it does not begin with an element");
        }
        let name = self.name()?;
        let keeps = self.keeps(name)?;
        let mut members = Members::default();
        loop {
            self.skip_blanks();
            if self.take("/>") {
                return Ok((name, keeps.then(|| finish(members, ""))));
            }
            if self.take(">") {
                break;
            }
            let attribute = format!("-{}", self.name()?);
            members.any = true;
            self.skip_blanks();
            if !self.take("=") {
                return Err("an attribute has no value");
            }
            self.skip_blanks();
            let value = if self.take("\"") {
                self.until("\"")?
            } else if self.take("'") {
                self.until("'")?
            } else {
                return Err("an attribute's value is not quoted");
            };
            let mut text = String::new();
            unescape(value, &mut text)?;
            if keeps && self.keeps(&attribute)? {
                members.kept.insert(attribute, Value::String(text));
            }
        }
        let mut text = String::new();
        loop {
            let end = self.rest.find('<').ok_or("it ends too early")?;
            let (before, rest) = self.rest.split_at(end);
            unescape(before, &mut text)?;
            self.rest = rest;
            if self.take("</") {
                if self.name()? != name {
                    return Err("an end tag does not fit");
                }
                self.skip_blanks();
                if !self.take(">") {
                    return Err("an end tag does not end");
                }
                return Ok((name, keeps.then(|| finish(members, text.trim()))));
            } else if self.take("<!--") {
                self.until("-->")?;
            } else if self.take("<![CDATA[") {
                text.push_str(self.until("]]>")?);
            } else if self.take("<?") {
                self.until("?>")?;
            } else {
                let (child, value) = self.element(depth + 1)?;
                members.any = true;
                if let Some(value) = value.filter(|_| keeps) {
                    add(&mut members.kept, child.to_owned(), value);
                }
            }
        }
    }
}

fn finish(mut members: Members, text: &str) -> Value {
    if !members.any {
        return Value::String(text.to_owned());
    }
    if !text.is_empty() {
        members.kept.insert("#text".to_owned(), Value::String(text.to_owned()));
    }
    Value::Object(members.kept)
}

fn add(members: &mut Map<String, Value>, name: String, value: Value) {
    match members.get_mut(&name) {
        None => {
            members.insert(name, value);
        }
        // The value of a single element is never a list.
        Some(Value::Array(elements)) => elements.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

fn unescape(text: &str, out: &mut String) -> Result<(), &'static str> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, after) = after.split_once(';').ok_or("a '&' begins no entity")?;
        let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let c = match entity {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => match entity.strip_prefix('#') {
                Some(number) => match number.strip_prefix('x') {
                    Some(digits) => code(digits, 16),
                    None => code(number, 10),
                },
                None => None,
            },
        };
        out.push(c.ok_or("an entity is unknown")?);
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents() {
        for (text, expected) in [
            ("<a>1</a>", json!({"a": "1"})),
            ("\u{feff}<?xml version=\"1.0\"?>\n<!-- x -->\n<a/>\n<!-- y -->", json!({"a": ""})),
            (
                "<stats at='now' unit = \"b\"> <tasks>1</tasks><tasks>2</tasks><n:q>&lt;3&#x41;&#66;</n:q></stats>",
                json!({"stats": {"-at": "now", "-unit": "b", "tasks": ["1", "2"], "q": "<3AB"}}),
            ),
            ("<a b=\"&amp;\">x<!-- no -->y<![CDATA[<z>]]></a>", json!({"a": {"-b": "&", "#text": "xy<z>"}})),
            ("<a><b><c>1</c></b><b><c>2</c></b></a >", json!({"a": {"b": [{"c": "1"}, {"c": "2"}]}})),
        ] {
            assert_eq!(parse(text, None), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_documents_are_refused() {
        for (text, expected) in [
            ("", "it does not begin with an element"),
            ("1", "it does not begin with an element"),
            ("<a>", "it ends too early"),
            ("<a></b>", "an end tag does not fit"),
            ("<a></a", "an end tag does not end"),
            ("<a b></a>", "an attribute has no value"),
            ("<a b=c></a>", "an attribute's value is not quoted"),
            ("<>x</>", "a name is missing"),
            ("<a>&nbsp;</a>", "an entity is unknown"),
            ("<a>&#xd800;</a>", "an entity is unknown"),
            ("<a>& </a>", "a '&' begins no entity"),
            ("<a/><b/>", "something follows its root element"),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "it has a document type, which is not read"),
        ] {
            assert_eq!(parse(text, None), Err(expected), "{text}");
        }
        assert_eq!(parse(&"<a>".repeat(100_000), None), Err("its elements are nested too deeply"));
        let many = format!("<a>{}</a>", "<b><b/></b>".repeat(20_000));
        assert_eq!(find(&many, "a.b.3"), Err("it has too many elements of the names in valueLocation"));
        assert_eq!(find(&many, "a.c"), Ok(None));
    }

    #[test]
    fn what_is_found() {
        let text = "<s u='1' w='2'>x<t>1</t><t><t>2</t>7</t><n><m/>3</n><e/></s>";
        for (path, expected) in [
            ("s.-u", Some(json!("1"))),
            ("s.t.0", Some(json!("1"))),
            ("s.t.1.t", Some(json!("2"))),
            ("s.t.1.#text", Some(json!("7"))),
            ("s.#text", Some(json!("x"))),
            ("s.e", Some(json!(""))),
            // It has a member, although not a requested one.
            ("s.n", Some(json!({"#text": "3"}))),
            ("s.n.#text", Some(json!("3"))),
            ("s.-v", None),
            ("t", None),
            ("s.u", None),
        ] {
            assert_eq!(find(text, path), Ok(expected), "{path}");
        }
    }
}
