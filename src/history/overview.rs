//! All objects at a glance: state, newest value of each trigger, replicas, and a sparkline of the last hour.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Buckets, Grid, Shortest};
use crate::scaling::event::Absence;
use crate::scaling::model::{ConditionKind, Definition, UnixMillis};
use crate::store::read::{ConditionRow, Found, Listing, ObjectRow, Range, SeriesRow, Snapshot};
use crate::store::{Error, Reader, SampleValue};
use crate::wire::scaled_object;

/// The sparkline's time span and number of points.
const SPARK_MS: i64 = 3_600_000;
const SPARK_POINTS: usize = 60;

#[derive(Debug, Serialize)]
pub struct Overview {
    pub now: i64,
    /// Number of objects without the limit.
    pub total: usize,
    pub objects: Vec<ObjectOverview>,
}

#[derive(Debug, Serialize)]
pub struct ObjectOverview {
    pub namespace: String,
    pub name: String,
    pub group: &'static str,
    /// The first of these that applies: `removed`, `invalid`, `paused`, `fallback`, `error`, `active` or `idle`.
    pub state: &'static str,
    /// The reason, from the condition's message.
    pub message: String,
    /// When the state began, if it comes from a condition.
    pub since: Option<i64>,
    pub generation: Option<i64>,
    pub replicas: Option<u32>,
    pub added_at: i64,
    pub removed_at: Option<i64>,
    pub last_active_at: Option<i64>,
    pub triggers: Vec<TriggerOverview>,
    pub spark: Option<Spark>,
}

#[derive(Debug, Serialize)]
pub struct TriggerOverview {
    pub index: u16,
    pub metric: String,
    pub name: Option<String>,
    /// The newest number of the last hour, even if newer samples have none.
    pub value: Option<f64>,
    pub at: Option<i64>,
    /// Outcome of the newest sample: `ok`, or `timeout`, `empty`, ...; `None` without a sample.
    pub outcome: Option<String>,
    /// The error itself, or how an answer without a number is interpreted; `None` while there are numbers.
    pub says: Option<String>,
    /// The newest answer is neither a number nor counts as one.
    pub fails: bool,
    pub threshold: f64,
    pub activation: f64,
    /// What answers, without anything that may be secret; empty if nobody is asked.
    #[serde(skip)]
    pub server: String,
}

impl TriggerOverview {
    /// Returns what is wrong with the newest answer; `None` if it is a number, or stands for one.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        let outcome = self.outcome.as_deref().filter(|outcome| *outcome != "ok")?;
        let says = self.says.as_deref().unwrap_or(outcome);
        self.fails.then_some(says)
    }
}

/// The maximum of each cell of the first trigger; null without a number.
#[derive(Debug, Serialize)]
pub struct Spark {
    pub from: i64,
    pub step: i64,
    values: Vec<Option<Value>>,
}

#[derive(Debug, Clone)]
struct Value(f64);

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Four digits are finer than a pixel, and take a third of the bytes.
        Shortest(format!("{:.3e}", self.0).parse().unwrap_or(self.0)).serialize(serializer)
    }
}

#[derive(Default)]
struct Newest {
    number: Option<(i64, f64)>,
    sample: Option<(i64, Arc<str>)>,
}

/// Reads the overview as of `now`.
///
/// # Errors
/// When the file cannot be read in time.
pub fn load(reader: &mut Reader, listing: &Listing<'_>, now: i64) -> Result<Overview, Error> {
    reader.snapshot(|snapshot| {
        let (rows, total) = snapshot.objects(listing)?;
        let range = Range { from: now - SPARK_MS, to: now };
        let grid = Grid::aligned(range, SPARK_POINTS);
        let mut wanted = HashMap::new();
        let mut series = Vec::new();
        let mut series_of = Vec::new();
        for row in &rows {
            let first = series.len();
            let measured = if row.removed_at.is_none() { snapshot.series(row.id, range)? } else { Vec::new() };
            series.extend(measured.iter().filter(|series| series.until.is_none()).cloned());
            // A trigger's series before a change of its threshold belong to the same hour.
            for found in measured {
                if let Some(place) = (first..series.len()).find(|place| series[*place].trigger == found.trigger) {
                    wanted.insert(found.id, place);
                }
            }
            series_of.push(first..series.len());
        }
        let ok: Arc<str> = "ok".into();
        let mut newest: Vec<Newest> = series.iter().map(|_| Newest::default()).collect();
        let first_of = series_of.iter().filter(|own| !own.is_empty()).map(|own| own.start);
        let mut sparks: HashMap<usize, Buckets> = first_of.map(|first| (first, Buckets::new(grid))).collect();
        snapshot.samples(&wanted, range, |place, at, value| {
            if let Some(spark) = sparks.get_mut(&place) {
                spark.add(at, value);
            }
            let newest = &mut newest[place];
            if let SampleValue::Number(number) = value
                && newest.number.is_none_or(|(known, _)| known <= at)
            {
                newest.number = Some((at, *number));
            }
            if newest.sample.as_ref().is_none_or(|(known, _)| *known <= at) {
                let outcome = match value {
                    SampleValue::Number(_) => &ok,
                    SampleValue::Outcome(outcome) => outcome,
                };
                newest.sample = Some((at, Arc::clone(outcome)));
            }
        })?;
        let mut objects = Vec::new();
        for (row, own) in rows.into_iter().zip(series_of) {
            let spark = sparks.get(&own.start).filter(|_| !own.is_empty()).map(|buckets| spark(buckets, grid));
            let mut definition = None;
            let triggers = own
                .map(|place| {
                    let (series, newest) = (&series[place], &newest[place]);
                    let outcome =
                        newest.sample.as_ref().map(|(_, outcome)| &**outcome).filter(|outcome| *outcome != "ok");
                    let reading = match outcome {
                        Some(outcome) => Some(read(snapshot, &row, series, outcome, now, &mut definition)?),
                        None => None,
                    };
                    Ok(TriggerOverview {
                        fails: reading.as_ref().is_some_and(|reading| reading.fails),
                        says: reading.map(|reading| reading.says),
                        index: series.trigger,
                        metric: series.metric_name.clone(),
                        name: series.name.clone(),
                        value: newest.number.map(|(_, number)| number),
                        at: newest.sample.as_ref().map(|(at, _)| *at),
                        outcome: newest.sample.as_ref().map(|(_, outcome)| outcome.to_string()),
                        threshold: series.threshold,
                        activation: series.activation_threshold,
                        server: series.server.clone(),
                    })
                })
                .collect::<Found<Vec<TriggerOverview>>>()?;
            objects.push(object(snapshot, row, triggers, spark, now)?);
        }
        Ok(Overview { now, total, objects })
    })
}

/// An answer without a number.
struct Reading {
    says: String,
    fails: bool,
}

/// Returns the newest answer of a series in words: its error, or how a missing number is interpreted. `definition` is the
/// one in force, once it was needed.
fn read(
    snapshot: &Snapshot<'_>,
    row: &ObjectRow,
    series: &SeriesRow,
    outcome: &str,
    now: i64,
    definition: &mut Option<Option<Arc<Definition>>>,
) -> Found<Reading> {
    let lasting =
        snapshot.errors(series.id, Range { from: now, to: now }, 1)?.into_iter().find(|one| one.until.is_none());
    if let Some(error) = lasting.filter(|error| error.outcome == outcome) {
        // A missing value has no message beyond its outcome.
        let says = if error.message.is_empty() { error.outcome } else { error.message };
        return Ok(Reading { says, fails: true });
    }
    let definition =
        match definition {
            Some(definition) => definition,
            None => {
                let newest = snapshot.definitions(row.id, Range { from: 0, to: now }, 1)?.into_iter().next();
                let key = &row.key;
                definition.insert(newest.and_then(|newest| {
                    scaled_object::recorded(key.group, &key.namespace, &key.name, &newest.spec_json)
                }))
            }
        };
    let mut triggers = definition.iter().flat_map(|definition| &definition.triggers);
    let own = triggers.find(|trigger| *trigger.metric_name == *series.metric_name);
    // A decision names some of the triggers, and not each absence is decided on at once, so the policy says it.
    let absence = own.and_then(|trigger| Absence::of(outcome, trigger.on_missing.clone(), UnixMillis(now)));
    Ok(Reading {
        fails: absence.is_none(),
        says: absence.map_or_else(|| outcome.to_owned(), |absence| absence.to_string()),
    })
}

fn spark(buckets: &Buckets, grid: Grid) -> Spark {
    let mut values = vec![None; grid.cells];
    for bucket in buckets.stretches().iter().flatten() {
        values[grid.cell(bucket.last_at)] = Some(Value(bucket.max));
    }
    Spark { from: grid.from, step: grid.step, values }
}

fn object(
    snapshot: &Snapshot<'_>,
    row: ObjectRow,
    triggers: Vec<TriggerOverview>,
    spark: Option<Spark>,
    now: i64,
) -> Found<ObjectOverview> {
    let condition = |kind, status: &str| -> Found<Option<ConditionRow>> {
        Ok(snapshot.condition(row.id, kind, now)?.filter(|condition| condition.status == status))
    };
    let mut state = None;
    for (name, kind, status) in [
        ("paused", ConditionKind::Paused, "True"),
        ("fallback", ConditionKind::Fallback, "True"),
        ("error", ConditionKind::Ready, "False"),
        ("active", ConditionKind::Active, "True"),
    ] {
        if state.is_none() {
            state = condition(kind, status)?.map(|condition| (name, condition.message, Some(condition.at)));
        }
    }
    let (state, message, since) = match (row.removed_at, &row.invalid) {
        (Some(at), _) => ("removed", format!("the {} is gone", row.key.group.noun()), Some(at)),
        (None, Some(invalid)) => ("invalid", invalid.clone(), None),
        (None, None) => state.unwrap_or(("idle", String::new(), None)),
    };
    Ok(ObjectOverview {
        namespace: row.key.namespace.to_string(),
        name: row.key.name.to_string(),
        group: row.key.group.name(),
        state,
        message,
        since,
        generation: row.generation,
        replicas: row.replicas,
        added_at: row.added_at,
        removed_at: row.removed_at,
        last_active_at: row.last_active_at,
        triggers,
        spark,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::scaling::event::{Answer, Missing, PollError, Record, RecordedTrigger};
    use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
    use crate::store::{Options, Store};

    /// Regression: a decision names triggers up to some kilobytes, and those beyond were failing that read as 0.
    #[test]
    fn what_is_a_number_by_policy_fails_however_little_the_decision_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::start(&folder.path().join("history.db"), Options::default()).expect("it starts");
        let object = ObjectKey::new(ApiGroup::KedaSh, "shop", "web");
        let now = crate::clock::wall_millis();
        let at = UnixMillis(now - 1_000);
        let metadata = |index: u16| {
            let mut metadata = json!({ "serverAddress": "http://p:9090", "query": "up", "threshold": "1" });
            match index {
                27 => metadata["onMissing"] = json!("zero"),
                28 => metadata["ignoreNullValues"] = json!("false"),
                29 => {
                    metadata["onMissing"] = json!("hold");
                    metadata["holdFor"] = json!("5m");
                }
                _ => {}
            }
            metadata
        };
        let specs: Vec<Value> =
            (0..30).map(|index| json!({ "type": "prometheus", "metadata": metadata(index) })).collect();
        let spec = json!({ "scaleTargetRef": { "name": "web" }, "triggers": specs });
        let recorded = |index: u16| RecordedTrigger {
            index,
            kind: "prometheus".into(),
            name: None,
            metric_name: format!("s{index}-prometheus").into(),
            server: "http://p:9090".into(),
            query: "up".into(),
            threshold: 1.0,
            activation_threshold: 0.0,
        };
        let missing = |index| match index {
            27 => Missing::NaN,
            29 => Missing::Null,
            _ => Missing::Empty,
        };
        let sample = |index| Record::Sample {
            at,
            object: object.clone(),
            trigger: index,
            answer: Answer::Missing(missing(index)),
            latency: Duration::ZERO,
            is_error: index == 28,
        };
        let definition = Record::Definition {
            at,
            object: object.clone(),
            uid: "u".to_owned(),
            generation: 1,
            spec_json: spec.to_string().into(),
            invalid: None,
            triggers: (0..30).map(recorded).collect(),
            resource_triggers: Vec::new(),
        };
        store.send(std::iter::once(definition).chain((0..30).map(sample)).collect());
        store.flush().expect("it is written");
        let shown = |now| {
            let listing = Listing { text: "", removed: false, limit: 9, offset: 0 };
            let mut found = load(&mut store.reader().expect("a reader"), &listing, now).expect("an overview");
            found.objects.remove(0).triggers
        };
        let triggers = shown(now);
        let failing: Vec<u16> = triggers.iter().filter(|one| one.failure().is_some()).map(|one| one.index).collect();
        assert_eq!(failing, [28]);
        let says = |index: usize| triggers[index].says.as_deref();
        assert_eq!(says(20), Some("no series, which reads as 0 (ignoreNullValues)"));
        assert_eq!(says(27), Some("NaN, which reads as 0 (onMissing: zero)"));
        assert_eq!(says(29), Some("null, for which the last value stands in (onMissing: hold)"));
        // What holds no longer is an error, whatever the policy was.
        let error = PollError::new(crate::scaling::event::ErrorClass::Timeout, "slow");
        let failed = Record::Sample {
            at: UnixMillis(now),
            object: object.clone(),
            trigger: 29,
            answer: Answer::Failed(error),
            latency: Duration::ZERO,
            is_error: true,
        };
        store.send(vec![failed]);
        store.flush().expect("it is written");
        assert_eq!(shown(now)[29].failure(), Some("slow"));
        assert!(store.stop(Duration::from_secs(120)).complete);
    }
}
