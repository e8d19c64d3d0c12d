//! Many samples as few points: what lies in one cell of a grid becomes its minimum, maximum and last value.
//!
//! Pure. Samples may come in any order, since blocks are not stored by time. A cell that no sample fell into is
//! absent, never zero, and so is the line across it (see [`Buckets::stretches`]).

use serde::ser::{Serialize, SerializeSeq as _, Serializer};

use crate::store::SampleValue;
use crate::store::read::Range;

/// Lengths of the cells of an aligned grid in milliseconds, round numbers of seconds, minutes, hours and days.
const STEPS_MS: [i64; 22] = [
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    604_800_000,
    2_592_000_000,
    31_536_000_000,
];

/// A pause this many times longer than those around it is a gap. Polls are a little irregular, and one may be late.
const GAP_FACTOR: i64 = 3;

/// Cells of equal length over a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub from: i64,
    pub step: i64,
    pub cells: usize,
}

impl Grid {
    /// At most `points` cells (and one) whose edges do not depend on where the range begins, so that a plot
    /// that is drawn again a moment later does not flicker.
    #[must_use]
    pub fn aligned(range: Range, points: usize) -> Self {
        let wanted = (range.to - range.from) / i64::try_from(points.max(1)).unwrap_or(i64::MAX);
        let longest = STEPS_MS[STEPS_MS.len() - 1];
        let step = STEPS_MS.into_iter().find(|step| *step >= wanted).unwrap_or(longest.max(wanted + 1));
        let from = range.from.div_euclid(step) * step;
        Self { from, step, cells: usize::try_from((range.to - from) / step + 1).unwrap_or(1) }
    }

    /// Exactly `cells` cells.
    #[must_use]
    pub fn exact(range: Range, cells: usize) -> Self {
        let count = i64::try_from(cells.max(1)).unwrap_or(i64::MAX);
        Self { from: range.from, step: ((range.to - range.from) / count + 1).max(1), cells: cells.max(1) }
    }

    /// The cell of a time. A time outside of the grid belongs to the first or last cell.
    #[must_use]
    pub fn cell(&self, at: i64) -> usize {
        usize::try_from((at - self.from) / self.step).unwrap_or(0).min(self.cells - 1)
    }
}

/// What fell into one cell: at least one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub first_at: i64,
    pub last_at: i64,
    pub min: f64,
    pub max: f64,
    pub last: f64,
    pub count: u32,
}

impl Bucket {
    /// The mean distance of its samples; 0 where there is but one.
    fn apart(&self) -> i64 {
        (self.last_at - self.first_at) / i64::from(self.count.saturating_sub(1).max(1))
    }
}

/// `[last_at, last]`, or `[last_at, min, max, last]` where they differ.
impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        list.serialize_element(&self.last_at)?;
        #[expect(clippy::float_cmp, reason = "the very same number")]
        if self.min != self.max {
            list.serialize_element(&Shortest(self.min))?;
            list.serialize_element(&Shortest(self.max))?;
        }
        list.serialize_element(&Shortest(self.last))?;
        list.end()
    }
}

/// Whole numbers without `.0`: half of a page's points are such.
pub(super) struct Shortest(pub(super) f64);

impl Serialize for Shortest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        if self.0.fract() == 0.0 && self.0.abs() < 1e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// Samples without a number, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Silence {
    pub from: i64,
    pub until: i64,
    /// How they ended: `empty`, `timeout`, ...
    pub outcome: String,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    number: Option<Bucket>,
    silence: Option<Silence>,
}

/// The cells of one trigger.
#[derive(Clone, Debug)]
pub struct Buckets {
    grid: Grid,
    cells: Vec<Cell>,
    samples: u64,
}

impl Buckets {
    #[must_use]
    pub fn new(grid: Grid) -> Self {
        Self { grid, cells: vec![Cell::default(); grid.cells], samples: 0 }
    }

    /// Takes one sample.
    pub fn add(&mut self, at: i64, value: &SampleValue) {
        match value {
            SampleValue::Number(number) => {
                let (min, max, last) = (*number, *number, *number);
                self.merge(&Bucket { first_at: at, last_at: at, min, max, last, count: 1 });
            }
            SampleValue::Outcome(outcome) => self.silence(at, at, outcome, 1),
        }
    }

    /// Takes samples without a number, the last of which ended as `outcome`.
    pub fn silence(&mut self, from: i64, until: i64, outcome: &str, count: u32) {
        self.samples += u64::from(count);
        match &mut self.cells[self.grid.cell(from)].silence {
            Some(silence) => {
                silence.from = silence.from.min(from);
                if until >= silence.until {
                    silence.until = until;
                    outcome.clone_into(&mut silence.outcome);
                }
            }
            none => *none = Some(Silence { from, until, outcome: outcome.to_owned() }),
        }
    }

    /// Takes several samples that are already one: a single sample is the smallest of such, a row of a roll-up
    /// another, which belongs to the cell of its last sample.
    pub fn merge(&mut self, part: &Bucket) {
        self.samples += u64::from(part.count);
        match &mut self.cells[self.grid.cell(part.last_at)].number {
            Some(bucket) => {
                bucket.min = bucket.min.min(part.min);
                bucket.max = bucket.max.max(part.max);
                bucket.first_at = bucket.first_at.min(part.first_at);
                if part.last_at >= bucket.last_at {
                    (bucket.last_at, bucket.last) = (part.last_at, part.last);
                }
                bucket.count += part.count;
            }
            none => *none = Some(*part),
        }
    }

    /// How many samples went in.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The points in order, broken where nothing is known: where samples had no number, and where there were
    /// none for much longer than usual around there (whatever the polling interval is or was).
    #[must_use]
    pub fn stretches(&self) -> Vec<Vec<Bucket>> {
        let mut points: Vec<(Bucket, bool)> = Vec::new();
        let mut silent = false;
        for cell in &self.cells {
            match (cell.number, &cell.silence) {
                (Some(bucket), _) => {
                    points.push((bucket, silent));
                    silent = false;
                }
                (None, Some(_)) => silent = true,
                (None, None) => {}
            }
        }
        let pauses: Vec<i64> = points.windows(2).map(|pair| pair[1].0.first_at - pair[0].0.last_at).collect();
        let mut stretches: Vec<Vec<Bucket>> = Vec::new();
        let mut before: Option<Bucket> = None;
        for (i, (bucket, after_silence)) in points.into_iter().enumerate() {
            // Within both neighbours samples may lie farther apart than the pauses between cells show.
            let apart = before.map_or(0, |before| before.apart().min(bucket.apart()));
            let goes_on = i > 0 && !after_silence && !is_gap(&pauses, i - 1, apart);
            match stretches.last_mut() {
                Some(stretch) if goes_on => stretch.push(bucket),
                _ => stretches.push(vec![bucket]),
            }
            before = Some(bucket);
        }
        stretches
    }

    /// Cells that have samples and no number, neighbours of the same outcome together.
    #[must_use]
    pub fn silences(&self) -> Vec<Silence> {
        let mut silences: Vec<Silence> = Vec::new();
        let mut goes_on = false;
        for cell in &self.cells {
            match (&cell.number, &cell.silence) {
                (None, Some(found)) => {
                    match silences.last_mut() {
                        Some(last) if goes_on && last.outcome == found.outcome => last.until = found.until,
                        _ => silences.push(found.clone()),
                    }
                    goes_on = true;
                }
                (Some(_), _) => goes_on = false,
                // Between two polls a cell may be empty. A longer gap is visible in the plot.
                (None, None) => {}
            }
        }
        silences
    }
}

/// Compares a pause with up to two on either side, so that a longer polling interval is no gap, and with how far
/// `apart` samples are there otherwise.
fn is_gap(pauses: &[i64], i: usize, apart: i64) -> bool {
    let mut around: Vec<i64> = pauses[i.saturating_sub(2)..i].to_vec();
    around.extend(pauses[i + 1..].iter().take(2));
    around.sort_unstable();
    around.get(around.len() / 2).is_some_and(|usual| pauses[i] > (*usual).max(apart).max(1_000) * GAP_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> SampleValue {
        SampleValue::Number(value)
    }

    fn grid(from: i64, to: i64, points: usize) -> Grid {
        Grid::aligned(Range { from, to }, points)
    }

    #[test]
    fn grids_have_steps_that_people_count_in() {
        assert_eq!(grid(0, 3_600_000, 1_000), Grid { from: 0, step: 5_000, cells: 721 });
        // The same cells a moment later.
        assert_eq!(grid(3_210, 3_603_210, 1_000), Grid { from: 0, step: 5_000, cells: 721 });
        assert_eq!(grid(0, 30 * 86_400_000, 1_000).step, 3_600_000);
        assert_eq!(grid(0, 0, 10).cells, 1);
        let century = grid(0, 100 * 31_536_000_000, 2);
        assert!(century.cells <= 3, "{century:?}");
        let exact = Grid::exact(Range { from: 10, to: 1_000 }, 7);
        assert_eq!((exact.cells, exact.cell(10), exact.cell(1_000), exact.cell(5_000)), (7, 0, 6, 6));
    }

    #[test]
    fn a_bucket_keeps_extremes_and_the_last_whatever_the_order() {
        let mut buckets = Buckets::new(grid(0, 9_999, 1));
        for (at, value) in [(3_000, 5.0), (2_000, 9.0), (1_000, -2.0), (1_500, 0.0)] {
            buckets.add(at, &number(value));
        }
        let stretches = buckets.stretches();
        let expected = Bucket { first_at: 1_000, last_at: 3_000, min: -2.0, max: 9.0, last: 5.0, count: 4 };
        assert_eq!(stretches, [[expected]]);
        assert_eq!(serde_json::to_string(&stretches).expect("json"), "[[[3000,-2,9,5]]]");
        assert_eq!(buckets.samples(), 4);
    }

    #[test]
    fn silence_and_long_pauses_break_the_line() {
        let mut buckets = Buckets::new(grid(0, 600_000, 600));
        for at in (0..100_000).step_by(15_000) {
            buckets.add(at, &number(1.0));
        }
        buckets.add(105_000, &SampleValue::Outcome("timeout".into()));
        buckets.add(120_000, &SampleValue::Outcome("timeout".into()));
        buckets.add(135_000, &SampleValue::Outcome("status".into()));
        for at in (150_000..200_000).step_by(15_000) {
            buckets.add(at, &number(2.0));
        }
        // Nothing at all for 2 minutes.
        for at in (320_000..400_000).step_by(15_000) {
            buckets.add(at, &number(0.0));
        }
        let lengths: Vec<usize> = buckets.stretches().iter().map(Vec::len).collect();
        assert_eq!(lengths, [7, 4, 6]);
        let silences = buckets.silences();
        let expected = [(105_000, 120_000, "timeout"), (135_000, 135_000, "status")];
        assert_eq!(silences.iter().map(|s| (s.from, s.until, s.outcome.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_longer_interval_is_no_gap() {
        let mut buckets = Buckets::new(grid(0, 3_600_000, 1_000));
        for at in (0..600_000).step_by(15_000).chain((900_000..3_600_000).step_by(300_000)) {
            buckets.add(at, &number(1.0));
        }
        assert_eq!(buckets.stretches().len(), 1);
    }

    #[test]
    fn coarse_cells_hide_no_outage() {
        // A day in cells of 5 minutes, an hour of it without samples.
        let mut buckets = Buckets::new(grid(0, 86_400_000, 300));
        for at in (0..86_400_000).step_by(15_000).filter(|at| !(7_200_000..10_800_000).contains(at)) {
            buckets.add(at, &number(1.0));
        }
        assert_eq!(buckets.stretches().len(), 2);
        assert_eq!(Buckets::new(grid(0, 1, 1)).stretches(), Vec::<Vec<Bucket>>::new());
    }
}
