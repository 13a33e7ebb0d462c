//! Filters from a request to what the real store finds, against the naive reading of the messages themselves.

use super::oracle::{Dice, form, matches, rich};
use super::{conditions, indexes, order};
use crate::collections::Item;
use crate::collections::document::index;
use crate::domain::Namespace;
use crate::store::{Change, Expect, Query, Shape, SqliteStore, Store, Write};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use std::time::Duration;
use tokio::time::Instant;

/// Databases, each with messages and indexes of its own. 24: a second.
const ROUNDS: u64 = 24;
/// Messages in each.
const MESSAGES: usize = 40;
/// Queries of each.
const QUERIES: usize = 60;

#[tokio::test]
async fn what_the_store_finds_is_what_the_messages_say() {
    let rich = rich();
    let form = form(&rich);
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let seed = u64::from(std::process::id()) << 32;
    for round in 0..ROUNDS {
        let mut dice = Dice(seed + round);
        let namespace: Namespace = format!("n{round}").parse().unwrap();
        // Whatever can have an index has one in every second round.
        let wanted: Vec<String> = (0..80).map(|_| quoted(&dice.path(&rich).0)).collect();
        let mut shape = Shape { full_text: false, indexes: Vec::new() };
        for path in wanted.iter().filter(|_| round % 2 == 0) {
            let Ok(found) = indexes(&form, std::slice::from_ref(path)) else { continue };
            shape
                .indexes
                .extend(found.paths.into_iter().filter(|path| !shape.indexes.contains(path)).collect::<Vec<_>>());
        }
        shape.indexes.truncate(32);
        assert_eq!(shape.indexes.is_empty(), round % 2 != 0);
        store.make(&namespace, "c", shape).await.unwrap();
        let mut messages = Vec::new();
        let mut changes = Vec::new();
        for n in 0..MESSAGES {
            let bytes = dice.message(&rich, 0).encode_to_vec();
            messages.push(DynamicMessage::decode(rich.clone(), bytes.as_slice()).unwrap());
            let item = Item { type_url: format!("x/{}", rich.full_name()), bytes: bytes.into() };
            changes.push(Change::Put {
                collection: "c".to_owned(),
                id: format!("{n:02}"),
                indexed: index(&form, &item, None).unwrap(),
                type_url: item.type_url,
                bytes: item.bytes,
                labels: None,
                expect: Expect::Absent,
            });
        }
        store.write(&namespace, Write::together(changes)).await.unwrap();
        for number in 0..QUERIES {
            let asked: Vec<_> = (0..1 + number % 3).map(|_| dice.filter(&rich)).collect();
            let filters: Vec<_> = asked.iter().map(|(filter, ..)| filter.clone()).collect();
            let fits = |message: &DynamicMessage| {
                asked.iter().all(|(filter, at, meant)| matches(message, &names(at), filter.operator, meant))
            };
            let wanted: Vec<String> = messages
                .iter()
                .enumerate()
                .filter(|(_, message)| fits(message))
                .map(|(n, _)| format!("{n:02}"))
                .collect();
            let query = Query {
                conditions: conditions(&form, &filters, &|path| path.to_owned()).unwrap(),
                order: order(&form, "id", false).unwrap(),
                limit: MESSAGES,
                total: true,
                ..Query::default()
            };
            let deadline = Instant::now() + Duration::from_secs(60);
            let page = store.query(&namespace, "c", query, deadline).await.unwrap();
            let found: Vec<String> = page.hits.into_iter().map(|hit| hit.record.id).collect();
            assert_eq!(found, wanted, "seed {seed}, round {round}: {filters:?}");
            assert_eq!(page.total, Some(wanted.len() as u64), "seed {seed}, round {round}: {filters:?}");
        }
    }
}

fn quoted(path: &[String]) -> String {
    path.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(".")
}

fn names(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}
