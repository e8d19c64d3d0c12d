//! Reads of `custom.metrics.k8s.io`, v1beta1 and v1beta2, and of external metrics that rules give.
//!
//! Pure: paths and parameters in, JSON out. Metrics that HPAs ask for by annotations are answered from memory; all others
//! by [`Adapter`], which may ask a Prometheus when it is read.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::attributes::{GroupVersion, ResourceAttributes};
use super::discovery::Listed;
use super::external_metrics::{AskedMetric, Items, Look, Published};
use super::{Request, Response, uri};
use crate::scaling::model::{AskedOf, Described, ObjectKey, UnixMillis};
use crate::scaling::quantity;
use crate::wire::labels::{Selector, Test};
use crate::wire::time::format_seconds;

/// Whoever knows metrics by the rules of prometheus-adapter. Called from several threads.
pub trait Adapter: Send + Sync {
    /// Answers within about `patience`; `None` if it would have to ask somebody and may not wait at all.
    fn ask(&self, question: &Question, patience: Duration) -> Option<Arc<Reply>>;

    /// Returns whether rules give an external metric of this name.
    fn has_external(&self, metric: &str) -> bool;

    /// Returns the metrics of objects, as in `pods/http_requests`, and whether their objects are in namespaces.
    fn listed(&self) -> Listed;
}

/// What is read. Equal questions have equal answers, which are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    Objects {
        resource: String,
        /// Empty if the path has none.
        group: String,
        /// Empty for objects without a namespace.
        namespace: String,
        objects: Objects,
        metric: String,
        /// `metricLabelSelector`, a valid selector as received.
        selector: String,
    },
    External {
        namespace: String,
        metric: String,
        selector: String,
    },
}

/// Whose metric is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Objects {
    One(String),
    /// All that a valid label selector matches, as received.
    All(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A value by name of the object.
    Objects { api_version: String, kind: String, values: Vec<(String, f64)>, at: UnixMillis },
    /// A value by labels of the series.
    External { values: Vec<(Vec<(String, String)>, f64)>, at: UnixMillis },
    /// There is no such metric, or it has no value for the object. The text must be the same each time.
    NotFound(String),
    /// The same for why it could not be read.
    Failed(String),
}

/// Time limit of a read, with the list of objects and the query. An HPA controller waits for it, with few workers.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever may answer a read.
pub(super) struct Answerers<'a> {
    pub(super) published: &'a Published,
    /// Called with each object whose metric was read.
    pub(super) on_read: &'a dyn Fn(&ObjectKey),
    /// `None` without rules.
    pub(super) adapter: Option<&'a dyn Adapter>,
}

/// Answers an authorised read of a metric of objects.
pub(super) fn get(
    answerers: &Answerers<'_>,
    request: &Request,
    attributes: &ResourceAttributes,
    patience: Duration,
) -> Result<Look, Response> {
    let bad = |message: String| Response::status(400, "BadRequest", &message);
    let objects_of = parameter(request, "labelSelector").map_err(bad)?;
    let selector = parameter(request, "metricLabelSelector").map_err(bad)?;
    let question = question(request, attributes, objects_of, selector.clone()).ok_or_else(not_found)?;
    let Question::Objects { namespace, metric, resource, .. } = &question else { return Err(not_found()) };
    let selector = Selector::parse(&selector).unwrap_or_default();
    let look =
        |read: &dyn Fn(&ObjectKey)| by_annotations(answerers.published, attributes.api, &question, &selector, read);
    match look(answerers.on_read) {
        None => {}
        Some(Look::Pending(pending)) => {
            // Whoever asked for it may be gone meanwhile.
            let again = || look(&|_| ()).unwrap_or_else(|| Look::Answer(not_found()));
            let waited = answerers.published.patiently(patience, &again);
            return Ok(waited.unwrap_or(Look::Pending(pending)));
        }
        Some(answer) => return Ok(answer),
    }
    let Some(adapter) = answerers.adapter else {
        let message = format!("no HPA asks for the metric {metric} of these {resource} by annotations");
        return Ok(Look::Answer(Response::status(404, "NotFound", &message)));
    };
    let Some(reply) = ask(adapter, &question, !patience.is_zero()) else {
        return Ok(Look::Pending(Response::status(500, "InternalError", "the metric has not been asked yet")));
    };
    Ok(Look::Answer(match &*reply {
        Reply::Objects { api_version, kind, values, at } => {
            let list = List { version: attributes.api, namespace, metric, selector: &selector, api_version, kind };
            Response::json(200, list.write(values, *at))
        }
        other => refused(other),
    }))
}

/// Answers an authorised read of an external metric that rules give.
pub(super) fn get_external(
    adapter: &dyn Adapter,
    namespace: &str,
    metric: &str,
    selector: String,
    may_wait: bool,
) -> Look {
    let question = Question::External { namespace: namespace.to_owned(), metric: metric.to_owned(), selector };
    let Some(reply) = ask(adapter, &question, may_wait) else {
        return Look::Pending(Response::status(500, "InternalError", "the metric has not been asked yet"));
    };
    Look::Answer(match &*reply {
        Reply::External { values, at } => {
            let mut items = Items::default();
            values.iter().for_each(|(labels, value)| items.push(metric, labels, *value, *at));
            Response::json(200, items.finish())
        }
        other => refused(other),
    })
}

/// Answers what an HPA asks for by annotations; `None` if none does. `read` is called with the HPA that does.
fn by_annotations(
    published: &Published,
    version: GroupVersion,
    question: &Question,
    selector: &Selector,
    read: &dyn Fn(&ObjectKey),
) -> Option<Look> {
    let Question::Objects { resource, group, namespace, objects, metric, .. } = question else { return None };
    // A namespace is in itself.
    let within = match objects {
        Objects::One(name) if namespace.is_empty() && resource == "namespaces" => name,
        _ => namespace,
    };
    let asked = published.asked_of_objects(within, metric, selector);
    let is_of_pods = resource == "pods" && group.is_empty();
    let found = asked.into_iter().filter_map(|one| match (&one.asked()?.of, objects) {
        (AskedOf::Object(object), Objects::One(name)) if (object.group(), &object.name) == (group, name) => {
            Some((Some(object.clone()), one))
        }
        (AskedOf::Pods { .. }, _) if is_of_pods && is_of(&one, objects) => Some((None, one)),
        _ => None,
    });
    // Whose pods are known goes before one that may be of any.
    let is_doubtful = |(object, one): &(Option<Described>, AskedMetric)| {
        object.is_none() && one.metric().is_none_or(|metric| metric.pods.is_none())
    };
    let (object, found) = found.min_by_key(is_doubtful)?;
    read(found.key());
    let (value, at) = match found.value(published) {
        Ok(found) => found,
        Err(look) => return Some(look),
    };
    let pod = || Described { api_version: "v1".to_owned(), kind: "Pod".to_owned(), name: String::new() };
    let values = match (&object, objects) {
        (Some(object), _) => vec![(object.name.clone(), value)],
        (None, objects) => {
            let pods = found.metric().and_then(|metric| metric.pods.as_ref()).map(|pods| pods.values.clone());
            let is_wanted = |pod: &str| matches!(objects, Objects::All(_)) || *objects == Objects::One(pod.to_owned());
            pods.unwrap_or_default().into_iter().filter(|(pod, _)| is_wanted(pod)).collect()
        }
    };
    let Described { api_version, kind, .. } = object.unwrap_or_else(pod);
    let list = List { version, namespace, metric, selector, api_version: &api_version, kind: &kind };
    Some(Look::Answer(Response::json(200, list.write(&values, at))))
}

/// Returns whether a metric of pods is that of these: an HPA selects them as their workload does. One that has no values,
/// for it was not asked yet or has failed, may be that of any.
fn is_of(asked: &AskedMetric, objects: &Objects) -> bool {
    let Some(pods) = asked.metric().and_then(|metric| metric.pods.as_ref()) else { return true };
    match objects {
        Objects::One(name) => pods.values.iter().any(|(pod, _)| pod == name),
        Objects::All(selector) => {
            let sorted = |text: &str| {
                let mut requirements = Selector::parse(text).ok()?.requirements;
                requirements.sort_by(|a, b| a.key.cmp(&b.key));
                Some(requirements)
            };
            sorted(selector).is_some_and(|wanted| Some(wanted) == sorted(&pods.selector))
        }
    }
}

fn ask(adapter: &dyn Adapter, question: &Question, may_wait: bool) -> Option<Arc<Reply>> {
    adapter.ask(question, if may_wait { PATIENCE } else { Duration::ZERO })
}

fn refused(reply: &Reply) -> Response {
    match reply {
        Reply::NotFound(message) => Response::status(404, "NotFound", message),
        Reply::Failed(message) => Response::status(500, "InternalError", message),
        Reply::Objects { .. } | Reply::External { .. } => {
            Response::status(500, "InternalError", "the answer is of another kind")
        }
    }
}

fn not_found() -> Response {
    Response::status(404, "NotFound", "the server could not find the requested resource")
}

/// Reads a path: `namespaces/NS/RESOURCE/NAME/METRIC`, `RESOURCE/NAME/METRIC`, or `namespaces/NS/metrics/METRIC` for a
/// metric of the namespace itself.
fn question(
    request: &Request,
    attributes: &ResourceAttributes,
    objects_of: String,
    selector: String,
) -> Option<Question> {
    let ResourceAttributes { namespace, resource, subresource, name, .. } = attributes;
    // Three before the path that is ours, and none after it.
    let segments = uri::segments(request.path.trim_end_matches('/')).ok()?;
    let ours = segments.len().checked_sub(if namespace.is_empty() { 3 } else { 5 })?;
    if resource == "metrics" && !namespace.is_empty() && !name.is_empty() && ours == 2 {
        return Some(Question::Objects {
            resource: "namespaces".to_owned(),
            group: String::new(),
            namespace: String::new(),
            objects: Objects::One(namespace.clone()),
            metric: name.clone(),
            selector,
        });
    }
    if name.is_empty() || subresource.is_empty() || ours != 3 {
        return None;
    }
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    Some(Question::Objects {
        resource: resource.to_owned(),
        group: group.to_owned(),
        namespace: namespace.clone(),
        objects: if name == "*" { Objects::All(objects_of) } else { Objects::One(name.clone()) },
        metric: subresource.clone(),
        selector,
    })
}

/// Returns a selector among the parameters, which is valid; empty without one.
fn parameter(request: &Request, name: &str) -> Result<String, String> {
    let pairs = uri::query_pairs(request.query.as_deref().unwrap_or("")).map_err(|error| format!("query: {error}"))?;
    let mut found = pairs.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    let first = found.next().unwrap_or_default();
    if found.next().is_some() {
        return Err(format!("{name} is given more than once"));
    }
    Selector::parse(&first).map_err(|error| format!("unable to parse {name}: {error}"))?;
    Ok(first)
}

/// What all items of a list have in common.
struct List<'a> {
    version: GroupVersion,
    namespace: &'a str,
    metric: &'a str,
    selector: &'a Selector,
    api_version: &'a str,
    kind: &'a str,
}

impl List<'_> {
    fn write(&self, values: &[(String, f64)], at: UnixMillis) -> String {
        let text = |text: &str| serde_json::Value::from(text);
        let selector =
            if self.selector.requirements.is_empty() { serde_json::Value::Null } else { shown(self.selector) };
        let (metric, at) = (text(self.metric), format_seconds(at));
        let mut items = String::new();
        for (name, value) in values {
            if !items.is_empty() {
                items.push(',');
            }
            let namespace = match self.namespace {
                "" => String::new(),
                namespace => format!(r#""namespace":{},"#, text(namespace)),
            };
            let (kind, name, api_version) = (text(self.kind), text(name), text(self.api_version));
            let value = quantity::text(quantity::milli(*value).into());
            let _ = write!(
                items,
                r#"{{"describedObject":{{"kind":{kind},{namespace}"name":{name},"apiVersion":{api_version}}},"#
            );
            let _ = if self.version == GroupVersion::CustomV1beta1 {
                write!(items, r#""metricName":{metric},"timestamp":"{at}","value":"{value}","selector":{selector}}}"#)
            } else {
                write!(
                    items,
                    r#""metric":{{"name":{metric},"selector":{selector}}},"timestamp":"{at}","value":"{value}"}}"#
                )
            };
        }
        format!(
            r#"{{"kind":"MetricValueList","apiVersion":"{}/{}","metadata":{{}},"items":[{items}]}}"#,
            self.version.group(),
            self.version.version()
        )
    }
}

/// Writes a selector as Kubernetes' `LabelSelector`.
fn shown(selector: &Selector) -> serde_json::Value {
    if let Some(labels) = selector.demanded() {
        let labels: serde_json::Map<_, _> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        return serde_json::json!({ "matchLabels": labels });
    }
    let expressions = selector.requirements.iter().filter_map(|requirement| {
        let (operator, values) = match &requirement.test {
            Test::Exists => ("Exists", None),
            Test::Absent => ("DoesNotExist", None),
            Test::In(values) => ("In", Some(values)),
            Test::NotIn(values) => ("NotIn", Some(values)),
            Test::GreaterThan(_) | Test::LessThan(_) => return None,
        };
        let mut expression = serde_json::json!({ "key": requirement.key, "operator": operator });
        if let Some(values) = values {
            expression["values"] = serde_json::json!(values);
        }
        Some(expression)
    });
    serde_json::json!({ "matchExpressions": expressions.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::http::attributes::{Attributes, attributes};
    use crate::http::testing::request;

    /// Remembers what it was asked, and answers any question with the same.
    struct Fake(Mutex<Vec<Question>>, Reply);

    impl Adapter for Fake {
        fn ask(&self, question: &Question, patience: Duration) -> Option<Arc<Reply>> {
            self.0.lock().unwrap().push(question.clone());
            (!patience.is_zero()).then(|| Arc::new(self.1.clone()))
        }

        fn has_external(&self, _: &str) -> bool {
            true
        }

        fn listed(&self) -> Listed {
            Listed::default()
        }
    }

    fn read(reply: Reply, target: &str) -> (u16, serde_json::Value, Option<Question>) {
        let fake = Fake(Mutex::default(), reply);
        let request = request("GET", &format!("/apis/custom.metrics.k8s.io{target}"), &[]);
        let Ok(Attributes::Resource(attributes)) = attributes(&request) else { panic!("{target}") };
        let answerers = Answerers { published: &Published::default(), on_read: &|_| (), adapter: Some(&fake) };
        let response = match get(&answerers, &request, &attributes, PATIENCE) {
            Ok(look) => look.response(),
            Err(response) => response,
        };
        assert_eq!(response.content_type, super::super::JSON);
        let body = serde_json::from_slice(response.body.as_bytes()).unwrap();
        (response.status, body, fake.0.into_inner().unwrap().pop())
    }

    fn values(values: &[(&str, f64)]) -> Reply {
        Reply::Objects {
            api_version: "v1".into(),
            kind: "Pod".into(),
            values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            at: UnixMillis(1_767_323_045_678),
        }
    }

    #[test]
    fn both_versions_are_written_as_kubernetes_reads_them() {
        let target =
            "/v1beta2/namespaces/shop/pods/*/http_requests?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET";
        let (status, body, asked) = read(values(&[("a", 0.5), ("b", 2.0)]), target);
        assert_eq!(status, 200);
        let item = |name: &str, value: &str| {
            serde_json::json!({
                "describedObject": { "kind": "Pod", "namespace": "shop", "name": name, "apiVersion": "v1" },
                "metric": { "name": "http_requests", "selector": { "matchLabels": { "verb": "GET" } } },
                "timestamp": "2026-01-02T03:04:05Z", "value": value,
            })
        };
        assert_eq!(
            body,
            serde_json::json!({
                "kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {},
                "items": [item("a", "500m"), item("b", "2")],
            })
        );
        let Some(Question::Objects { objects, selector, .. }) = asked else { panic!("{asked:?}") };
        assert_eq!((objects, selector.as_str()), (Objects::All("app=web".into()), "verb=GET"));
        let (_, body, _) = read(values(&[("a", 1.0)]), "/v1beta1/namespaces/shop/pods/a/http_requests");
        assert_eq!(
            body["items"][0],
            serde_json::json!({
                "describedObject": { "kind": "Pod", "namespace": "shop", "name": "a", "apiVersion": "v1" },
                "metricName": "http_requests", "timestamp": "2026-01-02T03:04:05Z", "value": "1", "selector": null,
            })
        );
        let (_, body, _) = read(values(&[("n", 1.0)]), "/v1beta1/nodes/n/load?metricLabelSelector=a+in+(x,y),!b");
        let item = &body["items"][0];
        assert_eq!(item["describedObject"].get("namespace"), None);
        assert_eq!(
            item["selector"]["matchExpressions"],
            serde_json::json!([
                { "key": "a", "operator": "In", "values": ["x", "y"] }, { "key": "b", "operator": "DoesNotExist" },
            ])
        );
    }

    #[test]
    fn paths_name_objects() {
        for (target, expected) in [
            ("/namespaces/shop/pods/a/m", Some(("pods", "", "shop", "a", "m"))),
            ("/namespaces/shop/deployments.apps/a/m/", Some(("deployments", "apps", "shop", "a", "m"))),
            (
                "/namespaces/shop/ingresses.networking.k8s.io/a/m",
                Some(("ingresses", "networking.k8s.io", "shop", "a", "m")),
            ),
            ("/namespaces/shop/metrics/m", Some(("namespaces", "", "", "shop", "m"))),
            ("/nodes/n/m", Some(("nodes", "", "", "n", "m"))),
            ("/namespaces/shop/pods/a", None),
            ("/namespaces/shop/pods/a/m/x", None),
            ("/namespaces/shop/metrics/m/x/y", None),
            ("/nodes/n", None),
            ("/nodes/n/m/x", None),
            ("/nodes", None),
            ("/namespaces/shop", None),
        ] {
            let (status, _, asked) = read(values(&[]), &format!("/v1beta2{target}"));
            let expected = expected.map(|(resource, group, namespace, name, metric)| Question::Objects {
                resource: resource.into(),
                group: group.into(),
                namespace: namespace.into(),
                objects: Objects::One(name.into()),
                metric: metric.into(),
                selector: String::new(),
            });
            assert_eq!((status, asked), (if expected.is_some() { 200 } else { 404 }, expected), "{target}");
        }
    }

    #[test]
    fn what_is_wrong_is_a_status() {
        for (query, words) in [
            ("labelSelector=a%3D%3D%3D", "unable to parse labelSelector"),
            ("metricLabelSelector=(", "unable to parse metricLabelSelector"),
            ("labelSelector=a&labelSelector=b", "more than once"),
            ("labelSelector=%ff", "query: not valid UTF-8"),
        ] {
            let (status, body, _) = read(values(&[]), &format!("/v1beta2/namespaces/shop/pods/*/m?{query}"));
            assert_eq!(status, 400, "{query}");
            assert!(body["message"].as_str().unwrap().contains(words), "{body}");
        }
        let target = "/v1beta2/namespaces/shop/pods/*/m";
        assert_eq!(read(Reply::NotFound("none".into()), target).0, 404);
        assert_eq!(read(Reply::Failed("down".into()), target).0, 500);
        assert_eq!(read(Reply::External { values: Vec::new(), at: UnixMillis(0) }, target).0, 500);
    }

    #[test]
    fn an_external_metric_has_the_labels_of_its_series() {
        let labels = vec![("topic".to_owned(), "a".to_owned())];
        let reply = Reply::External { values: vec![(labels, 7.0)], at: UnixMillis(1_767_323_045_678) };
        let fake = Fake(Mutex::default(), reply);
        let Look::Pending(_) = get_external(&fake, "shop", "depth", String::new(), false) else {
            panic!("it may not wait")
        };
        let response = get_external(&fake, "shop", "depth", String::new(), true).response();
        let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
        let item = &body["items"][0];
        assert_eq!(
            (&item["metricName"], &item["metricLabels"]["topic"], &item["value"]),
            (&"depth".into(), &"a".into(), &"7".into())
        );
    }
}
