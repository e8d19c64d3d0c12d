//! Least privilege, by the API server's audit log: some test uses every verb on every resource that the roles grant,
//! and no request of the daemon is refused.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::e2e::case::{Case, Source};
use crate::support::cluster::{Cluster, Daemon, condition, path, wait_for, wait_seeing};

const ACCOUNT: &str = "system:serviceaccount:hpalite:hpalite";

/// Rights without a request of their own in the log, since the API server checks them during other requests.
/// `rights_that_no_request_shows_are_needed` removes each of them.
const UNSEEN: [(&str, &str, &str); 3] = [
    // Checked by the admission plugin OwnerReferencesPermissionEnforcement when an HPA is created.
    ("keda.sh", "scaledobjects/finalizers", "update"),
    ("keda.k8s.io", "scaledobjects/finalizers", "update"),
    // Checked by server-side apply of an object that does not exist yet.
    ("autoscaling", "horizontalpodautoscalers", "create"),
];

type Right = (String, String, String);

/// Returns what the roles of `k8s/base` grant, as single pairs of a verb and a resource.
fn granted(cluster: &Cluster) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for (kind, name) in [("clusterrole", "hpalite"), ("clusterrole", "hpalite-cluster"), ("role", "hpalite")] {
        let text = cluster.kubectl(&["get", kind, name, "-n", "hpalite", "-o", "json"]);
        let role: Value = serde_json::from_str(&text).unwrap();
        let words = |rule: &Value, field: &str| -> Vec<String> {
            rule[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    for verb in words(rule, "verbs") {
                        assert!(![&group, &resource, &verb].iter().any(|word| *word == "*"), "{name}: {rule}");
                        all.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    all
}

/// Returns the daemon's requests so far, and those that were refused.
fn asked(log: &str) -> (BTreeSet<Right>, Vec<Value>) {
    let (mut used, mut refused) = (BTreeSet::new(), Vec::new());
    // The last line may be incomplete.
    let entries = fs::read_to_string(log).unwrap_or_default();
    for entry in entries.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if entry["user"]["username"] != ACCOUNT {
            continue;
        }
        if entry["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            refused.push(entry);
            continue;
        }
        let object = &entry["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = match text(&object["subresource"]).as_str() {
            "" => text(&object["resource"]),
            subresource => format!("{}/{subresource}", text(&object["resource"])),
        };
        used.insert((text(&object["apiGroup"]), resource, text(&entry["verb"])));
    }
    (used, refused)
}

fn audited(folder: &tempfile::TempDir) -> (Cluster, String) {
    let file = |name: &str| folder.path().join(name).display().to_string();
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata", "users": [ACCOUNT] }, { "level": "None" }],
    });
    fs::write(file("policy.json"), policy.to_string()).unwrap();
    let arguments = [
        format!("--apiserver-arg=--audit-policy-file={}", file("policy.json")),
        format!("--apiserver-arg=--audit-log-path={}", file("audit.log")),
        "--apiserver-arg=--audit-log-mode=blocking".to_owned(),
        "--apiserver-arg=--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
    ];
    let cluster = Cluster::start(&arguments.each_ref().map(String::as_str));
    cluster.install();
    cluster.kubectl(&["apply", "--server-side", "-k", &path("k8s/crds/keda-v1")]);
    (cluster, file("audit.log"))
}

/// A workload whose pod template refers to a Secret with the trigger's credentials.
fn workload(case: &Case<'_>, kind: &str) {
    let env = json!([
        { "name": "USER", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "user" } } },
        { "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "credentials", "key": "password" } } },
    ]);
    case.apply(json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": kind.to_lowercase(), "namespace": case.namespace },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": kind } }, "template": {
            "metadata": { "labels": { "app": kind } }, "spec": { "containers": [{ "name": "c", "image": "x", "env": env }] },
        } },
    }));
}

/// All kinds of workloads from zero, with credentials from their environment; then pause, fallback, foreign changes.
fn scale_everything(case: &Case<'_>, source: &Source) {
    case.apply(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "credentials", "namespace": case.namespace }, "stringData": { "password": "p" } }));
    case.apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": case.namespace }, "data": { "user": "u" } }));
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "auth", "namespace": case.namespace, "finalizers": ["finalizer.keda.sh"] },
        "spec": { "env": [{ "parameter": "username", "name": "USER" }, { "parameter": "password", "name": "PASSWORD" }] },
    }));
    for kind in ["Deployment", "StatefulSet", "ReplicaSet"] {
        workload(case, kind);
        let mut trigger = source.trigger("10");
        trigger["metadata"]["authModes"] = "basic".into();
        trigger["authenticationRef"] = json!({ "name": "auth" });
        let name = kind.to_lowercase();
        let target = json!({ "apiVersion": "apps/v1", "kind": kind, "name": name });
        case.scale(&name, json!({ "scaleTargetRef": target, "triggers": [trigger] }));
        wait_for(&format!("{kind} to be scaled"), || {
            (case.get(&name, &name)?["spec"]["replicas"].as_i64()? > 0).then_some(())
        });
    }
}

fn old_kinds(case: &Case<'_>, source: &Source) {
    case.cluster.deployment(&case.namespace, "old", 0);
    case.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "old", "namespace": case.namespace }, "stringData": { "t": "t" },
    }));
    case.apply(json!({
        "apiVersion": "keda.k8s.io/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "old", "namespace": case.namespace, "finalizers": ["finalizer.keda.k8s.io"] },
        "spec": { "secretTargetRef": [{ "parameter": "bearerToken", "name": "old", "key": "t" }] },
    }));
    case.apply(json!({
        "apiVersion": "keda.k8s.io/v1alpha1", "kind": "ScaledObject", "metadata": { "name": "old", "namespace": case.namespace },
        "spec": {
            "scaleTargetRef": { "deploymentName": "old" }, "pollingInterval": 1,
            "triggers": [{
                "type": "prometheus", "authenticationRef": { "name": "old" },
                "metadata": { "serverAddress": source.url(), "metricName": "m", "query": "load", "threshold": 10, "authModes": "bearer" },
            }],
        },
    }));
    wait_for("the old form to scale", || (case.cluster.replicas(&case.namespace, "old")? > 0).then_some(()));
}

/// ClusterTriggerAuthentication, fallback of a Value metric, pause.
fn the_rest(case: &Case<'_>, source: &Source) {
    case.cluster.deployment(&case.namespace, "api", 2);
    case.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "shared", "namespace": "hpalite" }, "stringData": { "t": "t" },
    }));
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ClusterTriggerAuthentication",
        "metadata": { "name": "shared", "finalizers": ["finalizer.keda.sh"] },
        "spec": { "secretTargetRef": [{ "parameter": "bearerToken", "name": "shared", "key": "t" }] },
    }));
    let mut trigger = source.trigger("10");
    trigger["metricType"] = "Value".into();
    trigger["metadata"]["authModes"] = "bearer".into();
    trigger["authenticationRef"] = json!({ "name": "shared", "kind": "ClusterTriggerAuthentication" });
    case.scale(
        "so",
        json!({ "minReplicaCount": 1, "triggers": [trigger], "fallback": { "failureThreshold": 1, "replicas": 4 } }),
    );
    case.wait_until_ready();
    // Another manager's field in the HPA can only be removed by replacing it.
    wait_for("the HPA", || case.hpa());
    let foreign = json!({ "spec": { "behavior": { "scaleUp": { "stabilizationWindowSeconds": 7 } } } }).to_string();
    case.kubectl(&["patch", "hpa", "keda-hpa-so", "--type=merge", "--field-manager=somebody", "-p", &foreign]);
    source.set(None);
    wait_for("the fallback", || (condition(&case.object("so"), "Fallback")?.0 == "True").then_some(()));
    case.annotate(&["paused=true"]);
    case.wait_until_hpa_is_gone();
    for (kind, name) in [
        ("scaledobjects.keda.sh", "so"),
        ("scaledobjects.keda.sh", "deployment"),
        ("scaledobjects.keda.k8s.io", "old"),
        ("triggerauthentications.keda.sh", "auth"),
        ("triggerauthentications.keda.k8s.io", "old"),
        ("clustertriggerauthentications.keda.sh", "shared"),
    ] {
        case.kubectl(&["delete", kind, name, "--timeout=170s"]);
    }
}

/// Pods counted by a watch, and the endpoints of a Service.
fn count_pods_and_ask_endpoints(case: &Case<'_>) {
    case.cluster.deployment(&case.namespace, "counted", 0);
    let url = format!("http://worker.{}/stats", case.namespace);
    let (namespace, name) = (&case.namespace, "worker");
    case.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
        "spec": { "clusterIP": "None", "ports": [{ "port": 80 }] },
    }));
    let pods = json!({ "type": "kubernetes-workload", "metadata": { "podSelector": "app=worker", "value": "1" } });
    let api = json!({ "type": "metrics-api", "metadata": {
        "url": url, "valueLocation": "jobs", "targetValue": "1", "aggregateFromKubeServiceEndpoints": "true",
    } });
    case.scale("counted", json!({ "scaleTargetRef": { "name": "counted" }, "triggers": [pods, api] }));
    // It has no endpoints, which the daemon learns from the API server.
    wait_seeing("word of the endpoints", || {
        let events = case.cluster.events(&case.namespace, "counted");
        let found = events.iter().any(|(.., note)| note.contains("/worker has no ready endpoint"));
        found.then_some(()).ok_or_else(|| format!("{events:?}"))
    });
}

#[test]
fn every_right_is_used_and_none_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, log) = audited(&folder);
    let source = Source::new(25.0);
    let _daemon = Daemon::serve(&cluster, &[]);
    let case = Case::within(&cluster, "rights");
    scale_everything(&case, &source);
    old_kinds(&case, &source);
    the_rest(&case, &source);
    count_pods_and_ask_endpoints(&case);
    let unused = || -> Vec<Right> {
        let (used, _) = asked(&log);
        let unseen = |right: &Right| UNSEEN.iter().any(|(g, r, v)| (*g, *r, *v) == (&*right.0, &*right.1, &*right.2));
        let all = granted(&cluster).into_iter().filter(|right| !unseen(right));
        all.filter(|right| !used.contains(right)).collect()
    };
    wait_seeing("every right to be used", || match unused() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:#?}")),
    });
    let (_, refused) = asked(&log);
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn rights_that_no_request_shows_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, _) = audited(&folder);
    let text = cluster.kubectl(&["get", "clusterrole", "hpalite", "-o", "json"]);
    let role: Value = serde_json::from_str(&text).unwrap();
    let set = |rules: &Value| {
        let patch = json!([{ "op": "replace", "path": "/rules", "value": rules }]).to_string();
        cluster.kubectl(&["patch", "clusterrole", "hpalite", "--type=json", "-p", &patch]);
    };
    let _daemon = Daemon::serve(&cluster, &[]);
    for (resource, verb, words) in
        [("scaledobjects/finalizers", "update", "finalizers"), ("horizontalpodautoscalers", "create", "cannot create")]
    {
        let mut rules = role["rules"].clone();
        for rule in rules.as_array_mut().unwrap() {
            if rule["resources"][0] == resource {
                rule["verbs"].as_array_mut().unwrap().retain(|granted| granted != verb);
            }
        }
        rules.as_array_mut().unwrap().retain(|rule| rule["verbs"] != json!([]));
        assert_ne!(rules, role["rules"]);
        set(&rules);
        let case = Case::within(&cluster, "unseen").deployment(0);
        let source = Source::new(25.0);
        case.scale("so", json!({ "triggers": [source.trigger("10")] }));
        wait_seeing("the missing right to be reported", || {
            let status = case.object("so")["status"].to_string();
            (status.contains(words) && status.contains("forbidden")).then_some(()).ok_or(status)
        });
        set(&role["rules"]);
        case.wait_for_hpa();
    }
}

/// Whoever may read or write in a namespace by a built-in role may do so with what hpalite scales by.
#[test]
fn the_built_in_roles_comprise_the_objects() {
    let cluster = crate::support::cluster::cluster();
    let namespace = cluster.namespace("roles");
    for role in ["view", "edit"] {
        let binding = ["create", "rolebinding", role, "-n", &namespace, "--clusterrole", role, "--user", role];
        cluster.kubectl(&binding);
    }
    let may = |user: &str, verb: &str, kind: &str| {
        // An answer of no is an exit code of 1.
        cluster.try_kubectl(&["auth", "can-i", verb, kind, "-n", &namespace, "--as", user]).is_ok()
    };
    for kind in ["scaledobjects.keda.sh", "triggerauthentications.keda.sh"] {
        wait_for("the roles to be aggregated", || {
            (may("view", "list", kind) && may("edit", "create", kind)).then_some(())
        });
        assert!(may("edit", "watch", kind) && !may("view", "create", kind) && !may("somebody", "list", kind), "{kind}");
    }
    let read = cluster.kubectl(&["get", "scaledobjects.keda.sh", "-n", &namespace, "--as", "view", "-o", "name"]);
    assert_eq!(read, "");
}
