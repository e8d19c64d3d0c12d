//! Reads of external metrics like the kube-apiserver's: kept-alive TLS with the front proxy's certificate.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use hpalite::http::tls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::cluster::{APISERVICE, Cluster, wait_for};
use crate::{NAMESPACE, VALUE, name};

pub(crate) struct Found {
    waits: Vec<Duration>,
    took: Duration,
}

impl Found {
    pub(crate) fn count(&self) -> usize {
        self.waits.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.waits.len() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn quantiles(&self) -> String {
        let at = |share: f64| self.waits[((self.waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        format!("{:.2} {:.2} {:.2} ms", at(0.5), at(0.99), at(0.999))
    }
}

/// Reads the metrics of all objects in turn over this number of connections; every answer is checked.
pub(crate) fn run(cluster: &Cluster, port: u16, connections: usize, objects: usize, time: Duration) -> Found {
    let config = config(cluster);
    let stop = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(connections + 1));
    let threads: Vec<_> = (0..connections)
        .map(|n| {
            let (stop, start, config) = (Arc::clone(&stop), Arc::clone(&start), Arc::clone(&config));
            std::thread::spawn(move || {
                let mut client = connect(port, &config).expect("a connection");
                let requests: Vec<Vec<u8>> = (0..objects).map(request).collect();
                let mut waits = Vec::with_capacity(1 << 16);
                let mut buffer = vec![0; 16 * 1024];
                start.wait();
                let mut next = n;
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answer = ask(&mut client, &requests[next % objects], &mut buffer).expect("an answer");
                    waits.push(asked.elapsed());
                    check(answer).expect("the right answer");
                    next += connections;
                }
                waits
            })
        })
        .collect();
    start.wait();
    let started = Instant::now();
    std::thread::park_timeout(time);
    stop.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let took = started.elapsed();
    waits.sort_unstable();
    Found { waits, took }
}

/// Returns when the metric of an object is served for the first time.
pub(crate) fn first(cluster: &Cluster, port: u16, object: usize) -> Instant {
    let config = config(cluster);
    let request = request(object);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let answer = connect(port, &config)
            .and_then(|mut client| ask(&mut client, &request, &mut buffer).map(|answer| check(answer).is_ok()));
        if answer.unwrap_or(false) {
            return Instant::now();
        }
        // The pause between two attempts.
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn config(cluster: &Cluster) -> Arc<ClientConfig> {
    let pki = cluster.env("CLUSTER_PKI");
    let certificate = CertificateDer::from_pem_file(format!("{pki}/front-proxy-client.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{pki}/front-proxy-client.key")).unwrap();
    // The same bundle that the kube-apiserver trusts.
    let bundle = wait_for("the caBundle of the APIService", || {
        let found = cluster.get("apiservice", "", APISERVICE)?;
        Some(hpalite_base64(found["spec"]["caBundle"].as_str()?))
    });
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(&bundle) {
        roots.add(ca.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

/// Decodes by way of PEM, whose body is base64.
fn hpalite_base64(text: &str) -> Vec<u8> {
    let sextet = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(sextet).collect();
    let bytes = digits.chunks(4).flat_map(|chunk| {
        let word = chunk.iter().enumerate().fold(0u32, |word, (n, digit)| word | u32::from(*digit) << (18 - 6 * n));
        word.to_be_bytes()[1..chunk.len()].to_vec()
    });
    bytes.collect()
}

pub(crate) fn connect(port: u16, config: &Arc<ClientConfig>) -> std::io::Result<Client> {
    let tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let name = ServerName::try_from("hpalite.hpalite.svc").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    Ok(StreamOwned::new(connection, tcp))
}

fn request(object: usize) -> Vec<u8> {
    format!(
        "GET /apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/s0-prometheus\
         ?labelSelector=scaledobject.keda.sh%2Fname%3D{} HTTP/1.1\r\n\
         Host: 127.0.0.1:6443\r\n\
         User-Agent: kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/0000000/horizontal-pod-autoscaler\r\n\
         Accept: application/vnd.kubernetes.protobuf, */*\r\nAccept-Encoding: gzip\r\n\
         X-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Host: 127.0.0.1:6443\r\nX-Forwarded-Proto: https\r\n\
         X-Remote-User: system:serviceaccount:kube-system:horizontal-pod-autoscaler\r\n\
         X-Remote-Group: system:serviceaccounts\r\nX-Remote-Group: system:authenticated\r\n\r\n",
        name(object)
    )
    .into_bytes()
}

/// Reads an object's metric once, and checks the answer.
pub(crate) fn read(client: &mut Client, object: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    check(ask(client, &request(object), &mut buffer)?).map_err(std::io::Error::other)
}

/// Sends one request; returns the answer with status line, head and body.
fn ask<'a>(client: &mut Client, request: &[u8], buffer: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
    client.write_all(request)?;
    let (mut have, mut want) = (0, None);
    while want.is_none_or(|want| have < want) {
        let n = client.read(&mut buffer[have..])?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        have += n;
        want = want.or_else(|| {
            let head = buffer[..have].windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
            let text = std::str::from_utf8(&buffer[..head]).ok()?.to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"))?;
            Some(head + length.trim().parse::<usize>().ok()?)
        });
    }
    Ok(&buffer[..have])
}

fn check(answer: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(answer).map_err(|error| error.to_string())?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let list: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {text}"))?;
    let is_right = text.starts_with("HTTP/1.1 200 ")
        && list["kind"] == "ExternalMetricValueList"
        && list["items"].as_array().is_some_and(|items| items.len() == 1)
        && list["items"][0]["value"] == VALUE;
    if is_right { Ok(()) } else { Err(text.to_owned()) }
}
