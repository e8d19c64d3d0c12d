//! Roll-ups equal the samples from which they were made, whatever happens to the storage meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use hpalite::scaling::decision::Decision;
use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use hpalite::scaling::reason::Reason;
use hpalite::store::{Options, Store};
use rusqlite::Connection;

use super::{Place, START, count, definition, keeping_all, rows, sample, stop, timeout, trigger, wait_for};

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    count: i64,
    errors: i64,
    min: Option<f64>,
    max: Option<f64>,
    sum: f64,
    last: Option<(i64, f64)>,
}

impl Model {
    fn add(&mut self, at: i64, value: Option<f64>) {
        let Some(value) = value else {
            self.errors += 1;
            return;
        };
        self.count += 1;
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
        self.sum += value;
        if self.last.is_none_or(|(before, _)| at >= before) {
            self.last = Some((at, value));
        }
    }
}

fn check(connection: &Connection, view: &str, key: &ObjectKey, model: &BTreeMap<i64, Model>) {
    let mut statement = connection
        .prepare(&format!(
            "SELECT at_unix_ms, count, errors, min, max, mean, last FROM {view} WHERE namespace = 'many' AND name = ?1 ORDER BY 1"
        ))
        .unwrap();
    type Row = (i64, i64, i64, Option<f64>, Option<f64>, Option<f64>, Option<f64>);
    let found: Vec<Row> =
        statement.query_map([&*key.name], |row| row.try_into()).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(found.len(), model.len(), "{view} of {}", key.name);
    for ((at, count, errors, min, max, mean, last), (wanted_at, wanted)) in found.into_iter().zip(model) {
        let what = format!("{view} of {} at {at}", key.name);
        assert_eq!((at, count, errors), (*wanted_at, wanted.count, wanted.errors), "{what}");
        assert_eq!((min, max), (wanted.min, wanted.max), "{what}");
        assert_eq!(last, wanted.last.map(|(_, value)| value), "{what}");
        let wanted_mean = (wanted.count > 0).then(|| wanted.sum / wanted.count as f64);
        let close = match (mean, wanted_mean) {
            (Some(mean), Some(wanted)) => (mean - wanted).abs() <= 1e-9 * wanted.abs().max(1.0),
            (mean, wanted) => mean == wanted,
        };
        assert!(close, "{what}: mean {mean:?}, not {wanted_mean:?}");
    }
}

fn rolled_and_quiet(connection: &Connection) -> bool {
    rows(connection, "SELECT count(*) FROM sample_block WHERE merging_into IS NOT NULL OR rolled_series < 16777215")
        == ["0"]
}

/// With seeded values that repeat and change, errors, clocks set back by minutes and by days, and restarts.
#[test]
fn rollups_are_exact() {
    const OBJECTS: usize = 40;
    let place = Place::new();
    let mut store = place.start();
    let keys: Vec<ObjectKey> =
        (0..OBJECTS).map(|i| ObjectKey::new(ApiGroup::KedaSh, "many", &format!("o{i}"))).collect();
    store.send(keys.iter().map(|key| definition(START, key, "u", 1, vec![trigger(0, 1.0)])).collect());
    let mut random = fastrand::Rng::with_seed(11);
    let mut sent: Vec<BTreeMap<i64, Option<f64>>> = vec![BTreeMap::new(); OBJECTS];
    let mut at = START;
    for round in 0..2_600 {
        at += match random.u16(0..400) {
            0 => -90_000,
            1 => -86_400_000,
            2 => 5_000_000,
            _ => 15_000,
        };
        let mut records = Vec::new();
        for (key, sent) in keys.iter().zip(&mut sent) {
            let at = at + random.i64(0..900);
            // Of two samples at the same time neither would be the last one.
            if sent.contains_key(&at) {
                continue;
            }
            let value = match random.u8(0..10) {
                0 => None,
                1 | 2 => Some(random.f64() * 1e6 - 5e5),
                _ => Some(f64::from(random.u8(0..3))),
            };
            records.push(sample(at, key, value.map_or_else(|| timeout("x"), Answer::Value)));
            sent.insert(at, value);
        }
        store.send(records);
        if round % 150 == 149 {
            store.flush().unwrap();
        }
        if round % 1_000 == 999 {
            stop(store);
            store = place.start();
        }
    }
    store.flush().unwrap();
    let connection = place.open();
    let models = |stretch: i64| -> Vec<BTreeMap<i64, Model>> {
        sent.iter()
            .map(|sent| {
                let mut models: BTreeMap<i64, Model> = BTreeMap::new();
                for (at, value) in sent {
                    models.entry(at - at.rem_euclid(stretch)).or_default().add(*at, *value);
                }
                models
            })
            .collect()
    };
    let (minutes, hours) = (models(60_000), models(3_600_000));
    let check_all = || {
        for i in (0..OBJECTS).step_by(13) {
            check(&connection, "v_sample_minute", &keys[i], &minutes[i]);
            check(&connection, "v_sample_hour", &keys[i], &hours[i]);
        }
    };
    // Both while part of it is rolled up, and when all is.
    check_all();
    wait_for("the roll-ups", || rolled_and_quiet(&connection));
    assert!(count(&connection, "sample_minute") > 0 && count(&connection, "sample_hour") > 0);
    check_all();
    stop(store);
}

/// Hours outlive minutes, which outlive samples; samples that expire before the roll-up are rolled up then.
#[test]
fn what_expires_has_been_rolled_up() {
    let place = Place::new();
    let store = place.start();
    let key = ObjectKey::new(ApiGroup::KedaSh, "many", "o");
    store.send(vec![definition(START, &key, "u", 1, vec![trigger(0, 1.0)])]);
    // Four days with a sample per minute: fewer than the head holds.
    let mut model: BTreeMap<i64, Model> = BTreeMap::new();
    for i in 0..5_760 {
        let at = START + i * 60_000;
        model.entry(at - at.rem_euclid(3_600_000)).or_default().add(at, Some(i as f64));
        store.send(vec![sample(at, &key, Answer::Value(i as f64))]);
    }
    stop(store);
    let mut options = keeping_all();
    options.retention.samples = Duration::ZERO;
    options.retention.minutes = Duration::ZERO;
    let store = Store::start(&place.path(), options).unwrap();
    let connection = place.open();
    wait_for("samples and minutes to expire", || {
        ["sample_head", "sample_block", "sample_chunk", "minute_block", "sample_minute"]
            .iter()
            .all(|table| count(&connection, table) == 0)
            && count(&connection, "sample_hour") > 0
    });
    check(&connection, "v_sample_hour", &key, &model);
    stop(store);
}

#[test]
fn the_size_cap_takes_the_oldest_samples_first_and_decisions_last() {
    let place = Place::new();
    let store = place.start();
    let key = ObjectKey::new(ApiGroup::KedaSh, "many", "o");
    store.send(vec![definition(START, &key, "u", 1, vec![trigger(0, 1.0)])]);
    for i in 0..200 {
        store.send(
            (0..1_500).map(|j| sample(START + (i * 1_500 + j) * 1_000, &key, Answer::Value(j as f64 / 7.0))).collect(),
        );
        store.flush().unwrap();
    }
    store.send(
        (0..2_000)
            .map(|i| Record::Decision {
                at: UnixMillis(START + i),
                object: key.clone(),
                decision: Decision::new(Reason::Inactive, 0, 0).into(),
            })
            .collect(),
    );
    stop(store);
    let before = std::fs::metadata(place.path()).unwrap().len();
    let mut options: Options = keeping_all();
    options.retention.size_max = 4_000_000;
    assert!(before > 6_000_000, "{before}");
    let store = Store::start(&place.path(), options.clone()).unwrap();
    let connection = place.open();
    // The cap, and 1 MiB of free pages.
    wait_for("the cap", || {
        rows(&connection, "SELECT page_count * 4096 <= 4000000 + 1048576 FROM pragma_page_count") == ["1"]
    });
    let dropped: BTreeMap<&str, u64> = store.stats().dropped_total.into_iter().collect();
    assert!(dropped["sample"] > 0, "{dropped:?}");
    assert_eq!((dropped["hour"], dropped["history"], dropped["definition"]), (0, 0, 0));
    assert_eq!(count(&connection, "decision"), 2_000);
    // The newest samples are left.
    let newest = START + 299_999 * 1_000;
    assert_eq!(rows(&connection, "SELECT max(at_unix_ms) FROM v_sample"), [newest.to_string()]);
    assert!(rows(&connection, "SELECT min(at_unix_ms) FROM v_sample")[0].parse::<i64>().unwrap() > START);
    stop(store);
    let after = std::fs::metadata(place.path()).unwrap().len();
    assert!(after < 5_100_000, "{before} to {after}");
    // With hardly any space the rest is deleted as well, except the current definition and the decision in force.
    options.retention.size_max = 1;
    let store = Store::start(&place.path(), options).unwrap();
    wait_for("all of it to go", || (count(&connection, "decision"), count(&connection, "sample_hour")) == (1, 0));
    assert_eq!(count(&connection, "definition"), 1);
    stop(store);
}
