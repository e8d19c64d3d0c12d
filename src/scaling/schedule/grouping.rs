//! Finds queries that one query can answer: aggregations that differ only in the value of one label.
//!
//! `sum(rate(m{service="a"}[1m]))` and the same for `b` are asked as `sum by (service) (rate(m{service=~"a|b"}[1m]))`. A
//! group of that answer has exactly the series of the single query, since the functions below keep every label of a
//! series; a group that is absent had no series. A query that this module cannot parse is sent on its own.

use std::fmt::Write as _;
use std::ops::Range;

use super::fingerprint;

/// Upper bound on the members of a group. Prometheus looks up an alternation of up to 256 values one by one, instead of
/// matching a regular expression.
pub(super) const GROUP_MAX: usize = 100;

const OPERATORS: [&str; 5] = ["sum", "avg", "max", "min", "count"];
/// Functions from a range of one series to a number, which keep its labels.
const FUNCTIONS: [&str; 17] = [
    "rate",
    "irate",
    "increase",
    "delta",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
];
/// Upper bound on a query's equality matchers: any may be the one that differs, so each is an entry in the schedule.
const MATCHERS_MAX: usize = 4;
/// Upper bound on the bytes of a value: with [`GROUP_MAX`] of them a query stays below 30 KB.
const VALUE_MAX: usize = 256;

/// A query as a member of a group: a template, and the value of the equality matcher that differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member<'q> {
    query: &'q str,
    operator: &'q str,
    /// The range of `label="value"` in the query.
    matcher: Range<usize>,
    pub(super) label: &'q str,
    pub(super) value: &'q str,
}

impl<'q> Member<'q> {
    /// Returns one member for each equality matcher; none if the query cannot be grouped.
    pub(super) fn all(query: &'q str) -> Vec<Self> {
        Reader { query, at: 0 }.aggregation().unwrap_or_default()
    }

    /// Returns a hash that is equal for the members of one group.
    pub(super) fn family(&self) -> u64 {
        fingerprint(&self.template())
    }

    pub(super) fn template(&self) -> (&'q str, &'q str, &'q str) {
        (&self.query[..self.matcher.start], self.label, &self.query[self.matcher.end..])
    }

    /// Returns the query for all of these values, from this member's template.
    pub(super) fn grouped<'v>(&self, values: impl Iterator<Item = &'v str>) -> String {
        let inner = self.query.find('(').map_or(0, |at| at + 1);
        let (operator, label) = (self.operator, self.label);
        let mut text = format!("{operator} by ({label}) ({}{label}=~\"", &self.query[inner..self.matcher.start]);
        for (n, value) in values.enumerate() {
            if n > 0 {
                text.push('|');
            }
            for c in value.chars() {
                // Escaped for the regular expression, and again for the string literal that contains it.
                let escape = if r".+*?()|[]{}^$".contains(c) { r"\\" } else { "" };
                let _ = write!(text, "{escape}{c}");
            }
        }
        text.push('"');
        text.push_str(&self.query[self.matcher.end..]);
        text
    }
}

struct Reader<'q> {
    query: &'q str,
    at: usize,
}

impl<'q> Reader<'q> {
    fn rest(&self) -> &'q str {
        &self.query[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.query.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: char) -> Option<()> {
        self.blanks();
        self.rest().starts_with(token).then(|| self.at += token.len_utf8())
    }

    fn word(&mut self, may_have_colons: bool) -> Option<&'q str> {
        self.blanks();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (may_have_colons && c == ':');
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let is_word = !word.is_empty() && !word.starts_with(|c: char| c.is_ascii_digit());
        self.at += word.len();
        is_word.then_some(word)
    }

    /// Parses `sum(rate(m{…}[1m]))` or `sum(m{…})`.
    fn aggregation(mut self) -> Option<Vec<Member<'q>>> {
        let operator = self.word(false).filter(|word| OPERATORS.contains(word))?;
        self.take('(')?;
        let begin = self.at;
        let is_call = self.word(true).is_some_and(|word| FUNCTIONS.contains(&word)) && self.take('(').is_some();
        if !is_call {
            self.at = begin;
        }
        let members = self.selector(operator)?;
        if is_call {
            self.take('[')?;
            let rest = self.rest();
            let range = &rest[..rest.find(']')?];
            let is_range = !range.is_empty() && range.bytes().all(|c| c.is_ascii_digit() || b"smhdwy".contains(&c));
            self.at += range.len();
            is_range.then(|| self.take(']'))??;
            self.take(')')?;
        }
        self.take(')')?;
        self.blanks();
        self.rest().is_empty().then_some(members)
    }

    /// Parses `m{label="value",…}`, with or without a metric name.
    fn selector(&mut self, operator: &'q str) -> Option<Vec<Member<'q>>> {
        let mut members = Vec::new();
        self.blanks();
        if !self.rest().starts_with('{') {
            self.word(true)?;
        }
        self.take('{')?;
        while self.take('}').is_none() {
            self.blanks();
            let start = self.at;
            let label = self.word(false)?;
            self.blanks();
            let operation = ["=~", "!~", "!=", "="].into_iter().find(|op| self.rest().starts_with(op))?;
            self.at += operation.len();
            self.blanks();
            let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\''))?;
            self.at += 1;
            let value = &self.rest()[..self.rest().find(quote)?];
            if value.contains(['\\', '\n', '"']) {
                return None;
            }
            self.at += value.len() + 1;
            // An empty value matches series without the label, and functions drop the name.
            if operation == "=" && !value.is_empty() && value.len() <= VALUE_MAX && label != "__name__" {
                members.push(Member { query: self.query, operator, matcher: start..self.at, label, value });
            }
            if self.take(',').is_none() {
                self.take('}')?;
                break;
            }
        }
        let labels: Vec<&str> = members.iter().map(|member| member.label).collect();
        // With two matchers on one label, no group has both values.
        members.retain(|member| labels.iter().filter(|label| **label == member.label).count() == 1);
        (members.len() <= MATCHERS_MAX).then_some(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(queries: &[&str], label: &str) -> String {
        let members: Vec<Member<'_>> =
            queries.iter().map(|query| Member::all(query).into_iter().find(|m| m.label == label).unwrap()).collect();
        assert!(members.iter().all(|member| member.template() == members[0].template()));
        members[0].grouped(members.iter().map(|member| member.value))
    }

    #[test]
    fn queries_become_one() {
        for (queries, label, expected) in [
            (
                ["sum(rate(m{service=\"a\"}[1m]))", "sum(rate(m{service=\"b\"}[1m]))"],
                "service",
                "sum by (service) (rate(m{service=~\"a|b\"}[1m]))",
            ),
            (
                [" avg ( up{ job = 'x', a!=\"b\", } ) ", " avg ( up{ job = 'y', a!=\"b\", } ) "],
                "job",
                "avg by (job) ( up{ job=~\"x|y\", a!=\"b\", } ) ",
            ),
            (
                ["count({n=\"1\",k=\"a.b\"})", "count({n=\"1\",k=\"c|d\"})"],
                "k",
                r#"count by (k) ({n="1",k=~"a\\.b|c\\|d"})"#,
            ),
            (
                ["max(a:b:c{x=~\"y.*\",ns=\"1\"})", "max(a:b:c{x=~\"y.*\",ns=\"ü\"})"],
                "ns",
                "max by (ns) (a:b:c{x=~\"y.*\",ns=~\"1|ü\"})",
            ),
        ] {
            assert_eq!(grouped(&queries, label), expected);
        }
    }

    #[test]
    fn each_equality_may_be_the_one_that_differs() {
        let labels = |query| Member::all(query).into_iter().map(|member| member.label).collect::<Vec<_>>();
        assert_eq!(labels("sum(m{a=\"1\",b=\"2\",c=~\"3\",d!=\"4\",e=\"\"})"), ["a", "b"]);
        assert_eq!(labels("sum(m{a=\"1\",a=\"2\",b=\"3\"})"), ["b"]);
        assert_eq!(labels("sum(m{__name__=\"m\"})"), [""; 0]);
    }

    #[test]
    fn what_is_not_understood_is_asked_singly() {
        for query in [
            "up",
            "sum(up)",
            "sum by (a) (up{a=\"1\"})",
            "sum(up{a=\"1\"}) by (a)",
            "sum(up{a=\"1\"}) * 2",
            "sum(up{a=\"1\"} + up{a=\"1\"})",
            "sum(absent(up{a=\"1\"}))",
            "sum(absent_over_time(up{a=\"1\"}[1m]))",
            "sum(rate(up{a=\"1\"}[1m] offset 1m))",
            "sum(rate(up{a=\"1\"}[5m:1m]))",
            "sum(rate(up{a=\"1\"}[$__interval]))",
            "sum(up{a=\"1\"} @ 3)",
            "sum(up{a=\"\\\"\"})",
            "sum(up{a='\"'})",
            "sum(up{a=\"1\"} # comment\n)",
            "topk(1, up{a=\"1\"})",
            "quantile(0.9, up{a=\"1\"})",
            "histogram_quantile(0.9, sum(rate(b{a=\"1\"}[1m])))",
            "sum(up{a=\"1\" b=\"2\"})",
            "sum(up{a=\"1\"}",
            "sum(up{a=\"1",
            "sum(up{\"a\"=\"1\"})",
            "stddev(up{a=\"1\"})",
            "sum(up{a=\"1\"}))",
            "",
        ] {
            assert_eq!(Member::all(query), [], "{query}");
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(11);
        let parts = ["sum", "(", ")", "rate", "{", "}", "a", "=", "\"", "ü", "[", "1m", "]", ",", " ", "\\", "\n", "~"];
        for _ in 0..20_000 {
            let text: String = (0..random.usize(0..14)).map(|_| parts[random.usize(0..parts.len())]).collect();
            for member in Member::all(&text) {
                assert!(member.grouped(["x", "y"].into_iter()).contains("=~\"x|y\""), "{text}");
            }
        }
    }
}
