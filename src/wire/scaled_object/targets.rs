//! Finds scale targets that cannot exist in any cluster: misspelt kinds of Kubernetes itself, of a wrong API version,
//! or without replicas. A custom resource may have any name.

use super::super::fields::{Diagnostics, Fields, quoted};
use super::super::names::is_dns_subdomain;
use crate::scaling::model::Step;

/// Scalable kinds with their API version. Those of others are listed only for misspellings.
const SCALABLE: &[(&str, &str)] = &[
    ("Deployment", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("ReplicationController", "v1"),
];

/// Custom resources that are often scaled, with their groups.
const CUSTOM: &[(&str, &str)] = &[("Rollout", "argoproj.io/v1alpha1"), ("DeploymentConfig", "apps.openshift.io/v1")];

/// Kinds of Kubernetes and KEDA that users try to scale, and why that is impossible.
const NOT_SCALABLE: &[(&str, &str)] = &[
    ("DaemonSet", "it runs one pod on each node"),
    ("Job", "its parallelism is not a count of replicas"),
    ("CronJob", "it starts Jobs by the clock"),
    ("Pod", "it is one; name the Deployment or other workload that it is from"),
    ("HorizontalPodAutoscaler", "name the workload that it scales"),
    ("ScaledObject", "name the workload that it scales"),
    ("ScaledJob", "it starts Jobs"),
    ("Service", "name the workload behind it"),
    ("Node", "nodes are for a cluster autoscaler"),
];

/// Groups with a dot of Kubernetes or KEDA, in which nothing can be scaled.
const GROUPS_WITHOUT_SCALE: &[&str] = &[
    "networking.k8s.io",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "events.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "scheduling.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "admissionregistration.k8s.io",
    "keda.sh",
    "keda.k8s.io",
];

/// Reports an impossible target: `api_version` and `kind` with defaults applied, `fields` of scaleTargetRef.
pub(super) fn check(fields: &Fields<'_>, api_version: &str, kind: &str, report: &mut Diagnostics) {
    let mut problem = |field: &str, message: String, fix: String| {
        report.problem(Step::Target, fields.path(field), message, fix);
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let is_of_kubernetes = !group.contains('.') || GROUPS_WITHOUT_SCALE.contains(&group);
    let known = || SCALABLE.iter().chain(CUSTOM);
    if is_of_kubernetes && SCALABLE.contains(&(kind, api_version)) {
        return;
    }
    // Misspelt: in another case, or a plural or short name that kubectl accepts.
    let meant = known().find(|(name, _)| *name != kind && is_meant(name, kind)).map(|(name, right)| (*name, *right));
    let refused = NOT_SCALABLE.iter().find(|(name, _)| *name == kind || is_meant(name, kind));
    match (meant, refused) {
        (_, Some((name, why))) if is_of_kubernetes => {
            problem("kind", format!("a {name} cannot be scaled: {why}"), scalable_fix());
        }
        (Some((name, right)), _) if is_of_kubernetes || right.split('/').next() == Some(group) => {
            let is_right_version = right == api_version;
            let fix = if is_right_version {
                format!("write {name}")
            } else {
                format!("write {name}, and {right} as apiVersion")
            };
            problem("kind", format!("no kind is called {}", quoted(kind)), fix);
        }
        _ if !is_of_kubernetes => custom(kind, version, &mut problem),
        _ => match known().find(|(name, _)| *name == kind) {
            Some((_, right)) if fields.has("apiVersion") => {
                let message = format!("{} has no {kind}, or no longer: it is of {right}", quoted(api_version));
                problem("apiVersion", message, format!("write {right}"));
            }
            Some((_, right)) => {
                problem("apiVersion", format!("is missing, and a {kind} is not of apps/v1"), format!("write {right}"));
            }
            None if fields.has("kind") && fields.has("apiVersion") => {
                problem(
                    "kind",
                    format!("{} has no kind {} that can be scaled", quoted(api_version), quoted(kind)),
                    scalable_fix(),
                );
            }
            None if fields.has("kind") => {
                let fix = format!("write the apiVersion of a custom resource, or for kind {}", one_of());
                problem("kind", format!("apps/v1, the default of apiVersion, has no kind {}", quoted(kind)), fix);
            }
            None => problem(
                "apiVersion",
                format!("{} has no Deployment", quoted(api_version)),
                "write apps/v1, or the kind".to_owned(),
            ),
        },
    }
}

/// Checks what is known of a kind that is in none of the lists.
fn custom(kind: &str, version: &str, problem: &mut impl FnMut(&str, String, String)) {
    let is_kind = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && kind.starts_with(|first: char| first.is_ascii_alphabetic());
    if !is_kind || kind.len() > 63 {
        problem("kind", format!("{} cannot be a kind", quoted(kind)), "write the kind as in its manifests".to_owned());
    }
    if !is_dns_subdomain(version) || version.contains('.') {
        problem("apiVersion", format!("{} cannot be a version", quoted(version)), "write e.g. v1".to_owned());
    }
}

/// Returns whether kubectl would accept `kind` for `name`: in any case, in the plural, or short.
fn is_meant(name: &str, kind: &str) -> bool {
    let short = match name {
        "Deployment" => "deploy",
        "StatefulSet" => "sts",
        "ReplicaSet" => "rs",
        "ReplicationController" => "rc",
        "DaemonSet" => "ds",
        "CronJob" => "cj",
        "Pod" => "po",
        "HorizontalPodAutoscaler" => "hpa",
        "ScaledObject" => "so",
        "ScaledJob" => "sj",
        "Service" => "svc",
        _ => "",
    };
    let kind = kind.to_lowercase();
    let name = name.to_lowercase();
    // Also with blanks and dashes, as in prose.
    let joined: String = kind.chars().filter(|c| c.is_alphanumeric()).collect();
    joined == name || joined.strip_suffix('s') == Some(&name) || kind == short
}

fn one_of() -> String {
    let names: Vec<&str> = SCALABLE.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn scalable_fix() -> String {
    format!("name a {} or a custom resource with a scale subresource", one_of())
}

/// Reports a name that no object can have. `what` says of which object it is.
pub(super) fn check_name(fields: &Fields<'_>, field: &str, name: &str, report: &mut Diagnostics) {
    if !name.is_empty() && !is_dns_subdomain(name) {
        report.problem(
            Step::Target,
            fields.path(field),
            format!("{} cannot name a workload", quoted(name)),
            "write lower-case letters, digits, '-' and '.', with a letter or digit at both ends, at most 253",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_scaled_is_refused_with_what_to_write() {
        for (api_version, kind, words) in [
            (None, None, ""),
            (Some("apps/v1"), Some("StatefulSet"), ""),
            (Some("v1"), Some("ReplicationController"), ""),
            (Some("argoproj.io/v1alpha1"), Some("Rollout"), ""),
            (Some("apps.kruise.io/v1beta1"), Some("StatefulSet"), ""),
            (Some("leaderworkerset.x-k8s.io/v1"), Some("LeaderWorkerSet"), ""),
            (Some("stable.example.com/v1"), Some("CronTab"), ""),
            (None, Some("deployment"), "kind: no kind is called \"deployment\" (write Deployment)"),
            (None, Some("Deployments"), "(write Deployment)"),
            (None, Some("deploy"), "(write Deployment)"),
            (None, Some("Stateful Set"), "(write StatefulSet)"),
            (None, Some("Statefulset"), "(write StatefulSet)"),
            (Some("argoproj.io/v1alpha1"), Some("rollout"), "(write Rollout)"),
            (Some("extensions/v1beta1"), Some("deployment"), "(write Deployment, and apps/v1 as apiVersion)"),
            (
                Some("extensions/v1beta1"),
                Some("Deployment"),
                "apiVersion: \"extensions/v1beta1\" has no Deployment, or no longer: it is of apps/v1 (write apps/v1)",
            ),
            (Some("apps/v1beta2"), None, "it is of apps/v1"),
            (Some("v1"), Some("Deployment"), "it is of apps/v1"),
            (
                None,
                Some("Rollout"),
                "apiVersion: is missing, and a Rollout is not of apps/v1 (write argoproj.io/v1alpha1)",
            ),
            (None, Some("DeploymentConfig"), "(write apps.openshift.io/v1)"),
            (None, Some("DaemonSet"), "kind: a DaemonSet cannot be scaled: it runs one pod on each node"),
            (Some("batch/v1"), Some("Job"), "a Job cannot be scaled"),
            (Some("batch/v1"), Some("cronjobs"), "a CronJob cannot be scaled"),
            (Some("v1"), Some("Pod"), "a Pod cannot be scaled"),
            (Some("autoscaling/v2"), Some("HorizontalPodAutoscaler"), "a HorizontalPodAutoscaler cannot be scaled"),
            (Some("keda.sh/v1alpha1"), Some("ScaledObject"), "a ScaledObject cannot be scaled"),
            (
                Some("networking.k8s.io/v1"),
                Some("Ingress"),
                "\"networking.k8s.io/v1\" has no kind \"Ingress\" that can be scaled",
            ),
            (None, Some("CronTab"), "apps/v1, the default of apiVersion, has no kind \"CronTab\""),
            (Some("example.com/v1"), Some("Cron Tab"), "\"Cron Tab\" cannot be a kind"),
            (Some("example.com/V1"), Some("CronTab"), "\"V1\" cannot be a version"),
        ] {
            let mut reference = json!({"name": "web"});
            for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
                if let Some(value) = value {
                    reference[name] = json!(value);
                }
            }
            let mut report = Diagnostics::default();
            let fields = Fields::new("r", Some(&reference), Step::Target, &mut report);
            check(&fields, api_version.unwrap_or("apps/v1"), kind.unwrap_or("Deployment"), &mut report);
            let found: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            match words {
                "" => assert!(found.is_empty(), "{reference}: {found:?}"),
                words => assert!(found.len() == 1 && found[0].contains(words), "{reference}: {found:?}"),
            }
        }
    }
}
