//! Parses a command line by the table of flags: which flags were given, and with which values.

use std::collections::BTreeMap;
use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use super::flags::{Flag, Subcommand, Takes};

/// The arguments of one subcommand. Values come from the flag, else the environment, else the table's default.
pub(super) struct Typed<'a> {
    subcommand: &'static Subcommand,
    /// Flags besides those of the subcommand, which take precedence.
    more: &'static [Flag],
    env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) values: BTreeMap<&'static str, Vec<String>>,
    pub(super) operands: Vec<OsString>,
    pub(super) wants_help: bool,
}

impl<'a> Typed<'a> {
    /// Returns a command line without arguments, so that all values come from the environment or are defaults.
    pub(super) fn nothing(subcommand: &'static Subcommand, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { subcommand, more: &[], env, values: BTreeMap::new(), operands: Vec::new(), wants_help: false }
    }

    pub(super) fn read(
        subcommand: &'static Subcommand,
        parser: &mut Parser,
        env: &'a dyn Fn(&str) -> Option<String>,
        problems: &mut Vec<String>,
    ) -> Self {
        Self::nothing(subcommand, env).with(&[], parser, problems)
    }

    /// Reads with flags besides those of the subcommand.
    pub(super) fn with(mut self, more: &'static [Flag], parser: &mut Parser, problems: &mut Vec<String>) -> Self {
        self.more = more;
        let subcommand = self.subcommand;
        let mut typed = self;
        loop {
            let flag = match parser.next() {
                Ok(None) => return typed,
                Ok(Some(Arg::Short('h') | Arg::Long("help"))) => {
                    typed.wants_help = true;
                    return typed;
                }
                Ok(Some(Arg::Value(operand))) if subcommand.operand.is_some() => {
                    typed.operands.push(operand);
                    continue;
                }
                Ok(Some(argument)) => match typed.flags().find(|flag| flag.is(&argument)) {
                    Some(flag) => flag,
                    None => {
                        problems.push(format!("{}; see --help", argument.unexpected()));
                        continue;
                    }
                },
                Err(error) => {
                    problems.push(error.to_string());
                    continue;
                }
            };
            let value = match flag.takes {
                Takes::Nothing => Ok(String::new()),
                Takes::Truth => parser.optional_value().map_or(Ok("true".to_owned()), ValueExt::string),
                Takes::Value(_) | Takes::OneOf(_) => parser.value().and_then(ValueExt::string),
            };
            match (value, flag.takes) {
                (Ok(value), Takes::OneOf(known)) if !known.contains(&value.as_str()) => {
                    problems.push(format!("{}: \"{value}\" is none of {}", flag.shown(), known.join(", ")));
                }
                (Ok(value), _) => typed.values.entry(flag.long).or_default().push(value),
                (Err(error), _) => problems.push(format!("{}: {error}", flag.shown())),
            }
        }
    }

    /// Whether the subcommand has this flag at all.
    pub(super) fn subcommand_has(&self, long: &str) -> bool {
        self.subcommand.flags.iter().any(|flag| flag.long == long)
    }

    pub(super) fn is_set(&self, long: &str) -> bool {
        self.values.contains_key(long)
    }

    /// Returns the flag's last value on the command line.
    pub(super) fn flag(&self, long: &str) -> Option<&str> {
        self.values.get(long)?.last().map(String::as_str)
    }

    /// Returns the flag's values on the command line.
    pub(super) fn all(&self, long: &str) -> &[String] {
        self.values.get(long).map_or(&[], Vec::as_slice)
    }

    /// Returns the values of a repeatable flag, or else the comma-separated ones of its variable.
    pub(super) fn listed(&self, long: &str) -> Vec<String> {
        let flags = self.all(long).to_vec();
        let listed = self.variable(long).filter(|_| flags.is_empty()).unwrap_or_default();
        let listed = listed.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        flags.into_iter().chain(listed).collect()
    }

    /// Returns the value of the flag's environment variable; an empty variable counts as absent.
    pub(super) fn variable(&self, long: &str) -> Option<String> {
        (self.env)(self.declared(long)?.env?).filter(|value| !value.is_empty())
    }

    /// Returns the value from the flag or its variable.
    pub(super) fn given(&self, long: &str) -> Option<String> {
        self.flag(long).map(str::to_owned).or_else(|| self.variable(long))
    }

    /// Returns the value from the flag, its variable or the default; empty if it has none of them.
    pub(super) fn value(&self, long: &str) -> String {
        let default = || self.declared(long).and_then(|flag| flag.default).unwrap_or_default().to_owned();
        self.given(long).unwrap_or_else(default)
    }

    fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.subcommand.flags.iter().chain(self.more)
    }

    pub(super) fn declared(&self, long: &str) -> Option<&'static Flag> {
        let found = self.flags().find(|flag| flag.long == long);
        debug_assert!(found.is_some(), "--{long} is not declared");
        found
    }
}

impl Flag {
    pub(super) fn is(&self, argument: &Arg<'_>) -> bool {
        match argument {
            Arg::Long(long) => *long == self.long || Some(*long) == self.alias,
            Arg::Short(short) => Some(*short) == self.short,
            Arg::Value(_) => false,
        }
    }

    /// Returns the name that errors show.
    fn shown(&self) -> String {
        match self.short {
            Some(short) if self.alias.is_none() => format!("-{short}"),
            _ => format!("--{}", self.long),
        }
    }
}
