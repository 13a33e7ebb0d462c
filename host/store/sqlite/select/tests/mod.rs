//! What queries find, on tables as the store makes them.

mod plans;
mod properties;
mod texts;
mod vectors;

use super::{Layout, create_index, query};
use crate::store::sqlite::functions;
use crate::store::sqlite::norm;
use crate::store::sqlite::row::Sealed;
use crate::store::{Compare, Condition, Page, Path, Query, Scalar, Step, StoreError, Test};
use rusqlite::{Connection, params};

/// A collection on its own.
struct Table {
    connection: Connection,
    layout: Layout,
}

impl Table {
    fn new(indexes: Vec<Path>) -> Self {
        let connection = Connection::open_in_memory().unwrap();
        functions::register(&connection).unwrap();
        connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_EXPR_DEPTH, 100).unwrap();
        connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_SQL_LENGTH, 64 * 1024).unwrap();
        connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 2_000).unwrap();
        let tables = include_str!("../../../sql/collection.sql").replace('$', "7");
        connection.execute_batch(&tables).unwrap();
        let text = "CREATE VIRTUAL TABLE f7 USING fts5 (text, content = '', contentless_delete = 1, \
                    tokenize = 'unicode61 remove_diacritics 2')";
        connection.execute_batch(text).unwrap();
        let indexes = (1_i64..).zip(indexes).collect::<Vec<_>>();
        for statement in indexes.iter().flat_map(|(index, path)| create_index(7, *index, path)) {
            connection.execute_batch(&statement).unwrap();
        }
        Self { connection, layout: Layout { number: 7, full_text: true, indexes, records: 0, words: 0 } }
    }

    /// Adds a record; the next in the order of creation.
    fn add(&mut self, id: &str, document: Option<&str>, labels: Option<&str>, text: &str, updated_at: i64) -> i64 {
        self.layout.records += 1;
        let words = norm::words(text);
        self.layout.words += words;
        let sequence = i64::try_from(self.layout.records).unwrap();
        let row = sequence << 8 | i64::from(norm::norm(words));
        let record = "INSERT INTO r7 (row, id, type_url, bytes, document, labels, created_at, updated_at, words, seal)
            VALUES (?1, ?2, 'type.example/T', x'0102', jsonb(?3), jsonb(?4), ?5, ?6, 0, ?7)";
        let created_at = 1_000 + sequence;
        let kept = labels.map(|labels| serde_json::from_str(labels).unwrap()).unwrap_or_default();
        let type_url = "type.example/T";
        let sealed = Sealed { id, type_url, bytes: &[1, 2], labels: &kept, created_at, updated_at };
        self.connection
            .execute(record, params![row, id, document, labels, created_at, updated_at, sealed.seal()])
            .unwrap();
        self.connection.execute("INSERT INTO f7 (rowid, text) VALUES (?1, ?2)", params![row, text]).unwrap();
        row
    }

    fn document(&mut self, id: &str, document: &str) {
        self.add(id, Some(document), None, "", 5);
    }

    fn ask(&self, asked: &Query) -> Result<Page, StoreError> {
        query(&self.connection, &self.layout, asked, false)
    }

    fn find(&self, asked: &Query) -> Vec<String> {
        ids(&self.ask(asked).unwrap())
    }

    /// Ids of what one condition finds, oldest first.
    fn which(&self, path: &Path, test: Test) -> Vec<String> {
        let mut found = self.find(&filter(vec![(path.clone(), test)]));
        found.reverse();
        found
    }
}

fn ids(page: &Page) -> Vec<String> {
    page.hits.iter().map(|hit| hit.record.id.clone()).collect()
}

fn filter(any: Vec<(Path, Test)>) -> Query {
    Query { conditions: vec![Condition { any, negate: false }], limit: 1_000, ..Query::default() }
}

fn is(compare: Compare, with: Scalar) -> Test {
    Test::Compare(compare, with)
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

/// `a.b`, and `a[].b` and `a{}.b` for elements and values; every member is spread if the path is loose.
fn path(dotted: &str, loose: bool) -> Path {
    let mut steps = Vec::new();
    for part in dotted.split('.') {
        let name = part.trim_end_matches("[]").trim_end_matches("{}");
        steps.push(Step::Member(name.to_owned()));
        if part.ends_with("[]") {
            steps.push(Step::Elements);
        } else if part.ends_with("{}") {
            steps.push(Step::Values);
        } else if loose {
            steps.push(Step::Spread);
        }
    }
    Path::new(steps).unwrap()
}

fn strict(dotted: &str) -> Path {
    path(dotted, false)
}

fn loose(dotted: &str) -> Path {
    path(dotted, true)
}

#[test]
fn hostile_names_are_only_names() {
    let mut table = Table::new(Vec::new());
    let names = ["$", "[#-1]", "]", "..", "*", "a.b", "'", "a') OR 1=1 --", "ключ", "[0]", "$.a", "%", "?1", "--"];
    for (at, name) in names.iter().enumerate() {
        let document = serde_json::json!({ *name: at, "a": { "b": "decoy" }, "list": [1, 2] });
        table.document(name, &document.to_string());
    }
    for (at, name) in names.iter().enumerate() {
        let at = Scalar::Int(i64::try_from(at).unwrap());
        for steps in [vec![Step::Member((*name).to_owned())], vec![Step::Member((*name).to_owned()), Step::Spread]] {
            let path = Path::new(steps).unwrap();
            assert_eq!(table.which(&path, is(Compare::Equal, at.clone())), [*name]);
            assert_eq!(table.which(&path, Test::Present), [*name]);
            let order = vec![crate::store::Order { key: crate::store::Key::Field(path), descending: true }];
            assert_eq!(table.find(&Query { order, limit: 1, ..Query::default() }), [*name]);
        }
    }
    assert!(create_index(7, 1, &strict("a'b")).is_empty());
    for refused in ["\"", "\\", "\n", "a\"b"] {
        assert!(Path::new(vec![Step::Member(refused.to_owned())]).is_err());
    }
}

#[test]
fn labels_match_exactly() {
    let mut table = Table::new(Vec::new());
    table.add("one", None, Some(r#"{"env":"prod","a\"b":"x","$.env":"trap"}"#), "", 1);
    table.add("two", None, Some(r#"{"env":"test"}"#), "", 2);
    table.add("none", None, None, "", 3);
    let labelled = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        table.find(&Query { labels, limit: 10, ..Query::default() })
    };
    assert_eq!(labelled(&[("env", "prod")]), ["one"]);
    assert_eq!(labelled(&[("env", "prod"), ("a\"b", "x")]), ["one"]);
    assert_eq!(labelled(&[("env", "trap")]), [] as [&str; 0]);
    assert_eq!(labelled(&[]).len(), 3);
}

#[test]
fn nothing_of_a_record_without_a_document_is_found() {
    let mut table = Table::new(vec![strict("n"), loose("l")]);
    table.add("opaque", None, None, "", 1);
    for path in [strict("n"), loose("l"), strict("other")] {
        assert!(table.which(&path, Test::Present).is_empty());
        let mut without = filter(vec![(path, Test::Present)]);
        without.conditions[0].negate = true;
        assert_eq!(table.find(&without), ["opaque"]);
    }
}

#[test]
fn pages_end_early_by_bytes_and_go_on() {
    let mut table = Table::new(Vec::new());
    for id in ["a", "b", "c"] {
        table.document(id, "{}");
    }
    let mut asked = Query { limit: 3, bytes: 1, total: true, ..Query::default() };
    let mut seen = Vec::new();
    loop {
        let page = table.ask(&asked).unwrap();
        assert_eq!((page.hits.len(), page.total), (1, Some(3)));
        seen.extend(ids(&page));
        asked.after = page.next;
        if asked.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["c", "b", "a"]);
}

#[test]
fn long_texts_are_ordered_and_found_by_their_beginnings() {
    use crate::store::{Key, Order};
    let long = |last: char| format!("{}{last}", "x".repeat(2_000));
    for indexes in [vec![], vec![strict("t")]] {
        let mut table = Table::new(indexes);
        for (id, text) in [("c", long('1')), ("a", long('2')), ("b", "x".repeat(300)), ("d", "y".repeat(1_100))] {
            table.document(id, &format!(r#"{{"t":"{text}"}}"#));
        }
        let order = vec![Order { key: Key::Field(strict("t")), descending: false }];
        let mut asked = Query { order, limit: 1, ..Query::default() };
        let mut seen = Vec::new();
        loop {
            let page = table.ask(&asked).unwrap();
            seen.extend(page.hits.into_iter().map(|hit| hit.record.id));
            let Some(next) = page.next else { break };
            assert!(serde_json::to_string(&next).unwrap().len() < 2_000, "a page token is no place for a record");
            asked.after = Some(next);
        }
        assert_eq!(seen, ["b", "a", "c", "d"], "the same beginning: by id");
        let found = |compare, text: String| {
            let any = vec![(strict("t"), Test::Compare(compare, Scalar::Text(text)))];
            let mut found = table.find(&Query {
                conditions: vec![Condition { any, negate: false }],
                limit: 10,
                ..Query::default()
            });
            found.sort_unstable();
            found
        };
        assert_eq!(found(Compare::Equal, long('2')), ["a"], "filters look at all of it");
        assert_eq!(found(Compare::Greater, long('1')), ["a", "d"]);
        assert_eq!(found(Compare::Greater, "x".repeat(255)), ["a", "b", "c", "d"]);
        assert_eq!(found(Compare::Less, "xy".to_owned()), ["a", "b", "c"]);
    }
}

#[test]
fn what_is_outside_the_bounds_is_refused() {
    use crate::store::{CONDITIONS_MAX, HITS_MAX, IN_MAX, Key, Nearest, OFFSET_MAX, ORDER_MAX, Order, Position};
    let table = Table::new(Vec::new());
    let score = Order { key: Key::Score, descending: true };
    let by_id = Order { key: Key::Id, descending: false };
    let spread = Order { key: Key::Field(strict("a[]")), descending: false };
    let near = |vector: Vec<f32>| Query { nearest: Some(Nearest { vector, at_least: None }), ..Query::default() };
    let place = Position { keys: vec![None], id: "a".to_owned(), sequence: 1 };
    let one = (strict("a"), Test::Present);
    let refused = [
        Query { limit: HITS_MAX + 1, ..Query::default() },
        Query { offset: OFFSET_MAX + 1, ..Query::default() },
        Query { order: vec![by_id; ORDER_MAX + 1], ..Query::default() },
        Query { order: vec![spread], ..Query::default() },
        Query { labels: vec![(String::new(), String::new()); CONDITIONS_MAX + 1], ..Query::default() },
        Query { after: Some(place.clone()), ..Query::default() },
        Query { after: Some(place), order: vec![score], ..near(vec![1.0]) },
        filter(vec![one; CONDITIONS_MAX + 1]),
        filter(vec![]),
        filter(vec![(strict("a"), Test::In(vec![Scalar::Int(1); IN_MAX + 1]))]),
        filter(vec![(strict("a"), is(Compare::Equal, Scalar::Real(f64::NAN)))]),
        near(vec![]),
        near(vec![0.0, 0.0]),
        near(vec![f32::INFINITY]),
        near(vec![1.0; 4_097]),
    ];
    // The sixth is only of another order.
    for (at, asked) in refused.iter().enumerate() {
        let why = table.ask(asked).map(|page| ids(&page));
        assert!(matches!(why, Err(StoreError::Invalid(_))), "{at}: {why:?}");
    }
    let mut without = Table::new(Vec::new());
    without.layout.full_text = false;
    let asked = Query { text: Some(texts::words("a")), limit: 1, ..Query::default() };
    assert!(matches!(without.ask(&asked), Err(StoreError::Invalid(_))));
}

#[test]
fn as_much_as_is_allowed_fits_into_a_statement() {
    let deep = |name: &str| {
        let steps = (0..16).flat_map(|_| [Step::Member(name.repeat(5)), Step::Spread]).collect::<Vec<_>>();
        Path::new(steps).unwrap()
    };
    let indexes = ["a", "b", "c", "d", "e", "f", "g", "h"].map(deep).to_vec();
    let table = Table::new(indexes.clone());
    let many = |at: usize| {
        let values = (0..1_000).map(Scalar::Int).chain([text("t"), Scalar::Bool(true)]).take(1_000).collect();
        (indexes[at % indexes.len()].clone(), Test::In(values))
    };
    assert!(table.find(&filter((0..64).map(many).collect())).is_empty());
    let conditions = (0..64).map(|at| Condition { any: vec![many(at)], negate: at % 2 == 0 }).collect();
    assert!(table.find(&Query { conditions, limit: 1_000, ..Query::default() }).is_empty());
    let one = |at: usize| (indexes[at % 8].clone(), is(Compare::Greater, Scalar::Int(1)));
    assert!(table.find(&filter((0..64).map(one).collect())).is_empty());
    let order = indexes
        .iter()
        .map(|path| crate::store::Order { key: crate::store::Key::Field(path.clone()), descending: true });
    let after = crate::store::Position { keys: vec![Some(Scalar::Int(1)); 8], id: "a".to_owned(), sequence: 1 };
    let conditions = (0..64).map(|at| Condition { any: vec![many(at)], negate: false }).collect();
    let order = order.collect();
    assert!(table.find(&Query { conditions, order, after: Some(after), limit: 9, ..Query::default() }).is_empty());
}
