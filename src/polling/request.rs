//! A request to a metric server, as data.
//!
//! Must not print a credential.

use std::fmt;

use ureq::http::{self, Uri, header};

use crate::outbound::MARK;

/// Header names that belong to the connection or its framing, and are ignored as Go's client does. The last is our own.
pub(crate) const IGNORED_HEADERS: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "trailer", "connection", "proxy-connection", MARK];

/// The content type of [`Request::form`] if the headers have none.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    /// Sends [`Request::form`] as its body, as the next does.
    Post,
    Put,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
    /// May be a credential: never printed, and not sent to another origin after a redirect.
    pub secret: bool,
}

/// Prints no value, so that a request can be logged.
impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

/// One request to a metric server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// Without user information, which became a header.
    pub url: String,
    pub headers: Vec<Header>,
    /// Form-encoded, unless the headers say otherwise; only with [`Method::Post`].
    pub form: Option<String>,
    /// The operator chose the server, so that its address is not judged; those that it redirects to are.
    pub trusted: bool,
    /// It goes to this address alone: through no proxy, and a redirect is an answer like any other.
    pub direct: bool,
    pub tls: TlsMaterial,
    /// `scheme://host:port` as written, for error texts.
    pub server: String,
}

impl Request {
    /// A request without headers for this URL of a server that anybody may have named.
    #[must_use]
    pub fn get(url: String, server: String) -> Self {
        Self {
            method: Method::Get,
            url,
            headers: Vec::new(),
            form: None,
            trusted: false,
            direct: false,
            tls: TlsMaterial::default(),
            server,
        }
    }

    pub(crate) fn has_secrets(&self) -> bool {
        self.tls.client.is_some() || self.headers.iter().any(|header| header.secret)
    }
}

/// One step of a request: to the first address, or to that of a redirect.
#[derive(Clone)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Whether the origin is the one that the credentials are for.
    pub(super) with_secrets: bool,
}

impl Hop {
    /// Returns the TLS identity for this hop. A client certificate is presented only to the origin that it is for.
    pub(super) fn identity(&self, request: &Request) -> TlsMaterial {
        let client = request.tls.client.clone().filter(|_| self.with_secrets);
        TlsMaterial { client, unsafe_ssl: request.tls.unsafe_ssl, ca: request.tls.ca.clone() }
    }
}

/// Returns the head and the form of a request for this hop.
///
/// # Errors
/// If they are not valid in HTTP.
pub(super) fn head<'r>(request: &'r Request, hop: &Hop) -> Result<(http::Request<()>, Option<&'r str>), ureq::Error> {
    let mut builder = http::Request::builder().uri(hop.uri.clone()).header(MARK, "1");
    for Header { name, value, secret } in &request.headers {
        if hop.with_secrets || !secret {
            builder = builder.header(name.as_str(), value.as_bytes());
        }
    }
    let form = request.form.as_deref().filter(|_| hop.method != Method::Get);
    if form.is_some() {
        builder = builder.method(if hop.method == Method::Put { http::Method::PUT } else { http::Method::POST });
        if !request.headers.iter().any(|header| header.name.eq_ignore_ascii_case(header::CONTENT_TYPE.as_str())) {
            builder = builder.header(header::CONTENT_TYPE, FORM);
        }
    }
    Ok((builder.body(()).map_err(ureq::Error::Http)?, form))
}

/// PEM texts that a TLS handshake needs beside the system's roots. Connections are shared by requests with equal ones.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsMaterial {
    pub unsafe_ssl: bool,
    pub ca: Option<String>,
    /// Certificate chain and private key.
    pub client: Option<(String, String)>,
}

/// Does not print the key.
impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unsafe_ssl, ca, client } = self;
        write!(f, "TlsMaterial {{ unsafe_ssl: {unsafe_ssl}, ca: {}, client: {} }}", ca.is_some(), client.is_some())
    }
}
