//! Every limit of the gate, each with its reason.
//!
//! They are constants, not settings: the callers are known (kube-apiservers, kubelets, Prometheus), and a limit
//! that can be turned off is turned off where it is needed most.

use std::time::Duration;

/// A TLS handshake takes two round trips and a millisecond of work; the kube-apiserver gives up after 10 s.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// From the first byte of a request to its last. Our requests fit in a few packets. Past it the answer is 408.
pub const REQUEST: Duration = Duration::from_secs(5);

/// For each [`OUT_PIECE`] of an answer to leave: a reader slower than 64 KiB in 5 s = 13 KB/s is cut off.
pub const WRITE: Duration = Duration::from_secs(5);

/// The kube-apiserver closes its own idle connections after 90 s. Closing later than it does means that no
/// request of its meets a connection we are closing.
pub const IDLE: Duration = Duration::from_secs(120);

/// After a refusal the rest of what the client sends is read and dropped this long, and to [`LINGER_BYTES`]:
/// closing with unread bytes makes the kernel send a reset, which can destroy the answer on its way.
pub const LINGER: Duration = Duration::from_secs(1);

/// Four times the largest body that is answered at all: who has more on the way is not waiting for an explanation.
pub const LINGER_BYTES: usize = 4 * BODY_MAX;

/// Request line and headers together. The longest legitimate one is a proxied request with a long label selector
/// and an OIDC user in a hundred groups: about 8 KB.
pub const HEAD_MAX: usize = 16 * 1024;

/// Headers in one head. A proxied request has 15 and one more for each group and extra of its user.
pub const HEADERS_MAX: usize = 64;

/// The largest body that a request may announce. None is read: the answer follows the head, and the connection ends.
pub const BODY_MAX: usize = 64 * 1024;

/// What a client may send before its handshake is through: a hello of 2 KB, the longest chain that is read
/// (16 KB), a signature. rustls alone would keep 64 KB of an unfinished message.
pub const HANDSHAKE_BYTES: usize = 24 * 1024;

/// Bytes received and not answered yet, all connections of a gate together. Past it strangers that hold more than
/// [`IN_FREE`] are closed, those that hold most first: 1,024 connections that hold no more than that stay below it, so
/// nobody who sends an ordinary request can be harmed by those who send large ones and do not end them.
pub const IN_MAX: usize = 1024 * IN_FREE;

/// A handshake or a proxied request at its usual size fits.
pub const IN_FREE: usize = 4 * 1024;

/// The largest answer. `/metrics` of 10,000 objects with 10 series of 150 bytes each is 15 MB.
pub const ANSWER_MAX: usize = 32 << 20;

/// Answers that wait for slow readers, all connections of a gate together: two of the largest. Past it those that
/// have been read for longer than [`SLOW_READER`] are given up, and if that is not enough an answer above
/// [`OUT_FREE`] becomes a 503. Without it 2,000 clients that ask for 15 MB and do not read cost 30 GB.
pub const OUT_MAX: usize = 2 * ANSWER_MAX;

/// Answers up to this are not counted: 1,024 of them are 4 MB.
pub const OUT_FREE: usize = 4 * 1024;

/// Who has not taken an answer within this time gives way to those who ask now. A scrape takes milliseconds.
pub const SLOW_READER: Duration = Duration::from_secs(1);

/// What the kernel keeps for a connection in each direction, where it would go up to megabytes; it doubles both. Who
/// sends without end and reads nothing is to fill no more than this.
pub const KERNEL_IN: usize = 16 * 1024;
pub const KERNEL_OUT: usize = 32 * 1024;

/// What of an answer is given to TLS or the kernel in one go: four TLS records. An answer larger than that waits
/// in its own buffer, so that a session never holds a second copy of it.
pub const OUT_PIECE: usize = 64 * 1024;

/// Connections in the kernel's accept queue; std's 128 overflows when a few thousand clients reconnect at once.
/// The kernel lowers it to net.core.somaxconn.
pub const BACKLOG: i32 = 1024;

/// Accepts per turn of the poller, so that a flood of new connections cannot starve the ones that have data.
pub const ACCEPT_BURST: usize = 64;

/// Requests and reads that one connection gets before it goes to the back of the queue, so that a client that
/// never pauses cannot keep a worker.
pub const TURN_MAX: usize = 16;

/// Requests that wait for a patient worker; with 8 of them and 3 s a request, the last in line waits
/// 64 / 8 × 3 s = 24 s, which is more than [`PATIENT_WAIT`]: past it they are answered 503 unasked.
pub const PATIENT_QUEUE_MAX: usize = 64;

/// The same for clients that are no verified front proxy, where there can be one: they have a quarter of the patient
/// workers at once and never more, so that no number of them keeps the front proxy waiting.
pub const STRANGERS_QUEUE_MAX: usize = 16;

/// Of these, how many may come from one address.
pub const ADDRESS_MAX: usize = 8;

/// Longest wait in that queue. The HPA's client has no timeout of its own, so the answer must come from us.
pub const PATIENT_WAIT: Duration = Duration::from_secs(3);

/// Descriptors that connections never get: listeners, epoll, the page's way through tiny_http (8),
/// SQLite (5), the API server and Prometheus (32), logs; rounded up.
pub const DESCRIPTORS_RESERVED: u64 = 128;

/// How often deadlines are looked at. They are seconds long, so a quarter of one is exact enough.
pub const SWEEP: Duration = Duration::from_millis(250);

/// Stack of the gate's own threads, handlers included. The deepest thing that the gate itself does is the verification of
/// a certificate chain, at about 40 KB in a debug build.
pub const STACK: usize = 512 * 1024;

// A waiting answer must fit, or every one above a piece would be refused.
const _: () = assert!(ANSWER_MAX < OUT_MAX);
const _: () = assert!(HEAD_MAX + BODY_MAX < LINGER_BYTES);
// A chain that is verified must fit into a handshake.
const _: () = assert!(crate::http::chain::CLIENT_CHAIN.bytes < HANDSHAKE_BYTES);
