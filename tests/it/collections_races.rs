//! Changes of collections that meet each other, or a store that fails: on a store that waits and fails when told to.

use crate::support::faults::Faults;
use crate::support::{self, Client, json_item};
use collector::collections::{
    AcrossQuery, Catalogue, CollectionError, Collections, FieldFilter, Item, NewCollection, Operation, Operator,
    Options, Parts, Place, SearchQuery,
};
use collector::dispatch::artifacts::Artifacts;
use collector::dispatch::deployments::{Deployments, Stored};
use collector::dispatch::{self, Dispatcher};
use collector::domain::{Account, Deadline, Kind, Limits, Namespace, Outcome};
use collector::exec::{Code, ExecError, ExecFailure, Executor, Job, Streams};
use collector::lifecycle::Lifecycle;
use collector::registry::{BuiltIn, Registry};
use collector::store::{
    BoxFuture, Change, Done, Expect, Page, Plan, Query, Record, Shape, SqliteStore, Stats, Store, StoreError, Text,
    TextStats, Write, all,
};
use collector::tenancy::{Caller, Tenancy};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tonic::Code as Status;

/// How long something is watched that must not happen meanwhile.
const WATCHED: Duration = Duration::from_millis(300);

/// What is to happen to a call of the store.
enum Fate {
    /// It says that it came, and waits.
    Wait(oneshot::Sender<()>, oneshot::Receiver<()>),
    /// It does nothing, and fails.
    Fail(StoreError),
    /// As after a failed sync: readers do not see the write, whoever opens the database next does.
    Unsynced,
}

/// A store whose calls wait or fail when told to.
struct Told {
    inner: SqliteStore,
    fates: Mutex<VecDeque<(&'static str, Fate)>>,
    unsynced: Mutex<Option<Write>>,
    stats: AtomicUsize,
}

/// A call that is held up.
struct Held {
    came: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Told {
    /// Of the next call of this kind: `write acme`.
    fn tell(&self, call: &'static str, fate: Fate) {
        self.fates.lock().unwrap().push_back((call, fate));
    }

    fn hold(&self, call: &'static str) -> Held {
        let ((came, has_come), (go, may_go)) = (oneshot::channel(), oneshot::channel());
        self.tell(call, Fate::Wait(came, may_go));
        Held { came: has_come, go }
    }

    /// `true`: the call is not made now.
    async fn meet(&self, call: &str, namespace: &Namespace) -> Result<bool, StoreError> {
        let call = format!("{call} {namespace}");
        let fate = {
            let mut fates = self.fates.lock().unwrap();
            let at = fates.iter().position(|(of, _)| *of == call);
            at.and_then(|at| fates.remove(at))
        };
        match fate {
            None => Ok(false),
            Some((_, Fate::Wait(came, may_go))) => {
                came.send(()).unwrap();
                let _ = may_go.await;
                Ok(false)
            }
            Some((_, Fate::Fail(why))) => Err(why),
            Some((_, Fate::Unsynced)) => Ok(true),
        }
    }
}

fn io() -> StoreError {
    StoreError::Io(Arc::from(Box::from("the disk failed")))
}

impl Store for Told {
    fn make(&self, namespace: &Namespace, collection: &str, shape: Shape) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.make(namespace, collection, shape)
    }

    fn reshape(&self, namespace: &Namespace, collection: &str, shape: Shape) -> BoxFuture<'_, Result<(), StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            self.meet("reshape", &namespace).await?;
            self.inner.reshape(&namespace, &collection, shape).await
        })
    }

    fn drop_collection(&self, namespace: &Namespace, collection: &str) -> BoxFuture<'_, Result<bool, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            self.meet("drop", &namespace).await?;
            self.inner.drop_collection(&namespace, &collection).await
        })
    }

    fn collections(&self, namespace: &Namespace) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.inner.collections(namespace)
    }

    fn write(&self, namespace: &Namespace, write: Write) -> BoxFuture<'_, Result<Done, StoreError>> {
        let namespace = namespace.clone();
        Box::pin(async move {
            if self.meet("write", &namespace).await? {
                *self.unsynced.lock().unwrap() = Some(write);
                return Err(io());
            }
            let unsynced = self.unsynced.lock().unwrap().take();
            if let Some(unsynced) = unsynced {
                self.inner.write(&namespace, unsynced).await.unwrap();
            }
            self.inner.write(&namespace, write).await
        })
    }

    fn get(
        &self,
        namespace: &Namespace,
        collection: &str,
        id: &str,
    ) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.inner.get(namespace, collection, id)
    }

    fn scan(
        &self,
        namespace: &Namespace,
        collection: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.inner.scan(namespace, collection, after, limit)
    }

    fn query(
        &self,
        namespace: &Namespace,
        collection: &str,
        query: Query,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            self.meet("query", &namespace).await?;
            self.inner.query(&namespace, &collection, query, deadline).await
        })
    }

    fn explain(
        &self,
        namespace: &Namespace,
        collection: &str,
        query: Query,
    ) -> BoxFuture<'_, Result<Plan, StoreError>> {
        self.inner.explain(namespace, collection, query)
    }

    fn text_stats(
        &self,
        namespace: &Namespace,
        collection: &str,
        text: Text,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<TextStats, StoreError>> {
        let (namespace, collection) = (namespace.clone(), collection.to_owned());
        Box::pin(async move {
            self.meet("text_stats", &namespace).await?;
            self.inner.text_stats(&namespace, &collection, text, deadline).await
        })
    }

    fn stats(&self, namespace: &Namespace, collection: &str) -> BoxFuture<'_, Result<Stats, StoreError>> {
        self.stats.fetch_add(1, Ordering::Relaxed);
        self.inner.stats(namespace, collection)
    }
}

/// Runs nothing.
struct Nobody;

fn nothing_runs() -> ExecFailure {
    ExecFailure { error: ExecError::Deadline, receipt: None }
}

impl Executor for Nobody {
    fn accepts(&self, _namespace: &Namespace, _kind: Kind) -> Result<(), ExecError> {
        Ok(())
    }

    fn prepare<'a>(
        &'a self,
        _namespace: &'a Namespace,
        _caller: Option<&'a Arc<dyn Account>>,
        _code: &'a Code,
    ) -> BoxFuture<'a, Result<(), ExecError>> {
        Box::pin(async { Err(ExecError::Deadline) })
    }

    fn run(&self, _job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(async { Err(nothing_runs()) })
    }

    fn stream(&self, _job: Job, _streams: Streams) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(async { Err(nothing_runs()) })
    }
}

/// The collections of a node, without the node.
#[derive(Clone)]
struct World {
    data: Arc<tempfile::TempDir>,
    store: Arc<Told>,
    lifecycle: Lifecycle,
    all: Arc<Collections>,
}

impl World {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let inner = SqliteStore::open(&data.path().join("records")).unwrap();
        let told = Told { inner, fates: Mutex::default(), unsynced: Mutex::default(), stats: AtomicUsize::new(0) };
        Self::on(Arc::new(data), Arc::new(told)).await
    }

    /// As the node does when it starts.
    async fn on(data: Arc<tempfile::TempDir>, store: Arc<Told>) -> Self {
        let lifecycle = Lifecycle::default();
        let kept: Arc<dyn Store> = Arc::clone(&store) as _;
        let stored = Stored::read(&*kept).await.unwrap();
        let artifacts =
            Artifacts::open(&data.path().join("artifacts"), &Default::default(), vec![], Box::new(|_, _| Ok(())))
                .unwrap();
        let (artifacts, executor) = (Arc::new(artifacts), Arc::new(Nobody));
        let built_in = BuiltIn::default();
        let registry = Registry::open(Arc::clone(&kept), &built_in, Default::default(), lifecycle.clone()).await;
        let registry = Arc::new(registry.unwrap());
        let deployments = Arc::new(Deployments::new(
            stored,
            Arc::clone(&registry),
            Arc::clone(&artifacts),
            Arc::clone(&executor) as _,
            Default::default(),
            lifecycle.clone(),
        ));
        let parts = dispatch::Parts {
            tenancy: Tenancy::default(),
            registry: Arc::clone(&registry),
            artifacts,
            deployments,
            executor,
            lifecycle: lifecycle.clone(),
        };
        let catalogue = Catalogue::open(Arc::clone(&kept), Default::default()).await.unwrap();
        let all = Arc::new(Collections::new(Parts {
            tenancy: Tenancy::default(),
            registry,
            catalogue: Arc::new(catalogue),
            store: kept,
            dispatcher: Arc::new(Dispatcher::new(parts, Limits::default())),
            lifecycle: lifecycle.clone(),
        }));
        all.resume().await.unwrap();
        Self { data, store, lifecycle, all }
    }

    async fn restart(self) -> Self {
        assert_eq!(self.lifecycle.end(Duration::from_secs(10)).await, 0);
        Self::on(self.data, self.store).await
    }

    fn make(&self, name: &'static str, indexed_fields: &[&str]) -> JoinHandle<Result<(), CollectionError>> {
        self.make_with(name, indexed_fields, Options::default())
    }

    fn make_with(
        &self,
        name: &'static str,
        indexed_fields: &[&str],
        options: Options,
    ) -> JoinHandle<Result<(), CollectionError>> {
        let new = NewCollection {
            place: place(name),
            message_type: None,
            indexed_fields: indexed_fields.iter().map(|&field| field.to_owned()).collect(),
            server_endpoint: String::new(),
            labels: Default::default(),
            full_text: true,
        };
        let all = Arc::clone(&self.all);
        tokio::spawn(async move { all.create_collection(&Caller::anonymous(), new, options).await.map(drop) })
    }

    fn drop(&self, name: &'static str) -> JoinHandle<Result<u64, CollectionError>> {
        let all = Arc::clone(&self.all);
        tokio::spawn(async move { all.drop_collection(&Caller::anonymous(), place(name), Options::default()).await })
    }

    /// Drops it and makes it anew.
    fn replace(&self, name: &'static str, indexed_fields: &'static [&str]) -> JoinHandle<Result<(), CollectionError>> {
        let (dropped, world) = (self.drop(name), self.clone());
        tokio::spawn(async move {
            dropped.await.unwrap()?;
            world.make(name, indexed_fields).await.unwrap()
        })
    }

    fn modify(&self, name: &'static str, fields: &[&str]) -> JoinHandle<Result<(), CollectionError>> {
        let (all, fields) = (Arc::clone(&self.all), fields.iter().map(|&field| field.to_owned()).collect());
        tokio::spawn(async move { all.modify(&Caller::anonymous(), &place(name), fields, &Options::default()).await })
    }

    fn reindex(&self, name: &'static str) -> JoinHandle<Result<(), CollectionError>> {
        let all = Arc::clone(&self.all);
        tokio::spawn(async move {
            let mut steps = all.reindex(&Caller::anonymous(), place(name), &Options::default(), None)?;
            while let Some(step) = steps.recv().await {
                step?;
            }
            Ok(())
        })
    }

    fn put(&self, name: &'static str, id: &str) -> JoinHandle<Result<(), CollectionError>> {
        let item = Item { type_url: String::new(), bytes: json!({ "a": 1, "b": 2 }).to_string().into() };
        let write = Operation::Create { id: Some(id.parse().unwrap()), item, labels: Default::default() };
        let all = Arc::clone(&self.all);
        tokio::spawn(async move {
            all.write(&Caller::anonymous(), &place(name), write, &Options::default()).await.map(drop)
        })
    }

    /// Of these fields those that have an index.
    async fn indexed<'f>(&self, name: &str, fields: &[&'f str]) -> Vec<&'f str> {
        let mut found = Vec::new();
        for field in fields {
            let value = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(1.0)) };
            let query = SearchQuery {
                full_text: String::new(),
                filters: vec![FieldFilter {
                    path: (*field).to_owned(),
                    operator: Operator::Equals,
                    value: Some(value),
                }],
                labels: vec![],
                vector: vec![],
                similarity_threshold: 0.0,
                limit: 1,
                offset: 0,
                order_by: String::new(),
                ascending: false,
                deadline: soon(),
            };
            let plan = self.all.explain_search(&Caller::anonymous(), &place(name), &query).await.unwrap();
            if !plan.indexes.is_empty() {
                found.push(*field);
            }
        }
        found
    }

    /// What is noted of a collection.
    async fn noted(&self, id: &str) -> Option<Vec<u8>> {
        let note = self.store.get(&Namespace::system(), "collection_work", id).await.unwrap();
        note.map(|note| note.bytes.to_vec())
    }

    async fn keep(&self, collection: &str, id: &str, bytes: &'static [u8]) {
        let put = Change::Put {
            collection: collection.to_owned(),
            id: id.to_owned(),
            type_url: String::new(),
            bytes: bytes.into(),
            labels: None,
            indexed: None,
            expect: Expect::Any,
        };
        self.store.inner.write(&Namespace::system(), Write::together(vec![put])).await.unwrap();
    }

    async fn ids(&self, name: &str) -> Result<Vec<String>, StoreError> {
        Ok(all(&*self.store, &acme(), name).await?.into_iter().map(|record| record.id).collect())
    }
}

fn acme() -> Namespace {
    "acme".parse().unwrap()
}

fn place(name: &str) -> Place {
    Place { namespace: acme(), collection: name.parse().unwrap() }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn everywhere(full_text: &str) -> AcrossQuery {
    AcrossQuery {
        namespace: acme(),
        collections: vec![],
        full_text: full_text.to_owned(),
        filters: vec![],
        order_by: String::new(),
        limit: 10,
        deadline: soon(),
    }
}

#[tokio::test]
async fn a_write_of_a_dropped_collection_never_lands_in_a_new_one_of_its_name() {
    let world = World::new().await;
    world.make("notes", &[]).await.unwrap().unwrap();
    let held = world.store.hold("write acme");
    let late = world.put("notes", "late");
    held.came.await.unwrap();
    let mut replaced = world.replace("notes", &[]);
    let early = timeout(WATCHED, &mut replaced).await;
    held.go.send(()).unwrap();
    let _ = late.await.unwrap();
    match early {
        Ok(made) => made.unwrap().unwrap(),
        Err(_) => replaced.await.unwrap().unwrap(),
    }
    assert!(world.ids("notes").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_of_indexes_never_reaches_a_new_collection_of_the_same_name() {
    for again in [false, true] {
        let world = World::new().await;
        world.make("notes", &["a"]).await.unwrap().unwrap();
        let held = world.store.hold("reshape acme");
        let changed = if again { world.reindex("notes") } else { world.modify("notes", &["a", "c"]) };
        held.came.await.unwrap();
        let mut replaced = world.replace("notes", &["b"]);
        let early = timeout(WATCHED, &mut replaced).await;
        held.go.send(()).unwrap();
        let changed = changed.await.unwrap();
        match early {
            Ok(made) => made.unwrap().unwrap(),
            Err(_) => replaced.await.unwrap().unwrap(),
        }
        assert_eq!(world.indexed("notes", &["a", "b", "c"]).await, ["b"], "again: {again}");
        assert!(matches!(changed, Err(CollectionError::NoCollection(_))), "{changed:?}");
    }
}

#[tokio::test]
async fn a_collection_that_is_made_again_does_not_end_a_change_of_it() {
    let world = World::new().await;
    world.make("notes", &[]).await.unwrap().unwrap();
    let held = world.store.hold("reshape acme");
    let changed = world.modify("notes", &["a"]);
    held.came.await.unwrap();
    let options = Options { once: Some("fresh".into()), ..Options::default() };
    let again = world.make_with("notes", &[], options).await.unwrap();
    assert!(matches!(again, Err(CollectionError::CollectionExists(_))), "{again:?}");
    held.go.send(()).unwrap();
    changed.await.unwrap().unwrap();
    assert_eq!(world.indexed("notes", &["a"]).await, ["a"]);
}

#[tokio::test]
async fn records_whose_definition_cannot_be_read_are_kept() {
    let world = World::new().await;
    world.make("notes", &[]).await.unwrap().unwrap();
    world.put("notes", "1").await.unwrap().unwrap();
    world.keep("collections", "acme/notes", b"\xff").await;
    world.keep("collection_work", "acme/notes", b"drop").await;
    let world = world.restart().await;
    let made = world.make("notes", &[]).await.unwrap();
    assert!(matches!(made, Err(CollectionError::Store(StoreError::Corrupt(_)))), "{made:?}");
    assert_eq!(world.ids("notes").await.unwrap(), ["1"]);
}

#[tokio::test]
async fn nothing_is_acknowledged_in_a_collection_that_may_have_been_dropped() {
    // How often the disk fails after that: it comes back, or does not.
    for failures in [0, 2, 50] {
        let world = World::new().await;
        world.make("notes", &[]).await.unwrap().unwrap();
        world.store.tell("write system", Fate::Unsynced);
        for _ in 0..failures {
            world.store.tell("write system", Fate::Fail(io()));
        }
        let dropped = world.drop("notes").await.unwrap();
        assert!(matches!(dropped, Err(CollectionError::Store(StoreError::Io(_)))), "{dropped:?}");
        let put = world.put("notes", "1").await.unwrap();
        assert!(matches!(put, Err(CollectionError::NoCollection(_))), "{failures}: {put:?}");
        // The disk is well again, and so is the name.
        world.store.fates.lock().unwrap().clear();
        world.make("notes", &["a"]).await.unwrap().unwrap();
        world.put("notes", "2").await.unwrap().unwrap();
        let world = world.restart().await;
        assert_eq!(world.ids("notes").await.unwrap(), ["2"], "{failures}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_a_drop_that_met_a_failed_sync_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (data, notes) = (folder.path().join("data"), support::Place::acme("notes"));
    let faults = Faults::new(&data);
    let mut node = faults.node(&data);
    let stub = Client::connect(&node.address).await;
    stub.make(notes.definition("", &[])).await.unwrap();
    faults.fail_syncs(0, 1);
    assert_eq!(stub.drop(notes).await.unwrap_err().code(), Status::Internal);
    faults.heal();
    let put = stub.create(notes, "1", json_item(&json!({}))).await;
    node.signal(rustix::process::Signal::KILL);
    node.wait();
    let node = faults.node(&data);
    let stub = Client::connect(&node.address).await;
    match put {
        Ok(_) => assert_eq!(stub.found(notes.search()).await.unwrap(), ["1"]),
        Err(why) => assert_eq!(why.code(), Status::NotFound),
    }
}

#[tokio::test]
async fn a_search_over_all_collections_passes_over_those_that_are_dropped_meanwhile() {
    for (call, text) in [("query acme", ""), ("text_stats acme", "x")] {
        let world = World::new().await;
        for name in ["a", "b"] {
            world.make(name, &[]).await.unwrap().unwrap();
        }
        let search = |query: AcrossQuery| {
            let all = Arc::clone(&world.all);
            tokio::spawn(async move { all.search_collections(&Caller::anonymous(), query).await })
        };
        let held = world.store.hold(call);
        let found = search(everywhere(text));
        held.came.await.unwrap();
        world.drop("a").await.unwrap().unwrap();
        world.drop("b").await.unwrap().unwrap();
        held.go.send(()).unwrap();
        assert_eq!(found.await.unwrap().unwrap(), Default::default(), "{call}");

        world.make("a", &[]).await.unwrap().unwrap();
        let held = world.store.hold(call);
        let found = search(AcrossQuery { collections: vec!["a".parse().unwrap()], ..everywhere(text) });
        held.came.await.unwrap();
        world.drop("a").await.unwrap().unwrap();
        held.go.send(()).unwrap();
        let named = found.await.unwrap();
        assert!(matches!(named, Err(CollectionError::NoCollection(_))), "{named:?}");
    }
}

#[tokio::test]
async fn dropping_and_indexing_again_do_not_read_everything_to_count() {
    let world = World::new().await;
    world.make("notes", &[]).await.unwrap().unwrap();
    for id in ["1", "2", "3"] {
        world.put("notes", id).await.unwrap().unwrap();
    }
    world.reindex("notes").await.unwrap().unwrap();
    assert_eq!(world.drop("notes").await.unwrap().unwrap(), 3);
    assert_eq!(world.store.stats.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_collection_that_cannot_be_defined_leaves_no_tables() {
    let world = World::new().await;
    for why in [StoreError::Busy, StoreError::Full] {
        world.store.tell("write system", Fate::Fail(why));
        assert!(world.make("notes", &[]).await.unwrap().is_err());
        assert!(world.store.collections(&acme()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn work_that_was_begun_with_a_collection_that_is_gone_is_forgotten() {
    for work in [&b"shape"[..], b"index", b"drop"] {
        let world = World::new().await;
        world.keep("collection_work", "acme/gone", work).await;
        let world = world.restart().await;
        assert_eq!(world.lifecycle.end(Duration::from_secs(10)).await, 0);
        assert_eq!(world.noted("acme/gone").await, None, "{work:?}");
    }
}

#[tokio::test]
async fn a_change_that_ends_does_not_end_the_note_of_a_drop() {
    let world = World::new().await;
    world.make("notes", &[]).await.unwrap().unwrap();
    world.keep("collection_work", "acme/notes", b"index").await;
    let held = world.store.hold("write system");
    let again = world.reindex("notes");
    held.came.await.unwrap();
    world.store.tell("drop acme", Fate::Fail(StoreError::Busy));
    world.drop("notes").await.unwrap().unwrap();
    held.go.send(()).unwrap();
    again.await.unwrap().unwrap();
    assert_eq!(world.noted("acme/notes").await.as_deref(), Some(&b"drop"[..]));
    // The name is used again: nothing is to be dropped any more.
    world.make("notes", &[]).await.unwrap().unwrap();
    assert_eq!(world.noted("acme/notes").await, None);
}
