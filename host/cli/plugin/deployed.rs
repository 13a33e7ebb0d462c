//! `collector plugin list`, `activate` and `undeploy`: what a node has, and which version of it answers.

use super::super::client::{ClientError, request};
use super::super::output::{Output, table};
use super::super::place::Place;
use crate::domain::one_line;
use crate::rpc::pb::plugin::v1 as pb;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `collector plugin list`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    place: Place,
    /// All namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
}

/// `collector plugin activate`
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)] // its name is taken
pub(in crate::cli) struct ActivateArgs {
    /// Name of the deployment
    name: String,
    /// Number of the version that is to answer
    #[arg(required_unless_present = "latest", conflicts_with = "latest", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// The newest version
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    place: Place,
}

/// `collector plugin undeploy`
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)] // its name is taken
pub(in crate::cli) struct UndeployArgs {
    /// Name of the deployment
    name: String,
    /// Only this version, which must not be the active one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn list(args: ListArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let namespace = if args.all_namespaces { String::new() } else { args.place.namespace.clone() };
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let wanted = pb::ListRequest { namespace: namespace.clone(), page_size: 1_000, page_token };
        let wanted = request(&args.place.namespace, wanted)?;
        let page = client.plugins().list(wanted).await.map_err(ClientError::from)?.into_inner();
        all.extend(page.deployments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let text = match all.is_empty() {
        true if args.all_namespaces => "no deployments".to_owned(),
        true => format!("no deployments in namespace {namespace}; make one with `collector plugin deploy`"),
        false => {
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            table(&["NAMESPACE", "NAME", "ACTIVE", "VERSIONS", "SERVICES"], &rows)
        }
    };
    output.answer(&text, &json!({ "deployments": all.iter().map(value).collect::<Vec<_>>() }));
    Ok(())
}

pub(super) async fn activate(args: ActivateArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let namespace = args.place.namespace;
    let version = args.version.unwrap_or_default(); // 0 is the newest
    let wanted = pb::ActivateRequest { namespace: namespace.clone(), name: args.name.clone(), version };
    let done = client.plugins().activate(request(&namespace, wanted)?).await.map_err(ClientError::from)?;
    let deployment = done.into_inner().deployment.unwrap_or_default();
    let text = format!("{}: version {} is live in {namespace}", args.name, deployment.active_version);
    output.answer(&text, &value(&deployment));
    Ok(())
}

/// Says what goes before it goes: afterwards nobody knows.
pub(super) async fn undeploy(args: UndeployArgs, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let (namespace, name) = (args.place.namespace, args.name);
    let wanted = pb::GetRequest { namespace: namespace.clone(), name: name.clone() };
    let before = client.plugins().get(request(&namespace, wanted)?).await.map_err(ClientError::from)?;
    let before = before.into_inner().deployment.unwrap_or_default();
    let version = args.version.unwrap_or_default();
    let wanted = pb::UndeployRequest { namespace: namespace.clone(), name: name.clone(), version };
    client.plugins().undeploy(request(&namespace, wanted)?).await.map_err(ClientError::from)?;

    let gone: Vec<&pb::Version> = before.versions.iter().filter(|one| version == 0 || one.number == version).collect();
    let services = if version == 0 { services(&before) } else { BTreeSet::new() };
    let numbers: Vec<String> = gone.iter().map(|one| one.number.to_string()).collect();
    let mut text = format!("{name}: gone from {namespace}: version {}", numbers.join(", "));
    for service in &services {
        text.push_str(&format!("\n  - {}", one_line(service, 256)));
    }
    let value = json!({
        "namespace": namespace,
        "name": name,
        "versions": gone.iter().map(|one| one.number).collect::<Vec<_>>(),
        "services": services,
    });
    output.answer(&text, &value);
    Ok(())
}

/// The services of the active version, or of the newest when none is active.
fn services(deployment: &pb::Deployment) -> BTreeSet<&str> {
    let active = deployment.versions.iter().find(|one| one.number == deployment.active_version);
    let shown = active.or(deployment.versions.last());
    shown.into_iter().flat_map(|one| one.services.iter().map(String::as_str)).collect()
}

fn row(deployment: &pb::Deployment) -> Vec<String> {
    let active = match deployment.active_version {
        0 => "none".to_owned(),
        number => number.to_string(),
    };
    let numbers: Vec<String> = deployment.versions.iter().map(|one| one.number.to_string()).collect();
    let services: Vec<&str> = services(deployment).into_iter().collect();
    let cells = [&deployment.namespace, &deployment.name, &active, &numbers.join(" "), &services.join(" ")];
    cells.map(|cell| one_line(cell, 256)).to_vec()
}

fn value(deployment: &pb::Deployment) -> Value {
    let versions = deployment.versions.iter().map(|one| {
        json!({
            "number": one.number,
            "digest": one.digest,
            "image": one.image,
            "kind": one.kind,
            "bytes": one.size_bytes,
            "services": one.services,
            "imports": one.imports,
            "created_at": one.created_at.map(|time| time.to_string()),
        })
    });
    json!({
        "namespace": deployment.namespace,
        "name": deployment.name,
        "active_version": deployment.active_version,
        "grants": deployment.grants,
        "versions": versions.collect::<Vec<_>>(),
        "created_at": deployment.created_at.map(|time| time.to_string()),
        "updated_at": deployment.updated_at.map(|time| time.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_what_answers() {
        let version =
            |number: u32, service: &str| pb::Version { number, services: vec![service.into()], ..Default::default() };
        let mut deployment = pb::Deployment {
            namespace: "acme".into(),
            name: "a".into(),
            active_version: 1,
            versions: vec![version(1, "a.v1.A"), version(3, "a.v2.A")],
            ..Default::default()
        };
        assert_eq!(row(&deployment), ["acme", "a", "1", "1 3", "a.v1.A"]);
        deployment.active_version = 0;
        assert_eq!(row(&deployment), ["acme", "a", "none", "1 3", "a.v2.A"]);
        assert_eq!(value(&deployment)["versions"][1]["number"], 3);
    }
}
