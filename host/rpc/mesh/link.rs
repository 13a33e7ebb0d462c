//! The links of peers to this node: `collector.mesh.v1.Mesh`.

use super::code::{Fetched, Shelf};
use super::offering::Told;
use super::{COLLECTOR_ID, Inner, not_a_peer};
use crate::domain::CollectorId;
use crate::mesh::{InboundGuard, PeerPolicy};
use crate::rpc::pb::mesh::v1 as pb;
use crate::rpc::pb::mesh::v1::link_event::Event;
use crate::rpc::stalled::Patience;
use crate::rpc::{edge, status};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
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
        let (longest, lifecycle) = (self.inner.parts.read_idle, self.inner.parts.lifecycle.clone());
        answer.extensions_mut().insert(Patience { longest, lifecycle });
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
        let place = inner.places.take(&policy.address).ok_or_else(|| {
            let message = format!("at most {LINKS_MAX} links of one peer; let the others end first");
            status::plain(Code::ResourceExhausted, "TOO_MANY", message)
        })?;
        // What is known of it, under its own id: without TLS the operator did not name it.
        let named = Arc::new(PeerPolicy { name: Some(id.clone()), ..PeerPolicy::clone(&policy) });
        let guard = inner.parts.inbound.open(link_id, key, named);
        tracing::debug!(peer = %id, "a peer's link is open");
        Ok(Feed::new(Arc::clone(inner), id, policy, (guard, place)))
    }
}

/// How many links each peer has.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// One link's place.
struct Place {
    places: Places,
    address: String,
}

impl Places {
    fn take(&self, address: &str) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address.to_owned()).or_default();
        if *count >= LINKS_MAX {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), address: address.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// What one peer is told, one event after another.
struct Feed {
    inner: Arc<Inner>,
    policy: Arc<PeerPolicy>,
    told: Told,
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
    _held: (InboundGuard, Place),
}

impl Feed {
    fn new(inner: Arc<Inner>, id: CollectorId, policy: Arc<PeerPolicy>, held: (InboundGuard, Place)) -> Self {
        let (changes, beyond) = (inner.offering.changes(), inner.parts.mesh.changes());
        let peers = inner.parts.peers.changes();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let namespaces = inner.parts.registry.namespaces().into_iter();
        let namespaces =
            namespaces.filter(|namespace| super::is_shared(&policy, namespace)).take(super::NAMESPACES_MAX);
        let hello = pb::Hello {
            collector_id: inner.parts.mesh.own().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            namespaces: namespaces.map(|namespace| namespace.to_string()).collect(),
        };
        // A peer that makes its links anew in time does not see this end.
        let until = Instant::now() + inner.parts.renew_every + inner.parts.renew_every / 3;
        let waiting = VecDeque::from([Event::Hello(hello)]);
        let mut feed = Self {
            inner,
            policy,
            told: Told::default(),
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
        let beyond = self.inner.parts.mesh.topology().beyond(&self.id);
        let events = self.told.catch_up(&self.inner.offering.now(), &beyond, &self.policy);
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
