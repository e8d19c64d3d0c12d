//! Checks the history's file, where the pod has it.

use std::path::Path;

use super::Doctor;
use crate::scaling::model::UnixMillis;
use crate::store::health::{self, Disk, Health, Loss};
use crate::store::unix_now;
use crate::wire::time::format_seconds;

/// The daemon writes at least every few minutes once there is a ScaledObject.
const SILENT_MS: i64 = 15 * 60_000;
/// A larger write-ahead log is a sign that it cannot be checkpointed.
const WAL_MAX: u64 = 64_000_000;

/// Less than this is soon full: the write-ahead log alone may take as much.
const FREE_MIN: u64 = 16 << 20;
/// So many ends without a word in an hour are no accident.
const LOST_MAX: i64 = 3;

impl Doctor<'_> {
    pub(super) fn database(&mut self) {
        let path = self.subject.db.as_deref().unwrap_or(&self.subject.config.db);
        let subject = path.display().to_string();
        if !Path::exists(path) {
            if self.subject.db.is_some() {
                let fix = "name the file of the daemon's --db";
                return self.error("database-missing", &subject, "there is no such file", fix);
            }
            return self.skipped(&subject, "the file is not here", "run it in the pod, or name a file by --db");
        }
        let found = health::of(path);
        if let Err(cause) = &found {
            let fix = "see sql/README.md; the daemon sets a corrupt file aside and starts a new one";
            self.error("database-unreadable", &subject, cause, fix);
        }
        let Ok(health) = found else { return };
        if let Some(disk) = health.disk {
            self.disk(&subject, disk);
        }
        let Health { version, known, .. } = health;
        if version > known {
            let cause = format!("it is of version {version}, written by a newer hpalite; this one knows {known}");
            return self.error("database-newer", &subject, cause, "run the newer binary, or set the file aside");
        }
        if let Some(damage) = health.damage {
            let fix = "copy what can be saved by hpalite sql --backup; the daemon sets the file aside at its start";
            return self.error("database-corrupt", &subject, damage, fix);
        }
        if health.wal_bytes > WAL_MAX {
            let cause = format!("its write-ahead log has {} MB", health.wal_bytes / 1_000_000);
            self.warn("database-wal", &subject, cause, "end long reads beside the daemon");
        }
        let silent = health.last_at.map(|at| unix_now().0 - at).filter(|silent| *silent > SILENT_MS);
        if let Some(silent) = silent {
            let cause = format!("nothing was written for {} minutes", silent / 60_000);
            self.warn("database-silent", &subject, cause, "see that the daemon runs, and hpalite_store_… metrics");
        }
        if let Some(Loss { until, records, cause }) = health.loss {
            let missing = if records > 0 { format!(", {records} records are missing") } else { String::new() };
            let cause = format!("{cause} (until {}{missing})", format_seconds(UnixMillis(until)));
            let fix = "scaling went on; free its disk, and let only hpalite touch its files. Shown for a day";
            self.warn("database-loss", &subject, cause, fix);
        }
        if health.runs_lost >= LOST_MAX {
            let cause = format!("hpalite was killed or crashed {} times within an hour", health.runs_lost);
            let fix = "kubectl logs --previous names the place of a panic, kubectl describe pod a kill for its memory";
            self.error("restart-loop", &subject, cause, fix);
        }
    }

    fn disk(&mut self, subject: &str, disk: Disk) {
        let fix = "free or enlarge the volume; the daemon scales on, and writes again within seconds";
        if disk.is_read_only {
            self.error("database-read-only", subject, "its file system is read-only: no history is written", fix);
        } else if disk.free_bytes < FREE_MIN {
            let cause = format!("its volume has {} MB left", disk.free_bytes / 1_000_000);
            self.warn("database-disk-full", subject, cause, fix);
        }
    }
}
