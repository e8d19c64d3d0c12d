//! CRDs, ScaledObjects and the HPAs made for them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Doctor;
use crate::kube::untyped::{condition, items, text};
use crate::scaling::model::UnixMillis;
use crate::store::unix_now;
use crate::wire::time::parse_rfc3339;

/// A deletion that takes longer is held up by something.
const DELETING_MAX_MS: i64 = 5 * 60_000;

impl Doctor<'_> {
    pub(super) fn crds(&mut self) {
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
                Some(version) if plural == "scaledobjects" => self.schema(&subject, version, fix),
                Some(_) => {}
            }
        }
    }

    /// Whether the schema of ScaledObjects knows everything that is used, and has our rules.
    fn schema(&mut self, subject: &str, version: &Value, fix: &str) {
        let Some(spec) = version.pointer("/schema/openAPIV3Schema/properties/spec") else { return };
        if spec.pointer("/properties/advanced/properties/scalingModifiers").is_none() {
            let cause = "its schema has no spec.advanced.scalingModifiers, so formulas are dropped";
            self.warn("crd-outdated", subject, cause, fix);
        } else if items(spec, "/x-kubernetes-validations").is_empty() {
            let cause =
                "it is KEDA's, without hpalite's rules: mistakes are told on the object, not when it is applied";
            self.warn("crd-foreign", subject, cause, "kubectl apply --server-side --force-conflicts -k k8s/crds");
        }
    }

    pub(super) fn scaled_objects(&mut self) {
        let Some(list) = self.get(&self.within("/apis/keda.sh/v1alpha1", "scaledobjects")) else { return };
        for object in items(&list, "/items") {
            let name = format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"));
            let subject = format!("ScaledObject {name}");
            let deleted = text(object, "/metadata/deletionTimestamp");
            if !deleted.is_empty() {
                if is_stuck(deleted, unix_now()) {
                    let cause = format!("being deleted since {deleted}, held by {}", object["metadata"]["finalizers"]);
                    let fix = "see that hpalite runs; if it never will again, hpalite uninstall --keep-crds";
                    self.warn("scaled-object-deleting", &subject, cause, fix);
                }
            } else if let Some(ready) = condition(object, "Ready")
                && text(ready, "/status") != "True"
            {
                let cause = format!("{}: {}", text(ready, "/reason"), text(ready, "/message"));
                let fix = format!("mend what the cause names; hpalite why {name} has the history");
                self.error("scaled-object-not-ready", &subject, cause, fix);
            }
        }
    }

    /// HPAs that outlived their ScaledObject go on scaling by a metric that nobody serves.
    pub(super) fn hpas(&mut self) {
        let label = "scaledobject.keda.sh/name";
        let path = self.within("/apis/autoscaling/v2", "horizontalpodautoscalers");
        let Some(hpas) = self.get(&format!("{path}?labelSelector=scaledobject.keda.sh%2Fname")) else { return };
        let mut known = BTreeSet::new();
        for group in ["keda.sh", "keda.k8s.io"] {
            let Some(list) = self.get(&self.within(&format!("/apis/{group}/v1alpha1"), "scaledobjects")) else {
                return;
            };
            for object in items(&list, "/items") {
                known.insert((
                    text(object, "/metadata/namespace").to_owned(),
                    text(object, "/metadata/name").to_owned(),
                ));
            }
        }
        for hpa in items(&hpas, "/items") {
            let owner = hpa["metadata"]["labels"][label].as_str().unwrap_or_default();
            let namespace = text(hpa, "/metadata/namespace");
            if !known.contains(&(namespace.to_owned(), owner.to_owned())) {
                let subject = format!("HorizontalPodAutoscaler {namespace}/{}", text(hpa, "/metadata/name"));
                let cause = format!("ScaledObject {owner}, which it was made for, is gone");
                self.warn("hpa-orphaned", &subject, cause, "delete it");
            }
        }
    }

    /// A collection of the namespaces that are looked at.
    pub(super) fn within(&self, api: &str, plural: &str) -> String {
        match &self.subject.namespace {
            Some(namespace) => format!("{api}/namespaces/{namespace}/{plural}"),
            None => format!("{api}/{plural}"),
        }
    }
}

/// Since when an object is being deleted, as the API server writes it.
fn is_stuck(deleted: &str, now: UnixMillis) -> bool {
    parse_rfc3339(deleted).is_some_and(|since| now.0 - since.0 > DELETING_MAX_MS)
}

/// The items of a list, each as JSON text for its own reader.
pub(super) fn texts(list: &Value) -> Vec<String> {
    items(list, "/items").iter().map(Value::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_may_take_minutes() {
        let now = parse_rfc3339("2026-01-02T03:10:00Z").expect("a time");
        assert!(!is_stuck("2026-01-02T03:05:00Z", now) && !is_stuck("2026-01-02T03:10:30Z", now));
        assert!(is_stuck("2026-01-02T03:04:59Z", now));
    }
}
