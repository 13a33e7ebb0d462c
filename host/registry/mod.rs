//! What types, services and methods each namespace has, and the proof that a call fits one.
//!
//! A namespace's schemas are one immutable [`Snapshot`]; a registration works out the next one beside it, makes it durable,
//! and swaps it in. So a call is checked without a lock and without I/O, against one revision from its first byte to its
//! last. The raw descriptor bytes are the source of truth: custom options survive, and what is served is what was sent.

mod base;
mod call;
mod compat;
mod draft;
mod error;
mod json;
mod link;
mod load;
mod member;
mod raw;
mod records;
mod register;
mod resolve;
mod schema;
mod service;
mod snapshot;
mod source;
#[cfg(test)]
mod testing;
mod vet;
mod wire;

pub use base::BuiltIn;
pub use call::{CallError, OutputError, ValidCall, check_input, check_output, validate};
pub use compat::{Action, Change, service_changes};
pub use draft::Edit;
pub use error::RegistryError;
pub use json::{JsonError, from_json, to_json};
pub use register::{RegisteredFile, Staged};
pub use schema::{Schema, SchemaError};
pub use service::{MessageType, Method, MethodRef, Service};
pub use snapshot::{File, Snapshot};
pub use source::Source;
pub use vet::VetError;
pub use wire::WireError;

pub(crate) use crate::domain::{micros, now, timestamp};
pub(crate) use wire::{Input, MOST_NESTED, Problem, skip_unknown};

use crate::domain::Namespace;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, Semaphore, watch};

/// The `[registry]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files that one namespace may have. 10,000: more than the largest monorepo's services.
    pub files: usize,
    /// MiB of descriptors that one namespace may have. 64: 10,000 files of 6 KB; in memory about twice that.
    pub mib: usize,
    /// Namespaces that may register something. 10,000: each costs a few KiB when it is small.
    pub namespaces: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { files: 10_000, mib: 64, namespaces: 10_000 }
    }
}

/// KiB of descriptors that wait to be registered. 65,536: sixteen of the largest messages; more are RESOURCE_EXHAUSTED.
const WAITING_KIB: usize = 64 << 10;
/// Snapshots that are worked out at once. 2: a flood of hostile descriptors leaves CPU to calls.
const WORKERS: usize = 2;

/// All schemas of a node.
pub struct Registry {
    blank: Snapshot,
    spaces: RwLock<HashMap<Namespace, Arc<Space>>>,
    store: Arc<dyn Store>,
    config: Config,
    workers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    changed: watch::Sender<u64>,
    lifecycle: Lifecycle,
}

/// One namespace: what it knows now, and whose turn it is to change that.
struct Space {
    live: ArcSwap<Snapshot>,
    turn: Arc<Mutex<()>>,
}

impl Space {
    fn of(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self { live: ArcSwap::from_pointee(snapshot), turn: Arc::default() })
    }
}

impl Registry {
    /// What the namespace knows now. No I/O; one that nothing was registered in knows the node's own services.
    pub fn snapshot(&self, namespace: &Namespace) -> Arc<Snapshot> {
        match self.read().get(namespace) {
            Some(space) => space.live.load_full(),
            None => Arc::new(self.blank(namespace)),
        }
    }

    /// What the namespace would know if nothing had been registered in it: for callers who may not see what was.
    pub fn unused(&self, namespace: &Namespace) -> Arc<Snapshot> {
        Arc::new(self.blank(namespace))
    }

    /// The namespaces that something was registered in, ordered.
    pub fn namespaces(&self) -> Vec<Namespace> {
        let spaces = self.read();
        let used = spaces.iter().filter(|(_, space)| !space.live.load().is_blank());
        let mut names: Vec<Namespace> = used.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Counts the changes in all namespaces, for whoever has to follow them.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn blank(&self, namespace: &Namespace) -> Snapshot {
        Snapshot { namespace: namespace.clone(), pool: Arc::clone(&self.blank.pool), ..self.blank.clone() }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Namespace, Arc<Space>>> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The namespace's place, made if need be.
    fn space(&self, namespace: &Namespace) -> Result<Arc<Space>, RegistryError> {
        if let Some(space) = self.read().get(namespace) {
            return Ok(Arc::clone(space));
        }
        let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(space) = spaces.get(namespace) {
            return Ok(Arc::clone(space));
        }
        if spaces.len() >= self.config.namespaces {
            // Places of registrations that were refused, or taken away again; not those that somebody works in.
            spaces.retain(|_, space| !space.live.load().is_blank() || Arc::strong_count(space) > 1);
        }
        if spaces.len() >= self.config.namespaces {
            let most = self.config.namespaces;
            return Err(RegistryError::TooMany { what: "namespaces with registrations (registry.namespaces)", most });
        }
        let space = Space::of(self.blank(namespace));
        spaces.insert(namespace.clone(), Arc::clone(&space));
        Ok(space)
    }
}

#[cfg(test)]
mod tests;
