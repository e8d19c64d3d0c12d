//! Describes the API: groups, resources, OpenAPI, version.
//!
//! Pure: fixed documents that need no lock, no cluster and no Prometheus, because a kube-apiserver that cannot read
//! them finishes no deletion of a namespace. One fixed resource is listed: an empty list confuses clients, and a list
//! of all metrics would invalidate every client's discovery cache. Only the documents of a group and version, which no
//! client reads on its own, list metrics of objects and those of other adapters, as prometheus-adapter does.

use super::negotiate::{self, Form};
use super::others::Names;
use super::{Body, JSON, Request, Response};

/// The group and version of external metrics.
pub const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";

const AGGREGATED_JSON: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

// The only resource has just the verb "get": "delete" would include it in the deletion of every namespace.
const AGGREGATED: &str = r#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[{"metadata":{"name":"external.metrics.k8s.io"},"versions":[{"version":"v1beta1","freshness":"Current","resources":[{"resource":"externalmetrics","responseKind":{"group":"external.metrics.k8s.io","version":"v1beta1","kind":"ExternalMetricValueList"},"scope":"Namespaced","singularResource":"","verbs":["get"]}]}]},{"metadata":{"name":"custom.metrics.k8s.io"},"versions":[{"version":"v1beta2","freshness":"Current","resources":[{"resource":"custommetrics","responseKind":{"group":"custom.metrics.k8s.io","version":"v1beta2","kind":"MetricValueList"},"scope":"Namespaced","singularResource":"","verbs":["get"]}]},{"version":"v1beta1","freshness":"Current","resources":[{"resource":"custommetrics","responseKind":{"group":"custom.metrics.k8s.io","version":"v1beta1","kind":"MetricValueList"},"scope":"Namespaced","singularResource":"","verbs":["get"]}]}]}]}"#;
const GROUPS: &str = r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"external.metrics.k8s.io","versions":[{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}],"preferredVersion":{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}},{"name":"custom.metrics.k8s.io","versions":[{"groupVersion":"custom.metrics.k8s.io/v1beta2","version":"v1beta2"},{"groupVersion":"custom.metrics.k8s.io/v1beta1","version":"v1beta1"}],"preferredVersion":{"groupVersion":"custom.metrics.k8s.io/v1beta2","version":"v1beta2"}}]}"#;
const CUSTOM_GROUP_DOCUMENT: &str = r#"{"kind":"APIGroup","apiVersion":"v1","name":"custom.metrics.k8s.io","versions":[{"groupVersion":"custom.metrics.k8s.io/v1beta2","version":"v1beta2"},{"groupVersion":"custom.metrics.k8s.io/v1beta1","version":"v1beta1"}],"preferredVersion":{"groupVersion":"custom.metrics.k8s.io/v1beta2","version":"v1beta2"}}"#;
const GROUP_DOCUMENT: &str = r#"{"kind":"APIGroup","apiVersion":"v1","name":"external.metrics.k8s.io","versions":[{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}],"preferredVersion":{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}}"#;
const RESOURCES: &str = r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"external.metrics.k8s.io/v1beta1","resources":[{"name":"externalmetrics","singularName":"","namespaced":true,"kind":"ExternalMetricValueList","verbs":["get"]}]}"#;
// The kube-apiserver would log a 404 on these every minute, and remember one on v3 until its restart.
// v2 has no paths: the kube-apiserver merges it into its own document, which every client downloads.
const OPENAPI_V2: &str = r#"{"swagger":"2.0","info":{"title":"hpalite","version":"v0"},"paths":{}}"#;
// Has the one kind for `kubectl explain externalmetrics`, which looks at the path of the resource listed above.
const OPENAPI_V3: &str = include_str!("openapi-v3.json");

/// The path of the group's OpenAPI v3 document, which the index lists with the hash of its content.
const OPENAPI_V3_PATH: &str = "/openapi/v3/apis/external.metrics.k8s.io/v1beta1";

/// The metrics that are listed.
#[derive(Clone, Copy)]
pub struct Served<'a> {
    /// Returns those of objects.
    pub objects: &'a dyn Fn() -> Listed,
    /// Returns external metrics that other adapters list.
    pub external: &'a dyn Fn() -> Names,
}

impl Served<'static> {
    /// Nothing.
    pub const NOTHING: Self = Self { objects: &Listed::default, external: &Names::default };
}

/// Metrics of objects, as in `pods/http_requests`, and whether their objects are in namespaces.
pub type Listed = std::sync::Arc<[(String, bool)]>;

const CUSTOM: &str = "/apis/custom.metrics.k8s.io";

/// Answers a GET of one of the documents; None for every other path. One trailing slash is ignored.
pub fn answer(request: &Request, served: &Served<'_>) -> Option<Response> {
    let path = match request.path.strip_suffix('/') {
        Some(path) if !path.is_empty() => path,
        _ => request.path.as_str(),
    };
    let document: Body = match path {
        "/apis" => return Some(apis(request)),
        CUSTOM => CUSTOM_GROUP_DOCUMENT.into(),
        "/apis/custom.metrics.k8s.io/v1beta1" => resources("v1beta1", &(served.objects)()).into(),
        "/apis/custom.metrics.k8s.io/v1beta2" => resources("v1beta2", &(served.objects)()).into(),
        "/apis/external.metrics.k8s.io" => GROUP_DOCUMENT.into(),
        "/apis/external.metrics.k8s.io/v1beta1" => external(&(served.external)()),
        "/openapi/v2" => OPENAPI_V2.into(),
        "/openapi/v3" => openapi_index().into(),
        OPENAPI_V3_PATH => OPENAPI_V3.into(),
        "/version" => version().into(),
        _ => return None,
    };
    Some(match negotiate::choose(request, false) {
        Some(_) => tagged(request, JSON, document),
        None => negotiate::not_acceptable(),
    })
}

/// Returns true for the paths that [`answer`] knows, which a front proxy may always read.
pub fn is_document(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    matches!(
        path,
        "/apis"
            | "/apis/external.metrics.k8s.io"
            | "/apis/external.metrics.k8s.io/v1beta1"
            | CUSTOM
            | "/apis/custom.metrics.k8s.io/v1beta1"
            | "/apis/custom.metrics.k8s.io/v1beta2"
            | "/openapi/v2"
            | "/openapi/v3"
            | OPENAPI_V3_PATH
            | "/version"
    )
}

/// Lists the one resource that stands for our own metrics, and those that other adapters list.
fn external(others: &[String]) -> Body {
    if others.is_empty() {
        return RESOURCES.into();
    }
    let resource = |name: &String| {
        let name = serde_json::Value::from(name.as_str());
        format!(
            r#",{{"name":{name},"singularName":"","namespaced":true,"kind":"ExternalMetricValueList","verbs":["get"]}}"#
        )
    };
    let listed: String = others.iter().map(resource).collect();
    RESOURCES.strip_suffix("]}").map_or(RESOURCES.into(), |before| format!("{before}{listed}]}}").into())
}

/// Lists metrics of objects.
fn resources(version: &str, listed: &[(String, bool)]) -> String {
    let resource = |(name, namespaced): &(String, bool)| {
        let name = serde_json::Value::from(name.as_str());
        format!(
            r#"{{"name":{name},"singularName":"","namespaced":{namespaced},"kind":"MetricValueList","verbs":["get"]}}"#
        )
    };
    let resources = listed.iter().map(resource).collect::<Vec<_>>().join(",");
    format!(
        r#"{{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"custom.metrics.k8s.io/{version}","resources":[{resources}]}}"#
    )
}

fn apis(request: &Request) -> Response {
    let response = match negotiate::choose(request, true) {
        Some(Form::AggregatedDiscovery) => tagged(request, AGGREGATED_JSON, AGGREGATED.into()),
        Some(Form::Plain) => tagged(request, JSON, GROUPS.into()),
        None => negotiate::not_acceptable(),
    };
    // There are two documents at this path.
    response.with_header("Vary", "Accept")
}

/// Returns the document, or 304 if the client has it already.
fn tagged(request: &Request, content_type: &'static str, document: Body) -> Response {
    let tag = format!("\"{}\"", hash(document.as_bytes()));
    let known = request
        .header_values("if-none-match")
        .flat_map(|value| value.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*");
    let response =
        if known { Response::new(304, content_type, "") } else { Response::new(200, content_type, document) };
    response.with_header("ETag", tag)
}

fn openapi_index() -> String {
    let hash = hash(OPENAPI_V3.as_bytes());
    format!(r#"{{"paths":{{"apis/{GROUP_VERSION}":{{"serverRelativeURL":"{OPENAPI_V3_PATH}?hash={hash}"}}}}}}"#)
}

fn version() -> String {
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    format!(
        r#"{{"major":"{major}","minor":"{minor}","gitVersion":"v{}","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"rustc","platform":"{}/{}"}}"#,
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

/// FNV-1a, 64 bits. Only distinguishes versions of our own documents, so nobody gains from a collision.
fn hash(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::request;

    fn get(path: &str, headers: &[(&str, &str)]) -> Response {
        answer(&request("GET", path, headers), &Served::NOTHING).unwrap_or_else(|| panic!("no document at {path}"))
    }

    fn json(response: &Response) -> serde_json::Value {
        serde_json::from_slice(response.body.as_bytes()).unwrap()
    }

    fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
        response.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    const V2: (&str, &str) = (
        "Accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    );

    #[test]
    fn every_document_is_json_with_an_etag_that_saves_the_next_one() {
        for (path, kind) in [
            ("/apis", "APIGroupList"),
            ("/apis/external.metrics.k8s.io", "APIGroup"),
            ("/apis/external.metrics.k8s.io/v1beta1", "APIResourceList"),
            ("/apis/external.metrics.k8s.io/v1beta1/", "APIResourceList"),
            ("/openapi/v2", ""),
            ("/openapi/v3", ""),
            (OPENAPI_V3_PATH, ""),
            ("/version", ""),
        ] {
            assert!(is_document(path));
            let response = get(path, &[]);
            assert_eq!((response.status, response.content_type.as_ref()), (200, JSON), "{path}");
            assert_eq!(json(&response)["kind"].as_str().unwrap_or(""), kind, "{path}");
            let tag = header(&response, "ETag").unwrap().to_owned();
            for known in [&tag, &format!("W/{tag}"), &format!("\"x\", {tag}"), "*"] {
                let again = get(path, &[("If-None-Match", known)]);
                assert_eq!((again.status, again.body.as_bytes().len()), (304, 0), "{path}");
                assert_eq!(header(&again, "ETag"), Some(tag.as_str()));
            }
            assert_eq!(get(path, &[("If-None-Match", "\"x\"")]).status, 200);
            assert_eq!(get(path, &[("Accept", "text/html")]).status, 406);
        }
    }

    #[test]
    fn aggregated_discovery_is_never_mislabelled() {
        let response = get("/apis", &[V2]);
        assert_eq!(response.content_type, AGGREGATED_JSON);
        assert_eq!(header(&response, "Vary"), Some("Accept"));
        let document = json(&response);
        assert_eq!(document["kind"], "APIGroupDiscoveryList");
        assert_eq!(document["items"][0]["versions"][0]["resources"][0]["verbs"][0], "get");
        let tag = header(&response, "ETag").unwrap().to_owned();
        assert_ne!(header(&get("/apis", &[]), "ETag"), Some(tag.as_str()));
        assert_eq!(get("/apis", &[V2, ("If-None-Match", &tag)]).status, 304);
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        for accept in [beta, &format!("{beta},application/json")] {
            let plain = get("/apis", &[("Accept", accept)]);
            assert_eq!((plain.status, plain.content_type.as_ref()), (200, JSON), "{accept}");
            assert_eq!(json(&plain)["kind"], "APIGroupList", "{accept}");
        }
    }

    #[test]
    fn the_openapi_index_leads_to_its_document() {
        let index = json(&get("/openapi/v3", &[]));
        let url = &index["paths"]["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"];
        let response = get(url.as_str().unwrap(), &[]);
        let document = json(&response);
        assert_eq!(document["openapi"], "3.0.0");
        // Every reference has a target, and the kind is where discovery says it is.
        let text = String::from_utf8(response.body.as_bytes().to_vec()).unwrap();
        let references: Vec<_> = text.split("\"$ref\": \"#/components/schemas/").skip(1).collect();
        assert_eq!(references.len(), 2);
        for reference in references {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name]["properties"].is_object(), "{name}");
        }
        let resource = json(&get("/apis/external.metrics.k8s.io/v1beta1", &[]))["resources"][0].clone();
        let path = format!("/apis/{GROUP_VERSION}/namespaces/{{namespace}}/{}", resource["name"].as_str().unwrap());
        let kind = &document["paths"][&path]["get"]["x-kubernetes-group-version-kind"]["kind"];
        assert_eq!(kind, &resource["kind"]);
    }

    #[test]
    fn custom_metrics_are_described() {
        let objects = || Listed::from([("pods/http_requests".to_owned(), true), ("nodes/load".to_owned(), false)]);
        let served = Served { objects: &objects, ..Served::NOTHING };
        let get = |path: &str, headers: &[(&str, &str)]| answer(&request("GET", path, headers), &served).unwrap();
        let aggregated = json(&get("/apis", &[V2]));
        let groups = json(&get("/apis", &[]));
        for (at, group) in ["external.metrics.k8s.io", "custom.metrics.k8s.io"].into_iter().enumerate() {
            assert_eq!(aggregated["items"][at]["metadata"]["name"], group);
            assert_eq!(groups["groups"][at]["name"], group);
        }
        assert_eq!(json(&get(CUSTOM, &[]))["preferredVersion"]["version"], "v1beta2");
        for version in ["v1beta1", "v1beta2"] {
            let path = format!("{CUSTOM}/{version}");
            let document = json(&get(&path, &[]));
            assert_eq!(document["groupVersion"], format!("custom.metrics.k8s.io/{version}"));
            assert_eq!(
                (&document["resources"][0]["name"], &document["resources"][1]["namespaced"]),
                (&"pods/http_requests".into(), &false.into())
            );
            assert!(is_document(&path));
        }
    }

    #[test]
    fn metrics_of_other_adapters_are_listed_beside_what_stands_for_ours() {
        let external = || Names::from(["depth".to_owned(), "a\"b".to_owned()]);
        let served = Served { external: &external, ..Served::NOTHING };
        let path = "/apis/external.metrics.k8s.io/v1beta1";
        let document = json(&answer(&request("GET", path, &[]), &served).unwrap());
        let names: Vec<&str> =
            document["resources"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names, ["externalmetrics", "depth", "a\"b"]);
        assert_eq!(document["resources"][1]["kind"], "ExternalMetricValueList");
        // What every client reads stays the same.
        let aggregated = answer(&request("GET", "/apis", &[V2]), &served).unwrap();
        assert_eq!(aggregated, get("/apis", &[V2]));
    }

    #[test]
    fn other_paths_are_not_ours() {
        for path in ["/", "", "/api", "/apis//", "//apis", "/apis/other", "/openapi", "/openapi/v3/x"] {
            assert_eq!(answer(&request("GET", path, &[]), &Served::NOTHING), None, "{path}");
            assert!(!is_document(path), "{path}");
        }
    }
}
