//! `collector auth`: keys, and tokens that are to be good no longer.

mod at;
mod key;
mod token;

use super::output::Output;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make, list and end API keys
    #[command(subcommand)]
    Key(key::Command),
    /// End tokens of the issuer that the node trusts
    #[command(subcommand)]
    Token(token::Command),
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Key(command) => key::run(command, output).await,
        Command::Token(command) => token::run(command, output).await,
    }
}
