//! How many lines one place in the code, and one tenant through it, may write.
//!
//! Most of what is logged has a tenant's doing behind it: a guest's words, a trap, a connection that ends oddly. Each call
//! has its own bound (`limits.log_bytes`); this one is for all calls together, so that ten thousand a second do not fill a
//! disk, and do not hide what another tenant or the node has to say. What is left out is counted, and the count is logged
//! with the next line from there.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(1);
/// Lines of one place, for one namespace, in a window. 100: more than anybody reads; at 4 KiB each 400 KiB a second.
const OWN: u32 = 100;
/// Lines of one place for all namespaces together in a window. 1,000: ten busy ones.
const ALL: u32 = 1_000;
/// Pairs of place and namespace that are counted apart. 4,096: those beyond it count as one.
const PAIRS: usize = 4_096;
/// The target of lines about lines; they are as many as windows, so nothing limits them.
const ABOUT: &str = "collector::log";

/// Lets events through, or counts them.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<HashMap<Key, Count>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    place: Identifier,
    /// Of its namespace; `None` for all of them together.
    tenant: Option<u64>,
}

#[derive(Debug)]
struct Count {
    began: Instant,
    written: u32,
    left_out: u64,
}

impl Count {
    /// Whether one more may be written, and how many were not in the window before.
    fn one_more(&mut self, most: u32, now: Instant) -> (bool, u64) {
        let mut before = 0;
        if now.duration_since(self.began) >= WINDOW {
            before = std::mem::take(&mut self.left_out);
            (self.began, self.written) = (now, 0);
        }
        let fits = self.written < most;
        if fits {
            self.written += 1;
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        (fits, before)
    }
}

impl Limit {
    fn admit(&self, place: &Identifier, tenant: u64, now: Instant) -> (bool, u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Key { place: place.clone(), tenant: Some(tenant) };
        if counts.len() >= PAIRS && !counts.contains_key(&own) {
            counts.retain(|_, count| count.left_out > 0 || now.duration_since(count.began) < WINDOW);
        }
        let own = if counts.len() < PAIRS || counts.contains_key(&own) { own } else { Key { tenant: Some(0), ..own } };
        let all = Key { tenant: None, ..own.clone() };
        let fresh = || Count { began: now, written: 0, left_out: 0 };
        let (fits, before) = counts.entry(own).or_insert_with(fresh).one_more(OWN, now);
        if !fits {
            return (false, before);
        }
        let (fits, of_all) = counts.entry(all).or_insert_with(fresh).one_more(ALL, now);
        (fits, before.saturating_add(of_all))
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        if about.target() == ABOUT {
            return true;
        }
        let mut tenant = Tenant(DefaultHasher::new());
        event.record(&mut tenant);
        let (fits, left_out) = self.admit(&about.callsite(), tenant.0.finish(), Instant::now());
        if left_out > 0 {
            tracing::warn!(target: ABOUT, left_out, of = about.target(), "lines like this one were left out");
        }
        fits
    }
}

/// Finds an event's namespace.
struct Tenant(DefaultHasher);

impl Visit for Tenant {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "namespace" {
            value.hash(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "namespace" {
            let mut text = String::new();
            let _ = write!(text, "{value:?}");
            text.hash(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Site;

    static SITE: Site = Site;

    impl tracing::callsite::Callsite for Site {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &tracing::Metadata<'_> {
            panic!("nobody asks")
        }
    }

    #[test]
    fn r11_what_is_left_out_is_counted_and_others_are_heard() {
        let (limit, place, began) = (Limit::default(), Identifier(&SITE), Instant::now());
        for _ in 0..OWN {
            assert_eq!(limit.admit(&place, 1, began), (true, 0));
        }
        for _ in 0..10_000 {
            assert_eq!(limit.admit(&place, 1, began), (false, 0));
        }
        assert_eq!(limit.admit(&place, 2, began), (true, 0), "another namespace");
        assert_eq!(limit.admit(&place, 1, began + WINDOW), (true, 10_000));
        assert_eq!(limit.admit(&place, 1, began + WINDOW), (true, 0));
    }

    #[test]
    fn r11_many_namespaces_share_a_bound_and_cost_bounded_memory() {
        let (limit, place, began) = (Limit::default(), Identifier(&SITE), Instant::now());
        let written = (0..100_000).filter(|tenant| limit.admit(&place, *tenant, began).0).count();
        assert_eq!(written, usize::try_from(ALL).unwrap());
        assert!(limit.0.lock().unwrap().len() <= PAIRS + 2);
    }
}
