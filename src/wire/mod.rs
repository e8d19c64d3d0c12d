//! Converts between the API server's JSON and the core's model. Sends nothing.
//!
//! Owns every field name, every default and every rule for what users may write. Pure: bytes or values in, typed values
//! out. A user's mistake is no failure to read: it becomes a [`crate::scaling::model::Problem`] on its field, so that
//! it can be reported on the object, which can still be paused or deleted. Only an object without usable `metadata` is
//! refused.

pub mod adapter;
pub mod authentication;
pub mod event;
mod fields;
pub mod hpa;
mod identity;
pub mod labels;
pub(crate) mod mask;
mod metadata;
mod names;
pub mod namespace;
pub mod quantity;
pub mod scaled_object;
mod servers;
pub mod status;
mod stores;
pub mod time;
pub mod trigger;
pub mod workload;

/// Name of an object that nobody has, which a takeover asks for to see who answers.
pub const PROBE: &str = "hpalite-takeover";

pub use fields::Warning;
pub(crate) use fields::{describe, quoted};
pub use metadata::Unreadable;
pub(crate) use names::{is_dns_label, is_dns_subdomain};
pub use servers::Servers;
