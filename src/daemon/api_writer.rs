//! Carries out the core's requests to the API server.
//!
//! Makes no decisions: each command becomes requests, and each outcome an event. Conflicts are reported, not retried
//! against the other writer. Every write passes the fence: it is sent only while this instance holds the Lease, and is
//! abandoned before another instance can acquire it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::fence::{FIELD_MANAGER, Fence};
use crate::clock;
use crate::kube::client::Client;
use crate::kube::discovery::Discovery;
use crate::kube::error::Error;
use crate::kube::request::{ListOptions, PatchKind, Request, Resource};
use crate::kube::resources::{self, EVENTS, HPAS, PODS};
use crate::scaling::event::{
    AuthenticationRead, Event, KubeEvent, ScaleTarget, TargetError, TargetErrorKind, TargetRead, Write, WriteDone,
    WriteError, WriteErrorKind, WriteKind, WriteOk,
};
use crate::scaling::hpa::DesiredHpa;
use crate::scaling::model::{
    Authentication, AuthenticationKey, AuthenticationKind, Gvkr, ObjectKey, TargetRef, Workload,
};
use crate::store::Ticket;
use crate::wire;
use crate::workers::{Pool, Workers};

/// Concurrent writes, which bounds the load on the API server: each costs it some milliseconds of CPU. With four, the
/// HPAs of 300 new objects were complete 6 s after the last apply on two busy cores, with twelve after 3 s.
const POOL: Pool = Pool { name: "write", threads_max: 8 };
/// Upper bound on queued Events, which are sent one by one: three for each of 2,500 objects that appear at once, at
/// about 300 bytes. Events beyond it are dropped, since they only inform.
const EVENTS_WAITING_MAX: usize = 8192;
/// Time between two Events while the API server is busy with our writes, which take precedence.
const EVENT_PACE: Duration = Duration::from_millis(100);
/// The API server counts as busy while a write is queued or in flight, and for this long after the last one.
const QUIET_AFTER: Duration = Duration::from_millis(500);
/// A pause is re-checked this often, so that a shutdown ends it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Attempts to read and write `/scale` while only its resource version changes and not its replica count.
const SCALE_TRIES: usize = 5;

/// If the API server asks for a longer pause before a write is repeated, it is asked again after this time nevertheless: a
/// proxy may ask for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// How long a write waits for its decision's commit, which takes a few ms; twice the store writer's longest slice.
const COMMIT_LIMIT: Duration = Duration::from_millis(100);

/// One request from the core.
pub(super) enum Job {
    /// `decided` resolves once the decision behind the write is in the history.
    Write {
        write: Box<Write>,
        decided: Option<Ticket>,
    },
    ReadTarget {
        object: ObjectKey,
        target: TargetRef,
        known: Option<Gvkr>,
    },
    ReadAuthentication(AuthenticationKey),
    CountReadyPods {
        object: ObjectKey,
        selector: String,
    },
}

/// State that the writers and the Event emitter share.
#[derive(Default)]
struct Activity {
    /// Jobs that are queued or in flight.
    jobs: AtomicUsize,
    /// When the last job ended, in milliseconds of [`clock::since_boot`].
    quiet_since: AtomicU64,
    /// Events that are queued.
    events: AtomicUsize,
    is_closing: AtomicBool,
}

impl Activity {
    fn job_ended(&self) {
        self.quiet_since.store(millis(clock::since_boot()), Ordering::Relaxed);
        // Whoever sees that it ended sees its outcome, too.
        self.jobs.fetch_sub(1, Ordering::Release);
    }

    /// Returns how long the next Event waits if the previous request took `took`. An isolated Event is sent at once.
    fn pause(&self, took: Duration) -> Duration {
        if self.is_closing.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let quiet = millis(clock::since_boot()).saturating_sub(self.quiet_since.load(Ordering::Relaxed));
        let is_busy = self.jobs.load(Ordering::Relaxed) > 0 || quiet < millis(QUIET_AFTER);
        // At rest, pauses for as long as the last request took, since other clients use the API server too.
        if is_busy { EVENT_PACE.max(took) } else { took.min(EVENT_PACE) }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The running threads. The queue needs no bound of its own: the core has at most `Settings::writes_max` writes and one
/// read per object in flight.
pub(super) struct ApiWriter {
    writer: Arc<Writer>,
    workers: Workers,
    inbox: SyncSender<Event>,
    events: Option<Sender<Waiting>>,
    emitter: JoinHandle<()>,
}

/// An Event, and when it happened, in microseconds of the wall clock.
struct Waiting {
    event: KubeEvent,
    at: i64,
}

impl ApiWriter {
    /// Authentications are read if `selector` chooses them, as by their watch.
    pub(super) fn start(
        client: &Client,
        fence: &Arc<Fence>,
        selector: Option<&str>,
        inbox: &SyncSender<Event>,
    ) -> std::io::Result<Self> {
        let activity = Arc::<Activity>::default();
        let (events, waiting) = channel();
        let (emitting, seen) = (client.clone(), Arc::clone(&activity));
        let emit = move || emit_all(&emitting, &waiting, &seen);
        let emitter = std::thread::Builder::new().name("events".to_owned()).spawn(emit)?;
        let writer = Writer {
            client: client.clone(),
            fence: Arc::clone(fence),
            authentications: selector.map(str::to_owned),
            discovery: Discovery::default(),
            activity,
        };
        let (writer, workers) = (Arc::new(writer), Workers::new(POOL));
        Ok(Self { writer, workers, inbox: inbox.clone(), events: Some(events), emitter })
    }

    pub(super) fn take(&self, job: Job) {
        if self.writer.activity.is_closing.load(Ordering::Relaxed) {
            return;
        }
        self.writer.activity.jobs.fetch_add(1, Ordering::Relaxed);
        let (writer, inbox) = (Arc::clone(&self.writer), self.inbox.clone());
        self.workers.run(Box::new(move || {
            // Nobody receives it once the daemon has ended.
            let _ = inbox.send(writer.carry_out(job));
            // Last, so that every outcome can be received once no job is left.
            writer.activity.job_ended();
        }));
    }

    /// Queues an Event while this instance holds the Lease; it may be sent after the Lease is lost.
    pub(super) fn emit(&self, event: KubeEvent) {
        let Some(events) = self.events.as_ref().filter(|_| self.writer.fence.pass().is_ok()) else { return };
        let activity = &self.writer.activity;
        let waiting = activity.events.load(Ordering::Relaxed);
        if waiting >= EVENTS_WAITING_MAX {
            debug!(reason = event.reason, object = event.regarding.name, waiting; "event dropped");
            return;
        }
        activity.events.fetch_add(1, Ordering::Relaxed);
        let _ = events.send(Waiting { event, at: clock::wall_micros() });
    }

    /// Accepts no more jobs; those that are queued are still carried out.
    pub(super) fn close(&mut self) {
        self.writer.activity.is_closing.store(true, Ordering::Relaxed);
        self.events = None;
    }

    /// Returns whether every write has ended and its outcome is in the inbox; meaningful after [`Self::close`].
    pub(super) fn have_written(&self) -> bool {
        self.writer.activity.jobs.load(Ordering::Acquire) == 0
    }

    pub(super) fn is_finished(&self) -> bool {
        self.have_written() && self.emitter.is_finished()
    }
}

struct Writer {
    client: Client,
    fence: Arc<Fence>,
    /// A label selector; `None` for all.
    authentications: Option<String>,
    discovery: Discovery,
    activity: Arc<Activity>,
}

impl Writer {
    fn carry_out(&self, job: Job) -> Event {
        match job {
            Job::Write { write, decided } => {
                // The reason for a write should survive if the process is killed right after it. Scaling goes on
                // without the store: one that fails resolves the ticket at once, a slow one is not waited for
                // beyond the limit.
                if decided.is_some_and(|ticket| !ticket.wait(COMMIT_LIMIT)) {
                    debug!(scaledobject:% = write.object; "decision carried out before it is recorded");
                }
                let result = self.write(&write);
                log_write(&write, &result);
                Event::Written(WriteDone { id: write.id, object: write.object, result })
            }
            Job::ReadTarget { object, target, known } => {
                let result = self.read_target(&object.namespace, &target, known);
                Event::TargetRead(TargetRead { object, target, result })
            }
            Job::ReadAuthentication(authentication) => {
                let result = self.read_authentication(&authentication);
                Event::AuthenticationRead(AuthenticationRead { authentication, result })
            }
            Job::CountReadyPods { object, selector } => {
                let ready = self.count_ready_pods(&object.namespace, &selector).map_err(|error| error.to_string());
                Event::PodsCounted { object, ready }
            }
        }
    }

    fn write(&self, write: &Write) -> Result<WriteOk, WriteError> {
        let object = &write.object;
        let namespace = Some(&*object.namespace);
        let objects = resources::scaled_objects(object.group);
        let done = match &write.kind {
            WriteKind::Claim { finalizers, label, resource_version } => {
                let labels: serde_json::Map<_, _> =
                    label.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
                let patch = json!({ "metadata": {
                    "finalizers": finalizers, "labels": labels, "resourceVersion": resource_version,
                } });
                self.merge(&objects, namespace, &object.name, None, &patch)
            }
            WriteKind::Release { finalizers, resource_version } => {
                let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": resource_version } });
                self.merge(&objects, namespace, &object.name, None, &patch)
            }
            WriteKind::Status(patch) => match wire::status::merge_patch(patch) {
                Some(patch) => self.merge(&objects, namespace, &object.name, Some("status"), &patch),
                None => Ok(WriteOk::Done),
            },
            WriteKind::CreateHpa(desired) => self.create_hpa(desired),
            WriteKind::ApplyHpa(desired) => self.apply_hpa(desired),
            WriteKind::ReplaceHpa { desired, resource_version } => self.replace_hpa(desired, resource_version),
            WriteKind::DeleteHpa { name, uid } => {
                HPAS.delete(namespace, name, Some(uid)).map_err(Error::from).and_then(|request| {
                    self.send(&request)?;
                    Ok(WriteOk::Done)
                })
            }
            WriteKind::Scale { target, from, to, .. } => return self.scale(&object.namespace, target, *from, *to),
            WriteKind::AuthenticationStatus { authentication, scaled_objects } => {
                let patch = json!({ "status": { "scaledobjects": scaled_objects } });
                self.merge_authentication(authentication, Some("status"), &patch)
            }
            WriteKind::AuthenticationFinalizers { authentication, finalizers, resource_version } => {
                let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": resource_version } });
                self.merge_authentication(authentication, None, &patch)
            }
        };
        done.map_err(|error| write_error(&error))
    }

    /// Sends a write if this instance holds the Lease. Does not retry: by then the core has to decide again.
    fn send(&self, request: &Request) -> Result<Vec<u8>, Error> {
        self.client.send_within(request, self.fence.pass()?)
    }

    fn merge(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: &serde_json::Value,
    ) -> Result<WriteOk, Error> {
        let body = patch.to_string().into_bytes();
        let request = match subresource {
            Some(subresource) => resource.patch_subresource(namespace, name, subresource, PatchKind::Merge, body)?,
            None => resource.patch(namespace, name, PatchKind::Merge, body)?,
        };
        let body = self.send(&request.with_query("fieldManager", FIELD_MANAGER))?;
        let answer: Versioned = serde_json::from_slice(&body)
            .map_err(|source| Error::Decode { what: "metadata", source: Box::new(source) })?;
        Ok(WriteOk::Version(answer.metadata.resource_version))
    }

    fn merge_authentication(
        &self,
        authentication: &AuthenticationKey,
        subresource: Option<&str>,
        patch: &serde_json::Value,
    ) -> Result<WriteOk, Error> {
        let resource = resources::authentications(authentication.group, authentication.kind);
        let namespace = (authentication.kind == AuthenticationKind::TriggerAuthentication)
            .then_some(authentication.namespace.as_str());
        self.merge(&resource, namespace, &authentication.name, subresource, patch)
    }

    /// Checks first that no HPA of this name exists, because an apply would take over the one that it finds.
    fn create_hpa(&self, desired: &DesiredHpa) -> Result<WriteOk, Error> {
        match self.read_hpa(&desired.namespace, &desired.name)? {
            None => self.apply_hpa(desired),
            Some(found) => match wire::hpa::from_slice(found.get().as_bytes()) {
                Ok(hpa) => Ok(WriteOk::HpaExists(Box::new(hpa))),
                Err(error) => Err(Error::Decode { what: "the HPA of that name", source: error.0.into() }),
            },
        }
    }

    /// Uses a get, which etcd answers at once; a consistent list waits up to 100 ms for the API server's cache while
    /// others write. Falls back to a list where the right to get is missing, which older manifests did not grant.
    fn read_hpa(&self, namespace: &str, name: &str) -> Result<Option<Box<RawValue>>, Error> {
        match self.client.json(&HPAS.get(Some(namespace), name)?) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_forbidden() => self.named(&HPAS, Some(namespace), name, None),
            Err(error) => Err(error),
        }
    }

    /// Returns the current state of one object by its name, or `None` if it does not exist. Uses a list, since the
    /// rights on watched kinds are those to list them.
    fn named(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        label_selector: Option<&str>,
    ) -> Result<Option<Box<RawValue>>, Error> {
        let selector = format!("metadata.name={name}");
        let options = ListOptions { field_selector: Some(&selector), label_selector, ..ListOptions::default() };
        let mut found = None;
        self.client.list(
            &options,
            |options| resource.list(namespace, options),
            None,
            |item| {
                found = Some(item);
                ControlFlow::Break(())
            },
        )?;
        Ok(found)
    }

    fn read_authentication(&self, key: &AuthenticationKey) -> Result<Option<Box<Authentication>>, String> {
        let resource = resources::authentications(key.group, key.kind);
        let namespace = resource.namespaced.then_some(key.namespace.as_str());
        let selector = self.authentications.as_deref();
        let found = self.named(&resource, namespace, &key.name, selector).map_err(|error| format!("{key}: {error}"))?;
        let read = |json: Box<RawValue>| wire::authentication::from_slice(key.group, key.kind, json.get().as_bytes());
        found.map(read).transpose().map(|read| read.map(Box::new)).map_err(|error| format!("{key}: {}", error.0))
    }

    fn apply_hpa(&self, desired: &DesiredHpa) -> Result<WriteOk, Error> {
        let body = wire::hpa::to_apply(desired).to_string().into_bytes();
        let kind = PatchKind::Apply { field_manager: FIELD_MANAGER, force: true };
        let request = HPAS.patch(Some(&desired.namespace), &desired.name, kind, body)?;
        observed(&self.send(&request)?)
    }

    fn replace_hpa(&self, desired: &DesiredHpa, resource_version: &str) -> Result<WriteOk, Error> {
        let body = wire::hpa::to_replace(desired, resource_version).to_string().into_bytes();
        let request = HPAS.replace(Some(&desired.namespace), &desired.name, body)?;
        observed(&self.send(&request.with_query("fieldManager", FIELD_MANAGER))?)
    }

    /// Scales the target only while it still has the replica count that the decision was based on.
    fn scale(&self, namespace: &str, target: &ScaleTarget, from: u32, to: u32) -> Result<WriteOk, WriteError> {
        let resource = resources::of(&target.gvkr);
        let failed = |error: Error| {
            let mut failed = write_error(&error);
            if error.is_forbidden() && failed.kind == WriteErrorKind::Forbidden {
                failed.message = scaling_forbidden(&target.gvkr, &error);
            }
            failed
        };
        let mut tries = 0;
        // The answer to a write was lost, so that it may have been carried out.
        let mut is_unanswered = false;
        loop {
            let request =
                resource.get_subresource(Some(namespace), &target.name, "scale").map_err(|e| failed(e.into()))?;
            let body = self.client.send(&request).map_err(failed)?;
            let scale = wire::workload::scale_from_slice(&body).map_err(|error| WriteError {
                kind: WriteErrorKind::Transient,
                message: error.0,
                retry_after: None,
            })?;
            if is_unanswered && scale.workload.replicas == to {
                return Ok(WriteOk::Scaled(scale.workload.version));
            }
            if scale.workload.replicas != from {
                return Err(WriteError {
                    kind: WriteErrorKind::Conflict,
                    message: format!("the target has {} replicas, not {from}", scale.workload.replicas),
                    retry_after: None,
                });
            }
            let body = wire::workload::scale_to_value(&scale, to).to_string().into_bytes();
            let request = resource
                .replace_subresource(Some(namespace), &target.name, "scale", body)
                .map_err(|e| failed(e.into()))?
                .with_query("fieldManager", FIELD_MANAGER)
                .once();
            tries += 1;
            match self.send(&request) {
                Ok(body) => return Ok(WriteOk::Scaled(wire::workload::scale_version(&body))),
                // Only the resource version changed, as it does with every status update of a busy target.
                Err(error) if error.is_conflict() && tries < SCALE_TRIES => {}
                Err(Error::Io { .. } | Error::Timeout { .. }) if !is_unanswered => is_unanswered = true,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn read_target(
        &self,
        namespace: &str,
        target: &TargetRef,
        known: Option<Gvkr>,
    ) -> Result<(Gvkr, Workload), TargetError> {
        let gvkr = match known {
            Some(gvkr) => gvkr,
            None => self.resolve(target)?,
        };
        let resource = resources::of(&gvkr);
        let other = |error: Error| TargetError {
            kind: TargetErrorKind::Other,
            message: if error.is_forbidden() { scaling_forbidden(&gvkr, &error) } else { error.to_string() },
        };
        let request = resource.get_subresource(Some(namespace), &target.name, "scale").map_err(|e| other(e.into()))?;
        let body = match self.client.send(&request) {
            Ok(body) => body,
            Err(error) if error.is_not_found() => {
                self.discovery.forget(&gvkr.group, &gvkr.version);
                return Err(self.why_not_found(&resource, namespace, &target.name, &error));
            }
            Err(error) => return Err(other(error)),
        };
        let scale = wire::workload::scale_from_slice(&body)
            .map_err(|error| TargetError { kind: TargetErrorKind::Other, message: error.0 })?;
        Ok((gvkr, scale.workload))
    }

    fn resolve(&self, target: &TargetRef) -> Result<Gvkr, TargetError> {
        let (group, version) = target.api_version.split_once('/').unwrap_or(("", &target.api_version));
        let found = self.discovery.find(&self.client, group, version, &target.kind).map_err(|error| {
            let kind = if error.is_not_found() { TargetErrorKind::UnknownKind } else { TargetErrorKind::Other };
            let message = if error.is_not_found() {
                format!("no matches for kind \"{}\" in version \"{}\"", target.kind, target.api_version)
            } else {
                error.to_string()
            };
            TargetError { kind, message }
        })?;
        // RBAC rarely grants rights on a subresource that does not exist, so a request would only return 403.
        if !found.scalable {
            let message = "the server could not find the requested resource".to_owned();
            return Err(TargetError { kind: TargetErrorKind::NoScale, message });
        }
        Ok(Gvkr {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: target.kind.clone(),
            resource: found.resource.plural.into_owned(),
        })
    }

    /// Tells an object that does not exist from one without `/scale`.
    fn why_not_found(&self, resource: &Resource, namespace: &str, name: &str, error: &Error) -> TargetError {
        let exists = resource.get(Some(namespace), name).is_ok_and(|request| self.client.send(&request).is_ok());
        TargetError {
            kind: if exists { TargetErrorKind::NoScale } else { TargetErrorKind::NotFound },
            message: in_its_words(error),
        }
    }

    fn count_ready_pods(&self, namespace: &str, selector: &str) -> Result<u32, Error> {
        let options = ListOptions {
            label_selector: Some(selector),
            // Served from the API server's cache where possible: a count may be a moment old.
            resource_version: Some("0"),
            ..ListOptions::default()
        };
        let mut ready = 0u32;
        self.client.list(
            &options,
            |options| PODS.list(Some(namespace), options),
            None,
            |pod: Pod| {
                ready += u32::from(pod.is_ready());
                ControlFlow::Continue(())
            },
        )?;
        Ok(ready)
    }
}

fn observed(body: &[u8]) -> Result<WriteOk, Error> {
    match wire::hpa::from_slice(body) {
        Ok(hpa) => Ok(WriteOk::Hpa(Box::new(hpa))),
        // The HPA was written; the watch will deliver it.
        Err(_) => Ok(WriteOk::Done),
    }
}

fn write_error(error: &Error) -> WriteError {
    let is_terminating =
        error.status().is_some_and(|status| status.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
    let code = error.status().map(|status| status.code);
    let kind = if is_terminating {
        WriteErrorKind::Terminating
    } else if error.is_not_found() {
        WriteErrorKind::NotFound
    } else if error.is_conflict() {
        WriteErrorKind::Conflict
    } else if error.is_forbidden() {
        WriteErrorKind::Forbidden
    } else if matches!(code, Some(400 | 413 | 415 | 422)) {
        WriteErrorKind::Invalid
    } else {
        WriteErrorKind::Transient
    };
    WriteError {
        kind,
        message: in_its_words(error),
        retry_after: error.retry_after().map(|wait| wait.min(RETRY_AFTER_MAX)),
    }
}

/// Returns a message that names the missing right to scale this kind, and the manifest that grants it.
fn scaling_forbidden(gvkr: &Gvkr, error: &Error) -> String {
    let Gvkr { group, resource, .. } = gvkr;
    let source = if group == "apps" {
        "k8s/base/rbac.yaml has the rule"
    } else {
        "a ClusterRole with the label hpalite.dev/aggregate-to-scale-targets: \"true\" adds them, see \
         k8s/samples/scale-target-rollout.yaml"
    };
    format!(
        "{}; hpalite needs get and update on {resource}/scale and get on {resource} in API group \"{group}\": {source}",
        in_its_words(error)
    )
}

/// Returns the API server's own message, if it sent one.
fn in_its_words(error: &Error) -> String {
    match error.status() {
        Some(status) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}

fn log_write(write: &Write, result: &Result<WriteOk, WriteError>) {
    let object = write.object.to_string();
    match (&write.kind, result) {
        (WriteKind::Scale { target, from, to, .. }, Ok(_)) => {
            info!(scaledobject = object, target = target.name, replicas_from = *from, replicas_to = *to; "scaled");
        }
        (kind, Ok(_)) => debug!(scaledobject = object, write = name(kind); "written"),
        (kind, Err(error)) if error.kind == WriteErrorKind::Conflict => {
            debug!(scaledobject = object, write = name(kind), error = error.message; "conflict, will look again");
        }
        (kind, Err(error)) => {
            warn!(scaledobject = object, write = name(kind), error = error.message; "write failed, will try again");
        }
    }
}

fn name(kind: &WriteKind) -> &'static str {
    match kind {
        WriteKind::Claim { .. } => "claim",
        WriteKind::Release { .. } => "release",
        WriteKind::Status(_) => "status",
        WriteKind::CreateHpa(_) => "hpa-create",
        WriteKind::ApplyHpa(_) => "hpa-apply",
        WriteKind::ReplaceHpa { .. } => "hpa-replace",
        WriteKind::DeleteHpa { .. } => "hpa-delete",
        WriteKind::Scale { .. } => "scale",
        WriteKind::AuthenticationStatus { .. } => "authentication-status",
        WriteKind::AuthenticationFinalizers { .. } => "authentication-finalizers",
    }
}

/// Sends Kubernetes Events one by one, and slowly while more important writes are pending. A lost Event is logged at
/// debug level only, since the decision is in the history and the condition is on the object.
fn emit_all(client: &Client, waiting: &Receiver<Waiting>, activity: &Activity) {
    let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| "hpalite".to_owned());
    let mut last = (Instant::now(), Duration::ZERO);
    let mut last_at = 0;
    while let Ok(Waiting { event, at }) = waiting.recv() {
        // The pause counts from the last Event, so that an isolated one does not wait.
        while let Some(left) = activity.pause(last.1).checked_sub(last.0.elapsed()).filter(|left| !left.is_zero()) {
            #[expect(clippy::disallowed_methods, reason = "nobody waits for this thread, which ends with the process")]
            std::thread::sleep(left.min(LOOK_AGAIN));
        }
        activity.events.fetch_sub(1, Ordering::Relaxed);
        // The Event's name is derived from the time, so times must be unique.
        last_at = at.max(last_at + 1);
        let body = wire::event::to_value(&event, last_at, &instance).to_string().into_bytes();
        let namespace = wire::event::namespace(&event);
        let began = Instant::now();
        let sent = EVENTS.create(Some(namespace), body).map_err(Error::from).and_then(|request| client.send(&request));
        if let Err(error) = sent {
            debug!(reason = event.reason, object = event.regarding.name, error:% = error; "event not sent");
        }
        last = (Instant::now(), began.elapsed());
    }
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(default)]
    metadata: VersionedMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct VersionedMeta {
    resource_version: String,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
    conditions: Vec<PodCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Pod {
    fn is_ready(&self) -> bool {
        let ready = |condition: &PodCondition| condition.kind == "Ready" && condition.status == "True";
        self.status.phase == "Running" && self.status.conditions.iter().any(ready)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;
    use crate::kube::config::ClusterConfig;
    use crate::kube::error::Status;
    use crate::kube::fake;

    /// What becomes of a write of the replicas.
    #[derive(Clone, Copy)]
    enum Fate {
        Answered,
        /// It is carried out, but its answer is lost.
        Unanswered,
        /// It is lost itself.
        Unheard,
        /// Somebody else sets so many replicas just before.
        Overtaken(u32),
    }

    /// Has the replicas of one Deployment, and carries out a write of them if they have not changed since they were read.
    fn serve(listener: &TcpListener, mut replicas: u32, mut fates: impl Iterator<Item = Fate>) {
        let mut version = 1;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Only a write has a body.
            let (_, body) = fake::read(&stream);
            let fate = if body.is_empty() { Fate::Answered } else { fates.next().unwrap() };
            if let Fate::Overtaken(others) = fate {
                (replicas, version) = (others, version + 1);
            }
            let wanted: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let is_current = wanted["metadata"]["resourceVersion"].as_str() == Some(version.to_string().as_str());
            if is_current && !matches!(fate, Fate::Unheard) {
                (replicas, version) = (wanted["spec"]["replicas"].as_u64().unwrap().try_into().unwrap(), version + 1);
            }
            let (code, body) = if body.is_empty() || is_current {
                let metadata = json!({ "namespace": "shop", "name": "web", "resourceVersion": version.to_string() });
                (200, json!({ "metadata": metadata, "spec": { "replicas": replicas } }).to_string())
            } else {
                (409, json!({ "kind": "Status", "code": 409, "reason": "Conflict" }).to_string())
            };
            if !matches!(fate, Fate::Unanswered | Fate::Unheard) {
                let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        }
    }

    /// Scales a target of so many replicas from 0 to 1.
    fn scaled(replicas: u32, fates: &'static [Fate]) -> Result<(), WriteErrorKind> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = ClusterConfig::of_server(listener.local_addr().unwrap());
        std::thread::spawn(move || serve(&listener, replicas, fates.iter().copied()));
        let writer = Writer {
            client: Client::new(config),
            fence: Arc::new(Fence::open()),
            authentications: None,
            discovery: Discovery::default(),
            activity: Arc::default(),
        };
        let gvkr = crate::scaling::world::watched_workloads()[0].clone();
        let target = ScaleTarget { gvkr: Arc::new(gvkr), name: "web".to_owned() };
        writer.scale("shop", &target, 0, 1).map(drop).map_err(|error| error.kind)
    }

    /// Regression: what a proxy answered in the API server's place was a list without the object.
    #[test]
    fn an_object_is_gone_only_by_a_list() {
        let gone = r#"{"kind":"ThingList","metadata":{"resourceVersion":"7"},"items":[]}"#;
        for (body, is_list) in [(r#"{"message":"maintenance"}"#, false), ("{}", false), (gone, true)] {
            let writer = Writer {
                // HPAs may be listed, and not be got by their names.
                client: fake::client(move |line, _| (if line.ends_with("/web") { 403 } else { 200 }, body.to_owned())),
                fence: Arc::new(Fence::open()),
                authentications: None,
                discovery: Discovery::default(),
                activity: Arc::default(),
            };
            let key = AuthenticationKey {
                group: crate::scaling::model::ApiGroup::KedaSh,
                kind: AuthenticationKind::TriggerAuthentication,
                namespace: "shop".to_owned(),
                name: "auth".to_owned(),
            };
            let authentication = writer.read_authentication(&key);
            assert_eq!(authentication.is_ok_and(|found| found.is_none()), is_list, "{body}");
            assert_eq!(writer.read_hpa("shop", "web").is_ok_and(|found| found.is_none()), is_list, "{body}");
        }
    }

    /// Regression: a write counted as ended before its outcome was in the inbox, so that an end just then lost it.
    #[test]
    fn a_write_has_ended_once_its_outcome_can_be_received() {
        let client = fake::client(|_, _| (404, String::new()));
        let (inbox, events) = std::sync::mpsc::sync_channel(1);
        let writer = ApiWriter::start(&client, &Arc::new(Fence::default()), None, &inbox).unwrap();
        let object = ObjectKey::new(crate::scaling::model::ApiGroup::KedaSh, "shop", "web");
        let kind = WriteKind::DeleteHpa { name: "web".to_owned(), uid: "u".to_owned() };
        for id in 0..10_000 {
            // The fence is closed, so that nothing is sent.
            let write = Box::new(Write { id, object: object.clone(), kind: kind.clone() });
            writer.take(Job::Write { write, decided: None });
            while !writer.have_written() {
                std::hint::spin_loop();
            }
            assert!(matches!(events.try_recv(), Ok(Event::Written(done)) if done.id == id), "write {id}");
        }
    }

    #[test]
    fn a_write_is_put_off_for_a_minute_at_most() {
        let asks = |seconds| Status::parse(429, Some(Duration::from_secs(seconds)), b"").into();
        for (asked, expected) in [(7, 7), (60, 60), (86_400, 60)] {
            assert_eq!(write_error(&asks(asked)).retry_after, Some(Duration::from_secs(expected)));
        }
    }

    #[test]
    fn a_scale_write_whose_answer_is_lost_is_looked_at() {
        assert_eq!(scaled(0, &[Fate::Answered]), Ok(()));
        assert_eq!(scaled(0, &[Fate::Unanswered]), Ok(()));
        assert_eq!(scaled(0, &[Fate::Unheard, Fate::Answered]), Ok(()));
        assert_eq!(scaled(0, &[Fate::Unheard, Fate::Unheard]), Err(WriteErrorKind::Transient));
        // Another's replicas are not ours, even if they are as many.
        assert_eq!(scaled(1, &[]), Err(WriteErrorKind::Conflict));
        assert_eq!(scaled(0, &[Fate::Overtaken(1)]), Err(WriteErrorKind::Conflict));
        assert_eq!(scaled(0, &[Fate::Unheard, Fate::Overtaken(5)]), Err(WriteErrorKind::Conflict));
        // Only another part of it has changed.
        assert_eq!(scaled(0, &[Fate::Overtaken(0), Fate::Answered]), Ok(()));
    }
}
