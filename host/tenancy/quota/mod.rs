//! Quotas: how much each namespace, and each caller in all namespaces together, may use.
//!
//! ```text
//! request -> the peer's account, if one hands it over -> the caller's (once) -> the namespace's (once) <- what runs
//! ```
//! A request holds its place in both until its answer is sent: [`super::Caller`] carries it. Asking costs a few atomics
//! and takes no lock. What is remembered is bounded: accounts that nobody uses go, and in a flood of names the new ones
//! share one.

mod config;
mod debt;
mod space;

pub use config::{BadQuota, Config, Quota};
pub use space::Usage;

use super::caller::Identity;
use crate::domain::{Account, Accounts, Ceiling, CollectorId, Exceeded, KeptFiles, Namespace, Scope};
use arc_swap::ArcSwap;
use space::{Held, Space};
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// How long an account that nobody uses is remembered at least, when there is no room for more. 10 s: by then every
/// limit on calls has forgotten as well.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How often room is looked for at most. 1 s: a flood of names costs one pass a second.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What differs from the configuration's quota, by name.
pub type Overrides = BTreeMap<String, u64>;

/// All accounts of a node.
#[derive(Debug)]
pub struct Quotas {
    config: Config,
    spaces: Book<Namespace>,
    callers: Book<Identity>,
    peers: Book<CollectorId>,
    overrides: ArcSwap<imbl::HashMap<Namespace, Quota>>,
    /// What files namespaces keep: only those that keep any, so no more entries than folders on the disk.
    files: ArcSwap<imbl::HashMap<Namespace, KeptFiles>>,
}

/// One request under way: its caller's place, and its place in the first namespace that it asked for.
#[derive(Debug)]
pub(super) struct Visit {
    peer: Option<Held>,
    caller: Held,
    first: OnceLock<(Namespace, Held)>,
}

/// A place in one more namespace.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held, not read")] Held);

impl Default for Quotas {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Quotas {
    /// Of a node whose namespaces have no quotas of their own yet.
    pub fn new(config: Config) -> Self {
        Self {
            spaces: Book::new(Scope::Namespace, config.namespace.clone(), config.accounts),
            callers: Book::new(Scope::Caller, Quota::from(&config.caller), config.accounts),
            peers: Book::new(Scope::Peer, Quota::from(&config.peer), config.accounts),
            overrides: ArcSwap::default(),
            files: ArcSwap::default(),
            config,
        }
    }

    /// What a namespace may use.
    pub fn quota(&self, namespace: &Namespace) -> Quota {
        self.overrides.load().get(namespace).cloned().unwrap_or_else(|| self.config.namespace.clone())
    }

    /// What a namespace uses.
    pub fn usage(&self, namespace: &Namespace) -> Usage {
        self.spaces.find(namespace).map(|space| space.usage()).unwrap_or_default()
    }

    /// What files a namespace keeps.
    pub fn files(&self, namespace: &Namespace) -> KeptFiles {
        self.files.load().get(namespace).copied().unwrap_or_default()
    }

    /// The quota that overrides make.
    ///
    /// * errors: an unknown name, a number out of range.
    pub(super) fn worked_out(&self, overrides: &Overrides) -> Result<Quota, BadQuota> {
        self.config.namespace.with(overrides)
    }

    /// From now on a namespace may use this.
    pub(super) fn set(&self, namespace: &Namespace, quota: Quota) {
        self.overrides.rcu(|all| all.update(namespace.clone(), quota.clone()));
        if let Some(space) = self.spaces.find(namespace) {
            space.set(quota);
        }
    }

    /// A caller makes a request.
    ///
    /// * `peer`: that hands it over: who its callers are is its own word, so all of them together have a quota too.
    pub(super) fn enter(&self, who: &Identity, peer: Option<&CollectorId>) -> Result<Visit, Exceeded> {
        let peer = peer.map(|peer| self.peers.of(peer, || self.peers.usual.clone()).enter()).transpose()?;
        let caller = self.callers.of(who, || self.callers.usual.clone()).enter()?;
        Ok(Visit { peer, caller, first: OnceLock::new() })
    }

    /// A request wants something in a namespace: counted once per request and namespace.
    pub(super) fn admit(&self, visit: Option<&Visit>, namespace: &Namespace) -> Result<Option<Place>, Exceeded> {
        if *namespace == Namespace::system() || visit.is_some_and(|visit| visit.is_in(namespace)) {
            return Ok(None);
        }
        let held = self.space(namespace).enter()?;
        let Some(visit) = visit else { return Ok(Some(Place(held))) };
        Ok(visit.first.set((namespace.clone(), held)).err().map(|(_, held)| Place(held)))
    }

    /// Code that runs in a namespace wants something there: as often as callers may, in the place that it has.
    pub(super) fn admit_again(&self, namespace: &Namespace) -> Result<(), Exceeded> {
        self.space(namespace).count()
    }

    fn space(&self, namespace: &Namespace) -> Arc<Space> {
        self.spaces.of(namespace, || self.quota(namespace))
    }
}

impl Visit {
    /// The first namespace that it was let into.
    pub(super) fn first(&self) -> Option<&Namespace> {
        self.first.get().map(|(first, _)| first)
    }

    /// Who pays for what runs for it, beside the namespace: the caller, or the peer that hands it over. Not that one's
    /// callers: who they are is its word, they share a few accounts, and one would pay for what another had run.
    pub(super) fn payer(&self) -> Arc<dyn Account> {
        self.peer.as_ref().unwrap_or(&self.caller).account()
    }

    fn is_in(&self, namespace: &Namespace) -> bool {
        self.first() == Some(namespace)
    }
}

impl Accounts for Quotas {
    fn of(&self, namespace: &Namespace) -> Arc<dyn Account> {
        self.space(namespace)
    }

    fn room(&self, namespace: &Namespace) -> Ceiling {
        Ceiling { files: self.files(namespace), ..self.space(namespace).ceiling() }
    }

    fn keeps(&self, namespace: &Namespace, files: KeptFiles) {
        self.files.rcu(|all| match files == KeptFiles::default() {
            true => all.without(namespace),
            false => all.update(namespace.clone(), files),
        });
    }
}

/// Accounts by name, at most so many.
#[derive(Debug)]
struct Book<K> {
    scope: Scope,
    usual: Quota,
    most: usize,
    all: ArcSwap<imbl::HashMap<K, Arc<Space>>>,
    /// Of those for whom there is no room.
    crowd: Arc<Space>,
    began: Instant,
    /// When room was last looked for, in milliseconds after `began`, and one more.
    swept: AtomicU64,
}

impl<K: Clone + Eq + Hash> Book<K> {
    fn new(scope: Scope, usual: Quota, most: usize) -> Self {
        let crowd = Arc::new(Space::new(scope, usual.clone()));
        Self { scope, usual, most, all: ArcSwap::default(), crowd, began: Instant::now(), swept: AtomicU64::new(0) }
    }

    fn find(&self, key: &K) -> Option<Arc<Space>> {
        self.all.load().get(key).cloned()
    }

    /// The account, made if there is none.
    fn of(&self, key: &K, quota: impl FnOnce() -> Quota) -> Arc<Space> {
        if let Some(space) = self.find(key) {
            return space;
        }
        if self.all.load().len() >= self.most && !self.sweep() {
            return Arc::clone(&self.crowd);
        }
        let made = Arc::new(Space::new(self.scope, quota()));
        // Another thread may have been first: its account is the one.
        self.all.rcu(|all| match all.contains_key(key) {
            true => (**all).clone(),
            false => all.update(key.clone(), Arc::clone(&made)),
        });
        self.find(key).unwrap_or(made)
    }

    /// Forgets accounts that nobody uses. Returns whether there is room.
    fn sweep(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let last = self.swept.load(Ordering::Relaxed);
        let pause = u64::try_from(SWEEP_PAUSE.as_millis()).unwrap_or(u64::MAX);
        if last > 0 && now.saturating_sub(last) < pause {
            return false;
        }
        if self.swept.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false; // another thread is at it
        }
        self.forget(REMEMBERED);
        self.all.load().len() < self.most
    }

    /// Forgets those that nobody has used for so long.
    fn forget(&self, patience: Duration) {
        self.all.rcu(|all| {
            let mut kept = (**all).clone();
            kept.retain(|_, space| !space.is_idle(patience));
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Charge;

    fn name(text: &str) -> Namespace {
        text.parse().unwrap()
    }

    fn quotas(change: impl FnOnce(&mut Config)) -> Quotas {
        let mut config = Config::default();
        change(&mut config);
        Quotas::new(config)
    }

    /// What may have begun since: all of a second at once, and what time has given since.
    fn within(rate: usize, began: Instant) -> usize {
        rate + 1 + rate * usize::try_from(began.elapsed().as_millis()).unwrap() / 1_000
    }

    #[test]
    fn a_request_counts_once_in_a_namespace_and_holds_its_place() {
        let quotas = quotas(|config| config.namespace.concurrent_calls = 1);
        let visit = quotas.enter(&Identity::Anonymous, None).unwrap();
        for _ in 0..3 {
            assert!(quotas.admit(Some(&visit), &name("acme")).unwrap().is_none());
        }
        let other = quotas.enter(&Identity::Anonymous, None).unwrap();
        assert_eq!(quotas.admit(Some(&other), &name("acme")).unwrap_err().quota, "concurrent_calls");
        assert!(quotas.admit(Some(&other), &name("globex")).unwrap().is_none());
        let beside = quotas.admit(Some(&visit), &name("initech")).unwrap();
        assert!(beside.is_some(), "a second namespace is held by the permit");
        drop(visit);
        assert!(quotas.admit(Some(&other), &name("acme")).is_ok());
        assert_eq!(quotas.usage(&name("acme")).calls, 2);
    }

    #[test]
    fn code_asks_in_the_place_of_its_call_but_not_without_end() {
        let quotas = quotas(|config| {
            config.namespace.concurrent_calls = 1;
            config.namespace.calls_per_second = 3;
        });
        let visit = quotas.enter(&Identity::Anonymous, None).unwrap();
        quotas.admit(Some(&visit), &name("acme")).unwrap();
        let began = Instant::now();
        let asked = || quotas.admit_again(&name("acme")).map_err(|over| over.quota);
        let made = (0..100).filter(|_| asked().is_ok()).count();
        assert!(made >= 2 && made <= within(3, began), "{made}");
        let refused = (0..100).find_map(|_| asked().err());
        assert_eq!(refused, Some("calls_per_second"));
    }

    #[test]
    fn u05_one_caller_over_a_thousand_namespaces_has_one_callers_quota() {
        let quotas = quotas(|config| config.caller.calls_per_second = 100);
        let began = Instant::now();
        let made = (0..1_000).filter(|n| {
            let visit = quotas.enter(&Identity::Anonymous, None);
            visit.is_ok_and(|visit| quotas.admit(Some(&visit), &name(&format!("n{n}"))).is_ok())
        });
        let made = made.count();
        assert!(made >= 100 && made <= within(100, began), "{made}");
    }

    #[test]
    fn m02_a_peer_has_one_quota_whoever_it_says_that_calls() {
        let quotas = quotas(|config| config.peer.concurrent_calls = 2);
        let (b, c): (CollectorId, CollectorId) = ("b".parse().unwrap(), "c".parse().unwrap());
        let enter = |peer: &CollectorId, n: u64| quotas.enter(&Identity::Afar(peer.clone(), n), Some(peer));
        let (first, _second) = (enter(&b, 1).unwrap(), enter(&b, 2).unwrap());
        let refused = enter(&b, 3).unwrap_err();
        assert_eq!((refused.quota, refused.scope), ("concurrent_calls", Scope::Peer));
        assert!(enter(&c, 3).is_ok() && quotas.enter(&Identity::Anonymous, None).is_ok());
        drop(first);
        assert!(enter(&b, 3).is_ok());
    }

    #[test]
    fn m02_a_peer_pays_for_what_runs_for_those_who_call_it() {
        let quotas = quotas(|config| (config.caller.memory_mib, config.peer.memory_mib) = (1, 2));
        let b: CollectorId = "b".parse().unwrap();
        // The same caller, as far as its collector says.
        let enter = || quotas.enter(&Identity::Afar(b.clone(), 1), Some(&b)).unwrap();
        let (one, other) = (enter(), enter());
        assert!(one.payer().take_memory(2 << 20).is_ok(), "at the peer's, above a caller's");
        assert_eq!(other.payer().take_memory(1).unwrap_err().scope, Scope::Peer);
        one.payer().charge_time(Charge::Egress, Duration::from_secs(3_600));
        assert_eq!(other.payer().over(Charge::Egress).unwrap().scope, Scope::Peer);
        assert_eq!(other.payer().far_over(Charge::Egress), None, "others' calls go on");
        let here = quotas.enter(&Identity::Anonymous, None).unwrap();
        assert_eq!(here.payer().take_memory((1 << 20) + 1).unwrap_err().scope, Scope::Caller);
        assert!(here.payer().take_memory(1 << 20).is_ok());
    }

    #[test]
    fn a_flood_of_names_shares_one_account_and_is_forgotten() {
        let quotas = quotas(|config| {
            config.accounts = 4;
            config.namespace.concurrent_calls = 1;
        });
        let held: Vec<_> = (0..5).map(|n| quotas.admit(None, &name(&format!("n{n}")))).collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(quotas.admit(None, &name("n5")).is_err(), "it shares the account of the fifth");
        assert_eq!(quotas.spaces.all.load().len(), 4);
        quotas.spaces.forget(Duration::ZERO);
        assert_eq!(quotas.spaces.all.load().len(), 4, "who is used is not forgotten");
        let debtor = quotas.of(&name("n0"));
        debtor.begin();
        drop(held);
        quotas.spaces.forget(Duration::ZERO);
        assert_eq!(quotas.spaces.all.load().len(), 1, "nor who is still to be charged");
        debtor.charge_time(Charge::Compile, Duration::from_secs(3_600));
        debtor.end();
        quotas.spaces.forget(Duration::ZERO);
        assert!(quotas.of(&name("n0")).over(Charge::Compile).is_some(), "nor who owes");
        quotas.spaces.forget(Duration::ZERO);
        assert!(quotas.admit(None, &name("n5")).is_ok());
        assert_eq!(quotas.spaces.all.load().len(), 2, "those that nobody used are gone");
    }

    #[test]
    fn files_and_records_share_a_ceiling() {
        let quotas = quotas(|config| {
            config.namespace.stored_records = 10;
            config.namespace.stored_mib = 1;
        });
        let acme = name("acme");
        quotas.keeps(&acme, KeptFiles { count: 4, bytes: 1 << 19 });
        let ceiling = quotas.room(&acme);
        assert_eq!(ceiling.over(6, 1 << 19, true), None, "at");
        assert_eq!(ceiling.over(7, 0, true).unwrap().quota, "stored_records");
        assert_eq!(ceiling.over(7, 0, false), None, "no more than there are");
        assert_eq!(ceiling.over(0, (1 << 19) + 1, false).unwrap().quota, "stored_mib");
        assert_eq!(quotas.room(&name("globex")).files, KeptFiles::default());
        quotas.keeps(&acme, KeptFiles::default());
        assert!(quotas.files.load().is_empty(), "who keeps nothing is not remembered");
    }

    #[test]
    fn what_is_set_holds_at_once() {
        let quotas = quotas(|_| ());
        let first = quotas.admit(None, &name("acme")).unwrap();
        let quota = quotas.worked_out(&BTreeMap::from([("concurrent_calls".to_owned(), 1)])).unwrap();
        quotas.set(&name("acme"), quota);
        assert!(quotas.admit(None, &name("acme")).is_err());
        drop(first);
        assert!(quotas.admit(None, &name("acme")).is_ok());
        assert_eq!(quotas.quota(&name("acme")).concurrent_calls, 1);
    }
}
