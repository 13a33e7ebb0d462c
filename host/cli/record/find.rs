//! `collector record list` and `search`.

use super::super::client::ClientError;
use super::super::guest::Ui;
use super::super::output::Output;
use super::at::{At, Collection, pair};
use super::condition::{self, Condition};
use super::item::{Detail, Items};
use super::line::Line;
use super::pages::{PAGE_MAX, Pages};
use super::show::{Shape, Shown};
use crate::domain::one_line;
use crate::rpc::pb;
use crate::rpc::pb::record::v1 as record;
use clap::ArgAction;
use record::explain_request::Query;
use serde_json::json;

/// `collector record list`
#[derive(Debug, clap::Args)]
#[command(after_help = condition::with_help(LIST_EXAMPLES))]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    at: At,
    /// Condition on a field, may be repeated
    #[arg(long = "where", short = 'w', value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// Fields to order by, also created_at, updated_at and id [default: newest first]
    #[arg(long, value_name = "A, B desc", default_value = "", hide_default_value = true)]
    order: String,
    /// Records at most; 0: all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    shape: Shape,
    /// Print how the node would do it, and do not
    #[arg(long)]
    explain: bool,
}

const LIST_EXAMPLES: &str = "\
Examples:
  collector record list shop/orders
  collector record list shop/orders --where 'total>=5' --where 'address.city=Bern' --order 'total desc, id'
  collector record list shop/orders --limit 0 -o jsonl";

/// `collector record search`
#[derive(Debug, clap::Args)]
#[command(after_help = condition::with_help(SEARCH_EXAMPLES))]
pub(in crate::cli) struct SearchArgs {
    #[command(flatten)]
    at: At,
    /// Words that the record's texts must have: AND, OR, NOT, "a phrase", prefix*, NEAR(a b)
    text: Option<String>,
    /// Condition on a field, may be repeated
    #[arg(long = "where", short = 'w', value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// Label that records must have, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Fields to order by, also created_at, updated_at and id [default: best first, else newest first]
    #[arg(long, value_name = "A, B desc", default_value = "", hide_default_value = true)]
    order: String,
    /// Fields of --order that do not say otherwise are descending
    #[arg(long, requires = "order")]
    desc: bool,
    /// Fields of --order that do not say otherwise are ascending; this is so anyway
    #[arg(long, action = ArgAction::SetTrue, conflicts_with = "desc", requires = "order")]
    asc: (),
    /// Matches at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=PAGE_MAX.into()))]
    limit: i32,
    /// Matches to skip
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..))]
    offset: i32,
    /// Find what is near this vector
    #[arg(long, value_name = "0.1,0.2", value_delimiter = ',', allow_hyphen_values = true)]
    vector: Vec<f32>,
    /// Least cosine similarity to --vector
    #[arg(long, value_name = "-1..1", requires = "vector", allow_hyphen_values = true, default_value_t = 0.0)]
    threshold: f32,
    #[command(flatten)]
    shape: Shape,
    /// Print how the node would do it, and do not
    #[arg(long)]
    explain: bool,
}

const SEARCH_EXAMPLES: &str = "\
Examples:
  collector record search shop/orders 'pen AND (red OR blue)' --where 'total<10'
  collector record search shop/orders --where 'tags in new,used' --order 'total' --desc --limit 10
  collector record search docs --vector 0.1,0.7,0.2 --threshold 0.8 -o jsonl";

pub(super) async fn list(args: ListArgs, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let filter = condition::filters_object(&args.conditions)?;
    let size = if args.limit == 0 { PAGE_MAX } else { u16::try_from(args.limit).unwrap_or(PAGE_MAX).min(PAGE_MAX) };
    let mut pages = Pages::new(&collection, filter, args.order, size);
    if args.explain {
        return explain(&collection, Query::List(pages.request().clone()), output).await;
    }
    let items = Items::of(&collection, None).await?;
    let mut shown = Shown::new(args.shape.format(output), output, &items);
    let (mut count, mut total) = (0, 0);
    'pages: while let Some(page) = pages.next().await? {
        total = page.total_count;
        for (item, info) in page.items.iter().zip(page.infos) {
            if args.limit > 0 && count == args.limit {
                break 'pages;
            }
            count += 1;
            if !shown.take(Line::new(&items, item, info, Detail::Everything))? {
                return Ok(());
            }
        }
    }
    shown.finish(total)?;
    rest(count, total, ui);
    Ok(())
}

pub(super) async fn search(args: SearchArgs, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let near = !args.vector.is_empty();
    let wanted = pb::SearchRequest {
        namespace: collection.namespace.clone(),
        collection_name: collection.name.clone(),
        full_text: args.text.unwrap_or_default(),
        filters: condition::filters(&args.conditions)?,
        label_filters: args.label.into_iter().collect(),
        vector: args.vector,
        similarity_threshold: args.threshold,
        limit: args.limit,
        offset: args.offset,
        order_by: args.order,
        ascending: !args.desc,
    };
    if args.explain {
        return explain(&collection, Query::Search(wanted), output).await;
    }
    let items = Items::of(&collection, None).await?;
    let scored = near || !wanted.full_text.is_empty();
    let found = collection.client.records().search(collection.request(wanted)?).await.map_err(ClientError::from)?;
    let found = found.into_inner();
    let mut shown = Shown::new(args.shape.format(output), output, &items);
    let mut count = 0;
    for one in found.results {
        let item = one.item.unwrap_or_default();
        let line = Line::new(&items, &item, one.info.unwrap_or_default(), Detail::Everything);
        let line = if scored { line.found(one.score, near.then_some(one.distance)) } else { line };
        count += 1;
        if !shown.take(line)? {
            return Ok(());
        }
    }
    shown.finish(found.total_count)?;
    rest(count, found.total_count, ui);
    Ok(())
}

/// Says that there are more.
fn rest(shown: u64, total: i64, ui: &Ui) {
    if i64::try_from(shown).is_ok_and(|shown| shown < total) {
        ui.note(&format!("{shown} of {total}; more with --limit"));
    }
}

async fn explain(collection: &Collection, query: Query, output: &Output) -> anyhow::Result<()> {
    let wanted = collection.request(record::ExplainRequest { query: Some(query) })?;
    let plan = collection.client.caretaker().explain(wanted).await.map_err(ClientError::from)?.into_inner();
    let indexes = if plan.indexed_fields.is_empty() { "none".to_owned() } else { plan.indexed_fields.join(", ") };
    let steps = plan.steps.iter().map(|step| format!("{}\n", one_line(step, 1_024))).collect::<String>();
    let text = format!("{steps}indexed fields used: {}", one_line(&indexes, 1_024));
    output.answer(&text, &json!({ "steps": plan.steps, "indexed_fields": plan.indexed_fields }));
    Ok(())
}
