//! Writers and readers that keep book of what they do.

use super::model::{Held, Issued, Key, Model, Note, Seen, Violation};
use crate::support::{Client, Place, as_struct, compile, typed_item, verdict, with};
use collector::rpc::pb;
use pb::request_op::Operation;
use prost::Message as _;
use prost_types::Any;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tonic::{Code, Status};

/// The collections: one of a type with full text and an index, one of JSON with neither.
pub const PLACES: [Place; 2] = [Place::acme("typed"), Place::acme("plain")];
/// The type of the first.
const TYPE: &str = "durable.v1.Note";
/// Writers at once.
pub const WRITERS: usize = 4;
/// Ids that every writer takes and gives back, in each collection.
const IDS: usize = 12;
/// Records whose id the node made that a writer keeps, in each collection.
const NAMED: usize = 10;
/// Values of `number`.
pub const NUMBERS: u64 = 20;

/// Numbers that look random and come again with the same seed. Source: Steele, Lea, Flood, "Fast splittable pseudorandom
/// number generators" (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Whether something of this many percent happens.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn number(&mut self) -> i64 {
        i64::try_from(self.next() % NUMBERS).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What writers and readers of a node share, beyond its restarts.
#[derive(Default)]
pub struct Book {
    pub model: Mutex<Model>,
    /// Records that the node was asked to name, and that it has not named.
    pub unnamed: Mutex<Vec<Unnamed>>,
    pub wrong: Mutex<Vec<String>>,
    /// From now on answers may fail to come.
    pub killing: AtomicBool,
    pub acknowledged: AtomicU64,
    pub reads: AtomicU64,
    tokens: AtomicU64,
}

/// A record that the node was asked to name.
#[derive(Clone, Debug)]
pub struct Unnamed {
    pub collection: usize,
    pub held: Held,
    /// The idempotency key.
    pub key: String,
}

impl Book {
    pub fn accuse(&self, what: impl ToString) {
        self.wrong.lock().unwrap().push(what.to_string());
    }

    pub fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.accuse(violation);
        }
    }

    pub fn is_sound(&self) -> bool {
        self.wrong.lock().unwrap().is_empty()
    }

    fn killing(&self) -> bool {
        self.killing.load(Ordering::SeqCst)
    }
}

/// How a call of a writer ended.
#[derive(Debug)]
pub enum End {
    Done,
    /// Nothing was done, the node says.
    Refused(Status),
    /// It may have been done.
    Unknown(Status),
}

/// Registers the type and makes the collections.
pub async fn prepare(client: &Client) {
    let text = "syntax = \"proto3\"; package durable.v1;
        message Note { string token = 1; int64 number = 2; string body = 3; }";
    client.register("acme", &compile(&[("durable/v1/note.proto", text)])).await.unwrap();
    client.make(PLACES[0].definition(TYPE, &["number"])).await.unwrap();
    let mute = pb::Collection { full_text: pb::FullText::Off.into(), ..PLACES[1].definition("", &[]) };
    client.make(mute).await.unwrap();
}

/// A note as a record of a collection.
pub fn item(collection: usize, bytes: Vec<u8>) -> Any {
    match collection {
        0 => typed_item(TYPE, bytes),
        _ => Any { type_url: String::new(), value: bytes },
    }
}

/// What a record of a collection holds.
pub fn seen(collection: usize, item: &Any, info: &pb::RecordInfo) -> Result<Seen, String> {
    let note = match collection {
        0 => Note::decode(&item.value[..]).map_err(|why| why.to_string())?,
        _ => from_json(&item.value)?,
    };
    Ok(Seen { note, bytes: item.value.clone(), etag: info.etag.clone() })
}

fn from_json(bytes: &[u8]) -> Result<Note, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Ok(Note { token: text("token"), number: value["number"].as_i64().unwrap_or_default(), body: text("body") })
}

fn encode(collection: usize, note: &Note) -> Vec<u8> {
    match collection {
        0 => note.encode_to_vec(),
        _ => json!({ "token": note.token, "number": note.number, "body": note.body }).to_string().into_bytes(),
    }
}

/// Writes records that are its own, one call at a time.
pub struct Writer<'a> {
    pub number: usize,
    pub random: Random,
    pub client: Client,
    pub book: &'a Book,
}

impl Writer<'_> {
    /// One write, of any kind.
    pub async fn step(&mut self) -> End {
        let collection = self.random.below(2);
        match self.random.below(100) {
            0..15 => self.create_unnamed(collection).await,
            15..35 => self.batch(collection).await,
            _ => self.change_one(collection).await,
        }
    }

    /// Writes until an answer fails to come, or something is wrong.
    pub async fn run(mut self) {
        while self.book.is_sound() {
            match self.step().await {
                End::Done => {}
                End::Refused(_) => tokio::task::yield_now().await,
                End::Unknown(_) if self.book.killing() => return,
                End::Unknown(status) => return self.book.accuse(format!("a writer was answered {status:?}")),
            }
        }
    }

    /// Ids of this writer: those that it chose, and what the node named and is still there.
    fn ids(&self, collection: usize) -> Vec<String> {
        let chosen = (0..IDS).map(|n| format!("w{}-{n}", self.number));
        let model = self.book.model.lock().unwrap();
        let named = model.keys().into_iter().filter(|key| {
            key.0 == collection && !key.1.starts_with('w') && self.owns(&model, key) && model.current(key).is_some()
        });
        let ids = chosen.chain(named.map(|(_, id)| id)).collect();
        drop(model);
        ids
    }

    /// Whether a record that the node named is this writer's: its token says so.
    fn owns(&self, model: &Model, key: &Key) -> bool {
        let ours = format!("t{}x", self.number);
        model.current(key).is_some_and(|held| held.note.token.starts_with(&ours))
    }

    /// A version like no other, with its bytes.
    fn fresh(&mut self, collection: usize) -> Held {
        let token = format!("t{}x{}", self.number, self.book.tokens.fetch_add(1, Ordering::SeqCst));
        let words = match self.random.below(100) {
            0..4 => 4_000, // several pages
            4..20 => 100,
            _ => self.random.below(8),
        };
        let body = "lorem ".repeat(words);
        let note = Note { token, number: self.random.number(), body };
        let mut bytes = encode(collection, &note);
        match collection {
            0 if self.random.percent(30) => bytes.extend_from_slice(b"\xc2\x3e\x06custom"), // an unknown field 1000
            1 if self.random.percent(30) => bytes.extend_from_slice(b" \n"),
            _ => {}
        }
        Held { note, bytes: Some(bytes) }
    }

    /// A record whose id the node makes, under an idempotency key.
    async fn create_unnamed(&mut self, collection: usize) -> End {
        if self.ids(collection).len() > IDS + NAMED {
            return self.change_one(collection).await;
        }
        let held = self.fresh(collection);
        let key = format!("key-{}", held.note.token);
        let unnamed = Unnamed { collection, held, key };
        self.book.unnamed.lock().unwrap().push(unnamed.clone());
        let end = retry(&self.client, self.book, &unnamed).await;
        if let End::Done | End::Refused(_) = end {
            self.book.unnamed.lock().unwrap().retain(|other| other.key != unnamed.key);
        }
        end
    }

    async fn change_one(&mut self, collection: usize) -> End {
        let ids = self.ids(collection);
        let key = (collection, self.random.pick(&ids).clone());
        let current = self.book.model.lock().unwrap().current(&key).cloned();
        match (current, self.random.below(100)) {
            (None, 0..70) => {
                let held = self.fresh(collection);
                self.create(key, held).await
            }
            (None, 70..85) => self.update_missing(key).await,
            (None, _) | (Some(_), 0..25) => self.delete(key).await,
            (Some(_), 25..32) => self.create_taken(key).await,
            (Some(current), 32..60) => self.update_parts(key, current).await,
            (Some(_), _) => self.update(key).await,
        }
    }

    async fn create(&mut self, key: Key, held: Held) -> End {
        let item = item(key.0, held.bytes.clone().unwrap());
        let issued = self.issue(vec![(key.clone(), Some(held))]);
        let answer = self.client.create(PLACES[key.0], &key.1, item).await;
        self.end(&issued, answer.map(|info| vec![Some(info.etag)]))
    }

    async fn update(&mut self, key: Key) -> End {
        let held = self.fresh(key.0);
        let item = item(key.0, held.bytes.clone().unwrap());
        let known = self.book.model.lock().unwrap().etag(&key).unwrap_or_default().to_owned();
        let held_to = self.random.percent(25) && !known.is_empty();
        let metadata = if held_to { &[("if-match", &*known)][..] } else { &[] };
        let issued = self.issue(vec![(key.clone(), Some(held))]);
        let request = with(PLACES[key.0].update(&key.1, item, &[]), metadata);
        let answer = self.client.records.clone().update(request).await;
        self.end(&issued, answer.map(|reply| vec![Some(reply.into_inner().info.unwrap().etag)]))
    }

    async fn update_parts(&mut self, key: Key, current: Held) -> End {
        let other = self.fresh(key.0);
        let note = Note { token: current.note.token, ..other.note.clone() };
        let note = Note { body: format!("{}{}", note.body, other.note.token), ..note };
        let item = item(key.0, encode(key.0, &Note { token: String::new(), ..note.clone() }));
        let issued = self.issue(vec![(key.clone(), Some(Held { note, bytes: None }))]);
        let answer = self.client.update(PLACES[key.0], &key.1, item, &["number", "body"]).await;
        self.end(&issued, answer.map(|info| vec![Some(info.etag)]))
    }

    async fn delete(&mut self, key: Key) -> End {
        let issued = self.issue(vec![(key.clone(), None)]);
        let answer = self.client.delete(PLACES[key.0], &key.1).await;
        self.end(&issued, answer.map(|()| vec![None]))
    }

    /// Is refused, and changes nothing.
    async fn create_taken(&mut self, key: Key) -> End {
        let held = self.fresh(key.0);
        let answer = self.client.create(PLACES[key.0], &key.1, item(key.0, held.bytes.unwrap())).await;
        self.refused(answer.map(|_| ()), Code::AlreadyExists)
    }

    /// Is refused, and changes nothing.
    async fn update_missing(&mut self, key: Key) -> End {
        let held = self.fresh(key.0);
        let answer = self.client.update(PLACES[key.0], &key.1, item(key.0, held.bytes.unwrap()), &[]).await;
        self.refused(answer.map(|_| ()), Code::NotFound)
    }

    /// Several records at once.
    async fn batch(&mut self, collection: usize) -> End {
        let (ids, place) = (self.ids(collection), PLACES[collection]);
        let chosen: BTreeSet<String> = (0..2 + self.random.below(5)).map(|_| self.random.pick(&ids).clone()).collect();
        let (mut changes, mut operations) = (Vec::new(), Vec::new());
        for id in chosen {
            let key = (collection, id.clone());
            let there = self.book.model.lock().unwrap().current(&key).is_some();
            if there && self.random.percent(30) {
                operations.push(Operation::Delete(place.delete(&id)));
                changes.push((key, None));
                continue;
            }
            let held = self.fresh(collection);
            let item = item(collection, held.bytes.clone().unwrap());
            operations.push(match there {
                true => Operation::Update(place.update(&id, item, &[])),
                false => Operation::Create(place.create(&id, item)),
            });
            changes.push((key, Some(held)));
        }
        let issued = self.issue(changes);
        let answer = self.client.batch(place, operations).await;
        self.end(&issued, answer.map(|responses| responses.into_iter().map(etag).collect()))
    }

    fn issue(&self, changes: Vec<(Key, Option<Held>)>) -> Issued {
        self.book.model.lock().unwrap().issue(changes)
    }

    /// Books how a call ended.
    fn end(&self, issued: &Issued, answer: Result<Vec<Option<String>>, Status>) -> End {
        let mut model = self.book.model.lock().unwrap();
        match answer {
            Ok(etags) => {
                self.book.acknowledged.fetch_add(1, Ordering::SeqCst);
                self.book.check(model.acknowledge(issued, &etags));
                End::Done
            }
            Err(status) if is_refusal(&status) => {
                self.book.check(model.refuse(issued));
                End::Refused(status)
            }
            Err(status) => End::Unknown(status),
        }
    }

    /// Books a call that had to fail with this code.
    fn refused(&self, answer: Result<(), Status>, code: Code) -> End {
        match answer {
            Ok(()) => self.book.accuse(format!("OK where it should have been {code:?}")),
            Err(status) if status.code() == code => {}
            Err(status) if is_refusal(&status) => return End::Refused(status),
            Err(status) => return End::Unknown(status),
        }
        End::Done
    }
}

/// Asks the node to name a record, for the first time or again: it makes one in any case.
pub async fn retry(client: &Client, book: &Book, unnamed: &Unnamed) -> End {
    let Unnamed { collection, held, key, .. } = unnamed.clone();
    let item = item(collection, held.bytes.clone().unwrap());
    let request = with(PLACES[collection].create("", item), &[("idempotency-key", &key)]);
    match client.records.clone().create(request).await {
        Ok(reply) => {
            let info = reply.into_inner().info.unwrap();
            book.acknowledged.fetch_add(1, Ordering::SeqCst);
            book.check(book.model.lock().unwrap().adopt((collection, info.id), held, &info.etag));
            End::Done
        }
        Err(status) if is_refusal(&status) => End::Refused(status),
        Err(status) => End::Unknown(status),
    }
}

/// Whether a status promises that nothing was done.
fn is_refusal(status: &Status) -> bool {
    let (code, reason) = verdict(status);
    code == Code::ResourceExhausted && ["BUSY", "DISK_FULL"].contains(&&*reason)
}

fn etag(response: pb::ResponseOp) -> Option<String> {
    use pb::response_op::Response;
    match response.response.unwrap() {
        Response::Create(create) => Some(create.info.unwrap().etag),
        Response::Update(update) => Some(update.info.unwrap().etag),
        Response::Delete(_) => None,
    }
}

/// Reads what others write, until an answer fails to come, and checks that it is never older than it may be.
pub async fn read(mut random: Random, client: Client, book: &Book) {
    while book.is_sound() {
        let answer = match random.below(10) {
            0 => read_page(&mut random, &client, book).await,
            1 => read_by_number(&mut random, &client, book).await,
            _ => read_one(&mut random, &client, book).await,
        };
        book.reads.fetch_add(1, Ordering::SeqCst);
        match answer {
            Ok(()) => {}
            Err(_) if book.killing() => return,
            Err(status) => return book.accuse(format!("a reader was answered {status:?}")),
        }
    }
}

async fn read_one(random: &mut Random, client: &Client, book: &Book) -> Result<(), Status> {
    let key = (random.below(2), format!("w{}-{}", random.below(WRITERS), random.below(IDS)));
    let floor = book.model.lock().unwrap().floor(&key);
    let seen = match client.get(PLACES[key.0], &key.1).await {
        Ok((item, info)) => Some(decoded(book, &key, &item, &info)),
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => return Err(status),
    };
    book.check(book.model.lock().unwrap().observe(&key, floor, seen.as_ref()));
    Ok(())
}

/// The newest, or the oldest.
async fn read_page(random: &mut Random, client: &Client, book: &Book) -> Result<(), Status> {
    let order_by = random.pick(&["", "id", "number desc", "updated_at"]);
    let page = |place: Place| pb::ListRequest { order_by: (*order_by).into(), page_size: 30, ..place.list() };
    read_some(random, client, book, page).await.map(|_| ())
}

async fn read_by_number(random: &mut Random, client: &Client, book: &Book) -> Result<(), Status> {
    let number = random.number();
    let filter = Some(as_struct(&json!({ "number": number })));
    let found = read_some(random, client, book, |place| pb::ListRequest { filter, ..place.list() }).await?;
    if found.iter().any(|seen| seen.note.number != number) {
        book.accuse(format!("asked for number {number}, got {found:?}"));
    }
    Ok(())
}

/// Lists, and checks every record of it as if it had been read alone.
async fn read_some(
    random: &mut Random,
    client: &Client,
    book: &Book,
    page: impl FnOnce(Place) -> pb::ListRequest,
) -> Result<Vec<Seen>, Status> {
    let collection = random.below(2);
    let floors: Vec<(Key, usize)> = {
        let model = book.model.lock().unwrap();
        model.keys().into_iter().map(|key| (key.clone(), model.floor(&key))).collect()
    };
    let reply = client.page(page(PLACES[collection])).await?;
    let (mut all, mut ids) = (Vec::new(), BTreeSet::new());
    for (item, info) in reply.items.iter().zip(&reply.infos) {
        let key = (collection, info.id.clone());
        let seen = decoded(book, &key, item, info);
        // What the node named is in the book only once its name is known.
        if let Ok(at) = floors.binary_search_by(|(other, _)| other.cmp(&key)) {
            book.check(book.model.lock().unwrap().observe(&key, floors[at].1, Some(&seen)));
        }
        if !ids.insert(info.id.clone()) {
            book.accuse(format!("{key:?} is twice in one page"));
        }
        all.push(seen);
    }
    Ok(all)
}

fn decoded(book: &Book, key: &Key, item: &Any, info: &pb::RecordInfo) -> Seen {
    seen(key.0, item, info).unwrap_or_else(|why| {
        book.accuse(format!("{key:?} does not decode: {why}"));
        Seen { note: Note::default(), bytes: item.value.clone(), etag: info.etag.clone() }
    })
}
