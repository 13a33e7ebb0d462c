//! What every [`Store`] promises, run for each implementation by [`contract!`].

mod collections;
mod queries;
mod records;

use super::{Change, Done, Expect, Indexed, Shape, Store, StoreError, Write, Written};
use crate::domain::Namespace;
use bytes::Bytes;
pub(super) use collections::*;
pub(super) use queries::*;
pub(super) use records::*;
use std::any::Any;

/// A place where stores of one kind keep their records.
pub(super) trait Subject {
    type Store: Store;

    /// Opens the store, again if it was open before.
    fn open(&self) -> Self::Store;

    /// Opens it so that one write may wait behind the one that is being made.
    fn open_narrow(&self) -> Self::Store;

    /// Keeps writes to a namespace, which exists, from being made until the guard is dropped.
    fn stall(&self, namespace: &Namespace) -> Box<dyn Any>;
}

/// Makes a test of each promise for what `$subject` returns.
macro_rules! contract {
    ($subject:expr; $($promise:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $promise() {
                $crate::store::contract::$promise(&$subject).await;
            }
        )*
    };
    ($subject:expr) => {
        contract!($subject;
            records_come_back, absence_is_no_error, nothing_is_where_no_collection_is, labels_stay_until_others_come,
            moments_rise_from_version_to_version, scans_page_in_order_of_bytes, large_pages_end_early,
            expectations_hold, a_write_is_all_or_nothing, later_changes_see_earlier_ones, revisions_never_come_back,
            one_failing_write_leaves_its_neighbours, reopening_keeps_everything, twins_are_different_records,
            namespaces_and_collections_are_apart, concurrent_writers_lose_no_update, a_full_queue_is_busy,
            a_write_whose_caller_left_is_made, bounds_hold,
            collections_are_made_and_listed, a_dropped_collection_is_gone_and_its_name_free,
            a_collection_made_again_is_another, shapes_have_bounds, reshaping_changes_what_is_indexed,
            changes_apart_stand_alone, a_named_write_is_made_once, a_name_is_for_one_write,
            stats_count_records_and_bytes,
            filters_find_what_matches, orders_hold_and_pages_meet, texts_are_found, labels_are_found,
            the_nearest_come_first, indexes_change_plans_and_not_answers, what_is_indexed_again_is_found_anew,
            queries_end_at_their_deadline,
        );
    };
}
pub(super) use contract;

pub(super) fn namespace(name: &str) -> Namespace {
    name.parse().unwrap()
}

/// A store with an empty collection "c" in `system`.
async fn started<S: Subject>(subject: &S) -> (S::Store, Namespace) {
    let (store, system) = (subject.open(), namespace("system"));
    store.make(&system, "c", Shape::default()).await.unwrap();
    (store, system)
}

/// Makes the changes together.
pub(super) async fn write(
    store: &impl Store,
    namespace: &Namespace,
    changes: Vec<Change>,
) -> Result<Vec<Written>, StoreError> {
    let Done { outcomes, replayed } = store.write(namespace, Write::together(changes)).await?;
    assert!(!replayed);
    Ok(outcomes.into_iter().map(Result::unwrap).collect())
}

pub(super) fn put(collection: &str, id: &str, bytes: &[u8], expect: Expect) -> Change {
    Change::Put {
        collection: collection.to_owned(),
        id: id.to_owned(),
        type_url: "type.example/T".to_owned(),
        bytes: Bytes::copy_from_slice(bytes),
        labels: None,
        indexed: None,
        expect,
    }
}

/// A record of `c` that is named "a" and has this document.
fn document(document: &str, vector: Option<Vec<f32>>) -> Change {
    shown("a", Indexed { document: document.to_owned(), text: String::new(), vector })
}

/// A record of `c` of which queries see this.
fn shown(id: &str, seen: Indexed) -> Change {
    let mut change = put("c", id, b"", Expect::Any);
    if let Change::Put { indexed, .. } = &mut change {
        *indexed = Some(Box::new(seen));
    }
    change
}

fn index(collection: &str, id: &str, revision: u64, indexed: Option<Indexed>) -> Change {
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Change::Index { collection, id, revision, indexed: indexed.map(Box::new) }
}

fn delete(id: &str, expect: Expect) -> Change {
    Change::Delete { collection: "c".to_owned(), id: id.to_owned(), expect }
}

fn revision(written: &Written) -> u64 {
    match written {
        Written::Put { revision, .. } => *revision,
        other => panic!("not put: {other:?}"),
    }
}

async fn ids(store: &impl Store, namespace: &Namespace, collection: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = store.scan(namespace, collection, after.as_deref(), 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { return all };
        after = Some(last.id.clone());
        all.extend(page.into_iter().map(|record| record.id));
    }
}
