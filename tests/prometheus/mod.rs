//! Asking Prometheus, against a scripted server on loopback.

mod credentials;
mod http;
mod poller;
mod real;
mod setup;
mod tls;
