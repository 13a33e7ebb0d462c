//! Other collectors: which there are, what each of them serves, and where a call goes.
//!
//! ```text
//! link (rpc) -> Offers -> Topology (one immutable value, swapped whole) -> route (pure) -> forward (rpc)
//! ```
//!
//! A link is one way: the side that dials learns what the other serves, and may hand it calls. Two collectors that both
//! want that have a link each. Connections are `rpc`'s: nothing here knows gRPC. Source: semantics.md section 5,
//! threats.md B11.

mod breaker;
mod config;
mod counts;
mod inbound;
mod links;
mod offer;
mod peer;
pub mod peers;
pub mod record;
mod route;
mod statement;
mod topology;
mod ways;

pub use config::{BadSetting, Config, Entry, Ground};
pub use counts::{Counts, Outcome, Tally};
pub use inbound::{BadStatement, Forwarded, Inbound, InboundGuard, Terms};
pub use links::{LinkState, Links, Phase};
pub use offer::{Change, Offer, OfferedMethod, Served};
pub use peer::{Attempt, Busy, Peer};
pub use peers::{Added, BadPeer, PEERS_MAX, PeerError, PeerPolicy, Peers};
pub use route::{Found, NoRoute, Wanted};
pub use statement::{LINK_ID_BYTES, LINK_KEY_BYTES, LinkKey, Statement};
pub use topology::{OFFERS_MAX, Topology};
pub use ways::{Through, WAYS_MAX};

/// Collectors that a call visits at most after the first. Source: semantics.md section 5.
pub const HOPS_MAX: usize = 4;

use crate::domain::CollectorId;
use arc_swap::ArcSwap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// What this collector knows of others. Clones share it.
#[derive(Clone)]
pub struct Mesh(Arc<Known>);

struct Known {
    own: CollectorId,
    topology: ArcSwap<Topology>,
    /// Held while a new topology is worked out.
    changing: Mutex<()>,
    changes: watch::Sender<u64>,
    /// Where picking at random is.
    random: AtomicU64,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("own", &self.0.own).finish_non_exhaustive()
    }
}

impl Mesh {
    /// * `own`: this collector's id.
    pub fn new(own: CollectorId) -> Self {
        Self(Arc::new(Known {
            own,
            topology: ArcSwap::default(),
            changing: Mutex::new(()),
            changes: watch::Sender::new(0),
            random: AtomicU64::new(getrandom::u64().unwrap_or_default()),
        }))
    }

    /// This collector's id.
    pub fn own(&self) -> &CollectorId {
        &self.0.own
    }

    /// Everything as it is now.
    pub fn topology(&self) -> Arc<Topology> {
        self.0.topology.load_full()
    }

    /// Counts changes of it, each time after it did.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Who gets a call now; see [`Topology::route`].
    pub fn route(&self, wanted: &Wanted<'_>) -> Result<Found, NoRoute> {
        self.0.topology.load().route(wanted, Instant::now(), self.random())
    }

    /// SplitMix64: good enough to share calls out, and a few nanoseconds. Source: Steele, Lea, Flood, OOPSLA 2014.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = self.0.random.fetch_add(STEP, Ordering::Relaxed);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A link to `peer` is up. What it offered over an earlier one is forgotten.
    pub fn linked(&self, peer: Peer) -> Arc<Peer> {
        let peer = Arc::new(peer);
        self.change(|topology| topology.with(Arc::clone(&peer)));
        peer
    }

    /// What a linked peer serves has changed. From one that is not linked any more it changes nothing.
    pub fn offered(&self, peer: &Arc<Peer>, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.change(|topology| topology.offered(peer, changes));
        }
    }

    /// A linked peer tells which collectors lie behind it: these, and no others.
    pub fn told(&self, peer: &Arc<Peer>, ways: &[Through]) {
        self.change(|topology| topology.told(peer, ways));
    }

    /// The link is gone. If there is a newer one to the same collector that stays.
    pub fn lost(&self, peer: &Arc<Peer>) {
        self.change(|topology| topology.without(peer));
    }

    fn change(&self, change: impl FnOnce(&Topology) -> Topology) {
        let _one = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = change(&self.0.topology.load());
        self.0.topology.store(Arc::new(next));
        self.0.changes.send_modify(|count| *count += 1);
    }
}
