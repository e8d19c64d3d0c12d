//! All integration tests in one binary: one link, one run.
#![allow(clippy::unwrap_used)]

mod kube;
mod support;
//! One test binary; every other file below tests/ is a module of it.
mod gate;
mod prometheus;
