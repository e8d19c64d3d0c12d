//! Records what was lost and why, until it can be written to the table `loss`.

use std::time::Duration;

use rusqlite::params;

use super::prepared::Prepared;
use super::sql::Sql;
use super::{clock, rows};

/// Losses of the same cause that are this close to each other share one row.
const SAME_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Lost samples and other records, out of the counters' totals, that are recorded or need no record.
    recorded: (u64, u64),
    /// First failure since the last success.
    trouble: Option<(i64, String)>,
    /// Id, end and cause of the newest row.
    row: Option<(i64, i64, String)>,
    /// When there was last nothing to record.
    well_unix_ms: i64,
}

impl Losses {
    /// Notes that writing failed.
    pub(crate) fn begin(&mut self, error: &rusqlite::Error) {
        self.trouble.get_or_insert_with(|| (clock::now_unix_ms(), error.to_string()));
    }

    /// Excludes samples that are counted as lost although no failure lost them.
    pub(crate) fn explain(&mut self, samples: u64) {
        self.recorded.0 += samples;
    }

    /// Forgets the newest row, because the history continues in another file.
    pub(crate) fn reset_row(&mut self) {
        self.row = None;
    }

    /// Records what was lost, given the counters' totals, now that writing works again.
    pub(crate) fn write(&mut self, prepared: &mut Prepared<'_>, lost: (u64, u64)) -> Result<(), rusqlite::Error> {
        let now = clock::now_unix_ms();
        let count = |total: u64, recorded: u64| i64::try_from(total.saturating_sub(recorded)).unwrap_or(i64::MAX);
        let (samples, others) = (count(lost.0, self.recorded.0), count(lost.1, self.recorded.1));
        if samples + others > 0 {
            let (from, cause) = self.trouble.clone().unwrap_or_else(|| {
                let from = if self.well_unix_ms == 0 { now } else { self.well_unix_ms };
                (from, "more came than could be written".to_owned())
            });
            match &mut self.row {
                Some((id, until, before))
                    if *before == cause && from.saturating_sub(*until) < rows::millis(SAME_WITHIN) =>
                {
                    prepared.execute(Sql::GrowLoss, params![*id, now, samples, others])?;
                    *until = now;
                }
                row => {
                    let id = prepared.insert(Sql::InsertLoss, params![from, now, samples, others, cause])?;
                    *row = Some((id, now, cause));
                }
            }
            self.recorded = lost;
        }
        self.trouble = None;
        self.well_unix_ms = now;
        Ok(())
    }
}
