//! The identity that a connection's client certificate proves: verified once after the handshake, and again only when
//! the rules change, or the validity of a certificate begins or ends.
//!
//! Owns the chain and the result of its last verification. The rules come from [`TlsState`]; the next request sees a
//! change of them. Verifying is the only work here whose cost a client influences, so the workers of the front proxy's
//! lane never do it: they pass on a connection whose verification no longer holds.

use std::sync::Arc;

use rustls::pki_types::UnixTime;

use crate::http::front_proxy::{FrontProxyTrust, Reason};
use crate::http::tls::{ClientTrust, TlsState};
use crate::http::{Chain, Holder, Identity};

#[derive(Default)]
pub(super) struct ClientIdentity {
    /// None on a plain connection, and for a client without a certificate.
    chain: Option<Chain>,
    verification: Option<Verification>,
}

struct Verification {
    generation: u64,
    /// When the result expires; None if never by time alone.
    until: Option<UnixTime>,
    trust: Option<Arc<FrontProxyTrust>>,
    common_name: Result<Arc<str>, Reason>,
    holder: Option<Holder>,
}

impl ClientIdentity {
    pub(super) fn new(chain: Option<Chain>) -> ClientIdentity {
        ClientIdentity { chain, verification: None }
    }

    /// Returns true if this is the front proxy, as last verified.
    pub(super) fn is_front_proxy(&self) -> bool {
        self.verification.as_ref().is_some_and(|verification| verification.common_name.is_ok())
    }

    /// Bytes of the client's certificates, which are kept as long as the connection.
    pub(super) fn chain_bytes(&self) -> usize {
        self.chain.iter().flat_map(|chain| chain.iter()).map(|certificate| certificate.len()).sum()
    }

    /// Returns false if the chain is not verified, the result has expired, or the rules have changed.
    pub(super) fn holds(&self, tls: &TlsState) -> bool {
        let Some(verification) = &self.verification else { return false };
        verification.generation == tls.generation() && verification.until.is_none_or(|until| UnixTime::now() < until)
    }

    /// Verifies the chain, unless the last verification still holds.
    pub(super) fn refresh(&mut self, tls: &TlsState) {
        if !self.holds(tls) {
            let (generation, trust) = tls.client_trust();
            self.verification = Some(verify(self.chain.as_ref(), generation, trust, UnixTime::now()));
        }
    }

    /// Returns the identity of a request with these headers, as last verified.
    pub(super) fn identity(&self, headers: &[(&str, &str)]) -> Identity {
        let Some(Verification { trust, common_name, holder: Some(holder), .. }) = &self.verification else {
            return Identity::None;
        };
        let holder = Arc::clone(holder);
        match (common_name, trust) {
            (Ok(name), Some(trust)) => {
                Identity::FrontProxy { common_name: Arc::clone(name), holder, user: trust.user(headers) }
            }
            (Ok(_), None) => Identity::Certificate { holder, refusal: Reason::NotConfigured },
            (Err(reason), _) => Identity::Certificate { holder, refusal: reason.clone() },
        }
    }

    /// Returns true for headers that carry an identity by the current rules, whoever sends them.
    pub(super) fn is_identity_header(&self, name: &str) -> bool {
        let trust = self.verification.as_ref().and_then(|verification| verification.trust.as_ref());
        trust.is_some_and(|trust| trust.is_identity_header(name))
    }
}

fn verify(chain: Option<&Chain>, generation: u64, trust: ClientTrust, now: UnixTime) -> Verification {
    let Some(chain) = chain else {
        let common_name = Err(Reason::NotConfigured);
        return Verification { generation, until: None, trust: trust.front_proxy, common_name, holder: None };
    };
    let proxies = trust.front_proxy.as_ref().and_then(|trust| trust.authorities().holds_until(chain, now));
    let users = trust.users.as_ref().and_then(|users| users.holds_until(chain, now));
    let until = match (proxies, users) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let common_name = match &trust.front_proxy {
        None => Err(Reason::NotConfigured),
        Some(trust) => trust.verify(chain, now).map(Arc::from),
    };
    let holder = Some(Arc::new(trust.holder(chain, now)));
    Verification { generation, until, trust: trust.front_proxy, common_name, holder }
}
