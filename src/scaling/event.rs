//! What the core is told ([`Event`]) and what it wants done ([`Command`]). Both are plain data.

use std::sync::Arc;
use std::time::Duration;

pub use super::answer::{Absence, Answer, ErrorClass, Missing, PollError};
use super::attribution::Attribution;
use super::hpa::{DesiredHpa, ObservedHpa};
use super::model::{
    Authentication, AuthenticationKey, Condition, Gvkr, MetricType, ObjectKey, ParameterSource, Pause, PodSelection,
    Query, ResourceTrigger, ScaledObject, Status, TargetRef, UnixMillis, Workload,
};
use super::reason::Reason;
use super::recommend::{Limit, Proposal};
use super::view::ObjectView;

/// One step of a watch over a kind. `scope` is the watched namespace, empty for all.
#[derive(Clone, Debug)]
pub enum Seen<T> {
    /// A full list of `scope` begins; what does not follow before its `ListEnd` is gone.
    ListStart {
        scope: String,
    },
    Listed(T),
    ListEnd {
        scope: String,
    },
    Changed(T),
    Gone {
        namespace: String,
        name: String,
        /// Of the one that went; another may have its name by now. Empty if not told.
        uid: String,
    },
    /// It is there, as part of a list or by itself, and makes no sense: what is known of it stands.
    Unreadable {
        namespace: String,
        /// Empty where not even the metadata can be read: any object may be meant.
        name: String,
    },
}

/// Everything that can happen to the core.
#[derive(Debug)]
pub enum Event {
    ScaledObject(super::model::ApiGroup, Seen<Box<ScaledObject>>),
    Hpa(Seen<Box<ObservedHpa>>),
    /// Deployments, StatefulSets and ReplicaSets; the first is the watched kind.
    Workload(Gvkr, Seen<Workload>),
    Authentication(super::model::ApiGroup, super::model::AuthenticationKind, Seen<Box<Authentication>>),
    /// Answers that came together.
    Polled(Vec<PollDone>),
    Written(WriteDone),
    TargetRead(TargetRead),
    AuthenticationRead(AuthenticationRead),
    /// Answer to [`Command::CountReadyPods`].
    PodsCounted {
        object: ObjectKey,
        ready: Result<u32, String>,
    },
    /// Answer to [`Command::WatchPods`], and each change of it.
    PodsSelected {
        namespace: Arc<str>,
        selection: PodSelection,
        count: Result<u32, PollError>,
    },
    /// Somebody read a metric of this object through the external metrics API.
    MetricRead(ObjectKey),
    /// Nobody else acts: from now on this instance does. For a world that was told to
    /// [stand by](super::world::World::stand_by).
    Leading,
    /// What the history knew at start, before any watch is listed.
    Restored(Vec<RestoredState>),
    /// Time passed, or the deadline that [`super::world::World::next_deadline`] gave came.
    Tick,
}

/// State of one object that must survive a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredState {
    pub key: ObjectKey,
    pub uid: String,
    pub last_active_at: Option<UnixMillis>,
    /// The target's replicas as last seen, and the generation that named the target.
    pub replicas: Option<(i64, u32)>,
}

/// One question to one server, asked once for all `subscribers`.
#[derive(Clone, Debug)]
pub struct PollJob {
    pub id: u64,
    /// Bound for requests in flight; [`Query::server`].
    pub server: Arc<str>,
    pub query: Query,
    pub credentials: Option<Credentials>,
    /// When it fell due; lateness is measured against it.
    pub due_at: UnixMillis,
}

/// Where a poll's authentication parameters come from; values are fetched at the time of the poll.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub authentication: AuthenticationKey,
    /// Changes whenever the authentication object changes.
    pub resource_version: String,
    /// Where Secrets and ConfigMaps are looked up: the object's own namespace; empty means the
    /// namespace for cluster-wide authentications that the daemon was configured with.
    pub namespace: String,
    pub sources: Arc<Vec<ParameterSource>>,
    /// Whose containers' env is read by [`ParameterSource::Env`].
    pub env_target: Option<EnvTarget>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvTarget {
    pub gvkr: Gvkr,
    pub namespace: String,
    pub name: String,
    pub container: Option<String>,
}

#[derive(Clone, Debug)]
pub struct PollDone {
    pub id: u64,
    /// From when the job was taken up until the request was sent: whoever asks need not know the core's clock.
    pub asked_after: Duration,
    /// From then on until the answer.
    pub latency: Duration,
    pub answer: Answer,
}

/// One change to make on the API server. At most one of each [`WriteKind`]'s slot is in flight an object.
#[derive(Clone, Debug)]
pub struct Write {
    pub id: u64,
    pub object: ObjectKey,
    pub kind: WriteKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WriteKind {
    /// Finalizer and label that mark the object as ours; sent with the resourceVersion it was decided on.
    Claim {
        finalizers: Vec<String>,
        label: Option<(String, String)>,
        resource_version: String,
    },
    /// Removes our finalizers: the object may go. `finalizers` are the ones that stay.
    Release {
        finalizers: Vec<String>,
        resource_version: String,
    },
    /// Fields that changed, as a merge patch on the status subresource.
    Status(Box<StatusPatch>),
    /// Server-side apply, after a read has found none of this name: what a watch does not show may be there all the
    /// same, and may be somebody else's.
    CreateHpa(Box<DesiredHpa>),
    /// Server-side apply.
    ApplyHpa(Box<DesiredHpa>),
    /// Full update, where applying cannot remove what another manager owns.
    ReplaceHpa {
        desired: Box<DesiredHpa>,
        resource_version: String,
    },
    DeleteHpa {
        name: String,
        uid: String,
    },
    /// Through `/scale`, only while it still shows `from`.
    Scale {
        target: ScaleTarget,
        from: u32,
        to: u32,
    },
    /// `status.scaledobjects` of an authentication, comma-joined names.
    AuthenticationStatus {
        authentication: AuthenticationKey,
        scaled_objects: String,
    },
    /// Adds or removes KEDA's finalizer on an authentication.
    AuthenticationFinalizers {
        authentication: AuthenticationKey,
        finalizers: Vec<String>,
        resource_version: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScaleTarget {
    pub gvkr: Gvkr,
    pub name: String,
}

/// What to change in a status: `before` is what the API server has, `after` what it should have.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusPatch {
    pub before: Status,
    pub after: Status,
}

#[derive(Clone, Debug)]
pub struct WriteDone {
    pub id: u64,
    pub object: ObjectKey,
    pub result: Result<WriteOk, WriteError>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WriteOk {
    Done,
    /// The object as the API server now has it, so that nothing waits for the watch.
    Hpa(Box<ObservedHpa>),
    /// Not created and nothing written: this one has the name.
    HpaExists(Box<ObservedHpa>),
    /// `metadata.resourceVersion` after the write.
    Version(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError {
    pub kind: WriteErrorKind,
    /// As the API server said it.
    pub message: String,
    /// It asked to wait this long.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteErrorKind {
    NotFound,
    /// Somebody else changed it first, or `/scale` no longer shows `from`.
    Conflict,
    /// The API server refuses this content; the same content will be refused again.
    Invalid,
    Forbidden,
    /// The namespace is terminating.
    Terminating,
    /// Anything that may pass: network, 429, 5xx.
    Transient,
}

/// Answer to [`Command::ReadTarget`].
#[derive(Clone, Debug)]
pub struct TargetRead {
    pub object: ObjectKey,
    pub target: TargetRef,
    pub result: Result<(Gvkr, Workload), TargetError>,
}

/// Answer to [`Command::ReadAuthentication`].
#[derive(Clone, Debug)]
pub struct AuthenticationRead {
    pub authentication: AuthenticationKey,
    /// `None` if the API server has none of that name. An error says why that could not be found out.
    pub result: Result<Option<Box<Authentication>>, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    pub kind: TargetErrorKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetErrorKind {
    /// No such kind on this API server.
    UnknownKind,
    /// The object is not there.
    NotFound,
    /// The object is there and has no `/scale`.
    NoScale,
    /// Forbidden, network and the like.
    Other,
}

/// Everything the core wants done. The order within one batch is kept for an object.
#[derive(Clone, Debug)]
pub enum Command {
    Poll(PollJob),
    Write(Write),
    /// Resolve the kind and read `/scale`; `known` spares the discovery.
    ReadTarget {
        object: ObjectKey,
        target: TargetRef,
        known: Option<Gvkr>,
    },
    /// Read one that no watch has shown: the watch may be behind.
    ReadAuthentication(AuthenticationKey),
    /// Count the target's pods that are Running and Ready, for the fallback of a Value metric.
    CountReadyPods {
        object: ObjectKey,
        selector: String,
    },
    /// Count these pods of the namespace from now on, instead of any others; none ends it.
    WatchPods {
        namespace: Arc<str>,
        selections: Vec<PodSelection>,
    },
    /// A Kubernetes Event on the object.
    Emit(KubeEvent),
    /// A row for the history.
    Record(Record),
    /// What reads are answered from; `None` when the object is gone.
    Publish(ObjectKey, Option<Arc<ObjectView>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeEvent {
    pub regarding: ObjectReference,
    pub warning: bool,
    /// KEDA's reason, e.g. `KEDAScaleTargetActivated`.
    pub reason: &'static str,
    /// Short verb phrase, at most 128 characters as the API demands.
    pub action: &'static str,
    /// At most 1 kB on the wire; the shell cuts it.
    pub note: String,
}

impl KubeEvent {
    #[must_use]
    pub fn normal(
        regarding: ObjectReference,
        reason: &'static str,
        action: &'static str,
        note: impl Into<String>,
    ) -> Self {
        Self { regarding, warning: false, reason, action, note: note.into() }
    }

    #[must_use]
    pub fn warning(
        regarding: ObjectReference,
        reason: &'static str,
        action: &'static str,
        note: impl Into<String>,
    ) -> Self {
        Self { warning: true, ..Self::normal(regarding, reason, action, note) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectReference {
    pub api_version: String,
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// A row for the history. Times are the core's, not the writer's.
#[derive(Clone, Debug)]
pub enum Record {
    /// A version of a definition came into force.
    Definition {
        at: UnixMillis,
        object: ObjectKey,
        uid: String,
        generation: i64,
        spec_json: Arc<str>,
        /// What is wrong with it, if anything.
        invalid: Option<String>,
        triggers: Vec<RecordedTrigger>,
        /// Of types cpu and memory, which have no samples.
        resource_triggers: Vec<ResourceTrigger>,
    },
    /// The object is gone.
    Removed { at: UnixMillis, object: ObjectKey },
    Sample {
        at: UnixMillis,
        object: ObjectKey,
        trigger: u16,
        answer: Answer,
        latency: Duration,
        /// The trigger counts as failing: a missing value is an error or none, as its policy says.
        is_error: bool,
    },
    Decision {
        at: UnixMillis,
        object: ObjectKey,
        reason: Reason,
        from: u32,
        /// Equal to `from` when nothing moves.
        to: u32,
        triggers: Vec<DecidedTrigger>,
        circumstances: Box<Circumstances>,
    },
    /// Outcome of carrying a decision out.
    Action { at: UnixMillis, object: ObjectKey, from: u32, to: u32, error: Option<String> },
    /// Replicas of the target changed, or were seen for the first time (`from` is none).
    Replicas {
        at: UnixMillis,
        object: ObjectKey,
        from: Option<u32>,
        to: u32,
        /// `None` while nothing says who it was: a [`Record::Attributed`] follows.
        by: Option<Attribution>,
        /// Of a scale-in: the metrics that had no number then, and still counted as one.
        absent: Vec<(Arc<str>, Absence)>,
    },
    /// Who made the change of replicas that was recorded with this time.
    Attributed { at: UnixMillis, object: ObjectKey, from: u32, to: u32, by: Attribution },
    /// The HPA's status changed in what explains its decisions.
    Hpa {
        at: UnixMillis,
        object: ObjectKey,
        current: i32,
        desired: i32,
        conditions: Vec<(String, String, String, String)>,
        metrics_json: String,
    },
    /// A condition of the object changed.
    Condition { at: UnixMillis, object: ObjectKey, condition: Condition },
    /// Must survive a restart.
    LastActive { object: ObjectKey, at: UnixMillis },
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTrigger {
    pub index: u16,
    pub kind: String,
    pub name: Option<String>,
    pub metric_name: Arc<str>,
    /// Who is asked, without user, password and parameters, which may be secret.
    pub server: String,
    /// What is asked.
    pub query: String,
    pub threshold: f64,
    pub activation_threshold: f64,
}

/// What one trigger contributed to a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct DecidedTrigger {
    pub metric_name: Arc<str>,
    /// After policy for missing values and fallback.
    pub value: Option<f64>,
    pub active: bool,
    pub error: Option<String>,
    pub metric_type: MetricType,
    /// The HPA's target for it.
    pub target: f64,
    /// Replicas that the HPA makes of it.
    pub proposal: Option<Proposal>,
    /// The value is the fallback's, standing in for an error.
    pub fallback: bool,
    /// The newest answer had no number, and the value is what the trigger's policy makes of that.
    pub absence: Option<Absence>,
    /// Of the composite metric alone: the formula with the triggers' values put in, and its result.
    pub formula: Option<String>,
}

/// The decision as a sentence: where it lets replicas go, with the metrics that had no number.
#[must_use]
pub fn detail(reason: &Reason, triggers: &[DecidedTrigger]) -> String {
    let mut text = reason.to_string();
    if matches!(reason, Reason::Deactivated | Reason::CoolingDown { .. } | Reason::InitialCooldown { .. }) {
        for (trigger, absence) in triggers.iter().filter_map(|trigger| Some((trigger, trigger.absence.as_ref()?))) {
            text.push_str(&format!("; {} has {absence}", trigger.metric_name));
        }
    }
    text
}

/// What a decision was made under, beside its triggers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Circumstances {
    pub min: u32,
    /// `None` while the spec is invalid, and only its pause is obeyed.
    pub max: Option<u32>,
    pub idle: Option<u32>,
    pub pause: Pause,
    pub force_activation: bool,
    /// When the cooldown that was looked at ends, or ended.
    pub cooldown_until: Option<UnixMillis>,
    /// The most that a trigger asks for, before any limit.
    pub proposal: Option<u32>,
    /// What keeps the count from that, as far as hpalite itself can tell.
    pub limited_by: Option<Limit>,
}
