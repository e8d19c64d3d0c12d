//! hpalite: Prometheus-driven autoscaling for Kubernetes in one synchronous process.
//!
//! ```text
//!  API server ──watch──▶ daemon::watches ─┐                          ┌─▶ daemon::hands ──write──▶ API server
//!                          (wire: read)   │                          │     (wire: write)
//!  Prometheus ◀─ask── polling::poller    ─┼─Event─▶ scaling::World ──┼─▶ polling::poller
//!                                         │        (pure, 1 thread)  ├─▶ store: SQLite
//!  HPA controller ──read──▶ http::api ────┤                          └─▶ http: published views
//!                           (gate, TLS)   │
//!  Lease ◀─renew── daemon::lease ─────────┘
//! ```
//!
//! # Functional core, imperative shell
//! [`scaling`] decides: it takes events and returns commands, and time is an argument. It reads no clock, does no
//! I/O, logs nothing and knows no JSON and no SQL. Everything else carries facts in and commands out:
//! [`wire`] translates between the API's JSON and the core's model, [`kube`] speaks HTTP with the API server,
//! [`polling`] asks metric servers, [`prometheus`] and [`metrics_api`] know what to ask and how to read the answer,
//! both through [`outbound`], [`store`] keeps the history, [`explain`], [`history`] and [`ui`] show it, [`http`] serves, and [`daemon`] ties it together.
//!
//! # Threads
//! | thread | owns | waits for |
//! |---|---|---|
//! | `decide` (main) | the world | its inbox, or the world's next deadline |
//! | `watch-<kind>` | one stream each | the API server, the inbox |
//! | `poll-<n>` | the question it asks | metric servers, the inbox |
//! | `name-<n>` | the name it looks up | name servers |
//! | `pods` | what is kept of pods that are counted | their watches, the inbox |
//! | `hand-<n>` | the write it carries out | the API server, the inbox |
//! | `events` | nothing | the API server |
//! | `store` | the only writable connection | its queue |
//! | `lease` | the election | the API server, its next renewal |
//! | `trust` | certificates, what is known of the front proxy | the API server |
//! | `api-*`, `http-*`, `ui-*` | connections, see [`http::gate`] | clients |
//! | `signal` | nothing | signals |
//!
//! # Invariants
//! - `decide` waits for nobody; everybody may wait for `decide`.
//! - One instance writes: every write passes the fence of the Lease, and ends before the Lease can.
//! - One write of a kind is in flight for an object, and a write happens only when something changed.
//! - An error holds: nothing scales in because something could not be read.
//! - A read of a metric is answered from memory, whatever Prometheus, SQLite or the API server do; only the first of an
//!   object may wait, for its first answer.
//! - What only this process can reach is not asked for a trigger, whoever wrote it: [`outbound`] judges each address.
//! - Losing the history never stops scaling.
//! - What a user wrote wrongly is told on the object itself, and harms no other.

mod base64;
pub mod check;
mod civil;
pub mod cli;
pub mod daemon;
pub mod doctor;
pub mod explain;
pub mod history;
pub mod http;
pub mod kube;
pub mod logfmt;
pub mod metrics_api;
pub mod moving;
mod nearest;
pub mod outbound;
pub mod polling;
pub mod prometheus;
mod rights;
pub mod scaling;
pub mod store;
pub mod telemetry;
pub mod ui;
mod unserved;
pub mod wire;
