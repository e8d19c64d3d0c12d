//! Watches under all kinds of faults that the fake supports.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hpalite::kube::{Client, HasMeta, ObjectRef, Resource, Watch, WatchSettings, Watcher};
use hpalite::scaling::event::{UnreadableObject, WatchEvent};
use serde::Deserialize;

use crate::support::fake_kube::{DEADLINE, FakeKube, Piece, Reply};

const THINGS: Resource = Resource::new("shop.io", "v1", "things", true);
const LIST: &str = "GET /apis/shop.io/v1/things";
const WATCH: &str = "WATCH /apis/shop.io/v1/things";

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

struct Bench {
    fake: FakeKube,
    client: Client,
    watcher: Option<Watcher>,
    events: Receiver<String>,
}

impl Bench {
    fn start(fake: FakeKube, namespaces: &[&str]) -> Self {
        Self::with_read_timeout(fake, namespaces, Duration::from_secs(60))
    }

    fn with_read_timeout(fake: FakeKube, namespaces: &[&str], read_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(fake.config(folder.path(), ""));
        let (sender, events) = channel();
        let namespaces: Vec<_> = namespaces.iter().map(|n| (*n).to_owned()).collect();
        let settings = WatchSettings {
            optional: false,
            read_timeout,
            pause_min: Duration::from_millis(2),
            pause_max: Duration::from_millis(20),
        };
        let sink = move |event: WatchEvent<Thing>| match sender.send(show(&event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let watcher =
            Watcher::spawn(&client, Watch { namespaces, settings, ..Watch::all("things", THINGS) }, sink).unwrap();
        Bench { fake, client, watcher: Some(watcher), events }
    }

    fn next(&self) -> String {
        self.events.recv_timeout(DEADLINE).expect("an event")
    }

    fn expect(&self, expected: &[&str]) {
        for event in expected {
            assert_eq!(&self.next(), event);
        }
    }

    fn watcher(&self) -> &Watcher {
        self.watcher.as_ref().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let start = Instant::now();
        self.client.shutdown_watches();
        self.watcher.take().unwrap().join();
        assert!(start.elapsed() < DEADLINE / 2, "shutdown took {:?}", start.elapsed());
    }
}

fn show(event: &WatchEvent<Thing>) -> String {
    let thing = |t: &Thing| format!("{}={}", t.metadata, t.size);
    let scope = |scope: &String| if scope.is_empty() { "*".to_owned() } else { scope.clone() };
    match event {
        WatchEvent::ListStart { scope: all } => format!("start {}", scope(all)),
        WatchEvent::Listed(t) => format!("listed {}", thing(t)),
        WatchEvent::ListEnd { scope: all } => format!("end {}", scope(all)),
        WatchEvent::Interrupted { scope: all, .. } => format!("interrupted {}", scope(all)),
        WatchEvent::Resumed { scope: all } => format!("resumed {}", scope(all)),
        WatchEvent::Changed(t) => format!("changed {}", thing(t)),
        WatchEvent::Deleted { namespace, name, uid } => format!("deleted {namespace}/{name} {uid}"),
        WatchEvent::ListFailed { is_denied, .. } => if *is_denied { "denied" } else { "failed" }.to_owned(),
        WatchEvent::Unreadable(UnreadableObject { namespace, name, .. }) => format!("unreadable {namespace}/{name}"),
    }
}

fn object(name: &str, version: u32, size: &str) -> String {
    format!(
        r#"{{"apiVersion":"shop.io/v1","kind":"Thing","metadata":{{"name":"{name}","namespace":"n","uid":"u","resourceVersion":"{version}","labels":{{"a":"b"}}}},"spec":{{"x":[1,{{}}]}},"size":{size}}}"#
    )
}

fn list(version: u32, more: &str, items: &[String]) -> Reply {
    Reply::json(
        200,
        format!(
            r#"{{"kind":"ThingList","metadata":{{"resourceVersion":"{version}","continue":"{more}"}},"items":[{}]}}"#,
            items.join(",")
        ),
    )
}

fn line(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

fn bytes(line: &str) -> Vec<u8> {
    format!("{line}\n").into_bytes()
}

/// Returns the resource versions from which watches started.
fn versions(fake: &FakeKube) -> Vec<String> {
    let watches = fake.watches();
    watches.iter().map(|r| r.parameter("resourceVersion").unwrap().to_owned()).collect()
}

#[test]
fn a_watch_knows_how_long_it_is_disconnected() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "", &[object("a", 1, "1")]));
    let news = line("MODIFIED", &object("a", 6, "2"));
    fake.script(WATCH, Reply::Stream(vec![Piece::Send(bytes(&news)), Piece::Cut]));
    for _ in 0..40 {
        fake.script(WATCH, Reply::status(503, "ServiceUnavailable"));
    }
    let bench = Bench::start(fake, &[]);
    bench.expect(&["start *", "listed n/a=1", "end *", "changed n/a=2"]);
    let since = Instant::now();
    let wait = |is: &dyn Fn(Option<Duration>) -> bool| {
        while !is(bench.watcher().disconnected_for()) {
            assert!(since.elapsed() < DEADLINE, "{:?}", bench.watcher().disconnected_for());
            std::thread::yield_now();
        }
    };
    // It increases with every failed attempt, and ends once a stream opens.
    wait(&|gap| gap.is_some_and(|gap| gap > Duration::from_millis(50)));
    wait(&|gap| gap.is_none());
}

#[test]
fn pages_then_events() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "next/page", &[object("a", 1, "1")]));
    fake.script(LIST, list(5, "", &[object("b", 2, "\"bad\""), object("c", 3, "3")]));
    fake.script(
        WATCH,
        Reply::lines(&[
            line("ADDED", &object("d", 6, "4")),
            line("MODIFIED", &object("a", 7, "-1")),
            line("MODIFIED", &object("a", 8, "2")),
            line("DELETED", &object("b", 9, "\"bad\"")),
        ]),
    );
    let bench = Bench::start(fake, &[]);
    bench.expect(&["start *", "listed n/a=1", "unreadable n/b", "listed n/c=3", "end *"]);
    bench.expect(&["changed n/d=4", "unreadable n/a", "changed n/a=2", "deleted n/b u"]);
    let requests = bench.fake.requests();
    assert_eq!(requests[0].parameter("limit"), Some("500"));
    assert_eq!(requests[1].parameter("continue"), Some("next%2Fpage"));
    assert_eq!(requests[2].parameter("allowWatchBookmarks"), Some("true"));
    assert_eq!(versions(&bench.fake), ["5"]);
    let stats = bench.watcher().stats();
    assert_eq!((stats.lists, stats.streams, stats.faults, stats.invalid), (1, 1, 0, 2));
}

#[test]
fn any_split_and_a_huge_line_are_fine() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "", &[]));
    let huge = object("huge", 7, "2").replace("\"b\"", &format!("\"{}\"", "x".repeat(9_000_000)));
    let second = bytes(&line("ADDED", &huge));
    let (left, right) = second.split_at(1_234_567);
    fake.script(
        WATCH,
        Reply::Stream(vec![
            Piece::Drip(bytes(&line("ADDED", &object("a", 6, "1")))),
            Piece::Send(left.to_vec()),
            Piece::Send(right.to_vec()),
            Piece::Silence,
        ]),
    );
    let bench = Bench::start(fake, &[]);
    bench.expect(&["start *", "end *", "changed n/a=1", "changed n/huge=2"]);
}

#[test]
fn a_cut_in_the_middle_of_a_line_loses_nothing() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "", &[]));
    let whole = bytes(&line("ADDED", &object("a", 6, "1")));
    let half = bytes(&line("ADDED", &object("b", 7, "2")));
    let half = half[..half.len() / 2].to_vec();
    fake.script(WATCH, Reply::Stream(vec![Piece::Send(whole), Piece::Send(half), Piece::Cut]));
    fake.script(WATCH, Reply::lines(&[line("ADDED", &object("b", 7, "2"))]));
    let bench = Bench::start(fake, &[]);
    bench.expect(&["start *", "end *", "changed n/a=1", "interrupted *", "resumed *", "changed n/b=2"]);
    assert_eq!(versions(&bench.fake), ["5", "6"]);
}

#[test]
fn a_stream_that_ends_resumes_from_the_last_bookmark() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "", &[]));
    let bookmark = r#"{"kind":"Thing","metadata":{"resourceVersion":"42"}}"#;
    fake.script(WATCH, Reply::Stream(vec![Piece::Send(bytes(&line("BOOKMARK", bookmark)))]));
    let bench = Bench::start(fake, &[]);
    bench.fake.wait("a second watch", |r| r.iter().filter(|r| r.is_watch()).count() == 2);
    assert_eq!(versions(&bench.fake), ["5", "42"]);
    bench.expect(&["start *", "end *"]);
    assert_eq!(bench.watcher().stats().faults, 0);
}

#[test]
fn expired_versions_list_again_and_deletions_in_the_gap_show() {
    let expired = r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#;
    for reply in [Reply::status(410, "Expired"), Reply::lines(&[line("ERROR", expired)])] {
        let fake = FakeKube::start();
        fake.script(LIST, list(5, "", &[object("a", 1, "1"), object("b", 2, "2")]));
        fake.script(LIST, list(9, "", &[object("b", 2, "2")]));
        fake.script(WATCH, reply);
        let bench = Bench::start(fake, &[]);
        bench.expect(&["start *", "listed n/a=1", "listed n/b=2", "end *"]);
        bench.expect(&["interrupted *", "start *", "listed n/b=2", "end *", "resumed *"]);
        bench.fake.wait("a second watch", |r| r.iter().filter(|r| r.is_watch()).count() == 2);
        assert_eq!(versions(&bench.fake), ["5", "9"]);
    }
}

/// The core takes what it learns of others after the start of a list for newer than the list.
#[test]
fn a_list_starts_before_it_is_asked_for() {
    let fake = FakeKube::start();
    fake.script(LIST, Reply::Silent);
    let bench = Bench::start(fake, &[]);
    bench.expect(&["start *"]);
    bench.fake.wait("a list", |requests| requests.len() == 1);
}

#[test]
fn an_expired_page_begins_anew() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "t", &[object("a", 1, "1")]));
    fake.script(LIST, Reply::status(410, "Expired"));
    fake.script(LIST, list(6, "", &[]));
    let bench = Bench::start(fake, &[]);
    bench.expect(&["start *", "listed n/a=1", "start *", "end *"]);
}

#[test]
fn faults_are_retried_where_they_happened() {
    let fake = FakeKube::start();
    fake.script(LIST, Reply::status(500, "InternalError"));
    fake.script(LIST, Reply::json(200, "<html>"));
    fake.script(LIST, Reply::Short(b"{\"items\":[".to_vec()));
    fake.script(LIST, list(5, "", &[]));
    for code in [500, 503] {
        fake.script(WATCH, Reply::status(code, ""));
    }
    fake.script(WATCH, Reply::status(429, "").with_header("retry-after", "0"));
    fake.script(WATCH, Reply::Stream(vec![Piece::Cut]));
    fake.script(WATCH, Reply::lines(&[line("ADDED", &object("a", 6, "1"))]));
    let bench = Bench::start(fake, &[]);
    bench.expect(&["start *", "failed", "start *", "failed", "start *", "failed"]);
    bench.expect(&["start *", "end *", "interrupted *", "resumed *", "interrupted *", "resumed *", "changed n/a=1"]);
    assert_eq!(versions(&bench.fake), ["5"; 5]);
    assert_eq!(bench.watcher().stats().faults, 7);
}

#[test]
fn a_resource_that_appears_later_is_found() {
    let fake = FakeKube::start();
    for _ in 0..3 {
        fake.script(LIST, Reply::status(404, "NotFound"));
        fake.script(LIST, Reply::status(403, "Forbidden"));
    }
    fake.script(LIST, list(5, "", &[object("a", 1, "1")]));
    let bench = Bench::start(fake, &[]);
    for _ in 0..3 {
        bench.expect(&["start *", "failed", "start *", "denied"]);
    }
    bench.expect(&["start *", "listed n/a=1", "end *"]);
}

#[test]
fn silence_is_noticed() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "", &[]));
    fake.script(WATCH, Reply::lines(&[line("ADDED", &object("a", 6, "1"))]));
    fake.script(WATCH, Reply::lines(&[line("ADDED", &object("b", 7, "2"))]));
    let bench = Bench::with_read_timeout(fake, &[], Duration::from_millis(200));
    bench.expect(&["start *", "end *", "changed n/a=1", "interrupted *", "resumed *", "changed n/b=2"]);
    assert_eq!(&versions(&bench.fake)[..2], ["5", "6"]);
}

#[test]
fn an_endless_or_senseless_line_leads_to_a_new_list() {
    let endless = Piece::Send(vec![b'x'; 11 * 1024 * 1024]);
    for bad in [endless, Piece::Send(b"{]\n".to_vec())] {
        let fake = FakeKube::start();
        fake.script(LIST, list(5, "", &[]));
        fake.script(LIST, list(8, "", &[object("a", 1, "1")]));
        for _ in 0..2 {
            fake.script(WATCH, Reply::Stream(vec![bad.clone(), Piece::Silence]));
        }
        let bench = Bench::start(fake, &[]);
        bench.expect(&["start *", "end *", "start *", "listed n/a=1", "end *"]);
        bench.fake.wait("a third watch", |r| r.iter().filter(|r| r.is_watch()).count() == 3);
        assert_eq!(versions(&bench.fake), ["5", "5", "8"]);
    }
}

#[test]
fn namespaces_have_a_stream_each() {
    let fake = FakeKube::start();
    for namespace in ["a", "b"] {
        let path = format!("/apis/shop.io/v1/namespaces/{namespace}/things");
        fake.script(&format!("GET {path}"), list(5, "", &[object(namespace, 1, "1")]));
    }
    let bench = Bench::start(fake, &["a", "b"]);
    let mut events: Vec<_> = (0..6).map(|_| bench.next()).collect();
    events.sort();
    assert_eq!(events, ["end a", "end b", "listed n/a=1", "listed n/b=1", "start a", "start b"]);
    bench.fake.wait("two watches", |r| r.iter().filter(|r| r.is_watch()).count() == 2);
}

#[test]
fn objects_are_asked_for_by_name_and_labels() {
    let fake = FakeKube::start();
    let path = "/apis/shop.io/v1/namespaces/shop/things";
    fake.script(&format!("GET {path}"), list(5, "", &[object("a", 1, "1")]));
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(fake.config(folder.path(), ""));
    let sink = |_: WatchEvent<Thing>| ControlFlow::Continue(());
    let label_selector = Some("team in (a,b)".to_owned());
    let watch = Watch { label_selector, ..Watch::one("thing", THINGS, Some("shop"), "a") };
    let watcher = Watcher::spawn(&client, watch, sink).unwrap();
    fake.wait("a watch", |r| r.iter().any(super::super::support::fake_kube::Recorded::is_watch));
    for request in fake.requests() {
        assert_eq!(request.path, path);
        assert_eq!(request.parameter("fieldSelector"), Some("metadata.name%3Da"), "{}", request.query);
        assert_eq!(request.parameter("labelSelector"), Some("team%20in%20%28a%2Cb%29"), "{}", request.query);
    }
    client.shutdown_watches();
    watcher.join();
}

#[test]
fn an_owner_that_leaves_ends_the_threads() {
    let fake = FakeKube::start();
    fake.script(LIST, list(5, "", &[object("a", 1, "1")]));
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(fake.config(folder.path(), ""));
    let sink = |_: WatchEvent<Thing>| ControlFlow::Break(());
    Watcher::spawn(&client, Watch::all("things", THINGS), sink).unwrap().join();
}

#[test]
fn stopping_ends_a_pause_at_once() {
    let fake = FakeKube::start();
    fake.script(LIST, Reply::status(503, ""));
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new(fake.config(folder.path(), ""));
    let sink = |_: WatchEvent<Thing>| ControlFlow::Continue(());
    let pause = DEADLINE * 10;
    let settings = WatchSettings { pause_min: pause, pause_max: pause, ..WatchSettings::default() };
    let watcher = Watcher::spawn(&client, Watch { settings, ..Watch::all("things", THINGS) }, sink).unwrap();
    fake.wait("a list", |r| !r.is_empty());
    let start = Instant::now();
    watcher.stop();
    watcher.join();
    assert!(start.elapsed() < DEADLINE);
}
