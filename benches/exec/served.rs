//! The same over gRPC, from a node that is a process of its own.

use super::Size;
use super::guest::{Guest, METHOD, NAMESPACE, Program, SERVICE};
use crate::Failure;
use crate::process::Process;
use crate::report::{Rounds, Row};
use collector::cli::{NodeClient, Target};
use collector::rpc::pb::serve_request::ServiceDef;
use prost_types::Any;
use std::path::Path;
use std::time::Duration;

/// * `data`: the node's folder.
pub(crate) async fn rows(data: &Path, guest: &Guest, size: Size) -> Result<Vec<Row>, Failure> {
    const NATIVE: &str = "Serve by digest, memexec";
    const COMPONENT: &str = "Serve by digest, wasm";
    let node = Process::node(data, &["exec.native=memexec"])?;
    let client = NodeClient::connect(&node.address).await?;
    let idle = node.resident_kib()?;
    for program in [&guest.native, &guest.component] {
        call(&client, guest, ServiceDef::ServiceBinary(std::fs::read(program.path()?)?.into())).await?;
    }
    let mut rounds = Rounds::default();
    for _ in 0..size.rounds {
        for (what, program) in [(NATIVE, &guest.native), (COMPONENT, &guest.component)] {
            rounds.calls(what, &calls(&client, guest, program, size.calls).await?);
        }
    }
    let mut rows: Vec<Row> = [NATIVE, COMPONENT].map(|what| rounds.row(what, COMPONENT)).into();
    rows.push(Row::memory("the idle node with exec.native=memexec, its launcher beside it", idle));
    Ok(rows)
}

async fn calls(client: &NodeClient, guest: &Guest, program: &Program, count: usize) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        took.push(call(client, guest, ServiceDef::ServiceUri(format!("sha256:{}", program.code.digest))).await?);
    }
    Ok(took)
}

async fn call(client: &NodeClient, guest: &Guest, code: ServiceDef) -> Result<Duration, Failure> {
    let target = Target {
        namespace: NAMESPACE.to_owned(),
        service: SERVICE.to_owned(),
        method: METHOD.to_owned(),
        ..Target::default()
    };
    let input = Any { type_url: String::new(), value: guest.input.to_vec() };
    Ok(client.serve(&target, code, input).await?.took)
}
