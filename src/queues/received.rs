//! Reads what queues and databases send from memory, so that fuzzing reaches the readers behind their connections.

use std::time::{Duration, Instant};

use super::amqp::{self, Question};
use super::redis::Talk;
use super::scram::{SHA_256, Scram};
use super::{Node, azure_servicebus, cloudwatch, nats, postgres, rabbitmq, redis, series, sqs};
use crate::formats::url::Url;
use crate::polling::auth::Auth;
use crate::polling::stream::{Stream, Target};
use crate::polling::transport::Reply;
use crate::polling::{Parameters, failed};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{
    CloudWatchMetric, CloudWatchSource, Exact, QueueMeasure, QueueOperation, QueueRegex, RabbitMqSource, RedisSize,
    Server, ServiceBusEntity,
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    RedisCollection,
    RedisLength,
    RedisPending,
    RedisLag,
    /// In a cluster, where a key is: the number is the port.
    RedisMoved,
    Amqp,
    Postgres,
    Nats,
    Graphite,
    InfluxFlux,
    InfluxRows,
    ServiceBus,
    RedisSignIn,
    /// The number is the port of the master.
    RedisMaster,
    /// The number is 1 if a server would be asked at another port than the endpoint's.
    NatsServers,
    RabbitMq,
    /// The rate of all queues that match.
    RabbitMqPage,
    ServiceBusSubscription,
    Sqs,
    SqsError,
    CloudWatch,
    CloudWatchError,
}

impl Asked {
    pub const ALL: [Self; 22] = [
        Self::RedisCollection,
        Self::RedisLength,
        Self::RedisPending,
        Self::RedisLag,
        Self::RedisMoved,
        Self::Amqp,
        Self::Postgres,
        Self::Nats,
        Self::Graphite,
        Self::InfluxFlux,
        Self::InfluxRows,
        Self::ServiceBus,
        Self::RedisSignIn,
        Self::RedisMaster,
        Self::NatsServers,
        Self::RabbitMq,
        Self::RabbitMqPage,
        Self::ServiceBusSubscription,
        Self::Sqs,
        Self::SqsError,
        Self::CloudWatch,
        Self::CloudWatchError,
    ];
}

/// Returns the number that a server has sent, who ended the connection then. Of a connection's bytes so many arrive at once.
///
/// # Errors
/// As of a poll.
pub fn read(asked: Asked, sent: &[u8], piece: usize) -> Result<f64, PollError> {
    let node = Node::new("server", "server", 1);
    let auth = Auth { parameters: &Parameters::new(), named: None, namespace: "n" };
    let timeout = Duration::from_secs(60);
    let deadline = Instant::now() + timeout;
    let target = Target { host: &node.host, port: node.port, server: &node.name, timeout, deadline };
    let stream = || Stream::of(target, sent, piece);
    let redis = |talk| redis::talk(stream(), &node, &auth, &talk);
    let size = |size| redis(Talk::Size(size));
    let (name, group) = (|| "s".to_owned(), || "g".to_owned());
    let query = |why: &'static str| failed(ErrorClass::Query, why);
    let bus = |entity| {
        let count = azure_servicebus::read(sent, &entity);
        count.map(Option::unwrap_or_default).map_err(|()| query("is no entry"))
    };
    let reply = |status| Reply { server: node.name.clone(), status, rest: None, body: sent.to_vec() };
    match asked {
        Asked::RedisCollection => size(RedisSize::Collection(name())),
        Asked::RedisLength => size(RedisSize::Length { stream: name() }),
        Asked::RedisPending => size(RedisSize::Pending { stream: name(), group: group() }),
        Asked::RedisLag => size(RedisSize::Lag { stream: name(), group: group() }),
        Asked::RedisMoved => redis(Talk::Moved),
        Asked::Amqp => {
            let question = Question { node: &node, tls: None, user: "u", password: "p", vhost: "/", queue: "q" };
            amqp::talk(stream(), &question)
        }
        Asked::Postgres => postgres::talk(stream(), &node.name, ("u", "p"), || Some(NONCE.to_owned()), "SELECT 1"),
        Asked::Nats => nats::pending(sent, ("a", "s", "c"), &node.name),
        Asked::Graphite => series::newest(sent).map_err(query),
        Asked::InfluxFlux => series::first_of_csv(sent).map_err(query),
        Asked::InfluxRows => series::last_of_rows(sent, "value").map_err(query),
        Asked::ServiceBus => bus(ServiceBusEntity::Queue(name())),
        Asked::ServiceBusSubscription => bus(ServiceBusEntity::Subscription { topic: name(), subscription: name() }),
        Asked::RedisSignIn => redis(Talk::SignIn),
        Asked::RedisMaster => redis(Talk::Master),
        Asked::NatsServers => {
            let others = nats::named(sent, "n2", &nowhere())?;
            let is_elsewhere = |url: &Url| Url::parse(&url.server()).is_ok_and(|url| url.port.is_some());
            Ok(f64::from(u8::from(others.iter().any(is_elsewhere))))
        }
        Asked::RabbitMq => rabbitmq::measure(sent, &rabbit(QueueMeasure::Length, None), &node.name),
        Asked::RabbitMqPage => {
            let regex = QueueRegex { operation: QueueOperation::Sum, page_size: 100 };
            rabbitmq::measure(sent, &rabbit(QueueMeasure::ExpectedConsumptionTime, Some(regex)), &node.name)
        }
        Asked::Sqs => sqs::read(&reply(200), &[sqs::MESSAGES], "q"),
        Asked::SqsError => sqs::read(&reply(400), &[sqs::MESSAGES], "q"),
        Asked::CloudWatch => cloudwatch::read(&reply(200), &cloud_watch()),
        Asked::CloudWatchError => cloudwatch::read(&reply(400), &cloud_watch()),
    }
}

/// A monitoring endpoint without a port.
fn nowhere() -> Url {
    let text = |text: &str| text.to_owned();
    Url { scheme: text("http"), user: None, host: text("server"), port: None, path: text("/"), query: None }
}

fn rabbit(measure: QueueMeasure, regex: Option<QueueRegex>) -> RabbitMqSource {
    RabbitMqSource {
        server: Server::Written("server".to_owned()),
        host: None,
        vhost: None,
        queue: "q".to_owned(),
        measure,
        regex,
        excludes_unacknowledged: false,
        activation: Exact(5.0),
        unsafe_ssl: false,
        timeout: None,
    }
}

fn cloud_watch() -> CloudWatchSource {
    CloudWatchSource {
        server: Server::Written("server".to_owned()),
        endpoint: None,
        region: None,
        account: None,
        metric: CloudWatchMetric::Expression(String::new()),
        period: 300,
        collection_time: 600,
        end_offset: 0,
        ignores_nothing: false,
        min_value: Exact(0.0),
    }
}

/// The user and the password of [`scram`] are those of the example of RFC 7677, and its nonce as well.
pub const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

/// Answers both messages of a server, by SCRAM: returns the final message, and what is wrong with the server's.
///
/// # Errors
/// What is wrong with the first message.
pub fn scram(first: &str, last: &str) -> Result<(String, Option<&'static str>), &'static str> {
    let mut scram = Scram::new(&SHA_256, "user", "pencil", NONCE.to_owned());
    let answer = scram.final_message(first)?;
    Ok((answer, scram.verify(last).err()))
}
