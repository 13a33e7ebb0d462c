//! How many refusals are worth a line.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines of one caller in a window. 10: what somebody does who tries one thing after another; more is a program.
const OWN: u32 = 10;
/// Lines of all callers in a window. 200: with them all day long the files that are kept last for weeks.
const ALL: u32 = 200;
/// Callers that are counted apart. 1,024: those beyond it are counted as one.
const CALLERS: usize = 1_024;
/// Whom those are counted as.
const OTHERS: &str = "(others)";

#[derive(Debug, Default)]
pub(super) struct Denials {
    began: Option<Instant>,
    written: u32,
    callers: HashMap<String, Count>,
}

#[derive(Debug, Default)]
struct Count {
    written: u32,
    left_out: u64,
}

/// What is to be done with one refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It gets a line.
    Write {
        /// And says how many before it got none.
        left_out: u64,
    },
    /// It is counted.
    Count,
}

impl Denials {
    pub(super) fn count(&mut self, who: String, now: Instant) -> Verdict {
        self.roll(now);
        let known = self.callers.contains_key(&who) || self.callers.len() < CALLERS;
        let count = self.callers.entry(if known { who } else { OTHERS.to_owned() }).or_default();
        if count.written >= OWN || self.written >= ALL {
            count.left_out = count.left_out.saturating_add(1);
            return Verdict::Count;
        }
        count.written += 1;
        self.written += 1;
        Verdict::Write { left_out: std::mem::take(&mut count.left_out) }
    }

    /// Those of a window that is over and whose last refusals got no line.
    ///
    /// * `all`: the log ends now, so every window is over.
    pub(super) fn stale(&mut self, all: bool, now: Instant) -> Vec<(String, u64)> {
        if !all && self.began.is_none_or(|began| now.duration_since(began) < WINDOW) {
            return Vec::new();
        }
        (self.began, self.written) = (None, 0);
        let left = |(who, count): (String, Count)| (count.left_out > 0).then_some((who, count.left_out));
        self.callers.drain().filter_map(left).take(ALL as usize).collect()
    }

    /// Begins a window. What the one before left out stays, for the next line of its caller.
    fn roll(&mut self, now: Instant) {
        if self.began.is_some_and(|began| now.duration_since(began) < WINDOW) {
            return;
        }
        (self.began, self.written) = (Some(now), 0);
        self.callers.retain(|_, count| count.left_out > 0);
        self.callers.values_mut().for_each(|count| count.written = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_and_a_number() {
        let (mut denials, began) = (Denials::default(), Instant::now());
        for _ in 0..OWN {
            assert_eq!(denials.count("mallory".into(), began), Verdict::Write { left_out: 0 });
        }
        for _ in 0..1_000 {
            assert_eq!(denials.count("mallory".into(), began), Verdict::Count);
        }
        assert_eq!(denials.count("alice".into(), began), Verdict::Write { left_out: 0 }, "others are heard");
        assert_eq!(denials.stale(false, began), [], "its window goes on");
        let second = began + WINDOW;
        assert_eq!(denials.count("mallory".into(), second), Verdict::Write { left_out: 1_000 });
        let third = second + WINDOW;
        for _ in 0..OWN + 3 {
            denials.count("mallory".into(), third);
        }
        assert_eq!(denials.stale(false, third + WINDOW), [("mallory".into(), 3)]);
        assert_eq!(denials.stale(true, third + WINDOW), []);
    }

    #[test]
    fn a_million_callers_cost_no_more_memory_than_a_thousand() {
        let (mut denials, now) = (Denials::default(), Instant::now());
        for n in 0..10_000 {
            denials.count(n.to_string(), now);
        }
        assert_eq!((denials.callers.len(), denials.written), (CALLERS + 1, ALL));
        let left = u64::try_from(10_000).unwrap() - u64::from(ALL);
        let counted: u64 = denials.callers.values().map(|count| count.left_out).sum();
        assert_eq!(counted, left, "none is lost");
    }
}
