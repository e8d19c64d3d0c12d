//! A database with a plausible day, which ends now.

use std::f64::consts::TAU;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hpalite::http::gate::Gate;
use hpalite::scaling::attribution::{Actor, Attribution};
use hpalite::scaling::decision::{DecidedTrigger, Decision};
use hpalite::scaling::event::{Absence, Answer, ErrorClass, Missing, PollError, Record, RecordedTrigger};
use hpalite::scaling::model::{ApiGroup, Condition, ConditionKind, ConditionStatus, ObjectKey, OnMissing, UnixMillis};
use hpalite::scaling::reason::Reason;
use hpalite::store::{Options, Store};
use tempfile::TempDir;

use crate::store::{count, wait_for};

pub(crate) const MINUTE: i64 = 60_000;
const POLL_MS: i64 = 15_000;

/// Hostile texts, as an attacker would choose them.
pub(crate) const EVIL_NAME: &str = "<img src=x onerror=alert(1)>";
pub(crate) const EVIL_METRIC: &str = "s0-\"><script>alert(2)</script>";
pub(crate) const EVIL_MESSAGE: &str = "</td></table><script>alert(3)</script><iframe src=//evil.example>&amp;";

pub(crate) struct Scene {
    folder: TempDir,
    pub(crate) now: i64,
    store: Option<Store>,
    records: Vec<Record>,
}

pub(crate) fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(ApiGroup::KedaSh, namespace, name)
}

fn trigger(index: u16, name: Option<&str>, metric: &str, threshold: f64) -> RecordedTrigger {
    RecordedTrigger {
        server: "http://prometheus.monitoring:9090".to_owned(),
        query: "sum(rate(http_requests_total[1m]))".to_owned(),
        index,
        kind: "prometheus".into(),
        name: name.map(str::to_owned),
        metric_name: metric.into(),
        threshold,
        activation_threshold: 5.0,
    }
}

impl Scene {
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let store = Store::start(&folder.path().join("history.db"), Options::default()).unwrap();
        Self { folder, now: i64::try_from(now.as_millis()).unwrap(), store: Some(store), records: Vec::new() }
    }

    pub(crate) fn full() -> Self {
        let mut scene = Self::empty();
        scene.checkout();
        scene.legacy();
        scene.evil();
        scene.others();
        scene.write();
        scene
    }

    /// A day of `shop/archive`, so long ago that only its hours are left.
    pub(crate) fn old() -> Self {
        const DAY: i64 = 24 * 60;
        let mut scene = Self::empty();
        let object = key("shop", "archive");
        scene.define(&object, 21 * DAY, 1, &serde_json::json!({}), vec![trigger(0, None, "s0-prometheus", 50.0)]);
        scene.poll(&object, 0, 20 * DAY, 19 * DAY, |at| Answer::Value((at / POLL_MS % 90) as f64));
        scene.write();
        // A store deletes what is too old when it starts.
        let stopped = scene.store.take().map(|store| store.stop(Duration::from_secs(120)));
        assert!(stopped.is_some_and(|stopped| stopped.complete));
        scene.store = Some(Store::start(&scene.db(), Options::default()).unwrap());
        wait_for("samples and minutes to expire", || {
            let connection = rusqlite::Connection::open(scene.db()).unwrap();
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            ["sample_head", "sample_chunk", "sample_minute"].iter().all(|table| count(&connection, table) == 0)
        });
        scene
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.folder.path().join("history.db")
    }

    /// Serves only the page, without the rest of the daemon.
    pub(crate) fn serve(&self) -> Gate {
        hpalite::ui::start(TcpListener::bind("127.0.0.1:0").unwrap(), &self.db()).unwrap()
    }

    pub(crate) fn write(&mut self) {
        let store = self.store.as_ref().unwrap();
        for records in std::mem::take(&mut self.records).chunks(10_000) {
            store.send(records.to_vec());
            store.flush().unwrap();
        }
    }

    fn at(&self, minutes_ago: i64) -> UnixMillis {
        UnixMillis(self.now - minutes_ago * MINUTE)
    }

    pub(crate) fn define(
        &mut self,
        object: &ObjectKey,
        minutes_ago: i64,
        generation: i64,
        spec: &serde_json::Value,
        triggers: Vec<RecordedTrigger>,
    ) {
        let invalid = spec["invalid"].as_str().map(str::to_owned);
        self.records.push(Record::Definition {
            at: self.at(minutes_ago),
            object: object.clone(),
            uid: format!("uid-{}", object.name),
            generation,
            spec_json: spec.to_string().as_str().into(),
            invalid,
            triggers,
            resource_triggers: Vec::new(),
        });
    }

    fn condition(
        &mut self,
        object: &ObjectKey,
        minutes_ago: i64,
        kind: ConditionKind,
        is: bool,
        reason: &str,
        message: &str,
    ) {
        let status = if is { ConditionStatus::True } else { ConditionStatus::False };
        let condition = Condition::new(kind, status, reason.to_owned(), message.to_owned());
        self.records.push(Record::Condition { at: self.at(minutes_ago), object: object.clone(), condition });
    }

    /// Adds polls from one time ago to another, in minutes.
    fn poll(&mut self, object: &ObjectKey, index: u16, from: i64, until: i64, answer: impl Fn(i64) -> Answer) {
        for at in ((self.now - from * MINUTE)..(self.now - until * MINUTE)).step_by(usize::try_from(POLL_MS).unwrap()) {
            let answer = answer(at);
            let is_error = matches!(answer, Answer::Failed(_));
            let latency = Duration::from_millis(7);
            let (at, object) = (UnixMillis(at), object.clone());
            self.records.push(Record::Sample { at, object, trigger: index, answer, latency, is_error });
        }
    }

    pub(crate) fn replicas(
        &mut self,
        object: &ObjectKey,
        minutes_ago: i64,
        from: Option<u32>,
        to: u32,
        manager: Option<&str>,
    ) {
        let by = Some(manager.map_or(Attribution::inferred(Actor::Other), Attribution::observed));
        self.records.push(Record::Replicas {
            at: self.at(minutes_ago),
            object: object.clone(),
            from,
            to,
            by,
            absent: Vec::new(),
            unseen_since: None,
        });
    }

    fn decide(&mut self, object: &ObjectKey, minutes_ago: i64, reason: Reason, from: u32, to: u32, value: f64) {
        let metric = DecidedTrigger {
            metric_name: "s0-prometheus".into(),
            value: Some(value),
            active: value > 5.0,
            target: 10.0,
            ..DecidedTrigger::default()
        };
        let (at, object) = (self.at(minutes_ago), object.clone());
        self.records.push(Record::Decision {
            at,
            object: object.clone(),
            decision: Arc::new(Decision { triggers: vec![metric], ..Decision::new(reason, from, to) }),
        });
        if from != to {
            self.records.push(Record::Action { at, object, from, to, error: None });
        }
    }

    pub(crate) fn remove(&mut self, object: &ObjectKey, minutes_ago: i64) {
        self.records.push(Record::Removed { at: self.at(minutes_ago), object: object.clone() });
    }

    /// A shop over a day: two waves, an outage of Prometheus, a pause, a new threshold.
    fn checkout(&mut self) {
        let object = key("shop", "checkout");
        let spec = |threshold: &str, max: u32| {
            serde_json::json!({ "maxReplicaCount": max, "scaleTargetRef": { "name": "checkout" }, "triggers": [
                { "type": "prometheus", "metricType": "AverageValue", "metadata": { "serverAddress": "http://prometheus.monitoring:9090", "query": "sum(rate(http_requests_total{app=\"checkout\"}[1m]))", "threshold": threshold } },
                { "type": "prometheus", "metricType": "Value", "metadata": { "serverAddress": "http://prometheus.monitoring:9090", "query": "max(queue_length)", "threshold": "20" } },
            ] })
        };
        let own = |threshold| {
            vec![trigger(0, Some("requests"), "s0-prometheus", threshold), trigger(1, None, "s1-prometheus", 20.0)]
        };
        let day = 24 * 60;
        self.define(&object, day, 1, &spec("75", 10), own(75.0));
        let now = self.now;
        let load = move |at: i64| {
            let minutes = (now - at) as f64 / 60_000.0;
            let wave = 260.0 + 250.0 * (minutes / 180.0 * TAU).cos() + 40.0 * (minutes / 23.0 * TAU).sin();
            // Noise that is the same in every run.
            let noise = ((at / POLL_MS * 7_919) % 41) as f64 - 20.0;
            (wave + noise).max(0.0).round()
        };
        let failed = |_| {
            Answer::Failed(PollError {
                class: ErrorClass::Timeout,
                message: "no answer from http://prometheus.monitoring:9090 within 3 s".into(),
            })
        };
        self.poll(&object, 0, day, 47, |at| Answer::Value(load(at)));
        self.poll(&object, 0, 47, 43, failed);
        self.poll(&object, 0, 43, 30, |at| Answer::Value(load(at)));
        self.define(&object, 30, 2, &spec("100", 12), own(100.0));
        self.poll(&object, 0, 30, 0, |at| Answer::Value(load(at)));
        self.poll(&object, 1, day, 20, |at| Answer::Value((load(at) / 23.0).round()));
        self.poll(&object, 1, 20, 16, |_| Answer::Missing(Missing::Empty));
        self.poll(&object, 1, 16, 0, |at| Answer::Value((load(at) / 23.0).round()));
        let metrics = vec!["s0-prometheus".to_owned()];
        self.replicas(&object, day, None, 1, None);
        let mut before = 1;
        for minute in (1..day).rev() {
            let threshold = if minute > 30 { 75.0 } else { 100.0 };
            let paused = (8..=13).contains(&minute);
            let wanted = (load(now - minute * MINUTE) / threshold).ceil().clamp(0.0, 10.0) as u32;
            if wanted.abs_diff(before) >= 2 && !paused && !(43..=47).contains(&minute) || (wanted == 0) != (before == 0)
            {
                if before == 0 || wanted == 0 {
                    let reason =
                        if wanted == 0 { Reason::Deactivated } else { Reason::Activated { metrics: metrics.clone() } };
                    let to = u32::from(wanted > 0);
                    self.decide(&object, minute, reason, before, to, load(now - minute * MINUTE));
                    self.replicas(&object, minute, Some(before), to, Some("hpalite"));
                    before = to;
                } else {
                    self.replicas(&object, minute, Some(before), wanted, Some("kube-controller-manager"));
                    before = wanted;
                }
            }
        }
        self.condition(
            &object,
            day,
            ConditionKind::Ready,
            true,
            "ScaledObjectReady",
            "ScaledObject is defined correctly and is ready for scaling",
        );
        self.condition(
            &object,
            day,
            ConditionKind::Active,
            true,
            "ScalerActive",
            "Scaling is performed because triggers are active",
        );
        self.condition(
            &object,
            47,
            ConditionKind::Ready,
            false,
            "TriggerError",
            "s0-prometheus: no answer from http://prometheus.monitoring:9090 within 3 s",
        );
        self.condition(
            &object,
            43,
            ConditionKind::Ready,
            true,
            "ScaledObjectReady",
            "ScaledObject is defined correctly and is ready for scaling",
        );
        self.decide(&object, 46, Reason::HeldOnError, before, before, 300.0);
        self.condition(
            &object,
            13,
            ConditionKind::Paused,
            true,
            "ScaledObjectPaused",
            "paused by the annotation autoscaling.keda.sh/paused",
        );
        self.decide(&object, 13, Reason::Paused, before, before, 320.0);
        self.condition(&object, 8, ConditionKind::Paused, false, "ScaledObjectUnpaused", "");
        self.replicas(&object, 5, Some(before), before + 2, Some("kubectl-scale"));
        self.decide(&object, 4, Reason::Active, before + 2, before + 2, 410.0);
    }

    /// An object whose recorded answers are those that its definition asks for, so that it can be replayed: an hour of load
    /// that doubles after half of it.
    pub(crate) fn replayable(&mut self) -> ObjectKey {
        let object = key("shop", "what-if");
        let own = trigger(0, None, "s0-prometheus", 75.0);
        let spec = serde_json::json!({ "maxReplicaCount": 20, "minReplicaCount": 1, "scaleTargetRef": { "name": "what-if" }, "triggers": [
            { "type": "prometheus", "metadata": { "serverAddress": own.server, "query": own.query, "threshold": "75" } },
        ] });
        self.define(&object, 60, 1, &spec, vec![own]);
        let now = self.now;
        self.poll(&object, 0, 60, 0, move |at| Answer::Value(if now - at > 30 * MINUTE { 300.0 } else { 600.0 }));
        self.replicas(&object, 60, None, 4, None);
        self.replicas(&object, 29, Some(4), 8, Some("kube-controller-manager"));
        self.write();
        object
    }

    /// An object of the same name in the other API group.
    fn legacy(&mut self) {
        let object = ObjectKey::new(ApiGroup::KedaK8sIo, "shop", "checkout");
        self.define(&object, 120, 1, &serde_json::json!({}), vec![trigger(0, None, "s0-legacy", 3.0)]);
        self.poll(&object, 0, 120, 0, |at| Answer::Value((at / 1_800_000 % 3) as f64));
        self.replicas(&object, 119, None, 1, None);
    }

    fn evil(&mut self) {
        let object = key("shop", EVIL_NAME);
        let before = serde_json::json!({ "triggers": [{ "metadata": { "query": "up" } }] });
        let after = serde_json::json!({ "triggers": [{ "metadata": { "query": EVIL_MESSAGE } }], EVIL_NAME: 1 });
        self.define(&object, 50, 1, &before, vec![trigger(0, Some(EVIL_METRIC), EVIL_METRIC, 10.0)]);
        self.define(&object, 40, 2, &after, vec![trigger(0, Some(EVIL_METRIC), EVIL_METRIC, 10.0)]);
        self.poll(&object, 0, 50, 10, |at| Answer::Value((at / POLL_MS % 8) as f64));
        self.poll(&object, 0, 10, 0, |_| {
            Answer::Failed(PollError { class: ErrorClass::Query, message: EVIL_MESSAGE.into() })
        });
        self.condition(&object, 10, ConditionKind::Ready, false, EVIL_NAME, EVIL_MESSAGE);
        self.decide(&object, 30, Reason::TargetUnreadable { error: EVIL_MESSAGE.into() }, 1, 1, 3.0);
        self.replicas(&object, 45, Some(1), 2, Some(EVIL_NAME));
    }

    /// `shop/young`, created six minutes ago, which was scaled in because its series disappeared.
    pub(crate) fn young(&mut self) {
        let object = key("shop", "young");
        let spec = serde_json::json!({ "scaleTargetRef": { "name": "young" }, "triggers": [
            { "type": "prometheus", "metadata": { "serverAddress": "http://prometheus:9090", "query": "sum(orders)", "threshold": "10" } },
        ] });
        self.define(&object, 6, 1, &spec, vec![trigger(0, None, "s0-prometheus", 10.0)]);
        self.poll(&object, 0, 6, 3, |_| Answer::Value(42.0));
        self.poll(&object, 0, 3, 0, |_| Answer::Missing(Missing::Empty));
        self.replicas(&object, 5, None, 5, Some("kubectl"));
        let absence = Absence { missing: Missing::Empty, policy: OnMissing::EmptyIsZero, since: self.at(3) };
        self.decide(&object, 3, Reason::CoolingDown { left: Duration::from_secs(300) }, 5, 5, 0.0);
        if let Some(Record::Decision { decision, .. }) = self.records.last_mut() {
            Arc::make_mut(decision).triggers[0].absence = Some(absence);
        }
        self.replicas(&object, 2, Some(5), 1, Some("kube-controller-manager"));
        self.write();
    }

    fn others(&mut self) {
        let idle = key("shop", "recommendations");
        self.define(&idle, 600, 1, &serde_json::json!({}), vec![trigger(0, None, "s0-prometheus", 50.0)]);
        self.poll(&idle, 0, 60, 0, |_| Answer::Value(0.0));
        self.replicas(&idle, 590, Some(1), 0, Some("hpalite"));

        let paused = key("batch", "reports");
        self.define(&paused, 600, 3, &serde_json::json!({}), vec![trigger(0, None, "s0-prometheus", 1_000_000.0)]);
        self.poll(&paused, 0, 60, 0, |at| Answer::Value(3_456_789.0 + (at % 1_000_000) as f64));
        self.replicas(&paused, 500, Some(3), 4, Some("kubectl"));
        self.condition(&paused, 200, ConditionKind::Paused, true, "ScaledObjectPaused", "paused by annotation");

        let broken = key("batch", "imports");
        self.define(&broken, 600, 2, &serde_json::json!({}), vec![trigger(0, None, "s0-prometheus", 10.0)]);
        let refused = "connection refused by http://prometheus.batch:9090".to_owned();
        self.poll(&broken, 0, 60, 35, |at| Answer::Value(8.0 + (at / MINUTE % 5) as f64));
        self.poll(&broken, 0, 35, 0, move |_| {
            Answer::Failed(PollError { class: ErrorClass::Connect, message: refused.clone() })
        });
        self.replicas(&broken, 300, Some(1), 2, Some("kube-controller-manager"));
        self.condition(
            &broken,
            35,
            ConditionKind::Ready,
            false,
            "TriggerError",
            "s0-prometheus: connection refused by http://prometheus.batch:9090",
        );
        self.condition(
            &broken,
            33,
            ConditionKind::Fallback,
            true,
            "FallbackExists",
            "at least one trigger is falling back on this scaled object",
        );

        let invalid = key("batch", "typo");
        let spec = serde_json::json!({ "invalid": "spec.triggers[0].metadata.threshold: \"many\" is not a number, write for example \"75\"" });
        self.define(&invalid, 20, 1, &spec, vec![]);

        let removed = key("shop", "campaign");
        self.define(&removed, 300, 1, &serde_json::json!({}), vec![trigger(0, None, "s0-prometheus", 10.0)]);
        self.poll(&removed, 0, 300, 200, |_| Answer::Value(7.0));
        self.remove(&removed, 200);

        for (i, name) in (0_i64..).zip(["api", "auth", "cart", "images", "mail", "search", "session", "stock"]) {
            let object = key("web", name);
            let threshold = 20.0 * (i + 1) as f64;
            self.define(&object, 600, 1, &serde_json::json!({}), vec![trigger(0, None, "s0-prometheus", threshold)]);
            let height = threshold * (1.0 + i as f64);
            self.poll(&object, 0, 90, 0, |at| {
                let phase = at as f64 / (900_000.0 + 200_000.0 * i as f64) * TAU;
                Answer::Value((height * (1.0 + phase.sin()) / 2.0).round())
            });
            self.replicas(&object, 80, Some(1), u32::try_from(i).unwrap() + 1, Some("kube-controller-manager"));
            self.condition(
                &object,
                300 + i,
                ConditionKind::Active,
                i % 3 != 2,
                "ScalerActive",
                "Scaling is performed because triggers are active",
            );
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            let _ = store.stop(Duration::from_secs(120));
        }
    }
}
