//! What is published of an object: its [`ObjectView`].

use std::sync::Arc;
use std::time::Duration;

use super::composite::{self, Composite};
use super::model::UnixMillis;
use super::object::{Object, Verdict};
use super::target::Target;
use super::view::{MetricView, ObjectView, Reading};

impl Object {
    /// The view from which metric reads are answered, made at `now`. `limit` is the [age](super::age) that readings may
    /// have.
    pub(super) fn view(&self, limit: Duration, now: UnixMillis) -> ObjectView {
        let definition = self.definition();
        let mut metrics: Vec<MetricView> = definition.map_or_else(Vec::new, |definition| {
            definition
                .triggers
                .iter()
                .zip(&self.triggers)
                .enumerate()
                .map(|(position, (trigger, state))| MetricView {
                    name: Arc::clone(&trigger.metric_name),
                    reading: self.share(position, state.reading()),
                    cached: trigger.use_cached_metrics,
                    age_limit: state.age_limit(trigger, limit),
                    pods: state.pods.clone(),
                })
                .collect()
        });
        if definition.is_some_and(|definition| definition.modifiers.is_some()) {
            metrics.push(MetricView {
                name: composite::NAME.into(),
                reading: self.composite.as_ref().map_or(Reading::Pending, Composite::reading),
                cached: false,
                age_limit: self.composite.as_ref().filter(|composite| !composite.is_fallback()).map(|_| limit),
                pods: None,
            });
        }
        let error = match &self.verdict {
            Verdict::Failed { phrase, message } => Some(format!("{phrase}: {message}")),
            Verdict::Paused => Some("ScaledObject is paused".to_owned()),
            Verdict::Pending | Verdict::Good => None,
        };
        let selector = definition.map(|definition| definition.selector.clone()).unwrap_or_default();
        let asked = Arc::clone(&self.spec.asked);
        ObjectView { key: self.spec.key.clone(), selector, metrics, asked, error, made_at: now }
    }

    /// Divides a reading by the target's replicas, if it is read as what one replica has. Without replicas it stays
    /// whole: that is what the first one will have.
    fn share(&self, position: usize, reading: Reading) -> Reading {
        let Reading::Value { value, at } = reading else { return reading };
        if !self.spec.per_replica.contains(&position) {
            return Reading::Value { value, at };
        }
        match &self.target {
            Target::Found { workload, .. } => Reading::Value { value: value / f64::from(workload.replicas.max(1)), at },
            // The HPA reports by itself that it cannot read them.
            _ => Reading::Pending,
        }
    }
}
