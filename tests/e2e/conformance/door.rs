//! Ways to connect: to the daemon's TLS port with any certificate, or through the kube-apiserver.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::gate::support::{Authority, Holder, TlsClient, client_config, connect, read_answer, roots, status};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, wait_seeing};

/// A TLS port, and the CAs for its clients.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    name: &'static str,
    roots: RootCertStore,
    /// The same as a PEM file, for other programs.
    ca_file: tempfile::NamedTempFile,
}

impl Door {
    /// The daemon's port, verified with the caBundle of the APIService, as by the kube-apiserver.
    pub(super) fn of(cluster: &Cluster, daemon: &Daemon) -> Self {
        let template = "go-template={{.spec.caBundle | base64decode}}";
        wait_seeing("a caBundle that the daemon's certificate leads to", || {
            let ca_pem = cluster.try_kubectl(&["get", "apiservice", APISERVICE, "-o", template])?;
            let address = ([127, 0, 0, 1], daemon.port).into();
            let door = Self::new(address, "hpalite.hpalite.svc", &ca_pem);
            let mut client = door.client(None);
            client.conn.complete_io(&mut client.sock).map_err(|error| error.to_string())?;
            Ok(door)
        })
    }

    /// The kube-apiserver's own port.
    pub(super) fn of_apiserver(cluster: &Cluster) -> Self {
        let ca_pem = std::fs::read_to_string(pki(cluster, "ca.crt")).unwrap();
        let address = cluster.env("APISERVER_URL").trim_start_matches("https://").parse().unwrap();
        Self::new(address, "localhost", &ca_pem)
    }

    fn new(address: SocketAddr, name: &'static str, ca_pem: &str) -> Self {
        let ca_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca_file.path(), ca_pem).unwrap();
        Self { address, name, roots: roots(ca_pem), ca_file }
    }

    pub(super) fn config(&self, holder: Option<&Holder>) -> ClientConfig {
        client_config(self.roots.clone(), holder)
    }

    pub(super) fn client(&self, holder: Option<&Holder>) -> TlsClient {
        self.client_with(self.config(holder))
    }

    pub(super) fn client_with(&self, config: ClientConfig) -> TlsClient {
        let name = ServerName::try_from(self.name).unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(self.address))
    }

    /// Sends one GET on a new connection. `headers` are whole lines.
    pub(super) fn get(&self, holder: Option<&Holder>, target: &str, headers: &[&str]) -> Answer {
        self.ask(holder, "GET", target, headers)
    }

    pub(super) fn ask(&self, holder: Option<&Holder>, method: &str, target: &str, headers: &[&str]) -> Answer {
        let mut client = self.client(holder);
        ask(&mut client, method, target, headers)
    }

    /// Sends bytes unchanged and reads until the end; returns whatever was received.
    pub(super) fn raw(&self, holder: Option<&Holder>, bytes: &[u8]) -> String {
        let mut client = self.client(holder);
        // The server may have closed the connection already; only its earlier answer counts.
        let _ = client.write_all(bytes);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Sends one request on an existing connection.
pub(super) fn ask(client: &mut TlsClient, method: &str, target: &str, headers: &[&str]) -> Answer {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    // As for raw bytes: a refusal may arrive before everything is sent.
    let _ = client.write_all(format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n").as_bytes());
    Answer::read(client, target)
}

pub(super) struct Answer {
    pub(super) code: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    /// Reads one answer. Every failure must be readable for API clients (row 23).
    pub(super) fn read(client: &mut TlsClient, target: &str) -> Self {
        let (head, body) = read_answer(client).unwrap_or_else(|error| panic!("{target}: no answer: {error}"));
        let answer = Self { code: status(&head), head, body: String::from_utf8(body).unwrap() };
        for unwanted in ["Retry-After", "Location"] {
            assert_eq!(answer.header(unwanted), None, "{target}: {}", answer.head);
        }
        // Health answers are for people and kubelets.
        let is_health = matches!(target, "/healthz" | "/livez" | "/readyz");
        if answer.code >= 400 && !is_health {
            assert_eq!(answer.header("Content-Type"), Some("application/json"), "{target}");
            let body = answer.json();
            assert_eq!((&body["kind"], &body["apiVersion"]), (&"Status".into(), &"v1".into()), "{body}");
            assert_eq!((&body["status"], &body["code"]), (&"Failure".into(), &answer.code.into()), "{body}");
        }
        answer
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.body))
    }

    pub(super) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the value of the only item.
    pub(super) fn value(&self) -> String {
        assert_eq!(self.code, 200, "{}", self.body);
        let items = self.json()["items"].as_array().cloned().unwrap();
        assert_eq!(items.len(), 1, "{}", self.body);
        items[0]["value"].as_str().unwrap().to_owned()
    }
}

pub(super) fn pki(cluster: &Cluster, file: &str) -> std::path::PathBuf {
    Path::new(cluster.env("CLUSTER_PKI")).join(file)
}

/// Loads a CA of the cluster, to sign certificates for a test.
pub(super) fn authority(cluster: &Cluster, file: &str) -> Authority {
    let name = if file == "ca" { "test-cluster-ca" } else { "test-front-proxy-ca" };
    Authority::load(&pki(cluster, &format!("{file}.crt")), &pki(cluster, &format!("{file}.key")), name)
}

/// Loads a client certificate that was created with the cluster.
pub(super) fn holder(cluster: &Cluster, name: &str) -> Holder {
    Holder::load(&pki(cluster, &format!("{name}.crt")), &pki(cluster, &format!("{name}.key")))
}

/// Runs kubectl as an HTTP client of the daemon itself, for Go's TLS and HTTP. Without a token it would prompt for a
/// password on a terminal.
pub(super) fn kubectl_at(cluster: &Cluster, door: &Door, token: &str, path: &str) -> Result<String, String> {
    let ca = format!("--certificate-authority={}", door.ca_file.path().display());
    kubectl_raw(cluster, door, &[ca, format!("--tls-server-name={}", door.name)], token, path)
}

/// The same with another SNI, accepting any certificate.
pub(super) fn kubectl_unverified(cluster: &Cluster, door: &Door, sni: &str, path: &str) -> Result<String, String> {
    let flags = ["--insecure-skip-tls-verify".to_owned(), format!("--tls-server-name={sni}")];
    kubectl_raw(cluster, door, &flags, "nonsense", path)
}

fn kubectl_raw(cluster: &Cluster, door: &Door, flags: &[String], token: &str, path: &str) -> Result<String, String> {
    let output = Command::new(Path::new(cluster.env("ASSETS")).join("kubectl"))
        .args(["--kubeconfig=/dev/null", &format!("--server=https://{}", door.address), &format!("--token={token}")])
        .args(flags)
        .args(["get", "--raw", path])
        .stdin(Stdio::null())
        .output()
        .expect("kubectl can be run");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
