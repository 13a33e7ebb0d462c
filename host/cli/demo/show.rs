//! The scenes of the demo.

use super::super::call::receipt_line;
use super::super::client::{Answer, ClientError, NodeClient, Target, by_digest, with_bytes};
use super::super::json::Plugin;
use super::super::output::Output;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_types::Any;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Warm calls of which the median is shown.
const WARM_CALLS: usize = 21;
/// Spinning guests at once: twice the cores of a small machine.
const SPINNERS: usize = 4;
/// What a spinning guest gets.
const SPIN_FOR: Duration = Duration::from_millis(500);

/// What a scene sends.
struct Scene {
    service: &'static str,
    method: &'static str,
    request: Value,
    /// The request as people see it.
    shown: String,
}

fn scene(name: &str, root: &Path) -> anyhow::Result<Scene> {
    Ok(match name {
        "markdown" => {
            let source = "# Collector\n\nRuns *uploaded* code, **sandboxed**.";
            Scene {
                service: "markdown.v1.Markdown",
                method: "Render",
                request: json!({ "source": source }),
                shown: source.replace('\n', "⏎"),
            }
        }
        "thumbnail" => {
            let photo = root.join("tests/data/landscape.jpg");
            let image = std::fs::read(&photo).with_context(|| format!("cannot read {}", photo.display()))?;
            Scene {
                service: "thumbnail.v1.Thumbnail",
                method: "Resize",
                shown: format!("tests/data/landscape.jpg, {} bytes, to fit 96x96", image.len()),
                request: json!({ "image": BASE64.encode(image), "maxWidth": 96, "maxHeight": 96 }),
            }
        }
        _ => Scene {
            service: "greeter.v1.Greeter",
            method: "SayHello",
            request: json!({ "name": "Ada" }),
            shown: "name: Ada".to_owned(),
        },
    })
}

fn target(scene: &Scene, timeout: Option<Duration>) -> Target {
    Target {
        namespace: "demo".to_owned(),
        service: scene.service.to_owned(),
        method: scene.method.to_owned(),
        headers: Vec::new(),
        timeout,
    }
}

fn input(plugin: &Plugin, scene: &Scene) -> anyhow::Result<Any> {
    let (_, method) = plugin.method(scene.service, scene.method)?.context("the plugin carries no descriptors")?;
    let value = plugin.encode(method.input.name(), &scene.request.to_string())?;
    Ok(Any { type_url: format!("type.googleapis.com/{}", method.input.name()), value })
}

fn reply(plugin: &Plugin, scene: &Scene, answer: &Answer) -> anyhow::Result<String> {
    let (_, method) = plugin.method(scene.service, scene.method)?.context("the plugin carries no descriptors")?;
    let mut reply = plugin.decode(method.output.name(), &answer.output.value)?;
    // An image is for programs; people see its size.
    if let Some(image) = reply.get_mut("image") {
        let bytes = image.as_str().and_then(|text| BASE64.decode(text).ok()).unwrap_or_default().len();
        *image = json!(format!("{bytes} bytes"));
    }
    Ok(reply.to_string())
}

/// Uploads a plugin, calls it, calls it again: cold and warm.
pub(super) async fn plugin(
    client: &NodeClient,
    name: &str,
    plugin: &Plugin,
    root: &Path,
    output: &Output,
) -> anyhow::Result<Value> {
    let scene = scene(name, root)?;
    let target = target(&scene, None);
    let input = input(plugin, &scene)?;
    let cold = client.serve(&target, with_bytes(plugin), input.clone()).await?;
    let mut warm = Vec::with_capacity(WARM_CALLS);
    for _ in 0..WARM_CALLS {
        warm.push(client.serve(&target, by_digest(&plugin.artifact.digest), input.clone()).await?);
    }
    warm.sort_by_key(|answer| answer.took);
    let median = warm.get(WARM_CALLS / 2).context("no warm calls")?;
    output.text(&format!(
        "\n{name}: {} bytes of component, {}.{}\n  in       {}\n  out      {}\n  cold     {:.2?} (upload, compile, first answer)\n  \
         warm     {:.2?} (median of {WARM_CALLS}, by digest)\n  receipt  {}",
        plugin.bytes.len(),
        scene.service,
        scene.method,
        scene.shown,
        reply(plugin, &scene, median)?,
        cold.took,
        median.took,
        receipt_line(&median.receipt, median.took)
    ));
    Ok(json!({
        "plugin": name,
        "bytes": plugin.bytes.len(),
        "cold_us": micros(cold.took),
        "warm_p50_us": micros(median.took),
        "receipt": median.receipt,
    }))
}

/// Spins several guests to their deadline while greeter answers.
pub(super) async fn spinning(
    client: &NodeClient,
    greeter: &Plugin,
    misbehave: &Plugin,
    output: &Output,
) -> anyhow::Result<Value> {
    let spin = Scene { service: "misbehave.v1.Misbehave", method: "Spin", request: json!({}), shown: String::new() };
    // Compiled first, so that the deadline is spent spinning.
    let idle = Scene { method: "Sleep", ..spin };
    client.serve(&target(&idle, None), with_bytes(misbehave), input(misbehave, &idle)?).await?;
    let spin = Scene { method: "Spin", ..idle };

    let mut spinners = tokio::task::JoinSet::new();
    for _ in 0..SPINNERS {
        let (client, target, input) = (client.clone(), target(&spin, Some(SPIN_FOR)), input(misbehave, &spin)?);
        let code = by_digest(&misbehave.artifact.digest);
        spinners.spawn(async move {
            let began = Instant::now();
            (client.serve(&target, code, input).await, began.elapsed())
        });
    }
    let hello = scene("greeter", Path::new(""))?;
    let (hello_target, hello_input) = (target(&hello, None), input(greeter, &hello)?);
    let mut took = Vec::new();
    let mut stopped = Vec::new();
    while !spinners.is_empty() {
        took.push(client.serve(&hello_target, by_digest(&greeter.artifact.digest), hello_input.clone()).await?.took);
        while let Some(done) = spinners.try_join_next() {
            stopped.push(done?);
        }
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    let Some((Err(ClientError::Call(status)), after)) = stopped.first() else {
        anyhow::bail!("a spinning guest was not stopped");
    };
    output.text(&format!(
        "\n{SPINNERS} guests spin for ever, with a deadline of {SPIN_FOR:?}:\n  stopped  {:?} after {after:.1?}: {}\n  \
         meanwhile greeter answered {} calls, p50 {:.2?}, p99 {:.2?}",
        status.code(),
        status.message(),
        took.len(),
        at(50),
        at(99)
    ));
    Ok(json!({
        "spinning": SPINNERS,
        "stopped": format!("{:?}", status.code()),
        "stopped_after_us": micros(*after),
        "greeter_calls": took.len(),
        "greeter_p50_us": micros(at(50)),
        "greeter_p99_us": micros(at(99)),
    }))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
