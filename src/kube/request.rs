//! Builds requests to the Kubernetes API without sending them.
//!
//! Owns paths, queries, content types and verbs. Nothing that a user writes (a name, a namespace, a selector) can
//! change the path of a request: names are checked, and everything is encoded. Must not use a socket, a clock or a
//! credential.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::encode::escape_segment;

/// A resource type and its location in the API. Known types can be constants; discovered ones own their text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub namespaced: bool,
}

const JSON: &str = "application/json";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// The verb as in RBAC and audit logs; also the label of the request counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub verb: Verb,
    /// Starts with `/`; already encoded.
    pub path_and_query: String,
    pub content_type: Option<&'static str>,
    /// The form of the answer; plain JSON by default.
    pub accept: &'static str,
    pub body: Vec<u8>,
    /// Sending it twice has the same effect as once, so it may be repeated if a connection was closed before an answer
    /// came.
    pub idempotent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// A part that cannot be a path segment.
    Segment { what: &'static str, value: String },
    /// This request needs the namespace of a namespaced resource.
    NamespaceMissing { plural: String },
    /// A cluster-scoped resource has no namespace.
    NamespaceGiven { plural: String },
}

/// Options of a list; the default is everything in one page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions<'a> {
    /// Items per page; 0 means no limit.
    pub limit: u32,
    /// The end of the previous page.
    pub continue_token: Option<&'a str>,
    pub resource_version: Option<&'a str>,
    pub label_selector: Option<&'a str>,
    pub field_selector: Option<&'a str>,
}

/// Options of a watch. Bookmarks are always requested, since they keep the resource version recent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchOptions<'a> {
    pub resource_version: Option<&'a str>,
    /// Time after which the server ends the stream; 0 leaves it to the server.
    pub timeout_seconds: u32,
    pub label_selector: Option<&'a str>,
    pub field_selector: Option<&'a str>,
}

/// The format of a patch's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind<'a> {
    /// RFC 7386: lists are replaced as a whole, `null` deletes.
    Merge,
    /// RFC 6902: a list of operations, which may include `test`.
    Json,
    /// Server-side apply; `force` takes fields from other managers.
    Apply { field_manager: &'a str, force: bool },
}

impl Resource {
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str, namespaced: bool) -> Self {
        Resource {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
            namespaced,
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Lists objects, of one namespace or of all.
    pub fn list(&self, namespace: Option<&str>, options: &ListOptions<'_>) -> Result<Request, RequestError> {
        let mut query = Query::new(self.collection(namespace)?);
        if options.limit > 0 {
            query.push("limit", &options.limit.to_string());
        }
        query.push_some("continue", options.continue_token);
        query.push_some("resourceVersion", options.resource_version);
        query.push_some("labelSelector", options.label_selector);
        query.push_some("fieldSelector", options.field_selector);
        Ok(Request::read(Verb::List, query.path))
    }

    /// Watches objects, of one namespace or of all.
    pub fn watch(&self, namespace: Option<&str>, options: &WatchOptions<'_>) -> Result<Request, RequestError> {
        let mut query = Query::new(self.collection(namespace)?);
        query.push("watch", "true");
        query.push("allowWatchBookmarks", "true");
        query.push_some("resourceVersion", options.resource_version);
        if options.timeout_seconds > 0 {
            query.push("timeoutSeconds", &options.timeout_seconds.to_string());
        }
        query.push_some("labelSelector", options.label_selector);
        query.push_some("fieldSelector", options.field_selector);
        Ok(Request::read(Verb::Watch, query.path))
    }

    pub fn get(&self, namespace: Option<&str>, name: &str) -> Result<Request, RequestError> {
        Ok(Request::read(Verb::Get, self.object(namespace, name)?))
    }

    /// Reads `scale`, `status` or another part of an object.
    pub fn get_subresource(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
    ) -> Result<Request, RequestError> {
        Ok(Request::read(Verb::Get, self.subresource(namespace, name, subresource)?))
    }

    /// Creates an object from JSON. The name is in the body, not in the path.
    pub fn create(&self, namespace: Option<&str>, body: Vec<u8>) -> Result<Request, RequestError> {
        if self.namespaced && namespace.is_none() {
            return Err(self.namespace_missing());
        }
        Ok(Request::create(self.collection(namespace)?, body))
    }

    /// Creates a subresource of an object, such as `eviction` or `token`.
    pub fn create_subresource(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        body: Vec<u8>,
    ) -> Result<Request, RequestError> {
        Ok(Request::create(self.subresource(namespace, name, subresource)?, body))
    }

    /// Replaces an object with JSON that contains the resource version at which it was read.
    pub fn replace(&self, namespace: Option<&str>, name: &str, body: Vec<u8>) -> Result<Request, RequestError> {
        Ok(Request::update(self.object(namespace, name)?, body))
    }

    pub fn replace_subresource(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        body: Vec<u8>,
    ) -> Result<Request, RequestError> {
        Ok(Request::update(self.subresource(namespace, name, subresource)?, body))
    }

    pub fn patch(
        &self,
        namespace: Option<&str>,
        name: &str,
        kind: PatchKind<'_>,
        body: Vec<u8>,
    ) -> Result<Request, RequestError> {
        Ok(Request::patch(self.object(namespace, name)?, kind, body))
    }

    pub fn patch_subresource(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        kind: PatchKind<'_>,
        body: Vec<u8>,
    ) -> Result<Request, RequestError> {
        Ok(Request::patch(self.subresource(namespace, name, subresource)?, kind, body))
    }

    /// Deletes an object; with `uid`, only if it is still that object and not a later one of the same name.
    pub fn delete(&self, namespace: Option<&str>, name: &str, uid: Option<&str>) -> Result<Request, RequestError> {
        let mut request = Request::read(Verb::Delete, self.object(namespace, name)?);
        request.method = Method::Delete;
        let Some(uid) = uid else { return Ok(request) };
        let body = serde_json::json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": { "uid": uid },
        });
        Ok(request.with_body("application/json", body.to_string().into_bytes()))
    }

    /// Returns `/apis/<group>/<version>`, which discovery reads.
    pub fn group_version_path(group: &str, version: &str) -> Result<String, RequestError> {
        let mut path = String::new();
        if group.is_empty() {
            path.push_str("/api");
        } else {
            path.push_str("/apis");
            push_segment(&mut path, "group", group)?;
        }
        push_segment(&mut path, "version", version)?;
        Ok(path)
    }

    fn collection(&self, namespace: Option<&str>) -> Result<String, RequestError> {
        let mut path = Self::group_version_path(&self.group, &self.version)?;
        if let Some(namespace) = namespace {
            if !self.namespaced {
                return Err(RequestError::NamespaceGiven { plural: self.plural.to_string() });
            }
            path.push_str("/namespaces");
            push_segment(&mut path, "namespace", namespace)?;
        }
        push_segment(&mut path, "resource", &self.plural)?;
        Ok(path)
    }

    fn object(&self, namespace: Option<&str>, name: &str) -> Result<String, RequestError> {
        if self.namespaced && namespace.is_none() {
            return Err(self.namespace_missing());
        }
        let mut path = self.collection(namespace)?;
        push_segment(&mut path, "name", name)?;
        Ok(path)
    }

    fn subresource(&self, namespace: Option<&str>, name: &str, subresource: &str) -> Result<String, RequestError> {
        let mut path = self.object(namespace, name)?;
        push_segment(&mut path, "subresource", subresource)?;
        Ok(path)
    }

    fn namespace_missing(&self) -> RequestError {
        RequestError::NamespaceMissing { plural: self.plural.to_string() }
    }
}

impl Request {
    /// Builds a GET of a path that is already encoded, for `/version`, `/readyz` and discovery.
    pub fn get_path(path_and_query: impl Into<String>) -> Self {
        Self::read(Verb::Get, path_and_query.into())
    }

    fn read(verb: Verb, path_and_query: String) -> Self {
        Request {
            method: Method::Get,
            verb,
            path_and_query,
            content_type: None,
            accept: JSON,
            body: Vec::new(),
            idempotent: true,
        }
    }

    fn create(path: String, body: Vec<u8>) -> Self {
        let mut request = Self::read(Verb::Create, path);
        request.method = Method::Post;
        request.idempotent = false;
        request.with_body("application/json", body)
    }

    fn update(path: String, body: Vec<u8>) -> Self {
        let mut request = Self::read(Verb::Update, path);
        request.method = Method::Put;
        request.with_body("application/json", body)
    }

    fn patch(path: String, kind: PatchKind<'_>, body: Vec<u8>) -> Self {
        let mut query = Query::new(path);
        if let PatchKind::Apply { field_manager, force } = kind {
            query.push("fieldManager", field_manager);
            if force {
                query.push("force", "true");
            }
        }
        let mut request = Self::read(Verb::Patch, query.path);
        request.method = Method::Patch;
        // Applying operations such as `add` to a list twice has another effect than once.
        request.idempotent = kind != PatchKind::Json;
        request.with_body(kind.content_type(), body)
    }

    fn with_body(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        self.content_type = Some(content_type);
        self.body = body;
        self
    }

    /// Asks for the metadata of a list's objects alone, a tenth of pods.
    pub fn of_metadata(self) -> Self {
        let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";
        Request { accept, ..self }
    }

    /// Is not repeated, since the caller looks first what became of it.
    pub fn once(self) -> Self {
        Request { idempotent: false, ..self }
    }

    /// Adds `name=value` to the query.
    pub fn with_query(self, name: &str, value: &str) -> Self {
        let mut query = Query::new(self.path_and_query);
        query.push(name, value);
        Request { path_and_query: query.path, ..self }
    }
}

impl PatchKind<'_> {
    fn content_type(self) -> &'static str {
        match self {
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Json => "application/json-patch+json",
            // JSON is valid YAML.
            PatchKind::Apply { .. } => "application/apply-patch+yaml",
        }
    }
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
        }
    }
}

/// A path to which query parameters are appended.
struct Query {
    path: String,
    started: bool,
}

impl Query {
    fn new(path: String) -> Self {
        let started = path.contains('?');
        Query { path, started }
    }

    fn push(&mut self, name: &str, value: &str) {
        self.path.push(if self.started { '&' } else { '?' });
        self.started = true;
        self.path.push_str(&escape_segment(name));
        self.path.push('=');
        self.path.push_str(&escape_segment(value));
    }

    fn push_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.push(name, value);
        }
    }
}

/// Appends `/value`. Refuses what the API server itself refuses as a path segment; encoding alone would not help, since
/// servers and proxies decode `%2e%2e` before routing.
fn push_segment(path: &mut String, what: &'static str, value: &str) -> Result<(), RequestError> {
    let bad = value.is_empty()
        || value == "."
        || value == ".."
        || value.chars().any(|c| matches!(c, '/' | '%' | '\\') || c.is_control());
    if bad {
        return Err(RequestError::Segment { what, value: value.to_owned() });
    }
    path.push('/');
    path.push_str(&escape_segment(value));
    Ok(())
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Segment { what, value } => {
                write!(f, "{value:?} cannot be a {what} in a path")
            }
            RequestError::NamespaceMissing { plural } => {
                write!(f, "{plural} live in a namespace and none was given")
            }
            RequestError::NamespaceGiven { plural } => {
                write!(f, "{plural} do not live in namespaces and one was given")
            }
        }
    }
}

impl StdError for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments", true);
    const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps", true);
    const NAMESPACES: Resource = Resource::new("", "v1", "namespaces", false);
    const NS: Option<&str> = Some("shop");

    fn path(request: Result<Request, RequestError>) -> String {
        request.expect("a request").path_and_query
    }

    #[test]
    fn paths_of_core_and_named_groups() {
        let all = ListOptions::default();
        assert_eq!(path(DEPLOYMENTS.list(None, &all)), "/apis/apps/v1/deployments");
        assert_eq!(
            path(DEPLOYMENTS.get_subresource(NS, "web", "scale")),
            "/apis/apps/v1/namespaces/shop/deployments/web/scale"
        );
        assert_eq!(path(CONFIG_MAPS.get(NS, "a.b")), "/api/v1/namespaces/shop/configmaps/a.b");
        assert_eq!(path(NAMESPACES.get(None, "shop")), "/api/v1/namespaces/shop");
        assert_eq!(CONFIG_MAPS.api_version(), "v1");
        assert_eq!(DEPLOYMENTS.api_version(), "apps/v1");
    }

    #[test]
    fn lists_page_and_select() {
        let options = ListOptions {
            limit: 500,
            continue_token: Some("eyJ2IjoxfQ=="),
            resource_version: Some("7"),
            label_selector: Some("app in (a,b),!c"),
            field_selector: Some("metadata.name=x"),
        };
        assert_eq!(
            path(DEPLOYMENTS.list(NS, &options)),
            "/apis/apps/v1/namespaces/shop/deployments?limit=500&continue=eyJ2IjoxfQ%3D%3D\
             &resourceVersion=7&labelSelector=app%20in%20%28a%2Cb%29%2C%21c\
             &fieldSelector=metadata.name%3Dx"
        );
    }

    #[test]
    fn watches_ask_for_bookmarks() {
        let options = WatchOptions { resource_version: Some("42"), timeout_seconds: 290, ..WatchOptions::default() };
        let request = DEPLOYMENTS.watch(None, &options).expect("a request");
        assert_eq!(request.verb, Verb::Watch);
        assert_eq!(
            request.path_and_query,
            "/apis/apps/v1/deployments?watch=true&allowWatchBookmarks=true\
             &resourceVersion=42&timeoutSeconds=290"
        );
    }

    #[test]
    fn writes_have_method_type_and_body() {
        let request = CONFIG_MAPS.create(NS, b"{}".to_vec()).expect("a request");
        assert_eq!((request.method, request.verb), (Method::Post, Verb::Create));
        assert_eq!(request.content_type, Some("application/json"));
        assert!(!request.idempotent);

        let apply = PatchKind::Apply { field_manager: "hpa lite", force: true };
        let request = CONFIG_MAPS.patch(NS, "a", apply, b"{}".to_vec()).expect("a request");
        assert_eq!(request.content_type, Some("application/apply-patch+yaml"));
        assert!(request.idempotent);
        assert!(request.path_and_query.ends_with("/a?fieldManager=hpa%20lite&force=true"));

        let request =
            DEPLOYMENTS.patch_subresource(NS, "web", "scale", PatchKind::Merge, Vec::new()).expect("a request");
        assert_eq!(request.content_type, Some("application/merge-patch+json"));
        let request = DEPLOYMENTS.patch(NS, "web", PatchKind::Json, Vec::new()).expect("a request");
        assert!(!request.idempotent);

        let request = DEPLOYMENTS.replace(NS, "web", Vec::new()).expect("a request");
        assert_eq!((request.method, request.verb), (Method::Put, Verb::Update));
    }

    #[test]
    fn deletes_can_name_the_incarnation() {
        let request = CONFIG_MAPS.delete(NS, "a", None).expect("a request");
        assert!(request.body.is_empty() && request.content_type.is_none());
        let request = CONFIG_MAPS.delete(NS, "a", Some("u-1")).expect("a request");
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("json");
        assert_eq!(body["preconditions"]["uid"], "u-1");
    }

    #[test]
    fn no_name_can_change_the_path() {
        let bad = ["", ".", "..", "a/b", "../secrets", "%2e%2e", "a%2fb", "a\\b", "a\nb", "\0"];
        for name in bad {
            assert!(CONFIG_MAPS.get(NS, name).is_err(), "name {name:?}");
            assert!(CONFIG_MAPS.get(Some(name), "a").is_err(), "namespace {name:?}");
            assert!(CONFIG_MAPS.get_subresource(NS, "a", name).is_err(), "{name:?}");
        }
        // Valid for RBAC objects, and harmless once encoded.
        assert_eq!(
            path(CONFIG_MAPS.get(NS, "system:a?b#c&d=é")),
            "/api/v1/namespaces/shop/configmaps/system%3Aa%3Fb%23c%26d%3D%C3%A9"
        );
    }

    #[test]
    fn namespaces_must_fit_the_resource() {
        assert!(matches!(DEPLOYMENTS.get(None, "web"), Err(RequestError::NamespaceMissing { .. })));
        assert!(matches!(DEPLOYMENTS.create(None, Vec::new()), Err(RequestError::NamespaceMissing { .. })));
        assert!(matches!(NAMESPACES.get(NS, "web"), Err(RequestError::NamespaceGiven { .. })));
    }

    #[test]
    fn queries_append() {
        let request = Request::get_path("/version").with_query("a", "1").with_query("b", "ü");
        assert_eq!(request.path_and_query, "/version?a=1&b=%C3%BC");
    }
}
