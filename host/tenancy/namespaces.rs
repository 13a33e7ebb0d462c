//! Which namespaces there are, and what each may use: records in `system`.

use super::quota::{BadQuota, Overrides, Quota, Quotas, Usage};
use super::{Permit, Refused};
use crate::domain::{KeptFiles, Namespace};
use crate::lifecycle::Lifecycle;
use crate::store::{self, Change, Expect, Footprint, Store, StoreError, Write};
use arc_swap::ArcSwap;
use prost::Message;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Mutex;

/// Collection of namespaces, in `system`.
const COLLECTION: &str = "namespaces";
const TYPE: &str = "type.googleapis.com/collector.admin.v1.NamespaceRecord";

/// The `[tenancy]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How namespaces come into being. By use: a node for oneself asks nobody.
    pub namespaces: Existence,
    /// Namespaces with a record. 10,000: all of them are in memory, about 1 KB each.
    pub count: usize,
}

/// How namespaces come into being.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existence {
    /// By use.
    #[default]
    Open,
    /// By `collector ns create`; what was not made answers as what is forbidden.
    Listed,
}

impl Default for Config {
    fn default() -> Self {
        Self { namespaces: Existence::default(), count: 10_000 }
    }
}

/// A namespace with a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: Namespace,
    /// When its record was made.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// Where its quota differs from `[quotas.namespace]`.
    pub overrides: Overrides,
}

/// What was made. Read by every request.
#[derive(Debug, Default)]
pub(super) struct Known {
    existence: Existence,
    all: ArcSwap<imbl::OrdMap<Namespace, Arc<Listed>>>,
}

impl Known {
    /// Whether there is such a namespace. `system` always is.
    pub(super) fn has(&self, namespace: &Namespace) -> bool {
        match self.existence {
            Existence::Open => true,
            Existence::Listed => *namespace == Namespace::system() || self.all.load().contains_key(namespace),
        }
    }
}

/// Why something was not done with a namespace.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The caller may not.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is one.
    #[error("the namespace is there already; change it with SetQuota")]
    Exists,
    /// There is none with a record.
    #[error("there is no such namespace; create it first")]
    NotFound,
    /// A quota that cannot be kept.
    #[error(transparent)]
    Quota(#[from] BadQuota),
    /// As many as may be.
    #[error("there are {0} namespaces already (setting tenancy.count)")]
    TooMany(usize),
    /// The records cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node is going down.
    #[error("the node is shutting down")]
    Draining,
}

/// The namespaces of a node.
pub struct Namespaces {
    known: Arc<Known>,
    quotas: Arc<Quotas>,
    store: Arc<dyn Store>,
    config: Config,
    lifecycle: Lifecycle,
    /// One change after another.
    turn: Mutex<()>,
}

/// `collector.admin.v1.NamespaceRecord`. Source: proto/collector/admin/v1/namespaces.proto.
#[derive(Clone, PartialEq, Message)]
struct NamespaceRecord {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(message, optional, tag = "2")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "3")]
    updated_at: Option<Timestamp>,
    #[prost(btree_map = "string, uint64", tag = "4")]
    quota: Overrides,
}

impl Namespaces {
    /// Reads the records of an earlier run, and tells `quotas` what they say.
    ///
    /// * errors: the store cannot be read. A record that makes no sense is left out and named in the log.
    pub async fn open(
        store: Arc<dyn Store>,
        quotas: Arc<Quotas>,
        config: Config,
        lifecycle: Lifecycle,
    ) -> Result<Self, StoreError> {
        store::ensure(&*store, &Namespace::system(), COLLECTION).await?;
        let mut all = imbl::OrdMap::new();
        for record in store::all(&*store, &Namespace::system(), COLLECTION).await? {
            let listed = NamespaceRecord::decode(record.bytes).ok().and_then(read);
            let quota = listed.as_ref().map(|listed| quotas.worked_out(&listed.overrides));
            match (listed, quota) {
                (Some(listed), Some(Ok(quota))) => {
                    quotas.set(&listed.name, quota);
                    all.insert(listed.name.clone(), Arc::new(listed));
                }
                _ => tracing::error!(id = record.id, "a stored namespace cannot be read"),
            }
        }
        let known = Known { existence: config.namespaces, all: ArcSwap::from_pointee(all) };
        Ok(Self { known: Arc::new(known), quotas, store, config, lifecycle, turn: Mutex::default() })
    }

    pub(super) fn known(&self) -> &Arc<Known> {
        &self.known
    }

    /// The books of all namespaces.
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Makes a namespace.
    ///
    /// * errors: `Exists`, `Quota`, `TooMany`, `Store`, `Draining`.
    /// * cancel: goes on; only the answer is lost.
    pub async fn create(
        self: &Arc<Self>,
        permit: &Permit,
        overrides: Overrides,
    ) -> Result<Arc<Listed>, NamespaceError> {
        let (this, name) = (Arc::clone(self), permit.namespace().clone());
        self.tracked(async move {
            let _turn = this.turn.lock().await;
            match this.get(&name) {
                Some(_) => Err(NamespaceError::Exists),
                None => this.keep(name, None, overrides).await,
            }
        })
        .await
    }

    /// Replaces quotas of a namespace.
    ///
    /// * `overrides`: beside those that it has.
    /// * `reset`: names of those that are to be as configured again.
    /// * errors: `NotFound` where only listed ones exist, `Quota`, `TooMany`, `Store`, `Draining`.
    /// * cancel: goes on; only the answer is lost.
    pub async fn set_quota(
        self: &Arc<Self>,
        permit: &Permit,
        overrides: Overrides,
        reset: Vec<String>,
    ) -> Result<Arc<Listed>, NamespaceError> {
        let (this, name) = (Arc::clone(self), permit.namespace().clone());
        self.tracked(async move {
            let _turn = this.turn.lock().await;
            let before = this.get(&name);
            if before.is_none() && this.config.namespaces == Existence::Listed {
                return Err(NamespaceError::NotFound);
            }
            let mut all = before.as_ref().map(|before| before.overrides.clone()).unwrap_or_default();
            for name in reset {
                if !Quota::names().contains(&name.as_str()) {
                    return Err(BadQuota::Unknown(name.chars().take(64).collect()).into());
                }
                all.remove(&name);
            }
            all.extend(overrides);
            this.keep(name, before, all).await
        })
        .await
    }

    /// One with a record.
    pub fn get(&self, name: &Namespace) -> Option<Arc<Listed>> {
        self.known.all.load().get(name).cloned()
    }

    /// Those with a record, by name, at most `limit` of those after `after` that `fits` takes.
    pub fn list(&self, after: Option<&Namespace>, limit: usize, fits: impl Fn(&Namespace) -> bool) -> Vec<Arc<Listed>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let all = self.known.all.load();
        let from = after.map_or(Unbounded, Excluded);
        let beyond = all.range::<_, Namespace>((from, Unbounded)).map(|(_, listed)| listed);
        beyond.filter(|listed| fits(&listed.name)).take(limit).cloned().collect()
    }

    /// What a namespace may use.
    pub fn quota(&self, name: &Namespace) -> Quota {
        self.quotas.quota(name)
    }

    /// What a namespace uses, what its database keeps, and its files.
    ///
    /// * errors: `Store`.
    pub async fn usage(&self, name: &Namespace) -> Result<(Usage, Footprint, KeptFiles), NamespaceError> {
        Ok((self.quotas.usage(name), self.store.footprint(name).await?, self.quotas.files(name)))
    }

    /// Makes it durable, then true.
    async fn keep(
        &self,
        name: Namespace,
        before: Option<Arc<Listed>>,
        overrides: Overrides,
    ) -> Result<Arc<Listed>, NamespaceError> {
        let quota = self.quotas.worked_out(&overrides)?;
        if before.is_none() && self.known.all.load().len() >= self.config.count {
            return Err(NamespaceError::TooMany(self.config.count));
        }
        let now = Some(Timestamp::from(SystemTime::now()));
        let created_at = before.map_or(now, |before| before.created_at);
        let listed = Arc::new(Listed { name, created_at, updated_at: now, overrides });
        self.store.write(&Namespace::system(), Write::together(vec![put(&listed)])).await?;
        self.known.all.rcu(|all| all.update(listed.name.clone(), Arc::clone(&listed)));
        self.quotas.set(&listed.name, quota);
        Ok(listed)
    }

    async fn tracked<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, NamespaceError>> + Send + 'static,
    ) -> Result<T, NamespaceError> {
        self.lifecycle.spawn(work).await.map_err(|_gone| NamespaceError::Draining)?
    }
}

fn put(listed: &Listed) -> Change {
    let record = NamespaceRecord {
        namespace: listed.name.to_string(),
        created_at: listed.created_at,
        updated_at: listed.updated_at,
        quota: listed.overrides.clone(),
    };
    Change::Put {
        collection: COLLECTION.to_owned(),
        id: listed.name.to_string(),
        type_url: TYPE.to_owned(),
        bytes: record.encode_to_vec().into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    }
}

fn read(record: NamespaceRecord) -> Option<Listed> {
    let NamespaceRecord { namespace, created_at, updated_at, quota } = record;
    Some(Listed { name: namespace.parse().ok()?, created_at, updated_at, overrides: quota })
}
