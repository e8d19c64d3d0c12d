//! Finds the resource of a kind: `HorizontalPodAutoscaler` of `autoscaling/v2` is served at `horizontalpodautoscalers`,
//! and for a custom resource only the API server knows.
//!
//! Owns the cache of answers. Positive ones are kept for 10 minutes, since a CRD can be replaced; negative ones are not
//! kept, so that a CRD is found immediately after its installation.
//! Must not guess plurals.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::client::Client;
use super::error::{Error, Status};
use super::request::{Request, Resource};

const KEEP: Duration = Duration::from_secs(10 * 60);

/// A resource, and whether it can be scaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    pub resource: Resource,
    /// The resource has a `scale` subresource.
    pub scalable: bool,
}

#[derive(Default)]
pub struct Discovery {
    // A lock of its own: callers share the cache, and it is never held during a request.
    cache: Mutex<HashMap<(String, String), Known>>,
}

struct Known {
    kinds: HashMap<String, Discovered>,
    read_at: Instant,
}

#[derive(Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ResourceEntry>,
}

#[derive(Deserialize)]
struct ResourceEntry {
    name: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    kind: String,
}

impl Discovery {
    /// Finds a kind, asking the API server if it is not cached. The error's `is_not_found()` means that the group, the
    /// version or the kind does not exist.
    pub fn find(&self, client: &Client, group: &str, version: &str, kind: &str) -> Result<Discovered, Error> {
        let key = (group.to_owned(), version.to_owned());
        let now = Instant::now();
        let fresh = |known: &&Known| now.saturating_duration_since(known.read_at) < KEEP;
        if let Some(found) = self.lock().get(&key).filter(fresh).and_then(|k| k.kinds.get(kind)) {
            return Ok(found.clone());
        }
        let path = Resource::group_version_path(group, version)?;
        let list: ResourceList = client.json(&Request::get_path(path))?;
        let kinds = index(group, version, list);
        let found = kinds.get(kind).cloned();
        self.lock().insert(key, Known { kinds, read_at: now });
        found.ok_or_else(|| missing(group, version, kind).into())
    }

    /// Forgets a group version, to be called after a 404 on one of its resources.
    pub fn forget(&self, group: &str, version: &str) {
        self.lock().remove(&(group.to_owned(), version.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Known>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(group: &str, version: &str, list: ResourceList) -> HashMap<String, Discovered> {
    // Subresources are listed as `deployments/scale`, with the kind of their own body.
    let (parts, whole): (Vec<_>, Vec<_>) = list.resources.into_iter().partition(|entry| entry.name.contains('/'));
    let discovered = |entry: ResourceEntry| {
        let scale = format!("{}/scale", entry.name);
        let scalable = parts.iter().any(|part| part.name == scale);
        let resource = Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            plural: entry.name.into(),
            namespaced: entry.namespaced,
        };
        (entry.kind, Discovered { resource, scalable })
    };
    whole.into_iter().map(discovered).collect()
}

fn missing(group: &str, version: &str, kind: &str) -> Status {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut status = Status::parse(404, None, b"");
    status.reason = "NotFound".to_owned();
    status.message = format!("{api_version} has no kind {kind}");
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_indexed_with_their_scale() {
        let list = serde_json::from_str(
            r#"{"kind":"APIResourceList","resources":[
                {"name":"deployments","namespaced":true,"kind":"Deployment","verbs":["get"]},
                {"name":"deployments/scale","namespaced":true,"kind":"Scale","group":"autoscaling"},
                {"name":"daemonsets","namespaced":true,"kind":"DaemonSet"},
                {"name":"daemonsets/status","namespaced":true,"kind":"DaemonSet"}]}"#,
        )
        .expect("a list");
        let kinds = index("apps", "v1", list);
        assert_eq!(kinds.len(), 2);
        assert!(kinds["Deployment"].scalable && !kinds["DaemonSet"].scalable);
        assert_eq!(kinds["Deployment"].resource, Resource::new("apps", "v1", "deployments", true));
        assert!(Error::from(missing("apps", "v1", "X")).is_not_found());
    }
}
