//! Verifies client certificate chains against a bundle of CAs.
//!
//! It checks chains only (signatures, validity, purpose). The handshake has proved that the client holds the key, and
//! the caller decides what the name in the certificate may do.
//!
//! Chains are bounded before anything of them is read ([`crate::tls`] says why), and each CA of the bundle is tried by
//! itself, so that an expired one can be passed over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::der::{self, Subject};
use crate::tls::{ChainBounds, pem_error};

/// A front proxy's chain has its own certificate and at most two intermediates; four allow 16 paths to a CA. A certificate
/// may take 4 KB, where one with an RSA key of 4,096 bits has 2 KB.
pub(super) const CLIENT_CHAIN: ChainBounds = ChainBounds { certificates: 4, bytes: 16 << 10 };

/// CAs in a bundle. The API server's own bundles have one, and two during a rotation; a search with four certificates
/// and 64 CAs takes some milliseconds.
pub const BUNDLE_MAX: usize = 64;

/// A bundle of CAs, ready to verify with.
#[derive(Debug, Clone)]
pub struct ChainVerifier {
    authorities: Arc<[Authority]>,
}

/// One CA. rustls ignores the validity of a trust anchor, so it is checked here.
#[derive(Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// The first and last second of its validity, in Unix time.
    validity: (i64, i64),
}

#[derive(Debug, Clone, PartialEq)]
pub enum BundleError {
    Pem(String),
    Empty,
    /// More than [`BUNDLE_MAX`], with the number found.
    TooMany(usize),
    /// A certificate that cannot be that of a CA.
    Certificate(rustls::Error),
    Validity(der::DerError),
    Verifier(String),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::Pem(error) => write!(f, "cannot read certificates: {error}"),
            BundleError::Empty => f.write_str("bundle holds no certificate"),
            BundleError::TooMany(count) => {
                write!(f, "bundle holds {count} certificates, more than {BUNDLE_MAX}")
            }
            BundleError::Certificate(error) => {
                write!(f, "bundle holds an unusable certificate: {error}")
            }
            BundleError::Validity(error) => {
                write!(f, "bundle holds an unusable certificate: validity: {error}")
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

/// Why a chain is not trusted.
#[derive(Debug, Clone, PartialEq)]
pub enum ChainError {
    /// It has no certificate.
    Empty,
    /// More than [`CLIENT_CHAIN`] allows: nothing of it was read.
    TooLong,
    /// No CA of the bundle is within its validity.
    AuthorityExpired,
    /// Unknown CA, outside its validity, not for clients, or a bad signature: the error of rustls says which.
    NotTrusted(rustls::Error),
    Subject(der::DerError),
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainError::Empty => f.write_str("no client certificate"),
            ChainError::TooLong => f.write_str("client certificate not trusted: its chain is too long"),
            ChainError::AuthorityExpired => {
                f.write_str("client certificate not trusted: every ca that could have signed it is expired")
            }
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
        if bundle.len() > BUNDLE_MAX {
            return Err(BundleError::TooMany(bundle.len()));
        }
        let authorities = bundle.into_iter().map(|certificate| Authority::new(certificate, provider));
        Ok(ChainVerifier { authorities: authorities.collect::<Result<_, _>>()? })
    }

    pub fn from_pem(pem: &str, provider: &Arc<CryptoProvider>) -> Result<ChainVerifier, BundleError> {
        ChainVerifier::new(certificates_from_pem(pem)?, provider)
    }

    /// Returns the subject of the end entity, if the chain leads to one of the CAs, is within its validity and is made
    /// for clients (or for no particular purpose, as in Go). The CA must be within its validity as well.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Subject, ChainError> {
        let (end_entity, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
        if !CLIENT_CHAIN.allow(chain.iter()) {
            return Err(ChainError::TooLong);
        }
        let mut failed = None;
        for authority in self.authorities.iter().filter(|authority| authority.is_valid(now)) {
            match authority.verifier.verify_client_cert(end_entity, intermediates, now) {
                Ok(_) => return der::subject(end_entity).map_err(ChainError::Subject),
                // The error of the CA that issued the chain says more than that another CA did not issue it.
                Err(error) if failed.is_none() || !is_unknown_issuer(&error) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.map_or(ChainError::AuthorityExpired, ChainError::NotTrusted))
    }

    /// Returns when the verdict on this chain can change by time alone: the next second at which the validity of one of
    /// its certificates or of a CA begins or ends. None if there is no such time.
    pub fn holds_until(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<UnixTime> {
        let now = unix_seconds(now);
        let sent = chain.iter().take(CLIENT_CHAIN.certificates).filter_map(|sent| der::validity(sent).ok());
        let changes = sent.chain(self.authorities.iter().map(|authority| authority.validity));
        let changes = changes.flat_map(|(first, last)| [first, last.saturating_add(1)]);
        let next = changes.filter(|at| *at > now).min()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(next).unwrap_or(0))))
    }

    /// Returns true if some CA is in both bundles, however their PEM texts differ.
    pub fn shares_authority(&self, other: &ChainVerifier) -> bool {
        self.authorities
            .iter()
            .any(|ours| other.authorities.iter().any(|theirs| ours.certificate == theirs.certificate))
    }

    /// Returns true if no CA of the bundle is within its validity, so that no chain can be verified.
    pub fn is_expired(&self, now: UnixTime) -> bool {
        !self.authorities.iter().any(|authority| authority.is_valid(now))
    }
}

impl Authority {
    fn new(certificate: CertificateDer<'static>, provider: &Arc<CryptoProvider>) -> Result<Authority, BundleError> {
        let mut root = RootCertStore::empty();
        root.add(certificate.clone()).map_err(BundleError::Certificate)?;
        let validity = der::validity(&certificate).map_err(BundleError::Validity)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(root), Arc::clone(provider))
            .build()
            .map_err(|error| BundleError::Verifier(error.to_string()))?;
        Ok(Authority { certificate, verifier, validity })
    }

    fn is_valid(&self, now: UnixTime) -> bool {
        (self.validity.0..=self.validity.1).contains(&unix_seconds(now))
    }
}

fn unix_seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn is_unknown_issuer(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
}

/// Reads all certificates of a PEM text; other sections, such as keys, are ignored.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| BundleError::Pem(pem_error(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tls;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use std::time::{Instant, SystemTime};

    fn authority(adjust: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        (certificate, Issuer::new(params, key))
    }

    fn client(
        issuer: &Issuer<'static, KeyPair>,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        adjust(&mut params);
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    fn verifier(bundle: &[&CertificateDer<'static>]) -> ChainVerifier {
        ChainVerifier::new(bundle.iter().map(|der| (*der).clone()).collect(), &tls::provider()).unwrap()
    }

    fn in_seconds(seconds: i64) -> SystemTime {
        let moved = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { SystemTime::now() - moved } else { SystemTime::now() + moved }
    }

    #[test]
    fn a_long_chain_is_refused_unread() {
        let (root, issuer) = authority(|_| {});
        let leaf = client(&issuer, |_| {});
        let verifier = verifier(&[&root]);
        let now = UnixTime::now();
        let with = |count: usize| {
            let look_alikes = (0..count).map(|_| authority(|_| {}).0);
            std::iter::once(leaf.clone()).chain(look_alikes).collect::<Vec<_>>()
        };
        assert!(verifier.verify(&with(CLIENT_CHAIN.certificates - 1), now).is_ok());
        let long = with(CLIENT_CHAIN.certificates);
        assert_eq!(verifier.verify(&long, now).unwrap_err(), ChainError::TooLong);
        let fat = client(&issuer, |params| {
            params.distinguished_name.push(DnType::OrganizationName, "x".repeat(CLIENT_CHAIN.bytes));
        });
        assert_eq!(verifier.verify(&[fat], now).unwrap_err(), ChainError::TooLong);
        assert_eq!(verifier.verify(&[], now).unwrap_err(), ChainError::Empty);
    }

    #[test]
    fn the_worst_chain_that_is_read_costs_milliseconds() {
        let (root, _) = authority(|_| {});
        let verifier = verifier(&vec![&root; BUNDLE_MAX]);
        let started = Instant::now();
        for name in ["authority", "another"] {
            // By its name each certificate could have signed each other one, and with the CA's name the CA all of them.
            let look_alike = || authority(|params| params.distinguished_name.push(DnType::CommonName, name)).0;
            let chain: Vec<_> = (0..CLIENT_CHAIN.certificates).map(|_| look_alike()).collect();
            assert!(verifier.verify(&chain, UnixTime::now()).is_err());
        }
        // Measured against the largest bundle in a debug build. With ten certificates in a chain it takes minutes.
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[test]
    fn a_bundle_has_an_end() {
        let (root, _) = authority(|_| {});
        let error = ChainVerifier::new(vec![root; BUNDLE_MAX + 1], &tls::provider()).unwrap_err();
        assert_eq!(error.to_string(), "bundle holds 65 certificates, more than 64");
    }

    #[test]
    fn an_authority_counts_only_within_its_validity() {
        let (expired, old) = authority(|params| params.not_after = in_seconds(-60).into());
        let (future, new) = authority(|params| params.not_before = in_seconds(3600).into());
        let (root, issuer) = authority(|_| {});
        let now = UnixTime::now();
        for (bundle, issuer) in [(&expired, &old), (&future, &new)] {
            let chain = [client(issuer, |_| {})];
            assert_eq!(verifier(&[bundle]).verify(&chain, now).unwrap_err(), ChainError::AuthorityExpired);
            assert!(verifier(&[bundle]).is_expired(now));
            assert!(matches!(verifier(&[bundle, &root]).verify(&chain, now), Err(ChainError::NotTrusted(_))));
        }
        let both = verifier(&[&expired, &root]);
        assert!(both.verify(&[client(&issuer, |_| {})], now).is_ok() && !both.is_expired(now));
        let old_leaf = client(&issuer, |params| params.not_after = in_seconds(-60).into());
        let error = both.verify(&[old_leaf], now).unwrap_err().to_string();
        assert!(error.contains("expired"), "{error}");
    }

    #[test]
    fn a_verdict_holds_until_a_certificate_begins_or_ends() {
        let now = UnixTime::now();
        let (root, issuer) = authority(|params| params.not_after = in_seconds(1000).into());
        let verifier = verifier(&[&root]);
        let left = |chain: &[CertificateDer<'_>]| verifier.holds_until(chain, now).unwrap().as_secs() - now.as_secs();
        let at = |seconds: i64| seconds as u64 - 1..=seconds as u64 + 2;
        assert!(at(1000).contains(&left(&[client(&issuer, |_| {})])));
        assert!(at(50).contains(&left(&[client(&issuer, |params| params.not_after = in_seconds(50).into())])));
        assert!(at(70).contains(&left(&[client(&issuer, |params| params.not_before = in_seconds(70).into())])));
        assert!(at(1000).contains(&left(&[CertificateDer::from(vec![1, 2, 3])])));
    }

    #[test]
    fn bundles_are_compared_by_their_certificates() {
        let [(a, _), (b, _), (c, _)] = [(); 3].map(|()| authority(|_| {}));
        assert!(verifier(&[&a, &b]).shares_authority(&verifier(&[&c, &b])));
        assert!(!verifier(&[&a]).shares_authority(&verifier(&[&b, &c])));
    }
}
