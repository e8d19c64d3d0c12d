//! Reads of `custom.metrics.k8s.io` as the daemon answers them, by its own handlers: the Object metric of an annotated HPA,
//! from the published view, and a metric by a rule of prometheus-adapter, whose answer is shared for 2 s.
//!
//! The API server and the Prometheus of the rule are in this process and answer at once.

use std::sync::Arc;
use std::time::Duration;

use hpalite::adapter::Adapter;
use hpalite::config::AdapterSettings;
use hpalite::http::api::{Api, Readiness};
use hpalite::http::attributes::Attributes;
use hpalite::http::authn::Authenticator;
use hpalite::http::authz::Authorizer;
use hpalite::http::custom_metrics::{self, Adapter as _};
use hpalite::http::external_metrics::Published;
use hpalite::http::reviews::{AccessReviewer, AccessVerdict, ReviewError};
use hpalite::http::{Request, Response, User};
use hpalite::kube::{Client, ClusterConfig};
use hpalite::outbound::names::Names;
use hpalite::outbound::networks::Rules;
use hpalite::polling::proxy::ProxySettings;
use hpalite::polling::tls::Roots;
use hpalite::polling::transport::{Transport, TransportConfig};
use hpalite::scaling::model::{ApiGroup, Asked, AskedOf, Described, ObjectKey, UnixMillis};
use hpalite::scaling::view::{MetricView, ObjectView, Reading};
use hpalite::tls::Version;
use serde_json::json;

use crate::fake_prometheus::{FakePrometheus, Reply};

/// What the HPA controller reads, and how it is called in the figures.
pub(crate) const READS: [(&str, &str); 2] = [
    ("an HPA's Object", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/web/waiting"),
    ("by a rule", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/web/backlog"),
];

const RULES: &str = r#"rules:
- seriesQuery: 'front_backlog{namespace!=""}'
  resources: {overrides: {namespace: {resource: namespace}, front: {resource: service}}}
  name: {as: backlog}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#;

/// Who may read metrics is known after the first read.
struct Everybody;

impl AccessReviewer for Everybody {
    fn review(&self, _: &User, _: &Attributes) -> Result<AccessVerdict, ReviewError> {
        Ok(AccessVerdict::Allowed)
    }
}

/// The handlers, with the servers that stand behind them.
pub(crate) struct Custom {
    api: Api,
    _servers: [FakePrometheus; 2],
    _folder: tempfile::TempDir,
}

impl Custom {
    /// Returns after the metrics of the rules have been listed.
    pub(crate) fn start() -> Arc<Self> {
        let (api_server, prometheus) = (api_server(), prometheus());
        let folder = tempfile::tempdir().unwrap();
        let (rules, kubeconfig) = (folder.path().join("rules.yaml"), folder.path().join("kubeconfig"));
        std::fs::write(&rules, RULES).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
            "clusters": [{ "name": "k", "cluster": { "server": api_server.url() } }],
            "users": [{ "name": "u", "user": {} }],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let client = Client::new(ClusterConfig::from_kubeconfig(&kubeconfig).unwrap());
        let settings = AdapterSettings {
            config: rules,
            server: prometheus.url(),
            relist_interval: Duration::from_secs(600),
            max_age: Duration::from_secs(60),
            query_timeout: Duration::from_secs(3),
        };
        let adapter = Adapter::start(settings, &client, &transport(), None).unwrap();
        while adapter.listed().is_empty() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let api = Api {
            published: Arc::new(published()),
            ready: Arc::new(Readiness::default()),
            authenticator: Arc::new(Authenticator::new(None)),
            authorizer: Arc::new(Authorizer::new(Arc::new(Everybody))),
            on_read: Box::new(|_| ()),
            adapter: Some(adapter as Arc<dyn custom_metrics::Adapter>),
            others: None,
        };
        Arc::new(Self { api, _servers: [api_server, prometheus], _folder: folder })
    }

    pub(crate) fn handle(&self, request: &Request) -> Response {
        self.api.handle(request)
    }

    pub(crate) fn at_once(&self, request: &Request) -> Option<Response> {
        self.api.at_once(request)
    }
}

fn api_server() -> FakePrometheus {
    let resource = |name: &str, kind: &str, namespaced: bool| json!({ "name": name, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind, "verbs": ["list"] });
    let core = json!({ "kind": "APIResourceList", "groupVersion": "v1", "resources": [
        resource("namespaces", "Namespace", false), resource("services", "Service", true),
    ] });
    let groups = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] });
    FakePrometheus::start(move |request| match request.target.split('?').next().unwrap_or_default() {
        "/apis" => json_reply(&groups),
        "/api/v1" => json_reply(&core),
        _ => Reply::status(404, "{}"),
    })
}

fn prometheus() -> FakePrometheus {
    FakePrometheus::start(|request| match request.target.split('?').next().unwrap_or_default() {
        "/api/v1/labels" => json_reply(&json!({ "status": "success", "data": ["namespace", "front"] })),
        "/api/v1/label/__name__/values" => json_reply(&json!({ "status": "success", "data": ["front_backlog"] })),
        _ => json_reply(&json!({ "status": "success", "data": { "resultType": "vector", "result": [
            { "metric": { "namespace": "shop", "front": "web" }, "value": [1_700_000_000, "30"] },
        ] } })),
    })
}

fn json_reply(body: &serde_json::Value) -> Reply {
    let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    Reply::Full { status: 200, headers, body: body.to_string().into_bytes() }
}

fn transport() -> Arc<Transport> {
    let config = TransportConfig {
        roots: Roots::load(None, &[]),
        proxy: ProxySettings::from_variables(|_| None),
        default_timeout: Duration::from_secs(3),
        user_agent: "hpalite/bench".to_owned(),
        names: Arc::new(Names::new(1)),
        rules: Arc::new(Rules { allowed: vec!["127.0.0.0/8".parse().unwrap()], own: Vec::new() }),
        tls_min: Version::default(),
        keep_alive: true,
        poll_threads: 32,
    };
    Arc::new(Transport::new(config).unwrap())
}

/// The view of an HPA that asks for the metric `waiting` of a Service by annotations.
fn published() -> Published {
    let published = Published::default();
    let described = Described { api_version: "v1".to_owned(), kind: "Service".to_owned(), name: "web".to_owned() };
    let view = ObjectView {
        key: ObjectKey::new(ApiGroup::Autoscaling, "shop", "web"),
        selector: Default::default(),
        metrics: vec![MetricView {
            name: "waiting".into(),
            reading: Reading::Value { value: 30.0, at: UnixMillis(1_700_000_000_000) },
            cached: true,
            age_limit: None,
            pods: None,
        }],
        asked: [Asked { metric: "waiting".to_owned(), labels: Vec::new(), of: AskedOf::Object(described) }].into(),
        error: None,
        made_at: UnixMillis(1_700_000_000_000),
    };
    published.set(&view.key.clone(), Some(Arc::new(view)));
    published
}
