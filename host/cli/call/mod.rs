//! `collector call`: JSON in, JSON out. The types come from the node by reflection, or from a plugin file.

mod input;
mod native;
mod served;
mod target;

pub(super) use input::read;

use super::client::{Access, Target};
use super::guest::Ui;
use super::output::Output;
use super::place::{NAMESPACE, NODE};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// `collector call`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to call: NAMESPACE/SERVICE/METHOD or SERVICE/METHOD, the service by its full or last name
    target: String,
    /// Run this for the call, instead of what the node serves: a component, a static native binary, or
    /// image:REPOSITORY@sha256:DIGEST
    #[arg(long, short, value_name = "FILE")]
    plugin: Option<String>,
    /// The request as JSON, @FILE or - for stdin; a streaming method takes one JSON value after the other, from stdin
    /// unless told otherwise; raw bytes for a plugin without descriptors [default: {} or nothing]
    #[arg(long, short, value_name = "JSON")]
    data: Option<String>,
    /// Print an example of the request, and end
    #[arg(long)]
    example: bool,
    /// Metadata to send, may be repeated
    #[arg(long, short = 'H', value_name = "KEY:VALUE")]
    header: Vec<String>,
    /// Deadline in seconds, at most a day
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Also print the receipt, on stderr
    #[arg(long, short)]
    verbose: bool,
    /// Address of the node
    #[arg(long, env = "COLLECTOR_NODE", default_value = NODE, value_name = "URL")]
    node: String,
    #[command(flatten)]
    access: Access,
    /// Namespace of a target that names none
    #[arg(long, short, env = "COLLECTOR_NAMESPACE", default_value = NAMESPACE, value_name = "NS")]
    namespace: String,
}

const EXAMPLES: &str = "\
Examples:
  collector call Greeter/SayHello --example                          what a request looks like
  collector call acme/greeter.v1.Greeter/SayHello -d '{\"name\": \"you\"}'
  collector call CollectorRegistry/ListServices                      the node's own services too
  echo '{\"value\": 1} {\"value\": 2}' | collector call Streams/Sum    a stream of requests";

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let parts = target::parse(&args.target, &args.namespace)?;
    let target = Target {
        namespace: parts.namespace,
        service: parts.service,
        method: parts.method,
        headers: args.header.clone(),
        timeout: args.timeout,
    };
    match &args.plugin {
        Some(code) => served::run(&args, code, &target, output, ui).await,
        None => native::run(&args, target, output, ui).await,
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let span = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let fits = |span: &Duration| *span > Duration::ZERO && *span <= Duration::from_secs(86_400);
    span.filter(fits).ok_or_else(|| "must be above 0 and at most 86400".to_owned())
}

/// The receipt and the client's own time in one line.
pub(super) fn receipt_line(receipt: &BTreeMap<String, String>, took: Duration) -> String {
    let pairs = receipt.iter().map(|(key, value)| {
        let key = key.trim_start_matches("collector-");
        let value = if key == "digest" { value.chars().take(19).collect() } else { value.clone() };
        format!("{key}={value}")
    });
    let pairs: Vec<String> = pairs.collect();
    format!("{} took={took:.2?}", pairs.join(" "))
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Prints an example of a request.
fn print_example(message: &prost_reflect::MessageDescriptor, output: &Output) -> anyhow::Result<()> {
    let text = super::example::pretty(&super::example::example(message))?;
    let value: Value = serde_json::from_str(&text)?;
    output.answer(&text, &value);
    Ok(())
}
