//! Requests for unit tests of handlers.

use super::{Identity, Peer, Request};

/// Returns a request without an identity; `target` may have a query.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query,
        headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        peer: Peer { address: ([127, 0, 0, 1], 1).into(), identity: Identity::None },
    }
}
