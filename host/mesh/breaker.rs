//! Keeps calls from a peer that does not answer, until one that is sent to find out is answered.
//!
//! ```text
//! closed --5 failures in a row--> open --pause--> half open: one call goes --answered--> closed
//!                                  ^--twice the pause, to 10 s--'--failed
//! ```
//! What failed is the transport: what a guest answers is an answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row until nothing is sent any more. 5: one lost connection may take a few calls with it.
const FAILURES: u32 = 5;
/// How long nothing is sent then. 500 ms: a restarted node is back by then.
const PAUSE: Duration = Duration::from_millis(500);
/// How long at most. 10 s: a peer that came back is used again soon.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Of one peer.
#[derive(Debug)]
pub struct Breaker {
    born: Instant,
    /// Milliseconds after `born`, and one more, from which on a call may be sent; 0: now. Read without the lock.
    from: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Pauses in a row.
    pauses: u32,
}

/// How a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Like any other.
    Usual,
    /// To find out whether the peer is back; others wait for what comes of it.
    Probe,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { born: Instant::now(), from: AtomicU64::new(0), state: Mutex::default() }
    }
}

impl Breaker {
    /// Whether a call would be let through now.
    pub fn allows(&self, now: Instant) -> bool {
        let from = self.from.load(Ordering::Relaxed);
        from == 0 || self.since(now) >= from
    }

    /// Whether calls were not answered, and none has been since.
    pub(super) fn is_open(&self) -> bool {
        self.from.load(Ordering::Relaxed) != 0
    }

    /// Lets a call through, or not.
    pub(super) fn pass(&self, now: Instant) -> Option<Pass> {
        if self.from.load(Ordering::Relaxed) == 0 {
            return Some(Pass::Usual);
        }
        let state = self.lock();
        let from = self.from.load(Ordering::Relaxed);
        if from == 0 {
            return Some(Pass::Usual);
        }
        if self.since(now) < from {
            return None;
        }
        // The next may go when this one has not been heard of for as long as the longest pause.
        drop(state);
        let taken = self.from.compare_exchange(from, self.since(now + PAUSE_MAX), Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok().then_some(Pass::Probe)
    }

    /// A call was answered, whatever the answer.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        *state = State::default();
        self.from.store(0, Ordering::Relaxed);
    }

    /// A call was not answered.
    pub(super) fn failed(&self, pass: Pass, now: Instant) {
        let mut state = self.lock();
        let is_open = self.from.load(Ordering::Relaxed) != 0;
        match pass {
            Pass::Probe => state.pauses = state.pauses.saturating_add(1),
            Pass::Usual if is_open => return, // it was on its way before
            Pass::Usual => {
                state.failures = state.failures.saturating_add(1);
                if state.failures < FAILURES {
                    return;
                }
            }
        }
        let pause = PAUSE.saturating_mul(1 << state.pauses.min(8)).min(PAUSE_MAX);
        self.from.store(self.since(now + pause), Ordering::Relaxed);
    }

    /// Nothing is known of what became of a call.
    pub(super) fn unknown(&self, pass: Pass, now: Instant) {
        let _state = self.lock();
        if pass == Pass::Probe && self.from.load(Ordering::Relaxed) != 0 {
            self.from.store(self.since(now), Ordering::Relaxed);
        }
    }

    fn since(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1).saturating_add(1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(breaker: &Breaker, now: Instant) {
        (0..FAILURES).for_each(|_| breaker.failed(Pass::Usual, now));
    }

    #[test]
    fn it_opens_after_five_failures_in_a_row_and_not_before() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        (1..FAILURES).for_each(|_| breaker.failed(Pass::Usual, now));
        assert!(breaker.allows(now) && breaker.pass(now) == Some(Pass::Usual));
        breaker.answered();
        (1..FAILURES).for_each(|_| breaker.failed(Pass::Usual, now));
        assert!(breaker.allows(now), "not in a row");
        breaker.failed(Pass::Usual, now);
        assert!(breaker.is_open() && !breaker.allows(now) && breaker.pass(now).is_none());
    }

    #[test]
    fn one_call_at_a_time_finds_out_and_the_pause_doubles_to_ten_seconds() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        open(&breaker, now);
        for pause in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let pause = Duration::from_millis(pause);
            assert!(!breaker.allows(now + pause - Duration::from_millis(2)), "{pause:?}");
            now += pause;
            assert_eq!(breaker.pass(now), Some(Pass::Probe), "{pause:?}");
            assert!(!breaker.allows(now) && breaker.pass(now).is_none(), "one at a time");
            breaker.failed(Pass::Usual, now); // one that was on its way
            breaker.failed(Pass::Probe, now);
        }
        now += PAUSE_MAX;
        assert_eq!(breaker.pass(now), Some(Pass::Probe));
        breaker.unknown(Pass::Probe, now);
        assert_eq!(breaker.pass(now), Some(Pass::Probe), "the caller had left");
        breaker.answered();
        assert_eq!((breaker.pass(now), breaker.is_open()), (Some(Pass::Usual), false));
        open(&breaker, now);
        assert!(breaker.allows(now + PAUSE), "it begins anew");
    }
}
