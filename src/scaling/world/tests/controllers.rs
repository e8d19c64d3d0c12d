//! The HPA controller in the simulation: it reads what is served, and scales by its own rules.

use super::*;
use crate::replay::Model;
use crate::replay::hpa_controller::{Bounds, HpaController, Metric, Pods};
use crate::scaling::composite;
use crate::scaling::event::Event;
use crate::scaling::hpa::{HpaMetric, ObservedHpa};
use crate::scaling::model::UnixMillis;
use crate::scaling::object::{Object, Verdict};
use crate::scaling::target::Target;
use std::collections::BTreeMap;
use std::time::Duration;

/// The name of a target of a kind that is not watched.
pub(super) const ROLLOUT: &str = "rollout";

/// The kind of the target with this name.
pub(super) fn kind_of_target(name: &str) -> Gvkr {
    if name != ROLLOUT {
        return deployment();
    }
    Gvkr {
        group: "argoproj.io".to_owned(),
        version: "v1alpha1".to_owned(),
        kind: "Rollout".to_owned(),
        resource: "rollouts".to_owned(),
    }
}

pub(super) struct Controllers {
    model: Model,
    period_ms: i64,
    /// Each with the UID of its HPA: another HPA of that name begins anew.
    of_hpas: BTreeMap<(String, String), (String, HpaController)>,
    next_at: i64,
}

impl Controllers {
    /// A controller with this sync period.
    pub(super) fn new(sync_period: Duration, downscale_stabilization: Duration, now: UnixMillis) -> Self {
        let period_ms = i64::try_from(sync_period.as_millis()).unwrap();
        let model = Model { sync_period, downscale_stabilization, ..Model::default() };
        Self { model, period_ms, of_hpas: BTreeMap::new(), next_at: now.0 + period_ms }
    }

    /// Lets time pass. Its own clock does not step with the world's.
    pub(super) fn run(&mut self, rig: &mut Rig, milliseconds: i64) {
        let mut left = milliseconds;
        while left > 0 {
            let until = (self.next_at - rig.now.0).clamp(1, self.period_ms);
            let time = until.min(left);
            rig.run(time);
            left -= time;
            if time == until {
                self.next_at = rig.now.0 + self.period_ms;
                let hpas: Vec<_> = rig.cluster.hpas.values().cloned().collect();
                for hpa in hpas {
                    self.look(rig, hpa);
                }
            }
        }
    }

    fn look(&mut self, rig: &mut Rig, mut hpa: ObservedHpa) {
        let gvkr = kind_of_target(&hpa.target.name);
        let id = (gvkr.clone(), hpa.namespace.clone(), hpa.target.name.clone());
        let Some(mut found) = rig.cluster.workloads.get(&id).cloned() else { return };
        let owner = hpa.controller.as_ref().map(|owner| owner.uid.clone());
        let owner = rig.cluster.objects.values().find(|object| Some(&object.uid) == owner.as_ref());
        let Some(owner) = owner.map(|object| object.key.clone()) else { return };
        let metrics: Vec<Metric> = match rig.views.get(&owner) {
            Some(view) => hpa.metrics.iter().filter_map(|metric| Metric::read(metric, view, rig.now)).collect(),
            None => Vec::new(),
        };
        let current = found.replicas;
        let hpa_id = (hpa.namespace.clone(), hpa.name.clone());
        let entry = self.of_hpas.entry(hpa_id).or_insert_with(|| (hpa.uid.clone(), HpaController::new(self.model)));
        if entry.0 != hpa.uid {
            *entry = (hpa.uid.clone(), HpaController::new(self.model));
        }
        let pods = Pods { wanted: current, ready: current };
        let wanted = entry.1.sync(rig.now, Bounds::of(&hpa), pods, &metrics);
        check_bounds(rig, &owner, &hpa, wanted);
        let is_within = (hpa.min_replicas.unwrap_or(1)..=hpa.max_replicas).contains(&current);
        if wanted != current {
            check_pause(rig, &owner, &hpa, (current, wanted));
        }
        if wanted < current && is_within {
            check_data(rig, &owner, &hpa);
        }
        if current > 0 {
            rig.step(Event::MetricRead(owner));
        }
        if wanted != current {
            found.replicas = wanted;
            found.replicas_manager = None;
            rig.cluster.put_workload(&gvkr, found);
        }
        let status = (i32::try_from(current).unwrap(), i32::try_from(wanted).unwrap());
        if (hpa.current_replicas, hpa.desired_replicas) != status {
            (hpa.current_replicas, hpa.desired_replicas) = status;
            rig.cluster.put_hpa(hpa);
        }
    }
}

/// The HPA of a settled object keeps within the object's bounds; at zero it does nothing.
fn check_bounds(rig: &Rig, owner: &ObjectKey, hpa: &ObservedHpa, wanted: u32) {
    let Some(definition) = settled(rig, owner, hpa).and_then(Object::definition) else { return };
    let bounds = definition.min().max(1)..=definition.max_replicas;
    assert!(wanted == 0 || bounds.contains(&wanted), "{owner}: the HPA wants {wanted}, not within {bounds:?}");
}

/// While an object is paused, its HPA moves nothing, or nothing in the direction that is paused. Into its bounds an HPA
/// moves a count whatever its behavior.
fn check_pause(rig: &Rig, owner: &ObjectKey, hpa: &ObservedHpa, (current, wanted): (u32, u32)) {
    if let Some(object) = rig.world.objects.get(owner).filter(|object| object.verdict == Verdict::Paused) {
        let is_shown = rig.world.facts.hpas.values().any(|known| known.uid == hpa.uid);
        assert!(!is_shown || object.spec.is_shadow, "{owner}: the HPA moves {current}→{wanted} in a full pause");
    }
    let Some(object) = settled(rig, owner, hpa) else { return };
    let pause = &object.spec.pause;
    assert!(!pause.is_full(), "{owner}: settled, fully paused, and the HPA moves {current}→{wanted}");
    let (min, max) = (hpa.min_replicas.unwrap_or(1), hpa.max_replicas);
    assert!(!(pause.scale_in && wanted < current && current <= max), "{owner}: scale-in is paused");
    assert!(!(pause.scale_out && wanted > current && current >= min), "{owner}: scale-out is paused");
}

/// The object, if the process knows it and its HPA as they are and has nothing more to do about them.
fn settled<'r>(rig: &'r Rig, owner: &ObjectKey, hpa: &ObservedHpa) -> Option<&'r Object> {
    let object = rig.world.objects.get(owner)?;
    let is_known = rig.world.facts.hpas.values().any(|known| known.uid == hpa.uid && is_same_spec(known, hpa))
        && rig.cluster.objects.get(owner).is_some_and(|now| now.resource_version == object.spec.resource_version);
    let is_corrected_later = object.is_starved
        || object.hpa_correction.as_ref().is_some_and(|last| last.next_at > rig.now)
        || !object.slots.hpa.is_free(rig.now);
    let is_settled = object.is_settled && !object.needs_a_look() && !object.spec.is_shadow;
    (is_known && is_settled && !is_corrected_later).then_some(object)
}

fn is_same_spec(one: &ObservedHpa, other: &ObservedHpa) -> bool {
    let spec = |hpa: &ObservedHpa| (hpa.min_replicas, hpa.max_replicas, hpa.target.clone(), hpa.behavior.clone());
    spec(one) == spec(other)
}

/// What is served makes the HPA scale in only by numbers that are there and not old, unless a fallback says otherwise.
fn check_data(rig: &Rig, owner: &ObjectKey, hpa: &ObservedHpa) {
    let Some(object) = rig.world.objects.get(owner) else { return };
    let Some(definition) = object.definition().filter(|definition| definition.fallback.is_none()) else { return };
    // Between the edit of an object and that of its HPA, one is not about the other.
    if !matches!(object.target, Target::Found { .. }) || definition.hpa_name != hpa.name {
        return;
    }
    let limit = object.age_limit(rig.world.settings.query_timeout);
    // The HPA of an object in shadow mode, which nobody edits, may not ask for what its definition gives.
    let is_asked = |name: &str| {
        hpa.metrics.iter().any(|one| matches!(one, HpaMetric::External { name: asked, .. } if asked == name))
    };
    if let Some(composite) = object.composite.as_ref().filter(|_| is_asked(composite::NAME)) {
        assert!(composite.error().is_none(), "{owner}: the HPA scales in by a formula in error");
        return;
    }
    let triggers = definition.triggers.iter().zip(&object.triggers);
    for (trigger, state) in triggers.filter(|(trigger, _)| is_asked(&trigger.metric_name)) {
        assert!(state.error().is_none(), "{owner}: the HPA scales in while {} is in error", trigger.index);
        assert!(!state.is_old(trigger, limit, rig.now), "{owner}: the HPA scales in by an old {}", trigger.index);
    }
}
