//! Stock clients of the example plugins, with a namespace and credentials of their own.

use crate::Failure;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// Path of a call that does what it should.
pub(crate) const HELLO: &str = "/greeter.v1.Greeter/SayHello";

/// `greeter.v1.HelloRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    name: String,
}

/// `misbehave.v1.Sin`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sin {
    #[prost(uint64, tag = "1")]
    pub(crate) amount: u64,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
}

/// How a call ended, and after how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) took: Duration,
    pub(crate) code: Code,
}

/// A client over one connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Caller {
    grpc: tonic::client::Grpc<Client<HttpConnector, Body>>,
    namespace: String,
    token: Option<String>,
}

impl Caller {
    /// * `token`: an API key, where the node wants one.
    pub(crate) fn connect(address: &str, namespace: &str, token: Option<&str>) -> Result<Self, Failure> {
        let uri: Uri = address.parse()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let grpc = tonic::client::Grpc::with_origin(client, uri);
        Ok(Self { grpc, namespace: namespace.to_owned(), token: token.map(str::to_owned) })
    }

    /// A greeting.
    pub(crate) async fn hello(&self) -> Result<Ended, Failure> {
        self.call(HELLO, Hello { name: "Ada".to_owned() }, Duration::from_secs(30)).await
    }

    /// Any unary call.
    ///
    /// * `timeout`: sent along; the client itself waits for the answer.
    pub(crate) async fn call<M: prost::Message + Clone + 'static>(
        &self,
        path: &str,
        message: M,
        timeout: Duration,
    ) -> Result<Ended, Failure> {
        let mut grpc = self.grpc.clone();
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("collector-namespace", self.namespace.parse()?);
        metadata.insert("grpc-timeout", format!("{}m", timeout.as_millis()).parse()?);
        if let Some(token) = &self.token {
            metadata.insert("authorization", format!("Bearer {token}").parse()?);
        }
        let path: PathAndQuery = path.parse()?;
        let began = Instant::now();
        grpc.ready().await?;
        // Whatever the reply is: `()` decodes as any message, and keeps nothing of it.
        let answer = grpc.unary(request, path, ProstCodec::<M, ()>::default()).await;
        let took = began.elapsed();
        Ok(Ended { took, code: answer.map_or_else(|status| status.code(), |_| Code::Ok) })
    }
}
