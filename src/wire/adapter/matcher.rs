//! Label matchers of PromQL, from selectors of Kubernetes.

use std::fmt;

use crate::wire::labels::{Selector, Test};

/// One label matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    pub(super) label: String,
    operator: &'static str,
    /// Alternatives of a regular expression if there are several.
    pub(super) values: Vec<String>,
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.label, self.operator, self.values.join("|"))
    }
}

impl Matcher {
    pub(super) fn equal(label: &str, value: &str) -> Self {
        Self { label: label.to_owned(), operator: "=", values: vec![value.to_owned()] }
    }

    /// Matches any of these values, of which there is at least one.
    pub(super) fn names(label: &str, names: &[&str]) -> Self {
        let operator = if names.len() > 1 { "=~" } else { "=" };
        Self { label: label.to_owned(), operator, values: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// Returns what a selector demands of the labels of series, ordered by label.
    ///
    /// # Errors
    /// Why PromQL cannot say it.
    pub fn of(selector: &Selector) -> Result<Vec<Self>, String> {
        let mut requirements: Vec<_> = selector.requirements.iter().collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        let matcher = |requirement: &&crate::wire::labels::Requirement| {
            let label = requirement.key.clone();
            if !is_label(&label) {
                return Err(format!("{label:?} is not the name of a label in Prometheus"));
            }
            let several = |values: &[String], one, more| {
                let mut values = values.to_vec();
                values.sort();
                (if values.len() > 1 { more } else { one }, values)
            };
            let (operator, values) = match &requirement.test {
                Test::Exists => ("!=", Vec::new()),
                Test::Absent => ("=", Vec::new()),
                Test::In(values) => several(values, "=", "=~"),
                Test::NotIn(values) => several(values, "!=", "!~"),
                Test::GreaterThan(_) | Test::LessThan(_) => {
                    return Err(format!("{label} is compared as a number, which Prometheus does not do with labels"));
                }
            };
            Ok(Self { label, operator, values })
        };
        requirements.iter().map(matcher).collect()
    }
}

/// Returns whether a text is the name of a label, as Prometheus takes one without quotes.
pub(super) fn is_label(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_promql_cannot_say_is_refused() {
        for (selector, words) in [("a>1", "compared as a number"), ("app.kubernetes.io/name=x", "name of a label")] {
            let refused = Matcher::of(&Selector::parse(selector).unwrap()).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
