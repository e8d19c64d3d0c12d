//! HPAs that ask for metrics by annotations: their metrics are read, and nothing of them is written but the replicas of
//! those that ask for that.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::scaling::attribution::Actor;
use crate::scaling::event::{Event, Record, RestoredState, WatchEvent, WriteKind};
use crate::scaling::model::Pause;
use crate::scaling::reason::Reason;
use crate::scaling::view::{ObjectView, Reading};
use crate::wire::{self, Servers};

const QUERY: &str = "metric-config.external.rps.prometheus/query";

/// An HPA that scales a Deployment of its own name from 1 to 9, and asks for `rps` by a query.
fn hpa(name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut all = json!({ QUERY: "load" });
    for (key, value) in annotations {
        all[*key] = json!(value);
    }
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-hpa-{name}"), "annotations": all,
            "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"minReplicas": 1, "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "rps", "selector": {"matchLabels": {"type": "prometheus"}}},
                "target": {"type": "AverageValue", "averageValue": "10"}}}]},
        "status": {"currentReplicas": 1, "desiredReplicas": 3},
    })
}

fn key_of(name: &str) -> ObjectKey {
    ObjectKey::new(ApiGroup::Autoscaling, "default", name)
}

/// Shows the HPA and what it asks for, as its watch would.
fn put(cluster: &mut Cluster, hpa: &Value) {
    let observed = wire::hpa::from_slice(hpa.to_string().as_bytes()).unwrap();
    let servers = Servers::parse("http://prometheus:9090", &[]).unwrap();
    let object = wire::hpa::annotated::read(&observed, &servers).expect("is annotated").object;
    cluster.hpas.insert((observed.namespace.clone(), observed.name.clone()), observed);
    cluster.put_object(object);
}

/// A cluster with this HPA, beside a ScaledObject.
fn rig(hpa: &Value, load: f64) -> Rig {
    let mut rig = shop_among(
        1,
        5.0,
        |_| {},
        |cluster| {
            cluster.put_workload(&deployment(), workload("api", 1));
            put(cluster, hpa);
        },
    );
    rig.set_answer("load", Answer::Value(load));
    rig.seconds(5);
    rig
}

fn view(rig: &Rig, name: &str) -> Arc<ObjectView> {
    Arc::clone(&rig.views[&key_of(name)])
}

fn of_hpas(rig: &Rig) -> Vec<&WriteKind> {
    rig.writes.iter().filter(|(_, write)| write.object.group == ApiGroup::Autoscaling).map(|(_, w)| &w.kind).collect()
}

#[test]
fn an_annotated_hpa_is_asked_for_recorded_and_left_alone() {
    let mut rig = rig(&hpa("api", &[]), 500.0);
    let seen = view(&rig, "api");
    assert_eq!(seen.asked[0].to_string(), "rps{type=prometheus}");
    assert!(matches!(seen.metrics[0].reading, Reading::Value { value: 500.0, .. }), "{seen:?}");
    let of = |record: &&Record| format!("{record:?}").contains("hpa/default/api");
    let recorded: Vec<String> = rig.records.iter().filter(of).map(|one| format!("{one:?}")).collect();
    for kind in ["Definition", "Sample", "Decision", "Replicas", "Hpa"] {
        assert!(recorded.iter().any(|record| record.starts_with(kind)), "{kind}: {recorded:#?}");
    }
    // Neither a target at zero nor a pause of the Namespace makes hpalite act on what is another's.
    rig.set_replicas("api", 0);
    rig.cluster.put_namespace("default", Pause { replicas: Some(Ok(4)), ..Pause::default() });
    rig.seconds(600);
    rig.set_answer("load", Answer::Value(0.0));
    rig.seconds(600);
    assert!(of_hpas(&rig).is_empty(), "{:?}", of_hpas(&rig));
    assert!(rig.events.iter().all(|event| event.regarding.kind == "ScaledObject"), "{:?}", rig.events);
    assert!(rig.has_hpa("api") && view(&rig, "api").error.is_none());
    assert_eq!(rig.replicas("api"), 0);
    // The ScaledObject of the same Namespace is paused meanwhile.
    assert_eq!(rig.replicas("web"), 4);
}

/// The same HPA with an Object metric of a Service, whose value may be shared out among the replicas.
fn of_service(name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut object = hpa(name, annotations);
    object["metadata"]["annotations"] = json!({ "metric-config.object.rps.prometheus/query": "load" });
    for (key, value) in annotations {
        object["metadata"]["annotations"][*key] = json!(value);
    }
    object["spec"]["metrics"] = json!([{"type": "Object", "object": {
        "metric": {"name": "rps"}, "target": {"type": "Value", "value": "10"},
        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"}}}]);
    object
}

#[test]
fn a_metric_per_replica_is_shared_out_among_the_replicas_there_are() {
    let per_replica = ("metric-config.object.rps.prometheus/per-replica", "true");
    let mut rig = rig(&of_service("api", &[per_replica]), 60.0);
    let value = |rig: &Rig| match view(rig, "api").metrics[0].reading {
        Reading::Value { value, .. } => value,
        ref other => panic!("{other:?}"),
    };
    for (replicas, share) in [(4, 15.0), (6, 10.0), (0, 60.0)] {
        rig.set_replicas("api", replicas);
        rig.seconds(5);
        assert_eq!(value(&rig), share, "{replicas}");
    }
    let whole = |record: &&Record| format!("{record:?}").contains("Value(60.0)");
    assert!(rig.records.iter().any(|record| whole(&record)), "the history has what was answered");
    // Another HPA that reads the whole of the same is in conflict with it, and the same metric of an other object is not.
    rig.cluster.put_workload(&deployment(), workload("late", 1));
    let mut late = of_service("late", &[]);
    late["metadata"]["creationTimestamp"] = json!("1970-01-01T00:01:00Z");
    put(&mut rig.cluster, &late);
    rig.seconds(5);
    let error = view(&rig, "late").error.clone().unwrap_or_default();
    assert!(error.contains("the HPA api asks for another query by rps{} of Service front"), "{error}");
    late["spec"]["metrics"][0]["object"]["describedObject"]["name"] = json!("back");
    put(&mut rig.cluster, &late);
    rig.seconds(5);
    assert_eq!(view(&rig, "late").error, None);
}

#[test]
fn it_is_asked_at_its_own_interval_and_a_new_status_changes_nothing() {
    let interval = ("metric-config.external.rps.prometheus/interval", "20s");
    let mut rig = rig(&hpa("api", &[interval]), 5.0);
    rig.clear();
    for desired in 0..20 {
        let mut again = hpa("api", &[interval]);
        again["status"]["desiredReplicas"] = json!(desired);
        put(&mut rig.cluster, &again);
        rig.seconds(5);
    }
    let asked = rig.polls.iter().filter(|(_, job)| format!("{:?}", job.query).contains("load")).count();
    assert!((4..=6).contains(&asked), "every 20 s, however often the HPA is seen: {asked}");
    assert!(!rig.records.iter().any(|record| matches!(record, Record::Definition { .. })));
    put(&mut rig.cluster, &hpa("api", &[("metric-config.external.rps.prometheus/query", "other")]));
    rig.set_answer("other", Answer::Value(7.0));
    rig.seconds(5);
    assert!(matches!(view(&rig, "api").metrics[0].reading, Reading::Value { value: 7.0, .. }));
    assert!(rig.records.iter().any(|record| matches!(record, Record::Definition { .. })));
}

#[test]
fn annotations_that_cannot_be_used_are_an_event_and_an_error_until_they_are_mended() {
    let bad = ("metric-config.external.rps.prometheus/interval", "soon");
    let mut rig = rig(&hpa("api", &[bad]), 5.0);
    put(&mut rig.cluster, &hpa("api", &[bad]));
    rig.seconds(60);
    let events: Vec<_> = rig.events.iter().filter(|event| event.regarding.kind == "HorizontalPodAutoscaler").collect();
    assert_eq!(events.len(), 1, "{events:?}");
    let event = events[0];
    assert!(event.warning && event.reason == "CreateNewMetricsCollector" && event.regarding.uid == "uid-hpa-api");
    assert_eq!(event.regarding.api_version, "autoscaling/v2");
    assert!(event.note.starts_with("Failed to create new metrics collector: metadata.annotations["), "{}", event.note);
    let seen = view(&rig, "api");
    assert!(seen.error.as_ref().is_some_and(|error| error.contains("\"soon\"")) && seen.asked.len() == 1, "{seen:?}");
    put(&mut rig.cluster, &hpa("api", &[]));
    rig.seconds(5);
    assert!(view(&rig, "api").error.is_none());
}

#[test]
fn of_two_that_ask_for_different_things_by_one_name_the_older_is_served() {
    let mut rig = rig(&hpa("api", &[]), 5.0);
    let mut younger = hpa("aaa", &[(QUERY, "other")]);
    younger["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    put(&mut rig.cluster, &younger);
    rig.set_answer("other", Answer::Value(1.0));
    rig.seconds(5);
    assert!(view(&rig, "api").error.is_none());
    let error = view(&rig, "aaa").error.clone().unwrap_or_default();
    assert!(error.contains("the HPA api asks for another query by rps{type=prometheus}"), "{error}");
    // What asks for the same does no harm.
    put(&mut rig.cluster, &hpa("same", &[]));
    rig.seconds(5);
    assert!(view(&rig, "same").error.is_none());
    for name in ["api", "same"] {
        rig.cluster.objects.remove(&key_of(name));
        let (namespace, name) = ("default".to_owned(), name.to_owned());
        rig.step(Event::ScaledObject(
            ApiGroup::Autoscaling,
            WatchEvent::Deleted { namespace, name, uid: String::new() },
        ));
    }
    rig.seconds(5);
    assert!(view(&rig, "aaa").error.is_none(), "nobody contradicts it any more");
}

/// Regression: the one was answered with the other's value, and its history showed its own.
#[test]
fn what_a_read_cannot_tell_apart_contradicts() {
    let asking = |name: &str, query: &str, kind: &str, metric: &str, spec: Value| {
        let mut hpa = hpa(name, &[]);
        hpa["metadata"]["annotations"] = json!({ format!("metric-config.{kind}.{metric}.prometheus/query"): query });
        hpa["spec"]["metrics"] = json!([spec]);
        hpa
    };
    let external = |metric: &str| {
        json!({"type": "External", "external": {
            "metric": {"name": metric, "selector": {"matchLabels": {"type": "prometheus"}}},
            "target": {"type": "AverageValue", "averageValue": "10"}}})
    };
    let object = |kind: &str| {
        json!({"type": "Object", "object": {
            "metric": {"name": "rps"}, "describedObject": {"apiVersion": "apps/v1", "kind": kind, "name": "web"},
            "target": {"type": "Value", "value": "10"}}})
    };
    for (kind, metrics, specs, is_fault) in [
        ("external", ["orders", "Orders"], [external("orders"), external("Orders")], true),
        ("external", ["orders", "ordered"], [external("orders"), external("ordered")], false),
        ("object", ["rps", "rps"], [object("Deployment"), object("StatefulSet")], true),
    ] {
        let [first, second] = specs;
        let mut rig = rig(&asking("api", "load", kind, metrics[0], first), 5.0);
        let mut younger = asking("aaa", "other", kind, metrics[1], second);
        younger["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        put(&mut rig.cluster, &younger);
        rig.seconds(5);
        assert!(view(&rig, "api").error.is_none(), "{kind} {metrics:?}: {:?}", view(&rig, "api").error);
        let error = view(&rig, "aaa").error.clone().unwrap_or_default();
        assert_eq!(error.contains("the HPA api asks for another query by"), is_fault, "{kind} {metrics:?}: {error}");
    }
}

#[test]
fn it_is_scaled_to_zero_and_back_if_it_asks_for_that() {
    let annotations = [("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "100s")];
    let mut api = hpa("api", &annotations);
    api["spec"]["minReplicas"] = json!(2);
    let mut rig = rig(&api, 0.0);
    rig.set_replicas("api", 2);
    rig.seconds(80);
    assert_eq!(rig.replicas("api"), 2, "the cooldown begins when it is first seen");
    rig.seconds(100);
    assert_eq!(rig.replicas("api"), 0);
    assert_eq!(of_hpas(&rig).len(), 1, "{:?}", of_hpas(&rig));
    // A broken server moves nothing.
    rig.set_answer("load", failed("refused"));
    rig.seconds(300);
    assert_eq!(rig.replicas("api"), 0);
    rig.set_answer("load", Answer::Value(1.0));
    rig.seconds(65);
    assert_eq!(rig.replicas("api"), 2, "the HPA's own minimum");
    let kinds = of_hpas(&rig);
    assert!(kinds.len() == 2 && kinds.iter().all(|kind| matches!(kind, WriteKind::Scale { .. })), "{kinds:?}");
    rig.set_answer("load", failed("refused"));
    rig.seconds(900);
    assert_eq!(rig.replicas("api"), 2, "an error holds");
}

/// Regression: nothing of an HPA's activity is in its status, so the next instance took it for as old as its own start, or
/// as its own file of the history.
#[test]
fn a_load_that_ends_with_the_instance_that_saw_it_still_cools_down() {
    let annotations = [("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "100s")];
    for is_standby in [true, false] {
        let mut rig = rig(&hpa("api", &annotations), 50.0);
        let started = rig.now;
        rig.set_replicas("api", 3);
        rig.seconds(60);
        rig.is_standby = is_standby;
        rig.now = rig.now.plus(Duration::from_hours(1));
        let (key, uid) = (key_of("api"), "uid-hpa-api".to_owned());
        rig.set_answer("load", Answer::Value(0.0));
        rig.clear();
        rig.restart(vec![RestoredState {
            key,
            uid,
            last_active_at: Some(started),
            replicas: None,
            held: Vec::new(),
            put_to_zero: None,
        }]);
        if is_standby {
            rig.seconds(600);
            rig.step(Event::Leading { was_alone: false });
        }
        rig.seconds(90);
        assert_eq!(rig.replicas("api"), 3, "standby: {is_standby}");
        rig.seconds(60);
        assert_eq!(rig.replicas("api"), 0, "standby: {is_standby}");
    }
}

#[test]
fn what_it_asks_for_and_does_not_get_is_reported_once() {
    let mut api = hpa("api", &[("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "0s")]);
    let queue = json!({"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    api["spec"]["metrics"].as_array_mut().unwrap().push(queue);
    let mut rig = rig(&api, 0.0);
    rig.seconds(600);
    let notes: Vec<&str> = rig.events.iter().map(|event| event.note.as_str()).collect();
    assert_eq!(notes.iter().filter(|note| note.contains("does not read \"queue\"")).count(), 1, "{notes:?}");
    assert_eq!(rig.replicas("api"), 1, "the queue may need it");
}

/// Regression: it slept for ever, since none of those that name the target scaled it.
#[test]
fn one_that_sleeps_is_woken_though_others_name_its_target() {
    let annotations = [("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "0s")];
    let mut rig = rig(&hpa("api", &annotations), 0.0);
    rig.seconds(300);
    assert_eq!(rig.replicas("api"), 0);
    let mut shadow = fresh("shadow", "api", testing::definition());
    shadow.is_shadow = true;
    rig.cluster.put_object(shadow);
    rig.cluster.put_object(fresh("refused", "api", testing::definition()));
    rig.seconds(60);
    assert!(rig.ready_message("refused").ends_with("is already managed by the hpa 'api'"));
    rig.set_answer("load", Answer::Value(5.0));
    rig.seconds(65);
    assert_eq!(rig.replicas("api"), 1);
}

/// Regression: a ScaledObject that had owned the target before the HPA came was taken for one that wakes it.
#[test]
fn one_that_sleeps_is_woken_though_its_target_had_another_owner() {
    let annotations = [("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "0s")];
    let mut cluster = Cluster::default();
    cluster.put_workload(&deployment(), workload("api", 1));
    cluster.put_object(fresh("before", "api", testing::definition()));
    let mut rig = Rig::new(cluster);
    rig.set_answer("up", Answer::Value(0.0));
    rig.set_answer("load", Answer::Value(0.0));
    rig.seconds(900);
    assert_eq!(rig.replicas("api"), 0);
    put(&mut rig.cluster, &hpa("api", &annotations));
    let seen = rig.cluster.hpas[&("default".to_owned(), "api".to_owned())].clone();
    rig.cluster.put_hpa(seen);
    rig.seconds(60);
    assert!(rig.ready_message("before").ends_with("is already managed by the hpa 'api'"));
    rig.set_answer("load", Answer::Value(5.0));
    rig.seconds(65);
    assert_eq!(rig.replicas("api"), 1);
}

/// Regression: it stayed at 0 replicas, where an HPA does nothing, whatever the load.
#[test]
fn one_that_is_not_scaled_to_zero_any_more_begins_at_its_minimum() {
    let annotations = [("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "0s")];
    let minimum = |annotations: &[(&str, &str)], min: u32| {
        let mut api = hpa("api", annotations);
        api["spec"]["minReplicas"] = json!(min);
        api
    };
    let asleep = || {
        let mut rig = rig(&minimum(&annotations, 2), 0.0);
        rig.seconds(300);
        assert_eq!(rig.replicas("api"), 0);
        rig
    };
    let scales = |rig: &Rig| of_hpas(rig).into_iter().filter(|kind| matches!(kind, WriteKind::Scale { .. })).count();
    let mut unread = minimum(&annotations, 2);
    let queue = json!({"type": "External", "external": {"metric": {"name": "queue"},
        "target": {"type": "AverageValue", "averageValue": "10"}}});
    unread["spec"]["metrics"].as_array_mut().unwrap().push(queue);
    for change in [minimum(&[], 2), unread] {
        let mut rig = asleep();
        rig.clear();
        put(&mut rig.cluster, &change);
        rig.seconds(70);
        assert_eq!((rig.replicas("api"), scales(&rig)), (2, 1));
        let given = rig.records.iter().find_map(|record| match record {
            Record::Decision { decision, .. } if decision.reason == Reason::GivenBack => Some(decision),
            _ => None,
        });
        assert_eq!(given.map(|decision| (decision.from, decision.to)), Some((0, 2)));
        // Once: what comes afterwards is another's.
        rig.set_replicas("api", 0);
        rig.seconds(600);
        assert_eq!((rig.replicas("api"), scales(&rig)), (0, 1));
    }

    // The next process knows it from the history.
    let mut rig = asleep();
    let (_folder, path) = rig.store_records();
    put(&mut rig.cluster, &minimum(&[], 2));
    rig.clear();
    rig.restart(crate::store::Reader::open(&path).unwrap().restore().unwrap());
    rig.seconds(70);
    assert_eq!((rig.replicas("api"), scales(&rig)), (2, 1));
    let by = rig.records.iter().find_map(|record| match record {
        Record::Replicas { object, to: 0, by, .. } if *object == key_of("api") => by.clone(),
        _ => None,
    });
    assert!(by.is_some_and(|by| by.actor == Actor::Hpalite));

    // Regression: what it knows of one target says nothing of another, which somebody else has stopped.
    let mut rig = asleep();
    let (_folder, path) = rig.store_records();
    let mut moved = minimum(&[], 2);
    moved["spec"]["scaleTargetRef"]["name"] = json!("other");
    rig.kill();
    rig.cluster.put_workload(&deployment(), workload("other", 0));
    put(&mut rig.cluster, &moved);
    rig.clear();
    rig.start(crate::store::Reader::open(&path).unwrap().restore().unwrap());
    rig.seconds(600);
    assert_eq!((rig.replicas("other"), scales(&rig)), (0, 0));

    // An HPA whose own minimum is 0 wakes by itself.
    let mut rig = asleep();
    put(&mut rig.cluster, &minimum(&[], 0));
    rig.seconds(600);
    assert_eq!(rig.replicas("api"), 0);
}

/// Who stops a workload by hand wants it to stay so, also where another instance has watched it.
#[test]
fn what_somebody_else_put_to_zero_stays_there() {
    for is_standby in [false, true] {
        let mut rig = rig(&hpa("api", &[]), 5.0);
        rig.is_standby = is_standby;
        rig.restart(Vec::new());
        rig.seconds(60);
        rig.set_replicas("api", 0);
        rig.seconds(60);
        rig.step(Event::Leading { was_alone: false });
        rig.seconds(600);
        let (_folder, path) = rig.store_records();
        rig.is_standby = false;
        rig.restart(crate::store::Reader::open(&path).unwrap().restore().unwrap());
        rig.seconds(600);
        assert_eq!((rig.replicas("api"), of_hpas(&rig).len()), (0, 0), "standby: {is_standby}");
    }
}

#[test]
fn a_shadow_and_a_rival_scale_nothing_to_zero() {
    let annotations = [("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "0s")];
    let mut rig = rig(&hpa("web", &annotations), 0.0);
    rig.clear();
    rig.seconds(300);
    assert!(of_hpas(&rig).is_empty(), "a ScaledObject has the same target: {:?}", of_hpas(&rig));
    let is_its = |record: &&Record| matches!(record, Record::Decision { object, .. } if *object == key_of("web"));
    assert!(rig.records.iter().filter(is_its).count() <= 1, "what is not carried out is not decided at each poll");
    let settings = crate::scaling::world::Settings { is_shadow: true, ..rig::settings() };
    let mut shadow = Rig::with(rig.cluster.clone(), settings);
    shadow.set_answer("load", Answer::Value(0.0));
    shadow.seconds(300);
    assert!(shadow.writes.is_empty() && shadow.events.is_empty());
}
