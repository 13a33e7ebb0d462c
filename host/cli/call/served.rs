//! A call with a component file: through `Serve`, typed by the component's own descriptors.

use super::super::client::{NodeClient, Target};
use super::super::guest::Ui;
use super::super::json::Plugin;
use super::super::output::Output;
use super::{Args, input, micros, print_example, receipt_line};
use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_types::Any;
use serde_json::{Value, json};
use std::path::Path;

pub(super) async fn run(args: &Args, file: &Path, target: &Target, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let plugin = Plugin::read(file)?;
    let types = plugin.method(&target.service, &target.method)?;
    if args.example {
        let Some((_, method)) = types else { bail!("the component carries no descriptors; it takes any bytes") };
        return print_example(&plugin.descriptor(method.input.name())?, output);
    }
    let data = match &args.data {
        Some(given) => input::read(given)?,
        None if types.is_some() => b"{}".to_vec(),
        None => Vec::new(),
    };
    let input = match types {
        Some((_, method)) => {
            let text = std::str::from_utf8(&data).context("the request is not UTF-8")?;
            let value = plugin.encode(method.input.name(), text)?;
            Any { type_url: format!("type.googleapis.com/{}", method.input.name()), value }
        }
        None => Any { type_url: String::new(), value: data },
    };
    let client = NodeClient::connect(&args.node).await?;
    let step = ui.step(&format!("calling {}", args.target));
    let answer = client.call(target, &plugin, input).await;
    drop(step);
    let answer = answer?;
    if args.verbose {
        ui.note(&receipt_line(&answer.receipt, answer.took));
    }
    let reply = match types {
        Some((_, method)) => plugin.decode(method.output.name(), &answer.output.value)?,
        None if !output.is_json() => return output.raw(&answer.output.value),
        None => bytes_as_json(answer.output.value),
    };
    let value = json!({ "reply": reply, "receipt": answer.receipt, "took_us": micros(answer.took) });
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
