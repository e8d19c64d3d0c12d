//! `hpalite compare`: where a shadow would have had other replicas than its target had.
//!
//! Reads the decisions that were only recorded. Such a decision has the actual count, the wanted one and the reason, and
//! there is a new one whenever one of the three changes.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::command::{find, unknown};
use crate::scaling::decision::WOULD_HAVE;
use crate::scaling::model::{ApiGroup, UnixMillis};
use crate::store::read::{DecisionRow, Range};
use crate::store::{Error, Reader, now_unix_ms};

/// Decisions read at most; of an object that changes each minute this is a month.
const ROWS_MAX: usize = 50_000;

/// Arguments of `hpalite compare`.
#[derive(Debug, PartialEq)]
pub struct Arguments {
    pub db: PathBuf,
    pub namespace: String,
    pub name: String,
    pub group: Option<ApiGroup>,
    pub since: Duration,
    pub json: bool,
}

/// A time in which the two counts differed. Times are milliseconds since 1970.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    from: i64,
    until: i64,
    actual: u32,
    wanted: u32,
    why: String,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Comparison {
    /// How long the object was a shadow.
    observed_ms: i64,
    differed_ms: i64,
    differences: Vec<Difference>,
}

/// Writes the comparison.
///
/// # Errors
/// A message that says what is wrong, and what to do about it.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let mut reader = Reader::open(&arguments.db).map_err(text)?;
    let Arguments { namespace, name, .. } = arguments;
    let key = find(&mut reader, namespace, name, arguments.group)?;
    let to = now_unix_ms();
    let from = to.saturating_sub(i64::try_from(arguments.since.as_millis()).unwrap_or(to));
    let comparison = reader.snapshot(|snapshot| {
        let mut comparison = Comparison::default();
        for life in snapshot.lives(&key)? {
            let end = life.removed_at.unwrap_or(to).min(to);
            let mut rows = snapshot.decisions(life.id, Range { from, to: end }, ROWS_MAX)?;
            if rows.len() < ROWS_MAX {
                rows.extend(snapshot.decisions(life.id, Range { from: i64::MIN, to: from - 1 }, 1)?);
            }
            rows.reverse();
            comparison.add(&rows, Range { from, to: end });
        }
        Ok(comparison)
    });
    let comparison = comparison.map_err(text)?;
    if comparison.observed_ms == 0 {
        return Err(format!(
            "{}; or it was no shadow in this time: see --shadow and the annotation hpalite.dev/mode",
            unknown(namespace, name, arguments.group)
        ));
    }
    let written = if arguments.json {
        serde_json::to_string(&comparison).map_err(|error| error.to_string())? + "\n"
    } else {
        comparison.text()
    };
    out.write_all(written.as_bytes()).map_err(|source| Error::Output { source }.to_string())
}

impl Comparison {
    /// Adds the decisions of one life, oldest first.
    fn add(&mut self, rows: &[DecisionRow], range: Range) {
        for (at, row) in rows.iter().enumerate() {
            let Some(why) = row.detail.strip_prefix(WOULD_HAVE) else { continue };
            let from = row.at.max(range.from);
            let until = rows.get(at + 1).map_or(range.to, |next| next.at).max(from);
            self.observed_ms += until - from;
            if row.from != row.to {
                self.differed_ms += until - from;
                let (actual, wanted) = (row.from, row.to);
                self.differences.push(Difference { from, until, actual, wanted, why: why.to_owned() });
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Difference { from, until, actual, wanted, why } in &self.differences {
            let (at, seconds) = (UnixMillis(*from), (until - from) / 1_000);
            text.push_str(&format!("{at} for {seconds} s: {actual} replicas, would have had {wanted}: {why}\n"));
        }
        let share = self.differed_ms.saturating_mul(100) / self.observed_ms.max(1);
        let (differed, observed) = (self.differed_ms / 1_000, self.observed_ms / 1_000);
        text.push_str(&format!("they differed in {differed} s of {observed} s, {share} %\n"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_which_both_differ_are_added_up() {
        let row = |at: i64, from: u32, to: u32, detail: &str| DecisionRow {
            at,
            from,
            to,
            detail: detail.to_owned(),
            ..DecisionRow::default()
        };
        let rows = [
            row(0, 3, 5, "would have: active"),
            row(20_000, 5, 5, "would have: active"),
            row(30_000, 5, 2, "active"),
            row(40_000, 5, 0, "would have: the cooldown is over"),
        ];
        let mut comparison = Comparison::default();
        comparison.add(&rows, Range { from: 10_000, to: 50_000 });
        assert_eq!((comparison.observed_ms, comparison.differed_ms), (30_000, 20_000));
        assert_eq!(
            comparison.text(),
            "1970-01-01T00:00:10Z for 10 s: 3 replicas, would have had 5: active\n\
             1970-01-01T00:00:40Z for 10 s: 5 replicas, would have had 0: the cooldown is over\n\
             they differed in 20 s of 30 s, 66 %\n"
        );
    }
}
