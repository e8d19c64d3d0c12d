//! hpalite: Prometheus-driven autoscaling for Kubernetes.

mod base64;
pub mod check;
pub mod cli;
pub mod daemon;
pub mod http;
pub mod kube;
pub mod logfmt;
pub mod prometheus;
pub mod scaling;
pub mod store;
pub mod telemetry;
pub mod wire;
