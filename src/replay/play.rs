//! One run: the core on a virtual clock, beside an API server in memory, the HPA controller and the target's pods.
//!
//! Owns the clock. Writes and questions are answered at once, since what they take is far below a second, and the
//! record is no finer than that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::hpa_controller::{Bounds, HpaController, Metric, Model, Pods};
use super::quiet::{QUERY_TIMEOUT, Quiet};
use super::start::StartUp;
use super::track::{Cursor, SourceId, Track};
use crate::scaling::cluster::{Cluster, STREAMS};
use crate::scaling::decision::Decision;
use crate::scaling::event::{Answer, Command, Event, PollDone, PollError, Record, RestoredState, WriteDone, WriteKind};
use crate::scaling::model::{
    Definition, Gvkr, MetricType, ObjectKey, Pause, PodSelection, Query, ScaledObject, Source, UnixMillis, Workload,
};
use crate::scaling::view::{ObjectView, Reading};
use crate::scaling::world::{Settings, World, watched_workloads};

/// Steps without progress of time before the run counts as stuck, which would be a mistake of the core.
const STEPS_MAX: usize = 20_000;

/// What a run is fed with, the same for every candidate.
#[derive(Debug)]
pub(super) struct Input<'r> {
    pub tracks: &'r BTreeMap<SourceId, Track>,
    pub from: i64,
    pub to: i64,
    pub replicas: u32,
    /// The object begins with the run, and was never active before.
    pub is_new: bool,
    /// When the object was paused, and how; the first may be before `from`.
    pub pauses: &'r [(i64, Pause)],
    /// When the real HPA controller looked at the HPA, as far as that is known. The model looks then, too.
    pub syncs: &'r [i64],
    pub model: Model,
    pub start_up: StartUp,
    /// Decides on polls, too, that nothing follows from.
    pub decides_all: bool,
}

/// The course of a run. Times are in milliseconds, values stand until the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    pub replicas: Vec<(i64, u32)>,
    pub ready: Vec<(i64, u32)>,
    /// The replicas that the metrics ask for so that each is at its target, in fractions; 0 while nothing is active.
    pub demand: Vec<(i64, f64)>,
    /// Decisions that changed something, and those about a new state.
    pub decisions: Vec<(i64, Arc<Decision>)>,
    pub polls: u64,
    /// Polls among them that were decided on.
    pub decided: u64,
}

/// Newest decisions that are kept of a run.
const DECISIONS_MAX: usize = 2_000;

/// Runs an object whose definition is valid. It may refer to sources that have a track only.
#[must_use]
pub(super) fn play(input: &Input<'_>, object: &ScaledObject) -> Course {
    let Ok(definition) = object.definition.clone() else { return Course::default() };
    let mut object = object.clone();
    // Credentials were needed for answers that are recorded already.
    let definition = Definition {
        triggers: definition
            .triggers
            .iter()
            .cloned()
            .map(|t| crate::scaling::model::Trigger { authentication: None, ..t })
            .collect(),
        ..(*definition).clone()
    };
    let definition = Arc::new(definition);
    object.definition = Ok(Arc::clone(&definition));
    // The kind of the target makes no difference here, and this one is watched.
    let [gvkr, _] = watched_workloads();
    object.target.kind.clone_from(&gvkr.kind);
    object.target.api_version = gvkr.api_version();
    let mut run = Run::new(input, object, definition, gvkr);
    run.begin();
    run.until(input.to);
    run.course
}

struct Run<'r> {
    input: &'r Input<'r>,
    key: ObjectKey,
    definition: Arc<Definition>,
    /// Of the target.
    id: (Gvkr, String, String),
    hpa: (String, String),
    world: World,
    cluster: Cluster,
    controller: HpaController,
    view: Option<Arc<ObjectView>>,
    now: UnixMillis,
    inbox: VecDeque<Event>,
    queries: Vec<(Query, Cursor<'r>)>,
    quiet: Option<Quiet>,
    selections: Vec<(PodSelection, Cursor<'r>, bool)>,
    /// What all pods together use of cpu and memory.
    resources: Vec<(&'r SourceId, Cursor<'r>)>,
    /// When each pod that is not ready yet will be.
    starting: VecDeque<i64>,
    last_sync: i64,
    next_sync: usize,
    next_pause: usize,
    metrics: Vec<Metric>,
    course: Course,
}

fn settings() -> Settings {
    Settings {
        poll_threads: 64,
        server_limits: Default::default(),
        groups_queries: false,
        writes_max: 32,
        query_timeout: QUERY_TIMEOUT,
        cross_namespace_services: true,
        version: "replay".to_owned(),
        namespaces: Vec::new(),
        selects_objects: false,
        is_shadow: false,
        seed: 1,
    }
}

fn period_ms(model: Model) -> i64 {
    i64::try_from(model.sync_period.as_millis()).unwrap_or(i64::MAX / 2).max(1)
}

impl<'r> Run<'r> {
    fn new(input: &'r Input<'r>, object: ScaledObject, definition: Arc<Definition>, gvkr: Gvkr) -> Self {
        let (namespace, key) = (object.key.namespace.to_string(), object.key.clone());
        let mut cluster = Cluster::default();
        let (mut queries, mut selections) = (Vec::new(), Vec::new());
        for trigger in &definition.triggers {
            let Some(track) = input.tracks.get(&SourceId::of(&trigger.kind, &trigger.source).among(input.tracks))
            else {
                continue;
            };
            match &trigger.source {
                Source::Query(query) => queries.push((query.clone(), Cursor::new(track))),
                Source::Pods(selection) => selections.push((selection.clone(), Cursor::new(track), false)),
                Source::Cron(_) | Source::Shown(_) => {}
            }
        }
        let id = (gvkr.clone(), namespace.clone(), object.target.name.clone());
        let workload = Workload {
            namespace: namespace.clone(),
            name: object.target.name.clone(),
            uid: "target".to_owned(),
            replicas: input.replicas,
            selector: Some("app=target".to_owned()),
            replicas_manager: None,
            ready: input.replicas,
            version: None,
        };
        cluster.put_workload(&gvkr, workload);
        let object_is_forced = object.force_activation;
        cluster.put_object(object);
        let now = UnixMillis(input.from);
        // The controller begins when there is an HPA.
        let first_look = input.syncs.iter().find(|at| **at >= input.from).filter(|_| input.is_new);
        let is_forced = input.decides_all || object_is_forced;
        let quiet = Quiet::of(&definition, &queries).filter(|_| !is_forced);
        Self {
            input,
            key,
            id,
            hpa: (namespace, definition.hpa_name.clone()),
            definition,
            world: World::new(settings()),
            cluster,
            controller: HpaController::new(input.model),
            view: None,
            now,
            inbox: VecDeque::new(),
            queries,
            quiet,
            selections,
            resources: input
                .tracks
                .iter()
                .filter(|(source, _)| source.is_resource())
                .map(|(source, track)| (source, Cursor::new(track)))
                .collect(),
            starting: VecDeque::new(),
            last_sync: first_look.unwrap_or(&input.from) - period_ms(input.model),
            next_sync: 0,
            next_pause: 0,
            metrics: Vec::new(),
            course: Course {
                replicas: vec![(input.from, input.replicas)],
                ready: vec![(input.from, input.replicas)],
                demand: vec![(input.from, 0.0)],
                ..Course::default()
            },
        }
    }

    fn begin(&mut self) {
        self.pause();
        self.cluster.echoes.clear();
        // Whoever runs has been active until now, as far as anybody knows: a cooldown begins too late rather than too
        // early.
        let last_active_at = (self.input.replicas > 0 && !self.input.is_new).then_some(self.now);
        let uid = self.cluster.objects.get(&self.key).map(|object| object.uid.clone()).unwrap_or_default();
        self.inbox.push_back(Event::Restored(vec![RestoredState {
            key: self.key.clone(),
            uid,
            last_active_at,
            replicas: None,
            held: Vec::new(),
            put_to_zero: None,
        }]));
        for kind in 0..STREAMS {
            self.inbox.extend(self.cluster.list(kind));
        }
        self.settle();
    }

    /// Lets time pass until `end`.
    fn until(&mut self, end: i64) {
        let mut steps = 0;
        loop {
            let sync = self.sync_at();
            let deadline = self.world.next_deadline().map(|at| at.0.max(self.now.0));
            let next = [
                deadline,
                Some(sync),
                self.starting.front().copied(),
                self.input.pauses.get(self.next_pause).map(|(at, _)| (*at).max(self.now.0)),
                self.selections
                    .iter()
                    .filter_map(|(_, cursor, is_wanted)| cursor.next_at().filter(|_| *is_wanted))
                    .min(),
            ];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= end) else { return };
            if deadline == Some(at) && at < sync && self.leave_out(at, sync, end) {
                continue;
            }
            steps = if at > self.now.0 { 0 } else { steps + 1 };
            if steps > STEPS_MAX {
                debug_assert!(false, "the world spins at {}", self.now);
                return;
            }
            self.now = UnixMillis(at);
            self.pods();
            self.recount();
            if self.input.pauses.get(self.next_pause).is_some_and(|(pause, _)| *pause <= at) {
                self.pause();
            }
            if deadline.is_some_and(|deadline| deadline <= at) {
                self.inbox.push_back(Event::Tick);
            }
            self.settle();
            if sync <= at {
                self.sync();
            }
        }
    }

    /// Leaves out the poll that is next, if nothing follows from it but what it asks for. Returns false if something may.
    fn leave_out(&mut self, at: i64, look: i64, end: i64) -> bool {
        let (Some(quiet), Some(_)) = (&self.quiet, &self.view) else { return false };
        let pause = self.input.pauses.get(self.next_pause).map_or(i64::MAX, |(at, _)| *at);
        let replicas = self.replicas();
        let queries = &self.queries;
        let may = |planned: UnixMillis, next: UnixMillis| {
            planned.0 == at && next.0 <= end.min(pause) && quiet.may_leave_out(queries, replicas, planned, next, look)
        };
        if !self.world.leave_out_poll_cycle(&self.key, may) {
            return false;
        }
        let (demand, polls) = quiet.left_out(queries, UnixMillis(at));
        self.course.polls += polls;
        self.push_demand(at, demand);
        true
    }

    /// Passes on what has happened until nothing follows from it any more.
    fn settle(&mut self) {
        self.inbox.extend(self.cluster.echoes.drain(..));
        while let Some(event) = self.inbox.pop_front() {
            for command in self.world.apply(event, self.now) {
                self.carry_out(command);
            }
            self.inbox.extend(self.cluster.echoes.drain(..));
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Poll(job) => {
                self.course.polls += 1;
                self.course.decided += 1;
                let now = self.now.0;
                let Some(place) = self.queries.iter().position(|(query, _)| *query == job.query) else { return };
                let cursor = &mut self.queries[place].1;
                if let Some(quiet) = &mut self.quiet {
                    quiet.take(place, cursor, now);
                }
                self.inbox.push_back(Event::Polled(vec![PollDone {
                    id: job.id,
                    asked_after: Duration::ZERO,
                    latency: Duration::ZERO,
                    answer: cursor.at(now),
                    split: None,
                    rest: None,
                    pods: None,
                    server: None,
                }]));
            }
            Command::Write(write) => {
                let result = self.cluster.write(&write);
                if matches!(write.kind, WriteKind::Scale { .. }) {
                    self.note_replicas();
                }
                self.inbox.push_back(Event::Written(WriteDone { id: write.id, object: write.object, result }));
            }
            Command::CountReadyPods { object, .. } => {
                let ready = Ok(self.ready());
                self.inbox.push_back(Event::PodsCounted { object, ready });
            }
            Command::WatchPods { namespace, selections } => {
                for (selection, cursor, is_wanted) in &mut self.selections {
                    *is_wanted = selections.contains(selection);
                    if let Some(count) = count(cursor, self.now.0).filter(|_| *is_wanted) {
                        let (namespace, selection) = (Arc::clone(&namespace), selection.clone());
                        self.inbox.push_back(Event::PodsSelected { namespace, selection, count });
                    }
                }
            }
            Command::Record(Record::Decision { at, decision, .. }) => {
                if self.course.decisions.len() == DECISIONS_MAX {
                    self.course.decisions.drain(..DECISIONS_MAX / 2);
                }
                self.course.decisions.push((at.0, decision));
            }
            Command::Publish(_, view) => {
                self.view = view;
                self.note_demand();
            }
            // Targets are watched, authentications not needed, and nobody reads Kubernetes Events or by rules.
            Command::ReadTarget { .. }
            | Command::ReadAuthentication(_)
            | Command::Emit(_)
            | Command::Record(_)
            | Command::Turn(_) => {}
        }
    }

    /// Passes on the counts of pods that are due.
    fn recount(&mut self) {
        for (selection, cursor, is_wanted) in &mut self.selections {
            if *is_wanted
                && cursor.next_at().is_some_and(|at| at <= self.now.0)
                && let Some(count) = count(cursor, self.now.0)
            {
                let (namespace, selection) = (Arc::clone(&self.key.namespace), selection.clone());
                self.inbox.push_back(Event::PodsSelected { namespace, selection, count });
            }
        }
    }

    /// Puts the pause of this time on the object.
    fn pause(&mut self) {
        let due = self.input.pauses.iter().skip(self.next_pause).take_while(|(at, _)| *at <= self.now.0).count();
        self.next_pause += due;
        if let Some(quiet) = &mut self.quiet {
            quiet.forget();
        }
        let Some((_, pause)) = self.next_pause.checked_sub(1).and_then(|at| self.input.pauses.get(at)) else { return };
        if let Some(mut object) = self.cluster.objects.get(&self.key).filter(|object| object.pause != *pause).cloned() {
            object.pause = pause.clone();
            self.cluster.put_object(object);
        }
    }

    fn replicas(&self) -> u32 {
        self.course.replicas.last().map_or(0, |(_, replicas)| *replicas)
    }

    fn ready(&self) -> u32 {
        self.course.ready.last().map_or(0, |(_, ready)| *ready)
    }

    /// Takes in a change of the target's replicas. Pods that are not ready go first.
    fn note_replicas(&mut self) {
        let to = self.cluster.workloads.get(&self.id).map_or(0, |workload| workload.replicas);
        let (at, from) = (self.now.0, self.replicas());
        if from == to {
            return;
        }
        self.course.replicas.push((at, to));
        if to > from {
            let ready_at = at.saturating_add(self.input.start_up.after(from));
            self.starting.extend((from..to).map(|_| ready_at));
        } else {
            let gone = usize::try_from(from - to).unwrap_or(usize::MAX);
            self.starting.truncate(self.starting.len().saturating_sub(gone));
        }
        self.pods();
    }

    /// Counts the pods that are ready by now.
    fn pods(&mut self) {
        while self.starting.front().is_some_and(|at| *at <= self.now.0) {
            self.starting.pop_front();
        }
        let ready = self.replicas().saturating_sub(u32::try_from(self.starting.len()).unwrap_or(u32::MAX));
        if ready != self.ready() {
            self.course.ready.push((self.now.0, ready));
        }
    }

    /// Returns when the controller looks next. Between two moments at which the real one is known to have looked, its
    /// looks are evenly spaced.
    fn sync_at(&mut self) -> i64 {
        let period = period_ms(self.input.model);
        let syncs = self.input.syncs;
        // What is seen sooner was no look, or the second half of one.
        while syncs.get(self.next_sync).is_some_and(|at| *at <= self.last_sync + period / 2) {
            self.next_sync += 1;
        }
        let Some(known) = syncs.get(self.next_sync) else { return self.last_sync + period };
        let until = known - self.last_sync;
        self.last_sync + until / ((until + period / 2) / period).max(1)
    }

    fn sync(&mut self) {
        self.last_sync = self.now.0;
        let (Some(hpa), Some(view)) = (self.cluster.hpas.get(&self.hpa), &self.view) else {
            // Its memory ends with the HPA.
            self.controller = HpaController::new(self.input.model);
            return;
        };
        let current = self.replicas();
        let pods = Pods { wanted: current, ready: self.ready() };
        self.metrics.clear();
        if current > 0 {
            let now = self.now;
            let resources = &mut self.resources;
            let mut used = |source: SourceId| {
                let cursor = resources.iter_mut().find(|(known, _)| **known == source).map(|(_, cursor)| cursor)?;
                match cursor.at(now.0) {
                    Answer::Value(value) => Some(value),
                    Answer::Missing(_) | Answer::Failed(_) => None,
                }
            };
            self.metrics.extend(hpa.metrics.iter().filter_map(|metric| Metric::of_resource(metric, pods, &mut used)));
            self.metrics.extend(hpa.metrics.iter().filter_map(|metric| Metric::read(metric, view, now)));
        }
        let wanted = self.controller.sync(self.now, Bounds::of(hpa), pods, &self.metrics);
        if current > 0 {
            // Polls follow the reads.
            self.inbox.push_back(Event::MetricRead(self.key.clone()));
        }
        if wanted != current
            && let Some(mut workload) = self.cluster.workloads.get(&self.id).cloned()
        {
            workload.replicas = wanted;
            workload.replicas_manager = Some("kube-controller-manager".to_owned());
            let [gvkr, _] = watched_workloads();
            self.cluster.put_workload(&gvkr, workload);
            self.note_replicas();
        }
        self.settle();
    }

    fn note_demand(&mut self) {
        let demand = self.view.as_ref().map_or(0.0, |view| demand(view, &self.definition));
        self.push_demand(self.now.0, demand);
    }

    fn push_demand(&mut self, at: i64, demand: f64) {
        match self.course.demand.last_mut() {
            Some((when, last)) if *when == at => *last = demand,
            #[expect(clippy::float_cmp, reason = "the very same number")]
            Some((_, last)) if *last == demand => {}
            _ => self.course.demand.push((at, demand)),
        }
    }
}

/// Returns the count of pods at a time; `None` if an answer that is no count was recorded.
fn count(cursor: &mut Cursor<'_>, now: i64) -> Option<Result<u32, PollError>> {
    match cursor.at(now) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of pods")]
        Answer::Value(value) => Some(Ok(value as u32)),
        Answer::Failed(error) => Some(Err(error)),
        Answer::Missing(_) => None,
    }
}

/// Returns the replicas at which no metric is above its target. Metrics of type `Value` do not say.
fn demand(view: &ObjectView, definition: &Definition) -> f64 {
    let of = |name: &str, metric_type: MetricType, target: f64, activation: f64| {
        let metric = view.metrics.iter().find(|metric| *metric.name == *name)?;
        match metric.reading {
            Reading::Value { value, .. } if value > activation && metric_type == MetricType::AverageValue => {
                Some(value / target)
            }
            _ => None,
        }
    };
    let demands: f64 = match &definition.modifiers {
        Some(modifiers) => {
            of(crate::scaling::composite::NAME, modifiers.metric_type, modifiers.target, modifiers.activation_target)
                .unwrap_or(0.0)
        }
        None => definition
            .triggers
            .iter()
            .filter_map(|t| of(&t.metric_name, t.metric_type, t.threshold, t.activation_threshold))
            .fold(0.0, f64::max),
    };
    demands
}
