//! Draining and stopping.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use hpalite::http::{Handler, Request, Response};

use super::support::*;

/// A handler that waits for a word on `/wait`.
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

fn socket_folders() -> Vec<std::path::PathBuf> {
    let prefix = format!("hpalite-{}-", std::process::id());
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix))
        .collect()
}

#[test]
fn the_socket_behind_the_gate_serves_nobody_without_the_token() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let served = Arc::new(AtomicUsize::new(0));
    let gate = plain({
        let (served, echo) = (Arc::clone(&served), echo());
        Arc::new(move |request: &Request| {
            served.fetch_add(usize::from(request.path == "/without-the-token"), Ordering::SeqCst);
            echo(request)
        })
    });
    let mut met = 0;
    // Other tests of this process have folders as well; whichever it is, it must answer 403.
    for folder in socket_folders() {
        let Ok(metadata) = std::fs::metadata(&folder) else {
            continue;
        };
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
        for header in ["A: b", "X-Hpalite-Gate: 0", "X-Hpalite-Gate: 00000000000000000000000000000000 0"] {
            let Ok(mut stream) = UnixStream::connect(folder.join("0.sock")) else {
                continue;
            };
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            write!(stream, "GET /without-the-token HTTP/1.1\r\n{header}\r\n\r\n").unwrap();
            if let Ok((head, _)) = read_answer(&mut stream) {
                assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
                met += 1;
            }
        }
    }
    assert!(met >= 3);
    assert_eq!(served.load(Ordering::SeqCst), 0);
    // The same header from a client is removed.
    let (_, body) = ask(&mut connect(gate.local_addr()), "GET / HTTP/1.1\r\nX-Hpalite-Gate: x 0");
    assert!(!body.to_lowercase().contains("x-hpalite"), "{body}");
}
