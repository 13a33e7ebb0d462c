//! Working out again what queries see of each record of a collection, while reads and writes go on.
//!
//! A page of records is read, indexed by the type as it is registered now, and written back record by record, each only if
//! it is still the version that was read: whoever wrote it meanwhile has indexed it by the newer type already. One run per
//! collection at a time, so that an older type never overwrites a newer one.

use super::catalogue::Work;
use super::document;
use super::known::Known;
use super::manage::{at, present_indexes};
use super::{CollectionError, Collections, Definition, Item, Options, Place};
use crate::domain::Deadline;
use crate::store::{Change, Indexed, Record, Shape, StoreError, Write};
use crate::tenancy::{Caller, Verb};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// Records of a page, and of a write. 100: a write of them takes milliseconds, and others come in between.
const PAGE: usize = 100;
/// Bytes of a write, past its last record. 4 MiB: those of 100 large records would hold others up.
const WRITE_BYTES: usize = 4 << 20;
/// Progress that waits to be sent. What finds no place is left out: there is more to come.
const PROGRESS_WAITING: usize = 16;
/// How often a write is tried while storage is busy, and how long it waits in between: 10 seconds of a full queue.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);
/// How long writes under an old definition are waited for: longer than one waits in a queue that is not full.
const SETTLE: Duration = Duration::from_secs(5);

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records looked at.
    pub done: u64,
    /// Records when it began.
    pub total: u64,
    /// Records that do not decode as the type: no search finds them.
    pub skipped: u64,
}

impl Collections {
    /// Indexes every record of a collection again; the last message is how it ended.
    ///
    /// * `until`: when it stops, if it has not ended by then.
    /// * errors: `Refused`, `NoCollection`, `Draining`.
    /// * cancel: dropping the receiver stops it between two writes. Source: `Reindex`,
    ///   proto/collector/record/v1/collections.proto.
    pub fn reindex(
        self: &Arc<Self>,
        caller: &Caller,
        place: Place,
        options: &Options,
        until: Option<Deadline>,
    ) -> Result<mpsc::Receiver<Result<Progress, CollectionError>>, CollectionError> {
        self.definition(caller, &place, Verb::Define)?;
        let lifecycle = &self.parts.lifecycle;
        if lifecycle.is_draining() {
            return Err(CollectionError::Draining);
        }
        let (sender, receiver) = mpsc::channel(PROGRESS_WAITING);
        let (this, validate_only) = (Arc::clone(self), options.validate_only);
        lifecycle.spawn(async move {
            let mut tell = |progress| drop(sender.try_send(Ok(progress)));
            let done = tokio::select! {
                done = this.reindex_now(&place, validate_only, &mut tell) => done,
                () = sender.closed() => return,
                () = past(until) => Err(CollectionError::Deadline),
                () = this.parts.lifecycle.draining() => Err(CollectionError::Draining),
            };
            let _ = sender.send(done).await;
        });
        Ok(receiver)
    }

    /// Finishes what an earlier run of the node began with the tables of collections, beside its calls.
    ///
    /// * errors: what was begun cannot be read.
    pub async fn resume(self: &Arc<Self>) -> Result<(), StoreError> {
        for (place, work) in self.parts.catalogue.begun().await? {
            if work == Work::Drop {
                continue;
            }
            let this = Arc::clone(self);
            self.parts.lifecycle.spawn(async move {
                let work = this.finish(&place, work);
                let done = tokio::select! {
                    done = work => done,
                    () = this.parts.lifecycle.draining() => return,
                };
                if let Err(why) = done {
                    tracing::warn!(collection = place.id(), %why, "the indexes of a collection are not complete");
                }
            });
        }
        Ok(())
    }

    async fn finish(&self, place: &Place, work: Work) -> Result<(), CollectionError> {
        let _tables = self.parts.catalogue.turn(&place.id()).await;
        let done = match work {
            Work::Shape => self.shape(place).await,
            Work::Index => self.index_all(place, &mut |_| ()).await.map(drop),
            Work::Drop => return Ok(()),
        };
        // Dropped: nothing is left to be done.
        if matches!(done, Ok(()) | Err(CollectionError::NoCollection(_))) {
            self.parts.catalogue.finished(place, work).await;
            return Ok(());
        }
        done
    }

    async fn reindex_now(
        &self,
        place: &Place,
        validate_only: bool,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Progress, CollectionError> {
        let _tables = self.parts.catalogue.turn(&place.id()).await;
        if validate_only {
            return Ok(Progress { total: self.count(place).await?, ..Progress::default() });
        }
        let unfinished = self.parts.catalogue.unfinished(place).await?;
        let done = self.index_all(place, tell).await?;
        if let Some(work @ (Work::Shape | Work::Index)) = unfinished {
            self.parts.catalogue.finished(place, work).await;
        }
        Ok(done)
    }

    /// Makes indexes and what queries see of every record be what definition and type say now. The caller has the
    /// collection's turn.
    pub(super) async fn index_all(
        &self,
        place: &Place,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Progress, CollectionError> {
        self.shape(place).await?;
        let mut progress = Progress { total: self.count(place).await?, ..Progress::default() };
        let mut after = None::<String>;
        loop {
            let store = &self.parts.store;
            let page = store.scan(&place.namespace, place.collection.as_str(), after.as_deref(), PAGE).await;
            let page = page.map_err(|why| at(place, why))?;
            let Some(last) = page.last() else { return Ok(progress) };
            after = Some(last.id.clone());
            progress.done += page.len() as u64;
            progress.skipped += self.index_page(place, page).await?;
            tell(progress);
        }
    }

    /// Makes the indexes that the definition names, as the type has them now.
    async fn shape(&self, place: &Place) -> Result<(), CollectionError> {
        // The definition is not held on to meanwhile: whoever drops the collection waits for those that work by it.
        let shape = {
            let definition = self.find(place)?;
            let indexes = present_indexes(&self.known(&definition).await?.form, &definition);
            Shape { full_text: definition.full_text, indexes }
        };
        let shaped = self.parts.store.reshape(&place.namespace, place.collection.as_str(), shape).await;
        shaped.map_err(|why| at(place, why))
    }

    /// Indexes these records again. Returns how many are skipped.
    async fn index_page(&self, place: &Place, page: Vec<Record>) -> Result<u64, CollectionError> {
        let known = {
            let definition = self.find(place)?;
            self.known(&definition).await?
        };
        let (writes, mut skipped) = self.index_again(place, &known, page).await?;
        for write in writes {
            skipped += self.write_indexed(place, &known, write).await?;
        }
        Ok(skipped)
    }

    /// What is to be written for these records, and how many of them do not decode.
    async fn index_again(
        &self,
        place: &Place,
        known: &Arc<Known>,
        records: Vec<Record>,
    ) -> Result<(Vec<Part>, u64), CollectionError> {
        let (known, collection) = (Arc::clone(known), place.collection.to_string());
        self.heavy(move || indexed(&known, records, &collection)).await
    }

    /// Returns how many records are skipped because what queries would see of them is too large.
    async fn write_indexed(&self, place: &Place, known: &Arc<Known>, part: Part) -> Result<u64, CollectionError> {
        let Part { records, mut changes } = part;
        let (mut left, mut skipped) = (TRIES, 0);
        loop {
            // A record that was written or deleted meanwhile is none of ours any more.
            let write = Write { changes, apart: true, once: None };
            left = left.saturating_sub(1);
            match self.parts.store.write(&place.namespace, write).await {
                Ok(_) => return Ok(skipped),
                Err(StoreError::Busy) if left > 0 => sleep(PAUSE).await,
                Err(StoreError::Invalid(_)) if skipped == 0 && records.len() == 1 => skipped = 1,
                Err(why) => return Err(at(place, why)),
            }
            // Worked out once more: to keep a copy would cost every write what few need.
            changes = if skipped > 0 {
                records.iter().map(|record| change(record, place.collection.as_str(), None)).collect()
            } else {
                let (parts, _) = self.index_again(place, known, records.clone()).await?;
                parts.into_iter().flat_map(|part| part.changes).collect()
            };
        }
    }
}

/// Records of one write, and the changes that it makes to them.
#[derive(Default)]
struct Part {
    records: Vec<Record>,
    changes: Vec<Change>,
}

/// What is to be written for these records: writes of bounded size, and how many records do not decode.
fn indexed(known: &Known, page: Vec<Record>, collection: &str) -> (Vec<Part>, u64) {
    let (mut parts, mut part, mut bytes, mut skipped) = (Vec::new(), Part::default(), 0, 0);
    for record in page {
        let item = Item { type_url: record.type_url.clone(), bytes: record.bytes.clone() };
        let indexed = document::index(&known.form, &item, known.vector.as_ref()).unwrap_or_else(|_| {
            skipped += 1;
            None
        });
        let size = indexed.as_ref().map_or(0, |indexed| indexed.document.len() + indexed.text.len());
        // Alone, so that one that is too large takes no other with it.
        if bytes + size > WRITE_BYTES && !part.records.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.changes.push(change(&record, collection, indexed));
        part.records.push(record);
    }
    if !part.records.is_empty() {
        parts.push(part);
    }
    (parts, skipped)
}

fn change(record: &Record, collection: &str, indexed: Option<Box<Indexed>>) -> Change {
    Change::Index { collection: collection.to_owned(), id: record.id.clone(), revision: record.revision, indexed }
}

async fn past(until: Option<Deadline>) {
    match until {
        Some(until) => sleep_until(until.instant()).await,
        None => std::future::pending().await,
    }
}

/// Waits until nobody works by an old definition any more: what is written by it lacks what the new one asks for.
pub(super) async fn settle(works: Weak<Definition>) {
    let until = Instant::now() + SETTLE;
    while works.strong_count() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(1)).await;
    }
}
