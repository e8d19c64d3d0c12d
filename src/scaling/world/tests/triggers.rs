//! Triggers that poll no server: cpu and memory, and windows of time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::scaling::event::{Event, Record};
use crate::scaling::hpa::HpaMetric;
use crate::scaling::model::{
    AggregationFunction, ApiKey, AuthenticationKind, AuthenticationRef, BodyFormat, MetricsApiSource, Query,
    ServiceAggregation, Source, Trigger, UnixMillis,
};
use crate::scaling::view::Reading;
use crate::scaling::world::Settings;

/// Between two times of day. The rig starts at 13:46:40.
fn daily(index: u16, start: (u64, u64), end: (u64, u64)) -> Trigger {
    let bits = |(hour, minute): (u64, u64)| (1 << hour, 1 << minute);
    testing::cron(index, bits(start), bits(end))
}

/// Open for the first and the last twenty minutes of each hour.
pub(super) fn every_other_twenty_minutes() -> Trigger {
    testing::cron(0, ((1 << 24) - 1, 1 << 40), ((1 << 24) - 1, 1 << 20))
}

fn run_until(rig: &mut Rig, time: &str) {
    let at: Timestamp = format!("1970-01-12T{time}Z").parse().unwrap();
    rig.run(at.as_millisecond() - rig.now.0);
}

fn reading(rig: &Rig) -> Reading {
    rig.views[&key("shop")].metrics[0].reading.clone()
}

fn hpa_metrics(rig: &Rig) -> Vec<HpaMetric> {
    rig.cluster.hpas[&("default".to_owned(), "keda-hpa-shop".to_owned())].metrics.clone()
}

/// Asks all endpoints of the Service `api` of a namespace.
fn of_service(namespace: &str) -> Trigger {
    let url = format!("http://api.{namespace}/stats");
    let source = MetricsApiSource {
        server: url.clone(),
        url,
        format: BodyFormat::Json,
        value_location: "size".to_owned(),
        unsafe_ssl: false,
        timeout: None,
        auth_modes: Vec::new(),
        api_key: ApiKey::default(),
        aggregation: Some(ServiceAggregation {
            namespace: namespace.to_owned(),
            service: "api".to_owned(),
            function: AggregationFunction::Sum,
        }),
    };
    Trigger { source: Source::Query(Query::MetricsApi(Arc::new(source))), ..testing::trigger(0, "") }
}

#[test]
fn services_of_other_namespaces_are_asked_only_by_leave() {
    for (namespace, is_allowed, is_asked) in [("default", false, true), ("other", false, false), ("other", true, true)]
    {
        let mut definition = testing::definition();
        definition.triggers = vec![of_service(namespace)];
        let mut cluster = Cluster::default();
        cluster.put_object(fresh("shop", "web", definition));
        cluster.put_workload(&deployment(), workload("web", 1));
        let settings = Settings { cross_namespace_services: is_allowed, ..rig::settings() };
        let mut rig = Rig::with(cluster, settings);
        rig.seconds(5);
        assert_eq!(!rig.polls.is_empty(), is_asked, "{namespace}");
        let refused = rig.events.iter().find(|event| event.reason == "KEDAScalerFailed");
        assert_eq!(refused.is_none(), is_asked, "{namespace}");
        if let Some(event) = refused {
            // The text does not depend on whether it exists, since nothing was looked up.
            assert!(event.note.contains("url names a Service of namespace other, and"), "{}", event.note);
            assert!(event.note.ends_with("--allow-cross-namespace-services"), "{}", event.note);
            assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
        }
    }
}

/// Regression: the poll that had waited for an authentication was sent whatever it asked for.
#[test]
fn an_authentication_that_is_read_first_gives_no_leave() {
    let reference = AuthenticationRef { kind: AuthenticationKind::TriggerAuthentication, name: "token".to_owned() };
    let mut definition = testing::definition();
    definition.triggers = vec![Trigger { authentication: Some(reference), ..of_service("other") }];
    let mut cluster = Cluster::default();
    cluster.put_object(fresh("shop", "web", definition));
    cluster.put_workload(&deployment(), workload("web", 1));
    let mut rig = Rig::new(cluster);
    rig.seconds(5);
    // No watch has shown it, as while the watch is late, so each poll cycle reads it.
    let found = testing::authentication("token");
    rig.cluster.authentications.insert(found.key.clone(), found);
    rig.seconds(65);
    assert!(rig.polls.is_empty(), "{:?}", rig.polls);
    let refused = rig.events.iter().rfind(|event| event.reason == "KEDAScalerFailed").unwrap();
    assert!(refused.note.contains("url names a Service of namespace other, and"), "{}", refused.note);
}

#[test]
fn nothing_but_cpu_is_always_active_and_never_asked() {
    let mut rig = shop(0, 0.0, |d| {
        d.triggers.clear();
        d.resource_triggers = vec![testing::cpu(0)];
    });
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 1, "from zero only it can lift it: there is nobody to say when");
    let event = rig.events.iter().find(|event| event.reason == "KEDAScaleTargetActivated").unwrap();
    assert!(event.note.ends_with("triggered by cpu"), "{}", event.note);
    rig.seconds(2_000);
    assert_eq!(rig.replicas("web"), 1);
    assert!(rig.polls.is_empty());
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=True ScalerActive");
    let status = &rig.object("shop").status;
    assert_eq!((status.external_metric_names.len(), status.triggers_activity.len()), (0, 0));
    assert_eq!(status.resource_metric_names, ["cpu"]);
    assert!(rig.events.iter().any(|event| event.note == "Scaler cpu is built"));
}

#[test]
fn beside_prometheus_cpu_has_no_say_about_zero() {
    let mut rig = shop(1, 5.0, |d| {
        d.triggers = vec![testing::trigger(1, "up")];
        d.resource_triggers = vec![testing::cpu(0)];
        d.resource_triggers.push(crate::scaling::model::ResourceTrigger {
            container: Some("app".to_owned()),
            kind: "memory".to_owned(),
            ..testing::cpu(2)
        });
        d.cooldown_period = Duration::from_secs(30);
    });
    rig.seconds(40);
    let order: Vec<&str> = hpa_metrics(&rig).iter().map(HpaMetric::type_name).collect();
    assert_eq!(order, ["ContainerResource", "External", "Resource"]);
    assert_eq!(rig.object("shop").status.resource_metric_names, ["cpu"], "none of a container");
    let built: Vec<&str> =
        rig.events.iter().filter_map(|event| event.note.strip_prefix("Scaler ")?.strip_suffix(" is built")).collect();
    assert_eq!(built, ["cpu", "prometheus", "memory"], "in the order of the triggers");
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(90);
    assert_eq!(rig.replicas("web"), 0);
    rig.set_answer("up", failed("connection refused"));
    rig.seconds(60);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
}

#[test]
fn a_window_opens_and_shuts_on_the_minute() {
    let mut rig = shop(0, 0.0, |d| {
        d.triggers = vec![daily(0, (14, 0), (15, 30))];
        d.polling_interval = Duration::from_hours(5);
        d.cooldown_period = Duration::ZERO;
    });
    run_until(&mut rig, "13:59:59.999");
    assert_eq!((rig.replicas("web"), rig.polls.len()), (0, 0));
    assert!(matches!(reading(&rig), Reading::Value { value: 0.0, .. }), "{:?}", reading(&rig));
    run_until(&mut rig, "14:00:00.050");
    assert_eq!(rig.replicas("web"), 1);
    let opened = UnixMillis("1970-01-12T14:00:00Z".parse::<Timestamp>().unwrap().as_millisecond());
    assert_eq!(reading(&rig), Reading::Value { value: 4.0, at: opened });
    // Reads are answered from what is known; there is nothing to poll before them.
    for _ in 0..10 {
        rig.step(Event::MetricRead(key("shop")));
        rig.seconds(15);
    }
    run_until(&mut rig, "15:29:59.999");
    assert_eq!(rig.replicas("web"), 1);
    run_until(&mut rig, "15:30:00.050");
    assert_eq!(rig.replicas("web"), 0);
    let samples: Vec<Answer> = rig
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Sample { answer, .. } => Some(answer.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(samples, [0.0, 4.0, 0.0].map(Answer::Value));
}

#[test]
fn a_leap_of_the_clock_into_a_window_opens_it() {
    let mut rig = shop(0, 0.0, |d| {
        d.triggers = vec![daily(0, (15, 0), (18, 0))];
        d.polling_interval = Duration::from_hours(5);
    });
    rig.seconds(60);
    assert_eq!(rig.replicas("web"), 0);
    rig.step_clock(2 * 3_600_000);
    rig.seconds(1);
    assert_eq!(rig.replicas("web"), 1);
    // And back: the window opens again at its time.
    rig.step_clock(-2 * 3_600_000);
    rig.set_replicas("web", 0);
    run_until(&mut rig, "14:59:59");
    assert_eq!(rig.replicas("web"), 0);
    run_until(&mut rig, "15:00:01");
    assert_eq!(rig.replicas("web"), 1);
}

#[test]
fn a_window_carries_an_object_whose_other_trigger_fails() {
    let mut rig = shop(0, 0.0, |d| {
        d.triggers = vec![daily(0, (14, 0), (15, 0)), testing::trigger(1, "up")];
        d.cooldown_period = Duration::from_secs(30);
    });
    rig.set_answer("up", failed("connection refused"));
    run_until(&mut rig, "13:59:00");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
    run_until(&mut rig, "14:01:00");
    assert_eq!(rig.replicas("web"), 1);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=Unknown PartialTriggerError");
    let activity = &rig.object("shop").status.triggers_activity;
    assert_eq!((activity.get("s0-cron"), activity.get("s1-prometheus")), (Some(&true), Some(&false)));
    run_until(&mut rig, "15:10:00");
    assert_eq!(rig.replicas("web"), 1, "an error holds");
    rig.set_answer("up", Answer::Value(0.0));
    // Until now it might have been active.
    run_until(&mut rig, "15:12:00");
    assert_eq!(rig.replicas("web"), 0);
}
