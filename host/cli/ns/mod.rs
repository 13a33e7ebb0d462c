//! `collector ns`: namespaces, what each may use, and what it uses.

mod quota;
mod usage;

use super::client::ClientError;
use super::output::{Output, table};
use super::place::At;
use crate::domain::one_line;
use crate::rpc::pb::admin::v1 as pb;
use clap::Subcommand;
use quota::Numbers;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most pages that a listing asks for: a thousand namespaces each.
const PAGES_MAX: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a namespace, with quotas of its own where they are given
    Create(Change),
    /// List the namespaces that were made
    List(At),
    /// Show the quotas of a namespace, or change them
    Quota(quota::Args),
    /// Show what a namespace uses, beside what it may use
    Usage(One),
}

/// Which namespace.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    #[command(flatten)]
    at: At,
    /// Name of the namespace
    name: String,
}

/// A namespace and numbers for it.
#[derive(Debug, clap::Args)]
pub(super) struct Change {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    numbers: Numbers,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create(args, output).await,
        Command::List(args) => list(&args, output).await,
        Command::Quota(args) => quota::run(args, output).await,
        Command::Usage(args) => usage::run(&args, output).await,
    }
}

async fn create(args: Change, output: &Output) -> anyhow::Result<()> {
    let client = args.one.at.connect().await?;
    let request = pb::CreateNamespaceRequest { namespace: args.one.name, quota: args.numbers.given() };
    let made = client.namespaces().create(request).await.map_err(ClientError::from)?.into_inner();
    let made = made.namespace.unwrap_or_default();
    output.answer(&format!("made namespace {}", one_line(&made.name, 64)), &value(&made));
    Ok(())
}

async fn list(args: &At, output: &Output) -> anyhow::Result<()> {
    let client = args.connect().await?;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let request = pb::ListNamespacesRequest { page_size: 1_000, page_token };
        let page = client.namespaces().list(request).await.map_err(ClientError::from)?.into_inner();
        found.extend(page.namespaces);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let row = |one: &pb::NamespaceInfo| {
        let own: Vec<String> = sorted(&one.own).iter().map(|(name, value)| format!("{name}={value}")).collect();
        vec![one_line(&one.name, 64), one_line(&own.join(" "), 512)]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let text = match rows.is_empty() {
        true => "no namespaces were made; make one with `collector ns create NAME`".to_owned(),
        false => table(&["NAMESPACE", "OWN QUOTAS"], &rows),
    };
    output.answer(&text, &json!({ "namespaces": found.iter().map(value).collect::<Vec<_>>() }));
    Ok(())
}

fn sorted(quota: &std::collections::HashMap<String, u64>) -> BTreeMap<&str, u64> {
    quota.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

/// For programs.
fn value(one: &pb::NamespaceInfo) -> Value {
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(ToString::to_string);
    json!({
        "name": one.name,
        "created_at": time(&one.created_at),
        "updated_at": time(&one.updated_at),
        "quota": sorted(&one.quota),
        "own": sorted(&one.own),
    })
}
