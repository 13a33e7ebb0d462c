//! What this node serves, as peers are told: worked out once for each change, for all links.

use crate::dispatch::deployments::Deployments;
use crate::domain::{CollectorId, Kind};
use crate::mesh::{OFFERS_MAX, Offer, PeerPolicy, Served};
use crate::registry::Registry;
use crate::rpc::pb::mesh::v1 as pb;
use crate::tenancy::Verb;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Entries of one event.
const ENTRIES_MAX: usize = 1_000;
/// Bytes of one event, but for a last entry. 256 KiB: a quarter of what is taken.
const EVENT_BYTES: usize = 256 << 10;
/// Bytes of one entry; a service with more methods than fit is not offered.
const ENTRY_MAX: usize = 256 << 10;

/// Everything that is served here.
pub(super) type All = BTreeMap<Served, Arc<pb::Offer>>;

/// Works it out.
pub(super) struct Offering {
    deployments: Arc<Deployments>,
    registry: Arc<Registry>,
    last: Mutex<Option<(u64, Arc<All>)>>,
}

impl Offering {
    /// * `registry`: counts changes of both.
    pub(super) fn new(deployments: Arc<Deployments>, registry: Arc<Registry>) -> Self {
        Self { deployments, registry, last: Mutex::default() }
    }

    /// Changes when there may be something new.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.registry.changes()
    }

    /// Everything as it is now.
    pub(super) fn now(&self) -> Arc<All> {
        let revision = *self.registry.changes().borrow();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, all)) = &*last
            && *known == revision
        {
            return Arc::clone(all);
        }
        let all = Arc::new(self.work_out());
        *last = Some((revision, Arc::clone(&all)));
        all
    }

    fn work_out(&self) -> All {
        let mut all = All::new();
        for (namespace, service, active) in self.deployments.answering() {
            let snapshot = self.registry.snapshot(&namespace);
            let Some(known) = snapshot.service(&service) else { continue };
            let methods = known.methods.iter().map(|method| pb::OfferedMethod {
                name: method.name.clone(),
                client_streaming: method.client_streaming,
                server_streaming: method.server_streaming,
            });
            let digest = match active.code.kind {
                Kind::Image => String::new(),
                _ => format!("sha256:{}", active.code.digest),
            };
            let offer = pb::Offer {
                served: Some(pb::Served { namespace: namespace.to_string(), service: service.to_string() }),
                version: active.version,
                digest,
                methods: methods.collect(),
                deployment: active.deployment.to_string(),
                through: Vec::new(),
            };
            if offer.encoded_len() <= ENTRY_MAX {
                all.insert(Served { namespace, service }, Arc::new(offer));
            }
        }
        all
    }
}

/// What one peer was told.
#[derive(Default)]
pub(super) struct Told(BTreeMap<Served, Entered>);

/// One offer, as it was told.
struct Entered {
    offer: Arc<pb::Offer>,
    /// What others serve, and the way there, that this was made from: what did not change is not made again.
    from: Option<Beyond>,
}

/// What others serve, and the collectors on the way, nearest first.
pub(super) type Beyond = (Arc<Offer>, Vec<CollectorId>);

impl Told {
    /// What it has to be told for it to know `all`, and what lies beyond, as far as it may call it.
    ///
    /// * `beyond`: what others serve. What is served here comes before it.
    pub(super) fn catch_up(&mut self, all: &All, beyond: Vec<Beyond>, policy: &PeerPolicy) -> Vec<pb::Offers> {
        let seen = |what: &Served| policy.lets(&what.namespace, Verb::Invoke);
        let own = all.iter().filter(|(what, _)| seen(what)).take(OFFERS_MAX);
        let own = own.map(|(what, offer)| (what.clone(), Entered { offer: Arc::clone(offer), from: None }));
        let mut now: BTreeMap<_, _> = own.collect();
        for beyond in beyond.into_iter().filter(|(offer, _)| seen(&offer.what)) {
            let what = &beyond.0.what;
            if now.len() < OFFERS_MAX && !now.contains_key(what) {
                let same = self.0.get(what).filter(|told| told.is_from(&beyond)).map(|told| Arc::clone(&told.offer));
                let offer = same.unwrap_or_else(|| Arc::new(passed_on(&beyond)));
                now.insert(what.clone(), Entered { offer, from: Some(beyond) });
            }
        }
        let gone = self.0.keys().filter(|what| !now.contains_key(*what)).map(|what| {
            Entry::Removed(pb::Served { namespace: what.namespace.to_string(), service: what.service.to_string() })
        });
        let new = now.iter().filter(|(what, new)| self.0.get(*what).is_none_or(|told| !told.is(new)));
        let entries = gone.chain(new.map(|(_, new)| Entry::Put(pb::Offer::clone(&new.offer))));
        let mut events = Vec::new();
        let (mut event, mut count, mut bytes) = (pb::Offers::default(), 0, 0);
        for entry in entries {
            bytes += entry.bytes();
            count += 1;
            match entry {
                Entry::Put(offer) => event.put.push(offer),
                Entry::Removed(what) => event.removed.push(what),
            }
            if count >= ENTRIES_MAX || bytes >= EVENT_BYTES {
                events.push(std::mem::take(&mut event));
                (count, bytes) = (0, 0);
            }
        }
        if count > 0 {
            events.push(event);
        }
        self.0 = now;
        events
    }
}

impl Entered {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.offer, &other.offer) || self.offer == other.offer
    }

    fn is_from(&self, (offer, through): &Beyond) -> bool {
        self.from.as_ref().is_some_and(|(known, way)| Arc::ptr_eq(known, offer) && way == through)
    }
}

/// What another serves, as it is told on.
fn passed_on((offer, through): &Beyond) -> pb::Offer {
    let methods = offer.methods.iter().map(|method| pb::OfferedMethod {
        name: method.name.to_string(),
        client_streaming: method.client_streaming,
        server_streaming: method.server_streaming,
    });
    let Served { namespace, service } = &offer.what;
    pb::Offer {
        served: Some(pb::Served { namespace: namespace.to_string(), service: service.to_string() }),
        version: offer.version,
        digest: offer.digest.map(|digest| format!("sha256:{digest}")).unwrap_or_default(),
        methods: methods.collect(),
        deployment: offer.deployment.as_ref().map(ToString::to_string).unwrap_or_default(),
        through: through.iter().map(ToString::to_string).collect(),
    }
}

enum Entry {
    Put(pb::Offer),
    Removed(pb::Served),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(offer) => offer.encoded_len(),
            Self::Removed(what) => what.encoded_len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(namespaces: &[&str], services: usize, methods: usize) -> All {
        let mut all = All::new();
        for namespace in namespaces {
            for n in 0..services {
                let what = Served { namespace: namespace.parse().unwrap(), service: format!("s.S{n}").into() };
                let served = Some(pb::Served { namespace: (*namespace).into(), service: format!("s.S{n}") });
                let method = |n| pb::OfferedMethod { name: format!("Method{n}"), ..Default::default() };
                let methods = (0..methods).map(method).collect();
                all.insert(what, Arc::new(pb::Offer { served, version: 1, methods, ..Default::default() }));
            }
        }
        all
    }

    fn policy(allows: &[&str]) -> PeerPolicy {
        let allows = allows.iter().map(|text| text.parse().unwrap()).collect();
        PeerPolicy { address: "a:1".into(), identity: None, allows, name: None }
    }

    #[test]
    fn a_peer_is_told_what_it_may_call_and_then_what_is_different() {
        let mut told = Told::default();
        let mut now = all(&["acme", "rival"], 2, 1);
        let policy = policy(&["acme:invoker", "rival:reader"]);
        let first = told.catch_up(&now, Vec::new(), &policy);
        assert_eq!((first.len(), first[0].put.len(), first[0].removed.len()), (1, 2, 0));
        assert!(told.catch_up(&now, Vec::new(), &policy).is_empty());
        now.pop_first();
        now.extend(
            all(&["acme"], 3, 1)
                .into_iter()
                .skip(1)
                .map(|(what, offer)| (what, Arc::new(pb::Offer { version: 2, ..pb::Offer::clone(&offer) }))),
        );
        let second = told.catch_up(&now, Vec::new(), &policy);
        assert_eq!((second[0].put.len(), second[0].removed.len()), (2, 1));
    }

    #[test]
    fn what_lies_beyond_is_told_after_what_is_here_and_gone_when_it_is() {
        let (mut told, now, policy) = (Told::default(), all(&["acme"], 1, 1), policy(&["acme:invoker"]));
        let far = |namespace: &str, service: &str| Offer {
            what: Served { namespace: namespace.parse().unwrap(), service: service.into() },
            version: 3,
            digest: None,
            deployment: None,
            methods: Vec::new(),
            through: Vec::new(),
        };
        let far = |namespace: &str, service: &str| (Arc::new(far(namespace, service)), vec!["b".parse().unwrap()]);
        let beyond = vec![far("acme", "s.S0"), far("acme", "s.Far"), far("rival", "s.Far")];
        let first = told.catch_up(&now, beyond.clone(), &policy);
        let said: Vec<_> = first[0].put.iter().map(|offer| (offer.version, offer.through.clone())).collect();
        assert_eq!(said, [(3, vec!["b".to_owned()]), (1, Vec::new())], "by name");
        assert!(told.catch_up(&now, beyond.clone(), &policy).is_empty());
        let moved = vec![(Arc::clone(&beyond[1].0), vec!["c".parse().unwrap()])];
        let other = told.catch_up(&now, moved, &policy);
        assert_eq!(other[0].put[0].through, ["c"], "the way is another");
        let second = told.catch_up(&now, Vec::new(), &policy);
        assert_eq!((second[0].put.len(), second[0].removed[0].service.as_str()), (0, "s.Far"));
        let many: Vec<_> = (0..=OFFERS_MAX).map(|n| far("acme", &format!("a.A{n}"))).collect();
        let events = told.catch_up(&now, many, &policy);
        assert_eq!(events.iter().map(|event| event.put.len()).sum::<usize>(), OFFERS_MAX - 1, "its own come first");
    }

    #[test]
    fn events_are_of_a_bounded_size() {
        let count = |services, methods| {
            let events =
                Told::default().catch_up(&all(&["acme"], services, methods), Vec::new(), &policy(&["*:invoker"]));
            assert!(
                events.iter().all(|event| event.encoded_len() <= 2 * EVENT_BYTES && event.put.len() <= ENTRIES_MAX)
            );
            (events.len(), events.iter().map(|event| event.put.len()).sum::<usize>())
        };
        assert_eq!(count(0, 0), (0, 0));
        assert_eq!(count(1_000, 0), (1, 1_000));
        assert_eq!(count(1_001, 0), (2, 1_001));
        assert_eq!(count(10_001, 0), (10, 10_000));
        assert!(count(100, 1_000).0 >= 4);
    }
}
