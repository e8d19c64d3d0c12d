//! All integration tests in one binary: one link, one run.
#![allow(clippy::unwrap_used)]

mod kube;
mod support;
mod wire;
