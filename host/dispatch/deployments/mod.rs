//! What answers for which service: plugins under a name, in numbered versions, at most one of them active.
//!
//! The routing table is one immutable value, swapped whole. A change is worked out with the registry's turn for the
//! namespace held, made durable together with what it registers, and then swapped in: a call that starts later runs it,
//! a call that started before keeps the version it has.

mod change;
mod error;
mod plan;
mod record;

pub use change::{Deployed, GrantChange, Order};
pub use error::DeployError;
pub use plan::{Plan, Power, powers};

use super::artifacts::Artifacts;
use crate::domain::{DeploymentName, Digest, ImageRef, Kind, Namespace};
use crate::exec::wasm::{Import, import};
use crate::exec::{Code, Executor};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::tenancy::Grants;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

/// The `[deployments]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Versions that a deployment keeps; the oldest that is not active goes first. 16: two weeks of daily releases to
    /// roll back to; each keeps its artifact on disk.
    pub versions: usize,
    /// Deployments of one namespace. 1,000: each keeps at least one artifact on disk.
    pub count: usize,
    /// MiB of all versions' artifacts of one namespace; they are outside of `artifacts.disk_mib`. 1,024: 10,000 versions
    /// of 100 KB.
    pub mib: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { versions: 16, count: 1_000, mib: 1_024 }
    }
}

/// A plugin under its name.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Where.
    pub namespace: Namespace,
    /// Within the namespace.
    pub name: DeploymentName,
    /// Number of the version that answers; 0: none.
    pub active: u32,
    /// Highest number that was ever given.
    pub newest: u32,
    /// By number, ascending.
    pub versions: Vec<Version>,
    /// Unix microseconds of the first version.
    pub created_at: i64,
    /// Unix microseconds of the last change.
    pub updated_at: i64,
    /// What its code may reach, whichever version runs. Looked at by every host call.
    pub grants: Grants,
}

/// One artifact under one number. Never changes.
#[derive(Debug, Clone)]
pub struct Version {
    /// From 1.
    pub number: u32,
    /// The artifact.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
    /// Which image, where it is no artifact of this node.
    pub image: Option<ImageRef>,
    /// Its size; of an image 0.
    pub bytes: u64,
    /// Full names of the services that it answers.
    pub services: Vec<Arc<str>>,
    /// What it imports.
    pub imports: Vec<String>,
    /// Names of the descriptor files that it brought.
    pub files: Vec<Arc<str>>,
    /// Unix microseconds.
    pub created_at: i64,
}

impl Version {
    /// Whether its code may ask for what needs a grant.
    fn asks(&self) -> bool {
        self.imports.iter().any(|name| matches!(import(name), Import::ByGrant(_)))
    }

    /// What runs as this version.
    fn code(&self, artifacts: &Artifacts, namespace: &Namespace) -> Code {
        match &self.image {
            Some(image) => Code::image(image.clone()),
            None => artifacts.code(namespace, self.digest, self.kind),
        }
    }
}

impl Deployment {
    /// The version with this number; 0 means the newest that is kept.
    pub fn version(&self, number: u32) -> Option<&Version> {
        match number {
            0 => self.versions.last(),
            _ => self.versions.iter().find(|version| version.number == number),
        }
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.versions.iter().any(|version| version.digest == *digest)
    }
}

/// What answers for a service right now.
#[derive(Debug)]
pub struct Active {
    /// Number of the version.
    pub version: u32,
    /// What runs.
    pub code: Code,
    /// Of which deployment.
    pub deployment: DeploymentName,
    /// Whether the code may ask for what needs a grant.
    pub asks: bool,
}

/// The routing table and what it was made from.
#[derive(Debug, Clone, Default)]
struct Live {
    routes: imbl::HashMap<Namespace, imbl::HashMap<Arc<str>, Arc<Active>>>,
    all: imbl::OrdMap<Namespace, imbl::OrdMap<DeploymentName, Arc<Deployment>>>,
}

/// All deployments of a node.
pub struct Deployments {
    live: ArcSwap<Live>,
    registry: Arc<Registry>,
    artifacts: Arc<Artifacts>,
    executor: Arc<dyn Executor>,
    config: Config,
    lifecycle: Lifecycle,
}

/// What was deployed in an earlier run.
pub struct Stored(Vec<Deployment>);

impl Stored {
    /// Reads the records.
    ///
    /// * errors: the store cannot be read. A record that makes no sense is left out and named in the log.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        record::all(store).await.map(Self)
    }

    /// The artifacts that they stand on.
    pub fn artifacts(&self) -> Vec<(Namespace, Digest)> {
        let of = |one: &Deployment| {
            let namespace = one.namespace.clone();
            let kept = one.versions.iter().filter(|version| version.image.is_none());
            kept.map(move |version| (namespace.clone(), version.digest)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

impl Deployments {
    /// * `stored`: of an earlier run; `artifacts` has been told of what they stand on.
    pub fn new(
        stored: Stored,
        registry: Arc<Registry>,
        artifacts: Arc<Artifacts>,
        executor: Arc<dyn Executor>,
        config: Config,
        lifecycle: Lifecycle,
    ) -> Self {
        let mut live = Live::default();
        for deployment in stored.0 {
            live.put(&artifacts, deployment);
        }
        Self { live: ArcSwap::from_pointee(live), registry, artifacts, executor, config, lifecycle }
    }

    /// What answers for a service, by its full name. No I/O.
    pub fn active(&self, namespace: &Namespace, service: &str) -> Option<Arc<Active>> {
        self.live.load().routes.get(namespace)?.get(service).cloned()
    }

    /// All that answers, in all namespaces.
    pub fn answering(&self) -> Vec<(Namespace, Arc<str>, Arc<Active>)> {
        let live = self.live.load();
        let of = |(namespace, routes): (&Namespace, &imbl::HashMap<Arc<str>, Arc<Active>>)| {
            let each = routes.iter().map(|(name, active)| (namespace.clone(), Arc::clone(name), Arc::clone(active)));
            each.collect::<Vec<_>>()
        };
        live.routes.iter().flat_map(of).collect()
    }

    /// One deployment as it is now.
    pub fn get(&self, namespace: &Namespace, name: &DeploymentName) -> Option<Arc<Deployment>> {
        self.live.load().all.get(namespace)?.get(name).cloned()
    }

    /// Deployments ordered by namespace and name, at most `limit` of those after `after` in the namespaces that `seen` says
    /// yes to.
    pub fn list(
        &self,
        namespace: Option<&Namespace>,
        after: Option<&(Namespace, DeploymentName)>,
        limit: usize,
        seen: impl Fn(&Namespace) -> bool,
    ) -> Vec<Arc<Deployment>> {
        let live = self.live.load();
        let beyond =
            |one: &&Arc<Deployment>| after.is_none_or(|(space, name)| (&one.namespace, &one.name) > (space, name));
        let of = |space: &imbl::OrdMap<DeploymentName, Arc<Deployment>>| space.values().cloned().collect::<Vec<_>>();
        match namespace {
            Some(namespace) if !seen(namespace) => Vec::new(),
            Some(namespace) => {
                live.all.get(namespace).into_iter().flat_map(of).filter(|one| beyond(&one)).take(limit).collect()
            }
            None => {
                let from = after.map_or(Unbounded, |(space, _)| Included(space));
                let spaces = live.all.range::<_, Namespace>((from, Unbounded));
                let spaces = spaces.filter(|(namespace, _)| seen(namespace));
                spaces.flat_map(|(_, space)| of(space)).filter(|one| beyond(&one)).take(limit).collect()
            }
        }
    }

    /// How many artifacts the namespace's deployments stand on, and their bytes. No I/O.
    pub fn artifacts(&self, namespace: &Namespace) -> (u64, u64) {
        let all = self.of(namespace);
        let kept: HashMap<Digest, u64> =
            all.iter().flat_map(|one| &one.versions).map(|version| (version.digest, version.bytes)).collect();
        (kept.len() as u64, kept.values().sum())
    }

    /// Which deployment of the namespace answers a service, in its active version or in any other.
    fn owners(&self, namespace: &Namespace) -> HashMap<Arc<str>, DeploymentName> {
        let mut owners = HashMap::new();
        for one in self.of(namespace) {
            for service in one.versions.iter().flat_map(|version| &version.services) {
                owners.insert(Arc::clone(service), one.name.clone());
            }
        }
        owners
    }

    fn of(&self, namespace: &Namespace) -> Vec<Arc<Deployment>> {
        self.list(Some(namespace), None, usize::MAX, |_| true)
    }
}

impl Live {
    fn put(&mut self, artifacts: &Artifacts, deployment: Deployment) {
        self.take(&deployment.namespace, &deployment.name);
        if let Some(version) = deployment.version(deployment.active).filter(|_| deployment.active > 0) {
            let code = version.code(artifacts, &deployment.namespace);
            let (name, asks) = (deployment.name.clone(), version.asks());
            let active = Arc::new(Active { version: version.number, code, deployment: name, asks });
            let routes = self.routes.entry(deployment.namespace.clone()).or_default();
            for service in &version.services {
                routes.insert(Arc::clone(service), Arc::clone(&active));
            }
        }
        let space = self.all.entry(deployment.namespace.clone()).or_default();
        space.insert(deployment.name.clone(), Arc::new(deployment));
    }

    fn take(&mut self, namespace: &Namespace, name: &DeploymentName) {
        let Some(space) = self.all.get_mut(namespace) else { return };
        let Some(before) = space.remove(name) else { return };
        if space.is_empty() {
            self.all.remove(namespace);
        }
        let Some(routes) = self.routes.get_mut(namespace) else { return };
        if let Some(version) = before.version(before.active).filter(|_| before.active > 0) {
            for service in &version.services {
                routes.remove(&**service);
            }
        }
        if routes.is_empty() {
            self.routes.remove(namespace);
        }
    }
}
