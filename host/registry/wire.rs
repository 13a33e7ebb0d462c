//! Whether bytes decode as a message type, without decoding them.
//!
//! Every call is checked against its registered type, so this runs on every call: no allocation unless the answer is
//! no, no I/O, one pass over the bytes. What is accepted is what `prost_reflect::DynamicMessage::decode` accepts, with
//! one exception that is stricter: a map field must be length-delimited, as the wire format says (prost does not look,
//! and then reads the field differently from every other parser).
//!
//! Left out: required fields, unknown enum numbers and duplicates of singular fields, none of which make a parser
//! fail. Invariant: work is linear in the bytes and nesting is bounded, whatever the bytes say.

use crate::domain::one_line;
use prost_reflect::{Cardinality, DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;

/// How deep messages and groups may nest inside the outermost one. Source: prost's `RECURSION_LIMIT`.
pub const MOST_NESTED: u32 = 100;

/// Highest field number of the wire format.
const LAST_NUMBER: u64 = (1 << 29) - 1;
/// Field numbers up to here may be looked up by index, even when most are unused.
const DENSE_ALWAYS: u32 = 16;
/// Longest field path in an error, in bytes: names are tenants' text and paths can be 100 of them.
const PATH_BYTES: usize = 512;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const GROUP: u32 = 3;
const GROUP_END: u32 = 4;
const FIXED32: u32 = 5;

/// All message types of a descriptor pool, laid out for [`Shapes::check`]. Immutable.
#[derive(Debug)]
pub struct Shapes {
    shapes: Box<[Shape]>,
    ids: HashMap<Box<str>, ShapeId>,
}

/// One message type of the [`Shapes`] that gave it out. Cheap to keep: names need no look-up per call then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShapeId(u32);

/// Why bytes are not a message of the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", At(.field))]
pub struct WireError {
    /// Dotted path of the field, as in `order.lines.sku`; empty for the message itself. Never a value: data stays out
    /// of errors and logs.
    pub field: String,
    /// What is wrong with it, one line.
    pub problem: String,
}

struct At<'a>(&'a str);

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "field {}: ", self.0) }
    }
}

/// One message type. Numbers below `dense.len()` are looked up by index, the others by binary search.
#[derive(Debug)]
struct Shape {
    dense: Box<[Entry]>,
    sparse: Box<[(u32, Entry)]>,
    /// For errors: by number, ascending. Names, not descriptors, which would keep the whole pool in memory.
    names: Box<[(u32, Box<str>)]>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    form: Form,
    /// Repeated and of a scalar type: elements may come in one length-delimited run.
    packable: bool,
    /// Index of the message type of `Message`, `Group` and `Map`.
    shape: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Unknown,
    Varint,
    Fixed32,
    Fixed64,
    Text,
    Bytes,
    Message,
    Group,
    Map,
}

const UNKNOWN: Entry = Entry { form: Form::Unknown, packable: false, shape: 0 };

impl Shapes {
    /// Lays out all messages of `pool`, so that only new pools cost time, never calls.
    pub fn of(pool: &DescriptorPool) -> Self {
        let ids: HashMap<Box<str>, ShapeId> =
            pool.all_messages().zip(0..).map(|(message, id)| (message.full_name().into(), ShapeId(id))).collect();
        let shapes = pool.all_messages().map(|message| Shape::of(message, &ids)).collect();
        Self { shapes, ids }
    }

    /// The type of that full protobuf name (`shop.v1.Order`, no leading dot).
    pub fn get(&self, full_name: &str) -> Option<ShapeId> {
        self.ids.get(full_name).copied()
    }

    /// Checks that `bytes` are an encoded message of type `id`.
    ///
    /// * `id`: from `get` of the same `Shapes`; another one's is a wrong answer, not a panic.
    /// * errors: the first thing a parser would stumble over.
    pub fn check(&self, id: ShapeId, bytes: &[u8]) -> Result<(), WireError> {
        let walk = self.shape(id.0).and_then(|shape| self.fields(shape, &mut Input(bytes), MOST_NESTED, None));
        walk.map_err(|fault| (*fault).into_error())
    }

    fn shape(&self, index: u32) -> Result<&Shape, Box<Fault>> {
        usize::try_from(index).ok().and_then(|at| self.shapes.get(at)).ok_or_else(|| Problem::NoType.into())
    }

    /// Reads fields up to the end of `bytes`, or up to the end of group `group`.
    fn fields(&self, shape: &Shape, bytes: &mut Input<'_>, left: u32, group: Option<u32>) -> Result<(), Box<Fault>> {
        while !bytes.0.is_empty() {
            let (number, wire) = bytes.key()?;
            if wire == GROUP_END {
                let fault = || Box::<Fault>::from(Problem::GroupEnd).inside(shape, number);
                return if group == Some(number) { Ok(()) } else { Err(fault()) };
            }
            let entry = shape.entry(number);
            if let Err(fault) = self.field(entry, number, wire, bytes, left) {
                return Err(fault.inside(shape, number));
            }
        }
        if group.is_some() { Err(Problem::Truncated.into()) } else { Ok(()) }
    }

    #[inline]
    fn field(&self, entry: Entry, number: u32, wire: u32, bytes: &mut Input<'_>, left: u32) -> Result<(), Box<Fault>> {
        match (entry.form, wire) {
            (Form::Varint, VARINT) => bytes.skip_varint()?,
            (Form::Text, LENGTH) => {
                std::str::from_utf8(bytes.run()?).map_err(|_| Problem::Utf8)?;
            }
            (Form::Bytes, LENGTH) => {
                bytes.run()?;
            }
            (Form::Fixed32, FIXED32) => bytes.skip(4)?,
            (Form::Fixed64, FIXED64) => bytes.skip(8)?,
            (Form::Message, LENGTH) => {
                let mut inner = Input(bytes.run()?);
                self.fields(self.shape(entry.shape)?, &mut inner, deeper(left)?, None)?;
            }
            (Form::Map, LENGTH) => {
                let inner = Input(bytes.run()?);
                self.map_entry(self.shape(entry.shape)?, inner, left)?;
            }
            (Form::Group, GROUP) => self.fields(self.shape(entry.shape)?, bytes, deeper(left)?, Some(number))?,
            (form, LENGTH) if entry.packable => packed(form, bytes.run()?)?,
            (Form::Unknown, _) => skip_unknown(number, wire, bytes, left)?,
            _ => return Err(Problem::WireType(wire).into()),
        }
        Ok(())
    }

    /// A map entry is no level of nesting to prost, and what is neither key nor value is skipped unseen.
    fn map_entry(&self, shape: &Shape, mut bytes: Input<'_>, left: u32) -> Result<(), Box<Fault>> {
        while !bytes.0.is_empty() {
            let (number, wire) = bytes.key()?;
            if number == 1 || number == 2 {
                self.field(shape.entry(number), number, wire, &mut bytes, left)
                    .map_err(|fault| fault.inside(shape, number))?;
            } else {
                skip_in_map(number, wire, &mut bytes, left)?;
            }
        }
        Ok(())
    }
}

/// The nesting left for what is inside, if there may be any.
fn deeper(left: u32) -> Result<u32, Problem> {
    left.checked_sub(1).ok_or(Problem::Nesting)
}

/// The elements of a packed field.
fn packed(form: Form, run: &[u8]) -> Result<(), Problem> {
    match form {
        Form::Fixed32 if !run.len().is_multiple_of(4) => Err(Problem::Packed),
        Form::Fixed64 if !run.len().is_multiple_of(8) => Err(Problem::Packed),
        Form::Varint => {
            let mut bytes = Input(run);
            while !bytes.0.is_empty() {
                bytes.skip_varint()?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Passes over a field the type does not know; its groups may hold anything well-formed.
pub(crate) fn skip_unknown(number: u32, wire: u32, bytes: &mut Input<'_>, left: u32) -> Result<(), Problem> {
    match wire {
        VARINT => bytes.skip_varint(),
        FIXED64 => bytes.skip(8),
        LENGTH => bytes.run().map(|_| ()),
        FIXED32 => bytes.skip(4),
        GROUP => {
            let left = deeper(left)?;
            loop {
                let (inner, wire) = bytes.key()?;
                if wire == GROUP_END {
                    return if inner == number { Ok(()) } else { Err(Problem::GroupEnd) };
                }
                skip_unknown(inner, wire, bytes, left)?;
            }
        }
        other => Err(Problem::WireType(other)),
    }
}

/// Like [`skip_unknown`], but prost wants one more level of nesting to be left here, even for a number.
fn skip_in_map(number: u32, wire: u32, bytes: &mut Input<'_>, left: u32) -> Result<(), Problem> {
    let inner_left = deeper(left)?;
    if wire == GROUP_END {
        return Err(Problem::GroupEnd);
    }
    if wire != GROUP {
        return skip_unknown(number, wire, bytes, left);
    }
    loop {
        let (inner, wire) = bytes.key()?;
        if wire == GROUP_END {
            return if inner == number { Ok(()) } else { Err(Problem::GroupEnd) };
        }
        skip_in_map(inner, wire, bytes, inner_left)?;
    }
}

impl Shape {
    fn of(message: MessageDescriptor, ids: &HashMap<Box<str>, ShapeId>) -> Self {
        let mut entries: Vec<(u32, Entry)> = Vec::new();
        // The first extension of a number is the one prost-reflect finds. Sorting is stable, so it stays the first.
        entries.extend(message.fields().map(|field| (field.number(), Entry::of_field(&field, ids))));
        entries.extend(message.extensions().map(|field| (field.number(), Entry::of_extension(&field, ids))));
        entries.sort_by_key(|(number, _)| *number);
        entries.dedup_by_key(|(number, _)| *number);
        let extensions = message.extensions().map(|field| (field.number(), format!("[{}]", field.full_name()).into()));
        let fields = message.fields().map(|field| (field.number(), Box::from(field.name())));
        let mut names: Vec<(u32, Box<str>)> = fields.chain(extensions).collect();
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        let names = names.into_boxed_slice();
        let split = entries.iter().zip(1..).take_while(|((number, _), nth)| is_dense(*number, *nth)).count();
        let sparse = entries.split_off(split).into_boxed_slice();
        let top = entries.last().map_or(0, |(number, _)| *number);
        let mut known = entries.into_iter().peekable();
        let dense = (0..=top).map(|number| known.next_if(|(next, _)| *next == number).map_or(UNKNOWN, |(_, e)| e));
        Self { dense: dense.collect(), sparse, names }
    }

    #[inline]
    fn entry(&self, number: u32) -> Entry {
        match usize::try_from(number).ok().and_then(|at| self.dense.get(at)) {
            Some(entry) => *entry,
            None if self.sparse.is_empty() => UNKNOWN,
            None => self.sparse_entry(number),
        }
    }

    fn sparse_entry(&self, number: u32) -> Entry {
        let found = self.sparse.binary_search_by_key(&number, |(at, _)| *at).ok().and_then(|at| self.sparse.get(at));
        found.map_or(UNKNOWN, |(_, entry)| *entry)
    }

    fn field_name(&self, number: u32) -> Option<String> {
        let at = self.names.binary_search_by_key(&number, |(known, _)| *known).ok()?;
        self.names.get(at).map(|(_, name)| name.to_string())
    }
}

/// Whether the `nth` field, of this number, still belongs into a table where at most three of four places are empty.
fn is_dense(number: u32, nth: u32) -> bool {
    number <= DENSE_ALWAYS || number / 4 <= nth
}

impl Entry {
    fn of_field(field: &FieldDescriptor, ids: &HashMap<Box<str>, ShapeId>) -> Self {
        Self::of(&field.kind(), field.is_group(), field.is_map(), field.cardinality(), ids)
    }

    fn of_extension(field: &ExtensionDescriptor, ids: &HashMap<Box<str>, ShapeId>) -> Self {
        Self::of(&field.kind(), field.is_group(), field.is_map(), field.cardinality(), ids)
    }

    fn of(kind: &Kind, group: bool, map: bool, many: Cardinality, ids: &HashMap<Box<str>, ShapeId>) -> Self {
        let form = match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Form::Fixed64,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Form::Fixed32,
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Sint32 | Kind::Sint64 => Form::Varint,
            Kind::Bool | Kind::Enum(_) => Form::Varint,
            Kind::String => Form::Text,
            Kind::Bytes => Form::Bytes,
            Kind::Message(_) if map => Form::Map,
            Kind::Message(_) if group => Form::Group,
            Kind::Message(_) => Form::Message,
        };
        let shape = match kind {
            // Every message a field can name is of the same pool; if not, no such type is the answer, not a wrong one.
            Kind::Message(message) => ids.get(message.full_name()).map_or(u32::MAX, |id| id.0),
            _ => 0,
        };
        let scalar = matches!(form, Form::Varint | Form::Fixed32 | Form::Fixed64);
        Self { form, packable: scalar && many == Cardinality::Repeated, shape }
    }
}

/// What is left to read. Nothing is read twice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// Field number and wire type.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<(u32, u32), Problem> {
        let key = self.varint()?;
        let Ok(key) = u32::try_from(key) else { return Err(Problem::Number) };
        let (number, wire) = (key >> 3, key & 7);
        if number == 0 {
            return Err(Problem::Number);
        }
        if wire > FIXED32 { Err(Problem::WireType(wire)) } else { Ok((number, wire)) }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Problem> {
        match self.0 {
            [first, rest @ ..] if *first < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0;
        for (byte, at) in self.0.iter().zip(0u32..10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                // The tenth byte has room for one bit.
                if at == 9 && *byte > 1 {
                    return Err(Problem::Varint);
                }
                self.skip(u64::from(at) + 1)?;
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { Problem::Truncated } else { Problem::Varint })
    }

    #[inline]
    fn skip_varint(&mut self) -> Result<(), Problem> {
        self.varint().map(|_| ())
    }

    #[inline]
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), Problem> {
        self.take(count).map(|_| ())
    }

    /// A length and that many bytes.
    #[inline]
    pub(crate) fn run(&mut self) -> Result<&'a [u8], Problem> {
        let len = self.varint()?;
        self.take(len)
    }

    #[inline]
    fn take(&mut self, count: u64) -> Result<&'a [u8], Problem> {
        let parts = usize::try_from(count).ok().and_then(|count| self.0.split_at_checked(count));
        let (taken, rest) = parts.ok_or(Problem::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// What can be wrong with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("ends in the middle of a field")]
    Truncated,
    #[error("a varint is longer than 64 bits")]
    Varint,
    #[error("a field number is not within 1 to {LAST_NUMBER}")]
    Number,
    #[error("wire type {0} does not fit")]
    WireType(u32),
    #[error("a group ends that is not open")]
    GroupEnd,
    #[error("not valid UTF-8")]
    Utf8,
    #[error("a packed run does not hold a whole number of elements")]
    Packed,
    #[error("messages nest deeper than {MOST_NESTED}")]
    Nesting,
    #[error("not a type of this set")]
    NoType,
}

/// A problem on its way out, collecting the names of the fields it was in.
#[derive(Debug)]
struct Fault {
    problem: Problem,
    /// The field the problem is in, when the type does not know it.
    unknown: Option<u32>,
    /// Innermost first.
    path: Vec<String>,
}

impl From<Problem> for Box<Fault> {
    #[cold]
    fn from(problem: Problem) -> Self {
        Self::new(Fault { problem, unknown: None, path: Vec::new() })
    }
}

impl Fault {
    #[cold]
    fn inside(mut self: Box<Self>, shape: &Shape, number: u32) -> Box<Self> {
        match shape.field_name(number) {
            Some(name) => self.path.push(name),
            None => self.unknown = Some(number),
        }
        self
    }

    #[cold]
    fn into_error(mut self) -> WireError {
        self.path.reverse();
        let problem = match self.unknown {
            Some(number) => format!("{} (unknown field {number})", self.problem),
            None => self.problem.to_string(),
        };
        WireError { field: one_line(&self.path.join("."), PATH_BYTES), problem }
    }
}

#[cfg(test)]
mod tests;
