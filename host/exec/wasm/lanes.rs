//! Where guests run: short ones on the thread that took the call, long ones apart.
//!
//! A guest starts on the I/O runtime, which costs no hand-over. One that has used up its first tick there is moved, as
//! it stands, to a second runtime whose threads have a lower priority. So a spinning guest keeps an I/O thread for two
//! ticks at most, and after that competes with other long guests only. In both lanes namespaces take turns: `turns`.

use super::super::slots::Slots;
use super::super::{BoxFuture, ExecError};
use super::turns::{Owner, Stepped};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Niceness of the slow lane and of compilers: about a quarter of the share of an I/O thread when both want the core.
pub(in crate::exec) const NICENESS: i32 = 6;

pub(super) struct Lanes {
    slow: Option<Runtime>,
    quick_turns: Slots,
    slow_turns: Slots,
}

impl Lanes {
    /// * `guests`: that there are at once, at most.
    pub(super) fn start(guests: usize) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = || Slots::with_reserve(cores, guests, 0);
        let slow = tokio::runtime::Builder::new_multi_thread()
            .thread_name("guest-slow")
            .on_thread_start(lower_priority)
            .enable_time()
            .build()?;
        Ok(Self { slow: Some(slow), quick_turns: turns(), slow_turns: turns() })
    }

    /// Runs `guest`, moving it to the slow lane once `yields` shows that it has used up a tick.
    ///
    /// * `slow`: it is known to take long, so it starts in the slow lane.
    /// * `owner`: who is charged for its time, and gets no more than its share of turns.
    /// * errors: those of the guest; `Internal` if its task panicked; `Quota` if its namespace is far over its time.
    /// * cancel: drops the guest, at its next yield if it runs at this moment.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        guest: BoxFuture<'static, Result<T, ExecError>>,
        owner: Owner,
        yields: &AtomicU32,
        slow: bool,
    ) -> Result<T, ExecError> {
        let mut guest = Stepped::new(guest, owner, self.quick_turns.clone());
        let quick = poll_fn(|cx| match slow {
            true => Poll::Ready(None),
            false => match Pin::new(&mut guest).poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if yields.load(Ordering::Relaxed) > 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        });
        match (quick.await, &self.slow) {
            (Some(done), _) => done,
            (None, Some(slow)) => Stopping(slow.spawn(guest.on(self.slow_turns.clone()))).join().await?,
            (None, None) => Err(ExecError::Draining),
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        if let Some(slow) = self.slow.take() {
            slow.shutdown_background();
        }
    }
}

/// A task that ends with its owner.
struct Stopping<T>(JoinHandle<T>);

impl<T> Stopping<T> {
    async fn join(mut self) -> Result<T, ExecError> {
        (&mut self.0).await.map_err(ExecError::internal)
    }
}

impl<T> Drop for Stopping<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lowers the calling thread's priority. Linux keeps niceness per thread; where that fails nothing is lost but fairness.
pub(super) fn lower_priority() {
    if let Err(why) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%why, "this thread keeps its priority");
    }
}
