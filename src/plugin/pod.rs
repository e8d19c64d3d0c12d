//! Finds the pod that hpalite runs in, and what its command line says.
//!
//! Owns the order in which is looked: the APIService leads to the Service, whose namespace has the pods with hpalite's
//! label, of which the holder of the Lease is the one that records. Needs no right but to list pods in that namespace.

use serde_json::Value;

use super::Failure;
use crate::kube::untyped::{items, text};
use crate::kube::{Client, Error, ListOptions, Request, Resource};

pub(super) const PODS: Resource = Resource::new("", "v1", "pods", true);
const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases", true);
const API_SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io";
/// Of every installation, by whatever manifests.
const LABEL: &str = "app.kubernetes.io/name=hpalite";
const CONTAINER: &str = "hpalite";
/// Pods of one namespace that are looked at.
const PODS_MAX: u32 = 100;

/// A running pod of hpalite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) container: String,
    arguments: Vec<String>,
}

impl Pod {
    /// Finds the pod of the installation with this Service, or of the only one.
    pub(super) fn find(client: &Client, service: Option<&(String, String)>) -> Result<Self, Failure> {
        let usual = ("hpalite".to_owned(), "hpalite".to_owned());
        let services = match service {
            Some(service) => vec![service.clone()],
            None => {
                let mut found: Vec<_> = api_service(client).into_iter().collect();
                if !found.contains(&usual) {
                    found.push(usual);
                }
                found
            }
        };
        let mut last = None;
        for (name, namespace) in &services {
            match Self::within(client, name, namespace) {
                Ok(Some(pod)) => return Ok(pod),
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
        }
        let places: Vec<&str> = services.iter().map(|(_, namespace)| namespace.as_str()).collect();
        let places = places.join(" and ");
        Err(match last {
            Some(error) if error.is_forbidden() => Failure::new(format!(
                "pods cannot be listed in namespace {places}: {error}; if hpalite is in another, say --service NAME.NAMESPACE"
            )),
            Some(error) => Failure::new(error.to_string()),
            None => Failure {
                is_without_pod: true,
                ..Failure::new(format!(
                    "no pod with the label {LABEL} runs in namespace {places}: kubectl get pods -A -l {LABEL} shows where \
                 they are; then say --service NAME.NAMESPACE"
                ))
            },
        })
    }

    fn within(client: &Client, lease: &str, namespace: &str) -> Result<Option<Self>, Error> {
        let options = ListOptions { limit: PODS_MAX, label_selector: Some(LABEL), ..ListOptions::default() };
        let list: Value = client.json(&PODS.list(Some(namespace), &options)?)?;
        // Not everybody may read it, and it matters only where there are several.
        let lease: Value = client.json(&LEASES.get(Some(namespace), lease)?).unwrap_or_default();
        Ok(choose(items(&list, "/items"), text(&lease, "/spec/holderIdentity")).map(Self::read))
    }

    fn read(pod: &Value) -> Self {
        let containers = items(pod, "/spec/containers");
        let wanted = text(pod, "/metadata/annotations/kubectl.kubernetes.io~1default-container");
        let named = |name: &str| containers.iter().find(|container| text(container, "/name") == name);
        let container = named(CONTAINER).or_else(|| named(wanted)).or(containers.first()).unwrap_or(&Value::Null);
        let strings = |list: &Value, path: &str| -> Vec<String> {
            items(list, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            namespace: text(pod, "/metadata/namespace").to_owned(),
            name: text(pod, "/metadata/name").to_owned(),
            container: text(container, "/name").to_owned(),
            arguments: [strings(container, "/command"), strings(container, "/args")].concat(),
        }
    }

    /// Returns the value of a flag of its daemon, if that has it.
    pub(super) fn flag(&self, long: &str) -> Option<&str> {
        self.flags(long).into_iter().next()
    }

    /// Returns the values of a flag that may be given several times.
    pub(super) fn flags(&self, long: &str) -> Vec<&str> {
        let flag = format!("--{long}");
        let value = |(at, argument): (usize, &'_ String)| match argument.strip_prefix(&flag)? {
            // A flag that follows is no value: what stands before it means true.
            "" => Some(
                self.arguments.get(at + 1).map_or("true", |next| if next.starts_with("--") { "true" } else { next }),
            ),
            _ => self.arguments[at].strip_prefix(&flag)?.strip_prefix('='),
        };
        self.arguments.iter().enumerate().filter_map(value).collect()
    }
}

/// Returns name and namespace of the Service that the metrics API is behind; None if it cannot be read.
fn api_service(client: &Client) -> Option<(String, String)> {
    let found: Value = client.json(&Request::get_path(API_SERVICE)).ok()?;
    let part = |name: &str| text(&found, &format!("/spec/service/{name}")).to_owned();
    Some((part("name"), part("namespace"))).filter(|(name, namespace)| !name.is_empty() && !namespace.is_empty())
}

/// Chooses among running pods: the holder of the Lease, else one that is ready, else any.
fn choose<'a>(pods: &'a [Value], holder: &str) -> Option<&'a Value> {
    // The holder of a Lease is the pod's name, an underscore, and a suffix that makes it unique.
    let holder = holder.rsplit_once('_').map_or(holder, |(name, _)| name);
    let is_running =
        |pod: &&Value| text(pod, "/status/phase") == "Running" && pod.pointer("/metadata/deletionTimestamp").is_none();
    let rank = |pod: &Value| {
        let conditions = items(pod, "/status/conditions").iter();
        let is_ready = conditions.filter(|one| one["type"] == "Ready").any(|one| one["status"] == "True");
        (text(pod, "/metadata/name") != holder, !is_ready)
    };
    pods.iter().filter(is_running).min_by_key(|pod| rank(pod))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, ready: &str) -> Value {
        json!({
            "metadata": { "name": name, "namespace": "keda" },
            "spec": { "containers": [{ "name": "proxy" }, { "name": "hpalite", "args": [
                "run", "--db=/d/h.db", "--ui", "[::1]:7", "--forward-external-metrics=https://a", "--yes",
                "--forward-external-metrics", "https://b", "--last",
            ] }] },
            "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
        })
    }

    #[test]
    fn the_holder_of_the_lease_comes_first() {
        let name =
            |pods: &[Value], holder: &str| choose(pods, holder).map(|pod| text(pod, "/metadata/name").to_owned());
        let pods = [pod("a", "Running", "False"), pod("b", "Running", "True"), pod("c", "Pending", "True")];
        assert_eq!(name(&pods, "a_f00").as_deref(), Some("a"));
        assert_eq!(name(&pods, "").as_deref(), Some("b"));
        assert_eq!(name(&pods, "c_f00").as_deref(), Some("b"));
        let mut leaving = pod("b", "Running", "True");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(name(&[leaving.clone(), pod("a", "Running", "False")], "b_f00").as_deref(), Some("a"));
        assert_eq!(name(&[leaving, pod("c", "Succeeded", "False")], ""), None);
    }

    #[test]
    fn the_pod_says_where_its_files_and_ports_are() {
        let pod = Pod::read(&pod("a", "Running", "True"));
        assert_eq!((pod.namespace.as_str(), pod.container.as_str()), ("keda", "hpalite"));
        assert_eq!((pod.flag("db"), pod.flag("ui"), pod.flag("http")), (Some("/d/h.db"), Some("[::1]:7"), None));
        assert_eq!(pod.flag("d"), None);
        assert_eq!(pod.flags("forward-external-metrics"), ["https://a", "https://b"]);
        assert_eq!((pod.flag("yes"), pod.flag("last")), (Some("true"), Some("true")));
    }
}
