//! The identity under which this instance competes for the Lease.
//!
//! A process that was killed leaves the Lease in its name. A successor on the same database may reuse that name at
//! once, because it can be certain that its predecessor is gone: both lock the same file beside the database, and the
//! lock lasts as long as the process that took it, even if that process is frozen. Such a lock proves nothing about
//! other machines, so the name is valid for one boot of one machine.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use log::warn;

use crate::store::Store;

const KV: &str = "lease/identity";

/// The name, and the lock that makes it exclusive; keep it for the lifetime of the process.
pub(super) struct Identity {
    pub(super) name: String,
    _lock: Option<File>,
}

/// Returns the identity. If the name cannot be kept, the only cost is waiting for a predecessor's Lease to expire.
pub(super) fn of(store: &Store) -> Identity {
    // In a pod, the host name is the pod's name.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let lock = match lock(store.path()) {
        Ok(lock) => lock,
        Err((path, error)) => {
            warn!(path:% = path.display(), error:% = error; "no lock beside the database: a restart waits for its own lease");
            return Identity { name: format!("{host}_{}", random()), _lock: None };
        }
    };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let scope = format!("{host}/{}/", boot.trim());
    let kept = store.read_kv(KV).ok().flatten();
    let id = kept.as_deref().and_then(|kept| kept.strip_prefix(&scope)).map(str::to_owned).unwrap_or_else(|| {
        let id = random();
        if let Err(error) = store.write_kv(KV, &format!("{scope}{id}")) {
            warn!(error:% = error; "identity not kept: a restart waits for its own lease");
        }
        id
    });
    Identity { name: format!("{host}_{id}"), _lock: Some(lock) }
}

fn lock(db: &Path) -> Result<File, (PathBuf, std::io::Error)> {
    let mut path = db.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let open = || {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(std::io::Error::other("another process uses this database")),
            Err(TryLockError::Error(error)) => Err(error),
        }
    };
    open().map_err(|error| (path.clone(), error))
}

/// Returns 64 random bits in hexadecimal.
fn random() -> String {
    use std::hash::BuildHasher;
    // The standard library seeds this at random in each process; the id has to be unique, not secret.
    format!("{:016x}", std::collections::hash_map::RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Options;

    #[test]
    fn a_successor_reuses_the_name_and_a_neighbour_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hpalite.db");
        let store = Store::start(&path, Options::default()).unwrap();
        let first = of(&store);
        let neighbour = of(&store);
        assert_ne!(first.name, neighbour.name, "the first identity is still locked");
        let name = first.name.clone();
        drop(first);
        assert!(store.stop(std::time::Duration::from_secs(5)).complete);
        let store = Store::start(&path, Options::default()).unwrap();
        assert_eq!(of(&store).name, name);
        // As if the file had been moved to another machine.
        store.write_kv(KV, "elsewhere/boot/0123456789abcdef").unwrap();
        assert_ne!(of(&store).name, name);
    }
}
