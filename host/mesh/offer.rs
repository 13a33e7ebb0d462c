//! What a collector says that it serves.

use crate::domain::{CollectorId, DeploymentName, Digest, Namespace};
use std::sync::Arc;

/// One service in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub what: Served,
    /// Number of the version that is active there.
    pub version: u32,
    /// Its code; none for an image.
    pub digest: Option<Digest>,
    /// What the deployment that answers is called there, where it said so.
    pub deployment: Option<DeploymentName>,
    /// Its methods, by name.
    pub methods: Vec<OfferedMethod>,
    /// Collectors behind the peer on the way to the one that has it, nearest first. Empty: the peer itself has it.
    pub through: Vec<CollectorId>,
}

impl Offer {
    /// One of its methods.
    pub fn method(&self, name: &str) -> Option<&OfferedMethod> {
        self.methods.iter().find(|method| *method.name == *name)
    }
}

/// Names a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Served {
    /// Where.
    pub namespace: Namespace,
    /// Full name.
    pub service: Arc<str>,
}

/// A method, and which of the four kinds it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedMethod {
    /// Simple name.
    pub name: Arc<str>,
    /// Whether the client streams.
    pub client_streaming: bool,
    /// Whether the server does.
    pub server_streaming: bool,
}

/// What is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It serves this now, instead of what it served under the same name.
    Put(Offer),
    /// It serves this no more.
    Remove(Served),
}
