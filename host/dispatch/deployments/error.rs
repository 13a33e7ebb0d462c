//! Why a deployment was refused.

use crate::dispatch::artifacts::ArtifactError;
use crate::domain::some_of;
use crate::exec::ExecError;
use crate::registry::RegistryError;
use crate::tenancy::{BadGrant, Refused};

/// Why a deployment was refused. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The caller may not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The bytes are nothing that runs here, or are not there.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The types do not fit.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It does not compile, or wants what is not linked.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The component wants what its deployment is not granted, or what no node gives.
    #[error("the component imports what is not granted to it: {}", some_of(.0))]
    Imports(Vec<String>),
    /// Grants that are none, too many, or not there.
    #[error(transparent)]
    Grant(#[from] BadGrant),
    /// Nobody says what it answers.
    #[error("the component carries no descriptors: name the registered services that it answers")]
    NoServices,
    /// A component that says what it answers was told something else.
    #[error("the component carries descriptors, so it says itself what it answers: leave services out")]
    ServicesGiven,
    /// A service that was named and is not registered.
    #[error("the service {0} is not registered: register it first, the component carries no descriptors")]
    NotRegistered(String),
    /// A service of the node itself.
    #[error("{0} is one of the node's own services")]
    BuiltIn(String),
    /// A service that another deployment answers.
    #[error("{service} is answered by the deployment {owner} already: undeploy that, or deploy under its name")]
    Served {
        /// The service.
        service: String,
        /// Who answers it.
        owner: String,
    },
    /// No name was given and the service's is too long for one.
    #[error("the service's name is no deployment name, give one: {0}")]
    Name(#[from] crate::domain::NameError),
    /// More than the namespace may have.
    #[error("the namespace has {0} deployments, more are not allowed (deployments.count)")]
    TooMany(usize),
    /// More than the namespace may keep.
    #[error("the deployments' artifacts would take more than {0} MiB (deployments.mib): undeploy old versions")]
    TooLarge(u64),
    /// No such deployment.
    #[error("no deployment of this name in this namespace")]
    NotFound,
    /// No such version.
    #[error("the deployment has no version {wanted}; it has {}", some_of(.known))]
    NoVersion {
        /// As asked for.
        wanted: u32,
        /// What there is.
        known: Vec<String>,
    },
    /// The version answers calls.
    #[error("version {0} is the active one: activate another first, or undeploy the whole")]
    IsActive(u32),
    /// Ours.
    #[error("the node failed to deploy")]
    Internal(#[source] anyhow::Error),
}
