//! The frames between the node and a runner: used by both, so that they are one thing. Only `std` here.
//!
//! ```text
//! runner -> node   Hello, once; then for every Call: Stdout and Stderr as they come, Done last
//! node -> runner   Call, the next one only after Done
//! frame            MAGIC | kind u8 | 3 zero bytes | length of the body u32 | id of the call u64 | body; little-endian
//! ```

/// First bytes of every frame; the last one is the version.
pub const MAGIC: [u8; 4] = *b"CRN\x01";
/// Bytes of a frame's head.
pub const HEAD: usize = 20;
/// Largest body that a node takes: pieces of output. 64 KiB: what a pipe holds.
pub const PIECE_MAX: usize = 64 << 10;

/// The runner stands; an empty body, or why it cannot keep calls apart here.
pub const HELLO: u8 = 1;
/// Run the program: see [`Fields`].
pub const CALL: u8 = 2;
/// Bytes of the program's stdout.
pub const STDOUT: u8 = 3;
/// Bytes of the program's stderr.
pub const STDERR: u8 = 4;
/// It has ended: exit code i32 or -1, signal i32 or 0, u8 1 if nothing of it is left and the next call may come.
pub const DONE: u8 = 5;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// One of the constants.
    pub kind: u8,
    /// Bytes of the body.
    pub length: usize,
    /// Which call it belongs to; 0 for Hello.
    pub id: u64,
}

impl Head {
    /// As it travels.
    pub fn bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let parts: [&[u8]; 4] = [&MAGIC, &[self.kind, 0, 0, 0], &length.to_le_bytes(), &self.id.to_le_bytes()];
        for (byte, value) in bytes.iter_mut().zip(parts.concat()) {
            *byte = value;
        }
        bytes
    }

    /// `None` if it is no head of a frame with a body of at most `most` bytes.
    pub fn read(bytes: &[u8; HEAD], most: usize) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (magic, kind) = (fields.take(4)?, fields.take(4)?);
        let length = fields.number()?;
        let id = u64::from_le_bytes(fields.take(8)?.try_into().ok()?);
        let [kind, 0, 0, 0] = *kind else { return None };
        (magic == MAGIC && length <= most).then_some(Self { kind, length, id })
    }
}

/// A body, field by field. Of a Call: number of arguments, each with its length; number of variables, each `NAME=value`
/// with its length; the rest is the program's stdin. All numbers u32.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next bytes, if there are so many.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next number.
    pub fn number(&mut self) -> Option<usize> {
        let number = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        usize::try_from(number).ok()
    }
}
