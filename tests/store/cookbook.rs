//! Runs the queries of sql/README.md.

use std::sync::Arc;

use hpalite::scaling::attribution::Attribution;
use hpalite::scaling::decision::{DecidedTrigger, Decision};
use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::UnixMillis;
use hpalite::scaling::reason::Reason;
use hpalite::store::query::{Format, Options, run};

use super::{Place, count, definition, rows, sample, stop, timeout, trigger, web};

const README: &str = include_str!("../../sql/README.md");

fn blocks() -> Vec<&'static str> {
    let mut blocks: Vec<&str> =
        README.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap().trim()).collect();
    blocks.dedup();
    blocks
}

/// Stores two hours up to now with everything that the queries ask for.
fn populate(place: &Place) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    // Within one hour of the clock, so that changes of direction are counted together.
    let start = now - now % 3_600_000 - 3_600_000;
    let store = place.start();
    store.send(vec![definition(start, &web(), "u", 1, vec![trigger(0, 10.0)])]);
    let mut at = start;
    while at < now {
        let answer = if (at / 15_000) % 40 == 0 { timeout("slow") } else { Answer::Value((at / 15_000 % 9) as f64) };
        store.send(vec![sample(at, &web(), answer)]);
        at += 15_000;
    }
    // It fails now.
    store.send(vec![sample(now, &web(), timeout("slow"))]);
    for (i, (from, to)) in [(0, 1), (1, 4), (4, 2), (2, 5), (5, 1)].into_iter().enumerate() {
        let at = start + 60_000 * i as i64;
        let manager = if i == 3 { "kubectl" } else { "hpalite" };
        let triggers = vec![DecidedTrigger {
            metric_name: "s0-prometheus".into(),
            value: Some(3.0),
            active: true,
            target: 10.0,
            ..DecidedTrigger::default()
        }];
        store.send(vec![
            Record::Decision {
                at: UnixMillis(at),
                object: web(),
                decision: Arc::new(Decision { triggers, ..Decision::new(Reason::Inactive, from, to) }),
            },
            Record::Action { at: UnixMillis(at + 5), object: web(), from, to, error: None },
            Record::Replicas {
                at: UnixMillis(at + 9),
                object: web(),
                from: Some(from),
                to,
                by: Some(Attribution::observed(manager)),
                absent: vec![],
                unseen_since: None,
            },
        ]);
        if to > from {
            let (at, changed_at) = (UnixMillis(at + 8_009), UnixMillis(at + 9));
            store.send(vec![Record::Ready { at, object: web(), changed_at, to }]);
        }
    }
    let last =
        Record::Decision { at: UnixMillis(now), object: web(), decision: Decision::new(Reason::Inactive, 1, 1).into() };
    store.send(vec![last]);
    stop(store);
    let connection = place.open();
    connection.execute("INSERT INTO loss VALUES (1, ?1, ?1, 3, 0, 'disk full')", [now]).unwrap();
    start
}

#[test]
fn every_recipe_answers() {
    let place = Place::new();
    populate(&place);
    let blocks = blocks();
    assert!(blocks.len() >= 12, "{}", blocks.len());
    for sql in blocks {
        let mut out = Vec::new();
        let mut options = Options::new(&place.path(), sql);
        options.format = Format::Csv;
        let outcome = run(&options, &mut out).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(outcome.rows > 0, "{sql}");
    }
}

#[test]
fn flapping_counts_turns_by_the_hour() {
    let place = Place::new();
    let start = populate(&place);
    assert_eq!(
        rows(&place.open(), "SELECT hour_unix_ms, ups, downs, turns, least, most FROM v_flapping"),
        // 0→1→4 is one direction; then down, up, down.
        [format!("{start}|3|2|3|1|5")]
    );
}

#[test]
fn the_readme_names_every_view_and_table() {
    let place = Place::new();
    stop(place.start());
    let connection = place.open();
    let names = rows(
        &connection,
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'",
    );
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(README.contains(&format!("`{name}`")), "sql/README.md says nothing of {name}");
    }
    assert_eq!(count(&connection, "loss"), 0);
}
