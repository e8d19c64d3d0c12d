//! Reads the history: for plots and the page ([`Snapshot`]), and for explanations ([`Evidence`]).
//!
//! Owns which rows belong to a time range, and one type for each kind of row. All reads share one snapshot and one
//! deadline. Interpreting the rows is up to [`crate::history`] and [`crate::explain`].

mod evidence;
mod row;
mod snapshot;

pub use evidence::{CHANGE_SETTLES_MS, Evidence};
pub use row::{
    ConditionRow, DecidedRow, DecisionRow, DefinitionRow, ErrorRow, HpaRow, InterruptionRow, Life, Listing, LossRow,
    ObjectRow, Range, ReplicaRow, RunRow, SeriesRow,
};
pub use snapshot::{NEWEST_WITHIN_MS, Snapshot};

use std::collections::HashMap;
use std::sync::Arc;

use super::chunk::SampleValue;
use super::clock;
use super::error::Error;
use super::reader::Reader;
use super::sql::{LAST_SAMPLE, Sql};
use crate::scaling::event::HeldValue;
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};

/// Result of a read within [`Reader::snapshot`], which converts the error into an [`Error`].
pub type Found<T> = Result<T, rusqlite::Error>;

impl Reader {
    /// Returns the samples of one trigger since a time, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn samples(
        &mut self,
        object: &ObjectKey,
        trigger: u16,
        since: UnixMillis,
    ) -> Result<Vec<(UnixMillis, SampleValue)>, Error> {
        let range = Range { from: since.0, to: i64::MAX };
        self.snapshot(|snapshot| {
            let mut wanted = HashMap::new();
            for life in snapshot.lives(object)? {
                let series = snapshot.series(life.id, range)?;
                wanted.extend(series.iter().filter(|one| one.trigger == trigger).map(|one| (one.id, 0)));
            }
            let mut found = Vec::new();
            snapshot.samples(&wanted, range, |_, at, value| found.push((UnixMillis(at), value.clone())))?;
            found.sort_by_key(|(at, _)| *at);
            Ok(found)
        })
    }

    /// Returns the last values of all living triggers that hold theirs while there is none, if they have one of the last
    /// day. When the time limit is over, each namespace has had its share of it.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn held_values(&mut self) -> Result<HashMap<ObjectKey, Vec<HeldValue>>, Error> {
        let deadline = clock::now() + self.time_left();
        self.held_values_until(|| clock::now() >= deadline)
    }

    fn held_values_until(
        &mut self,
        is_over: impl FnMut() -> bool,
    ) -> Result<HashMap<ObjectKey, Vec<HeldValue>>, Error> {
        self.snapshot(|snapshot| {
            let mut triggers = Vec::new();
            let mut statement = snapshot.connection.prepare(Sql::HeldSeries.text())?;
            let mut rows = statement.query([])?;
            // How many triggers of its namespace come before each.
            let mut by_namespace: HashMap<Arc<str>, usize> = HashMap::new();
            while let Some(row) = rows.next()? {
                let Some(group) = ApiGroup::from_name(row.get_ref(1)?.as_str()?) else { continue };
                let key = ObjectKey::new(group, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
                let series: i64 = row.get(0)?;
                let before = by_namespace.entry(Arc::clone(&key.namespace)).or_default();
                triggers.push((*before, series, key, row.get::<_, i64>(4)?, row.get::<_, u16>(5)?));
                *before += 1;
            }
            if triggers.is_empty() {
                return Ok(HashMap::new());
            }
            triggers.sort_by_key(|(before, ..)| *before);
            let last: i64 = snapshot.connection.query_row(LAST_SAMPLE, [], |row| row.get(0))?;
            let since = last - NEWEST_WITHIN_MS;
            let series: Vec<i64> = triggers.iter().map(|(_, series, ..)| *series).collect();
            let newest = snapshot.newest_numbers(&series, since, is_over)?;
            let mut held: HashMap<ObjectKey, Vec<HeldValue>> = HashMap::new();
            for ((_, _, key, generation, trigger), newest) in triggers.into_iter().zip(newest) {
                if let Some((at, value)) = newest {
                    held.entry(key).or_default().push(HeldValue { generation, trigger, value, at: UnixMillis(at) });
                }
            }
            Ok(held)
        })
    }

    /// Calls `read` with one snapshot, within one time limit.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn snapshot<T>(&mut self, read: impl FnOnce(&Snapshot<'_>) -> Found<T>) -> Result<T, Error> {
        self.limited(|connection| {
            // A transaction, since packing moves samples from the head to a block.
            let transaction = connection.unchecked_transaction()?;
            read(&Snapshot::new(&transaction))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::chunk::Point;
    use crate::store::prepared::Prepared;
    use crate::store::{block, schema};

    /// Regression: one namespace with many such triggers took the time of all.
    #[test]
    fn each_namespace_has_its_share_of_the_time_for_held_values() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let mut file = rusqlite::Connection::open(&path).expect("a file");
        schema::migrate(&mut file, schema::version()).expect("it is migrated");
        for id in 1..=40_i64 {
            let namespace = if id <= 38 { "many".to_owned() } else { format!("few-{id}") };
            let object = "INSERT INTO scaled_object (id, api_group, namespace, name, added_at_unix_ms, uid) \
                          VALUES (?1, 'keda.sh', ?2, 'o' || ?1, 1, 'u')";
            file.execute(object, rusqlite::params![id, namespace]).expect("an object");
            let definition =
                "INSERT INTO definition (object_id, generation, from_unix_ms, spec_json) VALUES (?1, 1, 1, '\"hold\"')";
            file.execute(definition, [id]).expect("a definition");
            let series = "INSERT INTO series (id, object_id, trigger_index, kind, metric_name, server, query, threshold, \
                          activation_threshold, from_unix_ms) VALUES (?1, ?1, 0, '', '', '', '', 1, 0, 1)";
            file.execute(series, [id]).expect("a series");
        }
        // Numbers came three blocks ago.
        for at in 1..=4_i64 {
            let value = if at == 1 { SampleValue::Number(7.0) } else { SampleValue::Outcome("empty".into()) };
            let point = Point { at_unix_ms: at * 1_000, value, latency_ms: 1 };
            let mut samples: Vec<(i64, Point)> = (1..=40).map(|series| (series, point.clone())).collect();
            block::write_level_one(&mut Prepared::new(&file), &mut samples).expect("a block");
        }
        let mut reader = Reader::open(&path).expect("a reader");
        let all = reader.held_values().expect("they are read");
        assert!(all.len() == 40 && all.values().flatten().all(|held| (held.value, held.at.0) == (7.0, 1_000)));
        let mut left = 6;
        let some = reader.held_values_until(|| {
            left -= 1;
            left < 0
        });
        let mut namespaces: Vec<String> = some.expect("some").keys().map(|key| key.namespace.to_string()).collect();
        namespaces.sort();
        namespaces.dedup();
        assert_eq!(namespaces, ["few-39", "few-40", "many"]);
    }
}
