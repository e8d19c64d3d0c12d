//! Manifests as people write them, through the same code as the daemon and `check`.

mod bad;
mod check;
mod compat;
mod long;
mod secrets;

use hpalite::check::{Check, CheckReport};

/// What `check` says about one file.
fn check(text: &str) -> CheckReport {
    let mut check = Check::default();
    check.file("file.yaml", text);
    check.finish()
}
