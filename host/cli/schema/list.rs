//! `collector schema list`

use super::super::client::{ClientError, request};
use super::super::output::{Output, table};
use super::super::place::Place;
use super::super::render::stream;
use crate::domain::one_line;
use crate::rpc::pb;
use anyhow::Context as _;
use prost::Message as _;
use prost_types::ServiceDescriptorProto;
use serde_json::{Value, json};

/// `collector schema list`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    /// Also the services of the node itself
    #[arg(long, short)]
    all: bool,
}

/// Packages that only the node's own services are in.
const OWN: [&str; 2] = ["collector.", "grpc."];

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let wanted = pb::ListServicesRequest { namespace: args.place.namespace.clone() };
    let list = client.registry().list_services(request(&args.place.namespace, wanted)?).await;
    let list = list.map_err(ClientError::from)?.into_inner().services;
    let shown = list.iter().filter(|service| args.all || !OWN.iter().any(|own| service.service_name.starts_with(own)));

    let mut rows = Vec::new();
    let mut values = Vec::new();
    for service in shown {
        let descriptor = match &service.service_descriptor {
            Some(raw) => ServiceDescriptorProto::decode(raw.bytes()).context("the node sent a broken descriptor")?,
            None => ServiceDescriptorProto::default(),
        };
        rows.push(vec![one_line(&service.service_name, 256)]);
        for method in &descriptor.method {
            let side = |streams, name: &str| one_line(&stream(streams, name.trim_start_matches('.')), 256);
            rows.push(vec![
                format!("  {}", one_line(method.name(), 256)),
                side(method.client_streaming(), method.input_type()),
                side(method.server_streaming(), method.output_type()),
            ]);
        }
        values.push(value(&service.service_name, &descriptor));
    }
    let text = match rows.is_empty() {
        true => format!(
            "no services in namespace {}; add some with `collector plugin deploy` or `collector schema push`",
            args.place.namespace
        ),
        false => table(&["SERVICE", "REQUEST", "REPLY"], &rows),
    };
    output.answer(&text, &json!({ "namespace": args.place.namespace, "services": values }));
    Ok(())
}

fn value(name: &str, service: &ServiceDescriptorProto) -> Value {
    let methods = service.method.iter().map(|method| {
        json!({
            "name": method.name(),
            "input": method.input_type().trim_start_matches('.'),
            "output": method.output_type().trim_start_matches('.'),
            "client_streaming": method.client_streaming(),
            "server_streaming": method.server_streaming(),
        })
    });
    json!({ "name": name, "methods": methods.collect::<Vec<_>>() })
}
