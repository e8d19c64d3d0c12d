//! Annotations of a ClusterTriggerAuthentication that restrict which objects may use it, and for which servers.

use std::borrow::Cow;

use super::source::without_secrets;

/// Namespaces whose ScaledObjects may refer to it: names or patterns, comma-separated.
pub const NAMESPACES: &str = "hpalite.dev/allowed-namespaces";
/// Servers to which its values may be sent, comma-separated: `host`, `host:port`, `scheme://host:port` or patterns.
pub const SERVERS: &str = "hpalite.dev/allowed-servers";

/// `None` allows everything, an empty list nothing. In a pattern `*` stands for any text, even none or with dots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    pub namespaces: Option<Vec<String>>,
    pub servers: Option<Vec<String>>,
}

impl Allowed {
    /// Reads the values of the two annotations.
    #[must_use]
    pub fn read(namespaces: Option<&str>, servers: Option<&str>) -> Self {
        let list = |text: &str| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        Self { namespaces: namespaces.map(list), servers: servers.map(list) }
    }

    /// Returns why a trigger of this namespace, which queries `url` if it queries any, must not use it.
    #[must_use]
    pub fn refusal(&self, namespace: &str, url: Option<&str>) -> Option<String> {
        let any = |list: &[String], is: &dyn Fn(&str) -> bool| list.iter().any(|pattern| is(pattern));
        if let Some(list) = &self.namespaces
            && !any(list, &|pattern| matches(pattern, namespace))
        {
            return Some(format!("its annotation {NAMESPACES} does not name namespace {namespace}"));
        }
        let (Some(list), Some(url)) = (&self.servers, url) else {
            return None;
        };
        let is_named = |url: &str| {
            let server = Server::of(url);
            server.as_ref().is_some_and(|server| any(list, &|pattern| server.is_meant_by(pattern)))
        };
        if servers(url).all(|server| is_named(&server)) {
            return None;
        }
        Some(format!("its annotation {SERVERS} does not name {}", without_secrets(url)))
    }
}

/// Returns whether one of the patterns, which have the form of [`SERVERS`], names the server of this URL.
#[must_use]
pub fn names(patterns: &[String], url: &str) -> bool {
    Server::of(url).is_some_and(|server| patterns.iter().any(|pattern| server.is_meant_by(pattern)))
}

/// Returns the origin of an http or https URL, which is the same however the URL is written and whatever user and path it
/// has: `scheme://host`, and `:port` unless the scheme implies it. Any other text is returned as it is.
#[must_use]
pub fn origin(url: &str) -> Cow<'_, str> {
    match Server::of(url) {
        Some(Server { scheme, host, port }) if scheme == "http" || scheme == "https" => {
            let port = if port == usual_port(&scheme) { String::new() } else { format!(":{port}") };
            Cow::Owned(format!("{scheme}://{host}{port}"))
        }
        _ => Cow::Borrowed(url),
    }
}

/// Returns the URL of each server: those of a protocol without paths and users may be a list.
fn servers(url: &str) -> impl Iterator<Item = String> {
    let list = url.split_once("://").filter(|(scheme, _)| ["kafka", "redis", "rediss"].contains(scheme));
    let one = list.is_none().then(|| url.to_owned());
    let each =
        list.into_iter().flat_map(|(scheme, hosts)| hosts.split(',').map(move |host| format!("{scheme}://{host}")));
    one.into_iter().chain(each)
}

struct Server {
    scheme: String,
    host: String,
    port: String,
}

impl Server {
    fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        // As HTTP clients read it: the part before the last @ is not the host.
        let (host, port) = host_and_port(authority.rsplit('@').next()?);
        let scheme = scheme.to_ascii_lowercase();
        (!host.is_empty()).then(|| Self { host, port: port.unwrap_or_else(|| usual_port(&scheme).to_owned()), scheme })
    }

    fn is_meant_by(&self, pattern: &str) -> bool {
        let (scheme, rest) = pattern.split_once("://").map_or((None, pattern), |(scheme, rest)| (Some(scheme), rest));
        let (host, port) = host_and_port(rest.trim_end_matches('/'));
        scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(&self.scheme))
            && port.is_none_or(|port| port == self.port)
            && matches(&host, &self.host)
    }
}

fn usual_port(scheme: &str) -> &'static str {
    if scheme == "https" { "443" } else { "80" }
}

/// Returns the host in lower case without a final dot, and the port; an IPv6 address keeps its brackets.
fn host_and_port(text: &str) -> (String, Option<String>) {
    let end_of_address = text.find(']').map_or(0, |at| at + 1);
    let (host, port) = match text[end_of_address..].find(':') {
        Some(at) => (&text[..end_of_address + at], Some(text[end_of_address + at + 1..].to_owned())),
        None => (text, None),
    };
    (host.trim_end_matches('.').to_ascii_lowercase(), port.filter(|port| !port.is_empty()))
}

/// Returns whether a pattern with `*` matches the whole text, in at most pattern × text steps.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("shop", "shop", true),
            ("shop", "shop2", false),
            ("*", "", true),
            ("team-*", "team-a", true),
            ("team-*", "a-team-", false),
            ("*-prod", "shop-prod", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXc", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn servers() {
        for (pattern, url, expected) in [
            ("prometheus.monitoring", "http://prometheus.monitoring:9090/x", true),
            ("prometheus.monitoring:9090", "http://Prometheus.Monitoring.:9090", true),
            ("prometheus.monitoring:9090", "http://prometheus.monitoring", false),
            ("https://mimir.example:443", "https://mimir.example/prometheus", true),
            ("https://mimir.example", "http://mimir.example", false),
            ("*.example", "http://a.b.example", true),
            ("*.example", "http://example", false),
            ("good", "http://good@evil/", false),
            ("good", "http://evil#@good", false),
            ("good", "http://evil?@good", false),
            ("good", "http://evil/@good", false),
            ("good", "http://x@y@good", true),
            ("good", "http://good:80@evil", false),
            ("[fd00::1]:9090", "http://[fd00::1]:9090", true),
            ("[fd00::1]", "http://[fd00::2]:9090", false),
            ("good", "good", false),
            ("kafka-*:9092", "kafka://kafka-0:9092,kafka-1:9092", true),
            ("kafka-*:9092", "kafka://kafka-0:9092,evil:9092", false),
            ("kafka-0", "kafka://kafka-0:9092,evil:9092", false),
        ] {
            let allowed = Allowed::read(None, Some(pattern));
            assert_eq!(allowed.refusal("shop", Some(url)).is_none(), expected, "{pattern} {url}");
        }
    }

    #[test]
    fn a_server_has_one_origin_however_it_is_written() {
        for (url, expected) in [
            ("http://prometheus.monitoring:9090", "http://prometheus.monitoring:9090"),
            ("HTTP://u:p@Prometheus.Monitoring.:9090/./a", "http://prometheus.monitoring:9090"),
            ("http://p:80/", "http://p"),
            ("https://p:443?x=/", "https://p"),
            ("https://p:80", "https://p:80"),
            ("http://[fd00::1]:9090/x", "http://[fd00::1]:9090"),
            ("redis://a:1,b:2", "redis://a:1,b:2"),
            ("TriggerAuthentication shop/prom", "TriggerAuthentication shop/prom"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }

    #[test]
    fn no_list_allows_all_and_an_empty_one_nobody() {
        let url = Some("http://user:secret@p/api?token=x");
        assert_eq!(Allowed::default().refusal("shop", url), None);
        let nobody = Allowed::read(Some(" , "), Some(""));
        let message = "its annotation hpalite.dev/allowed-namespaces does not name namespace shop";
        assert_eq!(nobody.refusal("shop", url).as_deref(), Some(message));
        let no_server = Allowed::read(Some("other, shop"), Some(""));
        let message = "its annotation hpalite.dev/allowed-servers does not name http://p/api";
        assert_eq!(no_server.refusal("shop", url).as_deref(), Some(message));
        assert_eq!(no_server.refusal("shop", None), None, "nobody is asked");
    }
}
