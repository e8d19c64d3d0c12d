//! Checks the history's file, where the pod has it.

use std::path::Path;

use super::Doctor;
use crate::store::health::{self, Health};
use crate::store::unix_now;

/// The daemon writes at least every few minutes once there is a ScaledObject.
const SILENT_MS: i64 = 15 * 60_000;
/// A larger write-ahead log is a sign that it cannot be checkpointed.
const WAL_MAX: u64 = 64_000_000;

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
        match health::of(path) {
            Err(cause) => {
                let fix = "see sql/README.md; the daemon sets a corrupt file aside and starts a new one";
                self.error("database-unreadable", &subject, cause, fix);
            }
            Ok(Health { version, known, .. }) if version > known => {
                let cause = format!("it is of version {version}, written by a newer hpalite; this one knows {known}");
                self.error("database-newer", &subject, cause, "run the newer binary, or set the file aside");
            }
            Ok(Health { damage: Some(damage), .. }) => {
                let fix = "copy what can be saved by hpalite sql --backup; the daemon sets the file aside at its start";
                self.error("database-corrupt", &subject, damage, fix);
            }
            Ok(Health { wal_bytes, last_at, .. }) => {
                if wal_bytes > WAL_MAX {
                    let cause = format!("its write-ahead log has {} MB", wal_bytes / 1_000_000);
                    self.warn("database-wal", &subject, cause, "end long reads beside the daemon");
                }
                let silent = last_at.map(|at| unix_now().0 - at).filter(|silent| *silent > SILENT_MS);
                if let Some(silent) = silent {
                    let cause = format!("nothing was written for {} minutes", silent / 60_000);
                    self.warn(
                        "database-silent",
                        &subject,
                        cause,
                        "see that the daemon runs, and hpalite_store_… metrics",
                    );
                }
            }
        }
    }
}
