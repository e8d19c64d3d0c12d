//! Servers that waste resources instead of answering: each is ended by the time limit.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use hpalite::scaling::event::{Answer, ErrorClass};
use hpalite::scaling::model::PrometheusSource;

use super::setup::{ask, assert_failed, failed, source, transport};
use crate::support::fake_prometheus::{FakePrometheus, Reply};
use crate::support::look_alikes::LookAlikes;

const LIMIT: Duration = Duration::from_millis(300);
/// Generous for slow machines; the faults that these tests are about took longer even on idle ones.
const GENEROUS: Duration = Duration::from_secs(10);

/// Returns the URL of a server that reads one request's first bytes, sends `first` and then `rest` repeatedly, each
/// after a pause, until the client disconnects.
fn endless(first: &'static [u8], rest: &'static [u8], pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // The client retries once if a connection breaks.
        for socket in listener.incoming().take(4) {
            let mut socket: TcpStream = socket.unwrap();
            thread::spawn(move || {
                let _ = socket.read(&mut [0; 1024]);
                socket.set_read_timeout((!pause.is_zero()).then_some(pause)).unwrap();
                let until = Instant::now() + 6 * GENEROUS;
                let mut alive = socket.write_all(first).is_ok();
                while alive && Instant::now() < until {
                    if !pause.is_zero() {
                        // Ends when the client disconnects, else after the pause.
                        alive = !matches!(socket.read(&mut [0; 64]), Ok(0));
                    }
                    alive &= socket.write_all(rest).is_ok();
                }
                let _ = socket.shutdown(Shutdown::Both);
            });
        }
    });
    format!("http://{address}")
}

fn limited(address: &str) -> PrometheusSource {
    PrometheusSource { timeout: Some(LIMIT), ..source(address, "up") }
}

#[test]
fn whatever_never_ends_ends_with_the_time_limit() {
    let drip = Duration::from_millis(20);
    let rows: [(&str, &'static [u8], &'static [u8], Duration); 9] = [
        ("nothing", b"", b"", drip),
        ("one header, byte by byte", b"HTTP/1.1 200 OK\r\nX: ", b"x", drip),
        ("headers", b"HTTP/1.1 200 OK\r\n", b"X: x\r\n", Duration::ZERO),
        ("headers, slowly", b"HTTP/1.1 200 OK\r\n", b"X: x\r\n", drip),
        ("100 Continue", b"", b"HTTP/1.1 100 Continue\r\n\r\n", Duration::ZERO),
        ("103 Early Hints", b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", Duration::ZERO),
        ("a body, byte by byte", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{", b" ", drip),
        ("chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", drip),
        ("a chunk's extension", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a", drip),
    ];
    let transport = transport();
    for (what, first, rest, pause) in rows {
        let started = Instant::now();
        let (class, message) = failed(ask(&transport, &limited(&endless(first, rest, pause)), &[]));
        assert!(started.elapsed() < GENEROUS, "{what}: {:?}", started.elapsed());
        assert!(matches!(class, ErrorClass::Timeout | ErrorClass::Response), "{what}: {message}");
    }
}

/// One thread reads them all. A slow machine needs some time for each answer.
#[test]
fn floods_leave_the_others_their_lock() {
    let transport = transport();
    let fake = FakePrometheus::start(|_| Reply::value("1"));
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let floods: Vec<String> = (0..4).map(|_| endless(head, b"1\r\na\r\n", Duration::ZERO)).collect();
    let patient = |flood: &str| PrometheusSource { timeout: Some(Duration::from_secs(10)), ..limited(flood) };
    let other = PrometheusSource { timeout: Some(GENEROUS), ..source(&fake.url(), "up") };
    let good = thread::scope(|scope| {
        let floods: Vec<_> = floods.iter().map(|flood| scope.spawn(|| ask(&transport, &patient(flood), &[]))).collect();
        let mut good = 0;
        while !floods.iter().all(|flood| flood.is_finished()) {
            assert_eq!(ask(&transport, &other, &[]), Answer::Value(1.0));
            good += 1;
        }
        good
    });
    // Without turns the first one would have come when the floods were over, and been the last.
    assert!(good >= 2, "{good} answers of others meanwhile");
}

#[test]
fn a_handshake_ends_with_the_time_limit() {
    // One row announces a record and sends it byte by byte; the other sends empty records as fast as possible.
    let rows: [(&'static [u8], &'static [u8], Duration); 2] = [
        (b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"\x00", Duration::from_millis(20)),
        (b"", b"\x14\x03\x03\x00\x01\x01", Duration::ZERO),
    ];
    let transport = transport();
    for (first, rest, pause) in rows {
        let address = endless(first, rest, pause).replace("http://", "https://");
        let started = Instant::now();
        let (class, message) = failed(ask(&transport, &limited(&address), &[]));
        assert!(started.elapsed() < GENEROUS, "{:?}", started.elapsed());
        assert!(matches!(class, ErrorClass::Timeout | ErrorClass::Tls), "{message}");
    }
}

/// Regression: 240 look-alike certificates took four seconds of CPU and more, whatever the time limit.
#[test]
fn a_chain_of_look_alikes_is_not_walked() {
    for (count, words) in [(120, "presents more than 7 certificates"), (7, "presents more than 7"), (6, "")] {
        let bomb = LookAlikes::new(count);
        let fake = FakePrometheus::start_tls(bomb.server(), |_| Reply::value("1"));
        let transport = transport();
        let started = Instant::now();
        for _ in 0..4 {
            let parameters = [("ca", bomb.root.as_str())];
            assert_failed(ask(&transport, &source(&fake.url(), "up"), &parameters), ErrorClass::Tls, words);
        }
        assert!(started.elapsed() < GENEROUS, "{count}: {:?}", started.elapsed());
    }
}

#[test]
fn a_longer_chain_than_usual_is_fine() {
    let chain = LookAlikes::proper(4);
    let fake = FakePrometheus::start_tls(chain.server(), |_| Reply::value("1"));
    let answer = ask(&transport(), &source(&fake.url(), "up"), &[("ca", &chain.root)]);
    assert_eq!(answer, Answer::Value(1.0));
}

/// A gigabyte of blanks in a megabyte. Instead of using a compressor, this writes a deflate block of fixed codes: a
/// literal, then the longest possible copies of the previous byte.
#[test]
fn a_bomb_of_gzip_is_read_to_its_limit_only() {
    let mut bits = Bits::default();
    // Not the last block, fixed codes; a blank, then 258 bytes at distance 1, a million times.
    bits.put(0, 1);
    bits.put(1, 2);
    bits.code(0x30 + 0x20, 8);
    for _ in 0..1_000_000 {
        bits.code(0b1100_0101, 8);
        bits.code(0, 5);
    }
    let mut body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    body.extend(bits.bytes);
    assert!(body.len() < 2 << 20);
    let fake = FakePrometheus::start(move |_| Reply::Full {
        status: 200,
        headers: vec![("Content-Encoding".into(), "gzip".into())],
        body: body.clone(),
    });
    let started = Instant::now();
    assert_failed(ask(&transport(), &source(&fake.url(), "up"), &[]), ErrorClass::Query, "more than 1024 KiB");
    assert!(started.elapsed() < GENEROUS, "{:?}", started.elapsed());
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// Lowest bit first.
    fn put(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.used == 0 {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= u8::try_from(value >> at & 1).unwrap() << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    /// Highest bit first, as codes are.
    fn code(&mut self, value: u32, count: u32) {
        (0..count).rev().for_each(|at| self.put(value >> at, 1));
    }
}
