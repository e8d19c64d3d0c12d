//! `hpalite doctor` names the cause of each fault, and nothing if all is well.

mod causes;
mod far;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::{Exclusive, exclusive};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, bounded, free_port, wait_seeing};

/// Returns the exit code and the report.
fn report(kubeconfig: &str, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["doctor", "--json", "--kubeconfig", kubeconfig])
        .env("HPALITE_ALLOW_NETWORKS", "127.0.0.0/8, ::1")
        .args(arguments)
        .output()
        .expect("hpalite can be run");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn findings(report: &Value) -> Vec<Value> {
    report["findings"].as_array().expect("a list").clone()
}

fn doctor(cluster: &Cluster) -> (Option<i32>, Vec<Value>) {
    let (code, report) = report(cluster.env("KUBECONFIG"), &[]);
    (code, findings(&report))
}

fn is_reported(findings: &[Value], id: &str, words: &str) -> bool {
    findings.iter().any(|finding| {
        let text = format!("{} {}", finding["subject"], finding["cause"]);
        finding["id"] == id && text.contains(words) && finding["fix"].as_str().is_some_and(|fix| !fix.is_empty())
    })
}

/// Breaks one thing, waits for the finding, repairs it, and waits until the finding is gone.
fn broken(cluster: &Cluster, id: &str, words: &str, break_it: &dyn Fn(), mend: &dyn Fn()) {
    let reported = |expected: bool| {
        wait_seeing(&format!("{id} ({words}) reported: {expected}"), || {
            let (code, findings) = doctor(cluster);
            let is_error = findings.iter().any(|finding| finding["severity"] == "error");
            assert_eq!(code, Some(i32::from(is_error)));
            if is_reported(&findings, id, words) == expected { Ok(()) } else { Err(format!("{findings:?}")) }
        });
    };
    reported(false);
    break_it();
    reported(true);
    mend();
    reported(false);
}

fn base64(bytes: &[u8]) -> String {
    let mut child = Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn patch(cluster: &Cluster, kind: &str, name: &str, namespace: &str, patch: &Value) {
    let how = if patch.is_array() { "--type=json" } else { "--type=merge" };
    cluster.kubectl(&["patch", kind, name, "-n", namespace, how, "-p", &patch.to_string()]);
}

#[test]
fn doctor_finds_a_healthy_installation_healthy_and_names_what_an_object_suffers_from() {
    let case = Case::exclusive(Exclusive::Installations, "doctor");
    let cluster = case.cluster;
    let source = Source::new(25.0);
    let daemon = Daemon::serve(cluster, &[]);
    cluster.deployment(&case.namespace, "api", 1);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_until_ready();
    let (listen, db) = (format!("127.0.0.1:{}", daemon.port), daemon.db().display().to_string());
    let all = ["--listen", &listen, "--db", &db, "--namespace", &case.namespace];
    wait_seeing("no finding", || match report(cluster.env("KUBECONFIG"), &all) {
        (Some(0), report) if findings(&report).is_empty() => {
            let checks = report["checks"].as_array().unwrap();
            assert!(checks.len() > 10 && checks.iter().all(|check| check["outcome"] == "ok"), "{checks:?}");
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
    // With the rights of the pod some checks are impossible, but nothing is wrong.
    let own = daemon.folder.path().join("kubeconfig").display().to_string();
    let (code, report) = report(&own, &all);
    let ids: Vec<_> = findings(&report).iter().map(|finding| finding["id"].clone()).collect();
    assert!(code == Some(0) && !ids.is_empty() && ids.iter().all(|id| id == "not-checked"), "{report}");
    for (check, outcome) in [
        ("APIService", "ok"),
        ("serving certificate", "ok"),
        ("metric servers and queries", "ok"),
        ("CRDs", "not-checked"),
    ] {
        let found = report["checks"].as_array().unwrap().iter().find(|found| found["check"] == check).unwrap();
        assert_eq!(found["outcome"], outcome, "{check}: {report}");
    }
    let good = json!({ "spec": { "triggers": [source.trigger("10")] } });
    let mut gone = source.trigger("10");
    gone["metadata"]["serverAddress"] = "http://127.0.0.1:1".into();
    let bad = json!({ "spec": { "triggers": [gone] } });
    // Only the daemon knows whether the server can be reached from the pod.
    broken(
        cluster,
        "scaled-object-not-ready",
        "TriggerError: s0-prometheus: cannot reach http://127.0.0.1:1",
        &|| patch(cluster, "scaledobjects.keda.sh", "so", &case.namespace, &bad),
        &|| patch(cluster, "scaledobjects.keda.sh", "so", &case.namespace, &good),
    );
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=170s"]);
    let nowhere = free_port();
    let apiservice = json!({ "spec": { "service": { "port": nowhere } } });
    let service = json!([{ "op": "replace", "path": "/spec/ports", "value": [{ "port": nowhere }] }]);
    // Reported from observation, until the condition says the same in more detail.
    broken(
        cluster,
        "apiservice-unavailable",
        "connection refused",
        &|| {
            patch(cluster, "service", "hpalite", "hpalite", &service);
            patch(cluster, "apiservice", APISERVICE, "", &apiservice);
        },
        &|| daemon.route(cluster),
    );
}

/// Removes the EndpointSlice, which other tests of this cluster would take for an acting instance.
struct NoEndpointByHand<'a>(&'a Cluster);

impl Drop for NoEndpointByHand<'_> {
    fn drop(&mut self) {
        // A second panic during a failing test would abort.
        let _ = self.0.try_kubectl(&["delete", "endpointslice", "by-hand", "-n", "hpalite", "--ignore-not-found"]);
    }
}

#[test]
fn doctor_names_the_cause_of_each_broken_set_up() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    cluster.install();
    let restore = || cluster.install();
    let api = |change: Value| patch(cluster, "apiservice", APISERVICE, "hpalite", &change);
    let delete = |arguments: &[&str]| drop(cluster.kubectl(&[&["delete"], arguments].concat()));

    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "by-hand", "namespace": "hpalite", "labels": { "kubernetes.io/service-name": "hpalite" } },
        "endpoints": [{ "addresses": ["192.0.2.1"], "conditions": { "ready": true } }], "ports": [],
    });
    let ready = || cluster.apply(&slice.to_string());
    let unready = || delete(&["endpointslice", "by-hand", "-n", "hpalite"]);
    // Otherwise every finding would follow from the missing ready pod.
    ready();
    let _after = NoEndpointByHand(cluster);
    broken(cluster, "service-no-endpoints", "no ready endpoint", &unready, &ready);
    broken(cluster, "apiservice-missing", APISERVICE, &|| delete(&["apiservice", APISERVICE]), &restore);
    let ca = base64(&std::fs::read(format!("{}/ca.crt", cluster.env("CLUSTER_PKI"))).unwrap());
    let trusted = || api(json!({ "spec": { "caBundle": ca } }));
    trusted();
    broken(cluster, "ca-bundle-missing", "is empty", &|| api(json!({ "spec": { "caBundle": null } })), &trusted);
    let rubbish = || api(json!({ "spec": { "caBundle": base64(b"no certificate at all") } }));
    broken(cluster, "ca-bundle-invalid", "unusable", &rubbish, &trusted);
    let keda = json!({ "spec": { "service": { "name": "keda-metrics-apiserver", "namespace": "keda" } } });
    broken(cluster, "apiservice-foreign", "KEDA's", &|| api(keda.clone()), &restore);
    let insecure = || api(json!({ "spec": { "insecureSkipTLSVerify": true, "caBundle": null } }));
    let secure = || api(json!({ "spec": { "insecureSkipTLSVerify": null } }));
    broken(cluster, "apiservice-insecure", "anybody on the path", &insecure, &secure);
    broken(
        cluster,
        "service-port",
        "no port 4711",
        &|| api(json!({ "spec": { "service": { "port": 4711 } } })),
        &|| {
            let ports = cluster.kubectl(&[
                "get",
                "service",
                "hpalite",
                "-n",
                "hpalite",
                "-o",
                "jsonpath={.spec.ports[0].port}",
            ]);
            api(json!({ "spec": { "service": { "port": ports.parse::<u16>().unwrap() } } }));
        },
    );
    broken(
        cluster,
        "service-missing",
        "hpalite/hpalite",
        &|| delete(&["service", "hpalite", "-n", "hpalite"]),
        &restore,
    );
    let crd = "clustertriggerauthentications.keda.sh";
    broken(cluster, "crd-missing", crd, &|| delete(&["crd", crd, "--timeout=170s"]), &restore);
    let old = json!([{ "op": "remove", "path": "/spec/versions/0/subresources" }]);
    broken(cluster, "crd-outdated", "no status subresource", &|| patch(cluster, "crd", crd, "", &old), &restore);
    let bare = json!([{
        "op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations",
    }]);
    let scaled = "scaledobjects.keda.sh";
    broken(cluster, "crd-foreign", "it is KEDA's", &|| patch(cluster, "crd", scaled, "", &bare), &restore);
    for (kind, name, words) in [
        ("clusterrolebinding", "hpalite", "patch scaledobjects/status.keda.sh"),
        ("clusterrolebinding", "hpalite:system:auth-delegator", "create tokenreviews.authentication.k8s.io"),
    ] {
        broken(cluster, "right-missing", words, &|| delete(&[kind, name]), &restore);
    }
    let reader = ["rolebinding", "hpalite-auth-reader", "-n", "kube-system"];
    let words = "it may not list, watch configmaps extension-apiserver-authentication in namespace kube-system";
    broken(cluster, "right-missing", words, &|| delete(&reader), &restore);
    let namespace = cluster.namespace("keda");
    broken(cluster, "keda-running", &namespace, &|| cluster.deployment(&namespace, "keda-operator", 1), &|| {
        cluster.deployment(&namespace, "keda-operator", 0)
    });
    // Kubernetes itself grants the right as well.
    let controller = "system:controller:horizontal-pod-autoscaler";
    let text = cluster.kubectl(&["get", "clusterrolebinding", controller, "-o", "json"]);
    let mut own: Value = serde_json::from_str(&text).unwrap();
    own["metadata"] = json!({ "name": controller });
    let readers = ["clusterrolebinding", "hpalite-external-metrics-reader", controller];
    broken(cluster, "hpa-controller-forbidden", "may not list", &|| delete(&readers), &|| {
        restore();
        cluster.apply(&own.to_string());
    });
    let lease = |holder: &str| {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "hpalite", "namespace": "hpalite" },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z" },
        });
        cluster.kubectl(&["delete", "lease", "hpalite", "-n", "hpalite", "--ignore-not-found"]);
        cluster.apply(&lease.to_string());
    };
    broken(cluster, "leader-gone", "somebody has not renewed it", &|| lease("somebody"), &|| lease(""));
    lease("somebody");
    let unled = || drop(cluster.kubectl(&["delete", "lease", "hpalite", "-n", "hpalite", "--ignore-not-found"]));
    broken(cluster, "no-leader", "no instance holds it", &unled, &|| lease("somebody"));
    unled();
    let second = json!({ "metadata": { "labels": { "app.kubernetes.io/name": "hpalite" } } });
    let alone = json!({ "metadata": { "labels": null } });
    cluster.deployment(&namespace, "second", 1);
    let deployment = |change: &Value| patch(cluster, "deployment", "second", &namespace, change);
    broken(cluster, "second-installation", "/second", &|| deployment(&second), &|| deployment(&alone));
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "left", "namespace": namespace, "labels": { "scaledobject.keda.sh/name": "gone" } },
        "spec": { "maxReplicas": 2, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "second" } },
    });
    let removed = || delete(&["hpa", "left", "-n", &namespace]);
    broken(cluster, "hpa-orphaned", "/left", &|| cluster.apply(&hpa.to_string()), &removed);
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "keda-admission" },
        "webhooks": [{
            "name": "vscaledobject.kb.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": { "service": { "name": "keda-admission-webhooks", "namespace": "keda" } },
            "rules": [{ "apiGroups": ["keda.sh"], "apiVersions": ["v1alpha1"], "operations": ["CREATE"], "resources": ["scaledobjects"] }],
        }],
    });
    broken(
        cluster,
        "webhook-left-behind",
        "keda/keda-admission-webhooks is gone",
        &|| cluster.apply(&webhook.to_string()),
        &|| delete(&["validatingwebhookconfiguration", "keda-admission"]),
    );
}
