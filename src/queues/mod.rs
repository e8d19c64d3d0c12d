//! Asks queues and databases for a number: one file for each kind of server.
//!
//! Each has a pure part, which knows the protocol, and a function that asks, which blocks until the deadline at most. A
//! connection serves one poll. Nothing of an answer is ever quoted but a server's own error code.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod amqp;
mod azure_servicebus;
mod cloudwatch;
mod kafka;
mod md5;
mod nats;
mod postgres;
mod rabbitmq;
pub mod received;
mod redis;
mod scram;
mod series;
mod sqs;

use std::time::{Duration, Instant};

use crate::formats::url::Url;
use crate::identity::{Identity, Purpose, aws_domain};
use crate::polling::auth::Auth;
use crate::polling::failed;
use crate::polling::request::{Method, Request, TlsMaterial};
use crate::polling::transport::{BODY_MAX, Reply, Transport};
use crate::prometheus::answer::bare_status;
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{AzureCloud, PodIdentity, Query, UnixMillis};
use crate::wire::trigger::identity::is_aws_region;

/// What a poll of any kind needs.
pub(crate) struct Poll<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) identity: &'a Identity,
    pub(crate) pod_identity: Option<&'a PodIdentity>,
    pub(crate) auth: Auth<'a>,
    /// The whole time limit.
    pub(crate) timeout: Duration,
    pub(crate) deadline: Instant,
    pub(crate) at: UnixMillis,
}

/// Asks for the number of a query.
///
/// # Errors
/// What the server, the connection or a parameter lacks; `Configuration` for a query of another module.
pub(crate) fn ask(poll: &Poll<'_>, query: &Query) -> Result<f64, PollError> {
    match query {
        Query::Redis(source) => redis::ask(poll, source),
        Query::Nats(source) => nats::ask(poll, source),
        Query::RabbitMq(source) => rabbitmq::ask(poll, source),
        Query::Postgres(source) => postgres::ask(poll, source),
        Query::Sqs(source) => sqs::ask(poll, source),
        Query::CloudWatch(source) => cloudwatch::ask(poll, source),
        Query::Kafka(source) => kafka::ask(poll, source),
        Query::ServiceBus(source) => azure_servicebus::ask(poll, source),
        Query::Graphite(source) => series::graphite(poll, source),
        Query::Influx(source) => series::influxdb(poll, source),
        Query::Prometheus(_) | Query::Loki(_) | Query::MetricsApi(_) | Query::Resource(_) | Query::PodMetric(_) => {
            Err(failed(ErrorClass::Configuration, format!("a {} is no queue", query.kind())))
        }
    }
}

impl Poll<'_> {
    /// Returns a value of the trigger's metadata, or else a parameter.
    fn given<'s>(&'s self, written: Option<&'s str>, names: &[&str]) -> Option<&'s str> {
        written.or_else(|| names.iter().find_map(|name| self.auth.optional(name)))
    }

    fn missing(&self, what: &str) -> PollError {
        self.auth.fault(&format!("parameter {what} is not set"))
    }

    /// Returns whether to encrypt, which either metadata of this name or parameter `tls` says.
    fn encrypted(&self, written: Option<bool>, name: &str) -> Result<bool, PollError> {
        match (written, self.auth.optional("tls")) {
            (Some(_), Some(_)) => {
                Err(self.auth.fault(&format!("{name} of the trigger and parameter tls exclude each other")))
            }
            (Some(written), None) => Ok(written),
            (None, None | Some("disable")) => Ok(false),
            (None, Some("enable")) => Ok(true),
            (None, Some(_)) => Err(self.auth.fault("parameter tls is neither enable nor disable")),
        }
    }

    /// Returns CA and client certificate of the parameters.
    fn tls(&self, unsafe_ssl: bool) -> Result<TlsMaterial, PollError> {
        if self.auth.optional("keyPassword").is_some() {
            return Err(self.auth.fault("parameter keyPassword is not supported: give an unencrypted key"));
        }
        let optional = |name| self.auth.optional(name).map(str::to_owned);
        let client = match (optional("cert"), optional("key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(self.auth.fault("parameters cert and key go together")),
        };
        Ok(TlsMaterial { unsafe_ssl, ca: optional("ca"), client })
    }

    /// Sends a request, and returns the body of an answer with status 200.
    fn get(&self, request: Request, asked: &str) -> Result<Vec<u8>, PollError> {
        let Reply { status, body, .. } =
            self.transport.exchange(request, self.timeout, self.deadline, |reply| reply)?;
        if status != 200 {
            return Err(bare_status(asked, status, &body));
        }
        if body.len() > BODY_MAX {
            let message = format!("{asked} answered more than {} KiB", BODY_MAX >> 10);
            return Err(failed(ErrorClass::Response, message));
        }
        Ok(body)
    }

    /// Adds what proves the trigger's identity to a request to Amazon.
    fn sign(&self, request: Request, service: &'static str, region: Option<&str>) -> Result<Request, PollError> {
        let purpose =
            Purpose { url: &request.url, aws_service: service, aws_region: region, azure_cloud: AzureCloud::Public };
        let proof = self.identity.prove(self.pod_identity, &[], &self.auth, purpose)?;
        if proof.is_nothing() {
            return Err(self.auth.fault("neither podIdentity aws nor parameter awsAccessKeyID is set"));
        }
        proof.apply(request, self.at)
    }
}

/// A request to a service of Amazon's in the region of the trigger or a parameter, or at this endpoint; without its body.
fn amazon(poll: &Poll<'_>, service: &str, endpoint: Option<&str>, region: Option<&str>) -> Result<Request, PollError> {
    let region = poll.given(region, &["awsRegion"]).ok_or_else(|| poll.missing("awsRegion"))?;
    if !is_aws_region(region) {
        return Err(poll.auth.fault("parameter awsRegion is not the name of a region"));
    }
    let amazons = format!("https://{service}.{region}.{}/", aws_domain(region));
    let url = Url::parse(endpoint.unwrap_or(&amazons));
    let url = url.map_err(|why| poll.auth.fault(&format!("awsEndpoint {why}")))?;
    let to = format!("{}{}", url.server(), url.path);
    Ok(Request { method: Method::Post, ..Request::get(to, url.server()) })
}

/// A server that is not asked over HTTP.
struct Node {
    host: String,
    port: u16,
    /// With a scheme, for messages.
    name: String,
}

/// Upper bound on the servers that a trigger may name.
const NODES_MAX: usize = 50;

impl Node {
    fn new(scheme: &str, host: &str, port: u16) -> Self {
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Self { name: format!("{scheme}://{shown}:{port}"), host: host.to_owned(), port }
    }

    fn fails(&self, class: ErrorClass, what: impl AsRef<str>) -> PollError {
        failed(class, format!("{} {}", self.name, what.as_ref()))
    }

    /// Reads what a server says about another; an IPv6 address may have no brackets.
    fn of(scheme: &str, host: &str, port: &str) -> Option<Self> {
        let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        host_port(&format!("{host}:{port}")).map(|(host, port)| Self::new(scheme, host, port))
    }

    /// Reads `host:port,host:port`.
    fn list(scheme: &str, text: &str) -> Option<Vec<Self>> {
        let places = text.split(',').map(|place| host_port(place.trim()));
        let nodes = places.map(|place| place.map(|(host, port)| Self::new(scheme, host, port)));
        nodes.collect::<Option<Vec<_>>>().filter(|nodes| nodes.len() <= NODES_MAX)
    }
}

/// Connects to the first of these that can be reached.
fn first_of<'n, T>(
    poll: &Poll<'_>,
    nodes: &'n [Node],
    connect: impl Fn(&'n Node, Instant) -> Result<T, PollError>,
) -> Result<T, PollError> {
    let mut last = None;
    for (at, node) in nodes.iter().enumerate() {
        // Each gets half of the time that is left, and the last one all of it.
        let left = poll.deadline.saturating_duration_since(Instant::now());
        let deadline = if at + 1 == nodes.len() { poll.deadline } else { poll.deadline - left / 2 };
        match connect(node, deadline) {
            Err(error) if matches!(error.class, ErrorClass::Connect | ErrorClass::Timeout) => last = Some(error),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| poll.auth.fault("no server is named")))
}

/// Takes `host:port` apart; an IPv6 address has brackets.
fn host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok().then_some(address)?,
        None => (!host.is_empty() && host.chars().all(is_name)).then_some(host)?,
    };
    Some((host, port.parse().ok().filter(|port| *port != 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("redis:6379", Some(("redis", 6379))),
            ("10.0.0.1:1", Some(("10.0.0.1", 1))),
            ("[::1]:6379", Some(("::1", 6379))),
            ("redis", None),
            ("redis:", None),
            ("redis:0", None),
            ("redis:70000", None),
            ("a b:1", None),
            ("::1:6379", None),
            ("redis://a:1", None),
        ] {
            assert_eq!(host_port(text), expected, "{text}");
        }
    }
}
