//! `seriesQuery`: a series selector, to which the label that a series must have is added.

use super::super::fields::quoted;

/// A series selector of PromQL. Only its shape is known here; whether its matchers are valid says the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesQuery(String);

impl SeriesQuery {
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let text = text.trim();
        let is_name = |name: &str| {
            let mut chars = name.chars();
            chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
                && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
        };
        let is_selector = match text.split_once('{') {
            Some((name, rest)) => (name.trim().is_empty() || is_name(name.trim())) && closes(rest),
            None => is_name(text),
        };
        if is_selector {
            return Ok(Self(text.to_owned()));
        }
        let fix = "write for example http_requests_total{namespace!=\"\",pod!=\"\"}, without functions around it";
        Err((format!("{} is no series selector", quoted(text)), fix))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the selector of those of its series that have a label.
    #[must_use]
    pub fn with_label(&self, label: &str) -> String {
        let Some(open) = self.0.strip_suffix('}') else { return format!("{}{{{label}!=\"\"}}", self.0) };
        let open = open.trim_end();
        let separator = if open.ends_with(['{', ',']) { "" } else { "," };
        format!("{open}{separator}{label}!=\"\"}}")
    }
}

/// Returns whether the text behind an opening brace ends with the closing one, outside of quotes.
fn closes(rest: &str) -> bool {
    let mut quote = None;
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') => return chars.as_str().is_empty(),
            (None, '{') => return false,
            (Some('`'), '`') => quote = None,
            (Some(mark), '\\') if mark != '`' => drop(chars.next()),
            (Some(mark), c) if mark == c => quote = None,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_added_to_any_form() {
        for (text, expected) in [
            ("up", r#"up{pod!=""}"#),
            (" up{} \n", r#"up{pod!=""}"#),
            (r#"{a="b"}"#, r#"{a="b",pod!=""}"#),
            (r#"up{a="}",}"#, r#"up{a="}",pod!=""}"#),
            (r#"{a=~"\"}" }"#, r#"{a=~"\"}",pod!=""}"#),
            ("{a=~`\\`}", r#"{a=~`\`,pod!=""}"#),
        ] {
            assert_eq!(SeriesQuery::parse(text).unwrap().with_label("pod"), expected, "{text}");
        }
        for text in ["", "rate(up[1m])", "up[1m]", "{a=\"b\"} or up", "{a=\"b\"", "{{}}", "{a=\"}", "1up"] {
            assert!(SeriesQuery::parse(text).is_err(), "{text}");
        }
    }
}
