//! Where a trigger's number comes from, and the meaning of an answer without one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cron::Window;
use super::identity::{AzureCloud, PodIdentity};
use super::kafka::KafkaSource;
use super::pod_metric::{POLL_MAX, PodMetricSource};
use super::queue::{
    CloudWatchMetric, CloudWatchSource, GraphiteSource, InfluxSource, NatsSource, PostgresSource, RabbitMqSource,
    RedisSource, Server, ServiceBusSource, SqsSource,
};

/// Where a trigger's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The clock: nothing is queried.
    Cron(Arc<Window>),
    /// Pods of the object's own namespace, counted by a watch.
    Pods(PodSelection),
    /// A server that is asked.
    Query(Query),
    /// The HPA controller, which asks by itself: only what it shows in the HPA's status is known.
    Shown(ShownMetric),
}

/// A metric that an HPA controller shows in the status of an HPA.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownMetric {
    /// Which one, for example `Pods http_requests{verb=get}`.
    pub what: Arc<str>,
    pub unit: ShownUnit,
}

/// What its values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownUnit {
    /// The whole, or what the controller found to be the average of the pods.
    Plain,
    /// The whole, divided by the replicas and rounded up to thousandths.
    Share,
    /// Percent of what the pods request.
    Percent,
}

/// Who answers for such a metric, in the history.
const HPA_CONTROLLER: &str = "HPA controller";

impl Source {
    /// Returns the query, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&Query> {
        match self {
            Self::Cron(_) | Self::Pods(_) | Self::Shown(_) => None,
            Self::Query(query) => Some(query),
        }
    }

    /// Returns server and query for the history; both empty if nothing is queried.
    #[must_use]
    pub fn shown(&self) -> (String, String) {
        match self {
            Self::Cron(_) => Default::default(),
            Self::Pods(selection) => (String::new(), selection.selector.to_string()),
            Self::Query(query) => query.shown(),
            Self::Shown(metric) => (HPA_CONTROLLER.to_owned(), metric.what.to_string()),
        }
    }
}

/// The pods of a namespace that are counted: as for KEDA's kubernetes-workload trigger, those that neither succeeded
/// nor failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodSelection {
    /// Label selector, valid.
    pub selector: Arc<str>,
    /// Counts the distinct nodes of the pods instead.
    pub group_by_node: bool,
}

/// Upper bound on timeouts, since a server that hangs occupies a place among the polls in flight. KEDA has no bound; after 30 s, the usual polling
/// interval, an answer would be late in any case.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// What a server is asked. One variant a kind of server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    Prometheus(Arc<PrometheusSource>),
    /// Its API is that of Prometheus at another path.
    Loki(Arc<PrometheusSource>),
    MetricsApi(Arc<MetricsApiSource>),
    Redis(Arc<RedisSource>),
    Nats(Arc<NatsSource>),
    RabbitMq(Arc<RabbitMqSource>),
    Postgres(Arc<PostgresSource>),
    Sqs(Arc<SqsSource>),
    CloudWatch(Arc<CloudWatchSource>),
    Kafka(Arc<KafkaSource>),
    ServiceBus(Arc<ServiceBusSource>),
    Graphite(Arc<GraphiteSource>),
    Influx(Arc<InfluxSource>),
    /// The API server, whose answer is read as a parameter.
    Resource(Arc<ResourceSource>),
    /// The pods of a workload, each for itself.
    PodMetric(Arc<PodMetricSource>),
}

impl Query {
    /// The address of the server, or the place that says it.
    #[must_use]
    pub fn server(&self) -> &str {
        match self {
            Self::Prometheus(source) | Self::Loki(source) => {
                source.authentication.as_deref().unwrap_or(&source.server_address)
            }
            Self::MetricsApi(source) => &source.server,
            Self::Graphite(source) => &source.server_address,
            Self::PodMetric(source) => &source.whose,
            _ => self.place().map_or("", Server::as_str),
        }
    }

    /// Returns the address that the trigger itself says, to which values of an authentication would be sent.
    #[must_use]
    pub fn written_server(&self) -> Option<&str> {
        match (self, self.place()) {
            (Self::Prometheus(source), _) if source.authentication.is_some() => None,
            (_, None) => Some(self.server()),
            (_, Some(place)) => place.written(),
        }
    }

    fn place(&self) -> Option<&Server> {
        match self {
            Self::Prometheus(_) | Self::Loki(_) | Self::MetricsApi(_) | Self::Graphite(_) | Self::PodMetric(_) => None,
            Self::Redis(source) => Some(&source.server),
            Self::Nats(source) => Some(&source.server),
            Self::RabbitMq(source) => Some(&source.server),
            Self::Postgres(source) => Some(&source.server),
            Self::Sqs(source) => Some(&source.server),
            Self::CloudWatch(source) => Some(&source.server),
            Self::Kafka(source) => Some(&source.server),
            Self::ServiceBus(source) => Some(&source.server),
            Self::Influx(source) => Some(&source.server),
            Self::Resource(source) => Some(&source.server),
        }
    }

    /// The type of the triggers that ask it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Prometheus(_) => "prometheus",
            Self::Loki(_) => "loki",
            Self::MetricsApi(_) => "metrics-api",
            Self::Redis(source) => source.kind(),
            Self::Nats(_) => "nats-jetstream",
            Self::RabbitMq(_) => "rabbitmq",
            Self::Postgres(_) => "postgresql",
            Self::Sqs(_) => "aws-sqs-queue",
            Self::CloudWatch(_) => "aws-cloudwatch",
            Self::Kafka(source) => source.kind,
            Self::ServiceBus(_) => "azure-servicebus",
            Self::Graphite(_) => "graphite",
            Self::Influx(_) => "influxdb",
            Self::Resource(_) => "kubernetes-resource",
            Self::PodMetric(_) => "json-path",
        }
    }

    /// Whether asking it blocks a thread: its protocol is not HTTP, or it takes several requests.
    #[must_use]
    pub fn blocks(&self) -> bool {
        match self {
            Self::Prometheus(_) | Self::Loki(_) => false,
            Self::MetricsApi(source) => source.aggregation.is_some(),
            _ => true,
        }
    }

    /// Returns why the query cannot prove this identity, as the end of a sentence about `podIdentity`.
    #[must_use]
    pub fn refusal(&self, identity: &PodIdentity) -> Option<String> {
        let (kind, provider) = (self.kind(), identity.provider());
        match (self, identity) {
            (Self::Prometheus(source), _) if source.auth_modes.is_empty() => None,
            (Self::Prometheus(_), _) => {
                Some("takes the place of authModes, so remove them from the trigger".to_owned())
            }
            (Self::Sqs(_) | Self::CloudWatch(_), PodIdentity::Aws { .. }) => None,
            (Self::ServiceBus(_), PodIdentity::AzureWorkload { .. }) => None,
            _ => Some(format!("{provider} is of no use to a {kind} trigger, so name an authentication without it")),
        }
    }

    /// Timeout of the whole exchange; `None` means the process-wide default.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Prometheus(source) | Self::Loki(source) => source.timeout,
            Self::MetricsApi(source) => source.timeout,
            Self::RabbitMq(source) => source.timeout,
            // Of all pods together.
            Self::PodMetric(_) => Some(POLL_MAX),
            _ => None,
        }
    }

    /// Returns server and query for the history, without user, password and parameters, which may be secret.
    #[must_use]
    pub fn shown(&self) -> (String, String) {
        let place = |server: &Server| server.written().map(without_secrets).unwrap_or_default();
        match self {
            Self::Prometheus(source) | Self::Loki(source) => (source.shown_server(), source.query.clone()),
            Self::MetricsApi(source) => (without_secrets(&source.url), source.value_location.clone()),
            Self::Redis(source) => (place(&source.server), source.size.key().to_owned()),
            Self::Nats(source) => (place(&source.server), format!("{}/{}", source.stream, source.consumer)),
            Self::RabbitMq(source) => (place(&source.server), source.queue.clone()),
            Self::Postgres(source) => (place(&source.server), source.query.clone()),
            Self::Sqs(source) => (place(&source.server), source.queue.clone().unwrap_or_default()),
            Self::CloudWatch(source) => (place(&source.server), self.what().to_owned()),
            Self::Kafka(source) => (place(&source.server), source.shown()),
            Self::ServiceBus(source) => (place(&source.server), source.entity.name().to_owned()),
            Self::Graphite(source) => (without_secrets(&source.server_address), source.query.clone()),
            Self::Influx(source) => (place(&source.server), source.query.clone()),
            Self::Resource(source) => (String::new(), source.to_string()),
            Self::PodMetric(source) => (source.whose.clone(), source.json_key.clone()),
        }
    }

    /// Returns what the log shows of it: what is asked for, without the server.
    #[must_use]
    pub fn what(&self) -> &str {
        match self {
            Self::Prometheus(source) | Self::Loki(source) => &source.query,
            Self::MetricsApi(source) => &source.value_location,
            Self::Redis(source) => source.size.key(),
            Self::Nats(source) => &source.consumer,
            Self::RabbitMq(source) => &source.queue,
            Self::Postgres(source) => &source.query,
            Self::Sqs(source) => source.queue.as_deref().unwrap_or_default(),
            Self::ServiceBus(source) => source.entity.name(),
            Self::Graphite(source) => &source.query,
            Self::Influx(source) => &source.query,
            Self::Resource(source) => &source.name,
            Self::PodMetric(source) => &source.json_key,
            Self::Kafka(source) => source.topics.as_deref().or(source.group.as_deref()).unwrap_or_default(),
            Self::CloudWatch(source) => match &source.metric {
                CloudWatchMetric::Expression(text) | CloudWatchMetric::Metric { name: text, .. } => text,
            },
        }
    }
}

pub(super) fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let (scheme, rest) = url.split_once("://").map_or((None, url), |(scheme, rest)| (Some(scheme), rest));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    scheme.map_or_else(|| format!("{host}{path}"), |scheme| format!("{scheme}://{host}{path}"))
}

/// The parameters of a prometheus trigger that come from its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PrometheusSource {
    /// Base URL without a trailing slash, e.g. `http://prometheus.monitoring:9090`. Empty if only `authentication` can
    /// give it.
    pub server_address: String,
    /// The authentication, if the trigger says no address itself: what it says goes before `server_address`, which is
    /// then the one that is named for all.
    pub authentication: Option<Box<str>>,
    pub query: String,
    /// `namespace` parameter of multi-tenant servers such as Thanos behind a proxy.
    pub namespace: Option<String>,
    pub custom_headers: Vec<(String, String)>,
    pub query_parameters: Vec<(String, String)>,
    /// `onPartial: accept`: an answer that the server calls incomplete is treated like any other.
    pub accepts_partial: bool,
    pub unsafe_ssl: bool,
    /// Time limit for request and response, at most [`TIMEOUT_MAX`]; `None` means the process-wide default (3 s).
    pub timeout: Option<Duration>,
    pub auth_modes: Vec<AuthMode>,
    /// What stands before `/api/v1` in the path: empty, or `/loki`.
    pub api: &'static str,
    /// Where Amazon's service is, for a request that is signed.
    pub aws_region: Option<String>,
    /// Where Azure's service is, for a token.
    pub azure_cloud: AzureCloud,
}

impl PrometheusSource {
    /// The parameter by which an authentication says where the server is.
    pub const ADDRESS: &str = "serverAddress";

    /// Returns where the server is for the history, as far as the trigger says it.
    fn shown_server(&self) -> String {
        let written = without_secrets(&self.server_address);
        match &self.authentication {
            None => written,
            Some(authentication) if written.is_empty() => authentication.to_string(),
            Some(authentication) => format!("{authentication}, or {written}"),
        }
    }
}

/// The parameters of a metrics-api trigger that come from its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricsApiSource {
    /// `scheme://host:port` of the `url`, as written.
    pub server: String,
    pub url: String,
    pub format: BodyFormat,
    /// Where in the body the number is; the syntax depends on the format.
    pub value_location: String,
    pub unsafe_ssl: bool,
    /// Time limit for all endpoints together, at most [`TIMEOUT_MAX`]; `None` means the process-wide default (3 s).
    pub timeout: Option<Duration>,
    /// Empty if they come from the authentication, if from anywhere.
    pub auth_modes: Vec<AuthMode>,
    pub api_key: ApiKey,
    /// Queries every ready endpoint of the Service in the URL, and aggregates their answers into one number.
    pub aggregation: Option<ServiceAggregation>,
}

/// A kubernetes-resource trigger: a number in a ConfigMap or a Secret of the object's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceSource {
    pub server: Server,
    pub is_secret: bool,
    pub name: String,
    pub key: String,
    /// Where the number is in a document; `None` if it is all of the text.
    pub location: Option<(BodyFormat, String)>,
    /// Its fraction is cut off.
    pub is_whole: bool,
}

impl ResourceSource {
    /// The name under which its text is read.
    pub const PARAMETER: &str = "key";
}

impl fmt::Display for ResourceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} of {} {}", self.key, if self.is_secret { "Secret" } else { "ConfigMap" }, self.name)
    }
}

/// What mode `apiKey` sends, as far as the metadata specify it; the rest comes from the authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ApiKey {
    pub key: Option<String>,
    pub place: Option<ApiKeyPlace>,
    /// Name of the header or the query parameter.
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiKeyPlace {
    Header,
    Query,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyFormat {
    Json,
    Prometheus,
    Xml,
    Yaml,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAggregation {
    pub namespace: String,
    pub service: String,
    pub function: AggregationFunction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregationFunction {
    Average,
    Sum,
    Max,
    Min,
}

/// Modes that change the request. As in KEDA, a prometheus trigger accepts `apiKey`, which changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMode {
    ApiKey,
    Basic,
    Tls,
    Bearer,
    Custom,
    OAuth,
}

/// The meaning of a result without a usable number: no series, null, NaN or infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// `ignoreNullValues: true` (the default): no series means 0; a null, NaN or infinity is an error.
    EmptyIsZero,
    /// `onMissing: zero`: all of them mean 0.
    Zero,
    /// `ignoreNullValues: false` or `onMissing: error`.
    Error,
    /// `onMissing: hold`: the last good value while it is not older than this, then an error.
    Hold(Duration),
}

impl OnMissing {
    /// Returns true if an answer without a number may count as 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::EmptyIsZero | Self::Zero)
    }

    /// What an answer without a number counts as, if it is not an error.
    #[must_use]
    pub fn reads(&self) -> &'static str {
        match self {
            Self::EmptyIsZero => "which reads as 0 (ignoreNullValues)",
            Self::Zero => "which reads as 0 (onMissing: zero)",
            Self::Hold(_) => "for which the last value stands in (onMissing: hold)",
            Self::Error => "which is an error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_is_shown() {
        for (url, shown) in [
            ("http://prometheus:9090", "http://prometheus:9090"),
            ("https://user:p@ss@host:9/a@b?token=x#y", "https://host:9/a@b"),
            ("https://host?apikey=x/y", "https://host"),
            ("user:pw@host/path", "host/path"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
