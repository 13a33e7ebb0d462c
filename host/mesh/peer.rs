//! One linked collector, and how it does.

use super::breaker::{Breaker, Pass};
use super::counts::{Counts, Outcome};
use super::peers::PeerPolicy;
use crate::domain::CollectorId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What a peer is thought to take before it has answered. 1 ms: it gets its share of the first calls.
const FIRST_GUESS_US: u64 = 1_000;
/// How long until half of what is known of a peer's pace is forgotten. 10 s: one that was slow is tried again.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// A collector that calls can be handed to, for as long as one link lasts.
#[derive(Debug)]
pub struct Peer {
    /// Its id, as its certificate has it where there is one.
    pub id: CollectorId,
    /// What this node's operator says of it.
    pub policy: Arc<PeerPolicy>,
    in_flight: AtomicUsize,
    breaker: Breaker,
    pace: Pace,
    counts: Arc<Counts>,
}

impl Peer {
    /// Of a link that came up.
    pub fn new(id: CollectorId, policy: Arc<PeerPolicy>) -> Self {
        let (in_flight, breaker, pace) = (AtomicUsize::new(0), Breaker::default(), Pace::new());
        Self { id, policy, in_flight, breaker, pace, counts: Arc::default() }
    }

    /// The same, counted here.
    pub fn counted(self, counts: Arc<Counts>) -> Self {
        Self { counts, ..self }
    }

    /// Calls that were handed to it and are not over.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How long it takes to answer, of late.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.pace.micros(Instant::now()))
    }

    /// Whether calls are sent to it, as far as those before were answered.
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.breaker.allows(now)
    }

    /// Whether it is left alone, since it answered no call; but for one at a time that finds out.
    pub fn is_paused(&self) -> bool {
        self.breaker.is_open()
    }

    /// What one more call there costs, to compare.
    pub(super) fn cost(&self, now: Instant) -> u64 {
        let calls = u64::try_from(self.in_flight()).unwrap_or(u64::MAX).saturating_add(1);
        calls.saturating_mul(self.pace.micros(now).max(1))
    }

    /// Counts a call that is handed to it, until this is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Hands it a call; `None` if it did not answer those before, and another finds out whether it does now.
    pub fn attempt(self: &Arc<Self>, now: Instant) -> Option<Attempt> {
        let pass = self.breaker.pass(now)?;
        let (busy, outcome) = (self.begin(), Outcome::GivenUp);
        Some(Attempt { busy, pass, began: now, is_paced: false, is_told: false, outcome })
    }
}

/// A call that a peer has.
#[derive(Debug)]
pub struct Busy(Arc<Peer>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that a peer has, and of which it is told what became of it. Counted until it is dropped.
#[derive(Debug)]
pub struct Attempt {
    busy: Busy,
    pass: Pass,
    began: Instant,
    is_paced: bool,
    is_told: bool,
    outcome: Outcome,
}

impl Attempt {
    /// The peer's first word of an answer that may last, so that it says nothing yet of whether the peer is well. One that
    /// was asked to find out whether it is back is.
    pub fn heard(&mut self) {
        self.keep_pace();
        self.outcome = Outcome::Answered;
        if self.pass == Pass::Probe {
            self.answered();
        }
    }

    /// The peer has answered, whatever it says.
    pub fn answered(&mut self) {
        if !self.is_told {
            self.keep_pace();
            self.busy.0.breaker.answered();
        }
        self.is_told = true;
        self.outcome = Outcome::Answered;
    }

    /// The connection, or the peer, was lost, or what it said is no answer.
    pub fn failed(&mut self) {
        // One call is one failure.
        if !self.is_told {
            self.busy.0.breaker.failed(self.pass, Instant::now());
        }
        self.is_told = true;
        self.outcome = Outcome::Lost;
    }

    /// What became of it, to be counted; else what was said last.
    pub fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    fn keep_pace(&mut self) {
        if !self.is_paced {
            let now = Instant::now();
            self.busy.0.pace.note(now.saturating_duration_since(self.began), now);
        }
        self.is_paced = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_told {
            self.busy.0.breaker.unknown(self.pass, Instant::now());
        }
        self.busy.0.counts.call(self.outcome);
    }
}

/// How fast a peer answers: a moving average in which each answer counts an eighth, and which fades.
#[derive(Debug)]
struct Pace {
    born: Instant,
    micros: AtomicU64,
    /// When it was last noted, in milliseconds after `born`.
    noted: AtomicU64,
}

impl Pace {
    fn new() -> Self {
        Self { born: Instant::now(), micros: AtomicU64::new(FIRST_GUESS_US), noted: AtomicU64::new(0) }
    }

    fn note(&self, took: Duration, now: Instant) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(u64::MAX >> 4);
        let _always =
            self.micros.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(old - old / 8 + took / 8));
        self.noted.store(self.since(now), Ordering::Relaxed);
    }

    fn micros(&self, now: Instant) -> u64 {
        let half_life = u64::try_from(HALF_LIFE.as_millis()).unwrap_or(u64::MAX);
        let halvings = self.since(now).saturating_sub(self.noted.load(Ordering::Relaxed)) / half_life;
        self.micros.load(Ordering::Relaxed) >> halvings.min(63)
    }

    fn since(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_follows_answers_and_fades() {
        let pace = Pace::new();
        let now = Instant::now();
        (0..100).for_each(|_| pace.note(Duration::from_millis(80), now));
        assert!((79_000..=80_000).contains(&pace.micros(now)), "{}", pace.micros(now));
        let later = now + 3 * HALF_LIFE;
        assert!(pace.micros(later) <= 10_000);
        (0..100).for_each(|_| pace.note(Duration::from_micros(100), later));
        assert!(pace.micros(later) < 200);
    }

    #[test]
    fn a_call_counts_until_it_is_over_and_fails_once() {
        let peer = Arc::new(Peer::new("a".parse().unwrap(), PeerPolicy::open()));
        let now = Instant::now();
        for calls in 0..5 {
            assert!(peer.is_healthy(now), "after {calls}");
            let mut attempt = peer.attempt(now).unwrap();
            assert_eq!(peer.in_flight(), 1);
            attempt.failed();
            attempt.failed();
        }
        assert_eq!(peer.in_flight(), 0);
        assert!(!peer.is_healthy(now) && peer.attempt(now).is_none());
        let later = now + Duration::from_secs(1);
        drop(peer.attempt(later).unwrap());
        peer.attempt(later).unwrap().answered();
        assert!(peer.is_healthy(later) && peer.attempt(later).is_some());
        let tally = peer.counts.tally();
        assert_eq!((tally.lost, tally.given_up, tally.answered), (5, 2, 1));
    }

    #[test]
    fn m06_a_first_word_with_nothing_after_it_is_no_answer() {
        let peer = Arc::new(Peer::new("a".parse().unwrap(), PeerPolicy::open()));
        let now = Instant::now();
        for calls in 0..5 {
            assert!(peer.is_healthy(now), "after {calls}");
            let mut attempt = peer.attempt(now).unwrap();
            attempt.heard();
            attempt.failed();
        }
        assert!(!peer.is_healthy(now));
        let later = now + Duration::from_secs(1);
        let mut probe = peer.attempt(later).unwrap();
        probe.heard();
        assert!(peer.is_healthy(later), "it is back, however long the stream lasts");
    }
}
