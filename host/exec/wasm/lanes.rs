//! Where guests run: short ones on the thread that took the call, long ones apart.
//!
//! A guest starts on the I/O runtime, which costs no hand-over. One that has used up its first tick there is moved, as
//! it stands, to threads of a lower priority; so are those of a namespace that has used up its allowance there while
//! others call ([`Quick`]). So a spinning guest keeps an I/O thread for two ticks at most, and a flood of short ones
//! waits in a line of its own: [`Lane`].

use super::super::{BoxFuture, ExecError};
use super::lane::Lane;
use super::quick::Quick;
use super::steps::{Owner, Stepped, inside, metered};
use crate::domain::{Account, Charge, Namespace};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// What a call costs the threads of the network beside its guest and what answers it, whose time is measured: HTTP/2 and
/// the system's calls. 30 us: measured.
const BESIDE: Duration = Duration::from_micros(30);

/// Drops what a guest leaves once the answer is on its way: its thread's next task, which costs no other thread a wake-up.
/// On a thread of the lane at once: there is nothing to hurry for, and the network's threads are not for that.
///
/// * `payer`: pays for it.
#[expect(clippy::disallowed_methods, reason = "it takes microseconds, and a node that stops drops it")]
pub(super) fn tidy(remains: impl Send + 'static, payer: Arc<dyn Account>) {
    if Lane::is_here() {
        return; // dropped
    }
    drop(tokio::spawn(async move {
        let began = Instant::now();
        drop(remains);
        payer.charge_time(Charge::Cpu, began.elapsed());
    }));
}

pub(super) struct Lanes {
    lane: Lane,
    quick: Arc<Quick>,
}

impl Lanes {
    pub(super) fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { lane: Lane::start(cores)?, quick: Arc::new(Quick::new(cores)) })
    }

    /// Whether work of `who` may begin on the threads of the network.
    pub(super) fn may_begin(&self, who: &Namespace) -> bool {
        self.quick.may(who)
    }

    /// Does `work` here, and charges `who` for it if this is a thread of the network.
    pub(super) fn metered<'a, T>(&self, who: impl FnOnce() -> Option<&'a Namespace>, work: impl FnOnce() -> T) -> T {
        metered(&self.quick, who, work)
    }

    /// Runs `work` apart, before guests of `who`.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static, who: Namespace, weight: u32) {
        self.lane.spawn(work, who, weight);
    }

    /// Runs `guest`, moving it once `yields` shows that it has used up a tick.
    ///
    /// * `slow`: it is known to take long, so it starts apart.
    /// * `owner`: who is charged for its time, and gets no more than its share.
    /// * errors: those of the guest; `Internal` if its task panicked; `Quota` if its namespace is far over its time.
    /// * cancel: drops the guest, at its next yield if it runs at this moment.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        guest: BoxFuture<'static, Result<T, ExecError>>,
        owner: Owner,
        yields: &AtomicU32,
        slow: bool,
    ) -> Result<T, ExecError> {
        // A guest's own call runs in its caller's step, wherever that is.
        let nested = inside();
        let apart = !nested && (slow || !self.quick.may(&owner.namespace));
        if !nested && !Lane::is_here() {
            self.quick.charge(&owner.namespace, BESIDE);
        }
        let mut guest = Stepped::new(guest, owner, Arc::clone(&self.quick));
        let mut began = false;
        let quick = poll_fn(|cx| {
            // What has waited asks again before it goes on: a stream is not let in once for all of its messages.
            let again = std::mem::replace(&mut began, true);
            if apart || again && !nested && !Lane::is_here() && !self.quick.may(&guest.owner().namespace) {
                return Poll::Ready(None);
            }
            match Pin::new(&mut guest).poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if yields.load(Ordering::Relaxed) > 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        match quick.await {
            Some(done) => done,
            None => {
                let (who, weight) = (guest.owner().namespace.clone(), guest.owner().account.weight());
                self.lane.run(guest.apart(), who, weight).await
            }
        }
    }
}
