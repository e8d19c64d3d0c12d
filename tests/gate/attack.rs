//! Attacks by strangers on a port: none may cost more than its share, or delay the front proxy.
//!
//! Each attack is bounded in number and time. Its target is a gate of this process, or of a child process if memory is
//! measured. Attackers and gate share the machine, so the bounds on waiting are generous.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hpalite::http::gate::limits::SLOW_READER;
use hpalite::http::{Request, Response};
use hpalite::tls::{self, ServerVerifier};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::delegated::{GV, Served, serve};
use super::support::*;

/// A client with a chain of look-alikes, each of which could have signed each other by its name, so that a search for a
/// path tries every order of them. With the name of the CA they cost a signature each time; with another name nothing
/// ends the search early.
fn bomber(name: &str, look_alikes: usize) -> Holder {
    let mut holder = Authority::new(name).client("front-proxy-client");
    holder.chain.extend((0..look_alikes).map(|_| Authority::new(name).certificate));
    holder
}

/// Sends one request; returns the status, or None if the gate closed the connection.
fn try_ask(client: &mut (impl Read + Write), head: &str) -> Option<u16> {
    write!(client, "{head}\r\nHost: test\r\n\r\n").ok()?;
    read_answer(client).ok().map(|(head, _)| status(&head))
}

fn metric() -> String {
    format!("GET {GV}/namespaces/ns/m HTTP/1.1\r\nX-Remote-User: alice")
}

#[test]
fn certificate_bombs_are_not_verified() {
    let served = serve();
    let front = served.secure.front_proxy();
    let mut kept = served.secure.client(Some(&front));
    let started = Instant::now();
    // The longest chain that is parsed, one that fits into a handshake, and one that does not.
    for (look_alikes, expected) in [(3, Some(401)), (45, Some(401)), (150, None)] {
        for name in ["front-proxy-ca", "look-alike", "front-proxy-ca", "look-alike"] {
            let bomb = bomber(name, look_alikes);
            let mut client = served.secure.client(Some(&bomb));
            assert_eq!(try_ask(&mut client, &metric()), expected, "{look_alikes}");
            // Again on the same connection, where the verdict still holds.
            assert_eq!(try_ask(&mut client, &metric()), expected, "{look_alikes}");
            assert_eq!(ask(&mut kept, &metric()).0, 200);
            assert_eq!(ask(&mut served.secure.client(Some(&front)), &metric()).0, 200);
        }
    }
    // Without bounds each verification takes seconds in a debug build, and there would be some fifty.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn who_is_nobody_costs_no_review() {
    let served = serve();
    served.reviews.stick(true);
    for n in 0..200 {
        let mut client = served.secure.client(None);
        for path in [format!("/nowhere-{n}"), format!("{GV}/namespaces/ns/m{n}"), "/apis".to_owned()] {
            assert_eq!(ask(&mut client, &format!("GET {path} HTTP/1.1")).0, 403);
            assert_eq!(ask(&mut client, &format!("DELETE {path} HTTP/1.1\r\nX-Remote-User: alice")).0, 403);
        }
        if n % 50 == 0 {
            assert_eq!(ask(&mut client, "GET /livez HTTP/1.1").0, 200);
        }
    }
    assert_eq!(served.reviews.asked.load(Ordering::SeqCst), 0);
    served.reviews.stick(false);
}

/// Unknown tokens must be reviewed, but by few workers and with few places in the queue.
#[test]
fn strangers_tokens_leave_room_for_the_front_proxy() {
    let served = serve();
    served.reviews.stick(true);
    let mut strangers: Vec<_> = (0..60)
        .map(|n| {
            let mut client = served.secure.client(None);
            write!(client, "GET {GV} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer made-up-{n}\r\n\r\n").unwrap();
            client
        })
        .collect();
    eventually("one of them is with a reviewer", || served.reviews.asked.load(Ordering::SeqCst) == 1);
    eventually("the others get an answer that there is no room", || {
        served.secure.gate.counters().refused().any(|(why, count)| why == "overload" && count >= 40)
    });
    // Both other patient workers serve only the front proxy, whose own reviews take long now.
    let front = served.secure.front_proxy();
    let mut reads: Vec<_> = (0..2)
        .map(|n| {
            let mut client = served.secure.client(Some(&front));
            let path = format!("{GV}/namespaces/ns/other-{n}");
            write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\nX-Remote-User: alice\r\n\r\n").unwrap();
            client
        })
        .collect();
    eventually("both reads are with reviewers", || served.reviews.asked.load(Ordering::SeqCst) == 3);
    served.reviews.stick(false);
    for client in &mut reads {
        assert_eq!(status(&read_answer(client).unwrap().0), 200);
    }
    for client in &mut strangers {
        assert!([401, 503].contains(&status(&read_answer(client).unwrap().0)));
    }
}

#[test]
fn who_does_not_read_gives_way_to_who_does() {
    let body: Arc<Vec<u8>> = Arc::new(vec![b'x'; 20 << 20]);
    let gate = plain(Arc::new(move |_: &Request| Response::text(200, Arc::clone(&body))));
    let begin = |client: &mut TcpStream| {
        write!(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut start = [0; 12];
        client.read_exact(&mut start).map(|()| status(std::str::from_utf8(&start).unwrap()))
    };
    let mut idlers: Vec<_> = (0..3).map(|_| connect(gate.local_addr())).collect();
    let asked = Instant::now();
    for client in &mut idlers {
        assert_eq!(begin(client).unwrap(), 200);
    }
    eventually("they have had their time", || asked.elapsed() > SLOW_READER + Duration::from_millis(100));
    let mut reader = connect(gate.local_addr());
    assert_eq!(begin(&mut reader).unwrap(), 200);
    assert!(gate.counters().shed() >= 1);
}

#[test]
fn pipelines_without_end_and_unread_answers_hold_nobody_up() {
    let served = serve();
    let front = served.secure.front_proxy();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = served.secure.client(None);
                    client.sock.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                    let many = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
                    // Until the gate reads no more, since it waits for its answers to be read.
                    while client.write_all(many.as_bytes()).is_ok() && !stop.load(Ordering::Relaxed) {}
                }
            });
        }
        let _stop = Stop(&stop);
        let mut kept = served.secure.client(Some(&front));
        for _ in 0..30 {
            assert_eq!(ask(&mut kept, &metric()).0, 200);
            assert_eq!(ask(&mut served.secure.client(Some(&front)), &metric()).0, 200);
        }
    });
}

/// Ends the attack, even if an assertion fails, since the scope waits for its threads.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All attacks at the same time, for some seconds.
#[test]
fn the_front_proxy_is_served_under_every_attack_at_once() {
    let served = serve();
    let front = served.secure.front_proxy();
    let bombs = [3, 20, 45, 150].map(|look_alikes| bomber("look-alike", look_alikes));
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let goes_on = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for bomb in &bombs {
            let served = &served;
            scope.spawn(move || {
                while goes_on() {
                    let _ = try_ask(&mut served.secure.client(Some(bomb)), &metric());
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(|| unfinished(&served, 250, &goes_on));
        }
        for worker in 0..6 {
            let (served, answered) = (&served, &answered);
            scope.spawn(move || askers(served, worker, 25, answered, &goes_on));
        }
        let _stop = Stop(&stop);
        eventually("the attack is under way", || answered.load(Ordering::Relaxed) > 300);
        let mut kept = served.secure.client(Some(&front));
        let started = Instant::now();
        let mut rounds = 0;
        while rounds < 30 || started.elapsed() < Duration::from_secs(3) {
            assert_eq!(ask(&mut kept, &metric()).0, 200);
            assert_eq!(
                ask(&mut kept, &format!("GET {GV}/namespaces/ns/m{rounds} HTTP/1.1\r\nX-Remote-User: alice")).0,
                200
            );
            if rounds % 3 == 0 {
                assert_eq!(ask(&mut served.secure.client(Some(&front)), &metric()).0, 200);
                let aggregator = format!("GET {GV} HTTP/1.1\r\nX-Remote-User: system:kube-aggregator");
                assert_eq!(ask(&mut served.secure.client(Some(&front)), &aggregator).0, 200);
            }
            rounds += 1;
        }
    });
}

/// Repeats connections with a request whose body or head never ends.
fn unfinished(served: &Served, count: usize, goes_on: &impl Fn() -> bool) {
    let mut held = std::collections::VecDeque::new();
    while goes_on() {
        let mut client = served.secure.client(None);
        client.sock.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = if held.len() % 2 == 0 {
            client.write_all(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n")
        } else {
            client.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nA: ")
        };
        let _ = client.write_all(&[b'x'; 15_000]);
        held.push_back(client);
        if held.len() > count {
            held.pop_front();
        }
    }
}

/// Anonymous clients that request unknown paths, each path once.
fn askers(served: &Served, worker: usize, count: usize, answered: &AtomicUsize, goes_on: &impl Fn() -> bool) {
    let mut clients: Vec<_> = (0..count).map(|_| served.secure.client(None)).collect();
    let mut round = 0;
    while goes_on() {
        round += 1;
        for (n, client) in clients.iter_mut().enumerate() {
            let asked = write!(client, "GET /nowhere-{worker}-{n}-{round} HTTP/1.1\r\nHost: a\r\n\r\n");
            if asked.is_err() {
                *client = served.secure.client(None);
            }
        }
        for client in &mut clients {
            match read_answer(client) {
                Ok((head, _)) => {
                    assert_eq!(status(&head), 403);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                // It was shed for a newer connection.
                Err(_) => *client = served.secure.client(None),
            }
        }
    }
}

const CHILD: &str = "HPALITE_TEST_MEMORY_CHILD";

/// As many connections on each port as the daemon accepts.
const CONNECTIONS: usize = 1024;

/// What they may cost. On the plain port that is the counted memory; a TLS session takes some 10 KB of its own.
const PLAIN_KIB_MAX: u64 = 10_000;
const TLS_KIB_MAX: u64 = 30_000;

#[test]
#[expect(clippy::print_stderr, reason = "figures for whoever runs it by hand")]
fn what_is_not_finished_takes_little_memory() {
    if std::env::var_os(CHILD).is_some() {
        return serve_until_stopped();
    }
    let (mut child, mut lines) = child("gate::attack::what_is_not_finished_takes_little_memory", CHILD);
    let line = lines.find_map(|line| line.split_once("addresses ").map(|(_, at)| at.to_owned())).unwrap();
    let addresses: Vec<SocketAddr> = line.split(' ').map(|address| address.parse().unwrap()).collect();
    let resident = || resident_kib(child.id());
    // Accepts any certificate, since the child's CA is not available here.
    let tls = Arc::new(tls::client_config(ServerVerifier::of_anybody(&tls::provider()), None).unwrap());
    let body = [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n".as_slice(), &[b'x'; 65_000]].concat();
    let head = [b"GET / HTTP/1.1\r\nHost: a\r\nA: ".as_slice(), &[b'x'; 16_000]].concat();
    // A handshake message that announces 64 KB, in records of 16 KB.
    let hello: Vec<u8> = (0..4)
        .flat_map(|n| {
            let mut record = vec![0x16, 3, 3, 0x3f, 0xff];
            record.extend_from_slice(if n == 0 { &[1, 0, 0xff, 0xff, 3, 3] } else { &[0; 6] });
            record.resize(5 + 0x3fff, 0);
            record
        })
        .collect();
    let mut grown = Vec::new();
    for (what, bytes, secure, limit) in [
        ("bodies", &body, false, PLAIN_KIB_MAX),
        ("heads", &head, false, PLAIN_KIB_MAX),
        ("bodies over tls", &body, true, TLS_KIB_MAX),
        ("heads over tls", &head, true, TLS_KIB_MAX),
    ] {
        let before = resident();
        let mut highest = 0;
        let mut held: Vec<Box<dyn Write>> = Vec::new();
        for n in 0..CONNECTIONS {
            let socket = connect(addresses[usize::from(secure)]);
            socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut client: Box<dyn Write> = match secure {
                false => Box::new(socket),
                true => {
                    let name = ServerName::try_from("hpalite.autoscaling.svc").unwrap();
                    Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(&tls), name).unwrap(), socket))
                }
            };
            // The gate may have closed it already.
            let _ = client.write_all(bytes);
            held.push(client);
            if n % 32 == 31 {
                highest = highest.max(resident());
            }
        }
        let grew = highest.saturating_sub(before);
        grown.push((what, grew));
        // Shown with --nocapture.
        eprintln!("{what}: {grew} KiB more");
        assert!(grew < limit, "{what}: {grew} KiB more; {grown:?}");
    }
    let before = resident();
    let held: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut socket = connect(addresses[1]);
            socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let _ = socket.write_all(&hello);
            socket
        })
        .collect();
    let grew = resident().saturating_sub(before);
    eprintln!("handshakes: {grew} KiB more");
    assert!(grew < TLS_KIB_MAX, "handshakes: {grew} KiB more; {grown:?}");
    drop(held);
    for address in addresses {
        assert!(TcpStream::connect(address).is_ok());
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[expect(clippy::print_stdout, reason = "speaks to its parent")]
fn serve_until_stopped() {
    let answer: hpalite::http::Handler = Arc::new(|_: &Request| Response::text(200, "ok"));
    let plain = {
        let mut config = config("plain", Arc::clone(&answer));
        config.max_connections = CONNECTIONS;
        hpalite::http::gate::Gate::start(config).unwrap()
    };
    let secure = secure_with(answer, |config| config.max_connections = CONNECTIONS);
    println!("addresses {} {}", plain.local_addr(), secure.address());
    for _ in std::io::stdin().lines() {}
}
