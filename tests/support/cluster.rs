//! The real control plane for tests: one per test run, and a namespace per test. Everything ends with the process
//! (`tests/cluster/up --parent`).
//!
//! If its parts are missing, tests that need it fail with the reason: they are never skipped.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hpalite::kube::client::Client;
use hpalite::kube::config::ClusterConfig;
use hpalite::kube::request::{Request, Resource};
use serde_json::Value;

/// Far longer than anything here takes on a busy machine with two cores.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// How `timeout` ends when the program did not.
const TIMED_OUT: i32 = 124;

/// A program that is ended after [`DEADLINE`]: one that hangs fails its own test, and does not hold up the others that
/// wait for its control plane until the whole run is given up.
pub(crate) fn bounded(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", &DEADLINE.as_secs().to_string()]).arg(program);
    command
}

/// A running control plane: etcd, API server, controller manager, Prometheus, exporter.
pub(crate) struct Cluster {
    pub(crate) folder: PathBuf,
    env: BTreeMap<String, String>,
    /// For repeated reads, since a kubectl each would cost more than the rest of a test.
    admin: Client,
}

/// The control plane of this test run, started when it is first used.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::start(&[]);
        cluster.install();
        cluster
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Cluster {
    /// Starts another control plane, with additional arguments for `tests/cluster/up`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let parent = std::process::id().to_string();
        let output = Command::new(root().join("tests/cluster/up"))
            .args(["--parent", &parent])
            .args(arguments)
            .stderr(Stdio::piped())
            .output()
            .expect("tests/cluster/up can be run");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "no control plane, so no cluster test can pass: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let folder = PathBuf::from(stdout.lines().last().expect("up prints its folder"));
        let text = fs::read_to_string(folder.join("env")).expect("up writes env");
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let env: BTreeMap<String, String> =
            pairs.map(|(key, value)| (key.to_owned(), value.trim_matches('\'').to_owned())).collect();
        let admin = ClusterConfig::load(Some(Path::new(&env["KUBECONFIG"]))).expect("up writes a kubeconfig");
        Self { folder, env, admin: Client::new(admin) }
    }

    /// Applies CRDs and base like an administrator, with the Service pointing to this host: its port is that of the
    /// daemon that serves the API.
    pub(crate) fn install(&self) {
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &path("k8s/crds")]);
        // Restores what tests have patched; a Service that has pointed to a daemon cannot be patched back.
        self.kubectl(&["delete", "service", "hpalite", "-n", "hpalite", "--ignore-not-found"]);
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &path("k8s/base")]);
    }

    /// Makes the cluster's watchdog end a process with the cluster, since statics of a test process are never dropped.
    pub(crate) fn adopt(&self, name: &str, pid: u32) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Fields after the command's name, which ends with the last parenthesis; the start time is the 22nd of all.
        let Some(start) = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)) else { return };
        let mut pids = fs::File::options().append(true).open(self.folder.join("pids")).expect("up writes pids");
        writeln!(pids, "{name} {pid} {start}").expect("a line is added");
    }

    pub(crate) fn env(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("{name} is not in the cluster's env"))
    }

    pub(crate) fn prometheus(&self) -> &str {
        self.env("PROMETHEUS_URL")
    }

    /// Runs kubectl as administrator; panics with its error output if it fails.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_with(arguments, "")
    }

    pub(crate) fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> Result<String, String> {
        let mut child = bounded(Path::new(self.env("ASSETS")).join("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", self.env("KUBECONFIG"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl can be run");
        child.stdin.take().expect("stdin is piped").write_all(stdin.as_bytes()).expect("kubectl reads its input");
        let output = child.wait_with_output().expect("kubectl ends");
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(TIMED_OUT) => Err(format!("not done after {DEADLINE:?}")),
            _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Applies manifests (YAML or JSON text).
    pub(crate) fn apply(&self, manifest: &str) {
        self.try_apply(manifest).unwrap_or_else(|error| panic!("{error}\n{manifest}"));
    }

    pub(crate) fn try_apply(&self, manifest: &str) -> Result<String, String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// Returns an object as JSON; `None` if it does not exist. Kinds are those of [`collection`].
    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let path = format!("{}/{name}", collection(kind, namespace));
        match self.admin.json(&Request::get_path(&path)) {
            Ok(value) => Some(value),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("get {kind} {namespace}/{name}: {error}"),
        }
    }

    /// Creates an object as administrator with strict field validation; the error is the API server's answer. A dry run
    /// leaves nothing behind.
    pub(crate) fn create_strictly(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<(), String> {
        let namespace = object["metadata"]["namespace"].as_str();
        let request = resource.create(namespace, object.to_string().into_bytes()).map_err(|error| error.to_string())?;
        let request = request.with_query("fieldValidation", "Strict");
        let request = if dry_run { request.with_query("dryRun", "All") } else { request };
        self.admin.json::<Value>(&request).map(drop).map_err(|error| error.to_string())
    }

    /// Returns all objects of a kind in a namespace.
    pub(crate) fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let list: Value = self.admin.json(&Request::get_path(collection(kind, namespace))).expect("a list");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Sends a `GET` of a raw path as administrator.
    pub(crate) fn raw(&self, path: &str) -> Result<Value, String> {
        let text = self.try_kubectl(&["get", "--raw", path])?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// Returns `spec.replicas` of a Deployment.
    pub(crate) fn replicas(&self, namespace: &str, deployment: &str) -> Option<i64> {
        self.get("deployment", namespace, deployment)?["spec"]["replicas"].as_i64()
    }

    /// Creates a namespace with a unique name.
    pub(crate) fn namespace(&self, purpose: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{purpose}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]);
        name
    }

    /// Creates a Deployment whose pods do not run, since `spec.replicas` needs no kubelet.
    pub(crate) fn deployment(&self, namespace: &str, name: &str, replicas: u32) {
        self.apply(&deployment(namespace, name, replicas));
    }

    /// Sets gauges of the exporter, e.g. `load{app="web"}=500`, and waits until Prometheus has scraped them.
    pub(crate) fn set_gauge(&self, gauge: &str, value: f64) {
        let pair: String = format!("{gauge}={value}")
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || byte == b'=' {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        http_get(&format!("{}/set?{pair}", self.env("EXPORTER_URL")));
        let query = gauge.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let url = format!("{}/api/v1/query?query={query}", self.prometheus());
        wait_for(&format!("Prometheus to see {gauge}={value}"), || {
            let answer: Value = serde_json::from_str(&http_get(&url)).ok()?;
            let seen = answer["data"]["result"][0]["value"][1].as_str()?.parse::<f64>().ok()?;
            (seen == value).then_some(())
        });
    }

    /// Returns Kubernetes Events about an object, as (type, reason, note).
    pub(crate) fn events(&self, namespace: &str, name: &str) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = self.list("event", namespace).into_iter().filter(|event| event["regarding"]["name"] == name);
        about.map(|event| (text(&event["type"]), text(&event["reason"]), text(&event["note"]))).collect()
    }
}

/// Returns the path of a kind's objects. ScaledObjects of the old API have a kind of their own here.
fn collection(kind: &str, namespace: &str) -> String {
    let (group, plural) = match kind {
        "scaledobject" => ("keda.sh/v1alpha1", "scaledobjects"),
        "scaledobject-v1" => ("keda.k8s.io/v1alpha1", "scaledobjects"),
        "triggerauthentication" => ("keda.sh/v1alpha1", "triggerauthentications"),
        "clustertriggerauthentication" => return format!("/apis/keda.sh/v1alpha1/{kind}s"),
        "hpa" => ("autoscaling/v2", "horizontalpodautoscalers"),
        "deployment" => ("apps/v1", "deployments"),
        "statefulset" => ("apps/v1", "statefulsets"),
        "replicaset" => ("apps/v1", "replicasets"),
        "event" => ("events.k8s.io/v1", "events"),
        "apiservice" => return format!("/apis/apiregistration.k8s.io/v1/{kind}s"),
        "namespace" => return format!("/api/v1/{kind}s"),
        "pod" => return format!("/api/v1/namespaces/{namespace}/{kind}s"),
        // plural.group, for kinds that a test defines.
        other => {
            let (plural, group) = other.split_once('.').unwrap_or_else(|| panic!("unknown kind {other}"));
            return format!("/apis/{group}/v1/namespaces/{namespace}/{plural}");
        }
    };
    format!("/apis/{group}/namespaces/{namespace}/{plural}")
}

pub(crate) fn deployment(namespace: &str, name: &str, replicas: u32) -> String {
    serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "c", "image": "x" }] },
            },
        },
    })
    .to_string()
}

/// Returns a condition of a ScaledObject as (status, reason, message).
pub(crate) fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let found = object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// The real binary, running with a cluster under its own service account.
pub(crate) struct Daemon {
    child: Option<Child>,
    pub(crate) folder: tempfile::TempDir,
    db: PathBuf,
    pub(crate) http: String,
    pub(crate) port: u16,
    #[allow(dead_code, reason = "for the benchmarks, which share this file")]
    pub(crate) started: Instant,
}

impl Daemon {
    /// Starts the daemon that serves the cluster's APIService, and waits until metrics can be read through it. One per
    /// cluster.
    pub(crate) fn serve(cluster: &Cluster, arguments: &[&str]) -> Self {
        let daemon = Self::start(cluster, arguments);
        daemon.route(cluster);
        daemon
    }

    /// Points the Service at this daemon.
    pub(crate) fn route_service(&self, cluster: &Cluster) {
        let service = format!(
            r#"[{{"op":"replace","path":"/spec","value":{{"type":"ExternalName","externalName":"localhost","ports":[{{"port":{}}}]}}}}]"#,
            self.port
        );
        cluster.kubectl(&["patch", "service", "hpalite", "-n", "hpalite", "--type=json", "-p", &service]);
    }

    /// Points the Service and the APIService at this daemon.
    pub(crate) fn route(&self, cluster: &Cluster) {
        self.route_service(cluster);
        let apiservice = format!(r#"{{"spec":{{"service":{{"port":{}}}}}}}"#, self.port);
        cluster.kubectl(&["patch", "apiservice", APISERVICE, "--type=merge", "-p", &apiservice]);
        wait_for("the APIService to be Available", || {
            let found = cluster.get("apiservice", "", APISERVICE)?;
            let available =
                found["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Available")?.clone();
            (available["status"] == "True").then_some(())
        });
    }

    /// Starts a daemon under the service account of `k8s/base`, and waits until it is ready.
    pub(crate) fn start(cluster: &Cluster, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(&cluster.folder).expect("a temporary folder");
        Self::start_in(cluster, arguments, folder)
    }

    /// The same in a folder that already has a database.
    pub(crate) fn start_in(cluster: &Cluster, arguments: &[&str], folder: tempfile::TempDir) -> Self {
        let mut daemon = Self::spawn_in(cluster, arguments, folder);
        let url = format!("{}/readyz", daemon.http);
        wait_for("the daemon to be ready", || {
            if let Some(status) = daemon.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the daemon ended with {status}: {}", daemon.log());
            }
            (try_http_get(&url).ok()? == "ok").then_some(())
        });
        daemon
    }

    /// The same without waiting.
    pub(crate) fn spawn_in(cluster: &Cluster, arguments: &[&str], folder: tempfile::TempDir) -> Self {
        Self::spawn(cluster, Command::new(env!("CARGO_BIN_EXE_hpalite")), arguments, folder)
    }

    /// The same with a command that executes the program in a special environment.
    #[allow(dead_code, reason = "for the benchmarks, which share this file")]
    pub(crate) fn spawn_with(cluster: &Cluster, program: Command, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(&cluster.folder).expect("a temporary folder");
        Self::spawn(cluster, program, arguments, folder)
    }

    fn spawn(cluster: &Cluster, program: Command, arguments: &[&str], folder: tempfile::TempDir) -> Self {
        let db = folder.path().join("hpalite.db");
        Self::spawn_as(cluster, program, &service_account_kubeconfig(cluster), db, arguments, folder)
    }

    /// The same with another kubeconfig and another place for the database.
    pub(crate) fn spawn_as(
        cluster: &Cluster,
        mut program: Command,
        config: &str,
        db: PathBuf,
        arguments: &[&str],
        folder: tempfile::TempDir,
    ) -> Self {
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, config).expect("kubeconfig written");
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).expect("log opened");
        let (port, http_port) = (free_port(), free_port());
        let started = Instant::now();
        let child = program
            .arg("run")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .arg("--db")
            .arg(&db)
            .args([
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--http",
                &format!("127.0.0.1:{http_port}"),
                "--ui",
                "127.0.0.1:0",
                "--drain",
                "0",
                // The tests' metric servers listen there.
                "--allow-network",
                "127.0.0.0/8",
                "--allow-network",
                "::1",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon can be run");
        cluster.adopt("hpalite", child.id());
        Self { child: Some(child), folder, db, http: format!("http://127.0.0.1:{http_port}"), port, started }
    }

    #[allow(dead_code, reason = "for the benchmarks, which share this file")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns one value of `/metrics`.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = http_get(&format!("{}/metrics", self.http));
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Returns the rows of a statement on the history, as JSON.
    pub(crate) fn sql(&self, statement: &str) -> Vec<Value> {
        sql(&self.db(), statement)
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.db.clone()
    }

    /// Sends SIGTERM; returns the time until the process has ended, and its folder with the database.
    pub(crate) fn stop(mut self) -> (Duration, tempfile::TempDir) {
        let mut child = self.child.take().expect("the daemon runs");
        let started = Instant::now();
        signal(child.id(), "TERM");
        wait_for("the daemon to end", || {
            child.try_wait().expect("it can be waited for").map(|status| assert!(status.success(), "{status}"))
        });
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"));
        (started.elapsed(), folder)
    }

    /// Waits until it ends by itself; returns its exit code, and its folder with the database.
    pub(crate) fn wait(mut self) -> (Option<i32>, tempfile::TempDir) {
        let mut child = self.child.take().expect("the daemon runs");
        let status = wait_for("the daemon to end", || child.try_wait().expect("it can be waited for"));
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"));
        (status.code(), folder)
    }

    /// Returns the answer of `/readyz` without its line end; "ok" if ready.
    pub(crate) fn readiness(&self) -> String {
        let settings = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = settings.timeout_global(Some(Duration::from_secs(60))).build().into();
        let answer = agent.get(format!("{}/readyz", self.http)).call();
        let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        text.map_or_else(|error| error.to_string(), |text| text.trim_end().to_owned())
    }

    /// Sends SIGKILL; returns the folder with the database.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An orderly end, so that the next daemon of this cluster need not wait for the Lease to expire.
            signal(child.id(), "TERM");
            let until = Instant::now() + Duration::from_secs(60);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "--- log of the daemon\n{}", self.log());
        }
    }
}

/// The APIService of `k8s/base`.
pub(crate) const APISERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// Returns the rows of a statement on a history, as JSON.
pub(crate) fn sql(db: &Path, statement: &str) -> Vec<Value> {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["sql", "--format", "json", "--db"])
        .arg(db)
        .arg(statement)
        .output()
        .expect("hpalite sql can be run");
    assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

pub(crate) fn service_account_kubeconfig(cluster: &Cluster) -> String {
    let token = cluster.kubectl(&["create", "token", "hpalite", "-n", "hpalite", "--duration=4h"]);
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u", "namespace": "hpalite" } }],
        "clusters": [{ "name": "k", "cluster": {
            "server": cluster.env("APISERVER_URL"), "certificate-authority": format!("{}/ca.crt", cluster.env("CLUSTER_PKI")),
        } }],
        "users": [{ "name": "u", "user": { "token": token.trim() } }],
    })
    .to_string()
}

pub(crate) fn path(relative: &str) -> String {
    root().join(relative).display().to_string()
}

/// Returns a port that is free now; the daemon that gets it binds it immediately.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill can be run");
    assert!(status.success());
}

pub(crate) fn http_get(url: &str) -> String {
    try_http_get(url).unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

pub(crate) fn try_http_get(url: &str) -> Result<String, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into();
    agent
        .get(url)
        .call()
        .and_then(|mut response| response.body_mut().read_to_string())
        .map_err(|error| error.to_string())
}

/// Polls a condition until it holds; panics after the deadline. No test sleeps for a fixed time.
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_until(what, DEADLINE, condition)
}

pub(crate) fn wait_until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        // The pause between two attempts, which does not wait for an event.
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Like [`wait_for`], for a condition that returns what it saw instead, which the panic repeats.
pub(crate) fn wait_seeing<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(seen) => assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}, seen: {seen}"),
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Returns the current time in Kubernetes' format.
pub(crate) fn now_rfc3339() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().expect("date can be run");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
