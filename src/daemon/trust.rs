//! Trust in both directions: which clients the TLS port authenticates, and which CAs the APIServices trust for ours.
//!
//! Owns the `trust` thread, which watches `kube-system/extension-apiserver-authentication` and the APIServices, and
//! renews the certificates. Only the instance that holds the Lease writes the caBundle.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use log::{error, info, warn};
use rustls::pki_types::UnixTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::certificates::Certificates;
use super::fence::{FIELD_MANAGER, Fence};
use crate::config::Config;
use crate::encode::base64_encode;
use crate::http::api::Readiness;
use crate::http::chain::ChainVerifier;
use crate::http::front_proxy::{CLIENT_CA_KEY, FrontProxyTrust};
use crate::http::rotation;
use crate::http::tls::TlsState;
use crate::kube::client::Client;
use crate::kube::error::Error;
use crate::kube::request::PatchKind;
use crate::kube::resources::{API_SERVICES, CONFIG_MAPS, CUSTOM_METRICS};
use crate::kube::watch::{HasMeta, ObjectRef};
use crate::kube::watcher::{Watch, Watcher};
use crate::scaling::event::{UnreadableObject, WatchEvent};

const CONFIG_MAP: (&str, &str) = ("kube-system", "extension-apiserver-authentication");
/// Retry interval after a failed write: a fresh installation works soon after its rights are granted.
const LOOK_EAGERLY: Duration = Duration::from_millis(500);
/// A warning about a lasting problem is repeated this often.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How often the CA and client certificate files for the API server are re-read: the kubelet delivers a new CA about a
/// minute after it was published, long before the old one is withdrawn.
const REREAD_EVERY: Duration = Duration::from_secs(60);
/// Attempts at one write of the caBundle while others write to the APIService.
const TRIES: usize = 5;
/// The CA of another instance stays in the bundle this long: its `--drain` is over by then.
const FOREIGN_KEPT: Duration = Duration::from_secs(600);

/// Upper bound on foreign CAs in the bundle, latest first. A certificate takes about a kilobyte there.
const FOREIGN_MAX: usize = 8;

enum TrustMessage {
    /// `None`: there is none.
    ConfigMap(Option<BTreeMap<String, String>>),
    /// By its place among those that are kept.
    ApiService(usize, Option<ApiServiceSpec>),
    /// This instance holds the Lease from now on.
    Leading,
    Stop,
}

/// The running thread.
pub(super) struct Trust {
    messages: Sender<TrustMessage>,
}

impl Trust {
    pub(super) fn start(
        client: &Client,
        config: &Config,
        certificates: Certificates,
        fence: Arc<Fence>,
        ready: Arc<Readiness>,
    ) -> std::io::Result<(Self, Vec<Watcher>)> {
        let (messages, received) = channel();
        let config_map = Watch::one("trust", CONFIG_MAPS, Some(CONFIG_MAP.0), CONFIG_MAP.1);
        let mut watchers = vec![watch::<ConfigMap>(client, config_map, &messages, |map| {
            TrustMessage::ConfigMap(map.map(|map| map.data.unwrap_or_default()))
        })?];
        let custom = if config.custom_metrics { &CUSTOM_METRICS[..] } else { &[] };
        let names = std::iter::once(config.apiservice.as_str()).chain(custom.iter().copied());
        let apiservices: Vec<Kept> = names.map(Kept::new).collect();
        for (at, kept) in apiservices.iter().enumerate() {
            let apiservice = Watch::one("apiservice", API_SERVICES, None, &kept.name);
            watchers.push(watch::<ApiService>(client, apiservice, &messages, move |found| {
                TrustMessage::ApiService(at, found.map(|found| found.spec))
            })?);
        }
        let trust_loop = TrustLoop {
            client: client.clone(),
            apiservices,
            service: config.service.clone(),
            tls: Arc::clone(&certificates.tls),
            certificates,
            fence,
            is_shadow: config.is_shadow,
            ready,
            trusted_data: None,
            front_proxy: None,
            users: None,
            reread_at: Instant::now(),
            logged: BTreeMap::new(),
        };
        std::thread::Builder::new().name("trust".to_owned()).spawn(move || trust_loop.run(&received))?;
        Ok((Self { messages }, watchers))
    }

    /// This instance holds the Lease from now on, and so writes the caBundle.
    pub(super) fn lead(&self) {
        let _ = self.messages.send(TrustMessage::Leading);
    }

    pub(super) fn stop(&self) {
        // It may be in the middle of a request; nothing waits for its end.
        let _ = self.messages.send(TrustMessage::Stop);
    }
}

/// Watches one object. Its absence is reported once a list has shown it.
fn watch<T>(
    client: &Client,
    watch: Watch<'_>,
    messages: &Sender<TrustMessage>,
    message: impl Fn(Option<T>) -> TrustMessage + Clone + Send + 'static,
) -> std::io::Result<Watcher>
where
    T: DeserializeOwned + HasMeta + 'static,
{
    let messages = messages.clone();
    let mut listed = false;
    Watcher::spawn::<T, _>(client, watch, move |event| {
        let seen = match event {
            WatchEvent::ListStart { .. } => {
                listed = false;
                return ControlFlow::Continue(());
            }
            WatchEvent::ListFailed { .. } | WatchEvent::Interrupted { .. } | WatchEvent::Resumed { .. } => {
                return ControlFlow::Continue(());
            }
            WatchEvent::ListEnd { .. } if listed => return ControlFlow::Continue(()),
            WatchEvent::ListEnd { .. } | WatchEvent::Deleted { .. } => None,
            WatchEvent::Listed(object) | WatchEvent::Changed(object) => {
                listed = true;
                Some(object)
            }
            WatchEvent::Unreadable(UnreadableObject { name, error, .. }) => {
                listed = true;
                warn!(name, error; "object cannot be read, ignored");
                return ControlFlow::Continue(());
            }
        };
        match messages.send(message(seen)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })
}

/// Whether the APIService trusts our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bundle {
    /// Not seen yet, or not written yet.
    Unknown,
    /// The caBundle has had all our CAs since then.
    Kept(Instant),
    /// There is no APIService, it routes to another service, our certificate is managed elsewhere, or we are a shadow.
    NotOurs,
}

/// One APIService, the first of which is that of external metrics.
struct Kept {
    name: String,
    /// The spec as last seen; the inner `None` means that the APIService does not exist.
    found: Option<Option<ApiServiceSpec>>,
    /// CAs of other instances, and when each was first seen.
    foreign: Vec<(String, Instant)>,
    bundle: Bundle,
}

impl Kept {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), found: None, foreign: Vec::new(), bundle: Bundle::Unknown }
    }
}

struct TrustLoop {
    client: Client,
    apiservices: Vec<Kept>,
    service: (String, String),
    certificates: Certificates,
    tls: Arc<TlsState>,
    fence: Arc<Fence>,
    is_shadow: bool,
    ready: Arc<Readiness>,
    trusted_data: Option<BTreeMap<String, String>>,
    front_proxy: Option<Arc<FrontProxyTrust>>,
    /// The CA of the client certificates of the cluster's users.
    users: Option<Arc<ChainVerifier>>,
    reread_at: Instant,
    /// What was logged as a problem, and when.
    logged: BTreeMap<String, Instant>,
}

impl TrustLoop {
    fn run(mut self, messages: &Receiver<TrustMessage>) {
        loop {
            // One that was never seen holds nothing up: its watch may be forbidden.
            let seen = self.apiservices.iter().enumerate().filter(|(at, kept)| *at == 0 || kept.found.is_some());
            let trusted_for = seen.map(|(_, kept)| match kept.bundle {
                Bundle::Unknown => None,
                Bundle::Kept(since) => Some(since.elapsed()),
                Bundle::NotOurs => Some(Duration::MAX),
            });
            // `None` is the least.
            let trusted_for = trusted_for.min().flatten();
            let before = self.certificates.bundle();
            self.certificates.look(trusted_for);
            if self.certificates.bundle() != before {
                self.apiservices.iter_mut().for_each(|kept| kept.bundle = Bundle::Unknown);
            }
            for at in 0..self.apiservices.len() {
                self.keep_bundle(at);
            }
            self.reread_tls();
            self.check_trust();
            let is_open = |kept: &Kept| kept.bundle == Bundle::Unknown && kept.found.is_some();
            let eager = self.apiservices.iter().any(is_open) && self.fence.pass().is_ok();
            match messages.recv_timeout(if eager { LOOK_EAGERLY } else { self.certificates.look_after() }) {
                Ok(TrustMessage::ConfigMap(Some(data))) => self.follow_trust(data),
                Ok(TrustMessage::ConfigMap(None)) => {
                    let (namespace, name) = CONFIG_MAP;
                    self.log_problem(&format!("ConfigMap {namespace}/{name} does not exist: what it last said holds"));
                }
                Ok(TrustMessage::ApiService(at, found)) => self.apiservices[at].found = Some(found),
                Ok(TrustMessage::Leading) | Err(RecvTimeoutError::Timeout) => {}
                Ok(TrustMessage::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Re-reads the API server's CA and our client certificate.
    fn reread_tls(&mut self) {
        if self.reread_at.elapsed() < REREAD_EVERY {
            return;
        }
        self.reread_at = Instant::now();
        match self.client.config().reread_tls() {
            Ok(false) => {}
            Ok(true) => info!("CA or client certificate of the API server renewed"),
            Err(error) => {
                warn!(error:% = error; "CA or client certificate of the API server unusable, keeping the old one")
            }
        }
    }

    /// Updates the front proxy's CA and names; the last valid state stays in force until the next one.
    fn follow_trust(&mut self, data: BTreeMap<String, String>) {
        if self.trusted_data.as_ref() == Some(&data) {
            return;
        }
        match FrontProxyTrust::from_config_map(&data, self.tls.provider()) {
            Ok(trust) => {
                if trust.is_none() {
                    warn!(
                        "the kube-apiserver has no front proxy CA: set --requestheader-client-ca-file, or no metric can be read"
                    );
                }
                self.front_proxy = trust.map(Arc::new);
                self.tls.set_front_proxy(self.front_proxy.clone());
                self.follow_client_ca(&data);
                self.trusted_data = Some(data);
                self.ready.trusted.store(true, Ordering::Release);
                info!("front proxy trust loaded");
            }
            Err(error) => {
                let (namespace, name) = CONFIG_MAP;
                self.log_problem(&format!(
                    "ConfigMap {namespace}/{name} is unusable, what it last said holds: {error}"
                ));
            }
        }
    }

    /// Updates the CA of the users' client certificates; the last valid one stays in force.
    fn follow_client_ca(&mut self, data: &BTreeMap<String, String>) {
        match data.get(CLIENT_CA_KEY).map(|pem| ChainVerifier::from_pem(pem, self.tls.provider())).transpose() {
            Ok(ca) => {
                self.users = ca.map(Arc::new);
                self.tls.set_client_ca(self.users.clone());
            }
            Err(error) => self.log_problem(&format!("client-ca-file of the cluster is unusable: {error}")),
        }
    }

    /// Logs what is wrong with the trust settings in force, for as long as it is.
    fn check_trust(&mut self) {
        let dangers = self.front_proxy.as_ref().map(|trust| dangers(trust, self.users.as_deref(), UnixTime::now()));
        for danger in dangers.into_iter().flatten() {
            self.log_problem(danger);
        }
    }

    /// Makes an APIService trust our CAs, if it routes to us.
    fn keep_bundle(&mut self, at: usize) {
        let Some(ours) = self.certificates.bundle().filter(|_| !self.is_shadow) else {
            self.settle(at, Bundle::NotOurs);
            return;
        };
        let Some(found) = self.apiservices[at].found.clone() else { return };
        let name = self.apiservices[at].name.clone();
        let Some(spec) = found else {
            if at == 0 {
                let message = format!("APIService {name} does not exist, so no HPA can read metrics: apply k8s/base");
                self.log_problem(&message);
            } else if self.apiservices[1..].iter().all(|kept| matches!(kept.found, Some(None))) {
                self.log_problem(
                    "no APIService of custom.metrics.k8s.io exists, so no HPA can read metrics of objects: apply \
                     k8s/overlays/custom-metrics, or with rules k8s/overlays/prometheus-adapter",
                );
            }
            self.settle(at, Bundle::NotOurs);
            return;
        };
        let service = spec.service.clone().unwrap_or_default();
        if (&service.name, &service.namespace) != (&self.service.0, &self.service.1) {
            let message = format!(
                "APIService {name} routes to Service {}/{}, not to ours ({}/{}): it is left alone and no HPA reads metrics from us; \
                 another metrics adapter such as KEDA owns it (hpalite takeover lets it route to us)",
                service.namespace, service.name, self.service.1, self.service.0
            );
            self.log_problem(&message);
            self.settle(at, Bundle::NotOurs);
            return;
        }
        let wanted = base64_encode(self.with_foreign(at, ours, &spec).as_bytes());
        if spec.ca_bundle.as_deref() == Some(wanted.as_str()) && !spec.insecure_skip_tls_verify {
            self.settle(at, Bundle::Kept(Instant::now()));
            return;
        }
        self.apiservices[at].bundle = Bundle::Unknown;
        if self.fence.pass().is_err() {
            // The instance that holds the Lease writes it.
            return;
        }
        match self.write_bundle(&name, &wanted) {
            Ok(spec) => {
                self.apiservices[at].found = Some(Some(spec));
                self.settle(at, Bundle::Kept(Instant::now()));
            }
            Err(error) => {
                self.log_problem(&format!("caBundle of APIService {name} cannot be written: {error}"));
            }
        }
    }

    /// Our CAs, and those of other instances that the bundle has: one that hands over serves on for a while.
    #[expect(clippy::disallowed_methods, reason = "certificates are valid by the wall clock")]
    fn with_foreign(&mut self, at: usize, ours: String, spec: &ApiServiceSpec) -> String {
        let present = spec.ca_bundle.as_deref().and_then(crate::encode::base64_decode).unwrap_or_default();
        let present = rotation::foreign_authorities(&present, &ours, SystemTime::now());
        // A CA that left the bundle counts as new if it returns.
        let foreign = &mut self.apiservices[at].foreign;
        foreign.retain(|(pem, _)| present.contains(pem));
        for pem in present {
            if !foreign.iter().any(|(known, _)| *known == pem) {
                foreign.push((pem, Instant::now()));
            }
        }
        let fresh = foreign.iter().filter(|(_, since)| since.elapsed() < FOREIGN_KEPT);
        fresh.take(FOREIGN_MAX).fold(ours, |bundle, (pem, _)| bundle + pem)
    }

    fn settle(&mut self, at: usize, bundle: Bundle) {
        let kept = &mut self.apiservices[at];
        let was = std::mem::replace(&mut kept.bundle, bundle);
        match (was, bundle) {
            (Bundle::Kept(since), Bundle::Kept(_)) => kept.bundle = Bundle::Kept(since),
            (_, Bundle::Kept(_)) => info!(apiservice = kept.name; "APIService trusts our certificate"),
            _ => {}
        }
        if at == 0 {
            self.ready.certified.store(true, Ordering::Release);
        }
    }

    fn write_bundle(&self, name: &str, bundle: &str) -> Result<ApiServiceSpec, Error> {
        let body = json!({
            "apiVersion": API_SERVICES.api_version(),
            "kind": "APIService",
            "metadata": { "name": name },
            "spec": { "caBundle": bundle, "insecureSkipTLSVerify": false },
        });
        let kind = PatchKind::Apply { field_manager: FIELD_MANAGER, force: true };
        let request = API_SERVICES.patch(None, name, kind, body.to_string().into_bytes())?;
        let mut tries = 1;
        let body = loop {
            match self.client.send_within(&request, self.fence.pass()?) {
                Err(error) if error.is_conflict() && tries < TRIES => tries += 1,
                result => break result?,
            }
        };
        let written: ApiService = serde_json::from_slice(&body)
            .map_err(|source| Error::Decode { what: "APIService", source: Box::new(source) })?;
        Ok(written.spec)
    }

    fn log_problem(&mut self, message: &str) {
        self.logged.retain(|_, at| at.elapsed() < LOG_AGAIN_AFTER);
        if !self.logged.contains_key(message) {
            self.logged.insert(message.to_owned(), Instant::now());
            error!("{message}");
        }
    }
}

/// Returns what makes readable settings for the front proxy unsafe or useless. If any name is allowed and users have
/// certificates of the same CA, claims are still accepted: Kubernetes' own servers do so, and without the front proxy
/// the APIService would fail and block the deletion of every namespace, which is worse than letting a holder of a
/// client certificate read metrics.
fn dangers(trust: &FrontProxyTrust, users: Option<&ChainVerifier>, now: UnixTime) -> Vec<&'static str> {
    let is_shared = users.is_some_and(|users| trust.authorities().shares_authority(users));
    let mut found = Vec::new();
    if trust.accepts_any_name() && is_shared {
        found.push(
            "every client certificate of this cluster can claim any identity: set --requestheader-allowed-names on the \
             kube-apiserver, or a --requestheader-client-ca-file that signs nothing but front proxies",
        );
    }
    if trust.authorities().is_expired(now) {
        found.push(
            "requestheader-client-ca-file holds no CA within its validity, so the kube-apiserver is not believed and no \
             metric can be read: renew --requestheader-client-ca-file of the kube-apiserver",
        );
    }
    found
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    metadata: ObjectRef,
    data: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct ApiService {
    #[serde(default)]
    metadata: ObjectRef,
    #[serde(default)]
    spec: ApiServiceSpec,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ApiServiceSpec {
    service: Option<ServiceReference>,
    ca_bundle: Option<String>,
    #[serde(rename = "insecureSkipTLSVerify")]
    insecure_skip_tls_verify: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct ServiceReference {
    name: String,
    namespace: String,
}

impl HasMeta for ConfigMap {
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl HasMeta for ApiService {
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tls;
    use std::time::SystemTime;

    fn ca(expired: bool) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        if expired {
            params.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    /// Returns the beginnings of the warnings about this ConfigMap.
    fn found(names: &str, proxies: &str, users: &str) -> Vec<&'static str> {
        let data = BTreeMap::from([
            ("requestheader-client-ca-file".to_owned(), proxies.to_owned()),
            ("requestheader-allowed-names".to_owned(), names.to_owned()),
            ("requestheader-username-headers".to_owned(), r#"["X-Remote-User"]"#.to_owned()),
        ]);
        let trust = FrontProxyTrust::from_config_map(&data, &tls::provider()).unwrap().unwrap();
        let users = ChainVerifier::from_pem(users, &tls::provider()).unwrap();
        dangers(&trust, Some(&users), UnixTime::now()).iter().map(|danger| &danger[..24]).collect()
    }

    #[test]
    fn unsafe_settings_are_found_however_they_are_written() {
        let (ours, other, expired) = (ca(false), ca(false), ca(true));
        let shared = ["every client certificate"];
        assert_eq!(found("[]", &ours, &ours), shared);
        assert_eq!(found("", &format!("\n{ours}\n"), &ours.replace('\n', "\r\n")), shared);
        assert_eq!(found("[]", &ours, &format!("# first another\n{other}{ours}")), shared);
        assert!(found(r#"["front-proxy-client"]"#, &ours, &ours).is_empty());
        assert!(found("[]", &ours, &other).is_empty());
        assert_eq!(found(r#"["a"]"#, &expired, &other), ["requestheader-client-ca-"]);
        assert!(found(r#"["a"]"#, &format!("{expired}{ours}"), &other).is_empty());
    }
}
