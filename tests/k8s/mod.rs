//! What is installed: the chart, the overlays, the rights, the alerts. `tests/k8s/empty-root` tries the binary in an
//! empty root, for which it must be static.

mod chart;
mod monitoring;
mod overlays;
mod rights;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::cluster::{Cluster, path};

/// Objects by kind, namespace and name.
type Objects = BTreeMap<(String, String, String), Value>;

/// Runs a program of the control plane's assets as administrator; returns its output, or its error.
fn run(cluster: &Cluster, program: &str, arguments: &[&str], stdin: &str) -> Result<String, String> {
    let mut child = Command::new(format!("{}/{program}", cluster.env("ASSETS")))
        .args(arguments)
        .env("KUBECONFIG", cluster.env("KUBECONFIG"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = |object: Value| {
        let metadata = &object["metadata"];
        ((text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"])), object)
    };
    documents.into_iter().filter(|document| !document.is_null()).map(named).collect()
}

fn kustomize(cluster: &Cluster, folder: &str) -> String {
    cluster.kubectl(&["kustomize", &path(folder)])
}

/// CRDs that replace those of other projects and accept any fields: tests check that the objects are well-formed and
/// in the right place.
pub(crate) fn foreign_kinds(cluster: &Cluster) {
    for (group, version, kind, plural) in [
        ("cert-manager.io", "v1", "Issuer", "issuers"),
        ("cert-manager.io", "v1", "Certificate", "certificates"),
        ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
        ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
        ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
    ] {
        let definition = serde_json::json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.{group}") },
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
                "versions": [{ "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                } } }],
            },
        });
        cluster.apply(&definition.to_string());
        cluster.kubectl(&["wait", "--for=condition=Established", &format!("crd/{plural}.{group}"), "--timeout=170s"]);
    }
}

/// Removes what cannot be updated: other tests change the Service for their daemons, and the claim template of a
/// StatefulSet is immutable. `Cluster::install` restores both.
fn fresh(cluster: &Cluster) {
    cluster.kubectl(&["delete", "statefulset,service", "hpalite", "-n", "hpalite", "--ignore-not-found"]);
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}
