//! Stores samples and compacts them afterwards: the head is packed into blocks, small blocks are merged and rolled
//! up, what is too old is deleted, free pages return to the file system.
//!
//! Owns the sizes and their arithmetic. Everything is done in slices of one short transaction, since
//! the writer, which calls this between flushes, must keep its promise to write decisions at once.

use std::time::Duration;

use rusqlite::{Transaction, TransactionBehavior, params};

use super::block::{delete_empty_block, read_chunk, read_value, write_chunks, write_level_one};
use super::chunk::{ChunkId, Point, SAMPLES_PER_CHUNK, SERIES_MAX, SampleValue, TEXT_BYTES_MAX, as_integer, unpack};
use super::clock;
use super::counters::Counters;
use super::masking;
use super::prepared::Prepared;
use super::retention::{self, Retention};
use super::rollup::{self, Unrolled};
use super::sql::Sql;

/// The head is packed when it has this many rows: whoever reads one series scans all of it, about
/// 60 ns a row, so 2 ms.
const HEAD_ROWS: i64 = 32_768;

/// ... or when its oldest row is this old, which lets 100 triggers polled every 30 s reach chunks of
/// 120 samples at once.
const HEAD_AGE_MS: i64 = 3_600_000;

/// A flush of so many samples skips the head and becomes a block: writing them twice is dearer than
/// the small chunks, which merging mends.
const DIRECT_SAMPLES: usize = 16_384;

/// Blocks whose chunks hold fewer samples on average are merged. The row around a chunk is about
/// 35 bytes: one a sample at 36. When the text of chunks is at its limit they hold about 44 samples whose
/// values never repeat.
const CHUNK_GOAL: i64 = 36;

/// At most so many blocks become one, and at least. Each merge writes a sample once more, about 6 to 20
/// bytes, hence few merges of many blocks; how many exactly is what fills chunks best, since a rest of
/// some samples would cost a row of its own.
const MERGE_BLOCKS: i64 = 20;
const MERGE_BLOCKS_MIN: i64 = 4;

/// Chunks of a block that say how many samples a full one will hold.
const MERGE_SAMPLED: i64 = 64;

/// Blocks of this level are not merged: series that are too short, or values too long, for the goal
/// would be written again for ever.
const LEVEL_MAX: i64 = 4;

/// Samples in one slice of a merge: 1 µs to read, sort, pack and write one makes 16 ms.
const SLICE_SAMPLES: i64 = 16_384;

/// A slice of merging or rolling up that took longer than the first is followed by one of half its size, down
/// to a 32nd; one that took less than the second by one of twice its size, up to the whole. Writing waits for
/// one slice at most, and must not wait for 50 ms.
const SLICE_LONG: Duration = Duration::from_millis(25);
const SLICE_SHORT: Duration = Duration::from_millis(8);
const HALVINGS_MAX: u32 = 5;

/// How often retention looks for more once it found nothing.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// A block whose small chunks found no others to merge with is rolled up at this age all the same.
const ROLL_AGE: Duration = Duration::from_secs(6 * 3600);

pub(crate) struct Compaction {
    retention: Retention,
    head_rows: i64,
    head_oldest_unix_ms: i64,
    expire_next_unix_ms: i64,
    /// Of the last look; a clock that was set back is before it.
    expired_at_unix_ms: i64,
    /// A block was written since the last look for blocks to merge.
    fresh_block: bool,
    /// How often slices are halved on this machine now.
    halvings: u32,
    /// There may be rows of an earlier version that are to be masked.
    unmasked: bool,
}

impl Compaction {
    pub(crate) fn load(prepared: &mut Prepared<'_>, retention: Retention) -> Result<Self, rusqlite::Error> {
        let (head_rows, head_oldest_unix_ms) =
            prepared.get(Sql::HeadStats)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self {
            retention,
            head_rows,
            head_oldest_unix_ms,
            expire_next_unix_ms: 0,
            expired_at_unix_ms: 0,
            fresh_block: true,
            halvings: 0,
            unmasked: true,
        })
    }

    /// After a failed transaction: counts the head again.
    pub(crate) fn reload(&mut self, prepared: &mut Prepared<'_>) -> Result<(), rusqlite::Error> {
        *self = Self {
            expire_next_unix_ms: self.expire_next_unix_ms,
            expired_at_unix_ms: self.expired_at_unix_ms,
            halvings: self.halvings,
            ..Self::load(prepared, self.retention)?
        };
        Ok(())
    }

    /// Stores the samples of a flush, within its transaction.
    pub(crate) fn store(
        &mut self,
        prepared: &mut Prepared<'_>,
        samples: &mut [(i64, Point)],
    ) -> Result<(), rusqlite::Error> {
        if samples.len() >= DIRECT_SAMPLES {
            self.fresh_block = true;
            return write_level_one(prepared, samples);
        }
        let insert = prepared.get(Sql::InsertHead)?;
        for (series_id, point) in samples.iter() {
            match &point.value {
                SampleValue::Outcome(outcome) => {
                    insert.execute(params![series_id, point.at_unix_ms, &**outcome, point.latency_ms])?
                }
                SampleValue::Number(number) => match as_integer(*number) {
                    Some(integer) => insert.execute(params![series_id, point.at_unix_ms, integer, point.latency_ms])?,
                    None => insert.execute(params![series_id, point.at_unix_ms, number, point.latency_ms])?,
                },
            };
            if self.head_rows == 0 {
                self.head_oldest_unix_ms = point.at_unix_ms;
            }
            self.head_rows += 1;
        }
        Ok(())
    }

    /// Whether a step now has something to do other than by age.
    pub(crate) fn is_due(&self) -> bool {
        self.fresh_block || self.head_rows >= HEAD_ROWS
    }

    /// Does one slice of work; false when there is none.
    pub(crate) fn step(
        &mut self,
        prepared: &mut Prepared<'_>,
        now_unix_ms: i64,
        counters: &Counters,
    ) -> Result<bool, rusqlite::Error> {
        let begun = clock::now();
        let more = self.slice(prepared, now_unix_ms, counters);
        counters.note_upkeep(clock::now().duration_since(begun));
        more
    }

    fn slice(
        &mut self,
        prepared: &mut Prepared<'_>,
        now_unix_ms: i64,
        counters: &Counters,
    ) -> Result<bool, rusqlite::Error> {
        let head_age_ms = now_unix_ms.saturating_sub(self.head_oldest_unix_ms);
        if self.head_rows >= HEAD_ROWS || (self.head_rows > 0 && head_age_ms >= HEAD_AGE_MS) {
            self.pack_head(prepared)?;
            return Ok(true);
        }
        if self.unmasked {
            self.unmasked = in_transaction(prepared, masking::slice)?;
            return Ok(true);
        }
        let ripe_unix_ms = now_unix_ms.saturating_sub(super::rows::millis(ROLL_AGE.min(self.retention.samples)));
        let begun = clock::now();
        if merge(prepared, SLICE_SAMPLES >> self.halvings)?
            || roll(prepared, ripe_unix_ms, rollup::SLICE_SAMPLES >> self.halvings)?
        {
            self.halvings = halvings(self.halvings, clock::now().duration_since(begun));
            return Ok(true);
        }
        self.fresh_block = false;
        let begun = clock::now();
        let more = self.delete(prepared, now_unix_ms, counters);
        counters.note_deleting(clock::now().duration_since(begun));
        more
    }

    fn pack_head(&mut self, prepared: &mut Prepared<'_>) -> Result<(), rusqlite::Error> {
        in_transaction(prepared, pack_head)?;
        self.head_rows = 0;
        self.fresh_block = true;
        Ok(())
    }

    /// Deletes a slice of what is too much or too old, or gives some of the freed pages back.
    fn delete(
        &mut self,
        prepared: &mut Prepared<'_>,
        now_unix_ms: i64,
        counters: &Counters,
    ) -> Result<bool, rusqlite::Error> {
        let retention = self.retention;
        // Samples go first, those in the head among them: packed, they are in a block like the others.
        if self.head_rows > 0 && retention::is_over(prepared, &retention)? && !retention::has_block(prepared)? {
            self.pack_head(prepared)?;
            return Ok(true);
        }
        if in_transaction(prepared, |prepared| retention::shrink(prepared, &retention, counters))? {
            return Ok(true);
        }
        if now_unix_ms >= self.expire_next_unix_ms || now_unix_ms < self.expired_at_unix_ms {
            if in_transaction(prepared, |prepared| retention::expire(prepared, &retention, now_unix_ms))? {
                return Ok(true);
            }
            self.expired_at_unix_ms = now_unix_ms;
            self.expire_next_unix_ms = now_unix_ms.saturating_add(super::rows::millis(EXPIRE_EVERY));
        }
        retention::free_pages(prepared)
    }
}

/// How often to halve the next slice after one that took so long.
fn halvings(now: u32, took: Duration) -> u32 {
    if took > SLICE_LONG {
        (now + 1).min(HALVINGS_MAX)
    } else if took < SLICE_SHORT {
        now.saturating_sub(1)
    } else {
        now
    }
}

fn in_transaction<T>(
    prepared: &mut Prepared<'_>,
    work: impl FnOnce(&mut Prepared<'_>) -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    let transaction = Transaction::new_unchecked(prepared.connection, TransactionBehavior::Immediate)?;
    let done = work(prepared)?;
    transaction.commit()?;
    Ok(done)
}

fn pack_head(prepared: &mut Prepared<'_>) -> Result<(), rusqlite::Error> {
    let mut samples = Vec::new();
    let mut rows = prepared.get(Sql::ReadHead)?.query([])?;
    while let Some(row) = rows.next()? {
        let point = Point { at_unix_ms: row.get(1)?, value: read_value(row, 2)?, latency_ms: row.get(3)? };
        samples.push((row.get(0)?, point));
    }
    drop(rows);
    write_level_one(prepared, &mut samples)?;
    prepared.execute(Sql::ClearHead, [])?;
    Ok(())
}

/// Begins a merge or carries one on; false when nothing needs merging.
fn merge(prepared: &mut Prepared<'_>, slice: i64) -> Result<bool, rusqlite::Error> {
    let mut rows = prepared.get(Sql::MergeUnderWay)?.query([])?;
    let under_way: Option<i64> = rows.next()?.map(|row| row.get(0)).transpose()?;
    drop(rows);
    if let Some(target) = under_way {
        in_transaction(prepared, |prepared| merge_slice(prepared, target, slice))?;
        return Ok(true);
    }
    let mut rows = prepared.get(Sql::MergeCandidates)?.query([CHUNK_GOAL, MERGE_BLOCKS, LEVEL_MAX])?;
    let found: Option<(i64, i64)> = rows.next()?.map(TryInto::try_into).transpose()?;
    drop(rows);
    let Some((level, rolled)) = found else { return Ok(false) };
    in_transaction(prepared, |prepared| {
        let (first, samples, chunks): (i64, i64, i64) = prepared
            .get(Sql::MergeFirst)?
            .query_row([level, rolled, CHUNK_GOAL], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (from, until) = ChunkId::range(first, SERIES_MAX);
        let (texts, held): (i64, i64) = prepared
            .get(Sql::MergeTexts)?
            .query_row([from, until, MERGE_SAMPLED], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let blocks = merged_blocks(samples, chunks, texts, held);
        let span: (i64, i64) = prepared
            .get(Sql::MergeSpan)?
            .query_row([level, rolled, CHUNK_GOAL, blocks], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let target = prepared.insert(Sql::InsertBlock, params![level + 1, span.0, span.1, rolled])?;
        prepared.execute(Sql::MergeBegin, [target, level, rolled, CHUNK_GOAL, blocks])?;
        Ok(true)
    })
}

/// How many blocks fill chunks best, if all are like one of `samples` in `chunks`, and `held` samples take `texts`
/// bytes of text.
fn merged_blocks(samples: i64, chunks: i64, texts: i64, held: i64) -> i64 {
    // In hundredths of samples; some below what the text allows, since samples are not all alike.
    let text_max = i64::try_from(TEXT_BYTES_MAX).unwrap_or(i64::MAX);
    let longest = i64::try_from(SAMPLES_PER_CHUNK).unwrap_or(i64::MAX) * 100;
    let full = (held * text_max * 98 / texts.max(1)).clamp(100, longest);
    let one = (samples * 100 / chunks.max(1)).max(1);
    let filled = |blocks: &i64| {
        let all = blocks * one;
        // Of the room that these chunks have, in thousandths.
        all * 1_000 / (full * ((all + full - 1) / full))
    };
    (MERGE_BLOCKS_MIN..=MERGE_BLOCKS).max_by_key(filled).unwrap_or(MERGE_BLOCKS)
}

/// Rolls up a slice of a block that is ready for it; false when none is.
fn roll(prepared: &mut Prepared<'_>, ripe_unix_ms: i64, slice: i64) -> Result<bool, rusqlite::Error> {
    let mut rows = prepared.get(Sql::RollReady)?.query([CHUNK_GOAL, ripe_unix_ms, LEVEL_MAX])?;
    let block = rows.next()?.map(Unrolled::read).transpose()?;
    drop(rows);
    let Some(block) = block else { return Ok(false) };
    in_transaction(prepared, |prepared| rollup::roll_slice(prepared, block, slice))?;
    Ok(true)
}

/// Moves the next series, in order, from all sources to the target.
fn merge_slice(prepared: &mut Prepared<'_>, target: i64, slice: i64) -> Result<(), rusqlite::Error> {
    let mut sources: Vec<(i64, i64, i64)> = Vec::new();
    let mut rows = prepared.get(Sql::MergeSources)?.query([target])?;
    while let Some(row) = rows.next()? {
        sources.push((row.get(0)?, row.get(1)?, row.get(2)?));
    }
    drop(rows);
    let total: i64 = sources.iter().map(|source| source.1).sum::<i64>().max(1);
    let mut reach = SERIES_MAX;
    for (source, _, chunks) in &sources {
        // The source's share of a slice, in chunks.
        let ahead = (chunks.saturating_mul(slice) / total).max(1);
        let (first, last) = ChunkId::range(*source, SERIES_MAX);
        let mut rows = prepared.get(Sql::MergeReach)?.query([first, last, ahead])?;
        if let Some(row) = rows.next()? {
            reach = reach.min(ChunkId(row.get(0)?).series());
        }
    }
    let mut samples = Vec::new();
    for (source, ..) in &sources {
        let (first, last) = ChunkId::range(*source, reach);
        let mut rows = prepared.get(Sql::MergeRead)?.query([first, last])?;
        while let Some(row) = rows.next()? {
            let series_id = ChunkId(row.get(0)?).series();
            let chunk = read_chunk(row, 1)?;
            // A chunk that is not ours to read is lost here; nothing but damage makes one.
            let _ = unpack(&chunk, |point| samples.push((series_id, point)));
        }
        drop(rows);
        prepared.execute(Sql::MergeDelete, [first, last])?;
        delete_empty_block(prepared, *source)?;
    }
    write_chunks(prepared, target, &mut samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_shrink_on_a_slow_machine_and_grow_again() {
        let ms = Duration::from_millis;
        assert_eq!((halvings(0, ms(26)), halvings(0, ms(25)), halvings(0, ms(1))), (1, 0, 0));
        assert_eq!((halvings(3, ms(7)), halvings(3, ms(8)), halvings(HALVINGS_MAX, ms(90))), (2, 3, HALVINGS_MAX));
    }

    #[test]
    fn as_many_blocks_are_merged_as_fill_chunks() {
        // 3.3 samples a chunk, of 22 bytes each: 12 of them make one of 39, where 16 would leave a rest of 8.
        assert_eq!(merged_blocks(33_000, 10_000, 22_000, 1_000), 12);
        // 33 of them: 594 samples fill 14 chunks.
        assert_eq!(merged_blocks(33_000, 1_000, 22_000, 1_000), 18);
        // Values that repeat: two of as many as a chunk may have.
        assert_eq!(merged_blocks(33_000, 1_000, 3_000, 1_000), 14);
        // So few that all of them fit.
        assert_eq!(merged_blocks(10_000, 10_000, 22_000, 1_000), MERGE_BLOCKS);
        assert_eq!(merged_blocks(0, 0, 0, 0), MERGE_BLOCKS);
    }
}
