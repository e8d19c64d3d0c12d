//! NATS JetStream: what a consumer has not acknowledged, by the monitoring endpoint.
//!
//! In a cluster the leader of a consumer knows it best, so that server is asked.

use serde::Deserialize;

use super::Poll;
use crate::encode::escape;
use crate::formats::url::Url;
use crate::polling::failed;
use crate::polling::request::Request;
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::NatsSource;

/// Servers of a cluster that are asked who they are.
const SERVERS_MAX: usize = 16;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jetstream {
    account_details: Vec<Account>,
    meta_cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cluster {
    cluster_size: u64,
    leader: String,
    urls: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    id: String,
    name: String,
    stream_detail: Vec<Stream>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stream {
    name: String,
    consumer_detail: Vec<Consumer>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Consumer {
    name: String,
    num_pending: u64,
    num_ack_pending: u64,
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Server {
    server_name: String,
    connect_urls: Vec<String>,
    cluster: Cluster,
}

pub(super) fn ask(poll: &Poll<'_>, source: &NatsSource) -> Result<f64, PollError> {
    let endpoint = poll.given(source.endpoint.as_deref(), &["natsServerMonitoringEndpoint"]);
    let endpoint = endpoint.ok_or_else(|| poll.missing("natsServerMonitoringEndpoint"))?;
    let account = poll.given(source.account.as_deref(), &["account", "accountID"]);
    let account = account.ok_or_else(|| poll.missing("account"))?;
    let scheme = if source.https { "https" } else { "http" };
    let base = Url::parse_base(&format!("{scheme}://{endpoint}"))
        .map_err(|why| poll.auth.fault(&format!("parameter natsServerMonitoringEndpoint {why}")))?;
    let (consumer, size) = consumer(poll, source, &base, account)?;
    let leader = consumer.cluster.leader.clone();
    if size <= 1 || leader.is_empty() {
        return Ok(lag(&consumer));
    }
    let own = server(poll, &base)?;
    if own.server_name == leader {
        return Ok(lag(&consumer));
    }
    for other in others(&own, &leader, &base) {
        if server(poll, &other).is_ok_and(|found| found.server_name == leader) {
            return self::consumer(poll, source, &other, account).map(|(consumer, _)| lag(&consumer));
        }
    }
    let message = format!("{} does not say where the leader of consumer {} is", base.server(), source.consumer);
    Err(failed(ErrorClass::Response, message))
}

/// Returns where the other servers are that this answer names.
pub(super) fn named(body: &[u8], leader: &str, base: &Url) -> Result<Vec<Url>, PollError> {
    read_server(body, "server").map(|own| others(&own, leader, base))
}

/// Returns where the other servers' monitoring may be: at the names that clients connect to, or below that of the whole.
fn others(own: &Server, leader: &str, base: &Url) -> Vec<Url> {
    let host = |url: &str| url.rsplit_once("://").map_or(url, |(_, rest)| rest).to_owned();
    let name = |address: String| address.rsplit_once(':').map_or(address.clone(), |(host, _)| host.to_owned());
    let mut hosts: Vec<String> = own.connect_urls.iter().map(|url| name(host(url))).collect();
    if hosts.is_empty() {
        hosts = own
            .cluster
            .urls
            .iter()
            .map(|url| name(host(url)))
            .filter(|host| host.split('.').next() == Some(leader))
            .collect();
        hosts.push(format!("{leader}.{}", base.host));
    }
    // What a server says may have another port in it, or be no name.
    let is_host =
        |url: &Url| Url::parse(&url.server()).is_ok_and(|read| (&read.host, read.port) == (&url.host, base.port));
    hosts.into_iter().map(|host| Url { host, ..base.clone() }).filter(is_host).take(SERVERS_MAX).collect()
}

// Far less than 2^53.
#[expect(clippy::cast_precision_loss)]
fn lag(consumer: &Consumer) -> f64 {
    consumer.num_pending.saturating_add(consumer.num_ack_pending) as f64
}

fn consumer(poll: &Poll<'_>, source: &NatsSource, base: &Url, account: &str) -> Result<(Consumer, u64), PollError> {
    let asked = format!("{}/jsz", base.server());
    let url = format!("{asked}?acc={}&consumers=true&config=true", escape(account));
    let body = poll.get(Request::get(url, base.server()), &asked)?;
    find(&body, (account, &source.stream, &source.consumer), &asked)
}

/// Returns what a consumer has not acknowledged by this answer.
pub(super) fn pending(body: &[u8], names: (&str, &str, &str), asked: &str) -> Result<f64, PollError> {
    find(body, names, asked).map(|(consumer, _)| lag(&consumer))
}

/// Returns the consumer of these names of an account, a stream and itself, and the size of the cluster.
fn find(body: &[u8], names: (&str, &str, &str), asked: &str) -> Result<(Consumer, u64), PollError> {
    let (account, stream_name, consumer_name) = names;
    let answer: Jetstream = serde_json::from_slice(body)
        .map_err(|_| failed(ErrorClass::Response, format!("{asked} answered something that is not NATS' JSON")))?;
    let size = answer.meta_cluster.cluster_size;
    let missing = |what: String| failed(ErrorClass::Query, format!("{asked} knows no {what}"));
    let mut accounts = answer.account_details.into_iter();
    let found = accounts.find(|found| found.id == account || found.name == account);
    let found = found.ok_or_else(|| missing(format!("account {account} with JetStream")))?;
    let stream = found.stream_detail.into_iter().find(|found| found.name == stream_name);
    let stream = stream.ok_or_else(|| missing(format!("stream {stream_name} in account {account}")))?;
    let consumer = stream.consumer_detail.into_iter().find(|found| found.name == consumer_name);
    let consumer = consumer.ok_or_else(|| missing(format!("consumer {consumer_name} of stream {stream_name}")))?;
    Ok((consumer, size))
}

fn server(poll: &Poll<'_>, base: &Url) -> Result<Server, PollError> {
    let asked = format!("{}/varz", base.server());
    let body = poll.get(Request::get(asked.clone(), base.server()), &asked)?;
    read_server(&body, &asked)
}

fn read_server(body: &[u8], asked: &str) -> Result<Server, PollError> {
    serde_json::from_slice(body)
        .map_err(|_| failed(ErrorClass::Response, format!("{asked} answered something that is not NATS' JSON")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_and_what_is_missing() {
        let body = br#"{"meta_cluster":{"cluster_size":3},"account_details":[{"name":"$G","id":"$G","stream_detail":[
            {"name":"orders","config":{"subjects":["a"]},"consumer_detail":[
              {"name":"pull","num_pending":40,"num_ack_pending":2,"cluster":{"leader":"n2"}}]}]}]}"#;
        let read = |stream: &str, consumer: &str, account: &str| {
            find(body, (account, stream, consumer), "http://nats:8222/jsz")
                .map(|(consumer, size)| (lag(&consumer), consumer.cluster.leader, size))
                .map_err(|error| error.message)
        };
        assert_eq!(read("orders", "pull", "$G"), Ok((42.0, "n2".to_owned(), 3)));
        for (stream, consumer, account, words) in [
            ("orders", "pull", "A", "http://nats:8222/jsz knows no account A with JetStream"),
            ("other", "pull", "$G", "knows no stream other in account $G"),
            ("orders", "push", "$G", "knows no consumer push of stream orders"),
        ] {
            let error = read(stream, consumer, account).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(find(b"<html>", ("$G", "a", "b"), "u").is_err());
    }

    #[test]
    fn where_the_others_are() {
        let base = Url::parse("http://nats.default:8222").unwrap();
        let hosts = |server: &Server| others(server, "n2", &base).iter().map(Url::server).collect::<Vec<_>>();
        let advertised =
            Server { connect_urls: vec!["n1.nats:4222".to_owned(), "10.0.0.2:4222".to_owned()], ..Server::default() };
        assert_eq!(hosts(&advertised), ["http://n1.nats:8222", "http://10.0.0.2:8222"]);
        let urls = vec!["nats://n1.nats:6222".to_owned(), "n2.nats:6222".to_owned(), "n2/x:1".to_owned()];
        // Without a port of the endpoint, one in a name would be asked instead.
        let bare = Url { port: None, ..base.clone() };
        let cheat = vec!["n1.nats:22:4222".to_owned(), ":4222".to_owned(), "n2.nats:4222".to_owned()];
        let cheating = Server { connect_urls: cheat, ..Server::default() };
        assert_eq!(others(&cheating, "n2", &bare).iter().map(Url::server).collect::<Vec<_>>(), ["http://n2.nats"]);
        let clustered = Server { cluster: Cluster { urls, ..Cluster::default() }, ..Server::default() };
        assert_eq!(hosts(&clustered), ["http://n2.nats:8222", "http://n2.nats.default:8222"]);
    }
}
