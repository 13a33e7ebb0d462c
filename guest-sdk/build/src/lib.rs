//! Turns a Collector plugin's `.proto` files into Rust, from its `build.rs`, whose `main` is one line:
//!
//! ```no_run
//! collector_guest_build::compile("proto/greeter.proto");
//! ```
//!
//! For every message there is a struct, for every service `Greeter` a trait `Greeter` to implement, its methods unary or
//! streaming as the contract says, and a type `GreeterService<T>` to export;
//! `collector_guest::include_proto!("greeter.v1")` brings them in. The component, or the native command, also gets the
//! descriptors of all that, in a section named [`SECTION`], so that a node knows the plugin's types without running it.
//!
//! Everything needed is a Rust crate: no `protoc`. A mistake in a `.proto` file stops the build with `file:line:column`.
//! Call it once per build script, with all files, since a component has one set of descriptors.

mod descriptors;
mod error;
mod service;

pub use error::Error;

use descriptors::Schema;
use std::path::{Component, Path, PathBuf};

/// Name of the section that holds the plugin's `google.protobuf.FileDescriptorSet`.
pub const SECTION: &str = "collector:descriptors";

/// Compiles one file; imports are looked up from the first folder of its path. Ends the build with a message if it is wrong.
pub fn compile(proto: impl AsRef<Path>) {
    Builder::new().compile(&[proto]);
}

/// Compiles several files of one plugin; see [`compile`].
pub fn compile_all(protos: &[impl AsRef<Path>]) {
    Builder::new().compile(protos);
}

/// For what [`compile`] leaves no choice about.
#[derive(Debug, Default)]
pub struct Builder {
    includes: Vec<PathBuf>,
    out_dir: Option<PathBuf>,
}

impl Builder {
    /// Looks up imports from the first folder of each file's path and writes to `OUT_DIR`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder to look up imports from, instead of the first folder of each file's path.
    #[must_use]
    pub fn include(mut self, folder: impl Into<PathBuf>) -> Self {
        self.includes.push(folder.into());
        self
    }

    /// Writes to `folder` instead of `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Compiles `protos`; ends the build with a message if they are wrong.
    pub fn compile(self, protos: &[impl AsRef<Path>]) {
        if let Err(error) = self.try_compile(protos) {
            error::stop_the_build(&error);
        }
    }

    /// Compiles `protos` and tells cargo which files the result depends on.
    /// * errors: what is wrong with which file; nothing is written then.
    pub fn try_compile(self, protos: &[impl AsRef<Path>]) -> Result<(), Error> {
        let out_dir = match self.out_dir {
            Some(folder) => folder,
            None => std::env::var_os("OUT_DIR").ok_or(Error::NoOutDir)?.into(),
        };
        let protos: Vec<&Path> = protos.iter().map(AsRef::as_ref).collect();
        let includes = match self.includes.as_slice() {
            [] => default_includes(&protos),
            given => given.to_vec(),
        };
        for path in protos.iter().copied().chain(includes.iter().map(PathBuf::as_path)) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        let schema = Schema::compile(&protos, &includes)?;
        service::write(schema, &out_dir).map_err(|error| Error::Write(out_dir, error))
    }
}

/// The first folder of each path: `proto` for `proto/greeter/v1/greeter.proto`, so that imports read as they do everywhere.
fn default_includes(protos: &[&Path]) -> Vec<PathBuf> {
    let mut includes = Vec::new();
    for path in protos {
        let root = import_root(path);
        if !includes.contains(&root) {
            includes.push(root);
        }
    }
    includes
}

fn import_root(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new(""));
    if path.is_absolute() {
        return parent.to_owned();
    }
    let mut root = PathBuf::new();
    for part in parent.components() {
        root.push(part);
        if matches!(part, Component::Normal(_)) {
            return root;
        }
    }
    if root.as_os_str().is_empty() { PathBuf::from(".") } else { root }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_start_at_the_first_folder() {
        let root = |path: &str| import_root(Path::new(path)).to_str().unwrap().to_owned();
        assert_eq!(root("proto/greeter.proto"), "proto");
        assert_eq!(root("proto/greeter/v1/greeter.proto"), "proto");
        assert_eq!(root("../shared/a/b.proto"), "../shared");
        assert_eq!(root("../b.proto"), "..");
        assert_eq!(root("b.proto"), ".");
        assert_eq!(root("/abs/proto/b.proto"), "/abs/proto");
    }

    #[test]
    fn each_folder_is_looked_up_once() {
        let protos = ["proto/a.proto", "proto/b/c.proto", "more/d.proto"].map(Path::new);
        assert_eq!(default_includes(&protos), [Path::new("proto"), Path::new("more")]);
    }
}
