//! The compiler for a machine without rustup's server: Rust as Debian 13 packages it, unpacked into a cache folder.
//!
//! Debian ships the prebuilt standard library of `wasm32-wasip2`, but its rustc needs a newer C library than older
//! releases have. So rustc runs on the unpacked loader and libraries, through a small script. The linker is the one that
//! the machine's own Rust brings along.
//!
//! Invariant: once the marker file exists, the folder is complete and never changes. Whoever fetches holds the lock file,
//! and may be killed at any time; the next one goes on from what is there.

mod apt;
mod sources;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::rustc::{self, RustcError};
use super::ui::Ui;
use apt::{Apt, Deb};

/// Where the machine's own package sources are written.
const APT_CONFIG: &str = "/etc/apt";
const RUST: &str = "1.85";
/// What the folder's inside looks like; a change of layout or package list is a new number.
const LAYOUT: u32 = 1;
/// The compiler, the libraries of host and target, and all they link.
const PACKAGES: [&str; 19] = [
    "rustc",
    "libstd-rust-1.85",
    "libstd-rust-dev",
    "libstd-rust-dev-wasm32",
    "libllvm19",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libffi8",
    "libxml2",
    "libz3-4",
    "libzstd1",
    "zlib1g",
    "libtinfo6",
    "liblzma5",
    "libicu76",
];
/// Finds its files next to itself. `--sysroot` because rustc sees the loader where it looks for its own path.
const WRAPPER: &str = r#"#!/bin/sh
# Runs Debian's rustc on the C library it was built for. Made by collector; goes with its folder.
here=${0%/*}
prefix=$here/prefix
lib=$prefix/usr/lib/x86_64-linux-gnu
exec "$lib/ld-linux-x86-64.so.2" --argv0 "$prefix/usr/bin/rustc" \
    --library-path "$lib:$lib/llvm-19/lib:$prefix/usr/lib" \
    "$prefix/usr/bin/rustc" --sysroot "$prefix/usr" "$@"
"#;

/// Debian's compiler could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// Debian's prebuilt compiler is fetched for one kind of machine only.
    #[error("Debian's compiler runs on x86-64 Linux only, this is {} {}", std::env::consts::ARCH, std::env::consts::OS)]
    Machine,
    /// There is no place to keep it.
    #[error("no cache folder: set COLLECTOR_GUEST_CACHE or HOME")]
    NoCache,
    /// The machine's apt sources name no archive with a Debian suite.
    #[error("the apt sources of this machine name no Debian mirror")]
    NoMirror,
    /// Without Debian's keys nothing fetched could be verified.
    #[error("Debian's archive keys are absent: install the package debian-archive-keyring")]
    NoKeyring,
    /// A program is absent or not executable.
    #[error("cannot run `{tool}`")]
    Start {
        /// What was to run.
        tool: Tool,
        #[source]
        /// Why it did not start.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("`{tool}` failed ({status}): {tail}")]
    Failed {
        /// What ran.
        tool: Tool,
        /// How it ended.
        status: ExitStatus,
        /// The end of its stderr.
        tail: String,
    },
    /// apt knows fewer of the packages than asked for; wanted and found.
    #[error("wanted {0} packages of Debian {suite}, apt found {1}", suite = apt::SUITE)]
    Incomplete(usize, usize),
    /// The cache folder could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        #[source]
        /// Why not.
        source: io::Error,
    },
    /// It was unpacked, but does not run here.
    #[error("Debian's rustc, unpacked in {}, does not run on this machine", path.display())]
    NotWorking {
        /// The folder, safe to delete.
        path: PathBuf,
        #[source]
        /// What it said.
        source: RustcError,
    },
}

/// The programs used to get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Fetches and verifies.
    AptGet,
    /// Unpacks.
    DpkgDeb,
    /// Verifies what an earlier attempt left.
    Sha256sum,
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AptGet => "apt-get",
            Self::DpkgDeb => "dpkg-deb",
            Self::Sha256sum => "sha256sum",
        })
    }
}

/// Debian's compiler in its folder, there or not yet.
pub(super) struct Debian {
    folder: PathBuf,
}

impl Debian {
    /// * `cache`: the folder of all that collector keeps between runs.
    pub(super) fn in_cache(cache: &Path) -> Self {
        let key = format!("debian-{}-rust-{RUST}-{LAYOUT}", apt::SUITE);
        Self { folder: cache.join("guest-toolchain").join(key) }
    }

    /// Whether it is there, complete.
    pub(super) fn is_ready(&self) -> bool {
        self.marker().exists()
    }

    /// What to run as `rustc`.
    pub(super) fn rustc(&self) -> PathBuf {
        self.folder.join("rustc")
    }

    /// Has it in the folder: 205 MB fetched, 800 MB kept. Waits while another process does the same.
    pub(super) fn fetch(&self, ui: &Ui) -> Result<(), DebianError> {
        if self.is_ready() {
            return Ok(());
        }
        if (std::env::consts::ARCH, std::env::consts::OS) != ("x86_64", "linux") {
            return Err(DebianError::Machine);
        }
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        let lock = self.lock(ui)?;
        if self.is_ready() {
            return Ok(());
        }
        if !self.prefix().exists() {
            self.fill_prefix(&lock, ui)?;
        }
        self.finish()
    }

    fn lock(&self, ui: &Ui) -> Result<File, DebianError> {
        let path = self.folder.join("lock");
        let lock =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(at(&path))?;
        if lock.try_lock().is_err() {
            let _step = ui.step("Waiting for another process that fetches the Rust compiler");
            lock.lock().map_err(at(&path))?;
        }
        Ok(lock)
    }

    fn fill_prefix(&self, lock: &File, ui: &Ui) -> Result<(), DebianError> {
        let apt = Apt::new(self.folder.join("apt"), lock)?;
        update(&apt, ui)?;
        let debs = apt.locate(&PACKAGES)?;
        apt.download(&PACKAGES, &debs, &self.debs(), ui)?;
        self.unpack(&apt, &debs, ui)
    }

    fn unpack(&self, apt: &Apt<'_>, debs: &[Deb], ui: &Ui) -> Result<(), DebianError> {
        let partial = self.folder.join("prefix.partial");
        remove(&partial)?;
        fs::create_dir(&partial).map_err(at(&partial))?;
        let bar = ui.bytes("Unpacking", apt::total(debs));
        let mut done = 0;
        for deb in debs {
            apt.unpack(&self.debs().join(&deb.file), &partial)?;
            done += deb.size;
            bar.set(done);
        }
        fs::rename(&partial, self.prefix()).map_err(at(&partial))
    }

    fn finish(&self) -> Result<(), DebianError> {
        let partial = self.folder.join("rustc.partial");
        fs::write(&partial, WRAPPER).map_err(at(&partial))?;
        fs::set_permissions(&partial, Permissions::from_mode(0o755)).map_err(at(&partial))?;
        fs::rename(&partial, self.rustc()).map_err(at(&partial))?;
        let version = rustc::ask(&self.rustc(), &self.folder, &["--version"])
            .map_err(|source| DebianError::NotWorking { path: self.folder.clone(), source })?;
        remove(&self.debs())?;
        remove(&self.folder.join("apt"))?;
        fs::write(self.marker(), format!("{version}\n")).map_err(at(&self.folder))
    }

    fn prefix(&self) -> PathBuf {
        self.folder.join("prefix")
    }

    fn debs(&self) -> PathBuf {
        self.folder.join("debs")
    }

    fn marker(&self) -> PathBuf {
        self.folder.join("done")
    }
}

/// Takes the first mirror that proves to be Debian's and has the release.
fn update(apt: &Apt<'_>, ui: &Ui) -> Result<(), DebianError> {
    let mut outcome = Err(DebianError::NoMirror);
    for mirror in sources::debian_mirrors(Path::new(APT_CONFIG)) {
        let _step = ui.step(&format!("Reading the package index of {mirror}"));
        outcome = apt.update(&mirror);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn remove(folder: &Path) -> Result<(), DebianError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(at(folder)(source)),
        _ => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DebianError {
    let path = path.to_owned();
    move |source| DebianError::Io { path, source }
}
