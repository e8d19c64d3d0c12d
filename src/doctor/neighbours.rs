//! Checks who else acts (KEDA, other installations of hpalite, another holder of the Lease), and the clocks.

use serde_json::Value;

use super::Doctor;
use crate::kube::untyped::{items, text};
use crate::scaling::model::UnixMillis;
use crate::store::unix_now;
use crate::wire::time::parse_rfc3339;

/// Credentials, certificates and cooldowns tolerate this much; an answer's `Date` is in whole seconds.
const SKEW_MAX_MS: i64 = 5_000;

impl Doctor<'_> {
    pub(super) fn neighbours(&mut self) {
        self.keda();
        self.keda_webhooks();
        let mut found = Vec::new();
        let mut shadows = Vec::new();
        for plural in ["statefulsets", "deployments"] {
            let path = format!("/apis/apps/v1/{plural}?labelSelector=app.kubernetes.io%2Fname%3Dhpalite");
            let Some(list) = self.get(&path) else { return };
            for workload in items(&list, "/items") {
                if workload.pointer("/spec/replicas") != Some(&Value::from(0)) {
                    if is_shadow(workload) {
                        shadows.push((
                            text(workload, "/metadata/namespace").to_owned(),
                            text(workload, "/metadata/name").to_owned(),
                        ));
                        continue;
                    }
                    found.push((
                        text(workload, "/metadata/namespace").to_owned(),
                        text(workload, "/metadata/name").to_owned(),
                    ));
                }
            }
        }
        for (namespace, name) in shadows {
            let cause =
                "it runs as a shadow: it decides and records, and writes nothing, so that nothing is scaled by it";
            let fix = "nothing, if it is meant: hpalite compare says where it would differ; else remove --shadow";
            self.warn("installation-shadow", &format!("{namespace}/{name}"), cause, fix);
        }
        if found.len() > 1 {
            let all: Vec<String> = found.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
            let cause = "each has a Lease of its own, so all of them scale";
            let fix = "keep one, or give each its own --namespace";
            self.warn("second-installation", &all.join(", "), cause, fix);
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
    }

    fn keda_webhooks(&mut self) {
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
        let Some(list) = self.get(path) else { return };
        let is_keda = |rule: &Value| items(rule, "/apiGroups").iter().any(|group| group == "keda.sh");
        for configuration in items(&list, "/items") {
            let webhooks = items(configuration, "/webhooks").iter();
            for webhook in webhooks.filter(|webhook| items(webhook, "/rules").iter().any(is_keda)) {
                let service = |part: &str| text(webhook, &format!("/clientConfig/service/{part}"));
                let (name, namespace) = (service("name"), service("namespace"));
                if name.is_empty() {
                    continue;
                }
                if self.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")) == Some(Value::Null) {
                    let configuration = text(configuration, "/metadata/name");
                    let cause = format!("left behind: its Service {namespace}/{name} is gone, so writes are refused");
                    let fix = format!("kubectl delete validatingwebhookconfiguration {configuration}");
                    let subject = format!("ValidatingWebhookConfiguration {configuration}");
                    self.error("webhook-left-behind", &subject, cause, fix);
                }
            }
        }
    }

    pub(super) fn lease(&mut self) {
        let (name, namespace) = &self.subject.config.service;
        let subject = format!("Lease {namespace}/{name}");
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
        let Some(lease) = self.get(&path) else { return };
        let fix = "see that a pod of hpalite runs and may write Leases";
        let holder = text(&lease, "/spec/holderIdentity");
        if holder.is_empty() {
            let cause = "no instance holds it: nothing is scaled, unless the daemon runs with --leader-elect=false";
            return self.warn("no-leader", &subject, cause, fix);
        }
        let renewed = parse_rfc3339(text(&lease, "/spec/renewTime")).unwrap_or_default();
        let lasts = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(15) * 1000;
        // Twice the duration, since the nodes' clocks need not agree.
        let over = unix_now().0 - renewed.0;
        if over > 2 * lasts + SKEW_MAX_MS {
            let cause = format!("{holder} has not renewed it for {} s: nothing is scaled", over / 1000);
            self.error("leader-gone", &subject, cause, fix);
        }
    }

    pub(super) fn clocks(&mut self) {
        let before = unix_now();
        match self.client.server_time() {
            Ok(Some(server)) => {
                if let Some(skew) = skew(before, unix_now(), server) {
                    let cause = format!("{} s {}", skew.abs() / 1000, if skew > 0 { "ahead" } else { "behind" });
                    let fix = "synchronize the clocks (NTP): times in the history and cooldowns follow this one";
                    self.warn("clock-skew", "this clock against the API server's", cause, fix);
                }
            }
            Ok(None) => self.skipped("/version", "the API server tells no time", "look at its clock"),
            Err(error) => self.not_checked("/version", &error),
        }
    }
}

/// Returns how far this clock is ahead of the server's, in milliseconds; `None` if within the tolerance.
fn skew(before: UnixMillis, after: UnixMillis, server: UnixMillis) -> Option<i64> {
    // The server's time may be any moment of the second that it names.
    let (ahead, behind) = (before.0 - (server.0 + 999), after.0 - server.0);
    if ahead > SKEW_MAX_MS { Some(ahead) } else { (behind < -SKEW_MAX_MS).then_some(behind) }
}

/// Returns whether a workload runs hpalite with `--shadow`, by flag or variable.
fn is_shadow(workload: &Value) -> bool {
    items(workload, "/spec/template/spec/containers").iter().any(|container| {
        let flags = items(container, "/args").iter().chain(items(container, "/command")).filter_map(Value::as_str);
        let by_flag = flags.filter_map(|flag| flag.strip_prefix("--")?.strip_prefix("shadow")).next_back();
        let variable = items(container, "/env").iter().find(|one| one["name"] == "HPALITE_SHADOW");
        match by_flag {
            Some(value) => value.is_empty() || value == "=true",
            None => variable.is_some_and(|one| one["value"] == "true"),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shadow_is_known_by_its_flag_or_variable() {
        let workload = |args: Value, env: Value| json!({ "spec": { "template": { "spec": { "containers": [{ "args": args, "env": env }] } } } });
        let variable = json!([{ "name": "HPALITE_SHADOW", "value": "true" }]);
        for (args, env, expected) in [
            (json!(["run", "--shadow=true"]), json!([]), true),
            (json!(["run", "--shadow=false"]), variable.clone(), false),
            (json!(["run"]), variable, true),
            (json!(["run"]), json!([]), false),
        ] {
            assert_eq!(is_shadow(&workload(args.clone(), env)), expected, "{args}");
        }
    }

    #[test]
    fn clocks_may_differ_by_seconds() {
        for (before, after, server, expected) in [
            (10_000, 10_050, 10_000, None),
            (15_900, 15_950, 10_000, None),
            (16_000, 16_050, 10_000, Some(5_001)),
            (4_900, 5_000, 10_000, None),
            (4_900, 4_999, 10_000, Some(-5_001)),
        ] {
            assert_eq!(skew(UnixMillis(before), UnixMillis(after), UnixMillis(server)), expected, "{before} {server}");
        }
    }
}
