//! The Kubernetes API over plain HTTP: requests, errors, watches.
//!
//! Pure files decide and parse (`request`, `error`, `watch`, `page_size`, `kubeconfig`, `websocket`), shells beside them do
//! the I/O (`client`, `pages`, `watcher`, `config`, `discovery`, `tunnel`, `credential_plugin`). There is no Kubernetes
//! client library and no async runtime: a watch is a thread that blocks on its stream.

mod authorization;
pub mod client;
pub mod config;
mod credential;
mod credential_plugin;
pub mod discovery;
pub mod election;
pub mod error;
#[cfg(test)]
pub(crate) mod fake;
mod kubeconfig;
mod page_size;
mod pages;
pub mod request;
pub(crate) mod resources;
mod tls;
pub mod tunnel;
pub(crate) mod untyped;
pub mod watch;
pub mod watcher;
mod websocket;

pub use client::{Client, RequestCount, Stream};
pub use config::{ClusterConfig, ConfigError, Kubeconfig};
pub use discovery::{Discovered, Discovery};
pub use election::{Election, Timing};
pub use error::{Error, Status};
pub use request::{ListOptions, Method, PatchKind, Request, RequestError, Resource, Verb, WatchOptions};
pub use watch::{HasMeta, ObjectRef, WatchSettings};
pub use watcher::{Watch, WatchStats, Watcher};
