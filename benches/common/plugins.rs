//! The example plugins, built as users build them.

use collector::cli::guest::{BuildOptions, Ui, build};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where each of them is.
///
/// * `native`: as native commands of this machine instead of components.
pub(crate) fn built(
    packages: &[&str],
    native: bool,
) -> Result<BTreeMap<String, PathBuf>, Box<dyn std::error::Error + Send + Sync>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
    let packages = packages.iter().map(|&name| name.to_owned()).collect();
    let options = BuildOptions { packages, native, target_dir: Some(folder.join("target")), ..BuildOptions::default() };
    let built = build(&folder, None, &options, &Ui::new(false))?;
    Ok(built.into_iter().map(|one| (one.package, one.path)).collect())
}
