//! The two ports and their gates.

use std::net::TcpListener;
use std::sync::Arc;

use crate::http::Handler;
use crate::http::gate::{FromMemory, Gate, GateConfig};
use crate::http::tls::TlsState;

/// Connections per port. The front proxy needs 5 + HPA workers + users for each kube-apiserver.
const CONNECTIONS_MAX: usize = 1024;
/// Threads of the API's port that answer from memory; one client over TLS keeps one core busy.
const WORKERS: usize = 3;
/// Threads of the plain port, which answer probes and the page if it is already rendered.
const PLAIN_WORKERS: usize = 1;
/// Threads for requests that may ask the API server or wait for a first sample; the HPA controller makes five at once.
const PATIENT_WORKERS: usize = 8;

/// Returns how many patient workers there are. Reads of metrics by rules ask a Prometheus, and those that are forwarded
/// ask another adapter; they must not take those of others, so they have as many as may wait.
pub(super) fn patient_workers(has_rules: bool, forwards: bool) -> usize {
    let more = |has: bool, reads_max: usize| if has { reads_max } else { 0 };
    PATIENT_WORKERS + more(has_rules, crate::adapter::READS_MAX) + more(forwards, crate::forward::FORWARDS_MAX)
}

/// Opens a port.
///
/// # Errors
/// A message that names the flag and the address.
pub(super) fn listen(flag: &str, address: std::net::SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("{flag} {address}: {error}"))
}

/// Starts a gate. Requests that `from_memory` does not answer go to `patient_workers` threads.
///
/// # Errors
/// A message if its threads or sockets cannot be created.
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
