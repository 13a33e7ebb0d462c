//! Connections that say nothing, too many of them, old and idle ones.

use super::raw::*;
use super::{Victim, serves};
use crate::support::*;
use collector::cli::NodeClient;
use collector::rpc::pb;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_types::StatusExt as _;

/// Another address of this machine, so that the crowd and the others are not one.
const CROWD: [u8; 4] = [127, 0, 0, 2];

/// Waits until the node closes it, without a word, or with an alert of TLS.
async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the node closes it");
    let is_alert = said.first() == Some(&21) && said.len() == 7;
    assert!(ended.is_err() || said.is_empty() || is_alert, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t06_sockets_that_dribble_are_closed_and_keep_nobody_out() {
    for settings in
        [&["server.handshakes=32"][..], &["server.connections_per_address=1000", "server.tls.self_signed=true"]]
    {
        let data = tempfile::tempdir().unwrap();
        let node = NodeProcess::start(&data.path().join("data"), settings);
        let before = descriptors(node.id());
        let began = Instant::now();
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..300 {
            let mut stream = dial_from(&node.address, CROWD).await.unwrap();
            crowd.spawn(async move {
                // A TLS hello, a preface, or silence; in the beginning of each.
                let said: &[u8] = [&b"\x16\x03\x01\x02\x00"[..], b"PRI * HT", b""][n % 3];
                let _ = stream.write_all(said).await;
                closed(stream).await;
            });
        }
        // Meanwhile another address comes in.
        let client = match settings.len() {
            1 => NodeClient::connect(&node.address).await,
            _ => {
                let ca = Some(data.path().join("data/tls/certificate.pem"));
                NodeClient::connect_with(&node.address, &collector::cli::Access { ca, ..Default::default() }).await
            }
        };
        client.unwrap();
        while let Some(ended) = crowd.join_next().await {
            ended.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(12), "5 s and some for a slow machine: {:?}", began.elapsed());
        until("descriptors come back", async || descriptors(node.id()) <= before).await;
        let log = node.log();
        let lines = log.matches("connections were closed at once").count();
        assert!((1..=15).contains(&lines), "one line a second: {lines}");
    }
}

#[tokio::test]
async fn connections_of_one_address_below_at_and_above_the_limit() {
    let node = TestNode::start_with(|config| config.server.connections_per_address = 2).await;
    let address = node.address();
    let holds = async || {
        let mut raw = Raw::over(dial_from(&address, CROWD).await.unwrap(), &[]).await;
        raw.send(&frame(PING, 0, 0, &[7; 8])).await.ok()?;
        raw.find(|frame| frame.kind == PING && frame.flags & ACK != 0).await.map(|_| raw)
    };
    let (first, _second) = (holds().await.unwrap(), holds().await.unwrap());
    assert!(holds().await.is_none(), "the third is closed at once");
    serves(&address).await;
    drop(first);
    until("its place is free", async || holds().await.is_some()).await;
}

#[tokio::test]
async fn connections_of_everybody_below_at_and_above_the_limit() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(&data.path().join("data"), &["server.connections=4"]);
    let address = node.address.clone();
    let holds = async |from: u8| {
        let mut raw = Raw::over(dial_from(&address, [127, 0, 0, from]).await.unwrap(), &[]).await;
        raw.send(&frame(PING, 0, 0, &[7; 8])).await.ok()?;
        raw.find(|frame| frame.kind == PING && frame.flags & ACK != 0).await.map(|_| raw)
    };
    let mut held = Vec::new();
    for from in 2..=5 {
        held.push(holds(from).await.unwrap_or_else(|| panic!("127.0.0.{from} is below or at the limit")));
    }
    assert!(holds(6).await.is_none(), "the fifth is closed at once, whoever it is");
    held.pop();
    until("its place is free", async || holds(6).await.is_some()).await;
}

#[tokio::test] // One thread: the node takes in nobody while this one connects.
async fn who_had_connected_when_a_node_stops_is_answered() {
    let mut node = TestNode::start().await;
    let address: SocketAddr = node.address().split("://").last().unwrap().parse().unwrap();
    let connected = |said: &[u8]| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(said).unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    };
    let call = [open_call(1, "/collector.CollectionService/Meta"), frame(DATA, END_STREAM, 1, &prefix(false, 0))];
    let call = [hello(&[]), call.concat()].concat();
    let plain: Vec<_> = (0..10).map(|_| connected(b"GET /none HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    let multiplexed: Vec<_> = (0..10).map(|_| Raw::greeted(connected(&call))).collect();
    let answers = async {
        for (number, mut stream) in plain.into_iter().enumerate() {
            let mut said = Vec::new();
            let read = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the node closes it");
            assert!(said.starts_with(b"HTTP/1.1 404"), "{number}: {read:?} {said:?}");
        }
        for (number, mut raw) in multiplexed.into_iter().enumerate() {
            let answer = raw.answer(1).await;
            assert_eq!(answer.unwrap_or_default().get("grpc-status").map(String::as_str), Some("0"), "{number}");
        }
    };
    tokio::join!(node.node.take().unwrap().stop(), answers);
}

#[tokio::test]
async fn t05_an_answer_that_nobody_reads_holds_its_place_for_a_while_and_no_longer() {
    let node = TestNode::start_with(|config| (config.server.calls, config.server.unread_s) = (1, 2)).await;
    let address = node.address();
    let mut raw = Raw::connect(&address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    raw.send(&open_call(1, "/collector.CollectionService/Meta")).await.unwrap();
    raw.send(&frame(DATA, END_STREAM, 1, &prefix(false, 0))).await.unwrap();
    assert!(raw.find(|frame| frame.kind == HEADERS && frame.stream == 1).await.is_some(), "it is answered");
    let records = Client::connect(&address).await.records;
    let meta = async || records.clone().meta(pb::MetaRequest {}).await.map(drop).map_err(|why| verdict(&why));
    assert_eq!(meta().await, Err((Code::ResourceExhausted, "BUSY".into())), "the one place is taken");
    until("the place is free", async || meta().await.is_ok()).await;
    // Its client is told, should it come back.
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &(1_u32 << 20).to_be_bytes())).await.unwrap();
    let answer = raw.answer(1).await.unwrap();
    assert_eq!(answer.get("grpc-status").map(String::as_str), Some("4"), "{answer:?}");
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_may_finish() {
    let node = TestNode::start_with(|config| config.server.age_s = 1).await;
    let mut raw = Raw::connect(&node.address(), &[]).await;
    raw.send(&open_call(1, REFLECTION)).await.unwrap();
    let told = raw.find(|frame| frame.kind == GOAWAY).await.expect("it is told before it is closed");
    assert_eq!(told.code(), 0);
    let message = [prefix(false, 3), vec![0x3a, 1, b'*']].concat(); // list_services
    raw.send(&frame(DATA, END_STREAM, 1, &message)).await.unwrap();
    let answer = raw.answer(1).await.expect("the call goes on");
    assert_eq!(answer.get("grpc-status").map(String::as_str), Some("0"), "{answer:?}");
    assert!(raw.find(|_| false).await.is_none(), "and then it is closed");
}

#[tokio::test]
async fn what_runs_on_an_old_connection_has_its_time() {
    let node = TestNode::start_with(|config| (config.server.age_s, config.server.age_grace_s) = (1, 1)).await;
    let mut raw = Raw::connect(&node.address(), &[]).await;
    raw.send(&open_call(1, REFLECTION)).await.unwrap();
    assert!(raw.find(|frame| frame.kind == GOAWAY).await.is_some());
    assert!(raw.find(|_| false).await.is_none(), "it is cut");
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_a_busy_one_is_not() {
    let node = TestNode::start_with(|config| config.server.idle_s = 1).await;
    let mut busy = Raw::connect(&node.address(), &[]).await;
    busy.send(&open_call(1, REFLECTION)).await.unwrap();
    let mut idle = Raw::connect(&node.address(), &[]).await;
    assert!(idle.find(|frame| frame.kind == GOAWAY).await.is_some());
    assert!(idle.find(|_| false).await.is_none());
    busy.send(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
    let said = busy.find(|frame| frame.kind == GOAWAY || frame.kind == PING && frame.flags & ACK != 0).await.unwrap();
    assert_eq!(said.kind, PING);
}

/// A stream would keep its connection for minutes after whoever opened it is gone.
#[tokio::test]
async fn who_gives_no_sign_of_life_is_cut_off_and_who_does_is_not() {
    const ASKED_AND_WAITED_FOR: Duration = Duration::from_secs(30 + 10);
    let node = TestNode::start().await;
    let mut alive = Raw::connect(&node.address(), &[]).await;
    alive.send(&open_call(1, REFLECTION)).await.unwrap();
    let mut gone = dial_from(&node.address(), CROWD).await.unwrap();
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[]), open_call(1, REFLECTION)];
    gone.write_all(&hello.concat()).await.unwrap();
    let began = Instant::now();
    let mut said = Vec::new();
    let cut = async {
        let _ = timeout(ASKED_AND_WAITED_FOR * 2, gone.read_to_end(&mut said)).await.expect("it is cut off");
        began.elapsed()
    };
    let pinged =
        async { while alive.next_within(ASKED_AND_WAITED_FOR * 2).await.is_some_and(|one| one.kind != PING) {} };
    let (cut, ()) = tokio::join!(cut, pinged);
    assert!(cut >= ASKED_AND_WAITED_FOR - Duration::from_secs(1), "after {cut:?}");
    alive.send(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
    let answered = alive.find(|frame| frame.kind == PING && frame.flags & ACK != 0).await;
    assert!(answered.is_some(), "who answered is still there");
}

#[tokio::test]
async fn a_silent_stream_of_the_nodes_own_ends() {
    let node = TestNode::start_with(|config| config.limits.stream_idle_ms = 200).await;
    let mut raw = Raw::connect(&node.address(), &[]).await;
    raw.send(&open_call(1, REFLECTION)).await.unwrap();
    let answer = raw.answer(1).await.unwrap();
    assert_eq!(answer.get("grpc-status").map(String::as_str), Some("4"), "{answer:?}");
}

#[tokio::test]
async fn calls_in_flight_below_at_and_above_the_limit() {
    let node = TestNode::start_with(|config| config.server.calls = 2).await;
    let mut raw = Raw::connect(&node.address(), &[]).await;
    let held: Vec<u8> = [1, 3].iter().flat_map(|stream| open_call(*stream, REFLECTION)).collect();
    raw.send(&held).await.unwrap();
    raw.send(&open_call(5, REFLECTION)).await.unwrap();
    let refused = raw.answer(5).await.unwrap();
    assert_eq!(refused.get("grpc-status").map(String::as_str), Some("8"), "{refused:?}");
    let mut stock =
        collector::rpc::pb::collector_registry_client::CollectorRegistryClient::new(channel(&node.address()).await);
    let busy = stock.lookup_service(collector::rpc::pb::LookupServiceRequest::default()).await.unwrap_err();
    assert_eq!(verdict(&busy), (Code::ResourceExhausted, "BUSY".into()));
    assert!(busy.get_details_retry_info().and_then(|info| info.retry_delay).is_some());
    serves(&node.address()).await;
    drop(raw);
    let free = async || {
        let answer = stock.clone().lookup_service(collector::rpc::pb::LookupServiceRequest::default()).await;
        answer.unwrap_err().code() != Code::ResourceExhausted
    };
    until("there is room again", free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t13_noise_and_other_protocols_are_closed() {
    let victim = Victim::start(&[]).await;
    for noise in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-OpenSSH_9.9\r\n", b"\0\0\0\0", &[0xff; 64]]
    {
        let mut stream = dial_from(victim.address(), [127, 0, 0, 1]).await.unwrap();
        stream.write_all(noise).await.unwrap();
        closed(stream).await;
    }
    let mut settings = Raw::connect(victim.address(), &[]).await;
    settings.send(&frame(SETTINGS, 0, 0, &[0; 5])).await.unwrap();
    assert!(settings.find(|frame| frame.kind == GOAWAY).await.is_some(), "a frame of a wrong size");
    victim.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t14_a_node_without_descriptors_serves_again_when_it_has_some() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let settings = ["server.connections=2000", "server.connections_per_address=2000"];
    command.args(["-c", "ulimit -n 160; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_collector"), "serve", "--json"]);
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path().join("data"));
    for setting in settings {
        command.args(["--set", setting]);
    }
    let victim = Victim::of(NodeProcess::spawn(command), data).await;
    let mut crowd = Vec::new();
    for _ in 0..250 {
        crowd.push(Raw::over(dial_from(victim.address(), CROWD).await.unwrap(), &[]).await);
    }
    until("there are no descriptors left", async || victim.node.log().contains("exhausted")).await;
    drop(crowd);
    let released = Instant::now();
    serves(victim.address()).await;
    assert!(released.elapsed() < Duration::from_secs(5), "1 s, and some for a slow machine: {:?}", released.elapsed());
    victim.is_well().await;
}
