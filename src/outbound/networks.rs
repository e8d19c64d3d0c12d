//! Which addresses may be contacted on behalf of users.
//!
//! Anybody who may write a ScaledObject chooses a server for the process to contact, and sees the answer as a number or
//! an error text. Addresses that only this process or machine can reach must therefore be refused unless the operator
//! allows them. Private networks are allowed: pods and Services are there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

/// An address range such as `127.0.0.0/8` or `fd00::/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(segments: [u16; 8], bits: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = segments;
        Self { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
    }

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((own, own_bits), (other, other_bits)) = (wide(self.address), wide(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
        own_bits == other_bits && own & mask == other & mask
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => longest,
            Some(bits) if bits.bytes().all(|digit| digit.is_ascii_digit()) => bits.parse().map_err(|_| ())?,
            Some(_) => return Err(()),
        };
        if bits > longest { Err(()) } else { Ok(Self { address, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Refused ranges with their kind; a flag can allow a range by name.
const REFUSED: [(Network, &str); 15] = [
    (Network::v4(127, 0, 0, 0, 8), "a loopback address"),
    (Network::v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "a loopback address"),
    // Linux treats 0.0.0.0 as loopback.
    (Network::v4(0, 0, 0, 0, 8), "an unspecified address"),
    (Network::v6([0; 8], 128), "an unspecified address"),
    // The metadata services of AWS, Google, Azure, OpenStack and others are at 169.254.169.254.
    (Network::v4(169, 254, 0, 0, 16), "a link-local address"),
    (Network::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "a link-local address"),
    (Network::v4(224, 0, 0, 0, 4), "a multicast address"),
    (Network::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address"),
    (Network::v4(255, 255, 255, 255, 32), "the broadcast address"),
    // AWS: instance metadata ::254, pod identity ::23.
    (Network::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), "an address of a cloud's metadata"),
    (Network::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "an address of a cloud's metadata"),
    // Alibaba, Azure, Oracle.
    (Network::v4(100, 100, 100, 200, 32), "an address of a cloud's metadata"),
    (Network::v4(168, 63, 129, 16, 32), "an address of a cloud's metadata"),
    (Network::v4(192, 0, 0, 192, 32), "an address of a cloud's metadata"),
    // No rule can judge the address behind it.
    (Network::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "an address of a Teredo tunnel"),
];

/// IPv6 ranges that embed an IPv4 address, and the number of bits after it. Mapped ones are converted to IPv4 before.
const CARRIERS: [(Network, u32); 5] = [
    // IPv4-compatible.
    (Network::v6([0; 8], 96), 0),
    // IPv4-translated.
    (Network::v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), 0),
    // NAT64.
    (Network::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), 0),
    (Network::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), 0),
    // 6to4.
    (Network::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), 80),
];

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    address: SocketAddr,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// The kind of address, and the range that would allow it.
    Kind(&'static str, String),
    Own,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Kind(kind, network) => write!(
                f,
                "{} is {kind}, which only hpalite itself should reach; --allow-network {network} would allow it",
                self.address.ip()
            ),
            Why::Own => write!(f, "{} is a port of hpalite's own, which no trigger may ask", self.address),
        }
    }
}

impl std::error::Error for Refused {}

/// The addresses that the operator allows, and those of this process.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub allowed: Vec<Network>,
    /// Where the process listens. Refused at every address of this machine, even if allowed.
    pub own: Vec<SocketAddr>,
}

impl Rules {
    /// Judges whether an address may be contacted.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, address: SocketAddr) -> Result<(), Refused> {
        // The system connects to a mapped address over IPv4.
        let ip = address.ip().to_canonical();
        let refused = |why| Err(Refused { address: SocketAddr::new(ip, address.port()), why });
        if self.own.iter().any(|own| own.port() == address.port()) && is_of_this_machine(ip) {
            return refused(Why::Own);
        }
        if self.allowed.iter().any(|network| network.contains(ip)) {
            return Ok(());
        }
        let known = |ip| REFUSED.iter().find(|(network, _)| network.contains(ip));
        if let Some((network, kind)) = known(ip) {
            return refused(Why::Kind(kind, network.to_string()));
        }
        match carried(ip).and_then(|carried| known(carried.into())) {
            Some((_, kind)) => refused(Why::Kind(kind, format!("{ip}/128"))),
            None => Ok(()),
        }
    }

    /// Judges a host that a proxy resolves, as far as its text shows its address: numbers are addresses, and
    /// `localhost` is the proxy's own machine.
    ///
    /// # Errors
    /// Why not.
    pub fn judge_unresolved(&self, host: &str, port: u16) -> Result<(), Refused> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = host.parse() {
            return self.judge(SocketAddr::new(ip, port));
        }
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        // Most programs read 2130706433, 0x7f.1 and 127.1 as numeric addresses.
        let number = last.bytes().all(|b| b.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if last == "localhost" || number {
            return self.judge(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        }
        Ok(())
    }
}

/// Returns the embedded IPv4 address to which a translator would send.
fn carried(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let (_, shift) = CARRIERS.iter().find(|(network, _)| network.contains(ip))?;
    u32::try_from(v6.to_bits() >> shift & u128::from(u32::MAX)).ok().map(Ipv4Addr::from_bits)
}

/// Only addresses of this machine can be bound, unless the machine may bind any address; then the source address that
/// the system would use decides.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let binds = |ip: IpAddr| UdpSocket::bind((ip, 0));
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let Ok(socket) = binds(ip) else { return false };
    // From a network that is reserved for documentation, so no machine has it.
    let nobodys: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    drop(socket);
    if binds(nobodys).is_err() {
        return true;
    }
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = binds(any).and_then(|socket| {
        // Sends nothing: only the route is looked up.
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allowed: &[&str]) -> Rules {
        Rules { allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(), own: Vec::new() }
    }

    fn judge(rules: &Rules, ip: &str) -> Result<(), String> {
        rules.judge(SocketAddr::new(ip.parse().unwrap(), 80)).map_err(|refused| refused.to_string())
    }

    #[test]
    fn what_only_we_can_reach_is_refused() {
        for (ip, kind, network) in [
            ("127.0.0.1", "a loopback address", "127.0.0.0/8"),
            ("127.255.0.9", "a loopback address", "127.0.0.0/8"),
            ("::1", "a loopback address", "::1/128"),
            ("0.0.0.0", "an unspecified address", "0.0.0.0/8"),
            ("0.1.2.3", "an unspecified address", "0.0.0.0/8"),
            ("::", "an unspecified address", "::/128"),
            ("169.254.169.254", "a link-local address", "169.254.0.0/16"),
            ("fe80::1", "a link-local address", "fe80::/10"),
            ("febf::1", "a link-local address", "fe80::/10"),
            ("224.0.0.1", "a multicast address", "224.0.0.0/4"),
            ("239.255.255.255", "a multicast address", "224.0.0.0/4"),
            ("ff02::1", "a multicast address", "ff00::/8"),
            ("255.255.255.255", "the broadcast address", "255.255.255.255/32"),
            ("fd00:ec2::254", "an address of a cloud's metadata", "fd00:ec2::/32"),
            ("fd20:ce::254", "an address of a cloud's metadata", "fd20:ce::254/128"),
            ("100.100.100.200", "an address of a cloud's metadata", "100.100.100.200/32"),
            ("168.63.129.16", "an address of a cloud's metadata", "168.63.129.16/32"),
            // IPv4 in IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo.
            ("::ffff:127.0.0.1", "a loopback address", "127.0.0.0/8"),
            ("::ffff:a9fe:a9fe", "a link-local address", "169.254.0.0/16"),
            ("::127.0.0.1", "a loopback address", "::7f00:1/128"),
            ("::ffff:0:127.0.0.1", "a loopback address", "::ffff:0:7f00:1/128"),
            ("64:ff9b::a9fe:a9fe", "a link-local address", "64:ff9b::a9fe:a9fe/128"),
            ("64:ff9b:1::7f00:1", "a loopback address", "64:ff9b:1::7f00:1/128"),
            ("2002:7f00:1::", "a loopback address", "2002:7f00:1::/128"),
            ("2002:a9fe:a9fe::1", "a link-local address", "2002:a9fe:a9fe::1/128"),
            ("2001::1", "an address of a Teredo tunnel", "2001::/32"),
        ] {
            let text = judge(&rules(&[]), ip).expect_err(ip);
            assert!(text.contains(&format!(" is {kind}, ")), "{text}");
            assert!(text.contains(&format!("--allow-network {network} ")), "{text}");
            // The range named in the error does allow the address.
            assert_eq!(judge(&rules(&[network]), ip), Ok(()), "{network}");
        }
    }

    #[test]
    fn where_pods_and_services_live_is_allowed() {
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.201",
            "240.0.0.1",
            "8.8.8.8",
            "fd00::1",
            "fc00::1",
            "2600::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
        ] {
            assert_eq!(judge(&rules(&[]), ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn what_is_allowed_is_no_more_than_what_is_named() {
        let some = rules(&["127.0.0.0/8", "169.254.20.10"]);
        assert_eq!(judge(&some, "127.0.0.53"), Ok(()));
        assert_eq!(judge(&some, "::ffff:127.0.0.1"), Ok(()));
        assert_eq!(judge(&some, "169.254.20.10"), Ok(()));
        for ip in ["169.254.169.254", "::1", "64:ff9b::7f00:1"] {
            assert!(judge(&some, ip).is_err(), "{ip}");
        }
        assert_eq!(judge(&rules(&["0.0.0.0/0"]), "127.0.0.1"), Ok(()));
        assert!(judge(&rules(&["0.0.0.0/0"]), "::1").is_err());
    }

    #[test]
    fn our_own_ports_are_refused_whatever_is_allowed() {
        let mut all = rules(&["0.0.0.0/0", "::/0"]);
        all.own = vec!["127.0.0.1:8081".parse().unwrap(), "[::]:6443".parse().unwrap()];
        let judge = |text: &str| all.judge(text.parse().unwrap()).map_err(|refused| refused.to_string());
        for own in
            ["127.0.0.1:8081", "127.0.0.9:6443", "[::1]:6443", "0.0.0.0:8081", "[::ffff:127.0.0.1]:8081", "[::]:8081"]
        {
            let text = judge(own).expect_err(own);
            assert!(text.contains("a port of hpalite's own"), "{text}");
        }
        for other in ["127.0.0.1:8082", "192.0.2.1:6443", "[2001:db8::1]:6443"] {
            assert_eq!(judge(other), Ok(()), "{other}");
        }
        // The address under which others reach this machine, if it has one.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let own = SocketAddr::new(socket.local_addr().unwrap().ip(), 6443);
            assert!(all.judge(own).is_err(), "{own}");
        }
    }

    #[test]
    fn what_a_proxy_would_resolve() {
        let none = rules(&[]);
        let judge = |host: &str| none.judge_unresolved(host, 80);
        for host in [
            "127.0.0.1",
            "[::1]",
            "169.254.169.254",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "2130706433",
            "0x7f.1",
            "127.1",
            "0x7f000001",
        ] {
            assert!(judge(host).is_err(), "{host}");
        }
        for host in ["prometheus.example", "10.0.0.1", "[fd00::1]", "localhost.example", "1.example", "0xg", "a.0x7g"] {
            assert_eq!(judge(host), Ok(()), "{host}");
        }
    }

    #[test]
    fn networks() {
        for (text, expected) in [
            ("127.0.0.0/8", Some("127.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0/8", None),
            ("shop", None),
            ("", None),
        ] {
            let found = text.parse().ok().map(|network: Network| network.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
        let ten: Network = "10.0.0.0/8".parse().unwrap();
        assert!(ten.contains("10.9.9.9".parse().unwrap()) && !ten.contains("11.0.0.1".parse().unwrap()));
        assert!(!ten.contains("::a00:1".parse().unwrap()));
    }
}
