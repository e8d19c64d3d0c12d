//! Authorisation: whether a user may do what a request asks for.
//!
//! Asks the kube-apiserver where it must, and never allows anything because a review failed. Documents that keep the
//! cluster working are served to the front proxy without a review, so that an outage of reviews does not make the whole
//! API stale. Anonymous requests that do not come through the front proxy are refused without one: each review is work
//! for the API server, which any pod could cause, and anonymous users can read through the API server.

use std::sync::Arc;
use std::time::Instant;

use super::attributes::Attributes;
use super::authn::UNAUTHENTICATED;
use super::discovery;
use super::review_cache::ReviewCache;
use super::reviews::{AccessReviewer, AccessVerdict, ReviewError};
use super::{Identity, Response, User};

const MASTERS: &str = "system:masters";

/// Anybody may read these paths, but nothing below them.
const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// A question with more bytes than this from the caller is asked each time: remembering it would let a caller evict
/// the answers that others need.
const QUESTION_MAX: usize = 10_000;

pub struct Authorizer {
    reviewer: Arc<dyn AccessReviewer>,
    reviews: ReviewCache<AccessVerdict>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// With the reason that the review gave, which may be empty.
    Deny(String),
    /// The review failed, so that the request is not allowed.
    Failed(ReviewError),
}

impl Authorizer {
    pub fn new(reviewer: Arc<dyn AccessReviewer>) -> Authorizer {
        Authorizer { reviewer, reviews: ReviewCache::default() }
    }

    /// Decides whether `user` may do this; `identity` is how the connection authenticated. May wait for a review.
    pub fn decide(&self, identity: &Identity, user: &User, attributes: &Attributes, now: Instant) -> Decision {
        if let Some(decision) = Self::unasked(identity, user, attributes) {
            return decision;
        }
        let ask = || self.reviewer.review(user, attributes);
        let verdict = if size(user, attributes) <= QUESTION_MAX {
            self.reviews.get_or_ask(&(user, attributes), now, ask)
        } else {
            ask()
        };
        verdict.map_or_else(Decision::Failed, Decision::from)
    }

    /// Like [`Self::decide`] without waiting; None if that takes a review.
    pub fn remembered(
        &self,
        identity: &Identity,
        user: &User,
        attributes: &Attributes,
        now: Instant,
    ) -> Option<Decision> {
        if let Some(decision) = Self::unasked(identity, user, attributes) {
            return Some(decision);
        }
        self.reviews.remembered(&(user, attributes), now).map(Decision::from)
    }

    /// Decides what takes no review. A verified front proxy may always read discovery, OpenAPI and version, so that
    /// aggregation survives an outage of reviews.
    fn unasked(identity: &Identity, user: &User, attributes: &Attributes) -> Option<Decision> {
        let is_in = |name: &str| user.groups.iter().any(|group| group == name);
        if is_in(MASTERS) || Self::is_free(identity, attributes) {
            Some(Decision::Allow)
        } else if is_in(UNAUTHENTICATED) && !matches!(identity, Identity::FrontProxy { .. }) {
            Some(Decision::Deny(String::new()))
        } else {
            None
        }
    }

    fn is_free(identity: &Identity, attributes: &Attributes) -> bool {
        let is_front_proxy = matches!(identity, Identity::FrontProxy { user: Ok(_), .. });
        match attributes {
            Attributes::NonResource { path, verb } => {
                HEALTH.contains(&path.as_str()) && verb == "get"
                    || is_front_proxy && verb == "get" && discovery::is_document(path)
            }
            Attributes::Resource(_) => false,
        }
    }
}

impl From<AccessVerdict> for Decision {
    fn from(verdict: AccessVerdict) -> Self {
        match verdict {
            AccessVerdict::Allowed => Decision::Allow,
            AccessVerdict::NotAllowed(reason) => Decision::Deny(reason),
        }
    }
}

impl Decision {
    /// The answer to a request that is not allowed; None if it is. The wording is Kubernetes' own.
    pub fn response(&self, user: &User, attributes: &Attributes) -> Option<Response> {
        match self {
            Decision::Allow => None,
            Decision::Deny(reason) => {
                let mut message = forbidden(user, attributes);
                if !reason.is_empty() {
                    message += ": ";
                    message += reason;
                }
                Some(Response::status(403, "Forbidden", &message))
            }
            Decision::Failed(_) => {
                // Without details that vary: the HPA controller would record an Event for each variant.
                Some(Response::status(500, "InternalError", "cannot authorize: access review failed"))
            }
        }
    }
}

fn forbidden(user: &User, attributes: &Attributes) -> String {
    let name = &user.name;
    match attributes {
        Attributes::NonResource { path, verb } => {
            format!("forbidden: User {name:?} cannot {verb} path {path:?}")
        }
        Attributes::Resource(resource) => {
            let (group, mut what) = (resource.api.group(), resource.resource.clone());
            if !resource.subresource.is_empty() {
                what = format!("{what}/{}", resource.subresource);
            }
            let object = match resource.name.as_str() {
                "" => String::new(),
                name => format!(" {name:?}"),
            };
            let place = match resource.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "{}.{group}{object} is forbidden: User {name:?} cannot {} resource {what:?} in API group {group:?} {place}",
                resource.resource, resource.verb,
            )
        }
    }
}

/// Bytes of the question that the caller chooses.
fn size(user: &User, attributes: &Attributes) -> usize {
    let extra = user.extra.iter().map(|(k, v)| k.len() + v.iter().map(String::len).sum::<usize>());
    let groups = user.groups.iter().map(String::len).sum::<usize>();
    let asked = match attributes {
        Attributes::NonResource { path, verb } => path.len() + verb.len(),
        Attributes::Resource(r) => {
            [&r.namespace, &r.verb, &r.resource, &r.subresource, &r.name].map(String::len).iter().sum()
        }
    };
    user.name.len() + user.uid.len() + groups + extra.sum::<usize>() + asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::attributes::ResourceAttributes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Allows a name with "ok" in it, and fails on one with "down".
    #[derive(Default)]
    struct Fake(AtomicUsize);

    impl AccessReviewer for Fake {
        fn review(&self, _: &User, attributes: &Attributes) -> Result<AccessVerdict, ReviewError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let text = format!("{attributes:?}");
            if text.contains("down") {
                Err(ReviewError::Ask("down".into()))
            } else if text.contains("ok") {
                Ok(AccessVerdict::Allowed)
            } else {
                Ok(AccessVerdict::NotAllowed("because".into()))
            }
        }
    }

    fn metric(name: &str) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            namespace: "ns".into(),
            verb: "list".into(),
            resource: name.into(),
            ..ResourceAttributes::default()
        })
    }

    fn path(path: &str) -> Attributes {
        Attributes::NonResource { path: path.into(), verb: "get".into() }
    }

    fn user(groups: &[&str]) -> User {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        User { name: "u".into(), groups, ..User::default() }
    }

    fn proxied() -> Identity {
        Identity::FrontProxy { common_name: "front".into(), holder: Arc::new(Ok(User::default())), user: Ok(user(&[])) }
    }

    fn authorizer() -> (Authorizer, Arc<Fake>) {
        let fake = Arc::new(Fake::default());
        (Authorizer::new(Arc::clone(&fake) as Arc<dyn AccessReviewer>), fake)
    }

    #[test]
    fn decisions() {
        let (authorizer, fake) = authorizer();
        let now = Instant::now();
        let deny = || Decision::Deny("because".into());
        let failed = || Decision::Failed(ReviewError::Ask("down".into()));
        let nobody = || Identity::None;
        let master = ["a", MASTERS];
        // identity, groups, what, decision, reviews it took
        let cases: Vec<(Identity, &[&str], Attributes, Decision, usize)> = vec![
            (nobody(), &master, metric("down"), Decision::Allow, 0),
            (nobody(), &[], path("/healthz"), Decision::Allow, 0),
            (nobody(), &[], path("/livez"), Decision::Allow, 0),
            (nobody(), &[], path("/readyz"), Decision::Allow, 0),
            (nobody(), &[], path("/readyz/"), deny(), 1),
            (nobody(), &[], path("/readyz/x"), deny(), 1),
            (nobody(), &[], path("/metrics"), deny(), 1),
            (nobody(), &[], path("/apis"), deny(), 1),
            (nobody(), &[], metric("ok"), Decision::Allow, 1),
            (nobody(), &[], metric("no"), deny(), 1),
            (nobody(), &[], metric("down"), failed(), 1),
            (nobody(), &[UNAUTHENTICATED], path("/healthz"), Decision::Allow, 0),
            (nobody(), &[UNAUTHENTICATED], path("/nowhere"), Decision::Deny(String::new()), 0),
            (nobody(), &[UNAUTHENTICATED], metric("ok"), Decision::Deny(String::new()), 0),
            (proxied(), &[UNAUTHENTICATED], metric("ok"), Decision::Allow, 1),
            (proxied(), &[], path("/apis"), Decision::Allow, 0),
            (proxied(), &[], path("/openapi/v3"), Decision::Allow, 0),
            (proxied(), &[], path("/metrics"), deny(), 1),
            (proxied(), &["x"], metric("ok"), Decision::Allow, 1),
            (proxied(), &[], metric("down"), failed(), 1),
        ];
        for (identity, groups, attributes, expected, reviews) in cases {
            let before = fake.0.load(Ordering::SeqCst);
            // One user per case, so that none is answered from the cache.
            let user = User { uid: before.to_string(), ..user(groups) };
            assert_eq!(authorizer.decide(&identity, &user, &attributes, now), expected, "{attributes:?}");
            assert_eq!(fake.0.load(Ordering::SeqCst) - before, reviews, "{attributes:?}");
        }
    }

    #[test]
    fn verdicts_are_remembered_unless_the_question_is_huge() {
        let (authorizer, fake) = authorizer();
        let now = Instant::now();
        let ask = |user: &User, name: &str| {
            authorizer.decide(&Identity::None, user, &metric(name), now);
            fake.0.load(Ordering::SeqCst)
        };
        assert_eq!(ask(&user(&[]), "ok"), 1);
        assert_eq!(ask(&user(&[]), "ok"), 1);
        assert_eq!(ask(&user(&[]), "no"), 2);
        assert_eq!(ask(&user(&[]), "no"), 2);
        assert_eq!(ask(&user(&["g"]), "ok"), 3);
        assert_eq!(ask(&user(&[]), "down"), 4);
        assert_eq!(ask(&user(&[]), "down"), 5);
        let huge = user(&[&"g".repeat(QUESTION_MAX)]);
        assert_eq!(ask(&huge, "ok"), 6);
        assert_eq!(ask(&huge, "ok"), 7);
    }

    #[test]
    fn answers() {
        let message = |decision: &Decision, attributes: &Attributes| {
            let response = decision.response(&user(&[]), attributes).unwrap();
            let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
            (response.status, body["message"].as_str().unwrap().to_owned())
        };
        assert_eq!(Decision::Allow.response(&user(&[]), &path("/x")), None);
        let expected = "s0.external.metrics.k8s.io is forbidden: User \"u\" cannot list resource \"s0\" in API group \"external.metrics.k8s.io\" in the namespace \"ns\": because";
        let deny = Decision::Deny("because".into());
        assert_eq!(message(&deny, &metric("s0")), (403, expected.to_owned()));
        let deny = Decision::Deny(String::new());
        let expected = "forbidden: User \"u\" cannot get path \"/metrics\"";
        assert_eq!(message(&deny, &path("/metrics")), (403, expected.to_owned()));
        let failed = Decision::Failed(ReviewError::Ask("10.0.0.1: refused".into()));
        let expected = "cannot authorize: access review failed";
        assert_eq!(message(&failed, &metric("s0")), (500, expected.to_owned()));
    }

    #[test]
    fn what_is_remembered_asks_nobody() {
        let (authorizer, fake) = authorizer();
        let now = Instant::now();
        let remembered = |identity: &Identity, attributes: &Attributes, at: Instant| {
            authorizer.remembered(identity, &user(&[]), attributes, at)
        };
        assert_eq!(remembered(&Identity::None, &path("/healthz"), now), Some(Decision::Allow));
        assert_eq!(remembered(&proxied(), &path("/apis"), now), Some(Decision::Allow));
        assert_eq!(remembered(&Identity::None, &path("/apis"), now), None);
        assert_eq!(remembered(&proxied(), &metric("ok"), now), None);
        assert_eq!(authorizer.remembered(&proxied(), &user(&[MASTERS]), &metric("ok"), now), Some(Decision::Allow));
        assert_eq!(fake.0.load(Ordering::SeqCst), 0);
        for (name, expected) in
            [("ok", Some(Decision::Allow)), ("no", Some(Decision::Deny("because".into()))), ("down", None)]
        {
            authorizer.decide(&proxied(), &user(&[]), &metric(name), now);
            assert_eq!(remembered(&proxied(), &metric(name), now), expected, "{name}");
            assert_eq!(remembered(&proxied(), &metric(name), now + super::super::review_cache::REMEMBERED), None);
        }
        assert_eq!(fake.0.load(Ordering::SeqCst), 3);
    }
}
