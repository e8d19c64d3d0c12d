//! Keeps one finding per cause: a problem that only follows from another is not reported beside it.

use std::collections::BTreeSet;

use super::{Diagnosis, Finding, NOT_CHECKED, Outcome, outcome};

/// Findings if nothing can be read from hpalite.
const UNREACHED: [&str; 4] = ["apiservice-unavailable", "api-unreachable", "hpa-not-scaling", "hpa-limited"];
/// Findings if no instance acts.
const UNLED: [&str; 6] =
    ["no-leader", "leader-gone", "ca-bundle-missing", "hpa-not-scaling", "hpa-limited", "scaled-object-untouched"];

/// Returns the findings that follow from a cause, whatever object they are about.
fn consequences(cause: &str) -> &'static [&'static [&'static str]] {
    const OF_ROUTE: &[&str] =
        &["service-port", "ca-bundle-missing", "ca-bundle-invalid", "certificate-untrusted", "certificate-wrong-name"];
    match cause {
        "apiservice-missing" | "apiservice-foreign" => &[OF_ROUTE, &UNREACHED],
        "service-account-missing" => &[&["right-missing", "service-no-endpoints"], &UNREACHED, &UNLED],
        "service-missing" => &[&["service-no-endpoints"], &UNREACHED],
        "service-no-endpoints" => &[&UNREACHED, &UNLED],
        "right-missing" => &[&["service-no-endpoints"], &UNREACHED, &UNLED],
        "service-port" | "ca-bundle-invalid" => &[&UNREACHED],
        "not-listening" => &[&UNREACHED, &UNLED],
        "ca-bundle-missing" => &[&["certificate-untrusted"], &UNREACHED],
        "certificate-expired" | "certificate-untrusted" | "certificate-wrong-name" => &[&UNREACHED],
        "no-leader" | "leader-gone" => {
            &[&["ca-bundle-missing", "hpa-not-scaling", "hpa-limited", "scaled-object-untouched"]]
        }
        "hpa-controller-forbidden" => &[&["hpa-not-scaling"]],
        // The direct request repeats the condition.
        "apiservice-unavailable" => &[&["api-unreachable", "hpa-not-scaling"]],
        "api-unreachable" => &[&["hpa-not-scaling"]],
        // Without the CRD no HPA has an owner.
        "crd-missing" => &[&["hpa-orphaned"]],
        _ => &[],
    }
}

/// Returns the same for one ScaledObject: its condition and its HPA repeat what is reported about its trigger.
fn repeats(cause: &str, id: &str) -> bool {
    const CAUSES: [&str; 9] = [
        "authentication-unusable",
        "metric-server-unreachable",
        "query-empty",
        "query-failed",
        "query-many-values",
        "query-not-a-number",
        "query-partial",
        "scaled-object-invalid",
        "target-right-missing",
    ];
    match id {
        "scaled-object-not-ready" | "scaled-object-untouched" | "trigger-failing" => CAUSES.contains(&cause),
        "hpa-not-scaling" => {
            CAUSES.contains(&cause)
                || ["scaled-object-not-ready", "scaled-object-untouched", "trigger-failing"].contains(&cause)
        }
        // The daemon reports the same from its own place in the network, as an error.
        "metric-server-unreachable" => ["scaled-object-not-ready", "trigger-failing"].contains(&cause),
        _ => false,
    }
}

fn follows(finding: &Finding, cause: &Finding) -> bool {
    // A finding that is more severe than its cause is kept, since the exit code counts errors.
    if cause.severity < finding.severity || cause.id == finding.id {
        return false;
    }
    let is_general = consequences(cause.id).iter().any(|ids| ids.contains(&finding.id));
    let is_same_object = || !finding.about.is_empty() && finding.about.iter().all(|one| cause.about.contains(one));
    is_general || (repeats(cause.id, finding.id) && is_same_object())
}

/// Keeps the causes, and records for each check that lost findings what they follow from.
pub(super) fn reduce(report: &mut Diagnosis) {
    let mut findings = std::mem::take(&mut report.findings);
    let causes: Vec<Option<&'static str>> = findings
        .iter()
        .enumerate()
        .map(|(at, finding)| {
            let mut others = findings.iter().enumerate().filter(|(other, _)| *other != at);
            // If two findings explain each other, the first is kept.
            let is_cause = |(other, cause): &(usize, &Finding)| {
                follows(finding, cause) && (*other < at || !follows(cause, finding))
            };
            others.find(is_cause).map(|(_, cause)| cause.id)
        })
        .collect();
    let mut left = Vec::new();
    let mut rest = findings.drain(..).zip(causes);
    for check in &mut report.checks {
        let before = left.len();
        let mut follows_from = BTreeSet::new();
        for (finding, cause) in rest.by_ref().take(check.findings) {
            match cause {
                Some(cause) => drop(follows_from.insert(cause)),
                None => left.push(finding),
            }
        }
        merge_unchecked(&mut left, before);
        check.findings = left.len() - before;
        if check.findings == 0 && !follows_from.is_empty() {
            check.outcome = Outcome::Follows;
        } else if check.findings > 0 {
            check.outcome = outcome(&left[before..]);
        }
        check.follows_from = follows_from.into_iter().collect();
    }
    drop(rest);
    report.findings = left;
}

/// Merges what one check could not examine for want of the same rights into one finding.
fn merge_unchecked(findings: &mut Vec<Finding>, from: usize) {
    let (first, mut at) = (findings[from..].iter().position(|finding| finding.id == NOT_CHECKED), from);
    let Some(first) = first.map(|first| first + from) else { return };
    while at < findings.len() {
        let is_same = at > first && findings[at].id == NOT_CHECKED && findings[at].fix == findings[first].fix;
        if is_same {
            let other = findings.remove(at);
            findings[first].subject.push_str(&format!(", {}", other.subject));
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Check, Severity};
    use super::*;

    /// Checks, each with the ids, the severities and the objects of its findings.
    type Found<'a> = (&'static str, &'a [(&'static str, Severity, &'a [&'a str])]);

    fn report(found: &[Found<'_>]) -> Diagnosis {
        let mut report = Diagnosis::default();
        for (check, findings) in found {
            for (id, severity, about) in *findings {
                report.findings.push(Finding {
                    id,
                    severity: *severity,
                    subject: (*id).to_owned(),
                    cause: String::new(),
                    fix: String::new(),
                    about: about.iter().map(|name| (*name).to_owned()).collect(),
                });
            }
            let outcome = outcome(&report.findings[report.findings.len() - findings.len()..]);
            report.checks.push(Check {
                check,
                outcome,
                findings: findings.len(),
                notes: Vec::new(),
                follows_from: Vec::new(),
            });
        }
        report
    }

    fn left(found: &[Found<'_>]) -> (Vec<&'static str>, Vec<Outcome>) {
        let mut report = report(found);
        reduce(&mut report);
        let outcomes = report.checks.iter().map(|check| check.outcome).collect();
        assert_eq!(report.checks.iter().map(|check| check.findings).sum::<usize>(), report.findings.len());
        (report.findings.iter().map(|finding| finding.id).collect(), outcomes)
    }

    #[test]
    fn consequences_of_a_cause_are_not_reported() {
        use Outcome::{Error as Bad, Follows, Ok};
        use Severity::Error;
        let (ids, outcomes) = left(&[
            ("APIService", &[("apiservice-foreign", Error, &[])]),
            ("Service", &[("service-port", Error, &[])]),
            ("reach", &[("api-unreachable", Error, &[])]),
            ("CRDs", &[]),
            ("HPAs", &[("hpa-not-scaling", Error, &["shop/a"]), ("hpa-orphaned", Severity::Warning, &[])]),
        ]);
        assert_eq!(ids, ["apiservice-foreign", "hpa-orphaned"]);
        assert_eq!(outcomes, [Bad, Follows, Follows, Ok, Outcome::Warning]);
    }

    #[test]
    fn a_failing_trigger_is_reported_once_for_its_object_and_hides_no_other() {
        use Severity::Error;
        let (ids, _) = left(&[
            (
                "ScaledObjects",
                &[("scaled-object-not-ready", Error, &["shop/a"]), ("scaled-object-not-ready", Error, &["shop/b"])],
            ),
            ("HPAs", &[("hpa-not-scaling", Error, &["shop/a"]), ("hpa-not-scaling", Error, &["shop/c"])]),
            ("queries", &[("query-failed", Error, &["shop/a", "shop/d"])]),
        ]);
        assert_eq!(ids, ["scaled-object-not-ready", "hpa-not-scaling", "query-failed"]);
    }

    #[test]
    fn an_error_is_kept_beside_a_warning() {
        use Severity::{Error, Warning};
        let (ids, _) = left(&[("Lease", &[("no-leader", Warning, &[])]), ("HPAs", &[("hpa-not-scaling", Error, &[])])]);
        assert_eq!(ids, ["no-leader", "hpa-not-scaling"]);
        // Outside the cluster its server names do not resolve, so the daemon's report takes precedence.
        let (ids, _) = left(&[
            ("ScaledObjects", &[("scaled-object-not-ready", Error, &["shop/a"])]),
            ("queries", &[("metric-server-unreachable", Warning, &["shop/a"])]),
        ]);
        assert_eq!(ids, ["scaled-object-not-ready"]);
        let (ids, _) = left(&[
            ("ScaledObjects", &[("scaled-object-not-ready", Error, &["shop/a"])]),
            ("queries", &[("metric-server-unreachable", Error, &["shop/a"])]),
        ]);
        assert_eq!(ids.len(), 1);
    }
}
