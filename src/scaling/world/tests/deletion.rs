//! The deletion of an object, observed or missed.

use super::*;
use crate::scaling::event::{Event, Record, RestoredState};

#[test]
fn without_restore_the_count_stays_and_the_object_goes() {
    let mut rig = shop(4, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["Release"]);
    assert_eq!(rig.reasons(), ["KEDAScalersStopped", "ScaledObjectDeleted"]);
    assert_eq!(rig.replicas("web"), 4);
    assert!(rig.cluster.objects.is_empty() && rig.views.is_empty());
    rig.clear();
    rig.seconds(300);
    assert!(rig.polls.is_empty() && rig.writes.is_empty());
}

#[test]
fn with_restore_the_hpa_goes_first_and_the_count_comes_back() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(5);
    rig.set_replicas("web", 9);
    rig.seconds(5);
    rig.clear();
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["DeleteHpa", "Scale", "Release"]);
    assert_eq!(rig.replicas("web"), 2);
}

#[test]
fn a_target_that_is_gone_holds_no_deletion_up() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(5);
    let id = (deployment(), "default".to_owned(), "web".to_owned());
    rig.cluster.remove_workload(&id);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert!(rig.cluster.objects.is_empty());
}

/// Regression: attempts at something else counted as attempts at restoring, so there was none.
#[test]
fn a_count_is_restored_though_scaling_was_refused_before_the_deletion() {
    let mut rig = shop(3, 0.0, |_| {});
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(400);
    assert_eq!(rig.replicas("web"), 0);
    rig.cluster.refuses_scales = true;
    rig.set_answer("up", Answer::Value(5.0));
    rig.seconds(3_600);
    rig.cluster.refuses_scales = false;
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert!(rig.cluster.objects.is_empty());
    assert_eq!(rig.replicas("web"), 3);
}

/// Regression: attempts at something else counted, so that the HPA stayed and could undo the restoration.
#[test]
fn the_hpa_goes_first_though_it_was_refused_before_the_deletion() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(5);
    rig.set_replicas("web", 9);
    rig.cluster.refused_hpas.push("keda-hpa-shop".to_owned());
    rig.edit(&key("shop"), |object| redefine(object, |d| d.max_replicas = 9));
    rig.seconds(7_200);
    rig.clear();
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(30);
    assert_eq!(rig.kinds(), ["DeleteHpa", "Scale", "Release"]);
}

/// Regression: the target still had its count when the object was deleted, and lost it by a scale that was under way.
#[test]
fn a_scale_that_is_under_way_is_waited_for_before_the_count_is_restored() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(5);
    rig.annotate(&key("shop"), |object| object.pause.paused = true);
    rig.seconds(5);
    rig.write_ms = 2_000;
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(0)));
    rig.seconds(1);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(60);
    assert!(rig.cluster.objects.is_empty());
    assert_eq!(super::scaling::scales(&rig), [(3, 0), (0, 3)]);
    assert_eq!(rig.replicas("web"), 3);
}

/// A target that cannot be read at the moment is not a deleted target.
#[test]
fn a_count_is_restored_though_the_first_reads_of_the_target_fail() {
    let deleted = || {
        let mut cluster = Cluster::default();
        let mut object = fresh("shop", "web", testing::definition());
        (object.target.api_version, object.target.kind) = ("argoproj.io/v1alpha1".to_owned(), "Rollout".to_owned());
        object.restore_to_original = true;
        object.status.original_replica_count = Some(1);
        object.finalizers = vec!["finalizer.keda.sh".to_owned()];
        object.deletion_requested = true;
        cluster.put_object(object);
        cluster.put_workload(&super::creation::rollout(), workload("web", 7));
        cluster
    };
    let replicas = |rig: &Rig| rig.cluster.workloads.values().next().unwrap().replicas;
    let mut rig = Rig::new(deleted());
    rig.target_fault = Some("the api server was too slow".to_owned());
    // The first read was sent before.
    rig.restart(Vec::new());
    rig.seconds(15);
    assert!(rig.cluster.objects.contains_key(&key("shop")));
    rig.target_fault = None;
    rig.seconds(15);
    assert_eq!(replicas(&rig), 1);
    assert!(rig.cluster.objects.is_empty());
    // A read that is never answered does not block the deletion for ever.
    let mut rig = Rig::new(deleted());
    rig.target_fault = Some("the api server was too slow".to_owned());
    rig.restart(Vec::new());
    rig.seconds(120);
    assert!(rig.cluster.objects.is_empty());
    assert_eq!(replicas(&rig), 7);
}

#[test]
fn a_deletion_found_at_start_is_carried_out() {
    let mut cluster = Cluster::default();
    let mut object = fresh("shop", "web", testing::definition());
    object.finalizers = vec!["finalizer.keda.sh".to_owned(), "other".to_owned()];
    object.deletion_requested = true;
    cluster.put_object(object);
    let mut rig = Rig::new(cluster);
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["Release"]);
    assert_eq!(rig.object("shop").finalizers, ["other"]);
    assert_eq!(rig.reasons(), ["ScaledObjectDeleted"]);
}

#[test]
fn what_a_relist_does_not_show_is_gone() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.cluster.remove_object(&key("shop"));
    rig.cluster.echoes.clear();
    rig.list(0);
    rig.clear();
    rig.seconds(120);
    assert!(rig.polls.is_empty() && rig.writes.is_empty());
    assert!(rig.views.is_empty());
    assert_eq!(rig.world.counts().objects, 0);
}

#[test]
fn the_same_name_with_another_uid_is_another_object() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.cluster.remove_object(&key("shop"));
    let mut again = fresh("shop", "web", testing::definition());
    again.uid = "uid-2".to_owned();
    rig.cluster.put_object(again);
    rig.seconds(10);
    let hpa = rig.cluster.hpas.values().next().unwrap();
    assert_eq!(hpa.controller.as_ref().unwrap().uid, "uid-2");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

fn removed(rig: &Rig) -> Vec<ObjectKey> {
    let of = |record: &Record| match record {
        Record::Removed { object, .. } => Some(object.clone()),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

fn restored(key: ObjectKey) -> RestoredState {
    RestoredState {
        uid: format!("uid-{}", key.name),
        key,
        last_active_at: None,
        replicas: None,
        held: Vec::new(),
        put_to_zero: None,
    }
}

/// Regression: it stayed in the history as living, and no limit of the history's age applied to it.
#[test]
fn what_is_not_watched_any_more_is_gone_from_the_history() {
    let mut settings = super::rig::settings();
    settings.namespaces = vec!["default".to_owned()];
    let mut rig = Rig::with(Cluster::default(), settings);
    let other = ObjectKey::new(ApiGroup::KedaSh, "other", "shop");
    rig.step(Event::Restored(vec![restored(other.clone()), restored(key("shop"))]));
    assert_eq!(removed(&rig), [other]);
}

/// Regression: an HPA, which has no finalizer of ours, stayed in the history as living if it was deleted during a restart.
#[test]
fn what_was_deleted_while_no_process_looked_is_gone_from_the_history() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let gone = [key("gone"), ObjectKey::new(ApiGroup::Autoscaling, "default", "gone")];
    rig.clear();
    rig.restart(gone.iter().cloned().chain([key("shop")]).map(restored).collect());
    rig.seconds(60);
    assert_eq!(removed(&rig), gone);
    rig.clear();
    rig.list(0);
    assert_eq!(removed(&rig), []);
}
