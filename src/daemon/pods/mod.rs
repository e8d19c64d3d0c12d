//! Counting pods for kubernetes-workload triggers: a watch for each namespace that has such a trigger.
//!
//! The thread `pods` owns the indexes and sends the core each count that changed. A watch starts with the first such
//! trigger in its namespace and stops some time after the last one.

mod index;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;

use self::index::{Index, Pod};
use crate::kube::client::Client;
use crate::kube::resources::PODS;
use crate::kube::watcher::{Watch, Watcher};
use crate::scaling::event::{ErrorClass, Event, PollError, UnreadableObject, WatchEvent};
use crate::scaling::model::PodSelection;

/// Field selector by which the API server leaves out pods that do not count.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Upper bound on watch events that the thread has not processed; at about 1 kB a pod that is at most 1 MB.
const SEEN_MAX: usize = 1024;
/// The counts of a namespace are sent at most this often, as a rollout changes them with every pod. The first change
/// after a quiet time is sent at once.
const SEND_EVERY: Duration = Duration::from_millis(250);
/// Counts become an error once their watch has been disconnected this long: half a minute, as for the readings of any
/// other trigger with a short interval. A restart of the API server takes less.
const DISCONNECTED_MAX: Duration = Duration::from_secs(30);
/// A watch that could not be started is retried after this long.
const START_AGAIN: Duration = Duration::from_secs(10);

/// A watch goes on for this long after its last selection. Its thread may wait on a quiet stream for as long once it is
/// asked to stop, so whoever removes and adds a trigger again and again has two watches in a namespace at most.
const UNWANTED_MAX: Duration = Duration::from_secs(120);

/// The selections to count, by namespace. Locked only to change or copy an entry.
type Wanted = Mutex<BTreeMap<Arc<str>, Vec<PodSelection>>>;

/// Handle to the thread.
pub(super) struct Pods {
    wanted: Arc<Wanted>,
    news: SyncSender<News>,
}

enum News {
    /// The wanted selections have changed.
    Wanted,
    Seen {
        namespace: Arc<str>,
        /// Identifies the watch: one that was stopped may still deliver events.
        watch: u64,
        event: WatchEvent<Pod>,
    },
}

impl Pods {
    pub(super) fn start(client: &Client, inbox: &SyncSender<Event>) -> std::io::Result<Self> {
        let (news, incoming) = sync_channel(SEEN_MAX);
        let wanted = Arc::new(Wanted::default());
        let counter = Counter {
            client: client.clone(),
            inbox: inbox.clone(),
            wanted: Arc::clone(&wanted),
            news: news.clone(),
            namespaces: BTreeMap::new(),
            next_watch: 0,
        };
        std::thread::Builder::new().name("pods".to_owned()).spawn(move || counter.run(&incoming))?;
        Ok(Self { wanted, news })
    }

    /// Counts these selections from now on, and no others in the namespace. Does not block.
    pub(super) fn count(&self, namespace: Arc<str>, selections: Vec<PodSelection>) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace, selections);
        // If the queue is full, the thread checks the wanted selections after the next message anyway.
        let _ = self.news.try_send(News::Wanted);
    }
}

struct Counter {
    client: Client,
    inbox: SyncSender<Event>,
    wanted: Arc<Wanted>,
    news: SyncSender<News>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    next_watch: u64,
}

struct Namespace {
    watch: u64,
    /// On failure, the time of the next attempt to start the watch.
    watcher: Result<Watcher, Instant>,
    index: Index,
    /// Since when there are no selections.
    unwanted_since: Option<Instant>,
    /// Why there are no counts, if there are none.
    error: Option<PollError>,
    /// The watch has been disconnected for [`DISCONNECTED_MAX`].
    is_disconnected: bool,
    /// Counts may have changed since they were sent.
    is_changed: bool,
    sent_at: Option<Instant>,
    sent: BTreeMap<PodSelection, Result<u32, PollError>>,
}

impl Namespace {
    /// A namespace whose watch has yet to be started.
    fn new(now: Instant) -> Self {
        Self {
            watch: 0,
            watcher: Err(now),
            index: Index::default(),
            unwanted_since: None,
            error: None,
            is_disconnected: false,
            is_changed: false,
            sent_at: None,
            sent: BTreeMap::new(),
        }
    }

    fn note_connection(&mut self, disconnected_for: Option<Duration>) {
        let is_disconnected = disconnected_for.is_some_and(|time| time >= DISCONNECTED_MAX);
        self.is_changed |= is_disconnected != self.is_disconnected;
        self.is_disconnected = is_disconnected;
    }

    /// Returns why there are no counts, if there are none. The error of a list takes precedence, since it says more.
    fn error(&self, name: &str) -> Option<PollError> {
        let disconnected = || {
            let message = format!(
                "the watch of pods in namespace {name} has heard nothing of the API server for more than {} s",
                DISCONNECTED_MAX.as_secs()
            );
            PollError::new(ErrorClass::Connect, message)
        };
        self.error.clone().or_else(|| self.is_disconnected.then(disconnected))
    }
}

impl Counter {
    /// Runs until the inbox closes.
    fn run(mut self, incoming: &Receiver<News>) {
        loop {
            let wait = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
            match incoming.recv_timeout(wait.map_or(START_AGAIN, |wait| wait.min(START_AGAIN))) {
                Ok(News::Wanted) | Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Seen { namespace, watch, event }) => self.seen(&namespace, watch, event),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.take_wanted(Instant::now());
            for namespace in self.namespaces.values_mut() {
                let disconnected_for = namespace.watcher.as_ref().ok().and_then(Watcher::disconnected_for);
                namespace.note_connection(disconnected_for);
            }
            if self.send_counts(Instant::now()).is_break() {
                return;
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of = |namespace: &Namespace| {
            let send_at = namespace.sent_at.filter(|_| namespace.is_changed).map(|at| at + SEND_EVERY);
            [send_at, namespace.watcher.as_ref().err().copied()].into_iter().flatten().min()
        };
        self.namespaces.values().filter_map(of).min()
    }

    fn take_wanted(&mut self, now: Instant) {
        let wanted = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        for (namespace, selections) in wanted {
            let is_wanted = !selections.is_empty();
            if !is_wanted && !self.namespaces.contains_key(&namespace) {
                continue;
            }
            let known = self.namespaces.entry(namespace).or_insert_with(|| Namespace::new(now));
            known.unwanted_since = (!is_wanted).then(|| known.unwanted_since.unwrap_or(now));
            known.index.select(selections.into_iter().collect());
            // A selection that was removed and added again meanwhile is new to the core.
            known.sent.clear();
            known.is_changed = true;
            known.sent_at = None;
        }
        self.namespaces.retain(|_, namespace| {
            let is_over = namespace.unwanted_since.is_some_and(|since| now >= since + UNWANTED_MAX);
            if let (true, Ok(watcher)) = (is_over, &namespace.watcher) {
                watcher.stop();
            }
            !is_over
        });
        for (name, namespace) in &mut self.namespaces {
            if namespace.watcher.as_ref().is_ok_and(|watcher| !watcher.is_finished())
                || namespace.watcher.as_ref().is_err_and(|again| *again > now)
            {
                continue;
            }
            self.next_watch += 1;
            namespace.watch = self.next_watch;
            namespace.watcher = start(&self.client, name, self.next_watch, &self.news).map_err(|error| {
                warn!(namespace = &**name, error:% = error; "pods cannot be watched");
                let message = format!("cannot watch pods in namespace {name}: {error}");
                namespace.error = Some(PollError::new(ErrorClass::Configuration, message));
                namespace.is_changed = true;
                now + START_AGAIN
            });
        }
    }

    fn seen(&mut self, name: &Arc<str>, watch: u64, event: WatchEvent<Pod>) {
        let Some(namespace) = self.namespaces.get_mut(name).filter(|namespace| namespace.watch == watch) else {
            return;
        };
        match event {
            WatchEvent::ListStart { .. } => return namespace.index.begin_list(),
            WatchEvent::Listed(pod) => return namespace.index.listed(pod),
            WatchEvent::Interrupted { .. } | WatchEvent::Resumed { .. } => return,
            WatchEvent::ListEnd { .. } => {
                namespace.index.end_list();
                namespace.error = None;
            }
            WatchEvent::Changed(pod) => namespace.index.apply(pod),
            WatchEvent::Deleted { name, .. } => namespace.index.delete(&name),
            // A pod whose few fields cannot be read does not come from an API server.
            WatchEvent::Unreadable(UnreadableObject { namespace, name, error }) => {
                warn!(namespace, name, error; "pod cannot be read, ignored");
                return;
            }
            WatchEvent::ListFailed { error, is_denied, .. } => {
                let fix =
                    if is_denied { " (grant list and watch on pods to the service account, see k8s/base)" } else { "" };
                let class = if is_denied { ErrorClass::Authentication } else { ErrorClass::Connect };
                let message = format!("cannot list pods in namespace {name}: {error}{fix}");
                namespace.error = Some(PollError::new(class, message));
            }
        }
        namespace.is_changed = true;
    }

    /// Sends the core the counts that changed, unless the namespace's were sent a moment ago.
    fn send_counts(&mut self, now: Instant) -> ControlFlow<()> {
        for (name, namespace) in &mut self.namespaces {
            if !namespace.is_changed || namespace.sent_at.is_some_and(|at| now < at + SEND_EVERY) {
                continue;
            }
            namespace.is_changed = false;
            let error = namespace.error(name);
            for (selection, count) in namespace.index.counts() {
                let count = match (&error, count) {
                    (Some(error), _) => Err(error.clone()),
                    (None, Some(count)) => Ok(count),
                    // The first list is not complete yet.
                    (None, None) => continue,
                };
                if namespace.sent.get(selection) == Some(&count) {
                    continue;
                }
                namespace.sent.insert(selection.clone(), count.clone());
                namespace.sent_at = Some(now);
                let event = Event::PodsSelected { namespace: Arc::clone(name), selection: selection.clone(), count };
                if self.inbox.send(event).is_err() {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn start(client: &Client, namespace: &Arc<str>, watch: u64, news: &SyncSender<News>) -> std::io::Result<Watcher> {
    let (name, news) = (Arc::clone(namespace), news.clone());
    let sink = move |event| match news.send(News::Seen { namespace: Arc::clone(&name), watch, event }) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let (namespaces, field_selector) = (vec![namespace.to_string()], Some(UNFINISHED.to_owned()));
    Watcher::spawn::<Pod, _>(client, Watch { namespaces, field_selector, ..Watch::all("pods", PODS) }, sink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::config::ClusterConfig;

    fn counter(server: &std::net::TcpListener) -> Counter {
        Counter {
            client: Client::new(ClusterConfig::of_server(server.local_addr().unwrap())),
            inbox: sync_channel(8).0,
            wanted: Arc::default(),
            news: sync_channel(8).0,
            namespaces: BTreeMap::new(),
            next_watch: 0,
        }
    }

    #[test]
    fn a_trigger_that_comes_and_goes_keeps_its_watch() {
        // It never answers.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut counter = counter(&server);
        let start = Instant::now();
        let mut after = |seconds: u64, wanted: Option<&[PodSelection]>| {
            let wanted = wanted.map(|selections| (Arc::from("shop"), selections.to_vec()));
            counter.wanted.lock().unwrap().extend(wanted);
            counter.take_wanted(start + Duration::from_secs(seconds));
            (counter.namespaces.len(), counter.next_watch)
        };
        let selections = [PodSelection { selector: Arc::from("app=web"), group_by_node: false }];
        for _ in 0..20 {
            assert_eq!(after(0, Some(&selections)), (1, 1));
            assert_eq!(after(10, Some(&[])), (1, 1));
        }
        assert_eq!(after(129, Some(&[])), (1, 1));
        assert_eq!(after(130, None), (0, 1), "it has been unwanted for long enough");
        assert_eq!(after(131, Some(&[])), (0, 1));
        assert_eq!(after(132, Some(&selections)), (1, 2));
        counter.client.shutdown();
    }

    #[test]
    fn counts_become_an_error_when_their_watch_is_disconnected() {
        let mut namespace = Namespace::new(Instant::now());
        let mut after = |disconnected_for: Option<u64>| {
            namespace.is_changed = false;
            namespace.note_connection(disconnected_for.map(Duration::from_secs));
            (namespace.is_changed, namespace.error("shop").map(|error| error.message))
        };
        let message = "the watch of pods in namespace shop has heard nothing of the API server for more than 30 s";
        assert_eq!(after(None), (false, None));
        assert_eq!(after(Some(29)), (false, None));
        assert_eq!(after(Some(30)), (true, Some(message.to_owned())));
        assert_eq!(after(Some(300)), (false, Some(message.to_owned())));
        assert_eq!(after(None), (true, None), "the counts are valid again without a new list");
    }
}
