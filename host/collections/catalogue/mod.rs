//! Definitions of collections: records of `system/collections`, all of them in memory.
//!
//! The record decides whether there is a collection. Around it stand the tables that hold its records, in another
//! database, so that no change is one transaction; a crash between two steps leaves what was or what is to be:
//! * making: the tables, then the definition. Tables without a definition are nobody's; whoever uses the name next has
//!   them dropped first.
//! * dropping: the definition, and with it in one write the note that the tables are to go; then, once nobody works by the
//!   definition any more, the tables, then the note.
//! * changing: a note that the tables are being changed, the tables, the definition with the note's end. A note that is
//!   there at the start of the node is followed: the tables are made to be what the definition says.
//!
//! Who makes or changes a collection has the turn of its tables, then that of the namespace; who drops it the second only,
//! so as not to wait for the first. A definition that cannot be read still is one: nobody touches its tables.
//!
//! So a definition without tables comes about only by taking a database away. Then every request for its records says that
//! there is no such collection, and dropping it makes the name free.

mod own;
mod record;

use super::Place;
use crate::domain::{CollectionName, Namespace};
use crate::registry::now;
use crate::store::{self, Change, Expect, Labels, Once, Refusal, Store, StoreError, Write, Written};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::sleep;

/// How often a failed write is followed by another, and how long it waits in between: disks that fail for a moment.
const CONFIRM_TRIES: u32 = 5;
const CONFIRM_PAUSE: Duration = Duration::from_millis(50);

/// The `[collections]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Collections that one namespace may have. 1,000: each is a few tables of one database.
    pub per_namespace: usize,
    /// Collections of all namespaces together. 100,000: their definitions are in memory, half a KiB each.
    pub count: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { per_namespace: 1_000, count: 100_000 }
    }
}

/// What a collection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Whose it is.
    pub namespace: Namespace,
    /// Its name.
    pub name: CollectionName,
    /// Full name of the records' type.
    pub message_type: Option<String>,
    /// As they were given: dotted paths, `path:vector`.
    pub indexed_fields: Vec<String>,
    /// Where clients are routed to; empty: here.
    pub server_endpoint: String,
    /// The caller's.
    pub labels: Labels,
    /// Whether text search finds its records.
    pub full_text: bool,
    /// Unix microseconds.
    pub created_at: i64,
    /// Unix microseconds.
    pub updated_at: i64,
}

impl Definition {
    /// `namespace/name`.
    pub fn id(&self) -> String {
        id(&self.namespace, &self.name)
    }
}

impl Place {
    /// `namespace/name`.
    pub fn id(&self) -> String {
        id(&self.namespace, &self.collection)
    }
}

fn id(namespace: &Namespace, name: &CollectionName) -> String {
    format!("{namespace}/{name}")
}

/// What was begun with a collection's tables and has to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// They are to go, unless there is a definition.
    Drop,
    /// Their indexes are to be those of the definition.
    Shape,
    /// So is what queries see of each record.
    Index,
}

/// All definitions.
pub struct Catalogue {
    live: ArcSwap<Live>,
    store: Arc<dyn Store>,
    config: Config,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Immutable; swapped whole.
#[derive(Clone, Default)]
struct Live {
    by_name: imbl::HashMap<Namespace, imbl::HashMap<CollectionName, Arc<Definition>>>,
    by_id: imbl::OrdMap<Arc<str>, Arc<Definition>>,
}

impl Live {
    fn put(&mut self, definition: Arc<Definition>) {
        self.by_id.insert(definition.id().into(), Arc::clone(&definition));
        let space = self.by_name.entry(definition.namespace.clone()).or_default();
        space.insert(definition.name.clone(), definition);
    }

    fn take(&mut self, place: &Place) {
        self.by_id.remove(&*place.id());
        let Some(space) = self.by_name.get_mut(&place.namespace) else { return };
        space.remove(&place.collection);
        if space.is_empty() {
            self.by_name.remove(&place.namespace);
        }
    }
}

/// Holds others who want to change the same thing off until it is dropped.
pub(super) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// What became of [`Catalogue::insert`].
pub(super) enum Inserted {
    /// There is one more.
    Now(Arc<Definition>),
    /// It was made before by a request of this idempotency key. It may be gone by now.
    Before,
}

impl Catalogue {
    /// Reads the definitions of an earlier run, and drops the tables of collections that were being dropped.
    ///
    /// * errors: the store cannot be read. A record that makes no sense is left out and named in the log.
    pub async fn open(store: Arc<dyn Store>, config: Config) -> Result<Self, StoreError> {
        let mut live = Live::default();
        own::definitions().into_iter().for_each(|definition| live.put(Arc::new(definition)));
        for definition in record::all(&*store).await? {
            live.put(Arc::new(definition));
        }
        let catalogue = Self { live: ArcSwap::from_pointee(live), store, config, turns: Mutex::default() };
        for (place, work) in catalogue.begun().await? {
            if work == Work::Drop {
                catalogue.drop_tables(&place).await;
            }
        }
        Ok(catalogue)
    }

    /// A definition as it is now. No I/O, no lock.
    pub fn find(&self, namespace: &Namespace, name: &CollectionName) -> Option<Arc<Definition>> {
        self.live.load().by_name.get(namespace)?.get(name).cloned()
    }

    /// Definitions ordered by id (bytes), at most `limit` of those after `after` that `wanted` says yes to.
    ///
    /// * `after`: an id; it need not be there.
    pub fn list(
        &self,
        namespace: Option<&Namespace>,
        after: Option<&str>,
        limit: usize,
        mut wanted: impl FnMut(&Definition) -> bool,
    ) -> Vec<Arc<Definition>> {
        let live = self.live.load();
        let first = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let from = match after {
            Some(after) if after >= first.as_str() => Excluded(after),
            _ => Included(first.as_str()),
        };
        let all = live.by_id.range::<_, str>((from, Unbounded));
        let all = all.take_while(|(id, _)| id.starts_with(&first)).map(|(_, definition)| definition);
        all.filter(|definition| wanted(definition)).take(limit).cloned().collect()
    }

    /// Waits for the turn to change `what`: a namespace's set of collections, or by an id the tables of one.
    pub(super) async fn turn(&self, what: &str) -> Turn {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Only those that somebody has or waits for are of use.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(what.to_owned()).or_default())
        };
        Turn { _guard: turn.lock_owned().await }
    }

    /// What there is too much of for one more collection, and how many there may be.
    pub(super) fn full(&self, namespace: &Namespace) -> Option<(&'static str, usize)> {
        let live = self.live.load();
        let of_namespace = live.by_name.get(namespace).map_or(0, imbl::HashMap::len);
        if of_namespace >= self.config.per_namespace {
            return Some(("collections in the namespace (collections.per_namespace)", self.config.per_namespace));
        }
        let full = live.by_id.len().saturating_sub(own::COUNT) >= self.config.count;
        full.then_some(("collections on the node (collections.count)", self.config.count))
    }

    /// Adds a definition: durable, then seen. Its tables are there; the caller has the namespace's turn.
    ///
    /// * errors: `CollectionExists`, `Reused`; those of [`Store::write`].
    pub(super) async fn insert(&self, definition: Definition, once: Option<Once>) -> Result<Inserted, StoreError> {
        let place = Place { namespace: definition.namespace.clone(), collection: definition.name.clone() };
        // A note that is still there speaks of an earlier collection of this name.
        let changes = vec![record::put(&definition, Expect::Absent), record::no_note(&place, Expect::Any)];
        match self.write(&place, Write { once, ..Write::together(changes) }).await {
            Ok(done) if done.replayed => Ok(Inserted::Before),
            Ok(_) => Ok(Inserted::Now(self.show(definition))),
            Err(StoreError::Refused { why: Refusal::Exists, .. }) => Err(StoreError::CollectionExists),
            Err(other) => Err(other),
        }
    }

    /// Puts another definition in the place of one: durable, then seen. The caller has the turns of both the namespace and
    /// the collection.
    ///
    /// * `work`: what is left to do with the tables; `None` ends what was noted.
    /// * errors: `NoCollection`; those of [`Store::write`].
    pub(super) async fn replace(&self, definition: Definition, work: Option<Work>) -> Result<(), StoreError> {
        let place = Place { namespace: definition.namespace.clone(), collection: definition.name.clone() };
        let note = match work {
            Some(work) => record::note(&place, work, None),
            None => record::no_note(&place, Expect::Any),
        };
        let changes = vec![record::put(&definition, Expect::Present), note];
        match self.write(&place, Write::together(changes)).await {
            Ok(_) => drop(self.show(definition)),
            Err(StoreError::Refused { .. }) => return Err(StoreError::NoCollection),
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Takes a definition away: durable, then seen. The caller has the namespace's turn, and drops the tables next.
    ///
    /// * `records`: that it had; kept for repeats.
    /// * returns: `records` as of the first request with this idempotency key.
    /// * errors: `NoCollection`, `Reused`; those of [`Store::write`].
    pub(super) async fn remove(&self, place: &Place, records: u64, once: Option<Once>) -> Result<u64, StoreError> {
        let changes = vec![record::delete(place), record::note(place, Work::Drop, Some(records))];
        match self.write(place, Write { once, ..Write::together(changes) }).await {
            Ok(done) => {
                let kept = done.outcomes.iter().find_map(|outcome| match outcome {
                    Ok(Written::Put { labels, .. }) => record::noted(labels),
                    _ => None,
                });
                if !done.replayed {
                    self.hide(place);
                }
                Ok(kept.unwrap_or(records))
            }
            Err(StoreError::Refused { .. }) => Err(StoreError::NoCollection),
            Err(other) => Err(other),
        }
    }

    /// Drops the tables of a collection that has no definition, and the note that says so. What does not work now is done
    /// when the node starts again or the name is used again.
    pub(super) async fn drop_tables(&self, place: &Place) {
        let dropped = match record::read(&*self.store, place).await {
            Ok(None) => self.store.drop_collection(&place.namespace, place.collection.as_str()).await.map(drop),
            Ok(Some(_)) => Ok(()),
            // There is one, whatever it says.
            Err(why) => Err(why),
        };
        match dropped {
            Ok(()) => self.finished(place, Work::Drop).await,
            Err(why) => {
                tracing::warn!(collection = place.id(), %why, "the tables of a dropped collection are still there");
            }
        }
    }

    /// Notes what is about to be done with the tables of a collection. The caller has the turns of both the namespace and
    /// the collection.
    pub(super) async fn begin(&self, place: &Place, work: Work) -> Result<(), StoreError> {
        let note = Write::together(vec![record::note(place, work, None)]);
        self.store.write(&Namespace::system(), note).await.map(drop)
    }

    /// Ends the note of this work; one of other work stays. If that does not work, the work is done once more at the next
    /// start: no harm.
    pub(super) async fn finished(&self, place: &Place, work: Work) {
        let ended = match record::work(&*self.store, place).await {
            Ok(Some((noted, revision))) if noted == work => {
                let end = Write::together(vec![record::no_note(place, Expect::Revision(revision))]);
                self.store.write(&Namespace::system(), end).await.map(drop)
            }
            Ok(_) => Ok(()),
            Err(why) => Err(why),
        };
        match ended {
            // Refused: there is another note by now.
            Ok(()) | Err(StoreError::Refused { .. }) => {}
            Err(why) => {
                tracing::warn!(collection = place.id(), %why, "a finished change of a collection is still noted")
            }
        }
    }

    /// What was begun with the tables of a collection and not finished.
    pub(super) async fn unfinished(&self, place: &Place) -> Result<Option<Work>, StoreError> {
        Ok(record::work(&*self.store, place).await?.map(|(work, _)| work))
    }

    /// Everything that was begun and not finished.
    pub(super) async fn begun(&self) -> Result<Vec<(Place, Work)>, StoreError> {
        record::all_work(&*self.store).await
    }

    /// Whether there is a definition, also one that memory lacks. The caller has the namespace's turn.
    ///
    /// * errors: those of [`Store::get`]; `Corrupt` for one that cannot be read: what it stands for is to be kept.
    pub(super) async fn exists(&self, place: &Place) -> Result<bool, StoreError> {
        let found = || self.find(&place.namespace, &place.collection).is_some();
        if found() || record::read(&*self.store, place).await?.is_none() {
            return Ok(found());
        }
        // It was lost from sight when a write failed.
        self.confirm().await?;
        self.follow(place).await?;
        Ok(found())
    }

    /// Makes a write to the definition of `place`. Where it is not known what became of one, memory follows the record.
    async fn write(&self, place: &Place, write: Write) -> Result<store::Done, StoreError> {
        let takes_away = write.changes.iter().any(|change| *change == record::delete(place));
        let written = self.store.write(&Namespace::system(), write).await;
        let followed = match &written {
            Err(StoreError::Refused { .. }) => self.follow(place).await,
            Err(StoreError::Io(_) | StoreError::Corrupt(_)) => match self.confirm().await {
                Ok(()) => self.follow(place).await,
                Err(why) => {
                    // It may be gone once the node starts again: nothing must be acknowledged in it until then.
                    if takes_away {
                        self.hide(place);
                    }
                    Err(why)
                }
            },
            _ => Ok(()),
        };
        if let Err(why) = followed {
            tracing::warn!(collection = place.id(), %why, "what became of a definition is not known");
        }
        written
    }

    /// Makes what is read be what stays. Readers do not see what a failed write left in the log, but after a crash it may
    /// count; the next write has the database opened anew and the log emptied.
    async fn confirm(&self) -> Result<(), StoreError> {
        let mut left = CONFIRM_TRIES;
        loop {
            left -= 1;
            match self.store.write(&Namespace::system(), Write::together(vec![record::nothing()])).await {
                Err(StoreError::Io(_) | StoreError::Busy) if left > 0 => sleep(CONFIRM_PAUSE).await,
                done => return done.map(drop),
            }
        }
    }

    /// Makes memory say what the record says.
    async fn follow(&self, place: &Place) -> Result<(), StoreError> {
        match record::read(&*self.store, place).await? {
            // Whoever works by a definition that has not changed keeps it.
            Some(read) if self.find(&place.namespace, &place.collection).is_some_and(|now| *now == read) => {}
            Some(read) => drop(self.show(read)),
            None => self.hide(place),
        }
        Ok(())
    }

    fn show(&self, definition: Definition) -> Arc<Definition> {
        let definition = Arc::new(definition);
        self.live.rcu(|live| {
            let mut live = Live::clone(live);
            live.put(Arc::clone(&definition));
            live
        });
        definition
    }

    fn hide(&self, place: &Place) {
        self.live.rcu(|live| {
            let mut live = Live::clone(live);
            live.take(place);
            live
        });
    }
}

/// What a request for a new collection asks for, whenever it comes.
pub(super) fn fingerprint(definition: &Definition) -> [u8; 32] {
    let timeless = Definition { created_at: 0, updated_at: 0, ..definition.clone() };
    match record::put(&timeless, Expect::Any) {
        Change::Put { bytes, .. } => *blake3::hash(&bytes).as_bytes(),
        Change::Delete { .. } | Change::Index { .. } => [0; 32],
    }
}

impl Definition {
    /// The same with other indexed fields, as of now.
    pub(super) fn with_indexed_fields(&self, indexed_fields: Vec<String>) -> Self {
        Self { indexed_fields, updated_at: now().max(self.updated_at), ..self.clone() }
    }
}
