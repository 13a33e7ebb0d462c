//! `collector record`: single records of a collection, and finding them.

mod at;
mod condition;
mod data;
mod find;
mod item;
mod line;
mod pages;
mod show;
mod write;

pub(super) use at::{At, Collection, pair};
pub(super) use condition::{Condition, filters_object, text, with_help};
pub(super) use item::{Detail, Items};
pub(super) use line::{Entry, Line};
pub(super) use pages::{PAGE_MAX, Pages};
pub(super) use show::{Format, Shape};

use super::guest::Ui;
use super::output::Output;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Store a new record, and print its id
    Create(write::CreateArgs),
    /// Print a record
    Get(write::GetArgs),
    /// Replace a record, or change parts of it
    Update(write::UpdateArgs),
    /// Delete a record; fine if there is none
    Delete(write::DeleteArgs),
    /// List records, in pages behind the scenes
    List(find::ListArgs),
    /// Find records by text, fields, labels or vector
    Search(find::SearchArgs),
}

pub(super) async fn run(command: Command, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => write::create(args, output).await,
        Command::Get(args) => write::get(args, output, ui).await,
        Command::Update(args) => write::update(args, output).await,
        Command::Delete(args) => write::delete(args, output).await,
        Command::List(args) => find::list(args, output, ui).await,
        Command::Search(args) => find::search(args, output, ui).await,
    }
}
