//! What most rows need: a ScaledObject with a value, and users who may and may not read it.

use std::sync::{Arc, Mutex, OnceLock};

use serde_json::json;

use super::door::{Answer, Door, authority, holder};
use crate::e2e::case::{Case, Source};
use crate::e2e::daemon;
use crate::gate::support::{Authority, Holder};
use crate::support::cluster::{Cluster, Daemon, service_account_kubeconfig, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

pub(super) const GV: &str = "/apis/external.metrics.k8s.io/v1beta1";

pub(super) struct Scene<'a> {
    pub(super) case: Case<'a>,
    /// Answers as long as the scene exists.
    _source: Source,
    pub(super) door: Door,
    /// The kube-apiserver's client certificate for aggregated servers.
    pub(super) front: Holder,
    pub(super) front_ca: Authority,
    pub(super) client_ca: Authority,
}

/// A scene on the shared control plane, with a value of 5 that no test changes.
pub(super) fn scene() -> &'static Scene<'static> {
    static SCENE: OnceLock<Scene<'static>> = OnceLock::new();
    SCENE.get_or_init(|| {
        let (cluster, daemon) = daemon();
        Scene::within(cluster, daemon, "conformance")
    })
}

impl<'a> Scene<'a> {
    /// `alice` and the ServiceAccount `reader` may list `s0-prometheus`, and nothing else.
    pub(super) fn within(cluster: &'a Cluster, daemon: &Daemon, purpose: &str) -> Self {
        let case = Case::within(cluster, purpose);
        let namespace = &case.namespace;
        cluster.deployment(namespace, "api", 1);
        let group = "rbac.authorization.k8s.io";
        for manifest in [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "reader", "namespace": namespace } }),
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "other", "namespace": namespace } }),
            json!({
                "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": { "name": "reader", "namespace": namespace },
                "rules": [{ "apiGroups": ["external.metrics.k8s.io"], "resources": ["s0-prometheus"], "verbs": ["list"] }],
            }),
            json!({
                "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
                "metadata": { "name": "reader", "namespace": namespace },
                "roleRef": { "apiGroup": group, "kind": "Role", "name": "reader" },
                "subjects": [
                    { "kind": "User", "apiGroup": group, "name": "alice" },
                    { "kind": "ServiceAccount", "name": "reader", "namespace": namespace },
                ],
            }),
        ] {
            case.apply(manifest);
        }
        let source = Source::new(5.0);
        case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
        case.wait_until_ready();
        let door = Door::of(cluster, daemon);
        let scene = Self {
            front: holder(cluster, "front-proxy-client"),
            front_ca: authority(cluster, "front-proxy-ca"),
            client_ca: authority(cluster, "ca"),
            case,
            _source: source,
            door,
        };
        wait_seeing("the first value", || match scene.as_master(&scene.metric()) {
            answer if answer.code == 200 => Ok(()),
            answer => Err(answer.body),
        });
        scene
    }

    /// Row "M": the metric as the HPA controller reads it.
    pub(super) fn metric(&self) -> String {
        format!("{}?labelSelector=scaledobject.keda.sh%2Fname%3Dso", self.bare())
    }

    /// The same without a selector.
    pub(super) fn bare(&self) -> String {
        format!("{GV}/namespaces/{}/s0-prometheus", self.case.namespace)
    }

    /// Sends a request as the kube-apiserver does for a user.
    pub(super) fn proxied(&self, user: &str, target: &str) -> Answer {
        self.door.get(Some(&self.front), target, &[&format!("X-Remote-User: {user}")])
    }

    /// Sends a request as the kube-apiserver does for an administrator, who needs no review.
    pub(super) fn as_master(&self, target: &str) -> Answer {
        self.door.get(Some(&self.front), target, &MASTER)
    }

    /// Returns a token of a ServiceAccount of the namespace, by TokenRequest.
    pub(super) fn token(&self, account: &str) -> String {
        self.case.kubectl(&["create", "token", account]).trim().to_owned()
    }
}

pub(super) const MASTER: [&str; 2] = ["X-Remote-User: root", "X-Remote-Group: system:masters"];

/// How a [`Line`] treats connections.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Open,
    Refusing,
    Silent,
}

/// A daemon's connection to its API server, which a test can cut or silence.
pub(super) struct Line {
    proxy: FakePrometheus,
    mode: Arc<Mutex<Mode>>,
    kubeconfig: tempfile::NamedTempFile,
}

impl Line {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let apiserver = Door::of_apiserver(cluster).address;
        let mode = Arc::new(Mutex::new(Mode::Open));
        let current = Arc::clone(&mode);
        let proxy = FakePrometheus::start(move |_| match *current.lock().unwrap() {
            Mode::Open => Reply::Tunnel(apiserver),
            Mode::Refusing => Reply::status(503, "down"),
            Mode::Silent => Reply::Stall(Vec::new()),
        });
        let mut config: serde_json::Value = serde_json::from_str(&service_account_kubeconfig(cluster)).unwrap();
        config["clusters"][0]["cluster"]["proxy-url"] = proxy.url().into();
        let kubeconfig = tempfile::NamedTempFile::new_in(&cluster.folder).unwrap();
        std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
        Self { proxy, mode, kubeconfig }
    }

    /// The kubeconfig for the daemon that uses this line.
    pub(super) fn kubeconfig(&self) -> &str {
        self.kubeconfig.path().to_str().unwrap()
    }

    /// Changes the mode, for existing connections as well.
    pub(super) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
        self.proxy.close_connections();
    }
}
