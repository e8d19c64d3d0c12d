//! Rolls samples up by minute and by hour.
//!
//! Owns the arithmetic and the format, which `sql/migrations/0001_init.sql` states and the views repeat. A block is
//! rolled up series by series, and its progress is a column of the block, written in the same transaction: so each
//! sample is counted exactly once, even if a restart or a merge comes between two slices.

use std::fmt::Write as _;

use rusqlite::params;

use super::block::read_chunk;
use super::chunk::{ChunkId, NUMBER_MAX, Point, SERIES_MAX, SampleValue, TEXT_BYTES_MAX, push_value, unpack};
use super::prepared::Prepared;
use super::sql::Sql;

/// Samples in one slice: at 2 to 3 µs each, mostly for the text of the minutes, this takes 25 ms.
pub(crate) const SLICE_SAMPLES: i64 = 8_192;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// The aggregate of one series' samples in one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Part {
    /// Samples with a value.
    count: i64,
    /// Samples without a value.
    errors: i64,
    /// Meaningless while `count` is 0, like all fields below.
    min: f64,
    max: f64,
    sum: f64,
    last: f64,
    last_at_unix_ms: i64,
}

impl Part {
    /// Adds the next sample; samples come in order of time.
    fn add(&mut self, point: &Point) {
        let SampleValue::Number(value) = point.value else {
            self.errors += 1;
            return;
        };
        let first = self.count == 0;
        self.count += 1;
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
        self.sum += value;
        (self.last, self.last_at_unix_ms) = (value, point.at_unix_ms);
    }

    /// Appends this part's entry in `sample_minute.parts`.
    fn push(&self, text: &mut String, minute: i64, base_minute: i64) {
        text.push(if text.is_empty() { '[' } else { ',' });
        // Writing to a String cannot fail.
        let _ = write!(text, "[{},", minute - base_minute);
        if self.count == 0 {
            let _ = write!(text, "0,0,null,null,null,null,{}]", self.errors);
            return;
        }
        let _ = write!(text, "{},{},", self.last_at_unix_ms - minute * MINUTE_MS, self.count);
        push_value(text, &SampleValue::Number(self.last));
        let alike = self.min.to_bits() == self.max.to_bits();
        if !alike || self.errors > 0 {
            for value in [self.min, self.max, self.sum] {
                text.push(',');
                push_value(text, &SampleValue::Number(value));
            }
        }
        if self.errors > 0 {
            let _ = write!(text, ",{}", self.errors);
        }
        text.push(']');
    }
}

/// Aggregates points, which must be sorted by time, by stretches of `stretch_ms`: yields each stretch's number and
/// part.
fn parts(points: &[Point], stretch_ms: i64) -> impl Iterator<Item = (i64, Part)> {
    points.chunk_by(move |a, b| a.at_unix_ms.div_euclid(stretch_ms) == b.at_unix_ms.div_euclid(stretch_ms)).map(
        move |run| {
            let mut part = Part::default();
            run.iter().for_each(|point| part.add(point));
            (run[0].at_unix_ms.div_euclid(stretch_ms), part)
        },
    )
}

/// A minute or an hour of one series as rolled up; one minute may have several rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolledUp {
    /// When the stretch begins.
    pub at: i64,
    /// Samples with a value, and without.
    pub count: u32,
    pub errors: u32,
    /// `None` if no sample had a value.
    pub numbers: Option<RolledNumbers>,
}

/// Aggregates of the samples with a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolledNumbers {
    pub min: f64,
    pub max: f64,
    pub last: f64,
    pub last_at: i64,
}

/// Reads the entries of a row of `sample_minute`; returns `None` if [`Part::push`] did not write them.
pub(crate) fn read_minutes(base_minute: i64, parts: &str, mut emit: impl FnMut(RolledUp)) -> Option<()> {
    for entry in parts.strip_prefix("[[")?.strip_suffix("]]")?.split("],[") {
        let fields: Vec<&str> = entry.split(',').collect();
        let (&[minute, last_ms, count, last], rest) = fields.split_first_chunk::<4>()?;
        let at = (base_minute + minute.parse::<i64>().ok()?) * MINUTE_MS;
        let count = count.parse().ok()?;
        let numbers = if count == 0 {
            None
        } else {
            let number = |field: Option<&&str>| field.map_or(last, |field| *field).parse().ok();
            let last_at = at + last_ms.parse::<i64>().ok()?;
            Some(RolledNumbers {
                min: number(rest.first())?,
                max: number(rest.get(1))?,
                last: last.parse().ok()?,
                last_at,
            })
        };
        let errors = rest.get(3).map_or(Some(0), |errors| errors.parse().ok())?;
        emit(RolledUp { at, count, errors, numbers });
    }
    Some(())
}

/// Reads a row of `sample_hour`: the hour, count, errors, min, max, last and its time.
pub(crate) fn read_hour(row: &rusqlite::Row<'_>) -> Result<RolledUp, rusqlite::Error> {
    let count = row.get(1)?;
    let numbers = if count == 0 {
        None
    } else {
        Some(RolledNumbers { min: row.get(3)?, max: row.get(4)?, last: row.get(5)?, last_at: row.get(6)? })
    };
    Ok(RolledUp { at: row.get(0)?, count, errors: row.get(2)?, numbers })
}

/// A block that is not completely rolled up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unrolled {
    id: i64,
    rolled_series: i64,
    minute_block: Option<i64>,
    from_unix_ms: i64,
    until_unix_ms: i64,
    samples: i64,
    chunks: i64,
}

impl Unrolled {
    pub(crate) fn read(row: &rusqlite::Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            rolled_series: row.get(1)?,
            minute_block: row.get(2)?,
            from_unix_ms: row.get(3)?,
            until_unix_ms: row.get(4)?,
            samples: row.get(5)?,
            chunks: row.get(6)?,
        })
    }
}

/// Rolls up the next series of a block within the caller's transaction.
pub(crate) fn roll_slice(prepared: &mut Prepared<'_>, block: Unrolled, slice: i64) -> Result<(), rusqlite::Error> {
    let minute_block = match block.minute_block {
        Some(id) => id,
        None => prepared.insert(Sql::InsertMinuteBlock, params![block.from_unix_ms, block.until_unix_ms])?,
    };
    let (first, last) = ChunkId::range_between(block.id, block.rolled_series, SERIES_MAX);
    let ahead = (block.chunks.saturating_mul(slice) / block.samples.max(1)).max(1);
    let mut rows = prepared.get(Sql::MergeReach)?.query([first, last, ahead])?;
    let reach = match rows.next()? {
        Some(row) => ChunkId(row.get(0)?).series(),
        None => SERIES_MAX,
    };
    drop(rows);
    let (first, last) = ChunkId::range_between(block.id, block.rolled_series, reach);
    let mut samples: Vec<(i64, Point)> = Vec::new();
    let mut rows = prepared.get(Sql::MergeRead)?.query([first, last])?;
    while let Some(row) = rows.next()? {
        let series = ChunkId(row.get(0)?).series();
        // A chunk that damage made unreadable is skipped, here as in every view.
        let _ = unpack(&read_chunk(row, 1)?, |point| samples.push((series, point)));
    }
    drop(rows);
    let mut points = Vec::new();
    for run in samples.chunk_by(|a, b| a.0 == b.0) {
        points.clear();
        points.extend(run.iter().map(|(_, point)| point.clone()));
        write_minutes(prepared, minute_block, run[0].0, &points)?;
        write_hours(prepared, run[0].0, &points)?;
    }
    prepared.execute(Sql::RollAdvance, params![block.id, reach, minute_block])?;
    Ok(())
}

fn write_minutes(
    prepared: &mut Prepared<'_>,
    block: i64,
    series: i64,
    points: &[Point],
) -> Result<(), rusqlite::Error> {
    let insert = prepared.get(Sql::InsertMinute)?;
    let mut number = 0;
    let mut text = String::new();
    let mut base = 0;
    let mut all = parts(points, MINUTE_MS).peekable();
    while let Some((minute, part)) = all.next() {
        if text.is_empty() {
            base = minute;
        }
        part.push(&mut text, minute, base);
        // The last number takes the entire rest, whatever its length.
        let full = text.len() >= TEXT_BYTES_MAX && number < NUMBER_MAX;
        if full || all.peek().is_none() {
            text.push(']');
            insert.execute(params![ChunkId::new(block, series, number).0, base, text])?;
            text.clear();
            number += 1;
        }
    }
    Ok(())
}

fn write_hours(prepared: &mut Prepared<'_>, series: i64, points: &[Point]) -> Result<(), rusqlite::Error> {
    for (hour, part) in parts(points, HOUR_MS) {
        prepared.execute(Sql::InsertRolledHour, [hour * HOUR_MS])?;
        let some = |value: f64| (part.count > 0).then_some(value);
        prepared.execute(
            Sql::UpsertHour,
            params![
                hour * HOUR_MS,
                series,
                part.count,
                part.errors,
                some(part.min),
                some(part.max),
                some(part.sum),
                some(part.last),
                (part.count > 0).then_some(part.last_at_unix_ms)
            ],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has every form that an entry may take.
    #[test]
    fn minutes_read_back_as_they_were_written() {
        let number = |at_unix_ms, value| Point { at_unix_ms, value: SampleValue::Number(value), latency_ms: 0 };
        let failed = |at_unix_ms| Point { at_unix_ms, value: SampleValue::Outcome("timeout".into()), latency_ms: 0 };
        let base = 29_000_000;
        let at = |minute: i64, ms: i64| (base + minute) * MINUTE_MS + ms;
        let points = [
            number(at(0, 5_000), 3.0),
            number(at(0, 20_000), 3.0),
            number(at(1, 1), -0.25),
            number(at(1, 59_999), 1e300),
            failed(at(4, 0)),
            number(at(5, 7), 2.5),
            failed(at(5, 9)),
        ];
        let mut text = String::new();
        for (minute, part) in parts(&points, MINUTE_MS) {
            part.push(&mut text, minute, base);
        }
        text.push(']');
        let mut found = Vec::new();
        read_minutes(base, &text, |rolled| found.push(rolled)).expect("our own form");
        let numbers = |min, max, last, last_at| Some(RolledNumbers { min, max, last, last_at });
        assert_eq!(
            found,
            [
                RolledUp { at: at(0, 0), count: 2, errors: 0, numbers: numbers(3.0, 3.0, 3.0, at(0, 20_000)) },
                RolledUp { at: at(1, 0), count: 2, errors: 0, numbers: numbers(-0.25, 1e300, 1e300, at(1, 59_999)) },
                RolledUp { at: at(4, 0), count: 0, errors: 1, numbers: None },
                RolledUp { at: at(5, 0), count: 1, errors: 1, numbers: numbers(2.5, 2.5, 2.5, at(5, 7)) },
            ],
            "{text}"
        );
        for nonsense in ["", "[]", "[[1]]", "[[0,0,1,\"nan\"]]", "[[0,x,1,2]]"] {
            assert_eq!(read_minutes(0, nonsense, |_| ()), None, "{nonsense}");
        }
    }
}
