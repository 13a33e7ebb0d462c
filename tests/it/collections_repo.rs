//! `CollectionRepo` as semantics.md section 4 has it: made, found, routed to, searched across.

use crate::support::*;
use collector::rpc::pb;
use serde_json::json;
use std::collections::HashMap;
use tonic::{Code, Status};

const NOTES: Place = Place::acme("notes");

async fn repo(node: &TestNode) -> Client {
    Client::connect(&node.address()).await
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn labelled(mut of: pb::Collection, pairs: &[(&str, &str)]) -> pb::Collection {
    of.metadata = Some(pb::Metadata { labels: labels(pairs), ..Default::default() });
    of
}

fn typed(mut of: pb::Collection, message_name: &str) -> pb::Collection {
    of.message_type = Some(pb::MessageTypeRef { namespace: String::new(), message_name: message_name.into() });
    of
}

/// All pages of a listing, by id.
async fn discover(repo: &Client, request: pb::DiscoverRequest) -> Result<Vec<String>, Status> {
    let mut request = request;
    let mut ids = Vec::new();
    loop {
        let page = repo.repo.clone().discover(request.clone()).await?.into_inner();
        assert!(request.page_size == 0 || page.collections.len() <= request.page_size as usize);
        ids.extend(page.collections.iter().map(|one| format!("{}/{}", one.namespace, one.name)));
        if page.next_page_token.is_empty() {
            return Ok(ids);
        }
        request.page_token = page.next_page_token;
    }
}

async fn across(repo: &Client, change: impl FnOnce(&mut pb::SearchCollectionsRequest)) -> Result<Found, Status> {
    let mut request = pb::SearchCollectionsRequest { namespace: "acme".into(), ..Default::default() };
    change(&mut request);
    let reply = repo.repo.clone().search_collections(request).await?.into_inner();
    let results = reply.results.into_iter().map(|result| {
        let ids: Vec<String> = result.infos.iter().map(|info| info.id.clone()).collect();
        assert_eq!(ids.len(), result.items.len());
        assert_eq!(ids.len(), result.scores.len());
        let scores = ids.iter().map(|id| result.scores[id]).collect();
        (result.collection_name, ids, scores)
    });
    Ok(Found { results: results.collect(), total: reply.total_matches })
}

struct Found {
    results: Vec<(String, Vec<String>, Vec<f64>)>,
    total: i64,
}

impl Found {
    /// `collection: ids` of each.
    fn names(&self) -> Vec<String> {
        self.results.iter().map(|(name, ids, _)| format!("{name}: {}", ids.join(" "))).collect()
    }
}

#[tokio::test]
async fn a_collection_is_made_once() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    let made = repo.make(collection("acme", "notes")).await.unwrap();
    assert_eq!(made.status.unwrap().code, 0);
    assert_eq!(made.collection_id, "acme/notes");
    assert_eq!(made.server_endpoint, node.node().address().to_string());

    let again = repo.make(typed(collection("acme", "notes"), "t.Other")).await.unwrap_err();
    assert_eq!(verdict(&again), (Code::AlreadyExists, "COLLECTION_EXISTS".into()), "whatever its definition");
    assert!(again.message().contains("already exists"), "{}", again.message());
    repo.make(collection("acme", "Notes")).await.unwrap();
    repo.make(collection("other", "notes")).await.unwrap();
}

#[tokio::test]
async fn of_many_who_make_one_collection_one_does() {
    let node = TestNode::start().await;
    let stub = repo(&node).await;
    let mut makers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let stub = stub.clone();
        makers.spawn(async move { stub.make(collection("acme", "notes")).await.map_err(|why| why.code()) });
    }
    let answers = makers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().all(|answer| !matches!(answer, Err(code) if *code != Code::AlreadyExists)));
}

#[tokio::test]
async fn the_definition_comes_back_as_it_was_made() {
    let node = TestNode::start_with(|config| config.server.advertised_address = "node-1.example:443".into()).await;
    let repo = repo(&node).await;
    let wanted = pb::Collection {
        indexed_fields: vec!["a.b".into(), "embedding:vector".into()],
        server_endpoint: "[::1]:9".into(),
        full_text: pb::FullText::Off.into(),
        ..labelled(typed(collection("acme", "notes"), "t.v1.Note"), &[("app.example/tier", "gold; \"1\"")])
    };
    let made = repo.make(wanted.clone()).await.unwrap();
    assert_eq!(made.server_endpoint, "[::1]:9");
    let found = repo.route(NOTES).await.unwrap();
    assert_eq!(found.server_endpoint, "[::1]:9");
    let found = found.collection.unwrap();
    let metadata = found.metadata.clone().unwrap();
    assert!(metadata.created_at.is_some() && metadata.created_at == metadata.updated_at);
    let of = found.message_type.clone().unwrap();
    assert_eq!((of.namespace.as_str(), of.message_name.as_str()), ("acme", "t.v1.Note"));
    assert_eq!(found.indexed_fields, wanted.indexed_fields);
    assert_eq!(metadata.labels, wanted.metadata.unwrap().labels);
    assert_eq!(found.full_text(), pb::FullText::Off);

    repo.make(collection("acme", "plain")).await.unwrap();
    let plain = repo.route(Place::acme("plain")).await.unwrap();
    assert_eq!(plain.server_endpoint, "node-1.example:443");
    assert_eq!(plain.collection.unwrap().server_endpoint, "", "as stored");
    for place in [Place::acme("none"), Place { namespace: "other", ..NOTES }] {
        let missing = repo.route(place).await.unwrap_err();
        assert_eq!(verdict(&missing), (Code::NotFound, "COLLECTION_NOT_FOUND".into()));
    }
}

#[tokio::test]
async fn validate_only_makes_nothing() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    let check = [("collector-validate-only", "true")];
    let checked = repo.make_with(collection("acme", "notes"), &check).await.unwrap();
    assert_eq!(checked.collection_id, "acme/notes");
    assert_eq!(repo.route(NOTES).await.unwrap_err().code(), Code::NotFound);
    repo.make(collection("acme", "notes")).await.unwrap();
    let taken = repo.make_with(collection("acme", "notes"), &check).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert_eq!(repo.drop_with(NOTES, &check).await.unwrap(), 0);
    repo.route(NOTES).await.unwrap();
}

#[tokio::test]
async fn a_repeat_with_its_key_gets_the_first_answer() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    let key = [("idempotency-key", "k-1")];
    for _ in 0..2 {
        let made = repo.make_with(collection("acme", "notes"), &key).await.unwrap();
        assert_eq!(made.collection_id, "acme/notes");
    }
    let other = repo.make_with(typed(collection("acme", "notes"), "t.Other"), &key).await.unwrap_err();
    assert_eq!(verdict(&other), (Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED".into()));
    let unnamed = repo.make(collection("acme", "notes")).await.unwrap_err();
    assert_eq!(unnamed.code(), Code::AlreadyExists);

    repo.create(NOTES, "1", json_item(&json!({}))).await.unwrap();
    for _ in 0..2 {
        assert_eq!(repo.drop_with(NOTES, &key).await.unwrap(), 1, "a key belongs to its RPC");
    }
    repo.make_with(collection("acme", "notes"), &key).await.unwrap();
    assert_eq!(repo.route(NOTES).await.unwrap_err().code(), Code::NotFound, "a repeat makes nothing");
    for bad in ["", "a b", &"k".repeat(256)] {
        let refused = repo.make_with(collection("acme", "other"), &[("idempotency-key", bad)]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test]
async fn c01_c13_what_is_malformed_is_refused_by_its_field() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    let ok = || collection("acme", "notes");
    let with_fields = |fields: Vec<String>| pb::Collection { indexed_fields: fields, ..ok() };
    let field = |name: &str| with_fields(vec![name.to_owned()]);
    let endpoint = |text: &str| pb::Collection { server_endpoint: text.to_owned(), ..ok() };
    let many: Vec<(String, String)> = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let elsewhere = pb::MessageTypeRef { namespace: "other".into(), message_name: "t.Note".into() };
    let cases = [
        (collection("", "notes"), "collection.namespace"),
        (collection("../x", "notes"), "collection.namespace"),
        (collection("acme", ""), "collection.name"),
        (collection("acme", "a/b"), "collection.name"),
        (collection("acme", &"n".repeat(129)), "collection.name"),
        (collection("acme", "n'; DROP TABLE records;--"), "collection.name"),
        (typed(ok(), ".t.Note"), "collection.message_type.message_name"),
        (typed(ok(), "t Note"), "collection.message_type.message_name"),
        (pb::Collection { message_type: Some(elsewhere), ..ok() }, "collection.message_type.namespace"),
        (labelled(ok(), &[("a') OR 1=1 --", "")]), "collection.metadata.labels"),
        (labelled(ok(), &[("\"a\"", "")]), "collection.metadata.labels"),
        (labelled(ok(), &[("", "")]), "collection.metadata.labels"),
        (labelled(ok(), &[("a", &"v".repeat(257))]), "collection.metadata.labels"),
        (labelled(ok(), &many), "collection.metadata.labels"),
        (endpoint("http://host:1"), "collection.server_endpoint"),
        (endpoint("host"), "collection.server_endpoint"),
        (endpoint(&format!("{}:1", "h".repeat(300))), "collection.server_endpoint"),
        (field("a') OR 1=1 --"), "indexed_fields"),
        (field("$"), "indexed_fields"),
        (field("a[#-1]"), "indexed_fields"),
        (field("a..b"), "indexed_fields"),
        (field(""), "indexed_fields"),
        (with_fields(vec!["a".into(), "a".into()]), "indexed_fields"),
        (with_fields(vec!["a:vector".into(), "b:vector".into()]), "indexed_fields"),
        (with_fields((0..33).map(|n| format!("f{n}")).collect()), "indexed_fields"),
        (with_fields((0..10_000).map(|n| format!("f{n}")).collect()), "indexed_fields"),
        (pb::Collection { full_text: 7, ..ok() }, "collection.full_text"),
    ];
    for (asked, field) in cases {
        let refused = repo.make(asked).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused:?}");
        assert!(refused.message().contains(field), "{field}: {}", refused.message());
    }
    let missing = repo.repo.clone().create_collection(pb::CreateCollectionRequest::default()).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::InvalidArgument, "collection is required"));
    let system = repo.make(collection("system", "mine")).await.unwrap_err();
    assert_eq!(system.code(), Code::PermissionDenied);
    assert!(discover(&repo, pb::DiscoverRequest::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_namespace_has_so_many_collections_and_no_more() {
    let node = TestNode::start_with(|config| {
        config.collections.per_namespace = 2;
        config.collections.count = 3;
    })
    .await;
    let repo = repo(&node).await;
    for name in ["a", "b"] {
        repo.make(collection("acme", name)).await.unwrap();
    }
    let full = repo.make(collection("acme", "c")).await.unwrap_err();
    assert_eq!(verdict(&full), (Code::ResourceExhausted, "TOO_MANY".into()));
    repo.make(collection("other", "a")).await.unwrap();
    assert_eq!(repo.make(collection("third", "a")).await.unwrap_err().code(), Code::ResourceExhausted);
    repo.drop(Place::acme("a")).await.unwrap();
    repo.make(collection("acme", "c")).await.unwrap();
}

#[tokio::test]
async fn discover_finds_by_namespace_label_and_type_in_pages() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    // `-` and `.` stand before `/`: ids are ordered as bytes, not by namespace and name.
    for namespace in ["a", "a-b", "a.b", "ab", "B"] {
        for name in ["x", "y"] {
            let tier = if name == "x" { "gold" } else { "tin" };
            let of = labelled(collection(namespace, name), &[("tier", tier), ("ns", namespace)]);
            let of = if namespace == "ab" { typed(of, "t.Note") } else { of };
            repo.make(of).await.unwrap();
        }
    }
    let all = pb::DiscoverRequest::default;
    let mut wanted: Vec<String> =
        ["a", "a-b", "a.b", "ab", "B"].iter().flat_map(|ns| [format!("{ns}/x"), format!("{ns}/y")]).collect();
    wanted.sort_unstable();
    for page_size in [0, 1, 3, 10, 1_000_000] {
        let found = discover(&repo, pb::DiscoverRequest { page_size, ..all() }).await.unwrap();
        assert_eq!(found, wanted, "{page_size}");
    }
    let of = pb::DiscoverRequest { namespace: "a".into(), page_size: 1, ..all() };
    assert_eq!(discover(&repo, of).await.unwrap(), ["a/x", "a/y"]);
    let of = pb::DiscoverRequest { label_filter: labels(&[("tier", "gold"), ("ns", "a.b")]), ..all() };
    assert_eq!(discover(&repo, of).await.unwrap(), ["a.b/x"]);
    let of = pb::DiscoverRequest { label_filter: labels(&[("tier", "Gold")]), ..all() };
    assert!(discover(&repo, of).await.unwrap().is_empty(), "byte for byte");
    let by_type = |namespace: &str, name: &str| pb::DiscoverRequest {
        message_type_filter: Some(pb::MessageTypeRef { namespace: namespace.into(), message_name: name.into() }),
        ..all()
    };
    assert_eq!(discover(&repo, by_type("", "t.Note")).await.unwrap(), ["ab/x", "ab/y"]);
    assert_eq!(discover(&repo, by_type("ab", "t.Note")).await.unwrap(), ["ab/x", "ab/y"]);
    assert!(discover(&repo, by_type("a", "t.Note")).await.unwrap().is_empty());
    assert!(discover(&repo, by_type("", "Note")).await.unwrap().is_empty());
}

#[tokio::test]
async fn c05_pages_have_their_bounds_and_tokens_their_query() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    for name in ["x", "y", "z"] {
        repo.make(collection("acme", name)).await.unwrap();
    }
    let negative = pb::DiscoverRequest { page_size: -1, ..Default::default() };
    assert_eq!(repo.repo.clone().discover(negative).await.unwrap_err().code(), Code::InvalidArgument);
    let first = pb::DiscoverRequest { page_size: 1, ..Default::default() };
    let token = repo.repo.clone().discover(first.clone()).await.unwrap().into_inner().next_page_token;
    // What the page ended with may go, and others may come.
    repo.drop(Place::acme("x")).await.unwrap();
    repo.make(collection("acme", "xx")).await.unwrap();
    let next = pb::DiscoverRequest { page_token: token.clone(), page_size: 9, ..first.clone() };
    assert_eq!(discover(&repo, next).await.unwrap(), ["acme/xx", "acme/y", "acme/z"]);
    let other = pb::DiscoverRequest { namespace: "acme".into(), page_token: token.clone(), ..first.clone() };
    assert_eq!(repo.repo.clone().discover(other).await.unwrap_err().code(), Code::InvalidArgument);
    let forged = pb::DiscoverRequest { page_token: format!("{token}A"), ..first };
    assert_eq!(repo.repo.clone().discover(forged).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn c10_nobody_sees_the_nodes_own_collections() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    repo.make(collection("acme", "notes")).await.unwrap();
    repo.register_note("string text = 1;").await.unwrap();
    assert_eq!(discover(&repo, pb::DiscoverRequest::default()).await.unwrap(), ["acme/notes"]);
    let system = pb::DiscoverRequest { namespace: "system".into(), ..Default::default() };
    assert_eq!(repo.repo.clone().discover(system).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(
        repo.route(Place { namespace: "system", collection: "collections" }).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let drop = repo.drop(Place { namespace: "system", collection: "collections" }).await.unwrap_err();
    assert_eq!(drop.code(), Code::PermissionDenied);
    let search = across(&repo, |request| request.namespace = "system".into()).await.err().unwrap();
    assert_eq!(search.code(), Code::PermissionDenied);
    let nowhere = across(&repo, |request| request.namespace.clear()).await.err().unwrap();
    assert_eq!((nowhere.code(), nowhere.message()), (Code::InvalidArgument, "namespace is required"));
}

#[tokio::test]
async fn ranks_compare_across_collections() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    for name in ["few", "many"] {
        repo.make(collection("acme", name)).await.unwrap();
    }
    let note = |text: &str| json_item(&json!({ "text": text }));
    repo.create(Place::acme("few"), "same", note("the quick brown fox")).await.unwrap();
    repo.create(Place::acme("few"), "best", note("fox fox")).await.unwrap();
    repo.create(Place::acme("many"), "same", note("the quick brown fox")).await.unwrap();
    for n in 0..30 {
        repo.create(Place::acme("many"), &format!("{n}"), note("the slow grey wolf and its many friends"))
            .await
            .unwrap();
    }
    let fox = |request: &mut pb::SearchCollectionsRequest| {
        request.query = Some(as_struct(&json!({ "full_text": "fox" })));
    };
    let found = across(&repo, fox).await.unwrap();
    assert_eq!(found.names(), ["few: best same", "many: same"]);
    assert_eq!(found.total, 3);
    let score = |of: usize, at: usize| found.results[of].2[at];
    assert!((score(0, 1) - score(1, 0)).abs() < 1e-9, "the same text ranks the same wherever it is");
    assert!(score(0, 0) > score(0, 1));

    let best = across(&repo, |request| {
        fox(request);
        request.limit = 1;
    });
    let best = best.await.unwrap();
    assert_eq!((best.names(), best.total), (vec!["few: best".to_owned()], 3));
    let named = across(&repo, |request| {
        fox(request);
        request.collection_names = vec!["many".into(), "many".into()];
    });
    assert_eq!(named.await.unwrap().names(), ["many: same"]);
}

#[tokio::test]
async fn a_search_across_collections_filters_and_orders() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    repo.register_note("string text = 1; int64 size = 2;").await.unwrap();
    repo.make(collection("acme", "loose")).await.unwrap();
    repo.make(typed(collection("acme", "typed"), "t.Note")).await.unwrap();
    repo.make(pb::Collection { full_text: pb::FullText::Off.into(), ..collection("acme", "mute") }).await.unwrap();
    for (id, size) in [("a", 3), ("b", 1)] {
        repo.create(Place::acme("loose"), id, json_item(&json!({ "size": size, "kind": "x" }))).await.unwrap();
    }
    // size = 2
    let two = prost_types::Any { type_url: "type.example/t.Note".into(), value: vec![0x10, 2] };
    repo.create(Place::acme("typed"), "c", two).await.unwrap();
    repo.create(Place::acme("mute"), "d", json_item(&json!({ "kind": "x", "text": "x" }))).await.unwrap();

    let newest = across(&repo, |_| ()).await.unwrap();
    assert_eq!((newest.names(), newest.total), (vec!["mute: d".into(), "typed: c".into(), "loose: b a".into()], 4));
    let by_size = across(&repo, |request| {
        request.order_by = "size desc".into();
        request.collection_names = vec!["loose".into(), "typed".into()];
    });
    assert_eq!(by_size.await.unwrap().names(), ["loose: a b", "typed: c"]);
    let filtered = |filters: serde_json::Value| {
        move |request: &mut pb::SearchCollectionsRequest| {
            request.query = Some(as_struct(&json!({ "filters": filters })));
        }
    };
    let kind = across(&repo, filtered(json!({ "kind": "x" }))).await.unwrap();
    assert_eq!(kind.names(), ["mute: d", "loose: b a"], "t.Note has no `kind`");
    let size = across(&repo, filtered(json!({ "size": { "op": "LESS_THAN", "value": 3 } }))).await.unwrap();
    assert_eq!((size.names(), size.total), (vec!["typed: c".into(), "loose: b".into()], 2));

    let text = |names: &[&str]| {
        let collection_names = names.iter().map(|&name| name.to_owned()).collect();
        move |request: &mut pb::SearchCollectionsRequest| {
            request.collection_names = collection_names;
            request.query = Some(as_struct(&json!({ "full_text": "x" })));
        }
    };
    assert_eq!(across(&repo, text(&[])).await.unwrap().total, 2, "collections without full text are passed over");
    let mute = across(&repo, text(&["mute"])).await.err().unwrap();
    assert_eq!(mute.code(), Code::FailedPrecondition);
    let missing = across(&repo, text(&["loose", "gone"])).await.err().unwrap();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn c02_c03_c05_a_malformed_search_across_collections_is_refused() {
    let node = TestNode::start().await;
    let repo = repo(&node).await;
    repo.make(collection("acme", "notes")).await.unwrap();
    let queries = [
        json!({ "text": "x" }),
        json!({ "full_text": 1 }),
        json!({ "full_text": "\"" }),
        json!({ "full_text": "NEAR(a b, 2147483647)" }),
        json!({ "filters": "x" }),
        json!({ "filters": { "a..b": 1 } }),
        json!({ "filters": { "a": { "op": "LIKE", "value": 1 } } }),
        json!({ "filters": { "a": { "op": "IN", "value": 1 } } }),
    ];
    for query in queries {
        let refused = across(&repo, |request| request.query = Some(as_struct(&query))).await;
        let refused = refused.err().unwrap_or_else(|| panic!("{query}"));
        assert_eq!(refused.code(), Code::InvalidArgument, "{query}: {refused:?}");
        assert!(refused.message().starts_with("query"), "{query}: {}", refused.message());
    }
    let refused =
        async |change: fn(&mut pb::SearchCollectionsRequest)| across(&repo, change).await.err().map(|why| why.code());
    assert_eq!(refused(|request| request.limit = -1).await, Some(Code::InvalidArgument));
    assert_eq!(refused(|request| request.order_by = "a..b".into()).await, Some(Code::InvalidArgument));
    assert_eq!(refused(|request| request.collection_names = vec!["../x".into()]).await, Some(Code::InvalidArgument));
    let many = |request: &mut pb::SearchCollectionsRequest| request.collection_names = vec!["notes".into(); 101];
    assert_eq!(refused(many).await, Some(Code::InvalidArgument));
    assert_eq!(refused(|request| request.limit = i32::MAX).await, None);
}
