//! Splits a formula into tokens, with the column at which each begins.

use std::ops::Range;

use super::Error;

/// One token. `column` counts characters from 1, `span` bytes from 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) column: u32,
    pub(super) span: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Int(i64),
    Float(f64),
    Name(String),
    /// An operator, a bracket or one of [`WORDS`].
    Symbol(&'static str),
    End,
}

/// Words that are operators.
const WORDS: [&str; 7] = ["not", "in", "and", "or", "let", "if", "else"];

/// Longer ones first, since the first match is taken.
const SYMBOLS: [&str; 32] = [
    "**", "==", "!=", "<=", ">=", "&&", "||", "??", "..", ".", "+", "-", "*", "/", "%", "^", "!", "<", ">", "=", "?",
    ":", ";", ",", "|", "#", "(", ")", "[", "]", "{", "}",
];

/// Splits a formula into tokens; the last one is the end.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer { text, at: 0, column: 1 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let (start, column) = (lexer.at, lexer.column);
        let kind = lexer.token()?;
        let is_end = kind == TokenKind::End;
        tokens.push(Token { kind, column, span: start..lexer.at });
        if is_end {
            return Ok(tokens);
        }
    }
}

pub(super) fn is_name_character(c: char) -> bool {
    c == '_' || c == '$' || c.is_alphanumeric()
}

/// Returns true if a formula can refer to a trigger by this name.
pub(super) fn is_name(text: &str) -> bool {
    let starts_well = text.chars().next().is_some_and(|first| is_name_character(first) && !first.is_numeric());
    let is_constant = matches!(text, "true" | "false" | "nil");
    starts_well && text.chars().all(is_name_character) && !WORDS.contains(&text) && !is_constant
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    column: u32,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        self.column += 1;
        Some(next)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
        &self.text[start..self.at]
    }

    /// Skips blanks and comments.
    fn skip_blanks(&mut self) -> Result<(), Error> {
        loop {
            self.take_while(char::is_whitespace);
            if self.rest().starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                let column = self.column;
                let Some(length) = self.rest().find("*/") else {
                    return Err(Error::at(column, "this comment has no end, write */"));
                };
                let end = self.at + length + 2;
                while self.at < end {
                    self.next();
                }
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<TokenKind, Error> {
        let column = self.column;
        let Some(first) = self.peek() else {
            return Ok(TokenKind::End);
        };
        let is_fraction =
            self.rest().strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if first.is_ascii_digit() || is_fraction {
            return self.number();
        }
        if is_name_character(first) {
            let word = self.take_while(is_name_character);
            let symbol = WORDS.iter().find(|known| **known == word);
            return Ok(symbol.map_or_else(|| TokenKind::Name(word.to_owned()), |symbol| TokenKind::Symbol(symbol)));
        }
        if matches!(first, '"' | '\'' | '`') {
            return Err(Error::at(column, "text is not supported in formulas, which are about numbers"));
        }
        let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) else {
            return Err(Error::at(column, format!("unexpected character {first:?}")));
        };
        for _ in symbol.chars() {
            self.next();
        }
        Ok(TokenKind::Symbol(symbol))
    }

    fn number(&mut self) -> Result<TokenKind, Error> {
        let (start, column) = (self.at, self.column);
        let radix = match self.rest().get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        if radix != 10 {
            self.next();
            self.next();
            let digits = self.take_while(is_name_character).replace('_', "");
            return i64::from_str_radix(&digits, radix).map(TokenKind::Int).map_err(|_| self.bad_number(start, column));
        }
        let mut is_float = false;
        self.take_while(|c| c.is_ascii_digit() || c == '_');
        // `1..3` is a range, not a fraction.
        if self.rest().starts_with('.') && !self.rest().starts_with("..") {
            is_float = true;
            self.next();
            self.take_while(|c| c.is_ascii_digit() || c == '_');
        }
        if self.peek().is_some_and(|c| matches!(c, 'e' | 'E')) {
            is_float = true;
            self.next();
            if self.peek().is_some_and(|c| matches!(c, '+' | '-')) {
                self.next();
            }
            self.take_while(|c| c.is_ascii_digit() || c == '_');
        }
        let digits = self.text[start..self.at].replace('_', "");
        if self.peek().is_some_and(is_name_character) {
            self.next();
            return Err(self.bad_number(start, column));
        }
        if is_float {
            let number = digits.parse::<f64>().ok().filter(|number| number.is_finite());
            return number.map(TokenKind::Float).ok_or_else(|| self.bad_number(start, column));
        }
        digits.parse().map(TokenKind::Int).map_err(|_| self.bad_number(start, column))
    }

    fn bad_number(&self, start: usize, column: u32) -> Error {
        Error::at(column, format!("{} is not a number", super::shown(&self.text[start..self.at])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn words_and_their_columns() {
        let found: Vec<_> = tokens("ä+1 // x\n/* y\n*/ ??b").unwrap();
        let columns: Vec<_> = found.iter().map(|token| (token.column, token.span.clone())).collect();
        assert_eq!(columns, [(1, 0..2), (2, 2..3), (3, 3..4), (18, 18..20), (20, 20..21), (21, 21..21)]);
        assert_eq!(found[4].kind, TokenKind::Name("b".to_owned()));
    }

    #[test]
    fn numbers_in_all_their_forms() {
        use TokenKind::{Float, Int, Symbol};
        for (text, expected) in [
            ("1_000", Int(1000)),
            ("08", Int(8)),
            ("0x1F", Int(31)),
            ("0b11", Int(3)),
            ("0O17", Int(15)),
            ("1.5", Float(1.5)),
            (".5", Float(0.5)),
            ("1.", Float(1.0)),
            ("1.e3", Float(1000.0)),
            ("1e-3", Float(0.001)),
        ] {
            assert_eq!(kinds(text), [expected, TokenKind::End], "{text}");
        }
        assert_eq!(kinds("1..3"), [Int(1), Symbol(".."), Int(3), TokenKind::End]);
        for text in ["1a", "0b12", "0x", "1e", "1e+", "9223372036854775808", "1e999"] {
            let error = tokens(text).unwrap_err();
            assert!(error.to_string().ends_with("is not a number"), "{text}: {error}");
        }
    }

    #[test]
    fn what_can_be_named() {
        for name in ["a", "_x", "$1", "trig_one", "größe", "sum"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1a", "a-b", "in", "not", "nil", "true", "a b"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
