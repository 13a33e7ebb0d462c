//! `collector dev --watch`: each save of a plugin is its next version.
//!
//! Only the plugin's own folder is watched, without what cargo writes and what is hidden. The old version answers while
//! the new one is built, and goes on answering if that fails.

use super::client::{Access, BREAKING, ClientError, NodeClient, reason};
use super::guest::Ui;
use super::output::Output;
use super::plugin::{Deploy, build, deploy};
use crate::domain::one_line;
use anyhow::{Context as _, bail};
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use prost_types::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// How long a folder has to be quiet after a change. 200 ms: editors write several files per save.
const QUIET: Duration = Duration::from_millis(200);

/// A plugin under development.
pub(super) struct Watch {
    dir: PathBuf,
    namespace: String,
    node: String,
    access: Access,
    live: Option<Live>,
}

/// A version as the node knows it: its number, and since when there is the deployment that counts it.
#[derive(Debug, Clone, PartialEq)]
struct Live {
    version: u32,
    since: Option<Timestamp>,
}

impl Watch {
    /// * `node`: address of the node that gets the versions, and how to come in.
    /// * errors: no plugin there.
    pub(super) fn new(dir: &Path, namespace: &str, (node, access): (&str, Access)) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("cannot watch {}", dir.display()))?;
        if !dir.join("Cargo.toml").is_file() {
            bail!("{} is no plugin: there is no Cargo.toml; make one with `collector plugin new`", dir.display());
        }
        Ok(Self { dir, namespace: namespace.to_owned(), node: node.to_owned(), access, live: None })
    }

    /// Builds and deploys, then again after each change. Ends with an error only; dropping it ends it.
    pub(super) async fn run(mut self, output: &Output, ui: &Ui) -> anyhow::Result<()> {
        let client = NodeClient::connect_with(&self.node, &self.access).await?;
        let (changed, mut changes) = mpsc::channel(1);
        let root = self.dir.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Full is fine: a change is waiting to be seen already.
            if event.map_or(true, |event| counts(&event, &root)) {
                let _ = changed.try_send(());
            }
        })?;
        loop {
            // Each time anew, for folders that came in; before building, so that nothing saved meanwhile is missed.
            watch_below(&mut watcher, &self.dir)?;
            self.swap(&client, output, ui).await;
            changes.recv().await.context("the folder cannot be watched any longer")?;
            while let Ok(Some(())) = timeout(QUIET, changes.recv()).await {}
        }
    }

    /// One round: whatever goes wrong is shown, and the next change is the next try.
    async fn swap(&mut self, client: &NodeClient, output: &Output, ui: &Ui) {
        let began = Instant::now();
        match self.next(client, ui).await {
            Ok(Some((name, version))) => {
                let (name, took) = (one_line(&name, 128), began.elapsed());
                let text = format!("{name}: version {version} live after {:.1} s", took.as_secs_f64());
                let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                output.answer(&text, &json!({ "name": name, "version": version, "took_ms": took }));
            }
            Ok(None) => ui.note("built, and nothing about it changed"),
            Err(why) => {
                let mut text = format!("error: {why:#}");
                if is_breaking(&why) {
                    let Self { namespace, node, .. } = self;
                    text.push_str(&format!(
                        "\nif nobody needs the old shape: collector plugin list, collector plugin undeploy NAME \
                         (both with --namespace {namespace} --node {node}), and save again"
                    ));
                }
                if self.live.is_some() {
                    text.push_str("\nthe version before stays live");
                }
                output.error(&text);
            }
        }
    }

    /// * returns: name and number of the version that is live now; `None` if it is the one that was.
    async fn next(&mut self, client: &NodeClient, ui: &Ui) -> anyhow::Result<Option<(String, u32)>> {
        let plugin = build(&self.dir, None, false, ui).await?;
        let what = Deploy { namespace: self.namespace.clone(), name: plugin.name, ..Deploy::default() };
        let done = deploy(client, &what, plugin.code, ui).await?;
        let live = Live { version: done.version, since: done.deployment.and_then(|deployment| deployment.created_at) };
        let same = self.live.replace(live.clone()) == Some(live);
        Ok((!same).then_some((what.name, done.version)))
    }
}

/// Whether the node refused a change that callers would not survive.
fn is_breaking(why: &anyhow::Error) -> bool {
    let status = why.downcast_ref::<ClientError>().and_then(ClientError::status);
    status.and_then(reason).as_deref() == Some(BREAKING)
}

/// Watches a folder and what is below it, but for what does not count.
fn watch_below(watcher: &mut RecommendedWatcher, folder: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot watch {}", folder.display());
    watcher.watch(folder, RecursiveMode::NonRecursive).with_context(cannot)?;
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let Ok(entry) = entry else { continue };
        // Links are not followed: they may lead in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_ours(Path::new(&entry.file_name())) {
            // What has gone in the meantime needs no watching.
            watch_below(watcher, &entry.path()).or_else(|why| if entry.path().exists() { Err(why) } else { Ok(()) })?;
        }
    }
    Ok(())
}

/// Whether a change may make another component.
fn counts(event: &Event, root: &Path) -> bool {
    let is_change = match event.kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    };
    let below = |path: &PathBuf| path.strip_prefix(root).map_or(true, is_ours);
    is_change && (event.paths.is_empty() || event.paths.iter().any(below))
}

/// Not cargo's output, not hidden, not an editor's leftover.
fn is_ours(path: &Path) -> bool {
    let other = |name: &str| name == "target" || name.starts_with('.') || name.ends_with('~');
    !path.iter().any(|part| part.to_str().is_some_and(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, CreateKind, MetadataKind};

    #[test]
    fn only_changes_of_the_plugin_itself_count() {
        let root = Path::new("/home/.me/plugin");
        let counts = |kind, path: &str| counts(&Event::new(kind).add_path(root.join(path)), root);
        let made = EventKind::Create(CreateKind::File);
        for path in ["src/lib.rs", "proto/a.proto", "Cargo.toml", "sdk/src/lib.rs"] {
            assert!(counts(made, path), "{path}");
        }
        for path in ["target/x", "sdk/target/x", ".git/index", "src/.lib.rs.swp", "src/lib.rs~"] {
            assert!(!counts(made, path), "{path}");
        }
        assert!(!counts(EventKind::Access(AccessKind::Read), "src/lib.rs"));
        assert!(!counts(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), "src/lib.rs"));
    }

    #[test]
    fn a_folder_without_a_plugin_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let said = |dir: &Path| Watch::new(dir, "default", ("http://x", Access::default())).err().unwrap().to_string();
        assert!(said(dir.path()).contains("collector plugin new"));
        assert!(said(&dir.path().join("gone")).contains("cannot watch"));
    }
}
