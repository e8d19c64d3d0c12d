//! The end of an object, seen or unseen.

use super::*;

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
    assert_eq!(hpa.controller.as_ref().unwrap().3, "uid-2");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}
