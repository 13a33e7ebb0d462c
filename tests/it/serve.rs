//! `Serve` as semantics.md section 5 has it: what is required, what is answered, what travels along.

use crate::support::*;
use collector::rpc::pb;
use serde_json::json;
use std::time::Duration;
use tonic::Code;

#[tokio::test]
async fn a_handler_answers_with_its_type_and_a_receipt() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let called = node.call(&greeter, "SayHello", json!({ "name": "Ada" })).await.unwrap();
    assert_eq!(called.reply, json!({ "text": "Hello, Ada!" }));
    assert_eq!(called.answer.executor_id, node.node().id());
    assert_eq!(called.receipt("collector-executor"), "wasm");
    assert_eq!(called.receipt("collector-start"), "cold");
    assert_eq!(called.receipt("collector-digest"), format!("sha256:{}", greeter.artifact.digest));
    for number in ["collector-fuel", "collector-peak-memory-bytes", "collector-run-us"] {
        assert!(called.receipt(number).parse::<u64>().unwrap() > 0, "{number}");
    }
    assert!(called.receipt("collector-queue-us").parse::<u64>().is_ok());

    let again = Call::new(&greeter, "SayHello", json!({ "name": "Bob" })).by_digest().run(&node.client).await.unwrap();
    assert_eq!(again.reply, json!({ "text": "Hello, Bob!" }));
    assert_eq!(again.receipt("collector-start"), "warm");
}

#[tokio::test]
async fn the_body_status_is_ok_on_success() {
    let node = TestNode::start().await;
    let call = Call::new(&plugin("greeter"), "SayHello", json!({ "name": "Ada" })).into_request();
    let reply = raw_serve(&node, call).await.unwrap();
    assert_eq!(reply.status, Some(pb::Status::default()), "OK is 0 with no message");
}

#[tokio::test]
async fn no_input_stands_for_the_empty_message() {
    let node = TestNode::start().await;
    let mut request = Call::new(&plugin("greeter"), "Describe", json!({})).into_request();
    request.input = None;
    assert!(raw_serve(&node, request).await.unwrap().output.is_some());
}

#[tokio::test]
async fn what_metadata_promises_and_nothing_keeps_yet_is_refused() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    for promise in ["collector-validate-only: true", "idempotency-key: 1", "if-match: x"] {
        let mut call = Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
        call.target.headers = vec![promise.into()];
        assert_verdict(call.run(&node.client).await, Code::Unimplemented, "NOT_YET");
    }
    assert_eq!(node.node().wasm_stats().await.compiled, 0, "nothing ran");
}

#[tokio::test]
async fn a_short_service_name_will_do() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut call = Call::new(&greeter, "Describe", json!({}));
    call.target.service = "Greeter".into();
    let called = call.run(&node.client).await.unwrap();
    assert_eq!(called.reply["service"], "greeter.v1.Greeter", "the guest sees the full name");
}

#[tokio::test]
async fn a_guest_sees_its_call_and_no_credentials() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut call = Call::new(&greeter, "Describe", json!({})).timeout(Duration::from_secs(9));
    call.target.headers = vec!["x-color: blue".into(), "authorization: Bearer secret".into(), "cookie: a=b".into()];
    let reply = call.run(&node.client).await.unwrap().reply;
    assert_eq!((&reply["namespace"], &reply["method"]), (&json!("acme"), &json!("Describe")));
    assert_eq!(reply["metadata"]["x-color"], "blue");
    for withheld in ["authorization", "cookie", "grpc-timeout", "te", "content-type"] {
        assert_eq!(reply["metadata"].get(withheld), None, "{withheld}");
    }
    assert_eq!(reply["hasDeadline"], true);
    let left: u64 = reply["remainingMs"].as_str().unwrap().parse().unwrap();
    assert!((1..=9_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_call_without_a_timeout_gets_the_nodes_deadline() {
    let node = TestNode::start_with(|config| config.limits.deadline_ms = 7_000).await;
    let reply = node.call(&plugin("greeter"), "Describe", json!({})).await.unwrap().reply;
    let left: u64 = reply["remainingMs"].as_str().unwrap().parse().unwrap();
    assert!((1..=7_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_typed_fault_keeps_its_code_message_and_details() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    for code in 1..=16 {
        let request = json!({ "code": code, "message": "no, thanks", "fields": ["name", "locale"] });
        let status = node.call(&greeter, "Refuse", request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::from_i32(code), "no, thanks"));
        use tonic_types::StatusExt as _;
        let violations = status.get_details_bad_request().unwrap().field_violations;
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["name", "locale"]);
        assert!(status.metadata().contains_key("collector-run-us"), "a refused call has a receipt too");
    }
    let status = node.call(&greeter, "SayHello", json!({})).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_faults_message_is_cut_and_escaped() {
    let node = TestNode::start().await;
    let request = json!({ "code": 5, "message": format!("a\r\nb\u{1b}[31m{}", "x".repeat(5_000)) });
    let status = node.call(&plugin("greeter"), "Refuse", request).await.unwrap_err();
    assert!(status.message().starts_with("a\\r\\nb\\u{1b}[31mxxx"), "{}", status.message());
    assert!(status.message().len() <= 1_030, "{}", status.message().len());
}

#[tokio::test]
async fn required_fields_are_named_as_clients_know_them() {
    let node = TestNode::start().await;
    let whole = Call::new(&plugin("greeter"), "SayHello", json!({ "name": "Ada" })).into_request();
    type Change = fn(&mut pb::ServeRequest);
    let cases: [(&str, Change); 4] = [
        ("namespace is required", |r| r.namespace.clear()),
        ("service is required", |r| r.service = None),
        ("method_name is required", |r| r.method_name.clear()),
        ("service binary is empty", |r| {
            r.service_def = Some(pb::serve_request::ServiceDef::ServiceBinary(Default::default()));
        }),
    ];
    for (message, change) in cases {
        let mut request = whole.clone();
        change(&mut request);
        let status = raw_serve(&node, request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, message));
    }
}

#[tokio::test]
async fn what_fits_no_method_is_refused_before_it_runs() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let hello = || Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    let mut call = hello();
    call.target.service = "Other".into();
    let status = assert_verdict(call.run(&node.client).await, Code::Unimplemented, "NO_SERVICE");
    assert!(status.message().contains("greeter.v1.Greeter"), "{}", status.message());
    let mut call = hello();
    call.target.method = "Shout".into();
    let status = assert_verdict(call.run(&node.client).await, Code::Unimplemented, "NO_METHOD");
    assert!(status.message().contains("SayHello"), "{}", status.message());
    let mut call = hello();
    call.input.type_url = "type.googleapis.com/greeter.v1.HelloReply".into();
    let status = assert_verdict(call.run(&node.client).await, Code::InvalidArgument, "INPUT_TYPE");
    assert!(status.message().contains("greeter.v1.HelloRequest"), "{}", status.message());
    let mut call = hello();
    call.input.value = b"\x0a\xff\xff".to_vec();
    let status = call.run(&node.client).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let mut call = hello();
    call.target.namespace = "system".into();
    assert_verdict(call.run(&node.client).await, Code::PermissionDenied, "DENIED");
}

#[tokio::test]
async fn nothing_deployed_and_unknown_schemes_say_so() {
    let node = TestNode::start().await;
    let mut request = Call::new(&plugin("greeter"), "SayHello", json!({ "name": "Ada" })).into_request();
    request.service_def = None;
    assert_eq!(verdict(&raw_serve(&node, request.clone()).await.unwrap_err()), (Code::NotFound, "NOT_DEPLOYED".into()));
    for scheme in ["oci", "https", "file"] {
        let uri = format!("{scheme}:somewhere");
        request.service_def = Some(pb::serve_request::ServiceDef::ServiceUri(uri));
        let status = raw_serve(&node, request.clone()).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::Unimplemented, "SCHEME_UNIMPLEMENTED".into()));
        assert!(status.message().contains(scheme), "{}", status.message());
    }
}

#[tokio::test]
async fn execution_context_lowers_limits_and_never_raises_them() {
    let mut node = TestNode::start().await;
    let misbehave = plugin("misbehave");
    Call::new(&misbehave, "Sleep", amount(0)).run(&node.client).await.unwrap(); // compiled
    let with = |method: &str, amount_: u64, key: &'static str, value: &'static str| {
        let mut call = Call::new(&misbehave, method, amount(amount_));
        call.context = vec![(key, value)];
        call
    };
    let slow = with("Spin", 0, "timeout_ms", "1000").by_digest().run(&node.client).await;
    let slow = assert_verdict(slow, Code::DeadlineExceeded, "DEADLINE");
    let ran: u64 = slow.metadata().get("collector-run-us").unwrap().to_str().unwrap().parse().unwrap();
    assert!(ran < 15_000_000, "stopped long before the node's own 30 s: {ran}");
    let small = with("GrowMemory", 20, "memory_mib", "10").run(&node.client).await;
    assert_verdict(small, Code::ResourceExhausted, "MEMORY_LIMIT");
    let raised = with("GrowMemory", 100, "memory_mib", "1000").run(&node.client).await;
    assert_verdict(raised, Code::ResourceExhausted, "MEMORY_LIMIT");
    let fuel = with("Spin", 0, "fuel", "1000000").run(&node.client).await;
    assert_verdict(fuel, Code::ResourceExhausted, "FUEL_LIMIT");
    let unknown = with("Trap", 0, "cores", "1").run(&node.client).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);

    node.restart_with(|config| config.limits.deadline_ms = 3_000).await;
    let raised = with("Spin", 0, "timeout_ms", "600000").run(&node.client).await;
    assert_verdict(raised, Code::DeadlineExceeded, "DEADLINE");
}

#[tokio::test]
async fn p05_bytes_that_are_no_request_are_their_senders_fault() {
    let node = TestNode::start().await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", node.node().address())).unwrap();
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
    // A message whose first field, `namespace`, is said to be 127 bytes long and is not, or is not UTF-8.
    for (name, value) in [("truncated", vec![0x0a, 0x7f, b'a']), ("broken UTF-8", vec![0x0a, 0x01, 0xff])] {
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/collector.CollectiveDispatcher/Serve");
        let codec = RawCodec;
        let answer = grpc.unary(tonic::Request::new(value), path, codec).await;
        let status = answer.unwrap_err();
        assert_eq!(verdict(&status), (Code::InvalidArgument, "UNDECODABLE".into()), "{name}");
    }
}

#[tokio::test]
async fn a_command_reads_stdin_and_writes_stdout() {
    let node = TestNode::start().await;
    let wordcount = plugin("wordcount");
    assert!(wordcount.artifact.schema.is_none());
    let target = collector::cli::Target {
        namespace: "acme".into(),
        service: "any.Name".into(),
        method: "Count".into(),
        ..Default::default()
    };
    let input = prost_types::Any { type_url: String::new(), value: b"to be or\nnot to be\n".to_vec() };
    let answer = node.client.call(&target, &wordcount, input).await.unwrap();
    assert_eq!(String::from_utf8(answer.output.value).unwrap().trim(), "2 6 19");
    assert_eq!(answer.output.type_url, "", "the type of a command without descriptors is not known");
}

#[tokio::test]
async fn what_is_not_there_yet_says_what_will_bring_it() {
    let node = TestNode::start().await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", node.node().address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut repo = pb::collection_repo_client::CollectionRepoClient::new(channel);
    let statuses = [
        repo.verify_backup(pb::VerifyBackupRequest::default()).await.unwrap_err(),
        repo.push_collection(tokio_stream::iter([pb::PushCollectionRequest::default()])).await.unwrap_err(),
        repo.pull_collection(pb::PullCollectionRequest::default()).await.unwrap_err(),
    ];
    for status in statuses {
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("not there yet, it comes with"), "{}", status.message());
    }
}
