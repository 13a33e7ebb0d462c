//! The Connect protocol: plain POSTs of JSON or protobuf, for browsers, curl and anything else that speaks HTTP.
//! Source: connectrpc.com/docs/protocol.
//!
//! ```text
//! unary:  POST body ---------------> one gRPC message   -> grpc -> one message + trailers -> body + trailer-* headers
//! stream: envelope, envelope, ... -> message, message, ... -> grpc -> messages + trailers -> envelopes, end-of-stream
//! ```
//!
//! Bodies are translated while the inner door reads them, so its deadline and its count of calls cover that too.
//! Left out: GET for calls without side effects, and compression.

mod error;
mod request;
mod stream;
mod unary;

use super::envelope::{Messages, Passing};
use super::json::{Json, Types};
use super::kind::Codec;
use super::{only_post, plain};
use crate::domain::{MethodName, Namespace, ServiceName};
use crate::registry::{MethodRef, Registry, Snapshot};
use crate::rpc::edge::{self, RequestId};
use crate::rpc::{convert, ended, policy, status};
use crate::tenancy::{Refused, Tenancy, Verb};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{ACCEPT_ENCODING, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::StreamBody;
use std::sync::Arc;
use tonic::body::Body;
use tonic::{Code, Status};

/// Translates between Connect and gRPC.
#[derive(Clone)]
pub(super) struct Connect {
    registry: Arc<Registry>,
    tenancy: Tenancy,
    json: Json,
    default_namespace: Namespace,
}

/// What a call is for, as far as it is known here.
#[derive(Clone)]
struct Target {
    registry: Arc<Registry>,
    snapshot: Arc<Snapshot>,
    /// `None` for a method that the namespace has no types of: the inner door knows better.
    method: Option<MethodRef>,
    json: Json,
}

impl Target {
    async fn types(&self) -> Result<Types, Status> {
        match &self.method {
            Some(method) => Types::of(&self.registry, &self.snapshot, method).await,
            None => {
                let message = "the namespace has no types for this method, so it cannot be called with JSON";
                Err(status::plain(Code::Unimplemented, "NO_METHOD", message))
            }
        }
    }
}

impl Connect {
    /// * `default_namespace`: of callers that name none.
    pub(super) fn new(registry: Arc<Registry>, tenancy: Tenancy, default_namespace: Namespace) -> Self {
        Self { registry, tenancy, json: Json::default(), default_namespace }
    }

    /// Answers one call with a bare message or an error.
    pub(super) async fn unary<F, Fut>(&self, codec: Codec, request: Request<Body>, grpc: F) -> Response<Body>
    where
        F: FnOnce(Request<Body>) -> Fut,
        Fut: Future<Output = Response<Body>>,
    {
        if request.method() != Method::POST {
            return only_post();
        }
        let mut answer = match self.target(&request) {
            Ok(target) if target.method.as_ref().is_some_and(|method| method.method().streams()) => {
                return unsupported("application/connect+json, application/connect+proto");
            }
            Ok(target) => unary::call(target, codec, request, grpc).await,
            Err(status) => error::unary(&status, &HeaderMap::new()),
        };
        answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    }

    /// Answers one call with a stream of envelopes. Errors come as its end, so with HTTP status 200.
    pub(super) async fn stream<F, Fut>(&self, codec: Codec, request: Request<Body>, grpc: F) -> Response<Body>
    where
        F: FnOnce(Request<Body>) -> Fut,
        Fut: Future<Output = Response<Body>>,
    {
        if request.method() != Method::POST {
            return only_post();
        }
        let target = match self.target(&request) {
            Ok(target) => target,
            Err(status) => return stream::failed(codec, &status),
        };
        if let Some(method) = target.method.as_ref().map(MethodRef::method) {
            if !method.streams() {
                return unsupported("application/json, application/proto");
            }
            // HTTP/1.1 answers when the request is over, which a dialogue never is.
            if method.client_streaming && method.server_streaming && request.version() < Version::HTTP_2 {
                let text = "this method streams both ways at once, which needs HTTP/2";
                return plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED, text);
            }
        }
        stream::call(target, codec, request, grpc).await
    }

    /// Finds out what a request is for.
    ///
    /// * errors: UNAUTHENTICATED, INVALID_ARGUMENT for an odd namespace, PERMISSION_DENIED for a tenant's method where
    ///   the caller may not call anything.
    fn target(&self, request: &Request<Body>) -> Result<Target, Status> {
        let caller = edge::caller_of(request.extensions())?;
        let namespace = convert::namespace(request.headers(), &self.default_namespace);
        let namespace = namespace.map_err(|why| status::bad_request(why, &RequestId::default()))?;
        let may = |verb| self.tenancy.allows(&caller, &namespace, verb);
        let snapshot = match policy::needs(request.uri().path()) {
            // The node's own services decide for themselves, and every namespace has their types.
            Some(_) if may(Verb::Discover) => self.registry.snapshot(&namespace),
            Some(_) => self.registry.unused(&namespace),
            None if may(Verb::Invoke) => self.registry.snapshot(&namespace),
            None => {
                let trail = ended::trail(&RequestId::default(), request.uri().path(), request.extensions());
                self.tenancy.refused(&caller.on(trail), &namespace, Verb::Invoke);
                return Err(status::plain(Code::PermissionDenied, "DENIED", Refused::Forbidden.to_string()));
            }
        };
        let names = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let method = names.and_then(|(service, method)| {
            let (service, method): (ServiceName, MethodName) = (service.parse().ok()?, method.parse().ok()?);
            snapshot.find_method(&service, &method).ok()
        });
        Ok(Target { registry: Arc::clone(&self.registry), snapshot, method, json: self.json.clone() })
    }
}

/// What to say of a reply that does not come out of the inner door as it should.
fn broken(why: Status) -> Status {
    // On this side envelopes are our own, so an odd one is not its reader's mistake.
    let odd = why.code() == Code::InvalidArgument;
    if odd { status::plain(Code::Internal, "INTERNAL", "the reply broke off") } else { why }
}

/// Copies a call's own leading metadata.
fn copy_metadata(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from.iter().filter(|(name, _)| error::is_metadata(name)) {
        to.append(name, value.clone());
    }
}

/// 415 for a content type that fits other kinds of methods.
fn unsupported(accepted: &'static str) -> Response<Body> {
    let text = format!("this method is called with one of: {accepted}");
    let mut response = plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    response.headers_mut().insert(HeaderName::from_static("accept-post"), HeaderValue::from_static(accepted));
    response
}

/// A body that makes its pieces when they are asked for.
fn pulled(pieces: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Body {
    use futures_util::TryStreamExt as _;
    Body::new(StreamBody::new(pieces.map_ok(Frame::data)))
}

/// Enveloped messages of either codec.
enum Source {
    Proto(Passing),
    Json(Messages, Target),
}
