//! The clock that makes guests yield.
//!
//! A thread bumps the engine's epoch every [`TICK`] while guests run, and sleeps when none has run for a while, so that
//! an idle node wakes nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;
use wasmtime::Engine;

/// How long a guest keeps a thread before it has to let others run. Source: threats.md B7.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// Ticks without a running guest after which the thread sleeps: 1 s, so that steady traffic never pays for a wake-up.
const IDLE_TICKS: u32 = 200;

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
