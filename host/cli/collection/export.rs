//! `collector collection export`: every record as a line of JSON.

use super::super::guest::Ui;
use super::super::output::Output;
use super::super::record::{At, Condition, Detail, Items, Line, PAGE_MAX, Pages, filters_object, with_help};
use anyhow::Context as _;
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write as _};

/// `collector collection export`
#[derive(Debug, clap::Args)]
#[command(after_help = with_help(EXAMPLES))]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    at: At,
    /// Where to write; - is stdout
    #[arg(default_value = "-")]
    file: String,
    /// Condition on a field, may be repeated
    #[arg(long = "where", short = 'w', value_name = "CONDITION")]
    conditions: Vec<Condition>,
}

const EXAMPLES: &str = "\
A line is {\"id\", \"etag\", \"createdAt\", \"updatedAt\", \"labels\", \"item\"}, oldest first. Where JSON
cannot say what a record holds there is \"raw\", its bytes in base64, instead of \"item\", and where
its type_url is not the usual one there is \"typeUrl\".

Examples:
  collector collection export shop/orders orders.jsonl
  collector collection export shop/orders --where 'total>5' | gzip > big.jsonl.gz
  collector collection export shop/orders | collector collection import shop/copy -";

/// Where lines go.
enum Sink<'a> {
    Stdout(&'a Output),
    File(BufWriter<File>),
}

impl Sink<'_> {
    /// * returns: false if nobody reads any more.
    fn put(&mut self, text: &str) -> anyhow::Result<bool> {
        match self {
            Self::Stdout(output) => output.line(text),
            Self::File(file) => writeln!(file, "{text}").map(|()| true).context("cannot write the file"),
        }
    }
}

pub(super) async fn run(args: Args, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let filter = filters_object(&args.conditions)?;
    let collection = args.at.open().await?;
    let items = Items::of(&collection, None).await?;
    // Oldest first, so that an import can make them in the same order.
    let mut pages = Pages::new(&collection, filter, "created_at".to_owned(), PAGE_MAX);
    let mut next = pages.next().await?; // before the file is touched: there may be no such collection
    let mut sink = match args.file.as_str() {
        "-" => Sink::Stdout(output),
        path => Sink::File(BufWriter::new(File::create(path).with_context(|| format!("cannot write {path}"))?)),
    };
    let (mut bar, mut count) = (None, 0);
    while let Some(page) = next {
        let total = u64::try_from(page.total_count).unwrap_or_default();
        let bar = bar.get_or_insert_with(|| ui.records(&format!("exporting {}", collection.id()), total));
        let mut lines = Vec::with_capacity(page.items.len());
        for (item, info) in page.items.iter().zip(page.infos) {
            lines.push(Line::new(&items, item, info, Detail::Exact).text()?);
        }
        count += lines.len() as u64;
        if !lines.is_empty() && !sink.put(&lines.join("\n"))? {
            return Ok(());
        }
        bar.set(count);
        next = pages.next().await?;
    }
    drop(bar);
    match sink {
        Sink::Stdout(_) => ui.note(&format!("{}: {count} records", collection.id())),
        Sink::File(file) => {
            let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
            file.and_then(|file| file.sync_all()).with_context(|| format!("cannot write {}", args.file))?;
            let text = format!("{}: {count} records in {}", collection.id(), args.file);
            output.answer(&text, &json!({ "collection": collection.id(), "records": count, "file": args.file }));
        }
    }
    Ok(())
}
