//! Peers that send other code than they offered, half of it, or none.

use super::*;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use mesh_pb::link_event::Event;
use pb::collective_dispatcher_server::{CollectiveDispatcher, CollectiveDispatcherServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tonic::Request;

/// A peer that offers the greeter, and sends this for it.
#[derive(Clone)]
struct Source {
    offer: mesh_pb::Offer,
    sends: Vec<Result<Vec<u8>, Code>>,
    asked: Arc<AtomicUsize>,
}

impl Source {
    /// Listens until the test's end.
    async fn at(address: &str, digest: String, sends: Vec<Result<Vec<u8>, Code>>) -> Self {
        let served = Some(mesh_pb::Served { namespace: "acme".into(), service: GREETER.into() });
        let methods = vec![mesh_pb::OfferedMethod { name: "SayHello".into(), ..Default::default() }];
        let deployment = "hello".into();
        let offer = mesh_pb::Offer { served, version: 1, digest, methods, deployment, ..Default::default() };
        Self::offering(address, offer, sends).await
    }

    async fn offering(address: &str, offer: mesh_pb::Offer, sends: Vec<Result<Vec<u8>, Code>>) -> Self {
        let source = Self { offer, sends, asked: Arc::default() };
        let listener = TcpListener::bind(address).await.unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(CollectiveDispatcherServer::new(source.clone()))
            .add_service(mesh_pb::mesh_server::MeshServer::new(source.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        source
    }
}

#[tonic::async_trait]
impl CollectiveDispatcher for Source {
    async fn serve(&self, _: Request<pb::ServeRequest>) -> Result<Response<pb::ServeResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn connect(&self, _: Request<pb::ConnectRequest>) -> Result<Response<pb::ConnectResponse>, Status> {
        Ok(Response::new(pb::ConnectResponse { target_collector_id: "b".into(), ..Default::default() }))
    }

    async fn dispatch(&self, _: Request<pb::DispatchRequest>) -> Result<Response<pb::DispatchResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

#[tonic::async_trait]
impl mesh_pb::mesh_server::Mesh for Source {
    type LinkStream = BoxStream<'static, Result<mesh_pb::LinkEvent, Status>>;

    async fn link(&self, _: Request<mesh_pb::LinkRequest>) -> Result<Response<Self::LinkStream>, Status> {
        let hello = Event::Hello(mesh_pb::Hello { collector_id: "b".into(), ..Default::default() });
        let put = vec![self.offer.clone()];
        let offers = Event::Offers(mesh_pb::Offers { put, removed: Vec::new(), complete: true });
        let said = [hello, offers].map(|event| Ok(mesh_pb::LinkEvent { event: Some(event) }));
        let beat = || Ok(mesh_pb::LinkEvent { event: Some(Event::Beat(mesh_pb::Beat::default())) });
        let beats =
            tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(std::time::Duration::from_secs(1)));
        Ok(Response::new(stream::iter(said).chain(beats.map(move |_| beat())).boxed()))
    }

    type FetchStream = BoxStream<'static, Result<mesh_pb::FetchChunk, Status>>;

    async fn fetch(&self, request: Request<mesh_pb::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(request.metadata().contains_key("collector-forward"), "it says whose wish it is");
        assert_eq!(request.get_ref().digest, self.offer.digest);
        let sends = self.sends.clone().into_iter();
        let sends = sends.map(|part| part.map(|data| mesh_pb::FetchChunk { data }));
        Ok(Response::new(stream::iter(sends.map(|part| part.map_err(|code| Status::new(code, "hm")))).boxed()))
    }

    async fn place(&self, _: Request<mesh_pb::PlaceRequest>) -> Result<Response<mesh_pb::PlaceResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

/// A component that says of itself what no file can say: it imports one that it does not bring.
fn odd_descriptors() -> Vec<u8> {
    let text = "syntax = \"proto3\"; package greeter.v1; message Thing {}
        service Greeter { rpc SayHello(Thing) returns (Thing); }";
    let mut files = compile(&[("greeter.proto", text)]);
    files.last_mut().unwrap().dependency.push("nowhere.proto".into());
    describing(&echo_handler(), files)
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_m08_code_that_is_another_or_does_not_come_leaves_nothing() {
    let (greeter, streams) = (plugin("greeter"), plugin("streams"));
    let digest = |plugin: &PluginFile| format!("sha256:{}", plugin.artifact.digest);
    let mut altered = greeter.bytes.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let half = greeter.bytes.slice(..greeter.bytes.len() / 2).to_vec();
    let large = vec![vec![0; 200 << 10]; 11];
    let (own, other) = (digest(&greeter), digest(&streams));
    let odd = odd_descriptors();
    let odd_digest = format!("sha256:{}", collector::domain::Digest::of(&odd));
    let cases = [
        ("altered", &own, vec![Ok(altered)], (Code::DataLoss, "FETCH_ALTERED")),
        ("half", &own, vec![Ok(half.clone())], (Code::DataLoss, "FETCH_ALTERED")),
        ("nothing", &own, vec![], (Code::DataLoss, "FETCH_ALTERED")),
        ("lost", &own, vec![Ok(half.clone()), Err(Code::Unavailable)], (Code::Unavailable, "FETCH_LOST")),
        ("refused", &own, vec![Err(Code::NotFound)], (Code::Unavailable, "FETCH_REFUSED")),
        ("too large", &own, large.into_iter().map(Ok).collect(), (Code::ResourceExhausted, "ARTIFACT_TOO_LARGE")),
        ("of another", &other, vec![Ok(streams.bytes.to_vec())], (Code::FailedPrecondition, "FETCH_OTHER")),
        ("odd descriptors", &odd_digest, vec![Ok(odd)], (Code::InvalidArgument, "DESCRIPTORS_INVALID")),
    ];
    for (name, digest, sends, (code, reason)) in cases {
        let there = reserve();
        let source = Source::at(&there, digest.clone(), sends).await;
        let a = TestNode::start_with(|config| {
            config.mesh.id = "a".into();
            config.peers = vec![peer(&there, &["acme:invoker"])];
            config.artifacts.max_mib = 2;
        });
        let a = a.await;
        knows(&a, "b").await;
        let refused = dispatched(&a, place_here(&greeter)).await.unwrap_err();
        assert_eq!(verdict(&refused), (code, reason.to_owned()), "{name}: {refused:?}");
        assert_eq!(source.asked.load(Ordering::Relaxed), 1, "{name}");
        assert!(deployments(&a).await.is_empty(), "{name}");
        // What came whole and true is kept as an upload would be.
        assert_eq!(artifacts(&a), usize::from(name == "of another"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_want_the_same_code_fetch_it_once() {
    let greeter = plugin("greeter");
    let there = reserve();
    let chunks = greeter.bytes.chunks(64 << 10).map(|chunk| Ok(chunk.to_vec())).collect();
    let source = Source::at(&there, format!("sha256:{}", greeter.artifact.digest), chunks).await;
    let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
    knows(&a, "b").await;
    let calls = (0..8).map(|_| dispatched(&a, place_here(&greeter)));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap().handled_by_collector_id, "a");
    }
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
    assert_eq!(deployments(&a).await[0].versions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_peer_that_gives_its_code_no_name_takes_no_other_deployments_place() {
    let several = plugin("several");
    let [first, wanted] = several.artifact.schema.as_ref().unwrap().services() else { panic!("it has two services") };
    // Here something else answers the first of them, under its name.
    let texts = ["common/v1/money.proto", "shop/v1/clock.proto", "shop/v1/shop.proto"].map(|name| {
        let text = std::fs::read_to_string(format!("plugins/several/proto/{name}")).unwrap();
        (name, text)
    });
    let mut files = compile(&texts.each_ref().map(|(name, text)| (*name, text.as_str())));
    let has = |file: &prost_types::FileDescriptorProto| {
        file.service.iter().any(|one| format!("{}.{}", file.package(), one.name()) == *first.name)
    };
    let file = files.remove(files.iter().position(has).unwrap());
    files.push(file.clone());
    for deployment in ["", "another"] {
        let there = reserve();
        let method = |name: &str| mesh_pb::OfferedMethod { name: name.to_owned(), ..Default::default() };
        let offer = mesh_pb::Offer {
            served: Some(mesh_pb::Served { namespace: "acme".into(), service: wanted.name.to_string() }),
            version: 1,
            digest: format!("sha256:{}", several.artifact.digest),
            methods: wanted.methods.iter().map(|one| method(&one.name)).collect(),
            deployment: deployment.into(),
            ..Default::default()
        };
        let chunks = several.bytes.chunks(64 << 10).map(|chunk| Ok(chunk.to_vec())).collect();
        Source::offering(&there, offer, chunks).await;
        let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
        let client = Client::connect(&a.address()).await;
        client.register("acme", &files).await.unwrap();
        let request = pb::RegisterServiceRequest {
            namespace: "acme".into(),
            service_descriptor: Some(raw(file.service.iter().find(|one| first.name.ends_with(one.name())).unwrap())),
            file_descriptor: Some(raw(&file)),
        };
        client.registry.clone().register_service(request).await.unwrap();
        let own = plugins_pb::DeployHeader { services: vec![first.name.to_string()], ..header() };
        deploy_with(&mut plugins(&a).await, own, &echo_handler()).await.unwrap();
        let before = deployments(&a).await;
        assert_eq!(before[0].name, *first.name);
        let what = Served { namespace: "acme".parse().unwrap(), service: wanted.name.clone() };
        until("the offer", async || !a.node().mesh().topology().servers(&what).is_empty()).await;
        let call = pb::DispatchRequest {
            service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: wanted.name.to_string() }),
            method_name: wanted.methods[0].name.to_string(),
            input: None,
            ..place_here(&plugin("greeter"))
        };
        let refused = dispatched(&a, call).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::AlreadyExists, "DEPLOYMENT_EXISTS".into()), "{deployment:?}: {refused:?}");
        assert_eq!(deployments(&a).await, before, "{deployment:?}");
    }
}
