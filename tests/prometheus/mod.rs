//! Asking Prometheus, against a scripted server on loopback.

mod credentials;
mod http;
mod metrics_api;
mod poller;
mod real;
mod setup;
mod tls;
