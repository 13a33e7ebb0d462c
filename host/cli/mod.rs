//! The command line: what people type, and nothing that a library user needs.

mod audit;
mod auth;
mod call;
mod client;
mod collection;
mod demo;
mod descriptors;
mod doctor;
mod example;
pub mod guest;
mod json;
mod native;
mod ns;
mod output;
mod peer;
mod place;
mod plugin;
mod record;
mod reflect;
mod render;
mod schema;
mod secret;
mod serve;
mod watch;

pub use client::{Access, Answer, ClientError, NodeClient, Target, Token};
pub use json::{JsonError, Plugin as PluginFile};

use clap::{CommandFactory as _, Parser, Subcommand};
use guest::Ui;
use output::Output;
use std::process::ExitCode;

/// A gRPC node that runs uploaded WebAssembly components as sandboxed methods.
#[derive(Debug, Parser)]
#[command(name = "collector", version, propagate_version = true, after_help = NEXT_STEPS)]
struct Cli {
    /// Print one JSON value on stdout instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Keep progress and notes to yourself
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const NEXT_STEPS: &str = "\
First steps:
  collector demo                      see everything work, then try it by hand
  collector plugin new hello          make a plugin
  collector plugin build hello        compile it to a component
  collector dev                       start a node for yourself
  collector plugin deploy hello       give the node the plugin, by name
  collector schema list               see what can be called
  collector call Hello/SayHello -d '{\"name\": \"you\"}'
  collector collection create notes   keep JSON records, find them with `collector record search notes`
  collector dev --watch hello         start a node, and deploy the plugin each time you save";

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the example plugins, start a node, upload and call them, stop a spinning one, keep serving
    Demo(demo::Args),
    /// Start a node for yourself: loopback only, nobody is asked who they are, data in ./data
    Dev(serve::DevArgs),
    /// Start a node from a configuration
    Serve(serve::ServeArgs),
    /// Say what of a configuration works on this machine, and what to do about the rest
    Doctor(doctor::Args),
    /// Check and read the log of changes and refusals
    #[command(subcommand)]
    Audit(audit::Command),
    /// Call a method with JSON: of a service that the node has, or of a plugin file
    Call(call::Args),
    /// Make, build, deploy and look into plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Register, list, show and compare types and services
    #[command(subcommand)]
    Schema(schema::Command),
    /// Make, list, describe, change, fill and drop collections of records
    #[command(subcommand)]
    Collection(collection::Command),
    /// Create, read, change, delete and find records of a collection
    #[command(subcommand)]
    Record(record::Command),
    /// Make, list and end keys that open a node
    #[command(subcommand)]
    Auth(auth::Command),
    /// Set, list and forget secrets that plugins use without seeing them
    #[command(subcommand)]
    Secret(secret::Command),
    /// Make namespaces, say what each may use, and see what it uses
    #[command(subcommand)]
    Ns(ns::Command),
    /// Link the node with others, list and cut links, and make the certificates that nodes know each other by
    #[command(subcommand)]
    Peer(peer::Command),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
///
/// * returns: 0; 1 after an error, which is on stderr with its next step; 2 for a wrong command line; 64 + n when a
///   call failed with gRPC code n.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let ui = Ui::new(cli.quiet || cli.json);
    let done = match cli.command {
        Command::Demo(args) => demo::run(args, &output, &ui).await,
        Command::Dev(args) => serve::dev(args, &output, &ui).await,
        Command::Serve(args) => serve::serve(args, &output).await,
        Command::Doctor(args) => doctor::run(args, &output).await,
        Command::Audit(command) => audit::run(command, &output),
        Command::Call(args) => call::run(args, &output, &ui).await,
        Command::Plugin(command) => plugin::run(command, &output, &ui).await,
        Command::Schema(command) => schema::run(command, &output, &ui).await,
        Command::Collection(command) => collection::run(command, &output, &ui).await,
        Command::Record(command) => record::run(command, &output, &ui).await,
        Command::Auth(command) => auth::run(command, &output).await,
        Command::Secret(command) => secret::run(command, &output).await,
        Command::Ns(command) => ns::run(command, &output).await,
        Command::Peer(command) => peer::run(command, &output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "collector", &mut script);
            output.raw(&script)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => output.failure(&why),
    }
}
