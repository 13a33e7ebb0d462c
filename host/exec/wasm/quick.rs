//! Who may run guests on the threads of the network.
//!
//! That costs no hand-over, and is first in, first out: whoever calls a lot would have others wait behind all of it. So
//! where several namespaces call, each has an allowance there; what is beyond it runs on the fair lane. Where only one
//! calls nobody waits for it but itself.

use super::steps::nanos;
use crate::domain::Namespace;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Which part of the processor a namespace may use there: one in 16, of all cores together: a call in 2 ms on two cores.
const PART: u32 = 16;
/// What it may save up. 2 ms: what another's call may have to wait behind, once.
const BURST: Duration = Duration::from_millis(2);
/// How long a namespace counts as one that calls.
const LATELY: Duration = Duration::from_secs(10);
/// Namespaces that are remembered; beyond that those go whose allowance is whole. 1,024: about 100 KB.
const KNOWN_MAX: usize = 1_024;

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
        if !books.has_others(who, now) {
            return true;
        }
        let used = books.used.get(who).map_or(0, |used| used.now(now, self.cores));
        used < nanos(BURST)
    }

    /// Writes down what a step there took.
    pub(super) fn charge(&self, who: &Namespace, took: Duration) {
        self.charge_at(who, took, Instant::now());
    }

    fn charge_at(&self, who: &Namespace, took: Duration, now: Instant) {
        let mut books = self.books();
        if let Some(used) = books.used.get_mut(who) {
            // No more than two bursts: it is soon forgiven what was used while nobody else called.
            let nanos = used.now(now, self.cores).saturating_add(nanos(took)).min(2 * nanos(BURST));
            *used = Used { nanos, at: now };
            return;
        }
        if books.used.len() >= KNOWN_MAX {
            books.used.retain(|_, used| used.now(now, self.cores) > 0);
        }
        if books.used.len() < KNOWN_MAX {
            books.used.insert(who.clone(), Used { nanos: nanos(took), at: now });
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Whether anybody but `who` has called lately; `who` does now.
    fn has_others(&mut self, who: &Namespace, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < LATELY;
        match &mut self.last {
            Some((last, at)) if last == who => *at = now,
            last => {
                self.other = last.as_ref().map(|(_, at)| *at);
                *last = Some((who.clone(), now));
            }
        }
        self.other.is_some_and(lately)
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
        assert!(!quick.may_at(&loud, now + Duration::from_millis(16)));
        let now = now + Duration::from_nanos(16_000_008);
        assert!(quick.may_at(&quiet, now) && quick.may_at(&loud, now), "it owes two bursts at most");
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
}
