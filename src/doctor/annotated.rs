//! Checks HPAs that ask for metrics by annotations, and so have no status of ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Doctor;
use super::objects::conditions_that_hold;
use crate::kube::untyped::items;
use crate::scaling::model::{Asked, Gvkr, ScaledObject};
use crate::scaling::world::watched_workloads;
use crate::wire::hpa::{self, annotated};

impl Doctor<'_> {
    /// Returns the annotated HPAs as the API server has them and as the daemon reads them, the oldest first.
    pub(super) fn annotated(&mut self) -> Option<Vec<(Value, ScaledObject)>> {
        let list = self.get(&self.within("/apis/autoscaling/v2", "horizontalpodautoscalers"))?;
        let read = |object: &Value| {
            let observed = hpa::from_slice(object.to_string().as_bytes()).ok()?;
            let mut read = annotated::read(&observed, &self.subject.config.servers)?.object;
            let is_target =
                |gvkr: &Gvkr| gvkr.kind == read.target.kind && gvkr.api_version() == read.target.api_version;
            read.status.scale_target_gvkr = watched_workloads().into_iter().find(is_target).map(Arc::new);
            Some((object.clone(), read))
        };
        let mut found: Vec<(Value, ScaledObject)> = items(&list, "/items").iter().filter_map(read).collect();
        found.sort_by(|(_, a), (_, b)| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        Some(found)
    }

    pub(super) fn annotated_hpas(&mut self) {
        let Some(found) = self.annotated() else { return };
        let mut asked: BTreeMap<(&str, Asked), &ScaledObject> = BTreeMap::new();
        for (hpa, object) in &found {
            let subject = format!("HorizontalPodAutoscaler {}/{}", object.key.namespace, object.key.name);
            let about = || vec![object.key.to_string()];
            match &object.definition {
                Err(invalid) => {
                    let fix = "write what the cause says; hpalite check tries it before";
                    self.error("hpa-annotations-invalid", &subject, invalid.all(), fix);
                    self.is_about(about());
                    continue;
                }
                Ok(_) => {
                    for (position, one) in object.asked.iter().enumerate() {
                        let first = *asked.entry((&*object.key.namespace, one.as_read())).or_insert(object);
                        if let Some(found) = object.contradiction(position, first) {
                            self.error("hpa-metric-taken", &subject, found.message, found.fix);
                            self.is_about(about());
                        }
                    }
                }
            }
            for (severity, id, cause, fix) in conditions_that_hold(hpa) {
                self.add(severity, id, &subject, cause, fix.to_owned());
                self.is_about(about());
            }
        }
    }
}
