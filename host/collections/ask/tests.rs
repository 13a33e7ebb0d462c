use super::oracle::{self, Dice, Means, form, matches, rich};
use super::*;
use crate::collections::document::{VectorField, index};
use crate::collections::{BadField, Form, Item};
use crate::store::{Compare, Condition, Key, Path, Phrase, Scalar, Step, Test, Text};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use prost_types::value::Kind as Given;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;
use std::cmp::Ordering;

/// What stands for infinity where serde_json would refuse it.
const LARGEST: &str = "1.7976931348623157e308";

fn parsed(document: &str) -> Json {
    serde_json::from_str(&document.replace("9e999", LARGEST)).unwrap()
}

/// Whether a document matches a condition: what a store does, in as few words as possible.
fn holds(document: &Json, condition: &Condition) -> bool {
    let one = |(path, test): &(Path, Test)| {
        let found = path
            .steps()
            .iter()
            .fold(vec![document], |found, step| found.into_iter().flat_map(|v| step_into(v, step)).collect());
        found.into_iter().any(|value| is(value, test, path.is_loose()))
    };
    condition.any.iter().any(one) != condition.negate
}

fn step_into<'j>(value: &'j Json, step: &Step) -> Vec<&'j Json> {
    match (step, value) {
        (Step::Member(name), Json::Object(members)) => members.get(name).into_iter().collect(),
        (Step::Elements | Step::Spread, Json::Array(all)) => all.iter().collect(),
        (Step::Values, Json::Object(members)) => members.values().collect(),
        (Step::Spread, other) => vec![other],
        _ => Vec::new(),
    }
}

fn is(value: &Json, test: &Test, loose: bool) -> bool {
    let to = |scalar: &Scalar| against(value, scalar, loose);
    match test {
        Test::Compare(compare, scalar) => to(scalar).is_some_and(|order| match compare {
            Compare::Equal => order.is_eq(),
            Compare::NotEqual => order.is_ne(),
            Compare::Greater => order.is_gt(),
            Compare::Less => order.is_lt(),
            Compare::GreaterEqual => order.is_ge(),
            Compare::LessEqual => order.is_le(),
        }),
        Test::In(all) => all.iter().any(|scalar| to(scalar) == Some(Ordering::Equal)),
        Test::Substring(text) => value.as_str().is_some_and(|value| value.contains(text)),
        Test::Present => !value.is_null(),
    }
}

fn against(value: &Json, other: &Scalar, loose: bool) -> Option<Ordering> {
    if value.is_null() || value.is_array() || value.is_object() {
        return None;
    }
    let means = |scalar: &Scalar| match scalar {
        Scalar::Bool(b) => Means::Bool(*b),
        Scalar::Int(n) => Means::Whole((*n).into()),
        Scalar::Real(r) => Means::Real(*r),
        Scalar::Text(t) => Means::Text(t.clone()),
    };
    let (have, meant) = (means(&scalar(value)), means(other));
    match (&have, &meant, loose) {
        (Means::Text(_), Means::Whole(_) | Means::Real(_), false) => Some(Ordering::Greater),
        (Means::Whole(_) | Means::Real(_), Means::Text(_), false) => Some(Ordering::Less),
        _ => oracle::compare(&have, &meant),
    }
}

fn scalar(value: &Json) -> Scalar {
    match value {
        Json::Bool(b) => Scalar::Bool(*b),
        Json::String(t) => Scalar::Text(t.clone()),
        Json::Number(n) if n.is_i64() => Scalar::Int(n.as_i64().unwrap()),
        Json::Number(n) => Scalar::Real(n.as_f64().map(|r| if r.abs() == f64::MAX { r * 2.0 } else { r }).unwrap()),
        other => panic!("{other}"),
    }
}

fn item(descriptor: &MessageDescriptor, bytes: Vec<u8>) -> Item {
    Item { type_url: format!("x/{}", descriptor.full_name()), bytes: bytes.into() }
}

fn json(text: &str) -> Item {
    Item { type_url: String::new(), bytes: text.to_owned().into() }
}

fn named(path: &str) -> String {
    format!("filters[{path:?}]")
}

thread_local! {
    static RICH: MessageDescriptor = rich();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn filters_mean_what_the_contract_says(seed: u64) {
        RICH.with(|rich| {
            let mut dice = Dice(seed);
            let form = form(rich);
            let bytes = dice.message(rich, 0).encode_to_vec();
            let message = DynamicMessage::decode(rich.clone(), bytes.as_slice()).unwrap();
            let indexed = index(&form, &item(rich, bytes), None).unwrap().unwrap();
            let document = parsed(&indexed.document);
            for _ in 0..20 {
                let (filter, path, meant) = dice.filter(rich);
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let built = conditions(&form, std::slice::from_ref(&filter), &named);
                let built = built.unwrap_or_else(|why| panic!("{filter:?}: {why}"));
                let wanted = matches(&message, &path, filter.operator, &meant);
                prop_assert_eq!(holds(&document, &built[0]), wanted, "{:?} {:?} {:?} {}", filter, meant, built, indexed.document);
            }
            Ok(())
        })?;
    }

    #[test]
    fn orders_are_those_of_the_types(seed: u64) {
        RICH.with(|rich| {
            let mut dice = Dice(seed);
            let form = form(rich);
            let bytes = [dice.message(rich, 0).encode_to_vec(), dice.message(rich, 0).encode_to_vec()];
            let message = |bytes: &Vec<u8>| DynamicMessage::decode(rich.clone(), bytes.as_slice()).unwrap();
            let document = |bytes: &Vec<u8>| parsed(&index(&form, &item(rich, bytes.clone()), None).unwrap().unwrap().document);
            let (messages, documents) = (bytes.each_ref().map(message), bytes.each_ref().map(document));
            for _ in 0..20 {
                let (path, _) = dice.path(rich);
                let quoted: Vec<String> = path.iter().map(|name| format!("\"{name}\"")).collect();
                let Ok(built) = order(&form, &quoted.join("."), false) else { continue };
                let Key::Field(at) = &built[0].key else { panic!("{built:?}") };
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let Some(wanted) = oracle::order_of(&messages[0], &messages[1], &path) else { continue };
                let value = |document| at.steps().iter().try_fold(document, |value, step| step_into(value, step).into_iter().next());
                let found = match (value(&documents[0]), value(&documents[1])) {
                    (Some(a), Some(b)) => against(a, &scalar(b), false).unwrap(),
                    (a, b) => a.is_some().cmp(&b.is_some()),
                };
                prop_assert_eq!(found, wanted, "{:?} {:?}", path, documents);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_message_in_parts_is_the_message_that_a_parser_makes_of_it(seed: u64) {
        RICH.with(|rich| {
            let mut dice = Dice(seed);
            let mut bytes = dice.message(rich, 0).encode_to_vec();
            bytes.extend(dice.message(rich, 0).encode_to_vec());
            let whole = DynamicMessage::decode(rich.clone(), bytes.as_slice()).unwrap().encode_to_vec();
            let form = form(rich);
            let (a, b) = (index(&form, &item(rich, bytes), None).unwrap(), index(&form, &item(rich, whole), None).unwrap());
            prop_assert_eq!(parsed(&a.unwrap().document), parsed(&b.unwrap().document));
            Ok(())
        })?;
    }

    #[test]
    fn any_bytes_are_a_record_or_a_bad_field(bytes: Vec<u8>) {
        RICH.with(|rich| {
            if let Err(why) = index(&form(rich), &item(rich, bytes.clone()), None) {
                prop_assert_eq!(why.field, "item.value");
            }
            let _ = index(&Form::Loose, &Item { type_url: String::new(), bytes: bytes.into() }, None);
            Ok(())
        })?;
    }

    #[test]
    fn any_path_resolves_or_is_refused(path: String, typed: bool) {
        RICH.with(|rich| {
            let form = if typed { form(rich) } else { Form::Loose };
            let _ = order(&form, &path, false);
            let _ = indexes(&form, std::slice::from_ref(&path));
            let filter = FieldFilter { path, operator: Operator::Exists, value: None };
            let _ = conditions(&form, &[filter], &named);
        });
    }
}

fn number(number: f64) -> Value {
    Value { kind: Some(Given::NumberValue(number)) }
}

fn words(text: &str) -> Value {
    Value { kind: Some(Given::StringValue(text.to_owned())) }
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Given::ListValue(ListValue { values })) }
}

fn object(members: Vec<(&str, Value)>) -> Value {
    let fields = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Value { kind: Some(Given::StructValue(Struct { fields })) }
}

fn filter(path: &str, operator: Operator, value: Value) -> FieldFilter {
    FieldFilter { path: path.to_owned(), operator, value: Some(value) }
}

fn found(text: &str, filter: FieldFilter) -> bool {
    let indexed = index(&Form::Loose, &json(text), None).unwrap().unwrap();
    let built = conditions(&Form::Loose, &[filter], &named).unwrap();
    holds(&parsed(&indexed.document), &built[0])
}

fn refused(form: &Form, filter: FieldFilter) -> BadField {
    conditions(form, std::slice::from_ref(&filter), &named).expect_err(&format!("{filter:?}"))
}

fn path(form: &Form, path: &str) -> Result<Vec<Step>, String> {
    let filter = FieldFilter { path: path.to_owned(), operator: Operator::Exists, value: None };
    let mut built = conditions(form, &[filter], &named).map_err(|why| why.problem)?;
    Ok(built.remove(0).any.remove(0).0.steps().to_vec())
}

fn member(name: &str) -> Step {
    Step::Member(name.to_owned())
}

#[test]
fn json_records_compare_values_of_one_kind_only() {
    let record =
        r#"{"n": 5, "t": "5", "b": true, "z": null, "l": ["foobar", 1], "e": [], "o": {"x": [{"y": 1}, {"y": 2}]}}"#;
    let is = |path, operator, value| found(record, filter(path, operator, value));
    assert!(is("n", Operator::Equals, number(5.0)) && !is("n", Operator::Equals, words("5")));
    assert!(is("t", Operator::Equals, words("5")) && !is("t", Operator::NotEquals, number(5.0)));
    assert!(!is("b", Operator::Equals, number(1.0)));
    assert!(is("o.x.y", Operator::Equals, number(2.0)) && !is("o.x.y", Operator::GreaterThan, number(2.0)));
    assert!(is("l", Operator::Contains, words("foobar")) && !is("l", Operator::Contains, words("foo")));
    assert!(is("t", Operator::Contains, words("5")) && !is("n", Operator::Contains, words("5")));
    assert!(is("e", Operator::Exists, words("")) && is("z", Operator::NotExists, words("")));
    assert!(is("n", Operator::In, list(vec![words("x"), number(5.0)])) && !is("n", Operator::In, list(vec![])));
}

#[test]
fn paths_lead_where_the_type_says() {
    RICH.with(|rich| {
        let form = form(rich);
        let at = |text| path(&form, text);
        assert_eq!(at("camelCase"), at("camel_case"));
        assert_eq!(at("inner.next.name"), Ok(vec![member("inner"), member("next"), member("name")]));
        assert_eq!(at("lines.tags"), Ok(vec![member("lines"), Step::Elements, member("tags")]));
        assert_eq!(at("labels.a.b"), Ok(vec![member("labels"), member("a.b")]));
        assert_eq!(at("labels.\"a.b\""), at("labels.a.b"));
        assert_eq!(at("parts.\"a.b\".n"), Ok(vec![member("parts"), member("a.b"), member("n")]));
        assert_eq!(at("counts.07"), Ok(vec![member("counts"), member("7")]));
        assert_eq!(at("extra.@type"), Ok(vec![member("extra"), member("@type")]));
        assert_eq!(at("meta.a.b"), Ok(vec![member("meta"), member("a"), Step::Spread, member("b")]));
        for (bad, why) in [
            ("titel", "there is no field \"titel\" in t.Rich; did you mean \"title\"?"),
            ("title.x", "a single value"),
            ("at.seconds", "google.protobuf.Timestamp"),
            ("counts.x", "no key of this map"),
            ("", "is empty"),
            ("inner..n", "is empty"),
            ("\"title", "not closed"),
            ("\"title\"x", "only a dot"),
            ("labels.a\"b", "quotes"),
            ("labels.a\u{0}b", "control"),
            ("a') OR 1=1 --", "there is no field"),
        ] {
            assert!(at(bad).is_err_and(|problem| problem.contains(why)), "{bad}: {:?}", at(bad));
        }
        assert!(at(&vec!["inner"; 100_000].join(".")).is_err());
    });
    let loose = |text| path(&Form::Loose, text);
    assert_eq!(loose("a.b"), Ok(vec![member("a"), Step::Spread, member("b")]));
    assert_eq!(loose("$.#-1]"), Ok(vec![member("$"), Step::Spread, member("#-1]")]));
    assert!(loose("a\\").is_err() && loose("a..b").is_err() && loose(&"a.".repeat(17)).is_err());
}

#[test]
fn values_that_a_field_cannot_be_compared_with_are_refused() {
    let equals = |path, value| filter(path, Operator::Equals, value);
    let bool = || Value { kind: Some(Given::BoolValue(true)) };
    RICH.with(|rich| {
        let form = form(rich);
        for bad in [
            equals("i64", words("five")),
            equals("i64", words("0x5")),
            equals("i64", words("")),
            equals("i64", bool()),
            equals("i64", number(f64::NAN)),
            equals("dbl", words("inf")),
            equals("flag", number(1.0)),
            equals("title", number(1.0)),
            equals("title", words(&"x".repeat((64 << 10) + 1))),
            equals("color", words("PINK")),
            equals("at", words("yesterday")),
            equals("took", words("1 hour")),
            equals("raw", words("not base64!")),
            filter("raw", Operator::LessThan, words("AA")),
            filter("raw", Operator::Contains, words("AA")),
            filter("i64", Operator::Contains, number(1.0)),
            filter("title", Operator::Contains, words(&"x".repeat(257))),
            filter("i64", Operator::In, number(1.0)),
            filter("i64", Operator::In, list(vec![number(1.0); 1_001])),
            filter("inner", Operator::Equals, number(1.0)),
            equals("i64", Value { kind: None }),
            FieldFilter { path: "i64".into(), operator: Operator::Equals, value: None },
        ] {
            let named = format!("filters[{:?}]", bad.path);
            assert_eq!(refused(&form, bad).field, named);
        }
        let many = vec![filter("i64", Operator::Equals, number(1.0)); 65];
        assert!(conditions(&form, &many[..64], &named).is_ok() && conditions(&form, &many, &named).is_err());
    });
    let null = Value { kind: Some(Given::NullValue(0)) };
    for bad in [null, object(vec![]), list(vec![]), number(f64::INFINITY), number(f64::NAN)] {
        assert_eq!(refused(&Form::Loose, equals("a", bad)).field, "filters[\"a\"]");
    }
}

#[test]
fn a_list_filter_is_a_value_or_an_operation() {
    let read = |members: Vec<(&str, Value)>| {
        let fields = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        list_filter(&Struct { fields })
    };
    let above = object(vec![("op", words("GREATER_THAN")), ("value", number(3.0))]);
    let there = object(vec![("op", words("OP_EXISTS"))]);
    let wanted = vec![
        filter("a", Operator::GreaterThan, number(3.0)),
        FieldFilter { path: "b".into(), operator: Operator::Exists, value: None },
        filter("c", Operator::Equals, number(1.0)),
    ];
    assert_eq!(read(vec![("a", above), ("b", there), ("c", number(1.0))]), Ok(wanted));
    for bad in [
        object(vec![]),
        object(vec![("op", words("LIKE")), ("value", words("x"))]),
        object(vec![("op", number(1.0)), ("value", words("x"))]),
        object(vec![("value", words("x"))]),
        object(vec![("op", words("EQUALS")), ("value", words("x")), ("other", words("y"))]),
        object(vec![("op", words("EQUALS")), ("value", object(vec![]))]),
        object(vec![("op", words("IN")), ("value", list(vec![number(1.0); 100_000]))]),
        (0..100).fold(number(1.0), |inside, _| object(vec![("value", inside)])),
        (0..100).fold(number(1.0), |inside, _| list(vec![inside])),
    ] {
        assert_eq!(read(vec![("a.b", bad)]).unwrap_err().field, "filter[\"a.b\"]");
    }
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    assert!(read(many.iter().map(|name| (name.as_str(), number(1.0))).collect()).is_err());
}

#[test]
fn an_order_is_made_of_entries_that_have_one() {
    RICH.with(|rich| {
        let form = form(rich);
        let keys = |text: &str, descending| {
            let order = order(&form, text, descending)?;
            Ok::<_, BadField>(order.into_iter().map(|order| (order.key, order.descending)).collect::<Vec<_>>())
        };
        let field = |steps| Key::Field(Path::new(steps).unwrap());
        assert_eq!(keys(" ", false), Ok(vec![]));
        assert_eq!(
            keys("camelCase DESC, inner.n asc,id ,created_at  desc, \"id\", meta.a", true),
            Ok(vec![
                (field(vec![member("camel_case")]), true),
                (field(vec![member("inner"), member("n")]), false),
                (Key::Id, true),
                (Key::CreatedAt, true),
                (field(vec![member("id")]), true),
                (field(vec![member("meta"), member("a"), Step::Spread]), true),
            ])
        );
        for bad in [
            "tags",
            "lines.n",
            "labels",
            "inner",
            "raw",
            "title,title",
            "camelCase,camel_case desc",
            "title,",
            ",",
            "desc",
            "title upwards",
            "x') DESC; DROP TABLE records;--",
            &vec!["id"; 100_000].join(","),
            "opens",
        ] {
            assert_eq!(keys(bad, false).map_err(|why| why.field), Err("order_by".to_owned()), "{bad}");
        }
        let nine = ["title", "flag", "i32", "i64", "u32", "u64", "s64", "x64", "real"];
        assert!(keys(&nine[..8].join(","), false).is_ok() && keys(&nine.join(","), false).is_err());
    });
}

#[test]
fn an_index_is_on_one_value() {
    RICH.with(|rich| {
        let form = form(rich);
        let of =
            |form: &Form, fields: &[&str]| indexes(form, &fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        let found = of(&form, &["camelCase", "inner.n", "at", "w_int", "raw", "embedding:vector", "meta.a"]).unwrap();
        assert_eq!((found.paths.len(), found.vector), (6, Some(VectorField::Typed(vec![34]))));
        let loose = of(&Form::Loose, &["a.b", "v.w:vector"]).unwrap();
        assert_eq!(loose.paths[0].steps(), [member("a"), Step::Spread, member("b"), Step::Spread]);
        assert_eq!(loose.vector, Some(VectorField::Loose(vec!["v".into(), "w".into()])));
        for bad in [
            "title",
            "title ",
            "camelCase",
            "tags",
            "lines.n",
            "labels.a",
            "labels",
            "parts.a.n",
            "inner",
            "values:vector",
            "title:vector",
            "lines.n:vector",
            ":vector",
            "",
            "meta.\"a-b\"",
            "extra.@type",
            "meta.é",
        ] {
            let refused = of(&form, &["title", "camel_case", "embedding:vector", bad]).unwrap_err();
            assert_eq!(refused.field, "indexed_fields[3]", "{bad}");
        }
        for bad in ["a-b", "a') --", &"x".repeat(65), "a.\"b c\""] {
            assert_eq!(of(&Form::Loose, &[bad]).unwrap_err().field, "indexed_fields[0]");
        }
        let many: Vec<String> = (0..10_000).map(|n| format!("f{n}")).collect();
        assert!(indexes(&Form::Loose, &many[..32]).is_ok());
        assert_eq!(indexes(&Form::Loose, &many).unwrap_err().field, "indexed_fields");
    });
}

fn phrase(words: &str) -> Text {
    Text::Phrase(Phrase { words: words.to_owned(), prefix: false, initial: false })
}

#[test]
fn text_expressions_bind_as_in_fts5() {
    let and = |a, b| Text::And(Box::new(a), Box::new(b));
    let or = |a, b| Text::Or(Box::new(a), Box::new(b));
    let not = |a, b| Text::Not(Box::new(a), Box::new(b));
    let read = |expression: &str| text(expression).unwrap().unwrap();
    assert_eq!(text(""), Ok(None));
    assert_eq!(
        read("a OR b AND c NOT d e"),
        or(phrase("a"), and(phrase("b"), not(phrase("c"), and(phrase("d"), phrase("e")))))
    );
    assert_eq!(read("a NOT b NOT c"), not(not(phrase("a"), phrase("b")), phrase("c")));
    assert_eq!(read("(a OR b) AND and"), and(or(phrase("a"), phrase("b")), phrase("and")));
    assert_eq!(read("\"say \"\"hi\"\"\" + \"AND\""), phrase("say \"hi\" AND"));
    assert_eq!(read("^eng*"), Text::Phrase(Phrase { words: "eng".into(), prefix: true, initial: true }));
    let near = |words: &str| Phrase { words: words.into(), prefix: false, initial: false };
    assert_eq!(read("NEAR(a \"b c\", 3)"), Text::Near(vec![near("a"), near("b c")], 3));
    assert_eq!(read("NEAR(a b)"), Text::Near(vec![near("a"), near("b")], 10));
    assert_eq!(read("NEAR"), phrase("NEAR"));
    assert_eq!(read("\"a\u{e000}b\""), phrase("a b"), "no phrase finds the break between two texts");
}

#[test]
fn a_malformed_expression_says_where() {
    for (expression, why) in [
        ("a AND", "at byte 5: expected a word or a phrase in quotes, found the end"),
        ("\"a", "at byte 0: a quote is not closed"),
        ("*", "at byte 0"),
        ("a )", "at byte 2"),
        ("(a", "at byte 2"),
        ("col:x", "there are no columns"),
        ("col : x", "there are no columns"),
        ("- col : x", "there are no columns"),
        ("{a b} : x", "there are no columns"),
        ("a (b)", "at byte 2"),
        ("a.b", "\".\" has to stand in quotes"),
        ("NEAR(a b, 2147483647)", "more than 10000 words"),
        ("NEAR(a b, 99999999999999999999)", "more than 10000 words"),
        ("NEAR(a b, c)", "expected a number"),
        ("a* + b", "only its last word can be a prefix"),
        (&"(".repeat(25), "deeper than 24"),
        (&"a ".repeat(257), "more than 256 words"),
        (&format!("\"{}\"", "a ".repeat(257)), "more than 256 words"),
        (&"a".repeat((4 << 10) + 1), "4097 bytes"),
    ] {
        let problem = text(expression).unwrap_err();
        assert!(problem.field == "full_text" && problem.problem.contains(why), "{expression}: {problem}");
    }
    assert!(text(&format!("{}a{}", "(".repeat(24), ")".repeat(24))).is_ok());
    assert!(text(&vec!["a"; 256].join(" NOT ")).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// What SQLite accepts is accepted and the other way round, but for what the module says: columns, and a `*` inside of
    /// a phrase.
    #[test]
    fn expressions_are_accepted_as_sqlite_accepts_them(
        parts in prop::collection::vec(prop::sample::select(vec![
            "a", "b", "\"c d\"", "\"\"", "\"e\"\"f\"", "AND", "OR", "NOT", "NEAR", "NEAR(", "(", ")", "*", "+", "^", ",", "5",
            "é", " ", "\t", "\u{1a}", "\"...\"", "NEAR(a b", ", 7)", ".", "\"", ":", "-", "{", "}", "_", "and", "\u{b}",
        ]), 0..12),
        spaced: bool,
    ) {
        let expression = parts.join(if spaced { " " } else { "" });
        let database = rusqlite::Connection::open_in_memory().unwrap();
        database.execute_batch("CREATE VIRTUAL TABLE f USING fts5 (x)").unwrap();
        let accepts = |expression: &str| {
            let counted = database.query_row("SELECT count(*) FROM f WHERE f MATCH ?1", [expression], |row| row.get::<_, i64>(0));
            counted.is_ok()
        };
        match text(&expression) {
            Ok(None) => prop_assert!(expression.is_empty()),
            Ok(Some(_)) => prop_assert!(accepts(&expression), "{:?} is refused by SQLite", expression),
            Err(why) if why.problem.contains("only its last word") => {}
            Err(why) if why.problem.contains("no columns") => prop_assert!(!accepts(&expression)),
            Err(why) => prop_assert!(!accepts(&expression), "{:?} is accepted by SQLite: {}", expression, why),
        }
    }

    #[test]
    fn any_text_is_an_expression_or_a_bad_field(expression: String) {
        if let Err(why) = text(&expression) {
            prop_assert_eq!(why.field, "full_text");
        }
    }
}
