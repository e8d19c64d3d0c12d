//! What a course of replicas costs, and how well it serves.

use serde::Serialize;

use super::play::Course;

const HOUR_MS: f64 = 3_600_000.0;

/// A change in the other direction within this time of the last one is a turn.
pub(super) const TURN_MS: i64 = 600_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    pub pod_hours: f64,
    pub changes: usize,
    /// Up after down or down after up within 10 minutes.
    pub turns: usize,
    pub peak: u32,
    pub hours_at_max: f64,
    /// The time in which the load of each ready replica was above today's target, and its share of all time, 0 to 1.
    pub hours_above_target: f64,
    pub share_above_target: f64,
    /// The replicas that were missing then, times how long.
    pub missing_pod_hours: f64,
    pub starts_from_zero: usize,
    /// From the first answer that was active until the first pod was ready.
    pub start_seconds_mean: f64,
    pub start_seconds_max: f64,
}

/// Measures a course between two times. `demand` is what today's targets ask for, the same for every candidate.
#[must_use]
pub(super) fn measure(course: &Course, demand: &[(i64, f64)], max: u32, from: i64, to: i64) -> Measures {
    let mut measures = Measures::default();
    let mut pod_ms = 0.0;
    let mut at_max_ms = 0.0;
    for (start, end, replicas) in steps(&course.replicas, from, to) {
        #[expect(clippy::cast_precision_loss, reason = "hours, not moments")]
        let lasts = (end - start) as f64;
        pod_ms += lasts * f64::from(replicas);
        at_max_ms += if replicas >= max { lasts } else { 0.0 };
        measures.peak = measures.peak.max(replicas);
    }
    (measures.pod_hours, measures.hours_at_max) = (pod_ms / HOUR_MS, at_max_ms / HOUR_MS);
    turns(&course.replicas, from, to, &mut measures);
    above(course, demand, from, to, &mut measures);
    starts(course, demand, from, to, &mut measures);
    measures
}

/// Returns the stretches of a course within a range, each with its value.
pub(super) fn steps<T: Copy>(course: &[(i64, T)], from: i64, to: i64) -> impl Iterator<Item = (i64, i64, T)> {
    let ends = course.iter().skip(1).map(|(at, _)| *at).chain([i64::MAX]);
    let all = course.iter().zip(ends).map(move |((at, value), end)| ((*at).max(from), end.min(to), *value));
    all.filter(|(start, end, _)| start < end)
}

/// Returns the stretches in which two courses have one value each: milliseconds, and the two values.
fn overlaps<A: Copy, B: Copy>(one: &[(i64, A)], other: &[(i64, B)], from: i64, to: i64) -> Vec<(f64, A, B)> {
    let mut found = Vec::new();
    let mut others = steps(other, from, to).peekable();
    for (start, end, value) in steps(one, from, to) {
        while let Some((other_start, other_end, other)) = others.peek().copied() {
            let lasts = end.min(other_end) - start.max(other_start);
            if lasts > 0 {
                #[expect(clippy::cast_precision_loss, reason = "hours, not moments")]
                found.push((lasts as f64, value, other));
            }
            if other_end > end {
                break;
            }
            others.next();
        }
    }
    found
}

fn turns(replicas: &[(i64, u32)], from: i64, to: i64, measures: &mut Measures) {
    let mut last: Option<(i64, bool)> = None;
    for pair in replicas.windows(2) {
        let (at, is_up) = (pair[1].0, pair[1].1 > pair[0].1);
        if (from..=to).contains(&at) {
            measures.changes += 1;
            let turned = last.is_some_and(|(before, was_up)| was_up != is_up && at - before <= TURN_MS);
            measures.turns += usize::from(turned);
        }
        last = Some((at, is_up));
    }
}

fn above(course: &Course, demand: &[(i64, f64)], from: i64, to: i64, measures: &mut Measures) {
    let (mut above_ms, mut missing_ms) = (0.0, 0.0);
    for (lasts, wanted, count) in overlaps(demand, &course.ready, from, to) {
        let missing = wanted - f64::from(count);
        if missing > 1e-9 {
            above_ms += lasts;
            missing_ms += lasts * missing;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "hours, not moments")]
    let all_ms = (to - from).max(1) as f64;
    measures.hours_above_target = above_ms / HOUR_MS;
    measures.share_above_target = above_ms / all_ms;
    measures.missing_pod_hours = missing_ms / HOUR_MS;
}

fn starts(course: &Course, demand: &[(i64, f64)], from: i64, to: i64, measures: &mut Measures) {
    let mut total = 0.0;
    for pair in course.replicas.windows(2) {
        let (at, was) = (pair[1].0, pair[0].1);
        if was > 0 || !(from..=to).contains(&at) {
            continue;
        }
        let first = course.ready.partition_point(|(ready_at, _)| *ready_at < at);
        let Some((ready_at, _)) = course.ready[first..].iter().find(|(_, ready)| *ready > 0) else { continue };
        // The load may have begun before the change: since it was last zero, but not before the replicas were.
        let until = demand.partition_point(|(when, _)| *when <= at);
        let idle = demand[..until].iter().rposition(|(_, wanted)| *wanted <= 0.0);
        let began = demand.get(idle.map_or(0, |idle| idle + 1)).map_or(at, |(when, _)| *when);
        #[expect(clippy::cast_precision_loss, reason = "seconds, not moments")]
        let took = (ready_at - began.clamp(pair[0].0, at)) as f64 / 1000.0;
        measures.starts_from_zero += 1;
        measures.start_seconds_max = measures.start_seconds_max.max(took);
        total += took;
    }
    if measures.starts_from_zero > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let count = measures.starts_from_zero as f64;
        measures.start_seconds_mean = total / count;
    }
}

/// How a replay of today's settings differs from what was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelError {
    /// From when to when the two are comparable: since today's settings are in force.
    pub from: i64,
    pub to: i64,
    pub recorded_changes: usize,
    pub replayed_changes: usize,
    /// Recorded changes that the replay has, too: to the same count, within `within_ms`, a sync period of the HPA controller
    /// and a moment for the watch.
    pub matched_changes: usize,
    pub within_ms: i64,
    /// The time in which the counts differed, and by how many replicas on average over all time.
    pub hours_different: f64,
    pub replicas_different_mean: f64,
    pub recorded_pod_hours: f64,
    pub replayed_pod_hours: f64,
    /// The first recorded changes without a partner: when, from, to.
    pub unmatched: Vec<(i64, u32, u32)>,
}

/// Unmatched changes that are named.
const UNMATCHED_MAX: usize = 5;

/// Compares two courses; a change may come this much earlier or later.
#[must_use]
pub(super) fn compare(
    recorded: &[(i64, u32)],
    replayed: &[(i64, u32)],
    from: i64,
    to: i64,
    within_ms: i64,
) -> ModelError {
    let changes = |course: &[(i64, u32)]| -> Vec<(i64, u32, u32)> {
        let pairs = course.windows(2).map(|pair| (pair[1].0, pair[0].1, pair[1].1));
        pairs.filter(|(at, ..)| (from..=to).contains(at)).collect()
    };
    let (seen, mut ours) = (changes(recorded), changes(replayed));
    let mut error = ModelError {
        from,
        to,
        recorded_changes: seen.len(),
        replayed_changes: ours.len(),
        within_ms,
        ..ModelError::default()
    };
    for (at, was, is) in seen {
        let near = ours.iter().position(|(when, _, count)| *count == is && (when - at).abs() <= within_ms);
        match near {
            Some(place) => {
                error.matched_changes += 1;
                ours.remove(place);
            }
            None if error.unmatched.len() < UNMATCHED_MAX => error.unmatched.push((at, was, is)),
            None => {}
        }
    }
    let (mut different_ms, mut apart) = (0.0, 0.0);
    let (mut recorded_ms, mut replayed_ms) = (0.0, 0.0);
    for (lasts, count, other) in overlaps(recorded, replayed, from, to) {
        recorded_ms += lasts * f64::from(count);
        replayed_ms += lasts * f64::from(other);
        different_ms += if count == other { 0.0 } else { lasts };
        apart += lasts * f64::from(count.abs_diff(other));
    }
    #[expect(clippy::cast_precision_loss, reason = "hours, not moments")]
    let all_ms = (to - from).max(1) as f64;
    error.hours_different = different_ms / HOUR_MS;
    error.replicas_different_mean = apart / all_ms;
    (error.recorded_pod_hours, error.replayed_pod_hours) = (recorded_ms / HOUR_MS, replayed_ms / HOUR_MS);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn course(replicas: &[(i64, u32)]) -> Course {
        Course { replicas: replicas.to_vec(), ready: replicas.to_vec(), ..Course::default() }
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn an_hour_of_two_pods_and_what_was_missing() {
        let course = course(&[(0, 2), (30 * MINUTE, 4)]);
        let demand = [(0, 1.5), (15 * MINUTE, 3.0), (45 * MINUTE, 3.5)];
        let measures = measure(&course, &demand, 4, 0, 60 * MINUTE);
        assert!(near(measures.pod_hours, 3.0) && near(measures.hours_at_max, 0.5), "{measures:?}");
        // From minute 15 to 30, one replica is missing.
        assert!(near(measures.hours_above_target, 0.25) && near(measures.missing_pod_hours, 0.25), "{measures:?}");
        assert!(near(measures.share_above_target, 0.25));
        assert_eq!((measures.peak, measures.changes, measures.turns), (4, 1, 0));
    }

    #[test]
    fn turns_are_changes_of_direction_within_ten_minutes() {
        let of = |replicas: &[(i64, u32)]| measure(&course(replicas), &[], 9, 0, 600 * MINUTE).turns;
        assert_eq!(of(&[(0, 1), (5 * MINUTE, 3), (15 * MINUTE, 2), (20 * MINUTE, 1), (30 * MINUTE, 4)]), 2);
        assert_eq!(of(&[(0, 1), (5 * MINUTE, 3), (16 * MINUTE, 2)]), 0);
    }

    #[test]
    fn a_start_from_zero_lasts_from_the_load_to_the_first_ready_pod() {
        let course = Course {
            replicas: vec![(0, 0), (10 * MINUTE, 1)],
            ready: vec![(0, 0), (10 * MINUTE + 20_000, 1)],
            ..Course::default()
        };
        let demand = [(0, 0.0), (10 * MINUTE - 5_000, 0.4), (10 * MINUTE, 2.0)];
        let measures = measure(&course, &demand, 9, 0, 20 * MINUTE);
        assert_eq!(measures.starts_from_zero, 1);
        assert!(near(measures.start_seconds_mean, 25.0), "{measures:?}");
    }

    #[test]
    fn the_models_error_pairs_changes() {
        let recorded = [(0, 1), (MINUTE, 2), (10 * MINUTE, 3), (20 * MINUTE, 1)];
        let replayed = [(0, 1), (MINUTE + 14_000, 2), (10 * MINUTE, 4), (20 * MINUTE, 1)];
        let error = compare(&recorded, &replayed, 0, 60 * MINUTE, 15_000);
        assert_eq!((error.recorded_changes, error.replayed_changes, error.matched_changes), (3, 3, 2));
        assert_eq!(error.unmatched, [(10 * MINUTE, 2, 3)]);
        assert!(near(error.hours_different, 10.0 / 60.0 + 14.0 / 3600.0), "{error:?}");
    }
}
