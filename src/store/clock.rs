//! The only clock access in the store, so that nothing else here depends on clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// For retention, and for rows about the process itself.
#[expect(clippy::disallowed_methods, reason = "the history's own rows need the wall clock")]
pub(crate) fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
