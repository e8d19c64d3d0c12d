//! A valid configuration of the daemon, whoever read it and from where: the command line does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::kube::election::Timing;
use crate::outbound::networks::Network;
use crate::scaling::schedule::Limits;
use crate::store::Retention;

/// Where the page is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UiAddress {
    pub address: SocketAddr,
    /// Asked for, so that a port in use is an error; the default one is only missed.
    pub given: bool,
}

/// A valid configuration of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub kubeconfig: Option<PathBuf>,
    pub db: PathBuf,
    pub retention: Retention,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub ui: Option<UiAddress>,
    /// Empty means all.
    pub namespaces: Vec<String>,
    pub service: (String, String),
    pub apiservice: String,
    pub tls_files: Option<(PathBuf, PathBuf)>,
    pub poll_threads: usize,
    /// Of every metric server.
    pub server_limits: Limits,
    pub query_timeout: Duration,
    pub ca_dirs: Vec<PathBuf>,
    /// Of the addresses that are refused, those that triggers may ask all the same.
    pub allow_networks: Vec<Network>,
    pub cluster_namespace: Option<String>,
    pub filepath_root: Option<PathBuf>,
    pub drain: Duration,
    /// `/metrics` has KEDA's names too.
    pub keda_metrics: bool,
    /// Endpoints of Services of other namespaces may be asked.
    pub cross_namespace_services: bool,
    /// None: this instance acts whatever others do.
    pub leader_election: Option<Timing>,
}

impl Config {
    /// The addresses that a daemon of this configuration listens on.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        [self.listen, self.http].into_iter().chain(self.ui.map(|ui| ui.address)).collect()
    }
}
