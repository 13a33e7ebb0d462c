//! `collector plugin`: made, built, looked into; and deployed, listed, activated, taken away.

mod deploy;
mod deployed;
mod grant;
mod inspect;
mod new;
mod upload;

pub(super) use deploy::build;
pub(super) use upload::{Deploy, deploy};

use super::guest::{self, BuildOptions, BuiltKind, Ui};
use super::output::Output;
use crate::domain::Digest;
use anyhow::Context as _;
use clap::Subcommand;
use new::Args as NewArgs;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a new plugin in a folder of its name
    New(NewArgs),
    /// Compile a plugin to a component (or, with --native, to a command for this machine)
    Build {
        /// Folder of the plugin, or of a workspace of plugins
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Build the native command instead
        #[arg(long)]
        native: bool,
        /// Only this package; may be repeated
        #[arg(long, short, value_name = "NAME")]
        package: Vec<String>,
    },
    /// Say what a component or a native binary is, what it offers and what it would need
    Inspect(inspect::Args),
    /// Give a node a plugin: its services answer from then on
    Deploy(deploy::Args),
    /// List what is deployed
    List(deployed::ListArgs),
    /// Make another version of a deployment the one that answers
    Activate(deployed::ActivateArgs),
    /// Take a deployment away, or one version of it
    Undeploy(deployed::UndeployArgs),
    /// Let the code of a deployment reach more
    Grant(grant::Args),
    /// Take grants away; calls that run notice at their next step out
    Revoke(grant::Args),
}

pub(super) async fn run(command: Command, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    match command {
        Command::New(args) => new::run(args, output),
        Command::Inspect(args) => inspect::run(args, output).await,
        Command::Deploy(args) => deploy::run(args, output, ui).await,
        Command::List(args) => deployed::list(args, output).await,
        Command::Activate(args) => deployed::activate(args, output).await,
        Command::Undeploy(args) => deployed::undeploy(args, output).await,
        Command::Grant(args) => grant::grant(args, output).await,
        Command::Revoke(args) => grant::revoke(args, output).await,
        Command::Build { dir, native, package } => {
            let options = BuildOptions { native, packages: package, quiet: ui.is_quiet(), target_dir: None };
            let ui = ui.clone();
            let work = tokio::task::spawn_blocking(move || guest::build(&dir, None, &options, &ui));
            report(&work.await??, output)
        }
    }
}

fn report(built: &[guest::Built], output: &Output) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let mut values = Vec::new();
    for one in built {
        let bytes = std::fs::read(&one.path).with_context(|| format!("cannot read {}", one.path.display()))?;
        let kind = match one.kind {
            BuiltKind::Handler => "WasmHandler",
            BuiltKind::Command => "WasmCommand",
            BuiltKind::NativeCommand => "NativeElf",
        };
        let (digest, path) = (Digest::of(&bytes), one.path.display().to_string());
        lines.push(format!("{:<20} {kind:<12} {:>9} bytes  {path}", one.package, bytes.len()));
        values.push(json!({
            "package": one.package, "kind": kind, "bytes": bytes.len(), "digest": format!("sha256:{digest}"), "path": path,
        }));
    }
    output.answer(&lines.join("\n"), &json!(values));
    Ok(())
}
