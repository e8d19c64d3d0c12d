//! The overlays on a real API server.

use serde_json::json;

use super::{foreign_kinds, fresh, kustomize, objects};
use crate::e2e::case::{Case, Source};
use crate::e2e::{Exclusive, exclusive};
use crate::support::cluster::{APISERVICE, Daemon, wait_for};

#[test]
fn every_overlay_is_accepted_by_the_api_server() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    foreign_kinds(cluster);
    for folder in [
        "base",
        "overlays/persistent",
        "overlays/namespaced",
        "overlays/host-network",
        "overlays/cert-manager",
        "overlays/beside-keda",
        "overlays/custom-metrics",
        "overlays/prometheus-adapter",
    ] {
        fresh(cluster);
        let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
        let text = kustomize(cluster, &format!("k8s/{folder}"));
        cluster.kubectl_with(&apply, &text).unwrap_or_else(|error| panic!("{folder}: {error}"));
    }
    fresh(cluster);
    cluster.install();
}

#[test]
fn beside_keda_everything_but_the_apiservice_is_installed() {
    let base = objects(&kustomize(crate::support::cluster::cluster(), "k8s/base"));
    let beside = objects(&kustomize(crate::support::cluster::cluster(), "k8s/overlays/beside-keda"));
    let missing: Vec<_> = base.iter().filter(|(key, object)| beside.get(*key) != Some(*object)).collect();
    assert!(matches!(missing[..], [((kind, ..), _)] if kind == "APIService"), "{missing:?}");
    assert_eq!(beside.len(), base.len() - 1);
}

#[test]
fn nothing_in_the_namespaced_overlay_grants_namespaced_kinds_everywhere() {
    let text = kustomize(crate::support::cluster::cluster(), "k8s/overlays/namespaced");
    let bound: Vec<String> = objects(&text)
        .into_iter()
        .filter(|((kind, ..), _)| kind == "ClusterRoleBinding")
        .map(|(_, object)| object["roleRef"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(bound, ["hpalite-cluster", "hpalite-external-metrics-reader", "system:auth-delegator"]);
}

#[test]
fn with_roles_in_one_namespace_that_one_is_scaled() {
    let case = Case::exclusive(Exclusive::Others, "roles-only").deployment(0);
    let cluster = case.cluster;
    for role in ["hpalite", "hpalite-scale-targets"] {
        cluster.kubectl(&["delete", "clusterrolebinding", role]);
        let (role, account) = (format!("--clusterrole={role}"), "--serviceaccount=hpalite:hpalite");
        let name = role.trim_start_matches("--clusterrole=");
        cluster.kubectl(&["create", "rolebinding", name, &role, account, "-n", &case.namespace]);
    }
    let daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    let source = Source::new(25.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);
    let refused = daemon.metric(r#"hpalite_apiserver_requests_total{verb="list",code="403"}"#);
    assert_eq!(refused, None, "{}", daemon.log());
    fresh(cluster);
    cluster.install();
}

#[test]
fn a_certificate_from_files_leaves_the_ca_bundle_to_its_issuer() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let pki = cluster.env("CLUSTER_PKI").to_owned();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (key, request, certificate) = (file("tls.key"), file("csr"), file("tls.crt"));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=hpalite"];
    openssl(&[&["req", "-new", "-keyout", &key, "-out", &request], &curve[..]].concat());
    std::fs::write(file("ext"), "subjectAltName=DNS:hpalite.hpalite.svc\nextendedKeyUsage=serverAuth\n").unwrap();
    let (ca, ca_key, extensions) = (format!("{pki}/ca.crt"), format!("{pki}/ca.key"), file("ext"));
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-set_serial",
        "7",
        "-days",
        "2",
        "-extfile",
        &extensions,
        "-out",
        &certificate,
    ]);
    // As cert-manager's injector does.
    let ca =
        String::from_utf8(std::process::Command::new("base64").args(["-w0", &ca]).output().unwrap().stdout).unwrap();
    let patch = json!({ "spec": { "caBundle": ca } }).to_string();
    cluster.kubectl(&["patch", "apiservice", APISERVICE, "--type=merge", "--field-manager=cainjector", "-p", &patch]);
    let _daemon = Daemon::serve(cluster, &["--tls-cert-file", &certificate, "--tls-private-key-file", &key]);
    wait_for("the API to be read through the API server", || cluster.raw("/apis/external.metrics.k8s.io/v1beta1").ok());
    // In that time a daemon with its own certificate would have written its CA.
    let case = Case::within(cluster, "files").deployment(0);
    let source = Source::new(25.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);
    assert_eq!(cluster.get("apiservice", "", APISERVICE).unwrap()["spec"]["caBundle"], ca.as_str());
}
