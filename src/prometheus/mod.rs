//! Queries Prometheus: [`query`] (what to send) and [`answer`] (parses the response), both pure.
//!
//! [`crate::polling`] sends, and [`crate::scaling::schedule`] says when. Nothing here depends on ScaledObjects or policies for missing values.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
pub mod answer;
pub mod query;
pub mod range;
pub mod split;
pub mod vector;
mod wire;

pub use address::locate;

use std::sync::Arc;
use std::time::Duration;

use crate::polling::request::Request;
use crate::polling::transport::{Reply, Transport};
use crate::scaling::event::{Answer, ErrorClass, Group, Split};
use crate::scaling::model::PrometheusSource;

/// Sends the query of `source`, or that of the `group` that it is in, within the source's timeout or the transport's
/// default. Calls `done` with the answer, and how long an overloaded server asks not to be queried.
/// Never panics on what a server sends.
pub fn ask(
    transport: &Transport,
    request: Request,
    source: Arc<PrometheusSource>,
    group: Option<Arc<Group>>,
    done: impl FnOnce(Answer, Option<Split>, Option<Duration>) + Send + 'static,
) {
    let timeout = source.timeout;
    let is_group = group.is_some();
    let read = move |reply: Reply| {
        let Reply { server, status, body, rest } = &reply;
        let (answer, split) = match &group {
            Some(group) => split::split(server, *status, body, source.accepts_partial, group),
            None => (answer::parse(server, *status, body, source.accepts_partial), None),
        };
        (answer, split, *rest)
    };
    transport.ask(request, timeout, read, move |result| match result {
        Ok((answer, split, rest)) => done(answer, split, rest),
        Err(error) => {
            // A server that cannot be reached fails for every member; a shorter query may be answered in time.
            let is_common = matches!(error.class, ErrorClass::Connect | ErrorClass::Tls);
            done(Answer::Failed(error), (is_group && !is_common).then_some(Split::Singly), None);
        }
    });
}
