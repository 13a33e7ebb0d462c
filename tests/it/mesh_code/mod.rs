//! Code that travels from one node to another.

mod hostile;
mod stalled;

use crate::mesh_links::reserve;
use crate::support::*;
use collector::cli::PluginFile;
use collector::mesh::{Entry, Served};
use collector::rpc::pb;
use collector::rpc::pb::mesh::v1 as mesh_pb;
use collector::rpc::pb::plugin::v1 as plugins_pb;
use pb::collective_dispatcher_client::CollectiveDispatcherClient;
use prost_types::Any;
use serde_json::json;
use tonic::{Code, Response, Status};

/// The service of the plugin that travels, and the name of its deployment.
const GREETER: &str = "greeter.v1.Greeter";

fn peer(address: &str, allows: &[&str]) -> Entry {
    let allows = allows.iter().map(|text| text.parse().unwrap()).collect();
    Entry { address: address.into(), allows, ..Entry::default() }
}

async fn node(id: &str, at: &str, peers: &[Entry]) -> TestNode {
    TestNode::start_with(|config| {
        config.server.listen = at.parse().unwrap();
        config.mesh.id = id.into();
        config.peers = peers.to_vec();
        config.server.grace_ms = 500;
    })
    .await
}

/// Nodes that are each other's peers. Each lets the callers of the others do what stands beside its id.
async fn mesh_of<const N: usize>(nodes: [(&str, &[&str]); N]) -> [TestNode; N] {
    let places = nodes.map(|(id, allows)| (id, allows, reserve()));
    let mut made = Vec::new();
    for (id, allows, at) in &places {
        let others = places.iter().filter(|(other, ..)| other != id);
        let others: Vec<Entry> = others.map(|(_, _, at)| peer(at, allows)).collect();
        made.push(node(id, at, &others).await);
    }
    for node in &made {
        until("all links", async || node.node().mesh().topology().peers().count() == N - 1).await;
    }
    made.try_into().unwrap_or_else(|_| unreachable!())
}

/// Waits until `node` knows that `server` has the greeter.
async fn knows(node: &TestNode, server: &str) {
    let what = Served { namespace: "acme".parse().unwrap(), service: GREETER.into() };
    let has = || node.node().mesh().topology().servers(&what).iter().any(|(peer, _)| peer.id.as_str() == server);
    until("the offer", async || has()).await;
}

/// A call of the greeter that wants its code where it is answered.
fn place_here(plugin: &PluginFile) -> pb::DispatchRequest {
    let input = plugin.encode("greeter.v1.HelloRequest", &json!({ "name": "you" }).to_string());
    let input = input.unwrap_or_else(|why| panic!("{why}"));
    pb::DispatchRequest {
        namespace: "acme".into(),
        service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: GREETER.into() }),
        method_name: "SayHello".into(),
        input: Some(Any { type_url: "type.googleapis.com/greeter.v1.HelloRequest".into(), value: input }),
        routing_hints: [("place".to_owned(), "here".to_owned())].into(),
        ..Default::default()
    }
}

async fn dispatched(node: &TestNode, request: pb::DispatchRequest) -> Result<pb::DispatchResponse, Status> {
    let mut client = CollectiveDispatcherClient::new(channel(&node.address()).await);
    client.dispatch(request).await.map(Response::into_inner)
}

async fn deployments(node: &TestNode) -> Vec<plugins_pb::Deployment> {
    let request = plugins_pb::ListRequest { namespace: "acme".into(), ..Default::default() };
    plugins(node).await.list(request).await.unwrap().into_inner().deployments
}

/// Files of artifacts that a node keeps in `acme`, and drafts of some.
fn artifacts(node: &TestNode) -> usize {
    let count = |folder: &str| {
        let folder = std::fs::read_dir(node.data().join("artifacts").join(folder));
        folder.map_or(0, |files| files.count())
    };
    count("acme") + count(".drafts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_brings_its_code_to_where_it_is_made() {
    let [a, mut b] = mesh_of([("a", &["acme:invoker"]), ("b", &["acme:deployer"])]).await;
    let greeter = plugin("greeter");
    let header = plugins_pb::DeployHeader { name: "hello".into(), ..header() };
    deploy_with(&mut plugins(&b).await, header, &greeter.bytes).await.unwrap();
    knows(&a, "b").await;
    let usual = pb::DispatchRequest { routing_hints: Default::default(), ..place_here(&greeter) };
    assert_eq!(dispatched(&a, usual).await.unwrap().handled_by_collector_id, "b");
    assert!(deployments(&a).await.is_empty());

    // Many at once: one of them fetches and deploys, for all.
    let calls = (0..8).map(|_| dispatched(&a, place_here(&greeter)));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap().handled_by_collector_id, "a");
    }
    let found = deployments(&a).await;
    assert_eq!((found.len(), found[0].name.as_str(), found[0].versions.len()), (1, "hello", 1));
    assert_eq!(found[0].versions[0].digest, format!("sha256:{}", greeter.artifact.digest));
    knows(&b, "a").await;

    // It stays, and needs nobody.
    b.node.take().unwrap().stop().await;
    assert_eq!(dispatched(&a, place_here(&greeter)).await.unwrap().handled_by_collector_id, "a");
    let reply = Stub::new(&a, &greeter).await.call("SayHello", json!({ "name": "you" })).await.unwrap();
    assert_eq!(reply.receipt("collector-version"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_who_may_call_code_does_not_get_it_and_who_gets_it_is_written_down() {
    let greeter = plugin("greeter");
    let log = |node: &TestNode| {
        let files = std::fs::read_dir(node.data().join("audit")).unwrap();
        let lines = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default());
        let lines = lines.collect::<String>();
        lines.lines().filter(|line| line.contains("/collector.mesh.v1.Mesh/Fetch")).collect::<Vec<_>>().join("\n")
    };
    for (allows, gets) in [("acme:invoker", false), ("acme:deployer", true)] {
        let [a, b] = mesh_of([("a", &["acme:invoker"]), ("b", &[allows])]).await;
        deploy(&b, &greeter).await;
        knows(&a, "b").await;
        let answer = dispatched(&a, place_here(&greeter)).await;
        match gets {
            true => assert_eq!(answer.unwrap().handled_by_collector_id, "a"),
            false => assert_eq!(verdict(&answer.unwrap_err()), (Code::Unavailable, "FETCH_REFUSED".into())),
        }
        assert_eq!(artifacts(&a), usize::from(gets));
        until("its line", async || log(&b).contains("forwarded:a:a/anonymous")).await;
        assert_eq!(log(&b).contains("denied"), !gets, "{}", log(&b));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_code_does_not_get_the_grants_of_what_is_here() {
    let [a, b] = mesh_of([("a", &["acme:invoker"]), ("b", &["acme:deployer"])]).await;
    let greeter = plugin("greeter");
    deploy(&b, &greeter).await;
    knows(&a, "b").await;
    // It is here too, answers nothing, and may do something.
    let header = plugins_pb::DeployHeader { keep_inactive: true, grants: vec!["config=a=b".into()], ..header() };
    deploy_with(&mut plugins(&a).await, header, &greeter.bytes).await.unwrap();
    let before = deployments(&a).await;
    let refused = dispatched(&a, place_here(&greeter)).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::AlreadyExists, "DEPLOYMENT_EXISTS".into()));
    assert_eq!(deployments(&a).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_a_peer_places_code_only_where_it_may_deploy() {
    // b takes calls of a, and its code; c calls only.
    let nodes = [("a", &["acme:deployer"][..]), ("b", &["acme:deployer"]), ("c", &["acme:invoker"])];
    let [a, b, c] = mesh_of(nodes).await;
    let greeter = plugin("greeter");
    deploy(&a, &greeter).await;
    for node in [&b, &c] {
        knows(node, "a").await;
    }
    let to = |id: &str| pb::DispatchRequest { target_collector_id: id.into(), ..place_here(&greeter) };
    assert_eq!(dispatched(&a, to("b")).await.unwrap().handled_by_collector_id, "b");
    let refused = dispatched(&a, to("c")).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::PermissionDenied, "DENIED".into()));
    assert!(deployments(&c).await.is_empty() && artifacts(&c) == 0);
    assert_eq!(deployments(&b).await.len(), 1);
    let odd = pb::DispatchRequest {
        routing_hints: [("place".to_owned(), "there".to_owned()), ("colour".to_owned(), "blue".to_owned())].into(),
        ..place_here(&greeter)
    };
    let refused = dispatched(&c, odd).await.unwrap_err();
    assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec!["routing_hints.place".to_owned()]));
    let unknown = pb::DispatchRequest { namespace: "rival".into(), ..place_here(&greeter) };
    assert_eq!(dispatched(&c, unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_takes_no_other_deployments_place() {
    let [a, b] = mesh_of([("a", &["acme:invoker"]), ("b", &["acme:deployer"])]).await;
    let greeter = plugin("greeter");
    let named = |name: &str| plugins_pb::DeployHeader { name: name.into(), ..header() };
    deploy_with(&mut plugins(&b).await, named("payments"), &greeter.bytes).await.unwrap();
    deploy_with(&mut plugins(&a).await, named("payments"), &plugin("streams").bytes).await.unwrap();
    knows(&a, "b").await;
    let refused = dispatched(&a, place_here(&greeter)).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::AlreadyExists, "DEPLOYMENT_EXISTS".into()));
    let there = deployments(&a).await;
    assert_eq!((there.len(), there[0].versions.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_goes_to_all_that_take_it_and_says_who_does_not() {
    let nodes = [("a", &["acme:admin"][..]), ("b", &["acme:deployer"]), ("c", &["acme:invoker"])];
    let [a, b, c] = mesh_of(nodes).await;
    let greeter = plugin("greeter");
    let to = |names: &[&str]| plugins_pb::DeployHeader {
        to: names.iter().map(|name| (*name).to_owned()).collect(),
        ..header()
    };
    let dry = plugins_pb::DeployHeader { validate_only: true, ..to(&["all"]) };
    let done = deploy_with(&mut plugins(&a).await, dry, &greeter.bytes).await.unwrap();
    assert_eq!((done.placed, deployments(&b).await.len()), (vec![], 0));

    let done = deploy_with(&mut plugins(&a).await, to(&["all"]), &greeter.bytes).await.unwrap();
    assert_eq!(done.version, 1);
    let said: Vec<_> = done.placed.iter().map(|one| (&*one.collector_id, one.version, &*one.reason)).collect();
    assert_eq!(said, [("b", 1, ""), ("c", 0, "DENIED")]);
    let found = deployments(&b).await;
    assert_eq!((found[0].name.as_str(), found[0].active_version), (GREETER, 1));
    assert!(deployments(&c).await.is_empty());
    assert_eq!(
        Stub::new(&b, &greeter).await.call("SayHello", json!({ "name": "you" })).await.unwrap().replies.len(),
        1
    );

    let done = deploy_with(&mut plugins(&a).await, to(&["nobody", "b", "a"]), &[]).await;
    assert_eq!(done.unwrap_err().code(), Code::InvalidArgument, "no bytes");
    let done = deploy_with(&mut plugins(&a).await, to(&["nobody", "b", "a"]), &greeter.bytes).await.unwrap();
    let said: Vec<_> = done.placed.iter().map(|one| (&*one.collector_id, one.version)).collect();
    assert_eq!(said, [("b", 1), ("nobody", 0)]);
    assert!(done.placed[1].error.contains("no link"), "{:?}", done.placed);
    for odd in [
        plugins_pb::DeployHeader { keep_inactive: true, ..to(&["all"]) },
        plugins_pb::DeployHeader { image: format!("tool@sha256:{}", "0".repeat(64)), ..to(&["all"]) },
        to(&["a/b"]),
        to(&["all", "b", ""]),
    ] {
        let refused = deploy_with(&mut plugins(&a).await, odd, &greeter.bytes).await.unwrap_err();
        assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec!["header.to".to_owned()]));
    }

    // Grants need more than the right to deploy there.
    let errands = plugin("errands");
    let granting = plugins_pb::DeployHeader { grants: with_grants(&GRANTS).grants, ..to(&["b"]) };
    let done = deploy_with(&mut plugins(&a).await, granting, &errands.bytes).await.unwrap();
    assert_eq!((done.version, &*done.placed[0].reason), (1, "DENIED"), "{:?}", done.placed);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_link_back_cannot_fetch() {
    let (here, there) = (reserve(), reserve());
    let b = node("b", &there, &[peer(&here, &["acme:deployer"])]).await;
    // a is a peer of b and takes nothing of it: b's link to a is refused.
    let a = TestNode::start_with(|config| {
        config.server.listen = reserve().parse().unwrap();
        config.server.advertised_address = here.clone();
        config.mesh.id = "a".into();
        config.peers = vec![peer(&there, &["acme:deployer"])];
    });
    let a = a.await;
    until("the link", async || a.node().mesh().topology().peers().count() == 1).await;
    let greeter = plugin("greeter");
    let to = plugins_pb::DeployHeader { to: vec!["b".into()], ..header() };
    let done = deploy_with(&mut plugins(&a).await, to, &greeter.bytes).await.unwrap();
    assert_eq!((done.version, &*done.placed[0].reason), (1, "NO_LINK"), "{:?}", done.placed);
    assert!(deployments(&b).await.is_empty() && artifacts(&b) == 0);
}

#[tokio::test]
async fn m03_nobody_reads_or_places_code_but_over_a_link() {
    let node = TestNode::start().await;
    let digest = format!("sha256:{}", plugin("greeter").artifact.digest);
    deploy(&node, &plugin("greeter")).await;
    let mut client = mesh_pb::mesh_client::MeshClient::new(channel(&node.address()).await);
    let fetch = mesh_pb::FetchRequest { namespace: "acme".into(), digest: digest.clone() };
    let refused = client.fetch(fetch).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::PermissionDenied, "NOT_A_PEER".into()));
    let place = mesh_pb::PlaceRequest { namespace: "acme".into(), digest, ..Default::default() };
    let refused = client.place(place).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::PermissionDenied, "NOT_A_PEER".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_to_others_on_the_command_line() {
    let nodes = [("a", &["acme:admin"][..]), ("b", &["acme:deployer"]), ("c", &["acme:invoker"])];
    let [a, b, _c] = mesh_of(nodes).await;
    let run = |to: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["--json", "plugin", "deploy", "--namespace", "acme", "--to", to, "--node", &a.address()]);
        let done = command.arg(component("greeter")).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        (done.status.code(), said["placed"].clone(), text(&done.stderr))
    };
    let live = json!({ "collector_id": "b", "version": 1, "error": null, "reason": null });
    let (code, placed, _) = run("b");
    assert_eq!((code, placed), (Some(0), json!([live])));
    let (code, placed, said) = run("b,c");
    assert_eq!((code, &placed[0], &placed[1]["reason"]), (Some(1), &live, &json!("DENIED")), "{placed}");
    assert!(said.contains("1 of 2 collectors did not deploy it"), "{said}");
    assert_eq!(deployments(&b).await.len(), 1);
}
