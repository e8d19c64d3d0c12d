//! One test binary; every other file below tests/ is a module of it.
#![allow(clippy::unwrap_used)]

mod prometheus;
mod support;
