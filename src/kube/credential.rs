//! The `Authorization` header of a request, and its renewal when a token file rotates.
//!
//! Owns the cached token. Kubelets replace a projected token long before it expires (at 80 % of its hour), so checking
//! once a minute is early enough; after a 401 the file is checked immediately.
//! Must not print a token, not even in `Debug`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};
use ureq::http::HeaderValue;

use super::authorization::{bearer, sensitive};
use super::credential_plugin::Plugin;

/// One small read per minute costs nothing; more frequent ones gain nothing.
const RECHECK_AFTER: Duration = Duration::from_secs(60);

/// Tokens have a few KB; a larger file is not a token.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

pub(super) enum Credential {
    /// The client certificate authenticates, or nothing does.
    None,
    Fixed(HeaderValue),
    File(TokenFile),
    /// A program of the person's gives it.
    Plugin(Plugin),
}

pub(super) struct TokenFile {
    path: PathBuf,
    // A lock of its own, since several threads send requests, and the value is replaced as a whole.
    cached: Mutex<Cached>,
}

struct Cached {
    header: HeaderValue,
    checked_at: Instant,
}

impl Credential {
    pub(super) fn token(token: &str) -> Result<Self, String> {
        bearer(token).map(Credential::Fixed)
    }

    pub(super) fn basic(username: &str, password: &str) -> Result<Self, String> {
        if username.contains(':') {
            return Err("a username cannot contain a colon".to_owned());
        }
        let coded = crate::encode::base64_encode(format!("{username}:{password}").as_bytes());
        sensitive(&format!("Basic {coded}")).map(Credential::Fixed)
    }

    /// Reads the file immediately, so that a missing one is reported at the start.
    pub(super) fn file(path: PathBuf, now: Instant) -> Result<Self, String> {
        let header = read(&path)?;
        let cached = Mutex::new(Cached { header, checked_at: now });
        Ok(Credential::File(TokenFile { path, cached }))
    }

    /// Returns the header for a request that is sent now. If the token file has become unreadable the old token stays
    /// in use: it may still be valid for a while.
    pub(super) fn header(&self, now: Instant) -> Option<HeaderValue> {
        match self {
            Credential::None => None,
            Credential::Fixed(header) => Some(header.clone()),
            Credential::Plugin(plugin) => plugin.header(),
            Credential::File(file) => {
                let mut cached = file.lock();
                if now.saturating_duration_since(cached.checked_at) >= RECHECK_AFTER {
                    cached.checked_at = now;
                    file.reread(&mut cached);
                }
                Some(cached.header.clone())
            }
        }
    }

    /// Reads the file after a 401. `sent` is the header that was refused; returns true if there is another token now,
    /// with which a second attempt is worthwhile.
    pub(super) fn renew(&self, sent: Option<&HeaderValue>, now: Instant) -> bool {
        let file = match self {
            Credential::File(file) => file,
            Credential::Plugin(plugin) => return plugin.renew(sent),
            Credential::None | Credential::Fixed(_) => return false,
        };
        let mut cached = file.lock();
        cached.checked_at = now;
        file.reread(&mut cached);
        sent != Some(&cached.header)
    }
}

impl TokenFile {
    fn lock(&self) -> std::sync::MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reread(&self, cached: &mut Cached) {
        match read(&self.path) {
            Ok(header) if header == cached.header => {}
            Ok(header) => {
                cached.header = header;
                info!(path:% = self.path.display(); "token renewed");
            }
            Err(problem) => {
                warn!(path:% = self.path.display(), error:% = problem; "token unreadable, keeping the old one");
            }
        }
    }
}

fn read(path: &Path) -> Result<HeaderValue, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > TOKEN_BYTES_MAX {
        return Err(format!("has {size} bytes, which is no token"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    bearer(&text)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::None => f.write_str("None"),
            Credential::Fixed(_) => f.write_str("Fixed(..)"),
            Credential::File(file) => write!(f, "File({})", file.path.display()),
            Credential::Plugin(_) => f.write_str("Plugin(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: Option<HeaderValue>) -> String {
        String::from_utf8(header.expect("a header").as_bytes().to_vec()).expect("ascii")
    }

    #[test]
    fn a_rotated_file_is_noticed_after_a_minute_or_a_401() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "one\n").expect("write");
        let start = Instant::now();
        let credential = Credential::file(path.clone(), start).expect("a token");
        assert_eq!(text(credential.header(start)), "Bearer one");

        fs::write(&path, "two").expect("write");
        let soon = start + Duration::from_secs(59);
        assert_eq!(text(credential.header(soon)), "Bearer one");
        let later = start + RECHECK_AFTER;
        assert_eq!(text(credential.header(later)), "Bearer two");

        fs::write(&path, "three").expect("write");
        let refused = credential.header(later);
        assert!(credential.renew(refused.as_ref(), later));
        assert_eq!(text(credential.header(later)), "Bearer three");
        let refused = credential.header(later);
        assert!(!credential.renew(refused.as_ref(), later), "nothing new");
    }

    #[test]
    fn a_vanished_file_keeps_the_old_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "one").expect("write");
        let start = Instant::now();
        let credential = Credential::file(path.clone(), start).expect("a token");
        for content in [None, Some(""), Some("a b"), Some("a\u{7f}b")] {
            match content {
                Some(content) => fs::write(&path, content).expect("write"),
                None => fs::remove_file(&path).expect("remove"),
            }
            assert_eq!(text(credential.header(start + RECHECK_AFTER)), "Bearer one");
        }
    }

    #[test]
    fn basic_is_coded_and_nothing_is_printed() {
        let credential = Credential::basic("user", "pa:ss").expect("a header");
        let header = credential.header(Instant::now());
        assert_eq!(text(header.clone()), "Basic dXNlcjpwYTpzcw==");
        assert!(!format!("{credential:?} {header:?}").contains("dXNl"));
        assert!(Credential::basic("a:b", "c").is_err());
    }
}
