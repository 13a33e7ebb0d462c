//! Sins that take a call into the node. On other targets they are tame, but for the search for files.

#[cfg(target_family = "wasm")]
pub(crate) use wasm::{files, leak_pollables, poll_many, random, trap};

#[cfg(target_family = "wasm")]
mod wasm {
    use wasip2::filesystem::preopens;
    use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

    pub(crate) fn trap() -> ! {
        core::arch::wasm32::unreachable()
    }

    pub(crate) fn random(bytes: u64) -> Vec<u8> {
        wasip2::random::random::get_random_bytes(bytes)
    }

    pub(crate) fn leak_pollables(amount: u64) -> u64 {
        let mut held = Vec::new();
        for _ in 0..amount {
            held.push(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX));
        }
        let held = std::mem::ManuallyDrop::new(held);
        held.len() as u64
    }

    pub(crate) fn poll_many(amount: u64) -> u64 {
        let never = wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX);
        let entries = vec![&never; usize::try_from(amount).unwrap_or(usize::MAX)];
        wasip2::io::poll::poll(&entries).len() as u64
    }

    /// The folders that are there, and which famous files can be opened from them: in WASI there is no other way in.
    /// Asked directly, since `std::fs` of older compilers imports `wasi:sockets`, which no node grants.
    pub(crate) fn files() -> Vec<String> {
        let mut found = Vec::new();
        for (folder, name) in preopens::get_directories() {
            found.push(format!("folder {name}"));
            for file in ["etc/passwd", "proc/self/environ", "../etc/passwd"] {
                let opened = folder.open_at(PathFlags::SYMLINK_FOLLOW, file, OpenFlags::empty(), DescriptorFlags::READ);
                found.extend(opened.map(|_| format!("file {name}/{file}")));
            }
        }
        found
    }
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn trap() -> ! {
    std::process::abort()
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn random(_bytes: u64) -> Vec<u8> {
    Vec::new()
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn leak_pollables(_amount: u64) -> u64 {
    0
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn poll_many(_amount: u64) -> u64 {
    0
}

/// The famous files that can be opened.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn files() -> Vec<String> {
    let famous = ["/etc/passwd", "/proc/self/environ", "../etc/passwd"];
    let opened = famous.into_iter().filter(|file| std::fs::File::open(file).is_ok());
    opened.map(|file| format!("file {file}")).collect()
}
