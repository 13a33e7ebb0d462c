//! Compiled once, kept across restarts, never foreign, bounded.

use crate::support::*;
use collector::cli::PluginFile;
use collector::exec::wasm::Stats;
use serde_json::json;
use std::path::PathBuf;

async fn counts(node: &TestNode) -> (u64, u64) {
    let Stats { compiled, loaded, .. } = node.node().wasm_stats().await;
    (compiled, loaded)
}

/// Files under `compiled/` with this extension.
fn compiled_files(node: &TestNode, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for engine in std::fs::read_dir(node.data().join("compiled")).unwrap() {
        for file in std::fs::read_dir(engine.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_compile_once() {
    let node = TestNode::start_with(|config| config.wasm.slots = 64).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (client, greeter) = (node.client.clone(), plugin("greeter"));
        calls.spawn(async move {
            let called = Call::new(&greeter, "SayHello", json!({ "name": n.to_string() })).run(&client).await.unwrap();
            assert_eq!(called.reply["text"], format!("Hello, {n}!"));
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(counts(&node).await, (1, 0));
}

#[tokio::test]
async fn compiled_code_outlives_a_restart() {
    let mut node = TestNode::start().await;
    let greeter = plugin("greeter");
    let hello = || Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    hello().run(&node.client).await.unwrap();
    node.restart().await;
    let called = hello().by_digest().run(&node.client).await.unwrap();
    assert_eq!(called.receipt("collector-start"), "cold", "loaded, which is not warm");
    assert_eq!(counts(&node).await, (0, 1));
    hello().run(&node.client).await.unwrap();
    assert_eq!(counts(&node).await, (0, 1), "the same bytes again neither compile nor load");
}

#[tokio::test]
async fn foreign_or_damaged_code_is_never_loaded() {
    let mut node = TestNode::start().await;
    let greeter = plugin("greeter");
    let hello = || Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    hello().run(&node.client).await.unwrap();
    for (what, extension) in [("code", "cwasm"), ("mac", "mac")] {
        let [file] = &compiled_files(&node, extension)[..] else { panic!("one file of {what}") };
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
        node.restart().await;
        hello().run(&node.client).await.unwrap();
        assert_eq!(counts(&node).await, (1, 0), "a flipped bit in the {what}: compiled again");
    }
    // Another node's key: its code is as foreign as a stranger's.
    std::fs::write(node.data().join("node.key"), [9; 32]).unwrap();
    node.restart().await;
    hello().run(&node.client).await.unwrap();
    assert_eq!(counts(&node).await, (1, 0));
}

#[tokio::test]
async fn code_of_another_engine_configuration_is_dropped() {
    let mut node = TestNode::start().await;
    let greeter = plugin("greeter");
    let hello = || Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    hello().run(&node.client).await.unwrap();
    node.restart_with(|config| config.wasm.metering = false).await;
    let called = hello().run(&node.client).await.unwrap();
    assert_eq!(counts(&node).await, (1, 0));
    assert!(!called.answer.receipt.contains_key("collector-fuel"), "nothing is metered");
    assert_eq!(compiled_files(&node, "cwasm").len(), 1, "the other engine's code is gone");
}

#[tokio::test]
async fn a_full_disk_quota_drops_the_oldest_and_calls_go_on() {
    let node = TestNode::start_with(|config| {
        config.wasm.disk_mib = 0;
        config.artifacts.disk_mib = 0;
    })
    .await;
    for mark in 0..3 {
        run_command(&node, PluginFile::of(distinct_command(mark).into()).unwrap()).await.unwrap();
    }
    assert_eq!(compiled_files(&node, "cwasm").len(), 1, "only the newest is kept");
    assert_eq!(std::fs::read_dir(node.data().join("artifacts/acme")).unwrap().count(), 1, "the newest artifact");
}

/// In a process of its own, so that nobody else's memory is measured.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_digests_leave_memory_bounded() {
    let data = tempfile::tempdir().unwrap();
    let settings =
        ["wasm.programs_mib=8", "artifacts.known_mib=1", "wasm.disk_mib=4", "artifacts.count=500", "wasm.slots=16"];
    let node = NodeProcess::start(data.path(), &settings);
    let client = node.client().await;
    let upload = async |marks: std::ops::Range<u64>| {
        let mut calls = tokio::task::JoinSet::new();
        for mark in marks {
            if calls.len() == 8 {
                calls.join_next().await.unwrap().unwrap();
            }
            let client = client.clone();
            calls.spawn(async move {
                let command = PluginFile::of(distinct_command(mark).into()).unwrap();
                let target = collector::cli::Target {
                    namespace: "acme".into(),
                    service: "S".into(),
                    method: "M".into(),
                    ..Default::default()
                };
                let code = collector::rpc::pb::serve_request::ServiceDef::ServiceBinary(command.bytes.clone());
                client.serve(&target, code, prost_types::Any::default()).await.unwrap();
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
    };
    upload(0..2_000).await;
    let before = node.resident_kib();
    upload(2_000..10_000).await;
    let after = node.resident_kib();
    // threats.md, invariant I4.
    let bound = before + before / 10 + 32 * 1_024;
    assert!(after <= bound, "{before} KiB after 2,000 digests, {after} KiB after 10,000");
}
