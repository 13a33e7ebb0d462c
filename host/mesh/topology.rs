//! Who serves what.

use super::ways::{Through, WAYS_MAX, Way, Ways};
use super::{Change, HOPS_MAX, Offer, Peer, PeerPolicy, Served};
use crate::domain::{CollectorId, Namespace};
use std::sync::Arc;

/// Services that are remembered of one peer; what it offers beyond that is passed over. 10,000: as many as one node is
/// measured with; about 5 MB.
pub const OFFERS_MAX: usize = 10_000;

/// Full names that a short one is said to mean. 16: it is ambiguous from two on, and nobody is told of more.
const MEANT_MAX: usize = 16;

/// A peer and what it offers.
pub(super) type Server = (Arc<Peer>, Arc<Offer>);

/// Everything known of linked peers. Never changes; a change makes another, which shares what is the same.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    peers: imbl::HashMap<CollectorId, Arc<Peer>>,
    /// Those with the shortest way first.
    services: imbl::HashMap<Served, Arc<[Server]>>,
    /// By the last segment of their names. Ordered sets: a peer may offer ten thousand that end alike, and take each back.
    short: imbl::HashMap<Served, imbl::OrdSet<Arc<str>>>,
    offers: imbl::HashMap<CollectorId, usize>,
    /// To collectors that are not linked.
    ways: Ways,
}

impl Topology {
    /// All linked peers.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values()
    }

    /// One of them.
    pub fn peer(&self, id: &CollectorId) -> Option<&Arc<Peer>> {
        self.peers.get(id)
    }

    /// Who serves the service with this full name, those with the shortest way first.
    pub fn servers(&self, what: &Served) -> &[(Arc<Peer>, Arc<Offer>)] {
        self.services.get(what).map_or(&[], |all| all)
    }

    /// Full names of the services that this last segment may mean, at most 16 of them.
    pub fn meant(&self, namespace: &Namespace, short: &str) -> Vec<Arc<str>> {
        let key = Served { namespace: namespace.clone(), service: short.into() };
        self.short.get(&key).into_iter().flatten().take(MEANT_MAX).cloned().collect()
    }

    /// What `asker` can reach through this collector: of each service the nearest that others have, with the collectors on
    /// the way, nearest first; and no way that leads over the asker, or further than calls go.
    ///
    /// * `seen`: namespaces that the asker may know of.
    pub fn beyond(
        &self,
        asker: &CollectorId,
        seen: impl Fn(&Namespace) -> bool,
    ) -> Vec<(Arc<Offer>, Vec<CollectorId>)> {
        let on_the_way = |peer: &Arc<Peer>, offer: &Arc<Offer>| peer.id == *asker || offer.through.contains(asker);
        let nearest = |(_, all): (&Served, &Arc<[Server]>)| {
            let (peer, offer) = all.iter().find(|(peer, offer)| !on_the_way(peer, offer))?;
            let through: Vec<_> = std::iter::once(&peer.id).chain(&offer.through).cloned().collect();
            (through.len() < HOPS_MAX).then(|| (Arc::clone(offer), through))
        };
        self.services.iter().filter(|(what, _)| seen(&what.namespace)).filter_map(nearest).collect()
    }

    /// Collectors that `asker` can reach through this one, whatever they serve: the ways behind this one, nearest first, the
    /// shortest ways first, and at most 1,000.
    ///
    /// * `policy`: this node's for the asker. It is told of those alone that something of its can be handed to.
    pub fn around(&self, asker: &CollectorId, policy: &PeerPolicy) -> Vec<Vec<CollectorId>> {
        let near = self.peers.values().filter(|peer| peer.id != *asker && peer.policy.meets(policy));
        let mut all: Vec<_> = near.map(|peer| vec![peer.id.clone()]).collect();
        all.extend(
            self.ways.beyond(asker, policy).filter(|way| !way.last().is_some_and(|id| self.peers.contains_key(id))),
        );
        all.sort_unstable_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
        all.truncate(WAYS_MAX);
        all
    }

    /// Ways to a collector that is not linked, the shortest first.
    pub(super) fn ways(&self, target: &CollectorId) -> &[Way] {
        self.ways.to(target)
    }

    pub(super) fn told(&self, peer: &Arc<Peer>, ways: &[Through]) -> Self {
        let mut next = self.clone();
        if self.has(peer) {
            next.ways.told(peer, ways);
        }
        next
    }

    pub(super) fn with(&self, peer: Arc<Peer>) -> Self {
        let mut next = match self.peers.get(&peer.id) {
            Some(old) => self.without(&Arc::clone(old)),
            None => self.clone(),
        };
        next.peers.insert(peer.id.clone(), peer);
        next
    }

    pub(super) fn without(&self, peer: &Arc<Peer>) -> Self {
        let mut next = self.clone();
        if !self.has(peer) {
            return next;
        }
        next.peers.remove(&peer.id);
        next.offers.remove(&peer.id);
        next.ways.forget(peer);
        let theirs: Vec<Served> = self
            .services
            .iter()
            .filter(|(_, all)| all.iter().any(|(one, _)| one.id == peer.id))
            .map(|(what, _)| what.clone())
            .collect();
        for what in theirs {
            next.remove(peer, &what);
        }
        next
    }

    pub(super) fn offered(&self, peer: &Arc<Peer>, changes: Vec<Change>) -> Self {
        let mut next = self.clone();
        if !self.has(peer) {
            return next;
        }
        for change in changes {
            match change {
                Change::Put(offer) => next.put(peer, offer),
                Change::Remove(what) => next.remove(peer, &what),
            }
        }
        next
    }

    /// Whether it is the peer's newest link.
    fn has(&self, peer: &Arc<Peer>) -> bool {
        self.peers.get(&peer.id).is_some_and(|known| Arc::ptr_eq(known, peer))
    }

    fn put(&mut self, peer: &Arc<Peer>, offer: Offer) {
        let what = offer.what.clone();
        self.remove(peer, &what);
        let count = self.offers.entry(peer.id.clone()).or_default();
        if *count >= OFFERS_MAX {
            return;
        }
        *count += 1;
        let mut all: Vec<_> = self.servers(&what).to_vec();
        let at = all.partition_point(|(_, one)| one.through.len() <= offer.through.len());
        // Peers that serve the same share one value: a hundredth of the memory, and it stays in the processor's cache.
        let known = all.iter().find(|(_, one)| **one == offer).map(|(_, one)| Arc::clone(one));
        all.insert(at, (Arc::clone(peer), known.unwrap_or_else(|| Arc::new(offer))));
        self.services.insert(what.clone(), all.into());
        self.short.entry(short(&what)).or_default().insert(what.service);
    }

    fn remove(&mut self, peer: &Arc<Peer>, what: &Served) {
        let all = self.servers(what);
        if !all.iter().any(|(one, _)| one.id == peer.id) {
            return;
        }
        let left: Arc<[_]> = all.iter().filter(|(one, _)| one.id != peer.id).cloned().collect();
        if let Some(count) = self.offers.get_mut(&peer.id) {
            *count = count.saturating_sub(1);
        }
        if !left.is_empty() {
            self.services.insert(what.clone(), left);
            return;
        }
        self.services.remove(what);
        let key = short(what);
        if let Some(names) = self.short.get_mut(&key) {
            names.remove(&what.service);
            if names.is_empty() {
                self.short.remove(&key);
            }
        }
    }
}

/// The same under the last segment of its name.
fn short(what: &Served) -> Served {
    let last = what.service.rsplit('.').next().unwrap_or_default();
    Served { namespace: what.namespace.clone(), service: last.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: &str) -> Arc<Peer> {
        Arc::new(Peer::new(id.parse().unwrap(), PeerPolicy::open()))
    }

    fn offer(service: &str, version: u32) -> Offer {
        let what = Served { namespace: "acme".parse().unwrap(), service: service.into() };
        Offer { what, version, digest: None, deployment: None, methods: Vec::new(), through: Vec::new() }
    }

    fn serving(topology: &Topology, service: &str) -> Vec<(String, u32)> {
        let all = topology.servers(&offer(service, 1).what).iter();
        all.map(|(peer, offer)| (peer.id.to_string(), offer.version)).collect()
    }

    #[test]
    fn offers_come_change_and_go_with_their_peer() {
        let (a, b) = (peer("a"), peer("b"));
        let topology = Topology::default().with(Arc::clone(&a)).with(Arc::clone(&b));
        let topology = topology.offered(&a, vec![Change::Put(offer("x.v1.S", 1)), Change::Put(offer("y.v1.S", 1))]);
        let topology = topology.offered(&b, vec![Change::Put(offer("x.v1.S", 1))]);
        let topology = topology.offered(&b, vec![Change::Put(offer("x.v1.S", 2))]);
        assert_eq!(serving(&topology, "x.v1.S"), [("a".into(), 1), ("b".into(), 2)]);
        assert_eq!(topology.meant(&"acme".parse().unwrap(), "S").len(), 2);
        let topology = topology.offered(&a, vec![Change::Remove(offer("y.v1.S", 1).what)]);
        assert_eq!(topology.meant(&"acme".parse().unwrap(), "S").len(), 1);
        let without = topology.without(&a);
        assert_eq!(serving(&without, "x.v1.S"), [("b".into(), 2)]);
        assert!(without.peer(&a.id).is_none() && topology.peer(&a.id).is_some());
        let none = without.without(&b);
        assert!(none.services.is_empty() && none.short.is_empty() && none.offers.is_empty());
    }

    #[test]
    fn an_older_link_changes_nothing_of_a_newer_one() {
        let (old, new) = (peer("a"), peer("a"));
        let topology = Topology::default().with(Arc::clone(&old));
        let topology = topology.offered(&old, vec![Change::Put(offer("x.v1.S", 1))]).with(Arc::clone(&new));
        assert!(serving(&topology, "x.v1.S").is_empty());
        let topology = topology.offered(&new, vec![Change::Put(offer("x.v1.S", 2))]);
        let topology = topology.without(&old).offered(&old, vec![Change::Put(offer("y.v1.S", 1))]);
        assert_eq!(serving(&topology, "x.v1.S"), [("a".into(), 2)]);
        assert!(serving(&topology, "y.v1.S").is_empty());
    }

    #[test]
    fn what_lies_beyond_is_told_with_its_way_and_never_to_those_on_it() {
        let (a, b) = (peer("a"), peer("b"));
        let far = |through: &[&str]| {
            let through = through.iter().map(|id| id.parse().unwrap()).collect();
            vec![Change::Put(Offer { through, ..offer("x.v1.S", 1) })]
        };
        let topology = Topology::default().with(Arc::clone(&a)).with(Arc::clone(&b));
        let topology = topology.offered(&a, far(&["c"])).offered(&b, far(&[]));
        assert_eq!(serving(&topology, "x.v1.S"), [("b".into(), 1), ("a".into(), 1)], "the nearest first");
        let ways = |asker: &str| {
            let all = topology.beyond(&asker.parse().unwrap(), |_| true);
            all.into_iter()
                .map(|(_, through)| through.iter().map(ToString::to_string).collect())
                .collect::<Vec<Vec<_>>>()
        };
        assert_eq!(ways("z"), [["b"]]);
        assert!(topology.beyond(&"z".parse().unwrap(), |namespace| namespace.as_str() == "rival").is_empty());
        assert_eq!(ways("b"), [["a", "c"]]);
        let topology = topology.without(&b).offered(&a, far(&["c", "d", "e"]));
        assert!(topology.beyond(&"z".parse().unwrap(), |_| true).is_empty(), "too far");
        assert!(topology.without(&a).beyond(&"z".parse().unwrap(), |_| true).is_empty());
    }

    #[test]
    fn collectors_behind_a_peer_are_told_on_to_those_who_may_reach_them() {
        let policy = |allows: &[&str]| {
            let allows = allows.iter().map(|text| text.parse().unwrap()).collect();
            Arc::new(PeerPolicy { address: "127.0.0.1:1".into(), identity: None, allows, name: None })
        };
        let linked = |id: &str, allows: &[&str]| Arc::new(Peer::new(id.parse().unwrap(), policy(allows)));
        let way = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect::<Through>();
        let (a, b) = (linked("a", &["acme:invoker"]), linked("b", &["*:reader"]));
        let topology = Topology::default().with(Arc::clone(&a)).with(Arc::clone(&b));
        let topology = topology.told(&a, &[way(&["c"]), way(&["c", "d"]), way(&["c", "d", "e"])]);
        let told = |topology: &Topology, asker: &str, allows: &[&str]| {
            let all = topology.around(&asker.parse().unwrap(), &policy(allows)).into_iter();
            all.map(|way| way.iter().map(ToString::to_string).collect::<Vec<_>>().join(">")).collect::<Vec<_>>()
        };
        assert_eq!(told(&topology, "z", &["*:invoker"]), ["a", "b", "a>c", "a>c>d"], "and not further than calls go");
        assert_eq!(told(&topology, "z", &["rival:invoker"]), ["b"], "nothing of its goes to the other");
        assert_eq!(told(&topology, "z", &[]), [""; 0]);
        assert_eq!(told(&topology, "a", &["*:invoker"]), ["b"], "no way leads back");
        assert_eq!(told(&topology, "c", &["*:invoker"]), ["a", "b"]);
        let topology = topology.told(&b, &[way(&["d"])]).told(&a, &[way(&["c"]), way(&["c", "d"])]);
        assert_eq!(told(&topology, "z", &["*:invoker"]), ["a", "b", "a>c", "b>d"], "the shortest of each");
        let topology = topology.with(linked("d", &["*:invoker"]));
        assert_eq!(told(&topology, "z", &["*:invoker"]), ["a", "b", "d", "a>c"], "a link is the shortest");
        let topology = topology.without(&b).told(&b, &[way(&["e"])]);
        assert!(topology.ways(&"e".parse().unwrap()).is_empty(), "of a link that is gone");
        assert!(topology.without(&a).ways.is_empty());
        let many: Vec<_> = (0..=WAYS_MAX).map(|n| way(&[&format!("n{n:04}")])).collect();
        let topology = topology.told(&a, &many);
        assert_eq!(topology.ways(&"n0999".parse().unwrap()).len(), 1);
        assert!(topology.ways(&"n1000".parse().unwrap()).is_empty());
        assert_eq!(topology.around(&"z".parse().unwrap(), &policy(&["*:invoker"])).len(), WAYS_MAX);
    }

    #[test]
    fn a_peer_that_offers_too_much_is_heard_up_to_a_point() {
        let a = peer("a");
        let many = (0..=OFFERS_MAX).map(|n| Change::Put(offer(&format!("x.v1.S{n}"), 1))).collect();
        let topology = Topology::default().with(Arc::clone(&a)).offered(&a, many);
        assert_eq!(topology.services.len(), OFFERS_MAX);
    }

    #[test]
    fn m06_services_that_end_alike_come_and_go_as_others_do() {
        let a = peer("a");
        let names = || (0..OFFERS_MAX).map(|n| format!("a{n}.S"));
        let put = names().map(|name| Change::Put(offer(&name, 1))).collect();
        let gone = names().skip(1).map(|name| Change::Remove(offer(&name, 1).what)).collect();
        let topology = Topology::default().with(Arc::clone(&a)).offered(&a, put);
        let meant = |topology: &Topology| topology.meant(&"acme".parse().unwrap(), "S");
        assert_eq!(meant(&topology).len(), MEANT_MAX);
        let topology = topology.offered(&a, gone);
        assert_eq!(meant(&topology), ["a0.S".into()]);
    }
}
