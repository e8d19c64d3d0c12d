//! `hpalite status`: one screen of an installation that people keep open.
//!
//! Reads the history beside the daemon for objects and metric servers, and asks the API server for the leader and the
//! metrics API. What cannot be read is said in its place, since the screen is needed most when something is broken.

mod screen;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::history::overview::{self, ObjectOverview};
use crate::kube::untyped::{condition, items, text};
use crate::kube::{Client, ClusterConfig, Error, Kubeconfig, ListOptions, Request, Resource};
use crate::scaling::decision::{FALLING_BACK, TRIGGERS_FAIL};
use crate::scaling::model::{ApiGroup, ObjectKey};
use crate::store::read::{Listing, RunRow};
use crate::store::{Reader, now_unix_ms};
use crate::wire::time::parse_rfc3339;
pub use screen::{draw, watch};

const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases", true);
const API_SERVICES: Resource = Resource::new("apiregistration.k8s.io", "v1", "apiservices", false);
/// An API server that answers later is as good as none for a screen that is drawn every few seconds.
const API_TIMEOUT: Duration = Duration::from_secs(3);
/// Objects that are read; the sizing ends below.
const OBJECTS_MAX: u32 = 10_000;
/// Of objects that set none.
const INTERVAL_MS: i64 = 30_000;

/// Arguments of `hpalite status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    pub db: PathBuf,
    pub namespace: Option<String>,
    /// Draws again and again, with this much time in between.
    pub every: Option<Duration>,
    pub json: bool,
    pub kubeconfig: Option<Kubeconfig>,
    /// Name and namespace; the Lease is called the same.
    pub service: (String, String),
    pub apiservice: String,
}

/// What the screen shows. Times are milliseconds since 1970.
#[derive(Debug, Serialize)]
pub struct Status {
    pub now: i64,
    pub instance: Instance,
    pub servers: Vec<Server>,
    /// Of the namespace that is asked for, without the limit.
    pub total: usize,
    /// Those in trouble first.
    pub objects: Vec<Object>,
}

#[derive(Debug, Default, Serialize)]
pub struct Instance {
    /// The newest start of a daemon on this history.
    pub run: Option<RunRow>,
    pub history_bytes: Option<u64>,
    /// Holder of the Lease; `None` if that cannot be read.
    pub leader: Option<String>,
    pub lease_renewed_at: Option<i64>,
    /// Of the API server.
    pub kubernetes: Option<String>,
    /// Whether the metrics API can be read; `None` if that cannot be asked.
    pub metrics_api: Option<bool>,
    /// What could not be read, and what is wrong with the installation itself.
    pub problems: Vec<String>,
}

/// A metric server, and how the polls of it go.
#[derive(Debug, Serialize)]
pub struct Server {
    pub server: String,
    pub triggers: usize,
    /// Triggers whose newest answer has no number.
    pub failing: usize,
    /// The longest that a trigger's newest answer is older than its polling interval; `None` without any answer.
    pub late_ms: Option<i64>,
    /// Of one that fails.
    pub cause: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Object {
    pub is_in_trouble: bool,
    /// Why it is in this state; empty if nothing is to be said.
    pub cause: String,
    #[serde(flatten)]
    pub overview: ObjectOverview,
}

/// Reads everything.
///
/// # Errors
/// When the history cannot be read.
pub fn load(arguments: &Arguments) -> Result<Status, String> {
    let now = now_unix_ms();
    let failed = |error: crate::store::Error| error.to_string();
    let mut reader = Reader::open(&arguments.db).map_err(failed)?;
    let listing = Listing {
        text: &arguments.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default(),
        removed: false,
        limit: OBJECTS_MAX,
        offset: 0,
    };
    let overview = overview::load(&mut reader, &listing, now).map_err(failed)?;
    let is_meant = |object: &ObjectOverview| arguments.namespace.as_ref().is_none_or(|only| *only == object.namespace);
    let objects: Vec<ObjectOverview> = overview.objects.into_iter().filter(is_meant).collect();
    let (intervals, run) = reader
        .snapshot(|snapshot| {
            let mut intervals = Vec::with_capacity(objects.len());
            for object in &objects {
                let group = ApiGroup::from_name(object.group).unwrap_or(ApiGroup::KedaSh);
                let lives = snapshot.lives(&ObjectKey::new(group, &object.namespace, &object.name))?;
                let spec = match lives.last() {
                    Some(life) => snapshot.definition_before(life.id, now)?.map(|definition| definition.spec_json),
                    None => None,
                };
                intervals.push(interval_ms(spec.as_deref().unwrap_or_default()));
            }
            Ok((intervals, snapshot.runs(now, 1)?.into_iter().next()))
        })
        .map_err(failed)?;
    let servers = servers(&objects, &intervals, now);
    let mut instance = instance(arguments);
    instance.run = run;
    instance.history_bytes = std::fs::metadata(&arguments.db).ok().map(|file| file.len());
    let total = objects.len().max(if arguments.namespace.is_none() { overview.total } else { 0 });
    Ok(Status { now, instance, servers, total, objects: ranked(objects) })
}

fn interval_ms(spec: &str) -> i64 {
    let spec: Value = serde_json::from_str(spec).unwrap_or_default();
    spec["pollingInterval"]
        .as_i64()
        .filter(|seconds| *seconds > 0)
        .map_or(INTERVAL_MS, |seconds| seconds.saturating_mul(1_000))
}

/// Sums the triggers up by the server that they ask, the one with most failing triggers first.
fn servers(objects: &[ObjectOverview], intervals: &[i64], now: i64) -> Vec<Server> {
    let mut found: BTreeMap<&str, Server> = BTreeMap::new();
    for (object, interval) in objects.iter().zip(intervals) {
        for trigger in object.triggers.iter().filter(|trigger| !trigger.server.is_empty()) {
            let server = found.entry(&trigger.server).or_insert_with(|| Server {
                server: trigger.server.clone(),
                triggers: 0,
                failing: 0,
                late_ms: None,
                cause: None,
            });
            server.triggers += 1;
            if let Some(outcome) = trigger.failure() {
                server.failing += 1;
                server.cause.get_or_insert_with(|| outcome.to_owned());
            }
            // A paused object is not polled.
            if let Some(at) = trigger.at.filter(|_| object.state != "paused") {
                let late = (now - at - interval).max(0);
                server.late_ms = Some(server.late_ms.map_or(late, |known| known.max(late)));
            }
        }
    }
    let mut servers: Vec<Server> = found.into_values().collect();
    servers.sort_by_key(|server| std::cmp::Reverse(server.failing));
    servers
}

/// Puts those in trouble first, the worst at the top.
fn ranked(objects: Vec<ObjectOverview>) -> Vec<Object> {
    let rank = |object: &ObjectOverview, cause: Option<&str>| match object.state {
        "invalid" => 0,
        "error" => 1,
        "fallback" => 2,
        _ if cause.is_some() => 3,
        "paused" => 4,
        "active" => 5,
        _ => 6,
    };
    let mut ranked: Vec<(u8, Object)> = objects
        .into_iter()
        .map(|overview| {
            let failure = overview.triggers.iter().find_map(|trigger| {
                let name = trigger.name.as_deref().unwrap_or(&trigger.metric);
                Some(format!("{name}: {}", trigger.failure()?))
            });
            let rank = rank(&overview, failure.as_deref());
            let is_in_trouble = rank < 4;
            // Its own condition says it better, unless it says no more than that there is trouble, or activity.
            let message = &overview.message;
            let cause = match overview.state {
                "invalid" | "fallback" | "paused" | "error" if !message.is_empty() => {
                    let is_general = [TRIGGERS_FAIL, FALLING_BACK].contains(&message.as_str());
                    failure.filter(|_| is_general).unwrap_or_else(|| message.clone())
                }
                _ => failure.unwrap_or_default(),
            };
            (rank, Object { is_in_trouble, cause, overview })
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, object)| object).collect()
}

fn instance(arguments: &Arguments) -> Instance {
    let mut instance = Instance::default();
    let client = match ClusterConfig::of_person(arguments.kubeconfig.as_ref()) {
        Ok(config) => Client::new(config),
        Err(error) => {
            instance.problems.push(format!("the cluster cannot be asked: {}", error.problems.join("; ")));
            return instance;
        }
    };
    let ask = |request: Request| client.json_within::<Value>(&request, API_TIMEOUT);
    let problem = |what: &str, error: Error| format!("{what}: {error}");
    match ask(Request::get_path("/version")) {
        Ok(version) => instance.kubernetes = Some(text(&version, "/gitVersion").to_owned()),
        Err(error) => {
            instance.problems.push(problem("the cluster cannot be asked", error));
            return instance;
        }
    }
    let (name, namespace) = &arguments.service;
    match LEASES.get(Some(namespace), name).map_err(Error::from).and_then(ask) {
        Ok(lease) => {
            instance.leader = Some(text(&lease, "/spec/holderIdentity").to_owned());
            instance.lease_renewed_at = parse_rfc3339(text(&lease, "/spec/renewTime")).map(|at| at.0);
        }
        // A shadow takes none.
        Err(error) if error.is_not_found() => instance.leader = Some(String::new()),
        Err(error) => instance.problems.push(problem(&format!("Lease {namespace}/{name}"), error)),
    }
    // The daemon may list this one by its name, and needs no right to get it.
    let by_name = format!("metadata.name={}", arguments.apiservice);
    let options = ListOptions { field_selector: Some(&by_name), ..ListOptions::default() };
    match API_SERVICES.list(None, &options).map_err(Error::from).and_then(ask) {
        Ok(list) => {
            let found = items(&list, "/items").first().cloned().unwrap_or_default();
            let available = condition(&found, "Available");
            let is_available = available.is_some_and(|one| one["status"] == "True");
            instance.metrics_api = Some(is_available);
            let why = available.map_or("there is no APIService", |one| text(one, "/message"));
            if !is_available {
                instance.problems.push(format!("the metrics API is not available: {why}"));
            }
        }
        Err(error) => instance.problems.push(problem(&format!("APIService {}", arguments.apiservice), error)),
    }
    instance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::overview::TriggerOverview;

    fn trigger(server: &str, age_ms: i64, says: Option<&str>) -> TriggerOverview {
        TriggerOverview {
            index: 0,
            metric: "s0-prometheus".to_owned(),
            name: None,
            value: says.is_none().then_some(1.0),
            at: Some(100_000 - age_ms),
            outcome: Some(if says.is_some() { "timeout" } else { "ok" }.to_owned()),
            says: says.map(str::to_owned),
            fails: says.is_some(),
            threshold: 5.0,
            activation: 0.0,
            server: server.to_owned(),
        }
    }

    fn object(name: &str, state: &'static str, triggers: Vec<TriggerOverview>) -> ObjectOverview {
        ObjectOverview {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            group: "keda.sh",
            state,
            message: if state == "active" { "Scaling is performed".to_owned() } else { format!("{state} it is") },
            since: None,
            generation: Some(1),
            replicas: Some(2),
            added_at: 0,
            removed_at: None,
            last_active_at: None,
            triggers,
            spark: None,
        }
    }

    #[test]
    fn trouble_comes_first_with_its_cause() {
        let objects = vec![
            object("idle", "idle", vec![]),
            object("paused", "paused", vec![]),
            object("half", "active", vec![trigger("a", 0, None), trigger("b", 0, Some("no answer"))]),
            object("broken", "error", vec![trigger("b", 0, Some("no answer"))]),
            object("active", "active", vec![trigger("a", 0, None)]),
            object("wrong", "invalid", vec![]),
            ObjectOverview {
                message: TRIGGERS_FAIL.to_owned(),
                ..object("down", "error", vec![trigger("b", 0, Some("no answer"))])
            },
            ObjectOverview { message: FALLING_BACK.to_owned(), ..object("spare", "fallback", vec![]) },
        ];
        let ranked = ranked(objects);
        let shown: Vec<(&str, bool, &str)> =
            ranked.iter().map(|one| (&*one.overview.name, one.is_in_trouble, &*one.cause)).collect();
        assert_eq!(
            shown,
            [
                ("wrong", true, "invalid it is"),
                ("broken", true, "error it is"),
                ("down", true, "s0-prometheus: no answer"),
                ("spare", true, FALLING_BACK),
                ("half", true, "s0-prometheus: no answer"),
                ("paused", false, "paused it is"),
                ("active", false, ""),
                ("idle", false, ""),
            ]
        );
    }

    #[test]
    fn servers_are_summed_up() {
        let objects = [
            object("a", "active", vec![trigger("http://x", 10_000, None), trigger("", 0, None)]),
            object("b", "error", vec![trigger("http://y", 45_000, Some("timeout")), trigger("http://x", 50_000, None)]),
            object("c", "paused", vec![trigger("http://x", 99_000, None)]),
        ];
        let servers = servers(&objects, &[30_000, 15_000, 15_000], 100_000);
        let shown: Vec<_> = servers
            .iter()
            .map(|one| (&*one.server, one.triggers, one.failing, one.late_ms, one.cause.as_deref()))
            .collect();
        assert_eq!(shown, [("http://y", 1, 1, Some(30_000), Some("timeout")), ("http://x", 3, 0, Some(35_000), None)]);
    }

    #[test]
    fn the_polling_interval_is_that_of_the_definition() {
        assert_eq!(interval_ms(r#"{"pollingInterval":5}"#), 5_000);
        assert_eq!(
            (interval_ms("{}"), interval_ms(""), interval_ms(r#"{"pollingInterval":0}"#)),
            (30_000, 30_000, 30_000)
        );
    }
}
