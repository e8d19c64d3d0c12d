//! What every connection out of the process goes through: names become addresses, and addresses are judged.
//!
//! Pure: [`book`] (what is known of names, and who is looked up next), [`networks`] (which addresses may be asked).
//! Shell: [`names`] (the threads that look up), [`connect`] (both as the HTTP library wants them).
//!
//! Used by [`crate::kube`], whose server the operator chose and nobody judges, and by [`crate::polling`], whose servers
//! are named by whoever may write a ScaledObject.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod book;
pub(crate) mod connect;
pub mod names;
pub mod networks;

/// A header of every request that is sent for a trigger, in lower case. Whatever way such a request comes back to us, it
/// is known by it.
pub const MARK: &str = "hpalite-poll";
