//! Writes and reads the rows of blocks and their chunks, and deletes a block that became empty.

use rusqlite::params;

use super::chunk::{Chunk, ChunkId, NUMBER_MAX, Point, SERIES_MAX, SampleValue, pack};
use super::prepared::Prepared;
use super::sql::Sql;

pub(crate) fn write_level_one(
    prepared: &mut Prepared<'_>,
    samples: &mut [(i64, Point)],
) -> Result<(), rusqlite::Error> {
    let times = samples.iter().map(|(_, point)| point.at_unix_ms);
    let (Some(from), Some(until)) = (times.clone().min(), times.max()) else { return Ok(()) };
    let block = prepared.insert(Sql::InsertBlock, params![1, from, until, 0])?;
    write_chunks(prepared, block, samples)
}

/// Sorts and packs the samples of several series into a block that has no samples of these series yet.
pub(crate) fn write_chunks(
    prepared: &mut Prepared<'_>,
    block: i64,
    samples: &mut [(i64, Point)],
) -> Result<(), rusqlite::Error> {
    samples.sort_by_key(|(series_id, point)| (*series_id, point.at_unix_ms));
    let mut chunks: i64 = 0;
    let mut points = Vec::new();
    for run in samples.chunk_by(|a, b| a.0 == b.0) {
        let series = run[0].0;
        points.clear();
        points.extend(run.iter().map(|(_, point)| point.clone()));
        let insert = prepared.get(Sql::InsertChunk)?;
        let mut result = Ok(0);
        let mut number: i64 = 0;
        let mut refused = 0;
        pack(&points, |chunk| {
            // Beyond either limit there is no valid id. 4,096 chunks of a series in one block are 980,000 samples, or
            // as many jumps of its clock; no series has a larger number.
            if series > SERIES_MAX || number > NUMBER_MAX {
                refused += 1;
                return;
            }
            if result.is_ok() {
                result = insert.execute(params![
                    ChunkId::new(block, series, number).0,
                    chunk.base_unix_ms,
                    chunk.step_ms,
                    chunk.stride,
                    chunk.samples,
                    chunk.value_list,
                    chunk.latency_ms_total,
                    chunk.latency_ms_max
                ]);
            }
            number += 1;
        });
        result?;
        chunks += number;
        if refused > 0 {
            log::error!(series = series, chunks = refused; "samples lost: no number left for their chunks");
        }
    }
    let count = i64::try_from(samples.len()).unwrap_or(i64::MAX);
    prepared.execute(Sql::GrowBlock, params![block, count, chunks])?;
    Ok(())
}

pub(crate) fn read_value(row: &rusqlite::Row<'_>, column: usize) -> Result<SampleValue, rusqlite::Error> {
    use rusqlite::types::ValueRef;
    Ok(match row.get_ref(column)? {
        ValueRef::Text(_) => SampleValue::Outcome(row.get_ref(column)?.as_str()?.into()),
        _ => SampleValue::Number(row.get(column)?),
    })
}

pub(crate) fn delete_empty_block(prepared: &mut Prepared<'_>, block: i64) -> Result<(), rusqlite::Error> {
    let (first, last) = ChunkId::range(block, SERIES_MAX);
    if prepared.get(Sql::HasNoChunk)?.query_row([first, last], |row| row.get(0))? {
        prepared.execute(Sql::DeleteBlock, [block])?;
    }
    Ok(())
}

/// Reads base, step, stride, both lists, and the latencies if the statement selects them.
pub(crate) fn read_chunk(row: &rusqlite::Row<'_>, first: usize) -> Result<Chunk, rusqlite::Error> {
    let has_latency = row.as_ref().column_count() > first + 5;
    Ok(Chunk {
        base_unix_ms: row.get(first)?,
        step_ms: row.get(first + 1)?,
        stride: row.get(first + 2)?,
        samples: row.get(first + 3)?,
        value_list: row.get(first + 4)?,
        latency_ms_total: if has_latency { row.get(first + 5)? } else { 0 },
        latency_ms_max: if has_latency { row.get(first + 6)? } else { 0 },
    })
}
