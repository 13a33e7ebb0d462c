//! What `cargo metadata` says about the packages of a folder, and what is to be built of them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{BuildError, BuildOptions, BuiltKind};

/// One thing for cargo to build.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The package's name.
    pub(super) package: String,
    /// Cargo's id of the package, good as a `-p` argument where names are not unique.
    pub(super) id: String,
    pub(super) kind: BuiltKind,
    /// The name of the lib or bin target.
    pub(super) target: String,
}

/// The packages around a folder.
pub(super) struct Workspace {
    root: PathBuf,
    target_dir: PathBuf,
    packages: Vec<Value>,
    default_members: Vec<Value>,
}

impl Workspace {
    /// * `json`: what `cargo metadata --no-deps --format-version 1` printed.
    pub(super) fn parse(json: &[u8]) -> Result<Self, BuildError> {
        let said: Value = serde_json::from_slice(json).map_err(BuildError::Metadata)?;
        Ok(Self {
            root: PathBuf::from(text(&said, "workspace_root")),
            target_dir: PathBuf::from(text(&said, "target_directory")),
            packages: list(&said, "packages").to_vec(),
            default_members: list(&said, "workspace_default_members").to_vec(),
        })
    }

    /// Cargo's own choice of target folder.
    pub(super) fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// What to build, in the order of the packages.
    /// * `dir`: absolute; where cargo was asked.
    /// * errors: a package asked for is unknown or is no plugin; helper packages of a workspace are passed over unless named.
    pub(super) fn plans(&self, dir: &Path, options: &BuildOptions) -> Result<Vec<Plan>, BuildError> {
        let chosen = if options.packages.is_empty() { self.of_dir(dir) } else { self.named(&options.packages)? };
        let must_build = !options.packages.is_empty() || chosen.len() == 1;
        let mut plans = Vec::new();
        let mut first_error = None;
        for package in chosen {
            match plan(package, options.native) {
                Ok(plan) => plans.push(plan),
                Err(error @ BuildError::NoTarget { .. }) if !must_build => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if plans.is_empty() { Err(first_error.unwrap_or(BuildError::NoPackage)) } else { Ok(plans) }
    }

    /// As cargo chooses: the package that `dir` belongs to, else the workspace's default members.
    fn of_dir(&self, dir: &Path) -> Vec<&Value> {
        let folder = |package: &Value| Path::new(text(package, "manifest_path")).parent().map(Path::to_owned);
        let around = self.packages.iter().filter_map(|package| Some((folder(package)?, package)));
        let nearest =
            around.filter(|(folder, _)| dir.starts_with(folder)).max_by_key(|(folder, _)| folder.components().count());
        match nearest {
            Some((folder, package)) if folder != self.root => vec![package],
            _ => self.packages.iter().filter(|package| self.is_default(package)).collect(),
        }
    }

    fn is_default(&self, package: &Value) -> bool {
        package.get("id").is_some_and(|id| self.default_members.contains(id))
    }

    fn named(&self, names: &[String]) -> Result<Vec<&Value>, BuildError> {
        let find = |name: &String| {
            let found = self.packages.iter().find(|package| text(package, "name") == name);
            found.ok_or_else(|| BuildError::UnknownPackage(name.clone()))
        };
        names.iter().map(find).collect()
    }
}

fn plan(package: &Value, native: bool) -> Result<Plan, BuildError> {
    let library = list(package, "targets").iter().find(|target| has(target, "crate_types", "cdylib"));
    let (kind, target) = match library {
        Some(library) if !native => (BuiltKind::Handler, text(library, "name").to_owned()),
        _ => (if native { BuiltKind::NativeCommand } else { BuiltKind::Command }, bin(package, native)?),
    };
    Ok(Plan { package: text(package, "name").to_owned(), id: text(package, "id").to_owned(), kind, target })
}

/// The bin target: the only one, or the one that `cargo run` would take, or the one named as the package is.
fn bin(package: &Value, native: bool) -> Result<String, BuildError> {
    let name = text(package, "name");
    let bins = list(package, "targets").iter().filter(|target| has(target, "kind", "bin"));
    let bins: Vec<&str> = bins.map(|target| text(target, "name")).collect();
    let preferred = [text(package, "default_run"), name];
    match bins.as_slice() {
        [] => Err(BuildError::NoTarget { package: name.to_owned(), native }),
        [only] => Ok((*only).to_owned()),
        _ => preferred
            .into_iter()
            .find(|wanted| bins.contains(wanted))
            .map(str::to_owned)
            .ok_or_else(|| BuildError::ManyBins { package: name.to_owned(), bins: bins.join(", ") }),
    }
}

/// The text at `key`, empty if there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The list at `key`, empty if there is none.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether the list at `key` contains `word`.
pub(super) fn has(value: &Value, key: &str, word: &str) -> bool {
    list(value, key).iter().any(|item| item == word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(folder: &str, targets: Value) -> Value {
        let name = folder.rsplit('/').next().unwrap();
        let manifest = format!("{folder}/Cargo.toml");
        json!({"name": name, "id": format!("path+file://{folder}"), "manifest_path": manifest, "targets": targets})
    }

    fn lib(name: &str, crate_type: &str) -> Value {
        json!({"name": name, "kind": [crate_type], "crate_types": [crate_type]})
    }

    fn workspace() -> Workspace {
        let bin = |name: &str| lib(name, "bin");
        let packages = [
            package("/w/echo-it", json!([lib("echo_it", "cdylib"), bin("echo-it")])),
            package("/w/tool", json!([bin("tool"), lib("tool", "lib")])),
            package("/w/common", json!([lib("common", "lib")])),
            package("/w/many", json!([bin("a"), bin("b")])),
        ];
        let ids: Vec<_> = packages.iter().take(3).map(|package| package["id"].clone()).collect();
        let said = json!({"workspace_root": "/w", "target_directory": "/w/target", "packages": packages,
            "workspace_default_members": ids});
        Workspace::parse(said.to_string().as_bytes()).unwrap()
    }

    fn planned(dir: &str, native: bool, named: &[&str]) -> Result<Vec<(BuiltKind, String)>, BuildError> {
        let packages = named.iter().map(|&name| name.to_owned()).collect();
        let options = BuildOptions { native, packages, ..BuildOptions::default() };
        let plans = workspace().plans(Path::new(dir), &options)?;
        Ok(plans.into_iter().map(|plan| (plan.kind, plan.target)).collect())
    }

    #[test]
    fn a_package_folder_is_that_package_alone() {
        assert_eq!(planned("/w/echo-it/src", false, &[]).unwrap(), [(BuiltKind::Handler, "echo_it".to_owned())]);
        assert_eq!(planned("/w/echo-it", true, &[]).unwrap(), [(BuiltKind::NativeCommand, "echo-it".to_owned())]);
    }

    #[test]
    fn a_workspace_folder_is_its_plugins() {
        let plugins = [(BuiltKind::Handler, "echo_it".to_owned()), (BuiltKind::Command, "tool".to_owned())];
        assert_eq!(planned("/w", false, &[]).unwrap(), plugins);
    }

    #[test]
    fn a_package_that_is_no_plugin_is_told_what_to_add() {
        for attempt in [planned("/w/common", false, &[]), planned("/w", false, &["tool", "common"])] {
            assert!(attempt.unwrap_err().to_string().contains("crate-type = [\"cdylib\"]"));
        }
    }

    #[test]
    fn what_is_unclear_is_an_error() {
        assert!(matches!(planned("/w", false, &["many"]), Err(BuildError::ManyBins { .. })));
        assert!(matches!(planned("/w", false, &["absent"]), Err(BuildError::UnknownPackage(_))));
    }
}
