//! Whatever is asked of whatever there is: what is found is what a naive reading of `query.rs` finds, with indexes and
//! without, and pages have every match once and in order.

use super::super::filter::{Filter, Prepared};
use super::super::query;
use super::{Table, loose, strict};
use crate::store::{Compare, Condition, Key, Order, Path, Position, Query, Scalar, Step, Test};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A JSON value, with numbers as they are.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Plain(Scalar),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn write(&self) -> String {
        let quoted = |text: &String| serde_json::to_string(text).unwrap();
        match self {
            Self::Null => "null".to_owned(),
            Self::Plain(Scalar::Bool(value)) => value.to_string(),
            Self::Plain(Scalar::Int(value)) => value.to_string(),
            Self::Plain(Scalar::Real(value)) if value.is_infinite() => {
                if *value > 0.0 { "9e999" } else { "-9e999" }.to_owned()
            }
            Self::Plain(Scalar::Real(value)) => serde_json::to_string(value).unwrap(),
            Self::Plain(Scalar::Text(value)) => quoted(value),
            Self::Array(values) => format!("[{}]", values.iter().map(Self::write).collect::<Vec<_>>().join(",")),
            Self::Object(members) => {
                let members = members.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.write()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }

    fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(label, _)| label == name).map(|(_, value)| value)
    }

    fn at<'j>(&'j self, steps: &[Step]) -> Vec<&'j Self> {
        let Some((step, rest)) = steps.split_first() else { return vec![self] };
        let next = match (step, self) {
            (Step::Member(name), _) => self.member(name).into_iter().collect(),
            (Step::Elements | Step::Spread, Self::Array(values)) => values.iter().collect(),
            (Step::Values, Self::Object(members)) => members.iter().map(|(_, value)| value).collect(),
            (Step::Spread, _) => vec![self],
            (Step::Elements | Step::Values, _) => vec![],
        };
        next.into_iter().flat_map(|value: &Self| value.at(rest)).collect()
    }

    /// As an order sees it.
    fn key(&self, path: &Path) -> Option<Scalar> {
        let mut value = self;
        for step in path.steps() {
            if let Step::Member(name) = step {
                value = value.member(name)?;
            }
        }
        match value {
            Self::Null => None,
            Self::Plain(Scalar::Bool(value)) => Some(Scalar::Int(i64::from(*value))),
            Self::Plain(value) => Some(value.clone()),
            Self::Array(_) | Self::Object(_) => Some(Scalar::Text(value.write())),
        }
    }
}

fn numbers(one: f64, other: f64) -> Ordering {
    one.partial_cmp(&other).unwrap()
}

#[allow(clippy::cast_possible_truncation, reason = "to the edge is meant")]
fn compare(one: &Scalar, other: &Scalar) -> Ordering {
    use Scalar::{Bool, Int, Real, Text};
    match (one, other) {
        (Text(one), Text(other)) => one.as_bytes().cmp(other.as_bytes()),
        (Text(_), _) => Ordering::Greater,
        (_, Text(_)) => Ordering::Less,
        (Bool(one), _) => compare(&Int(i64::from(*one)), other),
        (_, Bool(other)) => compare(one, &Int(i64::from(*other))),
        (Int(one), Int(other)) => one.cmp(other),
        (Real(one), Real(other)) => numbers(*one, *other),
        (Int(_), Real(_)) => compare(other, one).reverse(),
        // A double is a whole number and a fraction; one beyond i128 becomes its edge, which is beyond i64 too.
        (Real(one), Int(other)) => {
            let fraction = if *one > one.floor() { Ordering::Greater } else { Ordering::Equal };
            (one.floor() as i128).cmp(&i128::from(*other)).then(fraction)
        }
    }
}

fn same_kind(one: &Scalar, other: &Scalar) -> bool {
    let kind = |scalar: &Scalar| match scalar {
        Scalar::Bool(_) => 0,
        Scalar::Int(_) | Scalar::Real(_) => 1,
        Scalar::Text(_) => 2,
    };
    kind(one) == kind(other)
}

fn so(value: &Json, test: &Test, loose: bool) -> bool {
    let Json::Plain(scalar) = value else { return *test == Test::Present && *value != Json::Null };
    let equal = |with: &Scalar| (!loose || same_kind(scalar, with)) && compare(scalar, with).is_eq();
    match test {
        Test::Present => true,
        Test::In(values) => values.iter().any(equal),
        Test::Substring(part) => matches!(scalar, Scalar::Text(text) if text.contains(part.as_str())),
        Test::Compare(_, with) if loose && !same_kind(scalar, with) => false,
        Test::Compare(how, with) => {
            let order = compare(scalar, with);
            match how {
                Compare::Equal => order.is_eq(),
                Compare::NotEqual => order.is_ne(),
                Compare::Greater => order.is_gt(),
                Compare::Less => order.is_lt(),
                Compare::GreaterEqual => order.is_ge(),
                Compare::LessEqual => order.is_le(),
            }
        }
    }
}

struct Kept {
    id: String,
    sequence: i64,
    updated_at: i64,
    document: Json,
}

fn matches(record: &Kept, conditions: &[Condition]) -> bool {
    conditions.iter().all(|condition| {
        let one = |(path, test): &(Path, Test)| {
            record.document.at(path.steps()).into_iter().any(|value| so(value, test, path.is_loose()))
        };
        condition.any.iter().any(one) != condition.negate
    })
}

fn precedes(one: &Kept, other: &Kept, order: &[Order]) -> Ordering {
    for Order { key, descending } in order {
        let found = match key {
            Key::Field(path) => match (one.document.key(path), other.document.key(path)) {
                (Some(one), Some(other)) => compare(&one, &other),
                (one, other) => one.is_some().cmp(&other.is_some()),
            },
            Key::CreatedAt => one.sequence.cmp(&other.sequence),
            Key::UpdatedAt => one.updated_at.cmp(&other.updated_at),
            Key::Id => one.id.as_bytes().cmp(other.id.as_bytes()),
            Key::Score => Ordering::Equal,
        };
        if found.is_ne() {
            return if *descending { found.reverse() } else { found };
        }
    }
    if order.is_empty() { other.sequence.cmp(&one.sequence) } else { one.id.as_bytes().cmp(other.id.as_bytes()) }
}

/// Paths of declared fields, and what kind of values are there.
fn strict_paths() -> Vec<(&'static str, Kind)> {
    vec![
        ("n", Kind::Number),
        ("o.n", Kind::Number),
        ("t", Kind::Text),
        ("f", Kind::Bool),
        ("e[].k", Kind::Number),
        ("m{}", Kind::Text),
        ("r[]", Kind::Text),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Number,
    Text,
    Bool,
    Any,
}

fn number() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        4 => (-2_i64..3).prop_map(Scalar::Int),
        1 => select(vec![i64::MIN, i64::MAX, i64::MAX - 1, (1 << 53) + 1, 1 << 53]).prop_map(Scalar::Int),
        2 => select(vec![
            -0.0, 0.0, 0.5, -1.5, 1.0, 9_007_199_254_740_992.0, 9_223_372_036_854_775_808.0, 1e300, 5e-324, 0.1 + 0.2,
            f64::INFINITY, f64::NEG_INFINITY, -9_223_372_036_854_775_808.0,
        ]).prop_map(Scalar::Real),
    ]
}

fn words() -> impl Strategy<Value = Scalar> {
    let words = [
        "", "a", "A", "ab", "b", "é", "e\u{301}", "日本", "\"q\\\"", "\n\t", "[", "{}", "1", "NaN", "🦀", "x%_",
        "a\0b", "\0",
    ];
    select(words.to_vec()).prop_map(|text| Scalar::Text(text.to_owned()))
}

fn scalar(kind: Kind) -> BoxedStrategy<Scalar> {
    let truth = any::<bool>().prop_map(Scalar::Bool);
    match kind {
        // NaN is text in a field of numbers.
        Kind::Number => prop_oneof![9 => number(), 1 => Just(Scalar::Text("NaN".to_owned()))].boxed(),
        Kind::Text => words().boxed(),
        Kind::Bool => truth.boxed(),
        Kind::Any => prop_oneof![number(), words(), truth].boxed(),
    }
}

fn object(members: Vec<(&str, Option<Json>)>) -> Json {
    Json::Object(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

fn plain(kind: Kind) -> impl Strategy<Value = Option<Json>> {
    option::of(scalar(kind).prop_map(Json::Plain))
}

fn wild() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![4 => scalar(Kind::Any).prop_map(Json::Plain), 1 => Just(Json::Null)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let members = (option::of(inner.clone()), option::of(inner.clone()));
        prop_oneof![
            vec(inner, 0..3).prop_map(Json::Array),
            members.prop_map(|(a, b)| object(vec![("a", a), ("b", b)])),
        ]
    })
}

fn document() -> impl Strategy<Value = Json> {
    let element = plain(Kind::Number).prop_map(|k| object(vec![("k", k)]));
    let map = (plain(Kind::Text), plain(Kind::Text)).prop_map(|(x, y)| object(vec![("x", x), ("y", y)]));
    let list = vec(scalar(Kind::Text).prop_map(Json::Plain), 0..3).prop_map(Json::Array);
    let nested = plain(Kind::Number).prop_map(|n| object(vec![("n", n)]));
    let flat = (plain(Kind::Number), plain(Kind::Text), plain(Kind::Bool));
    let deep = (option::of(nested), option::of(vec(element, 0..3)), option::of(map), option::of(list));
    (flat, deep, option::of(wild())).prop_map(|((n, t, f), (o, e, m, r), a)| {
        let e = e.map(Json::Array);
        object(vec![("a", a), ("n", n), ("t", t), ("f", f), ("o", o), ("e", e), ("m", m), ("r", r)])
    })
}

fn test(kind: Kind) -> impl Strategy<Value = Test> {
    let how = select(vec![
        Compare::Equal,
        Compare::NotEqual,
        Compare::Greater,
        Compare::Less,
        Compare::GreaterEqual,
        Compare::LessEqual,
    ]);
    let part = select(vec!["", "a", "q\\", "\u{301}", "N", "é", "1"]);
    prop_oneof![
        6 => (how, scalar(kind)).prop_map(|(how, with)| Test::Compare(how, with)),
        2 => vec(scalar(kind), 0..4).prop_map(Test::In),
        1 => part.prop_map(|part| Test::Substring(part.to_owned())),
        1 => Just(Test::Present),
    ]
}

fn alternative() -> impl Strategy<Value = (Path, Test)> {
    prop_oneof![
        select(strict_paths()).prop_flat_map(|(path, kind)| (Just(strict(path)), test(kind))),
        select(vec!["a", "a.b", "a.a", "a.b.a"]).prop_flat_map(|path| (Just(loose(path)), test(Kind::Any))),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    (vec(alternative(), 1..3), prop::bool::weighted(0.2)).prop_map(|(any, negate)| Condition { any, negate })
}

fn order() -> impl Strategy<Value = Order> {
    let fields = vec![strict("n"), strict("o.n"), strict("t"), strict("f"), loose("a"), loose("a.b")];
    let key = prop_oneof![
        6 => select(fields).prop_map(Key::Field),
        1 => Just(Key::CreatedAt),
        2 => Just(Key::UpdatedAt),
        1 => Just(Key::Id),
        1 => Just(Key::Score),
    ];
    (key, any::<bool>()).prop_map(|(key, descending)| Order { key, descending })
}

fn indexes() -> Vec<Path> {
    vec![strict("n"), strict("o.n"), strict("t"), strict("f"), loose("a"), loose("a.b"), loose("a.b.a")]
}

fn tables(documents: Vec<(Json, i64)>) -> (Vec<Kept>, [Table; 2]) {
    let mut tables = [Table::new(indexes()), Table::new(Vec::new())];
    let mut kept = Vec::new();
    for (at, (document, updated_at)) in documents.into_iter().enumerate() {
        // Not in the order of creation.
        let id = format!("{:02}", (at * 37) % 101);
        for table in &mut tables {
            table.add(&id, Some(&document.write()), None, &"word ".repeat(at % 50), updated_at);
        }
        kept.push(Kept { id, sequence: i64::try_from(at).unwrap() + 1, updated_at, document });
    }
    (kept, tables)
}

/// Everything, page by page.
fn walk(table: &Table, asked: &Query) -> (Vec<String>, u64) {
    let (mut found, mut asked, mut totals) = (Vec::new(), asked.clone(), Vec::new());
    loop {
        let page = query(&table.connection, &table.layout, &asked, false).unwrap();
        assert!(page.hits.len() <= asked.limit);
        totals.push(page.total.unwrap());
        found.extend(page.hits.into_iter().map(|hit| hit.record.id));
        let Some(next) = page.next else { break };
        // As a page token carries it.
        let next = serde_json::to_string(&next).unwrap();
        asked.after = Some(serde_json::from_str::<Position>(&next).unwrap());
        asked.offset = 0;
    }
    assert!(totals.iter().all(|total| *total == totals[0]), "{totals:?}");
    (found, totals[0])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
    ) })]

    #[test]
    fn queries_find_what_a_naive_reading_finds(
        documents in vec((document(), 0_i64..6), 0..24),
        conditions in vec(condition(), 0..4),
        order in vec(order(), 0..4),
        limit in 1_usize..9,
        offset in prop_oneof![3 => Just(0_usize), 1 => 0_usize..9],
    ) {
        let (mut kept, tables) = tables(documents);
        kept.sort_by(|one, other| precedes(one, other, &order));
        let expected = kept.iter().filter(|record| matches(record, &conditions)).map(|record| record.id.clone());
        let expected = expected.collect::<Vec<_>>();
        let asked = Query { conditions, order, limit, offset, total: true, ..Query::default() };
        for table in &tables {
            let (found, total) = walk(table, &asked);
            prop_assert_eq!(&found, &expected[offset.min(expected.len())..], "indexes: {}", table.layout.indexes.len());
            prop_assert_eq!(total, expected.len() as u64);
        }
    }

    #[test]
    fn damaged_documents_match_or_not_but_end(
        bytes in vec(prop_oneof![any::<u8>(), select(vec![0x0B_u8, 0x0C, 0xBB, 0xCC, 0x17, 0xC7, 0xFB])], 0..40),
        conditions in vec(condition(), 1..4),
    ) {
        let labels = vec![("a".to_owned(), "b".to_owned())].into();
        let filter = Filter { conditions: conditions.iter().map(Cow::Borrowed).collect(), labels };
        let filter = Prepared::decode(&serde_json::to_string(&filter).unwrap()).unwrap();
        filter.matches(Some(&bytes), Some(&bytes));
    }
}
