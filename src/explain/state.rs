//! Explains what holds replicas where they are.

use std::collections::BTreeMap;

use super::change::{is_full, to_zero};
use super::claim::{Claim, Window, sentence};
use super::facts::{Facts, condition, driver, newest, resources};
use super::{Entry, Held, Metric, MetricState, learn, time_text};
use crate::logfmt::iso;
use crate::scaling::decision::WOULD_HAVE;
use crate::scaling::event::Interruption;
use crate::scaling::model::{Definition, Fallback, FallbackBehavior};
use crate::scaling::recommend::Limit;
use crate::store::read::{DecisionRow, HpaRow, InterruptionRow, LossRow};

/// A query without a timeout of its own has an answer or an error within this time.
const FIRST_ANSWER_MS: i64 = 3_000;
/// A sample counts as late from half a polling interval and this after it was due: its query may take as long, and the
/// history a moment to store it.
const LATE_MS: i64 = 5_000;
/// After three polling intervals and this, samples do not come at all.
const SILENT_MS: i64 = 10_000;

impl Held {
    pub(super) fn new(by: &str, claims: Vec<Claim>) -> Self {
        let text = sentence(&claims, ", ");
        Self { by: by.to_owned(), allows: None, seconds_left: None, since: None, text, claims }
    }

    pub(super) fn allowing(self, replicas: u32) -> Self {
        Self { allows: Some(replicas), ..self }
    }

    fn since(self, at: i64) -> Self {
        Self { since: Some(iso(at)), ..self }
    }

    /// Appends what a metric asks for, to the text and the claims.
    fn asked(mut self, claim: Claim) -> Self {
        self.text = format!("{}: {claim}", self.text);
        self.claims.push(claim);
        self
    }
}

/// Returns everything that holds at a moment, the strongest first.
pub(super) fn held_at(facts: &Facts<'_>, at: i64) -> Vec<Held> {
    let evidence = facts.evidence;
    if let Some(since) = evidence.removed_at.filter(|removed| *removed <= at) {
        return vec![
            Held::new("removed", vec![Claim::Removed { since, at, noun: super::noun(evidence) }]).since(since),
        ];
    }
    let mut found = Vec::new();
    facts.spend_on(facts.hpa(at));
    match evidence.runs.iter().rev().inspect(|_| facts.spend(1)).find(|run| run.started_at <= at) {
        None => found.push(Held::new("daemon-down", vec![Claim::NotStarted])),
        Some(run) => {
            if let Some(since) = run.stopped_at.filter(|stopped| *stopped <= at) {
                found.push(Held::new("daemon-down", vec![Claim::Stopped { since, at }]).since(since));
            } else if run.stood_by_until.is_some_and(|until| at < until) {
                let since = run.started_at;
                found.push(Held::new("standby", vec![Claim::StoodBy { since, at }]).since(since));
            }
        }
    }
    if let Some(row) = facts.definition_row(at)
        && let Some(problem) = &row.invalid
    {
        let claim = Claim::Invalid { from: row.at, problem: problem.clone() };
        found.push(Held::new("invalid", vec![claim]).since(row.at));
    }
    let decision = facts.decision(at);
    let ready = newest(&evidence.ready, at, |row| row.at);
    if let Some(row) = ready
        .filter(|row| row.status == "False" && matches!(&*row.reason, "ScaledObjectCheckFailed" | "HPACheckFailed"))
        && found.iter().all(|held| held.by != "invalid")
    {
        let claim = Claim::CheckFailed { since: row.at, message: row.message.clone(), at };
        found.push(Held::new("not-ready", vec![claim]).since(row.at));
    }
    if let Some(row) = decision.filter(|row| row.detail.starts_with(WOULD_HAVE)) {
        let claim = Claim::Shadow { decision_at: row.at, from: row.from, to: row.to };
        found.push(Held::new("shadow", vec![claim]));
    }
    let pause = paused(facts, decision, at);
    let is_full = pause.as_ref().is_some_and(|(is_full, _)| *is_full);
    found.extend(pause.map(|(_, held)| held));
    if is_full {
        return found;
    }
    errors(facts, decision, at, &mut found);
    if let Some(row) = decision.filter(|row| matches!(row.reason.as_str(), "CoolingDown" | "InitialCooldown")) {
        let until = row.cooldown_until.unwrap_or(at);
        let left = (until - at).max(0).saturating_add(999) / 1000;
        let name = if row.reason == "CoolingDown" { Limit::Cooldown } else { Limit::InitialCooldown }.id();
        let claim = Claim::Cooldown { decision_at: row.at, name, until, at };
        found.push(Held { seconds_left: Some(left), ..Held::new(name, vec![claim]) });
    }
    let replicas = facts.replicas_at(at).unwrap_or(0);
    let metrics = facts.metrics_at(at, replicas);
    // These already explain why polling stopped. What an HPA shows comes when it changes.
    let is_observed = facts.definition(at).is_some_and(Definition::is_observed);
    if !is_observed
        && found.iter().all(|held| !matches!(held.by.as_str(), "daemon-down" | "standby" | "invalid" | "not-ready"))
    {
        silence(facts, &metrics, at, &mut found);
    }
    if replicas > 0 {
        hpa(facts, at, replicas, &metrics, &mut found);
    } else {
        scaled_to_zero(facts, at, &mut found);
    }
    found
}

/// Reports missing samples, while the daemon runs or after it was killed, which leaves no record.
fn silence(facts: &Facts<'_>, metrics: &[Metric], at: i64, found: &mut Vec<Held>) {
    let missing: Vec<Claim> = metrics
        .iter()
        .filter_map(|metric| match metric.reading {
            // Of a new trigger the first answer is on its way.
            MetricState::None { since, ever: false } if at - since < FIRST_ANSWER_MS => None,
            MetricState::None { since, ever } => {
                Some(Claim::NoSample { metric: metric.metric.clone(), since, ever, at })
            }
            _ => None,
        })
        .collect();
    if !missing.is_empty() {
        let mut held = Held::new("no-samples", missing);
        held.text = format!("missing samples: {}", held.text);
        found.push(held);
    }
    if let Some(interval) = facts.definition(at).map(|definition| definition.polling_interval)
        && let Some(age) = metrics.iter().filter_map(|metric| metric.sample_age_ms).min()
        && let Ok(interval_ms) = i64::try_from(interval.as_millis())
        && age > interval_ms + interval_ms / 2 + LATE_MS
    {
        let (sample_at, interval_s) = (at - age, interval.as_secs());
        found.push(if age > 3 * interval_ms + SILENT_MS {
            Held::new("no-samples", vec![Claim::Silence { sample_at, interval_s, at }])
        } else {
            Held::new("late-samples", vec![Claim::Late { sample_at, interval_s, at }])
        });
    }
}

/// The message of the condition Paused where there is nothing more to say, as in KEDA.
const PAUSED_MESSAGE: &str = "ScaledObject is paused";

/// Returns a pause, and whether it is a full one.
fn paused(facts: &Facts<'_>, decision: Option<&DecisionRow>, at: i64) -> Option<(bool, Held)> {
    let condition = newest(&facts.evidence.paused, at, |row| row.at);
    let is_over = |row: &DecisionRow| condition.is_some_and(|one| one.status == "False" && one.at >= row.at);
    let in_force = decision.filter(|row| !is_over(row)).and_then(|row| Some((row, row.pause.as_deref()?)));
    let Some((row, pause)) = in_force else {
        // Without a target no decision is possible, so only the condition shows the pause.
        let condition = condition.filter(|one| one.status == "True")?;
        if decision.is_some_and(|row| row.at >= condition.at) {
            return None;
        }
        let (since, message) = (condition.at, condition.message.clone());
        let held = Held::new(Limit::Pause.id(), vec![Claim::PausedCondition { since, message, at }]);
        return Some((true, held.since(since)));
    };
    let decisions = &facts.evidence.decisions;
    let end = decisions.partition_point(|other| other.at <= row.at);
    let run = decisions[..end].iter().rev().take_while(|other| other.pause.as_deref() == Some(pause)).count();
    facts.spend(run);
    let since = decisions[end - run.max(1)].at;
    // Earlier decisions that were not read may show the same pause.
    let at_least = run == end && since < facts.read_since(at);
    let annotations: Vec<String> = pause.split(',').map(|name| format!("autoscaling.keda.sh/{name}")).collect();
    let message = condition.filter(|one| one.status == "True" && one.message != PAUSED_MESSAGE);
    let message = message.map(|one| one.message.clone());
    let claim = Claim::Paused { since, at_least, annotations: annotations.join(", "), message, at };
    Some((is_full(pause), Held::new(Limit::Pause.id(), vec![claim]).since(since)))
}

fn errors(facts: &Facts<'_>, decision: Option<&DecisionRow>, at: i64, found: &mut Vec<Held>) {
    let reason = decision.map_or("", |row| row.reason.as_str());
    let falls_back = decision.is_some_and(|row| facts.triggers_of(row).iter().any(|one| one.fallback));
    // An HPA that is only observed says by itself why it cannot act.
    let is_observed = facts.definition(at).is_some_and(Definition::is_observed);
    if is_observed && facts.hpa(at).is_some_and(|row| !can_act(row, &mut Vec::new())) {
        return;
    }
    facts.spend(facts.evidence.errors.len());
    let lasting = facts.evidence.errors.iter().filter(|(_, e)| e.from <= at && e.until.is_none_or(|end| end > at));
    for (of, error) in lasting {
        let Some(series) = facts.series_at(at).find(|series| series.id == *of) else { continue };
        let (by, means) = match reason {
            _ if falls_back => {
                let fallback = facts.definition(at).and_then(|definition| definition.fallback.as_ref());
                let is_static = |one: &&Fallback| one.behavior == FallbackBehavior::Static;
                let means = match fallback.filter(is_static).map(|one| one.replicas) {
                    Some(count) => {
                        format!(", fallback to {count} {} is active", if count == 1 { "replica" } else { "replicas" })
                    }
                    None => ", fallback is active".to_owned(),
                };
                ("fallback", means)
            }
            "WaitingForFallback" => {
                (Limit::FallbackThreshold.id(), ", waiting for the fallback's threshold".to_owned())
            }
            _ => (Limit::Error.id(), String::new()),
        };
        let claim = Claim::InError {
            metric: series.metric_name.clone(),
            since: error.from,
            polls: facts.polls_until(series.id, error, at),
            outcome: error.outcome.clone(),
            message: error.message.clone(),
            means,
            at,
        };
        found.push(Held::new(by, vec![claim]).since(error.from));
    }
}

/// Reports why the HPA cannot act; returns whether it can.
fn can_act(row: &HpaRow, found: &mut Vec<Held>) -> bool {
    let before = found.len();
    for kind in ["AbleToScale", "ScalingActive"] {
        if let Some((status, reason, message)) = condition(row, kind)
            && status == "False"
            && reason != "ScalingDisabled"
        {
            let words = format!("the HPA, {kind}=False {reason}: {message}");
            found.push(Held::new("hpa", vec![Claim::HpaCondition { at: row.at, kind, status, reason, words }]));
        }
    }
    found.len() == before
}

/// Reports that the HPA itself holds zero. It can from Kubernetes 1.37 on, or before by a feature gate; its condition says
/// whether it was the one that scaled to zero, without which it would not scale up again.
fn scaled_to_zero(facts: &Facts<'_>, at: i64, found: &mut Vec<Held>) {
    let Some(row) = facts.hpa(at) else { return };
    if let Some(claim) =
        to_zero(row, "the HPA, which scaled to zero by itself, and from zero once a metric asks for it")
        && can_act(row, found)
    {
        found.push(Held::new("hpa-scaled-to-zero", vec![claim]).allowing(0));
    }
}

fn hpa(facts: &Facts<'_>, at: i64, replicas: u32, metrics: &[Metric], found: &mut Vec<Held>) {
    let Some(definition) = facts.definition(at) else { return };
    let seen = facts.hpa(at);
    let cannot_act = seen.is_some_and(|row| !can_act(row, found));
    let Some(driver) = driver(metrics).filter(|_| !cannot_act) else { return };
    let (proposal, exact) = (driver.proposal.unwrap_or(0), driver.exact.unwrap_or(0));
    let max = definition.max_replicas;
    let min = definition.min().max(1);
    let asks = Claim::MetricValue { at, replicas, metric: driver.clone() };
    if exact > replicas && replicas >= max {
        found.push(Held::new(Limit::Max.id(), vec![Claim::AtMax(max)]).allowing(max).asked(asks));
    } else if proposal != exact
        && let Some(tolerance) = learn::tolerance(facts, definition, exact > replicas, at)
    {
        found.push(Held::new(Limit::Tolerance.id(), vec![tolerance]).asked(asks));
    } else if exact < replicas && replicas > min && definition.is_observed() {
        // How long more was asked for is not known, since samples come when values change.
        if let Some(row) = seen.filter(|row| is_stabilized(row)) {
            let reported = Claim::ReportedStabilized { at: row.at };
            found.push(Held::new(Limit::Stabilization.id(), vec![reported]).asked(asks));
        }
    } else if exact < replicas && replicas > min {
        let window = learn::window(facts, definition, at);
        let reported = seen.filter(|row| is_stabilized(row));
        let last = facts.last_asked_for(at, replicas).0;
        let left = last.zip(window.seconds());
        let left = left.map(|(asked, seconds)| (asked.at + seconds * 1000 - at).max(0).saturating_add(999) / 1000);
        // Unless the HPA reported it, only its known behavior is certain enough.
        let is_known = matches!(window, Window::Own(_) | Window::Learnt { .. } | Window::Default);
        if reported.is_some() || (is_known && left.is_some_and(|left| left > 0)) {
            let left = left.filter(|left| *left > 0 || matches!(window, Window::Own(_)));
            let mut claims = vec![Claim::Window(window)];
            claims.extend(left.map(Claim::Left));
            claims.extend(reported.map(|row| Claim::ReportedStabilized { at: row.at }));
            let held = Held::new(Limit::Stabilization.id(), claims).asked(asks);
            found.push(Held { seconds_left: left, ..held });
        } else if let Some(resources) = resources(definition, seen) {
            let mut held = Held::new("resource", vec![Claim::Resources(resources.clone())]);
            held.text = format!("{resources} perhaps, which the HPA reads itself");
            found.push(held.asked(asks));
        }
    } else if exact < min && replicas == min {
        found.push(Held::new(Limit::Min.id(), vec![Claim::AtMin(min)]).allowing(min).asked(asks));
    }
}

/// Whether the HPA said that its stabilization window holds it.
fn is_stabilized(row: &HpaRow) -> bool {
    condition(row, "AbleToScale").is_some_and(|(_, why, _)| why == "ScaleDownStabilized")
}

/// Explains why nothing holds the count.
pub(super) fn rest(facts: &Facts<'_>, at: i64) -> String {
    let Some(replicas) = facts.replicas_at(at) else {
        return "what holds it is not known: the replicas of its target were never seen".to_owned();
    };
    if replicas == 0 {
        let reason = facts.decision(at).map(|row| row.detail.clone());
        return reason.map_or("nothing is known to hold it".to_owned(), |detail| format!("nothing holds it: {detail}"));
    }
    let metrics = facts.metrics_at(at, replicas);
    let wanted = facts.definition(at).zip(driver(&metrics).and_then(|metric| metric.exact));
    let wanted = wanted.map(|(one, asked)| asked.clamp(one.min().max(1), one.max_replicas.max(1)));
    match (wanted, facts.hpa(at)) {
        (Some(wanted), _) if wanted == replicas => "nothing holds it: it is as many as the metrics ask for".to_owned(),
        (Some(wanted), Some(reported)) => format!(
            "nothing is known to hold it: the metrics ask for {wanted}, and the HPA last said {} at {}",
            reported.desired,
            time_text::short(reported.at, at)
        ),
        (Some(wanted), None) => {
            format!("nothing is known to hold it: the metrics ask for {wanted}, and the HPA has said nothing yet")
        }
        (None, _) => "nothing is known to hold it".to_owned(),
    }
}

/// A start that takes the Lease waits for the one before to let it go, which is no news.
const STOOD_BY_MS: i64 = 60_000;

/// What an entry is about. Entries of one time are in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// With the place of its row, like others below.
    Change(usize),
    /// What holds.
    State,
    Definition(usize),
    Error(usize),
    Start(usize),
    Lead(usize),
    Stop(usize),
}

/// Memory that an entry and each of its metrics take, as work: 20,000 of them take 20 MB.
const KEPT: usize = 10_000;

/// Returns what changed and held in a time range, and what else happened: definitions, errors, starts and stops. If that is
/// too much, what is oldest is left out, and the time until which it is comes second.
pub(super) fn entries(facts: &Facts<'_>, since: i64, until: i64) -> (Vec<Entry>, Option<i64>) {
    let evidence = facts.evidence;
    let mut subjects: Vec<(i64, Subject)> = Vec::new();
    subjects.extend(evidence.changes.iter().enumerate().map(|(i, row)| (row.at, Subject::Change(i))));
    subjects.extend(evidence.decisions.iter().map(|row| (row.at, Subject::State)));
    subjects.extend(evidence.hpa.iter().map(|row| (row.at, Subject::State)));
    subjects.extend(evidence.definitions.iter().enumerate().map(|(i, row)| (row.at, Subject::Definition(i))));
    let ends = evidence.errors.iter().enumerate().filter_map(|(i, (_, error))| Some((error.until?, Subject::Error(i))));
    subjects.extend(ends);
    subjects.extend(evidence.runs.iter().enumerate().map(|(i, run)| (run.started_at, Subject::Start(i))));
    let leads = evidence.runs.iter().enumerate().filter_map(|(i, run)| {
        let led_from = run.stood_by_until.filter(|until| *until >= run.started_at + STOOD_BY_MS)?;
        Some((led_from, Subject::Lead(i)))
    });
    subjects.extend(leads);
    let stops = evidence.runs.iter().enumerate().filter_map(|(i, run)| Some((run.stopped_at?, Subject::Stop(i))));
    subjects.extend(stops);
    subjects.retain(|(at, _)| (since..=until).contains(at));
    subjects.sort_unstable();
    subjects.dedup();
    let mut entries: Vec<(Subject, Entry)> = Vec::new();
    // What holds at the later moment, of which only what newly holds is reported.
    let mut later: Option<(i64, Vec<Held>)> = None;
    let mut left_out = None;
    for (at, subject) in subjects.into_iter().rev() {
        let mut found: Vec<Entry> = Vec::new();
        let mut now = None;
        match subject {
            Subject::Change(i) => found.push(super::change::explain(facts, &evidence.changes[i])),
            Subject::State => {
                let held = held_at(facts, at);
                let newly = later.iter().flat_map(|(later_at, later)| {
                    let newly = later.iter().filter(|one| held.iter().all(|before| before.by != one.by));
                    newly.map(|held| held_entry(*later_at, held.clone()))
                });
                found.extend(newly);
                now = Some((at, held));
            }
            Subject::Definition(i) => found.push(definition_entry(facts, i)),
            Subject::Error(i) => found.extend(end_of_error(facts, i)),
            Subject::Start(i) => {
                found.push(plain_entry(at, "daemon", started(facts, i)));
            }
            Subject::Lead(_) => {
                found.push(plain_entry(at, "daemon", "hpalite leads, after it stood by".to_owned()));
            }
            Subject::Stop(_) => found.push(plain_entry(at, "daemon", "hpalite stopped".to_owned())),
        }
        for entry in &found {
            let metrics = entry.change.as_ref().map_or(0, |change| change.metrics.len());
            facts.spend(KEPT * (1 + metrics) + 80 * entry.text.len());
        }
        if facts.is_spent() {
            left_out = Some(at);
            break;
        }
        later = now.or(later);
        entries.extend(found.into_iter().map(|entry| (subject, entry)));
    }
    let first = later.into_iter().flat_map(|(at, held)| held.into_iter().map(move |held| held_entry(at, held)));
    entries.extend(first.map(|entry| (Subject::State, entry)));
    entries.sort_by_key(|(subject, entry)| (entry.time, *subject));
    (entries.into_iter().map(|(_, entry)| entry).collect(), left_out)
}

/// Describes a start of hpalite.
fn started(facts: &Facts<'_>, place: usize) -> String {
    let runs = &facts.evidence.runs;
    let Some(before) = place.checked_sub(1).map(|before| &runs[before]).filter(|run| run.state == "lost") else {
        return "hpalite started".to_owned();
    };
    // The one before left no time of its end. What it could not write, as to a full disk, is gone with it.
    let until = runs[place].started_at - 1;
    let samples = facts.evidence.series.iter().filter_map(|one| facts.newest_sample(one.id, until));
    let decided = facts.decision(until).map(|row| row.at);
    let last = samples.map(|(at, _)| *at).chain(decided).max().filter(|at| *at >= before.started_at);
    let last = last.map_or(String::new(), |at| {
        format!("; the last that it recorded of this object is from {}", time_text::short(at, until))
    });
    format!("hpalite started, after it was killed or crashed{last}")
}

fn plain_entry(time: i64, kind: &'static str, text: String) -> Entry {
    Entry { at: iso(time), kind, change: None, held: None, text, claims: Vec::new(), time }
}

fn held_entry(time: i64, held: Held) -> Entry {
    let (text, claims) = (format!("held by {}", held.text), held.claims.clone());
    Entry { claims, held: Some(held), ..plain_entry(time, "held", text) }
}

fn definition_entry(facts: &Facts<'_>, place: usize) -> Entry {
    let rows = &facts.evidence.definitions;
    let row = &rows[place];
    let previous = rows.iter().rev().find(|other| other.at < row.at);
    let what = previous.map_or("first seen".to_owned(), |previous| differences(&previous.spec_json, &row.spec_json));
    let invalid = row.invalid.as_ref().map_or(String::new(), |text| format!("; invalid: {text}"));
    plain_entry(row.at, "definition", format!("definition, generation {}: {what}{invalid}", row.generation))
}

/// Reports that an error ended, unless another one followed at once.
fn end_of_error(facts: &Facts<'_>, place: usize) -> Option<Entry> {
    let evidence = facts.evidence;
    let (of, error) = &evidence.errors[place];
    let end = error.until?;
    facts.spend(evidence.errors.len() + evidence.series.len());
    if evidence.errors.iter().any(|(other, next)| other == of && next.from == end) {
        return None;
    }
    let series = evidence.series.iter().find(|series| series.id == *of);
    let metric = series.map_or("a trigger", |series| series.metric_name.as_str());
    // The trigger's series may have ended with it.
    let is_over = series.is_some_and(|series| series.until == Some(end));
    let what = if is_over { "is measured no longer as it was" } else { "no longer in error" };
    Some(plain_entry(end, "error", format!("{metric} {what}")))
}

/// What holds, lets go and holds again while nothing else happens becomes one entry, with how often and until when.
pub(super) fn without_repetitions(entries: Vec<Entry>, now: i64) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    // By name of what holds: its entry's index, its repetitions, and the time of the last one.
    let mut runs: BTreeMap<String, (usize, u32, i64)> = BTreeMap::new();
    for entry in entries {
        let Some(held) = &entry.held else {
            note_repetitions(&mut kept, std::mem::take(&mut runs), now);
            kept.push(entry);
            continue;
        };
        match runs.get_mut(&held.by) {
            Some((_, again, last)) => {
                *again += 1;
                *last = entry.time;
            }
            None => {
                runs.insert(held.by.clone(), (kept.len(), 0, 0));
                kept.push(entry);
            }
        }
    }
    note_repetitions(&mut kept, runs, now);
    kept
}

fn note_repetitions(kept: &mut [Entry], runs: BTreeMap<String, (usize, u32, i64)>, now: i64) {
    for (at, again, last) in runs.into_values().filter(|(_, again, _)| *again > 0) {
        let times = if again == 1 { "once more".to_owned() } else { format!("{again} times more") };
        kept[at].text.push_str(&format!("; {times}, last {}", time_text::short(last, now)));
    }
}

/// Returns the end of an object that another of its name followed.
pub(super) fn removed_entry(time: i64, noun: &str) -> Entry {
    let text = format!("the {noun} was removed");
    plain_entry(time, "definition", text)
}

/// Returns a period in which the history is incomplete.
pub(super) fn loss_entry(loss: &LossRow) -> Entry {
    let (from, until) = (iso(loss.from), iso(loss.until));
    let (samples, others) = (loss.samples, loss.others);
    let text = format!(
        "the history lost {samples} samples and {others} other records of all objects from {from} to {until}: {}",
        loss.cause
    );
    plain_entry(loss.from, "loss", text)
}

/// Returns a period in which hpalite could not see or do what it should, or whose times deceive.
pub(super) fn interruption_entry(row: &InterruptionRow, now: i64) -> Entry {
    let (from, until) = (time_text::short(row.from, now), time_text::short(row.until, now));
    let times = if row.times > 1 { format!(", {} times", row.times) } else { String::new() };
    let stretch = format!("from {from} to {until}{times}");
    let kind = Interruption::ALL.into_iter().find(|kind| kind.id() == row.kind);
    let text = match kind {
        Some(Interruption::Standstill) => {
            format!("hpalite stood still {stretch}: it was stopped, suspended with its machine, or without CPU time")
        }
        Some(Interruption::ApiServer) => format!("no request to the API server was answered {stretch}"),
        Some(Interruption::Lease) => {
            format!(
                "hpalite only watched {stretch}: it could not acquire its Lease, which nobody else was seen to have"
            )
        }
        Some(Interruption::ClockForward) => format!("the wall clock was stepped forward {stretch}"),
        Some(Interruption::ClockBack) => {
            format!("the wall clock was stepped back from {until} to {from}{times}: times in between came twice")
        }
        // Of a newer version.
        None => format!("interrupted {stretch}: {}", row.kind),
    };
    plain_entry(row.from, "interruption", text)
}

/// Returns the fields that differ between two specs.
fn differences(before: &str, after: &str) -> String {
    fn walk(path: &str, a: &serde_json::Value, b: &serde_json::Value, out: &mut Vec<String>) {
        use serde_json::Value::{Array, Null, Object};
        match (a, b) {
            _ if a == b => {}
            (Object(x), Object(y)) => {
                let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
                for key in keys {
                    walk(&format!("{path}.{key}"), x.get(key).unwrap_or(&Null), y.get(key).unwrap_or(&Null), out);
                }
            }
            (Array(x), Array(y)) => {
                for i in 0..x.len().max(y.len()) {
                    walk(&format!("{path}[{i}]"), x.get(i).unwrap_or(&Null), y.get(i).unwrap_or(&Null), out);
                }
            }
            _ => out.push(format!("{path} {a} → {b}")),
        }
    }
    let read = |text: &str| serde_json::from_str(text).unwrap_or(serde_json::Value::Null);
    let mut out = Vec::new();
    walk("spec", &read(before), &read(after), &mut out);
    if out.is_empty() { "no field of the spec differs".to_owned() } else { out.join(", ") }
}
