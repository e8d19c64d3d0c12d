//! Compares the chart with the base, and installs, upgrades and uninstalls it on a real API server.

use serde_json::Value;

use super::{Objects, foreign_kinds, fresh, kustomize, objects, read, run};
use crate::e2e::migration::{route_to_keda, takeover};
use crate::e2e::{Exclusive, exclusive};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, cluster, path, wait_for};

/// The tag, which is a default in the base and must be given to the chart.
const LIKE_THE_BASE: [&str; 2] = ["--set", "image.tag=latest"];

fn template(cluster: &Cluster, arguments: &[&str]) -> Result<String, String> {
    let chart = path("k8s/chart");
    // Without a server helm assumes the version of its own build.
    let fixed = ["template", "hpalite", &chart, "--namespace", "hpalite", "--kube-version", "1.33.0"];
    run(cluster, "helm", &[&fixed, arguments].concat(), "")
}

/// Runs helm in the namespace of the release; returns the output.
fn helm(cluster: &Cluster, arguments: &[&str]) -> String {
    run(cluster, "helm", &[arguments, &["--namespace", "hpalite"]].concat(), "")
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn rendered(cluster: &Cluster, arguments: &[&str]) -> Objects {
    objects(&template(cluster, arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}")))
}

/// Removes the intended differences: helm's labels, and that CRDs outlive the release.
fn without_labels(mut all: Objects) -> Objects {
    for object in all.values_mut() {
        let metadata = object["metadata"].as_object_mut().unwrap();
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| !key.starts_with("app.kubernetes.io/") && !key.starts_with("helm.sh/"));
            if labels.is_empty() {
                metadata.remove("labels");
            }
        }
    }
    all
}

fn assert_equal(chart: &Objects, kustomize: &Objects) {
    assert_eq!(chart.keys().collect::<Vec<_>>(), kustomize.keys().collect::<Vec<_>>());
    for (name, object) in chart {
        assert_eq!(object, &kustomize[name], "{name:?}");
    }
}

#[test]
fn the_chart_renders_what_the_base_has() {
    let cluster = cluster();
    let chart = rendered(cluster, &[&LIKE_THE_BASE[..], &["--set", "crds.install=false"]].concat());
    let mut base = objects(&kustomize(cluster, "k8s/base"));
    // helm's --create-namespace creates it.
    assert!(base.remove(&("Namespace".into(), String::new(), "hpalite".into())).is_some());
    assert_equal(&without_labels(chart), &without_labels(base));
}

#[test]
fn values_render_what_the_overlays_have() {
    let cluster = cluster();
    let host = "useHostNetwork=true,service.portHttpsTarget=16443,prometheus.port=18080";
    for (overlay, values) in [
        ("persistent", "persistence.enabled=true"),
        ("namespaced", "watchNamespace=default"),
        ("host-network", host),
        ("cert-manager", "certificates.certManager.enabled=true"),
    ] {
        let arguments = [&LIKE_THE_BASE[..], &["--set", "crds.install=false", "--set", values]].concat();
        let mut wanted = objects(&kustomize(cluster, &format!("k8s/overlays/{overlay}")));
        wanted.remove(&("Namespace".into(), String::new(), "hpalite".into()));
        assert_equal(&without_labels(rendered(cluster, &arguments)), &without_labels(wanted));
    }
}

#[test]
fn the_chart_carries_the_crds_and_keeps_them() {
    let cluster = cluster();
    let mut chart = rendered(cluster, &["--set", "crds.kedaV1=true"]);
    chart.retain(|(kind, ..), _| kind == "CustomResourceDefinition");
    for object in chart.values_mut() {
        let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
        assert_eq!(annotations.remove("helm.sh/resource-policy"), Some("keep".into()));
        if annotations.is_empty() {
            object["metadata"].as_object_mut().unwrap().remove("annotations");
        }
    }
    let mut wanted = objects(&kustomize(cluster, "k8s/crds"));
    wanted.append(&mut objects(&kustomize(cluster, "k8s/crds/keda-v1")));
    assert_equal(&chart, &wanted);
}

#[test]
fn the_packed_chart_holds_files_and_no_links() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().display().to_string();
    run(cluster(), "helm", &["package", &path("k8s/chart"), "--destination", &target], "").unwrap();
    let listing = std::process::Command::new("tar")
        .args(["-tvzf", &format!("{target}/hpalite-{}.tgz", hpalite::daemon::VERSION)])
        .output()
        .unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let crd = listing.lines().find(|line| line.contains("files/crds/scaledobjects.keda.sh.yaml")).expect("the CRD");
    assert!(crd.starts_with('-'), "{crd}");
}

#[test]
fn the_chart_has_the_versions_of_the_crate() {
    let chart: Value = serde_saphyr::from_str(&read("k8s/chart/Chart.yaml")).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
}

#[test]
fn a_shadow_is_the_daemon_with_one_more_flag() {
    let arguments = |values: &[&str]| {
        let set = rendered(cluster(), values).into_iter().find(|((kind, ..), _)| kind == "StatefulSet").unwrap().1;
        let all = set["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap().clone();
        all.iter().map(|one| one.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut plain = arguments(&[]);
    plain.push("--shadow".to_owned());
    assert_eq!(arguments(&["--set", "shadow=true"]), plain);
}

/// A release with the rules of the overlay has its objects; without rules there are none of them.
#[test]
fn rules_of_prometheus_adapter_switch_their_objects_on() {
    let cluster = cluster();
    let mut wanted = objects(&kustomize(cluster, "k8s/overlays/prometheus-adapter"));
    wanted.remove(&("Namespace".into(), String::new(), "hpalite".into()));
    let key = ("ConfigMap".to_owned(), "hpalite".to_owned(), "hpalite-adapter".to_owned());
    let rules =
        |object: &Value| -> Value { serde_saphyr::from_str(object["data"]["config.yaml"].as_str().unwrap()).unwrap() };
    let theirs = rules(&wanted[&key]);
    let list = format!("adapter.rules={}", theirs["rules"]);
    let server = "adapter.prometheusServer=http://prometheus.monitoring:9090";
    let arguments =
        [&LIKE_THE_BASE[..], &["--set", "crds.install=false", "--set", server, "--set-json", &list]].concat();
    let mut chart = rendered(cluster, &arguments);
    assert_eq!(rules(&chart[&key]), theirs);
    wanted.get_mut(&key).unwrap()["data"] = Value::Null;
    chart.get_mut(&key).unwrap()["data"] = Value::Null;
    assert_equal(&without_labels(chart), &without_labels(wanted));
    // With a ConfigMap of the user's own there is none of ours.
    let existing = rendered(cluster, &["--set", "adapter.existing=theirs"]);
    assert!(!existing.keys().any(|(kind, ..)| kind == "ConfigMap"));
    assert!(existing.keys().any(|(.., name)| name == "v1beta2.custom.metrics.k8s.io"));
    let none = rendered(cluster, &[]);
    assert!(!none.keys().any(|(.., name)| name.contains("custom-metrics") || name.contains("custom.metrics")));
}

#[test]
fn bad_values_are_refused_by_name() {
    for (value, words) in [
        ("prometheus.port=0", "/prometheus/port"),
        ("service.portHttpsTarget=70000", "/service/portHttpsTarget"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("certificates.certManager.duration=soon", "/certificates/certManager/duration"),
        ("watchNamespace=Shop", "/watchNamespace"),
        ("terminationGracePeriodSeconds=5", "/terminationGracePeriodSeconds"),
        ("rbac.scaledRefKinds[0].kind=rollouts", "missing property 'apiGroup'"),
        ("shadow=perhaps", "/shadow"),
        ("adapter.prometheusServer=prometheus:9090", "/adapter/prometheusServer"),
        ("adapter.metricsRelistInterval=soon", "/adapter/metricsRelistInterval"),
        ("replicas=3", "additional properties 'replicas' not allowed"),
    ] {
        let refused = template(cluster(), &["--set", value]).expect_err(value);
        assert!(refused.contains(words), "{value}: {refused}");
    }
}

#[test]
fn every_choice_is_accepted_by_the_api_server() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    foreign_kinds(cluster);
    fresh(cluster);
    for values in [
        "crds.kedaV1=true",
        "watchNamespace=default\\,hpalite",
        "permissions.restrict.secret=true,permissions.restrict.namesAllowList={a,b}",
        "certificates.certManager.enabled=true,persistence.enabled=true,persistence.storageClass=local",
        "prometheus.serviceMonitor.enabled=true,prometheus.podMonitor.enabled=true,prometheus.prometheusRules.enabled=true",
        "rbac.scaledRefKinds[0].apiGroup=argoproj.io,rbac.scaledRefKinds[0].kind=rollouts,serviceAccount.create=false",
        "extraArgs={--poll-threads=4},env[0].name=HTTPS_PROXY,env[0].value=http://proxy:3128,logging.level=debug",
        "shadow=true,apiService.create=false",
        "adapter.existing=rules,adapter.metricsRelistInterval=1m,certificates.certManager.enabled=true",
        "nodeSelector.disk=ssd,tolerations[0].operator=Exists,podAnnotations.a=b,podLabels.c=d,priorityClassName=",
    ] {
        let text = template(cluster, &["--set", values]).unwrap_or_else(|error| panic!("{values}: {error}"));
        let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
        cluster.kubectl_with(&apply, &text).unwrap_or_else(|error| panic!("{values}: {error}"));
    }
    cluster.install();
}

#[test]
fn a_release_is_installed_upgraded_and_uninstalled_and_the_crds_stay() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    let helm = |arguments: &[&str]| helm(cluster, arguments);
    let chart = path("k8s/chart");
    // Installed over `kubectl apply`, as by a user who changes to helm; the set's claim template cannot be changed.
    fresh(cluster);
    let notes = helm(&["install", "hpalite", &chart, "--take-ownership"]);
    assert!(notes.contains("hpalite uninstall --service hpalite.hpalite"), "{notes}");
    let argument = |index: usize| {
        let set = cluster.get("statefulset", "hpalite", "hpalite").expect("the StatefulSet");
        set["spec"]["template"]["spec"]["containers"][0]["args"][index].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(argument(2), "--listen=[::]:6443");
    helm(&[
        "upgrade",
        "hpalite",
        &chart,
        "--set",
        "service.portHttpsTarget=7443",
        "--set",
        "crds.additionalAnnotations.team=a",
    ]);
    assert_eq!(argument(2), "--listen=[::]:7443");
    let crd = ["get", "crd", "scaledobjects.keda.sh", "-o", "jsonpath={.metadata.annotations.team}"];
    assert_eq!(cluster.kubectl(&crd), "a", "an upgrade reaches the CRDs");
    cluster.apply(
        r#"{"apiVersion":"keda.sh/v1alpha1","kind":"TriggerAuthentication","metadata":{"name":"kept","namespace":"default"},"spec":{}}"#,
    );
    helm(&["uninstall", "hpalite", "--wait", "--timeout", "60s"]);
    wait_for("the APIService to be gone", || cluster.get("apiservice", "", APISERVICE).is_none().then_some(()));
    assert!(cluster.get("triggerauthentication", "default", "kept").is_some(), "the CRDs and their objects stay");
    assert!(cluster.get("statefulset", "hpalite", "hpalite").is_none());
    // For later tests.
    cluster.install();
}

#[test]
fn a_release_beside_keda_gets_the_apiservice_after_the_takeover() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    let helm = |arguments: &[&str]| helm(cluster, arguments);
    let chart = path("k8s/chart");
    fresh(cluster);
    route_to_keda(cluster);
    let notes = helm(&["install", "hpalite", &chart, "--set", "apiService.create=false", "--take-ownership"]);
    assert!(notes.contains("hpalite takeover --service hpalite.hpalite"), "{notes}");
    let service = || cluster.get("apiservice", "", APISERVICE).unwrap()["spec"]["service"]["name"].clone();
    assert_eq!(service(), "keda-operator-metrics-apiserver");
    let daemon = Daemon::start(cluster, &[]);
    daemon.route_service(cluster);
    takeover(cluster);
    assert_eq!(service(), "hpalite");
    drop(daemon);
    // Back to the chart's own.
    cluster.kubectl(&["delete", "service", "hpalite", "-n", "hpalite"]);
    helm(&["upgrade", "hpalite", &chart, "--set", "apiService.create=true"]);
    helm(&["uninstall", "hpalite", "--wait", "--timeout", "60s"]);
    wait_for("the APIService to go with the release", || {
        cluster.get("apiservice", "", APISERVICE).is_none().then_some(())
    });
    cluster.install();
}
