//! What the node and the compiler's process say to each other: one order, one answer.
//!
//! Order: length of the recipe (4 bytes, little-endian), the recipe as JSON, the component to the end of the stream.
//! Answer: one byte of [`Tag`], then machine code or words to the end of the stream.

use crate::exec::wasm;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// Bytes of a recipe at most: a few settings.
const RECIPE_MAX: u32 = 64 << 10;

/// How to compile.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// What the engine is made from.
    pub(super) config: wasm::Config,
    /// What the node's engine calls itself: code of any other would not load.
    pub(super) engine: String,
    /// Processor time, in seconds.
    pub(super) cpu_seconds: u64,
    /// Memory that can be written, in bytes.
    pub(super) memory_bytes: u64,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// Machine code.
    Code = 1,
    /// The compiler's words on why not.
    Refused = 2,
    /// Why no compiler can work here.
    Unable = 3,
}

impl Tag {
    pub(super) fn of(byte: u8) -> Option<Self> {
        [Self::Code, Self::Refused, Self::Unable].into_iter().find(|tag| *tag as u8 == byte)
    }
}

impl Order {
    /// All that goes before the component.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let recipe = serde_json::to_vec(self)?;
        let length = u32::try_from(recipe.len()).map_err(io::Error::other)?;
        Ok([&length.to_le_bytes()[..], &recipe].concat())
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > RECIPE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut recipe = vec![0; length as usize];
        from.read_exact(&mut recipe)?;
        Ok(serde_json::from_slice(&recipe)?)
    }
}

pub(super) fn answer(to: &mut impl Write, tag: Tag, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[tag as u8])?;
    to.write_all(bytes)?;
    to.flush()
}
