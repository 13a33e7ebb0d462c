//! Threads for guests, and a fair line before them.
//!
//! ```text
//! woken guest -> its namespace's line (first in, first out) -> the line that has had least -> one step on a thread
//! ```
//!
//! Start-time fair queueing over the time that steps took, divided by weight: as in `slots`, whose places a guest holds
//! for its whole life; here it is a step at a time, of at most a tick. As many threads as cores, of lower priority than
//! those of the network, so that what is waiting for an answer never waits for what is being worked out.

use super::super::ExecError;
use super::super::priority;
use super::steps::nanos;
use crate::domain::Namespace;
use async_task::Runnable;
use futures_util::FutureExt as _;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// What a step costs at least, in nanoseconds. 10 us: taking it from the line and putting it back.
const COST_MIN: u64 = 10_000;
/// How far a line may be ahead of the others, in nanoseconds. 100 ms: 20 ticks, so that what a namespace used while
/// nobody else wanted it does not keep it away for long.
const LEAD_MAX: u64 = 100_000_000;
/// Lines that are remembered; beyond that those go in which nobody waits. 1,024: about 100 KB.
const LINES_MAX: usize = 1_024;

/// Runs guests. They end with it.
#[derive(Debug)]
pub(super) struct Lane(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    books: Mutex<Books>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Books {
    /// Virtual time of the line that was served last.
    now: u64,
    lines: HashMap<Namespace, Line>,
    waiting: usize,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Line {
    weight: u64,
    time: u64,
    ready: VecDeque<Runnable>,
}

impl Lane {
    /// * `threads`: how many steps run at once.
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { books: Mutex::default(), woken: Condvar::new() });
        let lane = Self(Arc::clone(&shared));
        for _ in 0..threads.max(1) {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("guest".into()).spawn(move || shared.work())?;
        }
        Ok(lane)
    }

    /// Runs `guest` to its end.
    ///
    /// * `who`: whose line it waits in.
    /// * `weight`: how much of the time that line gets, beside the others'.
    /// * errors: its own; `Internal` if it panicked; `Draining` if the lane ended first.
    /// * cancel: drops the guest, at its next yield if it runs at this moment.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        guest: impl Future<Output = Result<T, ExecError>> + Send + 'static,
        who: Namespace,
        weight: u32,
    ) -> Result<T, ExecError> {
        let runtime = Handle::current();
        let mut guest = Box::pin(AssertUnwindSafe(guest).catch_unwind());
        // Guests wait for timers and channels of the runtime that their call came in on.
        let guest = std::future::poll_fn(move |cx| {
            let _entered = runtime.enter();
            guest.as_mut().poll(cx)
        });
        let (shared, weight) = (Arc::clone(&self.0), u64::from(weight.max(1)));
        let schedule = move |runnable| shared.push(&who, weight, runnable);
        let (runnable, task) = async_task::spawn(guest, schedule);
        runnable.schedule();
        match task.fallible().await {
            Some(Ok(ended)) => ended,
            Some(Err(_panic)) => Err(ExecError::internal(anyhow::anyhow!("a guest's task panicked"))),
            None => Err(ExecError::Draining),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let left = {
            let mut books = self.0.books();
            books.is_over = true;
            std::mem::take(&mut books.lines)
        };
        self.0.woken.notify_all();
        drop(left); // without the lock: guests that are dropped may wake others
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, who: &Namespace, weight: u64, runnable: Runnable) {
        let mut books = self.books();
        if books.is_over {
            drop(books);
            return; // and the guest with it
        }
        let now = books.now;
        let line = books.line(who);
        line.weight = weight;
        // Nobody saves up, and nobody pays for ever.
        line.time = line.time.clamp(now, now.saturating_add(LEAD_MAX));
        line.ready.push_back(runnable);
        books.waiting += 1;
        drop(books);
        self.woken.notify_one();
    }

    /// What one thread does.
    fn work(&self) {
        priority::lower();
        let mut books = self.books();
        loop {
            if books.is_over {
                return;
            }
            let Some((who, runnable)) = books.next() else {
                books = self.woken.wait(books).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(books);
            let began = Instant::now();
            // What a guest does is caught where it is polled; this is for what dropping one may do.
            let _ = catch_unwind(AssertUnwindSafe(|| runnable.run()));
            let took = nanos(began.elapsed()).max(COST_MIN);
            books = self.books();
            let line = books.line(&who);
            line.time = line.time.saturating_add((took - COST_MIN) / line.weight.max(1));
        }
    }
}

impl Books {
    fn line(&mut self, who: &Namespace) -> &mut Line {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(who) {
            self.lines.retain(|_, line| !line.ready.is_empty());
        }
        self.lines.entry(who.clone()).or_default()
    }

    /// The next step of the line that has had least.
    fn next(&mut self) -> Option<(Namespace, Runnable)> {
        if self.waiting == 0 {
            return None;
        }
        let ready = self.lines.iter_mut().filter(|(_, line)| !line.ready.is_empty());
        let (who, line) = ready.min_by_key(|(_, line)| line.time)?;
        let next = line.ready.pop_front()?;
        self.now = self.now.max(line.time);
        line.time = line.time.saturating_add(COST_MIN / line.weight.max(1));
        self.waiting -= 1;
        Some((who.clone(), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn name(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    /// Keeps its thread for a millisecond, so many times.
    async fn busy(steps: usize, count: Arc<AtomicUsize>) -> Result<(), ExecError> {
        for _ in 0..steps {
            let until = Instant::now() + Duration::from_millis(1);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hundred_guests_of_one_namespace_get_no_more_than_one_of_another() {
        let lane = Arc::new(Lane::start(1).unwrap());
        let counts: [Arc<AtomicUsize>; 2] = Default::default();
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (lane, count) = (Arc::clone(&lane), Arc::clone(&counts[0]));
            crowd.spawn(async move { lane.run(busy(1_000, count), name("loud"), 1).await });
        }
        while counts[0].load(Ordering::Relaxed) < 50 {
            tokio::task::yield_now().await;
        }
        let before = counts[0].load(Ordering::Relaxed);
        lane.run(busy(40, Arc::clone(&counts[1])), name("quiet"), 1).await.unwrap();
        let meanwhile = counts[0].load(Ordering::Relaxed) - before;
        crowd.abort_all();
        assert!(meanwhile < 80, "{meanwhile} steps of a hundred guests beside 40 of one");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn twice_the_weight_is_twice_the_time() {
        let lane = Arc::new(Lane::start(1).unwrap());
        let counts: [Arc<AtomicUsize>; 2] = Default::default();
        let mut both = tokio::task::JoinSet::new();
        for (n, name) in ["light", "heavy"].into_iter().enumerate() {
            for _ in 0..4 {
                let (lane, count) = (Arc::clone(&lane), Arc::clone(&counts[n]));
                let (who, weight) = (name.parse().unwrap(), u32::try_from(n).unwrap() + 1);
                both.spawn(async move { lane.run(busy(1_000, count), who, weight).await });
            }
        }
        while counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>() < 300 {
            tokio::task::yield_now().await;
        }
        let [light, heavy] = [&counts[0], &counts[1]].map(|count| count.load(Ordering::Relaxed));
        both.abort_all();
        assert!(heavy * 2 > light * 3 && heavy < light * 3, "{heavy} to {light}");
    }

    #[tokio::test]
    async fn a_guest_that_is_dropped_leaves_nothing_and_a_lane_that_ends_says_so() {
        let lane = Lane::start(1).unwrap();
        let held = Arc::new(());
        let theirs = Arc::clone(&held);
        let waits = lane.run(
            async move {
                let _theirs = theirs;
                std::future::pending::<Result<(), ExecError>>().await
            },
            name("acme"),
            1,
        );
        assert!(tokio::time::timeout(Duration::from_millis(20), waits).await.is_err());
        let gone = async {
            while Arc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the guest is dropped");
        let panics = lane.run(async { panic!("a guest") as Result<(), ExecError> }, name("acme"), 1).await;
        assert!(matches!(panics, Err(ExecError::Internal(_))));
        assert!(lane.run(async { Ok(1) }, name("acme"), 1).await.is_ok(), "its thread lives");
        let shared = Arc::clone(&lane.0);
        drop(lane);
        assert!(matches!(Lane(shared).run(async { Ok(1) }, name("acme"), 1).await, Err(ExecError::Draining)));
    }
}
