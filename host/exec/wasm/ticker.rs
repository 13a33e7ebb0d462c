//! The clock that makes guests yield.
//!
//! A thread bumps the engine's epoch every [`TICK`] while guests run, and sleeps when none has run for a while, so that
//! an idle node wakes nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread, ThreadId};
use std::time::Duration;
use wasmtime::Engine;

/// How long a guest keeps a thread before it has to let others run. Source: threats.md B7.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// Ticks without a running guest after which the thread sleeps: 1 s, so that steady traffic never pays for a wake-up.
const IDLE_TICKS: u32 = 200;
/// Ticks of the clock after which one counts as used, whatever the processor's books say. 8: 40 ms, in which a thread of a
/// busy machine gets some time; those books are a thread's, and a guest may go from one to another.
const PASSED_MAX: u32 = 8;

#[derive(Debug, Default)]
struct State {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

pub(super) struct Ticker {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    wake: Thread,
}

/// Keeps the clock ticking while it lives.
pub(super) struct Running(Arc<State>);

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || tick(&engine, &shared))?;
        Ok(Self { state, wake: thread.thread().clone(), thread: Some(thread) })
    }

    /// Says that a guest is about to run.
    pub(super) fn running(&self) -> Running {
        self.state.running.fetch_add(1, Ordering::SeqCst);
        if self.state.asleep.load(Ordering::SeqCst) {
            self.wake.unpark();
        }
        Running(Arc::clone(&self.state))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.wake.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tells ticks that a guest used up from those in which the machine had other things to do than its thread.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Where the guest was at the first tick, and what that thread had computed by then.
    since: Option<(ThreadId, Duration)>,
    /// Ticks since then, on whichever thread.
    passed: u32,
}

impl Used {
    /// Whether the guest has used up a tick, now that one more has passed.
    pub(super) fn tick(&mut self) -> bool {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        self.tick_at(std::thread::current().id(), Duration::try_from(spent).unwrap_or_default())
    }

    /// * `spent`: processor time of `thread` so far.
    fn tick_at(&mut self, thread: ThreadId, spent: Duration) -> bool {
        self.passed += 1;
        let used = match self.since {
            Some((same, since)) if same == thread => spent.saturating_sub(since),
            _ => {
                self.since = Some((thread, spent));
                Duration::ZERO
            }
        };
        used >= TICK / 2 || self.passed >= PASSED_MAX
    }
}

fn tick(engine: &Engine, state: &State) {
    let mut idle = 0;
    while !state.stop.load(Ordering::SeqCst) {
        std::thread::sleep(TICK);
        engine.increment_epoch();
        idle = if state.running.load(Ordering::SeqCst) > 0 { 0 } else { idle + 1 };
        if idle < IDLE_TICKS {
            continue;
        }
        state.asleep.store(true, Ordering::SeqCst);
        // A guest that starts between the check and the park has left an unpark behind, so the park returns at once.
        while state.running.load(Ordering::SeqCst) == 0 && !state.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        state.asleep.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other() -> ThreadId {
        std::thread::spawn(|| std::thread::current().id()).join().unwrap()
    }

    #[test]
    fn a_tick_is_used_by_who_computes_for_half_of_it() {
        let (mut used, here) = (Used::default(), std::thread::current().id());
        let begun = Duration::from_secs(900);
        assert!(!used.tick_at(here, begun), "it may have come at once");
        assert!(!used.tick_at(here, begun + TICK / 2 - Duration::from_nanos(1)));
        assert!(used.tick_at(here, begun + TICK / 2));
    }

    #[test]
    fn on_another_thread_it_begins_anew_and_in_the_end_every_tick_counts() {
        let (mut used, there) = (Used::default(), other());
        assert!(!used.tick_at(std::thread::current().id(), Duration::from_secs(900)));
        assert!(!used.tick_at(there, Duration::from_secs(1)), "the books of another thread");
        assert!(used.tick_at(there, Duration::from_secs(1) + TICK / 2), "that has computed less than the first");
        let mut idle = Used::default();
        for _ in 1..PASSED_MAX {
            assert!(!idle.tick_at(there, Duration::ZERO));
        }
        assert!(idle.tick_at(there, Duration::ZERO));
    }
}
