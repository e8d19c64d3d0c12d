//! All integration tests in one binary: one link, one run.
#![allow(clippy::unwrap_used)]

mod kube;
mod support;
//! One test binary; every other file below tests/ is a module of it.
mod gate;
mod prometheus;
//! One test binary: modules below.
#![allow(clippy::unwrap_used, reason = "a test may fall")]
mod store;
