//! What one call may use. Every limit has a number, a reason, and a test with a guest that goes over it.

use super::LimitRequest;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The ceilings of one guest call: the node's own, and, lowered by the caller, those of a single call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Wall-clock milliseconds from the arrival of the request to its answer; a client's `grpc-timeout` lowers it.
    /// 60 s: what a person waits at most; longer work belongs in a stream or a job.
    pub deadline_ms: u64,
    /// The same for calls in which a side streams replies: 10 minutes, then the client opens another.
    pub stream_ms: u64,
    /// How long a guest of a streaming call may wait for its caller, in either direction. 60 s: a caller that is silent for
    /// longer opens another stream, and does not hold a place for nothing.
    pub stream_idle_ms: u64,
    /// Linear memory of the call in MiB. 64: decodes a 12 megapixel image; 256 calls at once still fit 16 GiB.
    /// At most 128, the size of a pool slot.
    pub memory_mib: u64,
    /// Elements of one table. 20,000: a Rust component has a few hundred; a slot of the pool has this many.
    pub table_elements: usize,
    /// Bytes of the request message. 4 MiB: gRPC's default; calls that wait hold their requests in memory.
    pub input_bytes: usize,
    /// Bytes of the reply message. 4 MiB: what a stock gRPC client accepts by default.
    pub output_bytes: usize,
    /// Bytes of log lines, stdout and stderr of one call; what is over is dropped and counted. 64 KiB: a long stack
    /// trace fits, a flood does not reach the disk.
    pub log_bytes: usize,
    /// Bytes that one host call may hand from guest to host (wasmtime's host-call fuel). 8 MiB: twice the reply.
    pub host_call_bytes: usize,
    /// Live resources (streams, pollables, clocks) that a call may hold. 1,000: a handler needs a dozen.
    pub resources: usize,
    /// Random bytes that one request for randomness may ask for. 64 KiB: a key takes 32.
    pub random_bytes: u64,
    /// Instructions, roughly, that a call may run (wasmtime fuel). 0 = no ceiling besides the deadline.
    pub fuel: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 60_000,
            stream_ms: 600_000,
            stream_idle_ms: 60_000,
            memory_mib: 64,
            table_elements: 20_000,
            input_bytes: 4 << 20,
            output_bytes: 4 << 20,
            log_bytes: 64 << 10,
            host_call_bytes: 8 << 20,
            resources: 1_000,
            random_bytes: 64 << 10,
            fuel: 0,
        }
    }
}

/// A combination of limits that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Zero where something has to be possible, or above what the engine was built for.
    #[error("limits.{key} must be between {min} and {max}, not {value}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What was configured.
        value: u64,
        /// Least allowed.
        min: u64,
        /// Most allowed.
        max: u64,
    },
    /// A reply travels through one host call, so it cannot be larger than what one may carry.
    #[error("limits.output_bytes ({output}) must be at most limits.host_call_bytes ({host_call})")]
    OutputOverHostCall {
        /// limits.output_bytes
        output: usize,
        /// limits.host_call_bytes
        host_call: usize,
    },
}

impl Limits {
    /// Size of a pool slot's memory in MiB: the ceiling of `memory_mib`. Source: threats.md B7.
    pub const SLOT_MEMORY_MIB: u64 = 128;
    /// Table elements of a pool slot. Source: threats.md B7.
    pub const SLOT_TABLE_ELEMENTS: usize = 20_000;

    /// Refuses limits that the engine could not keep.
    pub fn check(&self) -> Result<(), LimitsError> {
        let ranges = [
            ("deadline_ms", self.deadline_ms, 1, 24 * 3_600_000),
            ("stream_ms", self.stream_ms, 1, 24 * 3_600_000),
            ("stream_idle_ms", self.stream_idle_ms, 1, 24 * 3_600_000),
            ("memory_mib", self.memory_mib, 1, Self::SLOT_MEMORY_MIB),
            ("table_elements", self.table_elements as u64, 1, Self::SLOT_TABLE_ELEMENTS as u64),
            ("input_bytes", self.input_bytes as u64, 0, 32 << 20),
            ("output_bytes", self.output_bytes as u64, 1, 8 << 20),
            ("log_bytes", self.log_bytes as u64, 0, 16 << 20),
            ("host_call_bytes", self.host_call_bytes as u64, 1, 128 << 20),
            ("resources", self.resources as u64, 8, 1_000_000),
            ("random_bytes", self.random_bytes, 16, 64 << 20),
        ];
        for (key, value, min, max) in ranges {
            if value < min || value > max {
                return Err(LimitsError::OutOfRange { key, value, min, max });
            }
        }
        if self.output_bytes > self.host_call_bytes {
            return Err(LimitsError::OutputOverHostCall { output: self.output_bytes, host_call: self.host_call_bytes });
        }
        Ok(())
    }

    /// These limits, lowered where the caller asked for less. Asking for more changes nothing.
    pub fn lowered(&self, ask: &LimitRequest) -> Self {
        let fuel = match (self.fuel, ask.fuel) {
            (own, None) => own,
            (0, Some(asked)) => asked,
            (own, Some(asked)) => own.min(asked),
        };
        Self {
            deadline_ms: self.deadline_ms.min(ask.timeout_ms.unwrap_or(u64::MAX)),
            memory_mib: self.memory_mib.min(ask.memory_mib.unwrap_or(u64::MAX)),
            fuel,
            ..self.clone()
        }
    }

    /// `memory_mib` in bytes.
    pub fn memory_bytes(&self) -> usize {
        usize::try_from(self.memory_mib << 20).unwrap_or(usize::MAX)
    }

    /// `stream_ms` as a duration.
    pub fn stream(&self) -> Duration {
        Duration::from_millis(self.stream_ms)
    }

    /// `deadline_ms` as a duration.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_lower_limits_and_never_raise_them() {
        let node = Limits { fuel: 1_000, ..Limits::default() };
        let ask = LimitRequest { timeout_ms: Some(10), memory_mib: Some(1 << 40), fuel: Some(2_000) };
        let got = node.lowered(&ask);
        assert_eq!((got.deadline_ms, got.memory_mib, got.fuel), (10, node.memory_mib, 1_000));
        assert_eq!(Limits::default().lowered(&ask).fuel, 2_000);
        assert_eq!(node.lowered(&LimitRequest::default()), node);
    }

    #[test]
    fn limits_at_below_and_above_their_ranges() {
        assert_eq!(Limits::default().check(), Ok(()));
        for good in [1, 128] {
            assert_eq!(Limits { memory_mib: good, ..Limits::default() }.check(), Ok(()));
        }
        for bad in [0, 129] {
            let refused = Limits { memory_mib: bad, ..Limits::default() }.check();
            assert!(matches!(refused, Err(LimitsError::OutOfRange { key: "memory_mib", .. })), "{refused:?}");
        }
        let refused = Limits { output_bytes: 2, host_call_bytes: 1, ..Limits::default() }.check();
        assert_eq!(refused, Err(LimitsError::OutputOverHostCall { output: 2, host_call: 1 }));
    }
}
