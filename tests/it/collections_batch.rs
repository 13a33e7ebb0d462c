//! Batches: several writes in one call, together or each for itself.

use crate::support::*;
use collector::rpc::pb;
use pb::request_op::Operation as Op;
use pb::response_op::Response as Answer;
use prost_types::Any;
use serde_json::json;
use tonic::{Code, Request, Status};

const APART: [(&str, &str); 1] = [("collector-batch", "best-effort")];

fn item(n: u32) -> Any {
    json_item(&json!({ "n": n }))
}

async fn run(records: &Records, request: Request<pb::BatchRequest>) -> Result<Vec<pb::ResponseOp>, Status> {
    records.client.records.clone().batch(request).await.map(|reply| reply.into_inner().responses)
}

fn codes(responses: &[pb::ResponseOp]) -> Vec<pb::status::Code> {
    responses.iter().map(|one| one.status.as_ref().unwrap().code()).collect()
}

async fn ids(records: &Records) -> Vec<String> {
    let mut ids = records.listed(records.place.list()).await;
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn operations_see_what_those_before_them_wrote() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    records.put("old", json_item(&json!({ "n": 1, "m": 1 }))).await;
    for apart in [false, true] {
        let operations = vec![
            Op::Create(records.place.create("a", item(1))),
            Op::Update(records.place.update("a", json_item(&json!({ "n": 1, "m": 5 })), &["m"])),
            Op::Update(records.place.update("a", json_item(&json!({ "n": 7 })), &["n"])),
            Op::Update(records.place.update("old", json_item(&json!({ "m": 2 })), &["m"])),
            Op::Delete(records.place.delete("a")),
            Op::Create(records.place.create("a", item(9))),
            Op::Update(records.place.update("a", json_item(&json!({ "m": 9 })), &["m"])),
            Op::Create(records.place.create("", item(3))),
        ];
        let metadata: &[(&str, &str)] = if apart { &APART } else { &[] };
        let responses = run(&records, with(records.place.batch(operations), metadata)).await.unwrap();
        assert_eq!(codes(&responses), [pb::status::Code::Ok; 8]);
        let value: serde_json::Value = serde_json::from_slice(&records.get("a").await.0.value).unwrap();
        assert_eq!(value, json!({ "n": 9, "m": 9 }));
        let value: serde_json::Value = serde_json::from_slice(&records.get("old").await.0.value).unwrap();
        assert_eq!(value, json!({ "n": 1, "m": 2 }));
        let Some(Answer::Create(last)) = &responses[7].response else { panic!("{responses:?}") };
        assert_eq!(records.get(&last.id).await.1, last.info.clone().unwrap());
        assert!(matches!(&responses[4].response, Some(Answer::Delete(_))));
        records.client.delete(records.place, "a").await.unwrap();
    }
}

#[tokio::test]
async fn c08_one_bad_operation_of_a_thousand_takes_all_with_it_or_stands_alone() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    records.put("taken", item(0)).await;
    let operations = || {
        let id = |n: usize| if n == 700 { "taken".to_owned() } else { format!("r{n:04}") };
        let all = (0..1_000).map(|n| Op::Create(records.place.create(&id(n), item(1))));
        records.place.batch(all.collect())
    };
    let status = run(&records, Request::new(operations())).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::AlreadyExists, "RECORD_EXISTS".into()));
    assert!(status.message().contains("operations[700]"), "{}", status.message());
    assert_eq!(ids(&records).await, ["taken"], "nothing is changed");

    let responses = run(&records, with(operations(), &APART)).await.unwrap();
    assert_eq!(responses.len(), 1_000);
    for (n, one) in responses.iter().enumerate() {
        let status = one.status.as_ref().unwrap();
        if n == 700 {
            assert_eq!((status.code(), &one.response), (pb::status::Code::AlreadyExists, &None));
            assert_eq!(status.details["reason"], "RECORD_EXISTS");
        } else {
            let Some(Answer::Create(made)) = &one.response else { panic!("{one:?}") };
            assert_eq!((status.code(), made.id.clone()), (pb::status::Code::Ok, format!("r{n:04}")));
        }
    }
    assert_eq!(ids(&records).await.len(), 1_000);
}

#[tokio::test]
async fn the_first_that_fails_is_the_one_that_is_named() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    records.put("a", item(1)).await;
    let operations = vec![
        Op::Delete(records.place.delete("nothing")),
        Op::Create(records.place.create("a", item(1))),
        Op::Update(records.place.update("missing", item(1), &["n"])),
    ];
    let status = run(&records, Request::new(records.place.batch(operations.clone()))).await.unwrap_err();
    assert!(status.message().contains("operations[1]"), "{}", status.message());
    let responses = run(&records, with(records.place.batch(operations), &APART)).await.unwrap();
    use pb::status::Code::{AlreadyExists, NotFound, Ok};
    assert_eq!(codes(&responses), [Ok, AlreadyExists, NotFound]);
}

#[tokio::test]
async fn malformed_operations_are_refused_in_both_modes() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let elsewhere = records.at(Place { collection: "others", ..records.place });
    let abroad = records.at(Place { namespace: "other", ..records.place });
    let inside = pb::CreateRequest {
        namespace: String::new(),
        collection_name: String::new(),
        ..records.place.create("x", item(1))
    };
    for (bad, field) in [
        (None, "operations[1]"),
        (Some(Op::Delete(elsewhere.place.delete("a"))), "operations[1].collection_name"),
        (Some(Op::Delete(abroad.place.delete("a"))), "operations[1].namespace"),
        (Some(Op::Delete(records.place.delete(""))), "operations[1].id"),
        (Some(Op::Create(pb::CreateRequest { item: None, ..inside.clone() })), "operations[1].item"),
    ] {
        for metadata in [&[][..], &APART] {
            let mut batch = records.place.batch(vec![Op::Create(inside.clone())]);
            batch.operations.push(pb::RequestOp { operation: bad.clone() });
            let status = run(&records, with(batch, metadata)).await.unwrap_err();
            assert_eq!((status.code(), bad_fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
        }
    }
    assert!(ids(&records).await.is_empty());
    assert!(run(&records, Request::new(records.place.batch(vec![]))).await.unwrap().is_empty());
    let many = (0..1_001).map(|_| Op::Delete(records.place.delete("a"))).collect();
    let status = run(&records, Request::new(records.place.batch(many))).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["operations"]);
    for (key, value) in [("collector-batch", "maybe"), ("if-match", "1")] {
        let status = run(&records, with(records.place.batch(vec![]), &[(key, value)])).await.unwrap_err();
        assert_eq!(bad_fields(&status), [format!("metadata {key}")]);
    }
}

#[tokio::test]
async fn a_batch_is_made_once_however_often_it_is_sent() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    for (key, mode) in [("together", None), ("apart", Some(APART[0]))] {
        records.put(&format!("{key}-old"), item(0)).await;
        let batch = || {
            let operations = vec![
                Op::Create(records.place.create("", item(1))),
                Op::Update(records.place.update(&format!("{key}-old"), json_item(&json!({ "m": 1 })), &["m"])),
                Op::Create(records.place.create(&format!("{key}-new"), item(2))),
            ];
            let metadata: Vec<_> = [("idempotency-key", key)].into_iter().chain(mode).collect();
            with(records.place.batch(operations), &metadata)
        };
        let first = run(&records, batch()).await.unwrap();
        assert_eq!(codes(&first), [pb::status::Code::Ok; 3]);
        records.client.delete(records.place, &format!("{key}-old")).await.unwrap();
        let before = ids(&records).await;
        assert_eq!(run(&records, batch()).await.unwrap(), first);
        assert_eq!(ids(&records).await, before);
        let mut other = batch();
        other.get_mut().operations.pop();
        let status = run(&records, other).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED".into()));
    }
}

#[tokio::test]
async fn a_batch_that_only_validates_answers_like_one_and_changes_nothing() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    records.put("a", item(1)).await;
    let only = [("collector-validate-only", "true")];
    let good = vec![
        Op::Delete(records.place.delete("a")),
        Op::Create(records.place.create("a", item(2))),
        Op::Update(records.place.update("a", item(3), &["n"])),
    ];
    let responses = run(&records, with(records.place.batch(good), &only)).await.unwrap();
    assert_eq!(codes(&responses), [pb::status::Code::Ok; 3]);
    let bad = vec![Op::Create(records.place.create("b", item(1))), Op::Create(records.place.create("b", item(1)))];
    let status = run(&records, with(records.place.batch(bad.clone()), &only)).await.unwrap_err();
    assert!(status.message().contains("operations[1]"), "{}", status.message());
    let responses = run(&records, with(records.place.batch(bad), &[only[0], APART[0]])).await.unwrap();
    assert_eq!(codes(&responses), [pb::status::Code::Ok, pb::status::Code::AlreadyExists]);
    assert_eq!(records.get("a").await.0, item(1));
    assert_eq!(ids(&records).await, ["a"]);
}
