//! Real faults against a real control plane: what was seen, how long hpalite took to scale again, and whether anything
//! was scaled that should not have been.
//!
//! `cargo bench --bench faults` takes about ten minutes, with `cargo test --bench faults` the same in a debug build. It
//! ends with exit code 1 if anything was scaled wrongly, if hpalite did not recover by itself, or if `why` cannot tell
//! of it afterwards.
//!
//! | variable | default | |
//! |---|---|---|
//! | `HPALITE_FAULTS_SECONDS` | 10 | how long each fault lasts |
//! | `HPALITE_FAULTS_KILLS` | 10 | rounds of `kill -9` under load with two instances |
//! | `HPALITE_FAULTS_PAUSE_MS` | 3000 | the longest time before the load changes in such a round, and before the kill after it |
//! | `HPALITE_FAULTS_SEED` | 1 | of the load and the victims of these rounds |
//! | `HPALITE_FAULTS_ONLY` | all | faults whose name contains one of these texts, separated by commas |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    missing_docs
)]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "faults/control_plane.rs"]
mod control_plane;
#[path = "faults/database.rs"]
mod database;
#[path = "../support/deaf.rs"]
mod deaf;
#[path = "../support/fake_prometheus.rs"]
mod fake_prometheus;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/link.rs"]
mod link;
#[path = "faults/machine.rs"]
mod machine;
#[path = "cluster/process.rs"]
mod process;
#[path = "faults/server.rs"]
mod server;
#[path = "faults/stage.rs"]
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use stage::{Outcome, Stage};

/// Makes a fault for so long and ends it.
type Fault = fn(&mut Stage, Duration) -> Outcome;

/// In the order in which they are tried; the last ones replace the daemon.
const FAULTS: &[(&str, Fault)] = &[
    ("metric server refuses connections", server::refusing),
    ("metric server cannot be connected to", server::unreachable),
    ("metric server accepts and says nothing", server::silent),
    ("metric server dies silently between polls", server::forgotten),
    ("metric server resets in the middle of an answer", server::cutting),
    ("metric server takes 5 s for each piece", server::slow),
    ("metric server answers 503", server::status),
    ("metric server answers garbage", server::garbage),
    ("metric server answers 1 MB", server::megabyte),
    ("metric server answers half a body", server::half),
    ("metric server answers NaN", server::nan),
    ("address behind the metric server's name changes", server::moved),
    ("API server refuses connections", control_plane::refusing),
    ("API server cannot be connected to", control_plane::unreachable),
    ("API server: connections die silently", control_plane::silent),
    ("API server: connections are reset", control_plane::cutting),
    ("API server takes 500 ms for each piece", control_plane::slow),
    ("API server killed, back after a compaction of etcd", control_plane::killed),
    ("API server stopped", control_plane::stopped),
    ("etcd stopped", control_plane::etcd_stopped),
    ("HPA controller stopped", control_plane::controller_stopped),
    ("token revoked and replaced", control_plane::token),
    ("CA of the API server replaced", control_plane::authority),
    ("process stopped", machine::stopped),
    ("clock one hour ahead", machine::clock_ahead),
    ("clock one hour back", machine::clock_back),
    ("database deleted", database::deleted),
    ("database renamed", database::renamed),
    ("database emptied", database::emptied),
    ("database cut in half", database::cut),
    ("database's folder renamed", database::folder_renamed),
    ("database immutable", database::immutable),
    ("disk full, and killed while it is", database::disk_full),
    ("leader of two stopped", machine::leader_stopped),
    ("leader of two killed during a cooldown", machine::leader_killed),
    ("killed again and again under load", kills::rounds),
];

fn main() -> ExitCode {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a whole number")))
    };
    let lasts = Duration::from_secs(number("HPALITE_FAULTS_SECONDS", 10));
    let kills = number("HPALITE_FAULTS_KILLS", 10);
    let only = std::env::var("HPALITE_FAULTS_ONLY").unwrap_or_default();
    let chosen: Vec<_> = FAULTS.iter().filter(|(name, _)| only.split(',').any(|text| name.contains(text))).collect();
    assert!(!chosen.is_empty(), "HPALITE_FAULTS_ONLY: no fault has {only:?} in its name");

    let mut stage = Stage::build(kills);
    println!("{:<52} {:>9} {:>6}  seen", format!("fault, {} s", lasts.as_secs()), "recovered", "wrong");
    let mut is_good = true;
    for (name, fault) in chosen {
        let row = stage.trial(lasts, *fault);
        is_good &= row.is_good();
        println!("{name:<52} {row}");
    }
    let most = stage.resident_mb_max();
    println!("resident memory, highest: {most:.0} MB");
    if is_good && most < 128.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
