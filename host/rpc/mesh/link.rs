//! The links of peers to this node: `collector.mesh.v1.Mesh`.

use super::code::{Fetched, Shelf};
use super::offering::Told;
use super::{COLLECTOR_ID, Inner, not_a_peer};
use crate::domain::{CollectorId, Namespace};
use crate::mesh::record::Presence;
use crate::mesh::{InboundGuard, PeerPolicy, Terms};
use crate::rpc::pb::mesh::v1 as pb;
use crate::rpc::pb::mesh::v1::link_event::Event;
use crate::rpc::stalled::Patience;
use crate::rpc::{edge, status};
use crate::tenancy::Verb;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};
use tonic::{Code, Request, Response, Status};

/// How often a link says that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// How long changes are gathered: a deployment changes several things.
const GATHER: Duration = Duration::from_millis(50);
/// And at most, where there is so much that looking takes long: changes are told within a second.
const GATHER_MAX: Duration = Duration::from_millis(800);
/// By how much longer than a look: each link takes a tenth of a core at most.
const GATHER_SHARE: u32 = 9;
/// Links of one peer. 4: one, the next one, and two that it has lost and this node does not know yet.
const LINKS_MAX: usize = 4;
/// How often a peer may open one: each looks through all offers. 200 ms, and eight at once: a peer that comes back tries
/// after 50, 100, 200 ms.
const OPEN_EVERY: Duration = Duration::from_millis(200);
const OPEN_BURST: u32 = 8;
/// Bytes of a request. 256 KiB: 64 grants with values of 4 KiB.
pub(in crate::rpc) const REQUEST_MAX: usize = 256 << 10;

/// The service.
pub struct MeshService {
    pub(super) inner: Arc<Inner>,
    pub(super) shelf: Shelf,
}

#[tonic::async_trait]
impl pb::mesh_server::Mesh for MeshService {
    type LinkStream = BoxStream<'static, Result<pb::LinkEvent, Status>>;

    async fn link(&self, request: Request<pb::LinkRequest>) -> Result<Response<Self::LinkStream>, Status> {
        let feed = self.open(&request)?;
        let next = |mut feed: Box<Feed>| async move {
            let event = feed.next().await?;
            Some((event.map(|event| pb::LinkEvent { event: Some(event) }), feed))
        };
        Ok(Response::new(stream::unfold(Box::new(feed), next).boxed()))
    }

    type FetchStream = Fetched;

    async fn fetch(&self, request: Request<pb::FetchRequest>) -> Result<Response<Fetched>, Status> {
        let mut answer = self.shelf.fetch(request).await?;
        answer.extensions_mut().insert(Patience(self.inner.parts.read_idle));
        Ok(answer)
    }

    async fn place(&self, request: Request<pb::PlaceRequest>) -> Result<Response<pb::PlaceResponse>, Status> {
        self.shelf.place(request).await
    }
}

impl MeshService {
    fn open(&self, request: &Request<pb::LinkRequest>) -> Result<Feed, Status> {
        let (inner, message) = (&self.inner, request.get_ref());
        let id: CollectorId = message.collector_id.parse().map_err(|why| {
            let message = format!("{COLLECTOR_ID} {why}");
            status::plain(Code::InvalidArgument, "INVALID_ARGUMENT", message)
        })?;
        let policy = inner.peer(request, Some(&id));
        let policy = policy.ok_or_else(|| not_a_peer(inner, edge::caller(request).ok().as_ref()))?;
        if id == *inner.parts.mesh.own() {
            let message = "this collector has the same id; a collector is no peer of itself";
            return Err(status::plain(Code::FailedPrecondition, "SELF", message));
        }
        let odd = |field: &str, bytes: usize| {
            let message = format!("{field} must have {bytes} bytes");
            status::plain(Code::InvalidArgument, "INVALID_ARGUMENT", message)
        };
        let link_id: [u8; 16] = message.link_id.as_slice().try_into().map_err(|_| odd("link_id", 16))?;
        let key: [u8; 32] = message.link_key.as_slice().try_into().map_err(|_| odd("link_key", 32))?;
        if inner.parts.lifecycle.is_draining() {
            return Err(status::plain(Code::Unavailable, "DRAINING", "the collector is shutting down"));
        }
        let place = inner.places.take(&policy.address, Instant::now()).map_err(|why| {
            let message = match why {
                Full::Links => format!("at most {LINKS_MAX} links of one peer; let the others end first"),
                Full::Soon => "the peer opens links faster than it can use them; try again in a second".to_owned(),
            };
            status::plain(Code::ResourceExhausted, "TOO_MANY", message)
        })?;
        // A peer that makes its links anew in time does not see this end.
        let until = Instant::now() + inner.parts.renew_every + inner.parts.renew_every / 3;
        let (own, peers) = (inner.parts.mesh.own().clone(), inner.parts.peers.clone());
        let terms = Terms { own, peer: id.clone(), policy: Arc::clone(&policy), peers, until };
        let guard = inner.parts.inbound.open(link_id, key, terms);
        let presence = inner.parts.records.present(&id);
        tracing::debug!(peer = %id, "a peer's link is open");
        Ok(Feed::new(Arc::clone(inner), id, (policy, until), (guard, place, presence)))
    }
}

/// How many links each peer has.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<String, Held>>>);

/// Of one peer.
struct Held {
    count: usize,
    /// When all that were opened are paid for, at one in [`OPEN_EVERY`].
    paid: Instant,
}

/// One link's place.
struct Place {
    places: Places,
    address: String,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
enum Full {
    /// There are as many as there may be.
    Links,
    /// There were too many of late.
    Soon,
}

impl Places {
    fn take(&self, address: &str, now: Instant) -> Result<Place, Full> {
        let mut all = self.lock();
        // Those who have none and owe nothing; as many entries as there are peers.
        all.retain(|_, held| held.count > 0 || held.paid > now);
        let held = all.entry(address.to_owned()).or_insert(Held { count: 0, paid: now });
        if held.count >= LINKS_MAX {
            return Err(Full::Links);
        }
        let paid = held.paid.max(now) + OPEN_EVERY;
        if paid > now + OPEN_EVERY * OPEN_BURST {
            return Err(Full::Soon);
        }
        (held.count, held.paid) = (held.count + 1, paid);
        Ok(Place { places: self.clone(), address: address.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(held) = self.places.lock().get_mut(&self.address) {
            held.count = held.count.saturating_sub(1);
        }
    }
}

/// What one peer is told, one event after another.
struct Feed {
    inner: Arc<Inner>,
    policy: Arc<PeerPolicy>,
    told: Told,
    /// Which collectors it was told of.
    around: Vec<Vec<CollectorId>>,
    waiting: VecDeque<Event>,
    /// Nothing follows what waits.
    over: bool,
    /// Who is told.
    id: CollectorId,
    changes: watch::Receiver<u64>,
    /// What others serve.
    beyond: watch::Receiver<u64>,
    /// How long changes are gathered.
    gather: Duration,
    peers: watch::Receiver<u64>,
    beat: Interval,
    until: Instant,
    _held: (InboundGuard, Place, Presence),
}

impl Feed {
    fn new(
        inner: Arc<Inner>,
        id: CollectorId,
        (policy, until): (Arc<PeerPolicy>, Instant),
        held: (InboundGuard, Place, Presence),
    ) -> Self {
        let (changes, beyond) = (inner.offering.changes(), inner.parts.mesh.changes());
        let peers = inner.parts.peers.changes();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let namespaces = inner.parts.registry.namespaces().into_iter();
        let namespaces = namespaces.filter(|namespace| policy.shares(namespace)).take(super::NAMESPACES_MAX);
        let hello = pb::Hello {
            collector_id: inner.parts.mesh.own().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            namespaces: namespaces.map(|namespace| namespace.to_string()).collect(),
        };
        let waiting = VecDeque::from([Event::Hello(hello)]);
        let mut feed = Self {
            inner,
            policy,
            told: Told::default(),
            around: Vec::new(),
            waiting,
            over: false,
            id,
            changes,
            beyond,
            gather: GATHER,
            peers,
            beat,
            until,
            _held: held,
        };
        feed.catch_up();
        match feed.waiting.back_mut() {
            Some(Event::Offers(last)) => last.complete = true,
            _ => feed.waiting.push_back(Event::Offers(pb::Offers { complete: true, ..Default::default() })),
        }
        feed
    }

    fn catch_up(&mut self) {
        // Marked as seen before looking, so that what changes meanwhile wakes us again.
        self.changes.mark_unchanged();
        self.beyond.mark_unchanged();
        let began = Instant::now();
        let seen = |namespace: &Namespace| self.policy.lets(namespace, Verb::Invoke);
        let topology = self.inner.parts.mesh.topology();
        let around = topology.around(&self.id, &self.policy);
        if self.around != around {
            let way = |ids: &Vec<CollectorId>| pb::Way { through: ids.iter().map(ToString::to_string).collect() };
            self.waiting.push_back(Event::Around(pb::Around { ways: around.iter().map(way).collect() }));
            self.around = around;
        }
        let beyond = topology.beyond(&self.id, seen);
        let events = self.told.catch_up(&self.inner.offering.now(), beyond, &self.policy);
        self.waiting.extend(events.into_iter().map(Event::Offers));
        self.gather = (began.elapsed() * GATHER_SHARE).clamp(GATHER, GATHER_MAX);
    }

    /// The next event; `None`: there will be none.
    async fn next(&mut self) -> Option<Result<Event, Status>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            tokio::select! {
                biased;
                () = self.inner.parts.lifecycle.draining() => {
                    self.over = true;
                    self.waiting.push_back(Event::Draining(pb::Draining {}));
                }
                () = sleep_until(self.until) => {
                    self.over = true;
                    let message = "the link is old; open another before it is";
                    return Some(Err(status::plain(Code::Unavailable, "LINK_OLD", message)));
                }
                _ = self.peers.changed() => {
                    self.peers.mark_unchanged();
                    let now = self.inner.parts.peers.find_by_address(&self.policy.address);
                    if now.as_ref() != Some(&self.policy) {
                        self.over = true;
                        let message = "what this collector's operator says of the peer has changed; link again";
                        return Some(Err(status::plain(Code::Unavailable, "PEER_CHANGED", message)));
                    }
                }
                () = gathered(&mut self.changes, &mut self.beyond, self.gather) => self.catch_up(),
                _ = self.beat.tick() => {
                    let (calls, calls_max) = self.inner.parts.load.now();
                    return Some(Ok(Event::Beat(pb::Beat { calls, calls_max })));
                }
            }
        }
    }
}

/// Something has changed, and what else was about to was waited for.
async fn gathered(changes: &mut watch::Receiver<u64>, beyond: &mut watch::Receiver<u64>, gather: Duration) {
    let (changed, of) = tokio::select! {
        changed = changes.changed() => (changed, changes),
        changed = beyond.changed() => (changed, beyond),
    };
    if changed.is_err() {
        return std::future::pending().await;
    }
    // If this is dropped here what has changed would be forgotten.
    of.mark_changed();
    sleep(gather).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m08_links_of_a_peer_are_bounded_at_once_and_in_time() {
        let (places, now) = (Places::default(), Instant::now());
        let held: Vec<_> = (0..LINKS_MAX).map(|_| places.take("b:1", now).ok().unwrap()).collect();
        assert_eq!(places.take("b:1", now).err(), Some(Full::Links));
        assert!(places.take("c:1", now).is_ok(), "each peer has its own");
        drop(held);
        let opened = (0..100).filter(|_| places.take("b:1", now).is_ok()).count();
        assert_eq!(opened, OPEN_BURST as usize - LINKS_MAX);
        assert_eq!(places.take("b:1", now).err(), Some(Full::Soon));
        assert!(places.take("b:1", now + OPEN_EVERY).is_ok(), "one more for each 200 ms");
        assert_eq!(places.take("b:1", now + OPEN_EVERY).err(), Some(Full::Soon));
        drop(places.take("c:1", now + OPEN_EVERY * 20));
        assert_eq!(places.lock().len(), 1, "who has none is forgotten");
    }
}
