//! Sizes of the Wasm engine.

use serde::{Deserialize, Serialize};

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
    /// Compilations at once. 2: one tenant's slow component leaves room for another's.
    pub compilers: usize,
    /// Components that may be compiled or wait for it; calls of more are RESOURCE_EXHAUSTED at once. 256.
    pub compile_queue: usize,
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
            programs_mib: 256,
            disk_mib: 2_048,
            metering: true,
        }
    }
}
