//! Settings.

use serde::{Deserialize, Serialize};

/// The `[audit]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Keeps the log. On: who changed what is asked when it is too late to switch it on.
    pub on: bool,
    /// When what was written is made durable. `second`: what a power failure may take is a second's records.
    pub sync: Sync,
    /// MiB of one file; then the next one begins. 64: what an editor still opens.
    pub file_mib: u64,
    /// Files that are kept; the oldest goes first, which is a record too. 64: 4 GiB, some six million changes. 0: all of
    /// them, for operators who move them away themselves.
    pub files: usize,
}

/// When records are made durable. They survive the end of the process at once, whichever this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Each before what it is for: as slow as the disk.
    Always,
    /// Once a second.
    Second,
    /// When the system does it by itself.
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Self { on: true, sync: Sync::Second, file_mib: 64, files: 64 }
    }
}
