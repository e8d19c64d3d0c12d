//! Row 26, and the plain port: slow, silent, broken and malicious clients against the real process and its real memory.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::door::ask;
use super::scene::{GV, MASTER, Scene};
use crate::e2e::{Exclusive, exclusive};
use crate::gate::support::{TlsClient, connect, read_answer, status};
use crate::support::cluster::{APISERVICE, Daemon, try_http_get, wait_seeing};

/// Bytes of memory that an attack may cost at its height. The gate holds 1,024 connections: a quarter with a TLS
/// session and 16 KB of a head, a quarter with the start of a record. 22 MB were measured.
const GROWTH_MAX: f64 = 40e6;

/// Bytes that a second attack of the same kind may cost beyond the first: none, apart from the allocator's variations.
const LEAK_MAX: f64 = 10e6;

/// A daemon under attack, and connections of the front proxy that must not be affected.
struct Siege<'a> {
    scene: &'a Scene<'a>,
    daemon: &'a Daemon,
    kept: TlsClient,
    before: f64,
    random: fastrand::Rng,
}

impl<'a> Siege<'a> {
    fn new(scene: &'a Scene<'a>, daemon: &'a Daemon) -> Self {
        let mut kept = scene.door.client(Some(&scene.front));
        assert_eq!(ask(&mut kept, "GET", &scene.metric(), &MASTER).value(), "5");
        Self { scene, daemon, kept, before: resident(daemon), random: fastrand::Rng::with_seed(26) }
    }

    /// Both the connection from before the attack and a new one are served.
    fn assert_served(&mut self) {
        assert_eq!(ask(&mut self.kept, "GET", &self.scene.metric(), &MASTER).value(), "5");
        assert_eq!(self.scene.as_master(GV).code, 200);
    }

    fn assert_bounded(&self, what: &str) {
        let grown = resident(self.daemon) - self.before;
        assert!(grown < GROWTH_MAX, "{what}: {grown} bytes more");
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.scene.door.address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// 10,000 clients that connect and send nothing, 1,500 at a time: more than the gate holds.
    fn silent(&mut self) {
        let mut silent = VecDeque::new();
        for n in 0..10_000 {
            silent.push_back(self.connect());
            if silent.len() > 1500 {
                silent.pop_front();
            }
            if n % 500 == 0 {
                self.assert_served();
            }
        }
        self.assert_bounded("silent");
    }

    /// 2,000 clients that do not complete what they begin: those with a head after a good handshake, and the others.
    fn half_open(&mut self) -> (Vec<TlsClient>, Vec<TcpStream>) {
        let (mut heads, mut slow) = (Vec::new(), Vec::new());
        for n in 0..2000 {
            match n % 4 {
                0 => {
                    let mut client = self.scene.door.client(None);
                    client.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nA: ").unwrap();
                    heads.push(client);
                }
                1 => {
                    let mut stream = self.connect();
                    // A record that announces 16 KB and stops.
                    let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x40, 0x00, 0x01]);
                    slow.push(stream);
                }
                2 => {
                    let mut stream = self.connect();
                    let garbage: Vec<u8> = (0..self.random.usize(1..5000)).map(|_| self.random.u8(..)).collect();
                    let _ = stream.write_all(&garbage);
                    slow.push(stream);
                }
                _ => {
                    // Ends with a reset in the middle of a body, unlike the kube-apiserver.
                    let mut client = self.scene.door.client(Some(&self.scene.front));
                    let _ = write!(client, "POST {GV} HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
                    let _ = client.write_all(&[b'x'; 30_000]);
                    rustix::net::sockopt::set_socket_linger(&client.sock, Some(Duration::ZERO)).unwrap();
                }
            }
            if n % 100 == 0 {
                self.assert_served();
            }
        }
        self.assert_bounded("half-open");
        (heads, slow)
    }

    /// Occasional bytes do not extend the time: all are closed at their deadline.
    fn outlast(&mut self, mut heads: Vec<TlsClient>, mut slow: Vec<TcpStream>) {
        wait_seeing("the slow to be cut off", || {
            for client in &mut heads {
                let _ = client.write_all(b"b").and_then(|()| client.flush());
            }
            let mut rest = [0; 1024];
            slow.retain_mut(|stream| {
                stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                let ended = stream.write_all(b"b").is_err() || matches!(stream.read(&mut rest), Ok(0));
                !ended
            });
            // Connections of the kube-apiserver and of this test.
            match self.daemon.metric("hpalite_http_connections").unwrap() {
                left if left < 30.0 && slow.is_empty() => Ok(()),
                left => Err(format!("{left} connections, {} slow", slow.len())),
            }
        });
        self.assert_served();
    }
}

fn resident(daemon: &Daemon) -> f64 {
    daemon.metric("hpalite_process_resident_memory_bytes").unwrap()
}

#[test]
fn row_26_a_siege() {
    let (cluster, _lock) = exclusive(Exclusive::Faults);
    let daemon = Daemon::serve(cluster, &[]);
    let scene = Scene::within(cluster, &daemon, "siege");
    let mut siege = Siege::new(&scene, &daemon);
    siege.silent();
    let mut left = Vec::new();
    for _ in 0..2 {
        let (mut heads, slow) = siege.half_open();
        // All of them send nearly as much of a head as the gate accepts; the rest are to be closed for slowness.
        for client in &mut heads {
            let _ = client.write_all(&[b'b'; 14_000]);
        }
        siege.assert_served();
        siege.assert_bounded("large heads");
        siege.outlast(heads, slow);
        left.push(resident(&daemon));
    }
    assert!(left[1] - left[0] < LEAK_MAX, "{left:?}");
    let shed = daemon.metric("hpalite_http_connections_shed_total").unwrap();
    assert!(shed > 1000.0, "{shed}");
    // The kube-apiserver's probes succeeded meanwhile.
    let found = cluster.get("apiservice", "", APISERVICE).unwrap();
    assert_eq!(found["status"]["conditions"][0]["status"], "True", "{found}");
}

/// 900 connections request `/metrics` again and again; the kubelet opens a new one for each probe.
#[test]
fn probes_are_answered_while_everybody_asks_for_metrics() {
    let (cluster, _lock) = exclusive(Exclusive::Faults);
    let daemon = Daemon::serve(cluster, &[]);
    let address: SocketAddr = daemon.http.trim_start_matches("http://").parse().unwrap();
    let before = resident(&daemon);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let crowd = || {
        let mut clients: Vec<_> = (0..150).map(|_| connect(address)).collect();
        while !stop.load(Ordering::Relaxed) {
            for client in &mut clients {
                let _ = client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            for client in &mut clients {
                match read_answer(client) {
                    // 503 if too many wait for the page to be rendered.
                    Ok((head, _)) => assert!([200, 503].contains(&status(&head)), "{head}"),
                    Err(_) => *client = connect(address),
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(crowd);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while answered.load(Ordering::Relaxed) < 2000 && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        // Stopped before the assertions, since the scope waits for its threads.
        let probe = |path: &&str| try_http_get(&format!("{}{path}", daemon.http));
        let answers: Vec<_> = (0..20).flat_map(|_| ["/livez", "/healthz", "/readyz"].iter().map(probe)).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(answers.iter().all(|answer| answer.as_deref() == Ok("ok")), "{answers:?}");
    });
    let grown = resident(&daemon) - before;
    assert!(grown < GROWTH_MAX, "{grown} bytes more");
}
