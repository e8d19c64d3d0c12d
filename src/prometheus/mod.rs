//! Queries Prometheus: [`query`] (what to send) and [`answer`] (parses the response), both pure.
//!
//! [`crate::polling`] sends and schedules. Nothing here depends on ScaledObjects or policies for missing values.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod query;
mod wire;

use crate::polling::request::Request;
use crate::polling::transport::{Reply, Transport};
use crate::scaling::event::Answer;
use crate::scaling::model::PrometheusSource;

/// Sends the request that [`query::build`] made of `source`, and parses the answer, within the source's timeout or the
/// transport's default. Never panics on a server's response.
#[must_use]
pub fn ask(transport: &Transport, request: &Request, source: &PrometheusSource) -> Answer {
    let read = |reply: Reply| answer::parse(&reply.server, reply.status, &reply.body, source.accepts_partial);
    transport.exchange_and_read(request, source.timeout, read).unwrap_or_else(Answer::Failed)
}
