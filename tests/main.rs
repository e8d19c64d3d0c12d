//! One test binary: modules below.
#![allow(clippy::unwrap_used, reason = "a test may fall")]

mod store;
