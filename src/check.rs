//! `hpalite check FILE…`: what the daemon would say about manifests, said before they are applied.
//!
//! Reads files and prints; the judgement is the same code that the daemon reads objects with, so the
//! two cannot disagree. Asks no cluster: what only a cluster knows is at most a warning.

mod across;
mod document;
mod report;
mod workload;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use self::across::Across;
use self::document::Document;

pub use self::report::{CheckReport, Finding, Outcome, Severity};
use crate::scaling::model::{ApiGroup, AuthenticationKind, Problem};
use crate::wire::{Warning, authentication, scaled_object};

/// Checks `files` and prints to `out`: lines for people, or with `json` one JSON object. The exit
/// code tells how it ended, see [`Outcome`].
pub fn run(files: &[PathBuf], out: &mut dyn Write, json: bool) -> ExitCode {
    let report = files_report(files);
    // A reader that went away, as `head` does, has seen enough; the verdict stands.
    let printed = if json { report.print_json(out) } else { report.print_text(out) };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(Outcome::Unreadable.code()),
        _ => ExitCode::from(report.outcome().code()),
    }
}

/// The same without printing; `-` is the standard input.
#[must_use]
pub fn files_report(files: &[PathBuf]) -> CheckReport {
    let mut check = Check::default();
    for path in files {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => check.file(&name, &text),
            Err(error) => check.unreadable(&name, None, format!("cannot be read: {error}")),
        }
    }
    check.finish()
}

fn read(path: &Path) -> io::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(path)
}

/// A run over texts that are already in memory.
#[derive(Default)]
pub struct Check {
    report: CheckReport,
    across: Across,
}

impl Check {
    /// Judges the objects of one file; others than ours are passed over, but for workloads that ours depend on.
    pub fn file(&mut self, name: &str, text: &str) {
        for parsed in document::split(text) {
            match parsed {
                Ok(document) => self.document(name, document),
                Err((line, message)) => self.unreadable(name, line, message),
            }
        }
    }

    /// Adds what only several objects together show, and gives all findings.
    #[must_use]
    pub fn finish(mut self) -> CheckReport {
        self.report.findings.extend(self.across.finish());
        self.report
    }

    fn unreadable(&mut self, file: &str, line: Option<u64>, message: String) {
        self.report.is_unreadable = true;
        self.report.findings.push(Finding {
            severity: Severity::Error,
            file: file.to_owned(),
            line,
            object: String::new(),
            field: String::new(),
            message,
            fix: String::new(),
        });
    }

    fn document(&mut self, file: &str, document: Document) {
        for (prefix, object) in items(&document.value) {
            let Some((group, kind)) = ours(object) else {
                workload::read(object).into_iter().for_each(|workload| self.across.workload(workload));
                continue;
            };
            self.report.objects += 1;
            let place = Place { file, document: &document, prefix, kind, object };
            match kind {
                "ScaledObject" => self.scaled_object(group, &place),
                "TriggerAuthentication" => {
                    self.authentication(group, AuthenticationKind::TriggerAuthentication, &place);
                }
                _ => self.authentication(group, AuthenticationKind::ClusterTriggerAuthentication, &place),
            }
        }
    }

    fn scaled_object(&mut self, group: ApiGroup, place: &Place<'_>) {
        let reading = match scaled_object::from_value(group, place.in_a_namespace()) {
            Ok(reading) => reading,
            Err(error) => {
                return self.report.findings.push(place.finding(Severity::Error, "", &error.to_string(), ""));
            }
        };
        if let Err(invalid) = &reading.object.definition {
            self.add(place, &invalid.problems, &[]);
        }
        if let Some(Err(text)) = &reading.object.pause.replicas {
            let field = "metadata.annotations[autoscaling.keda.sh/paused-replicas]";
            let message = format!("{text:?} is not a number of replicas; the object stays paused and not ready");
            let fix = "write a whole number such as \"3\", or remove the annotation";
            self.report.findings.push(place.finding(Severity::Error, field, &message, fix));
        }
        self.add(place, &[], &reading.warnings);
        self.across.scaled_object(&reading.object, |field| place.finding(Severity::Error, field, "", ""));
    }

    fn authentication(&mut self, group: ApiGroup, kind: AuthenticationKind, place: &Place<'_>) {
        match authentication::from_value(group, kind, place.in_a_namespace()) {
            Ok(reading) => {
                self.add(place, &reading.problems, &reading.warnings);
                self.across.authentication(reading.authentication.key);
            }
            Err(error) => self.report.findings.push(place.finding(Severity::Error, "", &error.to_string(), "")),
        }
    }

    fn add(&mut self, place: &Place<'_>, problems: &[Problem], warnings: &[Warning]) {
        let errors = problems.iter().map(|p| place.finding(Severity::Error, &p.field, &p.message, &p.fix));
        let warnings = warnings.iter().map(|w| place.finding(Severity::Warning, &w.field, &w.message, &w.fix));
        self.report.findings.extend(errors.chain(warnings));
    }
}

/// Where an object stands.
struct Place<'a> {
    file: &'a str,
    document: &'a Document,
    /// JSON path of the object within its document, empty for the document itself.
    prefix: String,
    kind: &'static str,
    object: &'a Value,
}

impl Place<'_> {
    /// The object with the namespace that `kubectl apply` would take when none is written.
    fn in_a_namespace(&self) -> Value {
        let mut object = self.object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            let namespace = metadata.entry("namespace").or_insert(Value::Null);
            if namespace.is_null() && self.kind != "ClusterTriggerAuthentication" {
                *namespace = json!("default");
            }
        }
        object
    }

    fn finding(&self, severity: Severity, field: &str, message: &str, fix: &str) -> Finding {
        let text = |name: &str| self.object.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
        let name = text("name").unwrap_or("(no name)");
        let object = if self.kind == "ClusterTriggerAuthentication" {
            format!("{} {name}", self.kind)
        } else {
            format!("{} {}/{name}", self.kind, text("namespace").unwrap_or("default"))
        };
        Finding {
            severity,
            file: self.file.to_owned(),
            line: self.document.line(&self.prefix, field),
            object,
            field: field.to_owned(),
            message: message.to_owned(),
            fix: fix.to_owned(),
        }
    }
}

/// The objects of a document: itself, or the items of a List of any depth.
fn items(value: &Value) -> Vec<(String, &Value)> {
    fn collect<'a>(prefix: String, value: &'a Value, depth: usize, found: &mut Vec<(String, &'a Value)>) {
        let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        match value.get("items").and_then(Value::as_array) {
            // Lists of lists are legal and pointless; deeper ones are somebody's joke.
            Some(items) if is_list && depth < 4 => {
                for (index, item) in items.iter().enumerate() {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    collect(format!("{prefix}{dot}items[{index}]"), item, depth + 1, found);
                }
            }
            _ => found.push((prefix, value)),
        }
    }
    let mut found = Vec::new();
    collect(String::new(), value, 0, &mut found);
    found
}

fn ours(object: &Value) -> Option<(ApiGroup, &'static str)> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let group = match text("apiVersion")? {
        "keda.sh/v1alpha1" => ApiGroup::KedaSh,
        "keda.k8s.io/v1alpha1" => ApiGroup::KedaK8sIo,
        _ => return None,
    };
    let kinds = ["ScaledObject", "TriggerAuthentication", "ClusterTriggerAuthentication"];
    let kind = kinds.into_iter().find(|kind| Some(*kind) == text("kind"))?;
    (group == ApiGroup::KedaSh || kind != "ClusterTriggerAuthentication").then_some((group, kind))
}
