//! Checks the certificate that the daemon presents to the API server against the caBundle.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, Error as TlsError, RootCertStore, Stream};

use super::Doctor;
use super::apiservice::pem;
use crate::http::chain::certificates_from_pem;
use crate::kube::untyped::text;
use crate::tls::{ServerVerifier, client_config, provider};

/// Time limit for connecting, and for each step of the handshake.
const PATIENCE: Duration = Duration::from_secs(5);

impl Doctor<'_> {
    pub(super) fn certificate(&mut self) {
        let (name, namespace) = &self.subject.config.service;
        let subject = format!("certificate of Service {namespace}/{name}");
        let own = self.is_pod.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, self.subject.config.listen.port())));
        let Some(address) = self.subject.listen.or(own) else {
            let cause = "from here only the API server's word is known";
            return self.skipped(&subject, cause, "run it in the pod: kubectl exec … -- /hpalite doctor");
        };
        let Some(apiservice) = self.find_apiservice() else { return };
        let Ok(bundle) = pem(text(&apiservice, "/spec/caBundle")) else { return };
        // The check before this one has already reported an unusable caBundle.
        let Ok(authorities) = certificates_from_pem(&bundle) else { return };
        if authorities.is_empty() {
            return;
        }
        match shake_hands(address, &format!("{name}.{namespace}.svc"), authorities) {
            Ok(()) => {}
            Err(Problem::Refused(cause)) => {
                let fix = "see that the daemon runs, and its --listen";
                self.error("not-listening", &format!("{address}"), cause, fix);
            }
            Err(Problem::Certificate(error)) => {
                let (id, fix) = match &error {
                    TlsError::InvalidCertificate(
                        CertificateError::Expired | CertificateError::ExpiredContext { .. },
                    ) => {
                        ("certificate-expired", "renew the files of --tls-cert-file; an own certificate renews itself")
                    }
                    TlsError::InvalidCertificate(
                        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                    ) => ("certificate-wrong-name", "let --service, or the file's certificate, name this Service"),
                    _ => ("certificate-untrusted", "let spec.caBundle hold the CA that signed it, or clear it"),
                };
                self.error(id, &subject, error.to_string(), fix);
            }
        }
    }
}

enum Problem {
    Refused(String),
    Certificate(TlsError),
}

fn shake_hands(
    address: SocketAddr,
    name: &str,
    authorities: Vec<rustls::pki_types::CertificateDer<'static>>,
) -> Result<(), Problem> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let verifier = ServerVerifier::new(Arc::new(roots), Vec::new(), &provider()).map_err(Problem::Certificate)?;
    let config = client_config(verifier, None).map_err(Problem::Certificate)?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| Problem::Refused(error.to_string()))?;
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(Problem::Certificate)?;
    let refused = |error: std::io::Error| match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(error) => Problem::Certificate(error.clone()),
        None => Problem::Refused(error.to_string()),
    };
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(refused)?;
    socket.set_read_timeout(Some(PATIENCE)).and_then(|()| socket.set_write_timeout(Some(PATIENCE))).map_err(refused)?;
    // Completes the exchange, so that the daemon does not count a failed handshake.
    let mut stream = Stream::new(&mut session, &mut socket);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").map_err(refused)?;
    stream.read(&mut [0; 512]).map(drop).map_err(refused)
}
