//! Objects whose decisions are recorded and not carried out.

use super::rig::settings;
use super::*;
use crate::scaling::event::Record;
use crate::scaling::model::ConditionStatus;
use crate::scaling::world::Settings;

/// Actual and wanted replicas of each recorded decision, with its text.
fn decided(rig: &Rig) -> Vec<(u32, u32, String)> {
    let decisions = rig.records.iter().filter_map(|record| match record {
        Record::Decision { decision, .. } => Some(decision),
        _ => None,
    });
    decisions.map(|decision| (decision.from, decision.to, decision.detail())).collect()
}

fn shadow() -> Rig {
    let becomes = |cluster: &mut Cluster| cluster.objects.get_mut(&key("shop")).unwrap().is_shadow = true;
    let mut rig = shop_among(3, 500.0, |_| {}, becomes);
    rig.seconds(60);
    rig
}

#[test]
fn a_shadow_writes_and_emits_nothing_and_records_what_it_would_have() {
    let mut rig = shadow();
    assert!(rig.writes.is_empty() && rig.events.is_empty(), "{:?}, {:?}", rig.writes, rig.events);
    let count = decided(&rig).len();
    assert!((1..=2).contains(&count), "a state that lasts is recorded once: {:?}", decided(&rig));
    let (from, to, detail) = decided(&rig).pop().unwrap();
    assert!(from == 3 && to == 7 && detail.starts_with("would have: "), "{:?}", decided(&rig));
    // Whoever owns the target changes it, and then there is nothing left to wish.
    rig.clear();
    rig.set_replicas("web", 7);
    rig.seconds(60);
    assert_eq!(decided(&rig).iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>(), [(7, 7)]);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(600);
    assert_eq!(decided(&rig).last().map(|(from, to, _)| (*from, *to)), Some((7, 0)));
    assert!(rig.writes.is_empty() && rig.events.is_empty());
}

#[test]
fn a_shadow_that_is_paused_deleted_or_broken_writes_nothing_either() {
    let mut rig = shadow();
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(0)));
    rig.seconds(60);
    assert_eq!(decided(&rig).last().map(|(_, to, _)| *to), Some(0));
    rig.annotate(&key("shop"), |object| object.finalizers = vec!["finalizer.keda.sh".to_owned()]);
    rig.seconds(5);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(60);
    assert!(rig.writes.is_empty() && rig.events.is_empty(), "{:?}", rig.kinds());
}

#[test]
fn the_owner_s_hpa_and_finalizer_stay_and_the_end_of_the_shadow_takes_over() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));
    rig.clear();
    rig.annotate(&key("shop"), |object| object.is_shadow = true);
    rig.annotate(&key("shop"), |object| object.pause.paused = true);
    rig.seconds(60);
    assert!(rig.has_hpa("keda-hpa-shop") && rig.writes.is_empty(), "{:?}", rig.kinds());
    rig.annotate(&key("shop"), |object| {
        object.is_shadow = false;
        object.pause.paused = false;
    });
    rig.seconds(60);
    let shadow = rig.records.iter().filter_map(|record| match record {
        Record::Condition { condition, .. } if condition.kind == ConditionKind::Shadow => Some(condition.status),
        _ => None,
    });
    assert_eq!(shadow.collect::<Vec<_>>(), [ConditionStatus::True, ConditionStatus::False]);
    assert!(rig.object("shop").status.conditions.iter().all(|one| one.kind != ConditionKind::Shadow));
    assert!(!rig.writes.is_empty() || rig.condition("shop", ConditionKind::Ready) == "Ready=True ScaledObjectReady");
}

/// Regression: the HPA of a shadow kept a target that the shadow had left for another, also after its end.
#[test]
fn the_end_of_a_shadow_frees_the_target_that_its_hpa_still_has() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    rig.annotate(&key("shop"), |object| object.is_shadow = true);
    rig.cluster.put_object(fresh("heir", "web", testing::definition()));
    rig.cluster.put_workload(&deployment(), workload("api", 1));
    // It moves to a target that somebody else owns, so that its HPA stays behind.
    rig.cluster.put_object(fresh("owner", "api", testing::definition()));
    rig.seconds(60);
    rig.edit(&key("shop"), |object| object.target.name = "api".to_owned());
    rig.seconds(60);
    assert!(rig.ready_message("heir").ends_with("already managed by the ScaledObject 'shop'"));
    rig.annotate(&key("shop"), |object| object.is_shadow = false);
    rig.seconds(5);
    assert_eq!(rig.condition("heir", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn a_daemon_that_is_a_shadow_makes_every_object_one() {
    let cluster = shop(3, 500.0, |_| {}).cluster;
    let mut rig = Rig::with(cluster, Settings { is_shadow: true, ..settings() });
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(60);
    assert!(rig.writes.is_empty() && rig.events.is_empty(), "{:?}", rig.kinds());
    assert_eq!(decided(&rig).last().map(|(from, to, _)| (*from, *to)), Some((3, 7)));
}
