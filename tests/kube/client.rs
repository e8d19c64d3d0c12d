//! Requests, errors, tokens and broken connections.

use std::error::Error as _;
use std::fs;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use hpalite::kube::{Client, Discovery, Error, PatchKind, Request, Resource, Verb};

use crate::support::fake_kube::{DEADLINE, FakeKube, Piece, Reply};

const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps", true);
const PATH: &str = "GET /api/v1/namespaces/shop/configmaps/a";

fn client(fake: &FakeKube, user: &str) -> Client {
    let folder = tempfile::tempdir().unwrap();
    Client::new(fake.config(folder.path(), user))
}

fn get() -> Request {
    CONFIG_MAPS.get(Some("shop"), "a").unwrap()
}

fn ok() -> Reply {
    Reply::json(200, r#"{"kind":"ConfigMap"}"#)
}

fn count(client: &Client, verb: Verb, code: Option<u16>) -> u64 {
    let counts = client.request_counts();
    counts.iter().find(|c| c.verb == verb && c.code == code).map_or(0, |c| c.count)
}

#[test]
fn requests_carry_what_they_should_and_reuse_the_connection() {
    let fake = FakeKube::start();
    let client = client(&fake, "token: sesame");
    fake.script(PATH, ok());
    let value: serde_json::Value = client.json(&get()).unwrap();
    assert_eq!(value["kind"], "ConfigMap");
    let apply = PatchKind::Apply { field_manager: "hpalite", force: true };
    let patch = CONFIG_MAPS.patch(Some("shop"), "a", apply, b"{\"a\":1}".to_vec()).unwrap();
    fake.script("PATCH /api/v1/namespaces/shop/configmaps/a", ok());
    client.send(&patch).unwrap();
    let delete = CONFIG_MAPS.delete(Some("shop"), "a", Some("u")).unwrap();
    fake.script("DELETE /api/v1/namespaces/shop/configmaps/a", ok());
    client.send(&delete).unwrap();
    fake.script("POST /api/v1/namespaces/shop/configmaps", Reply::json(201, "{}"));
    client.send(&CONFIG_MAPS.create(Some("shop"), b"{}".to_vec()).unwrap()).unwrap();

    let requests = fake.requests();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert_eq!(request.connection, 0, "{request:?}");
        assert_eq!(request.headers["authorization"], "Bearer sesame");
        assert_eq!(request.headers["accept"], "application/json");
        assert_eq!(request.headers["user-agent"], concat!("hpalite/", env!("CARGO_PKG_VERSION")));
    }
    assert!(!requests[0].headers.contains_key("content-length"));
    assert_eq!(requests[1].headers["content-type"], "application/apply-patch+yaml");
    assert_eq!(requests[1].body, b"{\"a\":1}");
    assert!(String::from_utf8_lossy(&requests[2].body).contains("preconditions"));
    assert_eq!(count(&client, Verb::Create, Some(201)), 1);
    assert_eq!(count(&client, Verb::Get, Some(200)), 1);
}

#[test]
fn refusals_are_typed() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    fake.script(PATH, Reply::status(403, "Forbidden"));
    assert!(client.send(&get()).unwrap_err().is_forbidden());
    fake.script(PATH, Reply::json(502, "<html>Bad Gateway</html>"));
    let error = client.send(&get()).unwrap_err();
    assert_eq!(error.to_string(), "the api server answered 502: <html>Bad Gateway</html>");
    fake.script(PATH, Reply::json(302, "").with_header("location", "http://elsewhere/"));
    assert_eq!(client.send(&get()).unwrap_err().status().unwrap().code, 302);
    fake.script(PATH, Reply::json(200, "not json"));
    let error = client.json::<serde_json::Value>(&get()).unwrap_err();
    assert!(matches!(error, Error::Decode { .. }) && error.source().is_some());
    assert!(fake.requests().iter().all(|r| !r.headers.contains_key("authorization")));
}

#[test]
fn a_refused_token_is_read_again_once() {
    let fake = FakeKube::start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "old").unwrap();
    let client = Client::new(fake.config(folder.path(), "tokenFile: token"));
    fs::write(folder.path().join("token"), "new").unwrap();
    fake.script(PATH, Reply::status(401, "Unauthorized"));
    fake.script(PATH, ok());
    client.send(&get()).unwrap();
    let tokens: Vec<_> = fake.requests().iter().map(|r| r.headers["authorization"].clone()).collect();
    assert_eq!(tokens, ["Bearer old", "Bearer new"]);

    // The same token is not worth a second attempt.
    fake.script(PATH, Reply::status(401, "Unauthorized"));
    assert_eq!(client.send(&get()).unwrap_err().status().unwrap().code, 401);
    assert_eq!(fake.requests().len(), 3);
}

#[test]
fn too_many_requests_is_obeyed_within_limits() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    let busy = |seconds| Reply::status(429, "TooManyRequests").with_header("retry-after", seconds);
    fake.script(PATH, busy("1"));
    fake.script(PATH, ok());
    let start = Instant::now();
    client.send(&get()).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    // Too long to wait, so the error is returned.
    fake.script(PATH, busy("60"));
    let error = client.send(&get()).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(fake.requests().len(), 3);

    for _ in 0..3 {
        fake.script(PATH, busy("0"));
    }
    assert!(client.send(&get()).unwrap_err().is_retryable());
    assert_eq!(fake.requests().len(), 6);
    assert_eq!(count(&client, Verb::Get, Some(429)), 5);
}

#[test]
fn a_connection_closed_before_an_answer_is_tried_again_if_harmless() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    fake.script(PATH, ok());
    client.send(&get()).unwrap();
    fake.script(PATH, Reply::Close);
    fake.script(PATH, ok());
    client.send(&get()).unwrap();
    let connections: Vec<_> = fake.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    assert_eq!(count(&client, Verb::Get, None), 1);

    // A second failure is an error.
    fake.script(PATH, Reply::Close);
    fake.script(PATH, Reply::Close);
    let error = client.send(&get()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.is_retryable(), "{error:?}");

    let posts = "POST /api/v1/namespaces/shop/configmaps";
    fake.script(posts, Reply::Close);
    let create = CONFIG_MAPS.create(Some("shop"), b"{}".to_vec()).unwrap();
    client.send(&create).unwrap_err();
    assert_eq!(fake.requests().iter().filter(|r| r.method == "POST").count(), 1);
}

/// Another instance may write once the time of a write is over.
#[test]
fn a_repeat_has_only_what_is_left_of_the_time() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    for _ in 0..2 {
        fake.script("PUT /api/v1/namespaces/shop/configmaps/a", Reply::Silent);
    }
    let write = CONFIG_MAPS.replace(Some("shop"), "a", b"{}".to_vec()).unwrap();
    let within = Duration::from_secs(6);
    let (sender, answer) = channel();
    thread::spawn(move || sender.send(client.send_within(&write, within)));
    assert!(answer.recv_timeout(within / 2).is_err(), "nobody has answered");
    fake.close_connections();
    let closed = Instant::now();
    fake.wait("the repeat", |requests| requests.len() == 2);
    let error = answer.recv_timeout(DEADLINE).unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(closed.elapsed() < within, "{:?}", closed.elapsed());
}

/// One connection that died without a word says that the others may have, too.
#[test]
fn after_a_silence_no_connection_of_before_is_used() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    fake.script(PATH, Reply::Stream(vec![Piece::Silence]));
    let (silent, asked) = (client.clone(), get());
    let silent = thread::spawn(move || silent.send_within(&asked, Duration::from_secs(2)));
    fake.wait("the first request", |requests| !requests.is_empty());
    fake.script(PATH, ok());
    client.send(&get()).unwrap();
    assert!(matches!(silent.join().unwrap(), Err(Error::Timeout { .. })));
    for _ in 0..2 {
        fake.script(PATH, ok());
        client.send(&get()).unwrap();
    }
    let connections: Vec<_> = fake.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 1, 2, 2]);
}

/// No packet comes back, not even a refusal: long before the time limits of 15 s and two minutes, a request is repeated on
/// a new connection, and a watch ends.
#[test]
fn connections_that_died_without_a_word_are_noticed() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    let watch = CONFIG_MAPS.watch(None, &Default::default()).unwrap();
    let mut stream = client.stream(&watch, Duration::from_secs(120)).unwrap();
    fake.script(PATH, ok());
    client.send(&get()).unwrap();
    fake.forget_connections();
    let began = Instant::now();
    let watching = thread::spawn(move || (stream.read_some(&mut [0; 16]), began.elapsed()));
    for _ in 0..2 {
        fake.script(PATH, ok());
        client.send(&get()).unwrap();
    }
    let connections: Vec<_> = fake.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 1, 2, 2]);
    assert_eq!(count(&client, Verb::Get, None), 1);
    let (read, took) = watching.join().unwrap();
    assert!(matches!(read, Err(Error::Timeout { .. })) && took < Duration::from_secs(90), "{read:?} after {took:?}");
}

#[test]
fn a_body_that_breaks_off_is_a_fault() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    fake.script(PATH, Reply::Short(b"{}".to_vec()));
    let error = client.send(&get()).unwrap_err();
    assert!(matches!(error, Error::Io { step: "response body", .. }), "{error:?}");
    fake.script(PATH, Reply::Stream(vec![Piece::Send(b"{".to_vec()), Piece::Cut]));
    assert!(matches!(client.send(&get()).unwrap_err(), Error::Io { .. }));
    fake.script(PATH, Reply::Stream(vec![Piece::Drip(b"{\"a\":1}".to_vec())]));
    assert_eq!(client.send(&get()).unwrap(), b"{\"a\":1}");
}

#[test]
fn a_refused_connection_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = {
        let fake = FakeKube::start();
        fake.config(folder.path(), "")
    };
    // The fake's accept loop ends at some later time, so a port without a listener is used.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = fs::read_to_string(folder.path().join("kubeconfig")).unwrap();
    let text = text.replace(config.server(), &format!("http://127.0.0.1:{port}"));
    fs::write(folder.path().join("kubeconfig"), text).unwrap();
    let path = folder.path().join("kubeconfig");
    let client = Client::new(hpalite::kube::ClusterConfig::from_kubeconfig(&path).unwrap());
    let error = client.send(&get()).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
}

#[test]
fn a_shutdown_wakes_streams_first_and_requests_on_demand() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    let watch = CONFIG_MAPS.watch(None, &Default::default()).unwrap();
    let reader = {
        let client = client.clone();
        thread::spawn(move || {
            let mut stream = client.stream(&watch, Duration::from_secs(60))?;
            stream.read_some(&mut [0; 16])
        })
    };
    fake.wait("a watch", |r| r.len() == 1);
    client.shutdown_watches();
    assert!(matches!(reader.join().unwrap(), Err(Error::Shutdown)));
    fake.script(PATH, ok());
    client.send(&get()).unwrap();

    fake.script(PATH, Reply::Stream(vec![Piece::Silence]));
    let sender = {
        let client = client.clone();
        thread::spawn(move || client.send(&get()))
    };
    fake.wait("a request", |r| r.len() == 3);
    client.shutdown();
    assert!(matches!(sender.join().unwrap(), Err(Error::Shutdown)));
    assert!(matches!(client.send(&get()), Err(Error::Shutdown)));
}

#[test]
fn a_long_token_and_a_long_query_fit() {
    let fake = FakeKube::start();
    let client = client(&fake, &format!("token: {}", "t".repeat(12_000)));
    let selector = "x".repeat(8_000);
    let options = hpalite::kube::ListOptions { label_selector: Some(&selector), ..Default::default() };
    fake.script("GET /api/v1/configmaps", Reply::json(200, "{}"));
    client.send(&CONFIG_MAPS.list(None, &options).unwrap()).unwrap();
    assert_eq!(fake.requests()[0].headers["authorization"].len(), 12_007);
}

#[test]
fn kinds_are_found_and_remembered() {
    let fake = FakeKube::start();
    let client = client(&fake, "");
    let discovery = Discovery::default();
    let list = r#"{"resources":[{"name":"webs","namespaced":true,"kind":"Web"},{"name":"webs/scale","kind":"Scale"}]}"#;
    assert!(discovery.find(&client, "shop.io", "v1", "Web").unwrap_err().is_not_found());
    fake.script("GET /apis/shop.io/v1", Reply::json(200, list));
    for _ in 0..3 {
        let found = discovery.find(&client, "shop.io", "v1", "Web").unwrap();
        assert_eq!((found.resource.plural.as_ref(), found.scalable), ("webs", true));
    }
    assert_eq!(fake.requests().len(), 2);
    fake.script("GET /apis/shop.io/v1", Reply::json(200, list));
    let error = discovery.find(&client, "shop.io", "v1", "Shop").unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("no kind Shop"), "{error}");
    assert!(discovery.find(&client, "..", "v1", "Shop").is_err());
}
