//! The world against a small API server on a virtual clock: scenarios by theme, and a simulation.

// A failing test must print its seed.
#![allow(clippy::print_stderr)]

mod rig;

mod annotated;
mod authentications;
mod controller;
mod controllers;
mod creation;
mod decisions;
mod deletion;
mod explained;
mod formulas;
mod hpas;
mod invariants;
mod lag;
mod observed;
mod ownership;
mod pausing;
mod pods;
mod replayed;
mod replicas;
mod scaling;
mod shadow;
mod silence;
mod simulation;
mod standby;
mod takeover;
mod triggers;
mod troubles;

use std::sync::Arc;

use rig::Rig;

use super::watched_workloads;
use crate::scaling::cluster::{self, Cluster};
use crate::scaling::event::{Answer, ErrorClass, PollError};
use crate::scaling::model::{ApiGroup, Condition, ConditionKind, Definition, Gvkr, ObjectKey, ScaledObject, Workload};
use crate::scaling::testing;

fn deployment() -> Gvkr {
    let [deployment, _] = watched_workloads();
    deployment
}

fn failed(message: &str) -> Answer {
    Answer::Failed(PollError { class: ErrorClass::Connect, message: message.to_owned() })
}

fn workload(name: &str, replicas: u32) -> Workload {
    Workload {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        replicas,
        selector: Some(format!("app={name}")),
        replicas_manager: None,
        ready: 0,
        version: None,
    }
}

/// Returns an object as created by a user: neither claimed nor with a status.
fn fresh(name: &str, target: &str, definition: Definition) -> ScaledObject {
    let mut definition = definition;
    definition.hpa_name = format!("keda-hpa-{name}");
    definition.selector.1 = name.to_owned();
    let mut object = testing::scaled_object(definition);
    object.key = ObjectKey::new(ApiGroup::KedaSh, "default", name);
    object.uid = format!("uid-{name}");
    object.finalizers.clear();
    object.labels.clear();
    object.target.name = target.to_owned();
    object
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(ApiGroup::KedaSh, "default", name)
}

fn redefine(object: &mut ScaledObject, change: impl FnOnce(&mut Definition)) {
    let mut definition = (**object.definition.as_ref().unwrap()).clone();
    change(&mut definition);
    object.definition = Ok(Arc::new(definition));
}

/// One object `shop` with the Deployment `web`, whose query `up` is answered with `value`.
fn shop(replicas: u32, value: f64, change: impl FnOnce(&mut Definition)) -> Rig {
    shop_among(replicas, value, change, |_| {})
}

/// The same, with additional objects in the cluster.
fn shop_among(replicas: u32, value: f64, change: impl FnOnce(&mut Definition), add: impl FnOnce(&mut Cluster)) -> Rig {
    let mut definition = testing::definition();
    change(&mut definition);
    let mut cluster = Cluster::default();
    cluster.put_object(fresh("shop", "web", definition));
    cluster.put_workload(&deployment(), workload("web", replicas));
    add(&mut cluster);
    let mut rig = Rig::new(cluster);
    rig.answers.insert("up".to_owned(), Answer::Value(value));
    rig
}

impl Rig {
    fn object(&self, name: &str) -> &ScaledObject {
        &self.cluster.objects[&key(name)]
    }

    fn replicas(&self, name: &str) -> u32 {
        let id = (deployment(), "default".to_owned(), name.to_owned());
        self.cluster.workloads[&id].replicas
    }

    fn set_replicas(&mut self, name: &str, replicas: u32) {
        self.cluster.put_workload(&deployment(), workload(name, replicas));
    }

    fn set_answer(&mut self, query: &str, answer: Answer) {
        self.answers.insert(query.to_owned(), answer);
    }

    fn has_hpa(&self, name: &str) -> bool {
        let id = ("default".to_owned(), name.to_owned());
        self.cluster.hpas.contains_key(&id)
    }

    /// For example `Ready=True ScaledObjectReady`.
    fn condition(&self, name: &str, kind: ConditionKind) -> String {
        self.object(name).status.condition(kind).map_or_else(|| "none".to_owned(), short)
    }

    fn ready_message(&self, name: &str) -> String {
        let ready = self.object(name).status.condition(ConditionKind::Ready);
        ready.map(|c| c.message.to_string()).unwrap_or_default()
    }
}

fn conditions(rig: &Rig, name: &str) -> Vec<String> {
    let status = &rig.object(name).status;
    status.conditions.iter().map(short).collect()
}

fn short(condition: &Condition) -> String {
    format!("{}={} {}", condition.kind.name(), condition.status.name(), condition.reason).trim_end().to_owned()
}
