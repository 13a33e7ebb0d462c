//! `collector plugin grant` and `revoke`: what the code of a deployment may reach.

use super::super::client::{ClientError, request};
use super::super::output::Output;
use super::super::place::Place;
use crate::domain::one_line;
use crate::rpc::pb::plugin::v1 as pb;
use serde_json::json;

/// `collector plugin grant` and `collector plugin revoke`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the deployment
    name: String,
    /// config=KEY=VALUE, secret=NAME, collections=NAME:read, collections=NAME:write, files=FOLDER:read,
    /// files=FOLDER:write, dispatch=SERVICE, http=https://HOST[:PORT]; * for all collections or services, *. before a host for all below it.
    /// To revoke: the same, without its value (config=KEY), or the kind alone (http)
    #[arg(required = true, value_name = "GRANT")]
    grants: Vec<String>,
    #[command(flatten)]
    place: Place,
}

pub(super) async fn grant(args: Args, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let namespace = args.place.namespace;
    let wanted = pb::GrantRequest { namespace: namespace.clone(), name: args.name, grants: args.grants };
    let done = client.plugins().grant(request(&namespace, wanted)?).await.map_err(ClientError::from)?;
    report(&done.into_inner().deployment.unwrap_or_default(), output);
    Ok(())
}

pub(super) async fn revoke(args: Args, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let namespace = args.place.namespace;
    let wanted = pb::RevokeRequest { namespace: namespace.clone(), name: args.name, grants: args.grants };
    let done = client.plugins().revoke(request(&namespace, wanted)?).await.map_err(ClientError::from)?;
    report(&done.into_inner().deployment.unwrap_or_default(), output);
    Ok(())
}

/// All that it has now: what a single change leaves is what counts.
fn report(deployment: &pb::Deployment, output: &Output) {
    let pb::Deployment { namespace, name, grants, .. } = deployment;
    let mut text = match grants.is_empty() {
        true => format!("{name} in {namespace} is granted nothing"),
        false => format!("{name} in {namespace} is granted:"),
    };
    for grant in grants {
        text.push_str(&format!("\n  {}", one_line(grant, 512)));
    }
    output.answer(&text, &json!({ "namespace": namespace, "name": name, "grants": grants }));
}
