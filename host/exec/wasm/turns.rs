//! A turn on a thread for every step of a guest, in a fair order.
//!
//! A runtime polls what is ready first in, first out: a namespace with a hundred guests would get a hundred turns for
//! another's one. Here a guest takes a slot of a fair queue for each poll, of as many as there are cores, and its
//! namespace is charged for the time. Where nobody waits that costs two short locks.

use super::super::BoxFuture;
use super::super::slots::{Asked, Slots, Waiting};
use crate::domain::{Account, Charge, Namespace};
use crate::exec::ExecError;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// Whose guest it is.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) namespace: Namespace,
    pub(super) account: Arc<dyn Account>,
}

/// A guest that runs a step at a time.
pub(super) struct Stepped<T> {
    guest: BoxFuture<'static, Result<T, ExecError>>,
    owner: Owner,
    turns: Slots,
    waiting: Option<Waiting>,
}

impl<T> Stepped<T> {
    pub(super) fn new(guest: BoxFuture<'static, Result<T, ExecError>>, owner: Owner, turns: Slots) -> Self {
        Self { guest, owner, turns, waiting: None }
    }

    /// The same guest on other threads.
    pub(super) fn on(self, turns: Slots) -> Self {
        Self { turns, waiting: None, ..self }
    }
}

thread_local! {
    /// Whether this thread polls a guest that has a turn. A guest that another one calls is polled inside of it, as part
    /// of its turn: if it asked for one of its own, a chain of calls as long as there are turns would wait for itself.
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
}

/// Sets the mark while it lives, also while a panic passes.
struct Mark;

impl Mark {
    fn set() -> Self {
        IN_TURN.set(true);
        Self
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        IN_TURN.set(false);
    }
}

impl<T> Future for Stepped<T> {
    type Output = Result<T, ExecError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if IN_TURN.get() {
            return this.guest.as_mut().poll(cx);
        }
        let turn = match &mut this.waiting {
            Some(waiting) => ready!(Pin::new(waiting).poll(cx)),
            None => match this.turns.ask(&this.owner.namespace, this.owner.account.weight()) {
                Ok(Asked::Now(turn)) => Ok(turn),
                Ok(Asked::Later(waiting)) => {
                    ready!(Pin::new(this.waiting.insert(waiting)).poll(cx))
                }
                Err(busy) => Err(busy),
            },
        };
        this.waiting = None;
        let turn = match turn {
            Ok(turn) => turn,
            Err(busy) => return Poll::Ready(Err(busy)),
        };
        if let Some(over) = this.owner.account.far_over(Charge::Cpu) {
            return Poll::Ready(Err(over.into()));
        }
        let began = Instant::now();
        let polled = {
            let _mark = Mark::set();
            this.guest.as_mut().poll(cx)
        };
        this.owner.account.charge(Charge::Cpu, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        drop(turn);
        polled
    }
}
