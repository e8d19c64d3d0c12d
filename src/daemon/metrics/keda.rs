//! The metrics of KEDA's operator, under KEDA's names and labels, so that its dashboards and alerts keep working.
//!
//! Updated from the records of the history and from the published views, and read at scrape time. The numbers are
//! atomics that belong to one object and are dropped with it; the lock around the objects is held only to find one or
//! to list them, so that a scrape never delays the `decide` thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::scaling::composite;
use crate::scaling::event::{Answer, Missing, Record, RecordedTrigger};
use crate::scaling::model::{ApiGroup, ConditionKind, ConditionStatus, ObjectKey, ResourceTrigger};
use crate::scaling::view::{ObjectView, Reading};
use crate::scaling::world::Registered;
use crate::telemetry::{Exposition, Family, escaped_len};

/// Upper bound on the bytes of objects' metrics, some 14,000 objects with a trigger each, so that the whole page stays below
/// [`ANSWER_MAX`](crate::http::gate::limits::ANSWER_MAX).
const BYTES_MAX: usize = 24 << 20;

/// All known objects.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Tally {
    objects: Mutex<BTreeMap<ObjectKey, Arc<CountedObject>>>,
    authentications: Mutex<Registered>,
}

#[derive(Debug, Default)]
struct CountedObject {
    triggers: Vec<CountedTrigger>,
    resources: Vec<ResourceTrigger>,
    paused: AtomicBool,
    errors: AtomicU64,
}

#[derive(Debug)]
struct CountedTrigger {
    index: u16,
    /// The type as in the manifest; `formula` for the composite metric.
    kind: String,
    name: Option<String>,
    metric: Arc<str>,
    activation_threshold: f64,
    numbers: Arc<Numbers>,
}

/// What is kept when the definition changes.
#[derive(Debug, Default)]
struct Numbers {
    /// Bits of the last value; meaningless while `is_known` is false.
    value: AtomicU64,
    is_known: AtomicBool,
    is_active: AtomicBool,
    /// Whether the last answer was a number, and not a value that a policy or a fallback provided.
    is_plain: AtomicBool,
    is_error: AtomicBool,
    latency_micros: AtomicU64,
    errors: AtomicU64,
    empty: AtomicU64,
    empty_is_error: AtomicBool,
}

impl Numbers {
    fn set(&self, value: f64, is_active: bool) {
        self.value.store(value.to_bits(), Ordering::Relaxed);
        self.is_active.store(is_active, Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
    }
}

impl CountedObject {
    fn trigger(&self, index: u16) -> Option<&CountedTrigger> {
        self.triggers.iter().find(|trigger| trigger.index == index)
    }
}

impl Tally {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Arc<CountedObject>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &ObjectKey) -> Option<Arc<CountedObject>> {
        self.objects().get(key).cloned()
    }

    /// Updates the numbers from a record of the history.
    pub(in crate::daemon) fn record(&self, record: &Record) {
        match record {
            // KEDA's names are for ScaledObjects.
            Record::Definition { object, .. } if object.group == ApiGroup::Autoscaling => {}
            Record::Definition { object, triggers, resource_triggers, .. } => {
                self.define(object, triggers, resource_triggers);
            }
            Record::Removed { object, .. } => {
                self.objects().remove(object);
            }
            Record::Condition { object, condition, .. } if condition.kind == ConditionKind::Paused => {
                if let Some(object) = self.object(object) {
                    object.paused.store(condition.status == ConditionStatus::True, Ordering::Relaxed);
                }
            }
            Record::Sample { object, trigger, answer, latency, is_error, .. } => {
                if let Some(object) = self.object(object) {
                    sample(&object, *trigger, answer, *latency, *is_error);
                }
            }
            _ => {}
        }
    }

    /// Updates the numbers from a published view, which has the values that policies and fallbacks provide.
    pub(in crate::daemon) fn publish(&self, view: &ObjectView) {
        let Some(object) = self.object(&view.key) else { return };
        for metric in &view.metrics {
            let Some(trigger) = object.triggers.iter().find(|trigger| trigger.metric == metric.name) else { continue };
            let numbers = &trigger.numbers;
            if numbers.is_plain.load(Ordering::Relaxed) {
                continue;
            }
            match &metric.reading {
                Reading::Value { value, .. } => {
                    let falls_back = numbers.is_error.load(Ordering::Relaxed);
                    numbers.set(*value, falls_back || *value > trigger.activation_threshold);
                }
                Reading::Failed { .. } => numbers.is_active.store(false, Ordering::Relaxed),
                Reading::Pending => {}
            }
        }
    }

    pub(in crate::daemon) fn registered(&self, authentications: Registered) {
        *self.authentications.lock().unwrap_or_else(PoisonError::into_inner) = authentications;
    }

    fn define(&self, key: &ObjectKey, triggers: &[RecordedTrigger], resources: &[ResourceTrigger]) {
        let old = self.object(key).unwrap_or_default();
        let triggers = triggers.iter().map(|trigger| {
            let same = old.triggers.iter().find(|old| old.metric == trigger.metric_name);
            CountedTrigger {
                index: trigger.index,
                kind: trigger.kind.clone(),
                name: trigger.name.clone(),
                metric: Arc::clone(&trigger.metric_name),
                activation_threshold: trigger.activation_threshold,
                numbers: same.map(|same| Arc::clone(&same.numbers)).unwrap_or_default(),
            }
        });
        let object = CountedObject {
            triggers: triggers.collect(),
            resources: resources.to_vec(),
            paused: AtomicBool::new(old.paused.load(Ordering::Relaxed)),
            errors: AtomicU64::new(old.errors.load(Ordering::Relaxed)),
        };
        self.objects().insert(key.clone(), Arc::new(object));
    }

    /// Writes all metric families.
    pub(super) fn write(&self, out: &mut Exposition) {
        let mut objects: Vec<_> =
            self.objects().iter().map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        let build = [
            ("version", crate::daemon::VERSION),
            ("git_commit", ""),
            ("goversion", ""),
            ("goos", std::env::consts::OS),
            ("goarch", std::env::consts::ARCH),
        ];
        out.family("keda_build_info", "gauge", "Version of this process.").sample(&build, 1);
        self.write_registered(out, &objects);
        let all = objects.len();
        fit(&mut objects, BYTES_MAX);
        let objects = &objects[..];
        out.gauge(
            "hpalite_keda_metrics_left_out",
            "ScaledObjects whose metrics under KEDA's names would make this page too large.",
            (all - objects.len()) as u64,
        );
        write_triggers(out, objects);
        let mut family = out.family("keda_scaled_object_paused", "gauge", "1 while the object is paused.");
        for (key, object) in objects {
            family.sample(&of(key), u8::from(object.paused.load(Ordering::Relaxed)));
        }
        let mut family =
            out.family("keda_scaled_object_errors_total", "counter", "Answers that were errors, by object.");
        for (key, object) in objects {
            family.sample(&of(key), object.errors.load(Ordering::Relaxed));
        }
    }

    fn write_registered(&self, out: &mut Exposition, objects: &[(ObjectKey, Arc<CountedObject>)]) {
        let (mut kinds, mut namespaces) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
        for (key, object) in objects {
            *namespaces.entry(&*key.namespace).or_default() += 1;
            let asked = object.triggers.iter().filter(|trigger| trigger.index != composite::INDEX);
            let asked = asked.map(|trigger| trigger.kind.as_str());
            for kind in asked.chain(object.resources.iter().map(|trigger| trigger.kind.as_str())) {
                *kinds.entry(kind).or_default() += 1;
            }
        }
        let mut family = out.family("keda_trigger_registered_total", "gauge", "Triggers, by type.");
        for (kind, count) in kinds {
            family.sample(&[("type", kind)], count);
        }
        let mut family = out.family("keda_resource_registered_total", "gauge", "Objects known, by type and namespace.");
        for (namespace, count) in namespaces {
            family.sample(&[("type", "scaled_object"), ("namespace", namespace)], count);
        }
        let authentications = self.authentications.lock().unwrap_or_else(PoisonError::into_inner);
        for (namespace, count) in &authentications.trigger_authentications {
            family.sample(&[("type", "trigger_authentication"), ("namespace", namespace)], *count);
        }
        let cluster = authentications.cluster_trigger_authentications;
        if cluster > 0 {
            family.sample(&[("type", "cluster_trigger_authentication"), ("namespace", "default")], cluster);
        }
    }
}

fn sample(object: &CountedObject, index: u16, answer: &Answer, latency: Duration, is_error: bool) {
    let Some(trigger) = object.trigger(index) else { return };
    let numbers = &trigger.numbers;
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    numbers.latency_micros.store(micros, Ordering::Relaxed);
    numbers.is_error.store(is_error, Ordering::Relaxed);
    numbers.is_plain.store(matches!(answer, Answer::Value(_)), Ordering::Relaxed);
    if let Answer::Value(value) = answer {
        numbers.set(*value, *value > trigger.activation_threshold);
    }
    if matches!(answer, Answer::Missing(Missing::Empty)) {
        numbers.empty.fetch_add(1, Ordering::Relaxed);
        numbers.empty_is_error.store(is_error, Ordering::Relaxed);
    }
    if is_error {
        numbers.errors.fetch_add(1, Ordering::Relaxed);
        object.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// Leaves out objects whose metrics would exceed this many bytes together with those of the objects before them. A large
/// object gives way to smaller ones behind it.
fn fit(objects: &mut Vec<(ObjectKey, Arc<CountedObject>)>, mut bytes: usize) {
    objects.retain(|(key, object)| {
        let rest = bytes.checked_sub(estimate(key, object));
        bytes = rest.unwrap_or(bytes);
        rest.is_some()
    });
}

/// Returns at least as many bytes as the metrics of an object have: two lines, and at most ten for each trigger, of which
/// five have its name, whose length only etcd bounds.
fn estimate(key: &ObjectKey, object: &CountedObject) -> usize {
    let names = key.namespace.len() + 2 * key.name.len();
    let line = |metric: usize| 120 + names + metric;
    let name = |name: &Option<String>| 5 * name.as_deref().map_or(0, escaped_len);
    let triggers = object
        .triggers
        .iter()
        .map(|trigger| 10 * line(escaped_len(&trigger.metric) + trigger.kind.len()) + name(&trigger.name));
    let resources = object.resources.iter().map(|trigger| 10 * line(0) + name(&trigger.name));
    2 * line(0) + triggers.chain(resources).sum::<usize>()
}

fn write_triggers(out: &mut Exposition, objects: &[(ObjectKey, Arc<CountedObject>)]) {
    let known = |numbers: &Numbers| numbers.is_known.load(Ordering::Relaxed);
    let mut family = out.family("keda_scaler_metrics_value", "gauge", "Last value, or that of a fallback.");
    each(&mut family, objects, |_, trigger| {
        let value = f64::from_bits(trigger.numbers.value.load(Ordering::Relaxed));
        known(&trigger.numbers).then(|| value.to_string())
    });
    let mut family = out.family("keda_scaler_metrics_latency_seconds", "gauge", "Time that the last query took.");
    each(&mut family, objects, |_, trigger| {
        let latency = Duration::from_micros(trigger.numbers.latency_micros.load(Ordering::Relaxed));
        let is_asked = trigger.index != composite::INDEX && known(&trigger.numbers);
        is_asked.then(|| latency.as_secs_f64().to_string())
    });
    let mut family = out.family("keda_scaler_detail_errors_total", "counter", "Answers that were errors, by trigger.");
    each(&mut family, objects, |_, trigger| Some(trigger.numbers.errors.load(Ordering::Relaxed).to_string()));
    let mut family = out.family("keda_scaler_empty_upstream_responses_total", "counter", "Answers without any series.");
    for (key, object) in objects {
        for trigger in &object.triggers {
            let count = trigger.numbers.empty.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            let ignored = if trigger.numbers.empty_is_error.load(Ordering::Relaxed) { "false" } else { "true" };
            let labels = [
                ("namespace", &*key.namespace),
                ("scaledResource", &*key.name),
                ("triggerName", trigger.name.as_deref().unwrap_or_default()),
                ("metricName", &*trigger.metric),
                ("resourceType", "ScaledObject"),
                ("ignoreNullValues", ignored),
            ];
            family.sample(&labels, count);
        }
    }
    let mut active = out.family("keda_scaler_active", "gauge", "1 while the trigger is active.");
    each(&mut active, objects, |object, trigger| {
        // If there is a formula, it alone decides whether the object is active.
        let speaks = trigger.index == composite::INDEX || object.trigger(composite::INDEX).is_none();
        let is_active = trigger.numbers.is_active.load(Ordering::Relaxed);
        (speaks && known(&trigger.numbers)).then(|| u8::from(is_active).to_string())
    });
    // The HPA controller reads these metrics itself: they are always active.
    for (key, object) in objects {
        for trigger in &object.resources {
            let scaler = trigger.name.as_deref().unwrap_or(scaler(&trigger.kind));
            active.sample(&labels(key, &trigger.kind, scaler, &trigger.index.to_string()), 1);
        }
    }
}

/// Writes a sample for each trigger that has one.
fn each(
    family: &mut Family<'_>,
    objects: &[(ObjectKey, Arc<CountedObject>)],
    sample: impl Fn(&CountedObject, &CountedTrigger) -> Option<String>,
) {
    for (key, object) in objects {
        for trigger in &object.triggers {
            let Some(value) = sample(object, trigger) else { continue };
            let is_composite = trigger.index == composite::INDEX;
            let index = if is_composite { 0 } else { trigger.index };
            let scaler = if is_composite { composite::NAME } else { scaler(&trigger.kind) };
            let scaler = trigger.name.as_deref().unwrap_or(scaler);
            family.sample(&labels(key, &trigger.metric, scaler, &index.to_string()), value);
        }
    }
}

fn labels<'a>(key: &'a ObjectKey, metric: &'a str, scaler: &'a str, index: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("namespace", &key.namespace),
        ("metric", metric),
        ("scaledObject", &key.name),
        ("scaler", scaler),
        ("triggerIndex", index),
        ("type", "scaledobject"),
    ]
}

fn of(key: &ObjectKey) -> [(&str, &str); 2] {
    [("namespace", &key.namespace), ("scaledObject", &key.name)]
}

/// Returns KEDA's own type name, which stands for a trigger without a name.
fn scaler(kind: &str) -> &'static str {
    match kind {
        "prometheus" => "prometheusScaler",
        "cron" => "cronScaler",
        "kubernetes-workload" => "kubernetesWorkloadScaler",
        "metrics-api" => "metricsAPIScaler",
        "cpu" | "memory" => "cpuMemoryScaler",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::event::{ErrorClass, PollError};
    use crate::scaling::model::MetricTarget;
    use crate::scaling::model::{ApiGroup, Condition, UnixMillis};
    use crate::scaling::view::MetricView;

    fn key() -> ObjectKey {
        ObjectKey::new(ApiGroup::KedaSh, "shop", "web")
    }

    fn trigger(index: u16, kind: &str, name: Option<&str>, metric: &str) -> RecordedTrigger {
        RecordedTrigger {
            index,
            kind: kind.to_owned(),
            name: name.map(str::to_owned),
            metric_name: metric.into(),
            server: String::new(),
            query: String::new(),
            threshold: 10.0,
            activation_threshold: 5.0,
        }
    }

    fn definition(triggers: Vec<RecordedTrigger>) -> Record {
        Record::Definition {
            at: UnixMillis(0),
            object: key(),
            uid: "u".to_owned(),
            generation: 1,
            spec_json: "{}".into(),
            invalid: None,
            triggers,
            resource_triggers: vec![ResourceTrigger {
                index: 1,
                kind: "cpu".to_owned(),
                name: None,
                container: None,
                target: MetricTarget::Utilization(60),
                authentication: None,
            }],
        }
    }

    fn sample(trigger: u16, answer: Answer, is_error: bool) -> Record {
        let latency = Duration::from_millis(250);
        Record::Sample { at: UnixMillis(0), object: key(), trigger, answer, latency, is_error }
    }

    fn failed() -> Answer {
        Answer::Failed(PollError { class: ErrorClass::Status, message: "503".to_owned() })
    }

    fn reading(metric: &str, reading: Reading) -> ObjectView {
        let metrics = vec![MetricView { name: metric.into(), reading, cached: false, age_limit: None, pods: None }];
        ObjectView {
            key: key(),
            selector: (String::new(), String::new()),
            metrics,
            asked: Arc::default(),
            error: None,
            made_at: UnixMillis(0),
        }
    }

    fn value(value: f64) -> Reading {
        Reading::Value { value, at: UnixMillis(0) }
    }

    /// Returns the lines of the exposition that begin with `start`.
    fn lines(tally: &Tally, start: &str) -> Vec<String> {
        let mut out = Exposition::default();
        tally.write(&mut out);
        out.finish().lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    #[test]
    fn no_more_objects_are_shown_than_fit_into_the_page() {
        let tally = Tally::default();
        tally.record(&definition(vec![
            trigger(0, "prometheus", None, "s0-prometheus"),
            trigger(2, "prometheus", Some("a-name"), "s2-prometheus"),
        ]));
        tally.record(&sample(0, Answer::Value(20.0), false));
        tally.record(&sample(2, failed(), true));
        let objects: Vec<_> = tally.objects().iter().map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        let size = estimate(&objects[0].0, &objects[0].1);
        let shown: usize =
            lines(&tally, "keda_").iter().filter(|line| line.contains("shop")).map(|line| line.len() + 1).sum();
        assert!(shown <= size && size < 5 * shown, "{shown} bytes, estimated as {size}");
        let many = vec![objects[0].clone(); 10];
        for (bytes, count) in [(0, 0), (size - 1, 0), (size, 1), (4 * size + 1, 4), (100 * size, 10)] {
            let mut fitting = many.clone();
            fit(&mut fitting, bytes);
            assert_eq!(fitting.len(), count, "{bytes}");
        }
        assert_eq!(lines(&tally, "hpalite_keda_metrics_left_out"), ["hpalite_keda_metrics_left_out 0"]);
        const { assert!(BYTES_MAX + (4 << 20) < crate::http::gate::limits::ANSWER_MAX) };
    }

    /// Regression: the names of triggers were not counted, so that those of one tenant made the page too large to be served.
    #[test]
    fn names_of_triggers_count_with_their_escapes_and_leave_out_only_their_own_object() {
        let name = "\"\\\n".repeat(100_000);
        let tally = Tally::default();
        let mut record = definition(vec![trigger(0, "prometheus", Some(&name), "s0-prometheus")]);
        let Record::Definition { resource_triggers, .. } = &mut record else { unreachable!() };
        resource_triggers[0].name = Some(name);
        tally.record(&record);
        tally.record(&sample(0, Answer::Value(20.0), false));
        tally.record(&sample(0, Answer::Missing(Missing::Empty), false));
        let object = tally.object(&key()).unwrap();
        let shown: usize =
            lines(&tally, "keda_").iter().filter(|line| line.contains("shop")).map(|line| line.len() + 1).sum();
        assert!(shown <= estimate(&key(), &object), "{shown} bytes");

        let mut objects = vec![(key(), Arc::clone(&object)); 40];
        objects.insert(20, (ObjectKey::new(ApiGroup::KedaSh, "shop", "small"), Arc::default()));
        objects.push((ObjectKey::new(ApiGroup::KedaSh, "zoo", "small"), Arc::default()));
        fit(&mut objects, BYTES_MAX);
        let large = objects.iter().filter(|(key, _)| &*key.name == "web").count();
        assert!((1..10).contains(&large), "{large}");
        assert_eq!(objects.len(), large + 2);
    }

    #[test]
    fn a_trigger_has_keda_s_labels_and_numbers() {
        let tally = Tally::default();
        tally.record(&definition(vec![trigger(0, "prometheus", None, "s0-prometheus")]));
        assert_eq!(lines(&tally, "keda_scaler_metrics_value"), [""; 0], "nothing is known yet");
        let labels = r#"{namespace="shop",metric="s0-prometheus",scaledObject="web",scaler="prometheusScaler",triggerIndex="0",type="scaledobject"}"#;
        assert_eq!(
            lines(&tally, "keda_scaler_detail_errors_total"),
            [format!("keda_scaler_detail_errors_total{labels} 0")]
        );
        tally.record(&sample(0, Answer::Value(-7.5), false));
        tally.publish(&reading("s0-prometheus", value(0.0)));
        for (name, number) in [
            ("keda_scaler_metrics_value", "-7.5"),
            ("keda_scaler_metrics_latency_seconds", "0.25"),
            ("keda_scaler_active", "0"),
        ] {
            assert_eq!(lines(&tally, name)[0], format!("{name}{labels} {number}"));
        }
        let cpu = r#"keda_scaler_active{namespace="shop",metric="cpu",scaledObject="web",scaler="cpuMemoryScaler",triggerIndex="1",type="scaledobject"} 1"#;
        assert_eq!(lines(&tally, "keda_scaler_active")[1], cpu);
        tally.record(&sample(0, Answer::Value(6.0), false));
        assert!(lines(&tally, "keda_scaler_active")[0].ends_with(" 1"));
        assert_eq!(
            lines(&tally, "keda_trigger_registered_total"),
            [r#"keda_trigger_registered_total{type="cpu"} 1"#, r#"keda_trigger_registered_total{type="prometheus"} 1"#]
        );
    }

    #[test]
    fn errors_are_counted_and_a_fallback_is_a_value_that_is_active() {
        let tally = Tally::default();
        tally.record(&definition(vec![trigger(0, "prometheus", Some("load"), "s0-prometheus")]));
        tally.record(&sample(0, Answer::Value(6.0), false));
        tally.record(&sample(0, failed(), true));
        let since = UnixMillis(0);
        tally.publish(&reading("s0-prometheus", Reading::Failed { message: String::new(), since }));
        assert!(lines(&tally, "keda_scaler_active")[0].ends_with(" 0"));
        assert!(lines(&tally, "keda_scaler_metrics_value")[0].contains(r#"scaler="load""#));
        assert!(lines(&tally, "keda_scaler_metrics_value")[0].ends_with(" 6"), "the last value that was read");
        tally.record(&sample(0, failed(), true));
        tally.publish(&reading("s0-prometheus", value(3.0)));
        assert!(lines(&tally, "keda_scaler_metrics_value")[0].ends_with(" 3"));
        assert!(lines(&tally, "keda_scaler_active")[0].ends_with(" 1"));
        let errors = r#"keda_scaled_object_errors_total{namespace="shop",scaledObject="web"} 2"#;
        assert_eq!(lines(&tally, "keda_scaled_object_errors_total"), [errors]);
        assert!(lines(&tally, "keda_scaler_detail_errors_total")[0].ends_with(" 2"));
        tally.record(&sample(0, Answer::Missing(Missing::Empty), false));
        tally.publish(&reading("s0-prometheus", value(0.0)));
        assert!(lines(&tally, "keda_scaler_metrics_value")[0].ends_with(" 0"));
        assert_eq!(
            lines(&tally, "keda_scaler_empty_upstream_responses_total"),
            [
                r#"keda_scaler_empty_upstream_responses_total{namespace="shop",scaledResource="web",triggerName="load",metricName="s0-prometheus",resourceType="ScaledObject",ignoreNullValues="true"} 1"#
            ]
        );
    }

    #[test]
    fn counters_survive_a_change_and_end_with_the_object() {
        let tally = Tally::default();
        let triggers = || vec![trigger(0, "prometheus", None, "s0-prometheus")];
        tally.record(&definition(triggers()));
        tally.record(&sample(0, failed(), true));
        let status = |status| Record::Condition {
            at: UnixMillis(0),
            object: key(),
            condition: Condition::new(ConditionKind::Paused, status, "", ""),
        };
        tally.record(&status(ConditionStatus::True));
        tally.record(&definition([triggers(), vec![trigger(2, "cron", None, "s2-cron")]].concat()));
        assert!(lines(&tally, "keda_scaled_object_errors_total")[0].ends_with(" 1"));
        assert!(lines(&tally, "keda_scaler_detail_errors_total")[0].ends_with(" 1"));
        assert!(lines(&tally, "keda_scaled_object_paused")[0].ends_with(" 1"));
        tally.record(&status(ConditionStatus::False));
        assert!(lines(&tally, "keda_scaled_object_paused")[0].ends_with(" 0"));
        tally.record(&Record::Removed { at: UnixMillis(0), object: key() });
        tally.record(&sample(0, failed(), true));
        assert_eq!(lines(&tally, "keda_s"), [""; 0]);
    }

    #[test]
    fn only_the_formula_decides_whether_its_object_is_active() {
        let tally = Tally::default();
        let formula = trigger(composite::INDEX, "formula", None, composite::NAME);
        tally.record(&definition(vec![trigger(0, "prometheus", Some("a"), "s0-prometheus"), formula]));
        tally.record(&sample(0, Answer::Value(9.0), false));
        tally.record(&sample(composite::INDEX, Answer::Value(4.5), false));
        let active = lines(&tally, "keda_scaler_active");
        assert!(active[0].contains(r#"metric="composite-metric""#) && active[0].contains(r#"triggerIndex="0""#));
        assert!(active[0].ends_with(" 0") && active[1].contains("cpuMemoryScaler") && active.len() == 2, "{active:?}");
        assert_eq!(lines(&tally, "keda_scaler_metrics_value{").len(), 2);
        assert_eq!(lines(&tally, "keda_scaler_metrics_latency_seconds{").len(), 1, "a formula makes no request");
    }
}
