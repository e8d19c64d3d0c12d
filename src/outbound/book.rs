//! Known names, the age of their addresses, and which name is looked up next.
//!
//! Pure: time is an argument. At most one look-up of a name is in flight. Names are looked up in the order of requests,
//! but no domain has all threads, and those with slow answers or none leave threads to others.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long addresses are used without a new look-up. The C library does not return the TTL of a name server's answer;
/// CoreDNS has 5 s for Services and up to 30 s for others. A failed connection or a late answer causes an earlier look-up,
/// so this only delays the use of additional addresses, and kept connections delay that anyway.
const FRESH: Duration = Duration::from_secs(30);

/// Addresses up to this age are used while name servers do not answer, so that scaling survives their restart.
const USABLE: Duration = Duration::from_secs(300);

/// With such addresses a request does not wait longer than this for new ones.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// After a failed connection or a late answer a name is looked up again no sooner than this after the last look-up.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);

/// The pause after the first failure, which doubles with each further one, and its maximum.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A name whose look-up fails slowly gets at most a fifth of a thread.
const PAUSE_OF_SLOW: u32 = 4;
const PAUSE_OF_SLOW_MAX: Duration = Duration::from_secs(60);

/// A longer look-up is slow: healthy name servers need milliseconds, and the C library retries after 5 s.
const SLOW: Duration = Duration::from_millis(500);

/// How long a domain is remembered as slow, and how many domains are. It is well below [`USABLE`], since name servers that
/// were down make all domains slow.
const SLOW_FOR: Duration = Duration::from_secs(60);
const SLOW_MAX: usize = 256;

/// Names kept: 4,096 of 253 bytes with 16 addresses take 3 MB.
pub(super) const NAMES_MAX: usize = 4_096;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name servers say that there is none.
    NoSuchHost,
    /// The name servers do not answer, or report a failure.
    Passing,
    /// The look-up took longer than the caller could wait.
    Late,
}

pub(crate) type Addresses = Arc<[IpAddr]>;

/// The result of looking for a name.
#[derive(Debug, PartialEq)]
pub(crate) enum Look {
    Known(Addresses),
    Failed(Failure),
    /// A look-up is needed; the addresses can be used if it takes long.
    Wanted(Option<Addresses>),
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Idle,
    Queued,
    Running { since: Instant },
}

struct Entry {
    known: Option<(Addresses, Instant)>,
    failure: Option<(Failure, Instant)>,
    failures: u32,
    /// A connection to one of its addresses failed, or an answer was late.
    suspect: bool,
    phase: Phase,
    waiting: usize,
    used: Instant,
}

pub(super) struct Book {
    /// Maximum number of threads.
    threads: usize,
    /// The domain of the cluster, as in `cluster.local`.
    cluster: String,
    names: HashMap<String, Entry>,
    /// Names in phase `Queued`, each with a waiting request.
    queue: VecDeque<String>,
    /// Names in phase `Running`, at most one per thread.
    running: Vec<String>,
    /// Domains that were slow, and until when they count as such.
    slow: HashMap<String, Instant>,
}

impl Book {
    pub(super) fn new(threads: usize, cluster: &str) -> Self {
        let (names, queue, running, slow) = Default::default();
        Self { threads, cluster: cluster.to_owned(), names, queue, running, slow }
    }

    /// Looks without waiting.
    pub(super) fn look(&mut self, name: &str, now: Instant) -> Look {
        let Some(entry) = self.names.get_mut(name) else { return Look::Wanted(None) };
        entry.used = now;
        let age = |at: Instant| now.saturating_duration_since(at);
        let usable = entry.known.as_ref().filter(|(_, at)| age(*at) < USABLE);
        if let Some((addresses, at)) = usable {
            let doubted = entry.suspect && age(*at) >= SUSPECT_AFTER;
            if age(*at) < FRESH && !doubted {
                return Look::Known(Arc::clone(addresses));
            }
        }
        match (&entry.failure, usable) {
            (Some((Failure::Passing, until)), Some((addresses, _))) if now < *until => {
                Look::Known(Arc::clone(addresses))
            }
            (Some((failure, until)), _) if now < *until => Look::Failed(*failure),
            (_, usable) => Look::Wanted(usable.map(|(addresses, _)| Arc::clone(addresses))),
        }
    }

    /// Records that a request waits for the name.
    pub(super) fn join(&mut self, name: &str, now: Instant) {
        if !self.names.contains_key(name) {
            self.make_room();
            let (known, failure) = (None, None);
            let entry =
                Entry { known, failure, failures: 0, suspect: false, phase: Phase::Idle, waiting: 0, used: now };
            self.names.insert(name.to_owned(), entry);
        }
        let Some(entry) = self.names.get_mut(name) else { return };
        entry.waiting += 1;
        if entry.phase == Phase::Idle {
            entry.phase = Phase::Queued;
            self.queue.push_back(name.to_owned());
        }
    }

    /// Records that a request no longer waits. Look-ups that no request waits for leave the queue, which bounds it.
    pub(super) fn leave(&mut self, name: &str) {
        let Some(entry) = self.names.get_mut(name) else { return };
        entry.waiting = entry.waiting.saturating_sub(1);
        if entry.waiting == 0 && entry.phase == Phase::Queued {
            entry.phase = Phase::Idle;
            self.queue.retain(|queued| queued != name);
        }
    }

    /// Returns the name that a free thread must look up; None leaves the thread free.
    pub(super) fn begin(&mut self, now: Instant) -> Option<String> {
        let at = (0..self.queue.len()).find(|at| self.may_run(&self.queue[*at], now))?;
        let name = self.queue.remove(at)?;
        if let Some(entry) = self.names.get_mut(&name) {
            entry.phase = Phase::Running { since: now };
        }
        self.running.push(name.clone());
        Some(name)
    }

    /// A domain has half of the threads at most, a slow one a single thread, and all slow ones together half. All names but
    /// trusted ones leave one thread free, and so do all that never had addresses, since namespaces can be made up, too. So
    /// neither a slow domain nor ever new ones hold up the others.
    fn may_run(&self, name: &str, now: Instant) -> bool {
        let half = (self.threads / 2).max(1);
        let domain = self.domain(name);
        let own = self.running.iter().filter(|other| self.domain(other) == domain).count();
        let slow = self.running.iter().filter(|other| self.is_slow(self.domain(other), now)).count();
        let others = self.running.iter().filter(|other| !self.is_trusted(other, now)).count();
        let new = self.running.iter().filter(|other| !self.has_addresses(other)).count();
        let most = self.threads.saturating_sub(1).max(1);
        own < half
            && (!self.is_slow(domain, now) || (own == 0 && slow < half))
            && (self.is_trusted(name, now) || others < most)
            && (self.has_addresses(name) || new < most)
    }

    fn has_addresses(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|entry| entry.known.is_some())
    }

    /// Returns whether a quick answer can be expected: the domain is not slow, and the name has addresses, or is that of a
    /// Service, about which the cluster's own name servers are asked.
    fn is_trusted(&self, name: &str, now: Instant) -> bool {
        (self.has_addresses(name) || namespace(name, &self.cluster).is_some()) && !self.is_slow(self.domain(name), now)
    }

    /// Returns whether a look-up of the domain took long, or takes long now.
    fn is_slow(&self, domain: &str, now: Instant) -> bool {
        let runs_long = |name: &String| {
            matches!(self.names.get(name).map(|entry| entry.phase),
                Some(Phase::Running { since }) if now.saturating_duration_since(since) >= SLOW)
        };
        self.slow.get(domain).is_some_and(|until| now < *until)
            || self.running.iter().any(|name| self.domain(name) == domain && runs_long(name))
    }

    fn domain<'a>(&self, name: &'a str) -> &'a str {
        domain(name, &self.cluster)
    }

    pub(super) fn finish(&mut self, name: &str, found: Result<Addresses, Failure>, now: Instant) {
        self.running.retain(|running| running != name);
        let Some(entry) = self.names.get_mut(name) else { return };
        let Phase::Running { since } = entry.phase else { return };
        let took = now.saturating_duration_since(since);
        entry.phase = Phase::Idle;
        entry.suspect = false;
        match found {
            Ok(addresses) => {
                entry.known = Some((addresses, now));
                (entry.failure, entry.failures) = (None, 0);
            }
            Err(failure) => {
                let doubled = PAUSE.saturating_mul(1 << entry.failures.min(8)).min(PAUSE_MAX);
                let pause = doubled.max(took.saturating_mul(PAUSE_OF_SLOW).min(PAUSE_OF_SLOW_MAX));
                entry.failures = entry.failures.saturating_add(1);
                entry.failure = Some((failure, now + pause));
                if failure == Failure::NoSuchHost {
                    entry.known = None;
                }
            }
        }
        if took >= SLOW {
            self.slow.retain(|_, until| now < *until);
            if self.slow.len() < SLOW_MAX {
                self.slow.insert(domain(name, &self.cluster).to_owned(), now + SLOW_FOR);
            }
        }
    }

    /// Records that a connection to one of the addresses failed, or an answer was late. Returns whether a new look-up may find others.
    pub(super) fn suspect(&mut self, name: &str, now: Instant) -> bool {
        let Some(entry) = self.names.get_mut(name) else { return false };
        let Some((_, at)) = &entry.known else { return false };
        entry.suspect = true;
        now.saturating_duration_since(*at) >= SUSPECT_AFTER
    }

    /// Removes the least recently used name, preferably one without addresses.
    fn make_room(&mut self) {
        if self.names.len() < NAMES_MAX {
            return;
        }
        let idle = self.names.iter().filter(|(_, entry)| entry.phase == Phase::Idle && entry.waiting == 0);
        let oldest = idle.min_by_key(|(_, entry)| (entry.known.is_some(), entry.used)).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.names.remove(&name);
        }
    }

    /// Names that are being looked up or are queued.
    pub(super) fn wanted(&self) -> usize {
        self.running.len() + self.queue.len()
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.names.len()
    }
}

/// Returns the domain whose name servers answer, as far as the name shows it, so that a tenant with slow ones delays
/// only its own names. Within a cluster that is the namespace (`a.shop`, `a.shop.svc`, …), else the last two labels.
fn domain<'a>(name: &'a str, cluster: &str) -> &'a str {
    if let Some(namespace) = namespace(name, cluster) {
        return namespace;
    }
    let name = name.trim_end_matches('.');
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    match (dots.next(), dots.next()) {
        (Some(_), Some(second)) => &name[second + 1..],
        (Some(last), None) => &name[last + 1..],
        (None, _) => "",
    }
}

/// Returns the namespace of a Service's full name: `….shop.svc`, with or without the cluster's domain. `svc` anywhere else
/// is a label that the owner of any domain may use.
fn namespace<'a>(name: &'a str, cluster: &str) -> Option<&'a str> {
    let name = name.trim_end_matches('.');
    let within = name.strip_suffix(cluster).and_then(|name| name.strip_suffix('.')).unwrap_or(name);
    within.strip_suffix(".svc")?.rsplit('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn book() -> Book {
        Book::new(4, "cluster.local")
    }

    fn addresses(last: u8) -> Addresses {
        Arc::from([IpAddr::from([10, 0, 0, last])])
    }

    /// One complete look-up.
    fn found(book: &mut Book, name: &str, found: Result<Addresses, Failure>, at: Instant, took: Duration) {
        book.join(name, at);
        assert_eq!(book.begin(at).as_deref(), Some(name));
        book.finish(name, found, at + took);
        book.leave(name);
    }

    /// Begins as many look-ups as may run.
    fn running(book: &mut Book, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| book.begin(now)).collect()
    }

    #[test]
    fn addresses_are_kept_and_looked_up_again() {
        let (mut book, now) = (book(), Instant::now());
        assert_eq!(book.look("a", now), Look::Wanted(None));
        found(&mut book, "a", Ok(addresses(1)), now, Duration::ZERO);
        for (after, expected) in [
            (29 * SECOND, Look::Known(addresses(1))),
            (30 * SECOND, Look::Wanted(Some(addresses(1)))),
            (300 * SECOND, Look::Wanted(None)),
        ] {
            assert_eq!(book.look("a", now + after), expected, "{after:?}");
        }
        // Name servers do not answer: known addresses are still used, without a look-up for each request.
        let later = now + 40 * SECOND;
        found(&mut book, "a", Err(Failure::Passing), later, Duration::ZERO);
        assert_eq!(book.look("a", later), Look::Known(addresses(1)));
        assert_eq!(book.look("a", later + SECOND), Look::Wanted(Some(addresses(1))));
        assert_eq!(book.look("a", now + 301 * SECOND), Look::Wanted(None));
        // The name no longer exists.
        found(&mut book, "a", Err(Failure::NoSuchHost), later + SECOND, Duration::ZERO);
        assert_eq!(book.look("a", later + SECOND), Look::Failed(Failure::NoSuchHost));
    }

    #[test]
    fn a_failed_connection_asks_again() {
        let (mut book, now) = (book(), Instant::now());
        assert!(!book.suspect("a", now), "nothing was looked up");
        found(&mut book, "a", Ok(addresses(1)), now, Duration::ZERO);
        assert!(!book.suspect("a", now), "they are as new as can be");
        assert_eq!(book.look("a", now), Look::Known(addresses(1)));
        assert!(book.suspect("a", now + SECOND));
        assert_eq!(book.look("a", now + SECOND), Look::Wanted(Some(addresses(1))));
        found(&mut book, "a", Ok(addresses(2)), now + SECOND, Duration::ZERO);
        assert_eq!(book.look("a", now + 3 * SECOND), Look::Known(addresses(2)));
    }

    #[test]
    fn failures_are_paused_for() {
        let (mut book, mut now) = (book(), Instant::now());
        for pause in [1, 2, 4, 8, 10, 10] {
            found(&mut book, "a", Err(Failure::NoSuchHost), now, Duration::ZERO);
            let until = now + pause * SECOND;
            assert_eq!(book.look("a", until - SECOND / 10), Look::Failed(Failure::NoSuchHost));
            assert_eq!(book.look("a", until), Look::Wanted(None));
            now = until;
        }
        found(&mut book, "a", Err(Failure::Passing), now, 10 * SECOND);
        assert_eq!(book.look("a", now + 49 * SECOND), Look::Failed(Failure::Passing));
        assert_eq!(book.look("a", now + 50 * SECOND), Look::Wanted(None));
    }

    #[test]
    fn one_look_up_of_a_name_and_none_that_nobody_waits_for() {
        let (mut book, now) = (book(), Instant::now());
        for _ in 0..3 {
            book.join("a", now);
        }
        assert_eq!(book.begin(now).as_deref(), Some("a"));
        book.join("a", now);
        assert_eq!(book.begin(now), None);
        book.join("b", now);
        book.join("b", now);
        book.leave("b");
        assert_eq!(book.queue.len(), 1);
        book.leave("b");
        assert_eq!((book.queue.len(), book.begin(now)), (0, None));
    }

    #[test]
    fn slow_names_leave_threads_to_others() {
        let (mut book, now) = (book(), Instant::now());
        found(&mut book, "good.shop.svc", Ok(addresses(1)), now, Duration::ZERO);
        for number in 0..1_000 {
            book.join(&format!("n{number}.slow.example"), now);
        }
        assert_eq!(running(&mut book, now).len(), 2, "the domain is unknown");
        book.join("new.other.svc", now);
        book.join("good.shop.svc", now);
        let others = running(&mut book, now);
        assert_eq!(others, ["new.other.svc", "good.shop.svc"], "a thousand wait before them");
        others.iter().for_each(|name| book.finish(name, Ok(addresses(1)), now));
        // Now the domain is known to be slow, and two more such domains are requested.
        let later = now + SECOND;
        book.finish("n0.slow.example", Err(Failure::Passing), later);
        book.finish("n1.slow.example", Err(Failure::Passing), later);
        assert_eq!(running(&mut book, later), ["n2.slow.example"]);
        for domain in ["b.example", "c.example"] {
            found(&mut book, &format!("slow.{domain}"), Err(Failure::Passing), later, SECOND);
        }
        book.join("again.b.example", later + SECOND);
        book.join("again.c.example", later + SECOND);
        assert_eq!(running(&mut book, later + SECOND), ["again.b.example"]);
        book.join("another.shop.svc", later + SECOND);
        assert_eq!(running(&mut book, later + SECOND), ["another.shop.svc"]);
        book.join("good.shop.svc", later + SECOND);
        assert_eq!(running(&mut book, later + SECOND), ["good.shop.svc"]);
    }

    /// Regression: names that were resolved once had all threads whenever their name servers fell silent.
    #[test]
    fn known_names_of_a_domain_that_falls_silent_leave_threads_to_others() {
        let (mut book, now) = (book(), Instant::now());
        let silent: Vec<String> = (0..20).map(|number| format!("n{number}.silent.example")).collect();
        for name in silent.iter().map(String::as_str).chain(["prometheus.monitoring", "api.good.example"]) {
            found(&mut book, name, Ok(addresses(1)), now, Duration::ZERO);
        }
        let mut later = now + FRESH;
        silent.iter().for_each(|name| book.join(name, later));
        book.join("prometheus.monitoring", later);
        let at_first = running(&mut book, later);
        assert_eq!(at_first, [silent[0].as_str(), &silent[1], "prometheus.monitoring"], "half of the threads");
        later += SECOND;
        book.finish("prometheus.monitoring", Ok(addresses(1)), later - SECOND);
        book.join("new.other.example", later);
        assert_eq!(running(&mut book, later), ["new.other.example"], "one never had addresses");
        book.join("api.good.example", later);
        assert_eq!(running(&mut book, later), ["api.good.example"], "the last thread is for those that can be trusted");
        for name in ["new.other.example", "api.good.example"] {
            book.finish(name, Ok(addresses(1)), later);
        }
        // The domain is known to be slow now.
        for name in &silent[..2] {
            book.finish(name, Err(Failure::Passing), later + SECOND);
        }
        assert_eq!(running(&mut book, later + SECOND), [silent[2].as_str()]);
    }

    /// Regression: known names of slow domains counted among those that may have the last thread.
    #[test]
    fn the_last_thread_is_neither_for_slow_domains_nor_for_ever_new_ones() {
        let (mut book, now) = (book(), Instant::now());
        for domain in ["a.example", "b.example", "c.example"] {
            found(&mut book, &format!("n0.{domain}"), Ok(addresses(1)), now, Duration::ZERO);
            found(&mut book, &format!("n1.{domain}"), Err(Failure::Passing), now, SECOND);
        }
        found(&mut book, "prometheus.monitoring", Ok(addresses(1)), now, Duration::ZERO);
        let later = now + FRESH;
        let slow = ["n0.a.example", "n0.b.example", "n0.c.example"];
        slow.iter().for_each(|name| book.join(name, later));
        for number in 0..20 {
            book.join(&format!("x.n{number}.svc.evil{number}.example"), later);
        }
        assert_eq!(running(&mut book, later), ["n0.a.example", "n0.b.example", "x.n0.svc.evil0.example"]);
        // A new Service is looked up beside slow domains and other new names.
        for (new, after) in [("prometheus.shop.svc", SECOND), ("loki.shop.svc.cluster.local", 2 * SECOND)] {
            book.join(new, later + after);
            assert_eq!(running(&mut book, later + after), [new]);
            book.finish(new, Ok(addresses(1)), later + after);
        }
        book.join("prometheus.monitoring", later + 3 * SECOND);
        assert_eq!(running(&mut book, later + 3 * SECOND), ["prometheus.monitoring"]);
    }

    /// Regression: Services of namespaces that do not exist had all threads where their look-ups take long.
    #[test]
    fn new_services_leave_a_thread_to_what_is_known() {
        let (mut book, now) = (book(), Instant::now());
        found(&mut book, "prometheus.monitoring", Ok(addresses(1)), now, Duration::ZERO);
        for number in 0..20 {
            book.join(&format!("x.n{number}.svc"), now + FRESH);
        }
        assert_eq!(running(&mut book, now + FRESH).len(), 3);
        book.join("prometheus.monitoring", now + FRESH);
        assert_eq!(running(&mut book, now + FRESH), ["prometheus.monitoring"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut book, now) = (book(), Instant::now());
        found(&mut book, "good", Ok(addresses(1)), now, Duration::ZERO);
        for number in 0..3 * NAMES_MAX {
            let now = now + Duration::from_micros(number as u64);
            found(&mut book, &format!("n{number}"), Err(Failure::NoSuchHost), now, Duration::ZERO);
        }
        assert_eq!(book.len(), NAMES_MAX);
        assert_eq!(book.look("good", now + SECOND), Look::Known(addresses(1)), "it has an address");
        for number in 0..3 * SLOW_MAX {
            found(&mut book, &format!("a.n{number}.example"), Err(Failure::Passing), now, SECOND);
        }
        assert_eq!((book.len(), book.slow.len()), (NAMES_MAX, SLOW_MAX));
    }

    #[test]
    fn domains() {
        for (name, expected) in [
            ("prometheus", ""),
            ("prometheus.shop", "shop"),
            ("prometheus.shop.svc", "shop"),
            ("pod.prometheus.shop.svc.cluster.local.", "shop"),
            ("a.example", "example"),
            ("a.b.c.example", "c.example"),
            ("a.n17.svc.evil.example", "evil.example"),
            ("x.monitoring.svc.evil.example", "evil.example"),
            ("x.monitoring.svc.cluster.local.evil.example", "evil.example"),
            ("a.shop.svcluster.local", "svcluster.local"),
        ] {
            assert_eq!(domain(name, "cluster.local"), expected, "{name}");
        }
        assert_eq!(domain("prometheus.shop.svc.k8s.corp", "k8s.corp"), "shop");
        assert_eq!(domain("prometheus.shop.svc", "k8s.corp"), "shop");
        assert_eq!(domain("prometheus.shop.svc.cluster.local", "k8s.corp"), "cluster.local");
    }
}
