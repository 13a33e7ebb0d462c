//! Writing: alone, by 64 clients, in batches; and reading one record.

use super::data::{NAMESPACE, Words};
use super::{Size, client};
use crate::Failure;
use crate::report::{Rounds, Row, Unit};
use collector::rpc::pb;
use pb::collection_service_client::CollectionServiceClient;
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
/// One client, a commit each.
const ONE: &str = "one client";
/// Operations of one batch.
const BATCH: usize = 1_000;

const ECHO_CREATE: &str = "echo of a Create";
const SYNC: &str = "one fdatasync";
const CREATES: [&str; 2] = ["durable Create with full text", "durable Create without"];
const ECHO_GET: &str = "echo of a Get";
const GET: &str = "Get";

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
    let mut rounds = Rounds::default();
    for round in 0..size.rounds {
        rounds.calls(ECHO_CREATE, &creates(&mut echo, "searched", round, size.calls, &mut words).await?);
        rounds.calls(SYNC, &syncs(folder, size.calls)?);
        rounds.calls(CREATES[0], &creates(&mut node, "searched", round, size.calls, &mut words).await?);
        rounds.calls(CREATES[1], &creates(&mut node, "plain", round, size.calls, &mut words).await?);
        rounds.calls(ECHO_GET, &gets(&mut echo, round, size.calls).await?);
        rounds.calls(GET, &gets(&mut node, round, size.calls).await?);
    }
    let mut rows = [ECHO_GET, GET].map(|what| rounds.row(what, ECHO_GET)).to_vec();
    rows.extend([rounds.row(ECHO_CREATE, ECHO_CREATE), rounds.alone(SYNC)]);
    rows.extend(CREATES.map(|what| rounds.row_beside_sum(what, [ECHO_CREATE, SYNC])));
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
    let mut rounds = Rounds::default();
    let name = |collection: &str, how: &str| match collection {
        "searched" => format!("Create with full text, {how}"),
        _ => format!("Create without, {how}"),
    };
    let (crowded, batched) = (format!("{CROWD} clients"), format!("in batches of {BATCH}"));
    for round in 0..size.rounds {
        for collection in ["searched", "plain"] {
            let mut note = |how, rate, count| rounds.value(&name(collection, how), Unit::Rate, rate, count);
            note(ONE, crowd(&clients, collection, &format!("one{round}"), 1, size.calls).await?, size.calls);
            note(&crowded, crowd(&clients, collection, &format!("crowd{round}"), CROWD, size.crowd).await?, size.crowd);
            note(&batched, batches(&clients, collection, &format!("batch{round}"), size.crowd).await?, size.crowd);
        }
    }
    let all =
        ["searched", "plain"].into_iter().flat_map(|collection| [ONE, &crowded, &batched].map(|how| (collection, how)));
    Ok(all.map(|(collection, how)| rounds.row(&name(collection, how), &name(collection, ONE))).collect())
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
