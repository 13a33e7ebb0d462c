//! Memory of guests: per call, of a namespace's calls together, and of all calls together.

use super::invoke::Meter;
use crate::domain::{Account, Exceeded, Limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::ResourceLimiter;

/// Linear memory of all running calls.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    total: u64,
    used: AtomicU64,
}

impl MemoryBudget {
    pub(super) fn new(total: u64) -> Self {
        Self { total, used: AtomicU64::new(0) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.total)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Which ceiling stopped a growth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// `limits.memory_mib`
    Call,
    /// `wasm.total_memory_mib`
    Node,
    /// The namespace's quota.
    Namespace(Exceeded),
    /// `limits.table_elements`
    Table,
}

/// The limiter of one store.
pub(super) struct Limiter {
    memory_max: usize,
    table_max: usize,
    held: u64,
    node: Arc<MemoryBudget>,
    account: Arc<dyn Account>,
    meter: Arc<Meter>,
    refused: Option<Refused>,
}

impl Limiter {
    pub(super) fn new(limits: &Limits, node: Arc<MemoryBudget>, account: Arc<dyn Account>, meter: Arc<Meter>) -> Self {
        Self {
            memory_max: limits.memory_bytes(),
            table_max: limits.table_elements,
            held: 0,
            node,
            account,
            meter,
            refused: None,
        }
    }

    /// The ceiling that stopped a growth of the guest, if one did: giving up after it is the limit's doing.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    /// There is one memory, so what it is to have is what the call is to hold.
    fn memory_growing(&mut self, _current: usize, desired: usize, most: Option<usize>) -> wasmtime::Result<bool> {
        if most.is_some_and(|most| desired > most) {
            return Ok(false); // the component's own maximum, no limit of ours; nothing is booked
        }
        if desired > self.memory_max {
            self.refused = Some(Refused::Call);
            return Ok(false);
        }
        let after = desired as u64;
        let more = after.saturating_sub(self.held);
        if let Err(over) = self.account.take_memory(more) {
            self.refused = Some(Refused::Namespace(over));
            return Ok(false);
        }
        if !self.node.take(more) {
            self.account.give_memory(more);
            self.refused = Some(Refused::Node);
            return Ok(false);
        }
        self.held = self.held.max(after);
        self.meter.saw_memory(self.held);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _most: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_max {
            self.refused = Some(Refused::Table);
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        super::engine::CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        super::engine::TABLES as usize
    }

    fn memories(&self) -> usize {
        1
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.node.give_back(self.held);
        self.account.give_memory(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Unlimited;

    #[test]
    fn memory_at_below_and_above_both_ceilings() {
        let node = Arc::new(MemoryBudget::new(3 << 20));
        let limits = Limits { memory_mib: 2, ..Limits::default() };
        let meter = Arc::new(Meter::default());
        let mut one = Limiter::new(&limits, Arc::clone(&node), Arc::new(Unlimited), Arc::clone(&meter));
        assert!(one.memory_growing(0, 2 << 20, None).unwrap());
        assert!(!one.memory_growing(2 << 20, (2 << 20) + 1, None).unwrap());
        assert_eq!((one.refused(), meter.peak_memory()), (Some(Refused::Call), 2 << 20));

        let mut two = Limiter::new(&limits, Arc::clone(&node), Arc::new(Unlimited), meter);
        assert!(!two.memory_growing(0, (1 << 20) + 1, None).unwrap());
        assert_eq!(two.refused(), Some(Refused::Node));
        assert!(two.memory_growing(0, 1 << 20, None).unwrap());
        assert_eq!(node.used(), 3 << 20);
        // An allocator that was refused a large block may still get a small one, to say that it is out of memory.
        assert_eq!(two.refused(), Some(Refused::Node), "a growth that worked does not forgive the one that did not");
        let mut three = Limiter::new(&limits, Arc::clone(&node), Arc::new(Unlimited), Arc::new(Meter::default()));
        assert!(!three.memory_growing(0, 2 << 20, Some(1 << 20)).unwrap());
        assert_eq!((three.refused(), node.used()), (None, 3 << 20), "over its own maximum: nothing is booked");
        drop((one, two, three));
        assert_eq!(node.used(), 0);
    }
}
