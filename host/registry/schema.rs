//! The services and types that a component says it has, resolved once.

use super::call::{CallError, pick};
use super::service::{MethodRef, Service};
use super::source::Source;
use super::vet::{self, VetError};
use super::wire::Shapes;
use super::{link, raw};
use crate::domain::{MethodName, ServiceName, one_line};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, FileDescriptor};
use prost_types::FileDescriptorSet;
use std::sync::Arc;

/// Services with their methods, and the types they speak. Immutable.
#[derive(Debug)]
pub struct Schema {
    services: Vec<Arc<Service>>,
    files: Vec<Source>,
    encoded: Bytes,
    weight: usize,
}

/// A descriptor set that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Above a ceiling of this node.
    #[error("the descriptors have {found} {what}, at most {most} are allowed")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many.
        found: usize,
        /// The ceiling.
        most: usize,
    },
    /// A file that is over a ceiling or not right in itself.
    #[error(transparent)]
    File(#[from] VetError),
    /// Not a `FileDescriptorSet`, or one whose files do not fit together.
    #[error("the descriptors are not valid: {0}")]
    Invalid(String),
}

impl Schema {
    /// Bytes of an encoded set. Source: threats.md B3.
    pub const MAX_BYTES: usize = 512 << 10;
    /// Files of a set. Source: threats.md B3.
    pub const MAX_FILES: usize = 256;
    /// Services of a set. 500: what one write of the store takes with room to spare; a plugin has a few.
    pub const MAX_SERVICES: usize = 500;

    /// Reads an encoded `google.protobuf.FileDescriptorSet` in which `google/protobuf/*` imports may be left out.
    ///
    /// * errors: hostile bytes are expected here; nothing of them is trusted.
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        Self::within("bytes", bytes.len(), Self::MAX_BYTES)?;
        let invalid = |why: String| SchemaError::Invalid(one_line(&why, 512));
        FileDescriptorSet::decode(bytes).map_err(|why| invalid(why.to_string()))?;
        let encoded = Bytes::copy_from_slice(bytes);
        let mut files = Vec::new();
        for file in raw::files(&encoded) {
            Self::within("files", files.len() + 1, Self::MAX_FILES)?;
            let vetted = vet::vet(&file)?;
            // Copies of the bundled files are passed over: ours are there already.
            if !vetted.proto.name().starts_with("google/protobuf/") {
                files.push(Source::new(vetted, &[], false, 0, 0));
            }
        }
        Self::within("services", files.iter().map(|file| file.services.len()).sum(), Self::MAX_SERVICES)?;
        link::check(&files)?;
        linked(&files).map_err(SchemaError::Invalid)?;
        let (services, weight) = services(&files).map_err(SchemaError::Invalid)?;
        let encoded = raw::set(files.iter().map(|source| &source.raw));
        Ok(Self { services, files, encoded, weight })
    }

    /// All services, by file and declaration order.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// The method that a call names.
    ///
    /// * errors: `NoService`, `Ambiguous`, `NoMethod`.
    pub fn find_method(&self, service: &ServiceName, method: &MethodName) -> Result<MethodRef, CallError> {
        let service = pick(&self.services, service)?;
        service.pick(method).ok_or_else(|| CallError::no_method(service, method))
    }

    /// The types, and the well-known ones, for JSON and for looking inside messages. Linked anew each time, a fraction of a
    /// millisecond: kept, it would be 200 KiB for every artifact that is known.
    pub fn pool(&self) -> Option<DescriptorPool> {
        linked(&self.files).ok()
    }

    /// Bytes of all the descriptors that it holds the types of: its own files', and those of the well-known that they import.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The component's files, without `google/protobuf/*`, as they stand in it.
    pub fn files(&self) -> impl Iterator<Item = &Bytes> {
        self.files.iter().map(|source| &source.raw)
    }

    /// Their names.
    pub fn file_names(&self) -> Vec<Arc<str>> {
        self.files.iter().map(|source| Arc::clone(&source.name)).collect()
    }

    /// The same as one encoded set.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    fn within(what: &'static str, found: usize, most: usize) -> Result<(), SchemaError> {
        if found > most { Err(SchemaError::TooLarge { what, found, most }) } else { Ok(()) }
    }
}

/// On a copy of the pool that prost-reflect starts with: the well-known types and nothing else.
fn linked(files: &[Source]) -> Result<DescriptorPool, String> {
    link::pool(DescriptorPool::global(), link::set(files))
}

/// The services, with the types of these files and of what they import, and no others: of all well-known ones there would be
/// a copy in every artifact. With the bytes of those descriptors.
fn services(files: &[Source]) -> Result<(Vec<Arc<Service>>, usize), String> {
    let (known, own) = (raw::set(&imported(files)), link::set(files));
    let weight = known.len() + own.len();
    let pool = link::pool(DescriptorPool::new(), known)?;
    let known = pool.files().len();
    let pool = link::pool(pool, own)?;
    let shapes = Arc::new(Shapes::of(&pool));
    let mut services = Vec::new();
    for file in pool.files().skip(known) {
        let raws = raw::services(&file.encode_to_vec().into());
        for (service, raw) in file.services().zip(raws) {
            let service = Service::of(&service, raw.raw, &shapes).ok_or("a method's type is missing")?;
            services.push(Arc::new(service));
        }
    }
    Ok((services, weight))
}

/// The well-known files that these import, and those that they import, imports first.
fn imported(files: &[Source]) -> Vec<Bytes> {
    fn add(file: FileDescriptor, found: &mut Vec<FileDescriptor>) {
        // They import each other two deep, and in no circle.
        if !found.contains(&file) {
            file.dependencies().for_each(|import| add(import, found));
            found.push(file);
        }
    }
    let (bundled, mut found) = (DescriptorPool::global(), Vec::new());
    for import in files.iter().flat_map(|source| &source.imports) {
        if let Some(file) = bundled.get_file_by_name(import) {
            add(file, &mut found);
        }
    }
    found.iter().map(|file| file.encode_to_vec().into()).collect()
}
