//! What every connection out of the process goes through: names become addresses, and addresses are judged.
//!
//! Pure: [`book`] (what is known of names, and who is looked up next), [`networks`] (which addresses may be asked).
//! Shell: [`names`] (the threads that look up), [`connect`] (both as the HTTP library wants them).
//!
//! Used by [`crate::kube`], whose server the operator chose, so that it is not judged, and by [`crate::polling`], whose
//! servers are chosen by anybody who may write a ScaledObject.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod book;
pub(crate) mod connect;
pub mod names;
pub mod networks;

/// A header, in lower case, of every request that is sent for a trigger, by which the daemon recognises such a request
/// if it comes back by any route.
pub const MARK: &str = "hpalite-poll";
