//! Runs a world against the small API server on a virtual clock.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::scaling::cluster::{Cluster, STREAMS, WorkloadId, stream};
use crate::scaling::event::{
    Answer, AuthenticationRead, Command, Event, Group, KubeEvent, Missing, PollDone, PollError, PollJob, Record,
    RecordedTrigger, RestoredState, Split, TargetError, TargetErrorKind, TargetRead, WatchEvent, Write, WriteDone,
    WriteError, WriteErrorKind, WriteKind, WriteOk,
};
use crate::scaling::model::{
    ApiGroup, Gvkr, ObjectKey, OnMissing, PodSelection, Query, ScaledObject, TargetRef, UnixMillis, Workload,
};
use crate::scaling::view::ObjectView;
use crate::scaling::world::{Settings, World};
use crate::store::{Options, Store};

/// Something under way.
enum Item {
    Write(Write),
    /// A write of a process that is gone. Nobody waits for the answer.
    Stray(Write),
    /// A poll and its duration in milliseconds, after which it is answered.
    Poll(PollJob, i64),
    Event(Event),
    Echo(Event),
    /// The second half of a list of one kind.
    Listed(usize, Vec<Event>),
    /// The watch of a kind, which has died, begins anew.
    Relist(usize),
}

impl Item {
    /// It comes by the watch of this kind.
    fn is_of_watch(&self, kind: usize) -> bool {
        match self {
            Self::Echo(echo) => stream(echo) == kind,
            Self::Listed(of, _) | Self::Relist(of) => *of == kind,
            _ => false,
        }
    }
}

/// How the network treats messages.
pub(super) struct Network {
    pub(super) random: fastrand::Rng,
    /// Whether writes, answers and watch events are randomly late, lost or refused.
    pub(super) is_faulty: bool,
}

impl Network {
    fn delay(&mut self, usual: i64) -> i64 {
        if self.is_faulty && self.random.u8(0..4) == 0 { self.random.i64(0..5_000) } else { usual }
    }

    fn fails(&mut self) -> bool {
        self.is_faulty && self.random.u8(0..6) == 0
    }

    /// Returns when a write is carried out whose process died meanwhile; `None` if it has not left it.
    fn outlives_its_process(&mut self) -> Option<i64> {
        if !self.is_faulty {
            return Some(0);
        }
        [None, Some(0), Some(self.random.i64(0..60_000))][self.random.usize(0..3)]
    }

    /// Returns how a write fails, if it does, and whether it is carried out nevertheless.
    fn refusal(&mut self) -> Option<(WriteError, bool)> {
        if !self.fails() {
            return None;
        }
        let error = |kind, message: &str, retry_after| WriteError { kind, message: message.to_owned(), retry_after };
        let transient = WriteErrorKind::Transient;
        Some(match self.random.u8(0..8) {
            0 | 1 => (error(transient, "too many requests", Some(Duration::from_secs(self.random.u64(1..60)))), false),
            2 => (error(transient, "Internal error occurred", None), false),
            // etcd has it, and the answer came too late.
            3 => (error(transient, "etcdserver: request timed out", None), true),
            4 => (error(WriteErrorKind::Conflict, "the object has been modified", None), false),
            5 => (error(WriteErrorKind::Forbidden, "exceeded quota", None), false),
            _ => (error(transient, "connection reset", None), self.random.bool()),
        })
    }
}

/// What the world recorded of a trigger's answers.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) trigger: Option<RecordedTrigger>,
    pub(super) last: Option<(Answer, UnixMillis)>,
    pub(super) last_value: Option<(f64, UnixMillis)>,
}

impl Samples {
    pub(super) fn asks(&self, trigger: &RecordedTrigger) -> bool {
        let asked = |of: &RecordedTrigger| [&of.kind, &of.server, &of.query].map(String::clone);
        self.trigger.as_ref().is_some_and(|known| asked(known) == asked(trigger))
    }

    /// What the last answer counts as.
    pub(super) fn reading(&self, policy: &OnMissing) -> Option<f64> {
        let (answer, at) = self.last.as_ref()?;
        match (answer, policy) {
            (Answer::Value(value), _) => Some(*value),
            (Answer::Missing(_), OnMissing::Zero) => Some(0.0),
            (Answer::Missing(Missing::Empty), OnMissing::EmptyIsZero) => Some(0.0),
            (Answer::Missing(_), OnMissing::Hold(time)) => {
                self.last_value.filter(|(_, known_at)| at.since(*known_at) <= *time).map(|(value, _)| value)
            }
            _ => None,
        }
    }
}

pub(super) struct Rig {
    pub(super) world: World,
    settings: Settings,
    pub(super) cluster: Cluster,
    pub(super) now: UnixMillis,
    pub(super) network: Network,
    /// Query to answer; other queries have an empty result.
    pub(super) answers: HashMap<String, Answer>,
    /// Queries with slower answers, and their duration.
    pub(super) slow: HashMap<String, i64>,
    /// Duration of a poll.
    pub(super) poll_ms: i64,
    /// Time until a write is carried out.
    pub(super) write_ms: i64,
    /// Time from there until its answer arrives.
    pub(super) answer_ms: i64,
    /// The error of reads of custom targets.
    pub(super) target_fault: Option<String>,
    pub(super) ready_pods: u32,
    /// The counts of selections of pods; others have none.
    pub(super) pods: HashMap<PodSelection, Result<u32, PollError>>,
    /// The selections to be counted, each time that they changed.
    pub(super) selected: Vec<Vec<PodSelection>>,
    pub(super) writes: Vec<(UnixMillis, Write)>,
    pub(super) events: Vec<KubeEvent>,
    pub(super) records: Vec<Record>,
    pub(super) polls: Vec<(UnixMillis, PollJob)>,
    pub(super) views: BTreeMap<ObjectKey, Arc<ObjectView>>,
    pub(super) writes_in_flight: usize,
    pub(super) polls_in_flight: usize,
    /// Called after every step.
    pub(super) check: Option<fn(&mut Rig, &[Command])>,
    /// When each object was last active, by the test's own record.
    pub(super) active: BTreeMap<ObjectKey, UnixMillis>,
    /// The last samples of each trigger, by the test's own record.
    pub(super) samples: BTreeMap<(ObjectKey, u16), Samples>,
    /// Whether to print what happens.
    pub(super) is_traced: bool,
    /// No process runs.
    pub(super) is_down: bool,
    /// The next process starts beside one that acts.
    pub(super) is_standby: bool,
    /// The objects of this API group cannot be listed.
    pub(super) unlisted: Option<ApiGroup>,
    /// Writes that the API server refuses until later, by id, with the object, the slot, and the time that it asks for.
    deferred: HashMap<u64, (ObjectKey, &'static str, Duration)>,
    /// The newest version of each workload that the process was shown, by the test's own record.
    pub(super) shown: BTreeMap<WorkloadId, u64>,
    /// Of which object, by its uid, the writes under way are.
    writers: HashMap<u64, String>,
    /// Until when the API server wants no write to this slot of an object.
    pub(super) not_before: BTreeMap<(ObjectKey, &'static str), UnixMillis>,
    queue: BTreeMap<(UnixMillis, u64), Item>,
    last_item: u64,
    last_echo: [UnixMillis; STREAMS],
    /// Which watches show nothing.
    is_dead: [bool; STREAMS],
}

pub(super) fn settings() -> Settings {
    let query_timeout = Duration::from_secs(3);
    Settings {
        poll_threads: 8,
        server_limits: Default::default(),
        groups_queries: true,
        writes_max: 32,
        query_timeout,
        cross_namespace_services: false,
        version: "1.0".to_owned(),
        is_shadow: false,
        namespaces: Vec::new(),
        selects_objects: false,
        seed: 7,
    }
}

impl Rig {
    /// Writes what was recorded into a database in a new folder, from which nothing expires.
    pub(super) fn store_records(&mut self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.db");
        let mut options = Options::default();
        let always = Duration::from_secs(40_000 * 86_400);
        let retention = &mut options.retention;
        (retention.samples, retention.minutes, retention.hours, retention.history) = (always, always, always, always);
        let store = Store::start(&path, options).unwrap();
        store.send(std::mem::take(&mut self.records));
        store.flush().unwrap();
        assert!(store.stop(Duration::from_secs(30)).complete);
        (folder, path)
    }

    pub(super) fn new(cluster: Cluster) -> Self {
        Self::with(cluster, settings())
    }

    pub(super) fn with(mut cluster: Cluster, settings: Settings) -> Self {
        cluster.echoes.clear();
        let mut rig = Self {
            world: World::new(settings.clone()),
            settings,
            cluster,
            // A round number long after the creation of the objects at 0.
            now: UnixMillis(1_000_000_000),
            network: Network { random: fastrand::Rng::with_seed(0), is_faulty: false },
            answers: HashMap::new(),
            slow: HashMap::new(),
            poll_ms: 20,
            write_ms: 3,
            answer_ms: 2,
            target_fault: None,
            ready_pods: 1,
            pods: HashMap::new(),
            selected: Vec::new(),
            writes: Vec::new(),
            events: Vec::new(),
            records: Vec::new(),
            polls: Vec::new(),
            views: BTreeMap::new(),
            writes_in_flight: 0,
            polls_in_flight: 0,
            check: None,
            active: BTreeMap::new(),
            samples: BTreeMap::new(),
            is_traced: false,
            is_down: false,
            is_standby: false,
            unlisted: None,
            deferred: HashMap::new(),
            shown: BTreeMap::new(),
            writers: HashMap::new(),
            not_before: BTreeMap::new(),
            queue: BTreeMap::new(),
            last_item: 0,
            last_echo: [UnixMillis(0); STREAMS],
            is_dead: [false; STREAMS],
        };
        rig.list_all();
        rig
    }

    /// Starts a new process on the same cluster; the old one's requests are never answered.
    pub(super) fn restart(&mut self, restored: Vec<RestoredState>) {
        self.kill();
        self.start(restored);
    }

    /// Ends the process. Until the next one starts, only the cluster moves on.
    pub(super) fn kill(&mut self) {
        self.is_down = true;
        for ((at, n), item) in std::mem::take(&mut self.queue) {
            match item {
                Item::Stray(_) => drop(self.queue.insert((at, n), item)),
                Item::Write(write) => match self.network.outlives_its_process() {
                    None => {}
                    Some(0) => self.carry_out_stray(&write),
                    Some(delay) => self.later(delay, Item::Stray(write)),
                },
                _ => {}
            }
        }
        self.views.clear();
        self.samples.clear();
        self.deferred.clear();
        self.writers.clear();
        self.not_before.clear();
        self.writes_in_flight = 0;
        self.polls_in_flight = 0;
    }

    /// Starts a process, which lists everything anew.
    pub(super) fn start(&mut self, restored: Vec<RestoredState>) {
        self.is_down = false;
        self.shown.clear();
        self.world = World::new(self.settings.clone());
        if self.is_standby {
            self.world.stand_by();
        }
        self.queue.retain(|_, item| matches!(item, Item::Stray(_)));
        self.cluster.echoes.clear();
        self.last_echo = [self.now; STREAMS];
        self.is_dead = [false; STREAMS];
        self.step(Event::Restored(restored));
        self.list_all();
    }

    fn list_all(&mut self) {
        for kind in 0..STREAMS {
            if self.network.is_faulty && self.network.random.u8(0..4) == 0 {
                let pause = self.network.random.i64(0..5_000);
                self.list_in_halves(kind, pause);
            } else {
                self.list(kind);
            }
        }
    }

    /// Lists one kind (as numbered by [`stream`]) anew, as after a broken watch.
    pub(super) fn list(&mut self, kind: usize) {
        for event in self.begin_list(kind) {
            self.step(event);
        }
    }

    /// The same, but other events come in the middle of it.
    pub(super) fn list_in_halves(&mut self, kind: usize, pause_ms: i64) {
        let mut first = self.begin_list(kind);
        // Its start comes before it is asked for.
        let rest = first.split_off(self.network.random.usize(1..first.len()));
        for event in first {
            self.step(event);
        }
        let at = UnixMillis(self.now.0 + pause_ms);
        self.last_echo[kind] = self.last_echo[kind].max(at);
        self.later(pause_ms, Item::Listed(kind, rest));
    }

    /// What a list has includes pending watch events, which are not delivered twice.
    fn begin_list(&mut self, kind: usize) -> Vec<Event> {
        self.flush_echoes();
        self.queue.retain(|_, item| !item.is_of_watch(kind));
        self.is_dead[kind] = false;
        let unlisted = self.unlisted;
        let is_seen = |event: &Event| !matches!(event, Event::ScaledObject(group, _) if Some(*group) == unlisted);
        self.cluster.list(kind).into_iter().filter(is_seen).collect()
    }

    /// The watch of one kind shows nothing any more, until it begins anew.
    pub(super) fn lose_watch(&mut self, kind: usize, milliseconds: i64) {
        self.queue.retain(|_, item| !item.is_of_watch(kind));
        self.is_dead[kind] = true;
        self.later(milliseconds, Item::Relist(kind));
    }

    /// The history goes on in another file.
    pub(super) fn renew_history(&mut self) {
        self.step(Event::HistoryRenewed);
        while self.world.is_recording_anew() && !self.is_down {
            self.step(Event::HistoryHasRoom);
        }
    }

    /// Ends what [`Self::lose_watch`] began.
    pub(super) fn revive_watches(&mut self) {
        for kind in (0..STREAMS).filter(|kind| self.is_dead[*kind]).collect::<Vec<_>>() {
            self.list(kind);
        }
    }

    /// A whole list of one kind, of all namespaces.
    pub(super) fn step_list<T>(
        &mut self,
        event: impl Fn(WatchEvent<T>) -> Event,
        listed: impl IntoIterator<Item = WatchEvent<T>>,
    ) {
        self.step(event(WatchEvent::ListStart { scope: String::new() }));
        for object in listed {
            self.step(event(object));
        }
        self.step(event(WatchEvent::ListEnd { scope: String::new() }));
    }

    pub(super) fn trace(&self, what: &str) {
        if self.is_traced {
            eprintln!("{} {what}", self.now.0);
        }
    }

    /// Passes one event to the world and carries out its commands.
    pub(super) fn step(&mut self, event: Event) {
        if self.is_down {
            return;
        }
        if self.is_traced {
            self.trace(&format!("  {event:?}"));
        }
        if let Some((workload, version)) = self.shows(&event) {
            let newest = self.shown.entry(workload).or_default();
            *newest = version.max(*newest);
        }
        let commands = self.world.apply(event, self.now);
        for command in commands.iter().filter(|_| self.is_traced) {
            eprintln!("    {command:?}");
        }
        if let Some(check) = self.check {
            check(self, &commands);
        }
        for command in commands {
            self.carry_out(command);
        }
    }

    /// Which version of which workload an event shows. Some reads are not needed any more and not looked at.
    fn shows(&self, event: &Event) -> Option<(WorkloadId, u64)> {
        let shown = |gvkr: &Gvkr, workload: &Workload| {
            let id = (gvkr.clone(), workload.namespace.clone(), workload.name.clone());
            Some((id, workload.version?))
        };
        match event {
            Event::Workload(gvkr, WatchEvent::Listed(workload) | WatchEvent::Changed(workload)) => {
                shown(gvkr, workload)
            }
            Event::TargetRead(TargetRead { object, target, result: Ok((gvkr, workload)) }) => {
                let object = self.world.objects.get(object)?;
                let is_needed = object.spec.target == *target
                    && !object.is_target_read_old
                    && self.world.facts.watched_target(object).is_none();
                if is_needed { shown(gvkr, workload) } else { None }
            }
            Event::Written(WriteDone { id, object, result: Ok(WriteOk::Scaled(version)) }) => {
                let writes = &self.world.objects.get(object)?.in_flight_writes;
                let (_, WriteKind::Scale { target, .. }) = writes.iter().find(|(known, _)| known == id)? else {
                    return None;
                };
                let id = (Gvkr::clone(&target.gvkr), object.namespace.to_string(), target.name.clone());
                Some((id, (*version)?))
            }
            _ => None,
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Poll(job) => {
                self.polls_in_flight += 1;
                self.polls.push((self.now, job.clone()));
                let usual = self.slow.get(asked(&job.query)).copied().unwrap_or(self.poll_ms);
                let delay = self.network.delay(usual);
                self.later(delay, Item::Poll(job, delay));
            }
            Command::Write(write) => {
                self.writes_in_flight += 1;
                self.writes.push((self.now, write.clone()));
                self.writers.insert(write.id, self.uid(&write.object));
                let delay = self.network.delay(self.write_ms);
                self.later(delay, Item::Write(write));
            }
            Command::ReadTarget { object, target, .. } => {
                let result = self.read_target(&object, &target);
                let read = TargetRead { object, target, result };
                let delay = self.network.delay(4);
                self.later(delay, Item::Event(Event::TargetRead(read)));
            }
            Command::ReadAuthentication(authentication) => {
                let found = self.cluster.authentications.get(&authentication).cloned().map(Box::new);
                let result = if self.network.fails() { Err("timeout".to_owned()) } else { Ok(found) };
                let delay = self.network.delay(4);
                let read = AuthenticationRead { authentication, result };
                self.later(delay, Item::Event(Event::AuthenticationRead(read)));
            }
            Command::CountReadyPods { object, .. } => {
                let ready = Ok(self.ready_pods);
                // Delivered after the metric's answer, which must wait for it.
                self.later(40, Item::Event(Event::PodsCounted { object, ready }));
            }
            Command::WatchPods { namespace, selections } => {
                self.selected.push(selections.clone());
                for selection in selections {
                    let count = self.pods.get(&selection).cloned().unwrap_or(Ok(0));
                    let namespace = Arc::clone(&namespace);
                    self.later(30, Item::Event(Event::PodsSelected { namespace, selection, count }));
                }
            }
            Command::Turn(_) => {}
            Command::Emit(event) => self.events.push(event),
            Command::Record(record) => self.records.push(record),
            Command::Publish(key, Some(view)) => {
                self.views.insert(key, view);
            }
            Command::Publish(key, None) => {
                self.views.remove(&key);
            }
        }
    }

    fn answer(&mut self, job: &PollJob) -> Answer {
        let answer = self.answers.get(asked(&job.query)).cloned();
        if self.network.fails() {
            return super::failed("connection refused");
        }
        answer.unwrap_or(Answer::Missing(Missing::Empty))
    }

    /// As if it had been asked `sum(m{label="value"})`.
    fn answer_of_member(&self, group: &Group, value: &str) -> Answer {
        let answer = self.answers.get(&format!("sum(m{{{}=\"{value}\"}})", group.label));
        answer.cloned().unwrap_or(Answer::Missing(Missing::Empty))
    }

    fn read_target(&mut self, object: &ObjectKey, target: &TargetRef) -> Result<(Gvkr, Workload), TargetError> {
        let fault = |kind, message: &str| TargetError { kind, message: message.to_owned() };
        if let Some(message) = &self.target_fault {
            return Err(fault(TargetErrorKind::Other, message));
        }
        let found = self.cluster.workloads.iter().find(|((gvkr, ..), found)| {
            gvkr.kind == target.kind
                && gvkr.api_version() == target.api_version
                && found.name == target.name
                && *found.namespace == *object.namespace
        });
        if self.network.fails() {
            return Err(fault(TargetErrorKind::Other, "timeout"));
        }
        match found {
            Some(((gvkr, ..), workload)) => Ok((gvkr.clone(), workload.clone())),
            None => {
                let (group, _) = target.api_version.split_once('/').unwrap_or_default();
                let message = format!("{}s.{group} \"{}\" not found", target.kind.to_lowercase(), target.name);
                Err(fault(TargetErrorKind::NotFound, &message))
            }
        }
    }

    fn later(&mut self, delay_ms: i64, item: Item) {
        self.last_item += 1;
        let at = UnixMillis(self.now.0 + delay_ms);
        self.queue.insert((at, self.last_item), item);
    }

    /// The uid of a ScaledObject that the process knows; empty for what is none.
    fn uid(&self, key: &ObjectKey) -> String {
        self.world.objects.get(key).map(|object| object.spec.uid.clone()).unwrap_or_default()
    }

    /// Delivers the cluster's watch events, with a delay.
    pub(super) fn flush_echoes(&mut self) {
        for echo in std::mem::take(&mut self.cluster.echoes) {
            let delay = self.network.delay(6);
            let stream = stream(&echo);
            if self.is_dead[stream] {
                continue;
            }
            // In order within a kind, however late.
            let at = self.last_echo[stream].max(UnixMillis(self.now.0 + delay));
            self.last_echo[stream] = at;
            self.later(at.0 - self.now.0, Item::Echo(echo));
        }
    }

    fn carry_out_write(&mut self, write: Write) {
        if let WriteKind::Scale { target, .. } = &write.kind
            && self.network.is_faulty
            && self.network.random.u8(0..4) == 0
        {
            // Its status has just changed, as it may at any time, and the watch has yet to show that.
            let id = (Gvkr::clone(&target.gvkr), write.object.namespace.to_string(), target.name.clone());
            if let Some(workload) = self.cluster.workloads.get(&id).cloned() {
                self.cluster.put_workload(&target.gvkr, workload);
                self.flush_echoes();
            }
        }
        let result = match self.network.refusal() {
            None => self.cluster.write(&write),
            Some((error, is_carried_out)) => {
                if is_carried_out {
                    let _ = self.cluster.write(&write);
                }
                if let Some(time) = error.retry_after {
                    self.deferred.insert(write.id, (write.object.clone(), slot_name(&write.kind), time));
                }
                Err(error)
            }
        };
        self.flush_echoes();
        let done = WriteDone { id: write.id, object: write.object, result };
        let delay = self.network.delay(self.answer_ms);
        self.later(delay, Item::Event(Event::Written(done)));
    }

    fn carry_out_stray(&mut self, write: &Write) {
        let _ = self.cluster.write(write);
        self.cluster.collect_garbage();
    }

    /// Lets `milliseconds` pass.
    pub(super) fn run(&mut self, milliseconds: i64) {
        let end = UnixMillis(self.now.0 + milliseconds);
        let mut steps = 0;
        loop {
            self.flush_echoes();
            let item = self.queue.keys().next().map(|(at, _)| *at);
            let deadline = self.world.next_deadline().filter(|_| !self.is_down);
            let Some(at) = [item, deadline].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            if at > self.now {
                self.now = at;
                steps = 0;
            }
            steps += 1;
            assert!(steps < 20_000, "the world spins at {:?}", self.now);
            if item == Some(at)
                && let Some((_, item)) = self.queue.pop_first()
            {
                match item {
                    Item::Write(write) => self.carry_out_write(write),
                    Item::Stray(write) => self.carry_out_stray(&write),
                    Item::Poll(job, took) => {
                        self.polls_in_flight -= 1;
                        let split = job.group.as_ref().map(|group| {
                            let each =
                                group.members.iter().map(|(id, value)| (*id, self.answer_of_member(group, value)));
                            Split::Each(each.collect())
                        });
                        let answer = self.answer(&job);
                        self.step(Event::Polled(vec![PollDone {
                            id: job.id,
                            asked_after: Duration::ZERO,
                            latency: Duration::from_millis(u64::try_from(took).unwrap()),
                            answer,
                            split,
                            rest: None,
                            pods: None,
                            server: None,
                        }]));
                    }
                    Item::Event(event) => {
                        if let Event::Written(done) = &event {
                            self.writes_in_flight -= 1;
                            let writer = self.writers.remove(&done.id);
                            if let Some((object, slot, time)) = self.deferred.remove(&done.id)
                                // An answer about a deleted object is not about the one that has its name now.
                                && writer == Some(self.uid(&object))
                            {
                                self.not_before.insert((object, slot), self.now.plus(time));
                            }
                        }
                        self.step(event);
                    }
                    Item::Echo(echo) => self.step(echo),
                    Item::Listed(_, rest) => rest.into_iter().for_each(|event| self.step(event)),
                    Item::Relist(kind) => self.list(kind),
                }
            } else {
                self.step(Event::Tick);
            }
        }
        self.now = end;
    }

    /// Stops the process for this long; it processes what arrived meanwhile afterwards.
    pub(super) fn stand_still(&mut self, milliseconds: i64) {
        self.now.0 += milliseconds;
    }

    pub(super) fn seconds(&mut self, seconds: i64) {
        self.run(seconds * 1000);
    }

    /// Steps the wall clock; what is under way arrives as it would have.
    pub(super) fn step_clock(&mut self, milliseconds: i64) {
        let shift = |at: UnixMillis| UnixMillis(at.0 + milliseconds);
        self.now = shift(self.now);
        self.queue =
            std::mem::take(&mut self.queue).into_iter().map(|((at, n), item)| ((shift(at), n), item)).collect();
        self.last_echo = self.last_echo.map(shift);
        self.not_before.values_mut().for_each(|at| *at = shift(*at));
        for sample in self.samples.values_mut() {
            sample.last.iter_mut().for_each(|(_, at)| *at = shift(*at));
            sample.last_value.iter_mut().for_each(|(_, at)| *at = shift(*at));
        }
        self.world.shift_clock(milliseconds, self.now);
    }

    /// Forgets what was written and emitted so far.
    pub(super) fn clear(&mut self) {
        self.writes.clear();
        self.events.clear();
        self.records.clear();
        self.polls.clear();
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.writes.iter().map(|(_, write)| kind_name(&write.kind)).collect()
    }

    pub(super) fn reasons(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| event.reason).collect()
    }

    /// Changes the spec.
    pub(super) fn edit(&mut self, key: &ObjectKey, change: impl FnOnce(&mut ScaledObject)) {
        let mut object = self.cluster.objects[key].clone();
        object.generation += 1;
        change(&mut object);
        self.cluster.put_object(object);
    }

    /// Changes metadata.
    pub(super) fn annotate(&mut self, key: &ObjectKey, change: impl FnOnce(&mut ScaledObject)) {
        let mut object = self.cluster.objects[key].clone();
        change(&mut object);
        self.cluster.put_object(object);
    }
}

/// The part of a query that selects its answer.
fn asked(query: &Query) -> &str {
    match query {
        Query::Prometheus(source) => &source.query,
        Query::MetricsApi(source) => &source.url,
        other => other.what(),
    }
}

/// The slot that a write of an object takes; authentications have none.
pub(super) fn slot_name(kind: &WriteKind) -> &'static str {
    match kind {
        WriteKind::Claim { .. } | WriteKind::Release { .. } => "claim",
        WriteKind::Status(_) => "status",
        WriteKind::CreateHpa(_)
        | WriteKind::ApplyHpa(_)
        | WriteKind::ReplaceHpa { .. }
        | WriteKind::DeleteHpa { .. } => "hpa",
        WriteKind::Scale { .. } => "scale",
        WriteKind::AuthenticationStatus { .. } | WriteKind::AuthenticationFinalizers { .. } => "authentication",
    }
}

pub(super) fn kind_name(kind: &WriteKind) -> &'static str {
    match kind {
        WriteKind::Claim { .. } => "Claim",
        WriteKind::Release { .. } => "Release",
        WriteKind::Status(_) => "Status",
        WriteKind::CreateHpa(_) => "CreateHpa",
        WriteKind::ApplyHpa(_) => "ApplyHpa",
        WriteKind::ReplaceHpa { .. } => "ReplaceHpa",
        WriteKind::DeleteHpa { .. } => "DeleteHpa",
        WriteKind::Scale { .. } => "Scale",
        WriteKind::AuthenticationStatus { .. } => "AuthenticationStatus",
        WriteKind::AuthenticationFinalizers { .. } => "AuthenticationFinalizers",
    }
}
