//! Compares the chart with the base, and installs, upgrades and uninstalls it on a real API server.

use serde_json::Value;

use super::{Objects, foreign_kinds, fresh, kustomize, objects, read, run};
use crate::e2e::migration::{route_to_keda, takeover};
use crate::e2e::{Exclusive, exclusive};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, cluster, path, wait_for};

/// All values of KEDA's chart 2.20.2 with their defaults.
const KEDA_VALUES: &str = "tests/fixtures/keda-values.json";

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

/// Values in KEDA's form, one of each that has a meaning.
const KEDA_LIKE: &str = r#"
additionalAnnotations: {team: a}
customManagedBy: argo
podAnnotations: {keda: {p: q}, webhooks: {w: w}}
podLabels: {keda: {l: q}}
serviceAccount: {operator: {create: true, name: keda-operator, annotations: {own: "1"}, automountServiceAccountToken: false}}
podIdentity: {azureWorkload: {enabled: true, clientId: c, tenantId: t}, aws: {irsa: {enabled: true, roleArn: r}}, gcp: {enabled: true, gcpIAMServiceAccount: g}}
hashiCorpVaultTLS: vault-ca
logging: {operator: {level: 1, format: json, timeEncoding: epoch}}
securityContext: {operator: {privileged: false}}
resources: {operator: {limits: {memory: 1Gi}}}
operator: {dnsPolicy: None, nodeSelector: {a: b}, tolerations: [{operator: Exists}], extraContainers: [{name: side, image: x}], extraInitContainers: [{name: first, image: x}], revisionHistoryLimit: 3, livenessProbe: {periodSeconds: 7}}
metricsServer: {useHostNetwork: true}
topologySpreadConstraints: {operator: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {}}]}
hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]
http: {timeout: 5000, minTlsVersion: TLS13, keepAlive: {enabled: false}}
service: {minTlsVersion: TLS13, annotations: {s: t}}
extraArgs: {keda: {leader-elect: false, zap-devel: true}}
volumes: {keda: {extraVolumes: [{name: v, emptyDir: {}}], extraVolumeMounts: [{name: v, mountPath: /v}]}}
prometheus:
  operator:
    enabled: true
    port: 9090
    serviceMonitor: {enabled: true, interval: 7s, relabellings: [{action: labeldrop, regex: pod}], jobLabel: j, namespace: default}
    prometheusRules: {enabled: true, alerts: [{alert: A, expr: up}]}
  metricServer: {enabled: true, podMonitor: {enabled: true, interval: 9s, metricRelabelings: [{action: drop}]}}
certificates:
  certManager: {enabled: true, generateCA: false, caSecretName: mine, secretTemplate: {labels: {a: b}}, issuer: {generate: true}}
  operator: {caDirs: [/a]}
clusterDomain: cluster.local
permissions:
  operator: {restrict: {secret: true, namesAllowList: [s1], serviceAccountTokenCreationRoles: [{name: reader, namespace: default}]}}
podDisruptionBudget: {operator: {maxUnavailable: 1}}
extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Release.Name }}-extra", namespace: hpalite}}]
enableServiceLinks: false
watchLabelSelector: team=shop
watchLabelSelectorForTriggerauth: "!private"
global: {image: {registry: mirror.local}, dnsConfig: {nameservers: [10.0.0.10]}}
rbac: {aggregateToDefaultRoles: false, scaledRefKinds: [{apiGroup: argoproj.io, kind: rollouts}, {apiGroup: "*", kind: "*"}]}
"#;

fn with_values(cluster: &Cluster, values: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    template(cluster, &["--values", file.to_str().unwrap()])
}

#[test]
fn values_in_kedas_form_mean_the_one_pod() {
    let all = objects(&with_values(cluster(), KEDA_LIKE).unwrap());
    let of = |kind: &str, name: &str| {
        let found = all.iter().find(|((k, _, n), _)| k == kind && n == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}")).1
    };
    let set = of("StatefulSet", "hpalite");
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let arguments = container["args"].to_string();
    for flag in [
        "--log-format=json",
        "--log-time-encoding=epoch",
        "--ca-dir=/a",
        "--ca-dir=/hashicorp-vaultcerts",
        "--instance-metadata",
        "--leader-elect=false",
        "--http=[::]:9090",
        "--tls-cert-file=/certs/tls.crt",
        "--ui=",
    ] {
        assert!(arguments.contains(&format!("\"{flag}\"")), "{flag}: {arguments}");
    }
    assert!(!arguments.contains("zap-devel"), "{arguments}");
    let variables: Vec<(&str, &str)> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)))
        .collect();
    let wanted = [
        ("WATCH_NAMESPACE", ""),
        ("KEDA_RESTRICT_SECRET_ACCESS", "true"),
        ("RUST_LOG", "debug"),
        ("WATCH_LABEL_SELECTOR", "team=shop"),
        ("WATCH_LABEL_SELECTOR_FOR_TRIGGERAUTH", "!private"),
        ("KEDA_HTTP_DEFAULT_TIMEOUT", "5000"),
        ("KEDA_HTTP_MIN_TLS_VERSION", "TLS13"),
        ("KEDA_HTTP_DISABLE_KEEP_ALIVE", "true"),
        ("KEDA_SERVICE_MIN_TLS_VERSION", "TLS13"),
    ];
    assert_eq!(variables, wanted);
    let account = &of("ServiceAccount", "keda-operator")["metadata"];
    let monitor = of("ServiceMonitor", "hpalite");
    let rows: [(&Value, &str, Value); 32] = [
        (set, "/spec/revisionHistoryLimit", 3.into()),
        (set, "/metadata/annotations/team", "a".into()),
        (set, "/metadata/labels/app.kubernetes.io~1managed-by", "argo".into()),
        (set, "/spec/template/metadata/annotations/p", "q".into()),
        (set, "/spec/template/metadata/annotations/team", "a".into()),
        (set, "/spec/template/metadata/labels/l", "q".into()),
        (set, "/spec/template/metadata/labels/azure.workload.identity~1use", "true".into()),
        (pod, "/automountServiceAccountToken", false.into()),
        (pod, "/enableServiceLinks", false.into()),
        (pod, "/hostNetwork", true.into()),
        (pod, "/dnsPolicy", "None".into()),
        (pod, "/dnsConfig/nameservers/0", "10.0.0.10".into()),
        (pod, "/hostAliases/0/ip", "10.0.0.1".into()),
        (pod, "/initContainers/0/name", "first".into()),
        (pod, "/containers/1/name", "side".into()),
        (pod, "/nodeSelector/iam.gke.io~1gke-metadata-server-enabled", "true".into()),
        (pod, "/tolerations/0/operator", "Exists".into()),
        (pod, "/topologySpreadConstraints/0/topologyKey", "zone".into()),
        (container, "/image", format!("mirror.local/hpalite:{}", env!("CARGO_PKG_VERSION")).into()),
        (container, "/livenessProbe/periodSeconds", 7.into()),
        (container, "/livenessProbe/failureThreshold", 6.into()),
        (container, "/resources/limits/memory", "1Gi".into()),
        (container, "/resources/requests/cpu", "20m".into()),
        (container, "/securityContext/privileged", false.into()),
        (container, "/securityContext/readOnlyRootFilesystem", true.into()),
        (account, "/annotations/azure.workload.identity~1client-id", "c".into()),
        (account, "/annotations/eks.amazonaws.com~1role-arn", "r".into()),
        (account, "/annotations/iam.gke.io~1gcp-service-account", "g".into()),
        (account, "/annotations/own", "1".into()),
        (monitor, "/spec/endpoints/0/relabelings/0/regex", "pod".into()),
        (monitor, "/spec/namespaceSelector/matchNames/0", "hpalite".into()),
        (of("PodMonitor", "hpalite"), "/spec/podMetricsEndpoints/0/interval", "9s".into()),
    ];
    for (object, pointer, wanted) in rows {
        assert_eq!(object.pointer(pointer), Some(&wanted), "{pointer} of {object:#}");
    }
    let mounts = container["volumeMounts"].to_string();
    assert!(mounts.contains("/v\"") && mounts.contains("/hashicorp-vaultcerts"), "{mounts}");
    assert_eq!(of("PodDisruptionBudget", "hpalite")["spec"]["maxUnavailable"], 1);
    assert_eq!(of("Issuer", "hpalite-ca")["spec"]["ca"]["secretName"], "mine");
    assert_eq!(of("Certificate", "hpalite")["spec"]["dnsNames"][3], "hpalite.hpalite.svc.cluster.local");
    let ca = &of("APIService", APISERVICE)["metadata"]["annotations"]["cert-manager.io/inject-ca-from-secret"];
    assert_eq!(*ca, "hpalite/mine");
    assert_eq!(of("Role", "hpalite-token-creator-reader")["rules"][0]["resourceNames"][0], "reader");
    assert_eq!(of("Role", "hpalite-credentials")["rules"][0]["resourceNames"][0], "s1");
    of("ConfigMap", "hpalite-extra");
    // All Secrets are not to be had by a star.
    let kinds: Vec<&str> = of("ClusterRole", "hpalite-scaled-ref-kinds")["rules"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rule| rule["resources"][0].as_str())
        .collect();
    assert_eq!(kinds, ["rollouts", "rollouts/scale", "*/scale"]);
    let names = all.keys().map(|(.., name)| name.as_str()).collect::<Vec<_>>();
    assert!(!names.iter().any(|name| name.starts_with("keda:")), "{names:?}");
}

/// The paths of a value's leaves: of scalars, lists and empty maps.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// Every value of KEDA's chart has a row, and the chart takes those for unused of which the table says so.
#[test]
fn the_table_of_kedas_values_is_complete() {
    let document = read("k8s/keda.md");
    let (_, section) = document.split_once("| value of KEDA's chart | becomes |\n|---|---|\n").unwrap();
    let rows = section.lines().take_while(|line| line.starts_with("| "));
    let (mut listed, mut unused) = (Vec::new(), Vec::new());
    for row in rows {
        let (values, becomes) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        let values: Vec<String> = values.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if becomes.starts_with("nothing") {
            unused.extend(values.iter().cloned());
        }
        listed.extend(values);
    }
    let helpers = read("k8s/chart/templates/_helpers.tpl");
    let (_, list) = helpers.split_once("{{- define \"hpalite.unused\" -}}\n").unwrap();
    let mut named: Vec<&str> = list.lines().map_while(|line| line.strip_prefix("- ")).collect();
    named.sort_unstable();
    unused.sort_unstable();
    assert_eq!(named, unused);
    let mut all = Vec::new();
    leaves(&serde_json::from_str(&read(KEDA_VALUES)).unwrap(), "", &mut all);
    let is_listed = |leaf: &&String| {
        listed
            .iter()
            .any(|row| leaf.strip_prefix(row.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    let missing: Vec<&String> = all.iter().filter(|leaf| !is_listed(leaf)).collect();
    assert!(all.len() > 250 && missing.is_empty(), "{} values, without a row {missing:#?}", all.len());
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
    // Annotated HPAs need the APIServices without rules.
    let alone = [&LIKE_THE_BASE[..], &["--set", "crds.install=false", "--set", "customMetrics=true"]].concat();
    let mut wanted = objects(&kustomize(cluster, "k8s/overlays/custom-metrics"));
    wanted.remove(&("Namespace".into(), String::new(), "hpalite".into()));
    assert_equal(&without_labels(rendered(cluster, &alone)), &without_labels(wanted));
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
        ("http.timeout=soon", "/http/timeout"),
        ("http.minTlsVersion=TLS14", "/http/minTlsVersion"),
        ("logging.operator.format=xml", "/logging/operator/format"),
        ("operator.tolerations=none", "/operator/tolerations"),
        ("resources.operator.memory=1Gi", "/resources/operator"),
    ] {
        let refused = template(cluster(), &["--set", value]).expect_err(value);
        assert!(refused.contains(words), "{value}: {refused}");
    }
}

fn accepted(cluster: &Cluster, manifests: &str) {
    let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
    cluster.kubectl_with(&apply, manifests).unwrap_or_else(|error| panic!("{error}: {manifests}"));
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
        "rbac.aggregateToDefaultRoles=false,operator.hostUsers=false,podDisruptionBudget.minAvailable=1",
        "adapter.existing=rules,adapter.metricsRelistInterval=1m,certificates.certManager.enabled=true",
        "nodeSelector.disk=ssd,tolerations[0].operator=Exists,podAnnotations.a=b,podLabels.c=d,priorityClassName=",
    ] {
        let text = template(cluster, &["--set", values]).unwrap_or_else(|error| panic!("{values}: {error}"));
        accepted(cluster, &text);
    }
    let text = with_values(cluster, KEDA_LIKE).unwrap();
    accepted(cluster, &text);
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
    // Whoever comes from KEDA may bring its values, here all of KEDA's defaults but the account, which is the daemon's below.
    let values = path(KEDA_VALUES);
    let set = "apiService.create=false,crds.install=false,serviceAccount.operator.name=hpalite";
    let options = ["--values", &values, "--set", set, "--take-ownership"];
    let notes = helm(&[&["install", "hpalite", &chart], &options[..]].concat());
    assert!(notes.contains("hpalite takeover --service hpalite.hpalite"), "{notes}");
    for unused in ["image.keda", "operator.replicaCount", "webhooks", "rbac.scaledRefKinds[*], but for the scale"] {
        assert!(notes.contains(&format!("\n  {unused}")), "{unused} is not among {notes}");
    }
    assert!(!notes.contains("operator.tolerations"), "{notes}");
    let set = cluster.get("statefulset", "hpalite", "hpalite").expect("the StatefulSet");
    let limits = &set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits["memory"], "1000Mi", "{set}");
    let service = || cluster.get("apiservice", "", APISERVICE).unwrap()["spec"]["service"]["name"].clone();
    assert_eq!(service(), "keda-operator-metrics-apiserver");
    let daemon = Daemon::start(cluster, &[]);
    daemon.route_service(cluster);
    takeover(cluster);
    assert_eq!(service(), "hpalite");
    drop(daemon);
    // Back to the chart's own.
    cluster.kubectl(&["delete", "service", "hpalite", "-n", "hpalite"]);
    helm(&["upgrade", "hpalite", &chart, "--set", "apiService.create=true", "--take-ownership"]);
    helm(&["uninstall", "hpalite", "--wait", "--timeout", "60s"]);
    wait_for("the APIService to go with the release", || {
        cluster.get("apiservice", "", APISERVICE).is_none().then_some(())
    });
    cluster.install();
}
