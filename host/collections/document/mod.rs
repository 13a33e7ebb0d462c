//! What queries see of a record: bytes of a type in, a document and its texts out.
//!
//! The bytes are read once, by the type, straight into the document: no tree in between, so that memory stays in
//! proportion to what is written, and that is bounded. Fields that the type does not know, extensions among them, are
//! kept in the bytes only.

mod json;
mod layout;
mod merge;
mod scalar;
mod time;
mod value;
mod walk;
mod wire;

pub(super) use merge::merge;
pub(super) use scalar::{narrow, push_bytes, push_unsigned};
pub(super) use time::{read_moment, read_span};

use super::{BadField, Form, Item};
use crate::domain::one_line;
use crate::store::{DIMENSIONS_MAX, Indexed, TYPE_URL_MAX};
use prost_reflect::{Kind, MessageDescriptor};
use walk::Walk;

/// Longest record, in bytes. 4 MiB: what one request can bring; so a reply can carry any of them.
pub(crate) const RECORD_MAX: usize = 4 << 20;
/// Most values of one record, elements and defaults counted. 200,000: a record of the largest size that is not made of
/// nothing but tags has fewer, and a document of as many takes some ten MiB.
pub(super) const VALUES_MAX: usize = 200_000;
/// Longest document, in bytes. 12 MiB: with the longest record and its texts it still fits a write of the store.
pub(super) const DOCUMENT_MAX: usize = 12 << 20;
/// How deep `google.protobuf.Any` may hold another one. 10: more is an attack.
pub(super) const ANY_NESTED_MAX: usize = 10;
/// How deep a JSON record may nest. As messages may.
pub(super) const JSON_NESTED_MAX: usize = 100;

/// The field that vectors are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VectorField {
    /// Field numbers, outermost first; the last is repeated and of a floating kind.
    Typed(Vec<u32>),
    /// Members, outermost first.
    Loose(Vec<String>),
}

/// What the store is to keep beside the bytes, which are checked. `None`: they are opaque.
///
/// * errors: `item.type_url`: another type, or no possible one. `item.value`: bytes that do not decode as the type; more
///   than [`VALUES_MAX`] or [`DOCUMENT_MAX`] allow; a vector that cannot be one.
pub(super) fn index(form: &Form, item: &Item, vector: Option<&VectorField>) -> Result<Option<Box<Indexed>>, BadField> {
    check(form, item)?;
    match form {
        Form::Loose => json::index(&item.bytes, vector),
        Form::Typed { descriptor, .. } => {
            let numbers = match vector {
                Some(VectorField::Typed(numbers)) => Some(numbers.as_slice()),
                _ => None,
            };
            let indexed = Walk::new(descriptor, item.bytes.len()).record(descriptor, &item.bytes, numbers);
            indexed.map(|indexed| Some(Box::new(indexed))).map_err(|stop| stop.into_error(descriptor))
        }
    }
}

/// Whether an item is of the form's type and decodes as it. Anything is loose.
///
/// * errors: `item.type_url`, `item.value`, as [`index`], but for what a record may hold.
pub(super) fn check(form: &Form, item: &Item) -> Result<(), BadField> {
    check_url(&item.type_url)?;
    let Form::Typed { descriptor, check } = form else { return Ok(()) };
    let wanted = descriptor.full_name();
    let named = item.type_url.rsplit('/').next().unwrap_or_default();
    if named != wanted {
        let found = one_line(named, 128);
        let problem = format!("must name {wanted}, the collection's type, after its last `/`; it names {found:?}");
        return Err(BadField::new(ITEM_TYPE, problem));
    }
    let refused = |why| BadField::new(ITEM_VALUE, format!("does not decode as {wanted}: {why}"));
    check.check(&item.bytes).map_err(refused)
}

const ITEM_TYPE: &str = "item.type_url";
const ITEM_VALUE: &str = "item.value";

fn check_url(url: &str) -> Result<(), BadField> {
    if url.len() > TYPE_URL_MAX {
        let problem = format!("has {} bytes, at most {TYPE_URL_MAX} are allowed", url.len());
        return Err(BadField::new(ITEM_TYPE, problem));
    }
    if url.contains('\0') { Err(BadField::new(ITEM_TYPE, "must not have NUL bytes")) } else { Ok(()) }
}

/// Numbers as a vector; none is no vector.
///
/// * errors: more than [`DIMENSIONS_MAX`], or one that is not finite.
fn vector_of(numbers: impl Iterator<Item = f64>) -> Result<Option<Vec<f32>>, BadField> {
    let mut vector = Vec::new();
    for number in numbers {
        let number = narrow(number);
        if !number.is_finite() {
            return Err(BadField::new(ITEM_VALUE, "has a vector with a number that is not finite"));
        }
        if vector.len() == DIMENSIONS_MAX {
            let problem = format!("has a vector of more than {DIMENSIONS_MAX} numbers");
            return Err(BadField::new(ITEM_VALUE, problem));
        }
        vector.push(number);
    }
    Ok(Some(vector).filter(|vector| !vector.is_empty()))
}

/// Why a record cannot be searched.
#[derive(Debug)]
enum Stop {
    /// The bytes are not what they should be.
    Bytes(crate::registry::Problem),
    /// Too much of something, said as it goes on after the field's name.
    Bounds(String),
    /// The vector.
    Vector(BadField),
}

impl From<crate::registry::Problem> for Stop {
    fn from(problem: crate::registry::Problem) -> Self {
        match problem {
            // Inside of an Any, where it would pass for bytes of another type.
            crate::registry::Problem::Nesting => Self::Bounds(problem.to_string()),
            other => Self::Bytes(other),
        }
    }
}

impl Stop {
    fn values() -> Self {
        Self::Bounds(format!("has more than {VALUES_MAX} values"))
    }

    fn length() -> Self {
        Self::Bounds(format!("is longer than {DOCUMENT_MAX} bytes once it is written as JSON"))
    }

    fn into_error(self, descriptor: &MessageDescriptor) -> BadField {
        match self {
            Self::Bytes(problem) => {
                BadField::new(ITEM_VALUE, format!("does not decode as {}: {problem}", descriptor.full_name()))
            }
            Self::Bounds(problem) => BadField::new(ITEM_VALUE, problem),
            Self::Vector(why) => why,
        }
    }
}

/// Whether elements of the kind are numbers that a vector can be made of.
pub(super) fn is_floating(kind: &Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Double)
}

#[cfg(test)]
mod tests;
