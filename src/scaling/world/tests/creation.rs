//! From a fresh object to one that scales, and what prevents that.

use std::sync::Arc;

use super::*;
use crate::scaling::event::WriteKind;
use crate::scaling::model::{ConditionStatus, Invalid, Problem, Step};

#[test]
fn a_fresh_object_is_claimed_applied_and_its_status_written_once() {
    let mut rig = shop(2, 500.0, |d| d.min_replicas = Some(2));
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["Claim", "CreateHpa", "Status"]);
    assert_eq!(rig.reasons(), ["KEDAScalersStarted", "KEDAScalersStarted", "ScaledObjectReady"]);
    let object = rig.object("shop");
    assert_eq!(object.finalizers, ["finalizer.keda.sh"]);
    assert_eq!(object.labels.get("scaledobject.keda.sh/name"), Some(&"shop".to_owned()));
    let status = &object.status;
    assert_eq!(status.scale_target_kind.as_deref(), Some("apps/v1.Deployment"));
    assert_eq!(status.scale_target_gvkr.as_deref(), Some(&deployment()));
    assert_eq!(status.original_replica_count, Some(2));
    assert_eq!(status.external_metric_names, ["s0-prometheus"]);
    assert_eq!(status.hpa_name.as_deref(), Some("keda-hpa-shop"));
    assert_eq!(status.triggers_types.as_deref(), Some("prometheus"));
    assert_eq!(status.authentications_types.as_deref(), Some(""));
    assert_eq!(status.triggers_activity.get("s0-prometheus"), Some(&true));
    assert!(status.last_active_at.is_some());
    assert_eq!(
        conditions(&rig, "shop"),
        ["Ready=True ScaledObjectReady", "Active=True ScalerActive", "Fallback=False NoFallbackFound", "Paused=False",]
    );
}

#[test]
fn the_hpas_word_becomes_a_fifth_condition() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    let id = ("default".to_owned(), "keda-hpa-shop".to_owned());
    let mut hpa = rig.cluster.hpas[&id].clone();
    let row = |status: &str, reason: &str| {
        vec![("ScalingActive".to_owned(), status.to_owned(), reason.to_owned(), "why".to_owned())]
    };
    for (status, reason, expected) in [
        ("True", "ValidMetricFound", "HPAActive=True HPAActive"),
        ("False", "ScalingDisabled", "HPAActive=True ScalingDisabled"),
        ("False", "FailedGetExternalMetric", "HPAActive=False FailedGetExternalMetric"),
        ("False", "", "HPAActive=False HPAMetricsUnavailable"),
    ] {
        hpa.conditions = row(status, reason);
        rig.cluster.put_hpa(hpa.clone());
        rig.seconds(2);
        assert_eq!(conditions(&rig, "shop")[4], expected);
    }
}

#[test]
fn paused_from_the_start_has_keda_s_status() {
    let mut cluster = Cluster::default();
    let mut object = fresh("shop", "web", testing::definition());
    object.pause.replicas = Some(Ok(3));
    cluster.put_object(object);
    cluster.put_workload(&deployment(), workload("web", 1));
    let mut rig = Rig::new(cluster);
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["Claim", "Scale", "Status"]);
    assert_eq!(rig.reasons(), ["ScaledObjectPaused", "ScaledObjectReady"]);
    assert_eq!(rig.replicas("web"), 3);
    let object = rig.object("shop");
    assert!(object.labels.is_empty());
    assert_eq!(
        conditions(&rig, "shop"),
        [
            "Ready=True ScaledObjectReady",
            "Active=Unknown",
            "Fallback=False NoFallbackFound",
            "Paused=True ScaledObjectPaused",
        ]
    );
    let status = crate::scaling::model::Status { conditions: Vec::new(), ..object.status.clone() };
    let expected = crate::scaling::model::Status { paused_replica_count: Some(3), ..Default::default() };
    assert_eq!(status, expected);
}

#[test]
fn a_failing_query_holds_and_says_so_once() {
    let mut rig = shop(1, 0.0, |_| {});
    rig.set_answer("up", failed("prometheus query api returned error. status: 400"));
    rig.seconds(200);
    assert_eq!(rig.kinds(), ["Claim", "CreateHpa", "Status"]);
    let failures = rig.events.iter().filter(|e| e.reason == "KEDAScalerFailed");
    assert_eq!(failures.count(), 1);
    assert_eq!(conditions(&rig, "shop")[..2], ["Ready=False TriggerError", "Active=False ScalerNotActive"]);
    assert_eq!(rig.replicas("web"), 1);
    rig.set_answer("up", Answer::Value(1.0));
    rig.seconds(40);
    assert_eq!(conditions(&rig, "shop")[0], "Ready=True ScaledObjectReady");
}

fn bad() -> Invalid {
    Invalid {
        problems: vec![Problem {
            step: Step::BuildScalers,
            field: "spec.triggers[0].metadata.threshold".to_owned(),
            message: "\"abc\" is not a number".to_owned(),
            fix: String::new(),
        }],
    }
}

#[test]
fn a_bad_definition_is_reported_and_heals_when_fixed() {
    let mut rig = shop_among(
        1,
        500.0,
        |_| {},
        |cluster| {
            let mut object = fresh("shop", "web", testing::definition());
            object.definition = Err(bad());
            cluster.put_object(object);
        },
    );
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["Claim", "Status"]);
    assert_eq!(conditions(&rig, "shop")[..2], ["Ready=False ScaledObjectCheckFailed", "Active=Unknown UnknownState"]);
    assert_eq!(rig.reasons(), ["KEDAScalerFailed", "ScaledObjectCheckFailed"]);
    assert_eq!(
        rig.ready_message("shop"),
        "failed to ensure HPA is correctly created for ScaledObject: \
         spec.triggers[0].metadata.threshold: \"abc\" is not a number"
    );
    assert_eq!(rig.object("shop").status.triggers_types.as_deref(), Some("prometheus"));
    assert!(rig.polls.is_empty());
    rig.clear();
    rig.edit(&key("shop"), |object| {
        object.definition = Ok(Arc::new(testing::definition()));
    });
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["CreateHpa", "Status"]);
    assert!(rig.reasons().contains(&"ScaledObjectReady"));
    assert_eq!(conditions(&rig, "shop")[0], "Ready=True ScaledObjectReady");
}

#[test]
fn an_edit_into_a_bad_definition_stops_the_loop_and_keeps_the_hpa() {
    let mut rig = shop(3, 0.0, |d| d.cooldown_period = std::time::Duration::from_secs(5));
    rig.set_answer("up", Answer::Value(100.0));
    rig.seconds(20);
    rig.edit(&key("shop"), |object| object.definition = Err(bad()));
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(1);
    rig.clear();
    rig.seconds(600);
    assert!(rig.polls.is_empty() && rig.writes.is_empty());
    assert!(rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.replicas("web"), 3);
    assert!(rig.views[&key("shop")].error.is_some());
}

#[test]
fn a_missing_target_heals_when_it_appears() {
    let mut cluster = Cluster::default();
    cluster.put_object(fresh("shop", "web", testing::definition()));
    let mut rig = Rig::new(cluster);
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["Claim", "Status"]);
    assert_eq!(
        rig.ready_message("shop"),
        "ScaledObject doesn't have correct scaleTargetRef specification: deployments.apps \"web\" not found"
    );
    let notes: Vec<&str> = rig.events.iter().map(|e| e.note.as_str()).collect();
    assert_eq!(notes[0], "Target resource doesn't exist");
    rig.clear();
    rig.cluster.put_workload(&deployment(), workload("web", 0));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 1);
    assert_eq!(conditions(&rig, "shop")[0], "Ready=True ScaledObjectReady");
}

pub(super) fn rollout() -> Gvkr {
    Gvkr {
        group: "argoproj.io".to_owned(),
        version: "v1alpha1".to_owned(),
        kind: "Rollout".to_owned(),
        resource: "rollouts".to_owned(),
    }
}

fn on_rollout(rig_replicas: Option<u32>) -> Rig {
    let mut cluster = Cluster::default();
    let mut object = fresh("shop", "web", testing::definition());
    object.target.api_version = rollout().api_version();
    object.target.kind = "Rollout".to_owned();
    cluster.put_object(object);
    if let Some(replicas) = rig_replicas {
        cluster.put_workload(&rollout(), workload("web", replicas));
    }
    let mut rig = Rig::new(cluster);
    rig.set_answer("up", Answer::Value(500.0));
    rig
}

#[test]
fn a_custom_kind_is_read_and_scaled() {
    let mut rig = on_rollout(Some(0));
    rig.seconds(5);
    let id = (rollout(), "default".to_owned(), "web".to_owned());
    assert_eq!(rig.cluster.workloads[&id].replicas, 1);
    assert_eq!(rig.object("shop").status.scale_target_kind.as_deref(), Some("argoproj.io/v1alpha1.Rollout"));
    assert_eq!(rig.object("shop").status.original_replica_count, Some(0));
}

#[test]
fn a_missing_custom_target_is_looked_for_again() {
    let mut rig = on_rollout(None);
    rig.seconds(60);
    assert_eq!(conditions(&rig, "shop")[0], "Ready=False ScaledObjectCheckFailed");
    assert_eq!(rig.reasons(), ["ScaledObjectCheckFailed", "ScaledObjectCheckFailed"]);
    rig.cluster.put_workload(&rollout(), workload("web", 0));
    rig.seconds(15);
    assert_eq!(conditions(&rig, "shop")[0], "Ready=True ScaledObjectReady");
}

#[test]
fn a_fault_on_the_way_to_a_custom_target_neither_stops_nor_moves_anything() {
    let mut rig = on_rollout(Some(3));
    rig.seconds(5);
    rig.target_fault = Some("i/o timeout".to_owned());
    rig.seconds(61);
    assert_eq!(conditions(&rig, "shop")[0], "Ready=False ErrorGettingCurrentReplicas");
    assert_eq!(rig.views[&key("shop")].error, None);
    rig.target_fault = None;
    rig.clear();
    rig.seconds(61);
    assert!(!rig.polls.is_empty());
    assert_eq!(conditions(&rig, "shop")[0], "Ready=True ScaledObjectReady");
}

#[test]
fn a_bound_on_writes_holds_nobody_up() {
    let mut cluster = Cluster::default();
    for n in 0..200 {
        let name = format!("o{n:03}");
        cluster.put_object(fresh(&name, &name, testing::definition()));
        cluster.put_workload(&deployment(), workload(&name, 1));
    }
    let mut settings = rig::settings();
    settings.writes_max = 3;
    let mut rig = Rig::with(cluster, settings);
    rig.set_answer("up", Answer::Value(500.0));
    rig.check = Some(|rig, _| assert!(rig.world.counts().writes_in_flight <= 3));
    rig.seconds(30);
    for object in rig.cluster.objects.values() {
        let ready = &object.status.conditions[0];
        assert_eq!(ready.status, ConditionStatus::True, "{}", object.key);
    }
    assert_eq!(rig.cluster.hpas.len(), 200);
    let statuses = rig.writes.iter().filter(|(_, write)| matches!(write.kind, WriteKind::Status(_)));
    assert!(statuses.count() <= 400);
    assert_eq!(rig.world.counts().writes_starved, 0);
}
