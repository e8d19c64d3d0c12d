//! The page's JSON, and which requests the server refuses.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::scene::{EVIL_NAME, MINUTE, Scene, key};

/// Sends a request with one additional header; returns head and body of the answer.
fn ask(address: SocketAddr, method: &str, path: &str, host: &str, header: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let (head, body) = ask(address, "GET", path, "localhost:8081", "");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}

#[test]
fn headers_keep_others_out() {
    let scene = Scene::empty();
    let gate = scene.serve();
    let address = gate.local_addr();
    for (path, kind, caching) in [
        ("/", "text/html; charset=utf-8", "no-cache"),
        ("/app.js", "text/javascript; charset=utf-8", "no-cache"),
        ("/style.css", "text/css; charset=utf-8", "no-cache"),
        ("/api/objects", "application/json", "no-store"),
        ("/nothing", "application/json", "no-store"),
    ] {
        let (head, _) = ask(address, "GET", path, "127.0.0.1", "");
        for header in [
            format!("Content-Type: {kind}"),
            format!("Cache-Control: {caching}"),
            "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'".to_owned(),
            "X-Content-Type-Options: nosniff".to_owned(),
            "Referrer-Policy: no-referrer".to_owned(),
        ] {
            assert!(head.lines().any(|line| line == header), "{path}: {header}: {head}");
        }
    }
    // A foreign name that resolves to this machine: DNS rebinding.
    let (head, body) = ask(address, "GET", "/api/objects", "evil.example:8081", "");
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(body.contains("localhost") && !body.contains("objects"), "{body}");
    // A trigger's request, with the right name.
    for path in ["/", "/api/objects"] {
        let (head, body) = ask(address, "GET", path, "127.0.0.1:8081", "Hpalite-Poll: 1\r\n");
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        assert_eq!(body, r#"{"error":"no trigger is answered here"}"#);
    }
    let (head, _) = ask(address, "POST", "/api/objects", "localhost", "Content-Length: 0\r\n");
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    let (head, body) = ask(address, "HEAD", "/", "localhost", "");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}{body}");
    let (head, _) = ask(address, "GET", "/app.js", "localhost", "");
    let etag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
    let (head, body) = ask(address, "GET", "/app.js", "localhost", &format!("If-None-Match: {etag}\r\n"));
    assert!(head.starts_with("HTTP/1.1 304 ") && body.is_empty(), "{head}{body}");
}

#[test]
fn objects_are_listed_with_their_state() {
    let scene = Scene::full();
    let gate = scene.serve();
    let (status, list) = get(gate.local_addr(), "/api/objects");
    assert_eq!((status, &list["total"]), (200, &Value::from(15)));
    let objects = list["objects"].as_array().unwrap();
    let find = |namespace: &str, name: &str, group: &str| {
        objects.iter().find(|o| o["namespace"] == namespace && o["name"] == name && o["group"] == group).unwrap()
    };
    for (namespace, name, state) in [
        ("shop", "checkout", "active"),
        ("shop", "recommendations", "idle"),
        ("batch", "reports", "paused"),
        ("batch", "imports", "fallback"),
        ("batch", "typo", "invalid"),
        ("shop", EVIL_NAME, "error"),
    ] {
        assert_eq!(find(namespace, name, "keda.sh")["state"], state, "{name}");
    }
    let imports = &find("batch", "imports", "keda.sh")["triggers"][0];
    assert_eq!((&imports["outcome"], imports["value"].is_number()), (&Value::from("connect"), true), "{imports}");
    assert_eq!(find("shop", "checkout", "keda.k8s.io")["triggers"][0]["metric"], "s0-legacy");
    let spark = &find("shop", "recommendations", "keda.sh")["spark"];
    let values = spark["values"].as_array().unwrap();
    assert!((55..=65).contains(&values.len()), "{spark}");
    // Zero is a value, a missing sample is not.
    assert!(values.iter().filter(|value| **value == 0).count() > 50, "{spark}");
    let broken = &find("batch", "imports", "keda.sh")["spark"]["values"];
    assert!(broken.as_array().unwrap().iter().filter(|value| value.is_null()).count() > 30, "{broken}");

    let (_, some) = get(gate.local_addr(), "/api/objects?q=shop/&limit=2&offset=1");
    assert_eq!((&some["total"], some["objects"].as_array().unwrap().len()), (&Value::from(4), 2));
    let (_, removed) = get(gate.local_addr(), "/api/objects?q=campaign&removed=true");
    assert_eq!(removed["objects"][0]["state"], "removed");
    let (_, none) = get(gate.local_addr(), "/api/objects?q=%25");
    assert_eq!(none["total"], 0, "a filter is text, not a pattern");
}

#[test]
fn one_object_over_time() {
    let scene = Scene::full();
    let gate = scene.serve();
    let (from, to) = (scene.now - 60 * MINUTE, scene.now);
    let path = format!("/api/objects/shop/checkout?from={from}&to={to}&points=500");
    let (status, history) = get(gate.local_addr(), &path);
    assert_eq!(status, 200, "{history}");
    let requests = &history["triggers"][0];
    let times = |stretch: &Value, end: usize| {
        let points = stretch.as_array().unwrap();
        (points[if end == 0 { 0 } else { points.len() - 1 }][0].as_i64().unwrap() - to) / MINUTE
    };
    let stretches = requests["stretches"].as_array().unwrap();
    assert_eq!(stretches.len(), 2, "broken by the outage alone");
    assert_eq!((times(&stretches[0], 1), times(&stretches[1], 0)), (-47, -43));
    assert_eq!(history["triggers"][1]["silences"][0]["outcome"], "empty");
    assert_eq!(requests["errors"][0]["polls"], 16);
    assert_eq!((&requests["target"], &history["triggers"][1]["target"]), (&"AverageValue".into(), &"Value".into()));
    let thresholds: Vec<f64> =
        requests["thresholds"].as_array().unwrap().iter().map(|t| t["threshold"].as_f64().unwrap()).collect();
    assert_eq!(thresholds, [75.0, 100.0]);
    let definitions = history["definitions"].as_array().unwrap();
    assert_eq!(definitions[0]["changes"][0], "maxReplicaCount: 10 -> 12");
    assert_eq!((&definitions[0]["first"], &definitions[1]["first"]), (&false.into(), &true.into()));
    let periods = history["periods"].as_array().unwrap();
    let paused = periods.iter().find(|period| period["kind"] == "paused").unwrap();
    assert_eq!(paused["from"].as_i64().unwrap() - to, -13 * MINUTE);
    assert_eq!(paused["until"].as_i64().unwrap() - to, -8 * MINUTE);
    assert!(periods.iter().any(|period| period["kind"] == "notready" && period["until"] == to - 43 * MINUTE));
    // The first step shows the state before the range began.
    assert!(history["replicas"][0][0].as_i64().unwrap() < from, "{}", history["replicas"]);
    let manual = &history["replica_changes"][0];
    assert_eq!((&manual["actor"], &manual["manager"]), (&"other".into(), &"kubectl-scale".into()));
    assert_eq!(history["decisions"][0]["triggers"][0]["value"], 410.0);

    // A day in few points: extremes are kept, and the number of points is bounded.
    let (_, day) = get(
        gate.local_addr(),
        &format!("/api/objects/shop/checkout?from={}&to={to}&points=100", to - 24 * 60 * MINUTE),
    );
    let points: Vec<&Value> =
        day["triggers"][0]["stretches"].as_array().unwrap().iter().flat_map(|s| s.as_array().unwrap()).collect();
    assert!((50..=101).contains(&points.len()), "{}", points.len());
    assert!(points.iter().all(|point| point.as_array().unwrap().len() == 4 || point[1].is_number()));
    assert_eq!(day["triggers"][0]["samples"].as_u64().unwrap() / 100, 57);
    let highest = points.iter().filter_map(|point| point[2].as_f64()).fold(0.0, f64::max);
    assert!(highest > 550.0, "{highest}");

    // The largest possible time is valid.
    for path in ["/api/objects/shop/checkout", "/api/objects/shop/checkout/why"] {
        let (status, answer) = get(gate.local_addr(), &format!("{path}?to={}", i64::MAX));
        assert_eq!(status, 200, "{path}: {answer}");
    }

    let (_, legacy) = get(gate.local_addr(), "/api/objects/shop/checkout?group=keda.k8s.io&last=3600000");
    assert_eq!((&legacy["group"], &legacy["triggers"][0]["metric"]), (&"keda.k8s.io".into(), &"s0-legacy".into()));
}

#[test]
fn an_object_that_was_created_anew_has_both_lives() {
    let mut scene = Scene::empty();
    let object = key("shop", "again");
    scene.define(&object, 50, 1, &serde_json::json!({}), vec![]);
    scene.replicas(&object, 49, None, 4, None);
    scene.remove(&object, 40);
    scene.define(&object, 30, 1, &serde_json::json!({}), vec![]);
    scene.replicas(&object, 29, None, 2, None);
    scene.write();
    let gate = scene.serve();
    let (_, history) = get(gate.local_addr(), "/api/objects/shop/again");
    assert_eq!(history["lives"].as_array().unwrap().len(), 2, "{history}");
    let counts: Vec<Value> = history["replicas"].as_array().unwrap().iter().map(|step| step[1].clone()).collect();
    assert_eq!(counts, [Value::from(4), Value::Null, Value::from(2)], "{history}");
    let (_, list) = get(gate.local_addr(), "/api/objects?removed=true");
    assert_eq!((&list["total"], &list["objects"][0]["state"]), (&1.into(), &"idle".into()), "{list}");
}

#[test]
fn other_settings_are_replayed_for_the_page_alone() {
    let mut scene = Scene::empty();
    scene.replayable();
    let gate = scene.serve();
    let path = "/api/objects/shop/what-if/replay?last=3600000&set=";
    let asked = |path: &str, header: &str| -> (String, Value) {
        let (head, body) = ask(gate.local_addr(), "GET", path, "localhost:8081", header);
        (head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(&body).unwrap())
    };
    const OF_PAGE: &str = "Hpalite-Replay: 1\r\n";
    let set = "spec.triggers%5B0%5D.metadata.threshold%3D150";
    let (status, report) = asked(&format!("{path}{set}"), OF_PAGE);
    assert_eq!(status, "200", "{report}");
    let peak = |variant: &Value| variant["measures"]["peak"].as_u64();
    assert_eq!((peak(&report["today"]), peak(&report["candidates"][0])), (Some(8), Some(4)), "{report}");
    assert!(report["today"]["replicas"].as_array().unwrap().len() > 1, "{report}");
    let (_, today) = asked(path, OF_PAGE);
    assert_eq!(today["candidates"], Value::Array(Vec::new()));
    for (path, header, status, part) in [
        (format!("{path}{set}"), "", "403", "Hpalite-Replay"),
        (format!("{path}spec.maxReplicaCount%3D0"), OF_PAGE, "400", "spec.maxReplicaCount"),
        (format!("{path}{}", "x".repeat(4_097)), OF_PAGE, "400", "at most 4096 bytes"),
        (path.replace("3600000", "604800001"), OF_PAGE, "400", "7 days"),
        (path.replace("what-if", "none"), OF_PAGE, "404", "knows no ScaledObject"),
    ] {
        let (found, answer) = asked(&path, header);
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(part), "{path}: {answer}");
    }
}

#[test]
fn wrong_requests_are_answered_with_what_is_wrong() {
    let scene = Scene::empty();
    let gate = scene.serve();
    for (path, status, part) in [
        ("/api/objects/shop/web", 404, "knows no ScaledObject shop/web"),
        ("/api/objects/shop/web?group=v1", 400, "group"),
        ("/api/objects/shop/web?from=5&to=4", 400, "from, to and last"),
        ("/api/objects/shop/web?from=-9223372036854775808", 400, "from, to and last"),
        ("/api/objects/shop/web?last=9223372036854775807&to=-9", 400, "from, to and last"),
        ("/api/objects/shop/web?to=9223372036854775807", 404, "knows no"),
        ("/api/objects/shop/web?points=many", 400, "points"),
        ("/api/objects/shop/web?point=5", 400, "point: no such parameter"),
        ("/api/objects?limit=-1", 400, "limit"),
        ("/api/objects?q=%ff", 400, "query"),
        ("/api/objects/shop", 404, "nothing here"),
        ("/api/objects/shop/", 404, "nothing here"),
        ("/../etc/passwd", 404, "nothing here"),
    ] {
        let (found, answer) = get(gate.local_addr(), path);
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(part), "{path}: {answer}");
    }
}

#[test]
fn a_missing_database_is_reported() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = hpalite::ui::start(listener, std::path::Path::new("/nowhere/history.db")).unwrap();
    let (status, answer) = get(gate.local_addr(), "/api/objects");
    assert_eq!(status, 503);
    assert!(answer["error"].as_str().unwrap().contains("/nowhere/history.db"), "{answer}");
}

#[test]
fn why_is_answered_in_words() {
    let scene = Scene::full();
    let gate = scene.serve();
    let ask = |query: &str| {
        let (status, why) = get(gate.local_addr(), &format!("/api/objects/shop/checkout/why{query}"));
        assert_eq!(status, 200, "{query}: {why}");
        why
    };
    let why = ask("");
    assert_eq!(why["to"].as_i64().unwrap() - why["from"].as_i64().unwrap(), 60 * MINUTE);
    let texts = |why: &Value| -> Vec<String> {
        why["entries"].as_array().unwrap().iter().map(|entry| entry["text"].as_str().unwrap().to_owned()).collect()
    };
    assert!(texts(&why).iter().any(|text| text.contains("by kubectl-scale")), "{why}");
    assert_eq!(why["metrics"][0]["target"], 100.0);
    // At the requested time, not only now.
    let (from, to) = (scene.now - 46 * MINUTE, scene.now - 45 * MINUTE);
    let then = ask(&format!("?from={from}&to={to}"));
    let held = then["held_by"].as_array().unwrap();
    assert!(held.iter().any(|held| held["text"].as_str().unwrap().contains("timeout")), "{then}");
    assert_eq!((&then["from"], &then["to"]), (&from.into(), &to.into()));
    // Of a long range its last day, and of that the newest entries.
    let month = ask(&format!("?last={}", 30 * 24 * 60 * MINUTE));
    assert_eq!(month["to"].as_i64().unwrap() - month["from"].as_i64().unwrap(), 24 * 60 * MINUTE);
    assert!(texts(&month).len() <= 200, "{month}");
    assert_eq!(texts(&month).last(), texts(&why).last());
    // Two objects with the same name are distinguished.
    let legacy = ask("?group=keda.k8s.io");
    assert_eq!(legacy["metrics"][0]["metric"], "s0-legacy", "{legacy}");

    for (path, status, part) in [
        ("/api/objects/shop/nothing/why", 404, "knows no ScaledObject shop/nothing"),
        ("/api/objects/shop/checkout/why?group=v1", 400, "group"),
        ("/api/objects/shop/checkout/why?points=5", 400, "points: no such parameter"),
        ("/api/objects/shop/checkout/why?from=5&to=4", 400, "from, to and last"),
        ("/api/objects/shop/checkout/how", 404, "nothing here"),
    ] {
        let (found, answer) = get(gate.local_addr(), path);
        assert_eq!(found, status, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(part), "{path}: {answer}");
    }
}

/// Of more entries than anybody reads, the newest are returned with the number of the others.
#[test]
fn an_explanation_is_bounded() {
    let mut scene = Scene::empty();
    let object = key("shop", "restless");
    scene.define(&object, 600, 1, &serde_json::json!({}), vec![]);
    for minute in (1..=500).rev() {
        let (from, to) = (u32::from(minute % 2 == 1) + 1, u32::from(minute % 2 == 0) + 1);
        scene.replicas(&object, minute, Some(from), to, Some("kubectl"));
    }
    scene.write();
    let gate = scene.serve();
    let (_, why) = get(gate.local_addr(), &format!("/api/objects/shop/restless/why?last={}", 24 * 60 * MINUTE));
    let entries = why["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 200);
    assert!(why["older"].as_u64().unwrap() >= 300, "{}", why["older"]);
    let newest = entries.iter().rfind(|entry| entry["kind"] == "replicas").unwrap();
    let at = scene.now - MINUTE;
    assert!(hpalite::wire::time::parse_rfc3339(newest["at"].as_str().unwrap()).unwrap().0 == at, "{newest}");
}
