//! Tests explanations of given rows.

use serde_json::{Value, json};

use super::*;
use crate::store::SampleValue;
use crate::store::read::{DecisionRow, HpaRow, InterruptionRow, LossRow};
use crate::store::read::{DefinitionRow, ReplicaRow, RunRow, SeriesRow};

const NOW: i64 = 1_767_268_800_000;

/// Returns an object with the triggers `(name, type)` that began an hour ago, and a healthy HPA.
fn evidence(max: u32, triggers: Value, more: Value) -> Evidence {
    let mut spec = json!({ "scaleTargetRef": { "name": "api" }, "maxReplicaCount": max, "triggers": triggers });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    Evidence {
        group: Some(ApiGroup::KedaSh),
        definitions: vec![DefinitionRow {
            generation: 1,
            at: NOW - 3_600_000,
            spec_json: spec.to_string(),
            invalid: None,
        }],
        runs: vec![RunRow {
            version: "0".to_owned(),
            started_at: NOW - 3_600_000,
            stopped_at: None,
            state: "running".to_owned(),
            stood_by_until: None,
        }],
        ..Evidence::default()
    }
}

fn prometheus(name: &str, metric_type: &str) -> Value {
    json!({
        "type": "prometheus", "name": name, "metricType": metric_type,
        "metadata": { "serverAddress": "http://prometheus:9090", "query": name, "threshold": "10" },
    })
}

impl Evidence {
    fn with_series(mut self, id: i64, metric_name: &str, samples: &[(i64, f64)]) -> Self {
        self.series.push(SeriesRow {
            id,
            trigger: 0,
            kind: "prometheus".to_owned(),
            name: None,
            metric_name: metric_name.to_owned(),
            threshold: 10.0,
            activation_threshold: 0.0,
            from: NOW - 3_600_000,
            until: None,
            server: String::new(),
            query: String::new(),
        });
        let samples = samples.iter().map(|(at, value)| (NOW + at, SampleValue::Number(*value)));
        self.samples.insert(id, samples.collect());
        self
    }

    pub(super) fn with_change(mut self, at: i64, from: Option<u32>, to: u32, actor: &str) -> Self {
        let (actor, source) = (actor.to_owned(), "observed".to_owned());
        let manager = (actor == "hpa").then(|| "kube-controller-manager".to_owned());
        self.changes.push(ReplicaRow {
            at: NOW + at,
            from,
            to,
            manager,
            actor,
            source,
            by: String::new(),
            unseen_since: None,
        });
        self
    }

    fn with_hpa(mut self, at: i64, desired: i64, kind: &str, status: &str, reason: &str) -> Self {
        let conditions_json = json!([{ "type": kind, "status": status, "reason": reason, "message": "" }]).to_string();
        self.hpa.push(HpaRow {
            at: NOW + at,
            current: desired,
            desired,
            conditions_json,
            metrics_json: "[]".to_owned(),
        });
        self
    }

    fn now(&self) -> Explanation {
        explain("shop", "web", self, None, NOW)
    }
}

fn last_change(report: &Explanation) -> &Change {
    report.entries[0].change.as_ref().expect("a change of replicas")
}

fn held_by(report: &Explanation) -> Vec<(&str, Option<u32>, Option<i64>)> {
    report.held_by.iter().map(|held| (held.by.as_str(), held.allows, held.seconds_left)).collect()
}

#[test]
fn a_change_names_the_metric_that_asked_for_most_its_age_and_the_limit() {
    let triggers = json!([prometheus("a", "AverageValue"), prometheus("b", "Value")]);
    let report = evidence(20, triggers, json!({}))
        .with_series(1, "s0-prometheus", &[(-6_000, 35.0)])
        .with_series(2, "s1-prometheus", &[(-5_800, 20.0)])
        .with_change(-600_000, None, 3, "other")
        .with_change(-5_000, Some(3), 6, "hpa")
        .now();
    let change = last_change(&report);
    assert_eq!(change.driven_by.as_deref(), Some("s1-prometheus"));
    let proposals: Vec<_> = change.metrics.iter().map(|metric| (metric.metric_type, metric.proposal)).collect();
    assert_eq!(proposals, [(Some("AverageValue"), Some(4)), (Some("Value"), Some(6))]);
    assert_eq!(report.entries[0].text, "3→6 by the HPA: s1-prometheus 20 / 10 in all → 6; 0.8 s after the sample");
}

#[test]
fn with_a_formula_only_its_result_drives() {
    let triggers = json!([prometheus("a", "AverageValue"), prometheus("b", "AverageValue")]);
    let formula =
        json!({ "advanced": { "scalingModifiers": { "formula": "a - b", "target": "10", "metricType": "Value" } } });
    let report = evidence(20, triggers, formula)
        .with_series(1, "s0-prometheus", &[(-6_000, 500.0)])
        .with_series(2, "s1-prometheus", &[(-6_000, 480.0)])
        .with_series(3, "composite-metric", &[(-6_000, 20.0)])
        .with_change(-600_000, None, 2, "other")
        .with_change(-5_000, Some(2), 4, "hpa")
        .now();
    let change = last_change(&report);
    assert_eq!(change.driven_by.as_deref(), Some("composite-metric"));
    let proposals: Vec<_> = change.metrics.iter().map(|metric| (metric.metric_type, metric.proposal)).collect();
    assert_eq!(proposals, [(None, None), (None, None), (Some("Value"), Some(4))]);
    assert!(report.text().contains("s0-prometheus 500, which the HPA does not see"), "{}", report.text());
}

#[test]
fn what_the_hpa_reads_itself_is_named_when_no_metric_of_ours_asked() {
    let cpu = json!({ "type": "cpu", "metricType": "Utilization", "metadata": { "value": "50" } });
    let given = |to| {
        evidence(20, json!([prometheus("a", "AverageValue"), cpu]), json!({}))
            .with_series(1, "s0-prometheus", &[(-6_000, 35.0)])
            .with_change(-600_000, None, 3, "other")
            .with_change(-5_000, Some(3), to, "hpa")
            .now()
    };
    let report = given(6);
    assert_eq!(last_change(&report).driven_by, None);
    assert!(report.entries[0].text.starts_with("3→6 by the HPA: for cpu, which it reads itself"), "{report:?}");
    assert_eq!(held_by(&report)[0].0, "resource", "the count is above what ours asks for: {report:?}");
    let report = given(4);
    assert_eq!(last_change(&report).driven_by.as_deref(), Some("s0-prometheus"));
}

#[test]
fn what_the_hpa_read_itself_comes_from_its_status() {
    let cpu = json!({ "type": "cpu", "metricType": "Utilization", "metadata": { "value": "50" } });
    let memory = json!({ "type": "memory", "metricType": "AverageValue",
        "metadata": { "value": "200Mi", "containerName": "app" } });
    let mut given = evidence(20, json!([prometheus("a", "AverageValue"), cpu, memory]), json!({}))
        .with_series(1, "s0-prometheus", &[(-6_000, 35.0)])
        .with_change(-600_000, None, 3, "other")
        .with_change(-5_000, Some(3), 6, "hpa")
        .with_hpa(-4_900, 6, "AbleToScale", "True", "SucceededRescale");
    given.hpa[0].metrics_json = json!([
        { "type": "Resource", "resource": { "name": "cpu", "current": { "averageUtilization": 100, "averageValue": "1" } } },
        { "type": "ContainerResource",
          "containerResource": { "name": "memory", "container": "app", "current": { "averageValue": "150Mi" } } },
    ])
    .to_string();
    let text = given.now().entries[0].text.clone();
    let read = "for cpu 100 % / 50 %, memory of container app 150Mi / 200Mi per pod, which it reads itself";
    assert!(text.starts_with(&format!("3→6 by the HPA: {read}")), "{text}");
}

#[test]
fn what_holds_again_and_again_is_one_entry() {
    let entry = |time: i64, kind: &'static str, by: Option<&str>| Entry {
        at: String::new(),
        kind,
        change: None,
        held: by.map(|by| Held {
            by: by.to_owned(),
            allows: None,
            seconds_left: None,
            since: None,
            text: String::new(),
            claims: Vec::new(),
        }),
        text: by.unwrap_or(kind).to_owned(),
        claims: Vec::new(),
        time: NOW + time,
    };
    let entries = vec![
        entry(-90_000, "held", Some("tolerance")),
        entry(-80_000, "held", Some("max")),
        entry(-70_000, "held", Some("tolerance")),
        entry(-60_000, "held", Some("tolerance")),
        entry(-50_000, "replicas", None),
        entry(-40_000, "held", Some("tolerance")),
        entry(-30_000, "held", Some("tolerance")),
    ];
    let entries = state::without_repetitions(entries, NOW);
    let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
    let last = |time: i64| time_text::short(NOW + time, NOW);
    assert_eq!(
        texts,
        [
            &format!("tolerance; 2 times more, last {}", last(-60_000)),
            "max",
            "replicas",
            &format!("tolerance; once more, last {}", last(-30_000)),
        ]
    );
}

#[test]
fn a_count_is_held_by_its_bounds_the_tolerance_or_the_window() {
    let given = |value: f64, replicas: u32, more: Value| {
        evidence(5, json!([prometheus("a", "AverageValue")]), more)
            .with_series(1, "s0-prometheus", &[(-100_000, 50.0), (-1_000, value)])
            .with_change(-600_000, None, replicas, "other")
    };
    let none = json!({});
    assert_eq!(held_by(&given(90.0, 5, none.clone()).now()), [("max", Some(5), None)]);
    assert_eq!(held_by(&given(5.0, 2, json!({ "minReplicaCount": 2 })).now()), [("min", Some(2), None)]);
    assert_eq!(held_by(&given(42.0, 4, none.clone()).now()), [("tolerance", None, None)]);
    assert_eq!(held_by(&given(30.0, 3, none.clone()).now()), []);
    // 300 s after the last sample that asked for the current count.
    assert_eq!(held_by(&given(20.0, 5, none.clone()).now()), [("stabilization", None, Some(200))]);
    let short = json!({ "advanced": { "horizontalPodAutoscalerConfig": { "behavior": {
        "scaleDown": { "stabilizationWindowSeconds": 60 },
    } } } });
    assert_eq!(held_by(&given(20.0, 5, short.clone()).now()), [], "the window is over");
    let observed = given(20.0, 5, short).with_hpa(-1_000, 5, "AbleToScale", "True", "ScaleDownStabilized");
    assert_eq!(held_by(&observed.now()), [("stabilization", None, Some(0))], "the HPA knows better");
    let failing = given(30.0, 3, none).with_hpa(-1_000, 3, "ScalingActive", "False", "FailedGetExternalMetric");
    assert_eq!(held_by(&failing.now()), [("hpa", None, None)]);
}

#[test]
fn an_hpa_that_scaled_to_zero_by_itself_holds_it_there() {
    let given = |status: &str, reason: &str| {
        let mut given = evidence(5, json!([prometheus("a", "AverageValue")]), json!({ "minReplicaCount": 0 }))
            .with_series(1, "s0-prometheus", &[(-70_000, 5.0), (-10_000, 0.0)])
            .with_change(-600_000, None, 1, "other")
            .with_change(-5_000, Some(1), 0, "hpa")
            .with_hpa(-4_000, 0, "ScaledToZero", status, reason);
        given.group = Some(ApiGroup::Autoscaling);
        given
    };
    let report = given("True", "ScaledToZero").now();
    assert_eq!(held_by(&report), [("hpa-scaled-to-zero", Some(0), None)]);
    assert!(report.held_by[0].text.contains("once a metric asks for it"), "{:?}", report.held_by);
    assert!(report.entries[0].text.contains("its minReplicas is 0"), "{}", report.entries[0].text);
    assert_eq!(held_by(&given("False", "NotScaledToZero").now()), []);
    let mut failing = given("True", "ScaledToZero");
    let mut conditions: Value = serde_json::from_str(&failing.hpa[0].conditions_json).expect("was written as JSON");
    let failed =
        json!({ "type": "ScalingActive", "status": "False", "reason": "FailedGetExternalMetric", "message": "m" });
    conditions.as_array_mut().expect("is a list").push(failed);
    failing.hpa[0].conditions_json = conditions.to_string();
    assert_eq!(held_by(&failing.now()), [("hpa", None, None)], "it cannot scale up");
}

#[test]
fn a_full_pause_hides_what_else_holds_and_dates_from_its_first_decision() {
    let decision = |at: i64, reason: &str, pause: Option<&str>| DecisionRow {
        at: NOW + at,
        reason: reason.to_owned(),
        from: 5,
        to: 5,
        triggers_json: "[]".to_owned(),
        pause: pause.map(str::to_owned),
        ..DecisionRow::default()
    };
    let mut given = evidence(5, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &[(-1_000, 90.0)])
        .with_change(-600_000, None, 5, "other");
    given.decisions = vec![
        decision(-300_000, "Active", None),
        decision(-200_000, "Paused", Some("paused")),
        decision(-100_000, "Paused", Some("paused")),
    ];
    let report = given.now();
    assert_eq!(held_by(&report), [("pause", None, None)]);
    assert_eq!(report.held_by[0].since.as_deref(), Some(&*iso(NOW - 200_000)));
    let before = explain("shop", "web", &given, None, NOW - 250_000);
    assert_eq!(held_by(&before), [("no-samples", None, None)], "neither a pause nor a value was known then");
}

#[test]
fn samples_that_come_late_are_told_from_those_that_stay_away() {
    for (age_s, held) in [(30, None), (49, None), (60, Some("late-samples")), (99, Some("late-samples"))]
        .into_iter()
        .chain([(150, Some("no-samples"))])
    {
        let given = evidence(5, json!([prometheus("a", "AverageValue")]), json!({ "pollingInterval": 30 }))
            .with_series(1, "s0-prometheus", &[(-1_000 * age_s, 10.0)])
            .with_change(-600_000, None, 1, "other");
        let report = given.now();
        let found = report.held_by.iter().find(|one| one.by.ends_with("-samples"));
        assert_eq!(found.map(|one| one.by.as_str()), held, "{age_s} s: {:?}", report.held_by);
        if held == Some("late-samples") {
            let text = format!("late: the newest sample is {age_s} s old, though polled every 30 s (its server");
            assert!(found.is_some_and(|one| one.text.starts_with(&text)), "{found:?}");
        }
    }
}

#[test]
fn what_the_history_lost_is_reported_where_it_is_missing() {
    let mut given = evidence(5, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &[(-1_000, 20.0)])
        .with_change(-600_000, Some(1), 2, "other");
    let cause = "database or disk is full".to_owned();
    given.losses = vec![LossRow { from: NOW - 500_000, until: NOW - 400_000, samples: 12, others: 3, cause }];
    for since in [None, Some(NOW - 3_000_000)] {
        let report = explain("shop", "web", &given, since, NOW);
        let losses: Vec<&Entry> = report.entries.iter().filter(|entry| entry.kind == "loss").collect();
        assert_eq!(losses.len(), 1);
        assert!(losses[0].text.contains("12 samples and 3 other records"), "{}", losses[0].text);
        assert!(losses[0].text.ends_with("database or disk is full"), "{}", losses[0].text);
        assert!(report.entries.is_sorted_by_key(|entry| entry.time));
    }
}

#[test]
fn no_control_character_reaches_a_terminal() {
    let mut given = evidence(5, json!([]), json!({}));
    given.definitions[0].invalid = Some("bad \u{1b}[31mtext\nand more".to_owned());
    let text = given.now().text();
    assert!(text.contains("bad  [31mtext and more"), "{text:?}");
}

fn outcome(evidence: &mut Evidence, id: i64, at: i64, outcome: &str) {
    evidence.samples.entry(id).or_default().push((NOW + at, SampleValue::Outcome(outcome.into())));
}

/// Returns the triggers of a decision as they are stored.
fn decided(at: i64, reason: &str, triggers: &Value) -> DecisionRow {
    DecisionRow {
        at: NOW + at,
        reason: reason.to_owned(),
        from: 5,
        to: 5,
        triggers_json: triggers.to_string(),
        ..DecisionRow::default()
    }
}

#[test]
fn series_that_vanished_scaled_it_in() {
    let mut given = evidence(8, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &[(-70_000, 42.0), (-60_000, 42.0)])
        .with_change(-600_000, None, 5, "other");
    for at in (-50_000..0).step_by(10_000) {
        outcome(&mut given, 1, at, "empty");
    }
    let given =
        given.with_change(-25_000, Some(5), 1, "hpa").with_hpa(-24_900, 1, "ScalingLimited", "True", "TooFewReplicas");
    let report = given.now();
    let since = time_text::short(NOW - 50_000, NOW);
    let says = format!("s0-prometheus: no series since {since}, which reads as 0 (ignoreNullValues) → 0");
    assert_eq!(report.entries[0].text, format!("5→1 by the HPA: {says}; limited by the minimum 1"));
    let text = report.text();
    assert!(text.contains(&format!("metric {says}")), "{text}");
    assert!(!text.contains("no sample"), "{text}");
    assert_eq!(held_by(&report), [("min", Some(1), None)]);
}

#[test]
fn a_fallback_is_the_cause_with_its_count_of_failures() {
    let mut given = evidence(
        20,
        json!([prometheus("a", "AverageValue")]),
        json!({ "fallback": { "failureThreshold": 2, "replicas": 3 } }),
    )
    .with_series(1, "s0-prometheus", &[])
    .with_change(-600_000, None, 1, "other");
    for at in [-40_000, -30_000, -20_000, -10_000] {
        outcome(&mut given, 1, at, "connect");
    }
    let error = crate::store::read::ErrorRow {
        from: NOW - 40_000,
        last_at: NOW - 40_000,
        until: None,
        outcome: "connect".to_owned(),
        message: "refused".to_owned(),
        polls: 1,
    };
    given.errors.push((1, error));
    let trigger = json!([{ "metric": "s0-prometheus", "value": 30.0, "fallback": true }]);
    given.decisions.push(decided(-20_000, "Active", &trigger));
    let report = given.with_change(-15_000, Some(1), 3, "hpa").now();
    let first = time_text::short(NOW - 40_000, NOW);
    assert_eq!(
        report.entries[0].text,
        format!("1→3 by the HPA: fallback to 3 replicas since s0-prometheus failed 3 times, first at {first}")
    );
    assert_eq!(
        report.held_by[0].text,
        format!(
            "trigger s0-prometheus in error since {first} (4 polls): refused (connect), fallback to 3 replicas is active"
        )
    );
}

#[test]
fn the_window_is_inferred_from_a_scale_in() {
    let given = |samples: &[(i64, f64)]| {
        evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
            .with_series(1, "s0-prometheus", samples)
            .with_change(-600_000, None, 12, "other")
    };
    let stabilized = |given: Evidence| given.with_hpa(-1_000, 12, "AbleToScale", "True", "ScaleDownStabilized");
    let text = |report: &Explanation| report.held_by[0].text.clone();
    // Nothing is known: the default, and that it is one.
    let report = stabilized(given(&[(-18_000, 120.0), (-8_000, 20.0)])).now();
    let about = "the HPA controller's stabilization window, about 300 s unless its flag says otherwise";
    assert!(
        text(&report).starts_with(&format!("{about}, about 282 s left, the HPA says ScaleDownStabilized: ")),
        "{report:?}"
    );
    // The explanation of a scale-in names the last sample that asked for more, whatever the window.
    let report = given(&[(-38_000, 120.0), (-28_000, 20.0)]).with_change(-20_000, Some(12), 2, "hpa").now();
    let asked = time_text::short(NOW - 38_000, NOW);
    assert!(
        report.entries[0].text.contains(&format!(
            "no sample asked for more than 2 since {asked}, when s0-prometheus asked for 12, 18 s before"
        )),
        "{}",
        report.entries[0].text
    );
    assert!(!report.text().contains("300 s"), "{}", report.text());
    // From then on the window is known.
    let samples =
        [(-118_000, 120.0), (-108_000, 120.0), (-98_000, 120.0), (-88_000, 20.0), (-10_000, 120.0), (-5_000, 20.0)];
    // A sample that the HPA may not have read, or a scale-in that it did not delay, shows nothing.
    let unsure = given(&samples).with_change(-80_000, Some(12), 2, "hpa").with_change(-9_000, Some(2), 12, "hpa");
    assert!(text(&stabilized(unsure).now()).starts_with("the HPA controller's stabilization window, the HPA says "));
    let again = given(&samples)
        .with_hpa(-85_000, 12, "AbleToScale", "True", "ScaleDownStabilized")
        .with_change(-80_000, Some(12), 2, "hpa")
        .with_change(-9_000, Some(2), 12, "hpa");
    let report = stabilized(again).now();
    let seen = time_text::short(NOW - 80_000, NOW);
    assert!(
        text(&report).starts_with(&format!(
            "the HPA controller's stabilization window, about 18 s as at the scale-in of {seen}, about 8 s left, "
        )),
        "{report:?}"
    );
    // The object's own behavior needs no inference.
    let own = json!({ "advanced": { "horizontalPodAutoscalerConfig": { "behavior": {
        "scaleDown": { "stabilizationWindowSeconds": 60 },
    } } } });
    let own = evidence(20, json!([prometheus("a", "AverageValue")]), own)
        .with_series(1, "s0-prometheus", &[(-18_000, 120.0), (-8_000, 20.0)])
        .with_change(-600_000, None, 12, "other");
    assert!(text(&own.now()).starts_with("the stabilization window of 60 s in its behavior, about 42 s left: "));
}

#[test]
fn a_tolerance_that_rows_refute_is_not_claimed() {
    let given = || {
        evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
            .with_series(1, "s0-prometheus", &[(-50_000, 42.0), (-1_000, 52.0)])
            .with_change(-600_000, None, 4, "other")
    };
    // 42 asks for 5, and 10 % would have kept 4.
    let report = given().with_change(-40_000, Some(4), 5, "hpa").now();
    assert!(
        report.entries[0].text.ends_with("s0-prometheus 42 / 10 per replica → 5; 10.0 s after the sample"),
        "{report:?}"
    );
    assert_eq!(held_by(&report), []);
    assert!(report.text().contains("nothing is known to hold it: the metrics ask for 6"), "{}", report.text());
    let mut report = given();
    report.samples.insert(1, vec![(NOW - 1_000, SampleValue::Number(42.0))]);
    let report = report.now();
    assert_eq!(held_by(&report), [("tolerance", None, None)]);
    let text = &report.held_by[0].text;
    assert!(text.starts_with("the HPA controller's tolerance, about 10 % unless its flag says otherwise: "), "{text}");
}

#[test]
fn an_hpa_that_cannot_act_also_holds_a_count_that_never_changed() {
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &[(-1_000, 50.0)])
        .with_change(-600_000, None, 2, "other")
        .with_hpa(-500_000, 2, "ScalingActive", "False", "FailedGetExternalMetric");
    given.hpa[0].conditions_json =
        given.hpa[0].conditions_json.replace(r#""message":"""#, r#""message":"no such API""#);
    let report = given.now();
    assert_eq!(report.replicas, Some(2));
    assert_eq!(report.held_by[0].text, "the HPA, ScalingActive=False FailedGetExternalMetric: no such API");
    assert_eq!(report.held_by.len(), 1);
}

#[test]
fn a_change_seen_at_a_start_may_be_older() {
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_change(-600_000, None, 5, "other")
        .with_change(-99_000, Some(5), 2, "other");
    given.runs.push(RunRow {
        version: "0".to_owned(),
        started_at: NOW - 100_000,
        stopped_at: None,
        state: "running".to_owned(),
        stood_by_until: None,
    });
    let report = given.now();
    let started = time_text::short(NOW - 100_000, NOW);
    assert!(
        report.entries[0].text.starts_with(&format!(
            "5→2 by someone else (inferred), seen when hpalite started at {started}, it may be older: "
        )),
        "{report:?}"
    );
    // Once it is polled, the first lists have shown its target.
    let report = given.with_series(1, "s0-prometheus", &[(-99_500, 5.0)]).now();
    assert!(report.entries[0].text.starts_with("5→2 by someone else (inferred): "), "{report:?}");
}

/// Regression: what was in force before the time that is asked for was no sample.
#[test]
fn the_sample_of_before_counts_when_the_time_begins() {
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &[(-70_000, 5.0), (-40_000, 5.0), (-10_000, 5.0)])
        .with_change(-600_000, None, 1, "other")
        .with_hpa(-65_000, 1, "AbleToScale", "True", "ReadyForNewScale");
    given.spans = vec![crate::store::read::Range { from: NOW - 69_000, to: NOW }];
    let report = explain("shop", "web", &given, Some(NOW - 69_000), NOW);
    assert!(report.entries.is_empty(), "{report:?}");
    given.samples.get_mut(&1).expect("samples").remove(0);
    let report = explain("shop", "web", &given, Some(NOW - 69_000), NOW);
    let since = time_text::short(NOW - 69_000, NOW);
    let missing = format!("held by missing samples: s0-prometheus has no sample since {since} at least");
    assert_eq!(report.entries[0].text, missing);
}

#[test]
fn a_change_that_an_interrupted_watch_has_missed_may_be_older() {
    for (previous, since) in [(-600_000, -200_000), (-150_000, -150_000)] {
        let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
            .with_change(previous, None, 5, "other")
            .with_change(-99_000, Some(5), 2, "other");
        given.changes[1].unseen_since = Some(NOW - 200_000);
        let since = time_text::short(NOW + since, NOW);
        let expected = format!(
            "5→2 by someone else (inferred), seen when the API server answered again, it may have been any time since {since}: "
        );
        let report = given.now();
        assert!(report.entries[0].text.starts_with(&expected), "{report:?}");
    }
}

#[test]
fn a_start_after_a_crash_says_so() {
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}));
    given.runs.clear();
    given = given.with_series(1, "s0-prometheus", &[(-145_000, 1.0), (-99_000, 1.0)]);
    for (seconds_ago, state, stopped_at) in
        [(300, "orderly", Some(NOW - 250_000)), (200, "lost", None), (100, "running", None)]
    {
        let (version, state) = ("0".to_owned(), state.to_owned());
        given.runs.push(RunRow {
            version,
            started_at: NOW - seconds_ago * 1_000,
            stopped_at,
            state,
            stood_by_until: None,
        });
    }
    let report = explain("shop", "web", &given, Some(NOW - 600_000), NOW);
    let texts: Vec<_> =
        report.entries.iter().filter(|entry| entry.kind == "daemon").map(|entry| entry.text.as_str()).collect();
    let last = time_text::short(NOW - 145_000, NOW);
    let after_a_crash = format!(
        "hpalite started, after it was killed or crashed; the last that it recorded of this object is from {last}"
    );
    assert_eq!(texts, ["hpalite started", "hpalite stopped", "hpalite started", &after_a_crash]);
}

/// Regression: what another instance did was called missing samples, and a scale to zero somebody else's.
#[test]
fn the_time_that_a_process_stood_by_is_another_one_s() {
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &[(-100_000, 5.0), (-1_000, 5.0)])
        .with_change(-600_000, None, 5, "other");
    given.runs[0].stood_by_until = Some(NOW - 101_000);
    let report = explain("shop", "web", &given, Some(NOW - 3_600_000), NOW);
    let (since, until) = (time_text::short(NOW - 3_600_000, NOW - 101_000), NOW - 101_000);
    let leads = report.entries.iter().find(|entry| entry.text == "hpalite leads, after it stood by");
    assert_eq!(leads.map(|entry| entry.time), Some(until));
    let before = explain("shop", "web", &given, None, until - 1);
    let held = before.held_by.iter().find(|held| held.by == "standby").expect("it is told");
    assert!(held.text.ends_with(&format!("this one stood by since {since}")), "{}", held.text);
    assert!(before.held_by.iter().all(|held| held.by != "no-samples"), "{before:?}");
    assert!(report.held_by.iter().all(|held| held.by != "standby"), "{report:?}");
}

#[test]
fn a_pause_without_a_decision_is_in_the_condition() {
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}));
    given.paused.push(crate::store::read::ConditionRow {
        at: NOW - 60_000,
        status: "True".to_owned(),
        reason: "ScaledObjectPaused".to_owned(),
        message: "paused by annotation".to_owned(),
    });
    let report = given.now();
    let since = time_text::short(NOW - 60_000, NOW);
    assert_eq!(report.held_by[0].text, format!("a pause since {since}: paused by annotation"));
    assert_eq!(report.held_by.len(), 1);
}

#[test]
fn another_schema_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let file = rusqlite::Connection::open(&path).expect("a file");
    for (version, says) in [(0, "this is no database of hpalite: "), (99, "written by a newer hpalite (schema 99, ")] {
        file.pragma_update(None, "user_version", version).expect("a version");
        let error =
            why(&path, "shop", "web", None, Question::At(UnixMillis(NOW))).expect_err("it is unreadable").to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn interruptions_are_told_where_they_matter() {
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &[(-1_000, 5.0)])
        .with_change(-600_000, None, 5, "other")
        .with_change(-300_000, Some(5), 6, "other");
    let row = |kind: &str, from: i64, until: i64, times| InterruptionRow {
        kind: kind.to_owned(),
        from: NOW + from,
        until: NOW + until,
        times,
    };
    given.interruptions = vec![
        row("lease", -900_000, -800_000, 1),
        row("standstill", -400_000, -310_000, 1),
        row("clock-back", -200_000, -110_000, 1),
        row("api-server", -100_000, -50_000, 3),
    ];
    let interruptions = |report: &Explanation| -> Vec<String> {
        let entries = report.entries.iter().filter(|entry| entry.kind == "interruption");
        entries.map(|entry| entry.text.clone()).collect()
    };
    let at = |ms: i64| time_text::short(NOW + ms, NOW);
    let standstill = format!(
        "hpalite stood still from {} to {}: it was stopped, suspended with its machine, or without CPU time",
        at(-400_000),
        at(-310_000)
    );
    let silence =
        format!("no request to the API server was answered from {} to {}, 3 times", at(-100_000), at(-50_000));
    // Of a moment: what the change and the moment came shortly after.
    assert_eq!(interruptions(&given.now()), [standstill.clone(), silence.clone()]);
    let since = explain("shop", "web", &given, Some(NOW - 3_600_000), NOW);
    let wait = format!(
        "hpalite only watched from {} to {}: it could not acquire its Lease, which nobody else was seen to have",
        at(-900_000),
        at(-800_000)
    );
    let (from, until) = (at(-110_000), at(-200_000));
    let step = format!("the wall clock was stepped back from {from} to {until}: times in between came twice");
    assert_eq!(interruptions(&since), [wait, standstill, step, silence]);
}

/// Regression: the work for one answer grew with the product of decisions, errors and samples, without a limit.
#[test]
fn too_little_effort_leaves_out_what_is_oldest_and_says_so() {
    let samples: Vec<(i64, f64)> =
        (-600..0).map(|second| (second * 1_000, f64::from(i32::from(second % 7 == 0)))).collect();
    let mut given = evidence(20, json!([prometheus("a", "AverageValue")]), json!({}))
        .with_series(1, "s0-prometheus", &samples)
        .with_change(-600_000, None, 5, "other");
    for minute in -9..0 {
        given = given.with_change(minute * 60_000, Some(5), 6, "hpalite").with_change(
            minute * 60_000 + 1,
            Some(6),
            5,
            "hpalite",
        );
    }
    for second in -600..0 {
        let reason = if second % 2 == 0 { "CoolingDown" } else { "Active" };
        given.decisions.push(decided(second * 1_000, reason, &json!([{ "metric": "s0-prometheus", "value": 1 }])));
    }
    let since = Some(NOW - 600_000);
    let explained = |effort| explain_within("shop", "web", &given, since, NOW, effort);
    let of = |report: &Explanation, after: i64| -> Vec<String> {
        let kept = report.entries.iter().filter(|entry| entry.time > after && entry.kind == "replicas");
        kept.map(|entry| format!("{} {}", entry.at, entry.text)).collect()
    };
    let (all, left) = explained(u64::MAX).expect("there is no limit");
    let needed = u64::MAX - left;
    assert_eq!((all.cut.as_ref(), of(&all, 0).len()), (None, 19));
    assert!(explained(needed + 1).is_some_and(|(report, _)| report.cut.is_none()));
    assert!(explained(1).is_none(), "it does not suffice for the end");
    for part in [2, 4] {
        let (report, left) = explained(needed / part).expect("it suffices for the end");
        let cut = crate::wire::time::parse_rfc3339(report.cut.as_ref().expect("it is told")).expect("a time");
        assert!(cut.0 > NOW - 600_000 && left == 0, "{cut}");
        assert_eq!(of(&report, cut.0), of(&all, cut.0));
        assert!((1..19).contains(&of(&report, 0).len()));
        assert_eq!(report.held_by.len(), all.held_by.len());
        assert!(report.text().contains("what was until"), "{}", report.text());
    }
}
