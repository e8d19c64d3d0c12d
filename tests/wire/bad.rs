//! Every manifest of `bad.yaml` causes exactly the errors that its comments announce, from `check` and from the
//! daemon's readers.

use hpalite::check::{Outcome, Severity};
use hpalite::scaling::model::{ApiGroup, AuthenticationKind, Problem};
use hpalite::wire::{authentication, scaled_object};
use serde_json::Value;

const MANIFESTS: &str = include_str!("bad.yaml");

struct Expected<'a> {
    field: &'a str,
    message: &'a str,
    fix: &'a str,
}

fn expected(document: &str) -> Vec<Expected<'_>> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix("# expect: "))
        .map(|line| {
            // The colons of an empty first or last part have no blank.
            let line = line.strip_prefix(":: ").map_or(line.to_owned(), |rest| format!(" :: {rest}"));
            let parts: Vec<&str> = Box::leak(line.into_boxed_str()).split(" ::").map(str::trim).collect();
            let [field, message, fix] = parts[..] else { panic!("three parts, not {parts:?}") };
            Expected { field, message, fix }
        })
        .collect()
}

fn matches(expected: &Expected<'_>, field: &str, message: &str, fix: &str) -> bool {
    expected.field == field && message.contains(expected.message) && fix.contains(expected.fix)
}

/// Returns the problems that the daemon's own reader finds, or its reason to refuse the object.
fn problems(document: &str) -> Result<Vec<Problem>, String> {
    let value: Value = serde_saphyr::from_str(document).unwrap();
    let group = match value["apiVersion"].as_str().unwrap() {
        "keda.sh/v1alpha1" => ApiGroup::KedaSh,
        _ => ApiGroup::KedaK8sIo,
    };
    let kind = match value["kind"].as_str().unwrap() {
        "ScaledObject" => {
            let reading = scaled_object::from_value(group, value, &hpalite::wire::Servers::default())
                .map_err(|error| error.to_string())?;
            let object = reading.object;
            return Ok(object.definition.map_or_else(|invalid| invalid.problems, |_| Vec::new()));
        }
        "TriggerAuthentication" => AuthenticationKind::TriggerAuthentication,
        _ => AuthenticationKind::ClusterTriggerAuthentication,
    };
    let reading = authentication::from_value(group, kind, value).map_err(|error| error.to_string())?;
    assert_eq!(reading.authentication.unsupported, reading.problems.first().cloned());
    Ok(reading.problems)
}

#[test]
fn bad_manifests_give_the_announced_errors() {
    let mut count = 0;
    let mut failures = Vec::new();
    for document in MANIFESTS.split("\n---\n").skip(1) {
        count += 1;
        let expected = expected(document);
        let report = super::check(document);
        let errors: Vec<_> = report.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
        for expected in &expected {
            let matching = |f: &&_| {
                let f: &hpalite::check::Finding = f;
                matches(expected, &f.field, &f.message, &f.fix)
            };
            if errors.iter().copied().filter(|f| matching(f)).count() != 1 {
                failures.push(format!("not exactly once: {} :: {}\n{document}", expected.field, expected.message));
            }
        }
        if errors.len() != expected.len() || errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            failures.push(format!("{} errors\n{}\n{document}", errors.len(), texts.join("\n")));
        }
        assert_eq!(report.outcome(), Outcome::Problems, "{document}");
        match problems(document) {
            Ok(problems) => {
                // The API server refuses more than these, which the daemon never sees.
                let from_check: Vec<_> = errors.iter().map(|f| (&f.field, &f.message, &f.fix)).collect();
                let is_template = errors.iter().any(|error| error.message.starts_with("is a template"));
                for problem in problems.iter().filter(|_| !is_template) {
                    let found = (&problem.field, &problem.message, &problem.fix);
                    assert!(from_check.contains(&found), "{found:?}: {from_check:?}\n{document}");
                }
                assert!(problems.is_sorted_by_key(|problem| problem.step), "{document}");
            }
            // An object without a name cannot exist in a cluster.
            Err(text) => assert!(text.contains("metadata"), "{text}\n{document}"),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(count >= 60, "{count} manifests");
}
