//! The gate over real sockets on loopback.

mod attack;
mod delegated;
mod descriptors;
mod fuzz;
mod hostile;
mod identity;
mod lifecycle;
mod serving;
pub(crate) mod support;
