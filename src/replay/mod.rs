//! `hpalite replay`: what would have happened with other settings.
//!
//! Owns the comparison: the recorded answers are fed to the core itself on a virtual clock ([`play`]), beside a model of
//! the HPA controller ([`hpa_controller`]), once with today's settings and once with each candidate's. Today's replay is
//! compared with the replicas that were recorded, which shows how far the model can be trusted. Only reads.
//!
//! ```text
//! history ──▶ record, track ──▶ play ──▶ measures ──▶ report
//!                                ▲
//!                  candidate ────┘
//! ```

mod all;
mod candidate;
pub mod command;
pub mod demo;
#[cfg(target_os = "linux")]
mod fetch;
pub mod hpa_controller;
mod measures;
mod play;
mod quiet;
mod record;
mod report;
mod start;
mod suggest;
mod track;

pub use candidate::{CANDIDATES_MAX, Candidate, Choice, candidate, today};
pub use command::what_if;
pub use hpa_controller::Model;
pub use measures::{Measures, ModelError};
pub use record::{Recorded, load};
pub use report::{Report, Variant};
pub use suggest::Goal;
pub use track::{SourceId, Track};

use measures::{compare, measure};
use play::{Course, Input, play};
use start::StartUp;

use crate::scaling::model::{Definition, MetricTarget, MetricType};
use crate::store::read::Range;

/// A change is recorded when the watch shows it, a moment after it was made.
const WATCH_MS: i64 = 500;

/// An object whose first answer comes this soon after its creation has not been scaled before.
const NEW_MS: i64 = 60_000;

/// One history of one object, cut to what can be replayed.
#[derive(Debug)]
pub struct Replay<'r> {
    recorded: &'r Recorded,
    /// From where the run goes, and from where it is measured.
    start: i64,
    from: i64,
    to: i64,
    model: Model,
    start_up: StartUp,
    today: &'r Candidate,
    course: Course,
}

impl<'r> Replay<'r> {
    /// Replays today's settings.
    ///
    /// # Errors
    /// When nothing was recorded in the range.
    pub fn new(recorded: &'r Recorded, today: &'r Candidate, range: Range, model: Model) -> Result<Self, String> {
        let needed = today.definition.triggers.iter().filter(|trigger| !trigger.is_computed());
        let tracks =
            needed.filter_map(|t| recorded.tracks.get(&SourceId::of(&t.kind, &t.source).among(&recorded.tracks)));
        let begins = tracks.clone().filter_map(Track::first_at).max();
        let ends = tracks.filter_map(Track::last_at).max();
        let start = begins.unwrap_or(range.from).max(range.from - record::WARM_UP_MS);
        let interval = i64::try_from(today.definition.polling_interval.as_millis()).unwrap_or(0);
        let (from, to) = (range.from.max(start), ends.map_or(range.to, |at| range.to.min(at + interval)));
        if from >= to {
            return Err("the history has no answers in this time: a longer --since may reach some".to_owned());
        }
        let start_up = StartUp::of(model.pod_start, &recorded.starts);
        let mut replay = Self { recorded, start, from, to, model, start_up, today, course: Course::default() };
        replay.course = replay.run(today);
        Ok(replay)
    }

    /// Replays other settings.
    fn run(&self, candidate: &Candidate) -> Course {
        play(&self.input(candidate), &candidate.object)
    }

    fn input(&self, candidate: &Candidate) -> Input<'r> {
        let before = self.recorded.replicas.iter().take_while(|(at, _)| *at <= self.start).last();
        let replicas = before.or_else(|| self.recorded.replicas.first()).map(|(_, replicas)| *replicas);
        Input {
            tracks: &self.recorded.tracks,
            from: self.start,
            to: self.to,
            replicas: replicas.unwrap_or_else(|| candidate.definition.min()),
            is_new: self.recorded.created_at > self.start - NEW_MS,
            pauses: &self.recorded.pauses,
            syncs: &self.recorded.syncs,
            model: self.model,
            start_up: self.start_up,
            decides_all: false,
        }
    }

    fn measure(&self, candidate: &Candidate, course: &Course) -> Measures {
        measure(course, &self.course.demand, candidate.definition.max_replicas, self.from, self.to)
    }

    /// Replays a candidate only as far as its figures.
    #[must_use]
    pub fn figures(&self, candidate: &Candidate) -> Measures {
        self.measure(candidate, &self.run(candidate))
    }

    /// Compares today's settings with candidates.
    #[must_use]
    pub fn report(&self, candidates: &[Candidate]) -> Report {
        let variant = |candidate: &Candidate, course: &Course| Variant {
            title: candidate.title.clone(),
            changes: candidate.changes.clone(),
            measures: self.measure(candidate, course),
            replicas: measures::steps(&course.replicas, self.from, self.to).map(|(at, _, count)| (at, count)).collect(),
        };
        let key = &self.today.object.key;
        Report {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            group: key.group.name(),
            from: self.from,
            to: self.to,
            generation: self.recorded.generation,
            polls: self.course.polls,
            today: variant(self.today, &self.course),
            candidates: candidates.iter().map(|candidate| variant(candidate, &self.run(candidate))).collect(),
            recorded: measures::steps(&self.recorded.replicas, self.from, self.to)
                .map(|(at, _, count)| (at, count))
                .collect(),
            model_error: self.model_error(),
            assumptions: self.assumptions(),
            holes: self.recorded.holes.iter().copied().filter(|(_, until)| *until > self.from).collect(),
            suggestion: None,
        }
    }

    fn model_error(&self) -> Option<ModelError> {
        let from = self.from.max(self.recorded.in_force_from);
        let within = i64::try_from(self.model.sync_period.as_millis()).unwrap_or(15_000) + WATCH_MS;
        (!self.recorded.replicas.is_empty() && from < self.to)
            .then(|| compare(&self.recorded.replicas, &self.course.replicas, from, self.to, within))
    }

    /// What a reader must know to trust the figures no more than they deserve.
    fn assumptions(&self) -> Vec<String> {
        let recorded = self.recorded;
        let definition: &Definition = &self.today.definition;
        let mut list = vec![
            "the load does not depend on the replicas: what was measured is replayed as it was".to_owned(),
            format!(
                "the HPA controller looks every {} s, tolerates 10 %, and scales in after {} s, where no behavior says \
                 otherwise",
                self.model.sync_period.as_secs(),
                self.model.downscale_stabilization.as_secs()
            ),
            self.start_up.to_string(),
        ];
        let of_total = definition.triggers.iter().filter(|trigger| trigger.metric_type == MetricType::Value);
        for trigger in of_total.filter(|_| definition.modifiers.is_none()) {
            list.push(format!(
                "{} is of type Value: it was measured with the replicas of then, so candidates with other replicas are \
                 not to be trusted, and it does not count as above its target",
                trigger.label()
            ));
        }
        for trigger in &definition.resource_triggers {
            let is_utilization = matches!(trigger.target, MetricTarget::Utilization(_));
            let source = SourceId::of_resource(&trigger.kind, trigger.container.as_deref(), is_utilization);
            list.push(if recorded.tracks.contains_key(&source) {
                format!(
                    "{}: what the HPA showed of it, times its pods, is shared by the pods of each setting; it does not \
                     count as above its target",
                    trigger.kind
                )
            } else {
                format!("{} is not replayed: the history does not have what the HPA saw of it", trigger.kind)
            });
        }
        let at = |at: i64| crate::wire::time::format_seconds(crate::scaling::model::UnixMillis(at));
        let rolled = [(recorded.hours_until, "hour"), (recorded.minutes_until, "minute")];
        for (until, unit) in rolled.into_iter().filter_map(|(until, unit)| Some((until?, unit))) {
            if until > self.from {
                list.push(format!(
                    "until {} samples have expired: each {unit} counts as its last one, and what happened within is not \
                     seen",
                    at(until)
                ));
            }
        }
        list.extend(recorded.fetched.iter().cloned());
        if recorded.in_force_from > self.from {
            list.push(format!("today's settings are in force since {} only", at(recorded.in_force_from)));
        }
        let pauses = recorded.pauses.iter().filter(|(when, pause)| pause.is_any() && *when < self.to).count();
        if pauses > 0 {
            list.push(format!("the object is paused as it was then ({pauses} times), with every setting"));
        }
        if recorded.by_others > 0 {
            list.push(format!("{} changes of replicas by others are not replayed", recorded.by_others));
        }
        list
    }
}

#[cfg(test)]
mod tests;
