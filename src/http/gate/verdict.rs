//! What a connection's client certificate is worth, judged when a request asks and remembered for a while.
//!
//! Owns the chain and the last verdict on it. The rules come from [`TlsState`]; a change of them is seen by the
//! next request.

use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::UnixTime;

use super::limits::VERDICT;
use crate::http::front_proxy::{FrontProxyTrust, Reason};
use crate::http::tls::TlsState;
use crate::http::{Chain, Identity};

#[derive(Default)]
pub(super) struct Judge {
    chain: Option<Chain>,
    verdict: Option<Verdict>,
}

struct Verdict {
    generation: u64,
    until: Instant,
    trust: Option<Arc<FrontProxyTrust>>,
    common_name: Result<Arc<str>, Reason>,
}

impl Judge {
    pub(super) fn new(chain: Option<Chain>) -> Judge {
        Judge { chain, verdict: None }
    }

    /// True if the last verdict was that this is the front proxy.
    pub(super) fn is_front_proxy(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.common_name.is_ok())
    }

    /// Passes a verdict if there is none that still holds.
    pub(super) fn refresh(&mut self, tls: &TlsState, now: Instant) {
        let holds = |verdict: &Verdict| verdict.generation == tls.generation() && now < verdict.until;
        if self.verdict.as_ref().is_some_and(holds) {
            return;
        }
        let (generation, trust) = tls.front_proxy();
        let common_name = match (&self.chain, &trust) {
            (None, _) | (_, None) => Err(Reason::NotConfigured),
            (Some(chain), Some(trust)) => trust.verify(chain, UnixTime::now()).map(Arc::from),
        };
        self.verdict = Some(Verdict { generation, until: now + VERDICT, trust, common_name });
    }

    /// Who sends a request with these headers, by the last verdict.
    pub(super) fn identity(&self, headers: &[(&str, &str)]) -> Identity {
        let (Some(chain), Some(verdict)) = (&self.chain, &self.verdict) else {
            return Identity::None;
        };
        match (&verdict.common_name, &verdict.trust) {
            (Ok(name), Some(trust)) => Identity::FrontProxy {
                common_name: Arc::clone(name),
                chain: Arc::clone(chain),
                user: trust.user(headers),
            },
            (Ok(_), None) => Identity::Certificate { chain: Arc::clone(chain), refusal: Reason::NotConfigured },
            (Err(reason), _) => Identity::Certificate { chain: Arc::clone(chain), refusal: reason.clone() },
        }
    }

    /// True for headers that the rules in force give a meaning, whoever sends them.
    pub(super) fn is_identity_header(&self, name: &str) -> bool {
        let trust = self.verdict.as_ref().and_then(|verdict| verdict.trust.as_ref());
        trust.is_some_and(|trust| trust.is_identity_header(name))
    }
}
