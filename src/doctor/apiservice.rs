//! Checks the path of a read from the API server to a pod: APIService, Service, endpoints.

use serde_json::Value;

use super::Doctor;
use super::adapters::owner;
use crate::encode::base64_decode;
use crate::http::chain::certificates_from_pem;
use crate::kube::untyped::{condition, has_ready_endpoint, items, selects, text};
use crate::kube::{Error, Request};

const UNREACHED: &str =
    "allow the API server to reach the pods: NetworkPolicy, firewall towards port 6443, or overlays/host-network";

impl Doctor<'_> {
    pub(super) fn apiservice(&mut self) {
        let subject = format!("APIService {}", self.subject.config.apiservice);
        let Some(found) = self.find_apiservice() else { return };
        if found.is_null() {
            let cause = "it does not exist, so no HPA can read external metrics";
            return self.error("apiservice-missing", &subject, cause, "apply k8s/base/apiservice.yaml");
        }
        let (service, namespace) = &self.subject.config.service;
        let points_to = (text(&found, "/spec/service/name"), text(&found, "/spec/service/namespace"));
        if points_to != (service, namespace) {
            let cause = format!("it points to {}'s Service {}/{}", owner(points_to.0), points_to.1, points_to.0);
            let fix = "stop that server, then hpalite takeover";
            return self.error("apiservice-foreign", &subject, cause, fix);
        }
        self.ca_bundle(&subject, &found);
        let Some(available) = condition(&found, "Available") else { return };
        if text(available, "/status") != "True" {
            let (reason, message) = (text(available, "/reason"), text(available, "/message"));
            let fix = match reason {
                "ServiceNotFound" => "create the Service",
                "MissingEndpoints" | "EndpointsNotFound" => "see why no pod of the Service is ready",
                "ServicePortError" => "let spec.service.port be a port of the Service",
                _ if message.contains("x509") => "clear spec.caBundle; the daemon writes its own CA there",
                _ => UNREACHED,
            };
            self.error("apiservice-unavailable", &subject, format!("{reason}: {message}"), fix);
        }
    }

    fn ca_bundle(&mut self, subject: &str, apiservice: &Value) {
        let bundle = text(apiservice, "/spec/caBundle");
        if apiservice.pointer("/spec/insecureSkipTLSVerify") == Some(&Value::Bool(true)) {
            let cause = "spec.insecureSkipTLSVerify is on: anybody on the path can decide replica counts";
            self.warn("apiservice-insecure", subject, cause, "remove it; the daemon keeps spec.caBundle");
        } else if bundle.is_empty() {
            let cause = "spec.caBundle is empty: the daemon has not written its CA";
            self.error("ca-bundle-missing", subject, cause, "see that the daemon runs and may patch the APIService");
        } else if let Err(cause) = pem(bundle).and_then(|pem| {
            let certificates = certificates_from_pem(&pem).map_err(|error| error.to_string())?;
            if certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(()) }
        }) {
            let cause = format!("spec.caBundle is unusable: {cause}");
            self.error("ca-bundle-invalid", subject, cause, "clear it; the daemon writes its own CA there");
        }
    }

    pub(super) fn service(&mut self) {
        let (name, namespace) = &self.subject.config.service;
        let subject = format!("Service {namespace}/{name}");
        let Some(found) = self.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")) else { return };
        if found.is_null() {
            return self.error("service-missing", &subject, "it does not exist", "apply k8s/base/service.yaml");
        }
        let Some(apiservice) = self.find_apiservice() else { return };
        if let Some(port) = apiservice.pointer("/spec/service/port").and_then(Value::as_i64)
            && !items(&found, "/spec/ports").iter().any(|item| item["port"] == port)
        {
            let cause = format!("it has no port {port}, which the APIService names");
            self.error("service-port", &subject, cause, "let spec.service.port of the APIService be a port of it");
        }
        // An ExternalName Service has no endpoints of its own.
        if text(&found, "/spec/type") == "ExternalName" {
            return;
        }
        let label = format!("labelSelector=kubernetes.io%2Fservice-name%3D{name}");
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{label}");
        let Some(slices) = self.get(&path) else { return };
        if !has_ready_endpoint(items(&slices, "/items")) {
            let Some((seen, fix)) = self.unready(&found) else { return };
            self.error("service-no-endpoints", &subject, format!("it has no ready endpoint: {seen}"), fix);
        }
    }

    /// Returns why no pod of a Service is ready, and what fixes it.
    fn unready(&mut self, service: &Value) -> Option<(String, &'static str)> {
        let namespace = text(service, "/metadata/namespace").to_owned();
        let selector = service.pointer("/spec/selector").and_then(Value::as_object);
        let labels: Vec<String> = selector
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some(format!("{}%3D{}", key.replace('/', "%2F"), value.as_str()?)))
            .collect();
        if labels.is_empty() {
            return Some((
                "it has no selector, and nobody gives it endpoints".to_owned(),
                "apply k8s/base/service.yaml",
            ));
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}", labels.join("%2C"));
        // The pod's own rights may not allow listing pods; the finding is then less detailed but still valid.
        let pods = self.client.json::<Value>(&Request::get_path(path)).unwrap_or_default();
        if let Some(pod) = items(&pods, "/items").first() {
            let why = why_unready(pod);
            let name = text(pod, "/metadata/name");
            return Some((format!("pod {name} is not ready: {why}"), "see kubectl describe pod, its log, and /readyz"));
        }
        for (kind, plural) in [("StatefulSet", "statefulsets"), ("Deployment", "deployments")] {
            let list = self.get(&format!("/apis/apps/v1/namespaces/{namespace}/{plural}"))?;
            if let Some(workload) = items(&list, "/items").iter().find(|workload| selects(service, workload)) {
                let name = text(workload, "/metadata/name");
                return Some(if workload.pointer("/spec/replicas") == Some(&Value::from(0)) {
                    (format!("{kind} {name} is scaled to 0"), "scale it up")
                } else {
                    let fix = "see the events of kubectl describe: a quota, an admission policy, a ServiceAccount";
                    (format!("{kind} {name} has no pod"), fix)
                });
            }
        }
        Some(("no workload has pods that its selector matches".to_owned(), "apply k8s/base, or compare the selector"))
    }

    /// Requests the API itself, because the condition may be some seconds old.
    pub(super) fn reach(&mut self) {
        let name = &self.subject.config.apiservice;
        let (version, group) = name.split_once('.').unwrap_or((name, ""));
        let path = format!("/apis/{group}/{version}");
        match self.client.send(&Request::get_path(&path)) {
            Ok(_) => {}
            Err(error) if error.is_forbidden() => self.not_checked(&path, &error),
            Err(error) => {
                let fix = match &error {
                    Error::Status(status) if status.code == 404 => "apply k8s/base/apiservice.yaml",
                    _ => UNREACHED,
                };
                self.error("api-unreachable", &path, format!("the API server answers: {error}"), fix);
            }
        }
    }
}

/// Returns what keeps a pod from being ready: a waiting container, its last termination, or the pod's conditions.
fn why_unready(pod: &Value) -> String {
    let statuses = ["/status/initContainerStatuses", "/status/containerStatuses"];
    for status in statuses.iter().flat_map(|pointer| items(pod, pointer)) {
        let waiting = text(status, "/state/waiting/reason");
        let ended = text(status, "/lastState/terminated/reason");
        if waiting.is_empty() || waiting == "PodInitializing" {
            continue;
        }
        let message = text(status, "/state/waiting/message");
        let last = if ended.is_empty() { String::new() } else { format!(", last ended by {ended}") };
        return format!("{waiting}{last} {message}").trim_end().to_owned();
    }
    for kind in ["PodScheduled", "Ready"] {
        if let Some(condition) = condition(pod, kind).filter(|condition| condition["status"] == "False") {
            let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
            return format!("{reason} {message}").trim().to_owned();
        }
    }
    format!("its phase is {}", text(pod, "/status/phase"))
}

/// Returns the PEM text of a caBundle.
pub(super) fn pem(bundle: &str) -> Result<String, String> {
    let bytes = base64_decode(bundle).ok_or("it is not base64")?;
    String::from_utf8(bytes).map_err(|_| "it is not PEM".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_reason_why_a_pod_is_not_ready_is_found() {
        let waiting = |reason: &str| json!({ "state": { "waiting": { "reason": reason, "message": "m" } } });
        let unscheduled =
            json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes" });
        let unready = json!({ "type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "c" });
        let mut crashed = waiting("CrashLoopBackOff");
        crashed["lastState"]["terminated"]["reason"] = "OOMKilled".into();
        for (status, expected) in [
            (json!({ "containerStatuses": [waiting("ImagePullBackOff")] }), "ImagePullBackOff m"),
            (json!({ "containerStatuses": [crashed] }), "CrashLoopBackOff, last ended by OOMKilled m"),
            (json!({ "conditions": [unscheduled] }), "Unschedulable 0/3 nodes"),
            (
                json!({ "conditions": [unready], "containerStatuses": [{ "state": { "running": {} } }] }),
                "ContainersNotReady c",
            ),
            (json!({ "phase": "Pending" }), "its phase is Pending"),
        ] {
            assert_eq!(why_unready(&json!({ "status": status })), expected);
        }
    }
}
