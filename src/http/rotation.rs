//! The daemon's own certificates through the years: when which of them is served, and which CAs clients must trust
//! meanwhile.
//!
//! Pure: keeping the state, swapping certificates and writing the bundle are the caller's, in the order that
//! [`Rotation::advance`] asks for. A new CA is in the bundle before anything it signed is served, and an old one
//! stays until nobody can still be shown what it signed. Each step can be the last before a restart: the state is
//! kept before it takes effect.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::certificates::{self, CertificateError, OwnCertificates, Renewal, ServiceNames};
use super::der;

/// Between a bundle that is written and a certificate that relies on it: the kube-apiservers hear of a change by
/// their watches, within milliseconds of each other.
const SETTLE: Duration = Duration::from_secs(10);
/// A CA that signs nothing served any more is trusted this long yet, for handshakes under way and kube-apiservers
/// whose watch was cut.
const RETIRE: Duration = Duration::from_secs(3600);
/// Begins the name of every CA that an hpalite made.
const CA_NAME: &str = "hpalite-ca@";

/// Certificates in use, on their way in, and on their way out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    current: OwnCertificates,
    /// Made by another CA and not served before clients trust that.
    next: Option<OwnCertificates>,
    retired: Vec<Retired>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Retired {
    ca_pem: String,
    until_unix_s: i64,
}

/// What a step has changed; to be kept before it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    pub bundle: bool,
    pub serving: bool,
}

impl Changes {
    pub fn any(self) -> bool {
        self.bundle || self.serving
    }
}

impl Rotation {
    /// # Errors
    /// When the certificates cannot be made.
    pub fn generate(names: &ServiceNames, now: SystemTime) -> Result<Self, CertificateError> {
        Ok(Self::new(OwnCertificates::generate(names, now)?))
    }

    pub fn new(current: OwnCertificates) -> Self {
        Self { current, next: None, retired: Vec::new() }
    }

    /// Reads what was kept; `None` if it makes no sense.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// For keeping. Holds the private keys.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// The certificates to serve.
    pub fn current(&self) -> &OwnCertificates {
        &self.current
    }

    /// PEM of the CAs that clients must trust, in a stable order.
    pub fn bundle(&self) -> String {
        let next = self.next.iter().map(|next| &next.ca_pem);
        let retired = self.retired.iter().map(|retired| &retired.ca_pem);
        [&self.current.ca_pem].into_iter().chain(next).chain(retired).map(String::as_str).collect()
    }

    /// One step. `trusted_for` is since when clients know [`Self::bundle`] as it stands; `None` if they do not.
    ///
    /// # Errors
    /// When a certificate cannot be made; nothing has changed then.
    pub fn advance(
        &mut self,
        names: &ServiceNames,
        now: SystemTime,
        trusted_for: Option<Duration>,
    ) -> Result<Changes, CertificateError> {
        let mut changes = Changes::default();
        let now_unix_s = certificates::unix_seconds(now);
        let before = self.retired.len();
        self.retired.retain(|retired| {
            // A clock that was stepped back makes nothing stay for years.
            let left_s = retired.until_unix_s - now_unix_s;
            (1..=i64::try_from(RETIRE.as_secs()).unwrap_or(i64::MAX)).contains(&left_s)
        });
        changes.bundle |= self.retired.len() != before;
        match self.current.needs_renewal(names, now) {
            // The clock was wrong for a while, and the present certificates are good after all.
            None => changes.bundle |= self.next.take().is_some(),
            Some(Renewal::Serving) => {
                self.current = self.current.renew_serving(names, now)?;
                changes.serving = true;
            }
            Some(Renewal::Ca) => self.renew_ca(names, now, trusted_for, &mut changes)?,
        }
        Ok(changes)
    }

    fn renew_ca(
        &mut self,
        names: &ServiceNames,
        now: SystemTime,
        trusted_for: Option<Duration>,
        changes: &mut Changes,
    ) -> Result<(), CertificateError> {
        let Some(next) = self.next.take_if(|next| next.needs_renewal(names, now).is_none()) else {
            self.next = Some(OwnCertificates::generate(names, now)?);
            changes.bundle = true;
            return Ok(());
        };
        // What is served is no longer believed anyway, so nothing is lost by replacing it early.
        let settle = if self.current.is_believed(now) { SETTLE } else { Duration::ZERO };
        if trusted_for.is_none_or(|since| since < settle) {
            self.next = Some(next);
            return Ok(());
        }
        let old = std::mem::replace(&mut self.current, next);
        let until_unix_s = certificates::unix_seconds(now + RETIRE);
        self.retired.push(Retired { ca_pem: old.ca_pem, until_unix_s });
        // The set of CAs is the same; only their order is another.
        *changes = Changes { bundle: true, serving: true };
        Ok(())
    }
}

/// The CAs of other instances in a bundle, as PEM: those that an hpalite made, are still good, and are not in `ours`.
/// An instance that hands over serves with its own certificate for a while yet.
pub fn foreign_authorities(bundle: &[u8], ours: &str, now: SystemTime) -> Vec<String> {
    let all = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect::<Vec<_>>();
    let ours = all(ours.as_bytes());
    let is_other = |der: &CertificateDer<'_>| {
        !ours.contains(der) && der::subject(der).is_ok_and(|subject| subject.common_name.starts_with(CA_NAME))
    };
    all(bundle)
        .iter()
        .filter(|der| is_other(der))
        .map(|der| to_pem(der))
        .filter(|pem| certificates::is_valid(pem, now, Duration::ZERO))
        .collect()
}

fn to_pem(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let text = crate::encode::base64_encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const SECOND: Duration = Duration::from_secs(1);

    fn names() -> ServiceNames {
        ServiceNames { service: "hpalite".into(), namespace: "autoscaling".into() }
    }

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000)
    }

    fn count(bundle: &str) -> usize {
        bundle.matches("BEGIN CERTIFICATE").count()
    }

    const BUNDLE: Changes = Changes { bundle: true, serving: false };
    const BOTH: Changes = Changes { bundle: true, serving: true };

    /// Every step from one CA to the next, with a restart after each.
    #[test]
    fn a_new_ca_is_trusted_before_it_is_relied_on_and_the_old_one_goes_last() {
        let mut rotation = Rotation::generate(&names(), start()).unwrap();
        let mut step = |now: SystemTime, trusted: Option<Duration>| {
            let changes = rotation.advance(&names(), now, trusted).unwrap();
            rotation = Rotation::from_json(&rotation.to_json()).unwrap();
            (changes, rotation.clone())
        };
        let (changes, first) = step(start() + DAY, Some(DAY));
        assert_eq!(changes, Changes::default());
        // A year's third before its end the serving certificate is renewed, by the CA that everybody knows.
        let (changes, renewed) = step(start() + 245 * DAY, None);
        assert_eq!(changes, Changes { bundle: false, serving: true });
        assert_eq!(renewed.bundle(), first.bundle());
        let due = start() + 8 * 365 * DAY;
        let (_, renewed) = step(due - 30 * DAY, None);
        let (changes, made) = step(due, Some(DAY));
        assert_eq!((changes, count(&made.bundle())), (BUNDLE, 2));
        assert_eq!(made.current(), renewed.current(), "nobody knows the new CA yet");
        for trusted in [None, Some(Duration::ZERO), Some(9 * SECOND)] {
            assert_eq!(step(due, trusted).0, Changes::default(), "{trusted:?}");
        }
        let (changes, swapped) = step(due, Some(SETTLE));
        assert_eq!((changes, count(&swapped.bundle())), (BOTH, 2));
        assert!(made.bundle().contains(&swapped.current().ca_pem));
        assert!(swapped.bundle().contains(&first.current().ca_pem));
        assert_eq!(step(due + RETIRE - SECOND, None).0, Changes::default());
        let (changes, done) = step(due + RETIRE, None);
        assert_eq!((changes, done.bundle()), (BUNDLE, swapped.current().ca_pem.clone()));
    }

    #[test]
    fn what_nobody_believes_any_more_is_replaced_as_soon_as_the_bundle_is_written() {
        // A board without a battery made its certificates in 1970, and its clock has just been set.
        let mut rotation = Rotation::generate(&names(), SystemTime::UNIX_EPOCH + 2 * DAY).unwrap();
        assert_eq!(rotation.advance(&names(), start(), None).unwrap(), BUNDLE);
        assert_eq!(rotation.advance(&names(), start(), None).unwrap(), Changes::default());
        assert_eq!(rotation.advance(&names(), start(), Some(Duration::ZERO)).unwrap(), BOTH);
        assert!(rotation.current().is_believed(start()));
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_leaves_no_trace() {
        let mut rotation = Rotation::generate(&names(), start()).unwrap();
        let before = rotation.to_json();
        assert_eq!(rotation.advance(&names(), start() + 9 * 365 * DAY, None).unwrap(), BUNDLE);
        assert_eq!(rotation.advance(&names(), start(), None).unwrap(), BUNDLE);
        assert_eq!(rotation.to_json(), before);
    }

    #[test]
    fn a_bundle_may_hold_the_cas_of_other_instances() {
        let ours = Rotation::generate(&names(), start()).unwrap();
        let theirs = Rotation::generate(&names(), start() + SECOND).unwrap();
        let old = Rotation::generate(&names(), start() - 4000 * DAY).unwrap();
        let serving = &theirs.current().serving_pem;
        let bundle = [ours.bundle(), old.bundle(), serving.clone(), theirs.bundle()].concat();
        let found = foreign_authorities(bundle.as_bytes(), &ours.bundle(), start());
        assert_eq!(found, [theirs.bundle()], "neither ours, nor what is over, nor what is no CA of ours");
        assert_eq!(foreign_authorities(b"nonsense", &ours.bundle(), start()), [""; 0]);
    }
}
