//! Counts a file descriptor on the wire, before it is decoded: half a megabyte of empty elements would become a
//! hundred of memory.

use super::super::wire::{Input, MOST_NESTED, Problem, skip_unknown};
use super::{
    MOST_DEPTH, MOST_FIELDS, MOST_IMPORTS, MOST_LOCATIONS, MOST_OPTION_BYTES, MOST_RANGES, MOST_TYPES,
    MOST_UNINTERPRETED, VetError,
};
use bytes::{BufMut as _, Bytes, BytesMut};

/// How many elements a file has.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) types: usize,
    pub(super) fields: usize,
    ranges: usize,
    imports: usize,
    locations: usize,
    uninterpreted: usize,
}

/// Messages of `descriptor.proto` that are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File,
    Message,
    Field,
    Enum,
    Value,
    Oneof,
    Service,
    Method,
    Range,
    Sources,
    Options,
    /// Counted, not looked into.
    Leaf,
}

/// What an element counts as.
#[derive(Debug, Clone, Copy)]
enum Count {
    Type,
    Field,
    Range,
    Import,
    Location,
    Uninterpreted,
    Nothing,
}

/// Length-delimited wire type.
const LENGTH: u32 = 2;
/// `FileDescriptorProto.source_code_info`.
const SOURCES: u32 = 9;

/// Counts everything of the file in `raw`.
///
/// * errors: `TooLarge` for any ceiling, `Invalid` if the bytes are not even wire format.
pub(super) fn count(raw: &[u8]) -> Result<Census, VetError> {
    let mut census = Census::default();
    census.walk(Node::File, raw, 0)?;
    VetError::within("messages, enums and services", census.types, MOST_TYPES)?;
    VetError::within("fields, extensions, oneofs, enum values and methods", census.fields, MOST_FIELDS)?;
    VetError::within("reserved and extension ranges", census.ranges, MOST_RANGES)?;
    VetError::within("imports", census.imports, MOST_IMPORTS)?;
    VetError::within("source locations", census.locations, MOST_LOCATIONS)?;
    VetError::within("uninterpreted options", census.uninterpreted, MOST_UNINTERPRETED)?;
    Ok(census)
}

/// The file without `source_code_info`; all else is copied byte for byte.
///
/// * `raw`: has been counted. If it is not wire format after all, it comes back as it is.
pub(super) fn without_sources(raw: &Bytes) -> Bytes {
    let mut kept = BytesMut::with_capacity(raw.len());
    let mut input = Input(raw);
    while !input.0.is_empty() {
        let start = input.0;
        let next = input.key().and_then(|(number, wire)| {
            skip_unknown(number, wire, &mut input, MOST_NESTED)?;
            Ok(number)
        });
        let Ok(number) = next else { return raw.clone() };
        if number != SOURCES {
            kept.put_slice(start.get(..start.len() - input.0.len()).unwrap_or_default());
        }
    }
    kept.freeze()
}

/// The element that field `number` of `node` holds.
fn child(node: Node, number: u32) -> Option<(Node, Count)> {
    let found = match (node, number) {
        (Node::File, 3) => (Node::Leaf, Count::Import),
        (Node::File, 4) | (Node::Message, 3) => (Node::Message, Count::Type),
        (Node::File, 5) | (Node::Message, 4) => (Node::Enum, Count::Type),
        (Node::File, 6) => (Node::Service, Count::Type),
        (Node::File, 7) | (Node::Message, 2 | 6) => (Node::Field, Count::Field),
        (Node::File, SOURCES) => (Node::Sources, Count::Nothing),
        (Node::Sources, 1) => (Node::Leaf, Count::Location),
        (Node::Message, 5) => (Node::Range, Count::Range),
        (Node::Message, 8) => (Node::Oneof, Count::Field),
        (Node::Message, 9 | 10) | (Node::Enum, 4 | 5) => (Node::Leaf, Count::Range),
        (Node::Enum, 2) => (Node::Value, Count::Field),
        (Node::Service, 2) => (Node::Method, Count::Field),
        (Node::File | Node::Field, 8)
        | (Node::Message, 7)
        | (Node::Enum | Node::Value | Node::Service | Node::Range, 3)
        | (Node::Oneof, 2)
        | (Node::Method, 4) => (Node::Options, Count::Nothing),
        (Node::Options, 999) => (Node::Leaf, Count::Uninterpreted),
        _ => return None,
    };
    Some(found)
}

impl Census {
    /// * `depth`: messages that this element is in.
    fn walk(&mut self, node: Node, bytes: &[u8], depth: usize) -> Result<(), VetError> {
        let mut input = Input(bytes);
        // An element may carry its options in several pieces, which are merged.
        let mut option_bytes = 0;
        while !input.0.is_empty() {
            let (number, wire) = input.key().map_err(not_wire)?;
            let Some((inner, count)) = child(node, number).filter(|_| wire == LENGTH) else {
                skip_unknown(number, wire, &mut input, MOST_NESTED).map_err(not_wire)?;
                continue;
            };
            let run = input.run().map_err(not_wire)?;
            self.add(count);
            let depth = depth + usize::from(inner == Node::Message);
            VetError::within("levels of nested messages", depth, MOST_DEPTH)?;
            if inner == Node::Options {
                option_bytes += run.len();
                VetError::within("bytes of options in one place", option_bytes, MOST_OPTION_BYTES)?;
            }
            if inner != Node::Leaf {
                self.walk(inner, run, depth)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, count: Count) {
        match count {
            Count::Type => self.types += 1,
            Count::Field => self.fields += 1,
            Count::Range => self.ranges += 1,
            Count::Import => self.imports += 1,
            Count::Location => self.locations += 1,
            Count::Uninterpreted => self.uninterpreted += 1,
            Count::Nothing => {}
        }
    }
}

fn not_wire(problem: Problem) -> VetError {
    VetError::at("file descriptor", problem)
}
