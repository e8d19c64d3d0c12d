//! hpalite: Prometheus-driven autoscaling for Kubernetes.

pub mod prometheus;
pub mod scaling;
