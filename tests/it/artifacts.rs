//! What may be uploaded, and who finds it again.

use crate::support::*;
use collector::cli::PluginFile;
use collector::rpc::pb;
use collector::rpc::pb::serve_request::ServiceDef;
use serde_json::json;
use tonic::{Code, Status};

async fn upload(node: &TestNode, bytes: Vec<u8>) -> Result<pb::ServeResponse, Status> {
    let request = pb::ServeRequest {
        namespace: "acme".into(),
        service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "S".into() }),
        method_name: "M".into(),
        service_def: Some(ServiceDef::ServiceBinary(bytes.into())),
        ..Default::default()
    };
    raw_serve(node, request).await
}

async fn refused(node: &TestNode, bytes: Vec<u8>) -> (Code, String, String) {
    let status = upload(node, bytes).await.unwrap_err();
    let (code, reason) = verdict(&status);
    (code, reason, status.message().to_owned())
}

#[tokio::test]
async fn n01_w01_what_is_no_component_is_refused_saying_what_it_is() {
    let node = TestNode::start().await;
    let kept = || node.data().join("artifacts").join("acme").exists();
    let elf = std::fs::read(env!("CARGO_BIN_EXE_collector")).unwrap().into_iter().take(4_096).collect();
    let cwasm = wasmtime::Engine::default().precompile_component(&distinct_command(0)).unwrap();
    let cases: [(&str, Vec<u8>, Code, &str, &str); 6] = [
        ("core module", wat::parse_str("(module)").unwrap(), Code::InvalidArgument, "ARTIFACT_KIND", "wasm32-wasip2"),
        ("precompiled", cwasm, Code::InvalidArgument, "ARTIFACT_KIND", "never loaded"),
        ("native", elf, Code::FailedPrecondition, "NATIVE_OFF", "exec.native"),
        ("script", b"#!/bin/sh\necho".to_vec(), Code::InvalidArgument, "ARTIFACT_KIND", "script"),
        ("text", b"(component)".to_vec(), Code::InvalidArgument, "ARTIFACT_KIND", "text"),
        ("noise", (0..=255).collect(), Code::InvalidArgument, "ARTIFACT_KIND", "nothing that runs here"),
    ];
    for (name, bytes, code, reason, words) in cases {
        let (found, why, message) = refused(&node, bytes).await;
        assert_eq!((found, why.as_str()), (code, reason), "{name}: {message}");
        assert!(message.contains(words), "{name}: {message}");
        assert!(!kept(), "{name}: nothing of it is written");
    }
    let (code, reason, message) = refused(&node, wat::parse_str("(component)").unwrap()).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "COMPONENT_NO_ENTRY"), "{message}");
}

#[tokio::test]
async fn w01_a_component_cut_anywhere_is_refused_and_nothing_is_kept() {
    let node = TestNode::start().await;
    let whole = plugin("wordcount").bytes;
    for percent in 1..100 {
        let cut = whole.slice(..whole.len() * percent / 100).to_vec();
        let (code, _, message) = refused(&node, cut).await;
        assert_eq!(code, Code::InvalidArgument, "{percent} %: {message}");
    }
    let kept = node.data().join("artifacts").join("acme");
    assert!(!kept.exists(), "nothing was kept of what was refused");
    assert_eq!(node.node().wasm_stats().await.compiled, 0, "and nothing was compiled");
}

#[tokio::test]
async fn w06_each_proposal_that_is_off_is_refused() {
    let node = TestNode::start().await;
    let run = r#"(func (export "run") (result i32) i32.const 0)"#;
    let cases = [
        ("threads", "(memory 1 1 shared)"),
        ("memory64", "(memory i64 1)"),
        ("multi-memory", "(memory 1) (memory 1)"),
        ("tail calls", r#"(func $f (result i32) return_call $f)"#),
        ("gc", "(type (struct))"),
        ("exceptions", "(tag)"),
        ("custom page sizes", "(memory 1 (pagesize 1))"),
        ("function references", "(type $t (func)) (func (param (ref $t)))"),
        ("relaxed simd", "(func (param v128) (result v128) local.get 0 i32x4.relaxed_trunc_f32x4_s)"),
    ];
    for (name, body) in cases {
        let (code, reason, message) = refused(&node, wat(&format!("{body} {run}"))).await;
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "COMPONENT_INVALID"), "{name}: {message}");
    }
}

#[tokio::test]
async fn a_component_for_another_guest_interface_says_which() {
    let node = TestNode::start().await;
    let other = wat::parse_str(r#"(component (instance $h) (export "collector:plugin/handler@0.9.0" (instance $h)))"#);
    let (code, reason, message) = refused(&node, other.unwrap()).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "COMPONENT_VERSION"));
    assert!(message.contains("0.9.0") && message.contains("0.1."), "{message}");
}

#[tokio::test]
async fn binaries_at_and_above_the_size_limit() {
    let node = TestNode::start_with(|config| config.artifacts.max_mib = 1).await;
    let padded = |size: usize| {
        let mut bytes = distinct_command(1);
        // A custom section: id 0, its size as five bytes of LEB128, an empty name, zeros.
        let body = size - bytes.len() - 6;
        bytes.push(0);
        let mut left = body;
        for last in [false, false, false, false, true] {
            bytes.push((left & 0x7f) as u8 | if last { 0 } else { 0x80 });
            left >>= 7;
        }
        bytes.extend(vec![0; body]);
        assert_eq!(bytes.len(), size);
        bytes
    };
    upload(&node, padded(1 << 20)).await.unwrap();
    let (code, reason, message) = refused(&node, padded((1 << 20) + 1)).await;
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "ARTIFACT_TOO_LARGE"), "{message}");
}

#[tokio::test]
async fn a_namespace_finds_only_its_own_artifacts() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let hello = || Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    assert_verdict(hello().by_digest().run(&node.client).await, Code::NotFound, "ARTIFACT_NOT_FOUND");
    hello().run(&node.client).await.unwrap();
    hello().by_digest().run(&node.client).await.unwrap();

    let mut other = hello().by_digest();
    other.target.namespace = "rival".into();
    let foreign = assert_verdict(other.run(&node.client).await, Code::NotFound, "ARTIFACT_NOT_FOUND");
    let unknown = PluginFile::of(distinct_command(7).into()).unwrap();
    let mut other = hello();
    other.code = by_digest(&unknown);
    let absent = assert_verdict(other.run(&node.client).await, Code::NotFound, "ARTIFACT_NOT_FOUND");
    assert_eq!(foreign.message(), absent.message(), "another tenant's artifact looks like none");
}

#[tokio::test]
async fn what_no_slot_of_the_pool_can_hold_is_refused_and_not_kept() {
    let node = TestNode::start().await;
    let modules = |count: usize, body: &str| {
        let one = format!("(core module $m {body})");
        let instances: String = (0..count).map(|_| "(core instance (instantiate $m))".to_owned()).collect();
        let run = r#"(core module $r (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $r))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run))"#;
        wat::parse_str(format!("(component {one} {instances} {run})")).unwrap()
    };
    upload(&node, modules(1, "(memory 1)")).await.unwrap();
    upload(&node, modules(4, "(table 1 funcref)")).await.unwrap();
    upload(&node, modules(7, "")).await.unwrap();
    for (what, bytes) in [
        ("two memories", modules(2, "(memory 1)")),
        ("five tables", modules(5, "(table 1 funcref)")),
        ("a memory of 256 MiB", modules(1, "(memory 4096)")),
    ] {
        let (code, reason, message) = refused(&node, bytes).await;
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "CANNOT_COMPILE"), "{what}: {message}");
    }
    // What can be counted without linking is refused before the compiler sees it.
    let (code, reason, message) = refused(&node, modules(8, "")).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "COMPONENT_INVALID"), "{message}");
    assert!(message.contains("9 core instances"), "{message}");
    let kept = std::fs::read_dir(node.data().join("compiled")).unwrap().next().unwrap().unwrap().path();
    let code = std::fs::read_dir(kept)
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "cwasm"));
    assert_eq!(code.count(), 3, "machine code that does not load is not kept");
}

#[tokio::test]
async fn a_thousand_names_do_not_end_up_in_a_header_and_more_are_refused() {
    let node = TestNode::start().await;
    let exporting = |count: usize| {
        let exports: String = (0..count).map(|n| format!(r#"(export "name-{n}" (func $f))"#)).collect();
        let many = wat::parse_str(format!(
            r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f"))) {exports})"#
        ));
        many.unwrap()
    };
    let (code, reason, message) = refused(&node, exporting(1_000)).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "COMPONENT_NO_ENTRY"));
    assert!(message.ends_with("and 990 more") && message.len() < 1_024, "{message}");
    let (code, reason, message) = refused(&node, exporting(1_001)).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "COMPONENT_INVALID"));
    assert!(message.contains("more than 1000 exports"), "{message}");
}

#[tokio::test]
async fn an_artifact_whose_file_is_gone_can_be_uploaded_again() {
    let mut node = TestNode::start().await;
    let greeter = plugin("greeter");
    let hello = || Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    hello().run(&node.client).await.unwrap();
    node.restart().await; // nothing in memory
    std::fs::remove_file(node.data().join("artifacts/acme").join(greeter.artifact.digest.to_string())).unwrap();
    std::fs::remove_dir_all(node.data().join("compiled")).unwrap();
    assert_verdict(hello().run(&node.client).await, Code::NotFound, "ARTIFACT_NOT_FOUND");
    hello().run(&node.client).await.unwrap();
}

#[tokio::test]
async fn a_damaged_artifact_counts_as_absent_and_can_be_uploaded_again() {
    let mut node = TestNode::start().await;
    let greeter = plugin("greeter");
    let hello = || Call::new(&greeter, "SayHello", json!({ "name": "Ada" }));
    hello().run(&node.client).await.unwrap();
    let file = node.data().join("artifacts/acme").join(greeter.artifact.digest.to_string());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    node.restart().await;
    assert_verdict(hello().by_digest().run(&node.client).await, Code::NotFound, "ARTIFACT_NOT_FOUND");
    hello().run(&node.client).await.unwrap();
    hello().by_digest().run(&node.client).await.unwrap();
}
