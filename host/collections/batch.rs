//! Several writes in one call: together, or each for itself.
//!
//! Parts of a record can only be changed by whoever has read it. So a batch is walked through in memory first, over what
//! was read where something had to be; what came of the walk is written only if that is still so, else all of it is done
//! again.

use super::error::refused;
use super::known::Known;
use super::once::{Fingerprint, part};
use super::records::{NO_REVISION, Pace, delete, generated_id, outcome, put, replacing};
use super::{BadField, CollectionError, Collections, Definition, Item, Operation, Options, Outcome, Place};
use crate::domain::RecordId;
use crate::store::{CHANGES_MAX, Change, Expect, Indexed, Labels, Once, Refusal, StoreError, WRITE_MAX, Write};
use crate::tenancy::{Caller, Verb};
use futures_util::{StreamExt as _, stream};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// How often a change of parts is tried while others change the same record. 16: those who change parts wait for each
/// other, so only whoever replaces the record all the time can get in the way.
const ATTEMPTS: usize = 16;
/// Changes of parts of a best-effort batch that are made at once: they share commits.
const AT_ONCE: usize = 16;

/// Why several writes were not made.
pub(super) struct Failed {
    /// The first that could not be, where it is about one.
    at: Option<usize>,
    pub(super) why: CollectionError,
}

impl From<CollectionError> for Failed {
    fn from(why: CollectionError) -> Self {
        Self { at: None, why }
    }
}

impl From<Failed> for CollectionError {
    fn from(Failed { at, why }: Failed) -> Self {
        match at {
            Some(index) => Self::Operation { index, why: Box::new(why) },
            None => why,
        }
    }
}

impl Collections {
    /// Makes several writes, in their order. Durable when this returns.
    ///
    /// * `apart`: each stands alone; else all are made or none.
    /// * returns: what became of each; `Err` only if they stand apart.
    /// * errors: as [`Collections::write`], wrapped into `Operation` where they are about one of the writes.
    /// * cancel: together: all or nothing. Apart: some may be made and others not; with an idempotency key a repeat makes
    ///   the others.
    pub async fn batch(
        &self,
        caller: &Caller,
        place: &Place,
        operations: &[Operation],
        apart: bool,
        options: &Options,
    ) -> Result<Vec<Result<Outcome, CollectionError>>, CollectionError> {
        let definition = self.open(caller, place, Verb::Write)?;
        if operations.len() > CHANGES_MAX {
            let problem = format!("has {} entries, at most {CHANGES_MAX} are allowed", operations.len());
            return Err(BadField::new("operations", problem).into());
        }
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let once = options.once.as_deref().map(|key| {
            let mut asked = Fingerprint::new("Batch", place);
            operations.iter().fold(asked.number(u64::from(apart)), |all, operation| all.operation(operation));
            asked.once("Batch", key)
        });
        match (options.validate_only, apart) {
            (true, true) => self.check_apart(&definition, operations).await,
            (true, false) => {
                self.check_together(&definition, operations, None).await?;
                Ok(operations.iter().map(|_| Ok(Outcome::Checked)).collect())
            }
            (false, true) => self.apart(&definition, place, operations, once).await,
            (false, false) => match self.together(&definition, place, operations, None, once.clone()).await {
                Ok(made) => Ok(made.into_iter().map(Ok).collect()),
                Err(failed) => match self.replay(&definition, once).await? {
                    Some(done) => Ok(done.outcomes.into_iter().flatten().map(|one| Ok(outcome(one))).collect()),
                    None => Err(failed.into()),
                },
            },
        }
    }

    /// Makes all writes in one transaction.
    pub(super) async fn together(
        &self,
        definition: &Arc<Definition>,
        place: &Place,
        operations: &[Operation],
        if_match: Option<u64>,
        once: Option<Once>,
    ) -> Result<Vec<Outcome>, Failed> {
        let known = self.known(definition).await?;
        let _turns = self.turns.take(place, operations.iter().filter_map(Operation::parts_of)).await;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut walk = Walk::new(self, definition, &known);
            for (index, operation) in operations.iter().enumerate() {
                if let Err(why) = walk.step(operation, if_match).await {
                    // Only if none before it fails is it the first.
                    self.check_together(definition, operations.get(..index).unwrap_or_default(), None).await?;
                    return Err(Failed { at: Some(index), why });
                }
            }
            let write = Write { changes: walk.changes, apart: false, once: once.clone() };
            let (index, id, why) = match self.commit(definition, write).await {
                Ok(done) => return Ok(done.outcomes.into_iter().flatten().map(outcome).collect()),
                Err(StoreError::Refused { index, id, why, .. }) => (index, id, why),
                Err(why) => return Err(CollectionError::from(why).into()),
            };
            let read = walk.read.contains(&index) && matches!(why, Refusal::Changed | Refusal::Missing);
            let failed = Failed { at: Some(index), why: refused(why, &id, definition.name.as_str()) };
            if !read || if_match.is_some() {
                return Err(failed);
            }
            last = Some(failed);
        }
        Err(last.unwrap_or_else(|| CollectionError::Internal("no attempt was made".into()).into()))
    }

    /// Makes every check of writes that are to be made together.
    pub(super) async fn check_together(
        &self,
        definition: &Arc<Definition>,
        operations: &[Operation],
        if_match: Option<u64>,
    ) -> Result<(), Failed> {
        let known = self.known(definition).await?;
        let mut walk = Walk::new(self, definition, &known).reading_all();
        for (index, operation) in operations.iter().enumerate() {
            walk.step(operation, if_match).await.map_err(|why| Failed { at: Some(index), why })?;
        }
        Ok(())
    }

    async fn check_apart(
        &self,
        definition: &Arc<Definition>,
        operations: &[Operation],
    ) -> Result<Vec<Result<Outcome, CollectionError>>, CollectionError> {
        let known = self.known(definition).await?;
        let mut walk = Walk::new(self, definition, &known).reading_all();
        let mut checked = Vec::with_capacity(operations.len());
        for operation in operations {
            checked.push(walk.step(operation, None).await.map(|()| Outcome::Checked));
        }
        Ok(checked)
    }

    /// Makes each write for itself: those that read nothing in one transaction as far as they stand in a row, changes of
    /// parts each in its own.
    async fn apart(
        &self,
        definition: &Arc<Definition>,
        place: &Place,
        operations: &[Operation],
        once: Option<Once>,
    ) -> Result<Vec<Result<Outcome, CollectionError>>, CollectionError> {
        let mut all = Vec::with_capacity(operations.len());
        for run in runs(operations) {
            let start = run.start;
            let some = operations.get(run).unwrap_or_default();
            if some.first().is_some_and(|first| first.parts_of().is_some()) {
                let once = |at| once.as_ref().map(|once| part(once, start + at));
                let made = some.iter().enumerate().map(|(at, one)| self.parts_apart(definition, place, one, once(at)));
                let made = stream::iter(made.collect::<Vec<_>>());
                all.extend(made.buffered(AT_ONCE).collect::<Vec<_>>().await);
            } else {
                all.extend(self.plain_apart(definition, some, once.as_ref().map(|once| part(once, start))).await?);
            }
        }
        match all.iter().any(|one| matches!(one, Err(CollectionError::KeyReused))) {
            true => Err(CollectionError::KeyReused),
            false => Ok(all),
        }
    }

    async fn parts_apart(
        &self,
        definition: &Arc<Definition>,
        place: &Place,
        operation: &Operation,
        once: Option<Once>,
    ) -> Result<Outcome, CollectionError> {
        let mut made = match self.together(definition, place, std::slice::from_ref(operation), None, once.clone()).await
        {
            Ok(made) => made.into_iter(),
            Err(failed) => match self.replay(definition, once).await? {
                Some(done) => done.outcomes.into_iter().flatten().map(outcome).collect::<Vec<_>>().into_iter(),
                None => return Err(failed.why),
            },
        };
        made.next().ok_or_else(|| CollectionError::Internal("a write without an outcome".into()))
    }

    async fn plain_apart(
        &self,
        definition: &Arc<Definition>,
        operations: &[Operation],
        once: Option<Once>,
    ) -> Result<Vec<Result<Outcome, CollectionError>>, CollectionError> {
        let known = self.known(definition).await?;
        let mut changes = Vec::with_capacity(operations.len());
        let (mut bad, mut pace) = (HashMap::new(), Pace::default());
        for (at, operation) in operations.iter().enumerate() {
            pace.after(operation.bytes()).await;
            match self.plain_change(definition, &known, operation).await {
                Ok(change) => changes.push(change),
                Err(why) => {
                    bad.insert(at, why);
                    // Keeps its place, so that the answers to a repeat are those of the same operations.
                    changes.push(delete(definition, "-", Expect::Revision(NO_REVISION)));
                }
            }
        }
        let write = Write { changes, apart: true, once };
        let outcomes = match self.commit(definition, write).await {
            Ok(done) => done.outcomes,
            Err(why) => return Ok(operations.iter().map(|_| Err(why.clone().into())).collect()),
        };
        let answer = |(at, (made, operation)): (usize, (Result<_, Refusal>, &Operation))| match made {
            Ok(written) => Ok(outcome(written)),
            Err(why) => Err(bad.remove(&at).unwrap_or_else(|| refused(why, operation.id(), definition.name.as_str()))),
        };
        Ok(outcomes.into_iter().zip(operations).enumerate().map(answer).collect())
    }

    async fn plain_change(
        &self,
        definition: &Definition,
        known: &Arc<Known>,
        operation: &Operation,
    ) -> Result<Change, CollectionError> {
        match operation {
            Operation::Delete { id } => Ok(delete(definition, id.as_str(), Expect::Any)),
            Operation::Create { id, item, labels } => {
                let indexed = self.admit(known, item, labels).await?;
                let id = id.as_ref().map_or_else(generated_id, ToString::to_string);
                Ok(put(definition, id, item.clone(), Some(labels.clone()), indexed, Expect::Absent))
            }
            Operation::Update { id, item, labels, .. } => {
                let indexed = self.admit(known, item, labels).await?;
                Ok(put(definition, id.to_string(), item.clone(), replacing(labels), indexed, Expect::Present))
            }
        }
    }
}

impl Operation {
    /// The record of which this changes parts, if that is what it does.
    fn parts_of(&self) -> Option<&RecordId> {
        match self {
            Self::Update { id, mask, .. } if !mask.is_empty() => Some(id),
            _ => None,
        }
    }

    /// How long its item is.
    fn bytes(&self) -> usize {
        match self {
            Self::Create { item, .. } | Self::Update { item, .. } => item.bytes.len(),
            Self::Delete { .. } => 0,
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Create { id, .. } => id.as_ref().map_or("", |id| id.as_str()),
            Self::Update { id, .. } | Self::Delete { id } => id.as_str(),
        }
    }
}

/// Operations in a row that can be made at once: those that read nothing, or changes of parts of different records. The
/// same for the same operations, whenever they are asked for.
fn runs(operations: &[Operation]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut reading = false;
    let mut seen = HashSet::new();
    for (at, operation) in operations.iter().enumerate() {
        let parts_of = operation.parts_of();
        let goes_on = reading == parts_of.is_some() && parts_of.is_none_or(|id| !seen.contains(id));
        match runs.last_mut().filter(|_| goes_on) {
            Some(run) => run.end = at + 1,
            None => {
                runs.push(at..at + 1);
                seen.clear();
            }
        }
        reading = parts_of.is_some();
        seen.extend(parts_of);
    }
    runs
}

/// A record as a walk sees it.
enum Seen {
    /// There is none.
    Absent,
    /// As it was read.
    Read(Item, u64),
    /// As an operation before left it.
    Left(Item),
}

/// A walk through operations in memory, and the changes that come of it.
struct Walk<'a> {
    collections: &'a Collections,
    definition: &'a Definition,
    known: &'a Arc<Known>,
    read_all: bool,
    seen: HashMap<&'a str, Seen>,
    bytes: usize,
    pace: Pace,
    changes: Vec<Change>,
    /// The changes that are good only if the record is still what was read.
    read: HashSet<usize>,
}

impl<'a> Walk<'a> {
    fn new(collections: &'a Collections, definition: &'a Definition, known: &'a Arc<Known>) -> Self {
        let (seen, changes, read) = (HashMap::new(), Vec::new(), HashSet::new());
        let pace = Pace::default();
        Self { collections, definition, known, read_all: false, seen, bytes: 0, pace, changes, read }
    }

    /// Looks at every record, not only at those of which parts change: what the store would say is found out here.
    fn reading_all(mut self) -> Self {
        self.read_all = true;
        self
    }

    /// Takes one operation. One that fails leaves everything as it is.
    ///
    /// * `if_match`: the revision that the record must be of, for a walk of one step.
    async fn step(&mut self, operation: &'a Operation, if_match: Option<u64>) -> Result<(), CollectionError> {
        self.pace.after(operation.bytes()).await;
        match operation {
            Operation::Create { id, item, labels } => {
                let indexed = self.collections.admit(self.known, item, labels).await?;
                let id = match id {
                    None => generated_id(),
                    Some(id) => {
                        if matches!(self.look(id, false).await?, Some(Seen::Read(..) | Seen::Left(_))) {
                            return Err(CollectionError::RecordExists(id.to_string()));
                        }
                        self.leave(id.as_str(), Some(item))?;
                        id.to_string()
                    }
                };
                self.put(id, item.clone(), Some(labels.clone()), indexed, Expect::Absent);
            }
            Operation::Update { id, item, mask, labels } => {
                let checked = if mask.is_empty() {
                    self.collections.admit(self.known, item, labels).await?
                } else {
                    self.collections.admit_parts(self.known, item, labels).await?;
                    None
                };
                let (item, indexed, expect) = self.update(id, item, mask, checked, if_match).await?;
                self.leave(id.as_str(), Some(&item))?;
                if matches!(expect, Expect::Revision(_)) {
                    self.read.insert(self.changes.len());
                }
                self.put(id.to_string(), item, replacing(labels), indexed, expect);
            }
            Operation::Delete { id } => {
                if let (Some(wanted), Some(seen)) = (if_match, self.look(id, false).await?)
                    && !matches!(seen, Seen::Read(_, revision) if *revision == wanted)
                {
                    return Err(CollectionError::Changed(id.to_string()));
                }
                self.leave(id.as_str(), None)?;
                self.changes.push(delete(self.definition, id.as_str(), Expect::Any));
            }
        }
        Ok(())
    }

    /// What an update makes of a record, and what the record must be then.
    async fn update(
        &mut self,
        id: &'a RecordId,
        item: &Item,
        mask: &[String],
        checked: Option<Box<Indexed>>,
        if_match: Option<u64>,
    ) -> Result<(Item, Option<Box<Indexed>>, Expect), CollectionError> {
        let (current, expect) = match self.look(id, !mask.is_empty()).await? {
            Some(Seen::Absent) => return Err(CollectionError::NoRecord(id.to_string())),
            Some(Seen::Read(_, revision)) if if_match.is_some_and(|wanted| wanted != *revision) => {
                return Err(CollectionError::Changed(id.to_string()));
            }
            Some(Seen::Read(current, revision)) => (Some(current.clone()), Expect::Revision(*revision)),
            Some(Seen::Left(current)) => (Some(current.clone()), Expect::Present),
            None => (None, Expect::Present),
        };
        match current.filter(|_| !mask.is_empty()) {
            None => Ok((item.clone(), checked, Expect::Present)),
            Some(current) => {
                self.pace.after(current.bytes.len()).await;
                let (merged, indexed) = self.collections.merge(self.known, &current, item, mask).await?;
                Ok((merged, indexed, expect))
            }
        }
    }

    /// The record as it is by now; `None` if that is not known and need not be.
    async fn look(&mut self, id: &'a RecordId, needed: bool) -> Result<Option<&Seen>, CollectionError> {
        if (needed || self.read_all) && !self.seen.contains_key(id.as_str()) {
            let seen = match self.collections.read(self.definition, id).await? {
                None => Seen::Absent,
                Some(record) => {
                    self.count(record.bytes.len())?;
                    Seen::Read(Item { type_url: record.type_url, bytes: record.bytes }, record.revision)
                }
            };
            self.seen.insert(id.as_str(), seen);
        }
        Ok(self.seen.get(id.as_str()))
    }

    fn leave(&mut self, id: &'a str, item: Option<&Item>) -> Result<(), CollectionError> {
        self.count(item.map_or(0, |item| item.bytes.len()))?;
        self.seen.insert(id, item.map_or(Seen::Absent, |item| Seen::Left(item.clone())));
        Ok(())
    }

    /// Counts what the walk holds: the parts that change may be small, and the records large.
    fn count(&mut self, bytes: usize) -> Result<(), CollectionError> {
        self.bytes += bytes;
        if self.bytes <= WRITE_MAX {
            return Ok(());
        }
        let problem = format!("touch records of more than {} MiB together; send them in parts", WRITE_MAX >> 20);
        Err(BadField::new("operations", problem).into())
    }

    fn put(&mut self, id: String, item: Item, labels: Option<Labels>, indexed: Option<Box<Indexed>>, expect: Expect) {
        self.changes.push(put(self.definition, id, item, labels, indexed, expect));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(id: &str) -> Operation {
        let item = Item { type_url: String::new(), bytes: bytes::Bytes::new() };
        Operation::Update { id: id.parse().unwrap(), item, mask: vec!["a".into()], labels: Labels::new() }
    }

    #[test]
    fn what_reads_and_what_does_not_are_runs_of_their_own() {
        let plain = || Operation::Delete { id: "x".parse().unwrap() };
        assert!(runs(&[]).is_empty());
        assert_eq!(runs(&[plain(), plain()]), std::iter::once(0..2).collect::<Vec<_>>());
        assert_eq!(runs(&[parts("a"), parts("b"), plain(), parts("a")]), [0..2, 2..3, 3..4]);
        assert_eq!(runs(&[parts("a"), parts("a"), parts("b")]), [0..1, 1..3], "of one record one after another");
    }
}
