//! The part of Go's templates that rules use: fields between `<<` and `>>`, and elements of two of them.

use std::collections::BTreeMap;

use super::super::fields::quoted;

/// Fields of `metricsQuery`.
pub(super) const QUERY: &[&str] = &[".Series", ".LabelMatchers", ".LabelValuesByName", ".GroupBy", ".GroupBySlice"];
/// Fields of `resources.template`.
pub(super) const LABEL: &[&str] = &[".Group", ".Resource"];

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(&'static str),
    /// An element of `.LabelValuesByName`.
    Value(String),
    /// An element of `.GroupBySlice`.
    Label(usize),
}

/// What a template shows.
#[derive(Debug, Default)]
pub(super) struct Data<'a> {
    pub(super) series: &'a str,
    pub(super) label_matchers: &'a str,
    pub(super) values: BTreeMap<&'a str, String>,
    pub(super) group_by: &'a [&'a str],
    pub(super) group: &'a str,
    pub(super) resource: &'a str,
}

impl Template {
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(super) fn parse(text: &str, known: &[&'static str]) -> Result<Self, (String, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trims = false;
        while let Some((before, after)) = rest.split_once("<<") {
            let (inner, after) =
                after.split_once(">>").ok_or_else(|| ("has << without >>".to_owned(), String::new()))?;
            let (inner, trims_before) = match inner.strip_prefix("- ") {
                Some(inner) => (inner, true),
                None => (inner, false),
            };
            let (inner, trims_after) = match inner.strip_suffix(" -") {
                Some(inner) => (inner, true),
                None => (inner, false),
            };
            let before = if trims { before.trim_start() } else { before };
            parts.push(Part::Text((if trims_before { before.trim_end() } else { before }).to_owned()));
            parts.extend(action(inner.trim(), known)?);
            (rest, trims) = (after, trims_after);
        }
        parts.push(Part::Text((if trims { rest.trim_start() } else { rest }).to_owned()));
        Ok(Self(parts))
    }

    pub(super) fn has_resource(&self) -> bool {
        self.0.contains(&Part::Field(".Resource"))
    }

    pub(super) fn render(&self, data: &Data<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(".Series") => out.push_str(data.series),
                Part::Field(".LabelMatchers") => out.push_str(data.label_matchers),
                Part::Field(".GroupBy") => out.push_str(&data.group_by.join(",")),
                // As Go prints a slice and a map.
                Part::Field(".GroupBySlice") => out.push_str(&format!("[{}]", data.group_by.join(" "))),
                Part::Field(".LabelValuesByName") => {
                    let pairs: Vec<String> = data.values.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                    out.push_str(&format!("map[{}]", pairs.join(" ")));
                }
                Part::Field(".Group") => out.push_str(data.group),
                Part::Field(".Resource") => out.push_str(data.resource),
                Part::Field(_) => {}
                Part::Value(name) => out.push_str(data.values.get(name.as_str()).map_or("", String::as_str)),
                Part::Label(at) => out.push_str(data.group_by.get(*at).copied().unwrap_or_default()),
            }
        }
        out
    }
}

/// Reads what is between the marks; a comment is nothing.
fn action(inner: &str, known: &[&'static str]) -> Result<Option<Part>, (String, String)> {
    if inner.starts_with("/*") && inner.ends_with("*/") {
        return Ok(None);
    }
    let is_query = known.contains(&".LabelValuesByName");
    if let Some(field) = known.iter().find(|field| **field == inner) {
        return Ok(Some(Part::Field(field)));
    }
    let words: Vec<&str> = inner.split_whitespace().collect();
    let element = match words[..] {
        ["index", ".LabelValuesByName", name] => {
            name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).map(|name| Part::Value(name.to_owned()))
        }
        ["index", ".GroupBySlice", at] => at.parse().ok().map(Part::Label),
        [word] => word.strip_prefix(".LabelValuesByName.").map(|name| Part::Value(name.to_owned())),
        _ => None,
    };
    if let Some(element) = element.filter(|_| is_query) {
        return Ok(Some(element));
    }
    let known = known.iter().map(|field| format!("<<{field}>>")).collect::<Vec<_>>().join(", ");
    let more = if is_query { ", <<index .LabelValuesByName \"LABEL\">>" } else { "" };
    Err((format!("{} is not known", quoted(&format!("<<{inner}>>"))), format!("known are {known}{more}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_elements_are_shown() {
        let data = Data {
            series: "s",
            label_matchers: "a=\"b\"",
            values: BTreeMap::from([("a", "b".to_owned()), ("pod", "x|y".to_owned())]),
            group_by: &["pod", "container"],
            ..Data::default()
        };
        for (text, expected) in [
            ("<<.Series>>{<<.LabelMatchers>>} by (<<.GroupBy>>)", "s{a=\"b\"} by (pod,container)"),
            ("<< .GroupBySlice >> <<index .GroupBySlice 1>>", "[pod container] container"),
            ("<<.LabelValuesByName>> <<.LabelValuesByName.pod>>", "map[a:b pod:x|y] x|y"),
            ("<<index .LabelValuesByName \"a\">>-<<index .LabelValuesByName \"z\">>", "b-"),
            ("a  <<- .Series ->>  b<</* nothing */>>", "asb"),
            ("no field", "no field"),
        ] {
            assert_eq!(Template::parse(text, QUERY).unwrap().render(&data), expected, "{text}");
        }
        for text in ["<<.Resource>>", "<<if .Series>>", "<<.Series | len>>", "<<index .GroupBySlice x>>", "<<>>"] {
            assert!(Template::parse(text, QUERY).is_err(), "{text}");
        }
    }
}
