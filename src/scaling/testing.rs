//! Builders for the core's own tests.

use jiff::tz::TimeZone;
use litemap::LiteMap;
use std::sync::Arc;
use std::time::Duration;

use super::allowed::Allowed;
use super::cron::{Expression, Recurrence, Window, Zone};
use super::formula::Formula;
use super::model::{
    ApiGroup, Authentication, AuthenticationKey, AuthenticationKind, Definition, MetricTarget, MetricType, Modifiers,
    ObjectKey, OnMissing, Pause, PrometheusSource, Query, ResourceTrigger, ScaledObject, Source, Status, TargetRef,
    Trigger, UnixMillis,
};

pub(crate) fn trigger(index: u16, query: &str) -> Trigger {
    Trigger {
        index,
        kind: "prometheus".to_owned(),
        name: None,
        metric_name: format!("s{index}-prometheus").into(),
        metric_type: MetricType::AverageValue,
        threshold: 75.0,
        activation_threshold: 0.0,
        use_cached_metrics: false,
        authentication: None,
        env: Vec::new(),
        on_missing: OnMissing::EmptyIsZero,
        source: Source::Query(Query::Prometheus(Arc::new(prometheus(query)))),
    }
}

pub(crate) fn prometheus(query: &str) -> PrometheusSource {
    PrometheusSource {
        server_address: "http://prometheus:9090".to_owned(),
        query: query.to_owned(),
        ..PrometheusSource::default()
    }
}

/// Asks for four replicas in the windows between the minutes of the hours in UTC, given as sets of bits.
pub(crate) fn cron(index: u16, start: (u64, u64), end: (u64, u64)) -> Trigger {
    let zone = Arc::new(Zone { name: "UTC".to_owned(), periods: Vec::new(), rule: TimeZone::posix("UTC0").unwrap() });
    let daily = |(hours, minutes): (u64, u64)| {
        let expression = Expression {
            minutes,
            hours,
            days_of_month: u64::MAX,
            months: u64::MAX,
            days_of_week: u64::MAX,
            is_either_day: false,
        };
        Recurrence { expression, zone: Arc::clone(&zone) }
    };
    let window = Window { start: daily(start), end: daily(end), desired_replicas: 4 };
    Trigger {
        kind: "cron".to_owned(),
        metric_name: format!("s{index}-cron").into(),
        threshold: 1.0,
        source: Source::Cron(Arc::new(window)),
        ..trigger(index, "")
    }
}

/// A target of 60 percent of the requested cpu.
pub(crate) fn cpu(index: u16) -> ResourceTrigger {
    ResourceTrigger {
        index,
        kind: "cpu".to_owned(),
        name: None,
        container: None,
        target: MetricTarget::Utilization(60),
        authentication: None,
    }
}

/// One prometheus trigger, with all defaults.
pub(crate) fn definition() -> Definition {
    Definition {
        polling_interval: Duration::from_secs(30),
        cooldown_period: Duration::from_secs(300),
        max_replicas: 100,
        hpa_name: "keda-hpa-shop".to_owned(),
        triggers: vec![trigger(0, "up")],
        selector: ("scaledobject.keda.sh/name".to_owned(), "shop".to_owned()),
        ..Definition::default()
    }
}

/// Names the triggers a, b, c… and puts a formula over them, with target 10.
pub(crate) fn put_formula(definition: &mut Definition, formula: &str) {
    let names: Vec<String> = ('a'..='z').map(|letter| letter.to_string()).take(definition.triggers.len()).collect();
    for (trigger, name) in definition.triggers.iter_mut().zip(&names) {
        trigger.name = Some(name.clone());
    }
    definition.modifiers = Some(Box::new(Modifiers {
        formula: Formula::compile(formula, &names).unwrap(),
        target: 10.0,
        activation_target: 0.0,
        metric_type: MetricType::AverageValue,
    }));
}

/// `default/shop`, already claimed, which scales the Deployment `web`.
pub(crate) fn scaled_object(definition: Definition) -> ScaledObject {
    ScaledObject {
        key: ObjectKey::new(ApiGroup::KedaSh, "default", "shop"),
        uid: "uid-shop".to_owned(),
        generation: 1,
        resource_version: "10".to_owned(),
        created_at: UnixMillis(0),
        deletion_requested: false,
        finalizers: vec!["finalizer.keda.sh".to_owned()],
        labels: LiteMap::from_iter([("scaledobject.keda.sh/name".to_owned(), "shop".to_owned())]),
        annotations: LiteMap::new(),
        target: TargetRef {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
            env_source_container: None,
        },
        triggers_types: "prometheus".to_owned(),
        authentications_types: String::new(),
        definition: Ok(Arc::new(definition)),
        pause: Pause::default(),
        is_shadow: false,
        force_activation: false,
        transfer_hpa_ownership: false,
        asked: Arc::default(),
        per_replica: Vec::new(),
        scales_to_zero: false,
        unheeded: None,
        observed: None,
        restore_to_original: false,
        spec_json: "{}".into(),
        status: Status::default(),
    }
}

/// A TriggerAuthentication in `default`, without parameters.
pub(crate) fn authentication(name: &str) -> Authentication {
    Authentication {
        key: AuthenticationKey {
            group: ApiGroup::KedaSh,
            kind: AuthenticationKind::TriggerAuthentication,
            namespace: "default".to_owned(),
            name: name.to_owned(),
        },
        generation: 1,
        resource_version: String::new(),
        deletion_requested: false,
        finalizers: Vec::new(),
        sources: Vec::new(),
        pod_identity: None,
        allowed: Allowed::default(),
        unsupported: None,
        status_scaled_objects: String::new(),
    }
}
