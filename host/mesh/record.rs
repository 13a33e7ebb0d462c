//! Links and collectors as the store keeps them: `collector.Connection` and `collector.Collector`, in `system`.
//!
//! They say what the node knows; nothing is read from them but which collectors it knew before it was started again.

use super::{Links, Phase};
use crate::domain::{CollectorId, Namespace, now, timestamp};
use crate::lifecycle::Lifecycle;
use crate::store::{self, CHANGES_MAX, Change, Expect, Store, StoreError, Write};
use prost::Message;
use prost_types::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Collection of links.
pub const CONNECTIONS: &str = "connections";
/// Collection of known collectors.
pub const COLLECTORS: &str = "collectors";
const CONNECTION_TYPE: &str = "type.googleapis.com/collector.Connection";
const COLLECTOR_TYPE: &str = "type.googleapis.com/collector.Collector";
/// Records of each kind. 1,000: ten times what peers there may be; whoever calls Connect under many names pushes out the
/// one that was heard longest ago, never a link.
const RECORDS_MAX: usize = 1_000;
/// How often they are written at most.
const EVERY: Duration = Duration::from_secs(1);
/// How often signs of life alone are. 60 s: each is a transaction.
const ALIVE_EVERY: Duration = Duration::from_secs(60);

/// `collector.Metadata`. Source: proto/collector/common.proto.
#[derive(Clone, PartialEq, Message)]
struct MetadataRecord {
    #[prost(message, optional, tag = "1")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    updated_at: Option<Timestamp>,
    #[prost(btree_map = "string, string", tag = "3")]
    labels: BTreeMap<String, String>,
}

/// `collector.Connection`. Source: proto/collector/dispatcher.proto.
#[derive(Clone, PartialEq, Message)]
struct ConnectionRecord {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    source_collector_id: String,
    #[prost(string, tag = "3")]
    target_collector_id: String,
    #[prost(string, tag = "4")]
    address: String,
    #[prost(string, repeated, tag = "5")]
    shared_namespaces: Vec<String>,
    #[prost(message, optional, tag = "6")]
    metadata: Option<MetadataRecord>,
    #[prost(message, optional, tag = "7")]
    last_activity: Option<Timestamp>,
}

/// `collector.Collector`.
#[derive(Clone, PartialEq, Message)]
struct CollectorRecord {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(string, repeated, tag = "3")]
    namespaces: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    capabilities: Vec<String>,
    #[prost(bool, tag = "5")]
    is_direct_peer: bool,
    #[prost(message, optional, tag = "6")]
    metadata: Option<MetadataRecord>,
    #[prost(message, optional, tag = "7")]
    last_seen: Option<Timestamp>,
}

/// Somebody who called Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Opaque; new with every Connect.
    pub connection: String,
    /// Its collector id; where it gave none its address.
    pub id: String,
    /// `host:port`, as it gave it.
    pub address: String,
    /// Namespaces of both sides, in its order.
    pub namespaces: Vec<Namespace>,
    /// What else it said of itself.
    pub labels: BTreeMap<String, String>,
    /// Unix microseconds.
    pub at: i64,
}

/// Keeps the records. Clones share it.
#[derive(Clone)]
pub struct Records(Arc<Inner>);

struct Inner {
    own: String,
    advertised: String,
    store: Arc<dyn Store>,
    links: Links,
    callers: Mutex<Callers>,
    called: Notify,
}

/// Who called Connect, and who of them has links now.
#[derive(Default)]
struct Callers {
    all: HashMap<String, Caller>,
    links: HashMap<String, usize>,
}

/// A collector has a link to this one, until this is dropped.
pub struct Presence {
    records: Records,
    id: String,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut callers = self.records.0.callers();
        let left = callers.links.get_mut(&self.id).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            callers.links.remove(&self.id);
            callers.all.remove(&self.id);
        }
        drop(callers);
        self.records.0.called.notify_one();
    }
}

impl Records {
    /// Makes the collections, and forgets the links of an earlier run: they ended with it.
    ///
    /// * `own`, `advertised`: this collector's id and `host:port`.
    pub async fn open(
        store: Arc<dyn Store>,
        own: String,
        advertised: String,
        links: Links,
    ) -> Result<Self, StoreError> {
        let system = Namespace::system();
        for collection in [CONNECTIONS, COLLECTORS] {
            store::ensure(&*store, &system, collection).await?;
        }
        let old = store::all(&*store, &system, CONNECTIONS).await?;
        let changes: Vec<Change> = old.into_iter().map(|record| delete(CONNECTIONS, record.id)).collect();
        for changes in changes.chunks(CHANGES_MAX) {
            store.write(&system, Write::together(changes.to_vec())).await?;
        }
        Ok(Self(Arc::new(Inner { own, advertised, store, links, callers: Mutex::default(), called: Notify::new() })))
    }

    /// Notes a Connect; it replaces what the same collector said before.
    pub fn connected(&self, caller: Caller) {
        let mut callers = self.0.callers();
        let Callers { all, links } = &mut *callers;
        if all.len() >= RECORDS_MAX && !all.contains_key(&caller.id) {
            let others = all.values().filter(|one| !links.contains_key(&one.id));
            let oldest = others.min_by_key(|one| one.at).map(|one| one.id.clone());
            oldest.map(|id| all.remove(&id));
        }
        all.insert(caller.id.clone(), caller);
        drop(callers);
        self.0.called.notify_one();
    }

    /// A collector opened a link. When its last one has ended it is connected no more.
    pub fn present(&self, id: &CollectorId) -> Presence {
        *self.0.callers().links.entry(id.to_string()).or_default() += 1;
        Presence { records: self.clone(), id: id.to_string() }
    }

    /// Writes what changed, at most once a second, until the node drains.
    pub async fn keep(self, lifecycle: Lifecycle) {
        let mut changes = self.0.links.changes();
        let mut written = Written::read(&*self.0.store).await;
        loop {
            let now = self.0.now();
            if let Err(why) = written.catch_up(&*self.0.store, now).await {
                tracing::debug!(%why, "records of links were not written");
                written = Written::read(&*self.0.store).await;
            }
            tokio::select! {
                () = lifecycle.draining() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            tokio::select! {
                () = lifecycle.draining() => return,
                _ = changes.changed() => {}
                () = self.0.called.notified() => {}
                () = tokio::time::sleep(ALIVE_EVERY) => {}
            }
        }
    }
}

impl Inner {
    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of a link, as labels of its record: as of when that was written.
    fn counted(&self, address: &str) -> BTreeMap<String, String> {
        let tally = self.links.counts(address).map(|counts| counts.tally()).unwrap_or_default();
        tally.named().map(|(name, count)| (name.to_owned(), count.to_string())).into()
    }

    /// All records as they should be.
    fn now(&self) -> Vec<Kept> {
        let mut kept = Vec::new();
        let mut direct = BTreeSet::new();
        for link in self.links.all() {
            let (Some(peer), Phase::Linked) = (&link.peer, link.phase) else { continue };
            direct.insert(peer.to_string());
            let at = |at: i64| Some(timestamp(at));
            let namespaces: Vec<String> = link.namespaces.iter().map(ToString::to_string).collect();
            let metadata = |labels| MetadataRecord { created_at: at(link.since), updated_at: at(link.since), labels };
            let connection = ConnectionRecord {
                id: link.connection.clone(),
                source_collector_id: self.own.clone(),
                target_collector_id: peer.to_string(),
                address: self.advertised.clone(),
                shared_namespaces: namespaces.clone(),
                metadata: Some(metadata(self.counted(&link.address))),
                last_activity: at(link.heard),
            };
            kept.push(Kept::connection(connection, link.heard));
            let version = BTreeMap::from([("version".to_owned(), link.version.clone())]);
            let collector = CollectorRecord {
                id: peer.to_string(),
                address: link.address.clone(),
                namespaces,
                capabilities: vec!["link".to_owned()],
                is_direct_peer: true,
                metadata: Some(metadata(version)),
                last_seen: at(link.heard),
            };
            kept.push(Kept::collector(collector, link.heard));
        }
        // Signs of life come each second, and are told once in a while.
        let lately = now() - now().rem_euclid(i64::try_from(ALIVE_EVERY.as_micros()).unwrap_or(i64::MAX));
        let callers = self.callers();
        for caller in callers.all.values() {
            let is_there = callers.links.contains_key(&caller.id);
            let heard = if is_there { caller.at.max(lately) } else { caller.at };
            let (since, at) = (Some(timestamp(caller.at)), Some(timestamp(heard)));
            let labels = caller.labels.clone();
            let metadata = Some(MetadataRecord { created_at: since, updated_at: since, labels });
            let namespaces: Vec<String> = caller.namespaces.iter().map(ToString::to_string).collect();
            let connection = ConnectionRecord {
                id: caller.connection.clone(),
                source_collector_id: caller.id.clone(),
                target_collector_id: self.own.clone(),
                address: caller.address.clone(),
                shared_namespaces: namespaces.clone(),
                metadata: metadata.clone(),
                last_activity: at,
            };
            kept.push(Kept::connection(connection, heard));
            if !direct.contains(&caller.id) {
                let collector = CollectorRecord {
                    id: caller.id.clone(),
                    address: caller.address.clone(),
                    namespaces,
                    capabilities: Vec::new(),
                    is_direct_peer: false,
                    metadata,
                    last_seen: at,
                };
                kept.push(Kept::collector(collector, heard));
            }
        }
        kept
    }
}

/// A record as it should be.
struct Kept {
    key: (&'static str, String),
    type_url: &'static str,
    bytes: Vec<u8>,
    heard: i64,
}

impl Kept {
    fn connection(record: ConnectionRecord, heard: i64) -> Self {
        // One of each pair, whichever id it has.
        let id = format!("{}/{}", record.source_collector_id, record.target_collector_id);
        Self { key: (CONNECTIONS, id), type_url: CONNECTION_TYPE, bytes: record.encode_to_vec(), heard }
    }

    fn collector(record: CollectorRecord, heard: i64) -> Self {
        let key = (COLLECTORS, record.id.clone());
        Self { key, type_url: COLLECTOR_TYPE, bytes: record.encode_to_vec(), heard }
    }
}

/// What the store has.
struct Written {
    records: HashMap<(&'static str, String), (Vec<u8>, i64)>,
}

impl Written {
    /// What there is. What cannot be read is written again.
    async fn read(store: &dyn Store) -> Self {
        let mut records = HashMap::new();
        for collection in [CONNECTIONS, COLLECTORS] {
            for record in store::all(store, &Namespace::system(), collection).await.unwrap_or_default() {
                records.insert((collection, record.id), (record.bytes.to_vec(), 0));
            }
        }
        Self { records }
    }

    /// Makes the store have `now`. Collectors that are gone stay, as no direct peers any more.
    async fn catch_up(&mut self, store: &dyn Store, now: Vec<Kept>) -> Result<(), StoreError> {
        let keys: BTreeSet<_> = now.iter().map(|kept| kept.key.clone()).collect();
        let mut changes = Vec::new();
        for kept in now {
            let before = self.records.get(&kept.key);
            if before.is_some_and(|(bytes, _)| *bytes == kept.bytes) {
                continue;
            }
            changes.push(put(&kept.key, kept.type_url, kept.bytes.clone()));
            self.records.insert(kept.key, (kept.bytes, kept.heard));
        }
        let gone: Vec<_> = self.records.keys().filter(|key| !keys.contains(*key)).cloned().collect();
        for key in gone {
            let (collection, id) = key.clone();
            if collection == CONNECTIONS {
                self.records.remove(&key);
                changes.push(delete(collection, id));
            } else if let Some((bytes, _)) = self.records.get_mut(&key)
                && let Ok(mut record) = CollectorRecord::decode(bytes.as_slice())
                && record.is_direct_peer
            {
                record.is_direct_peer = false;
                *bytes = record.encode_to_vec();
                changes.push(put(&key, COLLECTOR_TYPE, bytes.clone()));
            }
        }
        changes.extend(self.forget(&keys));
        for changes in changes.chunks(CHANGES_MAX) {
            store.write(&Namespace::system(), Write::together(changes.to_vec())).await?;
        }
        Ok(())
    }

    /// Drops collectors beyond the bound, those that were heard longest ago first, and none that is known now.
    fn forget(&mut self, keys: &BTreeSet<(&'static str, String)>) -> Vec<Change> {
        let mut old: Vec<(i64, (&'static str, String))> = self
            .records
            .iter()
            .filter(|(key, _)| key.0 == COLLECTORS && !keys.contains(*key))
            .map(|(key, (_, heard))| (*heard, key.clone()))
            .collect();
        let known = self.records.keys().filter(|key| key.0 == COLLECTORS).count();
        old.sort_unstable();
        old.truncate(known.saturating_sub(RECORDS_MAX));
        let drop = |(_, key): (i64, (&'static str, String))| {
            self.records.remove(&key);
            delete(key.0, key.1)
        };
        old.into_iter().map(drop).collect()
    }
}

fn put((collection, id): &(&'static str, String), type_url: &str, bytes: Vec<u8>) -> Change {
    Change::Put {
        collection: (*collection).to_owned(),
        id: id.clone(),
        type_url: type_url.to_owned(),
        bytes: bytes.into(),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    }
}

fn delete(collection: &str, id: String) -> Change {
    Change::Delete { collection: collection.to_owned(), id, expect: Expect::Any }
}

/// A Connect of now.
impl Caller {
    /// * `id`: as it named itself, or its certificate did; else its address.
    pub fn new(id: String, address: String, namespaces: Vec<Namespace>, labels: BTreeMap<String, String>) -> Self {
        let connection = uuid::Uuid::now_v7().to_string();
        Self { connection, id, address, namespaces, labels, at: now() }
    }
}
