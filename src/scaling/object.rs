//! All live state of one ScaledObject, and the status that follows from it.
//!
//! Owned by the world, which is the only one to change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use super::age;
use super::composite::{self, Composite};
use super::decision::{Decision, FALLING_BACK, READY_MESSAGE, READY_REASON};
use super::event::{HeldValue, RestoredState, WriteKind};
use super::fingerprint;
use super::hpa::{DesiredHpa, Kept, ObservedHpa};
use super::model::{
    ApiGroup, Condition, ConditionKind, ConditionStatus, Definition, Health, ObjectKey, Pause, ScaledObject, Status,
    Step, UnixMillis,
};
use super::read_cadence::ReadCadence;
use super::slot::Slots;
use super::target::{Target, TargetId, target_taken_by};
use super::trigger::TriggerState;
use super::troubles::{NOT_ASKED, Troubles};
use super::view::ObjectView;

#[derive(Debug)]
pub(super) struct Object {
    /// Its `pause` is the one that holds; the object's own is `own_pause`.
    pub(super) spec: ScaledObject,
    /// The pause that the object's own annotations ask for.
    pub(super) own_pause: Pause,
    /// The time of `paused-until` has come, of the object or of its Namespace.
    pub(super) is_pause_over: bool,
    /// The identity of `spec.target`.
    pub(super) target_id: TargetId,
    pub(super) target: Target,
    /// Why a target that was found before could not be read the last time.
    pub(super) target_unreadable: Option<String>,
    /// When a target that was not found is looked for again; `None` while that is under way.
    pub(super) target_retry_at: Option<UnixMillis>,
    /// A read of the target is under way.
    pub(super) is_target_being_read: bool,
    /// Reads of the target in a row that could not find out whether it is there.
    pub(super) target_faults: u32,
    /// When a read found the target last; `None` if it must be read again before anything follows from its replicas.
    pub(super) target_read_at: Option<UnixMillis>,
    /// The target may have changed since that read was sent, so its answer may be out of date.
    pub(super) is_target_read_old: bool,
    /// The version that was known when an older one was read last, and it was asked again.
    pub(super) target_read_again_at: Option<u64>,
    /// Replicas that the target had when it was first seen, before anything was done to it.
    pub(super) original_replicas: Option<u32>,
    /// This object was found to be the one that scales the target, and remains so even if its HPA disappears.
    pub(super) owns_target: bool,
    pub(super) triggers: Vec<TriggerState>,
    /// The last values of an earlier process, until polling starts.
    pub(super) held: Vec<HeldValue>,
    /// The result of the formula, if the definition has one, in the last complete poll cycle.
    pub(super) composite: Option<Composite>,
    /// When the formula was evaluated last.
    pub(super) composed_at: UnixMillis,
    /// Answers wait for the next evaluation of the formula.
    pub(super) concludes_later: bool,
    /// What the status reports about failing triggers.
    pub(super) troubles: Troubles,
    pub(super) verdict: Verdict,
    /// Generation that the running loop was started for; `None` while none runs.
    pub(super) polled_generation: Option<i64>,
    /// The definition that `triggers` belongs to.
    pub(super) polled_definition: Option<Arc<Definition>>,
    pub(super) poll_cycle: Option<PollCycle>,
    pub(super) cadence: ReadCadence,
    pub(super) last_active_at: Option<UnixMillis>,
    /// Whether it was active when that was known last.
    pub(super) was_active: bool,
    /// `last_active_at` as last recorded in the history.
    pub(super) recorded_active_at: Option<UnixMillis>,
    /// The decision from which the status takes Ready, Active and the activity of the triggers.
    pub(super) decision: Option<Arc<Decision>>,
    pub(super) ready_pods: Option<Result<u32, String>>,
    pub(super) hpa_refusal: Option<HpaRefusal>,
    /// Why the HPA could not be deleted, and whether that will not pass by itself.
    pub(super) hpa_stays: Option<(String, bool)>,
    /// Why the target could not be scaled.
    pub(super) scale_refusal: Option<String>,
    /// The API server stored another HPA than the one that was written, and would do so again.
    pub(super) hpa_kept: Option<Box<Kept>>,
    /// The last one that succeeded.
    pub(super) hpa_correction: Option<HpaCorrection>,
    pub(super) slots: Slots,
    /// The writes in flight, by their id.
    pub(super) in_flight_writes: Vec<(u64, WriteKind)>,
    /// The decision that is being carried out.
    pub(super) scaling: Option<Arc<Decision>>,
    /// The decision must be made again, because it could not be made or carried out the last time.
    pub(super) redecide: bool,
    pub(super) recorded: Recorded,
    pub(super) published: Option<Arc<ObjectView>>,
    /// Since when the status differs from the one on the API server.
    pub(super) status_dirty_since: Option<UnixMillis>,
    /// Fingerprint of the last status that was written, and how often in a row the same one had to be written.
    pub(super) status_written: Option<u64>,
    pub(super) status_fights: u32,
    /// The last reconciliation found the object good, and its status as it should be. It is not reconciled for answers
    /// alone while they change nothing of that, see [`Self::needs_a_look`].
    pub(super) is_settled: bool,
    /// A write of this object waits until fewer writes are in flight.
    pub(super) is_starved: bool,
    /// During deletion: the target has its original replicas again, or restoring them was given up.
    pub(super) restored: bool,
    /// The restoration has begun, so that attempts at scaling are attempts at that.
    pub(super) is_restoring: bool,
    /// Resource version of our own last write. The watch may still deliver older versions of the object.
    pub(super) written_version: Option<u64>,
}

/// What was last recorded or emitted for the object, so that only changes are recorded or emitted.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) definition: Option<(String, i64)>,
    pub(super) decision: Option<Arc<Decision>>,
    /// When the decisions so far whose only news was what stands in for missing numbers are paid for, at one in a while.
    pub(super) stand_ins_paid_at: Option<UnixMillis>,
    /// Fingerprints of the conditions.
    pub(super) conditions: Box<[u64]>,
    pub(super) check_note: Option<String>,
    /// The spec was found good at least once, by this process or by whoever managed the object before.
    pub(super) was_ready: bool,
    /// The object was already being scaled when this process started, by KEDA or by an earlier process. No event
    /// reports that scaling goes on.
    pub(super) adopted: bool,
    pub(super) paused: bool,
    pub(super) shadow: bool,
    pub(super) fallback: bool,
    /// Trigger index to the error text of the last event about it.
    pub(super) trigger_errors: BTreeMap<u16, String>,
    pub(super) replicas: Option<u32>,
    /// UID of the target that had these replicas, and its version then.
    pub(super) target_version: Option<(String, u64)>,
    /// The target has no replicas because hpalite, now or before, wrote that for an HPA which asks for it.
    pub(super) put_to_zero: bool,
    /// When replicas were last written, and how many.
    pub(super) scaled: Option<(UnixMillis, u32)>,
    /// A change of replicas whose author is not known yet.
    pub(super) unattributed: Option<Unattributed>,
    /// Scale-outs whose pods are not all ready yet: when, and to how many; in the order of both.
    pub(super) starting: Vec<(UnixMillis, u32)>,
}

impl Recorded {
    /// Takes what a status says for reported: by KEDA, an earlier process or the instance that led before. Taking over from
    /// any of them is no event.
    pub(super) fn adopt(&mut self, status: &Status) {
        let is_true = |kind| status.condition(kind).is_some_and(|c| c.status == ConditionStatus::True);
        let ready = status.condition(ConditionKind::Ready);
        // Any reason but a failed check means that the spec was once found good.
        self.was_ready = ready.is_some_and(|c| !c.reason.is_empty() && c.reason != CHECK_FAILED);
        self.paused = is_true(ConditionKind::Paused);
        self.adopted = self.was_ready && !self.paused;
        self.fallback = is_true(ConditionKind::Fallback);
    }
}

fn is_active(status: &Status) -> bool {
    status.condition(ConditionKind::Active).is_some_and(|active| active.status == ConditionStatus::True)
}

/// A change of replicas for which the API server named no author.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unattributed {
    /// The time of its record.
    pub(super) at: UnixMillis,
    /// After this time the author counts as unknown.
    pub(super) due: UnixMillis,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// The API server refused this HPA.
#[derive(Debug)]
pub(super) struct HpaRefusal {
    pub(super) desired: Box<DesiredHpa>,
    pub(super) message: String,
    /// The API server will refuse the same content again.
    pub(super) is_final: bool,
}

/// The HPA was changed into what is desired. If somebody else changes it back each time, the next corrections wait.
#[derive(Debug)]
pub(super) struct HpaCorrection {
    /// Fingerprint of what was written.
    pub(super) written: u64,
    /// How often in a row the same was.
    pub(super) times: u32,
    pub(super) next_at: UnixMillis,
}

/// Whether the object can be scaled.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// A fact is still missing, or a write is in flight.
    Pending,
    Good,
    Paused,
    Failed {
        phrase: &'static str,
        message: String,
    },
}

impl Verdict {
    pub(super) fn failed(step: Step, message: String) -> Self {
        Self::Failed { phrase: step.phrase(), message }
    }
}

/// A poll cycle that is under way: which answers it still waits for.
#[derive(Debug)]
pub(super) struct PollCycle {
    pub(super) waiting: BTreeSet<u16>,
    pub(super) waits_for_target: bool,
    pub(super) waits_for_pods: bool,
    /// The next poll cycle fell due before this one ended.
    pub(super) again: bool,
}

impl PollCycle {
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty() && !self.waits_for_target && !self.waits_for_pods
    }
}

impl Object {
    pub(super) fn new(mut spec: ScaledObject, restored_active_at: Option<UnixMillis>) -> Self {
        let mut recorded = Recorded {
            conditions: spec.status.conditions.iter().map(fingerprint).collect(),
            shadow: spec.status.condition(ConditionKind::Shadow).is_some(),
            ..Recorded::default()
        };
        recorded.adopt(&spec.status);
        let last_active_at = restored_active_at.max(spec.status.last_active_at_most());
        Self {
            target_id: TargetId::of(&spec.key.namespace, &spec.target),
            was_active: is_active(&spec.status),
            own_pause: std::mem::take(&mut spec.pause),
            is_pause_over: false,
            spec,
            target: Target::Unknown,
            target_unreadable: None,
            target_retry_at: None,
            is_target_being_read: false,
            target_faults: 0,
            target_read_at: None,
            is_target_read_old: false,
            target_read_again_at: None,
            original_replicas: None,
            owns_target: false,
            triggers: Vec::new(),
            held: Vec::new(),
            composite: None,
            composed_at: UnixMillis::default(),
            concludes_later: false,
            troubles: Troubles::default(),
            verdict: Verdict::Pending,
            polled_generation: None,
            polled_definition: None,
            poll_cycle: None,
            cadence: ReadCadence::default(),
            last_active_at,
            recorded_active_at: restored_active_at,
            decision: None,
            ready_pods: None,
            hpa_refusal: None,
            hpa_stays: None,
            scale_refusal: None,
            hpa_kept: None,
            hpa_correction: None,
            slots: Slots::default(),
            in_flight_writes: Vec::new(),
            scaling: None,
            redecide: false,
            recorded,
            published: None,
            status_dirty_since: None,
            status_written: None,
            status_fights: 0,
            is_settled: false,
            is_starved: false,
            restored: false,
            is_restoring: false,
            written_version: None,
        }
    }

    /// An object that is seen for the first time, with what an earlier process recorded of it.
    pub(super) fn first_seen(spec: ScaledObject, restored: Option<RestoredState>, now: UnixMillis) -> Self {
        let mut object = Self::new(spec, restored.as_ref().and_then(|state| state.last_active_at));
        // A clock that was ahead, or is behind now, must not lengthen a cooldown by what it is wrong.
        object.last_active_at = object.last_active_at.min(Some(now));
        // Without a record of its activity, the cooldown begins when it is first seen.
        if object.spec.scales_to_zero && object.last_active_at.is_none() {
            object.last_active_at = Some(now);
        }
        if let Some(state) = restored {
            // It may name another target by now.
            let asleep = state.put_to_zero.map(|target| TargetId::of(&object.spec.key.namespace, &target));
            object.recorded.put_to_zero = object.spec.is_hpa() && asleep.as_ref() == Some(&object.target_id);
            object.recorded.replicas =
                state.replicas.filter(|(of, _)| *of == object.spec.generation).map(|(_, replicas)| replicas);
            object.held = state.held;
        }
        object
    }

    /// Takes in a newer version of the same object.
    pub(super) fn update(&mut self, mut spec: ScaledObject) {
        // One allocation, which the indexes share.
        spec.key = self.spec.key.clone();
        let version = spec.resource_version.parse::<u64>().ok();
        let is_echo = matches!((version, self.written_version), (Some(seen), Some(written)) if seen < written);
        if is_echo {
            // This version is older than our own last write, so what we wrote is kept.
            spec.status = self.spec.status.clone();
            spec.finalizers = self.spec.finalizers.clone();
            spec.labels = self.spec.labels.clone();
            spec.resource_version = self.spec.resource_version.clone();
        }
        // What is equal is kept, since others share it: the running poll loop, the history, and all objects that are well.
        if spec.status == self.spec.status {
            std::mem::swap(&mut spec.status, &mut self.spec.status);
        }
        if spec.definition == self.spec.definition {
            spec.definition = self.spec.definition.clone();
        }
        if spec.spec_json == self.spec.spec_json {
            spec.spec_json = Arc::clone(&self.spec.spec_json);
        }
        if spec.target != self.spec.target {
            self.target_id = TargetId::of(&spec.key.namespace, &spec.target);
            self.target = Target::Unknown;
            self.target_unreadable = None;
            self.target_retry_at = None;
            self.owns_target = false;
            self.original_replicas = None;
            (self.recorded.replicas, self.recorded.target_version) = (None, None);
            self.scale_refusal = None;
            self.recorded.put_to_zero = false;
            self.target_read_at = None;
        }
        // What was refused before may not be refused any more.
        if spec.generation != self.spec.generation {
            self.slots.scale.forget_failures();
            self.scale_refusal = None;
        }
        if let (Some(new), Some(old)) = (&mut spec.observed, &mut self.spec.observed) {
            new.follow(old, spec.generation == self.spec.generation);
        }
        if spec.is_only_watched() {
            // Its status is kept here alone.
            spec.status = self.spec.status.clone();
        }
        // The pause that holds is found anew by the reconciliation.
        self.own_pause = std::mem::replace(&mut spec.pause, std::mem::take(&mut self.spec.pause));
        self.spec = spec;
    }

    /// Starts polling by the current definition, keeping the state of triggers that did not change. A reading older
    /// than `limit` counts as missing.
    pub(super) fn start_polling(&mut self, old: Option<&Definition>, limit: Duration, now: UnixMillis) {
        let Ok(definition) = self.spec.definition.clone() else {
            return;
        };
        let mut states = std::mem::take(&mut self.triggers);
        states.resize_with(old.map_or(0, |old| old.triggers.len()), TriggerState::default);
        let kept = definition.triggers.iter().map(|trigger| {
            let at = old?.triggers.iter().position(|before| before == trigger)?;
            Some(std::mem::take(&mut states[at]))
        });
        let health = &self.spec.status.health;
        let counted = |trigger: &super::model::Trigger| {
            let known = health.get(&*trigger.metric_name);
            let failures = known.filter(|_| definition.fallback.is_some());
            let mut state = TriggerState::with_failures(failures.map_or(0, |health| health.number_of_failures));
            let is_its = |held: &&HeldValue| held.trigger == trigger.index && held.generation == self.spec.generation;
            if let Some(held) = self.held.iter().find(is_its) {
                state.hold(held.value, held.at.min(now));
            }
            state
        };
        self.triggers =
            kept.zip(&definition.triggers).map(|(kept, trigger)| kept.unwrap_or_else(|| counted(trigger))).collect();
        for (trigger, state) in definition.triggers.iter().zip(&mut self.triggers) {
            state.listen(trigger, limit, now);
        }
        self.held.clear();
        self.composite = None;
        self.poll_cycle = None;
        self.redecide = false;
        self.polled_generation = Some(self.spec.generation);
        self.polled_definition = Some(definition);
    }

    pub(super) fn stop_polling(&mut self) {
        self.poll_cycle = None;
        self.polled_generation = None;
        self.polled_definition = None;
        self.triggers.clear();
        self.composite = None;
        self.troubles = Troubles::default();
        self.decision = None;
        self.redecide = false;
    }

    /// How old a reading of a trigger may become.
    pub(super) fn age_limit(&self, query_timeout: Duration) -> Duration {
        self.polled_definition.as_ref().map_or(Duration::MAX, |definition| age::limit(definition, query_timeout))
    }

    pub(super) fn definition(&self) -> Option<&Definition> {
        self.spec.definition.as_deref().ok()
    }

    /// The ScaledObject that owns the target instead of this one, according to this one's own status. After a restart
    /// the statuses alone show who was first, as long as the owner has no HPA.
    pub(super) fn lost_target_to(&self) -> Option<&str> {
        let ready = self.spec.status.condition(ConditionKind::Ready)?;
        target_taken_by(&ready.message, &self.spec.target)
    }

    /// The watch reported that the target is gone, so neither what is known of it nor a read that is under way can be
    /// relied on.
    pub(super) fn doubt_target(&mut self) {
        self.target = Target::Unknown;
        self.target_retry_at = None;
        self.is_target_read_old = self.is_target_being_read;
    }

    /// The status that the object should have.
    pub(super) fn wanted_status(&self, hpa: Option<OwnHpa<'_>>) -> Status {
        let mut status = self.spec.status.clone();
        // While an object is fully paused, its target is not checked.
        if let (Target::Found { gvkr, workload }, false) = (&self.target, self.spec.pause.is_full()) {
            status.scale_target_kind = Some(gvkr.kind_text());
            status.scale_target_gvkr = Some(Arc::clone(gvkr));
            status.original_replica_count.get_or_insert(self.original_replicas.unwrap_or(workload.replicas));
            // A valid list of triggers is shown even if one of the triggers cannot be built.
            let step = self.spec.definition.as_ref().err().map(super::model::Invalid::step);
            if step.is_none_or(|step| step == Step::BuildScalers) {
                status.triggers_types = Some(self.spec.triggers_types.clone());
                status.authentications_types = Some(self.spec.authentications_types.clone());
            }
        }
        if let (Some(definition), Verdict::Good | Verdict::Failed { .. }, Target::Found { .. }) =
            (self.definition(), &self.verdict, &self.target)
        {
            status.external_metric_names =
                definition.triggers.iter().map(|trigger| trigger.metric_name.to_string()).collect();
            // As in KEDA, the metrics of single containers are not among them.
            let whole_pods = definition.resource_triggers.iter().filter(|trigger| trigger.container.is_none());
            status.resource_metric_names = whole_pods.map(|trigger| trigger.kind.clone()).collect();
            status.composite_scaler_name = definition.modifiers.as_ref().map(|_| composite::NAME.to_owned());
        }
        if let (Some((name, _)), Verdict::Good) = (hpa, &self.verdict) {
            status.hpa_name = Some(name.to_owned());
        }
        if let Some(decision) = &self.decision {
            status.triggers_activity = decision.activity().map(|(name, active)| (name.to_owned(), active)).collect();
        }
        status.paused_replica_count = match self.spec.pause.replicas {
            Some(Ok(replicas)) => Some(replicas),
            Some(Err(_)) => status.paused_replica_count,
            None => None,
        };
        status.health = self.health();
        status.last_active_at = self.last_active_for_status();
        status.conditions = self.conditions(hpa.and_then(|(_, condition)| condition));
        status
    }

    /// Whether answers have changed something since the last reconciliation that needs another one. Facts, changes of
    /// the spec and finished writes mark the object for reconciliation by themselves.
    pub(super) fn needs_a_look(&self) -> bool {
        let is_written = |condition: Option<&Condition>| {
            condition.is_none_or(|condition| self.spec.status.conditions.contains(condition))
        };
        !self.is_settled
            || self.redecide
            || self.last_active_for_status() != self.spec.status.last_active_at
            || !is_written(self.troubles.condition.as_ref())
            || (self.definition().is_some_and(|definition| definition.fallback.is_some())
                && (self.health() != self.spec.status.health || !is_written(self.fallback_condition().as_ref())))
    }

    fn health(&self) -> LiteMap<String, Health> {
        let Some(definition) = self.definition().filter(|definition| definition.fallback.is_some()) else {
            return LiteMap::new();
        };
        definition
            .triggers
            .iter()
            .enumerate()
            .filter_map(|(position, trigger)| {
                let name = trigger.metric_name.to_string();
                let asked = self.triggers.get(position);
                let health = match asked.filter(|state| state.current.is_some()) {
                    Some(state) => self.sparse(state.health(), &name, definition),
                    // Before the first answer, the status is all that is known.
                    None => *self.spec.status.health.get(&name)?,
                };
                Some((name, health))
            })
            .collect()
    }

    /// Beyond the threshold the exact number of failures has no effect, so it is written only when it has doubled,
    /// rather than at each poll of an outage.
    fn sparse(&self, health: Health, name: &str, definition: &Definition) -> Health {
        let threshold = definition.fallback.as_ref().map(|f| f.failure_threshold);
        let Some(written) = self.spec.status.health.get(name) else {
            return health;
        };
        let count = written.number_of_failures;
        let is_known = written.failing
            && threshold.is_some_and(|threshold| count > threshold)
            && (count..count.saturating_mul(2)).contains(&health.number_of_failures);
        if is_known { *written } else { health }
    }

    /// In whole seconds. While an object is active it keeps the time that is written, so that a load that lasts costs no
    /// writes: [`Object::is_active_in_status`] is what a process makes of that.
    fn last_active_for_status(&self) -> Option<UnixMillis> {
        let wanted = self.last_active_at.map(|at| UnixMillis(at.0.div_euclid(1000) * 1000));
        let written = self.spec.status.last_active_at;
        // Before the first decision nothing is known to have ended.
        let has_ended = self.decision.as_ref().and_then(|decision| decision.is_active()) == Some(false);
        let is_known = written.is_some() && written <= wanted && self.is_active_in_status();
        if is_known && !has_ended { written } else { wanted }
    }

    /// The condition `Active` was true when it was last written, so its activity had not ended by then.
    pub(super) fn is_active_in_status(&self) -> bool {
        is_active(&self.spec.status)
    }

    /// Keeps the order of the existing conditions and appends new kinds.
    fn conditions(&self, hpa: Option<ScalingActive<'_>>) -> Vec<Condition> {
        let mut conditions = self.spec.status.conditions.clone();
        let first_four = [ConditionKind::Ready, ConditionKind::Active, ConditionKind::Fallback, ConditionKind::Paused];
        if first_four.iter().any(|kind| !conditions.iter().any(|c| c.kind == *kind)) {
            let others = conditions.into_iter().filter(|c| !first_four.contains(&c.kind));
            let initial = first_four.iter().map(|kind| {
                let status =
                    if *kind == ConditionKind::Paused { ConditionStatus::False } else { ConditionStatus::Unknown };
                Condition::new(*kind, status, "", "")
            });
            conditions = initial.chain(others).collect();
        }
        let mut set = |new: Condition| match conditions.iter_mut().find(|c| c.kind == new.kind) {
            Some(old) => *old = new,
            None => conditions.push(new),
        };
        match &self.verdict {
            Verdict::Pending => {}
            Verdict::Failed { phrase, message } => {
                set(Condition::new(
                    ConditionKind::Ready,
                    ConditionStatus::False,
                    CHECK_FAILED,
                    format!("{phrase}: {message}"),
                ));
                set(Condition::new(
                    ConditionKind::Active,
                    ConditionStatus::Unknown,
                    "UnknownState",
                    "ScaledObject check failed",
                ));
            }
            Verdict::Paused => {
                set(Condition::new(
                    ConditionKind::Ready,
                    ConditionStatus::True,
                    READY_REASON,
                    "ScaledObject is paused",
                ));
            }
            Verdict::Good => {
                let well = Condition::new(ConditionKind::Ready, ConditionStatus::True, READY_REASON, READY_MESSAGE);
                match &self.decision {
                    Some(decision) => set(decision.ready()),
                    // The condition that follows from the last poll stays until the next poll.
                    None if self.is_ready_set_by_poll() => {}
                    None => set(well),
                }
                if let Some(active) = self.decision.as_ref().and_then(|decision| decision.active()) {
                    set(active);
                }
                if let Some((status, reason, message)) = hpa {
                    set(hpa_active(status, reason, message));
                }
            }
        }
        if let Some(fallback) = self.fallback_condition() {
            set(fallback);
        }
        if let Some(troubles) = self.troubles_condition() {
            set(troubles);
        }
        if self.spec.is_shadow {
            set(Condition::new(ConditionKind::Shadow, ConditionStatus::True, "ShadowMode", SHADOW));
        }
        if self.spec.pause.is_any() {
            set(Condition::new(
                ConditionKind::Paused,
                ConditionStatus::True,
                "ScaledObjectPaused",
                self.spec.pause.message(),
            ));
        } else if conditions.iter().any(|c| c.kind == ConditionKind::Paused && c.status == ConditionStatus::True) {
            let mut set =
                |new: Condition| conditions.iter_mut().filter(|c| c.kind == new.kind).for_each(|c| *c = new.clone());
            set(Condition::new(ConditionKind::Paused, ConditionStatus::False, "ScaledObjectUnpaused", self.unpaused()));
        }
        if self.spec.is_hpa() {
            of_hpa(&mut conditions);
        }
        conditions
    }

    /// Why the object is no longer paused.
    pub(super) fn unpaused(&self) -> &'static str {
        if self.is_pause_over {
            "the time of the annotation autoscaling.keda.sh/paused-until has come"
        } else {
            "pause annotation removed for ScaledObject"
        }
    }

    fn is_ready_set_by_poll(&self) -> bool {
        let ready = self.spec.status.condition(ConditionKind::Ready);
        ready.is_some_and(|ready| SET_BY_POLL.contains(&&*ready.reason))
    }

    /// `None` leaves the condition as it is, since no trigger was polled yet.
    fn fallback_condition(&self) -> Option<Condition> {
        let none = || {
            Condition::new(
                ConditionKind::Fallback,
                ConditionStatus::False,
                "NoFallbackFound",
                "No fallbacks are active on this scaled object",
            )
        };
        let Some(definition) = self.definition().filter(|definition| definition.fallback.is_some()) else {
            return (self.verdict != Verdict::Pending).then(none);
        };
        if self.triggers.iter().all(|state| state.current.is_none()) {
            return None;
        }
        if self.is_falling_back(definition) {
            return Some(Condition::new(
                ConditionKind::Fallback,
                ConditionStatus::True,
                "FallbackExists",
                FALLING_BACK,
            ));
        }
        Some(none())
    }

    /// `None` leaves the condition as it is. Once triggers are no longer polled, their last condition must not stay for
    /// ever.
    fn troubles_condition(&self) -> Option<Condition> {
        let message = match self.verdict {
            Verdict::Pending => return None,
            Verdict::Good => return self.troubles.condition.clone(),
            Verdict::Failed { .. } => "triggers are not asked: the ScaledObject's check failed, as Ready says",
            Verdict::Paused => "triggers are not asked: the ScaledObject is paused",
        };
        let is_there = self.spec.status.condition(ConditionKind::TriggersHealthy).is_some();
        is_there.then(|| Condition::new(ConditionKind::TriggersHealthy, ConditionStatus::Unknown, NOT_ASKED, message))
    }

    pub(super) fn is_falling_back(&self, definition: &Definition) -> bool {
        let threshold = definition.fallback.as_ref().map(|fallback| fallback.failure_threshold);
        threshold.is_some_and(|threshold| self.triggers.iter().any(|state| state.failures > threshold))
    }
}

/// Reasons of Ready that follow from polls rather than from the spec.
const SET_BY_POLL: [&str; 3] = ["TriggerError", "PartialTriggerError", "ErrorGettingCurrentReplicas"];

/// An HPA has no fallback and no pause, and is called by its name.
fn of_hpa(conditions: &mut Vec<Condition>) {
    conditions.retain(|condition| !matches!(condition.kind, ConditionKind::Fallback | ConditionKind::Paused));
    let own = [ConditionKind::Ready, ConditionKind::Active];
    for condition in conditions.iter_mut().filter(|condition| own.contains(&condition.kind)) {
        condition.reason = condition.reason.replace("ScaledObject", "HPA").into();
        condition.message = condition.message.replace("ScaledObject", "HPA").into();
    }
}

const SHADOW: &str = "decisions are recorded and not carried out";
pub(super) const CHECK_FAILED: &str = "ScaledObjectCheckFailed";

/// Status, reason and message of an HPA's ScalingActive condition.
pub(super) type ScalingActive<'a> = (&'a str, &'a str, &'a str);

/// The object's own HPA: its name, and its ScalingActive condition if it has one.
pub(super) type OwnHpa<'a> = (&'a str, Option<ScalingActive<'a>>);

/// The ScalingActive condition of an HPA. If the HPA cannot read or write the replicas of its target, that condition is
/// out of date, and AbleToScale gives the reason instead. A write that lost against another one is no such reason.
pub(super) fn scaling_active(hpa: &ObservedHpa) -> Option<ScalingActive<'_>> {
    let says = |kind: &str| {
        let found = hpa.conditions.iter().find(|(found, ..)| found == kind);
        found.map(|(_, status, reason, message)| (status.as_str(), reason.as_str(), message.as_str()))
    };
    let unable = says("AbleToScale").filter(|(status, reason, message)| {
        *status == "False" && reason.starts_with("Failed") && !message.contains("the object has been modified")
    });
    let active = says("ScalingActive");
    if active.is_some_and(|(status, ..)| status == "False") { active } else { unable.or(active) }
}

/// Mirrors the HPA's own ScalingActive condition.
fn hpa_active(status: &str, reason: &str, message: &str) -> Condition {
    match (status, reason) {
        ("True", _) => {
            Condition::new(ConditionKind::HpaActive, ConditionStatus::True, "HPAActive", "HPA is actively scaling")
        }
        (_, "ScalingDisabled") => {
            Condition::new(ConditionKind::HpaActive, ConditionStatus::True, "ScalingDisabled", message.to_owned())
        }
        (_, reason) => {
            let reason = if reason.is_empty() { "HPAMetricsUnavailable" } else { reason };
            Condition::new(
                ConditionKind::HpaActive,
                ConditionStatus::False,
                reason.to_owned(),
                format!("HPA is not actively scaling: {message}"),
            )
        }
    }
}

/// `apiVersion` of an object, for references to it.
pub(super) fn api_version(key: &ObjectKey) -> String {
    let version = if key.group == ApiGroup::Autoscaling { "v2" } else { "v1alpha1" };
    format!("{}/{version}", key.group.name())
}
