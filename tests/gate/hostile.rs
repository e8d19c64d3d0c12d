//! Hostile and broken clients are refused or disconnected, and do not affect others.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hpalite::http::gate::{Gate, GateConfig};
use hpalite::http::{Handler, Request, Response};

use super::support::*;

/// A handler that counts requests, to show which reached it.
fn counting() -> (Handler, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let handler = move |_: &Request| {
        seen.fetch_add(1, Ordering::SeqCst);
        Response::text(200, "ok")
    };
    (Arc::new(handler), count)
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Remote-User: admin\r\n\r\n";

#[test]
fn nothing_is_smuggled_behind_a_refused_head() {
    let (handler, count) = counting();
    let gate = plain(handler);
    let length = SMUGGLED.len();
    for (head, code) in [
        (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"), 411),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"), 411),
        ("Transfer-Encoding: chunked".to_owned(), 411),
        ("Transfer-Encoding: identity".to_owned(), 411),
        ("Transfer-Encoding : chunked".to_owned(), 400),
        (" Transfer-Encoding: chunked".to_owned(), 400),
        (format!("Content-Length: 0\r\nContent-Length: {length}"), 400),
        ("Content-Length: 0\r\nContent-Length: 0".to_owned(), 400),
        ("Content-Length: +0".to_owned(), 400),
        ("Content-Length: -1".to_owned(), 400),
        ("Content-Length: 0x0".to_owned(), 400),
        ("Content-Length: 0,0".to_owned(), 400),
        ("Content-Length: ".to_owned(), 400),
        ("Content-Length: 4000000000000".to_owned(), 413),
        ("Content-Length: 18446744073709551615".to_owned(), 413),
        ("Content-Length: 99999999999999999999999999".to_owned(), 413),
        ("A: b\r\n Content-Length: 1".to_owned(), 400),
        ("A: b\r\n\tc".to_owned(), 400),
        ("A: b\rContent-Length: 1".to_owned(), 400),
        ("A: b\nContent-Length: 1".to_owned(), 400),
        ("A: b\0".to_owned(), 400),
        ("A: \u{fc}".to_owned(), 400),
        ("Host: b".to_owned(), 400),
        ("Expect: the impossible".to_owned(), 417),
        (format!("A: {}", "b".repeat(20_000)), 431),
        ("A: b\r\n".repeat(300) + "A: b", 431),
    ] {
        let answer =
            raw(gate.local_addr(), format!("GET / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{SMUGGLED}").as_bytes());
        assert_eq!(status(&answer), code, "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: {answer}");
        assert!(answer.contains("Connection: close\r\n") && answer.contains("\"kind\":\"Status\""), "{answer}");
        assert!(!answer.contains("Retry-After"));
    }
    for (start, code) in [
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}", 400),
    ] {
        let answer = raw(gate.local_addr(), format!("{start}{SMUGGLED}").as_bytes());
        assert_eq!(status(&answer), code, "{start:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{start:?}: {answer}");
    }
    for bytes in [
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
        b"GET /?a=\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xc0\xaf\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Remote-User: \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA\xc3\xbc: b\r\n\r\n",
        b"G\xcb\x86T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let answer = raw(gate.local_addr(), &[bytes, SMUGGLED.as_bytes()].concat());
        assert_eq!(status(&answer), 400, "{}: {answer}", bytes.escape_ascii());
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let refused: u64 = gate.counters().refused().map(|(_, count)| count).sum();
    assert_eq!(refused, 40);
    assert_eq!(ask(&mut connect(gate.local_addr()), "GET / HTTP/1.1").0, 200);
}

#[test]
fn a_refusal_ends_a_pipeline() {
    let (handler, count) = counting();
    let gate = plain(handler);
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let bad = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n";
    let answer = raw(gate.local_addr(), [good, good, bad, SMUGGLED, good].concat().as_bytes());
    let codes: Vec<u16> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| status(&answer[at..])).collect();
    assert_eq!(codes, [200, 200, 400], "{answer}");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn a_header_of_many_megabytes_is_cut_at_the_limit() {
    let (handler, _) = counting();
    let gate = plain(handler);
    let before = resident_kib(std::process::id());
    let mut client = connect(gate.local_addr());
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nA: ").unwrap();
    let piece = vec![b'b'; 1 << 20];
    let sent = (0..300).take_while(|_| client.write_all(&piece).is_ok()).count();
    assert!(sent < 100, "{sent} MB were taken");
    assert!(resident_kib(std::process::id()) < before + 50_000);
    assert_eq!(ask(&mut connect(gate.local_addr()), "GET / HTTP/1.1").0, 200);
}

#[test]
fn closing_at_every_byte_of_a_request_harms_nobody() {
    let (handler, count) = counting();
    let gate = plain(handler);
    let request = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    for end in 0..request.len() {
        connect(gate.local_addr()).write_all(&request[..end]).unwrap();
        // A reset instead of a FIN.
        let stream = connect(gate.local_addr());
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        (&stream).write_all(&request[..end]).unwrap();
    }
    // Complete, but nobody waits for the answer.
    for _ in 0..20 {
        let stream = connect(gate.local_addr());
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        (&stream).write_all(request).unwrap();
    }
    eventually("all are gone", || gate.counters().active() == 0);
    assert!(count.load(Ordering::SeqCst) <= 20);
    assert_eq!(ask(&mut connect(gate.local_addr()), "GET / HTTP/1.1").0, 200);
}

#[test]
fn closing_at_every_byte_of_a_handshake_harms_nobody() {
    let (handler, count) = counting();
    let secure = secure(handler);
    let mut hello = Vec::new();
    secure.client(None).conn.write_tls(&mut hello).unwrap();
    assert!(hello.len() > 100);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..hello.len() {
        connect(secure.address()).write_all(&hello[..end]).unwrap();
        let stream = connect(secure.address());
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        (&stream).write_all(&hello[..end]).unwrap();
    }
    // After a good handshake: a part of each length, with and without close_notify.
    for end in 0..request.len() {
        let mut client = secure.client(None);
        client.write_all(&request[..end]).unwrap();
        client.conn.send_close_notify();
        let _ = client.flush();
        let mut client = secure.client(Some(&secure.front_proxy()));
        client.write_all(&request[..end]).unwrap();
    }
    eventually("all are gone", || secure.gate.counters().active() == 0);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(ask(&mut secure.client(None), "GET / HTTP/1.1").0, 200);
}

#[test]
fn garbage_is_refused_over_plain_and_tls() {
    let (handler, count) = counting();
    let gate = plain(Arc::clone(&handler));
    let secure = secure(handler);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let garbage: Vec<u8> = (0..random.usize(1..3000)).map(|_| random.u8(..)).collect();
        for address in [gate.local_addr(), secure.address()] {
            let mut stream = connect(address);
            let _ = stream.write_all(&garbage);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(ask(&mut connect(gate.local_addr()), "GET / HTTP/1.1").0, 200);
    assert_eq!(ask(&mut secure.client(None), "GET / HTTP/1.1").0, 200);
}

#[test]
fn slow_heads_and_slow_handshakes_end_at_their_deadline() {
    let (handler, _) = counting();
    let gate = plain(Arc::clone(&handler));
    let secure = secure(handler);
    let started = Instant::now();
    let mut head = connect(gate.local_addr());
    let mut line = connect(gate.local_addr());
    let mut hello = connect(secure.address());
    head.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    line.write_all(b"GET /").unwrap();
    hello.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).unwrap();
    let mut dripping = [head, line, hello];
    for stream in &mut dripping {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    }
    // Occasional bytes must not extend the time.
    let mut ended = [false; 3];
    let mut received = [const { Vec::new() }; 3];
    let mut bytes = [0; 1024];
    while ended.contains(&false) {
        for ((stream, ended), received) in dripping.iter_mut().zip(&mut ended).zip(&mut received) {
            let wrote = stream.write_all(b"a");
            let read = stream.read(&mut bytes);
            received.extend_from_slice(&bytes[..*read.as_ref().unwrap_or(&0)]);
            *ended |= wrote.is_err() || matches!(read, Ok(0));
        }
        assert!(started.elapsed() < PATIENCE, "{ended:?}");
    }
    assert!(started.elapsed() > Duration::from_secs(4), "{:?}", started.elapsed());
    let received = received.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    for answer in &received[..2] {
        assert_eq!(status(answer), 408, "{answer}");
        assert!(answer.contains("Connection: close\r\n") && answer.contains("\"reason\":\"Timeout\""), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert_eq!(received[2], "", "there is nobody to talk HTTP to");
    let refused = |gate: &Gate| gate.counters().refused().find(|(why, _)| *why == "timeout").map(|(_, count)| count);
    assert_eq!((refused(&gate), refused(&secure.gate)), (Some(2), Some(1)));
}

/// Without any further byte that would wake a worker, and over TLS as well.
#[test]
fn a_client_that_stops_within_a_request_gets_an_answer() {
    let (handler, count) = counting();
    let gate = plain(Arc::clone(&handler));
    let secure = secure(handler);
    let mut halves = [&b"GET / HTTP/1.1\r\nHo"[..], b"P"].map(|half| {
        let mut client = connect(gate.local_addr());
        client.write_all(half).unwrap();
        client
    });
    let mut tls_client = secure.client(None);
    tls_client.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    let mut answers = [const { String::new() }; 3];
    for (client, answer) in halves.iter_mut().zip(&mut answers) {
        client.read_to_string(answer).unwrap();
    }
    // Reads to the close_notify: nothing was cut off.
    tls_client.read_to_string(&mut answers[2]).unwrap();
    for answer in &answers {
        assert_eq!(status(answer), 408, "{answer}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    eventually("all are gone", || gate.counters().active() + secure.gate.counters().active() == 0);
}

#[test]
fn two_thousand_slow_clients_cost_little_and_a_good_one_is_served() {
    let (handler, _) = counting();
    let secure = secure_with(handler, |config: &mut GateConfig| config.max_connections = 500);
    let gate: &Gate = &secure.gate;
    let mut kept = secure.client(Some(&secure.front_proxy()));
    assert_eq!(ask(&mut kept, "GET / HTTP/1.1\r\nX-Remote-User: u").0, 200);
    let before = resident_kib(std::process::id());
    let mut slow = Vec::new();
    for n in 0..2000 {
        let mut stream = connect(gate.local_addr());
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).unwrap();
        slow.push(stream);
        if n % 20 == 0 {
            assert_eq!(ask(&mut kept, "GET / HTTP/1.1\r\nX-Remote-User: u").0, 200);
            assert_eq!(ask(&mut secure.client(None), "GET / HTTP/1.1").0, 200);
        }
    }
    assert!(gate.counters().active() <= 500);
    // Not all 1,500, since on a slow machine some reach their deadline first.
    assert!(gate.counters().shed() >= 1000, "{}", gate.counters().shed());
    // The cap above bounds memory: 500 connections of some 20 KB. This process is shared with other tests, which hold
    // some 60 MB at times, so its size can only show that nothing grows without bound. How much the daemon itself may
    // grow is measured in tests/e2e/conformance/hostile.rs.
    assert!(resident_kib(std::process::id()) < before + 250_000, "{} -> {}", before, resident_kib(std::process::id()));
    assert_eq!(ask(&mut kept, "GET / HTTP/1.1\r\nX-Remote-User: u").0, 200);
}
