//! Asking Prometheus: from a poll job to its answer.
//!
//! Pure: [`query`] (what to send), [`answer`] (what came back), [`env`] (a container's variables),
//! [`proxy`] (who is asked through whom), [`fault`] (errors in words). Shell: [`transport`] (HTTP and
//! TLS), [`credentials`] (authentication parameters, fetched through a trait), [`poller`] (threads).
//!
//! Nothing here knows ScaledObjects, schedules or policies for missing values.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub(crate) mod auth;
mod cache;
mod connector;
pub mod credentials;
pub(crate) mod encode;
pub mod env;
pub mod fault;
pub mod poller;
pub mod proxy;
pub mod query;
pub mod tls;
pub mod transport;
mod wire;

use std::collections::BTreeMap;

use crate::scaling::event::{ErrorClass, PollError};

/// Authentication parameters by the name they have in a TriggerAuthentication. Secrets: never logged.
pub type Parameters = BTreeMap<String, String>;

pub(crate) fn failed(class: ErrorClass, message: impl Into<String>) -> PollError {
    PollError { class, message: message.into() }
}
