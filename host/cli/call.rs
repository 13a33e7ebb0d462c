//! `collector call`: JSON in, JSON out, by the component's own descriptors.

use super::client::{Answer, NodeClient, Target};
use super::guest::Ui;
use super::json::Plugin;
use super::output::Output;
use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_types::Any;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

/// `collector call`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to call: NAMESPACE/SERVICE/METHOD, the service by its full or last name
    target: String,
    /// The component file
    #[arg(long, short, value_name = "FILE")]
    plugin: PathBuf,
    /// The request as JSON, @FILE or - for stdin; raw bytes for a component without descriptors [default: {} or nothing]
    #[arg(long, short, value_name = "JSON")]
    data: Option<String>,
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
    #[arg(long, env = "COLLECTOR_NODE", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    node: String,
}

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let target = target(&args)?;
    let plugin = Plugin::read(&args.plugin)?;
    let types = plugin.method(&target.service, &target.method)?;
    let data = match &args.data {
        Some(given) => data(given)?,
        None if types.is_some() => b"{}".to_vec(),
        None => Vec::new(),
    };
    let input = match types {
        Some((_, method)) => {
            let text = std::str::from_utf8(&data).context("the request is not UTF-8")?;
            let value = plugin.encode(&method.input, text)?;
            Any { type_url: format!("type.googleapis.com/{}", method.input), value }
        }
        None => Any { type_url: String::new(), value: data },
    };
    let client = NodeClient::connect(&args.node).await?;
    let step = ui.step(&format!("calling {}", args.target));
    let answer = client.call(&target, &plugin, input).await;
    drop(step);
    let answer = answer?;
    if args.verbose {
        ui.note(&receipt(&answer));
    }
    let reply = match types {
        Some((_, method)) => plugin.decode(&method.output, &answer.output.value)?,
        None if !output.is_json() => return output.raw(&answer.output.value),
        None => bytes_as_json(answer.output.value),
    };
    let took_us = u64::try_from(answer.took.as_micros()).unwrap_or(u64::MAX);
    let value = json!({ "reply": reply, "receipt": answer.receipt, "took_us": took_us });
    output.answer(&serde_json::to_string_pretty(&reply)?, &value);
    Ok(())
}

/// Text as a string, anything else as `{"base64": …}`.
fn bytes_as_json(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::String(text),
        Err(other) => json!({ "base64": BASE64.encode(other.as_bytes()) }),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let span = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let fits = |span: &Duration| *span > Duration::ZERO && *span <= Duration::from_secs(86_400);
    span.filter(fits).ok_or_else(|| "must be above 0 and at most 86400".to_owned())
}

/// The receipt and the client's own time in one line.
pub(super) fn receipt(answer: &Answer) -> String {
    let pairs = answer.receipt.iter().map(|(key, value)| {
        let key = key.trim_start_matches("collector-");
        let value = if key == "digest" { value.chars().take(19).collect() } else { value.clone() };
        format!("{key}={value}")
    });
    let pairs: Vec<String> = pairs.collect();
    format!("{} took={:.2?}", pairs.join(" "), answer.took)
}

fn target(args: &Args) -> anyhow::Result<Target> {
    let parts: Vec<&str> = args.target.split('/').collect();
    let [namespace, service, method] = parts[..] else {
        bail!("{:?} is no target; write NAMESPACE/SERVICE/METHOD, as demo/greeter.v1.Greeter/SayHello", args.target);
    };
    Ok(Target {
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        method: method.to_owned(),
        headers: args.header.clone(),
        timeout: args.timeout,
    })
}

fn data(data: &str) -> anyhow::Result<Vec<u8>> {
    if data == "-" {
        let mut input = Vec::new();
        std::io::stdin().read_to_end(&mut input).context("cannot read stdin")?;
        return Ok(input);
    }
    match data.strip_prefix('@') {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {path}")),
        None => Ok(data.as_bytes().to_vec()),
    }
}
