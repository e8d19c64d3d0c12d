//! Few questions for many ScaledObjects, and none for a server that asks for a rest.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::case::Case;
use super::why::wait_for_held_by;
use crate::support::cluster::{wait_for, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply, Request};

fn trigger(server: &FakePrometheus, query: &str) -> Value {
    json!([{ "type": "prometheus", "metadata": { "serverAddress": server.url(), "query": query, "threshold": "10" } }])
}

/// Returns the PromQL of a request.
fn query(request: &Request) -> String {
    let form =
        if request.body.is_empty() { request.target.split('?').nth(1).unwrap_or_default() } else { &request.body };
    let encoded = form.split('&').find_map(|pair| pair.strip_prefix("query=")).unwrap_or_default();
    percent_decode_str(&encoded.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// One server, and a chart's three ScaledObjects, one of them for a service without series.
#[test]
fn scaled_objects_of_one_template_are_asked_as_one() {
    let case = Case::new("template");
    let refuses = Arc::new(Mutex::new(false));
    let load_of_a = Arc::new(Mutex::new(30));
    let (refusing, load) = (Arc::clone(&refuses), Arc::clone(&load_of_a));
    let server = FakePrometheus::start(move |request| {
        let asked = query(request);
        let a = load.lock().unwrap().to_string();
        if !asked.contains("by (service)") {
            return match asked.split('"').nth(1) {
                Some("a") => Reply::value(&a),
                Some("b") => Reply::value("5"),
                _ => Reply::json(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#),
            };
        }
        if *refusing.lock().unwrap() {
            return Reply::status(422, r#"{"status":"error","errorType":"execution","error":"too many samples"}"#);
        }
        // At first only two of the three may be there.
        let named: Vec<&str> = asked.split('"').nth(1).unwrap_or_default().split('|').collect();
        let series: Vec<Value> = [("a", a.as_str()), ("b", "5")]
            .into_iter()
            .filter(|(service, _)| named.contains(service))
            .map(|(service, value)| json!({ "metric": { "service": service }, "value": [1_700_000_000, value] }))
            .collect();
        Reply::json(&json!({ "status": "success", "data": { "resultType": "vector", "result": series } }).to_string())
    });
    for service in ["a", "b", "idle"] {
        case.cluster.deployment(&case.namespace, service, 1);
        let query = format!(r#"sum(jobs{{service="{service}"}})"#);
        case.scale(service, json!({ "scaleTargetRef": { "name": service }, "triggers": trigger(&server, &query) }));
    }
    let wait_for_replicas = |service: &str, replicas: i64| {
        wait_seeing(&format!("{service} at {replicas} replicas"), || {
            let seen = case.cluster.replicas(&case.namespace, service);
            (seen == Some(replicas)).then_some(()).ok_or_else(|| format!("{seen:?}"))
        });
    };
    let wait_for_queries = |what: &str, wanted: &dyn Fn(&str) -> bool| {
        wait_seeing(&format!("the last four queries to be {what}"), || {
            let asked: Vec<String> = server.requests().iter().map(query).collect();
            let last = &asked[asked.len().saturating_sub(4)..];
            (last.len() == 4 && last.iter().all(|query| wanted(query))).then_some(()).ok_or_else(|| format!("{last:?}"))
        });
    };
    wait_for_replicas("a", 3);
    wait_for_replicas("b", 1);
    wait_for_replicas("idle", 0);
    wait_for_queries("one of all three", &|query| query == r#"sum by (service) (jobs{service=~"a|b|idle"})"#);
    // A server that refuses the grouped query is asked for each of them again, and nobody misses a value.
    *refuses.lock().unwrap() = true;
    wait_for_queries("one for each", &|query| !query.contains("by (service)"));
    *load_of_a.lock().unwrap() = 50;
    wait_for_replicas("a", 5);
    wait_for_replicas("b", 1);
    wait_for_replicas("idle", 0);
}

#[test]
fn a_server_that_asks_for_a_rest_gets_it() {
    const REST: Duration = Duration::from_secs(20);
    let case = Case::new("rest").deployment(2);
    let overloaded = Arc::new(Mutex::new(false));
    let times = Arc::new(Mutex::new(Vec::<(Instant, bool)>::new()));
    let (rests, seen) = (Arc::clone(&overloaded), Arc::clone(&times));
    let server = FakePrometheus::start(move |_| {
        let rests = *rests.lock().unwrap();
        seen.lock().unwrap().push((Instant::now(), rests));
        if !rests {
            return Reply::value("20");
        }
        let headers = vec![("Retry-After".to_owned(), REST.as_secs().to_string())];
        Reply::Full { status: 429, headers, body: b"too many requests".to_vec() }
    });
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": trigger(&server, "load") }));
    case.wait_until_ready();
    *overloaded.lock().unwrap() = true;
    let refused_at = wait_for("a query that is refused", || {
        times.lock().unwrap().iter().find(|(_, refused)| *refused).map(|(at, _)| *at)
    });
    *overloaded.lock().unwrap() = false;
    // The object says why its values are old.
    wait_for_held_by(&case, &["late-samples", "no-samples"]);
    let next = wait_for("the query after the rest", || {
        times.lock().unwrap().iter().find(|(at, _)| *at > refused_at).map(|(at, _)| *at)
    });
    let pause = next - refused_at;
    // What was under way together with the refused query does not count as another one: there is one trigger.
    assert!(pause >= REST - Duration::from_millis(100), "asked again after {pause:?}");
    assert_eq!(case.replicas(), 2, "nothing is scaled while values are missing");
    case.wait_until_ready();
}
