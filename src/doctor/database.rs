//! Checks the history's file, where the pod has it.

use std::path::Path;

use super::{Doctor, Finding, Severity};
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
        self.report.findings.extend(findings(&subject, health::disk(path), health::of(path)));
    }
}

fn findings(subject: &str, disk: Option<Disk>, found: Result<Health, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity: Severity, id: &'static str, cause: String, fix: &str| {
        let (subject, fix) = (subject.to_owned(), fix.to_owned());
        findings.push(Finding { id, severity, subject, cause, fix, about: Vec::new() });
    };
    let free_it = "free or enlarge the volume; the daemon scales on, and writes again within seconds";
    let disk_is_bad = match disk {
        Some(Disk { is_read_only: true, .. }) => {
            let cause = "its file system is read-only: no history is written".to_owned();
            add(Severity::Error, "database-read-only", cause, free_it);
            true
        }
        Some(Disk { free_bytes, .. }) if free_bytes < FREE_MIN => {
            let cause = format!("its volume has {} MB left", free_bytes / 1_000_000);
            add(Severity::Warning, "database-disk-full", cause, free_it);
            true
        }
        _ => false,
    };
    let Health { version, known, damage, wal_bytes, last_at, runs_lost, loss } = match found {
        Ok(health) => health,
        // Without the daemon, SQLite reads a file only where it can make one beside it.
        Err(_) if disk_is_bad => return findings,
        Err(cause) => {
            let fix = "see sql/README.md; the daemon sets a corrupt file aside and starts a new one";
            add(Severity::Error, "database-unreadable", cause, fix);
            return findings;
        }
    };
    if version > known {
        let cause = format!("it is of version {version}, written by a newer hpalite; this one knows {known}");
        add(Severity::Error, "database-newer", cause, "run the newer binary, or set the file aside");
        return findings;
    }
    if let Some(damage) = damage {
        let fix = "copy what can be saved by hpalite sql --backup; the daemon sets the file aside at its start";
        add(Severity::Error, "database-corrupt", damage, fix);
        return findings;
    }
    if wal_bytes > WAL_MAX {
        let cause = format!("its write-ahead log has {} MB", wal_bytes / 1_000_000);
        add(Severity::Warning, "database-wal", cause, "end long reads beside the daemon");
    }
    if let Some(silent) = last_at.map(|at| unix_now().0 - at).filter(|silent| *silent > SILENT_MS) {
        let cause = format!("nothing was written for {} minutes", silent / 60_000);
        let fix = "see that the daemon runs, and hpalite_store_… metrics";
        add(Severity::Warning, "database-silent", cause, fix);
    }
    if let Some(Loss { until, records, cause }) = loss {
        let missing = if records > 0 { format!(", {records} records are missing") } else { String::new() };
        let cause = format!("{cause} (until {}{missing})", format_seconds(UnixMillis(until)));
        let fix = "scaling went on; free its disk, and let only hpalite touch its files. Shown for a day";
        add(Severity::Warning, "database-loss", cause, fix);
    }
    if runs_lost >= LOST_MAX {
        let cause = format!("hpalite was killed or crashed {runs_lost} times within an hour");
        let fix = "kubectl logs --previous names the place of a panic, kubectl describe pod a kill for its memory";
        add(Severity::Error, "restart-loop", cause, fix);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: of a file that SQLite could not open on such a disk, only that was reported, as of one that is corrupt.
    #[test]
    fn a_disk_that_cannot_be_written_is_the_cause_whether_the_file_can_be_read_or_not() {
        let readable =
            || Ok(Health { version: 1, known: 1, damage: None, wal_bytes: 0, last_at: None, runs_lost: 0, loss: None });
        let unreadable = || Err("unable to open database file".to_owned());
        let found = |free_bytes, is_read_only, health| {
            let found = findings("/data/history.db", Some(Disk { free_bytes, is_read_only }), health);
            found.into_iter().map(|finding| (finding.id, finding.severity, finding.cause)).collect::<Vec<_>>()
        };
        for health in [readable, unreadable] {
            let read_only =
                ("database-read-only", Severity::Error, "its file system is read-only: no history is written");
            let full = ("database-disk-full", Severity::Warning, "its volume has 2 MB left");
            for (free_bytes, is_read_only, (id, severity, cause)) in
                [(2 << 30, true, read_only), (0, true, read_only), (2 << 20, false, full)]
            {
                assert_eq!(
                    found(free_bytes, is_read_only, health()),
                    [(id, severity, cause.to_owned())],
                    "{:?}",
                    health()
                );
            }
        }
        assert_eq!(found(FREE_MIN, false, readable()), []);
        let file = ("database-unreadable", Severity::Error, "unable to open database file".to_owned());
        assert_eq!(found(FREE_MIN, false, unreadable()), std::slice::from_ref(&file));
        let unknown = findings("/data/history.db", None, unreadable());
        assert_eq!(unknown.iter().map(|finding| finding.id).collect::<Vec<_>>(), [file.0]);
    }

    /// The file system is asked about a file that exists.
    #[cfg(unix)]
    #[test]
    fn the_disk_of_a_file_is_examined() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(health::disk(folder.path()).is_some_and(|disk| !disk.is_read_only && disk.free_bytes > 0));
        assert_eq!(health::disk(&folder.path().join("missing")), None);
    }
}
