//! What a trigger's number comes from, and what an answer without one means.

use std::sync::Arc;
use std::time::Duration;

use super::cron::Window;

/// Where a trigger's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The clock: nobody is asked.
    Cron(Arc<Window>),
    /// Pods of the object's own namespace, counted from a watch.
    Pods(PodSelection),
    /// A server that is asked.
    Query(Query),
}

impl Source {
    /// What must be asked, if anything.
    #[must_use]
    pub fn query(&self) -> Option<&Query> {
        match self {
            Self::Cron(_) | Self::Pods(_) => None,
            Self::Query(query) => Some(query),
        }
    }

    /// Server and query for the history; both empty where nobody is asked.
    #[must_use]
    pub fn shown(&self) -> (String, String) {
        match self {
            Self::Cron(_) => Default::default(),
            Self::Pods(selection) => (String::new(), selection.selector.to_string()),
            Self::Query(query) => query.shown(),
        }
    }
}

/// Which pods of a namespace are counted: those that neither succeeded nor failed, as the
/// kubernetes-workload trigger has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodSelection {
    /// Label selector, valid.
    pub selector: Arc<str>,
    /// Counts the distinct nodes that run them instead.
    pub group_by_node: bool,
}

/// The longest that a server may be waited for: what hangs holds a worker for so long. KEDA has no bound; beyond 30 s,
/// the usual polling interval, an answer would be late whenever it came.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// What a server is asked. One variant a kind of server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    Prometheus(Arc<PrometheusSource>),
    MetricsApi(Arc<MetricsApiSource>),
}

impl Query {
    /// What bounds requests in flight: the peer that is asked.
    #[must_use]
    pub fn server(&self) -> &str {
        match self {
            Self::Prometheus(source) => &source.server_address,
            Self::MetricsApi(source) => &source.server,
        }
    }

    /// Of the whole exchange; `None` takes the process-wide default.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Prometheus(source) => source.timeout,
            Self::MetricsApi(source) => source.timeout,
        }
    }

    /// For the history: without user, password and parameters, which may be secret.
    #[must_use]
    pub fn shown(&self) -> (String, String) {
        match self {
            Self::Prometheus(source) => (without_secrets(&source.server_address), source.query.clone()),
            Self::MetricsApi(source) => (without_secrets(&source.url), source.value_location.clone()),
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

/// The prometheus trigger's own parameters, all from trigger metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrometheusSource {
    /// Base URL without a trailing slash, e.g. `http://prometheus.monitoring:9090`.
    pub server_address: String,
    pub query: String,
    /// `namespace` parameter of multi-tenant servers such as Thanos behind a proxy.
    pub namespace: Option<String>,
    pub custom_headers: Vec<(String, String)>,
    pub query_parameters: Vec<(String, String)>,
    /// `onPartial: accept`: an answer that the server calls incomplete is one like any other.
    pub accepts_partial: bool,
    pub unsafe_ssl: bool,
    /// Whole exchange, at most [`TIMEOUT_MAX`]; `None` takes the process-wide default (3 s).
    pub timeout: Option<Duration>,
    pub auth_modes: Vec<AuthMode>,
}

/// The metrics-api trigger's own parameters, all from trigger metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricsApiSource {
    /// Of the `url`: `scheme://host:port` as written.
    pub server: String,
    pub url: String,
    pub format: BodyFormat,
    /// Where in the body the number is; its syntax depends on the format.
    pub value_location: String,
    pub unsafe_ssl: bool,
    /// Of all endpoints together, at most [`TIMEOUT_MAX`]; `None` takes the process-wide default (3 s).
    pub timeout: Option<Duration>,
    /// Empty when they come from the authentication, if from anywhere.
    pub auth_modes: Vec<AuthMode>,
    pub api_key: ApiKey,
    /// Asks every ready endpoint of the Service that is the URL's host, and makes one number of their answers.
    pub aggregation: Option<ServiceAggregation>,
}

/// What mode `apiKey` sends, as far as the metadata says it; the rest comes from the authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ApiKey {
    pub key: Option<String>,
    pub place: Option<ApiKeyPlace>,
    /// Of the header or the query parameter.
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

/// Modes that change the request. A prometheus trigger accepts `apiKey` and `oauth`, which change nothing, as in KEDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMode {
    ApiKey,
    Basic,
    Tls,
    Bearer,
    Custom,
    OAuth,
}

/// What a result without a usable number means: no series, null, NaN or infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// `ignoreNullValues: true` (the default): no series is 0; a null, NaN or infinity is an error.
    EmptyIsZero,
    /// `onMissing: zero`: all of them are 0.
    Zero,
    /// `ignoreNullValues: false` or `onMissing: error`.
    Error,
    /// `onMissing: hold`: the last good value up to this age, then an error.
    Hold(Duration),
}

impl OnMissing {
    /// An answer without a number may count as 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::EmptyIsZero | Self::Zero)
    }

    /// What an answer without a number counts as, where it is no error.
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
