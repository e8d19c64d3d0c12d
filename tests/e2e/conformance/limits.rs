//! Rows 7, 24 and 25: what stays fast, and what is refused before it becomes a request.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::door::{Answer, ask, kubectl_unverified};
use super::scene::{GV, Line, MASTER, Mode, Scene, scene};
use crate::e2e::{Exclusive, exclusive};
use crate::gate::support::{connect, raw, status};
use crate::support::cluster::{Daemon, wait_seeing};

#[test]
fn row_07_discovery_is_quick_while_reads_hang() {
    let (cluster, _lock) = exclusive(Exclusive::Faults);
    let line = Line::new(cluster);
    let daemon = Daemon::serve(cluster, &["--kubeconfig", line.kubeconfig()]);
    let scene = Scene::within(cluster, &daemon, "hanging");
    line.set(Mode::Silent);
    let metric = scene.metric();
    // Each asks for another user, since one review would answer all equal questions.
    let mut reads: Vec<_> = (0..100)
        .map(|n| {
            let mut client = scene.door.client(Some(&scene.front));
            write!(client, "GET {metric} HTTP/1.1\r\nHost: a\r\nX-Remote-User: user-{n}\r\n\r\n").unwrap();
            client
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let mut client = scene.door.client(Some(&scene.front));
                assert_eq!(ask(&mut client, "GET", "/livez", &[]).code, 200);
                let started = Instant::now();
                assert_eq!(ask(&mut client, "GET", GV, &["X-Remote-User: system:kube-aggregator"]).code, 200);
                let took = started.elapsed();
                // A request behind these reads would wait for at least 3 s.
                assert!(took < Duration::from_secs(2), "{took:?}");
            });
        }
    });
    // Nobody is admitted without a review, and all are answered by the gate's own deadline.
    for client in &mut reads {
        let code = Answer::read(client, &metric).code;
        assert!([500, 503, 504].contains(&code), "{code}");
    }
    line.set(Mode::Open);
    wait_seeing("reads to be answered again", || match scene.proxied("alice", &metric) {
        answer if answer.code == 200 => Ok(()),
        answer => Err(answer.body),
    });
}

/// A ClientHello of TLS 1.1 with two of its cipher suites.
fn hello_1_1() -> Vec<u8> {
    let mut body = vec![0x03, 0x02];
    body.extend([7; 32]);
    body.extend([0x00, 0x00, 0x06, 0xc0, 0x14, 0xc0, 0x0a, 0x00, 0xff, 0x01, 0x00]);
    // Extensions: supported groups, point formats, signature algorithms.
    body.extend([0x00, 0x16, 0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x1d, 0x00, 0x0b, 0x00, 0x02, 0x01, 0x00]);
    body.extend([0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03]);
    let length = u8::try_from(body.len()).unwrap();
    [&[0x16, 0x03, 0x01, 0x00, length + 4, 0x01, 0x00, 0x00, length], body.as_slice()].concat()
}

#[test]
fn row_24_tls() {
    let scene = scene();
    let mut old = connect(scene.door.address);
    old.write_all(&hello_1_1()).unwrap();
    let mut alert = [0; 7];
    old.read_exact(&mut alert).unwrap();
    // An alert: fatal, protocol_version.
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70), "{alert:?}");

    let mut nameless = scene.door.config(None);
    nameless.enable_sni = false;
    assert_eq!(ask(&mut scene.door.client_with(nameless), "GET", "/livez", &[]).code, 200);
    assert_eq!(kubectl_unverified(scene.case.cluster, &scene.door, "elsewhere.example", "/livez").unwrap(), "ok");

    for (offered, chosen) in
        [(&["h2", "http/1.1"][..], Some("http/1.1")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let mut config = scene.door.config(None);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = scene.door.client_with(config);
        assert_eq!(ask(&mut client, "GET", "/livez", &[]).code, 200);
        assert_eq!(client.conn.alpn_protocol(), chosen.map(str::as_bytes));
    }
    let mut config = scene.door.config(None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = scene.door.client_with(config);
    let error = client.conn.complete_io(&mut client.sock).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");

    let plain = raw(scene.door.address, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
}

#[test]
fn row_25_no_second_request_is_seen() {
    let scene = scene();
    let claims = MASTER.join("\r\n");
    let second = format!("GET {GV} HTTP/1.1\r\nHost: a\r\n{claims}\r\n\r\n");
    let length = second.len();
    let good = format!("GET {GV} HTTP/1.1\r\nHost: a\r\n{claims}\r\n");
    for (head, code) in [
        (format!("{good}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 411),
        (format!("{good}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), 411),
        (format!("{good}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n"), 400),
        (format!("{good}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"), 400),
        (format!("{good}Content-Length: +5\r\n\r\n"), 400),
        (format!("{good}Content-Length: 4000000000000\r\n\r\n"), 413),
        (format!("{good}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 411),
        (format!("{good}A: b\r\n folded: c\r\n\r\n"), 400),
        (format!("{good}A: b\rContent-Length: 0\r\n\r\n"), 400),
        (format!("{good}A: b\nContent-Length: 0\r\n\r\n"), 400),
        (format!("{good}Host: b\r\n\r\n"), 400),
        (format!("GET https://a{GV} HTTP/1.1\r\nHost: a\r\n{claims}\r\n\r\n"), 400),
        (format!("GET {GV} HTTP/1.1\r\n{claims}\r\n\r\n"), 400),
        (format!("{good}A: \u{fc}\r\n\r\n"), 400),
        (format!("{good}A: {}\r\n\r\n", "b".repeat(100_000)), 431),
        (format!("GET {GV}?{} HTTP/1.1\r\nHost: a\r\n{claims}\r\n\r\n", "a".repeat(1 << 16)), 414),
        (format!("{good}Expect: 200-ok\r\n\r\n"), 417),
    ] {
        let answer = scene.door.raw(Some(&scene.front), format!("{head}{second}").as_bytes());
        let shown: String = head.chars().take(200).collect();
        assert_eq!(status(&answer), code, "{shown}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown}: {answer}");
        assert!(
            answer.contains("\r\nConnection: close\r\n") && answer.contains("\"kind\":\"Status\""),
            "{shown}: {answer}"
        );
    }
    // A client that sends a megabyte may be disconnected before it has the explanation.
    let huge =
        scene.door.raw(Some(&scene.front), format!("{good}A: {}\r\n\r\n{second}", "b".repeat(1 << 20)).as_bytes());
    assert!(huge.is_empty() || status(&huge) == 431 && huge.matches("HTTP/1.1 ").count() == 1, "{huge}");
    // The same two requests without the fault are two, whether in one piece or byte by byte.
    let both = format!("{second}{}", second.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    let answer = scene.door.raw(Some(&scene.front), both.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    let mut client = scene.door.client(Some(&scene.front));
    for byte in second.as_bytes() {
        client.write_all(&[*byte]).unwrap();
        client.flush().unwrap();
    }
    assert_eq!(Answer::read(&mut client, GV).code, 200);
}
