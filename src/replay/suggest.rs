//! `--suggest`: settings that meet a goal, found by replaying candidates.
//!
//! Owns the search. Of the settings that meet the goal the one with the fewest pod-hours wins, and of equally cheap ones
//! the calmest. A higher threshold never serves better, so the highest that will do is found by halving.

use std::fmt::Write as _;

use serde::Serialize;

use super::measures::Measures;
use super::{Candidate, Replay};
use crate::history::units::{hours, percent};
use crate::scaling::model::MetricType;

/// What the settings have to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// The share of time above today's target, 0 to 1.
    pub at_most_above_target: f64,
}

/// Shares of today's threshold that are tried, in hundredths; the search halves between them.
const PERCENT_MIN: u32 = 20;
const PERCENT_MAX: u32 = 200;
/// Finer steps than these are not worth a different threshold.
const PERCENT_STEP: u32 = 5;

/// Differences of less than this share of today's pod-hours are none.
const EQUAL: f64 = 0.02;

/// Stabilization windows of the way down that are tried, in seconds, besides today's.
const WINDOWS: [i32; 4] = [60, 180, 300, 600];

/// Cooldowns that are tried, in seconds, besides today's.
const COOLDOWNS: [u64; 4] = [60, 300, 900, 1_800];

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    pub goal: Goal,
    /// As for `--set`; empty if today's settings are best.
    pub set: String,
    pub meets_goal: bool,
    pub today: Measures,
    pub measures: Measures,
    /// How many candidates were replayed.
    pub tried: usize,
}

/// One setting of the three.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Setting {
    percent: u32,
    window: Option<i32>,
    cooldown: Option<u64>,
}

const TODAY: Setting = Setting { percent: 100, window: None, cooldown: None };

/// Looks for settings that meet the goal. `apply` makes a candidate of a text as for `--set`.
///
/// # Errors
/// When a candidate cannot be made.
pub(super) fn suggest(
    replay: &Replay<'_>,
    goal: Goal,
    apply: &dyn Fn(&str) -> Result<Candidate, Vec<String>>,
) -> Result<Suggestion, Vec<String>> {
    let mut search = Search { replay, goal, apply, tried: Vec::new() };
    let today = search.try_out(TODAY)?;
    let mut best = (TODAY, today.clone());
    for window in std::iter::once(None).chain(WINDOWS.map(Some)) {
        best = search.best_threshold(window, best)?;
    }
    // Where something scales to zero, the cooldown says how often it starts.
    if replay.today.definition.min() == 0 {
        for cooldown in COOLDOWNS {
            let setting = Setting { cooldown: Some(cooldown), ..best.0 };
            let measures = search.try_out(setting)?;
            best = search.better(best, (setting, measures));
        }
    }
    let (setting, measures) = best;
    Ok(Suggestion {
        goal,
        set: search.text(setting),
        meets_goal: search.meets(&measures),
        today,
        measures,
        tried: search.tried.len(),
    })
}

struct Search<'s, 'r> {
    replay: &'s Replay<'r>,
    goal: Goal,
    apply: &'s dyn Fn(&str) -> Result<Candidate, Vec<String>>,
    tried: Vec<(Setting, Measures)>,
}

impl Search<'_, '_> {
    fn try_out(&mut self, setting: Setting) -> Result<Measures, Vec<String>> {
        if let Some((_, known)) = self.tried.iter().find(|(tried, _)| *tried == setting) {
            return Ok(known.clone());
        }
        let text = self.text(setting);
        let measures = match text.as_str() {
            "" => self.replay.measure(self.replay.today, &self.replay.course),
            text => self.replay.figures(&(self.apply)(text)?),
        };
        self.tried.push((setting, measures.clone()));
        Ok(measures)
    }

    /// Halves between a threshold that meets the goal and one that does not.
    fn best_threshold(
        &mut self,
        window: Option<i32>,
        mut best: (Setting, Measures),
    ) -> Result<(Setting, Measures), Vec<String>> {
        let (mut low, mut high) = (PERCENT_MIN / PERCENT_STEP, PERCENT_MAX / PERCENT_STEP);
        while low <= high {
            let middle = low.midpoint(high);
            let setting = Setting { percent: middle * PERCENT_STEP, window, cooldown: None };
            let measures = self.try_out(setting)?;
            let meets = self.meets(&measures);
            best = self.better(best, (setting, measures));
            if meets {
                low = middle + 1;
            } else {
                high = middle - 1;
            }
        }
        Ok(best)
    }

    fn meets(&self, measures: &Measures) -> bool {
        measures.share_above_target <= self.goal.at_most_above_target
    }

    /// Returns the better one; the first one if neither is.
    fn better(&self, one: (Setting, Measures), other: (Setting, Measures)) -> (Setting, Measures) {
        // Today's settings are tried first.
        let today = self.tried.first().map_or(1.0, |(_, measures)| measures.pod_hours).max(1e-9);
        let order = |(_, measures): &(Setting, Measures)| {
            let cost = (measures.pod_hours / today / EQUAL).round();
            if self.meets(measures) {
                (0.0, cost, measures.turns, measures.pod_hours)
            } else {
                (1.0, measures.share_above_target, measures.turns, cost)
            }
        };
        if order(&other) < order(&one) { other } else { one }
    }

    /// Returns the text for `--set`.
    fn text(&self, setting: Setting) -> String {
        let mut parts = Vec::new();
        let definition = &self.replay.today.definition;
        if setting.percent != 100 {
            let factor = f64::from(setting.percent) / 100.0;
            if let Some(modifiers) = &definition.modifiers {
                parts.push(format!("spec.advanced.scalingModifiers.target=\"{}\"", rounded(modifiers.target * factor)));
            } else {
                let triggers = definition.triggers.iter().filter(|trigger| {
                    trigger.source.query().is_some() && trigger.metric_type == MetricType::AverageValue
                });
                for trigger in triggers {
                    let name = if trigger.kind == "metrics-api" { "targetValue" } else { "threshold" };
                    let value = rounded(trigger.threshold * factor);
                    parts.push(format!("spec.triggers[{}].metadata.{name}={value}", trigger.index));
                }
            }
        }
        if let Some(window) = setting.window {
            parts.push(format!(
                "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds={window}"
            ));
        }
        if let Some(cooldown) = setting.cooldown {
            parts.push(format!("spec.cooldownPeriod={cooldown}"));
        }
        parts.join(",")
    }
}

/// Three digits are as exact as a search in steps of five hundredths.
fn rounded(value: f64) -> f64 {
    let text = format!("{value:.2e}");
    text.parse().unwrap_or(value)
}

impl Suggestion {
    pub(super) fn write(&self, text: &mut String) {
        let goal = percent(self.goal.at_most_above_target);
        let _ =
            writeln!(text, "\nsuggestion, for at most {goal} of the time above today's target ({} tried)", self.tried);
        let (now, then) = (&self.today, &self.measures);
        match (self.set.as_str(), self.meets_goal) {
            ("", true) => text.push_str("  today's settings meet the goal, and none that was tried costs less\n"),
            ("", false) => text.push_str("  no settings that were tried meet the goal or come nearer to it\n"),
            (set, meets) => {
                if !meets {
                    text.push_str("  none meets the goal; this comes nearest:\n");
                }
                let _ = writeln!(text, "  --set '{set}'");
                let _ = writeln!(
                    text,
                    "  above target {} instead of {} ({} instead of {})",
                    percent(then.share_above_target),
                    percent(now.share_above_target),
                    hours(then.hours_above_target),
                    hours(now.hours_above_target)
                );
                let _ = writeln!(
                    text,
                    "  pod-hours {:.1} instead of {:.1}, changes {} instead of {}, turns {} instead of {}",
                    then.pod_hours, now.pod_hours, then.changes, now.changes, then.turns, now.turns
                );
            }
        }
    }
}
