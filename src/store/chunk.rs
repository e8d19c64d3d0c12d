//! Packs many samples of one series into one row that plain SQL can read.
//!
//! Owns packing and unpacking; `sql/migrations/0001_init.sql` states the arithmetic and the view `v_sample` repeats it.
//! Pure: no SQL, no clock.
//!
//! The lists are text instead of packed bytes because any `sqlite3` shell can read them with `json_each`, and decimal
//! text is short for typical values (`0`, `12`, `0.25`). A value that never repeats takes 17 to 20 characters, its time
//! 2 to 4: below 25 bytes a sample (`tests/bench/store.rs` measures it).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Samples in the longest chunk. Reading value i of a list walks over i entries, so the time to read grows with the
/// square: 240 * 120 steps of a few ns are 0.1 ms, and with 240 samples the row overhead is already down to 0.2 bytes
/// each.
pub(crate) const SAMPLES_PER_CHUNK: usize = 240;

/// Approximate upper bound on the text of one chunk. With some 35 bytes around it, four fit into a page's 4,061 usable
/// bytes; rows of 1,200 bytes, three per page, left a seventh of each page empty.
pub(crate) const TEXT_BYTES_MAX: usize = 960;

/// A sample this far off the chunk's grid starts a new chunk, which limits offsets to five digits.
const OFFSET_MS_MAX: i64 = 60_000;

/// The result of a poll.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    Number(f64),
    /// Class of the outcome that came instead of a number: `timeout`, `empty`, ...
    Outcome(Arc<str>),
}

/// One sample of a series that the context identifies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) at_unix_ms: i64,
    pub(crate) value: SampleValue,
    pub(crate) latency_ms: i64,
}

/// The id of a chunk, which encodes its place: 27 bits for the block (one every 3 s at 10,000 samples a second, so 12
/// years), 24 for the series, 12 for the chunk's number within both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkId(pub(crate) i64);

const SERIES_SHIFT: u32 = 12;
const BLOCK_SHIFT: u32 = 36;
pub(crate) const SERIES_MAX: i64 = (1 << (BLOCK_SHIFT - SERIES_SHIFT)) - 1;
pub(crate) const NUMBER_MAX: i64 = (1 << SERIES_SHIFT) - 1;

impl ChunkId {
    pub(crate) fn new(block: i64, series: i64, number: i64) -> Self {
        Self(block << BLOCK_SHIFT | series << SERIES_SHIFT | number)
    }

    pub(crate) fn series(self) -> i64 {
        self.0 >> SERIES_SHIFT & SERIES_MAX
    }

    /// Returns the first and last possible chunk id of a block's series after one series and up to another.
    pub(crate) fn range_between(block: i64, after_series: i64, until_series: i64) -> (i64, i64) {
        (Self::new(block, after_series, NUMBER_MAX).0 + 1, Self::new(block, until_series, NUMBER_MAX).0)
    }

    /// Returns the first and last possible chunk id of a block's series up to this one.
    pub(crate) fn range(block: i64, until_series: i64) -> (i64, i64) {
        (Self::new(block, 0, 0).0, Self::new(block, until_series, NUMBER_MAX).0)
    }
}

/// A row of `sample_chunk` without its id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) base_unix_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) stride: i64,
    pub(crate) samples: String,
    pub(crate) value_list: String,
    pub(crate) latency_ms_total: i64,
    pub(crate) latency_ms_max: i64,
}

impl Chunk {
    /// Whether any of its samples is a number, which is cheaper to find out than to unpack them.
    pub(crate) fn has_numbers(&self) -> bool {
        unbracket(&self.value_list).is_some_and(|mut values| values.any(|value| !value.starts_with('"')))
    }
}

/// Packs samples, which must be sorted by time, into as few chunks as their times allow.
pub(crate) fn pack(points: &[Point], mut emit: impl FnMut(Chunk)) {
    let mut rest = points;
    while !rest.is_empty() {
        let (mut piece, mut tail) = rest.split_at(piece_len(rest));
        let mut chunk = pack_piece(piece);
        let bytes = chunk.samples.len() + chunk.value_list.len();
        if bytes > TEXT_BYTES_MAX {
            (piece, tail) = rest.split_at((piece.len() * TEXT_BYTES_MAX / bytes).max(1));
            chunk = pack_piece(piece);
        }
        emit(chunk);
        rest = tail;
    }
}

/// Returns how many of the first points lie near one grid.
fn piece_len(points: &[Point]) -> usize {
    let mut gaps: Vec<i64> =
        points.windows(2).take(SAMPLES_PER_CHUNK).map(|pair| pair[1].at_unix_ms - pair[0].at_unix_ms).collect();
    if gaps.is_empty() {
        return points.len();
    }
    let middle = gaps.len() / 2;
    let step = *gaps.select_nth_unstable(middle).1;
    points
        .iter()
        .zip(0..)
        .take(SAMPLES_PER_CHUNK)
        .take_while(|(point, i)| (point.at_unix_ms - points[0].at_unix_ms - i * step).abs() <= OFFSET_MS_MAX)
        .count()
}

fn pack_piece(points: &[Point]) -> Chunk {
    let first = points[0].at_unix_ms;
    let count = i64::try_from(points.len()).unwrap_or(i64::MAX);
    // The mean interval, so that a drifting clock costs no digits.
    let step_ms = if count > 1 { (points[points.len() - 1].at_unix_ms - first) / (count - 1) } else { 0 };
    let offset = |i: i64, point: &Point| point.at_unix_ms - first - i * step_ms;
    // The base is early enough that no offset is negative, because integer division in SQL rounds towards zero.
    let earliest = (0..).zip(points).map(|(i, point)| offset(i, point)).min().unwrap_or(0);

    let (list, indexes) = distinct(points);
    let repeats = list.len() * 4 <= points.len() * 3;
    let stride = if repeats { i64::try_from(list.len()).unwrap_or(i64::MAX) } else { 0 };

    let mut samples = String::with_capacity(points.len() * 4 + 2);
    for ((i, point), index) in (0..).zip(points).zip(&indexes) {
        let offset = offset(i, point) - earliest;
        let entry = if repeats { offset * stride + index } else { offset };
        samples.push(if i == 0 { '[' } else { ',' });
        // Writing to a String cannot fail.
        let _ = write!(samples, "{entry}");
    }
    samples.push(']');

    let mut value_list = String::with_capacity(points.len() * 8);
    let mut push = |value: &SampleValue| {
        value_list.push(if value_list.is_empty() { '[' } else { ',' });
        push_value(&mut value_list, value);
    };
    if repeats {
        list.iter().for_each(|value| push(value));
    } else {
        points.iter().for_each(|point| push(&point.value));
    }
    value_list.push(']');

    Chunk {
        base_unix_ms: first + earliest,
        step_ms,
        stride,
        samples,
        value_list,
        latency_ms_total: points.iter().map(|point| point.latency_ms).sum(),
        latency_ms_max: points.iter().map(|point| point.latency_ms).max().unwrap_or(0),
    }
}

/// Returns the distinct values, and for each point the index of its value.
fn distinct(points: &[Point]) -> (Vec<&SampleValue>, Vec<i64>) {
    #[derive(PartialEq, Eq, Hash)]
    enum Key<'a> {
        Number(u64),
        Outcome(&'a str),
    }
    let mut list = Vec::new();
    let mut known: HashMap<Key<'_>, i64> = HashMap::with_capacity(points.len());
    let indexes = points
        .iter()
        .map(|point| {
            let key = match &point.value {
                SampleValue::Number(number) => Key::Number(number.to_bits()),
                SampleValue::Outcome(outcome) => Key::Outcome(outcome),
            };
            *known.entry(key).or_insert_with(|| {
                list.push(&point.value);
                i64::try_from(list.len() - 1).unwrap_or(i64::MAX)
            })
        })
        .collect();
    (list, indexes)
}

pub(crate) fn push_value(text: &mut String, value: &SampleValue) {
    match value {
        SampleValue::Number(number) => match as_integer(*number) {
            Some(integer) => {
                let _ = write!(text, "{integer}");
            }
            // The shortest text that parses to the same number; `e` notation for very large and very small ones.
            None if number.is_finite() => {
                let plain = (1e-5..1e17).contains(&number.abs());
                let _ = if plain { write!(text, "{number}") } else { write!(text, "{number:e}") };
            }
            // The poller only sends finite numbers, the only ones that JSON has.
            None => text.push_str("\"nan\""),
        },
        // Outcomes are our own identifiers; characters that would break the list are dropped.
        SampleValue::Outcome(outcome) => {
            text.push('"');
            text.extend(outcome.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_'));
            text.push('"');
        }
    }
}

/// Returns a whole number that a double represents exactly (below 2^53): it is shorter as an integer, in rows too.
pub(crate) fn as_integer(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
}

/// Unpacks one chunk; returns `None` if [`pack`] did not write it.
pub(crate) fn unpack(chunk: &Chunk, mut emit: impl FnMut(Point)) -> Option<()> {
    let entries: Vec<i64> = unbracket(&chunk.samples)?.map(|entry| entry.parse().ok()).collect::<Option<_>>()?;
    let list: Vec<SampleValue> = unbracket(&chunk.value_list)?.map(read_value).collect::<Option<_>>()?;
    let count = i64::try_from(entries.len()).ok()?;
    // Only sum and maximum are stored: the first sample gets the maximum and the others share the rest, so that both
    // survive repacking.
    let share = if count > 1 { (chunk.latency_ms_total - chunk.latency_ms_max) / (count - 1) } else { 0 };
    for (i, entry) in (0..).zip(entries) {
        let (offset, index) = if chunk.stride == 0 { (entry, i) } else { (entry / chunk.stride, entry % chunk.stride) };
        let value = list.get(usize::try_from(index).ok()?)?.clone();
        let latency_ms = if i == 0 { chunk.latency_ms_max } else { share };
        emit(Point { at_unix_ms: chunk.base_unix_ms + i * chunk.step_ms + offset, value, latency_ms });
    }
    Some(())
}

/// Splits a JSON list of numbers and outcome names, neither of which contains a comma. serde_json rounds some numbers
/// unless a feature is enabled that slows down all parsing.
fn unbracket(text: &str) -> Option<std::str::Split<'_, char>> {
    Some(text.strip_prefix('[')?.strip_suffix(']')?.split(','))
}

fn read_value(text: &str) -> Option<SampleValue> {
    match text.strip_prefix('"') {
        Some(outcome) => Some(SampleValue::Outcome(outcome.strip_suffix('"')?.into())),
        None => text.parse().ok().map(SampleValue::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: impl IntoIterator<Item = (i64, SampleValue)>) -> Vec<Point> {
        values.into_iter().map(|(at_unix_ms, value)| Point { at_unix_ms, value, latency_ms: 4 }).collect()
    }

    fn round_trip(points: &[Point]) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        pack(points, |chunk| chunks.push(chunk));
        let mut back = Vec::new();
        for chunk in &chunks {
            unpack(chunk, |point| back.push(point)).expect("our own form");
        }
        assert_eq!(back, points);
        chunks
    }

    #[test]
    fn constant_values_cost_their_times_only() {
        let chunks = round_trip(&points((0..100).map(|i| (1_000_000 + i * 30_000 + i % 7, SampleValue::Number(5.0)))));
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].value_list, "[5]");
        assert!(chunks[0].samples.len() < 310, "{}", chunks[0].samples);
    }

    #[test]
    fn gaps_and_bursts_survive() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut at = random.i64(-5_000..1_800_000_000_000);
            let count = random.usize(1..700);
            let made = points((0..count).map(|_| {
                at += match random.u8(0..20) {
                    0 => random.i64(0..100_000_000),
                    1 => 0,
                    _ => 30_000 + random.i64(0..50),
                };
                let value = match random.u8(0..4) {
                    0 => SampleValue::Outcome("timeout".into()),
                    1 => SampleValue::Number(random.f64() * 1e-9),
                    2 => SampleValue::Number(-random.f64() * 1e20),
                    _ => SampleValue::Number(f64::from(random.i8(..))),
                };
                (at, value)
            }));
            round_trip(&made);
        }
    }

    #[test]
    fn a_missed_poll_does_not_break_the_chunk() {
        let made = points((0..50).filter(|i| *i != 20).map(|i| (i * 30_000, SampleValue::Number(1.0))));
        assert_eq!(round_trip(&made).len(), 1);
    }

    #[test]
    fn ids_hold_what_they_are_made_of() {
        assert_eq!(ChunkId::new(5, SERIES_MAX, NUMBER_MAX).series(), SERIES_MAX);
        assert_eq!(ChunkId::range(5, SERIES_MAX).1 + 1, ChunkId::range(6, 0).0);
        assert!(ChunkId::new((1 << 27) - 1, SERIES_MAX, NUMBER_MAX).0 == i64::MAX);
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let chunk = Chunk {
            base_unix_ms: 0,
            step_ms: 1,
            stride: 2,
            samples: "[1]".into(),
            value_list: "[1]".into(),
            latency_ms_total: 0,
            latency_ms_max: 0,
        };
        assert_eq!(unpack(&chunk, |_| ()), None);
    }
}
