//! Redirects: the next address, and what is sent there.
//!
//! Pure. The HTTP library does not follow them, since each hop has its own proxy, a form must be sent again, and
//! credentials must not reach another host.

use ureq::http::uri::Authority;
use ureq::http::{HeaderValue, Uri};

use super::failed;
use super::request::{Hop, Method};
use crate::scaling::event::{ErrorClass, PollError};

/// Upper bound on the bytes of a redirect's host and port, since error texts repeat them: a name has at most 253.
const AUTHORITY_MAX: usize = 260;

/// Returns whether a response with this status redirects, if it has a `Location`.
pub(super) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Returns the next hop if the response is a redirect.
///
/// # Errors
/// If its address cannot be requested.
pub(super) fn redirect(hop: &Hop, status: u16, location: Option<&HeaderValue>) -> Result<Option<Hop>, PollError> {
    let Some(location) = location.filter(|_| is_redirect(status)) else { return Ok(None) };
    let server = server_of(&hop.uri);
    let uri = location.to_str().ok().and_then(|location| resolve(&hop.uri, location)).ok_or_else(|| {
        failed(ErrorClass::Response, format!("{server} redirects to an address that cannot be asked"))
    })?;
    let method = if matches!(status, 307 | 308) { hop.method } else { Method::Get };
    let with_secrets = hop.with_secrets && is_same_origin(&hop.uri, &uri);
    Ok(Some(Hop { method, uri, with_secrets }))
}

/// Compares scheme, host and port: another port may belong to another party's server.
fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        (uri.scheme_str().map(str::to_owned), host, uri.port_u16().unwrap_or(usual))
    };
    origin(one) == origin(other)
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else if location.contains("://") {
        return None;
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let is_usable = !authority.host().is_empty() && !authority.as_str().contains('@');
    (is_usable && authority.as_str().len() <= AUTHORITY_MAX).then_some(uri)
}

/// `scheme://host:port` as written.
pub(super) fn server_of(uri: &Uri) -> String {
    let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn locations() {
        let base = uri("https://p:9090/a/api/v1/query?query=x");
        let rows = [
            ("http://q/b", Some("http://q/b")),
            ("//q:1/b?c#d", Some("https://q:1/b?c")),
            ("/b?c=d", Some("https://p:9090/b?c=d")),
            ("other", Some("https://p:9090/a/api/v1/other")),
            ("?y=1", Some("https://p:9090/a/api/v1/query?y=1")),
            ("ftp://q/", None),
            ("http://u:p@q/", None),
            ("http://", None),
        ];
        for (location, expected) in rows {
            assert_eq!(resolve(&base, location), expected.map(uri), "{location}");
        }
        assert!(resolve(&base, &format!("http://{}/", "q".repeat(260))).is_some());
        assert_eq!(resolve(&base, &format!("http://{}/", "q".repeat(261))), None);
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let rows = [
            ("https://p/", "https://P:443/x", true),
            ("http://p:80/a", "http://p/b", true),
            ("https://p/", "https://p:1/x", false),
            ("http://p:9090/", "http://p:9091/", false),
            ("http://p/", "https://p/", false),
            ("https://p/", "http://p/", false),
            ("https://p/", "http://p:443/", false),
            ("https://a.b/", "https://x.a.b/", false),
            ("https://a.b/", "https://b/", false),
        ];
        for (from, to, expected) in rows {
            assert_eq!(is_same_origin(&uri(from), &uri(to)), expected, "{from} {to}");
        }
    }
}
