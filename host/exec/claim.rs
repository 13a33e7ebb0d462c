//! What a native call has of its namespace's share: its turn, its memory, its time.
//!
//! A component asks before each growth, and is stopped between two steps. Nobody is asked before a process takes more.
//! So all the memory that it may use is booked before it begins, and given back when nothing of it is left; and what it
//! computed is charged by whoever sees its end, so that it is not free for a caller who has left.

use super::ExecError;
use crate::domain::{Account, Accounts, Both, Charge, Namespace};
use crate::fair::{Slot, Slots};
use std::sync::Arc;
use std::time::Duration;

/// Who pays for a call, and for how much memory.
#[derive(Debug)]
pub(super) struct Payer {
    account: Arc<dyn Account>,
    namespace: Namespace,
    memory_bytes: u64,
}

/// A slot that is a call's, and its memory. Whoever holds it last gives both back.
#[derive(Debug)]
pub(super) struct Claim {
    account: Arc<dyn Account>,
    memory_bytes: u64,
    _slot: Slot,
}

impl Payer {
    /// * `caller`: who pays beside the namespace.
    /// * `memory_bytes`: all that the call may use.
    /// * errors: `Quota` if the time of one of them is used up.
    pub(super) fn new(
        accounts: &dyn Accounts,
        namespace: &Namespace,
        caller: Option<&Arc<dyn Account>>,
        memory_bytes: u64,
    ) -> Result<Self, ExecError> {
        let account = Both::of(accounts.of(namespace), caller);
        let payer = Self { account, namespace: namespace.clone(), memory_bytes };
        payer.may_begin().map(|()| payer)
    }

    /// Waits for a slot, as long as the namespace's weight has it wait, then books the memory.
    ///
    /// * errors: `Busy`; `Quota` if so much memory is not left, or if those before it have used up the time.
    /// * cancel: safe; nothing is booked.
    pub(super) async fn claim(&self, slots: &Slots) -> Result<Arc<Claim>, ExecError> {
        let slot = slots.take(&self.namespace, self.account.weight()).await?;
        self.may_begin()?;
        self.account.take_memory(self.memory_bytes)?;
        Ok(Arc::new(Claim { account: Arc::clone(&self.account), memory_bytes: self.memory_bytes, _slot: slot }))
    }

    fn may_begin(&self) -> Result<(), ExecError> {
        self.account.over(Charge::Cpu).map_or(Ok(()), |over| Err(over.into()))
    }
}

impl Claim {
    /// Charges the time that the call computed.
    pub(super) fn charge(&self, took: Duration) {
        self.account.charge_time(Charge::Cpu, took);
    }
}

impl Drop for Claim {
    /// Before the slot: who gets that asks for memory next.
    fn drop(&mut self) {
        self.account.give_memory(self.memory_bytes);
    }
}
