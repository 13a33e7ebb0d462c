//! What has to be so when nothing is under way: rows are what the book says, and every way to them finds the same.

use super::load::{Book, End, NUMBERS, PLACES, Random, Unnamed, retry, seen};
use super::model::{Fates, Held, Key, Seen};
use crate::support::{Client, as_struct};
use collector::rpc::pb;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use tokio::task::JoinSet;
use tonic::Code;

/// Reads at once.
const READS: usize = 16;
/// Rows of a page; a few pages each time.
const PAGE: i32 = 37;

/// Reads every record of the book, and takes what is there for what is there from now on. Whoever waits for a name asks
/// again under the same key, or looks for the record.
pub async fn settle(client: &Client, book: &Book, random: &mut Random) -> Result<Fates, String> {
    let mut named = Fates::default();
    let waiting = std::mem::take(&mut *book.unnamed.lock().unwrap());
    for unnamed in waiting {
        if random.percent(50) {
            match retry(client, book, &unnamed).await {
                End::Done => {}
                other => return Err(format!("{unnamed:?} again: {other:?}")),
            }
        }
        match find(client, book, &unnamed).await? {
            true => named.present += 1,
            false => named.absent += 1,
        }
    }
    let read = read_all(client, book).await?;
    let mut model = book.model.lock().unwrap();
    let fates = model.settle(&read).map_err(|why| why.to_string())?;
    model.forget(|(_, id)| !id.starts_with('w'));
    Ok(Fates { present: fates.present + named.present, absent: fates.absent + named.absent, either: fates.either })
}

/// Looks for a record whose name is not known, or was learned just now, by what it holds. There is one at most.
async fn find(client: &Client, book: &Book, unnamed: &Unnamed) -> Result<bool, String> {
    let Unnamed { collection, held, .. } = unnamed;
    let filter = Some(as_struct(&json!({ "token": held.note.token })));
    let request = pb::ListRequest { filter, page_size: PAGE, ..PLACES[*collection].list() };
    let found = client.list(request).await.map_err(|why| format!("{why:?}"))?;
    let [(item, info)] = &found[..] else {
        return if found.is_empty() { Ok(false) } else { Err(format!("{unnamed:?} was made twice: {found:?}")) };
    };
    let key = (*collection, info.id.clone());
    let found = seen(*collection, item, info)?;
    let mut model = book.model.lock().unwrap();
    if !model.keys().contains(&key) {
        model.adopt(key.clone(), held.clone(), &info.etag).map_err(|why| why.to_string())?;
    }
    model.observe(&key, 0, Some(&found)).map_err(|why| why.to_string())?;
    Ok(true)
}

async fn read_all(client: &Client, book: &Book) -> Result<BTreeMap<Key, Option<Seen>>, String> {
    let (mut keys, mut reads, mut read) = (book.model.lock().unwrap().keys(), JoinSet::new(), BTreeMap::new());
    loop {
        while reads.len() < READS {
            let (Some(key), client) = (keys.pop(), client.clone()) else { break };
            reads.spawn(async move {
                let answer = match client.get(PLACES[key.0], &key.1).await {
                    Ok((item, info)) => seen(key.0, &item, &info).map(Some),
                    Err(status) if status.code() == Code::NotFound => Ok(None),
                    Err(status) => Err(format!("{status:?}")),
                };
                (key, answer)
            });
        }
        let Some(done) = reads.join_next().await else { return Ok(read) };
        let (key, answer) = done.unwrap();
        let seen = answer.map_err(|why| format!("{key:?}: {why}"))?;
        read.insert(key, seen);
    }
}

/// Everything: to be called after [`settle`].
pub async fn whole(client: &Client, book: &Book) -> Result<(), String> {
    for collection in 0..PLACES.len() {
        let live: BTreeMap<String, Held> = {
            let model = book.model.lock().unwrap();
            let of = |key: Key| model.current(&key).cloned().map(|held| (key.1, held));
            model.keys().into_iter().filter(|key| key.0 == collection).filter_map(of).collect()
        };
        listing(client, collection, &live).await?;
        numbers(client, collection, &live).await?;
        if collection == 0 {
            texts(client, &live).await?;
        }
    }
    Ok(())
}

/// Every row once, in pages; as many as are counted.
async fn listing(client: &Client, collection: usize, live: &BTreeMap<String, Held>) -> Result<(), String> {
    let place = PLACES[collection];
    for order_by in ["", "id desc", "number, updated_at desc"] {
        let request = pb::ListRequest { order_by: order_by.into(), page_size: PAGE, ..place.list() };
        let rows = client.list(request).await.map_err(|why| format!("{why:?}"))?;
        let ids: BTreeSet<&String> = rows.iter().map(|(_, info)| &info.id).collect();
        if ids.len() != rows.len() || !ids.iter().copied().eq(live.keys()) {
            let extra: Vec<_> = ids.iter().filter(|id| !live.contains_key(**id)).collect();
            let missing: Vec<_> = live.keys().filter(|id| !ids.contains(id)).collect();
            return Err(format!(
                "{place:?} by {order_by:?}: {} rows, extra {extra:?}, missing {missing:?}",
                rows.len()
            ));
        }
        for (item, info) in &rows {
            let (found, wanted) = (seen(collection, item, info)?, &live[&info.id]);
            let same = found.note == wanted.note && wanted.bytes.as_ref().is_none_or(|bytes| *bytes == found.bytes);
            if !same {
                return Err(format!("{place:?} by {order_by:?}: {info:?} is listed as {found:?}"));
            }
        }
    }
    let about = client.describe(place).await.map_err(|why| format!("{why:?}"))?;
    match about.record_count == live.len() as i64 {
        true => Ok(()),
        false => Err(format!("{place:?}: {} records counted, {} are there", about.record_count, live.len())),
    }
}

/// The index, or what there is without one.
async fn numbers(client: &Client, collection: usize, live: &BTreeMap<String, Held>) -> Result<(), String> {
    for number in 0..i64::try_from(NUMBERS).unwrap() {
        let filter = Some(as_struct(&json!({ "number": number })));
        let request = pb::ListRequest { filter, order_by: "id".into(), page_size: PAGE, ..PLACES[collection].list() };
        let rows = client.list(request).await.map_err(|why| format!("{why:?}"))?;
        let found: Vec<&String> = rows.iter().map(|(_, info)| &info.id).collect();
        let wanted: Vec<&String> =
            live.iter().filter(|(_, held)| held.note.number == number).map(|(id, _)| id).collect();
        if found != wanted {
            return Err(format!("{:?}: number {number} finds {found:?}, not {wanted:?}", PLACES[collection]));
        }
    }
    Ok(())
}

/// The text index: each token finds its records and no other.
async fn texts(client: &Client, live: &BTreeMap<String, Held>) -> Result<(), String> {
    let mut wanted = BTreeMap::<&str, Vec<&str>>::new();
    for (id, held) in live {
        wanted.entry(&held.note.token).or_default().push(id);
    }
    for (token, ids) in wanted {
        let request = pb::SearchRequest {
            full_text: token.into(),
            limit: 1_000,
            order_by: "id".into(),
            ascending: true,
            ..PLACES[0].search()
        };
        let reply = client.search(request).await.map_err(|why| format!("{why:?}"))?;
        let found: Vec<String> = reply.results.into_iter().map(|one| one.info.unwrap().id).collect();
        if found != ids || reply.total_count != ids.len() as i64 {
            return Err(format!("{token} finds {found:?} of {}, not {ids:?}", reply.total_count));
        }
    }
    let request = pb::SearchRequest { full_text: "lorem".into(), ..PLACES[0].search() };
    let total = client.search(request).await.map_err(|why| format!("{why:?}"))?.total_count;
    let wanted = live.values().filter(|held| held.note.body.contains("lorem ")).count();
    match total == wanted as i64 {
        true => Ok(()),
        false => Err(format!("a common word finds {total} records, {wanted} have it")),
    }
}
