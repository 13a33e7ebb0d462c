//! What every [`Store`] promises, run for each implementation by [`contract!`].

use super::{
    BYTES_MAX, CHANGES_MAX, COLLECTION_MAX, Change, Expect, ID_MAX, SCAN_BYTES, Store, StoreError, TYPE_URL_MAX,
    WRITE_MAX, Written,
};
use crate::domain::Namespace;
use bytes::Bytes;
use std::any::Any;
use std::sync::Arc;

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
            records_come_back, absence_is_no_error, scans_page_in_order_of_bytes, large_pages_end_early,
            expectations_hold, a_write_is_all_or_nothing, later_changes_see_earlier_ones, revisions_never_come_back,
            one_failing_write_leaves_its_neighbours, reopening_keeps_everything, twins_are_different_records,
            namespaces_and_collections_are_apart, concurrent_writers_lose_no_update, a_full_queue_is_busy,
            a_write_whose_caller_left_is_made, bounds_hold,
        );
    };
}
pub(super) use contract;

pub(super) fn namespace(name: &str) -> Namespace {
    name.parse().unwrap()
}

pub(super) fn put(collection: &str, id: &str, bytes: &[u8], expect: Expect) -> Change {
    Change::Put {
        collection: collection.to_owned(),
        id: id.to_owned(),
        type_url: "type.example/T".to_owned(),
        bytes: Bytes::copy_from_slice(bytes),
        expect,
    }
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

pub(super) async fn records_come_back(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    let made = store.write(&system, vec![put("c", "a", b"one", Expect::Any)]).await.unwrap();
    let first = store.get(&system, "c", "a").await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), first.type_url.as_str(), &first.bytes[..]), ("a", "type.example/T", &b"one"[..]));
    let stamp =
        |r: &super::Record| Written::Put { revision: r.revision, created_at: r.created_at, updated_at: r.updated_at };
    assert_eq!(made, [stamp(&first)]);
    assert!(first.created_at > 1_500_000_000_000_000 && first.updated_at == first.created_at);
    let again = store.write(&system, vec![put("c", "a", b"", Expect::Any)]).await.unwrap();
    let second = store.get(&system, "c", "a").await.unwrap().unwrap();
    assert_eq!(again, [stamp(&second)]);
    assert!(second.revision > first.revision && second.created_at == first.created_at && second.bytes.is_empty());
    assert_eq!(store.write(&system, vec![delete("a", Expect::Any)]).await.unwrap(), [Written::Deleted]);
    assert_eq!(store.get(&system, "c", "a").await.unwrap(), None);
}

pub(super) async fn absence_is_no_error(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    assert_eq!(store.get(&system, "c", "a").await.unwrap(), None);
    assert!(store.scan(&system, "c", None, 10).await.unwrap().is_empty());
    assert_eq!(store.write(&system, vec![delete("a", Expect::Any)]).await.unwrap(), [Written::Absent]);
    assert_eq!(store.write(&system, vec![delete("a", Expect::Absent)]).await.unwrap(), [Written::Absent]);
}

pub(super) async fn scans_page_in_order_of_bytes(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    let mut wanted = vec!["B", "a", "a b", "aa", "b", "10", "9", "é", "z", "\u{10000}", "\u{ffff}", "\u{1}"];
    store.write(&system, wanted.iter().map(|id| put("c", id, b"", Expect::Absent)).collect()).await.unwrap();
    store.write(&system, vec![put("d", "other", b"", Expect::Absent)]).await.unwrap();
    wanted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(ids(&store, &system, "c").await, wanted);
    let after = store.scan(&system, "c", Some("aaa"), 1).await.unwrap();
    assert_eq!(after[0].id, "b", "`after` need not be there");
    assert!(store.scan(&system, "c", None, 0).await.unwrap().is_empty());
    assert_eq!(store.scan(&system, "c", None, usize::MAX).await.unwrap().len(), wanted.len());
    assert!(store.scan(&system, "c", Some("\u{10ffff}"), 9).await.unwrap().is_empty());
}

pub(super) async fn large_pages_end_early(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    let large = vec![7; BYTES_MAX];
    for id in ["1", "2", "3"] {
        store.write(&system, vec![put("c", id, &large, Expect::Any)]).await.unwrap();
    }
    assert_eq!(store.scan(&system, "c", None, 9).await.unwrap().len(), SCAN_BYTES.div_ceil(BYTES_MAX));
    assert_eq!(ids(&store, &system, "c").await, ["1", "2", "3"]);
}

pub(super) async fn expectations_hold(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    let made = store.write(&system, vec![put("c", "a", b"1", Expect::Absent)]).await.unwrap();
    let now = revision(&made[0]);
    let conflicts = [
        put("c", "a", b"2", Expect::Absent),
        put("c", "a", b"2", Expect::Revision(now + 1)),
        put("c", "b", b"2", Expect::Revision(now)),
        put("c", "a", b"2", Expect::Revision(u64::MAX)),
        delete("a", Expect::Absent),
        delete("a", Expect::Revision(now + 1)),
        delete("b", Expect::Revision(now)),
    ];
    for change in conflicts {
        let refused = store.write(&system, vec![change.clone()]).await;
        let (Change::Put { id: wanted, .. } | Change::Delete { id: wanted, .. }) = &change;
        let named =
            matches!(&refused, Err(StoreError::Conflict { collection, id }) if collection == "c" && id == wanted);
        assert!(named, "{change:?}: {refused:?}");
    }
    assert_eq!(&store.get(&system, "c", "a").await.unwrap().unwrap().bytes[..], b"1");
    let next = store.write(&system, vec![put("c", "a", b"2", Expect::Revision(now))]).await.unwrap();
    store.write(&system, vec![delete("a", Expect::Revision(revision(&next[0])))]).await.unwrap();
}

pub(super) async fn a_write_is_all_or_nothing(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    store.write(&system, vec![put("c", "old", b"1", Expect::Any)]).await.unwrap();
    let changes = vec![
        put("c", "new", b"2", Expect::Any),
        put("c", "old", b"2", Expect::Any),
        delete("old", Expect::Any),
        put("c", "x", b"2", Expect::Revision(77)),
    ];
    assert!(matches!(store.write(&system, changes).await, Err(StoreError::Conflict { id, .. }) if id == "x"));
    assert_eq!(ids(&store, &system, "c").await, ["old"]);
    assert_eq!(&store.get(&system, "c", "old").await.unwrap().unwrap().bytes[..], b"1");
}

pub(super) async fn later_changes_see_earlier_ones(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    let changes =
        vec![put("c", "a", b"1", Expect::Absent), delete("a", Expect::Any), put("c", "a", b"2", Expect::Absent)];
    let written = store.write(&system, changes).await.unwrap();
    assert!(matches!(written[..], [Written::Put { .. }, Written::Deleted, Written::Put { .. }]));
    let twice = vec![put("c", "b", b"1", Expect::Absent), put("c", "b", b"2", Expect::Absent)];
    assert!(matches!(store.write(&system, twice).await, Err(StoreError::Conflict { .. })));
}

pub(super) async fn revisions_never_come_back(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    let first = revision(&store.write(&system, vec![put("c", "a", b"1", Expect::Any)]).await.unwrap()[0]);
    store.write(&system, vec![delete("a", Expect::Any)]).await.unwrap();
    drop(store);
    let store = subject.open();
    let second = revision(&store.write(&system, vec![put("c", "a", b"2", Expect::Any)]).await.unwrap()[0]);
    assert!(first >= 1 && second > first);
    let stale = store.write(&system, vec![put("c", "a", b"3", Expect::Revision(first))]).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "the record that was deleted is not this one");
}

pub(super) async fn one_failing_write_leaves_its_neighbours(subject: &impl Subject) {
    let (store, system) = (Arc::new(subject.open()), namespace("system"));
    store.write(&system, vec![put("c", "there", b"", Expect::Any)]).await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    let stalled = subject.stall(&system);
    for number in 0..60 {
        let (store, system) = (store.clone(), system.clone());
        let last =
            if number % 7 == 3 { put("c", "there", b"", Expect::Absent) } else { delete("nothing", Expect::Any) };
        let changes = vec![put("c", &format!("n{number:02}"), b"x", Expect::Absent), last];
        writes.spawn(async move { (number, store.write(&system, changes).await) });
    }
    tokio::task::yield_now().await;
    drop(stalled);
    while let Some(done) = writes.join_next().await {
        let (number, answer) = done.unwrap();
        assert_eq!(answer.is_err(), number % 7 == 3, "{number}: {answer:?}");
        assert!(matches!(answer, Ok(_) | Err(StoreError::Conflict { .. })));
    }
    let mut wanted: Vec<_> = (0..60).filter(|n| n % 7 != 3).map(|n| format!("n{n:02}")).collect();
    wanted.push("there".to_owned());
    assert_eq!(ids(&*store, &system, "c").await, wanted);
}

pub(super) async fn reopening_keeps_everything(subject: &impl Subject) {
    let system = namespace("system");
    let store = subject.open();
    for number in 0..20_u8 {
        store.write(&system, vec![put("c", &format!("{number:02}"), &[number], Expect::Absent)]).await.unwrap();
    }
    let before = store.scan(&system, "c", None, 100).await.unwrap();
    drop(store);
    let store = subject.open();
    assert_eq!(before.len(), 20);
    assert_eq!(store.scan(&system, "c", None, 100).await.unwrap(), before);
}

pub(super) async fn twins_are_different_records(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    // Case; composed and decomposed; a trailing space; a number and its text; a wide and a narrow letter.
    let twins = ["ID", "Id", "id", "id ", "é", "e\u{301}", "1", "1.0", "01", "Ａ", "A", "%", "_", "'", "\"", "a\nb"];
    store.write(&system, twins.iter().map(|id| put("c", id, id.as_bytes(), Expect::Absent)).collect()).await.unwrap();
    for id in twins {
        let record = store.get(&system, "c", id).await.unwrap().unwrap();
        assert_eq!((record.id.as_str(), &record.bytes[..]), (id, id.as_bytes()));
    }
    assert_eq!(store.get(&system, "c", "iD").await.unwrap(), None);
}

pub(super) async fn namespaces_and_collections_are_apart(subject: &impl Subject) {
    let store = subject.open();
    let names = ["acme", "Acme", "ACME", "a-c.me", &"n".repeat(63)];
    for name in names {
        for collection in ["c", "C"] {
            let content = format!("{name}/{collection}");
            let change = put(collection, "a", content.as_bytes(), Expect::Absent);
            store.write(&namespace(name), vec![change]).await.unwrap();
        }
    }
    for name in names {
        let record = store.get(&namespace(name), "C", "a").await.unwrap().unwrap();
        assert_eq!(&record.bytes[..], format!("{name}/C").as_bytes());
        assert_eq!(store.get(&namespace(name), "c", "A").await.unwrap(), None);
    }
}

pub(super) async fn concurrent_writers_lose_no_update(subject: &impl Subject) {
    let (store, system) = (Arc::new(subject.open()), namespace("system"));
    store.write(&system, vec![put("c", "n", &0_u32.to_be_bytes(), Expect::Absent)]).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, system) = (store.clone(), system.clone());
        writers.spawn(async move {
            let mut made = 0;
            for _ in 0..25 {
                let old = store.get(&system, "c", "n").await.unwrap().unwrap();
                let next = u32::from_be_bytes(old.bytes[..].try_into().unwrap()) + 1;
                let change = put("c", "n", &next.to_be_bytes(), Expect::Revision(old.revision));
                match store.write(&system, vec![change]).await {
                    Ok(_) => made += 1,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            made
        });
    }
    let made: u32 = writers.join_all().await.into_iter().sum();
    let last = store.get(&system, "c", "n").await.unwrap().unwrap();
    assert!(made >= 25, "in each round one of them is first");
    assert_eq!(last.bytes[..], made.to_be_bytes());
}

pub(super) async fn a_full_queue_is_busy(subject: &impl Subject) {
    let (store, system) = (Arc::new(subject.open_narrow()), namespace("system"));
    store.write(&system, vec![put("c", "first", b"", Expect::Any)]).await.unwrap();
    let stalled = subject.stall(&system);
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..3 {
        let (store, system) = (store.clone(), system.clone());
        let change = put("c", &format!("n{number}"), b"", Expect::Any);
        writes.spawn(async move { store.write(&system, vec![change]).await });
    }
    // One is being made, one waits: of three, the first to be answered is one that found no place.
    let refused = writes.join_next().await.unwrap().unwrap();
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    assert!(store.get(&system, "c", "first").await.unwrap().is_some(), "reads go on");
    drop(stalled);
    let answers = writes.join_all().await;
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(made >= 1 && answers.iter().all(|answer| matches!(answer, Ok(_) | Err(StoreError::Busy))));
    assert_eq!(ids(&*store, &system, "c").await.len(), made + 1, "Busy changed nothing");
    store.write(&system, vec![put("c", "later", b"", Expect::Any)]).await.unwrap();
}

pub(super) async fn a_write_whose_caller_left_is_made(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    store.write(&system, vec![put("c", "a", b"", Expect::Any)]).await.unwrap();
    let stalled = subject.stall(&system);
    let mut left = store.write(&system, vec![put("c", "b", b"", Expect::Any)]);
    tokio::select! {
        biased;
        _ = &mut left => panic!("stalled"),
        () = std::future::ready(()) => {}
    }
    drop(left);
    drop(stalled);
    drop(store);
    assert_eq!(ids(&subject.open(), &system, "c").await, ["a", "b"], "closing waits for it");
}

pub(super) async fn bounds_hold(subject: &impl Subject) {
    let (store, system) = (subject.open(), namespace("system"));
    let text = |length: usize| "x".repeat(length);
    let full = Change::Put {
        collection: text(COLLECTION_MAX),
        id: text(ID_MAX),
        type_url: text(TYPE_URL_MAX),
        bytes: Bytes::from(vec![1; BYTES_MAX]),
        expect: Expect::Any,
    };
    store.write(&system, vec![full]).await.unwrap();
    let back = store.get(&system, &text(COLLECTION_MAX), &text(ID_MAX)).await.unwrap().unwrap();
    assert_eq!(back.bytes.len(), BYTES_MAX);
    store.write(&system, (0..CHANGES_MAX).map(|n| put("c", &n.to_string(), b"", Expect::Any)).collect()).await.unwrap();

    let mut typed = put("c", "a", b"", Expect::Any);
    if let Change::Put { type_url, .. } = &mut typed {
        *type_url = text(TYPE_URL_MAX + 1);
    }
    let quarter = vec![1; WRITE_MAX / 4];
    let refused = [
        vec![],
        vec![put("", "a", b"", Expect::Any)],
        vec![put("c", "", b"", Expect::Any)],
        vec![put("c\0", "a", b"", Expect::Any)],
        vec![put("c", "a\0b", b"", Expect::Any)],
        vec![put(&text(COLLECTION_MAX + 1), "a", b"", Expect::Any)],
        vec![put("c", &text(ID_MAX + 1), b"", Expect::Any)],
        vec![put("c", "a", &vec![1; BYTES_MAX + 1], Expect::Any)],
        vec![typed],
        vec![delete(&text(ID_MAX + 1), Expect::Any)],
        vec![delete("a", Expect::Any); CHANGES_MAX + 1],
        vec![put("c", "a", &quarter, Expect::Any); 4],
    ];
    for (number, changes) in refused.into_iter().enumerate() {
        let answer = store.write(&system, changes).await;
        assert!(matches!(answer, Err(StoreError::Invalid(_))), "{number}: {answer:?}");
    }
    assert!(matches!(store.get(&system, "c", "").await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.get(&system, "c", "a\0").await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.scan(&system, "", None, 1).await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.scan(&system, "c", Some(&text(ID_MAX + 1)), 1).await, Err(StoreError::Invalid(_))));
}
