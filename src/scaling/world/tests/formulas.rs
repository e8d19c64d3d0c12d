//! A formula over two triggers: its decisions, what reads see, and what happens while one trigger fails.

use std::time::Duration;

use super::scaling::scales;
use super::*;
use crate::scaling::composite;
use crate::scaling::decision::DecidedTrigger;
use crate::scaling::event::{Event, Missing, Record};
use crate::scaling::hpa::HpaMetric;
use crate::scaling::model::MetricTarget;
use crate::scaling::model::{Fallback, FallbackBehavior, MetricType, Modifiers};
use crate::scaling::view::Reading;

/// Returns triggers `a` with query `up` and `b` with query `down`, and a formula over them.
fn formula(replicas: u32, text: &str, (a, b): (f64, f64), change: impl FnOnce(&mut Definition)) -> Rig {
    let mut rig = shop(replicas, a, |definition| {
        definition.triggers = vec![testing::trigger(0, "up"), testing::trigger(1, "down")];
        definition.polling_interval = Duration::from_secs(10);
        definition.cooldown_period = Duration::from_secs(30);
        testing::put_formula(definition, text);
        change(definition);
    });
    rig.set_answer("down", Answer::Value(b));
    rig
}

fn modifiers(definition: &mut Definition) -> &mut Modifiers {
    definition.modifiers.as_mut().unwrap()
}

/// Returns the result of reading the composite metric.
fn read(rig: &Rig) -> Result<f64, String> {
    let view = &rig.views[&key("shop")];
    let metric = view.metrics.iter().find(|metric| &*metric.name == composite::NAME).unwrap();
    match &metric.reading {
        Reading::Value { value, .. } => Ok(*value),
        Reading::Failed { message, .. } => Err(message.clone()),
        Reading::Pending => Err("pending".to_owned()),
    }
}

fn last_decision(rig: &Rig) -> Vec<DecidedTrigger> {
    let decision = rig.records.iter().rev().find_map(|record| match record {
        Record::Decision { decision, .. } => Some(decision.triggers.clone()),
        _ => None,
    });
    decision.unwrap()
}

fn fallback(behavior: FallbackBehavior) -> impl Fn(&mut Definition) {
    move |definition| definition.fallback = Some(Fallback { failure_threshold: 1, replicas: 4, behavior })
}

#[test]
fn one_metric_stands_for_the_triggers() {
    let mut rig = formula(1, "(a + b) / 2", (500.0, 20.0), |d| modifiers(d).target = 10.0005);
    rig.seconds(5);
    let hpa = &rig.cluster.hpas[&("default".to_owned(), "keda-hpa-shop".to_owned())];
    let [HpaMetric::External { name, match_labels, target }] = &hpa.metrics[..] else { panic!("{:?}", hpa.metrics) };
    assert_eq!((name.as_str(), *target), ("composite-metric", MetricTarget::AverageValue(10_000)));
    assert_eq!(match_labels.get("scaledobject.keda.sh/name").unwrap(), "shop");
    assert_eq!(read(&rig), Ok(260.0));
    let status = &rig.object("shop").status;
    assert_eq!(status.composite_scaler_name.as_deref(), Some("composite-metric"));
    assert_eq!(status.external_metric_names, ["s0-prometheus", "s1-prometheus"]);
    let activity: Vec<_> = status.triggers_activity.iter().map(|(name, active)| (name.as_str(), *active)).collect();
    assert_eq!(activity, [("s0-prometheus", false), ("s1-prometheus", false)], "the result alone is active");
    let decided = last_decision(&rig);
    let seen: Vec<_> = decided.iter().map(|t| (&*t.metric_name, t.value, t.active)).collect();
    assert_eq!(
        seen,
        [
            ("s0-prometheus", Some(500.0), false),
            ("s1-prometheus", Some(20.0), false),
            ("composite-metric", Some(260.0), true)
        ]
    );
    assert_eq!(decided[2].formula.as_deref(), Some("(500 + 20) / 2 = 260"));
    let samples = rig.records.iter().filter_map(|record| match record {
        Record::Sample { trigger: composite::INDEX, answer, is_error, .. } => Some((answer.clone(), *is_error)),
        _ => None,
    });
    assert!(samples.clone().count() > 0 && samples.clone().all(|sample| sample == (Answer::Value(260.0), false)));
    let series = rig.records.iter().find_map(|record| match record {
        Record::Definition { triggers, .. } => Some(triggers.clone()),
        _ => None,
    });
    let series = series.unwrap();
    assert_eq!((series.len(), series[2].kind.as_str(), series[2].threshold), (3, "formula", 10.0005));
    // And back: no trace of it is left.
    rig.edit(&key("shop"), |object| redefine(object, |d| d.modifiers = None));
    rig.seconds(15);
    assert_eq!(rig.object("shop").status.composite_scaler_name, None);
    assert_eq!(rig.views[&key("shop")].metrics.len(), 2);
}

#[test]
fn the_result_and_not_the_triggers_activates() {
    let mut rig = formula(0, "a - b", (500.0, 480.0), |d| modifiers(d).activation_target = 20.0);
    rig.seconds(25);
    assert_eq!(scales(&rig), [], "20 is not above 20");
    rig.set_answer("down", Answer::Value(479.0));
    rig.seconds(12);
    assert_eq!(scales(&rig), [(0, 1)]);
    let note = &rig.events.last().unwrap().note;
    assert!(note.ends_with("from 0 to 1, triggered by composite-metric"), "{note}");
    rig.set_answer("down", Answer::Value(900.0));
    rig.seconds(60);
    assert_eq!(scales(&rig), [(0, 1), (1, 0)]);
    assert_eq!(read(&rig), Ok(0.0), "what is below zero never reaches the HPA");
}

#[test]
fn variables_are_what_the_hpa_would_read() {
    let mut rig = formula(1, "a * 1000 + b", (-5.0, 0.000_6), |_| {});
    rig.seconds(5);
    assert_eq!(read(&rig), Ok(0.001));
    rig.set_answer("down", Answer::Value(2.0 / 3.0));
    rig.seconds(12);
    assert_eq!(read(&rig), Ok(0.667), "rounded, as every metric is");
    let mut rig = formula(1, "a / b", (2.0, 3.0), |_| {});
    rig.seconds(5);
    assert_eq!(read(&rig), Ok(0.666), "cut, so that no replica more is asked for");
}

#[test]
fn a_failing_trigger_fails_the_whole_and_nothing_moves() {
    let mut rig = formula(3, "a ?? b ?? 1", (5.0, 0.0), |_| {});
    rig.seconds(5);
    rig.set_answer("up", Answer::Value(0.0));
    rig.set_answer("down", failed("connection refused"));
    rig.seconds(120);
    assert_eq!(read(&rig), Err("b: connection refused".to_owned()));
    assert_eq!(scales(&rig), [], "without a fallback ?? does not hide an error");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
    let warnings: Vec<_> = rig.events.iter().filter(|event| event.warning).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((warnings[0].reason, warnings[0].note.as_str()), ("KEDAMetricSourceFailed", "b: connection refused"));
    rig.set_answer("down", Answer::Value(0.0));
    rig.seconds(45);
    assert_eq!(scales(&rig), [(3, 0)]);
}

#[test]
fn a_formula_that_fails_is_an_error_with_its_cause() {
    let mut rig = formula(3, "a / b", (1.0, 0.0), |_| {});
    rig.seconds(120);
    let message = "formula, column 3: the result is infinite (+Inf): is something divided by zero?";
    assert_eq!(read(&rig), Err(message.to_owned()));
    assert_eq!(scales(&rig), []);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
    let warnings: Vec<_> = rig.events.iter().filter(|event| event.warning).map(|event| event.note.as_str()).collect();
    assert_eq!(warnings, [message]);
    let composite = last_decision(&rig).pop().unwrap();
    assert_eq!((composite.value, composite.error.as_deref()), (None, Some(message)));
    assert_eq!(composite.formula, Some(format!("1 / 0 fails: {message}")));
    let errors = rig.records.iter().filter(|record| {
        matches!(record, Record::Sample { trigger: composite::INDEX, is_error: true, answer: Answer::Failed(error), .. }
            if error.class.id() == "formula")
    });
    assert!(errors.count() > 0);
    rig.set_answer("down", Answer::Value(2.0));
    rig.seconds(12);
    assert_eq!(read(&rig), Ok(0.5));
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn coalescing_survives_a_failure_that_is_handed_to_it() {
    let mut rig = formula(2, "a ?? b", (100.0, 30.0), fallback(FallbackBehavior::ScalingModifiers));
    rig.seconds(5);
    assert_eq!(read(&rig), Ok(100.0));
    rig.set_answer("up", failed("down"));
    rig.seconds(10);
    assert_eq!(read(&rig), Err("a: down".to_owned()), "one failure is tolerated, and holds");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    rig.seconds(10);
    assert_eq!(read(&rig), Ok(30.0));
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=True FallbackExists");
    let health = &rig.object("shop").status.health;
    assert!(health.get("s0-prometheus").unwrap().failing && !health.get("s1-prometheus").unwrap().failing);
    // Both have failed, so that only the fallback's replicas are left.
    rig.set_answer("down", failed("down"));
    rig.seconds(25);
    assert_eq!(read(&rig), Ok(40.0));
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(12);
    assert_eq!(read(&rig), Ok(0.0));
    rig.seconds(45);
    assert_eq!(scales(&rig), [(2, 0)], "zero is an answer, nil is none");
}

#[test]
fn what_is_nil_and_not_coalesced_holds_and_says_why() {
    let mut rig = formula(2, "a + b", (5.0, 0.0), fallback(FallbackBehavior::ScalingModifiers));
    rig.seconds(5);
    rig.set_answer("up", failed("no such host"));
    rig.seconds(90);
    let message = "formula, column 3: + cannot be used between nil and a number; a is nil: no such host";
    assert_eq!(read(&rig), Err(message.to_owned()));
    assert_eq!(scales(&rig), []);
    // No fallback will follow: the threshold is exceeded.
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=False ScalerNotActive");
}

#[test]
fn other_fallbacks_stand_in_for_the_result() {
    use FallbackBehavior::{CurrentReplicas, CurrentReplicasIfHigher, CurrentReplicasIfLower, Static};
    for (behavior, expected) in
        [(Static, 40.0), (CurrentReplicas, 20.0), (CurrentReplicasIfHigher, 40.0), (CurrentReplicasIfLower, 20.0)]
    {
        let mut rig = formula(2, "a * b", (0.0, 0.0), fallback(behavior));
        rig.set_answer("up", failed("down"));
        rig.seconds(40);
        assert_eq!(read(&rig), Ok(expected), "{behavior:?}");
    }
    // By the target and the type of the formula, not those of the trigger.
    let mut rig = formula(2, "a * b", (0.0, 0.0), |definition| {
        fallback(Static)(definition);
        modifiers(definition).metric_type = MetricType::Value;
        modifiers(definition).target = 2.5;
    });
    rig.ready_pods = 3;
    rig.set_answer("up", failed("down"));
    rig.seconds(40);
    assert_eq!(read(&rig), Ok(3.333));
    // What becomes known between two poll cycles counts at once.
    rig.step(Event::PodsCounted { object: key("shop"), ready: Ok(5) });
    assert_eq!(read(&rig), Ok(2.0));
}

#[test]
fn nothing_is_activated_on_a_fallback_while_another_trigger_waits_for_its_own() {
    let mut rig = formula(0, "a * b", (0.0, 0.0), |definition| {
        fallback(FallbackBehavior::Static)(definition);
        definition.fallback.as_mut().unwrap().failure_threshold = 2;
    });
    rig.seconds(5);
    rig.set_answer("up", failed("down"));
    rig.seconds(20);
    rig.set_answer("down", failed("down"));
    rig.seconds(10);
    assert_eq!(read(&rig), Ok(40.0), "the first has its fallback");
    assert_eq!(scales(&rig), []);
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=False ScalerNotActive");
    rig.seconds(20);
    assert_eq!(scales(&rig), [(0, 1)]);
}

#[test]
fn a_nil_result_is_shared_among_ready_pods_like_any_fallback() {
    let mut rig = formula(2, "a ?? b", (0.0, 0.0), |definition| {
        fallback(FallbackBehavior::ScalingModifiers)(definition);
        modifiers(definition).metric_type = MetricType::Value;
    });
    rig.ready_pods = 2;
    for query in ["up", "down"] {
        rig.set_answer(query, failed("down"));
    }
    rig.seconds(40);
    assert_eq!(read(&rig), Ok(20.0));
}

#[test]
fn a_fallback_keeps_the_target_however_high_the_activation_is() {
    let mut rig = formula(2, "a * b", (0.0, 0.0), |definition| {
        fallback(FallbackBehavior::Static)(definition);
        modifiers(definition).activation_target = 1000.0;
        definition.cooldown_period = Duration::from_secs(200);
    });
    rig.set_answer("up", failed("down"));
    rig.seconds(400);
    assert_eq!(scales(&rig), []);
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=True ScalerActive");
}

#[test]
fn missing_values_keep_to_the_policy_of_their_trigger() {
    let mut rig = formula(1, "a + b", (1.0, 2.0), |_| {});
    rig.set_answer("down", Answer::Missing(Missing::Empty));
    rig.seconds(15);
    assert_eq!(read(&rig), Ok(1.0));
    rig.set_answer("down", Answer::Missing(Missing::NaN));
    rig.seconds(15);
    assert_eq!(read(&rig), Err("b: prometheus query returns NaN".to_owned()));
}

#[test]
fn a_new_formula_over_known_values_is_served_at_once() {
    let mut rig = formula(1, "a + b", (1.0, 2.0), |definition| definition.polling_interval = Duration::from_secs(60));
    rig.seconds(5);
    rig.poll_ms = 10_000;
    rig.edit(&key("shop"), |object| redefine(object, |definition| testing::put_formula(definition, "a * b * 10")));
    rig.seconds(2);
    assert_eq!(read(&rig), Ok(20.0));
}

#[test]
fn a_stepped_clock_moves_the_start_of_a_failure() {
    let mut rig = formula(1, "a / b", (1.0, 0.0), |_| {});
    rig.seconds(25);
    rig.step_clock(-3 * 3_600_000);
    rig.seconds(15);
    let view = &rig.views[&key("shop")];
    let Reading::Failed { since, .. } = view.metrics[2].reading else { panic!("{view:?}") };
    assert!(since <= rig.now && rig.now.since(since) < Duration::from_secs(60), "{since:?} {:?}", rig.now);
}
