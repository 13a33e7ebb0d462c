use super::*;
use crate::collections::ask::oracle::{Dice, form, rich};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::DynamicMessage;

fn typed(bytes: &[u8]) -> Item {
    Item { type_url: "type.example/t.Rich".to_owned(), bytes: bytes.to_vec().into() }
}

fn json(text: impl Into<String>) -> Item {
    Item { type_url: String::new(), bytes: text.into().into() }
}

/// Fields in the JSON form of protobuf, as bytes.
fn encoded(text: &str) -> Vec<u8> {
    DynamicMessage::deserialize(rich(), &mut serde_json::Deserializer::from_str(text)).unwrap().encode_to_vec()
}

fn documented(text: &str) -> Indexed {
    *index(&form(&rich()), &typed(&encoded(text)), None).unwrap().unwrap()
}

fn problem(item: &Item) -> BadField {
    index(&form(&rich()), item, None).unwrap_err()
}

/// A field of that number that holds `content`.
fn run(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut out);
    out
}

#[test]
fn a_document_has_each_value_in_a_form_that_compares_as_its_type() {
    let document = documented(
        r#"{"i64": "-9223372036854775808", "u64": "18446744073709551615", "x64": "7", "real": 0.1, "dbl": "Infinity",
            "raw": "AQI=", "color": "GREEN", "maybe": "0", "maybeDbl": "NaN", "at": "2024-02-29T23:59:59.5Z",
            "took": "-0.5s", "wInt": "5", "wUnsigned": "6", "camelCase": "c", "mask": "a,bC", "counts": {"-7": "8"},
            "meta": {"b": [1, null, true], "a": "x"}, "lines": [{"name": "l"}], "part": {}}"#,
    )
    .document;
    assert_eq!(
        document,
        concat!(
            r#"{"title":"","flag":false,"i32":0,"i64":-9223372036854775808,"u32":0,"u64":"18446744073709551615","#,
            r#""s64":0,"x64":"00000000000000000007","real":0.10000000149011612,"dbl":9e999,"raw":"x:0102","color":2,"#,
            r#""maybe":0,"maybe_dbl":"NaN","part":{"name":"","n":0,"u":"00000000000000000000"},"#,
            r#""lines":[{"name":"l","n":0,"u":"00000000000000000000"}],"counts":{"-7":8},"#,
            r#""at":"2024-02-29T23:59:59.500000000Z","took":"315575999999.500000000","w_int":5,"#,
            r#""meta":{"a":"x","b":[1.0,null,true]},"mask":"a,bC","camel_case":"c","#,
            r#""w_unsigned":"00000000000000000006","s32":0,"sx64":0,"id":false}"#,
        )
    );
}

#[test]
fn texts_are_all_strings_and_nothing_else() {
    let text = documented(
        r#"{"title": "one", "raw": "dHdv", "color": "RED", "note": "", "inner": {"name": "th\uE000ree"},
            "tags": ["four", "five"], "labels": {"key": "six"}, "at": "2024-01-01T00:00:00Z", "wText": "seven",
            "meta": {"k": ["eight", 1]}}"#,
    )
    .text;
    assert_eq!(
        text.split(" \u{e000} ").collect::<Vec<_>>(),
        ["one", "th ree", "four", "five", "six", "seven", "eight"]
    );
}

#[test]
fn a_moment_or_a_span_of_no_calendar_still_sorts() {
    let moment = |seconds: i128, nanos| {
        let mut text = String::new();
        time::push_moment(seconds, nanos, &mut text);
        text
    };
    let span = |seconds: i128, nanos| {
        let mut text = String::new();
        time::push_span(seconds, nanos, &mut text);
        text
    };
    let seconds = [i64::MIN, -315_576_000_001, -62_135_596_801, -62_135_596_800, -1, 0, 951_782_399, 253_402_300_799]
        .into_iter()
        .chain([253_402_300_800, 315_576_000_001, i64::MAX]);
    let all: Vec<(i128, i64)> = seconds.flat_map(|s| [(s.into(), 0), (s.into(), 999_999_999)]).collect();
    for pair in all.windows(2) {
        let ((a, an), (b, bn)) = (pair[0], pair[1]);
        assert!(moment(a, an) < moment(b, bn) && span(a, an) < span(b, bn), "{a} {b}");
    }
    assert_eq!(moment(0, -1), "1969-12-31T23:59:59.999999999Z");
    assert_eq!(moment(951_782_400, 0), "2000-02-29T00:00:00.000000000Z");
    assert_eq!(moment(5, i64::from(i32::MAX)), moment(7, 147_483_647));
}

#[test]
fn moments_are_read_as_they_are_written_and_nonsense_is_not() {
    for text in ["0001-01-01T00:00:00.000000000Z", "2000-02-29T12:30:01.000000009Z", "9999-12-31T23:59:59.999999999Z"] {
        assert_eq!(read_moment(text).as_deref(), Some(text));
    }
    assert_eq!(read_moment("2024-01-01T00:00:00.5-01:30").as_deref(), Some("2024-01-01T01:30:00.500000000Z"));
    for nonsense in [
        "",
        "2024-01-01",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:00",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00.0000000001Z",
        "0000-01-01T00:00:00Z",
        "2024-1-01T00:00:00Z",
        "2024-01-01T00:00:00+25:00",
        "2024-01-01T00:00:00Zé",
        "é024-01-01T00:00:00Z",
        "2024-13-01T00:00:00Z",
    ] {
        assert_eq!(read_moment(nonsense), None, "{nonsense}");
    }
    for nonsense in ["", "s", "1", "1.s", ".5s", "--1s", "1e3s", "1.0000000001s", "999999999999999999999s"] {
        assert_eq!(read_span(nonsense), None, "{nonsense}");
    }
}

#[test]
fn an_any_shows_its_type_and_the_fields_of_a_known_one() {
    let any = |url: &str, value: &[u8]| run(33, &[run(1, url.as_bytes()), run(2, value)].concat());
    let shown = |bytes: &[u8]| {
        let indexed = index(&form(&rich()), &typed(bytes), None).unwrap().unwrap();
        let extra = indexed.document.split_once("\"extra\":").unwrap().1.split_once(",\"camel_case\"").unwrap().0;
        (extra.to_owned(), indexed.text.clone())
    };
    let inner = run(1, b"n");
    let known = r#"{"@type":"x/t.Inner","name":"n","n":0,"u":"00000000000000000000"}"#.to_owned();
    assert_eq!(shown(&any("x/t.Inner", &inner)), (known, "n".to_owned()));
    let broken = [inner.as_slice(), b"\x0a"].concat();
    assert_eq!(shown(&any("x/t.Inner", &broken)), (r#"{"@type":"x/t.Inner"}"#.to_owned(), String::new()));
    assert_eq!(shown(&any("x/t.Other", &inner)).0, r#"{"@type":"x/t.Other"}"#);
    let duration = shown(&any("x/google.protobuf.Duration", b"\x08\x01")).0;
    assert_eq!(duration, r#"{"@type":"x/google.protobuf.Duration","value":"315576000001.000000000"}"#);
}

#[test]
fn any_nests_ten_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let layer = |inside: Vec<u8>| [run(1, b"/google.protobuf.Any"), run(2, &inside)].concat();
        typed(&run(33, &(0..depth).fold(Vec::new(), |inside, _| layer(inside))))
    };
    // The innermost layer holds one more, an empty one.
    assert!(index(&form(&rich()), &nested(ANY_NESTED_MAX - 1), None).is_ok());
    for depth in [ANY_NESTED_MAX, 50, 5_000] {
        assert!(problem(&nested(depth)).problem.contains("nested deeper than 10"));
    }
}

#[test]
fn a_type_url_names_the_type_after_its_last_slash() {
    for url in ["t.Rich", "/t.Rich", "a/b/t.Rich"] {
        assert!(index(&form(&rich()), &Item { type_url: url.into(), ..typed(b"") }, None).is_ok());
    }
    for url in ["", "t.Inner", "t.Rich/", "x/.t.Rich", &"x".repeat(64 << 10), "\0/t.Rich"] {
        assert_eq!(problem(&Item { type_url: url.to_owned(), ..typed(b"") }).field, "item.type_url");
    }
    assert!(index(&Form::Loose, &json("{}"), None).unwrap().is_some());
    let long = Item { type_url: "x".repeat(TYPE_URL_MAX + 1), ..json("{}") };
    assert!(index(&Form::Loose, &long, None).is_err());
}

#[test]
fn bytes_of_another_kind_name_the_field_that_is_wrong() {
    assert!(problem(&typed(&run(1, b"\xff"))).problem.contains("field title: not valid UTF-8"));
    for bytes in [&b"\x0a"[..], b"\x08", b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0c", b"\x07"] {
        assert_eq!(problem(&typed(bytes)).field, "item.value");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let inner = (1..depth).fold(Vec::new(), |inside, _| run(4, &inside));
        typed(&run(19, &inner))
    };
    assert!(index(&form(&rich()), &nested(100), None).is_ok());
    assert!(problem(&nested(101)).problem.contains("deeper than 100"));
    assert!(problem(&nested(10_000)).problem.contains("deeper than 100"));
    let json_of = |depth: usize| json(format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1)));
    assert!(index(&Form::Loose, &json_of(100), None).unwrap().is_some());
    for depth in [101, 10_000] {
        assert!(index(&Form::Loose, &json_of(depth), None).unwrap_err().problem.contains("deeper than 100"));
    }
}

#[test]
fn values_are_counted_whether_on_the_wire_or_not() {
    let many = |part: &[u8], count: usize| typed(&part.repeat(count));
    let too_many = |item: &Item| problem(item).problem.contains("more than 200000 values");
    assert!(too_many(&many(&[0xa2, 1, 0], 2_000_000 / 3)), "empty messages: their defaults are values");
    assert!(too_many(&typed(&run(21, &vec![1; 200_001]))), "packed elements");
    assert!(too_many(&many(&[0x10, 1], 200_001)), "a field again and again");
    assert!(too_many(&many(&run(24, &run(1, b"k")), 1_000_000)), "one key again and again");
    assert!(too_many(&typed(&run(31, &run(1, &[]).repeat(1_000_000)))), "members of a Struct");
    let unknown = index(&form(&rich()), &many(&run(1000, &[0; 64]), 50_000), None).unwrap().unwrap();
    assert!(
        unknown.document.len() < 400 && unknown.text.is_empty(),
        "what the type does not know is in the bytes only"
    );
    let list = json(format!("{{\"a\":[{}1]}}", "1,".repeat(200_000)));
    assert!(index(&Form::Loose, &list, None).unwrap_err().problem.contains("more than 200000 values"));
    assert!(index(&form(&rich()), &typed(&run(1, &[b'a'; 8 << 20])), None).is_ok());
    let escaped = typed(&run(38, &[1; 3 << 20]));
    assert!(problem(&escaped).problem.contains("longer than 12582912 bytes"));
}

#[test]
fn json_records_are_their_own_document() {
    let indexed = index(&Form::Loose, &json(" {\"b\": \"x\", \"a\": [1, {\"c\": \"y\"}], \"b\": \"z\"}\n"), None);
    let indexed = indexed.unwrap().unwrap();
    assert_eq!(indexed.document, r#"{"a":[1,{"c":"y"}],"b":"z"}"#);
    let mut texts: Vec<_> = indexed.text.split(" \u{e000} ").collect();
    texts.sort_unstable();
    assert_eq!(texts, ["y", "z"]);
    for opaque in ["", "[]", "1", "{", "{\"a\":}", "{} {}", "null", "\u{feff}{}"] {
        assert_eq!(index(&Form::Loose, &json(opaque), None), Ok(None), "{opaque}");
    }
    let bytes = Item { type_url: String::new(), bytes: b"{\"a\":\"\xff\"}"[..].into() };
    assert_eq!(index(&Form::Loose, &bytes, None), Ok(None));
}

#[test]
fn vectors_are_finite_and_of_a_length_that_can_be() {
    let field = VectorField::Typed(vec![34]);
    let vector = |numbers: &[f32]| {
        let packed: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        index(&form(&rich()), &typed(&run(34, &packed)), Some(&field)).map(|indexed| indexed.unwrap().vector)
    };
    assert_eq!(vector(&[1.0, -2.5]), Ok(Some(vec![1.0, -2.5])));
    assert_eq!(vector(&[]), Ok(None));
    assert!(vector(&vec![0.5; DIMENSIONS_MAX]).is_ok());
    for refused in [vec![f32::NAN], vec![f32::INFINITY], vec![0.5; DIMENSIONS_MAX + 1]] {
        assert_eq!(vector(&refused).unwrap_err().field, "item.value");
    }
    let doubles = VectorField::Typed(vec![35]);
    let large = typed(&run(35, &1e300_f64.to_le_bytes()));
    assert!(index(&form(&rich()), &large, Some(&doubles)).is_err(), "it is infinite once it is a float");
    let loose = VectorField::Loose(vec!["a".into(), "v".into()]);
    let loose = |text: &str| index(&Form::Loose, &json(text), Some(&loose)).map(|indexed| indexed.unwrap().vector);
    assert_eq!(loose("{\"a\": {\"v\": [1, 2.5]}}"), Ok(Some(vec![1.0, 2.5])));
    for none in ["{}", "{\"a\": 1}", "{\"a\": {\"v\": [1, \"2\"]}}", "{\"a\": {\"v\": []}}"] {
        assert_eq!(loose(none), Ok(None));
    }
}

fn merged(current: &str, item: &str, mask: &[&str]) -> Result<String, BadField> {
    let mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
    let rich = rich();
    let merged = merge(&form(&rich), &typed(&encoded(current)), &typed(&encoded(item)), &mask)?;
    let message = DynamicMessage::decode(rich, merged.bytes).unwrap();
    let mut out = serde_json::Serializer::new(Vec::new());
    message.serialize_with_options(&mut out, &prost_reflect::SerializeOptions::new()).unwrap();
    Ok(String::from_utf8(out.into_inner()).unwrap())
}

#[test]
fn an_update_changes_the_named_parts_only() {
    let cases: &[(&str, &str, &[&str], &str)] = &[
        (r#"{"title":"a","i32":1}"#, r#"{"title":"b","i32":2}"#, &["title"], r#"{"title":"b","i32":1}"#),
        (r#"{"title":"a","i32":1}"#, "{}", &["title"], r#"{"i32":1}"#),
        (r#"{"camelCase":"a"}"#, r#"{"camelCase":"b"}"#, &["camelCase"], r#"{"camelCase":"b"}"#),
        (
            r#"{"inner":{"name":"a","n":"1"}}"#,
            r#"{"inner":{"name":"b"}}"#,
            &["inner.n", "inner.name"],
            r#"{"inner":{"name":"b"}}"#,
        ),
        ("{}", r#"{"inner":{"name":"b","n":"1"}}"#, &["inner.name"], r#"{"inner":{"name":"b"}}"#),
        ("{}", "{}", &["inner.next.name"], "{}"),
        (r#"{"inner":{"next":{"n":"1"}}}"#, "{}", &["inner.next.n"], r#"{"inner":{"next":{}}}"#),
        (
            r#"{"labels":{"a":"1","b.c":"2"}}"#,
            r#"{"labels":{"b.c":"3"}}"#,
            &["labels.b.c", "labels.a"],
            r#"{"labels":{"b.c":"3"}}"#,
        ),
        (
            r#"{"parts":{"a":{"name":"x","n":"1"}}}"#,
            r#"{"parts":{"a":{"n":"2"}}}"#,
            &["parts.a.n"],
            r#"{"parts":{"a":{"name":"x","n":"2"}}}"#,
        ),
        ("{}", r#"{"parts":{"a":{"n":"2","name":"x"}}}"#, &["parts.a.n"], r#"{"parts":{"a":{"n":"2"}}}"#),
        (r#"{"counts":{"7":"1"}}"#, r#"{"counts":{"7":"2"}}"#, &["counts.07"], r#"{"counts":{"7":"2"}}"#),
        (r#"{"numbers":["1","2"]}"#, r#"{"numbers":["3"]}"#, &["numbers"], r#"{"numbers":["3"]}"#),
        (r#"{"word":"a"}"#, r#"{"number":"3"}"#, &["number"], r#"{"number":"3"}"#),
        (r#"{"word":"a"}"#, "{}", &["number"], r#"{"word":"a"}"#),
        (r#"{"word":"a"}"#, r#"{"part":{"n":"1"}}"#, &["part.n"], r#"{"part":{"n":"1"}}"#),
        (
            r#"{"meta":{"a":{"b":1},"c":2}}"#,
            r#"{"meta":{"a":{"b":3}}}"#,
            &["meta.a.b"],
            r#"{"meta":{"a":{"b":3.0},"c":2.0}}"#,
        ),
        (r#"{"open":{"a":1}}"#, r#"{"open":{"a":"x"}}"#, &["open.a"], r#"{"open":{"a":"x"}}"#),
        (
            r#"{"title":"a"}"#,
            r#"{"inner":{"name":"b"}}"#,
            &["inner", "inner.n", "inner"],
            r#"{"title":"a","inner":{"name":"b"}}"#,
        ),
    ];
    for (current, item, mask, wanted) in cases {
        let sorted = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let found = merged(current, item, mask).unwrap();
        assert_eq!(sorted(&found), sorted(wanted), "{current} {item} {mask:?}");
    }
}

#[test]
fn an_update_of_what_is_not_there_is_refused() {
    for path in [
        "id",
        "",
        "nothing",
        "title.x",
        "inner.nothing",
        "lines.name",
        "lines.0",
        "at.seconds",
        "counts.x",
        "extra.name",
        "w_int.value",
        "labels.",
        "\"title",
        "inner.\"n\"x",
        &"inner.next".repeat(40),
    ] {
        assert_eq!(merged("{}", "{}", &[path]).unwrap_err().field, "update_mask", "{path}");
    }
    assert!(merged("{\"id\":true}", "{}", &["\"id\""]).is_ok());
    assert!(merged("{}", "{}", &["title"; 10_000]).unwrap_err().problem.contains("10000 paths"));
    let wrong = Item { type_url: "x/t.Inner".into(), ..typed(b"") };
    assert_eq!(check(&form(&rich()), &wrong).unwrap_err().field, "item.type_url");
    let old = typed(&run(1, b"\xff"));
    assert_eq!(merge(&form(&rich()), &old, &typed(b""), &["title".into()]).unwrap_err().field, "update_mask");
}

#[test]
fn unknown_fields_survive_an_update() {
    let current = typed(&[run(1000, b"kept"), run(19, &[run(1000, b"too"), run(1, b"a")].concat())].concat());
    let update = typed(&[run(1000, b"not taken"), run(19, &run(1, b"b"))].concat());
    let merged = merge(&form(&rich()), &current, &update, &["inner.name".into()]).unwrap();
    assert_eq!(&merged.bytes[..], [run(1000, b"kept"), run(19, &[run(1000, b"too"), run(1, b"b")].concat())].concat());
}

#[test]
fn json_records_take_updates_of_members() {
    let merged = |current: &str, item: &str, mask: &[&str]| {
        let mask: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
        let merged = merge(&Form::Loose, &json(current), &json(item), &mask)?;
        Ok::<_, BadField>(String::from_utf8(merged.bytes.to_vec()).unwrap())
    };
    assert_eq!(merged(r#"{"a":1,"b":{"c":2}}"#, r#"{"b":{"c":3}}"#, &["b.c", "a"]).unwrap(), r#"{"b":{"c":3}}"#);
    assert_eq!(merged(r#"{}"#, r#"{"b":{"c":3,"d":4}}"#, &["b.c"]).unwrap(), r#"{"b":{"c":3}}"#);
    assert_eq!(merged(r#"{"a":[1]}"#, "{}", &["a.b"]).unwrap_err().field, "update_mask");
    assert_eq!(merged("opaque", "{}", &["a"]).unwrap_err().field, "update_mask");
    assert_eq!(merged("{}", "opaque", &["a"]).unwrap_err().field, "item.value");
    assert_eq!(merged("{}", "{}", &["id"]).unwrap_err().field, "update_mask");
    assert_eq!(merged(r#"{"a":null}"#, r#"{"a":1}"#, &["a.b"]).unwrap(), r#"{"a":null}"#);
    assert_eq!(merged(r#"{"a":null}"#, r#"{"a":{"b":1}}"#, &["a.b"]).unwrap(), r#"{"a":{"b":1}}"#);
    assert_eq!(merged(r#"{"a":1,"b":2,"a":3}"#, r#"{"a":4}"#, &["a"]).unwrap(), r#"{"a":4,"b":2}"#);
}

#[test]
fn members_that_an_update_does_not_name_stay_byte_for_byte() {
    let current =
        r#" {"z" : 123456789012345678901234567890, "b":{"x":1.10,"y":1E2,"\u0061":"\u00e9"}, "c":[ 0.10 ],"a":1} "#;
    let merged = merge(&Form::Loose, &json(current), &json(r#"{"b":{"x":9.90}}"#), &["b.x".into(), "a".into()]);
    assert_eq!(
        std::str::from_utf8(&merged.unwrap().bytes).unwrap(),
        r#"{"z":123456789012345678901234567890,"b":{"x":9.90,"y":1E2,"a":"\u00e9"},"c":[ 0.10 ]}"#
    );
}

#[test]
fn an_update_makes_no_record_larger_than_any_request_brings() {
    // Two names, their quotes and the braces are 15 bytes.
    let half = "x".repeat(RECORD_MAX / 2 - 8);
    let (current, item) = (json(format!(r#"{{"a":"{half}"}}"#)), json(format!(r#"{{"b":"{half}"}}"#)));
    let limit = merge(&Form::Loose, &current, &item, &["b".into()]).unwrap();
    assert_eq!(limit.bytes.len(), RECORD_MAX - 1);
    let item = json(format!(r#"{{"b":"{half}xx"}}"#));
    let refused = merge(&Form::Loose, &current, &item, &["b".into()]).unwrap_err();
    assert_eq!(refused.field, "update_mask", "{refused}");
    let part = |number| typed(&run(number, &vec![b'x'; RECORD_MAX / 2]));
    assert_eq!(merge(&form(&rich()), &part(1), &part(1000), &[]).unwrap().bytes.len(), part(1).bytes.len());
    let refused = merge(&form(&rich()), &part(1000), &part(1), &["title".into()]).unwrap_err();
    assert_eq!(refused.field, "update_mask", "{refused}");
}

#[test]
fn an_object_that_nothing_can_be_compared_with_is_refused_and_not_hidden() {
    for (text, problem) in [
        (r#"{"a":1e400}"#, "number out of range at line 1 column"),
        ("{\n\"a\":-1e400}", "number out of range at line 2 column"),
        (r#"{"a":"\ud800"}"#, "hex escape"),
    ] {
        let refused = index(&Form::Loose, &json(text), None).unwrap_err();
        assert!(refused.field == "item.value" && refused.problem.contains(problem), "{refused}");
    }
    for opaque in [r#"{"a":1e400"#, "{a:1}", "[1e400]", "1e400"] {
        assert_eq!(index(&Form::Loose, &json(opaque), None), Ok(None), "{opaque}");
    }
}

proptest! {
    /// A decimal in a record is the double that everybody else reads it as.
    #[test]
    fn decimals_are_the_doubles_nearest_to_them(digits in "0\\.[0-9]{1,20}") {
        let found = index(&Form::Loose, &json(format!(r#"{{"n":{digits}}}"#)), None).unwrap().unwrap();
        let found: f64 = found.document[5..found.document.len() - 1].parse().unwrap();
        prop_assert_eq!(found, digits.parse::<f64>().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Taking every field is taking the message, taking none is leaving it.
    #[test]
    fn all_parts_are_the_whole(seed: u64) {
        let rich = rich();
        let mut dice = Dice(seed);
        let (current, item) = (dice.message(&rich, 0).encode_to_vec(), dice.message(&rich, 0).encode_to_vec());
        let all: Vec<String> = rich.fields().map(|field| format!("\"{}\"", field.name())).collect();
            let whole = merge(&form(&rich), &typed(&current), &typed(&item), &all).unwrap();
        let shown = |bytes: &[u8]| index(&form(&rich), &typed(bytes), None).unwrap().unwrap().document;
        prop_assert_eq!(shown(&whole.bytes), shown(&item));
        let none = merge(&form(&rich), &typed(&current), &typed(&item), &[]).unwrap();
        prop_assert_eq!(&none.bytes[..], &current[..]);
    }
}
