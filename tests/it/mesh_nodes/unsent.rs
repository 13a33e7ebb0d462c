//! What a client may send again by itself. The benchmarks' clients read this file too.

use std::error::Error as _;
use tonic::Status;

/// Whether the client's side says that the call was never begun: nobody listens there, or the connection had said goodbye
/// when the call came to it. Clients of gRPC try those again by themselves (proposal A6, transparent retries); tonic leaves
/// it to its caller. Whatever the server said is something else.
pub fn is_unsent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(why) = source {
        let refused = why.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let goodbye = why
            .downcast_ref::<h2::Error>()
            .is_some_and(|why| why.is_go_away() && why.is_remote() && why.reason() == Some(h2::Reason::NO_ERROR));
        let canceled = why.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        if goodbye || canceled || refused == Some(std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = why.source();
    }
    false
}
