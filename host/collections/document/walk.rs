//! From the bytes of a message to its document, guided by its type.

use super::layout::{Field, Layout, Layouts, Many};
use super::wire::{Fields, Wire, misfit, packed, run};
use super::{DOCUMENT_MAX, Stop, VALUES_MAX, scalar, vector_of};
use crate::collections::form::Holds;
use crate::registry::{MOST_NESTED, Problem};
use crate::store::{Indexed, TEXT_BREAK};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What has been written of a record, and what may still be.
pub(super) struct Walk {
    pub(super) pool: DescriptorPool,
    pub(super) document: String,
    pub(super) text: String,
    pub(super) vector: Option<Vec<f32>>,
    /// Values that may still come.
    values: usize,
    /// How many Any are around what is being written.
    pub(super) anys: usize,
    layouts: Layouts,
}

/// A field's values on the wire: which of the layout's fields, and one value. Several stand next to each other.
pub(super) type Occurrence<'a> = (usize, Wire<'a>);

impl Walk {
    /// * `size`: of the record, in bytes.
    pub(super) fn new(descriptor: &MessageDescriptor, size: usize) -> Self {
        Self {
            pool: descriptor.parent_pool().clone(),
            // Names and quotes: about as much again as the values.
            document: String::with_capacity(2 * size + 64),
            text: String::new(),
            vector: None,
            values: VALUES_MAX,
            anys: 0,
            layouts: Layouts::default(),
        }
    }

    /// Writes a whole record.
    pub(super) fn record(
        mut self,
        descriptor: &MessageDescriptor,
        bytes: &[u8],
        vector: Option<&[u32]>,
    ) -> Result<Indexed, Stop> {
        match Holds::of_root(descriptor) {
            Holds::Message(message) => self.message(&message, &[bytes], MOST_NESTED, vector)?,
            open => self.value(&open, &[Wire::Run(bytes)], MOST_NESTED + 1)?,
        }
        if self.document.len() > DOCUMENT_MAX {
            return Err(Stop::length());
        }
        Ok(Indexed { document: self.document, text: self.text, vector: self.vector })
    }

    /// Counts a value.
    pub(super) fn charge(&mut self) -> Result<(), Stop> {
        self.values = self.values.checked_sub(1).ok_or_else(Stop::values)?;
        if self.document.len() > DOCUMENT_MAX { Err(Stop::length()) } else { Ok(()) }
    }

    /// Writes a message as an object.
    /// * `parts`: its bytes, one after the other: a message that comes in parts is merged.
    /// * `left`: how deep it may nest.
    /// * `vector`: where in it the vector is.
    pub(super) fn message(
        &mut self,
        message: &MessageDescriptor,
        parts: &[&[u8]],
        left: u32,
        vector: Option<&[u32]>,
    ) -> Result<(), Stop> {
        self.document.push('{');
        self.members(message, parts, left, vector)?;
        self.document.push('}');
        Ok(())
    }

    /// Writes the members of a message's object.
    pub(super) fn members(
        &mut self,
        message: &MessageDescriptor,
        parts: &[&[u8]],
        left: u32,
        vector: Option<&[u32]>,
    ) -> Result<(), Stop> {
        let layout = self.layouts.of(message);
        let found = self.occurrences(&layout, parts, left)?;
        let mut always = layout.always.iter().copied().peekable();
        for same in found.chunk_by(|a, b| a.0 == b.0) {
            let Some((at, _)) = same.first() else { continue };
            while let Some(absent) = always.next_if(|next| next < at) {
                self.default(&layout, absent)?;
            }
            always.next_if(|next| next == at);
            let Some(field) = layout.fields.get(*at) else { continue };
            let deeper = vector.and_then(|path| path.split_first()).filter(|(number, _)| **number == field.number);
            self.field(field, same, left, deeper.map(|(_, rest)| rest))?;
        }
        always.try_for_each(|absent| self.default(&layout, absent))
    }

    /// The values of a message's known fields, by field; within a field in the order of the wire.
    fn occurrences<'a>(
        &mut self,
        layout: &Rc<Layout>,
        parts: &[&'a [u8]],
        left: u32,
    ) -> Result<Vec<Occurrence<'a>>, Stop> {
        let mut found = Vec::with_capacity(layout.fields.len().min(16));
        for part in parts {
            for field in Fields::of(part, left) {
                let field = field?;
                if let Some((at, _)) = layout.find(field.number) {
                    self.charge()?;
                    found.push((at, field.wire));
                }
            }
        }
        drop_overruled(&mut found, |(at, _)| layout.fields.get(*at).and_then(|field| Some((field.oneof?, *at))));
        found.sort_by_key(|(at, _)| *at);
        Ok(found)
    }

    fn default(&mut self, layout: &Layout, at: usize) -> Result<(), Stop> {
        let Some(field) = layout.fields.get(at) else { return Ok(()) };
        let Some(default) = field.default else { return Ok(()) };
        self.charge()?;
        self.name(field.descriptor.name());
        self.value(&field.holds, &[default], 0)
    }

    /// Writes a member's name, and a comma if one is due.
    pub(super) fn name(&mut self, name: &str) {
        self.comma();
        scalar::push_text(name, &mut self.document);
        self.document.push(':');
    }

    pub(super) fn comma(&mut self) {
        if !self.document.ends_with(['{', '[', ':']) {
            self.document.push(',');
        }
    }

    fn field(
        &mut self,
        field: &Field,
        found: &[Occurrence<'_>],
        left: u32,
        vector: Option<&[u32]>,
    ) -> Result<(), Stop> {
        match (&field.many, &field.holds) {
            (Many::One, Holds::Message(message)) if vector.is_some() => {
                self.name(field.descriptor.name());
                let parts = found.iter().map(|(_, wire)| run(*wire)).collect::<Result<Vec<_>, Problem>>()?;
                self.message(message, &parts, deeper(left)?, vector)
            }
            (Many::One, holds) => {
                self.name(field.descriptor.name());
                let found: Vec<Wire<'_>> = found.iter().map(|(_, wire)| *wire).collect();
                self.value(holds, &found, left)
            }
            (Many::List, holds) => self.list(field, holds, found, left, vector.is_some()),
            (Many::Map(key, default), holds) => self.map(field, (key, *default, holds), found, left),
        }
    }

    fn list(
        &mut self,
        field: &Field,
        holds: &Holds,
        found: &[Occurrence<'_>],
        left: u32,
        vector: bool,
    ) -> Result<(), Stop> {
        let rollback = self.document.len();
        self.name(field.descriptor.name());
        self.document.push('[');
        let before = self.document.len();
        let mut numbers = Vec::new();
        for (_, wire) in found {
            match (holds, *wire) {
                (Holds::Scalar(kind), Wire::Run(run)) if !matches!(kind, Kind::String | Kind::Bytes) => {
                    packed(kind, run, |wire| {
                        self.charge()?;
                        numbers.extend(number(wire).filter(|_| vector));
                        self.element(holds, wire, left)
                    })?;
                }
                (_, wire) => {
                    numbers.extend(number(wire).filter(|_| vector));
                    self.element(holds, wire, left)?;
                }
            }
        }
        if vector {
            self.vector = vector_of(numbers.into_iter()).map_err(Stop::Vector)?;
        }
        if self.document.len() == before {
            self.document.truncate(rollback);
        } else {
            self.document.push(']');
        }
        Ok(())
    }

    fn element(&mut self, holds: &Holds, wire: Wire<'_>, left: u32) -> Result<(), Stop> {
        self.comma();
        self.value(holds, &[wire], left)
    }

    fn map(
        &mut self,
        field: &Field,
        (key, default, holds): (&Kind, Wire<'static>, &Holds),
        found: &[Occurrence<'_>],
        left: u32,
    ) -> Result<(), Stop> {
        let mut entries = BTreeMap::new();
        for (_, wire) in found {
            let (key, value) = entry(key, run_only(*wire)?, left)?;
            // The last one of a key is the one.
            entries.insert(key, value);
        }
        self.name(field.descriptor.name());
        self.document.push('{');
        for (key, value) in &entries {
            self.charge()?;
            self.name(key);
            let absent = [default];
            self.value(holds, if value.is_empty() { &absent } else { value }, left)?;
        }
        self.document.push('}');
        Ok(())
    }
}

/// Adds to the texts that are searched.
pub(super) fn say(text: &str, out: &mut String) {
    if text.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.extend([' ', TEXT_BREAK, ' ']);
    }
    for (nth, part) in text.split(TEXT_BREAK).enumerate() {
        if nth > 0 {
            out.push(' ');
        }
        out.push_str(part);
    }
}

/// Drops what of a oneof came before another member of it: the last member set is the one that is.
/// * `member`: the oneof and which member of it, if it is of one.
pub(super) fn drop_overruled<T>(found: &mut Vec<T>, member: impl Fn(&T) -> Option<(usize, usize)>) {
    // Oneof, its winner, and whether what is further left was overruled, the winner's own included.
    let mut known: Vec<(usize, usize, bool)> = Vec::new();
    let mut stays = |occurrence: &T| {
        let Some((oneof, which)) = member(occurrence) else { return true };
        let Some((_, winner, overruled)) = known.iter_mut().find(|(known, ..)| *known == oneof) else {
            known.push((oneof, which, false));
            return true;
        };
        *overruled |= *winner != which;
        !*overruled
    };
    let mut keep: Vec<bool> = found.iter().rev().map(&mut stays).collect();
    if keep.contains(&false) {
        found.retain(|_| keep.pop().unwrap_or(true));
    }
}

/// Key, as its text, and value of a map's entry. No value: the default.
pub(super) fn entry<'a>(kind: &Kind, bytes: &'a [u8], left: u32) -> Result<(Cow<'a, str>, Vec<Wire<'a>>), Problem> {
    let (mut key, mut value) = (None, Vec::new());
    for field in Fields::of(bytes, left) {
        let field = field?;
        match field.number {
            1 => key = Some(field.wire),
            2 => value.push(field.wire),
            _ => {}
        }
    }
    Ok((key_text(kind, key)?, value))
}

fn key_text<'a>(kind: &Kind, wire: Option<Wire<'a>>) -> Result<Cow<'a, str>, Problem> {
    match (kind, wire) {
        (Kind::String, None) => Ok(Cow::Borrowed("")),
        (Kind::String, Some(wire)) => {
            std::str::from_utf8(run_only(wire)?).map(Cow::Borrowed).map_err(|_| Problem::Utf8)
        }
        (Kind::Bool, None) => Ok(Cow::Borrowed("false")),
        (Kind::Uint64, Some(Wire::Varint(value))) | (Kind::Fixed64, Some(Wire::Fixed64(value))) => {
            Ok(Cow::Owned(value.to_string()))
        }
        (_, None) => Ok(Cow::Borrowed("0")),
        (_, Some(wire)) => {
            let mut text = String::new();
            scalar::push(kind, wire, &mut text)?;
            Ok(Cow::Owned(text))
        }
    }
}

/// A length-delimited value: where groups are no alternative.
pub(super) fn run_only(wire: Wire<'_>) -> Result<&[u8], Problem> {
    match wire {
        Wire::Run(bytes) => Ok(bytes),
        other => Err(misfit(other)),
    }
}

/// The nesting left for what is inside.
pub(super) fn deeper(left: u32) -> Result<u32, Stop> {
    left.checked_sub(1).ok_or_else(|| Problem::Nesting.into())
}

/// A floating number.
fn number(wire: Wire<'_>) -> Option<f64> {
    match wire {
        Wire::Fixed32(bits) => Some(f32::from_bits(bits).into()),
        Wire::Fixed64(bits) => Some(f64::from_bits(bits)),
        _ => None,
    }
}
