//! Native commands: which target of this machine, and how to make them static.
//!
//! A native binary runs in an empty folder, so it must bring all that it needs. The flag that does it is given to the
//! plugin's own crate alone (`cargo rustc -- ...`): it adds to what cargo's configuration and `RUSTFLAGS` say, where a
//! setting of ours would replace them, and it reaches neither build scripts nor macros, which cannot be static.

use std::path::Path;

use super::super::rustc::{self, RustcError};
use super::BuiltKind;

/// What to do where the linker cannot.
pub(super) const REMEDY: &str =
    "install libc6-dev (glibc-static on Fedora), or run `rustup target add` for this machine's linux-musl target";

/// What linkers say that look for the static half of the C library in vain: GNU ld, lld, mold.
const NO_LIBRARY: [&str; 3] = ["cannot find -l", "unable to find library -l", "library not found: "];
/// The libraries that it is about. Source: the `libc` and `std` crates' lists for static glibc.
const STATIC_LIBC: [&str; 7] = ["c", "m", "rt", "pthread", "util", "dl", "gcc_eh"];

/// The target for static binaries of this machine: musl if it is installed, else the machine's own.
pub(super) fn target(dir: &Path) -> Result<String, RustcError> {
    let host = rustc::host(dir)?;
    let Some(musl) = musl_of(&host) else { return Ok(host) };
    Ok(if rustc::has_target(dir, &musl)? { musl } else { host })
}

/// `x86_64-unknown-linux-musl` for `x86_64-unknown-linux-gnu`; `None` where there is no such thing.
fn musl_of(host: &str) -> Option<String> {
    let architecture = host.strip_suffix("-unknown-linux-gnu")?;
    ["x86_64", "aarch64"].contains(&architecture).then(|| format!("{architecture}-unknown-linux-musl"))
}

/// Arguments after all others, for the compiler itself.
pub(super) fn flags(kind: BuiltKind, target: &str) -> &'static [&'static str] {
    match kind {
        // Said for musl too: configuration may have asked it for shared libraries.
        BuiltKind::NativeCommand if target.contains("-linux-") => &["--", "-C", "target-feature=+crt-static"],
        BuiltKind::NativeCommand | BuiltKind::Handler | BuiltKind::Command => &[],
    }
}

/// Whether a failed build's last lines say that the C library has no static half here.
pub(super) fn lacks_static_libc(tail: &str) -> bool {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let after = |said: &'static str| tail.split(said).skip(1).map(name);
    NO_LIBRARY.into_iter().flat_map(after).any(|library| STATIC_LIBC.contains(&library.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn musl_is_for_machines_that_have_it() {
        assert_eq!(musl_of("aarch64-unknown-linux-gnu").as_deref(), Some("aarch64-unknown-linux-musl"));
        for host in ["x86_64-unknown-linux-musl", "x86_64-apple-darwin", "sparc64-unknown-linux-gnu"] {
            assert_eq!(musl_of(host), None, "{host}");
        }
    }

    #[test]
    fn only_native_commands_of_linux_are_made_static() {
        assert!(!flags(BuiltKind::NativeCommand, "x86_64-unknown-linux-gnu").is_empty());
        assert!(flags(BuiltKind::NativeCommand, "x86_64-apple-darwin").is_empty());
        assert!(flags(BuiltKind::Command, "wasm32-wasip2").is_empty());
    }

    #[test]
    fn a_linker_without_a_static_c_library_is_known_by_its_words() {
        for said in [
            "/usr/bin/ld: cannot find -lc: No such file or directory\ncollect2: error",
            "rust-lld: error: unable to find library -lgcc_eh",
            "mold: fatal: library not found: m",
        ] {
            assert!(lacks_static_libc(said), "{said}");
        }
        for said in ["/usr/bin/ld: cannot find -lssl: No such file", "undefined reference to `main'", ""] {
            assert!(!lacks_static_libc(said), "{said}");
        }
    }
}
