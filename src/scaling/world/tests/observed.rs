//! HPAs that ask nothing of hpalite: what their status shows is remembered, and nothing is asked, answered or written.

use serde_json::{Value, json};

use super::*;
use crate::scaling::event::{Event, Record, RestoredState, WatchEvent};
use crate::scaling::model::Remember;
use crate::wire::{self, Servers};

/// An HPA that scales a target of its own name from 1 to 9 by its cpu, and shows this use of it.
fn hpa(name: &str, cpu: i64) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-hpa-{name}")},
        "spec": {"minReplicas": 1, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 60}}}]},
        "status": {"currentReplicas": 2, "desiredReplicas": 2,
            "conditions": [{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "cpu"}],
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                "current": {"averageUtilization": cpu, "averageValue": "1"}}}]},
    })
}

fn key_of(name: &str) -> ObjectKey {
    ObjectKey::new(ApiGroup::Autoscaling, "default", name)
}

/// Shows the HPA as its watch would, with what is remembered of it.
fn put(cluster: &mut Cluster, hpa: &Value, remember: Remember) {
    let observed = wire::hpa::from_slice(hpa.to_string().as_bytes()).unwrap();
    cluster.put_object(wire::hpa::observed::read(&observed, remember).expect("has a metric"));
    cluster.put_hpa(observed);
}

fn rig(hpa: &Value, remember: Remember) -> Rig {
    let mut rig = shop_among(
        1,
        5.0,
        |_| {},
        |cluster| {
            cluster.put_workload(&deployment(), workload("api", 2));
            put(cluster, hpa, remember);
        },
    );
    rig.seconds(5);
    rig
}

/// The records of an object, as text.
fn records(rig: &Rig, name: &str) -> Vec<String> {
    let all = rig.records.iter().map(|record| format!("{record:?}"));
    all.filter(|text| text.contains(&format!("hpa/default/{name}"))).collect()
}

fn count(rig: &Rig, name: &str, kind: &str) -> usize {
    records(rig, name).iter().filter(|record| record.starts_with(kind)).count()
}

fn samples(rig: &Rig) -> Vec<Answer> {
    let of = |record: &Record| match record {
        Record::Sample { object, answer, trigger: 0, .. } if *object == key_of("api") => Some(answer.clone()),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

#[test]
fn an_hpa_of_others_is_remembered_and_left_alone() {
    let mut rig = rig(&hpa("api", 85), Remember::Yes);
    for kind in ["Definition", "Sample", "Replicas", "Hpa", "Condition"] {
        assert!(count(&rig, "api", kind) > 0, "{kind}: {:#?}", records(&rig, "api"));
    }
    assert_eq!(samples(&rig), [Answer::Value(85.0)]);
    let counts = rig.world.counts();
    assert_eq!((counts.objects, counts.annotated_hpas, counts.annotated_hpas_ready), (1, 0, 0));
    assert_eq!(counts.observed_hpas, 1);
    rig.clear();
    // It scales, and shows then why.
    rig.cluster.put_workload(
        &deployment(),
        Workload { replicas_manager: Some("kube-controller-manager (scale)".to_owned()), ..workload("api", 3) },
    );
    let mut scaled = hpa("api", 90);
    scaled["status"]["desiredReplicas"] = json!(3);
    put(&mut rig.cluster, &scaled, Remember::Yes);
    rig.seconds(1_200);
    let found = records(&rig, "api");
    let is_by_hpa = |record: &String| record.starts_with("Replicas") && record.contains("actor: Hpa,");
    assert!(found.iter().any(is_by_hpa), "{found:#?}");
    assert_eq!((count(&rig, "api", "Definition"), count(&rig, "api", "Hpa")), (0, 1), "{found:#?}");
    assert_eq!((count(&rig, "api", "Decision"), count(&rig, "api", "Condition")), (0, 0), "{found:#?}");
    // What stays is recorded now and then, and nothing else follows from it.
    assert!((2..=4).contains(&samples(&rig).len()), "{:?}", samples(&rig));
    assert!(!rig.views.contains_key(&key_of("api")));
    let is_its_own = |object: &ObjectKey| object.group == ApiGroup::Autoscaling;
    assert!(rig.writes.iter().all(|(_, write)| !is_its_own(&write.object)));
    assert!(rig.events.iter().all(|event| event.regarding.kind == "ScaledObject"), "{:?}", rig.events);
    assert!(rig.polls.iter().all(|(_, job)| format!("{:?}", job.query).contains("\"up\"")));
}

#[test]
fn a_status_that_never_rests_is_sampled_once_a_second() {
    let mut rig = rig(&hpa("api", 85), Remember::Yes);
    rig.clear();
    for cpu in 0..100 {
        put(&mut rig.cluster, &hpa("api", cpu), Remember::Yes);
        rig.run(100);
    }
    rig.seconds(2);
    let found = samples(&rig);
    assert!((9..=12).contains(&found.len()), "{found:?}");
    assert_eq!(found.last(), Some(&Answer::Value(99.0)), "the last one is not lost");
    assert_eq!(count(&rig, "api", "Hpa"), 0, "a value alone is no observation: {:#?}", records(&rig, "api"));
}

#[test]
fn a_metric_that_cannot_be_read_is_said_in_the_hpas_words() {
    let mut rig = rig(&hpa("api", 85), Remember::Yes);
    rig.clear();
    let mut failing = hpa("api", 0);
    let says = "failed to get cpu utilization: no metrics returned";
    failing["status"]["currentMetrics"] = json!(null);
    failing["status"]["conditions"] = json!([{"type": "ScalingActive", "status": "False",
        "reason": "FailedGetResourceMetric", "message": says}]);
    put(&mut rig.cluster, &failing, Remember::Yes);
    rig.seconds(5);
    let found = records(&rig, "api");
    let has = |kind: &str, words: &str| found.iter().any(|one| one.starts_with(kind) && one.contains(words));
    assert!(has("Condition", "kind: Ready, status: False") && has("Condition", says), "{found:#?}");
    assert!(has("Sample", says) && has("Sample", "is_error: true"), "{found:#?}");
    rig.clear();
    put(&mut rig.cluster, &hpa("api", 85), Remember::Yes);
    rig.seconds(5);
    let found = records(&rig, "api");
    assert!(found.iter().any(|one| one.contains("kind: Ready, status: True")), "{found:#?}");
}

#[test]
fn one_that_asks_for_metrics_of_others_is_known_only_if_it_was_before() {
    let mut rig = rig(&hpa("api", 85), Remember::IfKnown);
    assert_eq!(records(&rig, "api"), [""; 0]);
    // Nobody knows yet, and then it is known to be another adapter's.
    put(&mut rig.cluster, &hpa("api", 85), Remember::Meanwhile);
    rig.seconds(5);
    assert_eq!((count(&rig, "api", "Definition"), rig.world.counts().observed_hpas), (1, 1));
    put(&mut rig.cluster, &hpa("api", 85), Remember::IfKnown);
    rig.seconds(5);
    assert_eq!((count(&rig, "api", "Removed"), rig.world.counts().observed_hpas), (1, 0));
    // What was ours stays known, also to the next process.
    put(&mut rig.cluster, &hpa("api", 85), Remember::Yes);
    rig.seconds(5);
    put(&mut rig.cluster, &hpa("api", 86), Remember::IfKnown);
    rig.seconds(5);
    assert_eq!((count(&rig, "api", "Removed"), rig.world.counts().observed_hpas), (1, 1));
    let (key, uid) = (key_of("api"), "uid-hpa-api".to_owned());
    rig.restart(vec![RestoredState {
        key,
        uid,
        last_active_at: None,
        replicas: None,
        held: Vec::new(),
        put_to_zero: None,
    }]);
    assert_eq!(rig.world.counts().observed_hpas, 1);
    rig.restart(Vec::new());
    assert_eq!(rig.world.counts().observed_hpas, 0);
}

#[test]
fn annotations_make_another_object_of_it_and_back() {
    let mut rig = rig(&hpa("api", 85), Remember::Yes);
    let mut annotated = hpa("api", 85);
    annotated["metadata"]["annotations"] = json!({"metric-config.external.rps.prometheus/query": "load"});
    annotated["spec"]["metrics"] = json!([{"type": "External", "external": {
        "metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]);
    let observed = wire::hpa::from_slice(annotated.to_string().as_bytes()).unwrap();
    let servers = Servers::parse("http://prometheus:9090", &[]).unwrap();
    let object = wire::hpa::annotated::read(&observed, &servers).expect("is annotated").object;
    rig.set_answer("load", Answer::Value(50.0));
    rig.cluster.put_object(object);
    rig.cluster.put_hpa(observed);
    rig.seconds(5);
    assert!(rig.views.contains_key(&key_of("api")), "it is served");
    assert_eq!((rig.world.counts().annotated_hpas_ready, rig.world.counts().observed_hpas), (1, 0));
    put(&mut rig.cluster, &hpa("api", 85), Remember::Yes);
    rig.seconds(5);
    rig.clear();
    assert!(!rig.views.contains_key(&key_of("api")), "and no longer");
    assert_eq!((rig.world.counts().annotated_hpas, rig.world.counts().observed_hpas), (0, 1));
    rig.seconds(120);
    assert!(rig.polls.iter().all(|(_, job)| !format!("{:?}", job.query).contains("load")), "nothing is asked any more");
}

#[test]
fn replicas_of_a_target_that_is_not_watched_are_those_that_the_hpa_shows() {
    let mut rollout = hpa("roll", 85);
    rollout["spec"]["scaleTargetRef"] = json!({"apiVersion": "argoproj.io/v1", "kind": "Rollout", "name": "roll"});
    let mut rig = rig(&rollout, Remember::Yes);
    rollout["status"]["currentReplicas"] = json!(5);
    rollout["status"]["desiredReplicas"] = json!(5);
    put(&mut rig.cluster, &rollout, Remember::Yes);
    rig.seconds(30);
    let found = records(&rig, "roll");
    let changes: Vec<&String> = found.iter().filter(|record| record.starts_with("Replicas")).collect();
    assert_eq!(changes.len(), 2, "{found:#?}");
    assert!(changes[1].contains("from: Some(2), to: 5") && changes[1].contains("actor: Hpa,"), "{changes:#?}");
    assert!(rig.writes.iter().all(|(_, write)| write.object.group != ApiGroup::Autoscaling));
}

#[test]
fn a_standby_records_no_samples_until_it_leads() {
    let mut rig = rig(&hpa("api", 85), Remember::Yes);
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.clear();
    put(&mut rig.cluster, &hpa("api", 70), Remember::Yes);
    rig.seconds(60);
    assert_eq!(samples(&rig), []);
    rig.step(Event::Leading { was_alone: false });
    assert_eq!(samples(&rig), [Answer::Value(70.0)]);
}

#[test]
fn it_ends_with_the_hpa_and_another_file_has_all_of_it() {
    let mut rig = rig(&hpa("api", 85), Remember::Yes);
    rig.clear();
    rig.renew_history();
    rig.seconds(5);
    for kind in ["Definition", "Sample", "Replicas", "Hpa", "Condition"] {
        assert!(count(&rig, "api", kind) > 0, "{kind}: {:#?}", records(&rig, "api"));
    }
    let (namespace, name) = ("default".to_owned(), "api".to_owned());
    rig.step(Event::ScaledObject(ApiGroup::Autoscaling, WatchEvent::Deleted { namespace, name, uid: String::new() }));
    assert_eq!((count(&rig, "api", "Removed"), rig.world.counts().observed_hpas), (1, 0));
}
