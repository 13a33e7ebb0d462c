//! Running guests: one contract, whoever runs them.
//!
//! An [`Executor`] gets a [`Job`] that has been authorised, validated and routed, and gives back an [`Outcome`] with its
//! receipt, or an [`ExecFailure`]. Executors know nothing of gRPC, tenants or where code comes from.

mod error;
mod log;
pub mod wasm;

use crate::domain::{Deadline, Digest, Kind, Limits, MetadataEntry, Namespace, Outcome};
use bytes::Bytes;
pub use error::{Cause, ExecError, ExecFailure};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// A future that an executor hands out.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Code to run, by identity.
#[derive(Debug, Clone)]
pub struct Code {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// What the bytes are.
    pub kind: Kind,
    /// The file that holds the bytes: read, and checked against the digest, only when they have to be compiled. Not the
    /// bytes themselves: calls and compilations that wait must not hold uploads in memory.
    pub file: PathBuf,
}

/// One call, ready to run.
#[derive(Debug)]
pub struct Job {
    /// What runs.
    pub code: Code,
    /// For whom.
    pub namespace: Namespace,
    /// Full name of the service where it is known, else as the caller gave it.
    pub service: String,
    /// Simple name of the method.
    pub method: String,
    /// The encoded request message.
    pub input: Bytes,
    /// Request metadata that the guest may see.
    pub metadata: Vec<MetadataEntry>,
    /// When to stop.
    pub deadline: Deadline,
    /// What it may use.
    pub limits: Limits,
}

/// Something that runs guests.
pub trait Executor: Send + Sync {
    /// Runs one call. Dropping the future stops the guest: wasm ends at its next yield, at most one tick later.
    fn run(&self, job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>>;
}
