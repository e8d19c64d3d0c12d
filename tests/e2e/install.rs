//! The manifests of `k8s/`, applied as by an administrator.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Exclusive, daemon, exclusive};
use crate::support::cluster::{Cluster, path};

fn apply(cluster: &Cluster, folder: &str) -> String {
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &path(folder)])
}

/// Returns what was applied, without the fields that the cluster maintains.
fn contents(cluster: &Cluster, names: &[&str]) -> Vec<Value> {
    let read = |name: &&str| {
        // One RoleBinding is in kube-system; cluster-wide kinds ignore the namespace.
        let get = |namespace| cluster.try_kubectl(&["get", name, "-n", namespace, "-o", "json"]);
        let text = get("hpalite").or_else(|_| get("kube-system")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object["status"].take();
        for field in ["resourceVersion", "managedFields"] {
            object["metadata"][field].take();
        }
        object
    };
    names.iter().map(read).collect()
}

#[test]
fn everything_can_be_applied_again() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    // Other tests change the Service for their daemons; APIService and the rest are restored by the first apply.
    cluster.kubectl(&["delete", "service", "hpalite", "-n", "hpalite"]);
    for folder in ["k8s/crds", "k8s/crds/keda-v1", "k8s/base"] {
        let first = apply(cluster, folder);
        let names: Vec<&str> = first.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(!names.is_empty());
        let before = contents(cluster, &names);
        apply(cluster, folder);
        assert_eq!(contents(cluster, &names), before, "{folder}");
    }
    // Changing to the persistent overlay requires deleting the StatefulSet, as its comment says.
    cluster.kubectl(&["delete", "statefulset", "hpalite", "-n", "hpalite"]);
    apply(cluster, "k8s/overlays/persistent");
    apply(cluster, "k8s/overlays/persistent");
    let claims = cluster.kubectl(&[
        "get",
        "statefulset",
        "hpalite",
        "-n",
        "hpalite",
        "-o",
        "jsonpath={.spec.volumeClaimTemplates[*].metadata.name}",
    ]);
    assert_eq!(claims, "data");
    cluster.kubectl(&["delete", "statefulset", "hpalite", "-n", "hpalite"]);
    apply(cluster, "k8s/base");
}

#[test]
fn the_samples_are_valid() {
    let cluster = daemon().0;
    for file in [
        "deployment.yaml",
        "scaledobject.yaml",
        "scaledobject-cron.yaml",
        "scaledobject-formula.yaml",
        "bound-service-account-token.yaml",
        "clustertriggerauthentication.yaml",
        "scale-target-rollout.yaml",
    ] {
        cluster.kubectl(&["apply", "--dry-run=server", "-f", &path(&format!("k8s/samples/{file}"))]);
    }
}

fn stateful_set(cluster: &Cluster) -> Value {
    let text = cluster.kubectl(&["get", "statefulset", "hpalite", "-n", "hpalite", "-o", "json"]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_pod_meets_the_restricted_standard() {
    let cluster = daemon().0;
    let template = stateful_set(cluster)["spec"]["template"].clone();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "probe", "namespace": "hpalite", "labels": template["metadata"]["labels"] },
        "spec": template["spec"],
    });
    let create = |pod: &Value| cluster.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &pod.to_string());
    create(&pod).expect("the template is admitted");
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let refused = create(&pod).expect_err("the namespace enforces it");
    assert!(refused.contains("restricted"), "{refused}");
}

#[test]
fn the_grace_period_holds_the_shutdown() {
    let set = stateful_set(daemon().0);
    let spec = &set["spec"]["template"]["spec"];
    let grace = Duration::from_secs(spec["terminationGracePeriodSeconds"].as_u64().unwrap());
    let arguments = spec["containers"][0]["args"].as_array().unwrap();
    assert!(
        !arguments.iter().any(|argument| argument.as_str().is_some_and(|text| text.contains("drain"))),
        "{arguments:?}"
    );
    // The default of --drain.
    let drain = Duration::from_secs(2);
    assert!(hpalite::daemon::SHUTDOWN_MAX + drain < grace, "{grace:?}");
}

#[test]
fn the_service_account_may_do_what_it_needs_and_no_more() {
    let cluster = daemon().0;
    let may = |verb: &str, what: &str| {
        let (resource, subresource) = what.split_once(" /").unwrap_or((what, ""));
        let subresource = format!("--subresource={subresource}");
        let account = "--as=system:serviceaccount:hpalite:hpalite";
        let answer = cluster.try_kubectl(&["auth", "can-i", verb, resource, &subresource, "-n", "default", account]);
        // "no" comes with exit code 1.
        answer.is_ok_and(|text| text.trim() == "yes")
    };
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "pods"),
        ("watch", "pods"),
        ("get", "services"),
        ("list", "endpointslices.discovery.k8s.io"),
        ("watch", "deployments.apps"),
        ("patch", "scaledobjects.keda.sh /status"),
        ("update", "scaledobjects.keda.sh /finalizers"),
        ("delete", "horizontalpodautoscalers.autoscaling"),
        ("update", "deployments.apps /scale"),
        ("create", "events.events.k8s.io"),
        ("patch", "apiservices.apiregistration.k8s.io/v1beta1.external.metrics.k8s.io"),
        ("watch", "apiservices.apiregistration.k8s.io/v1beta1.external.metrics.k8s.io"),
    ] {
        assert!(may(verb, resource), "{verb} {resource}");
    }
    for (verb, resource) in [
        ("list", "secrets"),
        ("watch", "secrets"),
        ("list", "configmaps"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods /exec"),
        ("patch", "deployments.apps"),
        ("update", "statefulsets.apps"),
        ("delete", "scaledobjects.keda.sh"),
        ("create", "scaledobjects.keda.sh"),
        ("create", "serviceaccounts /token"),
        ("update", "clusterroles.rbac.authorization.k8s.io"),
        ("escalate", "roles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("patch", "apiservices.apiregistration.k8s.io/v1beta1.metrics.k8s.io"),
    ] {
        assert!(!may(verb, resource), "{verb} {resource}");
    }
}
