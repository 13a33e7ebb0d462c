//! `collector schema show`

use super::super::output::Output;
use super::super::place::Place;
use super::super::reflect::Reflection;
use super::super::render::{self, Scope};
use crate::domain::some_of;
use anyhow::{Context as _, bail};
use prost_reflect::{DescriptorPool, MessageDescriptor, ServiceDescriptor};
use serde_json::json;
use std::collections::BTreeMap;

/// `collector schema show`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A service (full or last name), a message or enum (full name), or a file (ends in .proto)
    name: String,
    #[command(flatten)]
    place: Place,
}

/// What is shown.
struct Shown {
    kind: &'static str,
    name: String,
    file: String,
    text: String,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let reflection = Reflection::open(&client, &args.place.namespace).await?;
    let shown = match args.name.ends_with(".proto") {
        true => file(&reflection, &args.name).await?,
        false => symbol(&reflection, args.name.trim_start_matches('.'), &args.place.namespace).await?,
    };
    let text = match shown.kind {
        "file" => shown.text.clone(),
        kind => format!("// {kind} {}, from {}\n{}", shown.name, shown.file, shown.text),
    };
    let value = json!({ "kind": shown.kind, "name": shown.name, "file": shown.file, "text": shown.text });
    output.answer(&text, &value);
    Ok(())
}

async fn file(reflection: &Reflection, name: &str) -> anyhow::Result<Shown> {
    let Some(file) = reflection.file(name).await? else {
        bail!("there is no file {name} here; files of services: `collector schema list`, then show a service");
    };
    let text = render::file(&file.proto()?);
    Ok(Shown { kind: "file", name: file.name.clone(), file: file.name, text })
}

async fn symbol(reflection: &Reflection, name: &str, namespace: &str) -> anyhow::Result<Shown> {
    // The last name of a service is worth a look at the list; anything else goes by its full name.
    let full = reflection.resolve(name).unwrap_or(name);
    let Some(files) = reflection.symbol(full).await? else {
        reflection.resolve(name)?;
        bail!("there is no {name} in namespace {namespace}");
    };
    let pool = reflection.pool(files).await?;
    if let Some(service) = pool.get_service_by_name(full) {
        return Ok(of_service(&service));
    }
    if let Some(message) = pool.get_message_by_name(full) {
        return Ok(of_message(&message));
    }
    of_enum(&pool, full).with_context(|| {
        let services = some_of(reflection.services());
        format!("{name} is neither a service, nor a message, nor an enum; services are {services}")
    })
}

/// A service and the messages that its methods take and give.
fn of_service(service: &ServiceDescriptor) -> Shown {
    let file = service.parent_file();
    let proto = file.file_descriptor_proto();
    let mut text = render::service(service.service_descriptor_proto(), Scope::of(proto));
    let sides = service.methods().flat_map(|method| [method.input(), method.output()]);
    let messages: BTreeMap<String, MessageDescriptor> =
        sides.map(|message| (message.full_name().to_owned(), message)).collect();
    for message in messages.values().filter(|message| message.package_name() == service.package_name()) {
        text.push('\n');
        text.push_str(&render::message(message.descriptor_proto(), Scope::of(message.parent_file_descriptor_proto())));
    }
    Shown { kind: "service", name: service.full_name().to_owned(), file: file.name().to_owned(), text }
}

fn of_message(message: &MessageDescriptor) -> Shown {
    let scope = Scope::of(message.parent_file_descriptor_proto());
    let text = render::message(message.descriptor_proto(), scope);
    let file = message.parent_file().name().to_owned();
    Shown { kind: "message", name: message.full_name().to_owned(), file, text }
}

fn of_enum(pool: &DescriptorPool, name: &str) -> Option<Shown> {
    let one = pool.get_enum_by_name(name)?;
    let text = render::enumeration(one.enum_descriptor_proto(), Scope::of(one.parent_file_descriptor_proto()));
    Some(Shown { kind: "enum", name: name.to_owned(), file: one.parent_file().name().to_owned(), text })
}
