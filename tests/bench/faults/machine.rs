//! Faults of the machine: processes that stand still, clocks that step, instances that end.

use std::path::Path;
use std::time::{Duration, Instant};

use super::cluster::{Daemon, signal, wait_until};
use super::stage::{NAMESPACE, Outcome, Stage, pass};

/// Where Debian's package `faketime` has its library.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// `hpalite why` says that an instance leads if it stood by for a minute before.
const STANDS_BY: Duration = Duration::from_secs(61);

pub(crate) fn stopped(stage: &mut Stage, lasts: Duration) -> Outcome {
    let pid = stage.daemon().pid();
    signal(pid, "STOP");
    pass(lasts);
    signal(pid, "CONT");
    Outcome::Made(String::new())
}

pub(crate) fn clock_ahead(stage: &mut Stage, lasts: Duration) -> Outcome {
    clock(stage, lasts, "+3600")
}

pub(crate) fn clock_back(stage: &mut Stage, lasts: Duration) -> Outcome {
    clock(stage, lasts, "-3600")
}

/// Steps the wall clock of the daemon, and back at the end.
fn clock(stage: &mut Stage, lasts: Duration, by: &str) -> Outcome {
    if !Path::new(FAKETIME).exists() {
        return Outcome::NotTried("install Debian's faketime".to_owned());
    }
    let step = stage.cluster.folder.join("clock");
    let set = |by: &str| std::fs::write(&step, by).expect("the step is written");
    set("+0");
    let folder = stage.folder();
    let db = folder.path().join("hpalite.db");
    let mut program = stage.program();
    program
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME_TIMESTAMP_FILE", &step)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    stage.replace_in(program, db, folder);
    set(by);
    pass(lasts);
    set("+0");
    let ended = Instant::now();
    stage.look("during the fault");
    let steps = stage.daemon().log().lines().filter(|line| line.contains("the wall clock was stepped")).count();
    let recovered = stage.recover(ended).and_then(|time| stage.is_told().map(|()| time));
    // The next daemon has the machine's clock again.
    let folder = stage.folder();
    let db = folder.path().join("hpalite.db");
    let program = stage.program();
    stage.replace_in(program, db, folder);
    match recovered {
        Ok(_) if steps == 0 => Outcome::Failed("the step was not noticed".to_owned()),
        Ok(recovered) => Outcome::Judged { recovered, seen: format!("{steps} steps noticed") },
        Err(why) => Outcome::Failed(why),
    }
}

/// The leader stands still, the standby takes over, and the leader finds itself deposed when it goes on.
pub(crate) fn leader_stopped(stage: &mut Stage, lasts: Duration) -> Outcome {
    let second = another(stage);
    pass(STANDS_BY);
    let first = stage.daemon.take().expect("a daemon");
    signal(first.pid(), "STOP");
    let began = Instant::now();
    stage.lead(&second);
    let took = began.elapsed();
    pass(lasts.saturating_sub(took));
    stage.weigh(&first);
    signal(first.pid(), "CONT");
    let (code, _folder) = first.wait();
    stage.daemon = Some(second);
    stage.look("during the fault");
    if code != Some(1) {
        return Outcome::Failed(format!("the leader of before ended with {code:?}"));
    }
    let seen = format!("taken over after {:.1} s, deposed when it went on", took.as_secs_f64());
    match stage.recover(Instant::now()).and_then(|time| stage.is_told().map(|()| time)) {
        Ok(recovered) => Outcome::Judged { recovered, seen },
        Err(why) => Outcome::Failed(why),
    }
}

/// The standby goes on with the cooldown that the leader began, in another database.
pub(crate) fn leader_killed(stage: &mut Stage, _lasts: Duration) -> Outcome {
    const COOLDOWN: u64 = 20;
    let second = another(stage);
    set_cooldown(stage, COOLDOWN);
    stage.set("asleep", 5.0);
    stage.wait("asleep", 1);
    wait_until("asleep to be active", Duration::from_secs(60), || stage.condition("asleep", "Active", "True"));
    stage.set("asleep", 0.0);
    let fell = Instant::now();
    wait_until("asleep to cool down", Duration::from_secs(60), || stage.condition("asleep", "Active", "False"));
    stage.expect("asleep", &[1]);
    stage.look("before the fault");
    drop(stage.take().kill());
    let killed = Instant::now();
    stage.lead(&second);
    let took = killed.elapsed();
    stage.daemon = Some(second);
    stage.look("during the fault");
    stage.wait("asleep", 0);
    stage.expect("asleep", &[0]);
    let cooled = fell.elapsed();
    // It was last seen active up to a polling interval before.
    if cooled < Duration::from_secs(COOLDOWN - 2) {
        stage.blame(format!("a cooldown of {COOLDOWN} s ended too soon"));
    }
    let told = stage.is_told();
    set_cooldown(stage, 2);
    let seen = format!("a cooldown of {COOLDOWN} s took {:.1} s over both", cooled.as_secs_f64());
    match told {
        Ok(()) => Outcome::Judged { recovered: took, seen },
        Err(why) => Outcome::Failed(why),
    }
}

pub(crate) fn set_cooldown(stage: &Stage, seconds: u64) {
    let patch = format!(r#"{{"spec":{{"cooldownPeriod":{seconds}}}}}"#);
    let object = "scaledobjects.keda.sh/asleep";
    stage.cluster.kubectl(&["patch", object, "-n", NAMESPACE, "--type=merge", "-p", &patch]);
}

/// Starts an instance beside the one that acts, and waits until it stands by.
pub(crate) fn another(stage: &Stage) -> Daemon {
    let folder = stage.folder();
    let db = folder.path().join("hpalite.db");
    let second = stage.spawn(stage.program(), db, folder);
    wait_until("the second instance to stand by", Duration::from_secs(60), || {
        second.readiness().contains("standing by").then_some(())
    });
    second
}
