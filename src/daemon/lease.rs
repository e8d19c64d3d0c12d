//! The Lease that elects the one instance that acts.
//!
//! Owns the `lease` thread, which carries out what [`Election`] decides and reports the outcome to the rest of the
//! daemon: the [`Fence`] is open while the Lease is held.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::time::Duration;

use log::{debug, info, warn};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fence::{FIELD_MANAGER, Fence};
use crate::clock;
use crate::http::api::Readiness;
use crate::kube::client::Client;
use crate::kube::election::{Action, Election, Seen, Timing};
use crate::kube::error::Error;
use crate::kube::request::PatchKind;
use crate::kube::resources::LEASES;
use crate::kube::watch::{HasMeta, ObjectRef};
use crate::kube::watcher::{Watch, Watcher};
use crate::scaling::event::{Event, WatchEvent};
use crate::wire::time::format_micros;

/// Upper bound on a request about the Lease. It gets half the renew deadline if that is shorter, so that a request that
/// hangs leaves time for another.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Time limit for releasing the Lease at shutdown: a healthy API server needs milliseconds.
pub(super) const RELEASE_WITHIN: Duration = Duration::from_secs(1);

enum LeaseMessage {
    Noticed(Option<Seen>),
    Release,
}

/// The running election. Without an election the fence is always open.
pub(super) struct Lease {
    messages: Option<Sender<LeaseMessage>>,
    ended: Receiver<()>,
    deposed: Arc<AtomicBool>,
}

impl Lease {
    /// Starts to compete for Lease `name` in `namespace`. The inbox receives [`Event::Leading`] when it is acquired,
    /// and a tick when it is lost.
    pub(super) fn start(
        client: &Client,
        (name, namespace): &(String, String),
        identity: String,
        timing: Timing,
        fence: Arc<Fence>,
        ready: Arc<Readiness>,
        inbox: SyncSender<Event>,
    ) -> std::io::Result<(Self, Watcher)> {
        let (messages, received) = channel();
        let (end, ended) = channel();
        let deposed = Arc::new(AtomicBool::new(false));
        let lease_loop = LeaseLoop {
            client: client.clone(),
            name: name.clone(),
            namespace: namespace.clone(),
            election: Election::new(identity.clone(), timing),
            identity,
            timing,
            fence,
            ready,
            inbox,
            deposed: Arc::clone(&deposed),
            logged: Logged::default(),
        };
        let sink = messages.clone();
        let watch = Watch::one("lease", LEASES, Some(namespace), name);
        let watcher = Watcher::spawn::<WireLease, _>(client, watch, move |event| {
            let seen = match event {
                WatchEvent::Listed(lease) | WatchEvent::Changed(lease) => Some(lease.seen(timing)),
                WatchEvent::Deleted { .. } => None,
                _ => return ControlFlow::Continue(()),
            };
            match sink.send(LeaseMessage::Noticed(seen)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
            lease_loop.run(&received);
            // The receiver is gone if the process is already ending.
            let _ = end.send(());
        })?;
        Ok((Self { messages: Some(messages), ended, deposed }, watcher))
    }

    /// Returns a lease without an election, for an instance that the administrator runs alone.
    pub(super) fn none() -> Self {
        Self { messages: None, ended: channel().1, deposed: Arc::default() }
    }

    /// Returns whether another instance has acquired the Lease, so that this one has to end.
    pub(super) fn is_deposed(&self) -> bool {
        self.deposed.load(Ordering::Acquire)
    }

    /// Releases the Lease if it is held. The caller must have no writes in flight.
    pub(super) fn release(&mut self) {
        if let Some(messages) = self.messages.take() {
            // Gone already when another instance has taken the Lease.
            let _ = messages.send(LeaseMessage::Release);
        }
    }

    /// Waits until the release has been carried out, if one was requested.
    pub(super) fn finish(&self) {
        if self.messages.is_some() {
            return;
        }
        // The thread may be blocked in a request to an unresponsive API server; it is not waited for any longer.
        let _ = self.ended.recv_timeout(RELEASE_WITHIN);
    }
}

struct LeaseLoop {
    client: Client,
    name: String,
    namespace: String,
    identity: String,
    timing: Timing,
    election: Election,
    fence: Arc<Fence>,
    ready: Arc<Readiness>,
    inbox: SyncSender<Event>,
    deposed: Arc<AtomicBool>,
    logged: Logged,
}

/// What has been logged already.
#[derive(Default)]
struct Logged {
    leads: bool,
    holder: String,
    /// Another instance was seen to hold the Lease.
    has_rival: bool,
    /// Consecutive failed attempts.
    failures: u32,
    lapsed: bool,
}

impl LeaseLoop {
    fn run(mut self, messages: &Receiver<LeaseMessage>) {
        while let Some(next_at) = self.election.next_at() {
            let now = clock::since_boot();
            let message = messages.recv_timeout(next_at.saturating_sub(now));
            let now = clock::since_boot();
            match message {
                Ok(LeaseMessage::Noticed(seen)) => self.election.noticed(seen, now),
                Ok(LeaseMessage::Release) => return self.release(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(action) = self.election.next(now) {
                self.carry_out(action, now);
            }
            self.publish();
        }
    }

    fn carry_out(&mut self, action: Action, sent_at: Duration) {
        let within = (self.timing.renew_deadline / 2).min(REQUEST_MAX);
        let result = self.send(&action, within);
        let now = clock::since_boot();
        match (&action, result) {
            (Action::Read, Ok(seen)) => self.election.read(Some(seen), now),
            (Action::Read, Err(error)) if error.is_not_found() => self.election.read(None, now),
            (_, Ok(seen)) => {
                self.election.written(seen, sent_at);
                self.fence.renewed();
            }
            (Action::Create, Err(error)) if error.is_already_exists() => self.election.refused(now),
            (Action::Write { .. }, Err(error)) if error.is_conflict() || error.is_not_found() => {
                self.election.refused(now);
            }
            (_, Err(error)) => {
                self.election.failed(now);
                if is_doubt(&error) {
                    self.election.doubted();
                }
                self.logged.failures += 1;
                self.log_failure(&error);
                return;
            }
        }
        self.logged.failures = 0;
    }

    fn send(&self, action: &Action, within: Duration) -> Result<Seen, Error> {
        let namespace = Some(self.namespace.as_str());
        let request = match action {
            Action::Read => LEASES.get(namespace, &self.name)?,
            Action::Create => {
                let body = json!({
                    "apiVersion": LEASES.api_version(), "kind": "Lease",
                    "metadata": { "name": self.name, "namespace": self.namespace },
                    "spec": self.spec(Some(0)),
                });
                LEASES.create(namespace, body.to_string().into_bytes())?.with_query("fieldManager", FIELD_MANAGER)
            }
            Action::Write { resource_version, transitions, acquires } => {
                self.patch(resource_version, &self.spec(acquires.then_some(transitions.saturating_add(1))))?
            }
        };
        let seen = self.client.send_within(&request, within).and_then(|body| read(&body, self.timing))?;
        // Whatever was answered, a Lease that somebody else has was not acquired.
        if *action != Action::Read && seen.holder != self.identity {
            return Err(no_lease(format!("after it was written its holder is {:?}", seen.holder)));
        }
        Ok(seen)
    }

    /// Builds the Lease's spec: `transitions` is set to acquire it, and `None` to renew it.
    fn spec(&self, transitions: Option<u32>) -> Value {
        let now = format_micros(clock::wall_micros());
        let mut spec = json!({
            "holderIdentity": self.identity,
            // Rounded up to whole seconds, because the longer duration is the safe one.
            "leaseDurationSeconds": self.timing.lease_duration.as_millis().div_ceil(1000) as u64,
            "renewTime": now,
        });
        if let Some(transitions) = transitions {
            spec["acquireTime"] = now.into();
            spec["leaseTransitions"] = transitions.into();
        }
        spec
    }

    /// Patches only the version that was seen, and keeps fields that others set on the Lease.
    fn patch(&self, resource_version: &str, spec: &Value) -> Result<crate::kube::request::Request, Error> {
        let body = json!({ "metadata": { "resourceVersion": resource_version }, "spec": spec });
        let namespace = Some(self.namespace.as_str());
        let request = LEASES.patch(namespace, &self.name, PatchKind::Merge, body.to_string().into_bytes())?;
        Ok(request.with_query("fieldManager", FIELD_MANAGER))
    }

    fn release(mut self) {
        let version = self.election.release();
        self.fence.set(None);
        let Some(version) = version else { return };
        let now = format_micros(clock::wall_micros());
        let spec = json!({ "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now });
        let sent = self.patch(&version, &spec).and_then(|request| self.client.send_within(&request, RELEASE_WITHIN));
        match sent {
            Ok(_) => info!(lease = self.name, namespace = self.namespace; "lease handed over"),
            Err(error) => warn!(error:% = error; "lease not handed over, it runs out by itself"),
        }
    }

    /// Publishes the state of the election to the fence, the readiness check, the log and the core.
    fn publish(&mut self) {
        self.fence.set(self.election.valid_until());
        let holder = self.election.holder();
        if self.logged.holder != holder {
            self.logged.holder = holder.to_owned();
            self.logged.has_rival |= !holder.is_empty() && holder != self.identity;
            self.ready.set_leader(holder);
            if !self.election.leads() && !holder.is_empty() && self.election.deposed_by().is_none() {
                info!(holder, lease = self.name, namespace = self.namespace; "standing by");
            }
        }
        if let Some(holder) = self.election.deposed_by() {
            warn!(holder; "another instance has taken the lease");
            self.deposed.store(true, Ordering::Release);
            let _ = self.inbox.send(Event::Tick);
            return;
        }
        if self.election.leads() && !self.logged.leads {
            self.logged.leads = true;
            info!(identity = self.identity, lease = self.name, namespace = self.namespace; "leading");
            let _ = self.inbox.send(Event::Leading { was_alone: !self.logged.has_rival });
        }
        let has_lapsed = self.logged.leads && self.fence.pass().is_err();
        if has_lapsed != self.logged.lapsed {
            self.logged.lapsed = has_lapsed;
            if has_lapsed {
                warn!(lease = self.name, namespace = self.namespace; "lease not renewed in time: nothing is written until it is");
            } else {
                info!("lease renewed, writing again");
            }
        }
    }

    /// Logs the first of consecutive failures and then one in 16: every half minute at the usual interval.
    fn log_failure(&self, error: &Error) {
        let fix = if error.is_forbidden() {
            "grant get, list, watch, create and patch on leases to the service account, see k8s/base"
        } else if error.is_not_found() {
            "create the namespace of --service, or run with --leader-elect=false"
        } else {
            ""
        };
        let (lease, namespace, failures) = (self.name.as_str(), self.namespace.as_str(), self.logged.failures);
        if failures % 16 == 1 {
            warn!(lease, namespace, error:% = error, fix, failures; "lease cannot be read or written");
        } else {
            debug!(lease, namespace, error:% = error, failures; "lease cannot be read or written");
        }
    }
}

/// Whether a failure says that what is known of the Lease may be wrong: a refusal, but for one that only puts it off, and an
/// answer that is not about this Lease. A write that is repeated without a look might fail for ever.
fn is_doubt(error: &Error) -> bool {
    let is_refusal = error.status().is_some_and(|status| (400..500).contains(&status.code) && status.code != 429);
    is_refusal || matches!(error, Error::Decode { .. })
}

/// The fields of a Lease that are read, leniently: what another program wrote there must not make it unreadable.
#[derive(Deserialize)]
struct WireLease {
    /// Items of a list have none.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ObjectRef,
    #[serde(default)]
    spec: WireSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireSpec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<i64>,
    lease_transitions: Option<i64>,
}

impl HasMeta for WireLease {
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl WireLease {
    fn seen(self, timing: Timing) -> Seen {
        let seconds = self.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Seen {
            holder: self.spec.holder_identity.unwrap_or_default(),
            // A holder without a valid duration gets the one that we would ask for.
            duration: seconds.filter(|seconds| *seconds > 0).map_or(timing.lease_duration, Duration::from_secs),
            transitions: self.spec.lease_transitions.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            resource_version: self.metadata.resource_version,
        }
    }
}

fn read(body: &[u8], timing: Timing) -> Result<Seen, Error> {
    let lease: WireLease = serde_json::from_slice(body).map_err(no_lease)?;
    let (kind, version) = (&lease.kind, lease.resource_version());
    // What a proxy answers in the API server's place may be JSON, too, and would be a Lease that nobody holds.
    if kind != "Lease" || version.is_empty() {
        return Err(no_lease(format!("it is none: kind {kind:?}, resourceVersion {version:?}")));
    }
    Ok(lease.seen(timing))
}

fn no_lease(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Decode { what: "Lease", source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::fake;

    #[test]
    fn a_lease_is_read_whatever_is_missing_from_it() {
        let timing = Timing::default();
        let seen = |spec: &str| {
            let text = format!(r#"{{"kind":"Lease","metadata":{{"name":"l","resourceVersion":"7"}},"spec":{spec}}}"#);
            read(text.as_bytes(), timing).unwrap()
        };
        let full = seen(r#"{"holderIdentity":"a","leaseDurationSeconds":3,"leaseTransitions":2,"renewTime":"x"}"#);
        let expected = Seen {
            holder: "a".to_owned(),
            duration: Duration::from_secs(3),
            transitions: 2,
            resource_version: "7".to_owned(),
        };
        assert_eq!(full, expected);
        for spec in ["{}", r#"{"holderIdentity":null,"leaseDurationSeconds":0,"leaseTransitions":-1}"#] {
            let expected = Seen {
                holder: String::new(),
                duration: timing.lease_duration,
                transitions: 0,
                resource_version: "7".to_owned(),
            };
            assert_eq!(seen(spec), expected, "{spec}");
        }
    }

    /// Competes for a Lease of a server that answers all requests alike.
    fn competing(code: u16, body: &'static str) -> LeaseLoop {
        let timing = Timing::default();
        LeaseLoop {
            client: fake::client(move |_, _| (code, body.to_owned())),
            name: "l".to_owned(),
            namespace: "n".to_owned(),
            identity: "me".to_owned(),
            timing,
            election: Election::new("me".to_owned(), timing),
            fence: Arc::default(),
            ready: Arc::default(),
            inbox: std::sync::mpsc::sync_channel(9).0,
            deposed: Arc::default(),
            logged: Logged::default(),
        }
    }

    /// Regression: what a proxy answered in the API server's place was a Lease without a holder, and a renewal.
    #[test]
    fn what_is_no_lease_of_ours_is_no_renewal() {
        for body in [
            r#"{"message":"maintenance"}"#,
            r#"{"kind":"Status","metadata":{"resourceVersion":"7"},"spec":{"holderIdentity":"me"}}"#,
            r#"{"kind":"Lease","metadata":{},"spec":{"holderIdentity":"me"}}"#,
            r#"{"kind":"Lease","metadata":{"resourceVersion":"7"},"spec":{"holderIdentity":"other"}}"#,
            r#"{"kind":"Lease","metadata":{"resourceVersion":"7"},"spec":{}}"#,
        ] {
            let mut lease = competing(200, body);
            lease.election.read(None, Duration::ZERO);
            let Some(action @ Action::Create) = lease.election.next(Duration::ZERO) else { panic!("{body}") };
            lease.carry_out(action, clock::since_boot());
            assert!(!lease.election.leads() && lease.fence.renewals() == 0, "{body}");
            assert_eq!(lease.election.next(Duration::MAX), Some(Action::Read), "{body}");
        }
        let mut lease = competing(200, r#"{"message":"maintenance"}"#);
        lease.carry_out(Action::Read, clock::since_boot());
        assert_eq!(lease.election.next(Duration::MAX), Some(Action::Read), "it is not free");
        let ours = r#"{"kind":"Lease","metadata":{"resourceVersion":"7"},"spec":{"holderIdentity":"me"}}"#;
        let mut lease = competing(200, ours);
        lease.carry_out(Action::Create, clock::since_boot());
        assert!(lease.election.leads() && lease.fence.renewals() == 1);
    }

    #[test]
    fn who_saw_no_other_holder_was_alone() {
        let ours = r#"{"kind":"Lease","metadata":{"resourceVersion":"7"},"spec":{"holderIdentity":"me"}}"#;
        for (holder, is_alone) in [("me", true), ("", true), ("other", false)] {
            let (inbox, events) = std::sync::mpsc::sync_channel(9);
            let mut lease = LeaseLoop { inbox, ..competing(200, ours) };
            let seen = Seen {
                holder: holder.to_owned(),
                duration: Duration::ZERO,
                transitions: 0,
                resource_version: "6".to_owned(),
            };
            lease.election.read(Some(seen), Duration::ZERO);
            lease.publish();
            lease.carry_out(Action::Create, clock::since_boot());
            lease.publish();
            let Ok(Event::Leading { was_alone }) = events.try_recv() else { panic!("{holder} leads") };
            assert_eq!(was_alone, is_alone, "{holder}");
        }
    }

    /// Regression: a write of a version that the API server never had was refused for ever.
    #[test]
    fn a_write_that_is_refused_is_followed_by_a_read() {
        let ours = Seen {
            holder: "me".to_owned(),
            duration: Duration::from_secs(15),
            transitions: 0,
            resource_version: "7".to_owned(),
        };
        for (code, is_read) in [(422, true), (403, true), (429, false), (500, false)] {
            let mut lease = competing(code, "");
            lease.election.read(Some(ours.clone()), Duration::ZERO);
            let action = lease.election.next(Duration::MAX).unwrap();
            assert!(matches!(action, Action::Write { .. }), "{action:?}");
            lease.carry_out(action, clock::since_boot());
            assert_eq!(lease.election.next(Duration::MAX) == Some(Action::Read), is_read, "{code}");
        }
    }
}
