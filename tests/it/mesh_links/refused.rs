//! Who is no peer, and where no link goes.

use super::*;
use collector::rpc::pb::collection_repo_client::CollectionRepoClient;
use collector::rpc::pb::collective_dispatcher_client::CollectiveDispatcherClient;
use collector::rpc::pb::mesh::v1::{LinkRequest, link_event::Event, mesh_client::MeshClient};
use std::collections::HashMap;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// Somebody who calls Connect and Link by hand.
struct Stranger(Channel);

impl Stranger {
    async fn at(node: &TestNode) -> Self {
        Self(channel(&node.address()).await)
    }

    async fn connect(&self, address: &str, id: &str, namespaces: &[&str]) -> Result<pb::ConnectResponse, Status> {
        let metadata = match id {
            "" => HashMap::new(),
            id => HashMap::from([("collector_id".to_owned(), id.to_owned())]),
        };
        let namespaces = namespaces.iter().map(|&name| name.to_owned()).collect();
        let request = pb::ConnectRequest { address: address.into(), namespaces, metadata };
        CollectiveDispatcherClient::new(self.0.clone()).connect(request).await.map(Response::into_inner)
    }

    async fn link(
        &self,
        id: &str,
        (link, key): (usize, usize),
    ) -> Result<tonic::Streaming<collector::rpc::pb::mesh::v1::LinkEvent>, Status> {
        let mut link_id = vec![0; link];
        if let Some(last) = link_id.last_mut() {
            static NEXT: AtomicU32 = AtomicU32::new(1);
            *last = u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % 256).unwrap();
        }
        let request = LinkRequest { collector_id: id.into(), link_id, link_key: vec![7; key] };
        MeshClient::new(self.0.clone()).link(request).await.map(Response::into_inner)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_no_node_is_a_peer_of_itself_or_twice() {
    let (own, other) = (reserve(), reserve());
    // An entry that leads to the node itself, and two that lead to one other.
    let (_, port) = other.rsplit_once(':').unwrap();
    let b = TestNode::start_with(|config| {
        settings(config, "b", &format!("0.0.0.0:{port}"), &[peer(&own, &["*:invoker"])]);
        config.server.insecure = true;
        config.server.listen.set_port(0);
        config.server.advertised_address = other.clone();
    });
    let b = b.await;
    let port = b.node().address().port();
    let [one, two] = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{port}"));
    let entries = [&own, &one, &two].map(|at| peer(at, &["*:invoker"]));
    let a = node("a", &own, &entries).await;
    until("the node itself is refused", async || phase(a.node(), &own) == Some(Phase::Refused)).await;
    assert!(problem(a.node(), &own).contains("itself"));
    let phases = || [&one, &two].map(|at| phase(a.node(), at).unwrap());
    until("one of two", async || phases().contains(&Phase::Linked) && phases().contains(&Phase::Refused)).await;
    assert_eq!(linked(&a), ["b"]);

    let stranger = Stranger::at(&a).await;
    for (address, id) in [(own.as_str(), ""), (own.as_str(), "x"), ("198.51.99.1:1", "a")] {
        let refused = stranger.connect(address, id, &[]).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::FailedPrecondition, "SELF".into()), "{address} {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_connecting_again_replaces_the_link() {
    let (here, there) = (reserve(), reserve());
    let a = node("a", &here, &[peer(&there, &["acme:invoker"])]).await;
    deploy(&a, &plugin("greeter")).await;
    let b = Stranger::at(&a).await;
    let first = b.connect(&there, "b", &["other", "acme", "acme", "system"]).await.unwrap();
    assert_eq!((first.target_collector_id.as_str(), first.shared_namespaces), ("a", vec!["acme".to_owned()]));
    assert_eq!(first.status.unwrap().code, 0);
    let second = b.connect(&there, "b", &[]).await.unwrap();
    assert_ne!(first.connection_id, second.connection_id);
    assert!(second.shared_namespaces.is_empty());
    // Two links of one collector stand beside each other while one takes over; and no more than a few.
    let mut links = Vec::new();
    for _ in 0..4 {
        links.push(b.link("b", (16, 32)).await.unwrap());
    }
    let fifth = b.link("b", (16, 32)).await.unwrap_err();
    assert_eq!(verdict(&fifth), (Code::ResourceExhausted, "TOO_MANY".into()));
    let hello = links[0].message().await.unwrap().unwrap().event.unwrap();
    let Event::Hello(hello) = hello else { panic!("{hello:?}") };
    assert_eq!((hello.collector_id.as_str(), hello.namespaces), ("a", vec!["acme".to_owned()]));
    links.pop();
    until("room again", async || b.link("b", (16, 32)).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_peer_opens_no_link() {
    let (here, there) = (reserve(), reserve());
    let a = node("a", &here, &[peer(&there, &["acme:invoker"])]).await;
    let b = Stranger::at(&a).await;
    let not_a_peer = (Code::PermissionDenied, "NOT_A_PEER".to_owned());
    assert_eq!(verdict(&b.link("b", (16, 32)).await.unwrap_err()), not_a_peer, "it never said where it is");
    b.connect("example.com:1", "c", &[]).await.unwrap();
    assert_eq!(verdict(&b.link("c", (16, 32)).await.unwrap_err()), not_a_peer, "nobody named that address");
    b.connect(&there, "b", &[]).await.unwrap();
    assert_eq!(verdict(&b.link("c", (16, 32)).await.unwrap_err()), not_a_peer);
    for sizes in [(15, 32), (17, 32), (16, 31), (16, 33), (0, 0)] {
        assert_eq!(b.link("b", sizes).await.unwrap_err().code(), Code::InvalidArgument, "{sizes:?}");
    }
    assert_eq!(b.link("", (16, 32)).await.unwrap_err().code(), Code::InvalidArgument);
    b.link("b", (16, 32)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_nothing_is_dialled_that_the_operator_did_not_name() {
    let a = node("a", &reserve(), &[]).await;
    let stranger = Stranger::at(&a).await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    let empty = stranger.connect("", "b", &[]).await.unwrap_err();
    assert_eq!((empty.code(), empty.message()), (Code::InvalidArgument, "address is required"));
    for address in [
        "unix:/run/x.sock".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("http://127.0.0.1:{port}"),
        format!("user:pass@127.0.0.1:{port}"),
        format!("127.0.0.1:{port}/x"),
        format!("127.0.0.1:{port}\r\nx: y"),
        "127.0.0.1".to_owned(),
        "127.0.0.1:0".to_owned(),
        "a".repeat(300) + ":1",
    ] {
        let refused = stranger.connect(&address, "b", &[]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{address:?}: {refused:?}");
    }
    for address in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "0.0.0.0"] {
        let refused = stranger.connect(&format!("{address}:{port}"), "b", &[]).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{address}: {refused:?}");
    }
    let known = stranger.connect("collector.example.com:50051", "b", &["acme"]).await.unwrap();
    assert_eq!(known.target_collector_id, "a");
    let dialled = tokio::time::timeout(Duration::from_millis(500), trap.accept()).await;
    assert!(dialled.is_err() && a.node().links().is_empty(), "a stranger's word is no reason to connect");
}

#[tokio::test(flavor = "multi_thread")]
async fn m05_records_go_to_peers_and_nowhere_else() {
    let there = reserve();
    let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
    let repo = Client::connect(&a.address()).await.repo;
    let to = async |endpoint: &str| {
        let request = pb::CloneRequest { dest_endpoint: endpoint.into(), ..Default::default() };
        let cloned = CollectionRepoClient::clone(&mut Clone::clone(&repo), request).await.map(drop).unwrap_err().code();
        let request = pb::FetchRequest { source_endpoint: endpoint.into(), ..Default::default() };
        (cloned, Clone::clone(&repo).fetch(request).await.map(drop).unwrap_err().code())
    };
    for address in
        ["unix:/run/x.sock", "file:///etc/passwd", "http://127.0.0.1:1", "a:b@127.0.0.1:1", "127.0.0.1:1\r\nx: y"]
    {
        assert_eq!(to(address).await, (Code::InvalidArgument, Code::InvalidArgument), "{address:?}");
    }
    for address in ["127.0.0.1:1", "169.254.169.254:80", "[::1]:1", "collector.example.com:50051"] {
        assert_eq!(to(address).await, (Code::PermissionDenied, Code::PermissionDenied), "{address}");
    }
    assert_eq!(to(&there).await, (Code::Unimplemented, Code::Unimplemented), "a peer: not there yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_connect_says_is_bounded() {
    let a = node("a", &reserve(), &[]).await;
    let client = channel(&a.address()).await;
    let connect = async |namespaces: Vec<String>, metadata: HashMap<String, String>| {
        let request = pb::ConnectRequest { address: "example.com:1".into(), namespaces, metadata };
        CollectiveDispatcherClient::new(client.clone()).connect(request).await.map_err(|why| why.code())
    };
    let names = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
    let labels = |count: usize, bytes: usize| (0..count).map(|n| (format!("k{n}"), "v".repeat(bytes))).collect();
    assert!(connect(names(1_000), labels(16, 256)).await.is_ok());
    for (namespaces, metadata) in [
        (names(1_001), HashMap::new()),
        (Vec::new(), labels(17, 1)),
        (Vec::new(), labels(1, 257)),
        (vec!["a/b".to_owned()], HashMap::new()),
        (Vec::new(), HashMap::from([("collector_id".to_owned(), "a b".to_owned())])),
        (Vec::new(), HashMap::from([(String::new(), "x".to_owned())])),
    ] {
        assert_eq!(connect(namespaces, metadata).await.err(), Some(Code::InvalidArgument));
    }
}
