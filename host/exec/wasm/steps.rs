//! Whose guest a step is of, and who pays for it.
//!
//! A guest that a guest has called is polled within its caller's step, and its caller is charged: both are of one
//! namespace.

use super::super::BoxFuture;
use super::lane::Lane;
use super::quick::Quick;
use crate::domain::{Account, Charge, Namespace};
use crate::exec::ExecError;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
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
    /// What this thread has written down as used on the threads of the network, in nanoseconds; only ever more.
    static WRITTEN: Cell<u64> = const { Cell::new(0) };
}

/// Does `work` on a thread of the network, and writes down for `who` what it took beside what was written down meanwhile.
/// On a thread of the lane, which does so itself, nothing is.
///
/// * `who`: asked when it is done; `None`: nobody's.
pub(super) fn metered<'a, T>(
    quick: &Quick,
    who: impl FnOnce() -> Option<&'a Namespace>,
    work: impl FnOnce() -> T,
) -> T {
    if Lane::is_here() {
        return work();
    }
    let (began, before) = (Instant::now(), WRITTEN.get());
    let done = work();
    if let Some(who) = who() {
        let theirs = Duration::from_nanos(WRITTEN.get().wrapping_sub(before));
        let took = began.elapsed().saturating_sub(theirs);
        quick.charge(who, took);
        WRITTEN.set(WRITTEN.get().wrapping_add(nanos(took)));
    }
    done
}

/// Whether this is asked inside of a guest's step.
pub(super) fn inside() -> bool {
    STEPPING.get()
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
    quick: Option<Arc<Quick>>,
}

impl<T> Stepped<T> {
    /// * `quick`: where its time is written down too, as long as it runs on the threads of the network.
    pub(super) fn new(guest: BoxFuture<'static, Result<T, ExecError>>, owner: Owner, quick: Arc<Quick>) -> Self {
        Self { guest, owner, quick: Some(quick) }
    }

    /// The same guest on threads of its own kind.
    pub(super) fn apart(self) -> Self {
        Self { quick: None, ..self }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }
}

impl<T> Future for Stepped<T> {
    type Output = Result<T, ExecError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(_step) = Step::begin() else {
            return this.guest.as_mut().poll(cx);
        };
        if let Some(over) = this.owner.account.far_over(Charge::Cpu) {
            return Poll::Ready(Err(over.into()));
        }
        let began = Instant::now();
        let polled = match &this.quick {
            Some(quick) => metered(quick, || Some(&this.owner.namespace), || this.guest.as_mut().poll(cx)),
            None => this.guest.as_mut().poll(cx),
        };
        this.owner.account.charge_time(Charge::Cpu, began.elapsed());
        polled
    }
}

/// In whole nanoseconds.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Unlimited;

    fn stepped(guest: BoxFuture<'static, Result<u32, ExecError>>) -> Stepped<u32> {
        let owner = Owner { namespace: "acme".parse().unwrap(), account: Arc::new(Unlimited) };
        Stepped::new(guest, owner, Arc::new(Quick::new(1)))
    }

    #[tokio::test]
    async fn guests_that_call_guests_are_one_step_together() {
        let inner = stepped(Box::pin(async {
            assert!(inside());
            tokio::task::yield_now().await;
            Ok(7)
        }));
        // A chain of three: the one in the middle must not end its caller's step.
        let outer = stepped(Box::pin(async move {
            let answer = stepped(Box::pin(inner)).await;
            assert!(inside());
            answer
        }));
        assert_eq!(outer.await.unwrap(), 7);
        assert!(!inside(), "no step is left behind");
    }
}
