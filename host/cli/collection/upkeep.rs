//! `collector collection drop` and `reindex`.

use super::super::client::ClientError;
use super::super::guest::Ui;
use super::super::output::Output;
use super::super::record::{At, Collection};
use super::define::described;
use crate::rpc::pb::record::v1 as pb;
use anyhow::{Context as _, bail};
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// `collector collection drop`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DropArgs {
    #[command(flatten)]
    at: At,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `collector collection reindex`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ReindexArgs {
    #[command(flatten)]
    at: At,
}

pub(super) async fn drop(args: DropArgs, output: &Output) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    if !args.yes {
        let records = described(&collection).await?.record_count;
        ask(&collection, records)?;
    }
    let wanted =
        pb::DropCollectionRequest { namespace: collection.namespace.clone(), collection_name: collection.name.clone() };
    let done = collection.client.caretaker().drop_collection(collection.request(wanted)?).await;
    let records = done.map_err(ClientError::from)?.into_inner().records;
    let value = json!({ "collection": collection.id(), "records": records });
    output.answer(&format!("{}: dropped, and {records} records with it", collection.id()), &value);
    Ok(())
}

/// Has the name typed.
fn ask(collection: &Collection, records: i64) -> anyhow::Result<()> {
    let id = collection.id();
    if !std::io::stdin().is_terminal() {
        bail!("{id} has {records} records, and nobody is there to ask; give --yes to drop it");
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "{id} and its {records} records will be gone for good.\nType {id} to drop it: ");
    let _ = err.flush();
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed).context("cannot read the terminal")?;
    if typed.trim() != id {
        bail!("that is not {id}; nothing was dropped");
    }
    Ok(())
}

pub(super) async fn reindex(args: ReindexArgs, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let wanted =
        pb::ReindexRequest { namespace: collection.namespace.clone(), collection_name: collection.name.clone() };
    let stream = collection.client.caretaker().reindex(collection.request(wanted)?).await;
    let mut stream = stream.map_err(ClientError::from)?.into_inner();
    let mut bar = None;
    let mut last = pb::ReindexProgress::default();
    while let Some(now) = stream.message().await.map_err(ClientError::from)? {
        let text = format!("reindexing {}", collection.id());
        let bar = bar.get_or_insert_with(|| ui.records(&text, u64::try_from(now.total).unwrap_or_default()));
        bar.set(u64::try_from(now.done).unwrap_or_default());
        last = now;
    }
    std::mem::drop(bar);
    let skipped = match last.skipped {
        0 => String::new(),
        skipped => format!(", {skipped} of them not of its type and found by no search"),
    };
    let value = json!({ "collection": collection.id(), "records": last.done, "skipped": last.skipped });
    output.answer(&format!("{}: {} records{skipped}", collection.id(), last.done), &value);
    Ok(())
}
