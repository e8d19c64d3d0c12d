//! Draining and stopping.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use hpalite::http::{Handler, Request, Response};

use super::support::*;

/// A handler that waits for a message on `/wait`.
fn waiting() -> (Handler, mpsc::Sender<()>) {
    let (release, gated) = mpsc::channel::<()>();
    let gated = Mutex::new(gated);
    let handler = move |request: &Request| {
        if request.path == "/wait" {
            let _ = gated.lock().unwrap().recv_timeout(PATIENCE);
        }
        Response::text(200, "done")
    };
    (Arc::new(handler), release)
}

#[test]
fn drain_finishes_what_is_under_way_and_closes_the_rest() {
    let (handler, release) = waiting();
    let gate = Arc::new(plain(handler));
    let address = gate.local_addr();
    let mut idle = connect(address);
    assert_eq!(ask(&mut idle, "GET / HTTP/1.1").0, 200);
    let mut busy = connect(address);
    write!(busy, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the request is with the handler", || gate.counters().requests() == 2);

    assert!(!gate.drain(Duration::from_millis(1)), "one request is still under way");
    let draining = std::thread::spawn({
        let gate = Arc::clone(&gate);
        move || gate.drain(PATIENCE)
    });
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "idle connections are closed");
    eventually("nobody is accepted", || TcpStream::connect(address).is_err());
    release.send(()).unwrap();
    let (head, body) = read_answer(&mut busy).unwrap();
    assert!(head.contains("Connection: close\r\n"), "{head}");
    assert_eq!(body, b"done");
    assert_eq!(busy.read(&mut [0]).unwrap(), 0);
    drop(busy);
    assert!(draining.join().unwrap());
    assert_eq!(gate.counters().active(), 0);
}

#[test]
fn stop_ends_all_threads_and_connections() {
    for round in 0..3 {
        let name = format!("stop{round}");
        let gate = hpalite::http::gate::Gate::start(config(&name, echo())).unwrap();
        let mut client = connect(gate.local_addr());
        assert_eq!(ask(&mut client, "GET / HTTP/1.1").0, 200);
        assert!(threads_named(&name) > 0);
        drop(gate);
        assert_eq!(threads_named(&name), 0);
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }
}

fn threads_named(prefix: &str) -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn headers_of_our_own_do_not_get_in() {
    let gate = plain(echo());
    let (_, body) = ask(&mut connect(gate.local_addr()), "GET / HTTP/1.1\r\nX-Hpalite-Gate: x 0");
    assert!(!body.to_lowercase().contains("x-hpalite"), "{body}");
}
