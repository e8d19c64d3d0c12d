//! What `hpalite doctor` examines. The command line of every system knows it, whether or not it can be examined there.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Config;

/// What to examine.
#[derive(Debug, PartialEq)]
pub struct Subject {
    /// The daemon's configuration as the environment sets it; it names the Service and the APIService.
    pub config: Config,
    /// Examine only ScaledObjects of this namespace.
    pub namespace: Option<String>,
    /// Where the daemon's certificate can be reached from here; `None` in the pod for the port that it listens on.
    pub listen: Option<SocketAddr>,
    /// The file with rules of prometheus-adapter, if the daemon has one.
    pub adapter_config: Option<PathBuf>,
    /// `None` for the default path, if the file exists.
    pub db: Option<PathBuf>,
}
