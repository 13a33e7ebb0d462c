//! Records of collections as semantics.md section 3 has them: stored, read, changed, deleted.

use crate::support::*;
use collector::rpc::pb;
use prost_types::Any;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use tonic::{Code, Status};

fn any(type_url: &str, value: impl Into<Vec<u8>>) -> Any {
    Any { type_url: type_url.into(), value: value.into() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    verdict(&result.unwrap_err())
}

fn invalid() -> (Code, String) {
    (Code::InvalidArgument, "INVALID_ARGUMENT".into())
}

#[tokio::test]
async fn bytes_and_type_urls_come_back_exactly_as_they_were_stored() {
    let node = TestNode::start().await;
    let mut orders = Records::of_orders(&node, &[]).await;
    let order = order(&json!({ "title": "Tea", "counts": { "a": "1", "b": "2" } }));
    for prefix in ["type.googleapis.com/", "", "/", "example.com/any/depth/"] {
        let item = any(&format!("{prefix}shop.v1.Order"), order.value.clone());
        let info = orders.put("", item.clone()).await;
        assert_eq!(orders.get(&info.id).await, (item, info), "{prefix:?}");
    }
    orders.place.collection = "loose";
    orders.make("", &[]).await;
    for item in [
        any("", b"{ \"b\":1,\n\"a\" :2}".to_vec()),
        any("application/json", b"{}".to_vec()),
        any("no/such.Type", b"\xff\x00\xfe".to_vec()),
        any("", Vec::new()),
        any("x", b"[1, 2]".to_vec()),
    ] {
        let info = orders.put("", item.clone()).await;
        assert_eq!(orders.get(&info.id).await, (item, info));
    }
}

#[tokio::test]
async fn what_is_missing_taken_or_malformed_is_said() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let mut client = records.client.records.clone();
    let item = || json_item(&json!({ "a": 1 }));
    records.put("one", item()).await;
    let status = client.create(records.place.create("one", item())).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::AlreadyExists, "RECORD_EXISTS".into()));
    let not_found = |reason: &str| (Code::NotFound, reason.to_owned());
    assert_eq!(refused(records.try_get("two").await), not_found("RECORD_NOT_FOUND"));
    assert_eq!(refused(client.update(records.place.update("two", item(), &[])).await), not_found("RECORD_NOT_FOUND"));
    assert_eq!(
        refused(client.update(records.place.update("two", item(), &["a"])).await),
        not_found("RECORD_NOT_FOUND")
    );
    let elsewhere = records.at(Place { collection: "others", ..records.place });
    let create = client.create(elsewhere.place.create("one", item())).await;
    assert_eq!(refused(create), not_found("COLLECTION_NOT_FOUND"));
    assert_eq!(refused(elsewhere.try_get("one").await), not_found("COLLECTION_NOT_FOUND"));
    assert_eq!(refused(client.delete(elsewhere.place.delete("one")).await), not_found("COLLECTION_NOT_FOUND"));
    assert_eq!(refused(client.list(elsewhere.place.list()).await), not_found("COLLECTION_NOT_FOUND"));
    assert_eq!(refused(client.search(elsewhere.place.search()).await), not_found("COLLECTION_NOT_FOUND"));

    let missing = pb::CreateRequest { item: None, ..records.place.create("x", item()) };
    assert_eq!(bad_fields(&client.create(missing).await.unwrap_err()), ["item"]);
    let nameless = pb::CreateRequest { namespace: String::new(), ..records.place.create("x", item()) };
    assert_eq!(bad_fields(&client.create(nameless).await.unwrap_err()), ["namespace"]);
    let nowhere = pb::CreateRequest { collection_name: "a/b".into(), ..records.place.create("x", item()) };
    assert_eq!(bad_fields(&client.create(nowhere).await.unwrap_err()), ["collection_name"]);
    assert_eq!(bad_fields(&client.delete(records.place.delete("")).await.unwrap_err()), ["id"]);
    let system = records.at(Place { namespace: "system", ..records.place });
    assert_eq!(refused(system.try_get("one").await).0, Code::PermissionDenied);
    assert_eq!(refused(client.create(system.place.create("x", item())).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn generated_ids_and_creation_times_rise() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let mut before = (String::new(), None);
    for _ in 0..20 {
        let info = records.put("", json_item(&json!({}))).await;
        assert_eq!(uuid::Uuid::parse_str(&info.id).unwrap().get_version_num(), 7);
        let made = info.metadata.unwrap().created_at.map(|at| (at.seconds, at.nanos));
        assert!((&info.id, made) > (&before.0, before.1), "{before:?} {:?}", info.id);
        before = (info.id, made);
    }
}

#[tokio::test]
async fn etags_name_versions_and_if_match_holds_to_them() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let mut client = records.client.records.clone();
    let item = |n: u32| json_item(&json!({ "n": n }));
    let created = client.create(records.place.create("a", item(1))).await.unwrap();
    let first = etag(&created);
    assert_eq!(created.into_inner().info.unwrap().etag, first);
    assert_eq!(etag(&records.try_get("a").await.unwrap()), first);

    let quoted = format!("\"{first}\"");
    let updated = client.update(with(records.place.update("a", item(2), &[]), &[("if-match", &quoted)])).await.unwrap();
    let second = etag(&updated);
    assert_ne!(first, second);
    let aborted = (Code::Aborted, "CONFLICT".to_owned());
    for mask in [&[][..], &["n"]] {
        let stale = client.update(with(records.place.update("a", item(3), mask), &[("if-match", &first)])).await;
        assert_eq!(refused(stale), aborted);
    }
    assert_eq!(refused(client.delete(with(records.place.delete("a"), &[("if-match", &first)])).await), aborted);
    assert_eq!(records.get("a").await.0, item(2));
    for odd in ["", "*", "x", "-1", "\"1"] {
        let refused = client.delete(with(records.place.delete("a"), &[("if-match", odd)])).await.unwrap_err();
        assert_eq!((refused.code(), bad_fields(&refused)), (Code::InvalidArgument, vec!["metadata if-match".into()]));
    }
    client.delete(with(records.place.delete("a"), &[("if-match", &second)])).await.unwrap();
    assert_eq!(refused(client.delete(with(records.place.delete("a"), &[("if-match", &second)])).await), aborted);
    client.delete(records.place.delete("a")).await.unwrap();
    let again = records.put("a", item(1)).await;
    assert!(![first, second].contains(&again.etag), "never given again, not even after a delete");
}

#[tokio::test]
async fn an_update_replaces_the_record_and_keeps_its_birthday_and_labels() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let mut client = records.client.records.clone();
    let labels = |value: &str| HashMap::from([("team".to_owned(), value.to_owned())]);
    let create =
        pb::CreateRequest { labels: labels("tea"), ..records.place.create("a", json_item(&json!({ "n": 1 }))) };
    let made = client.create(create).await.unwrap().into_inner().info.unwrap().metadata.unwrap();
    assert_eq!(made.created_at, made.updated_at);
    client.update(records.place.update("a", json_item(&json!({ "m": 2 })), &[])).await.unwrap();
    let (item, info) = records.get("a").await;
    let metadata = info.metadata.unwrap();
    assert_eq!((item, &metadata.labels), (json_item(&json!({ "m": 2 })), &labels("tea")));
    assert_eq!(metadata.created_at, made.created_at);
    assert_ne!(metadata.updated_at, made.updated_at);
    let relabel = pb::UpdateRequest { labels: labels("milk"), ..records.place.update("a", item_of(3), &[]) };
    client.update(relabel).await.unwrap();
    assert_eq!(records.get("a").await.1.metadata.unwrap().labels, labels("milk"));
}

fn item_of(n: u32) -> Any {
    json_item(&json!({ "n": n }))
}

#[tokio::test]
async fn a_mask_changes_what_it_names_and_nothing_else() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    let mut client = orders.client.records.clone();
    let before = json!({
        "title": "Tea", "total": "5", "tags": ["a", "b"], "counts": { "x": "1", "y": "2" },
        "address": { "street": "Kings Road", "city": "Bath" }, "note": "gone soon",
    });
    let mut item = order(&before);
    item.value.extend_from_slice(b"\xa2\x06\x03new"); // field 100, which nobody knows
    orders.put("a", item).await;
    let with = order(&json!({
        "title": "not taken", "total": "6", "tags": ["c"], "counts": { "x": "7" }, "address": { "city": "York" },
    }));
    let mask = ["total", "tags", "counts.x", "address.city", "note"];
    client.update(orders.place.update("a", with, &mask)).await.unwrap();
    let (after, _) = orders.get("a").await;
    assert_eq!(
        read_order(&after),
        json!({
            "title": "Tea", "total": "6", "tags": ["c"], "counts": { "x": "7", "y": "2" },
            "address": { "street": "Kings Road", "city": "York" },
        })
    );
    assert!(after.value.windows(6).any(|window| window == b"\xa2\x06\x03new"), "unknown fields stay");
    let found = orders.place.search();
    let filters = HashMap::from([("address.city".to_owned(), filter(pb::FilterOperator::OpEquals, json!("York")))]);
    assert_eq!(orders.found(pb::SearchRequest { filters, ..found }).await, ["a"], "found by what it is now");
}

#[tokio::test]
async fn c07_masks_that_lead_nowhere_leave_the_record_untouched() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    let mut client = orders.client.records.clone();
    let item = order(&json!({ "title": "Tea" }));
    let info = orders.put("a", item.clone()).await;
    let many: Vec<String> = (0..10_000).map(|n| format!("counts.k{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for mask in [&["id"][..], &["nope"], &["title", "nope"], &["title.x"], &[""], &["address."], &many] {
        let status = client.update(orders.place.update("a", item.clone(), mask)).await.unwrap_err();
        assert_eq!(verdict(&status), invalid(), "{:?}", mask.first());
    }
    assert_eq!(orders.get("a").await, (item, info));
    let opaque = orders.at(Place { collection: "opaque", ..orders.place });
    opaque.make("", &[]).await;
    opaque.put("a", any("x", b"\xff".to_vec())).await;
    assert_eq!(refused(client.update(opaque.place.update("a", any("x", b"\xff".to_vec()), &["a"])).await), invalid());
}

#[tokio::test]
async fn c11_ids_are_bytes_and_never_merged() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let good = ["../x", "A", "a", "é", "e\u{301}", " ", "a/b", "%00", "'; --", "\u{1F600}", "x\ny"];
    for (n, id) in good.iter().enumerate() {
        records.put(id, json_item(&json!({ "n": n }))).await;
    }
    for (n, id) in good.iter().enumerate() {
        let (item, info) = records.get(id).await;
        assert_eq!((item, info.id.as_str()), (json_item(&json!({ "n": n })), *id));
    }
    let long = "i".repeat(1_024);
    records.put(&long, json_item(&json!({}))).await;
    let mut client = records.client.records.clone();
    for bad in ["a\0", &"i".repeat(1_025), &"i".repeat(1 << 20)] {
        let create = client.create(records.place.create(bad, json_item(&json!({})))).await;
        assert_eq!(refused(create), invalid());
        assert_eq!(refused(records.try_get(bad).await), invalid());
    }
    assert_eq!(refused(records.try_get("").await), invalid());
}

#[tokio::test]
async fn c14_of_64_who_count_by_version_each_ok_counts_once() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    records.put("counter", item_of(0)).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let records = records.clone();
            tokio::spawn(async move {
                let (item, info) = records.get("counter").await;
                let n: serde_json::Value = serde_json::from_slice(&item.value).unwrap();
                let next = item_of(u32::try_from(n["n"].as_u64().unwrap()).unwrap() + 1);
                let update = with(records.place.update("counter", next, &[]), &[("if-match", &info.etag)]);
                records.client.records.clone().update(update).await.map(drop)
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(status) => assert_eq!(verdict(&status), (Code::Aborted, "CONFLICT".into())),
        }
    }
    assert!(won > 0);
    assert_eq!(records.get("counter").await.0, item_of(won));
}

#[tokio::test]
async fn changes_of_parts_by_many_at_once_are_all_there() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    records.put("a", json_item(&json!({}))).await;
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let (records, field) = (records.clone(), format!("f{n}"));
            let item = json_item(&json!({ field.clone(): n }));
            tokio::spawn(async move { records.client.update(records.place, "a", item, &[&field]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let all: serde_json::Value = serde_json::from_slice(&records.get("a").await.0.value).unwrap();
    assert_eq!(all.as_object().unwrap().len(), 32, "{all}");
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let mut client = records.client.records.clone();
    let key = |key: &'static str| [("idempotency-key", key)];
    let create = || with(records.place.create("", item_of(1)), &key("k1"));
    let first = client.create(create()).await.unwrap().into_inner();
    assert_eq!(client.create(create()).await.unwrap().into_inner(), first, "the generated id too");
    let other = client.create(with(records.place.create("", item_of(2)), &key("k1"))).await;
    assert_eq!(refused(other), (Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED".into()));
    for mask in [&[][..], &["n"]] {
        let update =
            || with(records.place.update(&first.id, item_of(3), mask), &key(if mask.is_empty() { "k2" } else { "k3" }));
        let updated = client.update(update()).await.unwrap().into_inner();
        client.update(records.place.update(&first.id, item_of(4), &[])).await.unwrap();
        assert_eq!(client.update(update()).await.unwrap().into_inner(), updated, "{mask:?}");
        assert_eq!(records.get(&first.id).await.0, item_of(4), "and changes nothing");
    }
    client.delete(records.place.delete(&first.id)).await.unwrap();
    assert_eq!(client.create(create()).await.unwrap().into_inner(), first);
    let update = with(records.place.update(&first.id, item_of(3), &["n"]), &key("k3"));
    client.update(update).await.unwrap();
    assert_eq!(refused(records.try_get(&first.id).await).0, Code::NotFound);
    assert_eq!(refused(client.create(with(records.place.create("", item_of(1)), &key("a b"))).await), invalid());
}

#[tokio::test]
async fn repeats_at_the_same_time_make_one_record() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let records = records.clone();
            let create = with(records.place.create("", item_of(1)), &[("idempotency-key", "same")]);
            tokio::spawn(async move { records.client.records.clone().create(create).await.unwrap().into_inner().id })
        })
        .collect();
    let mut ids = HashSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap());
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(records.listed(records.place.list()).await.len(), 1);
}

#[tokio::test]
async fn a_call_that_only_validates_says_what_would_be_and_changes_nothing() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let mut client = records.client.records.clone();
    let only = [("collector-validate-only", "true")];
    let info = records.put("a", item_of(1)).await;
    let checked = client.create(with(records.place.create("b", item_of(1)), &only)).await.unwrap().into_inner();
    assert_eq!((checked.id.as_str(), checked.info), ("b", None));
    assert_eq!(refused(client.create(with(records.place.create("a", item_of(1)), &only)).await).0, Code::AlreadyExists);
    assert_eq!(refused(client.update(with(records.place.update("b", item_of(1), &[]), &only)).await).0, Code::NotFound);
    client.update(with(records.place.update("a", item_of(2), &[]), &only)).await.unwrap();
    client.update(with(records.place.update("a", item_of(2), &["n"]), &only)).await.unwrap();
    client.delete(with(records.place.delete("a"), &only)).await.unwrap();
    let stale = [("collector-validate-only", "true"), ("if-match", "1")];
    assert_eq!(refused(client.update(with(records.place.update("a", item_of(2), &[]), &stale)).await).0, Code::Aborted);
    assert_eq!(refused(client.delete(with(records.place.delete("a"), &stale)).await).0, Code::Aborted);
    assert_eq!(records.get("a").await, (item_of(1), info));
    assert_eq!(refused(records.try_get("b").await).0, Code::NotFound);
}

#[tokio::test]
async fn p03_unknown_fields_are_kept_once() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    let mut order = order(&json!({ "title": "Tea" }));
    let size = 3_900_000;
    order.value.extend_from_slice(b"\xa2\x06"); // field 100
    prost::encoding::encode_varint(size as u64, &mut order.value);
    order.value.resize(order.value.len() + size, b'x');
    orders.put("a", order.clone()).await;
    assert_eq!(orders.get("a").await.0, order);
    let described = orders.client.describe(orders.place).await.unwrap();
    let bytes = usize::try_from(described.storage_size_bytes).unwrap();
    assert!((size..size + (1 << 20)).contains(&bytes), "{bytes}");
    assert_eq!(described.record_count, 1);
}

#[tokio::test]
async fn p04_items_of_another_type_are_refused() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    let theirs = orders.at(Place { namespace: "other", ..orders.place });
    theirs.make("shop.v1.Order", &[]).await;
    let value = order(&json!({ "title": "Tea" })).value;
    let long = format!("type.googleapis.com/{}", "x".repeat(64 << 10));
    for type_url in ["", "/", "shop.v1.Address", "type.googleapis.com/shop.v1.Order/", "shop.v1.order", &long] {
        let status = orders.client.create(orders.place, "", any(type_url, value.clone())).await.unwrap_err();
        assert_eq!((verdict(&status), bad_fields(&status)), (invalid(), vec!["item.type_url".to_owned()]));
    }
    assert!(orders.listed(orders.place.list()).await.is_empty());
    // Another namespace's type of the same name is not looked at: there the records are loose.
    theirs.put("a", any("whatever", b"\xff".to_vec())).await;
}

#[tokio::test]
async fn p05_bytes_that_are_no_message_are_the_callers_fault() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    let bad: [&[u8]; 6] = [
        b"\x0a\x02\xff\xfe",                                 // invalid UTF-8
        b"\x0a\x03\xed\xa0\x80",                             // a lone surrogate
        b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // a varint of 11 bytes
        b"\x0a\x05abc",                                      // a truncated tail
        b"\x4a\x02\x0a\x7f",                                 // a length past its message
        b"\x0b",                                             // a group that does not end
    ];
    for value in bad {
        let item = any("shop.v1.Order", value.to_vec());
        let status = orders.client.create(orders.place, "", item).await.unwrap_err();
        assert_eq!(verdict(&status), invalid(), "{value:x?}: {status:?}");
        assert!(bad_fields(&status).iter().all(|field| field.starts_with("item")), "{status:?}");
    }
    orders.put("nul", order(&json!({ "title": "a\u{0}b" }))).await;
}

#[tokio::test]
async fn a_type_that_is_registered_later_counts_from_then_on() {
    let node = TestNode::start().await;
    let orders = Records::of(&node).await;
    orders.make("shop.v1.Order", &[]).await;
    orders.put("before", any("x", b"\xff".to_vec())).await;
    orders.client.register("acme", &order_files()).await.unwrap();
    let create = orders.client.create(orders.place, "", any("x", b"\xff".to_vec())).await;
    assert_eq!(refused(create), invalid());
    orders.put("after", order(&json!({ "title": "Tea" }))).await;
    let filters = HashMap::from([("title".to_owned(), filter(pb::FilterOperator::OpEquals, json!("Tea")))]);
    assert_eq!(orders.found(pb::SearchRequest { filters, ..orders.place.search() }).await, ["after"]);
    assert_eq!(orders.get("before").await.0.value, b"\xff");
}

#[tokio::test]
async fn a_restart_keeps_records_versions_and_answers() {
    let mut node = TestNode::start().await;
    let records = Records::of_orders(&node, &["total"]).await;
    records.put_orders(&[("a", json!({ "title": "green tea", "total": "1" })), ("b", json!({ "total": "2" }))]).await;
    let once = [("idempotency-key", "k")];
    let made = records.client.records.clone().create(with(records.place.create("", order(&json!({}))), &once)).await;
    let (made, before) = (made.unwrap().into_inner(), records.get("a").await);
    let list = pb::ListRequest { page_size: 1, ..records.place.list() };
    let page_token = records.client.page(list).await.unwrap().next_page_token;
    node.restart().await;
    let records = Records::of(&node).await;
    assert_eq!(records.get("a").await, before);
    let again = records.client.records.clone().create(with(records.place.create("", order(&json!({}))), &once)).await;
    assert_eq!(again.unwrap().into_inner(), made);
    assert_eq!(records.listed(pb::ListRequest { page_size: 1, page_token, ..records.place.list() }).await, ["b", "a"]);
    assert_eq!(records.found(pb::SearchRequest { full_text: "tea".into(), ..records.place.search() }).await, ["a"]);
}

#[tokio::test]
async fn meta_tells_version_limits_and_features() {
    let node = TestNode::start().await;
    let meta = Records::of(&node).await.client.records.meta(pb::MetaRequest {}).await.unwrap().into_inner();
    assert_eq!(meta.server_version, env!("CARGO_PKG_VERSION"));
    for limit in ["batch_operations", "page_size", "vector_dimensions", "record_id_bytes"] {
        assert!(meta.limits.get(limit).is_some_and(|limit| *limit > 0), "{limit}");
    }
    for feature in ["full_text", "vector", "idempotency_key"] {
        assert!(meta.features.iter().any(|known| known == feature), "{feature}");
    }
}
