//! Who owns a target that two objects name, over a pause of the owner and a restart.

use super::*;
use crate::scaling::model::UnixMillis;

const GROUPS: [(ApiGroup, &str); 3] =
    [(ApiGroup::KedaSh, "alpha"), (ApiGroup::KedaK8sIo, "alpha"), (ApiGroup::KedaK8sIo, "shop")];

/// The object `shop` owns the Deployment `web` and is paused, with `pause`. The older object of this key was refused the target,
/// and nothing but what the cluster shows is known since.
fn restarted_while_the_owner_is_paused(rival: &ObjectKey, pause: Option<u32>) -> Rig {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let mut second = fresh("alpha", "web", testing::definition());
    second.key = rival.clone();
    second.created_at = UnixMillis(-5);
    rig.cluster.put_object(second);
    rig.seconds(5);
    rig.annotate(&key("shop"), |object| {
        object.pause.paused = pause.is_none();
        object.pause.replicas = pause.map(Ok);
    });
    rig.seconds(60);
    assert_eq!((refusal(&rig, rival), rig.cluster.hpas.len()), (true, 0), "{rival}");
    rig.restart(Vec::new());
    rig.seconds(60);
    rig
}

fn refusal(rig: &Rig, rival: &ObjectKey) -> bool {
    let ready = rig.cluster.objects[rival].status.condition(ConditionKind::Ready);
    ready.is_some_and(|ready| ready.message.ends_with("is already managed by the ScaledObject 'shop'"))
}

#[test]
fn a_paused_owner_keeps_its_target_over_a_restart() {
    for (group, name) in GROUPS {
        for pause in [None, Some(3)] {
            let rival = ObjectKey::new(group, "default", name);
            let mut rig = restarted_while_the_owner_is_paused(&rival, pause);
            assert_eq!((refusal(&rig, &rival), rig.cluster.hpas.len()), (true, 0), "{rival} {pause:?}");
            assert_eq!(rig.replicas("web"), pause.unwrap_or(2), "{rival}");
            rig.annotate(&key("shop"), |object| object.pause = Default::default());
            rig.seconds(60);
            assert!(refusal(&rig, &rival) && rig.has_hpa("keda-hpa-shop"), "{rival} {pause:?}");
            assert_eq!(rig.cluster.hpas.len(), 1, "{rival}");
        }
    }
}

/// Regression: only the other one's status said whose the target is, and a pause of that one overwrote it.
#[test]
fn a_pause_of_the_other_one_takes_no_target_from_a_paused_owner() {
    for (group, name) in GROUPS {
        for pause in [None, Some(3)] {
            let rival = ObjectKey::new(group, "default", name);
            let mut rig = restarted_while_the_owner_is_paused(&rival, pause);
            rig.annotate(&rival, |object| object.pause.paused = true);
            rig.seconds(60);
            assert!(!refusal(&rig, &rival), "{rival}");
            rig.annotate(&rival, |object| object.pause.paused = false);
            rig.seconds(60);
            assert_eq!((refusal(&rig, &rival), rig.cluster.hpas.len()), (true, 0), "{rival} {pause:?}");
        }
    }
}
