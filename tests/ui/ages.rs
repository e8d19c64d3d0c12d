//! Old times are plotted from what is left of them, samples, minutes or hours, and never from two of these at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hpalite::history::{Grid, History, TriggerHistory, load};
use hpalite::scaling::event::{Answer, Record};
use hpalite::store::read::Range;
use hpalite::store::{Options, Reader, Store};
use rusqlite::Connection;

use crate::store::{Place, START, count, definition, keeping_all, rows, sample, stop, timeout, trigger, wait_for, web};

const HOUR: i64 = 3_600_000;
const POLL_MS: i64 = 15_000;
const DAYS: i64 = 4;
/// No server answers in this hour.
const OUTAGE: std::ops::Range<i64> = START + 50 * HOUR..START + 51 * HOUR;
const RANGE: Range = Range { from: START, to: START + DAYS * 24 * HOUR - 1 };
const SAMPLES: u64 = (DAYS * 24 * HOUR / POLL_MS) as u64;

/// Four days of samples, all packed and rolled up.
fn four_days() -> Place {
    let place = Place::new();
    let store = place.start();
    let answer = |at: i64| match OUTAGE.contains(&at) {
        true => timeout("no answer"),
        false => Answer::Value(((at - START) / POLL_MS % 1_000) as f64),
    };
    let mut records: Vec<Record> = vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])];
    // Not at whole minutes, so that a polling interval spans every edge.
    let times = (START + 7_000..RANGE.to).step_by(POLL_MS as usize);
    records.extend(times.map(|at| sample(at, &web(), answer(at))));
    for part in records.chunks(1_500) {
        store.send(part.to_vec());
        store.flush().unwrap();
    }
    wait_for("the roll-ups", || {
        let connection = place.open();
        count(&connection, "sample_head") == 0
            && rows(&connection, "SELECT count(*) > 0, min(rolled_series) FROM sample_block") == ["1|16777215"]
    });
    stop(store);
    place
}

/// Runs the store until everything too old is deleted.
fn expire(place: &Place, options: Options, is_done: impl Fn(&Connection) -> bool) {
    let store = Store::start(&place.path(), options).unwrap();
    let connection = place.open();
    wait_for("retention", || is_done(&connection));
    stop(store);
}

fn history(place: &Place, range: Range, step: i64) -> History {
    let mut reader = Reader::open(&place.path()).unwrap();
    let from = range.from - range.from.rem_euclid(step);
    let grid = Grid { from, step, cells: usize::try_from((range.to - from) / step + 1).unwrap() };
    load(&mut reader, &web(), range, |_| grid).unwrap().unwrap()
}

fn extremes(trigger: &TriggerHistory) -> (f64, f64) {
    let points = trigger.stretches.iter().flatten();
    points.fold((f64::MAX, f64::MIN), |(min, max), point| (min.min(point.min), max.max(point.max)))
}

/// Asserts that every sample counts once, and that only the outage leaves a gap, with its cause.
fn assert_whole(place: &Place, step: i64, what: &str) {
    let history = history(place, RANGE, step);
    let trigger = &history.triggers[0];
    assert_eq!(trigger.samples, SAMPLES, "{what}, step {step}");
    let counted: u64 = trigger.stretches.iter().flatten().map(|point| u64::from(point.count)).sum();
    assert_eq!(counted, SAMPLES - (HOUR / POLL_MS) as u64, "{what}, step {step}");
    assert_eq!(extremes(trigger), (0.0, 999.0), "{what}, step {step}");
    let ends: Vec<(i64, i64)> =
        trigger.stretches.iter().map(|stretch| (stretch[0].first_at, stretch[stretch.len() - 1].last_at)).collect();
    assert_eq!(ends.len(), 2, "{what}, step {step}: {ends:?}");
    assert!(ends[0].1 < OUTAGE.start && ends[1].0 >= OUTAGE.end, "{what}, step {step}: {ends:?}");
    let silences = &trigger.silences;
    assert_eq!(silences.len(), 1, "{what}, step {step}: {silences:?}");
    assert_eq!(silences[0].outcome, "timeout", "{what}, step {step}");
    assert!(OUTAGE.contains(&silences[0].from) && OUTAGE.contains(&silences[0].until), "{what}: {silences:?}");
}

#[test]
fn nothing_is_missing_or_counted_twice_at_any_age() {
    let place = four_days();
    let all = |what: &str| [10_000, 60_000, 300_000, HOUR].iter().for_each(|step| assert_whole(&place, *step, what));
    all("with all samples");

    // What an interrupted deletion leaves of a block: some samples.
    let connection = place.open();
    connection.execute("DELETE FROM sample_chunk WHERE (id & 4095) % 3 = 1", []).unwrap();
    all("with two thirds of the samples");
    connection.execute("DELETE FROM sample_minute WHERE (id & 4095) % 2 = 1", []).unwrap();
    all("with two thirds of the samples and half of the minutes");
    drop(connection);

    let mut options = keeping_all();
    options.retention.samples = Duration::ZERO;
    expire(&place, options.clone(), |connection| count(connection, "sample_block") == 0);
    all("without samples");
    options.retention.minutes = Duration::ZERO;
    expire(&place, options, |connection| count(connection, "minute_block") == 0);
    all("with hours alone");
}

/// In any order of deletion, even if hours are kept for a shorter time than the minutes from which they are made.
#[test]
fn finer_forms_stand_in_for_coarser_ones_that_are_gone() {
    let place = four_days();
    let mut options = keeping_all();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    options.retention.hours = now - Duration::from_millis((START + 60 * HOUR - HOUR / 2).unsigned_abs());
    expire(&place, options.clone(), |connection| count(connection, "rolled_hour") == 36);
    assert_whole(&place, HOUR, "with hours of the last days");
    options.retention.minutes = Duration::ZERO;
    expire(&place, options, |connection| count(connection, "minute_block") == 0);
    assert_whole(&place, HOUR, "with samples and some hours");
    assert_whole(&place, 60_000, "with samples and some hours");
}

/// A month of one object has hundreds of hours, and hundreds of thousands of samples that must not be read: finer forms
/// are falsified, without an effect.
#[test]
fn coarse_plots_do_not_read_finer_forms() {
    const MONTH: Range = Range { from: RANGE.to - 30 * 24 * HOUR, to: RANGE.to };
    let place = four_days();
    let json = |range, step| serde_json::to_string(&history(&place, range, step).triggers).unwrap();
    let (month, days, fine) = (json(MONTH, HOUR), json(RANGE, 300_000), json(RANGE, 10_000));
    let connection = place.open();
    let lie = "[' || substr(replace(hex(zeroblob(9000)), '00', ',0'), 2) || ']";
    let lie = format!("UPDATE sample_chunk SET stride = 1, step_ms = 0, value_list = '[-999]', samples = '{lie}'");
    connection.execute(&lie, []).unwrap();
    assert!(json(MONTH, HOUR) == month && json(RANGE, 300_000) == days, "samples were read");
    assert!(json(RANGE, 10_000) != fine, "a lie that nobody could notice");
    connection.execute("UPDATE sample_minute SET parts = '[[0,0,9999,-999]]'", []).unwrap();
    assert!(json(MONTH, HOUR) == month, "minutes were read");
    assert!(json(RANGE, 300_000) != days, "a lie that nobody could notice");
}
