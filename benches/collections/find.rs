//! Finding: text, filters, and walking through everything.

use crate::data::{COMMON, NAMESPACE, Words};
use crate::process::Process;
use crate::report::{Row, quantile};
use crate::write::load;
use crate::{Failure, Size, channel, client};
use collector::rpc::pb;
use pb::collection_service_client::CollectionServiceClient;
use pb::record::v1::collections_client::CollectionsClient;
use pb::record::v1::{ExplainRequest, explain_request};
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

/// Searches of one kind in a round.
const SEARCHES: usize = 20;

fn search(collection: &str, full_text: String, limit: i32) -> pb::SearchRequest {
    pb::SearchRequest {
        namespace: NAMESPACE.to_owned(),
        collection_name: collection.to_owned(),
        full_text,
        limit,
        ..Default::default()
    }
}

/// A filter on the indexed field, which 20 records pass.
fn filtered(number: f64) -> pb::SearchRequest {
    let value = Some(prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number)) });
    let filter = pb::Filter { operator: pb::FilterOperator::OpEquals.into(), value };
    pb::SearchRequest { filters: HashMap::from([("number".to_owned(), filter)]), ..search("found", String::new(), 20) }
}

/// Searches in a collection of `size.found` records.
pub(crate) async fn found(node: &str, size: &Size) -> Result<Vec<Row>, Failure> {
    let mut client = client(node).await?;
    let mut words = Words::new(11);
    let began = Instant::now();
    for first in (0..size.found).step_by(1_000) {
        client.batch(load("found", "r", first, 1_000, &mut words)).await?;
    }
    let mut rows = vec![Row::new(
        format!("load  {} records with full text and an index in {:.1} s", size.found, began.elapsed().as_secs_f64()),
        json!({ "loaded": size.found, "s": began.elapsed().as_secs_f64() }),
    )];
    type Ask = fn(usize, usize) -> pb::SearchRequest;
    let asks: [(&str, Ask); 5] = [
        ("text of 20 records, all", |n, all| search("found", format!("rare{}", n * 37 % (all / 20)), 20)),
        ("text of 1,000 records, top 20", |n, all| search("found", format!("some{}", n * 7 % (all / 1_000)), 20)),
        ("text of 1,000 records, all", |n, all| search("found", format!("some{}", n * 7 % (all / 1_000)), 1_000)),
        ("text of half of all, top 20", |_, _| search("found", COMMON.to_owned(), 20)),
        ("indexed field, 20 rows", |n, all| filtered((n * 37 % (all / 20)) as f64)),
    ];
    let mut took = vec![Vec::new(); asks.len()];
    let mut totals = vec![0; asks.len()];
    for round in 0..size.rounds {
        for (n, (_, ask)) in asks.iter().enumerate() {
            for number in 0..SEARCHES {
                let (span, total) = once(&mut client, ask(round * SEARCHES + number, size.found)).await?;
                took[n].push(span);
                totals[n] = total;
            }
        }
    }
    for (n, (what, _)) in asks.iter().enumerate() {
        let (p50, p99) = (quantile(&took[n], 0.5).as_secs_f64() * 1e3, quantile(&took[n], 0.99).as_secs_f64() * 1e3);
        rows.push(Row::new(
            format!("find  {what:<32} {p50:>9.3} ms   p99 {p99:.3} ms, {} matches of {}", totals[n], size.found),
            json!({ "find": what, "p50_ms": p50, "p99_ms": p99, "total": totals[n] }),
        ));
    }
    let mut plans = CollectionsClient::new(channel(node).await?);
    for (what, request) in [("text", search("found", "rare7".to_owned(), 20)), ("indexed field", filtered(7.0))] {
        let request = ExplainRequest { query: Some(explain_request::Query::Search(request)) };
        let plan = plans.explain(request).await?.into_inner();
        rows.push(Row::new(
            format!("plan  {what:<32} {}", plan.steps.join("; ")),
            json!({ "plan": what, "steps": plan.steps }),
        ));
    }
    Ok(rows)
}

async fn once(
    client: &mut CollectionServiceClient<Channel>,
    request: pb::SearchRequest,
) -> Result<(Duration, i64), Failure> {
    let least = usize::try_from(request.limit)?.min(20);
    let began = Instant::now();
    let answer = client.search(request).await?.into_inner();
    let took = began.elapsed();
    if answer.results.len() < least {
        return Err(format!("{} hits instead of {least}", answer.results.len()).into());
    }
    Ok((took, answer.total_count))
}

/// Lists `size.listed` records, a page after the other, and looks at the node's memory meanwhile.
pub(crate) async fn listed(node: &Process, size: &Size) -> Result<Row, Failure> {
    let mut client = client(&node.address).await?;
    let mut words = Words::new(13);
    for first in (0..size.listed).step_by(1_000) {
        client.batch(load("listed", "r", first, 1_000, &mut words)).await?;
    }
    let before = node.resident_kib()?;
    let (mut count, mut most, mut page_token) = (0, 0, String::new());
    let began = Instant::now();
    loop {
        let request = pb::ListRequest {
            namespace: NAMESPACE.to_owned(),
            collection_name: "listed".to_owned(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = client.list(request).await?.into_inner();
        count += page.items.len();
        most = most.max(node.resident_kib()?);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if count != size.listed {
        return Err(format!("{count} records were listed, {} are there", size.listed).into());
    }
    let (took, after) = (began.elapsed().as_secs_f64(), node.resident_kib()?);
    Ok(Row::new(
        format!("list  {count} records in {took:.1} s; rss before {before} KiB, at most {most} KiB, after {after} KiB"),
        json!({ "listed": count, "s": took, "before_kib": before, "most_kib": most, "after_kib": after }),
    ))
}
