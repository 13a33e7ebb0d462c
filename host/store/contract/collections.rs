//! Collections: made, reshaped, dropped; writes that stand apart or have a name.

use super::super::{Expect, Indexed, Once, Path, Refusal, Shape, Step, Store, StoreError, Write, Written};
use super::{Subject, delete, ids, put, revision, shown, started, write};

/// A path of members.
fn path(names: &str) -> Path {
    Path::new(names.split('.').map(|name| Step::Member(name.to_owned())).collect()).unwrap()
}

fn shape(paths: &[&str]) -> Shape {
    Shape { full_text: false, indexes: paths.iter().map(|names| path(names)).collect() }
}

pub(in crate::store) async fn collections_are_made_and_listed(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    for name in ["é", "C", "a'; DROP TABLE collection; --", "$"] {
        store.make(&system, name, shape(&["a", "b.c"])).await.unwrap();
        assert!(matches!(store.make(&system, name, Shape::default()).await, Err(StoreError::CollectionExists)));
    }
    drop(store);
    let names = subject.open().collections(&system).await.unwrap();
    assert_eq!(names, ["$", "C", "a'; DROP TABLE collection; --", "c", "é"]);
}

pub(in crate::store) async fn a_dropped_collection_is_gone_and_its_name_free(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    store.make(&system, "d", Shape { full_text: true, ..shape(&["a"]) }).await.unwrap();
    for name in ["c", "d"] {
        write(&store, &system, vec![put(name, "a", b"1", Expect::Any)]).await.unwrap();
        assert!(store.get(&system, name, "a").await.unwrap().is_some());
    }
    assert!(store.drop_collection(&system, "d").await.unwrap());
    assert!(!store.drop_collection(&system, "d").await.unwrap());
    assert!(matches!(store.get(&system, "d", "a").await, Err(StoreError::NoCollection)));
    assert!(write(&store, &system, vec![put("d", "a", b"1", Expect::Any)]).await.is_err());
    assert_eq!(ids(&store, &system, "c").await, ["a"]);
    assert_eq!(store.collections(&system).await.unwrap(), ["c"]);
}

pub(in crate::store) async fn a_collection_made_again_is_another(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let first = revision(&write(&store, &system, vec![put("c", "a", b"1", Expect::Any)]).await.unwrap()[0]);
    assert!(store.get(&system, "c", "a").await.unwrap().is_some());
    store.drop_collection(&system, "c").await.unwrap();
    store.make(&system, "c", Shape::default()).await.unwrap();
    assert_eq!(store.get(&system, "c", "a").await.unwrap(), None);
    store.drop_collection(&system, "c").await.unwrap();
    drop(store);
    let store = subject.open();
    store.make(&system, "c", Shape::default()).await.unwrap();
    assert_eq!(store.get(&system, "c", "a").await.unwrap(), None);
    let second = revision(&write(&store, &system, vec![put("c", "a", b"2", Expect::Absent)]).await.unwrap()[0]);
    assert!(second > first, "what was dropped takes no revision with it");
    assert_eq!(store.stats(&system, "c").await.unwrap().records, 1);
}

pub(in crate::store) async fn shapes_have_bounds(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let many: Vec<String> = (0..33).map(|n| format!("f{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(65);
    let steps = |steps: &[Step]| Shape { full_text: false, indexes: vec![Path::new(steps.to_vec()).unwrap()] };
    let member = || Step::Member("a".to_owned());
    let refused = [
        shape(&many),
        shape(&["a", "a"]),
        shape(&[&long]),
        shape(&["a-b"]),
        shape(&["$"]),
        shape(&["a'"]),
        shape(&["é"]),
        steps(&[Step::Spread]),
        steps(&[member(), Step::Elements]),
        steps(&[member(), Step::Values, member()]),
    ];
    for bad in refused {
        assert!(matches!(store.make(&system, "d", bad.clone()).await, Err(StoreError::Invalid(_))), "{bad:?}");
        assert!(matches!(store.reshape(&system, "c", bad.clone()).await, Err(StoreError::Invalid(_))), "{bad:?}");
    }
    store.make(&system, "d", shape(&many[..32])).await.unwrap();
    store.make(&system, "e", steps(&[member(), Step::Spread])).await.unwrap();
}

pub(in crate::store) async fn reshaping_changes_what_is_indexed(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let seen = |n: i32| Indexed { document: format!("{{\"a\":{n},\"b\":{{\"c\":\"x{n}\"}}}}"), ..Indexed::default() };
    let changes = (0..500).map(|n| shown(&format!("{n:03}"), seen(n))).collect();
    write(&store, &system, changes).await.unwrap();
    let plain = store.stats(&system, "c").await.unwrap().bytes;
    store.reshape(&system, "c", shape(&["a", "b.c"])).await.unwrap();
    let indexed = store.stats(&system, "c").await.unwrap().bytes;
    assert!(indexed > plain, "{indexed} bytes with indexes, {plain} without");
    store.reshape(&system, "c", shape(&["b.c", "d"])).await.unwrap();
    write(&store, &system, vec![shown("new", seen(7)), delete("001", Expect::Present)]).await.unwrap();
    store.reshape(&system, "c", Shape::default()).await.unwrap();
    assert!(store.stats(&system, "c").await.unwrap().bytes < indexed);
    assert_eq!(ids(&store, &system, "c").await.len(), 500);
}

pub(in crate::store) async fn changes_apart_stand_alone(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let changes = vec![
        put("c", "a", b"1", Expect::Absent),
        put("c", "a", b"2", Expect::Absent),
        put("x", "a", b"3", Expect::Any),
        delete("b", Expect::Present),
        put("c", "b", b"4", Expect::Any),
        delete("a", Expect::Revision(7)),
    ];
    let done = store.write(&system, Write { changes, apart: true, once: None }).await.unwrap();
    assert!(matches!(
        done.outcomes[..],
        [
            Ok(Written::Put { .. }),
            Err(Refusal::Exists),
            Err(Refusal::NoCollection),
            Err(Refusal::Missing),
            Ok(Written::Put { .. }),
            Err(Refusal::Changed)
        ]
    ));
    assert_eq!(&store.get(&system, "c", "a").await.unwrap().unwrap().bytes[..], b"1");
    assert_eq!(ids(&store, &system, "c").await, ["a", "b"]);
    assert_eq!(store.stats(&system, "c").await.unwrap().records, 2);
}

fn named(key: &str, kind: u8, expect: Expect) -> Write {
    let once = Some(Once { key: key.to_owned(), fingerprint: [kind; 32] });
    Write { changes: vec![put("c", "a", &[kind], expect), delete("b", Expect::Any)], apart: false, once }
}

pub(in crate::store) async fn a_named_write_is_made_once(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let first = store.write(&system, named("k", 1, Expect::Absent)).await.unwrap();
    assert!(!first.replayed);
    write(&store, &system, vec![put("c", "a", b"later", Expect::Present)]).await.unwrap();
    drop(store);
    let store = subject.open();
    let again = store.write(&system, named("k", 1, Expect::Absent)).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.outcomes, first.outcomes);
    assert_eq!(&store.get(&system, "c", "a").await.unwrap().unwrap().bytes[..], b"later");
    // Of those that are asked for at the same time, one is made.
    let twin = || store.write(&system, named("twin", 2, Expect::Any));
    let (one, two, three) = tokio::join!(twin(), twin(), twin());
    let answers = [one.unwrap(), two.unwrap(), three.unwrap()];
    assert_eq!(answers.iter().filter(|done| !done.replayed).count(), 1);
    assert!(answers.iter().all(|done| done.outcomes == answers[0].outcomes));
}

pub(in crate::store) async fn a_name_is_for_one_write(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let refused = store.write(&system, named("k", 1, Expect::Present)).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })));
    store.write(&system, named("k", 2, Expect::Any)).await.unwrap();
    assert!(matches!(store.write(&system, named("k", 1, Expect::Any)).await, Err(StoreError::Reused)));
    assert!(store.write(&system, named("K", 1, Expect::Any)).await.is_ok_and(|done| !done.replayed));
}

pub(in crate::store) async fn stats_count_records_and_bytes(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    store.make(&system, "d", Shape { full_text: true, indexes: vec![] }).await.unwrap();
    let before = store.stats(&system, "c").await.unwrap();
    assert_eq!(before.records, 0);
    for id in ["1", "2", "3"] {
        write(&store, &system, vec![put("c", id, &vec![1; 100_000], Expect::Any)]).await.unwrap();
    }
    let changes = vec![delete("1", Expect::Any), put("c", "2", b"", Expect::Any), delete("1", Expect::Any)];
    write(&store, &system, changes).await.unwrap();
    drop(store);
    let store = subject.open();
    let after = store.stats(&system, "c").await.unwrap();
    assert_eq!(after.records, 2);
    assert!((100_000..400_000).contains(&after.bytes), "{after:?}");
    let other = store.stats(&system, "d").await.unwrap();
    assert!(other.records == 0 && other.bytes < 100_000, "{other:?}");
}
