//! Trust and identity for TLS with Prometheus: roots, custom CAs, client certificates.
//!
//! Owns the reading of PEM and the verification of servers. Must not put key material into an error
//! text or a log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::request::TlsMaterial;
use crate::outbound::chain;

/// Where distributions keep their bundle: Debian and Alpine, Fedora, others. The first that exists.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Trusted certificates of the process, read once and shared by all connections.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
}

impl Roots {
    /// Reads the system's bundle (`bundle` is the value of `SSL_CERT_FILE`, which replaces it) and all
    /// files in `directories`. What cannot be read is warned about and left out: a server with another
    /// CA then says so in its own error.
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

    /// How many certificates are trusted.
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

/// The TLS client for one identity; TLS 1.2 and 1.3. `Err` says which parameter is unusable and why.
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
    let webpki = if material.unsafe_ssl || store.is_empty() {
        None
    } else {
        let built = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(provider)).build();
        Some(built.map_err(|_| "the CA certificates are not usable".to_owned())?)
    };
    let verifier = Verifier { webpki, pinned: own, unsafe_ssl: material.unsafe_ssl, provider: Arc::clone(provider) };
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| "no TLS version is available".to_owned())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((cert, key)) = &material.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(cert, "cert")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| "parameter key holds no unencrypted PEM private key".to_owned())?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|_| "parameters cert and key do not belong together or are of an unsupported kind".to_owned())
}

fn certificates(pem: &str, parameter: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("parameter {parameter} holds no PEM certificate")),
    }
}

/// The usual verification, with two doors that Go's clients have as well.
#[derive(Debug)]
struct Verifier {
    /// `None` when nothing is trusted.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates of parameter `ca`: a server may present one of them as its own, even one that is
    /// marked as a CA, as `openssl req -x509` makes them.
    pinned: Vec<CertificateDer<'static>>,
    /// `unsafeSsl`: anything goes.
    unsafe_ssl: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.unsafe_ssl {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(webpki) = &self.webpki else {
            return Err(Error::General(
                "no CA certificate is known; mount a CA bundle, or give the CA as parameter ca".into(),
            ));
        };
        chain::check(end_entity, intermediates)?;
        match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // webpki checks the validity period before this, and the name after it.
            Err(Error::InvalidCertificate(CertificateError::Other(error)))
                if error.to_string().contains("CaUsedAsEndEntity")
                    && self.pinned.iter().any(|pinned| pinned == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.unsafe_ssl {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.unsafe_ssl {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(material: &TlsMaterial) -> Result<ClientConfig, String> {
        let roots = Roots { store: Arc::new(RootCertStore::empty()) };
        client(material, &roots, &Arc::new(rustls::crypto::ring::default_provider()))
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
