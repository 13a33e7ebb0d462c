//! `collector collection`: collections as wholes.

mod batch;
mod define;
mod export;
mod import;
mod lines;
mod list;
mod rejects;
mod search;
mod upkeep;

use super::guest::Ui;
use super::output::Output;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an empty collection
    Create(define::CreateArgs),
    /// List collections
    List(list::Args),
    /// Print definition, count and size
    Describe(define::DescribeArgs),
    /// Change the indexes; reads and writes go on meanwhile
    Modify(define::ModifyArgs),
    /// Drop a collection with all its records, for good
    Drop(upkeep::DropArgs),
    /// Work out again what searches see, by the type as it is registered now
    Reindex(upkeep::ReindexArgs),
    /// Find records in several collections of a namespace
    Search(search::Args),
    /// Create records from lines of JSON
    Import(import::Args),
    /// Write all records as lines of JSON
    Export(export::Args),
}

pub(super) async fn run(command: Command, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => define::create(args, output).await,
        Command::List(args) => list::run(args, output).await,
        Command::Describe(args) => define::describe(args, output).await,
        Command::Modify(args) => define::modify(args, output, ui).await,
        Command::Drop(args) => upkeep::drop(args, output).await,
        Command::Reindex(args) => upkeep::reindex(args, output, ui).await,
        Command::Search(args) => search::run(args, output).await,
        Command::Import(args) => import::run(args, output, ui).await,
        Command::Export(args) => export::run(args, output, ui).await,
    }
}
