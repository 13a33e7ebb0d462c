//! `greeter.v1.Greeter/SayHello` as a stock client calls it, and as plain tonic would answer it.

use crate::Failure;
use collector::cli::ClientError;
use http::Uri;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

/// Path of the method.
pub(crate) const PATH: &str = "/greeter.v1.Greeter/SayHello";

/// `greeter.v1.HelloRequest`, and near enough `HelloReply`: one string.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

/// A stock client over one connection.
#[derive(Clone)]
pub(crate) struct HelloClient(tonic::client::Grpc<Client<HttpConnector, Body>>);

impl HelloClient {
    pub(crate) fn connect(address: &str) -> Result<Self, Failure> {
        let uri: Uri = address.parse()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Ok(Self(tonic::client::Grpc::with_origin(client, uri)))
    }

    /// How long one call took.
    pub(crate) async fn call(&mut self, name: &str) -> Result<Duration, Failure> {
        let mut request = Request::new(Hello { text: name.to_owned() });
        request.metadata_mut().insert("collector-namespace", "bench".parse()?);
        let codec = ProstCodec::<Hello, Hello>::default();
        let began = Instant::now();
        self.0.ready().await?;
        let path = http::uri::PathAndQuery::from_static(PATH);
        let answer = self.0.unary(request, path, codec).await;
        let took = began.elapsed();
        answer.map_err(|status| ClientError::Call(Box::new(status)))?;
        Ok(took)
    }
}

/// The echo's service.
#[derive(Clone)]
pub(super) struct HelloEcho;

impl tonic::server::NamedService for HelloEcho {
    const NAME: &'static str = "greeter.v1.Greeter";
}

struct Answer;

impl Service<Request<Hello>> for Answer {
    type Response = Response<Hello>;
    type Error = Status;
    type Future = Ready<Result<Response<Hello>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Hello>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl Service<http::Request<Body>> for HelloEcho {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
            return Box::pin(async move { Ok(json(request).await) });
        }
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Hello, Hello>::default());
            Ok(grpc.unary(Answer, request).await)
        })
    }
}

/// The same as a few lines on hyper would: the Connect protocol's unary JSON, and nothing of the protocol.
async fn json(request: http::Request<Body>) -> http::Response<Body> {
    let greeted = async {
        let body = request.into_body().collect().await.ok()?.to_bytes();
        let asked: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let text = format!("Hello, {}!", asked["name"].as_str()?);
        serde_json::to_vec(&serde_json::json!({ "text": text })).ok()
    };
    let Some(reply) = greeted.await else {
        let mut refused = http::Response::new(Body::empty());
        *refused.status_mut() = http::StatusCode::BAD_REQUEST;
        return refused;
    };
    let mut response = http::Response::new(Body::new(Full::from(reply)));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
