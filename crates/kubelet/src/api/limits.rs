//! Every bound of the API, and why.

use std::time::Duration;

/// Connections at once, of all nodes of the process. The API server keeps one to
/// each node for logs, and one for each exec or port-forward: room for 500 nodes
/// and a thousand streams, well below the open files a service may have.
pub(super) const CONNECTIONS: usize = 2048;
/// One connection of so many may be an exec, attach or port-forward: these are never
/// quiet, and logs and measurements must find a place beside them.
const CONNECTIONS_PER_SESSION: usize = 2;

/// How many sessions there may be where there may be so many connections.
pub(super) fn sessions(connections: usize) -> usize {
    (connections / CONNECTIONS_PER_SESSION).max(1)
}

/// For the TLS handshake: a few round trips over a slow line.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// From a request's first byte, or the connection's begin, to the end of its
/// headers. Whoever needs longer is holding a place, not asking.
pub(super) const HEADER: Duration = Duration::from_secs(10);
/// For a client to take an answer of known length, when nothing else goes on on its
/// connection: on HTTP/2 it says itself how much it takes, which may be nothing.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// A connection without a request is closed: the kubelet's, and that of Go's
/// clients, which then do not run into a closed one.
pub(super) const IDLE: Duration = Duration::from_secs(90);
/// Bytes of a request's headers, its first line included. A token of a user in
/// thousands of groups has 32 KiB; the kubelet's megabyte is for no one.
pub(super) const HEADER_BYTES: u32 = 64 << 10;
/// Lines of headers; the API server sends about ten.
pub(super) const HEADER_LINES: usize = 100;
/// Requests at once on one HTTP/2 connection: hyper's and Go's ordinary number.
pub(super) const STREAMS: u32 = 100;
/// For requests under way when the node ends; the process has 5 s for all.
pub(super) const ENDING: Duration = Duration::from_secs(2);
/// For telling a client that its session was cut off, behind [`ENDING`].
pub(super) const LAST_WORD: Duration = Duration::from_secs(1);
/// Between two tries to accept, when the system has no more open files.
pub(super) const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// A peer that is gone without a word is noticed after five of these.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How often a peer is asked before it counts as gone.
pub(super) const KEEP_ALIVE_TRIES: u32 = 4;

/// A pod that is due and that nobody looks at for so long: the loop that looks at pods
/// is stuck. The kubelet's, of its own (`syncLoopHealthCheck`, pkg/kubelet/kubelet.go).
pub(super) const STUCK: Duration = Duration::from_secs(5 * 60);

/// For the backend to open a log.
pub(super) const LOG_OPEN: Duration = Duration::from_secs(30);
/// What the framework holds to find the last lines of a log. Users who want more
/// of the end than this read all.
pub(super) const TAIL_BYTES: usize = 8 << 20;
/// For the backend to connect to a port of a pod.
pub(super) const FORWARD_CONNECT: Duration = Duration::from_secs(30);
/// Bytes that a port-forward moves at once: what Go's `io.Copy` does.
pub(super) const FORWARD_CHUNK: usize = 32 << 10;
/// What `/run` answers at most of each of the two outputs; `exec` streams any amount.
pub(super) const RUN_OUTPUT: usize = 1 << 20;
/// Bytes between a command of `/run` and what holds its output: what a process
/// writes at once.
pub(super) const RUN_PIPE: usize = 8 << 10;
/// For the backend's measurements; metrics-server gives up after 10 s.
pub(super) const STATS: Duration = Duration::from_secs(9);

/// For one TokenReview or SubjectAccessReview: the kubelet's.
pub(super) const REVIEW: Duration = Duration::from_secs(10);
/// Reviews at once: strangers with invented tokens must not fill the connections
/// over which statuses are written.
pub(super) const REVIEWS: usize = 8;
/// How long a token's owner is remembered: `authentication.webhook.cacheTTL`.
pub(super) const TOKEN: Duration = Duration::from_secs(120);
/// How long a yes is: `authorization.webhook.cacheAuthorizedTTL`.
pub(super) const ALLOWED: Duration = Duration::from_secs(300);
/// How long a no is: `authorization.webhook.cacheUnauthorizedTTL`.
pub(super) const DENIED: Duration = Duration::from_secs(30);
/// Entries of each cache: some clients at each of hundreds of nodes.
pub(super) const REMEMBERED: usize = 4096;

/// Between looks at files and at the cluster's client CA: kubelets take a minute
/// to bring a changed Secret into a pod.
pub(super) const LOOK: Duration = Duration::from_secs(60);
/// Between tries to read the client CA while there is none.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Between looks at a certificate that was asked for: a person approves it.
pub(super) const APPROVAL: Duration = Duration::from_secs(10);
/// A request for a certificate that nobody answered is made anew: the kubelet's.
pub(super) const APPROVAL_WAIT: Duration = Duration::from_secs(15 * 60);
