//! Requests and answers over plain HTTP: what is sent, how faults are reported, how connections are reused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use hpalite::scaling::event::{Answer, ErrorClass, Missing};
use hpalite::scaling::model::{AuthMode, PrometheusSource};

use super::setup::{
    GENEROUS, ask, assert_failed, failed, source, transport, transport_with, transport_without_keep_alive, with_modes,
};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

#[test]
fn request_as_sent() {
    let fake = FakePrometheus::start(|_| Reply::value("1.5"));
    let source = PrometheusSource {
        namespace: Some("shop".into()),
        custom_headers: vec![("X-Scope-OrgID".into(), "team".into())],
        query_parameters: vec![("dedup".into(), "true".into())],
        auth_modes: vec![AuthMode::Bearer],
        ..source(&format!("{}/prom/", fake.url()), "sum(a b)")
    };
    assert_eq!(ask(&transport(), &source, &[("bearerToken", "tok")]), Answer::Value(1.5));
    let request = &fake.requests()[0];
    assert_eq!(request.method, "GET");
    let target = "/prom/api/v1/query?query=sum%28a+b%29&time=2023-11-14T22:13:20Z&namespace=shop&dedup=true";
    assert_eq!(request.target, target);
    let rows = [
        ("hpalite-poll", "1"),
        ("x-scope-orgid", "team"),
        ("authorization", "Bearer tok"),
        ("accept-encoding", "gzip"),
        ("user-agent", "hpalite/test"),
        ("host", &fake.address.to_string()),
    ];
    for (name, value) in rows {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[test]
fn a_long_query_is_posted() {
    let fake = FakePrometheus::start(|_| Reply::value("1"));
    let query = format!("sum({})", "a".repeat(40_000));
    let source = PrometheusSource { namespace: Some("shop".into()), ..source(&fake.url(), &query) };
    assert_eq!(ask(&transport(), &source, &[]), Answer::Value(1.0));
    let request = &fake.requests()[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/api/v1/query?namespace=shop"));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.body, format!("query=sum%28{}%29&time=2023-11-14T22:13:20Z", "a".repeat(40_000)));
}

#[test]
fn answers_reach_the_caller() {
    let many = r#"{"data":{"result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}"#;
    let error = r#"{"status":"error","errorType":"execution","error":"boom"}"#;
    let rows = [
        (200, r#"{"data":{"result":[{"value":[1,"2"]}]}}"#, Ok(Answer::Value(2.0))),
        (201, r#"{"data":{"resultType":"scalar","result":[1,"3"]}}"#, Ok(Answer::Value(3.0))),
        (200, r#"{"data":{"result":[]}}"#, Ok(Answer::Missing(Missing::Empty))),
        (200, r#"{"data":{"result":[{"value":[1,null]}]}}"#, Ok(Answer::Missing(Missing::Null))),
        (200, many, Err((ErrorClass::Query, "returned 2 series"))),
        (200, error, Err((ErrorClass::Status, "answered an error: execution: boom"))),
        (422, error, Err((ErrorClass::Status, "status 422: execution: boom"))),
        (503, "busy\n", Err((ErrorClass::Status, "status 503: Service Unavailable"))),
        (
            200,
            "<html><title>Login</title>",
            Err((ErrorClass::Response, "an HTML page instead of the Prometheus API's JSON")),
        ),
        (200, r#"{"data":{"result":[{"value":[1,5]}]}}"#, Err((ErrorClass::Response, "bare JSON number"))),
    ];
    let transport = transport();
    for (status, body, expected) in rows {
        let fake = FakePrometheus::start(move |_| Reply::status(status, body));
        let answer = ask(&transport, &source(&fake.url(), "up"), &[]);
        match expected {
            Ok(expected) => assert_eq!(answer, expected, "{body}"),
            Err((class, words)) => assert_failed(answer, class, words),
        }
    }
}

#[test]
fn a_huge_answer_is_cut_short() {
    let series = r#"{"metric":{"a":"b"},"value":[1,"1"]},"#.repeat(200_000);
    let fake = FakePrometheus::start(move |_| Reply::json(&format!(r#"{{"data":{{"result":[{series}"#)));
    assert_failed(ask(&transport(), &source(&fake.url(), "up"), &[]), ErrorClass::Query, "far too many series");
}

#[test]
fn a_compressed_answer_is_read() {
    // `{"data":{"result":[{"value":[1,"7"]}]}}`, stored without compression inside gzip.
    let json = br#"{"data":{"result":[{"value":[1,"7"]}]}}"#;
    let length = u8::try_from(json.len()).unwrap();
    let mut body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, length, 0, !length, 255];
    body.extend(json);
    body.extend(crc32(json).to_le_bytes());
    body.extend(u32::from(length).to_le_bytes());
    let good = body.clone();
    let gzip =
        |body: Vec<u8>| Reply::Full { status: 200, headers: vec![("Content-Encoding".into(), "gzip".into())], body };
    let fake = FakePrometheus::start(move |_| gzip(good.clone()));
    assert_eq!(ask(&transport(), &source(&fake.url(), "up"), &[]), Answer::Value(7.0));
    body[20] ^= 1;
    let fake = FakePrometheus::start(move |_| gzip(body.clone()));
    assert_failed(ask(&transport(), &source(&fake.url(), "up"), &[]), ErrorClass::Response, "damaged");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn many_polls_share_a_connection() {
    let fake = FakePrometheus::start(|_| Reply::value("1"));
    let transport = transport();
    for number in 0..50 {
        // Different time limits still share the connection.
        let timeout = Some(GENEROUS + Duration::from_secs(number));
        let answer = ask(&transport, &PrometheusSource { timeout, ..source(&fake.url(), "up") }, &[]);
        assert_eq!(answer, Answer::Value(1.0));
    }
    assert_eq!((fake.connections(), fake.requests().len()), (1, 50));
}

#[test]
fn connections_are_kept_unless_that_is_disabled() {
    let fake = FakePrometheus::start(|_| Reply::value("1"));
    let transport = transport_without_keep_alive();
    for _ in 0..3 {
        assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[]), Answer::Value(1.0));
    }
    assert_eq!((fake.connections(), fake.requests().len()), (3, 3));
}

#[test]
fn an_error_status_keeps_the_connection() {
    let fake = FakePrometheus::start(|_| Reply::status(500, "x"));
    let transport = transport();
    for _ in 0..5 {
        failed(ask(&transport, &source(&fake.url(), "up"), &[]));
    }
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_closed_connection_is_replaced() {
    let fake = FakePrometheus::start(|_| Reply::value("1"));
    let transport = transport();
    for _ in 0..5 {
        assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[]), Answer::Value(1.0));
        fake.close_connections();
    }
    assert_eq!(fake.connections(), 5);
}

#[test]
fn a_connection_that_closes_on_the_request_is_replaced_once() {
    let count = AtomicUsize::new(0);
    let fake = FakePrometheus::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Raw(Vec::new()),
        _ => Reply::value("1"),
    });
    let transport = transport();
    for _ in 0..3 {
        assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[]), Answer::Value(1.0));
    }
    assert_eq!(fake.requests().len(), 4);

    let fake = FakePrometheus::start(|_| Reply::Raw(Vec::new()));
    assert_failed(ask(&transport, &source(&fake.url(), "up"), &[]), ErrorClass::Connect, "closed the connection");
    assert_eq!(fake.requests().len(), 2);
}

#[test]
fn the_second_try_is_on_a_new_connection() {
    let (count, together) = (AtomicUsize::new(0), Barrier::new(2));
    let fake = FakePrometheus::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => {
            together.wait();
            Reply::value("1")
        }
        2 => Reply::Raw(Vec::new()),
        _ => Reply::value("1"),
    });
    let transport = transport();
    let ask = || assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[]), Answer::Value(1.0));
    thread::scope(|scope| {
        scope.spawn(ask);
        scope.spawn(ask);
    });
    // There is another idle connection, which is as likely to be closed.
    ask();
    assert_eq!((fake.connections(), fake.requests().len()), (3, 4));
}

#[test]
fn broken_answers() {
    let rows: [(&[u8], ErrorClass, &str); 5] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"data\"", ErrorClass::Connect, "closed the connection"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", ErrorClass::Response, "HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ErrorClass::Response, ""),
        (b"HTTP/1.1 200 OK\r\n\r\n{\"data\":{\"result\":[]", ErrorClass::Response, "not the Prometheus API's JSON"),
        (b"HTTP/1.1 500 X\r\nX: \r\n\r\n", ErrorClass::Status, "status 500: Internal Server Error"),
    ];
    let transport = transport();
    for (bytes, class, words) in rows {
        let fake = FakePrometheus::start(|_| Reply::Raw(bytes.to_vec()));
        assert_failed(ask(&transport, &source(&fake.url(), "up"), &[]), class, words);
    }
    let headers = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let fake = FakePrometheus::start(move |_| Reply::Raw(headers.clone().into_bytes()));
    assert_failed(ask(&transport, &source(&fake.url(), "up"), &[]), ErrorClass::Response, "headers are too large");
}

#[test]
fn silence_ends_with_the_time_limit() {
    let rows: [&[u8]; 3] = [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"];
    let transport = transport();
    for bytes in rows {
        let fake = FakePrometheus::start(|_| Reply::Stall(bytes.to_vec()));
        let source = PrometheusSource { timeout: Some(Duration::from_millis(150)), ..source(&fake.url(), "up") };
        let started = Instant::now();
        let (class, message) = failed(ask(&transport, &source, &[]));
        assert_eq!(class, ErrorClass::Timeout, "{message}");
        assert_eq!(message, format!("no answer from {} within 150ms", fake.url()));
        assert!(started.elapsed() >= Duration::from_millis(140) && started.elapsed() < GENEROUS);
    }
}

#[test]
fn unreachable_servers_are_named_alike_each_time() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let transport = transport();
    let rows = [
        (
            format!("http://user:geheim@127.0.0.1:{port}"),
            format!("cannot reach http://127.0.0.1:{port}: connection refused"),
        ),
        ("http://absent.invalid:9090".into(), "cannot reach http://absent.invalid:9090: ".into()),
    ];
    for (address, expected) in rows {
        let texts: Vec<String> = (0..2)
            .map(|_| {
                let (class, message) = failed(ask(&transport, &source(&address, "up"), &[]));
                assert_eq!(class, ErrorClass::Connect, "{message}");
                message
            })
            .collect();
        assert_eq!(texts[0], texts[1]);
        assert!(texts[0].starts_with(&expected), "{}", texts[0]);
    }
}

#[test]
fn redirects_are_followed() {
    let transport = transport();
    let fake = FakePrometheus::start(|request| match request.target.split('?').next() {
        Some("/api/v1/query") => Reply::redirect(302, "/b?c=d"),
        Some("/b") => Reply::redirect(307, "//127.0.0.1:1/"),
        _ => Reply::status(404, ""),
    });
    assert_failed(ask(&transport, &source(&fake.url(), "up"), &[]), ErrorClass::Connect, "127.0.0.1:1");
    assert_eq!(fake.requests()[1].target, "/b?c=d");

    let endless = FakePrometheus::start(|request| Reply::redirect(301, &request.target));
    assert_failed(
        ask(&transport, &source(&endless.url(), "up"), &[]),
        ErrorClass::Response,
        "redirects more than 10 times",
    );
    assert_eq!((endless.requests().len(), endless.connections()), (11, 1));

    let nowhere = FakePrometheus::start(|_| Reply::status(302, ""));
    assert_failed(ask(&transport, &source(&nowhere.url(), "up"), &[]), ErrorClass::Status, "status 302: Found");
}

#[test]
fn a_form_survives_307_and_becomes_a_get_at_302() {
    let query = "a".repeat(4_000);
    for (status, method, has_body) in
        [(307, "POST", true), (308, "POST", true), (302, "GET", false), (303, "GET", false)]
    {
        let fake = FakePrometheus::start(move |request| match request.target.as_str() {
            "/api/v1/query" => Reply::redirect(status, "/moved"),
            _ => Reply::value("1"),
        });
        assert_eq!(ask(&transport(), &source(&fake.url(), &query), &[]), Answer::Value(1.0));
        let request = &fake.requests()[1];
        assert_eq!((request.method.as_str(), request.body.len() > 4_000), (method, has_body), "{status}");
    }
}

#[test]
fn credentials_do_not_follow_to_another_port() {
    let target = Arc::new(FakePrometheus::start(|request| match request.header("x-key") {
        None => Reply::status(401, "who are you?"),
        Some(_) => Reply::value("1"),
    }));
    let elsewhere = format!("http://{}/", target.address);
    let fake = FakePrometheus::start(move |_| Reply::redirect(302, &elsewhere));
    let keyed = PrometheusSource {
        custom_headers: vec![("X-Key".into(), "geheim".into())],
        ..with_modes(&fake.url(), &[AuthMode::Bearer])
    };
    let (class, message) = failed(ask(&transport(), &keyed, &[("token", "geheim")]));
    assert_eq!(class, ErrorClass::Status);
    let words =
        format!("{} redirects to http://{}, which answered status 401: credentials", fake.url(), target.address);
    assert!(message.starts_with(&words), "{message}");
    let sent = |fake: &FakePrometheus| {
        fake.requests().iter().any(|request| request.headers.iter().any(|(_, value)| value.contains("geheim")))
    };
    assert!(sent(&fake) && !sent(&target));
}

#[test]
fn credentials_do_not_follow_to_another_host() {
    let target = Arc::new(FakePrometheus::start(|_| Reply::value("1")));
    let elsewhere = format!("http://localhost:{}/", target.address.port());
    let fake = FakePrometheus::start(move |request| match request.target.as_str() {
        "/same" => Reply::value("1"),
        target if target.contains("query=same") => Reply::redirect(302, "/same"),
        _ => Reply::redirect(302, &elsewhere),
    });
    let transport = transport();
    let parameters = [("customAuthHeader", "X-Key"), ("customAuthValue", "geheim"), ("token", "geheim")];
    for mode in [AuthMode::Custom, AuthMode::Bearer] {
        for query in ["other", "same"] {
            let source = PrometheusSource { query: query.into(), ..with_modes(&fake.url(), &[mode]) };
            assert_eq!(ask(&transport, &source, &parameters), Answer::Value(1.0));
        }
    }
    let sent = |request: &crate::support::fake_prometheus::Request| {
        request.headers.iter().any(|(_, value)| value.contains("geheim"))
    };
    assert!(fake.requests().iter().all(sent));
    assert!(!target.requests().iter().any(sent));
}

#[test]
fn a_proxy_is_asked_for_a_tunnel() {
    let fake = Arc::new(FakePrometheus::start(|_| Reply::value("1")));
    let address = fake.address;
    let proxy = FakePrometheus::start(move |_| Reply::Tunnel(address));
    let url = format!("http://me:p%40ss@{}", proxy.address);
    let transport = transport_with(&[("HTTP_PROXY", &url), ("NO_PROXY", "direct.invalid,10.0.0.0/8")]);
    for _ in 0..3 {
        assert_eq!(ask(&transport, &source("http://prometheus.example:9090", "up"), &[]), Answer::Value(1.0));
    }
    assert_eq!(fake.requests()[0].header("host"), Some("prometheus.example:9090"));
    let request = &proxy.requests()[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("CONNECT", "prometheus.example:9090"));
    assert_eq!(request.header("proxy-authorization"), Some("Basic bWU6cEBzcw=="));
    assert_eq!(proxy.connections(), 1);

    // Exceptions and loopback are contacted directly.
    assert_failed(
        ask(&transport, &source("http://direct.invalid:1", "up"), &[]),
        ErrorClass::Connect,
        "direct.invalid",
    );
    assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[]), Answer::Value(1.0));
    assert_eq!(proxy.requests().len(), 1);
}

#[test]
fn a_proxy_that_refuses_is_named() {
    let proxy = FakePrometheus::start(|_| Reply::status(403, "no"));
    let transport = transport_with(&[("http_proxy", &format!("me:geheim@{}", proxy.address))]);
    let (class, message) = failed(ask(&transport, &source("http://prometheus.example:9090", "up"), &[]));
    assert_eq!(class, ErrorClass::Connect);
    assert!(
        message.contains("through the proxy") && message.contains("403") && !message.contains("geheim"),
        "{message}"
    );
}
