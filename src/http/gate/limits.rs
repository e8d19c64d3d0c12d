//! Every limit of the gate, each with its reason.
//!
//! They are constants and not settings: the clients are known (kube-apiservers, kubelets, Prometheus), and a limit that
//! can be turned off is turned off where it is needed most.

use std::time::Duration;

/// A TLS handshake takes two round trips and a millisecond of work; the kube-apiserver gives up after 10 s.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// From the first byte of a request to its last. Legitimate requests fit in a few packets. The answer is then 408.
pub const REQUEST: Duration = Duration::from_secs(5);

/// Time for each [`OUT_PIECE`] of an answer: a reader slower than 64 KiB in 5 s = 13 KB/s is disconnected.
pub const WRITE: Duration = Duration::from_secs(5);

/// The kube-apiserver closes its own idle connections after 90 s. A longer time here means that none of its requests
/// is sent on a connection that the gate is closing.
pub const IDLE: Duration = Duration::from_secs(120);

/// How long the rest of a refused request is read and dropped, up to [`LINGER_BYTES`]: closing with unread bytes makes
/// the kernel send a reset, which can destroy the answer on its way.
pub const LINGER: Duration = Duration::from_secs(1);

/// Four times the largest body that is answered at all: a client that sends more is not waiting for an explanation.
pub const LINGER_BYTES: usize = 4 * BODY_MAX;

/// Request line and headers together. The longest legitimate one is a proxied request with a long label selector
/// and an OIDC user in a hundred groups: about 8 KB.
pub const HEAD_MAX: usize = 16 * 1024;

/// Headers in one head. A proxied request has 15 and one more for each group and extra of its user. Reading them takes 8 KiB
/// of the stack.
pub const HEADERS_MAX: usize = 256;

/// The largest body that a request may announce. None is read: the answer follows the head and ends the connection.
pub const BODY_MAX: usize = 64 * 1024;

/// Bytes that a client may send before its handshake is complete: a ClientHello of 2 KB, the longest chain that is
/// read (16 KB), a signature. rustls alone would keep 64 KB of an unfinished message.
pub const HANDSHAKE_BYTES: usize = 24 * 1024;

/// Bytes received and not answered yet, over all connections of a gate. Above it, strangers that hold more than
/// [`IN_FREE`] are closed, the largest first. 1,024 connections that hold no more than that stay below the limit, so
/// clients with ordinary requests are not harmed by those that send large ones and never complete them.
pub const IN_MAX: usize = 1024 * IN_FREE;

/// Enough for a handshake or a proxied request of the usual size.
pub const IN_FREE: usize = 4 * 1024;

/// The largest answer. `/metrics` of 10,000 objects with 10 series of 150 bytes each is 15 MB.
pub const ANSWER_MAX: usize = 32 << 20;

/// Answers that wait for slow readers, over all connections of a gate: two of the largest. Above it, those that have
/// been read for longer than [`SLOW_READER`] are dropped, and if that is not enough, an answer above [`OUT_FREE`]
/// becomes a 503. Without it 2,000 clients that ask for 15 MB and do not read cost 30 GB.
pub const OUT_MAX: usize = 2 * ANSWER_MAX;

/// Answers up to this are not counted: 1,024 of them are 4 MB.
pub const OUT_FREE: usize = 4 * 1024;

/// A client that reads an answer for longer than this gives way to those that ask now. A scrape takes milliseconds.
pub const SLOW_READER: Duration = Duration::from_secs(1);

/// The kernel's buffers for a connection in each direction, which it doubles. It would grow them to megabytes for a
/// client that sends without end and reads nothing.
pub const KERNEL_IN: usize = 16 * 1024;
pub const KERNEL_OUT: usize = 32 * 1024;

/// How much of an answer is passed to TLS or the kernel at once: four TLS records. A larger answer waits in its own
/// buffer, so that a session never holds a second copy of it.
pub const OUT_PIECE: usize = 64 * 1024;

/// Connections in the kernel's accept queue; std's 128 overflows when a few thousand clients reconnect at once.
/// The kernel lowers it to net.core.somaxconn.
pub const BACKLOG: i32 = 1024;

/// Accepts per turn of the poller, so that a flood of new connections does not starve those that have data.
pub const ACCEPT_BURST: usize = 64;

/// Requests and reads of one connection before it goes to the back of the queue, so that a client that never pauses
/// cannot occupy a worker.
pub const TURN_MAX: usize = 16;

/// Requests that wait for a patient worker. With 8 workers and 3 s a request the last in line would wait
/// 64 / 8 × 3 s = 24 s; those that wait for longer than [`PATIENT_WAIT`] are answered with 503.
pub const PATIENT_QUEUE_MAX: usize = 64;

/// The same for clients that are no verified front proxy, where there can be one. They have at most a quarter of the
/// patient workers at once, so that no number of them keeps the front proxy waiting.
pub const STRANGERS_QUEUE_MAX: usize = 16;

/// How many of these may come from one address.
pub const ADDRESS_MAX: usize = 8;

/// Longest wait in that queue. The HPA controller's client has no timeout, so the gate must answer.
pub const PATIENT_WAIT: Duration = Duration::from_secs(3);

/// Descriptors that connections never get: listeners, epoll, the page's connections to tiny_http (8),
/// SQLite (5), the API server and Prometheus (32), logs; rounded up.
pub const DESCRIPTORS_RESERVED: u64 = 128;

/// How often deadlines are checked. They are seconds long, so a quarter of one is exact enough.
pub const SWEEP: Duration = Duration::from_millis(250);

/// Stack of the gate's own threads, handlers included. The gate's deepest calls verify a certificate chain, with about
/// 40 KB in a debug build.
pub const STACK: usize = 512 * 1024;

// The largest answer must fit into the sum.
const _: () = assert!(ANSWER_MAX < OUT_MAX);
const _: () = assert!(HEAD_MAX + BODY_MAX < LINGER_BYTES);
// The longest chain must fit into a handshake.
const _: () = assert!(crate::http::chain::CLIENT_CHAIN.bytes < HANDSHAKE_BYTES);
