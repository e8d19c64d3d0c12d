//! Asking Prometheus: [`query`] (what to send) and [`answer`] (what came back), both pure.
//!
//! [`crate::polling`] sends and schedules. Nothing here knows ScaledObjects or policies for missing values.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod query;
mod wire;

use std::time::Duration;

use crate::polling::request::Request;
use crate::polling::transport::{Reply, Transport};
use crate::scaling::event::Answer;

/// Asks Prometheus and reads the answer within `timeout`, or the transport's default. Never panics on what a server
/// sends.
#[must_use]
pub fn ask(transport: &Transport, request: &Request, timeout: Option<Duration>) -> Answer {
    let read = |reply: Reply| answer::parse(&reply.server, reply.status, &reply.body);
    transport.exchange_and_read(request, timeout, read).unwrap_or_else(Answer::Failed)
}
