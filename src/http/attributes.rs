//! What a request asks permission for, in the terms of Kubernetes' authorization.
//!
//! Pure. As in the kube-apiserver, the name of a metric takes the place of a resource's name, so that access can be
//! granted per metric.

use super::{Request, uri};

/// What is to be permitted: an action on a resource, or on a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attributes {
    Resource(ResourceAttributes),
    /// The decoded path, and the method in lower case.
    NonResource {
        path: String,
        verb: String,
    },
}

/// The groups and versions that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GroupVersion {
    #[default]
    External,
    CustomV1beta1,
    CustomV1beta2,
}

impl GroupVersion {
    pub fn group(self) -> &'static str {
        match self {
            GroupVersion::External => "external.metrics.k8s.io",
            GroupVersion::CustomV1beta1 | GroupVersion::CustomV1beta2 => "custom.metrics.k8s.io",
        }
    }

    pub fn version(self) -> &'static str {
        match self {
            GroupVersion::External | GroupVersion::CustomV1beta1 => "v1beta1",
            GroupVersion::CustomV1beta2 => "v1beta2",
        }
    }

    fn of(group: &str, version: &str) -> Option<GroupVersion> {
        let all = [GroupVersion::External, GroupVersion::CustomV1beta1, GroupVersion::CustomV1beta2];
        all.into_iter().find(|known| (known.group(), known.version()) == (group, version))
    }
}

/// A resource of a group and version that are served.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ResourceAttributes {
    pub api: GroupVersion,
    /// Empty for a resource without a namespace.
    pub namespace: String,
    pub verb: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
}

/// Why a path is refused with 400 before it is authorised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    Encoding(uri::UriError),
    /// `.`, `..`, or a segment with an encoded slash: other readers could resolve the path differently.
    Segment,
}

impl std::fmt::Display for BadPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadPath::Encoding(error) => write!(f, "path: {error}"),
            BadPath::Segment => f.write_str("path holds a segment that no name can be"),
        }
    }
}

impl std::error::Error for BadPath {}

pub fn attributes(request: &Request) -> Result<Attributes, BadPath> {
    let segments = uri::segments(&request.path).map_err(BadPath::Encoding)?;
    if segments.iter().any(|s| s == "." || s == ".." || s.contains('/')) {
        return Err(BadPath::Segment);
    }
    let mut parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    match parts.as_slice() {
        ["apis", group, version, rest @ ..]
            if GroupVersion::of(group, version).is_some() && !rest.is_empty() && !rest.contains(&"") =>
        {
            let api = GroupVersion::of(group, version).unwrap_or_default();
            Ok(Attributes::Resource(resource(api, rest, &request.method, watches(request))))
        }
        _ => Ok(Attributes::NonResource {
            path: format!("/{}", segments.join("/")),
            verb: request.method.to_ascii_lowercase(),
        }),
    }
}

/// Reads the segments behind group and version, of which there is at least one.
fn resource(api: GroupVersion, segments: &[&str], method: &str, watch: bool) -> ResourceAttributes {
    // `namespaces/<ns>/status` is a part of the namespace itself, not a resource inside of it.
    let (namespace, rest) = match segments {
        ["namespaces", namespace, "status" | "finalize", ..] => (*namespace, segments),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        ["namespaces", namespace] => (*namespace, segments),
        _ => ("", segments),
    };
    let part = |index: usize| rest.get(index).copied().unwrap_or("").to_owned();
    let name = part(1);
    let verb = match (method, name.is_empty()) {
        ("GET" | "HEAD", _) if watch => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        // No role can grant an empty verb.
        _ => "",
    };
    ResourceAttributes {
        api,
        namespace: namespace.to_owned(),
        verb: verb.to_owned(),
        resource: part(0),
        subresource: part(2),
        name,
    }
}

/// Returns true if there is a `watch` parameter that is neither `0` nor `false`.
pub fn watches(request: &Request) -> bool {
    let pairs = uri::query_pairs(request.query.as_deref().unwrap_or("")).unwrap_or_default();
    pairs.iter().any(|(key, value)| key == "watch" && !matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::request;

    fn of(method: &str, target: &str) -> String {
        match attributes(&request(method, target, &[])) {
            Ok(Attributes::Resource(a)) => {
                format!("{} {}/{}/{}/{}", a.verb, a.namespace, a.resource, a.name, a.subresource)
            }
            Ok(Attributes::NonResource { path, verb }) => format!("{verb} {path}"),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn paths() {
        let gv = "/apis/external.metrics.k8s.io/v1beta1";
        for (target, expected) in [
            ("/namespaces/ns/s0-prometheus", "list ns/s0-prometheus//"),
            ("/namespaces/ns/s0-prometheus/", "list ns/s0-prometheus//"),
            ("/namespaces/ns/m?labelSelector=a", "list ns/m//"),
            ("/namespaces/ns/m?watch=1", "watch ns/m//"),
            ("/namespaces/ns/m?watch", "watch ns/m//"),
            ("/namespaces/ns/m?watch=false", "list ns/m//"),
            ("/namespaces/ns/m/x", "get ns/m/x/"),
            ("/namespaces/ns/m/x/y", "get ns/m/x/y"),
            ("/namespaces/ns/status", "get ns/namespaces/ns/status"),
            ("/namespaces/ns/finalize", "get ns/namespaces/ns/finalize"),
            ("/namespaces/ns", "get ns/namespaces/ns/"),
            ("/namespaces", "list /namespaces//"),
            ("/m", "list /m//"),
            ("/namespaces/n%73/%6d", "list ns/m//"),
            ("", "get /apis/external.metrics.k8s.io/v1beta1"),
            ("/", "get /apis/external.metrics.k8s.io/v1beta1/"),
            ("//m", "get /apis/external.metrics.k8s.io/v1beta1//m"),
            ("/namespaces/ns/a%2Fb", "Segment"),
            ("/namespaces/../m", "Segment"),
            ("/namespaces/%2e%2e/m", "Segment"),
            ("/namespaces/ns/.", "Segment"),
            ("/namespaces/ns/%00", "Encoding(Nul)"),
            ("/namespaces/ns/%C0%AF", "Encoding(Utf8)"),
            ("/namespaces/ns/%", "Encoding(PercentEncoding)"),
        ] {
            assert_eq!(of("GET", &format!("{gv}{target}")), expected, "{target}");
        }
        assert_eq!(of("GET", "/apis"), "get /apis");
        for version in ["v1beta1", "v1beta2"] {
            let pods = format!("/apis/custom.metrics.k8s.io/{version}/namespaces/ns/pods/*/m");
            assert_eq!(of("GET", &pods), "get ns/pods/*/m");
            let Ok(Attributes::Resource(found)) = attributes(&request("GET", &pods, &[])) else { panic!("{pods}") };
            assert_eq!((found.api.group(), found.api.version()), ("custom.metrics.k8s.io", version));
        }
        assert_eq!(of("GET", "/apis/custom.metrics.k8s.io/v1beta1/nodes/n/m"), "get /nodes/n/m");
        assert_eq!(of("GET", "/apis/external.metrics.k8s.io/v1beta2/m"), "get /apis/external.metrics.k8s.io/v1beta2/m");
        assert_eq!(of("GET", "/readyz/x"), "get /readyz/x");
        assert_eq!(of("GET", "/"), "get /");
        assert_eq!(of("POST", "/metrics"), "post /metrics");
        assert_eq!(of("GET", "/apis/other/v1/things"), "get /apis/other/v1/things");
        for (method, verb) in [
            ("HEAD", "list"),
            ("POST", "create"),
            ("PUT", "update"),
            ("PATCH", "patch"),
            ("DELETE", "deletecollection"),
            ("OPTIONS", ""),
        ] {
            let expected = format!("{verb} ns/m//");
            assert_eq!(of(method, &format!("{gv}/namespaces/ns/m")), expected);
        }
    }
}
