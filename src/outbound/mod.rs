//! All outbound connections pass here: names are resolved, and addresses judged.
//!
//! Pure: [`book`] (known names, and which is looked up next), [`networks`] (which addresses may be contacted). Shell:
//! [`names`] (the threads that look up), [`connect`], [`socket`] and [`tls`] (the link to the HTTP library).
//!
//! Used by [`crate::kube`], whose server the operator chose, so that it is not judged, and by [`crate::polling`], whose
//! servers are chosen by anybody who may write a ScaledObject.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod book;
pub(crate) mod connect;
pub mod names;
pub mod networks;
mod socket;
pub(crate) mod tls;

/// A header, in lower case, of every request that is sent for a trigger, by which the daemon recognises such a request
/// if it comes back by any route.
pub const MARK: &str = "hpalite-poll";
