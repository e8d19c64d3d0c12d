//! TLS to the API server: trust roots and the client certificate; [`crate::outbound::tls`] connects.
//!
//! Must not read files (`config` passes bytes) or change rustls' process-wide defaults.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::tls::{self, ServerVerifier, certificates, provider};

/// Which server certificates to trust.
pub(super) enum Roots {
    Store(RootCertStore),
    /// `insecure-skip-tls-verify`: anybody.
    Anybody,
}

/// A certificate chain, leaf first, with its private key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn read_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for (at, certificate) in certificates(pem)?.into_iter().enumerate() {
        store.add(certificate).map_err(|error| format!("certificate {} is not usable: {error}", at + 1))?;
    }
    Ok(store)
}

/// Reads a system bundle, which often has some unusable certificates among hundreds.
pub(super) fn read_system_roots(pem: &[u8]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    store
}

pub(super) fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    if ENCRYPTED.iter().any(|mark| contains(pem, mark)) {
        return Err("is encrypted; store it decrypted (openssl pkey)".to_owned());
    }
    // The PEM reader's error may quote a line of the key.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "holds no private key in pem".to_owned())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Builds the handshake settings. Fails if the key does not match the certificate.
pub(super) fn client_config(roots: Roots, identity: Option<Identity>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider();
    let verifier = match roots {
        Roots::Store(store) => ServerVerifier::new(Arc::new(store), Vec::new(), &provider)?,
        Roots::Anybody => ServerVerifier::of_anybody(&provider),
    };
    let mut config = tls::client_config(verifier, identity)?;
    // Stated explicitly, so that no server or proxy tries HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
