//! Finding: text, filters, and walking through everything.

use super::data::{COMMON, NAMESPACE, Words};
use super::write::load;
use super::{Size, client};
use crate::Failure;
use crate::node::channel;
use crate::process::Process;
use crate::report::{Rounds, Row, Unit, micros};
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
    let (mut rounds, loaded) =
        (Rounds::default(), format!("loading {} records with full text and an index", size.found));
    rounds.value(&loaded, Unit::Time, micros(began.elapsed()), 1);
    let mut rows = vec![rounds.alone(&loaded)];
    type Ask = fn(usize, usize) -> pb::SearchRequest;
    let asks: [(&str, Ask); 5] = [
        ("text of 20 records, all", |n, all| search("found", format!("rare{}", n * 37 % (all / 20)), 20)),
        ("text of 1,000 records, top 20", |n, all| search("found", format!("some{}", n * 7 % (all / 1_000)), 20)),
        ("text of 1,000 records, all", |n, all| search("found", format!("some{}", n * 7 % (all / 1_000)), 1_000)),
        ("text of half of all, top 20", |_, _| search("found", COMMON.to_owned(), 20)),
        ("indexed field, 20 rows", |n, all| filtered((n * 37 % (all / 20)) as f64)),
    ];
    let mut totals = vec![0; asks.len()];
    for round in 0..size.rounds {
        for (n, (what, ask)) in asks.iter().enumerate() {
            let mut took = Vec::with_capacity(SEARCHES);
            for number in 0..SEARCHES {
                let (span, total) = once(&mut client, ask(round * SEARCHES + number, size.found)).await?;
                took.push(span);
                totals[n] = total;
            }
            rounds.calls(what, &took);
        }
    }
    for ((what, _), total) in asks.iter().zip(totals) {
        rows.push(rounds.alone(what).with("matches", f64::from(i32::try_from(total)?)));
    }
    let mut plans = CollectionsClient::new(channel(node).await?);
    for (what, request) in [("text", search("found", "rare7".to_owned(), 20)), ("indexed field", filtered(7.0))] {
        let request = ExplainRequest { query: Some(explain_request::Query::Search(request)) };
        let plan = plans.explain(request).await?.into_inner();
        rows.push(Row::note(
            format!("plan of {what}: {}", plan.steps.join("; ")),
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
    let (took, after) = (began.elapsed(), node.resident_kib()?);
    let (mut rounds, name) = (Rounds::default(), format!("listing {count} records in pages of 1,000"));
    rounds.value(&name, Unit::Time, micros(took), count);
    let kib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX));
    let row = rounds.alone(&name).with("resident KiB before", kib(before));
    Ok(row.with("at most", kib(most)).with("after", kib(after)))
}
