//! The border between the API server's JSON and the core's model: reading and writing, no sending.
//!
//! Owns every field name, every default and every rule over what a user may write. Pure: bytes or
//! values in, typed values out. A user's mistake is never a failure to read: it becomes a
//! [`crate::scaling::model::Problem`] on its field, so that the object can still report it, be paused
//! or deleted. Only what has no usable `metadata` is refused.

pub mod authentication;
pub mod event;
mod fields;
pub mod hpa;
pub mod labels;
pub(crate) mod mask;
mod metadata;
mod names;
pub mod quantity;
pub mod scaled_object;
pub mod status;
pub mod time;
pub mod trigger;
pub mod workload;

pub use fields::Warning;
pub(crate) use fields::{describe, quoted};
pub use metadata::Unreadable;
pub(crate) use names::{is_dns_label, is_dns_subdomain};
