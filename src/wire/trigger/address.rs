//! Checks whether a text can be the base URL of a server. Knows no trigger type.

/// Returns what is wrong, as the end of a sentence that begins with the text.
pub(super) fn check_base_url(text: &str) -> Result<(), &'static str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("is not a URL");
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err("is not an http or https URL");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("contains a blank");
    }
    if rest.contains(['?', '#']) {
        return Err("contains a query or a fragment, after which no path can follow");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host_port)| host_port);
    let (host, port) = if let Some(bracketed) = host_port.strip_prefix('[') {
        let Some((address, after)) = bracketed.split_once(']') else {
            return Err("has an unclosed bracket");
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("has no IPv6 address between its brackets");
        }
        match after.strip_prefix(':') {
            Some(port) => (address, Some(port)),
            None if after.is_empty() => (address, None),
            None => return Err("has text after its brackets"),
        }
    } else {
        host_port.split_once(':').map_or((host_port, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err("has no host");
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(is_host) {
        return Err("has a host with a character that no host name has");
    }
    match port {
        Some(port) if port.parse::<u16>().map_or(true, |number| number == 0) => Err("has no valid port"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        for text in [
            "http://prometheus:9090",
            "HTTPS://prometheus.monitoring.svc.cluster.local",
            "https://thanos.example.com/prefix/",
            "http://10.0.0.1:9090/",
            "http://[::1]:9090",
            "http://user:pass@host:80",
            "http://my_host",
        ] {
            assert_eq!(check_base_url(text), Ok(()), "{text}");
        }
        for (text, reason) in [
            ("prometheus:9090", "is not a URL"),
            ("ftp://prometheus", "is not an http or https URL"),
            ("http://", "has no host"),
            ("http://:9090", "has no host"),
            ("http:///path", "has no host"),
            ("http://prometheus:port", "has no valid port"),
            ("http://prometheus:", "has no valid port"),
            ("http://prometheus:0", "has no valid port"),
            ("http://prometheus:99999", "has no valid port"),
            ("http://prome theus", "contains a blank"),
            ("http://prometheus/?a=b", "contains a query or a fragment, after which no path can follow"),
            ("http://[::1", "has an unclosed bracket"),
            ("http://[x]", "has no IPv6 address between its brackets"),
            ("http://{{host}}", "has a host with a character that no host name has"),
            ("__PROMETHEUS__", "is not a URL"),
        ] {
            assert_eq!(check_base_url(text), Err(reason), "{text}");
        }
    }
}
