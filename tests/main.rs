//! All integration tests in one binary, for a single link and run.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may fall, start threads and look at the clock"
)]

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
