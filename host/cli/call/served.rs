//! A call with code of the caller's own: through `Serve`, a plugin file typed by its own descriptors, or a container image
//! typed by what the node has registered.

use super::super::client::{Answer, ClientError, NodeClient, Target};
use super::super::guest::Ui;
use super::super::json::{Plugin, decode, encode};
use super::super::output::Output;
use super::super::place::is_image;
use super::super::reflect::Reflection;
use super::{Args, input, micros, print_example, receipt_line};
use crate::rpc::pb::serve_request::ServiceDef;
use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::MessageDescriptor;
use prost_types::Any;
use serde_json::{Value, json};
use std::path::Path;

/// What is to answer.
enum Code {
    File(Box<Plugin>),
    Image(String),
}

/// What a method takes and gives.
struct Types {
    input: MessageDescriptor,
    output: MessageDescriptor,
}

pub(super) async fn run(args: &Args, code: &str, target: &Target, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let (code, types) = match is_image(code) {
        true => (Code::Image(code.to_owned()), registered(args, target).await?),
        false => {
            let plugin = Plugin::read(Path::new(code))?;
            let types = described(&plugin, target)?;
            (Code::File(Box::new(plugin)), types)
        }
    };
    if args.example {
        let Some(types) = types else { bail!("the plugin carries no descriptors; it takes any bytes") };
        return print_example(&types.input, output);
    }
    let data = match &args.data {
        Some(given) => input::read(given)?,
        None if types.is_some() => b"{}".to_vec(),
        None => Vec::new(),
    };
    let input = match &types {
        Some(types) => {
            let value = encode(types.input.clone(), &data)?;
            Any { type_url: format!("type.googleapis.com/{}", types.input.full_name()), value }
        }
        None => Any { type_url: String::new(), value: data },
    };
    let client = NodeClient::connect_with(&args.node, &args.access).await?;
    let step = ui.step(&format!("calling {}", args.target));
    let answer = code.call(&client, target, input).await;
    drop(step);
    let answer = answer?;
    if args.verbose {
        ui.note(&receipt_line(&answer.receipt, answer.took));
    }
    let reply = match types {
        Some(types) => decode(types.output, &answer.output.value)?,
        None if !output.is_json() => return output.raw(&answer.output.value),
        None => bytes_as_json(answer.output.value),
    };
    let value = json!({ "reply": reply, "receipt": answer.receipt, "took_us": micros(answer.took) });
    output.answer(&serde_json::to_string_pretty(&reply)?, &value);
    Ok(())
}

impl Code {
    async fn call(&self, client: &NodeClient, target: &Target, input: Any) -> Result<Answer, ClientError> {
        match self {
            Self::File(plugin) => client.call(target, plugin, input).await,
            Self::Image(image) => client.serve(target, ServiceDef::ServiceUri(image.clone()), input).await,
        }
    }
}

/// The types of a method by the plugin's descriptors; `None` where it carries none.
fn described(plugin: &Plugin, target: &Target) -> anyhow::Result<Option<Types>> {
    let Some((_, method)) = plugin.method(&target.service, &target.method)? else { return Ok(None) };
    let (input, output) = (plugin.descriptor(method.input.name())?, plugin.descriptor(method.output.name())?);
    Ok(Some(Types { input, output }))
}

/// The types of a method that the node knows; `None` where it does not know the service: any bytes go there.
async fn registered(args: &Args, target: &Target) -> anyhow::Result<Option<Types>> {
    let client = NodeClient::connect_with(&args.node, &args.access).await?;
    let reflection = Reflection::open(&client, &target.namespace).await?;
    if reflection.resolve(&target.service).is_err() {
        return Ok(None);
    }
    let method = reflection.method(&target.service, &target.method).await?;
    Ok(Some(Types { input: method.input(), output: method.output() }))
}

/// Text as a string, anything else as `{"base64": …}`.
fn bytes_as_json(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::String(text),
        Err(other) => json!({ "base64": BASE64.encode(other.as_bytes()) }),
    }
}
