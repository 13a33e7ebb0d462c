//! API keys: made here, shown once, found by the hash of their text.
//!
//! All keys are in one immutable value, swapped whole; records of `system` keep them. A key that is revoked is durable
//! before it is acknowledged, and over for open streams at the same moment.

mod record;

use super::caller::Life;
use super::secret::{Hash, KEY_PREFIX, Secret};
use super::{BINDINGS_MAX, Binding, Caller, Config, KeyError, Principal, Scope};
use crate::domain::{Namespace, now};
use crate::lifecycle::Lifecycle;
use crate::store::{Change, Store, StoreError, Write};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, watch};

/// Longest label, in bytes: a line.
const LABEL_MAX: usize = 128;
/// Keys that are over and make room for a new one at once: with it they fit into one write.
const SWEPT_MAX: usize = 100;

/// A key that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// For people.
    pub label: String,
    /// What its holder may do.
    pub bindings: Vec<Binding>,
    /// Unix microseconds; `None`: until it is revoked.
    pub expires_at: Option<i64>,
}

/// What everybody may know of a key who may manage it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Names it.
    pub id: Arc<str>,
    /// For people.
    pub label: String,
    /// What its holder may do.
    pub bindings: Vec<Binding>,
    /// Unix microseconds.
    pub expires_at: Option<i64>,
    /// Unix microseconds.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
    /// Unix microseconds.
    pub revoked_at: Option<i64>,
    /// The last characters of its text.
    pub ending: String,
}

impl Key {
    fn is_over(&self) -> bool {
        self.revoked_at.is_some() || self.expires_at.is_some_and(|at| now() >= at)
    }

    fn is_of(&self, namespace: &Namespace) -> bool {
        self.bindings.iter().any(|binding| matches!(&binding.scope, Scope::One(one) if one == namespace))
    }

    fn namespaces(&self) -> BTreeSet<&Namespace> {
        let named = self.bindings.iter().filter_map(|binding| match &binding.scope {
            Scope::One(namespace) => Some(namespace),
            Scope::All => None,
        });
        named.collect()
    }
}

/// A key with what finds and ends it.
#[derive(Debug)]
struct Entry {
    key: Key,
    hash: Hash,
    withdrawn: Arc<AtomicBool>,
    caller: Caller,
}

/// Immutable; swapped whole.
#[derive(Debug, Clone, Default)]
struct Live {
    by_hash: imbl::HashMap<Hash, Arc<Entry>>,
    by_id: imbl::OrdMap<Arc<str>, Arc<Entry>>,
    of_namespace: imbl::HashMap<Namespace, usize>,
}

impl Live {
    fn put(&mut self, entry: Arc<Entry>) {
        self.take(&entry.key.id);
        for namespace in entry.key.namespaces() {
            *self.of_namespace.entry(namespace.clone()).or_default() += 1;
        }
        self.by_hash.insert(entry.hash, Arc::clone(&entry));
        self.by_id.insert(Arc::clone(&entry.key.id), entry);
    }

    fn take(&mut self, id: &str) {
        let Some(entry) = self.by_id.remove(id) else { return };
        self.by_hash.remove(&entry.hash);
        for namespace in entry.key.namespaces() {
            let left = self.of_namespace.get(namespace).map_or(0, |count| count.saturating_sub(1));
            match left {
                0 => drop(self.of_namespace.remove(namespace)),
                left => drop(self.of_namespace.insert(namespace.clone(), left)),
            }
        }
    }
}

/// All keys of a node. Clones share them.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    live: ArcSwap<Live>,
    store: Arc<dyn Store>,
    most: usize,
    most_per_namespace: usize,
    changes: watch::Sender<u64>,
    turn: Mutex<()>,
    lifecycle: Lifecycle,
}

impl Keys {
    /// Reads the keys of an earlier run.
    ///
    /// * errors: the store cannot be read. A record that makes no sense is left out and named in the log.
    pub async fn open(store: Arc<dyn Store>, config: &Config, lifecycle: Lifecycle) -> Result<Self, StoreError> {
        let changes = watch::Sender::new(0);
        let mut live = Live::default();
        for (key, hash) in record::all(&*store).await? {
            live.put(Arc::new(entry(key, hash, &changes)));
        }
        let inner = Inner {
            live: ArcSwap::from_pointee(live),
            store,
            most: config.keys,
            most_per_namespace: config.keys_per_namespace,
            changes,
            turn: Mutex::default(),
            lifecycle,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Whose key this is. One look-up by the hash of the whole text; the text is compared with nothing.
    pub(super) fn find(&self, hash: &Hash) -> Option<Caller> {
        let live = self.0.live.load();
        live.by_hash.get(hash).map(|entry| entry.caller.clone()).filter(|caller| !caller.has_ended())
    }

    /// One key.
    pub fn get(&self, id: &str) -> Option<Key> {
        self.0.live.load().by_id.get(id).map(|entry| entry.key.clone())
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.0.live.load().by_id.is_empty()
    }

    /// Keys by id, at most `limit` of those after `after` that `wanted` says yes to.
    pub fn list(&self, after: Option<&str>, limit: usize, wanted: impl Fn(&Key) -> bool) -> Vec<Key> {
        let live = self.0.live.load();
        let from = after.map_or(Unbounded, Excluded);
        let keys = live.by_id.range::<_, str>((from, Unbounded)).map(|(_, entry)| &entry.key);
        keys.filter(|key| wanted(key)).take(limit).cloned().collect()
    }

    /// Makes a key, durable when this returns.
    ///
    /// * `by`: who makes it, for people.
    /// * returns: the key and its text, which nobody can read again.
    /// * errors: `Field`, `TooMany`, `Random`, `Store`.
    /// * cancel: goes on; only the answer, and with it the text, is lost.
    pub async fn create(&self, new: NewKey, by: String) -> Result<(Key, Secret), KeyError> {
        new.check()?;
        let this = self.clone();
        self.0.lifecycle.spawn(async move { this.create_now(new, by).await }).await.map_err(|_| KeyError::Draining)?
    }

    async fn create_now(&self, new: NewKey, by: String) -> Result<(Key, Secret), KeyError> {
        let _turn = self.0.turn.lock().await;
        let (id, secret) = Secret::make(KEY_PREFIX).map_err(|_| KeyError::Random)?;
        let NewKey { label, bindings, expires_at } = new;
        let (id, ending) = (id.into(), secret.ending());
        let key = Key { id, label, bindings, expires_at, created_at: now(), created_by: by, revoked_at: None, ending };
        let swept = self.make_room(&key)?;
        let mut changes: Vec<Change> = swept.iter().map(|id| record::delete(id)).collect();
        changes.push(record::put(&key, &secret.hash()));
        record::ensure(&*self.0.store).await?;
        self.0.store.write(&Namespace::system(), Write::together(changes)).await?;
        let made = Arc::new(entry(key.clone(), secret.hash(), &self.0.changes));
        self.0.live.rcu(|live| {
            let mut live = Live::clone(live);
            swept.iter().for_each(|id| live.take(id));
            live.put(Arc::clone(&made));
            live
        });
        Ok((key, secret))
    }

    /// Keys that are over and have to go, so that one more fits.
    fn make_room(&self, key: &Key) -> Result<Vec<Arc<str>>, KeyError> {
        let live = self.0.live.load();
        let mut swept = Vec::new();
        let over = |wanted: &dyn Fn(&Key) -> bool| -> Vec<Arc<str>> {
            let keys = live.by_id.values().map(|entry| &entry.key);
            keys.filter(|key| key.is_over() && wanted(key)).take(SWEPT_MAX).map(|key| Arc::clone(&key.id)).collect()
        };
        for namespace in key.namespaces() {
            let most = self.0.most_per_namespace;
            if live.of_namespace.get(namespace).is_some_and(|count| *count >= most) {
                let gone = over(&|key| key.is_of(namespace));
                if gone.is_empty() {
                    return Err(KeyError::TooMany { what: "keys in the namespace (auth.keys_per_namespace)", most });
                }
                swept.extend(gone);
            }
        }
        if live.by_id.len() >= self.0.most && swept.is_empty() {
            swept = over(&|_| true);
            if swept.is_empty() {
                return Err(KeyError::TooMany { what: "keys on the node (auth.keys)", most: self.0.most });
            }
        }
        swept.sort_unstable();
        swept.dedup();
        swept.truncate(SWEPT_MAX);
        Ok(swept)
    }

    /// Ends a key: durable, then over for new calls and open streams. One that is over already stays so.
    ///
    /// * errors: `NotFound`, `Store`.
    /// * cancel: goes on; only the answer is lost.
    pub async fn revoke(&self, id: &str) -> Result<Key, KeyError> {
        let (this, id) = (self.clone(), id.to_owned());
        self.0.lifecycle.spawn(async move { this.revoke_now(&id).await }).await.map_err(|_| KeyError::Draining)?
    }

    async fn revoke_now(&self, id: &str) -> Result<Key, KeyError> {
        let _turn = self.0.turn.lock().await;
        let before = self.0.live.load().by_id.get(id).cloned().ok_or(KeyError::NotFound)?;
        if before.key.revoked_at.is_some() {
            return Ok(before.key.clone());
        }
        let key = Key { revoked_at: Some(now()), ..before.key.clone() };
        let change = record::put(&key, &before.hash);
        self.0.store.write(&Namespace::system(), Write::together(vec![change])).await?;
        let revoked = Arc::new(entry(key.clone(), before.hash, &self.0.changes));
        self.0.live.rcu(|live| {
            let mut live = Live::clone(live);
            live.put(Arc::clone(&revoked));
            live
        });
        before.withdrawn.store(true, Ordering::Release);
        self.0.changes.send_modify(|count| *count += 1);
        Ok(key)
    }
}

impl NewKey {
    fn check(&self) -> Result<(), KeyError> {
        let field = |field, problem: String| Err(KeyError::Field { field, problem });
        if self.label.len() > LABEL_MAX || self.label.chars().any(char::is_control) {
            return field("label", format!("must be one line of at most {LABEL_MAX} bytes"));
        }
        if self.bindings.is_empty() || self.bindings.len() > BINDINGS_MAX {
            return field("bindings", format!("must be 1 to {BINDINGS_MAX}"));
        }
        let own = |binding: &Binding| matches!(&binding.scope, Scope::One(namespace) if namespace.is_system());
        if self.bindings.iter().any(own) {
            return field("bindings", "of system give nothing: only *:admin reads it".to_owned());
        }
        match self.expires_at {
            Some(at) if at <= now() => field("expires_at", "is not in the future".to_owned()),
            _ => Ok(()),
        }
    }
}

fn entry(key: Key, hash: Hash, changes: &watch::Sender<u64>) -> Entry {
    let withdrawn = Arc::new(AtomicBool::new(key.revoked_at.is_some()));
    let life = Life::new(key.expires_at, vec![Arc::clone(&withdrawn)], changes.subscribe());
    let principal = Principal::Key { id: Arc::clone(&key.id) };
    let caller = Caller::new(principal, key.bindings.clone(), Some(life));
    Entry { key, hash, withdrawn, caller }
}

#[cfg(test)]
mod tests;
