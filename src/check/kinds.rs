//! Decides which objects are ours to check, which ones neither hpalite nor Kubernetes runs, and which ones to skip.

use serde_json::Value;

use super::schema::{Crd, crds};
use crate::spelling::nearest;
use crate::wire::{describe, quoted};

/// How `check` classifies an object.
pub(super) enum Known {
    Ours(&'static Crd),
    /// In KEDA's groups or of one of our kinds, but of no CRD that hpalite has.
    NotRun(Mistake),
    /// Not a Kubernetes object.
    Nothing {
        is_error: bool,
        mistake: Mistake,
    },
    /// Checked if it asks for metrics by annotations.
    Hpa,
    Foreign,
}

pub(super) struct Mistake {
    pub(super) field: &'static str,
    pub(super) message: String,
    pub(super) fix: String,
}

/// API groups of KEDA and its add-ons.
const GROUPS: [&str; 4] = ["keda.sh", "keda.k8s.io", "eventing.keda.sh", "http.keda.sh"];

pub(super) fn of(object: &Value) -> Known {
    let text = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(fields) = object.as_object() else {
        let message = format!("is no Kubernetes object, but {}", describe(object));
        return Known::Nothing { is_error: false, mistake: Mistake { field: "", message, fix: String::new() } };
    };
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
        // An object with our fields is meant for us; a values file or a kustomization is not.
        let spec = object.get("spec");
        let has = |name: &str| spec.is_some_and(|spec| spec.get(name).is_some());
        let group = text("apiVersion").and_then(|version| version.split('/').next());
        let is_of_ours = group.is_some_and(|group| GROUPS.contains(&group))
            || text("kind").is_some_and(|kind| crds().iter().any(|crd| crd.kind == kind));
        let missing = if text("kind").is_none() { "kind" } else { "apiVersion" };
        let (message, fix) = match fields.get(missing).filter(|value| !value.is_null() && **value != "") {
            Some(value) => (format!("must be a string, is {}", describe(value)), String::new()),
            None => (
                "is missing, so that this is no Kubernetes object".to_owned(),
                match missing {
                    "kind" => "write e.g. kind: ScaledObject".to_owned(),
                    _ => "write e.g. apiVersion: keda.sh/v1alpha1".to_owned(),
                },
            ),
        };
        let is_error = is_of_ours || has("scaleTargetRef") || has("triggers");
        return Known::Nothing { is_error, mistake: Mistake { field: missing, message, fix } };
    };
    if let Some(crd) = crds().iter().find(|crd| crd.kind == kind && crd.api_version() == api_version) {
        return Known::Ours(crd);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let versions: Vec<String> = crds().iter().filter(|crd| crd.kind == kind).map(Crd::api_version).collect();
    if let Some(right) = versions.first() {
        // One of our kinds in another group or version.
        let message = match crds().iter().any(|crd| crd.group == group) {
            true if group == "keda.k8s.io" => format!("KEDA 1, which {} is of, has no {kind}", quoted(api_version)),
            _ => format!("no CRD gives {kind} in {}", quoted(api_version)),
        };
        return not_run("apiVersion", message, format!("write apiVersion: {right}"));
    }
    if group == "autoscaling" && version.starts_with("v2") && kind == "HorizontalPodAutoscaler" {
        return Known::Hpa;
    }
    if !GROUPS.contains(&group) {
        return Known::Foreign;
    }
    let kinds: Vec<&str> = crds().iter().filter(|crd| crd.group == group).map(|crd| crd.kind.as_str()).collect();
    let is_misspelt =
        |near: &&str| near.eq_ignore_ascii_case(kind) || near.eq_ignore_ascii_case(kind.trim_end_matches('s'));
    if let Some(near) =
        nearest(kind, &kinds).filter(|near| kind != "ScaledJob" && (is_misspelt(near) || kind.len() >= 10))
    {
        return not_run(
            "kind",
            format!("{} has no kind {}", quoted(api_version), quoted(kind)),
            format!("write {near}"),
        );
    }
    let (message, fix) = match (group, kind) {
        ("keda.sh", "ScaledJob") => (
            "a ScaledJob is not run by hpalite: nothing would start its jobs".to_owned(),
            "keep KEDA for it, or scale a Deployment that takes jobs from the queue with a ScaledObject",
        ),
        ("http.keda.sh", _) => (
            format!("{kind} is of KEDA's HTTP add-on and is not run by hpalite"),
            "keep the add-on with KEDA for it, or scale on a metric of the requests with a ScaledObject",
        ),
        ("eventing.keda.sh", _) => (
            format!("{kind} is not run by hpalite: nothing would send its CloudEvents"),
            "keep KEDA for it, or read the Kubernetes events that hpalite writes",
        ),
        _ => (format!("{kind} of {group}/{version} is not run by hpalite"), "keep KEDA for it"),
    };
    not_run("kind", message, fix.to_owned())
}

fn not_run(field: &'static str, message: String, fix: String) -> Known {
    Known::NotRun(Mistake { field, message, fix })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_classified() {
        for (api_version, kind, expected) in [
            ("keda.sh/v1alpha1", "ScaledObject", "ours"),
            ("keda.k8s.io/v1alpha1", "TriggerAuthentication", "ours"),
            ("keda.k8s.io/v1alpha1", "ClusterTriggerAuthentication", "write apiVersion: keda.sh/v1alpha1"),
            ("keda.sh/v1", "ScaledObject", "write apiVersion: keda.sh/v1alpha1"),
            ("keda.io/v1alpha1", "ScaledObject", "write apiVersion: keda.sh/v1alpha1"),
            ("keda.sh/v1alpha1", "scaledobject", "write ScaledObject"),
            ("keda.sh/v1alpha1", "ScaledObjects", "write ScaledObject"),
            ("keda.sh/v1alpha1", "ScaledJob", "keep KEDA for it"),
            ("keda.sh/v1alpha2", "ScaledJob", "keep KEDA for it"),
            ("keda.sh/v1alpha1", "Unknown", "keep KEDA for it"),
            ("http.keda.sh/v1alpha1", "HTTPScaledObject", "keep the add-on"),
            ("eventing.keda.sh/v1alpha1", "CloudEventSource", "keep KEDA for it"),
            ("eventing.keda.sh/v1alpha1", "ClusterCloudEventSource", "keep KEDA for it"),
            ("apps/v1", "Deployment", "foreign"),
            ("v1", "Secret", "foreign"),
            ("autoscaling/v2", "HorizontalPodAutoscaler", "hpa"),
            ("autoscaling/v1", "HorizontalPodAutoscaler", "foreign"),
            ("", "ScaledObject", "error: write e.g. apiVersion"),
            ("keda.sh/v1alpha1", "", "error: write e.g. kind"),
            ("", "", "warning: write e.g. kind"),
        ] {
            let object = json!({"apiVersion": api_version, "kind": kind});
            let found = match of(&object) {
                Known::Ours(_) => "ours".to_owned(),
                Known::NotRun(mistake) => mistake.fix,
                Known::Nothing { is_error: true, mistake } => format!("error: {}", mistake.fix),
                Known::Nothing { is_error: false, mistake } => format!("warning: {}", mistake.fix),
                Known::Hpa => "hpa".to_owned(),
                Known::Foreign => "foreign".to_owned(),
            };
            assert!(found.starts_with(expected), "{api_version} {kind}: {found}");
        }
    }
}
