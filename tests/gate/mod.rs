//! The gate over real sockets on loopback.

mod descriptors;
mod fuzz;
mod hostile;
mod identity;
mod lifecycle;
mod serving;
mod support;
