//! What was acknowledged is there, whatever happens to the node: it is killed, its disk fills up, its syncs fail, its
//! files are damaged.

mod check;
mod damage;
mod faults;
mod load;
mod model;

use crate::support::{Client, NodeProcess};
use load::{Book, PLACES, Random, WRITERS, Writer, prepare};
use model::Fates;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Readers at once.
const READERS: usize = 2;
/// Longest time from the first call of a round to its end.
const ROUND_MS: usize = 400;
/// Rounds between two checks of everything; what was written is checked in every round.
const WHOLE_EVERY: u64 = 10;

/// What many rounds were like.
#[derive(Default)]
struct Summary {
    rounds: u64,
    fates: Fates,
    restarts: Vec<Duration>,
    acknowledged: u64,
    reads: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut restarts = self.restarts.clone();
        restarts.sort();
        let (p50, max) = (restarts.get(restarts.len() / 2).copied(), restarts.last().copied());
        let (p50, max) = (p50.unwrap_or_default(), max.unwrap_or_default());
        write!(
            f,
            "{} rounds of kill -9: {} calls acknowledged, {} reads; calls without an answer: {} there whole, {} not there, \
             {} without effect; from start to first answer: {p50:.1?} (p50), {max:.1?} (max)",
            self.rounds, self.acknowledged, self.reads, self.fates.present, self.fates.absent, self.fates.either
        )
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x01_what_was_acknowledged_survives_kill_9_at_any_instant() {
    let rounds = setting("COLLECTOR_KILL_ROUNDS").unwrap_or(200);
    let seed = setting("COLLECTOR_KILL_SEED").unwrap_or_else(|| std::process::id().into());
    println!("COLLECTOR_KILL_SEED={seed}: the same choices, though not the same instants");
    let data = tempfile::tempdir().unwrap();
    let mut summary = Summary::default();
    let result = kill_again_and_again(data.path(), rounds, Random(seed), &mut summary).await;
    println!("{summary}");
    if let Err(why) = result {
        panic!("seed {seed}, data kept in {}: {why}", data.keep().display());
    }
}

async fn kill_again_and_again(
    data: &Path,
    rounds: u64,
    mut random: Random,
    summary: &mut Summary,
) -> Result<(), String> {
    let book = Arc::new(Book::default());
    let mut node = NodeProcess::start(data, &[]);
    let mut client = Client::connect(&node.address).await;
    prepare(&client).await;
    while summary.rounds < rounds {
        summary.rounds += 1;
        let round = summary.rounds;
        let wrong = |node: &NodeProcess, why: String| format!("round {round}: {why}\n{}", node.log());
        let lasts = Duration::from_millis(1 + random.below(ROUND_MS) as u64);
        load_and_kill(&mut node, &client, &book, &mut random, lasts).await;
        let began = Instant::now();
        let killed = std::mem::replace(&mut node, NodeProcess::start(data, &[]));
        client = Client::connect(&node.address).await;
        client.describe(PLACES[0]).await.map_err(|why| wrong(&node, format!("{why:?}")))?;
        summary.restarts.push(began.elapsed());
        let accused = std::mem::take(&mut *book.wrong.lock().unwrap());
        if let Some(first) = accused.first() {
            return Err(wrong(&killed, first.clone()));
        }
        let fates = check::settle(&client, &book, &mut random).await.map_err(|why| wrong(&node, why))?;
        summary.fates.present += fates.present;
        summary.fates.absent += fates.absent;
        summary.fates.either += fates.either;
        if summary.rounds.is_multiple_of(WHOLE_EVERY) || summary.rounds == rounds {
            check::whole(&client, &book).await.map_err(|why| wrong(&node, why))?;
        }
        summary.acknowledged = book.acknowledged.load(Ordering::SeqCst);
        summary.reads = book.reads.load(Ordering::SeqCst);
    }
    Ok(())
}

/// Writers and readers at work on a node that is killed after a while.
async fn load_and_kill(
    node: &mut NodeProcess,
    client: &Client,
    book: &Arc<Book>,
    random: &mut Random,
    lasts: Duration,
) {
    book.killing.store(false, Ordering::SeqCst);
    let mut tasks = JoinSet::new();
    for number in 0..WRITERS {
        let (book, client, random) = (book.clone(), client.clone(), Random(random.next()));
        tasks.spawn(async move { Writer { number, random, client, book: &book }.run().await });
    }
    for _ in 0..READERS {
        let (book, client, random) = (book.clone(), client.clone(), Random(random.next()));
        tasks.spawn(async move { load::read(random, client, &book).await });
    }
    // Not a wait for something to happen: the instant is what is tried.
    tokio::time::sleep(lasts).await;
    book.killing.store(true, Ordering::SeqCst);
    node.signal(rustix::process::Signal::KILL);
    node.wait();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
