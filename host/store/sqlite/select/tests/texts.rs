//! Text search: what expressions find, and in what order.

use super::super::{query, text_stats};
use super::{Table, filter, ids, is, strict};
use crate::store::{Compare, Key, Order, Phrase, Query, Scalar, StoreError, TERMS_MAX, TEXT_BREAK, Text, TextStats};

pub(super) fn words(words: &str) -> Text {
    Text::Phrase(Phrase { words: words.to_owned(), prefix: false, initial: false })
}

fn prefix(words: &str) -> Text {
    Text::Phrase(Phrase { words: words.to_owned(), prefix: true, initial: false })
}

fn initial(words: &str) -> Text {
    Text::Phrase(Phrase { words: words.to_owned(), prefix: false, initial: true })
}

fn near(phrases: &[&str], most: u32) -> Text {
    let phrase = |words: &&str| Phrase { words: (*words).to_owned(), prefix: false, initial: false };
    Text::Near(phrases.iter().map(phrase).collect(), most)
}

fn and(one: Text, other: Text) -> Text {
    Text::And(Box::new(one), Box::new(other))
}

fn or(one: Text, other: Text) -> Text {
    Text::Or(Box::new(one), Box::new(other))
}

fn not(one: Text, other: Text) -> Text {
    Text::Not(Box::new(one), Box::new(other))
}

fn table(texts: &[(&str, &str)]) -> Table {
    let mut table = Table::new(vec![strict("n")]);
    for (at, (id, text)) in texts.iter().enumerate() {
        table.add(id, Some(&format!(r#"{{"n":{}}}"#, at % 3)), None, text, 1);
    }
    table
}

fn asked(text: Text) -> Query {
    Query { text: Some(text), limit: 100, total: true, ..Query::default() }
}

/// What is found, by id.
fn found(table: &Table, text: Text) -> Vec<String> {
    let page = table.ask(&asked(text)).unwrap();
    assert_eq!(page.total, Some(page.hits.len() as u64));
    let mut found = ids(&page);
    found.sort();
    found
}

#[test]
fn expressions_mean_what_they_say() {
    let broken = format!("red apple {TEXT_BREAK} green pear");
    let table = table(&[
        ("1", "red apple pie"),
        ("2", &broken),
        ("3", "a pear, an apple"),
        ("4", "Äpfel und Birnen"),
        ("5", "AND OR NOT NEAR text:red"),
    ]);
    assert_eq!(found(&table, words("apple")), ["1", "2", "3"]);
    assert_eq!(found(&table, words("RED Apple")), ["1", "2"]);
    assert_eq!(found(&table, words("apple green")), [] as [&str; 0]);
    assert_eq!(found(&table, words("apfel")), ["4"]);
    assert_eq!(found(&table, prefix("app")), ["1", "2", "3"]);
    assert_eq!(found(&table, prefix("red app")), ["1", "2"]);
    assert_eq!(found(&table, initial("red")), ["1", "2"]);
    assert_eq!(found(&table, initial("apple")), [] as [&str; 0]);
    assert_eq!(found(&table, and(words("apple"), words("pear"))), ["2", "3"]);
    assert_eq!(found(&table, or(words("pie"), words("pear"))), ["1", "2", "3"]);
    assert_eq!(found(&table, not(words("apple"), words("pear"))), ["1"]);
    assert_eq!(found(&table, not(not(words("apple"), words("pear")), words("pie"))), [] as [&str; 0]);
    assert_eq!(found(&table, not(words("apple"), not(words("pear"), words("green")))), ["1", "2"]);
    assert_eq!(found(&table, and(words("apple"), or(words("pie"), words("green")))), ["1", "2"]);
    assert_eq!(found(&table, or(words("pie"), and(words("apple"), words("green")))), ["1", "2"]);
    assert_eq!(found(&table, near(&["pear", "apple"], 1)), ["3"]);
    assert_eq!(found(&table, near(&["pear", "apple"], u32::MAX)), ["2", "3"]);
    assert_eq!(found(&table, near(&["pear", "!", "apple"], 1)), ["3"]);
    assert_eq!(found(&table, words("AND")), ["5"]);
    assert_eq!(found(&table, words("text:red")), ["5"]);
}

#[test]
fn hostile_words_are_only_words() {
    let table = table(&[("1", "a b c")]);
    let blank = ["", "*", "\"", "\"\"", "'", "!!!", "\0", "(", ")", "^", "-", "\u{E000}\u{E000}"];
    for words in blank {
        for text in [self::words(words), prefix(words), initial(words), near(&[words, words], 1)] {
            assert_eq!(found(&table, text), [] as [&str; 0], "{words:?}");
        }
        assert_eq!(found(&table, or(self::words(words), self::words("b"))), ["1"], "{words:?}");
    }
    for words in ["a\" OR \"zz", "b) OR (zz", "text : b", "c\0b", "{a} b"] {
        found(&table, self::words(words));
    }
    assert_eq!(found(&table, words("a\"b\"c")), ["1"]);
    assert_eq!(found(&table, words("a\0b")), ["1"]);
}

#[test]
fn as_many_words_as_are_allowed_are_searched_for_and_no_more() {
    let table = table(&[("1", "w0 w1")]);
    type Join = fn(Text, Text) -> Text;
    for join in [and as Join, or, not] {
        let chain = |count: usize, left: bool| {
            let mut words = (0..count).map(|at| words(&format!("w{at}")));
            let first = words.next().unwrap();
            words.fold(first, |chain, word| if left { join(chain, word) } else { join(word, chain) })
        };
        assert!(table.ask(&asked(chain(TERMS_MAX, true))).is_ok());
        // NOT to the right nests; the others are flat either way.
        let right = table.ask(&asked(chain(TERMS_MAX, false)));
        assert!(right.is_ok() || matches!(right, Err(StoreError::Invalid(_))), "{right:?}");
        assert!(matches!(table.ask(&asked(chain(TERMS_MAX + 1, true))), Err(StoreError::Invalid(_))));
    }
    let many = "w ".repeat(TERMS_MAX + 1);
    assert!(matches!(table.ask(&asked(words(&many))), Err(StoreError::Invalid(_))));
    assert!(table.ask(&asked(words(&many[2..]))).is_ok());
    let nested = |depth: usize| {
        (0..depth)
            .fold(words("w0"), |text, at| if at % 2 == 0 { and(words("w1"), text) } else { or(words("w1"), text) })
    };
    assert_eq!(found(&table, nested(24)), ["1"]);
    assert!(matches!(table.ask(&asked(nested(60))), Err(StoreError::Invalid(_))));
    let inner = Phrase { words: "a".to_owned(), prefix: false, initial: true };
    assert!(matches!(table.ask(&asked(Text::Near(vec![inner], 1))), Err(StoreError::Invalid(_))));
    assert!(matches!(table.ask(&asked(Text::Near(vec![], 1))), Err(StoreError::Invalid(_))));
}

#[test]
fn ranks_are_bm25_of_exact_short_lengths() {
    let table =
        table(&[("1", "cat"), ("2", "cat dog dog"), ("3", "cat cat dog bird"), ("4", "bird"), ("5", "bird bird")]);
    let average = 11.0 / 5.0;
    let part = |held: f64, times: f64, length: f64| {
        let idf = (1.0 + (5.0 - held + 0.5) / (held + 0.5)).ln();
        idf * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / average))
    };
    let score = |text: Text| {
        let page = table.ask(&asked(text)).unwrap();
        page.hits.into_iter().map(|hit| (hit.record.id, hit.score)).collect::<Vec<_>>()
    };
    let close = |found: Vec<(String, f64)>, expected: &[(&str, f64)]| {
        assert_eq!(found.len(), expected.len());
        for ((id, score), (expected_id, expected)) in found.iter().zip(expected) {
            assert_eq!(id, expected_id);
            assert!((score - expected).abs() < 1e-12, "{id}: {score}, not {expected}");
        }
    };
    let cat = |times, length| part(3.0, times, length);
    let dog = |times, length| part(2.0, times, length);
    close(score(words("cat")), &[("1", cat(1.0, 1.0)), ("3", cat(2.0, 4.0)), ("2", cat(1.0, 3.0))]);
    let both = or(words("cat"), words("dog"));
    close(
        score(both),
        &[("2", cat(1.0, 3.0) + dog(2.0, 3.0)), ("3", cat(2.0, 4.0) + dog(1.0, 4.0)), ("1", cat(1.0, 1.0))],
    );
    close(score(not(words("cat"), words("dog"))), &[("1", cat(1.0, 1.0))]);
}

#[test]
fn equal_ranks_are_newest_first() {
    let table = table(&[("b", "same words"), ("a", "same words"), ("c", "same words"), ("d", "words same same")]);
    let page = table.ask(&Query { limit: 2, offset: 1, ..asked(words("same")) }).unwrap();
    assert_eq!((ids(&page), page.total, page.next), (vec!["c".to_owned(), "a".to_owned()], Some(4), None));
}

#[test]
fn other_orders_have_pages_and_scores() {
    let texts = (0..30).map(|at| (format!("{at:02}"), format!("word {}", "other ".repeat(at % 7)))).collect::<Vec<_>>();
    let texts = texts.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect::<Vec<_>>();
    let table = table(&texts);
    let orders = [
        vec![Order { key: Key::CreatedAt, descending: true }],
        vec![Order { key: Key::CreatedAt, descending: false }],
        vec![Order { key: Key::Field(strict("n")), descending: true }],
        vec![Order { key: Key::Id, descending: true }],
    ];
    for order in orders {
        let all = table.ask(&Query { order: order.clone(), ..asked(words("word")) }).unwrap();
        assert!(all.hits.iter().all(|hit| hit.score > 0.0));
        let mut paged = Query { order, limit: 7, ..asked(words("word")) };
        let mut seen = Vec::new();
        loop {
            let page = table.ask(&paged).unwrap();
            assert_eq!(page.total, Some(30));
            seen.extend(page.hits);
            paged.after = page.next;
            if paged.after.is_none() {
                break;
            }
        }
        assert_eq!(seen, all.hits);
    }
    let by_score =
        vec![Order { key: Key::Field(strict("n")), descending: false }, Order { key: Key::Score, descending: false }];
    let page = table.ask(&Query { order: by_score, ..asked(words("word")) }).unwrap();
    let key = |at: usize| (page.hits[at].record.id.parse::<usize>().unwrap() % 3, page.hits[at].score);
    assert!((1..30).all(|at| key(at - 1) <= key(at)));
}

#[test]
fn filters_narrow_a_text_whether_it_is_common_or_not() {
    let texts = (0..60).map(|at| (format!("{at:02}"), "word".to_owned())).collect::<Vec<_>>();
    let texts = texts.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect::<Vec<_>>();
    let table = table(&texts);
    for holding in [60, 1_000_000] {
        let stats = Some(TextStats { records: 2_000_000, words: 2_000_000, holding: vec![holding] });
        let narrowed = Query {
            stats,
            text: Some(words("word")),
            total: true,
            ..filter(vec![(strict("n"), is(Compare::Equal, Scalar::Int(1)))])
        };
        let page = query(&table.connection, &table.layout, &narrowed, false).unwrap();
        assert_eq!((page.hits.len(), page.total), (20, Some(20)));
        let by_id = Query { order: vec![Order { key: Key::Id, descending: false }], limit: 3, ..narrowed };
        let page = query(&table.connection, &table.layout, &by_id, false).unwrap();
        assert_eq!((ids(&page), page.total), (vec!["01".to_owned(), "04".to_owned(), "07".to_owned()], Some(20)));
    }
}

#[test]
fn what_a_rank_is_worked_out_from_can_come_from_elsewhere() {
    let table = table(&[("1", "cat"), ("2", "cat dog dog"), ("3", "dog")]);
    let text = or(prefix("c"), near(&["dog", "?", "dog"], 3));
    let stats = text_stats(&table.connection, &table.layout, &text).unwrap();
    assert_eq!(stats, TextStats { records: 3, words: 5, holding: vec![2, 2, 2] });
    let own = table.ask(&asked(text.clone())).unwrap();
    let given = table.ask(&Query { stats: Some(stats.clone()), ..asked(text.clone()) }).unwrap();
    assert_eq!(own, given);
    let elsewhere = TextStats { records: 3_000, words: 5_000, holding: vec![2, 2, 2] };
    let rarer = table.ask(&Query { stats: Some(elsewhere), ..asked(text) }).unwrap();
    assert!(rarer.hits[0].score > own.hits[0].score);
}
