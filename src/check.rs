//! `hpalite check FILE…`: checks manifests before they are applied, with the daemon's own messages.
//!
//! Reads files and prints. Uses the same two checks as a cluster, so that the results cannot differ: the code with
//! which the daemon reads objects, and the CRDs with which the API server validates them. Asks no cluster: what only a
//! cluster can show is at most a warning.

mod across;
mod document;
mod kinds;
mod metadata;
mod report;
mod rules;
mod schema;
mod workload;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use self::across::Across;
use self::document::Document;
use self::kinds::{Known, Mistake};
use self::schema::{Crd, Fault, Violation};

pub use self::report::{CheckReport, Finding, Outcome, Severity};
use crate::scaling::model::{ApiGroup, AuthenticationKind, Problem};
use crate::wire::hpa::annotated;
use crate::wire::{Servers, Warning, adapter, authentication, scaled_object};

/// Checks `files` and prints to `out`: lines for people, or with `json` one JSON object. Returns the exit code of the
/// [`Outcome`].
pub fn run(files: &[PathBuf], servers: &Servers, out: &mut dyn Write, json: bool) -> ExitCode {
    let report = files_report(files, servers);
    // A reader that closes the pipe, as `head` does, does not change the result.
    let printed = if json { report.print_json(out) } else { report.print_text(out) };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(Outcome::Unreadable.code()),
        _ => ExitCode::from(report.outcome().code()),
    }
}

/// Does the same without printing; `-` is the standard input.
#[must_use]
pub fn files_report(files: &[PathBuf], servers: &Servers) -> CheckReport {
    let mut check = Check::with(servers.clone());
    for path in files {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => check.file(&name, &text),
            Err(error) => check.unreadable(&name, None, format!("cannot be read: {error}"), ""),
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

/// Returns the objects of a text of YAML or JSON, as [`run`] reads them.
///
/// # Errors
/// What is wrong with the first document that cannot be read, with its line.
pub fn objects(text: &str) -> Result<Vec<Value>, String> {
    let mut found = Vec::new();
    for parsed in document::split(text) {
        let document = parsed.map_err(|broken| {
            let line = broken.line.map_or(String::new(), |line| format!("line {line}: "));
            format!("{line}{}", broken.message)
        })?;
        found.extend(items(&document.value).into_iter().map(|(_, object)| object.clone()));
    }
    Ok(found)
}

/// A check of texts that are already in memory.
#[derive(Default)]
pub struct Check {
    report: CheckReport,
    across: Across,
    servers: Servers,
}

impl Check {
    /// Returns a check for a cluster whose hpalite names these servers.
    #[must_use]
    pub fn with(servers: Servers) -> Self {
        Self { servers, ..Self::default() }
    }

    /// Checks the objects of one file; other kinds are skipped, except workloads that ours depend on.
    pub fn file(&mut self, name: &str, text: &str) {
        let mut has_template = false;
        for parsed in document::split(text) {
            match parsed {
                Ok(document) => self.document(name, document),
                Err(broken) if broken.is_template => {
                    // One message covers all parts of a chart.
                    if !has_template {
                        let message = "is a template, not a manifest".to_owned();
                        self.unreadable(name, broken.line, message, TEMPLATE_FIX);
                    }
                    has_template = true;
                }
                Err(broken) => self.unreadable(name, broken.line, broken.message, ""),
            }
        }
    }

    /// Adds what only several objects together show, and returns all findings.
    #[must_use]
    pub fn finish(mut self) -> CheckReport {
        self.report.findings.extend(self.across.finish());
        self.report
    }

    fn unreadable(&mut self, file: &str, line: Option<u64>, message: String, fix: &str) {
        self.report.is_unreadable = true;
        self.report.findings.push(Finding {
            severity: Severity::Error,
            file: file.to_owned(),
            line,
            object: String::new(),
            field: String::new(),
            message,
            fix: fix.to_owned(),
            excerpt: String::new(),
        });
    }

    fn document(&mut self, file: &str, document: Document) {
        for (prefix, object) in items(&document.value) {
            let place = Place { file, document: &document, prefix, object };
            if self.rules(&place) {
                continue;
            }
            match kinds::of(object) {
                Known::Ours(crd) => {
                    self.report.objects += 1;
                    self.duplicates(&place);
                    self.ours(crd, &place);
                }
                Known::NotRun(mistake) => self.mistake(&place, Severity::Error, &mistake),
                Known::Nothing { is_error, mistake } => {
                    let severity = if is_error { Severity::Error } else { Severity::Warning };
                    self.mistake(&place, severity, &mistake);
                }
                Known::Hpa => self.hpa(&place),
                Known::Foreign => workload::read(object).into_iter().for_each(|found| self.across.workload(found)),
            }
        }
    }

    /// Checks a configuration of prometheus-adapter: a file, or a ConfigMap that holds one. Returns false for others.
    fn rules(&mut self, place: &Place<'_>) -> bool {
        if adapter::is_config(place.object) {
            self.report.objects += 1;
            self.duplicates(place);
            let reading = adapter::from_value(place.object, "");
            self.report.findings.extend(place.findings(&reading.problems, &reading.warnings));
            return true;
        }
        let is_config_map = place.object.get("kind").is_some_and(|kind| kind == "ConfigMap");
        let held = if is_config_map { adapter::of_config_map(place.object) } else { Vec::new() };
        for (key, text) in &held {
            let field = format!("data[{key}]");
            let parsed: Vec<_> = document::split(text).into_iter().collect();
            for parsed in parsed {
                match parsed {
                    Ok(document) if adapter::is_config(&document.value) => {
                        self.report.objects += 1;
                        let reading = adapter::from_value(&document.value, &field);
                        self.report.findings.extend(place.findings(&reading.problems, &reading.warnings));
                    }
                    Ok(_) => {}
                    Err(broken) => {
                        let line = broken.line.map_or(String::new(), |line| format!("line {line}: "));
                        let message = format!("{line}{}", broken.message);
                        self.report.findings.push(place.finding(Severity::Error, &field, &message, ""));
                    }
                }
            }
        }
        !held.is_empty()
    }

    fn mistake(&mut self, place: &Place<'_>, severity: Severity, mistake: &Mistake) {
        self.report.findings.push(place.finding(severity, mistake.field, &mistake.message, &mistake.fix));
    }

    fn duplicates(&mut self, place: &Place<'_>) {
        for (path, line) in &place.document.duplicates {
            let field = if place.prefix.is_empty() {
                Some(path.as_str())
            } else {
                path.strip_prefix(&place.prefix).and_then(|rest| rest.strip_prefix('.'))
            };
            let Some(field) = field else {
                continue;
            };
            let message = "stands twice, and kubectl takes the last one; other tools refuse the file";
            let mut finding = place.finding(Severity::Warning, field, message, "remove one of the two");
            finding.line = Some(*line);
            // All further duplicates belong to the other object.
            let is_second_object = matches!(field, "apiVersion" | "kind");
            if is_second_object {
                finding.message = format!("a second object begins here, and kubectl takes it for the first: {message}");
                finding.fix = "write --- on a line of its own between the two".to_owned();
            }
            self.report.findings.push(finding);
            if is_second_object {
                break;
            }
        }
    }

    /// Collects what the daemon would report about the object, then what the API server refuses in addition.
    fn ours(&mut self, crd: &Crd, place: &Place<'_>) {
        let (mut violations, readable) = metadata::violations(crd, place.object);
        violations.extend(schema::violations(crd, place.object));
        violations.sort_by_key(|violation| place.document.line(&place.prefix, &violation.field));
        let readable = in_a_namespace(crd, readable);
        let group = if crd.group == ApiGroup::KedaSh.name() { ApiGroup::KedaSh } else { ApiGroup::KedaK8sIo };
        let mut findings = match &*crd.kind {
            "ScaledObject" => self.scaled_object(group, &readable, place),
            kind => self.authentication(group, kind, &readable, place),
        };
        merge(&mut findings, violations, |violation| {
            place.finding(Severity::Error, &violation.field, &violation.message, &violation.fix)
        });
        one_word_on_templates(&mut findings, place);
        self.report.findings.append(&mut findings);
    }

    fn scaled_object(&mut self, group: ApiGroup, readable: &Value, place: &Place<'_>) -> Vec<Finding> {
        let reading = match scaled_object::from_value(group, readable.clone(), &self.servers) {
            Ok(reading) => reading,
            Err(error) => return vec![place.finding(Severity::Error, "", &error.to_string(), "")],
        };
        let problems = reading.object.definition.as_ref().err().map(|invalid| &*invalid.problems).unwrap_or_default();
        let mut findings = place.findings(problems, &[]);
        if let Some((field, message, fix)) = reading.object.pause.problem() {
            let message = format!("{message}; the object stays paused and not ready");
            findings.push(place.finding(Severity::Error, &field, &message, fix));
        }
        findings.extend(place.findings(&[], &reading.warnings));
        for (field, excerpt) in reading.excerpts {
            for finding in findings.iter_mut().filter(|finding| finding.field == field) {
                finding.excerpt.clone_from(&excerpt);
            }
        }
        self.across.scaled_object(&reading.object, |field| place.finding(Severity::Error, field, "", ""));
        findings
    }

    /// Checks an HPA that asks for metrics by annotations; others are none of ours.
    fn hpa(&mut self, place: &Place<'_>) {
        let mut object = place.object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.entry("namespace").or_insert_with(|| json!("default"));
        }
        let is_annotated = |name: &String| name.starts_with("metric-config.");
        let annotations = place.object.pointer("/metadata/annotations").and_then(Value::as_object);
        let is_annotated = annotations.is_some_and(|annotations| annotations.keys().any(is_annotated));
        let mut findings = match annotated::from_value(object, &self.servers) {
            Ok(None) => return,
            Err(error) if is_annotated => vec![place.finding(Severity::Error, "", &error.to_string(), "")],
            // The API server will refuse it.
            Err(_) => return,
            Ok(Some(reading)) => {
                let invalid = reading.object.definition.as_ref().err();
                let problems = invalid.map(|invalid| &*invalid.problems).unwrap_or_default();
                let findings = place.findings(problems, &reading.warnings);
                self.across.hpa(&reading.object, |field| place.finding(Severity::Error, field, "", ""));
                findings
            }
        };
        self.report.objects += 1;
        self.duplicates(place);
        one_word_on_templates(&mut findings, place);
        self.report.findings.append(&mut findings);
    }

    fn authentication(&mut self, group: ApiGroup, kind: &str, readable: &Value, place: &Place<'_>) -> Vec<Finding> {
        let kind = match kind {
            "TriggerAuthentication" => AuthenticationKind::TriggerAuthentication,
            _ => AuthenticationKind::ClusterTriggerAuthentication,
        };
        match authentication::from_value(group, kind, readable.clone()) {
            Ok(reading) => {
                let findings = place.findings(&reading.problems, &reading.warnings);
                self.across.authentication(reading.authentication);
                findings
            }
            Err(error) => vec![place.finding(Severity::Error, "", &error.to_string(), "")],
        }
    }
}

const TEMPLATE_FIX: &str = "render it first: helm template CHART | hpalite check -";

/// Merges the API server's violations into the readers' findings, leaving out those that only follow from the latter.
fn merge(findings: &mut Vec<Finding>, violations: Vec<Violation>, finding: impl Fn(&Violation) -> Finding) {
    let is_below = |field: &str, path: &str| {
        field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    // Missing fields whose names are misspelt elsewhere in the object.
    let mut misspelt: Vec<String> = Vec::new();
    for violation in violations {
        let errors = || findings.iter().filter(|finding| finding.severity == Severity::Error);
        let field = &*violation.field;
        let is_reported = errors().any(|error| is_below(field, &error.field) && !error.field.is_empty())
            || (violation.fault != Fault::UnknownField && errors().any(|error| is_below(&error.field, field)));
        if is_reported || misspelt.contains(&violation.field) {
            continue;
        }
        let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
        let missing = findings.iter().position(|error| {
            let (path, meant) = error.field.rsplit_once('.').unwrap_or(("", &error.field));
            // A misspelling beside the missing field, or the right name in another place.
            let is_meant = (path == parent && violation.fix == format!("did you mean {meant}?")) || meant == name;
            is_meant && (error.message.contains("missing") || error.message.starts_with("no triggers defined"))
        });
        // The readers already report fields of the other API group.
        let is_explained = findings.iter().any(|error| error.fix.contains(&format!("; {name} is of ")));
        match missing.filter(|_| violation.fault == Fault::UnknownField) {
            _ if is_explained => {}
            Some(missing) => misspelt.push(std::mem::replace(&mut findings[missing], finding(&violation)).field),
            None => findings.push(finding(&violation)),
        }
    }
}

/// Replaces all errors about unrendered template texts by one.
fn one_word_on_templates(findings: &mut Vec<Finding>, place: &Place<'_>) {
    let is_of_template = |finding: &Finding| {
        finding.severity == Severity::Error && place.text(&finding.field).is_some_and(document::is_template)
    };
    if findings.iter().any(is_of_template) {
        let field = findings.iter().find(|finding| is_of_template(finding)).map(|finding| finding.field.clone());
        findings.retain(|finding| !is_of_template(finding));
        let message = "is a template, not a manifest";
        findings.push(place.finding(Severity::Error, &field.unwrap_or_default(), message, TEMPLATE_FIX));
    }
}

/// Returns the object with the namespace that `kubectl apply` would use if none is given.
fn in_a_namespace(crd: &Crd, mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let namespace = metadata.entry("namespace").or_insert(Value::Null);
        if crd.is_namespaced && (namespace.is_null() || namespace == "") {
            *namespace = json!("default");
        }
    }
    object
}

/// The position of an object.
struct Place<'a> {
    file: &'a str,
    document: &'a Document,
    /// JSON path of the object within its document; empty for the document itself.
    prefix: String,
    object: &'a Value,
}

impl Place<'_> {
    fn findings(&self, problems: &[Problem], warnings: &[Warning]) -> Vec<Finding> {
        let errors = problems.iter().map(|p| self.finding(Severity::Error, &p.field, &p.message, &p.fix));
        let warnings = warnings.iter().map(|w| self.finding(Severity::Warning, &w.field, &w.message, &w.fix));
        errors.chain(warnings).collect()
    }

    /// Returns the text of a field, if it is a string.
    fn text(&self, field: &str) -> Option<&str> {
        let mut value = self.object;
        // Keys with dots are in brackets, as are indices.
        for part in field.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            value = match value {
                Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
                other => other.get(part)?,
            };
        }
        value.as_str()
    }

    fn finding(&self, severity: Severity, field: &str, message: &str, fix: &str) -> Finding {
        let text = |name: &str| self.object.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
        let name = text("name").filter(|name| !name.is_empty()).unwrap_or("(no name)");
        let object = match self.object.get("kind").and_then(Value::as_str) {
            None => String::new(),
            Some(kind @ "ClusterTriggerAuthentication") => format!("{kind} {name}"),
            Some(kind) => {
                format!("{kind} {}/{name}", text("namespace").filter(|text| !text.is_empty()).unwrap_or("default"))
            }
        };
        Finding {
            severity,
            file: self.file.to_owned(),
            line: self.document.line(&self.prefix, field),
            object,
            field: field.to_owned(),
            message: message.to_owned(),
            fix: fix.to_owned(),
            excerpt: String::new(),
        }
    }
}

/// Returns the objects of a document: itself, or the items of a List.
fn items(value: &Value) -> Vec<(String, &Value)> {
    fn collect<'a>(prefix: String, value: &'a Value, depth: usize, found: &mut Vec<(String, &'a Value)>) {
        let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        match value.get("items").and_then(Value::as_array) {
            // Nested lists are legal but pointless, so their depth is limited.
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
