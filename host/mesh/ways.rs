//! Ways to collectors that this one has no link to, as its peers tell of them.

use super::{HOPS_MAX, Peer, PeerPolicy};
use crate::domain::CollectorId;
use std::sync::Arc;

/// Collectors that one peer tells of; beyond that they are passed over. 1,000: ten times the peers that one may have;
/// 200 KB of names at most, in one event.
pub const WAYS_MAX: usize = 1_000;

/// Collectors behind a peer, nearest first; the last is the one that the way leads to.
pub type Through = Arc<[CollectorId]>;

/// A way, and the peer that it begins with.
pub(super) type Way = (Arc<Peer>, Through);

/// All of them, by where they lead.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways(imbl::HashMap<CollectorId, Arc<[Way]>>);

impl Ways {
    /// Those to one collector, the shortest first.
    pub(super) fn to(&self, target: &CollectorId) -> &[Way] {
        self.0.get(target).map_or(&[], |all| all)
    }

    /// Whether there are none.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A peer tells of these now, and of no others.
    pub(super) fn told(&mut self, peer: &Arc<Peer>, all: &[Through]) {
        self.forget(peer);
        for through in all.iter().take(WAYS_MAX) {
            let Some(target) = through.last() else { continue };
            let mut ways = self.to(target).to_vec();
            let at = ways.partition_point(|(_, one)| one.len() <= through.len());
            ways.insert(at, (Arc::clone(peer), Arc::clone(through)));
            self.0.insert(target.clone(), ways.into());
        }
    }

    /// What a peer told of is gone.
    pub(super) fn forget(&mut self, peer: &Peer) {
        let theirs = |way: &Way| way.0.id == peer.id;
        let told = self.0.iter().filter(|(_, all)| all.iter().any(theirs));
        let told: Vec<_> = told.map(|(target, all)| (target.clone(), Arc::clone(all))).collect();
        for (target, all) in told {
            let left: Arc<[Way]> = all.iter().filter(|way| !theirs(way)).cloned().collect();
            match left.is_empty() {
                true => self.0.remove(&target),
                false => self.0.insert(target, left),
            };
        }
    }

    /// Of each collector the shortest way that a peer can be told of: none over itself, none longer than calls go, and none
    /// that begins with a collector to which nothing of that peer's is handed.
    pub(super) fn beyond(&self, asker: &CollectorId, policy: &PeerPolicy) -> impl Iterator<Item = Vec<CollectorId>> {
        let fits = move |(peer, through): &&Way| {
            peer.id != *asker && !through.contains(asker) && through.len() + 1 < HOPS_MAX && peer.policy.meets(policy)
        };
        let nearest = self.0.values().filter_map(move |all| all.iter().find(fits));
        nearest.map(|(peer, through)| std::iter::once(&peer.id).chain(through.iter()).cloned().collect())
    }
}
