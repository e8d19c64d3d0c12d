//! Certificates of the TLS port: our own, kept in the database and renewed in place, or files that are re-read.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use log::{info, warn};

use crate::config::Config;
use crate::http::certificates::{OwnCertificates, ServiceNames, ServingCertificate};
use crate::http::rotation::Rotation;
use crate::http::tls::{self, TlsState};
use crate::store::{self, Store};

const KV: &str = "certificates";
/// Checking costs two small reads; the kubelet updates the files of a Secret volume within about a minute.
const LOOK_AT_FILES: Duration = Duration::from_secs(2);
/// Expiry is months away, but a step of the wall clock can bring it forward at once.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(10);

/// The serving certificate, and where its successors come from.
pub(super) struct Certificates {
    source: Source,
    pub(super) tls: Arc<TlsState>,
}

enum Source {
    Own { names: ServiceNames, rotation: Rotation, store: store::Sender },
    Files(Files),
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Hash of the file contents that are served.
    served: u64,
    /// Why the present files are not served, and whether that was logged: certificate and key are replaced one after
    /// the other, so a single check may see half of a change.
    problem: Option<(String, bool)>,
}

impl Certificates {
    /// Loads the certificates, or creates them.
    ///
    /// # Errors
    /// A message that names the file or the step.
    pub(super) fn load(config: &Config, store: &Store) -> Result<Self, String> {
        let (source, serving) = match &config.tls_files {
            Some((certificate, key)) => {
                let mut files = Files { certificate: certificate.clone(), key: key.clone(), served: 0, problem: None };
                let serving = files.read()?.ok_or("no certificate")?;
                (Source::Files(files), serving)
            }
            None => {
                let names = ServiceNames { service: config.service.0.clone(), namespace: config.service.1.clone() };
                let rotation = rotation(&names, store)?;
                let serving = rotation.current().serving().map_err(|error| error.to_string())?;
                (Source::Own { names, rotation, store: store.sender() }, serving)
            }
        };
        let tls = TlsState::new(tls::provider_from(config.tls_min), serving.chain, serving.key)
            .map_err(|error| error.to_string())?;
        Ok(Self { source, tls: Arc::new(tls) })
    }

    /// PEM of the CAs that the APIService must trust; `None` for certificates from files, whose issuer is up to the
    /// administrator.
    pub(super) fn bundle(&self) -> Option<String> {
        match &self.source {
            Source::Own { rotation, .. } => Some(rotation.bundle()),
            Source::Files(_) => None,
        }
    }

    /// How long to wait before the next [`Self::look`].
    pub(super) fn look_after(&self) -> Duration {
        match &self.source {
            Source::Own { .. } => LOOK_AT_CLOCK,
            Source::Files(_) => LOOK_AT_FILES,
        }
    }

    /// Renews or rereads what is due. `trusted_for` is since when the APIService has [`Self::bundle`].
    #[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
    pub(super) fn look(&mut self, trusted_for: Option<Duration>) {
        match &mut self.source {
            Source::Own { names, rotation, store } => {
                let before = rotation.clone();
                match rotation.advance(names, SystemTime::now(), trusted_for) {
                    Ok(changes) if changes.any() => {
                        // Stored first: after a restart, an unsaved certificate would be replaced by one that no client
                        // trusts yet.
                        if let Err(error) = store.write_kv(KV, &rotation.to_json()) {
                            warn!(error:% = error; "renewed certificates cannot be kept, will try again");
                            *rotation = before;
                        } else if changes.serving {
                            serve_own(&self.tls, rotation.current());
                        }
                    }
                    Ok(_) => {}
                    Err(error) => warn!(error:% = error; "certificates cannot be renewed, will try again"),
                }
            }
            Source::Files(files) => files.follow(&self.tls),
        }
    }
}

fn serve_own(tls: &TlsState, own: &OwnCertificates) {
    let served = own.serving().map_err(|error| error.to_string()).and_then(|serving| {
        let until = serving.not_after_unix_s;
        tls.set_certificate(serving.chain, serving.key).map_err(|error| error.to_string())?;
        Ok(until)
    });
    match served {
        Ok(until) => info!(until = crate::logfmt::iso(until.saturating_mul(1000)); "serving certificate renewed"),
        Err(error) => warn!(error = error; "renewed certificate cannot be served"),
    }
}

/// Loads the certificates from the database, or creates them.
#[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
fn rotation(names: &ServiceNames, store: &Store) -> Result<Rotation, String> {
    // Treats unreadable certificates as absent, since they can be recreated.
    let kept = store.read_kv(KV).ok().flatten().and_then(|text| Rotation::from_json(&text));
    let made = match kept {
        Some(mut kept) if kept.current().serving().is_ok() => {
            let changes = kept.advance(names, SystemTime::now(), None).map_err(|error| error.to_string())?;
            if !changes.any() {
                return Ok(kept);
            }
            kept
        }
        _ => Rotation::generate(names, SystemTime::now()).map_err(|error| error.to_string())?,
    };
    info!(service = names.service, namespace = names.namespace; "made a certificate");
    if let Err(error) = store.write_kv(KV, &made.to_json()) {
        warn!(error:% = error; "certificates not kept, the next start makes others");
    }
    Ok(made)
}

impl Files {
    fn follow(&mut self, tls: &TlsState) {
        let read = self.read().and_then(|serving| {
            let Some(serving) = serving else { return Ok(false) };
            tls.set_certificate(serving.chain, serving.key).map_err(|error| error.to_string()).map(|()| true)
        });
        match read {
            Ok(true) => info!(file:% = self.certificate.display(); "serving certificate reloaded"),
            Ok(false) => {}
            Err(error) => {
                // The files differ from what is served, so even a return to that has to be read again.
                self.served = 0;
                let seen = self.problem.take().filter(|(seen, _)| *seen == error);
                if let Some((_, false)) = seen {
                    let (certificate, key) = (self.certificate.display(), self.key.display());
                    warn!(certificate:%, key:%, error = error; "new certificate is unusable, the old one is served on");
                }
                self.problem = Some((error, seen.is_some()));
                return;
            }
        }
        self.problem = None;
    }

    /// Returns `None` if nothing has changed since the last call.
    fn read(&mut self) -> Result<Option<ServingCertificate>, String> {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        let contents = (read(&self.certificate)?, read(&self.key)?);
        let mut hasher = DefaultHasher::new();
        contents.hash(&mut hasher);
        // Zero is reserved for "nothing served".
        let hash = hasher.finish() | 1;
        if hash == self.served {
            return Ok(None);
        }
        let serving = ServingCertificate::from_pem(&contents.0, &contents.1).map_err(|error| error.to_string())?;
        self.served = hash;
        Ok(Some(serving))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::certificates::OwnCertificates;

    fn write(folder: &std::path::Path, own: &OwnCertificates) {
        std::fs::write(folder.join("crt"), &own.serving_pem).unwrap();
        std::fs::write(folder.join("key"), &own.serving_key_pem).unwrap();
    }

    #[test]
    fn files_are_reloaded_and_a_broken_pair_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let names = ServiceNames { service: "s".to_owned(), namespace: "n".to_owned() };
        let made = || OwnCertificates::generate(&names, SystemTime::now()).unwrap();
        let (first, second) = (made(), made());
        write(folder.path(), &first);
        let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
        let mut files = Files { certificate, key: key.clone(), served: 0, problem: None };
        let serving = files.read().unwrap().unwrap();
        let tls = TlsState::new(tls::provider(), serving.chain, serving.key).unwrap();
        let mut config = tls.config();
        let mut swaps = |files: &mut Files| {
            files.follow(&tls);
            let now = tls.config();
            !Arc::ptr_eq(&now, &std::mem::replace(&mut config, now.clone()))
        };
        assert!(!swaps(&mut files), "nothing has changed");
        // Only one of the two files has been replaced: the key does not match the certificate.
        std::fs::write(folder.path().join("crt"), &second.serving_pem).unwrap();
        assert!(!swaps(&mut files));
        assert!(
            matches!(&files.problem, Some((text, false)) if text.contains("serving certificate")),
            "{:?}",
            files.problem
        );
        assert!(!swaps(&mut files));
        assert!(matches!(files.problem, Some((_, true))), "logged at the second check");
        std::fs::write(&key, &second.serving_key_pem).unwrap();
        assert!(swaps(&mut files));
        assert!(files.problem.is_none() && !swaps(&mut files));
        std::fs::remove_file(&key).unwrap();
        assert!(!swaps(&mut files));
        // The files return to what is served, and are read again nevertheless.
        write(folder.path(), &second);
        assert!(swaps(&mut files));
    }
}
