//! A real Prometheus for one test, with its scrape targets.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::cluster::{cluster, try_http_get, wait_seeing};

pub(crate) struct Prometheus {
    process: Child,
    _folder: tempfile::TempDir,
    pub(crate) url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Has these samples, in the text format of OpenMetrics with times, and scrapes only itself.
    pub(crate) fn holding(samples: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("samples");
        std::fs::write(&file, samples).unwrap();
        let output = Command::new(format!("{}/promtool", cluster().env("ASSETS")))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &folder.path().join("data")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::within(folder, &[])
    }

    /// Scrapes itself as job `self`, and `targets` (`host:port`) as job `targets`, every second.
    pub(crate) fn scraping(targets: &[&str]) -> Self {
        Self::within(tempfile::tempdir().unwrap(), targets)
    }

    fn within(folder: tempfile::TempDir, targets: &[&str]) -> Self {
        // Prometheus does not report which port it chose, so one is chosen for it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let job = |name: &str, targets: &[&str]| serde_json::json!({ "job_name": name, "static_configs": [{ "targets": targets }] });
        let text = serde_json::json!({
            "global": { "scrape_interval": "1s" },
            "scrape_configs": [job("self", &[&address]), job("targets", targets)],
        });
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, text.to_string()).unwrap();
        let process = Command::new(format!("{}/prometheus", cluster().env("ASSETS")))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, _folder: folder, url: format!("http://{address}") }
    }

    /// Waits until the query has a result, and returns its series.
    pub(crate) fn series(&self, query: &str) -> Vec<Value> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let url = format!("{}/api/v1/query?query={escaped}", self.url);
        wait_seeing(&format!("series of {query}"), || {
            let text = try_http_get(&url)?;
            let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let found = answer["data"]["result"].as_array().cloned().unwrap_or_default();
            if found.is_empty() { Err(text) } else { Ok(found) }
        })
    }
}
