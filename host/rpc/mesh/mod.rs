//! Links between collectors: this node's to its peers (`dial`), and theirs to it (`link`).
//!
//! ```text
//! peers (who may) -> dial, one task each -> mesh (what is known) and lines (what is sent over)
//! Link (of peers) -> offering (what is served here, and they may see) + inbound (keys of their calls)
//! ```

mod code;
mod conn;
mod connect;
mod counted;
mod courier;
mod dial;
mod forward;
mod known;
mod lent;
mod lines;
mod link;
mod offering;
mod reply;
mod spread;

pub(in crate::rpc) use code::Shelf;
pub(in crate::rpc) use courier::Courier;
pub(in crate::rpc) use forward::{Errand, Forwarder, Handover, framed};
pub(in crate::rpc) use lines::FORWARD;
pub use link::MeshService;
pub(in crate::rpc) use link::REQUEST_MAX;
pub(in crate::rpc) use reply::{BEGAN, whole};
pub(in crate::rpc) use spread::{Spread, Targets, order};

use super::calls::Calls;
use super::identify;
use super::tls::{PeerDialer, identity};
use super::{pb, status};
use crate::dispatch::deployments::Deployments;
use crate::domain::{CollectorId, Limits, Namespace, one_line};
use crate::lifecycle::Lifecycle;
use crate::mesh::{Inbound, Links, Mesh, PeerPolicy, Peers, Phase, record::Records};
use crate::net::Guard;
use crate::registry::Registry;
use crate::tenancy::{Caller, Tenancy, Verb};
use conn::Runner;
use dial::supervise;
use lines::Lines;
use link::Places;
use offering::Offering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// Entry of Connect's metadata that names the caller.
const COLLECTOR_ID: &str = "collector_id";
/// Namespaces that two collectors tell each other of. 1,000: 64 KiB of names at most.
const NAMESPACES_MAX: usize = 1_000;
/// Bytes of a text that another collector says of itself.
const LABEL_MAX: usize = 256;
/// Bytes of what a peer says of a failure.
const SAID_MAX: usize = 200;

/// What links are made of.
pub struct LinkParts {
    /// What is known of others.
    pub mesh: Mesh,
    /// Who they may be.
    pub peers: Peers,
    /// How this node's links are.
    pub links: Links,
    /// Keys of the links to this node.
    pub inbound: Inbound,
    /// What is written of all.
    pub records: Records,
    /// Makes connections.
    pub dialer: PeerDialer,
    /// Where others reach this node: `host:port`.
    pub advertised: String,
    /// Addresses that strangers may name.
    pub guard: Guard,
    /// How long a link stays before it is made anew.
    pub renew_every: Duration,
    /// How long a peer that reads code may take nothing of it.
    pub read_idle: Duration,
    /// Knows types.
    pub registry: Arc<Registry>,
    /// Knows which code answers.
    pub deployments: Arc<Deployments>,
    /// Decides.
    pub tenancy: Tenancy,
    /// How much this node has to do.
    pub load: Load,
    /// Ends them.
    pub lifecycle: Lifecycle,
}

/// How many calls the node answers.
#[derive(Debug, Clone)]
pub struct Load {
    pub(super) calls: Calls,
    pub(super) most: u32,
}

impl Load {
    /// Calls now, and at most.
    fn now(&self) -> (u32, u32) {
        (u32::try_from(self.calls.running().len()).unwrap_or(u32::MAX), self.most)
    }
}

/// Keeps links. Clones keep the same.
#[derive(Clone)]
pub struct LinkKeeper(Arc<Inner>);

pub(super) struct Inner {
    parts: LinkParts,
    lines: Lines,
    offering: Offering,
    runner: Runner,
    places: Places,
    /// Which peer is linked from which address.
    claims: Mutex<HashMap<CollectorId, String>>,
    /// Without TLS: which peer, by its address, is which collector, as it said itself.
    met: Mutex<HashMap<String, CollectorId>>,
    wakes: Mutex<HashMap<String, Arc<Notify>>>,
    closed: CancellationToken,
}

impl LinkKeeper {
    /// Nothing is dialled yet.
    pub fn new(parts: LinkParts) -> Self {
        let offering = Offering::new(Arc::clone(&parts.deployments), Arc::clone(&parts.registry));
        Self(Arc::new(Inner {
            parts,
            lines: Lines::default(),
            offering,
            runner: Runner::default(),
            places: Places::default(),
            claims: Mutex::default(),
            met: Mutex::default(),
            wakes: Mutex::default(),
            closed: CancellationToken::new(),
        }))
    }

    /// Dials the peers, now and whenever there are others.
    pub fn start(&self) {
        let lifecycle = &self.0.parts.lifecycle;
        drop(lifecycle.spawn(supervise(Arc::clone(&self.0))));
        drop(lifecycle.spawn(self.0.parts.records.clone().keep(lifecycle.clone())));
    }

    /// Ends all links. The node has answered its last call.
    pub fn close(&self) {
        self.0.closed.cancel();
        self.0.runner.cut();
    }

    /// Calls that the node answers now, and at most.
    pub(in crate::rpc) fn load(&self) -> (u32, u32) {
        self.0.parts.load.now()
    }

    /// What is known of others.
    pub fn mesh(&self) -> &Mesh {
        &self.0.parts.mesh
    }

    /// Who may be linked.
    pub fn peers(&self) -> &Peers {
        &self.0.parts.peers
    }

    /// How the links are.
    pub fn links(&self) -> &Links {
        &self.0.parts.links
    }

    /// What calls are handed over with.
    ///
    /// * `limits`: of one message, and how long a stream may last.
    pub(in crate::rpc) fn forwarder(&self, limits: &Limits) -> Forwarder {
        let parts = &self.0.parts;
        Forwarder::new(parts.mesh.clone(), self.0.lines.clone(), parts.tenancy.clone(), limits)
    }

    /// Keys of the links to this node.
    pub fn inbound(&self) -> &Inbound {
        &self.0.parts.inbound
    }

    /// The service that peers open links with.
    ///
    /// * `shelf`: what code they may read, and place.
    pub(in crate::rpc) fn service(&self, shelf: Shelf) -> MeshService {
        MeshService { inner: Arc::clone(&self.0), shelf }
    }

    /// What peers are asked about code with.
    pub(in crate::rpc) fn courier(&self) -> Courier {
        let parts = &self.0.parts;
        Courier::new(parts.mesh.clone(), self.0.lines.clone(), parts.tenancy.clone())
    }

    /// See [`Inner::connect`].
    pub(in crate::rpc) fn connect(
        &self,
        request: &Request<pb::ConnectRequest>,
    ) -> Result<Response<pb::ConnectResponse>, Status> {
        self.0.connect(request)
    }
}

impl Inner {
    /// The peer that makes a request: with TLS by its certificate, else by the id that it introduced itself with.
    ///
    /// * `id`: as it calls itself.
    fn peer<T>(&self, request: &Request<T>, id: Option<&CollectorId>) -> Option<Arc<PeerPolicy>> {
        if self.parts.dialer.is_tls() {
            let certificate = request.extensions().get::<identify::Peer>()?.certificate.clone()?;
            let policy = self.parts.peers.find_by_identity(&identity(&certificate)?)?;
            let agrees = match (&policy.name, id) {
                (Some(name), Some(id)) => name == id,
                _ => true,
            };
            return agrees.then_some(policy);
        }
        if self.parts.tenancy.asks() {
            return None; // whoever it is, it could be anybody
        }
        let address = self.met().iter().find(|(_, known)| Some(*known) == id).map(|(address, _)| address.clone());
        self.parts.peers.find_by_address(&address?)
    }

    fn met(&self) -> MutexGuard<'_, HashMap<String, CollectorId>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the collector for the link from this address; `None`: there is one from another.
    fn claim(self: &Arc<Self>, id: &CollectorId, address: &str) -> Option<Claim> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.contains_key(id) {
            return None;
        }
        claims.insert(id.clone(), address.to_owned());
        Some(Claim { inner: Arc::clone(self), id: id.clone() })
    }

    /// Writes down that a peer offers something that it is not trusted with.
    fn beyond(&self, peer: &CollectorId, namespace: &Namespace) {
        tracing::warn!(%peer, %namespace, "a peer offers services in a namespace that it is not trusted with");
        self.parts.tenancy.refused(&Caller::peer(peer.as_str()), namespace, Verb::Invoke);
    }

    /// There will be a link to this address: what wakes it.
    fn remember(&self, address: &str) -> Arc<Notify> {
        self.parts.links.begin(address);
        let wake = Arc::new(Notify::new());
        self.wakes().insert(address.to_owned(), Arc::clone(&wake));
        wake
    }

    /// There is none any more.
    fn forget(&self, address: &str) {
        self.wakes().remove(address);
        self.met().remove(address);
        self.parts.links.end(address);
    }

    /// The peer is there: whatever link to it is waiting need not.
    fn wake(&self, address: &str) {
        let waits = self.parts.links.get(address).is_some_and(|link| link.phase != Phase::Linked);
        if let Some(wake) = self.wakes().get(address).filter(|_| waits) {
            wake.notify_waiters();
        }
    }

    fn wakes(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collector that is linked, until this is dropped.
struct Claim {
    inner: Arc<Inner>,
    id: CollectorId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Turns away who is no peer, which is written down.
fn not_a_peer(inner: &Inner, caller: Option<&Caller>) -> Status {
    if let Some(caller) = caller {
        inner.parts.tenancy.refused(caller, &Namespace::system(), Verb::Operate);
    }
    let message = "this collector's operator has not made the caller a peer: `collector peer add` there";
    status::plain(Code::PermissionDenied, "NOT_A_PEER", message)
}

/// A peer's words for a failure, as long as a line.
fn text(status: &Status) -> String {
    format!("{:?}: {}", status.code(), one_line(status.message(), SAID_MAX))
}
