//! Commands that change a cluster beside the daemon: `hpalite takeover`, `uninstall`, `freeze` and `thaw`.
//!
//! All act with the rights of whoever calls them, print each step in a line before it is made, and make none in a dry
//! run. They do what has to be done in an order; applying and deleting manifests stays with kubectl and Helm.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod freeze;
mod readable;
mod takeover;
mod uninstall;

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kube::untyped::{has_ready_endpoint, text};
use crate::kube::{Client, ClusterConfig, Error, Kubeconfig, ListOptions, PatchKind, Request, Resource};

pub use freeze::{End, Freeze, Scope, freeze};
pub use takeover::takeover;
pub use uninstall::{Objects, uninstall};

const API_SERVICES: Resource = Resource::new("apiregistration.k8s.io", "v1", "apiservices", false);
const SERVICES: Resource = Resource::new("", "v1", "services", true);
const ENDPOINT_SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices", true);
const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases", true);
const CRDS: Resource = Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions", false);
const SCALED_OBJECTS: Resource = Resource::new("keda.sh", "v1alpha1", "scaledobjects", true);
const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments", true);
const STATEFUL_SETS: Resource = Resource::new("apps", "v1", "statefulsets", true);

/// Between two looks at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Attempts at one write while others write to the same object.
const TRIES: usize = 5;
/// The same as the daemon's.
const FIELD_MANAGER: &str = "hpalite";

/// What is moved, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name and namespace; the Lease is called the same.
    pub service: (String, String),
    pub apiservice: String,
    /// Of everything that is waited for.
    pub timeout: Duration,
    /// Print the steps, make none.
    pub dry_run: bool,
}

/// Which APIs are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apis {
    External,
    /// Metrics of pods and other objects.
    Custom,
    Both,
}

/// What a takeover is refused for unless it is said to be wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// KEDA's operator runs.
    pub keda_runs: bool,
    /// Objects of KEDA are there that hpalite does not run.
    pub some_stay_behind: bool,
}

/// Why it ended before its end. What was done until then has been printed.
#[derive(Debug)]
pub enum Failure {
    /// The cluster cannot be reached, or the steps cannot be printed.
    Unreachable(Vec<String>),
    /// Refused before anything was done, or stuck; each with what to do about it.
    Stopped(Vec<String>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let fix = if error.is_forbidden() { "; use --kubeconfig of an administrator" } else { "" };
        Failure::Stopped(vec![format!("the API server: {error}{fix}")])
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Unreachable(vec![format!("standard output: {error}")])
    }
}

struct Migration<'a> {
    client: Client,
    plan: &'a Plan,
    out: &'a mut dyn Write,
}

impl<'a> Migration<'a> {
    fn new(kubeconfig: Option<&Kubeconfig>, plan: &'a Plan, out: &'a mut dyn Write) -> Result<Self, Failure> {
        let config = ClusterConfig::of_person(kubeconfig).map_err(|error| Failure::Unreachable(error.problems))?;
        let client = Client::new(config);
        let version = client.send(&Request::get_path("/version"));
        version.map_err(|error| Failure::Unreachable(vec![format!("the API server: {error}")]))?;
        Ok(Self { client, plan, out })
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Prints a step; true if it is to be made.
    fn step(&mut self, text: &str) -> Result<bool, Failure> {
        let would = if self.plan.dry_run { "would " } else { "" };
        self.say(&format!("{would}{text}"))?;
        Ok(!self.plan.dry_run)
    }

    /// Null where there is none.
    fn get(&self, resource: &Resource, namespace: Option<&str>, name: &str) -> Result<Value, Error> {
        match self.client.json(&resource.get(namespace, name)?) {
            Err(error) if error.is_not_found() => Ok(Value::Null),
            result => result,
        }
    }

    /// None where there is no such kind.
    fn list(&self, resource: &Resource, namespace: Option<&str>, labels: Option<&str>) -> Result<Vec<Value>, Error> {
        let options = ListOptions { label_selector: labels, ..ListOptions::default() };
        match self.client.json::<Value>(&resource.list(namespace, &options)?) {
            Ok(mut list) => Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Changes an object as it was when `change` looked at it. `change` returns a merge patch, Null for none.
    fn change(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        change: impl Fn(&Value) -> Value,
    ) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            let found = self.get(resource, namespace, name)?;
            let mut patch = change(&found);
            if found.is_null() || patch.is_null() {
                return Ok(());
            }
            patch["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
            let body = patch.to_string().into_bytes();
            let request = resource.patch(namespace, name, PatchKind::Merge, body)?;
            match self.client.send(&request.with_query("fieldManager", FIELD_MANAGER)) {
                Err(error) if error.is_conflict() && tries < TRIES => tries += 1,
                Err(error) if error.is_not_found() => return Ok(()),
                result => return result.map(drop),
            }
        }
    }

    /// Deletes this incarnation of an object; one that is gone already will do.
    fn delete(&self, resource: &Resource, object: &Value) -> Result<(), Error> {
        let (namespace, name) = (object["metadata"]["namespace"].as_str(), text(object, "/metadata/name"));
        match self.client.send(&resource.delete(namespace, name, object["metadata"]["uid"].as_str())?) {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            result => result.map(drop),
        }
    }

    /// Looks until `done` gives nothing more to wait for, at most the plan's timeout; else what it saw last.
    fn wait(&mut self, mut done: impl FnMut(&mut Self) -> Result<Option<String>, Failure>) -> Result<(), String> {
        let deadline = Instant::now() + self.plan.timeout;
        loop {
            let seen = match done(self) {
                Ok(None) => return Ok(()),
                Ok(Some(seen)) => seen,
                Err(Failure::Unreachable(problems) | Failure::Stopped(problems)) => problems.join("; "),
            };
            if Instant::now() >= deadline {
                return Err(seen);
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the API server is looked at again after a while; nobody else waits"
            )]
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn apiservice(&self, name: &str) -> Result<Value, Error> {
        self.get(&API_SERVICES, None, name)
    }

    fn is_ours(&self, apiservice: &Value) -> bool {
        let (name, namespace) = &self.plan.service;
        (text(apiservice, "/spec/service/name"), text(apiservice, "/spec/service/namespace")) == (name, namespace)
    }

    /// Whether an endpoint of our Service is ready; a standby's never is.
    fn has_ready_endpoint(&self) -> Result<bool, Error> {
        let (name, namespace) = &self.plan.service;
        let labels = format!("kubernetes.io/service-name={name}");
        let slices = self.list(&ENDPOINT_SLICES, Some(namespace), Some(&labels))?;
        Ok(has_ready_endpoint(&slices))
    }

    fn lease(&self) -> Result<Value, Error> {
        let (name, namespace) = &self.plan.service;
        self.get(&LEASES, Some(namespace), name)
    }
}

/// A Service as kubectl prints it: `namespace/name`.
fn place((name, namespace): &(String, String)) -> String {
    format!("{namespace}/{name}")
}
