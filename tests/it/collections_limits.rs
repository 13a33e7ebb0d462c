//! What a record, a request and a reply may be at most: at the limit everything works, beyond it the caller hears so.

use crate::support::*;
use collector::rpc::pb;
use pb::request_op::Operation;
use prost::Message as _;
use prost_types::Any;
use serde_json::json;
use std::collections::HashMap;
use tonic::{Code, Request, Status};

const SMALL: Place = Place::acme("small");
/// Above what the node held before a hostile request. Source: threats.md, P02.
const GROWTH_MAX_KIB: u64 = 64 << 10;

/// A JSON record, written exactly so.
fn written(text: &str) -> Any {
    Any { type_url: String::new(), value: text.into() }
}

async fn records(node: &TestNode) -> Client {
    let client = Client::connect(&node.address()).await;
    let small = pb::Collection { full_text: pb::FullText::Off.into(), ..SMALL.definition("", &[]) };
    client.make(small).await.unwrap();
    client
}

/// A field of that number that holds `content`.
fn run(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut out);
    out
}

async fn send(address: &str, method: &str, request: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel(address).await);
    grpc.ready().await.unwrap();
    let path = format!("/collector.CollectionService/{method}").parse().unwrap();
    grpc.unary(Request::new(request), path, RawCodec).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_millions_of_empty_parts_are_refused_before_they_take_memory() {
    let data = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(data.path(), &[]);
    let place = [run(1, b"acme"), run(2, b"small")].concat();
    let room = (4 << 20) - 1_024;
    let fill = |part: &[u8]| part.repeat(room / part.len());
    let create = |labels: &[u8]| run(3, &run(1, &[run(3, &[]), labels.to_vec()].concat()));
    let value = |list: &[u8]| run(2, &run(6, list));
    let hostile = [
        ("Batch", fill(&run(3, &[])), "operations"),
        ("Batch", create(&fill(&run(5, &[]))), "labels of one operation, all of one key"),
        ("Update", fill(&run(5, &[])), "paths"),
        ("Invoke", fill(&run(4, &[])), "ids"),
        ("List", run(3, &run(1, &value(&fill(&run(1, &[0x2a, 0]))))), "objects in a filter"),
        ("Search", fill(&run(4, &run(2, &[]))), "filters"),
    ];
    let warm = send(&node.address, "Batch", [place.clone(), fill(&run(999, &[]))].concat()).await;
    assert_eq!(warm.unwrap_err().code(), Code::NotFound, "unknown fields are nobody's business");
    for (method, request, what) in hostile {
        let before = node.resident_kib();
        let status = send(&node.address, method, [place.clone(), request].concat()).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::ResourceExhausted, "TOO_MANY".to_owned()), "{what}: {status:?}");
        let grown = node.peak_kib().saturating_sub(before);
        assert!(grown <= GROWTH_MAX_KIB, "{what}: grew by {grown} KiB");
    }
    // What is just light enough is answered, and takes no more.
    let object = run(1, &[0x2a, 0]);
    for (method, request) in [
        ("Batch", run(3, &[]).repeat(65_000)),
        ("Update", run(5, &[]).repeat(520_000)),
        ("List", run(3, &run(1, &value(&object.repeat(29_000))))),
    ] {
        let before = node.resident_kib();
        let status = send(&node.address, method, [place.clone(), request].concat()).await.unwrap_err();
        assert_ne!(status.code(), Code::ResourceExhausted, "{method}: {status:?}");
        let grown = node.peak_kib().saturating_sub(before);
        assert!(grown <= GROWTH_MAX_KIB, "{method}: grew by {grown} KiB");
    }
}

#[tokio::test]
async fn an_update_of_parts_leaves_every_record_one_that_can_be_read() {
    let node = TestNode::start().await;
    let client = records(&node).await;
    let large = "x".repeat(3 << 20);
    client.create(SMALL, "r", json_item(&json!({ "a": large }))).await.unwrap();
    let more = json_item(&json!({ "b": large }));
    let status = client.update(SMALL, "r", more.clone(), &["b"]).await.unwrap_err();
    assert_eq!((status.code(), bad_fields(&status)), (Code::InvalidArgument, vec!["update_mask".to_owned()]));
    let status = client.batch(SMALL, vec![Operation::Update(SMALL.update("r", more, &["b"]))]).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["operations[0].update_mask"]);
    let less = json_item(&json!({ "a": "short", "b": "x".repeat(1 << 20) }));
    client.update(SMALL, "r", less, &["b"]).await.unwrap_err();
    client.update(SMALL, "r", json_item(&json!({ "b": "x".repeat(1_000_000) })), &["b"]).await.unwrap();
    let (item, _) = client.get(SMALL, "r").await.unwrap();
    assert!(item.value.len() > 4_000_000);
    assert_eq!(client.page(SMALL.list()).await.unwrap().items.len(), 1);
    assert_eq!(client.search(SMALL.search()).await.unwrap().results.len(), 1);
    let meta = client.records.clone().meta(pb::MetaRequest {}).await.unwrap().into_inner();
    assert_eq!(meta.limits["record_bytes"], 4 << 20);
}

/// 64 labels of so many bytes each.
fn labels(bytes: usize) -> HashMap<String, String> {
    (0..64).map(|n| (format!("k{n:02}"), "v".repeat(bytes - 3))).collect()
}

#[tokio::test]
async fn the_answer_to_the_largest_batch_fits_into_a_reply_and_so_does_its_repetition() {
    let node = TestNode::start().await;
    let client = records(&node).await;
    let over = pb::CreateRequest { labels: labels(65), ..SMALL.create("over", written("{}")) };
    assert_eq!(bad_fields(&client.records.clone().create(over).await.unwrap_err()), ["labels"]);
    let ids: Vec<String> = (0..1_000).map(|n| format!("{n:0>1024}")).collect();
    for some in ids.chunks(500) {
        let create = |id: &String| pb::CreateRequest { labels: labels(64), ..SMALL.create(id, written(r#"{"n":1}"#)) };
        client.batch(SMALL, some.iter().map(create).map(Operation::Create).collect()).await.unwrap();
    }
    let operations: Vec<_> = ids.iter().map(|id| SMALL.update(id, written(r#"{"n":2}"#), &[])).collect();
    let operations = operations.into_iter().map(|one| pb::RequestOp { operation: Some(Operation::Update(one)) });
    let request = pb::BatchRequest {
        namespace: SMALL.namespace.into(),
        collection_name: SMALL.collection.into(),
        operations: operations.collect(),
    };
    let mut replies = Vec::new();
    for _ in 0..2 {
        let mut request = Request::new(request.clone());
        request.metadata_mut().insert("idempotency-key", "all".parse().unwrap());
        replies.push(client.records.clone().batch(request).await.unwrap().into_inner());
    }
    assert_eq!(replies[0], replies[1]);
    let bytes = replies[0].encoded_len();
    assert!(replies[0].responses.len() == 1_000 && (5 << 20..8 << 20).contains(&bytes), "{bytes} bytes");
}

#[tokio::test]
async fn an_error_about_a_long_path_is_short() {
    let node = TestNode::start().await;
    let client = records(&node).await;
    let path = "\n\"p".repeat(1 << 18);
    for operator in [99, 0] {
        let mut request = SMALL.search();
        request.filters.insert(path.clone(), pb::Filter { operator, value: Some(as_value(&json!(1))) });
        let status = client.search(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message().len());
        assert!(status.message().len() <= 1_100 && !status.message().contains('\n'), "{}", status.message());
        let [field] = &bad_fields(&status)[..] else { panic!("{status:?}") };
        assert!(field.starts_with("filters[") && field.len() <= 300, "{field}");
    }
}

#[tokio::test]
async fn numbers_are_found_as_they_are_written_and_stay_as_they_are_written() {
    let node = TestNode::start().await;
    let client = records(&node).await;
    let (near, large) = (0.9556595384052861, "123456789012345678901234567890");
    let text = format!(r#"{{"near":{near},"large":{large},"n":1}}"#);
    client.create(SMALL, "r", written(&text)).await.unwrap();
    assert_eq!(
        client
            .page(pb::ListRequest { filter: Some(as_struct(&json!({ "near": near }))), ..SMALL.list() })
            .await
            .unwrap()
            .total_count,
        1
    );
    client.update(SMALL, "r", written(r#"{"n":2}"#), &["n"]).await.unwrap();
    let (item, _) = client.get(SMALL, "r").await.unwrap();
    assert_eq!(String::from_utf8(item.value).unwrap(), text.replace("\"n\":1", "\"n\":2"));
    let status = client.create(SMALL, "beyond", written(r#"{"n":1e400}"#)).await.unwrap_err();
    assert_eq!((status.code(), bad_fields(&status)), (Code::InvalidArgument, vec!["item.value".to_owned()]));
    assert!(status.message().contains("number out of range at line 1 column"), "{}", status.message());
}
