//! Limits on one file descriptor, as a stranger sent it.
//!
//! A registered file is compiled into the descriptor pool of its namespace, and that compiler trusts its input: it
//! panics on some odd files, recurses without end on others, and takes quadratic time on many. So nothing reaches it
//! that has not been counted on the wire (before anything is decoded) and then read rule by rule here.
//!
//! Left out: what needs other files (do names and imports resolve) and what the compiler itself checks well (names
//! used twice, numbers in reserved ranges). Invariant: what passes is small, and the compiler cannot panic on it.
//! Source: threats.md B3.

use crate::domain::one_line;
use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

mod census;
mod imports;
mod rules;

pub use imports::imports;

/// Bytes of one encoded file. Source: threats.md B3.
pub const MOST_BYTES: usize = 512 << 10;
/// Messages, enums and services of one file. Source: threats.md B3.
pub const MOST_TYPES: usize = 2_000;
/// Fields, extensions, oneofs, enum values and methods of one file. Source: threats.md B3.
pub const MOST_FIELDS: usize = 10_000;
/// Reserved ranges, reserved names and extension ranges of one file: the compiler compares each field with all of them.
pub const MOST_RANGES: usize = 2_000;
/// Levels of messages in messages, and parts of a package name. Source: threats.md B3.
pub const MOST_DEPTH: usize = 32;
/// Bytes of the options of one element, and of one default value. Source: threats.md B3.
pub const MOST_OPTION_BYTES: usize = 4 << 10;
/// Uninterpreted options of one file: `protoc` resolves them all, so a file has none unless someone wrote it by hand.
pub const MOST_UNINTERPRETED: usize = 1_000;
/// Places in the source text: about six for each of the most fields, with room to spare.
pub const MOST_LOCATIONS: usize = 100_000;
/// Imports of one file. Source: threats.md B3.
pub const MOST_IMPORTS: usize = 256;
/// Bytes of a file name and of one identifier.
pub const MOST_NAME_BYTES: usize = 255;
/// Bytes of a full name such as `shop.v1.Order.Line.sku`.
pub const MOST_FULL_NAME_BYTES: usize = 1_000;

/// Longest text of an error: every part of it is a stranger's.
const LINE: usize = 512;

/// A file that is within the limits. Only [`vet`] makes one, so its fields are proof; do not change them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Vetted {
    /// The decoded file, without its custom options: those are in `raw` only.
    pub proto: FileDescriptorProto,
    /// What was sent: the source of truth.
    pub raw: Bytes,
}

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VetError {
    /// Above a ceiling of this node. gRPC `INVALID_ARGUMENT`.
    #[error("the file has {found} {what}, at most {most} are allowed")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many.
        found: usize,
        /// The ceiling.
        most: usize,
    },
    /// Not a well-formed file; one line that names the file and the element. gRPC `INVALID_ARGUMENT`.
    #[error("{0}")]
    Invalid(String),
    /// A name that is the node's own. gRPC `PERMISSION_DENIED`.
    #[error("{what} belongs to the node")]
    Reserved {
        /// The file, package or message, with its kind.
        what: String,
    },
}

impl VetError {
    /// Says `problem` of `place`, in one line of bounded length.
    fn at(place: &str, problem: impl std::fmt::Display) -> Self {
        Self::Invalid(one_line(&format!("{place}: {problem}"), LINE))
    }

    fn within(what: &'static str, found: usize, most: usize) -> Result<(), Self> {
        if found > most { Err(Self::TooLarge { what, found, most }) } else { Ok(()) }
    }
}

/// Reads one encoded `google.protobuf.FileDescriptorProto` and holds it against every limit.
///
/// * `raw`: hostile. Sizes are checked before anything is decoded, so a refusal costs one pass over at most
///   [`MOST_BYTES`].
/// * errors: `TooLarge`, `Invalid`; `Reserved` only for a message that would pose as a package of the node. Whether
///   file and package are the node's own is [`reserved`]'s to say: the caller first passes over files that are bundled.
pub fn vet(raw: &Bytes) -> Result<Vetted, VetError> {
    VetError::within("bytes", raw.len(), MOST_BYTES)?;
    census::count(raw)?;
    let proto = FileDescriptorProto::decode(raw.as_ref()).map_err(|why| VetError::at("file descriptor", why))?;
    rules::check(&proto)?;
    Ok(Vetted { proto, raw: raw.clone() })
}

/// The file as a pool must get it: without the places in the source text, which its compiler searches once per error
/// and once per option, so that a small file with many of both would keep it busy for minutes.
pub fn without_sources(raw: &Bytes) -> Bytes {
    census::without_sources(raw)
}

/// Refuses a file or package name that is the node's own.
///
/// Kept apart from [`vet`]: clients bring their own copies of `google/protobuf/*`, which are passed over when they are
/// [`same_shape`] as the bundled ones.
pub fn reserved(name: &str, package: &str) -> Result<(), VetError> {
    let within = |root: &str| package.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if name.starts_with("google/protobuf/") || name.starts_with("collector/") {
        return Err(VetError::Reserved { what: format!("file {}", one_line(name, LINE)) });
    }
    if within("google.protobuf") || within("collector") || package.starts_with("grpc.") {
        return Err(VetError::Reserved { what: format!("package {}", one_line(package, LINE)) });
    }
    Ok(())
}

/// Whether two files declare the same things: equal but for comments, options, and JSON names that are the default.
///
/// Compilers differ in just these (protoc versions add options, some leave JSON names out), so a client's own copy of
/// `google/protobuf/timestamp.proto` is seldom the same bytes as ours.
pub fn same_shape(a: &FileDescriptorProto, b: &FileDescriptorProto) -> bool {
    bare_file(a) == bare_file(b)
}

fn bare_file(file: &FileDescriptorProto) -> FileDescriptorProto {
    let mut bare = file.clone();
    bare.options = None;
    bare.source_code_info = None;
    // proto2 is what no syntax means.
    bare.syntax = bare.syntax.filter(|syntax| syntax != "proto2" && !syntax.is_empty());
    bare.message_type.iter_mut().for_each(bare_message);
    bare.enum_type.iter_mut().for_each(bare_enum);
    bare.extension.iter_mut().for_each(bare_field);
    for service in &mut bare.service {
        service.options = None;
        for method in &mut service.method {
            method.options = None;
            method.client_streaming = Some(method.client_streaming());
            method.server_streaming = Some(method.server_streaming());
        }
    }
    bare
}

/// Recursion is bounded: neither prost nor [`vet`] lets deep nesting in.
fn bare_message(message: &mut DescriptorProto) {
    message.options = None;
    message.field.iter_mut().for_each(bare_field);
    message.extension.iter_mut().for_each(bare_field);
    message.nested_type.iter_mut().for_each(bare_message);
    message.enum_type.iter_mut().for_each(bare_enum);
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    message.extension_range.iter_mut().for_each(|range| range.options = None);
}

fn bare_field(field: &mut FieldDescriptorProto) {
    field.options = None;
    let default = json_name(field.name());
    field.json_name = field.json_name.take().filter(|name| *name != default);
    field.proto3_optional = Some(field.proto3_optional());
}

fn bare_enum(of: &mut EnumDescriptorProto) {
    of.options = None;
    of.value.iter_mut().for_each(|value| value.options = None);
}

/// The JSON name of a field that sets none: underscores go, and what follows one is upper case.
pub(super) fn json_name(name: &str) -> String {
    let mut json = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c != '_' {
            json.push(if upper { c.to_ascii_uppercase() } else { c });
        }
        upper = c == '_';
    }
    json
}

#[cfg(test)]
mod tests;
