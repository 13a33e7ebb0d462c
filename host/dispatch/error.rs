//! Why a call got no answer from code.

use super::artifacts::ArtifactError;
use crate::exec::ExecFailure;
use crate::registry::CallError;
use crate::tenancy::Denied;

/// Why a call got no answer from code.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The code is not there or not usable.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The call fits no method.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing is deployed for the service.
    #[error("no service is deployed under this name in this namespace; send service_binary or service_uri")]
    NotDeployed,
    /// The code ran, or was to run, and gave no answer.
    #[error(transparent)]
    Exec(#[from] ExecFailure),
}
