//! Watches that are behind: nothing follows from what they do not show until the API server has confirmed it.

use std::time::Duration;

use super::*;
use crate::scaling::cluster::deleted;
use crate::scaling::event::{Event, Record, UnreadableObject, WatchEvent, WriteDone, WriteKind, WriteOk};
use crate::scaling::model::{AuthenticationKind, AuthenticationRef};

/// Applies a workload that no watch has shown yet.
fn unseen(rig: &mut Rig, workload: Workload) {
    rig.cluster.put_workload(&deployment(), workload);
    rig.cluster.echoes.clear();
}

fn gone(rig: &mut Rig, name: &str) {
    rig.step(Event::Workload(deployment(), deleted("default", name, "")));
}

#[test]
fn a_target_that_was_applied_together_with_its_object_is_not_missing() {
    let mut rig = Rig::new(Cluster::default());
    rig.set_answer("up", Answer::Value(500.0));
    unseen(&mut rig, workload("web", 2));
    rig.cluster.put_object(fresh("shop", "web", testing::definition()));
    rig.seconds(5);
    assert!(rig.events.iter().all(|event| !event.warning), "{:?}", rig.events);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert!(rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.object("shop").status.original_replica_count, Some(2));
    // The watch catches up, which changes nothing.
    rig.clear();
    rig.set_replicas("web", 2);
    rig.seconds(60);
    assert_eq!((rig.kinds(), rig.reasons()), (vec![], vec![]));
}

#[test]
fn a_target_that_no_watch_shows_is_scaled_by_its_count_of_now() {
    let mut rig = Rig::new(Cluster::default());
    rig.set_answer("up", Answer::Value(0.0));
    unseen(&mut rig, workload("web", 2));
    rig.cluster.put_object(fresh("shop", "web", testing::definition()));
    rig.seconds(5);
    unseen(&mut rig, workload("web", 0));
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(60);
    assert_eq!(rig.replicas("web"), 1, "{:?}", rig.kinds());
}

#[test]
fn a_target_that_was_replaced_is_not_missing() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    // Deleted and made again; the watch has reported the first half.
    gone(&mut rig, "web");
    rig.seconds(20);
    assert_eq!((rig.kinds(), rig.reasons()), (vec![], vec![]));
    // Now it is deleted for good, which a read must find out, even one that was sent before.
    let id = (deployment(), "default".to_owned(), "web".to_owned());
    rig.cluster.remove_workload(&id);
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ScaledObjectCheckFailed");
    assert_eq!(rig.events[0].note, "Target resource doesn't exist");
}

#[test]
fn a_target_that_went_while_it_was_being_read_is_read_again() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    gone(&mut rig, "web");
    // The read that this caused has still found it.
    let id = (deployment(), "default".to_owned(), "web".to_owned());
    rig.cluster.workloads.remove(&id);
    gone(&mut rig, "web");
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ScaledObjectCheckFailed");
}

#[test]
fn a_target_of_which_it_cannot_be_found_out_whether_it_went_stops_nothing() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    rig.target_fault = Some("the api server was too slow".to_owned());
    gone(&mut rig, "web");
    rig.seconds(60);
    assert_eq!(rig.reasons(), [""; 0]);
    assert!(rig.has_hpa("keda-hpa-shop") && !rig.polls.is_empty());
    rig.target_fault = None;
    rig.seconds(30);
    assert_eq!(rig.reasons(), [""; 0]);
}

/// Regression: one failed read of a target that no watch showed yet held its object for ever.
#[test]
fn a_target_that_could_not_be_read_is_readable_once_its_watch_shows_it() {
    let mut rig = Rig::new(Cluster::default());
    rig.set_answer("up", Answer::Value(0.0));
    unseen(&mut rig, workload("web", 0));
    rig.cluster.put_object(fresh("shop", "web", testing::definition()));
    rig.seconds(5);
    rig.target_fault = Some("the api server was too slow".to_owned());
    rig.seconds(60);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ErrorGettingCurrentReplicas");
    rig.set_replicas("web", 0);
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(60);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert_eq!(rig.replicas("web"), 1);
}

#[test]
fn an_authentication_that_was_applied_together_with_its_object_is_not_missing() {
    let mut rig = Rig::new(Cluster::default());
    rig.set_answer("up", Answer::Value(500.0));
    rig.cluster.put_workload(&deployment(), workload("web", 1));
    rig.seconds(1);
    let mut definition = testing::definition();
    definition.triggers[0].authentication =
        Some(AuthenticationRef { kind: AuthenticationKind::TriggerAuthentication, name: "token".to_owned() });
    rig.cluster.put_authentication(testing::authentication("token"));
    rig.cluster.echoes.clear();
    rig.cluster.put_object(fresh("shop", "web", definition));
    rig.seconds(5);
    assert!(rig.events.iter().all(|event| !event.warning), "{:?}", rig.events);
    assert_eq!(rig.polls.len(), 1);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn an_hpa_that_no_watch_shows_is_not_taken_over() {
    let mut rig = shop_among(2, 500.0, |_| {}, |_| {});
    let mut theirs = cluster::observed(&crate::scaling::hpa::desired(
        &fresh("shop", "elsewhere", testing::definition()),
        &testing::definition(),
        &deployment(),
        "1.0",
    ));
    theirs.name = "keda-hpa-shop".to_owned();
    theirs.uid = "theirs".to_owned();
    theirs.controller = None;
    theirs.max_replicas = 77;
    rig.cluster.put_hpa(theirs);
    rig.cluster.echoes.clear();
    rig.seconds(60);
    let id = ("default".to_owned(), "keda-hpa-shop".to_owned());
    assert_eq!(rig.cluster.hpas[&id].max_replicas, 77);
    assert!(rig.ready_message("shop").contains("an HPA 'keda-hpa-shop' that this ScaledObject does not own"));
    assert_eq!(rig.kinds().iter().filter(|kind| **kind == "CreateHpa").count(), 1);
    rig.cluster.remove_hpa(&id);
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn what_a_list_shows_and_nobody_can_read_stays_as_it_was() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    fn unreadable<T>(name: &str) -> [WatchEvent<T>; 1] {
        let (namespace, name, error) = ("default".to_owned(), name.to_owned(), "no number".to_owned());
        [WatchEvent::Unreadable(UnreadableObject { namespace, name, error })]
    }
    rig.step_list(Event::Hpa, unreadable("keda-hpa-shop"));
    rig.step_list(|event| Event::Workload(deployment(), event), unreadable("web"));
    rig.step_list(|event| Event::ScaledObject(ApiGroup::KedaSh, event), unreadable("shop"));
    rig.seconds(20);
    assert_eq!((rig.kinds(), rig.reasons()), (vec![], vec![]));
    assert!(rig.views.contains_key(&key("shop")));
}

/// Regression: it counted as gone for good, and was created again every few seconds for ever.
#[test]
fn an_hpa_that_was_made_after_a_list_was_read_is_found_again() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));
    rig.step_list(Event::Hpa, []);
    rig.seconds(30);
    rig.clear();
    rig.seconds(60);
    assert_eq!(rig.kinds(), [""; 0]);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

/// Regression: what a list showed was ignored for ever where its versions were below those of our own last writes.
#[test]
fn a_store_that_was_restored_from_a_backup_is_believed() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(60);
    let claimed = rig.object("shop").finalizers.clone();
    assert!(!claimed.is_empty());
    let id = ("default".to_owned(), "keda-hpa-shop".to_owned());
    rig.cluster.restore_from_backup();
    let object = rig.cluster.objects.get_mut(&key("shop")).unwrap();
    object.finalizers.clear();
    object.status = Default::default();
    rig.cluster.hpas.get_mut(&id).unwrap().max_replicas = 7;
    for kind in [0, 1] {
        rig.list(kind);
    }
    rig.seconds(40);
    assert_eq!(rig.object("shop").finalizers, claimed);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert_eq!(rig.cluster.hpas[&id].max_replicas, 100);
}

/// Replicas as the history has them.
fn recorded(rig: &Rig) -> Vec<(Option<u32>, u32)> {
    let of = |record: &Record| match record {
        Record::Replicas { from, to, .. } => Some((*from, *to)),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

/// The Deployment `web` with so many replicas at this version.
fn at(version: &str, replicas: u32) -> Workload {
    Workload { version: version.parse().ok(), ..workload("web", replicas) }
}

fn shows(rig: &mut Rig, workload: Workload) {
    rig.step(Event::Workload(deployment(), WatchEvent::Changed(workload)));
}

/// Returns a rig that has just scaled from zero, with nothing recorded or written yet after that. The versions of the target
/// before and after it are those of 0 and of 1 replica.
fn woken() -> (Rig, u64, u64) {
    let mut rig = shop(0, 500.0, |_| {});
    let of = |rig: &Rig| rig.cluster.workloads.values().next().unwrap().version.unwrap();
    let before = of(&rig);
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 1);
    let after = of(&rig);
    assert_eq!(recorded(&rig), [(None, 0), (Some(0), 1)]);
    rig.clear();
    (rig, before, after)
}

fn scales(rig: &Rig) -> usize {
    rig.kinds().iter().filter(|kind| **kind == "Scale").count()
}

/// Regression: the history had the scale from zero twice, with a change back between them that never was.
#[test]
fn a_watch_that_is_behind_undoes_no_write() {
    let (mut rig, before, after) = woken();
    shows(&mut rig, at(&before.to_string(), 0));
    rig.seconds(60);
    assert_eq!((recorded(&rig), scales(&rig)), (vec![], 0));
    shows(&mut rig, at(&after.to_string(), 1));
    assert_eq!(recorded(&rig), []);
    // Another one of that name is not compared.
    shows(&mut rig, Workload { uid: "another".to_owned(), ..at(&before.to_string(), 3) });
    assert_eq!(recorded(&rig), [(Some(1), 3)]);
    // Nor is a version that is no number.
    let mut rig = woken().0;
    shows(&mut rig, at("a7", 0));
    assert_eq!(recorded(&rig), [(Some(1), 0)]);
}

/// Returns the answer to the scale that is under way, with this version.
fn answer(rig: &Rig, version: u64) -> Event {
    let (_, write) = rig.writes.iter().find(|(_, write)| matches!(write.kind, WriteKind::Scale { .. })).unwrap();
    let result = Ok(WriteOk::Scaled(Some(version)));
    Event::Written(WriteDone { id: write.id, object: write.object.clone(), result })
}

/// Returns a rig whose scale from zero is under way, and the target as it was before it.
fn scaling() -> (Rig, Workload) {
    let mut rig = shop(0, 0.0, |_| {});
    rig.seconds(5);
    let shown = rig.cluster.workloads.values().next().unwrap().clone();
    // The test gives the answer itself.
    rig.write_ms = 3_600_000;
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(40);
    rig.records.clear();
    (rig, shown)
}

/// An answer that comes after the start of a list is newer than the list. Otherwise the list holds whatever its version: etcd
/// was restored from a backup.
#[test]
fn a_list_undoes_no_write_that_was_answered_after_its_start() {
    for is_later in [false, true] {
        let (mut rig, shown) = scaling();
        let start = Event::Workload(deployment(), WatchEvent::ListStart { scope: String::new() });
        let answer = answer(&rig, 1_000);
        let [first, second] = if is_later { [start, answer] } else { [answer, start] };
        rig.step(first);
        rig.step(second);
        assert_eq!(recorded(&rig), [(Some(0), 1)]);
        rig.step(Event::Workload(deployment(), WatchEvent::Listed(shown)));
        rig.step(Event::Workload(deployment(), WatchEvent::ListEnd { scope: String::new() }));
        assert_eq!(recorded(&rig)[1..], if is_later { vec![] } else { vec![(Some(1), 0)] });
    }
}

#[test]
fn an_answer_does_not_undo_what_a_watch_has_shown_since() {
    let mut rig = scaling().0;
    shows(&mut rig, at("1000", 1));
    shows(&mut rig, at("1001", 5));
    rig.step(answer(&rig, 1_000));
    assert_eq!(recorded(&rig), [(Some(0), 1), (Some(1), 5)]);
    // After a restore of etcd versions begin again where they were long ago.
    let mut rig = scaling().0;
    rig.step(answer(&rig, 1));
    shows(&mut rig, at("2", 5));
    assert_eq!(recorded(&rig), [(Some(0), 1), (Some(1), 5)]);
}

/// Returns a rig whose target has been read, with 3 replicas at its second version, and that no watch has shown.
fn read() -> Rig {
    let mut rig = Rig::new(Cluster::default());
    rig.set_answer("up", Answer::Value(500.0));
    unseen(&mut rig, workload("web", 2));
    unseen(&mut rig, workload("web", 3));
    rig.cluster.put_object(fresh("shop", "web", testing::definition()));
    rig.seconds(5);
    assert_eq!(recorded(&rig), [(None, 3)]);
    rig
}

#[test]
fn a_watch_that_is_behind_undoes_no_read() {
    let mut rig = read();
    shows(&mut rig, at("1", 2));
    shows(&mut rig, at("2", 3));
    assert_eq!(recorded(&rig), [(None, 3)]);
}

/// What an interrupted watch shows when it goes on may be as old as the interruption; what it shows later is news.
#[test]
fn a_change_that_an_interrupted_watch_has_missed_may_be_older() {
    for is_listed in [false, true] {
        let mut rig = shop(2, 5.0, |_| {});
        rig.seconds(60);
        let lost_at = rig.now;
        rig.records.clear();
        let scope = String::new;
        let silent_for = Duration::from_secs(7);
        rig.step(Event::Workload(deployment(), WatchEvent::Interrupted { scope: scope(), silent_for }));
        rig.seconds(30);
        let version = rig.cluster.workloads.values().next().unwrap().version.unwrap();
        let missed = at(&(version + 1).to_string(), 4);
        let seen = |seen| Event::Workload(deployment(), seen);
        if is_listed {
            rig.step_list(|seen| Event::Workload(deployment(), seen), [WatchEvent::Listed(missed)]);
            rig.step(seen(WatchEvent::Resumed { scope: scope() }));
        } else {
            rig.step(seen(WatchEvent::Resumed { scope: scope() }));
            rig.step(seen(WatchEvent::Changed(missed)));
        }
        rig.stand_still(10_000);
        shows(&mut rig, at(&(version + 2).to_string(), 5));
        let of = |record: &Record| match record {
            Record::Replicas { to, unseen_since, .. } => Some((*to, *unseen_since)),
            _ => None,
        };
        let records: Vec<_> = rig.records.iter().filter_map(of).collect();
        assert_eq!(records, [(4, Some(lost_at.minus(silent_for))), (5, None)]);
    }
}

/// Regression: the target was in doubt, as after a standstill, and a watch that was behind made a change back.
#[test]
fn a_watch_that_is_behind_undoes_nothing_while_the_target_is_read_again() {
    let mut rig = read();
    gone(&mut rig, "web");
    shows(&mut rig, at("1", 2));
    assert_eq!(recorded(&rig), [(None, 3)]);
    shows(&mut rig, at("3", 4));
    assert_eq!(recorded(&rig), [(None, 3), (Some(3), 4)]);
}

/// Regression: others that name the target learned of the write neither from its answer nor from the watch, to which it was
/// no news any more.
#[test]
fn an_answer_to_a_write_is_news_to_all_that_name_the_target() {
    let (mut rig, shown) = scaling();
    let answer = answer(&rig, 1_000);
    rig.cluster.put_object(fresh("other", "web", testing::definition()));
    rig.cluster.put_object(fresh("shop", "api", testing::definition()));
    rig.seconds(5);
    rig.records.clear();
    rig.step(answer);
    assert_eq!(recorded(&rig), [(Some(0), 1)]);
    shows(&mut rig, Workload { replicas: 1, version: Some(1_000), ..shown });
    assert_eq!(recorded(&rig), [(Some(0), 1)]);
}

/// Regression: of a target that no watch shows, the others knew the count of before until they read it.
#[test]
fn an_answer_to_a_write_is_news_also_where_no_watch_shows_the_target() {
    let mut rig = Rig::new(Cluster::default());
    rig.set_answer("up", Answer::Value(0.0));
    let rollout = super::creation::rollout();
    rig.cluster.put_workload(&rollout, workload("web", 0));
    for name in ["shop", "other"] {
        let mut object = fresh(name, "web", testing::definition());
        (object.target.api_version, object.target.kind) = (rollout.api_version(), rollout.kind.clone());
        rig.cluster.put_object(object);
        rig.seconds(5);
    }
    rig.write_ms = 3_600_000;
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(40);
    let answer = answer(&rig, 1_000);
    rig.edit(&key("shop"), |object| object.target.name = "api".to_owned());
    rig.seconds(1);
    rig.records.clear();
    rig.step(answer);
    assert_eq!(recorded(&rig), [(Some(0), 1)]);
}
