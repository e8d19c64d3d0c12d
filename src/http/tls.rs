//! Server TLS: the configuration in force, and whom its client certificates are trusted to be.
//!
//! Owns two swappable values, the whole `ServerConfig` (so that nothing of an old certificate survives a rotation)
//! and the front proxy's rules. It reads no files and watches nothing: the caller hands new values in.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use super::front_proxy::FrontProxyTrust;

/// The one crypto provider of the process; passed on explicitly, never installed.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a TLS listener needs; shared by the gate, which reads, and whoever rotates, who writes.
#[derive(Debug)]
pub struct TlsState {
    provider: Arc<CryptoProvider>,
    // Locked to clone or swap an Arc, never longer.
    config: RwLock<Arc<ServerConfig>>,
    front_proxy: RwLock<Option<Arc<FrontProxyTrust>>>,
    /// Rises with every change of `front_proxy`; a connection's verdict is good for one generation.
    generation: AtomicU64,
}

#[derive(Debug)]
pub enum TlsError {
    /// The provider cannot do TLS 1.2 and 1.3, which is a mistake of ours.
    Versions(rustls::Error),
    /// The key does not fit the certificate, or one of them is unusable.
    Certificate(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Versions(error) => write!(f, "cannot set tls versions: {error}"),
            TlsError::Certificate(error) => write!(f, "cannot use serving certificate: {error}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::Versions(error) | TlsError::Certificate(error) => Some(error),
        }
    }
}

impl TlsState {
    pub fn new(
        provider: Arc<CryptoProvider>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<TlsState, TlsError> {
        let config = RwLock::new(server_config(&provider, chain, key)?);
        Ok(TlsState { provider, config, front_proxy: RwLock::new(None), generation: AtomicU64::new(0) })
    }

    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Serves new handshakes with another certificate; connections that stand keep theirs.
    pub fn set_certificate(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let config = server_config(&self.provider, chain, key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// The configuration for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the front proxy's rules; the next request of every connection is judged by them.
    pub fn set_front_proxy(&self, trust: Option<Arc<FrontProxyTrust>>) {
        let mut current = self.front_proxy.write().unwrap_or_else(PoisonError::into_inner);
        *current = trust;
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The rules in force and their generation, read together.
    pub fn front_proxy(&self) -> (u64, Option<Arc<FrontProxyTrust>>) {
        let current = self.front_proxy.read().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), current.clone())
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = Arc::new(AnyCertificate { algorithms: provider.signature_verification_algorithms });
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Versions)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Certificate)?;
    // Clients without ALPN are served as well; ones that know only h2 are told so in the handshake.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Kube-apiservers and kubelets never resume. Without tickets a handshake costs less, and no session outlives
    // the certificate it was made with.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Asks for a client certificate and takes any, checking that its key signed this handshake. Who it belongs to is
/// judged per request, so that a stranger gets a 401 and not a TLS alert, as from servers written in Go.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }
}
