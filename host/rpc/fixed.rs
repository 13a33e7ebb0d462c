//! Limits of connections that no setting changes. Source: threats.md B1.

use std::time::Duration;

/// Time for the head of a request over HTTP/1.1, from the end of the one before, so that it bounds idling too.
pub(super) const HTTP1_HEAD: Duration = Duration::from_secs(10);
/// Bytes of such a head.
pub(super) const HTTP1_BUFFER: usize = 64 << 10;
/// Headers of it.
pub(super) const HTTP1_HEADERS: usize = 100;
/// Streams that this node reset over a peer's errors, before the connection is closed.
pub(super) const RESETS: usize = 1_024;
/// Streams that a client reset before they were accepted.
pub(super) const PENDING_RESETS: usize = 20;
/// Bytes of a request's headers over HTTP/2, unpacked.
pub(super) const HEADER_LIST: u32 = 16 << 10;
/// Bytes of a frame.
pub(super) const FRAME: u32 = 16 << 10;
/// Bytes that a client may send ahead on a stream, and on a connection.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
pub(super) const CONNECTION_WINDOW: u32 = 1 << 20;
/// How often a silent client is asked for a sign of life, and how long it gets for it.
pub(super) const PING_EVERY: Duration = Duration::from_secs(30);
pub(super) const PING_PATIENCE: Duration = Duration::from_secs(10);

/// All of them, for who runs the node: what it is, and its value.
pub fn fixed() -> Vec<(&'static str, String)> {
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let wide = |bytes: u32| format!("{} KiB", bytes >> 10);
    vec![
        ("time for a connection's first bytes", format!("{:?}", super::preface::PATIENCE.first)),
        ("HTTP/1.1: time for a head", format!("{HTTP1_HEAD:?}")),
        ("HTTP/1.1: bytes of a head", kib(HTTP1_BUFFER)),
        ("HTTP/1.1: headers", HTTP1_HEADERS.to_string()),
        ("HTTP/2: bytes of headers", wide(HEADER_LIST)),
        ("HTTP/2: bytes of a frame", wide(FRAME)),
        ("HTTP/2: window of a stream", wide(STREAM_WINDOW)),
        ("HTTP/2: window of a connection", wide(CONNECTION_WINDOW)),
        ("HTTP/2: streams reset here until the end", RESETS.to_string()),
        ("HTTP/2: streams reset before accepted", PENDING_RESETS.to_string()),
        ("HTTP/2: signs of life", format!("every {PING_EVERY:?}, within {PING_PATIENCE:?}")),
    ]
}
