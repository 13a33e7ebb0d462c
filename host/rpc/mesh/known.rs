//! What a peer offers over one link, as far as this node takes it.

use crate::domain::{CollectorId, Digest, MethodName, Namespace, ServiceName};
use crate::mesh::{Change, HOPS_MAX, OFFERS_MAX, Offer, OfferedMethod, PeerPolicy, Served, Through, WAYS_MAX};
use crate::rpc::builtin::is_built_in;
use crate::rpc::pb::mesh::v1 as pb;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Methods that are remembered of one peer's services. 100,000: ten for each; some 10 MB. A service beyond that is passed
/// over.
const METHODS_MAX: usize = 100_000;
/// Namespaces beyond its policy that a peer is told off for. 16: after that it is known for it.
pub(super) const BEYOND_MAX: usize = 16;

/// Offers of one link.
pub(super) struct Known {
    policy: Arc<PeerPolicy>,
    all: HashMap<Served, Offer>,
    methods: usize,
    beyond: BTreeSet<Namespace>,
    ways: Vec<Through>,
}

impl Known {
    /// * `policy`: of this node for the peer.
    pub(super) fn new(policy: Arc<PeerPolicy>) -> Self {
        Self { policy, all: HashMap::new(), methods: 0, beyond: BTreeSet::new(), ways: Vec::new() }
    }

    /// How many services.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Namespaces that it offered something in and has no business in; some of them.
    pub(super) fn beyond(&self) -> &BTreeSet<Namespace> {
        &self.beyond
    }

    /// Ways to collectors behind the peer.
    pub(super) fn ways(&self) -> &[Through] {
        &self.ways
    }

    /// Takes what the peer says of collectors behind it, and says whether that is new.
    ///
    /// * errors: what makes no sense in it; a peer that says such things is none.
    pub(super) fn around(&mut self, said: pb::Around) -> Result<bool, String> {
        let (mut ways, mut targets) = (Vec::new(), BTreeSet::new());
        for way in said.ways.into_iter().take(WAYS_MAX) {
            let through = way_of(&way.through)?;
            let target = through.last().ok_or("a way that leads nowhere")?;
            // The first is the shortest.
            if targets.insert(target.clone()) {
                ways.push(Through::from(through));
            }
        }
        let is_new = self.ways != ways;
        self.ways = ways;
        Ok(is_new)
    }

    /// Takes what the peer says, and says what is new.
    ///
    /// * errors: what makes no sense in it; a peer that says such things is none.
    pub(super) fn take(&mut self, said: pb::Offers) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        for gone in said.removed {
            let what = served(Some(gone))?;
            if let Some(gone) = self.all.remove(&what) {
                self.methods -= gone.methods.len();
                changes.push(Change::Remove(what));
            }
        }
        for offer in said.put {
            let offer = parse(offer)?;
            if !self.is_wanted(&offer) {
                // What it was before must not stay.
                if let Some(gone) = self.all.remove(&offer.what) {
                    self.methods -= gone.methods.len();
                    changes.push(Change::Remove(offer.what));
                }
                continue;
            }
            // Nothing new: nobody has to work for it.
            if self.all.get(&offer.what) == Some(&offer) {
                continue;
            }
            self.methods += offer.methods.len();
            if let Some(before) = self.all.insert(offer.what.clone(), offer.clone()) {
                self.methods -= before.methods.len();
            }
            changes.push(Change::Put(offer));
        }
        Ok(changes)
    }

    fn is_wanted(&mut self, offer: &Offer) -> bool {
        let namespace = &offer.what.namespace;
        if !self.policy.shares(namespace) {
            if self.beyond.len() < BEYOND_MAX {
                self.beyond.insert(namespace.clone());
            }
            return false;
        }
        let before = self.all.get(&offer.what);
        let others = self.methods - before.map_or(0, |before| before.methods.len());
        let fits = self.all.len() < OFFERS_MAX || before.is_some();
        // The node's own services are its own.
        fits && others + offer.methods.len() <= METHODS_MAX && !is_built_in(&offer.what.service)
    }

    /// All of it as changes to nothing.
    pub(super) fn all(&self) -> Vec<Change> {
        self.all.values().cloned().map(Change::Put).collect()
    }

    /// What leads from this to `other`.
    pub(super) fn changes_to(&self, other: &Self) -> Vec<Change> {
        let gone = self.all.keys().filter(|what| !other.all.contains_key(*what)).cloned().map(Change::Remove);
        let new = other.all.values().filter(|offer| self.all.get(&offer.what) != Some(offer));
        gone.chain(new.cloned().map(Change::Put)).collect()
    }
}

fn served(said: Option<pb::Served>) -> Result<Served, String> {
    let pb::Served { namespace, service } = said.ok_or("an offer without a name")?;
    let namespace = namespace.parse().map_err(|_| "a namespace that is none")?;
    let service: ServiceName = service.parse().map_err(|_| "a service that is none")?;
    Ok(Served { namespace, service: service.as_str().into() })
}

fn parse(offer: pb::Offer) -> Result<Offer, String> {
    let what = served(offer.served)?;
    let digest = match offer.digest.as_str() {
        "" => None,
        text => {
            let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse::<Digest>().ok());
            Some(digest.ok_or("a digest that is none")?)
        }
    };
    let method = |method: pb::OfferedMethod| {
        let name: MethodName = method.name.parse().map_err(|_| "a method that is none")?;
        let (client_streaming, server_streaming) = (method.client_streaming, method.server_streaming);
        Ok::<_, String>(OfferedMethod { name: name.as_str().into(), client_streaming, server_streaming })
    };
    let methods = offer.methods.into_iter().map(method).collect::<Result<_, _>>()?;
    let deployment = match offer.deployment.as_str() {
        "" => None,
        name => Some(name.parse().map_err(|_| "a deployment that is none")?),
    };
    let through = way_of(&offer.through)?;
    Ok(Offer { what, version: offer.version, digest, deployment, methods, through })
}

fn way_of(said: &[String]) -> Result<Vec<CollectorId>, String> {
    if said.len() >= HOPS_MAX {
        return Err("a way that is longer than calls go".to_owned());
    }
    said.iter().map(|id| id.parse().map_err(|_| "a collector that is none".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allows: &[&str]) -> Arc<PeerPolicy> {
        let allows = allows.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(PeerPolicy { address: "a:1".into(), identity: None, allows, name: None })
    }

    fn offer(namespace: &str, service: &str, methods: usize) -> pb::Offer {
        let method = |n| pb::OfferedMethod { name: format!("M{n}"), ..Default::default() };
        pb::Offer {
            served: Some(pb::Served { namespace: namespace.into(), service: service.into() }),
            version: 1,
            methods: (0..methods).map(method).collect(),
            ..Default::default()
        }
    }

    fn put(offers: Vec<pb::Offer>) -> pb::Offers {
        pb::Offers { put: offers, ..Default::default() }
    }

    #[test]
    fn m02_offers_beyond_the_policy_are_passed_over_and_remembered() {
        let mut known = Known::new(policy(&["acme:invoker"]));
        let said = put(vec![offer("acme", "a.S", 1), offer("rival", "a.S", 1), offer("system", "a.S", 1)]);
        assert_eq!(known.take(said).unwrap().len(), 1);
        assert_eq!(known.beyond().iter().map(ToString::to_string).collect::<Vec<_>>(), ["rival", "system"]);
        let own = put(vec![offer("acme", "collector.CollectionService", 1)]);
        assert_eq!(known.take(own).unwrap(), []);
        for n in 0..100 {
            known.take(put(vec![offer(&format!("n{n}"), "a.S", 1)])).unwrap();
        }
        assert_eq!((known.len(), known.beyond().len()), (1, BEYOND_MAX));
    }

    #[test]
    fn m06_what_a_peer_offers_is_bounded() {
        let mut known = Known::new(policy(&["*:invoker"]));
        for n in 0..101 {
            known.take(put((0..100).map(|m| offer("acme", &format!("s.S{n}_{m}"), 0)).collect())).unwrap();
        }
        assert_eq!(known.len(), OFFERS_MAX);
        let one = known.take(put(vec![offer("acme", "s.S0_0", METHODS_MAX)])).unwrap();
        assert!(matches!(one[..], [Change::Put(_)]), "one that is there may change");
        let again = known.take(put(vec![offer("acme", "s.S0_0", METHODS_MAX)])).unwrap();
        assert_eq!(again, [], "what is told once more changes nothing");
        let more = known.take(put(vec![offer("acme", "s.S0_1", 1)])).unwrap();
        assert!(matches!(more[..], [Change::Remove(_)]), "and goes where it grows too large");
        let gone = pb::Served { namespace: "acme".into(), service: "s.S0_0".into() };
        known.take(pb::Offers { removed: vec![gone], ..Default::default() }).unwrap();
        assert_eq!((known.len(), known.methods), (OFFERS_MAX - 2, 0));
        for bad in [offer("a/b", "s.S", 0), offer("acme", "s..S", 0), pb::Offer::default()] {
            assert!(known.take(put(vec![bad])).is_err());
        }
        let digest = pb::Offer { digest: "sha256:00".into(), ..offer("acme", "s.S", 0) };
        assert!(known.take(put(vec![digest])).is_err());
        let far = |ids: &[&str]| {
            let through = ids.iter().map(|id| (*id).to_owned()).collect();
            put(vec![pb::Offer { through, ..offer("acme", "s.S0_0", 0) }])
        };
        assert!(known.take(far(&["b", "c", "d"])).is_ok());
        assert!(known.take(far(&["b", "c", "d", "e"])).is_err() && known.take(far(&["b/c"])).is_err());
    }

    #[test]
    fn m06_collectors_behind_a_peer_are_bounded_and_told_once() {
        let mut known = Known::new(policy(&["*:invoker"]));
        let around = |ways: &[&[&str]]| {
            let way = |ids: &&[&str]| pb::Way { through: ids.iter().map(|id| (*id).to_owned()).collect() };
            pb::Around { ways: ways.iter().map(way).collect() }
        };
        assert_eq!(known.around(around(&[&["b"], &["b", "c"], &["d", "c"]])), Ok(true));
        assert_eq!(known.ways().len(), 2, "the first way to each");
        assert_eq!(known.around(around(&[&["b"], &["b", "c"]])), Ok(false), "nothing new");
        for bad in [&[][..], &["b", "c", "d", "e"], &["b/c"]] {
            assert!(known.around(around(&[bad])).is_err(), "{bad:?}");
        }
        assert_eq!(known.ways().len(), 2, "what makes no sense changes nothing");
        let many: Vec<_> = (0..=WAYS_MAX).map(|n| pb::Way { through: vec![format!("n{n}")] }).collect();
        assert_eq!(known.around(pb::Around { ways: many }), Ok(true));
        assert_eq!(known.ways().len(), WAYS_MAX);
    }

    #[test]
    fn one_link_takes_over_from_another_with_what_is_different() {
        let (mut old, mut new) = (Known::new(policy(&["*:invoker"])), Known::new(policy(&["*:invoker"])));
        old.take(put(vec![offer("acme", "s.Same", 1), offer("acme", "s.Changed", 1), offer("acme", "s.Gone", 1)]))
            .unwrap();
        new.take(put(vec![offer("acme", "s.Same", 1), offer("acme", "s.Changed", 2), offer("acme", "s.New", 1)]))
            .unwrap();
        let mut changes: Vec<String> = old
            .changes_to(&new)
            .iter()
            .map(|change| match change {
                Change::Put(offer) => format!("+{}", offer.what.service),
                Change::Remove(what) => format!("-{}", what.service),
            })
            .collect();
        changes.sort_unstable();
        assert_eq!(changes, ["+s.Changed", "+s.New", "-s.Gone"]);
    }
}
