//! `hpalite doctor` names the cause of what is broken, and nothing when all is well.

use std::process::Command;

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::{Exclusive, exclusive};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, wait_seeing};

fn doctor(cluster: &Cluster) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_hpalite"))
        .args(["doctor", "--json", "--kubeconfig", cluster.env("KUBECONFIG")])
        .output()
        .expect("hpalite can be run");
    let findings = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), findings)
}

fn is_told(findings: &[Value], id: &str, words: &str) -> bool {
    findings.iter().any(|finding| {
        let text = format!("{} {}", finding["subject"], finding["cause"]);
        finding["id"] == id && text.contains(words) && finding["fix"].as_str().is_some_and(|fix| !fix.is_empty())
    })
}

/// Breaks one thing, waits until it is told, mends it, waits until it is not.
fn broken(cluster: &Cluster, id: &str, words: &str, break_it: &dyn Fn(), mend: &dyn Fn()) {
    let told = |expected: bool| {
        wait_seeing(&format!("{id} ({words}) told: {expected}"), || {
            let (code, findings) = doctor(cluster);
            let is_error = findings.iter().any(|finding| finding["severity"] == "error");
            assert_eq!(code, Some(i32::from(is_error)));
            if is_told(&findings, id, words) == expected { Ok(()) } else { Err(format!("{findings:?}")) }
        });
    };
    told(false);
    break_it();
    told(true);
    mend();
    told(false);
}

fn patch(cluster: &Cluster, kind: &str, name: &str, namespace: &str, patch: &Value) {
    let how = if patch.is_array() { "--type=json" } else { "--type=merge" };
    cluster.kubectl(&["patch", kind, name, "-n", namespace, how, "-p", &patch.to_string()]);
}

#[test]
fn doctor_finds_a_healthy_installation_healthy_and_names_what_an_object_suffers_from() {
    let (cluster, _turn) = exclusive(Exclusive::Others);
    let case = Case::within(cluster, "doctor");
    let source = Source::new(25.0);
    let _daemon = Daemon::serve(cluster, &[]);
    cluster.deployment(&case.namespace, "api", 1);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_until_ready();
    wait_seeing("no finding", || match doctor(cluster) {
        (Some(0), findings) if findings.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let good = json!({ "spec": { "triggers": [source.trigger("10")] } });
    let mut gone = source.trigger("10");
    gone["metadata"]["serverAddress"] = "http://127.0.0.1:1".into();
    let bad = json!({ "spec": { "triggers": [gone] } });
    broken(
        cluster,
        "scaled-object-not-ready",
        "TriggerError",
        &|| patch(cluster, "scaledobjects.keda.sh", "so", &case.namespace, &bad),
        &|| patch(cluster, "scaledobjects.keda.sh", "so", &case.namespace, &good),
    );
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=60s"]);
}

#[test]
fn doctor_names_the_cause_of_each_broken_set_up() {
    let (cluster, _turn) = exclusive(Exclusive::Others);
    cluster.install();
    let restore = || cluster.install();
    let api = |change: Value| patch(cluster, "apiservice", APISERVICE, "hpalite", &change);
    let delete = |arguments: &[&str]| drop(cluster.kubectl(&[&["delete"], arguments].concat()));

    broken(cluster, "apiservice-missing", APISERVICE, &|| delete(&["apiservice", APISERVICE]), &restore);
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
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "by-hand", "namespace": "hpalite", "labels": { "kubernetes.io/service-name": "hpalite" } },
        "endpoints": [{ "addresses": ["192.0.2.1"], "conditions": { "ready": true } }], "ports": [],
    });
    let ready = || cluster.apply(&slice.to_string());
    let unready = || delete(&["endpointslice", "by-hand", "-n", "hpalite"]);
    ready();
    broken(cluster, "service-no-endpoints", "no ready endpoint", &unready, &ready);
    unready();
    let crd = "clustertriggerauthentications.keda.sh";
    broken(cluster, "crd-missing", crd, &|| delete(&["crd", crd, "--timeout=60s"]), &restore);
    let old = json!([{ "op": "remove", "path": "/spec/versions/0/subresources" }]);
    broken(cluster, "crd-outdated", "no status subresource", &|| patch(cluster, "crd", crd, "", &old), &restore);
    for (kind, name, words) in [
        ("clusterrolebinding", "hpalite", "it may not patch scaledobjects/status.keda.sh"),
        ("clusterrolebinding", "hpalite:system:auth-delegator", "it may not create tokenreviews"),
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
