//! The resources of the cluster by any of their names, as kubectl finds them: the core group first.

use serde::Deserialize;

use crate::kube::client::Client;
use crate::kube::error::Error;
use crate::kube::request::{Request, Resource};
use crate::wire::adapter::{GroupResource, Named};

/// Groups whose resources stand for metrics of others, and would hide those.
const METRICS: [&str; 3] = ["metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"];
/// Groups that are read; a cluster has some 30.
const GROUPS_MAX: usize = 300;

/// A resource, as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiResource {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
}

impl ApiResource {
    pub(super) fn named(&self) -> Named<'_> {
        Named { group: &self.group, plural: &self.plural, singular: &self.singular }
    }

    /// As in `v1` or `apps/v1`.
    pub(super) fn api_version(&self) -> String {
        Resource::from(self).api_version()
    }

    /// As in `pods` or `deployments.apps`.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl From<&ApiResource> for Resource {
    fn from(resource: &ApiResource) -> Self {
        Self {
            group: resource.group.clone().into(),
            version: resource.version.clone().into(),
            plural: resource.plural.clone().into(),
            namespaced: resource.namespaced,
        }
    }
}

/// All resources, in the order in which a name is looked up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resources(Vec<ApiResource>);

#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    #[serde(rename = "preferredVersion")]
    preferred: Version,
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    resources: Vec<Described>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    name: String,
    #[serde(default)]
    singular_name: String,
    #[serde(default)]
    namespaced: bool,
    #[serde(default)]
    kind: String,
}

impl Resources {
    /// Reads the preferred version of each group. A group that does not answer keeps what it had in `before`, since its
    /// server may only be away, and is named in the second list.
    ///
    /// # Errors
    /// If the groups themselves cannot be read.
    pub(super) fn read(client: &Client, before: &Self) -> Result<(Self, Vec<String>), Error> {
        let groups: Groups = client.json(&Request::get_path("/apis"))?;
        let named = groups.groups.into_iter().map(|group| (group.name, group.preferred.version));
        let named = named.filter(|(group, _)| !METRICS.contains(&group.as_str())).take(GROUPS_MAX);
        let (mut all, mut silent) = (Vec::new(), Vec::new());
        for (group, version) in std::iter::once((String::new(), "v1".to_owned())).chain(named) {
            let path = Resource::group_version_path(&group, &version)?;
            match client.json::<List>(&Request::get_path(path)) {
                Ok(list) => all.extend(described(&group, &version, list)),
                Err(error) if group.is_empty() => return Err(error),
                // It went after the groups were listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    log::debug!(group, error:% = error; "a group does not say what its resources are");
                    all.extend(before.0.iter().filter(|known| known.group == group).cloned());
                    silent.push(group);
                }
            }
        }
        Ok((Self(all), silent))
    }

    /// Finds a resource by its plural or singular name, and its group, whole, in part, or none.
    pub(super) fn find(&self, resource: &str, group: &str) -> Option<usize> {
        let wanted = GroupResource { group: group.to_owned(), resource: resource.to_owned() };
        let is = |found: &ApiResource| wanted.is(found.named());
        // A whole group goes before one that only begins with it.
        let exact = self.0.iter().position(|found| is(found) && found.group == group && !group.is_empty());
        exact.or_else(|| self.0.iter().position(is))
    }

    /// Returns where each of these resources is in `now`, which may have other ones before it; `None` if it is gone.
    pub(super) fn places_in(&self, now: &Self) -> Vec<Option<usize>> {
        let place = |old: &ApiResource| now.0.iter().position(|new| new.named() == old.named());
        self.0.iter().map(place).collect()
    }

    pub(super) fn get(&self, at: usize) -> Option<&ApiResource> {
        self.0.get(at)
    }

    pub(super) fn all(&self) -> &[ApiResource] {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn of(all: &[(&str, &str, &str, &str, &str, bool)]) -> Self {
        let resource = |(group, version, plural, singular, kind, namespaced): &(&str, &str, &str, &str, &str, bool)| {
            let own = |text: &str| text.to_owned();
            let (group, version, plural) = (own(group), own(version), own(plural));
            ApiResource { group, version, plural, singular: own(singular), kind: own(kind), namespaced: *namespaced }
        };
        Self(all.iter().map(resource).collect())
    }
}

fn described(group: &str, version: &str, list: List) -> impl Iterator<Item = ApiResource> {
    let whole = list.resources.into_iter().filter(|resource| !resource.name.contains('/'));
    whole.map(move |resource| ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        // Older servers leave it out.
        singular: match resource.singular_name.as_str() {
            "" => resource.kind.to_lowercase(),
            name => name.to_owned(),
        },
        plural: resource.name,
        kind: resource.kind,
        namespaced: resource.namespaced,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_kubectl_finds_it() {
        let list = r#"{"resources":[{"name":"pods","namespaced":true,"kind":"Pod"},{"name":"pods/log","kind":"Pod"}]}"#;
        let found: Vec<_> = described("", "v1", serde_json::from_str(list).unwrap()).collect();
        assert_eq!((found.len(), found[0].singular.as_str()), (1, "pod"));
        let resources = Resources::of(&[
            ("", "v1", "services", "service", "Service", true),
            ("gateway.example.org", "v1", "routes", "route", "Route", true),
            ("gateway", "v1", "routes", "route", "Route", true),
            ("serving.example.org", "v1", "services", "service", "Service", true),
        ]);
        for (resource, group, at) in [
            ("service", "", Some(0)),
            ("Services", "serving", Some(3)),
            ("services", "serving_example_org", Some(3)),
            ("routes", "gateway", Some(2)),
            ("routes", "gateway.", Some(1)),
            ("routes", "", Some(1)),
            ("routes", "apps", None),
            ("pods", "", None),
        ] {
            assert_eq!(resources.find(resource, group), at, "{resource}.{group}");
        }
        assert_eq!(resources.get(3).unwrap().qualified(), "services.serving.example.org");
    }
}
