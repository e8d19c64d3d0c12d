//! Which addresses may be queried for users, and what is reported about those that may not.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hpalite::outbound::names::{Failure, Names};
use hpalite::outbound::networks::Rules;
use hpalite::polling::transport::Transport;
use hpalite::scaling::event::{Answer, ErrorClass};
use hpalite::scaling::model::PrometheusSource;

use super::setup::{GENEROUS, ask, assert_failed, failed, source, transport_of};
use crate::support::fake_prometheus::{FakePrometheus, Reply};
use crate::support::look_alikes::LookAlikes;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn allowing(networks: &[&str]) -> Rules {
    Rules { allowed: networks.iter().map(|network| network.parse().unwrap()).collect(), own: Vec::new() }
}

/// Every name has these addresses.
fn all_at(addresses: &'static [Ipv4Addr]) -> Names {
    Names::with(4, move |_| Ok(addresses.iter().map(|address| IpAddr::V4(*address)).collect()))
}

fn value() -> FakePrometheus {
    FakePrometheus::start(|_| Reply::value("1"))
}

#[test]
fn addresses_are_judged_after_resolution() {
    let fake = value();
    let port = fake.address.port();
    let strict = transport_of(&[], Rules::default(), Names::new(4));
    // Notations that the C library reads as numbers, and a name.
    for host in ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]", "0"] {
        let (class, message) = failed(ask(&strict, &source(&format!("http://{host}:{port}"), "up"), &[]));
        assert_eq!(class, ErrorClass::Configuration, "{message}");
        assert!(message.starts_with(&format!("http://{host}:{port} is not asked: ")), "{message}");
        assert!(message.contains("--allow-network "), "{message}");
    }
    let named = transport_of(&[], Rules::default(), all_at(&[HERE]));
    let evil = format!("http://evil.example:{port}");
    let words = "is not asked: 127.0.0.1 is a loopback address, which only hpalite itself should reach; \
                 --allow-network 127.0.0.0/8 would allow it";
    assert_failed(ask(&named, &source(&evil, "up"), &[]), ErrorClass::Configuration, words);
    assert_eq!(fake.connections(), 0);
    let allowed = transport_of(&[], allowing(&["127.0.0.0/8"]), all_at(&[HERE]));
    assert_eq!(ask(&allowed, &source(&evil, "up"), &[]), Answer::Value(1.0));
}

#[test]
fn each_hop_of_a_redirect_is_judged() {
    let inner = FakePrometheus::start_at(IpAddr::V4(THERE), |_| Reply::value("1"));
    let targets = [
        format!("http://{}/", inner.address),
        format!("http://inner.example:{}/", inner.address.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        "//0.0.0.0/".to_owned(),
    ];
    let names = Names::with(4, |_| Ok(vec![IpAddr::V4(THERE)]));
    let transport = transport_of(&[], allowing(&["127.0.0.1"]), names);
    for target in targets {
        let fake = FakePrometheus::start(move |_| Reply::redirect(302, &target));
        assert_failed(ask(&transport, &source(&fake.url(), "up"), &[]), ErrorClass::Configuration, "is not asked: ");
    }
    assert_eq!(inner.connections(), 0);
}

#[test]
fn of_many_addresses_those_that_are_refused_are_not_tried() {
    let good = value();
    let port = good.address.port();
    let Ok(other) = std::net::TcpListener::bind((THERE, port)) else { return };
    other.set_nonblocking(true).unwrap();
    let transport = transport_of(&[], allowing(&["127.0.0.1"]), all_at(&[THERE, HERE]));
    let mixed = source(&format!("http://mixed.example:{port}"), "up");
    assert_eq!(ask(&transport, &mixed, &[]), Answer::Value(1.0));
    assert!(other.accept().is_err(), "connected to");
}

#[test]
fn our_own_ports_are_refused_whatever_is_allowed() {
    let own = value();
    let all = allowing(&["0.0.0.0/0", "::/0"]);
    let transport = transport_of(&[], Rules { own: vec![own.address], ..all }, all_at(&[HERE]));
    let port = own.address.port();
    for host in ["127.0.0.1", "127.9.9.9", "[::1]", "own.example", "0.0.0.0"] {
        let answer = ask(&transport, &source(&format!("http://{host}:{port}"), "up"), &[]);
        assert_failed(answer, ErrorClass::Configuration, "is a port of hpalite's own, which no trigger may ask");
    }
    assert_eq!(own.connections(), 0);
}

#[test]
fn a_proxy_is_the_operators_choice_and_what_is_asked_through_it_is_not() {
    let fake = Arc::new(value());
    let address = fake.address;
    let proxy = FakePrometheus::start(move |_| Reply::Tunnel(address));
    let url = format!("http://proxy.example:{}", proxy.address.port());
    let transport = transport_of(&[("HTTP_PROXY", &url)], Rules::default(), all_at(&[HERE]));
    assert_eq!(ask(&transport, &source("http://prometheus.example:9090", "up"), &[]), Answer::Value(1.0));
    for host in ["169.254.169.254", "0xa9fea9fe", "a.localhost", "[fe80::1]", "127.0.0.1", "localhost"] {
        let answer = ask(&transport, &source(&format!("http://{host}:80"), "up"), &[]);
        assert_failed(answer, ErrorClass::Configuration, "is not asked: ");
    }
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn requests_for_triggers_are_marked_whatever_their_headers_say() {
    let fake = value();
    let transport = transport_of(&[], allowing(&["127.0.0.0/8"]), Names::new(1));
    let custom_headers = vec![("Hpalite-Poll".into(), String::new()), ("HPALITE-POLL".into(), "0".into())];
    assert_eq!(
        ask(&transport, &PrometheusSource { custom_headers, ..source(&fake.url(), "up") }, &[]),
        Answer::Value(1.0)
    );
    let marks: Vec<_> = fake.requests()[0]
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("hpalite-poll"))
        .cloned()
        .collect();
    assert_eq!(marks.len(), 1);
    assert_eq!(marks[0].1, "1");
}

/// A tenant that invents identities, each with a client of its own, must not hold a connection per server.
#[test]
fn an_identity_of_somebody_keeps_few_connections() {
    let fake = value();
    let transport = transport_of(&[], allowing(&["127.0.0.0/8"]), all_at(&[HERE]));
    let ca = LookAlikes::proper(0).root;
    let poll = |number: usize, parameters: &[(&str, &str)]| {
        let address = format!("http://n{number}.example:{}", fake.address.port());
        assert_eq!(ask(&transport, &source(&address, "up"), parameters), Answer::Value(1.0));
        fake.connections()
    };
    let own = [("ca", ca.as_str())];
    (0..20).for_each(|number| assert_eq!(poll(number, &own), number + 1));
    assert_eq!(poll(19, &own), 20, "it is kept");
    assert_eq!(poll(0, &own), 21, "there were too many");
    // Most triggers have no identity, and share connections.
    (0..20).for_each(|number| assert_eq!(poll(number, &[]), 22 + number));
    assert_eq!(poll(0, &[]), 41);
}

fn at(transport: &Transport, host: &str, port: u16) -> Answer {
    ask(transport, &source(&format!("http://{host}:{port}"), "up"), &[])
}

/// Regression: each poll looked its name up on a thread of its own, although its connection was kept.
#[test]
fn a_name_is_looked_up_once_for_many_polls() {
    let fake = value();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let names = Names::with(4, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(vec![IpAddr::V4(HERE)])
    });
    let transport = transport_of(&[], allowing(&["127.0.0.0/8"]), names);
    let started = Instant::now();
    for _ in 0..50 {
        assert_eq!(at(&transport, "prometheus.example", fake.address.port()), Answer::Value(1.0));
    }
    let look_ups = asked.load(Ordering::SeqCst) as u64;
    assert!(look_ups <= 1 + started.elapsed().as_secs() / 30, "{look_ups} look-ups");
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_server_that_moved_is_found_again() {
    let old = FakePrometheus::start_at(IpAddr::V4(THERE), |_| Reply::value("1"));
    let port = old.address.port();
    is_found_again(port, |first| {
        assert_eq!(first, Answer::Value(1.0));
        drop(old);
    });
}

/// Regression: the address of before was asked for thirty seconds if nothing there refused.
#[test]
fn a_server_that_moved_and_left_silence_is_found_again() {
    // The system accepts connections, which nobody answers.
    let silent = TcpListener::bind((THERE, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    is_found_again(port, |first| assert_failed(first, ErrorClass::Timeout, "no answer"));
}

/// Polls once, lets the caller look at the answer, and then the name leads to another address.
fn is_found_again(port: u16, leave: impl FnOnce(Answer)) {
    let is_moved = Arc::new(AtomicBool::new(false));
    let moved = Arc::clone(&is_moved);
    let names = Names::with(4, move |_| Ok(vec![IpAddr::V4(if moved.load(Ordering::SeqCst) { HERE } else { THERE })]));
    let transport = transport_of(&[], allowing(&["127.0.0.0/8"]), names);
    let source = PrometheusSource {
        timeout: Some(Duration::from_millis(500)),
        ..source(&format!("http://prometheus.example:{port}"), "up")
    };
    let first = ask(&transport, &source, &[]);
    let Ok(new) = TcpListener::bind((HERE, port)) else { return };
    thread::spawn(move || {
        use std::io::{Read, Write};
        for socket in new.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let body = r#"{"data":{"result":[{"value":[1,"2"]}]}}"#;
            let _ =
                write!(socket, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    is_moved.store(true, Ordering::SeqCst);
    leave(first);
    // Not within a second of the last look-up, but long before the thirty seconds for which addresses are kept.
    let until = Instant::now() + GENEROUS;
    while ask(&transport, &source, &[]) != Answer::Value(2.0) {
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    assert!(Instant::now() < until);
}

/// The attack: a time limit of a millisecond, and names with slow name servers.
#[test]
fn slow_names_hold_up_neither_their_askers_nor_others() {
    let fake = value();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let names = Names::with(4, move |name| {
        if name.contains("slow") {
            let _ = held.lock().unwrap().recv();
            return Err(Failure::Passing);
        }
        Ok(vec![IpAddr::V4(HERE)])
    });
    let transport = transport_of(&[], allowing(&["127.0.0.0/8"]), names);
    let started = Instant::now();
    for number in 0..1_000 {
        let slow = PrometheusSource {
            timeout: Some(Duration::from_millis(1)),
            ..source(&format!("http://n{number}.slow.example"), "up")
        };
        let (class, message) = failed(ask(&transport, &slow, &[]));
        assert_eq!(class, ErrorClass::Timeout, "{message}");
        assert!(started.elapsed() < 3 * GENEROUS);
    }
    assert_eq!(at(&transport, "prometheus.monitoring", fake.address.port()), Answer::Value(1.0));
    drop(release);
}
