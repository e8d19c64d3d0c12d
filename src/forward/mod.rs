//! External metrics that other adapters have: asked when they are read, and listed in discovery.
//!
//! Pure: `answer` (what they say, written anew), `breaker` (when one is left alone), `places` (how many reads wait).
//! Shell: this file, with the thread that lists their metrics at intervals.
//!
//! Whose metrics come first is for [`crate::http::api`] to say: only a read that nobody here answers comes here. An
//! adapter that lists a metric is asked for it. Where none does, all are until one knows it, first those that list nothing,
//! as KEDA: a metric that is missing in the list of another one is probably not its. What the first of them says that knows
//! it counts, errors too: a value of another one would be another metric's.
//!
//! Nothing here is on the way of a ScaledObject: an adapter that is slow or away costs a bounded number of waiting
//! reads, each two seconds at most. The reader has been authorised for the metric before.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod breaker;
mod places;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use ring::rand::{SecureRandom as _, SystemRandom};

use self::answer::Answer;
pub use self::answer::Refusal;
use self::breaker::{Breakers, Failure};
pub use self::places::FORWARDS_MAX;
use self::places::Places;
use crate::config::ForwardSettings as Settings;
use crate::encode::{escape_segment, hex};
use crate::http::Response;
use crate::http::discovery::GROUP_VERSION;
use crate::http::others::{FORWARDED, Names, Others, Read};
use crate::polling::request::{Header, Request, TlsMaterial};
use crate::polling::transport::{Reply, Transport};
use crate::scaling::event::{ErrorClass, PollError};
use crate::telemetry::Exposition;

/// For a read, all adapters together: the HPA controller waits for it, with few workers.
const BUDGET: Duration = Duration::from_secs(2);
/// For the list of an adapter's metrics, which nobody waits for.
const LIST_WITHIN: Duration = Duration::from_secs(5);
/// How often metrics are listed.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// How often the thread looks whether it is still needed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of a token: the kubelet's have some 1,200.
const TOKEN_MAX: u64 = 16 << 10;

const OUTCOMES: [&str; 5] = ["answered", "not_found", "refused", "failed", "left_alone"];

/// Asks other adapters; shared by the threads that read and the one that lists.
pub struct Forwarder {
    settings: Settings,
    transport: Arc<Transport>,
    targets: Vec<Target>,
    places: Places,
    /// Reads that found no place.
    crowded: AtomicU64,
    /// What all of them list.
    listed: RwLock<Names>,
    /// Marks what this process sends, so that it knows it if it comes back.
    mark: String,
}

/// One adapter.
struct Target {
    /// `https://host:port` and a path, if there is one; without a slash at its end.
    url: String,
    names: RwLock<Names>,
    breakers: Mutex<Breakers>,
    /// What is wrong with it, as far as its discovery shows; empty if nothing is.
    trouble: Mutex<String>,
    is_ourselves: AtomicBool,
    counts: [AtomicU64; OUTCOMES.len()],
}

impl Target {
    fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            names: RwLock::new(Arc::from([])),
            breakers: Mutex::default(),
            trouble: Mutex::new(NOT_ASKED.to_owned()),
            is_ourselves: AtomicBool::new(false),
            counts: Default::default(),
        }
    }

    fn names(&self) -> Names {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lists(&self, metric: &str) -> bool {
        self.names().binary_search_by(|name| name.as_str().cmp(metric)).is_ok()
    }

    fn breakers(&self) -> std::sync::MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: &str) {
        if let Some(at) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.counts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns an error that says whose it is.
    fn refusal(&self, code: u16, reason: &str, message: &str) -> Response {
        Response::status(code, reason, &format!("{}: {message}", self.url))
    }
}

const NOT_ASKED: &str = "it has not been asked yet";
const ITSELF: &str = "--forward-external-metrics leads to hpalite itself: name another adapter's Service";
/// The URL of a request is the operator's, so its server needs no other name in errors.
const AWAY: &str = "it did not answer, and is not asked for a moment";

impl Forwarder {
    /// Starts the thread that lists their metrics, which ends with the forwarder.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(settings: Settings, transport: &Arc<Transport>) -> std::io::Result<Arc<Self>> {
        let forwarder = Arc::new(Self::new(settings, transport));
        let thread = Arc::downgrade(&forwarder);
        std::thread::Builder::new().name("forward".to_owned()).spawn(move || run(&thread))?;
        Ok(forwarder)
    }

    fn new(settings: Settings, transport: &Arc<Transport>) -> Self {
        let mut random = [0; 16];
        // Without random numbers the process could speak no TLS either.
        let _ = SystemRandom::new().fill(&mut random);
        let targets = settings.targets.iter().map(|url| Target::new(url)).collect();
        let (places, crowded, listed) = (Places::default(), AtomicU64::new(0), RwLock::new(Arc::from([])));
        Self { settings, transport: Arc::clone(transport), targets, places, crowded, listed, mark: hex(&random) }
    }

    /// Asks each adapter once which metrics it lists, and returns those that cannot be used, and why. Blocks for 5 s
    /// each.
    pub fn examine(settings: &Settings, transport: &Arc<Transport>) -> Vec<(String, Refusal)> {
        let forwarder = Self::new(settings.clone(), transport);
        let asked = forwarder.targets.iter().map(|target| (target.url.clone(), forwarder.discover(target)));
        asked.filter_map(|(url, found)| Some((url, found.err()?))).collect()
    }

    fn request(&self, target: &Target, path: &str) -> Result<Request, String> {
        let header = |name: &str, value: String, secret| Header { name: name.to_owned(), value, secret };
        let mut headers = vec![header(FORWARDED, self.mark.clone(), false)];
        if let Some(file) = &self.settings.token_file {
            let token = token(file).map_err(|error| format!("--forward-token-file: {}: {error}", file.display()))?;
            headers.push(header("Authorization", format!("Bearer {token}"), true));
        }
        let tls = TlsMaterial { unsafe_ssl: self.settings.skips_verification, ..TlsMaterial::default() };
        let url = format!("{}/apis/{GROUP_VERSION}{path}", target.url);
        Ok(Request { headers, trusted: true, tls, ..Request::get(url, target.url.clone()) })
    }

    /// Returns an adapter's answer, or what to say instead of it; `None` if it does not have the metric.
    fn ask_one(&self, target: &Target, read: &Read<'_>, deadline: Instant) -> Option<Response> {
        if target.is_ourselves.load(Ordering::Relaxed) {
            target.count("failed");
            return Some(target.refusal(508, "LoopDetected", ITSELF));
        }
        let query = match read.selector {
            "" => String::new(),
            selector => format!("?labelSelector={}", escape_segment(selector)),
        };
        let (namespace, metric) = (escape_segment(read.namespace), escape_segment(read.metric));
        let request = match self.request(target, &format!("/namespaces/{namespace}/{metric}{query}")) {
            Ok(request) => request,
            Err(error) => {
                target.count("failed");
                return Some(target.refusal(500, "InternalError", &error));
            }
        };
        if !target.breakers().may_ask(read.namespace, Instant::now()) {
            target.count("left_alone");
            return Some(target.refusal(503, "ServiceUnavailable", AWAY));
        }
        let parse = |reply: Reply| answer::parse(reply.status, &reply.body);
        let answer = match self.transport.exchange(request, BUDGET, deadline, parse) {
            Ok(answer) => answer,
            Err(error) => {
                let failure = if error.class == ErrorClass::Timeout { Failure::Late } else { Failure::Unreached };
                target.breakers().failed(read.namespace, failure, Instant::now());
                target.count("failed");
                let (code, reason) =
                    if failure == Failure::Late { (504, "Timeout") } else { (503, "ServiceUnavailable") };
                // The text names the adapter.
                return Some(Response::status(code, reason, &error.message));
            }
        };
        target.breakers().answered(read.namespace);
        let (outcome, response) = match answer {
            Answer::Values(list) => ("answered", Some(Response::json(200, list))),
            Answer::NotFound => ("not_found", None),
            Answer::Refused { code, reason, message } => ("refused", Some(target.refusal(code, &reason, &message))),
            Answer::Forbidden(message) => {
                ("failed", Some(target.refusal(500, "InternalError", &self.forbidden(&message))))
            }
            Answer::Ourselves => {
                target.is_ourselves.store(true, Ordering::Relaxed);
                ("failed", Some(target.refusal(508, "LoopDetected", ITSELF)))
            }
            Answer::Unusable(message) => ("failed", Some(target.refusal(502, "InternalError", &message))),
        };
        target.count(outcome);
        response
    }

    fn forbidden(&self, message: &str) -> String {
        let ours =
            if self.settings.token_file.is_some() { "the token of --forward-token-file" } else { "for it sends none" };
        format!("it does not accept hpalite's credentials, {ours}: {message}")
    }

    /// Lists the metrics of one adapter.
    fn discover(&self, target: &Target) -> Result<Names, Refusal> {
        let request = self.request(target, "").map_err(Refusal::Forbidden)?;
        let parse = |reply: Reply| answer::names(reply.status, &reply.body);
        let away = |error: PollError| Refusal::Away(error.message);
        let found = self.transport.exchange(request, LIST_WITHIN, Instant::now() + LIST_WITHIN, parse).map_err(away)?;
        found.map_err(|refusal| match refusal {
            Refusal::Forbidden(message) => Refusal::Forbidden(self.forbidden(&message)),
            other => other,
        })
    }

    /// Lists the metrics of all of them. One that does not answer keeps what it had.
    fn list(&self) {
        for target in &self.targets {
            let found = self.discover(target);
            target.is_ourselves.store(found == Err(Refusal::Ourselves), Ordering::Relaxed);
            let (names, trouble) = match found {
                Ok(names) => (Some(names), String::new()),
                Err(Refusal::Ourselves) => (Some(Arc::from([])), ITSELF.to_owned()),
                Err(Refusal::Away(message) | Refusal::Forbidden(message) | Refusal::Other(message)) => (None, message),
            };
            if let Some(names) = names {
                *target.names.write().unwrap_or_else(PoisonError::into_inner) = names;
            }
            let before =
                std::mem::replace(&mut *target.trouble.lock().unwrap_or_else(PoisonError::into_inner), trouble.clone());
            let (adapter, metrics) = (target.url.as_str(), target.names().len());
            if trouble == ITSELF && before != ITSELF {
                error!(adapter, error = trouble; "reads are not forwarded");
            } else if trouble.is_empty() && !before.is_empty() {
                info!(adapter, metrics; "external metrics of another adapter listed");
            } else if trouble != before {
                warn!(adapter, error = trouble; "external metrics of another adapter are not known");
            }
        }
        let all: BTreeSet<String> = self.targets.iter().flat_map(|target| target.names().to_vec()).collect();
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = all.into_iter().collect();
    }

    /// Writes the counters of `/metrics`.
    pub fn write(&self, out: &mut Exposition) {
        let mut reads =
            out.family("hpalite_forwarded_reads_total", "counter", "Reads that other adapters were asked, by outcome.");
        for target in &self.targets {
            for (outcome, count) in OUTCOMES.iter().zip(&target.counts) {
                reads.sample(&[("adapter", &target.url), ("outcome", outcome)], count.load(Ordering::Relaxed));
            }
        }
        let crowded = self.crowded.load(Ordering::Relaxed);
        let help = "Reads that no adapter was asked, since as many as may were waiting.";
        out.counter("hpalite_forwarded_reads_crowded_total", help, crowded);
        let mut up = out.family("hpalite_forward_up", "gauge", "1 while an adapter's discovery can be read.");
        for target in &self.targets {
            let is_up = target.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            up.sample(&[("adapter", &target.url)], u64::from(is_up));
        }
        let mut metrics = out.family("hpalite_forward_metrics", "gauge", "External metrics that an adapter lists.");
        for target in &self.targets {
            metrics.sample(&[("adapter", &target.url)], target.names().len() as u64);
        }
    }
}

impl Others for Forwarder {
    fn ask(&self, read: &Read<'_>) -> Response {
        let Some(_place) = self.places.take(read.namespace) else {
            self.crowded.fetch_add(1, Ordering::Relaxed);
            let message = "as many reads of other adapters' metrics as may be are under way already";
            return Response::status(503, "ServiceUnavailable", message);
        };
        let deadline = Instant::now() + BUDGET;
        let mut asked: Vec<&Target> = self.targets.iter().filter(|target| target.lists(read.metric)).collect();
        if asked.is_empty() {
            asked = self.targets.iter().collect();
            asked.sort_by_key(|target| !target.names().is_empty());
        }
        for (at, target) in asked.iter().enumerate() {
            // Each has its part of what is left, so that one that hangs leaves time to the next.
            let left = deadline.saturating_duration_since(Instant::now());
            let parts = u32::try_from(asked.len() - at).unwrap_or(1);
            if let Some(response) = self.ask_one(target, read, Instant::now() + left / parts) {
                return response;
            }
        }
        let urls: Vec<&str> = asked.iter().map(|target| target.url.as_str()).collect();
        let Read { namespace, metric, .. } = read;
        let message = format!(
            "no metric {metric} of a ScaledObject or annotated HPA that the selector matches in namespace {namespace}, and \
             none of {}",
            urls.join(", ")
        );
        Response::status(404, "NotFound", &message)
    }

    fn listed(&self) -> Names {
        Arc::clone(&self.listed.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_own(&self, mark: &str) -> bool {
        mark == self.mark
    }
}

fn run(forwarder: &Weak<Forwarder>) {
    let mut due = Instant::now();
    while let Some(forwarder) = forwarder.upgrade() {
        if Instant::now() >= due {
            forwarder.list();
            due = Instant::now() + LIST_EVERY;
        }
        drop(forwarder);
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Reads a token anew each time, since the kubelet replaces it.
fn token(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(file).map_err(|error| error.to_string())?;
    file.take(TOKEN_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let token = text.trim();
    let is_usable = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    if is_usable { Ok(token.to_owned()) } else { Err("holds no token".to_owned()) }
}
