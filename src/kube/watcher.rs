//! Threads that run watches and pass their events to an owner.
//!
//! Owns: one thread and one stream per watched namespace (or one for all), the log lines about
//! their faults, and their counters. What to do next is decided in `watch`.
//! Must not: keep objects. The owner does, and notices what vanished by `ListStart` and `ListEnd`.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use serde::de::DeserializeOwned;

use super::client::Client;
use super::error::Error;
use super::request::{ListOptions, Resource, WatchOptions};
use super::watch::{HasMeta, Line, LineError, Lines, LogThrottle, Machine, Page, Phase, WatchSettings, decode_line};
use crate::scaling::event::WatchEvent;

/// Bytes of one read; equal to the transport's own buffer, so more would gain nothing.
const READ_BYTES: usize = 16 * 1024;

/// What a [`Watcher`] watches.
pub struct Watch<'a> {
    /// Name of the threads, after `watch-`, and in the log.
    pub name: &'a str,
    pub resource: Resource,
    /// Empty for all of them.
    pub namespaces: Vec<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub settings: WatchSettings,
}

impl<'a> Watch<'a> {
    /// All objects of a kind.
    pub fn all(name: &'a str, resource: Resource) -> Self {
        let (label_selector, field_selector) = (None, None);
        let settings = WatchSettings::default();
        Self { name, resource, namespaces: Vec::new(), label_selector, field_selector, settings }
    }

    /// One object, for which rights on its name are enough. `namespace` is `None` for cluster-scoped kinds.
    pub fn one(name: &'a str, resource: Resource, namespace: Option<&str>, object: &str) -> Self {
        let namespaces = namespace.into_iter().map(str::to_owned).collect();
        Self { namespaces, field_selector: Some(format!("metadata.name={object}")), ..Self::all(name, resource) }
    }
}

/// The running watches of one resource. Dropping it does not stop the threads.
pub struct Watcher {
    shared: Arc<Shared>,
    client: Client,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    lists: AtomicU64,
    streams: AtomicU64,
    faults: AtomicU64,
    invalid: AtomicU64,
    /// When the connection to the API server was lost.
    disconnected_since: Mutex<Option<Instant>>,
}

impl Shared {
    fn disconnected(&self) {
        self.disconnected_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    fn connected(&self) {
        *self.disconnected_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Counters since the start, over all namespaces of a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchStats {
    /// Lists started.
    pub lists: u64,
    /// Streams opened.
    pub streams: u64,
    /// Requests or streams that failed, including silent streams.
    pub faults: u64,
    /// Objects that could not be read.
    pub invalid: u64,
}

impl Watcher {
    /// Starts watching. Each namespace has a stream, a thread and a clone of the sink. A sink that returns `Break` ends the
    /// whole watcher.
    pub fn spawn<T, S>(client: &Client, watch: Watch<'_>, sink: S) -> io::Result<Self>
    where
        T: DeserializeOwned + HasMeta + 'static,
        S: FnMut(WatchEvent<T>) -> ControlFlow<()> + Clone + Send + 'static,
    {
        let Watch { name, resource, namespaces, label_selector, field_selector, settings } = watch;
        let mut watcher = Watcher { shared: Arc::default(), client: client.clone(), threads: Vec::new() };
        let each = if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
        for namespace in each {
            let mut task = Task {
                name: name.to_owned(),
                client: client.clone(),
                resource: resource.clone(),
                machine: Machine::new(settings, RandomState::new().hash_one(&namespace)),
                namespace,
                label_selector: label_selector.clone(),
                field_selector: field_selector.clone(),
                settings,
                shared: Arc::clone(&watcher.shared),
                log_throttle: LogThrottle::default(),
                absence_logged: false,
                heard_at: None,
                is_interrupted: false,
                sink: sink.clone(),
            };
            let thread = thread::Builder::new()
                .name(format!("watch-{name}"))
                .spawn(move || task.run())
                .inspect_err(|_| watcher.stop())?;
            watcher.threads.push(thread);
        }
        Ok(watcher)
    }

    /// Asks the threads to end. A thread that waits on a quiet stream notices at the next bookmark, within about a
    /// minute; `Client::shutdown_watches` wakes it immediately.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.client.watch_stop().notify();
    }

    /// Waits until all threads have ended.
    pub fn join(self) {
        for thread in self.threads {
            // A panic has already been reported by the thread itself.
            let _ = thread.join();
        }
    }

    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Returns how long a watch of a namespace, or of the cluster, has had neither a list nor a stream: the known
    /// objects may be that outdated, and slightly more, since a silently dead connection is noticed only after the read
    /// timeout. `None` while it is connected.
    pub fn disconnected_for(&self) -> Option<Duration> {
        let since = *self.shared.disconnected_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }

    pub fn stats(&self) -> WatchStats {
        let shared = &self.shared;
        WatchStats {
            lists: shared.lists.load(Ordering::Relaxed),
            streams: shared.streams.load(Ordering::Relaxed),
            faults: shared.faults.load(Ordering::Relaxed),
            invalid: shared.invalid.load(Ordering::Relaxed),
        }
    }
}

/// The state of one thread.
struct Task<S> {
    name: String,
    client: Client,
    resource: Resource,
    namespace: Option<String>,
    label_selector: Option<String>,
    field_selector: Option<String>,
    settings: WatchSettings,
    shared: Arc<Shared>,
    machine: Machine,
    log_throttle: LogThrottle,
    absence_logged: bool,
    /// When a list or a stream showed something last.
    heard_at: Option<Instant>,
    /// Since then the connection was lost, which the owner knows.
    is_interrupted: bool,
    sink: S,
}

/// Why a step was not completed.
enum Halt {
    /// The owner or the process has asked to stop.
    Stop,
    Pause(Duration),
}

impl<S> Task<S> {
    fn run<T>(&mut self)
    where
        T: DeserializeOwned + HasMeta,
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        while !self.is_stopped() {
            let result = match self.machine.phase().clone() {
                Phase::List { continue_token } => self.list(continue_token.as_deref()),
                Phase::Watch { resource_version } => self.watch(&resource_version),
            };
            let pause = match result {
                Ok(()) => Duration::ZERO,
                Err(Halt::Pause(pause)) => pause,
                Err(Halt::Stop) => break,
            };
            let shared = Arc::clone(&self.shared);
            let stopped = move || shared.stopped.load(Ordering::SeqCst);
            if !pause.is_zero() && self.client.watch_stop().wait(pause, stopped) {
                break;
            }
        }
        // A single namespace would give incomplete facts.
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.client.watch_stop().notify();
        debug!(watch = self.name.as_str(); "watch ended");
    }

    fn scope(&self) -> String {
        self.namespace.clone().unwrap_or_default()
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst) || self.client.watch_stop().is_set()
    }

    /// Reads one page of a list.
    fn list<T>(&mut self, continue_token: Option<&str>) -> Result<(), Halt>
    where
        T: DeserializeOwned + HasMeta,
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        if continue_token.is_none() {
            // Whatever was answered to others before this shows no more than the list will.
            self.give(WatchEvent::ListStart { scope: self.scope() })?;
        }
        let options = ListOptions {
            limit: self.machine.page_items(),
            continue_token,
            resource_version: None,
            label_selector: self.label_selector.as_deref(),
            field_selector: self.field_selector.as_deref(),
        };
        let request = self.resource.list(self.namespace.as_deref(), &options);
        let body = request.map_err(Error::from).and_then(|request| self.client.send_for_watch(&request));
        let body = body.map_err(|error| self.unlisted(&error))?;
        let page = Page::decode(&body.bytes).map_err(|error| self.unlisted(&error))?;
        if continue_token.is_none() {
            self.shared.lists.fetch_add(1, Ordering::Relaxed);
        }
        for item in page.items::<T>() {
            self.give(item.map_or_else(WatchEvent::Unreadable, WatchEvent::Listed))?;
        }
        if self.machine.page_read(page.metadata, body.bytes.len()) {
            self.give(WatchEvent::ListEnd { scope: self.scope() })?;
            self.heard_at = Some(Instant::now());
        }
        Ok(())
    }

    /// Opens a stream and follows it until it ends.
    fn watch<T>(&mut self, resource_version: &str) -> Result<(), Halt>
    where
        T: DeserializeOwned + HasMeta,
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        let options = WatchOptions {
            resource_version: Some(resource_version),
            timeout_seconds: self.machine.watch_seconds(),
            label_selector: self.label_selector.as_deref(),
            field_selector: self.field_selector.as_deref(),
        };
        let request = self.resource.watch(self.namespace.as_deref(), &options);
        let stream =
            request.map_err(Error::from).and_then(|request| self.client.stream(&request, self.settings.read_timeout));
        let mut stream = stream.map_err(|error| self.fault("watch", &error))?;
        self.shared.streams.fetch_add(1, Ordering::Relaxed);
        self.shared.connected();
        let opened_at = Instant::now();
        self.heard_at = Some(opened_at);
        if std::mem::take(&mut self.is_interrupted) {
            self.give(WatchEvent::Resumed { scope: self.scope() })?;
        }
        let mut count = 0;
        let mut lines = Lines::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match stream.read_some(&mut buffer) {
                Ok(0) => {
                    let pause = self.machine.stream_ended(opened_at.elapsed(), count);
                    return Err(Halt::Pause(pause));
                }
                Ok(amount) => {
                    self.heard_at = Some(Instant::now());
                    lines.push(&buffer[..amount]);
                }
                Err(Error::Timeout { .. }) => {
                    self.shared.faults.fetch_add(1, Ordering::Relaxed);
                    self.interrupted()?;
                    debug!(watch = self.name.as_str(); "watch was silent for too long");
                    return Err(Halt::Pause(self.machine.stream_silent()));
                }
                Err(error) => return Err(self.fault("watch", &error)),
            }
            loop {
                let line = match lines.next_line() {
                    Ok(Some(line)) => decode_line::<T>(line),
                    Ok(None) => break,
                    Err(_) => Err(LineError::Malformed("the line is too long".to_owned())),
                };
                self.take_line(line)?;
                count += 1;
            }
            if self.is_stopped() {
                return Err(Halt::Stop);
            }
        }
    }

    fn take_line<T>(&mut self, line: Result<Line<T>, LineError>) -> Result<(), Halt>
    where
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        match line {
            Ok(Line { resource_version, event }) => {
                if !self.machine.line_read(resource_version, event.is_none()) {
                    return Err(Halt::Pause(Duration::ZERO));
                }
                event.map_or(Ok(()), |event| self.give(event))
            }
            Err(LineError::Failed(status)) => Err(self.fault("watch", &Error::from(*status))),
            Err(LineError::Malformed(problem)) => {
                self.shared.faults.fetch_add(1, Ordering::Relaxed);
                let pause = self.machine.line_bad();
                self.log_failure("watch", &problem, "");
                Err(Halt::Pause(pause))
            }
        }
    }

    fn give<T>(&mut self, event: WatchEvent<T>) -> Result<(), Halt>
    where
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        if matches!(event, WatchEvent::Unreadable(_)) {
            self.shared.invalid.fetch_add(1, Ordering::Relaxed);
        }
        match (self.sink)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Halt::Stop),
        }
    }

    /// Handles a failure that leaves the owner without a list.
    fn unlisted<T>(&mut self, error: &Error) -> Halt
    where
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        let halt = self.fault("list", error);
        // A failure that is retried immediately is not reported.
        if matches!(&halt, Halt::Stop | Halt::Pause(Duration::ZERO)) {
            return halt;
        }
        let (is_denied, is_absent) = (error.is_forbidden(), error.is_not_found() && self.settings.optional);
        match self.give(WatchEvent::ListFailed { error: error.to_string(), is_denied, is_absent }) {
            Ok(()) => halt,
            Err(stop) => stop,
        }
    }

    /// Tells the owner that what was known grows old from now on.
    fn interrupted<T>(&mut self) -> Result<(), Halt>
    where
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        self.shared.disconnected();
        match self.heard_at {
            Some(heard_at) if !std::mem::replace(&mut self.is_interrupted, true) => {
                self.give(WatchEvent::Interrupted { scope: self.scope(), silent_for: heard_at.elapsed() })
            }
            _ => Ok(()),
        }
    }

    /// Records a failure and decides what follows.
    fn fault<T>(&mut self, step: &'static str, error: &Error) -> Halt
    where
        S: FnMut(WatchEvent<T>) -> ControlFlow<()>,
    {
        if matches!(error, Error::Shutdown) {
            return Halt::Stop;
        }
        self.shared.faults.fetch_add(1, Ordering::Relaxed);
        if let Err(stop) = self.interrupted() {
            return stop;
        }
        let pause = self.machine.failed(error);
        if error.is_not_found() && self.settings.optional {
            if !std::mem::replace(&mut self.absence_logged, true) {
                let resource = format!("{}.{}", self.resource.plural, self.resource.group);
                info!(watch = self.name.as_str(), resource = resource.as_str(); "resource is not installed, which is fine");
            }
        } else if error.is_gone() {
            // Normal for a watch: nobody has to act.
            debug!(watch = self.name.as_str(), step; "resource version expired, listing again");
        } else {
            let fix = if error.is_not_found() {
                "is the CRD installed? apply k8s/crds"
            } else if error.is_forbidden() {
                "grant list and watch to the service account, see k8s/base"
            } else {
                ""
            };
            self.log_failure(step, error, fix);
        }
        Halt::Pause(pause)
    }

    fn log_failure(&mut self, step: &str, error: &dyn std::fmt::Display, fix: &str) {
        let Some(suppressed) = self.log_throttle.admit(Instant::now()) else {
            return;
        };
        let resource = format!("{}.{}", self.resource.plural, self.resource.group);
        warn!(
            watch = self.name.as_str(), resource = resource.trim_end_matches('.'),
            namespace = self.namespace.as_deref().unwrap_or("*"), step, error:%, fix, suppressed;
            "watch disturbed"
        );
    }
}
