//! Trust and identity for TLS with Prometheus: roots, custom CAs, client certificates.
//!
//! Owns the reading of what users give as PEM; [`crate::tls`] verifies. Must not put key material into an error text or
//! a log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::request::TlsMaterial;
use crate::tls::{self, ServerVerifier};

/// Paths of the system's bundle on Debian and Alpine, Fedora, and others. The first that exists is used.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Trusted certificates of the process, read once and shared by all connections.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
}

impl Roots {
    /// Reads the system's bundle (`bundle` is the value of `SSL_CERT_FILE`, which replaces it) and all files in
    /// `directories`. Logs a warning for unreadable ones and leaves them out: queries of a server with such a CA then
    /// fail with an error that names it.
    #[must_use]
    pub fn load(bundle: Option<&Path>, directories: &[PathBuf]) -> Self {
        let mut store = RootCertStore::empty();
        let system = bundle.or_else(|| BUNDLES.iter().map(Path::new).find(|path| path.exists()));
        if let Some(path) = system {
            read_into(path, &mut store);
        }
        for directory in directories {
            let mut files: Vec<PathBuf> = match fs::read_dir(directory) {
                Ok(entries) => {
                    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect()
                }
                Err(error) => {
                    warn!(path:% = directory.display(), error:%; "CA directory unreadable");
                    continue;
                }
            };
            files.sort();
            for path in files {
                read_into(&path, &mut store);
            }
        }
        Self { store: Arc::new(store) }
    }

    /// Returns the number of trusted certificates.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }
}

fn read_into(path: &Path, store: &mut RootCertStore) {
    match fs::read(path) {
        Ok(bytes) => {
            // One damaged certificate in a bundle must not cost the others.
            let (added, _) =
                store.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok));
            if added == 0 {
                warn!(path:% = path.display(); "CA file holds no certificate");
            }
        }
        Err(error) => warn!(path:% = path.display(), error:%; "CA file unreadable"),
    }
}

/// Returns the TLS settings for one identity, for TLS 1.2 and 1.3.
///
/// # Errors
/// A text that names the unusable parameter and the reason.
pub(super) fn client(
    material: &TlsMaterial,
    roots: &Roots,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, String> {
    let own = match &material.ca {
        Some(pem) => certificates(pem, "ca")?,
        None => Vec::new(),
    };
    let mut store = Arc::clone(&roots.store);
    if !own.is_empty() {
        let (added, _) = Arc::make_mut(&mut store).add_parsable_certificates(own.iter().cloned());
        if added == 0 {
            return Err("parameter ca holds no usable certificate".to_owned());
        }
    }
    let verifier = if material.unsafe_ssl {
        ServerVerifier::of_anybody(provider)
    } else {
        ServerVerifier::new(store, own, provider).map_err(|_| "the CA certificates are not usable".to_owned())?
    };
    let identity = match &material.client {
        None => None,
        Some((cert, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
            let key = key.map_err(|_| "parameter key holds no unencrypted PEM private key".to_owned())?;
            Some((certificates(cert, "cert")?, key))
        }
    };
    tls::client_config(verifier, identity)
        .map_err(|_| "parameters cert and key do not belong together or are of an unsupported kind".to_owned())
}

fn certificates(pem: &str, parameter: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    tls::certificates(pem.as_bytes()).map_err(|_| format!("parameter {parameter} holds no PEM certificate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(material: &TlsMaterial) -> Result<ClientConfig, String> {
        let roots = Roots { store: Arc::new(RootCertStore::empty()) };
        client(material, &roots, &crate::tls::provider())
    }

    #[test]
    fn unusable_parameters_are_named() {
        let pair = rcgen::generate_simple_self_signed(vec!["p".into()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let with =
            |cert: &str, key: &str| TlsMaterial { client: Some((cert.into(), key.into())), ..TlsMaterial::default() };
        assert!(client_of(&with(&cert, &key)).is_ok());
        let rows = [
            (TlsMaterial { ca: Some("x".into()), ..TlsMaterial::default() }, "ca"),
            (with("x", &key), "cert"),
            (with(&cert, "x"), "key"),
            (with(&cert, &other.serialize_pem()), "do not belong together"),
        ];
        for (material, words) in rows {
            let error = client_of(&material).err().unwrap();
            assert!(error.contains(words) && !error.contains("BEGIN"), "{error}");
        }
    }

    #[test]
    fn roots_from_bundle_and_directories() {
        let folder = tempfile::tempdir().unwrap();
        let pem = rcgen::generate_simple_self_signed(vec!["p".into()]).unwrap().cert.pem();
        let bundle = folder.path().join("bundle.pem");
        fs::write(&bundle, format!("{pem}\n{pem}")).unwrap();
        let extra = folder.path().join("ca");
        fs::create_dir(&extra).unwrap();
        fs::write(extra.join("a.crt"), &pem).unwrap();
        fs::write(extra.join("README"), "nothing").unwrap();
        assert_eq!(Roots::load(Some(&bundle), &[extra, folder.path().join("absent")]).len(), 3);
    }
}
