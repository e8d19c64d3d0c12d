//! hpalite: Prometheus-driven autoscaling for Kubernetes.

pub mod check;
pub mod http;
pub mod kube;
pub mod scaling;
pub mod wire;
