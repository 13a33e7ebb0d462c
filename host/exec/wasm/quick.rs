//! Who may run guests on the threads of the network.
//!
//! That costs no hand-over, and is first in, first out: whoever calls a lot would have others wait behind all of it. So
//! where several namespaces call, each has an allowance there; what is beyond it runs on the fair lane. Where only one
//! calls nobody waits for it but itself.

use super::steps::nanos;
use super::ticker::TICK;
use crate::domain::Namespace;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Which part of the processor a namespace may use there: one in 16, of all cores together: a call in 2 ms on two cores.
const PART: u32 = 16;
/// What it may save up. 2 ms: what another's call may have to wait behind, once.
const BURST: Duration = Duration::from_millis(2);
/// What it may owe for every core, beside others. Two ticks: as long as a guest keeps a thread, and all threads may have
/// begun one before the first is written down. What it used while nobody else called is soon forgiven: two bursts.
const DEBT: Duration = TICK.saturating_mul(2);
/// How long a namespace counts as one that calls.
const LATELY: Duration = Duration::from_secs(10);
/// Namespaces that are remembered; beyond that those go whose allowance is whole, and if there are none, who is not
/// remembered has no allowance. 1,024: about 100 KB.
const KNOWN_MAX: usize = 1_024;
/// How often they are looked through for room. 10 ms: it takes microseconds.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

/// The allowances.
#[derive(Debug)]
pub(super) struct Quick {
    cores: u32,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Who called last, and when.
    last: Option<(Namespace, Instant)>,
    /// When somebody else did.
    other: Option<Instant>,
    used: HashMap<Namespace, Used>,
    /// When it was looked for room.
    swept: Option<Instant>,
}

/// What was used, less what has been given back by time.
#[derive(Debug, Clone, Copy)]
struct Used {
    nanos: u64,
    at: Instant,
}

impl Used {
    /// What is left of it now.
    fn now(self, now: Instant, cores: u32) -> u64 {
        let given = nanos(now.saturating_duration_since(self.at)).saturating_mul(u64::from(cores)) / u64::from(PART);
        self.nanos.saturating_sub(given)
    }
}

impl Quick {
    /// * `cores`: how many there are.
    pub(super) fn new(cores: usize) -> Self {
        let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
        Self { cores, books: Mutex::default() }
    }

    /// Whether a guest of `who` may begin there.
    pub(super) fn may(&self, who: &Namespace) -> bool {
        self.may_at(who, Instant::now())
    }

    fn may_at(&self, who: &Namespace, now: Instant) -> bool {
        let mut books = self.books();
        if !books.calls(who, now) {
            return true;
        }
        match books.used.get(who) {
            Some(used) => used.now(now, self.cores) < nanos(BURST),
            None => books.has_room(now, self.cores),
        }
    }

    /// Writes down what a step there took.
    pub(super) fn charge(&self, who: &Namespace, took: Duration) {
        self.charge_at(who, took, Instant::now());
    }

    fn charge_at(&self, who: &Namespace, took: Duration, now: Instant) {
        let mut books = self.books();
        let most = match books.has_others(who, now) {
            true => DEBT.saturating_mul(self.cores),
            false => BURST.saturating_mul(2),
        };
        let cores = self.cores;
        let after = |before: u64| Used { nanos: before.saturating_add(nanos(took)).min(nanos(most)), at: now };
        if let Some(used) = books.used.get_mut(who) {
            *used = after(used.now(now, cores));
        } else if books.has_room(now, cores) {
            books.used.insert(who.clone(), after(0));
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Whether anybody but `who` has called lately.
    fn has_others(&self, who: &Namespace, now: Instant) -> bool {
        let other = match &self.last {
            Some((last, at)) if last != who => Some(*at),
            _ => self.other,
        };
        other.is_some_and(|at| now.saturating_duration_since(at) < LATELY)
    }

    /// `who` calls. Returns whether anybody else has lately.
    fn calls(&mut self, who: &Namespace, now: Instant) -> bool {
        let others = self.has_others(who, now);
        match &mut self.last {
            Some((last, at)) if last == who => *at = now,
            last => {
                self.other = last.as_ref().map(|(_, at)| *at);
                *last = Some((who.clone(), now));
            }
        }
        others
    }

    /// Whether one more namespace can be remembered.
    fn has_room(&mut self, now: Instant, cores: u32) -> bool {
        let due = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_EVERY);
        if self.used.len() >= KNOWN_MAX && due {
            self.swept = Some(now);
            self.used.retain(|_, used| used.now(now, cores) > 0);
        }
        self.used.len() < KNOWN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    #[test]
    fn alone_there_is_no_allowance() {
        let (quick, acme, now) = (Quick::new(2), who("acme"), Instant::now());
        for _ in 0..1_000 {
            assert!(quick.may_at(&acme, now));
            quick.charge_at(&acme, Duration::from_millis(5), now);
        }
    }

    #[test]
    fn beside_others_it_is_so_much_and_comes_back_with_time() {
        let (quick, loud, quiet, now) = (Quick::new(2), who("loud"), who("quiet"), Instant::now());
        assert!(quick.may_at(&quiet, now));
        assert!(quick.may_at(&loud, now));
        quick.charge_at(&loud, BURST - Duration::from_nanos(1), now);
        assert!(quick.may_at(&loud, now), "a little is left");
        quick.charge_at(&loud, Duration::from_nanos(1), now);
        assert!(!quick.may_at(&loud, now), "nothing is left");
        assert!(quick.may_at(&quiet, now));
        // An eighth of a core: a sixteenth of two.
        let now = now + Duration::from_nanos(8);
        assert!(quick.may_at(&loud, now));
        quick.charge_at(&loud, Duration::from_secs(10), now);
        // Two ticks of each core, but for what it may save up, at an eighth of a core.
        let most = (DEBT * 2 - BURST) * 8;
        assert!(!quick.may_at(&loud, now + most));
        let now = now + most + Duration::from_nanos(8);
        assert!(quick.may_at(&quiet, now) && quick.may_at(&loud, now), "it owes no more");
    }

    #[test]
    fn what_was_used_alone_is_soon_forgiven_and_cores_owe_together() {
        let (quick, loud, quiet, now) = (Quick::new(64), who("loud"), who("quiet"), Instant::now());
        assert!(quick.may_at(&loud, now));
        quick.charge_at(&loud, Duration::from_secs(10), now);
        // Two bursts less the one that may be saved up, at four cores.
        let now = now + BURST / 4 + Duration::from_nanos(1);
        assert!(quick.may_at(&quiet, now) && quick.may_at(&loud, now));
        // As many guests as cores begin before the first of them is written down.
        for _ in 0..64 {
            quick.charge_at(&loud, TICK, now);
        }
        let part = TICK * 64 / 4 - BURST; // what is forgiven of it meanwhile is less than a burst
        assert!(!quick.may_at(&loud, now + part / 2), "all of it counts");
    }

    #[test]
    fn who_has_not_called_lately_counts_no_more() {
        let (quick, loud, quiet) = (Quick::new(1), who("loud"), who("quiet"));
        let mut now = Instant::now();
        assert!(quick.may_at(&quiet, now) && quick.may_at(&loud, now));
        for _ in 0..99 {
            quick.charge_at(&loud, Duration::from_secs(1), now);
            assert!(!quick.may_at(&loud, now));
            now += LATELY / 100;
        }
        now += LATELY / 100;
        quick.charge_at(&loud, Duration::from_secs(1), now);
        assert!(quick.may_at(&loud, now), "the other one was there ten seconds ago");
        assert!(quick.may_at(&quiet, now) && !quick.may_at(&loud, now), "and is there again");
    }

    #[test]
    fn a_million_namespaces_take_bounded_room() {
        let quick = Quick::new(2);
        for n in 0..10_000 {
            quick.charge(&who(&format!("n{n}")), Duration::from_millis(10));
        }
        assert!(quick.books().used.len() <= KNOWN_MAX);
    }

    #[test]
    fn who_cannot_be_remembered_has_no_allowance_until_there_is_room() {
        let (quick, now) = (Quick::new(2), Instant::now());
        for n in 0..KNOWN_MAX {
            assert!(quick.may_at(&who(&format!("n{n}")), now), "{n}");
            quick.charge_at(&who(&format!("n{n}")), Duration::from_millis(1), now);
        }
        assert!(!quick.may_at(&who("late"), now));
        assert!(quick.may_at(&who("n7"), now), "it is remembered");
        assert!(quick.may_at(&who("late"), now + Duration::from_secs(1)));
    }
}
