//! Kubeconfigs with their files, the pod's service account, and TLS end to end.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hpalite::kube::{Client, ClusterConfig, Error, Request};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::look_alikes::LookAlikes;

struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Pki { ca }
    }

    /// Returns certificate and key in PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }
}

fn write_config(folder: &Path, cluster: &str, user: &str) -> std::path::PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn problems(path: &Path) -> Vec<String> {
    ClusterConfig::from_kubeconfig(path).unwrap_err().problems
}

#[test]
fn wrong_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let (cert, key) = pki.issue("client");
    let (_, other_key) = pki.issue("other");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("ca", &pki.ca.pem());
    write("cert", &cert);
    write("key", &key);
    write("other-key", &other_key);
    write("empty", "");
    write("encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n");
    write("bad-ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let ok = "server: 'https://a', certificate-authority: ca";
    let table = [
        ("server: 'https://a', certificate-authority: gone", "", "certificate-authority: "),
        ("server: 'https://a', certificate-authority: empty", "", "holds no certificate in pem"),
        ("server: 'https://a', certificate-authority: bad-ca", "", "certificate 1 is not usable"),
        ("server: 'https://a', certificate-authority-data: aGk=", "", "certificate-authority-data: holds no"),
        ("server: 'https://a', certificate-authority: ca, tls-server-name: 'a b'", "", "tls-server-name: \"a b\""),
        (ok, "client-certificate: gone, client-key: key", "client-certificate: "),
        (ok, "client-certificate: cert, client-key: gone", "client-key: "),
        (ok, "client-certificate: key, client-key: key", "client-certificate: "),
        (ok, "client-certificate: cert, client-key: cert", "holds no private key in pem"),
        (ok, "client-certificate: cert, client-key: encrypted", "is encrypted"),
        (ok, "client-certificate: cert, client-key: other-key", "client-key: does not belong to"),
        (ok, "tokenFile: gone", "tokenFile: "),
        (ok, "tokenFile: empty", "holds no token"),
        (ok, "token: 'a b'", "token: holds white space"),
        (ok, "username: 'a:b', password: c", "username: a username cannot contain a colon"),
    ];
    for (cluster, user, expected) in table {
        let path = write_config(folder.path(), cluster, user);
        let found = problems(&path);
        assert_eq!(found.len(), 1, "{cluster} {user}: {found:?}");
        assert!(found[0].contains(expected), "{cluster} {user}: {found:?}");
        assert!(found[0].starts_with(&path.display().to_string()), "{found:?}");
    }
    let path = write_config(
        folder.path(),
        "server: 'https://a', certificate-authority: gone",
        "tokenFile: gone, client-certificate: gone, client-key: gone",
    );
    assert_eq!(problems(&path).len(), 4, "all at once");
    assert_eq!(problems(Path::new("/nowhere/kubeconfig")).len(), 1);
}

#[test]
fn the_pod_is_found_or_what_is_missing_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let none = ClusterConfig::in_cluster_at(folder.path(), &|_| None).unwrap_err();
    assert_eq!(none.problems.len(), 4, "{none}");
    assert!(none.to_string().contains("pass --kubeconfig FILE"));

    fs::write(folder.path().join("ca.crt"), Pki::new().ca.pem()).unwrap();
    fs::write(folder.path().join("token"), "t\n").unwrap();
    fs::write(folder.path().join("namespace"), "shop\n").unwrap();
    for (host, server) in [
        ("10.0.0.1", "https://10.0.0.1:443"),
        ("fd00::1", "https://[fd00::1]:443"),
        ("[fd00::1]", "https://[fd00::1]:443"),
        ("kubernetes.default.svc", "https://kubernetes.default.svc:443"),
    ] {
        let env = |name: &str| Some(if name.ends_with("HOST") { host } else { "443" }.to_owned());
        let config = ClusterConfig::in_cluster_at(folder.path(), &env).unwrap();
        assert_eq!(config.server(), server);
        assert_eq!(config.namespace(), Some("shop"));
    }
    let env = |name: &str| Some(if name.ends_with("HOST") { "a" } else { "http" }.to_owned());
    assert_eq!(ClusterConfig::in_cluster_at(folder.path(), &env).unwrap_err().problems.len(), 1);
}

/// Answers requests over TLS, one per connection, with a description of the client's certificate.
fn tls_server(pki: &Pki, name: &str) -> u16 {
    let (cert, key) = pki.issue(name);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca.pem().as_bytes()).unwrap()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    serve(config)
}

fn serve(config: rustls::ServerConfig) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let conn = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            answer(rustls::StreamOwned::new(conn, tcp.unwrap()));
        }
    });
    port
}

fn answer(mut stream: rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        // A client that refuses the certificate disconnects.
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let known = stream.conn.peer_certificates().is_some();
    let body = format!("\"{}\"", if known { "known" } else { "anonymous" });
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).unwrap();
}

fn ask(folder: &Path, cluster: &str, user: &str) -> Result<String, Error> {
    let path = write_config(folder, cluster, user);
    Client::new(ClusterConfig::from_kubeconfig(&path).unwrap()).json(&Request::get_path("/version"))
}

#[test]
fn certificates_are_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let (cert, key) = pki.issue("client");
    fs::write(folder.path().join("ca"), pki.ca.pem()).unwrap();
    fs::write(folder.path().join("foreign"), Pki::new().ca.pem()).unwrap();
    fs::write(folder.path().join("cert"), cert).unwrap();
    fs::write(folder.path().join("key"), key).unwrap();
    let server = |name: &str| format!("server: 'https://127.0.0.1:{}'", tls_server(&pki, name));
    let identity = "client-certificate: cert, client-key: key";

    let trusted = format!("{}, certificate-authority: ca", server("127.0.0.1"));
    assert_eq!(ask(folder.path(), &trusted, identity).unwrap(), "known");

    let renamed = format!("{}, certificate-authority: ca, tls-server-name: kubernetes", server("kubernetes"));
    assert_eq!(ask(folder.path(), &renamed, "").unwrap(), "anonymous");

    let misnamed = format!("{}, certificate-authority: ca", server("kubernetes"));
    let error = ask(folder.path(), &misnamed, "").unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");

    let foreign = format!("{}, certificate-authority: foreign", server("127.0.0.1"));
    let error = ask(folder.path(), &foreign, "").unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");

    let anybody = format!("{}, insecure-skip-tls-verify: true", server("elsewhere"));
    assert_eq!(ask(folder.path(), &anybody, identity).unwrap(), "known");
}

/// Searching a path among them would take seconds of CPU for each connection.
#[test]
fn a_chain_of_look_alikes_is_not_walked() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = LookAlikes::new(120);
    fs::write(folder.path().join("ca"), &bomb.root).unwrap();
    let cluster = format!("server: 'https://localhost:{}', certificate-authority: ca", serve(bomb.server()));
    let started = Instant::now();
    let error = ask(folder.path(), &cluster, "").unwrap_err();
    assert!(error.to_string().contains("more than 7 certificates"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    let chain = LookAlikes::proper(4);
    fs::write(folder.path().join("ca"), &chain.root).unwrap();
    let cluster = format!("server: 'https://localhost:{}', certificate-authority: ca", serve(chain.server()));
    assert_eq!(ask(folder.path(), &cluster, "").unwrap(), "anonymous");
}

#[test]
fn new_certificates_are_used_from_the_next_handshake_on() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("ca", &Pki::new().ca.pem());
    let cluster = format!("server: 'https://127.0.0.1:{}', certificate-authority: ca", tls_server(&pki, "127.0.0.1"));
    let path = write_config(folder.path(), &cluster, "");
    let client = Client::new(ClusterConfig::from_kubeconfig(&path).unwrap());
    let ask = || client.json::<String>(&Request::get_path("/version"));
    assert!(matches!(ask(), Err(Error::Tls { .. })));
    assert!(!client.config().reread_tls().unwrap(), "nothing has changed");
    write("ca", &pki.ca.pem());
    assert!(client.config().reread_tls().unwrap());
    assert_eq!(ask().unwrap(), "anonymous");
    // An incomplete change keeps the old settings.
    let (cert, key) = pki.issue("client");
    write("cert", &cert);
    write("key", &Pki::new().issue("client").1);
    write_config(folder.path(), &cluster, "client-certificate: cert, client-key: key");
    let problems = client.config().reread_tls().unwrap_err().to_string();
    assert!(problems.contains("client-key: does not belong to client-certificate"), "{problems}");
    assert_eq!(ask().unwrap(), "anonymous");
    write("key", &key);
    assert!(client.config().reread_tls().unwrap());
    assert_eq!(ask().unwrap(), "known");
}
