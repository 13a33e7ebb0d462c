//! Questions to the machine's own `rustc`: its version, its host, where it keeps a target's library.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{cargo_env, process};

/// The machine's own `rustc` could not answer.
#[derive(Debug, thiserror::Error)]
pub enum RustcError {
    /// It is not on `PATH`, or not executable.
    #[error("cannot run `rustc`: install Rust and put `rustc` and `cargo` on PATH")]
    Start(#[source] io::Error),
    /// It ran and refused; rustup's stand-in does so when the chosen toolchain is absent.
    #[error("`rustc {question}` failed: {tail}")]
    Refused {
        /// The arguments it was given.
        question: String,
        /// The end of its stderr.
        tail: String,
    },
}

/// The version line, such as `rustc 1.95.0 (59807616e 2026-04-14)`. Here and below, `dir` is the folder that `rustc` is
/// asked in: it may name a toolchain of its own.
pub(super) fn version(dir: &Path) -> Result<String, RustcError> {
    ask(Path::new("rustc"), dir, &["--version"])
}

/// The triple `rustc` compiles for unless told otherwise.
pub(super) fn host(dir: &Path) -> Result<String, RustcError> {
    let said = ask(Path::new("rustc"), dir, &["-vV"])?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| RustcError::Refused { question: "-vV".to_owned(), tail: said.clone() })
}

/// Whether the standard library of `target` is there.
pub(super) fn has_target(dir: &Path, target: &str) -> Result<bool, RustcError> {
    let folder = ask(Path::new("rustc"), dir, &["--print", "target-libdir", "--target", target])?;
    let Ok(files) = std::fs::read_dir(folder) else {
        return Ok(false);
    };
    Ok(files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

/// The folder of the linkers that come with `rustc`. It need not exist.
pub(super) fn tools(dir: &Path) -> Result<PathBuf, RustcError> {
    let library = PathBuf::from(ask(Path::new("rustc"), dir, &["--print", "target-libdir"])?);
    Ok(library.with_file_name("bin"))
}

/// Runs `rustc` in `dir` with `question` as its arguments.
/// * returns: what it printed, without the last line break.
pub(super) fn ask(rustc: &Path, dir: &Path, question: &[&str]) -> Result<String, RustcError> {
    let mut command = cargo_env::clean(Command::new(rustc));
    let output = command.args(question).current_dir(dir).stdin(Stdio::null()).output().map_err(RustcError::Start)?;
    if !output.status.success() {
        let tail = process::last_lines(&String::from_utf8_lossy(&output.stderr));
        return Err(RustcError::Refused { question: question.join(" "), tail });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_rustc_answers() {
        assert!(version(Path::new(".")).unwrap().starts_with("rustc "));
        assert!(host(Path::new(".")).unwrap().contains('-'));
        assert!(tools(Path::new(".")).unwrap().ends_with("bin"));
    }

    #[test]
    fn a_refusal_says_why() {
        let refused = ask(Path::new("rustc"), Path::new("."), &["--print", "nonsense"]).unwrap_err();
        assert!(refused.to_string().contains("nonsense"), "{refused}");
    }

    #[test]
    fn no_rustc_is_its_own_error() {
        let absent = ask(Path::new("no-such-rustc"), Path::new("."), &["-vV"]).unwrap_err();
        assert!(matches!(absent, RustcError::Start(_)));
    }
}
