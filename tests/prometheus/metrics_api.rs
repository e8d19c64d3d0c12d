//! Queries of metrics-api triggers, over the same threads and connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use hpalite::metrics_api::service::{Endpoints, ServiceSource, Slice};
use hpalite::polling::credentials::{FetchError, FetchErrorKind};
use hpalite::scaling::event::{Answer, Credentials, ErrorClass, PollJob};
use hpalite::scaling::model::{
    AggregationFunction, ApiKey, AuthMode, AuthenticationKind, BodyFormat, MetricsApiSource, Query, ServiceAggregation,
    UnixMillis,
};

use super::credentials::{FakeSource, credentials, secret};
use super::poller::asker;
use super::setup::assert_failed;
use crate::support::fake_prometheus::{FakePrometheus, Reply};

impl ServiceSource for FakeSource {
    fn endpoints(&self, namespace: &str, service: &str) -> Result<Endpoints, FetchError> {
        match self.services.lock().unwrap().get(&format!("{namespace}/{service}")) {
            Some(endpoints) => Ok(endpoints.clone()),
            None => Err(FetchError { kind: FetchErrorKind::NotFound, message: "not found".into() }),
        }
    }
}

fn source(url: String) -> MetricsApiSource {
    MetricsApiSource {
        server: url.clone(),
        url,
        format: BodyFormat::Json,
        value_location: "queue.size".to_owned(),
        unsafe_ssl: false,
        timeout: None,
        auth_modes: Vec::new(),
        api_key: ApiKey::default(),
        aggregation: None,
    }
}

fn ask(fake: &Arc<FakeSource>, source: &MetricsApiSource, credentials: Option<Credentials>) -> Answer {
    let job = PollJob {
        id: 1,
        server: source.server.as_str().into(),
        query: Query::MetricsApi(Arc::new(source.clone())),
        credentials,
        group: None,
        due_at: UnixMillis(0),
    };
    asker(fake).ask(job).answer
}

#[test]
fn a_number_and_what_can_be_wrong_with_it() {
    let fake = FakePrometheus::start(|request| match request.target.split('?').next() {
        Some("/stats") => Reply::json(r#"{"queue":{"size":"1500m"}}"#),
        Some("/empty") => Reply::json("{}"),
        Some("/moved") => Reply::redirect(302, "/stats"),
        Some("/created") => Reply::status(201, r#"{"queue":{"size":1}}"#),
        _ => Reply::status(404, "no such page\nhere"),
    });
    let secrets = Arc::new(FakeSource::default());
    let at = |path: &str| ask(&secrets, &source(format!("{}{path}", fake.url())), None);
    assert_eq!(at("/stats?of=a"), Answer::Value(1.5));
    assert_eq!(at("/moved"), Answer::Value(1.5));
    let seen: Vec<(String, String)> = fake.requests().into_iter().map(|r| (r.method, r.target)).collect();
    assert_eq!(seen[0], ("GET".to_owned(), "/stats?of=a".to_owned()));
    assert_failed(at("/created"), ErrorClass::Status, "/created answered status 201");
    let missing = format!("{}/nothing answered status 404: Not Found", fake.url());
    assert_failed(at("/nothing?key=secret"), ErrorClass::Status, &missing);
    let empty = format!("valueLocation \"queue.size\" of {}/empty: nothing is there", fake.url());
    assert_failed(at("/empty"), ErrorClass::Query, &empty);
    let nobody = source("http://127.0.0.1:1/stats".to_owned());
    assert_failed(ask(&secrets, &nobody, None), ErrorClass::Connect, "http://127.0.0.1:1");
}

#[test]
fn an_api_key_comes_from_a_secret() {
    let fake = FakePrometheus::start(|request| match request.header("X-API-KEY") {
        Some("sesame") => Reply::json(r#"{"queue":{"size":3}}"#),
        _ => Reply::status(401, ""),
    });
    let secrets = Arc::new(FakeSource::default());
    secrets.set("Secret shop/s", &[("key", "sesame\n")]);
    let open = MetricsApiSource { auth_modes: vec![AuthMode::ApiKey], ..source(fake.url()) };
    let of = |key: &str| Some(credentials(AuthenticationKind::TriggerAuthentication, &[secret("apiKey", "s", key)]));
    assert_eq!(ask(&secrets, &open, of("key")), Answer::Value(3.0));
    assert_failed(ask(&secrets, &open, of("other")), ErrorClass::Authentication, "has no key other");
    assert_failed(ask(&secrets, &open, None), ErrorClass::Authentication, "authMode apiKey needs parameter apiKey");
    assert_eq!(fake.requests().len(), 1, "nothing is asked without the key");
}

#[test]
fn every_endpoint_of_a_service() {
    let replying = |size: &'static str| {
        FakePrometheus::start(move |_| match size {
            "down" => Reply::status(503, "down"),
            size => Reply::json(&format!(r#"{{"queue":{{"size":{size}}}}}"#)),
        })
    };
    let servers: Vec<_> = ["1", "2", "9", "down", "4", "4", "1"].into_iter().map(replying).collect();
    let slices = servers.iter().map(|server| Slice {
        ports: vec![("web".to_owned(), server.address.port())],
        ready: vec!["127.0.0.1".to_owned()],
    });
    let endpoints = Endpoints { ports: vec![("web".to_owned(), 80)], slices: slices.collect() };
    let secrets = Arc::new(FakeSource::default());
    *secrets.services.lock().unwrap() = BTreeMap::from([
        ("shop/api".to_owned(), endpoints.clone()),
        ("shop/none".to_owned(), Endpoints { slices: Vec::new(), ..endpoints.clone() }),
        (
            "shop/up".to_owned(),
            Endpoints {
                slices: endpoints.slices[..2].iter().chain(&endpoints.slices[4..5]).cloned().collect(),
                ..endpoints.clone()
            },
        ),
        ("shop/down".to_owned(), Endpoints { slices: vec![endpoints.slices[3].clone()], ..endpoints }),
    ]);
    let of = |service: &str, function| {
        let url = format!("http://{service}.shop/stats");
        let aggregation = ServiceAggregation { namespace: "shop".to_owned(), service: service.to_owned(), function };
        ask(&secrets, &MetricsApiSource { aggregation: Some(aggregation), ..source(url) }, None)
    };
    use AggregationFunction::{Average, Max, Min, Sum};
    // Six of seven answers are enough for an average, but for nothing else.
    let few = "not enough of 7 endpoints answered with a number: http://127.0.0.1:";
    for function in [Sum, Max, Min] {
        assert_failed(of("api", function), ErrorClass::Status, few);
    }
    match of("api", Average) {
        Answer::Value(value) => assert!((value - 3.5).abs() < 1e-9, "{value}"),
        other => panic!("{other:?}"),
    }
    for (function, expected) in [(Sum, 7.0), (Max, 4.0), (Min, 1.0)] {
        match of("up", function) {
            Answer::Value(value) => assert!((value - expected).abs() < 1e-9, "{function:?}: {value}"),
            other => panic!("{function:?}: {other:?}"),
        }
    }
    assert_eq!(servers[0].requests().len(), 7, "each once a question");
    assert_failed(of("none", Sum), ErrorClass::Connect, "Service shop/none has no ready endpoint");
    assert_failed(
        of("down", Sum),
        ErrorClass::Status,
        "not enough of 1 endpoints answered with a number: http://127.0.0.1:",
    );
    assert_failed(of("gone", Sum), ErrorClass::Configuration, "Service shop/gone does not exist");
}
