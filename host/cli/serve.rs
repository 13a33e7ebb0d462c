//! `collector dev` and `collector serve`: a node until it is told to stop.

use super::client::Access;
use super::guest::Ui;
use super::output::Output;
use super::place::{NAMESPACE, NODE};
use super::watch::Watch;
use crate::config::{Config, ConfigError, Origin, Origins};
use crate::node::Node;
use crate::telemetry;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// `collector dev`
#[derive(Debug, clap::Args)]
pub(super) struct DevArgs {
    /// The data folder [default: data]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Port on 127.0.0.1; 0 for any free one
    #[arg(long, default_value_t = 50_051)]
    port: u16,
    /// Encrypt, with a certificate that the node makes for itself and keeps in the data folder
    #[arg(long)]
    tls: bool,
    /// Build and deploy the plugin in this folder, and again each time one of its files is saved
    #[arg(long, value_name = "DIR")]
    watch: Option<PathBuf>,
    /// Namespace that the watched plugin is deployed in
    #[arg(long, short, env = "COLLECTOR_NAMESPACE", default_value = NAMESPACE, value_name = "NS")]
    namespace: String,
}

/// A configuration: file, environment, flags.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// Configuration file (TOML)
    #[arg(long, env = "COLLECTOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting, over file and environment; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    /// The configuration in force.
    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        self.load_with_origins().map(|(config, _)| config)
    }

    /// The same, and where each setting came from.
    pub(super) fn load_with_origins(&self) -> Result<(Config, Origins), ConfigError> {
        Config::load_with_origins(self.config.as_deref(), variables(), &self.set)
    }
}

/// What a node is started with.
#[derive(Debug, clap::Args)]
pub(super) struct NodeArgs {
    #[command(flatten)]
    settings: Settings,
    /// The data folder
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Listen beyond loopback, and dial peers there, although connections are not encrypted or nobody is asked who calls
    #[arg(long)]
    insecure: bool,
}

impl NodeArgs {
    /// The configuration in force.
    fn load(self) -> Result<Config, ConfigError> {
        self.load_with_origins().map(|(config, _)| config)
    }

    /// The same, and where each setting came from. Flags are settings like others, so that what is checked is what is used.
    pub(super) fn load_with_origins(mut self) -> Result<(Config, Origins), ConfigError> {
        let set = &mut self.settings.set;
        set.extend(self.listen.map(|listen| format!("server.listen={listen}")));
        set.extend(self.insecure.then(|| "server.insecure=true".to_owned()));
        // Not as a setting: a folder may be called like a number.
        let (mut config, mut origins) = self.settings.load_with_origins()?;
        if let Some(data) = self.data {
            config.data = data;
            origins.note("data".to_owned(), Origin::Flag);
        }
        Ok((config, origins))
    }
}

/// `collector serve`
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Print the configuration in force as TOML, and end
    #[arg(long)]
    print_config: bool,
}

pub(super) async fn dev(args: DevArgs, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let listen = format!("server.listen=127.0.0.1:{}", args.port);
    let mut config = Config::load(None, variables(), &[listen])?;
    if let Some(data) = args.data {
        config.data = data;
    }
    config.server.tls.self_signed |= args.tls;
    let (stop, node) = start(config, output).await?;
    output.text(&format!("try it in another terminal:\n  {}", paste(&node)));
    let Some(dir) = args.watch else {
        stop.await;
        node.stop().await;
        return Ok(());
    };
    let access = Access { ca: node.certificate().map(Path::to_owned), ..Access::default() };
    let watched = async { Watch::new(&dir, &args.namespace, (&node.url(), access))?.run(output, ui).await };
    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = watched => ended,
    };
    node.stop().await;
    ended
}

/// A command that reaches the node, to be pasted.
fn paste(node: &Node) -> String {
    let url = node.url();
    match node.certificate() {
        Some(file) => format!("collector schema list --node {url} --ca {}", quoted(file)),
        None if url == NODE => "collector schema list".to_owned(),
        None => format!("collector schema list --node {url}"),
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    match path.bytes().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

pub(super) async fn serve(args: ServeArgs, output: &Output) -> anyhow::Result<()> {
    let config = args.node.load()?;
    if args.print_config {
        output.answer(&toml::to_string(&config)?, &serde_json::to_value(&config)?);
        return Ok(());
    }
    run(config, output).await
}

async fn run(config: Config, output: &Output) -> anyhow::Result<()> {
    let (stop, node) = start(config, output).await?;
    stop.await;
    node.stop().await;
    Ok(())
}

/// Starts a node and says so.
///
/// * returns: what resolves at the signal to stop, and the node.
async fn start(config: Config, output: &Output) -> anyhow::Result<(impl Future<Output = ()>, Node)> {
    telemetry::init(&config.log)?;
    let stop = stop_signal()?; // before starting, so that an early signal is not the default's sudden death
    let node = Node::start(config).await?;
    let address = node.url();
    let ca = node.certificate().map(|file| file.display().to_string());
    output.answer(&format!("serving on {address}"), &json!({ "serving": address, "id": node.id(), "ca": ca }));
    Ok((stop, node))
}

/// Resolves at SIGTERM or Ctrl-C.
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        let which = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        };
        tracing::info!(which, "stopping: calls in flight may finish");
    })
}

/// The environment, the parts of it that are text.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
