//! Queries to a scripted Prometheus on loopback.

pub(crate) mod credentials;
mod forward;
mod grouping;
mod hostile;
mod http;
mod identity;
mod memory;
mod metrics_api;
mod pods;
pub(crate) mod poller;
pub(crate) mod queues;
mod reach;
mod real;
mod setup;
mod stores;
pub(crate) mod tls;
