//! Settings.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[exec.memexec]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The program that is started anew as the launcher. Empty: this node's own file, as it should be. For programs that
    /// have the node as a library, and for tests: their own file is another.
    pub launcher: PathBuf,
    /// Calls that run at once, a process each. 64: at 64 MiB each that is 4 GiB at the very worst.
    pub slots: usize,
    /// Calls that may wait for a slot; more are RESOURCE_EXHAUSTED at once. 256: four rounds of slots.
    pub queue: usize,
    /// MiB of binaries kept ready in memory, sealed; the least recently used go first. 256: eight of the largest.
    pub binaries_mib: u64,
    /// Namespaces that have a jail ready; the least recently used go first. 64: each costs two small processes' memory.
    pub jails: usize,
    /// First of the user ids that jails run as where the node is root, one per namespace at a time. 2,000,000,000: above
    /// all that systems give to people, services and their containers.
    pub uid_base: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { launcher: PathBuf::new(), slots: 64, queue: 256, binaries_mib: 256, jails: 64, uid_base: 2_000_000_000 }
    }
}
