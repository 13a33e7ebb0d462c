//! `collector auth token`

use super::super::client::ClientError;
use super::super::output::Output;
use super::super::place::At;
use super::key::span;
use crate::domain::{now, timestamp};
use crate::rpc::pb::admin::v1 as pb;
use crate::tenancy::token_claims;
use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// End a token, for new calls and open streams
    Revoke(RevokeArgs),
}

/// `collector auth token revoke`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RevokeArgs {
    #[command(flatten)]
    at: At,
    /// The token itself; only its id and its end are sent
    #[arg(conflicts_with = "id", required_unless_present = "id", value_name = "JWT")]
    jwt: Option<String>,
    /// Its claim jti, where the token itself is not at hand
    #[arg(long, requires = "expires_in")]
    id: Option<String>,
    /// How long it could still be good: a number and s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires_in: Option<i64>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let Command::Revoke(RevokeArgs { at, jwt, id, expires_in }) = command;
    let (id, expires_at) = match (jwt, id, expires_in) {
        (Some(jwt), _, _) => token_claims(&jwt)?,
        (None, Some(id), Some(span)) => (id, now().saturating_add(span)),
        (None, _, _) => bail!("give the token, or --id and --expires-in"),
    };
    let asked = pb::RevokeTokenRequest { id: id.clone(), expires_at: Some(timestamp(expires_at)) };
    at.connect().await?.keys().revoke_token(asked).await.map_err(ClientError::from)?;
    output.answer(&format!("tokens with the id {id} are revoked"), &json!({ "id": id }));
    Ok(())
}
