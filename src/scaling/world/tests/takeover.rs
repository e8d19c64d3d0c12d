//! Taking over from KEDA, or from an earlier process.

use litemap::LiteMap;

use super::*;
use crate::scaling::event::{RestoredState, WriteKind};
use crate::scaling::model::{Condition, ConditionKind as Kind, ConditionStatus as Is, Status, UnixMillis};

/// A cluster as KEDA leaves it: an active object with three replicas.
fn left_by_keda() -> Cluster {
    let mut object = fresh("shop", "web", testing::definition());
    object.finalizers = vec!["finalizer.keda.sh".to_owned()];
    object.labels.insert("scaledobject.keda.sh/name".to_owned(), "shop".to_owned());
    object.status = Status {
        scale_target_kind: Some("apps/v1.Deployment".to_owned()),
        scale_target_gvkr: Some(Arc::new(deployment())),
        original_replica_count: Some(1),
        last_active_at: Some(UnixMillis(999_990_000)),
        external_metric_names: vec!["s0-prometheus".to_owned()],
        conditions: vec![
            Condition::new(
                Kind::Ready,
                Is::True,
                "ScaledObjectReady",
                "ScaledObject is defined correctly and is ready for scaling",
            ),
            Condition::new(Kind::Active, Is::True, "ScalerActive", "Scaling is performed because triggers are active"),
            Condition::new(
                Kind::Fallback,
                Is::False,
                "NoFallbackFound",
                "No fallbacks are active on this scaled object",
            ),
            Condition::new(Kind::Paused, Is::False, "", ""),
            Condition::new(Kind::HpaActive, Is::True, "HPAActive", "HPA is actively scaling"),
        ],
        triggers_activity: LiteMap::from_iter([("s0-prometheus".to_owned(), true)]),
        hpa_name: Some("keda-hpa-shop".to_owned()),
        triggers_types: Some("prometheus".to_owned()),
        authentications_types: Some(String::new()),
        ..Status::default()
    };
    let definition = object.definition.as_ref().unwrap();
    let desired = crate::scaling::hpa::desired(&object, definition, &deployment(), "main");
    let mut hpa = cluster::observed(&desired);
    hpa.uid = "uid-hpa".to_owned();
    hpa.labels.insert("app.kubernetes.io/managed-by".to_owned(), "keda-operator".to_owned());
    hpa.conditions =
        vec![("ScalingActive".to_owned(), "True".to_owned(), "ValidMetricFound".to_owned(), "ok".to_owned())];
    let mut cluster = Cluster::default();
    cluster.put_object(object);
    cluster.put_hpa(hpa);
    cluster.put_workload(&deployment(), workload("web", 3));
    cluster
}

#[test]
fn from_keda_only_the_hpa_s_labels_change() {
    let mut rig = Rig::new(left_by_keda());
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(40);
    assert_eq!(rig.kinds(), ["ApplyHpa"]);
    assert_eq!(rig.reasons(), [""; 0]);
    assert_eq!(rig.replicas("web"), 3);
}

#[test]
fn from_keda_the_cooldown_goes_on() {
    let mut rig = Rig::new(left_by_keda());
    rig.set_answer("up", Answer::Value(0.0));
    // It was active until 10 s before the takeover, so 290 s are left.
    rig.seconds(285);
    assert_eq!(rig.replicas("web"), 3);
    rig.seconds(40);
    assert_eq!(rig.replicas("web"), 0);
}

#[test]
fn an_older_keda_s_status_is_completed_and_the_rest_left() {
    let mut cluster = left_by_keda();
    let mut object = cluster.objects[&key("shop")].clone();
    object.status.triggers_types = None;
    object.status.authentications_types = None;
    object.status.triggers_activity.clear();
    cluster.put_object(object.clone());
    let mut rig = Rig::new(cluster);
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(40);
    let mut kinds = rig.kinds();
    kinds.sort_unstable();
    assert_eq!(kinds, ["ApplyHpa", "Status"]);
    assert_eq!(rig.object("shop").status.conditions, object.status.conditions);
}

#[test]
fn a_restart_on_an_unchanged_object_writes_nothing() {
    for (replicas, value) in [(0, 0.0), (3, 500.0)] {
        let mut rig = shop(replicas, value, |_| {});
        rig.seconds(50);
        rig.clear();
        let restored = RestoredState {
            key: key("shop"),
            uid: "uid-shop".to_owned(),
            last_active_at: (value > 0.0).then_some(rig.now),
            replicas: None,
            held: Vec::new(),
            put_to_zero: None,
        };
        rig.restart(vec![restored]);
        // Slow answers must not cause an early write.
        rig.poll_ms = 4_000;
        rig.seconds(9);
        assert_eq!(rig.kinds(), [""; 0]);
        assert_eq!(rig.reasons(), [""; 0]);
    }
}

#[test]
fn a_restart_while_a_trigger_fails_does_not_call_it_well() {
    let mut rig = shop(1, 0.0, |_| {});
    rig.set_answer("up", failed("down"));
    rig.seconds(50);
    rig.clear();
    rig.restart(Vec::new());
    rig.poll_ms = 4_000;
    rig.seconds(20);
    assert_eq!(rig.kinds(), [""; 0]);
    assert_eq!(rig.condition("shop", Kind::Ready), "Ready=False TriggerError");
}

#[test]
fn somebody_else_who_writes_the_status_is_not_raced() {
    let mut rig = shop(0, 0.0, |_| {});
    rig.seconds(5);
    rig.clear();
    for _ in 0..600 {
        rig.annotate(&key("shop"), |object| {
            object.status.hpa_name = Some("other".to_owned());
        });
        rig.run(100);
    }
    let writes = rig.writes.iter();
    let statuses = writes.filter(|(_, write)| matches!(write.kind, WriteKind::Status(_)));
    let count = statuses.count();
    assert!((2..=15).contains(&count), "{count}");
}

#[test]
fn the_answer_to_a_write_may_come_after_newer_pictures() {
    let mut rig = shop(0, 0.0, |_| {});
    rig.network.is_faulty = true;
    for seed in 0..40 {
        rig.network.random = fastrand::Rng::with_seed(seed);
        rig.annotate(&key("shop"), |object| {
            object.labels.insert("team".to_owned(), seed.to_string());
            object.labels.remove("scaledobject.keda.sh/name");
        });
        rig.run(700);
    }
    rig.network.is_faulty = false;
    rig.seconds(300);
    rig.clear();
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert!(rig.cluster.objects.is_empty(), "{:?}", rig.kinds());
}
