//! The poll threads: jobs, answers, counters, stopping.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use hpalite::polling::credentials::ResolverConfig;
use hpalite::polling::poller::{Ask, OUTCOMES, Pollers};
use hpalite::scaling::event::{Answer, Credentials, ErrorClass, PollDone, PollJob};
use hpalite::scaling::model::{AuthMode, AuthenticationKind, PrometheusSource, Query, UnixMillis};
use hpalite::sources::Asker;

use super::credentials::{FakeSource, credentials, resolver, secret};
use super::setup::{GENEROUS, assert_failed, source, transport};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

pub(super) fn asker(secrets: &Arc<FakeSource>) -> Asker {
    Asker {
        transport: Arc::new(transport()),
        resolver: Arc::new(resolver(secrets, ResolverConfig::default())),
        services: Arc::clone(secrets) as Arc<_>,
        clock: Arc::new(|| UnixMillis(1_700_000_000_000)),
    }
}

fn ask(asker: Asker) -> Arc<Ask> {
    Arc::new(move |job| asker.ask(job))
}

fn job(id: u64, source: PrometheusSource, credentials: Option<Credentials>) -> PollJob {
    PollJob {
        id,
        server: source.server_address.as_str().into(),
        query: Query::Prometheus(Arc::new(source)),
        credentials,
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
    let (jobs, queue) = mpsc::sync_channel(16);
    let (sender, answers) = mpsc::channel();
    let sink = move |done| sender.send(done).unwrap();
    let pollers = Pollers::start(4, &ask(asker(&secrets)), queue, sink).unwrap();

    let bearer = PrometheusSource { auth_modes: vec![AuthMode::Bearer], ..source(&fake.url(), "up") };
    let with =
        |name: &str| Some(credentials(AuthenticationKind::TriggerAuthentication, &[secret("bearerToken", name, "t")]));
    jobs.send(job(1, bearer.clone(), with("s"))).unwrap();
    let done = next(&answers);
    assert_eq!((done.id, done.answer), (1, Answer::Value(4.0)));
    assert_eq!(fake.requests()[0].header("authorization"), Some("Bearer tok"));

    // Never sent without the credentials that were asked for.
    jobs.send(job(2, bearer.clone(), with("absent"))).unwrap();
    assert_failed(next(&answers).answer, ErrorClass::Authentication, "Secret shop/absent does not exist");
    jobs.send(job(3, bearer, None)).unwrap();
    assert_failed(next(&answers).answer, ErrorClass::Authentication, "no authenticationRef");
    assert_eq!(fake.requests().len(), 1);

    jobs.send(job(4, source(&fake.url(), "bad"), None)).unwrap();
    assert_failed(next(&answers).answer, ErrorClass::Status, "status 400: Bad Request");

    let stats = pollers.stats();
    drop(jobs);
    assert!(pollers.stop(GENEROUS));
    let counts = stats.read();
    let of = |outcome| counts.outcomes[OUTCOMES.iter().position(|known| *known == outcome).unwrap()];
    assert_eq!([of("value"), of("authentication"), of("status"), of("empty")], [1, 2, 1, 0]);
    assert_eq!((counts.buckets.last(), counts.in_flight), (Some(&4), 0));
}

#[test]
fn a_silent_server_holds_only_its_own_threads() {
    let silent = FakePrometheus::start(|_| Reply::Stall(Vec::new()));
    let fake = FakePrometheus::start(|_| Reply::value("1"));
    let (jobs, queue) = mpsc::sync_channel(16);
    let (sender, answers) = mpsc::channel();
    let sink = move |done| sender.send(done).unwrap();
    let pollers = Pollers::start(2, &ask(asker(&Arc::default())), queue, sink).unwrap();
    let slow = PrometheusSource { timeout: Some(Duration::from_millis(300)), ..source(&silent.url(), "up") };
    jobs.send(job(0, slow, None)).unwrap();
    for id in 1..=10 {
        jobs.send(job(id, source(&fake.url(), "up"), None)).unwrap();
    }
    let mut ids: Vec<u64> = (0..=10).map(|_| next(&answers).id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..=10).collect::<Vec<_>>());
    // Stopping drops jobs that have not started, and returns whether the others ended in time.
    drop(jobs);
    assert!(pollers.stop(GENEROUS));
}

#[test]
fn stopping_does_not_wait_longer_than_told() {
    let silent = FakePrometheus::start(|_| Reply::Stall(Vec::new()));
    let (jobs, queue) = mpsc::sync_channel(16);
    let pollers = Pollers::start(1, &ask(asker(&Arc::default())), queue, drop).unwrap();
    let stats = pollers.stats();
    jobs.send(job(0, source(&silent.url(), "up"), None)).unwrap();
    let deadline = std::time::Instant::now() + GENEROUS;
    while stats.read().in_flight == 0 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    drop(jobs);
    assert!(!pollers.stop(Duration::from_millis(20)));
}
