//! TLS: trusted servers, client certificates, and how faults are reported.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use hpalite::scaling::event::{Answer, ErrorClass};
use hpalite::scaling::model::{AuthMode, PrometheusSource};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::setup::{ask, assert_failed, failed, source, transport, transport_with, with_modes};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("one")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Returns certificate and key.
    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// `clients` is the CA of accepted clients.
pub(crate) fn server(pair: &(String, String), clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
            )
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap()];
    builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(pair.1.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_custom_ca_works_with_and_without_modes() {
    let authority = Authority::new();
    let fake = FakePrometheus::start_tls(server(&authority.issue("localhost", |_| ()), None), |_| Reply::value("1"));
    let transport = transport();
    let parameters = [("ca", authority.pem.as_str()), ("token", "t")];
    assert_eq!(ask(&transport, &source(&fake.url(), "up"), &parameters), Answer::Value(1.0));
    assert_eq!(ask(&transport, &with_modes(&fake.url(), &[AuthMode::Bearer]), &parameters), Answer::Value(1.0));
    // Both have the same identity and share one connection.
    assert_eq!(fake.connections(), 1);
    assert_failed(ask(&transport, &source(&fake.url(), "up"), &[]), ErrorClass::Tls, "unknown issuer");
    for (name, words) in [("another", "unknown issuer"), ("one", "signed with another key")] {
        let other = Authority::named(name);
        assert_failed(ask(&transport, &source(&fake.url(), "up"), &[("ca", &other.pem)]), ErrorClass::Tls, words);
    }
    assert_failed(
        ask(&transport, &source(&fake.url(), "up"), &[("ca", "no pem")]),
        ErrorClass::Authentication,
        "parameter ca",
    );
}

#[test]
fn unsafe_ssl_works_with_and_without_modes() {
    let authority = Authority::new();
    let expired = authority.issue("elsewhere", |params| params.not_after = date_time_ymd(2001, 1, 1));
    let fake = FakePrometheus::start_tls(server(&expired, None), |_| Reply::value("1"));
    let transport = transport();
    let parameters = [("ca", authority.pem.as_str()), ("token", "t")];
    for modes in [&[][..], &[AuthMode::Bearer]] {
        let source = PrometheusSource { unsafe_ssl: true, ..with_modes(&fake.url(), modes) };
        assert_eq!(ask(&transport, &source, &parameters), Answer::Value(1.0));
    }
}

#[test]
fn certificates_that_do_not_serve() {
    let authority = Authority::new();
    let transport = transport();
    let rows = [
        (authority.issue("localhost", |params| params.not_after = date_time_ymd(2001, 1, 1)), "has expired"),
        (authority.issue("localhost", |params| params.not_before = date_time_ymd(2900, 1, 1)), "not valid yet"),
        (authority.issue("elsewhere", |_| ()), "for another name"),
        (authority.issue("localhost", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "a CA's own"),
    ];
    for (pair, words) in rows {
        let fake = FakePrometheus::start_tls(server(&pair, None), |_| Reply::value("1"));
        let ask = || failed(ask(&transport, &source(&fake.url(), "up"), &[("ca", &authority.pem)]));
        let (class, message) = ask();
        assert_eq!(class, ErrorClass::Tls, "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(message, ask().1, "the same text each time");
    }
}

#[test]
fn a_self_signed_certificate_can_be_its_own_ca() {
    // As created by `openssl req -x509`: marked as a CA, and used by the server.
    let make = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let transport = transport();
    let pair = make("localhost");
    let fake = FakePrometheus::start_tls(server(&pair, None), |_| Reply::value("1"));
    assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[("ca", &pair.0)]), Answer::Value(1.0));
    let other = make("elsewhere");
    let fake = FakePrometheus::start_tls(server(&other, None), |_| Reply::value("1"));
    assert_failed(ask(&transport, &source(&fake.url(), "up"), &[("ca", &other.0)]), ErrorClass::Tls, "another name");
}

#[test]
fn client_certificates() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let pair = servers.issue("localhost", |_| ());
    let fake = FakePrometheus::start_tls(server(&pair, Some(&clients)), |_| Reply::value("1"));
    let transport = transport();
    let (cert, key) = clients.issue("hpalite", |_| ());
    let parameters = [("ca", servers.pem.as_str()), ("cert", cert.as_str()), ("key", key.as_str()), ("token", "t")];
    for modes in [&[AuthMode::Tls][..], &[AuthMode::Tls, AuthMode::Bearer]] {
        assert_eq!(ask(&transport, &with_modes(&fake.url(), modes), &parameters), Answer::Value(1.0));
    }
    let requests = fake.requests();
    assert_eq!((requests[0].header("authorization"), requests[1].header("authorization")), (None, Some("Bearer t")));

    assert_failed(
        ask(&transport, &source(&fake.url(), "up"), &parameters),
        ErrorClass::Tls,
        "wants a client certificate",
    );
    for name in ["another", "one"] {
        let stranger = Authority::named(name).issue("hpalite", |_| ());
        let wrong = [("ca", servers.pem.as_str()), ("cert", stranger.0.as_str()), ("key", stranger.1.as_str())];
        let answer = ask(&transport, &with_modes(&fake.url(), &[AuthMode::Tls]), &wrong);
        assert_failed(answer, ErrorClass::Tls, "does not accept our client certificate");
    }
    let stranger = clients.issue("hpalite", |_| ());
    // The HTTP client's own TLS would panic here.
    let mixed = [("cert", cert.as_str()), ("key", stranger.1.as_str())];
    assert_failed(
        ask(&transport, &with_modes(&fake.url(), &[AuthMode::Tls]), &mixed),
        ErrorClass::Authentication,
        "do not belong together",
    );
}

#[test]
fn identities_do_not_share_connections() {
    let authority = Authority::new();
    let fake = FakePrometheus::start_tls(server(&authority.issue("localhost", |_| ()), None), |_| Reply::value("1"));
    let transport = transport();
    let unsafe_source = PrometheusSource { unsafe_ssl: true, ..source(&fake.url(), "up") };
    assert_eq!(ask(&transport, &unsafe_source, &[]), Answer::Value(1.0));
    // The open connection was never verified and must not be used if verification is wanted.
    assert_failed(ask(&transport, &source(&fake.url(), "up"), &[]), ErrorClass::Tls, "unknown issuer");
}

#[test]
fn many_polls_share_a_tls_connection() {
    let authority = Authority::new();
    let fake = FakePrometheus::start_tls(server(&authority.issue("localhost", |_| ()), None), |_| Reply::value("1"));
    let transport = transport();
    for _ in 0..20 {
        assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[("ca", &authority.pem)]), Answer::Value(1.0));
    }
    assert_eq!(fake.connections(), 1);
    fake.close_connections();
    assert_eq!(ask(&transport, &source(&fake.url(), "up"), &[("ca", &authority.pem)]), Answer::Value(1.0));
}

#[test]
fn tls_to_a_plain_server_and_back() {
    // Like Go's server, this one answers a handshake with an HTTP error.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let https = format!("https://{}", listener.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 64]);
        socket.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent a TLS handshake to an HTTP server.\n").unwrap();
    });
    let transport = transport();
    assert_failed(ask(&transport, &source(&https, "up"), &[]), ErrorClass::Tls, "is it an http:// server?");
    answering.join().unwrap();

    let authority = Authority::new();
    let fake = FakePrometheus::start_tls(server(&authority.issue("localhost", |_| ()), None), |_| Reply::value("1"));
    let http = fake.url().replace("https://", "http://");
    let (class, message) = failed(ask(&transport, &source(&http, "up"), &[]));
    assert_eq!(class, ErrorClass::Response, "{message}");
}

#[test]
fn tls_through_a_proxy() {
    let authority = Authority::new();
    let pair = authority.issue("prometheus.example", |_| ());
    let fake = FakePrometheus::start_tls(server(&pair, None), |_| Reply::value("1"));
    let address = fake.address;
    let proxy = FakePrometheus::start(move |_| Reply::Tunnel(address));
    let transport = transport_with(&[("HTTPS_PROXY", &proxy.address.to_string())]);
    let answer = ask(&transport, &source("https://prometheus.example", "up"), &[("ca", &authority.pem)]);
    assert_eq!(answer, Answer::Value(1.0));
    assert_eq!(proxy.requests()[0].target, "prometheus.example:443");
}
