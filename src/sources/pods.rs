//! Asks the pods of a workload for the Pods metric of an annotated HPA, each at its own address.
//!
//! The address is the pod's own, which its kubelet reports, and nothing else decides it: neither a name, nor a proxy, nor a
//! redirect. Pods on the network of their node are not asked, since their address is the node's, with its kubelet.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::secrets::{POLL_READ, fetch_error};
use crate::formats::json::{Kind, Raw};
use crate::formats::json_path::JsonPath;
use crate::kube::client::Client;
use crate::kube::request::ListOptions;
use crate::kube::resources::{self, PODS};
use crate::polling::credentials::{FetchError, FetchErrorKind};
use crate::polling::failed;
use crate::polling::request::Request;
use crate::polling::transport::{AT_ONCE, Reply, Transport};
use crate::prometheus::answer::bare_status;
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{POLL_MAX, PodMetricSource, PodValues, UnixMillis};
use crate::scaling::world::watched_workloads;
use crate::wire;
use crate::workers::each;

/// Pods of one workload. Each takes a request in each interval.
const PODS_MAX: usize = 200;
/// Bytes of a pod's document. A page of metrics as JSON has some ten thousand.
const DOCUMENT_MAX: usize = 256 << 10;

/// Lists the pods of workloads. Calls block and have their own time limits.
pub trait PodSource: Send + Sync {
    /// Returns the label selector of a workload, and its pods; one more than [`PODS_MAX`] if there are more.
    ///
    /// # Errors
    /// `NotFound` if there is no such workload.
    fn pods(&self, source: &PodMetricSource) -> Result<(String, Vec<Pod>), FetchError>;
}

/// The parts of a pod that decide whether and where it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    /// Empty without one.
    pub address: String,
    /// It runs on the network of its node.
    pub is_of_node: bool,
    pub is_deleted: bool,
    /// Since when it is ready, if it is.
    pub ready_since: Option<UnixMillis>,
}

/// Reads from the API server.
pub(super) struct KubePods {
    pub(super) client: Client,
}

impl PodSource for KubePods {
    fn pods(&self, source: &PodMetricSource) -> Result<(String, Vec<Pod>), FetchError> {
        let unknown = || FetchError { kind: FetchErrorKind::NotFound, message: String::new() };
        let kind = watched_workloads().into_iter().find(|gvkr| gvkr.kind == source.kind).ok_or_else(unknown)?;
        let scale = resources::of(&kind).get_subresource(Some(&source.namespace), &source.name, "scale");
        let scale = scale.map_err(|error| fetch_error(&error.into()))?;
        let body = self.client.send_within(&scale, POLL_READ).map_err(|error| fetch_error(&error))?;
        let scale = wire::workload::scale_from_slice(&body)
            .map_err(|error| FetchError { kind: FetchErrorKind::Other, message: error.to_string() })?;
        let Some(selector) = scale.workload.selector else {
            // An empty selector would select all pods of the namespace.
            return Err(FetchError { kind: FetchErrorKind::Other, message: "it has no selector".to_owned() });
        };
        let options = ListOptions {
            label_selector: Some(&selector),
            limit: u32::try_from(PODS_MAX + 1).unwrap_or(u32::MAX),
            ..ListOptions::default()
        };
        let request = |options: &ListOptions<'_>| PODS.list(Some(&source.namespace), options);
        let mut found = Vec::new();
        let listed = self.client.list(&options, request, Some(Instant::now() + POLL_READ), |pod: WirePod| {
            found.push(Pod::from(pod));
            if found.len() > PODS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        listed.map_err(|error| fetch_error(&error))?;
        Ok((selector, found))
    }
}

/// Asks all pods that are ready, several at once. Blocks.
///
/// # Errors
/// If no pod gives a number. Single ones may: the HPA counts those that are missing as if they were at its target or at
/// zero, whichever changes less.
pub(super) fn ask(
    transport: &Transport,
    pods: &dyn PodSource,
    source: &PodMetricSource,
    now: UnixMillis,
) -> Result<PodValues, PollError> {
    let started = Instant::now();
    let PodMetricSource { namespace, kind, name, .. } = source;
    let (selector, all) = pods.pods(source).map_err(|error| {
        let message = match error.kind {
            FetchErrorKind::NotFound => format!("{kind} {namespace}/{name} does not exist"),
            FetchErrorKind::Other => format!("cannot list the pods of {kind} {namespace}/{name}: {}", error.message),
        };
        failed(ErrorClass::Configuration, message)
    })?;
    if all.len() > PODS_MAX {
        let message = format!("{kind} {namespace}/{name} has more than {PODS_MAX} pods, which are too many to ask");
        return Err(failed(ErrorClass::Configuration, message));
    }
    let ready: Vec<&Pod> = all.iter().filter(|pod| pod.is_asked(source.min_ready_age, now)).collect();
    if ready.is_empty() {
        let why = if all.iter().any(|pod| pod.is_of_node && pod.ready_since.is_some()) {
            "runs on a network of its own: hostNetwork pods are not asked"
        } else {
            "is ready"
        };
        return Err(failed(ErrorClass::Connect, format!("no pod of {kind} {namespace}/{name} {why}")));
    }
    let path = JsonPath::parse(&source.json_key)
        .map_err(|why| failed(ErrorClass::Configuration, format!("json-key {:?} {why}", source.json_key)))?;
    let limit = transport.limit(source.timeout).min(POLL_MAX);
    let deadline = started + POLL_MAX;
    let answers = each(&ready, AT_ONCE, &|pod: &&Pod| {
        let now = Instant::now();
        if now >= deadline {
            let message = format!("not all {} were reached in the time that they have together", source.whose);
            return (pod.name.clone(), Err(failed(ErrorClass::Timeout, message)));
        }
        let request = request(source, pod);
        let address = request.url.trim_end_matches(&source.path).to_owned();
        let read = |reply: Reply| number(&reply, source, &path);
        let answer = transport.exchange(request, limit, deadline.min(now + limit), read);
        // Texts of HPAs must be the same whichever pod it is.
        let named = |error: PollError| {
            let message = error.message.replace(&address, &format!("one of the {}", source.whose));
            failed(error.class, message)
        };
        (pod.name.clone(), answer.flatten().map_err(named))
    });
    let mut values = Vec::new();
    let mut first: Option<PollError> = None;
    for (name, answer) in answers {
        match answer {
            Ok(value) => values.push((name, value)),
            // The error is the same whichever was first.
            Err(error) if first.as_ref().is_none_or(|known| error.message < known.message) => first = Some(error),
            Err(_) => {}
        }
    }
    if values.is_empty() {
        return Err(first.unwrap_or_else(|| failed(ErrorClass::Timeout, "no pod was asked")));
    }
    values.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(PodValues { selector, values })
}

impl Pod {
    fn is_asked(&self, min_ready_age: Duration, now: UnixMillis) -> bool {
        let is_ready = self.ready_since.is_some_and(|since| now.since(since) >= min_ready_age);
        is_ready && !self.is_deleted && !self.is_of_node && self.address.parse::<std::net::IpAddr>().is_ok()
    }
}

fn request(source: &PodMetricSource, pod: &Pod) -> Request {
    let scheme = if source.https { "https" } else { "http" };
    let host = if pod.address.contains(':') { format!("[{}]", pod.address) } else { pod.address.clone() };
    let server = format!("{scheme}://{host}:{}", source.port);
    Request { direct: true, ..Request::get(format!("{server}{}", source.path), server) }
}

/// Reads the number of one pod.
fn number(reply: &Reply, source: &PodMetricSource, path: &JsonPath) -> Result<f64, PollError> {
    let asked = format!("one of the {}", source.whose);
    if reply.status != 200 {
        return Err(bare_status(&asked, reply.status, &reply.body));
    }
    if reply.body.len() > DOCUMENT_MAX {
        let message = format!("{asked} answered more than {} KiB", DOCUMENT_MAX >> 10);
        return Err(failed(ErrorClass::Response, message));
    }
    let fault = |why: &str| failed(ErrorClass::Query, format!("json-key {:?} of {asked}: {why}", source.json_key));
    let root = Raw::parse(&reply.body)
        .ok_or_else(|| failed(ErrorClass::Response, format!("{asked} answered no JSON document")))?;
    let mut found = path.find(root).map_err(|_| fault("it leads to too many values"))?;
    // A list as such stands for its elements.
    if let [one] = found[..]
        && let Some(elements) = one.elements()
    {
        if source.aggregator.is_none() {
            return Err(fault("a list is there, and there is no aggregator"));
        }
        found = elements.collect();
    }
    let numbers = found.iter().map(|value| match value.kind() {
        Kind::Number(number) if number.is_finite() => Some(number),
        _ => None,
    });
    let numbers: Option<Vec<f64>> = numbers.collect();
    let numbers = numbers.ok_or_else(|| fault("something else than a number is there"))?;
    let number = match (numbers[..].len(), source.aggregator) {
        (0, _) => return Err(fault("nothing is there")),
        (1, None) => numbers.first().copied(),
        (_, None) => return Err(fault("several numbers are there, and there is no aggregator")),
        (_, Some(aggregator)) => aggregator.of(&numbers),
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| fault("an infinite number is there"))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WirePod {
    metadata: WireMeta,
    spec: WireSpec,
    status: WireStatus,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireMeta {
    name: String,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireSpec {
    host_network: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireStatus {
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
    conditions: Option<Vec<WireCondition>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireCondition {
    r#type: String,
    status: String,
    last_transition_time: Option<String>,
}

impl From<WirePod> for Pod {
    fn from(WirePod { metadata, spec, status }: WirePod) -> Self {
        let conditions = status.conditions.unwrap_or_default();
        let ready = conditions.into_iter().find(|one| one.r#type == "Ready" && one.status == "True");
        let since = |one: WireCondition| {
            let at = one.last_transition_time.and_then(|text| wire::time::parse_rfc3339(&text));
            at.unwrap_or_default()
        };
        Self {
            name: metadata.name,
            is_of_node: spec.host_network || (!status.pod_ip.is_empty() && status.pod_ip == status.host_ip),
            address: status.pod_ip,
            is_deleted: metadata.deletion_timestamp.is_some(),
            ready_since: ready.map(since),
        }
    }
}

/// Shares one among threads.
pub(super) fn from_api(client: &Client) -> Arc<dyn PodSource> {
    Arc::new(KubePods { client: client.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::Aggregator;

    fn source(json_key: &str, aggregator: Option<Aggregator>) -> PodMetricSource {
        PodMetricSource {
            whose: "pods of shop/Deployment/web".to_owned(),
            namespace: "shop".to_owned(),
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
            https: false,
            port: 9090,
            path: "/metrics?a=b".to_owned(),
            json_key: json_key.to_owned(),
            aggregator,
            timeout: None,
            min_ready_age: Duration::ZERO,
        }
    }

    fn read(json_key: &str, aggregator: Option<Aggregator>, status: u16, body: &str) -> Result<f64, String> {
        let reply = Reply { server: "http://10.0.0.1:9090".to_owned(), status, rest: None, body: body.into() };
        let path = JsonPath::parse(json_key).unwrap();
        number(&reply, &source(json_key, aggregator), &path).map_err(|error| error.message)
    }

    #[test]
    fn a_document_gives_one_number_or_says_why_not() {
        let body = r#"{"http": {"rps": 2.5}, "queues": [{"n": 1}, {"n": 4}], "list": [3, 5], "text": "7", "none": []}"#;
        let max = Some(Aggregator::Maximum);
        for (key, aggregator, expected) in [
            ("$.http.rps", None, Ok(2.5)),
            ("$.http.rps", max, Ok(2.5)),
            ("$.queues[*].n", max, Ok(4.0)),
            ("$.list", Some(Aggregator::Sum), Ok(8.0)),
            ("$.queues[*].n", None, Err("several numbers")),
            ("$.list", None, Err("a list is there")),
            ("$.none", max, Err("nothing is there")),
            ("$.missing", None, Err("nothing is there")),
            ("$.text", None, Err("something else than a number")),
        ] {
            match (read(key, aggregator, 200, body), expected) {
                (Ok(value), Ok(wanted)) => assert_eq!(value, wanted, "{key}"),
                (Err(text), Err(words)) => {
                    assert!(text.contains(words) && text.contains("shop/Deployment/web"), "{key}: {text}");
                    assert!(!text.contains("10.0.0.1"), "texts of HPAs do not change with the pod: {text}");
                }
                (found, _) => panic!("{key}: {found:?}"),
            }
        }
        assert!(read("$.a", None, 302, "").unwrap_err().contains("302"), "a redirect is an answer like any other");
        assert!(read("$.a", None, 200, "<html>").unwrap_err().contains("no JSON"));
        let large = format!("{{\"a\": 1}}{}", " ".repeat(DOCUMENT_MAX));
        assert!(read("$.a", None, 200, &large).unwrap_err().contains("more than 256 KiB"));
    }

    #[test]
    fn only_ready_pods_on_a_network_of_their_own_are_asked() {
        let pod = |change: &str| -> Pod {
            let mut wire = serde_json::json!({
                "metadata": { "name": "web-1" }, "spec": {},
                "status": { "podIP": "10.1.2.3", "hostIP": "10.0.0.1", "conditions": [
                    { "type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z" } ] },
            });
            if let Some((path, value)) = change.split_once('=') {
                let value: serde_json::Value = serde_json::from_str(value).unwrap();
                let (parent, name) = path.rsplit_once('/').unwrap();
                wire.pointer_mut(parent).unwrap()[name] = value;
            }
            serde_json::from_value::<WirePod>(wire).unwrap().into()
        };
        let now = UnixMillis(90_000);
        assert!(pod("").is_asked(Duration::from_secs(30), now) && !pod("").is_asked(Duration::from_secs(31), now));
        for change in [
            "/metadata/deletionTimestamp=\"1970-01-01T00:01:00Z\"",
            "/spec/hostNetwork=true",
            "/status/podIP=\"10.0.0.1\"",
            "/status/podIP=\"\"",
            "/status/podIP=\"metadata.google.internal\"",
            "/status/conditions=[]",
            "/status/conditions=null",
        ] {
            assert!(!pod(change).is_asked(Duration::ZERO, now), "{change}");
        }
        let ipv6 = pod("/status/podIP=\"fd00::1\"");
        assert_eq!(request(&source("$", None), &ipv6).url, "http://[fd00::1]:9090/metrics?a=b");
        assert!(request(&source("$", None), &ipv6).direct);
    }
}
