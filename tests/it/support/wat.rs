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
