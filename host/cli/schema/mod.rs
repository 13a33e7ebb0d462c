//! `collector schema`: the types and services of a namespace.

mod diff;
mod list;
mod local;
mod push;
mod show;

use super::guest::Ui;
use super::output::Output;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register .proto files and the services that they declare
    Push(push::Args),
    /// List services and their methods
    List(list::Args),
    /// Print a service, a message, an enum or a file as .proto text
    Show(show::Args),
    /// Say what push would change, and what of it breaks callers; fails if something does
    Diff(diff::Args),
}

pub(super) async fn run(command: Command, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    match command {
        Command::Push(args) => push::run(args, output, ui).await,
        Command::List(args) => list::run(args, output).await,
        Command::Show(args) => show::run(args, output).await,
        Command::Diff(args) => diff::run(args, output).await,
    }
}
