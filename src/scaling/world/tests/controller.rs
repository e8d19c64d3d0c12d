//! An HPA controller for the small API server, with the flags of kube-controller-manager. It reads the metrics as the
//! API would serve them.

use super::*;
use crate::scaling::hpa::{HpaMetric, ObservedHpa};
use crate::scaling::model::MetricTarget;
use crate::scaling::model::UnixMillis;
use crate::scaling::view::Reading;

#[derive(Debug)]
pub(super) struct Controller {
    pub(super) sync_ms: i64,
    pub(super) window_ms: i64,
    pub(super) tolerance: f64,
    /// Another server serves the metrics API.
    pub(super) is_foreign: bool,
    /// The API server records it in managedFields.
    pub(super) is_named: bool,
    pub(super) memory: Vec<(UnixMillis, u32)>,
    /// Its changes: when, from, to.
    pub(super) moves: Vec<(UnixMillis, u32, u32)>,
}

impl Controller {
    /// Lets time pass, with a reconciliation in each period.
    pub(super) fn run(&mut self, rig: &mut Rig, milliseconds: i64) {
        let end = rig.now.0 + milliseconds;
        while rig.now.0 < end {
            let next = (rig.now.0 / self.sync_ms + 1) * self.sync_ms;
            rig.run(next.min(end) - rig.now.0);
            if rig.now.0 == next {
                let ids: Vec<_> = rig.cluster.hpas.keys().cloned().collect();
                for id in ids {
                    self.reconcile(rig, &id);
                }
            }
        }
    }

    fn reconcile(&mut self, rig: &mut Rig, id: &(String, String)) {
        let hpa = rig.cluster.hpas[id].clone();
        let target = (deployment(), "default".to_owned(), hpa.target.name.clone());
        let Some(mut workload) = rig.cluster.workloads.get(&target).cloned() else { return };
        let current = workload.replicas;
        if current == 0 {
            let off = [("AbleToScale", true, "SucceededGetScale"), ("ScalingActive", false, "ScalingDisabled")];
            self.say(rig, hpa, current, 0, &off);
            return;
        }
        let (mut most, mut failed) = (None, None);
        for metric in &hpa.metrics {
            match self.ask(rig, metric, current) {
                Ok(wanted) => most = most.max(Some(wanted)),
                Err(message) => failed = Some(message),
            }
        }
        let able = |reason| ("AbleToScale", true, reason);
        let Some(mut wanted) = most.filter(|most| failed.is_none() || *most >= current) else {
            let broken = [able("SucceededGetScale"), ("ScalingActive", false, "FailedGetExternalMetric")];
            self.say(rig, hpa, current, current, if most.is_some() { &broken[..1] } else { &broken });
            return;
        };
        let own = hpa.behavior.as_ref().and_then(|behavior| behavior.scale_down.as_ref());
        let own = own.and_then(|rules| rules.stabilization_window_seconds);
        let window = own.map_or(self.window_ms, |seconds| i64::from(seconds) * 1000);
        self.memory.retain(|(at, _)| at.0 > rig.now.0 - 3_600_000);
        let past = self.memory.iter().filter(|(at, _)| at.0 > rig.now.0 - window).map(|(_, count)| *count);
        let stabilized = past.max().unwrap_or(0).max(wanted);
        self.memory.push((rig.now, wanted));
        let mut reason = "ReadyForNewScale";
        if stabilized > wanted && current > wanted {
            wanted = stabilized.min(current);
            reason = "ScaleDownStabilized";
        }
        let limit = (current * 2).max(4);
        let mut limited = ("ScalingLimited", false, "DesiredWithinRange");
        let (min, max) = (hpa.min_replicas.unwrap_or(1), hpa.max_replicas);
        for (is, count, why) in [
            (wanted > limit.min(max) && max > limit, limit, "ScaleUpLimit"),
            (wanted > max, max, "TooManyReplicas"),
            (wanted < min, min, "TooFewReplicas"),
        ] {
            if is && !limited.1 {
                (wanted, limited) = (count, ("ScalingLimited", true, why));
            }
        }
        if wanted != current {
            self.moves.push((rig.now, current, wanted));
            workload.replicas = wanted;
            workload.replicas_manager = self.is_named.then(|| "kube-controller-manager (scale)".to_owned());
            rig.cluster.put_workload(&deployment(), workload);
            reason = "SucceededRescale";
        }
        self.say(rig, hpa, current, wanted, &[able(reason), ("ScalingActive", true, "ValidMetricFound"), limited]);
    }

    /// Returns what one metric asks for, with the tolerance of the flag.
    fn ask(&self, rig: &Rig, metric: &HpaMetric, current: u32) -> Result<u32, String> {
        let HpaMetric::External { name, target, .. } = metric else { return Err("not external".to_owned()) };
        if self.is_foreign {
            return Err("no such API".to_owned());
        }
        let views = rig.views.values().flat_map(|view| &view.metrics);
        let found = views.filter(|view| *view.name == **name).map(|view| &view.reading).next();
        let Some(Reading::Value { value, .. }) = found else { return Err("no metric".to_owned()) };
        let milli = |milli: i128| milli as f64 / 1000.0;
        let (ratio, wanted) = match target {
            MetricTarget::AverageValue(target) => {
                (value / (milli(*target) * f64::from(current)), value / milli(*target))
            }
            MetricTarget::Value(target) => (value / milli(*target), value / milli(*target) * f64::from(current)),
            MetricTarget::Utilization(_) => return Err("not external".to_owned()),
        };
        let near = (ratio - 1.0).abs() <= self.tolerance;
        Ok(if near { current } else { wanted.ceil() as u32 })
    }

    fn say(&self, rig: &mut Rig, mut hpa: ObservedHpa, current: u32, desired: u32, conditions: &[(&str, bool, &str)]) {
        (hpa.current_replicas, hpa.desired_replicas) = (current.try_into().unwrap(), desired.try_into().unwrap());
        for (kind, is, reason) in conditions {
            let status = if *is { "True" } else { "False" };
            hpa.conditions.retain(|(other, ..)| other != kind);
            let text = [*kind, status, *reason, "as it says"].map(str::to_owned);
            let [kind, status, reason, message] = text;
            hpa.conditions.push((kind, status, reason, message));
        }
        let id = (hpa.namespace.clone(), hpa.name.clone());
        if rig.cluster.hpas[&id] != hpa {
            rig.cluster.put_hpa(hpa);
        }
    }
}
