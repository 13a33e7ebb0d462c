//! Components written by hand, for what no compiler would make.

use super::{TestNode, status};
use collector::cli::{Answer, PluginFile, Target};
use tonic::Status;

/// A `wasi:cli/run` command around the body of a core module that exports `run: [] -> [i32]` (0 is success).
pub fn wasi_command(body: &str) -> PluginFile {
    PluginFile::of(wat(body).into()).unwrap()
}

/// The bytes of such a command.
pub fn wat(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m {body})
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#
    );
    wat::parse_str(text).unwrap()
}

/// The smallest command there is, unlike every other with another `mark`.
pub fn distinct_command(mark: u64) -> Vec<u8> {
    wat(&format!(r#"(func (export "run") (result i32) (drop (i64.const {mark})) i32.const 0)"#))
}

/// Runs such a command once.
pub async fn run_command(node: &TestNode, command: PluginFile) -> Result<Answer, Status> {
    let target = Target { namespace: "acme".into(), service: "S".into(), method: "M".into(), ..Target::default() };
    node.client.call(&target, &command, prost_types::Any::default()).await.map_err(status)
}

/// A handler as SDKs made it before there were streams. It answers with the request.
const ECHO_HANDLER: &str = r#"(component
    (type $types (instance
        (type (enum "cancelled" "unknown" "invalid-argument" "deadline-exceeded" "not-found" "already-exists"
            "permission-denied" "resource-exhausted" "failed-precondition" "aborted" "out-of-range" "unimplemented"
            "internal" "unavailable" "data-loss" "unauthenticated"))
        (export "code" (type (eq 0)))
        (type (list u8))
        (type (record (field "code" 1) (field "message" string) (field "details" 2)))
        (export "fault" (type (eq 3)))))
    (import "collector:plugin/types@0.1.0" (instance $t (type $types)))
    (alias export $t "fault" (type $fault))
    (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 4096)
        (func (export "handle") (param i32 i32 i32 i32) (result i32)
            (i32.store8 (i32.const 1024) (i32.const 0))
            (i32.store (i32.const 1028) (local.get 2))
            (i32.store (i32.const 1032) (local.get 3))
            i32.const 1024))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (alias core export $i "realloc" (core func $realloc))
    (type $bytes (list u8))
    (type $handle
        (func (param "method" string) (param "input" $bytes) (result (result $bytes (error $fault)))))
    (func $handle (type $handle)
        (canon lift (core func $i "handle") (memory $memory) (realloc $realloc)))
    (instance $handler (export "handle" (func $handle)))
    (export "collector:plugin/handler@0.1.0" (instance $handler)))"#;

/// A handler without descriptors that answers every unary call with the request.
pub fn echo_handler() -> Vec<u8> {
    ::wat::parse_str(ECHO_HANDLER).unwrap()
}
