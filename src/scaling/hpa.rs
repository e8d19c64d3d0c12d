//! The desired HorizontalPodAutoscaler, the observed one, and the differences between them.

use litemap::LiteMap;

use super::composite;
use super::model::{
    Behavior, Definition, Described, Gvkr, MetricTarget, MetricType, ObjectKey, Pause, ScaledObject, ScalingPolicy,
    ScalingRules, TargetRef, Trigger, UnixMillis,
};

/// The parts of an `autoscaling/v2` HPA that hpalite sets.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredHpa {
    pub namespace: String,
    pub name: String,
    pub labels: LiteMap<String, String>,
    pub annotations: LiteMap<String, String>,
    pub owner: Owner,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// apiVersion, kind and name; nothing else is used.
    pub target: TargetRef,
    pub metrics: Vec<HpaMetric>,
    pub behavior: Option<Behavior>,
}

/// The controller owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub key: ObjectKey,
    pub uid: String,
}

impl Owner {
    pub(super) fn of(object: &ScaledObject) -> Self {
        Self { key: object.key.clone(), uid: object.uid.clone() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum HpaMetric {
    External {
        name: String,
        match_labels: LiteMap<String, String>,
        target: MetricTarget,
    },
    /// Never set, but observed: somebody else's HPA may ask for it here.
    Object {
        name: String,
        match_labels: LiteMap<String, String>,
        described: Described,
        target: MetricTarget,
    },
    /// The same.
    Pods {
        name: String,
        match_labels: LiteMap<String, String>,
        target: MetricTarget,
    },
    Resource {
        name: String,
        target: MetricTarget,
    },
    ContainerResource {
        container: String,
        name: String,
        target: MetricTarget,
    },
    /// A metric that hpalite never sets but may observe: of another kind, or with a selector of expressions.
    Other {
        kind: String,
        name: String,
        /// `None` if it cannot be read.
        target: Option<MetricTarget>,
    },
}

/// The owner reference that is marked as the controller, whatever kind of object it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

impl OwnerRef {
    pub(crate) fn is_scaled_object(&self) -> bool {
        self.kind == "ScaledObject"
    }
}

/// Identity of an HPA within the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HpaId {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl HpaId {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// An HPA as its watch shows it, reduced to what is compared, mirrored or recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedHpa {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub created_at: UnixMillis,
    pub labels: LiteMap<String, String>,
    pub annotations: LiteMap<String, String>,
    pub controller: Option<OwnerRef>,
    pub min_replicas: Option<u32>,
    pub max_replicas: u32,
    pub target: TargetRef,
    pub metrics: Vec<HpaMetric>,
    pub behavior: Option<Behavior>,
    pub deletion_requested: bool,
    pub current_replicas: i32,
    pub desired_replicas: i32,
    /// Type, status, reason, message.
    pub conditions: Vec<(String, String, String, String)>,
    /// `status.currentMetrics` as JSON text with sorted keys, for the history only.
    pub current_metrics_json: String,
}

impl DesiredHpa {
    pub(super) fn id(&self) -> HpaId {
        HpaId::new(&self.namespace, &self.name)
    }
}

impl ObservedHpa {
    pub(super) fn id(&self) -> HpaId {
        HpaId::new(&self.namespace, &self.name)
    }
}

/// Returns the HPA for one object. `gvkr` is the resolved kind of its target.
#[must_use]
pub fn desired(object: &ScaledObject, definition: &Definition, gvkr: &Gvkr, version: &str) -> DesiredHpa {
    let mut labels = LiteMap::from_iter([
        ("app.kubernetes.io/name".to_owned(), label_value(&definition.hpa_name)),
        ("app.kubernetes.io/version".to_owned(), label_value(version)),
        ("app.kubernetes.io/part-of".to_owned(), label_value(&object.key.name)),
        ("app.kubernetes.io/managed-by".to_owned(), "hpalite".to_owned()),
    ]);
    let copied = object.labels.iter().filter(|(key, _)| !definition.excluded_labels.contains(key));
    labels.extend(copied.map(|(key, value)| (key.clone(), value.clone())));
    DesiredHpa {
        namespace: object.key.namespace.to_string(),
        name: definition.hpa_name.clone(),
        labels,
        annotations: object.annotations.clone(),
        owner: Owner::of(object),
        min_replicas: definition.min().max(1),
        max_replicas: definition.max_replicas,
        target: TargetRef {
            api_version: gvkr.api_version(),
            kind: gvkr.kind.clone(),
            name: object.target.name.clone(),
            env_source_container: None,
        },
        metrics: metrics(definition),
        behavior: behavior(definition.behavior.clone(), &object.pause),
    }
}

fn metrics(definition: &Definition) -> Vec<HpaMetric> {
    let (key, value) = &definition.selector;
    let external = |name: &str, metric_type: MetricType, milli: i128| HpaMetric::External {
        name: name.to_owned(),
        match_labels: LiteMap::from_iter([(key.clone(), value.clone())]),
        target: match metric_type {
            MetricType::AverageValue => MetricTarget::AverageValue(milli),
            MetricType::Value => MetricTarget::Value(milli),
        },
    };
    let mut metrics: Vec<HpaMetric> = match &definition.modifiers {
        // The composite metric replaces the triggers.
        Some(modifiers) => {
            vec![external(composite::NAME, modifiers.metric_type, composite_target_milli(modifiers.target))]
        }
        None => {
            let of = |trigger: &Trigger| {
                external(&trigger.metric_name, trigger.metric_type, target_milli(trigger.threshold))
            };
            definition.triggers.iter().map(of).collect()
        }
    };
    let resources = definition.resource_triggers.iter().map(|trigger| match &trigger.container {
        None => HpaMetric::Resource { name: trigger.kind.clone(), target: trigger.target },
        Some(container) => HpaMetric::ContainerResource {
            container: container.clone(),
            name: trigger.kind.clone(),
            target: trigger.target,
        },
    });
    metrics.extend(resources);
    for metric in &mut metrics {
        metric.cap();
    }
    // The sort is stable, so that triggers keep their order within a type.
    metrics.sort_by_key(HpaMetric::type_name);
    metrics
}

/// The largest quantity that the API server keeps, 2^63 - 1 units, in milli units; it reduces larger ones to that.
const QUANTITY_MAX_MILLI: i128 = i64::MAX as i128 * 1000;

impl MetricTarget {
    fn capped(self) -> Self {
        match self {
            Self::AverageValue(milli) => Self::AverageValue(milli.min(QUANTITY_MAX_MILLI)),
            Self::Value(milli) => Self::Value(milli.min(QUANTITY_MAX_MILLI)),
            Self::Utilization(percent) => Self::Utilization(percent),
        }
    }
}

/// Returns a trigger's target in milli units, rounded as by KEDA.
#[must_use]
pub fn target_milli(target: f64) -> i128 {
    if !target.is_finite() || target <= 0.0 {
        return 0;
    }
    // Saturates far above the largest quantity.
    #[expect(clippy::cast_possible_truncation)]
    let milli = (target * 1000.0).round() as i128;
    milli
}

/// Returns a formula's target in milli units, truncated as by KEDA.
#[must_use]
pub fn composite_target_milli(target: f64) -> i128 {
    // Saturates far above the largest quantity.
    #[expect(clippy::cast_possible_truncation)]
    let milli = (target * 1000.0) as i128;
    milli.max(0)
}

/// One-way pauses disable one direction and keep the user's other settings.
fn behavior(wanted: Option<Behavior>, pause: &Pause) -> Option<Behavior> {
    if !(pause.scale_in || pause.scale_out) {
        return wanted;
    }
    let mut behavior = wanted.unwrap_or_default();
    if pause.scale_in {
        behavior.scale_down.get_or_insert_default().select_policy = Some("Disabled".to_owned());
    }
    if pause.scale_out {
        behavior.scale_up.get_or_insert_default().select_policy = Some("Disabled".to_owned());
    }
    Some(behavior)
}

/// Cuts a text to 63 characters and an alphanumeric end, as label values require.
fn label_value(text: &str) -> String {
    let cut: String = text.chars().take(63).collect();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

impl HpaMetric {
    fn cap(&mut self) {
        match self {
            Self::External { target, .. }
            | Self::Object { target, .. }
            | Self::Pods { target, .. }
            | Self::Resource { target, .. }
            | Self::ContainerResource { target, .. } => {
                *target = target.capped();
            }
            Self::Other { .. } => {}
        }
    }

    /// `type` on the wire, by which metrics are ordered.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::External { .. } => "External",
            Self::Object { .. } => "Object",
            Self::Pods { .. } => "Pods",
            Self::Resource { .. } => "Resource",
            Self::ContainerResource { .. } => "ContainerResource",
            Self::Other { .. } => "Other",
        }
    }
}

/// What must be done to turn the observed HPA into the desired one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    None,
    /// Server-side apply is enough.
    Apply,
    /// Applying would keep behavior that another field manager set, so a full update is needed.
    Replace,
}

/// Compares what hpalite sets; labels and annotations that only the HPA has are ignored.
#[must_use]
pub fn drift(desired: &DesiredHpa, observed: &ObservedHpa) -> Drift {
    let wanted = desired.behavior.as_ref().map(with_defaults);
    let found = observed.behavior.as_ref().map(with_defaults);
    if wanted != found && observed.behavior.is_some() {
        return Drift::Replace;
    }
    let contains = |have: &LiteMap<String, String>, want: &LiteMap<String, String>| {
        want.iter().all(|(key, value)| have.get(key) == Some(value))
    };
    let same_target = observed.target.api_version == desired.target.api_version
        && observed.target.kind == desired.target.kind
        && observed.target.name == desired.target.name;
    let same = wanted == found
        && same_target
        && observed.min_replicas.unwrap_or(1) == desired.min_replicas
        && observed.max_replicas == desired.max_replicas
        && observed.metrics == desired.metrics
        && contains(&observed.labels, &desired.labels)
        && contains(&observed.annotations, &desired.annotations)
        && is_controlled_by(observed, &desired.owner);
    if same { Drift::None } else { Drift::Apply }
}

/// An HPA as the API server returned it when this was written: it drops unknown fields, and webhooks change what they
/// like. Writing the same again would have the same result.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    desired: DesiredHpa,
    answer: ObservedHpa,
}

impl Kept {
    /// Returns `None` if the answer is the desired HPA.
    pub(super) fn of(desired: DesiredHpa, answer: ObservedHpa) -> Option<Self> {
        (drift(&desired, &answer) != Drift::None).then_some(Self { desired, answer })
    }

    /// Returns true if the same is desired, and nobody has changed the fields that hpalite sets.
    pub(super) fn stands(&self, desired: &DesiredHpa, found: &ObservedHpa) -> bool {
        let same = |before: &LiteMap<String, String>, now: &LiteMap<String, String>, ours: &LiteMap<String, String>| {
            ours.keys().all(|key| before.get(key) == now.get(key))
        };
        let (answer, ours) = (&self.answer, &self.desired);
        ours == desired
            && answer.uid == found.uid
            && answer.controller == found.controller
            && answer.min_replicas == found.min_replicas
            && answer.max_replicas == found.max_replicas
            && answer.target == found.target
            && answer.metrics == found.metrics
            && answer.behavior == found.behavior
            && same(&answer.labels, &found.labels, &ours.labels)
            && same(&answer.annotations, &found.annotations, &ours.annotations)
    }
}

/// Returns true if the HPA's controller reference points at this object, uid included.
#[must_use]
pub fn is_controlled_by(observed: &ObservedHpa, owner: &Owner) -> bool {
    let owns = |it: &OwnerRef| it.is_scaled_object() && *it.name == *owner.key.name && it.uid == owner.uid;
    observed.controller.as_ref().is_some_and(owns)
}

/// The API server fills in these defaults whenever `behavior` is present, so both sides of a
/// comparison get them (Kubernetes: pkg/apis/autoscaling/v2/defaults.go).
pub(super) fn with_defaults(behavior: &Behavior) -> Behavior {
    let policy = |kind: &str, value| ScalingPolicy { kind: kind.to_owned(), value, period_seconds: 15 };
    let fill = |rules: &Option<ScalingRules>, window: Option<i32>, policies: Vec<ScalingPolicy>| {
        let rules = rules.clone().unwrap_or_default();
        Some(ScalingRules {
            stabilization_window_seconds: rules.stabilization_window_seconds.or(window),
            select_policy: rules.select_policy.or_else(|| Some("Max".to_owned())),
            policies: rules.policies.or(Some(policies)),
            tolerance: rules.tolerance,
        })
    };
    Behavior {
        scale_up: fill(&behavior.scale_up, Some(0), vec![policy("Pods", 4), policy("Percent", 100)]),
        scale_down: fill(&behavior.scale_down, None, vec![policy("Percent", 100)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::cluster::observed;
    use crate::scaling::testing::{definition, scaled_object};

    fn gvkr() -> Gvkr {
        Gvkr {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: "Deployment".to_owned(),
            resource: "deployments".to_owned(),
        }
    }

    fn wanted(object: &ScaledObject) -> DesiredHpa {
        desired(object, object.definition.as_ref().unwrap(), &gvkr(), "1.0")
    }

    fn rules(window: i32) -> Behavior {
        Behavior {
            scale_down: Some(ScalingRules { stabilization_window_seconds: Some(window), ..ScalingRules::default() }),
            scale_up: None,
        }
    }

    #[test]
    fn bounds_follow_min_and_never_idle() {
        for (min, idle, expected) in [(None, None, 1), (Some(0), None, 1), (Some(3), None, 3), (Some(3), Some(0), 3)] {
            let mut definition = definition();
            definition.min_replicas = min;
            definition.idle_replicas = idle;
            assert_eq!(wanted(&scaled_object(definition)).min_replicas, expected);
        }
    }

    #[test]
    fn labels_are_merged_and_annotations_copied() {
        let mut definition = definition();
        definition.excluded_labels = vec!["secret".to_owned()];
        let mut object = scaled_object(definition);
        object.labels.extend([("team".to_owned(), "a".to_owned()), ("secret".to_owned(), "b".to_owned())]);
        object.annotations.insert("note".to_owned(), "x".to_owned());
        let hpa = wanted(&object);
        assert_eq!(hpa.labels.get("team").map(String::as_str), Some("a"));
        assert_eq!(hpa.labels.get("secret"), None);
        assert_eq!(hpa.labels.get("scaledobject.keda.sh/name").map(String::as_str), Some("shop"));
        assert_eq!(hpa.annotations.keys().collect::<Vec<_>>(), ["note"]);
    }

    #[test]
    fn label_values_are_cut_to_what_the_api_accepts() {
        let long = format!("keda-hpa-{}", "a".repeat(60));
        assert_eq!(label_value(&long).len(), 63);
        assert_eq!(label_value(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
    }

    #[test]
    fn one_way_pause_disables_one_direction_and_keeps_the_rest() {
        let mut definition = definition();
        definition.behavior = Some(rules(60));
        let mut object = scaled_object(definition);
        object.pause.scale_in = true;
        let behavior = wanted(&object).behavior.unwrap();
        let down = behavior.scale_down.unwrap();
        assert_eq!((down.select_policy.as_deref(), down.stabilization_window_seconds), (Some("Disabled"), Some(60)));
        assert_eq!(behavior.scale_up, None);
    }

    #[test]
    fn what_the_api_server_defaulted_is_no_drift() {
        for behavior in [None, Some(Behavior::default()), Some(rules(60))] {
            let mut definition = definition();
            definition.behavior = behavior;
            let hpa = wanted(&scaled_object(definition));
            assert_eq!(drift(&hpa, &observed(&hpa)), Drift::None);
        }
    }

    #[test]
    fn a_target_beyond_every_quantity_is_what_the_api_server_makes_of_it() {
        let mut definition = definition();
        definition.triggers[0].threshold = 1e30;
        let hpa = wanted(&scaled_object(definition));
        let HpaMetric::External { target: MetricTarget::AverageValue(milli), .. } = hpa.metrics[0] else {
            panic!("{:?}", hpa.metrics)
        };
        assert_eq!(crate::scaling::quantity::text(milli), i64::MAX.to_string());
    }

    #[test]
    fn every_edit_is_seen() {
        type Edit = fn(&mut ObservedHpa);
        let edits: &[(Edit, Drift)] = &[
            (|hpa| hpa.max_replicas += 1, Drift::Apply),
            (|hpa| hpa.min_replicas = Some(9), Drift::Apply),
            (|hpa| hpa.metrics.clear(), Drift::Apply),
            (|hpa| hpa.target.name.push('x'), Drift::Apply),
            (
                |hpa| {
                    hpa.labels.remove("app.kubernetes.io/part-of");
                },
                Drift::Apply,
            ),
            (
                |hpa| {
                    hpa.labels.insert("extra".to_owned(), "1".to_owned());
                },
                Drift::None,
            ),
            (
                |hpa| {
                    hpa.annotations.insert("extra".to_owned(), "1".to_owned());
                },
                Drift::None,
            ),
            (|hpa| hpa.controller = None, Drift::Apply),
            (|hpa| hpa.controller.as_mut().unwrap().uid = "other".to_owned(), Drift::Apply),
            (|hpa| hpa.behavior = Some(Behavior::default()), Drift::Replace),
            (|hpa| hpa.current_replicas = 9, Drift::None),
        ];
        let hpa = wanted(&scaled_object(definition()));
        for (n, (edit, expected)) in edits.iter().enumerate() {
            let mut observed = observed(&hpa);
            edit(&mut observed);
            assert_eq!(drift(&hpa, &observed), *expected, "edit {n}");
        }
    }

    #[test]
    fn a_behavior_that_is_not_there_yet_is_applied() {
        let mut definition = definition();
        definition.behavior = Some(rules(60));
        let hpa = wanted(&scaled_object(definition));
        let mut observed = observed(&hpa);
        observed.behavior = None;
        assert_eq!(drift(&hpa, &observed), Drift::Apply);
        observed.behavior = Some(with_defaults(&rules(10)));
        assert_eq!(drift(&hpa, &observed), Drift::Replace);
    }
}
