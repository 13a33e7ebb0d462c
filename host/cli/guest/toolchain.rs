//! Finding, or making, a way to compile for `wasm32-wasip2` on this machine.
//!
//! In order: what the machine's rustc has; what an earlier run fetched; rustup; Debian's packages. An attempt that may
//! hang is bounded, and the person never has to know which one it was.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::debian::{Debian, DebianError};
use super::rustc::{self, RustcError};
use super::ui::Ui;
use super::{TARGET, cargo_env, process};

/// rustup's own retries take minutes where its server is out of reach.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(250);

/// No way to compile for `wasm32-wasip2`.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// The machine's own Rust does not work; a plugin needs it either way, for cargo and the linker.
    #[error(transparent)]
    Rustc(#[from] RustcError),
    /// Neither rustup nor Debian had the target.
    #[error("no compiler for wasm32-wasip2 ({rustup}); run `rustup target add wasm32-wasip2` and try again")]
    NoTarget {
        /// Why rustup did not add it.
        rustup: RustupError,
        #[source]
        /// Why Debian's compiler could not be had.
        debian: DebianError,
    },
    /// The machine's Rust comes without the linker of components, as some distributions ship it.
    #[error("{} is absent: install Rust with rustup, which brings it", .0.display())]
    NoLinker(PathBuf),
    /// A folder's name cannot be part of PATH.
    #[error("cannot extend PATH")]
    Path(#[from] std::env::JoinPathsError),
}

/// Why `rustup target add` did not help.
#[derive(Debug, thiserror::Error)]
pub enum RustupError {
    /// There is no rustup, or it cannot be started.
    #[error("rustup is not there")]
    Absent(#[source] std::io::Error),
    /// It ran too long and was stopped.
    #[error("rustup did not answer within {} s", RUSTUP_PATIENCE.as_secs())]
    Silent,
    /// It ended without the target in place; the end of its stderr.
    #[error("rustup: {0}")]
    Failed(String),
}

/// A way to compile for `wasm32-wasip2` on this machine.
#[derive(Debug, Clone)]
pub struct GuestToolchain {
    source: Source,
    /// What cargo needs set, beside what it needs unset.
    env: Vec<(&'static str, OsString)>,
}

#[derive(Debug, Clone)]
enum Source {
    Rustup { version: String },
    Debian { rustc: PathBuf },
}

impl GuestToolchain {
    /// Finds a compiler, or makes one: the target of the active rustc, else `rustup target add` (at most a minute), else
    /// Debian's packages in the cache folder (`COLLECTOR_GUEST_CACHE`, else `XDG_CACHE_HOME/collector`, else
    /// `HOME/.cache/collector`; 205 MB fetched once). Blocks; safe to run twice at once.
    /// * `dir`: where the plugin is; it may name a Rust toolchain of its own.
    /// * errors: `NoTarget` names the next step.
    pub fn ensure(dir: &Path, ui: &Ui) -> Result<Self, ToolchainError> {
        if rustc::has_target(dir, TARGET)? {
            return Self::rustup(dir);
        }
        let debian = cache_folder(|name| std::env::var_os(name)).map(|cache| Debian::in_cache(&cache));
        if let Some(debian) = debian.as_ref().filter(|debian| debian.is_ready()) {
            return Self::debian(debian, dir);
        }
        let Err(rustup) = add_target(dir, ui) else {
            return Self::rustup(dir);
        };
        linker(dir)?; // before anything large is fetched
        ui.note(&format!("Without {TARGET} from rustup ({rustup}); taking Debian's compiler"));
        match debian.ok_or(DebianError::NoCache).and_then(|debian| debian.fetch(ui).map(|()| debian)) {
            Ok(debian) => Self::debian(&debian, dir),
            Err(debian) => Err(ToolchainError::NoTarget { rustup, debian }),
        }
    }

    /// A `cargo` that compiles for `wasm32-wasip2` when told `--target wasm32-wasip2`, for build scripts and macros too.
    /// An outer cargo's settings do not reach it.
    #[must_use]
    pub fn cargo(&self) -> Command {
        let mut command = cargo_env::cargo();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// One line for people: which compiler, and where it is from.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.source {
            Source::Rustup { version } => format!("{version}, with {TARGET} of its own"),
            Source::Debian { rustc } => format!("rustc 1.85 of Debian 13, at {}", rustc.display()),
        }
    }

    fn rustup(dir: &Path) -> Result<Self, ToolchainError> {
        Ok(Self { source: Source::Rustup { version: rustc::version(dir)? }, env: Vec::new() })
    }

    fn debian(debian: &Debian, dir: &Path) -> Result<Self, ToolchainError> {
        let linker = linker(dir)?;
        // The linker runs `wasm-ld`, which lies in that folder.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(linker.with_file_name("gcc-ld")).chain(std::env::split_paths(&path)))?;
        let env = vec![
            ("RUSTC", debian.rustc().into_os_string()),
            ("CARGO_TARGET_WASM32_WASIP2_LINKER", linker.into_os_string()),
            ("PATH", path),
        ];
        Ok(Self { source: Source::Debian { rustc: debian.rustc() }, env })
    }
}

/// The linker of components that the machine's own Rust brings.
fn linker(dir: &Path) -> Result<PathBuf, ToolchainError> {
    let linker = rustc::tools(dir)?.join("wasm-component-ld");
    if linker.exists() { Ok(linker) } else { Err(ToolchainError::NoLinker(linker)) }
}

/// Runs `rustup target add`. Its environment is the caller's, so `RUSTUP_*` settings hold.
fn add_target(dir: &Path, ui: &Ui) -> Result<(), RustupError> {
    let _step = ui.step(&format!("Adding {TARGET} with rustup"));
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]).current_dir(dir).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    let mut ticks = RUSTUP_PATIENCE.as_millis() / TICK.as_millis();
    let patience = || {
        ticks = ticks.saturating_sub(1);
        ticks > 0
    };
    let ended =
        process::watch(&mut command, TICK, patience).map_err(RustupError::Absent)?.ok_or(RustupError::Silent)?;
    match rustc::has_target(dir, TARGET) {
        Ok(true) if ended.status.success() => Ok(()),
        _ => Err(RustupError::Failed(complaint(&ended.tail).to_owned())),
    }
}

/// The line of rustup's stderr that says what went wrong.
fn complaint(said: &str) -> &str {
    let error = said.lines().rev().find_map(|line| line.strip_prefix("error: "));
    error.or(said.lines().last()).unwrap_or("it failed without a word")
}

/// The folder of all that collector keeps between runs. Relative paths are passed over, as a default must not depend on
/// the current folder; only `COLLECTOR_GUEST_CACHE` may be one.
fn cache_folder(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(chosen) = set("COLLECTOR_GUEST_CACHE") {
        return std::path::absolute(chosen).ok();
    }
    let cache = set("XDG_CACHE_HOME").filter(|cache| cache.is_absolute());
    let home = || set("HOME").filter(|home| home.is_absolute()).map(|home| home.join(".cache"));
    cache.or_else(home).map(|cache| cache.join("collector"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(set: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    }

    #[test]
    fn the_cache_folder_is_the_first_one_named() {
        let folder = |set: &'static [(&str, &str)]| cache_folder(vars(set));
        let all = &[("COLLECTOR_GUEST_CACHE", "/mine"), ("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/me")];
        assert_eq!(folder(all), Some("/mine".into()));
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/me")]), Some("/xdg/collector".into()));
        assert_eq!(
            folder(&[("XDG_CACHE_HOME", "rel"), ("HOME", "/home/me")]),
            Some("/home/me/.cache/collector".into())
        );
        assert_eq!(
            folder(&[("COLLECTOR_GUEST_CACHE", ""), ("HOME", "/home/me")]),
            Some("/home/me/.cache/collector".into())
        );
        assert_eq!(folder(&[]), None);
    }
    #[test]
    fn rustups_complaint_is_its_error_line() {
        assert_eq!(complaint("info: trying\nerror: no net\nmore"), "no net");
        assert_eq!(complaint("thread panicked"), "thread panicked");
        assert!(!complaint("").is_empty());
    }

    /// A crate that does nothing, built by `toolchain` as a person would build it.
    fn builds_a_component(toolchain: &GuestToolchain) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/main.rs"), "fn main() {}\n").unwrap();
        let manifest = "[package]\nname = \"tiny\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
        std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        let mut cargo = toolchain.cargo();
        let output = cargo.args(["build", "--offline", "--target", TARGET]).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let built = std::fs::read(dir.path().join("target").join(TARGET).join("debug/tiny.wasm")).unwrap();
        assert_eq!(&built[..8], b"\0asm\x0d\0\x01\0");
    }

    #[test]
    fn this_machine_compiles_components() {
        let toolchain = GuestToolchain::ensure(Path::new("."), &Ui::new(true)).unwrap();
        assert!(toolchain.describe().contains("rustc"));
        builds_a_component(&toolchain);
    }

    #[test]
    #[ignore = "fetches 205 MB from the Debian mirror of this machine, unless an earlier run did"]
    fn debians_compiler_compiles_components() {
        let cache = cache_folder(|name| std::env::var_os(name)).unwrap();
        let debian = Debian::in_cache(&cache);
        debian.fetch(&Ui::new(false)).unwrap();
        let toolchain = GuestToolchain::debian(&debian, Path::new(".")).unwrap();
        assert!(toolchain.describe().contains("Debian"));
        builds_a_component(&toolchain);
    }
}
