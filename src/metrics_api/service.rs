//! Queries one server for a number, or every ready endpoint of a Service for an aggregate.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::answer;
use super::request::{build, unusable};
use crate::formats::url::Url;
use crate::polling::credentials::{FetchError, FetchErrorKind};
use crate::polling::transport::{AT_ONCE, Reply, Transport};
use crate::polling::{Parameters, failed};
use crate::scaling::event::{Answer, ErrorClass, PollError};
use crate::scaling::model::{AggregationFunction, MetricsApiSource, ServiceAggregation};
use crate::workers::each;

/// Looks up the endpoints of Services. Calls block and have their own time limits.
pub trait ServiceSource: Send + Sync {
    /// # Errors
    /// `NotFound` if there is no such Service.
    fn endpoints(&self, namespace: &str, service: &str) -> Result<Endpoints, FetchError>;
}

/// The parts of a Service that determine its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Names and numbers of the Service's ports.
    pub ports: Vec<(String, u16)>,
    pub slices: Vec<Slice>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Names of the Service's ports, and the pods' port numbers.
    pub ports: Vec<(String, u16)>,
    /// Addresses of ready endpoints; IPv6 without brackets.
    pub ready: Vec<String>,
}

impl Endpoints {
    /// Returns the URL with each ready address in place of the Service; sorted, without duplicates.
    ///
    /// The URL's port is the Service's, which is mapped to the pods' port. A port that the Service does not have is
    /// used directly, as in KEDA. Without a port the scheme decides: by its default port, then by its name.
    fn urls(&self, url: &Url) -> Vec<Url> {
        let usual = if url.scheme == "https" { 443 } else { 80 };
        let wanted = url.port.unwrap_or(usual);
        let name = self.ports.iter().find(|(_, port)| *port == wanted).map(|(name, _)| name.as_str());
        let mut found = BTreeSet::new();
        for slice in &self.slices {
            let named = |name: &str| slice.ports.iter().find(|(known, _)| known == name).map(|(_, port)| *port);
            let port = match (name, url.port) {
                (Some(name), _) => named(name),
                (None, Some(port)) => Some(port),
                (None, None) => named(&url.scheme).or(match slice.ports[..] {
                    [(_, port)] => Some(port),
                    _ => None,
                }),
            };
            found.extend(port.into_iter().flat_map(|port| slice.ready.iter().map(move |address| (address, port))));
        }
        found
            .into_iter()
            .map(|(address, port)| Url {
                host: if address.contains(':') { format!("[{address}]") } else { address.clone() },
                port: Some(port),
                ..url.clone()
            })
            .collect()
    }
}

/// Queries a source within its time limit, and calls `done` with the answer. Does not block for a single server; for a
/// Service it blocks to list the endpoints and to query them.
pub fn ask(
    transport: &Transport,
    services: &dyn ServiceSource,
    source: Arc<MetricsApiSource>,
    authentication: Option<&str>,
    parameters: &Parameters,
    done: impl FnOnce(Answer) + Send + 'static,
) {
    let end = |result: Result<f64, PollError>| done(result.map_or_else(Answer::Failed, Answer::Value));
    let url = match Url::parse(&source.url) {
        Ok(url) => url,
        Err(what) => return end(Err(unusable(&what))),
    };
    if let Some(aggregation) = &source.aggregation {
        return end(ask_all(transport, services, &source, aggregation, &url, authentication, parameters));
    }
    match build(&source, &url, authentication, parameters) {
        Ok(request) => {
            let timeout = source.timeout;
            let read = move |reply: Reply| read(&reply, &url, &source);
            transport.ask(request, timeout, read, |result| end(result.and_then(|number| number)));
        }
        Err(error) => end(Err(error)),
    }
}

fn read(reply: &Reply, url: &Url, source: &MetricsApiSource) -> Result<f64, PollError> {
    let asked = format!("{}{}", reply.server, url.path);
    answer::parse(&asked, reply.status, &reply.body, source.format, &source.value_location)
}

fn ask_all(
    transport: &Transport,
    services: &dyn ServiceSource,
    source: &MetricsApiSource,
    aggregation: &ServiceAggregation,
    url: &Url,
    authentication: Option<&str>,
    parameters: &Parameters,
) -> Result<f64, PollError> {
    let urls = endpoints(services, aggregation)?.urls(url);
    if urls.is_empty() {
        let ServiceAggregation { namespace, service, .. } = aggregation;
        let message = format!("Service {namespace}/{service} has no ready endpoint with the port of the url");
        return Err(failed(ErrorClass::Connect, message));
    }
    let limit = transport.limit(source.timeout);
    let deadline = Instant::now() + limit;
    let one = |url: &Url| {
        let request = build(source, url, authentication, parameters)?;
        transport.exchange(request, limit, deadline, |reply| read(&reply, url, source))?
    };
    aggregate(aggregation.function, all(&urls, deadline, &one))
}

fn endpoints(services: &dyn ServiceSource, aggregation: &ServiceAggregation) -> Result<Endpoints, PollError> {
    let ServiceAggregation { namespace, service, .. } = aggregation;
    services.endpoints(namespace, service).map_err(|error| {
        let message = match error.kind {
            FetchErrorKind::NotFound => format!("Service {namespace}/{service} does not exist"),
            FetchErrorKind::Other => {
                format!("cannot read the endpoints of Service {namespace}/{service}: {}", error.message)
            }
        };
        failed(ErrorClass::Configuration, message)
    })
}

/// Queries all endpoints, several at once, until the deadline. Returns one result each.
fn all(
    urls: &[Url],
    deadline: Instant,
    one: &(impl Fn(&Url) -> Result<f64, PollError> + Sync),
) -> Vec<Result<f64, PollError>> {
    each(urls, AT_ONCE, &|url: &Url| {
        if Instant::now() < deadline {
            return one(url);
        }
        let message = format!("{} was not reached in the time that all endpoints have together", url.server());
        Err(failed(ErrorClass::Timeout, message))
    })
}

/// A missing endpoint is an error: a sum without its share is too small, which scales in, and it may have the maximum
/// or the minimum. For an average, four in five suffice, since pods come and go.
fn aggregate(function: AggregationFunction, results: Vec<Result<f64, PollError>>) -> Result<f64, PollError> {
    let count = results.len();
    let (values, errors): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let values: Vec<f64> = values.into_iter().filter_map(Result::ok).collect();
    let is_enough = match function {
        AggregationFunction::Average => !values.is_empty() && values.len() * 5 >= count * 4,
        AggregationFunction::Sum | AggregationFunction::Max | AggregationFunction::Min => errors.is_empty(),
    };
    if !is_enough {
        // The error is the same whichever was first, and does not count the failures, which would make each text new.
        let first = errors.into_iter().filter_map(Result::err).min_by(|a, b| a.message.cmp(&b.message));
        let first = first.unwrap_or_else(|| failed(ErrorClass::Timeout, "nobody was asked"));
        let message = format!("not enough of {count} endpoints answered with a number: {}", first.message);
        return Err(failed(first.class, message));
    }
    let value = match function {
        AggregationFunction::Sum => values.iter().sum(),
        AggregationFunction::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        AggregationFunction::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
        // Dividing first avoids an overflow of the sum.
        #[expect(clippy::cast_precision_loss)]
        AggregationFunction::Average => values.iter().map(|value| value / values.len() as f64).sum::<f64>(),
    };
    if value.is_finite() { Ok(value) } else { Err(failed(ErrorClass::Query, "the sum of all endpoints is infinite")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn endpoints() -> Endpoints {
        let ports = |http, admin| vec![("http".to_owned(), http), ("admin".to_owned(), admin)];
        Endpoints {
            ports: ports(80, 9000),
            slices: vec![
                Slice { ports: ports(8080, 9001), ready: vec!["10.0.0.2".to_owned(), "10.0.0.1".to_owned()] },
                Slice { ports: ports(8081, 9001), ready: vec!["fd00::1".to_owned()] },
                Slice { ports: ports(8080, 9001), ready: vec!["10.0.0.1".to_owned()] },
            ],
        }
    }

    #[test]
    fn urls_of_endpoints() {
        let urls = |endpoints: &Endpoints, url: &str| -> Vec<String> {
            let found = endpoints.urls(&Url::parse(url).unwrap());
            found.iter().map(|url| format!("{}{}", url.server(), url.path)).collect()
        };
        let all = endpoints();
        let expected = ["http://10.0.0.1:8080/m", "http://10.0.0.2:8080/m", "http://[fd00::1]:8081/m"];
        assert_eq!(urls(&all, "http://api.shop/m"), expected);
        assert_eq!(urls(&all, "http://api.shop:80/m"), expected);
        assert_eq!(urls(&all, "http://api.shop:9000/m")[2], "http://[fd00::1]:9001/m");
        assert_eq!(urls(&all, "http://api.shop:7000/m")[0], "http://10.0.0.1:7000/m");
        assert_eq!(urls(&all, "https://api.shop/m"), [""; 0], "no port 443, and two that could be meant");
        let mut one = endpoints();
        one.slices.iter_mut().for_each(|slice| slice.ports.truncate(1));
        one.ports = vec![("x".to_owned(), 81)];
        assert_eq!(urls(&one, "https://api.shop/m")[0], "https://10.0.0.1:8080/m");
    }

    #[test]
    fn one_number_of_many() {
        use AggregationFunction::{Average, Max, Min, Sum};
        let fault = |text: &str| Err(failed(ErrorClass::Connect, text));
        let some = || vec![Ok(2.0), fault("b"), Ok(4.0), Ok(9.0)];
        for (function, expected) in [(Average, 5.0), (Sum, 15.0), (Max, 9.0), (Min, 2.0)] {
            assert_eq!(aggregate(function, vec![Ok(2.0), Ok(4.0), Ok(9.0)]), Ok(expected), "{function:?}");
            // An error holds the replicas; a partial aggregate would scale in.
            let error = aggregate(function, some()).unwrap_err();
            assert_eq!(error.message, "not enough of 4 endpoints answered with a number: b", "{function:?}");
        }
        let four_in_five = || vec![Ok(2.0), fault("b"), Ok(4.0), Ok(9.0), Ok(5.0)];
        assert_eq!(aggregate(Average, four_in_five()), Ok(5.0));
        assert!([Sum, Max, Min].into_iter().all(|function| aggregate(function, four_in_five()).is_err()));
        let error = aggregate(Sum, vec![fault("b"), fault("a")]).unwrap_err();
        assert_eq!(error.message, "not enough of 2 endpoints answered with a number: a");
        assert_eq!(aggregate(Average, Vec::new()).unwrap_err().class, ErrorClass::Timeout);
        assert!(aggregate(Sum, vec![Ok(f64::MAX), Ok(f64::MAX)]).is_err());
        assert_eq!(aggregate(Average, vec![Ok(f64::MAX), Ok(f64::MAX)]), Ok(f64::MAX));
    }

    #[test]
    fn each_endpoint_is_asked_once_and_before_the_deadline() {
        let urls: Vec<Url> = (1..=40).map(|port| Url::parse(&format!("http://a:{port}")).unwrap()).collect();
        let port = |url: &Url| Ok(f64::from(url.port.unwrap_or_default()));
        let asked = all(&urls, Instant::now() + Duration::from_secs(60), &port);
        assert_eq!(asked.len(), 40);
        assert_eq!(aggregate(AggregationFunction::Sum, asked), Ok(820.0));
        let late = all(&urls, Instant::now(), &port);
        assert_eq!(late.len(), 40);
        assert!(late.iter().all(|result| result.as_ref().is_err_and(|error| error.class == ErrorClass::Timeout)));
    }
}
