//! The same inputs give the same outputs.

use super::{Ask, How, on_every_executor, subject};
use crate::support::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use collector::rpc::pb;
use prost::Message as _;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use tonic::Code;

on_every_executor! {
    cold: greets, takes_any_input, is_told_by_arguments_and_environment;
    knows_its_call,
    makes_thumbnails,
    counts_words,
    is_told_its_input_as_json,
    finds_nothing_that_it_was_not_given,
}

async fn greets(how: How) {
    let subject = subject!(how);
    for (name, locale, text) in
        [("Ada", "", "Hello, Ada!"), ("Änne", "de-CH", "Hallo, Änne!"), ("健", "ja", "こんにちは, 健!")]
    {
        let called = subject.call("greeter", "SayHello", json!({ "name": name, "locale": locale })).await.unwrap();
        assert_eq!(called.reply["text"], text);
        assert_eq!(called.receipt("collector-executor"), how.executor());
        let digest = collector::domain::Digest::of(&how.bytes("greeter"));
        assert_eq!(called.receipt("collector-digest"), format!("sha256:{digest}"));
        assert!(["cold", "warm"].contains(&called.receipt("collector-start")), "{:?}", called.answer.receipt);
        assert!(called.receipt("collector-run-us").parse::<u64>().unwrap() > 0);
        let peak =
            called.answer.receipt.get("collector-peak-memory-bytes").map(|peak| peak.parse::<u64>().unwrap() > 0);
        let known = (!how.is_container()).then_some(true);
        assert_eq!(peak, known, "what is not known is not said");
    }
    let nobody = subject.call("greeter", "SayHello", json!({ "name": " " })).await.unwrap_err();
    assert_eq!((nobody.code(), nobody.message()), (Code::InvalidArgument, "nobody to greet"));
}

async fn knows_its_call(how: How) {
    let subject = subject!(how);
    let known = subject.call("greeter", "Describe", json!({})).await.unwrap().reply;
    assert_eq!(known["namespace"], "acme");
    assert_eq!(known["service"], "greeter.v1.Greeter");
    assert_eq!(known["method"], "Describe");
    assert_eq!(known["hasDeadline"], true);
    let remaining: u64 = known["remainingMs"].as_str().unwrap().parse().unwrap();
    assert!((10_000..=30_000).contains(&remaining), "of the node's 30 s: {remaining}");
}

/// The same command without any node.
fn on_the_desk(name: &str, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(native(name));
    command.args(["acme", "thumbnail.v1.Thumbnail", "Resize"]).env_clear();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

async fn makes_thumbnails(how: How) {
    let subject = subject!(how);
    let thumbnail = plugin("thumbnail");
    for (name, image) in [
        ("landscape.jpg", &include_bytes!("../../data/landscape.jpg")[..]),
        ("bubbles.png", include_bytes!("../../data/bubbles.png")),
    ] {
        for format in ["FORMAT_PNG", "FORMAT_JPEG"] {
            let request = json!({ "image": STANDARD.encode(image), "maxWidth": 96, "maxHeight": 96, "format": format });
            let input = thumbnail.encode("thumbnail.v1.ResizeRequest", &request.to_string()).unwrap();
            let called = subject.call("thumbnail", "Resize", request).await.unwrap();
            assert!(called.answer.output.value == on_the_desk("thumbnail", &input), "{name} as {format}");
        }
    }
    let broken = json!({ "image": STANDARD.encode("no picture"), "maxWidth": 9, "maxHeight": 9 });
    let refused = subject.call("thumbnail", "Resize", broken).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("image: "), "{}", refused.message());
}

async fn counts_words(how: How) {
    let subject = subject!(how);
    for (text, count) in [("", "0 0 0\n"), ("one two\n three\n", "2 3 15\n"), ("\u{ff} \0\n", "1 2 5\n")] {
        let answer = Ask::new(&subject, "wordcount", "Count", text).upload().run().await.unwrap();
        assert_eq!(answer.output.value, count.as_bytes());
    }
}

async fn takes_any_input(how: How) {
    let subject = subject!(how);
    let most = subject.node.config.limits.input_bytes;
    assert_eq!(most, 4 << 20);
    let bytes = |count: usize| (0..count).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    for count in [0, 1, 65_536, 65_537, most] {
        let input = bytes(count);
        let answer = subject.ask("Echo", input.clone()).await.unwrap();
        assert!(answer.output.value == input, "{count} bytes come back as they went in");
    }
    let unread = subject.ask("IgnoreInput", bytes(most)).await.unwrap();
    assert_eq!(unread.output.value, b"did not read", "a command need not read its input");
    Ask::new(&subject, "contract", "Echo", bytes(most + 1)).fails(Code::ResourceExhausted, "INPUT_LIMIT").await;
}

/// Arguments, then variables, as the command sees them.
fn told(said: &str) -> (Vec<&str>, Vec<(&str, &str)>) {
    let mut lines = said.lines();
    let arguments = lines.by_ref().take(4).collect();
    (arguments, lines.filter_map(|line| line.split_once('=')).collect())
}

async fn is_told_by_arguments_and_environment(how: How) {
    let subject = subject!(how);
    let said = subject.say("Given", "").await;
    let (arguments, mut variables) = told(&said);
    assert!(arguments[0].ends_with("plugin"), "{arguments:?}");
    assert_eq!(arguments[1..], ["acme", "Contract", "Given"]);
    variables.sort_unstable();
    // An engine sets these two for every container.
    variables.retain(|(name, _)| !how.is_container() || !["HOME", "HOSTNAME", "PATH"].contains(name));
    let deadline: u64 = variables[0].1.parse().unwrap();
    assert!((1..=30_000).contains(&deadline), "{variables:?}");
    assert_eq!(variables[0].0, "COLLECTOR_DEADLINE_MS");
    assert_eq!(
        variables[1..],
        [("COLLECTOR_METHOD", "Given"), ("COLLECTOR_NAMESPACE", "acme"), ("COLLECTOR_SERVICE", "Contract")],
        "nothing of the node's own, and no JSON of bytes that have no type"
    );
}

/// Registers a service that the plugin `contract` can answer for.
pub(super) async fn register(node: &TestNode) {
    let text = "syntax = \"proto3\"; package contract.v1;
        message Text { string text = 1; int64 long_number = 2; }
        service Contract { rpc Json(Text) returns (Text); rpc Echo(Text) returns (stream Text); }";
    let file = compile(&[("contract.proto", text)]).pop().unwrap();
    let channel = channel(&node.address()).await;
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel);
    let request = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&file.service[0])),
        file_descriptor: Some(raw(&file)),
    };
    registry.register_service(request).await.unwrap();
}

/// `contract.v1.Text`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Text {
    #[prost(string, tag = "1")]
    pub(super) text: String,
    #[prost(int64, tag = "2")]
    pub(super) long_number: i64,
}

async fn is_told_its_input_as_json(how: How) {
    let subject = subject!(how);
    register(&subject.node).await;
    // Four bytes that are six in JSON: the second fits as it is and as JSON, the third only as it is, the last in no way.
    for (count, fits) in [(1, true), (10_900, true), (10_930, false), (20_000, false)] {
        let request = Text { text: "é\n\"".repeat(count), long_number: 1 << 53 };
        let mut ask = Ask::new(&subject, "contract", "Json", request.encode_to_vec()).marked("contract.v1.Contract");
        ask.input.type_url = "type.googleapis.com/contract.v1.Text".into();
        let told = Text::decode(&*ask.run().await.unwrap().output.value).unwrap().text;
        match fits {
            true => {
                let json: Value = serde_json::from_str(&told).unwrap();
                assert_eq!(json, json!({ "text": request.text, "longNumber": "9007199254740992" }));
            }
            false => assert_eq!(told, "", "{count}: over 64 KiB it is left out"),
        }
    }
}

async fn finds_nothing_that_it_was_not_given(how: How) {
    let subject = subject!(how);
    let found = subject.call("misbehave", "ReadSecrets", json!({})).await.unwrap().reply;
    let found: Vec<&str> = found["text"].as_str().unwrap().lines().collect();
    match how {
        How::Component => assert!(found.is_empty(), "{found:?}"),
        // A command has arguments and an environment, and an engine's own `/proc` tells it the latter once more.
        How::Memexec | How::Container | How::ColdContainer => {
            let files = found.iter().filter(|line| line.starts_with("file ")).copied().collect::<Vec<_>>();
            let own = if how.is_container() { vec!["file /proc/self/environ"] } else { Vec::new() };
            assert_eq!(files, own);
        }
    }
}
