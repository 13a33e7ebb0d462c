//! A peer that says what it wants: what a forged, repeated or bold statement comes to.

use super::*;
use collector::domain::now;
use collector::mesh::{LinkKey, Statement};
use collector::tenancy::{Verb, Verbs};
use pb::mesh::v1 as mesh;
use tonic::Streaming;

const ECHO: &str = "/streams.v1.Streams/Echo";
const DISPATCH: &str = "/collector.CollectiveDispatcher/Dispatch";

/// A client that is a peer of a node, by its own words, and has a link.
pub(crate) struct Bold {
    pub(crate) channel: Channel,
    pub(crate) key: LinkKey,
    _link: Streaming<mesh::LinkEvent>,
}

impl Bold {
    /// * `at`: the address that the node's operator knows it by.
    async fn link(node: &TestNode, id: &str, at: &str) -> Self {
        Self::over(channel(&node.address()).await, id, at).await
    }

    /// The same over this connection.
    pub(crate) async fn over(channel: Channel, id: &str, at: &str) -> Self {
        Self::link_over(channel.clone(), channel, id, at).await
    }

    /// One that never takes a byte of what the link says.
    async fn deaf(node: &TestNode, id: &str, at: &str) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(node.address()).unwrap();
        let linked = endpoint.initial_stream_window_size(0).connect().await.unwrap();
        Self::link_over(linked, channel(&node.address()).await, id, at).await
    }

    async fn link_over(linked: Channel, channel: Channel, id: &str, at: &str) -> Self {
        let connect = pb::ConnectRequest {
            address: at.into(),
            metadata: [("collector_id".to_owned(), id.to_owned())].into(),
            ..Default::default()
        };
        CollectiveDispatcherClient::new(channel.clone()).connect(connect).await.unwrap();
        let key = LinkKey::fresh().unwrap();
        let (link_id, link_key) = (key.id().to_vec(), key.secret().to_vec());
        let link = mesh::LinkRequest { collector_id: id.into(), link_id, link_key };
        let link = mesh::mesh_client::MeshClient::new(linked).link(link).await.unwrap().into_inner();
        Self { channel, key, _link: link }
    }

    async fn send(&self, path: &str, statement: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
        send(&self.channel, path, statement, bytes).await
    }
}

async fn send(channel: &Channel, path: &str, statement: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(bytes);
    request.metadata_mut().insert("collector-namespace", "acme".parse().unwrap());
    request.metadata_mut().insert("collector-forward", statement.parse().unwrap());
    grpc.unary(request, path.parse().unwrap(), RawCodec).await.map(Response::into_inner)
}

/// All verbs in `acme`, by somebody who called `a`.
pub(crate) fn statement(path: &str, visited: &[&str]) -> Statement {
    Statement {
        origin: "a/key:1".into(),
        namespace: "acme".parse().unwrap(),
        verbs: Verbs::those(|_| true),
        path: path.into(),
        visited: visited.iter().map(|id| id.parse().unwrap()).collect(),
    }
}

pub(crate) fn millis() -> i64 {
    now() / 1_000
}

#[track_caller]
fn assert_refused(status: &Status) {
    assert_eq!(verdict(status), (Code::Unauthenticated, "UNAUTHENTICATED".into()));
    assert_eq!(status.message(), "the statement of a forwarded call is not good here", "the same for all");
    assert_eq!(status.metadata().get("collector-began").unwrap(), "no");
}

#[tokio::test(flavor = "multi_thread")]
async fn m03_a_statement_is_good_once_here_for_this_call_and_now() {
    let at = reserve();
    let [b, c] = [node("b", &reserve(), &[peer(&at, &["acme:invoker"])]).await, node("c", &reserve(), &[]).await];
    let plugin = plugin("streams");
    for node in [&b, &c] {
        deploy(node, &plugin).await;
    }
    let bold = Bold::link(&b, "a", &at).await;
    let sign = |statement: &Statement| bold.key.sign(statement, millis());
    let good = sign(&statement(ECHO, &["a"]));
    assert!(bold.send(ECHO, &good, Vec::new()).await.is_ok());
    assert_refused(&bold.send(ECHO, &good, Vec::new()).await.unwrap_err());
    let count = "/streams.v1.Streams/Count";
    assert_refused(&bold.send(count, &sign(&statement(ECHO, &["a"])), Vec::new()).await.unwrap_err());
    let third = channel(&c.address()).await;
    assert_refused(&send(&third, ECHO, &sign(&statement(ECHO, &["a"])), Vec::new()).await.unwrap_err());
    for late in [-31_000, 31_000] {
        let late = bold.key.sign(&statement(ECHO, &["a"]), millis() + late);
        assert_refused(&bold.send(ECHO, &late, Vec::new()).await.unwrap_err());
    }
    let mut altered = sign(&statement(ECHO, &["a"])).into_bytes();
    altered[60] = if altered[60] == b'A' { b'B' } else { b'A' };
    assert_refused(&bold.send(ECHO, &String::from_utf8(altered).unwrap(), Vec::new()).await.unwrap_err());
    assert_refused(&bold.send(ECHO, "nonsense", Vec::new()).await.unwrap_err());
    let strange = LinkKey::fresh().unwrap().sign(&statement(ECHO, &["a"]), millis());
    assert_refused(&bold.send(ECHO, &strange, Vec::new()).await.unwrap_err());
    assert!(
        bold.send(ECHO, &sign(&statement(ECHO, &["a"])), Vec::new()).await.is_ok(),
        "the link is as good as before"
    );

    let log = std::fs::read_dir(b.data().join("audit")).unwrap();
    let log: String = log.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect();
    assert!(log.contains("unknown") && log.contains(ECHO), "it is written down: {log}");
    // The link ends, and with it its key.
    let Bold { channel, key, _link } = bold;
    drop(_link);
    until("the key is forgotten", async || {
        send(&channel, ECHO, &key.sign(&statement(ECHO, &["a"]), millis()), Vec::new()).await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_peer_does_nothing_beyond_what_it_is_let_whatever_it_says() {
    let at = reserve();
    let b = node("b", &reserve(), &[peer(&at, &["acme:reader"])]).await;
    deploy(&b, &plugin("streams")).await;
    let bold = Bold::link(&b, "a", &at).await;
    let echo = bold.send(ECHO, &bold.key.sign(&statement(ECHO, &["a"]), millis()), Vec::new()).await.unwrap_err();
    assert_eq!(verdict(&echo), (Code::PermissionDenied, "DENIED".into()), "it may read, not invoke");
    let get = "/collector.CollectionService/Get";
    let read = Place::acme("none").get("x").encode_to_vec();
    let read = bold.send(get, &bold.key.sign(&statement(get, &["a"]), millis()), read).await.unwrap_err();
    assert_eq!(read.code(), Code::NotFound, "it may look, and there is nothing");
    for namespace in ["rival", "system"] {
        let request = pb::GetRequest { namespace: namespace.into(), ..Place::acme("none").get("x") };
        let wide = Statement { namespace: namespace.parse().unwrap(), ..statement(get, &["a"]) };
        for said in [statement(get, &["a"]), wide] {
            let said = bold.key.sign(&said, millis());
            let refused = bold.send(get, &said, request.encode_to_vec()).await.unwrap_err();
            assert_eq!(verdict(&refused), (Code::PermissionDenied, "DENIED".into()), "{namespace}");
        }
    }
    // Somebody who may do nothing where it called may do nothing here.
    let weak = Statement { verbs: Verbs::those(|verb| verb == Verb::Discover), ..statement(get, &["a"]) };
    let weak = bold.send(get, &bold.key.sign(&weak, millis()), Place::acme("none").get("x").encode_to_vec()).await;
    assert_eq!(weak.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn m01_a_call_goes_four_times_further_and_never_back() {
    let (at, there, behind) = (reserve(), reserve(), reserve());
    let c = node("c", &behind, &[peer(&there, &["acme:invoker"])]).await;
    let b = node("b", &there, &[peer(&at, &["acme:invoker"]), peer(&behind, &["acme:invoker"])]).await;
    deploy_known(&c, &plugin("streams"), &[&b]).await;
    let bold = Bold::link(&b, "a", &at).await;
    let call =
        async |visited: &[&str]| bold.send(ECHO, &bold.key.sign(&statement(ECHO, visited), millis()), Vec::new()).await;
    assert!(call(&["a"]).await.is_ok(), "b hands it to c");
    assert!(call(&["x", "y", "a"]).await.is_ok(), "c is the fourth after the first");
    let far = call(&["w", "x", "y", "a"]).await.unwrap_err();
    assert_eq!(verdict(&far), (Code::FailedPrecondition, "HOPS".into()));
    let back = call(&["c", "a"]).await.unwrap_err();
    assert_eq!(verdict(&back), (Code::FailedPrecondition, "VISITED".into()));
    let target = pb::DispatchRequest { target_collector_id: "c".into(), ..dispatch("Streams", "Echo", None) };
    for (visited, reason) in [(&["c", "a"][..], "VISITED"), (&["w", "x", "y", "a"], "HOPS")] {
        let said = bold.key.sign(&statement(DISPATCH, visited), millis());
        let refused = bold.send(DISPATCH, &said, target.encode_to_vec()).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::FailedPrecondition, reason.into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_a_peer_that_does_not_read_its_link_loses_its_rights_with_it() {
    let at = reserve();
    let b = node("b", &reserve(), &[]).await;
    deploy(&b, &plugin("streams")).await;
    let mut peers = pb::admin::v1::peers_client::PeersClient::new(channel(&b.address()).await);
    let entry = |allows: &str| pb::admin::v1::AddPeerRequest {
        address: at.clone(),
        identity: String::new(),
        allows: vec![allows.to_owned()],
    };
    let call =
        async |bold: &Bold| bold.send(ECHO, &bold.key.sign(&statement(ECHO, &["a"]), millis()), Vec::new()).await;
    peers.add(entry("acme:deployer")).await.unwrap();
    let bold = Bold::deaf(&b, "a", &at).await;
    call(&bold).await.unwrap();
    peers.add(entry("acme:invoker")).await.unwrap();
    assert_refused(&call(&bold).await.unwrap_err());
    let bold = Bold::deaf(&b, "a", &at).await;
    call(&bold).await.unwrap();
    peers.remove(pb::admin::v1::RemovePeerRequest { address: at.clone() }).await.unwrap();
    assert_refused(&call(&bold).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_a_link_that_is_not_read_ends_in_time_and_holds_nothing_up() {
    let at = reserve();
    let mut b = TestNode::start_with(|config| {
        config.server.listen = reserve().parse().unwrap();
        config.mesh.id = "b".into();
        config.mesh.link_s = 1;
        config.peers = vec![peer(&at, &["acme:invoker"])];
        config.server.grace_ms = 60_000;
    })
    .await;
    deploy(&b, &plugin("streams")).await;
    let bold = Bold::deaf(&b, "a", &at).await;
    let call = async || bold.send(ECHO, &bold.key.sign(&statement(ECHO, &["a"]), millis()), Vec::new()).await;
    call().await.unwrap();
    until("the link's end", async || call().await.is_err()).await;
    assert_refused(&call().await.unwrap_err());
    let began = tokio::time::Instant::now();
    b.node.take().unwrap().stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_peer_has_one_quota_and_what_never_began_behind_it_is_told_so() {
    let (at, there, behind) = (reserve(), reserve(), reserve());
    let c = TestNode::start_with(|config| {
        config.server.listen = behind.parse().unwrap();
        config.mesh.id = "c".into();
        config.peers = vec![peer(&there, &["acme:invoker"])];
        config.quotas.peer.concurrent_calls = 1;
        config.server.grace_ms = 500;
    })
    .await;
    let b = node("b", &there, &[peer(&at, &["acme:invoker"]), peer(&behind, &["acme:invoker"])]).await;
    let misbehave = plugin("misbehave");
    for plugin in [&plugin("streams"), &misbehave] {
        deploy_known(&c, plugin, &[&b]).await;
    }
    let bold = Bold::link(&b, "a", &at).await;
    let call = async |origin: &str| {
        let said = Statement { origin: origin.into(), ..statement(ECHO, &["a"]) };
        bold.send(ECHO, &bold.key.sign(&said, millis()), Vec::new()).await
    };
    call("a/key:1").await.unwrap();
    let stub = Stub::new(&b, &misbehave).await;
    let full = async {
        until("the guest runs", async || c.node().wasm_stats().await.running == 1).await;
        for origin in ["a/key:1", "a/key:2"] {
            let refused = call(origin).await.unwrap_err();
            assert_eq!(verdict(&refused), (Code::ResourceExhausted, "QUOTA".into()), "whoever it says that calls");
            assert!(refused.message().contains("the peer's quota concurrent_calls"), "{refused:?}");
            assert_eq!(refused.metadata().get("collector-began").unwrap(), "no", "another may have it");
        }
    };
    tokio::select! {
        _ = stub.call("Sleep", amount(60_000)) => panic!("it sleeps for a minute"),
        () = full => {}
    }
    until("the guest is gone", async || c.node().wasm_stats().await.running == 0).await;
    until("room again", async || call("a/key:3").await.is_ok()).await;
}
