//! A trigger's metadata: texts, and functions that read each kind of value from them.
//!
//! As in KEDA, values are trimmed and an empty one counts as absent. Knows no parameter by name.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::fields::{Diagnostics, quoted};
use super::super::time::parse_go_duration;
use crate::scaling::model::{Step, TIMEOUT_MAX};
use crate::spelling::nearest;

/// Headers or parameters of one trigger; each is compared with all before it.
const PAIRS_MAX: usize = 100;

pub(crate) struct Parameters {
    path: String,
    values: BTreeMap<String, String>,
    /// Parameters whose values are lists or maps, which has been reported.
    broken: Vec<String>,
}

impl Parameters {
    pub(super) fn new(path: &str, values: BTreeMap<String, String>, broken: Vec<String>) -> Self {
        Self { path: path.to_owned(), values, broken }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.values.iter()
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    pub(super) fn problem(
        &self,
        name: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
        report: &mut Diagnostics,
    ) {
        report.problem(Step::BuildScalers, self.path(name), message, fix);
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    pub(super) fn required(&self, name: &str, fix: &str, report: &mut Diagnostics) -> Option<&str> {
        let value = self.get(name);
        if value.is_none() && !self.broken.iter().any(|broken| broken == name) {
            self.problem(name, format!("missing required parameter {name:?}"), fix, report);
        }
        value
    }

    /// Returns `Err` if a problem was reported.
    pub(super) fn number(&self, name: &str, report: &mut Diagnostics) -> Result<Option<f64>, ()> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let number = json_number(text);
        if number.is_none() {
            let fix = if text.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}']) {
                "write straight quotes, which are the only ones of YAML: \"75\""
            } else {
                "write a number such as \"75\" or \"0.5\""
            };
            self.problem(name, format!("{} is not a number", quoted(text)), fix, report);
        }
        number.map(Some).ok_or(())
    }

    pub(super) fn boolean(&self, name: &str, report: &mut Diagnostics) -> Result<Option<bool>, ()> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let flag = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        };
        if flag.is_none() {
            self.problem(name, format!("{} is not a boolean", quoted(text)), "write \"true\" or \"false\"", report);
        }
        flag.map(Some).ok_or(())
    }

    /// Reads one of several words. Returns `Err` if a problem was reported.
    pub(super) fn one_of<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
        report: &mut Diagnostics,
    ) -> Result<Option<T>, ()> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        if let Some((_, choice)) = choices.iter().find(|(known, _)| *known == text) {
            return Ok(Some(*choice));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let fix = nearest(text, &names).map_or_else(|| names.join(", "), str::to_owned);
        self.problem(name, format!("{} is no {name}", quoted(text)), format!("write {fix}"), report);
        Err(())
    }

    /// Reads a whole number of this range, without a sign. Returns `Err` if a problem was reported.
    pub(super) fn whole(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
        report: &mut Diagnostics,
    ) -> Result<Option<u32>, ()> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match text.parse::<u32>() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let fix = format!("write a whole number from {} to {}", range.start(), range.end());
                self.problem(name, format!("{} is no such number", quoted(text)), fix, report);
                Err(())
            }
        }
    }

    /// Reads a Go duration or a number of milliseconds, up to [`TIMEOUT_MAX`]. As in KEDA, zero means absent.
    pub(super) fn timeout(&self, name: &str, report: &mut Diagnostics) -> Result<Option<Duration>, ()> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let nanos = parse_go_duration(text).or_else(|| text.parse::<i64>().ok()?.checked_mul(1_000_000));
        let Some(nanos) = nanos else {
            let message = format!("{} is not a duration", quoted(text));
            self.problem(name, message, "write a duration such as \"5s\", or milliseconds such as \"5000\"", report);
            return Err(());
        };
        let Ok(nanos) = u64::try_from(nanos) else {
            self.problem(
                name,
                format!("{} is negative", quoted(text)),
                "write a duration above 0 such as \"5s\"",
                report,
            );
            return Err(());
        };
        // Such a short timeout is unlikely, and users often mean seconds.
        const SECONDS_MEANT_MAX: u64 = 120;
        if let Some(number) = text.parse::<u64>().ok().filter(|number| (1..=SECONDS_MEANT_MAX).contains(number)) {
            report.warn(
                self.path(name),
                format!("{} is {number} milliseconds, as any number without a unit", quoted(text)),
                format!("write \"{number}s\" for seconds, or \"{number}ms\""),
            );
        }
        let timeout = Duration::from_nanos(nanos);
        if timeout > TIMEOUT_MAX {
            let most = TIMEOUT_MAX.as_secs();
            let message = format!("{} is longer than the {most}s that a server is waited for at most", quoted(text));
            self.problem(name, message, format!("write at most \"{most}s\""), report);
            return Err(());
        }
        Ok((nanos > 0).then_some(timeout))
    }

    /// Reads `k=v,k2=v2`. A later value of the same key takes precedence.
    pub(super) fn pairs(&self, name: &str, report: &mut Diagnostics) -> Result<Vec<(String, String)>, ()> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        // Only keys are quoted, since headers are often passwords.
        for (number, item) in (1..).zip(self.get(name).into_iter().flat_map(|text| text.split(','))) {
            if number > PAIRS_MAX {
                let message = format!("has more than {PAIRS_MAX} pairs");
                self.problem(name, message, "write fewer", report);
                return Err(());
            }
            let parts: Vec<&str> = item.split('=').map(str::trim).collect();
            let [key, value] = parts[..] else {
                let message = format!("pair {number} is not of the form key=value");
                let fix = "write k=v,k2=v2; neither keys nor values can contain '=' or ','";
                self.problem(name, message, fix, report);
                return Err(());
            };
            if key.is_empty() {
                self.problem(name, format!("pair {number} has no key"), "write k=v,k2=v2", report);
                return Err(());
            }
            match pairs.iter_mut().find(|(known, _)| known == key) {
                Some((_, old)) => value.clone_into(old),
                None => pairs.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(pairs)
    }
}

/// Reads a finite number in JSON's syntax, as KEDA does here: no `+5`, `.5`, `05` or `5.`.
pub(crate) fn json_number(text: &str) -> Option<f64> {
    // Without this check a leading blank would be accepted.
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) || !text.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    serde_json::from_str::<f64>(text).ok().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(text: &str) -> Parameters {
        Parameters::new("m", BTreeMap::from([("p".to_owned(), text.to_owned())]), Vec::new())
    }

    #[test]
    fn numbers() {
        for (text, number) in [
            ("75", Some(75.0)),
            ("100.50", Some(100.5)),
            ("1e3", Some(1000.0)),
            ("1E+3", Some(1000.0)),
            ("-1", Some(-1.0)),
            ("0", Some(0.0)),
            ("+5", None),
            (".5", None),
            ("05", None),
            ("5.", None),
            ("null", None),
            ("abc", None),
            ("NaN", None),
            ("1e999", None),
            ("1 2", None),
            ("0x10", None),
            ("75 ", None),
        ] {
            assert_eq!(json_number(text), number, "{text:?}");
        }
    }

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("5s", Ok(Some(5_000))),
            ("1500", Ok(Some(1_500))),
            ("0.5m", Ok(Some(30_000))),
            ("30000", Ok(Some(30_000))),
            ("30001", Err(())),
            ("30.001s", Err(())),
            ("1m30s", Err(())),
            ("24h", Err(())),
            ("0", Ok(None)),
            ("0s", Ok(None)),
            ("", Ok(None)),
            ("-1", Err(())),
            ("-5s", Err(())),
            ("soon", Err(())),
            ("1.5", Err(())),
        ] {
            let read = parameters(text).timeout("p", &mut Diagnostics::default());
            assert_eq!(read.map(|t| t.map(|t| t.as_millis())), expected, "{text:?}");
        }
    }

    #[test]
    fn pairs() {
        for (text, expected) in [
            ("", Some("")),
            ("a=b", Some("a:b")),
            ("a=b, c = d", Some("a:b c:d")),
            ("a=b,a=c", Some("a:c")),
            ("a=", Some("a:")),
            ("a", None),
            ("a=b=c", None),
            ("=b", None),
            ("a=b,", None),
        ] {
            let read = parameters(text).pairs("p", &mut Diagnostics::default()).ok();
            let read = read.map(|pairs| pairs.iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>().join(" "));
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }
}
