//! `collector collection import`: a record from each line of JSON.

use super::super::guest::{Measured, Ui};
use super::super::output::Output;
use super::super::record::{At, Collection, Entry as Read, Items};
use super::batch::{Batch, Done, Entry, send};
use super::define::{Definition, make};
use super::lines::{LINE_MAX, Lines, Text};
use super::rejects::{Reject, Rejects};
use crate::rpc::pb;
use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// `collector collection import`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    at: At,
    /// What to read; - is stdin
    file: String,
    /// Lines are items, and this dotted path in them is the id [default: the node makes ids of items]
    #[arg(long, value_name = "PATH")]
    id_field: Option<String>,
    /// Records in a call
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,
    /// Calls at once; 1 makes the records in the order of their lines
    #[arg(long, value_name = "N", default_value_t = IN_FLIGHT, value_parser = clap::value_parser!(u8).range(1..=IN_FLIGHT_MAX))]
    in_flight: u8,
    /// Where rejected lines go, as {"line", "error", "text"}
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Records that are there already are fine, and stay as they are
    #[arg(long)]
    skip_existing: bool,
    /// Make the collection first, if there is none
    #[arg(long)]
    create: bool,
    #[command(flatten, next_help_heading = "With --create")]
    definition: Definition,
}

const EXAMPLES: &str = "\
A line is what export writes (an object with `id` and with `item` or `raw`, its other keys
export's too), or else an item. Lines that are no record are rejected and the others made; the
exit code is then 1. Where lines have ids, an import that was interrupted can be repeated with
--skip-existing.

Examples:
  collector collection import shop/orders orders.jsonl
  collector collection import notes notes.jsonl --create --index author --id-field key
  collector collection import notes notes.jsonl --batch 100 --rejects bad.jsonl
  zcat orders.jsonl.gz | collector collection import shop/orders - --skip-existing";

/// Batches that are under way at once: the node writes one while the next is checked and a third is on the wire.
const IN_FLIGHT: u8 = 3;
/// More would only wait: a collection has one writer.
const IN_FLIGHT_MAX: i64 = 8;
/// Bytes of records in a batch: a node takes messages of 4 MiB, and names and frames need some.
const BATCH_BYTES: usize = 3 << 20;
/// Bytes read from the input at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes that a record takes beside item and id.
const FRAME: usize = 64;

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    if !args.create && args.definition != Definition::default() {
        bail!("what a new collection is like goes with --create");
    }
    let (source, size) = open(&args.file)?;
    let collection = args.at.open().await?;
    if args.create {
        create(&collection, args.definition).await?;
    }
    let items = Items::of(&collection, None).await?;
    let mut rejects = Rejects::open(args.rejects.as_deref())?;
    let bar = ui.bytes(&format!("importing into {}", collection.id()), size);
    let reader = Reader { collection: collection.clone(), items, id_field: args.id_field, most: args.batch.into() };
    let way = Way { collection: &collection, skip: args.skip_existing, at_once: args.in_flight.into() };
    let counts = pass_on(reader, source, way, &mut rejects, &bar).await;
    drop(bar);
    let (made, there) = counts?;
    let id = collection.id();
    let text = format!("{id}: {made} made, {there} already there, {} rejected", rejects.count);
    let value = json!({
        "collection": id, "made": made, "already_there": there, "rejected": rejects.count, "errors": rejects.named,
    });
    output.answer(&text, &value);
    rejects.finish()
}

/// How batches go to the node.
#[derive(Clone, Copy)]
struct Way<'a> {
    collection: &'a Collection,
    /// Records that exist are fine.
    skip: bool,
    /// Batches under way.
    at_once: usize,
}

/// Reads, sends and counts.
///
/// * returns: records made, and records that were there.
async fn pass_on(
    reader: Reader,
    source: Box<dyn io::Read + Send>,
    way: Way<'_>,
    rejects: &mut Rejects,
    bar: &Measured,
) -> anyhow::Result<(u64, u64)> {
    let (sender, receiver) = mpsc::channel(1);
    // Detached: nobody can wake a thread that waits for a terminal, and it must not keep the process.
    std::thread::spawn(move || reader.run(source, &sender));
    let sent = ReceiverStream::new(receiver).map(|batch: io::Result<Batch>| async move {
        let batch = batch.context("cannot read the input")?;
        anyhow::Ok(send(way.collection, batch, way.skip).await?)
    });
    let mut sent = std::pin::pin!(sent.buffered(way.at_once));
    let (mut made, mut there) = (0, 0);
    while let Some(done) = sent.next().await {
        let done: Done = done.with_context(|| {
            format!("the import stopped after {made} records made; repeat it with --skip-existing if lines have ids")
        })?;
        made += done.made;
        there += done.there;
        for reject in &done.rejects {
            rejects.add(reject)?;
        }
        bar.set(done.end);
    }
    Ok((made, there))
}

/// The input, and its bytes as far as they are known.
fn open(path: &str) -> anyhow::Result<(Box<dyn io::Read + Send>, u64)> {
    if path == "-" {
        return Ok((Box::new(io::stdin()), 0));
    }
    let file = File::open(path).with_context(|| format!("cannot read {path}"))?;
    let size = file.metadata().map(|about| about.len()).unwrap_or_default();
    Ok((Box::new(file), size))
}

/// Makes the collection; one that is there is as good.
async fn create(collection: &Collection, definition: Definition) -> anyhow::Result<()> {
    match make(collection, definition).await {
        Err(why) if why.status().is_some_and(|status| status.code() == Code::AlreadyExists) => Ok(()),
        made => Ok(made.map(drop)?),
    }
}

/// Turns lines into batches, on a thread of its own.
struct Reader {
    collection: Collection,
    items: Items,
    id_field: Option<String>,
    most: usize,
}

impl Reader {
    fn run(self, source: Box<dyn io::Read + Send>, sender: &mpsc::Sender<io::Result<Batch>>) {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for line in Lines::new(BufReader::with_capacity(READ_BYTES, source)) {
            let line = match line {
                Ok(line) => line,
                Err(why) => {
                    let _ = sender.blocking_send(Err(why));
                    return;
                }
            };
            let end = line.end;
            let entry = self.entry(line);
            let more = match &entry {
                Ok(entry) => size(&entry.record),
                Err(reject) => reject.line.bytes.len(),
            };
            let count = batch.entries.len() + batch.rejects.len();
            if count >= self.most || (bytes + more > BATCH_BYTES && count > 0) {
                bytes = 0;
                if sender.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                    return; // the import has ended
                }
            }
            bytes += more;
            match entry {
                Ok(entry) => batch.entries.push(entry),
                Err(reject) => batch.rejects.push(reject),
            }
            batch.end = end;
        }
        let _ = sender.blocking_send(Ok(batch));
    }

    fn entry(&self, line: Text) -> Result<Entry, Reject> {
        match self.record(&line) {
            Ok(record) => Ok(Entry { line, record }),
            Err(why) => Err(Reject { line, error: format!("{why:#}") }),
        }
    }

    fn record(&self, line: &Text) -> anyhow::Result<pb::CreateRequest> {
        if line.too_long {
            bail!("the line is longer than {LINE_MAX} bytes");
        }
        let text = std::str::from_utf8(&line.bytes).context("the line is not UTF-8")?;
        let read = Read::read(&self.items, text.trim(), self.id_field.as_deref())?;
        Ok(pb::CreateRequest {
            namespace: self.collection.namespace.clone(),
            collection_name: self.collection.name.clone(),
            item: Some(read.item),
            id: read.id,
            labels: read.labels.into_iter().collect(),
        })
    }
}

fn size(record: &pb::CreateRequest) -> usize {
    let labels = record.labels.iter().map(|(key, value)| key.len() + value.len() + FRAME).sum::<usize>();
    record.item.as_ref().map_or(0, |item| item.value.len()) + record.id.len() + labels + FRAME
}
