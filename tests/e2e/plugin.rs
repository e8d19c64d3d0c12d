//! `kubectl hpalite` against a pod, through the API server and the library that kubelets serve exec by.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::{Cluster, http_get, wait_seeing};

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// Starts it; returns the first line that it prints.
    fn start(cluster: &Cluster, mut command: Command) -> (Self, String) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        cluster.adopt("test", child.id());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().to_owned())
    }
}

/// A person's machine: kubectl, the plugin, and a kubeconfig whose context has the namespace.
struct Machine<'a> {
    case: &'a Case<'a>,
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(case: &'a Case<'a>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["kubectl-hpalite", "kubectl_complete-hpalite"] {
            symlink(env!("CARGO_BIN_EXE_hpalite"), folder.path().join(name)).unwrap();
        }
        let mut config: Value = serde_json::from_slice(&fs::read(case.cluster.env("KUBECONFIG")).unwrap()).unwrap();
        let mut there = config["contexts"][0].clone();
        there["name"] = json!("there");
        there["context"]["namespace"] = json!(case.namespace);
        config["contexts"].as_array_mut().unwrap().push(there);
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { case, folder, kubeconfig }
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap_or_default());
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("PATH", path).stdin(Stdio::null());
        command
    }

    /// Runs the plugin on the pod of this namespace.
    fn plugin(&self, arguments: &[&str]) -> Output {
        let service = format!("--service=x.{}", self.case.namespace);
        let mut command = self.command(&self.folder.path().join("kubectl-hpalite"), arguments);
        command.args(["--context", "there", &service]).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.plugin(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what the pod or the plugin refuses; returns its exit code and what it says.
    fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.plugin(arguments);
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

/// Makes a node whose kubelet this host stands in for, and a pod on it that says that it is the daemon.
fn with_pod(case: &Case<'_>) -> Program {
    let (cluster, daemon) = daemon();
    let pki = Path::new(cluster.env("CLUSTER_PKI"));
    let mut kubelet = Command::new(Path::new(cluster.env("ASSETS")).join("kubelet"));
    kubelet.args(["-program", env!("CARGO_BIN_EXE_hpalite")]);
    kubelet.arg("-certificate").arg(pki.join("apiserver.crt")).arg("-key").arg(pki.join("apiserver.key"));
    // What the pod's service account is in a real one.
    kubelet.env("KUBECONFIG", daemon.folder.path().join("kubeconfig"));
    let (kubelet, port) = Program::start(cluster, kubelet);
    let name = &case.namespace;
    case.apply(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } }));
    let addresses = json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": port.parse::<u16>().expect("a port") } },
    } });
    let patch = |kind: &str, name: &str, patch: &Value| {
        case.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch.to_string()]);
    };
    patch("node", name, &addresses);
    let log = daemon.log();
    let (_, page) = log.split_once("gate=ui address=").expect("the page listens");
    case.apply(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "there", "namespace": name, "labels": { "app.kubernetes.io/name": "hpalite" } },
        "spec": {
            "nodeName": name, "automountServiceAccountToken": false,
            "containers": [{ "name": "proxy", "image": "x" }, { "name": "hpalite", "image": "x", "args": [
                "run", format!("--db={}", daemon.db().display()),
                "--ui", page.split_whitespace().next().unwrap(), "--service=hpalite.hpalite",
            ] }],
        },
    }));
    patch("pod", "there", &json!({ "status": { "phase": "Running" } }));
    kubelet
}

#[test]
fn the_plugin_runs_the_commands_in_the_pod() {
    let case = Case::new("plugin").deployment(0);
    let machine = Machine::new(&case);
    let (code, said) = machine.refused(&["why", "so"]);
    assert!(
        code == Some(2)
            && said.contains("no pod with the label app.kubernetes.io/name=hpalite runs in namespace plugin"),
        "{said}"
    );
    let _kubelet = with_pod(&case);
    let source = Source::new(30.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);

    // The context's namespace is the object's, and the history is written within a second or so.
    wait_seeing("why to tell of the activation", || {
        let text = machine.done(&["why", "so", "--since", "1h"]);
        text.contains("0→1").then_some(()).ok_or(text)
    });
    assert!(machine.done(&["history", "so", "--width", "80"]).contains("threshold 10 per replica"));
    assert_eq!(machine.done(&["sql", "-o", "csv", "SELECT 1 AS one"]).trim(), "one\r\n1".trim());
    // The exit code and the words are those of the command in the pod.
    let (code, said) = machine.refused(&["why", "none"]);
    let unknown = format!("the history knows no ScaledObject {}/none", case.namespace);
    assert!(code == Some(2) && said.contains(&unknown), "{code:?} {said}");
    // Output of megabytes arrives whole.
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                SELECT i, replace(hex(zeroblob(5000)), '0', 'x') AS text FROM n";
    let text = machine.done(&["sql", "-o", "csv", many]);
    assert_eq!((text.lines().count(), text.matches('x').count()), (301, 300 * 10_000 + 1));
    // Files of this machine go with the command.
    let mut other = case.object("so");
    other["spec"]["triggers"][0]["metadata"]["threshold"] = json!("5");
    let file = machine.folder.path().join("other.yaml");
    fs::write(&file, other.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let report: Value = serde_json::from_str(&machine.done(&[
        "replay",
        "so",
        "--since",
        "1h",
        "--json",
        "--candidate",
        file,
        "--set",
        "spec.cooldownPeriod=9",
        "--candidate",
        file,
    ]))
    .unwrap();
    let changes: Vec<&str> =
        report["candidates"].as_array().unwrap().iter().filter_map(|one| one["changes"][0].as_str()).collect();
    let threshold = "spec.triggers[0].metadata.threshold: \"10\" -> \"5\"";
    assert_eq!(changes, ["spec.cooldownPeriod: 2 -> 9", threshold, threshold]);

    let status: Value = serde_json::from_str(&machine.done(&["status", "-o", "json", "-n", &case.namespace])).unwrap();
    assert_eq!(
        (&status["objects"][0]["name"], &status["instance"]["metrics_api"]),
        (&json!("so"), &json!(true)),
        "{status}"
    );
    assert!(status["instance"]["leader"].as_str().is_some_and(|leader| !leader.is_empty()), "{status}");
    assert_eq!(status["instance"]["problems"], json!([]), "{status}");
    // Other tests' metric servers are left out.
    let screen = machine.done(&["status", "-n", &case.namespace]);
    assert!(
        screen.contains("METRIC SERVER") && screen.contains(&source.url()) && screen.contains("up for"),
        "{screen}"
    );

    // Freezing needs no pod, only the person's own rights.
    machine.done(&["freeze", "so", "--until", "1h", "--reason", "INC-7"]);
    assert_eq!(case.object("so")["metadata"]["annotations"]["autoscaling.keda.sh/paused"], "true");
    machine.done(&["thaw", "so"]);

    // By kubectl itself, and as it completes.
    let kubectl = Path::new(case.cluster.env("ASSETS")).join("kubectl");
    let service = format!("--service=x.{}", case.namespace);
    let output =
        machine.command(&kubectl, &["hpalite", "sql", "SELECT 7", "--context=there", &service]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains('7'), "{output:?}");
    let words = ["__complete", "hpalite", "why", "--context=there", "s"];
    let output = machine.command(&kubectl, &words).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("so\n:4\n"), "{output:?}");

    // Whoever may not is told what it needs.
    let mut nobody = machine.command(&machine.folder.path().join("kubectl-hpalite"), &["why", "so", &service]);
    let said = nobody.arg("--kubeconfig").arg(case.cluster.env("KUBECONFIG_NOBODY")).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("pods cannot be listed in namespace") && said.contains("Forbidden"), "{said}");
}

#[test]
fn the_page_of_the_pod_comes_to_this_machine() {
    let case = Case::new("plugin-page");
    let machine = Machine::new(&case);
    let _kubelet = with_pod(&case);
    let service = format!("--service=x.{}", case.namespace);
    let mut page = machine.command(&machine.folder.path().join("kubectl-hpalite"), &["page", "--port=0", &service]);
    page.args(["--context", "there"]);
    let (_page, said) = Program::start(case.cluster, page);
    let url = said.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")).expect(&said);
    let read = |path: &str| http_get(&format!("{}{path}", url.trim_end_matches('/')));
    assert!(read("/").contains("<title>hpalite</title>"));
    // As a browser loads the rest, at once.
    let (paths, read) = (["/api/objects", "/", "/api/objects?q=none"].repeat(4), &read);
    std::thread::scope(|scope| {
        let answers: Vec<_> = paths.iter().map(|path| scope.spawn(move || read(path).len())).collect();
        assert!(answers.into_iter().all(|answer| answer.join().unwrap() > 0));
    });
}
