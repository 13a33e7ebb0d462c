//! `collector plugin deploy`

use super::super::client::ClientError;
use super::super::guest::{self, BuildOptions, Ui};
use super::super::output::Output;
use super::super::place::{Place, is_image};
use super::upload::{Code, Deploy, deploy, plan_text, plan_value};
use crate::domain::one_line;
use crate::rpc::pb::plugin::v1 as pb;
use anyhow::{Context as _, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use tonic::Status;

/// `collector plugin deploy`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin file (a component, or a static native binary), the folder of a plugin, which is built first, or
    /// image:REPOSITORY@sha256:DIGEST
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Of a folder: build the native command, for nodes that run native binaries, instead of the component
    #[arg(long)]
    native: bool,
    #[command(flatten)]
    place: Place,
    /// Name of the deployment [default: that of the package, the file or the image]
    #[arg(long)]
    name: Option<String>,
    /// A registered service that a plugin without descriptors answers, may be repeated
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
    /// What the plugin may reach, beside what it may already; may be repeated: config=KEY=VALUE, secret=NAME,
    /// collections=NAME:write, files=FOLDER:write, dispatch=SERVICE, http=https://HOST
    #[arg(long, value_name = "GRANT")]
    grant: Vec<String>,
    /// Linked collectors that are to fetch it from the node and deploy it too: ids with commas, or all
    #[arg(long, value_name = "all|ID,...", value_delimiter = ',')]
    to: Vec<String>,
}

/// A plugin with the name that it goes by.
#[derive(Debug)]
pub(in crate::cli) struct Named {
    pub(in crate::cli) name: String,
    pub(in crate::cli) code: Code,
}

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let plugin = match args.path.to_str().filter(|text| is_image(text)) {
        Some(image) => Named { name: image_name(image), code: Code::Image(image.to_owned()) },
        None if args.path.is_dir() => build(&args.path, args.package.as_deref(), args.native, ui).await?,
        None => read(&args.path)?,
    };
    let what = Deploy {
        namespace: args.place.namespace.clone(),
        name: args.name.clone().unwrap_or(plugin.name),
        services: args.service.clone(),
        dry_run: args.dry_run,
        inactive: args.inactive,
        grants: args.grant.clone(),
        to: args.to.clone(),
    };
    let client = args.place.connect().await?;
    let digest = plugin.code.digest();
    let done = deploy(&client, &what, plugin.code, ui).await?;
    report(&what, &digest, &done, output)
}

/// Builds the plugin in a folder, where blocking is allowed.
///
/// * `native`: as a command for this machine instead of a component.
/// * errors: it does not build; the folder has several plugins and none is named.
pub(in crate::cli) async fn build(dir: &Path, package: Option<&str>, native: bool, ui: &Ui) -> anyhow::Result<Named> {
    let packages = package.into_iter().map(str::to_owned).collect();
    let options = BuildOptions { native, packages, quiet: ui.is_quiet(), target_dir: None };
    let (dir, ui) = (dir.to_owned(), ui.clone());
    let built = tokio::task::spawn_blocking(move || guest::build(&dir, None, &options, &ui)).await??;
    let mut plugins = built.into_iter();
    match (plugins.next(), plugins.next()) {
        (Some(only), None) => {
            let bytes = std::fs::read(&only.path).with_context(|| format!("cannot read {}", only.path.display()))?;
            Ok(Named { name: only.package, code: Code::Bytes(bytes.into()) })
        }
        (None, _) => bail!("nothing that a node could run was built"),
        (Some(one), Some(two)) => {
            let all = [one, two].into_iter().chain(plugins).map(|one| one.package);
            bail!("there are several plugins here, say which with --package: {}", all.collect::<Vec<_>>().join(", "))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Named> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Named { name: name_of(path), code: Code::Bytes(bytes.into()) })
}

/// The name of the package that a file was built from, so that a folder and its file are one deployment: cargo turns
/// dashes into underscores.
fn name_of(file: &Path) -> String {
    fitting(file.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-")).unwrap_or_default())
}

/// The last part of an image's repository.
fn image_name(image: &str) -> String {
    let repository = image.split('@').next().unwrap_or_default();
    fitting(repository.rsplit(['/', ':']).next().unwrap_or_default().to_owned())
}

/// The same where it is a name, else nothing: the node chooses one.
fn fitting(stem: String) -> String {
    let fits = stem.starts_with(|c: char| c.is_ascii_alphanumeric())
        && stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && stem.len() <= 128;
    if fits { stem } else { String::new() }
}

fn report(what: &Deploy, digest: &str, done: &pb::DeployResponse, output: &Output) -> anyhow::Result<()> {
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
        "digest": digest,
        "dry_run": what.dry_run,
        "plan": plan_value(&plan),
        "placed": done.placed.iter().map(placed_value).collect::<Vec<_>>(),
    });
    output.answer(&format!("{head}\n{unchanged}{}{}", plan_text(&plan), placed_text(&done.placed)), &value);
    let failed = done.placed.iter().filter(|one| one.version == 0).count();
    if failed > 0 {
        bail!("{failed} of {} collectors did not deploy it, see above; this node did", done.placed.len());
    }
    if what.dry_run && !plan.breaking.is_empty() {
        return Err(ClientError::from(Status::failed_precondition("this cannot be deployed, see above")).into());
    }
    Ok(())
}

/// A line for each other collector.
fn placed_text(placed: &[pb::Placed]) -> String {
    let line = |one: &pb::Placed| {
        let id = one_line(&one.collector_id, 64);
        match one.version {
            0 => format!("  {id}: not deployed: {}\n", one_line(&one.error, 512)),
            version => format!("  {id}: version {version} is live\n"),
        }
    };
    placed.iter().map(line).collect()
}

fn placed_value(one: &pb::Placed) -> serde_json::Value {
    let version = (one.version > 0).then_some(one.version);
    let text = |text: &str| (version.is_none() && !text.is_empty()).then(|| text.to_owned());
    json!({
        "collector_id": one.collector_id,
        "version": version,
        "error": text(&one.error),
        "reason": text(&one.reason),
    })
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
        let digest = format!("@sha256:{}", "0".repeat(64));
        assert_eq!(image_name(&format!("image:registry.example:5000/team/my-tool{digest}")), "my-tool");
        assert_eq!(image_name(&format!("image:tool{digest}")), "tool");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        assert!(read(Path::new("no-such.wasm")).unwrap_err().to_string().contains("no-such.wasm"));
    }
}
