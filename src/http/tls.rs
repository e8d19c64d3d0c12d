//! Server TLS: the configuration in force, and whom its client certificates are trusted to be.
//!
//! Owns two swappable values, the whole `ServerConfig` (so that nothing of an old certificate survives a rotation)
//! and the rules by which client certificates are verified. It reads no files and watches nothing: the caller hands new
//! values in.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use super::chain::ChainVerifier;
use super::der::Subject;
use super::front_proxy::FrontProxyTrust;
use super::{HolderError, User};
pub use crate::tls::provider;

/// What a TLS listener needs; shared by the gate, which reads, and whoever rotates, who writes.
#[derive(Debug)]
pub struct TlsState {
    provider: Arc<CryptoProvider>,
    // Locked to clone or swap an Arc, never longer.
    config: RwLock<Arc<ServerConfig>>,
    client_trust: RwLock<ClientTrust>,
    /// Rises with every change of `client_trust`; a verification of a connection's client counts for one generation.
    generation: AtomicU64,
}

/// What client certificates are verified by.
#[derive(Debug, Clone, Default)]
pub struct ClientTrust {
    /// None: nobody is the front proxy.
    pub front_proxy: Option<Arc<FrontProxyTrust>>,
    /// Who signs the client certificates of the cluster's users; None where that is not known.
    pub users: Option<Arc<ChainVerifier>>,
}

impl ClientTrust {
    /// The holder of a client certificate of one of the cluster's users.
    pub fn holder(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<User, HolderError> {
        let ca = self.users.as_ref().ok_or(HolderError::NoClientCa)?;
        let Subject { common_name, organisations } = ca.verify(chain, now).map_err(HolderError::Chain)?;
        if common_name.is_empty() {
            return Err(HolderError::NoCommonName);
        }
        let mut user = User { name: common_name, groups: organisations, ..User::default() };
        if let Some(id) = chain.first().and_then(|certificate| sha256_hex(certificate)) {
            let key = "authentication.kubernetes.io/credential-id".to_owned();
            user.extra.insert(key, vec![format!("X509SHA256={id}")]);
        }
        Ok(user)
    }
}

/// Uses the hash function of a cipher suite, which saves a crate.
fn sha256_hex(bytes: &[u8]) -> Option<String> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    let hash = suite.common.hash_provider.hash(bytes);
    Some(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
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
        Ok(TlsState { provider, config, client_trust: RwLock::default(), generation: AtomicU64::new(0) })
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
        self.change_trust(|current| current.front_proxy = trust);
    }

    /// Replaces the CA bundle of the cluster's users; the next request of every connection is judged by it.
    pub fn set_client_ca(&self, ca: Option<Arc<ChainVerifier>>) {
        self.change_trust(|current| current.users = ca);
    }

    fn change_trust(&self, change: impl FnOnce(&mut ClientTrust)) {
        let mut current = self.client_trust.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut current);
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The rules in force and their generation, read together.
    pub fn client_trust(&self) -> (u64, ClientTrust) {
        let current = self.client_trust.read().unwrap_or_else(PoisonError::into_inner);
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
    // Clients without ALPN are served as well; ones that know only h2 are refused in the handshake.
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    #[test]
    fn holders_carry_the_id_of_their_certificate() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let signed = |names: &[(DnType, &str)]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in names {
                params.distinguished_name.push(kind.clone(), *value);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            [params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()]
        };
        let alice = signed(&[(DnType::OrganizationName, "devs"), (DnType::CommonName, "alice")]);
        let mut trust = ClientTrust::default();
        assert_eq!(trust.holder(&alice, UnixTime::now()), Err(HolderError::NoClientCa));
        trust.users = Some(Arc::new(ChainVerifier::new(vec![ca], &provider()).unwrap()));
        let user = trust.holder(&alice, UnixTime::now()).unwrap();
        assert_eq!((user.name.as_str(), user.groups), ("alice", vec!["devs".to_owned()]));
        let id = &user.extra["authentication.kubernetes.io/credential-id"][0];
        assert_eq!(id.len(), "X509SHA256=".len() + 64);
        let nobody = signed(&[(DnType::OrganizationName, "devs")]);
        assert_eq!(trust.holder(&nobody, UnixTime::now()), Err(HolderError::NoCommonName));
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b"").as_deref(), Some(empty));
    }
}
