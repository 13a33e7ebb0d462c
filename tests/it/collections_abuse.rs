//! Collections under abuse: scans that would take forever, figures out of bounds, floods of writes, callers who leave.

use crate::support::*;
use collector::rpc::pb;
use pb::request_op::Operation;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

const BIG: Place = Place { namespace: "acme", collection: "big" };
const SMALL: Place = Place { namespace: "acme", collection: "small" };
const OTHER: Place = Place { namespace: "other", collection: "small" };
/// Rows of the collection that is scanned.
const ROWS: usize = 50_000;
/// Scans at once.
const SCANS: usize = 16;
/// What an answer may be late by: two busy cores, a debug build.
const LATE: Duration = Duration::from_millis(700);

async fn records(node: &TestNode, places: &[Place]) -> Client {
    let client = Client::connect(&node.address()).await;
    for place in places {
        let mute = pb::Collection { full_text: pb::FullText::Off.into(), ..place.definition("", &[]) };
        client.make(mute).await.unwrap();
    }
    client
}

async fn fill(client: &Client, place: Place, rows: usize) {
    let numbers: Vec<usize> = (0..rows).collect();
    let tags: Vec<String> = (0..60).map(|n| format!("tag {n}")).collect();
    for chunk in numbers.chunks(1_000) {
        let item = |n: &usize| {
            let row = json!({ "n": n, "name": format!("row {n}"), "tags": tags });
            Operation::Create(place.create(&format!("r{n:06}"), json_item(&row)))
        };
        client.batch(place, chunk.iter().map(item).collect()).await.unwrap();
    }
}

/// Looks at every tag of every row and finds nothing: HTTP status and answer, and how long they took. Not by a stock gRPC
/// client: that hangs up at the deadline, just before the node answers.
async fn scan(address: String, patience: Duration) -> (u16, Value, Duration) {
    let request = json!({
        "namespace": BIG.namespace,
        "collectionName": BIG.collection,
        "filter": { "tags": { "op": "CONTAINS", "value": "in no row" } },
    });
    let (headers, began) = (patience.as_millis().to_string(), Instant::now());
    let headers = [("connect-timeout-ms", &*headers)];
    let (status, answer) = http_post(&address, "/collector.CollectionService/List", &headers, &request).await;
    (status, answer, began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c04_scans_end_at_their_deadline_and_point_reads_go_on() {
    let node = TestNode::start().await;
    let client = records(&node, &[BIG, OTHER]).await;
    fill(&client, BIG, ROWS).await;
    fill(&client, OTHER, 10).await;
    let (status, alone, takes) = scan(node.address(), Duration::from_secs(30)).await;
    assert_eq!((status, alone.get("items")), (200, None), "{alone}");
    let patience = (takes / 3).clamp(Duration::from_millis(20), Duration::from_millis(300));
    let mut scans = JoinSet::new();
    for _ in 0..SCANS {
        scans.spawn(scan(node.address(), patience));
    }
    let scanning = Arc::new(AtomicBool::new(true));
    let mut reads = JoinSet::new();
    for place in [BIG, OTHER] {
        let (client, scanning) = (client.clone(), scanning.clone());
        reads.spawn(async move {
            let (mut count, mut slowest) = (0, Duration::ZERO);
            while scanning.load(Ordering::SeqCst) {
                let began = Instant::now();
                client.get(place, &format!("r{:06}", count % 10)).await.unwrap();
                slowest = slowest.max(began.elapsed());
                count += 1;
            }
            (count, slowest)
        });
    }
    while let Some(ended) = scans.join_next().await {
        let (_, answer, took) = ended.unwrap();
        assert_eq!(answer["code"], "deadline_exceeded", "{answer}");
        assert!(took < patience + LATE, "a scan with {patience:?} to answer took {took:?}");
    }
    scanning.store(false, Ordering::SeqCst);
    while let Some(ended) = reads.join_next().await {
        let (count, slowest) = ended.unwrap();
        assert!(count > 0 && slowest < LATE, "{count} reads, the slowest took {slowest:?}");
    }
    // Nobody waits for them any more, so they do not take the readers from who comes next.
    let began = Instant::now();
    assert_eq!(client.page(OTHER.list()).await.unwrap().total_count, 10);
    let third = pb::ListRequest { filter: Some(as_struct(&json!({ "n": 3 }))), ..BIG.list() };
    assert!(client.page(third).await.unwrap().total_count == 1);
    assert!(began.elapsed() < takes + LATE, "the readers are still busy after {:?}", began.elapsed());
}

#[tokio::test]
async fn c04_a_pattern_is_a_text_like_any_other_and_50_000_characters_are_too_many() {
    let node = TestNode::start().await;
    let client = records(&node, &[SMALL]).await;
    fill(&client, SMALL, 100).await;
    client.create(SMALL, "percent", json_item(&json!({ "name": "100 %a_ sure" }))).await.unwrap();
    let find = async |value: String| {
        let filters = [("name".into(), filter(pb::FilterOperator::OpContains, value.into()))].into();
        let request = pb::SearchRequest { filters, ..SMALL.search() };
        let began = Instant::now();
        let answer = client.search(request).await.map(|reply| reply.total_count);
        assert!(began.elapsed() < LATE, "it took {:?}", began.elapsed());
        answer
    };
    assert_eq!(find("%a_".into()).await.unwrap(), 1, "no pattern");
    let refused = find("%a".repeat(25_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
}

#[tokio::test]
async fn c05_figures_out_of_bounds_are_clamped_or_refused() {
    let node = TestNode::start().await;
    let client = records(&node, &[SMALL]).await;
    fill(&client, SMALL, 1_100).await;
    let list = async |size: i32| {
        let page = client.page(pb::ListRequest { page_size: size, ..SMALL.list() }).await;
        page.map(|page| page.items.len()).map_err(|why| why.code())
    };
    for (size, wanted) in [(0, Ok(100)), (1, Ok(1)), (1_001, Ok(1_000)), (i32::MAX, Ok(1_000))] {
        assert_eq!(list(size).await, wanted, "page_size {size}");
    }
    let find = async |limit: i32, offset: i32| {
        let reply = client.search(pb::SearchRequest { limit, offset, ..SMALL.search() }).await;
        reply.map(|reply| (reply.results.len(), reply.total_count)).map_err(|why| why.code())
    };
    for (limit, offset, found) in [(0, 0, 100), (i32::MAX, 0, 1_000), (10, 1_095, 5), (10, 1_100, 0), (10, 5_000, 0)] {
        assert_eq!(find(limit, offset).await, Ok((found, 1_100)), "limit {limit}, offset {offset}");
    }
    for size in [-1, i32::MIN] {
        assert_eq!(list(size).await, Err(Code::InvalidArgument));
        assert_eq!(find(size, 0).await, Err(Code::InvalidArgument));
        assert_eq!(find(0, size).await, Err(Code::InvalidArgument));
    }
    assert_eq!(find(10, i32::MAX).await, Err(Code::InvalidArgument));
}

/// Holds the writer of a namespace up, as another process with a long transaction would.
struct Stalled(rusqlite::Connection);

impl Stalled {
    fn new(node: &TestNode, namespace: &str) -> Self {
        let file = node.data().join("records").join(format!("{}.db", hex::encode(namespace)));
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    fn release(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_writes_is_refused_with_a_hint_and_other_namespaces_do_not_notice() {
    let node = TestNode::start().await;
    let client = records(&node, &[SMALL, OTHER]).await;
    client.create(SMALL, "first", json_item(&json!({}))).await.unwrap();
    let stalled = Stalled::new(&node, "acme");
    let (mut writes, busy) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    // Several connections: one carries only so many calls at once.
    for connection in 0..10 {
        let client = Client::connect(&node.address()).await;
        for n in 0..60 {
            let (client, busy) = (client.clone(), busy.clone());
            writes.spawn(async move {
                let id = format!("c{connection}-{n}");
                let answer = client.create(SMALL, &id, json_item(&json!({}))).await;
                if answer.is_err() {
                    busy.fetch_add(1, Ordering::SeqCst);
                }
                (id, answer)
            });
        }
    }
    until("writes beyond the queue are refused", async || busy.load(Ordering::SeqCst) > 0).await;
    client.get(SMALL, "first").await.unwrap(); // reads pass
    client.create(OTHER, "mine", json_item(&json!({}))).await.unwrap();
    stalled.release();
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    while let Some(ended) = writes.join_next().await {
        match ended.unwrap() {
            (id, Ok(_)) => done.push(id),
            (id, Err(status)) => {
                assert_eq!(verdict(&status), (Code::ResourceExhausted, "BUSY".to_owned()), "{status:?}");
                let hint = status.get_details_retry_info().and_then(|info| info.retry_delay);
                assert!(hint.is_some_and(|hint| hint > Duration::ZERO), "{status:?}");
                refused.push(id);
            }
        }
    }
    assert!(!refused.is_empty() && !done.is_empty(), "{} done, {} refused", done.len(), refused.len());
    for id in done {
        client.get(SMALL, &id).await.unwrap();
    }
    for id in refused {
        assert_eq!(client.get(SMALL, &id).await.unwrap_err().code(), Code::NotFound, "{id}");
    }
    client.create(SMALL, "last", json_item(&json!({}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_leaves_in_the_middle_of_a_write_leaves_all_of_it_or_nothing() {
    let node = TestNode::start().await;
    let client = records(&node, &[SMALL]).await;
    for round in 0..40_u32 {
        let stalled = (round % 4 == 0).then(|| Stalled::new(&node, "acme"));
        let operations = (0..20).map(|n| {
            let item = json_item(&json!({ "round": round, "text": "x".repeat(2_000) }));
            Operation::Create(SMALL.create(&format!("b{round}-{n}"), item))
        });
        let (leaver, operations) = (Client::connect(&node.address()).await, operations.collect());
        let call = tokio::spawn(async move { leaver.batch(SMALL, operations).await.map(|_| ()) });
        // Leaves at another step of the call each time: after as many other calls as this.
        for _ in 0..round % 8 {
            client.describe(SMALL).await.unwrap();
        }
        call.abort();
        let _ = call.await;
        if let Some(stalled) = stalled {
            stalled.release();
        }
    }
    client.create(SMALL, "last", json_item(&json!({}))).await.unwrap();
    let mut whole = 0;
    for round in 0..40 {
        // One page is of one moment, also if the write comes only now.
        let filter = Some(as_struct(&json!({ "round": round })));
        let page = client.page(pb::ListRequest { filter, ..SMALL.list() }).await.unwrap();
        let there = page.items.len();
        assert!([0, 20].contains(&there), "{there} of 20 records are there");
        whole += there / 20;
    }
    assert!(whole > 0, "no write was made although its caller left: nothing was put to the test");
}
