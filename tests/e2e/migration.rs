//! `hpalite takeover` and `hpalite uninstall` on a cluster with KEDA's objects.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::adapter::hpa;
use super::annotated::wait_for_replicas;
use super::case::{Case, Source};
use super::second::{CUSTOM, Second, WithoutSecond, spec};
use super::takeover::{apply_as_keda, leave_as_keda};
use super::{Exclusive, exclusive};
use crate::prometheus::tls::Authority;
use crate::support::cluster::{APISERVICE, Cluster, Daemon, bounded, path, wait_for, wait_seeing};

/// Restores the cluster for other tests, even after a failure.
pub(crate) struct Reinstalled<'a>(pub(crate) &'a Cluster);

impl Drop for Reinstalled<'_> {
    fn drop(&mut self) {
        // A second panic during a failing test would abort. No namespace goes while an APIService has nobody behind it.
        let _ = self.0.try_kubectl(&["delete", "apiservice", APISERVICE, "--ignore-not-found"]);
        let _ = self.0.try_kubectl(&["delete", "namespace", "keda", "--ignore-not-found", "--timeout=170s"]);
        let _ = self.0.try_kubectl(&["delete", "service", "hpalite", "-n", "hpalite", "--ignore-not-found"]);
        for folder in ["k8s/crds", "k8s/crds/keda-v1", "k8s/base"] {
            let _ = self.0.try_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &path(folder)]);
        }
    }
}

fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = bounded(env!("CARGO_BIN_EXE_hpalite"));
    command.args(arguments).args(["--kubeconfig", cluster.env("KUBECONFIG")]);
    command
}

/// Returns the exit code and the output, with stderr after stdout.
fn run(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(cluster, arguments).output().expect("hpalite can be run");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

pub(crate) fn done(cluster: &Cluster, arguments: &[&str]) -> String {
    let (code, text) = run(cluster, arguments);
    // The objects on which the decision was based.
    let seen = || cluster.try_kubectl(&["get", "lease,service,endpointslice,pod", "-n", "hpalite", "-o", "json"]);
    assert_eq!(code, Some(0), "{text}\n{}", seen().unwrap_or_else(|error| error));
    text
}

pub(crate) fn takeover(cluster: &Cluster) -> String {
    done(cluster, &["takeover"])
}

pub(crate) fn refused(cluster: &Cluster, arguments: &[&str], words: &str) -> String {
    let (code, text) = run(cluster, arguments);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(words), "{text}");
    text
}

fn apiservice_spec(cluster: &Cluster) -> Option<Value> {
    cluster.get("apiservice", "", APISERVICE).map(|found| found["spec"].clone())
}

fn crds(cluster: &Cluster) -> String {
    cluster.kubectl(&["get", "crds", "-o", "name"])
}

/// Creates the APIService as KEDA does.
pub(crate) fn route_to_keda(cluster: &Cluster) -> Value {
    cluster.kubectl(&["delete", "apiservice", APISERVICE, "--ignore-not-found"]);
    let apiservice = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": APISERVICE, "labels": { "app.kubernetes.io/part-of": "keda-operator" } },
        "spec": {
            "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true,
            "service": { "name": "keda-operator-metrics-apiserver", "namespace": "keda", "port": 443 },
        },
    });
    apply_as_keda(cluster, &apiservice, &[]);
    apiservice_spec(cluster).unwrap()
}

#[test]
fn the_metrics_api_is_taken_over_from_keda_and_no_replica_moves() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    let case = Case::within(cluster, "moving-in").deployment(7);
    let source = Source::new(65.0);
    leave_as_keda(&case, &source);
    let before = route_to_keda(cluster);
    cluster.kubectl(&["create", "namespace", "keda"]);
    cluster.deployment("keda", "keda-operator", 1);
    let generation = case.get("deployment", "api").unwrap()["metadata"]["generation"].clone();

    let daemon = Daemon::start(cluster, &["--namespace", &case.namespace]);
    daemon.route_service(cluster);
    refused(cluster, &["takeover"], "KEDA runs too, in namespace keda");
    assert_eq!(apiservice_spec(cluster).as_ref(), Some(&before));
    cluster.deployment("keda", "keda-operator", 0);
    wait_for("KEDA's pods to be gone", || {
        (cluster.get("deployment", "keda", "keda-operator")?["status"]["replicas"].as_i64().unwrap_or(0) == 0)
            .then_some(())
    });
    let text = done(cluster, &["takeover", "--dry-run"]);
    assert!(text.contains("would point APIService") && text.contains("keda/keda-operator-metrics-apiserver"), "{text}");
    assert_eq!(apiservice_spec(cluster).as_ref(), Some(&before));

    let text = takeover(cluster);
    assert!(text.contains("metrics are read from hpalite"), "{text}");
    let spec = apiservice_spec(cluster).unwrap();
    assert_eq!((&spec["service"]["name"], &spec["insecureSkipTLSVerify"]), (&json!("hpalite"), &Value::Null));
    assert!(spec["caBundle"].is_string());
    assert!(takeover(cluster).contains("already"), "a second time is no harm");

    case.wait_for_hpa_condition("True", "");
    source.asked(4);
    assert_eq!(case.get("deployment", "api").unwrap()["metadata"]["generation"], generation, "no replica moved");
    source.set(90.0);
    case.wait_for_replicas(9);
}

#[test]
fn what_was_there_is_put_back_if_nobody_serves() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    // The Service leads to a port on which nothing listens.
    drop(Daemon::serve(cluster, &[]));
    cluster.kubectl(&["delete", "lease", "hpalite", "-n", "hpalite"]);
    let before = route_to_keda(cluster);
    refused(cluster, &["takeover"], "no instance holds the Lease hpalite/hpalite");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "hpalite", "namespace": "hpalite" },
        "spec": { "holderIdentity": "somebody", "leaseDurationSeconds": 15 },
    });
    cluster.apply(&lease.to_string());
    refused(cluster, &["takeover", "--timeout", "2"], "the APIService is as it was before");
    assert_eq!(apiservice_spec(cluster).as_ref(), Some(&before));
    cluster.kubectl(&["delete", "apiservice", APISERVICE]);
    refused(cluster, &["takeover", "--timeout", "2"], "the APIService was removed again");
    assert_eq!(apiservice_spec(cluster), None);
    refused(cluster, &["takeover", "--service", "other.hpalite"], "there is no Service hpalite/other");
    cluster.kubectl(&["delete", "lease", "hpalite", "-n", "hpalite"]);
}

#[test]
fn metrics_of_objects_that_only_the_other_adapter_has_stay_with_it() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    let case = Case::within(cluster, "staying");
    cluster.deployment(&case.namespace, "front", 1);
    let second = Second::start(&Authority::new());
    let _gone = WithoutSecond(cluster, "second-of-objects");
    second.install(cluster, "second-of-objects");
    let before = CUSTOM.map(|name| second.register(cluster, "second-of-objects", name));
    let object = json!({ "apiVersion": "v1", "kind": "Service", "name": "front" });
    hpa(
        &case,
        "front",
        json!({ "type": "Object", "object": {
        "metric": { "name": "backlog" }, "target": { "type": "AverageValue", "averageValue": "10" },
        "describedObject": object,
    } }),
    );
    wait_for_replicas(&case, "front", 3);
    let generation = || case.get("deployment", "front").unwrap()["metadata"]["generation"].clone();
    let moved = generation();

    // hpalite answers, but nothing that this HPA reads.
    let rights = path("k8s/overlays/custom-metrics/rbac.yaml");
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &rights]);
    let daemon = Daemon::start(cluster, &["--namespace", &case.namespace, "--custom-metrics"]);
    daemon.route_service(cluster);
    let lost = format!("HPA {}/front, metric backlog: ", case.namespace);
    let text = refused(cluster, &["takeover", "--metrics", "custom", "--timeout", "30"], &lost);
    for words in [
        "1 of 1 metrics of HPAs can be read now",
        &format!("point APIService {} to Service hpalite/hpalite", CUSTOM[0]),
        "no HPA asks for the metric backlog",
        "the APIService is as it was before",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains(CUSTOM[1]), "the version that HPAs read was not touched: {text}");
    assert_eq!(CUSTOM.map(|name| spec(cluster, name)), before);
    let path = format!("/apis/custom.metrics.k8s.io/v1beta1/namespaces/{}/services/front/backlog", case.namespace);
    wait_seeing("the metric to be read from the other adapter again", || cluster.raw(&path));
    assert_eq!(generation(), moved, "no replica moved");
}

#[test]
fn uninstalling_leaves_nothing_that_hangs() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    let case = Case::within(cluster, "moving-out");
    let source = Source::new(45.0);
    let daemon = Daemon::serve(cluster, &[]);
    for name in ["api", "restored"] {
        cluster.deployment(&case.namespace, name, 2);
    }
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    let advanced = json!({ "restoreToOriginalReplicaCount": true });
    let target = json!({ "name": "restored" });
    case.scale("back", json!({ "scaleTargetRef": target, "advanced": advanced, "triggers": [source.trigger("10")] }));
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "t", "namespace": case.namespace, "finalizers": ["finalizer.keda.sh"] }, "spec": {},
    }));
    for name in ["api", "restored"] {
        wait_for("5 replicas", || (cluster.replicas(&case.namespace, name)? == 5).then_some(()));
    }

    let before = (apiservice_spec(cluster), case.object("so")["metadata"]["resourceVersion"].clone(), crds(cluster));
    // Earlier tests may have left some of theirs.
    let counted = |kinds: &str| cluster.kubectl(&["get", kinds, "-A", "-o", "name"]).lines().count();
    let (objects, authentications) = (
        counted("scaledobjects.keda.sh"),
        counted("triggerauthentications.keda.sh,clustertriggerauthentications.keda.sh"),
    );
    assert!(objects >= 2 && authentications >= 1);
    let words =
        format!("{objects} ScaledObjects with their HPAs, and {authentications} (Cluster)TriggerAuthentications");
    refused(cluster, &["uninstall"], &words);
    let text = done(cluster, &["uninstall", "--delete-scaledobjects", "--dry-run"]);
    for words in ["would delete APIService", "would delete ScaledObject", "would delete CustomResourceDefinition"] {
        assert!(text.contains(words), "{text}");
    }
    let after = (apiservice_spec(cluster), case.object("so")["metadata"]["resourceVersion"].clone(), crds(cluster));
    assert_eq!(after, before, "a dry run changes nothing");

    let text = done(cluster, &["uninstall", "--delete-scaledobjects"]);
    assert!(text.contains(&format!("delete ScaledObject {}/so", case.namespace)), "{text}");
    assert_eq!(apiservice_spec(cluster), None);
    assert!(!crds(cluster).contains(".keda."));
    assert_eq!(cluster.replicas(&case.namespace, "api"), Some(5), "nothing asked for another count");
    assert_eq!(cluster.replicas(&case.namespace, "restored"), Some(2), "the original count was asked for");
    drop(daemon);
    cluster.kubectl(&["delete", "namespace", &case.namespace, "--timeout=170s"]);
    assert!(done(cluster, &["uninstall"]).contains("does not exist"), "a second time is no harm");
}

#[test]
fn authentications_do_not_go_unasked_either() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    cluster.apply(
        r#"{"apiVersion":"keda.sh/v1alpha1","kind":"ClusterTriggerAuthentication","metadata":{"name":"alone"},"spec":{}}"#,
    );
    refused(cluster, &["uninstall"], "(Cluster)TriggerAuthentications, would go with the CRDs");
    assert!(crds(cluster).contains("clustertriggerauthentications.keda.sh"));
    cluster.kubectl(&["delete", "clustertriggerauthentication", "alone"]);
}

#[test]
fn uninstalling_does_without_an_instance() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    let case = Case::within(cluster, "moving-out-dead");
    let source = Source::new(45.0);
    let short = ["--leader-elect-lease-duration", "4s", "--leader-elect-renew-deadline", "3s"];
    let daemon = Daemon::serve(cluster, &[&short[..], &["--leader-elect-retry-period", "1s"]].concat());
    cluster.deployment(&case.namespace, "api", 1);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(5);
    // Its Lease is left as if it were still running.
    daemon.kill();
    let text = done(cluster, &["uninstall", "--delete-scaledobjects"]);
    assert!(text.contains(&format!("remove the finalizer of ScaledObject {}/so", case.namespace)), "{text}");
    assert!(!crds(cluster).contains(".keda."));
    assert_eq!(case.replicas(), 5);
    // The next daemon need not wait for it.
    cluster.kubectl(&["delete", "lease", "hpalite", "-n", "hpalite"]);
}

#[test]
fn the_way_back_to_keda_leaves_objects_as_keda_had_them() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    let _after = Reinstalled(cluster);
    cluster.install();
    let case = Case::within(cluster, "moving-back").deployment(7);
    let source = Source::new(65.0);
    leave_as_keda(&case, &source);
    let (hpa, object) = (case.hpa().unwrap(), case.object("so"));
    let daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    case.wait_for_hpa_condition("True", "");
    source.asked(4);
    // It leads to the daemon of this test, and selects what would be its pod in a real cluster.
    let selector = r#"{"spec":{"selector":{"app.kubernetes.io/name":"hpalite"}}}"#;
    cluster.kubectl(&["patch", "service", "hpalite", "-n", "hpalite", "-p", selector]);

    let mut child = command(cluster, &["uninstall", "--keep-crds"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("scale StatefulSet hpalite/hpalite to 0") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "no workload was stopped");
    }
    // As the kubelet does.
    drop(daemon);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert!(rest.contains(&format!("remove the finalizer of ScaledObject {}/so", case.namespace)), "{rest}");

    assert_eq!(apiservice_spec(cluster), None);
    assert!(crds(cluster).contains("scaledobjects.keda.sh"));
    assert_eq!(case.replicas(), 7);
    let (hpa_after, object_after) = (case.hpa().unwrap(), case.object("so"));
    assert_eq!(hpa_after["metadata"]["uid"], hpa["metadata"]["uid"]);
    assert_eq!(hpa_after["spec"], hpa["spec"]);
    assert_eq!(hpa_after["metadata"]["ownerReferences"], hpa["metadata"]["ownerReferences"]);
    assert_eq!(object_after["metadata"]["finalizers"], Value::Null);
    for part in ["labels", "annotations", "generation"] {
        assert_eq!(object_after["metadata"][part], object["metadata"][part], "{part}");
    }
    for part in [
        "hpaName",
        "originalReplicaCount",
        "scaleTargetGVKR",
        "scaleTargetKind",
        "externalMetricNames",
        "triggersTypes",
        "triggersActivity",
    ] {
        assert_eq!(object_after["status"][part], object["status"][part], "{part}");
    }
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=30s"]);
}
