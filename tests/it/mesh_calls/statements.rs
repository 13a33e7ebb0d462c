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
        let connect = pb::ConnectRequest {
            address: at.into(),
            metadata: [("collector_id".to_owned(), id.to_owned())].into(),
            ..Default::default()
        };
        CollectiveDispatcherClient::new(channel.clone()).connect(connect).await.unwrap();
        let key = LinkKey::fresh().unwrap();
        let (link_id, link_key) = (key.id().to_vec(), key.secret().to_vec());
        let link = mesh::LinkRequest { collector_id: id.into(), link_id, link_key };
        let link = mesh::mesh_client::MeshClient::new(channel.clone()).link(link).await.unwrap().into_inner();
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
