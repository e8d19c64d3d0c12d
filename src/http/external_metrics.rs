//! Reads of `external.metrics.k8s.io/v1beta1`, answered from memory.
//!
//! Owns the published views and the answer to `GET …/namespaces/<ns>/<metric>`. Asks no server. A few reads at a time
//! may wait for the first answer to a query that is under way; otherwise a value that the core does not have yet is
//! an error that says so. An error makes the HPA hold, while a made-up value would make it scale.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::Response;
use crate::scaling::age;
use crate::scaling::model::{ApiGroup, Asked, AskedOf, ObjectKey, UnixMillis};
use crate::scaling::quantity;
use crate::scaling::view::{MetricView, ObjectView, Reading};
use crate::wire::labels::Selector;
use crate::wire::time::format_seconds;

/// Reads that wait at once: as many as the HPA controller has workers. The gate has a few more patient workers, so that
/// others are answered meanwhile.
const WAITING_MAX: usize = 5;
/// Longest wait. It ends with the trigger's own timeout, about 3 s, unless polls queue; the HPA controller's client has
/// no limit of its own, and other clients give up after 10 s.
pub const FIRST_SAMPLE: Duration = Duration::from_secs(8);

/// The views that the core publishes. Locked only to look one up or to replace one.
pub struct Published {
    /// By namespace, then by object, since a selector may match several objects of a namespace.
    namespaces: RwLock<HashMap<Arc<str>, Namespace>>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    clock: Stopwatch,
}

/// A monotonic time since some fixed moment: samples age by it even if the core hangs.
pub type Stopwatch = Box<dyn Fn() -> Duration + Send + Sync>;

/// A view, and when it was published, by the [`Stopwatch`].
#[derive(Clone)]
struct Picture {
    view: Arc<ObjectView>,
    came: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    /// Incremented with each view that is published while a read waits.
    generation: u64,
}

/// One of the places for reads that wait.
struct Place<'p> {
    published: &'p Published,
    until: Instant,
    seen: u64,
}

/// The objects of a namespace.
#[derive(Default)]
struct Namespace {
    objects: HashMap<ObjectKey, Picture>,
    /// Annotated HPAs by the metrics that they ask for, in lower case.
    asking: HashMap<String, Vec<ObjectKey>>,
}

impl Namespace {
    /// Replaces the view of an object; `None` removes it.
    fn swap(&mut self, key: &ObjectKey, picture: Option<Picture>) -> Option<Arc<ObjectView>> {
        let asked = picture.as_ref().map(|picture| Arc::clone(&picture.view.asked)).unwrap_or_default();
        let old = match picture {
            Some(picture) => self.objects.insert(key.clone(), picture),
            None => self.objects.remove(key),
        };
        let before = old.as_ref().map(|picture| Arc::clone(&picture.view.asked)).unwrap_or_default();
        if before != asked {
            for gone in before.iter() {
                let name = gone.metric.to_ascii_lowercase();
                if let Some(keys) = self.asking.get_mut(&name) {
                    keys.retain(|other| other != key);
                    if keys.is_empty() {
                        self.asking.remove(&name);
                    }
                }
            }
            for new in asked.iter() {
                let keys = self.asking.entry(new.metric.to_ascii_lowercase()).or_default();
                if !keys.contains(key) {
                    keys.push(key.clone());
                }
            }
        }
        old.map(|picture| picture.view)
    }
}

impl Default for Published {
    fn default() -> Self {
        let started = Instant::now();
        Self::new(Box::new(move || started.elapsed()))
    }
}

impl Published {
    #[must_use]
    pub fn new(clock: Stopwatch) -> Self {
        Self { namespaces: RwLock::default(), waiting: Mutex::default(), changed: Condvar::new(), clock }
    }

    pub fn set(&self, key: &ObjectKey, view: Option<Arc<ObjectView>>) {
        let old = self.swap(key, view);
        let was_pending = old.as_deref().is_some_and(has_pending);
        if was_pending {
            let mut waiting = self.waiting();
            if waiting.count > 0 {
                waiting.generation += 1;
                self.changed.notify_all();
            }
        }
    }

    fn swap(&self, key: &ObjectKey, view: Option<Arc<ObjectView>>) -> Option<Arc<ObjectView>> {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        let Some(view) = view else {
            let namespace = namespaces.get_mut(&key.namespace)?;
            let old = namespace.swap(key, None);
            if namespace.objects.is_empty() {
                namespaces.remove(&key.namespace);
            }
            return old;
        };
        let picture = Picture { view, came: (self.clock)() };
        namespaces.entry(Arc::clone(&key.namespace)).or_default().swap(key, Some(picture))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns None if [`WAITING_MAX`] reads wait already, or none may.
    fn place(&self, patience: Duration) -> Option<Place<'_>> {
        let mut waiting = self.waiting();
        if patience.is_zero() || waiting.count >= WAITING_MAX {
            return None;
        }
        waiting.count += 1;
        Some(Place { published: self, until: Instant::now() + patience, seen: waiting.generation })
    }

    /// Looks again whenever something is published, until there is an answer or the time is over; `None` if no more reads
    /// may wait.
    pub(super) fn patiently(&self, patience: Duration, look: &dyn Fn() -> Look) -> Option<Look> {
        let mut place = self.place(patience)?;
        // The first time now that the place is taken: a view published in between has woken nobody.
        loop {
            match look() {
                Look::Pending(response) if !place.wait() => return Some(Look::Pending(response)),
                Look::Pending(_) => {}
                answer => return Some(answer),
            }
        }
    }

    /// Returns the ScaledObjects of a namespace whose label matches, ordered by name.
    fn matching(&self, namespace: &str, selector: &Selector) -> Vec<Picture> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let objects = namespaces.get(namespace).into_iter().flat_map(|namespace| &namespace.objects);
        let matches = |(key, value): &(String, String)| selector.matches(|asked| (asked == key).then_some(value));
        let mut found: Vec<_> = objects
            .map(|(_, picture)| picture)
            .filter(|picture| picture.view.key.group != ApiGroup::Autoscaling && matches(&picture.view.selector))
            .cloned()
            .collect();
        found.sort_by(|a, b| a.view.key.cmp(&b.view.key));
        found
    }

    /// Returns the metrics of this name that annotated HPAs ask for and the selector matches. An HPA's own read demands
    /// exactly its labels, and is answered with its own metric alone: what is selected besides would be added to it.
    fn asked(&self, namespace: &str, metric: &str, selector: &Selector) -> (Vec<AskedMetric>, bool) {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let Some(namespace) = namespaces.get(namespace) else { return (Vec::new(), false) };
        let keys = namespace.asking.get(&metric.to_ascii_lowercase()).into_iter().flatten();
        let all = keys.filter_map(|key| namespace.objects.get(key)).flat_map(|picture| {
            let asked = picture.view.asked.iter().enumerate();
            let named =
                asked.filter(|(_, asked)| asked.of == AskedOf::External && asked.metric.eq_ignore_ascii_case(metric));
            named.map(move |(place, asked)| (picture, place, asked))
        });
        let mut own: Option<(&Picture, usize)> = None;
        for (picture, place, _) in all.clone().filter(|(.., asked)| demands(selector, asked)) {
            if own.is_none_or(|(best, _)| rank(picture) < rank(best)) {
                own = Some((picture, place));
            }
        }
        if let Some((picture, place)) = own {
            return (vec![AskedMetric { picture: picture.clone(), place }], true);
        }
        let selected = all.filter(|(.., asked)| {
            selector.matches(|key| asked.labels.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str()))
        });
        let mut selected: Vec<AskedMetric> =
            selected.map(|(picture, place, _)| AskedMetric { picture: picture.clone(), place }).collect();
        selected.sort_by_key(|one| (rank(&one.picture), one.place));
        (selected, false)
    }

    /// Returns the metrics of this name that annotated HPAs ask for in `custom.metrics.k8s.io` by exactly this selector of
    /// the metric; first those that work.
    pub(super) fn asked_of_objects(&self, namespace: &str, metric: &str, selector: &Selector) -> Vec<AskedMetric> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let Some(namespace) = namespaces.get(namespace) else { return Vec::new() };
        let keys = namespace.asking.get(&metric.to_ascii_lowercase()).into_iter().flatten();
        let mut found = Vec::new();
        for picture in keys.filter_map(|key| namespace.objects.get(key)) {
            let is_wanted = |asked: &Asked| {
                asked.of != AskedOf::External && asked.metric.eq_ignore_ascii_case(metric) && demands(selector, asked)
            };
            let places = picture.view.asked.iter().enumerate().filter(|(_, asked)| is_wanted(asked));
            found.extend(places.map(|(place, _)| AskedMetric { picture: picture.clone(), place }));
        }
        found.sort_by_key(|one| (rank(&one.picture), one.place));
        found
    }

    /// Returns the object that KEDA's own selector names, as every read of an HPA does.
    fn named(&self, namespace: &str, name: &str) -> Option<Picture> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(namespace)?.objects.get(&ObjectKey::new(ApiGroup::KedaSh, namespace, name)).cloned()
    }
}

/// Of several that ask alike one that works goes first: the core has put an error on those that contradict it.
fn rank(picture: &Picture) -> (bool, ObjectKey) {
    (picture.view.error.is_some(), picture.view.key.clone())
}

/// Returns whether a selector demands exactly the labels by which an HPA asks.
fn demands(selector: &Selector, asked: &Asked) -> bool {
    let labels = asked.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    selector.demanded().is_some_and(|demanded| demanded.iter().copied().eq(labels))
}

/// Returns whether a read is an object's own: of a ScaledObject that its selector names, or by the labels that an
/// annotated HPA demands.
pub(super) fn is_own(published: &Published, namespace: &str, metric: &str, selection: &Selection<'_>) -> bool {
    match selection {
        Selection::Name(name) => published.named(namespace, name).is_some(),
        Selection::Other(selector) => published.asked(namespace, metric, selector).1,
    }
}

/// What a label selector selects. The metrics of a ScaledObject have exactly one label, and those of an annotated HPA the
/// labels that its own selector demands.
pub enum Selection<'a> {
    /// `scaledobject.keda.sh/name=<name>` and nothing else.
    Name(&'a str),
    /// Any other selector.
    Other(&'a Selector),
}

/// The metric of an annotated HPA: its view, and the place of the metric in it.
pub(super) struct AskedMetric {
    picture: Picture,
    place: usize,
}

impl AskedMetric {
    pub(super) fn key(&self) -> &ObjectKey {
        &self.picture.view.key
    }

    pub(super) fn asked(&self) -> Option<&Asked> {
        self.picture.view.asked.get(self.place)
    }

    /// Returns what is known of it; `None` if the object is unusable, or was not asked yet.
    pub(super) fn metric(&self) -> Option<&MetricView> {
        self.picture.view.metrics.get(self.place)
    }

    /// Returns its value and the time of that, or the answer instead of it.
    pub(super) fn value(&self, published: &Published) -> Result<(f64, UnixMillis), Look> {
        let view = &self.picture.view;
        let name = self.asked().map_or("", |asked| asked.metric.as_str());
        match (&view.error, self.metric()) {
            (Some(error), _) => Err(Look::Answer(failed(&view.key, name, error))),
            (None, None) => Err(Look::Pending(failed(&view.key, name, NOT_ASKED))),
            (None, Some(metric)) => value(published, &self.picture, metric, name),
        }
    }
}

impl Place<'_> {
    /// Waits until a view has been published since the last call; returns false once the time is over.
    fn wait(&mut self) -> bool {
        let waiting = self.published.waiting();
        let left = self.until.saturating_duration_since(Instant::now());
        let changed = &self.published.changed;
        let (waiting, _) = changed
            .wait_timeout_while(waiting, left, |waiting| waiting.generation == self.seen)
            .unwrap_or_else(PoisonError::into_inner);
        let is_news = waiting.generation != self.seen;
        self.seen = waiting.generation;
        is_news
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.published.waiting().count -= 1;
    }
}

fn has_pending(view: &ObjectView) -> bool {
    let is_pending = |metric: &MetricView| metric.reading == Reading::Pending;
    view.error.is_none() && (view.metrics.len() < view.asked.len() || view.metrics.iter().any(is_pending))
}

/// Answers one read, after waiting for a first sample for up to `patience`. It starts no poll: the core sends an
/// object's first query as soon as it knows the object. `read` is called with each object whose metric was looked at.
pub fn get(
    published: &Published,
    namespace: &str,
    metric: &str,
    selection: &Selection<'_>,
    read: &dyn Fn(&ObjectKey),
    patience: Duration,
) -> Look {
    let pending = match look(published, namespace, metric, selection, read) {
        Look::Pending(response) => Look::Pending(response),
        answer => return answer,
    };
    let again = || look(published, namespace, metric, selection, &|_| ());
    published.patiently(patience, &again).unwrap_or(pending)
}

/// The result of looking at the published views.
pub enum Look {
    Answer(Response),
    /// A first sample is still to come; holds the answer for a client that does not wait.
    Pending(Response),
    /// Nobody here gives the metric; holds the answer if nobody else does either.
    Unknown(Response),
}

impl Look {
    #[must_use]
    pub fn response(self) -> Response {
        let (Self::Answer(response) | Self::Pending(response) | Self::Unknown(response)) = self;
        response
    }
}

fn look(
    published: &Published,
    namespace: &str,
    metric: &str,
    selection: &Selection<'_>,
    read: &dyn Fn(&ObjectKey),
) -> Look {
    let (asked, pictures) = match selection {
        Selection::Name(name) => (Vec::new(), published.named(namespace, name).into_iter().collect::<Vec<_>>()),
        Selection::Other(selector) => match published.asked(namespace, metric, selector) {
            (own, true) => (own, Vec::new()),
            (asked, false) => (asked, published.matching(namespace, selector)),
        },
    };
    let mut items = Items::default();
    let mut broken = None;
    for one in &asked {
        let (view, Some(asked)) = (&one.picture.view, one.asked()) else { continue };
        read(&view.key);
        if let Some(error) = &view.error {
            broken = broken.or(Some((view, error)));
            continue;
        }
        let Some(found) = view.metrics.get(one.place) else {
            return Look::Pending(failed(&view.key, &asked.metric, NOT_ASKED));
        };
        match value(published, &one.picture, found, &asked.metric) {
            Ok((value, at)) => items.push(&asked.metric, &asked.labels, value, at),
            Err(look) => return look,
        }
    }
    for picture in &pictures {
        let view = &picture.view;
        let Some(found) = view.metrics.iter().find(|known| known.name.eq_ignore_ascii_case(metric)) else {
            broken = broken.or(view.error.as_ref().map(|error| (view, error)));
            continue;
        };
        read(&view.key);
        if let Some(error) = &view.error {
            return Look::Answer(failed(&view.key, &found.name, error));
        }
        match value(published, picture, found, &found.name) {
            Ok((value, at)) => items.push(&found.name, &[], value, at),
            Err(look) => return look,
        }
    }
    if items.is_empty() {
        // An object that is broken as a whole has no metrics to look up, so its own error is returned. Unless it is named,
        // the metric may be another's all the same.
        if let Some((view, error)) = broken {
            let response = failed(&view.key, metric, error);
            let is_named = matches!(selection, Selection::Name(_)) || !asked.is_empty();
            return if is_named { Look::Answer(response) } else { Look::Unknown(response) };
        }
        let message = format!(
            "no metric {metric} of a ScaledObject or annotated HPA that the selector matches in namespace {namespace}"
        );
        let response = Response::status(404, "NotFound", &message);
        // A metric of an object that is here is nobody else's.
        return if pictures.is_empty() || !matches!(selection, Selection::Name(_)) {
            Look::Unknown(response)
        } else {
            Look::Answer(response)
        };
    }
    Look::Answer(Response::json(200, items.finish()))
}

const NOT_ASKED: &str = "its trigger has not been asked yet";

/// Returns the value of a metric and its time, or the answer instead of it.
fn value(published: &Published, picture: &Picture, found: &MetricView, name: &str) -> Result<(f64, UnixMillis), Look> {
    let Picture { view, came } = picture;
    match &found.reading {
        Reading::Value { value, at } => {
            // The core itself turns an old sample into an error, unless it hangs or has just resumed.
            let age = view.made_at.since(*at).saturating_add((published.clock)().saturating_sub(*came));
            match found.age_limit.filter(|limit| age > *limit) {
                Some(limit) => Err(Look::Answer(failed(&view.key, name, &age::silence(limit)))),
                None => Ok((*value, *at)),
            }
        }
        Reading::Pending => Err(Look::Pending(failed(&view.key, name, NOT_ASKED))),
        Reading::Failed { message, since } => {
            // The start of the failure stays the same while it lasts, and so does the text.
            let message = format!("{message}, since {}", format_seconds(*since));
            Err(Look::Answer(failed(&view.key, name, &message)))
        }
    }
}

/// This text goes into the HPA's conditions and Events, where equal texts are counted and different ones add up:
/// it must hold no id, and no time or number that changes.
fn failed(key: &ObjectKey, metric: &str, error: &str) -> Response {
    let object = match key.group {
        ApiGroup::KedaSh | ApiGroup::KedaK8sIo => key.to_string(),
        ApiGroup::Autoscaling => format!("{}/{}", key.namespace, key.name),
    };
    Response::status(500, "InternalError", &format!("metric {metric} of {} {object}: {error}", key.group.noun()))
}

/// The items of a list, as JSON.
#[derive(Default)]
pub(super) struct Items {
    text: String,
}

impl Items {
    pub(super) fn push(&mut self, name: &str, labels: &[(String, String)], value: f64, at: UnixMillis) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let at = format_seconds(at);
        let labels = match labels {
            [] => serde_json::Value::Null,
            labels => serde_json::json!(labels.iter().map(|(key, value)| (key, value)).collect::<BTreeMap<_, _>>()),
        };
        let _ = write!(
            self.text,
            r#"{{"metricName":{},"metricLabels":{labels},"timestamp":"{at}","value":"{}"}}"#,
            serde_json::Value::from(name),
            quantity::text(quantity::milli(value).into()),
        );
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn finish(self) -> String {
        format!(
            r#"{{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{{}},"items":[{}]}}"#,
            self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::UnixMillis;

    fn view(name: &str, readings: &[(&str, Reading)], error: Option<&str>) -> Arc<ObjectView> {
        Arc::new(ObjectView {
            key: ObjectKey::new(ApiGroup::KedaSh, "shop", name),
            selector: ("scaledobject.keda.sh/name".to_owned(), name.to_owned()),
            metrics: readings
                .iter()
                .map(|(name, reading)| MetricView {
                    name: (*name).into(),
                    reading: reading.clone(),
                    cached: false,
                    age_limit: Some(Duration::from_secs(93)),
                    pods: None,
                })
                .collect(),
            asked: Arc::default(),
            error: error.map(str::to_owned),
            made_at: UnixMillis(1_767_323_046_000),
        })
    }

    fn published(views: &[Arc<ObjectView>]) -> Published {
        let published = Published::default();
        for view in views {
            published.set(&view.key, Some(Arc::clone(view)));
        }
        published
    }

    fn value(value: f64) -> Reading {
        Reading::Value { value, at: UnixMillis(1_767_323_045_678) }
    }

    fn ask(published: &Published, metric: &str, name: &str) -> (u16, serde_json::Value) {
        let response = get(published, "shop", metric, &Selection::Name(name), &|_| (), Duration::ZERO).response();
        assert_eq!(response.content_type, super::super::JSON);
        (response.status, serde_json::from_slice(response.body.as_bytes()).unwrap())
    }

    #[test]
    fn a_value_is_served_as_the_hpa_wants_it() {
        let published = published(&[view("web", &[("s0-prometheus", value(2.5))], None)]);
        let (status, body) = ask(&published, "S0-Prometheus", "web");
        assert_eq!(status, 200);
        assert_eq!(
            body,
            serde_json::json!({
                "kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {},
                "items": [{ "metricName": "s0-prometheus", "metricLabels": null, "timestamp": "2026-01-02T03:04:05Z", "value": "2500m" }],
            })
        );
    }

    #[test]
    fn nothing_below_zero_reaches_the_hpa() {
        let published = published(&[view("web", &[("composite-metric", value(-2.5))], None)]);
        assert_eq!(ask(&published, "composite-metric", "web").1["items"][0]["value"], "0");
    }

    #[test]
    fn what_is_not_known_is_an_error_and_never_a_value() {
        let since = UnixMillis(1_767_323_045_678);
        let failing = Reading::Failed { message: "http://p: 503".to_owned(), since };
        let published = published(&[
            view("pending", &[("s0-prometheus", Reading::Pending)], None),
            view("failing", &[("s0-prometheus", failing)], None),
            view("broken", &[], Some("bad spec")),
        ]);
        for (name, metric, code, text) in [
            ("pending", "s0-prometheus", 500, "not been asked yet"),
            (
                "failing",
                "s0-prometheus",
                500,
                "metric s0-prometheus of ScaledObject shop/failing: http://p: 503, since 2026-01-02T03:04:05Z",
            ),
            ("broken", "s0-prometheus", 500, "bad spec"),
            ("failing", "s1-prometheus", 404, "no metric s1-prometheus"),
            ("absent", "s0-prometheus", 404, "no metric"),
        ] {
            let (status, body) = ask(&published, metric, name);
            assert_eq!(status, code, "{name}");
            assert!(body["message"].as_str().unwrap().contains(text), "{name}: {body}");
        }
    }

    #[test]
    fn a_reading_has_an_age_even_if_the_core_hangs() {
        let passed = Arc::new(std::sync::atomic::AtomicU64::new(5_000));
        let clock = Arc::clone(&passed);
        let millis = move || Duration::from_millis(clock.load(std::sync::atomic::Ordering::SeqCst));
        let published = Published::new(Box::new(millis));
        let mut computed = (*view("cron", &[("s0-cron", value(2.0))], None)).clone();
        computed.metrics[0].age_limit = None;
        for view in [view("web", &[("s0-prometheus", value(2.5))], None), Arc::new(computed)] {
            published.set(&view.key, Some(Arc::clone(&view)));
        }
        // The poll was 322 ms before the publication, and a sample may be 93 s old.
        for (later, status) in [(0, 200), (92_678, 200), (92_679, 500), (1_000_000_000, 500)] {
            passed.store(5_000 + later, std::sync::atomic::Ordering::SeqCst);
            let (found, body) = ask(&published, "s0-prometheus", "web");
            assert_eq!(found, status, "{later}: {body}");
            if found == 500 {
                let expected = "metric s0-prometheus of ScaledObject shop/web: no answer for more than 93 s";
                assert_eq!(body["message"], expected);
            }
            assert_eq!(ask(&published, "s0-cron", "cron").0, 200, "the clock is nobody's to ask");
        }
    }

    #[test]
    fn other_selectors_may_match_several_objects() {
        let published = published(&[
            view("a", &[("s0-prometheus", value(1.0))], None),
            view("b", &[("s0-prometheus", value(2.0))], None),
            view("c", &[("s9-prometheus", value(3.0))], None),
        ]);
        let all = Selector::default();
        let seen = std::cell::RefCell::new(Vec::new());
        let response = get(
            &published,
            "shop",
            "s0-prometheus",
            &Selection::Other(&all),
            &|key| {
                seen.borrow_mut().push(key.name.to_string());
            },
            Duration::ZERO,
        )
        .response();
        let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
        assert_eq!(body["items"].as_array().unwrap().len(), 2);
        assert_eq!(*seen.borrow(), ["a", "b"]);
        assert_eq!(
            get(&published, "elsewhere", "s0-prometheus", &Selection::Other(&all), &|_| (), Duration::ZERO)
                .response()
                .status,
            404
        );
    }

    /// The view of an HPA that asks for metrics of these names by these labels, with values 1, 2, …
    fn of_hpa(name: &str, asked: &[(&str, &[(&str, &str)])], error: Option<&str>) -> Arc<ObjectView> {
        let owned = |labels: &[(&str, &str)]| labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let readings: Vec<(&str, Reading)> =
            asked.iter().zip(1_u8..).map(|((m, _), n)| (*m, value(n.into()))).collect();
        Arc::new(ObjectView {
            key: ObjectKey::new(ApiGroup::Autoscaling, "shop", name),
            asked: asked
                .iter()
                .map(|(m, labels)| Asked { metric: (*m).to_owned(), labels: owned(labels), of: AskedOf::External })
                .collect(),
            ..(*view(name, if error.is_some() { &[] } else { &readings }, error)).clone()
        })
    }

    fn select(published: &Published, metric: &str, selector: &str) -> (u16, serde_json::Value) {
        let selector = Selector::parse(selector).unwrap();
        let response = get(published, "shop", metric, &Selection::Other(&selector), &|_| (), Duration::ZERO).response();
        (response.status, serde_json::from_slice(response.body.as_bytes()).unwrap())
    }

    #[test]
    fn an_hpa_reads_the_metric_that_it_asks_for_and_no_other() {
        let prometheus: &[(&str, &str)] = &[("type", "prometheus")];
        let more: &[(&str, &str)] = &[("env", "prod"), ("type", "prometheus")];
        let published = published(&[
            of_hpa("a", &[("rps", prometheus), ("rps", more), ("prometheus-query", &[("query-name", "one")])], None),
            view("web", &[("rps", value(9.0))], None),
        ]);
        for (metric, selector, expected) in [
            ("rps", "type=prometheus", "1"),
            ("RPS", "type==prometheus", "1"),
            ("rps", "type=prometheus,env=prod", "2"),
            ("prometheus-query", "query-name=one", "3"),
            ("rps", "env in (prod)", "2"),
        ] {
            let (status, body) = select(&published, metric, selector);
            let items = body["items"].as_array().unwrap();
            assert_eq!((status, items.len(), &items[0]["value"]), (200, 1, &expected.into()), "{selector}: {body}");
        }
        let (_, body) = select(&published, "rps", "type=prometheus,env=prod");
        let item = &body["items"][0];
        assert_eq!((&item["metricName"], &item["metricLabels"]["env"]), (&"rps".into(), &"prod".into()), "{body}");
        // A selector that is no HPA's own selects, as any.
        assert_eq!(select(&published, "rps", "type").1["items"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            select(&published, "rps", "").1["items"].as_array().map(Vec::len),
            Some(3),
            "the ScaledObject's too"
        );
        assert_eq!(select(&published, "rps", "type=sqs").0, 404);
        assert_eq!(select(&published, "other", "type=prometheus").0, 404);
        assert_eq!(ask(&published, "rps", "a").0, 404, "KEDA's selector is of ScaledObjects");
    }

    #[test]
    fn of_two_hpas_that_ask_alike_the_one_that_works_answers() {
        let labels: &[(&str, &str)] = &[("type", "prometheus")];
        let (broken, works) = (of_hpa("a", &[("rps", labels)], Some("broken")), of_hpa("b", &[("rps", labels)], None));
        let published = published(&[Arc::clone(&broken), Arc::clone(&works)]);
        assert_eq!(select(&published, "rps", "type=prometheus").1["items"][0]["value"], "1");
        published.set(&works.key, None);
        let (status, body) = select(&published, "rps", "type=prometheus");
        assert_eq!((status, &body["message"]), (500, &"metric rps of HPA shop/a: broken".into()));
        // It asks for something else now.
        published.set(&broken.key, Some(of_hpa("a", &[("other", labels)], None)));
        assert_eq!(select(&published, "rps", "type=prometheus").0, 404);
        assert_eq!(select(&published, "other", "type=prometheus").0, 200);
        let unasked = ObjectView { metrics: Vec::new(), ..(*of_hpa("a", &[("other", labels)], None)).clone() };
        published.set(&broken.key, Some(Arc::new(unasked)));
        let (status, body) = select(&published, "other", "type=prometheus");
        assert!(status == 500 && body["message"].as_str().unwrap().contains("has not been asked yet"), "{body}");
        published.set(&broken.key, None);
        assert!(published.namespaces.read().unwrap().is_empty());
    }

    fn pending(name: &str) -> Arc<ObjectView> {
        view(name, &[("s0-prometheus", Reading::Pending)], None)
    }

    #[test]
    fn a_first_read_waits_for_the_answer_and_never_for_long() {
        let web = pending("web");
        let published = published(&[Arc::clone(&web), pending("other")]);
        let ask =
            |patience| get(&published, "shop", "s0-prometheus", &Selection::Name("web"), &|_| (), patience).response();
        let at_once = get(&published, "shop", "s0-prometheus", &Selection::Name("web"), &|_| (), Duration::ZERO);
        assert!(matches!(at_once, Look::Pending(_)), "for those who may wait");
        assert_eq!(ask(Duration::from_millis(20)).status, 500);
        std::thread::scope(|scope| {
            let readers: Vec<_> =
                (0..WAITING_MAX).map(|_| scope.spawn(|| ask(Duration::from_secs(60)).status)).collect();
            let until = Instant::now() + Duration::from_secs(30);
            while published.waiting().count < WAITING_MAX {
                assert!(Instant::now() < until);
                std::thread::yield_now();
            }
            // One more read than may wait is answered immediately.
            let started = Instant::now();
            assert_eq!(ask(Duration::from_secs(60)).status, 500);
            assert!(started.elapsed() < Duration::from_secs(30));
            // A view of another object does not end the wait.
            published.set(&pending("other").key, None);
            published.set(&web.key, Some(view("web", &[("s0-prometheus", value(2.0))], None)));
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 200);
            }
        });
        assert_eq!(published.waiting().count, 0);
    }

    #[test]
    fn a_removed_object_is_gone_at_once() {
        let web = view("web", &[("s0-prometheus", value(1.0))], None);
        let published = published(&[Arc::clone(&web)]);
        published.set(&web.key, None);
        assert_eq!(ask(&published, "s0-prometheus", "web").0, 404);
        assert!(published.namespaces.read().unwrap().is_empty());
    }
}
