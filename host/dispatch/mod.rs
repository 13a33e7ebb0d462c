//! From a call to the code that answers it.
//!
//! ```text
//! Call -> Permit (tenancy) -> artifact -> ValidCall (registry) -> Job -> Outcome (exec)
//! ```
//!
//! Not here yet: deployments, built-in services as targets, other nodes.

pub mod artifacts;
mod error;

pub use error::DispatchError;

use crate::domain::{Call, CodeSource, Limits, Outcome};
use crate::exec::{ExecError, ExecFailure, Executor, Job};
use crate::registry;
use crate::tenancy::{Caller, Tenancy, Verb};
use artifacts::{Artifacts, Stored};
use std::sync::Arc;

/// Answers calls.
pub struct Dispatcher {
    tenancy: Tenancy,
    artifacts: Artifacts,
    executor: Arc<dyn Executor>,
    limits: Limits,
}

/// A call that was answered.
#[derive(Debug)]
pub struct Served {
    /// The answer and its receipt.
    pub outcome: Outcome,
    /// Full protobuf name of the reply message, where it is known.
    pub output_type: Option<String>,
}

impl Dispatcher {
    /// * `limits`: the node's own; a call may lower them.
    pub fn new(tenancy: Tenancy, artifacts: Artifacts, executor: Arc<dyn Executor>, limits: Limits) -> Self {
        Self { tenancy, artifacts, executor, limits }
    }

    /// Runs one method here.
    ///
    /// * cancel: dropping the future stops the guest; an artifact that was being kept is whole or absent.
    pub async fn serve(&self, caller: Caller, mut call: Call) -> Result<Served, DispatchError> {
        let limits = self.limits.lowered(&call.limits);
        let deadline = call.deadline.at_most(limits.deadline());
        // Taken out of the call, so that the upload's buffer is gone before the guest runs.
        let source = std::mem::replace(&mut call.code, CodeSource::Deployed);
        let verb = match &source {
            CodeSource::Bytes(_) => Verb::Deploy,
            CodeSource::Artifact(_) | CodeSource::Deployed => Verb::Invoke,
        };
        let permit = self.tenancy.authorize(caller, &call.namespace, verb)?;
        if call.input.len() > limits.input_bytes {
            return Err(ExecFailure::from(input_too_large(&limits)).into());
        }
        let Stored { artifact, code } = match source {
            CodeSource::Bytes(bytes) => self.artifacts.admit(&permit, bytes).await?,
            CodeSource::Artifact(digest) => self.artifacts.find(&permit, &digest).await?,
            CodeSource::Deployed => return Err(DispatchError::NotDeployed),
        };
        let valid = registry::validate(&permit, call, artifact.schema.as_ref())?;
        let (service, output_type) = (valid.service().to_owned(), valid.output_type().map(str::to_owned));
        let call = valid.into_call();
        let job = Job {
            code,
            namespace: call.namespace,
            service,
            method: call.method.as_str().to_owned(),
            input: call.input,
            metadata: call.metadata,
            deadline,
            limits,
        };
        match self.executor.run(job).await {
            Ok(outcome) => Ok(Served { outcome, output_type }),
            Err(failure) => {
                if matches!(failure.error, ExecError::Missing) {
                    self.artifacts.forget(&permit, &artifact.digest).await; // so that the next upload is kept
                }
                Err(failure.into())
            }
        }
    }
}

fn input_too_large(limits: &Limits) -> ExecError {
    ExecError::Limit {
        reason: "INPUT_LIMIT",
        what: "the request is too large",
        key: "input_bytes",
        limit: limits.input_bytes as u64,
    }
}
