//! Queries to a scripted Prometheus on loopback.

mod credentials;
mod grouping;
mod hostile;
mod http;
mod identity;
mod memory;
mod metrics_api;
mod poller;
mod queues;
mod reach;
mod real;
mod setup;
mod stores;
mod tls;
