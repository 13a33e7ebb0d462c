//! First calls: of components that nobody has seen, beside compiling them alone, and of known ones after a restart.
//!
//! The floor is wasmtime by itself in this process, with what a host of strangers' code has to switch on. A component is
//! made new for every round with a custom section.

use crate::node::distinct;
use crate::options::Options;
use crate::process::Process;
use crate::report::{Rounds, Row};
use crate::{Failure, plugins};
use bytes::Bytes;
use collector::cli::{ClientError, NodeClient, PluginFile, Target};
use collector::domain::Digest;
use collector::rpc::pb::serve_request::ServiceDef;
use prost_types::Any;
use serde_json::json;
use std::path::Path;
use tokio::time::Instant;
use wasmtime::component::Component;

const PLUGINS: [&str; 4] = ["greeter", "wordcount", "markdown", "thumbnail"];
/// What the bar is about.
const SMALL: &str = "greeter";

/// Group `cold`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let names = if options.quick { &PLUGINS[..2] } else { &PLUGINS[..] };
    let built = plugins::built(names, false)?;
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut subjects = Vec::new();
    for name in names {
        subjects.push(Subject::of(name, &PluginFile::read(&built[*name])?)?);
    }
    let mut rows = never_seen(data.path(), &subjects, options).await?;
    rows.extend(restarted(data.path(), &subjects, options).await?);
    Ok(rows)
}

/// A component, and a call of it.
struct Subject {
    name: &'static str,
    bytes: Bytes,
    target: Target,
    input: Any,
}

impl Subject {
    fn of(name: &'static str, plugin: &PluginFile) -> Result<Self, Failure> {
        let (target, input) = request(name, plugin)?;
        Ok(Self { name, bytes: plugin.bytes.clone(), target, input })
    }

    fn named(&self, what: &str) -> String {
        format!("{}, {} KB: {what}", self.name, self.bytes.len() / 1_000)
    }
}

/// From upload to the first answer, and the node's own word for how much of it was compiling.
async fn never_seen(data: &Path, subjects: &[Subject], options: &Options) -> Result<Vec<Row>, Failure> {
    const ANSWER: &str = "never seen, upload to first answer";
    const COMPILE: &str = "compiling alone, wasmtime, one thread";
    const PARALLEL: &str = "compiling alone, wasmtime, every core";
    let node = Process::node(data, &[])?;
    let client = NodeClient::connect(&node.address).await?;
    let engines = [(COMPILE, engine(false)?), (PARALLEL, engine(true)?)];
    let mut rounds = Rounds::default();
    for round in 0..options.rounds() {
        for subject in subjects {
            let fresh = distinct(&subject.bytes, round)?;
            for (what, engine) in &engines {
                let began = Instant::now();
                tokio::task::block_in_place(|| Component::from_binary(engine, &fresh))?;
                rounds.calls(&subject.named(what), &[began.elapsed()]);
            }
            let code = ServiceDef::ServiceBinary(fresh);
            let began = Instant::now();
            let answer = client.serve(&subject.target, code, subject.input.clone()).await?;
            let name = subject.named(ANSWER);
            rounds.calls(&name, &[began.elapsed()]);
            let waited = answer.receipt.get("collector-queue-us").and_then(|us| us.parse::<f64>().ok());
            rounds.beside(&name, "of it compiling, by the receipt, us", waited.unwrap_or_default());
        }
    }
    let of = |subject: &Subject| {
        let (answer, compile) = (subject.named(ANSWER), subject.named(COMPILE));
        [&compile, &subject.named(PARALLEL), &answer].map(|what| rounds.row(what, &compile))
    };
    let mut rows: Vec<Row> = subjects.iter().flat_map(of).collect();
    for subject in subjects.iter().filter(|subject| subject.name == SMALL) {
        let ratio = rounds.ratio(&subject.named(ANSWER), &subject.named(COMPILE));
        rows.push(Row::at_most("never seen: upload to first answer / compiling alone, one thread", ratio, 1.3));
    }
    Ok(rows)
}

/// * `parallel`: with as many threads as cores; a node gives a tenant's compiler one.
fn engine(parallel: bool) -> Result<wasmtime::Engine, Failure> {
    let mut config = wasmtime::Config::new();
    config.consume_fuel(true).epoch_interruption(true).parallel_compilation(parallel);
    Ok(wasmtime::Engine::new(&config)?)
}

/// The first call of known code after a restart, beside the second one.
async fn restarted(data: &Path, subjects: &[Subject], options: &Options) -> Result<Vec<Row>, Failure> {
    const START: &str = "from starting the process to serving";
    const FIRST: &str = "known, first call after a restart";
    const SECOND: &str = "known, second call after a restart";
    let mut rounds = Rounds::default();
    for round in 0..options.rounds() {
        let began = Instant::now();
        let node = Process::node(data, &[])?;
        rounds.calls(START, &[began.elapsed()]);
        let client = NodeClient::connect(&node.address).await?;
        connected(&client, subjects).await?;
        for subject in subjects {
            let digest = Digest::of(&distinct(&subject.bytes, round)?);
            for what in [FIRST, SECOND] {
                let code = ServiceDef::ServiceUri(format!("sha256:{digest}"));
                let took = client.serve(&subject.target, code, subject.input.clone()).await?.took;
                rounds.calls(&subject.named(what), &[took]);
            }
        }
    }
    let mut rows = vec![rounds.alone(START)];
    for subject in subjects {
        rows.extend([FIRST, SECOND].map(|what| rounds.row(&subject.named(what), &subject.named(SECOND))));
        if subject.name == SMALL {
            let first = rounds.median(&subject.named(FIRST));
            rows.push(Row::at_most("known, first call after a restart, ms", first / 1e3, 5.0));
        }
    }
    Ok(rows)
}

/// Makes the client's connection, as of stock clients that are there already, and nothing of the node's.
async fn connected(client: &NodeClient, subjects: &[Subject]) -> Result<(), Failure> {
    let subject = subjects.first().ok_or("no component")?;
    let unknown = ServiceDef::ServiceUri(format!("sha256:{}", Digest::of(b"of nothing that anybody uploaded")));
    match client.serve(&subject.target, unknown, subject.input.clone()).await {
        Err(ClientError::Call(status)) if status.code() == tonic::Code::NotFound => Ok(()),
        answer => Err(format!("an unknown digest was answered with {answer:?}").into()),
    }
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
