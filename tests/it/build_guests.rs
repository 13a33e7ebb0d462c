//! One source, two shapes: the native commands of the plugins keep the command contract and agree with the components.

use crate::support::*;
use collector::cli::PluginFile;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs a native command as the contract says: three arguments, the request on stdin.
fn run(name: &str, plugin: &PluginFile, method: &str, request: Value) -> Output {
    let service = &plugin.artifact.schema.as_ref().unwrap().services()[0];
    let input =
        service.methods.iter().find(|known| known.name == method).map_or(String::new(), |m| m.input.name().to_owned());
    let bytes = match input.is_empty() {
        true => Vec::new(),
        false => plugin.encode(&input, &request.to_string()).unwrap(),
    };
    let mut child = Command::new(native(name))
        .args(["acme", &service.name, method])
        .env_clear()
        .env("COLLECTOR_NAMESPACE", "acme")
        .env("COLLECTOR_DEADLINE_MS", "5000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn a_native_greeter_answers_like_the_component() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let request = json!({ "name": "Ada", "locale": "de" });
    let component = node.call(&greeter, "SayHello", request.clone()).await.unwrap();
    let native = run("greeter", &greeter, "SayHello", request);
    assert!(native.status.success(), "{native:?}");
    assert_eq!(native.stdout, component.answer.output.value);
}

#[tokio::test]
async fn faults_are_exit_codes_with_the_message_last_on_stderr() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    for code in [3, 5, 16] {
        let request = json!({ "code": code, "message": "no\nway" });
        let status = node.call(&greeter, "Refuse", request.clone()).await.unwrap_err();
        let native = run("greeter", &greeter, "Refuse", request);
        assert_eq!(native.status.code(), Some(64 + i32::from(status.code())));
        let said = String::from_utf8(native.stderr).unwrap();
        assert_eq!(said.lines().last(), Some("no\\nway"), "one physical line");
    }
    let unknown = run("greeter", &greeter, "Shout", json!({}));
    assert_eq!(unknown.status.code(), Some(64 + 12), "UNIMPLEMENTED");
}

#[tokio::test]
async fn a_native_thumbnail_makes_the_same_bytes() {
    let node = TestNode::start().await;
    let thumbnail = plugin("thumbnail");
    use base64::Engine as _;
    let image = base64::engine::general_purpose::STANDARD.encode(include_bytes!("../data/bubbles.png"));
    let request = json!({ "image": image, "maxWidth": 48, "maxHeight": 48, "format": "FORMAT_PNG" });
    let component = node.call(&thumbnail, "Resize", request.clone()).await.unwrap();
    let native = run("thumbnail", &thumbnail, "Resize", request);
    assert!(native.status.success(), "{native:?}");
    assert_eq!(native.stdout, component.answer.output.value);
}

#[test]
fn the_plugins_own_tests_pass() {
    component("greeter"); // one cargo in the folder at a time
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || ["CARGO_TARGET_DIR", "RUSTFLAGS", "RUSTC"].contains(&name.as_str()) {
            cargo.env_remove(&name);
        }
    }
    let tests =
        cargo.args(["test", "--quiet", "--locked", "--target-dir", "target/native"]).current_dir(folder).output();
    let tests = tests.unwrap();
    assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));
    assert!(String::from_utf8_lossy(&tests.stdout).contains("test result: ok"));
}
