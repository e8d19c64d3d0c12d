//! What the rows show of the HPA controller's flags, which no API reports.

use super::claim::{Claim, Window};
use super::facts::{Asked, Facts, condition, driver};
use crate::scaling::model::Definition;
use crate::scaling::recommend::{self, SCALE_DOWN_WINDOW_SECONDS, TOLERANCE};
use crate::store::read::ReplicaRow;

/// The HPA controller acts once within this time, and reads what was sampled once per polling interval.
const SLACK_MS: i64 = 20_000;

/// The HPA controller evaluates at least once within this time, unless its flag is changed: every 15 s by default.
const LOOKS_MS: i64 = 16_000;

fn by_hpa<'e>(facts: &Facts<'e>, at: i64) -> impl Iterator<Item = (&'e ReplicaRow, u32)> {
    let rows = facts.evidence.changes.iter().rev().inspect(|_| facts.spend(1)).take_while(|_| !facts.is_spent());
    rows.filter(move |row| row.at <= at && row.actor == "hpa").filter_map(|row| Some((row, row.from?)))
}

/// The window as far as the rows show it at a moment. The object's own wins; else the newest scale-in that came soon
/// after a sample which asked for more shows about how long the controller's is; else its default, unless rows say
/// otherwise.
pub(super) fn window(facts: &Facts<'_>, definition: &Definition, at: i64) -> Window {
    let own = definition.behavior.as_ref().and_then(|behavior| behavior.scale_down.as_ref());
    if let Some(seconds) = own.and_then(|rules| rules.stabilization_window_seconds) {
        return Window::Own(i64::from(seconds));
    }
    let default_ms = i64::from(SCALE_DOWN_WINDOW_SECONDS) * 1000;
    // How long ago the current count was last asked for, although it still stands.
    let asked = facts.replicas_at(at).and_then(|replicas| facts.last_asked_for(at, replicas).0);
    let stood = asked.map_or(0, |asked| at - asked.at);
    let scale_ins = by_hpa(facts, at).filter(|(row, from)| row.to < *from);
    for (row, _) in scale_ins {
        let is_own = facts.definition(row.at).and_then(|one| one.behavior.as_ref()?.scale_down.as_ref());
        if is_own.is_some_and(|rules| rules.stabilization_window_seconds.is_some()) {
            continue;
        }
        // The HPA had not read a sample that came at the very moment of the change.
        let (Some(asked), _) = facts.last_asked_for(row.at, row.to.saturating_add(1)) else { continue };
        let gap = row.at - asked.at;
        if gap >= default_ms {
            continue;
        }
        if stood > gap + SLACK_MS {
            // The count has stood longer since: the controller restarted, or its flag was changed.
            return if stood > default_ms + SLACK_MS { Window::Unknown } else { Window::Default };
        }
        if !was_stabilized(facts, asked.at, row.at) || !was_lasting(facts, &asked, row.to) {
            // Sooner than the default allows, but nothing shows whether the HPA waited for the window.
            return Window::Unknown;
        }
        return Window::Learnt { seconds: (gap + 999) / 1000, at: row.at, sample_at: asked.at, now: at };
    }
    if stood > default_ms + SLACK_MS { Window::Unknown } else { Window::Default }
}

/// Returns whether the HPA reported in between that the window holds it.
fn was_stabilized(facts: &Facts<'_>, since: i64, at: i64) -> bool {
    let rows = &facts.evidence.hpa;
    let rows = &rows[rows.partition_point(|row| row.at <= since)..];
    let rows = rows.iter().take_while(|row| row.at <= at && !facts.is_spent());
    let reasons = rows.inspect(|row| facts.spend_on(Some(row))).filter_map(|row| condition(row, "AbleToScale"));
    reasons.into_iter().any(|(_, reason, _)| reason == "ScaleDownStabilized")
}

/// Returns whether more was asked for so long that the HPA must have read it, unlike a sample between two evaluations.
fn was_lasting(facts: &Facts<'_>, asked: &Asked, to: u32) -> bool {
    let mut at = asked.at;
    while let (Some(before), _) = facts.last_asked_for(at - 1, to.saturating_add(1)) {
        if facts.samples_between(before.at, at) {
            return false;
        }
        if asked.at - before.at >= LOOKS_MS {
            return true;
        }
        at = before.at;
    }
    false
}

/// Returns the tolerance that keeps the count in one direction; `None` if rows show that it is not the default.
pub(super) fn tolerance(facts: &Facts<'_>, definition: &Definition, up: bool, at: i64) -> Option<Claim> {
    let behavior = definition.behavior.as_ref();
    let rules = behavior.and_then(|behavior| if up { &behavior.scale_up } else { &behavior.scale_down }.as_ref());
    let is_own = rules.is_some_and(|rules| rules.tolerance.is_some());
    let percent = recommend::tolerance(behavior, up) * 100.0;
    let percent = (percent * 1000.0).round() / 1000.0;
    let moved_within = |row: &ReplicaRow, from: u32| {
        let metrics = facts.metrics_at(row.at, from);
        driver(&metrics).is_some_and(|metric| metric.proposal == Some(from) && metric.exact == Some(row.to))
    };
    // What an HPA shows came after its change.
    if !is_own && !definition.is_observed() && by_hpa(facts, at).any(|(row, from)| moved_within(row, from)) {
        return None;
    }
    debug_assert!(is_own || (percent - TOLERANCE * 100.0).abs() < 1e-9);
    Some(Claim::Tolerance { percent, is_own })
}
