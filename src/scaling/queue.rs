//! Sources that are no HTTP API of metrics: queues and databases, with the parameters of their triggers.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::identity::AzureCloud;

/// A number that equals another with the same bits, so that sources can be compared and hashed.
#[derive(Clone, Copy, Debug)]
pub struct Exact(pub f64);

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Exact {}

impl Hash for Exact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// The server of a query, as far as the trigger itself says where it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// As an address with a scheme, from what the trigger's metadata say.
    Written(String),
    /// An authentication or the workload's environment says it when a poll needs it. The text stands for the server where
    /// polls are bounded, and is the same for triggers that take it from the same place.
    Elsewhere(String),
}

impl Server {
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Written(text) | Self::Elsewhere(text) => text,
        }
    }

    /// Returns the address if the trigger has it.
    #[must_use]
    pub fn written(&self) -> Option<&str> {
        match self {
            Self::Written(text) => Some(text),
            Self::Elsewhere(_) => None,
        }
    }
}

/// A redis trigger of any type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisSource {
    pub server: Server,
    /// `host:port`, of several servers comma-separated, if the metadata have it.
    pub address: Option<String>,
    pub setup: RedisSetup,
    /// `None` if the authentication or the environment has it, or there is no sentinel.
    pub sentinel_master: Option<String>,
    pub size: RedisSize,
    pub database: u32,
    /// `None`: the authentication says whether the connection is encrypted.
    pub tls: Option<bool>,
    pub unsafe_ssl: bool,
}

/// How several servers belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedisSetup {
    Single,
    /// The address is that of one or more nodes, which say where the key is.
    Cluster,
    /// The address is that of one or more sentinels, which say where the master is.
    Sentinel,
}

/// What is counted. Names have no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RedisSize {
    /// The elements of a list, set, sorted set or hash.
    Collection(String),
    /// The entries of a stream.
    Length { stream: String },
    /// Entries that a group got and has not acknowledged.
    Pending { stream: String, group: String },
    /// Entries that a group has not got yet.
    Lag { stream: String, group: String },
}

impl RedisSource {
    /// The type of the triggers that ask this.
    pub(super) fn kind(&self) -> &'static str {
        match (self.setup, matches!(self.size, RedisSize::Collection(_))) {
            (RedisSetup::Single, true) => "redis",
            (RedisSetup::Cluster, true) => "redis-cluster",
            (RedisSetup::Sentinel, true) => "redis-sentinel",
            (RedisSetup::Single, false) => "redis-streams",
            (RedisSetup::Cluster, false) => "redis-cluster-streams",
            (RedisSetup::Sentinel, false) => "redis-sentinel-streams",
        }
    }
}

impl RedisSize {
    /// The name of the key.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Collection(name)
            | Self::Length { stream: name }
            | Self::Pending { stream: name, .. }
            | Self::Lag { stream: name, .. } => name,
        }
    }
}

/// A nats-jetstream trigger: messages that a consumer has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NatsSource {
    pub server: Server,
    /// `host:port` of the monitoring endpoint, if the metadata have it.
    pub endpoint: Option<String>,
    pub https: bool,
    /// Name or id; `None` if the authentication has it.
    pub account: Option<String>,
    pub stream: String,
    pub consumer: String,
}

/// A rabbitmq trigger, over the management API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RabbitMqSource {
    pub server: Server,
    /// `http(s)://host:port/path/vhost` or `amqp(s)://host:port/vhost`, if the metadata have it.
    pub host: Option<String>,
    pub vhost: Option<String>,
    pub queue: String,
    pub measure: QueueMeasure,
    /// Of what several queues have together if `queue` is a regular expression.
    pub regex: Option<QueueRegex>,
    pub excludes_unacknowledged: bool,
    /// Some measures are active with messages in the queue, whatever their own value.
    pub activation: Exact,
    pub unsafe_ssl: bool,
    pub timeout: Option<Duration>,
}

/// Of the management API, and of AMQP.
pub const RABBITMQ_SCHEMES: [&str; 4] = ["http", "https", "amqp", "amqps"];

impl RabbitMqSource {
    /// Returns whether more is asked than AMQP knows: the messages of one queue that are ready.
    #[must_use]
    pub fn needs_management_api(&self) -> bool {
        self.regex.is_some() || self.excludes_unacknowledged || self.measure != QueueMeasure::Length
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueMeasure {
    Length,
    MessageRate,
    DeliverGetRate,
    PublishedToDeliveredRatio,
    ExpectedConsumptionTime,
}

/// By how much the number of a queue is raised above the activation value where the queue is active for another reason
/// than that number. It is worth no replica beyond the first.
pub(super) const ABOVE_ACTIVATION: f64 = 0.001;

impl QueueMeasure {
    /// Returns the number of a RabbitMQ queue, from its messages and from its messages published and delivered a second.
    /// As in KEDA, messages that wait make a trigger active although nothing is published, or nothing is delivered.
    #[must_use]
    pub fn number(self, messages: f64, published: f64, delivered: f64, activation: f64) -> f64 {
        let active = |number: f64| if number > activation { number } else { activation + ABOVE_ACTIVATION };
        match self {
            Self::Length => messages,
            Self::MessageRate if messages > activation => active(published),
            Self::MessageRate => published,
            Self::DeliverGetRate => delivered,
            Self::PublishedToDeliveredRatio if published <= 0.0 => 0.0,
            Self::PublishedToDeliveredRatio if delivered > 0.0 => published / delivered,
            Self::PublishedToDeliveredRatio => active(activation),
            Self::ExpectedConsumptionTime if messages <= 0.0 => 0.0,
            Self::ExpectedConsumptionTime if delivered > 0.0 => {
                (published - delivered) / delivered + messages / delivered
            }
            Self::ExpectedConsumptionTime => active(activation),
        }
    }
}

/// What is made of all queues whose names match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueRegex {
    pub operation: QueueOperation,
    /// As many queues may match.
    pub page_size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueOperation {
    Sum,
    Average,
    Max,
}

/// A postgresql trigger: the number that a query returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PostgresSource {
    pub server: Server,
    pub query: String,
    /// What the metadata have of `host`, `port`, `userName`, `dbName` and `sslmode`; an authentication stands above them.
    pub host: Option<String>,
    pub port: Option<String>,
    pub user: Option<String>,
    pub database: Option<String>,
    pub ssl_mode: Option<String>,
}

/// An aws-sqs-queue trigger: messages in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SqsSource {
    /// `scheme://host:port` of the service.
    pub server: Server,
    /// Where requests are sent, with a path.
    pub endpoint: Option<String>,
    /// URL or name; `None` if the workload's environment has it.
    pub queue: Option<String>,
    pub region: Option<String>,
    pub in_flight: bool,
    pub delayed: bool,
}

/// An azure-servicebus trigger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceBusSource {
    pub server: Server,
    /// For an identity of the pod's own, a part of a host's name.
    pub namespace: Option<String>,
    pub cloud: AzureCloud,
    pub entity: ServiceBusEntity,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceBusEntity {
    Queue(String),
    Subscription { topic: String, subscription: String },
}

impl ServiceBusEntity {
    /// Its last name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Subscription { subscription: name, .. } => name,
        }
    }
}

impl fmt::Display for ServiceBusEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {queue}"),
            Self::Subscription { topic, subscription } => write!(f, "subscription {subscription} of a topic {topic}"),
        }
    }
}

/// A graphite trigger: the newest value of a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GraphiteSource {
    /// Base URL.
    pub server_address: String,
    pub query: String,
    /// Since when, in Graphite's words.
    pub from: String,
    pub is_basic: bool,
}

/// An influxdb trigger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InfluxSource {
    pub server: Server,
    /// Base URL, if the metadata have it.
    pub server_url: Option<String>,
    pub query: String,
    pub api: InfluxApi,
    pub unsafe_ssl: bool,
}

/// Names are `None` if the authentication or the environment has them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InfluxApi {
    Flux { organization: Option<String> },
    Version3 { database: Option<String>, metric_key: String, is_sql: bool },
}

/// An aws-cloudwatch trigger: the newest value of a metric or an expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloudWatchSource {
    /// `scheme://host:port` of the service.
    pub server: Server,
    /// Where requests are sent, with a path.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub account: Option<String>,
    pub metric: CloudWatchMetric,
    /// Seconds that a value stands for, not 0.
    pub period: u32,
    /// How far back to look, in seconds.
    pub collection_time: u32,
    /// Seconds before now that are left out.
    pub end_offset: u32,
    /// An answer without a value counts as `min_value`.
    pub ignores_nothing: bool,
    pub min_value: Exact,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CloudWatchMetric {
    Expression(String),
    Metric {
        namespace: String,
        name: String,
        dimensions: Vec<(String, String)>,
        statistic: String,
        unit: Option<String>,
    },
}
