//! A valid configuration of the daemon, independent of the command line, which parses it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::kube::election::Timing;
use crate::logfmt::Style as LogStyle;
use crate::outbound::networks::Network;
use crate::scaling::schedule::Limits;
use crate::store::Retention;
use crate::tls::Version as TlsVersion;
use crate::wire::Servers;

/// Where the page is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UiAddress {
    pub address: SocketAddr,
    /// Whether it was given explicitly: a port in use is then an error, while the default one is optional.
    pub given: bool,
}

/// Metrics by the rules of prometheus-adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSettings {
    /// Its configuration file.
    pub config: PathBuf,
    /// The Prometheus that is asked.
    pub server: String,
    /// How often series are listed.
    pub relist_interval: Duration,
    /// Series without a sample for this long need not be listed.
    pub max_age: Duration,
    /// Time limit of a query.
    pub query_timeout: Duration,
}

/// Other adapters, which are asked for external metrics that nobody here gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSettings {
    /// `https://host:port` and a path, if there is one, in the order in which they are asked; none twice.
    pub targets: Vec<String>,
    /// Holds the bearer token that all of them get, and nobody else. `None` sends none.
    pub token_file: Option<PathBuf>,
    /// Whether their certificates may be anybody's.
    pub skips_verification: bool,
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
    /// Records decisions and writes nothing.
    pub is_shadow: bool,
    /// Empty means all.
    pub namespaces: Vec<String>,
    /// A valid label selector: which ScaledObjects are watched, and which HPAs are more than another's.
    pub object_selector: Option<String>,
    /// The same for TriggerAuthentications of both kinds.
    pub authentication_selector: Option<String>,
    pub service: (String, String),
    pub apiservice: String,
    pub tls_files: Option<(PathBuf, PathBuf)>,
    /// The oldest version that clients of the aggregated API may speak.
    pub tls_min: TlsVersion,
    /// The oldest version that metric servers and secret stores may speak.
    pub http_tls_min: TlsVersion,
    /// Whether connections to metric servers are used again.
    pub keep_alive: bool,
    pub log: LogStyle,
    pub poll_threads: usize,
    /// Limits for every metric server.
    pub server_limits: Limits,
    /// Queries that one query can answer are asked as one.
    pub groups_queries: bool,
    /// Prometheus servers named for all triggers.
    pub servers: Servers,
    /// Whether the APIServices of `custom.metrics.k8s.io` are to lead here.
    pub custom_metrics: bool,
    /// `None`: there are no rules.
    pub adapter: Option<AdapterSettings>,
    /// Whether HPAs are remembered that nobody here serves.
    pub explains_all_hpas: bool,
    /// `None`: what nobody here gives is an error.
    pub forward: Option<ForwardSettings>,
    pub query_timeout: Duration,
    pub ca_dirs: Vec<PathBuf>,
    /// Networks that triggers may query although their addresses are refused by default.
    pub allow_networks: Vec<Network>,
    /// Whether identities may come from the metadata service of the instance.
    pub instance_metadata: bool,
    /// Servers besides the providers' own that tokens of the pod's identity may go to.
    pub identity_servers: Vec<String>,
    pub cluster_namespace: Option<String>,
    pub filepath_root: Option<PathBuf>,
    pub drain: Duration,
    /// Whether `/metrics` also has metrics under KEDA's names.
    pub keda_metrics: bool,
    /// Whether triggers may query endpoints of Services in other namespaces.
    pub cross_namespace_services: bool,
    /// `None`: this instance acts without an election.
    pub leader_election: Option<Timing>,
}

impl Config {
    /// Returns the addresses that a daemon with this configuration listens on.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        [self.listen, self.http].into_iter().chain(self.ui.map(|ui| ui.address)).collect()
    }
}
