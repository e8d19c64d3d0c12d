//! Requests per second through a gate with TLS, and the latency for clients.
//!
//! `cargo bench --bench http` starts gates in this process and sends requests over kept-alive connections, each from
//! a thread. Server and clients share the machine, so only compare figures of one machine. Seconds per run:
//! `HPALITE_BENCH_SECONDS`, 5 by default.
//!
//! The first runs show the gate itself, with an external metric as answer that is always the same; the last ones show reads
//! of metrics of objects by the daemon's own handlers ([`custom`]), which the front proxy sends.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, dead_code, missing_docs)]

#[path = "http/custom.rs"]
mod custom;
#[path = "../support/fake_prometheus.rs"]
mod fake_prometheus;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime};

use custom::{Custom, READS};
use hpalite::http::certificates::{OwnCertificates, ServiceNames};
use hpalite::http::front_proxy::{FrontProxyTrust, IdentityHeaders};
use hpalite::http::gate::{FromMemory, Gate, GateConfig};
use hpalite::http::tls::{self, TlsState};
use hpalite::http::{Handler, Request, Response};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The size of one metric value list.
const BODY: &str = r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":[{"metricName":"s0-prometheus","metricLabels":null,"timestamp":"2026-01-02T03:04:05Z","value":"2500m"}]}"#;

/// What every list of one value ends with.
const END: &[u8] = b"\"}]}";

const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dapi";

/// Returns a request similar to a kube-apiserver's for an HPA.
fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\n\
         Host: 10.0.0.7:6443\r\nUser-Agent: kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/0000000/horizontal-pod-autoscaler\r\n\
         Accept: application/vnd.kubernetes.protobuf, */*\r\nAccept-Encoding: gzip\r\n\
         X-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Host: 10.0.0.7:6443\r\nX-Forwarded-Proto: https\r\n\
         X-Remote-User: system:serviceaccount:kube-system:horizontal-pod-autoscaler\r\n\
         X-Remote-Group: system:serviceaccounts\r\nX-Remote-Group: system:authenticated\r\n\r\n"
    )
    .into_bytes()
}

fn main() {
    let seconds = std::env::var("HPALITE_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let names = ServiceNames { service: "hpalite".into(), namespace: "bench".into() };
    let own = OwnCertificates::generate(&names, SystemTime::now()).unwrap();
    let serving = own.serving().unwrap();
    let tls = TlsState::new(tls::provider(), serving.chain, serving.key).unwrap();
    let tls = Arc::new(tls);
    let start = |patient_workers: usize, from_memory: Option<FromMemory>, handler: Handler| {
        Gate::start(GateConfig {
            name: "bench".into(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            tls: Some(Arc::clone(&tls)),
            workers: 4,
            patient_workers,
            from_memory,
            max_connections: 4096,
            handler,
        })
        .unwrap()
    };
    let fixed: Handler = Arc::new(|_: &Request| Response::json(200, BODY));
    let gate = start(0, Some(Arc::new(|_: &Request| Some(Response::json(200, BODY)))), Arc::clone(&fixed));
    let through_handler = start(0, None, fixed);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(own.ca_pem.as_bytes()).unwrap()).unwrap();
    let client = || {
        ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
    };
    let config = Arc::new(client().with_no_client_auth());

    println!("resident at start: {} KiB", resident_kib());
    for connections in [4, 64] {
        for (how, gate) in [("from memory", &gate), ("by the handler", &through_handler)] {
            print!("{how:15} ");
            run(gate.local_addr(), &config, EXTERNAL, connections, Duration::from_secs(seconds));
        }
    }
    let before = resident_kib();
    let idle: Vec<_> = (0..500).map(|_| connect(gate.local_addr(), &config, &request(EXTERNAL))).collect();
    println!("500 idle tls connections: {} KiB more, both ends counted", resident_kib().saturating_sub(before));
    drop(idle);

    let (chain, key) = front_proxy(&tls);
    let front_proxy = Arc::new(client().with_client_auth_cert(chain, key).unwrap());
    let custom = Custom::start();
    let known = Arc::clone(&custom);
    let at_once: FromMemory = Arc::new(move |request: &Request| known.at_once(request));
    let of_objects = start(8, Some(at_once), Arc::new(move |request: &Request| custom.handle(request)));
    for (how, path) in READS {
        print!("{how:15} ");
        run(of_objects.local_addr(), &front_proxy, path, 4, Duration::from_secs(seconds));
    }
}

/// Lets a new authority make front proxies, and returns the certificate of one with its key.
fn front_proxy(tls: &TlsState) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "front-proxy-ca");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(authority, key);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "front-proxy-client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let names = vec!["front-proxy-client".to_owned()];
    let trust = FrontProxyTrust::new(vec![ca], names, IdentityHeaders::default(), &tls::provider()).unwrap();
    tls.set_front_proxy(Some(Arc::new(trust)));
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>, request: &[u8]) -> Client {
    let name = ServerName::try_from("hpalite.bench.svc").unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut client = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket);
    ask(&mut client, request, &mut [0; 4096]);
    client
}

fn ask(client: &mut Client, request: &[u8], buffer: &mut [u8]) {
    client.write_all(request).unwrap();
    let mut have = 0;
    while !buffer[..have].ends_with(END) {
        let n = client.read(&mut buffer[have..]).unwrap();
        assert!(n > 0, "closed after {}", String::from_utf8_lossy(&buffer[..have]));
        have += n;
        let is_fine = have < 13 || buffer.starts_with(b"HTTP/1.1 200 ");
        assert!(is_fine, "{}", String::from_utf8_lossy(&buffer[..have]));
    }
}

fn run(address: SocketAddr, config: &Arc<ClientConfig>, path: &'static str, connections: usize, time: Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(connections + 1));
    let threads: Vec<_> = (0..connections)
        .map(|_| {
            let (stop, start, config) = (Arc::clone(&stop), Arc::clone(&start), Arc::clone(config));
            let client = move || {
                let request = request(path);
                let mut client = connect(address, &config, &request);
                let mut buffer = [0; 4096];
                let mut waits_ns = Vec::with_capacity(1 << 16);
                start.wait();
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    ask(&mut client, &request, &mut buffer);
                    waits_ns.push(u64::try_from(asked.elapsed().as_nanos()).unwrap());
                }
                waits_ns
            };
            std::thread::Builder::new().name("client".into()).spawn(client).unwrap()
        })
        .collect();
    start.wait();
    let started = Instant::now();
    let cpu = cpu_seconds();
    std::thread::park_timeout(time);
    // Read before the clients' threads end, with whom their CPU time disappears.
    let (clients, server) = (cpu_seconds().0 - cpu.0, cpu_seconds().1 - cpu.1);
    stop.store(true, Ordering::Relaxed);
    let mut waits: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let elapsed = started.elapsed().as_secs_f64();
    waits.sort_unstable();
    let each = |seconds: f64| seconds * 1e6 / waits.len() as f64;
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    println!(
        "{connections:3} connections: {:7.0} requests/s, p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, cpu each {:.1} us (clients {:.1} us), resident {} KiB",
        waits.len() as f64 / elapsed,
        at(0.5),
        at(0.99),
        at(0.999),
        each(server),
        each(clients),
        resident_kib(),
    );
}

/// Returns the CPU time so far of the clients' threads, and of all others.
fn cpu_seconds() -> (f64, f64) {
    let (mut clients, mut others) = (0.0, 0.0);
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        *(if name.ends_with("(client") { &mut clients } else { &mut others }) += ticks / 100.0;
    }
    (clients, others)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
