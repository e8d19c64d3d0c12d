//! Serving: certificates, trust in the front proxy, the APIService's caBundle, and the two gates.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use log::{error, info, warn};
use serde::Deserialize;
use serde_json::json;

use super::hands::FIELD_MANAGER;
use super::resources::{API_SERVICES, CONFIG_MAPS};
use crate::base64;
use crate::cli::Config;
use crate::http::Handler;
use crate::http::api::Readiness;
use crate::http::authn::Authenticator;
use crate::http::certificates::{OwnCertificates, Renewal, ServiceNames, ServingCertificate};
use crate::http::chain::ChainVerifier;
use crate::http::front_proxy::CLIENT_CA_KEY;
use crate::http::front_proxy::FrontProxyTrust;
use crate::http::gate::{FromMemory, Gate, GateConfig};
use crate::http::tls::{self, TlsState};
use crate::kube::client::Client;
use crate::kube::error::Error;
use crate::kube::request::PatchKind;
use crate::store::Store;

/// Once all is well: how soon a change of the ConfigMap or of the APIService is seen.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Until then, so that a fresh install is served within a second of its APIService.
const LOOK_EAGERLY: Duration = Duration::from_millis(500);
/// A loud complaint is repeated this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Connections of one port. The front proxy needs 5 + HPA workers + users per kube-apiserver.
const CONNECTIONS_MAX: usize = 1024;
const WORKERS: usize = 4;
/// Requests that may have to ask the API server first; the HPA controller has five at once.
const PATIENT_WORKERS: usize = 8;

/// Certificates of the TLS port: given as files, or our own, kept in the database.
pub(super) struct Certificates {
    own: Option<OwnCertificates>,
    pub(super) tls: Arc<TlsState>,
}

const KV: [&str; 4] =
    ["certificate/ca.pem", "certificate/ca.key", "certificate/serving.pem", "certificate/serving.key"];

impl Certificates {
    /// Loads or makes them.
    ///
    /// # Errors
    /// A message that names the file or the step.
    pub(super) fn load(config: &Config, store: &Store) -> Result<Self, String> {
        let provider = tls::provider();
        let (own, serving) = match &config.tls_files {
            Some((certificate, key)) => {
                let serving = ServingCertificate::from_files(certificate, key).map_err(|error| error.to_string())?;
                (None, serving)
            }
            None => {
                let own = own_certificates(&names(config), store)?;
                let serving = own.serving().map_err(|error| error.to_string())?;
                (Some(own), serving)
            }
        };
        let tls = TlsState::new(provider, serving.chain, serving.key).map_err(|error| error.to_string())?;
        Ok(Self { own, tls: Arc::new(tls) })
    }

    /// What the APIService must trust; `None` for certificates from files, whose issuer is the
    /// administrator's business.
    fn ca_pem(&self) -> Option<&str> {
        self.own.as_ref().map(|own| own.ca_pem.as_str())
    }
}

fn names(config: &Config) -> ServiceNames {
    ServiceNames { service: config.service.0.clone(), namespace: config.service.1.clone() }
}

/// From the database, renewed where they near their end.
fn own_certificates(names: &ServiceNames, store: &Store) -> Result<OwnCertificates, String> {
    let mut values = Vec::new();
    for name in KV {
        // Unreadable is as good as absent: they can be made anew.
        values.push(store.read_kv(name).ok().flatten());
    }
    let now = SystemTime::now();
    let kept = match values.as_slice() {
        [Some(ca_pem), Some(ca_key_pem), Some(serving_pem), Some(serving_key_pem)] => Some(OwnCertificates {
            ca_pem: ca_pem.clone(),
            ca_key_pem: ca_key_pem.clone(),
            serving_pem: serving_pem.clone(),
            serving_key_pem: serving_key_pem.clone(),
        }),
        _ => None,
    };
    let made = match kept {
        Some(kept) => match kept.needs_renewal(names, now) {
            None => return Ok(kept),
            Some(Renewal::Serving) => kept.renew_serving(names, now),
            Some(Renewal::Ca) => OwnCertificates::generate(names, now),
        },
        None => OwnCertificates::generate(names, now),
    }
    .map_err(|error| error.to_string())?;
    info!(service = names.service, namespace = names.namespace; "made a serving certificate");
    for (name, value) in KV.iter().zip([&made.ca_pem, &made.ca_key_pem, &made.serving_pem, &made.serving_key_pem]) {
        if let Err(error) = store.write_kv(name, value) {
            warn!(error:% = error; "certificate not kept, the next start makes another");
        }
    }
    Ok(made)
}

/// Opens a port.
///
/// # Errors
/// Names the flag and the address.
pub(super) fn listen(flag: &str, address: std::net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("{flag} {address}: {error}"))
}

/// Starts a gate.
///
/// # Errors
/// When its threads or sockets cannot be made.
pub(super) fn gate(
    name: &str,
    listener: TcpListener,
    tls: Option<(Arc<TlsState>, FromMemory)>,
    handler: Handler,
) -> Result<Gate, String> {
    let (tls, from_memory) = tls.unzip();
    Gate::start(GateConfig {
        name: name.to_owned(),
        listener,
        tls,
        workers: WORKERS,
        patient_workers: if from_memory.is_some() { PATIENT_WORKERS } else { 0 },
        from_memory,
        max_connections: CONNECTIONS_MAX,
        handler,
    })
    .map_err(|error| format!("{name}: {error}"))
}

/// Follows `kube-system/extension-apiserver-authentication` and keeps the caBundle.
pub(super) struct Trust {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Trust {
    pub(super) fn start(
        client: Client,
        config: &Config,
        certificates: &Certificates,
        authenticator: Arc<Authenticator>,
        ready: Arc<Readiness>,
    ) -> std::io::Result<Self> {
        let keeper = Keeper {
            client,
            apiservice: config.apiservice.clone(),
            service: config.service.clone(),
            ca_pem: certificates.ca_pem().map(str::to_owned),
            tls: Arc::clone(&certificates.tls),
            authenticator,
            trusted_data: None,
            ready,
            complained: None,
            bundle_kept: AtomicBool::new(false),
        };
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("trust".to_owned()).spawn(move || keeper.run(&stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    pub(super) fn stop(&mut self) {
        let _ = self.stop.send(());
        // It may be in the middle of a request; nothing waits for its end.
        self.thread = None;
    }
}

struct Keeper {
    client: Client,
    apiservice: String,
    service: (String, String),
    ca_pem: Option<String>,
    tls: Arc<TlsState>,
    authenticator: Arc<Authenticator>,
    trusted_data: Option<BTreeMap<String, String>>,
    ready: Arc<Readiness>,
    complained: Option<std::time::Instant>,
    bundle_kept: AtomicBool,
}

impl Keeper {
    fn run(mut self, stopped: &Receiver<()>) {
        loop {
            self.follow_trust();
            let kept = self.keep_bundle();
            let was_kept = self.bundle_kept.swap(kept, Ordering::Relaxed);
            if kept && !was_kept {
                info!(apiservice = self.apiservice; "APIService trusts our certificate");
            }
            let settled = kept && self.ready.trusted.load(Ordering::Acquire);
            match stopped.recv_timeout(if settled { LOOK_EVERY } else { LOOK_EAGERLY }) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The last good state stays in force until a better one is read.
    fn follow_trust(&mut self) {
        let data = match self.read_config_map() {
            Ok(data) => data,
            Err(error) => {
                self.complain(&format!("kube-system/extension-apiserver-authentication cannot be read: {error}"));
                return;
            }
        };
        if self.trusted_data.as_ref() == Some(&data) {
            return;
        }
        match FrontProxyTrust::from_config_map(&data, self.tls.provider()) {
            Ok(trust) => {
                if trust.as_ref().is_some_and(FrontProxyTrust::accepts_any_name)
                    && data.get("client-ca-file").is_some_and(|ca| Some(ca) == data.get("requestheader-client-ca-file"))
                {
                    warn!(
                        "every client certificate of this cluster can claim any identity: set --requestheader-allowed-names on the kube-apiserver"
                    );
                }
                if trust.is_none() {
                    warn!(
                        "the kube-apiserver has no front proxy CA: set --requestheader-client-ca-file, or no metric can be read"
                    );
                }
                self.tls.set_front_proxy(trust.map(Arc::new));
                self.follow_client_ca(&data);
                self.trusted_data = Some(data);
                self.ready.trusted.store(true, Ordering::Release);
                info!("front proxy trust loaded");
            }
            Err(error) => {
                self.complain(&format!("kube-system/extension-apiserver-authentication is unusable: {error}"))
            }
        }
    }

    /// Who signs the client certificates of the cluster's users; the last good bundle stays.
    fn follow_client_ca(&mut self, data: &BTreeMap<String, String>) {
        match data.get(CLIENT_CA_KEY).map(|pem| ChainVerifier::from_pem(pem, self.tls.provider())).transpose() {
            Ok(ca) => self.authenticator.set_client_ca(ca.map(Arc::new)),
            Err(error) => self.complain(&format!("client-ca-file of the cluster is unusable: {error}")),
        }
    }

    fn read_config_map(&self) -> Result<BTreeMap<String, String>, Error> {
        let request = CONFIG_MAPS.get(Some("kube-system"), "extension-apiserver-authentication")?;
        let map: ConfigMap = self.client.json(&request)?;
        Ok(map.data)
    }

    /// True when the APIService routes to us and trusts our CA, or when that is not our business.
    fn keep_bundle(&mut self) -> bool {
        let Some(ca_pem) = self.ca_pem.clone() else { return true };
        let found: ApiService =
            match API_SERVICES.get(None, &self.apiservice).map_err(Error::from).and_then(|r| self.client.json(&r)) {
                Ok(found) => found,
                Err(error) => {
                    let name = self.apiservice.clone();
                    self.complain(&format!("APIService {name} cannot be read, so no HPA can read metrics: {error}"));
                    return false;
                }
            };
        let spec = found.spec;
        let service = spec.service.unwrap_or_default();
        if (&service.name, &service.namespace) != (&self.service.0, &self.service.1) {
            let message = format!(
                "APIService {} routes to Service {}/{}, not to ours ({}/{}): it is left alone and no HPA reads metrics from us; \
                 another metrics adapter such as KEDA owns it (point spec.service at us to take it over)",
                self.apiservice, service.namespace, service.name, self.service.1, self.service.0
            );
            self.complain(&message);
            return false;
        }
        let bundle = base64::encode(ca_pem.as_bytes());
        if spec.ca_bundle.as_deref() == Some(bundle.as_str()) && !spec.insecure_skip_tls_verify {
            return true;
        }
        let body = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": { "name": self.apiservice },
            "spec": { "caBundle": bundle, "insecureSkipTLSVerify": false },
        });
        let kind = PatchKind::Apply { field_manager: FIELD_MANAGER, force: true };
        let request = API_SERVICES.patch(None, &self.apiservice, kind, body.to_string().into_bytes());
        match request.map_err(Error::from).and_then(|request| self.client.send(&request)) {
            Ok(_) => true,
            Err(error) => {
                let name = self.apiservice.clone();
                self.complain(&format!("caBundle of APIService {name} cannot be written: {error}"));
                false
            }
        }
    }

    fn complain(&mut self, message: &str) {
        let due = self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY);
        if due {
            self.complained = Some(std::time::Instant::now());
            error!("{message}");
        }
    }
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ApiService {
    #[serde(default)]
    spec: ApiServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ApiServiceSpec {
    service: Option<ServiceReference>,
    ca_bundle: Option<String>,
    #[serde(rename = "insecureSkipTLSVerify")]
    insecure_skip_tls_verify: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServiceReference {
    name: String,
    namespace: String,
}
