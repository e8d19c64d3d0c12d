//! hpalite: Prometheus-driven autoscaling for Kubernetes in one synchronous process.
//!
//! ```text
//!  API server ──watch──▶ daemon::watches ─┐                          ┌─▶ daemon::api_writer ──write──▶ API server
//!                          (wire: read)   │                          │     (wire: write)
//!  Prometheus ◀─ask── polling::engine    ─┼─Event─▶ scaling::World ──┼─▶ polling::engine
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
//! [`polling`] asks metric servers at addresses that [`outbound`] allows, [`identity`] proves to them who asks,
//! [`prometheus`], [`metrics_api`] and [`queues`] know what to ask and how to read the answer, [`sources`] chooses between
//! them, [`adapter`] answers by the rules of prometheus-adapter, [`forward`] asks other adapters, [`tls`] says which certificates a connection accepts,
//! [`store`] keeps the history, [`explain`], [`history`] and [`ui`] show it, [`replay`] runs the core on it once more,
//! [`http`] serves, and [`daemon`] ties it together. [`cli`] starts it, or a command beside it: [`check`], [`doctor`] and
//! others; [`plugin`] carries them out in the pod for a person elsewhere, and [`status`] is one screen of an installation.
//! Which module may import which, and why, is a table in `tests/tidy/imports.rs`.
//!
//! # Where is it?
//! | question | the way through the code | shown by |
//! |---|---|---|
//! | Where is an object scaled to zero? | `scaling::decide`: `decide()` calls `inactive()`, and `scale_in()` waits for the cooldown; `paused()` does it where a pause asks for zero. `scaling::world::poll_cycle`: `act()` makes a write of it, and `daemon::api_writer` sends that in `scale()` | `scaling::decide::tests::every_row_of_the_table`, `scaling::world::tests::scaling::from_zero_up_cooling_down_and_back`, and `e2e::walkthrough::a_deployment_goes_from_zero_to_seven_and_back` on a real control plane |
//! | Where is an HPA's selector written? | `wire::scaled_object::current` and `wire::scaled_object::legacy` choose the label as `scaling::model::Definition::selector`; `scaling::hpa::metrics()` puts it into each external metric; `wire::hpa` writes it as JSON | `wire::compat::hpas_are_those_that_keda_made`, `e2e::hpa::everything_the_object_asks_for_is_passed_on`, and `e2e::v1::the_old_form_scales_under_its_own_names` for the old API |
//! | Where does a forged header die? | `http::gate::client_identity`: `identity()` reads `X-Remote-…` only if the connection's certificate proved to be the front proxy's. `http::gate::conn` drops every such header (`http::gate::head::is_remote()`, and `is_identity_header()` for those that the cluster names) before a handler sees the request, whose client is then anonymous | `gate::identity::nobody_else_does`, `e2e::conformance::access::row_09_claims_count_only_from_the_front_proxy` |
//!
//! # Lexicon
//! One word for one thing, in code, SQL, logs and documents. Everything else is called what Kubernetes, KEDA and Prometheus
//! call it.
//!
//! | word | is |
//! |---|---|
//! | object | a ScaledObject, of either API, an annotated HPA, which asks for metrics by annotations, or an observed one, which is remembered by what its own status shows |
//! | definition | what an object's `spec` asks for, read and checked |
//! | problem | something wrong in a definition, with its field and what to write instead |
//! | target | the workload that an object scales; of a trigger: the value for each replica |
//! | trigger | one entry of `spec.triggers` |
//! | source | what answers for a trigger: a query, a URL, a pod selector, a schedule |
//! | metric server | what a source asks: a Prometheus, an HTTP service, a queue, a database or pods |
//! | poll | asking a source once |
//! | poll cycle | the polls of all triggers of an object, and the decision that they lead to |
//! | sample | what a poll gave: a value or an error, with its time |
//! | outcome | of a poll, whether it gave a value, an error, or no number |
//! | active | a trigger above its activation threshold, and an object with one |
//! | cooldown | the time between an object's last activity and its scaling to zero |
//! | fallback | replicas that stand in for a trigger that fails |
//! | decision | what the core concludes from an object's samples, with the reason: `scaling::decision::Decision`, `DecisionRow` in the history |
//! | hold | to leave replicas as they are, because something could not be read |
//! | event | a fact that comes into the core; a Kubernetes Event is always called that |
//! | command | an effect that the core asks for |
//! | write | a change that is sent to the API server, one of `WriteKind` |
//! | world | all objects and facts that the core knows |
//! | view | what is published of an object for readers of its metrics |
//! | drift | a difference between an HPA and what it should be |
//! | recorder | what turns events and decisions into rows of the history |
//! | compaction | packing and merging stored samples |
//! | roll-up | minutes and hours that samples are summed up to |
//! | gate | the part of the server that faces the network |
//! | front proxy | the API server, when it forwards a request in a user's name |
//! | lease | the right to write, held by one instance |
//! | standby | an instance without the lease |
//! | finding | what `hpalite doctor` or `hpalite check` reports |
//!
//! # Systems
//! The daemon runs on Linux, for its epoll, and so does `hpalite doctor`, which asks as the daemon does. The other commands of
//! persons are built for macOS and Windows as well, without the modules of the daemon.
//!
//! # Threads
//! | thread | owns | waits for |
//! |---|---|---|
//! | `decide` (main) | the world | its inbox, or the world's next deadline |
//! | `watch-<kind>` | one stream each | the API server, the permit to read a large body, the inbox |
//! | `poll` | connections to metric servers, all requests in flight | their sockets, the inbox |
//! | `poll-<n>` (while needed) | parts of polls that block | the API server, `poll`, queues, databases, pods, who gives tokens, the permits to read and parse a large body |
//! | `proxy-<n>` (while needed) | the request it sends | a proxy |
//! | `name-<n>` | the name it looks up | name servers |
//! | `pods` | the index of counted pods | their watches, the inbox |
//! | `write-<n>` (while needed) | the write it carries out | the API server, the permit to read a large body, the inbox |
//! | `adapter` (with rules of prometheus-adapter) | the list of their metrics | the API server, Prometheus |
//! | `forward` (with other adapters to ask) | the lists of their metrics | those adapters |
//! | `events` | nothing | the API server |
//! | `store` | the only writable connection | its queue |
//! | `lease` | the election | the API server, its next renewal |
//! | `trust` | certificates, what is known of the front proxy | the API server |
//! | `api-*`, `http-*`, `ui-*` | connections, see [`http::gate`] | clients |
//! | `signal` | nothing | signals |
//! | `replay` (of `hpalite replay --all`, one a core) | its reader | nobody |
//! | `page`, `page-up` (of `hpalite page`) | a browser's connection, one direction each | the API server, the browser |
//!
//! # Invariants
//! - `decide` waits for nobody; everybody may wait for `decide`.
//! - One instance writes: every write but Kubernetes Events and the Lease itself passes the fence of the Lease, and ends
//!   before the Lease can.
//! - A shadow writes nothing: the core asks for no write, and the fence of a daemon that is one stays closed.
//! - Of an annotated HPA nothing is written but the replicas of one that asks to be scaled to zero.
//! - One write for each of an object's slots (claim, status, HPA, scale) is in flight, and a write happens only when something changed.
//! - An error holds: nothing scales in because something could not be read.
//! - A read of a metric is answered from memory, whatever Prometheus, SQLite or the API server do; only the first of an
//!   object may wait, for its first answer. Metrics by the rules of prometheus-adapter, and those of other adapters, are
//!   asked when they are read, by a bounded number of reads with time limits, which no other waits for, and of which a
//!   namespace has half at most.
//! - No trigger makes the process contact an address that only it can reach: [`outbound`] judges each address.
//! - Losing the history never stops scaling.
//! - What a user wrote wrongly is reported on the object itself, and harms no other.

#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "what only the daemon uses, which runs on Linux; persons' commands run everywhere")
)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "a test may start threads and make certificates of any time")
)]

#[cfg(target_os = "linux")]
pub mod adapter;
pub mod check;
pub mod cli;
mod clock;
pub mod config;
#[cfg(target_os = "linux")]
pub mod daemon;
#[cfg(target_os = "linux")]
pub mod doctor;
#[cfg(not(target_os = "linux"))]
#[path = "doctor/subject.rs"]
pub mod doctor;
mod encode;
pub mod explain;
pub mod formats;
#[cfg(target_os = "linux")]
pub mod forward;
pub mod history;
#[cfg(target_os = "linux")]
pub mod http;
#[cfg(target_os = "linux")]
pub mod identity;
pub mod kube;
pub mod logfmt;
#[cfg(target_os = "linux")]
pub mod metrics_api;
pub mod migration;
pub mod outbound;
mod permit;
pub mod plugin;
#[cfg(target_os = "linux")]
pub mod polling;
#[cfg(target_os = "linux")]
pub mod prometheus;
#[cfg(target_os = "linux")]
pub mod queues;
mod random;
pub mod replay;
mod rights;
pub mod scaling;
#[cfg(test)]
mod seeds;
#[cfg(target_os = "linux")]
pub mod sources;
mod spelling;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod tls;
#[cfg(target_os = "linux")]
pub mod ui;
mod unserved;
pub mod wire;
pub mod workers;
