//! The daemon: all wiring, all threads, and the order in which they stop.
//!
//! The calling thread becomes `decide`: it owns the world, takes events from one inbox and dispatches commands. It
//! never waits for another thread; the others may wait for it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api_writer;
mod certificates;
mod fence;
mod identity;
mod lease;
mod metrics;
mod pods;
mod reads;
mod reviews;
mod serving;
mod trust;
mod watches;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::adapter::{Adapter, Turns};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::forward::Forwarder;
use crate::http::api::{self, Api, Readiness};
use crate::http::authn::Authenticator;
use crate::http::authz::Authorizer;
use crate::http::custom_metrics;
use crate::http::external_metrics::Published;
use crate::http::gate::{FromMemory, Gate};
use crate::http::others::Others;
use crate::http::{Handler, Response};
use crate::kube::client::Client;
use crate::kube::config::ClusterConfig;
use crate::kube::watcher::Watcher;
use crate::outbound::MARK;
use crate::polling::poller::Pollers;
use crate::scaling::event::{Command, Event, Interruption, Record, WriteKind};
use crate::scaling::model::UnixMillis;
use crate::scaling::schedule::Limits;
use crate::scaling::world::{Counts, Settings, World};
use crate::sources::Asker;
use crate::store::{Options, Store};
use crate::ui;
use api_writer::{ApiWriter, Job};
use certificates::Certificates;
use fence::Fence;
use identity::Identity;
use lease::Lease;
use trust::Trust;

/// Capacity of the inbox. A list of 10,000 objects arrives faster than it is processed; the watch then blocks. At 10 kB
/// an object that is at most 10 MB; the channel itself takes 370 bytes for each event that fits.
const INBOX: usize = 1024;
/// Events processed before commands are dispatched, so that a burst is handled in one go.
const BATCH: usize = 256;
/// Writes to the API server in flight.
const WRITES_MAX: usize = 32;
/// Age at which the gauges in the daemon's own metrics are counted again.
const COUNT_EVERY: Duration = Duration::from_millis(250);
/// Counting walks over all objects, so it is done at most once in this multiple of the time that it takes.
const COUNT_EVERY_TIMES: u32 = 200;
/// Deadlines within this time are handled together: at a hundred polls a second the core and the threads that carry out
/// its commands then wake 20 times.
const GATHER: Duration = Duration::from_millis(50);
/// Samples are collected for this long, up to this many, before they are sent to the history as one batch.
const GATHER_SAMPLES: Duration = Duration::from_millis(250);
const SAMPLES_MAX: usize = 4096;
/// The core is woken at least this often, to notice a step of the wall clock.
const TICK: Duration = Duration::from_secs(1);
/// The API server counts as silent once its requests have failed for this long and none was answered.
const SILENCE: Duration = Duration::from_secs(5);
/// While it is silent, the end of the silence is recorded anew at most this often.
const SILENCE_PRECISION: Duration = Duration::from_secs(2);
/// How often to check whether the history has room for what is recorded anew.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);
/// Time limit for writes in flight at shutdown, before the Lease is released.
const DRAIN_WRITES: Duration = Duration::from_secs(1);
/// How often to check whether those writes have ended, so that the release is not delayed.
const LOOK_FOR_END: Duration = Duration::from_millis(10);
/// Time limit for requests in flight at shutdown.
const DRAIN_GATES: Duration = Duration::from_secs(1);
const STOP_STORE: Duration = Duration::from_secs(1);

/// Version of this build, as in `hpalite version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest that a shutdown takes beside `--drain`: writes, then the release of the Lease, gates, the store. The
/// pod's terminationGracePeriodSeconds must be longer (a test compares them).
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(
    DRAIN_WRITES.as_secs() + lease::RELEASE_WITHIN.as_secs() + DRAIN_GATES.as_secs() + STOP_STORE.as_secs(),
);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By a signal.
    Stopped,
    /// Another instance has acquired the Lease. Everything in flight here is void, so the process must restart.
    Deposed,
}

/// Every problem that keeps the daemon from starting.
#[derive(Debug)]
pub struct StartError {
    pub problems: Vec<String>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for StartError {}

/// Runs until SIGTERM or SIGINT, or until another instance acquires the Lease unexpectedly.
///
/// # Errors
/// Every problem that keeps the daemon from starting.
pub fn run(config: &Config) -> Result<Ended, StartError> {
    let prepared = prepare(config)?;
    let failed = |error: String| StartError { problems: vec![error] };
    let stopping = Arc::new(AtomicBool::new(false));
    let (inbox, events) = sync_channel(INBOX);
    watch_signals(&stopping, &inbox).map_err(|error| failed(format!("signals: {error}")))?;
    let daemon = Daemon::start(config, prepared, &inbox).map_err(failed)?;
    Ok(daemon.run(config, &events, &stopping))
}

/// What can fail for external reasons: prepared together, so that one attempt reports every problem.
struct Prepared {
    cluster: ClusterConfig,
    store: Store,
    api: std::net::TcpListener,
    http: std::net::TcpListener,
    ui: Option<std::net::TcpListener>,
}

fn prepare(config: &Config) -> Result<Prepared, StartError> {
    let mut problems = Vec::new();
    let cluster =
        ClusterConfig::load(config.kubeconfig.as_deref()).map_err(|error| problems.extend(error.problems)).ok();
    let store = Store::start(&config.db, Options { retention: config.retention, ..Options::default() })
        .map_err(|error| problems.push(format!("--db: {error}")))
        .ok();
    let api = serving::listen("--listen", config.listen).map_err(|error| problems.push(error)).ok();
    let http = serving::listen("--http", config.http).map_err(|error| problems.push(error)).ok();
    let ui = listen_ui(config).unwrap_or_else(|error| {
        problems.push(error);
        None
    });
    match (cluster, store, api, http) {
        (Some(cluster), Some(store), Some(api), Some(http)) if problems.is_empty() => {
            Ok(Prepared { cluster, store, api, http, ui })
        }
        _ => Err(StartError { problems }),
    }
}

/// Opens the page's port: one that was given explicitly is required, the default one is optional.
fn listen_ui(config: &Config) -> Result<Option<std::net::TcpListener>, String> {
    let Some(ui) = config.ui else { return Ok(None) };
    match serving::listen("--ui", ui.address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if ui.given => Err(error),
        Err(error) => {
            warn!(error; "the page is not served: give --ui another address, or an empty one for no page");
            Ok(None)
        }
    }
}

fn watch_signals(stopping: &Arc<AtomicBool>, inbox: &SyncSender<Event>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let (stopping, inbox) = (Arc::clone(stopping), inbox.clone());
    std::thread::Builder::new().name("signal".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if stopping.swap(true, Ordering::SeqCst) {
                // A second signal skips the drain.
                std::process::exit(130);
            }
            info!(signal; "shutting down");
            let _ = inbox.try_send(Event::Tick);
        }
    })?;
    Ok(())
}

/// The state of a shutdown in progress.
struct Ending {
    began: Instant,
    handed_over: bool,
}

struct Daemon {
    world: World,
    clock: Clock,
    client: Client,
    store: Store,
    writer: ApiWriter,
    pods: pods::Pods,
    pollers: Pollers,
    /// For reads by rules, if servers have limits.
    turns: Option<Arc<Turns>>,
    watchers: Vec<Watcher>,
    lease: Lease,
    _identity: Identity,
    trust: Trust,
    api: Gate,
    http: Gate,
    ui: Option<Gate>,
    published: Arc<Published>,
    ready: Arc<Readiness>,
    counts: Arc<Mutex<Counts>>,
    /// When the gauges are counted again.
    count_due: Option<Instant>,
    keda: Option<Arc<metrics::keda::Tally>>,
    /// How often the history went on in another file, as far as the core knows.
    renewals_known: u64,
    /// The end of the API server's silence as it was recorded last.
    silence_recorded: Option<Instant>,
    /// Records for the history, which receives them as one batch.
    records: Vec<Record>,
    /// When they are sent, if there are any.
    records_due: Option<Instant>,
    /// The last time that the core was woken by a deadline.
    woke_at: Instant,
}

impl Daemon {
    fn start(config: &Config, prepared: Prepared, inbox: &SyncSender<Event>) -> Result<Self, String> {
        let Prepared { cluster, store, api, http, ui } = prepared;
        let io = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let own_namespace = cluster.namespace().map(str::to_owned);
        let client = Client::new(cluster);
        let clock = Clock::start();
        let ready = Arc::new(Readiness::default());
        let published = Arc::new(Published::new(Box::new(clock::since_boot)));
        let certificates = Certificates::load(config, &store)?;

        let listeners = [Some(&api), Some(&http), ui.as_ref()];
        let own = listeners.into_iter().flatten().filter_map(|listener| listener.local_addr().ok()).collect();
        let asker = Asker::new(config, own, &client, own_namespace).map_err(io("poll thread"))?;
        let sink = inbox.clone();
        let (transport, shared_transport) = (Arc::clone(&asker.transport), Arc::clone(&asker.transport));
        let pollers = Pollers::new(
            Box::new(move |job, done| asker.begin(job, done)),
            Box::new(move |time, work| transport.after(time, work)),
            move |done| drop(sink.send(Event::Polled(done))),
        );
        // A shadow's fence stays closed, and it leaves the Lease to those who act.
        let election = config.leader_election.filter(|_| !config.is_shadow);
        let is_open = election.is_none() && !config.is_shadow;
        let fence = Arc::new(if is_open { Fence::open() } else { Fence::default() });
        let writer = ApiWriter::start(&client, &fence, config.authentication_selector.as_deref(), inbox)
            .map_err(io("writer threads"))?;
        let turns = (config.server_limits != Limits::default()).then(|| Arc::new(Turns::new(inbox.clone())));
        let adapter = match &config.adapter {
            Some(settings) => Some(
                Adapter::start(settings.clone(), &client, &shared_transport, turns.clone())
                    .map_err(io("adapter thread"))?,
            ),
            None => None,
        };
        let forwarder = match &config.forward {
            Some(settings) => {
                Some(Forwarder::start(settings.clone(), &shared_transport).map_err(io("forward thread"))?)
            }
            None => None,
        };
        let pods = pods::Pods::start(&client, inbox).map_err(io("pods thread"))?;
        let counts = Arc::new(Mutex::new(Counts::default()));
        let keda = config.keda_metrics.then(Arc::<metrics::keda::Tally>::default);

        let reads = reads::Reads::new(inbox.clone());
        let reviewer = Arc::new(reviews::Reviewer::new(client.clone()));
        let authenticator = Arc::new(Authenticator::new(Some(reviewer.clone())));
        // The API server has authorised the users that it proxies; the holder of its certificate is still reviewed.
        let authorizer = Arc::new(Authorizer::new(reviewer));
        let serving = Arc::new(Api {
            published: Arc::clone(&published),
            ready: Arc::clone(&ready),
            authenticator,
            authorizer,
            on_read: Box::new(move |key| reads.report(key, Instant::now())),
            adapter: adapter.clone().map(|adapter| adapter as Arc<dyn custom_metrics::Adapter>),
            others: forwarder.clone().map(|forwarder| forwarder as Arc<dyn Others>),
        });
        let known = Arc::clone(&serving);
        let handler: Handler = Arc::new(move |request| serving.handle(request));
        let from_memory: FromMemory = Arc::new(move |request| known.at_once(request));
        let tls = Some(Arc::clone(&certificates.tls));
        let patient_workers = serving::patient_workers(adapter.is_some(), forwarder.is_some());
        let api = serving::gate("api", api, tls, patient_workers, (from_memory, handler))?;
        let sources = metrics::Sources {
            client: client.clone(),
            polls: pollers.stats(),
            store: store.sender(),
            counts: Arc::clone(&counts),
            api: Arc::clone(api.counters()),
            fence: Arc::clone(&fence),
            keda: keda.clone(),
            adapter: adapter.clone(),
            forwarder,
        };
        let page = Arc::new(metrics::Page::new(sources));
        let known = Arc::clone(&page);
        let readiness = Arc::clone(&ready);
        // Probes do not queue behind any other request.
        let from_memory: FromMemory = Arc::new(move |request| {
            // A trigger may reach us through our own Service, and would then read values of all namespaces.
            if request.header(MARK).is_some() {
                return Some(Response::text(403, "no trigger is answered here\n"));
            }
            api::health(&readiness, request).or_else(|| known.at_once(request))
        });
        let handler: Handler = Arc::new(move |_| page.answer());
        let http = serving::gate("http", http, None, metrics::MAKERS, (from_memory, handler))?;
        let ui = ui.map(|listener| ui::start(listener, store.path())).transpose().map_err(io("ui"))?;
        let (trust, trust_watchers) =
            Trust::start(&client, config, certificates, Arc::clone(&fence), Arc::clone(&ready))
                .map_err(io("trust thread"))?;
        let mut watchers = watches::start(&client, config, adapter, inbox).map_err(io("watch threads"))?;
        watchers.extend(trust_watchers);
        let mut world = World::new(Settings {
            poll_threads: config.poll_threads,
            server_limits: config.server_limits,
            groups_queries: config.groups_queries,
            writes_max: WRITES_MAX,
            query_timeout: config.query_timeout,
            cross_namespace_services: config.cross_namespace_services,
            version: VERSION.to_owned(),
            is_shadow: config.is_shadow,
            namespaces: config.namespaces.clone(),
            selects_objects: config.object_selector.is_some(),
            seed: u64::from(std::process::id()) << 32 | u64::try_from(clock.now().0).unwrap_or(1),
        });
        let identity = identity::of(&store);
        let lease = match election {
            Some(timing) => {
                world.stand_by();
                let name = identity.name.clone();
                let (lease, watcher) =
                    Lease::start(&client, &config.service, name, timing, fence, Arc::clone(&ready), inbox.clone())
                        .map_err(io("lease thread"))?;
                watchers.push(watcher);
                lease
            }
            None => {
                ready.leading.store(true, Ordering::Release);
                Lease::none()
            }
        };
        info!(
            version = VERSION, listen:% = api.local_addr(), http:% = http.local_addr(), db:% = config.db.display(),
            server = client.config().server(), poll_threads = config.poll_threads;
            "started"
        );
        Ok(Self {
            world,
            clock,
            client,
            store,
            writer,
            pods,
            pollers,
            turns,
            watchers,
            lease,
            _identity: identity,
            trust,
            api,
            http,
            ui,
            published,
            ready,
            counts,
            count_due: None,
            keda,
            renewals_known: 0,
            silence_recorded: None,
            records: Vec::new(),
            records_due: None,
            woke_at: Instant::now(),
        })
    }

    fn run(mut self, config: &Config, events: &Receiver<Event>, stopping: &AtomicBool) -> Ended {
        match self.store.restore() {
            Ok(states) => self.take(Event::Restored(states)),
            Err(error) => warn!(error:% = error; "no state from before, cooldowns count from the status"),
        }
        let mut ending: Option<Ending> = None;
        let ended = loop {
            if self.lease.is_deposed() {
                self.ready.leading.store(false, Ordering::Release);
                break Ended::Deposed;
            }
            if ending.is_none() && stopping.load(Ordering::SeqCst) {
                self.ready.stopping.store(true, Ordering::Release);
                // No new writes, so that another instance can acquire the Lease while reads are still served here.
                self.writer.close();
                ending = Some(Ending { began: Instant::now(), handed_over: false });
            }
            let mut at_most = if self.world.is_recording_anew() { LOOK_FOR_ROOM } else { TICK };
            if let Some(ending) = &mut ending {
                at_most = self.wind_down(ending, config.drain);
                if at_most.is_zero() {
                    break Ended::Stopped;
                }
            }
            match events.recv_timeout(self.until_next().min(at_most)) {
                Ok(event) => {
                    self.take(event);
                    for event in events.try_iter().take(BATCH) {
                        self.take(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.woke_at = Instant::now();
                    self.take(Event::Tick);
                }
                Err(RecvTimeoutError::Disconnected) => break Ended::Stopped,
            }
            if let Some(step) = self.clock.follow() {
                warn!(milliseconds = step; "the wall clock was stepped");
                self.world.shift_clock(step, self.clock.now());
            }
            let renewals = self.store.renewals_total();
            if std::mem::replace(&mut self.renewals_known, renewals) != renewals {
                self.take(Event::HistoryRenewed);
            }
            self.record_silence();
            if self.world.is_recording_anew() && self.store.has_room() {
                self.take(Event::HistoryHasRoom);
            }
            self.ready.synced.store(self.world.is_synced(), Ordering::Release);
            if self.records_due.is_some_and(|due| Instant::now() >= due) || self.records.len() >= SAMPLES_MAX {
                self.hand_over_records();
            }
            self.count();
        };
        self.stop(events);
        ended
    }

    /// Releases the Lease once no write is in flight, and returns how long to keep running at most; zero means stop.
    fn wind_down(&mut self, ending: &mut Ending, drain: Duration) -> Duration {
        let elapsed = ending.began.elapsed();
        if !ending.handed_over {
            let have_written = self.writer.have_written();
            if !have_written && elapsed < DRAIN_WRITES {
                return LOOK_FOR_END;
            }
            ending.handed_over = true;
            if have_written {
                self.lease.release();
            } else {
                // A late write that races another instance's would be worse than a late release.
                warn!("writes hang: the lease is left to run out");
            }
        }
        drain.saturating_sub(elapsed).min(TICK)
    }

    /// Returns how long to wait for the next event.
    fn until_next(&self) -> Duration {
        let deadline = self.clock.until(self.world.next_deadline(), TICK);
        let deadline = deadline.max(GATHER.saturating_sub(self.woke_at.elapsed()));
        let records = self.records_due.map(|due| due.saturating_duration_since(Instant::now()));
        records.map_or(deadline, |records| records.min(deadline))
    }

    fn record(&mut self, record: Record) {
        let now = Instant::now();
        // Samples are as many as polls, so they wait; people want to read everything else at once.
        let is_frequent = matches!(record, Record::Sample { .. } | Record::LastActive { .. });
        let due = if is_frequent { now + GATHER_SAMPLES } else { now };
        self.records_due = Some(self.records_due.map_or(due, |known| known.min(due)));
        self.records.push(record);
    }

    /// Records how long the API server has been silent, again and again while that lasts.
    fn record_silence(&mut self) {
        let Some((first, last)) = self.client.silence().filter(|(first, last)| *last - *first >= SILENCE) else {
            return;
        };
        if self.silence_recorded.is_some_and(|recorded| last < recorded + SILENCE_PRECISION) {
            return;
        }
        self.silence_recorded = Some(last);
        let now = self.clock.now().0;
        let at = |then: Instant| {
            UnixMillis(now.saturating_sub(i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX)))
        };
        self.record(Record::Interrupted { kind: Interruption::ApiServer, from: at(first), until: at(last) });
    }

    fn hand_over_records(&mut self) {
        self.records_due = None;
        if !self.records.is_empty() {
            self.store.send(std::mem::take(&mut self.records));
        }
    }

    fn count(&mut self) {
        let now = Instant::now();
        if self.count_due.is_some_and(|due| now < due) {
            return;
        }
        if let Ok(mut counts) = self.counts.try_lock() {
            *counts = self.world.counts();
            if let Some(tally) = &self.keda {
                tally.registered(self.world.registered());
            }
            self.count_due = Some(now + (now.elapsed() * COUNT_EVERY_TIMES).max(COUNT_EVERY));
        }
    }

    fn take(&mut self, event: Event) {
        let leads = matches!(event, Event::Leading { .. });
        let commands = self.world.apply(event, self.clock.now());
        self.carry_out(commands);
        if leads {
            self.trust.lead();
            // Set last, once every known object can be read.
            self.ready.leading.store(true, Ordering::Release);
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Poll(job) => {
                    let lateness = self.clock.now().since(job.due_at);
                    self.pollers.take(job, lateness);
                }
                Command::Write(write) => {
                    let decided = matches!(write.kind, WriteKind::Scale { .. }).then(|| {
                        // Sends the decision's record, which was made just before, so that the ticket covers it.
                        self.hand_over_records();
                        self.store.ticket()
                    });
                    self.writer.take(Job::Write { write: Box::new(write), decided });
                }
                Command::ReadTarget { object, target, known } => {
                    self.writer.take(Job::ReadTarget { object, target, known })
                }
                Command::ReadAuthentication(authentication) => {
                    self.writer.take(Job::ReadAuthentication(authentication));
                }
                Command::CountReadyPods { object, selector } => {
                    self.writer.take(Job::CountReadyPods { object, selector })
                }
                Command::WatchPods { namespace, selections } => self.pods.count(namespace, selections),
                Command::Emit(event) => self.writer.emit(event),
                Command::Turn(number) => {
                    if let Some(turns) = &self.turns {
                        turns.come(number);
                    }
                }
                Command::Publish(key, view) => {
                    if let (Some(tally), Some(view)) = (&self.keda, &view) {
                        tally.publish(view);
                    }
                    self.published.set(&key, view);
                }
                Command::Record(record) => {
                    log_record(&record);
                    if let Some(tally) = &self.keda {
                        tally.record(&record);
                    }
                    self.record(record);
                }
            }
        }
    }

    /// Stops polls and watches, then writes, then the servers, and the history last.
    fn stop(mut self, events: &Receiver<Event>) {
        self.client.shutdown_watches();
        self.trust.stop();
        self.writer.close();
        self.lease.finish();
        let until = Instant::now() + DRAIN_WRITES;
        take_last(&mut self, events, until, |daemon| daemon.writer.is_finished(), Self::take);
        let last = self.world.final_commands();
        self.carry_out(last);
        self.hand_over_records();
        let drained = self.api.drain(DRAIN_GATES) & self.http.drain(Duration::ZERO);
        // The time for draining is over: the remaining connections are closed.
        self.client.shutdown();
        let polls_ended = self.pollers.stop(Duration::ZERO);
        let stopped = self.store.stop(STOP_STORE);
        drop(self.watchers);
        // The process ends now. Threads that still hold a connection own nothing that needs cleaning up, and joining
        // them would let a stuck one delay the exit.
        std::mem::forget((self.api, self.http, self.ui));
        info!(drained, polls_ended, history_complete = stopped.complete, lost = stopped.lost_total; "stopped");
    }
}

/// Takes events until the threads that write have ended, or until then, and what is queued afterwards: those threads still
/// report their outcomes here, which belong in the history.
fn take_last<S>(
    state: &mut S,
    events: &Receiver<Event>,
    until: Instant,
    are_finished: impl Fn(&S) -> bool,
    take: impl Fn(&mut S, Event),
) {
    while !are_finished(state) && Instant::now() < until {
        if let Ok(event) = events.recv_timeout(LOOK_FOR_END) {
            take(state, event);
        }
    }
    // Others may go on reporting, so that the queue need not become empty.
    events.try_iter().take(INBOX).for_each(|event| take(state, event));
}

/// Logs changes only; an unchanging daemon is silent.
fn log_record(record: &Record) {
    match record {
        Record::Definition { object, generation, invalid: None, .. } => {
            info!(scaledobject:% = object, generation = *generation; "definition applied");
        }
        Record::Definition { object, generation, invalid: Some(invalid), .. } => {
            warn!(scaledobject:% = object, generation = *generation, error = invalid; "definition is invalid");
        }
        Record::Removed { object, .. } => info!(scaledobject:% = object; "object removed"),
        Record::Decision { object, decision, .. } => {
            let (reason, detail) = (decision.reason.id(), decision.detail());
            if decision.from == decision.to {
                info!(scaledobject:% = object, reason, detail; "decided to hold");
            } else {
                let (replicas_from, replicas_to) = (decision.from, decision.to);
                info!(scaledobject:% = object, reason, replicas_from, replicas_to, detail; "decided to scale");
            }
        }
        Record::Replicas { object, from: None, to, .. } => {
            info!(scaledobject:% = object, replicas = *to; "replicas seen");
        }
        Record::Replicas { object, from: Some(from), to, by, absent, .. } => {
            // The author of the change is logged once it is known.
            if let Some(by) = by {
                info!(scaledobject:% = object, replicas_from = *from, replicas_to = *to, by:% = by; "replicas changed");
            }
            for (metric, absence) in absent {
                info!(
                    scaledobject:% = object, metric:% = metric, replicas_from = *from, replicas_to = *to,
                    since = crate::logfmt::iso(absence.since.0), answer:% = absence; "scaled in without a number"
                );
            }
        }
        Record::Attributed { object, from, to, by, .. } => {
            info!(scaledobject:% = object, replicas_from = *from, replicas_to = *to, by:% = by; "replicas changed");
        }
        Record::Condition { object, condition, .. } => {
            info!(
                scaledobject:% = object, condition = condition.kind.name(), status = condition.status.name(),
                reason = condition.reason, message = condition.message; "condition changed"
            );
        }
        Record::Sample { .. }
        | Record::Action { .. }
        | Record::Standby { .. }
        | Record::Interrupted { .. }
        | Record::Ready { .. }
        | Record::Hpa { .. }
        | Record::LastActive { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UiAddress;

    /// Regression: the outcomes of writes that had just ended were left in the inbox, and were not in the history.
    #[test]
    fn what_is_queued_when_the_last_write_has_ended_is_taken() {
        let (inbox, events) = sync_channel(INBOX);
        for _ in 0..3 {
            inbox.send(Event::Tick).expect("there is room");
        }
        let until = Instant::now() + Duration::from_secs(60);
        let mut taken = 0;
        take_last(&mut taken, &events, until, |_| true, |taken, _| *taken += 1);
        assert_eq!(taken, 3);
        // An event that leads to the next one must not keep the process from its end.
        inbox.send(Event::Tick).expect("there is room");
        let again = |taken: &mut usize, event| {
            *taken += 1;
            inbox.send(event).expect("there is room");
        };
        take_last(&mut taken, &events, until, |_| true, again);
        assert_eq!(taken, 3 + INBOX);
    }

    #[test]
    fn only_a_page_that_was_asked_for_must_have_its_port() {
        let Ok(crate::cli::Command::Run(mut config)) = crate::cli::parse(["run".into()], &|_| None) else {
            panic!("refused")
        };
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address");
        config.ui = Some(UiAddress { address, given: false });
        assert!(matches!(listen_ui(&config), Ok(None)), "a missing page must not stop scaling");
        config.ui = Some(UiAddress { address, given: true });
        let error = listen_ui(&config).expect_err("it is taken");
        assert!(error.starts_with(&format!("--ui {address}: ")), "{error}");
        drop(taken);
        assert!(matches!(listen_ui(&config), Ok(Some(_))));
        config.ui = None;
        assert!(matches!(listen_ui(&config), Ok(None)));
    }
}
