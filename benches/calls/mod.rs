//! Warm calls of the greeter, every check on: by name over three protocols, and by `Serve`. The floor of each is plain
//! tonic with prost types that answers the same bytes, in a process of its own.
//!
//! Of protocols x in flight x connections x bytes this is measured: one call in flight over one connection, and 64 over
//! 1, 4 and 8, at 256 B; both extremes at 16 KiB and 1 MiB. Connect, gRPC-Web and attached binaries, which differ from
//! the others in framing and size alone, at fewer of them: see [`Way::shapes`].

mod budget;
mod way;

pub(crate) use budget::rows as budget;

use crate::Failure;
use crate::load::{H2load, Kind, Load};
use crate::node;
use crate::options::Options;
use crate::plugins;
use crate::process::Process;
use crate::report::{Rounds, Row, Unit};
use bytes::Bytes;
use collector::domain::Digest;
use std::path::Path;
use tokio::time::Instant;
use way::{ALONE, CROWD, NAMESPACE, Shape, Way};

/// What is called.
pub(crate) struct Stage {
    node: Process,
    echo: Process,
    token: String,
    greeter: Bytes,
}

impl Stage {
    /// A node that asks everybody who they are, with the greeter in it, and an echo.
    async fn set(data: &Path) -> Result<Self, Failure> {
        let greeter = plugins::component("greeter")?;
        let token = node::admin(data)?;
        let node = Process::node(data, &["auth.mode=required"])?;
        node::deploy(&node::channel(&node.address).await?, Some(&token), NAMESPACE, &greeter).await?;
        Ok(Self { node, echo: Process::echo()?, token, greeter })
    }

    fn server(&self, way: Way) -> &Process {
        if way.is_floor() { &self.echo } else { &self.node }
    }
}

/// Group `native`.
pub(crate) async fn native(options: &Options) -> Result<Vec<Row>, Failure> {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let stage = Stage::set(data.path()).await?;
    let ways = [Way::EchoMessage, Way::Native, Way::Connect, Way::GrpcWeb];
    let cells: Vec<_> = ways.iter().flat_map(|way| way.shapes().iter().map(|shape| (*way, *shape))).collect();
    let mut rounds = Rounds::default();
    let mut rows = measured(&stage, &cells, options, &mut rounds).await?;
    let name = |way: Way, shape: Shape| way.at(shape);
    rows.push(Row::at_most(
        "native call / plain tonic echo, mean latency alone",
        rounds.ratio_of_means(&name(Way::Native, ALONE), &name(Way::EchoMessage, ALONE)),
        1.25,
    ));
    rows.push(Row::at_least(
        "native call / plain tonic echo, 64 in flight",
        rounds.ratio(&name(Way::Native, CROWD), &name(Way::EchoMessage, CROWD)),
        0.8,
    ));
    rows.extend(foreign(&stage, options).await?);
    Ok(rows)
}

/// Group `serve`.
pub(crate) async fn serve(options: &Options) -> Result<Vec<Row>, Failure> {
    const HASH: &str = "one hash of the binary";
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let stage = Stage::set(data.path()).await?;
    let ways = [Way::EchoServe, Way::Digest, Way::EchoBinary, Way::Binary];
    let mut cells: Vec<_> = ways.iter().flat_map(|way| way.shapes().iter().map(|shape| (*way, *shape))).collect();
    cells.push((Way::Native, ALONE));
    let mut rounds = Rounds::default();
    let mut rows = measured(&stage, &cells, options, &mut rounds).await?;
    for _ in 0..options.rounds() {
        rounds.calls(HASH, &(0..100).map(|_| hashed(&stage.greeter)).collect::<Vec<_>>());
    }
    rows.push(rounds.alone(HASH).with("bytes", f64::from(u32::try_from(stage.greeter.len())?)));
    let (digest, binary) = (Way::Digest.at(ALONE), Way::Binary.at(ALONE));
    let native = rounds.ratio(&digest, &Way::Native.at(ALONE));
    rows.push(Row::at_most("Serve by digest / native call, alone", native, 1.1));
    let least = rounds.median(&digest) * 1.5 + rounds.median(HASH);
    let attached = rounds.median(&binary) / least;
    rows.push(Row::at_most("Serve with the binary / (1.5 x by digest + one hash)", attached, 1.0));
    rows.extend(soak(&stage, options).await?);
    Ok(rows)
}

/// What many calls leave behind in a node that has answered as many before.
async fn soak(stage: &Stage, options: &Options) -> Result<[Row; 2], Failure> {
    let mut job = Way::Digest.job(stage, ALONE, options)?;
    job.calls = options.pick(10_000, 200);
    let before = stage.node.resident_kib()?;
    Load::start()?.run(&job).await?;
    let after = format!("node after {} more warm calls", job.calls);
    Ok([Row::memory("node after all of the above", before), Row::memory(&after, stage.node.resident_kib()?)])
}

fn hashed(bytes: &Bytes) -> std::time::Duration {
    let began = Instant::now();
    std::hint::black_box(Digest::of(std::hint::black_box(bytes)));
    began.elapsed()
}

/// Round by round, one cell after the other.
async fn measured(
    stage: &Stage,
    cells: &[(Way, Shape)],
    options: &Options,
    rounds: &mut Rounds,
) -> Result<Vec<Row>, Failure> {
    let mut load = Load::start()?;
    for _ in 0..options.rounds() {
        for (way, shape) in cells {
            let job = way.job(stage, *shape, options)?;
            load.round(rounds, &way.at(*shape), &job, Some(stage.server(*way))).await?;
        }
    }
    Ok(cells.iter().map(|(way, shape)| rounds.row(&way.at(*shape), &way.floor(cells, *shape))).collect())
}

/// The same by a generator that nobody here wrote.
async fn foreign(stage: &Stage, options: &Options) -> Result<Vec<Row>, Failure> {
    let h2load = match H2load::find() {
        Ok(h2load) => h2load,
        Err(why) => return Ok(vec![Row::skipped("h2load", &why)]),
    };
    let mut rounds = Rounds::default();
    let name = |way: Way| format!("h2load: {}", way.at(CROWD));
    for _ in 0..options.rounds() {
        for way in [Way::EchoMessage, Way::Native] {
            let job = way.job(stage, CROWD, options)?;
            debug_assert_eq!(job.kind, Kind::Grpc);
            rounds.value(&name(way), Unit::Rate, h2load.rate(&job).await?, job.calls);
        }
    }
    let floor = name(Way::EchoMessage);
    Ok([Way::EchoMessage, Way::Native].map(|way| rounds.row(&name(way), &floor)).into())
}
