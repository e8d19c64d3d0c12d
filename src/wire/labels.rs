//! Label selectors: the text form that API clients send, parsed and matched.
//!
//! Pure. Follows Kubernetes' own parser (apimachinery `labels/selector.go`) exactly, with its context-dependent `in`
//! and `notin`, because an HPA's selector that the two read differently would stop that HPA.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fmt;

/// All requirements must hold; an empty selector matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub test: Test,
}

/// What is required of a label. Negative tests succeed if the label is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    Exists,
    Absent,
    /// `=`, `==` and `in`; never empty.
    In(Vec<String>),
    /// `!=` and `notin`; never empty.
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

/// Why a selector is invalid, worded as by Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectorError {
    Unexpected { found: String, expected: &'static str },
    Key(String),
    Value(String),
    NoValues,
    NotANumber(String),
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text comes from the client: it may be long and contain control characters.
        let cut = |text: &str| text.escape_debug().take(80).collect::<String>();
        match self {
            SelectorError::Unexpected { found, expected } => {
                write!(f, "found '{}', expected: {expected}", cut(found))
            }
            SelectorError::Key(key) => write!(f, "\"{}\" is not a valid label key", cut(key)),
            SelectorError::Value(value) => {
                write!(f, "\"{}\" is not a valid label value", cut(value))
            }
            SelectorError::NoValues => f.write_str("for 'in', 'notin' operators, values set can't be empty"),
            SelectorError::NotANumber(value) => {
                write!(f, "for 'Gt', 'Lt' operators, the value must be an integer: \"{}\"", cut(value))
            }
        }
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    pub fn parse(text: &str) -> Result<Selector, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = Vec::new();
        if *parser.peek() == Token::End {
            return Ok(Selector { requirements });
        }
        loop {
            match parser.peek() {
                Token::Word(_) | Token::Symbol("!") => requirements.push(parser.requirement()?),
                other => return Err(other.unexpected("!, identifier, or 'end of string'")),
            }
            match parser.next() {
                Token::End => return Ok(Selector { requirements }),
                Token::Symbol(",") => {}
                other => return Err(other.unexpected("',' or 'end of string'")),
            }
        }
    }

    /// `label` returns a label's value.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.test.holds(label(&requirement.key)))
    }

    /// Returns the labels that the selector demands, by key, if it does nothing else: those of `matchLabels`.
    pub fn demanded(&self) -> Option<Vec<(&str, &str)>> {
        let demanded = self.requirements.iter().map(|requirement| match &requirement.test {
            Test::In(values) if values.len() == 1 => Some((requirement.key.as_str(), values[0].as_str())),
            _ => None,
        });
        let mut demanded: Vec<_> = demanded.collect::<Option<_>>()?;
        demanded.sort_unstable();
        Some(demanded)
    }

    /// Returns the value that a label must have, if the selector allows only one.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        self.requirements.iter().find_map(|requirement| match &requirement.test {
            Test::In(values) if requirement.key == key && values.len() == 1 => Some(values[0].as_str()),
            _ => None,
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Test::GreaterThan(limit) => number().is_some_and(|number| number > *limit),
            Test::LessThan(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Symbol(&'static str),
    End,
}

impl Token<'_> {
    fn unexpected(&self, expected: &'static str) -> SelectorError {
        let found = match self {
            Token::Word(word) => (*word).to_owned(),
            Token::Symbol(symbol) => (*symbol).to_owned(),
            Token::End => String::new(),
        };
        SelectorError::Unexpected { found, expected }
    }
}

/// Longer ones first, since the first match is taken.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

/// Splits a selector into tokens; the last one is the end.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let is_special = |c: char| "=!(),><".contains(c);
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest.find(|c| is_space(c) || is_special(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..end]));
            rest = &rest[end..];
        }
        rest = rest.trim_start_matches(is_space);
    }
    tokens.push(Token::End);
    tokens
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> &Token<'t> {
        &self.tokens[self.at]
    }

    /// Stays at the end.
    fn next(&mut self) -> Token<'t> {
        let token = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = *self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) if is_label_key(key) => key.to_owned(),
            Token::Word(key) => return Err(SelectorError::Key(key.to_owned())),
            other => return Err(other.unexpected("identifier")),
        };
        if absent {
            return Ok(Requirement { key, test: Test::Absent });
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(Requirement { key, test: Test::Exists });
        }
        let test = match self.next() {
            Token::Symbol("=" | "==") => Test::In(vec![self.value()?]),
            Token::Symbol("!=") => Test::NotIn(vec![self.value()?]),
            Token::Symbol(">") => Test::GreaterThan(self.number()?),
            Token::Symbol("<") => Test::LessThan(self.number()?),
            Token::Word("in") => Test::In(self.values()?),
            Token::Word("notin") => Test::NotIn(self.values()?),
            other => {
                return Err(other.unexpected("in, notin, =, ==, !=, gt, lt"));
            }
        };
        Ok(Requirement { key, test })
    }

    /// Reads one value, which may be empty.
    fn value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => label_value(value),
            other => Err(other.unexpected("identifier")),
        }
    }

    fn number(&mut self) -> Result<i64, SelectorError> {
        let value = self.value()?;
        value.parse().map_err(|_| SelectorError::NotANumber(value))
    }

    /// Reads values in parentheses; an empty one is between two commas, or a comma and a parenthesis.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(other.unexpected("'('")),
        }
        if *self.peek() == Token::Symbol(")") {
            return Err(SelectorError::NoValues);
        }
        let mut values = Vec::new();
        let add = |values: &mut Vec<String>, value: String| {
            if !values.contains(&value) {
                values.push(value);
            }
        };
        // Exactly the original's loop, which takes doubled commas in pairs: "(a,,)" is refused, "(a,,,)" is not.
        loop {
            match self.next() {
                Token::Word(value) => {
                    add(&mut values, label_value(value)?);
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(other.unexpected("',' or ')'")),
                    }
                }
                Token::Symbol(",") => {
                    if values.is_empty() {
                        add(&mut values, String::new());
                    }
                    match self.peek() {
                        Token::Symbol(")") => {
                            add(&mut values, String::new());
                            break;
                        }
                        Token::Symbol(",") => {
                            self.next();
                            add(&mut values, String::new());
                        }
                        _ => {}
                    }
                }
                other => return Err(other.unexpected("',', or identifier")),
            }
        }
        self.next();
        Ok(values)
    }
}

fn label_value(value: &str) -> Result<String, SelectorError> {
    if value.len() <= 63 && is_name(value) { Ok(value.to_owned()) } else { Err(SelectorError::Value(value.to_owned())) }
}

/// A name of at most 63 characters, with an optional DNS subdomain before a slash.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    name.len() <= 63 && is_name(name) && prefix.is_none_or(is_subdomain)
}

/// Letters and digits, with `-_.` only in between.
fn is_name(name: &str) -> bool {
    let is_end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn is_subdomain(prefix: &str) -> bool {
    let is_end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        is_end(bytes.first())
            && is_end(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    prefix.len() <= 253 && prefix.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of(values: &[&str]) -> Test {
        Test::In(values.iter().map(|v| (*v).to_owned()).collect())
    }

    fn none_of(values: &[&str]) -> Test {
        Test::NotIn(values.iter().map(|v| (*v).to_owned()).collect())
    }

    #[test]
    #[rustfmt::skip] // one case a line
    fn valid_selectors() {
        let cases: Vec<(&str, Vec<(&str, Test)>)> = vec![
            ("", vec![]),
            (" \t\r\n", vec![]),
            ("a=b", vec![("a", one_of(&["b"]))]),
            ("a==b", vec![("a", one_of(&["b"]))]),
            ("a!=b", vec![("a", none_of(&["b"]))]),
            (" a = b , c ", vec![("a", one_of(&["b"])), ("c", Test::Exists)]),
            ("!a", vec![("a", Test::Absent)]),
            ("! a", vec![("a", Test::Absent)]),
            ("a=", vec![("a", one_of(&[""]))]),
            ("a=,b", vec![("a", one_of(&[""])), ("b", Test::Exists)]),
            ("a!=", vec![("a", none_of(&[""]))]),
            ("a in (b,c)", vec![("a", one_of(&["b", "c"]))]),
            ("a in(b)", vec![("a", one_of(&["b"]))]),
            ("a notin ( b , c )", vec![("a", none_of(&["b", "c"]))]),
            ("a in (,)", vec![("a", one_of(&[""]))]),
            ("a in (,b)", vec![("a", one_of(&["", "b"]))]),
            ("a in (b,)", vec![("a", one_of(&["b", ""]))]),
            ("a in (b,,c)", vec![("a", one_of(&["b", "", "c"]))]),
            ("a in (b,,,)", vec![("a", one_of(&["b", ""]))]),
            ("a in (b,b)", vec![("a", one_of(&["b"]))]),
            ("in in (in)", vec![("in", one_of(&["in"]))]),
            ("notin notin (notin)", vec![("notin", none_of(&["notin"]))]),
            ("in", vec![("in", Test::Exists)]),
            ("in,notin", vec![("in", Test::Exists), ("notin", Test::Exists)]),
            ("a=in", vec![("a", one_of(&["in"]))]),
            ("a>1", vec![("a", Test::GreaterThan(1))]),
            ("a < 10", vec![("a", Test::LessThan(10))]),
            ("scaledobject.keda.sh/name=api", vec![("scaledobject.keda.sh/name", one_of(&["api"]))]),
            ("a=b,tier in (a,b),x,!y", vec![("a", one_of(&["b"])), ("tier", one_of(&["a", "b"])), ("x", Test::Exists), ("y", Test::Absent)]),
        ];
        for (text, expected) in cases {
            let parsed = Selector::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let found: Vec<_> = parsed.requirements.iter().map(|r| (r.key.as_str(), r.test.clone())).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn invalid_selectors() {
        let long = |length| "v".repeat(length);
        for text in [
            ",",
            "a,",
            ",a",
            "a,,b",
            "=",
            "=b",
            "!",
            "!!a",
            "!a=b",
            "a===(",
            "a===b",
            "a=b=c",
            "a b",
            "a=b c",
            "a in",
            "a in b",
            "a in (",
            "a in ()",
            "a in (b",
            "a in (b c)",
            "a in (=)",
            "a in (b))",
            "a notin ()",
            "a in [b]",
            "a>",
            "a>b",
            "a>1.5",
            "a><1",
            "(a)",
            "a)",
            "-a",
            "a-",
            "a=-b",
            "a=b-",
            "a/b/c",
            "/a",
            "a/",
            "A.b/c",
            "a_b/c",
            "a..b/c",
            "a=b/c",
            "ä=b",
            "a=ä",
            "a=b\0",
            "a;b",
            "a = ( b )",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
        assert!(Selector::parse(&format!("a={}", long(63))).is_ok());
        assert!(Selector::parse(&format!("a={}", long(64))).is_err());
        assert!(Selector::parse(&long(63)).is_ok());
        assert!(Selector::parse(&long(64)).is_err());
        assert!(Selector::parse(&format!("{}/a", long(253))).is_ok());
        assert!(Selector::parse(&format!("{}/a", long(254))).is_err());
        let error = Selector::parse(&format!("a={}", long(10_000))).unwrap_err();
        assert!(error.to_string().len() < 200);
        assert_eq!(Selector::parse("a===(").unwrap_err().to_string(), "found '=', expected: identifier");
    }

    #[test]
    fn matching() {
        let labels = [("a", "b"), ("n", "5"), ("e", "")];
        let get = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        for (text, expected) in [
            ("", true),
            ("a=b", true),
            ("a=c", false),
            ("x=b", false),
            ("a!=b", false),
            ("a!=c", true),
            ("x!=c", true),
            ("a in (c,b)", true),
            ("x in (b)", false),
            ("a notin (b)", false),
            ("x notin (b)", true),
            ("a", true),
            ("x", false),
            ("!a", false),
            ("!x", true),
            ("e=", true),
            ("x=", false),
            ("n>4", true),
            ("n>5", false),
            ("n<6", true),
            ("a>1", false),
            ("x<1", false),
            ("a=b,n>4,!x", true),
            ("a=b,x", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(get), expected, "{text:?}");
        }
        let selector = Selector::parse("x,a in (b),c in (d,e)").unwrap();
        assert_eq!(selector.required_value("a"), Some("b"));
        assert_eq!(selector.required_value("c"), None);
        assert_eq!(selector.required_value("x"), None);
    }
}
