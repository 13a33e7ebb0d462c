//! Compiling plugins: a compiler for `wasm32-wasip2` on any machine, and cargo run on plugin crates with it.
//!
//! Most machines have rustup and need one component more. A machine that cannot reach rustup's server, but reaches a
//! Debian mirror, gets the same from Debian's own packages, kept in the user's cache folder; nothing is installed
//! system-wide and nothing outside that folder changes.
//!
//! Left out: reading what was built (the node checks components on upload) and publishing it.
//! Everything here blocks; async callers hand it to a blocking thread.

mod build;
mod cargo_env;
mod debian;
mod process;
mod rustc;
mod toolchain;
mod ui;

pub use build::{BuildError, BuildOptions, Built, BuiltKind, build};
pub use debian::DebianError;
pub use rustc::RustcError;
pub use toolchain::{GuestToolchain, RustupError, ToolchainError};
pub use ui::{Measured, Step, Ui};

/// The target every plugin is compiled for: WASI 0.2 components.
const TARGET: &str = "wasm32-wasip2";
