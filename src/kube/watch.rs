//! Decides what a watch does next, and decodes its bytes.
//!
//! Owns the states list and watch, the resource version, pauses after faults, the splitting of a stream into lines, and
//! the decoding of items one by one, so that a broken object does not affect others.
//! Must not read a socket, a clock or a random number itself: `watcher` passes them in.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::client::{BODY_BYTES_MAX, RETRY_AFTER_MAX};
use super::error::{DECODE_ERROR_MAX, Error, Status};
use super::page_size::PageSize;
use crate::encode::cut;
use crate::random::Random;
use crate::scaling::event::{UnreadableObject, WatchEvent};

/// A line has one object, as the smallest page of a list. A longer line is not an object.
pub const LINE_BYTES_MAX: usize = BODY_BYTES_MAX as usize;

/// Spare capacity that an empty line buffer keeps; that of a huge line is released.
const LINE_BYTES_KEPT: usize = 64 * 1024;

/// Consecutive unreadable lines at the same position before a new list: the second attempt shows whether the server or
/// the connection was at fault.
const BAD_LINES_MAX: u32 = 2;

/// A stream that lasted this long counts as a success even without events.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

/// The server ends each watch after 5 minutes, give or take one, so that watches spread over the replicas of the API
/// server and are not all restarted at the same time.
const WATCH_SECONDS: (u32, u32) = (240, 360);

/// A missing or forbidden resource may be installed or allowed by hand at any time; the pause is short enough for that
/// person to see the effect.
const DENIED_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Attempts that reach nobody cost the API server nothing, and others have waited for their time limit. client-go waits up to 30 s all
/// the same, since with thousands of kubelets its lists come all at once. Here it is a dozen of watches of one process, whose
/// jitter spreads them over seconds, and what changes until they are back is seen late.
const UNANSWERED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Time limits of one watch; tests shorten them.
#[derive(Debug, Clone, Copy)]
pub struct WatchSettings {
    /// The resource may be absent, which is logged once, as information.
    pub optional: bool,
    /// Bookmarks come about once a minute: silence for twice that long means a dead connection.
    pub read_timeout: Duration,
    pub pause_min: Duration,
    pub pause_max: Duration,
}

impl Default for WatchSettings {
    fn default() -> Self {
        WatchSettings {
            optional: false,
            read_timeout: Duration::from_secs(120),
            pause_min: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
        }
    }
}

/// What a projection of an object must keep, so that the watch can continue after it.
pub trait HasMeta {
    fn resource_version(&self) -> &str;
}

/// The identity of an object and its version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectRef {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// A page of a list, with undecoded items.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    pub(super) metadata: PageMeta,
    // Go writes an empty list as `null`.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PageMeta {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) continue_token: String,
}

impl<'a> Page<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, Error> {
        let error = |source| Error::Decode { what: "a page of a list", source };
        let page: Self = serde_json::from_slice(body).map_err(|source| error(Box::new(source)))?;
        let is_last = page.metadata.continue_token.is_empty();
        // What a proxy answers in the API server's place may be JSON, too, and would say that all objects are gone.
        if !page.kind.ends_with("List") || (is_last && page.metadata.resource_version.is_empty()) {
            let text =
                format!("it is no list: kind {:?}, resourceVersion {:?}", page.kind, page.metadata.resource_version);
            return Err(error(text.into()));
        }
        Ok(page)
    }

    pub(super) fn items<T: DeserializeOwned>(&self) -> impl Iterator<Item = Result<T, UnreadableObject>> + '_ {
        self.raw_items().map(|raw| decode_object(raw))
    }

    pub(super) fn raw_items(&self) -> impl Iterator<Item = &'a RawValue> + '_ {
        self.items.as_deref().unwrap_or_default().iter().copied()
    }
}

fn decode_object<T: DeserializeOwned>(raw: &RawValue) -> Result<T, UnreadableObject> {
    serde_json::from_str::<T>(raw.get()).map_err(|error| unreadable(decode_ref(raw), &error.to_string()))
}

/// What is wrong with an object. An error quotes the whole text that should have been something else.
pub(crate) fn unreadable(object: ObjectRef, error: &str) -> UnreadableObject {
    let ObjectRef { namespace, name, .. } = object;
    UnreadableObject { namespace, name, error: cut(error, DECODE_ERROR_MAX).to_owned() }
}

/// Reads the fields that are text. Returns an empty reference if the metadata is unreadable too.
fn decode_ref(raw: &RawValue) -> ObjectRef {
    #[derive(Deserialize)]
    struct Named {
        metadata: serde_json::Map<String, serde_json::Value>,
    }
    let metadata = serde_json::from_str::<Named>(raw.get()).map_or_else(|_| Default::default(), |n| n.metadata);
    let text = |key: &str| metadata.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    ObjectRef {
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
    }
}

/// A line of a watch: the version that the watch has come to, and what happened unless it is a bookmark.
#[derive(Debug)]
pub struct Line<T> {
    pub resource_version: String,
    pub event: Option<WatchEvent<T>>,
}

/// Why a line says nothing of an object.
#[derive(Debug)]
pub enum LineError {
    /// The API server ends the watch.
    Failed(Box<Status>),
    Malformed(String),
}

/// Reads a line of a watch, without its end.
///
/// # Errors
/// When the API server ends the watch with it, or it is no event.
pub fn decode_line<T: DeserializeOwned + HasMeta>(line: &[u8]) -> Result<Line<T>, LineError> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let wire: Wire<'_> = serde_json::from_slice(line).map_err(|error| malformed(&error.to_string()))?;
    match wire.kind {
        "ADDED" | "MODIFIED" => {
            let object = decode_object::<T>(wire.object);
            let resource_version = match &object {
                Ok(object) => object.resource_version().to_owned(),
                Err(_) => decode_ref(wire.object).resource_version,
            };
            let event = object.map_or_else(WatchEvent::Unreadable, WatchEvent::Changed);
            Ok(Line { resource_version, event: Some(event) })
        }
        // Only the key is needed, so the deletion of an object that cannot be read is noticed too.
        "DELETED" => {
            let ObjectRef { namespace, name, uid, resource_version } = decode_ref(wire.object);
            Ok(Line { resource_version, event: Some(WatchEvent::Deleted { namespace, name, uid }) })
        }
        "BOOKMARK" => Ok(Line { resource_version: decode_ref(wire.object).resource_version, event: None }),
        "ERROR" => Err(LineError::Failed(Status::parse_event(wire.object.get().as_bytes()).into())),
        other => Err(malformed(&format!("unknown event type {other:?}"))),
    }
}

fn malformed(problem: &str) -> LineError {
    LineError::Malformed(cut(problem, DECODE_ERROR_MAX).to_owned())
}

/// Splits a stream into lines, however it is divided into reads.
#[derive(Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Start of the next line.
    start: usize,
    /// No line ends before this position, so that a long line is searched only once and not at each read.
    searched: usize,
}

/// A line is longer than any object, see [`LINE_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub struct LineTooLong;

impl Lines {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        if self.buffer.is_empty() {
            self.buffer.shrink_to(LINE_BYTES_KEPT);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete line that is not blank, without its end; `None` if more must be read first.
    ///
    /// # Errors
    /// When the line is too long.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        loop {
            let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') else {
                self.searched = self.buffer.len();
                if self.searched - self.start > LINE_BYTES_MAX {
                    return Err(LineTooLong);
                }
                return Ok(None);
            };
            let (start, end) = (self.start, self.searched + at);
            self.start = end + 1;
            self.searched = self.start;
            if !self.buffer[start..end].trim_ascii().is_empty() {
                return Ok(Some(&self.buffer[start..end]));
            }
        }
    }
}

/// The state of one watch between two requests.
pub(super) struct Machine {
    settings: WatchSettings,
    phase: Phase,
    page_size: PageSize,
    /// Faults since the last healthy stream.
    faults: u32,
    /// Unreadable lines since the last readable one.
    bad_lines: u32,
    random: Random,
}

/// Which request is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A page of a list, the first one without a token.
    List { continue_token: Option<String> },
    /// A stream of what happened after this version.
    Watch { resource_version: String },
}

impl Machine {
    pub(super) fn new(settings: WatchSettings, seed: u64) -> Self {
        Machine {
            settings,
            phase: Phase::List { continue_token: None },
            page_size: PageSize::default(),
            faults: 0,
            bad_lines: 0,
            random: Random::new(seed),
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Items to ask for in a page of a list.
    pub(super) fn page_items(&self) -> u32 {
        self.page_size.items()
    }

    /// After so many seconds the API server is to end the next stream.
    pub(super) fn watch_seconds(&mut self) -> u32 {
        self.random.between(WATCH_SECONDS.0, WATCH_SECONDS.1)
    }

    /// Records that a page of so many bytes was delivered; returns true if it was the last.
    pub(super) fn page_read(&mut self, meta: PageMeta, bytes: usize) -> bool {
        self.page_size.fitted(bytes);
        if !meta.continue_token.is_empty() {
            self.phase = Phase::List { continue_token: Some(meta.continue_token) };
            return false;
        }
        // The count of faults is kept: a server whose watches fail directly after good lists must not be listed without
        // a pause.
        self.phase = Phase::Watch { resource_version: meta.resource_version };
        true
    }

    /// Records that a line was read, after which the watch continues. A bookmark of an older version than the known one is of
    /// a store that was restored from a backup: what it has below that version no stream would show. Returns false for it,
    /// since everything is to be listed anew.
    pub(super) fn line_read(&mut self, version: String, is_bookmark: bool) -> bool {
        self.faults = 0;
        self.bad_lines = 0;
        // An object too broken to have a version must not erase the known one.
        let Phase::Watch { resource_version } = &mut self.phase else { return true };
        let numbers = (version.parse::<u64>(), resource_version.parse::<u64>());
        if is_bookmark && matches!(numbers, (Ok(version), Ok(known)) if version < known) {
            self.relist();
            return false;
        }
        if !version.is_empty() {
            *resource_version = version;
        }
        true
    }

    /// The stream ended properly. Returns the pause before the next one.
    pub(super) fn stream_ended(&mut self, lived: Duration, lines: u64) -> Duration {
        if lines > 0 || lived >= HEALTHY_AFTER {
            self.faults = 0;
            return Duration::ZERO;
        }
        // Without a pause, a server that only closes streams would be asked as fast as it does so.
        self.pause(self.settings.pause_max)
    }

    /// The stream was silent for too long, probably because of a dead connection, so the next attempt is immediate.
    pub(super) fn stream_silent(&mut self) -> Duration {
        Duration::ZERO
    }

    /// A line was not an event. The same position is tried once more before a new list.
    pub(super) fn line_bad(&mut self) -> Duration {
        self.bad_lines += 1;
        if self.bad_lines >= BAD_LINES_MAX {
            self.bad_lines = 0;
            self.relist();
        }
        self.pause(self.settings.pause_max)
    }

    /// A request failed, or the stream reported a failure. Returns the pause before the next request.
    pub(super) fn failed(&mut self, error: &Error) -> Duration {
        if error.is_gone() {
            let again = self.faults > 0;
            self.relist();
            let pause = self.pause(self.settings.pause_max);
            // Normal after an interruption, so not a fault the first time.
            return if again { pause } else { Duration::ZERO };
        }
        if matches!(error, Error::TooLarge { .. }) && self.page_size.shrink() {
            // Continue tokens are independent of the page size.
            return Duration::ZERO;
        }
        if error.is_forbidden() || error.is_not_found() {
            // The known objects may be outdated once it works again: a CRD can be deleted and recreated.
            self.relist();
            return self.pause(self.settings.pause_max.min(DENIED_PAUSE_MAX));
        }
        if error.is_unanswered() {
            return self.pause(self.settings.pause_max.min(UNANSWERED_PAUSE_MAX));
        }
        let pause = self.pause(self.settings.pause_max);
        // A proxy may ask for a day, and all the while nothing would be known of the objects.
        pause.max(error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX))
    }

    fn relist(&mut self) {
        self.phase = Phase::List { continue_token: None };
    }

    /// Doubles with each fault up to `max`; half of the pause is random.
    fn pause(&mut self, max: Duration) -> Duration {
        let doubled = self.settings.pause_min.saturating_mul(1 << self.faults.min(16));
        // A limit that is reached must not let the pause grow behind it: faults of another kind may have a higher one.
        if doubled < max || self.faults == 0 {
            self.faults = self.faults.saturating_add(1);
        }
        let whole = doubled.min(max);
        whole / 2 + whole / 2_000 * self.random.between(0, 1_000)
    }
}

/// Decides which faults are logged: the first, then one in 30 s.
#[derive(Default)]
pub(super) struct LogThrottle {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    const EVERY: Duration = Duration::from_secs(30);

    /// Returns the number of suppressed faults if this one is to be logged.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        let quiet = self.last.is_some_and(|last| now.saturating_duration_since(last) < Self::EVERY);
        if quiet {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Thing {
        metadata: ObjectRef,
        size: u32,
    }

    impl HasMeta for Thing {
        fn resource_version(&self) -> &str {
            &self.metadata.resource_version
        }
    }

    fn machine() -> Machine {
        Machine::new(WatchSettings::default(), 7)
    }

    fn watching(machine: &mut Machine, version: &str) {
        assert!(machine.page_read(PageMeta { resource_version: version.into(), continue_token: String::new() }, 100));
    }

    fn version(machine: &Machine) -> Option<String> {
        match machine.phase() {
            Phase::Watch { resource_version } => Some(resource_version.clone()),
            Phase::List { .. } => None,
        }
    }

    fn status(code: u16) -> Error {
        Status::parse(code, None, b"").into()
    }

    #[test]
    fn a_bad_item_leaves_its_neighbours_alone() {
        let body = br#"{"kind":"ThingList","metadata":{"resourceVersion":"9","continue":"c"},"items":[
            {"metadata":{"name":"a","namespace":"n","resourceVersion":"1"},"size":1,"x":{"y":[]}},
            {"metadata":{"name":"b","namespace":"n","resourceVersion":"2"},"size":"big"},
            {"metadata":7},
            {"metadata":{"name":"c"},"size":3}]}"#;
        let page = Page::decode(body).expect("a page");
        let items: Vec<_> = page.items::<Thing>().collect();
        assert_eq!(items.len(), 4);
        assert_eq!(items[0].as_ref().expect("good").size, 1);
        let bad = items[1].as_ref().expect_err("bad");
        assert_eq!((bad.namespace.as_str(), bad.name.as_str()), ("n", "b"));
        assert!(bad.error.contains("invalid type"), "{}", bad.error);
        assert_eq!(items[2].as_ref().expect_err("bad").name, "");
        assert_eq!(items[3].as_ref().expect("good").size, 3);
        assert_eq!(page.metadata.continue_token, "c");
        let empty = br#"{"kind":"List","metadata":{"resourceVersion":"1"},"items":null}"#;
        assert_eq!(Page::decode(empty).expect("a page").items::<Thing>().count(), 0);
    }

    /// Regression: what a proxy answered in the API server's place was an empty list, and all objects were gone.
    #[test]
    fn what_is_no_list_is_an_error() {
        for body in [
            "<html>",
            "{}",
            r#"{"message":"maintenance"}"#,
            r#"{"kind":"Status","status":"Success","metadata":{"resourceVersion":"1"}}"#,
            r#"{"kind":"ThingList","items":[]}"#,
            r#"{"kind":"ThingList","metadata":{},"items":[]}"#,
        ] {
            assert!(Page::decode(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn lines_are_understood() {
        let line = |text: &str| decode_line::<Thing>(text.as_bytes());
        let object = r#"{"metadata":{"name":"a","resourceVersion":"5"},"size":"x"}"#;
        for kind in ["ADDED", "DELETED", "BOOKMARK"] {
            let line = line(&format!(r#"{{"type":"{kind}","object":{object}}}"#)).expect("readable");
            assert_eq!(line.resource_version, "5");
            match line.event {
                Some(WatchEvent::Unreadable(object)) => assert_eq!((kind, &*object.name), ("ADDED", "a")),
                Some(WatchEvent::Deleted { name, .. }) => assert_eq!((kind, &*name), ("DELETED", "a")),
                other => assert_eq!((kind, other), ("BOOKMARK", None)),
            }
        }
        assert!(matches!(
            line(r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#),
            Err(LineError::Failed(s)) if s.code == 410));
        for bad in ["", "{", "{\"type\":\"ADDED\"}", r#"{"type":"NEW","object":{}}"#, "\u{0}"] {
            assert!(matches!(line(bad), Err(LineError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn lines_survive_any_split() {
        let text = b"one\n\n{\"two\": 2}\r\nthree\nrest";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk);
                while let Some(line) = lines.next_line().expect("short") {
                    found.push(String::from_utf8_lossy(line).trim().to_owned());
                }
            }
            assert_eq!(found, ["one", "{\"two\": 2}", "three"], "chunks of {size}");
        }
    }

    #[test]
    fn a_line_has_a_limit_and_memory_returns() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..LINE_BYTES_MAX / chunk.len() {
            lines.push(&chunk);
            assert_eq!(lines.next_line(), Ok(None));
        }
        lines.push(b"\n");
        assert_eq!(lines.next_line().expect("fits").map(<[u8]>::len), Some(LINE_BYTES_MAX));
        lines.push(b"y\n");
        assert!(lines.buffer.capacity() <= LINE_BYTES_KEPT, "{}", lines.buffer.capacity());
        assert_eq!(lines.next_line(), Ok(Some(&b"y"[..])));
        for _ in 0..=LINE_BYTES_MAX / chunk.len() {
            lines.push(&chunk);
        }
        assert_eq!(lines.next_line(), Err(LineTooLong));
    }

    #[test]
    fn pages_lead_to_a_watch() {
        let mut machine = machine();
        assert_eq!(machine.phase(), &Phase::List { continue_token: None });
        let more = PageMeta { resource_version: "1".into(), continue_token: "t".into() };
        assert!(!machine.page_read(more, 100));
        assert_eq!(machine.phase(), &Phase::List { continue_token: Some("t".into()) });
        watching(&mut machine, "5");
        assert_eq!(version(&machine).as_deref(), Some("5"));
        for _ in 0..100 {
            assert!((WATCH_SECONDS.0..=WATCH_SECONDS.1).contains(&machine.watch_seconds()));
        }
    }

    #[test]
    fn a_watch_resumes_after_what_it_read() {
        let mut machine = machine();
        watching(&mut machine, "5");
        assert!(machine.line_read("6".into(), false));
        assert!(machine.line_read(String::new(), true));
        assert_eq!(machine.stream_ended(Duration::ZERO, 1), Duration::ZERO);
        assert_eq!(version(&machine).as_deref(), Some("6"));
        assert_eq!(machine.stream_silent(), Duration::ZERO);
        assert_eq!(version(&machine).as_deref(), Some("6"));
        assert!(machine.failed(&status(500)) > Duration::ZERO);
        assert_eq!(version(&machine).as_deref(), Some("6"));
    }

    /// Regression: a watch went on from the older version, and what the store had below it was never shown.
    #[test]
    fn a_store_that_was_restored_from_a_backup_is_listed_anew() {
        let mut machine = machine();
        watching(&mut machine, "500");
        assert!(machine.line_read("501".into(), true));
        // The API server of an object that was deleted may name the version before its deletion.
        assert!(machine.line_read("500".into(), false));
        assert!(!machine.line_read("20".into(), true));
        assert_eq!(version(&machine), None);
    }

    #[test]
    fn gone_lists_again_at_once_but_not_for_ever() {
        let mut machine = machine();
        watching(&mut machine, "5");
        assert_eq!(machine.failed(&status(410)), Duration::ZERO);
        assert_eq!(version(&machine), None);
        watching(&mut machine, "6");
        let pause = machine.failed(&status(410));
        assert!(pause >= Duration::from_millis(500), "{pause:?}");
    }

    #[test]
    fn pauses_grow_to_their_limit_and_reset() {
        let mut machine = machine();
        watching(&mut machine, "5");
        let settings = WatchSettings::default();
        let mut expected = settings.pause_min;
        for _ in 0..40 {
            let pause = machine.failed(&status(500));
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?} {expected:?}");
            expected = (expected * 2).min(settings.pause_max);
        }
        assert!(machine.failed(&status(404)) <= DENIED_PAUSE_MAX);
        watching(&mut machine, "6");
        machine.line_read("7".into(), false);
        assert!(machine.failed(&status(500)) <= settings.pause_min);
    }

    /// Regression: after an outage of a minute a watch came back up to half a minute late.
    #[test]
    fn a_server_that_nobody_reaches_is_tried_every_few_seconds() {
        let mut machine = machine();
        watching(&mut machine, "5");
        let refused = || Error::Connect { source: "connection refused".into() };
        let pauses: Vec<_> = (0..40).map(|_| machine.failed(&refused())).collect();
        assert!(pauses.iter().all(|pause| *pause <= UNANSWERED_PAUSE_MAX), "{pauses:?}");
        let (least, most) = (pauses[20..].iter().min(), pauses[20..].iter().max());
        assert!(least < Some(&Duration::from_secs(4)) && most > Some(&Duration::from_secs(4)), "no jitter: {pauses:?}");
        assert!(least > Some(&Duration::from_secs(2)), "{pauses:?}");
        // While it starts it says that it cannot answer yet, for a moment.
        assert!(machine.failed(&status(503)) <= 2 * UNANSWERED_PAUSE_MAX);
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks_within_limits() {
        let mut machine = machine();
        watching(&mut machine, "5");
        for (asked, expected) in [(0, 0), (7, 7), (10, 10), (86_400, 10)] {
            let busy: Error = Status::parse(503, Some(Duration::from_secs(asked)), b"").into();
            let pause = machine.failed(&busy);
            machine.line_read("6".into(), false);
            let own = WatchSettings::default().pause_min;
            assert!(pause >= Duration::from_secs(expected), "{pause:?}");
            assert!(pause <= Duration::from_secs(expected).max(own), "{pause:?}");
        }
    }

    #[test]
    fn a_server_that_only_closes_is_asked_ever_less() {
        let mut machine = machine();
        watching(&mut machine, "5");
        let first = machine.stream_ended(Duration::from_millis(3), 0);
        let second = machine.stream_ended(Duration::from_millis(3), 0);
        assert!(first > Duration::ZERO && second >= Duration::from_millis(500));
        assert_eq!(machine.stream_ended(HEALTHY_AFTER, 0), Duration::ZERO);
    }

    #[test]
    fn an_unreadable_line_is_tried_twice() {
        let mut machine = machine();
        watching(&mut machine, "5");
        machine.line_bad();
        assert_eq!(version(&machine).as_deref(), Some("5"));
        machine.line_bad();
        assert_eq!(version(&machine), None);
    }

    #[test]
    fn pages_shrink_when_too_large() {
        let mut machine = machine();
        let mut limits = vec![machine.page_items()];
        while machine.failed(&Error::TooLarge { limit_bytes: 1 }).is_zero() {
            limits.push(machine.page_items());
        }
        assert_eq!(limits, [500, 250, 125, 62, 31, 15, 7, 3, 1]);
    }

    /// Regression: a few large objects made all later pages small until the next start.
    #[test]
    fn pages_grow_again_after_small_ones() {
        let mut machine = machine();
        for _ in 0..7 {
            machine.failed(&Error::TooLarge { limit_bytes: 1 });
        }
        let page = || PageMeta { resource_version: "1".into(), continue_token: "t".into() };
        machine.page_read(page(), LINE_BYTES_MAX / 2);
        assert_eq!(machine.page_items(), 3, "a page of twice as many would be too large");
        let mut limits = Vec::new();
        for _ in 0..9 {
            machine.page_read(page(), 100_000);
            limits.push(machine.page_items());
        }
        assert_eq!(limits, [6, 12, 24, 48, 96, 192, 384, 500, 500]);
    }

    #[test]
    fn failures_are_logged_twice_a_minute() {
        let mut log_throttle = LogThrottle::default();
        let start = Instant::now();
        assert_eq!(log_throttle.admit(start), Some(0));
        assert_eq!(log_throttle.admit(start + Duration::from_secs(1)), None);
        assert_eq!(log_throttle.admit(start + Duration::from_secs(29)), None);
        assert_eq!(log_throttle.admit(start + Duration::from_secs(30)), Some(2));
    }
}
