//! What many tenants cost each other: the price of every check, a quiet namespace beside a noisy one, late deadlines,
//! and ten times too much.
//!
//! `cargo bench --bench tenancy` prints a table and writes JSON; `-- --quick` only shows that it runs. Nodes and
//! neighbours are processes of their own. The million hostile calls are `collector-hostile`'s: see docs/security.md.

mod checks;
mod client;
mod fair;
mod limits;
mod noise;
#[path = "../common/plugins.rs"]
mod plugins;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/report.rs"]
mod report;

use collector::cli::PluginFile;
use collector::rpc::pb::plugin::v1::deploy_request::Part;
use collector::rpc::pb::plugin::v1::plugins_client::PluginsClient;
use collector::rpc::pb::plugin::v1::{DeployHeader, DeployRequest};
use process::Process;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tonic::Request;
use tonic::transport::Endpoint;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much is measured.
struct Size {
    rounds: usize,
    calls: usize,
    quiet: usize,
    spins: usize,
    load: Duration,
    quick: bool,
}

const FULL: Size =
    Size { rounds: 7, calls: 2_000, quiet: 1_000, spins: 4_000, load: Duration::from_secs(10), quick: false };
const QUICK: Size = Size { rounds: 1, calls: 50, quiet: 50, spins: 20, load: Duration::from_millis(500), quick: true };

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(at) = args.iter().position(|arg| arg == "--noise") {
        let [address, what, rest @ ..] = &args[at + 1..] else { return Err("--noise ADDRESS METHOD [TOKEN]".into()) };
        return runtime.block_on(noise::make(address, what, rest.first().map(String::as_str)));
    }
    let size = if args.iter().any(|arg| arg == "--quick") { QUICK } else { FULL };
    if let Some(at) = args.iter().position(|arg| arg == "--beside") {
        let what = args.get(at + 1).ok_or("--beside METHOD")?;
        return runtime.block_on(beside(&size, what));
    }
    runtime.block_on(run(&size))
}

async fn run(size: &Size) -> Result<(), Failure> {
    let built = plugins::built(&["greeter", "misbehave"], false)?;
    let plugins = [PluginFile::read(&built["greeter"])?, PluginFile::read(&built["misbehave"])?];
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
    rows.push(limits::overload(&node.address, Some(&keys[1]), size.load).await?);
    report::print("tenancy", &rows)
}

/// One neighbour only, for whoever works on fairness.
async fn beside(size: &Size, what: &str) -> Result<(), Failure> {
    let built = plugins::built(&["greeter", "misbehave"], false)?;
    let plugins = [PluginFile::read(&built["greeter"])?, PluginFile::read(&built["misbehave"])?];
    let data = tempfile::tempdir()?;
    let key = admin(data.path())?;
    let node = Process::node(data.path(), &["auth.mode=required"])?;
    deploy(&node.address, Some(&key), &plugins).await?;
    for _ in 0..size.rounds.min(3) {
        report::print("tenancy-beside", &[fair::beside(&node.address, Some(&key), size.quiet, what).await?])?;
    }
    Ok(())
}

/// A key that may do everything, made before the node starts.
fn admin(data: &Path) -> Result<String, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
    command.args(["auth", "key", "create", "--role", "admin", "--namespace", "*", "--json", "--data"]).arg(data);
    let output = command.output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("no key: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(said["secret"].as_str().ok_or("no key in the answer")?.to_owned())
}

/// Both plugins, in both namespaces.
async fn deploy(address: &str, token: Option<&str>, plugins: &[PluginFile]) -> Result<(), Failure> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    let mut client = PluginsClient::new(channel);
    for (namespace, plugin) in
        ["quiet", "noisy"].iter().flat_map(|namespace| plugins.iter().map(move |p| (namespace, p)))
    {
        let header = DeployHeader { namespace: (*namespace).to_owned(), ..Default::default() };
        let chunks: Vec<_> = plugin.bytes.chunks(256 << 10).map(|chunk| Part::Chunk(chunk.to_vec().into())).collect();
        let parts = std::iter::once(Part::Header(header)).chain(chunks);
        let parts: Vec<_> = parts.map(|part| DeployRequest { part: Some(part) }).collect();
        let mut request = Request::new(tokio_stream::iter(parts));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        client.deploy(request).await?;
    }
    Ok(())
}
