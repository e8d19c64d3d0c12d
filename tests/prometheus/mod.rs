//! Queries to a scripted Prometheus on loopback.

mod credentials;
mod grouping;
mod hostile;
mod http;
mod memory;
mod metrics_api;
mod poller;
mod reach;
mod real;
mod setup;
mod tls;
