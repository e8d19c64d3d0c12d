//! Authentication and authorisation behind a gate, combined as in the server of the aggregated API.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use hpalite::http::attributes::{self, Attributes};
use hpalite::http::authn::{Authenticator, Unauthorized};
use hpalite::http::authz::{Authorizer, Decision};
use hpalite::http::chain::ChainVerifier;
use hpalite::http::gate::{FromMemory, GateConfig};
use hpalite::http::reviews::{AccessReviewer, AccessVerdict, ReviewError, TokenReviewer, TokenVerdict};
use hpalite::http::{Handler, Request, Response, User, discovery, tls};

use super::support::*;

pub(super) const GV: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// A kube-apiserver that knows one token, allows `alice` everything, and can be down or hang.
#[derive(Default)]
pub(super) struct Reviews {
    down: AtomicBool,
    pub(super) asked: AtomicUsize,
    stuck: Mutex<bool>,
    freed: Condvar,
}

impl Reviews {
    pub(super) fn stick(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.freed.notify_all();
    }

    fn answer<V>(&self, verdict: V) -> Result<V, ReviewError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let stuck = self.stuck.lock().unwrap();
        drop(self.freed.wait_timeout_while(stuck, PATIENCE, |stuck| *stuck).unwrap());
        if self.down.load(Ordering::SeqCst) { Err(ReviewError::Ask("down".into())) } else { Ok(verdict) }
    }
}

impl TokenReviewer for Reviews {
    fn review(&self, token: &str) -> Result<TokenVerdict, ReviewError> {
        let user = User { name: "alice".into(), ..User::default() };
        self.answer(if token == "good" { TokenVerdict::Authenticated(user) } else { TokenVerdict::Rejected })
    }
}

impl AccessReviewer for Reviews {
    fn review(&self, user: &User, attributes: &Attributes) -> Result<AccessVerdict, ReviewError> {
        let is_document = matches!(attributes, Attributes::NonResource { path, .. } if discovery::is_document(path));
        let may_discover = is_document && user.groups.iter().any(|group| group == "system:authenticated");
        let allowed = user.name == "alice" || may_discover;
        self.answer(if allowed { AccessVerdict::Allowed } else { AccessVerdict::NotAllowed(String::new()) })
    }
}

struct Api {
    authenticator: Authenticator,
    authorizer: Authorizer,
}

impl Api {
    fn handle(&self, request: &Request) -> Response {
        let now = Instant::now();
        let user = self.authenticator.authenticate(request, now);
        let decide = |user: &User, attributes: &Attributes| {
            Some(self.authorizer.decide(&request.peer.identity, user, attributes, now))
        };
        respond(request, Some(user), decide).unwrap()
    }

    fn at_once(&self, request: &Request) -> Option<Response> {
        let now = Instant::now();
        let user = self.authenticator.remembered(request, now);
        respond(request, user, |user, attributes| {
            self.authorizer.remembered(&request.peer.identity, user, attributes, now)
        })
    }
}

fn respond(
    request: &Request,
    user: Option<Result<User, Unauthorized>>,
    decide: impl FnOnce(&User, &Attributes) -> Option<Decision>,
) -> Option<Response> {
    let attributes = match attributes::attributes(request) {
        Ok(attributes) => attributes,
        Err(error) => return Some(Response::status(400, "BadRequest", &error.to_string())),
    };
    let user = match user? {
        Ok(user) => user,
        Err(error) => return Some(error.response()),
    };
    if let Some(refusal) = decide(&user, &attributes)?.response(&user, &attributes) {
        return Some(refusal);
    }
    if request.method != "GET" {
        return Some(Response::status(405, "MethodNotAllowed", "method not allowed"));
    }
    Some(match &attributes {
        Attributes::Resource(metric) => Response::text(200, format!("{} for {}", metric.resource, user.name)),
        Attributes::NonResource { path, .. } if path.ends_with('z') => Response::text(200, "ok"),
        Attributes::NonResource { .. } => discovery::answer(request, &discovery::Served::NOTHING)
            .unwrap_or_else(|| Response::status(404, "NotFound", "the server could not find the requested resource")),
    })
}

pub(super) struct Served {
    pub(super) secure: Secure,
    pub(super) reviews: Arc<Reviews>,
    /// Signs the client certificates of the cluster.
    client_ca: Authority,
}

pub(super) fn serve() -> Served {
    let reviews = Arc::new(Reviews::default());
    let client_ca = Authority::new("client-ca");
    let authenticator = Authenticator::new(Some(Arc::clone(&reviews) as Arc<dyn TokenReviewer>));
    let verifier = ChainVerifier::new(vec![client_ca.certificate.clone()], &tls::provider()).unwrap();
    let reviewer = Arc::clone(&reviews) as Arc<dyn AccessReviewer>;
    let authorizer = Authorizer::new(reviewer);
    let api = Arc::new(Api { authenticator, authorizer });
    let from_memory: FromMemory = Arc::new({
        let api = Arc::clone(&api);
        move |request| api.at_once(request)
    });
    let handler: Handler = Arc::new(move |request: &Request| api.handle(request));
    let secure = secure_with(handler, |config: &mut GateConfig| {
        (config.workers, config.patient_workers, config.from_memory) = (2, 3, Some(from_memory));
    });
    secure.tls.set_client_ca(Some(Arc::new(verifier)));
    Served { secure, reviews, client_ca }
}

/// Returns the status of a GET with this certificate and these additional header lines.
fn get(served: &Served, holder: Option<&Holder>, path: &str, headers: &str) -> u16 {
    ask(&mut served.secure.client(holder), &format!("GET {path} HTTP/1.1{headers}")).0
}

#[test]
fn who_gets_what() {
    let served = serve();
    let metric = format!("{GV}/namespaces/ns/m");
    let front = served.secure.front_proxy();
    let alice = served.client_ca.client("alice");
    let mallory = served.client_ca.client("mallory");
    let stranger = Authority::new("elsewhere").client("alice");
    let other_name = served.secure.front_proxy_ca.client("another");
    let (slash, dots) = (format!("{GV}/namespaces/ns/a%2Fb"), format!("{GV}/namespaces/../m"));
    let aggregator = "\r\nX-Remote-User: system:kube-aggregator";
    let as_alice = "\r\nX-Remote-User: alice";
    let as_bob = "\r\nX-Remote-User: bob";
    let as_master = "\r\nX-Remote-User: bob\r\nX-Remote-Group: system:masters";
    let cases: Vec<(&str, Option<&Holder>, &str, &str, u16)> = vec![
        ("aggregator without group", Some(&front), GV, aggregator, 200),
        ("aggregator, groups", Some(&front), "/apis", aggregator, 200),
        ("aggregator, openapi", Some(&front), "/openapi/v3", aggregator, 200),
        ("anonymous health", None, "/healthz", "", 200),
        ("anonymous readiness", None, "/readyz", "", 200),
        ("below readiness", None, "/readyz/x", "", 403),
        ("anonymous metrics", None, "/metrics", "", 403),
        ("anonymous root", None, "/", "", 403),
        ("anonymous discovery", None, GV, "", 403),
        ("allowed user", Some(&front), &metric, as_alice, 200),
        ("denied user", Some(&front), &metric, as_bob, 403),
        ("master", Some(&front), &metric, as_master, 200),
        ("claims without certificate", None, &metric, as_master, 403),
        ("claims with a client certificate", Some(&mallory), &metric, as_master, 403),
        ("client certificate", Some(&alice), &metric, "", 200),
        ("front proxy names nobody", Some(&front), &metric, "", 401),
        ("front proxy names two", Some(&front), &metric, "\r\nX-Remote-User: a\r\nX-Remote-User: b", 401),
        ("front proxy ca, other name", Some(&other_name), &metric, as_alice, 401),
        ("unknown ca", Some(&stranger), &metric, as_alice, 401),
        ("good token", None, &metric, "\r\nAuthorization: Bearer good", 200),
        ("bad token", None, &metric, "\r\nAuthorization: Bearer bad", 401),
        ("unknown ca, good token", Some(&stranger), &metric, "\r\nAuthorization: Bearer good", 200),
        ("slash in a segment", Some(&front), &slash, as_alice, 400),
        ("dots", Some(&front), &dots, as_alice, 400),
    ];
    for (what, holder, path, headers, code) in cases {
        assert_eq!(get(&served, holder, path, headers), code, "{what}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let mut client = served.secure.client(Some(&front));
        assert_eq!(ask(&mut client, &format!("{method} {metric} HTTP/1.1{as_alice}")).0, 405, "{method}");
    }
}

#[test]
fn an_outage_of_reviews_lets_nobody_in_and_keeps_discovery() {
    let served = serve();
    served.reviews.down.store(true, Ordering::SeqCst);
    let metric = format!("{GV}/namespaces/ns/m");
    let front = served.secure.front_proxy();
    assert_eq!(get(&served, Some(&front), &metric, "\r\nX-Remote-User: alice"), 500);
    assert_eq!(get(&served, Some(&front), GV, "\r\nX-Remote-User: system:kube-aggregator"), 200);
    assert_eq!(get(&served, None, &metric, "\r\nAuthorization: Bearer good"), 401);
    served.reviews.down.store(false, Ordering::SeqCst);
    assert_eq!(get(&served, Some(&front), &metric, "\r\nX-Remote-User: alice"), 200);
}

#[test]
fn discovery_answers_while_many_reads_hang_in_reviews() {
    use std::io::Write;
    let served = serve();
    served.reviews.stick(true);
    let front = served.secure.front_proxy();
    let mut hanging: Vec<_> = (0..40)
        .map(|n| {
            let mut client = served.secure.client(Some(&front));
            let path = format!("{GV}/namespaces/ns/m{n}");
            write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\nX-Remote-User: alice\r\n\r\n").unwrap();
            client
        })
        .collect();
    eventually("all patient workers hang", || served.reviews.asked.load(Ordering::SeqCst) == 3);
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(get(&served, Some(&front), GV, "\r\nX-Remote-User: system:kube-aggregator"), 200);
        assert_eq!(get(&served, None, "/livez", ""), 200);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    served.reviews.stick(false);
    for client in &mut hanging {
        // Those that waited too long in the queue get a 503.
        let (head, _) = read_answer(client).unwrap();
        assert!([200, 503].contains(&status(&head)), "{head}");
    }
}
