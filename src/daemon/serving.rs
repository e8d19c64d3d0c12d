//! The two ports and their gates.

use std::net::TcpListener;
use std::sync::Arc;

use crate::http::Handler;
use crate::http::gate::{FromMemory, Gate, GateConfig};
use crate::http::tls::TlsState;

/// Connections of one port. The front proxy needs 5 + HPA workers + users per kube-apiserver.
const CONNECTIONS_MAX: usize = 1024;
/// Threads of the API's port that answer from memory; whoever is served over TLS keeps one core busy.
const WORKERS: usize = 3;
/// The plain port answers probes, and a page that is made already.
const PLAIN_WORKERS: usize = 1;
/// Requests that may have to ask the API server first, or wait for a first sample; the HPA controller has five at once.
pub(super) const PATIENT_WORKERS: usize = 8;

/// Opens a port.
///
/// # Errors
/// Names the flag and the address.
pub(super) fn listen(flag: &str, address: std::net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("{flag} {address}: {error}"))
}

/// Starts a gate. What `from_memory` does not answer is for `patient_workers`.
///
/// # Errors
/// When its threads or sockets cannot be made.
pub(super) fn gate(
    name: &str,
    listener: TcpListener,
    tls: Option<Arc<TlsState>>,
    patient_workers: usize,
    (from_memory, handler): (FromMemory, Handler),
) -> Result<Gate, String> {
    Gate::start(GateConfig {
        name: name.to_owned(),
        listener,
        workers: if tls.is_some() { WORKERS } else { PLAIN_WORKERS },
        tls,
        patient_workers,
        from_memory: Some(from_memory),
        max_connections: CONNECTIONS_MAX,
        handler,
    })
    .map_err(|error| format!("{name}: {error}"))
}
