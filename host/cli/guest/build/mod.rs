//! Building plugin crates: `cargo metadata` tells what they are, cargo builds them, its messages tell where they went.
//!
//! One cargo run per package: packages built together would share features, and a plugin must come out the same
//! whichever others stand beside it. Dependencies are still compiled once, in the shared target folder.

mod messages;
mod metadata;
mod native;

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::rustc::RustcError;
use super::toolchain::{GuestToolchain, ToolchainError};
use super::ui::Ui;
use super::{TARGET, cargo_env, process};
use metadata::{Plan, Workspace};

/// What to build, and how.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Build the bin target for this machine, with its own rustc, in the `native` subfolder of the target folder. On Linux
    /// the binary is static, so that it runs where there is nothing beside it: with musl if that target is installed, else
    /// with the C library of this machine.
    pub native: bool,
    /// Where cargo works; `None` is cargo's own choice for the crate. Relative to the current folder.
    pub target_dir: Option<PathBuf>,
    /// Package names; empty is what cargo would build in the folder, helper crates left out.
    pub packages: Vec<String>,
    /// Keep cargo's progress and warnings to ourselves.
    pub quiet: bool,
}

/// One plugin, built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The package's name.
    pub package: String,
    /// The file, absolute.
    pub path: PathBuf,
    /// What the file is.
    pub kind: BuiltKind,
}

/// What a built file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltKind {
    /// A component that exports a handler, from a `cdylib` target.
    Handler,
    /// A component that exports a WASI command, from a bin target.
    Command,
    /// An executable of this machine, from a bin target: static on Linux.
    NativeCommand,
}

/// A plugin was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no compiler for plugins.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// The machine's own rustc does not work.
    #[error(transparent)]
    Rustc(#[from] RustcError),
    /// The folder of the crate, or of its artifacts, has no absolute path.
    #[error("cannot use the folder {}", path.display())]
    Folder {
        /// As it was given.
        path: PathBuf,
        #[source]
        /// Why not.
        source: io::Error,
    },
    /// Cargo is absent or not executable.
    #[error("cannot run `cargo`: install Rust and put `cargo` on PATH")]
    Start(#[source] io::Error),
    /// Cargo printed what is not its metadata.
    #[error("`cargo metadata` printed no valid JSON")]
    Metadata(#[source] serde_json::Error),
    /// The folder's workspace has no packages to build.
    #[error("no package to build here: name one with `-p`")]
    NoPackage,
    /// A package was named that is not in the workspace.
    #[error("no package `{0}` in this workspace")]
    UnknownPackage(String),
    /// A package has nothing a plugin can be made of.
    #[error("package `{package}` is no plugin: {}", missing(*native))]
    NoTarget {
        /// Its name.
        package: String,
        /// Whether an executable was asked for.
        native: bool,
    },
    /// A package has several bin targets and none stands out.
    #[error("package `{package}` has several binaries ({bins}): set `default-run` in its Cargo.toml")]
    ManyBins {
        /// Its name.
        package: String,
        /// The names of its bin targets.
        bins: String,
    },
    /// Cargo failed; the end of its stderr.
    #[error("`cargo {command}` failed ({status}):\n{tail}")]
    Cargo {
        /// Its subcommand, and the package if there is one.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// At most 30 lines.
        tail: String,
    },
    /// The C library is here without its static half.
    #[error("the linker cannot link `{package}` statically: {}", native::REMEDY)]
    NoStaticLibc {
        /// Its name.
        package: String,
    },
    /// Cargo succeeded, but named no file.
    #[error("cargo built `{0}` but named no artifact")]
    NoArtifact(String),
}

fn missing(native: bool) -> &'static str {
    if native {
        "add src/main.rs (a bin target) for an executable"
    } else {
        "add `[lib]` with `crate-type = [\"cdylib\"]` to its Cargo.toml for a handler, or src/main.rs for a command"
    }
}

/// Builds the plugin crate or crates in `dir` in release mode, one after the other.
/// * `dir`: a folder in a package, or a workspace's own.
/// * `toolchain`: `None` finds or fetches one if it is needed; a native build needs none.
/// * returns: one file per package, in the order of `options.packages`.
/// * errors: the first failure ends it; what was built before stays in the target folder.
pub fn build(
    dir: &Path,
    toolchain: Option<&GuestToolchain>,
    options: &BuildOptions,
    ui: &Ui,
) -> Result<Vec<Built>, BuildError> {
    let dir = dir.canonicalize().map_err(|source| BuildError::Folder { path: dir.to_owned(), source })?;
    let workspace = inspect(&dir)?;
    let plans = workspace.plans(&dir, options)?;
    let found;
    let toolchain = match toolchain {
        None if !options.native => {
            found = GuestToolchain::ensure(&dir, ui)?;
            Some(&found)
        }
        given => given.filter(|_| !options.native),
    };
    // Also named for this machine: the crate's cargo configuration may well say `wasm32-wasip2`.
    let target = if options.native { native::target(&dir)? } else { TARGET.to_owned() };
    let folder = folder_args(&workspace, options)?;
    let build_one = |plan: Plan| {
        let mut cargo = toolchain.map_or_else(cargo_env::cargo, GuestToolchain::cargo);
        cargo.args(plan_args(&plan)).args(["--target", &target]).args(&folder).current_dir(&dir);
        cargo.args(native::flags(plan.kind, &target));
        run(&mut cargo, plan, options, ui)
    };
    plans.into_iter().map(build_one).collect()
}

fn inspect(dir: &Path) -> Result<Workspace, BuildError> {
    let mut cargo = cargo_env::cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(dir).stdin(Stdio::null());
    let output = cargo.output().map_err(BuildError::Start)?;
    if !output.status.success() {
        let tail = process::last_lines(&String::from_utf8_lossy(&output.stderr));
        return Err(BuildError::Cargo { command: "metadata".to_owned(), status: output.status, tail });
    }
    Workspace::parse(&output.stdout)
}

/// What of a package to build.
fn plan_args(plan: &Plan) -> Vec<&str> {
    let mut args = match plan.kind {
        // Said here too, because a crate that is also an rlib would otherwise be built without link-time optimisation.
        BuiltKind::Handler => vec!["rustc", "--lib", "--crate-type", "cdylib"],
        BuiltKind::Command | BuiltKind::NativeCommand => vec!["rustc", "--bin", &plan.target],
    };
    args.extend(["--release", "--message-format=json-render-diagnostics", "-p", &plan.id]);
    args
}

/// Where to build; nothing where cargo's own choice is right.
fn folder_args(workspace: &Workspace, options: &BuildOptions) -> Result<Vec<String>, BuildError> {
    let chosen = options
        .target_dir
        .as_ref()
        .map(|path| std::path::absolute(path).map_err(|source| BuildError::Folder { path: path.clone(), source }));
    let folder = match (chosen.transpose()?, options.native) {
        // Two compilers in one folder would make each other's work stale.
        (chosen, true) => Some(chosen.as_deref().unwrap_or(workspace.target_dir()).join("native")),
        (chosen, false) => chosen,
    };
    let args = folder.map(|folder| vec!["--target-dir".to_owned(), folder.to_string_lossy().into_owned()]);
    Ok(args.unwrap_or_default())
}

fn run(cargo: &mut Command, plan: Plan, options: &BuildOptions, ui: &Ui) -> Result<Built, BuildError> {
    let shown = !options.quiet && !ui.is_quiet();
    // Cargo's own lines are the progress, where they are shown.
    let _step = (!shown).then(|| ui.step(&format!("Building {}", plan.package)));
    let coloured = shown && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if coloured && std::env::var_os("CARGO_TERM_COLOR").is_none() {
        cargo.env("CARGO_TERM_COLOR", "always"); // it sees our pipe, not the terminal behind it
    }
    let (status, path, tail) = follow(cargo, &plan, shown).map_err(BuildError::Start)?;
    if !status.success() && plan.kind == BuiltKind::NativeCommand && native::lacks_static_libc(&tail) {
        return Err(BuildError::NoStaticLibc { package: plan.package });
    }
    if !status.success() {
        return Err(BuildError::Cargo { command: format!("build -p {}", plan.package), status, tail });
    }
    let path = path.ok_or_else(|| BuildError::NoArtifact(plan.package.clone()))?;
    Ok(Built { package: plan.package, path, kind: plan.kind })
}

/// Runs cargo to its end, reading both of its outputs as they come.
fn follow(cargo: &mut Command, plan: &Plan, shown: bool) -> io::Result<(ExitStatus, Option<PathBuf>, String)> {
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (path, tail) = std::thread::scope(|scope| {
        let copy: Box<dyn Write + Send> = if shown { Box::new(io::stderr()) } else { Box::new(io::sink()) };
        let reader = scope.spawn(move || stderr.map(|pipe| process::drain(pipe, copy)).unwrap_or_default());
        let lines = stdout.into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok));
        let path = lines.filter_map(|line| messages::artifact(&line, plan)).last();
        (path, reader.join().unwrap_or_default())
    });
    Ok((child.wait()?, path, tail))
}

#[cfg(test)]
mod tests;
