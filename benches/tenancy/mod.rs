//! What many tenants cost each other: the price of every check, a quiet namespace beside a noisy one, late deadlines,
//! and ten times too much.
//!
//! Nodes and neighbours are processes of their own. The million hostile calls are `collector-hostile`'s: see docs/security.md.

mod checks;
mod client;
mod fair;
mod limits;
mod noise;

pub(crate) use noise::make as noise;

use crate::node::{admin, channel};
use crate::options::Options;
use crate::process::Process;
use crate::report::Row;
use crate::{Failure, node, plugins};
use bytes::Bytes;
use std::time::Duration;

/// How much is measured.
struct Size {
    rounds: usize,
    calls: usize,
    quiet: usize,
    spins: usize,
    load: Duration,
    quick: bool,
}

impl Size {
    fn of(options: &Options) -> Self {
        let (rounds, quick) = (options.rounds(), options.quick);
        let usual = Self { rounds, calls: 2_000, quiet: 1_000, spins: 4_000, load: Duration::from_secs(2), quick };
        let brief = Self { rounds, calls: 50, quiet: 50, spins: 20, load: Duration::from_millis(500), quick };
        options.pick(usual, brief)
    }
}

/// Group `tenancy`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let size = Size::of(options);
    match &options.beside {
        Some(what) => beside(&size, what).await,
        None => run(&size).await,
    }
}

async fn run(size: &Size) -> Result<Vec<Row>, Failure> {
    let plugins = [plugins::component("greeter")?, plugins::component("misbehave")?];
    let (open, guarded, small) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let keys = [admin(guarded.path())?, admin(small.path())?];

    let mut rows = Vec::new();
    let node = Process::node(guarded.path(), &["auth.mode=required"])?;
    deploy(&node.address, Some(&keys[0]), &plugins).await?;
    {
        let open = Process::node(open.path(), &[])?;
        deploy(&open.address, None, &plugins).await?;
        let guarded = (node.address.as_str(), keys[0].as_str());
        rows.extend(checks::run(&open.address, guarded, size.rounds, size.calls).await?);
    }
    rows.extend(fair::run(&node.address, Some(&keys[0]), size.quiet, size.quick).await?);
    rows.push(limits::overrun(&node.address, Some(&keys[0]), size.spins).await?);
    drop(node);
    let slots = format!("wasm.slots={}", limits::SLOTS);
    let queue = format!("wasm.queue={}", limits::SLOTS);
    let node = Process::node(small.path(), &["auth.mode=required", &slots, &queue])?;
    deploy(&node.address, Some(&keys[1]), &plugins).await?;
    rows.extend(limits::overload(&node.address, Some(&keys[1]), size.load, size.rounds).await?);
    Ok(rows)
}

/// One neighbour only, for whoever works on fairness.
async fn beside(size: &Size, what: &str) -> Result<Vec<Row>, Failure> {
    let plugins = [plugins::component("greeter")?, plugins::component("misbehave")?];
    let data = tempfile::tempdir()?;
    let key = admin(data.path())?;
    let node = Process::node(data.path(), &["auth.mode=required"])?;
    deploy(&node.address, Some(&key), &plugins).await?;
    let mut rows = Vec::new();
    for _ in 0..size.rounds.min(3) {
        rows.extend(fair::beside(&node.address, Some(&key), size.quiet, what).await?);
    }
    Ok(rows)
}

/// Namespace of who makes no noise.
pub(crate) const QUIET: &str = "quiet";

/// A guest that runs so long and does nothing.
pub(crate) async fn sleep(address: &str, span: Duration) -> Result<(), Failure> {
    let ended = limits::sleep(&client::Caller::connect(address, QUIET, None)?, span).await?;
    if ended.code == tonic::Code::Ok {
        Ok(())
    } else {
        Err(format!("a sleeping guest ended with {:?}", ended.code).into())
    }
}

/// Both plugins, in both namespaces.
async fn deploy(address: &str, token: Option<&str>, plugins: &[Bytes]) -> Result<(), Failure> {
    let channel = channel(address).await?;
    for (namespace, plugin) in ["quiet", "noisy"].iter().flat_map(|space| plugins.iter().map(move |one| (*space, one)))
    {
        node::deploy(&channel, token, namespace, plugin).await?;
    }
    Ok(())
}
