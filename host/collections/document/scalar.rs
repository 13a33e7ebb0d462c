//! Scalars as documents have them.

use super::wire::{Wire, misfit, run};
use crate::registry::Problem;
use prost_reflect::Kind;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Longest bytes that stand in a document as they are. 32: a digest; longer ones stand as their digest.
const BYTES_SHOWN: usize = 32;

/// Appends a scalar of that kind as JSON. Text is also returned.
pub(super) fn push<'a>(kind: &Kind, wire: Wire<'a>, out: &mut String) -> Result<Option<&'a str>, Problem> {
    match (kind, wire) {
        (Kind::Bool, Wire::Varint(value)) => out.push_str(if value == 0 { "false" } else { "true" }),
        (Kind::Int32 | Kind::Enum(_), Wire::Varint(value)) => show(low(value).cast_signed(), out),
        (Kind::Int64, Wire::Varint(value)) => show(value.cast_signed(), out),
        (Kind::Sint32, Wire::Varint(value)) => {
            let value = low(value);
            show((value >> 1).cast_signed() ^ -(value & 1).cast_signed(), out);
        }
        (Kind::Sint64, Wire::Varint(value)) => show((value >> 1).cast_signed() ^ -(value & 1).cast_signed(), out),
        (Kind::Uint32, Wire::Varint(value)) => show(low(value), out),
        (Kind::Fixed32, Wire::Fixed32(value)) => show(value, out),
        (Kind::Sfixed32, Wire::Fixed32(value)) => show(value.cast_signed(), out),
        (Kind::Sfixed64, Wire::Fixed64(value)) => show(value.cast_signed(), out),
        (Kind::Uint64, Wire::Varint(value)) | (Kind::Fixed64, Wire::Fixed64(value)) => {
            out.push('"');
            push_unsigned(value, out);
            out.push('"');
        }
        (Kind::Float, Wire::Fixed32(bits)) => push_real(f32::from_bits(bits).into(), out),
        (Kind::Double, Wire::Fixed64(bits)) => push_real(f64::from_bits(bits), out),
        (Kind::String, wire) => {
            let text = std::str::from_utf8(run(wire)?).map_err(|_| Problem::Utf8)?;
            push_text(text, out);
            return Ok(Some(text));
        }
        (Kind::Bytes, wire) => {
            out.push('"');
            push_bytes(run(wire)?, out);
            out.push('"');
        }
        (_, wire) => return Err(misfit(wire)),
    }
    Ok(None)
}

fn show(number: impl std::fmt::Display, out: &mut String) {
    let _ = write!(out, "{number}");
}

/// The low half, as a parser of 32-bit numbers takes it.
pub(super) fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

/// To 32 bits, rounded; too large is infinite.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
pub(in crate::collections) fn narrow(number: f64) -> f32 {
    number as f32
}

/// Appends 20 digits, which sort as the numbers do.
pub(in crate::collections) fn push_unsigned(value: u64, out: &mut String) {
    let _ = write!(out, "{value:020}");
}

/// Appends bytes as text: themselves in hex, or their digest.
pub(in crate::collections) fn push_bytes(bytes: &[u8], out: &mut String) {
    if bytes.len() <= BYTES_SHOWN {
        out.push_str("x:");
        push_hex(bytes, out);
    } else {
        out.push_str("s:");
        push_hex(&Sha256::digest(bytes), out);
    }
}

fn push_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// Appends a floating number as JSON that reads back as the same number; NaN as text, which is above every number.
pub(super) fn push_real(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str("\"NaN\"");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "9e999" } else { "-9e999" });
    } else {
        let _ = write!(out, "{number:?}");
    }
}

/// Appends a JSON string.
pub(super) fn push_text(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let (plain, odd) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(plain);
        let mut chars = odd.chars();
        match chars.next() {
            Some(quoted @ ('"' | '\\')) => out.extend(['\\', quoted]),
            Some(control) => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}
