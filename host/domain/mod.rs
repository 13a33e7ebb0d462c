//! The words that every module shares: names, digests, deadlines, limits, outcomes. No I/O, no async, no transport.
//!
//! Names are parsed here, once, at the edge; after that no raw `String` names a thing of ours.

mod call;
mod digest;
mod limits;
mod names;
mod outcome;
mod recency;
mod text;

pub use call::{Call, CodeSource, Deadline, LimitRequest, MetadataEntry};
pub use digest::{Digest, DigestError};
pub use limits::{Limits, LimitsError};
pub use names::{CollectionName, DeploymentName, MethodName, NameError, Namespace, RecordId, ServiceName};
pub use outcome::{Fault, FaultCode, Outcome, Receipt, Start};
pub use recency::Recency;
pub use text::{cut, first_of, one_line, some_of};

/// A future that a trait object hands out.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an artifact is, decided once from its bytes. Source: design.md section 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A component that exports `collector:plugin/handler`.
    WasmHandler,
    /// A component that exports `wasi:cli/run`.
    WasmCommand,
}

impl Kind {
    /// The name that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::WasmHandler => "WasmHandler",
            Self::WasmCommand => "WasmCommand",
        }
    }
}
