//! What is nearest.

use super::{Table, filter, ids, is, strict};
use crate::store::{Compare, Key, Nearest, Order, Query, Scalar};
use rusqlite::params;

fn table() -> Table {
    let mut table = Table::new(vec![strict("n")]);
    let vectors: [(&str, &[f32]); 6] = [
        ("same", &[1.0, 2.0]),
        ("longer", &[10.0, 20.0]),
        ("across", &[-2.0, 1.0]),
        ("away", &[-1.0, -2.0]),
        ("short", &[1.0]),
        ("none", &[0.0, 0.0]),
    ];
    for (at, (id, vector)) in vectors.into_iter().enumerate() {
        let row = table.add(id, Some(&format!(r#"{{"n":{}}}"#, at % 2)), None, "word", 1);
        let vector = vector.iter().copied().flat_map(f32::to_le_bytes).collect::<Vec<_>>();
        table.connection.execute("INSERT INTO v7 VALUES (?1, ?2)", params![row, vector]).unwrap();
    }
    table.document("vectorless", r#"{"n":0}"#);
    table
}

fn near(at_least: Option<f32>) -> Query {
    let nearest = Some(Nearest { vector: vec![1.0, 2.0], at_least });
    Query { nearest, limit: 10, total: true, ..Query::default() }
}

#[test]
fn the_nearest_come_first() {
    let table = table();
    let page = table.ask(&near(None)).unwrap();
    assert_eq!(ids(&page), ["longer", "same", "across", "away"]);
    assert_eq!(page.hits.iter().map(|hit| hit.score).collect::<Vec<_>>(), [1.0, 1.0, 0.0, -1.0]);
    assert_eq!(page.total, Some(4));
    let page = table.ask(&near(Some(1.0))).unwrap();
    assert_eq!((ids(&page).len(), page.total), (2, Some(2)));
    let page = table.ask(&Query { limit: 1, offset: 2, ..near(None) }).unwrap();
    assert_eq!((ids(&page), page.total, page.next), (vec!["across".to_owned()], Some(4), None));
}

#[test]
fn nearness_goes_with_everything_else() {
    let table = table();
    let even = || filter(vec![(strict("n"), is(Compare::Equal, Scalar::Int(0)))]).conditions;
    let page = table.ask(&Query { conditions: even(), ..near(None) }).unwrap();
    assert_eq!((ids(&page), page.total), (vec!["same".to_owned(), "across".to_owned()], Some(2)));
    let texts = Query { text: Some(super::texts::words("word")), conditions: even(), ..near(Some(0.5)) };
    assert_eq!(table.find(&texts), ["same"]);
    let by_id = vec![Order { key: Key::Id, descending: false }];
    let mut paged = Query { order: by_id, limit: 1, ..near(Some(-0.5)) };
    let mut seen = Vec::new();
    loop {
        let page = table.ask(&paged).unwrap();
        assert_eq!(page.total, Some(3));
        seen.extend(page.hits.into_iter().map(|hit| (hit.record.id, hit.score)));
        paged.after = page.next;
        if paged.after.is_none() {
            break;
        }
    }
    let seen = seen.iter().map(|(id, score)| (id.as_str(), *score)).collect::<Vec<_>>();
    assert_eq!(seen, [("across", 0.0), ("longer", 1.0), ("same", 1.0)]);
    let newest = Query { order: vec![Order { key: Key::CreatedAt, descending: true }], ..near(Some(0.5)) };
    assert_eq!(table.find(&newest), ["longer", "same"]);
}
