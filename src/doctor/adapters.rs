//! Says who answers which metrics: the APIServices, the rules of prometheus-adapter, and other adapters that are asked.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::Doctor;
use crate::forward::{Forwarder, Refusal};
use crate::kube::Request;
use crate::kube::untyped::text;
use crate::sources::Asker;
use crate::wire::adapter;

/// The APIs of metrics that an HPA reads besides `metrics.k8s.io`, and where hpalite serves them only by rules.
const APIS: [(&str, bool); 3] = [
    ("v1beta1.external.metrics.k8s.io", false),
    ("v1beta1.custom.metrics.k8s.io", true),
    ("v1beta2.custom.metrics.k8s.io", true),
];

impl Doctor<'_> {
    /// Reports who answers each API, and those that another server has although hpalite would serve them.
    pub(super) fn who_answers(&mut self) {
        let has_rules = self.subject.adapter_config.is_some();
        for (name, by_rules) in APIS {
            // The one that is hpalite's by its flag has a check of its own.
            let is_checked = name == self.subject.config.apiservice;
            // A list, as the daemon's rights allow no more, and those of APIs that it does not serve not even that.
            let path = format!("/apis/apiregistration.k8s.io/v1/apiservices?fieldSelector=metadata.name%3D{name}");
            if by_rules && !has_rules && self.is_forbidden(&path) {
                self.note(format!("{name}: not known, ask with more rights"));
                continue;
            }
            let Some(mut list) = self.get(&path) else { return };
            let found = list.pointer_mut("/items/0").map_or(Value::Null, Value::take);
            let subject = format!("APIService {name}");
            if found.is_null() {
                self.note(format!("{name}: nobody"));
                if by_rules && has_rules {
                    let cause = "it does not exist, so no HPA can read metrics of objects, which the rules give";
                    let fix =
                        "apply k8s/overlays/prometheus-adapter/apiservices.yaml, or hpalite takeover --metrics custom";
                    self.error("custom-apiservice-missing", &subject, cause, fix);
                }
                continue;
            }
            let (service, namespace) = (text(&found, "/spec/service/name"), text(&found, "/spec/service/namespace"));
            let is_ours = (service, namespace)
                == (self.subject.config.service.0.as_str(), self.subject.config.service.1.as_str());
            let who =
                if is_ours { "hpalite".to_owned() } else { format!("{} at {namespace}/{service}", owner(service)) };
            self.note(format!("{name}: {who}"));
            if by_rules && has_rules && !is_ours && !is_checked {
                let cause = format!("{who} answers it, so the rules of --adapter-config are read by nobody");
                self.error("custom-apiservice-foreign", &subject, cause, "hpalite takeover --metrics custom");
            }
        }
        for target in self.subject.config.forward.iter().flat_map(|forward| forward.targets.clone()) {
            self.note(format!("external metrics that hpalite does not have: {target}"));
        }
    }

    fn is_forbidden(&self, path: &str) -> bool {
        self.client.json::<Value>(&Request::get_path(path)).is_err_and(|error| error.is_forbidden())
    }

    /// Reads the file of rules as the daemon does.
    pub(super) fn rules(&mut self) {
        let Some(file) = self.subject.adapter_config.clone() else { return };
        let subject = format!("--adapter-config {}", file.display());
        let text = match read(&file) {
            Ok(text) => text,
            Err(error) if self.is_pod => {
                let fix = "see that the ConfigMap is there, mounted, and has this key";
                return self.error("adapter-config-unusable", &subject, error, fix);
            }
            Err(error) => {
                let fix = "kubectl hpalite doctor reads it in the pod; hpalite check reads the ConfigMap";
                return self.skipped(&subject, &error, fix);
            }
        };
        match adapter::parse(&text) {
            Err(error) => {
                let fix =
                    "mend it: hpalite check says where; until then the daemon uses what it read before, if anything";
                self.error("adapter-config-unusable", &subject, error, fix);
            }
            Ok(reading) => {
                for problem in &reading.problems {
                    let cause = format!("{} {}; the rule is left out", problem.field, problem.message);
                    self.error("adapter-rule-invalid", &subject, cause, problem.fix.clone());
                }
                for warning in &reading.warnings {
                    let cause = format!("{} {}", warning.field, warning.message);
                    let fix = if warning.fix.is_empty() { "nothing, if it is meant" } else { &warning.fix };
                    self.warn("adapter-rule-doubtful", &subject, cause, fix);
                }
            }
        }
    }

    /// Asks each other adapter for its list of metrics, as the daemon does.
    pub(super) fn forward_targets(&mut self) {
        let Some(forward) = self.subject.config.forward.clone() else { return };
        let client = self.client.clone();
        let (config, own_namespace) = (&self.subject.config, self.own_namespace.clone());
        let asker = Asker::new(config, config.own_addresses(), &client, own_namespace).expect("one thread");
        for (url, refusal) in Forwarder::examine(&forward, &asker.transport) {
            match refusal {
                Refusal::Away(cause) if self.is_pod => {
                    let fix = "see that it runs, its Service, its certificate and the NetworkPolicies between";
                    self.error("forward-target-unreachable", &url, cause, fix);
                }
                Refusal::Away(cause) => {
                    let fix = "names of Services are known in pods only: kubectl hpalite doctor asks from there";
                    self.warn("forward-target-unreachable", &url, format!("from here: {cause}"), fix);
                }
                Refusal::Forbidden(cause) => {
                    let fix = "let --forward-token-file hold the token of an account that may get and list \
                               external.metrics.k8s.io";
                    self.error("forward-target-refuses", &url, cause, fix);
                }
                Refusal::Ourselves | Refusal::Other(_) => {
                    let cause = match refusal {
                        Refusal::Other(cause) => cause,
                        _ => "it is hpalite itself".to_owned(),
                    };
                    let fix = "name the Service of an adapter that serves external.metrics.k8s.io";
                    self.error("forward-target-unusable", &url, cause, fix);
                }
            }
        }
    }
}

/// Returns whose Service it probably is, by its name.
pub(super) fn owner(service: &str) -> &'static str {
    match service {
        name if name.contains("keda") => "KEDA",
        name if name.contains("prometheus-adapter") => "prometheus-adapter",
        name if name.contains("kube-metrics-adapter") => "kube-metrics-adapter",
        name if name.contains("datadog") => "Datadog",
        _ => "another server",
    }
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    // One byte more shows that it is too large.
    opened.take(adapter::BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}
