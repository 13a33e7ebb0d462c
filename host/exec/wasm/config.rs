//! Sizes of the Wasm engine.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[wasm]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls that run at once, each with an instance of its own. 256: at 64 MiB each that is 16 GiB of address space in
    /// use at the very worst, and far more calls than cores.
    pub slots: usize,
    /// Streaming calls that run at once; more are RESOURCE_EXHAUSTED at once. 128: half of the slots, since a stream may
    /// hold its slot for minutes while it waits, and unary calls must go on.
    pub streams: usize,
    /// Calls that may wait for a slot; more are RESOURCE_EXHAUSTED at once. 1,024: four rounds of slots.
    pub queue: usize,
    /// Calls that guests make (`dispatch.call`) that run at once, on each of the 8 levels; the places are beside `slots`,
    /// so that a call never waits for a place that its own caller holds. 8: calls wait for `queue` more.
    pub nested: usize,
    /// MiB of linear memory of all running calls together. 4096: a sixth of the machine that this was sized on.
    pub total_memory_mib: u64,
    /// Components compiled at once, of different namespaces. 2: one tenant's slow component leaves room for another's.
    pub compilers: usize,
    /// Components that may wait to be compiled; calls of more are RESOURCE_EXHAUSTED at once. 256.
    pub compile_queue: usize,
    /// The same of one namespace. 64: a tenant that deploys all it has at once; it waits for itself only.
    pub compile_queue_own: usize,
    /// Compiles in a process of its own that can do nothing else and is bounded. Off: in the node's process, unbounded,
    /// where a component that brings the compiler down brings the node down; for machines whose tenants are trusted.
    pub compile_in_child: bool,
    /// The program that is started anew as the compiler. Empty: this node's own file, as it should be. For programs that
    /// have the node as a library, and for tests: their own file is another.
    pub compiler: PathBuf,
    /// Seconds of a processor that compiling one component may take. 30: a component of 10 MiB takes ten.
    pub compile_seconds: u64,
    /// MiB of memory that compiling one component may take. 1024: a component of 10 MiB takes a third of it.
    pub compile_memory_mib: u64,
    /// MiB of compiled components kept ready, mapped code and what stands beside it; more are loaded again from disk in
    /// well under a millisecond. 256: about 800 components of 80 KB.
    pub programs_mib: u64,
    /// MiB of compiled code kept on disk; what was not loaded for longest goes first. 2048: about 8,000 components of 80 KB.
    pub disk_mib: u64,
    /// Counts instructions (the `collector-fuel` trailer, `limits.fuel`). On: usage that cannot be read cannot be billed.
    pub metering: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slots: 256,
            streams: 128,
            queue: 1_024,
            nested: 8,
            total_memory_mib: 4_096,
            compilers: 2,
            compile_queue: 256,
            compile_queue_own: 64,
            compile_in_child: true,
            compiler: PathBuf::new(),
            compile_seconds: 30,
            compile_memory_mib: 1_024,
            programs_mib: 256,
            disk_mib: 2_048,
            metering: true,
        }
    }
}
