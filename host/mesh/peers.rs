//! Who this node's peers are, and what each may do here: those of the configuration, and those that were added.
//!
//! All of them are in one immutable value, swapped whole; records of `system` keep those that were added. What is said
//! here holds for this node alone: nothing that a peer says of itself makes it one, or gives it a namespace.

mod record;

use super::config::{Entry, Ground};
use crate::domain::{CollectorId, Namespace, is_endpoint, is_this_machine, now};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError, Write};
use crate::tenancy::{BINDINGS_MAX, Binding, Permit, Refused, Verb};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// Peers of a node. 100: what routing is measured with; each costs a connection and a task.
pub const PEERS_MAX: usize = 100;
/// Longest identity, in bytes: what SPIFFE allows at most is 2,048, of which nobody uses a tenth.
const IDENTITY_MAX: usize = 255;

/// One peer, as the operator of this node wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPolicy {
    /// `host:port` that it advertises and is dialled at.
    pub address: String,
    /// The URI of its certificate. `None`: connections are not encrypted, and it is known by its address.
    pub identity: Option<String>,
    /// What it may do here on behalf of its callers.
    pub allows: Vec<Binding>,
    /// Its id, as its identity has it.
    pub name: Option<CollectorId>,
}

/// A field of a peer that does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct BadPeer {
    /// Which.
    pub field: &'static str,
    /// Why.
    pub problem: String,
}

impl BadPeer {
    fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// The id in `spiffe://TRUST-DOMAIN/collector/ID`.
fn named(identity: &str) -> Option<CollectorId> {
    let (domain, path) = identity.strip_prefix("spiffe://")?.split_once('/')?;
    let is_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    if domain.is_empty() || identity.len() > IDENTITY_MAX || !domain.bytes().all(is_domain) {
        return None;
    }
    path.strip_prefix("collector/")?.parse().ok()
}

impl PeerPolicy {
    /// * errors: a field that does not do.
    pub fn new(
        address: String,
        identity: Option<String>,
        allows: Vec<Binding>,
        ground: Ground,
    ) -> Result<Self, BadPeer> {
        if !is_endpoint(&address) {
            return Err(BadPeer::new("address", "is not host:port"));
        }
        let host = address.rsplit_once(':').map_or("", |(host, _)| host);
        if !ground.tls && !ground.insecure && !is_this_machine(host) {
            let problem = "is on another machine, and connections are not encrypted: set server.tls.certificate \
                           (`collector peer init` makes one), or add --insecure if the network is safe";
            return Err(BadPeer::new("address", problem));
        }
        if allows.len() > BINDINGS_MAX {
            return Err(BadPeer::new("allows", format!("has more than {BINDINGS_MAX} entries")));
        }
        let form = "spiffe://TRUST-DOMAIN/collector/ID, the URI of its certificate";
        let name = match (&identity, ground.tls) {
            (None, true) => return Err(BadPeer::new("identity", format!("is needed with TLS: {form}"))),
            (Some(_), false) => {
                let problem = "is nothing that can be checked without TLS: leave it out, or set server.tls.certificate";
                return Err(BadPeer::new("identity", problem));
            }
            (Some(identity), true) => {
                let name = named(identity);
                Some(name.ok_or_else(|| BadPeer::new("identity", format!("is not {form}")))?)
            }
            (None, false) => None,
        };
        Ok(Self { address, identity, allows, name })
    }

    /// Whether this node hands the peer calls of a namespace: only of those that the operator named for it.
    pub fn shares(&self, namespace: &Namespace) -> bool {
        !namespace.is_system() && self.allows.iter().any(|binding| binding.scope.covers(namespace))
    }

    /// Whether there may be a namespace in which this peer's calls can be handed to that one.
    pub fn meets(&self, other: &Self) -> bool {
        let mut scopes = self.allows.iter().map(|binding| &binding.scope);
        scopes.any(|scope| other.allows.iter().any(|binding| binding.scope.meets(scope)))
    }

    /// Whether the peer may do `verb` in `namespace` here, on behalf of somebody who may.
    pub fn lets(&self, namespace: &Namespace, verb: Verb) -> bool {
        !namespace.is_system() && self.allows.iter().any(|binding| binding.allows(namespace, verb))
    }
}

#[cfg(test)]
impl PeerPolicy {
    /// Of a peer that may call everything.
    pub(crate) fn open() -> Arc<Self> {
        let allows = vec!["*:invoker".parse().unwrap()];
        Arc::new(Self { address: "127.0.0.1:1".into(), identity: None, allows, name: None })
    }
}

/// Why nothing was done with a peer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The caller may not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A field that does not do.
    #[error(transparent)]
    Field(#[from] BadPeer),
    /// Callers are not asked who they are, and may be anywhere.
    #[error(
        "this node does not ask who calls (auth.mode is off) and other machines reach it: name its peers in [[peers]] of its \
         configuration"
    )]
    Nobody,
    /// The node's settings give nothing to know peers by.
    #[error("{0}")]
    Ground(String),
    /// It stands in the configuration.
    #[error("this peer is one of the configuration's [[peers]]: change it there")]
    Configured,
    /// Another peer has the identity.
    #[error("another peer has this identity; remove that one first")]
    Taken,
    /// There is none with this address.
    #[error("there is no peer with this address; `collector peer list` shows those that there are")]
    NotFound,
    /// As many as may be.
    #[error("there are {PEERS_MAX} peers already; remove one first")]
    TooMany,
    /// The records cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node is going down.
    #[error("the node is shutting down")]
    Draining,
}

/// A peer that was added, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The peer.
    pub policy: Arc<PeerPolicy>,
    /// Unix microseconds.
    pub created_at: i64,
    /// Who added it, for people.
    pub created_by: String,
}

/// Immutable; swapped whole.
#[derive(Debug, Clone, Default)]
struct Live {
    configured: Vec<Arc<PeerPolicy>>,
    added: Vec<Added>,
}

impl Live {
    fn all(&self) -> impl Iterator<Item = &Arc<PeerPolicy>> {
        self.configured.iter().chain(self.added.iter().map(|one| &one.policy))
    }

    fn is_configured(&self, address: &str) -> bool {
        self.configured.iter().any(|one| one.address == address)
    }

    /// The added ones that stand beside what is configured: no address and no identity twice.
    fn with_added(mut self, added: Vec<Added>) -> Self {
        for one in added {
            let policy = &one.policy;
            let same = |other: &Arc<PeerPolicy>| {
                other.address == policy.address || (policy.identity.is_some() && other.identity == policy.identity)
            };
            match self.all().any(same) || self.all().count() >= PEERS_MAX {
                true => tracing::warn!(peer = policy.address, "an added peer gives way to the configuration's"),
                false => self.added.push(one),
            }
        }
        self
    }
}

/// All peers of a node. Clones share them.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    live: ArcSwap<Live>,
    ground: Ground,
    store: Option<Arc<dyn Store>>,
    changes: watch::Sender<u64>,
    /// One change after another.
    turn: Mutex<()>,
    lifecycle: Lifecycle,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("count", &self.0.live.load().all().count()).finish_non_exhaustive()
    }
}

impl Peers {
    /// Reads those that were added in an earlier run.
    ///
    /// * `entries`: of the configuration, checked.
    /// * errors: the store cannot be read. A record that makes no sense, or not with these settings, is left out and named
    ///   in the log.
    pub async fn open(
        store: Arc<dyn Store>,
        entries: &[Entry],
        ground: Ground,
        lifecycle: Lifecycle,
    ) -> Result<Self, StoreError> {
        let added = match ground.bears_peers() {
            Ok(()) => record::all(&*store, ground).await?,
            Err(_) => Vec::new(),
        };
        let live = Live { configured: configured(entries, ground), added: Vec::new() }.with_added(added);
        Ok(Self::of(live, ground, Some(store), lifecycle))
    }

    /// Those of the configuration, and no others ever.
    pub fn configured(entries: &[Entry], ground: Ground) -> Self {
        let live = Live { configured: configured(entries, ground), added: Vec::new() };
        Self::of(live, ground, None, Lifecycle::default())
    }

    fn of(live: Live, ground: Ground, store: Option<Arc<dyn Store>>, lifecycle: Lifecycle) -> Self {
        let live = ArcSwap::from_pointee(live);
        Self(Arc::new(Inner { live, ground, store, changes: watch::Sender::new(0), turn: Mutex::default(), lifecycle }))
    }

    /// The peer whose certificate has this URI.
    pub fn find_by_identity(&self, identity: &str) -> Option<Arc<PeerPolicy>> {
        self.0.live.load().all().find(|one| one.identity.as_deref() == Some(identity)).cloned()
    }

    /// The peer at this address, byte for byte as the operator wrote it.
    pub fn find_by_address(&self, address: &str) -> Option<Arc<PeerPolicy>> {
        self.0.live.load().all().find(|one| one.address == address).cloned()
    }

    /// All of them, those of the configuration first.
    pub fn all(&self) -> Vec<Arc<PeerPolicy>> {
        self.0.live.load().all().cloned().collect()
    }

    /// Those that were added.
    pub fn added(&self) -> Vec<Added> {
        self.0.live.load().added.clone()
    }

    /// Changes whenever a peer comes, goes or is changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Adds a peer, or replaces what was added under the same address. Durable when this returns.
    ///
    /// * `permit`: to operate.
    /// * errors: `Field`, `Ground`, `Configured`, `Taken`, `TooMany`, `Store`, `Draining`.
    /// * cancel: goes on; only the answer is lost.
    pub async fn add(
        &self,
        permit: &Permit,
        address: String,
        identity: Option<String>,
        allows: Vec<Binding>,
    ) -> Result<Added, PeerError> {
        self.0.ground.bears_peers().map_err(|why| PeerError::Ground(why.to_string()))?;
        let policy = Arc::new(PeerPolicy::new(address, identity, allows, self.0.ground)?);
        let created_by = permit.caller().principal().to_string();
        let (this, added) = (self.clone(), Added { policy, created_at: now(), created_by });
        self.tracked(async move { this.add_now(added).await }).await
    }

    async fn add_now(&self, added: Added) -> Result<Added, PeerError> {
        let _turn = self.0.turn.lock().await;
        let mut live = Live::clone(&self.0.live.load());
        let policy = &added.policy;
        if live.is_configured(&policy.address) {
            return Err(PeerError::Configured);
        }
        live.added.retain(|one| one.policy.address != policy.address);
        if policy.identity.is_some() && live.all().any(|one| one.identity == policy.identity) {
            return Err(PeerError::Taken);
        }
        if live.all().count() >= PEERS_MAX {
            return Err(PeerError::TooMany);
        }
        self.write(record::put(&added)).await?;
        live.added.push(added.clone());
        self.publish(live);
        Ok(added)
    }

    /// Forgets an added peer: its links end.
    ///
    /// * errors: `Configured`, `NotFound`, `Store`, `Draining`.
    /// * cancel: goes on; only the answer is lost.
    pub async fn remove(&self, _permit: &Permit, address: String) -> Result<Added, PeerError> {
        let this = self.clone();
        self.tracked(async move { this.remove_now(&address).await }).await
    }

    async fn remove_now(&self, address: &str) -> Result<Added, PeerError> {
        let _turn = self.0.turn.lock().await;
        let mut live = Live::clone(&self.0.live.load());
        if live.is_configured(address) {
            return Err(PeerError::Configured);
        }
        let at = live.added.iter().position(|one| one.policy.address == address).ok_or(PeerError::NotFound)?;
        self.write(record::delete(address)).await?;
        let gone = live.added.remove(at);
        self.publish(live);
        Ok(gone)
    }

    async fn write(&self, change: crate::store::Change) -> Result<(), PeerError> {
        let store = self.0.store.as_ref().ok_or(PeerError::Store(StoreError::ReadOnly))?;
        store.write(&Namespace::system(), Write::together(vec![change])).await?;
        Ok(())
    }

    fn publish(&self, live: Live) {
        self.0.live.store(Arc::new(live));
        self.0.changes.send_modify(|count| *count += 1);
    }

    async fn tracked<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PeerError>> + Send + 'static,
    ) -> Result<T, PeerError> {
        self.0.lifecycle.spawn(work).await.map_err(|_gone| PeerError::Draining)?
    }
}

/// What entries say; one that does not do was refused with the whole configuration.
fn configured(entries: &[Entry], ground: Ground) -> Vec<Arc<PeerPolicy>> {
    entries.iter().filter_map(|entry| entry.policy(ground).ok()).map(Arc::new).collect()
}

#[cfg(test)]
mod tests;
