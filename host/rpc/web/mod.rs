//! What stands before gRPC on the port: the same services for callers that cannot speak it.
//!
//! A request's content type says what it speaks; gRPC-Web and Connect are translated to one gRPC call and back, so
//! behind this there is one door. Nothing is collected but single messages with a limit; streams pass one message at a
//! time.
//!
//! ```text
//! application/grpc (HTTP/2) --------------------------------------------> grpc
//! application/grpc-web[-text][+proto] ----------> grpc_web (tonic-web) --> grpc
//! application/json, /proto, /connect+json, +proto -----------> connect --> grpc
//! GET /descriptors/<namespace>.binpb --------------------> descriptors
//! GET /metrics ------------------------------------------> metrics
//! ```

mod connect;
mod cors;
mod descriptors;
mod envelope;
mod grpc_web;
mod json;
mod kind;
mod metrics;

pub(super) use cors::Cors;
pub use metrics::Metrics;

use super::{BadSetting, Config};
use crate::domain::Namespace;
use crate::registry::Registry;
use crate::tenancy::Tenancy;
use bytes::Bytes;
use connect::Connect;
use cors::Visitor;
use descriptors::Descriptors;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use kind::Kind;
use std::sync::Arc;
use tonic::body::Body;

/// What a browser or curl sees that asks for nothing in particular.
const WELCOME: &str = "This is the port of a Collector node. It answers calls in gRPC (HTTP/2), gRPC-Web and Connect:\n\
    POST /<package>.<Service>/<Method> with content-type application/json or application/proto.\n\
    The types of a namespace: GET /descriptors/<namespace>.binpb\n";

/// What an answer with status 401 asks for. Source: RFC 9110 section 15.5.2, RFC 6750 section 3.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"collector\"");

/// Decides by content type, and translates.
#[derive(Clone)]
pub struct Web {
    cors: Cors,
    connect: Connect,
    descriptors: Descriptors,
    metrics: Option<Metrics>,
}

impl Web {
    /// * `default`: the namespace of callers that name none.
    /// * `registry`: types for JSON, and what `/descriptors/` shows.
    /// * errors: a setting that [`Config::check`] refuses.
    pub fn new(
        config: &Config,
        default: Namespace,
        registry: Arc<Registry>,
        tenancy: Tenancy,
    ) -> Result<Self, BadSetting> {
        let cors = Cors::new(&config.cors_origins)?;
        let descriptors = Descriptors::new(Arc::clone(&registry), tenancy.clone());
        Ok(Self { cors, connect: Connect::new(registry, tenancy, default), descriptors, metrics: None })
    }

    /// The same, with what there is to count.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Answers one request of any protocol.
    ///
    /// * `grpc`: answers a plain gRPC request with a plain gRPC response, trailers and all.
    pub(super) async fn handle<F, Fut>(&self, request: Request<Body>, grpc: F) -> Response<Body>
    where
        F: FnOnce(Request<Body>) -> Fut,
        Fut: Future<Output = Response<Body>>,
    {
        let kind = Kind::of(request.headers());
        if kind == Kind::Grpc {
            // No browser speaks it, so no origin has to be looked at.
            return match request.version() {
                Version::HTTP_2 => grpc(request).await,
                _ => plain(
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    "gRPC needs HTTP/2; over HTTP/1.1 there are gRPC-Web and Connect\n",
                ),
            };
        }
        let visitor = self.cors.visitor(request.headers());
        let mut response = match &visitor {
            Visitor::Stranger => plain(StatusCode::FORBIDDEN, "this origin is not in server.cors_origins\n"),
            Visitor::Welcome(_) if Cors::is_preflight(&request) => Cors::preflight(),
            Visitor::Welcome(_) | Visitor::Local => Box::pin(self.answer(kind, request, grpc)).await,
        };
        Cors::finish(visitor, response.headers_mut());
        response
    }

    async fn answer<F, Fut>(&self, kind: Kind, request: Request<Body>, grpc: F) -> Response<Body>
    where
        F: FnOnce(Request<Body>) -> Fut,
        Fut: Future<Output = Response<Body>>,
    {
        if let Some(metrics) = self.metrics.as_ref().filter(|_| Metrics::has(&request)) {
            return metrics.get(&request.map(drop));
        }
        match kind {
            _ if Descriptors::has(&request) => self.descriptors.get(request.map(drop)).await,
            Kind::GrpcWeb(content_type) => grpc_web::call(content_type, request, grpc).await,
            Kind::Unary(codec) => self.connect.unary(codec, request, grpc).await,
            Kind::Stream(codec) => self.connect.stream(codec, request, grpc).await,
            Kind::Grpc | Kind::Unknown | Kind::None => neither(&request),
        }
    }
}

/// The answer to what is no call.
fn neither(request: &Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let is_method = path.split('/').filter(|segment| !segment.is_empty()).count() == 2;
    if !is_method {
        return plain(StatusCode::NOT_FOUND, WELCOME);
    }
    if request.method() != Method::POST {
        return only_post();
    }
    let mut response = plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, WELCOME);
    let accept_post = HeaderName::from_static("accept-post");
    response.headers_mut().insert(accept_post, HeaderValue::from_static(kind::ACCEPTED));
    response
}

/// 405 for a call that is no POST.
fn only_post() -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "calls are made with POST");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// An answer in words.
fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
