//! Native calls: all four kinds, checked, bounded, without a decode that nothing asked for.

use crate::support::*;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_types::StatusExt as _;

async fn streams(node: &TestNode, plugin: &collector::cli::PluginFile) {
    deploy(node, plugin).await;
}

fn values(answer: &Answered) -> Vec<&str> {
    answer.replies.iter().map(|reply| reply["value"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn all_four_kinds_of_call_are_answered_with_a_receipt() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;

    let unary = stub.call("Echo", json!({ "text": "hi" })).await.unwrap();
    assert_eq!(unary.replies, [json!({ "text": "hi" })]);
    let server = stub.stream("Count", vec![json!({ "to": "5" })]).await.unwrap();
    assert_eq!(values(&server), ["1", "2", "3", "4", "5"]);
    let numbers: Vec<Value> = (1..=100).map(|n| json!({ "value": n.to_string() })).collect();
    let client = stub.stream("Sum", numbers).await.unwrap();
    assert_eq!((&client.replies[0]["sum"], &client.replies[0]["count"]), (&json!("5050"), &json!("100")));
    let lines = ["a", "b", "c"].map(|text| json!({ "text": text })).to_vec();
    let both = stub.stream("Chat", lines).await.unwrap();
    assert_eq!(both.replies, ["A", "B", "C"].map(|text| json!({ "text": text })));
    for answer in [unary, server, client, both] {
        assert_eq!(answer.receipt("collector-version"), "1");
        assert!(answer.receipt("collector-run-us").parse::<u64>().is_ok());
    }
}

#[tokio::test]
async fn a_conversation_goes_back_and_forth() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;
    let (say, said) = tokio::sync::mpsc::channel(1);
    let request = stub.request(tokio_stream::wrappers::ReceiverStream::new(said));
    let mut grpc = stub.grpc().await;
    let mut replies = grpc.streaming(request, stub.path("Chat"), RawCodec).await.unwrap().into_inner();
    for text in ["one", "two", "three"] {
        say.send(stub.encode("Chat", &json!({ "text": text }))).await.unwrap();
        let reply = replies.next().await.unwrap().unwrap();
        assert_eq!(stub.decode("Chat", &reply), json!({ "text": text.to_uppercase() }), "before the next is sent");
    }
    drop(say);
    assert!(replies.next().await.is_none());
}

#[tokio::test]
async fn unknown_services_and_methods_are_unimplemented() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    deploy(&node, &greeter).await;
    let channel_ = channel(&node.address()).await;
    let call = async |path: &str, namespace: &str| {
        let mut grpc = tonic::client::Grpc::new(channel_.clone());
        grpc.ready().await.unwrap();
        let mut request = tonic::Request::new(Vec::new());
        request.metadata_mut().insert("collector-namespace", namespace.parse().unwrap());
        grpc.unary(request, path.parse().unwrap(), RawCodec).await.unwrap_err()
    };
    for (path, reason) in [
        ("/greeter.v1.Greeter/Nope", "NO_METHOD"),
        ("/greeter.v1.Nope/SayHello", "NO_SERVICE"),
        ("/greeter.v1.Greeter", "NO_SERVICE"),
        ("/a/b/c", "NO_SERVICE"),
        ("/", "NO_SERVICE"),
    ] {
        assert_eq!(verdict(&call(path, "acme").await), (Code::Unimplemented, reason.into()), "{path}");
    }
    let elsewhere = call("/greeter.v1.Greeter/SayHello", "other").await;
    assert_eq!(verdict(&elsewhere), (Code::Unimplemented, "NO_SERVICE".into()));
    assert!(!elsewhere.message().contains("acme"));
    assert_eq!(call("/greeter.v1.Greeter/SayHello", "system").await.code(), Code::PermissionDenied);
    assert_eq!(call("/greeter.v1.Greeter/SayHello", "../x").await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn bytes_that_are_no_request_are_refused_and_the_field_named() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    deploy(&node, &greeter).await;
    let stub = Stub::new(&node, &greeter).await;
    let compiled = node.node().wasm_stats().await;
    for (bytes, field) in [
        (b"\x0a\x02\xff\xff".to_vec(), "name"), // not UTF-8
        (b"\x08\x01".to_vec(), "name"),         // a number where a string is
        (b"\x0a\x7fabc".to_vec(), "name"),      // longer than there is
        (b"\xff".to_vec(), ""),
    ] {
        let status = stub.grpc().await.unary(stub.request(bytes), stub.path("SayHello"), RawCodec).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::InvalidArgument, "INPUT_TYPE".into()));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field, "{status:?}");
        assert!(status.message().contains("greeter.v1.HelloRequest"), "{}", status.message());
        assert!(!status.metadata().contains_key("collector-run-us"), "nothing ran");
    }
    assert_eq!(node.node().wasm_stats().await, compiled);
    // The same through Serve.
    let mut call = Call::new(&greeter, "SayHello", json!({}));
    call.input.value = b"\x0a\x02\xff\xff".to_vec();
    assert_verdict(call.run(&node.client).await, Code::InvalidArgument, "INPUT_TYPE");
}

#[tokio::test]
async fn a_wrong_message_ends_a_stream_and_its_guest() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;
    let good = stub.encode("Chat", &json!({ "text": "a" }));
    let request = stub.request(tokio_stream::iter([good, b"\x0a\x01\xff".to_vec()]));
    let mut replies = stub.grpc().await.streaming(request, stub.path("Chat"), RawCodec).await.unwrap().into_inner();
    let end = loop {
        match replies.next().await {
            Some(Ok(_)) => {}
            Some(Err(status)) => break status,
            None => panic!("the stream ended well"),
        }
    };
    assert_eq!(verdict(&end), (Code::InvalidArgument, "INPUT_TYPE".into()));
    until("the guest is gone", || async { node.node().wasm_stats().await.running == 0 }).await;
}

#[tokio::test]
async fn a_reply_of_the_wrong_type_is_the_plugins_mistake() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;
    let status = stub.stream("Wrong", vec![json!({ "to": "1" })]).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::Unknown, "OUTPUT_TYPE".into()));
    assert!(status.message().contains("streams.v1.Number"), "{}", status.message());
}

#[tokio::test]
async fn faults_deadlines_and_traps_end_streams_as_they_end_calls() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let mut stub = Stub::new(&node, &plugin).await;
    let fault = stub.stream("Fail", vec![json!({ "after": 3, "code": 9, "message": "enough" })]).await.unwrap_err();
    assert_eq!((fault.code(), fault.message()), (Code::FailedPrecondition, "enough"));
    assert!(fault.metadata().contains_key("collector-run-us"), "{fault:?}");
    stub.timeout = Some(Duration::from_millis(300));
    let grpc = stub.grpc().await;
    drop(grpc);
    for method in ["Count", "Deaf"] {
        let message =
            if method == "Count" { json!({ "to": "1000000", "pauseMs": 50 }) } else { json!({ "value": "1" }) };
        let late = stub.stream(method, vec![message]).await.unwrap_err();
        // tonic's client may see its own timer first, and calls that CANCELLED.
        assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&late.code()), "{method}: {late:?}");
        until("the guest is gone", || async { node.node().wasm_stats().await.running == 0 }).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_parks_the_guest_and_one_that_leaves_ends_it() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;
    let message = stub.encode("Flood", &json!({ "bytes": 100_000 }));
    let request = stub.request(tokio_stream::iter([message]));
    let mut replies = stub.grpc().await.streaming(request, stub.path("Flood"), RawCodec).await.unwrap().into_inner();
    for _ in 0..200 {
        assert!(replies.next().await.unwrap().is_ok(), "20 MB, a little at a time");
    }
    let stats = node.node().wasm_stats().await;
    assert_eq!(stats.running, 1);
    drop(replies);
    until("the guest is gone", || async { node.node().wasm_stats().await.running == 0 }).await;
}

#[tokio::test]
async fn a_message_is_as_large_as_it_may_be() {
    let node = TestNode::start_with(|config| {
        config.limits.input_bytes = 10_000;
        config.limits.output_bytes = 10_000;
    })
    .await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;
    let line = |length: usize| json!({ "text": "x".repeat(length) });
    // Three bytes of tag and length around the text.
    assert_eq!(stub.call("Echo", line(9_997)).await.unwrap().replies, [line(9_997)]);
    let over = stub.call("Echo", line(9_998)).await.unwrap_err();
    assert!([Code::ResourceExhausted, Code::OutOfRange].contains(&over.code()), "{over:?}");
    let replies = stub.stream("Chat", vec![line(9_997), line(5)]).await.unwrap().replies;
    assert_eq!(replies.len(), 2);
    let over = stub.stream("Chat", vec![line(5), line(9_998)]).await.unwrap_err();
    assert_ne!(over.code(), Code::Ok);
}

#[tokio::test]
async fn a_unary_component_does_not_stream_and_a_stream_is_no_unary_call() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    // Serve is unary.
    let call = Call::new(&plugin, "Count", json!({ "to": "1" }));
    assert_verdict(call.run(&node.client).await, Code::Unimplemented, "STREAMING");
}

#[tokio::test]
async fn the_default_namespace_is_for_calls_that_name_none() {
    let node = TestNode::start_with(|config| config.server.default_namespace = "acme".into()).await;
    let greeter = plugin("greeter");
    deploy(&node, &greeter).await;
    let stub = Stub::new(&node, &greeter).await;
    let request = tonic::Request::new(stub.encode("SayHello", &json!({ "name": "Ada" })));
    assert!(stub.grpc().await.unary(request, stub.path("SayHello"), RawCodec).await.is_ok());
    let describe = stub.call("Describe", json!({})).await.unwrap();
    assert_eq!(describe.replies[0]["namespace"], "acme");
    assert_eq!(describe.replies[0]["service"], "greeter.v1.Greeter");
}

#[tokio::test]
async fn a_draining_node_says_unavailable_and_finishes_what_runs() {
    let mut node = TestNode::start().await;
    let misbehave = plugin("misbehave");
    deploy(&node, &misbehave).await;
    let stub = Stub::new(&node, &misbehave).await;
    let address = node.address();
    let slow = tokio::spawn(async move {
        let misbehave = plugin("misbehave");
        let stub =
            Stub { channel: channel(&address).await, plugin: &misbehave, namespace: "acme".into(), timeout: None };
        stub.call("Sleep", amount(900)).await
    });
    until("the call runs", || async { node.node().wasm_stats().await.running > 0 }).await;
    let stopping = tokio::spawn(node.node.take().unwrap().stop());
    // On a connection that was there before, and on one that would be new: whichever tonic takes by now.
    let mut refused = stub.call("Sleep", amount(0)).await;
    while refused.is_ok() {
        refused = stub.call("Sleep", amount(0)).await; // the drain had not begun
    }
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    assert!(slow.await.unwrap().is_ok(), "the call in flight ended well");
    stopping.await.unwrap();
}

#[tokio::test]
async fn t10_a_compressed_request_grows_to_the_limit_and_no_further() {
    let node = TestNode::start_with(|config| config.limits.input_bytes = 100_000).await;
    let greeter = plugin("greeter");
    deploy(&node, &greeter).await;
    let stub = Stub::new(&node, &greeter).await;
    let call = async |bytes: usize| {
        let mut grpc = stub.grpc().await.send_compressed(tonic::codec::CompressionEncoding::Gzip);
        let message = stub.encode("SayHello", &json!({ "name": "x".repeat(bytes) }));
        grpc.unary(stub.request(message), stub.path("SayHello"), RawCodec).await.map_err(|status| status.code())
    };
    assert!(call(90_000).await.is_ok(), "stock clients compress, some of them unasked");
    assert_eq!(call(20 << 20).await.err(), Some(Code::ResourceExhausted), "1:1000");
}

#[tokio::test]
async fn a_method_that_takes_one_message_takes_exactly_one() {
    let node = TestNode::start().await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;
    for method in ["Echo", "Count"] {
        for count in [0, 2] {
            let status = stub.stream(method, vec![json!({}); count]).await.unwrap_err();
            assert_eq!(verdict(&status), (Code::Unimplemented, "MESSAGE_COUNT".into()), "{method}, {count} messages");
        }
        assert!(stub.stream(method, vec![json!({})]).await.is_ok(), "{method}");
    }
}

#[tokio::test]
async fn a_silent_stream_ends_and_streams_leave_room_for_calls() {
    let node = TestNode::start_with(|config| {
        config.limits.stream_idle_ms = 1_000;
        config.wasm.slots = 4;
        config.wasm.streams = 2;
    })
    .await;
    let plugin = plugin("streams");
    streams(&node, &plugin).await;
    let stub = Stub::new(&node, &plugin).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        let request = stub.request(tokio_stream::pending());
        silent.push(stub.grpc().await.streaming(request, stub.path("Chat"), RawCodec).await.unwrap().into_inner());
    }
    until("both wait", || async { node.node().wasm_stats().await.running == 2 }).await;
    let third = stub.stream("Chat", vec![json!({ "text": "a" })]).await.unwrap_err();
    assert_eq!(verdict(&third), (Code::ResourceExhausted, "BUSY".into()));
    assert!(stub.call("Echo", json!({ "text": "a" })).await.is_ok(), "calls have slots of their own");
    for mut stream in silent {
        let end = stream.next().await.unwrap().unwrap_err();
        assert_eq!(verdict(&end), (Code::DeadlineExceeded, "STREAM_IDLE".into()));
    }
    assert!(stub.stream("Chat", vec![json!({ "text": "a" })]).await.is_ok());
}
