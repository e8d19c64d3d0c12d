//! A ScaledObject that has been read and checked: parsed, valid by construction.
//!
//! These types are used by every other module. They are pure data: no clock, no I/O, no serde. [`crate::wire`] converts
//! them from and to JSON.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use super::allowed::Allowed;
use super::formula::Formula;
pub use super::identity::{AzureCloud, PodIdentity};
pub use super::kafka::{KafkaSource, LagRules, Sasl};
pub use super::object_key::{ApiGroup, ObjectKey};
pub use super::observed::{Observed, Remember};
pub use super::pause::Pause;
pub use super::pod_metric::{Aggregator, POLL_MAX, PodMetricSource, PodValues};
pub use super::queue::{
    CloudWatchMetric, CloudWatchSource, Exact, GraphiteSource, InfluxApi, InfluxSource, NatsSource, PostgresSource,
    QueueMeasure, QueueOperation, QueueRegex, RabbitMqSource, RedisSetup, RedisSize, RedisSource, Server,
    ServiceBusEntity, ServiceBusSource, SqsSource,
};
use super::secret_store::{SecretStore, StoredSecret};
pub use super::source::{
    AggregationFunction, ApiKey, ApiKeyPlace, AuthMode, BodyFormat, MetricsApiSource, OnMissing, PodSelection,
    PrometheusSource, Query, ResourceSource, ServiceAggregation, ShownMetric, ShownUnit, Source, TIMEOUT_MAX,
};
pub use super::time::UnixMillis;

/// A ScaledObject as last seen on the API server, or an HPA in the terms of one. Always representable, however
/// wrong its spec: what is wrong is kept in `definition`, so that it can still be reported on the object, which can be
/// paused or deleted.
#[derive(Clone, Debug)]
pub struct ScaledObject {
    pub key: ObjectKey,
    pub uid: String,
    pub generation: i64,
    pub resource_version: String,
    pub created_at: UnixMillis,
    /// `metadata.deletionTimestamp` is set.
    pub deletion_requested: bool,
    pub finalizers: Vec<String>,
    pub labels: LiteMap<String, String>,
    pub annotations: LiteMap<String, String>,
    /// `spec.scaleTargetRef` with defaults applied; its name may be empty if the spec is invalid.
    pub target: TargetRef,
    /// Distinct trigger types in order of first appearance, comma-joined; a column of `kubectl get`.
    pub triggers_types: String,
    /// Distinct `authenticationRef.name` values in order of first appearance, comma-joined; a column of `kubectl get`.
    pub authentications_types: String,
    pub definition: Result<Arc<Definition>, Invalid>,
    /// From annotations, which are read even if the spec is invalid. In the world it is the pause that holds at the time,
    /// which may be that of the Namespace.
    pub pause: Pause,
    pub force_activation: bool,
    /// Annotation `hpalite.dev/mode: shadow`, or the daemon is one: decisions are recorded, and nothing is written.
    pub is_shadow: bool,
    /// Annotation `scaledobject.keda.sh/transfer-hpa-ownership`.
    pub transfer_hpa_ownership: bool,
    /// Of an annotated HPA: the metrics that it asks for, in the order of the triggers that give them.
    pub asked: Arc<[Asked]>,
    /// Positions of those that are read as what one replica has of them.
    pub per_replica: Vec<usize>,
    /// Of an annotated HPA: hpalite scales its target to zero and from zero.
    pub scales_to_zero: bool,
    /// Of an annotated HPA: what it asks for and does not get though the rest works, and the way to mend it.
    pub unheeded: Option<Box<str>>,
    /// Of an HPA that hpalite serves nothing to by annotations: what its status shows.
    pub observed: Option<Box<Observed>>,
    /// `advanced.restoreToOriginalReplicaCount`, needed at deletion even if the spec is invalid.
    pub restore_to_original: bool,
    /// The spec as JSON text with sorted keys, for the history.
    pub spec_json: Arc<str>,
    pub status: Status,
}

impl ScaledObject {
    /// It is an HPA that somebody else made, of which nothing is written.
    #[must_use]
    pub fn is_hpa(&self) -> bool {
        self.key.group == ApiGroup::Autoscaling
    }

    /// Neither its status nor its HPA is written.
    #[must_use]
    pub fn is_only_watched(&self) -> bool {
        self.is_shadow || self.is_hpa()
    }

    /// Why the metric at this position cannot be served beside this one of another HPA, which goes first: both are asked
    /// for in the same way and are not the same, and a read does not say which HPA it is for.
    #[must_use]
    pub fn contradiction(&self, position: usize, first: &Self) -> Option<Contradiction> {
        let asked = self.asked.get(position)?;
        let read = asked.as_read();
        let theirs = first.asked.iter().position(|one| one.as_read() == read)?;
        let trigger = |object: &Self, at: usize| object.definition.as_ref().ok()?.triggers.get(at).cloned();
        let (mine, other) = (trigger(self, position)?, trigger(first, theirs)?);
        let is_same = mine.source == other.source
            && mine.authentication == other.authentication
            && self.per_replica.contains(&position) == first.per_replica.contains(&theirs);
        (!is_same).then(|| Contradiction {
            message: format!(
                "the HPA {} asks for another query by {asked}, and reads of the two cannot be told apart",
                first.key.name
            ),
            fix: "give this metric another name, or its selector another label",
        })
    }

    /// Its HPA alone decides the replicas.
    #[must_use]
    pub fn leaves_replicas(&self) -> bool {
        self.is_hpa() && !self.scales_to_zero
    }
}

/// What is wrong with a metric that another HPA asks for as well, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    pub message: String,
    pub fix: &'static str,
}

/// How an HPA asks for a metric: the metric's name, and the labels that its selector demands, by key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asked {
    pub metric: String,
    pub labels: Vec<(String, String)>,
    pub of: AskedOf,
}

impl Asked {
    /// What a read of it shows: the controller's client writes the metric's name in lower case, and names the resource
    /// and group of an object, and not its kind and version.
    #[must_use]
    pub fn as_read(&self) -> Self {
        let of = match &self.of {
            AskedOf::Object(object) => AskedOf::Object(Described {
                api_version: object.group().to_owned(),
                kind: String::new(),
                name: object.name.clone(),
            }),
            of => of.clone(),
        };
        Self { metric: self.metric.to_ascii_lowercase(), labels: self.labels.clone(), of }
    }
}

/// Which kind of metric an HPA asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AskedOf {
    External,
    Object(Described),
    /// Of each pod of this workload: its kind and name.
    Pods {
        kind: String,
        name: String,
    },
}

/// The object that an Object metric is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Described {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

impl Described {
    /// The API group; empty for that of pods.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// `name{key=value,…}`, and whose metric it is unless it is an external one.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        write!(f, "{}{{{}}}", self.metric, labels.join(","))?;
        match &self.of {
            AskedOf::External => Ok(()),
            AskedOf::Object(Described { kind, name, .. }) => write!(f, " of {kind} {name}"),
            AskedOf::Pods { kind, name } => write!(f, " of the pods of {kind} {name}"),
        }
    }
}

/// Why a spec cannot be used. Shown on the object and by `hpalite check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// All problems, in the order in which a reconcile finds them; never empty.
    pub problems: Vec<Problem>,
}

impl Invalid {
    /// The earliest failing step, which decides the phrase of the condition.
    #[must_use]
    pub fn step(&self) -> Step {
        self.problems.iter().map(|problem| problem.step).min().unwrap_or(Step::BuildScalers)
    }

    /// The problems of the earliest failing step, `; `-joined, which follow the phrase in the Ready condition.
    #[must_use]
    pub fn message(&self) -> String {
        let step = self.step();
        let texts: Vec<String> = self.problems.iter().filter(|p| p.step == step).map(ToString::to_string).collect();
        texts.join("; ")
    }

    /// All problems, `; `-joined.
    #[must_use]
    pub fn all(&self) -> String {
        self.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub step: Step,
    /// JSON path from the object's root, e.g. `spec.triggers[0].metadata.threshold`.
    pub field: String,
    /// What is wrong, with the offending value, e.g. `"abc" is not a number`.
    pub message: String,
    /// What to write instead, e.g. `write a number such as "75" or "0.5"`.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, " ({})", self.fix) }
    }
}

/// The steps of checking an object, in order. Each has the phrase that KEDA uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `scaleTargetRef` itself, or the resource behind it.
    Target,
    /// Idle, min and max replica counts.
    ReplicaBounds,
    /// Rules over the list of triggers.
    Triggers,
    /// Metadata of one trigger, the HPA's metrics, formulas, fallback.
    BuildScalers,
}

impl Step {
    /// First half of the message of the Ready condition.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Target => "ScaledObject doesn't have correct scaleTargetRef specification",
            Self::ReplicaBounds => "ScaledObject doesn't have correct Idle/Min/Max Replica Counts specification",
            Self::Triggers => "ScaledObject doesn't have correct triggers specification",
            Self::BuildScalers => "failed to ensure HPA is correctly created for ScaledObject",
        }
    }
}

/// What to scale, as written, with defaults applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetRef {
    /// Default `apps/v1`.
    pub api_version: String,
    /// Default `Deployment`.
    pub kind: String,
    pub name: String,
    /// The container whose env a trigger authentication reads; the first one by default.
    pub env_source_container: Option<String>,
}

/// A kind with its resource name, as discovery resolved it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvkr {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub resource: String,
}

impl Gvkr {
    /// `apps/v1.Deployment`; the core group has a leading slash, as in KEDA.
    #[must_use]
    pub fn kind_text(&self) -> String {
        format!("{}/{}.{}", self.group, self.version, self.kind)
    }

    /// `apps/v1`, or `v1` for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// A valid spec. Its `Default` is empty and not valid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definition {
    /// How often the triggers are polled. Default 30 s.
    pub polling_interval: Duration,
    /// Inactive time before scaling to zero or to the idle count. Default 300 s.
    pub cooldown_period: Duration,
    /// The same for an object that was never active, counted from its creation. Default 0.
    pub initial_cooldown_period: Duration,
    pub idle_replicas: Option<u32>,
    /// As written; absence means 0 here and 1 in the HPA.
    pub min_replicas: Option<u32>,
    /// Default 100.
    pub max_replicas: u32,
    pub fallback: Option<Fallback>,
    /// Wanted name of the HPA.
    pub hpa_name: String,
    pub behavior: Option<Behavior>,
    /// Set when `advanced.scalingModifiers` has a formula; every trigger has a name then.
    pub modifiers: Option<Box<Modifiers>>,
    /// Triggers that become External metrics, in order.
    pub triggers: Vec<Trigger>,
    /// Triggers on the pods' own use of cpu and memory, in order. Never empty together with `triggers`.
    pub resource_triggers: Vec<ResourceTrigger>,
    /// Label that selects this object's metrics in a read: key and value.
    pub selector: (String, String),
    /// Label keys not copied to the HPA (annotation `scaledobject.keda.sh/hpa-excluded-labels`).
    pub excluded_labels: Vec<String>,
}

impl Definition {
    /// `minReplicaCount`; 0 if absent.
    #[must_use]
    pub fn min(&self) -> u32 {
        self.min_replicas.unwrap_or(0)
    }

    /// It is what an HPA says that hpalite only observes.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.triggers.iter().any(|trigger| matches!(trigger.source, Source::Shown(_)))
    }

    /// It has no trigger that could ever report that the target may be scaled to zero.
    #[must_use]
    pub fn is_resource_only(&self) -> bool {
        self.triggers.is_empty() && !self.resource_triggers.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Number of consecutive failures that is tolerated; the fallback applies to more than that.
    pub failure_threshold: u32,
    pub replicas: u32,
    pub behavior: FallbackBehavior,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackBehavior {
    Static,
    CurrentReplicas,
    CurrentReplicasIfHigher,
    CurrentReplicasIfLower,
    ScalingModifiers,
}

/// `advanced.scalingModifiers`: one metric that is computed from all triggers and replaces them.
#[derive(Clone, Debug, PartialEq)]
pub struct Modifiers {
    /// A formula over the names of the triggers.
    pub formula: Formula,
    /// The HPA's target for the result, above 0.
    pub target: f64,
    /// The object is active if the result is greater than this. Default 0.
    pub activation_target: f64,
    pub metric_type: MetricType,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    #[default]
    AverageValue,
    Value,
}

impl MetricType {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AverageValue => "AverageValue",
            Self::Value => "Value",
        }
    }
}

/// `autoscaling/v2` behavior, as written by the user: absent fields stay absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behavior {
    pub scale_up: Option<ScalingRules>,
    pub scale_down: Option<ScalingRules>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScalingRules {
    pub stabilization_window_seconds: Option<i32>,
    /// `Max`, `Min` or `Disabled`; the API server refuses anything else.
    pub select_policy: Option<String>,
    /// `None` and empty have different meanings on the wire.
    pub policies: Option<Vec<ScalingPolicy>>,
    /// Quantity text.
    pub tolerance: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalingPolicy {
    /// `Pods` or `Percent`.
    pub kind: String,
    pub value: i32,
    pub period_seconds: i32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Position in `spec.triggers`, from 0.
    pub index: u16,
    /// `type` as written, e.g. `prometheus`.
    pub kind: String,
    /// Unique when set.
    pub name: Option<String>,
    /// Name in the HPA and in reads, e.g. `s0-prometheus`.
    pub metric_name: Arc<str>,
    pub metric_type: MetricType,
    /// The HPA's target for this metric.
    pub threshold: f64,
    /// The trigger is active if its value is greater than this. Default 0.
    pub activation_threshold: f64,
    pub use_cached_metrics: bool,
    pub authentication: Option<AuthenticationRef>,
    /// Parameters that its metadata take from the environment of the workload.
    pub env: Vec<ParameterSource>,
    pub on_missing: OnMissing,
    pub source: Source,
}

impl Trigger {
    /// The trigger's name if it has one, else that of its metric.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.metric_name)
    }

    /// Its value follows from the time alone, so that nobody is asked for it and it never gets old.
    #[must_use]
    pub fn is_computed(&self) -> bool {
        matches!(self.source, Source::Cron(_))
    }
}

/// A cpu or memory trigger. The HPA controller measures it by itself: hpalite only sets its target, and it is never
/// polled, active or in error.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceTrigger {
    /// Position in `spec.triggers`, from 0.
    pub index: u16,
    /// `cpu` or `memory`: the trigger's type, and the resource's name in the HPA.
    pub kind: String,
    pub name: Option<String>,
    /// Only this container instead of the whole pod.
    pub container: Option<String>,
    pub target: MetricTarget,
    pub authentication: Option<AuthenticationRef>,
}

/// In milli units, so that `1`, `1000m` and `1.000` are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricTarget {
    AverageValue(i128),
    Value(i128),
    Utilization(i32),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthenticationRef {
    pub kind: AuthenticationKind,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthenticationKind {
    TriggerAuthentication,
    ClusterTriggerAuthentication,
}

impl AuthenticationKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TriggerAuthentication => "TriggerAuthentication",
            Self::ClusterTriggerAuthentication => "ClusterTriggerAuthentication",
        }
    }
}

/// Identity of a TriggerAuthentication (namespaced) or ClusterTriggerAuthentication (empty namespace).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthenticationKey {
    pub group: ApiGroup,
    pub kind: AuthenticationKind,
    pub namespace: String,
    pub name: String,
}

impl AuthenticationKey {
    /// The identity of an authentication that an object refers to; namespaced ones are in the object's namespace.
    #[must_use]
    pub fn of(object: &ObjectKey, reference: &AuthenticationRef) -> Self {
        Self {
            // HPAs use those of the newer API.
            group: if object.group == ApiGroup::Autoscaling { ApiGroup::KedaSh } else { object.group },
            kind: reference.kind,
            namespace: match reference.kind {
                AuthenticationKind::TriggerAuthentication => object.namespace.to_string(),
                AuthenticationKind::ClusterTriggerAuthentication => String::new(),
            },
            name: reference.name.clone(),
        }
    }
}

impl fmt::Display for AuthenticationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind.name(), self.name)
        } else {
            write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
        }
    }
}

/// KEDA's own finalizer names, so that objects can pass between KEDA and hpalite without a trace.
pub const FINALIZERS: [&str; 2] = ["finalizer.keda.sh", "finalizer.keda.k8s.io"];

/// A (Cluster)TriggerAuthentication: the sources of parameters, never their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    pub key: AuthenticationKey,
    pub generation: i64,
    pub resource_version: String,
    pub deletion_requested: bool,
    pub finalizers: Vec<String>,
    /// In order of application; a later source overrides an earlier one.
    pub sources: Vec<ParameterSource>,
    /// `podIdentity`; `None` without one, or if it is `none`.
    pub pod_identity: Option<PodIdentity>,
    /// For a ClusterTriggerAuthentication: who may use it.
    pub allowed: Allowed,
    /// What it asks for that hpalite does not support (a cloud provider, a vault), with the field and the fix.
    pub unsupported: Option<Problem>,
    /// `status.scaledobjects`, comma-joined names, as on the API server.
    pub status_scaled_objects: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParameterSource {
    /// An environment variable of the target's container (`None`: the object's env source container).
    Env {
        parameter: String,
        name: String,
        container: Option<String>,
    },
    /// A file below the configured root whose JSON object has all parameters; no other source applies after it.
    FilePath(String),
    ConfigMap {
        parameter: String,
        name: String,
        key: String,
    },
    Secret {
        parameter: String,
        name: String,
        key: String,
    },
    BoundServiceAccountToken {
        parameter: String,
        service_account: String,
    },
    /// Written in the authentication itself, so that it is no secret.
    Value {
        parameter: String,
        value: String,
    },
    /// A secret of a store beside the cluster.
    Store {
        parameter: String,
        store: Arc<SecretStore>,
        secret: Box<StoredSecret>,
    },
}

impl ParameterSource {
    /// Returns whether it gives this parameter, or may give any.
    #[must_use]
    pub fn may_give(&self, wanted: &str) -> bool {
        match self {
            Self::FilePath(_) => true,
            Self::Env { parameter, .. }
            | Self::ConfigMap { parameter, .. }
            | Self::Secret { parameter, .. }
            | Self::BoundServiceAccountToken { parameter, .. }
            | Self::Value { parameter, .. }
            | Self::Store { parameter, .. } => parameter == wanted,
        }
    }
}

/// A status as read from, or to be written to, the API server.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Status {
    pub scale_target_kind: Option<String>,
    pub scale_target_gvkr: Option<Arc<Gvkr>>,
    pub original_replica_count: Option<u32>,
    /// Second resolution on the wire.
    pub last_active_at: Option<UnixMillis>,
    pub external_metric_names: Vec<String>,
    pub resource_metric_names: Vec<String>,
    pub composite_scaler_name: Option<String>,
    /// The order is kept as read; new types are appended.
    pub conditions: Vec<Condition>,
    /// Metric name to consecutive failures and state; only if there is a fallback.
    pub health: LiteMap<String, Health>,
    /// Metric name to whether its trigger is active.
    pub triggers_activity: LiteMap<String, bool>,
    pub paused_replica_count: Option<u32>,
    pub hpa_name: Option<String>,
    pub triggers_types: Option<String>,
    pub authentications_types: Option<String>,
}

impl Status {
    /// The latest time of activity that the status can mean: the end of the second that it says. A cooldown that is too
    /// long by less than a second harms less than one that is too short.
    #[must_use]
    pub fn last_active_at_most(&self) -> Option<UnixMillis> {
        self.last_active_at.map(|at| UnixMillis(at.0.div_euclid(1000) * 1000 + 999))
    }

    #[must_use]
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Health {
    pub number_of_failures: u32,
    /// `Failing` if true, else `Happy`.
    pub failing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    pub kind: ConditionKind,
    pub status: ConditionStatus,
    /// Most texts are the same for all objects that are well, and so are not copied for each.
    pub reason: Cow<'static, str>,
    pub message: Cow<'static, str>,
}

impl Condition {
    #[must_use]
    pub fn new(
        kind: ConditionKind,
        status: ConditionStatus,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { kind, status, reason: reason.into(), message: message.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionKind {
    Ready,
    Active,
    Fallback,
    Paused,
    HpaActive,
    /// Whether every trigger has a value, and what is wrong with those that have none. KEDA has no such condition; it
    /// is added with the first trouble.
    TriggersHealthy,
    /// In the history only: while it is true, nothing of the object is written, not even its status.
    Shadow,
}

impl ConditionKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Active => "Active",
            Self::Fallback => "Fallback",
            Self::Paused => "Paused",
            Self::HpaActive => "HPAActive",
            Self::TriggersHealthy => "TriggersHealthy",
            Self::Shadow => "Shadow",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ready, Self::Active, Self::Fallback, Self::Paused, Self::HpaActive, Self::TriggersHealthy]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A scale target as its watch or its `/scale` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `spec.replicas`; 1 if absent, as for the API server.
    pub replicas: u32,
    /// Label selector of its pods, if known.
    pub selector: Option<String>,
    /// Field manager that last changed `spec.replicas`, from managedFields, if known.
    pub replicas_manager: Option<String>,
    /// `status.readyReplicas`; 0 where nothing shows it, as in a Scale.
    pub ready: u32,
    /// `metadata.resourceVersion`, of which a Scale has that of its object. Kubernetes 1.35 declares that those of one kind
    /// are decimal numbers and increase; `None` if it is no such number.
    pub version: Option<u64>,
}
