//! Real faults against a real control plane: what was seen, how long hpalite took to scale again, and whether anything
//! was scaled that should not have been.
//!
//! `cargo bench --bench faults` takes about 17 minutes, with `cargo test --bench faults` the same in a debug build. It
//! ends with exit code 1 if anything was scaled wrongly, if hpalite did not recover by itself, if `why` cannot say
//! of it afterwards, or if a fault cannot be made here. All can with root, and with Debian's package `faketime`.
//!
//! | variable | default | |
//! |---|---|---|
//! | `HPALITE_FAULTS_SECONDS` | 10 | how long each fault lasts, unless it takes longer to show |
//! | `HPALITE_FAULTS_LONG` | 0 | 1: the API server is away for ten minutes instead of one |
//! | `HPALITE_FAULTS_KILLS` | 10 | rounds of `kill -9` under load with two instances |
//! | `HPALITE_FAULTS_PAUSE_MS` | 3000 | the longest time before the load changes in such a round, and before the kill after it |
//! | `HPALITE_FAULTS_SEED` | 1 | of the load and the victims of these rounds |
//! | `HPALITE_FAULTS_ONLY` | all | faults whose name contains one of these texts, separated by commas |
//! | `HPALITE_FAULTS_ALLOW_UNTRIED` | 0 | 1: faults that cannot be made here are no failure |
//! | `HPALITE_FAULTS_WHY` | | if set, what `why` says of each fault is printed |
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
#[path = "faults/watch.rs"]
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use stage::{Explanation, Explanations, Outcome, Stage};

/// What an instance may have had at most.
const MEMORY_MB_MAX: f64 = 128.0;

/// Makes a fault for so long and ends it.
type Make = fn(&mut Stage, Duration) -> Outcome;

struct Fault {
    name: &'static str,
    make: Make,
    /// It shows only after this time.
    least: u64,
    /// The same if the long faults are wanted.
    least_long: u64,
    explanations: Explanations,
}

const fn fault(name: &'static str, make: Make) -> Fault {
    Fault { name, make, least: 0, least_long: 0, explanations: &[] }
}

impl Fault {
    /// Of at least so many seconds.
    const fn lasting(self, least: u64) -> Self {
        Self { least, least_long: least, ..self }
    }

    /// The same where `HPALITE_FAULTS_LONG` is set.
    const fn lasting_long(self, least_long: u64) -> Self {
        Self { least_long, ..self }
    }

    /// What `hpalite why` has to say of it afterwards.
    const fn explained_by(self, explanations: Explanations) -> Self {
        Self { explanations, ..self }
    }
}

/// An error of the trigger, while it lasts and afterwards, with its end.
macro_rules! error {
    ($words:literal) => {
        &[
            Explanation::Of("steady", $words),
            Explanation::Of("asleep", $words),
            Explanation::Of("steady", "s0-prometheus no longer in error"),
            Explanation::Of("asleep", "s0-prometheus no longer in error"),
            Explanation::Meanwhile("steady", "held by trigger s0-prometheus in error since"),
            Explanation::Meanwhile("asleep", "held by trigger s0-prometheus in error since"),
        ]
    };
}

/// What was asked at the old address has no answer.
const MOVED: Explanations = &[
    Explanation::Of("steady", "within 2s (timeout)"),
    Explanation::Of("asleep", "within 2s (timeout)"),
    Explanation::Of("steady", "s0-prometheus no longer in error"),
    Explanation::Of("asleep", "s0-prometheus no longer in error"),
];
const DISPLACED: Explanations = &[
    Explanation::Of("steady", "the history lost"),
    Explanation::Of("steady", "was deleted, renamed or replaced while it was in use"),
    Explanation::Of("asleep", "was deleted, renamed or replaced while it was in use"),
];
const CORRUPT: Explanations = &[
    Explanation::Of("steady", "the history lost"),
    Explanation::Of("steady", "the database was corrupt"),
    Explanation::Of("asleep", "the database was corrupt"),
];
const KILLED: Explanations = &[
    Explanation::Of("steady", "hpalite started, after it was killed or crashed"),
    Explanation::Of("asleep", "hpalite started, after it was killed or crashed"),
];
const UNANSWERED: Explanations = &[
    Explanation::Of("steady", "no request to the API server was answered from"),
    Explanation::Of("asleep", "no request to the API server was answered from"),
];
const STOOD_BY: Explanations = &[
    Explanation::Of("steady", "hpalite leads, after it stood by"),
    Explanation::Of("asleep", "hpalite leads, after it stood by"),
];

/// In the order in which they are tried; the last ones replace the daemon.
///
/// A reading counts for 30 s, and a process that is 10 s late stood still: what is about either lasts longer than that.
/// The history has nothing of the HPA controller, nor of an API server that answers something.
const FAULTS: &[Fault] = &[
    fault("metric server refuses connections", server::refusing)
        .lasting(45)
        .explained_by(error!("connection refused (connect)")),
    fault("metric server cannot be connected to", server::unreachable)
        .lasting(45)
        .explained_by(error!("within 2s (timeout)")),
    fault("metric server accepts and says nothing", server::silent)
        .lasting(45)
        .explained_by(error!("within 2s (timeout)")),
    fault("metric server dies silently between polls", server::forgotten),
    fault("metric server resets in the middle of an answer", server::cutting)
        .explained_by(error!("it closed the connection without a complete answer (connect)")),
    fault("metric server takes 5 s for each piece", server::slow).explained_by(error!("within 2s (timeout)")),
    fault("metric server answers 503", server::status)
        .explained_by(error!("answered status 503: Service Unavailable (status)")),
    fault("metric server answers garbage", server::garbage)
        .explained_by(error!("answered something that is not the Prometheus API's JSON (response)")),
    fault("metric server answers 1 MB", server::megabyte).explained_by(error!("prometheus query returned 2 series")),
    fault("metric server answers half a body", server::half)
        .explained_by(error!("it closed the connection without a complete answer (connect)")),
    fault("metric server answers NaN", server::nan).explained_by(error!("(1 poll): nan")),
    fault("address behind the metric server's name changes", server::moved).explained_by(MOVED),
    fault("API server refuses connections", control_plane::refusing).lasting(20).explained_by(UNANSWERED),
    fault("API server cannot be connected to", control_plane::unreachable).lasting(20).explained_by(UNANSWERED),
    fault("API server: connections die silently", control_plane::silent),
    fault("API server: connections are reset", control_plane::cutting),
    fault("API server takes 500 ms for each piece", control_plane::slow),
    fault("API server killed, back after a compaction of etcd", control_plane::killed)
        .lasting(60)
        .lasting_long(600)
        .explained_by(UNANSWERED),
    fault("API server stopped", control_plane::stopped).lasting(20).explained_by(UNANSWERED),
    fault("etcd stopped", control_plane::etcd_stopped),
    fault("etcd slow", control_plane::etcd_slow),
    fault("HPA controller stopped", control_plane::controller_stopped),
    fault("token revoked and replaced", control_plane::token),
    fault("CA of the API server replaced", control_plane::authority),
    fault("process stopped", machine::stopped).lasting(60).explained_by(&[
        Explanation::Meanwhile("steady", ", though polled every 1 s"),
        Explanation::Of("steady", "hpalite stood still from"),
    ]),
    fault("clock one hour ahead", machine::clock_ahead)
        .explained_by(&[Explanation::Of("steady", "the wall clock was stepped forward from")]),
    fault("clock one hour back", machine::clock_back)
        .explained_by(&[Explanation::Of("steady", "the wall clock was stepped back from")]),
    fault("database deleted", database::deleted).explained_by(DISPLACED),
    fault("database renamed", database::renamed).explained_by(DISPLACED),
    fault("database emptied", database::emptied).explained_by(CORRUPT),
    fault("database cut in half", database::cut).explained_by(CORRUPT),
    fault("database's folder renamed", database::folder_renamed).explained_by(DISPLACED),
    fault("database immutable", database::immutable),
    fault("disk full, and killed while it is", database::disk_full).explained_by(KILLED),
    fault("leader of two stopped", machine::leader_stopped).lasting(60).explained_by(STOOD_BY),
    fault("leader of two killed during a cooldown", machine::leader_killed),
    fault("killed again and again under load", kills::rounds).explained_by(KILLED),
];

fn main() -> ExitCode {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: a whole number")))
    };
    let seconds = number("HPALITE_FAULTS_SECONDS", 10);
    let kills = number("HPALITE_FAULTS_KILLS", 10);
    let is_long = number("HPALITE_FAULTS_LONG", 0) > 0;
    let may_be_untried = number("HPALITE_FAULTS_ALLOW_UNTRIED", 0) > 0;
    let only = std::env::var("HPALITE_FAULTS_ONLY").unwrap_or_default();
    let chosen: Vec<_> = FAULTS.iter().filter(|one| only.split(',').any(|text| one.name.contains(text))).collect();
    assert!(!chosen.is_empty(), "HPALITE_FAULTS_ONLY: no fault has {only:?} in its name");

    let mut stage = Stage::build(kills);
    println!("{:<58} {:>9} {:>6}  seen", format!("fault, {seconds} s unless it says how long"), "recovered", "wrong");
    let (mut failed, mut tried) = (Vec::new(), 0);
    for Fault { name, make, least, least_long, explanations } in chosen.iter().copied() {
        let lasts = seconds.max(if is_long { *least_long } else { *least });
        let row = stage.trial(Duration::from_secs(lasts), *make, explanations);
        let title = if lasts > seconds { format!("{name}, {lasts} s") } else { (*name).to_owned() };
        println!("{title:<58} {row}");
        tried += usize::from(row.is_tried);
        if !row.is_good() {
            failed.push(*name);
        }
    }
    let moved = stage.last_look();
    if !moved.is_empty() {
        println!("WRONG: {}", moved.join("; "));
        failed.push("after the last fault");
    }
    let most = stage.peak_mb_max();
    println!("resident memory of any instance, highest: {most:.0} MB");
    println!("{tried} of {} tried, failed: {failed:?}", chosen.len());
    let is_tried = tried == chosen.len() || may_be_untried;
    if failed.is_empty() && is_tried && most < MEMORY_MB_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
