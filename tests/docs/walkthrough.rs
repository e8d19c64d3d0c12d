//! Executes `k8s/walkthrough.md` on a control plane of its own.
//!
//! What this cluster lacks is replaced: no kubelet runs the pod, so hpalite runs beside the API server; no pods cause
//! load, so a gauge replaces the rate; Prometheus has another address.

use std::path::Path;
use std::process::Command;

use super::{blocks, read};
use crate::k8s::foreign_kinds;
use crate::support::cluster::{Cluster, Daemon, path, wait_seeing};

const GAUGE: &str = r#"http_requests_total{namespace="default",service="api"}"#;

struct Walk<'a> {
    cluster: &'a Cluster,
    /// A copy of the manifests with the address of this cluster's Prometheus.
    folder: tempfile::TempDir,
    daemon: Option<Daemon>,
}

impl Walk<'_> {
    fn copy_manifests(&self) {
        let (from, to) = (path("k8s"), self.folder.path().display().to_string());
        let copied = Command::new("cp").args(["-rL", &from, &to]).status().unwrap();
        assert!(copied.success());
        for name in ["scaledobject.yaml", "scaledobject-v1.yaml"] {
            let file = self.folder.path().join("k8s/samples").join(name);
            let text = std::fs::read_to_string(&file).unwrap();
            let asked = r#"sum(rate(http_requests_total{namespace="default", service="api"}[1m]))"#;
            assert!(text.contains(asked) && text.contains("http://prometheus.monitoring:9090"), "{name}");
            let text = text.replace("http://prometheus.monitoring:9090", self.cluster.prometheus());
            std::fs::write(file, text.replace(asked, &format!("sum({GAUGE})"))).unwrap();
        }
    }

    fn run(&self, script: &str) -> Result<String, String> {
        let search = format!("{}:{}", self.cluster.env("ASSETS"), std::env::var("PATH").unwrap_or_default());
        // Runs what kubectl would run in the pod.
        let in_pod = ["kubectl -n hpalite exec hpalite-0 -- /hpalite", "kubectl hpalite"];
        let script =
            in_pod.iter().fold(script.to_owned(), |script, words| script.replace(words, env!("CARGO_BIN_EXE_hpalite")));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(self.folder.path());
        command.env("PATH", search).env("KUBECONFIG", self.cluster.env("KUBECONFIG"));
        command.env("HPALITE_ALLOW_NETWORKS", "127.0.0.0/8");
        if let Some(daemon) = &self.daemon {
            command.env("HPALITE_DB", daemon.db());
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
        }
    }

    /// Replaces a block that cannot be run.
    fn stand_in(&mut self, reason: &str) {
        match reason {
            "needs the internet" => {
                self.cluster.kubectl(&["create", "namespace", "monitoring"]);
                foreign_kinds(self.cluster);
                // Enough that the wait is not satisfied by the ten replicas of the sample.
                self.cluster.set_gauge(GAUGE, 0.0);
            }
            "load, which needs pods" => self.cluster.set_gauge(GAUGE, 500.0),
            "the end of the load" => self.cluster.set_gauge(GAUGE, 0.0),
            other => panic!("nothing stands in for a block that is not run: {other}"),
        }
    }
}

/// Returns whether the lines occur in the output in this order; `…` stands for any text.
fn is_like(output: &str, expected: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines = output.lines().map(words);
    expected.lines().map(words).all(|wanted| lines.by_ref().any(|line| matches(&line, &wanted)))
}

fn matches(line: &str, wanted: &str) -> bool {
    let mut parts = wanted.split('…').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for part in &parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || parts.last().is_some_and(|last| last.is_empty())
}

#[test]
fn output_is_compared_with_what_may_vary_left_out() {
    let output = "NAME   AGE\nv1  hpalite/hpalite   True  3s\n";
    assert!(is_like(output, "NAME AGE\nv1 … True …"));
    assert!(is_like(output, "v1 hpalite/hpalite True 3s"));
    for other in ["NAME", "v1 … False …", "v1 … True …\nNAME AGE", "hpalite/hpalite …"] {
        assert!(!is_like(output, other), "{other}");
    }
}

#[test]
fn the_walkthrough_walks() {
    let cluster = Cluster::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mut walk = Walk { cluster: &cluster, folder, daemon: None };
    walk.copy_manifests();
    let all = blocks(&read(Path::new("k8s/walkthrough.md")));
    let mut ran = 0;
    for (at, block) in all.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        if let Some(reason) = &block.not_run {
            walk.stand_in(reason);
            continue;
        }
        if block.text.contains("helm install hpalite") {
            // No kubelet runs its pod; the same binary runs with the same service account instead.
            let (install, look) = block.text.split_once('\n').unwrap();
            walk.run(install).unwrap_or_else(|error| panic!("{install}: {error}"));
            walk.daemon = Some(Daemon::serve(&cluster, &[]));
            assert!(look.starts_with("kubectl get apiservice"), "{look}");
        }
        let script = block.text.lines().filter(|line| !line.starts_with("helm install")).collect::<Vec<_>>().join("\n");
        let expected = all.get(at + 1).filter(|next| next.language == "text").map_or("", |next| next.text.as_str());
        // The effect of a command takes a moment; repeating it changes nothing.
        let mut succeeded = false;
        wait_seeing(&script, || {
            let output = match walk.run(&script) {
                Ok(output) => output,
                // On a busy machine discovery shows a kind some time after its CRD is established.
                Err(error) if succeeded || error.contains("ensure CRDs are installed first") => return Err(error),
                Err(error) => panic!("{script}: {error}"),
            };
            succeeded = true;
            if is_like(&output, expected) { Ok(()) } else { Err(output) }
        });
        ran += 1;
    }
    assert!(ran >= 12, "{ran}");
}
