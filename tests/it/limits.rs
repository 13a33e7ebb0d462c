//! Every limit with a guest below, at and above it, and the node going on after each.

use crate::support::*;
use serde_json::json;
use std::time::Duration;
use tonic::Code;
use tonic_types::StatusExt as _;

/// The node answers, holds no slot and no guest memory.
async fn goes_on(node: &TestNode) {
    let called = node.call(&plugin("greeter"), "SayHello", json!({ "name": "Ada" })).await.unwrap();
    assert_eq!(called.reply["text"], "Hello, Ada!");
    until("every slot and all guest memory come back", async || {
        let stats = node.node().wasm_stats().await;
        stats.running == 0 && stats.guest_memory == 0
    })
    .await;
}

/// How long the guest of a failed call ran; panics if there was no instance.
fn ran(status: &tonic::Status) -> Duration {
    let micros = status.metadata().get("collector-run-us").expect("an instance ran").to_str().unwrap();
    Duration::from_micros(micros.parse().unwrap())
}

/// Runs a sin that must end in this verdict, and checks that the node goes on.
async fn sin(node: &TestNode, method: &str, amount_: u64, code: Code, reason: &str) -> String {
    let status = assert_verdict(node.call(&plugin("misbehave"), method, amount(amount_)).await, code, reason);
    goes_on(node).await;
    status.message().to_owned()
}

async fn fine(node: &TestNode, method: &str, amount_: u64) -> u64 {
    let called = node.call(&plugin("misbehave"), method, amount(amount_)).await.unwrap();
    called.reply["amount"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn r01_a_spinning_guest_is_stopped_at_the_clients_deadline() {
    let node = TestNode::start().await;
    let misbehave = plugin("misbehave");
    fine(&node, "Sleep", 0).await; // compiled before the deadline runs
    for method in ["Spin", "Sleep"] {
        let call = Call::new(&misbehave, method, amount(60_000)).by_digest().timeout(Duration::from_secs(1));
        let stopped = assert_verdict(call.run(&node.client).await, Code::DeadlineExceeded, "DEADLINE");
        assert!(ran(&stopped) < Duration::from_secs(10), "stopped long before the node's own 30 s");
    }
    goes_on(&node).await;
}

#[tokio::test]
async fn r01_the_nodes_deadline_caps_the_clients() {
    let node = TestNode::start_with(|config| config.limits.deadline_ms = 5_000).await;
    let misbehave = plugin("misbehave");
    fine(&node, "Sleep", 0).await;
    let call = Call::new(&misbehave, "Spin", amount(0)).timeout(Duration::from_secs(3_600));
    let stopped = assert_verdict(call.run(&node.client).await, Code::DeadlineExceeded, "DEADLINE");
    assert!(ran(&stopped) <= Duration::from_secs(20));
    goes_on(&node).await;
}

#[tokio::test]
async fn r01_a_guest_that_spins_while_it_starts_is_stopped() {
    let node = TestNode::start().await;
    let start = plugin("misbehave-start");
    let target = collector::cli::Target {
        namespace: "acme".into(),
        service: "misbehave.v1.Start".into(),
        method: "Any".into(),
        timeout: Some(Duration::from_secs(20)),
        headers: vec![],
    };
    let answer = node.client.call(&target, &start, prost_types::Any::default()).await;
    let stopped = status(answer.unwrap_err());
    assert_eq!(verdict(&stopped), (Code::DeadlineExceeded, "DEADLINE".into()));
    assert!(ran(&stopped) > Duration::ZERO, "it was the start that spun, not the compiler that was slow");
    goes_on(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_guests_do_not_stall_other_calls() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    fine(&node, "Sleep", 0).await;
    goes_on(&node).await; // both compiled before the deadlines run
    let mut spinners = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, plugin) = (node.client.clone(), plugin("misbehave"));
        spinners.spawn(async move {
            Call::new(&plugin, "Spin", amount(0)).timeout(Duration::from_secs(25)).by_digest().run(&client).await
        });
    }
    until("all spinners run", async || node.node().wasm_stats().await.running == 8).await;
    for _ in 0..50 {
        let call = Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
        call.run(&node.client).await.unwrap();
    }
    assert!(spinners.try_join_next().is_none(), "50 answers while all eight still spin");
    drop(spinners); // hangs up
    goes_on(&node).await;
}

#[tokio::test]
async fn r04_memory_below_at_and_above_the_limit() {
    let node = TestNode::start_with(|config| config.limits.memory_mib = 16).await;
    assert_eq!(fine(&node, "GrowMemory", 8).await, 8);
    let got = fine(&node, "GrowMemoryPolitely", 100).await;
    assert!((8..16).contains(&got), "the guest is told no and lives: {got}");
    let called = node.call(&plugin("misbehave"), "GrowMemoryPolitely", amount(100)).await.unwrap();
    let peak: u64 = called.receipt("collector-peak-memory-bytes").parse().unwrap();
    assert!(peak <= 16 << 20, "{peak}");
    let message = sin(&node, "GrowMemory", 100, Code::ResourceExhausted, "MEMORY_LIMIT").await;
    assert!(message.contains("limits.memory_mib = 16"), "{message}");
}

#[tokio::test]
async fn r04_a_memory_that_begins_at_or_above_the_limit() {
    let node = TestNode::start_with(|config| config.limits.memory_mib = 16).await;
    let begins =
        |pages: u32| wasi_command(&format!(r#"(memory {pages}) (func (export "run") (result i32) i32.const 0)"#));
    run_command(&node, begins(256)).await.unwrap();
    let status = run_command(&node, begins(257)).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::ResourceExhausted, "MEMORY_LIMIT".into()));
    goes_on(&node).await;
}

#[tokio::test]
async fn memory_of_all_calls_together_is_bounded() {
    let node = TestNode::start_with(|config| config.wasm.total_memory_mib = 16).await;
    assert_eq!(fine(&node, "GrowMemory", 8).await, 8);
    sin(&node, "GrowMemory", 32, Code::ResourceExhausted, "BUSY").await;
}

#[tokio::test]
async fn r04_tables_are_bounded() {
    let grow = |by: u32| {
        wasi_command(&format!(
            r#"(table 1 funcref)
            (func (export "run") (result i32)
                (if (i32.eq (table.grow (ref.null func) (i32.const {by})) (i32.const -1)) (then unreachable))
                i32.const 0)"#
        ))
    };
    let node = TestNode::start_with(|config| config.limits.table_elements = 1_000).await;
    assert!(run_command(&node, grow(999)).await.is_ok());
    let status = run_command(&node, grow(1_000)).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::ResourceExhausted, "TABLE_LIMIT".into()));
    goes_on(&node).await;
}

#[tokio::test]
async fn r03_recursion_traps_and_the_node_lives() {
    let node = TestNode::start().await;
    let message = sin(&node, "Recurse", 0, Code::Unknown, "GUEST_TRAP").await;
    assert!(message.contains("call stack exhausted"), "{message}");
}

#[tokio::test]
async fn a_trap_is_unknown_with_its_reason() {
    let node = TestNode::start().await;
    let message = sin(&node, "Trap", 0, Code::Unknown, "GUEST_TRAP").await;
    assert!(message.contains("unreachable"), "{message}");
}

#[tokio::test]
async fn a_panics_message_reaches_the_caller_cut_and_escaped() {
    let node = TestNode::start().await;
    let text = format!("disk \u{1b}[31mon fire\nreally {}", "x".repeat(10_000));
    let called = node.call(&plugin("misbehave"), "Panic", json!({ "text": text })).await;
    let status = assert_verdict(called, Code::Unknown, "GUEST_TRAP");
    assert!(status.message().contains("disk \\u{1b}[31mon fire\\nreally xxx"), "{}", status.message());
    assert!(status.message().len() < 700, "{}", status.message().len());
    goes_on(&node).await;
}

#[tokio::test]
async fn a_handler_that_ends_its_process_is_named() {
    let node = TestNode::start().await;
    sin(&node, "ExitProcess", 1, Code::Unknown, "GUEST_EXIT").await;
}

#[tokio::test]
async fn requests_at_and_above_the_limit() {
    let node = TestNode::start_with(|config| config.limits.input_bytes = 100).await;
    let greet =
        async |name: usize| node.call(&plugin("greeter"), "SayHello", json!({ "name": "x".repeat(name) })).await;
    let at = greet(98).await.unwrap();
    assert_eq!(at.reply["text"].as_str().unwrap().len(), 98 + "Hello, !".len(), "98 bytes and two around them");
    let status = assert_verdict(greet(99).await, Code::ResourceExhausted, "INPUT_LIMIT");
    assert!(status.message().contains("limits.input_bytes = 100"), "{}", status.message());
    goes_on(&node).await;
}

#[tokio::test]
async fn replies_below_at_and_above_the_limit() {
    let limit = 2_000;
    let node = TestNode::start_with(|config| config.limits.output_bytes = limit).await;
    let misbehave = plugin("misbehave");
    let probe = node.call(&misbehave, "HugeReply", amount(1_000)).await.unwrap();
    let beside_text = probe.answer.output.value.len() as u64 - 1_000;
    let at = node.call(&misbehave, "HugeReply", amount(limit as u64 - beside_text)).await.unwrap();
    assert_eq!(at.answer.output.value.len(), limit);
    let above = limit as u64 - beside_text + 1;
    let message = sin(&node, "HugeReply", above, Code::ResourceExhausted, "OUTPUT_LIMIT").await;
    assert!(message.contains("limits.output_bytes = 2000"), "{message}");
}

#[tokio::test]
async fn a_commands_output_is_bounded_too() {
    let node = TestNode::start_with(|config| config.limits.output_bytes = 6).await;
    let wordcount = plugin("wordcount");
    let count = async |text: &str| {
        let target = collector::cli::Target {
            namespace: "acme".into(),
            service: "S".into(),
            method: "M".into(),
            ..Default::default()
        };
        let input = prost_types::Any { type_url: String::new(), value: text.as_bytes().to_vec() };
        node.client.call(&target, &wordcount, input).await.map_err(status)
    };
    assert_eq!(count("").await.unwrap().output.value, b"0 0 0\n", "six bytes fit");
    let status = count("ten bytes\n").await.unwrap_err();
    assert_eq!(verdict(&status), (Code::ResourceExhausted, "OUTPUT_LIMIT".into()));
    assert_eq!(count("").await.unwrap().output.value, b"0 0 0\n", "and the node goes on");
}

#[tokio::test]
async fn r05_host_calls_below_and_above_their_fuel() {
    let node = TestNode::start_with(|config| {
        config.limits.output_bytes = 1 << 20;
        config.limits.host_call_bytes = 1 << 20;
    })
    .await;
    fine(&node, "HugeHostCall", 1_000_000).await;
    sin(&node, "HugeHostCall", (1 << 20) + 1, Code::ResourceExhausted, "HOST_CALL_LIMIT").await;
}

#[tokio::test]
async fn r08_resources_at_and_above_the_limit() {
    let node = TestNode::start_with(|config| config.limits.resources = 100).await;
    assert_eq!(fine(&node, "LeakResources", 50).await, 50, "a pollable is two: itself and its timer");
    sin(&node, "LeakResources", 51, Code::ResourceExhausted, "RESOURCE_LIMIT").await;
}

#[tokio::test]
async fn fuel_below_and_above_the_limit_and_where_it_is_not_counted() {
    let mut node = TestNode::start_with(|config| config.limits.fuel = 5_000_000).await;
    fine(&node, "GrowMemory", 1).await;
    sin(&node, "Spin", 0, Code::ResourceExhausted, "FUEL_LIMIT").await;
    node.restart_with(|config| {
        config.limits.fuel = 0;
        config.wasm.metering = false;
    })
    .await;
    let misbehave = plugin("misbehave");
    let mut call = Call::new(&misbehave, "Trap", amount(0));
    call.context = vec![("fuel", "1000")];
    assert_verdict(call.run(&node.client).await, Code::FailedPrecondition, "METERING_OFF");
    goes_on(&node).await;
}

#[tokio::test]
async fn h02_a_million_pollables_end_at_a_limit_or_at_the_deadline() {
    let node = TestNode::start().await;
    let misbehave = plugin("misbehave");
    fine(&node, "Sleep", 0).await;
    let call = Call::new(&misbehave, "PollMany", amount(1_000_000)).timeout(Duration::from_secs(2));
    let status = call.run(&node.client).await.unwrap_err();
    assert!([Code::ResourceExhausted, Code::DeadlineExceeded].contains(&status.code()), "{status:?}");
    goes_on(&node).await;
}

#[tokio::test]
async fn h03_random_at_and_above_the_limit() {
    let node = TestNode::start_with(|config| config.limits.random_bytes = 4_096).await;
    assert_eq!(fine(&node, "HugeRandom", 4_096).await, 4_096);
    sin(&node, "HugeRandom", 4_097, Code::ResourceExhausted, "RANDOM_LIMIT").await;
    sin(&node, "HugeRandom", 1 << 40, Code::ResourceExhausted, "RANDOM_LIMIT").await;
}

#[tokio::test]
async fn h08_sockets_are_refused_by_name_before_anything_runs() {
    let node = TestNode::start().await;
    let sockets = plugin("misbehave-sockets");
    let method = sockets.artifact.schema.as_ref().unwrap().services()[0].methods[0].name.clone();
    let called = node.call(&sockets, &method, json!({})).await;
    let status = assert_verdict(called, Code::FailedPrecondition, "IMPORTS_NOT_GRANTED");
    assert!(status.message().contains("wasi:sockets/"), "{}", status.message());
    goes_on(&node).await;
}

#[tokio::test]
async fn h05_a_guest_sees_no_files_environment_or_arguments() {
    let node = TestNode::start().await;
    let called = node.call(&plugin("misbehave"), "ReadSecrets", json!({})).await.unwrap();
    assert_eq!(called.reply, json!({ "amount": "0", "text": "" }));
}

#[tokio::test]
async fn h01_floods_are_dropped_and_the_call_goes_on() {
    let node = TestNode::start().await;
    assert_eq!(fine(&node, "FloodStdout", 10 << 20).await, 10 << 20);
    fine(&node, "FloodLog", 100_000).await;
    goes_on(&node).await;
}

#[tokio::test]
async fn calls_beyond_slots_wait_and_beyond_the_queue_are_refused_with_a_hint() {
    let node = TestNode::start_with(|config| {
        config.wasm.slots = 1;
        config.wasm.queue = 1;
    })
    .await;
    fine(&node, "Sleep", 0).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (client, plugin) = (node.client.clone(), plugin("misbehave"));
        calls.spawn(
            async move { Call::new(&plugin, "Spin", amount(0)).timeout(Duration::from_secs(2)).run(&client).await },
        );
    }
    let first = calls.join_next().await.unwrap().unwrap();
    let status = assert_verdict(first, Code::ResourceExhausted, "BUSY");
    assert!(status.get_details_retry_info().and_then(|info| info.retry_delay).is_some(), "{status:?}");
    while let Some(other) = calls.join_next().await {
        assert_verdict(other.unwrap(), Code::DeadlineExceeded, "DEADLINE");
    }
    goes_on(&node).await;
}

#[tokio::test]
async fn r10_a_client_that_hangs_up_stops_its_guest() {
    let node = TestNode::start().await;
    fine(&node, "Sleep", 0).await;
    for method in ["Spin", "Sleep"] {
        let (client, plugin) = (node.client.clone(), plugin("misbehave"));
        let call = tokio::task::spawn(async move { Call::new(&plugin, method, amount(60_000)).run(&client).await });
        until("the guest runs", async || node.node().wasm_stats().await.running == 1).await;
        call.abort();
        until("the guest is gone", async || node.node().wasm_stats().await.running == 0).await;
    }
    goes_on(&node).await;
}

#[tokio::test]
async fn a_stream_lasts_as_long_as_it_may() {
    let node = TestNode::start_with(|config| config.limits.stream_ms = 500).await;
    let streams = plugin("streams");
    deploy(&node, &streams).await;
    let stub = Stub::new(&node, &streams).await;
    let read = async |pause: u32, to: u32| {
        let request = stub
            .request(tokio_stream::iter([stub.encode("Count", &json!({ "to": to.to_string(), "pauseMs": pause }))]));
        let mut replies = stub.grpc().await.streaming(request, stub.path("Count"), RawCodec).await?.into_inner();
        while tokio_stream::StreamExt::next(&mut replies).await.transpose()?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    assert!(read(1, 5).await.is_ok(), "below");
    let late = read(20, 1_000_000).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
}
