//! Records: written, read, refused.

use super::super::{
    BYTES_MAX, CHANGES_MAX, COLLECTION_MAX, Change, DIMENSIONS_MAX, Expect, ID_MAX, Labels, ONCE_KEY_MAX, Once, Record,
    Refusal, SCAN_BYTES, Shape, Store, StoreError, TYPE_URL_MAX, WRITE_MAX, Write, Written,
};
use super::{Subject, delete, document, ids, index, namespace, put, revision, started, write};
use bytes::Bytes;
use std::sync::Arc;

pub(in crate::store) async fn records_come_back(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let made = write(&store, &system, vec![put("c", "a", b"one", Expect::Any)]).await.unwrap();
    let first = store.get(&system, "c", "a").await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), first.type_url.as_str(), &first.bytes[..]), ("a", "type.example/T", &b"one"[..]));
    let stamp = |r: &Record| Written::Put {
        id: r.id.clone(),
        revision: r.revision,
        created_at: r.created_at,
        updated_at: r.updated_at,
        labels: r.labels.clone(),
    };
    assert_eq!(made, [stamp(&first)]);
    assert!(first.created_at > 1_500_000_000_000_000 && first.updated_at == first.created_at);
    let again = write(&store, &system, vec![put("c", "a", b"", Expect::Any)]).await.unwrap();
    let second = store.get(&system, "c", "a").await.unwrap().unwrap();
    assert_eq!(again, [stamp(&second)]);
    assert!(second.revision > first.revision && second.created_at == first.created_at && second.bytes.is_empty());
    assert!(second.updated_at > second.created_at && u64::try_from(second.updated_at) == Ok(second.revision));
    assert_eq!(write(&store, &system, vec![delete("a", Expect::Any)]).await.unwrap(), [Written::Deleted]);
    assert_eq!(store.get(&system, "c", "a").await.unwrap(), None);
}

pub(in crate::store) async fn absence_is_no_error(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    assert_eq!(store.get(&system, "c", "a").await.unwrap(), None);
    assert!(store.scan(&system, "c", None, 10).await.unwrap().is_empty());
    assert_eq!(write(&store, &system, vec![delete("a", Expect::Any)]).await.unwrap(), [Written::Absent]);
    assert_eq!(write(&store, &system, vec![delete("a", Expect::Absent)]).await.unwrap(), [Written::Absent]);
}

pub(in crate::store) async fn nothing_is_where_no_collection_is(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    for namespace in [system, namespace("nobodys")] {
        assert!(matches!(store.get(&namespace, "x", "a").await, Err(StoreError::NoCollection)));
        assert!(matches!(store.scan(&namespace, "x", None, 10).await, Err(StoreError::NoCollection)));
        assert!(matches!(store.stats(&namespace, "x").await, Err(StoreError::NoCollection)));
        assert!(matches!(store.reshape(&namespace, "x", Shape::default()).await, Err(StoreError::NoCollection)));
        assert!(!store.drop_collection(&namespace, "x").await.unwrap());
        for change in [put("x", "a", b"", Expect::Any), index("x", "a", 1, None)] {
            let why = write(&store, &namespace, vec![change.clone()]).await.unwrap_err();
            assert!(matches!(why, StoreError::Refused { index: 0, why: Refusal::NoCollection, .. }), "{why:?}");
            let apart = Write { changes: vec![change], apart: true, once: None };
            let done = store.write(&namespace, apart).await.unwrap();
            assert_eq!(done.outcomes, [Err(Refusal::NoCollection)]);
        }
    }
    assert!(store.collections(&namespace("nobodys")).await.unwrap().is_empty());
}

pub(in crate::store) async fn labels_stay_until_others_come(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let hostile: Labels = labels(&[("", ""), ("a\"b", "'"), ("$.x", "\u{1}\\"), ("ключ", "\0")]);
    let labelled = |labels: Option<&Labels>| {
        let mut change = put("c", "a", b"", Expect::Any);
        let Change::Put { labels: slot, .. } = &mut change else { panic!() };
        *slot = labels.cloned();
        change
    };
    for (given, wanted) in [(Some(&hostile), &hostile), (None, &hostile), (Some(&Labels::new()), &Labels::new())] {
        let made = write(&store, &system, vec![labelled(given)]).await.unwrap();
        assert!(matches!(&made[..], [Written::Put { labels, .. }] if labels == wanted), "{made:?}");
        assert_eq!(&store.get(&system, "c", "a").await.unwrap().unwrap().labels, wanted);
    }
    // In one write: what the first leaves, the second finds; what was deleted has none.
    let one = labels(&[("k", "v")]);
    let made = write(&store, &system, vec![labelled(Some(&one)), labelled(None)]).await.unwrap();
    assert!(matches!(&made[..], [_, Written::Put { labels, .. }] if *labels == one));
    let made = write(&store, &system, vec![delete("a", Expect::Any), labelled(None)]).await.unwrap();
    assert!(matches!(&made[..], [_, Written::Put { labels, .. }] if labels.is_empty()));
}

pub(in crate::store) async fn moments_rise_from_version_to_version(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    store.make(&system, "d", Shape::default()).await.unwrap();
    let mut last = 0;
    for round in 0..5 {
        let changes = (0..20).map(|n| put(if n % 2 == 0 { "c" } else { "d" }, &format!("{n}"), b"", Expect::Any));
        for written in write(&store, &system, changes.collect()).await.unwrap() {
            assert!(revision(&written) > last, "round {round}");
            last = revision(&written);
        }
    }
}

pub(in crate::store) async fn scans_page_in_order_of_bytes(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let mut wanted = vec!["B", "a", "a b", "aa", "b", "10", "9", "é", "z", "\u{10000}", "\u{ffff}", "\u{1}"];
    write(&store, &system, wanted.iter().map(|id| put("c", id, b"", Expect::Absent)).collect()).await.unwrap();
    store.make(&system, "d", Shape::default()).await.unwrap();
    write(&store, &system, vec![put("d", "other", b"", Expect::Absent)]).await.unwrap();
    wanted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(ids(&store, &system, "c").await, wanted);
    let after = store.scan(&system, "c", Some("aaa"), 1).await.unwrap();
    assert_eq!(after[0].id, "b", "`after` need not be there");
    assert!(store.scan(&system, "c", None, 0).await.unwrap().is_empty());
    assert_eq!(store.scan(&system, "c", None, usize::MAX).await.unwrap().len(), wanted.len());
    assert!(store.scan(&system, "c", Some("\u{10ffff}"), 9).await.unwrap().is_empty());
}

pub(in crate::store) async fn large_pages_end_early(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let large = vec![7; BYTES_MAX];
    for id in ["1", "2", "3"] {
        write(&store, &system, vec![put("c", id, &large, Expect::Any)]).await.unwrap();
    }
    assert_eq!(store.scan(&system, "c", None, 9).await.unwrap().len(), SCAN_BYTES.div_ceil(BYTES_MAX));
    assert_eq!(ids(&store, &system, "c").await, ["1", "2", "3"]);
}

pub(in crate::store) async fn expectations_hold(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let made = write(&store, &system, vec![put("c", "a", b"1", Expect::Absent)]).await.unwrap();
    let now = revision(&made[0]);
    let refused = [
        (put("c", "a", b"2", Expect::Absent), Refusal::Exists),
        (put("c", "a", b"2", Expect::Revision(now + 1)), Refusal::Changed),
        (put("c", "a", b"2", Expect::Revision(u64::MAX)), Refusal::Changed),
        (put("c", "b", b"2", Expect::Revision(now)), Refusal::Missing),
        (put("c", "b", b"2", Expect::Present), Refusal::Missing),
        (delete("a", Expect::Absent), Refusal::Exists),
        (delete("a", Expect::Revision(now + 1)), Refusal::Changed),
        (delete("b", Expect::Revision(now)), Refusal::Missing),
        (delete("b", Expect::Present), Refusal::Missing),
    ];
    for (change, wanted) in refused {
        let answer = write(&store, &system, vec![delete("nothing", Expect::Any), change.clone()]).await;
        let Err(StoreError::Refused { index: 1, collection, id, why }) = answer else {
            panic!("{change:?}: {answer:?}");
        };
        assert_eq!((collection.as_str(), id.as_str(), why), (change.name().0, change.name().1, wanted), "{change:?}");
    }
    assert_eq!(&store.get(&system, "c", "a").await.unwrap().unwrap().bytes[..], b"1");
    let next = write(&store, &system, vec![put("c", "a", b"2", Expect::Revision(now))]).await.unwrap();
    write(&store, &system, vec![put("c", "a", b"3", Expect::Present)]).await.unwrap();
    assert!(write(&store, &system, vec![delete("a", Expect::Revision(revision(&next[0])))]).await.is_err());
    write(&store, &system, vec![delete("a", Expect::Present)]).await.unwrap();
}

pub(in crate::store) async fn a_write_is_all_or_nothing(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    write(&store, &system, vec![put("c", "old", b"1", Expect::Any)]).await.unwrap();
    let changes = vec![
        put("c", "new", b"2", Expect::Any),
        put("c", "old", b"2", Expect::Any),
        delete("old", Expect::Any),
        put("c", "x", b"2", Expect::Revision(77)),
    ];
    assert!(
        matches!(write(&store, &system, changes).await, Err(StoreError::Refused { index: 3, id, .. }) if id == "x")
    );
    assert_eq!(ids(&store, &system, "c").await, ["old"]);
    assert_eq!(&store.get(&system, "c", "old").await.unwrap().unwrap().bytes[..], b"1");
}

pub(in crate::store) async fn later_changes_see_earlier_ones(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let changes =
        vec![put("c", "a", b"1", Expect::Absent), delete("a", Expect::Any), put("c", "a", b"2", Expect::Absent)];
    let written = write(&store, &system, changes).await.unwrap();
    assert!(matches!(written[..], [Written::Put { .. }, Written::Deleted, Written::Put { .. }]));
    let twice = vec![put("c", "b", b"1", Expect::Absent), put("c", "b", b"2", Expect::Absent)];
    assert!(matches!(write(&store, &system, twice).await, Err(StoreError::Refused { .. })));
}

pub(in crate::store) async fn revisions_never_come_back(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let first = revision(&write(&store, &system, vec![put("c", "a", b"1", Expect::Any)]).await.unwrap()[0]);
    write(&store, &system, vec![delete("a", Expect::Any)]).await.unwrap();
    drop(store);
    let store = subject.open();
    let second = revision(&write(&store, &system, vec![put("c", "a", b"2", Expect::Any)]).await.unwrap()[0]);
    assert!(first >= 1 && second > first);
    let stale = write(&store, &system, vec![put("c", "a", b"3", Expect::Revision(first))]).await;
    assert!(matches!(stale, Err(StoreError::Refused { .. })), "the record that was deleted is not this one");
}

pub(in crate::store) async fn one_failing_write_leaves_its_neighbours(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let store = Arc::new(store);
    write(&*store, &system, vec![put("c", "there", b"", Expect::Any)]).await.unwrap();
    let mut writes = tokio::task::JoinSet::new();
    let stalled = subject.stall(&system);
    for number in 0..60 {
        let (store, system) = (store.clone(), system.clone());
        let last =
            if number % 7 == 3 { put("c", "there", b"", Expect::Absent) } else { delete("nothing", Expect::Any) };
        let changes = vec![put("c", &format!("n{number:02}"), b"x", Expect::Absent), last];
        writes.spawn(async move { (number, write(&*store, &system, changes).await) });
    }
    tokio::task::yield_now().await;
    drop(stalled);
    while let Some(done) = writes.join_next().await {
        let (number, answer) = done.unwrap();
        assert_eq!(answer.is_err(), number % 7 == 3, "{number}: {answer:?}");
        assert!(matches!(answer, Ok(_) | Err(StoreError::Refused { .. })));
    }
    let mut wanted: Vec<_> = (0..60).filter(|n| n % 7 != 3).map(|n| format!("n{n:02}")).collect();
    wanted.push("there".to_owned());
    assert_eq!(ids(&*store, &system, "c").await, wanted);
}

pub(in crate::store) async fn reopening_keeps_everything(subject: &impl Subject) {
    let system = namespace("system");
    let store = subject.open();
    store.make(&system, "c", Shape::default()).await.unwrap();
    for number in 0..20_u8 {
        write(&store, &system, vec![put("c", &format!("{number:02}"), &[number], Expect::Absent)]).await.unwrap();
    }
    let before = store.scan(&system, "c", None, 100).await.unwrap();
    drop(store);
    let store = subject.open();
    assert_eq!(before.len(), 20);
    assert_eq!(store.scan(&system, "c", None, 100).await.unwrap(), before);
}

pub(in crate::store) async fn twins_are_different_records(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    // Case; composed and decomposed; a trailing space; a number and its text; a wide and a narrow letter.
    let twins = ["ID", "Id", "id", "id ", "é", "e\u{301}", "1", "1.0", "01", "Ａ", "A", "%", "_", "'", "\"", "a\nb"];
    write(&store, &system, twins.iter().map(|id| put("c", id, id.as_bytes(), Expect::Absent)).collect()).await.unwrap();
    for id in twins {
        let record = store.get(&system, "c", id).await.unwrap().unwrap();
        assert_eq!((record.id.as_str(), &record.bytes[..]), (id, id.as_bytes()));
    }
    assert_eq!(store.get(&system, "c", "iD").await.unwrap(), None);
}

pub(in crate::store) async fn namespaces_and_collections_are_apart(subject: &impl Subject) {
    let store = subject.open();
    let names = ["acme", "Acme", "ACME", "a-c.me", &"n".repeat(63)];
    for name in names {
        for collection in ["c", "C"] {
            store.make(&namespace(name), collection, Shape::default()).await.unwrap();
            let content = format!("{name}/{collection}");
            let change = put(collection, "a", content.as_bytes(), Expect::Absent);
            write(&store, &namespace(name), vec![change]).await.unwrap();
        }
    }
    for name in names {
        let record = store.get(&namespace(name), "C", "a").await.unwrap().unwrap();
        assert_eq!(&record.bytes[..], format!("{name}/C").as_bytes());
        assert_eq!(store.get(&namespace(name), "c", "A").await.unwrap(), None);
    }
}

pub(in crate::store) async fn concurrent_writers_lose_no_update(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let store = Arc::new(store);
    write(&*store, &system, vec![put("c", "n", &0_u32.to_be_bytes(), Expect::Absent)]).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, system) = (store.clone(), system.clone());
        writers.spawn(async move {
            let mut made = 0;
            for _ in 0..25 {
                let old = store.get(&system, "c", "n").await.unwrap().unwrap();
                let next = u32::from_be_bytes(old.bytes[..].try_into().unwrap()) + 1;
                let change = put("c", "n", &next.to_be_bytes(), Expect::Revision(old.revision));
                match write(&*store, &system, vec![change]).await {
                    Ok(_) => made += 1,
                    Err(StoreError::Refused { .. }) => {}
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

pub(in crate::store) async fn a_full_queue_is_busy(subject: &impl Subject) {
    let (store, system) = (Arc::new(subject.open_narrow()), namespace("system"));
    store.make(&system, "c", Shape::default()).await.unwrap();
    write(&*store, &system, vec![put("c", "first", b"", Expect::Any)]).await.unwrap();
    let stalled = subject.stall(&system);
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..3 {
        let (store, system) = (store.clone(), system.clone());
        let change = put("c", &format!("n{number}"), b"", Expect::Any);
        writes.spawn(async move { write(&*store, &system, vec![change]).await });
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
    write(&*store, &system, vec![put("c", "later", b"", Expect::Any)]).await.unwrap();
}

pub(in crate::store) async fn a_write_whose_caller_left_is_made(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    write(&store, &system, vec![put("c", "a", b"", Expect::Any)]).await.unwrap();
    let stalled = subject.stall(&system);
    let mut left = store.write(&system, Write::together(vec![put("c", "b", b"", Expect::Any)]));
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

pub(in crate::store) async fn bounds_hold(subject: &impl Subject) {
    let (store, system) = started(subject).await;
    let text = |length: usize| "x".repeat(length);
    store.make(&system, &text(COLLECTION_MAX), Shape::default()).await.unwrap();
    let full = Change::Put {
        collection: text(COLLECTION_MAX),
        id: text(ID_MAX),
        type_url: text(TYPE_URL_MAX),
        bytes: Bytes::from(vec![1; BYTES_MAX]),
        labels: None,
        indexed: None,
        expect: Expect::Any,
    };
    write(&store, &system, vec![full]).await.unwrap();
    let back = store.get(&system, &text(COLLECTION_MAX), &text(ID_MAX)).await.unwrap().unwrap();
    assert_eq!(back.bytes.len(), BYTES_MAX);
    write(&store, &system, (0..CHANGES_MAX).map(|n| put("c", &n.to_string(), b"", Expect::Any)).collect())
        .await
        .unwrap();

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
        vec![document("[1]", None)],
        vec![document("{", None)],
        vec![document("", None)],
        vec![document("{}", Some(vec![]))],
        vec![document("{}", Some(vec![0.0; DIMENSIONS_MAX + 1]))],
        vec![document("{}", Some(vec![1.0, f32::NAN]))],
        vec![document("{}", Some(vec![f32::INFINITY]))],
        vec![delete("a", Expect::Any); CHANGES_MAX + 1],
        vec![put("c", "a", &quarter, Expect::Any); 4],
    ];
    for (number, changes) in refused.into_iter().enumerate() {
        let answer = write(&store, &system, changes).await;
        assert!(matches!(answer, Err(StoreError::Invalid(_))), "{number}: {answer:?}");
    }
    for key in ["", &text(ONCE_KEY_MAX + 1)] {
        let once = Some(Once { key: key.to_owned(), fingerprint: [0; 32] });
        let answer = store.write(&system, Write { once, ..Write::together(vec![delete("a", Expect::Any)]) }).await;
        assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}");
    }
    for name in ["", "a\0", &text(COLLECTION_MAX + 1)] {
        assert!(matches!(store.make(&system, name, Shape::default()).await, Err(StoreError::Invalid(_))));
        assert!(matches!(store.drop_collection(&system, name).await, Err(StoreError::Invalid(_))));
    }
    assert!(matches!(store.get(&system, "c", "").await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.get(&system, "c", "a\0").await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.scan(&system, "", None, 1).await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.scan(&system, "c", Some(&text(ID_MAX + 1)), 1).await, Err(StoreError::Invalid(_))));
}
