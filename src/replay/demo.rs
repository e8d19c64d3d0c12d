//! `hpalite replay --demo`: a made-up week of a service, for a look without a cluster.
//!
//! The week is computed, not recorded: a curve of each day, quieter on Saturday and Sunday and asleep at night, a sale on
//! Thursday, jitter from a hash of the time, and twelve minutes on Wednesday in which Prometheus does not answer.

use std::fmt::Write as _;

use serde_json::json;

use super::track::{SourceId, Track};
use super::{Choice, Recorded, Replay};
use crate::history::units::hours;
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use crate::store::SampleValue;
use crate::store::read::Range;
use crate::wire::time::format_seconds;

/// Monday, 2026-03-02T00:00:00Z.
const MONDAY: i64 = 1_772_409_600_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
/// The object's polling interval.
const POLL_MS: i64 = 30_000;

const QUERY: &str = "sum(rate(http_requests_total{app=\"checkout\"}[1m]))";

/// Decisions that are shown.
const DECISIONS_SHOWN: usize = 8;

/// Two candidates: more pods, and a calmer way down.
pub(super) fn choices() -> Vec<Choice> {
    let down = "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds=900";
    [
        "spec.triggers[0].metadata.threshold=60,spec.maxReplicaCount=20".to_owned(),
        format!("{down},spec.cooldownPeriod=1800"),
    ]
    .map(Choice::Set)
    .into()
}

pub(super) fn recorded() -> (ObjectKey, Recorded, Range) {
    let key = ObjectKey::new(ApiGroup::KedaSh, "shop", "checkout");
    let mut track = Track::default();
    for at in (MONDAY..MONDAY + WEEK_MS).step_by(30_000) {
        track.push(at, &answer(at));
    }
    let manifest = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {
            "namespace": "shop", "name": "checkout", "uid": "demo", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "scaleTargetRef": { "name": "checkout" },
            "pollingInterval": POLL_MS / 1000,
            "cooldownPeriod": 300,
            "minReplicaCount": 0,
            "maxReplicaCount": 12,
            "triggers": [{ "type": "prometheus", "useCachedMetrics": true, "metadata": {
                "serverAddress": "http://prometheus.monitoring:9090",
                "query": QUERY,
                "threshold": "80",
                "activationThreshold": "1",
            } }],
        },
    });
    let recorded = Recorded {
        manifest,
        generation: 1,
        in_force_from: MONDAY,
        tracks: [(SourceId::new("prometheus", "", QUERY), track)].into(),
        ..Recorded::default()
    };
    (key, recorded, Range { from: MONDAY, to: MONDAY + WEEK_MS })
}

/// Requests a second, or why there is no number.
fn answer(at: i64) -> SampleValue {
    let (day, in_day) = ((at - MONDAY) / DAY_MS, (at - MONDAY) % DAY_MS);
    // Wednesday, 15:00 to 15:12.
    if day == 2 && (15 * HOUR_MS..15 * HOUR_MS + 12 * MINUTE_MS).contains(&in_day) {
        return SampleValue::Outcome("timeout".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a time of day")]
    let hour = in_day as f64 / HOUR_MS as f64;
    // Nobody shops from two to five, but for a few.
    if (2.0..5.0).contains(&hour) {
        let visits = noise(at / (7 * MINUTE_MS)) > 0.9;
        return SampleValue::Number(if visits { 3.0 } else { 0.0 });
    }
    let bell = |centre: f64, width: f64, height: f64| height * (-((hour - centre) / width).powi(2)).exp();
    let usual = 25.0 + bell(12.5, 1.6, 330.0) + bell(20.0, 2.6, 560.0) + bell(16.0, 5.0, 180.0);
    let weekend = if day >= 5 { 0.65 } else { 1.0 };
    let sale = if day == 3 { bell(12.0, 0.35, 1_150.0) } else { 0.0 };
    // Slow waves of a few minutes, and a flutter from one poll to the next.
    let wave = 0.12 * (noise(at / (4 * MINUTE_MS)) - 0.5) + 0.08 * (noise(at) - 0.5);
    SampleValue::Number((10.0 * (usual * weekend + sale) * (1.0 + wave)).round() / 10.0)
}

/// From 0 to 1, always the same for the same number.
fn noise(of: i64) -> f64 {
    let mut hash = of.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    f64::from(u16::from_le_bytes([hash.to_le_bytes()[6], hash.to_le_bytes()[7]])) / f64::from(u16::MAX)
}

/// Returns the report with an introduction, some decisions, and what comes next.
pub(super) fn around(report: &str, replay: &Replay<'_>) -> String {
    let mut text = String::from(
        "A made-up week of a web shop, computed by a formula: the core decides on each of its 20,160 answers.\n\n",
    );
    text.push_str(report);
    text.push_str("\nwhat the core decided on Thursday and after, as `hpalite why` has it\n");
    let thursday = MONDAY + 3 * DAY_MS;
    let decisions = replay.course.decisions.iter().filter(|(at, one)| *at >= thursday && one.from != one.to);
    for (at, decision) in decisions.take(DECISIONS_SHOWN) {
        let _ = writeln!(
            text,
            "  {} {} -> {}: {}",
            format_seconds(UnixMillis(*at)),
            decision.from,
            decision.to,
            decision.detail()
        );
    }
    if let Some((at, lasted)) = longest_at_max(replay) {
        let _ = writeln!(
            text,
            "\nAt {} the sale asked for more than maxReplicaCount, for {}: candidate 1 shows what more pods would do.",
            format_seconds(UnixMillis(at)),
            hours(lasted)
        );
    }
    text.push_str(
        "\nnext\n  hpalite replay --demo --suggest --at-most-above-target 2%\n  \
         hpalite replay --demo --set spec.triggers[0].metadata.threshold=100\n  \
         hpalite replay NAMESPACE/NAME --since 7d    beside a daemon, on what it has recorded\n  \
         tests/playground                            a real control plane on this machine\n",
    );
    text
}

/// Returns when the longest stretch at the maximum began, and its hours.
fn longest_at_max(replay: &Replay<'_>) -> Option<(i64, f64)> {
    let max = replay.today.definition.max_replicas;
    let stretches = super::measures::steps(&replay.course.replicas, replay.from, replay.to);
    let longest = stretches.filter(|(.., count)| *count >= max).max_by_key(|(from, until, _)| until - from)?;
    #[expect(clippy::cast_precision_loss, reason = "hours, not moments")]
    let lasted = (longest.1 - longest.0) as f64 / HOUR_MS as f64;
    Some((longest.0, lasted))
}
