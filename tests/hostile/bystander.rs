//! The other tenant: it calls and keeps records while it is all going on (invariants I2, I3).

use crate::case::done;
use crate::guests::{Guests, PROTO};
use crate::messages::{Hello, HelloReply};
use crate::wire::Wire;
use collector::rpc::pb;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Clients at once, and how long each rests between two calls: a quiet tenant.
const CLIENTS: usize = 2;
const REST: Duration = Duration::from_millis(10);
/// A call that takes longer failed.
const LATE: Duration = Duration::from_secs(10);
/// Calls that a judgement needs.
const ENOUGH: u64 = 20;
/// The bystander's collection and the type of what is in it.
pub const COLLECTION: &str = "ledger";
pub const TYPE: &str = "ledger.v1.Entry";

#[derive(Debug, Default)]
struct Stats {
    done: AtomicU64,
    failed: AtomicU64,
    micros: Mutex<Vec<u64>>,
    last: Mutex<String>,
    stop: AtomicBool,
}

/// How the bystander fared.
#[derive(Debug, Clone, Default)]
pub struct Fared {
    pub done: u64,
    pub failed: u64,
    pub p99: Duration,
    /// What the last failure said.
    pub last: String,
}

/// A tenant that does nobody any harm.
pub struct Bystander {
    wire: Wire,
    pub namespace: String,
    canary: String,
    stats: Arc<Stats>,
    tasks: Vec<JoinHandle<()>>,
    records: AtomicU64,
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stats.stop.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Bystander {
    /// Deploys a greeter, makes a collection, and begins to call.
    ///
    /// * `canary`: is in all that it keeps and says, and must be seen by nobody else.
    pub async fn start(wire: Wire, namespace: &str, canary: &str, guests: &Guests) -> Result<Self, String> {
        let service = "collector.plugin.v1.Plugins/Deploy";
        done(
            "the bystander's greeter",
            wire.to(service).bytes(crate::target::deploy(namespace, &guests.greeter)).await,
        )?;
        let file = crate::target::proto(
            "ledger/v1/ledger.proto",
            &format!("syntax = \"proto3\"; package ledger.v1; message Entry {{ string text = 1; }} // {canary}"),
        );
        let register = pb::RegisterProtoRequest {
            namespace: namespace.into(),
            file_descriptor: Some(collector::rpc::RawDescriptor::of(&file)),
            dependencies: Vec::new(),
        };
        done("the bystander's type", wire.to(PROTO).status(&register).await)?;
        let collection = crate::target::collection(namespace, COLLECTION, TYPE);
        let made = wire.to("collector.CollectionRepo/CreateCollection").status(&collection).await;
        crate::case::done_or("the bystander's collection", made, &[tonic::Code::AlreadyExists])?;
        let stats = Arc::new(Stats::default());
        let mut bystander = Self {
            wire,
            namespace: namespace.to_owned(),
            canary: canary.to_owned(),
            stats,
            tasks: Vec::new(),
            records: AtomicU64::new(0),
        };
        bystander.greet().await.map_err(|why| format!("the bystander's first call: {why}"))?;
        for _ in 0..CLIENTS {
            bystander.tasks.push(tokio::spawn(bystander.calls()));
        }
        Ok(bystander)
    }

    /// What is its alone.
    pub fn canary(&self) -> &str {
        &self.canary
    }

    fn calls(&self) -> impl Future<Output = ()> + Send + 'static {
        let (wire, stats) = (self.wire.clone(), Arc::clone(&self.stats));
        let (namespace, canary) = (self.namespace.clone(), self.canary.clone());
        async move {
            while !stats.stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = tokio::time::timeout(LATE, greet(&wire, &namespace, &canary)).await;
                let answer = answer.unwrap_or_else(|_| Err(format!("no answer in {} s", LATE.as_secs())));
                match answer {
                    Ok(()) => {
                        stats.done.fetch_add(1, Ordering::Relaxed);
                        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                        stats.micros.lock().unwrap().push(micros);
                    }
                    Err(why) => {
                        stats.failed.fetch_add(1, Ordering::Relaxed);
                        *stats.last.lock().unwrap() = why;
                    }
                }
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// One call now.
    pub async fn greet(&self) -> Result<(), String> {
        greet(&self.wire, &self.namespace, &self.canary).await
    }

    /// Forgets how it fared so far.
    pub fn forget(&self) {
        self.stats.done.store(0, Ordering::Relaxed);
        self.stats.failed.store(0, Ordering::Relaxed);
        self.stats.micros.lock().unwrap().clear();
    }

    /// How it fared since somebody asked, over enough calls to tell.
    pub async fn fared(&self) -> Fared {
        let deadline = Instant::now() + LATE * 2;
        let calls = || self.stats.done.load(Ordering::Relaxed) + self.stats.failed.load(Ordering::Relaxed);
        while calls() < ENOUGH && Instant::now() < deadline {
            tokio::time::sleep(REST).await;
        }
        let mut micros = std::mem::take(&mut *self.stats.micros.lock().unwrap());
        micros.sort_unstable();
        let at = |part: f64| {
            let index = ((micros.len() as f64 * part) as usize).min(micros.len().saturating_sub(1));
            Duration::from_micros(micros.get(index).copied().unwrap_or_default())
        };
        Fared {
            done: self.stats.done.swap(0, Ordering::Relaxed),
            failed: self.stats.failed.swap(0, Ordering::Relaxed),
            p99: at(0.99),
            last: self.stats.last.lock().unwrap().clone(),
        }
    }

    /// Keeps a record; its id.
    pub async fn keep(&self) -> Result<String, String> {
        // The same few ids over and over: what the suite stores does not grow with its length.
        let id = format!("entry-{}", self.records.fetch_add(1, Ordering::Relaxed) % 16);
        let entry = pb::CreateRequest {
            namespace: self.namespace.clone(),
            collection_name: COLLECTION.into(),
            item: Some(self.entry(&id)),
            id: id.clone(),
            labels: Default::default(),
        };
        let gone =
            pb::DeleteRequest { namespace: self.namespace.clone(), collection_name: COLLECTION.into(), id: id.clone() };
        done("I3: the old record goes", self.wire.to("collector.CollectionService/Delete").status(&gone).await)?;
        done("I3: a new record", self.wire.to("collector.CollectionService/Create").status(&entry).await)?;
        Ok(id)
    }

    /// Reads a record that was acknowledged.
    pub async fn kept(&self, id: &str) -> Result<(), String> {
        let get =
            pb::GetRequest { namespace: self.namespace.clone(), collection_name: COLLECTION.into(), id: id.to_owned() };
        let answer = self.wire.to("collector.CollectionService/Get").ask::<pb::GetResponse>(&get).await;
        let found = done("I3: the bystander's record", answer)?;
        crate::case::check(found.item == Some(self.entry(id)), || "I3: the record is another one".to_owned())
    }

    fn entry(&self, id: &str) -> prost_types::Any {
        let entry = crate::messages::Text { text: format!("{} {id}", self.canary) };
        crate::target::any(TYPE, &entry)
    }
}

impl Fared {
    /// Invariant I2, without its latency, which the benchmark judges on a quiet machine.
    pub fn judge(&self) -> Result<(), String> {
        let all = self.done + self.failed;
        let enough = self.done * 100 >= all * 99 && all > 0;
        crate::case::check(enough, || {
            format!("I2: {} of the bystander's {all} calls failed, the last with {}", self.failed, self.last)
        })
    }
}

async fn greet(wire: &Wire, namespace: &str, canary: &str) -> Result<(), String> {
    let hello = Hello { name: canary.to_owned(), locale: String::new() };
    let call = wire.to("greeter.v1.Greeter/SayHello").namespace(namespace);
    let reply: HelloReply = call.ask(&hello).await.map_err(|status| crate::case::told(&status))?;
    crate::case::check(reply.text == format!("Hello, {canary}!"), || "it was greeted by another name".to_owned())
}
