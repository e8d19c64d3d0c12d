//! One query for many answers each of them as its own would be: random series, functions and moments on a real Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use hpalite::polling::transport::Transport;
use hpalite::prometheus::query;
use hpalite::scaling::event::{Answer, ErrorClass, Group, Split};
use hpalite::scaling::model::{ApiGroup, ObjectKey, PrometheusSource, Query, UnixMillis};
use hpalite::scaling::schedule::{Limits, Schedule};

use super::setup::{send, source, transport};
use crate::support::fake_prometheus::{FakePrometheus, Reply};
use crate::support::prometheus::Prometheus;

/// Their letters would mean something in a regular expression.
const SERVICES: [&str; 12] = ["a", "b", "a|b", "a.b", "axb", "(c)", "c", "d*", "dd", "ü", "o'clock", "$^[]{}+?"];

/// What the schedule makes of these queries: the group that they are asked in.
fn group(source: &PrometheusSource, queries: &[String]) -> Arc<Group> {
    let mut schedule = Schedule::new(8, Limits::default(), true);
    for (n, query) in queries.iter().enumerate() {
        let source = PrometheusSource { query: query.clone(), ..source.clone() };
        let key = ObjectKey::new(ApiGroup::KedaSh, "shop", &n.to_string());
        schedule.ask((key, 0), &Query::Prometheus(Arc::new(source)), None, UnixMillis(0));
    }
    let mut jobs = schedule.dispatch(UnixMillis(0));
    let job = jobs.pop().unwrap();
    assert!(jobs.is_empty());
    job.group.unwrap()
}

fn ask_group(
    transport: &Transport,
    source: &PrometheusSource,
    group: &Arc<Group>,
    at: UnixMillis,
) -> (Answer, Option<Split>) {
    let source = PrometheusSource { query: group.query.clone(), ..source.clone() };
    let request = query::build(&source, None, &Default::default(), at).unwrap();
    let (sender, answer) = mpsc::sync_channel(1);
    let done = move |answer, split, _| sender.send((answer, split)).unwrap();
    hpalite::prometheus::ask(transport, request, Arc::new(source), Some(Arc::clone(group)), done);
    answer.recv().unwrap()
}

/// Counters and gauges with resets, gaps, ends, NaN and infinities, in each service another number of series.
fn samples(random: &mut fastrand::Rng, start: i64, end: i64) -> String {
    let mut text = "# TYPE m gauge\n".to_owned();
    for (n, service) in SERVICES.iter().enumerate() {
        for instance in 0..n % 5 {
            let (mut value, mut at) = (random.f64() * 1_000.0, start + random.i64(0..15));
            let ends = if random.u8(0..4) == 0 { random.i64(start..end) } else { end };
            while at < ends {
                value = match random.u8(0..40) {
                    0 => 0.0,
                    1 => f64::NAN,
                    2 => f64::INFINITY,
                    _ if value.is_finite() => value + random.f64() * 10.0,
                    _ => random.f64(),
                };
                let shown = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
                let _ = writeln!(text, "m{{service=\"{service}\",instance=\"{instance}\",zone=\"z\"}} {shown} {at}");
                at += if random.u8(0..30) == 0 { 400 } else { 15 };
            }
        }
    }
    text + "# EOF\n"
}

#[test]
fn a_group_gives_each_member_its_own_answer() {
    let seed = std::env::var("HPALITE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let again = format!("HPALITE_SEED={seed} cargo test --locked --test hpalite -- prometheus::grouping");
    let mut random = fastrand::Rng::with_seed(seed);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let (start, end) = (now - 3_600, now - 600);
    let prometheus = Prometheus::holding(&samples(&mut random, start, end));
    let transport = transport();
    let source = source(&prometheus.url, "");
    prometheus.series("up{job=\"self\"} == 1");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..60 {
        let operator = ["sum", "avg", "max", "min", "count"][random.usize(0..5)];
        let (call, range) = [
            ("", ""),
            ("rate(", "[5m])"),
            ("irate(", "[1m])"),
            ("increase(", "[10m])"),
            ("max_over_time(", "[2m])"),
            ("last_over_time(", "[1m])"),
            ("stddev_over_time(", "[5m])"),
            ("deriv(", "[3m])"),
        ][random.usize(0..8)];
        let asked = |service: &&str| format!("{operator}({call}m{{zone=\"z\",service=\"{service}\"}}{range})");
        let queries: Vec<String> = SERVICES.iter().chain(&["absent"]).map(asked).collect();
        let group = group(&source, &queries);
        let at = UnixMillis(random.i64(start..now) * 1_000);
        let (_, split) = ask_group(&transport, &source, &group, at);
        let Some(Split::Each(answers)) = split else { panic!("{again}: {}: {split:?}", group.query) };
        assert_eq!(answers.len(), queries.len());
        for ((_, answer), (_, service)) in answers.iter().zip(&group.members) {
            let single = PrometheusSource { query: asked(&service.as_str()), ..source.clone() };
            let request = query::build(&single, None, &Default::default(), at).unwrap();
            let own = send(&transport, request, &single);
            assert_eq!(*answer, own, "{again}: {} at {at:?}", single.query);
            *outcomes.entry(format!("{own:?}").split('(').next().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert!(outcomes["Value"] > 100 && outcomes["Missing"] > 100, "{outcomes:?}");
}

#[test]
fn a_server_that_cannot_be_reached_fails_for_all_and_one_that_refuses_is_asked_singly() {
    let queries = ["a", "b"].map(|service| format!("sum(m{{service=\"{service}\"}})"));
    let at = UnixMillis(1_700_000_000_000);
    let transport = transport();
    let gone = source("http://127.0.0.1:1", "");
    let (answer, split) = ask_group(&transport, &gone, &group(&gone, &queries), at);
    assert!(matches!(&answer, Answer::Failed(error) if error.class == ErrorClass::Connect), "{answer:?}");
    assert_eq!(split, None);
    let fake = FakePrometheus::start(|_| Reply::status(422, "too many samples"));
    let refusing = source(&fake.url(), "");
    let (_, split) = ask_group(&transport, &refusing, &group(&refusing, &queries), at);
    assert_eq!(split, Some(Split::Singly));
}
