//! A budget that refills with time and is charged after the fact.
//!
//! The same algorithm as GCRA, with one difference that governor does not have: what was spent is spent, so a charge is
//! never refused, and who is over waits until time has paid for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What was spent, as the moment until which it takes to pay for it.
#[derive(Debug)]
pub(super) struct Debt {
    began: Instant,
    /// Nanoseconds after `began`.
    paid_at: AtomicU64,
}

/// How a budget refills: so much in a period, all of which may be spent at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// 0: without end.
    pub(super) amount: u64,
    pub(super) period: Duration,
}

impl Default for Debt {
    fn default() -> Self {
        Self { began: Instant::now(), paid_at: AtomicU64::new(0) }
    }
}

impl Debt {
    /// Writes down what was spent.
    pub(super) fn charge(&self, spent: u64, rate: Rate) {
        if rate.amount == 0 || spent == 0 {
            return;
        }
        self.charge_at(self.now(), cost(spent, rate));
    }

    fn charge_at(&self, now: u64, cost: u64) {
        let _ = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
            // Half of the range, so that what is added to it later does not overflow.
            Some(at.max(now).saturating_add(cost).min(u64::MAX / 2))
        });
    }

    /// How long until some of it may be spent again; `None`: now.
    ///
    /// * `bursts`: how many periods' worth may be owed.
    pub(super) fn wait(&self, rate: Rate, bursts: u32) -> Option<Duration> {
        if rate.amount == 0 {
            return None;
        }
        self.wait_at(self.now(), rate, bursts)
    }

    fn wait_at(&self, now: u64, rate: Rate, bursts: u32) -> Option<Duration> {
        let owed = self.paid_at.load(Ordering::Relaxed).saturating_sub(now);
        Duration::from_nanos(owed).checked_sub(rate.period * bursts).filter(|wait| !wait.is_zero())
    }

    /// Whether nothing is owed.
    pub(super) fn is_paid(&self) -> bool {
        self.paid_at.load(Ordering::Relaxed) <= self.now()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

/// Nanoseconds that it takes to pay for it.
fn cost(spent: u64, rate: Rate) -> u64 {
    let cost = u128::from(spent) * rate.period.as_nanos() / u128::from(rate.amount.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_below_at_and_above_and_paid_back() {
        let (debt, rate) = (Debt::default(), Rate { amount: 100, period: Duration::from_secs(1) });
        let wait = |at: u64, bursts| debt.wait_at(at, rate, bursts);
        debt.charge_at(0, cost(99, rate));
        assert_eq!(wait(0, 1), None, "below");
        debt.charge_at(0, cost(1, rate));
        assert_eq!(wait(0, 1), None, "at");
        debt.charge_at(0, cost(50, rate));
        assert_eq!(wait(0, 1), Some(Duration::from_millis(500)), "above: half a second pays for it");
        assert_eq!(wait(0, 2), None, "not over by another burst");
        assert_eq!(wait(500_000_000, 1), None, "paid back");
        debt.charge_at(0, cost(u64::MAX, rate));
        assert!(wait(0, 2).is_some() && !debt.is_paid(), "no number makes it wrap");
        assert_eq!(debt.wait(Rate { amount: 0, ..rate }, 1), None, "0 is no limit");
    }
}
