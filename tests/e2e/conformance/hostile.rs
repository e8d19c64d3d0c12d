//! Row 26: clients that are slow, silent, broken or mean, against the real process and its real memory.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::door::ask;
use super::scene::{GV, MASTER, Scene};
use crate::e2e::{Exclusive, exclusive};
use crate::gate::support::TlsClient;
use crate::support::cluster::{Daemon, wait_seeing};

/// What 1,024 connections of the gate may cost: a TLS session is some 20 KB, a request that is arriving up to 100 KB.
const GROWTH_MAX: f64 = 64e6;

/// A daemon under attack, and the front proxy's connections that must not notice.
struct Siege<'a> {
    scene: &'a Scene<'a>,
    daemon: &'a Daemon,
    kept: TlsClient,
    before: f64,
}

impl<'a> Siege<'a> {
    fn new(scene: &'a Scene<'a>, daemon: &'a Daemon) -> Self {
        let mut kept = scene.door.client(Some(&scene.front));
        assert_eq!(ask(&mut kept, "GET", &scene.metric(), &MASTER).value(), "5");
        Self { scene, daemon, kept, before: resident(daemon) }
    }

    /// The connection that stood before all this is still served, and so is a new one.
    fn assert_served(&mut self) {
        assert_eq!(ask(&mut self.kept, "GET", &self.scene.metric(), &MASTER).value(), "5");
        assert_eq!(self.scene.as_master(GV).code, 200);
    }

    fn assert_bounded(&self, what: &str) {
        let grown = resident(self.daemon) - self.before;
        assert!(grown < GROWTH_MAX, "{what}: {grown} bytes more");
    }
}

fn resident(daemon: &Daemon) -> f64 {
    daemon.metric("hpalite_process_resident_memory_bytes").unwrap()
}

fn connect(scene: &Scene<'_>) -> TcpStream {
    let stream = TcpStream::connect(scene.door.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

#[test]
fn row_26_a_siege() {
    let (cluster, _turn) = exclusive(Exclusive::Faults);
    let daemon = Daemon::serve(cluster, &[]);
    let scene = Scene::within(cluster, &daemon, "siege");
    let mut siege = Siege::new(&scene, &daemon);

    // 10,000 that connect and say nothing, 1,500 of them at a time: more than the gate holds.
    let mut silent = VecDeque::new();
    for n in 0..10_000 {
        silent.push_back(connect(&scene));
        if silent.len() > 1500 {
            silent.pop_front();
        }
        if n % 500 == 0 {
            siege.assert_served();
        }
    }
    siege.assert_bounded("silent");

    // 2,000 half-open: the start of a handshake, of a head behind a good handshake, garbage.
    let mut random = fastrand::Rng::with_seed(26);
    let mut slow: Vec<TcpStream> = Vec::new();
    let mut heads: Vec<TlsClient> = Vec::new();
    for n in 0..2000 {
        match n % 4 {
            0 => {
                let mut client = scene.door.client(None);
                client.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nA: ").unwrap();
                heads.push(client);
            }
            1 => {
                let mut stream = connect(&scene);
                // A record that announces 16 KB and stops.
                let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x40, 0x00, 0x01]);
                slow.push(stream);
            }
            2 => {
                let mut stream = connect(&scene);
                let garbage: Vec<u8> = (0..random.usize(1..5000)).map(|_| random.u8(..)).collect();
                let _ = stream.write_all(&garbage);
                slow.push(stream);
            }
            _ => {
                // A client that resets in the middle of a body.
                let mut client = scene.door.client(Some(&scene.front));
                let _ = write!(client, "POST {GV} HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
                let _ = client.write_all(&[b'x'; 30_000]);
                rustix::net::sockopt::set_socket_linger(&client.sock, Some(Duration::ZERO)).unwrap();
            }
        }
        if n % 100 == 0 {
            siege.assert_served();
        }
    }
    siege.assert_bounded("half-open");

    // Headers of a megabyte, by many at once.
    let piece = vec![b'b'; 1 << 20];
    for client in &mut heads {
        let _ = client.write_all(&piece[..1 << 14]);
    }
    siege.assert_served();
    siege.assert_bounded("large heads");

    // A byte now and then buys no time: all are gone by their deadline.
    drop(silent);
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
        // The kube-apiserver's own, ours, and the one that asks.
        match daemon.metric("hpalite_http_connections").unwrap() {
            left if left < 30.0 && slow.is_empty() => Ok(()),
            left => Err(format!("{left} connections, {} slow", slow.len())),
        }
    });
    siege.assert_served();
    siege.assert_bounded("all over");
    let shed = daemon.metric("hpalite_http_connections_shed_total").unwrap();
    assert!(shed > 1000.0, "{shed}");
    let found = cluster.get("apiservice", "", crate::support::cluster::APISERVICE).unwrap();
    assert_eq!(found["status"]["conditions"][0]["status"], "True", "{found}");
}
