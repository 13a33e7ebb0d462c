//! Links that others have to this collector: stands in until the statements of forwarded calls are here.

use super::peers::PeerPolicy;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Keys of the links that others have open to this collector. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Inbound(Arc<Mutex<HashMap<[u8; 16], Arc<PeerPolicy>>>>);

/// An open link; dropped when it ends.
#[derive(Debug)]
pub struct InboundGuard {
    all: Inbound,
    id: [u8; 16],
}

impl Inbound {
    /// A link was opened: calls that are stamped with its key are taken while the guard lives.
    pub fn open(&self, link_id: [u8; 16], _key: [u8; 32], peer: Arc<PeerPolicy>) -> InboundGuard {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(link_id, peer);
        InboundGuard { all: self.clone(), id: link_id }
    }
}

impl Drop for InboundGuard {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
