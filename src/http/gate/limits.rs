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

/// Four times the largest body: who has more on the way than that is not waiting for an explanation.
pub const LINGER_BYTES: usize = 4 * BODY_MAX;

/// Request line and headers together. The longest legitimate one is a proxied request with a long label selector
/// and an OIDC user in a hundred groups: about 8 KB.
pub const HEAD_MAX: usize = 16 * 1024;

/// Headers in one head. A proxied request has 15 and one more for each group and extra of its user.
pub const HEADERS_MAX: usize = 64;

/// No handler of ours wants a body; this is what is read to keep the connection after a refused POST.
pub const BODY_MAX: usize = 64 * 1024;

/// The largest answer. `/metrics` of 10,000 objects with 10 series of 150 bytes each is 15 MB.
pub const ANSWER_MAX: usize = 32 << 20;

/// Answers that wait for slow readers, all connections of a gate together: two of the largest. Past it an answer
/// above [`OUT_PIECE`] becomes a 503. Without it 2,000 clients that ask for 15 MB and do not read cost 30 GB.
pub const OUT_MAX: usize = 2 * ANSWER_MAX;

/// What of an answer is given to TLS or the kernel in one go: four TLS records. An answer larger than that waits
/// in its own buffer, so that a session never holds a second copy of it.
pub const OUT_PIECE: usize = 64 * 1024;

/// Longest wait of a gate worker for a handler. Handlers have deadlines of their own, about 3 s for a metric read
/// and 10 s for a review; this one only frees the worker from a handler that broke its own.
pub const HANDLER_ANSWER: Duration = Duration::from_secs(15);

/// Connections in the kernel's accept queue; std's 128 overflows when a few thousand clients reconnect at once.
/// The kernel lowers it to net.core.somaxconn.
pub const BACKLOG: i32 = 1024;

/// Accepts per turn of the poller, so that a flood of new connections cannot starve the ones that have data.
pub const ACCEPT_BURST: usize = 64;

/// Requests and reads that one connection gets before it goes to the back of the queue, so that a client that
/// never pauses cannot keep a worker.
pub const TURN_MAX: usize = 32;

/// Requests that wait for a patient worker; with 8 of them and 3 s a request, the last in line waits
/// 64 / 8 × 3 s = 24 s, which is more than [`PATIENT_WAIT`]: past it they are answered 503 unasked.
pub const PATIENT_QUEUE_MAX: usize = 64;

/// Longest wait in that queue. The HPA's client has no timeout of its own, so the answer must come from us.
pub const PATIENT_WAIT: Duration = Duration::from_secs(3);

/// Descriptors that connections never get: listeners, epoll, both ends of the upstream connections (2 × 16),
/// SQLite (5), the API server and Prometheus (32), logs; rounded up.
pub const DESCRIPTORS_RESERVED: u64 = 128;

/// How often deadlines are looked at. They are seconds long, so a quarter of one is exact enough.
pub const SWEEP: Duration = Duration::from_millis(250);

/// A verdict on a certificate is passed again after this long, because certificates expire while connections live.
pub const VERDICT: Duration = Duration::from_secs(60);

/// Stack of the gate's own threads. The deepest thing they do is a certificate chain verification at about 40 KB
/// in a debug build.
pub const STACK: usize = 512 * 1024;

// A waiting answer must fit, or every one above a piece would be refused.
const _: () = assert!(ANSWER_MAX < OUT_MAX);
const _: () = assert!(HEAD_MAX + BODY_MAX < LINGER_BYTES);
