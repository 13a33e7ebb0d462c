//! Links between collectors: they come up, say what is served, and come back.

mod hostile;
mod refused;
mod tls;

use crate::support::*;
use collector::config::Config;
use collector::domain::Namespace;
use collector::mesh::{Entry, LinkState, Phase, Served};
use collector::node::Node;
use collector::rpc::pb;
use collector::rpc::pb::plugin::v1 as plugins_pb;
use collector::store::{self, SqliteStore};
use prost::Message as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The service of the plugin that tests deploy.
const GREETER: &str = "greeter.v1.Greeter";
/// How soon a change has to be known elsewhere.
const SOON: Duration = Duration::from_secs(1);

/// An address that no other test has, so that nodes can name each other before they are there: one of this process's own
/// loopback addresses.
pub fn reserve() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (process, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{}:7051", 64 + process % 64, (process / 64) % 256, n)
}

fn peer(address: &str, allows: &[&str]) -> Entry {
    let allows = allows.iter().map(|text| text.parse().unwrap()).collect();
    Entry { address: address.into(), allows, ..Entry::default() }
}

/// What a node called `id` at `at` is configured with.
fn settings(config: &mut Config, id: &str, at: &str, peers: &[Entry]) {
    config.server.listen = at.parse().unwrap();
    config.mesh.id = id.into();
    config.peers = peers.to_vec();
}

async fn node(id: &str, at: &str, peers: &[Entry]) -> TestNode {
    TestNode::start_with(|config| settings(config, id, at, peers)).await
}

/// Nodes that are each other's peers.
async fn full_mesh<const N: usize>(ids: [&str; N]) -> [TestNode; N] {
    let places = ids.map(|id| (id, reserve()));
    let mut nodes = Vec::new();
    for (id, at) in &places {
        let others: Vec<Entry> =
            places.iter().filter(|(other, _)| other != id).map(|(_, at)| peer(at, &["*:invoker"])).collect();
        nodes.push(node(id, at, &others).await);
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!())
}

fn link(node: &Node, address: &str) -> Option<LinkState> {
    node.links().into_iter().find(|link| link.address == address)
}

/// Why a link is not up, or was not before.
fn problem(node: &Node, address: &str) -> String {
    link(node, address).and_then(|link| link.error).unwrap_or_default()
}

fn phase(node: &Node, address: &str) -> Option<Phase> {
    link(node, address).map(|link| link.phase)
}

/// Ids of the collectors that a node has links to.
fn linked(node: &TestNode) -> Vec<String> {
    let mut ids: Vec<String> = node.node().mesh().topology().peers().map(|peer| peer.id.to_string()).collect();
    ids.sort_unstable();
    ids
}

/// Ids of the collectors that serve something, as a node knows it.
fn servers(node: &TestNode, namespace: &str, service: &str) -> Vec<String> {
    let what = Served { namespace: namespace.parse().unwrap(), service: service.into() };
    let topology = node.node().mesh().topology();
    let mut ids: Vec<String> = topology.servers(&what).iter().map(|(peer, _)| peer.id.to_string()).collect();
    ids.sort_unstable();
    ids
}

fn at(node: &TestNode) -> String {
    node.node().address().to_string()
}

async fn deploy_in(node: &TestNode, namespace: &str) {
    let header = plugins_pb::DeployHeader { namespace: namespace.into(), ..Default::default() };
    deploy_with(&mut plugins(node).await, header, &plugin("greeter").bytes).await.unwrap();
}

/// Waits until the condition holds, and no longer than [`SOON`].
async fn soon<F: Future<Output = bool>>(what: &str, holds: impl FnMut() -> F) {
    let began = Instant::now();
    until(what, holds).await;
    assert!(began.elapsed() < SOON, "{what} took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_link_and_know_within_a_second_what_the_other_serves() {
    let [a, b] = full_mesh(["a", "b"]).await;
    until("both links", async || linked(&a) == ["b"] && linked(&b) == ["a"]).await;
    let state = link(a.node(), &at(&b)).unwrap();
    assert_eq!((state.phase, state.peer.unwrap().as_str(), state.error), (Phase::Linked, "b", None));

    deploy(&b, &plugin("greeter")).await;
    soon("the offer", async || servers(&a, "acme", GREETER) == ["b"]).await;
    let topology = a.node().mesh().topology();
    let what = Served { namespace: "acme".parse().unwrap(), service: GREETER.into() };
    let (_, offer) = &topology.servers(&what)[0];
    let digest = format!("{}", offer.digest.unwrap());
    assert_eq!((offer.version, digest), (1, plugin("greeter").artifact.digest.to_string()));
    let method = offer.methods.iter().find(|method| &*method.name == "SayHello").unwrap();
    assert!(!method.client_streaming && !method.server_streaming);
    soon("the count", async || link(a.node(), &at(&b)).unwrap().offers == 1).await;

    let undeploy = plugins_pb::UndeployRequest { namespace: "acme".into(), name: GREETER.into(), version: 0 };
    plugins(&b).await.undeploy(undeploy).await.unwrap();
    soon("the end of the offer", async || servers(&a, "acme", GREETER).is_empty()).await;
    assert!(servers(&b, "acme", GREETER).is_empty(), "what is served here is nothing that a peer offers");
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_of_three_come_and_go_with_their_nodes() {
    let [a, mut b, c] = full_mesh(["a", "b", "c"]).await;
    until("all links", async || [&a, &b, &c].iter().all(|node| linked(node).len() == 2)).await;
    deploy(&b, &plugin("greeter")).await;
    deploy(&c, &plugin("greeter")).await;
    until("the offers", async || servers(&a, "acme", GREETER) == ["b", "c"]).await;

    // A node that stops says so first.
    let stopping = b.node.take().unwrap().stop();
    let known = async {
        soon("the goodbye", async || servers(&a, "acme", GREETER) == ["c"] && linked(&c) == ["a"]).await;
    };
    tokio::join!(stopping, known);
    b.node = Some(Node::start(b.config.clone()).await.unwrap());
    // Its own links come up at once, and wake those of the others.
    let began = Instant::now();
    until("the links", async || linked(&a) == ["b", "c"] && linked(&b) == ["a", "c"] && linked(&c) == ["a", "b"]).await;
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    until("what it kept", async || servers(&a, "acme", GREETER) == ["b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_node_that_is_killed_is_forgotten_and_found_again() {
    let (here, there) = (reserve(), reserve());
    let a = node("a", &here, &[peer(&there, &["*:invoker"])]).await;
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("collector.toml");
    let text = format!("[[peers]]\naddress = \"{here}\"\nallows = [\"*:invoker\"]\n[mesh]\nid = \"b\"\n");
    std::fs::write(&file, text).unwrap();
    let start = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["serve", "--json", "--listen", &there, "--set", "wasm.slots=4", "--data"]);
        command.arg(data.path().join("data")).arg("--config").arg(&file);
        NodeProcess::spawn(command)
    };
    let mut b = start();
    until("the link", async || linked(&a) == ["b"]).await;
    for _ in 0..2 {
        b.signal(rustix::process::Signal::KILL);
        b.wait();
        soon("the loss", async || linked(&a).is_empty()).await;
        until("the reason", async || !problem(a.node(), &there).is_empty()).await;
        b = start();
        let began = Instant::now();
        until("the link", async || linked(&a) == ["b"]).await;
        assert!(began.elapsed() < 3 * SOON, "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_each_side_sees_and_takes_only_what_its_policy_says() {
    let (here, there) = (reserve(), reserve());
    let allows: &[&str] = &["acme:invoker", "globex:reader", "both:invoker"];
    let b = node("b", &there, &[peer(&here, allows)]).await;
    let a = node("a", &here, &[peer(&there, &["both:reader", "other:invoker", "globex:invoker"])]).await;
    for namespace in ["acme", "globex", "both", "other"] {
        deploy_in(&b, namespace).await;
        deploy_in(&a, namespace).await;
    }
    until("the offer", async || servers(&a, "both", GREETER) == ["b"]).await;
    // b shows what a may call there; of that a takes what it trusts b with.
    until("the offers of b", async || link(a.node(), &there).unwrap().offers == 1).await;
    until("the offers of a", async || link(b.node(), &here).unwrap().offers == 1).await;
    assert_eq!(servers(&b, "globex", GREETER), ["a"]);
    let log = std::fs::read_dir(a.data().join("audit")).unwrap();
    let log: String = log.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let told = log.lines().filter(|line| line.contains("peer:b")).count();
    assert_eq!(told, 1, "acme is beyond what b is trusted with: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_made_anew_while_it_is_up() {
    let (here, there) = (reserve(), reserve());
    let young = |config: &mut Config| config.mesh.link_s = 1;
    let b = TestNode::start_with(|config| {
        settings(config, "b", &there, &[peer(&here, &["*:invoker"])]);
        young(config);
    });
    let b = b.await;
    let a = TestNode::start_with(|config| {
        settings(config, "a", &here, &[peer(&there, &["*:invoker"])]);
        young(config);
    });
    let a = a.await;
    deploy(&b, &plugin("greeter")).await;
    until("the offer", async || servers(&a, "acme", GREETER) == ["b"]).await;
    let state = link(a.node(), &there).unwrap();
    let same = a.node().mesh().topology();
    let same = same.peers().next().unwrap();
    // The other side ends a link after four thirds of a second.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_eq!(servers(&a, "acme", GREETER), ["b"]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let now = link(a.node(), &there).unwrap();
    assert_eq!((now.since, now.phase), (state.since, Phase::Linked));
    assert!(now.heard > state.heard);
    let topology = a.node().mesh().topology();
    assert!(std::sync::Arc::ptr_eq(same, topology.peers().next().unwrap()), "what is known of the peer stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_collectors_are_records_of_the_node() {
    let [a, b] = full_mesh(["a", "b"]).await;
    deploy(&b, &plugin("greeter")).await;
    until("both links", async || linked(&a) == ["b"] && linked(&b) == ["a"]).await;
    let (here, there) = (at(&a), at(&b));
    let read = async |data: std::path::PathBuf| {
        let store = SqliteStore::open(&data.join("records")).unwrap();
        let all = async |collection| store::all(&store, &Namespace::system(), collection).await.unwrap();
        (all("connections").await, all("collectors").await)
    };
    // Written within a second of the change; a store can be read beside the node's own.
    let mut found = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while found.len() < 2 {
        assert!(Instant::now() < deadline, "the records did not come: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (connections, collectors) = read(a.data()).await;
        let direct = collectors.iter().filter_map(|record| pb::Collector::decode(record.bytes.clone()).ok());
        if direct.filter(|one| one.is_direct_peer).count() == 1 {
            found = connections;
        }
    }
    let found: Vec<pb::Connection> =
        found.into_iter().map(|record| pb::Connection::decode(record.bytes).unwrap()).collect();
    let out = found.iter().find(|one| one.source_collector_id == "a").unwrap();
    assert_eq!((out.target_collector_id.as_str(), out.address.as_str()), ("b", here.as_str()));
    let back = found.iter().find(|one| one.source_collector_id == "b").unwrap();
    assert_eq!((back.target_collector_id.as_str(), back.address.as_str()), ("a", there.as_str()));
    assert!(back.last_activity.is_some() && !back.id.is_empty() && !out.id.is_empty());
    let (_, collectors) = read(a.data()).await;
    let one = pb::Collector::decode(collectors[0].bytes.clone()).unwrap();
    assert_eq!((one.id.as_str(), one.address.as_str(), collectors.len()), ("b", there.as_str(), 1));

    let mut b = b;
    b.node.take().unwrap().stop().await;
    until("no connection either way", async || read(a.data()).await.0.is_empty()).await;
    let (_, collectors) = read(a.data()).await;
    let one = pb::Collector::decode(collectors[0].bytes.clone()).unwrap();
    assert!(!one.is_direct_peer && collectors.len() == 1 && one.last_seen.is_some(), "{one:?}");

    let data = a.data();
    let mut a = a;
    a.restart_with(|config| config.peers.clear()).await;
    let (_, collectors) = read(data).await;
    assert_eq!(collectors.len(), 1, "a collector stays known");
}
