//! Queries Prometheus: [`query`] (what to send) and [`answer`] (parses the response), both pure.
//!
//! [`crate::polling`] sends and schedules. Nothing here knows ScaledObjects or policies for missing values.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod query;
mod wire;

use std::sync::Arc;

use crate::polling::request::Request;
use crate::polling::transport::{Reply, Transport};
use crate::scaling::event::Answer;
use crate::scaling::model::PrometheusSource;

/// Asks Prometheus what [`query::build`] made of `source`, and hands over what the answer says, within the source's
/// timeout or the transport's default. Never panics on what a server sends.
pub fn ask(
    transport: &Transport,
    request: Request,
    source: Arc<PrometheusSource>,
    done: impl FnOnce(Answer) + Send + 'static,
) {
    let timeout = source.timeout;
    let read = move |reply: Reply| answer::parse(&reply.server, reply.status, &reply.body, source.accepts_partial);
    transport.ask(request, timeout, read, |result| done(result.unwrap_or_else(Answer::Failed)));
}
