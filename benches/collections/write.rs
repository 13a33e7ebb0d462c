//! Writing: alone, by 64 clients, in batches; and reading one record.

use crate::data::{NAMESPACE, Words};
use crate::report::{Round, Row, floor};
use crate::{Failure, Size, client};
use collector::rpc::pb;
use pb::collection_service_client::CollectionServiceClient;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

type Client = CollectionServiceClient<Channel>;

/// How many write at once.
const CROWD: usize = 64;
/// Over how many connections.
const CONNECTIONS: usize = 8;
/// Operations of one batch.
const BATCH: usize = 1_000;

fn create(collection: &str, id: String, item: prost_types::Any) -> pb::CreateRequest {
    pb::CreateRequest {
        namespace: NAMESPACE.to_owned(),
        collection_name: collection.to_owned(),
        item: Some(item),
        id,
        ..Default::default()
    }
}

/// Get and Create, one at a time, beside an echo of the same size and an `fdatasync` of one page.
pub(crate) async fn alone(node: &str, echo: &str, folder: &Path, size: &Size) -> Result<Vec<Row>, Failure> {
    let (mut node, mut echo) = (client(node).await?, client(echo).await?);
    let mut words = Words::new(1);
    let mut rounds = BTreeMap::<&str, Vec<Round>>::new();
    for round in 0..size.rounds {
        let mut note = |what, took: Vec<Duration>| rounds.entry(what).or_default().push(Round::of(&took));
        note("echo of a Create", creates(&mut echo, "searched", round, size.calls, &mut words).await?);
        note("one fdatasync", syncs(folder, size.calls)?);
        note("Create with full text", creates(&mut node, "searched", round, size.calls, &mut words).await?);
        note("Create without", creates(&mut node, "plain", round, size.calls, &mut words).await?);
        note("echo of a Get", gets(&mut echo, round, size.calls).await?);
        note("Get", gets(&mut node, round, size.calls).await?);
    }
    let sum = floor(&rounds["echo of a Create"]) + floor(&rounds["one fdatasync"]);
    let (get, alone) = (floor(&rounds["echo of a Get"]), Duration::from_nanos(1));
    let mut rows = vec![
        Row::timed("warm", "echo of a Get", &rounds["echo of a Get"], get),
        Row::timed("warm", "Get", &rounds["Get"], get),
    ];
    rows.push(Row::timed("warm", "echo of a Create", &rounds["echo of a Create"], floor(&rounds["echo of a Create"])));
    rows.push(Row::timed(
        "warm",
        "one fdatasync",
        &rounds["one fdatasync"],
        floor(&rounds["one fdatasync"]).max(alone),
    ));
    for what in ["Create with full text", "Create without"] {
        rows.push(Row::timed("warm", what, &rounds[what], sum));
    }
    Ok(rows)
}

async fn creates(
    client: &mut Client,
    collection: &str,
    round: usize,
    count: usize,
    words: &mut Words,
) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::with_capacity(count);
    for n in 0..count {
        let request = create(collection, format!("{round}-{n}"), words.item(n));
        let began = Instant::now();
        client.create(request).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

async fn gets(client: &mut Client, round: usize, count: usize) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::with_capacity(count);
    for n in 0..count {
        let (namespace, collection_name) = (NAMESPACE.to_owned(), "searched".to_owned());
        let request = pb::GetRequest { namespace, collection_name, id: format!("{round}-{n}") };
        let began = Instant::now();
        let answer = client.get(request).await?;
        took.push(began.elapsed());
        answer.into_inner().item.ok_or("no item")?;
    }
    Ok(took)
}

/// One page written and synced, in a file that does not grow, as the log does.
fn syncs(folder: &Path, count: usize) -> Result<Vec<Duration>, Failure> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(folder.join("fdatasync"))?;
    file.write_all(&vec![1; 4_096 * 100])?;
    file.sync_all()?;
    let mut took = Vec::with_capacity(count);
    for n in 0..count {
        file.seek(SeekFrom::Start(4_096 * (n as u64 % 100)))?;
        file.write_all(&[u8::try_from(n % 256)?; 4_096])?;
        let began = Instant::now();
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// Records per second: one client after the other, 64 at once, batches.
pub(crate) async fn together(node: &str, size: &Size) -> Result<Vec<Row>, Failure> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(client(node).await?);
    }
    let mut rates = BTreeMap::<(&str, &str), Vec<f64>>::new();
    for round in 0..size.rounds {
        for collection in ["searched", "plain"] {
            let mut note = |what, rate: f64| rates.entry((collection, what)).or_default().push(rate);
            note("one", crowd(&clients, collection, &format!("one{round}"), 1, size.calls).await?);
            note("crowd", crowd(&clients, collection, &format!("crowd{round}"), CROWD, size.crowd).await?);
            note("batch", batches(&clients, collection, &format!("batch{round}"), size.crowd).await?);
        }
    }
    let mut rows = Vec::new();
    for collection in ["searched", "plain"] {
        let median = |what| {
            let mut all = rates[&(collection, what)].clone();
            all.sort_unstable_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let (one, crowd, batch) = (median("one"), median("crowd"), median("batch"));
        let what = if collection == "searched" { "with full text" } else { "without full text" };
        rows.push(Row::new(
            format!(
                "rate  Create {what:<25} {one:>9.0} /s one client, a commit each; {CROWD} clients {crowd:.0} /s ({:.2}x); Batch of {BATCH} {batch:.0} /s ({:.2}x)",
                crowd / one,
                batch / one
            ),
            json!({ "rate": what, "one": one, "crowd": crowd, "batch": batch }),
        ));
    }
    Ok(rows)
}

/// So many clients share so many creates.
async fn crowd(clients: &[Client], collection: &str, name: &str, width: usize, count: usize) -> Result<f64, Failure> {
    let mut ready = Vec::new();
    for task in 0..width {
        let mut words = Words::new(task as u64);
        let requests: Vec<_> =
            (0..count / width).map(|n| create(collection, format!("{name}-{task}-{n}"), words.item(n))).collect();
        ready.push((clients[task % clients.len()].clone(), requests));
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut client, requests) in ready {
        tasks.spawn(async move {
            for request in requests {
                client.create(request).await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(rate(count / width * width, began))
}

async fn batches(clients: &[Client], collection: &str, name: &str, count: usize) -> Result<f64, Failure> {
    let mut words = Words::new(7);
    let count = count.div_ceil(BATCH) * BATCH;
    let requests: Vec<_> =
        (0..count / BATCH).map(|batch| load(collection, &format!("{name}-{batch}"), 0, BATCH, &mut words)).collect();
    let mut client = clients.first().ok_or("no client")?.clone();
    let began = Instant::now();
    for request in requests {
        client.batch(request).await?;
    }
    Ok(rate(count, began))
}

/// A batch that makes `count` records, the `first`-th of all and those after it.
pub(crate) fn load(collection: &str, name: &str, first: usize, count: usize, words: &mut Words) -> pb::BatchRequest {
    let operation = |n: usize, words: &mut Words| pb::RequestOp {
        operation: Some(pb::request_op::Operation::Create(pb::CreateRequest {
            id: format!("{name}-{n}"),
            item: Some(words.item(n)),
            ..Default::default()
        })),
    };
    pb::BatchRequest {
        namespace: NAMESPACE.to_owned(),
        collection_name: collection.to_owned(),
        operations: (first..first + count).map(|n| operation(n, words)).collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn rate(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}
