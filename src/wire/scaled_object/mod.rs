//! A ScaledObject of either API group, or an HPA in the terms of one, from JSON to the core's model.
//!
//! Owns the assembly of the parts in the files below. Must not refuse an object for its spec: all problems become part
//! of `definition`.

pub(crate) mod annotations;
mod behavior;
mod bounds;
mod current;
mod fallback;
mod legacy;
mod modifiers;
mod of_hpa;
mod targets;

use std::sync::Arc;

use serde_json::{Value, json};

use super::fields::{Diagnostics, Fields, Warning};
use super::metadata::{Metadata, Unreadable, exact_map};
use super::{Servers, mask, status};
use crate::scaling::model::{ApiGroup, Definition, Invalid, ObjectKey, Problem, ScaledObject, Step, TargetRef};

/// Annotations that other tools set for their own use. On the HPA, to which annotations are copied, they would make pruning
/// tools believe that they may delete it, and the first has the size of the object.
const NOT_KEPT: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", "argocd.argoproj.io/tracking-id"];

/// The object, with warnings for its author.
#[derive(Debug)]
pub struct ParsedObject {
    pub object: ScaledObject,
    pub warnings: Vec<Warning>,
    /// Multi-line fields with the line of the mistake and a mark below it.
    pub excerpts: Vec<(String, String)>,
}

/// The common form of both API groups' specs.
struct Spec {
    target: TargetRef,
    triggers_types: String,
    authentications_types: String,
    restore_to_original: bool,
    /// Meaningless if a problem was reported.
    definition: Definition,
}

/// Reads an object from the API server's JSON. `servers` are those that the cluster names once for all.
///
/// # Errors
/// If the bytes are not a JSON object with a `metadata.name`.
pub fn from_slice(group: ApiGroup, json: &[u8], servers: &Servers) -> Result<ScaledObject, Unreadable> {
    let value = serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
    from_value(group, value, servers).map(|reading| reading.object)
}

/// Like [`from_slice`], but from a parsed value, and with the warnings that `check` prints.
///
/// # Errors
/// When there is no `metadata.name`.
pub fn from_value(group: ApiGroup, mut object: Value, servers: &Servers) -> Result<ParsedObject, Unreadable> {
    let mut report = Diagnostics::default();
    let mut metadata = Metadata::take(&mut object, &mut report)?;
    let created_at = metadata.created_at();
    if let Some(spec) = object.get_mut("spec") {
        servers.fill_in(spec);
    }
    if object.get("spec").is_none_or(Value::is_null) {
        report.problem(Step::Target, "spec", "is missing", "write a spec with scaleTargetRef and triggers");
    }
    let spec_fields = Fields::new("spec", object.get("spec"), Step::BuildScalers, &mut report);
    let spec = match group {
        ApiGroup::KedaSh => current::read(&metadata, &spec_fields, &mut report),
        ApiGroup::KedaK8sIo => legacy::read(&metadata, &spec_fields, &mut report),
        ApiGroup::Autoscaling => of_hpa::read(&metadata, &spec_fields, &mut report),
    };
    let annotations = annotations::read(&metadata.annotations, &mut report);
    metadata.annotations.retain(|key, _| !NOT_KEPT.contains(&key.as_str()));
    // serde_json sorts keys, so the text is canonical.
    let spec_json = mask::recorded(object.get("spec").unwrap_or(&Value::Null));
    let status = object.get("status").map(status::from_value).unwrap_or_default();

    let Diagnostics { mut problems, warnings, excerpts } = report;
    // If something is missing or has the wrong type as a whole, problems of its parts only follow from that.
    let is_whole = |problem: &&Problem| {
        problem.field == "spec"
            || ["must be an object", "must be a list"].iter().any(|text| problem.message.starts_with(text))
    };
    let whole: Vec<String> = problems.iter().filter(is_whole).map(|problem| problem.field.clone()).collect();
    problems.retain(|problem| {
        !whole.iter().any(|whole| problem.field.strip_prefix(&**whole).is_some_and(|rest| rest.starts_with(['.', '['])))
    });
    // The sort is stable, so that problems of a step stay in the order of reading.
    problems.sort_by_key(|problem| problem.step);
    let definition = if problems.is_empty() { Ok(Arc::new(spec.definition)) } else { Err(Invalid { problems }) };
    let object = ScaledObject {
        key: ObjectKey::new(group, &metadata.namespace, &metadata.name),
        uid: metadata.uid,
        generation: metadata.generation,
        resource_version: metadata.resource_version,
        created_at,
        deletion_requested: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers,
        labels: exact_map(metadata.labels),
        annotations: exact_map(metadata.annotations),
        target: spec.target,
        triggers_types: spec.triggers_types,
        authentications_types: spec.authentications_types,
        definition,
        pause: annotations.pause,
        force_activation: annotations.force_activation,
        is_shadow: annotations.is_shadow,
        transfer_hpa_ownership: annotations.transfer_hpa_ownership,
        asked: Arc::default(),
        per_replica: Vec::new(),
        scales_to_zero: false,
        unheeded: None,
        observed: None,
        restore_to_original: spec.restore_to_original,
        spec_json: spec_json.into(),
        status,
    };
    Ok(ParsedObject { object, warnings, excerpts })
}

/// Reads a definition that was recorded, as the daemon did; `None` if it is invalid.
#[must_use]
pub fn recorded(group: ApiGroup, namespace: &str, name: &str, spec_json: &str) -> Option<Arc<Definition>> {
    let spec: Value = serde_json::from_str(spec_json).ok()?;
    let object = json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec });
    // What is recorded names its servers.
    from_value(group, object, &Servers::default()).ok()?.object.definition.ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scaling::model::{MetricType, OnMissing, Query, UnixMillis};

    fn read(group: ApiGroup, object: &Value) -> ScaledObject {
        from_slice(group, object.to_string().as_bytes(), &Servers::default()).expect("has a name")
    }

    #[test]
    fn defaults_of_the_current_api() {
        let object = read(
            ApiGroup::KedaSh,
            &json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": "9",
                    "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b"}, "finalizers": ["finalizer.keda.sh"],
                    "annotations": {"note": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}",
                        "argocd.argoproj.io/tracking-id": "t"}},
                "spec": {
                    "triggers": [{"type": "prometheus", "metadata":
                        {"threshold": "75", "serverAddress": "http://p:9090//", "query": "up"}}],
                    "scaleTargetRef": {"name": "web"},
                    "advanced": {"scalingModifiers": {}, "horizontalPodAutoscalerConfig": {"behavior": {}}},
                },
                "status": {"hpaName": "old"},
            }),
        );
        assert_eq!((object.generation, object.created_at), (3, UnixMillis(1_767_323_045_000)));
        assert_eq!(object.status.hpa_name.as_deref(), Some("old"));
        assert_eq!(object.annotations.keys().collect::<Vec<_>>(), ["note"]);
        assert_eq!((object.triggers_types.as_str(), object.authentications_types.as_str()), ("prometheus", ""));
        assert!(!object.deletion_requested && !object.restore_to_original && !object.pause.is_any());
        assert_eq!((object.target.api_version.as_str(), object.target.kind.as_str()), ("apps/v1", "Deployment"));
        assert!(
            object.spec_json.starts_with(r#"{"advanced":{"horizontalPodAutoscalerConfig""#),
            "{}",
            object.spec_json
        );
        let definition = object.definition.expect("is valid");
        assert_eq!(definition.polling_interval, Duration::from_secs(30));
        assert_eq!(definition.cooldown_period, Duration::from_secs(300));
        assert_eq!(definition.initial_cooldown_period, Duration::ZERO);
        assert_eq!((definition.idle_replicas, definition.min_replicas, definition.max_replicas), (None, None, 100));
        assert_eq!((definition.fallback.as_ref(), definition.behavior.as_ref()), (None, None));
        assert_eq!(definition.hpa_name, "keda-hpa-web");
        let trigger = &definition.triggers[0];
        assert_eq!((&*trigger.metric_name, trigger.metric_type), ("s0-prometheus", MetricType::AverageValue));
        assert_eq!(trigger.on_missing, OnMissing::EmptyIsZero);
        let Some(Query::Prometheus(source)) = trigger.source.query() else { panic!("{trigger:?}") };
        assert_eq!((source.server_address.as_str(), source.timeout, source.unsafe_ssl), ("http://p:9090", None, false));
    }

    #[test]
    fn the_older_api_gives_the_same_model() {
        let object = read(
            ApiGroup::KedaK8sIo,
            &json!({
                "metadata": {"name": "web-scaler", "namespace": "shop"},
                "spec": {
                    "scaleType": "deployment",
                    "scaleTargetRef": {"deploymentName": "web", "containerName": "app"},
                    "minReplicaCount": 2, "idleReplicaCount": 9,
                    "triggers": [{"type": "prometheus", "metricType": "Value", "metadata":
                        {"threshold": 75, "serverAddress": "http://p:9090", "query": "up", "metricName": "Http_Requests"},
                        "authenticationRef": {"name": "a", "kind": "ClusterTriggerAuthentication"}}],
                },
            }),
        );
        assert_eq!(object.target.name, "web");
        assert_eq!(object.target.env_source_container.as_deref(), Some("app"));
        assert_eq!(object.authentications_types, "a");
        let definition = object.definition.expect("is valid");
        assert_eq!(definition.hpa_name, "keda-hpa-web");
        assert_eq!(definition.selector, ("deploymentName".to_owned(), "web".to_owned()));
        assert_eq!((definition.idle_replicas, definition.min_replicas), (None, Some(2)));
        let trigger = &definition.triggers[0];
        assert_eq!((&*trigger.metric_name, trigger.metric_type), ("Http_Requests", MetricType::AverageValue));
        let kind = trigger.authentication.as_ref().map(|reference| reference.kind.name());
        assert_eq!(kind, Some("TriggerAuthentication"));
    }

    /// Regression: 150 objects of 1.4 MB each took more memory than the daemon has.
    #[test]
    fn too_much_text_is_a_problem_and_is_not_kept() {
        let with = |count: usize| {
            let metadata = json!({"threshold": "75", "serverAddress": "http://p", "query": "x".repeat(14_000)});
            let trigger = json!({"type": "prometheus", "metadata": metadata});
            let spec = json!({"scaleTargetRef": {"name": "web"}, "triggers": vec![trigger; count],
                "fallback": {"failureThreshold": 3, "replicas": 2}});
            read(ApiGroup::KedaSh, &json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}))
        };
        assert_eq!(with(18).definition.expect("is valid").triggers.len(), 18);
        let refused = with(100);
        let problems = refused.definition.expect_err("is too large").problems;
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.field, "spec.triggers");
        assert_eq!(problem.message, "the triggers have 1373 KiB of text, more than 256 KiB");
        assert_eq!(problem.fix, "write shorter queries");
        assert_eq!(refused.triggers_types, "");
        assert!(refused.spec_json.len() <= 64 << 10, "{}", refused.spec_json.len());
    }

    /// Puts garbage in random places: it must be read without a panic, and a definition that counts as valid must meet
    /// the core's expectations.
    #[test]
    fn rubbish_is_a_problem_and_never_a_panic() {
        let good = json!({
            "metadata": {"name": "web", "namespace": "shop", "annotations": {"autoscaling.keda.sh/paused": "x"}},
            "spec": {
                "scaleTargetRef": {"name": "web", "kind": "StatefulSet", "apiVersion": "apps/v1", "deploymentName": "web"},
                "pollingInterval": 5, "idleReplicaCount": 0, "minReplicaCount": 2, "maxReplicaCount": 9,
                "fallback": {"failureThreshold": 3, "replicas": 2, "behavior": "static"},
                "advanced": {"restoreToOriginalReplicaCount": true, "horizontalPodAutoscalerConfig": {"name": "h",
                    "behavior": {"scaleUp": {"tolerance": "0.1", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]}}}},
                "triggers": [{"type": "prometheus", "name": "n", "metricType": "Value", "useCachedMetrics": true,
                    "authenticationRef": {"name": "a"}, "metadata": {
                        "serverAddress": "http://p", "query": "up", "threshold": "5", "metricName": "m", "timeout": "5s",
                        "customHeaders": "a=b", "authModes": "bearer", "onMissing": "hold", "holdFor": "5m"}}],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "health": {"m": {"numberOfFailures": 1}}},
        });
        let rubbish = [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(1e300),
            json!(0.0004),
            json!(u64::MAX),
            json!(""),
            json!("é"),
            json!("9".repeat(400)),
            json!("-0.0"),
            json!("1e-400"),
            json!("http://[::"),
            json!("=,=,"),
            json!([]),
            json!([[]]),
            json!({}),
            json!({"a": {"name": 5}}),
        ];
        fn spoil(value: &mut Value, rubbish: &[Value], random: &mut fastrand::Rng) {
            let children: Vec<&mut Value> = match value {
                Value::Object(map) => map.values_mut().collect(),
                Value::Array(items) => items.iter_mut().collect(),
                _ => Vec::new(),
            };
            let count = children.len();
            if count == 0 || random.u8(0..5) == 0 {
                *value = rubbish[random.usize(0..rubbish.len())].clone();
            } else if let Some(child) = children.into_iter().nth(random.usize(0..count)) {
                spoil(child, rubbish, random);
            }
        }
        let mut random = fastrand::Rng::with_seed(1);
        let mut valid = 0;
        for _ in 0..20_000 {
            let mut object = good.clone();
            for _ in 0..random.usize(1..4) {
                spoil(&mut object, &rubbish, &mut random);
            }
            for group in [ApiGroup::KedaSh, ApiGroup::KedaK8sIo] {
                let Ok(object) = from_slice(group, object.to_string().as_bytes(), &Servers::default()) else {
                    continue;
                };
                match object.definition {
                    Ok(definition) => {
                        valid += 1;
                        assert!(!definition.triggers.is_empty() && !object.target.name.is_empty());
                        assert!(definition.min() <= definition.max_replicas && definition.max_replicas > 0);
                        assert!(definition.idle_replicas.is_none_or(|idle| idle < definition.min().max(1)));
                        assert!(!definition.polling_interval.is_zero());
                        for trigger in &definition.triggers {
                            assert!(crate::scaling::hpa::target_milli(trigger.threshold) > 0);
                            assert!(trigger.activation_threshold.is_finite());
                        }
                    }
                    Err(invalid) => assert!(!invalid.problems.is_empty()),
                }
            }
        }
        assert!(valid > 500, "{valid}");
    }
}
