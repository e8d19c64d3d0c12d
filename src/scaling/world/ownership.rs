//! Who may scale a target: one ScaledObject, one HPA, never two.

use super::super::hpa::{ObservedHpa, Owner, is_controlled_by};
use super::super::model::{ObjectKey, ScaledObject};
use super::super::object::{TargetId, target_id};
use super::World;

/// Lets a foreign HPA be ignored, as KEDA's admission webhook does.
const HPA_OWNERSHIP_CHECK: &str = "validations.keda.sh/hpa-ownership";

pub(super) fn owner(object: &ScaledObject) -> Owner {
    Owner {
        key: object.key.clone(),
        uid: object.uid.clone(),
    }
}

impl World {
    /// Why this object must keep its hands off the target: who has it already.
    pub(super) fn conflict(&self, key: &ObjectKey) -> Option<String> {
        let object = self.objects.get(key)?;
        let target = object.target_id();
        let wanted_hpa = object
            .definition()
            .map(|definition| definition.hpa_name.as_str());
        let workload = object.spec.target.name.as_str();
        let kind = object
            .target
            .gvkr()
            .map_or_else(|| object.spec.target.kind.clone(), |gvkr| gvkr.kind_text());
        let winner = self.owner_of(&target)?;
        if winner != *key {
            return Some(format!(
                "the workload '{workload}' of type '{kind}' is already managed by the ScaledObject '{}'",
                winner.name
            ));
        }
        let me = owner(&object.spec);
        let names = self.hpas_by_target.get(&target)?;
        let foreign = names
            .iter()
            .filter_map(|name| self.hpas.get(&(target.0.clone(), name.clone())))
            .find(|hpa| {
                !is_controlled_by(hpa, &me)
                    && !hpa.deletion_requested
                    && hpa.annotations.get(HPA_OWNERSHIP_CHECK).map(String::as_str) != Some("false")
                    && !self.is_left_behind(hpa)
            })?;
        if !object.spec.transfer_hpa_ownership {
            return Some(format!(
                "the workload '{workload}' of type '{kind}' is already managed by the hpa '{}'",
                foreign.name
            ));
        }
        (wanted_hpa != Some(foreign.name.as_str())).then(|| {
            format!(
                "the existing hpa '{}' for workload '{workload}' of type '{kind}' must be specified by name in \
                 advanced.horizontalPodAutoscalerConfig.name to enable ownership transfer",
                foreign.name
            )
        })
    }

    /// The HPA belongs to a ScaledObject that is gone or has moved on: the garbage collector or its
    /// owner will remove it.
    pub(super) fn is_left_behind(&self, hpa: &ObservedHpa) -> bool {
        hpa.controller
            .as_ref()
            .is_some_and(|(_, kind, ..)| kind == "ScaledObject")
    }

    /// Of several objects with one target: the one whose HPA is there, else the oldest.
    fn owner_of(&self, target: &TargetId) -> Option<ObjectKey> {
        let claims = self.by_target.get(target)?.iter().filter_map(|key| {
            let object = self.objects.get(key)?;
            if object.spec.deletion_requested {
                return None;
            }
            let has_hpa = self
                .hpa_of(key)
                .is_some_and(|hpa| target_id(&hpa.namespace, &hpa.target) == *target);
            Some((!has_hpa, object.spec.created_at, key))
        });
        claims.min().map(|(.., key)| key.clone())
    }

    /// The HPA that this object controls under its wanted name or the one in its status.
    pub(super) fn hpa_of(&self, key: &ObjectKey) -> Option<&ObservedHpa> {
        let object = self.objects.get(key)?;
        let me = owner(&object.spec);
        let wanted = object
            .definition()
            .map(|definition| definition.hpa_name.as_str());
        let known = object.spec.status.hpa_name.as_deref();
        [wanted, known]
            .into_iter()
            .flatten()
            .filter_map(|name| self.hpas.get(&(key.namespace.to_string(), name.to_owned())))
            .find(|hpa| is_controlled_by(hpa, &me))
    }
}
