//! One linked collector, and how it does.

use crate::domain::{CollectorId, Namespace};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A collector that calls can be handed to, for as long as one link lasts.
#[derive(Debug)]
pub struct Peer {
    /// Its id, as its certificate has it where there is one.
    pub id: CollectorId,
    /// `host:port` under which it was dialled.
    pub address: String,
    /// Where both work, in this side's order.
    pub namespaces: Vec<Namespace>,
    in_flight: AtomicUsize,
}

impl Peer {
    /// Of a link that came up.
    pub fn new(id: CollectorId, address: String, namespaces: Vec<Namespace>) -> Self {
        Self { id, address, namespaces, in_flight: AtomicUsize::new(0) }
    }

    /// Calls that were handed to it and are not over.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a call that is handed to it, until this is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

/// A call that a peer has.
#[derive(Debug)]
pub struct Busy(Arc<Peer>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
