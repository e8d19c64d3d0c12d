//! Serving certificates: created by the daemon itself, or read from files.
//!
//! Creates a CA and a serving certificate signed by it, decides when they are renewed, and reads both back from PEM.
//! The caller stores them, and writes the CA into the APIService.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};

use super::der;
use crate::tls::pem_error;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const SERVING_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// A third of a year: an operator has four months to notice what keeps a renewal from succeeding.
const RENEW_SERVING_BEFORE: Duration = Duration::from_secs(122 * 24 * 3600);

/// The CA outlives every certificate it signs: a year of validity and a year to spare.
const RENEW_CA_BEFORE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

/// The nodes' clocks differ, and the certificate must already be valid for each of them.
const BACKDATE: Duration = DAY;

#[derive(Debug)]
pub enum CertificateError {
    Generate(rcgen::Error),
    ReadFile { path: PathBuf, error: String },
    Pem { what: &'static str, error: String },
    Empty { what: &'static str },
    Unreadable(der::DerError),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::Generate(error) => write!(f, "cannot make certificate: {error}"),
            CertificateError::ReadFile { path, error } => {
                write!(f, "cannot read {}: {error}", path.display())
            }
            CertificateError::Pem { what, error } => write!(f, "cannot parse {what}: {error}"),
            CertificateError::Empty { what } => write!(f, "{what} holds no certificate"),
            CertificateError::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CertificateError {}

/// The names under which clients reach the daemon: those of its Service, and loopback for probes and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNames {
    pub service: String,
    pub namespace: String,
}

impl ServiceNames {
    /// The kube-apiserver verifies the first of them.
    fn dns(&self) -> Vec<String> {
        let ServiceNames { service, namespace } = self;
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service.clone(),
            "localhost".to_owned(),
        ]
    }
}

/// The daemon's own CA and serving certificate, as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCertificates {
    /// Goes into the APIService's `caBundle`, base64-encoded once more.
    pub ca_pem: String,
    pub ca_key_pem: String,
    pub serving_pem: String,
    pub serving_key_pem: String,
}

impl fmt::Debug for OwnCertificates {
    /// Keeps the keys out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificates").finish_non_exhaustive()
    }
}

/// The certificates to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The serving certificate only, signed by the existing CA: [`OwnCertificates::renew_serving`].
    Serving,
    /// Both: [`OwnCertificates::generate`]. Clients must trust the new CA before the new certificate is served.
    Ca,
}

impl OwnCertificates {
    pub fn generate(names: &ServiceNames, now: SystemTime) -> Result<OwnCertificates, CertificateError> {
        let ca_key = new_key()?;
        let params = ca_params(&format!("hpalite-ca@{}", unix_seconds(now)), now);
        let ca_pem = params.self_signed(&ca_key).map_err(CertificateError::Generate)?.pem();
        let ca_key_pem = ca_key.serialize_pem();
        let (serving_pem, serving_key_pem) = sign(&Issuer::new(params, ca_key), names, now)?;
        Ok(OwnCertificates { ca_pem, ca_key_pem, serving_pem, serving_key_pem })
    }

    /// Creates another serving certificate and key, signed by the same CA.
    pub fn renew_serving(&self, names: &ServiceNames, now: SystemTime) -> Result<OwnCertificates, CertificateError> {
        let ca = first_certificate("ca certificate", self.ca_pem.as_bytes())?;
        let subject = der::subject(&ca).map_err(CertificateError::Unreadable)?;
        let key = KeyPair::from_pem(&self.ca_key_pem).map_err(CertificateError::Generate)?;
        // A signature takes only the issuer's name and key from these parameters.
        let issuer = Issuer::new(ca_params(&subject.common_name, now), key);
        let (serving_pem, serving_key_pem) = sign(&issuer, names, now)?;
        Ok(OwnCertificates { serving_pem, serving_key_pem, ..self.clone() })
    }

    /// Returns what has to be replaced, because it expires soon, was made for another Service, or cannot be read; None
    /// if everything is good.
    pub fn needs_renewal(&self, names: &ServiceNames, now: SystemTime) -> Option<Renewal> {
        if KeyPair::from_pem(&self.ca_key_pem).is_err() || !is_valid(&self.ca_pem, now, RENEW_CA_BEFORE) {
            return Some(Renewal::Ca);
        }
        let fits = is_valid(&self.serving_pem, now, RENEW_SERVING_BEFORE)
            && KeyPair::from_pem(&self.serving_key_pem).is_ok()
            && is_valid_for(&self.serving_pem, names);
        if fits { None } else { Some(Renewal::Serving) }
    }

    /// Returns true if a client that trusts the CA accepts the serving certificate at this time.
    pub fn is_believed(&self, now: SystemTime) -> bool {
        [&self.ca_pem, &self.serving_pem].into_iter().all(|pem| is_valid(pem, now, Duration::ZERO))
    }

    pub fn serving(&self) -> Result<ServingCertificate, CertificateError> {
        ServingCertificate::from_pem(self.serving_pem.as_bytes(), self.serving_key_pem.as_bytes())
    }
}

/// A certificate chain with its key, ready for TLS.
pub struct ServingCertificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub not_after_unix_s: i64,
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingCertificate").field("not_after_unix_s", &self.not_after_unix_s).finish_non_exhaustive()
    }
}

impl ServingCertificate {
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<ServingCertificate, CertificateError> {
        let what = "serving certificate";
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CertificateError::Pem { what, error: pem_error(&error) })?;
        let leaf = chain.first().ok_or(CertificateError::Empty { what })?;
        let (_, not_after_unix_s) = der::validity(leaf).map_err(CertificateError::Unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| CertificateError::Pem { what: "serving key", error: pem_error(&error) })?;
        Ok(ServingCertificate { chain, key, not_after_unix_s })
    }

    /// Reads the files of `--tls-cert-file` and `--tls-private-key-file`.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<ServingCertificate, CertificateError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|error| CertificateError::ReadFile { path: path.to_owned(), error: error.to_string() })
        };
        ServingCertificate::from_pem(&read(certificate)?, &read(key)?)
    }
}

fn new_key() -> Result<KeyPair, CertificateError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Generate)
}

fn ca_params(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + CA_VALIDITY).into();
    params
}

/// Creates a key and a certificate for it; both as PEM.
fn sign(
    issuer: &Issuer<'_, KeyPair>,
    names: &ServiceNames,
    now: SystemTime,
) -> Result<(String, String), CertificateError> {
    let dns = names.dns();
    let mut params = CertificateParams::new(dns.clone()).map_err(CertificateError::Generate)?;
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    params.subject_alt_names.push(SanType::IpAddress([0, 0, 0, 0, 0, 0, 0, 1].into()));
    params.distinguished_name = DistinguishedName::new();
    // A common name has at most 64 characters. Clients verify only the names above, so it may be cut.
    params.distinguished_name.push(DnType::CommonName, dns[0].chars().take(64).collect::<String>());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + SERVING_VALIDITY).into();
    let key = new_key()?;
    let certificate = params.signed_by(&key, issuer).map_err(CertificateError::Generate)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn first_certificate(what: &'static str, pem: &[u8]) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem).map_err(|error| CertificateError::Pem { what, error: pem_error(&error) })
}

/// Returns true if the certificate is valid now and still is after `margin`. One that is not valid yet can result from
/// a clock that was set back.
pub(super) fn is_valid(pem: &str, now: SystemTime, margin: Duration) -> bool {
    let validity = first_certificate("certificate", pem.as_bytes()).ok().and_then(|der| der::validity(&der).ok());
    validity.is_some_and(|(start, end)| start <= unix_seconds(now) && end > unix_seconds(now + margin))
}

fn is_valid_for(pem: &str, names: &ServiceNames) -> bool {
    let Ok(der) = first_certificate("certificate", pem.as_bytes()) else {
        return false;
    };
    let Ok(parsed) = ParsedCertificate::try_from(&der) else {
        return false;
    };
    names.dns().into_iter().all(|name| {
        ServerName::try_from(name).is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
    })
}

pub(super) fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> ServiceNames {
        ServiceNames { service: "hpalite".into(), namespace: "autoscaling".into() }
    }

    // A fixed time in mid-2026; no test compares certificates with the wall clock.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_780_000_000)
    }

    fn verifies(own: &OwnCertificates, name: &str, at: SystemTime) -> bool {
        use rustls::client::WebPkiServerVerifier;
        use rustls::client::danger::ServerCertVerifier;
        use rustls::pki_types::UnixTime;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(own.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = crate::http::tls::provider();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let serving = own.serving().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(&serving.chain[0], &[], &name, &[], at).is_ok()
    }

    #[test]
    fn the_pair_is_valid_for_all_its_names() {
        let own = OwnCertificates::generate(&names(), now()).unwrap();
        for name in [
            "hpalite.autoscaling.svc",
            "hpalite.autoscaling",
            "hpalite.autoscaling.svc.cluster.local",
            "hpalite",
            "localhost",
            "127.0.0.1",
            "::1",
        ] {
            assert!(verifies(&own, name, now()), "{name}");
        }
        assert!(!verifies(&own, "other.autoscaling.svc", now()));
        assert!(!verifies(&own, "hpalite.autoscaling.svc", now() + 366 * DAY));
        let serving = own.serving().unwrap();
        assert_eq!(serving.not_after_unix_s, unix_seconds(now() + SERVING_VALIDITY));
        assert!(!format!("{own:?}{serving:?}").contains("KEY"));
    }

    #[test]
    fn renewal() {
        let own = OwnCertificates::generate(&names(), now()).unwrap();
        let other = ServiceNames { namespace: "elsewhere".into(), ..names() };
        assert_eq!(own.needs_renewal(&names(), now()), None);
        assert_eq!(own.needs_renewal(&names(), now() + 242 * DAY), None);
        assert_eq!(own.needs_renewal(&names(), now() + 244 * DAY), Some(Renewal::Serving));
        assert_eq!(own.needs_renewal(&other, now()), Some(Renewal::Serving));
        assert_eq!(own.needs_renewal(&names(), now() + 8 * 365 * DAY), Some(Renewal::Ca));
        let broken = OwnCertificates { serving_pem: String::new(), ..own.clone() };
        assert_eq!(broken.needs_renewal(&names(), now()), Some(Renewal::Serving));
        assert!(own.is_believed(now()) && !own.is_believed(now() + 366 * DAY));
        assert_eq!(own.needs_renewal(&names(), now() - 2 * DAY), Some(Renewal::Ca), "from the future");
        let broken = OwnCertificates { ca_key_pem: "x".into(), ..own.clone() };
        assert_eq!(broken.needs_renewal(&names(), now()), Some(Renewal::Ca));

        let later = now() + 300 * DAY;
        let renewed = own.renew_serving(&names(), later).unwrap();
        assert_eq!(renewed.ca_pem, own.ca_pem);
        assert_ne!(renewed.serving_key_pem, own.serving_key_pem);
        assert_eq!(renewed.needs_renewal(&names(), later), None);
        assert!(verifies(&renewed, "hpalite.autoscaling.svc", later + 300 * DAY));
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnCertificates::generate(&names(), now()).unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let missing = ServingCertificate::from_files(&certificate, &key).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read ") && missing.contains("tls.crt"), "{missing}");
        std::fs::write(&certificate, &own.serving_pem).unwrap();
        std::fs::write(&key, "nothing").unwrap();
        assert!(ServingCertificate::from_files(&certificate, &key).unwrap_err().to_string().contains("serving key"));
        std::fs::write(&key, &own.serving_key_pem).unwrap();
        assert_eq!(ServingCertificate::from_files(&certificate, &key).unwrap().chain.len(), 1);
    }
}
