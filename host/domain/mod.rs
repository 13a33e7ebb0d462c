//! The words that every module shares: names, digests, deadlines, limits, outcomes. No I/O, no async, no transport.
//!
//! Names are parsed here, once, at the edge; after that no raw `String` names a thing of ours.

mod account;
mod call;
mod digest;
mod endpoint;
mod image;
mod limits;
mod list;
mod names;
mod outcome;
mod page;
mod recency;
mod text;
mod time;

pub use account::{Account, Accounts, Both, Ceiling, Charge, Exceeded, KeptFiles, Scope, Unlimited};
pub use call::{Call, CodeSource, Deadline, LimitRequest, MetadataEntry};
pub use digest::{Digest, DigestError};
pub use endpoint::{is_endpoint, is_this_machine};
pub use image::{ImageError, ImageRef, is_repository};
pub use limits::{Limits, LimitsError};
pub use list::list;
pub use names::{
    CollectionName, CollectorId, DeploymentName, FileName, FolderName, MethodName, NameError, Namespace, RecordId,
    SecretName, ServiceName,
};
pub use outcome::{Fault, FaultCode, Outcome, Receipt, Start};
pub use page::{BadToken, PageTokens};
pub use recency::Recency;
pub use text::{cut, first_of, one_line, some_of};
pub use time::{micros, now, timestamp};

/// A future that a trait object hands out.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What an artifact is, decided once from its bytes. Source: design.md section 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A component that exports `collector:plugin/handler`.
    WasmHandler,
    /// A component that exports `wasi:cli/run`.
    WasmCommand,
    /// A static ELF executable of this machine's architecture.
    NativeElf,
    /// A container image, named by its digest.
    Image,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::WasmHandler, Self::WasmCommand, Self::NativeElf, Self::Image];

    /// The kind that people see under this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it speaks the command contract: a process per call. Source: design.md section 2.
    pub fn is_command(self) -> bool {
        match self {
            Self::WasmHandler => false,
            Self::WasmCommand | Self::NativeElf | Self::Image => true,
        }
    }

    /// The name that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::WasmHandler => "WasmHandler",
            Self::WasmCommand => "WasmCommand",
            Self::NativeElf => "NativeElf",
            Self::Image => "Image",
        }
    }
}
