//! Protobuf files as bytes: taken apart, put in order, linked. The bytes stay as they are, so custom options survive.

use crate::domain::one_line;
use crate::rpc::RawDescriptor;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `google.protobuf.FileDescriptorSet`, its files not looked into.
#[derive(Clone, PartialEq, Message)]
struct RawSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

/// The fields of `google.protobuf.FileDescriptorProto` that order and services take, the services not looked into.
#[derive(Clone, PartialEq, Message)]
struct RawFields {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    service: Vec<Bytes>,
}

/// One file as bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RawFile {
    /// The name that imports use.
    pub(super) name: String,
    /// Its package; may be empty.
    pub(super) package: String,
    /// Names of the files that it imports.
    pub(super) imports: Vec<String>,
    /// Its services, each an encoded `ServiceDescriptorProto`.
    pub(super) services: Vec<Bytes>,
    /// The whole file.
    pub(super) raw: Bytes,
}

impl RawFile {
    /// Reads an encoded `FileDescriptorProto`.
    pub(super) fn decode(raw: Bytes) -> anyhow::Result<Self> {
        let fields = RawFields::decode(raw.clone()).context("a descriptor does not decode")?;
        let RawFields { name, package, dependency: imports, service: services } = fields;
        Ok(Self { name, package, imports, services, raw })
    }

    /// What it says, without custom options.
    pub(super) fn proto(&self) -> anyhow::Result<FileDescriptorProto> {
        FileDescriptorProto::decode(self.raw.clone()).with_context(|| format!("{} does not decode", self.name))
    }

    /// Whether every implementation of protobuf brings it along.
    pub(super) fn is_bundled(&self) -> bool {
        is_bundled(&self.name)
    }

    /// Whether both say the same, comments and positions aside.
    pub(super) fn same(&self, other: &Self) -> bool {
        let bare = |file: &Self| file.proto().map(|proto| FileDescriptorProto { source_code_info: None, ..proto }).ok();
        self.raw == other.raw || bare(self).is_some_and(|mine| bare(other) == Some(mine))
    }
}

/// Whether a file of this name comes with protobuf itself.
pub(super) fn is_bundled(name: &str) -> bool {
    name.starts_with("google/protobuf/")
}

/// The files of an encoded `FileDescriptorSet`.
pub(super) fn read_set(bytes: Bytes) -> anyhow::Result<Vec<RawFile>> {
    let set = RawSet::decode(bytes).context("this is no FileDescriptorSet")?;
    set.file.into_iter().map(RawFile::decode).collect()
}

/// Puts files after the files that they import. Imports that are not there are passed over.
pub(super) fn imports_first(files: Vec<RawFile>) -> Vec<RawFile> {
    let by_name: HashMap<&str, &RawFile> = files.iter().map(|file| (file.name.as_str(), file)).collect();
    let (mut seen, mut ordered) = (HashSet::new(), Vec::with_capacity(files.len()));
    for root in &files {
        let mut stack = Vec::new();
        if seen.insert(root.name.as_str()) {
            stack.push((root, 0));
        }
        // Depth first, with a stack of its own: a chain of imports may be as long as the namespace.
        while let Some((file, next)) = stack.pop() {
            let Some(import) = file.imports.get(next) else {
                ordered.push(file.clone());
                continue;
            };
            stack.push((file, next + 1));
            if let Some(found) = by_name.get(import.as_str())
                && seen.insert(found.name.as_str())
            {
                stack.push((*found, 0));
            }
        }
    }
    ordered
}

/// Links files with each other and with those that come with protobuf.
///
/// * `files`: imports first, without bundled ones.
/// * errors: they do not fit together.
pub(super) fn link(files: &[RawFile]) -> anyhow::Result<DescriptorPool> {
    let set = RawSet { file: files.iter().map(|file| file.raw.clone()).collect() }.encode_to_vec();
    let build = || {
        // A copy of the pool that prost-reflect starts with: the well-known types and nothing else.
        let mut pool = DescriptorPool::global();
        pool.decode_file_descriptor_set(set.as_slice()).map(|()| pool)
    };
    // prost-reflect panics on some odd option paths, and a node is no reason to panic.
    match catch_unwind(AssertUnwindSafe(build)) {
        Ok(Ok(pool)) => Ok(pool),
        Ok(Err(why)) => Err(anyhow!("the descriptors do not fit together: {}", one_line(&why.to_string(), 512))),
        Err(_panic) => Err(anyhow!("the descriptors do not fit together")),
    }
}

/// A descriptor as a field of a request takes it: the one place where bytes become one.
pub(super) fn embed(raw: &Bytes) -> RawDescriptor {
    RawDescriptor::from(raw.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, imports: &[&str]) -> RawFile {
        let proto = FileDescriptorProto {
            name: Some(name.into()),
            dependency: imports.iter().map(|&import| import.into()).collect(),
            ..Default::default()
        };
        RawFile::decode(proto.encode_to_vec().into()).unwrap()
    }

    #[test]
    fn imports_come_first_and_circles_end() {
        let files = vec![file("a", &["b", "c", "google/protobuf/any.proto"]), file("b", &["c"]), file("c", &[])];
        let names: Vec<String> = imports_first(files.clone()).into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["c", "b", "a"]);
        assert_eq!(link(&imports_first(files)).unwrap().files().filter(|file| file.name().len() == 1).count(), 3);
        assert_eq!(imports_first(vec![file("a", &["b"]), file("b", &["a"])]).len(), 2);
    }

    #[test]
    fn comments_make_no_difference() {
        let plain = file("a", &[]);
        let commented = FileDescriptorProto { source_code_info: Some(Default::default()), ..plain.proto().unwrap() };
        let commented = RawFile::decode(commented.encode_to_vec().into()).unwrap();
        assert!(plain.same(&commented) && !plain.same(&file("a", &["b"])));
    }
}
