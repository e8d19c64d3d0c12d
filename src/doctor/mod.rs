//! `hpalite doctor`: what is wrong with an installation, why, and what mends it.
//!
//! Only asks the API server, changes nothing. Each check adds findings; one that may not be made is a
//! finding too, so that silence means health.

mod rights;

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::kube::{Client, ClusterConfig, Error, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Warning,
    Error,
}

/// One thing that is wrong. `id` is stable, for scripts.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub severity: Severity,
    pub subject: String,
    pub cause: String,
    pub fix: String,
}

/// What is examined.
#[derive(Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name and namespace; the service account is called the same.
    pub service: (String, String),
    pub apiservice: String,
    /// ScaledObjects of this namespace only.
    pub namespace: Option<String>,
}

/// All findings, in the order of the checks.
///
/// # Errors
/// No usable configuration, or the API server does not answer.
pub fn examine(kubeconfig: Option<&Path>, subject: &Subject) -> Result<Vec<Finding>, Vec<String>> {
    let client = Client::new(ClusterConfig::load(kubeconfig).map_err(|error| error.problems)?);
    client.send(&Request::get_path("/version")).map_err(|error| vec![format!("the API server: {error}")])?;
    let mut doctor = Doctor { client, subject, findings: Vec::new() };
    doctor.apiservice();
    doctor.service();
    doctor.crds();
    doctor.rights();
    doctor.keda();
    doctor.lease();
    doctor.scaled_objects();
    Ok(doctor.findings)
}

/// Prints findings for people.
///
/// # Errors
/// Those of `out`.
pub fn print(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    for finding in findings {
        let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
        writeln!(out, "{severity:7}  {:26}  {}", finding.id, finding.subject)?;
        writeln!(out, "         cause: {}\n         fix:   {}", finding.cause, finding.fix)?;
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    writeln!(out, "{errors} errors, {} warnings", findings.len() - errors)
}

struct Doctor<'a> {
    client: Client,
    subject: &'a Subject,
    findings: Vec<Finding>,
}

impl Doctor<'_> {
    fn error(&mut self, id: &'static str, subject: &str, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, id, subject, cause.into(), fix.into());
    }

    fn warn(&mut self, id: &'static str, subject: &str, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Warning, id, subject, cause.into(), fix.into());
    }

    fn add(&mut self, severity: Severity, id: &'static str, subject: &str, cause: String, fix: String) {
        self.findings.push(Finding { id, severity, subject: subject.to_owned(), cause, fix });
    }

    /// The object, Null where there is none, None (and a finding) where it cannot be read.
    fn get(&mut self, path: &str) -> Option<Value> {
        match self.client.json(&Request::get_path(path)) {
            Ok(value) => Some(value),
            Err(error) if error.is_not_found() => Some(Value::Null),
            Err(error) => {
                self.not_checked(path, &error);
                None
            }
        }
    }

    fn not_checked(&mut self, path: &str, error: &Error) {
        let fix = "run with --kubeconfig of an administrator";
        self.warn("not-checked", path, error.to_string(), fix);
    }

    fn apiservice(&mut self) {
        let name = &self.subject.apiservice;
        let subject = format!("APIService {name}");
        let Some(found) = self.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}")) else { return };
        if found.is_null() {
            let cause = "it does not exist, so no HPA can read external metrics";
            return self.error("apiservice-missing", &subject, cause, "apply k8s/base/apiservice.yaml");
        }
        let (service, namespace) = &self.subject.service;
        let points_to = (text(&found, "/spec/service/name"), text(&found, "/spec/service/namespace"));
        if points_to != (service, namespace) {
            let owner = match points_to.0 {
                name if name.contains("keda") => "KEDA's",
                name if name.contains("prometheus-adapter") => "prometheus-adapter's",
                _ => "another server's",
            };
            let cause = format!("it points to {owner} Service {}/{}", points_to.1, points_to.0);
            let fix = format!("stop that server and let spec.service name {namespace}/{service}");
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
                _ => "allow the API server to reach the pods: NetworkPolicy, firewall towards port 6443, host network",
            };
            self.error("apiservice-unavailable", &subject, format!("{reason}: {message}"), fix);
        }
    }

    fn ca_bundle(&mut self, subject: &str, apiservice: &Value) {
        if apiservice.pointer("/spec/insecureSkipTLSVerify") == Some(&Value::Bool(true)) {
            let cause = "spec.insecureSkipTLSVerify is on: anybody on the path can decide replica counts";
            self.warn("apiservice-insecure", subject, cause, "remove it; the daemon keeps spec.caBundle");
        } else if text(apiservice, "/spec/caBundle").is_empty() {
            let cause = "spec.caBundle is empty: the daemon has not written its CA";
            self.error("ca-bundle-missing", subject, cause, "see that the daemon runs and may patch the APIService");
        }
    }

    fn service(&mut self) {
        let (name, namespace) = &self.subject.service;
        let subject = format!("Service {namespace}/{name}");
        let Some(found) = self.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")) else { return };
        if found.is_null() {
            return self.error("service-missing", &subject, "it does not exist", "apply k8s/base/service.yaml");
        }
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", self.subject.apiservice);
        let Some(apiservice) = self.get(&path) else { return };
        if let Some(port) = apiservice.pointer("/spec/service/port").and_then(Value::as_i64)
            && !items(&found, "/spec/ports").iter().any(|item| item["port"] == port)
        {
            let cause = format!("it has no port {port}, which the APIService names");
            self.error("service-port", &subject, cause, "let spec.service.port of the APIService be a port of it");
        }
        // An external name has no endpoints of its own.
        if text(&found, "/spec/type") == "ExternalName" {
            return;
        }
        let label = format!("labelSelector=kubernetes.io%2Fservice-name%3D{name}");
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{label}");
        let Some(slices) = self.get(&path) else { return };
        let is_ready = |endpoint: &Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
        if !items(&slices, "/items").iter().any(|slice| items(slice, "/endpoints").iter().any(is_ready)) {
            let cause = "it has no ready endpoint: no pod that its selector matches is ready";
            self.error("service-no-endpoints", &subject, cause, "compare the selector and look at the pods' /readyz");
        }
    }

    fn crds(&mut self) {
        for plural in ["scaledobjects", "triggerauthentications", "clustertriggerauthentications"] {
            let subject = format!("CustomResourceDefinition {plural}.keda.sh");
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.keda.sh");
            let Some(found) = self.get(&path) else { continue };
            let versions = items(&found, "/spec/versions");
            let version = versions.iter().find(|version| version["name"] == "v1alpha1" && version["served"] == true);
            let fix = "kubectl apply --server-side -k k8s/crds";
            match version {
                _ if found.is_null() => self.error("crd-missing", &subject, "it does not exist", fix),
                None => self.error("crd-outdated", &subject, "it does not serve v1alpha1", fix),
                Some(version) if version.pointer("/subresources/status").is_none() => {
                    self.error("crd-outdated", &subject, "v1alpha1 has no status subresource", fix);
                }
                Some(version) => {
                    let schema = "/schema/openAPIV3Schema/properties/spec/properties/advanced/properties";
                    let formulas = format!("{schema}/scalingModifiers");
                    if plural == "scaledobjects" && version.pointer(&formulas).is_none() {
                        let cause = "its schema has no spec.advanced.scalingModifiers, so formulas are dropped";
                        self.warn("crd-outdated", &subject, cause, fix);
                    }
                }
            }
        }
    }

    fn keda(&mut self) {
        let path = "/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dkeda-operator";
        for operator in self.get(path).iter().flat_map(|list| items(list, "/items")) {
            if operator.pointer("/spec/replicas") != Some(&Value::from(0)) {
                let subject = format!("Deployment {}/keda-operator", text(operator, "/metadata/namespace"));
                let cause = "KEDA runs too: both write the same HPAs and replica counts";
                self.error("keda-running", &subject, cause, "scale it to 0, or stop hpalite");
            }
        }
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
        let Some(list) = self.get(path) else { return };
        for configuration in items(&list, "/items") {
            for webhook in items(configuration, "/webhooks") {
                let is_keda = |rule: &Value| items(rule, "/apiGroups").iter().any(|group| group == "keda.sh");
                if !items(webhook, "/rules").iter().any(is_keda) {
                    continue;
                }
                let (name, namespace) =
                    (text(webhook, "/clientConfig/service/name"), text(webhook, "/clientConfig/service/namespace"));
                if name.is_empty() {
                    continue;
                }
                let Some(service) = self.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")) else {
                    continue;
                };
                if service.is_null() {
                    let configuration = text(configuration, "/metadata/name");
                    let cause = format!("left behind: its Service {namespace}/{name} is gone, so writes are refused");
                    let fix = format!("kubectl delete validatingwebhookconfiguration {configuration}");
                    let subject = format!("ValidatingWebhookConfiguration {configuration}");
                    self.error("webhook-left-behind", &subject, cause, fix);
                }
            }
        }
    }

    fn lease(&mut self) {
        let (name, namespace) = &self.subject.service;
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
        let Some(lease) = self.get(&path) else { return };
        if text(&lease, "/spec/holderIdentity").is_empty() {
            let cause = "no instance holds it: nothing is scaled, unless the daemon runs with --leader-elect=false";
            let fix = "see that a pod of hpalite runs and may write Leases";
            self.warn("no-leader", &format!("Lease {namespace}/{name}"), cause, fix);
        }
    }

    fn scaled_objects(&mut self) {
        let within = self.subject.namespace.as_ref().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let Some(list) = self.get(&format!("/apis/keda.sh/v1alpha1{within}/scaledobjects")) else { return };
        for object in items(&list, "/items") {
            let name = format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"));
            let subject = format!("ScaledObject {name}");
            let deleted = text(object, "/metadata/deletionTimestamp");
            if !deleted.is_empty() {
                let cause = format!("being deleted since {deleted}, held by {}", object["metadata"]["finalizers"]);
                let fix = "see that hpalite runs; if it never will again, remove the finalizer";
                self.warn("scaled-object-deleting", &subject, cause, fix);
            } else if let Some(ready) = condition(object, "Ready")
                && text(ready, "/status") != "True"
            {
                let cause = format!("{}: {}", text(ready, "/reason"), text(ready, "/message"));
                let fix = format!("mend what the cause names; hpalite why {name} has the history");
                self.error("scaled-object-not-ready", &subject, cause, fix);
            }
        }
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions").iter().find(|condition| condition["type"] == kind)
}
