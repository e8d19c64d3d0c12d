//! Checks whether metric servers answer, and whether each query returns one number.
//!
//! Every distinct query is asked once, with the daemon's own code and credentials.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::objects::texts;
use super::{Doctor, Severity};
use crate::scaling::event::{Answer, Credentials, ErrorClass, Missing, PollError, PollJob};
use crate::scaling::model::{
    ApiGroup, Authentication, AuthenticationKey, AuthenticationKind, OnMissing, Query, ScaledObject, Source,
};
use crate::sources::Asker;
use crate::store::unix_now;
use crate::wire;

const THREADS: usize = 8;
/// Time limit for all queries together; those that are left out are reported.
const LIMIT: Duration = Duration::from_secs(60);

/// One query, and the triggers that ask it.
struct SharedQuery {
    query: Query,
    credentials: Option<Credentials>,
    /// Whether an empty result is an error for at least one of them.
    needs_series: bool,
    askers: Vec<String>,
    /// The triggers' objects, as `namespace/name`.
    objects: Vec<String>,
}

impl Doctor<'_> {
    pub(super) fn queries(&mut self) {
        let Some((objects, authentications)) = self.definitions() else { return };
        let queries = self.shared_queries(&objects, &authentications);
        let client = self.client.clone();
        let (config, own_namespace) = (&self.subject.config, self.own_namespace.clone());
        let asker = Asker::new(config, config.own_addresses(), &client, own_namespace).expect("one thread");
        let answers = ask_all(&asker, &queries);
        let mut troubles: BTreeMap<String, (PollError, usize, Vec<String>)> = BTreeMap::new();
        let mut left_out = 0;
        for (shared, answer) in queries.iter().zip(answers) {
            match answer {
                Some(Answer::Failed(error)) if error.class.is_server_trouble() => {
                    let (server, _) = shared.query.shown();
                    let (_, askers, objects) = troubles.entry(server).or_insert((error, 0, Vec::new()));
                    *askers += shared.askers.len();
                    objects.extend(shared.objects.iter().cloned());
                }
                Some(answer) => self.judge(shared, &answer),
                None => left_out += 1,
            }
        }
        for (server, (error, askers, objects)) in troubles {
            let cause = format!("{}; triggers that ask it: {askers}", error.message);
            if self.is_pod {
                let fix = "see that it runs, its Service and the NetworkPolicies between";
                self.error("metric-server-unreachable", &server, cause, fix);
            } else {
                let fix = "names of Services are known in pods only: kubectl exec … -- /hpalite doctor asks from there";
                self.warn("metric-server-unreachable", &server, format!("from here: {cause}"), fix);
            }
            self.is_about(objects);
        }
        if left_out > 0 {
            let cause = format!("{left_out} questions were left out: their servers do not answer, or time was up");
            self.skipped("metric servers and queries", &cause, "mend the servers, or ask for one --namespace");
        }
    }

    /// Returns all definitions as the daemon reads them.
    fn definitions(&mut self) -> Option<(Vec<ScaledObject>, HashMap<AuthenticationKey, Authentication>)> {
        let (mut objects, mut authentications) = (Vec::new(), HashMap::new());
        for group in ApiGroup::ALL {
            let api = format!("/apis/{}/v1alpha1", group.name());
            let list = self.get(&self.within(&api, "scaledobjects"))?;
            let readable = texts(&list);
            objects.extend(readable.iter().filter_map(|text| {
                wire::scaled_object::from_slice(group, text.as_bytes(), &self.subject.config.servers).ok()
            }));
            let mut kinds =
                vec![(AuthenticationKind::TriggerAuthentication, self.within(&api, "triggerauthentications"))];
            // The older API has no cluster-wide kind.
            if group == ApiGroup::KedaSh {
                let path = format!("{api}/clustertriggerauthentications");
                kinds.push((AuthenticationKind::ClusterTriggerAuthentication, path));
            }
            for (kind, path) in kinds {
                let list = self.get(&path)?;
                for text in texts(&list) {
                    if let Ok(found) = wire::authentication::from_slice(group, kind, text.as_bytes()) {
                        authentications.insert(found.key.clone(), found);
                    }
                }
            }
        }
        objects.extend(self.annotated()?.into_iter().map(|(_, object)| object));
        Some((objects, authentications))
    }

    fn shared_queries(
        &mut self,
        objects: &[ScaledObject],
        authentications: &HashMap<AuthenticationKey, Authentication>,
    ) -> Vec<SharedQuery> {
        let mut queries: Vec<SharedQuery> = Vec::new();
        let mut places: HashMap<(Query, Option<Credentials>), usize> = HashMap::new();
        let is_paused = |object: &ScaledObject| object.pause.is_full() && !object.pause.is_over(unix_now());
        for object in objects.iter().filter(|object| !object.deletion_requested && !is_paused(object)) {
            let Ok(definition) = &object.definition else { continue };
            for trigger in &definition.triggers {
                let Source::Query(query) = &trigger.source else { continue };
                let name = format!("{} trigger {}", object.key, trigger.label());
                if let Some(cause) =
                    trigger.foreign_service(&object.key).filter(|_| !self.subject.config.cross_namespace_services)
                {
                    self.error(
                        "service-of-another-namespace",
                        &name,
                        cause,
                        "ask a Service of its own, or set the flag",
                    );
                    continue;
                }
                let target = || Some((object, object.status.scale_target_gvkr.clone()?));
                match Credentials::of(&object.key, trigger, |id| authentications.get(id), target) {
                    Ok(credentials) => {
                        let query = &query.settled_by(credentials.as_ref().map_or(&[], |found| &found.sources));
                        let key = (query.clone(), credentials.clone());
                        let place = *places.entry(key).or_insert_with(|| {
                            let (query, askers, objects) = (query.clone(), Vec::new(), Vec::new());
                            queries.push(SharedQuery { query, credentials, needs_series: false, askers, objects });
                            queries.len() - 1
                        });
                        queries[place].needs_series |= trigger.on_missing == OnMissing::Error;
                        queries[place].askers.push(name);
                        queries[place].objects.push(object.key.to_string());
                    }
                    Err(error) => {
                        self.error("authentication-unusable", &name, error.message, "create it, or mend it");
                        self.is_about(vec![object.key.to_string()]);
                    }
                }
            }
        }
        queries
    }

    fn judge(&mut self, shared: &SharedQuery, answer: &Answer) {
        let subject = subject(&shared.askers);
        let (server, query) = shared.query.shown();
        let of = format!("{query} at {server}");
        let one = "let it give one number, for example by sum(...)";
        let (id, severity, cause, fix) = match answer {
            Answer::Value(_) => return,
            Answer::Missing(Missing::Empty) if shared.needs_series => {
                ("query-empty", Severity::Error, format!("{of}: no series"), EMPTY)
            }
            Answer::Missing(Missing::Empty) => {
                let cause = format!("{of}: no series, which reads as 0 and may scale to zero");
                ("query-empty", Severity::Warning, cause, EMPTY)
            }
            Answer::Missing(missing) => {
                let cause = format!("{of}: the value is {}", missing.class());
                ("query-not-a-number", Severity::Error, cause, NOT_A_NUMBER)
            }
            Answer::Failed(PollError { class, message }) => {
                let cause = format!("{message} ({of})");
                match class {
                    ErrorClass::Query => ("query-many-values", Severity::Error, cause, one),
                    ErrorClass::Authentication => {
                        ("authentication-unusable", Severity::Error, cause, "create what is missing, or mend it")
                    }
                    ErrorClass::Partial => ("query-partial", Severity::Error, cause, PARTIAL),
                    ErrorClass::Configuration => {
                        ("query-failed", Severity::Error, cause, "mend the trigger as it says")
                    }
                    _ => ("query-failed", Severity::Error, cause, status_fix(message)),
                }
            }
        };
        self.add(severity, id, &subject, cause, fix.to_owned());
        self.is_about(shared.objects.clone());
    }
}

const EMPTY: &str = "if its series come and go, put `(…) or vector(0)` around the query for 0, or say by onMissing what their absence \
     means; else see that the metric exists under this name and these labels";

/// `or vector(0)` alone only applies if there is no series, and NaN is a value of one.
pub(crate) const NOT_A_NUMBER: &str = "let a division by 0 give nothing, and that be 0: `a / (b > 0) or vector(0)`; for any other NaN or infinity \
     `(query) > -Inf < +Inf or vector(0)`, where `scalar(x)` is written `x`; or say by onMissing what it means";

const PARTIAL: &str = "mend what the server says; for VictoriaMetrics and Thanos, queryParameters can make them wait for all; \
     onPartial: accept takes such answers";

/// Returns the usual fix for an error status.
fn status_fix(message: &str) -> &'static str {
    let is = |status: &str| message.contains(&format!("answered status {status}"));
    if is("401") || is("403") {
        "give credentials that the server takes: authModes on the trigger, and an authenticationRef that has them"
    } else if is("404") || is("405") {
        "let serverAddress end where /api/v1/query follows: behind a path prefix (--web.route-prefix, a gateway) with it"
    } else if is("422") || is("503") {
        "the server could not evaluate it now: see its load and limits, or make the query cheaper"
    } else if message.contains("not the Prometheus API's JSON") {
        "let serverAddress be the Prometheus API itself, not a page before it such as a login"
    } else {
        "mend what the server says"
    }
}

/// Returns `ScaledObject shop/api trigger s0-prometheus`, and how many more.
fn subject(askers: &[String]) -> String {
    match askers {
        [] => String::new(),
        [one] => format!("ScaledObject {one}"),
        [one, more @ ..] => format!("ScaledObject {one} and {} more", more.len()),
    }
}

/// Asks all queries; the answer is `None` for those that were left out.
fn ask_all(asker: &Asker, queries: &[SharedQuery]) -> Vec<Option<Answer>> {
    let (next, until) = (AtomicUsize::new(0), Instant::now() + LIMIT);
    let answers: Vec<Mutex<Option<Answer>>> = queries.iter().map(|_| Mutex::default()).collect();
    // A server that left two queries unanswered is not asked the rest.
    let troubles: Mutex<HashMap<&str, usize>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(queries.len()) {
            scope.spawn(|| {
                while Instant::now() < until {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(SharedQuery { query, credentials, .. }) = queries.get(at) else { return };
                    let failed = troubles.lock().unwrap_or_else(PoisonError::into_inner).get(query.server()).copied();
                    if failed >= Some(2) {
                        continue;
                    }
                    let done = asker.ask(PollJob {
                        id: 0,
                        server: query.server().into(),
                        query: query.clone(),
                        credentials: credentials.clone(),
                        group: None,
                        due_at: unix_now(),
                    });
                    if matches!(&done.answer, Answer::Failed(error) if error.class.is_server_trouble()) {
                        let mut troubles = troubles.lock().unwrap_or_else(PoisonError::into_inner);
                        *troubles.entry(query.server()).or_default() += 1;
                    }
                    *answers[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(done.answer);
                }
            });
        }
    });
    answers.into_iter().map(|answer| answer.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
