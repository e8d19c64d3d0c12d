//! Faults of the history's file and of its disk. Scaling must not notice any of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::cluster::{Daemon, wait_until};
use super::stage::{Outcome, Stage, pass};

/// How soon the daemon has to notice a file that is displaced under it.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

fn with_suffix(db: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", db.display()))
}

fn counted(daemon: &Daemon, name: &str) -> f64 {
    daemon.metric(&format!("hpalite_store_{name}_total")).unwrap_or(0.0)
}

/// Breaks the file and waits until the daemon says so as a metric and in its log, and until the new file has what lasts.
fn broken(stage: &mut Stage, lasts: Duration, metric: &str, break_it: impl FnOnce(&Path)) -> Outcome {
    let daemon = stage.daemon();
    let (db, before) = (daemon.db(), counted(daemon, metric));
    break_it(&db);
    let began = Instant::now();
    wait_until("the daemon to notice", NOTICED_WITHIN * 4, || (counted(daemon, metric) > before).then_some(()));
    let took = began.elapsed();
    pass(lasts);
    let missing = lacks(daemon);
    if took > NOTICED_WITHIN {
        return Outcome::Failed(format!("noticed after {took:?}"));
    }
    match missing.is_empty() {
        true => Outcome::Made(format!("noticed after {:.1} s", took.as_secs_f64())),
        false => Outcome::Failed(format!("the new file lacks {missing:?}")),
    }
}

/// Returns what a history should have of an object that nobody touches, and has not.
fn lacks(daemon: &Daemon) -> Vec<&'static str> {
    let kinds = [
        ("its definition", "SELECT 1 FROM v_definition WHERE name = 'cooling'"),
        ("its replicas", "SELECT 1 FROM v_replica_change WHERE name = 'cooling' AND to_replicas = 1"),
        ("a decision", "SELECT 1 FROM v_decision WHERE name = 'cooling' AND reason = 'CoolingDown'"),
        ("its conditions", "SELECT 1 FROM v_condition_change WHERE name = 'cooling'"),
        ("its HPA", "SELECT 1 FROM v_hpa_observation WHERE name = 'cooling'"),
        ("samples", "SELECT 1 FROM v_sample WHERE name = 'cooling'"),
        ("the loss", "SELECT 1 FROM v_loss"),
    ];
    let has = |sql: &str| !daemon.sql(sql).is_empty();
    kinds.into_iter().filter(|(_, sql)| !has(sql)).map(|(what, _)| what).collect()
}

pub(crate) fn deleted(stage: &mut Stage, lasts: Duration) -> Outcome {
    broken(stage, lasts, "displacements", |db| {
        for suffix in ["", "-wal", "-shm"] {
            fs::remove_file(with_suffix(db, suffix)).expect("it is removed");
        }
    })
}

pub(crate) fn renamed(stage: &mut Stage, lasts: Duration) -> Outcome {
    broken(stage, lasts, "displacements", |db| fs::rename(db, with_suffix(db, ".away")).expect("it is renamed"))
}

pub(crate) fn emptied(stage: &mut Stage, lasts: Duration) -> Outcome {
    broken(stage, lasts, "corruptions", |db| drop(fs::File::create(db).expect("it is emptied")))
}

pub(crate) fn cut(stage: &mut Stage, lasts: Duration) -> Outcome {
    // An orderly end folds the log into the file, which then has an end to lose.
    let (program, db) = (stage.program(), stage.daemon().db());
    stage.replace(program, db);
    broken(stage, lasts, "corruptions", |db| {
        let file = fs::File::options().write(true).open(db).expect("it is opened");
        let size = file.metadata().expect("its size").len();
        file.set_len(size / 2 / 4096 * 4096).expect("it is cut");
    })
}

/// The volume goes away and comes back.
pub(crate) fn folder_renamed(stage: &mut Stage, lasts: Duration) -> Outcome {
    let folder = stage.folder();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).expect("a folder");
    let program = stage.program();
    stage.replace(program, volume.join("hpalite.db"));
    let away = folder.path().join("away");
    fs::rename(&volume, &away).expect("it is renamed");
    wait_until("the daemon to notice", NOTICED_WITHIN * 4, || {
        (counted(stage.daemon(), "displacements") > 0.0).then_some(())
    });
    pass(lasts);
    fs::rename(&away, &volume).expect("it is renamed back");
    finish(stage, folder, |stage| counted(stage.daemon(), "lost"))
}

/// Waits until the history is written again, and goes back to an ordinary folder.
fn finish(stage: &mut Stage, folder: tempfile::TempDir, lost: impl FnOnce(&Stage) -> f64) -> Outcome {
    let ended = Instant::now();
    stage.look("during the fault");
    let recovered = stage.recover(ended);
    let written = "SELECT 1 FROM v_decision WHERE name = 'asleep' AND to_replicas = 0 AND from_replicas = 1";
    wait_until("the history to be written", Duration::from_secs(60), || {
        (fs::exists(stage.daemon().db()).unwrap_or(false) && !stage.daemon().sql(written).is_empty()).then_some(())
    });
    let told = stage.is_told();
    let lost = lost(stage);
    let new = stage.folder();
    let db = new.path().join("hpalite.db");
    let program = stage.program();
    stage.replace_in(program, db, new);
    drop(folder);
    match recovered.and_then(|time| told.map(|()| time)) {
        Ok(recovered) => Outcome::Judged { recovered, seen: format!("{lost} records lost") },
        Err(why) => Outcome::Failed(why),
    }
}

/// No process may write the file, not even one that has it open.
pub(crate) fn immutable(stage: &mut Stage, lasts: Duration) -> Outcome {
    let db = stage.daemon().db();
    let attribute = |how: &str| {
        let files = [with_suffix(&db, ""), with_suffix(&db, "-wal")];
        Command::new("chattr").arg(how).args(files).output().is_ok_and(|output| output.status.success())
    };
    if !attribute("+i") {
        return Outcome::NotTried("chattr +i needs root, and ext4 or xfs".to_owned());
    }
    pass(lasts);
    let failed = counted(stage.daemon(), "failed_flushes");
    attribute("-i");
    wait_until("the history to be written again", Duration::from_secs(60), || {
        stage.daemon().log().contains("history is written again").then_some(())
    });
    match failed > 0.0 {
        true => Outcome::Made(format!("{failed} writes of the history failed")),
        false => Outcome::Failed("no write failed".to_owned()),
    }
}

/// Fills the disk, kills the daemon, which starts again on the full disk, and frees the disk.
pub(crate) fn disk_full(stage: &mut Stage, lasts: Duration) -> Outcome {
    let folder = stage.folder();
    let volume = folder.path().join("volume");
    fs::create_dir(&volume).expect("a folder");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&volume).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return Outcome::NotTried("a small file system needs root".to_owned());
    }
    let mounted = Mounted(volume.clone());
    let db = volume.join("hpalite.db");
    let program = stage.program();
    stage.replace(program, db.clone());
    let filler = volume.join("filler");
    let fill = || {
        use std::io::Write as _;
        let mut file = fs::File::options().append(true).create(true).open(&filler).expect("a file");
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    };
    fill();
    // What was free in the log's last pages is used up.
    wait_until("a write of the history to fail", Duration::from_secs(120), || {
        fill();
        (counted(stage.daemon(), "failed_flushes") > 0.0).then_some(())
    });
    pass(lasts);
    let own = stage.take().kill();
    // The kernel may have freed something with the process.
    fill();
    let daemon = stage.spawn(stage.program(), db, own);
    stage.lead(&daemon);
    stage.daemon = Some(daemon);
    pass(lasts);
    fs::remove_file(&filler).expect("the disk is freed");
    let outcome =
        finish(stage, folder, |stage| stage.daemon().metric("hpalite_store_lost_total{kind=\"other\"}").unwrap_or(0.0));
    drop(mounted);
    outcome
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
