//! A public data set in collections, as messages and as JSON, and what `jq` says about the raw file.

use crate::support::{Client, Place, TestNode, as_struct, compile, filter, json_item, skip, typed_item};
use collector::rpc::pb;
use pb::request_op::Operation;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

const TYPED: Place = Place::acme("emojis");
const JSON: Place = Place::acme("emojis-json");
/// Rows of the file. Source: tests/data/emojibase/SOURCE.
const ROWS: usize = 1_949;

const PROTO: &str = r#"
    syntax = "proto3";
    package emoji.v1;
    message Emoji {
        string label = 1;
        string hexcode = 2;
        repeated string tags = 3;
        string emoji = 4;
        string text = 5;
        int32 type = 6;
        optional int32 order = 7;
        optional int32 group = 8;
        optional uint64 subgroup = 9;
        double version = 10;
        repeated Emoji skins = 11;
        optional int32 gender = 12;
        repeated string emoticon = 13;
        repeated int32 tone = 14;
    }"#;

/// What `jq` works on: rows with all words of all their texts, at any depth, and a word that nobody wrote between texts.
const PREPARED: &str =
    r#"map(. + {words: [[.. | strings] | join(" zzz ") | ascii_downcase | scan("[[:alnum:]]+")]}) | "#;

/// A question to us, and the same to `jq`: a condition on a row, and by what rows are sorted.
struct Case {
    filter: Value,
    full_text: &'static str,
    order_by: &'static str,
    condition: &'static str,
    sorted: &'static str,
}

fn by_filter(filter: Value, condition: &'static str) -> Case {
    Case { filter, full_text: "", order_by: "id", condition, sorted: ".hexcode" }
}

fn by_text(full_text: &'static str, condition: &'static str) -> Case {
    Case { full_text, ..by_filter(json!({}), condition) }
}

fn by_order(order_by: &'static str, sorted: &'static str) -> Case {
    Case { filter: json!({}), full_text: "", order_by, condition: "true", sorted }
}

fn op(name: &str, value: impl Into<Value>) -> Value {
    json!({ "op": name, "value": value.into() })
}

fn filters() -> Vec<Case> {
    vec![
        by_filter(json!({ "label": "cat face" }), r#".label == "cat face""#),
        by_filter(json!({ "label": op("CONTAINS", "face") }), r#".label | contains("face")"#),
        by_filter(json!({ "label": op("CONTAINS", "%") }), r#".label | contains("%")"#),
        by_filter(json!({ "label": op("GREATER_THAN", "wr") }), r#".label > "wr""#),
        by_filter(
            json!({ "label": op("IN", json!(["cat", "flag: Curaçao", "no such"])) }),
            r#".label | IN("cat", "flag: Curaçao")"#,
        ),
        by_filter(json!({ "order": op("LESS_THAN", 100) }), ".order != null and .order < 100"),
        by_filter(json!({ "order": op("GREATER_EQUAL", 1_000.5) }), ".order != null and .order >= 1000.5"),
        by_filter(json!({ "group": 8 }), ".group == 8"),
        by_filter(json!({ "group": op("NOT_EQUALS", 8) }), ".group != null and .group != 8"),
        by_filter(json!({ "group": op("IN", json!([1, 3, 99])) }), ".group == 1 or .group == 3"),
        by_filter(json!({ "group": op("IN", json!([])) }), "false"),
        by_filter(json!({ "group": op("NOT_EXISTS", Value::Null) }), ".group == null"),
        by_filter(json!({ "gender": op("EXISTS", Value::Null) }), "has(\"gender\")"),
        by_filter(json!({ "gender": 0 }), ".gender == 0"),
        by_filter(json!({ "subgroup": op("LESS_EQUAL", 2) }), ".subgroup != null and .subgroup <= 2"),
        by_filter(json!({ "version": 0.6 }), ".version == 0.6"),
        by_filter(json!({ "version": 0 }), ".version == 0"),
        by_filter(json!({ "version": op("GREATER_THAN", 13) }), ".version > 13"),
        by_filter(json!({ "tags": "cat" }), r#"any(.tags[]?; . == "cat")"#),
        by_filter(json!({ "tags": op("CONTAINS", "cat") }), r#"any(.tags[]?; . == "cat")"#),
        by_filter(json!({ "tags": op("GREATER_THAN", "z") }), r#"any(.tags[]?; . > "z")"#),
        by_filter(json!({ "emoticon": ":D" }), r#"[.emoticon] | flatten | any(. == ":D")"#),
        by_filter(json!({ "emoticon": op("EXISTS", Value::Null) }), ".emoticon != null"),
        by_filter(json!({ "skins": op("NOT_EXISTS", Value::Null) }), ".skins == null"),
        by_filter(json!({ "skins.tone": 5 }), "any(.skins[]?; [.tone] | flatten | any(. == 5))"),
        by_filter(json!({ "skins.version": op("GREATER_EQUAL", 12.1) }), "any(.skins[]?; .version >= 12.1)"),
        by_filter(
            json!({ "skins.label": op("CONTAINS", "medium-dark") }),
            r#"any(.skins[]?; .label | contains("medium-dark"))"#,
        ),
        by_filter(
            json!({ "group": 1, "version": op("LESS_THAN", 2), "tags": "hand" }),
            r#".group == 1 and .version < 2 and any(.tags[]?; . == "hand")"#,
        ),
    ]
}

fn texts() -> Vec<Case> {
    vec![
        by_text("cat", r#".words | index("cat")"#),
        by_text("CAT", r#".words | index("cat")"#),
        by_text("smil*", r#"any(.words[]; startswith("smil"))"#),
        by_text("\"light skin tone\"", r#".words | index(["light", "skin", "tone"])"#),
        by_text("\"face cat\"", r#".words | index(["face", "cat"])"#),
        by_text("heart AND red", r#".words | index("heart") and index("red")"#),
        by_text("heart red", r#".words | index("heart") and index("red")"#),
        by_text("whale OR dolphin", r#".words | index("whale") or index("dolphin")"#),
        by_text("flag NOT island", r#".words | index("flag") and (index("island") | not)"#),
        by_text("1F431", r#".words | index("1f431")"#),
        by_text("label", r#".words | index("label")"#),
        by_text("hexcode", r#".words | index("hexcode")"#),
        Case { filter: json!({ "group": 0 }), ..by_text("face", r#".group == 0 and (.words | index("face"))"#) },
        Case {
            filter: json!({ "tags": "cat" }),
            ..by_text("smil*", r#"any(.tags[]?; . == "cat") and any(.words[]; startswith("smil"))"#)
        },
    ]
}

fn orders() -> Vec<Case> {
    vec![
        by_order("id", ".hexcode"),
        by_order("order", "[.order, .hexcode]"),
        by_order("order desc", "[-(.order // -1), .hexcode]"),
        by_order("label", ".label, .hexcode"),
        by_order("group desc, label", "[-(.group // -1), .label, .hexcode]"),
        by_order("version desc, subgroup, id desc", "-.version, .subgroup, (.hexcode | explode | map(-.) + [0])"),
        Case {
            filter: json!({ "group": 3 }),
            condition: ".group == 3",
            ..by_order("version, order desc", "[.version, -.order]")
        },
    ]
}

/// The raw file, unpacked.
fn raw() -> Vec<u8> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/emojibase/emojis.json.gz");
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap()).read_to_end(&mut raw).unwrap();
    raw
}

/// What `jq` answers to each case; `None`, with a line about it, where there is no `jq`.
fn ask_jq(raw: &[u8], cases: &[Case]) -> Option<Vec<Vec<String>>> {
    let question =
        |case: &Case| format!("(map(select({})) | sort_by({}) | map(.hexcode))", case.condition, case.sorted);
    let program = format!("{PREPARED} [{}]", cases.iter().map(question).collect::<Vec<_>>().join(", "));
    let spawned = Command::new("jq").args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut jq) = spawned else {
        skip("jq is not installed, so there is nobody to compare with");
        return None;
    };
    let mut stdin = jq.stdin.take().unwrap();
    let raw = raw.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&raw));
    let output = jq.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The same with lists where the file has one value or several.
fn as_declared(row: &Value) -> Value {
    let mut row = row.clone();
    for name in ["emoticon", "tone"] {
        if let Some(value) = row.get_mut(name).filter(|value| !value.is_array()) {
            *value = json!([value.take()]);
        }
    }
    if let Some(skins) = row.get_mut("skins").and_then(Value::as_array_mut) {
        skins.iter_mut().for_each(|skin| *skin = as_declared(skin));
    }
    row
}

fn message(descriptor: &MessageDescriptor, row: &Value) -> Vec<u8> {
    DynamicMessage::deserialize(descriptor.clone(), as_declared(row)).unwrap().encode_to_vec()
}

/// Both collections, filled through the API.
async fn load(client: &Client, rows: &[Value]) {
    let file = compile(&[("emoji/v1/emoji.proto", PROTO)]);
    client.register("acme", &file).await.unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(FileDescriptorSet { file }).unwrap();
    let descriptor = pool.get_message_by_name("emoji.v1.Emoji").unwrap();
    client.make(TYPED.definition("emoji.v1.Emoji", &["group", "order", "label"])).await.unwrap();
    client.make(JSON.definition("", &["group"])).await.unwrap();
    for place in [TYPED, JSON] {
        for chunk in rows.chunks(1_000) {
            let operations = chunk.iter().map(|row| {
                let item = match place {
                    TYPED => typed_item("emoji.v1.Emoji", message(&descriptor, row)),
                    _ => json_item(row),
                };
                Operation::Create(place.create(row["hexcode"].as_str().unwrap(), item))
            });
            assert_eq!(client.batch(place, operations.collect()).await.unwrap().len(), chunk.len());
        }
        assert_eq!(client.describe(place).await.unwrap().record_count, rows.len() as i64);
    }
}

/// The ids that a case finds by listing, in pages of an odd size.
async fn listed(client: &Client, place: Place, case: &Case) -> Vec<String> {
    let request = pb::ListRequest {
        filter: Some(as_struct(&case.filter)),
        order_by: case.order_by.into(),
        page_size: 97,
        ..place.list()
    };
    let rows = client.list(request).await;
    let rows = rows.unwrap_or_else(|why| panic!("{} in {place:?}: {why:?}", case.filter));
    rows.into_iter().map(|(_, info)| info.id).collect()
}

/// The first thousand ids that a case finds by searching, and how many there are.
async fn searched(client: &Client, place: Place, case: &Case) -> (Vec<String>, usize) {
    let request = pb::SearchRequest {
        full_text: case.full_text.into(),
        filters: case
            .filter
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, value)| (path.clone(), as_filter(value)))
            .collect(),
        limit: 1_000,
        order_by: case.order_by.into(),
        ascending: true,
        ..place.search()
    };
    let reply = client.search(request).await;
    let reply = reply.unwrap_or_else(|why| panic!("{:?} {} in {place:?}: {why:?}", case.full_text, case.filter));
    let ids = reply.results.into_iter().map(|found| found.info.unwrap().id).collect();
    (ids, usize::try_from(reply.total_count).unwrap())
}

/// A condition of a listing as one of a search.
fn as_filter(condition: &Value) -> pb::Filter {
    let (name, value) = match condition.as_object() {
        Some(both) => (format!("OP_{}", both["op"].as_str().unwrap()), &both["value"]),
        None => ("OP_EQUALS".to_owned(), condition),
    };
    filter(pb::FilterOperator::from_str_name(&name).unwrap(), value.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_emojis_are_found_as_jq_finds_them() {
    let raw = raw();
    let rows: Vec<Value> = serde_json::from_slice(&raw).unwrap();
    assert_eq!(rows.len(), ROWS);
    let cases: Vec<Case> = [filters(), texts(), orders()].into_iter().flatten().collect();
    let Some(answers) = ask_jq(&raw, &cases) else { return };
    let node = TestNode::start().await;
    let client = Client::connect(&node.address()).await;
    load(&client, &rows).await;
    for (case, wanted) in cases.iter().zip(&answers) {
        let first: Vec<String> = wanted.iter().take(1_000).cloned().collect();
        for place in [TYPED, JSON] {
            let what = format!("{:?} {} by {} in {}", case.full_text, case.filter, case.order_by, place.collection);
            assert_eq!(searched(&client, place, case).await, (first.clone(), wanted.len()), "{what}");
            if case.full_text.is_empty() {
                assert_eq!(listed(&client, place, case).await, *wanted, "{what}");
            }
        }
    }
    let found = answers.iter().filter(|answer| !answer.is_empty()).count();
    println!("{} questions, {found} of them with answers, about {ROWS} rows, twice", cases.len());
    assert!(found * 10 > cases.len() * 8, "most questions should find something");
}

#[tokio::test]
async fn rows_come_back_as_they_went_in_and_survive_a_restart() {
    let rows: Vec<Value> = serde_json::from_slice(&raw()).unwrap();
    let mut node = TestNode::start().await;
    load(&Client::connect(&node.address()).await, &rows[..300]).await;
    node.restart().await;
    let client = Client::connect(&node.address()).await;
    for row in &rows[..300] {
        let (item, _) = client.get(JSON, row["hexcode"].as_str().unwrap()).await.unwrap();
        assert_eq!(item.value, row.to_string().into_bytes());
    }
}
