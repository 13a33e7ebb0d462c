//! The example plugins, built as users build them.

use crate::Failure;
use bytes::Bytes;
use collector::cli::guest::{BuildOptions, Ui, build};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where each of them is.
///
/// * `native`: as native commands of this machine instead of components.
pub(crate) fn built(packages: &[&str], native: bool) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins");
    let packages = packages.iter().map(|&name| name.to_owned()).collect();
    let options = BuildOptions { packages, native, target_dir: Some(folder.join("target")), ..BuildOptions::default() };
    let built = build(&folder, None, &options, &Ui::new(false))?;
    Ok(built.into_iter().map(|one| (one.package, one.path)).collect())
}

/// One of them, as a component.
pub(crate) fn component(package: &str) -> Result<Bytes, Failure> {
    let path = built(&[package], false)?.remove(package).ok_or("a plugin was not built")?;
    Ok(std::fs::read(path)?.into())
}
