//! Records facts from watches, polls and reads, and marks the objects that they may concern. Decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::World;
use super::work::Work;
use crate::scaling::composite;
use crate::scaling::event::{
    Answer, Command, Conduct, ErrorClass, Event, PollDone, Record, RecordedTrigger, RestoredState, Split, WatchEvent,
};
use crate::scaling::hpa::{HpaId, ObservedHpa, OwnerRef};
use crate::scaling::model::{
    ApiGroup, Asked, Authentication, AuthenticationKey, AuthenticationKind, Definition, ObjectKey, Pause, Remember,
    ResourceTrigger, ScaledObject, Trigger, UnixMillis,
};
use crate::scaling::object::Object;
use crate::scaling::target::TargetId;

/// Upper bound on HPAs deleted while a write is in flight: 32 concurrent writes of about 1 s, times 8.
const GONE_HPAS_MAX: usize = 256;

impl World {
    pub(super) fn ingest(&mut self, event: Event, now: UnixMillis) {
        match event {
            Event::ScaledObject(group, seen) => self.scaled_object(group, seen, now),
            Event::Hpa(seen) => self.hpa(seen, now),
            Event::Workload(gvkr, seen) => self.workload(&gvkr, seen),
            Event::Authentication(group, kind, seen) => self.authentication(group, kind, seen, now),
            Event::Namespace(seen) => self.namespace(seen),
            Event::Polled(done) => done.iter().for_each(|done| self.polled(done, now)),
            Event::Written(done) => self.written(done, now),
            Event::TargetRead(read) => self.target_read(read),
            Event::AuthenticationRead(read) => self.authentication_read(read, now),
            Event::PodsCounted { object, ready } => self.with(&object, |object, work| object.pods_counted(ready, work)),
            Event::PodsSelected { namespace, selection, count } => {
                self.pods_selected(&namespace, &selection, count);
            }
            Event::MetricRead(key) => self.with(&key, |object, work| object.metric_read(work)),
            Event::TurnWanted { number, object, server } => self.schedule.line_up(number, object, server),
            Event::TurnEnded { number, conduct } => self.schedule.end_turn(number, conduct, now),
            Event::Restored(states) => self.restored(states, now),
            Event::Leading { was_alone } => self.lead(was_alone, now),
            Event::HistoryRenewed => self.begin_recording_anew(),
            Event::HistoryHasRoom => self.record_slice(),
            Event::Tick => {}
        }
    }

    fn restored(&mut self, states: Vec<RestoredState>, now: UnixMillis) {
        let namespaces = &self.settings.namespaces;
        let is_watched = |state: &RestoredState| {
            namespaces.is_empty() || namespaces.iter().any(|watched| **watched == *state.key.namespace)
        };
        let (watched, lost): (Vec<_>, Vec<_>) = states.into_iter().partition(is_watched);
        // No list will say that an object of a namespace that is not watched any more is gone.
        for RestoredState { key: object, .. } in lost {
            self.outbox.record(Record::Removed { at: now, object });
        }
        self.restored.extend(watched.into_iter().map(|state| (state.key.clone(), state)));
    }

    fn scaled_object(&mut self, group: ApiGroup, seen: WatchEvent<Box<ScaledObject>>, now: UnixMillis) {
        let Some(list) = self.facts.lists.objects.get_mut(&group) else {
            return;
        };
        match seen {
            WatchEvent::ListStart { scope } => list.start(scope),
            WatchEvent::Listed(spec) => {
                self.facts.absent.remove(&group);
                list.listed(&spec.key.namespace, &spec.key.name);
                // The watch goes on from the list, so what is newer comes again. Where the API server's store was restored
                // from a backup, nothing is: the versions begin anew below that of our own last write.
                if let Some(object) = self.objects.get_mut(&spec.key) {
                    object.written_version = None;
                }
                self.object_seen(*spec, now);
            }
            WatchEvent::Changed(spec) => {
                self.facts.absent.remove(&group);
                list.listed(&spec.key.namespace, &spec.key.name);
                self.object_seen(*spec, now);
            }
            WatchEvent::Unreadable(object) => list.unreadable(&object),
            WatchEvent::ListFailed { is_absent: true, .. } => {
                // Nobody has to wait for what it would say.
                if self.facts.absent.insert(group) {
                    self.mark_all();
                }
            }
            WatchEvent::ListFailed { .. } | WatchEvent::Interrupted { .. } | WatchEvent::Resumed { .. } => {}
            WatchEvent::Deleted { namespace, name, .. } => {
                self.object_gone(&ObjectKey::new(group, &namespace, &name), now)
            }
            WatchEvent::ListEnd { scope } => {
                self.facts.absent.remove(&group);
                // The history may know one that was deleted while no process looked.
                let known =
                    self.objects.keys().into_iter().chain(self.restored.keys()).filter(|key| key.group == group);
                let gone = list.end(&scope, known.map(|key| (&*key.namespace, &*key.name)));
                for (namespace, name) in gone {
                    let key = ObjectKey::new(group, &namespace, &name);
                    self.object_gone(&key, now);
                    if self.restored.remove(&key).is_some() {
                        self.outbox.record(Record::Removed { at: now, object: key });
                    }
                }
                self.mark_all();
                // Their users are known now.
                self.mark_all_authentications();
            }
        }
    }

    fn object_seen(&mut self, mut spec: ScaledObject, now: UnixMillis) {
        spec.is_shadow |= self.settings.is_shadow;
        let key = spec.key.clone();
        // Another uid under the same name is another object. The deletion of the old one was not seen.
        if self.objects.get(&key).is_some_and(|object| object.spec.uid != spec.uid) {
            self.object_gone(&key, now);
        }
        if !self.is_remembered(&mut spec) {
            self.object_gone(&key, now);
            return;
        }
        let before = self.objects.get(&key).map(|object| {
            (object.target_id.clone(), object.spec.force_activation, object.spec.generation, hpa_id(&object.spec))
        });
        let was_shadow = self.objects.get(&key).is_some_and(|object| object.spec.is_shadow);
        if spec.is_hpa() {
            self.number_annotations(&mut spec);
            self.index_asked(&key, Some(&spec));
        }
        self.index_authentications(&key, Some(&spec));
        match self.objects.get_mut(&key) {
            Some(object) => {
                let is_new = spec.scales_to_zero && !object.spec.scales_to_zero;
                object.update(spec);
                if is_new {
                    object.last_active_at = object.last_active_at.max(Some(now));
                }
            }
            None => {
                let restored = self.restored.remove(&key).filter(|state| state.uid == spec.uid);
                self.objects.insert(key.clone(), Object::first_seen(spec, restored, now));
            }
        }
        let Some(object) = self.objects.get(&key) else { return };
        let target = object.target_id.clone();
        let spec = &object.spec;
        // A change of annotations takes effect at once, like one of the spec.
        let changed = before
            .as_ref()
            .is_some_and(|(_, force, generation, _)| *force != spec.force_activation || *generation != spec.generation);
        if changed && object.polled_generation.is_some() && !spec.pause.is_full() {
            self.schedule.plan(&key, now);
        }
        let hpa = hpa_id(&object.spec);
        self.with(&key, |object, work| object.record_definition(work));
        if let Some((.., Some(old))) = &before
            && hpa.as_ref() != Some(old)
        {
            self.objects.by_hpa_name.remove(old, &key);
        }
        if let Some(hpa) = hpa {
            self.objects.by_hpa_name.insert(hpa, key.clone());
        }
        if let Some((old_target, ..)) = before.filter(|(old, ..)| *old != target) {
            self.unindex_target(&old_target, &key);
        }
        self.objects.by_target.insert(target.clone(), key.clone());
        if was_shadow != self.objects.get(&key).is_some_and(|object| object.spec.is_shadow) {
            self.mark_targets_of_hpas(&key);
        }
        self.outbox.dirty.insert(key);
        self.mark_target(&target);
    }

    /// Whether an HPA that is observed is to be known. One whose metrics were ours once stays so: that nobody gives them
    /// any more is what an explanation must say.
    fn is_remembered(&self, spec: &mut ScaledObject) -> bool {
        let Some(observed) = &mut spec.observed else { return true };
        if observed.remember == Remember::IfKnown {
            let is_lasting = |object: &Object| {
                object.spec.observed.as_ref().is_none_or(|before| before.remember != Remember::Meanwhile)
            };
            let was_recorded = self.restored.get(&spec.key).is_some_and(|state| state.uid == spec.uid);
            if was_recorded || self.objects.get(&spec.key).is_some_and(is_lasting) {
                observed.remember = Remember::Yes;
            }
        }
        observed.remember != Remember::IfKnown
    }

    /// Gives a version of an HPA's annotations its number, since the API server counts none, and keeps what did not
    /// change: an HPA is seen again whenever its status changes.
    fn number_annotations(&self, spec: &mut ScaledObject) {
        let Some(ScaledObject { definition, asked, per_replica, spec_json, generation, .. }) =
            self.objects.get(&spec.key).map(|object| &object.spec)
        else {
            return;
        };
        if spec.definition == *definition
            && spec.asked == *asked
            && spec.per_replica == *per_replica
            && spec.spec_json == *spec_json
        {
            spec.definition.clone_from(definition);
            spec.asked = Arc::clone(asked);
            spec.spec_json = Arc::clone(spec_json);
            spec.generation = *generation;
        } else if spec.generation == *generation {
            // Only what is masked differs.
            spec.generation += 1;
        }
    }

    /// Maintains the index of the metrics that annotated HPAs ask for, and marks those that ask for the same if this is the
    /// oldest, which all others are compared with. `new` is `None` for one that is gone.
    fn index_asked(&mut self, key: &ObjectKey, new: Option<&ScaledObject>) {
        let old = self.objects.get(key).map(|object| &object.spec);
        let is_same = old.zip(new).is_some_and(|(old, new)| old.generation == new.generation && old.uid == new.uid);
        let Some(created_at) = new.or(old).map(|spec| spec.created_at).filter(|_| !is_same) else {
            return;
        };
        let shown = |spec: Option<&ScaledObject>| -> BTreeSet<Asked> {
            // One that is not served contradicts nobody.
            let valid = spec.filter(|spec| spec.definition.is_ok());
            valid.map(|spec| spec.asked.iter().map(Asked::as_read).collect()).unwrap_or_default()
        };
        let (old, new) = (shown(old), shown(new));
        let me = (created_at, key.clone());
        for asked in old.union(&new) {
            let place = (Arc::clone(&key.namespace), asked.clone());
            let others = self.objects.by_asked.get(&place).iter().filter(|one| **one != me);
            if others.clone().next().is_some_and(|first| me < *first) {
                self.outbox.dirty.extend(others.map(|(_, key)| key.clone()));
            }
            match new.contains(asked) {
                true => self.objects.by_asked.insert(place, me.clone()),
                false => self.objects.by_asked.remove(&place, &me),
            }
        }
    }

    fn object_gone(&mut self, key: &ObjectKey, now: UnixMillis) {
        // This comes before the object is removed, since its spec names its authentications.
        self.index_authentications(key, None);
        self.index_asked(key, None);
        self.with(key, |object, work| object.emit_if_released(work));
        let Some(object) = self.objects.remove(key) else {
            return;
        };
        self.schedule.forget(key);
        self.outbox.silences.clear(key);
        self.outbox.commands.extend(self.pods.want(key, &BTreeSet::new()));
        if object.is_starved {
            self.outbox.starved.retain(|waiting| waiting != key);
        }
        if let Some(id) = hpa_id(&object.spec) {
            self.objects.by_hpa_name.remove(&id, key);
        }
        self.unindex_target(&object.target_id, key);
        self.outbox.push(Command::Publish(key.clone(), None));
        self.outbox.record(Record::Removed { at: now, object: key.clone() });
    }

    fn unindex_target(&mut self, target: &TargetId, key: &ObjectKey) {
        self.objects.by_target.remove(target, key);
        // Another object with the same target may own it now.
        self.mark_target(target);
    }

    pub(super) fn mark_all(&mut self) {
        self.outbox.dirty.extend(self.objects.keys().into_iter().cloned());
    }

    fn hpa(&mut self, seen: WatchEvent<Box<ObservedHpa>>, now: UnixMillis) {
        match seen {
            WatchEvent::ListStart { scope } => self.facts.lists.hpas.start(scope),
            WatchEvent::Listed(hpa) => {
                // A list is newer than any deletion that was noted before.
                self.facts.gone_hpas.retain(|(uid, _)| *uid != hpa.uid);
                let is_news = self.facts.lists.hpas.listed(&hpa.namespace, &hpa.name);
                self.hpa_seen(*hpa, is_news, now);
            }
            WatchEvent::Changed(hpa) => {
                self.facts.lists.hpas.listed(&hpa.namespace, &hpa.name);
                self.hpa_seen(*hpa, false, now);
            }
            WatchEvent::Unreadable(object) => self.facts.lists.hpas.unreadable(&object),
            WatchEvent::ListFailed { .. } | WatchEvent::Interrupted { .. } | WatchEvent::Resumed { .. } => {}
            WatchEvent::Deleted { namespace, name, uid } => self.hpa_gone(&HpaId { namespace, name }, &uid),
            WatchEvent::ListEnd { scope } => {
                let known = self.facts.hpas.keys().map(|id| (id.namespace.as_str(), id.name.as_str()));
                for (namespace, name) in self.facts.lists.hpas.end(&scope, known) {
                    self.hpa_gone(&HpaId { namespace, name }, "");
                }
                self.mark_all();
            }
        }
    }

    /// Takes an HPA in, unless what is known is newer. `is_news` if a list shows it that began after all that is known: see
    /// [`Self::workload_seen`].
    pub(super) fn hpa_seen(&mut self, hpa: ObservedHpa, is_news: bool, now: UnixMillis) {
        let id = hpa.id();
        let target = TargetId::of(&hpa.namespace, &hpa.target);
        if self.facts.gone_hpas.iter().any(|(uid, _)| *uid == hpa.uid) {
            return;
        }
        // This version is older than the one that a write has returned.
        let is_old = |old: &ObservedHpa| is_older(&hpa.resource_version, &old.resource_version) && hpa.uid == old.uid;
        if !is_news && self.facts.hpas.get(&id).is_some_and(|old| is_old(old)) {
            return;
        }
        self.record_hpa(&hpa, now);
        if let Some(old) = self.facts.hpas.remove(&id) {
            self.unindex_hpa(&old);
        }
        self.facts.hpas_by_target.insert(target.clone(), id.name.clone());
        if let Some(OwnerRef { uid, .. }) = &hpa.controller {
            self.facts.hpas_by_owner.insert(uid.clone(), id.name.clone());
        }
        self.mark_hpa(&hpa);
        let replicas = self.replicas_shown(&hpa);
        self.facts.hpas.insert(id, Box::new(hpa));
        if let Some((key, workload)) = replicas {
            self.with(&key, |object, work| object.note_replicas_of(&workload, None, work));
        }
    }

    /// Marks all objects that an HPA may concern: those with its target, those that want its name, and its owner.
    fn mark_hpa(&mut self, hpa: &ObservedHpa) {
        self.mark_target(&TargetId::of(&hpa.namespace, &hpa.target));
        let named = self.objects.by_hpa_name.get(&hpa.id());
        self.outbox.dirty.extend(named.iter().cloned());
        self.outbox.dirty.insert(object_of(hpa).0);
    }

    /// Records the HPA's status when it changed. A new value of a metric alone is not recorded, since the samples have
    /// it, and the HPA writes one every 15 s, which at 1 kB each would be 3 GB a day for 500 objects.
    fn record_hpa(&mut self, hpa: &ObservedHpa, now: UnixMillis) {
        let same = self.facts.hpas.get(&hpa.id()).is_some_and(|old| {
            old.current_replicas == hpa.current_replicas
                && old.desired_replicas == hpa.desired_replicas
                && old.conditions == hpa.conditions
        });
        let (owner, uid) = object_of(hpa);
        if !same && self.objects.get(&owner).is_some_and(|known| known.spec.uid == uid) {
            self.with(&owner, |object, work| object.attribute_to_hpa(hpa.desired_replicas, work));
            self.outbox.record(Record::of_hpa(owner, hpa, now));
        }
    }

    /// The HPA with this uid is gone for good: whatever still arrives about it is old. Another may have its name
    /// already, by a write of ours that was answered before the watch reported the end of the first. An empty uid
    /// matches any.
    pub(super) fn hpa_gone(&mut self, id: &HpaId, uid: &str) {
        let is_it = |hpa: &ObservedHpa| uid.is_empty() || hpa.uid == uid;
        let mut gone = uid.to_owned();
        if self.facts.hpas.get(id).is_some_and(|hpa| is_it(hpa))
            && let Some(hpa) = self.facts.hpas.remove(id)
        {
            self.unindex_hpa(&hpa);
            gone = hpa.uid;
        }
        let next_write = self.outbox.next_write;
        if let Some(known) = self.facts.gone_hpas.iter_mut().find(|(uid, _)| *uid == gone) {
            known.1 = next_write;
        } else if !gone.is_empty() {
            self.facts.gone_hpas.push_back((gone, next_write));
            if self.facts.gone_hpas.len() > GONE_HPAS_MAX {
                self.facts.gone_hpas.pop_front();
            }
        }
    }

    fn unindex_hpa(&mut self, hpa: &ObservedHpa) {
        let target = TargetId::of(&hpa.namespace, &hpa.target);
        self.facts.hpas_by_target.remove(&target, &hpa.name);
        if let Some(OwnerRef { uid, .. }) = &hpa.controller {
            self.facts.hpas_by_owner.remove(uid, &hpa.name);
        }
        self.mark_hpa(hpa);
    }

    fn authentication(
        &mut self,
        group: ApiGroup,
        kind: AuthenticationKind,
        seen: WatchEvent<Box<Authentication>>,
        now: UnixMillis,
    ) {
        let Some(list) = self.facts.lists.authentications.get_mut(&(group, kind)) else {
            return;
        };
        let key = |namespace: String, name: String| AuthenticationKey { group, kind, namespace, name };
        match seen {
            WatchEvent::ListStart { scope } => list.start(scope),
            WatchEvent::Listed(seen) | WatchEvent::Changed(seen) => {
                list.listed(&seen.key.namespace, &seen.key.name);
                self.authentication_seen(*seen, now);
            }
            WatchEvent::Unreadable(object) => list.unreadable(&object),
            WatchEvent::ListFailed { .. } | WatchEvent::Interrupted { .. } | WatchEvent::Resumed { .. } => {}
            WatchEvent::Deleted { namespace, name, .. } => self.authentication_gone(&key(namespace, name)),
            WatchEvent::ListEnd { scope } => {
                let known = self.facts.authentications.keys().filter(|key| key.group == group && key.kind == kind);
                let gone = list.end(&scope, known.map(|key| (key.namespace.as_str(), key.name.as_str())));
                for (namespace, name) in gone {
                    self.authentication_gone(&key(namespace, name));
                }
                self.mark_all();
                self.mark_all_authentications();
            }
        }
    }

    /// Keeps the pauses of Namespaces; the others are not kept.
    fn namespace(&mut self, seen: WatchEvent<(String, Pause)>) {
        let list = &mut self.facts.lists.namespaces;
        match seen {
            WatchEvent::ListStart { scope } => list.start(scope),
            WatchEvent::Listed((name, pause)) | WatchEvent::Changed((name, pause)) => {
                list.listed("", &name);
                self.namespace_seen(&name, pause);
            }
            WatchEvent::Unreadable(object) => list.unreadable(&object),
            // Without the right to see them no Namespace is known to be paused. While an API server starts it denies what it
            // will grant, so it must have granted something before.
            WatchEvent::ListFailed { is_denied: true, .. } if self.facts.lists.hpas.is_complete() => {
                list.give_up();
                self.mark_all();
            }
            WatchEvent::ListFailed { .. } | WatchEvent::Interrupted { .. } | WatchEvent::Resumed { .. } => {}
            WatchEvent::Deleted { name, .. } => self.namespace_seen(&name, Pause::default()),
            WatchEvent::ListEnd { scope } => {
                for (_, name) in list.end(&scope, self.facts.pauses.keys().map(|name| ("", name.as_str()))) {
                    self.namespace_seen(&name, Pause::default());
                }
                self.mark_all();
            }
        }
    }

    fn namespace_seen(&mut self, name: &str, pause: Pause) {
        if self.facts.pauses.get(name).unwrap_or(&Pause::default()) == &pause {
            return;
        }
        if pause.is_any() {
            self.facts.pauses.insert(name.to_owned(), pause);
        } else {
            self.facts.pauses.remove(name);
        }
        let within = self.objects.iter().map(|(key, _)| key).filter(|key| &*key.namespace == name).cloned();
        self.outbox.dirty.extend(within);
    }

    fn polled(&mut self, done: &PollDone, now: UnixMillis) {
        match &done.split {
            Some(Split::Singly) => self.schedule.ask_singly(done.id, conduct(done), now),
            Some(Split::Each(answers)) => {
                self.schedule.members(done.id);
                for (id, answer) in answers {
                    self.deliver_answer(*id, answer, done, now);
                }
            }
            None => {
                for id in self.schedule.members(done.id) {
                    self.deliver_answer(id, &done.answer, done, now);
                }
            }
        }
    }

    fn deliver_answer(&mut self, id: u64, answer: &Answer, done: &PollDone, now: UnixMillis) {
        if let Some(server) = &done.server {
            self.schedule.locate(id, server);
        }
        let Some(finished) = self.schedule.finish(id, conduct(done), now) else {
            return;
        };
        let is_from_before = self.woke_at.is_some_and(|at| finished.begun_at < at);
        let asked_at = finished.begun_at.plus(done.asked_after).min(now);
        for (key, index) in finished.subscribers {
            if is_from_before {
                self.with(&key, |object, work| object.poll_again(index, work));
            } else {
                self.with(&key, |object, work| {
                    object.keep_pods(index, &done.pods);
                    object.receive_answer(index, answer, asked_at, done.latency, work);
                });
            }
        }
    }
}

impl Object {
    pub(super) fn record_definition(&mut self, work: &mut Work<'_>) {
        let version = (self.spec.uid.clone(), self.spec.generation);
        if self.recorded.definition.as_ref() == Some(&version) {
            return;
        }
        self.recorded.definition = Some(version);
        let record = Record::Definition {
            at: work.now,
            object: self.spec.key.clone(),
            uid: self.spec.uid.clone(),
            generation: self.spec.generation,
            spec_json: std::sync::Arc::clone(&self.spec.spec_json),
            invalid: self.spec.definition.as_ref().err().map(crate::scaling::model::Invalid::message),
            triggers: self.definition().map(recorded_triggers).unwrap_or_default(),
            resource_triggers: self.definition().map(recorded_resources).unwrap_or_default(),
        };
        work.outbox.record(record);
    }

    fn pods_counted(&mut self, ready: Result<u32, String>, work: &mut Work<'_>) {
        self.ready_pods = Some(ready);
        if let Some(poll_cycle) = &mut self.poll_cycle {
            poll_cycle.waits_for_pods = false;
        }
        self.reconsider(work);
        self.poll_cycle_progressed(work);
    }

    fn metric_read(&mut self, work: &mut Work<'_>) {
        let Some(poll_at) = self.cadence.read(work.now) else {
            return;
        };
        let follows = self.definition().is_some_and(|d| d.triggers.iter().any(needs_fresh_polls));
        // An earlier poll cycle in the calendar serves as well; a later one is superseded.
        if follows && work.schedule.planned(&self.spec.key).is_some_and(|planned| planned > poll_at) {
            work.schedule.plan(&self.spec.key, poll_at);
        }
    }
}

/// What an answer shows about the server that gave it.
fn conduct(done: &PollDone) -> Conduct {
    let took = done.asked_after.saturating_add(done.latency);
    if let Some(rest) = done.rest {
        return Conduct::Overloaded(rest);
    }
    match &done.answer {
        Answer::Failed(error) if error.class.is_server_trouble() => Conduct::Troubled,
        // No request was sent, and finding that out took no time.
        Answer::Failed(error)
            if matches!(error.class, ErrorClass::Authentication | ErrorClass::Configuration)
                && took < Duration::from_secs(1) =>
        {
            Conduct::Unasked
        }
        _ => Conduct::Answered(took),
    }
}

/// Metric reads of this trigger want a value that was polled just before.
fn needs_fresh_polls(trigger: &Trigger) -> bool {
    trigger.source.query().is_some() && !trigger.use_cached_metrics
}

/// Bytes of a trigger's name, an address or a query that are recorded.
const RECORDED_BYTES_MAX: usize = 4_096;

/// The series that the history keeps for an object: one for each trigger, and one for its formula.
fn recorded_triggers(definition: &Definition) -> Vec<RecordedTrigger> {
    let triggers = definition.triggers.iter().map(|trigger| {
        let (server, query) = trigger.source.shown();
        RecordedTrigger {
            index: trigger.index,
            kind: trigger.kind.clone(),
            name: trigger.name.clone().map(bounded),
            metric_name: Arc::clone(&trigger.metric_name),
            server: bounded(server),
            query: bounded(query),
            threshold: trigger.threshold,
            activation_threshold: trigger.activation_threshold,
        }
    });
    let formula = definition.modifiers.as_ref().map(|modifiers| RecordedTrigger {
        index: composite::INDEX,
        kind: "formula".to_owned(),
        name: None,
        metric_name: composite::NAME.into(),
        server: String::new(),
        query: modifiers.formula.text().to_owned(),
        threshold: modifiers.target,
        activation_threshold: modifiers.activation_target,
    });
    triggers.chain(formula).collect()
}

fn recorded_resources(definition: &Definition) -> Vec<ResourceTrigger> {
    let one =
        |trigger: &ResourceTrigger| ResourceTrigger { name: trigger.name.clone().map(bounded), ..trigger.clone() };
    definition.resource_triggers.iter().map(one).collect()
}

/// Returns the text, or the beginning of a long one with a hash that distinguishes it from others.
fn bounded(text: String) -> String {
    if text.len() <= RECORDED_BYTES_MAX {
        return text;
    }
    // FNV-1a.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let end = (0..=RECORDED_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}… ({} bytes, {hash:016x})", &text[..end], text.len())
}

/// Returns the identity of the HPA that a valid object wants.
fn hpa_id(spec: &ScaledObject) -> Option<HpaId> {
    let definition = spec.definition.as_ref().ok()?;
    Some(HpaId::new(&spec.key.namespace, &definition.hpa_name))
}

/// Returns the object that an HPA belongs to, whether that exists or not, and its uid: the ScaledObject that it names as
/// its controller, or the HPA itself.
pub(super) fn object_of(hpa: &ObservedHpa) -> (ObjectKey, &str) {
    let Some(owner) = hpa.controller.as_ref().filter(|owner| owner.is_scaled_object()) else {
        return (ObjectKey::new(ApiGroup::Autoscaling, &hpa.namespace, &hpa.name), &hpa.uid);
    };
    let group = if owner.api_version.starts_with("keda.k8s.io/") { ApiGroup::KedaK8sIo } else { ApiGroup::KedaSh };
    (ObjectKey::new(group, &hpa.namespace, &owner.name), &owner.uid)
}

/// Returns true if the first of two resource versions of a kind is older; false if they are not numbers.
pub(super) fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(version), Ok(than)) if version < than)
}
