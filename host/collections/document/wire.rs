//! Fields as they stand on the wire, nothing copied.

use crate::registry::{Input, Problem, skip_unknown};
use prost_reflect::Kind;

/// A value on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    /// Text, bytes, a message, a packed run.
    Run(&'a [u8]),
    /// A message between two tags.
    Group(&'a [u8]),
}

/// A field on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) number: u32,
    pub(super) wire: Wire<'a>,
    /// Tag and all.
    pub(super) raw: &'a [u8],
}

/// The fields of a message, in the order of the wire. Ends after the first problem.
pub(super) struct Fields<'a> {
    input: Input<'a>,
    left: u32,
}

impl<'a> Fields<'a> {
    /// * `left`: how deep groups may nest.
    pub(super) fn of(bytes: &'a [u8], left: u32) -> Self {
        Self { input: Input(bytes), left }
    }

    fn read(&mut self) -> Result<Found<'a>, Problem> {
        let before = self.input.0;
        let (number, wire) = self.input.key()?;
        let wire = match wire {
            0 => Wire::Varint(self.input.varint()?),
            1 => Wire::Fixed64(fixed64(&mut self.input)?),
            2 => Wire::Run(self.input.run()?),
            3 => Wire::Group(self.group(number)?),
            5 => Wire::Fixed32(fixed32(&mut self.input)?),
            other => return Err(Problem::WireType(other)),
        };
        Ok(Found { number, wire, raw: taken(before, self.input.0) })
    }

    fn group(&mut self, number: u32) -> Result<&'a [u8], Problem> {
        let left = self.left.checked_sub(1).ok_or(Problem::Nesting)?;
        let inside = self.input.0;
        loop {
            let before = self.input.0;
            let (inner, wire) = self.input.key()?;
            match wire {
                4 if inner == number => return Ok(taken(inside, before)),
                4 => return Err(Problem::GroupEnd),
                _ => skip_unknown(inner, wire, &mut self.input, left)?,
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Found<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.input.0 = &[];
        }
        Some(field)
    }
}

/// What was read when of `before` only `after` is left.
fn taken<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    before.get(..before.len().saturating_sub(after.len())).unwrap_or_default()
}

fn fixed32(input: &mut Input<'_>) -> Result<u32, Problem> {
    let (bytes, rest) = input.0.split_first_chunk().ok_or(Problem::Truncated)?;
    input.0 = rest;
    Ok(u32::from_le_bytes(*bytes))
}

fn fixed64(input: &mut Input<'_>) -> Result<u64, Problem> {
    let (bytes, rest) = input.0.split_first_chunk().ok_or(Problem::Truncated)?;
    input.0 = rest;
    Ok(u64::from_le_bytes(*bytes))
}

/// Hands each element of a packed run to `each`.
pub(super) fn packed<E: From<Problem>>(
    kind: &Kind,
    run: &[u8],
    mut each: impl FnMut(Wire<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut input = Input(run);
    while !input.0.is_empty() {
        let wire = match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64(fixed64(&mut input)?),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32(fixed32(&mut input)?),
            _ => Wire::Varint(input.varint()?),
        };
        each(wire)?;
    }
    Ok(())
}

/// The bytes of text, bytes or a message.
pub(super) fn run(wire: Wire<'_>) -> Result<&[u8], Problem> {
    match wire {
        Wire::Run(bytes) | Wire::Group(bytes) => Ok(bytes),
        other => Err(misfit(other)),
    }
}

/// A problem that names the wire type.
pub(super) fn misfit(wire: Wire<'_>) -> Problem {
    Problem::WireType(match wire {
        Wire::Varint(_) => 0,
        Wire::Fixed64(_) => 1,
        Wire::Run(_) => 2,
        Wire::Group(_) => 3,
        Wire::Fixed32(_) => 5,
    })
}
