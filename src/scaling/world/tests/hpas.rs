//! The HPA: its owner, repairing it, and which object may have the target.

use std::time::Duration;

use super::*;
use crate::scaling::cluster::deleted;
use crate::scaling::event::{Event, WatchEvent, WriteDone, WriteError, WriteErrorKind, WriteKind, WriteOk};
use crate::scaling::model::UnixMillis;

fn hpa_id(name: &str) -> (String, String) {
    ("default".to_owned(), name.to_owned())
}

fn foreign(name: &str, target: &str) -> crate::scaling::hpa::ObservedHpa {
    let object = fresh("shop", target, testing::definition());
    let definition = object.definition.as_ref().unwrap();
    let desired = crate::scaling::hpa::desired(&object, definition, &deployment(), "1.0");
    let mut hpa = cluster::observed(&desired);
    hpa.name = name.to_owned();
    hpa.uid = format!("uid-{name}");
    hpa.controller = None;
    hpa.labels.clear();
    hpa
}

#[test]
fn drift_by_hand_is_repaired() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    let mut hpa = rig.cluster.hpas[&hpa_id("keda-hpa-shop")].clone();
    hpa.max_replicas = 7;
    rig.cluster.put_hpa(hpa.clone());
    rig.seconds(2);
    assert_eq!(rig.kinds(), ["ApplyHpa"]);
    assert_eq!(rig.cluster.hpas[&hpa_id("keda-hpa-shop")].max_replicas, 100);
    hpa.behavior = Some(crate::scaling::model::Behavior::default());
    rig.cluster.put_hpa(hpa);
    rig.seconds(2);
    assert_eq!(rig.kinds(), ["ApplyHpa", "ReplaceHpa"]);
    assert_eq!(rig.cluster.hpas[&hpa_id("keda-hpa-shop")].behavior, None);
}

/// A KEDA that a rollout has brought back reconciles at once whenever it sees another's labels.
#[test]
fn whoever_undoes_each_correction_is_corrected_ever_less() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    let undo = |rig: &mut Rig| {
        let mut hpa = rig.cluster.hpas[&hpa_id("keda-hpa-shop")].clone();
        hpa.labels.insert("app.kubernetes.io/managed-by".to_owned(), "keda-operator".to_owned());
        rig.cluster.put_hpa(hpa);
    };
    let fight = |rig: &mut Rig, seconds: i64| {
        for _ in 0..seconds * 10 {
            undo(rig);
            rig.run(100);
        }
        let kinds = rig.kinds();
        rig.clear();
        kinds.iter().filter(|kind| **kind == "ApplyHpa").count()
    };
    let first = fight(&mut rig, 600);
    assert!((10..=25).contains(&first), "{first} corrections in ten minutes");
    let later = fight(&mut rig, 600);
    assert!((8..=13).contains(&later), "{later} corrections in the next ten");

    // Whatever else is wanted is written at once.
    rig.edit(&key("shop"), |object| redefine(object, |d| d.max_replicas = 9));
    rig.run(500);
    assert_eq!(rig.cluster.hpas[&hpa_id("keda-hpa-shop")].max_replicas, 9);
    // So is whatever comes after a quiet time.
    assert!(fight(&mut rig, 60) > 3);
    rig.seconds(180);
    rig.clear();
    undo(&mut rig);
    rig.seconds(1);
    assert_eq!(rig.kinds(), ["ApplyHpa"]);
}

#[test]
fn deleted_by_hand_it_comes_back() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    rig.cluster.remove_hpa(&hpa_id("keda-hpa-shop"));
    rig.seconds(2);
    assert_eq!(rig.kinds(), ["CreateHpa"]);
    assert_eq!(rig.reasons(), [""; 0]);
}

/// A write of ours can be answered before the watch reports the end of the HPA that had the name before.
#[test]
fn the_late_end_of_an_earlier_one_is_not_the_end_of_this() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    let now = rig.cluster.hpas[&hpa_id("keda-hpa-shop")].clone();
    rig.step(Event::Hpa(deleted("default", "keda-hpa-shop", "earlier")));
    rig.step(Event::Hpa(WatchEvent::Changed(Box::new(now.clone()))));
    rig.seconds(20);
    assert_eq!(rig.kinds(), [""; 0], "nothing has to be written");
    // What is reported of the earlier one from now on is old.
    let mut earlier = now;
    earlier.uid = "earlier".to_owned();
    earlier.max_replicas = 3;
    rig.step(Event::Hpa(WatchEvent::Changed(Box::new(earlier))));
    rig.seconds(2);
    assert_eq!(rig.kinds(), [""; 0]);
}

/// A list may be older than the answer to a write that came while it was read.
#[test]
fn a_list_that_lacks_what_was_just_written_does_not_end_it() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let mut again = rig.cluster.hpas[&hpa_id("keda-hpa-shop")].clone();
    again.uid = "again".to_owned();
    rig.clear();
    // The test gives the answer itself.
    rig.write_ms = 3_600_000;
    rig.cluster.remove_hpa(&hpa_id("keda-hpa-shop"));
    rig.seconds(2);
    assert_eq!(rig.kinds(), ["CreateHpa"]);
    let write = rig.writes[0].1.clone();
    rig.step(Event::Hpa(WatchEvent::ListStart { scope: String::new() }));
    let result = Ok(WriteOk::Hpa(Box::new(again)));
    rig.step(Event::Written(WriteDone { id: write.id, object: write.object, result }));
    rig.step(Event::Hpa(WatchEvent::ListEnd { scope: String::new() }));
    rig.seconds(20);
    assert_eq!(rig.kinds(), ["CreateHpa"], "once is enough");
}

#[test]
fn an_answer_that_comes_after_the_end_brings_nothing_back() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.answer_ms = 3_000;
    rig.seconds(4);
    assert!(rig.has_hpa("keda-hpa-shop"));
    rig.cluster.remove_hpa(&hpa_id("keda-hpa-shop"));
    rig.seconds(20);
    assert!(rig.has_hpa("keda-hpa-shop"));
}

#[test]
fn a_rename_removes_the_old_one_first() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    rig.edit(&key("shop"), |object| {
        redefine(object, |d| d.hpa_name = "mine".to_owned());
        // The name in the status is lost, for example by a restore from a backup.
        object.status.hpa_name = None;
    });
    rig.seconds(5);
    assert_eq!(rig.kinds()[..2], ["DeleteHpa", "CreateHpa"]);
    assert!(rig.has_hpa("mine") && !rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.object("shop").status.hpa_name.as_deref(), Some("mine"));
}

#[test]
fn a_second_object_on_the_target_waits_until_the_first_is_gone() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let mut second = fresh("alpha", "web", testing::definition());
    // It is older, but comes second: the target has an owner.
    second.created_at = UnixMillis(-5);
    rig.cluster.put_object(second);
    rig.seconds(5);
    assert_eq!(
        rig.ready_message("alpha"),
        "failed to ensure HPA is correctly created for ScaledObject: the workload 'web' of type \
         'apps/v1.Deployment' is already managed by the ScaledObject 'shop'"
    );
    assert!(!rig.has_hpa("keda-hpa-alpha"));
    // While the first is paused it has no HPA, but still owns the target.
    rig.annotate(&key("shop"), |object| object.pause.paused = true);
    rig.seconds(60);
    assert!(!rig.has_hpa("keda-hpa-alpha"));
    rig.annotate(&key("shop"), |object| object.pause.paused = false);
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-alpha") && !rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.condition("alpha", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn the_loser_moves_nothing_neither_paused_nor_deleted() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let mut second = fresh("alpha", "web", testing::definition());
    second.restore_to_original = true;
    rig.cluster.put_object(second);
    rig.seconds(5);
    rig.annotate(&key("alpha"), |object| object.pause.replicas = Some(Ok(9)));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 2);
    rig.set_replicas("web", 4);
    rig.cluster.delete_object(&key("alpha"));
    rig.seconds(5);
    assert!(!rig.cluster.objects.contains_key(&key("alpha")));
    assert_eq!(rig.replicas("web"), 4);
}

/// Each event about a target that many objects name would otherwise be a turn for each of them.
#[test]
fn of_many_objects_on_one_target_the_owner_goes_first_and_the_others_follow() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let names: Vec<String> = (0..40).map(|number| format!("rival-{number}")).collect();
    for name in &names {
        rig.cluster.put_object(fresh(name, "web", testing::definition()));
    }
    rig.seconds(30);
    for name in &names {
        assert!(rig.ready_message(name).ends_with("is already managed by the ScaledObject 'shop'"), "{name}");
    }
    rig.set_replicas("web", 3);
    rig.edit(&key("shop"), |object| redefine(object, |d| d.max_replicas = 7));
    rig.seconds(1);
    assert_eq!(rig.cluster.hpas[&hpa_id("keda-hpa-shop")].max_replicas, 7);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(2);
    let owner = names.iter().find(|name| rig.has_hpa(&format!("keda-hpa-{name}"))).expect("one takes over at once");
    rig.seconds(15);
    for name in names.iter().filter(|name| *name != owner) {
        let winner = format!("is already managed by the ScaledObject '{owner}'");
        assert!(rig.ready_message(name).ends_with(&winner), "{name}: {}", rig.ready_message(name));
    }
}

/// Regression: after a restart the target went to whichever API group was listed first.
#[test]
fn an_owner_of_the_other_api_keeps_its_target_although_it_is_listed_later() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let mut old = fresh("old", "web", testing::definition());
    old.key = ObjectKey::new(ApiGroup::KedaK8sIo, "default", "old");
    old.created_at = UnixMillis(-5);
    rig.cluster.put_object(old.clone());
    rig.seconds(5);
    let status = |rig: &Rig| rig.cluster.objects[&old.key].status.conditions.clone();
    let refused = status(&rig);
    assert!(refused[0].message.ends_with("is already managed by the ScaledObject 'shop'"), "{refused:?}");

    rig.clear();
    rig.unlisted = Some(ApiGroup::KedaSh);
    rig.restart(Vec::new());
    rig.seconds(60);
    assert_eq!(rig.kinds(), [""; 0]);
    rig.unlisted = None;
    rig.list(0);
    rig.seconds(60);
    // Of a group that is not installed nobody waits for a list.
    let mut stray = foreign("stray", "web");
    stray.controller = Some(crate::scaling::hpa::OwnerRef {
        api_version: "keda.k8s.io/v1alpha1".to_owned(),
        kind: "ScaledObject".to_owned(),
        name: "gone".to_owned(),
        uid: "uid-gone".to_owned(),
    });
    let mut alone = shop_among(2, 500.0, |_| {}, |cluster| cluster.put_hpa(stray));
    alone.unlisted = Some(ApiGroup::KedaK8sIo);
    alone.restart(Vec::new());
    let absent = WatchEvent::ListFailed { error: "not found".to_owned(), is_denied: false, is_absent: true };
    alone.step(Event::ScaledObject(ApiGroup::KedaK8sIo, absent));
    alone.seconds(60);
    assert!(alone.has_hpa("keda-hpa-shop"));
    assert!(rig.has_hpa("keda-hpa-shop") && !rig.has_hpa("keda-hpa-old"));
    assert_eq!(status(&rig), refused);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

/// Regression: the deletion of an object that never owned its target scaled it from under the HPA that does.
#[test]
fn the_count_of_a_target_that_a_foreign_hpa_scales_is_not_restored() {
    let other = foreign("other", "web");
    let mut rig = shop_among(3, 500.0, |_| {}, |cluster| cluster.put_hpa(other));
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(5);
    rig.set_replicas("web", 20);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert!(rig.cluster.objects.is_empty());
    assert_eq!((rig.replicas("web"), rig.has_hpa("other")), (20, true));
}

/// Of two objects that are deleted together neither counts as the other's rival, and only one knows the count of before.
#[test]
fn of_two_rivals_deleted_together_the_owner_restores() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(5);
    rig.set_replicas("web", 7);
    let mut second = fresh("alpha", "web", testing::definition());
    second.restore_to_original = true;
    rig.cluster.put_object(second);
    rig.seconds(5);
    rig.set_replicas("web", 9);
    rig.clear();
    rig.cluster.delete_object(&key("alpha"));
    rig.cluster.delete_object(&key("shop"));
    rig.restart(Vec::new());
    rig.seconds(10);
    assert!(rig.cluster.objects.is_empty());
    assert_eq!(super::scaling::scales(&rig), [(9, 2)]);
}

#[test]
fn a_foreign_hpa_on_the_target_is_an_error_until_it_goes() {
    let other = foreign("other", "web");
    let mut rig = shop_among(2, 500.0, |_| {}, |cluster| cluster.put_hpa(other));
    rig.seconds(5);
    assert!(rig.ready_message("shop").ends_with("is already managed by the hpa 'other'"));
    assert!(!rig.has_hpa("keda-hpa-shop"));
    rig.cluster.remove_hpa(&hpa_id("other"));
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));
}

/// The HPA of this name that a ScaledObject makes for a target.
fn made_by(owner: &str, hpa: &str, target: &str) -> crate::scaling::hpa::ObservedHpa {
    let object = fresh(owner, target, testing::definition());
    let desired = crate::scaling::hpa::desired(&object, object.definition.as_ref().unwrap(), &deployment(), "1.0");
    let mut made = cluster::observed(&desired);
    made.name = hpa.to_owned();
    made.uid = format!("uid-{hpa}");
    made
}

/// Regression: an object that another installation chooses counted as gone, and two HPAs disabled each other.
#[test]
fn the_hpa_of_an_object_that_is_not_chosen_is_a_foreign_one() {
    let settings = crate::scaling::world::Settings { selects_objects: true, ..rig::settings() };
    let mut cluster = shop(2, 500.0, |_| {}).cluster;
    cluster.put_hpa(made_by("alpha", "keda-hpa-alpha", "web"));
    let mut rig = Rig::with(cluster.clone(), settings.clone());
    rig.seconds(5);
    assert_eq!(
        rig.ready_message("shop"),
        "failed to ensure HPA is correctly created for ScaledObject: the workload 'web' of type 'apps/v1.Deployment' is \
         already managed by the hpa 'keda-hpa-alpha' of the ScaledObject 'alpha', which --watch-label-selector does not \
         choose"
    );
    assert!(!rig.has_hpa("keda-hpa-shop"));
    // Once it is chosen, it is known as the owner of its target.
    rig.cluster.put_object(fresh("alpha", "web", testing::definition()));
    rig.seconds(5);
    assert!(rig.ready_message("shop").ends_with("is already managed by the ScaledObject 'alpha'"));
    rig.cluster.delete_object(&key("alpha"));
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop") && !rig.has_hpa("keda-hpa-alpha"));

    // Where all are chosen, one that nobody knows is gone, and so is the garbage soon.
    let mut rig = Rig::new(cluster);
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));

    // An object of that name with another uid is the next one, and waits for the end of that garbage.
    let mut cluster = shop(2, 500.0, |_| {}).cluster;
    let mut garbage = made_by("shop", "keda-hpa-shop", "web");
    garbage.controller.as_mut().unwrap().uid = "earlier".to_owned();
    cluster.put_hpa(garbage);
    let mut rig = Rig::with(cluster, settings.clone());
    rig.seconds(5);
    assert_eq!((rig.reasons(), rig.ready_message("shop").as_str()), (Vec::new(), ""));
    rig.cluster.remove_hpa(&hpa_id("keda-hpa-shop"));
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");

    // The wanted name may be taken by such an HPA of another target.
    let mut cluster = shop(2, 500.0, |_| {}).cluster;
    cluster.put_hpa(made_by("alpha", "keda-hpa-shop", "elsewhere"));
    let mut rig = Rig::with(cluster, settings);
    rig.seconds(5);
    let taken = "the HPA 'keda-hpa-shop' is already managed by the ScaledObject 'alpha'";
    assert!(rig.ready_message("shop").ends_with(taken), "{}", rig.ready_message("shop"));
}

/// Two HPAs on one target disable each other.
fn one_hpa_on_each_target(rig: &mut Rig, _: &[crate::scaling::event::Command]) {
    let targets: Vec<&str> = rig.cluster.hpas.values().map(|hpa| hpa.target.name.as_str()).collect();
    let distinct: std::collections::BTreeSet<&&str> = targets.iter().collect();
    assert_eq!(distinct.len(), targets.len(), "{:?}", rig.cluster.hpas.keys());
}

/// The Deployment `web` is scaled by `shop`, which came first, and `alpha` is refused it.
fn contested() -> Rig {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.cluster.put_object(fresh("alpha", "web", testing::definition()));
    rig.seconds(5);
    assert!(rig.ready_message("alpha").ends_with("is already managed by the ScaledObject 'shop'"));
    rig.check = Some(one_hpa_on_each_target);
    rig
}

/// Regression: the loser made a second HPA as soon as the winner named another target, though the winner's HPA stayed.
#[test]
fn a_target_that_its_owner_leaves_goes_to_the_next_without_a_second_hpa() {
    let mut rig = contested();
    // To one that exists, to one that does not, and to one that another object owns.
    rig.cluster.put_workload(&deployment(), workload("api", 1));
    rig.edit(&key("shop"), |object| object.target.name = "api".to_owned());
    rig.seconds(5);
    let target = |rig: &Rig, hpa: &str| rig.cluster.hpas.get(&hpa_id(hpa)).map(|hpa| hpa.target.name.clone());
    assert_eq!(target(&rig, "keda-hpa-shop").as_deref(), Some("api"));
    assert_eq!(target(&rig, "keda-hpa-alpha").as_deref(), Some("web"));
    for name in ["missing", "web"] {
        let mut rig = contested();
        rig.cluster.put_workload(&deployment(), workload("api", 1));
        rig.cluster.put_object(fresh("other", "api", testing::definition()));
        rig.seconds(5);
        let wanted = if name == "web" { "api" } else { name };
        rig.edit(&key("shop"), |object| object.target.name = wanted.to_owned());
        rig.seconds(5);
        assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ScaledObjectCheckFailed", "{wanted}");
        assert_eq!(rig.condition("alpha", ConditionKind::Ready), "Ready=True ScaledObjectReady", "{wanted}");
        assert_eq!(target(&rig, "keda-hpa-alpha").as_deref(), Some("web"), "{wanted}");
        assert!(!rig.has_hpa("keda-hpa-shop"), "{wanted}");
    }
    // While nobody else wants the target, the HPA stays with it, also when a restart forgets why.
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.check = Some(one_hpa_on_each_target);
    rig.edit(&key("shop"), |object| object.target.name = "missing".to_owned());
    rig.seconds(60);
    rig.restart(Vec::new());
    rig.seconds(60);
    assert_eq!(target(&rig, "keda-hpa-shop").as_deref(), Some("web"));
    rig.cluster.put_object(fresh("alpha", "web", testing::definition()));
    rig.seconds(5);
    assert_eq!(target(&rig, "keda-hpa-alpha").as_deref(), Some("web"));
    // What was missing may come yet.
    rig.cluster.put_workload(&deployment(), workload("missing", 1));
    rig.seconds(15);
    assert_eq!(target(&rig, "keda-hpa-shop").as_deref(), Some("missing"));
}

/// Each would wait for the other's HPA to leave.
#[test]
fn two_that_exchange_their_targets_do_not_wait_for_each_other() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.cluster.put_workload(&deployment(), workload("api", 1));
    rig.cluster.put_object(fresh("other", "api", testing::definition()));
    rig.seconds(5);
    rig.check = Some(one_hpa_on_each_target);
    rig.edit(&key("shop"), |object| object.target.name = "api".to_owned());
    rig.edit(&key("other"), |object| object.target.name = "web".to_owned());
    rig.seconds(10);
    let target = |hpa: &str| rig.cluster.hpas.get(&hpa_id(hpa)).map(|hpa| hpa.target.name.as_str());
    assert_eq!((target("keda-hpa-shop"), target("keda-hpa-other")), (Some("api"), Some("web")));
    for name in ["shop", "other"] {
        assert_eq!(rig.condition(name, ConditionKind::Ready), "Ready=True ScaledObjectReady", "{name}");
    }
}

/// Regression: the next owner made a second HPA beside that of the object whose deletion takes its time.
#[test]
fn somebody_else_s_finalizer_holds_no_target() {
    let mut rig = contested();
    rig.annotate(&key("shop"), |object| object.finalizers.push("example.com/hold".to_owned()));
    rig.seconds(5);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert!(rig.object("shop").deletion_requested);
    assert!(rig.has_hpa("keda-hpa-alpha") && !rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.condition("alpha", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

/// KEDA gives each of two objects on one target its HPA, and both stand still.
#[test]
fn of_two_hpas_that_were_there_before_the_loser_s_goes() {
    let add = |cluster: &mut Cluster| {
        let mut second = fresh("alpha", "web", testing::definition());
        second.created_at = UnixMillis(5);
        cluster.put_object(second);
        cluster.put_hpa(made_by("alpha", "keda-hpa-alpha", "web"));
        cluster.put_hpa(made_by("shop", "keda-hpa-shop", "web"));
    };
    let mut rig = shop_among(2, 500.0, |_| {}, add);
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop") && !rig.has_hpa("keda-hpa-alpha"));
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert!(rig.ready_message("alpha").ends_with("is already managed by the ScaledObject 'shop'"));
}

/// KEDA asks for foreign HPAs only when a ScaledObject is written.
#[test]
fn a_foreign_hpa_that_comes_later_stops_the_object_until_it_goes() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(40);
    rig.cluster.put_hpa(foreign("other", "web"));
    rig.seconds(5);
    assert!(rig.ready_message("shop").ends_with("is already managed by the hpa 'other'"));
    rig.clear();
    rig.seconds(300);
    assert!(rig.polls.is_empty());
    rig.cluster.remove_hpa(&hpa_id("other"));
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert!(!rig.polls.is_empty());
}

#[test]
fn a_foreign_hpa_may_be_ignored_or_taken_over() {
    let mut hpa = foreign("other", "web");
    hpa.annotations.insert("validations.keda.sh/hpa-ownership".to_owned(), "false".to_owned());
    let mut rig = shop_among(2, 500.0, |_| {}, |cluster| cluster.put_hpa(hpa));
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));

    let other = foreign("other", "web");
    let max = |d: &mut Definition| d.max_replicas = 9;
    let mut rig = shop_among(2, 500.0, max, |cluster| cluster.put_hpa(other));
    rig.annotate(&key("shop"), |object| object.transfer_hpa_ownership = true);
    rig.seconds(5);
    assert!(rig.ready_message("shop").contains("must be specified by name"));
    rig.edit(&key("shop"), |object| {
        redefine(object, |d| d.hpa_name = "other".to_owned());
    });
    rig.seconds(5);
    let hpa = &rig.cluster.hpas[&hpa_id("other")];
    assert_eq!(hpa.uid, "uid-other");
    assert_eq!(hpa.max_replicas, 9);
    assert!(hpa.controller.is_some());
    assert_eq!(rig.cluster.hpas.len(), 1);
}

/// Regression: the object was called ready, and scaled, while the foreign HPA still asked for other metrics.
#[test]
fn an_hpa_counts_as_taken_over_once_the_write_is_confirmed() {
    let add = |cluster: &mut Cluster| {
        cluster.put_hpa(foreign("keda-hpa-shop", "web"));
        let mut object = cluster.objects[&key("shop")].clone();
        object.transfer_hpa_ownership = true;
        cluster.put_object(object);
    };
    let mut rig = shop_among(2, 500.0, |_| {}, add);
    rig.write_ms = 10_000;
    rig.seconds(5);
    assert!(rig.kinds().contains(&"ReplaceHpa"));
    assert!(rig.polls.is_empty());
    rig.seconds(30);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert!(!rig.polls.is_empty());
    // Somebody takes it back each time, and the corrections wait.
    rig.write_ms = 3;
    let mut corrections = 0;
    for _ in 0..20 {
        rig.clear();
        rig.cluster.put_hpa(foreign("keda-hpa-shop", "web"));
        rig.seconds(1);
        corrections += rig.kinds().iter().filter(|kind| **kind == "ReplaceHpa").count();
        let is_ours = rig.cluster.hpas[&hpa_id("keda-hpa-shop")].controller.is_some();
        let verdict = &rig.world.objects[&key("shop")].verdict;
        assert_eq!(*verdict == crate::scaling::object::Verdict::Good, is_ours, "{verdict:?}");
    }
    assert!((2..10).contains(&corrections), "{corrections}");
}

#[test]
fn a_name_taken_by_an_hpa_of_another_target_is_free_once_that_is_gone() {
    let other = foreign("keda-hpa-shop", "elsewhere");
    let mut rig = shop_among(2, 500.0, |_| {}, |cluster| cluster.put_hpa(other));
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ScaledObjectCheckFailed");
    rig.cluster.remove_hpa(&hpa_id("keda-hpa-shop"));
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn an_object_of_the_other_api_with_this_name_keeps_its_hpa() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let mut old = fresh("shop", "other", testing::definition());
    old.key = ObjectKey::new(ApiGroup::KedaK8sIo, &old.key.namespace, &old.key.name);
    old.uid = "uid-old".to_owned();
    rig.cluster.put_object(old.clone());
    rig.cluster.put_workload(&deployment(), workload("other", 1));
    rig.seconds(5);
    let conditions = &rig.cluster.objects[&old.key].status.conditions;
    assert!(
        conditions[0].message.ends_with("the HPA 'keda-hpa-shop' is already managed by the ScaledObject 'shop'"),
        "{conditions:?}"
    );
}

#[test]
fn a_refused_hpa_is_an_error_retried_slowly_and_at_once_when_changed() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.cluster.refused_hpas = vec!["keda-hpa-shop".to_owned()];
    rig.seconds(300);
    let applies = rig.kinds().iter().filter(|k| **k == "CreateHpa").count();
    assert!((2..=5).contains(&applies), "{applies}");
    assert!(rig.ready_message("shop").ends_with("spec.metrics: Invalid value"));
    assert_eq!(rig.reasons().iter().filter(|r| **r == "ScaledObjectCheckFailed").count(), 1);
    rig.cluster.refused_hpas.clear();
    rig.edit(&key("shop"), |object| redefine(object, |d| d.max_replicas = 3));
    rig.seconds(2);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert!(rig.has_hpa("keda-hpa-shop"));
}

/// Regression: the refusal of an HPA that was later to be deleted made the next write forget what the API server had asked for.
#[test]
fn a_refusal_of_long_ago_shortens_no_pause_that_is_asked_for() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.cluster.refused_hpas.push("keda-hpa-shop".to_owned());
    rig.edit(&key("shop"), |object| redefine(object, |d| d.max_replicas = 9));
    rig.seconds(5);
    assert!(rig.ready_message("shop").ends_with("spec.metrics: Invalid value"));
    // The test gives the answer itself.
    rig.write_ms = 3_600_000;
    rig.clear();
    rig.edit(&key("shop"), |object| redefine(object, |d| d.hpa_name = "mine".to_owned()));
    rig.seconds(600);
    let (_, delete) = rig.writes.iter().find(|(_, write)| matches!(write.kind, WriteKind::DeleteHpa { .. })).unwrap();
    let error = WriteError {
        kind: WriteErrorKind::Transient,
        message: "too many requests".to_owned(),
        retry_after: Some(Duration::from_secs(60)),
    };
    let done = WriteDone { id: delete.id, object: delete.object.clone(), result: Err(error) };
    rig.step(Event::Written(done));
    rig.clear();
    rig.edit(&key("shop"), |object| {
        redefine(object, |d| (d.hpa_name, d.max_replicas) = ("keda-hpa-shop".to_owned(), 5));
    });
    rig.seconds(50);
    assert!(!rig.kinds().contains(&"ApplyHpa"), "{:?}", rig.kinds());
    rig.seconds(20);
    assert!(rig.kinds().contains(&"ApplyHpa"), "{:?}", rig.kinds());
}

/// An API server that does not know a field drops it, so writing it again would not help.
#[test]
fn a_field_that_the_api_server_drops_is_written_once() {
    let rules = crate::scaling::model::ScalingRules { tolerance: Some("100m".to_owned()), ..Default::default() };
    let behavior = crate::scaling::model::Behavior { scale_up: Some(rules), scale_down: None };
    let wants = |d: &mut Definition| d.behavior = Some(behavior);
    let mut rig = shop_among(2, 500.0, wants, |cluster| cluster.knows_no_tolerance = true);
    let written = |rig: &mut Rig| {
        rig.clear();
        rig.seconds(600);
        rig.kinds().into_iter().filter(|kind| *kind != "Status").collect::<Vec<_>>()
    };
    assert_eq!(written(&mut rig), ["CreateHpa"]);
    // A manual edit is still undone, once.
    let mut hpa = rig.cluster.hpas[&hpa_id("keda-hpa-shop")].clone();
    hpa.max_replicas = 7;
    rig.cluster.put_hpa(hpa);
    assert_eq!(written(&mut rig), ["ReplaceHpa"]);
    assert_eq!(rig.cluster.hpas[&hpa_id("keda-hpa-shop")].max_replicas, 100);
    // A changed definition is written as well.
    rig.edit(&key("shop"), |object| redefine(object, |d| d.max_replicas = 9));
    assert_eq!(written(&mut rig), ["ReplaceHpa"]);
}

#[test]
fn an_hpa_that_cannot_reach_its_target_says_so_on_the_object() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let mut says = |able: (&str, &str, &str)| {
        let mut hpa = rig.cluster.hpas[&hpa_id("keda-hpa-shop")].clone();
        let condition = |kind: &str, (status, reason, message): (&str, &str, &str)| {
            (kind.to_owned(), status.to_owned(), reason.to_owned(), message.to_owned())
        };
        hpa.conditions = vec![
            condition("AbleToScale", able),
            condition("ScalingActive", ("True", "ValidMetricFound", "the HPA was able to compute")),
        ];
        rig.cluster.put_hpa(hpa);
        rig.seconds(5);
        rig.condition("shop", ConditionKind::HpaActive)
    };
    assert_eq!(says(("True", "ReadyForNewScale", "ready")), "HPAActive=True HPAActive");
    assert_eq!(says(("False", "FailedGetScale", "no scale")), "HPAActive=False FailedGetScale");
    let conflict = ("False", "FailedUpdateScale", "the object has been modified; please apply your changes");
    assert_eq!(says(conflict), "HPAActive=True HPAActive", "which passes by itself");
}
