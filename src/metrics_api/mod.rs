//! Queries any HTTP API for a number: the metrics-api trigger.
//!
//! Pure: [`request`] (what to send) and [`answer`] (parses the response with [`crate::formats`]). Shell: [`service`]
//! (every endpoint of a Service). Connections, credentials and threads are those of [`crate::polling`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod request;
pub mod resource;
pub mod service;
