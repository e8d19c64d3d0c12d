//! The functional core: what to poll, what to decide, what to write. Pure.
//!
//! Nothing here reads a clock, a socket, a file, a thread or SQL; time is an argument, effects are
//! [`event::Command`] values that the shells carry out.

// An inner attribute, so that it applies to the helpers of the test modules as well.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod age;
pub mod allowed;
pub mod answer;
pub mod attribution;
mod calendar;
pub mod cluster;
pub mod composite;
mod credentials;
pub mod cron;
pub mod decide;
pub mod decision;
pub mod event;
pub mod formula;
pub mod hpa;
pub mod identity;
pub mod kafka;
pub mod model;
mod object;
mod object_key;
mod observed;
pub mod pause;
mod pod_metric;
mod publish;
pub mod quantity;
pub mod queue;
mod read_cadence;
pub mod reason;
pub mod recommend;
mod round_robin;
pub mod schedule;
pub mod secret_store;
mod slot;
mod source;
mod target;
mod time;
pub mod trigger;
pub mod troubles;
pub mod view;
pub mod world;

use std::hash::{DefaultHasher, Hash, Hasher};

#[cfg(test)]
pub(crate) mod testing;

/// Returns a hash that stands for a value while this process runs, where keeping the value itself would cost memory.
fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
