//! Threads for guests, and a fair line before them.
//!
//! ```text
//! woken guest -> its namespace's line (first in, first out) -> the line that has had least -> one step on a thread
//! ```
//!
//! Start-time fair queueing over the time that steps took, divided by weight: as in `slots`, whose places a guest holds
//! for its whole life; here it is a step at a time, of at most a tick. As many threads as cores, of lower priority than
//! those of the network, so that what is waiting for an answer never waits for what is being worked out. Whoever wakes a
//! guest waits for none of them either: it leaves it in a channel, and the books are the threads' own.

use super::super::ExecError;
use super::super::priority;
use super::steps::nanos;
use crate::domain::Namespace;
use async_task::Runnable;
use futures_util::FutureExt as _;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// What a step costs at least, in nanoseconds. 10 us: taking it from the line and putting it back.
const COST_MIN: u64 = 10_000;
/// How far a line may be ahead of the others, in nanoseconds. 100 ms: 20 ticks, so that what a namespace used while
/// nobody else wanted it does not keep it away for long.
const LEAD_MAX: u64 = 100_000_000;
/// Lines that are remembered; beyond that those go in which nobody waits or runs, first those that have had no more than
/// others. 1,024: about 100 KB.
const LINES_MAX: usize = 1_024;

thread_local! {
    /// Whether this thread is one of a lane.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Runs guests. They end with it.
#[derive(Debug)]
pub(super) struct Lane {
    woken: Sender<Order>,
    threads: usize,
}

/// What the threads are told.
#[derive(Debug)]
enum Order {
    /// This one wants to go on. There are no more of these than guests, which hold a slot each, and answers, of which a
    /// connection may have so many.
    Wake(Wake),
    /// One of them ends.
    End,
}

#[derive(Debug)]
struct Wake {
    who: Namespace,
    weight: u64,
    /// It goes before the guests of its namespace.
    first: bool,
    runnable: Runnable,
}

/// The lines, and what was not put into them yet.
#[derive(Debug)]
struct Books {
    orders: Receiver<Order>,
    /// Virtual time of the line that was served last.
    now: u64,
    lines: HashMap<Namespace, Line>,
    /// Lines in which somebody waits, by their time.
    waiting: BTreeSet<(u64, Namespace)>,
}

#[derive(Debug, Default)]
struct Line {
    weight: u64,
    time: u64,
    /// Steps on threads.
    running: usize,
    /// What answers calls, which is short and may be due.
    first: VecDeque<Runnable>,
    /// Guests.
    ready: VecDeque<Runnable>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.ready.is_empty()
    }
}

impl Lane {
    /// * `threads`: how many steps run at once.
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let ((woken, orders), threads) = (channel(), threads.max(1));
        let books = Books { orders, now: 0, lines: HashMap::new(), waiting: BTreeSet::new() };
        let books = Arc::new(Mutex::new(books));
        let lane = Self { woken, threads };
        for _ in 0..threads {
            let books = Arc::clone(&books);
            std::thread::Builder::new().name("guest".into()).spawn(move || work(&books))?;
        }
        Ok(lane)
    }

    /// Whether this is asked on a thread of a lane.
    pub(super) fn is_here() -> bool {
        HERE.get()
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
        let guest = Guest { inner: Some(Box::pin(guest)), runtime: Handle::current() };
        let (runnable, task) =
            async_task::spawn(AssertUnwindSafe(guest).catch_unwind(), self.schedule(who, weight, false));
        runnable.schedule();
        match task.fallible().await {
            Some(Ok(ended)) => ended,
            Some(Err(_panic)) => Err(ExecError::internal(anyhow::anyhow!("a guest's task panicked"))),
            None => Err(ExecError::Draining),
        }
    }

    /// Runs `work` to its end, before guests of the same namespace.
    ///
    /// * errors: none; what panics ends, and what is there when the lane ends is dropped.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static, who: Namespace, weight: u32) {
        let work = Guest { inner: Some(Box::pin(work)), runtime: Handle::current() };
        let work = AssertUnwindSafe(work).catch_unwind();
        let (runnable, task) = async_task::spawn(work, self.schedule(who, weight, true));
        runnable.schedule();
        task.detach();
    }

    /// How what is woken gets into its line.
    fn schedule(&self, who: Namespace, weight: u32, first: bool) -> impl Fn(Runnable) + Send + Sync + 'static + use<> {
        let (woken, weight) = (self.woken.clone(), u64::from(weight.max(1)));
        move |runnable| {
            // A lane that has ended drops it, and the guest with it.
            let _ = woken.send(Order::Wake(Wake { who: who.clone(), weight, first, runnable }));
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for _ in 0..self.threads {
            let _ = self.woken.send(Order::End);
        }
    }
}

/// A guest on a thread that is not the runtime's.
///
/// It waits for timers and channels of the runtime that its call came in on, and may hold some when it is dropped. What
/// panics in its destructors is caught here: async-task would end the process.
struct Guest<F> {
    inner: Option<Pin<Box<F>>>,
    runtime: Handle,
}

impl<F: Future> Future for Guest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = this.runtime.enter();
        match &mut this.inner {
            Some(inner) => inner.as_mut().poll(cx),
            None => Poll::Pending, // only a guest that was dropped is none
        }
    }
}

impl<F> Drop for Guest<F> {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        let inner = self.inner.take();
        if catch_unwind(AssertUnwindSafe(|| drop(inner))).is_err() {
            tracing::error!("a guest panicked as it was dropped");
        }
    }
}

/// What one thread does.
fn work(books: &Mutex<Books>) {
    fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
        books.lock().unwrap_or_else(PoisonError::into_inner)
    }
    priority::lower();
    HERE.set(true);
    let mut open = lock(books);
    // Whoever waits for an order keeps the books: nobody else has anything to write then but what it used.
    while let Some((who, runnable)) = open.next() {
        drop(open);
        let began = Instant::now();
        runnable.run();
        let took = nanos(began.elapsed()).max(COST_MIN);
        open = lock(books);
        open.charge(&who, took - COST_MIN);
    }
}

impl Books {
    /// The next step of the line that has had least, as soon as there is one; `None`: this thread is to end.
    fn next(&mut self) -> Option<(Namespace, Runnable)> {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                self.enter(order)?;
            }
            if let Some(next) = self.first() {
                return Some(next);
            }
            let order = self.orders.recv().ok()?;
            self.enter(order)?;
        }
    }

    fn enter(&mut self, order: Order) -> Option<()> {
        match order {
            Order::End => None,
            Order::Wake(wake) => {
                self.push(wake);
                Some(())
            }
        }
    }

    fn push(&mut self, Wake { who, weight, first, runnable }: Wake) {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&who) {
            self.make_room();
        }
        let now = self.now;
        let line = self.lines.entry(who.clone()).or_default();
        line.weight = weight;
        if line.is_empty() {
            // Nobody saves up, and nobody pays for ever.
            line.time = line.time.clamp(now, now.saturating_add(LEAD_MAX));
            self.waiting.insert((line.time, who));
        }
        match first {
            true => line.first.push_back(runnable),
            false => line.ready.push_back(runnable),
        }
    }

    /// Forgets lines. Those with somebody in them stay: there are no more of them than guests and answers.
    fn make_room(&mut self) {
        let now = self.now;
        let idle = |line: &Line| line.is_empty() && line.running == 0;
        self.lines.retain(|_, line| !idle(line) || line.time > now);
        if self.lines.len() >= LINES_MAX {
            self.lines.retain(|_, line| !idle(line));
        }
    }

    fn first(&mut self) -> Option<(Namespace, Runnable)> {
        let (time, who) = self.waiting.pop_first()?;
        let line = self.lines.get_mut(&who)?;
        let next = line.first.pop_front().or_else(|| line.ready.pop_front())?;
        line.running += 1;
        self.now = self.now.max(time);
        line.time = line.time.saturating_add(COST_MIN / line.weight.max(1));
        if !line.is_empty() {
            self.waiting.insert((line.time, who.clone()));
        }
        Some((who, next))
    }

    /// Writes down what a step took beyond the least.
    fn charge(&mut self, who: &Namespace, took: u64) {
        let Some(line) = self.lines.get_mut(who) else { return };
        line.running = line.running.saturating_sub(1);
        let before = line.time;
        line.time = before.saturating_add(took / line.weight.max(1));
        if self.waiting.remove(&(before, who.clone())) {
            self.waiting.insert((line.time, who.clone()));
        }
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

    #[tokio::test(flavor = "multi_thread")]
    async fn what_answers_calls_goes_before_the_guests_of_its_namespace() {
        let lane = Arc::new(Lane::start(1).unwrap());
        let count = Arc::new(AtomicUsize::new(0));
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (lane, count) = (Arc::clone(&lane), Arc::clone(&count));
            crowd.spawn(async move { lane.run(busy(1_000, count), name("acme"), 1).await });
        }
        while count.load(Ordering::Relaxed) < 60 {
            tokio::task::yield_now().await; // all of them are in the line
        }
        let (say, said) = tokio::sync::oneshot::channel();
        let (before, after) = (count.load(Ordering::Relaxed), Arc::clone(&count));
        let answer = async move {
            let _ = say.send(after.load(Ordering::Relaxed));
        };
        lane.spawn(answer, name("acme"), 1);
        let steps = said.await.unwrap() - before;
        lane.spawn(async { panic!("an answer") }, name("acme"), 1);
        crowd.abort_all();
        assert!(steps < 10, "{steps} steps of guests before it, and 50 are waiting");
        assert!(lane.run(async { Ok(1) }, name("acme"), 1).await.is_ok(), "its thread lives");
    }

    /// Wants a runtime when it is dropped, and panics.
    struct Last;

    impl Drop for Last {
        fn drop(&mut self) {
            Handle::current();
            panic!("a destructor");
        }
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
        let last = lane.run(
            async {
                let _last = Last;
                std::future::pending::<Result<(), ExecError>>().await
            },
            name("acme"),
            1,
        );
        assert!(tokio::time::timeout(Duration::from_millis(20), last).await.is_err());
        assert!(lane.run(async { Ok(1) }, name("acme"), 1).await.is_ok(), "so does it after a destructor that panics");
        let woken = lane.woken.clone();
        drop(lane);
        let ended = Lane { woken, threads: 0 };
        assert!(matches!(ended.run(async { Ok(1) }, name("acme"), 1).await, Err(ExecError::Draining)));
    }
}
