//! An API server in memory: lists in pages, watches, creates, patches and deletes of any resource over plain HTTP.
//!
//! It supports sizes that a real control plane cannot handle on one small machine. It admits everything, converts
//! nothing and runs no controller, so that only the daemon is measured.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// How long a watch without changes is silent before it sends a bookmark.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);

pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By the path of the collection without a namespace, such as `/apis/apps/v1/deployments`.
    collections: HashMap<String, Collection>,
    /// By verb and plural, such as `patch scaledobjects/status`.
    writes: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Collection {
    /// JSON by namespace and name.
    objects: BTreeMap<(String, String), Arc<str>>,
    /// Events that watches still have to send: version and line.
    log: VecDeque<(u64, Arc<str>)>,
}

/// The object or collection of a request.
struct Target {
    collection: String,
    plural: String,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    body: Vec<u8>,
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&server);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Adds an object as a client would.
    pub(crate) fn create(&self, collection: &str, object: Value) {
        let mut state = self.shared.state.lock().expect("lock");
        state.create(collection, object);
        self.shared.changed.notify_all();
    }

    /// Returns the number of objects in a collection.
    pub(crate) fn count(&self, collection: &str) -> usize {
        let state = self.shared.state.lock().expect("lock");
        state.collections.get(collection).map_or(0, |collection| collection.objects.len())
    }

    /// Returns the number of a collection's objects whose JSON contains a text.
    pub(crate) fn count_with(&self, collection: &str, text: &str) -> usize {
        let state = self.shared.state.lock().expect("lock");
        let collection = state.collections.get(collection);
        collection.map_or(0, |collection| collection.objects.values().filter(|json| json.contains(text)).count())
    }

    /// Returns the writes so far by verb and resource, without reviews and the Lease.
    pub(crate) fn writes(&self) -> BTreeMap<String, u64> {
        self.shared.state.lock().expect("lock").writes.clone()
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let Ok(mut writer) = stream.try_clone() else { return };
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader) {
            if request.query.split('&').any(|part| part == "watch=true") {
                self.watch(&mut writer, &request);
                return;
            }
            let (code, body) = self.answer(&request);
            let head = format!(
                "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            if writer.write_all(&[head.as_bytes(), body.as_bytes()].concat()).is_err() {
                return;
            }
        }
    }

    fn watch(&self, stream: &mut TcpStream, request: &Request) {
        let Some(target) = Target::of(&request.path) else { return };
        let mut sent: u64 = parameter(&request.query, "resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut out = head.as_bytes().to_vec();
        loop {
            if stream.write_all(&out).is_err() {
                return;
            }
            out.clear();
            let mut state = self.state.lock().expect("lock");
            let news = |state: &State, sent: u64| -> Vec<(u64, Arc<str>)> {
                let Some(collection) = state.collections.get(&target.collection) else { return Vec::new() };
                let from = collection.log.partition_point(|(version, _)| *version <= sent);
                collection.log.range(from..).take(512).cloned().collect()
            };
            let mut lines = news(&state, sent);
            if lines.is_empty() {
                let waited = self.changed.wait_timeout_while(state, BOOKMARK_EVERY, |state| {
                    lines = news(state, sent);
                    lines.is_empty()
                });
                state = waited.expect("lock").0;
            }
            if lines.is_empty() {
                sent = sent.max(state.version);
                let kind = json!({ "kind": "Object", "metadata": { "resourceVersion": state.version.to_string() } });
                lines.push((sent, json!({ "type": "BOOKMARK", "object": kind }).to_string().into()));
            }
            drop(state);
            for (version, line) in lines {
                sent = version;
                let _ = write!(out, "{:x}\r\n{line}\n\r\n", line.len() + 1);
            }
        }
    }

    fn answer(&self, request: &Request) -> (u16, String) {
        let Some(target) = Target::of(&request.path) else { return (404, status(404)) };
        if request.method == "GET" && target.collection.starts_with("/apis/keda.k8s.io/") {
            return (404, status(404));
        }
        let mut state = self.state.lock().expect("lock");
        if request.method != "GET" && target.plural != "leases" && !target.plural.ends_with("reviews") {
            let verb = request.method.to_ascii_lowercase();
            let part = target.subresource.as_ref().map_or(String::new(), |part| format!("/{part}"));
            *state.writes.entry(format!("{verb} {}{part}", target.plural)).or_default() += 1;
        }
        let answer = match request.method.as_str() {
            "GET" => state.get(&target, &request.query),
            "POST" => state.post(&target, serde_json::from_slice(&request.body).unwrap_or_default()),
            "DELETE" => state.delete(&target),
            _ => state.change(&target, &request.method, serde_json::from_slice(&request.body).unwrap_or_default()),
        };
        self.changed.notify_all();
        answer
    }
}

impl State {
    fn get(&self, target: &Target, query: &str) -> (u16, String) {
        let objects = self.collections.get(&target.collection).map(|collection| &collection.objects);
        if let Some(name) = &target.name {
            let found = objects.and_then(|objects| objects.get(&(target.namespace.clone(), name.clone())));
            return match (found, target.subresource.as_deref()) {
                (None, _) => (404, status(404)),
                (Some(_), Some("scale")) => {
                    let metadata = json!({ "namespace": target.namespace, "name": name, "resourceVersion": "1" });
                    let scale = json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
                        "spec": { "replicas": 1 }, "status": { "replicas": 1, "selector": "app=x" } });
                    (200, scale.to_string())
                }
                (Some(json), _) => (200, json.to_string()),
            };
        }
        let limit = parameter(query, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let after = parameter(query, "continue").and_then(|token| {
            let (namespace, name) = token.split_once("__")?;
            Some((namespace.to_owned(), name.to_owned()))
        });
        let wanted = parameter(query, "fieldSelector").and_then(|selector| {
            Some(
                selector
                    .strip_prefix("metadata.name%3D")
                    .or_else(|| selector.strip_prefix("metadata.name="))?
                    .to_owned(),
            )
        });
        let mut items = String::new();
        let (mut count, mut last) = (0, None);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = objects.into_iter().flat_map(|objects| objects.range((from.clone(), Bound::Unbounded)));
        if let Some(name) = wanted {
            let found = objects.and_then(|objects| objects.get(&(target.namespace.clone(), name)));
            items.extend(found.map(|json| json.to_string()));
        } else {
            for (key, json) in rest.by_ref() {
                if !target.namespace.is_empty() && key.0 != target.namespace {
                    continue;
                }
                if count > 0 {
                    items.push(',');
                }
                items.push_str(json);
                count += 1;
                last = Some(key);
                if count == limit {
                    break;
                }
            }
        }
        let token = match (last, rest.next()) {
            (Some((namespace, name)), Some(_)) => format!("{namespace}__{name}"),
            _ => String::new(),
        };
        let body = format!(
            r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{}","continue":"{token}"}},"items":[{items}]}}"#,
            self.version
        );
        (200, body)
    }

    fn post(&mut self, target: &Target, mut object: Value) -> (u16, String) {
        if target.plural.ends_with("reviews") {
            object["status"] = json!({ "allowed": true, "authenticated": false });
            return (201, object.to_string());
        }
        if target.plural == "events" {
            return (201, object.to_string());
        }
        if !target.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(target.namespace);
        }
        (201, self.create(&target.collection, object).to_string())
    }

    fn create(&mut self, collection: &str, mut object: Value) -> Arc<str> {
        let version = self.version + 1;
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{version:012}"));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.store(collection, object, "ADDED")
    }

    fn store(&mut self, collection: &str, mut object: Value, what: &str) -> Arc<str> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        let json: Arc<str> = object.to_string().into();
        let line: Arc<str> = format!(r#"{{"type":"{what}","object":{json}}}"#).into();
        let collection = self.collections.entry(collection.to_owned()).or_default();
        collection.log.push_back((self.version, line));
        // Watches here are fast; one that falls farther behind would miss events.
        if collection.log.len() > 200_000 {
            collection.log.pop_front();
        }
        if what == "DELETED" {
            collection.objects.remove(&key);
        } else {
            collection.objects.insert(key, Arc::clone(&json));
        }
        json
    }

    fn change(&mut self, target: &Target, method: &str, body: Value) -> (u16, String) {
        let Some(name) = &target.name else { return (405, status(405)) };
        if target.subresource.as_deref() == Some("scale") {
            return (200, body.to_string());
        }
        let key = (target.namespace.clone(), name.clone());
        let found = self.collections.get(&target.collection).and_then(|collection| collection.objects.get(&key));
        let Some(found) = found else {
            // Only a server-side apply creates missing objects, and only HPAs are applied.
            if target.plural != "horizontalpodautoscalers" {
                return (404, status(404));
            }
            return (201, self.create(&target.collection, body).to_string());
        };
        let mut object: Value = serde_json::from_str(found).expect("our own JSON");
        let generation = object["metadata"]["generation"].as_u64().unwrap_or(1);
        let spec = object["spec"].clone();
        if method == "PUT" {
            let metadata = object["metadata"].clone();
            object = body;
            for field in ["uid", "creationTimestamp"] {
                object["metadata"][field] = metadata[field].clone();
            }
        } else {
            merge(&mut object, &body);
        }
        let changed = u64::from(object["spec"] != spec);
        object["metadata"]["generation"] = json!(generation + changed);
        (200, self.store(&target.collection, object, "MODIFIED").to_string())
    }

    fn delete(&mut self, target: &Target) -> (u16, String) {
        let key = (target.namespace.clone(), target.name.clone().unwrap_or_default());
        let found = self.collections.get(&target.collection).and_then(|collection| collection.objects.get(&key));
        let Some(found) = found else { return (404, status(404)) };
        let object = serde_json::from_str(found).expect("our own JSON");
        (200, self.store(&target.collection, object, "DELETED").to_string())
    }
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let mut parts: Vec<&str> = path.split('/').skip(1).collect();
        let head = if parts.first() == Some(&"api") { 2 } else { 3 };
        if parts.len() <= head {
            return None;
        }
        let mut rest = parts.split_off(head);
        let mut namespace = String::new();
        if rest.len() > 2 && rest[0] == "namespaces" {
            rest[1].clone_into(&mut namespace);
            rest.drain(..2);
        }
        let mut rest = rest.into_iter().map(str::to_owned);
        let plural = rest.next()?;
        let collection = format!("/{}/{plural}", parts.join("/"));
        Some(Self { collection, plural, namespace, name: rest.next(), subresource: rest.next() })
    }
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return patch.clone_into(object) };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            object.as_object_mut().expect("made one above").remove(name);
        } else {
            merge(&mut object[name.as_str()], value);
        }
    }
}

fn status(code: u16) -> String {
    let reason = if code == 404 { "NotFound" } else { "MethodNotAllowed" };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code }).to_string()
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), body })
}
