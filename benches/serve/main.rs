//! What a sandboxed call costs beside a plain tonic echo of the same bytes, and what types cost, in one run.
//!
//! `cargo bench --bench serve` prints a table and writes JSON; `-- --quick` only shows that it runs. The node is a
//! process of its own, as operators run it; the echo is a tonic server in a process of its own too (this program again).

mod echo;
mod hello;
#[path = "../common/plugins.rs"]
mod plugins;
#[path = "../common/process.rs"]
mod process;
mod registry;
#[path = "../common/report.rs"]
mod report;

use collector::cli::{NodeClient, PluginFile, Target};
use collector::rpc::pb::serve_request::ServiceDef;
use hello::HelloClient;
use process::Process;
use prost_types::Any;
use report::{Round, Row, floor, micros};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much is measured.
struct Size {
    rounds: usize,
    calls: usize,
    soak: usize,
    registrations: usize,
}

const FULL: Size = Size { rounds: 7, calls: 2_000, soak: 10_000, registrations: 10_000 };
const QUICK: Size = Size { rounds: 1, calls: 50, soak: 200, registrations: 200 };

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if args.iter().any(|arg| arg == "--echo") {
        return runtime.block_on(echo::serve());
    }
    let size = if args.iter().any(|arg| arg == "--quick") { QUICK } else { FULL };
    runtime.block_on(run(&size))
}

async fn run(size: &Size) -> Result<(), Failure> {
    let plugins = plugins::built(&["greeter", "markdown", "thumbnail", "wordcount"], false)?;
    let data = tempfile::tempdir()?;
    let node = Process::node(data.path(), &[])?;
    let echo = Process::echo()?;
    let client = NodeClient::connect(&node.address).await?;
    let echo_client = NodeClient::connect(&echo.address).await?;
    let idle_kib = node.resident_kib()?;

    let mut rows = Vec::new();
    for name in ["greeter", "markdown", "thumbnail", "wordcount"] {
        let plugin = PluginFile::read(plugins.get(name).ok_or("a plugin was not built")?)?;
        let (target, input) = request(name, &plugin)?;
        let code = ServiceDef::ServiceBinary(plugin.bytes.clone());
        let began = Instant::now();
        let answer = client.serve(&target, code, input).await?;
        rows.push(cold(name, plugin.bytes.len(), began.elapsed(), answer.receipt.get("collector-queue-us")));
    }

    let greeter = PluginFile::read(&plugins["greeter"])?;
    let (target, input) = request("greeter", &greeter)?;
    let by_digest = || ServiceDef::ServiceUri(format!("sha256:{}", greeter.artifact.digest));
    let with_bytes = || ServiceDef::ServiceBinary(greeter.bytes.clone());
    registry::deploy(&node.address, &greeter).await?;
    let (mut native, mut hello_echo) = (HelloClient::connect(&node.address)?, HelloClient::connect(&echo.address)?);
    let mut rounds = BTreeMap::<&str, Vec<Round>>::new();
    for _ in 0..size.rounds {
        // Interleaved, so that whatever else the machine does meets all of them.
        let mut note = |what, took: Vec<Duration>| rounds.entry(what).or_default().push(Round::of(&took));
        note("plain tonic echo of Serve", calls(&echo_client, &target, by_digest, &input, size.calls).await?);
        note("Serve by digest", calls(&client, &target, by_digest, &input, size.calls).await?);
        note("plain tonic echo of a message", hellos(&mut hello_echo, size.calls).await?);
        note("native call", hellos(&mut native, size.calls).await?);
        note("Serve with the binary attached", calls(&client, &target, with_bytes, &input, size.calls / 4).await?);
        note("plain tonic echo of the binary", calls(&echo_client, &target, with_bytes, &input, size.calls / 4).await?);
    }
    for (what, beside) in [
        ("native call", "plain tonic echo of a message"),
        ("Serve by digest", "plain tonic echo of Serve"),
        ("Serve with the binary attached", "plain tonic echo of the binary"),
    ] {
        let least = floor(&rounds[beside]);
        rows.push(Row::timed("warm", beside, &rounds[beside], least));
        rows.push(Row::timed("warm", what, &rounds[what], least));
    }
    rows.push(registry::check(size.rounds)?);
    rows.push(registry::deploy_to_answer(&node.address, &greeter, size.rounds).await?);
    let resident = || node.resident_kib();
    rows.push(registry::registrations(&node.address, size.registrations, resident).await?);

    let before_kib = node.resident_kib()?;
    calls(&client, &target, by_digest, &input, size.soak).await?;
    let after_kib = node.resident_kib()?;
    let memory = json!({ "idle_kib": idle_kib, "before_kib": before_kib, "calls": size.soak, "after_kib": after_kib });
    let text =
        format!("rss   idle {idle_kib} KiB, before {before_kib} KiB, after {} warm calls {after_kib} KiB", size.soak);
    rows.push(Row::new(text, memory));
    report::print("serve", &rows)
}

/// So many calls, one after the other.
async fn calls(
    client: &NodeClient,
    target: &Target,
    code: impl Fn() -> ServiceDef,
    input: &Any,
    count: usize,
) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        took.push(client.serve(target, code(), input.clone()).await?.took);
    }
    Ok(took)
}

/// The same natively.
async fn hellos(client: &mut HelloClient, count: usize) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        took.push(client.call("Ada").await?);
    }
    Ok(took)
}

fn request(name: &str, plugin: &PluginFile) -> Result<(Target, Any), Failure> {
    let data = |file: &str| std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file));
    let (service, method, json) = match name {
        "markdown" => ("markdown.v1.Markdown", "Render", json!({ "source": "# A *title*\n\nand a paragraph." })),
        "thumbnail" => {
            use base64::Engine as _;
            let image = base64::engine::general_purpose::STANDARD.encode(data("landscape.jpg")?);
            ("thumbnail.v1.Thumbnail", "Resize", json!({ "image": image, "maxWidth": 96, "maxHeight": 96 }))
        }
        "greeter" => ("greeter.v1.Greeter", "SayHello", json!({ "name": "Ada" })),
        _ => ("WordCount", "Count", json!("to be or not to be")),
    };
    let target =
        Target { namespace: "bench".into(), service: service.into(), method: method.into(), ..Target::default() };
    let input = match plugin.method(service, method)? {
        Some((_, found)) => Any {
            type_url: format!("type.googleapis.com/{}", found.input.name()),
            value: plugin.encode(found.input.name(), &json.to_string())?,
        },
        None => Any { type_url: String::new(), value: json.to_string().into_bytes() },
    };
    Ok((target, input))
}

fn cold(name: &str, bytes: usize, took: Duration, queued_us: Option<&String>) -> Row {
    let compiled = queued_us.and_then(|us| us.parse::<f64>().ok()).unwrap_or_default() / 1e3;
    let ms = micros(took) / 1e3;
    Row::new(
        format!("cold  {name:<32} {ms:>9.1} ms   of it compiling {compiled:.1} ms ({bytes} bytes)"),
        json!({ "cold": name, "bytes": bytes, "us": micros(took), "compile_ms": compiled }),
    )
}
