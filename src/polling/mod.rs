//! The polling engine: from a poll job to its answer, whatever kind of server gives it.
//!
//! Pure: [`request`] (what is sent), `exchange` (HTTP as bytes), `redirect` (where a request goes next), [`env`] (a
//! container's variables), [`proxy`] (who is asked through whom), [`fault`] (errors in words). Shell: [`transport`] (the
//! way in), `engine` (the thread that drives all requests), `link` (one connection), `proxied` (requests through a proxy),
//! `stream` (connections for other protocols than HTTP),
//! [`credentials`] (authentication parameters, fetched through a trait), [`poller`] (polls under way), [`crate::permit`] (large
//! answers one at a time). [`crate::prometheus`] and [`crate::metrics_api`] know what to ask and how to read the answer.
//!
//! Nothing here knows ScaledObjects, schedules or policies for missing values.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub(crate) mod auth;
pub(crate) mod cache;
pub mod credentials;
mod engine;
pub mod env;
mod exchange;
pub mod fault;
mod link;
pub mod poller;
mod proxied;
pub mod proxy;
mod redirect;
pub mod request;
pub(crate) mod stream;
pub mod tls;
pub mod transport;

use std::collections::BTreeMap;

use crate::scaling::event::{ErrorClass, PollError};

/// Authentication parameters by the name they have in a TriggerAuthentication. Secrets: never logged.
pub type Parameters = BTreeMap<String, String>;

pub(crate) fn failed(class: ErrorClass, message: impl Into<String>) -> PollError {
    PollError::new(class, message)
}
