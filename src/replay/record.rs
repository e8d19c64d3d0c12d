//! What the history has of one object: its settings, the answers of its sources, and what became of its replicas.
//!
//! Owns the reading. Everything is bounded by the time range, which the command bounds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::candidate::group_of;
use super::track::{SourceId, Track};
use crate::history;
use crate::scaling::model::{ObjectKey, Pause, UnixMillis};
use crate::store::SampleValue;
use crate::store::read::{Found, Range, ReplicaRow, Snapshot};
use crate::store::{Error, Reader};
use crate::wire::time::format_seconds;

/// Read before the range, so that what is remembered of it is there at its beginning: cooldowns, and recommendations of
/// the HPA controller.
pub(super) const WARM_UP_MS: i64 = 3_600_000;

/// Holes that are listed; the longest come first.
pub(super) const HOLES_MAX: usize = 10;

/// Observations of the HPA that the use of cpu and memory is read from, the newest: at 1 kB each 50 MB.
const OBSERVATIONS_MAX: usize = 50_000;

/// Scale-outs that the pods' start-up time is learnt from, the newest.
const STARTS_MAX: usize = 1_000;

/// Definitions that are looked through for how long today's spec has been in force.
const DEFINITIONS_MAX: usize = 257;

#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Today's settings, as a manifest.
    pub manifest: Value,
    pub generation: i64,
    pub created_at: i64,
    /// Since when they are in force.
    pub in_force_from: i64,
    pub tracks: BTreeMap<SourceId, Track>,
    /// The target's replicas from a time on, beginning before the range if that is known.
    pub replicas: Vec<(i64, u32)>,
    /// How long the pods of scale-outs took until all were ready, in milliseconds, and from how many replicas they came.
    pub starts: Vec<(u32, i64)>,
    /// Changes in the range that neither hpalite nor the HPA made.
    pub by_others: usize,
    pub pauses: Vec<(i64, Pause)>,
    /// When the HPA's status was seen to change.
    pub syncs: Vec<i64>,
    /// Before this, some answers stand for a minute, and some for an hour.
    pub minutes_until: Option<i64>,
    pub hours_until: Option<i64>,
    /// What came from elsewhere, in sentences.
    pub fetched: Vec<String>,
    /// Stretches of the range without answers, oldest first.
    pub holes: Vec<(i64, i64)>,
}

/// Reads what is known of an object; `None` if the history never saw it, or not its settings.
///
/// # Errors
/// When the file cannot be read in time.
pub fn load(reader: &mut Reader, key: &ObjectKey, range: Range) -> Result<Option<Recorded>, Error> {
    reader.snapshot(|snapshot| read(snapshot, key, range))
}

fn read(snapshot: &Snapshot<'_>, key: &ObjectKey, range: Range) -> Found<Option<Recorded>> {
    let lives = snapshot.lives(key)?;
    let Some(life) = lives.last().copied() else { return Ok(None) };
    let definitions = snapshot.definitions(life.id, Range { from: i64::MIN, to: range.to }, DEFINITIONS_MAX)?;
    let Some(newest) = definitions.first() else { return Ok(None) };
    // A new generation with the same spec changes nothing.
    let same = definitions.iter().take_while(|one| one.spec_json == newest.spec_json);
    let in_force_from = same.last().map_or(newest.at, |oldest| oldest.at);
    let mut recorded = Recorded {
        manifest: json!({
            "apiVersion": format!("{}/v1alpha1", group_of(key.group).name()),
            "kind": "ScaledObject",
            "metadata": {
                "namespace": &*key.namespace, "name": &*key.name, "uid": "replayed", "generation": newest.generation,
                "creationTimestamp": format_seconds(UnixMillis(life.added_at)),
            },
            "spec": serde_json::from_str::<Value>(&newest.spec_json).unwrap_or_default(),
        }),
        generation: newest.generation,
        created_at: life.added_at,
        in_force_from,
        ..Recorded::default()
    };
    let early = Range { from: range.from - WARM_UP_MS, ..range };
    for life in &lives {
        samples(snapshot, life.id, early, &mut recorded)?;
        replicas(snapshot, life.id, early, range, &mut recorded)?;
        resources(snapshot, life.id, early, &mut recorded)?;
        recorded.starts.extend(snapshot.starts(life.id, early, STARTS_MAX)?);
        recorded.syncs.extend(snapshot.hpa_times(life.id, early)?);
        let pauses = snapshot.pauses(life.id, Range { from: i64::MIN, to: range.to })?;
        recorded.pauses.extend(pauses.into_iter().map(|(at, text)| (at, pause(text.as_deref()))));
    }
    // Only the last pause before the range counts.
    let first = recorded.pauses.iter().rposition(|(at, _)| *at <= early.from).unwrap_or(0);
    recorded.pauses.drain(..first);
    recorded.tracks = super::track::join(std::mem::take(&mut recorded.tracks));
    recorded.holes = holes(&recorded.tracks, range);
    Ok(Some(recorded))
}

fn samples(snapshot: &Snapshot<'_>, life: i64, range: Range, recorded: &mut Recorded) -> Found<()> {
    for series in snapshot.series(life, range)? {
        if series.trigger == crate::scaling::composite::INDEX {
            continue;
        }
        let source = SourceId::new(&series.kind, &series.server, &series.query);
        let track = recorded.tracks.entry(source).or_default();
        let (mut minutes_until, mut hours_until) = (recorded.minutes_until, recorded.hours_until);
        history::finest(snapshot, series.id, range, |at, value, stands_for| {
            track.push(at, value);
            match stands_for {
                0 => {}
                60_000 => minutes_until = minutes_until.max(Some(at)),
                _ => hours_until = hours_until.max(Some(at)),
            }
        })?;
        (recorded.minutes_until, recorded.hours_until) = (minutes_until, hours_until);
    }
    recorded.tracks.retain(|_, track| !track.is_empty());
    Ok(())
}

/// Reads the use of cpu and memory from what the HPA said of it, if the object has such triggers.
fn resources(snapshot: &Snapshot<'_>, life: i64, range: Range, recorded: &mut Recorded) -> Found<()> {
    let triggers = recorded.manifest["spec"]["triggers"].as_array().into_iter().flatten();
    if !triggers.into_iter().any(|trigger| trigger["type"] == "cpu" || trigger["type"] == "memory") {
        return Ok(());
    }
    for row in snapshot.hpas(life, range, OBSERVATIONS_MAX)? {
        let metrics: Value = serde_json::from_str(&row.metrics_json).unwrap_or_default();
        for metric in metrics.as_array().into_iter().flatten() {
            let (found, container) = match metric["type"].as_str() {
                Some("Resource") => (&metric["resource"], None),
                Some("ContainerResource") => {
                    (&metric["containerResource"], metric["containerResource"]["container"].as_str())
                }
                _ => continue,
            };
            let Some(name) = found["name"].as_str() else { continue };
            let current = &found["current"];
            let average = current["averageValue"].as_str().and_then(crate::wire::quantity::parse_milli);
            #[expect(clippy::cast_precision_loss, reason = "a ratio of two such numbers is what is asked for")]
            let average = average.map(|milli| milli as f64 / 1000.0);
            for (each, is_utilization) in [(current["averageUtilization"].as_f64(), true), (average, false)] {
                #[expect(clippy::cast_precision_loss, reason = "a count of pods")]
                let all = each.map(|each| each * row.current as f64);
                let track = recorded.tracks.entry(SourceId::of_resource(name, container, is_utilization)).or_default();
                all.into_iter().for_each(|all| track.push(row.at, &SampleValue::Number(all)));
            }
        }
    }
    recorded.tracks.retain(|_, track| !track.is_empty());
    Ok(())
}

fn replicas(snapshot: &Snapshot<'_>, life: i64, early: Range, range: Range, recorded: &mut Recorded) -> Found<()> {
    let mut add = |row: &ReplicaRow| {
        if recorded.replicas.last().is_none_or(|(_, last)| *last != row.to) {
            recorded.replicas.push((row.at, row.to));
        }
    };
    if let Some(before) = snapshot.replicas_before(life, early.from)? {
        add(&before);
    }
    let mut by_others = 0;
    snapshot.replicas(life, early, |row| {
        add(&row);
        by_others += usize::from(row.actor == "other" && row.from.is_some() && row.at >= range.from);
    })?;
    recorded.by_others += by_others;
    Ok(())
}

/// Reads the annotations as a decision has them.
fn pause(text: Option<&str>) -> Pause {
    let mut pause = Pause::default();
    for part in text.unwrap_or_default().split(',') {
        match part.split_once('=').unwrap_or((part, "")) {
            ("paused-replicas", replicas) => pause.replicas = Some(replicas.parse().map_err(|_| replicas.to_owned())),
            ("paused", _) => pause.paused = true,
            ("paused-scale-in", _) => pause.scale_in = true,
            ("paused-scale-out", _) => pause.scale_out = true,
            // The decision that followed the end of a pause ends it here, too.
            _ => {}
        }
    }
    pause
}

/// The holes of all tracks, those that overlap as one.
pub(super) fn holes(tracks: &BTreeMap<SourceId, Track>, range: Range) -> Vec<(i64, i64)> {
    // What the HPA says is recorded when it changes.
    let sampled = tracks.iter().filter(|(source, _)| !source.is_resource());
    let mut found: Vec<(i64, i64)> = sampled
        .flat_map(|(_, track)| track.holes())
        .map(|(from, until)| (from.max(range.from), until.min(range.to)))
        .filter(|(from, until)| from < until)
        .collect();
    found.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (from, until) in found {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => merged.push((from, until)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_it_is_recorded() {
        assert_eq!(pause(None), Pause::default());
        let both = pause(Some("paused-replicas=3,paused-scale-in"));
        assert_eq!((both.replicas, both.scale_in, both.paused), (Some(Ok(3)), true, false));
        assert!(pause(Some("paused")).paused);
        // With an end, which is no number of replicas.
        let until = "paused-until=2026-01-02T03:04:05Z";
        let one = pause(Some(&format!("paused-scale-in,{until}")));
        assert_eq!(one, Pause { scale_in: true, ..Pause::default() });
        let count = pause(Some(&format!("paused-replicas=3,{until}")));
        assert_eq!(count, Pause { replicas: Some(Ok(3)), ..Pause::default() });
    }
}
