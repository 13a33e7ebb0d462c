//! A call on its way in.

use super::{Digest, ImageRef, MethodName, Namespace, ServiceName};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// One method call as its caller stated it, names parsed, nothing else checked.
#[derive(Debug)]
pub struct Call {
    /// Where the call was made.
    pub namespace: Namespace,
    /// Full or short name of the service.
    pub service: ServiceName,
    /// The method.
    pub method: MethodName,
    /// `Any.type_url` of the input as sent, perhaps empty; `None` if there was no input, which stands for the method's
    /// empty message.
    pub input_type_url: Option<String>,
    /// The encoded request message.
    pub input: Bytes,
    /// What is to answer.
    pub code: CodeSource,
    /// Limits that the caller wants lower than the node's.
    pub limits: LimitRequest,
    /// Request metadata that the guest may see.
    pub metadata: Vec<MetadataEntry>,
    /// When the caller stops waiting.
    pub deadline: Deadline,
}

/// What answers a call.
#[derive(Debug)]
pub enum CodeSource {
    /// These bytes, sent with the call.
    Bytes(Bytes),
    /// An artifact that was uploaded to the namespace before.
    Artifact(Digest),
    /// A container image, from the engine or its registry. Never an artifact of the node.
    Image(ImageRef),
    /// Whatever is deployed for the service.
    Deployed,
}

/// Limits as a caller asks for them (`execution_context` of Serve). `None` = the node's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitRequest {
    /// Milliseconds.
    pub timeout_ms: Option<u64>,
    /// MiB of linear memory.
    pub memory_mib: Option<u64>,
    /// Units of wasmtime fuel.
    pub fuel: Option<u64>,
}

/// One pair of request metadata; the value is ASCII, or raw bytes under a key that ends in `-bin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataEntry {
    /// Lower-case key.
    pub key: String,
    /// Value, decoded from base64 under `-bin` keys.
    pub value: Vec<u8>,
}

/// A point in monotonic time after which nobody waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `span` from now. A span that the clock cannot hold (centuries) means a day from now.
    pub fn after(span: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(span).unwrap_or_else(|| now + Duration::from_secs(86_400)))
    }

    /// The earlier of this and `span` from now.
    #[must_use]
    pub fn at_most(self, span: Duration) -> Self {
        self.min(Self::after(span))
    }

    /// The instant, for timers.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Time left, zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}
