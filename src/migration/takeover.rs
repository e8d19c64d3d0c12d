//! The APIServices, and with them every external metric, every metric of an object, or both, go to us: from KEDA,
//! prometheus-adapter, kube-metrics-adapter or any other.

use std::io::Write;

use serde_json::{Value, json};

use super::{
    API_SERVICES, Apis, CRDS, DEPLOYMENTS, Failure, Migration, Overrides, Plan, SCALED_OBJECTS, SERVICES, place,
};
use crate::kube::resources::CUSTOM_METRICS;
use crate::kube::untyped::{condition, items, text};
use crate::kube::{Error, Kubeconfig, PatchKind, Request};
use crate::rights;
use crate::unserved::{self, Unserved};
use crate::wire::PROBE;

/// An APIService that is taken over, as it was before.
struct Route {
    name: String,
    before: Value,
}

impl Apis {
    /// Returns whether external metrics are taken over, and those of objects.
    fn wanted(self) -> (bool, bool) {
        (self != Self::Custom, self != Self::External)
    }

    /// Returns the APIServices in the order in which they are taken over. HPAs read metrics of objects by the newer
    /// version where both are there, so the older one shows first, and at no risk, that they can be read. External metrics
    /// have one version, and nothing but its APIService leads to hpalite in the name of whoever calls: for them HPAs hold
    /// still until they can be read or are put back.
    fn names(self, plan: &Plan) -> Vec<String> {
        let (external, custom) = self.wanted();
        let custom = CUSTOM_METRICS.iter().filter(|_| custom).map(|name| (*name).to_owned());
        custom.chain(external.then(|| plan.apiservice.clone())).collect()
    }
}

/// Lets the APIServices route to our Service, one after the other, and waits for each until what HPAs could read before
/// can be read through it; otherwise puts back what was there. Nothing else is touched: HPAs hold still for the moment
/// that it takes.
///
/// # Errors
/// Refused, with every reason at once; or not served in time.
pub fn takeover(
    kubeconfig: Option<&Kubeconfig>,
    plan: &Plan,
    apis: Apis,
    overrides: Overrides,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut migration = Migration::new(kubeconfig, plan, out)?;
    let names = apis.names(plan);
    let port = migration.can_take_over(apis, &names, overrides)?;
    let readable = migration.readable(apis.wanted())?;
    let mut taken: Vec<Route> = Vec::new();
    for name in names {
        let before = migration.apiservice(&name)?;
        match migration.take(&name, &before, port) {
            Ok(true) => taken.push(Route { name: name.clone(), before }),
            Ok(false) => continue,
            Err(failure) => {
                migration.put_all_back(&taken)?;
                return Err(failure);
            }
        }
        let custom = name.contains(".custom.");
        let version = name.split('.').next().unwrap_or_default();
        let mut lost = readable.clone();
        lost.retain(|metric| metric.custom == custom);
        let mut seen = migration.wait(|migration| migration.missing(&name)).err();
        if seen.is_none() {
            seen = migration.wait(|migration| Ok(migration.keep_lost(&mut lost, version))).err();
            if overrides.some_stay_behind
                && let Some(lost) = seen.take()
            {
                migration.say(&format!("warning: {lost}"))?;
            }
        }
        let Some(seen) = seen else { continue };
        let put_back = migration.put_all_back(&taken)?;
        let fix = match custom {
            true => {
                "see hpalite's log, and whether it has these metrics: by --adapter-config, or by annotations of the HPAs"
            }
            false => "see its log, hpalite doctor, and --timeout",
        };
        let seconds = plan.timeout.as_secs();
        return Err(Failure::Stopped(vec![format!("not served within {seconds} s: {seen}; {put_back}; {fix}")]));
    }
    if plan.dry_run { Ok(()) } else { migration.say("metrics are read from hpalite") }
}

impl Migration<'_> {
    /// Lets one APIService route to us. Returns whether it does so now.
    fn take(&mut self, name: &str, before: &Value, port: i64) -> Result<bool, Failure> {
        let (plan, ours) = (self.plan, place(&self.plan.service));
        if before.is_null() {
            let goes_on = self.step(&format!("create APIService {name} for Service {ours}, port {port}"))?;
            if goes_on {
                self.create(name, port)?;
            }
            return Ok(goes_on);
        }
        if self.is_ours(before) {
            self.say(&format!("APIService {name} routes to Service {ours} already"))?;
            return Ok(!plan.dry_run);
        }
        let theirs = format!("{}/{}", text(before, "/spec/service/namespace"), text(before, "/spec/service/name"));
        let goes_on =
            self.step(&format!("point APIService {name} to Service {ours}, port {port}, instead of {theirs}"))?;
        if goes_on {
            let service = json!({ "name": plan.service.0, "namespace": plan.service.1, "port": port });
            let spec = json!({ "service": service, "caBundle": null, "insecureSkipTLSVerify": null });
            let installed = self.get(&SERVICES, Some(&plan.service.1), &plan.service.0)?;
            self.route(name, &json!({ "metadata": release(&installed), "spec": spec }))?;
        }
        Ok(goes_on)
    }

    /// The port of our Service, if all that is needed is there.
    fn can_take_over(&mut self, apis: Apis, names: &[String], overrides: Overrides) -> Result<i64, Failure> {
        let mut problems = Vec::new();
        let (external, _) = apis.wanted();
        if self.get(&CRDS, None, "scaledobjects.keda.sh")?.is_null() {
            problems.push("there is no CustomResourceDefinition scaledobjects.keda.sh: apply k8s/crds".to_owned());
        }
        let (name, namespace) = &self.plan.service;
        let service = self.get(&SERVICES, Some(namespace), name)?;
        let port = port(&service);
        if service.is_null() {
            let fix = "install hpalite first, or name its Service by --service";
            problems.push(format!("there is no Service {namespace}/{name}: {fix}"));
        } else if port.is_none() {
            problems.push(format!("Service {namespace}/{name} has several ports and none is called https"));
        } else if text(&service, "/spec/type") == "ExternalName" {
            if text(&self.lease()?, "/spec/holderIdentity").is_empty() {
                problems.push(format!("no instance holds the Lease {namespace}/{name}: start hpalite first"));
            }
        } else if !self.has_ready_endpoint()? {
            let fix = "see the log of its pod, and /readyz";
            problems.push(format!("no pod of Service {namespace}/{name} is ready: {fix}"));
        }
        // KEDA has nothing to do with metrics of objects.
        let deployments = if external { self.list(&DEPLOYMENTS, None, None)? } else { Vec::new() };
        for operator in deployments {
            if text(&operator, "/metadata/name") != "keda-operator" || !runs(&operator) || overrides.keda_runs {
                continue;
            }
            let namespace = text(&operator, "/metadata/namespace");
            problems.push(format!(
                "KEDA runs too, in namespace {namespace}, and would go on writing the same HPAs and the APIService: \
                 kubectl -n {namespace} scale deployment keda-operator --replicas=0, or --force"
            ));
        }
        if external {
            problems.extend(self.left_behind(overrides)?);
        }
        let own = "/metadata/labels/kube-aggregator.kubernetes.io~1automanaged";
        for name in names {
            if !text(&self.apiservice(name)?, own).is_empty() {
                problems.push(format!("APIService {name} is the API server's own"));
            }
        }
        match port {
            Some(port) if problems.is_empty() => Ok(port),
            _ => Err(Failure::Stopped(problems)),
        }
    }

    /// What nobody would run any more, as reasons to refuse; said and no reason where that is wanted.
    fn left_behind(&mut self, overrides: Overrides) -> Result<Vec<String>, Failure> {
        let mut left: Vec<String> = Vec::new();
        for Unserved { kind, objects } in unserved::kinds(&self.client, None)? {
            left.push(format!("hpalite does not serve {kind}, and nobody would run them without KEDA: {objects}"));
        }
        let account = rights::service_account(&self.client, &self.plan.service)?;
        let scaled = self.list(&SCALED_OBJECTS, None, None)?;
        for lacking in rights::of_targets(&self.client, (&self.plan.service.1, &account), &scaled)? {
            let objects = unserved::some(&lacking.objects, lacking.objects.len());
            let rights::TargetRight { missing, fix, .. } = &lacking;
            left.push(format!("hpalite may not {missing}, the target of ScaledObject {objects} ({fix})"));
        }
        for (cause, objects) in unserved::by_cause(unserved::objects(&self.client)?) {
            let names: Vec<String> = objects.iter().map(|found| found.object.clone()).collect();
            left.push(format!("hpalite cannot run {}: {cause}", unserved::some(&names, names.len())));
        }
        if !overrides.some_stay_behind {
            let fix = "change or delete them, or go on without them by --leave-unserved";
            return Ok(left.into_iter().map(|text| format!("{text}: {fix}")).collect());
        }
        for text in left {
            self.say(&format!("warning: {text}"))?;
        }
        Ok(Vec::new())
    }

    fn create(&self, name: &str, port: i64) -> Result<(), Error> {
        let (version, group) = name.split_once('.').unwrap_or(("v1beta1", "external.metrics.k8s.io"));
        // Of two versions the newer is preferred.
        let priority = if version == "v1beta2" { 200 } else { 100 };
        let body = json!({
            "apiVersion": API_SERVICES.api_version(), "kind": "APIService",
            "metadata": { "name": name },
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": priority,
                "service": { "name": self.plan.service.0, "namespace": self.plan.service.1, "port": port },
            },
        });
        // Not forced: if another party creates it at the same moment, this fails.
        let kind = PatchKind::Apply { field_manager: "hpalite-takeover", force: false };
        let request = API_SERVICES.patch(None, name, kind, body.to_string().into_bytes())?;
        self.client.send(&request).map(drop)
    }

    fn route(&self, name: &str, patch: &Value) -> Result<(), Error> {
        self.change(&API_SERVICES, None, name, |_| patch.clone())
    }

    /// What is still missing until a metric can be read from us.
    fn missing(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let apiservice = self.apiservice(name)?;
        let Some(available) = condition(&apiservice, "Available").filter(|_| self.is_ours(&apiservice)) else {
            return Ok(Some("the API server has not looked at it yet".to_owned()));
        };
        if text(available, "/status") != "True" {
            return Ok(Some(format!("{}: {}", text(available, "/reason"), text(available, "/message"))));
        }
        // The condition may still be about the server before, so what only we answer is asked for.
        let group = text(&apiservice, "/spec/group");
        let version = text(&apiservice, "/spec/version");
        let namespace = &self.plan.service.1;
        let path = format!("/apis/{group}/{version}/namespaces/{namespace}");
        let (probe, ours) = if group == "custom.metrics.k8s.io" {
            // With rules, and without.
            let ours = vec![
                format!("no rule gives the metric {PROBE} for "),
                format!("no HPA asks for the metric {PROBE} of "),
            ];
            (format!("{path}/pods/{PROBE}/{PROBE}"), ours)
        } else {
            let selector = format!("labelSelector=scaledobject.keda.sh%2Fname%3D{PROBE}");
            (format!("{path}/{PROBE}?{selector}"), vec![format!("no metric {PROBE} of a ")])
        };
        Ok(match self.client.send(&Request::get_path(probe)) {
            Err(Error::Status(status)) if ours.iter().any(|ours| status.message.starts_with(ours)) => None,
            Err(error) => Some(error.to_string()),
            Ok(_) => Some("another server answers".to_owned()),
        })
    }

    /// Puts all of them back, and says what became of them.
    fn put_all_back(&mut self, taken: &[Route]) -> Result<&'static str, Failure> {
        let mut said = "nothing was changed";
        for Route { name, before } in taken.iter().rev() {
            said = self.put_back(name, before)?;
        }
        Ok(if taken.len() > 1 { "all APIServices are as they were before" } else { said })
    }

    fn put_back(&mut self, name: &str, before: &Value) -> Result<&'static str, Failure> {
        if before.is_null() {
            let created = self.apiservice(name)?;
            if !created.is_null() {
                self.delete(&API_SERVICES, &created)?;
            }
            return Ok("the APIService was removed again");
        }
        if self.is_ours(before) {
            return Ok("nothing was changed");
        }
        let spec = &before["spec"];
        let spec = json!({
            "service": spec["service"], "caBundle": spec["caBundle"],
            "insecureSkipTLSVerify": spec["insecureSkipTLSVerify"],
        });
        self.route(name, &json!({ "metadata": release(before), "spec": spec }))?;
        Ok("the APIService is as it was before")
    }
}

/// What Helm goes by to see whose an object is, as a patch: with KEDA's release the APIService must not go, and with ours it must.
fn release(of: &Value) -> Value {
    let (annotations, labels) = (&of["metadata"]["annotations"], &of["metadata"]["labels"]);
    json!({
        "annotations": {
            "meta.helm.sh/release-name": annotations["meta.helm.sh/release-name"],
            "meta.helm.sh/release-namespace": annotations["meta.helm.sh/release-namespace"],
        },
        "labels": { "app.kubernetes.io/managed-by": labels["app.kubernetes.io/managed-by"] },
    })
}

fn runs(workload: &Value) -> bool {
    workload.pointer("/spec/replicas") != Some(&json!(0)) || workload["status"]["replicas"].as_i64() > Some(0)
}

fn port(service: &Value) -> Option<i64> {
    let ports = items(service, "/spec/ports");
    let named = ports.iter().find(|port| port["name"] == "https");
    named.or(if let [only] = ports { Some(only) } else { None })?["port"].as_i64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_one_named_https_or_the_only_one() {
        for (ports, expected) in [
            (json!([{ "name": "http", "port": 8080 }, { "name": "https", "port": 443 }]), Some(443)),
            (json!([{ "port": 6443 }]), Some(6443)),
            (json!([{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }]), None),
            (json!([]), None),
        ] {
            assert_eq!(port(&json!({ "spec": { "ports": ports } })), expected, "{ports}");
        }
    }

    #[test]
    fn an_operator_runs_until_its_last_pod_is_gone() {
        for (replicas, pods, expected) in [(1, 0, true), (0, 1, true), (0, 0, false)] {
            let operator = json!({ "spec": { "replicas": replicas }, "status": { "replicas": pods } });
            assert_eq!(runs(&operator), expected, "{operator}");
        }
    }
}
