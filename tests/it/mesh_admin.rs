//! Peers, as operators deal with them: over gRPC and on the command line, with and without certificates.

use crate::auth::Guarded;
use crate::mesh_links::reserve;
use crate::support::*;
use bytes::Bytes;
use collector::config::Config;
use collector::mesh::{Entry, Phase};
use collector::node::Node;
use collector::rpc::pb::admin::v1 as pb;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use pb::peers_client::PeersClient;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tonic::transport::Channel;
use tonic::{Code, Status};

async fn node(id: &str) -> TestNode {
    let at = reserve();
    TestNode::start_with(|config| {
        config.server.listen = at.parse().unwrap();
        config.mesh.id = id.into();
    })
    .await
}

fn at(node: &TestNode) -> String {
    node.node().address().to_string()
}

async fn peers(node: &TestNode) -> PeersClient<Channel> {
    PeersClient::new(channel(&node.address()).await)
}

fn request(address: &str, allows: &[&str]) -> pb::AddPeerRequest {
    let allows = allows.iter().map(|text| (*text).to_owned()).collect();
    pb::AddPeerRequest { address: address.into(), identity: String::new(), allows }
}

async fn add(node: &TestNode, address: &str, allows: &[&str]) -> Result<pb::Peer, Status> {
    let added = peers(node).await.add(request(address, allows)).await?;
    Ok(added.into_inner().peer.unwrap())
}

async fn list(node: &TestNode) -> Vec<pb::Peer> {
    peers(node).await.list(pb::ListPeersRequest {}).await.unwrap().into_inner().peers
}

async fn only(node: &TestNode) -> pb::Peer {
    let mut all = list(node).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_added_listed_and_removed_while_nodes_run() {
    let (mut a, b) = (node("a").await, node("b").await);
    assert_eq!(list(&a).await, []);
    let added = add(&a, &at(&b), &["*:invoker"]).await.unwrap();
    assert!(!added.configured && added.created_at.is_some() && added.allows == ["*:invoker"]);
    // The other does not know it yet, and says so.
    until("the refusal", async || only(&a).await.state() == pb::peer::State::Refused).await;
    assert!(only(&a).await.last_error.contains("PermissionDenied"), "{:?}", only(&a).await);
    add(&b, &at(&a), &["*:invoker"]).await.unwrap();
    for (node, other) in [(&a, "b"), (&b, "a")] {
        until("the link", async || only(node).await.state() == pb::peer::State::Linked).await;
        let peer = only(node).await;
        assert_eq!((peer.collector_id.as_str(), peer.in_flight), (other, 0));
        assert!(peer.since.is_some() && peer.version == env!("CARGO_PKG_VERSION"), "{peer:?}");
    }
    let greeter = plugin("greeter");
    deploy(&b, &greeter).await;
    until("the offer", async || only(&a).await.offers == 1).await;
    let stub = Stub::new(&a, &greeter).await;
    let reply = stub.call("SayHello", json!({ "name": "you" })).await.unwrap();
    assert_eq!(reply.receipt("collector-version"), "1");

    a.restart().await;
    until("the link after a restart", async || only(&a).await.state() == pb::peer::State::Linked).await;
    let gone = peers(&a).await.remove(pb::RemovePeerRequest { address: at(&b) }).await.unwrap().into_inner();
    assert_eq!(gone.peer.unwrap().address, at(&b));
    until("the cut", async || a.node().mesh().topology().peers().count() == 0 && a.node().links().is_empty()).await;
    // The link of the other side is cut as well: it is nobody here any more.
    until("the other cut", async || only(&b).await.state() == pb::peer::State::Refused).await;
    assert_eq!(b.node().mesh().topology().peers().count(), 0);
    assert_eq!(list(&a).await, []);
    let refused = Stub::new(&a, &greeter).await.call("SayHello", json!({})).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::Unimplemented, "NO_SERVICE".into()));
    a.restart().await;
    assert_eq!(list(&a).await, []);
}

#[tokio::test]
async fn m05_what_is_no_peer_is_refused_and_never_dialled() {
    let configured = reserve();
    let a = TestNode::start_with(|config| {
        config.peers = vec![collector::mesh::Entry { address: configured.clone(), ..Default::default() }];
    });
    let a = a.await;
    for address in ["", "host", "http://127.0.0.1:1", "unix:/tmp/x", "file:///etc", "u:p@h:1", "a:1\r\nx: y", "h:0"] {
        let refused = add(&a, address, &[]).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::InvalidArgument, "INVALID_ARGUMENT".into()), "{address}");
    }
    for (allows, field) in [("acme", "allows[0]"), ("acme:root", "allows[0]"), ("a/b:reader", "allows[0]")] {
        let refused = add(&a, "127.0.0.1:1", &[allows]).await.unwrap_err();
        assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let many = |count: usize| (0..count).map(|n| format!("n{n}:reader")).collect::<Vec<_>>();
    let with = |count: usize| pb::AddPeerRequest { allows: many(count), ..request("127.0.0.1:1", &[]) };
    let mut client = peers(&a).await;
    assert_eq!(client.add(with(65)).await.unwrap_err().code(), Code::InvalidArgument);
    client.add(with(64)).await.unwrap();
    let identity = pb::AddPeerRequest { identity: "spiffe://d/collector/x".into(), ..request("127.0.0.1:2", &[]) };
    let refused = client.add(identity).await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["identity"], "there is nothing to check it with");
    let theirs = |why: Status| verdict(&why);
    let own = (Code::FailedPrecondition, "PEER_CONFIGURED".to_owned());
    assert_eq!(theirs(add(&a, &configured, &[]).await.unwrap_err()), own);
    let remove = async |address: &str| {
        let removed = peers(&a).await.remove(pb::RemovePeerRequest { address: address.into() }).await;
        theirs(removed.unwrap_err())
    };
    assert_eq!(remove(&configured).await, own);
    assert_eq!(remove("127.0.0.1:9").await, (Code::NotFound, "PEER_NOT_FOUND".into()));
    let all = list(&a).await;
    assert_eq!(all.iter().map(|one| one.configured).collect::<Vec<_>>(), [true, false], "{all:?}");
    let dialled: Vec<String> = a.node().links().into_iter().map(|link| link.address).collect();
    assert!(dialled.iter().all(|one| *one == configured || one == "127.0.0.1:1"), "{dialled:?}");
}

#[tokio::test]
async fn only_operators_look_after_peers() {
    let node = Guarded::start().await;
    let (_, admin) = node.key(&["acme:admin"]).await;
    let client = |secret: &str| PeersClient::new(node.signed(secret));
    let refused = client(&admin).add(request("127.0.0.1:1", &[])).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::PermissionDenied, "DENIED".into()));
    let refused = client("").list(pb::ListPeersRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = client(&node.admin).add(request("127.0.0.1:1", &[])).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::FailedPrecondition, "NO_IDENTITIES".into()));
    assert!(refused.message().contains("server.tls.certificate"), "{}", refused.message());
    assert_eq!(client(&node.admin).list(pb::ListPeersRequest {}).await.unwrap().into_inner().peers, []);

    // Where nobody is asked, anybody who reaches the node could be anybody.
    let open = TestNode::start_with(|config| {
        config.server.listen = "0.0.0.0:0".parse().unwrap();
        config.server.insecure = true;
    });
    let open = open.await;
    let reached = format!("http://127.0.0.1:{}", open.node().address().port());
    let mut client = PeersClient::new(channel(&reached).await);
    let refused = client.add(request("127.0.0.1:1", &[])).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::FailedPrecondition, "AUTH_OFF".into()));
    assert_eq!(client.list(pb::ListPeersRequest {}).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_on_the_command_line() {
    let cli = Cli::start();
    assert!(cli.says(&["peer", "list"]).contains("collector peer add"));
    let added = cli.json(&["peer", "add", "127.0.0.1:9", "--allow", "acme:invoker", "--allow", "*:reader"]);
    assert_eq!((&added["address"], &added["allows"]), (&json!("127.0.0.1:9"), &json!(["acme:invoker", "*:reader"])));
    let listed = cli.json(&["peer", "list"]);
    assert_eq!(listed["peers"][0]["address"], "127.0.0.1:9", "{listed}");
    assert_eq!(listed["peers"][0]["configured"], false);
    until("the try", async || cli.says(&["peer", "list"]).contains("dialling")).await;
    let said = cli.fails(64 + 3, &["peer", "add", "nonsense"]);
    assert!(said.contains("host:port"), "{said}");
    assert!(cli.says(&["peer", "remove", "127.0.0.1:9"]).contains("no peer any more"));
    let said = cli.fails(64 + 5, &["peer", "remove", "127.0.0.1:9"]);
    assert!(said.contains("PEER_NOT_FOUND") && said.contains("collector peer list"), "{said}");
}

fn init(folder: &Path, nodes: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["--json", "peer", "init", "--trust-domain", "mesh.test", "--out"]).arg(folder).args(nodes);
    command.output().unwrap()
}

fn made(folder: &Path, nodes: &[&str]) -> Value {
    let done = init(folder, nodes);
    assert!(done.status.success(), "{}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Starts a node with the configuration that `init` printed, but for where it listens and what its peers may.
async fn certified(home: &Path, said: &Value) -> Node {
    let id = said["id"].as_str().unwrap();
    let file = home.join(format!("{id}.toml"));
    std::fs::write(&file, said["config"].as_str().unwrap()).unwrap();
    let mut config = Config::load(Some(&file), [], &[]).unwrap();
    let small = test_config();
    config.server.listen = said["address"].as_str().unwrap().parse().unwrap();
    config.mesh.link_s = 2;
    (config.wasm, config.exec, config.data) = (small.wasm, small.exec, home.join(id));
    for peer in &mut config.peers {
        peer.allows = vec!["acme:invoker".parse().unwrap()];
    }
    Node::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_init_makes_all_that_nodes_need_to_know_each_other() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("pki");
    let named = ["a", "b"].map(|id| format!("{id}={}", reserve()));
    let said = made(&folder, &[&named[0], &named[1]]);
    let mode = |file: &Value| {
        let file = PathBuf::from(file.as_str().unwrap());
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&said["authority_key"]), 0o600);
    for node in said["nodes"].as_array().unwrap() {
        assert_eq!((mode(&node["key"]), mode(&node["certificate"])), (0o600, 0o644));
    }
    assert_eq!(said["nodes"][1]["identity"], "spiffe://mesh.test/collector/b");
    let a = certified(home.path(), &said["nodes"][0]).await;
    let b = certified(home.path(), &said["nodes"][1]).await;
    assert_eq!((a.id(), b.id()), ("a", "b"));
    for node in [&a, &b] {
        until("the link", async || node.links().iter().all(|link| link.phase == Phase::Linked)).await;
    }

    // What is taken back ends links: those that it opened at once, those to it when they are made anew.
    let revoke = |domain: &str, name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["--json", "peer", "revoke", "--trust-domain", domain, "--out"]).arg(&folder).arg(name);
        command.output().unwrap()
    };
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut nothing = Command::new(env!("CARGO_BIN_EXE_collector"));
    nothing.args(["peer", "revoke", "--trust-domain", "mesh.test", "--out"]).arg(&empty).arg("b");
    assert!(!nothing.status().unwrap().success());
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "no authority is made to take nothing back");
    for (domain, name) in [("other.test", "b"), ("mesh.test", "z")] {
        assert!(!revoke(domain, name).status.success(), "{domain} {name}");
    }
    for node in [&a, &b] {
        assert!(node.links().iter().all(|link| link.phase == Phase::Linked));
    }
    for _ in 0..2 {
        let done = revoke("mesh.test", "b");
        assert!(done.status.success(), "{}", text(&done.stderr));
        let said: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(said["count"], 1, "once more changes nothing");
    }
    for node in [&a, &b] {
        until("the end of the links", async || node.links().iter().all(|link| link.phase != Phase::Linked)).await;
    }

    // A node that comes later is signed by the same authority; nothing that is there is made again.
    let again = init(&folder, &["b"]);
    assert!(!again.status.success() && text(&again.stderr).contains("is there already"), "{}", text(&again.stderr));
    let authority = std::fs::read(folder.join("ca.pem")).unwrap();
    let late = made(&folder, &["c", "d=[::1]:7"]);
    assert_eq!(std::fs::read(folder.join("ca.pem")).unwrap(), authority);
    assert!(late["nodes"][0]["config"].as_str().unwrap().contains("address = \"[::1]:7\""));
    let mut other = Command::new(env!("CARGO_BIN_EXE_collector"));
    other.args(["peer", "init", "--trust-domain", "other.test", "--out"]).arg(&folder).arg("e");
    let other = other.output().unwrap();
    assert!(!other.status.success() && text(&other.stderr).contains("--trust-domain"), "{}", text(&other.stderr));
    assert!(!folder.join("e.pem").exists() && !folder.join("e.key.pem").exists());
}

/// What `GET /metrics` answers: the status, and the text.
async fn metrics(node: &Node, bearer: Option<&str>) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut request = http::Request::get(format!("http://{}/metrics", node.address()));
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let answer = client.request(request.body(Full::default()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_counted_for_who_runs_the_node() {
    let (here, there) = (reserve(), reserve());
    let start = async |id: &str, at: &str, other: &str| {
        let entry = Entry { address: other.into(), allows: vec!["*:invoker".parse().unwrap()], ..Entry::default() };
        TestNode::start_with(|config| {
            config.mesh.id = id.into();
            config.server.listen = at.parse().unwrap();
            config.peers = vec![entry];
        })
        .await
    };
    let (a, b) = tokio::join!(start("a", &here, &there), start("b", &there, &here));
    until("the link", async || a.node().links().iter().all(|link| link.phase == Phase::Linked)).await;
    deploy(&b, &plugin("greeter")).await;
    let greeter = plugin("greeter");
    let stub = Stub::new(&a, &greeter).await;
    until("a call", async || stub.call("SayHello", serde_json::json!({ "name": "Ada" })).await.is_ok()).await;
    let (status, said) = metrics(a.node(), None).await;
    assert_eq!(status, 200);
    let line = |name: &str, more: &str| format!("{name}{{address=\"{there}\",peer=\"b\"{more}}} 1\n");
    for line in [
        line("collector_link_up", ""),
        line("collector_link_services", ""),
        line("collector_link_ups_total", ""),
        line("collector_link_calls_total", ",outcome=\"answered\""),
        "# TYPE collector_calls gauge\n".to_owned(),
        "# EOF\n".to_owned(),
    ] {
        assert!(said.contains(&line), "{line} in {said}");
    }

    let guarded = Guarded::start().await;
    let (_, reader) = guarded.key(&["acme:admin"]).await;
    assert_eq!(metrics(&guarded.node, None).await.0, 401);
    assert_eq!(metrics(&guarded.node, Some("nobody")).await.0, 401);
    assert_eq!(metrics(&guarded.node, Some(&reader)).await.0, 403);
    assert_eq!(metrics(&guarded.node, Some(&guarded.admin)).await.0, 200);
}
