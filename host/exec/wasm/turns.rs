//! A turn on a thread for every step of a guest, in a fair order.
//!
//! A runtime polls what is ready first in, first out: a namespace with a hundred guests would get a hundred turns for
//! another's one. Here a guest takes a slot of a fair queue for each poll, of as many as there are cores, and its
//! namespace is charged for the time. Where nobody waits that costs two short locks.
//!
//! A guest that a guest has called is polled within its caller's step, and uses its caller's turn. With one of its own
//! it could be handed the last turn while its caller, who alone can poll it, waits for one: nobody would run again.

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

thread_local! {
    /// Whether this thread is inside of a guest's step.
    static STEPPING: Cell<bool> = const { Cell::new(false) };
}

/// A step of a guest on this thread, over on drop.
struct Step;

impl Step {
    /// `None` inside of another.
    fn begin() -> Option<Self> {
        // Not `then_some`: one that is made and thrown away would end the step that is on.
        STEPPING.with(|stepping| !stepping.replace(true)).then(|| Self)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        STEPPING.with(|stepping| stepping.set(false));
    }
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

impl<T> Future for Stepped<T> {
    type Output = Result<T, ExecError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(_step) = Step::begin() else {
            // Its caller has the turn and is charged: both are of one namespace.
            return this.guest.as_mut().poll(cx);
        };
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
        let polled = this.guest.as_mut().poll(cx);
        this.owner.account.charge(Charge::Cpu, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        drop(turn);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Unlimited;
    use futures_util::FutureExt as _;
    use std::time::Duration;

    fn stepped(turns: &Slots, guest: BoxFuture<'static, Result<u32, ExecError>>) -> Stepped<u32> {
        let owner = Owner { namespace: "acme".parse().unwrap(), account: Arc::new(Unlimited) };
        Stepped::new(guest, owner, turns.clone())
    }

    #[tokio::test]
    async fn guests_that_call_guests_need_one_turn_together() {
        let turns = Slots::with_reserve(1, 10, 0);
        let inner = stepped(
            &turns,
            Box::pin(async {
                tokio::task::yield_now().await;
                Ok(7)
            }),
        );
        // A chain of three: the one in the middle must not end its caller's step.
        let outer = stepped(&turns, Box::pin(stepped(&turns, Box::pin(inner))));
        let answer = tokio::time::timeout(Duration::from_secs(5), outer).await.expect("nobody waits for himself");
        assert_eq!(answer.unwrap(), 7);
        assert_eq!(turns.running(), 0);
        assert!(Step::begin().is_some(), "no step is left behind");
    }

    #[tokio::test]
    async fn a_turn_that_came_is_given_on_where_the_guest_is_dropped() {
        let turns = Slots::with_reserve(1, 10, 0);
        let held = turns.take(&"acme".parse().unwrap(), 1).await.unwrap();
        let mut waiting = Box::pin(stepped(&turns, Box::pin(async { Ok(1) })));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held); // the turn is its, and it is not polled again
        assert_eq!(turns.running(), 1);
        drop(waiting);
        assert_eq!(turns.running(), 0);
    }
}
