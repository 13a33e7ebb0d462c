//! Why a call got no answer from code.

use super::artifacts::ArtifactError;
use crate::domain::{Fault, Receipt};
use crate::exec::ExecFailure;
use crate::registry::{CallError, OutputError};
use crate::tenancy::Refused;

/// Why a call got no answer from code.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The caller may not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The code is not there or not usable.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The call fits no method.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing is deployed for the service that `Serve` names.
    #[error("no service is deployed under this name in this namespace; send service_binary or service_uri")]
    NotDeployed,
    /// The service is registered and no code answers for it.
    #[error("{0} is registered, but nothing that answers it is deployed in this namespace")]
    NoImplementation(String),
    /// The node is going down.
    #[error("the node is shutting down")]
    Draining,
    /// The code ran, or was to run, and gave no answer.
    #[error(transparent)]
    Exec(#[from] ExecFailure),
    /// The code gave an answer that is not of its method's type.
    #[error("{error}")]
    Output {
        /// What is wrong with it.
        error: OutputError,
        /// What the call used, where it has ended.
        receipt: Option<Box<Receipt>>,
    },
    /// A method with one reply answered with none, or with several.
    #[error("the plugin sent {how} replies where the method has one")]
    Replies {
        /// In a word.
        how: &'static str,
        /// What the call used, where it has ended.
        receipt: Option<Box<Receipt>>,
    },
    /// The stream of requests broke off, as its transport tells it.
    #[error("the stream of requests broke off: {}", .0.message)]
    Requests(Fault),
    /// The caller reads no more.
    #[error("the caller is gone")]
    Gone,
}
