//! Reads of `external.metrics.k8s.io/v1beta1`, answered from memory.
//!
//! Owns the published pictures and the answer to `GET …/namespaces/<ns>/<metric>`. Asks no server
//! and waits for none: what the core has not learned yet is an error that says so, which makes the
//! HPA hold still, where a made-up value would make it scale.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use super::Response;
use crate::logfmt;
use crate::scaling::model::{ApiGroup, ObjectKey};
use crate::scaling::quantity;
use crate::scaling::view::{MetricView, ObjectView, Reading};

/// The pictures that the core publishes. Locked only to look one up or to swap one in.
#[derive(Debug, Default)]
pub struct Published {
    /// By namespace, then by object: a selector may match several objects of a namespace.
    namespaces: RwLock<HashMap<Arc<str>, Objects>>,
}

type Objects = HashMap<ObjectKey, Arc<ObjectView>>;

impl Published {
    pub fn set(&self, key: &ObjectKey, view: Option<Arc<ObjectView>>) {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        match view {
            Some(view) => {
                namespaces.entry(Arc::clone(&key.namespace)).or_default().insert(key.clone(), view);
            }
            None => {
                if let Some(objects) = namespaces.get_mut(&key.namespace) {
                    objects.remove(key);
                    if objects.is_empty() {
                        namespaces.remove(&key.namespace);
                    }
                }
            }
        }
    }

    /// Objects of a namespace whose one label is matched, in the order of their names.
    fn matching(&self, namespace: &str, matches: &dyn Fn(&str, &str) -> bool) -> Vec<Arc<ObjectView>> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let objects = namespaces.get(namespace).into_iter().flatten();
        let mut found: Vec<_> = objects
            .filter(|(_, view)| matches(&view.selector.0, &view.selector.1))
            .map(|(_, view)| Arc::clone(view))
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    /// The object that KEDA's own selector names; the case of every HPA read.
    fn named(&self, namespace: &str, name: &str) -> Option<Arc<ObjectView>> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(namespace)?.get(&ObjectKey::new(ApiGroup::KedaSh, namespace, name)).cloned()
    }
}

/// What of a label selector concerns this API: each object here has exactly one label.
pub enum Selection<'a> {
    /// `scaledobject.keda.sh/name=<name>` and nothing else.
    Name(&'a str),
    /// Any other selector; true when an object with this one label matches.
    Other(&'a dyn Fn(&str, &str) -> bool),
}

/// Answers one read. `read` is told each object whose metric was looked at.
pub fn get(
    published: &Published,
    namespace: &str,
    metric: &str,
    selection: &Selection<'_>,
    read: &dyn Fn(&ObjectKey),
) -> Response {
    let views = match selection {
        Selection::Name(name) => published.named(namespace, name).into_iter().collect(),
        Selection::Other(matches) => published.matching(namespace, *matches),
    };
    let mut items = Items::default();
    let mut broken = None;
    for view in &views {
        let Some(found) = view.metrics.iter().find(|known| known.name.eq_ignore_ascii_case(metric)) else {
            broken = broken.or(view.error.as_ref().map(|error| (view, error)));
            continue;
        };
        read(&view.key);
        if let Some(error) = &view.error {
            return failed(&view.key, &found.name, error);
        }
        match &found.reading {
            Reading::Value { value, at } => items.push(found, *value, at.0),
            Reading::Pending => return failed(&view.key, &found.name, "its trigger has not been asked yet"),
            Reading::Failed { message, .. } => return failed(&view.key, &found.name, message),
        }
    }
    if items.is_empty() {
        // An object that is broken as a whole has no metrics to be found: say why.
        if let Some((view, error)) = broken {
            return failed(&view.key, metric, error);
        }
        let message =
            format!("no metric {metric} of a ScaledObject that the selector matches in namespace {namespace}");
        return Response::status(404, "NotFound", &message);
    }
    Response::json(200, items.finish())
}

/// This text ends up in the HPA's conditions and events, where equal texts are counted and
/// different ones pile up: it holds no time, no id and no number that moves.
fn failed(key: &ObjectKey, metric: &str, error: &str) -> Response {
    Response::status(500, "InternalError", &format!("metric {metric} of ScaledObject {key}: {error}"))
}

#[derive(Default)]
struct Items {
    text: String,
}

impl Items {
    fn push(&mut self, metric: &MetricView, value: f64, at_unix_ms: i64) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let at = logfmt::iso(at_unix_ms);
        let seconds = at.get(..19).unwrap_or("1970-01-01T00:00:00");
        let _ = write!(
            self.text,
            r#"{{"metricName":{},"metricLabels":null,"timestamp":"{seconds}Z","value":"{}"}}"#,
            serde_json::Value::from(&*metric.name),
            quantity::text(quantity::signed_milli(value).into()),
        );
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn finish(self) -> String {
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
                .map(|(name, reading)| MetricView { name: (*name).into(), reading: reading.clone(), cached: false })
                .collect(),
            error: error.map(str::to_owned),
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
        let response = get(published, "shop", metric, &Selection::Name(name), &|_| ());
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
    fn what_a_formula_gives_below_zero_stays_below_zero() {
        let published = published(&[view("web", &[("composite-metric", value(-2.5))], None)]);
        assert_eq!(ask(&published, "composite-metric", "web").1["items"][0]["value"], "-2500m");
    }

    #[test]
    fn what_is_not_known_is_an_error_and_never_a_value() {
        let failing = Reading::Failed { message: "http://p: 503".to_owned(), since: UnixMillis(5) };
        let published = published(&[
            view("pending", &[("s0-prometheus", Reading::Pending)], None),
            view("failing", &[("s0-prometheus", failing)], None),
            view("broken", &[], Some("bad spec")),
        ]);
        for (name, metric, code, text) in [
            ("pending", "s0-prometheus", 500, "not been asked yet"),
            ("failing", "s0-prometheus", 500, "metric s0-prometheus of ScaledObject shop/failing: http://p: 503"),
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
    fn other_selectors_may_match_several_objects() {
        let published = published(&[
            view("a", &[("s0-prometheus", value(1.0))], None),
            view("b", &[("s0-prometheus", value(2.0))], None),
            view("c", &[("s9-prometheus", value(3.0))], None),
        ]);
        let all = |_: &str, _: &str| true;
        let seen = std::cell::RefCell::new(Vec::new());
        let response = get(&published, "shop", "s0-prometheus", &Selection::Other(&all), &|key| {
            seen.borrow_mut().push(key.name.to_string());
        });
        let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
        assert_eq!(body["items"].as_array().unwrap().len(), 2);
        assert_eq!(*seen.borrow(), ["a", "b"]);
        assert_eq!(get(&published, "elsewhere", "s0-prometheus", &Selection::Other(&all), &|_| ()).status, 404);
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
