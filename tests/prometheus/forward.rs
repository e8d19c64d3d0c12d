//! Reads of external metrics that other adapters have, which are scripted here, with TLS as theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hpalite::config::ForwardSettings;
use hpalite::forward::{FORWARDS_MAX, Forwarder};
use hpalite::http::Response;
use hpalite::http::others::{FORWARDED, Others as _, Read};
use serde_json::{Value, json};

use super::setup::transport;
use super::tls::{Authority, server};
use crate::gate::support::eventually;
use crate::support::fake_prometheus::{FakePrometheus, Reply, Request};

const GROUP: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// An adapter that lists these metrics, and answers reads of any with `reply`.
fn adapter(names: &[&str], reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> FakePrometheus {
    let resources: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    let listed = json!({ "kind": "APIResourceList", "resources": resources }).to_string();
    FakePrometheus::start_tls(server(&Authority::new().issue("localhost", |_| ()), None), move |request| {
        if request.target == GROUP { Reply::json(&listed) } else { reply(request) }
    })
}

fn value(value: &str) -> Reply {
    let item =
        json!({ "metricName": "depth", "metricLabels": null, "timestamp": "2026-01-02T03:04:05Z", "value": value });
    Reply::json(&json!({ "kind": "ExternalMetricValueList", "items": [item] }).to_string())
}

fn status(code: u16, reason: &str, message: &str) -> Reply {
    Reply::status(code, &json!({ "kind": "Status", "reason": reason, "message": message }).to_string())
}

fn settings(targets: &[&FakePrometheus]) -> ForwardSettings {
    let targets = targets.iter().map(|target| target.url()).collect();
    ForwardSettings { targets, token_file: None, skips_verification: true }
}

/// Waits until the metrics of all adapters are listed.
fn started(settings: ForwardSettings, listed: &[&str]) -> Arc<Forwarder> {
    let forwarder = Forwarder::start(settings, &Arc::new(transport())).unwrap();
    eventually("the adapters' metrics are listed", || forwarder.listed().iter().eq(listed));
    forwarder
}

fn read(forwarder: &Forwarder, namespace: &str, metric: &str) -> (u16, Value) {
    let response: Response = forwarder.ask(&Read { namespace, metric, selector: "topic in (a,b)" });
    (response.status, serde_json::from_slice(response.body.as_bytes()).unwrap())
}

fn message(answer: &(u16, Value)) -> &str {
    answer.1["message"].as_str().unwrap_or_default()
}

#[test]
fn who_lists_a_metric_is_asked_for_it_with_the_token_that_is_named() {
    let [first, second] = [(&["a"], "1"), (&["b"], "2")].map(|(names, number)| adapter(names, move |_| value(number)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "one\n").unwrap();
    let settings = ForwardSettings { token_file: Some(file.clone()), ..settings(&[&first, &second]) };
    let forwarder = started(settings, &["a", "b"]);
    let (code, body) = read(&forwarder, "shop", "b");
    assert_eq!((code, &body["items"][0]["value"]), (200, &json!("2")));
    let asked = second.requests().pop().unwrap();
    assert_eq!(asked.target, format!("{GROUP}/namespaces/shop/b?labelSelector=topic%20in%20%28a%2Cb%29"));
    assert_eq!(asked.header("authorization"), Some("Bearer one"));
    assert!(forwarder.is_own(asked.header(FORWARDED).unwrap()) && !forwarder.is_own("another"));
    assert!(first.requests().iter().all(|request| request.target == GROUP), "it does not list it");
    // What nobody lists is asked of all in their order. The kubelet replaces tokens.
    std::fs::write(&file, "two").unwrap();
    assert_eq!(read(&forwarder, "shop", "c").1["items"][0]["value"], "1");
    assert_eq!(first.requests().pop().unwrap().header("authorization"), Some("Bearer two"));
    std::fs::write(&file, "").unwrap();
    let answer = read(&forwarder, "shop", "a");
    assert!(answer.0 == 500 && message(&answer).contains("holds no token"), "{answer:?}");
}

#[test]
fn errors_pass_with_a_word_of_who_answered() {
    let first = adapter(&["away"], |request| match request.target.rsplit('/').next().unwrap_or_default() {
        name if name.starts_with("limited") => status(400, "BadRequest", "the selector is wrong"),
        name if name.starts_with("denied") => status(403, "Forbidden", "no"),
        name if name.starts_with("large") => Reply::json(&"x".repeat(300 << 10)),
        _ => status(404, "NotFound", "the server could not find the metric"),
    });
    // As KEDA, it lists nothing.
    let second = adapter(&[], |request| match request.target.rsplit('/').next().unwrap_or_default() {
        name if name.starts_with("unknown") => status(500, "InternalError", "its Prometheus is down"),
        _ => status(404, "NotFound", "no"),
    });
    let forwarder = started(settings(&[&first, &second]), &["away"]);
    for (metric, code, words) in [
        ("limited", 400, "the selector is wrong"),
        ("denied", 500, "does not accept hpalite's credentials"),
        ("large", 502, "more than 256 KiB"),
        ("unknown", 500, "its Prometheus is down"),
    ] {
        let answer = read(&forwarder, "shop", metric);
        let url = if metric == "unknown" { second.url() } else { first.url() };
        assert_eq!(answer.0, code, "{metric}: {answer:?}");
        assert!(message(&answer).starts_with(&url) && message(&answer).contains(words), "{metric}: {answer:?}");
        assert_eq!(answer.1["kind"], "Status");
    }
    assert!(!first.requests().iter().any(|request| request.target.contains("/unknown")), "the other one knew it");
    let answer = read(&forwarder, "shop", "nowhere");
    let both = format!("none of {}, {}", second.url(), first.url());
    assert!(answer.0 == 404 && message(&answer).ends_with(&both), "{answer:?}");
    // One that lists a metric is the only one that is asked for it.
    let answer = read(&forwarder, "shop", "away");
    assert!(answer.0 == 404 && message(&answer).ends_with(&format!("none of {}", first.url())), "{answer:?}");
}

#[test]
fn one_that_hangs_costs_two_seconds_a_few_times_and_then_nothing() {
    let answers = Arc::new(AtomicBool::new(false));
    let shown = Arc::clone(&answers);
    let hung =
        adapter(&["depth"], move |_| if shown.load(Ordering::SeqCst) { value("3") } else { Reply::Stall(Vec::new()) });
    let forwarder = started(settings(&[&hung]), &["depth"]);
    let begun = Instant::now();
    let answer = read(&forwarder, "shop", "depth");
    assert!(answer.0 == 504 && message(&answer).contains("within 2s"), "{answer:?}");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    for _ in 0..2 {
        assert_eq!(read(&forwarder, "shop", "depth").0, 504);
    }
    let begun = Instant::now();
    let answer = read(&forwarder, "shop", "depth");
    assert!(answer.0 == 503 && message(&answer).contains("is not asked for a moment"), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    answers.store(true, Ordering::SeqCst);
    assert_eq!(read(&forwarder, "other", "depth").0, 200, "it is asked for other namespaces all the same");
    // It is tried again after a pause.
    eventually("its own reads go on", || read(&forwarder, "shop", "depth").0 == 200);
}

#[test]
fn no_namespace_holds_all_places() {
    let hung =
        adapter(
            &["depth"],
            |request| {
                if request.target.contains("/greedy/") { Reply::Stall(Vec::new()) } else { value("3") }
            },
        );
    let forwarder = started(settings(&[&hung]), &["depth"]);
    std::thread::scope(|scope| {
        let greedy: Vec<_> = (0..FORWARDS_MAX).map(|_| scope.spawn(|| read(&forwarder, "greedy", "depth"))).collect();
        eventually("half of them are under way", || hung.requests().len() > FORWARDS_MAX / 2);
        assert_eq!(read(&forwarder, "other", "depth").0, 200);
        let codes: Vec<u16> = greedy.into_iter().map(|thread| thread.join().unwrap().0).collect();
        assert!(codes.contains(&503) && codes.contains(&504), "{codes:?}");
    });
}

#[test]
fn certificates_are_verified_unless_it_is_said_otherwise() {
    let unknown = adapter(&["depth"], |_| value("3"));
    let verifying = ForwardSettings { skips_verification: false, ..settings(&[&unknown]) };
    let forwarder = Forwarder::start(verifying, &Arc::new(transport())).unwrap();
    let answer = read(&forwarder, "shop", "depth");
    assert!(answer.0 == 503 && message(&answer).contains("unknown issuer"), "{answer:?}");
    assert!(unknown.requests().is_empty(), "nothing was sent");
}

#[test]
fn one_that_is_hpalite_itself_is_not_asked_again() {
    let ourselves = FakePrometheus::start_tls(server(&Authority::new().issue("localhost", |_| ()), None), |_| {
        status(508, "LoopDetected", "leads to hpalite itself")
    });
    let forwarder = Forwarder::start(settings(&[&ourselves]), &Arc::new(transport())).unwrap();
    for _ in 0..2 {
        let answer = read(&forwarder, "shop", "depth");
        assert!(answer.0 == 508 && message(&answer).contains("hpalite itself"), "{answer:?}");
    }
    // Its reads at most once, and its discovery.
    let reads = ourselves.requests().iter().filter(|request| request.target != GROUP).count();
    assert!(reads <= 1, "{reads}");
}
