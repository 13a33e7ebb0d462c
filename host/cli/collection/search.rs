//! `collector collection search`

use super::super::client::{ClientError, NodeClient, request};
use super::super::output::Output;
use super::super::place::Place;
use super::super::record::{
    Collection, Condition, Detail, Format, Items, Line, PAGE_MAX, Shape, filters_object, text, with_help,
};
use crate::domain::one_line;
use crate::rpc::pb;
use crate::rpc::pb::search_collections_response::CollectionResult;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde::Serialize;
use std::collections::BTreeMap;

/// `collector collection search`
#[derive(Debug, clap::Args)]
#[command(after_help = with_help(EXAMPLES))]
pub(in crate::cli) struct Args {
    /// Namespace to search
    #[arg(value_name = "NS")]
    here: String,
    /// Words that the record's texts must have: AND, OR, NOT, "a phrase", prefix*, NEAR(a b)
    #[arg(value_name = "QUERY")]
    words: Option<String>,
    /// Only this collection, may be repeated [default: all that you may read]
    #[arg(long, short, value_name = "NAME")]
    collection: Vec<String>,
    /// Condition on a field, may be repeated
    #[arg(long = "where", short = 'w', value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// Fields to order by, also created_at, updated_at and id [default: best first, else newest first]
    #[arg(long, value_name = "A, B desc", default_value = "", hide_default_value = true)]
    order: String,
    /// Matches at most, over all collections
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=PAGE_MAX.into()))]
    limit: i32,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    place: Place,
}

const EXAMPLES: &str = "\
Examples:
  collector collection search shop 'pen*'
  collector collection search shop --collection orders --collection drafts --where 'total>5' -o jsonl";

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let mut query = BTreeMap::new();
    query.extend(args.words.as_deref().map(|words| ("full_text".to_owned(), text(words))));
    let filters = filters_object(&args.conditions)?;
    query.extend(filters.map(|filters| ("filters".to_owned(), Value { kind: Some(Kind::StructValue(filters)) })));
    let wanted = pb::SearchCollectionsRequest {
        namespace: args.here.clone(),
        collection_names: args.collection,
        query: Some(Struct { fields: query }),
        limit: args.limit,
        order_by: args.order,
    };
    let found = client.repo().search_collections(request(&args.here, wanted)?).await.map_err(ClientError::from)?;
    let found = found.into_inner();

    let format = args.shape.format(output);
    let mut groups = Vec::new();
    for result in found.results {
        let group = group(&client, &args.here, result).await?;
        for line in group.records.iter().filter(|_| format == Format::Jsonl) {
            let hit = Hit { collection: &group.collection, line };
            if !output.line(&serde_json::to_string(&hit)?)? {
                return Ok(());
            }
        }
        groups.push(group);
    }
    let found = Found { results: groups, total: found.total_matches };
    match format {
        Format::Jsonl => return Ok(()),
        Format::Json => output.line(&serde_json::to_string(&found)?)?,
        Format::Table => output.line(&people(&args.here, &found))?,
    };
    Ok(())
}

/// Matches as one JSON value.
#[derive(Serialize)]
struct Found {
    results: Vec<Group>,
    total: i64,
}

/// Matches of one collection.
#[derive(Serialize)]
struct Group {
    collection: String,
    records: Vec<Line>,
}

/// A match as one line of JSON.
#[derive(Serialize)]
struct Hit<'a> {
    collection: &'a str,
    #[serde(flatten)]
    line: &'a Line,
}

/// Items of one collection, each by its type.
async fn group(client: &NodeClient, namespace: &str, result: CollectionResult) -> anyhow::Result<Group> {
    let collection =
        Collection { client: client.clone(), namespace: namespace.to_owned(), name: result.collection_name };
    let items = Items::of(&collection, None).await?;
    let scores = result.scores;
    let records = result.items.iter().zip(result.infos).map(|(item, info)| {
        let score = scores.get(&info.id).copied().unwrap_or_default();
        Line::new(&items, item, info, Detail::Everything).found(score, None)
    });
    let records = records.collect();
    Ok(Group { collection: collection.name, records })
}

/// A heading for each collection, a line for each record: their fields have nothing in common.
fn people(namespace: &str, found: &Found) -> String {
    let mut text = format!("{} matches in {namespace}", found.total);
    for group in &found.results {
        let lines = group.records.iter().map(|line| format!("\n  {}", line.brief())).collect::<String>();
        text.push_str(&format!("\n{}{lines}", one_line(&group.collection, 256)));
    }
    text
}
