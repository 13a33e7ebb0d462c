//! The plugins in `plugins/`, built once per test process.

use collector::cli::guest::{BuildOptions, Ui, build};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What is built as native commands, too.
const NATIVE: [&str; 6] = ["contract", "greeter", "hostile-native", "misbehave", "thumbnail", "wordcount"];

/// `plugins/` of the checkout.
fn plugins_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins")
}

/// The component of a plugin, by package name.
pub fn component(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| all(false));
    built.get(name).unwrap_or_else(|| panic!("no plugin {name} in {built:?}")).clone()
}

/// The native command of a plugin, by package name.
pub fn native(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| all(true));
    built.get(name).unwrap_or_else(|| panic!("no native command {name} in {built:?}")).clone()
}

fn all(native: bool) -> BTreeMap<String, PathBuf> {
    let packages = match native {
        true => NATIVE.map(str::to_owned).to_vec(),
        false => Vec::new(),
    };
    let folder = plugins_folder();
    let options = BuildOptions { native, target_dir: Some(folder.join("target")), packages, quiet: true };
    let built = build(&folder, None, &options, &Ui::new(false)).expect("the plugins build");
    built.into_iter().map(|one| (one.package, one.path)).collect()
}
