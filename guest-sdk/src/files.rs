//! Files of the namespace, in folders: `collector plugin grant NAME files=reports:write`.
//!
//! A name is 1 to 8 parts joined by `/`; folders for the parts before the last come and go with their files. One call moves
//! at most [`BYTES_MAX`] bytes. What was written stays, even if the handler fails afterwards.
//!
//! ```no_run
//! use collector_guest::files::Folder;
//!
//! let reports = Folder::named("reports");
//! reports.write("2026/november.csv", b"day,sales\n")?; // replaced as a whole
//! let size = reports.info("2026/november.csv")?.size;
//! reports.write_at("2026/november.csv", size, b"1,17\n")?; // grows
//! let text = reports.read("2026/november.csv")?;
//! for (name, info) in reports.list("2026/")?.files { /* the first hundred, by name */ }
//! # Ok::<_, collector_guest::Fault>(())
//! ```

use crate::Fault;

/// Most bytes that one call moves.
pub const BYTES_MAX: u32 = 1 << 20;

/// A folder of the namespace.
#[derive(Clone, Debug)]
pub struct Folder {
    name: String,
}

/// A file, without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Bytes.
    pub size: u64,
    /// When it was last written, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// Some of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// By name.
    pub files: Vec<(String, Info)>,
    /// For [`Folder::list_after`]; empty: these were the last.
    pub next: String,
}

impl Folder {
    /// The folder of this name. Nothing is asked yet.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// All of a file, in as many calls as that takes.
    /// * errors: `NOT_FOUND`; of all here: `PERMISSION_DENIED` without the grant, `INVALID_ARGUMENT` for a name that is none.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        loop {
            let more = self.read_at(name, all.len() as u64, BYTES_MAX)?;
            let full = more.len() as u64 == u64::from(BYTES_MAX);
            all.extend(more);
            if !full {
                return Ok(all);
            }
        }
    }

    /// Part of a file. Fewer bytes than `length`: it ends there.
    /// * errors: `NOT_FOUND`; `INVALID_ARGUMENT` for more than [`BYTES_MAX`].
    pub fn read_at(&self, name: &str, offset: u64, length: u32) -> Result<Vec<u8>, Fault> {
        node::read(&self.name, name, offset, length)
    }

    /// Makes or replaces a file: whoever reads finds the old one or the new one.
    /// * `bytes`: at most [`BYTES_MAX`]; more by [`Folder::write_at`], under a name of its own until it is whole.
    /// * errors: `RESOURCE_EXHAUSTED` for a quota; `FAILED_PRECONDITION` where a folder has the name.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        node::write(&self.name, name, None, bytes)
    }

    /// Writes into a file that is there, which grows where need be.
    /// * errors: `OUT_OF_RANGE` behind its end; `NOT_FOUND`; as [`Folder::write`].
    pub fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        node::write(&self.name, name, Some(offset), bytes)
    }

    /// What a file is.
    /// * errors: `NOT_FOUND`.
    pub fn info(&self, name: &str) -> Result<Info, Fault> {
        node::stat(&self.name, name)
    }

    /// The first hundred files whose names begin with this; empty: of all.
    pub fn list(&self, prefix: &str) -> Result<Page, Fault> {
        self.list_after(prefix, "", 0)
    }

    /// The page after another.
    /// * `token`: [`Page::next`] of that one; empty: the first.
    /// * `size`: most files, the same for all pages; 0: 100.
    pub fn list_after(&self, prefix: &str, token: &str, size: u32) -> Result<Page, Fault> {
        node::list(&self.name, prefix, size, token)
    }

    /// Removes a file.
    /// * errors: `NOT_FOUND`.
    pub fn delete(&self, name: &str) -> Result<(), Fault> {
        node::delete(&self.name, name)
    }

    /// Gives a file another name in the folder; one that has it already is replaced.
    /// * errors: `NOT_FOUND`; as [`Folder::write`].
    pub fn rename(&self, name: &str, to: &str) -> Result<(), Fault> {
        node::rename(&self.name, name, to)
    }
}

#[cfg(target_family = "wasm")]
mod node {
    use super::{Fault, Info, Page};
    use crate::component::bindings::collector::plugin::files as wit;

    fn info(info: wit::Info) -> Info {
        Info { size: info.size, modified_ms: info.modified_ms }
    }

    pub(super) fn read(folder: &str, name: &str, offset: u64, length: u32) -> Result<Vec<u8>, Fault> {
        Ok(wit::read(folder, name, offset, length)?)
    }

    pub(super) fn write(folder: &str, name: &str, offset: Option<u64>, bytes: &[u8]) -> Result<(), Fault> {
        Ok(wit::write(folder, name, offset, bytes)?)
    }

    pub(super) fn stat(folder: &str, name: &str) -> Result<Info, Fault> {
        Ok(info(wit::stat(folder, name)?))
    }

    pub(super) fn list(folder: &str, prefix: &str, size: u32, token: &str) -> Result<Page, Fault> {
        let page = wit::list(folder, prefix, size, token)?;
        let files = page.entries.into_iter().map(|entry| (entry.name, info(entry.info))).collect();
        Ok(Page { files, next: page.next })
    }

    pub(super) fn delete(folder: &str, name: &str) -> Result<(), Fault> {
        Ok(wit::delete(folder, name)?)
    }

    pub(super) fn rename(folder: &str, name: &str, to: &str) -> Result<(), Fault> {
        Ok(wit::rename(folder, name, to)?)
    }
}

#[cfg(not(target_family = "wasm"))]
mod node {
    use super::{Fault, Info, Page};

    fn nowhere<T>(folder: &str) -> Result<T, Fault> {
        Err(crate::not_on_a_node(&["the folder ", folder].concat()))
    }

    pub(super) fn read(folder: &str, _: &str, _: u64, _: u32) -> Result<Vec<u8>, Fault> {
        nowhere(folder)
    }

    pub(super) fn write(folder: &str, _: &str, _: Option<u64>, _: &[u8]) -> Result<(), Fault> {
        nowhere(folder)
    }

    pub(super) fn stat(folder: &str, _: &str) -> Result<Info, Fault> {
        nowhere(folder)
    }

    pub(super) fn list(folder: &str, _: &str, _: u32, _: &str) -> Result<Page, Fault> {
        nowhere(folder)
    }

    pub(super) fn delete(folder: &str, _: &str) -> Result<(), Fault> {
        nowhere(folder)
    }

    pub(super) fn rename(folder: &str, _: &str, _: &str) -> Result<(), Fault> {
        nowhere(folder)
    }
}
