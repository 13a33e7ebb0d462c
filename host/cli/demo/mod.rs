//! `collector demo`: the whole way, on real input, in front of the user.

mod show;

use super::client::NodeClient;
use super::guest::{self, BuildOptions, BuiltKind, Ui};
use super::json::Plugin;
use super::output::Output;
use super::serve::stop_signal;
use crate::config::Config;
use crate::node::{Node, NodeError};
use crate::rpc::ServerError;
use anyhow::{Context as _, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Plugins that the demo shows.
const PLUGINS: [&str; 4] = ["greeter", "markdown", "thumbnail", "misbehave"];

/// `collector demo`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Port on 127.0.0.1; a free one is taken if it is busy
    #[arg(long, default_value_t = 50_051)]
    port: u16,
    /// Stop after showing, instead of serving on
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let root = checkout()?;
    let built = build(&root, ui).await?;
    let data = tempfile::tempdir().context("cannot make a data folder")?;
    let stop = stop_signal()?;
    let node = start(args.port, data.path()).await?;
    let address = format!("http://{}", node.address());
    ui.note(&format!("a node is serving on {address}, with an empty data folder"));

    let client = NodeClient::connect(&address).await?;
    let mut report = Vec::new();
    for name in ["greeter", "markdown", "thumbnail"] {
        let plugin = Plugin::read(found(&built, name)?)?;
        report.push(show::plugin(&client, name, &plugin, &root, output).await?);
    }
    let (greeter, misbehave) = (Plugin::read(found(&built, "greeter")?)?, Plugin::read(found(&built, "misbehave")?)?);
    report.push(show::spinning(&client, &greeter, &misbehave, output).await?);
    output.finish(&json!({ "serving": address, "scenes": report }));

    if !args.once {
        let program = std::env::current_exe().context("cannot find this program")?;
        let program = program.strip_prefix(&root).unwrap_or(&program).display();
        let file = |name| found(&built, name).map(|path| path.strip_prefix(&root).unwrap_or(path).display());
        let (greeter, markdown) = (file("greeter")?, file("markdown")?);
        output.text(&format!(
            "\nstill serving; try by hand in another terminal (Ctrl-C here ends it):\n  \
             {program} call demo/Greeter/SayHello --node {address} -p {greeter} -d '{{\"name\": \"you\"}}' -v\n  \
             {program} call demo/Markdown/Render --node {address} -p {markdown} -d '{{\"source\": \"# *It* works\"}}'\n  \
             {program} plugin inspect {greeter}"
        ));
        stop.await;
    }
    node.stop().await;
    Ok(())
}

/// The folder that holds `plugins/`: the current one or one above it.
fn checkout() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("there is no current folder")?;
    let found = here.ancestors().find(|folder| folder.join("plugins/greeter/Cargo.toml").is_file());
    match found {
        Some(root) => Ok(root.to_owned()),
        None => bail!("the demo builds the plugins of a checkout; run it inside one (cargo run --release -- demo)"),
    }
}

async fn build(root: &Path, ui: &Ui) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let (plugins, ui) = (root.join("plugins"), ui.clone());
    let options = BuildOptions {
        packages: PLUGINS.map(str::to_owned).to_vec(),
        target_dir: Some(plugins.join("target")),
        quiet: ui.is_quiet(),
        native: false,
    };
    let work = tokio::task::spawn_blocking(move || guest::build(&plugins, None, &options, &ui));
    let built = work.await?.context("cannot build the example plugins")?;
    let handlers = built.into_iter().filter(|one| one.kind == BuiltKind::Handler);
    Ok(handlers.map(|one| (one.package, one.path)).collect())
}

fn found<'a>(built: &'a BTreeMap<String, PathBuf>, name: &str) -> anyhow::Result<&'a PathBuf> {
    built.get(name).with_context(|| format!("the plugin {name} was not built"))
}

async fn start(port: u16, data: &Path) -> anyhow::Result<Node> {
    let mut config = Config { data: data.to_owned(), ..Config::default() };
    config.server.listen.set_port(port);
    match Node::start(config.clone()).await {
        Err(NodeError::Server(ServerError::Bind { .. })) => {
            config.server.listen.set_port(0);
            Ok(Node::start(config).await?)
        }
        started => Ok(started?),
    }
}
