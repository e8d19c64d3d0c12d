//! hpalite: Prometheus-driven autoscaling for Kubernetes.

pub mod http;
pub mod kube;
pub mod prometheus;
pub mod scaling;
pub mod wire;
pub mod store;
