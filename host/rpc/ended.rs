//! How a request ended, for the audit log: by its answer's code, or without one.

use super::edge::{PATH_MAX, RequestId};
use super::identify::Peer;
use crate::domain::cut;
use crate::tenancy::Caller;
use crate::tenancy::audit::Trail;
use http::{Extensions, HeaderMap};
use tonic::Code;

/// What is written if nobody takes the answer.
const GONE: &str = "CANCELLED";

/// What is written of a request.
pub(super) fn trail(id: &RequestId, path: &str, extensions: &Extensions) -> Trail {
    let source = extensions.get::<Peer>().map(|peer| peer.address);
    Trail::new(id.uuid(), source, cut(path, PATH_MAX))
}

/// One request on its way. Dropping it without an answer is an end too.
pub(super) struct Ended(Option<Trail>);

impl Ended {
    /// Begins a request's trail: whoever finds its caller finds it with that.
    pub(super) fn begin(id: &RequestId, path: &str, extensions: &mut Extensions) -> Self {
        let trail = trail(id, path, extensions);
        if let Some(caller) = extensions.get_mut::<Caller>() {
            *caller = caller.clone().on(trail.clone());
        }
        Self(Some(trail))
    }

    /// The answer has ended with these headers or trailers; those of answers that go on have no status.
    pub(super) fn with(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.with_code(Code::from_bytes(status.as_bytes()));
        }
    }

    pub(super) fn with_code(&mut self, code: Code) {
        if let Some(trail) = self.0.take() {
            trail.end(name(code));
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(trail) = self.0.take() {
            trail.end(GONE);
        }
    }
}

/// As gRPC writes it. Source: google/rpc/code.proto.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
