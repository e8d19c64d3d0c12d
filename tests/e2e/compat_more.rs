//! More cases of KEDA's users on the same control plane. The results of KEDA 2.20.2 are derived from its documented
//! behaviour, as changes to the results of a plain case.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::compat::{check, compat_cluster};
use super::differences::MORE;
use super::picture::Places;

const NAMESPACE: &str = "compat-more";
const READY: &str = "True ScaledObjectReady: ScaledObject is defined correctly and is ready for scaling";
const NOT_ACTIVE: &str = "False ScalerNotActive: Scaling is not performed because triggers are not active";
const DISABLED: &str = "True ScalingDisabled: scaling is disabled since the replica count of the target is zero";
const FALLBACK: &str = "True FallbackExists: At least one trigger is falling back on this scaled object";
const PAUSED: &str = "True ScaledObjectPaused: ScaledObject is paused";
const BROKEN_EVENT: &str = "events: Warning KEDAScalerFailed: prometheus query api returned error. status: 400";

/// A workload, a ScaledObject, and the results of KEDA.
struct Case {
    name: &'static str,
    kind: &'static str,
    /// Initial replicas of the workload; `None` if there is no workload.
    replicas: Option<u32>,
    labels: Value,
    annotations: Value,
    spec: Value,
    /// Another object that exists before.
    beside: Value,
    expected: Places,
}

fn trigger(query: &str) -> Value {
    json!({"type": "prometheus", "metadata": {"serverAddress": "__PROMETHEUS__", "query": query, "threshold": "75"}})
}

fn answer(metric: &str, value: &str) -> String {
    json!({
        "apiVersion": "external.metrics.k8s.io/v1beta1", "kind": "ExternalMetricValueList", "metadata": {},
        "items": [{"metricLabels": null, "metricName": metric, "value": value}],
    })
    .to_string()
}

fn failure(metric: &str) -> String {
    format!(
        "Error from server: rpc error: code = Unknown desc = error when getting metric values metric:{metric} encountered error"
    )
}

fn hpa_failure(case: &str, metric: &str) -> String {
    format!(
        "False FailedGetExternalMetric: HPA is not actively scaling: the HPA was unable to compute the replica count: unable to get external \
         metric {NAMESPACE}/{metric}/&LabelSelector{{MatchLabels:map[string]string{{scaledobject.keda.sh/name: {case},}},\
         MatchExpressions:[]LabelSelectorRequirement{{}},}}: unable to fetch metrics from external metrics API: \
         rpc error: code = Unknown desc = error when getting metric values metric:{metric} encountered error"
    )
}

impl Case {
    /// One Deployment with one replica, min 1, max 10, and a query of value 500 with threshold 75: 7 replicas.
    fn plain(name: &'static str) -> Self {
        let mut case = Self {
            name,
            kind: "Deployment",
            replicas: Some(1),
            labels: json!({}),
            annotations: json!({}),
            spec: json!({
                "scaleTargetRef": {"name": name},
                "pollingInterval": 3, "cooldownPeriod": 5, "minReplicaCount": 1, "maxReplicaCount": 10,
                "triggers": [trigger("vector(500)")],
            }),
            beside: Value::Null,
            expected: Places::new(),
        };
        let labels = json!({"scaledobject.keda.sh/name": name});
        case = case
            .keda("labels", &labels.to_string())
            .keda("finalizers", r#"["finalizer.keda.sh"]"#)
            .keda("replicas", "7")
            .keda("status.conditions", "Ready Active Fallback Paused HPAActive")
            .keda("status.conditions.Ready", READY)
            .keda("status.conditions.Active", "True ScalerActive: Scaling is performed because triggers are active")
            .keda("status.conditions.Fallback", "False NoFallbackFound: No fallbacks are active on this scaled object")
            .keda("status.conditions.Paused", "False :")
            .keda("status.conditions.HPAActive", "True HPAActive: HPA is actively scaling")
            .keda("status.hpaName", &format!("keda-hpa-{name}"))
            .keda("status.externalMetricNames", r#"["s0-prometheus"]"#)
            .keda("status.originalReplicaCount", "1")
            .keda("status.scaleTargetKind", "apps/v1.Deployment")
            .keda(
                "status.scaleTargetGVKR",
                r#"{"group":"apps","kind":"Deployment","resource":"deployments","version":"v1"}"#,
            )
            .keda("status.triggersActivity", r#"{"s0-prometheus":{"isActive":true}}"#)
            .keda("status.triggersTypes", "prometheus")
            .keda("status.authenticationsTypes", "")
            .keda("hpa.name", &format!("keda-hpa-{name}"))
            .keda("hpa.spec.minReplicas", "1")
            .keda("hpa.spec.maxReplicas", "10")
            .keda(
                "hpa.spec.scaleTargetRef",
                &json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name}).to_string(),
            )
            .target(&[("s0-prometheus", "75")])
            .keda("metrics.s0-prometheus", &answer("s0-prometheus", "500"))
            .event("Normal KEDAScalersStarted: Scaler prometheus is built")
            .event("Normal KEDAScalersStarted: Started scalers watch")
            .event("Normal ScaledObjectReady: ScaledObject is ready for scaling");
        case.hpa_labels(&format!("keda-hpa-{name}"), json!({}))
    }

    fn keda(mut self, place: &str, text: &str) -> Self {
        self.expected.insert(place.to_owned(), text.to_owned());
        self
    }

    fn without(mut self, prefix: &str) -> Self {
        self.expected.retain(|place, _| !place.starts_with(prefix));
        self
    }

    fn event(self, event: &str) -> Self {
        self.keda(&format!("events: {event}"), "seen")
    }

    fn target(self, targets: &[(&str, &str)]) -> Self {
        let selector = json!({"matchLabels": {"scaledobject.keda.sh/name": self.name}});
        let metrics = targets.iter().map(|(name, value)| {
            json!({"type": "External", "external": {
                "metric": {"name": name, "selector": selector}, "target": {"type": "AverageValue", "averageValue": value},
            }})
        });
        let metrics: Value = metrics.collect();
        self.keda("hpa.spec.metrics", &metrics.to_string())
    }

    fn hpa_labels(self, hpa: &str, more: Value) -> Self {
        let mut labels = json!({
            "app.kubernetes.io/name": hpa, "app.kubernetes.io/part-of": self.name, "app.kubernetes.io/version": "main",
            "app.kubernetes.io/managed-by": "keda-operator", "scaledobject.keda.sh/name": self.name,
        });
        merge(&mut labels, &more);
        self.keda("hpa.labels", &labels.to_string())
    }

    fn spec(mut self, patch: &Value) -> Self {
        merge(&mut self.spec, patch);
        self
    }

    fn query(self, query: &str) -> Self {
        self.spec(&json!({"triggers": [trigger(query)]}))
    }

    fn metadata(mut self, patch: &Value) -> Self {
        merge(&mut self.spec["triggers"][0]["metadata"], patch);
        self
    }

    /// Two triggers, `rps` and `queue`; the HPA gets the result of the formula.
    fn formula(self, formula: &str, target: &str, rps: &str, queue: &str) -> Self {
        let named = |name: &str, query: &str| {
            let mut trigger = trigger(query);
            trigger["name"] = json!(name);
            trigger
        };
        self.spec(&json!({
            "triggers": [named("rps", rps), named("queue", queue)],
            "advanced": {"scalingModifiers": {"formula": formula, "target": target}},
        }))
        .target(&[("composite-metric", target)])
        .keda("status.compositeScalerName", "composite-metric")
        .keda("status.externalMetricNames", r#"["s0-prometheus","s1-prometheus"]"#)
        .keda("status.triggersActivity", r#"{"s0-prometheus":{"isActive":false},"s1-prometheus":{"isActive":false}}"#)
    }

    /// Annotations, all of which are copied to the HPA.
    fn annotations(mut self, annotations: Value) -> Self {
        let text = annotations.to_string();
        self.annotations = annotations;
        self.keda("annotations", &text).keda("hpa.annotations", &text)
    }

    fn starting_at(mut self, replicas: u32) -> Self {
        self.replicas = Some(replicas);
        self.keda("status.originalReplicaCount", &replicas.to_string())
    }

    fn inactive(self, value: &str) -> Self {
        self.keda("status.conditions.Active", NOT_ACTIVE)
            .keda("status.triggersActivity", r#"{"s0-prometheus":{"isActive":false}}"#)
            .keda("metrics.s0-prometheus", &answer("s0-prometheus", value))
    }

    /// Inactive, and therefore at zero.
    fn at_zero(self) -> Self {
        self.keda("replicas", "0").keda("status.conditions.HPAActive", DISABLED)
    }

    /// The checks of the object end with this message: no HPA, no scaling. KEDA emits its Event only if the text has at
    /// most 128 characters.
    fn refused(self, message: &str) -> Self {
        let replicas = self.replicas.map(|replicas| replicas.to_string());
        let case = self
            .without("hpa.")
            .without("metrics.")
            .without("events:")
            .without("status.hpaName")
            .without("status.externalMetricNames")
            .without("status.triggersActivity")
            .without("status.conditions.HPAActive")
            .keda("status.conditions", "Ready Active Fallback Paused")
            .keda("status.conditions.Ready", &format!("False ScaledObjectCheckFailed: {message}"))
            .keda("status.conditions.Active", "Unknown UnknownState: ScaledObject check failed");
        let case = if message.len() <= 128 {
            case.event(&format!("Warning ScaledObjectCheckFailed: {message}"))
        } else {
            case
        };
        match replicas {
            Some(replicas) => case.keda("replicas", &replicas),
            None => case.without("replicas"),
        }
    }

    /// The checks end before the triggers are read.
    fn without_types(self) -> Self {
        self.without("status.triggersTypes").without("status.authenticationsTypes")
    }

    /// One broken query, and a fallback to this number of replicas.
    fn falling_back(self, behavior: &str, replicas: u32, wanted: u32) -> Self {
        self.query("sum(")
            .spec(&json!({"fallback": {"failureThreshold": 1, "replicas": replicas, "behavior": behavior}}))
            .keda("replicas", &wanted.to_string())
            .keda("status.conditions.Fallback", FALLBACK)
            .keda("status.health", r#"{"s0-prometheus":{"numberOfFailures":"some","status":"Failing"}}"#)
            .keda("metrics.s0-prometheus", &answer("s0-prometheus", &(75 * wanted).to_string()))
            .event("Normal ScaledObjectFallbackActivated: ScaledObject fallback is active")
            .broken()
    }

    fn broken(mut self) -> Self {
        self.expected.insert(BROKEN_EVENT.to_owned(), "seen".to_owned());
        self
    }

    fn manifests(&self, prometheus: &str) -> String {
        let mut text = String::new();
        let pod = json!({"metadata": {"labels": {"app": self.name}},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "x"}]}});
        let mut workload = json!({"apiVersion": "apps/v1", "kind": self.kind, "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"selector": {"matchLabels": {"app": self.name}}, "template": pod}});
        if self.kind != "DaemonSet" {
            workload["spec"]["replicas"] = json!(self.replicas);
        }
        if self.kind == "StatefulSet" {
            workload["spec"]["serviceName"] = json!("none");
        }
        let object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": self.spec,
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": self.labels, "annotations": self.annotations}});
        if self.replicas.is_some() || self.kind == "DaemonSet" {
            let _ = write!(text, "{workload}\n---\n");
        }
        if !self.beside.is_null() {
            let _ = write!(text, "{}\n---\n", self.beside);
        }
        let _ = write!(text, "{object}\n---\n");
        text.replace("__PROMETHEUS__", prometheus)
    }
}

/// Applies a JSON merge patch.
fn merge(value: &mut Value, patch: &Value) {
    let (Some(map), Some(changes)) = (value.as_object_mut(), patch.as_object()) else {
        *value = patch.clone();
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), change);
        }
    }
}

/// The rules that the API server adds to a behavior.
fn behavior(up: Value, down: Value) -> String {
    let mut behavior = json!({
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]},
        "scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
    });
    merge(&mut behavior, &json!({"scaleUp": up, "scaleDown": down}));
    behavior.to_string()
}

fn scaling() -> Vec<Case> {
    vec![
        // The HPA treats zero as a minimum of one; there is no activation, since the target runs.
        Case::plain("runs-already").spec(&json!({"minReplicaCount": 0, "maxReplicaCount": 5})).starting_at(3)
            .keda("replicas", "5").keda("hpa.spec.maxReplicas", "5"),
        Case::plain("waits").spec(&json!({"minReplicaCount": 0, "initialCooldownPeriod": 600})).query("vector(0)").starting_at(2)
            .inactive("0")
            .keda("status.conditions.Active", "False ScalerCooldown: Scaler cooling down because triggers are not active")
            .keda("replicas", "2"),
        // Only required fields: polled every 30 s, 0 to 100 replicas.
        Case::plain("bare")
            .spec(&json!({"pollingInterval": null, "cooldownPeriod": null, "minReplicaCount": null, "maxReplicaCount": null}))
            .starting_at(0)
            .keda("hpa.spec.maxReplicas", "100")
            .event(&format!("Normal KEDAScaleTargetActivated: Scaled apps/v1.Deployment {NAMESPACE}/bare from 0 to 1, triggered by s0-prometheus")),
        Case::plain("idle")
            .spec(&json!({"idleReplicaCount": 0, "minReplicaCount": 2, "maxReplicaCount": 5}))
            .query("vector(0)")
            .starting_at(2)
            .inactive("0")
            .at_zero()
            .keda("hpa.spec.minReplicas", "2")
            .keda("hpa.spec.maxReplicas", "5")
            .event(&format!("Normal KEDAScaleTargetDeactivated: Deactivated apps/v1.Deployment {NAMESPACE}/idle from 2 to 0")),
        Case::plain("idle-wakes")
            .spec(&json!({"idleReplicaCount": 0, "minReplicaCount": 2, "maxReplicaCount": 5}))
            .starting_at(0)
            .keda("replicas", "5")
            .keda("hpa.spec.minReplicas", "2")
            .keda("hpa.spec.maxReplicas", "5")
            .event(&format!("Normal KEDAScaleTargetActivated: Scaled apps/v1.Deployment {NAMESPACE}/idle-wakes from 0 to 2, triggered by s0-prometheus")),
        Case::plain("lifted")
            .spec(&json!({"minReplicaCount": 3}))
            .query("vector(0)")
            .inactive("0")
            .keda("replicas", "3")
            .keda("hpa.spec.minReplicas", "3"),
        Case::plain("empty-is-zero")
            .spec(&json!({"minReplicaCount": 0}))
            .query("absent_metric_x")
            .inactive("0")
            .at_zero()
            .event(&format!("Normal KEDAScaleTargetDeactivated: Deactivated apps/v1.Deployment {NAMESPACE}/empty-is-zero from 1 to 0")),
        Case::plain("forced")
            .spec(&json!({"minReplicaCount": 0}))
            .query("vector(0)")
            .starting_at(0)
            .annotations(json!({"autoscaling.keda.sh/force-activation": "true"}))
            .inactive("0")
            .keda("status.conditions.Active", "True ScalerActive: Scaling is performed because activation is being forced by annotation")
            .keda("replicas", "1")
            .event(&format!("Normal KEDAScaleTargetActivated: Scaled apps/v1.Deployment {NAMESPACE}/forced from 0 to 1, caused by forced activation annotation")),
        Case::plain("threshold-exponent").query("vector(300)").metadata(&json!({"threshold": "1e2"})).keda("replicas", "3")
            .target(&[("s0-prometheus", "100")])
            .keda("metrics.s0-prometheus", &answer("s0-prometheus", "300")),
        Case::plain("threshold-decimals").query("vector(301.5)").metadata(&json!({"threshold": " 100.50 "})).keda("replicas", "3")
            .target(&[("s0-prometheus", "100.500")])
            .keda("metrics.s0-prometheus", &answer("s0-prometheus", "301.500")),
        Case::plain("large").query("vector(5000)").metadata(&json!({"threshold": "1000"})).keda("replicas", "5")
            .target(&[("s0-prometheus", "1k")])
            .keda("metrics.s0-prometheus", &answer("s0-prometheus", "5k")),
        // No pod is ready, so the HPA of a Value metric stays at the minimum.
        Case::plain("value-type")
            .spec(&json!({"minReplicaCount": 2, "triggers": [{"type": "prometheus", "metricType": "Value", "metadata":
                {"serverAddress": "__PROMETHEUS__", "query": "vector(500)", "threshold": "75"}}]}))
            .starting_at(2)
            .keda("replicas", "2")
            .keda("hpa.spec.minReplicas", "2")
            .keda("hpa.spec.metrics", &json!([{"type": "External", "external": {
                "metric": {"name": "s0-prometheus", "selector": {"matchLabels": {"scaledobject.keda.sh/name": "value-type"}}},
                "target": {"type": "Value", "value": "75"}}}]).to_string()),
        Case::plain("named-and-cached")
            .spec(&json!({"triggers": [
                {"type": "prometheus", "name": "rps", "useCachedMetrics": true, "metadata":
                    {"serverAddress": "__PROMETHEUS__", "query": "vector(500)", "threshold": "75"}},
                {"type": "prometheus", "name": "queue", "useCachedMetrics": true, "metadata":
                    {"serverAddress": "__PROMETHEUS__", "query": "vector(3)", "threshold": "1", "metricName": "ignored"}}]}))
            .target(&[("s0-prometheus", "75"), ("s1-prometheus", "1")])
            .keda("status.externalMetricNames", r#"["s0-prometheus","s1-prometheus"]"#)
            .keda("status.triggersActivity", r#"{"s0-prometheus":{"isActive":true},"s1-prometheus":{"isActive":true}}"#)
            .keda("metrics.s1-prometheus", &answer("s1-prometheus", "3")),
        Case::plain("partly-broken")
            .spec(&json!({"triggers": [trigger("vector(500)"), trigger("sum(")]}))
            .target(&[("s0-prometheus", "75"), ("s1-prometheus", "75")])
            .keda("status.conditions.Ready", "Unknown PartialTriggerError: Some triggers defined in ScaledObject are not working correctly")
            .keda("status.externalMetricNames", r#"["s0-prometheus","s1-prometheus"]"#)
            .keda("status.triggersActivity", r#"{"s0-prometheus":{"isActive":true},"s1-prometheus":{"isActive":false}}"#)
            .keda("metrics.s1-prometheus", &failure("s1-prometheus"))
            .broken(),
        Case::plain("formula").formula("(rps + queue * 10) / 2", "50", "vector(500)", "vector(3)")
            .keda("replicas", "6")
            .keda("metrics.s0-prometheus", &answer("composite-metric", "265"))
            .keda("metrics.composite-metric", &answer("composite-metric", "265")),
        // The formula reads the broken trigger as nil once it has failed twice.
        Case::plain("formula-coalesced").formula("(rps ?? queue) * 100", "75", "sum(", "vector(3)")
            .spec(&json!({"fallback": {"failureThreshold": 1, "replicas": 9, "behavior": "scalingModifiers"}}))
            .keda("replicas", "4")
            .without("metrics.s0")
            .keda("metrics.composite-metric", &answer("composite-metric", "300"))
            .keda("status.conditions.Fallback", FALLBACK)
            .keda("status.health", r#"{"s0-prometheus":{"numberOfFailures":"some","status":"Failing"},"s1-prometheus":{"numberOfFailures":"some","status":"Happy"}}"#)
            .event("Normal ScaledObjectFallbackActivated: ScaledObject fallback is active")
            .event("Warning KEDAMetricSourceFailed: prometheus query api returned error. status: 400"),
        Case::plain("all-parameters").metadata(&json!({
            "namespace": "shop", "queryParameters": "timeout=2s,dedup=true", "customHeaders": "X-A = b", "timeout": "5s",
            "unsafeSsl": "true", "ignoreNullValues": "T", "activationThreshold": "-1", "metricName": "", "somethingElse": "x",
        })),
        Case::plain("quoting").query("vector(500) or absent_metric_x{a=\"ü\\\"x\\\\ & = + % #\", b=~'☃.*'}"),
    ]
}

/// An HPA created by hand and transferred by name and annotation.
fn transferred() -> Case {
    let mut case = Case::plain("transferred")
        .spec(&json!({"advanced": {"horizontalPodAutoscalerConfig": {"name": "by-hand"}}}))
        .annotations(json!({"scaledobject.keda.sh/transfer-hpa-ownership": "true"}))
        .keda("hpa.name", "by-hand")
        .keda("status.hpaName", "by-hand")
        .hpa_labels("by-hand", json!({}));
    case.beside = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "by-hand", "namespace": NAMESPACE, "labels": {"made": "by-hand"}},
        "spec": {"minReplicas": 2, "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "transferred"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    case
}

/// The fallback of a Value metric depends on the ready pods, of which there are none.
fn fallback_without_pods() -> Case {
    let mut case = Case::plain("fallback-without-pods").falling_back("static", 3, 1).inactive("0");
    case.spec["triggers"][0]["metricType"] = json!("Value");
    case.keda("hpa.spec.metrics", &json!([{"type": "External", "external": {
            "metric": {"name": "s0-prometheus", "selector": {"matchLabels": {"scaledobject.keda.sh/name": "fallback-without-pods"}}},
            "target": {"type": "Value", "value": "75"}}}]).to_string())
        .keda("metrics.s0-prometheus", &failure("s0-prometheus"))
        .keda("status.conditions.HPAActive", &hpa_failure("fallback-without-pods", "s0-prometheus"))
        .event("Warning KEDAScalerFailed: error performing fallback")
}

fn marked() -> Vec<Case> {
    let labelled = |mut case: Case| {
        case.labels = json!({"team": "a", "secret": "b", "app.kubernetes.io/managed-by": "flux"});
        case
    };
    vec![
        labelled(Case::plain("labels"))
            .annotations(json!({"example.com/owner": "me", "scaledobject.keda.sh/hpa-excluded-labels": "secret,other"}))
            .keda("labels", &json!({"team": "a", "secret": "b", "app.kubernetes.io/managed-by": "flux", "scaledobject.keda.sh/name": "labels"}).to_string())
            .hpa_labels("keda-hpa-labels", json!({"team": "a", "app.kubernetes.io/managed-by": "flux", "app.kubernetes.io/version": "main"})),
        Case::plain("behavior")
            .spec(&json!({"advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {
                "stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]}}}}}))
            .annotations(json!({"autoscaling.keda.sh/paused-scale-in": "true"}))
            .keda("hpa.spec.behavior", &behavior(json!({}), json!({
                "stabilizationWindowSeconds": 60, "selectPolicy": "Disabled", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]})))
            .keda("status.conditions.Paused", PAUSED)
            .event("Normal ScaledObjectPaused: ScaledObject is paused"),
        Case::plain("scale-out-paused")
            .spec(&json!({"minReplicaCount": 0}))
            .starting_at(0)
            .annotations(json!({"autoscaling.keda.sh/paused-scale-out": "yes"}))
            .keda("replicas", "0")
            .keda("status.conditions.HPAActive", DISABLED)
            .keda("hpa.spec.behavior", &behavior(json!({"selectPolicy": "Disabled"}), json!({})))
            .keda("status.conditions.Paused", PAUSED)
            .event("Normal ScaledObjectPaused: ScaledObject is paused"),
        Case::plain("paused").annotations(json!({"autoscaling.keda.sh/paused": "true"})).paused(),
        Case::plain("paused-at-zero")
            .annotations(json!({"autoscaling.keda.sh/paused-replicas": "0", "autoscaling.keda.sh/paused": "false"}))
            .paused()
            .keda("replicas", "0")
            .keda("status.pausedReplicaCount", "0"),
        Case::plain("paused-junk")
            .annotations(json!({"autoscaling.keda.sh/paused-replicas": "three"}))
            .paused()
            .without("events: Normal ScaledObjectReady")
            .keda("status.conditions.Active", "Unknown UnknownState: ScaledObject check failed")
            .keda("status.conditions.Ready", "False ScaledObjectCheckFailed: failed to scale target to paused replica count: \
                failed to parse paused replica count: strconv.ParseInt: parsing \"three\": invalid syntax"),
        Case::plain("own-name")
            .spec(&json!({"advanced": {"horizontalPodAutoscalerConfig": {"name": "by.its-own.name"}}}))
            .keda("hpa.name", "by.its-own.name")
            .keda("status.hpaName", "by.its-own.name")
            .hpa_labels("by.its-own.name", json!({})),
        transferred(),
        fallback_without_pods(),
        Case::plain("fallback-static").falling_back("static", 3, 3),
        Case::plain("fallback-current").starting_at(2).falling_back("currentReplicas", 5, 2),
        Case::plain("fallback-higher").starting_at(2).falling_back("currentReplicasIfHigher", 4, 4),
        Case::plain("fallback-lower").starting_at(2).falling_back("currentReplicasIfLower", 4, 2),
        Case::plain("healthy-fallback")
            .spec(&json!({"fallback": {"failureThreshold": 3, "replicas": 4}}))
            .keda("status.health", r#"{"s0-prometheus":{"numberOfFailures":"some","status":"Happy"}}"#),
    ]
}

impl Case {
    /// Fully paused from the start: nothing was checked.
    fn paused(self) -> Self {
        let replicas = self.replicas.unwrap_or_default().to_string();
        self.without("hpa.")
            .without("metrics.")
            .without("status.hpaName")
            .without("status.externalMetricNames")
            .without("status.triggers")
            .without("status.authenticationsTypes")
            .without("status.scaleTarget")
            .without("status.originalReplicaCount")
            .without("labels")
            .without("events: Normal KEDAScalersStarted")
            .without("status.conditions.HPAActive")
            .keda("status.conditions", "Ready Active Fallback Paused")
            .keda("status.conditions.Ready", "True ScaledObjectReady: ScaledObject is paused")
            .keda("status.conditions.Active", "Unknown :")
            .keda("status.conditions.Paused", PAUSED)
            .keda("replicas", &replicas)
            .event("Normal ScaledObjectPaused: ScaledObject is paused")
    }
}

fn refused() -> Vec<Case> {
    let mut daemon_set =
        Case::plain("daemon-set").spec(&json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "DaemonSet"}}));
    daemon_set.kind = "DaemonSet";
    daemon_set.replicas = None;
    let mut missing = Case::plain("missing-target");
    missing.replicas = None;
    let no_target = "ScaledObject doesn't have correct scaleTargetRef specification";
    let no_hpa = "failed to ensure HPA is correctly created for ScaledObject";
    vec![
        daemon_set
            .refused(&format!("{no_target}: the server could not find the requested resource"))
            .without_types()
            .without("status.scaleTarget")
            .without("status.originalReplicaCount")
            .event("Warning ScaledObjectCheckFailed: Target resource doesn't expose /scale subresource"),
        missing
            .refused(&format!("{no_target}: deployments.apps \"missing-target\" not found"))
            .without_types()
            .without("status.scaleTarget")
            .without("status.originalReplicaCount")
            .event("Warning ScaledObjectCheckFailed: Target resource doesn't exist"),
        Case::plain("unknown-type")
            .spec(&json!({"triggers": [{"type": "promtheus", "metadata": {"query": "up"}}]}))
            .refused(&format!("{no_hpa}: no scaler found for type: promtheus"))
            .keda("status.triggersTypes", "promtheus")
            .event("Warning KEDAScalerFailed: no scaler found for type: promtheus"),
        // KEDA sends the query without credentials, and only logs that they are missing.
        Case::plain("no-authentication")
            .spec(&json!({"triggers": [{"type": "prometheus", "authenticationRef": {"name": "nobody"}, "metadata":
                {"serverAddress": "__PROMETHEUS__", "query": "vector(500)", "threshold": "75"}}]}))
            .keda("status.authenticationsTypes", "nobody"),
        // KEDA reads 0/0 as 0.
        Case::plain("not-a-number").query("vector(0) / 0").inactive("0").keda("replicas", "1"),
        Case::plain("scalar")
            .query("scalar(vector(500))")
            .keda(
                "status.conditions.Ready",
                "False TriggerError: Triggers defined in ScaledObject are not working correctly",
            )
            .inactive("0")
            .keda("metrics.s0-prometheus", &failure("s0-prometheus"))
            .keda("status.conditions.HPAActive", &hpa_failure("scalar", "s0-prometheus"))
            .keda("replicas", "1"),
        Case::plain("a-name-that-is-short-enough-for-a-label-but-not-for-its-hpa")
            .hpa_labels("keda-hpa-a-name-that-is-short-enough-for-a-label-but-not-for-it", json!({})),
    ]
}

#[test]
fn further_cases_leave_what_keda_would_leave() {
    let cluster = compat_cluster();
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    let cases: Vec<Case> = scaling().into_iter().chain(marked()).chain(refused()).collect();
    let manifests: String = cases.iter().map(|case| case.manifests(cluster.prometheus())).collect();
    cluster.apply(&manifests);
    let expected: BTreeMap<String, Places> =
        cases.into_iter().map(|case| (case.name.to_owned(), tidy(case.expected))).collect();
    // The conditions of HPAs depend on the state in which they were first seen.
    check(cluster, NAMESPACE, &expected, MORE, |place| place.starts_with("hpa.conditions"));
}

/// Texts are compared without trailing blanks.
fn tidy(expected: Places) -> Places {
    expected.into_iter().map(|(place, text)| (place, text.trim_end().to_owned())).collect()
}

/// Mistakes that KEDA reports in conditions or never notices, but that the API server refuses here.
#[test]
fn mistakes_are_refused_at_admission() {
    let cluster = compat_cluster();
    let refusal = |patch: &Value| {
        let case = Case::plain("mistake").spec(patch);
        let object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": case.spec,
            "metadata": {"name": "mistake", "namespace": "default"}});
        cluster.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &object.to_string()).err()
    };
    let named = json!({"type": "prometheus", "name": "n", "metadata": {"serverAddress": "http://p", "query": "up", "threshold": "1"}});
    let without = |name: &str| {
        let mut trigger = trigger("up");
        trigger["metadata"].as_object_mut().unwrap().remove(name);
        json!({"triggers": [trigger]})
    };
    assert_eq!(refusal(&json!({})), None);
    assert_eq!(refusal(&without("serverAddress")), None, "hpalite may name a server for all");
    for (patch, text) in [
        (
            json!({"minReplicaCount": 9, "maxReplicaCount": 2}),
            "minReplicaCount must be less than or equal to maxReplicaCount",
        ),
        (
            json!({"minReplicaCount": 101, "maxReplicaCount": null}),
            "minReplicaCount must be less than or equal to maxReplicaCount",
        ),
        (json!({"idleReplicaCount": 2, "minReplicaCount": 2}), "idleReplicaCount must be less than minReplicaCount"),
        (json!({"idleReplicaCount": 0, "minReplicaCount": null}), "idleReplicaCount must be less than minReplicaCount"),
        (json!({"triggers": []}), "spec.triggers in body should have at least 1 items"),
        (json!({"triggers": [named.clone(), named]}), "trigger names must be unique"),
        (without("query"), "needs metadata.query"),
        (without("threshold"), "needs metadata.threshold"),
        (
            json!({"triggers": [{"type": "cpu", "metricType": "Utilization", "useCachedMetrics": true, "metadata": {"value": "60"}}]}),
            "useCachedMetrics is not supported",
        ),
        (
            json!({"triggers": [{"type": "prometheus", "metricType": "Utilization", "metadata": trigger("up")["metadata"]}]}),
            "metricType of this trigger cannot be Utilization",
        ),
    ] {
        let refused = refusal(&patch).unwrap_or_else(|| panic!("accepted: {patch}"));
        assert!(refused.contains(text), "{patch}: {refused}");
    }
}
