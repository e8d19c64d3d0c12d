//! Strangers at the ports, and a tenant with hostile servers, all on loopback and only for the time of the siege.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hpalite::tls::{self, ServerVerifier};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const TENANT: &str = "tenant";
/// Bytes of look-alike certificates that a client presents: the maximum of one TLS handshake message.
const LOOK_ALIKES: usize = 64_000;
const BOMBERS: usize = 4;
/// Connections with an endless body, on each of the two ports.
const BODIES_PER_PORT: usize = 500;
const ASKERS: usize = 150;
/// Hanging triggers: number of objects, and triggers of each.
const HANGING: (usize, usize) = (10, 10);
const TREES: usize = 8;
const SLOW_NAMES: usize = 40;
/// Address of the name server that never answers; only the daemon's own mount namespace uses it.
const NAME_SERVER: &str = "127.0.0.77";

/// Attackers that can reach a port.
pub(crate) struct Siege {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    counts: Vec<(&'static str, Arc<AtomicUsize>)>,
}

impl Siege {
    pub(crate) fn start(port: u16, http: &str, chosen: &[&str]) -> Self {
        let mut siege = Self { stop: Arc::default(), threads: Vec::new(), counts: Vec::new() };
        let http_port: u16 = http.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        if chosen.contains(&"certificates") {
            let bomb = Arc::new(tls::client_config(anyone(), Some(look_alikes())).expect("settings"));
            siege.many("certificate bombs", BOMBERS, move |_| bomb_once(port, &bomb));
        }
        if chosen.contains(&"bodies") {
            let plain = Arc::new(tls::client_config(anyone(), None).expect("settings"));
            siege.many("bodies begun", BODIES_PER_PORT, move |stop| unfinished_over_tls(port, &plain, stop));
            siege.many("bodies begun without TLS", BODIES_PER_PORT, move |stop| {
                unfinished(TcpStream::connect(("127.0.0.1", http_port))?, stop)
            });
        }
        if chosen.contains(&"anonymous") {
            let plain = Arc::new(tls::client_config(anyone(), None).expect("settings"));
            siege.many("anonymous connections", ASKERS, move |stop| ask_anonymously(port, &plain, stop));
        }
        siege
    }

    /// Starts `count` threads that repeat an attack.
    fn many<F>(&mut self, what: &'static str, count: usize, attack: F)
    where
        F: Fn(&AtomicBool) -> std::io::Result<()> + Send + Sync + 'static,
    {
        let (attack, attempts) = (Arc::new(attack), Arc::new(AtomicUsize::new(0)));
        self.counts.push((what, Arc::clone(&attempts)));
        for _ in 0..count {
            let (stop, attack, attempts) = (Arc::clone(&self.stop), Arc::clone(&attack), Arc::clone(&attempts));
            let run = move || {
                while !stop.load(Ordering::Relaxed) {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    // Attackers expect to be refused.
                    let _ = attack(&stop);
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            };
            let builder = std::thread::Builder::new().stack_size(256 << 10);
            self.threads.push(builder.spawn(run).expect("a thread for an attacker"));
        }
    }

    /// Stops the attacks; returns how often each was made.
    pub(crate) fn stop(self) -> Vec<(&'static str, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("an attacker ends");
        }
        self.counts.into_iter().map(|(what, count)| (what, count.load(Ordering::Relaxed))).collect()
    }
}

fn socket(port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.set_write_timeout(Some(Duration::from_secs(2)))?;
    Ok(socket)
}

fn over_tls(port: u16, config: &Arc<ClientConfig>) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("hpalite.hpalite.svc").expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    Ok(StreamOwned::new(connection, socket(port)?))
}

/// A handshake with the chain, then requests, each of which may verify it again.
fn bomb_once(port: u16, config: &Arc<ClientConfig>) -> std::io::Result<()> {
    let mut stream = over_tls(port, config)?;
    let mut buffer = [0; 4096];
    for _ in 0..10 {
        stream.write_all(b"GET /apis HTTP/1.1\r\nHost: a\r\nX-Remote-User: admin\r\n\r\n")?;
        if stream.read(&mut buffer)? == 0 {
            break;
        }
    }
    Ok(())
}

const UNFINISHED: &[u8] =
    b"POST /apis/external.metrics.k8s.io/v1beta1 HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n";

fn unfinished_over_tls(port: u16, config: &Arc<ClientConfig>, stop: &AtomicBool) -> std::io::Result<()> {
    drip(&mut over_tls(port, config)?, stop)
}

fn unfinished(mut socket: TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    socket.set_write_timeout(Some(Duration::from_secs(2)))?;
    drip(&mut socket, stop)
}

/// Sends all of a body except its last bytes, which follow one by one.
fn drip(stream: &mut impl std::io::Write, stop: &AtomicBool) -> std::io::Result<()> {
    stream.write_all(UNFINISHED)?;
    stream.write_all(&[b'x'; 65_000])?;
    for _ in 0..500 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        stream.write_all(b"x")?;
        stream.flush()?;
        std::thread::park_timeout(Duration::from_secs(1));
    }
    Ok(())
}

/// Requests unknown paths without credentials, or with an invalid token.
fn ask_anonymously(port: u16, config: &Arc<ClientConfig>, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = over_tls(port, config)?;
    let mut buffer = [0; 4096];
    // Each request of all connections is different, so that no verdict can be cached.
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..1000 {
        let n = ASKED.fetch_add(1, Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let token = if n.is_multiple_of(2) { "" } else { "Authorization: Bearer nonsense\r\n" };
        let path = format!("/apis/unknown-{n}.example.com/v1/namespaces/n-{n}/things");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n{token}\r\n")?;
        if stream.read(&mut buffer)? == 0 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// Returns a client certificate below many CAs of the same name, each of which may have signed each other.
fn look_alikes() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let name = |params: &mut CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "a");
    };
    let ca = || {
        let mut params = CertificateParams::default();
        name(&mut params);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.der().clone(), Issuer::new(params, key))
    };
    let (first, issuer) = ca();
    let mut leaf = CertificateParams::default();
    name(&mut leaf);
    let key = KeyPair::generate().expect("a key");
    let mut chain = vec![leaf.signed_by(&key, &issuer).expect("a certificate").der().clone(), first];
    // Each is accompanied by three bytes of length and two of extensions.
    while chain.iter().map(|certificate| certificate.len() + 5).sum::<usize>() < LOOK_ALIKES {
        chain.push(ca().0);
    }
    (chain, PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
}

/// A verifier that accepts any server, as attackers need.
fn anyone() -> ServerVerifier {
    ServerVerifier::of_anybody(&tls::provider())
}

/// A service account that may write ScaledObjects in one namespace, with its servers.
pub(crate) struct Tenant {
    stop: Arc<AtomicBool>,
    is_there: bool,
}

impl Tenant {
    pub(crate) fn start(cluster: &Cluster, chosen: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut objects = Vec::new();
        if chosen.contains(&"hanging") {
            let timeout = std::env::var("HPALITE_SIEGE_TIMEOUT").unwrap_or_else(|_| "30s".to_owned());
            for object in 0..HANGING.0 {
                let server = hanging(&stop);
                let triggers = (0..HANGING.1).map(|n| {
                    json!({ "type": "prometheus", "name": format!("t{n}"), "metadata": {
                        "serverAddress": server, "query": format!("hanging_{object}_{n}"), "threshold": "1", "timeout": timeout,
                    } })
                });
                objects.push((format!("hanging-{object}"), triggers.collect::<Vec<_>>()));
            }
        }
        if chosen.contains(&"trees") {
            let server = trees(&stop);
            for n in 0..TREES {
                let (format, location) = [("json", "#"), ("json", "0.a"), ("yaml", "a.0"), ("xml", "a.0")][n % 4];
                objects.push((
                    format!("tree-{n}"),
                    vec![json!({ "type": "metrics-api", "metadata": {
                        "url": format!("{server}/{format}/{n}"), "format": format, "valueLocation": location,
                        "targetValue": "10",
                    } })],
                ));
            }
        }
        if chosen.contains(&"dns") {
            for n in 0..SLOW_NAMES {
                objects.push((
                    format!("slow-name-{n}"),
                    vec![json!({ "type": "prometheus", "metadata": {
                        "serverAddress": format!("http://name-{n}.slow.example.com:9090"), "query": "up", "threshold": "1",
                        "timeout": "100",
                    } })],
                ));
            }
        }
        let is_there = !objects.is_empty();
        if is_there {
            cluster.kubectl(&["create", "namespace", TENANT]);
            let items: Vec<Value> =
                objects.into_iter().flat_map(|(name, triggers)| hostile(&name, &triggers)).collect();
            cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string());
        }
        Self { stop, is_there }
    }

    pub(crate) fn leave(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        if self.is_there {
            cluster.kubectl(&["delete", "scaledobject", "--all", "-n", TENANT, "--wait=false"]);
        }
    }
}

fn hostile(name: &str, triggers: &[Value]) -> [Value; 2] {
    let deployment = serde_json::from_str(&crate::cluster::deployment(TENANT, name, 1)).expect("JSON");
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": name, "namespace": TENANT },
        "spec": {
            "scaleTargetRef": { "name": name }, "pollingInterval": 1, "minReplicaCount": 1, "maxReplicaCount": 10,
            "triggers": triggers,
        },
    });
    [deployment, object]
}

/// Accepts connections and requests, but never answers.
fn hanging(stop: &Arc<AtomicBool>) -> String {
    serve(stop, |_, held| held)
}

/// Answers with a mebibyte that is small as text and large as a tree.
fn trees(stop: &Arc<AtomicBool>) -> String {
    const SIZE: usize = (1 << 20) - 1024;
    let json = format!("[{}1]", r#"{"a":0},"#.repeat(SIZE / 8));
    let mut yaml = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        yaml += &format!("b{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    let xml = format!("<a>{}</a>", "<b/>".repeat(SIZE / 4));
    let bodies = Arc::new([json, yaml, xml]);
    serve(stop, move |path, mut held| {
        let body = &bodies[if path.contains("/json") { 0 } else { 1 + usize::from(path.contains("/xml")) }];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = held.write_all(head.as_bytes()).and_then(|()| held.write_all(body.as_bytes()));
        held
    })
}

/// A server that keeps its connections until the siege ends, unless the client closes them.
fn serve(stop: &Arc<AtomicBool>, answer: impl Fn(&str, TcpStream) -> TcpStream + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a socket");
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut held: std::collections::VecDeque<TcpStream> = std::collections::VecDeque::new();
        while !stop.load(Ordering::Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::park_timeout(Duration::from_millis(5));
                continue;
            };
            let _ = stream.set_nonblocking(false);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let text = String::from_utf8_lossy(&head[..n]).into_owned();
            held.push_back(answer(text.lines().next().unwrap_or_default(), stream));
            if held.len() > 512 {
                held.pop_front();
            }
        }
    });
    format!("http://{address}")
}

/// Receives DNS queries and never answers; returns the content of a `resolv.conf` for it. None without root.
pub(crate) fn silent_name_server() -> Option<String> {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).ok()?;
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while socket.recv_from(&mut question).is_ok() {}
    });
    let may_unshare = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    may_unshare.then(|| {
        format!(
            "nameserver {NAME_SERVER}\nsearch a.example b.example c.example\noptions timeout:5 attempts:2 ndots:5\n"
        )
    })
}

/// Starts a program in a mount namespace in which names are looked up at the silent server.
pub(crate) fn with_resolver(cluster: &Cluster, resolv: &str) -> Command {
    let file = cluster.folder.join("resolv.conf");
    std::fs::write(&file, resolv).expect("a file in the cluster's folder");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#]).arg(file);
    command.arg(env!("CARGO_BIN_EXE_hpalite"));
    command
}
