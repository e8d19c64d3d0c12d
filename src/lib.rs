//! hpalite: Prometheus-driven autoscaling for Kubernetes.

pub mod scaling;
pub mod store;
