//! What goes along with a call, and what is counted of it.

use super::impostor::*;
use super::lies::peer_of;
use super::*;
use collector::domain::Namespace;
use collector::store::{self, SqliteStore};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Metadata of a client that is traced, and has a secret.
fn traced<T>(mut request: Request<T>) -> Request<T> {
    for (key, value) in [
        ("traceparent", TRACE),
        ("tracestate", "vendor=1"),
        ("x-tenant", "blue"),
        ("cookie", "session=1"),
        ("collector-forward", "x"),
    ] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_and_what_is_left_of_the_deadline_reach_a_guest_two_nodes_away() {
    let [a_at, b_at, c_at] = [reserve(), reserve(), reserve()];
    let allows = &["acme:invoker"];
    let c = node("c", &c_at, &[peer(&b_at, allows)]).await;
    let b = node("b", &b_at, &[peer(&a_at, allows), peer(&c_at, allows)]).await;
    let a = node("a", &a_at, &[peer(&b_at, allows)]).await;
    let greeter = plugin("greeter");
    deploy_known(&c, &greeter, &[&b]).await;
    let stub = Stub { timeout: Some(Duration::from_secs(20)), ..Stub::new(&a, &greeter).await };
    let knows = async || stub.call("Describe", json!({})).await.is_ok();
    until("the way", knows).await;
    let mut request = traced(stub.request(stub.encode("Describe", &json!({}))));
    request.metadata_mut().remove("collector-forward");
    let began = Instant::now();
    let reply = stub.grpc().await.unary(request, stub.path("Describe"), RawCodec).await.unwrap();
    let took = began.elapsed();
    let seen = stub.decode("Describe", reply.get_ref());
    let metadata = seen["metadata"].as_object().unwrap();
    assert_eq!((&metadata["traceparent"], &metadata["tracestate"]), (&json!(TRACE), &json!("vendor=1")));
    assert_eq!(metadata["x-tenant"], "blue");
    for stays in ["cookie", "collector-forward", "grpc-timeout", "authorization"] {
        assert!(!metadata.contains_key(stays), "{stays}: {metadata:?}");
    }
    let left: u64 = seen["remainingMs"].as_str().unwrap().parse().unwrap();
    assert!(left < 20_000, "each node gives the next what is left: {left}");
    assert!(Duration::from_millis(left) + took + Duration::from_millis(2) > Duration::from_secs(20), "{left} {took:?}");

    // As a Dispatch.
    let input = greeter.encode("greeter.v1.DescribeRequest", "{}").unwrap();
    let mut request = Request::new(dispatch("Greeter", "Describe", any("greeter.v1.DescribeRequest", input)));
    request.metadata_mut().insert("traceparent", TRACE.parse().unwrap());
    let reply = dispatcher(&a).await.dispatch(request).await.unwrap().into_inner();
    assert_eq!(reply.handled_by_collector_id, "c");
    let seen = greeter.decode("greeter.v1.DescribeReply", &reply.output.unwrap().value).unwrap();
    assert_eq!(seen["metadata"]["traceparent"], TRACE);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_is_told_is_the_trace_what_is_left_and_no_credential() {
    let there = reserve();
    let ear = Impostor::at(&there, "b").await;
    let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
    until("the link", async || peer_of(&a).await.offers == 1).await;
    ear.says(grpc(vec![Part::Bytes(framed(b"")), fine()]));
    let plugin = plugin("streams");
    let stub = Stub { timeout: Some(Duration::from_secs(5)), ..Stub::new(&a, &plugin).await };
    for (method, stamped) in [("Echo", false), ("Count", false), ("Chat", false), ("Echo", true)] {
        let mut request = traced(stub.request(tokio_stream::iter([Vec::new()])));
        if !stamped {
            request.metadata_mut().remove("collector-forward");
        }
        let answer = stub.grpc().await.streaming(request, stub.path(method), RawCodec).await;
        let heard = ear.heard();
        if stamped {
            assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated, "a client says nothing as a peer");
            assert!(heard.is_empty());
            continue;
        }
        let headers = &heard[0].headers;
        for (name, value) in
            [("traceparent", TRACE), ("tracestate", "vendor=1"), ("x-tenant", "blue"), ("collector-namespace", "acme")]
        {
            assert_eq!(headers[name], value, "{method}");
        }
        assert!(!headers.contains_key("cookie") && !headers.contains_key("authorization"), "{headers:?}");
        assert_ne!(headers["collector-forward"], "x");
        let left = headers["grpc-timeout"].to_str().unwrap();
        let left: u64 = left.strip_suffix('u').unwrap().parse().unwrap();
        assert!((1..5_000_000).contains(&left), "{method}: {left} us of 5 s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_nobody_is_left_alone_and_found_again() {
    let there = reserve();
    let deaf = Impostor::at(&there, "b").await;
    let a = node("a", &reserve(), &[peer(&there, &["acme:invoker"])]).await;
    until("the link", async || peer_of(&a).await.offers == 1).await;
    let plugin = plugin("streams");
    let stub = Stub::new(&a, &plugin).await;
    let lost = (Code::Unavailable, "PEER_LOST".to_owned());
    let call = async || stub.call("Echo", json!({})).await.map(drop).map_err(|why| verdict(&why));
    deaf.says(reset(h2::Reason::INTERNAL_ERROR));
    for n in 1..=5 {
        assert!(!peer_of(&a).await.is_paused, "before failure {n}");
        assert_eq!(call().await, Err(lost.clone()));
    }
    let opened = Instant::now();
    assert_eq!(deaf.heard().len(), 5, "each was made once");
    assert!(peer_of(&a).await.is_paused);
    // Others are turned away here; one finds out, after a pause, and after twice as long again.
    let found_out = AtomicUsize::new(0);
    until("two that find out", async || {
        assert_eq!(call().await, Err(lost.clone()));
        let more = deaf.heard().len();
        found_out.fetch_add(more, Ordering::Relaxed) + more == 2
    })
    .await;
    assert!(opened.elapsed() >= Duration::from_millis(1_450), "{:?}", opened.elapsed());
    // It is well again.
    deaf.says(grpc(vec![Part::Bytes(framed(b"")), fine()]));
    until("an answer", async || call().await.is_ok()).await;
    assert!(!peer_of(&a).await.is_paused);
    for _ in 0..5 {
        assert_eq!(call().await, Ok(()));
    }
    let calls = peer_of(&a).await.calls.unwrap();
    assert_eq!((calls.lost, calls.answered, calls.unsent), (7, 6, 0), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_calls_and_links_is_counted_for_each_peer() {
    let [a, mut b] = mesh_of(["a", "b"], &["acme:invoker"]).await;
    let misbehave = plugin("misbehave");
    deploy_known(&b, &misbehave, &[&a]).await;
    let before = peer_of(&a).await;
    assert_eq!((before.calls, before.links, before.is_paused), (Some(Default::default()), 1, false));
    assert!(before.sent_bytes > 0 && before.received_bytes > 0 && before.dials >= 1, "{before:?}");
    let stub = Stub::new(&a, &misbehave).await;
    for _ in 0..3 {
        stub.call("Sleep", amount(0)).await.unwrap();
    }
    assert!(stub.call("Panic", amount(0)).await.is_err(), "a failure of the guest is an answer");
    let hurried = Stub { timeout: Some(Duration::from_millis(100)), ..stub.clone() };
    hurried.call("Sleep", amount(20_000)).await.unwrap_err();
    let counted = async |wanted: (u64, u64, u64)| {
        let calls = peer_of(&a).await.calls.unwrap();
        (calls.answered, calls.given_up, calls.lost) == wanted
    };
    until("the counts", async || counted((4, 1, 0)).await || counted((5, 0, 0)).await).await;
    let done = peer_of(&a).await.calls.unwrap();
    // One that b has, when it goes.
    let asleep = tokio::spawn({
        let (channel, namespace) = (stub.channel.clone(), stub.namespace.clone());
        async move {
            let plugin = self::plugin("misbehave");
            Stub { channel, plugin: &plugin, namespace, timeout: None }.call("Sleep", amount(20_000)).await.map(drop)
        }
    });
    until("b has it", async || b.node().wasm_stats().await.running == 1).await;
    drop(b.node.take());
    assert_eq!(asleep.await.unwrap().unwrap_err().code(), Code::Unavailable);
    // It stops its guests and says so: an answer.
    until("the end of it", async || counted((done.answered + 1, done.given_up, 0)).await).await;
    b.node = Some(collector::node::Node::start(b.config.clone()).await.unwrap());
    until("the second link", async || peer_of(&a).await.links == 2).await;
    let after = peer_of(&a).await;
    assert!(after.dials > before.dials && after.sent_bytes > before.sent_bytes, "{after:?}");
    assert_eq!(after.calls.unwrap().answered, done.answered + 1, "they go on counting");

    // The same as labels of the link's record, as of when it was written last.
    let store = SqliteStore::open(&a.data().join("records")).unwrap();
    let labels = async || {
        let records = store::all(&store, &Namespace::system(), "connections").await.unwrap();
        let all = records.into_iter().map(|record| pb::Connection::decode(record.bytes).unwrap());
        let out = all.into_iter().find(|one| one.source_collector_id == "a");
        out.and_then(|one| one.metadata).map(|metadata| metadata.labels).unwrap_or_default()
    };
    until("the record", async || labels().await.get("links").is_some_and(|links| links == "2")).await;
    let labels = labels().await;
    assert_eq!(labels["calls_given_up"], done.given_up.to_string());
    assert_eq!(labels["calls_answered"], (done.answered + 1).to_string());
    assert_eq!(labels.len(), 10, "so many numbers of each peer, and no names of others: {labels:?}");
}
