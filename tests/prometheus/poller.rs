//! Jobs in, answers out, counted, stopped.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hpalite::identity::Identity;
use hpalite::identity::settings::Settings;
use hpalite::polling::credentials::{Clock, ResolverConfig};
use hpalite::polling::poller::Pollers;
use hpalite::scaling::event::{Answer, Credentials, ErrorClass, OUTCOMES, PollDone, PollJob};
use hpalite::scaling::model::{AuthMode, AuthenticationKind, PrometheusSource, Query, UnixMillis};
use hpalite::sources::Asker;

use super::credentials::{FakeSource, credentials, resolver, secret};
use super::setup::{GENEROUS, assert_failed, source, transport};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

pub(crate) fn asker(secrets: &Arc<FakeSource>) -> Asker {
    let transport = Arc::new(transport());
    let clock: Clock = Arc::new(|| UnixMillis(1_700_000_000_000));
    Asker {
        identity: Arc::new(Identity::new(Settings::default(), Arc::clone(&transport), Arc::clone(&clock))),
        transport,
        resolver: Arc::new(resolver(secrets, ResolverConfig::default())),
        services: Arc::clone(secrets) as Arc<_>,
        pods: Arc::clone(secrets) as Arc<_>,
        clock,
    }
}

/// Polls, and their answers.
fn pollers(secrets: &Arc<FakeSource>) -> (Pollers, mpsc::Receiver<PollDone>) {
    pollers_of(asker(secrets))
}

fn pollers_of(asker: Asker) -> (Pollers, mpsc::Receiver<PollDone>) {
    let (sender, answers) = mpsc::channel();
    let transport = Arc::clone(&asker.transport);
    let begin = Box::new(move |job, done| asker.begin(job, done));
    let sink = move |done: Vec<PollDone>| done.into_iter().for_each(|done| drop(sender.send(done)));
    (Pollers::new(begin, Box::new(move |time, work| transport.after(time, work)), sink), answers)
}

fn job(id: u64, source: PrometheusSource, credentials: Option<Credentials>) -> PollJob {
    PollJob {
        id,
        server: source.server_address.as_str().into(),
        query: Query::Prometheus(Arc::new(source)),
        credentials,
        group: None,
        due_at: UnixMillis(0),
    }
}

fn next(answers: &mpsc::Receiver<PollDone>) -> PollDone {
    answers.recv_timeout(GENEROUS).unwrap()
}

#[test]
fn jobs_are_done_and_counted() {
    let fake = FakePrometheus::start(|request| match request.target.contains("query=bad") {
        true => Reply::status(400, ""),
        false => Reply::value("4"),
    });
    let secrets = Arc::new(FakeSource::default());
    secrets.set("Secret shop/s", &[("t", "tok\n")]);
    let (pollers, answers) = pollers(&secrets);

    let bearer = PrometheusSource { auth_modes: vec![AuthMode::Bearer], ..source(&fake.url(), "up") };
    let with =
        |name: &str| Some(credentials(AuthenticationKind::TriggerAuthentication, &[secret("bearerToken", name, "t")]));
    pollers.take(job(1, bearer.clone(), with("s")), Duration::ZERO);
    let done = next(&answers);
    assert_eq!((done.id, done.answer), (1, Answer::Value(4.0)));
    assert_eq!(fake.requests()[0].header("authorization"), Some("Bearer tok"));

    // Never sent without the credentials that were asked for.
    pollers.take(job(2, bearer.clone(), with("absent")), Duration::ZERO);
    assert_failed(next(&answers).answer, ErrorClass::Authentication, "Secret shop/absent does not exist");
    pollers.take(job(3, bearer, None), Duration::ZERO);
    assert_failed(next(&answers).answer, ErrorClass::Authentication, "no authenticationRef");
    assert_eq!(fake.requests().len(), 1);

    pollers.take(job(4, source(&fake.url(), "bad"), None), Duration::ZERO);
    assert_failed(next(&answers).answer, ErrorClass::Status, "status 400: Bad Request");

    let stats = pollers.stats();
    assert!(pollers.stop(GENEROUS));
    let counts = stats.read();
    let of = |outcome| counts.outcomes[OUTCOMES.iter().position(|known| *known == outcome).unwrap()];
    assert_eq!([of("value"), of("authentication"), of("status"), of("empty")], [1, 2, 1, 0]);
    assert_eq!((counts.latency.buckets.last(), counts.in_flight), (Some(&4), 0));
}

#[test]
fn a_server_that_an_authentication_names_is_judged_and_followed_as_one_of_the_trigger() {
    let start = |value: &'static str| FakePrometheus::start(move |_| Reply::value(value));
    let (of_all, first, second) = (start("1"), start("2"), start("3"));
    // The server of the last answer, whose limits the next poll counts for.
    let server = Cell::new(None);
    let secrets = Arc::new(FakeSource::default());
    let asker = asker(&secrets);
    let found = credentials(AuthenticationKind::TriggerAuthentication, &[secret("serverAddress", "s", "a")]);
    let ask = |credentials: &Credentials| {
        let authentication = Some("TriggerAuthentication shop/prom".into());
        let source = PrometheusSource { authentication, ..source(&of_all.url(), "up") };
        let done = asker.ask(job(1, source, Some(credentials.clone())));
        server.set(done.server);
        done.answer
    };
    // Each answer of the API server is shared for a second.
    let tell = |address: &str| {
        secrets.set("Secret shop/s", &[("a", address)]);
        secrets.now.fetch_add(1_000, Ordering::SeqCst);
    };
    tell(&first.url());
    assert_eq!(ask(&found), Answer::Value(2.0));
    assert_eq!(server.take().as_deref(), Some(first.url().as_str()));
    tell(&format!("{}/./\n", second.url()));
    assert_eq!(ask(&found), Answer::Value(3.0));
    assert_eq!(server.take().as_deref(), Some(second.url().as_str()), "without its path");
    for (address, class, words) in [
        ("http://169.254.169.254/latest", ErrorClass::Configuration, "169.254.169.254 is a link-local address"),
        (
            "prometheus:9090",
            ErrorClass::Authentication,
            "parameter serverAddress of TriggerAuthentication shop/prom is not a URL",
        ),
        ("", ErrorClass::Authentication, "is empty"),
    ] {
        tell(address);
        assert_failed(ask(&found), class, words);
        assert_eq!(server.take().is_some(), class == ErrorClass::Configuration, "{address}");
    }
    tell(&first.url());
    let elsewhere = Credentials { servers: Some(["prometheus".to_owned()].into()), ..found };
    assert_failed(ask(&elsewhere), ErrorClass::Authentication, "hpalite.dev/allowed-servers does not name the server");
    assert_eq!((of_all.connections(), first.connections()), (0, 1));
}

#[test]
fn silent_servers_hold_up_nobody_and_cost_no_thread() {
    let silent = FakePrometheus::start(|_| Reply::Stall(b"HTTP/1.1 200 OK\r\n".to_vec()));
    let fake = FakePrometheus::start(|_| Reply::value("1"));
    let asker = asker(&Arc::default());
    let transport = Arc::clone(&asker.transport);
    let (pollers, answers) = pollers_of(asker);
    for id in 100..200 {
        pollers.take(job(id, source(&silent.url(), "up"), None), Duration::ZERO);
    }
    for id in 0..10 {
        pollers.take(job(id, source(&fake.url(), "up"), None), Duration::ZERO);
    }
    let mut ids: Vec<u64> = (0..10).map(|_| next(&answers).id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    assert_eq!(pollers.stats().read().in_flight, 100);
    assert_eq!(transport.workers(), 0);
    drop(silent);
    assert!((0..100).all(|_| matches!(next(&answers).answer, Answer::Failed(_))));
    assert!(pollers.stop(GENEROUS));
}

#[test]
fn stopping_waits_no_longer_than_its_limit() {
    let silent = FakePrometheus::start(|_| Reply::Stall(Vec::new()));
    let (pollers, _answers) = pollers(&Arc::default());
    pollers.take(job(0, source(&silent.url(), "up"), None), Duration::ZERO);
    assert!(!pollers.stop(Duration::from_millis(20)));
}
