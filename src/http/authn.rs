//! Authentication: who sends a request.
//!
//! In the order of the kube-apiserver's own servers: front proxy, client certificate, bearer token, anonymous. Any
//! failed attempt to be somebody makes the request nobody's (401); only who does not try is anonymous.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use rustls::pki_types::UnixTime;

use super::chain::{ChainError, ChainVerifier};
use super::der::Subject;
use super::front_proxy::HeaderFault;
use super::review_cache::ReviewCache;
use super::reviews::{ReviewError, TokenReviewer, TokenVerdict};
use super::{Chain, Identity, Request, Response, User};

pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Every authenticated user is in it; cluster roles for discovery are bound to it.
pub const AUTHENTICATED: &str = "system:authenticated";

/// Longest token that is asked about; those of service accounts are about 1 KB.
const TOKEN_MAX: usize = 8 * 1024;

pub struct Authenticator {
    /// Who signs client certificates of the cluster; None where that is not known. Locked to clone or swap.
    client_ca: RwLock<Option<Arc<ChainVerifier>>>,
    /// None where tokens cannot be reviewed; then each is an error.
    tokens: Option<Arc<dyn TokenReviewer>>,
    reviews: ReviewCache<TokenVerdict>,
}

/// Why a request is nobody's. For logs: the answer does not say.
#[derive(Debug, Clone, PartialEq)]
pub enum Unauthorized {
    FrontProxy(HeaderFault),
    Certificate(ChainError),
    /// A good certificate that names nobody.
    NoCommonName,
    /// There is a certificate, and no CA to judge it by.
    NoClientCa,
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
            Unauthorized::NoCommonName => f.write_str("client certificate has no common name"),
            Unauthorized::NoClientCa => f.write_str("no ca for client certificates is known"),
            Unauthorized::Header => f.write_str("malformed authorization header"),
            Unauthorized::Token => f.write_str("token rejected"),
            Unauthorized::Review(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unauthorized {}

impl Unauthorized {
    /// Says no more than that: what was wrong is for the operator's log.
    pub fn response(&self) -> Response {
        Response::status(401, "Unauthorized", "Unauthorized")
    }
}

impl Authenticator {
    pub fn new(tokens: Option<Arc<dyn TokenReviewer>>) -> Authenticator {
        Authenticator { client_ca: RwLock::new(None), tokens, reviews: ReviewCache::default() }
    }

    /// Replaces the CA bundle of client certificates; the next request is judged by it.
    pub fn set_client_ca(&self, ca: Option<Arc<ChainVerifier>>) {
        *self.client_ca.write().unwrap_or_else(PoisonError::into_inner) = ca;
    }

    /// May wait for a token review.
    pub fn authenticate(&self, request: &Request, now: Instant, wall_clock: UnixTime) -> Result<User, Unauthorized> {
        self.judge(request, wall_clock, |token| Some(self.token(token, now))).unwrap_or(Err(Unauthorized::Token))
    }

    /// The same without asking anybody; None if that takes a token review.
    pub fn remembered(
        &self,
        request: &Request,
        now: Instant,
        wall_clock: UnixTime,
    ) -> Option<Result<User, Unauthorized>> {
        self.judge(request, wall_clock, |token| self.reviews.remembered(&token, now).map(owner))
    }

    /// None if the request depends on a token of which `review` knows nothing.
    fn judge(
        &self,
        request: &Request,
        wall_clock: UnixTime,
        review: impl FnOnce(&str) -> Option<Result<User, Unauthorized>>,
    ) -> Option<Result<User, Unauthorized>> {
        let mut failed = None;
        match &request.peer.identity {
            Identity::None => {}
            Identity::FrontProxy { user: Ok(user), .. } => return Some(Ok(authenticated(user.clone()))),
            // Named nobody: it may still be somebody itself.
            Identity::FrontProxy { user: Err(HeaderFault::NoUsername), chain, .. }
            | Identity::Certificate { chain, .. } => match self.holder(chain, wall_clock) {
                Ok(user) => return Some(Ok(authenticated(user))),
                Err(error) => failed = Some(error),
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

    /// The holder of a client certificate of the cluster.
    fn holder(&self, chain: &Chain, wall_clock: UnixTime) -> Result<User, Unauthorized> {
        let ca = self.client_ca.read().unwrap_or_else(PoisonError::into_inner).clone();
        let ca = ca.ok_or(Unauthorized::NoClientCa)?;
        let Subject { common_name, organisations } = ca.verify(chain, wall_clock).map_err(Unauthorized::Certificate)?;
        if common_name.is_empty() {
            return Err(Unauthorized::NoCommonName);
        }
        let mut user = User { name: common_name, groups: organisations, ..User::default() };
        if let Some(id) = chain.first().and_then(|certificate| sha256_hex(certificate)) {
            let key = "authentication.kubernetes.io/credential-id".to_owned();
            user.extra.insert(key, vec![format!("X509SHA256={id}")]);
        }
        Ok(user)
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

/// By the hash of a cipher suite, which saves a crate.
fn sha256_hex(bytes: &[u8]) -> Option<String> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    let hash = suite.common.hash_provider.hash(bytes);
    Some(hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::front_proxy::Reason;
    use crate::http::testing::request;
    use crate::http::tls;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa};
    use rcgen::{Issuer, KeyPair};
    use rustls::pki_types::CertificateDer;
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

    /// A CA and a client certificate of it for `alice` in `devs`.
    fn certificates() -> (ChainVerifier, Chain) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "devs");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
        (ChainVerifier::new(vec![ca], &tls::provider()).unwrap(), chain.into())
    }

    fn who(authenticator: &Authenticator, identity: Identity, headers: &[(&str, &str)]) -> Result<String, String> {
        let mut request = request("GET", "/", headers);
        request.peer.identity = identity;
        let user = authenticator.authenticate(&request, Instant::now(), UnixTime::now());
        user.map(|user| format!("{} {:?}", user.name, user.groups)).map_err(|e| e.to_string())
    }

    fn front_proxy(chain: &Chain, user: Result<User, HeaderFault>) -> Identity {
        Identity::FrontProxy { common_name: "front".into(), chain: Arc::clone(chain), user }
    }

    #[test]
    fn the_order_of_attempts() {
        let fake = Arc::new(Fake { asked: AtomicUsize::new(0) });
        let tokens: Arc<dyn TokenReviewer> = fake.clone();
        let authenticator = Authenticator::new(Some(tokens));
        let (ca, alice) = certificates();
        let (_, stranger) = certificates();
        authenticator.set_client_ca(Some(Arc::new(ca)));
        let bob = || Ok(User { name: "bob".into(), ..User::default() });
        let certificate =
            |chain: &Chain| Identity::Certificate { chain: Arc::clone(chain), refusal: Reason::NotConfigured };
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
            assert!(error.starts_with("client certificate not trusted"), "{error}");
        }
        let asked = fake.asked.load(Ordering::SeqCst);
        who(&authenticator, Identity::None, &good).unwrap();
        who(&authenticator, Identity::None, &bad).unwrap_err();
        assert_eq!(fake.asked.load(Ordering::SeqCst), asked, "both are remembered");
        who(&authenticator, Identity::None, &[("Authorization", "Bearer down")]).unwrap_err();
        assert_eq!(fake.asked.load(Ordering::SeqCst), asked + 1, "a failure is not");
    }

    #[test]
    fn holders_carry_the_id_of_their_certificate() {
        let authenticator = Authenticator::new(None);
        let (ca, alice) = certificates();
        let refused = authenticator.holder(&alice, UnixTime::now());
        assert_eq!(refused, Err(Unauthorized::NoClientCa));
        authenticator.set_client_ca(Some(Arc::new(ca)));
        let user = authenticator.holder(&alice, UnixTime::now()).unwrap();
        let id = &user.extra["authentication.kubernetes.io/credential-id"][0];
        assert_eq!(id.len(), "X509SHA256=".len() + 64);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b"").as_deref(), Some(empty));
        let token = who(&authenticator, Identity::None, &[("Authorization", "Bearer good")]);
        assert!(token.unwrap_err().contains("not reviewed here"));
    }
}
