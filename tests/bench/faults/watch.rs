//! Every change of replicas of the stage's Deployments, as the API server's watch shows it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hpalite::kube::{Client, ClusterConfig, Request};
use serde_json::Value;

use super::stage::{NAMESPACE, Stage, pass, unix_ms};

/// The API server ends each watch after this time, so that one that is told to stop does, and that going on where the
/// last one ended is nothing special.
const WATCH: &str = "5";
/// A watch says something at its end at the latest.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// The API server is not touched while it is watched, so that it refuses this often only if something is wrong.
const REFUSALS_MAX: u32 = 10;

/// A change of replicas, and when it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) at: i64,
    pub(crate) name: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// The field manager of the number of replicas. There may be none from and to zero, which managed fields leave out.
    pub(crate) by: String,
}

pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Change>, String>>,
}

impl Watch {
    /// Sees what changes from now on.
    pub(crate) fn start(stage: &Stage) -> Self {
        let config = ClusterConfig::load(Some(Path::new(stage.cluster.env("KUBECONFIG")))).expect("a kubeconfig");
        let client = Client::new(config);
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
        let list: Value = client.json(&Request::get_path(&path)).expect("a list");
        let known = list["items"].as_array().expect("items").iter().map(of).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let mut watcher = Watcher { version: version(&list), replicas: known, changes: Vec::new() };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut refusals = 0;
            while !stopped.load(Ordering::Relaxed) {
                // An end, orderly or not, is followed by another watch from where this one was.
                match watcher.watch(&client, &path) {
                    Ok(()) => refusals = 0,
                    Err(Ended::Refused(why)) if refusals == REFUSALS_MAX => return Err(why),
                    Err(Ended::Refused(_)) => {
                        refusals += 1;
                        pass(Duration::from_millis(200));
                    }
                    Err(Ended::Lost(why)) => return Err(why),
                }
            }
            Ok(watcher.changes)
        });
        Self { stop, thread }
    }

    /// Returns what was seen, all of it, or why not all could be seen.
    pub(crate) fn end(self) -> Result<Vec<Change>, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch of the bench does not panic")
    }
}

enum Ended {
    /// The next try may succeed.
    Refused(String),
    /// There may be changes that no watch shows any more.
    Lost(String),
}

struct Watcher {
    version: String,
    replicas: BTreeMap<String, i64>,
    changes: Vec<Change>,
}

impl Watcher {
    fn watch(&mut self, client: &Client, path: &str) -> Result<(), Ended> {
        let after = &self.version;
        let query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH}&resourceVersion={after}");
        let stream = client.stream(&Request::get_path(format!("{path}?{query}")), SILENT_MAX);
        let mut stream = stream.map_err(|error| Ended::Refused(format!("the bench cannot watch: {error}")))?;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while let Ok(amount @ 1..) = stream.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..amount]);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                self.take(&serde_json::from_slice(&line).expect("JSON"))?;
            }
        }
        Ok(())
    }

    fn take(&mut self, event: &Value) -> Result<(), Ended> {
        let object = &event["object"];
        match event["type"].as_str() {
            Some("BOOKMARK") => {}
            Some("ADDED" | "MODIFIED") => {
                let (name, to) = of(object);
                let from = self.replicas.insert(name.clone(), to).unwrap_or(to);
                if from != to {
                    self.changes.push(Change { at: unix_ms(), name, from, to, by: manager(object) });
                }
            }
            _ => return Err(Ended::Lost(format!("the watch of the bench lost its place: {event}"))),
        }
        self.version = version(object);
        Ok(())
    }
}

fn manager(deployment: &Value) -> String {
    let entries = deployment["metadata"]["managedFields"].as_array().expect("managed fields").iter();
    let mut owners = entries.filter(|entry| !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null());
    owners.next().map_or("", |entry| entry["manager"].as_str().unwrap_or_default()).to_owned()
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}

fn of(deployment: &Value) -> (String, i64) {
    let name = deployment["metadata"]["name"].as_str().expect("a name").to_owned();
    (name, deployment["spec"]["replicas"].as_i64().unwrap_or(0))
}
