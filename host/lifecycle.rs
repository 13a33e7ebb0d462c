//! Starting and ending what runs in the background.
//!
//! Running -> Draining (no new calls, calls in flight finish) -> Killed (the grace period is over: guests are stopped).
//! Handles are passed in, never global, so that two nodes can live in one process.

use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The node's life as seen by its parts. Clones share one life.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    tasks: TaskTracker,
    drain: CancellationToken,
    kill: CancellationToken,
}

impl Lifecycle {
    /// Runs `task` to its end even if whoever asked for it leaves. [`Lifecycle::end`] waits for it.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns: every task is tracked here")]
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Stops taking calls; what runs goes on.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Stops guests that still run.
    pub fn kill(&self) {
        self.kill.cancel();
    }

    /// Resolves when draining starts.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Whether draining has started.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Resolves when the grace period is over.
    pub async fn killed(&self) {
        self.kill.cancelled().await;
    }

    /// Whether it is over.
    pub fn is_killed(&self) -> bool {
        self.kill.is_cancelled()
    }

    /// Waits for the tracked tasks, at most `patience`. Returns how many are left.
    pub async fn end(&self, patience: Duration) -> usize {
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
        self.tasks.len()
    }
}
