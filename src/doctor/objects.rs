//! Checks CRDs, ScaledObjects and the HPAs made for them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Doctor, Severity};
use crate::kube::untyped::{condition, items, text};
use crate::scaling::model::{ApiGroup, UnixMillis};
use crate::store::unix_now;
use crate::unserved::{self, Unserved, some};
use crate::wire::scaled_object::annotations::{
    PAUSED, PAUSED_REASON, PAUSED_REPLICAS, PAUSED_SCALE_IN, PAUSED_SCALE_OUT, PAUSED_UNTIL,
};
use crate::wire::time::parse_rfc3339;

/// A deletion that takes longer is blocked.
const DELETING_MAX_MS: i64 = 5 * 60_000;

/// The id of a finding about a pause.
const OBJECT_PAUSED: &str = "scaled-object-paused";

/// The id of a finding about objects that are only looked at.
const SHADOW: &str = "scaled-object-shadow";

impl Doctor<'_> {
    pub(super) fn crds(&mut self) {
        for plural in ["scaledobjects", "triggerauthentications", "clustertriggerauthentications"] {
            let subject = format!("CustomResourceDefinition {plural}.keda.sh");
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.keda.sh");
            let Some(found) = self.get(&path) else { continue };
            let versions = items(&found, "/spec/versions");
            let version = versions.iter().find(|version| version["name"] == "v1alpha1" && version["served"] == true);
            let fix = "kubectl apply --server-side -k k8s/crds";
            match version {
                _ if found.is_null() => self.error("crd-missing", &subject, "it does not exist", fix),
                None => self.error("crd-outdated", &subject, "it does not serve v1alpha1", fix),
                Some(version) if version.pointer("/subresources/status").is_none() => {
                    self.error("crd-outdated", &subject, "v1alpha1 has no status subresource", fix);
                }
                Some(version) if plural == "scaledobjects" => self.schema(&subject, version, fix),
                Some(_) => {}
            }
        }
    }

    /// Checks whether the schema of ScaledObjects knows every field in use and has our validation rules.
    fn schema(&mut self, subject: &str, version: &Value, fix: &str) {
        let Some(spec) = version.pointer("/schema/openAPIV3Schema/properties/spec") else { return };
        if spec.pointer("/properties/advanced/properties/scalingModifiers").is_none() {
            let cause = "its schema has no spec.advanced.scalingModifiers, so formulas are dropped";
            self.warn("crd-outdated", subject, cause, fix);
        } else if items(spec, "/x-kubernetes-validations").is_empty() {
            let cause =
                "it is KEDA's, without hpalite's rules: mistakes are told on the object, not when it is applied";
            self.warn("crd-foreign", subject, cause, "kubectl apply --server-side --force-conflicts -k k8s/crds");
        }
    }

    pub(super) fn scaled_objects(&mut self) {
        let Some(list) = self.get(&self.within("/apis/keda.sh/v1alpha1", "scaledobjects")) else { return };
        // Objects with the same problem share one finding.
        let mut suffering: BTreeMap<(&'static str, String), Vec<String>> = BTreeMap::new();
        for object in items(&list, "/items") {
            let name = format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"));
            let subject = format!("ScaledObject {name}");
            let deleted = text(object, "/metadata/deletionTimestamp");
            if !deleted.is_empty() {
                if is_stuck(deleted, unix_now()) {
                    let cause = format!("being deleted since {deleted}, held by {}", object["metadata"]["finalizers"]);
                    let fix = "see that hpalite runs; if it never will again, hpalite uninstall --keep-crds";
                    self.warn("scaled-object-deleting", &subject, cause, fix);
                }
            } else if let Some((id, cause)) = suffers(object) {
                suffering.entry((id, cause)).or_default().push(name);
            } else if is_shadow(object) {
                let cause =
                    "hpalite decides and records what it would do, and writes nothing: hpalite.dev/mode is shadow";
                suffering.entry((SHADOW, cause.to_owned())).or_default().push(name);
            } else if is_untouched(object, unix_now()) {
                let cause = "nobody has looked at it since it was created: its status has no word of Ready".to_owned();
                suffering.entry(("scaled-object-untouched", cause)).or_default().push(name);
            }
        }
        for ((id, cause), names) in suffering {
            let subject = format!("ScaledObject {}", some(&names, names.len()));
            let fix = match id {
                "scaled-object-untouched" => UNTOUCHED.to_owned(),
                OBJECT_PAUSED => {
                    "nothing, if it is meant; hpalite thaw ends a freeze, removing its annotation any other pause"
                        .to_owned()
                }
                SHADOW => {
                    "nothing, if it is meant: hpalite compare says where it would differ; else remove the annotation"
                        .to_owned()
                }
                _ => format!("{}; hpalite why {} has the history", fix_of(&cause), names[0]),
            };
            match id {
                "trigger-failing" | OBJECT_PAUSED | SHADOW => self.warn(id, &subject, cause, fix),
                _ => self.error(id, &subject, cause, fix),
            }
            self.is_about(names);
        }
    }

    /// Reports pauses of whole namespaces, which no object of them shows among its own annotations.
    pub(super) fn namespaces(&mut self) {
        let path = match &self.subject.namespace {
            Some(name) => format!("/api/v1/namespaces?fieldSelector=metadata.name%3D{name}"),
            None => "/api/v1/namespaces".to_owned(),
        };
        let Some(list) = self.get(&path) else { return };
        for namespace in items(&list, "/items") {
            let name = text(namespace, "/metadata/name");
            if let Some(cause) = paused_by(namespace, unix_now()) {
                let fix = format!(
                    "nothing, if it is meant; hpalite thaw -n {name} ends a freeze, removing it any other pause"
                );
                self.warn("namespace-paused", &format!("Namespace {name}"), cause, fix);
            }
        }
    }

    /// Reports objects that KEDA would run and hpalite does not.
    pub(super) fn unserved(&mut self) {
        let is_kedas = self.report.findings.iter().any(|finding| finding.id == "keda-running");
        match unserved::kinds(&self.client, self.subject.namespace.as_deref()) {
            Ok(found) => {
                for Unserved { kind, objects } in found {
                    let cause = format!("hpalite does not serve {kind}: nobody runs them but KEDA");
                    let fix = "keep KEDA's operator for these namespaces, or replace and delete them";
                    let severity = if is_kedas { Severity::Warning } else { Severity::Error };
                    self.add(severity, "kind-unserved", &objects, cause, fix.to_owned());
                }
            }
            Err(error) => self.not_checked("kinds of KEDA", &error),
        }
        let mut unusable = Vec::new();
        for group in ApiGroup::ALL {
            let api = format!("/apis/{}/v1alpha1", group.name());
            let Some(list) = self.get(&self.within(&api, "scaledobjects")) else { return };
            unusable.extend(unserved::scaled_objects(group, &list, &self.subject.config.servers));
        }
        for (cause, found) in unserved::by_cause(unusable) {
            let names: Vec<String> = found.into_iter().map(|found| found.name).collect();
            let subject = format!("ScaledObject {}", some(&names, names.len()));
            self.error(
                "scaled-object-invalid",
                &subject,
                cause,
                "write what the cause says; hpalite check tries it before",
            );
            self.is_about(names);
        }
    }

    /// Reports HPAs with failing conditions, and those that outlived their ScaledObject: they keep scaling by a metric
    /// that is no longer served.
    pub(super) fn hpas(&mut self) {
        let label = "scaledobject.keda.sh/name";
        let path = self.within("/apis/autoscaling/v2", "horizontalpodautoscalers");
        let Some(hpas) = self.get(&format!("{path}?labelSelector=scaledobject.keda.sh%2Fname")) else { return };
        let mut known = BTreeSet::new();
        for group in ["keda.sh", "keda.k8s.io"] {
            let Some(list) = self.get(&self.within(&format!("/apis/{group}/v1alpha1"), "scaledobjects")) else {
                return;
            };
            for object in items(&list, "/items") {
                known.insert((
                    text(object, "/metadata/namespace").to_owned(),
                    text(object, "/metadata/name").to_owned(),
                ));
            }
        }
        for hpa in items(&hpas, "/items") {
            let owner = hpa["metadata"]["labels"][label].as_str().unwrap_or_default();
            let namespace = text(hpa, "/metadata/namespace");
            if !known.contains(&(namespace.to_owned(), owner.to_owned())) {
                let subject = format!("HorizontalPodAutoscaler {namespace}/{}", text(hpa, "/metadata/name"));
                let cause = format!("ScaledObject {owner}, which it was made for, is gone");
                self.warn("hpa-orphaned", &subject, cause, "delete it");
                continue;
            }
            let subject = format!("HorizontalPodAutoscaler {namespace}/{}", text(hpa, "/metadata/name"));
            for (severity, id, cause, fix) in conditions_that_hold(hpa) {
                self.add(severity, id, &subject, cause, fix.to_owned());
                self.is_about(vec![format!("{namespace}/{owner}")]);
            }
        }
    }

    /// Returns the path of a collection in the namespaces that are examined.
    pub(super) fn within(&self, api: &str, plural: &str) -> String {
        match &self.subject.namespace {
            Some(namespace) => format!("{api}/namespaces/{namespace}/{plural}"),
            None => format!("{api}/{plural}"),
        }
    }
}

/// Returns the pause annotations of a Namespace that are in force, in words; None without any.
fn paused_by(namespace: &Value, now: UnixMillis) -> Option<String> {
    let annotations = namespace.pointer("/metadata/annotations")?.as_object()?;
    let value = |name: &str| annotations.get(name).and_then(Value::as_str);
    let until = value(PAUSED_UNTIL).and_then(parse_rfc3339);
    if until.is_some_and(|until| until <= now) {
        return None;
    }
    let is_pause = |name: &&str| match *name {
        PAUSED | PAUSED_SCALE_IN | PAUSED_SCALE_OUT => value(name) == Some("true"),
        _ => value(name).is_some(),
    };
    let names = [PAUSED, PAUSED_REPLICAS, PAUSED_SCALE_IN, PAUSED_SCALE_OUT];
    let found: Vec<&str> = names.into_iter().filter(is_pause).collect();
    if found.is_empty() {
        return None;
    }
    let until = until.map_or(String::new(), |until| format!(" until {until}"));
    let reason = value(PAUSED_REASON).map_or(String::new(), |reason| format!(": {reason}"));
    Some(format!("all its ScaledObjects are paused by {}{until}{reason}", found.join(", ")))
}

const UNTOUCHED: &str = "see that an instance runs and leads, and that --namespace (WATCH_NAMESPACE) of the daemon does not leave its \
     namespace out";

/// Long enough for the first decision on an object, whose status waits for answers.
const FIRST_LOOK_MAX_MS: i64 = 60_000;

/// A shadow's status is its owner's, and says nothing of hpalite.
fn is_shadow(object: &Value) -> bool {
    !text(object, "/metadata/annotations/hpalite.dev~1mode").is_empty()
}

fn is_untouched(object: &Value, now: UnixMillis) -> bool {
    let is_reported = condition(object, "Ready").is_some_and(|ready| !text(ready, "/reason").is_empty());
    let created = parse_rfc3339(text(object, "/metadata/creationTimestamp"));
    !is_reported && created.is_some_and(|created| now.0 - created.0 > FIRST_LOOK_MAX_MS)
}

/// Returns the usual fix for a cause, recognised by the daemon's own wording.
fn fix_of(cause: &str) -> &'static str {
    const KNOWN: [(&str, &str); 12] = [
        (": no such host", "correct the name in serverAddress: SERVICE.NAMESPACE, as pods resolve it"),
        ("cannot reach", "see that the server runs and listens on this port: compare it with its Service's"),
        ("no answer from", "see NetworkPolicies on the way and the server's load; a slow query needs a longer timeout"),
        ("certificate has expired", "renew the server's certificate"),
        ("TLS with", "give the CA by `ca` of a TriggerAuthentication, or by --ca-dir for all"),
        ("answered with a part of the data", "mend what the server says, or take such answers by onPartial: accept"),
        ("returns NaN", "hpalite doctor, under metric servers and queries, says how to guard the query"),
        (
            "is already managed by",
            "let one of them alone scale this workload: delete the other, or name another target",
        ),
        ("has no key", "create the key, or correct its name in the authentication"),
        ("not found (spec.triggers", "create the authentication, or correct authenticationRef"),
        ("correct scaleTargetRef", "create the target, or correct scaleTargetRef"),
        ("is forbidden", "give the right that the cause names"),
    ];
    KNOWN.iter().find(|(words, _)| cause.contains(words)).map_or("mend what the cause names", |(_, fix)| fix)
}

/// Returns the id and cause of a ScaledObject's problem, from its own conditions.
fn suffers(object: &Value) -> Option<(&'static str, String)> {
    let of = |kind: &str| {
        condition(object, kind).map(|found| (text(found, "/status"), text(found, "/reason"), text(found, "/message")))
    };
    let failing = of("TriggersHealthy").filter(|(status, ..)| *status == "False").map(|(.., message)| message);
    match (of("Ready"), failing) {
        // KEDA's wording only reports a failure; the other condition has the cause.
        (Some((status, reason, _)), Some(causes)) if status != "True" => {
            Some(("scaled-object-not-ready", format!("{reason}: {causes}")))
        }
        (Some((status, reason, message)), None) if status != "True" && !reason.is_empty() => {
            Some(("scaled-object-not-ready", format!("{reason}: {message}")))
        }
        (_, Some(causes)) => Some(("trigger-failing", causes.to_owned())),
        _ => of("Paused")
            .filter(|(status, ..)| *status == "True")
            .map(|(.., message)| (OBJECT_PAUSED, message.to_owned())),
    }
}

/// Returns the conditions that keep an HPA from scaling, with its own wording and a fix.
pub(super) fn conditions_that_hold(hpa: &Value) -> Vec<(Severity, &'static str, String, &'static str)> {
    let mut found = Vec::new();
    for condition in items(hpa, "/status/conditions") {
        let part = |pointer: &str| text(condition, pointer);
        let (kind, status, reason) = (part("/type"), part("/status"), part("/reason"));
        let text_of = || format!("{kind} is {status}, {reason}: {}", part("/message"));
        match (kind, status, reason) {
            // Scaling is disabled at zero replicas, as it should be.
            ("ScalingActive", "False", "ScalingDisabled") => {}
            ("ScalingActive" | "AbleToScale", "False", _) => {
                found.push((Severity::Error, "hpa-not-scaling", text_of(), hpa_fix(reason, part("/message"))));
            }
            ("ScalingLimited", "True", "TooManyReplicas") => {
                let fix = "raise maxReplicaCount, or leave it: this is what it is for";
                found.push((Severity::Warning, "hpa-limited", text_of(), fix));
            }
            _ => {}
        }
    }
    found
}

fn hpa_fix(reason: &str, message: &str) -> &'static str {
    match reason {
        "FailedGetExternalMetric" if message.contains("no metric ") => {
            "the daemon does not know this ScaledObject: see that its --namespace (WATCH_NAMESPACE) does not leave it out"
        }
        "InvalidSelector" => {
            "let the target's scale subresource give its selector: subresources.scale.labelSelectorPath of its CRD"
        }
        "AmbiguousSelector" => "let one HPA alone select these pods: change the labels, or delete the other HPA",
        "FailedGetScale" => "see that the target exists and has a scale subresource, which the HPA controller may get",
        "FailedUpdateScale" => "see what refuses the change: a webhook, a quota, or the HPA controller's rights",
        "FailedGetResourceMetric" | "FailedGetContainerResourceMetric" => {
            "install metrics-server, and set resources.requests on every container of the pods"
        }
        "FailedGetExternalMetric" => {
            "mend the trigger whose error the message repeats; without one, see the APIService"
        }
        "InvalidMetricSourceType" | "FailedComputeMetricsReplicas" => "the message names the metric: see its trigger",
        _ => "the message is the HPA controller's own: kubectl describe the HPA",
    }
}

/// Returns whether a deletion that began at `deleted` (RFC 3339) takes too long.
fn is_stuck(deleted: &str, now: UnixMillis) -> bool {
    parse_rfc3339(deleted).is_some_and(|since| now.0 - since.0 > DELETING_MAX_MS)
}

/// Returns the items of a list, each as JSON text for its own reader.
pub(super) fn texts(list: &Value) -> Vec<String> {
    items(list, "/items").iter().map(Value::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_hpa_s_failing_conditions_are_reported() {
        let hpa = |conditions: &[(&str, &str, &str)]| {
            let conditions: Vec<Value> = conditions
                .iter()
                .map(|(kind, status, reason)| json!({ "type": kind, "status": status, "reason": reason, "message": "m" }))
                .collect();
            json!({ "status": { "conditions": conditions } })
        };
        let ids = |conditions: &[(&str, &str, &str)]| -> Vec<(&'static str, String)> {
            conditions_that_hold(&hpa(conditions)).into_iter().map(|(_, id, cause, _)| (id, cause)).collect()
        };
        assert_eq!(
            ids(&[("AbleToScale", "True", "ReadyForNewScale"), ("ScalingLimited", "False", "DesiredWithinRange")]),
            []
        );
        assert_eq!(
            ids(&[("ScalingActive", "False", "ScalingDisabled"), ("ScalingLimited", "True", "TooFewReplicas")]),
            []
        );
        let cause = |text: &str| text.to_owned();
        assert_eq!(
            ids(&[("AbleToScale", "False", "FailedGetScale"), ("ScalingActive", "False", "InvalidSelector")]),
            [
                ("hpa-not-scaling", cause("AbleToScale is False, FailedGetScale: m")),
                ("hpa-not-scaling", cause("ScalingActive is False, InvalidSelector: m")),
            ]
        );
        assert_eq!(
            ids(&[("ScalingLimited", "True", "TooManyReplicas")]),
            [("hpa-limited", cause("ScalingLimited is True, TooManyReplicas: m"))]
        );
    }

    #[test]
    fn an_object_without_status_is_reported_after_a_minute() {
        let now = parse_rfc3339("2026-01-02T03:10:00Z").expect("a time");
        let object = |created: &str, conditions: Value| json!({ "metadata": { "creationTimestamp": created }, "status": { "conditions": conditions } });
        let ready = json!([{ "type": "Ready", "status": "True", "reason": "ScaledObjectReady" }]);
        let unknown = json!([{ "type": "Ready", "status": "Unknown" }]);
        assert!(is_untouched(&object("2026-01-02T03:08:59Z", json!([])), now));
        assert!(is_untouched(&object("2026-01-02T03:08:59Z", unknown), now));
        assert!(!is_untouched(&object("2026-01-02T03:09:30Z", json!([])), now));
        assert!(!is_untouched(&object("2026-01-02T03:00:00Z", ready), now));
    }

    #[test]
    fn a_pause_of_a_namespace_is_told_as_long_as_it_is_in_force() {
        let namespace = |annotations: Value| json!({ "metadata": { "name": "shop", "annotations": annotations } });
        let now = UnixMillis(1_000_000);
        let frozen = namespace(json!({
            PAUSED: "true", PAUSED_UNTIL: "1970-01-01T01:00:00Z", PAUSED_REASON: "INC-7",
        }));
        let words = paused_by(&frozen, now).expect("it is paused");
        assert!(words.contains(PAUSED) && words.ends_with("Z: INC-7"), "{words}");
        assert_eq!(paused_by(&frozen, UnixMillis(3_600_000)), None);
        assert!(paused_by(&namespace(json!({ PAUSED_REPLICAS: "0" })), now).is_some());
        for none in [json!({}), json!({ PAUSED: "false" }), json!({ "other": "true" }), Value::Null] {
            assert_eq!(paused_by(&namespace(none.clone()), now), None, "{none}");
        }
        assert!(is_shadow(&namespace(json!({ "hpalite.dev/mode": "shadow" }))) && !is_shadow(&frozen));
    }

    #[test]
    fn a_failing_trigger_is_reported_with_its_cause_even_if_ready() {
        let object = |ready: (&str, &str, &str), triggers: Option<(&str, &str)>| {
            let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({ "type": kind, "status": status, "reason": reason, "message": message });
            let mut conditions = vec![condition("Ready", ready.0, ready.1, ready.2)];
            conditions.extend(triggers.map(|(status, message)| condition("TriggersHealthy", status, "R", message)));
            json!({ "status": { "conditions": conditions } })
        };
        let well = ("True", "ScaledObjectReady", "fine");
        let bad = ("False", "TriggerError", "not working");
        for (ready, triggers, expected) in [
            (well, None, None),
            (well, Some(("True", "m")), None),
            (well, Some(("False", "s0: x")), Some(("trigger-failing", "s0: x"))),
            (bad, Some(("False", "s0: x")), Some(("scaled-object-not-ready", "TriggerError: s0: x"))),
            (bad, None, Some(("scaled-object-not-ready", "TriggerError: not working"))),
            (("Unknown", "", ""), None, None),
        ] {
            let found = suffers(&object(ready, triggers));
            assert_eq!(found.as_ref().map(|(id, cause)| (*id, cause.as_str())), expected);
        }
    }

    /// Regression: a pause had the name of its annotation as its id, and was an error.
    #[test]
    fn a_paused_object_is_reported_as_such() {
        let paused = |status: &str| {
            let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "R", "message": "paused until noon" });
            json!({ "status": { "conditions": [condition("Ready", "True"), condition("Paused", status)] } })
        };
        assert_eq!(suffers(&paused("True")), Some(("scaled-object-paused", "paused until noon".to_owned())));
        assert_eq!(suffers(&paused("False")), None);
    }

    #[test]
    fn a_deletion_may_take_minutes() {
        let now = parse_rfc3339("2026-01-02T03:10:00Z").expect("a time");
        assert!(!is_stuck("2026-01-02T03:05:00Z", now) && !is_stuck("2026-01-02T03:10:30Z", now));
        assert!(is_stuck("2026-01-02T03:04:59Z", now));
    }
}
