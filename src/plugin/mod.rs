//! `kubectl hpalite`: the commands that need the history, on the person's machine, carried out in the pod that has it.
//!
//! Owns how the pod is found, and the two ways into it: `exec` and `port-forward`, each over a WebSocket through the API
//! server, with the person's kubeconfig and rights. What the commands mean is the business of the binary in the pod;
//! `cli` has parsed the command line before, so that a mistake needs no cluster.

mod exec;
mod page;
mod pod;

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::kube::untyped::{items, text};
use crate::kube::{Client, ClusterConfig, Kubeconfig, ListOptions, Resource};
pub use page::page;
use pod::Pod;

/// Where the binary is in the image.
const BINARY: &str = "/hpalite";
const SCALED_OBJECTS: Resource = Resource::new("keda.sh", "v1alpha1", "scaledobjects", true);
/// Names that a shell completes; a person reads no more.
const NAMES_MAX: u32 = 500;
/// A person waits for a completion.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a manifest, as for `hpalite replay` itself.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Between the manifests on standard input; no YAML contains it.
const SEPARATOR: u8 = 0;

/// The installation that is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `None` for the pod's own service account.
    pub kubeconfig: Option<Kubeconfig>,
    /// Name and namespace of its Service; `None` for the only installation.
    pub service: Option<(String, String)>,
}

/// A command to be carried out in the pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Remote {
    pub place: Place,
    /// The subcommand, its flags and operands.
    pub words: Vec<String>,
    /// Flags to be taken from the daemon's command line, where its pod has them.
    pub as_in_pod: Vec<&'static str>,
    /// Files that standard input brings, for as many flags whose value is `-`.
    pub files: Vec<PathBuf>,
}

/// Why a command could not be carried out; each problem with what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub problems: Vec<String>,
    /// The API server answers, and there is no pod to carry it out.
    pub is_without_pod: bool,
}

impl Failure {
    fn new(problem: String) -> Self {
        Self { problems: vec![problem], is_without_pod: false }
    }
}

impl Place {
    fn client(&self) -> Result<Client, Failure> {
        let config = ClusterConfig::of_person(self.kubeconfig.as_ref())
            .map_err(|error| Failure { problems: error.problems, is_without_pod: false })?;
        Ok(Client::new(config))
    }
}

/// Carries out a command in the pod. Returns its exit code.
///
/// # Errors
/// Why it did not run there, or not to its end.
pub fn run(remote: &Remote, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Failure> {
    let input = input(&remote.files)?;
    let client = remote.place.client()?;
    let pod = Pod::find(&client, remote.place.service.as_ref())?;
    let mut words = vec![BINARY.to_owned()];
    words.extend(remote.words.first().cloned());
    let own = remote.as_in_pod.iter().flat_map(|flag| {
        let values = pod.flags(flag).into_iter();
        values.map(move |value| format!("--{flag}={value}"))
    });
    words.extend(own);
    words.extend(remote.words.iter().skip(1).cloned());
    exec::exec(&client, &pod, &words, (!remote.files.is_empty()).then_some(&input), out, err)
}

fn input(files: &[PathBuf]) -> Result<Vec<u8>, Failure> {
    let mut input = Vec::new();
    for (at, path) in files.iter().enumerate() {
        let failed = |what: &dyn std::fmt::Display| Failure::new(format!("{}: cannot be read: {what}", path.display()));
        if at > 0 {
            input.push(SEPARATOR);
        }
        let before = input.len();
        let file = File::open(path).map_err(|error| failed(&error))?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut input).map_err(|error| failed(&error))?;
        if input.len() - before > usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX) {
            return Err(failed(&format!("is larger than {} MiB", FILE_BYTES_MAX >> 20)));
        }
    }
    Ok(input)
}

/// Returns the names of the ScaledObjects of a namespace, for a shell to complete; none if they cannot be listed soon.
#[must_use]
pub fn scaled_objects(place: &Place, namespace: &str) -> Vec<String> {
    let options = ListOptions { limit: NAMES_MAX, ..ListOptions::default() };
    let request = SCALED_OBJECTS.list(Some(namespace), &options).ok();
    let found = request
        .zip(place.client().ok())
        .and_then(|(request, client)| client.json_within::<Value>(&request, COMPLETION_TIMEOUT).ok());
    let found = found.unwrap_or_default();
    items(&found, "/items").iter().map(|object| text(object, "/metadata/name").to_owned()).collect()
}
