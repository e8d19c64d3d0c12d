use super::*;
use crate::scaling::model::ApiGroup;
use crate::scaling::testing::prometheus;
use crate::seeds;

const T0: UnixMillis = UnixMillis(0);

const PROMPT: Conduct = Conduct::Answered(Duration::from_millis(20));

fn key(n: usize) -> ObjectKey {
    of("default", n)
}

fn of(namespace: &str, n: usize) -> ObjectKey {
    ObjectKey::new(ApiGroup::KedaSh, namespace, &format!("o{n}"))
}

fn query(server: &str, query: &str) -> Query {
    let mut source = prometheus(query);
    source.server_address = server.to_owned();
    Query::Prometheus(Arc::new(source))
}

#[test]
fn equal_polls_are_asked_once() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    for n in 0..5 {
        schedule.ask((of(&format!("n{n}"), n), 0), &query("a", "up"), None, T0);
    }
    schedule.ask((key(9), 1), &query("b", "up"), None, T0);
    let jobs = schedule.dispatch(T0);
    assert_eq!(jobs.len(), 2);
    // A query that falls due while an equal one is in flight joins it.
    schedule.ask((key(7), 0), &query("a", "up"), None, T0);
    schedule.ask((key(7), 1), &query("a", "up"), None, T0);
    assert!(schedule.dispatch(T0).is_empty());
    let shared = jobs.iter().find(|job| job.query == query("a", "up")).unwrap();
    assert_eq!(schedule.finish(shared.id, PROMPT, T0).unwrap().subscribers.len(), 7);
    // It is asked again afterwards.
    schedule.ask((key(7), 0), &query("a", "up"), None, T0);
    assert_eq!(schedule.dispatch(T0).len(), 1);
}

#[test]
fn who_is_forgotten_gets_no_answer_and_leaves_no_trace() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    for n in 0..3 {
        schedule.ask((key(n), 0), &query("a", "up"), None, T0);
        schedule.ask((key(n), 1), &query("b", &format!("q{n}")), None, T0);
    }
    schedule.forget(&key(1));
    let mut answered = Vec::new();
    loop {
        let jobs = schedule.dispatch(T0);
        if jobs.is_empty() {
            break;
        }
        assert!(!jobs.iter().any(|job| job.query == query("b", "q1")), "nobody waits for it");
        answered.extend(jobs.iter().flat_map(|job| schedule.finish(job.id, PROMPT, T0).unwrap().subscribers));
    }
    answered.sort();
    assert_eq!(answered, [(key(0), 0), (key(0), 1), (key(2), 0), (key(2), 1)]);
    assert!(schedule.waiting_for.is_empty() && schedule.jobs.is_empty());
    assert!(schedule.finish(99, PROMPT, T0).is_none());
}

#[test]
fn an_answer_to_a_removed_object_finds_nobody() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    schedule.plan(&key(1), T0);
    schedule.ask((key(1), 0), &query("a", "up"), None, T0);
    let jobs = schedule.dispatch(UnixMillis(5));
    schedule.forget(&key(1));
    schedule.shift(1_000);
    let finished = schedule.finish(jobs[0].id, Conduct::Troubled, T0).unwrap();
    assert_eq!((finished.begun_at, finished.subscribers.len()), (UnixMillis(1_005), 0));
}

#[test]
fn a_server_is_tried_before_it_is_trusted() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    for n in 0..50 {
        schedule.ask((key(n), 0), &query("hangs", &format!("q{n}")), None, T0);
    }
    let first = schedule.dispatch(T0);
    assert_eq!(first.len(), 1, "nobody knows yet whether it answers");
    schedule.finish(first[0].id, PROMPT, T0);
    let then = schedule.dispatch(T0);
    assert_eq!(then.len(), 6, "three quarters for a namespace that is alone");
    schedule.ask((key(60), 0), &query("fine", "up"), None, T0);
    assert!(schedule.dispatch(T0).is_empty(), "its namespace has its share");
    schedule.ask((of("other", 1), 0), &query("fine", "up"), None, T0);
    assert!(schedule.dispatch(T0).is_empty(), "what is left is for servers that answer");
    // Once the server hangs it has one worker.
    for job in &then {
        schedule.finish(job.id, Conduct::Troubled, T0);
    }
    let now: Vec<_> = schedule.dispatch(T0).into_iter().map(|job| job.server.to_string()).collect();
    assert_eq!(now, ["fine", "hangs"], "one each, and the second query at fine is the same");
}

#[test]
fn an_object_has_its_share_of_a_prompt_server() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    schedule.ask((key(1), 0), &query("a", "up"), None, T0);
    let first = schedule.dispatch(T0);
    schedule.finish(first[0].id, PROMPT, T0);
    for n in 0..20 {
        schedule.ask((key(1), n), &query("a", &format!("q{n}")), None, T0);
    }
    assert_eq!(schedule.dispatch(T0).len(), 3);
    schedule.ask((key(2), 0), &query("a", "mine"), None, T0);
    assert_eq!(schedule.dispatch(T0).len(), 1);
}

/// A tenant has 100 triggers with distinct queries at distinct servers, none of which ever answers.
#[test]
fn a_tenant_whose_servers_all_hang_keeps_nobody_waiting() {
    for objects in [1, 100] {
        let mut schedule = Schedule::new(8, Limits::default(), false);
        let bad = |n: usize| (of("tenant", n % objects), u16::try_from(n).unwrap());
        // The first queries of that tenant are queued before any others.
        for n in 0..100 {
            schedule.ask(bad(n), &query(&format!("hangs{n}"), &format!("q{n}")), None, T0);
        }
        let confined = if objects == 1 { 1 } else { 2 };
        let mut hanging = schedule.dispatch(T0);
        assert_eq!(hanging.len(), confined);
        for round in 0..1_000 {
            schedule.ask((of("shop", 1), 0), &query("fine", &format!("r{round}")), None, T0);
            let jobs = schedule.dispatch(T0);
            let fine: Vec<_> = jobs.iter().filter(|job| &*job.server == "fine").collect();
            assert_eq!(fine.len(), 1, "round {round}: asked at once");
            schedule.finish(fine[0].id, PROMPT, T0);
            hanging.extend(jobs.into_iter().filter(|job| &*job.server != "fine"));
            assert!(hanging.len() <= 2);
            // In every tenth round one of them times out and is asked again.
            if round % 10 == 0 {
                schedule.finish(hanging.remove(0).id, Conduct::Troubled, T0);
                schedule.ask(bad(round % 100), &query(&format!("hangs{}", round % 100), "q"), None, T0);
            }
        }
    }
}

/// The same, but each of the servers has answered well just before.
#[test]
fn servers_that_begin_to_hang_together_take_half() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    let ask_all = |schedule: &mut Schedule, namespace: &str, round: usize| {
        for n in 0..100 {
            let server = format!("{namespace}{n}");
            schedule.ask((of(namespace, n), 0), &query(&server, &format!("q{round}")), None, T0);
        }
    };
    for namespace in ["one", "two"] {
        schedule.plan(&of(namespace, 0), T0);
        ask_all(&mut schedule, namespace, 0);
    }
    loop {
        let jobs = schedule.dispatch(T0);
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            schedule.finish(job.id, PROMPT, T0);
        }
    }
    ask_all(&mut schedule, "one", 1);
    assert_eq!(schedule.dispatch(T0).len(), 4, "half of the workers");
    ask_all(&mut schedule, "two", 1);
    assert_eq!(schedule.dispatch(T0).len(), 2, "three quarters");
    // The rest is reserved for tenants with nothing in flight.
    schedule.ask((of("shop", 1), 0), &query("fine", "up"), None, T0);
    assert!(schedule.dispatch(T0).is_empty(), "not for one that was never tried");
    assert_eq!(schedule.load(), (195, 6));
}

#[test]
fn a_neighbour_in_the_same_namespace_goes_on() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    for n in 0..100 {
        schedule.ask((key(1), n), &query(&format!("hangs{n}"), "q"), None, T0);
    }
    assert_eq!(schedule.dispatch(T0).len(), 1, "an object has one worker for servers that were never tried");
    // So does a new neighbour, although its server was never tried either.
    for round in 0..100 {
        schedule.ask((key(2), 0), &query("fine", &format!("r{round}")), None, T0);
        let jobs = schedule.dispatch(T0);
        assert_eq!(jobs.len(), 1, "round {round}");
        schedule.finish(jobs[0].id, PROMPT, T0);
    }
}

#[test]
fn nobody_makes_a_server_slow_for_others() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    schedule.plan(&of("shop", 1), T0);
    schedule.plan(&of("tenant", 1), T0);
    schedule.ask((of("shop", 1), 0), &query("shared", "up"), None, T0);
    let first = schedule.dispatch(T0);
    schedule.finish(first[0].id, PROMPT, T0);
    schedule.ask((of("tenant", 1), 0), &query("shared", "impossible"), None, T0);
    let jobs = schedule.dispatch(T0);
    schedule.finish(jobs[0].id, Conduct::Troubled, T0);
    for n in 0..20 {
        schedule.ask((of("shop", n), 0), &query("shared", &format!("q{n}")), None, T0);
        schedule.ask((of("tenant", n), 0), &query("shared", &format!("i{n}")), None, T0);
    }
    let jobs = schedule.dispatch(T0);
    let of_shop = jobs.iter().filter(|job| job.query != query("shared", "i0")).count();
    assert_eq!((jobs.len(), of_shop), (5, 4));
}

#[test]
fn a_query_that_waits_behind_ones_share_waits_at_anothers_place_too() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    for n in 0..10 {
        schedule.ask((of("tenant", 1), n), &query("shared", &format!("q{n}")), None, T0);
    }
    assert_eq!(schedule.dispatch(T0).len(), 1);
    schedule.ask((of("shop", 1), 0), &query("shared", "q9"), None, T0);
    let jobs = schedule.dispatch(T0);
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].query, query("shared", "q9"));
    let answered = schedule.finish(jobs[0].id, PROMPT, T0).unwrap();
    assert_eq!(answered.subscribers, [(of("tenant", 1), 9), (of("shop", 1), 0)]);
}

#[test]
fn a_job_that_lost_its_subscribers_says_nothing_of_its_server() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    schedule.ask((key(1), 0), &query("hangs", "q"), None, T0);
    let first = schedule.dispatch(T0);
    schedule.finish(first[0].id, Conduct::Troubled, T0);
    schedule.plan(&key(1), T0);
    schedule.ask((key(2), 0), &query("hangs", "gone"), None, T0);
    schedule.forget(&key(2));
    assert_eq!((schedule.dispatch(T0).len(), schedule.load()), (0, (0, 0)), "it has left the queue");
    for n in 0..9 {
        schedule.ask((key(n), 1), &query("hangs", &format!("q{n}")), None, T0);
    }
    assert_eq!(schedule.dispatch(T0).len(), 1, "the server is still in trouble");
}

#[test]
fn namespaces_servers_and_objects_take_turns() {
    let mut schedule = Schedule::new(1, Limits::default(), false);
    for n in 0..3 {
        schedule.ask((of("a", 1), n), &query("s", &format!("a1-{n}")), None, T0);
        schedule.ask((of("a", 2), n), &query("s", &format!("a2-{n}")), None, T0);
        schedule.ask((of("a", 1), 9), &query("t", "a1-9"), None, T0);
    }
    schedule.ask((of("b", 1), 0), &query("s", "b1-0"), None, T0);
    let mut order = Vec::new();
    while let [job] = &schedule.dispatch(T0)[..] {
        let Query::Prometheus(source) = &job.query else { panic!() };
        order.push(source.query.clone());
        schedule.finish(job.id, Conduct::Troubled, T0);
    }
    assert_eq!(order, ["a1-0", "b1-0", "a1-9", "a2-0", "a1-1", "a2-1", "a1-2", "a2-2"]);
}

#[test]
fn what_is_known_of_servers_goes_with_the_namespace_and_has_a_bound() {
    let mut schedule = Schedule::new(8, Limits::default(), false);
    schedule.plan(&key(1), T0);
    for n in 0..5_000 {
        schedule.ask((key(1), 0), &query(&format!("s{n}"), "q"), None, T0);
        let jobs = schedule.dispatch(T0);
        schedule.finish(jobs[0].id, PROMPT, T0);
    }
    assert_eq!(schedule.shares.known(), (1, 1024));
    schedule.forget(&key(1));
    assert!(schedule.dispatch(T0).is_empty());
    assert_eq!(schedule.shares.known(), (0, 0));
}

#[test]
fn bounds_hold_under_any_order() {
    seeds::each(module_path!(), 200, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let threads = random.usize(1..10);
        let mut schedule = Schedule::new(threads, Limits::default(), false);
        let mut flying = Vec::new();
        let key = |random: &mut fastrand::Rng| of(&format!("n{}", random.u8(0..3)), random.usize(0..7));
        for step in 0..300 {
            match random.u8(0..4) {
                0 | 1 => {
                    let server = format!("s{}", random.u8(0..5));
                    let query = query(&server, &format!("q{}", random.u8(0..9)));
                    schedule.ask((key(&mut random), random.u16(0..2)), &query, None, T0);
                }
                2 if !flying.is_empty() => {
                    let job: PollJob = flying.swap_remove(random.usize(0..flying.len()));
                    let conduct = match random.u8(0..4) {
                        0 => Conduct::Troubled,
                        1 => Conduct::Answered(Duration::from_secs(9)),
                        2 => Conduct::Unasked,
                        _ => PROMPT,
                    };
                    assert!(schedule.finish(job.id, conduct, T0).is_some());
                }
                _ if random.u8(0..10) == 0 => schedule.forget(&key(&mut random)),
                _ => flying.extend(schedule.dispatch(T0)),
            }
            let (_, in_flight) = schedule.load();
            assert_eq!(in_flight, flying.len(), "step {step}");
            assert!(in_flight <= threads, "step {step}");
            schedule.shares.check();
        }
        // Everything that was asked is answered in the end.
        loop {
            for job in std::mem::take(&mut flying) {
                schedule.finish(job.id, Conduct::Troubled, T0);
            }
            flying = schedule.dispatch(T0);
            if flying.is_empty() {
                break;
            }
        }
        assert_eq!(schedule.load(), (0, 0));
        assert_eq!(schedule.shares.known(), (0, 0));
        assert!(schedule.waiting_for.is_empty() && schedule.asked.is_empty());
    });
}

#[test]
fn poll_cycles_come_due_in_order_and_can_move() {
    let mut schedule = Schedule::new(1, Limits::default(), false);
    schedule.plan(&key(1), UnixMillis(20));
    schedule.plan(&key(2), UnixMillis(10));
    schedule.plan(&key(1), UnixMillis(5));
    assert_eq!(schedule.next_due(), Some(UnixMillis(5)));
    assert_eq!(schedule.take_due(UnixMillis(7)), [(key(1), UnixMillis(5))]);
    schedule.shift(-4);
    assert_eq!(schedule.take_due(UnixMillis(6)), [(key(2), UnixMillis(6))]);
    assert_eq!(schedule.next_due(), None);
}

#[test]
fn the_grid_is_steady_and_spread() {
    let interval = Duration::from_secs(30);
    let phase = Duration::from_millis(7_123);
    let mut at = next_on_grid(UnixMillis(1_000_000), interval, phase);
    assert!((1_015_000..=1_045_000).contains(&at.0));
    for _ in 0..10 {
        let next = next_on_grid(at, interval, phase);
        assert_eq!(next.0 - at.0, 30_000);
        at = next;
    }
    // A poll that is late keeps the phase.
    assert_eq!(next_on_grid(UnixMillis(at.0 + 900), interval, phase).0, at.0 + 30_000);
    let mut schedule = grouping(8);
    (0..100).for_each(|n| schedule.register(&key(n), [(0, &query("a", &format!("q{n}")), false)]));
    let phases: BTreeSet<_> = (0..100).map(|n| schedule.phase(&key(n), interval).as_secs()).collect();
    assert!(phases.len() > 20, "{phases:?}");
}

/// Returns a schedule with a prompt server and `n` different queries for it.
fn trusted(limits: Limits, n: usize) -> Schedule {
    let mut schedule = Schedule::new(8, limits, false);
    schedule.ask((key(0), 0), &query("a", "first"), None, T0);
    let first = schedule.dispatch(T0);
    schedule.finish(first[0].id, PROMPT, T0);
    for n in 0..n {
        schedule.ask((key(n), 0), &query("a", &format!("q{n}")), None, T0);
    }
    schedule
}

#[test]
fn a_server_is_asked_no_faster_than_its_rate() {
    let mut schedule = trusted(Limits { rate: Some(4.0), concurrency: None }, 40);
    let (mut now, mut asked) = (T0, Vec::new());
    while asked.len() < 40 {
        for job in schedule.dispatch(now) {
            asked.push(now);
            schedule.finish(job.id, PROMPT, now);
        }
        // Each deadline allows at least one more query.
        let due = schedule.next_due();
        assert!(asked.len() == 40 || due.is_none_or(|due| due > now), "{now:?} {due:?}");
        now = due.unwrap_or(now);
    }
    for start in &asked {
        let within = asked.iter().filter(|at| *at >= start && at.since(*start) < Duration::from_secs(1)).count();
        assert!(within <= 9, "the burst of one second and that second's own: {within}");
    }
    assert!((8_000..=10_000).contains(&now.0), "{now:?}");
    // Another server has a budget of its own.
    let mut schedule = trusted(Limits { rate: Some(0.5), concurrency: None }, 9);
    assert_eq!(schedule.dispatch(T0).len(), 0);
    schedule.ask((of("other", 1), 0), &query("b", "up"), None, T0);
    assert_eq!(schedule.dispatch(T0).len(), 1);
}

#[test]
fn a_server_is_asked_no_more_at_once_than_it_may() {
    let mut schedule = trusted(Limits { rate: None, concurrency: Some(2) }, 9);
    let jobs = schedule.dispatch(T0);
    assert_eq!(jobs.len(), 2);
    schedule.finish(jobs[0].id, PROMPT, T0);
    assert_eq!(schedule.dispatch(T0).len(), 1);
}

#[test]
fn ways_to_write_a_server_have_one_share() {
    let mut schedule = trusted(Limits { rate: None, concurrency: Some(2) }, 0);
    let (first, ways) = ("http://a", ["http://u:p@a/x", "http://A:80/y", "http://a./z", "http://a"]);
    schedule.ask((key(9), 0), &query(first, "first"), None, T0);
    let jobs = schedule.dispatch(T0);
    schedule.finish(jobs[0].id, PROMPT, T0);
    for (n, way) in ways.iter().enumerate() {
        schedule.ask((of(&format!("n{n}"), n), 0), &query(way, "up"), None, T0);
    }
    let jobs = schedule.dispatch(T0);
    assert_eq!(jobs.iter().map(|job| &*job.server).collect::<Vec<_>>(), [first; 2]);
}

/// What a tenant's own authentications name is known once they have been asked; until then each counts for itself.
#[test]
fn a_server_that_authentications_name_has_one_share() {
    let mut schedule = trusted(Limits { rate: None, concurrency: Some(2) }, 0);
    let unwritten = |n: usize| {
        let authentication = Some(format!("TriggerAuthentication n{n}/own").into());
        let server_address = String::new();
        Query::Prometheus(Arc::new(PrometheusSource { server_address, authentication, ..prometheus("up") }))
    };
    let objects: Vec<ObjectKey> = (0..4).map(|n| of(&format!("n{n}"), n)).collect();
    for (n, object) in objects.iter().enumerate() {
        schedule.register(object, [(0, &unwritten(n), true)]);
        schedule.ask((object.clone(), 0), &unwritten(n), None, T0);
    }
    let jobs = schedule.dispatch(T0);
    assert_eq!((jobs.len(), &*jobs[0].server), (4, "TriggerAuthentication n0/own"));
    let ask_all = |schedule: &mut Schedule| {
        for (n, object) in objects.iter().enumerate() {
            schedule.ask((object.clone(), 0), &unwritten(n), None, T0);
        }
        schedule.dispatch(T0)
    };
    let answer = |schedule: &mut Schedule, jobs: &[PollJob], server: &str| {
        for job in jobs {
            schedule.locate(job.id, &server.into());
            schedule.finish(job.id, PROMPT, T0);
        }
    };
    answer(&mut schedule, &jobs, "http://p");
    // A new server is tried by one of each namespace, and no more than the limit.
    let jobs = ask_all(&mut schedule);
    assert_eq!(jobs.iter().map(|job| &*job.server).collect::<Vec<_>>(), ["http://p"; 2]);
    // It moves when the authentication does, and one that is written stays.
    answer(&mut schedule, &jobs, "http://q");
    schedule.register(&key(8), [(0, &query("http://w", "up"), true)]);
    schedule.ask((key(8), 0), &query("http://w", "up"), None, T0);
    let jobs = schedule.dispatch(T0);
    assert!(jobs.iter().any(|job| &*job.server == "http://w"), "{jobs:?}");
    answer(&mut schedule, &jobs, "http://q");
    schedule.ask((key(8), 0), &query("http://w", "up"), None, T0);
    let jobs = schedule.dispatch(T0);
    assert!(jobs.iter().any(|job| &*job.server == "http://w"), "{jobs:?}");
    answer(&mut schedule, &jobs, "http://q");
    let jobs = ask_all(&mut schedule);
    assert!(jobs.iter().all(|job| &*job.server == "http://q"), "{jobs:?}");
    // No host has such a name, and it would be kept for each trigger.
    answer(&mut schedule, &jobs, &format!("http://{}", "q".repeat(SERVER_MAX)));
    let jobs = ask_all(&mut schedule);
    assert!(jobs.iter().all(|job| &*job.server == "http://q"), "{jobs:?}");
}

#[test]
fn requests_of_others_count_within_the_same_limits() {
    let mut schedule = trusted(Limits { rate: None, concurrency: Some(2) }, 1);
    for number in 0..4 {
        schedule.line_up(number, of("readers", 1), "a".into());
    }
    assert_eq!(schedule.load(), (1, 0), "they are no polls");
    let jobs = schedule.dispatch(T0);
    assert_eq!((jobs.len(), schedule.take_turns().as_slice()), (1, &[0][..]), "two at once, each namespace in turn");
    schedule.finish(jobs[0].id, PROMPT, T0);
    schedule.dispatch(T0);
    assert_eq!(schedule.take_turns(), [1]);
    assert_eq!(schedule.load(), (0, 0));
    // One that is not wanted any more leaves the queue, and one that ends makes room.
    schedule.end_turn(2, Conduct::Unasked, T0);
    schedule.dispatch(T0);
    assert!(schedule.take_turns().is_empty());
    schedule.end_turn(0, Conduct::Answered(Duration::from_secs(9)), T0);
    schedule.dispatch(T0);
    assert!(schedule.take_turns().is_empty(), "a slow server gets one at a time from whom it was slow for");
    schedule.end_turn(1, PROMPT, T0);
    schedule.dispatch(T0);
    assert_eq!(schedule.take_turns(), [3]);
    schedule.check();
    schedule.end_turn(3, PROMPT, T0);
    // The rate counts them, too.
    let mut schedule = trusted(Limits { rate: Some(2.0), concurrency: None }, 0);
    (0..9).for_each(|number| schedule.line_up(number, of("readers", 1), "a".into()));
    let mut begun = 0;
    for _ in 0..9 {
        schedule.dispatch(T0);
        for number in schedule.take_turns() {
            begun += 1;
            schedule.end_turn(number, PROMPT, T0);
        }
    }
    assert_eq!(begun, 2, "the burst of a second, of which the first query was one");
}

#[test]
fn a_server_that_asks_for_rest_gets_it_from_the_tenant_it_asked() {
    let mut schedule = trusted(Limits::default(), 3);
    let jobs = schedule.dispatch(T0);
    let at = |seconds: i64| UnixMillis(seconds * 1_000);
    for job in &jobs {
        schedule.finish(job.id, Conduct::Overloaded(Duration::from_secs(20)), at(1));
    }
    schedule.ask((key(1), 1), &query("a", "again"), None, at(1));
    schedule.ask((of("other", 1), 0), &query("a", "other"), None, at(1));
    let others = schedule.dispatch(at(1));
    assert_eq!(others.len(), 1, "its own words are for its own lane");
    assert_eq!(schedule.next_due(), Some(at(21)));
    assert_eq!(schedule.dispatch(at(20)).len(), 0);
    schedule.shift(100_000);
    assert_eq!(schedule.dispatch(at(120)).len(), 0);
    let jobs = schedule.dispatch(at(121));
    assert_eq!(jobs.len(), 1);
    // The pause is bounded, however long the server wants it.
    schedule.finish(jobs[0].id, Conduct::Overloaded(Duration::from_secs(86_400)), at(121));
    schedule.ask((key(1), 1), &query("a", "again"), None, at(121));
    assert_eq!(schedule.dispatch(at(180)).len(), 0);
    assert_eq!(schedule.dispatch(at(181)).len(), 1);
}

fn of_service(service: &str) -> Query {
    query("a", &format!("sum(rate(m{{service=\"{service}\"}}[1m]))"))
}

fn grouping(threads: usize) -> Schedule {
    Schedule::new(threads, Limits::default(), true)
}

fn service(n: usize) -> (ObjectKey, u16) {
    (of(&format!("n{}", n % 7), n), 0)
}

#[test]
fn queries_that_one_can_answer_are_asked_as_one() {
    let mut schedule = grouping(8);
    for n in 0..250 {
        schedule.ask(service(n), &of_service(&format!("s{n}")), None, T0);
    }
    schedule.ask((key(999), 0), &query("a", "up"), None, T0);
    schedule.ask((key(998), 0), &query("b", "sum(rate(m{service=\"s1\"}[1m]))"), None, T0);
    let (mut asked, mut answered) = (0, Vec::new());
    for now in 0..9 {
        for job in schedule.dispatch(UnixMillis(now)) {
            asked += 1;
            let members = schedule.members(job.id);
            if let Some(group) = &job.group {
                assert_eq!(group.members.len(), members.len());
                assert!(group.members.len() <= 100 && group.query.contains("sum by (service) (rate("), "{group:?}");
            }
            for id in members {
                let finished = schedule.finish(id, PROMPT, UnixMillis(now)).unwrap();
                assert_eq!(finished.begun_at, UnixMillis(now));
                answered.extend(finished.subscribers);
            }
            schedule.check();
        }
    }
    assert_eq!(asked, 3 + 2);
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 252);
    assert!(schedule.jobs.is_empty() && schedule.families.is_empty() && schedule.groups.is_empty());
    assert_eq!(schedule.load(), (0, 0));
}

#[test]
fn an_answer_that_cannot_be_split_has_each_asked_singly() {
    let mut schedule = grouping(8);
    let ask = |schedule: &mut Schedule| {
        for n in 0..4 {
            schedule.ask(service(n), &of_service(&format!("s{n}")), None, T0);
        }
    };
    ask(&mut schedule);
    let first = schedule.dispatch(T0);
    assert_eq!((first.len(), schedule.load()), (1, (0, 1)));
    // One that loses interest while the query is out waits for nothing afterwards.
    schedule.forget(&service(2).0);
    schedule.ask_singly(first[0].id, PROMPT, T0);
    let mut singles = Vec::new();
    for _ in 0..9 {
        for job in schedule.dispatch(T0) {
            assert!(job.group.is_none());
            singles.extend(schedule.finish(job.id, PROMPT, T0).unwrap().subscribers);
        }
    }
    singles.sort();
    let mut expected = vec![service(0), service(1), service(3)];
    expected.sort();
    assert_eq!(singles, expected);
    // For an hour.
    ask(&mut schedule);
    assert!(schedule.dispatch(UnixMillis(3_599_000)).iter().all(|job| job.group.is_none()));
    let mut schedule = grouping(8);
    ask(&mut schedule);
    let first = schedule.dispatch(T0);
    schedule.ask_singly(first[0].id, PROMPT, T0);
    assert_eq!(schedule.dispatch(UnixMillis(3_600_001))[0].group.as_ref().unwrap().members.len(), 4);
}

#[test]
fn only_equal_questions_to_one_server_are_grouped() {
    let with = |change: fn(&mut crate::scaling::model::PrometheusSource), service: &str| {
        let mut source = prometheus(&format!("sum(m{{service=\"{service}\"}})"));
        change(&mut source);
        Query::Prometheus(Arc::new(source))
    };
    for change in [
        (|source| source.server_address = "http://other".to_owned())
            as fn(&mut crate::scaling::model::PrometheusSource),
        |source| source.namespace = Some("tenant".to_owned()),
        |source| source.accepts_partial = true,
        |source| source.timeout = Some(Duration::from_secs(1)),
        |source| source.query = "sum(m{service=\"b\",x=\"1\"})".to_owned(),
        |source| source.query = "sum(m{service=\"b\"} )".to_owned(),
    ] {
        let mut schedule = grouping(8);
        schedule.ask((key(1), 0), &with(|_| {}, "a"), None, T0);
        schedule.ask((of("b", 2), 0), &with(change, "b"), None, T0);
        let jobs = schedule.dispatch(T0);
        assert!(jobs.iter().all(|job| job.group.is_none()), "{jobs:?}");
    }
    let mut schedule = Schedule::new(8, Limits::default(), false);
    schedule.ask((key(1), 0), &of_service("a"), None, T0);
    schedule.ask((of("b", 2), 0), &of_service("b"), None, T0);
    assert!(schedule.dispatch(T0).iter().all(|job| job.group.is_none()), "not wanted");
}

#[test]
fn what_can_be_asked_as_one_falls_due_together() {
    let mut schedule = grouping(8);
    let interval = Duration::from_secs(30);
    let phases = |schedule: &Schedule| -> BTreeSet<Duration> {
        (0..20).map(|n| schedule.phase(&service(n).0, interval)).collect()
    };
    for n in 0..20 {
        schedule.register(&service(n).0, [(0, &of_service(&format!("s{n}")), false)]);
    }
    assert_eq!(phases(&schedule).len(), 1);
    // Where it does not work, and with credentials of their own, they are spread.
    for n in 0..20 {
        schedule.register(&service(n).0, [(0, &of_service(&format!("s{n}")), true)]);
    }
    assert!(phases(&schedule).len() > 15);
    for n in 0..20 {
        schedule.forget(&service(n).0);
    }
    assert!(schedule.registered.is_empty() && schedule.sizes.is_empty());
}

#[test]
fn made_up_queries_leave_no_more_than_so_many_traces() {
    let mut schedule = grouping(8);
    for n in 0..2 * SINGLY_MAX {
        for service in ["a", "b"] {
            let text = format!("sum(m{n}{{service=\"{service}\"}})");
            schedule.ask((of(service, n), 0), &query("a", &text), None, T0);
        }
        let now = UnixMillis(i64::try_from(n).unwrap());
        let jobs = schedule.dispatch(now);
        schedule.ask_singly(jobs[0].id, PROMPT, now);
        for service in ["a", "b"] {
            schedule.forget(&of(service, n));
        }
    }
    assert_eq!(schedule.singly.len(), SINGLY_MAX);
    assert!(schedule.jobs.is_empty() && schedule.families.is_empty());
}
