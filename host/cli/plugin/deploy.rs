//! `collector plugin deploy`

use super::super::client::{ClientError, NodeClient};
use super::super::guest::{self, BuildOptions, BuiltKind, Ui};
use super::super::output::Output;
use super::super::place::Place;
use super::upload::{Deploy, deploy, plan_text, plan_value};
use crate::domain::{Digest, one_line};
use crate::rpc::pb::plugin::v1 as pb;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde_json::json;
use std::path::{Path, PathBuf};
use tonic::Status;

/// `collector plugin deploy`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The component file, or the folder of a plugin, which is built first
    #[arg(default_value = ".")]
    path: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Name of the deployment [default: that of the package, or of the file]
    #[arg(long)]
    name: Option<String>,
    /// A registered service that a component without descriptors answers, may be repeated
    #[arg(long, short, value_name = "SERVICE")]
    service: Vec<String>,
    /// Of a folder with several plugins: this package
    #[arg(long, short, value_name = "NAME")]
    package: Option<String>,
    /// Make every check and print what would change, deploy nothing
    #[arg(long)]
    dry_run: bool,
    /// Add the version and leave the active one as it is
    #[arg(long)]
    inactive: bool,
}

/// A component with the name that it goes by.
#[derive(Debug)]
pub(in crate::cli) struct Component {
    pub(in crate::cli) name: String,
    pub(in crate::cli) bytes: Bytes,
}

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let component = match args.path.is_dir() {
        true => build(&args.path, args.package.as_deref(), ui).await?,
        false => read(&args.path)?,
    };
    let what = Deploy {
        namespace: args.place.namespace.clone(),
        name: args.name.clone().unwrap_or(component.name),
        services: args.service.clone(),
        dry_run: args.dry_run,
        inactive: args.inactive,
    };
    let client = NodeClient::connect(&args.place.node).await?;
    let digest = Digest::of(&component.bytes);
    let done = deploy(&client, &what, component.bytes, ui).await?;
    report(&what, &digest, &done, output)
}

/// Builds the plugin in a folder, where blocking is allowed.
///
/// * errors: it does not build; the folder has several plugins and none is named.
pub(in crate::cli) async fn build(dir: &Path, package: Option<&str>, ui: &Ui) -> anyhow::Result<Component> {
    let packages = package.into_iter().map(str::to_owned).collect();
    let options = BuildOptions { native: false, packages, quiet: ui.is_quiet(), target_dir: None };
    let (dir, ui) = (dir.to_owned(), ui.clone());
    let built = tokio::task::spawn_blocking(move || guest::build(&dir, None, &options, &ui)).await??;
    let mut components = built.into_iter().filter(|one| one.kind != BuiltKind::NativeCommand);
    match (components.next(), components.next()) {
        (Some(only), None) => {
            let bytes = std::fs::read(&only.path).with_context(|| format!("cannot read {}", only.path.display()))?;
            Ok(Component { name: only.package, bytes: bytes.into() })
        }
        (None, _) => bail!("nothing that a node could run was built"),
        (Some(one), Some(two)) => {
            let all = [one, two].into_iter().chain(components).map(|one| one.package);
            bail!("there are several plugins here, say which with --package: {}", all.collect::<Vec<_>>().join(", "))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Component> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Component { name: name_of(path), bytes: bytes.into() })
}

/// The name of the package that a file was built from, so that a folder and its file are one deployment: cargo turns
/// dashes into underscores. Empty, for the node to choose, where that is no name.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-")).unwrap_or_default();
    let fits = stem.starts_with(|c: char| c.is_ascii_alphanumeric())
        && stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && stem.len() <= 128;
    if fits { stem } else { String::new() }
}

fn report(what: &Deploy, digest: &Digest, done: &pb::DeployResponse, output: &Output) -> anyhow::Result<()> {
    let plan = done.plan.clone().unwrap_or_default();
    let deployment = done.deployment.clone().unwrap_or_default();
    let name = if deployment.name.is_empty() { &what.name } else { &deployment.name };
    let shown = one_line(if name.is_empty() { "the plugin" } else { name }, 128);
    let head = match (what.dry_run, done.version == deployment.active_version) {
        (true, _) => format!("{shown} would change this in {}:", what.namespace),
        (false, true) => format!("{shown}: version {} is live in {}", done.version, what.namespace),
        (false, false) => {
            let live = match deployment.active_version {
                0 => "none is live".to_owned(),
                active => format!("version {active} stays live"),
            };
            format!("{shown}: version {} is deployed in {}, {live}", done.version, what.namespace)
        }
    };
    let unchanged = if plan.changes.is_empty() { "  no service changes\n" } else { "" };
    let value = json!({
        "namespace": what.namespace,
        "name": name,
        "version": done.version,
        "active_version": deployment.active_version,
        "digest": format!("sha256:{digest}"),
        "dry_run": what.dry_run,
        "plan": plan_value(&plan),
    });
    output.answer(&format!("{head}\n{unchanged}{}", plan_text(&plan)), &value);
    if what.dry_run && !plan.breaking.is_empty() {
        return Err(ClientError::from(Status::failed_precondition("this cannot be deployed, see above")).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_by_the_name_of_its_package() {
        let name = |path: &str| name_of(Path::new(path));
        assert_eq!(name("a/target/wasm32-wasip2/release/my_first.wasm"), "my-first");
        assert_eq!(name("greeter.v2.wasm"), "greeter.v2");
        assert_eq!(name("_.wasm"), "");
        assert_eq!(name("größe.wasm"), "");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        assert!(read(Path::new("no-such.wasm")).unwrap_err().to_string().contains("no-such.wasm"));
    }
}
