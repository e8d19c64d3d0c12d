//! The gate over real sockets on loopback.

mod descriptors;
mod hostile;
mod identity;
mod lifecycle;
mod serving;
mod support;
