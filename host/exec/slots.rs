//! Calls that run at once, and a bounded line of those that wait.

use super::ExecError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places to run in, and a queue before them.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    count: usize,
    waiting: AtomicUsize,
    queue: usize,
}

impl Slots {
    /// * `queue`: calls that may wait; one more is `Busy` at once.
    pub(super) fn new(count: usize, queue: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), count, waiting: AtomicUsize::new(0), queue }
    }

    /// Waits for a slot, unless too many wait already. Dropping what it returns gives the slot back.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, ExecError> {
        if let Ok(slot) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(slot);
        }
        let _place = Place::take(&self.waiting, self.queue)?;
        Arc::clone(&self.free).acquire_owned().await.map_err(ExecError::internal)
    }

    /// Slots that are taken.
    pub(super) fn running(&self) -> usize {
        self.count.saturating_sub(self.free.available_permits())
    }
}

/// A place in the queue for slots, given back on drop.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Result<Self, ExecError> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(ExecError::Busy); // dropping `place` gives it back
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
