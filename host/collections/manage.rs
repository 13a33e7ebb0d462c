//! Making, changing, dropping and finding collections. What a crash leaves: see `catalogue`.

use super::ask;
use super::catalogue::{self, Inserted, Turn, Work};
use super::known::vector_path;
use super::labels;
use super::reindex::settle;
use super::{BadField, CollectionError, Collections, Definition, Form, Options, Place};
use crate::domain::{Namespace, ServiceName, is_endpoint};
use crate::registry::now;
use crate::store::{INDEXES_MAX, Labels, Once, Path, Query, Shape, Stats, StoreError};
use crate::tenancy::{Caller, Verb};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument as _;

/// How long the number of records is waited for. 30 seconds: it is kept, but readers may all be at work.
const COUNT_TIME: Duration = Duration::from_secs(30);

/// A collection that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCollection {
    /// Where.
    pub place: Place,
    /// Full name of the records' type; it need not be registered.
    pub message_type: Option<String>,
    /// As in [`Definition`].
    pub indexed_fields: Vec<String>,
    /// As in [`Definition`].
    pub server_endpoint: String,
    /// As in [`Definition`].
    pub labels: Labels,
    /// As in [`Definition`].
    pub full_text: bool,
}

/// Which collections are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `None`: of all namespaces that the caller may see.
    pub namespace: Option<Namespace>,
    /// What they must be labelled with.
    pub labels: Vec<(String, String)>,
    /// Namespace of the type, if one is named, and its full name.
    pub message_type: Option<(Option<Namespace>, String)>,
    /// The id that the page before ended with.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Collections {
    /// Makes an empty collection, durable when this returns.
    ///
    /// * errors: `Refused`, `Field`, `CollectionExists`, `TooMany`, `KeyReused`, `Draining`, `Store`.
    /// * cancel: goes on; only the answer is lost. Source: `CreateCollection`, proto/collector/collection_repo.proto.
    pub async fn create_collection(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewCollection,
        options: Options,
    ) -> Result<Arc<Definition>, CollectionError> {
        self.parts.tenancy.authorize(caller, &new.place.namespace, Verb::Define)?;
        new.check()?;
        let this = Arc::clone(self);
        self.tracked(async move { this.create_now(new, options).await }).await
    }

    /// A collection that the caller may do `verb` with. No I/O.
    ///
    /// * errors: `Refused`, `NoCollection`.
    pub fn definition(&self, caller: &Caller, place: &Place, verb: Verb) -> Result<Arc<Definition>, CollectionError> {
        self.parts.tenancy.authorize(caller, &place.namespace, verb)?;
        self.find(place)
    }

    /// A collection and how much is in it.
    ///
    /// * errors: `Refused`, `NoCollection`, `Store`.
    pub async fn describe(&self, caller: &Caller, place: &Place) -> Result<(Arc<Definition>, Stats), CollectionError> {
        let definition = self.definition(caller, place, Verb::Discover)?;
        let stats = self.parts.store.stats(&place.namespace, place.collection.as_str()).await;
        Ok((definition, stats.map_err(|why| at(place, why))?))
    }

    /// Collections that the caller may see, by id.
    ///
    /// * errors: `Refused`, of one namespace.
    pub fn discover(&self, caller: &Caller, wanted: &Wanted) -> Result<Vec<Arc<Definition>>, CollectionError> {
        if let Some(namespace) = &wanted.namespace {
            self.parts.tenancy.authorize(caller, namespace, Verb::Discover)?;
        }
        let fits = |one: &Definition| wanted.fits(one);
        let seen = |one: &Definition| self.parts.tenancy.allows(caller, &one.namespace, Verb::Discover);
        let after = wanted.after.as_deref();
        let catalogue = &self.parts.catalogue;
        Ok(catalogue.list(wanted.namespace.as_ref(), after, wanted.limit, |one| fits(one) && seen(one)))
    }

    /// Changes the indexes of a collection; when this returns they are complete and in use. One change of a collection
    /// after another, the last wins.
    ///
    /// * `indexed_fields`: the whole new list.
    /// * errors: `Refused`, `NoCollection`, `Field`, `Draining`, `Store`.
    /// * cancel: goes on; only the answer is lost. Source: `Modify`, proto/collector/collection_service.proto.
    pub async fn modify(
        self: &Arc<Self>,
        caller: &Caller,
        place: &Place,
        indexed_fields: Vec<String>,
        options: &Options,
    ) -> Result<(), CollectionError> {
        self.definition(caller, place, Verb::Define)?;
        check_indexed_fields(&indexed_fields)?;
        let (this, place, validate_only) = (Arc::clone(self), place.clone(), options.validate_only);
        self.tracked(async move { this.modify_now(&place, indexed_fields, validate_only).await }).await
    }

    /// Drops a collection with all its records, durable when this returns. Returns how many records went with it.
    ///
    /// * errors: `Refused`, `NoCollection`, `KeyReused`, `Draining`, `Store`.
    /// * cancel: goes on; only the answer is lost. Source: `DropCollection`, proto/collector/record/v1/collections.proto.
    pub async fn drop_collection(
        self: &Arc<Self>,
        caller: &Caller,
        place: Place,
        options: Options,
    ) -> Result<u64, CollectionError> {
        self.parts.tenancy.authorize(caller, &place.namespace, Verb::Define)?;
        let this = Arc::clone(self);
        self.tracked(async move { this.drop_now(&place, options).await }).await
    }

    async fn create_now(&self, new: NewCollection, options: Options) -> Result<Arc<Definition>, CollectionError> {
        let parts = &self.parts;
        let place = new.place.clone();
        let _turns = self.turns_to_make(&place).await;
        let form = self.form_of(&place.namespace, new.message_type.as_deref()).await?;
        let indexes = ask::indexes(&form, &new.indexed_fields)?.paths;
        let shape = Shape { full_text: new.full_text, indexes };
        let definition = new.into_definition();
        let once = options.once.map(|key| once("CreateCollection", &place, &key, catalogue::fingerprint(&definition)));
        let exists = parts.catalogue.exists(&place).await?;
        if exists && (once.is_none() || options.validate_only) {
            return Err(CollectionError::CollectionExists(place.id()));
        }
        if !exists && let Some((what, most)) = parts.catalogue.full(&place.namespace) {
            return Err(CollectionError::TooMany { what, most });
        }
        if options.validate_only {
            return Ok(Arc::new(definition));
        }
        if !exists {
            self.make_tables(&place, shape).await?;
        }
        match parts.catalogue.insert(definition.clone(), once).await {
            Ok(Inserted::Now(definition)) => Ok(definition),
            Err(why) => {
                // Where it is not known, there may be a definition that needs them.
                if !exists && !matches!(why, StoreError::Io(_) | StoreError::Corrupt(_) | StoreError::Closed) {
                    parts.catalogue.drop_tables(&place).await;
                }
                Err(at(&place, why))
            }
            Ok(Inserted::Before) => {
                // The answer of that time. If the collection was dropped since, it stays dropped.
                let now = parts.catalogue.find(&place.namespace, &place.collection);
                if now.is_none() {
                    parts.catalogue.drop_tables(&place).await;
                }
                Ok(now.unwrap_or_else(|| Arc::new(definition)))
            }
        }
    }

    /// The turns to make a collection: of its tables, which an earlier one of this name may still be worked on by, then of
    /// the namespace. One that is there stays what it is; no work on it is waited for.
    async fn turns_to_make(&self, place: &Place) -> (Option<Turn>, Turn) {
        let catalogue = &self.parts.catalogue;
        let turn = catalogue.turn(place.namespace.as_str()).await;
        if self.find(place).is_ok() {
            return (None, turn);
        }
        drop(turn);
        let tables = catalogue.turn(&place.id()).await;
        (Some(tables), catalogue.turn(place.namespace.as_str()).await)
    }

    /// Makes the tables of a collection that has no definition. Those that are there already are what a crash left.
    async fn make_tables(&self, place: &Place, shape: Shape) -> Result<(), StoreError> {
        let (store, name) = (&self.parts.store, place.collection.as_str());
        match store.make(&place.namespace, name, shape.clone()).await {
            Err(StoreError::CollectionExists) => {
                store.drop_collection(&place.namespace, name).await?;
                store.make(&place.namespace, name, shape).await
            }
            made => made,
        }
    }

    async fn modify_now(
        &self,
        place: &Place,
        indexed_fields: Vec<String>,
        validate_only: bool,
    ) -> Result<(), CollectionError> {
        let catalogue = &self.parts.catalogue;
        let _tables = catalogue.turn(&place.id()).await;
        // Not held on to: whoever drops it waits for those that work by it.
        let (before, works) = {
            let before = self.find(place)?;
            (Definition::clone(&before), Arc::downgrade(&before))
        };
        // Dropped meanwhile, and perhaps made again: that is another collection.
        let still = || match self.find(place) {
            Ok(now) if std::ptr::eq(Arc::as_ptr(&now), works.as_ptr()) => Ok(()),
            _ => Err(CollectionError::NoCollection(place.id())),
        };
        let form = self.form_of(&place.namespace, before.message_type.as_deref()).await?;
        let shape = Shape { full_text: before.full_text, indexes: ask::indexes(&form, &indexed_fields)?.paths };
        if validate_only {
            return Ok(());
        }
        let unfinished = catalogue.unfinished(place).await? == Some(Work::Index);
        let after = before.with_indexed_fields(indexed_fields);
        let reindex = unfinished || vector_path(&before) != vector_path(&after);
        if !unfinished {
            let _turn = catalogue.turn(place.namespace.as_str()).await;
            still()?;
            catalogue.begin(place, Work::Shape).await?;
        }
        let reshaped = self.parts.store.reshape(&place.namespace, place.collection.as_str(), shape).await;
        reshaped.map_err(|why| at(place, why))?;
        {
            let _turn = catalogue.turn(place.namespace.as_str()).await;
            still()?;
            let work = reindex.then_some(Work::Index);
            catalogue.replace(after, work).await.map_err(|why| at(place, why))?;
        }
        if reindex {
            settle(works).await;
            self.index_all(place, &mut |_| ()).await?;
            catalogue.finished(place, Work::Index).await;
        }
        Ok(())
    }

    async fn drop_now(&self, place: &Place, options: Options) -> Result<u64, CollectionError> {
        let catalogue = &self.parts.catalogue;
        let _turn = catalogue.turn(place.namespace.as_str()).await;
        let exists = catalogue.exists(place).await?;
        let once = options.once.map(|key| once("DropCollection", place, &key, [0; 32]));
        if !exists && (once.is_none() || options.validate_only) {
            return Err(CollectionError::NoCollection(place.id()));
        }
        let records = match self.count(place).await {
            Ok(records) => records,
            Err(CollectionError::NoCollection(_)) => 0,
            Err(why) => return Err(why),
        };
        if options.validate_only {
            return Ok(records);
        }
        let works = self.find(place).ok().map(|definition| Arc::downgrade(&definition));
        let removed = catalogue.remove(place, records, once).await;
        if self.find(place).is_err() {
            // What is written by it must not end up in another collection of this name: nobody makes one in our turn.
            if let Some(works) = works {
                settle(works).await;
            }
            if removed.is_ok() {
                catalogue.drop_tables(place).await;
            }
        }
        removed.map_err(|why| at(place, why))
    }

    /// How many records there are. Nothing is looked through.
    pub(super) async fn count(&self, place: &Place) -> Result<u64, CollectionError> {
        let all = Query { limit: 1, total: true, ..Query::default() };
        let name = place.collection.as_str();
        let page = self.parts.store.query(&place.namespace, name, all, Instant::now() + COUNT_TIME).await;
        Ok(page.map_err(|why| at(place, why))?.total.unwrap_or_default())
    }

    /// The definition as it is now.
    pub(super) fn find(&self, place: &Place) -> Result<Arc<Definition>, CollectionError> {
        let found = self.parts.catalogue.find(&place.namespace, &place.collection);
        found.ok_or_else(|| CollectionError::NoCollection(place.id()))
    }

    /// What the records are, as registered now. To link the types of a large namespace takes its time, so that is not done
    /// where calls are answered.
    pub(super) async fn form_of(
        &self,
        namespace: &Namespace,
        message_type: Option<&str>,
    ) -> Result<Form, CollectionError> {
        let Some(message_type) = message_type else { return Ok(Form::Loose) };
        let snapshot = self.parts.registry.snapshot(namespace);
        if snapshot.is_linked() || !snapshot.has_message(message_type) {
            return Ok(Form::of(&snapshot, Some(message_type)));
        }
        let message_type = message_type.to_owned();
        self.heavy(move || Form::of(&snapshot, Some(&message_type))).await
    }

    /// Runs what must not end half-way because its caller left.
    pub(super) async fn tracked<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CollectionError>> + Send + 'static,
    ) -> Result<T, CollectionError> {
        let lifecycle = &self.parts.lifecycle;
        if lifecycle.is_draining() {
            return Err(CollectionError::Draining);
        }
        lifecycle.spawn(work.in_current_span()).await.map_err(|gone| CollectionError::Internal(gone.into()))?
    }
}

/// The indexed fields that the records have now. A type that was registered after the collection was made may lack some:
/// they have no index.
pub(super) fn present_indexes(form: &Form, definition: &Definition) -> Vec<Path> {
    let mut paths = Vec::new();
    for field in &definition.indexed_fields {
        let Ok(found) = ask::indexes(form, std::slice::from_ref(field)) else { continue };
        for path in found.paths {
            // Two names of one field become the same path once the type says so.
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths
}

/// What a store's error means for this collection.
pub(super) fn at(place: &Place, why: StoreError) -> CollectionError {
    match why {
        StoreError::NoCollection => CollectionError::NoCollection(place.id()),
        StoreError::CollectionExists => CollectionError::CollectionExists(place.id()),
        other => other.into(),
    }
}

/// Names a write of the catalogue. Its database is one for all namespaces.
fn once(rpc: &str, place: &Place, key: &str, fingerprint: [u8; 32]) -> Once {
    let fingerprint = *blake3::Hasher::new().update(place.id().as_bytes()).update(&fingerprint).finalize().as_bytes();
    Once { key: format!("{rpc}\0{}\0{key}", place.namespace), fingerprint }
}

/// Before anything looks at each of them.
fn check_indexed_fields(fields: &[String]) -> Result<(), BadField> {
    // One more: a vector has no index.
    let most = INDEXES_MAX + 1;
    if fields.len() <= most {
        return Ok(());
    }
    Err(BadField::new("indexed_fields", format!("has {} paths, at most {INDEXES_MAX} are allowed", fields.len())))
}

impl NewCollection {
    fn check(&self) -> Result<(), BadField> {
        if let Some(Err(why)) = self.message_type.as_deref().map(str::parse::<ServiceName>) {
            return Err(BadField::new("collection.message_type.message_name", why.to_string()));
        }
        labels::check("collection.metadata.labels", &self.labels)?;
        check_indexed_fields(&self.indexed_fields)?;
        if !self.server_endpoint.is_empty() && !is_endpoint(&self.server_endpoint) {
            return Err(BadField::new("collection.server_endpoint", "must be host:port, at most 256 bytes"));
        }
        Ok(())
    }

    fn into_definition(self) -> Definition {
        let now = now();
        Definition {
            namespace: self.place.namespace,
            name: self.place.collection,
            message_type: self.message_type,
            indexed_fields: self.indexed_fields,
            server_endpoint: self.server_endpoint,
            labels: self.labels,
            full_text: self.full_text,
            created_at: now,
            updated_at: now,
        }
    }
}

impl Wanted {
    fn fits(&self, definition: &Definition) -> bool {
        let labels = || self.labels.iter().all(|(key, value)| definition.labels.get(key) == Some(value));
        let message_type = || match &self.message_type {
            None => true,
            Some((namespace, name)) => {
                namespace.as_ref().is_none_or(|namespace| *namespace == definition.namespace)
                    && definition.message_type.as_deref().unwrap_or_default() == name
            }
        };
        labels() && message_type()
    }
}
