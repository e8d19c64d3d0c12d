//! All integration tests in one binary, for a single link and run.
#![allow(clippy::unwrap_used, reason = "a test may fall")]

mod cli;
mod docs;
mod e2e;
mod formula;
mod gate;
mod k8s;
mod kube;
mod prometheus;
mod store;
mod support;
mod tidy;
mod ui;
mod wire;
