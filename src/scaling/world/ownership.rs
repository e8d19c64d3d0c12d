//! Which object may scale a target: one ScaledObject with one HPA.

use std::collections::BTreeSet;

use super::World;
use super::ingest::object_of;
use super::work::{Facts, Objects, Work};
use crate::scaling::hpa::{HpaId, ObservedHpa, Owner, OwnerRef, is_controlled_by};
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use crate::scaling::object::{Object, Verdict};
use crate::scaling::target::{TargetId, target_is_taken};

/// An annotation by which a foreign HPA is ignored, as by KEDA's admission webhook.
const HPA_OWNERSHIP_CHECK: &str = "validations.keda.sh/hpa-ownership";

/// More objects with one target than this are no accident, and all of them together cost no more than these.
const CROWD: usize = 16;
/// They are reconciled at multiples of this time.
const CROWD_EVERY_MS: i64 = 10_000;

impl World {
    /// Marks the objects with this target. Of many only the owner is reconciled at once, and the others a little later
    /// together: each event about the target, its HPA or one of them concerns them all.
    pub(super) fn mark_target(&mut self, target: &TargetId) {
        self.outbox.dirty.extend(self.objects.first_of_target(target, &self.facts));
        let has_many_hpas = self.facts.hpas_by_target.get(target).len() > CROWD;
        if !has_many_hpas {
            self.mark_owners_of_hpas(target);
        }
        if has_many_hpas || self.objects.by_target.get(target).len() > CROWD {
            let at = UnixMillis((self.now.0 / CROWD_EVERY_MS + 1) * CROWD_EVERY_MS);
            self.outbox.crowds.insert((at, target.clone()));
        }
    }

    /// The owner of an HPA on this target may name another one, and has to give the HPA up once somebody wants this one.
    fn mark_owners_of_hpas(&mut self, target: &TargetId) {
        let hpas = self.facts.hpas_by_target.get(target).iter();
        let hpas = hpas.filter_map(|name| self.facts.hpas.get(&HpaId::new(target.namespace(), name)));
        self.outbox.dirty.extend(hpas.map(|hpa| object_of(hpa).0));
    }

    /// The HPAs of a shadow keep their targets, which need not be the one of its spec.
    pub(super) fn mark_targets_of_hpas(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get(key) else { return };
        let hpas = self.facts.hpas_of(object);
        let targets: Vec<TargetId> = hpas.map(|hpa| TargetId::of(&hpa.namespace, &hpa.target)).collect();
        targets.iter().for_each(|target| self.mark_target(target));
    }

    /// Marks the many objects of targets that something has happened to.
    pub(super) fn mark_crowds(&mut self, now: UnixMillis) {
        while self.outbox.crowds.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, target)) = self.outbox.crowds.pop_first() {
                self.outbox.dirty.extend(self.objects.by_target.get(&target).iter().cloned());
                self.mark_owners_of_hpas(&target);
            }
        }
    }
}

impl Objects {
    /// The objects of a target that learn of its changes at once: all, or of many the owner.
    pub(super) fn first_of_target(&self, target: &TargetId, facts: &Facts) -> Vec<ObjectKey> {
        let all = self.by_target.get(target);
        match all.len() {
            0..=CROWD => all.to_vec(),
            _ => owner_of_target(target, None, self, facts).into_iter().collect(),
        }
    }
}

impl Facts {
    /// The ScaledObjects of this group are served, and not all of them have been listed yet.
    fn is_awaited(&self, group: ApiGroup) -> bool {
        !self.absent.contains(&group) && self.lists.objects.get(&group).is_some_and(|list| !list.is_complete())
    }
}

/// The ScaledObject that controls this HPA, if it exists in either API group.
fn owner_of<'a>(hpa: &ObservedHpa, others: &'a Objects) -> Option<&'a Object> {
    let owner = hpa.controller.as_ref().filter(|owner| owner.is_scaled_object())?;
    ApiGroup::ALL
        .into_iter()
        .filter_map(|group| others.get(&ObjectKey::new(group, &hpa.namespace, &owner.name)))
        .find(|object| object.spec.uid == owner.uid)
}

impl Object {
    /// Why this object must not scale the target, which another object or HPA owns.
    pub(super) fn conflict(&self, work: &mut Work<'_>) -> Option<String> {
        // Whoever owns the target, a shadow only looks at it, and an HPA is what others are in conflict with.
        if self.spec.is_only_watched() {
            return None;
        }
        let target = &self.target_id;
        let wanted_hpa = self.definition().map(|definition| definition.hpa_name.as_str());
        let workload = self.spec.target.name.as_str();
        let kind = self.target.gvkr().map_or_else(|| self.spec.target.kind.clone(), |gvkr| gvkr.kind_text());
        let winner = self.owner_of(target, work)?;
        if winner != self.spec.key {
            return Some(target_is_taken(workload, &kind, &winner.name));
        }
        // Another autoscaler runs the owner of that HPA, and two HPAs on one target disable each other.
        let mut owners = self.other_hpas(work).filter_map(|hpa| owner_of(hpa, work.others));
        if let Some(shadow) = owners.find(|owner| owner.spec.is_shadow) {
            return Some(target_is_taken(workload, &kind, &shadow.spec.key.name));
        }
        if let Some(former) = self.former_owner(work) {
            return Some(target_is_taken(workload, &kind, &former.spec.key.name));
        }
        let foreign = self.foreign_hpa(work)?;
        if !self.spec.transfer_hpa_ownership {
            return Some(format!(
                "the workload '{workload}' of type '{kind}' is already managed by the hpa '{}'{}",
                foreign.name,
                of_owner(foreign)
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

    /// Returns the owner of a target, which is found once for all objects that are reconciled together.
    fn owner_of(&self, target: &TargetId, work: &mut Work<'_>) -> Option<ObjectKey> {
        let known = work.outbox.owners.get(target).cloned();
        known.unwrap_or_else(|| {
            let owner = owner_of_target(target, Some(self), work.others, work.facts);
            work.outbox.owners.insert(target.clone(), owner.clone());
            owner
        })
    }

    /// The HPAs of the target that are not this object's.
    fn other_hpas<'w>(&self, work: &'w Work<'_>) -> impl Iterator<Item = &'w ObservedHpa> {
        let me = Owner::of(&self.spec);
        let names = work.facts.hpas_by_target.get(&self.target_id).iter();
        let hpas = names.filter_map(|name| work.facts.hpas.get(&HpaId::new(&self.spec.key.namespace, name)));
        hpas.map(|hpa| &**hpa).filter(move |hpa| !is_controlled_by(hpa, &me) && !hpa.deletion_requested)
    }

    /// The HPA of the target names a ScaledObject of the other API group as its owner, and whether that lives is not
    /// known, since its group has not been listed yet.
    pub(super) fn awaits_owner(&self, work: &Work<'_>) -> bool {
        let is_incomplete = |group: &ApiGroup| work.facts.is_awaited(*group);
        let is_awaited = |owner: &OwnerRef| {
            let group = owner.api_version.split_once('/').and_then(|(group, _)| ApiGroup::from_name(group));
            owner.is_scaled_object() && group.as_ref().is_some_and(is_incomplete)
        };
        // Of a crowd each object would walk through all HPAs of the target, long after everything has been listed.
        ApiGroup::ALL.iter().any(is_incomplete)
            && !self.spec.is_only_watched()
            && self.other_hpas(work).filter_map(|hpa| hpa.controller.as_ref()).any(is_awaited)
    }

    /// After a restart, nothing but the statuses of those that were refused the target says that a paused object owns it,
    /// and a pause of theirs overwrites that.
    pub(super) fn keep_target_in_pause(&mut self, work: &mut Work<'_>) {
        // Until all are listed, the name may be that of an object of the other API group.
        let is_unsure = ApiGroup::ALL.iter().any(|group| work.facts.is_awaited(*group));
        if is_unsure || self.owner_of(&self.target_id, work).as_ref() != Some(&self.spec.key) {
            return;
        }
        let mut rivals = work.others.by_target.get(&self.target_id).iter().filter_map(|key| work.others.get(key));
        self.owns_target |= rivals.any(|rival| rival.lost_target_to() == Some(&*self.spec.key.name));
    }

    /// An HPA that scales the target for somebody else than a ScaledObject that is watched. That of one is no conflict: if its
    /// owner is gone, the garbage collector deletes it, and if not, its owner has lost the target.
    fn foreign_hpa<'w>(&self, work: &'w Work<'_>) -> Option<&'w ObservedHpa> {
        self.other_hpas(work).find(|hpa| {
            let is_of_scaled_object = hpa.controller.as_ref().is_some_and(OwnerRef::is_scaled_object);
            hpa.annotations.get(HPA_OWNERSHIP_CHECK).map(String::as_str) != Some("false")
                && (!is_of_scaled_object || self.is_of_unchosen(hpa, work))
        })
    }

    /// Nobody knows whether the ScaledObject that controls this HPA lives, since only some are chosen by their labels. Of one
    /// whose name is known with another uid, it is known that it does not.
    fn is_of_unchosen(&self, hpa: &ObservedHpa, work: &Work<'_>) -> bool {
        let (owner, _) = object_of(hpa);
        let is_known = owner == self.spec.key || work.others.get(&owner).is_some();
        work.settings.selects_objects
            && hpa.controller.as_ref().is_some_and(OwnerRef::is_scaled_object)
            && !is_known
            && !work.facts.absent.contains(&owner.group)
    }

    /// Returns the name of the ScaledObject that controls this HPA, unless it is known to be gone.
    pub(super) fn living_owner<'a>(&self, hpa: &'a ObservedHpa, work: &Work<'_>) -> Option<&'a str> {
        let lives = owner_of(hpa, work.others).is_some() || self.is_of_unchosen(hpa, work);
        hpa.controller.as_ref().filter(|_| lives).map(|owner| owner.name.as_str())
    }

    /// A ScaledObject that names another target by now, or is being deleted, and whose HPA still scales this one. Two HPAs
    /// on one target disable each other, so that the next owner waits until that one is gone, which
    /// [`Self::give_up_hpa`] sees to. Whoever has an HPA there already lets it work.
    fn former_owner<'w>(&self, work: &'w Work<'_>) -> Option<&'w Self> {
        if work.facts.hpa_of(self).is_some_and(|hpa| TargetId::of(&hpa.namespace, &hpa.target) == self.target_id) {
            return None;
        }
        let mut owners = self.other_hpas(work).filter_map(|hpa| owner_of(hpa, work.others));
        owners.find(|owner| owner.target_id != self.target_id || owner.spec.deletion_requested)
    }

    /// Deletes an HPA of this object that scales what another object owns: nothing will update it, since this object is
    /// refused that target, or names one by now that it cannot have, or is being deleted. While nobody else wants the target
    /// the HPA stays, as in KEDA, and holds the replicas.
    pub(super) fn give_up_hpa(&mut self, work: &mut Work<'_>) {
        let facts = work.facts;
        let lost = facts.hpas_of(self).filter(|hpa| !hpa.deletion_requested).find(|hpa| {
            let target = TargetId::of(&hpa.namespace, &hpa.target);
            self.owner_of(&target, work).is_some_and(|owner| owner != self.spec.key)
        });
        if let Some(hpa) = lost {
            self.delete_hpa(hpa, work);
        }
    }

    /// Another one scales the target, or did when this object was refused it.
    pub(super) fn is_target_of_others(&self, work: &Work<'_>) -> bool {
        self.has_rival(work, |other| !other.spec.is_shadow)
            || self.lost_target_to().is_some()
            || self.foreign_hpa(work).is_some()
            || self.awaits_owner(work)
    }

    /// Another object, which is not being deleted, is about the same target.
    pub(super) fn is_target_shared(&self, work: &Work<'_>) -> bool {
        self.has_rival(work, |_| true)
    }

    /// Another object scales the target to and from zero.
    pub(super) fn is_target_owned(&self, work: &Work<'_>) -> bool {
        // Who is refused a target that was its own keeps its claim, and scales nothing meanwhile.
        let is_refused = |other: &Self| matches!(other.verdict, Verdict::Failed { .. });
        self.has_rival(work, |other| other.owns_target && !other.spec.is_shadow && !is_refused(other))
    }

    fn has_rival(&self, work: &Work<'_>, counts: impl Fn(&Self) -> bool) -> bool {
        work.others.by_target.get(&self.target_id).iter().filter(|other| **other != self.spec.key).any(|other| {
            // What is only observed changes nothing of what happens.
            let is_there = |other: &Self| !other.spec.deletion_requested && other.spec.observed.is_none();
            work.others.get(other).is_some_and(|other| is_there(other) && counts(other))
        })
    }
}

/// Names the ScaledObject that controls a foreign HPA.
fn of_owner(hpa: &ObservedHpa) -> String {
    hpa.controller.as_ref().filter(|owner| owner.is_scaled_object()).map_or_else(String::new, |owner| {
        format!(" of the ScaledObject '{}', which --watch-label-selector does not choose", owner.name)
    })
}

/// Returns which of several objects owns their target: the current owner, else the one that has an HPA, else the one that
/// the statuses of the others name, else the oldest. Only the first criterion is lost in a restart, and the statuses
/// replace it. `me` is the object whose turn it is, which `others` lacks meanwhile.
pub(super) fn owner_of_target(
    target: &TargetId,
    me: Option<&Object>,
    others: &Objects,
    facts: &Facts,
) -> Option<ObjectKey> {
    let keys = others.by_target.get(target).iter();
    let rivals: Vec<(&ObjectKey, &Object)> = keys
        .filter_map(|key| Some((key, me.filter(|me| *key == me.spec.key).or_else(|| others.get(key))?)))
        .filter(|(_, object)| !object.spec.deletion_requested && !object.spec.is_only_watched())
        .collect();
    if let [(key, _)] = rivals[..] {
        return Some(key.clone());
    }
    let names: BTreeSet<&str> = rivals.iter().map(|(key, _)| &*key.name).collect();
    // A winner that is no rival any more does not count.
    let loss = |object: &'_ Object| object.lost_target_to().is_some_and(|winner| names.contains(winner));
    let winners: BTreeSet<&str> = rivals.iter().filter_map(|(_, object)| object.lost_target_to()).collect();
    let claims = rivals.iter().map(|(key, object)| {
        let has_hpa = facts.hpa_of(object).is_some_and(|hpa| TargetId::of(&hpa.namespace, &hpa.target) == *target);
        let is_named = winners.contains(&*key.name);
        (!object.owns_target, !has_hpa, loss(object), !is_named, object.spec.created_at, *key)
    });
    claims.min().map(|(.., key)| key.clone())
}
