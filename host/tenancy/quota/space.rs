//! One account: what a namespace, or a caller, uses and may use.

use super::config::Quota;
use super::debt::{Debt, Rate};
use crate::domain::{Account, Ceiling, Charge, Exceeded, KeptFiles, Scope};
use arc_swap::ArcSwap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When to try again where others' calls take all there is. 100 ms: how long they take nobody knows; most take less.
const CALLS_END: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The account of a namespace, or of a caller.
#[derive(Debug)]
pub(super) struct Space {
    scope: Scope,
    terms: ArcSwap<Terms>,
    began: Instant,
    /// When it was last used, in nanoseconds after `began`.
    used: AtomicU64,
    running: AtomicU64,
    /// What will be charged to it when it ends.
    pending: AtomicU64,
    memory: AtomicU64,
    cpu: Spent,
    compile: Spent,
    egress: Spent,
    calls: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Spent {
    debt: Debt,
    total: AtomicU64,
}

/// What it may use, replaced as a whole.
#[derive(Debug)]
struct Terms {
    quota: Quota,
    calls: Option<DefaultDirectRateLimiter>,
}

/// What a namespace uses. Totals are of the time since the node began, or since nobody had used it for long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls under way.
    pub running: u64,
    /// Bytes of running guests: that components have, that native ones may have.
    pub memory: u64,
    /// Calls that began.
    pub calls: u64,
    /// Calls that a quota stopped.
    pub refused: u64,
    /// Time that components kept threads, that native binaries computed, that calls had containers.
    pub cpu: Duration,
    /// Time that compiling took.
    pub compile: Duration,
    /// Bytes that guests exchanged with other machines.
    pub egress: u64,
}

/// One call under way, of one account.
#[derive(Debug)]
pub(super) struct Held(Arc<Space>);

impl Held {
    /// Whose it is.
    pub(super) fn account(&self) -> Arc<dyn Account> {
        Arc::clone(&self.0) as _
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Terms {
    fn new(quota: Quota) -> Self {
        let rate = NonZeroU32::new(u32::try_from(quota.calls_per_second).unwrap_or(u32::MAX));
        Self { calls: rate.map(|rate| RateLimiter::direct(governor::Quota::per_second(rate))), quota }
    }
}

impl Space {
    pub(super) fn new(scope: Scope, quota: Quota) -> Self {
        Self {
            scope,
            terms: ArcSwap::from_pointee(Terms::new(quota)),
            began: Instant::now(),
            used: AtomicU64::new(0),
            running: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            cpu: Spent::default(),
            compile: Spent::default(),
            egress: Spent::default(),
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// From now on it may use this. Calls under way stay.
    pub(super) fn set(&self, quota: Quota) {
        if self.terms.load().quota != quota {
            self.terms.store(Arc::new(Terms::new(quota)));
        }
    }

    /// Begins a call.
    ///
    /// * errors: too many at once, or too many in this second.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Held, Exceeded> {
        self.touch();
        let terms = self.terms.load();
        let most = terms.quota.concurrent_calls;
        let held = Held(Arc::clone(self));
        if self.running.fetch_add(1, Ordering::Relaxed) >= most && most > 0 {
            // `held` gives back what it took.
            return Err(self.refuse("concurrent_calls", most, Some(CALLS_END)));
        }
        self.count()?;
        Ok(held)
    }

    /// Counts a call that takes no place of its own.
    ///
    /// * errors: too many in this second.
    pub(super) fn count(&self) -> Result<(), Exceeded> {
        let terms = self.terms.load();
        if let Some(Err(not_until)) = terms.calls.as_ref().map(|limiter| limiter.check()) {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            return Err(self.refuse("calls_per_second", terms.quota.calls_per_second, Some(wait)));
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn usage(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            running: read(&self.running),
            memory: read(&self.memory),
            calls: read(&self.calls),
            refused: read(&self.refused),
            cpu: Duration::from_nanos(read(&self.cpu.total)),
            compile: Duration::from_nanos(read(&self.compile.total)),
            egress: read(&self.egress.total),
        }
    }

    /// Whether nothing that it knows matters any more: nobody uses it, it owes nothing, and for a while nobody did.
    pub(super) fn is_idle(&self, patience: Duration) -> bool {
        let rests = self.began.elapsed().saturating_sub(Duration::from_nanos(self.used.load(Ordering::Relaxed)));
        let spent = [&self.cpu, &self.compile, &self.egress];
        let counts = [&self.running, &self.pending, &self.memory];
        rests > patience
            && counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
            && spent.iter().all(|spent| spent.debt.is_paid())
    }

    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.used.store(now, Ordering::Relaxed);
    }

    fn refuse(&self, quota: &'static str, limit: u64, wait: Option<Duration>) -> Exceeded {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Exceeded { quota, scope: self.scope, limit, wait }
    }

    fn spent(&self, what: Charge) -> (&Spent, &'static str, u64, Rate) {
        let terms = self.terms.load();
        let Quota { cpu_ms_per_second, compile_ms_per_minute, egress_kib_per_second, .. } = terms.quota;
        let (spent, name, limit, unit, period) = match what {
            Charge::Cpu => (&self.cpu, "cpu_ms_per_second", cpu_ms_per_second, 1_000_000, SECOND),
            Charge::Compile => (&self.compile, "compile_ms_per_minute", compile_ms_per_minute, 1_000_000, MINUTE),
            Charge::Egress => (&self.egress, "egress_kib_per_second", egress_kib_per_second, 1_024, SECOND),
        };
        (spent, name, limit, Rate { amount: limit.saturating_mul(unit), period })
    }

    fn over_by(&self, what: Charge, bursts: u32) -> Option<Exceeded> {
        let (spent, name, limit, rate) = self.spent(what);
        let wait = spent.debt.wait(rate, bursts)?;
        // Until it may begin again, whichever it was that stopped it.
        let wait = wait + rate.period * (bursts - 1);
        Some(self.refuse(name, limit, Some(wait)))
    }
}

impl Account for Space {
    fn weight(&self) -> u32 {
        u32::try_from(self.terms.load().quota.weight).unwrap_or(1)
    }

    fn take_memory(&self, bytes: u64) -> Result<(), Exceeded> {
        let limit = self.terms.load().quota.memory_mib;
        let most = if limit == 0 { u64::MAX } else { limit << 20 };
        let taken = self.memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= most)
        });
        taken.map(drop).map_err(|_| self.refuse("memory_mib", limit, Some(CALLS_END)))
    }

    fn give_memory(&self, bytes: u64) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    fn charge(&self, what: Charge, amount: u64) {
        let (spent, _, _, rate) = self.spent(what);
        spent.total.fetch_add(amount, Ordering::Relaxed);
        spent.debt.charge(amount, rate);
    }

    fn over(&self, what: Charge) -> Option<Exceeded> {
        self.over_by(what, 1)
    }

    fn far_over(&self, what: Charge) -> Option<Exceeded> {
        match self.scope {
            Scope::Namespace | Scope::Caller => self.over_by(what, 2),
            // Many callers: what one of them spent ends nothing that runs for the others, all wait before their next.
            Scope::Peer => None,
        }
    }

    fn ceiling(&self) -> Ceiling {
        let terms = self.terms.load();
        Ceiling { records: terms.quota.stored_records, mib: terms.quota.stored_mib, files: KeptFiles::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(change: impl FnOnce(&mut Quota)) -> Arc<Space> {
        let mut quota = Quota::default();
        change(&mut quota);
        Arc::new(Space::new(Scope::Namespace, quota))
    }

    #[test]
    fn calls_at_once_below_at_and_above() {
        let space = space(|quota| quota.concurrent_calls = 2);
        let one = space.enter().unwrap();
        let _two = space.enter().unwrap();
        let over = space.enter().unwrap_err();
        assert_eq!((over.quota, over.limit, over.wait), ("concurrent_calls", 2, Some(CALLS_END)));
        drop(one);
        assert!(space.enter().is_ok(), "one that ended makes room");
        assert_eq!((space.usage().running, space.usage().refused), (1, 1));
    }

    #[test]
    fn calls_in_a_second_below_at_and_above() {
        let space = space(|quota| quota.calls_per_second = 3);
        assert!((0..3).all(|_| space.enter().is_ok()));
        // Where this thread had to wait, time has given a few more.
        let over = (0..1_000).find_map(|_| space.enter().err()).expect("one a third of a second");
        let wait = over.wait.unwrap();
        assert_eq!(over.quota, "calls_per_second");
        assert!(!wait.is_zero() && wait <= Duration::from_millis(334), "{wait:?}");
    }

    #[test]
    fn memory_below_at_and_above() {
        let space = space(|quota| quota.memory_mib = 1);
        assert!(space.take_memory((1 << 20) - 1).is_ok());
        assert!(space.take_memory(1).is_ok());
        assert_eq!(space.take_memory(1).unwrap_err().quota, "memory_mib");
        space.give_memory(1 << 20);
        assert_eq!(space.usage().memory, 0);
    }

    #[test]
    fn who_is_over_waits_and_who_is_far_over_ends() {
        let space = space(|quota| quota.cpu_ms_per_second = 100);
        // Time goes on while this runs: it may have paid for some of it, and for no more than that.
        let near = |over: Option<Exceeded>, ms: u64| {
            let wait = over.unwrap().wait.unwrap();
            assert!(wait <= Duration::from_millis(ms) && wait + SECOND / 2 > Duration::from_millis(ms), "{wait:?}");
        };
        let ms = |ms: u64| ms * 1_000_000;
        space.charge(Charge::Cpu, ms(100));
        assert_eq!(space.over(Charge::Cpu), None, "at");
        space.charge(Charge::Cpu, ms(90));
        near(space.over(Charge::Cpu), 900);
        assert_eq!(space.far_over(Charge::Cpu), None);
        space.charge(Charge::Cpu, ms(100));
        near(space.far_over(Charge::Cpu), 1_900);
        space.set(Quota { cpu_ms_per_second: 0, ..Quota::default() });
        assert_eq!(space.over(Charge::Cpu), None, "an operator can help");
        assert_eq!(space.usage().cpu, Duration::from_millis(290));
    }
}
