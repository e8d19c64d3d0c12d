//! What a run of `check` found, and how it is printed.

use std::io::{self, Write};

use serde_json::{Value, json};

/// How a run ended; the larger one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing but warnings.
    Clean,
    /// Some object would not work.
    Problems,
    /// Some file could not be read, so nothing is known about what is in it.
    Unreadable,
}

impl Outcome {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Problems => 1,
            Self::Unreadable => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing to report about one object, or about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub file: String,
    /// From 1; absent in JSON and where the field itself is absent and so is its object.
    pub line: Option<u64>,
    /// `Kind namespace/name`, empty for a file.
    pub object: String,
    /// JSON path, empty for a file or a whole object.
    pub field: String,
    pub message: String,
    pub fix: String,
    /// The line of a text of several lines that has the mistake, and a mark under it on the next; else empty.
    pub excerpt: String,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct CheckReport {
    pub findings: Vec<Finding>,
    /// ScaledObjects and authentications that were judged.
    pub objects: usize,
    /// Some file could not be read.
    pub(super) is_unreadable: bool,
}

impl CheckReport {
    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.is_unreadable {
            Outcome::Unreadable
        } else if self.count(Severity::Error) > 0 {
            Outcome::Problems
        } else {
            Outcome::Clean
        }
    }

    /// A finding a line and a last line of counts.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn print_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
            for line in finding.excerpt.lines() {
                writeln!(out, "    {line}")?;
            }
        }
        if self.objects == 0 && self.findings.is_empty() {
            writeln!(
                out,
                "nothing to check: no ScaledObject, TriggerAuthentication or ClusterTriggerAuthentication is there"
            )?;
        }
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        writeln!(out, "{} objects checked, {errors} errors, {warnings} warnings", self.objects)
    }

    /// One line of JSON.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "severity": finding.severity.name(),
                    "file": finding.file,
                    "line": finding.line,
                    "object": finding.object,
                    "field": finding.field,
                    "message": finding.message,
                    "fix": finding.fix,
                    "excerpt": finding.excerpt,
                })
            })
            .collect();
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let report = json!({"objects": self.objects, "errors": errors, "warnings": warnings, "findings": findings});
        writeln!(out, "{report}")
    }
}

impl Severity {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// `file:line: Kind namespace/name: field: message (fix)`, with `warning: ` before the message of one.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, " ({})", self.fix) }
    }
}
