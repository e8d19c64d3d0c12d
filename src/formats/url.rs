//! URLs of http and https as people write them: one reader for triggers of every type and for kubeconfigs.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use ureq::http::Uri;

use crate::encode::{base64_encode, escape, percent_decode};

/// The parts of an absolute URL, of http or https if nothing else is said.
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
    /// Takes a URL apart. A fragment is dropped, since no server sees it.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the text. Quotes nothing of the text, which may
    /// hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_of(&["http", "https"], text)
    }

    /// As [`Self::parse`], for a URL with one of these schemes.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_of(schemes: &[&str], text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("is not a URL".to_owned());
        };
        if !schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(format!("is not an {} URL", schemes.join(" or ")));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("contains a blank".to_owned());
        }
        if rest.is_empty() || rest.starts_with(['/', '?', '#']) {
            return Err("has no host".to_owned());
        }
        let uri: Uri = ascii(text).parse().map_err(|error| format!("is not a URL: {error}"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, host_port) = authority.rsplit_once('@').map_or((None, authority), |(user, rest)| (Some(user), rest));
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        if let Some(address) = host.strip_prefix('[') {
            if address.trim_end_matches(']').parse::<Ipv6Addr>().is_err() {
                return Err("has no IPv6 address between its brackets".to_owned());
            }
        } else if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err("has a host with a character that no host name has".to_owned());
        }
        // The library takes a port that it cannot read for none.
        let port = uri.port_u16().filter(|port| *port != 0);
        if port.is_none() && host_port != host {
            return Err("has no valid port".to_owned());
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// As [`Self::parse`], for a URL that a path is added to.
    ///
    /// # Errors
    /// As [`Self::parse`], and when no path can follow.
    pub fn parse_base(text: &str) -> Result<Self, String> {
        if text.contains(['?', '#']) {
            return Err("contains a query or a fragment, after which no path can follow".to_owned());
        }
        Self::parse(text)
    }

    /// `scheme://host:port`
    #[must_use]
    pub fn server(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.scheme, self.host)
    }

    /// The user information as an `Authorization` header has it.
    #[must_use]
    pub fn basic_credentials(&self) -> Option<String> {
        let user = self.user.as_deref()?;
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let bytes = [percent_decode(name), percent_decode(password)].join(&b':');
        Some(format!("Basic {}", base64_encode(&bytes)))
    }
}

/// Percent-encodes what is not ASCII. URLs are read for every poll, and nearly all are ASCII.
fn ascii(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if c.is_ascii() { c.to_string() } else { escape(c.encode_utf8(&mut [0; 4])) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = Url::parse("HTTP://u:p%40@[::1]:8080/a/ü?b=ö#c").unwrap();
        assert_eq!((url.server().as_str(), url.path.as_str()), ("http://[::1]:8080", "/a/%C3%BC"));
        assert_eq!((url.query.as_deref(), url.user.as_deref()), (Some("b=%C3%B6"), Some("u:p%40")));
        assert_eq!(url.basic_credentials().as_deref(), Some("Basic dTpwQA=="));
        let url = Url::parse("http://a?b").unwrap();
        assert_eq!((url.path.as_str(), url.query.as_deref(), url.basic_credentials()), ("/", Some("b"), None));
    }

    #[test]
    fn what_can_be_asked_and_what_is_wrong() {
        for text in [
            "http://prometheus:9090",
            "HTTPS://prometheus.monitoring.svc.cluster.local",
            "https://thanos.example.com/prefix/",
            "http://10.0.0.1:9090/",
            "http://[::1]:9090",
            "http://[::1]",
            "http://user:pass@host:80",
            "http://my_host",
        ] {
            assert!(Url::parse(text).is_ok(), "{text}");
        }
        for (text, reason) in [
            ("", "is not a URL"),
            ("prometheus:9090", "is not a URL"),
            ("__PROMETHEUS__", "is not a URL"),
            ("ftp://prometheus", "is not an http or https URL"),
            ("http://", "has no host"),
            ("http://:9090", "has no host"),
            ("http:///path", "has no host"),
            ("http://user:secret@", "is not a URL: invalid authority"),
            ("http://prometheus:port", "has no valid port"),
            ("http://prometheus:", "has no valid port"),
            ("http://prometheus:0", "has no valid port"),
            ("http://prometheus:99999", "has no valid port"),
            ("http://[::1]:99999", "has no valid port"),
            ("http://prome theus", "contains a blank"),
            ("http://prometheus/a\r\nb", "contains a blank"),
            ("http://[::1", "is not a URL: invalid authority"),
            ("http://[x]", "has no IPv6 address between its brackets"),
            ("http://{{host}}", "is not a URL: invalid uri character"),
            ("http://hoßt", "is not a URL: invalid authority"),
            ("http://a!b", "has a host with a character that no host name has"),
        ] {
            assert_eq!(Url::parse(text), Err(reason.to_owned()), "{text}");
        }
        for text in ["http://a/?b", "http://a#b"] {
            assert_eq!(
                Url::parse_base(text).unwrap_err(),
                "contains a query or a fragment, after which no path can follow"
            );
        }
    }
}
