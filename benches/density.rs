//! What is resident: of a node that does nothing, per deployment that nobody calls, per instance that runs.
//!
//! Deployments are of distinct components, each in a namespace of its own: what tenants that share nothing cost.

use crate::node::{channel, deploy, distinct};
use crate::options::Options;
use crate::process::Process;
use crate::report::{Figure, Rounds, Row, Unit, micros};
use crate::{Failure, plugins, tenancy};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Instances that run at once.
const RUNNING: usize = 64;
/// Deployed at once: enough for every core to have something to compile.
const AT_ONCE: usize = 4;
/// How long each runs, so that all do together.
const HELD: Duration = Duration::from_millis(1_500);

/// Group `density`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let mut rows = idle(options).await?;
    rows.extend(deployed(options).await?);
    rows.extend(running(options).await?);
    Ok(rows)
}

#[expect(clippy::cast_precision_loss, reason = "KiB and counts below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Nodes with nothing in them.
async fn idle(options: &Options) -> Result<Vec<Row>, Failure> {
    const IDLE: &str = "node idle";
    let mut rounds = Rounds::default();
    for _ in 0..options.rounds() {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let node = Process::node(data.path(), &[])?;
        channel(&node.address).await?;
        rounds.value(IDLE, Unit::Memory, float(node.resident_kib()?), 1);
        rounds.beside(IDLE, "of it anonymous, KiB", float(node.anonymous_kib()?));
    }
    let bar = Row::at_most("node idle, MiB", rounds.median(IDLE) / 1024.0, 40.0);
    Ok(vec![rounds.alone(IDLE), bar])
}

/// Ever more of them, then the same after a restart.
async fn deployed(options: &Options) -> Result<Vec<Row>, Failure> {
    let usual: &[usize] = if options.full { &[1, 100, 1_000, 10_000] } else { &[1, 100, 1_000] };
    let steps = options.pick(usual, &[1, 8]);
    let greeter = plugins::component("greeter")?;
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let node = Process::node(data.path(), &SETTINGS)?;
    let channel = channel(&node.address).await?;
    // What the first deployment ever costs once is not what each costs.
    deploy(&channel, None, "first", &greeter).await?;
    let empty = [node.resident_kib()?, node.anonymous_kib()?];
    let (mut rows, mut there, mut rounds) = (Vec::new(), 0, Rounds::default());
    let began = Instant::now();
    for count in steps {
        let (channel, greeter) = (&channel, &greeter);
        let deployed = (there..*count).map(|number| async move {
            deploy(channel, None, &format!("tenant-{number}"), &distinct(greeter, number)?).await
        });
        stream::iter(deployed).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        there = *count;
        let name = format!("per idle deployment, {count} deployed");
        each(&mut rounds, &name, &node, empty, there)?;
        rows.push(rounds.alone(&name));
    }
    rounds.value(DEPLOYING, Unit::Time, micros(began.elapsed()) / float(there as u64), there);
    drop((channel, node));
    rows.push(rounds.alone(DEPLOYING));
    rows.extend(again(data.path(), there, options).await?);
    let bar = |figure: &Figure| Row::at_most(&format!("KiB {}", figure.name), figure.median(), 64.0);
    let last = format!(", {there} deployed");
    let bars: Vec<Row> =
        rows.iter().filter_map(Row::figure).filter(|figure| figure.name.ends_with(&last)).map(bar).collect();
    rows.extend(bars);
    Ok(rows)
}

const DEPLOYING: &str = "deploying a distinct component, compiling included";

/// More compiled code than a node keeps by default, so that nothing is compiled twice, and more namespaces.
const SETTINGS: [&str; 2] = ["wasm.disk_mib=8192", "registry.namespaces=20000"];

/// Memory since `empty`, in equal parts.
fn each(rounds: &mut Rounds, name: &str, node: &Process, empty: [u64; 2], count: usize) -> Result<(), Failure> {
    let part = |now: u64, before: u64| (float(now) - float(before)) / float(count as u64);
    let (resident, anonymous) = (node.resident_kib()?, node.anonymous_kib()?);
    rounds.value(name, Unit::Memory, part(resident, empty[0]), count);
    rounds.beside(name, "of it anonymous, KiB", part(anonymous, empty[1]));
    rounds.beside(name, "node in all, KiB", float(resident));
    Ok(())
}

/// Nodes that find them all in their folder, beside nodes with nothing in them.
async fn again(data: &Path, count: usize, options: &Options) -> Result<Vec<Row>, Failure> {
    let (started, name) =
        (format!("start with {count} deployments"), format!("per idle deployment after a restart, {count} deployed"));
    let mut rounds = Rounds::default();
    for _ in 0..options.rounds() {
        let blank = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let empty = Process::node(blank.path(), &SETTINGS)?;
        channel(&empty.address).await?;
        let empty = [empty.resident_kib()?, empty.anonymous_kib()?];
        let began = Instant::now();
        let node = Process::node(data, &SETTINGS)?;
        rounds.calls(&started, &[began.elapsed()]);
        channel(&node.address).await?;
        each(&mut rounds, &name, &node, empty, count)?;
    }
    Ok(vec![rounds.alone(&started), rounds.alone(&name)])
}

/// Guests that all run at once.
async fn running(options: &Options) -> Result<Vec<Row>, Failure> {
    const EACH: &str = "per running instance, beside the first";
    let misbehave = plugins::component("misbehave")?;
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut rounds = Rounds::default();
    for _ in 0..options.rounds().min(5) {
        // A node each: what ran leaves its slots warm.
        let node = Process::node(data.path(), &["server.connections_per_address=256"])?;
        deploy(&channel(&node.address).await?, None, tenancy::QUIET, &misbehave).await?;
        tenancy::sleep(&node.address, Duration::from_millis(1)).await?;
        let before = node.resident_kib()?;
        let mut calls = JoinSet::new();
        for _ in 0..RUNNING {
            let address = node.address.clone();
            calls.spawn(async move { tenancy::sleep(&address, HELD).await });
        }
        let mut most = before;
        while !calls.is_empty() {
            most = most.max(node.resident_kib()?);
            if let Ok(Some(ended)) = tokio::time::timeout(Duration::from_millis(50), calls.join_next()).await {
                ended??;
            }
        }
        let part = float(most.saturating_sub(before)) / float(RUNNING as u64);
        rounds.value(EACH, Unit::Memory, part, RUNNING);
        rounds.beside(EACH, "after they ended, KiB", float(node.resident_kib()?.saturating_sub(before)));
    }
    Ok(vec![rounds.alone(EACH).with("at once, a connection each", float(RUNNING as u64))])
}
