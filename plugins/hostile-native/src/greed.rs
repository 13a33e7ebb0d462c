//! Taking all there is.

#![allow(unsafe_code, reason = "maps memory")]

use crate::attempt::name_of;
use std::fmt::Write as _;
use std::io::{self, Write};

const MIB: usize = 1 << 20;
/// Any page size is a multiple of it.
const PAGE: usize = 4096;
/// Where one folder is full enough.
const DISK: usize = 1 << 30;

/// Maps and touches this many MiB, one by one.
pub(crate) fn allocate(mib: u64) -> String {
    for got in 0..mib {
        // SAFETY: new memory at a place of the kernel's choice, never given back.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MIB,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return format!("memory: {got} MiB, then {}\n", code(&io::Error::last_os_error()));
        }
        for page in (0..MIB).step_by(PAGE) {
            // SAFETY: within the memory that was just mapped.
            unsafe { at.cast::<u8>().add(page).write_volatile(1) };
        }
    }
    format!("memory: {mib} MiB\n")
}

/// Fills every folder that it can write to, a line each, and leaves it full.
pub(crate) fn fill_disk() -> String {
    let mut said = String::new();
    for folder in ["/", "/tmp", "/dev/shm", "/run", "/var/tmp", "."] {
        let (written, end) = fill(folder);
        let _ = writeln!(said, "{folder}: {written} bytes, then {end}");
    }
    said
}

fn fill(folder: &str) -> (usize, String) {
    let chunk = vec![1; MIB];
    let mut written = 0;
    // Many files: one alone may have a limit of its own.
    for number in 0.. {
        let mut file = match std::fs::File::create(format!("{folder}/collector-hostile-{number}")) {
            Ok(file) => file,
            Err(error) => return (written, code(&error)),
        };
        for _ in 0..8 {
            match file.write(&chunk) {
                Ok(count) if count > 0 && written < DISK => written += count,
                Ok(_) => return (written, "enough".to_owned()),
                Err(error) => return (written, code(&error)),
            }
        }
    }
    (written, "enough".to_owned())
}

fn code(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), name_of)
}
