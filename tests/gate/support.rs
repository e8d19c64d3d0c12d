//! Certificates, gates and clients for the gate's tests.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hpalite::http::certificates::{OwnCertificates, ServiceNames};
use hpalite::http::front_proxy::{FrontProxyTrust, IdentityHeaders};
use hpalite::http::gate::{Gate, GateConfig};
use hpalite::http::tls::{self, TlsState};
use hpalite::http::{Handler, Identity, Request, Response};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longest wait for anything that must happen, far longer than a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A CA of the test that signs client certificates.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        Authority::with(name, |_| {})
    }

    pub(crate) fn with(name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        adjust(&mut params);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Loads an existing CA from files, to sign more certificates. `name` is its whole subject.
    pub(crate) fn load(certificate: &Path, key: &Path, name: &str) -> Authority {
        let pem = std::fs::read_to_string(certificate).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        Authority { certificate, pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    pub(crate) fn client(&self, common_name: &str) -> Holder {
        self.sign(common_name, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    pub(crate) fn sign(&self, common_name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Holder {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Holder { chain: vec![certificate.der().clone()], key_der: key.serialize_der() }
    }
}

/// A client with a certificate.
#[derive(Clone)]
pub(crate) struct Holder {
    /// The end entity first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key_der: Vec<u8>,
}

impl Holder {
    /// Loads certificate and key from PEM files.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Holder {
        let chain = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<_, _>>().unwrap();
        Holder { chain, key_der: KeyPair::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap().serialize_der() }
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key_der.clone()).unwrap()
    }

    pub(crate) fn signing_key(&self) -> Arc<dyn rustls::sign::SigningKey> {
        tls::provider().key_provider.load_private_key(self.key()).unwrap()
    }
}

/// A gate with TLS, and what its clients need.
pub(crate) struct Secure {
    pub(crate) gate: Gate,
    pub(crate) tls: Arc<TlsState>,
    pub(crate) own: OwnCertificates,
    pub(crate) front_proxy_ca: Authority,
}

pub(crate) fn names() -> ServiceNames {
    ServiceNames { service: "hpalite".into(), namespace: "autoscaling".into() }
}

pub(crate) fn config(name: &str, handler: Handler) -> GateConfig {
    GateConfig {
        name: name.to_owned(),
        listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        tls: None,
        workers: 4,
        patient_workers: 0,
        from_memory: None,
        max_connections: 4096,
        handler,
    }
}

pub(crate) fn plain(handler: Handler) -> Gate {
    Gate::start(config("plain", handler)).unwrap()
}

pub(crate) fn secure(handler: Handler) -> Secure {
    secure_with(handler, |_| {})
}

pub(crate) fn secure_with(handler: Handler, adjust: impl FnOnce(&mut GateConfig)) -> Secure {
    let own = OwnCertificates::generate(&names(), std::time::SystemTime::now()).unwrap();
    let serving = own.serving().unwrap();
    let tls = Arc::new(TlsState::new(tls::provider(), serving.chain, serving.key).unwrap());
    let front_proxy_ca = Authority::new("front-proxy-ca");
    tls.set_front_proxy(Some(Arc::new(trust(&front_proxy_ca, &["front-proxy-client"]))));
    let mut config = GateConfig { tls: Some(Arc::clone(&tls)), ..config("secure", handler) };
    adjust(&mut config);
    Secure { gate: Gate::start(config).unwrap(), tls, own, front_proxy_ca }
}

pub(crate) fn trust(ca: &Authority, names: &[&str]) -> FrontProxyTrust {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    FrontProxyTrust::new(vec![ca.certificate.clone()], names, IdentityHeaders::default(), &tls::provider()).unwrap()
}

/// Answers with the request, so that tests see what a handler sees.
pub(crate) fn echo() -> Handler {
    Arc::new(|request: &Request| {
        let mut text = format!("{} {}", request.method, request.path);
        if let Some(query) = &request.query {
            text += &format!("?{query}");
        }
        text += &format!("\n{}\n", identity(&request.peer.identity));
        for (name, value) in &request.headers {
            text += &format!("{name}: {value}\n");
        }
        Response::text(200, text)
    })
}

/// Returns one line that describes an identity.
pub(crate) fn identity(identity: &Identity) -> String {
    match identity {
        Identity::None => "nobody".to_owned(),
        Identity::FrontProxy { common_name, user: Ok(user), .. } => {
            format!("{common_name} for {} {} {:?} {:?}", user.name, user.uid, user.groups, user.extra)
        }
        Identity::FrontProxy { common_name, user: Err(fault), .. } => format!("{common_name} but {fault}"),
        Identity::Certificate { refusal, .. } => format!("certificate refused: {refusal}"),
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends all bytes and reads until the server closes or resets the connection.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // The server may have closed the connection already; only its earlier answer counts.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer with a body of known length.
pub(crate) fn read_answer(stream: &mut impl Read) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

/// Sends one request on an existing connection; returns the status and the body as text.
pub(crate) fn ask(stream: &mut (impl Read + Write), head: &str) -> (u16, String) {
    write!(stream, "{head}\r\nHost: test\r\n\r\n").unwrap();
    let (head, body) = read_answer(stream).unwrap();
    (status(&head), String::from_utf8(body).unwrap())
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

pub(crate) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn roots(pem: impl AsRef<[u8]>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

/// Runs a test of this binary in a child process, which it recognises by the variable. Returns the child's output, too.
pub(super) fn child(test: &str, variable: &str) -> (Child, impl Iterator<Item = String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// Returns the memory that a process has in use, in KiB.
pub(super) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Returns the configuration of a client that trusts these CAs.
pub(crate) fn client_config(roots: RootCertStore, holder: Option<&Holder>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match holder {
        None => builder.with_no_client_auth(),
        Some(holder) => {
            let key = PrivateKeyDer::try_from(holder.key_der.clone()).unwrap();
            builder.with_client_auth_cert(holder.chain.clone(), key).unwrap()
        }
    }
}

impl Secure {
    pub(crate) fn address(&self) -> SocketAddr {
        self.gate.local_addr()
    }

    pub(crate) fn front_proxy(&self) -> Holder {
        self.front_proxy_ca.client("front-proxy-client")
    }

    pub(crate) fn client_config(&self, holder: Option<&Holder>) -> ClientConfig {
        client_config(roots(&self.own.ca_pem), holder)
    }

    pub(crate) fn client(&self, holder: Option<&Holder>) -> TlsClient {
        self.client_with(self.client_config(holder))
    }

    pub(crate) fn client_with(&self, config: ClientConfig) -> TlsClient {
        let name = ServerName::try_from("hpalite.autoscaling.svc").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(self.address()))
    }
}
