//! Reads a JSON object field by field and records what is wrong with each, while a derived deserializer would stop at
//! the first mistake.
//!
//! Owns paths and the wording of type errors; knows no kind of object. As for the API server, `null` counts as absent
//! throughout.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::mask;
use crate::scaling::model::{Problem, Step};

/// Something valid that is probably not what its author meant. For `check` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// JSON path from the object's root.
    pub field: String,
    pub message: String,
    /// What to write instead; empty if there is nothing to do.
    pub fix: String,
}

/// Everything found in one object, in the order of reading.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
    /// Multi-line fields with the line of the mistake and a mark below it. For `check` only.
    pub(crate) excerpts: Vec<(String, String)>,
}

impl Diagnostics {
    pub(crate) fn problem(
        &mut self,
        step: Step,
        field: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (message, fix) = (masked(message), masked(fix));
        self.problems.push(Problem { step, field: field.into(), message, fix });
    }

    pub(crate) fn warn(&mut self, field: impl Into<String>, message: impl Into<String>, fix: impl Into<String>) {
        self.warnings.push(Warning { field: field.into(), message: masked(message), fix: masked(fix) });
    }
}

/// Messages are stored, logged and emitted as Events, so a quoted value must not contain a password.
fn masked(text: impl Into<String>) -> String {
    let text = text.into();
    match mask::text(&text) {
        Cow::Owned(masked) => masked,
        Cow::Borrowed(_) => text,
    }
}

/// A JSON object with its path. An absent object reads like an empty one.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    /// The step to which type errors in it belong.
    step: Step,
}

impl<'a> Fields<'a> {
    /// Reads `value` as an object; anything else is a problem and then counts as absent.
    pub(crate) fn new(path: impl Into<String>, value: Option<&'a Value>, step: Step, report: &mut Diagnostics) -> Self {
        let path = path.into();
        let map = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                report.problem(step, &path, format!("must be an object, is {}", describe(other)), "");
                None
            }
        };
        Self { path, map, step }
    }

    pub(crate) fn is_present(&self) -> bool {
        self.map.is_some()
    }

    /// The path of this object.
    pub(crate) fn here(&self) -> &str {
        &self.path
    }

    /// The path of a field of this object.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn text(&self, name: &str, report: &mut Diagnostics) -> Option<&'a str> {
        let value = self.get(name)?;
        if value.as_str().is_none() {
            let fix = match value {
                Value::Object(_) | Value::Array(_) => String::new(),
                scalar => format!("write {name}: \"{}\"", scalar_text(scalar)),
            };
            report.problem(self.step, self.path(name), format!("must be a string, is {}", describe(value)), fix);
        }
        value.as_str()
    }

    /// Like [`Self::text`], but an empty string counts as absent. Does not trim.
    pub(crate) fn filled(&self, name: &str, report: &mut Diagnostics) -> Option<&'a str> {
        self.text(name, report).filter(|text| !text.is_empty())
    }

    /// Reads texts that must not be empty; an absent one is a problem.
    pub(crate) fn required<const N: usize>(&self, names: [&str; N], report: &mut Diagnostics) -> [Option<String>; N] {
        names.map(|name| {
            let text = self.filled(name, report);
            if text.is_none() && self.get(name).is_none_or(|value| value == "") && self.is_present() {
                report.problem(self.step, self.path(name), "is missing", format!("write {name}"));
            }
            text.map(str::to_owned)
        })
    }

    pub(crate) fn integer(&self, name: &str, range: RangeInclusive<i64>, report: &mut Diagnostics) -> Option<i64> {
        let value = self.get(name)?;
        let Some(number) = value.as_i64() else {
            let fix = match value.as_str() {
                Some(text) if text.parse::<i64>().is_ok() => {
                    format!("remove the quotes: {name}: {text}")
                }
                _ => format!("write a whole number from {}", bounds(&range)),
            };
            report.problem(self.step, self.path(name), format!("must be an integer, is {}", describe(value)), fix);
            return None;
        };
        if !range.contains(&number) {
            report.problem(
                self.step,
                self.path(name),
                format!("{number} is out of range"),
                format!("write a whole number from {}", bounds(&range)),
            );
            return None;
        }
        Some(number)
    }

    pub(crate) fn boolean(&self, name: &str, report: &mut Diagnostics) -> Option<bool> {
        let value = self.get(name)?;
        if value.as_bool().is_none() {
            report.problem(
                self.step,
                self.path(name),
                format!("must be true or false, is {}", describe(value)),
                format!("write {name}: true or {name}: false, without quotes"),
            );
        }
        value.as_bool()
    }

    pub(crate) fn child(&self, name: &str, report: &mut Diagnostics) -> Self {
        Self::new(self.path(name), self.get(name), self.step, report)
    }

    /// Like [`Self::child`], but with another step for its type errors.
    pub(crate) fn child_at(&self, name: &str, step: Step, report: &mut Diagnostics) -> Self {
        Self::new(self.path(name), self.get(name), step, report)
    }

    /// Reads the elements of a list of objects.
    pub(crate) fn objects(&self, name: &str, report: &mut Diagnostics) -> Vec<Self> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let Value::Array(items) = value else {
            report.problem(self.step, self.path(name), format!("must be a list, is {}", describe(value)), "");
            return Vec::new();
        };
        let path = self.path(name);
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let path = format!("{path}[{index}]");
                if item.is_null() {
                    report.problem(self.step, &path, "must be an object, is null", "");
                }
                Self::new(path, Some(item), self.step, report)
            })
            .collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.map.into_iter().flatten()
    }
}

fn bounds(range: &RangeInclusive<i64>) -> String {
    if *range.end() == i64::from(i32::MAX) {
        format!("{} up", range.start())
    } else {
        format!("{} to {}", range.start(), range.end())
    }
}

/// Describes a value in an error text: its type, and the value itself if it is short.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("the boolean {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {}", quoted(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Quotes a user's text, with secrets in addresses masked, and cut, since a field may contain a whole file.
pub(crate) fn quoted(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    // Masked before the cut, which could separate a password from the '@' after it.
    let text = &*mask::value(text);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// Returns a scalar as its author wrote it, as far as JSON preserves that.
pub(crate) fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn type_errors_become_problems_on_their_path() {
        let value = json!({"a": 1, "b": "x", "n": "7", "big": 9, "list": {}, "items": [1, null, {}], "nil": null});
        let mut report = Diagnostics::default();
        let fields = Fields::new("spec", Some(&value), Step::Target, &mut report);
        assert_eq!(fields.text("a", &mut report), None);
        assert_eq!(fields.integer("b", 0..=5, &mut report), None);
        assert_eq!(fields.integer("n", 0..=5, &mut report), None);
        assert_eq!(fields.integer("big", 0..=5, &mut report), None);
        assert_eq!(fields.boolean("b", &mut report), None);
        assert_eq!(fields.integer("nil", 0..=5, &mut report), None);
        assert!(fields.objects("list", &mut report).is_empty());
        assert_eq!(fields.objects("items", &mut report).len(), 3);
        let texts: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.a: must be a string, is the number 1 (write a: \"1\")",
                "spec.b: must be an integer, is the string \"x\" (write a whole number from 0 to 5)",
                "spec.n: must be an integer, is the string \"7\" (remove the quotes: n: 7)",
                "spec.big: 9 is out of range (write a whole number from 0 to 5)",
                "spec.b: must be true or false, is the string \"x\" (write b: true or b: false, without quotes)",
                "spec.list: must be a list, is an object",
                "spec.items[0]: must be an object, is the number 1",
                "spec.items[1]: must be an object, is null",
            ]
        );
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let text = "ä".repeat(100);
        assert_eq!(quoted(&text).chars().filter(|c| *c == 'ä').count(), 80);
    }
}
