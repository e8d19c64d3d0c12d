//! Stores samples and compacts them later: the head is packed into blocks, small blocks are merged and rolled up,
//! expired rows are deleted, and free pages are returned to the file system.
//!
//! Owns the sizes and their arithmetic. All work is done in slices of one short transaction, because the writer calls
//! this between flushes and has to write decisions without delay.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::age::{AgeClock, Kept};
use super::block::{delete_empty_block, read_chunk, read_value, write_chunks, write_level_one};
use super::chunk::{ChunkId, Point, SAMPLES_PER_CHUNK, SERIES_MAX, SampleValue, TEXT_BYTES_MAX, as_integer, unpack};
use super::clock;
use super::counters::Counters;
use super::masking;
use super::prepared::Prepared;
use super::retention::{self, Retention};
use super::rollup::{self, Unrolled};
use super::sql::Sql;

/// The head is packed when it has this many rows: reading one series scans all of it, at about 60 ns a row, so 2 ms.
const HEAD_ROWS: i64 = 32_768;

/// The head is also packed when its oldest row is this old, which lets 100 triggers polled every 30 s reach chunks of
/// 120 samples directly.
const HEAD_AGE_MS: i64 = 3_600_000;

/// A flush of at least this many samples skips the head and becomes a block: writing them twice costs more than small
/// chunks, which merging repairs.
const DIRECT_SAMPLES: usize = 16_384;

/// Blocks whose chunks hold fewer samples on average are merged. The row overhead of a chunk is about 35 bytes: one a
/// sample at 36. Chunks whose text is at its limit hold about 44 samples if no values repeat.
const CHUNK_GOAL: i64 = 36;

/// Upper and lower bound on the blocks merged into one. Each merge writes a sample again, at about 6 to 20 bytes, so
/// few merges of many blocks are best; the exact number is the one that fills chunks best, since a remainder of some
/// samples would take a row of its own.
const MERGE_BLOCKS: i64 = 20;
const MERGE_BLOCKS_MIN: i64 = 4;

/// Chunks of a block that are read to estimate how many samples a full one will hold.
const MERGE_SAMPLED: i64 = 64;

/// Blocks of this level are not merged: those whose series are too short or values too long for the goal would be
/// rewritten forever.
const LEVEL_MAX: i64 = 4;

/// Samples in one slice of a merge: at 1 µs to read, sort, pack and write each, this takes 16 ms.
const SLICE_SAMPLES: i64 = 16_384;

/// If a slice of merging or rolling up took longer than the first limit, the next has half its size, down to a 32nd; if
/// it took less than the second, the next has twice its size, up to the whole. A write waits for at most one slice, and
/// must not wait for 50 ms.
const SLICE_LONG: Duration = Duration::from_millis(25);
const SLICE_SHORT: Duration = Duration::from_millis(8);
const HALVINGS_MAX: u32 = 5;

/// How often to look for expired rows once none were found.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// A block with small chunks that found no others to merge with is rolled up at this age anyway.
const ROLL_AGE: Duration = Duration::from_secs(6 * 3600);

/// Name in `kv` of the time that was believed last.
const BELIEVED: &str = "believed-time";

pub(crate) struct Compaction {
    retention: Retention,
    age: AgeClock,
    /// Since this process began to write, the file says what time is believed.
    is_age_kept: bool,
    head_rows: i64,
    head_oldest_unix_ms: i64,
    expire_next_unix_ms: i64,
    /// Time of the last expiry; later than now if the clock was set back since.
    expired_at_unix_ms: i64,
    /// A block was written since the last search for blocks to merge.
    fresh_block: bool,
    /// How often the slice size is currently halved on this machine.
    halvings: u32,
    /// Rows of an earlier version may still have to be masked.
    unmasked: bool,
}

impl Compaction {
    pub(crate) fn load(prepared: &mut Prepared<'_>, retention: Retention) -> Result<Self, rusqlite::Error> {
        let (head_rows, head_oldest_unix_ms) =
            prepared.get(Sql::HeadStats)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let kept = kept_age(prepared)?;
        Ok(Self {
            retention,
            age: AgeClock::new(clock::now_unix_ms(), kept, clock::now()),
            is_age_kept: false,
            head_rows,
            head_oldest_unix_ms,
            expire_next_unix_ms: 0,
            expired_at_unix_ms: 0,
            fresh_block: true,
            halvings: 0,
            unmasked: true,
        })
    }

    /// Counts the head again after a failed transaction.
    pub(crate) fn reload(&mut self, prepared: &mut Prepared<'_>) -> Result<(), rusqlite::Error> {
        *self = Self {
            age: self.age,
            expire_next_unix_ms: self.expire_next_unix_ms,
            expired_at_unix_ms: self.expired_at_unix_ms,
            halvings: self.halvings,
            ..Self::load(prepared, self.retention)?
        };
        Ok(())
    }

    /// Stores the samples of a flush within the caller's transaction.
    pub(crate) fn store(
        &mut self,
        prepared: &mut Prepared<'_>,
        samples: &mut [(i64, Point)],
    ) -> Result<(), rusqlite::Error> {
        // Before the first rows that may have a wrong time are committed.
        if !self.is_age_kept {
            self.keep_age(prepared, clock::now_unix_ms())?;
        }
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

    /// Writes down what time is believed, for the next process.
    pub(crate) fn keep_age(&mut self, prepared: &mut Prepared<'_>, now_unix_ms: i64) -> Result<(), rusqlite::Error> {
        let kept = self.age.kept(now_unix_ms, clock::now());
        prepared.execute(Sql::WriteKv, params![BELIEVED, kept.to_string(), now_unix_ms])?;
        self.is_age_kept = true;
        Ok(())
    }

    /// Returns whether there is work that does not depend on age.
    pub(crate) fn is_due(&self) -> bool {
        self.fresh_block || self.head_rows >= HEAD_ROWS
    }

    /// Does one slice of work; returns false if there is none.
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

    /// Deletes a slice of rows that are expired or exceed the size cap, or returns some free pages to the file system.
    fn delete(
        &mut self,
        prepared: &mut Prepared<'_>,
        now_unix_ms: i64,
        counters: &Counters,
    ) -> Result<bool, rusqlite::Error> {
        let retention = self.retention;
        // Samples are dropped first, including those in the head: packing moves them into a block like the others.
        if self.head_rows > 0 && retention::is_over(prepared, &retention)? && !retention::has_block(prepared)? {
            self.pack_head(prepared)?;
            return Ok(true);
        }
        if in_transaction(prepared, |prepared| retention::shrink(prepared, &retention, counters))? {
            return Ok(true);
        }
        if now_unix_ms >= self.expire_next_unix_ms || now_unix_ms < self.expired_at_unix_ms {
            let aged_unix_ms = self.age.at(now_unix_ms, clock::now());
            if in_transaction(prepared, |prepared| retention::expire(prepared, &retention, aged_unix_ms))? {
                return Ok(true);
            }
            self.keep_age(prepared, now_unix_ms)?;
            self.expired_at_unix_ms = now_unix_ms;
            self.expire_next_unix_ms = now_unix_ms.saturating_add(super::rows::millis(EXPIRE_EVERY));
        }
        retention::free_pages(prepared)
    }
}

/// Returns what time the process of before believed; in a file of one that did not write that down, the time of the newest
/// row.
fn kept_age(prepared: &mut Prepared<'_>) -> Result<Option<Kept>, rusqlite::Error> {
    let text: Option<String> = prepared.get(Sql::ReadKv)?.query_row([BELIEVED], |row| row.get(0)).optional()?;
    if let Some(kept) = text.and_then(|text| Kept::parse(&text)) {
        return Ok(Some(kept));
    }
    let newest: Option<i64> = prepared.get(Sql::NewestRow)?.query_row([], |row| row.get(0))?;
    Ok(newest.map(|believed_unix_ms| Kept { believed_unix_ms, ahead_since_unix_ms: None }))
}

/// Returns how often to halve the next slice after one that took `took`.
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

/// Starts or continues a merge; returns false if nothing needs merging.
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

/// Returns the number of blocks that fills chunks best, if all are like one with `samples` in `chunks`, and `held`
/// samples take `texts` bytes of text.
fn merged_blocks(samples: i64, chunks: i64, texts: i64, held: i64) -> i64 {
    // In hundredths of samples; slightly below what the text limit allows, since samples differ in length.
    let text_max = i64::try_from(TEXT_BYTES_MAX).unwrap_or(i64::MAX);
    let longest = i64::try_from(SAMPLES_PER_CHUNK).unwrap_or(i64::MAX) * 100;
    let full = (held * text_max * 98 / texts.max(1)).clamp(100, longest);
    let one = (samples * 100 / chunks.max(1)).max(1);
    let filled = |blocks: &i64| {
        let all = blocks * one;
        // Fill level of these chunks in thousandths.
        all * 1_000 / (full * ((all + full - 1) / full))
    };
    (MERGE_BLOCKS_MIN..=MERGE_BLOCKS).max_by_key(filled).unwrap_or(MERGE_BLOCKS)
}

/// Rolls up a slice of a block that is ready for it; returns false if there is none.
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
            // An unreadable chunk is dropped here; only a damaged file has one.
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
    use crate::store::schema;
    use rusqlite::Connection;

    /// A bad answer of a time server must not make the history expire.
    #[test]
    fn a_wall_clock_that_is_ahead_for_a_while_deletes_nothing() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        let now = clock::now_unix_ms();
        for at in [now, now - 40 * 86_400_000] {
            connection
                .execute(
                    "INSERT INTO loss (from_unix_ms, until_unix_ms, samples, others, cause) VALUES (?1, ?1, 0, 0, '')",
                    [at],
                )
                .expect("a row");
        }
        let mut prepared = Prepared::new(&connection);
        let mut compaction = Compaction::load(&mut prepared, Retention::default()).expect("it loads");
        let mut left = |now| {
            while compaction.step(&mut prepared, now, &Counters::default()).expect("a slice") {}
            connection.query_row("SELECT count(*) FROM loss", [], |row| row.get::<_, i64>(0)).expect("a count")
        };
        assert_eq!(left(now), 1, "the old one is deleted");
        assert_eq!(left(now + 200 * 86_400_000), 1);
    }

    /// Regression: what a first start wrote with the wrong time made the second believe the clock at once.
    #[test]
    fn a_second_start_while_the_clock_is_ahead_deletes_nothing_either() {
        const DAY: i64 = 86_400_000;
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        let now = clock::now_unix_ms();
        connection
            .execute_batch(&format!(
                "INSERT INTO scaled_object VALUES (1, 'keda.sh', 'a', 'b', 'u', 1, NULL);
                 INSERT INTO decision (object_id, at_unix_ms, reason, detail, from_replicas, to_replicas, triggers_json, min_replicas, force_activation)
                     SELECT 1, {now} - value * {DAY}, 'Inactive', '', 0, 0, '[]', 0, 0 FROM json_each('[62, 61, 60]');",
            ))
            .expect("rows");
        let kept =
            || connection.query_row("SELECT count(*) FROM decision", [], |row| row.get::<_, i64>(0)).expect("a count");
        let start = |ends_orderly: bool| {
            let mut prepared = Prepared::new(&connection);
            let mut compaction = Compaction::load(&mut prepared, Retention::default()).expect("it loads");
            let point = Point { at_unix_ms: clock::now_unix_ms(), value: SampleValue::Number(1.0), latency_ms: 1 };
            compaction.store(&mut prepared, &mut [(1, point)]).expect("a sample");
            if ends_orderly {
                while compaction.step(&mut prepared, clock::now_unix_ms(), &Counters::default()).expect("a slice") {}
                compaction.keep_age(&mut prepared, clock::now_unix_ms()).expect("it ends");
            }
        };
        for ends_orderly in [false, true, true] {
            start(ends_orderly);
            assert_eq!(kept(), 3);
        }
        // The clock is right after all, as it has been where it is for six hours.
        let name = [BELIEVED];
        connection
            .execute(
                &format!("UPDATE kv SET value = ({now} - 60 * {DAY}) || ' ' || ({now} - 21600000) WHERE name = ?1"),
                name,
            )
            .expect("kv");
        start(true);
        assert_eq!(kept(), 1, "the newest is kept for ever");
    }

    #[test]
    fn slices_shrink_on_a_slow_machine_and_grow_again() {
        let ms = Duration::from_millis;
        assert_eq!((halvings(0, ms(26)), halvings(0, ms(25)), halvings(0, ms(1))), (1, 0, 0));
        assert_eq!((halvings(3, ms(7)), halvings(3, ms(8)), halvings(HALVINGS_MAX, ms(90))), (2, 3, HALVINGS_MAX));
    }

    #[test]
    fn as_many_blocks_are_merged_as_fill_chunks() {
        // At 3.3 samples of 22 bytes a chunk, 12 blocks make one chunk of 39, while 16 would leave a remainder of 8.
        assert_eq!(merged_blocks(33_000, 10_000, 22_000, 1_000), 12);
        // At 33 samples a chunk, 18 blocks have 594 samples, which fill 14 chunks.
        assert_eq!(merged_blocks(33_000, 1_000, 22_000, 1_000), 18);
        // Repeating values: two chunks of the maximum number of samples.
        assert_eq!(merged_blocks(33_000, 1_000, 3_000, 1_000), 14);
        // Few enough to fit into one chunk.
        assert_eq!(merged_blocks(10_000, 10_000, 22_000, 1_000), MERGE_BLOCKS);
        assert_eq!(merged_blocks(0, 0, 0, 0), MERGE_BLOCKS);
    }
}
