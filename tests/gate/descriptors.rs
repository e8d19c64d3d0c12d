//! A process that has run out of descriptors continues to serve.
//!
//! The limit applies to the whole process, so the gate of this test runs in a child: this test binary again, with an
//! environment variable that makes it run only this test.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::support::*;

const CHILD: &str = "HPALITE_TEST_DESCRIPTORS_CHILD";

#[test]
fn running_out_of_descriptors_is_survived() {
    if std::env::var_os(CHILD).is_some() {
        return serve_without_descriptors();
    }
    let (mut child, mut lines) = child("gate::descriptors::running_out_of_descriptors_is_survived", CHILD);
    let address = lines.find_map(|line| line.split_once("address ").map(|(_, at)| at.to_owned())).unwrap();
    let address = address.parse().unwrap();
    let mut kept = connect(address);
    assert_eq!(ask(&mut kept, "GET / HTTP/1.1").0, 200);

    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "exhaust").unwrap();
    assert!(lines.any(|line| line == "exhausted"));
    // More than can be accepted: each is closed, or replaces one that waits.
    let crowd: Vec<_> =
        (0..50).filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()).collect();
    // Connecting needs only the kernel; the child reports when the gate has met its limit.
    writeln!(stdin, "refuse").unwrap();
    assert!(lines.any(|line| line == "refused"));
    drop(crowd);
    writeln!(stdin, "release").unwrap();
    assert!(lines.any(|line| line == "released"));
    eventually("new clients are served again", || {
        let mut client = connect(address);
        write!(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok() && read_answer(&mut client).is_ok()
    });
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[expect(clippy::print_stdout, reason = "speaks to its parent")]
fn serve_without_descriptors() {
    let gate = plain(echo());
    println!("address {}", gate.local_addr());
    let mut hoard = Vec::new();
    for line in std::io::stdin().lines().map(Result::unwrap) {
        match line.as_str() {
            "exhaust" => {
                let hard = getrlimit(Resource::Nofile).maximum;
                setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: hard }).unwrap();
                hoard.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
                println!("exhausted");
            }
            "refuse" => {
                eventually("the gate is out of descriptors", || {
                    gate.counters().refused().any(|(label, count)| label == "out of descriptors" && count > 0)
                });
                println!("refused");
            }
            _ => {
                hoard.clear();
                println!("released");
            }
        }
    }
}
