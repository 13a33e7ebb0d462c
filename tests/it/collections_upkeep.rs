//! Looking after collections: dropping, changing indexes, indexing again, what a crash leaves.

use crate::support::*;
use collector::rpc::pb;
use pb::record::v1 as record;
use prost_types::Any;
use serde_json::{Value, json};
use std::time::Duration;
use tonic::{Code, Status};

const NOTES: Place = Place::acme("notes");

async fn repo(node: &TestNode) -> Client {
    Client::connect(&node.address()).await
}

fn typed(indexed_fields: &[&str]) -> pb::Collection {
    NOTES.definition("t.Note", indexed_fields)
}

fn note(value: &[u8]) -> Any {
    Any { type_url: "type.googleapis.com/t.Note".into(), value: value.to_vec() }
}

/// Field 1: text.
fn text(text: &str) -> Any {
    note(&[&[0x0a, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
}

/// Ids that a search finds, ordered.
async fn find(stub: &Client, place: Place, full_text: &str, equal: &[(&str, Value)]) -> Result<Vec<String>, Status> {
    let equals = |value: &Value| filter(pb::FilterOperator::OpEquals, value.clone());
    let request = pb::SearchRequest {
        full_text: full_text.into(),
        filters: equal.iter().map(|(path, value)| ((*path).to_owned(), equals(value))).collect(),
        limit: 1_000,
        order_by: "id".into(),
        ascending: true,
        ..place.search()
    };
    let found = stub.search(request).await?;
    let ids: Vec<String> = found.results.into_iter().map(|result| result.info.unwrap().id).collect();
    assert_eq!(found.total_count, ids.len() as i64);
    Ok(ids)
}

#[tokio::test]
async fn collections_survive_kill_9() {
    let data = tempfile::tempdir().unwrap();
    let mut node = NodeProcess::start(data.path(), &[]);
    let stub = Client::connect(&node.address).await;
    let labels = [("tier".to_owned(), "gold".to_owned())].into();
    let wanted = pb::Collection { metadata: Some(pb::Metadata { labels, ..Default::default() }), ..typed(&["text"]) };
    stub.make(wanted).await.unwrap();
    stub.create(NOTES, "1", json_item(&json!({ "text": "hi" }))).await.unwrap();
    let before = stub.route(NOTES).await.unwrap().collection;
    node.signal(rustix::process::Signal::KILL);
    node.wait();

    let node = NodeProcess::start(data.path(), &[]);
    let stub = Client::connect(&node.address).await;
    assert_eq!(stub.route(NOTES).await.unwrap().collection, before);
    assert_eq!(find(&stub, NOTES, "hi", &[("text", json!("hi"))]).await.unwrap(), ["1"]);
}

#[tokio::test]
async fn x02_kill_9_leaves_each_collection_as_it_was_or_as_it_was_to_be() {
    let data = tempfile::tempdir().unwrap();
    let places = ["c0", "c1", "c2", "c3"].map(Place::acme);
    let other = |collection: &&'static str| Place { namespace: "other", collection };
    let turned = Place::acme("turned");
    // Each time some more changes are made before the end comes.
    for made in [&["a"][..], &["b", "c"], &["d", "e", "f"], &["g", "h", "i", "j"]] {
        let mut node = NodeProcess::start(data.path(), &[]);
        let stub = Client::connect(&node.address).await;
        let mut writers = tokio::task::JoinSet::new();
        for place in places {
            let stub = stub.clone();
            writers.spawn(async move {
                // Until the node is gone.
                loop {
                    let made = stub.make(place.definition("", &[])).await;
                    if made.is_err_and(|why| why.code() != Code::AlreadyExists) {
                        return;
                    }
                    if stub.create(place, "1", json_item(&json!({ "text": "old" }))).await.is_err() {
                        return;
                    }
                    if stub.modify(place, &["text"]).await.is_err()
                        || stub.modify(place, &["text", "size"]).await.is_err()
                        || stub.drop(place).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
        // One is there all the time, so that the end comes between two of its shapes, or within one.
        let made_before = stub.make(turned.definition("", &["text"])).await;
        assert!(made_before.is_ok() || made_before.is_err_and(|why| why.code() == Code::AlreadyExists));
        let turning = stub.clone();
        writers.spawn(async move {
            while turning.modify(turned, &["text", "size"]).await.is_ok()
                && turning.modify(turned, &["text"]).await.is_ok()
            {}
        });
        for place in made.iter().map(other) {
            stub.make(place.definition("", &[])).await.unwrap();
        }
        node.signal(rustix::process::Signal::KILL);
        node.wait();
        writers.join_all().await;

        let node = NodeProcess::start(data.path(), &[]);
        let stub = Client::connect(&node.address).await;
        for place in places {
            match stub.make(place.definition("", &[])).await {
                Ok(_) => assert!(find(&stub, place, "old", &[]).await.unwrap().is_empty(), "nothing of the old one"),
                Err(why) => assert_eq!(why.code(), Code::AlreadyExists),
            }
            let all_indexed = tokio::time::timeout(Duration::from_secs(20), indexes_are_those_defined(&stub, place));
            all_indexed.await.unwrap_or_else(|_| panic!("{place:?}: other indexes than the definition's"));
            stub.create(place, "2", json_item(&json!({ "text": "new" }))).await.unwrap();
            assert_eq!(find(&stub, place, "new", &[("text", json!("new"))]).await.unwrap(), ["2"]);
            stub.drop(place).await.unwrap();
        }
        let all_indexed = tokio::time::timeout(Duration::from_secs(20), indexes_are_those_defined(&stub, turned));
        all_indexed.await.unwrap_or_else(|_| panic!("other indexes than the definition's"));
        for place in made.iter().map(other) {
            stub.route(place).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_dropped_collection_is_gone_and_its_name_is_free() {
    let mut node = TestNode::start().await;
    let stub = repo(&node).await;
    stub.make(NOTES.definition("", &[])).await.unwrap();
    for id in ["1", "2", "3"] {
        stub.create(NOTES, id, json_item(&json!({ "text": "old" }))).await.unwrap();
    }
    assert_eq!(stub.drop(NOTES).await.unwrap(), 3);
    assert_eq!(stub.drop(NOTES).await.unwrap_err().code(), Code::NotFound);
    let lost = stub.create(NOTES, "4", json_item(&json!({}))).await.unwrap_err();
    assert_eq!(verdict(&lost), (Code::NotFound, "COLLECTION_NOT_FOUND".into()));
    node.restart().await;
    let stub = repo(&node).await;
    assert_eq!(stub.route(NOTES).await.unwrap_err().code(), Code::NotFound);
    stub.make(NOTES.definition("", &[])).await.unwrap();
    assert!(find(&stub, NOTES, "", &[]).await.unwrap().is_empty(), "none of the old records");
    stub.create(NOTES, "1", json_item(&json!({ "text": "new" }))).await.unwrap();
    assert_eq!(find(&stub, NOTES, "new", &[]).await.unwrap(), ["1"]);
}

#[tokio::test]
async fn c13_fifty_changes_of_indexes_during_writes_leave_indexes_that_equal_the_records() {
    let node = TestNode::start().await;
    let stub = repo(&node).await;
    stub.make(NOTES.definition("", &[])).await.unwrap();
    let mut work = tokio::task::JoinSet::new();
    for change in 0..50 {
        let stub = stub.clone();
        work.spawn(async move {
            let fields = ["a", "b", "c.d", "v:vector"];
            stub.modify(NOTES, &fields[..change % 5]).await.unwrap();
        });
    }
    for writer in 0..4 {
        let stub = stub.clone();
        work.spawn(async move {
            for n in 0..25 {
                let item = json!({ "a": n, "b": writer, "c": { "d": format!("{writer}-{n}") }, "v": [1, n] });
                stub.create(NOTES, &format!("{writer}-{n:02}"), json_item(&item)).await.unwrap();
            }
        });
    }
    work.join_all().await;
    stub.modify(NOTES, &["a", "b", "c.d", "v:vector"]).await.unwrap();
    assert_eq!(find(&stub, NOTES, "", &[]).await.unwrap().len(), 100);
    for n in 0..25 {
        let of_n: Vec<String> = (0..4).map(|writer| format!("{writer}-{n:02}")).collect();
        assert_eq!(find(&stub, NOTES, "", &[("a", json!(n))]).await.unwrap(), of_n);
        for (writer, id) in of_n.iter().enumerate() {
            let one = [("b", json!(writer)), ("c.d", json!(format!("{writer}-{n}")))];
            assert_eq!(find(&stub, NOTES, "", &one).await.unwrap(), std::slice::from_ref(id));
        }
    }
    let near = pb::SearchRequest { vector: vec![1.0, 0.0], limit: 1_000, ..NOTES.search() };
    let near = stub.search(near).await.unwrap();
    assert_eq!(near.total_count, 100, "every record has its vector, whoever wrote it");
    let indexed = stub.route(NOTES).await.unwrap().collection.unwrap().indexed_fields;
    assert_eq!(indexed, ["a", "b", "c.d", "v:vector"]);
    for field in ["a", "b", "c.d"] {
        assert_eq!(explain(&stub, NOTES, field).await.indexed_fields, [field]);
    }
    stub.modify(NOTES, &["b"]).await.unwrap();
    for (field, wanted) in [("a", &[][..]), ("b", &["b"]), ("c.d", &[])] {
        assert_eq!(explain(&stub, NOTES, field).await.indexed_fields, *wanted, "{field}");
    }
}

#[tokio::test]
async fn c13_hostile_changes_of_indexes_change_nothing() {
    let node = TestNode::start().await;
    let stub = repo(&node).await;
    stub.register_note("string text = 1; repeated string tags = 2;").await.unwrap();
    stub.make(typed(&["text"])).await.unwrap();
    let many: Vec<String> = (0..10_000).map(|n| format!("f{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: [&[&str]; 7] =
        [&many, &["nope"], &["text", "text"], &["tags"], &["tags:vector"], &["text') OR 1=1 --"], &["text."]];
    for fields in cases {
        let refused = stub.modify(NOTES, fields).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{:?}", fields.first());
        assert!(refused.message().contains("indexed_fields"), "{}", refused.message());
    }
    assert_eq!(stub.modify(Place::acme("gone"), &[]).await.unwrap_err().code(), Code::NotFound);
    let found = stub.route(NOTES).await.unwrap().collection.unwrap();
    assert_eq!(found.indexed_fields, ["text"]);
}

#[tokio::test]
async fn a_vector_that_is_indexed_later_finds_earlier_records() {
    let mut node = TestNode::start().await;
    let stub = repo(&node).await;
    stub.make(NOTES.definition("", &[])).await.unwrap();
    for (id, at) in [("a", [1.0, 0.0]), ("b", [0.0, 1.0])] {
        stub.create(NOTES, id, json_item(&json!({ "at": at }))).await.unwrap();
    }
    let near = || pb::SearchRequest { vector: vec![0.1, 0.9], ..NOTES.search() };
    assert_eq!(stub.search(near()).await.unwrap_err().code(), Code::FailedPrecondition);
    stub.modify(NOTES, &["at:vector"]).await.unwrap();
    node.restart().await;
    let stub = repo(&node).await;
    assert_eq!(stub.found(near()).await.unwrap(), ["b", "a"]);
}

#[tokio::test]
async fn records_are_found_by_a_type_that_was_registered_after_them_once_they_are_indexed_again() {
    let node = TestNode::start().await;
    let stub = repo(&node).await;
    stub.make(typed(&["text"])).await.unwrap();
    for n in 0..250 {
        stub.create(NOTES, &format!("{n:03}"), text(&format!("number{n}"))).await.unwrap();
    }
    stub.create(NOTES, "bad", note(b"\xff")).await.unwrap();
    assert!(find(&stub, NOTES, "number7", &[]).await.unwrap().is_empty(), "unknown bytes are not searched");
    stub.register_note("string text = 1;").await.unwrap();
    stub.create(NOTES, "new", text("number7")).await.unwrap();
    assert_eq!(find(&stub, NOTES, "number7", &[]).await.unwrap(), ["new"]);

    let before = stub.get(NOTES, "007").await.unwrap();
    let steps = stub.reindex(NOTES).await.unwrap();
    let last = steps.last().unwrap();
    assert_eq!((last.done, last.total, last.skipped), (252, 252, 1));
    assert!(steps.is_sorted_by_key(|step| step.done));
    assert_eq!(find(&stub, NOTES, "number7", &[]).await.unwrap(), ["007", "new"]);
    assert_eq!(find(&stub, NOTES, "", &[("text", json!("number7"))]).await.unwrap(), ["007", "new"]);
    assert_eq!(stub.get(NOTES, "007").await.unwrap(), before, "bytes, times and etag stay");
    let plan = explain(&stub, NOTES, "text").await;
    assert_eq!(plan.indexed_fields, ["text"], "{plan:?}");
}

#[tokio::test]
async fn records_are_found_by_fields_of_a_new_revision_once_they_are_indexed_again() {
    let node = TestNode::start().await;
    let stub = repo(&node).await;
    stub.register_note("string text = 1;").await.unwrap();
    stub.make(typed(&[])).await.unwrap();
    // Field 2 is not known yet: kept in the bytes only.
    stub.create(NOTES, "1", note(b"\x0a\x01a\x10\x07")).await.unwrap();
    let unknown = find(&stub, NOTES, "", &[("size", json!(7))]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    stub.register_note("string text = 1; int64 size = 2;").await.unwrap();
    stub.modify(NOTES, &["size"]).await.unwrap();
    stub.reindex(NOTES).await.unwrap();
    assert_eq!(find(&stub, NOTES, "", &[("size", json!(7))]).await.unwrap(), ["1"]);
    assert_eq!(explain(&stub, NOTES, "size").await.indexed_fields, ["size"]);
}

#[tokio::test]
async fn indexing_again_and_writing_go_on_beside_each_other() {
    let node = TestNode::start().await;
    let stub = repo(&node).await;
    stub.make(NOTES.definition("", &[])).await.unwrap();
    for n in 0..300 {
        stub.create(NOTES, &format!("{n:03}"), json_item(&json!({ "n": n }))).await.unwrap();
    }
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let stub = stub.clone();
        work.spawn(async move { drop(stub.reindex(NOTES).await.unwrap()) });
    }
    let writer = stub.clone();
    work.spawn(async move {
        for n in 0..300 {
            let item = json_item(&json!({ "n": 1_000 + n }));
            writer.update(NOTES, &format!("{n:03}"), item, &[]).await.unwrap();
        }
    });
    work.join_all().await;
    for n in 0..300 {
        assert!(find(&stub, NOTES, "", &[("n", json!(n))]).await.unwrap().is_empty());
        assert_eq!(find(&stub, NOTES, "", &[("n", json!(1_000 + n))]).await.unwrap(), [format!("{n:03}")]);
    }
}

#[tokio::test]
async fn upkeep_of_what_is_not_there_says_so() {
    let node = TestNode::start().await;
    let stub = repo(&node).await;
    assert_eq!(stub.reindex(Place::acme("gone")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        stub.reindex(Place { namespace: "", collection: "gone" }).await.unwrap_err().message(),
        "namespace is required"
    );
    assert_eq!(stub.reindex(Place::acme("")).await.unwrap_err().message(), "collection_name is required");
    assert_eq!(stub.drop(Place::acme("a/b")).await.unwrap_err().code(), Code::InvalidArgument);
    let nothing = stub.upkeep.clone().explain(record::ExplainRequest { query: None }).await.unwrap_err();
    assert_eq!((nothing.code(), nothing.message()), (Code::InvalidArgument, "query is required"));
    stub.make(collection("acme", "empty")).await.unwrap();
    let steps = stub.reindex(Place::acme("empty")).await.unwrap();
    assert_eq!(steps, [record::ReindexProgress { done: 0, total: 0, skipped: 0 }]);
}

/// The plan of a search by a field.
async fn explain(stub: &Client, place: Place, field: &str) -> record::ExplainResponse {
    let filters = [(field.to_owned(), filter(pb::FilterOperator::OpEquals, json!("7")))].into();
    let search = pb::SearchRequest { filters, ..place.search() };
    let request = record::ExplainRequest { query: Some(record::explain_request::Query::Search(search)) };
    stub.upkeep.clone().explain(request).await.unwrap().into_inner()
}

/// What was begun before a crash is finished beside the first calls.
async fn indexes_are_those_defined(stub: &Client, place: Place) {
    loop {
        let defined = stub.route(place).await.unwrap().collection.unwrap().indexed_fields;
        let mut used = Vec::new();
        for field in ["text", "size"] {
            used.extend(explain(stub, place, field).await.indexed_fields);
        }
        if used == defined {
            return;
        }
    }
}
