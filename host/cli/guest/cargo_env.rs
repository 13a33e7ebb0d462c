//! The environment a nested cargo starts with: what an outer `cargo run` or `cargo test` set for itself taken away.
//!
//! `RUSTUP_TOOLCHAIN` stays: it names the toolchain the person chose.

use std::process::Command;

/// Names cargo sets, or reads as settings meant for another build than ours.
const LEAKS: [&str; 22] = [
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_LINKS",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_TMPDIR",
    "MAKEFLAGS",
    "MFLAGS",
    "OUT_DIR",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];
const LEAK_PREFIXES: [&str; 8] = [
    "CARGO_BIN_EXE_",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTDOC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_PKG_",
];

/// The machine's own cargo with its own rustc, free of an outer cargo's environment.
pub(super) fn cargo() -> Command {
    clean(Command::new("cargo"))
}

/// `command` without the variables of an outer cargo.
pub(super) fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(leaks) {
            command.env_remove(name);
        }
    }
    command
}

fn leaks(name: &str) -> bool {
    LEAKS.contains(&name) || LEAK_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_cargo_is_forgotten() {
        let gone = ["RUSTC", "RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_PKG_NAME", "CARGO_BUILD_TARGET_DIR", "RUSTDOC"];
        assert!(gone.iter().all(|name| leaks(name)), "{gone:?}");
    }

    #[test]
    fn what_the_person_chose_stays() {
        let kept = ["RUSTUP_TOOLCHAIN", "RUSTUP_DIST_SERVER", "CARGO_HOME", "CARGO_NET_OFFLINE", "PATH", "HTTPS_PROXY"];
        assert!(!kept.iter().any(|name| leaks(name)), "{kept:?}");
    }

    #[test]
    fn a_nested_cargo_does_not_see_the_cargo_that_runs_this_test() {
        let command = cargo();
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.iter().any(|name| *name == "CARGO_MANIFEST_DIR"), "{removed:?}");
    }
}
