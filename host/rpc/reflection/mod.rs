//! gRPC server reflection, v1 and v1alpha, over what is registered at this moment.
//!
//! One stream sees one namespace: the one that the metadata `collector-namespace` names, else the node's default. Each
//! request reads the snapshot anew, so a registration shows in the next answer of a stream that is open already. Answers
//! are made one by one, when the client has room for the next: no task, no queue. What the caller may not see looks like
//! a namespace that nobody uses.
//!
//! tonic-reflection gives the messages; its own server is not used, because it is fixed when it is built.

mod answer;
#[cfg(test)]
mod tests;
mod versions;

use super::{convert, edge, status};
use crate::domain::Namespace;
use crate::lifecycle::Lifecycle;
use crate::registry::{Registry, Snapshot};
use crate::tenancy::{Caller, Tenancy, Verb};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::{v1, v1alpha};

/// Largest request. Names have a few hundred bytes; a request is echoed in its answer.
const REQUEST_MAX: usize = 4 << 10;

/// The service, in both versions. Clones share it.
#[derive(Clone)]
pub struct ReflectionService(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    tenancy: Tenancy,
    default: Namespace,
    idle: Duration,
    lifecycle: Lifecycle,
}

impl ReflectionService {
    /// * `default`: the namespace of clients that name none.
    /// * `idle`: how long a stream may be silent.
    pub fn new(
        registry: Arc<Registry>,
        tenancy: Tenancy,
        default: Namespace,
        idle: Duration,
        lifecycle: Lifecycle,
    ) -> Self {
        Self(Arc::new(Inner { registry, tenancy, default, idle, lifecycle }))
    }

    /// `grpc.reflection.v1.ServerReflection`.
    pub fn v1(&self) -> v1::server_reflection_server::ServerReflectionServer<Self> {
        v1::server_reflection_server::ServerReflectionServer::new(self.clone())
            .accept_compressed(super::GZIP)
            .max_decoding_message_size(REQUEST_MAX)
    }

    /// `grpc.reflection.v1alpha.ServerReflection`, which older clients ask.
    pub fn v1alpha(&self) -> v1alpha::server_reflection_server::ServerReflectionServer<Self> {
        v1alpha::server_reflection_server::ServerReflectionServer::new(self.clone())
            .accept_compressed(super::GZIP)
            .max_decoding_message_size(REQUEST_MAX)
    }

    fn namespace<T>(&self, request: &Request<T>) -> Result<Namespace, Status> {
        let id = edge::request_id(request);
        convert::namespace(request.metadata().as_ref(), &self.0.default).map_err(|why| status::bad_request(why, &id))
    }

    /// What the caller may see of the namespace now. Decided anew for each request: rights change while streams are open.
    fn view(&self, caller: &Caller, namespace: &Namespace) -> Arc<Snapshot> {
        match self.0.tenancy.allows(caller, namespace, Verb::Discover) {
            true => self.0.registry.snapshot(namespace),
            false => self.0.registry.unused(namespace),
        }
    }

    /// Answers one stream.
    ///
    /// * errors: UNAVAILABLE when the node drains, also on a stream that is silent; DEADLINE_EXCEEDED when it is silent for
    ///   too long; what `answer` fails with. Each ends it.
    /// * cancel: dropping the stream ends it.
    fn answers<Q, A, S>(
        &self,
        caller: Caller,
        namespace: Namespace,
        asked: S,
        answer: fn(&Snapshot, Q) -> Result<A, Status>,
    ) -> BoxStream<'static, Result<A, Status>>
    where
        Q: Send + 'static,
        A: Send + 'static,
        S: Stream<Item = Result<Q, Status>> + Send + Unpin + 'static,
    {
        let next = move |(service, caller, namespace, mut asked): (Self, Caller, Namespace, S)| async move {
            // A client that sends many requests at once shares the thread with others.
            tokio::task::yield_now().await;
            let request = tokio::select! {
                biased;
                () = service.0.lifecycle.draining() => return Err(draining()),
                request = asked.next() => request,
                () = tokio::time::sleep(service.0.idle) => return Err(silent(service.0.idle)),
            };
            let Some(request) = request.transpose().map_err(undecodable)? else { return Ok(None) };
            let answer = answer(&service.view(&caller, &namespace), request)?;
            Ok(Some((answer, (service, caller, namespace, asked))))
        };
        stream::try_unfold((self.clone(), caller, namespace, asked), next).boxed()
    }
}

fn draining() -> Status {
    status::plain(Code::Unavailable, "DRAINING", "the node is stopping")
}

fn silent(idle: Duration) -> Status {
    let message = format!("the stream was silent for too long (limits.stream_idle_ms = {})", idle.as_millis());
    status::plain(Code::DeadlineExceeded, "STREAM_IDLE", message)
}

/// tonic-prost says INTERNAL to bytes that are no message, and INTERNAL is always a bug of ours.
fn undecodable(why: Status) -> Status {
    if why.code() != Code::Internal {
        return why;
    }
    let why = crate::domain::one_line(why.message(), 256);
    status::plain(Code::InvalidArgument, "UNDECODABLE", format!("the message does not decode: {why}"))
}
