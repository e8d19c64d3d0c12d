//! Manifests as users write them, read by the code of the daemon and of `check`.

mod bad;
mod check;
mod compat;
mod long;
mod quantity;
mod secrets;

use hpalite::check::{Check, CheckReport};

/// Returns the report of `check` about one file.
fn check(text: &str) -> CheckReport {
    let mut check = Check::default();
    check.file("file.yaml", text);
    check.finish()
}
