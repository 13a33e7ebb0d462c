//! What came of a call.

use super::Digest;
use bytes::Bytes;
use std::time::Duration;

/// A call that a guest answered, well or with a fault of its own.
#[derive(Debug)]
pub struct Outcome {
    /// The reply message's bytes, or the guest's own refusal.
    pub reply: Result<Bytes, Fault>,
    /// What the call used.
    pub receipt: Receipt,
}

/// A guest's own refusal: what its caller gets as a gRPC status. Message and details are still the guest's raw words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Canonical code, never OK.
    pub code: FaultCode,
    /// For people.
    pub message: String,
    /// An encoded `google.rpc.Status`, or empty.
    pub details: Vec<u8>,
}

/// The canonical gRPC codes without OK, in wire order from 1. Source: grpc/doc/statuscodes.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are gRPC's own")]
pub enum FaultCode {
    Cancelled = 1,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl FaultCode {
    /// All codes in wire order.
    pub const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The number on the wire, 1 to 16.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The code with this number on the wire; `None` for 0 (OK) and for anything unknown.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }
}

/// What a call used: the `collector-*` trailers of every guest call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which executor ran it (`wasm`).
    pub executor: &'static str,
    /// What ran.
    pub digest: Digest,
    /// Which version of a deployment that was; `None` for code that came with the call.
    pub version: Option<u32>,
    /// Wasm fuel used, where the node meters it.
    pub fuel: Option<u64>,
    /// Largest sum of linear memory during the call, in bytes; of a process, its largest resident memory. `None`: not
    /// known, as of containers.
    pub peak_memory: Option<u64>,
    /// Time spent waiting for code and for a slot.
    pub queued: Duration,
    /// Time from the fresh instance to the answer.
    pub ran: Duration,
    /// Whether the code was ready.
    pub start: Start,
}

/// Whether a call found its code ready to run: compiled and in memory, or in a container that was kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Ready.
    Warm,
    /// Had to be compiled, or loaded from disk, or given a container.
    Cold,
}

impl Start {
    /// As the receipt spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_count_from_one_in_wire_order() {
        let numbers: Vec<i32> = FaultCode::ALL.into_iter().map(FaultCode::number).collect();
        assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
        assert_eq!(FaultCode::from_number(3), Some(FaultCode::InvalidArgument));
        assert_eq!(FaultCode::from_number(0), None);
        assert_eq!(FaultCode::from_number(17), None);
    }
}
