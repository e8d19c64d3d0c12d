//! Verifies client certificate chains against a bundle of CAs.
//!
//! It answers for chains only (signatures, validity, purpose); that the client holds the key was the handshake's
//! to check, and what the name in it may do is the caller's.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::der::{self, Subject};

/// A bundle of CAs, ready to verify with.
#[derive(Debug, Clone)]
pub struct ChainVerifier {
    verifier: Arc<dyn ClientCertVerifier>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum BundleError {
    Pem(String),
    Empty,
    /// A certificate that cannot be a CA's.
    Certificate(rustls::Error),
    Verifier(String),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::Pem(error) => write!(f, "cannot read certificates: {error}"),
            BundleError::Empty => f.write_str("bundle holds no certificate"),
            BundleError::Certificate(error) => {
                write!(f, "bundle holds an unusable certificate: {error}")
            }
            BundleError::Verifier(error) => write!(f, "cannot build a verifier: {error}"),
        }
    }
}

impl std::error::Error for BundleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BundleError::Certificate(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a chain is not believed.
#[derive(Debug, Clone, PartialEq)]
pub enum ChainError {
    /// There is no certificate in it.
    Empty,
    /// Unknown CA, outside its validity, not for clients, a bad signature: rustls says which.
    NotTrusted(rustls::Error),
    Subject(der::DerError),
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainError::Empty => f.write_str("no client certificate"),
            ChainError::NotTrusted(error) => write!(f, "client certificate not trusted: {error}"),
            ChainError::Subject(error) => write!(f, "client certificate unreadable: {error}"),
        }
    }
}

impl std::error::Error for ChainError {}

impl ChainVerifier {
    pub fn new(
        bundle: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ChainVerifier, BundleError> {
        if bundle.is_empty() {
            return Err(BundleError::Empty);
        }
        let mut roots = RootCertStore::empty();
        for certificate in bundle {
            roots.add(certificate).map_err(BundleError::Certificate)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| BundleError::Verifier(error.to_string()))?;
        Ok(ChainVerifier { verifier })
    }

    pub fn from_pem(pem: &str, provider: &Arc<CryptoProvider>) -> Result<ChainVerifier, BundleError> {
        ChainVerifier::new(certificates_from_pem(pem)?, provider)
    }

    /// The subject of the end entity, if the chain leads to one of our CAs, is within its validity and made for
    /// clients (or for no purpose in particular, as in Go).
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Subject, ChainError> {
        let (end_entity, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
        self.verifier.verify_client_cert(end_entity, intermediates, now).map_err(ChainError::NotTrusted)?;
        der::subject(end_entity).map_err(ChainError::Subject)
    }
}

/// All certificates of a PEM text; other sections, such as keys, are passed over.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| BundleError::Pem(error.to_string()))
}
