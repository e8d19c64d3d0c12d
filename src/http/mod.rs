//! HTTP serving: the types of every handler, and the modules that serve them.
//!
//! A handler is a function from [`Request`] to [`Response`]. It never sees a socket, a TLS session or a type of a
//! server crate, so that the server in front of it (`gate`) can be replaced without changing a handler. This file must
//! hold no I/O.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attributes;
pub mod authn;
pub mod authz;
pub mod certificates;
pub mod chain;
pub mod der;
pub mod discovery;
pub mod front_proxy;
pub mod gate;
pub mod negotiate;
pub mod review_cache;
pub mod reviews;
pub mod rotation;
#[cfg(test)]
pub(crate) mod testing;
pub mod tiny;
pub mod tls;
pub mod uri;

pub mod api;
pub mod custom_metrics;
pub mod external_metrics;
pub mod others;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use chain::ChainError;
use front_proxy::{HeaderFault, Reason};

/// Called by the gate for each request, on a patient worker where there are any. It may block there, but must keep a
/// deadline of its own: about 3 s for a metric read and 10 s for a review.
pub type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;

/// A request that has passed the gate: within the limits, with a well-formed ASCII head. Bodies are not read, since
/// nothing that is served needs one.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// As received; in upper case only, so `get` never reaches a handler.
    pub method: String,
    /// Raw and percent-encoded as received; begins with `/`, without the query.
    pub path: String,
    /// Raw, without the `?`. `Some("")` if nothing follows the `?`.
    pub query: Option<String>,
    /// Without hop-by-hop headers, and without any header that could claim an identity (see [`Peer`]).
    pub headers: Vec<(String, String)>,
    pub peer: Peer,
}

impl Request {
    /// Returns the first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All values of this name in the order received, for callers that must not guess which of two is meant.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// What only the gate knows about the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    pub address: SocketAddr,
    pub identity: Identity,
}

/// The identity that the client's certificate proves. Only [`Identity::FrontProxy`] may act for another user.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    /// A plain connection, or TLS without a client certificate.
    None,
    /// The chain is the front proxy's. `user` is whom its identity headers name, and `holder` whom its certificate
    /// names, which counts if the headers name nobody.
    FrontProxy { common_name: Arc<str>, holder: Holder, user: Result<User, HeaderFault> },
    /// A client certificate that is not the front proxy's, and why. The handshake proved possession of its key.
    Certificate { holder: Holder, refusal: Reason },
}

/// The user whom a client certificate names, verified with the CAs of the cluster's users. Computed once for a
/// connection, since the sender of a chain decides how much work it causes.
pub type Holder = Arc<Result<User, HolderError>>;

/// Why a client certificate identifies no user.
#[derive(Debug, Clone, PartialEq)]
pub enum HolderError {
    /// There is no CA to verify the certificate with.
    NoClientCa,
    Chain(ChainError),
    /// A valid certificate without a name.
    NoCommonName,
}

impl fmt::Display for HolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HolderError::NoClientCa => f.write_str("no ca for client certificates is known"),
            HolderError::Chain(error) => error.fmt(f),
            HolderError::NoCommonName => f.write_str("client certificate has no common name"),
        }
    }
}

impl std::error::Error for HolderError {}

/// A certificate chain as received, the end entity first; never empty.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// A user as Kubernetes describes one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// An answer. The gate adds `Content-Length` and `Connection`, so they must not be among the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: Cow<'static, str>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

/// The body of an answer; shared bytes are not copied for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Owned(Vec<u8>),
    Shared(Arc<Vec<u8>>),
    Static(&'static [u8]),
}

impl Body {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Body::Owned(bytes) => bytes,
            Body::Shared(bytes) => bytes,
            Body::Static(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body::Owned(bytes)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body::Owned(text.into_bytes())
    }
}

impl From<Arc<Vec<u8>>> for Body {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        Body::Shared(bytes)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Body::Static(text.as_bytes())
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Body::Static(bytes)
    }
}

/// Without a content type the Kubernetes proxy guesses, and takes JSON for text.
pub const JSON: &str = "application/json";

impl Response {
    pub fn new(status: u16, content_type: impl Into<Cow<'static, str>>, body: impl Into<Body>) -> Response {
        Response { status, content_type: content_type.into(), headers: Vec::new(), body: body.into() }
    }

    pub fn json(status: u16, body: impl Into<Body>) -> Response {
        Response::new(status, JSON, body)
    }

    pub fn text(status: u16, body: impl Into<Body>) -> Response {
        Response::new(status, "text/plain; charset=utf-8", body)
    }

    /// A Kubernetes `Status` of failure, the only form of error that API clients show to their users. It never has
    /// `Retry-After`: the HPA controller's client would sleep for it and block a worker.
    pub fn status(code: u16, reason: &str, message: &str) -> Response {
        // Written field by field to keep the order in which Kubernetes writes them.
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":{},"reason":{},"details":{{}},"code":{code}}}"#,
            serde_json::Value::from(message),
            serde_json::Value::from(reason),
        );
        Response::json(code, body)
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_valid_json_whatever_the_message() {
        let response = Response::status(404, "NotFound", "no \"such\"\nmetric");
        assert_eq!((response.status, response.content_type.as_ref()), (404, JSON));
        let value: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
        assert_eq!(value["kind"], "Status");
        assert_eq!(value["code"], 404);
        assert_eq!(value["message"], "no \"such\"\nmetric");
    }

    #[test]
    fn headers_are_found_without_case_and_in_order() {
        let request = Request {
            method: "GET".into(),
            path: "/".into(),
            query: None,
            headers: vec![("Accept".into(), "a".into()), ("accept".into(), "b".into())],
            peer: Peer { address: "127.0.0.1:1".parse().unwrap(), identity: Identity::None },
        };
        assert_eq!(request.header("ACCEPT"), Some("a"));
        assert_eq!(request.header_values("accept").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(request.header("host"), None);
    }
}
