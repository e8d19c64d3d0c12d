//! The proxy for each server, from the proxy variables as Go's clients read them.
//!
//! Pure; the environment is an argument. One difference: requests to an `http://` server use a CONNECT tunnel, too, since
//! the HTTP library supports nothing else.

use std::net::IpAddr;

/// The values of the variables. Without `Debug`, since they may contain credentials.
#[derive(Clone, Default)]
pub struct ProxySettings {
    http: Option<String>,
    https: Option<String>,
    exceptions: Vec<Exception>,
}

#[derive(Clone)]
enum Exception {
    All,
    Address(IpAddr, Option<u16>),
    Network(IpAddr, u8),
    /// A domain and its subdomains; only these (`below_only`) if it was written with a leading dot.
    Domain {
        name: String,
        below_only: bool,
        port: Option<u16>,
    },
}

impl ProxySettings {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, upper case first.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |upper: &str, lower: &str| {
            let present =
                |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            present(upper).or_else(|| present(lower))
        };
        let exceptions = read("NO_PROXY", "no_proxy").unwrap_or_default();
        Self {
            http: read("HTTP_PROXY", "http_proxy").map(|text| proxy_url(&text)),
            https: read("HTTPS_PROXY", "https_proxy").map(|text| proxy_url(&text)),
            exceptions: exceptions.split(',').filter_map(Exception::parse).collect(),
        }
    }

    /// Returns the URL of the proxy for a request to `scheme://host:port`, or `None` to connect directly.
    #[must_use]
    pub fn proxy_for(&self, https: bool, host: &str, port: u16) -> Option<&str> {
        let proxy = if https { &self.https } else { &self.http }.as_deref()?;
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        if local || self.exceptions.iter().any(|exception| exception.matches(&host, address, port)) {
            return None;
        }
        Some(proxy)
    }
}

/// Adds a missing scheme, and lets a SOCKS proxy resolve names, as Go does.
fn proxy_url(text: &str) -> String {
    match text.split_once("://") {
        None => format!("http://{text}"),
        Some(("socks5", rest)) => format!("socks5h://{rest}"),
        Some(_) => text.to_owned(),
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            return Some(Self::Network(address.parse().ok()?, bits.parse().ok()?));
        }
        let bare: Option<IpAddr> = text.trim_start_matches('[').trim_end_matches(']').parse().ok();
        if let Some(address) = bare {
            return Some(Self::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port.parse().ok()?)),
            None => (text, None),
        };
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Some(Self::Address(address, port));
        }
        let host = host.strip_prefix('*').unwrap_or(&host);
        let (name, below_only) = host.strip_prefix('.').map_or((host, false), |name| (name, true));
        (!name.is_empty()).then(|| Self::Domain { name: name.to_owned(), below_only, port })
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Address(wanted, wanted_port) => {
                address == Some(*wanted) && wanted_port.is_none_or(|wanted| wanted == port)
            }
            Self::Network(network, bits) => address.is_some_and(|address| same_network(address, *network, *bits)),
            Self::Domain { name, below_only, port: wanted_port } => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                (below || (!below_only && host == name)) && wanted_port.is_none_or(|wanted| wanted == port)
            }
        }
    }
}

fn same_network(a: IpAddr, b: IpAddr, bits: u8) -> bool {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((a, a_bits), (b, b_bits)) = (wide(a), wide(b));
    let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
    a_bits == b_bits && bits <= a_bits && a & mask == b & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(no_proxy: &str) -> ProxySettings {
        ProxySettings::from_variables(|name| match name {
            "HTTP_PROXY" => Some("proxy:3128".into()),
            "https_proxy" => Some("socks5://s:1080".into()),
            "NO_PROXY" => Some(no_proxy.into()),
            _ => None,
        })
    }

    #[test]
    fn the_scheme_chooses() {
        let settings = settings("");
        assert_eq!(settings.proxy_for(false, "p", 80), Some("http://proxy:3128"));
        assert_eq!(settings.proxy_for(true, "p", 443), Some("socks5h://s:1080"));
        assert_eq!(ProxySettings::default().proxy_for(true, "p", 443), None);
    }

    #[test]
    fn exceptions() {
        let rows = [
            ("", "localhost", false),
            ("", "127.8.0.1", false),
            ("", "[::1]", false),
            ("", "10.0.0.1", true),
            ("*", "p", false),
            ("a.b", "a.b", false),
            ("a.b", "x.a.b", false),
            ("a.b", "xa.b", true),
            ("A.B", "a.b.", false),
            (".a.b", "a.b", true),
            (".a.b", "x.a.b", false),
            ("*.a.b", "x.a.b", false),
            ("*.a.b", "a.b", true),
            ("10.0.0.0/8", "10.1.2.3", false),
            ("10.0.0.0/8", "11.1.2.3", true),
            ("0.0.0.0/0", "9.9.9.9", false),
            ("fd00::/8", "[fd00::1]", false),
            ("fd00::/8", "10.0.0.1", true),
            ("10.0.0.0/40", "10.0.0.1", true),
            ("10.1.2.3", "10.1.2.3", false),
            ("10.1.2.3:9090", "10.1.2.3", false),
            ("10.1.2.3:1", "10.1.2.3", true),
            ("a.b:9090", "a.b", false),
            ("a.b:1", "a.b", true),
            ("[fd00::1]:9090", "[fd00::1]", false),
            ("fd00::1", "[fd00::1]", false),
            ("x, .svc ,y", "p.m.svc", false),
            ("a.b:zz, ,", "a.b", true),
        ];
        for (no_proxy, host, proxied) in rows {
            assert_eq!(settings(no_proxy).proxy_for(false, host, 9090).is_some(), proxied, "{no_proxy:?} {host}");
        }
    }
}
