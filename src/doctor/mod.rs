//! `hpalite doctor`: what is wrong with an installation, why, and how to fix it.
//!
//! Queries the API server, and metric servers with the queries of ScaledObjects; changes nothing. Every check is
//! reported with its findings, and a check that could not be made is reported too, so that silence never implies
//! health.

mod adapters;
mod annotated;
mod apiservice;
mod causes;
mod certificate;
mod database;
mod neighbours;
mod objects;
mod queries;
mod rights;
mod subject;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::encode::printable;
use crate::kube::{Client, ClusterConfig, Error, Kubeconfig, Request};

pub use subject::Subject;

/// The id of a finding that something could not be checked.
const NOT_CHECKED: &str = "not-checked";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Error,
}

/// One problem. `id` is stable, for scripts.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub severity: Severity,
    pub subject: String,
    pub cause: String,
    pub fix: String,
    /// The affected ScaledObjects as `namespace/name`, if it is about some.
    #[serde(skip)]
    about: Vec<String>,
}

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok,
    NotChecked,
    /// All its findings follow from what another check found.
    Follows,
    Warning,
    Error,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub check: &'static str,
    pub outcome: Outcome,
    /// How many of the findings belong to this check; findings are in the order of the checks.
    pub findings: usize,
    /// What it saw, where that is worth knowing though nothing is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Ids of the findings elsewhere that explain this check's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follows_from: Vec<&'static str>,
}

/// All checks and findings.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    pub checks: Vec<Check>,
    pub findings: Vec<Finding>,
}

/// Runs all checks.
///
/// # Errors
/// No usable configuration, or the API server does not answer.
pub fn examine(kubeconfig: Option<&Kubeconfig>, subject: &Subject) -> Result<Diagnosis, Vec<String>> {
    let config = ClusterConfig::of_person(kubeconfig).map_err(|error| error.problems)?;
    let own_namespace = config.namespace().map(str::to_owned);
    let client = Client::new(config);
    client.send(&Request::get_path("/version")).map_err(|error| {
        let is_stranger = matches!(&error, Error::Status(status) if status.code == 401);
        let fix = if is_stranger { "; its credentials are not, or no longer, valid" } else { "" };
        vec![format!("the API server: {error}{fix}")]
    })?;
    let is_pod = kubeconfig.is_none();
    let (notes, report) = Default::default();
    let mut doctor = Doctor { client, subject, own_namespace, is_pod, is_cut_off: false, notes, report };
    doctor.check("APIService", Doctor::apiservice);
    doctor.check("Service", Doctor::service);
    doctor.check("API server reaches hpalite", Doctor::reach);
    doctor.check("serving certificate", Doctor::certificate);
    doctor.check("CRDs", Doctor::crds);
    doctor.check("rights", Doctor::rights);
    doctor.check("KEDA and other installations", Doctor::neighbours);
    doctor.check("who answers which metrics", Doctor::who_answers);
    doctor.check("rules of prometheus-adapter", Doctor::rules);
    doctor.check("other adapters that are asked", Doctor::forward_targets);
    doctor.check("Lease", Doctor::lease);
    doctor.check("clocks", Doctor::clocks);
    doctor.check("objects that nobody runs", Doctor::unserved);
    doctor.check("ScaledObjects", Doctor::scaled_objects);
    doctor.check("paused namespaces", Doctor::namespaces);
    doctor.check("HPAs", Doctor::hpas);
    doctor.check("annotated HPAs", Doctor::annotated_hpas);
    doctor.check("metric servers and queries", Doctor::queries);
    doctor.check("database", Doctor::database);
    causes::reduce(&mut doctor.report);
    Ok(doctor.report)
}

impl Diagnosis {
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Prints a line for each check, and its findings below it.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut findings = self.findings.iter();
        for check in &self.checks {
            let outcome = match check.outcome {
                Outcome::Ok => "ok",
                Outcome::NotChecked => "not checked",
                Outcome::Follows => "follows",
                Outcome::Warning => "warning",
                Outcome::Error => "error",
            };
            writeln!(out, "{outcome:11}  {}", check.check)?;
            for note in &check.notes {
                writeln!(out, "             {}", printable(note))?;
            }
            if !check.follows_from.is_empty() {
                writeln!(out, "             follows from {}", check.follows_from.join(", "))?;
            }
            for finding in findings.by_ref().take(check.findings) {
                let (cause, fix) = (printable(&finding.cause), printable(&finding.fix));
                writeln!(out, "             {}: {}", finding.id, printable(&finding.subject))?;
                writeln!(out, "               cause: {cause}\n               fix:   {fix}")?;
            }
        }
        let count = |outcome| self.checks.iter().filter(|check| check.outcome == outcome).count();
        writeln!(
            out,
            "{} checks: {} ok, {} with errors, {} with warnings, {} that follow from these, {} not made",
            self.checks.len(),
            count(Outcome::Ok),
            count(Outcome::Error),
            count(Outcome::Warning),
            count(Outcome::Follows),
            count(Outcome::NotChecked)
        )
    }
}

/// Returns the outcome of a check with these findings.
fn outcome(found: &[Finding]) -> Outcome {
    match found.iter().map(|finding| finding.severity).max() {
        None => Outcome::Ok,
        Some(Severity::Error) => Outcome::Error,
        Some(Severity::Warning) if found.iter().all(|finding| finding.id == NOT_CHECKED) => Outcome::NotChecked,
        Some(Severity::Warning) => Outcome::Warning,
    }
}

struct Doctor<'a> {
    client: Client,
    subject: &'a Subject,
    own_namespace: Option<String>,
    /// Whether the credentials are those of the pod that this runs in.
    is_pod: bool,
    /// The API server stopped answering, which has been reported.
    is_cut_off: bool,
    /// Of the check that is being made.
    notes: Vec<String>,
    report: Diagnosis,
}

impl Doctor<'_> {
    fn check(&mut self, check: &'static str, make: impl FnOnce(&mut Self)) {
        let before = self.report.findings.len();
        let was_cut_off = self.is_cut_off;
        make(self);
        let found = &self.report.findings[before..];
        let outcome = match outcome(found) {
            // The check may have made no request, or might have found more.
            Outcome::Ok if was_cut_off => Outcome::NotChecked,
            outcome => outcome,
        };
        let findings = found.len();
        let notes = std::mem::take(&mut self.notes);
        self.report.checks.push(Check { check, outcome, findings, notes, follows_from: Vec::new() });
    }

    fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    fn error(&mut self, id: &'static str, subject: &str, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, id, subject, cause.into(), fix.into());
    }

    fn warn(&mut self, id: &'static str, subject: &str, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Warning, id, subject, cause.into(), fix.into());
    }

    fn add(&mut self, severity: Severity, id: &'static str, subject: &str, cause: String, fix: String) {
        self.report.findings.push(Finding { id, severity, subject: subject.to_owned(), cause, fix, about: Vec::new() });
    }

    /// Sets which ScaledObjects the last finding is about.
    fn is_about(&mut self, objects: Vec<String>) {
        if let Some(finding) = self.report.findings.last_mut() {
            finding.about = objects;
        }
    }

    /// Returns the object, `Null` if it does not exist, or `None` (and a finding) if it cannot be read.
    fn get(&mut self, path: &str) -> Option<Value> {
        if self.is_cut_off {
            return None;
        }
        match self.client.json(&Request::get_path(path)) {
            Ok(value) => Some(value),
            Err(error) if error.is_not_found() => Some(Value::Null),
            Err(error) => {
                self.not_checked(path, &error);
                None
            }
        }
    }

    fn not_checked(&mut self, path: &str, error: &Error) {
        let is_refused =
            matches!(error, Error::Status(_) | Error::Decode { .. } | Error::TooLarge { .. } | Error::Request(_));
        if is_refused {
            return self.skipped(path, &error.to_string(), "run it with --kubeconfig of an administrator");
        }
        // Every other check would report the same.
        if !std::mem::replace(&mut self.is_cut_off, true) {
            self.skipped("the API server", &format!("{path}: {error}"), "see that it runs, and run this again");
        }
    }

    fn skipped(&mut self, what: &str, cause: &str, fix: &str) {
        self.warn(NOT_CHECKED, what, cause, fix);
    }

    /// Uses a list, as the daemon does, because its rights allow no more.
    fn find_apiservice(&mut self) -> Option<Value> {
        let name = &self.subject.config.apiservice;
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices?fieldSelector=metadata.name%3D{name}");
        Some(self.get(&path)?.pointer_mut("/items/0").map_or(Value::Null, Value::take))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_printed_with_its_findings() {
        let finding = |id, severity| Finding {
            id,
            severity,
            subject: "Service a/b".to_owned(),
            cause: "it is gone".to_owned(),
            fix: "apply it".to_owned(),
            about: Vec::new(),
        };
        let check = |check, outcome, findings| Check {
            check,
            outcome,
            findings,
            notes: if check == "Lease" { vec!["held by a".to_owned()] } else { Vec::new() },
            follows_from: Vec::new(),
        };
        let report = Diagnosis {
            checks: vec![
                check("Lease", Outcome::Ok, 0),
                check("Service", Outcome::Error, 1),
                check("CRDs", Outcome::NotChecked, 1),
            ],
            findings: vec![finding("service-missing", Severity::Error), finding(NOT_CHECKED, Severity::Warning)],
        };
        let mut out = Vec::new();
        report.print(&mut out).expect("a vector takes it");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "ok           Lease",
                "             held by a",
                "error        Service",
                "             service-missing: Service a/b"
            ]
        );
        assert_eq!(lines[6], "not checked  CRDs");
        assert_eq!(lines[10], "3 checks: 1 ok, 1 with errors, 0 with warnings, 0 that follow from these, 1 not made");
        assert!(report.has_errors());
    }

    /// Regression: a message of a tenant's object could clear the terminal of whoever ran doctor.
    #[test]
    fn no_text_of_others_controls_the_terminal() {
        let text = |text: &str| format!("{text}\u{1b}[2J\r\n{text}");
        let (id, severity, about) = ("trigger-failing", Severity::Warning, Vec::new());
        let finding = Finding { id, severity, subject: text("s"), cause: text("c"), fix: text("f"), about };
        let (outcome, notes) = (Outcome::Warning, vec![text("n")]);
        let check = Check { check: "ScaledObjects", outcome, findings: 1, notes, follows_from: Vec::new() };
        let mut out = Vec::new();
        Diagnosis { checks: vec![check], findings: vec![finding] }.print(&mut out).expect("a vector takes it");
        let printed = String::from_utf8(out).expect("text");
        assert_eq!(printed.lines().count(), 6, "{printed}");
        assert!(printed.lines().all(|line| !line.contains(char::is_control)), "{printed:?}");
        for part in ["n [2J  n", "s [2J  s", "c [2J  c", "f [2J  f"] {
            assert!(printed.contains(part), "{printed}");
        }
    }
}
