//! The same greeting from other hosts: a name of 256 bytes as JSON in, a text as JSON out, over HTTP/1.1, which all of
//! them speak. Each parses, greets and writes; in the node the greeting is the plugin `greeter` in an instance per call
//! behind every check, in `wasmtime serve` it is `plugins/greeter-http`, in workerd a few lines of JavaScript.
//!
//! `docker run`, kept containers and a bare `posix_spawn` stand in the group `exec`.

mod hosts;

use crate::echo::HELLO;
use crate::load::{Job, Kind, Load};
use crate::node::{admin, channel, deploy};
use crate::options::Options;
use crate::process::Process;
use crate::report::{Rounds, Row};
use crate::{Failure, plugins};

const NAMESPACE: &str = "bench";
/// The floor.
const HYPER: &str = "plain hyper";
/// The node.
const NODE: &str = "collector";

/// One of those that are compared.
struct Peer {
    name: String,
    process: Process,
    path: &'static str,
}

/// Group `peers`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let token = admin(data.path())?;
    // 64 connections are in use at a time, and a few are closing meanwhile.
    let node = Process::node(data.path(), &["auth.mode=required", "server.connections_per_address=256"])?;
    deploy(&channel(&node.address).await?, Some(&token), NAMESPACE, &plugins::component("greeter")?).await?;
    let mut peers = vec![
        Peer { name: HYPER.to_owned(), process: Process::echo()?, path: HELLO },
        Peer { name: NODE.to_owned(), process: node, path: HELLO },
    ];
    let mut rows = Vec::new();
    for found in [hosts::wasmtime(data.path()), hosts::workerd(data.path())] {
        match found? {
            Ok(more) => peers.extend(more),
            Err((what, why)) => rows.push(Row::skipped(what, &why)),
        }
    }
    rows.push(Row::skipped(
        "Extism in process",
        "its runtime is no dependency of ours and brings a wasmtime of its own; what an instance per call costs in process \
         stands in the group exec",
    ));
    rows.extend(measured(&peers, &token, options).await?);
    Ok(rows)
}

async fn measured(peers: &[Peer], token: &str, options: &Options) -> Result<Vec<Row>, Failure> {
    let (mut rounds, mut load) = (Rounds::default(), Load::start()?);
    let widths = [1, 64];
    for _ in 0..options.rounds() {
        for peer in peers {
            for width in widths {
                let job = job(peer, token, width, options)?;
                load.round(&mut rounds, &named(&peer.name, width), &job, Some(&peer.process)).await?;
            }
        }
    }
    let all = widths.iter().flat_map(|width| peers.iter().map(|peer| (peer.name.as_str(), *width)));
    let mut rows: Vec<Row> = all.map(|(name, width)| rounds.row(&named(name, width), &named(HYPER, width))).collect();
    for peer in peers.iter().filter(|peer| peer.name.starts_with(hosts::WASMTIME)) {
        let ratio = rounds.ratio(&named(NODE, 64), &named(&peer.name, 64));
        rows.push(Row::at_least(&format!("requests/s of collector / {}", peer.name), ratio, 1.2));
    }
    Ok(rows)
}

fn named(peer: &str, width: usize) -> String {
    match width {
        1 => format!("{peer}, alone"),
        many => format!("{peer}, {many} connections"),
    }
}

fn job(peer: &Peer, token: &str, width: usize, options: &Options) -> Result<Job, Failure> {
    let body = serde_json::to_vec(&serde_json::json!({ "name": "x".repeat(256) }))?;
    let mut job = Job::new(&peer.process.address, peer.path, Kind::JsonOld)
        .message(&body)
        .header("collector-namespace", NAMESPACE)
        .header("authorization", &format!("Bearer {token}"));
    (job.in_flight, job.connections, job.least) = (width, width, 256);
    job.calls = if width == 1 { options.pick(2_000, 50) } else { options.pick(8_000, 256) };
    Ok(job)
}
