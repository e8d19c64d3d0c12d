//! Missing answers: samples grow old, silence becomes an error, and other objects are not delayed.

use std::time::Duration;

use super::*;
use crate::scaling::event::{Command, Event, Interruption, PollDone, Record};
use crate::scaling::model::{Fallback, FallbackBehavior, Query, Source};
use crate::scaling::view::Reading;

const NEVER: i64 = 1_000_000_000;

fn reading(rig: &Rig, name: &str, metric: usize) -> Reading {
    rig.views[&key(name)].metrics[metric].reading.clone()
}

fn message(rig: &Rig, name: &str) -> String {
    match reading(rig, name, 0) {
        Reading::Failed { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// Polled every 3 s, so that samples may be 30 s old.
fn quick(rig_value: f64, change: impl FnOnce(&mut Definition)) -> Rig {
    shop(2, rig_value, |d| {
        d.polling_interval = Duration::from_secs(3);
        change(d);
    })
}

#[test]
fn a_reading_has_an_age() {
    let mut rig = quick(5.0, |_| {});
    rig.seconds(60);
    rig.slow.insert("up".to_owned(), NEVER);
    let asked: Vec<_> = rig.polls.iter().map(|(at, _)| *at).collect();
    rig.seconds(4);
    let Reading::Value { at: last, .. } = reading(&rig, "shop", 0) else { panic!() };
    assert!(asked.contains(&last));
    rig.clear();
    rig.run(last.0 + 29_900 - rig.now.0);
    assert!(matches!(reading(&rig, "shop", 0), Reading::Value { .. }));
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    rig.run(200);
    assert_eq!(message(&rig, "shop"), "no answer for more than 30 s");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
    assert_eq!(rig.reasons(), ["KEDAScalerFailed"]);
    // However long it lasts: no more events, no scaling, one poll in flight.
    rig.seconds(3_600);
    assert_eq!(rig.reasons(), ["KEDAScalerFailed"]);
    assert_eq!((rig.replicas("web"), rig.world.counts().polls_in_flight), (2, 1));
    assert!(!rig.kinds().contains(&"Scale"));
}

#[test]
fn silence_from_the_start_is_an_error_too() {
    let mut rig = quick(5.0, |_| {});
    rig.slow.insert("up".to_owned(), NEVER);
    rig.seconds(20);
    assert_eq!(reading(&rig, "shop", 0), Reading::Pending);
    rig.seconds(20);
    assert_eq!(message(&rig, "shop"), "no answer for more than 30 s");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
}

#[test]
fn silence_counts_for_the_fallback_and_an_answer_ends_it() {
    let mut rig = quick(5.0, |d| {
        d.fallback = Some(Fallback { failure_threshold: 3, replicas: 6, behavior: FallbackBehavior::Static });
    });
    rig.seconds(60);
    // So late that silence is counted three times before.
    rig.slow.insert("up".to_owned(), 60_000);
    rig.seconds(31);
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=False NoFallbackFound");
    rig.seconds(12);
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=True FallbackExists");
    assert!(matches!(reading(&rig, "shop", 0), Reading::Value { value: 450.0, .. }));
    rig.slow.clear();
    rig.seconds(30);
    assert!(matches!(reading(&rig, "shop", 0), Reading::Value { value: 5.0, .. }), "{:?}", reading(&rig, "shop", 0));
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=False NoFallbackFound");
}

#[test]
fn the_other_triggers_of_the_object_go_on() {
    let mut rig = quick(5.0, |d| d.triggers.push(testing::trigger(1, "silent")));
    rig.set_answer("silent", Answer::Value(1.0));
    rig.seconds(10);
    rig.slow.insert("silent".to_owned(), NEVER);
    rig.seconds(60);
    rig.clear();
    rig.set_answer("up", Answer::Value(7.0));
    rig.seconds(60);
    assert!(matches!(reading(&rig, "shop", 0), Reading::Value { value: 7.0, .. }));
    assert!(matches!(reading(&rig, "shop", 1), Reading::Failed { .. }));
    assert!((18..=21).contains(&rig.polls.len()), "every 3 s, not {} times a minute", rig.polls.len());
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=Unknown PartialTriggerError");
}

#[test]
fn a_formula_is_as_old_as_what_goes_into_it() {
    let mut rig = quick(5.0, |d| {
        d.triggers.push(testing::trigger(1, "silent"));
        testing::put_formula(d, "a + b");
    });
    rig.set_answer("silent", Answer::Value(1.0));
    rig.seconds(30);
    let composite = |rig: &Rig| rig.views[&key("shop")].metrics[2].reading.clone();
    assert!(matches!(composite(&rig), Reading::Value { value: 6.0, .. }));
    rig.slow.insert("silent".to_owned(), NEVER);
    rig.seconds(40);
    let Reading::Failed { message, .. } = composite(&rig) else { panic!("{:?}", composite(&rig)) };
    assert_eq!(message, "b: no answer for more than 30 s");
}

#[test]
fn a_long_interval_has_its_three() {
    let mut rig = shop(2, 5.0, |_| {});
    rig.seconds(40);
    rig.slow.insert("up".to_owned(), NEVER);
    rig.seconds(50);
    assert!(matches!(reading(&rig, "shop", 0), Reading::Value { .. }));
    rig.seconds(60);
    assert_eq!(message(&rig, "shop"), "no answer for more than 93 s");
}

#[test]
fn the_answer_to_an_object_that_went_has_no_effect() {
    let mut rig = quick(5.0, |_| {});
    rig.seconds(10);
    rig.slow.insert("up".to_owned(), 20_000);
    rig.seconds(4);
    assert_eq!(rig.world.counts().polls_in_flight, 1);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(1);
    rig.clear();
    rig.seconds(60);
    assert!(rig.records.is_empty() && rig.events.is_empty() && rig.writes.is_empty() && rig.polls.is_empty());
    assert_eq!((rig.world.counts().polls_in_flight, rig.world.counts().polls_waiting), (0, 0));
}

/// The process is stopped for an hour: the last sample would scale to zero, but Prometheus has another value now.
#[test]
fn after_standing_still_nothing_follows_from_earlier_answers() {
    let mut rig = quick(5.0, |d| d.cooldown_period = Duration::from_secs(600));
    rig.seconds(30);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(60);
    rig.slow.insert("up".to_owned(), 2_000);
    rig.seconds(4);
    rig.set_answer("up", failed("timed out while it stood still"));
    rig.clear();
    rig.stand_still(3_600_000);
    // The answer that was under way arrives first.
    rig.run(0);
    rig.set_answer("up", Answer::Value(9.0));
    assert_eq!(rig.polls.len(), 1, "asked again at once");
    rig.seconds(10);
    assert!(matches!(reading(&rig, "shop", 0), Reading::Value { value: 9.0, .. }));
    assert!(rig.events.is_empty(), "{:?}", rig.events);
    assert!(!rig.kinds().contains(&"Scale"), "{:?}", rig.writes);
    rig.seconds(600);
    assert_eq!((rig.replicas("web"), rig.events.len()), (2, 0));
}

/// What the history has of interruptions, with their seconds.
fn interruptions(rig: &Rig) -> Vec<(Interruption, i64)> {
    let of = |record: &Record| match record {
        Record::Interrupted { kind, from, until } => Some((*kind, (until.0 - from.0) / 1_000)),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

#[test]
fn a_standstill_and_steps_of_the_clock_are_recorded() {
    let mut rig = quick(5.0, |_| {});
    rig.seconds(60);
    assert_eq!(interruptions(&rig), []);
    rig.stand_still(3_600_000);
    rig.seconds(10);
    let [(Interruption::Standstill, 3_600..=3_603)] = interruptions(&rig)[..] else {
        panic!("{:?}", interruptions(&rig))
    };
    rig.step_clock(-90_000);
    rig.seconds(10);
    rig.step_clock(7_200_000);
    rig.seconds(10);
    let steps = [(Interruption::ClockBack, 90), (Interruption::ClockForward, 7_200)];
    assert_eq!(interruptions(&rig)[1..], steps);
}

#[test]
fn a_server_that_stays_away_after_standing_still_is_silent_in_the_end() {
    let mut rig = quick(5.0, |_| {});
    rig.seconds(30);
    rig.slow.insert("up".to_owned(), NEVER);
    rig.stand_still(3_600_000);
    rig.seconds(29);
    assert!(rig.events.iter().all(|event| event.reason != "KEDAScalerFailed"));
    rig.seconds(2);
    assert_eq!(message(&rig, "shop"), "no answer for more than 30 s");
}

/// The answer arrives between a step of the clock and the event about it.
#[test]
fn a_step_of_the_clock_moves_an_answer_once() {
    for step in [3_600_000, -3_600_000] {
        let mut rig = quick(5.0, |_| {});
        rig.seconds(30);
        rig.poll_ms = 1_000;
        // One that is under way already takes less.
        for is_wanted in [false, true] {
            while (rig.world.counts().polls_in_flight > 0) != is_wanted {
                rig.run(100);
            }
        }
        let (asked_at, job) = rig.polls.last().cloned().unwrap();
        rig.run(500);
        let answer = Answer::Value(7.0);
        let done = PollDone {
            id: job.id,
            asked_after: Duration::ZERO,
            latency: Duration::from_millis(500),
            answer,
            split: None,
            rest: None,
            pods: None,
            server: None,
        };
        rig.step(Event::Polled(vec![done]));
        rig.step_clock(step);
        rig.run(1);
        rig.annotate(&key("shop"), |object| object.force_activation = true);
        rig.run(100);
        let state = &rig.world.objects[&key("shop")].triggers[0];
        let Reading::Value { at, value } = state.reading() else { panic!() };
        assert_eq!((at.0, value), (asked_at.0 + step, 7.0));
    }
}

/// 100 triggers with distinct queries at distinct servers that hang until the timeout, in one object or in many.
#[test]
fn a_tenant_keeps_nobody_waiting() {
    for in_one in [true, false] {
        let mut rig = quick(5.0, |d| {
            let Source::Query(Query::Prometheus(source)) = &mut d.triggers[0].source else { panic!() };
            Arc::make_mut(source).server_address = "http://good".to_owned();
        });
        for n in 0..100_u16 {
            let query = format!("bad{n}");
            let mut trigger = testing::trigger(if in_one { n } else { 0 }, &query);
            let Source::Query(Query::Prometheus(source)) = &mut trigger.source else { panic!() };
            let source = Arc::make_mut(source);
            (source.server_address, source.timeout) = (format!("http://bad{n}"), Some(Duration::from_secs(30)));
            let name = if in_one { "bad".to_owned() } else { query.clone() };
            let mut object = rig.cluster.objects.get(&tenant(&name)).cloned().unwrap_or_else(|| {
                let mut object = fresh(&name, &name, Definition { triggers: Vec::new(), ..testing::definition() });
                object.key = tenant(&name);
                object
            });
            redefine(&mut object, |d| {
                d.triggers.push(trigger);
                d.polling_interval = Duration::from_secs(3);
            });
            rig.cluster.put_object(object);
            let found = Workload { namespace: "tenant".to_owned(), ..workload(&name, 1) };
            rig.cluster.put_workload(&deployment(), found);
            rig.set_answer(&query, failed("no answer within 30 s"));
            rig.slow.insert(query, 30_000);
        }
        rig.check = Some(|rig: &mut Rig, _: &[Command]| rig.world.schedule.check());
        rig.seconds(20);
        rig.clear();
        rig.seconds(150);
        let good: Vec<i64> =
            rig.polls.iter().filter(|(_, job)| &*job.server == "http://good").map(|(at, _)| at.0).collect();
        let longest = good.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(good.len() >= 49 && longest <= 3_100, "{} polls, {longest} ms between two", good.len());
        let bad = rig.polls.len() - good.len();
        assert!(bad >= 4, "and they are asked, too: {bad}");
    }
}

fn tenant(name: &str) -> ObjectKey {
    ObjectKey::new(ApiGroup::KedaSh, "tenant", name)
}

/// Regression: what was served before a step back was from the future, and so young for as long as the step.
#[test]
fn a_clock_that_steps_back_makes_nothing_young_again() {
    let mut rig = shop(3, 5.0, |_| {});
    rig.seconds(65);
    let age = |rig: &Rig| match rig.views[&key("shop")].metrics[0].reading {
        Reading::Value { at, .. } => rig.now.0 - at.0,
        ref other => panic!("{other:?}"),
    };
    let before = age(&rig);
    rig.clear();
    rig.step_clock(-3_600_000);
    rig.seconds(1);
    assert!(rig.polls.is_empty(), "it is the same sample");
    assert_eq!(age(&rig), before + 1_000);
}
