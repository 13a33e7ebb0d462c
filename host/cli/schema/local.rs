//! Protobuf files of this machine: compiled from `.proto`, or read from a descriptor set.

use super::super::descriptors::{RawFile, imports_first, read_set};
use anyhow::{Context as _, anyhow, bail};
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// Which files, and where what they import is.
#[derive(Debug, clap::Args)]
pub(super) struct Sources {
    /// .proto files, or .binpb (.bin, .pb) files with an encoded FileDescriptorSet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder that imports start from, may be repeated [default: the current one, or that of a file elsewhere]
    #[arg(long, short = 'I', value_name = "DIR")]
    include: Vec<PathBuf>,
}

/// Files and all that they import, imports first, without those that come with protobuf.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) files: Vec<RawFile>,
    /// Names of those that were asked for; the others are imports.
    named: HashSet<String>,
}

impl Local {
    /// Reads and compiles. No network.
    pub(super) fn read(sources: &Sources) -> anyhow::Result<Self> {
        let (protos, sets): (Vec<_>, Vec<_>) =
            sources.files.iter().cloned().partition(|file| file.extension().is_some_and(|end| end == "proto"));
        let mut local = Self { files: Vec::new(), named: HashSet::new() };
        for set in &sets {
            local.read_set(set)?;
        }
        if !protos.is_empty() {
            local.compile(&protos, &sources.include)?;
        }
        local.files = imports_first(std::mem::take(&mut local.files));
        Ok(local)
    }

    /// Whether the file was asked for.
    pub(super) fn is_named(&self, file: &RawFile) -> bool {
        self.named.contains(&file.name)
    }

    /// All that a file imports, directly or through others, imports first.
    pub(super) fn imports_of(&self, file: &RawFile) -> Vec<&RawFile> {
        let mut wanted: HashSet<&str> = file.imports.iter().map(String::as_str).collect();
        // Backwards, everything that imports a file comes before it.
        for other in self.files.iter().rev() {
            if wanted.contains(other.name.as_str()) {
                wanted.extend(other.imports.iter().map(String::as_str));
            }
        }
        self.files.iter().filter(|other| wanted.contains(other.name.as_str())).collect()
    }

    /// All files of a set count as asked for: it does not tell which ones were.
    fn read_set(&mut self, path: &Path) -> anyhow::Result<()> {
        let known =
            path.extension().is_some_and(|end| ["binpb", "bin", "pb", "desc"].iter().any(|known| end == *known));
        if !known {
            bail!("{} is neither a .proto file nor a .binpb file", path.display());
        }
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for file in read_set(bytes.into()).with_context(|| path.display().to_string())? {
            self.named.insert(file.name.clone());
            self.add(file);
        }
        Ok(())
    }

    fn compile(&mut self, protos: &[PathBuf], include: &[PathBuf]) -> anyhow::Result<()> {
        let include = if include.is_empty() { roots(protos) } else { include.to_vec() };
        // Debug is this library's long form: with the place in the file.
        let failed = |why: protox::Error| anyhow!("{why:?}");
        let mut compiler = protox::Compiler::new(include).map_err(failed)?;
        compiler.include_imports(true).include_source_info(false);
        for proto in protos {
            compiler.open_file(proto).map_err(failed)?;
        }
        self.named.extend(compiler.files().filter(|file| !file.is_import()).map(|file| file.name().to_owned()));
        for file in read_set(compiler.encode_file_descriptor_set().into())? {
            self.add(file);
        }
        Ok(())
    }

    fn add(&mut self, file: RawFile) {
        if !file.is_bundled() && !self.files.iter().any(|known| known.name == file.name) {
            self.files.push(file);
        }
    }
}

/// The current folder for files below it, else the folders that the files are in.
fn roots(protos: &[PathBuf]) -> Vec<PathBuf> {
    let below = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let mut roots = Vec::new();
    for proto in protos {
        let root = match proto.parent() {
            Some(parent) if !below(proto) => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn sources(files: Vec<PathBuf>, include: Vec<PathBuf>) -> Sources {
        Sources { files, include }
    }

    #[test]
    fn imports_come_along_first_and_custom_options_survive() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join("a")).unwrap();
            std::fs::write(dir.path().join(name), format!("syntax = \"proto3\";\npackage a;\n{text}")).unwrap();
            dir.path().join(name)
        };
        write(
            "a/opt.proto",
            "import \"google/protobuf/descriptor.proto\"; extend google.protobuf.FileOptions { string owner = 50000; }",
        );
        write("a/types.proto", "message M {}");
        let main = write(
            "a/main.proto",
            "import \"a/types.proto\"; import \"a/opt.proto\"; option (owner) = \"them\"; service S { rpc Get(M) returns (M); }",
        );
        let local = Local::read(&sources(vec![main.clone()], vec![dir.path().to_owned()])).unwrap();
        let names: Vec<&str> = local.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["a/types.proto", "a/opt.proto", "a/main.proto"]);
        let last = local.files.last().unwrap();
        assert!(local.is_named(last) && !local.is_named(&local.files[0]));
        assert_eq!(local.imports_of(last).len(), 2);
        assert!(last.raw.windows(4).any(|bytes| bytes == b"them"), "the option's value");
        assert_eq!(last.services.len(), 1);

        let set = dir.path().join("set.binpb");
        let files: Vec<_> = local.files.iter().map(|file| file.proto().unwrap()).rev().collect();
        std::fs::write(&set, prost_types::FileDescriptorSet { file: files }.encode_to_vec()).unwrap();
        let again = Local::read(&sources(vec![set], vec![])).unwrap();
        assert_eq!(again.files.len(), 3);
        assert_eq!(again.files.last().unwrap().name, "a/main.proto", "imports first, whatever the set's order");
        assert!(Local::read(&sources(vec![main], vec![])).is_err(), "its imports are elsewhere");
    }

    #[test]
    fn what_is_wrong_names_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bad.proto");
        std::fs::write(&file, "syntax = \"proto3\";\nmessage M { string = 1; }\n").unwrap();
        let said = Local::read(&sources(vec![file], vec![])).unwrap_err().to_string();
        assert!(said.contains("bad.proto"), "{said}");
        let said = |name: &str| Local::read(&sources(vec![name.into()], vec![])).unwrap_err().to_string();
        assert!(said("x.txt").contains("neither a .proto file nor a .binpb file"));
        assert!(said("no-such.binpb").contains("cannot read no-such.binpb"));
    }
}
