//! Peers that lie, are silent, or come and go.

use super::*;
use collector::rpc::pb::collective_dispatcher_server::{CollectiveDispatcher, CollectiveDispatcherServer};
use collector::rpc::pb::mesh::v1 as mesh;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use mesh::link_event::Event;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status};

/// A peer that says this over a link, and keeps it open.
#[derive(Clone)]
struct Liar {
    /// As Connect names it.
    id: &'static str,
    says: Vec<Event>,
    /// What it answers instead, to whatever it is asked.
    refuses: Option<Status>,
    refused: Arc<AtomicUsize>,
    links: Arc<AtomicUsize>,
}

impl Liar {
    /// Listens at the address until the test's end.
    async fn at(address: &str, id: &'static str, says: Vec<Event>) -> Self {
        let (refused, links) = Default::default();
        Self { id, says, refuses: None, refused, links }.listen(address).await
    }

    /// Refuses all that it is asked.
    async fn refusing(address: &str, why: Status) -> Self {
        let (refused, links) = Default::default();
        Self { id: "b", says: Vec::new(), refuses: Some(why), refused, links }.listen(address).await
    }

    /// Whether it answers what it was asked; that it does not counts.
    fn answers(&self) -> Result<(), Status> {
        let Some(why) = &self.refuses else { return Ok(()) };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(why.clone())
    }

    async fn listen(self, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(CollectiveDispatcherServer::new(self.clone()))
            .add_service(mesh::mesh_server::MeshServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        self
    }
}

#[tonic::async_trait]
impl CollectiveDispatcher for Liar {
    async fn serve(&self, _: Request<pb::ServeRequest>) -> Result<Response<pb::ServeResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn connect(&self, _: Request<pb::ConnectRequest>) -> Result<Response<pb::ConnectResponse>, Status> {
        self.answers()?;
        Ok(Response::new(pb::ConnectResponse { target_collector_id: self.id.into(), ..Default::default() }))
    }

    async fn dispatch(&self, _: Request<pb::DispatchRequest>) -> Result<Response<pb::DispatchResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

#[tonic::async_trait]
impl mesh::mesh_server::Mesh for Liar {
    type LinkStream = BoxStream<'static, Result<mesh::LinkEvent, Status>>;

    async fn link(&self, _: Request<mesh::LinkRequest>) -> Result<Response<Self::LinkStream>, Status> {
        self.links.fetch_add(1, Ordering::Relaxed);
        self.answers()?;
        let said = self.says.clone().into_iter().map(|event| Ok(mesh::LinkEvent { event: Some(event) }));
        Ok(Response::new(stream::iter(said).chain(stream::pending()).boxed()))
    }

    type FetchStream = BoxStream<'static, Result<mesh::FetchChunk, Status>>;

    async fn fetch(&self, _: Request<mesh::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn place(&self, _: Request<mesh::PlaceRequest>) -> Result<Response<mesh::PlaceResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

fn hello(id: &str) -> Event {
    Event::Hello(mesh::Hello { collector_id: id.into(), ..Default::default() })
}

fn offer(namespace: &str, service: &str) -> mesh::Offer {
    let served = Some(mesh::Served { namespace: namespace.into(), service: service.into() });
    mesh::Offer { served, version: 1, ..Default::default() }
}

fn offers(put: Vec<mesh::Offer>, complete: bool) -> Event {
    Event::Offers(mesh::Offers { put, removed: Vec::new(), complete })
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_peer_that_makes_no_sense_is_not_linked() {
    let whole = || offers(vec![offer("acme", "a.v1.S")], true);
    let long = mesh::OfferedMethod { name: "M".repeat(2 << 20), ..Default::default() };
    let large = mesh::Offer { methods: vec![long], ..offer("acme", "a.v1.S") };
    let cases: [(&str, &'static str, Vec<Event>, &str); 9] = [
        ("no Hello", "b", vec![whole()], "no Hello"),
        ("no id", "b", vec![hello("a b"), whole()], "an id"),
        ("itself", "a", vec![hello("a"), whole()], "itself"),
        ("two ids", "b", vec![hello("c"), whole()], "two ids"),
        ("Hello twice", "b", vec![hello("b"), hello("b")], "no offers"),
        ("a bad name", "b", vec![hello("b"), offers(vec![offer("a/b", "a.v1.S")], true)], "a namespace"),
        ("no name", "b", vec![hello("b"), offers(vec![mesh::Offer::default()], true)], "without a name"),
        ("too large", "b", vec![hello("b"), offers(vec![large], true)], "too large"),
        ("a late Hello", "b", vec![hello("b"), whole(), hello("b")], "Hello twice"),
    ];
    let places: Vec<(String, _)> = cases.into_iter().map(|case| (reserve(), case)).collect();
    let entries: Vec<Entry> = places.iter().map(|(at, _)| peer(at, &["*:invoker"])).collect();
    for (at, (_, id, says, _)) in &places {
        Liar::at(at, id, says.clone()).await;
    }
    let a = node("a", &reserve(), &entries).await;
    for (at, (name, _, _, wanted)) in &places {
        until(name, async || problem(a.node(), at).contains(wanted)).await;
    }
    until("nobody is left", async || linked(&a).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_peer_whose_status_has_details_that_are_none_is_tried_again() {
    let there = reserve();
    let headers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status-details-bin"),
        http::HeaderValue::from_static("***"),
    )]);
    let metadata = tonic::metadata::MetadataMap::from_headers(headers);
    let liar = Liar::refusing(&there, Status::with_metadata(Code::Unavailable, "not now", metadata)).await;
    let a = node("a", &reserve(), &[peer(&there, &["*:invoker"])]).await;
    until("its words", async || problem(a.node(), &there).contains("not now")).await;
    until("more tries", async || liar.refused.load(Ordering::Relaxed) > 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_what_a_peer_offers_is_bounded_and_a_silent_one_is_let_go() {
    let there = reserve();
    let many = |n: usize| offers((0..1_000).map(|m| offer("acme", &format!("s.S{n}_{m}"))).collect(), n == 11);
    let says = std::iter::once(hello("b")).chain((0..12).map(many)).collect();
    Liar::at(&there, "b", says).await;
    let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
    until("the link", async || linked(&a) == ["b"]).await;
    until("the offers", async || link(a.node(), &there).unwrap().offers == 10_000).await;
    // It says nothing more.
    until("the end", async || problem(a.node(), &there).contains("silent")).await;
    // It is tried again, and is as before.
    until("the link", async || linked(&a) == ["b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_peer_that_flaps_is_tried_less_and_less() {
    let there = reserve();
    let listener = TcpListener::bind(&there).await.unwrap();
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
    until("the first tries", async || tried.load(Ordering::Relaxed) >= 3).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // 0, 50, 100, 200, 400, 800, 1,600 ms, each up to a quarter less.
    let tries = tried.load(Ordering::Relaxed);
    assert!((4..=9).contains(&tries), "{tries}");
    assert_eq!(phase(a.node(), &there), Some(Phase::Dialling));

    // Links that end as soon as they are up are no reason to hurry either.
    let there = reserve();
    let liar =
        Liar::at(&there, "b", vec![hello("b"), offers(Vec::new(), true), Event::Draining(mesh::Draining {})]).await;
    let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
    until("the first links", async || liar.links.load(Ordering::Relaxed) >= 3).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let links = liar.links.load(Ordering::Relaxed);
    assert!((4..=9).contains(&links), "{links}");
    assert_eq!(phase(a.node(), &there), Some(Phase::Draining));
}
