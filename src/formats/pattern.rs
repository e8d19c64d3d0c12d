//! Regular expressions in Go's syntax, by which the rules of prometheus-adapter name metrics.
//!
//! Every match takes time linear in the text. What Go knows beside this (Unicode classes, `\Q`) is refused.

use regex_lite::{Regex, RegexBuilder};

/// Upper bound on the bytes of a compiled expression: repetitions multiply, so a short text can ask for gigabytes.
const SIZE_MAX: usize = 256 << 10;
/// Nesting of groups, each of which takes some stack.
const DEPTH_MAX: u32 = 50;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// # Errors
    /// What is wrong with the expression, or not known here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut builder = RegexBuilder::new(text);
        let built = builder.size_limit(SIZE_MAX).nest_limit(DEPTH_MAX).build();
        built.map(Self).map_err(|error| format!("is no regular expression: {error}"))
    }

    /// The number of groups, without the whole match.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.0.captures_len() - 1
    }

    /// Returns whether the expression matches anywhere in the text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// Returns a template with `$1`, `${1}`, `$name` and `${name}` replaced by what the groups of the first match hold,
    /// or `None` if there is no match. As in Go, without braces the longest name counts, so that `$1_total` is the group
    /// `1_total`, and a group that does not exist is empty.
    #[must_use]
    pub fn expand(&self, template: &str, text: &str) -> Option<String> {
        let mut out = String::new();
        self.0.captures(text)?.expand(template, &mut out);
        Some(out)
    }

    /// Returns the first group that a template names and the expression does not have.
    #[must_use]
    pub fn missing_group<'t>(&self, template: &'t str) -> Option<&'t str> {
        let has = |name: &str| match name.parse::<usize>() {
            Ok(number) => number < self.0.captures_len(),
            Err(_) => self.0.capture_names().flatten().any(|known| known == name),
        };
        groups_of(template).into_iter().find(|name| !has(name))
    }
}

/// Returns the groups that a template names.
fn groups_of(template: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some((_, after)) = rest.split_once('$') {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let plain = after.len() - after.trim_start_matches(is_name).len();
        rest = match braced {
            Some((name, rest)) if !name.is_empty() => {
                found.push(name);
                rest
            }
            _ if plain > 0 => {
                found.push(&after[..plain]);
                &after[plain..]
            }
            _ => after.strip_prefix('$').unwrap_or(after),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_by_go() {
        for (pattern, template, text, expected) in [
            ("^(.*)_total$", "$1", "http_requests_total", Some("http_requests")),
            ("^(.*?)_total", "$1", "a_total_total_x", Some("a")),
            (
                "^container_(.*)_seconds_total$",
                "${1}_rate",
                "container_cpu_usage_seconds_total",
                Some("cpu_usage_rate"),
            ),
            ("_total$", "$0", "http_requests", None),
            ("a|ab", "$0", "ab", Some("a")),
            ("(?P<x>[a-c]+)-(?<y>[^-]*)", "$y.$x", "abc-d", Some("d.abc")),
            ("(?i)HTTP_[A-B]", "$0", "http_b", Some("http_b")),
            (r"\d+\.\w", "$0", "v12.a", Some("12.a")),
            ("a.c", "$0", "a\nc", None),
            ("^(?P<name>.*)_(total|sum)$", "${name}_$2", "http_total", Some("http_total")),
            ("^(.*)_total$", "$1_per_second", "http_total", Some("")),
            ("^(.*)_total$", "$3x$", "http_total", Some("$")),
            ("^(.*)_total$", "$$1", "http_total", Some("$1")),
            (".*", "fixed", "x", Some("fixed")),
        ] {
            let found = Pattern::parse(pattern).unwrap().expand(template, text);
            assert_eq!(found.as_deref(), expected, "{pattern} {template} {text}");
        }
    }

    #[test]
    fn groups_that_are_missing_are_named() {
        let pattern = Pattern::parse("^(?P<name>.*)_(total|sum)$").unwrap();
        assert_eq!(pattern.groups(), 2);
        for (template, missing) in [
            ("$1_per_second", Some("1_per_second")),
            ("${1}_$name$2", None),
            ("$3", Some("3")),
            ("$$3", None),
            ("${other}", Some("other")),
            ("$", None),
        ] {
            assert_eq!(pattern.missing_group(template), missing, "{template}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for pattern in ["(", ")", "[a", "*a", r"\pL", r"a\", "[z-a]", "(?=a)", "a{3,2}", "(?P<a>x)(?P<a>y)"] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.starts_with("is no regular expression: "), "{pattern}: {error}");
        }
        assert!(Pattern::parse("((a{1000}){1000})").is_err() && Pattern::parse(&"(".repeat(60)).is_err());
    }

    #[test]
    fn a_hostile_expression_takes_linear_time() {
        let pattern = Pattern::parse("^(a?){500}(a*)*(a|a)*$").unwrap();
        assert!(pattern.matches(&"a".repeat(2_000)) && !pattern.matches(&format!("{}b", "a".repeat(2_000))));
    }
}
