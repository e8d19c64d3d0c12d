//! Asking any HTTP API for a number: the metrics-api trigger.
//!
//! Pure: [`request`] (what to send), [`answer`] (what came back), and below it a file for each thing
//! that a `valueLocation` can be: [`path`] (in JSON, as GJSON has it), `yaml`, [`xml`], [`exposition`]
//! (in Prometheus' text format). Shell: [`service`] (every endpoint of a Service).
//! Connections, credentials and threads are those of [`crate::prometheus`].
//!
//! What an API answers is never trusted: it is bounded in size and depth, no bytes break it, and no tree is made of
//! it: a value is found where it lies.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod exposition;
mod glob;
pub mod json;
pub mod path;
pub mod request;
pub mod service;
mod tree;
pub mod xml;
mod yaml;
