//! hpalite: Prometheus-driven autoscaling for Kubernetes.

pub mod scaling;
pub mod http;
pub mod kube;
