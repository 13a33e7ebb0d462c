//! Links that others have to this collector, as far as calls come over them: whose statements are good here.

use super::peers::{PeerPolicy, Peers};
use super::statement::{LINK_ID_BYTES, LINK_KEY_BYTES, ORIGIN_MAX, Signed};
use crate::domain::{CollectorId, Namespace};
use crate::tenancy::{Caller, Verbs};
use ring::hmac;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::time::Instant;

/// Milliseconds that a statement is good before and after it was made. 30 s: threats.md B11; clocks of one fleet differ by
/// less.
const GOOD_MS: u64 = 30_000;
/// Numbers behind the highest that may still come. 65,536: a hundred times what a link has under way; 8 KiB of bits.
const WINDOW: u64 = 65_536;
/// Collectors in a statement: where this one is the last that a call may visit, the first and those between.
const VISITED_MAX: usize = super::HOPS_MAX;

/// Links to this collector. Clones share them.
#[derive(Clone, Default)]
pub struct Inbound(Arc<RwLock<HashMap<[u8; LINK_ID_BYTES], Arc<Link>>>>);

/// One of them.
struct Link {
    terms: Terms,
    mac: hmac::Key,
    seen: Mutex<Seen>,
}

/// Whose link it is, and for how long its statements are good. Looked at with each of them: what becomes of the link's
/// stream is the peer's to say, who may just not read it.
#[derive(Debug, Clone)]
pub struct Terms {
    /// This collector's id.
    pub own: CollectorId,
    /// Who has the other end.
    pub peer: CollectorId,
    /// What it may do here: as long as the operator says exactly this.
    pub policy: Arc<PeerPolicy>,
    /// What the operator says now.
    pub peers: Peers,
    /// From then on it needs another link.
    pub until: Instant,
}

impl Terms {
    fn hold(&self) -> bool {
        let now = self.peers.find_by_address(&self.policy.address);
        now.is_some_and(|now| now == self.policy) && Instant::now() < self.until
    }
}

/// A call that a peer hands over, whose statement is good.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// Who hands it over.
    pub peer: CollectorId,
    /// Who called, and where.
    pub origin: Arc<str>,
    /// Collectors that it has passed, oldest first; `peer` is the last.
    pub visited: Vec<CollectorId>,
    policy: Arc<PeerPolicy>,
    namespace: Namespace,
    verbs: Verbs,
}

impl Forwarded {
    /// Who the call is by here.
    pub fn caller(&self) -> Caller {
        let who = (self.peer.clone(), Arc::clone(&self.origin));
        Caller::forwarded(who, self.policy.allows.clone(), (self.namespace.clone(), self.verbs))
    }
}

/// A statement that is not good, whatever is wrong with it: who guesses learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the statement of a forwarded call is not good")]
pub struct BadStatement;

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}

impl Inbound {
    /// Takes statements of a link from now on, until what it returns is dropped. A link of the same name before it ends.
    ///
    /// * `terms`: who has the other end, and what and how long it may.
    pub fn open(&self, link_id: [u8; LINK_ID_BYTES], key: [u8; LINK_KEY_BYTES], terms: Terms) -> InboundGuard {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let link = Arc::new(Link { terms, mac, seen: Mutex::default() });
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(link_id, Arc::clone(&link));
        InboundGuard { all: self.clone(), link_id, link }
    }

    /// Whether a statement is good for a request with this path, now and for the first time.
    pub fn check(&self, header: &str, path: &str) -> Result<Forwarded, BadStatement> {
        self.check_at(header, path, crate::domain::now() / 1_000)
    }

    fn check_at(&self, header: &str, path: &str, now: i64) -> Result<Forwarded, BadStatement> {
        let (signed, wire) = Signed::read(header).ok_or(BadStatement)?;
        let link_id = <[u8; LINK_ID_BYTES]>::try_from(wire.link_id.as_slice()).map_err(|_| BadStatement)?;
        let link = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&link_id).cloned();
        let link = link.ok_or(BadStatement)?;
        // Nothing that it says is believed before this.
        hmac::verify(&link.mac, &signed.statement, &signed.mac).map_err(|_| BadStatement)?;
        let is_long = wire.visited.len() > VISITED_MAX || wire.origin.len() > ORIGIN_MAX;
        if is_long || now.abs_diff(wire.issued_at) > GOOD_MS || wire.path != path || !link.terms.hold() {
            return Err(BadStatement);
        }
        let namespace = wire.namespace.parse().map_err(|_| BadStatement)?;
        let visited: Result<Vec<CollectorId>, _> = wire.visited.iter().map(|id| id.parse()).collect();
        let visited = visited.map_err(|_| BadStatement)?;
        let Terms { own, peer, policy, .. } = &link.terms;
        // Who hands it over cannot leave itself out, or calls would go in circles; nor does it send one back.
        if visited.last() != Some(peer) || visited.contains(own) || !link.seen().first_time(wire.number) {
            return Err(BadStatement);
        }
        Ok(Forwarded {
            peer: peer.clone(),
            origin: wire.origin.into(),
            visited,
            policy: Arc::clone(policy),
            namespace,
            verbs: Verbs::from_bits(wire.verbs),
        })
    }
}

impl Link {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes statements of a link while it lives.
pub struct InboundGuard {
    all: Inbound,
    link_id: [u8; LINK_ID_BYTES],
    link: Arc<Link>,
}

impl Drop for InboundGuard {
    fn drop(&mut self) {
        let mut all = self.all.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.link_id).is_some_and(|link| Arc::ptr_eq(link, &self.link)) {
            all.remove(&self.link_id);
        }
    }
}

/// Which numbers have come. Calls overtake each other, so they do not come in order.
struct Seen {
    highest: u64,
    /// Bit `n % WINDOW`: whether `n` has come, of those that are at most `WINDOW` behind the highest.
    bits: Box<[u64]>,
}

impl Default for Seen {
    fn default() -> Self {
        let words = usize::try_from(WINDOW / 64).unwrap_or(1);
        Self { highest: 0, bits: vec![0; words].into_boxed_slice() }
    }
}

impl Seen {
    /// Notes a number; whether it is one that has not come before.
    fn first_time(&mut self, number: u64) -> bool {
        if number == 0 || self.highest.saturating_sub(number) >= WINDOW {
            return false;
        }
        if number > self.highest {
            self.forget(self.highest + 1, number);
            self.highest = number;
        }
        if self.get(number) {
            return false;
        }
        self.set(number, true);
        true
    }

    /// Clears the places of these numbers, whole words of them at once: a peer may leap as far as it likes.
    fn forget(&mut self, mut from: u64, to: u64) {
        if to - from >= WINDOW {
            return self.bits.fill(0);
        }
        while from <= to {
            match from.is_multiple_of(64) && to - from >= 63 {
                true => {
                    if let Some(bits) = self.bits.get_mut(Self::place(from).0) {
                        *bits = 0;
                    }
                    from = from.saturating_add(64);
                }
                false => {
                    self.set(from, false);
                    let Some(next) = from.checked_add(1) else { return };
                    from = next;
                }
            }
        }
    }

    fn place(number: u64) -> (usize, u64) {
        let bit = number % WINDOW;
        (usize::try_from(bit / 64).unwrap_or_default(), 1 << (bit % 64))
    }

    fn get(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn set(&mut self, number: u64, to: bool) {
        let (word, bit) = Self::place(number);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits = if to { *bits | bit } else { *bits & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Ground, LinkKey, Statement};
    use super::*;
    use crate::tenancy::Verb;
    use std::time::Duration;

    const PATH: &str = "/a.v1.B/Get";
    const NOW: i64 = 1_800_000_000_000;

    fn statement() -> Statement {
        Statement {
            origin: "a/key:1".into(),
            namespace: "acme".parse().unwrap(),
            verbs: Verbs::those(|verb| verb == Verb::Invoke),
            path: PATH.into(),
            visited: vec!["a".parse().unwrap()],
        }
    }

    /// Those of a peer that may be one of two, by its operator's word.
    fn terms() -> Terms {
        let entry = |address: &str| Entry {
            address: address.into(),
            allows: vec!["acme:invoker".parse().unwrap()],
            ..Entry::default()
        };
        let ground = Ground { tls: false, authorities: false, certificate: false, asks: false, insecure: true };
        let peers = Peers::configured(&[entry("127.0.0.1:1"), entry("127.0.0.1:2")], ground);
        let policy = peers.find_by_address("127.0.0.1:1").unwrap();
        let (own, peer) = ("own".parse().unwrap(), "a".parse().unwrap());
        Terms { own, peer, policy, peers, until: Instant::now() + Duration::from_secs(60) }
    }

    fn linked() -> (Inbound, LinkKey, InboundGuard) {
        let (inbound, key) = (Inbound::default(), LinkKey::fresh().unwrap());
        let guard = inbound.open(*key.id(), *key.secret(), terms());
        (inbound, key, guard)
    }

    #[test]
    fn a_good_statement_says_who_calls() {
        let (inbound, key, _link) = linked();
        let said = inbound.check_at(&key.sign(&statement(), NOW), PATH, NOW).unwrap();
        assert_eq!((said.peer.as_str(), &*said.origin, said.visited.len()), ("a", "a/key:1", 1));
        assert_eq!(said.caller().principal().to_string(), "forwarded:a:a/key:1");
        assert!(!format!("{key:?}").contains(&hex::encode(key.secret())));
    }

    #[test]
    fn m03_replayed_altered_elsewhere_late_or_of_an_ended_link_is_refused() {
        let (inbound, key, link) = linked();
        let check = |header: &str, path: &str, now: i64| inbound.check_at(header, path, now).is_ok();
        let once = key.sign(&statement(), NOW);
        assert!(check(&once, PATH, NOW) && !check(&once, PATH, NOW), "replayed");
        assert!(!check(&key.sign(&statement(), NOW), "/a.v1.B/Put", NOW), "another path");
        let other = LinkKey::fresh().unwrap();
        assert!(!check(&other.sign(&statement(), NOW), PATH, NOW), "another link");
        for (at, good) in [(29_999, true), (30_000, true), (30_001, false), (-30_000, true), (-30_001, false)] {
            assert_eq!(check(&key.sign(&statement(), NOW), PATH, NOW + at), good, "{at} ms later");
        }
        for (visited, why) in [
            (&["b"][..], "not by its own hand"),
            (&[], "by nobody"),
            (&["own", "a"], "back"),
            (&["1", "2", "3", "4", "a"], "too far"),
        ] {
            let visited = visited.iter().map(|id| id.parse().unwrap()).collect();
            assert!(!check(&key.sign(&Statement { visited, ..statement() }, NOW), PATH, NOW), "{why}");
        }
        let far = ["1", "2", "3", "a"].map(|id| id.parse().unwrap()).to_vec();
        assert!(check(&key.sign(&Statement { visited: far, ..statement() }, NOW), PATH, NOW), "as far as calls go");
        let good = key.sign(&statement(), NOW);
        for at in 0..good.len() {
            let mut altered = good.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(!check(&altered, PATH, NOW), "byte {at}");
        }
        for nonsense in ["", "x", "AAAA", "\u{e4}", &"A".repeat(5_000)] {
            assert!(!check(nonsense, PATH, NOW));
        }
        assert!(check(&good, PATH, NOW), "what was tried with it did not use it up");
        drop(link);
        assert!(!check(&key.sign(&statement(), NOW), PATH, NOW), "the link is over");
    }

    #[test]
    fn a_newer_link_of_the_same_name_stays_when_the_older_ends() {
        let (inbound, key, old) = linked();
        let _new = inbound.open(*key.id(), *key.secret(), terms());
        drop(old);
        assert!(inbound.check_at(&key.sign(&statement(), NOW), PATH, NOW).is_ok());
    }

    #[test]
    fn m07_a_statement_is_good_as_long_as_the_link_may_last_and_the_operator_says_the_same() {
        let good = |terms: Terms| {
            let (inbound, key) = (Inbound::default(), LinkKey::fresh().unwrap());
            let _link = inbound.open(*key.id(), *key.secret(), terms);
            inbound.check_at(&key.sign(&statement(), NOW), PATH, NOW).is_ok()
        };
        let terms = terms();
        assert!(good(terms.clone()));
        let other = |change: &dyn Fn(&mut PeerPolicy)| {
            let mut policy = PeerPolicy::clone(&terms.policy);
            change(&mut policy);
            Terms { policy: Arc::new(policy), ..terms.clone() }
        };
        assert!(!good(other(&|policy| policy.address = "127.0.0.1:3".into())), "it was removed");
        assert!(!good(other(&|policy| policy.allows = vec!["acme:admin".parse().unwrap()])), "it was narrowed");
        assert!(!good(Terms { until: Instant::now(), ..terms }), "its time is up");
    }

    #[test]
    fn an_origin_is_as_long_as_one_is_signed_and_no_longer() {
        for (bytes, good) in [(ORIGIN_MAX, true), (ORIGIN_MAX + 1, false)] {
            let (inbound, key, _link) = linked();
            let header = key.sign_uncut(&Statement { origin: "x".repeat(bytes), ..statement() }, NOW);
            assert_eq!(inbound.check_at(&header, PATH, NOW).is_ok(), good, "{bytes}");
        }
    }

    #[test]
    fn numbers_come_once_in_any_order_within_the_window() {
        let mut seen = Seen::default();
        assert!(!seen.first_time(0));
        for number in [2, 1, 3, WINDOW] {
            assert!(seen.first_time(number) && !seen.first_time(number), "{number}");
        }
        assert!(seen.first_time(WINDOW + 4), "1 to 4 are behind now");
        assert!(!seen.first_time(4) && !seen.first_time(1));
        assert!(seen.first_time(5) && !seen.first_time(5));
        assert!(seen.first_time(10 * WINDOW), "a leap");
        assert!(seen.first_time(10 * WINDOW - 1) && !seen.first_time(10 * WINDOW));
        assert!(seen.first_time(9 * WINDOW + 1) && !seen.first_time(9 * WINDOW), "the oldest that still counts");
    }

    #[test]
    fn the_largest_numbers_are_numbers() {
        let mut seen = Seen::default();
        for number in [u64::MAX - 70_000, u64::MAX - 1, u64::MAX] {
            assert!(seen.first_time(number) && !seen.first_time(number), "{number}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_number_that_is_within_the_window_counts_once(leaps in proptest::collection::vec(1..80_000u64, 1..200)) {
            let (mut seen, mut number) = (Seen::default(), 0);
            for leap in leaps {
                number += leap;
                proptest::prop_assert!(seen.first_time(number) && !seen.first_time(number));
                let before = number - 1;
                // All between the two are new, as far back as the window.
                proptest::prop_assert_eq!(seen.first_time(before), leap > 1);
            }
        }

        #[test]
        fn no_number_counts_twice(numbers in proptest::collection::vec(0..200_000u64, 0..2_000)) {
            let (mut seen, mut taken) = (Seen::default(), std::collections::HashSet::new());
            for number in numbers {
                if seen.first_time(number) {
                    proptest::prop_assert!(taken.insert(number));
                }
            }
        }
    }
}
