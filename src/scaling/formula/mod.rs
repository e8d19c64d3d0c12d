//! Formulas of `advanced.scalingModifiers`: expressions over the values of named triggers.
//!
//! The language is the numerical part of expr-lang 1.17: integers and fractions, booleans, nil, arrays and the
//! functions over them, without strings, maps and dates. Compiling finds most mistakes, with their line and column.
//! Evaluation is bounded in work, memory and stack for any formula, since anybody who may write a ScaledObject may
//! write one.

mod builtin;
mod eval;
mod node;
mod operator;
mod parser;
mod token;
mod types;
mod value;

use std::fmt;

use super::quantity;
use parser::Tree;
use types::Type;
use value::Value;

/// Characters of a formula. A sum of a hundred triggers with long names has 7,000.
const LENGTH_MAX: usize = 10_000;

/// A compiled formula.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    text: String,
    names: Vec<String>,
    tree: Tree,
}

/// What is wrong with a formula, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// From 1, if the formula has several lines.
    pub line: Option<u32>,
    /// In characters of that line, from 1.
    pub column: u32,
    pub message: String,
}

impl Error {
    /// `column` counts over all lines until [`Self::located`].
    fn at(column: u32, message: impl Into<String>) -> Self {
        Self { line: None, column, message: message.into() }
    }

    /// Adds the line, and makes the column relative to it.
    fn located(mut self, text: &str) -> Self {
        if text.trim_end().contains('\n') {
            let mut line = 1;
            let mut column = 1;
            for c in text.chars().take(usize::try_from(self.column).unwrap_or(1).saturating_sub(1)) {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            (self.line, self.column) = (Some(line), column);
        }
        self
    }

    /// Returns the line of `text` with the error and, on the next line, a mark below the column.
    #[must_use]
    pub fn excerpt(&self, text: &str) -> Option<String> {
        const CHARACTERS_MAX: usize = 100;
        let number = usize::try_from(self.line.unwrap_or(1)).ok()?;
        let line: Vec<char> = text.lines().nth(number.saturating_sub(1))?.chars().collect();
        let at = usize::try_from(self.column).ok()?.saturating_sub(1).min(line.len());
        // Shows only the part of a long line around the error.
        let from = if line.len() <= CHARACTERS_MAX { 0 } else { at.saturating_sub(CHARACTERS_MAX / 2) };
        let shown = line.iter().skip(from).take(CHARACTERS_MAX).map(|c| if c.is_control() { ' ' } else { *c });
        Some(format!("{}\n{}^", shown.collect::<String>().trim_end(), " ".repeat(at - from)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("formula, ")?;
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        write!(f, "column {}: {}", self.column, self.message)
    }
}

impl std::error::Error for Error {}

impl Formula {
    /// Compiles `text` over variables called `names`, and evaluates it once with each of them at -1.
    ///
    /// # Errors
    /// Syntax errors, unknown names, values of the wrong type, a result that is not a number, too much work.
    pub fn compile(text: &str, names: &[String]) -> Result<Self, Error> {
        Self::compile_unlocated(text, names).map_err(|error| error.located(text))
    }

    fn compile_unlocated(text: &str, names: &[String]) -> Result<Self, Error> {
        if text.chars().count() > LENGTH_MAX {
            return Err(Error::at(1, format!("the formula is longer than {LENGTH_MAX} characters")));
        }
        let tree = parser::parse(text, names)?;
        let formula = Self { text: text.to_owned(), names: names.to_vec(), tree };
        let root = &formula.tree.nodes[formula.tree.root];
        match &root.of {
            Type::Any | Type::Int | Type::Float => {}
            other => return Err(Error::at(root.column, format!("the result must be a number, and is {other}"))),
        }
        // A division by zero may be due to the -1 alone.
        formula.run(&vec![Some(-1.0); names.len()])?;
        Ok(formula)
    }

    /// The text as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The variables, in the order of their values.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns whether the formula reads the variable at this position of [`Self::names`].
    #[must_use]
    pub fn uses(&self, position: usize) -> bool {
        self.tree.uses.iter().any(|(_, used)| *used == position)
    }

    /// Returns the value for these variables, where `None` is nil. It is finite, and nil only if the formula has `??`.
    ///
    /// # Errors
    /// A value that cannot be computed, or a result that is not a number.
    pub fn evaluate(&self, values: &[Option<f64>]) -> Result<Option<f64>, Error> {
        self.evaluate_unlocated(values).map_err(|error| error.located(&self.text))
    }

    fn evaluate_unlocated(&self, values: &[Option<f64>]) -> Result<Option<f64>, Error> {
        let column = self.tree.nodes[self.tree.root].column;
        match self.run(values)? {
            Some(number) if number.is_nan() => {
                Err(Error::at(column, "the result is not a number (NaN): is zero divided by zero?"))
            }
            Some(number) if number.is_infinite() => {
                let sign = if number > 0.0 { '+' } else { '-' };
                Err(Error::at(column, format!("the result is infinite ({sign}Inf): is something divided by zero?")))
            }
            other => Ok(other),
        }
    }

    /// Returns the formula with its variables' values and its result on one line: `(500 + 20) / 2 = 260`.
    #[must_use]
    pub fn with_numbers(&self, values: &[Option<f64>]) -> String {
        let mut text = String::new();
        let mut from = 0;
        for (span, position) in &self.tree.uses {
            text += &self.text[from..span.start];
            text += &values.get(*position).copied().flatten().map_or_else(|| "nil".to_owned(), written);
            from = span.end;
        }
        text += &self.text[from..];
        // Blanks only separate words.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let result = match self.evaluate(values) {
            Ok(Some(number)) => written(number),
            Ok(None) => "nil".to_owned(),
            Err(error) => return format!("{text} fails: {error}"),
        };
        format!("{text} = {result}")
    }

    /// Without `??` a result of nil is an error.
    fn keeps_nil(&self) -> bool {
        self.text.contains("??")
    }

    fn run(&self, values: &[Option<f64>]) -> Result<Option<f64>, Error> {
        let result = eval::evaluate(&self.tree, values)?;
        match (result.number(), result) {
            (Some(number), _) => Ok(Some(number)),
            (None, Value::Nil) if self.keeps_nil() => Ok(None),
            (None, other) => {
                let column = self.tree.nodes[self.tree.root].column;
                Err(Error::at(column, format!("the result must be a number, and is {other}")))
            }
        }
    }
}

/// Formats a number with at most three decimals, which is the precision of metrics.
fn written(number: f64) -> String {
    if number.abs() > quantity::VALUE_MAX {
        return format!("{number:e}");
    }
    let text = format!("{number:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Quotes a text, shortened to one line.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return format!("\"{text}\"");
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("\"{start}…\"")
}

#[cfg(test)]
mod tests;
