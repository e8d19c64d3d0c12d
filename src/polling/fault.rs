//! Describes faults between the daemon and a metric server: an error text and its class.
//!
//! Pure. Equal faults have equal texts, without times, addresses of this machine or numbers of the operating system.
//! Texts of libraries are used only where they contain none of these.

use std::io;
use std::time::Duration;

use super::failed;
use crate::outbound::connect::Unresolved;
use crate::outbound::networks::Refused;
use crate::scaling::event::{ErrorClass, PollError};

/// The server, and the time limit of the request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `scheme://host:port`
    pub server: &'a str,
    pub timeout: Duration,
    pub through_proxy: bool,
}

/// Returns the fault that prevented a response.
#[must_use]
pub fn explain(error: &ureq::Error, asked: Asked<'_>) -> PollError {
    let Asked { server, timeout, .. } = asked;
    let via = if asked.through_proxy { " (through the proxy of the environment)" } else { "" };
    let connect = |why: &str| failed(ErrorClass::Connect, format!("cannot reach {server}{via}: {why}"));
    let response = |why: &str| failed(ErrorClass::Response, format!("{server} answered badly: {why}"));
    match error {
        ureq::Error::Timeout(_) => late(server, timeout),
        ureq::Error::HostNotFound => connect("no such host"),
        ureq::Error::ConnectionFailed => connect("connection failed"),
        ureq::Error::ConnectProxyFailed(why) => connect(&format!("the proxy refused: {why}")),
        ureq::Error::InvalidProxyUrl => connect("the proxy URL of the environment is not valid"),
        ureq::Error::Rustls(error) => tls(server, error),
        ureq::Error::Tls(why) => failed(ErrorClass::Tls, format!("TLS with {server} failed: {why}")),
        ureq::Error::Io(error) => io_fault(error, asked, connect, response),
        ureq::Error::LargeResponseHeader(..) => response("its headers are too large"),
        ureq::Error::Decompress(..) => response("its compressed body is damaged"),
        ureq::Error::Protocol(_) | ureq::Error::BodyStalled => response("it does not speak HTTP as expected"),
        ureq::Error::Other(error) => {
            if let Some(refused) = error.downcast_ref::<Refused>() {
                not_asked(server, refused)
            } else if let Some(unresolved) = error.downcast_ref::<Unresolved>() {
                connect(&unresolved.to_string())
            } else {
                response("it cannot be read")
            }
        }
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            failed(ErrorClass::Configuration, format!("no valid request can be made for {server}"))
        }
        _ => response("it cannot be read"),
    }
}

/// Returns whether the connection ended before a response began.
pub(super) fn was_cut(error: &ureq::Error) -> bool {
    let ureq::Error::Io(error) = error else { return false };
    error.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>()) && is_cut(error.kind())
}

pub(super) fn is_cut(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// Returns the error for an address that a trigger may not contact.
pub(super) fn not_asked(server: &str, refused: &Refused) -> PollError {
    failed(ErrorClass::Configuration, format!("{server} is not asked: {refused}"))
}

fn late(server: &str, timeout: Duration) -> PollError {
    failed(ErrorClass::Timeout, format!("no answer from {server} within {}", words(timeout)))
}

/// Formats a time limit: `3s`, `300ms`.
fn words(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1_000) { format!("{}s", millis / 1_000) } else { format!("{millis}ms") }
}

fn io_fault(
    error: &io::Error,
    asked: Asked<'_>,
    connect: impl Fn(&str) -> PollError,
    response: impl Fn(&str) -> PollError,
) -> PollError {
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<rustls::Error>() {
            return tls(asked.server, error);
        }
        if let Some(error) = inner.downcast_ref::<ureq::Error>() {
            return explain(error, asked);
        }
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => connect("connection refused"),
        io::ErrorKind::HostUnreachable => connect("no route to host"),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => connect("network unreachable"),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => late(asked.server, asked.timeout),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::BrokenPipe => connect("it closed the connection without a complete answer"),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => response("its body is damaged"),
        kind => connect(&kind.to_string()),
    }
}

fn tls(server: &str, error: &rustls::Error) -> PollError {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    let why = match error {
        Error::InvalidCertificate(error) => match error {
            Certificate::Expired | Certificate::ExpiredContext { .. } => "its certificate has expired".to_owned(),
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "its certificate is not valid yet".to_owned()
            }
            Certificate::UnknownIssuer => {
                "its certificate has an unknown issuer; give the CA as parameter ca or in --ca-dir".to_owned()
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "its certificate is for another name".to_owned()
            }
            Certificate::BadEncoding => "its certificate is damaged".to_owned(),
            // Usually a CA that was renewed under its old name.
            Certificate::BadSignature => {
                "its certificate was signed with another key than that of the CA we know".to_owned()
            }
            Certificate::Revoked => "its certificate is revoked".to_owned(),
            Certificate::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "its certificate is a CA's own and cannot serve".to_owned()
            }
            _ => "its certificate is not acceptable".to_owned(),
        },
        Error::AlertReceived(Alert::CertificateRequired) => {
            "it wants a client certificate (authModes tls with parameters cert and key)".to_owned()
        }
        Error::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::AccessDenied
            | Alert::DecryptError,
        ) => "it does not accept our client certificate".to_owned(),
        Error::AlertReceived(Alert::CertificateExpired) => "our client certificate has expired".to_owned(),
        Error::AlertReceived(Alert::ProtocolVersion) => {
            "it speaks no TLS version that we accept (1.2 and newer)".to_owned()
        }
        Error::AlertReceived(alert) => format!("it sent the alert {alert:?}"),
        Error::PeerIncompatible(_) => "it speaks no TLS version or cipher that we accept (1.2 and newer)".to_owned(),
        Error::InvalidMessage(_) => "it does not speak TLS (is it an http:// server?)".to_owned(),
        Error::NoCertificatesPresented => "it presents no certificate".to_owned(),
        // From our own verifier.
        Error::General(why) => why.clone(),
        _ => "the handshake broke".to_owned(),
    };
    failed(ErrorClass::Tls, format!("TLS with {server} failed: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::networks::Rules;

    fn of(error: impl Into<ureq::Error>) -> (ErrorClass, String) {
        let asked = Asked { server: "https://p:9090", timeout: Duration::from_millis(1_500), through_proxy: false };
        let PollError { class, message } = explain(&error.into(), asked);
        (class, message)
    }

    #[test]
    fn classes_and_words() {
        use rustls::{CertificateError, Error};
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(CertificateError::Expired));
        let refused = Rules::default().judge(([127, 0, 0, 1], 80).into()).unwrap_err();
        let rows = [
            (of(io::Error::from(io::ErrorKind::ConnectionRefused)), ErrorClass::Connect, "connection refused"),
            (of(io::Error::from(io::ErrorKind::ConnectionReset)), ErrorClass::Connect, "closed the connection"),
            (of(ureq::Error::Other(Box::new(Unresolved))), ErrorClass::Connect, "at the moment"),
            (
                of(io::Error::other(ureq::Error::Other(Box::new(refused)))),
                ErrorClass::Configuration,
                "is not asked: 127",
            ),
            (of(ureq::Error::HostNotFound), ErrorClass::Connect, "no such host"),
            (
                of(ureq::Error::Timeout(ureq::Timeout::Global)),
                ErrorClass::Timeout,
                "no answer from https://p:9090 within 1500ms",
            ),
            (of(wrapped), ErrorClass::Tls, "has expired"),
            (of(Error::InvalidCertificate(CertificateError::UnknownIssuer)), ErrorClass::Tls, "unknown issuer"),
            (
                of(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)),
                ErrorClass::Tls,
                "does not speak TLS",
            ),
            (of(ureq::Error::BodyStalled), ErrorClass::Response, "HTTP"),
            (of(io::Error::other(ureq::Error::BodyStalled)), ErrorClass::Response, "HTTP"),
        ];
        for ((class, message), expected, words) in rows {
            assert_eq!(class, expected, "{message}");
            assert!(message.contains(words) && message.contains("https://p:9090"), "{message}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(words(Duration::from_secs(3)), "3s");
        assert_eq!(words(Duration::from_millis(300)), "300ms");
    }
}
