//! Predicts the next read of an object's metrics.
//!
//! The HPA controller reads at a constant period. A poll just before the next read gives it a fresh value without
//! waiting, and without polling more often than it reads.

use std::time::Duration;

use super::model::UnixMillis;

/// Reads closer together than this belong to one pass of the HPA controller over several metrics.
const BURST: Duration = Duration::from_millis(800);
/// Longer gaps are not periodic.
const PERIOD_MAX: Duration = Duration::from_secs(60);
/// How long before the expected read the poll starts: well within the two seconds that a value may be old, and enough
/// for a query to finish.
const LEAD: Duration = Duration::from_millis(700);

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReadCadence {
    last_read: Option<UnixMillis>,
    /// The last two gaps between reads.
    gaps: [Option<Duration>; 2],
}

impl ReadCadence {
    /// Records one read; returns when to poll for the next one, if reads are periodic.
    pub(super) fn read(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        let last = self.last_read.replace(now)?;
        let gap = now.since(last);
        if gap < BURST {
            self.last_read = Some(last);
            return None;
        }
        if gap > PERIOD_MAX {
            self.gaps = [None, None];
            return None;
        }
        self.gaps = [Some(gap), self.gaps[0]];
        // Another client may read in between, so the longer of two gaps is the period.
        let period = self.gaps.iter().flatten().max().copied()?;
        let lead = LEAD.min(period / 3);
        Some(now.plus(period.saturating_sub(lead)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polls(reads: &[i64]) -> Vec<Option<i64>> {
        let mut cadence = ReadCadence::default();
        reads.iter().map(|at| cadence.read(UnixMillis(*at)).map(|at| at.0)).collect()
    }

    #[test]
    fn a_steady_beat_is_met_just_before() {
        assert_eq!(polls(&[0, 15_000, 30_000]), [None, Some(29_300), Some(44_300)]);
        assert_eq!(polls(&[0, 1_500]), [None, Some(2_500)]);
    }

    #[test]
    fn several_metrics_of_one_pass_are_one_read() {
        assert_eq!(polls(&[0, 5, 10, 15_000, 15_006]), [None, None, None, Some(29_300), None]);
    }

    #[test]
    fn a_look_in_between_does_not_double_the_polls() {
        assert_eq!(polls(&[0, 15_000, 20_000, 30_000]), [None, Some(29_300), Some(34_300), Some(39_300)]);
    }

    #[test]
    fn rare_reads_have_no_cadence() {
        assert_eq!(polls(&[0, 70_000, 85_000]), [None, None, Some(99_300)]);
    }
}
