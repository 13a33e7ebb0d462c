//! Single records: made, read, changed, deleted.
//!
//! A call is one write of the store, or none. What comes before it changes nothing, so a caller who leaves leaves nothing
//! half-way; the write itself runs to its end, and until then holds on to the definition that it was made by.

use super::error::refused;
use super::known::Known;
use super::once::Fingerprint;
use super::{CollectionError, Collections, Definition, Info, Item, Operation, Options, Outcome, Place};
use super::{document, labels};
use crate::domain::RecordId;
use crate::store::{Change, Done, Expect, Indexed, Labels, Once, Record, StoreError, Write, Written};
use crate::tenancy::{Caller, Verb};
use std::sync::Arc;
use tracing::Instrument as _;

/// Bytes of a record up to which it is looked into at once. 64 KiB: below that a hop to another thread costs more than it
/// spares those who wait for this one.
const INLINE_MAX: usize = 64 << 10;
/// What looking into a record costs beside its bytes, in bytes: fields that are not there have defaults.
const RECORD_COST: usize = 1 << 10;
/// Larger records that are looked into at the same time. 4: hostile ones leave most threads to others.
pub(super) const HEAVY: usize = 4;
/// A revision that no record has: a change that expects it is never made.
pub(super) const NO_REVISION: u64 = 0;

impl Collections {
    /// Reads one record.
    ///
    /// * `if_match`: the revision that it must be of.
    /// * errors: `Refused`, `NoCollection`, `NoRecord`, `Changed`, `Store`.
    /// * cancel: safe.
    pub async fn get(
        &self,
        caller: &Caller,
        place: &Place,
        id: &RecordId,
        if_match: Option<u64>,
    ) -> Result<Record, CollectionError> {
        let definition = self.open(caller, place, Verb::Read)?;
        let record = self.read(&definition, id).await?.ok_or_else(|| CollectionError::NoRecord(id.to_string()))?;
        match if_match {
            Some(wanted) if wanted != record.revision => Err(CollectionError::Changed(record.id)),
            _ => Ok(record),
        }
    }

    /// Makes one write. Durable when this returns.
    ///
    /// * errors: `Refused`, `NoCollection`, `Draining`; `Field` for an item that is not of the collection's type or a bad
    ///   path; `RecordExists`, `NoRecord`, `Changed`, `KeyReused`, `Store`: nothing was changed, but where the store says
    ///   that it does not know.
    /// * cancel: the write is made whole or not at all.
    pub async fn write(
        &self,
        caller: &Caller,
        place: &Place,
        operation: Operation,
        options: &Options,
    ) -> Result<Outcome, CollectionError> {
        let definition = self.open(caller, place, Verb::Write)?;
        let once = options.once.as_deref().map(|key| {
            let rpc = operation.name();
            let mut asked = Fingerprint::new(rpc, place);
            asked.operation(&operation).number(options.if_match.map_or(NO_REVISION, |revision| revision));
            asked.once(rpc, key)
        });
        if options.validate_only {
            let checked = self.check_together(&definition, std::slice::from_ref(&operation), options.if_match).await;
            return checked.map(|()| Outcome::Checked).map_err(|failed| failed.why);
        }
        match self.attempt(&definition, place, operation, options.if_match, once.clone()).await {
            // It may have been made before, and what stands in its way came after.
            Err(why) => match self.replay(&definition, once).await?.and_then(|done| done.outcomes.into_iter().next()) {
                Some(Ok(written)) => Ok(outcome(written)),
                Some(Err(_)) | None => Err(why),
            },
            made => made,
        }
    }

    async fn attempt(
        &self,
        definition: &Arc<Definition>,
        place: &Place,
        operation: Operation,
        if_match: Option<u64>,
        once: Option<Once>,
    ) -> Result<Outcome, CollectionError> {
        let change = match operation {
            Operation::Create { id, item, labels } => {
                let known = self.known(definition).await?;
                let indexed = self.admit(&known, &item, &labels).await?;
                let id = id.map_or_else(generated_id, |id| id.as_str().to_owned());
                put(definition, id, item, Some(labels), indexed, Expect::Absent)
            }
            Operation::Update { id, item, mask, labels } if mask.is_empty() => {
                let known = self.known(definition).await?;
                let indexed = self.admit(&known, &item, &labels).await?;
                let expect = if_match.map_or(Expect::Present, Expect::Revision);
                put(definition, id.as_str().to_owned(), item, replacing(&labels), indexed, expect)
            }
            Operation::Delete { id } => {
                let expect = if_match.map_or(Expect::Any, Expect::Revision);
                let made = self.write_one(definition, delete(definition, id.as_str(), expect), once).await;
                return made.map_err(|why| match why {
                    // Whoever names a version of a record that is gone has not seen its end.
                    CollectionError::NoRecord(id) => CollectionError::Changed(id),
                    other => other,
                });
            }
            parts @ Operation::Update { .. } => {
                let made = self.together(definition, place, &[parts], if_match, once).await;
                let first = made.map_err(|failed| failed.why)?.into_iter().next();
                return first.ok_or_else(|| CollectionError::Internal("a write without an outcome".into()));
            }
        };
        self.write_one(definition, change, once).await
    }

    async fn write_one(
        &self,
        definition: &Arc<Definition>,
        change: Change,
        once: Option<Once>,
    ) -> Result<Outcome, CollectionError> {
        let write = Write { changes: vec![change], apart: false, once };
        let done = self.commit(definition, write).await?;
        match done.outcomes.into_iter().next() {
            Some(Ok(written)) => Ok(outcome(written)),
            Some(Err(why)) => Err(refused(why, "", definition.name.as_str())),
            None => Err(CollectionError::Internal("a write without an outcome".into())),
        }
    }

    /// What became of the write when it was made before; `None` if it was not.
    ///
    /// * errors: `KeyReused`; those of the store.
    pub(super) async fn replay(
        &self,
        definition: &Arc<Definition>,
        once: Option<Once>,
    ) -> Result<Option<Done>, CollectionError> {
        let Some(once) = once else { return Ok(None) };
        // The store looks at the name of a write first; this one cannot be made.
        let never = delete(definition, "-", Expect::Revision(NO_REVISION));
        let write = Write { changes: vec![never], apart: false, once: Some(once) };
        match self.commit(definition, write).await {
            Ok(done) => Ok(Some(done).filter(|done| done.replayed)),
            Err(StoreError::Refused { .. }) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// Has the store make a write.
    ///
    /// * cancel: goes on; only the answer is lost.
    pub(super) async fn commit(&self, definition: &Arc<Definition>, write: Write) -> Result<Done, StoreError> {
        let (store, definition) = (Arc::clone(&self.parts.store), Arc::clone(definition));
        let write = async move { store.write(&definition.namespace, write).await };
        self.parts.lifecycle.spawn(write.in_current_span()).await.map_err(|_| StoreError::Closed)?
    }

    /// The definition of a collection in which the caller may do that.
    pub(super) fn open(&self, caller: &Caller, place: &Place, verb: Verb) -> Result<Arc<Definition>, CollectionError> {
        self.parts.tenancy.authorize(caller, &place.namespace, verb)?;
        if verb == Verb::Write && self.parts.lifecycle.is_draining() {
            return Err(CollectionError::Draining);
        }
        let found = self.parts.catalogue.find(&place.namespace, &place.collection);
        found.ok_or_else(|| CollectionError::NoCollection(format!("{}/{}", place.namespace, place.collection)))
    }

    pub(super) async fn read(&self, definition: &Definition, id: &RecordId) -> Result<Option<Record>, CollectionError> {
        Ok(self.parts.store.get(&definition.namespace, definition.name.as_str(), id.as_str()).await?)
    }

    /// What the records of the collection are, by the types as they are registered now.
    pub(super) async fn known(&self, definition: &Arc<Definition>) -> Result<Arc<Known>, CollectionError> {
        let snapshot = self.parts.registry.snapshot(&definition.namespace);
        if let Some(known) = self.forms.get(&snapshot, definition) {
            return Ok(known);
        }
        let known = if definition.message_type.is_none() || snapshot.is_linked() {
            Known::of(&snapshot, definition)
        } else {
            let (snapshot, definition) = (Arc::clone(&snapshot), Arc::clone(definition));
            self.heavy(move || Known::of(&snapshot, &definition)).await?
        };
        let known = Arc::new(known);
        self.forms.keep(&snapshot, definition, &known);
        Ok(known)
    }

    /// Checks what a record is to be, and works out what queries see of it.
    pub(super) async fn admit(
        &self,
        known: &Arc<Known>,
        item: &Item,
        labels: &Labels,
    ) -> Result<Option<Box<Indexed>>, CollectionError> {
        labels::check("labels", labels)?;
        self.index(known, item).await
    }

    /// Checks what parts of a record are to be taken from.
    pub(super) async fn admit_parts(
        &self,
        known: &Arc<Known>,
        item: &Item,
        labels: &Labels,
    ) -> Result<(), CollectionError> {
        labels::check("labels", labels)?;
        if item.bytes.len() <= INLINE_MAX {
            return Ok(document::check(&known.form, item)?);
        }
        let (known, item) = (Arc::clone(known), item.clone());
        Ok(self.heavy(move || document::check(&known.form, &item)).await??)
    }

    async fn index(&self, known: &Arc<Known>, item: &Item) -> Result<Option<Box<Indexed>>, CollectionError> {
        if item.bytes.len() <= INLINE_MAX {
            return Ok(document::index(&known.form, item, known.vector.as_ref())?);
        }
        let (known, item) = (Arc::clone(known), item.clone());
        Ok(self.heavy(move || document::index(&known.form, &item, known.vector.as_ref())).await??)
    }

    /// `current` with the parts that `mask` names taken from `item`, which is admitted, and what queries see of that.
    pub(super) async fn merge(
        &self,
        known: &Arc<Known>,
        current: &Item,
        item: &Item,
        mask: &[String],
    ) -> Result<(Item, Option<Box<Indexed>>), CollectionError> {
        let merged = if current.bytes.len() + item.bytes.len() <= INLINE_MAX {
            document::merge(&known.form, current, item, mask)?
        } else {
            let (known, current, item, mask) = (Arc::clone(known), current.clone(), item.clone(), mask.to_vec());
            self.heavy(move || document::merge(&known.form, &current, &item, &mask)).await??
        };
        let indexed = self.index(known, &merged).await?;
        Ok((merged, indexed))
    }

    /// Does what takes long away from the threads that serve calls.
    ///
    /// * cancel: dropping the future loses only the answer; the work keeps its turn until it has ended.
    pub(super) async fn heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CollectionError> {
        let turn = Arc::clone(&self.heavy).acquire_owned().await;
        let turn = turn.map_err(|closed| CollectionError::Internal(closed.into()))?;
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|gone| CollectionError::Internal(gone.into()))
    }
}

/// Counts what is looked into at once for one call, so that others get their turn in between.
#[derive(Debug, Default)]
pub(super) struct Pace(usize);

impl Pace {
    /// Lets others run if it is time.
    ///
    /// * `bytes`: of the record that was looked into.
    pub(super) async fn after(&mut self, bytes: usize) {
        self.0 += bytes + RECORD_COST;
        if self.0 > INLINE_MAX {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl Operation {
    /// Its RPC.
    fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "Create",
            Self::Update { .. } => "Update",
            Self::Delete { .. } => "Delete",
        }
    }
}

/// An id that nobody chose: it grows with time, so that records made together lie together.
pub(super) fn generated_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Labels of an update: those that are given replace those that are there.
pub(super) fn replacing(labels: &Labels) -> Option<Labels> {
    (!labels.is_empty()).then(|| labels.clone())
}

pub(super) fn put(
    definition: &Definition,
    id: String,
    item: Item,
    labels: Option<Labels>,
    indexed: Option<Box<Indexed>>,
    expect: Expect,
) -> Change {
    let collection = definition.name.as_str().to_owned();
    Change::Put { collection, id, type_url: item.type_url, bytes: item.bytes, labels, indexed, expect }
}

pub(super) fn delete(definition: &Definition, id: &str, expect: Expect) -> Change {
    Change::Delete { collection: definition.name.as_str().to_owned(), id: id.to_owned(), expect }
}

pub(super) fn outcome(written: Written) -> Outcome {
    match written {
        Written::Put { id, revision, created_at, updated_at, labels } => {
            Outcome::Put(Info { id, revision, created_at, updated_at, labels })
        }
        Written::Deleted | Written::Absent | Written::Indexed => Outcome::Deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_thousand_small_records_let_others_run_in_between() {
        let waits = |bytes: usize| {
            let mut pace = Pace::default();
            (0..1_000).filter(|_| pace.after(bytes).now_or_never().is_none()).count()
        };
        assert!((50..100).contains(&waits(4_096)), "{} times for 4 MiB", waits(4_096));
        assert!((10..20).contains(&waits(0)), "{} times for records of nothing", waits(0));
    }
}
