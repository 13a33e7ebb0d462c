//! Listing and searching collections, as semantics.md section 3 has them.

use crate::support::*;
use collector::rpc::pb;
use pb::FilterOperator as Op;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::Code;

fn filters(all: &[(&str, Op, Value)]) -> HashMap<String, pb::Filter> {
    all.iter().map(|(path, operator, value)| ((*path).to_owned(), filter(*operator, value.clone()))).collect()
}

fn invalid() -> (Code, String) {
    (Code::InvalidArgument, "INVALID_ARGUMENT".into())
}

/// Three orders of all kinds of fields.
async fn three(orders: &Records) {
    let all = [
        (
            "tea",
            json!({
                "title": "Green tea", "total": "9007199254740993", "serial": "18446744073709551615", "weight": 0.5,
                "paid": true, "kind": "KIND_GIFT", "tags": ["hot", "green"], "counts": { "cups": "2" },
                "address": { "city": "Bath" }, "madeAt": "2026-01-02T03:04:05.000000006Z", "note": "",
            }),
        ),
        (
            "milk",
            json!({
                "title": "Milk", "total": "9007199254740992", "weight": "NaN", "tags": ["cold"],
                "address": { "city": "York" }, "madeAt": "2026-01-02T03:04:05Z",
            }),
        ),
        ("none", json!({})),
    ];
    orders.put_orders(&all).await;
}

#[tokio::test]
async fn every_operator_finds_what_it_says() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &["total"]).await;
    three(&orders).await;
    let cases = [
        ("title", Op::OpEquals, json!("Milk"), &["milk"][..]),
        ("title", Op::OpNotEquals, json!("Milk"), &["none", "tea"]),
        ("total", Op::OpEquals, json!("9007199254740993"), &["tea"]),
        ("total", Op::OpGreaterThan, json!("9007199254740992"), &["tea"]),
        ("total", Op::OpLessThan, json!("9007199254740993"), &["milk", "none"]),
        ("total", Op::OpGreaterEqual, json!("9007199254740992"), &["milk", "tea"]),
        ("total", Op::OpLessEqual, json!(0), &["none"]),
        ("serial", Op::OpGreaterThan, json!("18446744073709551614"), &["tea"]),
        ("weight", Op::OpGreaterThan, json!(0.4), &["milk", "tea"]),
        ("weight", Op::OpEquals, json!("NaN"), &["milk"]),
        ("paid", Op::OpEquals, json!(true), &["tea"]),
        ("kind", Op::OpEquals, json!("KIND_GIFT"), &["tea"]),
        ("kind", Op::OpEquals, json!(1), &["tea"]),
        ("title", Op::OpContains, json!("een t"), &["tea"]),
        ("tags", Op::OpContains, json!("hot"), &["tea"]),
        ("tags", Op::OpEquals, json!("cold"), &["milk"]),
        ("counts.cups", Op::OpEquals, json!(2), &["tea"]),
        ("address.city", Op::OpIn, json!(["York", "Bath", "Rome"]), &["milk", "tea"]),
        ("address.city", Op::OpIn, json!([]), &[]),
        ("address.city", Op::OpExists, Value::Null, &["milk", "tea"]),
        ("address", Op::OpNotExists, Value::Null, &["none"]),
        ("title", Op::OpExists, Value::Null, &["milk", "tea"]),
        ("note", Op::OpExists, Value::Null, &["tea"]),
        ("made_at", Op::OpGreaterThan, json!("2026-01-02T03:04:05Z"), &["tea"]),
        ("madeAt", Op::OpEquals, json!("2026-01-02T04:04:05+01:00"), &["milk"]),
    ];
    for (path, operator, value, expected) in cases {
        let search = pb::SearchRequest {
            filters: filters(&[(path, operator, value.clone())]),
            order_by: "id".into(),
            ascending: true,
            ..orders.place.search()
        };
        assert_eq!(orders.found(search).await, expected, "{path} {operator:?} {value}");
    }
    let both = filters(&[("title", Op::OpExists, Value::Null), ("paid", Op::OpEquals, json!(false))]);
    assert_eq!(
        orders.found(pb::SearchRequest { filters: both, ..orders.place.search() }).await,
        ["milk"],
        "all must match"
    );
}

#[tokio::test]
async fn json_records_are_found_as_they_are() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &["n"]).await;
    for (id, json) in [
        ("a", json!({ "n": 1, "in": { "city": "Bath" }, "list": [1, "x"], "flag": true, "none": null })),
        ("b", json!({ "n": "1", "list": [{ "city": "York" }] })),
        ("c", json!({ "n": 1.5, "flag": 1 })),
    ] {
        records.put(id, json_item(&json)).await;
    }
    records.put("opaque", prost_types::Any { type_url: "x".into(), value: vec![0xff] }).await;
    for (path, operator, value, expected) in [
        ("n", Op::OpEquals, json!(1), &["a"][..]),
        ("n", Op::OpEquals, json!("1"), &["b"]),
        ("n", Op::OpGreaterThan, json!(1), &["c"]),
        ("in.city", Op::OpEquals, json!("Bath"), &["a"]),
        ("list.city", Op::OpEquals, json!("York"), &["b"]),
        ("list", Op::OpContains, json!("x"), &["a"]),
        ("flag", Op::OpEquals, json!(true), &["a"]),
        ("none", Op::OpExists, Value::Null, &[]),
        ("n", Op::OpNotExists, Value::Null, &["opaque"]),
    ] {
        let search = pb::SearchRequest {
            filters: filters(&[(path, operator, value.clone())]),
            order_by: "id".into(),
            ascending: true,
            ..records.place.search()
        };
        assert_eq!(records.found(search).await, expected, "{path} {operator:?} {value}");
    }
}

#[tokio::test]
async fn a_listing_is_filtered_ordered_and_counted() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &["total"]).await;
    three(&orders).await;
    assert_eq!(orders.listed(orders.place.list()).await, ["none", "milk", "tea"], "newest first");
    for (order_by, expected) in [
        ("total", ["none", "milk", "tea"]),
        ("total desc", ["tea", "milk", "none"]),
        ("address.city, id", ["none", "tea", "milk"]),
        ("created_at", ["tea", "milk", "none"]),
        ("id desc", ["tea", "none", "milk"]),
        ("weight DESC", ["milk", "tea", "none"]),
        ("paid, id desc", ["none", "milk", "tea"]),
    ] {
        for page_size in [1, 2, 0] {
            let list = pb::ListRequest { order_by: order_by.into(), page_size, ..orders.place.list() };
            assert_eq!(orders.listed(list).await, expected, "{order_by} by {page_size}");
        }
    }
    let filter = Some(as_struct(&json!({ "total": { "op": "GREATER_THAN", "value": 0 }, "paid": false })));
    let list = pb::ListRequest { filter, page_size: 1, ..orders.place.list() };
    let reply = orders.client.page(list).await.unwrap();
    assert_eq!((reply.infos[0].id.as_str(), reply.total_count, reply.next_page_token.as_str()), ("milk", 1, ""));
    for bad in
        [json!({ "nope": 1 }), json!({ "total": { "opp": 1 } }), json!({ "total": { "op": "LIKE", "value": 1 } })]
    {
        let list = pb::ListRequest { filter: Some(as_struct(&bad)), ..orders.place.list() };
        assert_eq!(verdict(&orders.client.page(list).await.unwrap_err()), invalid());
    }
}

#[tokio::test]
async fn a_page_token_is_good_for_its_query_only() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    for n in 0..3 {
        records.put(&format!("{n}"), json_item(&json!({ "n": n }))).await;
    }
    let mut client = records.client.records.clone();
    let first = client.list(pb::ListRequest { page_size: 1, ..records.place.list() }).await.unwrap().into_inner();
    let page_token = first.next_page_token;
    let goes_on = pb::ListRequest { page_token: page_token.clone(), page_size: 2, ..records.place.list() };
    assert_eq!(records.listed(goes_on).await, ["1", "0"], "the size may differ");
    let elsewhere = records.at(Place { collection: "others", ..records.place });
    elsewhere.make("", &[]).await;
    for other in [
        pb::ListRequest { page_token: page_token.clone(), order_by: "id".into(), ..records.place.list() },
        pb::ListRequest {
            page_token: page_token.clone(),
            filter: Some(as_struct(&json!({ "n": 1 }))),
            ..records.place.list()
        },
        pb::ListRequest { page_token: page_token.clone(), ..elsewhere.place.list() },
        pb::ListRequest { page_token: format!("{page_token}x"), ..records.place.list() },
        pb::ListRequest { page_token: "AAAA".into(), ..records.place.list() },
    ] {
        assert_eq!(bad_fields(&client.list(other).await.unwrap_err()), ["page_token"]);
    }
}

#[tokio::test]
async fn what_is_there_all_the_time_is_listed_once_whatever_is_written() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &["n"]).await;
    let ids: Vec<String> = (0..60).map(|n| format!("stay{n:02}")).collect();
    for (n, id) in ids.iter().enumerate() {
        records.put(id, json_item(&json!({ "n": n % 7 }))).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (records, done) = (records.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let id = format!("come{n}");
                records.put(&id, json_item(&json!({ "n": n % 7 }))).await;
                records.client.delete(records.place, &id).await.unwrap();
                n += 1;
            }
        })
    };
    for order_by in ["", "id", "n", "n desc, id desc", "created_at"] {
        let list = pb::ListRequest { order_by: order_by.into(), page_size: 7, ..records.place.list() };
        let mut found = records.listed(list).await;
        found.retain(|id| id.starts_with("stay"));
        found.sort_unstable();
        assert_eq!(found, ids, "{order_by}");
    }
    done.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test]
async fn text_is_found_by_its_words_best_first() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    let all = [
        ("a", json!({ "title": "green tea", "note": "black coffee" })),
        ("b", json!({ "title": "tea tea tea" })),
        ("c", json!({ "title": "engine", "tags": ["tea house"] })),
        ("d", json!({ "title": "nothing" })),
    ];
    orders.put_orders(&all).await;
    for (full_text, expected) in [
        ("tea", &["a", "b", "c"][..]),
        ("tea AND coffee", &["a"]),
        ("tea NOT green", &["b", "c"]),
        ("coffee OR engine", &["a", "c"]),
        ("\"green tea\"", &["a"]),
        ("\"tea black\"", &[]), // of two fields
        ("eng*", &["c"]),
        ("NEAR(black coffee, 2)", &["a"]),
        ("title", &[]),
        ("TÉA", &["a", "b", "c"]),
    ] {
        let mut found = orders.found(pb::SearchRequest { full_text: full_text.into(), ..orders.place.search() }).await;
        found.sort_unstable();
        assert_eq!(found, expected, "{full_text}");
    }
    let search = pb::SearchRequest { full_text: "tea".into(), limit: 2, ..orders.place.search() };
    let reply = orders.client.search(search).await.unwrap();
    assert_eq!((reply.total_count, reply.results.len()), (3, 2), "all are counted");
    assert_eq!(reply.results[0].info.as_ref().unwrap().id, "b");
    assert!(reply.results[0].score > reply.results[1].score && reply.results[1].score > 0.0);
}

#[tokio::test]
async fn text_search_is_off_where_the_collection_was_made_so() {
    let node = TestNode::start().await;
    let records = Records::of(&node).await;
    let mute = pb::Collection { full_text: pb::FullText::Off.into(), ..records.place.definition("", &[]) };
    records.client.make(mute).await.unwrap();
    records.put("a", json_item(&json!({ "t": "tea" }))).await;
    let status = records.refused(pb::SearchRequest { full_text: "tea".into(), ..records.place.search() }).await;
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "NO_FULL_TEXT".into()));
    assert_eq!(records.found(records.place.search()).await, ["a"], "the rest works");
}

#[tokio::test]
async fn labels_narrow_a_search() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    for (id, team) in [("a", "tea"), ("b", "milk"), ("c", "")] {
        let labels = HashMap::from([("team".to_owned(), team.to_owned()), ("x.y/z".to_owned(), "1".to_owned())]);
        let create = pb::CreateRequest { labels, ..records.place.create(id, json_item(&json!({}))) };
        records.client.records.clone().create(create).await.unwrap();
    }
    records.put("d", json_item(&json!({}))).await;
    for (label, value, expected) in
        [("team", "tea", &["a"][..]), ("team", "", &["c"]), ("x.y/z", "1", &["c", "b", "a"]), ("other", "", &[])]
    {
        let label_filters = HashMap::from([(label.to_owned(), value.to_owned())]);
        assert_eq!(
            records.found(pb::SearchRequest { label_filters, ..records.place.search() }).await,
            expected,
            "{label}"
        );
    }
}

#[tokio::test]
async fn the_nearest_vectors_come_first() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &["spot:vector"]).await;
    let all = [
        ("east", json!({ "spot": [1, 0] })),
        ("north", json!({ "spot": [0, 2] })),
        ("west", json!({ "spot": [-3, 0], "title": "far" })),
        ("space", json!({ "spot": [1, 0, 0] })),
        ("none", json!({})),
    ];
    orders.put_orders(&all).await;
    let search = |threshold| pb::SearchRequest {
        vector: vec![2.0, 0.0],
        similarity_threshold: threshold,
        ..orders.place.search()
    };
    assert_eq!(orders.found(search(0.0)).await, ["east", "north", "west"]);
    assert_eq!(orders.found(search(0.5)).await, ["east"]);
    let reply = orders.client.search(search(-1.0)).await.unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    for (result, cosine) in reply.results.iter().zip([1.0, 0.0, -1.0]) {
        assert!(close(result.score, cosine) && close(result.distance, 1.0 - cosine), "{result:?}");
    }
    let narrowed = pb::SearchRequest { filters: filters(&[("title", Op::OpEquals, json!("far"))]), ..search(0.0) };
    assert_eq!(orders.found(narrowed).await, ["west"]);
}

#[tokio::test]
async fn c12_vectors_of_the_wrong_kind_are_refused() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &["spot:vector"]).await;
    orders.put_orders(&[("a", json!({ "spot": [1, 0] })), ("b", json!({}))]).await;
    for vector in [vec![1.0; 1_000_000], vec![1.0, f32::NAN], vec![f32::INFINITY, 1.0], vec![0.0, 0.0], vec![1.0; 3]] {
        let status = orders.refused(pb::SearchRequest { vector, ..orders.place.search() }).await;
        assert_eq!((verdict(&status), bad_fields(&status)), (invalid(), vec!["vector".to_owned()]));
    }
    let plain = orders.at(Place { collection: "plain", ..orders.place });
    plain.make("shop.v1.Order", &[]).await;
    let status = plain.refused(pb::SearchRequest { vector: vec![1.0], ..plain.place.search() }).await;
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "NO_VECTOR".into()));
}

#[tokio::test]
async fn c01_c02_names_that_pose_as_sql_or_json_paths_are_no_other_field() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    orders.put_orders(&[("a", json!({ "title": "Tea", "tags": ["x"] }))]).await;
    let hostile = [
        "a') OR 1=1 --",
        "title' OR '1'='1",
        "$",
        "$.title",
        "tags[0]",
        "tags[#-1]",
        "title\"",
        "]",
        "..",
        "*",
        "title..x",
        ".title",
        "title.",
        "TITLE",
        "",
        "a\0b",
    ];
    for path in hostile {
        let search =
            pb::SearchRequest { filters: filters(&[(path, Op::OpExists, Value::Null)]), ..orders.place.search() };
        assert_eq!(verdict(&orders.refused(search).await), invalid(), "{path}");
        let list = pb::ListRequest { filter: Some(as_struct(&json!({ path: 1 }))), ..orders.place.list() };
        assert_eq!(verdict(&orders.client.page(list).await.unwrap_err()), invalid(), "{path}");
    }
    for order_by in ["x') DESC; DROP TABLE records;--", "title; DROP", "title sideways", "title,,total", ",", "tags"] {
        let list = pb::ListRequest { order_by: order_by.into(), ..orders.place.list() };
        assert_eq!(verdict(&orders.client.page(list).await.unwrap_err()), invalid(), "{order_by}");
    }
    let label_filters = HashMap::from([("a\"'".to_owned(), "x".to_owned())]);
    assert_eq!(verdict(&orders.refused(pb::SearchRequest { label_filters, ..orders.place.search() }).await), invalid());
    let labels = HashMap::from([("a\"'".to_owned(), "x".to_owned())]);
    let create = pb::CreateRequest { labels, ..orders.place.create("", order(&json!({}))) };
    assert_eq!(verdict(&orders.client.records.clone().create(create).await.unwrap_err()), invalid());

    let loose = orders.at(Place { collection: "loose", ..orders.place });
    loose.make("", &[]).await;
    loose.put("odd", json_item(&json!({ "$": 1, "[#-1]": 2, "*": 3, "plain": 4 }))).await;
    for (path, expected) in [("$", 1), ("[#-1]", 2), ("*", 3)] {
        let of = |value: i32| pb::SearchRequest {
            filters: filters(&[(path, Op::OpEquals, json!(value))]),
            ..loose.place.search()
        };
        assert_eq!(loose.found(of(expected)).await, ["odd"], "{path} is a name like any other");
        assert!(loose.found(of(4)).await.is_empty(), "{path}");
    }
    assert_eq!(orders.listed(orders.place.list()).await, ["a"], "nothing was dropped");
}

#[tokio::test]
async fn c03_texts_that_are_no_expressions_are_refused_or_found_literally() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    records.put("a", json_item(&json!({ "t": "tea" }))).await;
    let many = "tea OR ".repeat(100_000) + "tea";
    for full_text in ["\"", "NEAR(a b, 2147483647)", "t:tea", "*", "AND", "tea AND", "(tea", "tea)", &many] {
        let status = records.refused(pb::SearchRequest { full_text: full_text.into(), ..records.place.search() }).await;
        let start: String = full_text.chars().take(20).collect();
        assert_eq!((verdict(&status), bad_fields(&status)), (invalid(), vec!["full_text".to_owned()]), "{start}");
    }
}

#[tokio::test]
async fn c05_sizes_are_clamped_or_refused_and_replies_stay_small() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let large = "x".repeat(1 << 20);
    for n in 0..12 {
        records.put(&format!("{n:02}"), json_item(&json!({ "n": n, "large": large }))).await;
    }
    let mut client = records.client.records.clone();
    for page_size in [-1, i32::MIN] {
        let list = pb::ListRequest { page_size, ..records.place.list() };
        assert_eq!(bad_fields(&client.list(list).await.unwrap_err()), ["page_size"]);
        let search = pb::SearchRequest { limit: page_size, ..records.place.search() };
        assert_eq!(bad_fields(&records.refused(search).await), ["limit"]);
        let search = pb::SearchRequest { offset: page_size, ..records.place.search() };
        assert_eq!(bad_fields(&records.refused(search).await), ["offset"]);
    }
    let far = pb::SearchRequest { offset: i32::MAX, ..records.place.search() };
    assert_eq!(bad_fields(&records.refused(far).await), ["offset"]);
    for size in [0, i32::MAX] {
        let list = pb::ListRequest { page_size: size, ..records.place.list() };
        let reply = client.list(list.clone()).await.unwrap().into_inner();
        assert!(prost::Message::encoded_len(&reply) <= 8 << 20 && !reply.items.is_empty());
        assert_eq!(reply.total_count, 12);
        assert_eq!(records.listed(list).await.len(), 12, "short pages, and all of them");
        let search = pb::SearchRequest { limit: size, ..records.place.search() };
        let reply = client.search(search).await.unwrap().into_inner();
        assert!(prost::Message::encoded_len(&reply) <= 8 << 20 && !reply.results.is_empty());
        assert_eq!(reply.total_count, 12);
    }
    let rest = pb::SearchRequest { offset: 11, order_by: "n".into(), ascending: true, ..records.place.search() };
    assert_eq!(records.found(rest).await, ["11"]);
    let past = pb::SearchRequest { offset: 12, ..records.place.search() };
    assert!(records.found(past).await.is_empty());
}

#[tokio::test]
async fn p06_filters_that_are_deep_or_long_are_refused() {
    let node = TestNode::start().await;
    let orders = Records::of_orders(&node, &[]).await;
    let long: Vec<Value> = (0..100_000).map(Value::from).collect();
    let many = filters(&[("total", Op::OpIn, Value::Array(long))]);
    let status = orders.refused(pb::SearchRequest { filters: many, ..orders.place.search() }).await;
    assert_eq!(verdict(&status), invalid());
    // Deeper than messages nest: 100 objects of three messages each.
    let deep = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
    let list = pb::ListRequest { filter: Some(as_struct(&json!({ "total": deep }))), ..orders.place.list() };
    let status = orders.client.clone().list(list).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::InvalidArgument, "UNDECODABLE".into()));
    // As deep as messages nest.
    let deep = (0..30).fold(json!(1), |inner, _| json!({ "a": inner }));
    let list = pb::ListRequest { filter: Some(as_struct(&json!({ "total": deep }))), ..orders.place.list() };
    assert_eq!(verdict(&orders.client.page(list).await.unwrap_err()), invalid());
    let unknown = pb::Filter { operator: 99, value: None };
    let unknown = HashMap::from([("total".to_owned(), unknown)]);
    let status = orders.refused(pb::SearchRequest { filters: unknown, ..orders.place.search() }).await;
    assert_eq!(bad_fields(&status), ["filters[\"total\"].operator"]);
}
