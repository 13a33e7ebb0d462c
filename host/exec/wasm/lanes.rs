//! Where guests run: short ones on the thread that took the call, long ones apart.
//!
//! A guest starts on the I/O runtime, which costs no hand-over. One that has used up its first tick there is moved, as
//! it stands, to a second runtime whose threads have a lower priority. So a spinning guest keeps an I/O thread for two
//! ticks at most, and after that competes with other long guests only.

use super::super::{BoxFuture, ExecError};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Niceness of the slow lane and of compilers: about a quarter of the share of an I/O thread when both want the core.
pub(in crate::exec) const NICENESS: i32 = 6;

pub(super) struct Lanes {
    slow: Option<Runtime>,
}

impl Lanes {
    pub(super) fn start() -> std::io::Result<Self> {
        let slow = tokio::runtime::Builder::new_multi_thread()
            .thread_name("guest-slow")
            .on_thread_start(lower_priority)
            .enable_time()
            .build()?;
        Ok(Self { slow: Some(slow) })
    }

    /// Runs `guest`, moving it to the slow lane once `yields` shows that it has used up a tick.
    ///
    /// * `slow`: it is known to take long, so it starts in the slow lane.
    /// * errors: `Internal` if the guest's task panicked.
    /// * cancel: drops the guest, at its next yield if it runs at this moment.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        guest: BoxFuture<'static, T>,
        yields: &AtomicU32,
        slow: bool,
    ) -> Result<T, ExecError> {
        let mut guest = guest;
        let quick = poll_fn(|cx| match slow {
            true => Poll::Ready(None),
            false => match guest.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if yields.load(Ordering::Relaxed) > 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        });
        match (quick.await, &self.slow) {
            (Some(done), _) => Ok(done),
            (None, Some(slow)) => Stopping(slow.spawn(guest)).join().await,
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
