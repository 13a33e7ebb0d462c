//! Why a registration was refused.

use super::vet::VetError;
use crate::domain::some_of;
use crate::store::StoreError;

/// Why a registration was refused. Nothing of it is kept then.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A descriptor that is broken or over a ceiling.
    #[error(transparent)]
    Vet(#[from] VetError),
    /// A file that poses as one of the node's own.
    #[error("{0} is the node's own file and differs from it; leave it out, it is there already")]
    Reserved(String),
    /// An import that is not there.
    #[error("{file} imports {import}, which is neither registered here, nor sent along, nor a google/protobuf/ file")]
    MissingImport {
        /// Who imports.
        file: String,
        /// What.
        import: String,
    },
    /// Files that do not fit together.
    #[error("the descriptors are not valid: {0}")]
    Invalid(String),
    /// A method whose input or output is not known.
    #[error("method {method} of {service} needs the type {wanted}, which is not registered")]
    UnresolvedType {
        /// The service.
        service: String,
        /// Its method.
        method: String,
        /// The type.
        wanted: String,
    },
    /// A service descriptor that says something else than the file it came with.
    #[error("service_descriptor differs from the service {0} that file_descriptor declares")]
    ServiceDiffers(String),
    /// A name that another file defines.
    #[error("{symbol} is already defined in {file}")]
    Taken {
        /// Full name.
        symbol: String,
        /// Where it is defined.
        file: String,
    },
    /// A new revision that would break what is in use.
    #[error("breaking changes: {}", some_of(.0))]
    Breaking(Vec<String>),
    /// A service name that several files declare.
    #[error("service {service} is declared in several files, send file_descriptor: {}", some_of(.files))]
    AmbiguousFile {
        /// Simple name.
        service: String,
        /// Their names.
        files: Vec<String>,
    },
    /// More than the namespace may hold, or than one change may touch.
    #[error("{what}: at most {most} are allowed")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// The ceiling.
        most: usize,
    },
    /// Too much waits to be registered.
    #[error("the node is busy with other registrations, try again later")]
    Busy,
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Ours.
    #[error("the registry failed")]
    Internal(#[source] anyhow::Error),
}
