//! What TLS clients and servers share: the crypto provider, PEM, the bounds of certificate chains, and the verifier of
//! servers.
//!
//! The sender of a chain decides how much work it causes. The search for a path tries every order of certificates that
//! bear the same name, and the TLS library bounds neither their number nor the search in a useful way: 240
//! look-alikes take four seconds of CPU, which no time limit interrupts. So a chain is measured before it is parsed.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// A version of TLS, as the oldest that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Tls12,
    Tls13,
}

/// The only crypto provider of the process; passed explicitly, never installed as the default.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    provider_from(Version::Tls12)
}

/// The provider for connections that speak this version or a later one: a version without cipher suites is neither offered
/// nor accepted.
#[must_use]
pub fn provider_from(min: Version) -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| min == Version::Tls12 || suite.tls13().is_some());
    Arc::new(provider)
}

/// What is wrong with a text that should be PEM. The library lists the bytes of a whole line as numbers.
pub(crate) fn pem_error(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line does not end with five dashes".to_owned(),
        other => other.to_string(),
    }
}

/// Reads every certificate of a PEM text.
///
/// # Errors
/// If one is unreadable, or there is none.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates.map_err(|error| format!("not pem: {}", pem_error(&error)))? {
        certificates if certificates.is_empty() => Err("holds no certificate in pem".to_owned()),
        certificates => Ok(certificates),
    }
}

/// The bounds of a chain, including the peer's own certificate.
#[derive(Debug)]
pub(crate) struct ChainBounds {
    pub(crate) certificates: usize,
    /// Bytes of all certificates.
    pub(crate) bytes: usize,
}

/// Public servers send one to three certificates beside their own; some add a root or a cross-signed one. A certificate
/// has one or two kilobytes, and a hundred names in it add a few.
const SERVER_CHAIN: ChainBounds = ChainBounds { certificates: 7, bytes: 48 << 10 };

impl ChainBounds {
    /// Returns whether a chain may be parsed.
    pub(crate) fn allow<'c, 'd: 'c>(&self, mut chain: impl Iterator<Item = &'c CertificateDer<'d>> + Clone) -> bool {
        chain.clone().count() <= self.certificates
            && chain.try_fold(self.bytes, |left, certificate| left.checked_sub(certificate.len())).is_some()
    }
}

/// Settings of a client, for TLS 1.2 and 1.3.
///
/// # Errors
/// If the key does not match the certificate, or one of them is of an unsupported kind.
#[expect(clippy::disallowed_methods, reason = "its verifier bounds the chain")]
pub fn client_config(
    verifier: ServerVerifier,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// The usual verification of servers, with two exceptions that Go's clients have as well.
#[derive(Debug)]
pub struct ServerVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trust {
    Anybody,
    /// No root is known.
    Nobody,
    Roots {
        webpki: Arc<WebPkiServerVerifier>,
        /// A server may present one of these as its own, even one that is marked as a CA, as `openssl req -x509` makes
        /// them.
        pinned: Vec<CertificateDer<'static>>,
    },
}

impl ServerVerifier {
    /// Trusts servers whose chain leads to one of the roots, or whose certificate is pinned.
    ///
    /// # Errors
    /// If no verifier can be built from the roots.
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        pinned: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let trust = if roots.is_empty() {
            Trust::Nobody
        } else {
            let webpki = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
            Trust::Roots { webpki: webpki.map_err(|error| Error::General(error.to_string()))?, pinned }
        };
        Ok(Self { trust, provider: Arc::clone(provider) })
    }

    /// Trusts any server, for users who ask for that. Not even its signature is checked: an attacker in between could
    /// sign with another key, and some old certificates cannot be parsed for the check.
    #[must_use]
    pub fn of_anybody(provider: &Arc<CryptoProvider>) -> Self {
        Self { trust: Trust::Anybody, provider: Arc::clone(provider) }
    }

    fn is_of_anybody(&self) -> bool {
        matches!(self.trust, Trust::Anybody)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (webpki, pinned) = match &self.trust {
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
            Trust::Nobody => {
                let what = "no CA certificate is known; mount a CA bundle, or give the CA as parameter ca";
                return Err(Error::General(what.to_owned()));
            }
            Trust::Roots { webpki, pinned } => (webpki, pinned),
        };
        let ChainBounds { certificates, bytes } = SERVER_CHAIN;
        if !SERVER_CHAIN.allow(std::iter::once(end_entity).chain(intermediates)) {
            let what = format!("it presents more than {certificates} certificates, or more than {} KiB", bytes >> 10);
            return Err(Error::General(what));
        }
        match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // webpki checks the validity period before this, and the name after it.
            Err(Error::InvalidCertificate(CertificateError::Other(error)))
                if error.to_string().contains("CaUsedAsEndEntity") && pinned.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.is_of_anybody() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.is_of_anybody() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
