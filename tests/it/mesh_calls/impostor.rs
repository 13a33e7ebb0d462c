//! A peer that has a link like any other, offers the plugin `streams`, and answers calls as a test says.

use bytes::Bytes;
use collector::rpc::pb;
use collector::rpc::pb::mesh::v1 as mesh;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::link_event::Event;
use pb::collective_dispatcher_server::{CollectiveDispatcher, CollectiveDispatcherServer};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::IntervalStream;
use tonic::body::Body;
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;

/// What it answers with; an error resets the stream.
pub type Said = BoxFuture<'static, Result<http::Response<Body>, h2::Error>>;

type Says = Arc<dyn Fn() -> Said + Send + Sync>;

/// The peer. Clones are the same.
#[derive(Clone)]
pub struct Impostor {
    id: &'static str,
    says: Arc<Mutex<Says>>,
    heard: Arc<Mutex<Vec<http::request::Parts>>>,
}

impl Impostor {
    /// Listens at the address until the test's end. It says nothing to calls.
    pub async fn at(address: &str, id: &'static str) -> Self {
        let silent: Says = Arc::new(|| futures_util::future::pending().boxed());
        let peer = Self { id, says: Arc::new(Mutex::new(silent)), heard: Arc::default() };
        let listener = TcpListener::bind(address).await.unwrap();
        let host = peer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let host = host.clone();
                let service = hyper::service::service_fn(move |request| host.clone().answer(request));
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        peer
    }

    /// What it says to calls from now on.
    pub fn says(&self, what: impl Fn() -> Said + Send + Sync + 'static) {
        *self.says.lock().unwrap() = Arc::new(what);
    }

    /// Heads of the calls that it had, since this was asked last.
    pub fn heard(&self) -> Vec<http::request::Parts> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    async fn answer(self, request: http::Request<Incoming>) -> Result<http::Response<Body>, h2::Error> {
        let path = request.uri().path();
        if path.starts_with("/collector.mesh.v1.Mesh/") || path.ends_with("/Connect") {
            let routes = tonic::service::Routes::new(CollectiveDispatcherServer::new(self.clone()))
                .add_service(mesh::mesh_server::MeshServer::new(self));
            return Ok(routes.oneshot(request.map(Body::new)).await.unwrap());
        }
        let (head, body) = request.into_parts();
        self.heard.lock().unwrap().push(head);
        let says = Arc::clone(&self.says.lock().unwrap());
        let answer = says().await;
        drop(body);
        answer
    }
}

#[tonic::async_trait]
impl CollectiveDispatcher for Impostor {
    async fn serve(&self, _: Request<pb::ServeRequest>) -> Result<Response<pb::ServeResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn connect(&self, _: Request<pb::ConnectRequest>) -> Result<Response<pb::ConnectResponse>, Status> {
        Ok(Response::new(pb::ConnectResponse { target_collector_id: self.id.into(), ..Default::default() }))
    }

    async fn dispatch(&self, _: Request<pb::DispatchRequest>) -> Result<Response<pb::DispatchResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

#[tonic::async_trait]
impl mesh::mesh_server::Mesh for Impostor {
    type LinkStream = BoxStream<'static, Result<mesh::LinkEvent, Status>>;

    async fn link(&self, _: Request<mesh::LinkRequest>) -> Result<Response<Self::LinkStream>, Status> {
        let method = |name: &str, client_streaming, server_streaming| mesh::OfferedMethod {
            name: name.into(),
            client_streaming,
            server_streaming,
        };
        let methods = vec![method("Echo", false, false), method("Count", false, true), method("Chat", true, true)];
        let served = Some(mesh::Served { namespace: "acme".into(), service: "streams.v1.Streams".into() });
        let put = vec![mesh::Offer { served, version: 1, methods, ..Default::default() }];
        let hello = Event::Hello(mesh::Hello { collector_id: self.id.into(), ..Default::default() });
        let said = [hello, Event::Offers(mesh::Offers { put, removed: Vec::new(), complete: true })];
        let beats = IntervalStream::new(tokio::time::interval(Duration::from_secs(1)));
        let beats = beats.map(|_| Event::Beat(mesh::Beat::default()));
        let events = stream::iter(said).chain(beats).map(|event| Ok(mesh::LinkEvent { event: Some(event) }));
        Ok(Response::new(events.boxed()))
    }

    type FetchStream = BoxStream<'static, Result<mesh::FetchChunk, Status>>;

    async fn fetch(&self, _: Request<mesh::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn place(&self, _: Request<mesh::PlaceRequest>) -> Result<Response<mesh::PlaceResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

/// A message with its head.
pub fn framed(message: &[u8]) -> Vec<u8> {
    head(0, u32::try_from(message.len()).unwrap()).into_iter().chain(message.iter().copied()).collect()
}

/// The head of a message that may not follow.
pub fn head(flags: u8, length: u32) -> Vec<u8> {
    [&[flags][..], &length.to_be_bytes()].concat()
}

/// One part of an answer's body.
#[derive(Clone)]
pub enum Part {
    Bytes(Vec<u8>),
    /// Headers at its end.
    End(Vec<(&'static str, String)>),
    /// The stream is reset.
    Reset,
    /// Nothing more, and no end.
    Silence,
}

/// `grpc-status: 0`.
pub fn fine() -> Part {
    ended("0")
}

pub fn ended(code: &str) -> Part {
    Part::End(vec![("grpc-status", code.into())])
}

/// An answer of these parts, again and again.
pub fn grpc(parts: Vec<Part>) -> impl Fn() -> Said + Send + Sync {
    typed(200, "application/grpc", Vec::new(), parts)
}

/// The same of another kind.
pub fn typed(
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    parts: Vec<Part>,
) -> impl Fn() -> Said + Send + Sync {
    move || {
        let frames = stream::iter(parts.clone()).then(|part| async {
            match part {
                Part::Bytes(bytes) => Ok(Frame::data(Bytes::from(bytes))),
                Part::End(headers) => {
                    let pairs =
                        headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                    Ok(Frame::trailers(pairs.collect()))
                }
                Part::Reset => Err(Status::internal("reset")),
                Part::Silence => std::future::pending().await,
            }
        });
        let mut answer = http::Response::builder().status(status).header("content-type", content_type);
        for (name, value) in &headers {
            answer = answer.header(*name, value);
        }
        let answer = answer.body(Body::new(StreamBody::new(frames))).unwrap();
        async { Ok(answer) }.boxed()
    }
}

/// The same, after a while.
pub fn after(pause: Duration, says: impl Fn() -> Said + Send + Sync) -> impl Fn() -> Said + Send + Sync {
    move || {
        let said = says();
        async move {
            tokio::time::sleep(pause).await;
            said.await
        }
        .boxed()
    }
}

/// Resets the stream before it answers anything.
pub fn reset(reason: h2::Reason) -> impl Fn() -> Said + Send + Sync {
    move || async move { Err(reason.into()) }.boxed()
}
