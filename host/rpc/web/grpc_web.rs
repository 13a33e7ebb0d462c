//! gRPC-Web, binary and text: tonic-web's translation, with what it leaves to others.
//! Source: github.com/grpc/grpc, doc/PROTOCOL-WEB.md.

use super::super::status;
use super::only_post;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer as _, ServiceExt as _};

/// Answers one gRPC-Web call.
///
/// * `content_type`: the request's, without parameters.
pub(super) async fn call<F, Fut>(content_type: &'static str, mut request: Request<Body>, grpc: F) -> Response<Body>
where
    F: FnOnce(Request<Body>) -> Fut,
    Fut: Future<Output = Response<Body>>,
{
    if request.method() != Method::POST {
        return only_post();
    }
    let content_type = HeaderValue::from_static(content_type);
    // tonic-web answers in text only to who accepts text by its full name; who sends text and does not say reads text.
    if request.headers().get(ACCEPT).is_none_or(|accept| accept == "*/*") {
        request.headers_mut().insert(ACCEPT, content_type.clone());
    }
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    let mut grpc = Some(grpc);
    let inner = tower::service_fn(move |mut request: Request<Body>| {
        *request.version_mut() = http::Version::HTTP_2;
        let answer = grpc.take().map(|grpc| grpc(request.map(|body| Body::new(body.map_err(malformed)))));
        async move {
            Ok::<_, Infallible>(match answer {
                Some(answer) => answer.await.map(|body| Body::new(Unsized(body))),
                None => status::plain(Code::Internal, "INTERNAL", "asked twice").into_http(),
            })
        }
    });
    match tonic_web::GrpcWebLayer::new().layer(inner).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// tonic-web calls a body that is no base64 INTERNAL, which would be a bug of ours.
fn malformed(why: Status) -> Status {
    if why.code() != Code::Internal {
        return why;
    }
    status::plain(Code::InvalidArgument, "UNDECODABLE", "the body is no gRPC-Web: it is not base64, or breaks off")
}

/// A body that keeps its length to itself: tonic-web passes it on, but trailers and base64 make the answer longer.
struct Unsized(Body);

impl HttpBody for Unsized {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
