//! Queries: a handful of each kind. The depth of it is tested where they are carried out.

use super::super::{
    Compare, Condition, Expect, Indexed, Key, Nearest, Order, Path, Phrase, Query, Scalar, Shape, Step, Store,
    StoreError, TEXT_BREAK, Test, Text,
};
use super::{Subject, delete, index, namespace, put, revision, shown, write};
use crate::domain::Namespace;
use std::time::Duration;
use tokio::time::Instant;

fn path(name: &str) -> Path {
    Path::new(vec![Step::Member(name.to_owned())]).unwrap()
}

fn compares(name: &str, compare: Compare, value: i64) -> Condition {
    Condition { any: vec![(path(name), Test::Compare(compare, Scalar::Int(value)))], negate: false }
}

fn order(key: Key, descending: bool) -> Vec<Order> {
    vec![Order { key, descending }]
}

fn phrase(words: &str, prefix: bool) -> Text {
    Text::Phrase(Phrase { words: words.to_owned(), prefix, initial: false })
}

fn all() -> Query {
    Query { limit: 100, total: true, ..Query::default() }
}

async fn ask(store: &impl Store, namespace: &Namespace, query: Query) -> (Vec<String>, Option<u64>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let page = store.query(namespace, "c", query, deadline).await.unwrap();
    (page.hits.into_iter().map(|hit| hit.record.id).collect(), page.total)
}

/// Records "0" to "19": `n` is the number, `odd` whether it is, `t` text; those above 9 have a vector.
async fn filled<S: Subject>(subject: &S) -> (S::Store, Namespace) {
    let (store, system) = (subject.open(), namespace("system"));
    store.make(&system, "c", Shape { full_text: true, indexes: vec![] }).await.unwrap();
    for n in 0..20_u8 {
        let odd = n % 2 == 1;
        let kind = if odd { "plum" } else { "Äpple" };
        let text = format!("{kind} pie {TEXT_BREAK} number{n}");
        let vector = (n > 9).then(|| vec![f32::from(n), 10.0]);
        let document = format!("{{\"n\":{n},\"odd\":{odd},\"t\":\"{kind}\"}}");
        write(&store, &system, vec![shown(&n.to_string(), Indexed { document, text, vector })]).await.unwrap();
    }
    (store, system)
}

pub(in crate::store) async fn filters_find_what_matches(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    let conditions = vec![compares("n", Compare::GreaterEqual, 15), compares("n", Compare::NotEqual, 17)];
    let (found, total) = ask(&store, &system, Query { conditions, ..all() }).await;
    assert_eq!((found, total), (vec!["19".into(), "18".into(), "16".into(), "15".into()], Some(4)), "newest first");
    let any = vec![
        (path("t"), Test::Substring("um".to_owned())),
        (path("n"), Test::In(vec![Scalar::Int(4), Scalar::Int(99)])),
    ];
    let conditions = vec![Condition { any, negate: false }, compares("n", Compare::Less, 6)];
    assert_eq!(ask(&store, &system, Query { conditions, ..all() }).await.0, ["5", "4", "3", "1"]);
    let conditions = vec![Condition { any: vec![(path("nothing"), Test::Present)], negate: false }];
    assert_eq!(ask(&store, &system, Query { conditions, ..all() }).await.1, Some(0));
}

pub(in crate::store) async fn orders_hold_and_pages_meet(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let order = vec![
        Order { key: Key::Field(path("odd")), descending: true },
        Order { key: Key::Field(path("n")), descending: false },
    ];
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let query = Query { order: order.clone(), after, limit: 3, total: true, ..Query::default() };
        let page = store.query(&system, "c", query, deadline).await.unwrap();
        assert_eq!(page.total, Some(20));
        found.extend(page.hits.into_iter().map(|hit| hit.record.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let wanted: Vec<String> = (1..20).step_by(2).chain((0..20).step_by(2)).map(|n| n.to_string()).collect();
    assert_eq!(found, wanted);
    let offset = Query { order: self::order(Key::CreatedAt, false), offset: 5, limit: 2, ..Query::default() };
    assert_eq!(ask(&store, &system, offset).await, (vec!["5".into(), "6".into()], None));
}

pub(in crate::store) async fn texts_are_found(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    let query = |text| Query { text: Some(text), ..all() };
    assert_eq!(ask(&store, &system, query(phrase("APPLE pie", false))).await.1, Some(10), "case and accents are one");
    assert_eq!(ask(&store, &system, query(phrase("number1", true))).await.1, Some(11));
    let not = Text::Not(Box::new(phrase("pie", false)), Box::new(phrase("plum", false)));
    assert_eq!(ask(&store, &system, query(not)).await.1, Some(10));
    assert_eq!(ask(&store, &system, query(phrase("pie number3", false))).await.1, Some(0), "they are two texts");
    write(&store, &system, vec![delete("3", Expect::Present), put("c", "5", b"", Expect::Present)]).await.unwrap();
    assert_eq!(ask(&store, &system, query(phrase("plum", false))).await.1, Some(8), "what is gone is not found");
    let deadline = Instant::now() + Duration::from_secs(60);
    let stats = store.text_stats(&system, "c", phrase("plum", false), deadline).await.unwrap();
    assert_eq!((stats.records, stats.words, stats.holding), (19, 54, vec![8]));
}

pub(in crate::store) async fn labels_are_found(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    for (id, stage) in [("a", "live"), ("b", "test")] {
        let mut change = put("c", id, b"", Expect::Any);
        if let super::super::Change::Put { labels, .. } = &mut change {
            *labels = Some([("stage".to_owned(), stage.to_owned())].into());
        }
        write(&store, &system, vec![change]).await.unwrap();
    }
    let labels = vec![("stage".to_owned(), "live".to_owned())];
    assert_eq!(ask(&store, &system, Query { labels, ..all() }).await, (vec!["a".to_owned()], Some(1)));
}

pub(in crate::store) async fn the_nearest_come_first(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    let nearest = Some(Nearest { vector: vec![1.0, 1.0], at_least: Some(0.99) });
    let (found, _) = ask(&store, &system, Query { nearest, ..all() }).await;
    assert_eq!(found, ["10", "11", "12", "13"]);
    let nearest = Some(Nearest { vector: vec![1.0, 1.0, 1.0], at_least: None });
    assert!(ask(&store, &system, Query { nearest, ..all() }).await.0.is_empty(), "of another length");
}

pub(in crate::store) async fn indexes_change_plans_and_not_answers(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    let query = || Query { conditions: vec![compares("n", Compare::Equal, 7)], ..all() };
    assert!(store.explain(&system, "c", query()).await.unwrap().indexes.is_empty());
    assert_eq!(ask(&store, &system, query()).await.0, ["7"]);
    store.reshape(&system, "c", Shape { full_text: true, indexes: vec![path("n")] }).await.unwrap();
    assert_eq!(store.explain(&system, "c", query()).await.unwrap().indexes, [path("n")]);
    let seven = Indexed { document: "{\"n\":7}".to_owned(), ..Indexed::default() };
    write(&store, &system, vec![shown("8", seven), delete("7", Expect::Present)]).await.unwrap();
    assert_eq!(ask(&store, &system, query()).await, (vec!["8".to_owned()], Some(1)));
}

pub(in crate::store) async fn what_is_indexed_again_is_found_anew(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    let made = write(&store, &system, vec![put("c", "x", b"bytes", Expect::Absent)]).await.unwrap();
    let before = store.get(&system, "c", "x").await.unwrap().unwrap();
    let seen = Indexed { document: "{\"n\":77}".to_owned(), text: "cherry".to_owned(), vector: Some(vec![1.0]) };
    let revision = revision(&made[0]);
    let stale = index("c", "x", revision - 1, Some(seen.clone()));
    assert_eq!(write(&store, &system, vec![stale]).await.unwrap(), [super::super::Written::Absent]);
    let fits = index("c", "x", revision, Some(seen));
    assert_eq!(write(&store, &system, vec![fits]).await.unwrap(), [super::super::Written::Indexed]);
    assert_eq!(store.get(&system, "c", "x").await.unwrap().unwrap(), before, "the record is as it was");
    assert_eq!(ask(&store, &system, Query { text: Some(phrase("cherry", false)), ..all() }).await.0, ["x"]);
    let conditions = vec![compares("n", Compare::Greater, 70)];
    assert_eq!(ask(&store, &system, Query { conditions, ..all() }).await.0, ["x"]);
    assert_eq!(ask(&store, &system, Query { limit: 1, ..Query::default() }).await.0, ["x"], "its place is as it was");
}

pub(in crate::store) async fn queries_end_at_their_deadline(subject: &impl Subject) {
    let (store, system) = filled(subject).await;
    let late = store.query(&system, "c", all(), Instant::now()).await;
    assert!(matches!(late, Err(StoreError::Deadline)), "{late:?}");
    let late = store.text_stats(&system, "c", phrase("pie", false), Instant::now()).await;
    assert!(matches!(late, Err(StoreError::Deadline)), "{late:?}");
    assert_eq!(ask(&store, &system, all()).await.1, Some(20));
}
