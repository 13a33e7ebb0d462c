//! What comes out of `.proto` files, and what is said about wrong ones.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use collector_guest_build::Builder;
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;

struct Project {
    folder: TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            let path = folder.path().join("proto").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir(folder.path().join("out")).unwrap();
        Self { folder }
    }

    fn compile(&self, protos: &[&str]) -> Result<(), String> {
        let proto = self.folder.path().join("proto");
        let paths: Vec<_> = protos.iter().map(|name| proto.join(name)).collect();
        let builder = Builder::new().include(&proto).out_dir(self.folder.path().join("out"));
        let outcome = builder.try_compile(&paths).map_err(|error| error.to_string());
        outcome.map_err(|text| text.replace(&format!("{}/", self.folder.path().display()), ""))
    }

    fn code(&self, package: &str) -> String {
        fs::read_to_string(self.folder.path().join("out").join(format!("{package}.rs"))).unwrap()
    }

    fn embedded(&self) -> (FileDescriptorSet, Vec<u8>) {
        let bytes = fs::read(self.folder.path().join("out/collector.descriptors.bin")).unwrap();
        (FileDescriptorSet::decode(bytes.as_slice()).unwrap(), bytes)
    }
}

const GREETER: &str = r#"
syntax = "proto3";
package greeter.v1;
// Says hello.
service Greeter {
  // By name.
  rpc SayHello(HelloRequest) returns (HelloReply);
  rpc Type(HelloRequest) returns (HelloReply);
}
message HelloRequest { string name = 1; }
message HelloReply { string text = 1; }
"#;

#[test]
fn a_service_is_a_trait_and_a_plugin() {
    let project = Project::new(&[("greeter.proto", GREETER)]);
    project.compile(&["greeter.proto"]).unwrap();
    let code = project.code("greeter.v1");
    for part in [
        "/// Says hello.",
        "pub trait Greeter {",
        "/// By name.\n    fn say_hello(",
        "/// Answers `greeter.v1.Greeter/Type`.\n    fn r#type(",
        "pub struct GreeterService<T>",
        "const NAME: &'static str = \"greeter.v1.Greeter\";",
        "\"SayHello\" =>",
        "type.googleapis.com/greeter.v1.HelloRequest",
        "::collector_guest::prost::Message",
        "#[unsafe(link_section = \"collector:descriptors\")]",
        "black_box(&COLLECTOR_DESCRIPTORS)",
    ] {
        assert!(code.contains(part), "{part} is not in:\n{code}");
    }
}

#[test]
fn descriptors_are_small_and_named_by_package() {
    let project = Project::new(&[("greeter.proto", GREETER)]);
    project.compile(&["greeter.proto"]).unwrap();
    let (set, bytes) = project.embedded();
    let [file] = set.file.as_slice() else { panic!("{set:?}") };
    assert_eq!(file.name(), "greeter/v1/greeter.proto");
    assert_eq!(file.service[0].name(), "Greeter");
    assert_eq!(file.source_code_info, None);
    assert!(project.code("greeter.v1").contains(&format!("static COLLECTOR_DESCRIPTORS: [u8; {}]", bytes.len())));
}

#[test]
fn imports_come_along_without_their_services_and_without_google() {
    let project = Project::new(&[
        (
            "shop.proto",
            r#"
            syntax = "proto3";
            package shop.v1;
            import "common/v1/money.proto";
            import "google/protobuf/empty.proto";
            import "options.proto";
            service Shop { rpc Price(google.protobuf.Empty) returns (common.v1.Money) { option (options.v1.cost) = 7; } }
            "#,
        ),
        (
            "common/v1/money.proto",
            r#"
            syntax = "proto3";
            package common.v1;
            message Money { int64 cents = 1; }
            service Mint { rpc Make(Money) returns (stream Money); }
            "#,
        ),
        (
            "options.proto",
            r#"
            syntax = "proto3";
            package options.v1;
            import "google/protobuf/descriptor.proto";
            extend google.protobuf.MethodOptions { int32 cost = 50001; }
            "#,
        ),
    ]);
    project.compile(&["shop.proto"]).unwrap();
    let (set, bytes) = project.embedded();
    let files: BTreeMap<_, _> = set.file.iter().map(|file| (file.name(), file)).collect();
    let names: Vec<_> = files.keys().copied().collect();
    assert_eq!(names, ["common/v1/money.proto", "options/v1/options.proto", "shop/v1/shop.proto"]);
    assert_eq!(
        files["shop/v1/shop.proto"].dependency,
        ["common/v1/money.proto", "google/protobuf/empty.proto", "options/v1/options.proto"],
    );
    assert!(files["common/v1/money.proto"].service.is_empty());
    let option = [0x88, 0xb5, 0x18, 7]; // field 50001, varint 7
    assert!(bytes.windows(option.len()).any(|part| part == option), "custom options are kept");
    assert!(!project.code("common.v1").contains("trait Mint"));
    assert!(project.code("shop.v1").contains("super::super::common::v1::Money"));
    let modules = project.code("collector.protos");
    assert!(modules.contains("pub mod common {") && modules.contains("pub mod shop {"), "{modules}");
    let sections = |package| project.code(package).matches("link_section").count();
    assert_eq!((sections("shop.v1"), sections("common.v1")), (1, 0), "one set per component");
}

#[test]
fn two_services_share_one_set_of_descriptors() {
    let a = "syntax = \"proto3\"; package a.v1; service A { rpc M(X) returns (X); } message X {}";
    let b = "syntax = \"proto3\"; package b.v1; service B { rpc M(X) returns (X); } message X {}";
    let project = Project::new(&[("service.proto", a), ("b/v1/service.proto", b)]);
    project.compile(&["service.proto", "b/v1/service.proto"]).unwrap();
    let sections = |package| project.code(package).matches("link_section").count();
    assert_eq!(sections("a.v1") + sections("b.v1"), 1);
    let names: Vec<_> = project.embedded().0.file.iter().map(|file| file.name().to_owned()).collect();
    assert_eq!(names, ["a/v1/service.proto", "b/v1/service.proto"]);
}

#[test]
fn a_mistake_is_named_with_its_place() {
    let error = |text: &str| Project::new(&[("x.proto", text)]).compile(&["x.proto"]).unwrap_err();
    let typo = GREETER.replace("returns (HelloReply)", "returns (HelloRepl)");
    assert_eq!(error(&typo), "proto/x.proto:7:39: name 'HelloRepl' is not defined");
    assert!(error("message {").starts_with("proto/x.proto:1:9: expected an identifier"), "{}", error("message {"));
    assert!(error("message X {").starts_with("proto/x.proto: expected a message field"), "{}", error("message X {"));
    assert_eq!(error("import \"nope.proto\";"), "proto/x.proto:1:1: import 'nope.proto' not found");
    let missing = Project::new(&[]).compile(&["y.proto"]).unwrap_err();
    assert_eq!(missing, "proto/y.proto: no such file");
}

const CHAT: &str = r#"
syntax = "proto3";
package chat.v1;
service Chat {
  // One line back.
  rpc Echo(Line) returns (Line);
  rpc Watch(Line) returns (stream Line);
  rpc Sum(stream Line) returns (Line);
  rpc Talk(stream Line) returns (stream Line);
}
message Line { string text = 1; }
"#;

#[test]
fn each_kind_of_streaming_has_its_signature_and_its_arm() {
    let project = Project::new(&[("chat.proto", CHAT)]);
    project.compile(&["chat.proto"]).unwrap();
    // However the formatter may break lines.
    let code = project.code("chat.v1").split_whitespace().collect::<Vec<_>>().join(" ");
    let code = code.replace("( ", "(").replace(", )", ")");
    let head = "context: &::collector_guest::Context,";
    let requests = "requests: &mut ::collector_guest::Receiver<Line>";
    let replies = "replies: &mut ::collector_guest::Sender<Line>";
    let result = |ok| format!("-> ::core::result::Result<{ok}, ::collector_guest::Fault>;");
    for part in [
        format!("fn echo({head} request: Line) {}", result("Line")),
        format!("fn watch({head} request: Line, {replies}) {}", result("()")),
        format!("fn sum({head} {requests}) {}", result("Line")),
        format!("fn talk({head} {requests}, {replies}) {}", result("()")),
    ] {
        assert!(code.contains(&part), "{part} is not in:\n{code}");
    }
    for part in [
        "codegen::answer(\"chat.v1.Line\", context, input, T::echo)",
        "codegen::server_streaming(\"chat.v1.Line\", context, exchange, T::watch)",
        "codegen::client_streaming(\"chat.v1.Line\", context, exchange, T::sum)",
        "codegen::bidirectional(\"chat.v1.Line\", context, exchange, T::talk)",
        "::core::result::Result::Err(::collector_guest::codegen::no_stream(Self::NAME, method))",
    ] {
        assert_eq!(code.matches(part).count(), 1, "{part} is not once in:\n{code}");
    }
    assert_eq!(code.matches("codegen::streams(Self::NAME, method)").count(), 3, "a unary call of each");
}

#[test]
fn a_service_without_streaming_has_no_code_for_it() {
    let project = Project::new(&[("greeter.proto", GREETER)]);
    project.compile(&["greeter.proto"]).unwrap();
    assert!(!project.code("greeter.v1").contains("Exchange"));
}

#[test]
fn a_service_of_streams_alone_makes_no_warnings() {
    let text = CHAT.replace("rpc Echo(Line) returns (Line);", "");
    let project = Project::new(&[("chat.proto", &text)]);
    project.compile(&["chat.proto"]).unwrap();
    assert!(project.code("chat.v1").contains("let _ = (context, input);"), "its unary function uses neither");
}
