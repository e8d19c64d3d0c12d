//! Reads what queues and databases send from memory, so that fuzzing reaches the readers behind their connections.

use std::time::{Duration, Instant};

use super::amqp::{self, Question};
use super::scram::{SHA_256, Scram};
use super::{Node, azure_servicebus, nats, postgres, redis, series};
use crate::polling::auth::Auth;
use crate::polling::stream::{Stream, Target};
use crate::polling::{Parameters, failed};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{RedisSize, ServiceBusEntity};

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
}

impl Asked {
    pub const ALL: [Self; 12] = [
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
    let redis = |size: Option<RedisSize>| redis::talk(stream(), &node, &auth, size.as_ref());
    let (name, group) = (|| "s".to_owned(), || "g".to_owned());
    let query = |why: &'static str| failed(ErrorClass::Query, why);
    match asked {
        Asked::RedisCollection => redis(Some(RedisSize::Collection(name()))),
        Asked::RedisLength => redis(Some(RedisSize::Length { stream: name() })),
        Asked::RedisPending => redis(Some(RedisSize::Pending { stream: name(), group: group() })),
        Asked::RedisLag => redis(Some(RedisSize::Lag { stream: name(), group: group() })),
        Asked::RedisMoved => redis(None),
        Asked::Amqp => {
            let question = Question { node: &node, tls: None, user: "u", password: "p", vhost: "/", queue: "q" };
            amqp::talk(stream(), &question)
        }
        Asked::Postgres => postgres::talk(stream(), &node.name, ("u", "p"), "SELECT 1"),
        Asked::Nats => nats::pending(sent, ("a", "s", "c"), &node.name),
        Asked::Graphite => series::newest(sent).map_err(query),
        Asked::InfluxFlux => series::first_of_csv(sent).map_err(query),
        Asked::InfluxRows => series::last_of_rows(sent, "value").map_err(query),
        Asked::ServiceBus => {
            let count = azure_servicebus::read(sent, &ServiceBusEntity::Queue(name()));
            count.map(Option::unwrap_or_default).map_err(|()| query("is no entry"))
        }
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
