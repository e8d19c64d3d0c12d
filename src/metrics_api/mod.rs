//! Asking any HTTP API for a number: the metrics-api trigger.
//!
//! Pure: [`request`] (what to send), [`answer`] (what came back), and below it a file for each thing
//! that a `valueLocation` can be: [`path`] (in JSON, as GJSON has it), [`tree`] (in YAML and XML),
//! [`exposition`] (in Prometheus' text format). Shell: [`service`] (every endpoint of a Service).
//! Connections, credentials and threads are those of [`crate::prometheus`].
//!
//! What an API answers is never trusted: bounded in size and depth, and no bytes break it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod exposition;
pub mod path;
pub mod request;
pub mod service;
pub mod tree;
pub mod xml;
