//! Running guests: one contract, whoever runs them.
//!
//! An [`Executor`] gets a [`Job`] that has been authorised, validated and routed, and gives back an [`Outcome`] with its
//! receipt, or an [`ExecFailure`]. Executors know nothing of gRPC, tenants or where code comes from.

mod choice;
mod claim;
mod command;
pub mod compile;
mod config;
pub mod container;
mod error;
pub mod host_calls;
mod load;
mod log;
pub mod memexec;
mod priority;
mod sandbox;
mod stop;
pub mod wasm;

pub use choice::{Availability, Executors, Fact, Fallback, Report, survey};
pub use config::{Allowance, BadSetting, Config, Native};
pub use priority::raise;

pub use crate::domain::BoxFuture;
use crate::domain::{Account, Deadline, Digest, ImageRef, Kind, Limits, MetadataEntry, Namespace, Outcome};
use bytes::Bytes;
pub use error::{Cause, ExecError, ExecFailure};
pub use host_calls::HostCalls;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Code to run, by identity.
#[derive(Debug, Clone)]
pub struct Code {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// What the bytes are.
    pub kind: Kind,
    /// Where the code itself is.
    pub origin: Origin,
}

impl Code {
    /// A container image; its digest is its manifest's.
    pub fn image(image: ImageRef) -> Self {
        Self { digest: image.digest(), kind: Kind::Image, origin: Origin::Image(image) }
    }
}

/// Where code is. Not the bytes themselves: calls and compilations that wait must not hold uploads in memory.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The file that holds the bytes: read, and checked against the digest, only when they have to be compiled or loaded.
    File(PathBuf),
    /// An image that the container engine has, or gets from its registry.
    Image(ImageRef),
}

/// One call, ready to run.
#[derive(Debug)]
pub struct Job {
    /// What runs.
    pub code: Code,
    /// For whom.
    pub namespace: Namespace,
    /// Who pays for it beside the namespace: whoever calls.
    pub caller: Option<Arc<dyn Account>>,
    /// Full name of the service where it is known, else as the caller gave it.
    pub service: String,
    /// Simple name of the method.
    pub method: String,
    /// The encoded request message.
    pub input: Bytes,
    /// The same as canonical JSON, for commands (`GRPC_INPUT_DATA`); `None` where the type is not known, or above 64 KiB.
    pub json: Option<String>,
    /// Request metadata that the guest may see.
    pub metadata: Vec<MetadataEntry>,
    /// When to stop.
    pub deadline: Deadline,
    /// What it may use.
    pub limits: Limits,
    /// Answers what it asks of the node; `None`: it may ask for nothing but `context` and `log`.
    pub calls: Option<Arc<dyn HostCalls>>,
}

/// The two message streams of a streaming call. Both channels are bounded: whoever is slower slows the other.
#[derive(Debug)]
pub struct Streams {
    /// Encoded request messages. Closed: the client has sent all it had. Each message is within `limits.input_bytes`,
    /// which whoever fills this has checked.
    pub inbound: mpsc::Receiver<Bytes>,
    /// Encoded reply messages, each within `limits.output_bytes`. The other end dropped: nobody reads any more, and the
    /// guest is told so when it sends.
    pub outbound: mpsc::Sender<Bytes>,
}

/// Something that runs guests.
pub trait Executor: Send + Sync {
    /// Whether code of this kind may run for this namespace, here and now. Asked before anything of it is kept.
    ///
    /// * errors: `NativeOff`, `Unavailable`, `ImageNotAllowed`: which setting, or what of this machine, stands against it.
    fn accepts(&self, namespace: &Namespace, kind: Kind) -> Result<(), ExecError>;

    /// Makes code ready to run, so that the first call does not wait for the compiler. Nothing of it runs.
    ///
    /// * `caller`: who pays for it beside the namespace.
    /// * errors: why it will never run here.
    /// * cancel: safe; the work goes on for whoever calls next.
    fn prepare<'a>(
        &'a self,
        namespace: &'a Namespace,
        caller: Option<&'a Arc<dyn Account>>,
        code: &'a Code,
    ) -> BoxFuture<'a, Result<(), ExecError>>;

    /// Runs one call. Dropping the future stops the guest: wasm ends at its next yield, at most one tick later.
    fn run(&self, job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>>;

    /// Runs one streaming call, whichever direction streams. `Outcome::reply` is the guest's last word, after all that
    /// it sent: no bytes if it ended well, or its fault.
    ///
    /// * `job`: its `input` is empty and not read.
    /// * errors: as of [`Executor::run`], at any time, also after messages went out; `NoStreaming`.
    /// * cancel: as of [`Executor::run`]. A guest that waits for a message or a reader holds no thread and ends at once.
    fn stream(&self, job: Job, streams: Streams) -> BoxFuture<'_, Result<Outcome, ExecFailure>>;
}
