//! The whole thing against a real API server, HPA controller and Prometheus.

mod authentication;
mod case;
mod deletion;
mod hpa;
mod install;
mod lifecycle;
mod pause;
mod restart;
mod takeover;
mod targets;
mod v1;
mod walkthrough;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::support::cluster::{Cluster, Daemon, cluster, path};

/// The daemon that serves the shared control plane; tests only add and remove their own objects.
/// It ends with the test process.
pub(crate) fn daemon() -> (&'static Cluster, &'static Daemon) {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    let cluster = cluster();
    (cluster, DAEMON.get_or_init(|| Daemon::serve(cluster, &[])))
}

/// A second control plane, old CRDs included, for tests whose daemon must be theirs alone: a cluster
/// has one APIService. One test at a time; it starts daemons as it likes.
pub(crate) fn exclusive() -> (&'static Cluster, MutexGuard<'static, ()>) {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = CLUSTER.get_or_init(|| {
        let cluster = Cluster::start(&[]);
        cluster.install();
        cluster.kubectl(&["apply", "--server-side", "-k", &path("k8s/crds/keda-v1")]);
        cluster
    });
    (cluster, turn)
}
