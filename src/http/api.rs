//! The aggregated API: authenticates, authorises and answers each request.
//!
//! The order is that of Kubernetes' own servers: health is open, then come authentication, authorisation, the check of
//! the method, and the answer, from memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::attributes::{Attributes, BadPath, GroupVersion, ResourceAttributes, attributes, watches};
use super::authn::{Authenticator, Unauthorized};
use super::authz::Authorizer;
use super::custom_metrics::{self, Adapter, Answerers};
use super::discovery::Served;
use super::external_metrics::{self, FIRST_SAMPLE, Look, Published, Selection};
use super::others::{self, FORWARDED, Others, Read};
use super::{Request, Response, discovery, negotiate, uri};
use crate::scaling::model::ObjectKey;
use crate::wire::PROBE;
use crate::wire::labels::Selector;

/// KEDA's label, by which each HPA that KEDA or hpalite creates selects its object.
const NAME_LABEL: &str = "scaledobject.keda.sh/name";

/// The state that the handlers share.
pub struct Api {
    pub published: Arc<Published>,
    pub ready: Arc<Readiness>,
    pub authenticator: Arc<Authenticator>,
    pub authorizer: Arc<Authorizer>,
    /// Called with each object whose metric was read.
    pub on_read: Box<dyn Fn(&ObjectKey) + Send + Sync>,
    /// Who knows metrics by rules, if there are any.
    pub adapter: Option<Arc<dyn Adapter>>,
    /// Who has external metrics that nobody here gives, if anybody is to be asked.
    pub others: Option<Arc<dyn Others>>,
}

/// Whether metrics can be answered. The state of Prometheus is no part of it: its outage is an error of single metrics,
/// while a pod that is not ready takes the whole API away.
#[derive(Debug, Default)]
pub struct Readiness {
    pub synced: AtomicBool,
    pub trusted: AtomicBool,
    /// The API server knows our certificate's CA, or somebody else maintains that.
    pub certified: AtomicBool,
    /// This instance acts. It stays ready while the API server is away, since no other instance can take over then.
    pub leading: AtomicBool,
    pub stopping: AtomicBool,
    /// Read only to name the leader to clients of a standby.
    leader: Mutex<String>,
}

impl Readiness {
    /// Sets the holder of the Lease; empty if there is none.
    pub fn set_leader(&self, holder: &str) {
        holder.clone_into(&mut self.leader.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// # Errors
    /// What is still missing.
    pub fn check(&self) -> Result<(), String> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        if is(&self.stopping) {
            Err("shutting down".to_owned())
        } else if !is(&self.trusted) {
            Err("kube-system/extension-apiserver-authentication has not been read yet".to_owned())
        } else if !is(&self.synced) {
            Err("ScaledObjects and HorizontalPodAutoscalers have not been listed yet".to_owned())
        } else if !is(&self.leading) {
            let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
            Err(if leader.is_empty() {
                "standing by: no instance leads yet".to_owned()
            } else {
                format!("standing by: {leader} leads")
            })
        } else if !is(&self.certified) {
            Err("the APIService does not know our certificate yet".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Answers the health paths; None for any other path.
#[must_use]
pub fn health(ready: &Readiness, request: &Request) -> Option<Response> {
    let answer = match request.path.as_str() {
        "/healthz" | "/livez" => Ok(()),
        "/readyz" => ready.check(),
        _ => return None,
    };
    Some(match answer {
        Ok(()) => Response::text(200, "ok"),
        Err(missing) => Response::text(503, format!("not ready: {missing}\n")),
    })
}

impl Api {
    /// Answers one request of the TLS port. May wait for a token or access review, and for the first answer of a metric
    /// server.
    pub fn handle(&self, request: &Request) -> Response {
        if let Some(response) = self.health(request).or_else(|| self.came_back(request)) {
            return response;
        }
        let user = match self.authenticator.authenticate(request, Instant::now()) {
            Ok(user) => user,
            Err(refusal) => return unauthorized(request, &refusal),
        };
        let attributes = match attributes(request) {
            Ok(attributes) => attributes,
            Err(error) => return bad_path(&error),
        };
        let decision = self.authorizer.decide(&request.peer.identity, &user, &attributes, Instant::now());
        decision
            .response(&user, &attributes)
            .unwrap_or_else(|| self.answer(request, &attributes, FIRST_SAMPLE).response())
    }

    /// Returns the answer of [`Api::handle`] if it need not wait for a review or a first sample; None otherwise.
    pub fn at_once(&self, request: &Request) -> Option<Response> {
        if let Some(response) = self.health(request).or_else(|| self.came_back(request)) {
            return Some(response);
        }
        let user = match self.authenticator.remembered(request, Instant::now())? {
            Ok(user) => user,
            Err(refusal) => return Some(unauthorized(request, &refusal)),
        };
        let attributes = match attributes(request) {
            Ok(attributes) => attributes,
            Err(error) => return Some(bad_path(&error)),
        };
        let decision = self.authorizer.remembered(&request.peer.identity, &user, &attributes, Instant::now())?;
        if let Some(refusal) = decision.response(&user, &attributes) {
            return Some(refusal);
        }
        match self.answer(request, &attributes, Duration::ZERO) {
            Look::Answer(response) | Look::Unknown(response) => Some(response),
            Look::Pending(_) => None,
        }
    }

    /// Answers a read that this process itself sent to another adapter: that adapter would be hpalite. Nobody has to be
    /// authenticated for that, so that wrong credentials do not hide it.
    fn came_back(&self, request: &Request) -> Option<Response> {
        let (others, mark) = (self.others.as_ref()?, request.header(FORWARDED)?);
        others.is_own(mark).then(others::loop_detected)
    }

    fn health(&self, request: &Request) -> Option<Response> {
        if request.method == "GET" { health(&self.ready, request) } else { None }
    }

    /// Answers an authorised request. `patience` limits the wait for a first sample.
    fn answer(&self, request: &Request, attributes: &Attributes, patience: Duration) -> Look {
        let is_get = request.method == "GET";
        if !is_get || watches(request) {
            let what = if is_get { "watch" } else { request.method.as_str() };
            let message = format!("the server does not allow {what} on the requested resource");
            return Look::Answer(Response::status(405, "MethodNotAllowed", &message));
        }
        let objects = || self.adapter.as_ref().map(|adapter| adapter.listed()).unwrap_or_default();
        let external = || self.others.as_ref().map(|others| others.listed()).unwrap_or_default();
        let served = Served { objects: &objects, external: &external };
        if let Some(response) = discovery::answer(request, &served) {
            return Look::Answer(response);
        }
        match attributes {
            Attributes::Resource(resource) if resource.api != GroupVersion::External => {
                if negotiate::choose(request, false).is_none() {
                    return Look::Answer(negotiate::not_acceptable());
                }
                let answerers =
                    Answerers { published: &self.published, on_read: &*self.on_read, adapter: self.adapter.as_deref() };
                custom_metrics::get(&answerers, request, resource, patience).unwrap_or_else(Look::Answer)
            }
            Attributes::Resource(ResourceAttributes { api, namespace, resource, subresource, name, .. })
                if *api == GroupVersion::External
                    && !namespace.is_empty()
                    && name.is_empty()
                    && subresource.is_empty()
                    && resource != "namespaces" =>
            {
                self.metric(request, namespace, resource, patience)
            }
            _ => Look::Answer(Response::status(404, "NotFound", "the server could not find the requested resource")),
        }
    }

    fn metric(&self, request: &Request, namespace: &str, metric: &str, patience: Duration) -> Look {
        if negotiate::choose(request, false).is_none() {
            return Look::Answer(negotiate::not_acceptable());
        }
        let selector = match selector(request) {
            Ok(selector) => selector,
            Err(message) => return Look::Answer(Response::status(400, "BadRequest", &message)),
        };
        let on_read = |key: &ObjectKey| (self.on_read)(key);
        let selection = match selector.required_value(NAME_LABEL) {
            // KEDA's own selector names one object; further terms can only exclude it.
            Some(name) if selector.matches(|asked| (asked == NAME_LABEL).then_some(name)) => Selection::Name(name),
            _ => Selection::Other(&selector),
        };
        if let Some(adapter) = self.adapter.as_ref().filter(|adapter| adapter.has_external(metric))
            && !external_metrics::is_own(&self.published, namespace, metric, &selection)
        {
            let text = selector_text(request);
            return custom_metrics::get_external(&**adapter, namespace, metric, text, !patience.is_zero());
        }
        let found = external_metrics::get(&self.published, namespace, metric, &selection, &on_read, patience);
        match (found, &self.others) {
            (Look::Unknown(response), Some(others)) if self.may_forward(request, &selection) => {
                if patience.is_zero() {
                    return Look::Pending(response);
                }
                let selector = selector_text(request);
                let answer = others.ask(&Read { namespace, metric, selector: &selector });
                // An error of an object here says more than that the others do not have the metric either.
                let is_unknown = answer.status == 404 && response.status != 404;
                Look::Answer(if is_unknown { response } else { answer })
            }
            (found, _) => found,
        }
    }

    /// Whether others may be asked. Until all objects are known, a metric may be one of theirs; what was forwarded once is
    /// not forwarded again, or two that forward to each other would never end; and the probe of a takeover is for us alone.
    fn may_forward(&self, request: &Request, selection: &Selection<'_>) -> bool {
        let is_probe = matches!(selection, Selection::Name(PROBE));
        self.ready.synced.load(Ordering::Acquire) && request.header(FORWARDED).is_none() && !is_probe
    }
}

fn unauthorized(request: &Request, refusal: &Unauthorized) -> Response {
    log::debug!(peer:% = request.peer.address, cause:% = refusal; "not authenticated");
    refusal.response()
}

fn bad_path(error: &BadPath) -> Response {
    Response::status(400, "BadRequest", &error.to_string())
}

/// Returns the text of a selector that [`selector`] has read.
fn selector_text(request: &Request) -> String {
    let pairs = uri::query_pairs(request.query.as_deref().unwrap_or("")).unwrap_or_default();
    pairs.into_iter().find(|(key, _)| key == "labelSelector").map(|(_, value)| value).unwrap_or_default()
}

/// Returns the label selector of a read; without one, everything is selected.
fn selector(request: &Request) -> Result<Selector, String> {
    let pairs = uri::query_pairs(request.query.as_deref().unwrap_or("")).map_err(|error| format!("query: {error}"))?;
    for name in ["limit", "timeoutSeconds"] {
        let bad = pairs.iter().find(|(key, value)| key == name && !value.is_empty() && value.parse::<i64>().is_err());
        if let Some((_, value)) = bad {
            return Err(format!("{name}: {value:?} is not an integer"));
        }
    }
    let mut selectors = pairs.iter().filter(|(key, _)| key == "labelSelector").map(|(_, value)| value.as_str());
    let first = selectors.next().unwrap_or("");
    if selectors.next().is_some() {
        return Err("labelSelector is given more than once".to_owned());
    }
    Selector::parse(first).map_err(|error| format!("unable to parse labelSelector: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::custom_metrics::{Question, Reply};
    use crate::http::discovery::Listed;
    use crate::http::reviews::{AccessReviewer, AccessVerdict, ReviewError};
    use crate::http::testing::request;
    use crate::http::{Identity, User};
    use crate::scaling::model::{ApiGroup, Asked, AskedOf, Described, PodValues, UnixMillis};
    use crate::scaling::view::{MetricView, ObjectView, Reading};

    /// Rules whose Prometheus is slow: only who may wait has an answer.
    struct Slow;

    impl Adapter for Slow {
        fn ask(&self, question: &Question, patience: Duration) -> Option<Arc<Reply>> {
            (!patience.is_zero()).then(|| Arc::new(Reply::Failed(format!("{question:?} took too long"))))
        }

        fn has_external(&self, _: &str) -> bool {
            true
        }

        fn listed(&self) -> Listed {
            Listed::default()
        }
    }

    impl AccessReviewer for Slow {
        fn review(&self, _: &User, _: &Attributes) -> Result<AccessVerdict, ReviewError> {
            Err(ReviewError::Shared)
        }
    }

    /// Another adapter, which has a metric `lag`.
    #[derive(Default)]
    struct Another(Mutex<Vec<String>>);

    impl Others for Another {
        fn ask(&self, read: &Read<'_>) -> Response {
            let Read { namespace, metric, selector } = read;
            self.0.lock().unwrap().push(format!("{namespace}/{metric}?{selector}"));
            if *metric == "lag" { Response::text(200, "7") } else { Response::status(404, "NotFound", "none has it") }
        }

        fn listed(&self) -> others::Names {
            Arc::from(["lag".to_owned()])
        }

        fn is_own(&self, mark: &str) -> bool {
            mark == "ours"
        }
    }

    fn api(adapter: Option<Arc<dyn Adapter>>) -> Api {
        let published = Published::default();
        let view = ObjectView {
            key: ObjectKey::new(ApiGroup::KedaSh, "shop", "web"),
            selector: (NAME_LABEL.to_owned(), "web".to_owned()),
            metrics: [MetricView {
                name: "s0-prometheus".into(),
                reading: Reading::Value { value: 2.5, at: UnixMillis(0) },
                cached: false,
                age_limit: None,
                pods: None,
            }]
            .into(),
            asked: Arc::default(),
            error: None,
            made_at: UnixMillis(0),
        };
        published.set(&view.key.clone(), Some(Arc::new(view)));
        Api {
            published: Arc::new(published),
            ready: Arc::default(),
            authenticator: Arc::new(Authenticator::new(None)),
            authorizer: Arc::new(Authorizer::new(Arc::new(Slow))),
            on_read: Box::new(|_| ()),
            adapter,
            others: None,
        }
    }

    fn of_master(target: &str) -> Request {
        let master = User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() };
        let mut request = request("GET", target, &[]);
        let holder = Arc::new(Ok(User::default()));
        request.peer.identity = Identity::FrontProxy { common_name: "front".into(), holder, user: Ok(master) };
        request
    }

    #[test]
    fn an_object_metric_of_an_annotated_hpa_is_answered_from_memory() {
        let api = api(Some(Arc::new(Slow)));
        let described = |kind: &str, api_version: &str, name: &str| Described {
            kind: kind.into(),
            api_version: api_version.into(),
            name: name.into(),
        };
        let asked = |labels: &[(&str, &str)], object: Described| Asked {
            metric: "rps".into(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            of: AskedOf::Object(object),
        };
        let metric = |value: f64| MetricView {
            name: "rps".into(),
            reading: Reading::Value { value, at: UnixMillis(0) },
            cached: true,
            age_limit: None,
            pods: None,
        };
        let view = ObjectView {
            key: ObjectKey::new(ApiGroup::Autoscaling, "shop", "web"),
            selector: Default::default(),
            metrics: vec![metric(1.0), metric(2.0), metric(3.0)],
            asked: [
                asked(&[], described("Ingress", "networking.k8s.io/v1", "front")),
                asked(&[("verb", "GET")], described("Ingress", "networking.k8s.io/v1", "front")),
                asked(&[], described("Namespace", "v1", "shop")),
            ]
            .into(),
            error: None,
            made_at: UnixMillis(0),
        };
        api.published.set(&view.key.clone(), Some(Arc::new(view)));
        let read = |rest: &str| {
            let request = of_master(&format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/{rest}"));
            let response = api.at_once(&request)?;
            let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
            Some((response.status, body["items"][0].clone()))
        };
        for (rest, value, kind) in [
            ("ingresses.networking.k8s.io/front/rps", "1", "Ingress"),
            ("ingresses.networking.k8s.io/front/rps?metricLabelSelector=verb%3DGET", "2", "Ingress"),
            ("metrics/rps", "3", "Namespace"),
        ] {
            let (status, item) = read(rest).unwrap_or_else(|| panic!("{rest} is asked of rules"));
            assert_eq!((status, &item["value"], &item["describedObject"]["kind"]), (200, &value.into(), &kind.into()));
        }
        // Everything else is a matter of rules, and no external metric has this name.
        for rest in ["services/front/rps", "ingresses.networking.k8s.io/back/rps", "pods/*/rps"] {
            assert_eq!(read(rest), None, "{rest}");
        }
        let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/rps";
        assert_eq!(self::api(None).at_once(&of_master(external)).map(|response| response.status), Some(404));
        assert_eq!(api.at_once(&of_master(external)), None);
    }

    #[test]
    fn a_pods_metric_of_an_annotated_hpa_is_that_of_the_pods_it_selects() {
        let api = api(None);
        let view = |name: &str, pods: Option<&[(&str, f64)]>| ObjectView {
            key: ObjectKey::new(ApiGroup::Autoscaling, "shop", name),
            selector: Default::default(),
            metrics: vec![MetricView {
                name: "rps".into(),
                reading: match pods {
                    Some(_) => Reading::Value { value: 9.0, at: UnixMillis(0) },
                    None => Reading::Failed { message: "no pod is ready".into(), since: UnixMillis(0) },
                },
                cached: true,
                age_limit: None,
                pods: pods.map(|pods| {
                    let values = pods.iter().map(|(pod, value)| ((*pod).to_owned(), *value)).collect();
                    Arc::new(PodValues { selector: format!("tier=a,app={name}"), values })
                }),
            }],
            asked: [Asked {
                metric: "rps".into(),
                labels: Vec::new(),
                of: AskedOf::Pods { kind: "Deployment".into(), name: name.into() },
            }]
            .into(),
            error: None,
            made_at: UnixMillis(0),
        };
        let publish = |view: ObjectView| api.published.set(&view.key.clone(), Some(Arc::new(view)));
        publish(view("api", None));
        publish(view("web", Some(&[("web-1", 2.5), ("web-2", 4.0)])));
        let read = |rest: &str| {
            let path = format!("/apis/custom.metrics.k8s.io/v1beta1/namespaces/shop/pods/{rest}");
            let response = api.at_once(&of_master(&path)).unwrap();
            let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
            (response.status, body)
        };
        let (status, body) = read("*/rps?labelSelector=app%3Dweb,tier%3Da");
        let values: Vec<_> = body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (&one["describedObject"]["name"], &one["value"]))
            .collect();
        assert_eq!(status, 200);
        assert_eq!(values, [(&"web-1".into(), &"2500m".into()), (&"web-2".into(), &"4".into())]);
        assert_eq!(read("web-2/rps").1["items"][0]["value"], "4");
        // Nobody knows which pods these would be.
        let (status, body) = read("*/rps?labelSelector=app%3Dapi,tier%3Da");
        assert!(status == 500 && body["message"].as_str().unwrap().contains("no pod is ready"), "{body}");
        publish(view("api", Some(&[])));
        assert_eq!(read("*/rps?labelSelector=app%3Dother").0, 404);
        assert_eq!(read("*/other?labelSelector=app%3Dweb,tier%3Da").0, 404);
    }

    #[test]
    fn a_slow_rule_keeps_no_scaled_object_waiting() {
        let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/s0-prometheus";
        let own = of_master(&format!("{external}?labelSelector=scaledobject.keda.sh%2Fname%3Dweb"));
        let objects = of_master("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/http_requests");
        let with_rules = api(Some(Arc::new(Slow)));
        assert_eq!(with_rules.at_once(&own).map(|response| response.status), Some(200));
        // What rules give goes to the workers that may wait: metrics of objects, and external ones for other selectors.
        for by_rule in [&objects, &of_master(external)] {
            assert_eq!(with_rules.at_once(by_rule), None);
            assert_eq!(with_rules.handle(by_rule).status, 500);
        }
        // Without rules there is nothing to ask.
        let without = api(None);
        assert_eq!(without.at_once(&objects).map(|response| response.status), Some(404));
        assert_eq!(without.at_once(&of_master(external)).map(|response| response.status), Some(200));
    }

    const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop";

    #[test]
    fn what_nobody_here_gives_is_asked_of_others_and_nothing_else() {
        let another = Arc::new(Another::default());
        let mut api = api(None);
        api.others = Some(Arc::clone(&another) as Arc<dyn Others>);
        let theirs = of_master(&format!("{EXTERNAL}/lag?labelSelector=topic%3Da"));
        let status = |response: Option<Response>| response.map(|response| response.status);
        assert_eq!(status(api.at_once(&theirs)), Some(404), "objects are not listed yet");
        api.ready.synced.store(true, Ordering::Release);
        assert_eq!(api.at_once(&theirs), None, "only who may wait asks");
        assert_eq!(api.handle(&theirs), Response::text(200, "7"));
        assert_eq!(another.0.lock().unwrap().as_slice(), ["shop/lag?topic=a"]);
        // What is ours is never asked of others: a value, a metric that a ScaledObject does not have, the takeover's probe.
        for (path, expected) in [
            ("s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dweb", 200),
            ("s1-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dweb", 404),
            ("hpalite-takeover?labelSelector=scaledobject.keda.sh%2Fname%3Dhpalite-takeover", 404),
        ] {
            assert_eq!(status(api.at_once(&of_master(&format!("{EXTERNAL}/{path}")))), Some(expected), "{path}");
        }
        assert_eq!(another.0.lock().unwrap().len(), 1);
        // A ScaledObject of another installation is theirs.
        let foreign = format!("{EXTERNAL}/lag?labelSelector=scaledobject.keda.sh%2Fname%3Dother");
        assert_eq!(api.handle(&of_master(&foreign)).status, 200);
    }

    #[test]
    fn what_was_forwarded_ends_here() {
        let another = Arc::new(Another::default());
        let mut api = api(None);
        api.others = Some(Arc::clone(&another) as Arc<dyn Others>);
        api.ready.synced.store(true, Ordering::Release);
        let marked = |mark: &str| {
            let mut request = of_master(&format!("{EXTERNAL}/lag"));
            request.headers.push((FORWARDED.to_owned(), mark.to_owned()));
            request
        };
        assert_eq!(api.handle(&marked("another's")).status, 404, "it is not forwarded again");
        // Our own is known even without credentials.
        let mut own = marked("ours");
        own.peer.identity = Identity::None;
        for response in [api.handle(&own), api.at_once(&own).expect("nobody is asked")] {
            assert_eq!(response.status, 508);
        }
        assert!(another.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_broken_object_does_not_hide_another_adapter_s_metrics() {
        let mut api = api(None);
        api.others = Some(Arc::new(Another::default()));
        api.ready.synced.store(true, Ordering::Release);
        let view = ObjectView {
            key: ObjectKey::new(ApiGroup::KedaSh, "shop", "broken"),
            selector: (NAME_LABEL.to_owned(), "broken".to_owned()),
            metrics: [].into(),
            asked: Arc::default(),
            error: Some("its spec is wrong".to_owned()),
            made_at: UnixMillis(0),
        };
        api.published.set(&view.key.clone(), Some(Arc::new(view)));
        // Without a selector, every object of the namespace is selected.
        assert_eq!(api.handle(&of_master(&format!("{EXTERNAL}/lag"))).status, 200);
        let neither = api.handle(&of_master(&format!("{EXTERNAL}/depth")));
        let text = String::from_utf8_lossy(neither.body.as_bytes()).into_owned();
        assert!(neither.status == 500 && text.contains("its spec is wrong"), "{text}");
        let named = format!("{EXTERNAL}/lag?labelSelector=scaledobject.keda.sh%2Fname%3Dbroken");
        assert_eq!(api.handle(&of_master(&named)).status, 500);
    }
}
