//! XML by dotted paths: names of elements, and indices from 0 where a name repeats.
//!
//! Only elements and attributes whose names are in the path are kept, so that a large text takes little memory. An
//! element without attributes and children is its text; others are objects with `-name` for each attribute, `#text` for
//! the text, and a list where a name repeats. Prefixes of names are dropped. Document types are refused, so no entity
//! can expand.

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde_json::{Map, Value};

use super::tree;

/// Maximum nesting of elements, since each takes a stack frame.
const DEPTH_MAX: usize = 64;

/// Upper bound on the elements and attributes kept, of up to a kilobyte each.
const KEPT_MAX: usize = 16_384;

const MALFORMED: &str = "it is not well-formed";

/// Where the path leads; `None` when nothing is there. Of a list or an object not everything is in it.
///
/// # Errors
/// What is wrong with it, the same for the same bytes. Quotes nothing of the text.
pub fn find(text: &str, path: &str) -> Result<Option<Value>, &'static str> {
    let names: Vec<&str> = path.split('.').collect();
    let document = parse(text, |name| names.contains(&name))?;
    Ok(tree::find(&document, path).cloned())
}

/// An element whose end has not come yet, or the document.
#[derive(Default)]
struct Element {
    /// `None` if nothing of it is kept.
    name: Option<String>,
    kept: Map<String, Value>,
    /// Elements and attributes in it, kept or not.
    members: usize,
    text: String,
}

/// Reads a document: an object with one member, its root element, and in it what has a name that is wanted.
fn parse(text: &str, is_wanted: impl Fn(&str) -> bool) -> Result<Value, &'static str> {
    let mut left = KEPT_MAX;
    let mut keeps = |name: &str| {
        let keeps = is_wanted(name);
        left = left.checked_sub(usize::from(keeps)).ok_or("it has too many elements of the names in valueLocation")?;
        Ok(keeps)
    };
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    // Around the root element only blanks may stand, so what is read there is read as text of the document.
    let mut open = vec![Element { name: Some(String::new()), ..Element::default() }];
    loop {
        let event = reader.read_event().map_err(|_| MALFORMED)?;
        let depth = open.len();
        let Some(within) = open.last_mut() else { return Err(MALFORMED) };
        match event {
            Event::Start(_) if depth > DEPTH_MAX => return Err("its elements are nested too deeply"),
            Event::Start(tag) => {
                within.members += 1;
                open.push(Element::start(&tag, &mut keeps)?);
            }
            Event::End(_) => {
                let element = open.pop().unwrap_or_default();
                open.last_mut().ok_or(MALFORMED)?.add(element);
            }
            Event::Text(text) => within.write(&text),
            Event::CData(text) => within.write(&text),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(|_| MALFORMED)? {
                Some(c) => within.write(c.encode_utf8(&mut [0; 4])),
                None => within.write(resolve_xml_entity(&reference).ok_or("an entity is unknown")?),
            },
            Event::DocType(_) => return Err("it has a document type, which is not read"),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Empty(_) => {}
            Event::Eof => break,
        }
    }
    match open.pop() {
        Some(document) if open.is_empty() && document.members == 1 && document.text.trim().is_empty() => {
            Ok(Value::Object(document.kept))
        }
        _ => Err(MALFORMED),
    }
}

impl Element {
    fn start(
        tag: &BytesStart<'_>,
        keeps: &mut impl FnMut(&str) -> Result<bool, &'static str>,
    ) -> Result<Self, &'static str> {
        let mut element = Self::default();
        let name = tag.local_name();
        if name.as_ref().is_empty() {
            return Err(MALFORMED);
        }
        if keeps(name.as_ref())? {
            element.name = Some(name.as_ref().to_owned());
        }
        // Looking for attributes of the same name would take the square of their number.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| MALFORMED)?;
            let name = format!("-{}", attribute.key.local_name().as_ref());
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| MALFORMED)?;
            element.members += 1;
            if element.name.is_some() && keeps(&name)? {
                element.kept.insert(name, Value::String(value.into_owned()));
            }
        }
        Ok(element)
    }

    fn write(&mut self, text: &str) {
        if self.name.is_some() {
            self.text.push_str(text);
        }
    }

    fn add(&mut self, mut child: Element) {
        let (Some(_), Some(name)) = (&self.name, child.name) else { return };
        let text = Value::String(child.text.trim().to_owned());
        let value = if child.members == 0 {
            text
        } else {
            if text != "" {
                child.kept.insert("#text".to_owned(), text);
            }
            Value::Object(child.kept)
        };
        match self.kept.get_mut(&name) {
            None => drop(self.kept.insert(name, value)),
            // An element itself is never a list.
            Some(Value::Array(elements)) => elements.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
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
            assert_eq!(parse(text, |_| true), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_documents_are_refused() {
        for (text, expected) in [
            ("", MALFORMED),
            ("1", MALFORMED),
            ("<a>", MALFORMED),
            ("<a></b>", MALFORMED),
            ("<a></a", MALFORMED),
            ("<a b></a>", MALFORMED),
            ("<a b=c></a>", MALFORMED),
            ("<>x</>", MALFORMED),
            ("<a>&nbsp;</a>", "an entity is unknown"),
            ("<a>&#xd800;</a>", MALFORMED),
            ("<a>& </a>", MALFORMED),
            ("<a/><b/>", MALFORMED),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "it has a document type, which is not read"),
        ] {
            assert_eq!(parse(text, |_| true), Err(expected), "{text}");
        }
        assert_eq!(parse(&"<a>".repeat(100_000), |_| true), Err("its elements are nested too deeply"));
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
