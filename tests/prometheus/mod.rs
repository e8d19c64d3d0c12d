//! Asking Prometheus, against a scripted server on loopback.

mod credentials;
mod http;
mod memory;
mod metrics_api;
mod poller;
mod real;
mod setup;
mod tls;
