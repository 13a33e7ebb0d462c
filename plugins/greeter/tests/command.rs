//! The greeter as a process: what `export!` makes of a plugin outside of wasm.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use collector_guest::prost::Message;
use greeter::proto::{DescribeReply, HelloReply, HelloRequest, RefuseRequest};
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn run(method: &str, input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_greeter"))
        .args(["acme", "greeter.v1.Greeter", method])
        .env("COLLECTOR_DEADLINE_MS", "60000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_reply_is_on_standard_output_and_log_lines_are_on_standard_error() {
    let ran = run("SayHello", &HelloRequest { name: "Ann\nBo".into(), locale: "fr".into() }.encode_to_vec());
    assert_eq!(ran.status.code(), Some(0));
    assert_eq!(HelloReply::decode(ran.stdout.as_slice()).unwrap().text, "Bonjour, Ann\nBo!");
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), "INFO greeter: greeting Ann\\nBo\n");
}

#[test]
fn a_fault_is_an_exit_code_and_the_last_line() {
    let refuse = RefuseRequest { code: 16, message: "not\ntoday".into(), fields: vec!["name".into()] };
    let ran = run("Refuse", &refuse.encode_to_vec());
    assert_eq!(ran.status.code(), Some(64 + 16));
    assert!(ran.stdout.is_empty());
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), "not\\ntoday\n");
    assert_eq!(run("Nope", &[]).status.code(), Some(64 + 12));
    assert_eq!(run("SayHello", &[0xff]).status.code(), Some(64 + 3));
}

#[test]
fn a_command_knows_its_call_and_its_deadline() {
    let known = DescribeReply::decode(run("Describe", &[]).stdout.as_slice()).unwrap();
    assert_eq!((known.namespace.as_str(), known.service.as_str()), ("acme", "greeter.v1.Greeter"));
    assert!(known.has_deadline && known.remaining_ms > 30_000);
    assert!(known.metadata.is_empty());
}
