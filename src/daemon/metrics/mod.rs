//! `/metrics` of the plain port: the daemon's own counters, gathered on request.
//!
//! With a thousand objects the page is about 1 MB, and any client that reaches the port may request it. So one thread
//! at a time renders it, and the result is kept for a moment and shared by all requests.

pub(super) mod keda;

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::fence::Fence;
use crate::adapter::Adapter;
use crate::forward::Forwarder;
use crate::http::gate::Counters;
use crate::http::{Request, Response};
use crate::kube::client::Client;
use crate::polling::poller::{Distribution, LATENCY_BOUNDS_MS, PollStats};
use crate::scaling::event::OUTCOMES;
use crate::scaling::world::Counts;
use crate::store::Sender;
use crate::telemetry::{CONTENT_TYPE, Exposition, resident_bytes};

pub(super) struct Sources {
    pub(super) client: Client,
    pub(super) polls: Arc<PollStats>,
    pub(super) store: Sender,
    pub(super) counts: Arc<Mutex<Counts>>,
    pub(super) api: Arc<Counters>,
    pub(super) fence: Arc<Fence>,
    /// `None` unless metrics under KEDA's names are enabled.
    pub(super) keda: Option<Arc<keda::Tally>>,
    /// `None` without rules of prometheus-adapter.
    pub(super) adapter: Option<Arc<Adapter>>,
    /// `None` without other adapters.
    pub(super) forwarder: Option<Arc<Forwarder>>,
}

/// Threads that serve the page: while one renders it, the other waits.
pub(super) const MAKERS: usize = 2;
/// The page is kept at least this long. No client scrapes more often, and tests want to see their own changes.
const KEPT: Duration = Duration::from_millis(50);
/// The page is also kept for this multiple of its rendering time, so rendering takes at most a twentieth of a core.
const KEPT_TIMES: u32 = 20;
/// An outdated page is still served while the next one is rendered, up to this age.
const STALE_MAX: Duration = Duration::from_secs(5);

/// The page as last rendered.
pub(super) struct Page {
    sources: Sources,
    /// Locked only to clone or swap it.
    kept: Mutex<Option<Kept>>,
    /// Held by the thread that renders the next page.
    making: Mutex<()>,
}

struct Kept {
    body: Arc<Vec<u8>>,
    made: Instant,
    fresh_for: Duration,
}

impl Page {
    pub(super) fn new(sources: Sources) -> Self {
        Self { sources, kept: Mutex::new(None), making: Mutex::new(()) }
    }

    /// Returns the response if nothing has to be rendered for it.
    pub(super) fn at_once(&self, request: &Request) -> Option<Response> {
        if request.path != "/metrics" {
            return Some(Response::status(404, "NotFound", "the server could not find the requested resource"));
        }
        if request.method != "GET" {
            return Some(Response::status(405, "MethodNotAllowed", "only GET is served here"));
        }
        let is_under_way = || matches!(self.making.try_lock(), Err(TryLockError::WouldBlock));
        self.kept(|kept, age| age < kept.fresh_for || age < STALE_MAX && is_under_way())
    }

    fn kept(&self, will_do: impl FnOnce(&Kept, Duration) -> bool) -> Option<Response> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| will_do(kept, kept.made.elapsed())).map(|kept| page(&kept.body))
    }

    /// Renders the page.
    pub(super) fn answer(&self) -> Response {
        let _turn = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have rendered the page while this one waited for the lock.
        if let Some(response) = self.kept(|kept, age| age < kept.fresh_for) {
            return response;
        }
        let made = Instant::now();
        let mut body = exposition(&self.sources).into_bytes();
        // It is kept until the next scrape.
        body.shrink_to_fit();
        let body = Arc::new(body);
        let response = page(&body);
        let fresh_for = (made.elapsed() * KEPT_TIMES).max(KEPT);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept { body, made, fresh_for });
        response
    }
}

fn page(body: &Arc<Vec<u8>>) -> Response {
    Response::new(200, CONTENT_TYPE, Arc::clone(body))
}

fn exposition(sources: &Sources) -> String {
    let mut out = Exposition::default();
    out.family("hpalite_build_info", "gauge", "Version of this process.").sample(&[("version", super::VERSION)], 1);
    out.gauge("hpalite_process_resident_memory_bytes", "Resident memory.", resident_bytes());
    world(&mut out, *sources.counts.lock().unwrap_or_else(PoisonError::into_inner));
    polls(&mut out, &sources.polls);
    store(&mut out, &sources.store);
    gate(&mut out, &sources.api);
    let leads = u64::from(sources.fence.pass().is_ok());
    out.gauge("hpalite_leading", "1 while this instance may write to the API server.", leads);
    let renewals = sources.fence.renewals();
    out.counter("hpalite_lease_renewals_total", "Times that the Lease was taken or renewed.", renewals);
    let mut requests = out.family(
        "hpalite_apiserver_requests_total",
        "counter",
        "Requests to the API server by verb and status code.",
    );
    for count in sources.client.request_counts() {
        let code = count.code.map_or_else(|| "error".to_owned(), |code| code.to_string());
        requests.sample(&[("verb", count.verb.as_str()), ("code", &code)], count.count);
    }
    if let Some(adapter) = &sources.adapter {
        adapter.write(&mut out);
    }
    if let Some(forwarder) = &sources.forwarder {
        forwarder.write(&mut out);
    }
    if let Some(tally) = &sources.keda {
        tally.write(&mut out);
    }
    out.finish()
}

fn world(out: &mut Exposition, counts: Counts) {
    let number = |n: usize| n as u64;
    out.gauge("hpalite_scaledobjects", "ScaledObjects known.", number(counts.objects));
    out.gauge("hpalite_scaledobjects_ready", "ScaledObjects that can be scaled.", number(counts.ready));
    out.gauge("hpalite_annotated_hpas", "HPAs that ask for metrics by annotations.", number(counts.annotated_hpas));
    let ready = number(counts.annotated_hpas_ready);
    out.gauge("hpalite_annotated_hpas_ready", "Annotated HPAs whose annotations can be used.", ready);
    let observed = number(counts.observed_hpas);
    out.gauge("hpalite_observed_hpas", "Other HPAs whose own status is remembered.", observed);
    out.gauge("hpalite_polls_waiting", "Queries that wait for a worker.", number(counts.polls_waiting));
    out.gauge("hpalite_writes_in_flight", "Writes to the API server under way.", number(counts.writes_in_flight));
    out.gauge("hpalite_writes_waiting", "Objects whose write waits for its turn.", number(counts.writes_starved));
}

fn polls(out: &mut Exposition, stats: &PollStats) {
    let counts = stats.read();
    let mut outcomes = out.family("hpalite_polls_total", "counter", "Queries answered, by outcome.");
    for (outcome, count) in OUTCOMES.iter().zip(counts.outcomes) {
        outcomes.sample(&[("outcome", outcome)], count);
    }
    out.gauge("hpalite_polls_in_flight", "Queries under way.", counts.in_flight);
    histogram(out, "hpalite_poll_duration_seconds", "Time from question to answer.", &counts.latency);
    let lateness = "Time from when a question was due until it was asked.";
    histogram(out, "hpalite_poll_lateness_seconds", lateness, &counts.lateness);
}

fn histogram(out: &mut Exposition, name: &str, help: &str, counts: &Distribution) {
    let mut family = out.family(name, "histogram", help);
    for (bound, count) in LATENCY_BOUNDS_MS.iter().zip(counts.buckets) {
        family.line("_bucket", &[("le", &Duration::from_millis(*bound).as_secs_f64().to_string())], count);
    }
    let all = counts.buckets.last().copied().unwrap_or(0);
    family.line("_bucket", &[("le", "+Inf")], all);
    family.line("_sum", &[], counts.sum.as_secs_f64());
    family.line("_count", &[], all);
}

fn store(out: &mut Exposition, sender: &Sender) {
    let stats = sender.stats();
    out.counter("hpalite_store_written_total", "Records written to the history.", stats.written_total);
    let mut lost = out.family("hpalite_store_lost_total", "counter", "Records that could not be written, by kind.");
    lost.sample(&[("kind", "sample")], stats.lost_samples_total);
    lost.sample(&[("kind", "other")], stats.lost_kept_total);
    out.counter("hpalite_store_failed_flushes_total", "Transactions that failed.", stats.failed_flushes_total);
    let mut dropped = out.family(
        "hpalite_store_dropped_total",
        "counter",
        "Rows dropped before their time for --db-max-size, by kind.",
    );
    for (kind, count) in stats.dropped_total {
        dropped.sample(&[("kind", kind)], count);
    }
    out.family(
        "hpalite_store_deleting_longest_seconds",
        "gauge",
        "Longest slice of deleting, during which writes wait.",
    )
    .sample(&[], stats.deleting_longest.as_secs_f64());
    out.family(
        "hpalite_store_upkeep_longest_seconds",
        "gauge",
        "Longest slice of packing, merging, rolling up or deleting, during which writes wait.",
    )
    .sample(&[], stats.upkeep_longest.as_secs_f64());
    let corruptions = stats.corruptions_total;
    out.counter("hpalite_store_corruptions_total", "Databases found corrupt and set aside.", corruptions);
    out.counter(
        "hpalite_store_displacements_total",
        "Databases deleted, renamed or replaced while in use.",
        stats.displacements_total,
    );
    out.gauge("hpalite_store_queue", "Records handed over and not committed yet.", stats.queue_depth as u64);
    out.gauge("hpalite_store_file_bytes", "Size of the database.", stats.file_bytes);
    out.gauge("hpalite_store_wal_bytes", "Size of its write-ahead log.", stats.wal_bytes);
}

fn gate(out: &mut Exposition, counters: &Counters) {
    out.counter("hpalite_http_connections_total", "Connections accepted on the API port.", counters.accepted());
    out.gauge("hpalite_http_connections", "Connections open on the API port.", counters.active());
    out.counter("hpalite_http_requests_total", "Requests answered on the API port.", counters.requests());
    out.counter("hpalite_http_connections_shed_total", "Connections closed to make room.", counters.shed());
    let mut refused = out.family("hpalite_http_refused_total", "counter", "Requests refused by the gate, by cause.");
    for (cause, count) in counters.refused() {
        refused.sample(&[("cause", cause)], count);
    }
}
