//! `collector schema push`

use super::super::client::{ClientError, NodeClient, request};
use super::super::descriptors::{RawFile, embed};
use super::super::guest::Ui;
use super::super::output::Output;
use super::super::place::Place;
use super::diff::{Difference, register};
use super::local::{Local, Sources};
use crate::domain::one_line;
use crate::rpc::pb;
use bytes::Bytes;
use serde_json::json;
use std::fmt::Write as _;

/// `collector schema push`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    place: Place,
    /// Make every check, register nothing
    #[arg(long)]
    dry_run: bool,
}

/// A service that was registered.
struct Registered {
    id: String,
    methods: Vec<String>,
}

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let local = Local::read(&args.sources)?;
    let namespace = args.place.namespace.as_str();
    let client = args.place.connect().await?;
    // All checks first: the node takes files one by one, and half a push helps nobody.
    let difference = Difference::find(&client, namespace, &local).await?;
    if args.dry_run || difference.refuse_breaking().is_err() {
        let mut value = difference.value();
        value["dry_run"] = json!(true);
        output.answer(&format!("{}nothing was registered", difference.text()), &value);
        return difference.refuse_breaking();
    }
    let step = ui.step(&format!("registering {} files in {namespace}", local.files.len()));
    let mut services = Vec::new();
    for file in &local.files {
        let wanted = request(namespace, register(namespace, file, &[]))?;
        client.registry().register_proto(wanted).await.map_err(ClientError::from)?;
    }
    for file in local.files.iter().filter(|file| local.is_named(file)) {
        for service in &file.services {
            services.push(register_service(&client, namespace, file, service).await?);
        }
    }
    drop(step);
    let mut text = difference.text();
    for service in &services {
        let methods = one_line(&service.methods.join(", "), 512);
        let _ = writeln!(text, "registered {}: {methods}", one_line(&service.id, 512));
    }
    let mut value = difference.value();
    let registered = services.iter().map(|service| json!({ "id": service.id, "methods": service.methods }));
    value["registered"] = registered.collect();
    output.answer(&text, &value);
    Ok(())
}

async fn register_service(
    client: &NodeClient,
    namespace: &str,
    file: &RawFile,
    service: &Bytes,
) -> anyhow::Result<Registered> {
    let wanted = pb::RegisterServiceRequest {
        namespace: namespace.to_owned(),
        service_descriptor: Some(embed(service)),
        file_descriptor: Some(embed(&file.raw)),
    };
    let done = client.registry().register_service(request(namespace, wanted)?).await;
    let done = done.map_err(ClientError::from)?.into_inner();
    Ok(Registered { id: done.service_id, methods: done.registered_methods })
}
