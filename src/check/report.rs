//! The result of `check`, and how it is printed.

use std::io::{self, Write};

use serde_json::{Value, json};

/// How a run ended; the larger outcome wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// There are only warnings, or no findings at all.
    Clean,
    /// Some object would not work.
    Problems,
    /// Some file could not be read, so its content is unknown.
    Unreadable,
}

impl Outcome {
    /// Returns the process's exit code.
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

/// A finding about one object, or about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub file: String,
    /// Line from 1; absent in JSON, and if neither the field nor an ancestor of it exists.
    pub line: Option<u64>,
    /// `Kind namespace/name`; empty for a file.
    pub object: String,
    /// JSON path; empty for a file or a whole object.
    pub field: String,
    pub message: String,
    pub fix: String,
    /// The faulty line of a multi-line text, and a mark below it on the next line; empty otherwise.
    pub excerpt: String,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct CheckReport {
    pub findings: Vec<Finding>,
    /// Number of ScaledObjects and authentications that were checked.
    pub objects: usize,
    /// Whether some file could not be read.
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

    /// Prints one finding per line and a last line of counts.
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

    /// Prints one line of JSON.
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

/// Formats as `file:line: Kind namespace/name: field: message (fix)`, with `warning: ` before a warning's message.
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
