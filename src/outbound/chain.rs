//! Bounds the length of certificate chains that servers present.
//!
//! The search for a path through look-alike certificates grows with every order in which they could be chained, and the
//! TLS library bounds neither their number nor the search in a useful way: 240 of them take four seconds of CPU, which
//! no time limit interrupts. So they are counted before they are parsed.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Certificates beside the server's own. Public servers send one to three; some add a root or a cross-signed one.
const COUNT_MAX: usize = 6;

/// Bytes of all of them. A certificate has one or two kilobytes; a hundred names add a few.
const BYTES_MAX: usize = 48 << 10;

/// Refuses a chain that is longer or larger than any server needs.
///
/// # Errors
/// If there are more certificates or bytes than these limits.
pub(crate) fn check(end_entity: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
    if others.len() > COUNT_MAX {
        return Err(Error::General(format!("it presents more than {COUNT_MAX} certificates beside its own")));
    }
    if end_entity.len() + others.iter().map(|other| other.len()).sum::<usize>() > BYTES_MAX {
        return Err(Error::General(format!("its certificates are larger than {} KiB", BYTES_MAX >> 10)));
    }
    Ok(())
}

/// A verifier that refuses chains beyond the limits.
#[derive(Debug)]
pub(crate) struct Bounded(pub(crate) Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Bounded {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check(end_entity, intermediates)?;
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[rustls::DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}
