//! What the core learns ([`Event`]) and what it wants done ([`Command`]). Both are plain data.

use std::sync::Arc;
use std::time::Duration;

pub use super::answer::{Absence, Answer, ErrorClass, MESSAGE_MAX, Missing, OUTCOMES, PollError};
use super::attribution::Attribution;
use super::decision::{DecidedTrigger, Decision};
use super::hpa::{DesiredHpa, ObservedHpa};
use super::model::{
    Authentication, AuthenticationKey, Condition, Gvkr, ObjectKey, ParameterSource, Pause, PodIdentity, PodSelection,
    PodValues, Query, ResourceTrigger, ScaledObject, Status, TargetRef, UnixMillis, Workload,
};
use super::view::ObjectView;

/// What a watch of one kind reports. `scope` is the watched namespace, empty for all.
///
/// `ListStart` before a list is asked for, then the objects that exist as `Listed` or `Unreadable`, then `ListEnd`. A list
/// that breaks off is followed by another `ListStart`. After `ListEnd` come `Changed`, `Deleted` and `Unreadable`, until the next
/// `ListStart`.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent<T> {
    ListStart {
        scope: String,
    },
    Listed(T),
    /// What was known of `scope` and was not listed is gone.
    ListEnd {
        scope: String,
    },
    /// It was added or modified.
    Changed(T),
    Deleted {
        namespace: String,
        name: String,
        /// Another object may have this name by now. Empty if unknown.
        uid: String,
    },
    /// It exists but cannot be read, so what was known of it stands.
    Unreadable(UnreadableObject),
    /// Nothing has come for this long, and the connection is lost. What happens until `Resumed` is seen late.
    Interrupted {
        scope: String,
        silent_for: Duration,
    },
    /// After an interruption the watch goes on, with what it has missed.
    Resumed {
        scope: String,
    },
    /// A list failed and is tried again after a pause. Until the next `ListEnd` what is known grows old.
    ListFailed {
        error: String,
        /// The API server forbids it.
        is_denied: bool,
        /// The API server has no such resource, which may be installed later.
        is_absent: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableObject {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty if the metadata is unreadable too: any object may be meant.
    pub name: String,
    pub error: String,
}

impl<T> WatchEvent<T> {
    /// Reads the object that the event carries, if it carries one.
    pub fn read<U>(self, read: impl FnOnce(T) -> Result<U, UnreadableObject>) -> WatchEvent<U> {
        match self {
            Self::Listed(object) => read(object).map_or_else(WatchEvent::Unreadable, WatchEvent::Listed),
            Self::Changed(object) => read(object).map_or_else(WatchEvent::Unreadable, WatchEvent::Changed),
            Self::ListStart { scope } => WatchEvent::ListStart { scope },
            Self::ListEnd { scope } => WatchEvent::ListEnd { scope },
            Self::Deleted { namespace, name, uid } => WatchEvent::Deleted { namespace, name, uid },
            Self::Unreadable(object) => WatchEvent::Unreadable(object),
            Self::Interrupted { scope, silent_for } => WatchEvent::Interrupted { scope, silent_for },
            Self::Resumed { scope } => WatchEvent::Resumed { scope },
            Self::ListFailed { error, is_denied, is_absent } => WatchEvent::ListFailed { error, is_denied, is_absent },
        }
    }
}

/// Everything that can happen to the core.
#[derive(Clone, Debug)]
pub enum Event {
    ScaledObject(super::model::ApiGroup, WatchEvent<Box<ScaledObject>>),
    Hpa(WatchEvent<Box<ObservedHpa>>),
    /// An object of a [watched kind](super::world::watched_workloads).
    Workload(Gvkr, WatchEvent<Workload>),
    Authentication(super::model::ApiGroup, super::model::AuthenticationKind, WatchEvent<Box<Authentication>>),
    /// A Namespace by its name, with the pause that its annotations ask for.
    Namespace(WatchEvent<(String, Pause)>),
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
    /// A metric of this object was read through the external metrics API.
    MetricRead(ObjectKey),
    /// Somebody else wants to ask a metric server, within the limits of that server; answered by
    /// [`Command::Turn`].
    TurnWanted {
        number: u64,
        /// On whose behalf.
        object: ObjectKey,
        server: Arc<str>,
    },
    /// What had this turn has been answered, or does not want it any more.
    TurnEnded {
        number: u64,
        conduct: Conduct,
    },
    /// This instance holds the lease from now on. Ends the [standby](super::world::World::stand_by) of the world.
    Leading {
        /// No other instance was seen to hold it.
        was_alone: bool,
    },
    /// The history goes on in another file, which may have nothing of what was recorded before.
    HistoryRenewed,
    /// There is room for a part of what is to be [recorded anew](super::world::World::is_recording_anew).
    HistoryHasRoom,
    /// State from the history, sent at the start, before any list.
    Restored(Vec<RestoredState>),
    /// The time that [`super::world::World::next_deadline`] returned has come.
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
    /// The last values of triggers that hold theirs while there is none.
    pub held: Vec<HeldValue>,
    /// The target whose last change was to 0, by hpalite, if it belongs to an HPA.
    pub put_to_zero: Option<TargetRef>,
}

/// The last value of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldValue {
    /// The generation of the object that asked for it.
    pub generation: i64,
    pub trigger: u16,
    pub value: f64,
    pub at: UnixMillis,
}

/// One request to one server, sent once for all triggers that need its answer.
#[derive(Clone, Debug)]
pub struct PollJob {
    pub id: u64,
    /// Requests in flight are limited for each server. See [`Query::server`].
    pub server: Arc<str>,
    pub query: Query,
    pub credentials: Option<Credentials>,
    /// Others whose queries are asked with this one, instead of `query` itself.
    pub group: Option<Arc<Group>>,
    /// When it fell due; lateness is measured against it.
    pub due_at: UnixMillis,
}

/// Queries that one query answers: they differ in the value of one label, by which that query groups its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The same for all queries that may be in one group.
    pub family: u64,
    pub query: String,
    pub label: String,
    /// Job and value of the label; the values are distinct.
    pub members: Vec<(u64, String)>,
}

/// What became of a [`Group`].
#[derive(Clone, Debug, PartialEq)]
pub enum Split {
    /// Each member's own answer.
    Each(Vec<(u64, Answer)>),
    /// The answer does not say what each member's own would have been.
    Singly,
}

/// Where a poll's authentication parameters come from; values are fetched at the time of the poll.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// `None`: the trigger refers to none, and its own metadata name variables of the workload.
    pub authentication: Option<AuthenticationKey>,
    /// Changes whenever the authentication object changes.
    pub resource_version: String,
    /// Where Secrets and ConfigMaps are looked up: the object's own namespace; empty means the
    /// namespace for cluster-wide authentications that the daemon was configured with.
    pub namespace: String,
    pub sources: Arc<Vec<ParameterSource>>,
    /// The cloud identity that the query proves.
    pub pod_identity: Option<PodIdentity>,
    /// The workload whose containers' env [`ParameterSource::Env`] reads.
    pub env_target: Option<EnvTarget>,
    /// Patterns of the servers that the parameters may be sent to, if the address is one of them.
    pub servers: Option<Arc<[String]>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvTarget {
    pub gvkr: Arc<Gvkr>,
    pub namespace: String,
    pub name: String,
    pub container: Option<String>,
}

#[derive(Clone, Debug)]
pub struct PollDone {
    pub id: u64,
    /// From taking up the job until sending the request. A duration, since pollers do not know the clock of the core.
    pub asked_after: Duration,
    /// From sending the request until the answer.
    pub latency: Duration,
    /// Meaningless if there is a `split`.
    pub answer: Answer,
    /// For a group: its result, unless `answer` applies to all members.
    pub split: Option<Split>,
    /// The pause that an overloaded server asks for.
    pub rest: Option<Duration>,
    /// Of a poll of pods: what each of them answered, whose sum is the `answer`.
    pub pods: Option<Arc<PodValues>>,
    /// The [`origin`](super::allowed::origin) of the server that was asked, if the query leaves it to its authentication.
    pub server: Option<Arc<str>>,
}

/// One change to make on the API server. An object has at most one write in flight for each of its slots.
#[derive(Clone, Debug)]
pub struct Write {
    pub id: u64,
    pub object: ObjectKey,
    pub kind: WriteKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WriteKind {
    /// Adds the finalizer and the label that mark the object as ours, if the object still has this resourceVersion.
    Claim {
        finalizers: Vec<String>,
        label: Option<(String, String)>,
        resource_version: String,
    },
    /// Removes our finalizers, so that the object can be deleted. `finalizers` are the ones that stay.
    Release {
        finalizers: Vec<String>,
        resource_version: String,
    },
    /// Sends the fields that changed as a merge patch to the status subresource.
    Status(Box<StatusPatch>),
    /// Server-side apply, after a read has found no HPA of this name: one that the watch does not show may exist all
    /// the same, and may belong to somebody else.
    CreateHpa(Box<DesiredHpa>),
    /// Server-side apply.
    ApplyHpa(Box<DesiredHpa>),
    /// A full update, because server-side apply cannot remove what another field manager owns.
    ReplaceHpa {
        desired: Box<DesiredHpa>,
        resource_version: String,
    },
    DeleteHpa {
        name: String,
        uid: String,
    },
    /// Writes `/scale`, if it still shows `from`.
    Scale {
        target: ScaleTarget,
        from: u32,
        to: u32,
        /// The version of the target that this was decided on, if it is known.
        version: Option<u64>,
    },
    /// Sets `status.scaledobjects` of an authentication to these names, joined by commas.
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

/// How a server behaved in a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It answered within this time.
    Answered(Duration),
    /// It did not answer.
    Troubled,
    /// It asks for a pause of this length.
    Overloaded(Duration),
    /// It was not queried.
    Unasked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScaleTarget {
    pub gvkr: Arc<Gvkr>,
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
    /// The HPA as it is after the write, so that nothing has to wait for the watch.
    Hpa(Box<ObservedHpa>),
    /// Nothing was written, because this HPA already has the name.
    HpaExists(Box<ObservedHpa>),
    /// `metadata.resourceVersion` after the write.
    Version(String),
    /// The [version](Workload::version) of the target after it was scaled.
    Scaled(Option<u64>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError {
    pub kind: WriteErrorKind,
    /// The message of the API server.
    pub message: String,
    /// The API server asks to wait this long.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteErrorKind {
    NotFound,
    /// The object was changed in the meantime, or `/scale` no longer shows `from`.
    Conflict,
    /// The API server refuses this content; the same content will be refused again.
    Invalid,
    Forbidden,
    /// The namespace is terminating.
    Terminating,
    /// A fault that may pass: network, 429, 5xx.
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
    /// `None` if no authentication has that name; an error if it could not be read.
    pub result: Result<Option<Box<Authentication>>, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    pub kind: TargetErrorKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetErrorKind {
    /// The API server does not know the kind.
    UnknownKind,
    /// The object is not there.
    NotFound,
    /// The object is there and has no `/scale`.
    NoScale,
    /// Forbidden, network and the like.
    Other,
}

/// An effect that the core asks for. Commands for one object are carried out in their order.
#[derive(Clone, Debug)]
pub enum Command {
    Poll(PollJob),
    Write(Write),
    /// Resolve the kind, unless it is `known`, and read `/scale`.
    ReadTarget {
        object: ObjectKey,
        target: TargetRef,
        known: Option<Gvkr>,
    },
    /// Read an authentication that no watch has shown, since the watch may be late.
    ReadAuthentication(AuthenticationKey),
    /// Count the target's pods that are Running and Ready, for the fallback of a Value metric.
    CountReadyPods {
        object: ObjectKey,
        selector: String,
    },
    /// Count these pods of the namespace from now on, instead of any others. An empty list ends the counting.
    WatchPods {
        namespace: Arc<str>,
        selections: Vec<PodSelection>,
    },
    /// Emit a Kubernetes Event on the object.
    Emit(KubeEvent),
    /// Record this in the history.
    Record(Record),
    /// Whoever wanted this turn may ask now.
    Turn(u64),
    /// Answer metric reads from this view; `None` if the object is gone.
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
    /// The API allows at most 1 kB. Whoever sends the event cuts a longer note.
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

/// What keeps hpalite from seeing or doing what it should, or what makes times deceive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The process stood still: it was stopped, its machine slept, or it had no CPU time.
    Standstill,
    /// No request to the API server was answered.
    ApiServer,
    /// There was no Lease, though no other instance had it.
    Lease,
    /// The wall clock was stepped; that is from the earlier to the later of both times.
    ClockForward,
    ClockBack,
}

impl Interruption {
    pub const ALL: [Self; 5] = [Self::Standstill, Self::ApiServer, Self::Lease, Self::ClockForward, Self::ClockBack];

    /// Identifies it in the history.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Standstill => "standstill",
            Self::ApiServer => "api-server",
            Self::Lease => "lease",
            Self::ClockForward => "clock-forward",
            Self::ClockBack => "clock-back",
        }
    }
}

/// What the history records. Times are those of the core, not of the write to the database.
#[derive(Clone, Debug)]
pub enum Record {
    /// This process stands by, since another instance may hold the Lease; `until` is `None` as long as that lasts.
    Standby {
        until: Option<UnixMillis>,
        /// It turned out that no other instance was there to do anything meanwhile.
        was_alone: bool,
    },
    /// It may be recorded again and again while it lasts.
    Interrupted {
        kind: Interruption,
        from: UnixMillis,
        until: UnixMillis,
    },
    /// A version of a definition came into force.
    Definition {
        at: UnixMillis,
        object: ObjectKey,
        uid: String,
        generation: i64,
        spec_json: Arc<str>,
        /// Why the definition is invalid, if it is.
        invalid: Option<String>,
        triggers: Vec<RecordedTrigger>,
        /// Triggers of the types cpu and memory, which have no samples.
        resource_triggers: Vec<ResourceTrigger>,
    },
    /// The object is gone.
    Removed {
        at: UnixMillis,
        object: ObjectKey,
    },
    Sample {
        at: UnixMillis,
        object: ObjectKey,
        trigger: u16,
        answer: Answer,
        latency: Duration,
        /// The trigger counts as failing. Its policy decides whether a missing value is an error.
        is_error: bool,
    },
    Decision {
        at: UnixMillis,
        object: ObjectKey,
        decision: Arc<Decision>,
    },
    /// How carrying out a decision went.
    Action {
        at: UnixMillis,
        object: ObjectKey,
        from: u32,
        to: u32,
        error: Option<String>,
    },
    /// Replicas of the target changed, or were seen for the first time (`from` is none).
    Replicas {
        at: UnixMillis,
        object: ObjectKey,
        from: Option<u32>,
        to: u32,
        /// `None` while the author is unknown: a [`Record::Attributed`] follows.
        by: Option<Attribution>,
        /// For a scale-in: the metrics that had no number at that time and counted as one all the same.
        absent: Vec<(Arc<str>, Absence)>,
        /// The watch that shows the change was interrupted since then, so that the change may be as old.
        unseen_since: Option<UnixMillis>,
    },
    /// The author of the change of replicas that was recorded with this time.
    Attributed {
        at: UnixMillis,
        object: ObjectKey,
        from: u32,
        to: u32,
        by: Attribution,
    },
    /// As many pods are ready as a change of replicas asked for, which was recorded with the time `changed_at`.
    Ready {
        at: UnixMillis,
        object: ObjectKey,
        changed_at: UnixMillis,
        to: u32,
    },
    /// A part of the HPA's status changed that explains its decisions.
    Hpa {
        at: UnixMillis,
        object: ObjectKey,
        current: i32,
        desired: i32,
        conditions: Vec<(String, String, String, String)>,
        metrics_json: String,
    },
    /// A condition of the object changed.
    Condition {
        at: UnixMillis,
        object: ObjectKey,
        condition: Condition,
    },
    /// When the object was last active, which must survive a restart.
    LastActive {
        object: ObjectKey,
        at: UnixMillis,
    },
}

impl Record {
    /// What an HPA's status shows, of the object that it belongs to.
    #[must_use]
    pub fn of_hpa(object: ObjectKey, hpa: &ObservedHpa, at: UnixMillis) -> Self {
        Self::Hpa {
            at,
            object,
            current: hpa.current_replicas,
            desired: hpa.desired_replicas,
            conditions: hpa.conditions.clone(),
            metrics_json: hpa.current_metrics_json.clone(),
        }
    }

    /// Returns about how many bytes it takes, with the texts that it alone holds and those of any length.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts: usize = match self {
            Self::Definition { uid, spec_json, invalid, triggers, resource_triggers, .. } => {
                let trigger = |one: &RecordedTrigger| {
                    size_of_val(one)
                        + one.kind.len()
                        + one.name.as_ref().map_or(0, String::len)
                        + one.server.len()
                        + one.query.len()
                };
                let triggers: usize = triggers.iter().map(trigger).sum();
                uid.len()
                    + spec_json.len()
                    + invalid.as_ref().map_or(0, String::len)
                    + triggers
                    + size_of_val(resource_triggers.as_slice())
            }
            Self::Decision { decision, .. } => {
                let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                let trigger = |one: &DecidedTrigger| size_of_val(one) + text(&one.error) + text(&one.formula);
                size_of_val(&**decision) + decision.triggers.iter().map(trigger).sum::<usize>()
            }
            Self::Action { error, .. } => error.as_ref().map_or(0, String::len),
            Self::Replicas { absent, .. } => size_of_val(absent.as_slice()),
            Self::Hpa { conditions, metrics_json, .. } => {
                let condition = |one: &(String, String, String, String)| {
                    size_of_val(one) + one.0.len() + one.1.len() + one.2.len() + one.3.len()
                };
                metrics_json.len() + conditions.iter().map(condition).sum::<usize>()
            }
            Self::Condition { condition, .. } => condition.reason.len() + condition.message.len(),
            Self::Sample { answer: Answer::Failed(error), .. } => error.message.len(),
            Self::Standby { .. }
            | Self::Interrupted { .. }
            | Self::Removed { .. }
            | Self::Sample { .. }
            | Self::Attributed { .. }
            | Self::Ready { .. }
            | Self::LastActive { .. } => 0,
        };
        size_of::<Self>() + texts
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTrigger {
    pub index: u16,
    pub kind: String,
    pub name: Option<String>,
    pub metric_name: Arc<str>,
    /// The server, without user, password and parameters, which may be secret.
    pub server: String,
    /// The query.
    pub query: String,
    pub threshold: f64,
    pub activation_threshold: f64,
}
