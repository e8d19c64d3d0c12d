//! Queries to a scripted Prometheus on loopback.

mod credentials;
mod hostile;
mod http;
mod memory;
mod metrics_api;
mod poller;
mod reach;
mod real;
mod setup;
mod tls;
