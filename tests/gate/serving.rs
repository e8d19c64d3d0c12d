//! Ordinary clients get what they request.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use hpalite::http::gate::{FromMemory, Gate, GateConfig};
use hpalite::http::{Request, Response};

use super::support::*;

#[test]
fn requests_one_after_another_over_plain_and_tls() {
    let gate = plain(echo());
    let secure = secure(echo());
    let mut plain_client = connect(gate.local_addr());
    let mut tls_client = secure.client(None);
    for n in 0..3 {
        for answer in [
            ask(&mut plain_client, &format!("GET /{n}?a=b HTTP/1.1")),
            ask(&mut tls_client, &format!("GET /{n}?a=b HTTP/1.1")),
        ] {
            assert_eq!(answer, (200, format!("GET /{n}?a=b\nnobody\nHost: test\n")));
        }
    }
    assert_eq!(gate.counters().requests(), 3);
    assert_eq!(gate.counters().accepted(), 1);
    assert_eq!(tls_client.conn.alpn_protocol(), None);
}

#[test]
fn alpn_and_both_tls_versions() {
    let secure = secure(echo());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = secure.client_config(None);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let roots = config.clone();
        let mut config = rustls::ClientConfig::builder_with_provider(hpalite::http::tls::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(root_store(&secure))
            .with_no_client_auth();
        config.alpn_protocols = roots.alpn_protocols;
        let mut client = secure.client_with(config);
        assert_eq!(ask(&mut client, "GET / HTTP/1.1").0, 200);
        assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(client.conn.protocol_version(), Some(version.version));
    }
    let mut config = secure.client_config(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = secure.client_with(config);
    let error =
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| client.read(&mut [0])).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

fn root_store(secure: &Secure) -> rustls::RootCertStore {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_slice(secure.own.ca_pem.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    roots
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gate = plain(echo());
    let mut client = connect(gate.local_addr());
    let count = 100;
    let requests: String =
        (0..count).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).collect();
    client.write_all(requests.as_bytes()).unwrap();
    for n in 0..count {
        let (_, body) = read_answer(&mut client).unwrap();
        assert!(String::from_utf8(body).unwrap().starts_with(&format!("GET /{n}\n")));
    }
}

#[test]
fn a_body_is_not_waited_for_and_ends_the_connection() {
    let gate = plain(echo());
    let second = "GET /second HTTP/1.1\r\nHost: a\r\n\r\n";
    for sent in ["", "x", second, &"x".repeat(65536)] {
        let head = "DELETE /a HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n";
        let answer = raw(gate.local_addr(), format!("{head}{sent}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\n\r\nDELETE /a\n") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    }
    // The client asks before sending a body: the answer itself says that none is wanted.
    let expecting = "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let answer = raw(gate.local_addr(), expecting.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    // A body of length 0 is none.
    let mut client = connect(gate.local_addr());
    assert_eq!(ask(&mut client, "POST / HTTP/1.1\r\nContent-Length: 0").0, 200);
    assert_eq!(ask(&mut client, "GET / HTTP/1.1").0, 200);
}

#[test]
fn head_announces_the_length_and_sends_nothing() {
    let gate = plain(echo());
    let mut client = connect(gate.local_addr());
    // So the next answer follows immediately.
    write!(client, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /after HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(String::from_utf8(head).unwrap().contains("Content-Length: "));
    assert!(String::from_utf8(read_answer(&mut client).unwrap().1).unwrap().starts_with("GET /after\n"));
}

#[test]
fn answers_keep_their_headers_and_close_is_announced() {
    let gate = plain(Arc::new(|request: &Request| match request.path.as_str() {
        "/304" => Response::json(304, "").with_header("ETag", "\"x\""),
        "/status" => Response::status(404, "NotFound", "no such thing"),
        _ => Response::json(200, "{}").with_header("ETag", "\"y\""),
    }));
    let mut client = connect(gate.local_addr());
    write!(client, "GET /304 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (head, _) = read_answer(&mut client).unwrap();
    assert_eq!(without_date(&head), "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    let (code, body) = ask(&mut client, "GET /status HTTP/1.1");
    assert!(code == 404 && body.contains("\"message\":\"no such thing\""), "{body}");
    let last = raw(gate.local_addr(), b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(
        without_date(&last),
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\nETag: \"y\"\r\n\r\n{}"
    );
    let old = raw(gate.local_addr(), b"GET / HTTP/1.0\r\n\r\n");
    assert!(old.contains("Connection: close\r\n") && old.ends_with("{}"), "{old}");
}

/// Removes the only `Date`, which must be the current time in the one valid form.
fn without_date(answer: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let near = (now - 60..=now).map(|second| format!("Date: {}\r\n", hpalite::logfmt::http_date(second as i64)));
    let found: Vec<String> = near.filter(|line| answer.contains(line)).collect();
    assert!(found.len() == 1 && answer.matches("Date: ").count() == 1, "{answer}");
    answer.replace(&found[0], "")
}

#[test]
fn an_answer_far_above_a_piece_arrives_whole_at_a_slow_reader() {
    let size: usize = 12 << 20;
    let body: Arc<Vec<u8>> = Arc::new((0..size).map(|n| (n % 251) as u8).collect());
    let handler: hpalite::http::Handler = {
        let body = Arc::clone(&body);
        Arc::new(move |_: &Request| Response::text(200, Arc::clone(&body)))
    };
    let gate = plain(Arc::clone(&handler));
    let secure = secure(handler);
    fn slowly(client: &mut (impl Read + Write), expected: &[u8]) {
        write!(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        // Lets the kernel's buffers fill before the first byte is read.
        std::thread::park_timeout(Duration::from_millis(100));
        let (_, received) = read_answer(client).unwrap();
        assert!(received == expected);
    }
    slowly(&mut connect(gate.local_addr()), &body);
    slowly(&mut secure.client(None), &body);
}

#[test]
fn answers_nobody_reads_are_bounded_in_sum() {
    // 20 MB each: three of them are within the bound.
    let body: Arc<Vec<u8>> = Arc::new(vec![b'x'; 20 << 20]);
    let gate = plain(Arc::new(move |_: &Request| Response::text(200, Arc::clone(&body))));
    let code = |client: &mut std::net::TcpStream| {
        write!(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut start = [0; 12];
        client.read_exact(&mut start).unwrap();
        status(std::str::from_utf8(&start).unwrap())
    };
    let mut clients: Vec<_> = (0..6).map(|_| connect(gate.local_addr())).collect();
    let codes: Vec<_> = clients.iter_mut().map(code).collect();
    assert_eq!(codes[..3], [200, 200, 200]);
    // On a slow machine clients that read nothing are shed meanwhile, which makes room for others.
    let turned_away = codes.iter().filter(|code| **code == 503).count();
    assert!(turned_away + usize::try_from(gate.counters().shed()).unwrap() >= 3, "{codes:?}");
    drop(clients);
    eventually("their share is given back", || code(&mut connect(gate.local_addr())) == 200);
}

#[test]
fn slow_handlers_do_not_hold_up_quick_ones() {
    let (release, gated) = mpsc::channel::<()>();
    let gated = std::sync::Mutex::new(gated);
    let handler: hpalite::http::Handler = Arc::new(move |request: &Request| {
        if request.path.starts_with("/slow") {
            let _ = gated.lock().unwrap().recv_timeout(PATIENCE);
        }
        Response::text(200, request.path.clone())
    });
    let from_memory: FromMemory =
        Arc::new(|request| (!request.path.starts_with("/slow")).then(|| Response::text(200, request.path.clone())));
    let gate = Gate::start(GateConfig {
        workers: 1,
        patient_workers: 2,
        from_memory: Some(from_memory),
        ..config("lanes", handler)
    })
    .unwrap();
    let mut slow: Vec<_> = (0..4).map(|_| connect(gate.local_addr())).collect();
    for client in &mut slow {
        write!(client, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    eventually("two slow requests are with the handler", || gate.counters().requests() == 2);
    for _ in 0..10 {
        assert_eq!(ask(&mut connect(gate.local_addr()), "GET /quick HTTP/1.1"), (200, "/quick".into()));
    }
    for _ in 0..4 {
        release.send(()).unwrap();
    }
    for client in &mut slow {
        assert_eq!(read_answer(client).unwrap().1, b"/slow");
    }
}
