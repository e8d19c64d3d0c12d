//! Who may scale a target: one ScaledObject, one HPA, never two.

use std::collections::BTreeSet;

use super::super::hpa::{ObservedHpa, Owner, is_controlled_by};
use super::super::model::{ApiGroup, ObjectKey, ScaledObject};
use super::super::object::{Object, TargetId, target_id, target_is_taken};
use super::World;

/// Lets a foreign HPA be ignored, as KEDA's admission webhook does.
const HPA_OWNERSHIP_CHECK: &str = "validations.keda.sh/hpa-ownership";

pub(super) fn owner(object: &ScaledObject) -> Owner {
    Owner { key: object.key.clone(), uid: object.uid.clone() }
}

/// Whoever wins the target, the HPA of another ScaledObject is no reason to give way: it goes with
/// the garbage collector if its owner is gone, and its owner lost the target if it is not.
fn is_of_scaled_object(hpa: &ObservedHpa) -> bool {
    hpa.controller.as_ref().is_some_and(|(_, kind, ..)| kind == "ScaledObject")
}

impl World {
    /// Why this object must keep its hands off the target: who has it already.
    pub(super) fn conflict(&self, key: &ObjectKey) -> Option<String> {
        let object = self.objects.get(key)?;
        let target = object.target_id();
        let wanted_hpa = object.definition().map(|definition| definition.hpa_name.as_str());
        let workload = object.spec.target.name.as_str();
        let kind = object.target.gvkr().map_or_else(|| object.spec.target.kind.clone(), |gvkr| gvkr.kind_text());
        let winner = self.owner_of(&target)?;
        if winner != *key {
            return Some(target_is_taken(workload, &kind, &winner.name));
        }
        let me = owner(&object.spec);
        let names = self.hpas_by_target.get(&target)?;
        let foreign = names.iter().filter_map(|name| self.hpas.get(&(target.0.clone(), name.clone()))).find(|hpa| {
            !is_controlled_by(hpa, &me)
                && !hpa.deletion_requested
                && hpa.annotations.get(HPA_OWNERSHIP_CHECK).map(String::as_str) != Some("false")
                && !is_of_scaled_object(hpa)
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

    /// Name of the ScaledObject that controls this HPA, if it is there; its group does not matter.
    pub(super) fn living_owner<'a>(&self, hpa: &'a ObservedHpa) -> Option<&'a str> {
        let (_, kind, name, uid) = hpa.controller.as_ref()?;
        let lives = [ApiGroup::KedaSh, ApiGroup::KedaK8sIo]
            .into_iter()
            .filter_map(|group| self.objects.get(&ObjectKey::new(group, &hpa.namespace, name)))
            .any(|object| object.spec.uid == *uid);
        (kind == "ScaledObject" && lives).then_some(name)
    }

    /// Somebody else, who is not on the way out, scales the target of this object.
    pub(super) fn is_target_shared(&self, key: &ObjectKey) -> bool {
        let Some(object) = self.objects.get(key) else {
            return false;
        };
        let users = self.by_target.get(&object.target_id());
        users.into_iter().flatten().any(|other| {
            let lives = self.objects.get(other).is_some_and(|other| !other.spec.deletion_requested);
            other != key && lives
        })
    }

    /// Of several objects with one target: the one that has it, the one whose HPA is there, the one that the others'
    /// statuses name, else the oldest. Nothing but the first is lost in a restart, and it is what the statuses say.
    fn owner_of(&self, target: &TargetId) -> Option<ObjectKey> {
        let keys = self.by_target.get(target)?.iter();
        let rivals: Vec<(&ObjectKey, &Object)> = keys
            .filter_map(|key| Some((key, self.objects.get(key)?)))
            .filter(|(_, object)| !object.spec.deletion_requested)
            .collect();
        if let [(key, _)] = rivals[..] {
            return Some(key.clone());
        }
        let names: BTreeSet<&str> = rivals.iter().map(|(key, _)| &*key.name).collect();
        // Whom one that is no rival any more beat has lost to nobody.
        let loss = |object: &'_ Object| object.lost_target_to().is_some_and(|winner| names.contains(winner));
        let winners: BTreeSet<&str> = rivals.iter().filter_map(|(_, object)| object.lost_target_to()).collect();
        let claims = rivals.iter().map(|(key, object)| {
            let has_hpa = self.hpa_of(key).is_some_and(|hpa| target_id(&hpa.namespace, &hpa.target) == *target);
            let is_named = winners.contains(&*key.name);
            (!object.owns_target, !has_hpa, loss(object), !is_named, object.spec.created_at, *key)
        });
        claims.min().map(|(.., key)| key.clone())
    }

    /// The HPA that this object controls: the one with the wanted name, else any.
    pub(super) fn hpa_of(&self, key: &ObjectKey) -> Option<&ObservedHpa> {
        let object = self.objects.get(key)?;
        let me = owner(&object.spec);
        let wanted = object.definition().map(|definition| definition.hpa_name.as_str());
        let names = self.hpas_by_owner.get(&object.spec.uid)?;
        names
            .iter()
            .filter_map(|name| self.hpas.get(&(key.namespace.to_string(), name.clone())))
            .filter(|hpa| is_controlled_by(hpa, &me))
            .min_by_key(|hpa| wanted != Some(hpa.name.as_str()))
    }

    /// An HPA of this object under another name than the wanted one.
    pub(super) fn misnamed_hpa(&self, key: &ObjectKey) -> Option<&ObservedHpa> {
        let object = self.objects.get(key)?;
        let wanted = object.definition()?.hpa_name.as_str();
        let me = owner(&object.spec);
        let names = self.hpas_by_owner.get(&object.spec.uid)?;
        names
            .iter()
            .filter(|name| *name != wanted)
            .filter_map(|name| self.hpas.get(&(key.namespace.to_string(), name.clone())))
            .find(|hpa| is_controlled_by(hpa, &me))
    }
}
