//! Authentication: who sends a request.
//!
//! In the order of the kube-apiserver's own servers: front proxy, client certificate, bearer token, anonymous. Any
//! failed attempt to be somebody makes the request nobody's (401); only who does not try is anonymous.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::front_proxy::HeaderFault;
use super::review_cache::ReviewCache;
use super::reviews::{ReviewError, TokenReviewer, TokenVerdict};
use super::{HolderError, Identity, Request, Response, User};

pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Every authenticated user is in it; cluster roles for discovery are bound to it.
pub const AUTHENTICATED: &str = "system:authenticated";

/// Longest token that is asked about; those of service accounts are about 1 KB.
const TOKEN_MAX: usize = 8 * 1024;

pub struct Authenticator {
    /// None where tokens cannot be reviewed; then each is an error.
    tokens: Option<Arc<dyn TokenReviewer>>,
    reviews: ReviewCache<TokenVerdict>,
}

/// Why a request is nobody's. For logs: the answer does not say.
#[derive(Debug, Clone, PartialEq)]
pub enum Unauthorized {
    FrontProxy(HeaderFault),
    Certificate(HolderError),
    /// Not `Bearer` with a token, or more than one such header.
    Header,
    Token,
    Review(ReviewError),
}

impl fmt::Display for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unauthorized::FrontProxy(fault) => fault.fmt(f),
            Unauthorized::Certificate(error) => error.fmt(f),
            Unauthorized::Header => f.write_str("malformed authorization header"),
            Unauthorized::Token => f.write_str("token rejected"),
            Unauthorized::Review(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unauthorized {}

impl Unauthorized {
    /// The answer says no more than that; what was wrong is in the operator's log.
    pub fn response(&self) -> Response {
        Response::status(401, "Unauthorized", "Unauthorized")
    }
}

impl Authenticator {
    pub fn new(tokens: Option<Arc<dyn TokenReviewer>>) -> Authenticator {
        Authenticator { tokens, reviews: ReviewCache::default() }
    }

    /// May wait for a token review.
    pub fn authenticate(&self, request: &Request, now: Instant) -> Result<User, Unauthorized> {
        self.judge(request, |token| Some(self.token(token, now))).unwrap_or(Err(Unauthorized::Token))
    }

    /// The same without asking anybody; None if that takes a token review.
    pub fn remembered(&self, request: &Request, now: Instant) -> Option<Result<User, Unauthorized>> {
        self.judge(request, |token| self.reviews.remembered(&token, now).map(owner))
    }

    /// None if the request depends on a token of which `review` knows nothing.
    fn judge(
        &self,
        request: &Request,
        review: impl FnOnce(&str) -> Option<Result<User, Unauthorized>>,
    ) -> Option<Result<User, Unauthorized>> {
        let mut failed = None;
        match &request.peer.identity {
            Identity::None => {}
            Identity::FrontProxy { user: Ok(user), .. } => return Some(Ok(authenticated(user.clone()))),
            // The front proxy named nobody, but its own certificate may be a user's.
            Identity::FrontProxy { user: Err(HeaderFault::NoUsername), holder, .. }
            | Identity::Certificate { holder, .. } => match holder.as_ref() {
                Ok(user) => return Some(Ok(authenticated(user.clone()))),
                Err(error) => failed = Some(Unauthorized::Certificate(error.clone())),
            },
            Identity::FrontProxy { user: Err(fault), .. } => {
                failed = Some(Unauthorized::FrontProxy(*fault));
            }
        }
        match bearer(request) {
            Ok(None) => {}
            Ok(Some(token)) => match review(token)? {
                Ok(user) => return Some(Ok(authenticated(user))),
                Err(error) => failed = failed.or(Some(error)),
            },
            Err(error) => failed = failed.or(Some(error)),
        }
        Some(match failed {
            Some(error) => Err(error),
            None => {
                Ok(User { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..User::default() })
            }
        })
    }

    fn token(&self, token: &str, now: Instant) -> Result<User, Unauthorized> {
        let Some(reviewer) = &self.tokens else {
            let error = ReviewError::Ask("tokens are not reviewed here".to_owned());
            return Err(Unauthorized::Review(error));
        };
        match self.reviews.get_or_ask(&token, now, || reviewer.review(token)) {
            Ok(verdict) => owner(verdict),
            Err(error) => Err(Unauthorized::Review(error)),
        }
    }
}

fn owner(verdict: TokenVerdict) -> Result<User, Unauthorized> {
    match verdict {
        TokenVerdict::Authenticated(user) => Ok(user),
        TokenVerdict::Rejected => Err(Unauthorized::Token),
    }
}

fn authenticated(mut user: User) -> User {
    if !user.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// The token of the request; None if it does not try. Another scheme is no attempt that we know of, as in the
/// kube-apiserver.
fn bearer(request: &Request) -> Result<Option<&str>, Unauthorized> {
    let mut headers = request.header_values("authorization");
    let Some(header) = headers.next() else {
        return Ok(None);
    };
    if headers.next().is_some() {
        return Err(Unauthorized::Header);
    }
    let Some((scheme, token)) = header.trim().split_once(' ') else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim();
    if token.is_empty() || token.len() > TOKEN_MAX || token.contains(' ') {
        return Err(Unauthorized::Header);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Holder;
    use crate::http::front_proxy::Reason;
    use crate::http::testing::request;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Fake {
        asked: AtomicUsize,
    }

    impl TokenReviewer for Fake {
        fn review(&self, token: &str) -> Result<TokenVerdict, ReviewError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match token {
                "good" => {
                    let groups = vec!["g".to_owned()];
                    Ok(TokenVerdict::Authenticated(User { name: "token".into(), groups, ..User::default() }))
                }
                "down" => Err(ReviewError::Ask("down".into())),
                _ => Ok(TokenVerdict::Rejected),
            }
        }
    }

    fn alice() -> Holder {
        Arc::new(Ok(User { name: "alice".into(), groups: vec!["devs".into()], ..User::default() }))
    }

    fn stranger() -> Holder {
        Arc::new(Err(HolderError::NoCommonName))
    }

    fn who(authenticator: &Authenticator, identity: Identity, headers: &[(&str, &str)]) -> Result<String, String> {
        let mut request = request("GET", "/", headers);
        request.peer.identity = identity;
        let user = authenticator.authenticate(&request, Instant::now());
        user.map(|user| format!("{} {:?}", user.name, user.groups)).map_err(|e| e.to_string())
    }

    fn front_proxy(holder: &Holder, user: Result<User, HeaderFault>) -> Identity {
        Identity::FrontProxy { common_name: "front".into(), holder: Arc::clone(holder), user }
    }

    #[test]
    fn the_order_of_attempts() {
        let fake = Arc::new(Fake { asked: AtomicUsize::new(0) });
        let tokens: Arc<dyn TokenReviewer> = fake.clone();
        let authenticator = Authenticator::new(Some(tokens));
        let (alice, stranger) = (alice(), stranger());
        let bob = || Ok(User { name: "bob".into(), ..User::default() });
        let certificate =
            |holder: &Holder| Identity::Certificate { holder: Arc::clone(holder), refusal: Reason::NotConfigured };
        let good = [("Authorization", "Bearer good")];
        let bad = [("Authorization", "Bearer bad")];
        let twice = [good[0], good[0]];
        let anonymous = Ok(r#"system:anonymous ["system:unauthenticated"]"#);
        let alice_is = Ok(r#"alice ["devs", "system:authenticated"]"#);
        let token_is = Ok(r#"token ["g", "system:authenticated"]"#);
        let bob_is = Ok(r#"bob ["system:authenticated"]"#);
        type Case<'c> = (Identity, &'c [(&'c str, &'c str)], Result<&'c str, &'c str>);
        let cases: Vec<Case<'_>> = vec![
            (Identity::None, &[], anonymous),
            (Identity::None, &[("Authorization", "Basic x")], anonymous),
            (Identity::None, &[("Authorization", "Bearer")], anonymous),
            (Identity::None, &[("Authorization", "Bearer  ")], anonymous),
            (Identity::None, &[("Authorization", "Bearer a b")], Err("malformed authorization header")),
            (Identity::None, &good, token_is),
            (Identity::None, &[("authorization", "bearer good")], token_is),
            (Identity::None, &bad, Err("token rejected")),
            (Identity::None, &twice, Err("malformed authorization header")),
            (Identity::None, &[("Authorization", "Bearer down")], Err("cannot ask for a review: down")),
            (front_proxy(&stranger, bob()), &bad, bob_is),
            (front_proxy(&alice, Err(HeaderFault::NoUsername)), &[], alice_is),
            (front_proxy(&alice, Err(HeaderFault::SeveralUsernames)), &[], Err("front proxy named several users")),
            (certificate(&alice), &bad, alice_is),
            (certificate(&stranger), &good, token_is),
        ];
        for (identity, headers, expected) in cases {
            let shown = format!("{identity:?} {headers:?}");
            let found = who(&authenticator, identity, headers);
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{}", &shown[..shown.len().min(80)]);
        }
        for identity in [certificate(&stranger), front_proxy(&stranger, Err(HeaderFault::NoUsername))] {
            let error = who(&authenticator, identity, &[]).unwrap_err();
            assert_eq!(error, "client certificate has no common name");
        }
        let asked = fake.asked.load(Ordering::SeqCst);
        who(&authenticator, Identity::None, &good).unwrap();
        who(&authenticator, Identity::None, &bad).unwrap_err();
        assert_eq!(fake.asked.load(Ordering::SeqCst), asked, "both are remembered");
        who(&authenticator, Identity::None, &[("Authorization", "Bearer down")]).unwrap_err();
        assert_eq!(fake.asked.load(Ordering::SeqCst), asked + 1, "a failure is not");
    }

    #[test]
    fn without_a_reviewer_every_token_is_refused() {
        let token = who(&Authenticator::new(None), Identity::None, &[("Authorization", "Bearer good")]);
        assert!(token.unwrap_err().contains("not reviewed here"));
    }
}
