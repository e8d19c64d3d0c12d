use super::*;
use crate::history::{Buckets, Definition, Grid, Period, Threshold};
use crate::store::SampleValue;
use crate::store::read::RunRow;
use crate::store::read::{DecisionRow, ErrorRow, Range, ReplicaRow};

/// 2026-01-01T12:00:00Z and the hour after it.
const FROM: i64 = 1_767_268_800_000;
const RANGE: Range = Range { from: FROM, to: FROM + 3_600_000 };
const NARROW: Style = Style { width: 40, ascii: false, colour: false };
const NARROW_ASCII: Style = Style { ascii: true, ..NARROW };

fn nothing() -> History {
    History {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        group: "keda.sh",
        from: RANGE.from,
        to: RANGE.to,
        step: 1,
        triggers: Vec::new(),
        replicas: Vec::new(),
        replica_changes: Vec::new(),
        decisions: Vec::new(),
        definitions: Vec::new(),
        periods: Vec::new(),
        runs: Vec::new(),
        lives: Vec::new(),
        cut: Vec::new(),
    }
}

fn trigger(style: Style, threshold: f64, samples: impl IntoIterator<Item = (i64, f64)>) -> TriggerHistory {
    let mut buckets = Buckets::new(Grid::exact(RANGE, style.points()));
    for (second, value) in samples {
        buckets.add(FROM + second * 1_000, &SampleValue::Number(value));
    }
    TriggerHistory {
        index: 0,
        kind: "prometheus".to_owned(),
        name: None,
        metric: "s0-prometheus".to_owned(),
        target: "AverageValue".to_owned(),
        thresholds: vec![Threshold { from: 0, until: None, threshold, activation: 0.0 }],
        stretches: buckets.stretches(),
        silences: buckets.silences(),
        errors: Vec::new(),
        samples: buckets.samples(),
    }
}

fn one(style: Style, threshold: f64, samples: impl IntoIterator<Item = (i64, f64)>) -> String {
    render(&History { triggers: vec![trigger(style, threshold, samples)], ..nothing() }, style)
}

fn assert_plot(found: &str, expected: &str) {
    // Compares the rendered text as a whole; the message shows both as they look.
    assert!(found.trim_end() == expected.trim(), "found\n{found}\nexpected\n{}", expected.trim());
}

#[test]
fn nothing_at_all() {
    assert_plot(
        &render(&nothing(), NARROW),
        "
shop/web
no trigger was measured in this time
    UTC └┬──────────────┬──────────────┬
       12:00          12:30        13:00
",
    );
}

#[test]
fn one_sample() {
    assert_plot(
        &one(NARROW, 10.0, [(1800, 5.0)]),
        "
shop/web

s0-prometheus  last 5  threshold 10 per…
     10 │╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
        │
        │
        │               ⡀
        │
        │
        │
      0 │
    UTC └┬──────────────┬──────────────┬
       12:00          12:30        13:00

⣀ value  ╌ threshold
",
    );
}

#[test]
fn constant() {
    assert_plot(
        &one(NARROW_ASCII, 10.0, (0..240).map(|i| (i * 15, 10.0))),
        "
shop/web

s0-prometheus  last 10  threshold 10 pe~
     10 |*******************************
        |
        |
        |
        |
        |
        |
      0 |
    UTC ++--------------+--------------+
       12:00          12:30        13:00

* value  - threshold
",
    );
}

#[test]
fn a_wave_with_a_gap() {
    let wave = (0..240).filter(|i| !(100..130).contains(i)).map(|i| (i * 15, 50.0 + 50.0 * (i as f64 / 20.0).sin()));
    assert_plot(
        &one(NARROW, 75.0, wave),
        "
shop/web

s0-prometheus  last 21.1  threshold 75 …
    100 │  ⡰⠋⠙⢆            ⢠⠞⠉⢦
        │ ⣰⠁  ⠈⣇          ⢠⠃   ⢧
        │⢰⠃╌╌╌╌⠸⡄╌╌╌╌╌╌╌╌⢀⡏╌╌╌╌⠈⣇╌╌╌╌╌╌╌
        │⡏      ⢱⡀       ⠈      ⠸⡄
        │        ⢧               ⢳
        │        ⠘⡆              ⠈⣇
        │         ⠹⡄              ⠘⣆  ⢠⠇
      0 │          ⠙⢄⣀             ⠸⣄⣠⠋
    UTC └┬──────────────┬──────────────┬
       12:00          12:30        13:00

⣀ value  ╌ threshold
",
    );
}

#[test]
fn huge_values_and_a_threshold_out_of_sight() {
    assert_plot(
        &one(NARROW_ASCII, 1e300, (0..240).map(|i| (i * 15, if i == 120 { -f64::MAX } else { f64::MAX }))),
        "
shop/web

s0-prometheus  last 1.8e308  threshold ~
1.8e308 |*******************************
        |              **
        |              **
        |--------------**---------------
        |               *
        |               *
        |               *
 -2e308 |               *
    UTC ++--------------+--------------+
       12:00          12:30        13:00

* value  - threshold
",
    );
    let plot = one(Style { width: 80, ..NARROW }, 1e6, (0..240).map(|i| (i * 15, 2.0)));
    assert!(plot.contains("(above") && !plot.contains('╌'), "{plot}");
}

#[test]
fn samples_without_a_number_are_marked_and_not_drawn() {
    let mut buckets = Buckets::new(Grid::exact(RANGE, NARROW.points()));
    for i in 0..240 {
        let failed = (80..160).contains(&i);
        let value = if failed { SampleValue::Outcome("empty".into()) } else { SampleValue::Number(3.0) };
        buckets.add(FROM + i * 15_000, &value);
    }
    let mut trigger = trigger(NARROW, 3.0, []);
    (trigger.stretches, trigger.silences) = (buckets.stretches(), buckets.silences());
    trigger.thresholds.clear();
    let message = "the target \u{1b}[31mis gone".to_owned();
    let error = ErrorRow { from: FROM - 5, last_at: FROM, until: None, outcome: "x".into(), message, polls: 1 };
    let history = History { triggers: vec![trigger], ..nothing() };
    assert_plot(
        &render(&history, NARROW),
        "
shop/web

s0-prometheus  last 3
      3 │⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠁         ⠈⠉⠉⠉⠉⠉⠉⠉⠉⠉⠁
        │
        │
        │
        │
        │
        │
      0 │
   gaps │          ░░░░░░░░░░░
    UTC └┬──────────────┬──────────────┬
       12:00          12:30        13:00

⣀ value  ░ no number
",
    );
    let mut coloured = history;
    coloured.triggers[0].errors.push(error);
    coloured.from -= 10;
    let text = render(&coloured, Style { colour: true, ..NARROW });
    assert!(text.contains("\x1b[31m✗"), "{text:?}");
    assert!(!text.contains("the target \x1b"), "control characters of others are not passed on: {text:?}");
}

#[test]
fn an_object_that_was_gone_for_a_while() {
    let step = |minute: i64, last: Option<u32>| {
        let replicas = last.unwrap_or(0);
        ReplicaStep { at: FROM + minute * 60_000, min: replicas, max: replicas, last }
    };
    let replicas = vec![step(0, Some(2)), step(20, None), step(40, Some(0))];
    assert_plot(
        &render(&History { replicas, ..nothing() }, NARROW_ASCII),
        "
shop/web
no trigger was measured in this time

replicas  last 0  most 2
      2 |##########
        |##########
        |##########
      0 |##########          ___________
    UTC ++--------------+--------------+
       12:00          12:30        13:00

# replicas
",
    );
}

#[test]
fn no_line_is_wider_than_asked() {
    let mut history = nothing();
    history.name = "n".repeat(250);
    history.triggers.push(trigger(NARROW, 5.0, (0..240).map(|i| (i * 15, (i % 7) as f64))));
    for width in [0, 40, 41, 79, 80, 137, 300, 5_000] {
        let text = render(&history, Style { width, ..NARROW });
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= width.clamp(WIDTH_MIN, WIDTH_MAX), "{width}: {widest}");
    }
}

#[test]
fn everything() {
    let style = Style { width: 80, ..NARROW };
    let at = |minute: i64| FROM + minute * 60_000;
    let samples = (0..240).filter(|i| !(100..112).contains(i)).map(|i| (i * 15, if i < 60 { 0.0 } else { 400.0 }));
    let mut trigger = trigger(style, 75.0, samples);
    trigger.errors.push(ErrorRow {
        from: at(25),
        last_at: at(27),
        until: Some(at(28)),
        outcome: "timeout".into(),
        message: "no answer within 3 s".into(),
        polls: 12,
    });
    let change = |minute, from, to, actor: &str| ReplicaRow {
        at: at(minute),
        from: Some(from),
        to,
        actor: actor.into(),
        source: "observed".into(),
        manager: None,
        by: match actor {
            "hpa" => "the HPA".into(),
            "other" => "kubectl".into(),
            actor => actor.into(),
        },
        unseen_since: None,
    };
    let step = |minute, last| ReplicaStep { at: at(minute), min: last, max: last, last: Some(last) };
    let history = History {
        triggers: vec![trigger],
        replicas: vec![step(-100, 0), step(15, 1), step(16, 6), step(50, 2)],
        replica_changes: vec![change(50, 6, 2, "other"), change(16, 1, 6, "hpa"), change(15, 0, 1, "hpalite")],
        decisions: vec![DecisionRow {
            at: at(15),
            from: 0,
            to: 1,
            reason: "Activated".into(),
            detail: "activated by s0-prometheus".into(),
            outcome: "done".into(),
            ..DecisionRow::default()
        }],
        definitions: vec![Definition {
            at: at(5),
            generation: 2,
            invalid: None,
            changes: vec!["maxReplicaCount: 5 -> 9".into()],
            first: false,
        }],
        periods: vec![Period {
            kind: PeriodKind::Paused,
            from: at(52),
            until: Some(at(56)),
            reason: "ScaledObjectPaused".into(),
            message: "paused\nby annotation".into(),
        }],
        runs: vec![RunRow {
            version: "0.1.0".into(),
            started_at: at(2),
            stopped_at: None,
            state: "running".into(),
            stood_by_until: None,
        }],
        cut: vec!["decisions"],
        ..nothing()
    };
    assert_plot(
        &render(&history, style),
        "
shop/web

s0-prometheus  last 400  threshold 75 per replica
    400 │                 ⢸⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠁   ⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠁
        │                 ⢸
        │                 ⢸
        │                 ⢸
        │                 ⡇
        │                 ⡇
        │╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌⡇╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
      0 │⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⡇
   gaps │                             ✗✗✗✗

replicas  last 2  most 6
      6 │                  █████████████████████████████████████████
        │                  █████████████████████████████████████████
        │                  █████████████████████████████████████████▃▃▃▃▃▃▃▃▃▃▃▃
      0 │▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▆█████████████████████████████████████████████████████
 events │  ┃  ◆           ▲▲                                       ▼
  state │                                                             ═════
    UTC └┬────────────────┬─────────────────┬────────────────┬─────────────────┬
       12:00            12:15             12:30            12:45           13:00

⣀ value  ╌ threshold  ✗ error  █ replicas  ┃ hpalite started  ◆ definition
▲ scaled up  ▼ scaled down  ═ paused

2026-01-01T12:05:00Z generation 2 maxReplicaCount: 5 -> 9
2026-01-01T12:15:00Z replicas 0 -> 1 by hpalite
2026-01-01T12:15:00Z 0 -> 1: activated by s0-prometheus
2026-01-01T12:16:00Z replicas 1 -> 6 by the HPA
2026-01-01T12:25:00Z s0-prometheus timeout: no answer within 3 s
2026-01-01T12:50:00Z replicas 6 -> 2 by kubectl
2026-01-01T12:52:00Z paused: paused by annotation
only the newest are shown of: decisions
",
    );
}

/// Regression: what ended before it began, since the wall clock was set back meanwhile, ended the command with a panic.
#[test]
fn what_ends_before_it_begins_is_drawn_where_it_begins() {
    let at = |minute: i64| FROM + minute * 60_000;
    let mut of_error = trigger(NARROW_ASCII, 75.0, [(0, 1.0)]);
    of_error.errors.push(ErrorRow {
        from: at(30),
        last_at: at(30),
        until: Some(at(10)),
        outcome: "timeout".into(),
        message: String::new(),
        polls: 1,
    });
    of_error.thresholds = vec![Threshold { from: at(40), until: Some(at(20)), threshold: 75.0, activation: 0.0 }];
    let period = Period {
        kind: PeriodKind::Paused,
        from: at(50),
        until: Some(at(5)),
        reason: "ScaledObjectPaused".into(),
        message: "paused".into(),
    };
    let drawn = render(&History { triggers: vec![of_error], periods: vec![period], ..nothing() }, NARROW_ASCII);
    let lane = |name: &str| drawn.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    assert_eq!((lane("   gaps |").trim(), lane("  state |").trim()), ("x", "="), "{drawn}");
}

#[test]
fn numbers_are_short() {
    for (value, expected) in [
        (0.0, "0"),
        (0.5, "0.5"),
        (75.0, "75"),
        (0.125, "0.125"),
        (999.94, "999.9"),
        (1_000.0, "1k"),
        (12_345.0, "12.35k"),
        (-1_500_000.0, "-1.5M"),
        (2.5e-7, "2.5e-7"),
        (1e300, "1.0e300"),
        (f64::MIN, "-2e308"),
    ] {
        assert_eq!(short(value), expected);
        assert!(short(value).len() <= 7);
    }
}
