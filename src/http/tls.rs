//! Server TLS: the current configuration, and the rules by which client certificates are judged.
//!
//! Owns two values that can be replaced: the whole `ServerConfig`, so that a rotation leaves no trace of the old
//! certificate, and the rules. It reads no files and watches nothing: the caller sets new values.

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
pub use crate::tls::{provider, provider_from};

/// The TLS state of a listener, shared by the gate, which reads it, and the threads that replace its parts.
#[derive(Debug)]
pub struct TlsState {
    provider: Arc<CryptoProvider>,
    // Locked only to clone or replace an Arc.
    config: RwLock<Arc<ServerConfig>>,
    client_trust: RwLock<ClientTrust>,
    /// Rises with every change of `client_trust`; a verification of a connection's client counts for one generation.
    generation: AtomicU64,
}

/// The rules by which client certificates are judged.
#[derive(Debug, Clone, Default)]
pub struct ClientTrust {
    /// None if no client can be the front proxy.
    pub front_proxy: Option<Arc<FrontProxyTrust>>,
    /// The CAs that sign the client certificates of the cluster's users; None if they are unknown.
    pub users: Option<Arc<ChainVerifier>>,
}

impl ClientTrust {
    /// Returns the user of the cluster whom a client certificate names.
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

/// Uses the hash of a cipher suite, which saves a crate.
fn sha256_hex(bytes: &[u8]) -> Option<String> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    let hash = suite.common.hash_provider.hash(bytes);
    Some(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Debug)]
pub enum TlsError {
    /// The provider does not support TLS 1.2 and 1.3, which is a bug.
    Versions(rustls::Error),
    /// The key does not match the certificate, or one of them is unusable.
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

    /// Serves new handshakes with another certificate; existing connections keep theirs.
    pub fn set_certificate(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let config = server_config(&self.provider, chain, key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Returns the configuration for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the rules for the front proxy, by which the next request of every connection is judged.
    pub fn set_front_proxy(&self, trust: Option<Arc<FrontProxyTrust>>) {
        self.change_trust(|current| current.front_proxy = trust);
    }

    /// Replaces the CA bundle of the cluster's users, with which the next request of every connection is judged.
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

    /// Returns the current rules with their generation.
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
    // Clients without ALPN are served as well; a handshake with those that speak only h2 fails.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Kube-apiservers and kubelets never resume sessions. Without tickets a handshake costs less, and no session
    // outlives the certificate that it was made with.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Requests a client certificate and accepts any, verifying only that its key signed this handshake. Requests are
/// judged later, so that a stranger gets a 401 and not a TLS alert, as from servers written in Go.
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

    /// Shakes hands in memory; returns the version that the two agree on.
    fn handshake(
        server: Arc<ServerConfig>,
        client: Arc<CryptoProvider>,
    ) -> Result<rustls::ProtocolVersion, rustls::Error> {
        let verifier = crate::tls::ServerVerifier::of_anybody(&client);
        let client = crate::tls::client_config(verifier, None)?;
        let mut client = rustls::ClientConnection::new(Arc::new(client), "hpalite".try_into().unwrap())?;
        let mut server = rustls::ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut flight = Vec::new();
            client.write_tls(&mut flight).unwrap();
            server.read_tls(&mut flight.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut flight = Vec::new();
            server.write_tls(&mut flight).unwrap();
            client.read_tls(&mut flight.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(server.protocol_version().unwrap())
    }

    #[test]
    fn the_oldest_version_that_is_spoken_can_be_chosen() {
        use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
        let pair = rcgen::generate_simple_self_signed(vec!["hpalite".into()]).unwrap();
        let server = |provider: Arc<CryptoProvider>| {
            let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
            TlsState::new(provider, vec![pair.cert.der().clone()], key).unwrap().config()
        };
        let mut old = rustls::crypto::ring::default_provider();
        old.cipher_suites.retain(|suite| suite.tls13().is_none());
        let old = Arc::new(old);
        let from = crate::tls::provider_from;
        let (any, new) = (crate::tls::Version::Tls12, crate::tls::Version::Tls13);
        assert_eq!(handshake(server(from(any)), Arc::clone(&old)), Ok(TLSv1_2));
        assert_eq!(handshake(server(from(any)), from(any)), Ok(TLSv1_3));
        assert_eq!(handshake(server(from(new)), from(any)), Ok(TLSv1_3));
        assert!(handshake(server(from(new)), Arc::clone(&old)).is_err(), "a client that is too old");
        assert!(handshake(server(Arc::clone(&old)), from(new)).is_err(), "a server that is too old");
    }

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
