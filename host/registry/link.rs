//! From files to a pool: what prost-reflect has to be given so that it neither hangs, overflows nor misses a name.

use super::source::Source;
use super::vet::{self, VetError};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `FileDescriptorProto.dependency`.
const DEPENDENCY: u32 = 3;

/// Refuses files whose imports go in circles or fan out too far. Has to come before [`pool`].
pub(super) fn check<S: Borrow<Source>>(files: &[S]) -> Result<(), VetError> {
    let outline = |source: &Source| FileDescriptorProto {
        name: Some(source.name.to_string()),
        dependency: source.imports.iter().map(ToString::to_string).collect(),
        public_dependency: source.public.clone(),
        ..Default::default()
    };
    let outlines: Vec<FileDescriptorProto> = files.iter().map(|file| outline(file.borrow())).collect();
    vet::imports(&outlines.iter().collect::<Vec<_>>())
}

/// An encoded `FileDescriptorSet` for [`pool`]: without places in the source text, and every file importing what it
/// sees through public imports, since prost-reflect looks through one level of those only.
///
/// * `files`: with all that they import, checked.
pub(super) fn set<S: Borrow<Source>>(files: &[S]) -> Bytes {
    let by_name: HashMap<&str, &Source> = files.iter().map(|file| (&*file.borrow().name, file.borrow())).collect();
    let linkable = |source: &Source| {
        let mut raw = BytesMut::from(vet::without_sources(&source.raw).as_ref());
        for name in seen_through(source, &by_name) {
            encode_key(DEPENDENCY, WireType::LengthDelimited, &mut raw);
            encode_varint(name.len() as u64, &mut raw);
            raw.put_slice(name.as_bytes());
        }
        raw.freeze()
    };
    let raws: Vec<Bytes> = files.iter().map(|file| linkable(file.borrow())).collect();
    super::raw::set(&raws)
}

/// Files that `source` sees through public imports of its imports and does not import itself.
fn seen_through<'a>(source: &'a Source, files: &HashMap<&str, &'a Source>) -> BTreeSet<&'a str> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut left: Vec<&str> = source.imports.iter().map(|name| &**name).collect();
    while let Some(import) = left.pop() {
        for public in files.get(import).into_iter().flat_map(|file| file.public_imports()) {
            if seen.insert(public) {
                left.push(public);
            }
        }
    }
    seen.retain(|name| *name != &*source.name && !source.imports.iter().any(|import| **import == **name));
    seen
}

/// Adds an encoded set to a pool.
///
/// * errors: why the files do not fit together, in one line.
pub(super) fn pool(mut pool: DescriptorPool, set: Bytes) -> Result<DescriptorPool, String> {
    // prost-reflect panics on some odd option paths; a set that makes it do so is not valid.
    let built = catch_unwind(AssertUnwindSafe(move || pool.decode_file_descriptor_set(set).map(|()| pool)));
    match built {
        Ok(Ok(pool)) => Ok(pool),
        Ok(Err(why)) => Err(crate::domain::one_line(&why.to_string(), 512)),
        Err(_panic) => Err("the files do not fit together".to_owned()),
    }
}
