//! YAML by dotted paths: names of mappings, and list indices from 0.
//!
//! Values off the path are skipped while parsing, and no tree is built. Anchors, aliases and merge keys are refused,
//! because with them a few lines can expand to gigabytes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;

/// Maximum nesting of mappings and lists, since each takes some stack frames.
const DEPTH_MAX: usize = 64;

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not YAML.
    Format,
    /// It refers to parts of itself.
    References,
}

/// Returns the value at the path: a scalar, or an empty list or object in place of one with content. `None` if there is
/// none.
pub(crate) fn find(text: &str, path: &str) -> Result<Option<Value>, Fault> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_merge_keys: 0,
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_documents: 1,
        },
    };
    let path: Vec<&str> = path.split('.').collect();
    let found =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| Follow(&path).deserialize(yaml));
    found.map_err(|error| match error {
        serde_saphyr::Error::Budget {
            breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } | BudgetBreach::MergeKeys { .. },
            ..
        } => Fault::References,
        _ => Fault::Format,
    })
}

/// Returns a whole document, for files that an administrator wrote.
///
/// # Errors
/// Why it is not YAML, with the line.
pub(crate) fn tree(text: &str) -> Result<Value, String> {
    // The parser's own budget bounds what references can expand to.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| format!("is not YAML: {error}"))
}

struct Follow<'p>(&'p [&'p str]);

impl Follow<'_> {
    /// Returns the value if the path ends here; otherwise there is nothing at the path.
    fn here(&self, value: impl Into<Value>) -> Option<Value> {
        self.0.is_empty().then(|| value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, yaml: D) -> Result<Option<Value>, D::Error> {
        yaml.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(self.here(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Option<Value>, E> {
        Ok(self.here(Value::Null))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Option<Value>, E> {
        Ok(self.here(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Option<Value>, E> {
        Ok(self.here(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<Value>, E> {
        Ok(self.here(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Option<Value>, E> {
        Ok(self.here(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<Value>, E> {
        Ok(self.here(text))
    }

    fn visit_some<D: Deserializer<'de>>(self, yaml: D) -> Result<Option<Value>, D::Error> {
        self.deserialize(yaml)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Value>, A::Error> {
        let mut found = self.here(Vec::<Value>::new());
        let wanted = self.0.split_first().and_then(|(key, rest)| Some((key.parse::<usize>().ok()?, rest)));
        for at in 0.. {
            match wanted {
                Some((index, rest)) if index == at => match list.next_element_seed(Follow(rest))? {
                    Some(element) => found = element,
                    None => break,
                },
                _ if list.next_element::<IgnoredAny>()?.is_none() => break,
                _ => {}
            }
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Value>, A::Error> {
        let mut found = self.here(serde_json::Map::new());
        while let Some(name) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((key, rest)) if *key == name => found = map.next_value_seed(Follow(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let text = "a:\n  b:\n  - c: 1\n  - c: 2.5\n  -x: z\n  1: one\n  n: ~\n  t: true\nlist: [[3, 4], x]\n";
        for (path, expected) in [
            ("a.b.1.c", Some(json!(2.5))),
            ("a.-x", Some(json!("z"))),
            ("a.1", Some(json!("one"))),
            ("a.n", Some(json!(null))),
            ("a.t", Some(json!(true))),
            ("a.b", Some(json!([]))),
            ("a", Some(json!({}))),
            ("list.0.1", Some(json!(4))),
            ("list.1.0", None),
            ("a.b.2.c", None),
            ("a.b.c", None),
            ("a.-x.y", None),
            ("", None),
            ("a.", None),
        ] {
            assert_eq!(find(text, path), Ok(expected), "{path}");
        }
        assert_eq!(find("7", ""), Ok(None));
        assert_eq!(find("", "a"), Ok(None));
    }

    #[test]
    fn invalid_yaml_and_references_are_refused() {
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\nn: 1\n";
        for (text, expected) in [
            (bomb, Fault::References),
            ("n: 1\na: &a 2\n", Fault::References),
            ("n: 1\na: *b\n", Fault::Format),
            ("n: 1\nb: {<<: {c: 1}}\n", Fault::References),
            ("n: [", Fault::Format),
            ("n: 1\n---\nn: 2\n", Fault::Format),
            ("n: 1\nn: 2\n", Fault::Format),
        ] {
            assert_eq!(find(text, "n"), Err(expected), "{text}");
        }
        assert_eq!(find(&format!("n: {}", "[".repeat(1 << 20)), "n"), Err(Fault::Format));
        assert_eq!(find(&"- ".repeat(1 << 19), "0"), Err(Fault::Format));
    }
}
