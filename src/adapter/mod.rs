//! Metrics by the rules of prometheus-adapter: which there are, found out at intervals, and their values, asked when
//! they are read.
//!
//! Pure: [`registry`] (which metric is which query). Shell: `resources` (the kinds of the cluster), `relist` (the thread
//! that follows the file and lists series), `reads` (equal reads share an answer, and namespaces the places for reads),
//! `turns` (what is asked counts within the limits of the server). The rules themselves are in [`crate::wire::adapter`].
//!
//! Nothing here is on the way of a ScaledObject: a Prometheus that is slow or away costs a bounded number of waiting
//! reads, each with a time limit, and no more than half of them to one namespace.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod reads;
mod registry;
mod relist;
mod resources;
mod turns;

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Deserialize;

pub use self::reads::READS_MAX;
use self::reads::Reads;
use self::registry::Registry;
pub use self::turns::Turns;
use crate::clock::wall_millis;
use crate::config::AdapterSettings as Settings;
use crate::http::custom_metrics::{self, Objects, Question, Reply};
use crate::http::discovery::Listed;
use crate::kube::client::Client;
use crate::kube::request::{ListOptions, Resource};
use crate::polling::request::Request;
use crate::polling::transport::{Reply as TransportReply, Transport};
use crate::prometheus::query;
use crate::prometheus::vector::{self, Sample};
use crate::scaling::event::PollError;
use crate::scaling::hpa::HpaMetric;
use crate::scaling::model::{PrometheusSource, UnixMillis};
use crate::telemetry::Exposition;
use crate::wire::adapter::Matcher;
use crate::wire::labels::Selector;

/// Objects of one read. Their names go into one query.
const OBJECTS_MAX: usize = 5_000;
/// Time limit for the list of objects, a part of that of the read.
const LIST_WITHIN: Duration = Duration::from_secs(2);

/// Answers by rules; shared by the thread that lists series and those that read.
pub struct Adapter {
    settings: Settings,
    client: Client,
    transport: Arc<Transport>,
    /// `None` if servers have no limits.
    turns: Option<Arc<Turns>>,
    registry: RwLock<Arc<Registry>>,
    reads: Reads,
}

impl Adapter {
    /// Starts its thread, which reads the file. With `turns`, it asks no server without one.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        settings: Settings,
        client: &Client,
        transport: &Arc<Transport>,
        turns: Option<Arc<Turns>>,
    ) -> std::io::Result<Arc<Self>> {
        let adapter = Arc::new(Self {
            settings,
            client: client.clone(),
            transport: Arc::clone(transport),
            turns,
            registry: RwLock::default(),
            reads: Reads::default(),
        });
        relist::start(&adapter)?;
        Ok(adapter)
    }

    /// Returns whether rules give a metric of an HPA; `None` while that is not known.
    #[must_use]
    pub fn gives_any(&self, metrics: &[HpaMetric]) -> Option<bool> {
        let registry = self.registry();
        let mut given = metrics.iter().map(|metric| registry.gives(metric));
        given.try_fold(false, |any, gives| Some(any || gives?))
    }

    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn source(&self, query: String) -> PrometheusSource {
        PrometheusSource { server_address: self.settings.server.clone(), query, ..PrometheusSource::default() }
    }

    /// Asks Prometheus for a metric of a namespace, until the deadline.
    fn query(
        &self,
        party: (&str, &str),
        text: String,
        deadline: Instant,
        at: UnixMillis,
    ) -> Result<Vec<Sample>, PollError> {
        let request = query::build(&self.source(text), None, &crate::polling::Parameters::new(), at)?;
        // In error texts, which must be the same each time.
        let timeout = self.settings.query_timeout.min(custom_metrics::PATIENCE);
        self.exchange(party, request, (timeout, deadline), |reply| {
            vector::parse(&reply.server, reply.status, &reply.body)
        })
    }

    /// Sends a request on behalf of a namespace, once its turn has come. It may take the time limit, and ends with the
    /// deadline.
    fn exchange<T>(
        &self,
        party: (&str, &str),
        request: Request,
        (timeout, deadline): (Duration, Instant),
        read: impl FnOnce(TransportReply) -> Result<T, PollError>,
    ) -> Result<T, PollError> {
        let turn = match &self.turns {
            Some(turns) => Some(turns.wait(party, &self.settings.server, deadline)?),
            None => None,
        };
        let (asked, mut rest) = (Instant::now(), None);
        let read = |reply: TransportReply| {
            rest = reply.rest;
            read(reply)
        };
        let answer = self.transport.exchange(request, timeout, deadline.min(asked + timeout), read).flatten();
        if let Some(turn) = &turn {
            turn.conduct.set(turns::conduct(&answer, rest, asked));
        }
        answer
    }

    fn answer(&self, question: &Question, deadline: Instant) -> Reply {
        let answered = match question {
            Question::Objects { resource, group, namespace, objects, metric, selector } => {
                self.objects((resource, group), namespace, objects, (metric, selector), deadline)
            }
            Question::External { namespace, metric, selector } => self.external(namespace, metric, selector, deadline),
        };
        answered.unwrap_or_else(|refused| refused)
    }

    fn objects(
        &self,
        (resource, group): (&str, &str),
        namespace: &str,
        objects: &Objects,
        (metric, selector): (&str, &str),
        deadline: Instant,
    ) -> Result<Reply, Reply> {
        let registry = self.registry();
        if !registry.is_listed {
            return Err(Reply::Failed(NOT_LISTED.to_owned()));
        }
        let shown = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let unknown = || {
            let message = format!("no rule gives the metric {metric} for {shown}");
            match registry.errors().next() {
                None => Reply::NotFound(message),
                Some((rule, error)) => Reply::Failed(format!("{message}; series of {rule} were not listed: {error}")),
            }
        };
        let (kind, entry) = registry.of_object(resource, group, metric).ok_or_else(unknown)?;
        if kind.namespaced == namespace.is_empty() || !is_name(namespace) {
            return Err(unknown());
        }
        let names = match objects {
            Objects::One(name) if is_name(name) => vec![name.clone()],
            Objects::One(_) => return Err(unknown()),
            Objects::All(selector) => self.names(kind, namespace, selector)?,
        };
        if names.is_empty() {
            return Err(Reply::NotFound(format!("the selector matches no {shown}")));
        }
        let matchers = matchers(selector)?;
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let built = entry.rule.objects_query(&entry.series, kind.named(), namespace, &all, &matchers);
        let (text, label) = built.map_err(Reply::Failed)?;
        let at = UnixMillis(wall_millis());
        let party = (reads::party(namespace, resource, objects), metric);
        let samples = self.query(party, text, deadline, at).map_err(|error| Reply::Failed(error.message))?;
        let values = registry::of_names(names, &label, samples);
        if values.is_empty()
            && let Objects::One(name) = objects
        {
            return Err(Reply::NotFound(format!("the metric {metric} has no value for {shown} {name}")));
        }
        Ok(Reply::Objects { api_version: kind.api_version(), kind: kind.kind.clone(), values, at })
    }

    fn external(&self, namespace: &str, metric: &str, selector: &str, deadline: Instant) -> Result<Reply, Reply> {
        let registry = self.registry();
        let entry = registry.external(metric).filter(|_| is_name(namespace));
        let entry = entry.ok_or_else(|| Reply::NotFound(format!("no rule gives the external metric {metric}")))?;
        let text = entry.rule.external_query(&entry.series, namespace, &matchers(selector)?).map_err(Reply::Failed)?;
        let at = UnixMillis(wall_millis());
        let samples =
            self.query((namespace, metric), text, deadline, at).map_err(|error| Reply::Failed(error.message))?;
        let finite = samples.into_iter().filter(|sample| sample.value.is_finite());
        let values = finite.map(|sample| (sample.labels.into_iter().collect(), sample.value)).collect();
        Ok(Reply::External { values, at })
    }

    /// Returns the names of the objects that a selector matches.
    fn names(&self, kind: &resources::ApiResource, namespace: &str, selector: &str) -> Result<Vec<String>, Reply> {
        let failed = |error: &crate::kube::error::Error| {
            let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") };
            Reply::Failed(format!("cannot list {}{place}: {error}", kind.plural))
        };
        // Zero reads the API server's cache: what it says is as old as the samples are at least.
        let selector = Some(selector).filter(|selector| !selector.is_empty());
        let options = ListOptions { label_selector: selector, resource_version: Some("0"), ..ListOptions::default() };
        let namespace_of = Some(namespace).filter(|namespace| !namespace.is_empty());
        let resource = Resource::from(kind);
        let request = |options: &ListOptions<'_>| Ok(resource.list(namespace_of, options)?.of_metadata());
        let mut names = Vec::new();
        let listed = self.client.list(&options, request, Some(Instant::now() + LIST_WITHIN), |object: Object| {
            names.push(object.metadata.name);
            if names.len() > OBJECTS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        listed.map_err(|error| failed(&error))?;
        if names.len() > OBJECTS_MAX {
            let message = format!("the selector matches more than {OBJECTS_MAX} {}", kind.plural);
            return Err(Reply::Failed(message));
        }
        Ok(names)
    }

    /// Writes the counters of `/metrics`.
    pub fn write(&self, out: &mut Exposition) {
        let registry = self.registry();
        let mut metrics = out.family("hpalite_adapter_metrics", "gauge", "Metrics that rules give, by API.");
        let number = |n: usize| n as u64;
        metrics.sample(&[("api", "custom.metrics.k8s.io")], number(registry.objects_len()));
        metrics.sample(&[("api", "external.metrics.k8s.io")], number(registry.external_len()));
        out.gauge("hpalite_adapter_rules", "Rules that can be used.", number(registry.rules_len()));
        let failing = number(registry.failing());
        out.gauge("hpalite_adapter_rules_failing", "Rules whose series could not be listed last time.", failing);
        out.gauge("hpalite_adapter_problems", "Mistakes in the file of rules.", number(registry.problems));
        let mut reads = out.family("hpalite_adapter_reads_total", "counter", "Reads of such metrics, by outcome.");
        for (outcome, count) in self.reads.counts() {
            reads.sample(&[("outcome", outcome)], count);
        }
    }
}

const NOT_LISTED: &str = "the series of the rules have not been listed yet";

impl custom_metrics::Adapter for Adapter {
    fn ask(&self, question: &Question, patience: Duration) -> Option<Arc<Reply>> {
        self.reads.ask(question, patience, |deadline| self.answer(question, deadline))
    }

    fn has_external(&self, metric: &str) -> bool {
        self.registry().external(metric).is_some()
    }

    fn listed(&self) -> Listed {
        Arc::clone(&self.registry().listed)
    }
}

/// Returns whether a text can be the name of an object. Others would not be found, and could end the quotes that a rule
/// puts around a name.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
}

fn matchers(selector: &str) -> Result<Vec<Matcher>, Reply> {
    let selector = Selector::parse(selector).map_err(|error| Reply::Failed(error.to_string()))?;
    Matcher::of(&selector).map_err(|error| Reply::Failed(format!("the selector of the metric: {error}")))
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_a_rule_s_quotes() {
        for name in ["web-0", "front.example.org", "system:node", "A_b", ""] {
            assert!(is_name(name), "{name}");
        }
        for name in ["a\",namespace=\"other", "a|b", "a b", "a{b}", "ä", "a\\", &"a".repeat(254)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_selector_that_prometheus_cannot_be_asked_by_says_so() {
        let refused = matchers("app.kubernetes.io/name=web").unwrap_err();
        assert!(matches!(refused, Reply::Failed(text) if text.starts_with("the selector of the metric: ")));
    }
}
