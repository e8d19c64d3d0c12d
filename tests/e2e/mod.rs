//! The whole thing against a real API server, HPA controller and Prometheus.

mod compat;
mod compat_more;
mod differences;
mod picture;
mod walkthrough;

use std::sync::OnceLock;

use crate::support::cluster::{Cluster, Daemon, cluster};

/// The daemon that serves the shared control plane; tests only add and remove their own objects.
/// It ends with the test process.
pub(crate) fn daemon() -> (&'static Cluster, &'static Daemon) {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    let cluster = cluster();
    (cluster, DAEMON.get_or_init(|| Daemon::serve(cluster, &[])))
}
