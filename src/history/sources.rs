//! Chooses the source of a plot's points: samples, their minutes, or their hours.
//!
//! Owns the choice. What is rolled up may be kept in all three forms, and each form goes by itself when it is old. Of
//! every minute, then of every hour, the form is taken that knows most samples of it, the finer one when they know
//! equally many: so no sample counts twice, and none is missed that any form still has, wherever deleting has come to.
//! Samples that are not rolled up yet are in no other form.

use std::collections::{BTreeMap, HashMap};

use super::{Buckets, Grid};
use crate::store::read::{ErrorRow, Found, Range, Snapshot};
use crate::store::{RolledUp, SampleValue};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// Outcome of samples without a number whose error has expired.
const UNKNOWN: &str = "unknown";

/// A series to be read.
pub(super) struct Wanted<'e> {
    pub(super) series: i64,
    /// Index of its buckets.
    pub(super) place: usize,
    /// Its errors: roll-ups count samples without a number but do not name their outcome.
    pub(super) errors: &'e [ErrorRow],
}

/// Fills the buckets with what is known of the range, no finer than the grid needs: a month does not read samples,
/// except those that are not rolled up yet.
pub(super) fn load(
    snapshot: &Snapshot<'_>,
    wanted: &[Wanted<'_>],
    range: Range,
    grid: Grid,
    buckets: &mut [Buckets],
) -> Found<()> {
    let places: HashMap<i64, usize> = wanted.iter().map(|wanted| (wanted.series, wanted.place)).collect();
    snapshot.head(&places, range, |place, at, value| buckets[place].add(at, value))?;
    // Whole hours, so that the forms can be compared.
    let whole = Range { from: floor(range.from, HOUR_MS), to: floor(range.to, HOUR_MS).saturating_add(HOUR_MS - 1) };
    // A finer form than needed is read where the coarser one has expired earlier.
    let (oldest_minute, oldest_hour) = snapshot.oldest_rolled_up()?;
    let before = |oldest: Option<i64>| oldest.map_or(whole.to, |oldest| whole.to.min(floor(oldest, MINUTE_MS) - 1));
    let (minutes_until, samples_until) = match grid.step {
        ..MINUTE_MS => (whole.to, whole.to),
        MINUTE_MS..HOUR_MS => (whole.to, before(oldest_minute)),
        HOUR_MS.. => (before(oldest_hour), before(oldest_minute.into_iter().chain(oldest_hour).min())),
    };
    for Wanted { series, place, errors } in wanted {
        let buckets = &mut buckets[*place];
        let parts = |part| fill(buckets, part, range, errors);
        parts_of(snapshot, *series, whole, (minutes_until, samples_until), parts)?;
    }
    Ok(())
}

/// Reports the packed samples of one series and what stands for those that have expired, in no order.
fn parts_of(
    snapshot: &Snapshot<'_>,
    series: i64,
    whole: Range,
    (minutes_until, samples_until): (i64, i64),
    mut report: impl FnMut(Part),
) -> Found<()> {
    let mut by_sample = Known::new();
    snapshot.packed(series, whole, samples_until, |at, value, is_rolled| {
        let sample = Part::Sample(at, value);
        if is_rolled {
            by_sample.entry(floor(at, MINUTE_MS)).or_default().add(1, sample);
        } else {
            report(sample);
        }
    })?;
    let mut by_minute = Known::new();
    let minutes = Range { to: minutes_until, ..whole };
    snapshot.minutes(series, minutes, |row| by_minute.entry(row.at).or_default().add_row(row, MINUTE_MS))?;
    let mut by_hour = Known::new();
    for row in snapshot.hours(series, whole)? {
        by_hour.entry(row.at).or_default().add_row(row, HOUR_MS);
    }
    let known = pick(by_hours(pick(by_sample, by_minute)), by_hour);
    known.into_values().flat_map(|stretch| stretch.parts).for_each(report);
    Ok(())
}

/// Reports every packed sample of one series in the range, and for minutes and hours whose samples have expired their
/// last one, in no order; with each, how long it stands for: 0 for a sample.
pub(super) fn finest(
    snapshot: &Snapshot<'_>,
    series: i64,
    range: Range,
    mut report: impl FnMut(i64, &SampleValue, i64),
) -> Found<()> {
    let whole = Range { from: floor(range.from, HOUR_MS), to: floor(range.to, HOUR_MS).saturating_add(HOUR_MS - 1) };
    parts_of(snapshot, series, whole, (whole.to, whole.to), |part| {
        let (at, value, length) = match part {
            Part::Sample(at, value) => (at, value, 0),
            Part::Row(row, length) => match row.numbers {
                Some(numbers) => (numbers.last_at, SampleValue::Number(numbers.last), length),
                None => (row.at, SampleValue::Outcome(UNKNOWN.into()), length),
            },
        };
        if (range.from..=range.to).contains(&at) {
            report(at, &value, length);
        }
    })
}

/// The stretches that one form of storage covers, by the start of their minute or hour.
type Known = BTreeMap<i64, Stretch>;

#[derive(Debug, Default, PartialEq)]
struct Stretch {
    samples: u64,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq)]
enum Part {
    Sample(i64, SampleValue),
    /// A row of a roll-up, and its length.
    Row(RolledUp, i64),
}

impl Stretch {
    fn add(&mut self, samples: u64, part: Part) {
        self.samples += samples;
        self.parts.push(part);
    }

    fn add_row(&mut self, row: RolledUp, length: i64) {
        self.add(u64::from(row.count) + u64::from(row.errors), Part::Row(row, length));
    }
}

/// Chooses the form with the most samples for each stretch.
fn pick(fine: Known, mut coarse: Known) -> Known {
    for (at, stretch) in fine {
        if coarse.get(&at).is_none_or(|other| other.samples <= stretch.samples) {
            coarse.insert(at, stretch);
        }
    }
    coarse
}

fn by_hours(minutes: Known) -> Known {
    let mut hours = Known::new();
    for (at, stretch) in minutes {
        let hour = hours.entry(floor(at, HOUR_MS)).or_default();
        hour.samples += stretch.samples;
        hour.parts.extend(stretch.parts);
    }
    hours
}

fn fill(buckets: &mut Buckets, part: Part, range: Range, errors: &[ErrorRow]) {
    let (row, length) = match part {
        Part::Sample(at, value) => {
            if (range.from..=range.to).contains(&at) {
                buckets.add(at, &value);
            }
            return;
        }
        Part::Row(row, length) => (row, length),
    };
    let (from, until) = (row.at.max(range.from), (row.at + length - 1).min(range.to));
    if from > until {
        return;
    }
    if row.errors > 0 {
        let error = errors.iter().find(|e| e.from <= until && e.until.unwrap_or(i64::MAX) >= from);
        buckets.silence(from, until, error.map_or(UNKNOWN, |error| &error.outcome), row.errors);
    }
    if let Some(numbers) = row.numbers.filter(|numbers| numbers.last_at >= range.from) {
        // The first sample's time is not stored, so it is estimated as if all were equally far apart.
        let first_at = numbers.last_at - length / i64::from(row.count) * i64::from(row.count - 1);
        let last_at = numbers.last_at.min(range.to);
        buckets.merge(&super::Bucket {
            first_at: first_at.clamp(from, last_at),
            last_at,
            min: numbers.min,
            max: numbers.max,
            last: numbers.last,
            count: row.count,
        });
    }
}

fn floor(at: i64, step: i64) -> i64 {
    at.div_euclid(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RolledNumbers;

    /// Roll-ups record the time of their last sample but not of their first. At any interval, that alone breaks no
    /// line, and three intervals without a sample break it.
    #[test]
    fn only_gaps_break_lines_of_roll_ups() {
        let stretches = |length: i64, interval: usize, gap: std::ops::Range<i64>| {
            let range = Range { from: 0, to: 120 * length - 1 };
            let mut rows: BTreeMap<i64, RolledUp> = BTreeMap::new();
            for last_at in (0..range.to).step_by(interval).filter(|at| !gap.contains(at)) {
                let at = floor(last_at, length);
                let count = rows.get(&at).map_or(1, |row| row.count + 1);
                let numbers = Some(RolledNumbers { min: 1.0, max: 1.0, last: 1.0, last_at });
                rows.insert(at, RolledUp { at, count, errors: 0, numbers });
            }
            let mut buckets = Buckets::new(Grid { from: 0, step: length, cells: 120 });
            rows.into_values().for_each(|row| fill(&mut buckets, Part::Row(row, length), range, &[]));
            buckets.stretches().len()
        };
        for interval in (3_500..=180_000).step_by(2_500) {
            for length in [MINUTE_MS, HOUR_MS].into_iter() {
                assert_eq!(stretches(length, interval, 0..0), 1, "{interval} {length}");
                let gap = 60 * length..60 * length + 5 * i64::try_from(interval).unwrap_or(0).max(length);
                assert_eq!(stretches(length, interval, gap), 2, "{interval} {length}");
            }
        }
    }

    #[test]
    fn rows_at_the_edges_count_within_the_range() {
        let numbers = Some(RolledNumbers { min: -1.0, max: 9.0, last: 4.0, last_at: HOUR_MS + 3_500_000 });
        let row = RolledUp { at: HOUR_MS, count: 200, errors: 5, numbers };
        let filled = |from: i64, to: i64| {
            let mut buckets = Buckets::new(Grid { from, step: HOUR_MS, cells: 3 });
            fill(&mut buckets, Part::Row(row, HOUR_MS), Range { from, to }, &[]);
            buckets.stretches().into_iter().flatten().map(|point| (point.first_at, point.last_at)).collect::<Vec<_>>()
        };
        assert_eq!(filled(HOUR_MS + 600_000, HOUR_MS + 900_000), [(HOUR_MS + 600_000, HOUR_MS + 900_000)]);
        // The last number came before, the hour is over, or has not begun.
        assert_eq!(filled(HOUR_MS + 3_500_001, 3 * HOUR_MS), []);
        assert_eq!(filled(2 * HOUR_MS, 3 * HOUR_MS), []);
        assert_eq!(filled(0, HOUR_MS - 1), []);
    }

    /// Samples without a number get the outcome of their error; once that has expired they are still counted.
    #[test]
    fn silences_are_named_after_the_error_of_their_time() {
        let error = |from, until, outcome: &str| ErrorRow {
            from,
            last_at: from,
            until,
            outcome: outcome.to_owned(),
            message: String::new(),
            polls: 1,
        };
        let errors = [error(2 * HOUR_MS, None, "timeout"), error(HOUR_MS / 2, Some(HOUR_MS + 1), "empty")];
        let mut buckets = Buckets::new(Grid { from: 0, step: MINUTE_MS, cells: 300 });
        for at in [3 * HOUR_MS, HOUR_MS, HOUR_MS + MINUTE_MS] {
            let row = RolledUp { at, count: 0, errors: 4, numbers: None };
            fill(&mut buckets, Part::Row(row, MINUTE_MS), Range { from: 0, to: 4 * HOUR_MS }, &errors);
        }
        let found: Vec<(i64, String)> = buckets.silences().into_iter().map(|s| (s.from, s.outcome)).collect();
        let expected = [(HOUR_MS, "empty"), (HOUR_MS + MINUTE_MS, UNKNOWN), (3 * HOUR_MS, "timeout")];
        assert_eq!(found, expected.map(|(at, outcome)| (at, outcome.to_owned())));
        assert_eq!(buckets.samples(), 12);
    }
}
