//! Gives each series a number that the id of a chunk has room for.
//!
//! There are 16 million of them, which edits of a few objects use up within hours. They are given out in turn, and once
//! all were, those that no series has any more are given out again, so that the longest time passes before. Samples and
//! roll-ups may outlive a series: what is left of a number is deleted before another series gets it.

use std::ops::Range;

use rusqlite::OptionalExtension as _;

use super::chunk::SERIES_MAX;
use super::prepared::Prepared;
use super::sql::Sql;

/// Numbers that are cleared at once. Each range is looked up in each block and hour, some thousands in all, so 10 ms.
const RANGE_MAX: i64 = 65_536;

/// What still has rows of numbers that no series has.
const LEFTOVERS: [Sql; 4] = [Sql::ClearHeadOf, Sql::ClearChunksOf, Sql::ClearMinutesOf, Sql::ClearHoursOf];

#[derive(Debug, Default)]
pub(crate) struct SeriesNumbers {
    /// No series has them, and nothing is left of an earlier one.
    free: Range<i64>,
}

impl SeriesNumbers {
    /// Goes on after the largest number in use.
    pub(crate) fn load(prepared: &mut Prepared<'_>) -> Result<Self, rusqlite::Error> {
        let next = prepared.get(Sql::LastSeries)?.query_row([SERIES_MAX], |row| row.get::<_, i64>(0))? + 1;
        Ok(Self { free: next..next })
    }

    /// Returns a number for a new series, or `None` if there are 16 million series.
    pub(crate) fn take(&mut self, prepared: &mut Prepared<'_>) -> Result<Option<i64>, rusqlite::Error> {
        if self.free.is_empty() {
            let last = self.free.end - 1;
            let Some(free) = find(prepared, last)?.map_or_else(|| find(prepared, 0), |free| Ok(Some(free)))? else {
                return Ok(None);
            };
            for statement in LEFTOVERS {
                prepared.execute(statement, [free.start, free.end - 1])?;
            }
            self.free = free;
        }
        Ok(self.free.next())
    }
}

/// Returns the first numbers after this one that no series has.
fn find(prepared: &mut Prepared<'_>, after: i64) -> Result<Option<Range<i64>>, rusqlite::Error> {
    let found: Option<(i64, i64)> = prepared
        .get(Sql::FreeSeries)?
        .query_row([after, SERIES_MAX], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(first, end)| first..end.min(first + RANGE_MAX)))
}
