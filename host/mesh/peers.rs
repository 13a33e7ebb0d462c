//! Who this node's peers are. M3's file stands here soon.

use crate::domain::CollectorId;
use crate::tenancy::Binding;

/// One peer, as the operator of this node wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPolicy {
    /// `host:port` that it advertises and is dialled at.
    pub address: String,
    /// The URI of its certificate. `None`: connections are not encrypted, and it is known by its address.
    pub identity: Option<String>,
    /// What it may do here on behalf of its callers.
    pub allows: Vec<Binding>,
    /// Its id, as its identity has it.
    pub name: Option<CollectorId>,
}
