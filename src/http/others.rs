//! Reads of external metrics that nobody here gives, which other adapters may have. Who asks them is behind [`Others`].

use std::sync::Arc;

use super::Response;

/// A header, in lower case, of every read that is forwarded, with a number of the process that sent it: what was forwarded
/// once is not forwarded again, and a process knows its own read if it comes back.
pub const FORWARDED: &str = "hpalite-forwarded";

/// Names of external metrics that other adapters list.
pub type Names = Arc<[String]>;

/// Other adapters. Called from several threads.
pub trait Others: Send + Sync {
    /// Asks them, and blocks for two seconds at most. An answer of 404 means that none of them has the metric.
    fn ask(&self, read: &Read<'_>) -> Response;

    /// Returns what they list in discovery, from memory.
    fn listed(&self) -> Names;

    /// Returns whether a read with this mark was sent by this process, so that it would ask itself.
    fn is_own(&self, mark: &str) -> bool;
}

/// A read that has been authorised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<'a> {
    pub namespace: &'a str,
    pub metric: &'a str,
    /// As the client wrote it, and valid; empty for everything.
    pub selector: &'a str,
}

/// The answer to a read that came back to the process that sent it.
pub(super) fn loop_detected() -> Response {
    let message = "this address of --forward-external-metrics leads to hpalite itself: name another adapter's Service";
    Response::status(508, LOOP, message)
}

/// The reason of the [`Status`](Response::status) of a read that came back.
pub const LOOP: &str = "LoopDetected";
