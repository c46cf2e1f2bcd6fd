//! Every bound of this crate, each with its reason.

use std::time::Duration;

/// Largest control frame taken from a peer, payload only, in bytes. The headers of
/// a Kubernetes stream (`streamType`, `port`, `requestID`) fit into 100; room is
/// left for proxies that add their own.
pub const MAX_CONTROL_FRAME: usize = 64 * 1024;

/// Largest header block after decompression, in bytes: zlib turns 64 KiB into 64 MiB
/// if asked to.
pub const MAX_HEADER_BLOCK: usize = 16 * 1024;

/// Most headers in one block.
pub const MAX_HEADERS: usize = 100;

/// Largest payload of a DATA frame that is sent, in bytes: what Go's `io.Copy`
/// moves at once, so that one busy stream does not keep the others waiting. DATA
/// frames that are received are handed on piece by piece and need no limit.
pub const MAX_DATA_SENT: usize = 32 * 1024;

/// Most streams open at once on one SPDY connection. `exec` needs five; a
/// port-forward needs two for each connection that is open through it, and a
/// browser opens dozens. More are refused one by one, the connection goes on.
pub const MAX_STREAMS: usize = 512;

/// Bytes waiting to be sent at which a connection takes no more from its writers.
pub const OUTPUT_HIGH_WATER: usize = 256 * 1024;

/// Bytes waiting to be sent at which a connection stops reading: a peer that asks
/// (pings, refused streams) without reading the answers must not fill the memory. More
/// than writers fill: someone who has stopped the output on the screen must still be
/// able to type, Ctrl-C most of all, and two ends that both send much must not wait for
/// each other.
pub const ANSWERS_HIGH_WATER: usize = 2 * OUTPUT_HIGH_WATER;

/// Bytes of one stream that are held for a slow reader, per stream.
pub const STREAM_BUFFER: usize = 64 * 1024;

/// Bytes of all streams of a connection that are held for slow readers before it stops
/// reading: many streams, each just below [`STREAM_BUFFER`], must not add up to megabytes
/// for each of a thousand connections. Sixteen slow ones may be full at once.
pub const CONNECTION_BUFFER: usize = 1024 * 1024;

/// Credit each side of a stream, and of the connection, starts with where flow
/// control is kept, in bytes (SPDY draft 3.1, section 2.6.8).
pub const INITIAL_WINDOW: u32 = 64 * 1024;

/// Largest WebSocket message, in bytes. A client may send all of its stdin as one
/// message, and the kubelet takes 32 MiB (the default of `golang.org/x/net/websocket`).
/// A message is held whole until its last byte is there, as the kubelet holds it, because
/// `tungstenite` tells no part of one and a second framing beside its own would have to
/// be kept right; Kubernetes' own clients send 32 KiB at a time.
pub const MAX_WEBSOCKET_MESSAGE: usize = 32 * 1024 * 1024;

/// Most ports of one port-forward over WebSocket channels, two channels each: in the
/// base64 variant a channel's digit, counted on from `'0'`, must stay a character of ASCII.
pub const MAX_FORWARDED_PORTS: usize = 39;

/// Longest JSON object on the resize stream, in bytes; a real one has 30.
pub const MAX_RESIZE_OBJECT: usize = 1024;

/// Time a client has to create the streams it asked for
/// (`DefaultStreamCreationTimeout` of k8s.io/cri-streaming).
pub const STREAM_CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Time without a single frame after which a connection is closed
/// (`StreamIdleTimeout` of k8s.io/cri-streaming).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60 * 60);

/// Time that is left for the last bytes after the end: for sending them, and then
/// for reading what the peer still had under way. A socket closed with unread bytes
/// is reset, and the reset takes the output along that the client has not read yet.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
