//! Binaries in memory: one sealed memfd per digest, reused by every call, least recently used ones given up.
//!
//! Nothing is written to a path, and nothing can change a binary once it is sealed: every call of a digest runs the very
//! bytes that were checked. Source: threats.md B9.

use crate::domain::Start;
use crate::exec::load::{Loaded, blocking, read};
use crate::exec::{Code, ExecError};
use crate::lifecycle::Lifecycle;
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

/// What a binary costs beside its pages: a file in the kernel, an entry here.
const BINARY_COST: usize = 8 << 10;

/// A program that can be run and not be changed.
#[derive(Debug)]
pub(super) struct Binary {
    file: File,
    bytes: usize,
}

impl Binary {
    /// Copies a program into memory and seals it.
    ///
    /// * errors: of the system: no memory, too many open files.
    /// * blocks: for as long as the copy takes, 32 MiB some 10 ms.
    pub(super) fn seal(program: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd()?);
        file.write_all(program)?;
        let data = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
        match rustix::fs::fcntl_add_seals(&file, data | SealFlags::EXEC | SealFlags::SEAL) {
            // Linux before 6.3 has no seal of the mode, which nobody but the node could change anyway.
            Err(rustix::io::Errno::INVAL) => rustix::fs::fcntl_add_seals(&file, data | SealFlags::SEAL)?,
            sealed => sealed?,
        }
        Ok(Self { file, bytes: program.len() })
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn memfd() -> io::Result<std::os::fd::OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("plugin", flags | MemfdFlags::EXEC) {
        // Linux before 6.3: every memfd may be run, and there is no flag that says so.
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create("plugin", flags)?),
        made => Ok(made?),
    }
}

/// All binaries of a node.
pub(super) struct Binaries(Loaded<Binary>);

impl Binaries {
    /// * `most_mib`: of all binaries together, beside those that run.
    pub(super) fn new(most_mib: u64, lifecycle: Lifecycle) -> Self {
        Self(Loaded::new(most_mib, |binary| binary.bytes + BINARY_COST, lifecycle))
    }

    /// The binary of `code`. However many ask at once, it is read once.
    ///
    /// * errors: `Missing`, `Internal`.
    /// * cancel: safe; loading goes on in a task of its own, so that the next call finds it.
    pub(super) async fn get(&self, code: &Code) -> Result<(Arc<Binary>, Start), ExecError> {
        let make = |code: Code| async move {
            let program = read(&code).await?;
            blocking(move || Binary::seal(&program)).await?.map_err(ExecError::internal)
        };
        self.0.get(code, make).await
    }

    /// Binaries in memory.
    pub(super) async fn count(&self) -> u64 {
        self.0.count().await
    }
}
