//! Parses http and https URLs as users write them in triggers.

use crate::encode::escape;

/// The parts of an absolute http(s) URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// In lower case.
    pub scheme: String,
    /// `name:password`, percent-encoded.
    pub user: Option<String>,
    /// Name or address, with brackets if it was written with them.
    pub host: String,
    pub port: Option<u16>,
    /// Begins with a slash.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
}

impl Url {
    /// Parses a URL; returns `None` if it cannot be queried.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, host_port) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host_port)| (Some(user), host_port));
        let after_bracket = host_port.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match host_port[after_bracket..].rfind(':') {
            Some(at) => (&host_port[..after_bracket + at], Some(host_port[after_bracket + at + 1..].parse().ok()?)),
            None => (host_port, None),
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let is_usable = ["http", "https"].contains(&scheme.as_str())
            && !host.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        is_usable.then(|| Self {
            scheme,
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: if path.is_empty() { "/".to_owned() } else { ascii(path) },
            query: query.map(ascii),
        })
    }

    /// Returns `scheme://host:port`.
    #[must_use]
    pub fn server(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.scheme, self.host)
    }
}

fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            out.push_str(&escape(c.encode_utf8(&mut [0; 4])));
        }
    }
    out
}
