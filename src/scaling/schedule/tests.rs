use super::*;
use crate::scaling::model::ApiGroup;
use crate::scaling::testing::prometheus;

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
fn equal_questions_are_asked_once() {
    let mut schedule = Schedule::new(8, Limits::default());
    for n in 0..5 {
        schedule.ask((of(&format!("n{n}"), n), 0), &query("a", "up"), None, T0);
    }
    schedule.ask((key(9), 1), &query("b", "up"), None, T0);
    let jobs = schedule.dispatch(T0);
    assert_eq!(jobs.len(), 2);
    // One that falls due while the question is in flight joins it.
    schedule.ask((key(7), 0), &query("a", "up"), None, T0);
    schedule.ask((key(7), 1), &query("a", "up"), None, T0);
    assert!(schedule.dispatch(T0).is_empty());
    let shared = jobs.iter().find(|job| job.query == query("a", "up")).unwrap();
    assert_eq!(schedule.finish(shared.id, PROMPT, T0).unwrap().subscribers.len(), 7);
    // And is asked anew afterwards.
    schedule.ask((key(7), 0), &query("a", "up"), None, T0);
    assert_eq!(schedule.dispatch(T0).len(), 1);
}

#[test]
fn who_is_forgotten_gets_no_answer_and_leaves_no_trace() {
    let mut schedule = Schedule::new(8, Limits::default());
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
    let mut schedule = Schedule::new(8, Limits::default());
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
    let mut schedule = Schedule::new(8, Limits::default());
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
    // Once it hangs it has one worker.
    for job in &then {
        schedule.finish(job.id, Conduct::Troubled, T0);
    }
    let now: Vec<_> = schedule.dispatch(T0).into_iter().map(|job| job.server.to_string()).collect();
    assert_eq!(now, ["fine", "hangs"], "one each, and the second question at fine is the same");
}

#[test]
fn an_object_has_its_share_of_a_prompt_server() {
    let mut schedule = Schedule::new(8, Limits::default());
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

/// A tenant has 100 triggers of distinct queries at distinct servers, none of which ever answers.
#[test]
fn a_tenant_whose_servers_all_hang_keeps_nobody_waiting() {
    for objects in [1, 100] {
        let mut schedule = Schedule::new(8, Limits::default());
        let bad = |n: usize| (of("tenant", n % objects), u16::try_from(n).unwrap());
        // Their first questions are all there before anybody else's.
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
            // Every tenth round one of them times out and is asked again.
            if round % 10 == 0 {
                schedule.finish(hanging.remove(0).id, Conduct::Troubled, T0);
                schedule.ask(bad(round % 100), &query(&format!("hangs{}", round % 100), "q"), None, T0);
            }
        }
    }
}

/// As above, and each of the servers has answered well just before.
#[test]
fn servers_that_begin_to_hang_together_take_half() {
    let mut schedule = Schedule::new(8, Limits::default());
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
    // The rest is for those who have nothing under way.
    schedule.ask((of("shop", 1), 0), &query("fine", "up"), None, T0);
    assert!(schedule.dispatch(T0).is_empty(), "not for one that was never tried");
    assert_eq!(schedule.load(), (195, 6));
}

#[test]
fn a_neighbour_in_the_same_namespace_goes_on() {
    let mut schedule = Schedule::new(8, Limits::default());
    for n in 0..100 {
        schedule.ask((key(1), n), &query(&format!("hangs{n}"), "q"), None, T0);
    }
    assert_eq!(schedule.dispatch(T0).len(), 1, "an object has one worker for servers that were never tried");
    // A new neighbour, too, though its server was never tried either.
    for round in 0..100 {
        schedule.ask((key(2), 0), &query("fine", &format!("r{round}")), None, T0);
        let jobs = schedule.dispatch(T0);
        assert_eq!(jobs.len(), 1, "round {round}");
        schedule.finish(jobs[0].id, PROMPT, T0);
    }
}

#[test]
fn nobody_makes_a_server_slow_for_others() {
    let mut schedule = Schedule::new(8, Limits::default());
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
fn a_question_that_waits_behind_ones_share_waits_at_anothers_place_too() {
    let mut schedule = Schedule::new(8, Limits::default());
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
    let mut schedule = Schedule::new(8, Limits::default());
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
    let mut schedule = Schedule::new(1, Limits::default());
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
    let mut schedule = Schedule::new(8, Limits::default());
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
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let threads = random.usize(1..10);
        let mut schedule = Schedule::new(threads, Limits::default());
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
            assert_eq!(in_flight, flying.len(), "seed {seed} step {step}");
            assert!(in_flight <= threads, "seed {seed} step {step}");
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
        assert_eq!(schedule.load(), (0, 0), "seed {seed}");
        assert_eq!(schedule.shares.known(), (0, 0), "seed {seed}");
        assert!(schedule.waiting_for.is_empty() && schedule.asked.is_empty(), "seed {seed}");
    }
}

#[test]
fn rounds_come_due_in_order_and_can_move() {
    let mut schedule = Schedule::new(1, Limits::default());
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
    // A poll that comes late keeps the grid.
    assert_eq!(next_on_grid(UnixMillis(at.0 + 900), interval, phase).0, at.0 + 30_000);
    let phases: BTreeSet<_> =
        (0..100).map(|n| super::phase(&query("a", &format!("q{n}")), interval).as_secs()).collect();
    assert!(phases.len() > 20, "{phases:?}");
}

/// A server that is known, with `n` different questions for it.
fn trusted(limits: Limits, n: usize) -> Schedule {
    let mut schedule = Schedule::new(8, limits);
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
        // Each deadline is worth waking up for.
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
fn a_server_that_asks_for_rest_has_it_of_the_tenant_that_it_told() {
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
    // However long it wants it.
    schedule.finish(jobs[0].id, Conduct::Overloaded(Duration::from_secs(86_400)), at(121));
    schedule.ask((key(1), 1), &query("a", "again"), None, at(121));
    assert_eq!(schedule.dispatch(at(180)).len(), 0);
    assert_eq!(schedule.dispatch(at(181)).len(), 1);
}
