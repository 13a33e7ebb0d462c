//! What can be wrong with a plugin's `.proto` files, and how a build script says so.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// Why nothing was generated.
pub enum Error {
    /// Outside of a build script nobody says where to write.
    NoOutDir,
    /// Not proto, or not right: `file:line:column: what`.
    Proto(String),
    /// This folder could not be written to.
    Write(PathBuf, io::Error),
}

impl Error {
    /// protox names files relative to the folder that imports start from; people look for them from the package's folder.
    pub(crate) fn from_protox(error: &protox::Error, includes: &[PathBuf]) -> Self {
        let message = format!("{error:?}");
        let file = error.file().unwrap_or_default();
        let found = includes.iter().map(|include| include.join(file)).find(|path| path.is_file());
        let Some(path) = found else { return Self::Proto(message) };
        let path = path.display();
        match message.strip_prefix(file) {
            Some(rest) if rest.starts_with(':') => Self::Proto(format!("{path}{rest}")),
            _ => Self::Proto(format!("{path}: {message}")),
        }
    }

    pub(crate) fn no_such_file(path: &Path) -> Self {
        Self::Proto(format!("{}: no such file", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOutDir => {
                f.write_str("OUT_DIR is not set: call this from a build script, or name a folder with Builder::out_dir")
            }
            Self::Proto(message) => f.write_str(message),
            Self::Write(folder, error) => write!(f, "cannot write to {}: {error}", folder.display()),
        }
    }
}

/// `unwrap` in a build script shows this: the same words, not a struct.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Write(_, error) => Some(error),
            Self::NoOutDir | Self::Proto(_) => None,
        }
    }
}

/// Ends the build script. cargo shows `cargo::error` lines as errors of the package and fails the build for them, so the
/// script itself ends without a failure of its own, which would bury them under its whole output.
pub(crate) fn stop_the_build(error: &Error) -> ! {
    for line in error.to_string().lines() {
        println!("cargo::error={line}");
    }
    std::process::exit(0)
}
