//! The node as a process: starting, listening, logging, stopping.

use crate::support::*;
use collector::cli::NodeClient;
use rustix::process::Signal;
use serde_json::json;
use std::process::Command;
use std::time::Duration;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const CORE: [&str; 5] = [
    "",
    "collector.CollectorRegistry",
    "collector.CollectionService",
    "collector.CollectiveDispatcher",
    "collector.CollectionRepo",
];

async fn health(address: &str) -> HealthClient<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned()).unwrap();
    HealthClient::new(endpoint.connect().await.unwrap())
}

async fn status(client: &mut HealthClient<tonic::transport::Channel>, service: &str) -> Result<i32, Code> {
    let request = HealthCheckRequest { service: service.into() };
    client.check(request).await.map(|reply| reply.into_inner().status).map_err(|status| status.code())
}

/// Calls of misbehave's Sleep that have begun.
fn sleeps(node: &NodeProcess) -> usize {
    node.log().matches("about to sleep").count()
}

#[tokio::test]
async fn a_started_node_reports_every_core_service_healthy() {
    let node = TestNode::start().await;
    let mut client = health(&format!("http://{}", node.node().address())).await;
    for service in CORE {
        assert_eq!(status(&mut client, service).await, Ok(ServingStatus::Serving.into()), "{service}");
    }
    assert_eq!(status(&mut client, "no.Such").await, Err(Code::NotFound));
}

#[tokio::test]
async fn x10_sigterm_finishes_calls_in_flight_and_ends_cleanly() {
    let data = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = NodeProcess::start(data.path(), &[]);
        let misbehave = plugin("misbehave");
        Call::new(&misbehave, "Sleep", amount(0)).run(&node.client().await).await.unwrap();
        let mut watch = health(&node.address).await.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        let seen = |reply: Option<HealthCheckResponse>| reply.map(|reply| reply.status);
        assert_eq!(seen(watch.message().await.unwrap()), Some(ServingStatus::Serving.into()));

        let client = node.client().await;
        let call = tokio::spawn(async move {
            Call::new(&plugin("misbehave"), "Sleep", amount(1_500)).by_digest().run(&client).await
        });
        until("the guest sleeps", async || sleeps(&node) == 2).await;
        node.signal(signal);
        assert_eq!(seen(watch.message().await.unwrap()), Some(ServingStatus::NotServing.into()));
        assert_eq!(call.await.unwrap().unwrap().reply["amount"], "1500", "a call in flight gets its answer");
        assert!(node.wait().success(), "{}", node.log());
        drop(watch); // open to the end: a watcher does not hold up the drain
        assert!(NodeClient::connect(&node.address).await.is_err(), "nobody listens any more");
    }
}

#[tokio::test]
async fn guests_that_outlive_the_grace_period_are_stopped_with_unavailable() {
    let data = tempfile::tempdir().unwrap();
    let mut node = NodeProcess::start(data.path(), &["server.grace_ms=200"]);
    Call::new(&plugin("misbehave"), "Sleep", amount(0)).run(&node.client().await).await.unwrap();
    let client = node.client().await;
    let call =
        tokio::spawn(
            async move { Call::new(&plugin("misbehave"), "Sleep", amount(60_000)).by_digest().run(&client).await },
        );
    until("the guest sleeps", async || sleeps(&node) == 2).await;
    node.signal(Signal::TERM);
    assert_verdict(call.await.unwrap(), Code::Unavailable, "DRAINING");
    assert!(node.wait().success(), "{}", node.log());
}

#[tokio::test]
async fn x09_a_second_node_on_one_data_folder_ends_and_the_first_is_unharmed() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &[]);
    let second = Command::new(env!("CARGO_BIN_EXE_collector"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another node is using the data folder") && said.contains("--data"), "{said}");
    let called = Call::new(&plugin("greeter"), "SayHello", json!({ "name": "Ada" })).run(&node.client().await).await;
    assert_eq!(called.unwrap().reply["text"], "Hello, Ada!");
}

#[test]
fn listening_beyond_loopback_needs_to_be_said() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["serve", "--json", "--listen", "0.0.0.0:0", "--data"]).arg(data.path());
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("refusing to listen on 0.0.0.0:0") && said.contains("--insecure"), "{said}");
    command.arg("--insecure");
    let node = NodeProcess::spawn(command);
    assert!(node.address.starts_with("http://0.0.0.0:"), "{}", node.address);
}

#[tokio::test]
async fn a_guests_words_reach_the_log_escaped_and_bounded() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &["log.format=json"]);
    let client = node.client().await;
    let misbehave = plugin("misbehave");
    let text = "boom\n{\"level\":\"INFO\",\"forged\":true}\u{1b}[31m";
    Call::new(&misbehave, "Panic", json!({ "text": text })).run(&client).await.unwrap_err();
    Call::new(&misbehave, "FloodLog", json!({ "amount": "100000", "text": "flood" })).run(&client).await.unwrap();
    until("the flood is reported", async || node.log().contains("bytes of log dropped")).await;
    let log = node.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line.get("forged").is_none()));
    let guest: Vec<_> = lines.iter().filter(|line| line["target"] == "guest").collect();
    let panic = guest.iter().find(|line| line["fields"]["message"].as_str().unwrap().contains("boom\\n")).unwrap();
    assert_eq!(panic["level"], "ERROR");
    assert_eq!(panic["fields"]["namespace"], "acme");
    assert_eq!(panic["fields"]["service"], "misbehave.v1.Misbehave");
    assert!(guest.iter().all(|line| line["span"]["request"].is_string()), "every line names its request");
    let flood = guest.iter().filter(|line| line["fields"]["message"].as_str().unwrap().contains("flood")).count();
    assert!((1..=1_024).contains(&flood), "64 KiB in lines of at least 64 bytes: {flood}");
}

#[tokio::test]
async fn t11_odd_timeouts_are_refused_before_anything_runs() {
    let node = TestNode::start().await;
    for odd in ["-1S", "1x", "123456789S", ""] {
        let mut client = health(&format!("http://{}", node.node().address())).await;
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert("grpc-timeout", odd.parse().unwrap());
        assert_eq!(client.check(request).await.unwrap_err().code(), Code::InvalidArgument, "{odd:?}");
    }
}

#[tokio::test]
async fn t06_t13_connections_that_do_not_speak_http_give_their_place_back() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let node = TestNode::start_with(|config| config.server.connections = 4).await;
    let dial = async || tokio::net::TcpStream::connect(node.node().address()).await.unwrap();
    // One place is the client's own. The silent and the dribbling one end by the clock, the other at once.
    let (mut silent, mut dribbling, mut wrong) = (dial().await, dial().await, dial().await);
    dribbling.write_all(b"PRI * HT").await.unwrap();
    wrong.write_all(b"\x16\x03\x01\x02\x00\x01\x00").await.unwrap(); // a TLS hello
    let mut rest = Vec::new();
    for stream in [&mut wrong, &mut silent, &mut dribbling] {
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the node ends it");
    }
    assert!(rest.is_empty(), "without a word");
    let mut client = health(&format!("http://{}", node.node().address())).await;
    assert_eq!(status(&mut client, "").await, Ok(ServingStatus::Serving.into()));
}

#[tokio::test]
async fn t07_a_body_that_never_ends_is_given_up_at_the_deadline() {
    let node = TestNode::start_with(|config| config.limits.deadline_ms = 500).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", node.node().address())).unwrap();
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/collector.CollectiveDispatcher/Serve");
    let never = tokio_stream::pending::<collector::rpc::pb::ServeRequest>();
    let codec = tonic_prost::ProstCodec::<_, collector::rpc::pb::ServeResponse>::default();
    let call = grpc.streaming(tonic::Request::new(never), path, codec);
    let answer = tokio::time::timeout(Duration::from_secs(20), call).await.expect("the node gives up on its own");
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
}

#[test]
fn the_configuration_in_force_can_be_seen_and_typos_are_refused() {
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.arg("serve").args(args).env("COLLECTOR_LIMITS__MEMORY_MIB", "32").output().unwrap()
    };
    let shown = run(&["--print-config", "--set", "limits.fuel=5"]);
    let shown: toml::Table = String::from_utf8(shown.stdout).unwrap().parse().unwrap();
    assert_eq!(shown["limits"]["memory_mib"].as_integer(), Some(32));
    assert_eq!(shown["limits"]["fuel"].as_integer(), Some(5));
    assert_eq!(shown["server"]["listen"].as_str(), Some("127.0.0.1:50051"));
    let refused = run(&["--print-config", "--set", "limits.memroy_mib=5"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("memroy_mib"));
}
