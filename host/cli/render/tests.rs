use super::*;
use prost_reflect::DescriptorPool;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

struct Memory(String);

impl FileResolver for Memory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            "t.proto" => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Compiles the text of one file.
pub(in crate::cli) fn compile(source: &str) -> DescriptorPool {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Memory(source.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file("t.proto").unwrap_or_else(|why| panic!("{why:?}\n{source}"));
    // From a copy of the pool that has the well-known types, as at run time.
    let mut pool = DescriptorPool::global();
    pool.decode_file_descriptor_set(compiler.encode_file_descriptor_set().as_slice()).unwrap();
    pool
}

fn proto(source: &str) -> FileDescriptorProto {
    compile(source).get_file_by_name("t.proto").unwrap().file_descriptor_proto().clone()
}

const PROTO3: &str = r#"
syntax = "proto3";
package t.v1;
import public "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";
service S {
  option deprecated = true;
  rpc Get(A) returns (A.B);
  rpc Watch(A) returns (stream A) { option deprecated = true; }
  rpc Chat(stream A) returns (stream google.protobuf.Any);
}
message A {
  option deprecated = true;
  reserved 2, 4 to 6, 1000 to max;
  reserved "old";
  message B { repeated sint64 deltas = 1 [packed = false]; E e = 2; }
  enum E { option allow_alias = true; reserved -2 to -1, 7; reserved "GONE"; NONE = 0; ZERO = 0; ONE = 1 [deprecated = true]; }
  string some_name = 1 [json_name = "other"];
  optional bytes data = 3;
  map<string, B> bs = 7;
  repeated google.protobuf.Timestamp times = 8;
  oneof choice { double d = 9; B b = 10; }
  sfixed32 last = 11 [deprecated = true];
}
message Empty {}
enum Top { TOP = 0; }
"#;

const PROTO2: &str = r#"
syntax = "proto2";
message A {
  required string name = 1 [default = "a \"b\"\n"];
  optional double d = 2 [default = inf];
  repeated int32 list = 3 [packed = true];
  optional E e = 4 [default = TWO];
  extensions 100 to 199, 1000 to max;
  extend A { optional A nested = 101; }
}
enum E { ONE = 1; TWO = 2; }
extend A { repeated bytes more = 100; }
"#;

/// Maps' own messages stand where the compiler puts them.
fn sorted(mut file: FileDescriptorProto) -> FileDescriptorProto {
    for message in &mut file.message_type {
        message.nested_type.sort_by(|a, b| a.name().cmp(b.name()));
    }
    file
}

#[test]
fn what_is_shown_compiles_to_what_it_was_made_of() {
    for source in [PROTO3, PROTO2] {
        let file_proto = proto(source);
        let shown = file(&file_proto);
        assert_eq!(sorted(proto(&shown)), sorted(file_proto), "{shown}");
    }
}

#[test]
fn parts_read_as_in_their_file() {
    let all = proto(PROTO3);
    let scope = Scope::of(&all);
    let shown = service(&all.service[0], scope);
    assert!(shown.contains("  rpc Chat(stream A) returns (stream google.protobuf.Any);\n"), "{shown}");
    assert!(message(&all.message_type[0], scope).contains("  map<string, A.B> bs = 7;\n"));
    assert_eq!(message(&all.message_type[1], scope), "message Empty {}\n");
    assert_eq!(enumeration(&all.enum_type[0], scope), "enum Top {\n  TOP = 0;\n}\n");
}

#[test]
fn hostile_names_stay_on_their_line() {
    let odd = ServiceDescriptorProto { name: Some("a\n\u{1b}[31m".into()), ..Default::default() };
    assert_eq!(service(&odd, Scope { package: "", proto3: true }), "service a\\n\\u{1b}[31m {}\n");
}
