//! Faults of the API server, of what stands behind it, and of the way to it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hpalite::kube::{Client, ClusterConfig, Request};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::cluster::{Cluster, signal, wait_until};
use super::link::Mode;
use super::stage::{NAMESPACE, Outcome, Stage, pass};

/// The name under which the API server shows a certificate that can be replaced.
const API_NAME: &str = "rotating.test";

/// What the daemon trusts, and what it is trusted by; both can be replaced.
pub(crate) struct Identities {
    folder: tempfile::TempDir,
}

impl Identities {
    pub(crate) fn make() -> Self {
        let identities = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        let authority = identities.issue();
        identities.trust(&authority);
        identities
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The API server's argument for the second certificate.
    pub(crate) fn argument(&self) -> String {
        format!("--tls-sni-cert-key={},{}:{API_NAME}", self.path("api.crt").display(), self.path("api.key").display())
    }

    /// Gives the API server a certificate of a new CA, which is returned.
    fn issue(&self) -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "rotating");
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a CA").pem();
        let issuer = Issuer::new(params, key);
        let serving = CertificateParams::new(vec![API_NAME.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = serving.signed_by(&key, &issuer).expect("a certificate");
        // The API server reads both when either has changed, and keeps the pair of before if they do not match.
        write(&self.path("api.key"), &key.serialize_pem());
        write(&self.path("api.crt"), &certificate.pem());
        authority
    }

    /// Whether the API server's certificate is of this CA.
    fn is_shown(&self, cluster: &Cluster, authority: &str) -> bool {
        let mut config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u" } }],
            "clusters": [{ "name": "k" }], "users": [{ "name": "u" }],
        });
        self.enter(&mut config, cluster.env("APISERVER_URL"));
        write(&self.path("next.crt"), authority);
        config["clusters"][0]["cluster"]["certificate-authority"] = json!(self.path("next.crt"));
        let path = self.path("kubeconfig");
        write(&path, &config.to_string());
        let client = Client::new(ClusterConfig::load(Some(&path)).expect("a kubeconfig"));
        client.send(&Request::get_path("/version")).is_ok()
    }

    fn trust(&self, authority: &str) {
        write(&self.path("ca.crt"), authority);
    }

    /// Writes a token that is valid while a Secret of this name exists.
    pub(crate) fn issue_token(&self, cluster: &Cluster, secret: &str) {
        cluster.kubectl(&["create", "secret", "generic", secret, "-n", "hpalite"]);
        let token = cluster.kubectl(&[
            "create",
            "token",
            "hpalite",
            "-n",
            "hpalite",
            "--duration=4h",
            "--bound-object-kind=Secret",
            &format!("--bound-object-name={secret}"),
        ]);
        write(&self.path("token"), token.trim());
    }

    /// Puts them into a kubeconfig.
    pub(crate) fn enter(&self, config: &mut Value, server: &str) {
        config["clusters"][0]["cluster"] = json!({
            "server": server, "certificate-authority": self.path("ca.crt"), "tls-server-name": API_NAME,
        });
        config["users"][0]["user"] = json!({ "tokenFile": self.path("token") });
    }
}

/// Replaces a file as a whole, like the kubelet.
fn write(path: &std::path::Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file is written");
    fs::rename(&new, path).expect("a file is renamed");
}

/// The process of this name of the cluster, with its command line.
fn process(cluster: &Cluster, name: &str) -> (u32, Vec<String>) {
    let pids = fs::read_to_string(cluster.folder.join("pids")).expect("up writes pids");
    let line = pids.lines().rfind(|line| line.split(' ').next() == Some(name)).unwrap_or_else(|| panic!("{pids}"));
    let pid = line.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a pid");
    let line = fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    (pid, words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

fn stop(stage: &mut Stage, lasts: Duration, name: &str) -> Outcome {
    let (pid, _) = process(&stage.cluster, name);
    signal(pid, "STOP");
    pass(lasts);
    signal(pid, "CONT");
    Outcome::Made(String::new())
}

fn by_link(stage: &mut Stage, lasts: Duration, mode: Mode) -> Outcome {
    let before = stage.queries();
    stage.to_api.set(mode);
    pass(lasts);
    let asked = stage.queries() - before;
    stage.to_api.set(Mode::Open);
    Outcome::Made(format!("{asked} polls meanwhile"))
}

pub(crate) fn refusing(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Refusing)
}

pub(crate) fn unreachable(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Unreachable)
}

/// Kept connections and watches are dead without a word, new connections work: what a firewall does after an idle time.
/// How soon the writes notice is what recovery takes; how soon the watches do is seen by a new object.
pub(crate) fn silent(stage: &mut Stage, _lasts: Duration) -> Outcome {
    stage.to_api.forget();
    let began = Instant::now();
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": { "name": "new", "namespace": NAMESPACE },
        "spec": { "scaleTargetRef": { "name": "nobody" }, "triggers": [{ "type": "cpu", "metricType": "Utilization", "metadata": { "value": "50" } }] },
    });
    stage.cluster.apply(&object.to_string());
    let seen = || stage.condition("new", "Ready", "False");
    wait_until("a new object to be seen", Duration::from_secs(150), seen);
    let took = began.elapsed().as_secs_f64();
    stage.cluster.kubectl(&["delete", "scaledobject", "new", "-n", NAMESPACE]);
    Outcome::Made(format!("new connections work; a new object has a status after {took:.1} s"))
}

pub(crate) fn cutting(stage: &mut Stage, lasts: Duration) -> Outcome {
    // After the handshake, in the middle of a list.
    by_link(stage, lasts, Mode::Cutting(6_000))
}

pub(crate) fn slow(stage: &mut Stage, lasts: Duration) -> Outcome {
    by_link(stage, lasts, Mode::Slow(Duration::from_millis(500)))
}

pub(crate) fn stopped(stage: &mut Stage, lasts: Duration) -> Outcome {
    stop(stage, lasts, "kube-apiserver")
}

pub(crate) fn etcd_stopped(stage: &mut Stage, lasts: Duration) -> Outcome {
    stop(stage, lasts, "etcd")
}

/// Four fifths of the time it stands still, in pieces that are too short for anything to time out: every read and write
/// takes long, and the leader's Lease is renewed late.
pub(crate) fn etcd_slow(stage: &mut Stage, lasts: Duration) -> Outcome {
    let (pid, _) = process(&stage.cluster, "etcd");
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        signal(pid, "STOP");
        pass(Duration::from_millis(400));
        signal(pid, "CONT");
        pass(Duration::from_millis(100));
    }
    Outcome::Made(String::new())
}

pub(crate) fn controller_stopped(stage: &mut Stage, lasts: Duration) -> Outcome {
    stop(stage, lasts, "kube-controller-manager")
}

/// Ends the API server, lets etcd forget everything up to now, and starts it again.
pub(crate) fn killed(stage: &mut Stage, lasts: Duration) -> Outcome {
    let (pid, words) = process(&stage.cluster, "kube-apiserver");
    let etcd = words.iter().find_map(|word| word.strip_prefix("--etcd-servers=")).expect("etcd's address").to_owned();
    signal(pid, "KILL");
    wait_until("the API server to end", Duration::from_secs(10), || {
        (!fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false)).then_some(())
    });
    compact(&etcd);
    pass(lasts);
    let log = fs::File::options().append(true).open(stage.cluster.folder.join("log/kube-apiserver.log"));
    let log = log.expect("its log");
    #[expect(clippy::zombie_processes, reason = "the watchdog of the cluster ends it")]
    let child = Command::new(&words[0])
        .args(&words[1..])
        .current_dir(&stage.cluster.folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("its log"))
        .stderr(log)
        .spawn()
        .expect("the API server starts");
    stage.cluster.adopt("kube-apiserver", child.id());
    wait_until("the API server to be ready", Duration::from_secs(60), || {
        stage.cluster.try_kubectl(&["get", "--raw", "/readyz"]).ok()
    });
    Outcome::Made(String::new())
}

/// Raises etcd's revision beyond what anybody has seen, and drops everything before.
fn compact(etcd: &str) {
    let call = |path: &str, body: Value| -> Value {
        let url = format!("{etcd}/v3/kv/{path}");
        let mut answer = ureq::post(&url).send(body.to_string().as_bytes()).expect("etcd answers");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("JSON")
    };
    let mut revision = Value::Null;
    for _ in 0..20 {
        revision = call("put", json!({ "key": "Zmlyc3Q=", "value": "eA==" }))["header"]["revision"].clone();
    }
    call("compaction", json!({ "revision": revision, "physical": true }));
}

/// The token is void at once; its successor comes when the fault ends.
pub(crate) fn token(stage: &mut Stage, lasts: Duration) -> Outcome {
    stage.cluster.kubectl(&["delete", "secret", "first", "-n", "hpalite"]);
    // Connections of before are authenticated by each request, watches are not.
    stage.to_api.set(Mode::Refusing);
    stage.to_api.set(Mode::Open);
    pass(lasts);
    stage.identities.issue_token(&stage.cluster, "second");
    Outcome::Made(String::new())
}

/// The API server shows a certificate of another CA; the CA's certificate comes when the fault ends.
pub(crate) fn authority(stage: &mut Stage, lasts: Duration) -> Outcome {
    let authority = stage.identities.issue();
    wait_until("the API server to show the new certificate", Duration::from_secs(120), || {
        stage.identities.is_shown(&stage.cluster, &authority).then_some(())
    });
    stage.to_api.set(Mode::Refusing);
    stage.to_api.set(Mode::Open);
    pass(lasts);
    stage.identities.trust(&authority);
    Outcome::Made(String::new())
}
