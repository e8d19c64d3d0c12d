//! Connects name look-ups and rules with the HTTP library.
//!
//! The library resolves before it looks for an idle connection, and connects exactly to the addresses that it gets. So
//! the judged addresses are those that are used, for each request and redirect, without another look-up in between.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, NextTimeout, Transport};
use ureq::{Error, Timeout};

use super::names::{Failure, Names};
use super::networks::{Refused, Rules};
use super::socket::{self, Socket};

/// For requests without a time limit of their own.
const PATIENCE: Duration = Duration::from_secs(30);

/// Addresses tried per name; the library takes no more.
const ADDRESSES_MAX: usize = 16;

/// The look-up of a name did not end in time, or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved;

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its name cannot be resolved at the moment")
    }
}

impl std::error::Error for Unresolved {}

/// The resolver of one HTTP client.
#[derive(Clone)]
pub(crate) struct Guard {
    names: Arc<Names>,
    /// None if the operator chose the server, so that no address is judged.
    rules: Option<Arc<Rules>>,
    /// The host and port of the proxy, which the operator chose.
    proxy: Option<(String, u16)>,
}

impl Guard {
    /// For servers that the operator chose.
    pub(crate) fn trusting(names: Arc<Names>) -> Self {
        Self { names, rules: None, proxy: None }
    }

    /// For servers that others chose, through this proxy.
    pub(crate) fn judging(names: Arc<Names>, rules: Arc<Rules>, proxy: &ureq::Proxy) -> Self {
        let proxy = Some((proxy.host().to_ascii_lowercase(), proxy.port()));
        Self { names, rules: Some(rules), proxy }
    }

    fn look_up(&self, uri: &Uri, within: Duration, late: Timeout) -> Result<ResolvedSocketAddrs, Error> {
        let (host, port) = place(uri).ok_or_else(|| Error::BadUri("it names no host and port".to_owned()))?;
        let addresses: Arc<[IpAddr]> = match host.parse() {
            Ok(address) => Arc::from([address]),
            Err(_) => self.names.addresses(host, within).map_err(|failure| unresolved(failure, late))?,
        };
        let is_proxy = self.proxy.as_ref().is_some_and(|(name, at)| name.eq_ignore_ascii_case(host) && *at == port);
        let rules = self.rules.as_deref().filter(|_| !is_proxy);
        let mut result = self.empty();
        judged(rules, &addresses, port)?.into_iter().for_each(|address| result.push(address));
        Ok(result)
    }
}

/// Returns the addresses of a name that may be connected to, in their order.
///
/// # Errors
/// When there is none, and why.
pub(crate) fn judged(rules: Option<&Rules>, addresses: &[IpAddr], port: u16) -> Result<Vec<SocketAddr>, Error> {
    let mut result = Vec::new();
    let mut first: Option<Refused> = None;
    for address in addresses.iter().map(|address| SocketAddr::new(*address, port)) {
        match rules.map_or(Ok(()), |rules| rules.judge(address)) {
            Ok(()) if result.len() < ADDRESSES_MAX => result.push(address),
            Ok(()) => {}
            Err(refused) => first = first.or(Some(refused)),
        }
    }
    match first {
        Some(refused) if result.is_empty() => Err(Error::Other(Box::new(refused))),
        _ if result.is_empty() => Err(Error::HostNotFound),
        _ => Ok(result),
    }
}

/// In the library's words.
pub(crate) fn unresolved(failure: Failure, late: Timeout) -> Error {
    match failure {
        Failure::NoSuchHost => Error::HostNotFound,
        Failure::Passing => Error::Other(Box::new(Unresolved)),
        Failure::Late => Error::Timeout(late),
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Resolver for Guard {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let within = if timeout.after.is_not_happening() { PATIENCE } else { *timeout.after };
        self.look_up(uri, within, timeout.reason)
    }
}

/// Returns the host without brackets, and the port.
pub(crate) fn place(uri: &Uri) -> Option<(&str, u16)> {
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let usual = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        scheme if scheme.starts_with("socks") => 1080,
        _ => return None,
    };
    Some((host, uri.port_u16().unwrap_or(usual)))
}

/// Connects over TCP. If no known address of a name answers, looks the name up again and tries new addresses in the
/// remaining time.
#[derive(Debug)]
pub(crate) struct Direct {
    guard: Guard,
}

impl Direct {
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard }
    }

    fn open(&self, details: &ConnectionDetails<'_>) -> Result<TcpStream, Error> {
        let began = Instant::now();
        let NextTimeout { after, reason, .. } = details.timeout;
        let limit = if after.is_not_happening() { PATIENCE } else { *after };
        let left = || limit.saturating_sub(began.elapsed());
        let error = match socket::connect(&details.addrs, limit, reason) {
            Err(error @ (Error::Io(_) | Error::Timeout(_))) => error,
            result => return result,
        };
        let named = place(details.uri).map(|(host, _)| host).filter(|host| host.parse::<IpAddr>().is_err());
        if !named.is_some_and(|host| self.guard.names.suspect(host)) {
            return Err(error);
        }
        match self.guard.look_up(details.uri, left(), reason) {
            Ok(found) if found.iter().any(|address| !details.addrs.contains(address)) && !left().is_zero() => {
                socket::connect(&found, left(), reason)
            }
            _ => Err(error),
        }
    }
}

impl<In: Transport> Connector<In> for Direct {
    type Out = Either<In, Socket>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(proxied) = chained {
            return Ok(Some(Either::A(proxied)));
        }
        let socket = Socket::new(self.open(details)?, details.config)?;
        (details.register_shutdown)(socket.shutdown_handle())?;
        Ok(Some(Either::B(socket)))
    }
}
