//! Keeps tokens for as long as they are good, and gets the next one ahead of time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::digest;

use crate::polling::cache::{Good, Kept, SharedCache};
use crate::polling::credentials::Clock;
use crate::polling::failed;
use crate::polling::request::Request;
use crate::polling::transport::{BODY_MAX, Reply, Transport};
use crate::scaling::event::{ErrorClass, PollError};

/// Upper bound on the tokens of each kind, which are 12 MiB.
const TOKENS_MAX: usize = 1_024;

/// Upper bound on the bytes of a token. It has a few kilobytes, and servers take header lines of 8 or 16.
const TOKEN_MAX: usize = 12 << 10;

/// A failure is shared for this long, so that a server that refuses is not asked by every poll.
const FAILURE_FOR: Duration = Duration::from_secs(10);

/// A token is not used any more when so little of its lifetime is left.
const MARGIN: Duration = Duration::from_secs(10);

/// No token is used longer, whatever its lifetime.
pub(super) const LIFETIME_MAX: Duration = Duration::from_hours(12);

/// Time limit for each request for a token: it blocks a worker.
const PATIENCE: Duration = Duration::from_secs(4);

/// Stands for everything that a token depends on, secrets included.
pub(super) type Key = [u8; 32];

/// Returns the key of these texts, which must be all that a token depends on.
pub(super) fn key(parts: &[&str]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_ne_bytes());
        context.update(part.as_bytes());
    }
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// A token, and how long it is good.
pub(super) type Fresh<T> = (T, Duration);

pub(super) struct Tokens<T> {
    shared: SharedCache<Key, Result<Arc<T>, PollError>>,
    /// Tokens with the time when they expire, for when no other can be had.
    last: Mutex<Kept<Key, Arc<T>>>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self::new(TOKENS_MAX)
    }
}

impl<T> Tokens<T> {
    /// `max` is an upper bound on the tokens that are kept.
    pub(super) fn new(max: usize) -> Self {
        Self { shared: SharedCache::new(max, |_| 1), last: Mutex::new(Kept::new(max, |_| 1)) }
    }

    /// Returns the token of this key, and fetches it if none is known or the known one has lived four fifths of its time.
    /// Several that ask at once cause one fetch. `namespace` is that which asks: a token belongs to its share.
    pub(super) fn get(
        &self,
        key: Key,
        namespace: &str,
        clock: &Clock,
        fetch: impl FnOnce() -> Result<Fresh<T>, PollError>,
    ) -> Result<Arc<T>, PollError> {
        self.get_ahead(key, namespace, clock, || {
            // A server may say any number of seconds, which is cut before it is multiplied.
            fetch().map(|(token, lifetime)| (token, lifetime, lifetime.min(LIFETIME_MAX) * 4 / 5))
        })
    }

    /// As [`Self::get`], where the second time that a fetch returns is the age at which the token is fetched again.
    pub(super) fn get_ahead(
        &self,
        key: Key,
        namespace: &str,
        clock: &Clock,
        fetch: impl FnOnce() -> Result<(T, Duration, Duration), PollError>,
    ) -> Result<Arc<T>, PollError> {
        let found = self.shared.get(&key, namespace, &**clock, |from| match fetch() {
            Ok((token, lifetime, renewed)) => {
                let (token, lifetime) = (Arc::new(token), lifetime.min(LIFETIME_MAX));
                self.last().insert(key, namespace, Arc::clone(&token), from, from.plus(lifetime));
                (Ok(token), Good::Until(from.plus(renewed.min(LIFETIME_MAX * 4 / 5))))
            }
            Err(error) => {
                let kept = self.last().get(&key, from.plus(MARGIN)).map(Arc::clone);
                (kept.ok_or(error), Good::Until(from.plus(FAILURE_FOR)))
            }
        });
        found.unwrap_or_else(|| Err(failed(ErrorClass::Authentication, "a token is asked for, and nobody answers")))
    }

    /// Drops a token that was refused.
    pub(super) fn forget(&self, key: &Key) {
        self.last().remove(key);
        self.shared.forget(key);
    }

    fn last(&self) -> MutexGuard<'_, Kept<Key, Arc<T>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request for a token, and returns the body of an answer with a status of success.
///
/// # Errors
/// `Authentication`, with the status and what `explain` finds in the body of a refusal.
pub(super) fn ask(
    transport: &Transport,
    request: Request,
    explain: impl Fn(&[u8]) -> Option<String>,
) -> Result<Vec<u8>, PollError> {
    let asked = transport.exchange(request, PATIENCE, Instant::now() + PATIENCE, |reply| reply);
    let Reply { server, status, body, .. } =
        asked.map_err(|error| failed(ErrorClass::Authentication, format!("no token: {}", error.message)))?;
    if (200..300).contains(&status) && body.len() <= BODY_MAX {
        return Ok(body);
    }
    let why = explain(&body).map(|why| format!(" ({why})")).unwrap_or_default();
    Err(failed(ErrorClass::Authentication, format!("no token: {server} answered status {status}{why}")))
}

/// Refuses a token that is too long to be kept or sent; `who` gave it.
pub(super) fn measured(token: &str, who: &str) -> Result<String, PollError> {
    if token.len() > TOKEN_MAX {
        let message = format!("no token: that of {who} has more than {} KiB", TOKEN_MAX >> 10);
        return Err(failed(ErrorClass::Authentication, message));
    }
    Ok(token.to_owned())
}

/// Returns a word of a server's own that is short and plain, so that it can be shown.
pub(super) fn word(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!text.is_empty() && text.len() <= 64 && text.chars().all(is_plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::scaling::model::UnixMillis;

    #[test]
    fn tokens_are_kept_renewed_ahead_and_used_to_their_end() {
        let now = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&now);
        let clock: Clock = Arc::new(move || UnixMillis(read.load(Ordering::SeqCst)));
        let tokens = Tokens::default();
        let ask = |second: i64, answer: Result<u32, &str>| {
            now.store(second * 1_000, Ordering::SeqCst);
            let fetch = || {
                answer
                    .map(|token| (token, Duration::from_secs(100)))
                    .map_err(|why| failed(ErrorClass::Authentication, why))
            };
            tokens.get(key(&["a"]), "shop", &clock, fetch).map(|token| *token).map_err(|error| error.message)
        };
        assert_eq!(ask(0, Ok(1)), Ok(1));
        assert_eq!(ask(79, Ok(2)), Ok(1));
        assert_eq!(ask(80, Ok(2)), Ok(2), "it is renewed ahead of its end");
        assert_eq!(ask(161, Err("down")), Ok(2), "the old one is still good");
        assert_eq!(ask(170, Ok(3)), Ok(2), "nobody asks again so soon");
        assert_eq!(ask(172, Err("down")), Err("down".to_owned()), "it has expired");
        assert_eq!(ask(182, Ok(4)), Ok(4));
        assert_ne!(key(&["a", "b"]), key(&["ab", ""]));
    }

    /// Regression: the age at which a token is renewed was computed before its lifetime was cut, and overflowed.
    #[test]
    fn a_lifetime_without_end_is_cut() {
        let now = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&now);
        let clock: Clock = Arc::new(move || UnixMillis(read.load(Ordering::SeqCst)));
        let tokens = Tokens::default();
        let ask = |at: Duration, token: u32| {
            now.store(UnixMillis(0).plus(at).0, Ordering::SeqCst);
            *tokens.get(key(&["a"]), "shop", &clock, || Ok((token, Duration::from_secs(u64::MAX)))).unwrap()
        };
        assert_eq!(ask(Duration::ZERO, 1), 1);
        assert_eq!(ask(LIFETIME_MAX * 4 / 5 - Duration::from_secs(1), 2), 1);
        assert_eq!(ask(LIFETIME_MAX * 4 / 5, 3), 3);
    }

    /// Regression: whoever had filled the room with tokens that last left none for anybody else's.
    #[test]
    fn one_namespace_does_not_take_the_room_of_others() {
        let now = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&now);
        let clock: Clock = Arc::new(move || UnixMillis(read.load(Ordering::SeqCst)));
        let tokens = Tokens::new(4);
        let fill = |from: u32| {
            for number in from..from + 8 {
                let last = || Ok((number, LIFETIME_MAX));
                tokens.get(key(&["greedy", &number.to_string()]), "greedy", &clock, last).unwrap();
            }
        };
        let ask = |answer: Result<u32, &str>| {
            let fetch = || {
                answer
                    .map(|token| (token, Duration::from_secs(100)))
                    .map_err(|why| failed(ErrorClass::Authentication, why))
            };
            tokens.get(key(&["shop"]), "shop", &clock, fetch).map(|token| *token).map_err(|error| error.message)
        };
        fill(0);
        assert_eq!(ask(Ok(1)), Ok(1));
        fill(8);
        assert_eq!(ask(Ok(2)), Ok(1), "it is still known");
        now.store(85_000, Ordering::SeqCst);
        fill(16);
        assert_eq!(ask(Err("down")), Ok(1), "it is still good");
    }

    #[test]
    fn words_that_are_shown() {
        assert_eq!(word("invalid_client").as_deref(), Some("invalid_client"));
        for text in ["", "two words", "a\nb", &"x".repeat(65)] {
            assert_eq!(word(text), None);
        }
    }
}
