//! `collector collection create`, `describe` and `modify`.

use super::super::client::ClientError;
use super::super::guest::Ui;
use super::super::output::Output;
use super::super::record::{At, Collection, Format, Shape, pair};
use crate::domain::one_line;
use crate::rpc::pb;
use anyhow::bail;
use indicatif::HumanBytes;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What an indexed field says that vector search compares.
const VECTOR: &str = ":vector";

/// What a new collection is like.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub(super) struct Definition {
    /// Type of the records: full name of a registered message [default: JSON objects]
    #[arg(long = "type", value_name = "MESSAGE")]
    message: Option<String>,
    #[command(flatten)]
    indexes: Indexes,
    /// Label of the collection, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Without text search; writing costs about half
    #[arg(long)]
    no_full_text: bool,
    /// host:port that clients are routed to [default: the node's]
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
}

/// Indexed fields of a collection.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
struct Indexes {
    /// Field with an index, dotted, may be repeated
    #[arg(long, value_name = "PATH")]
    index: Vec<String>,
    /// The repeated float field that vector search compares
    #[arg(long, value_name = "PATH")]
    vector: Option<String>,
}

/// `collector collection create`
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    definition: Definition,
}

const EXAMPLES: &str = "\
Examples:
  collector collection create notes                                       JSON objects of any shape
  collector collection create shop/orders --type shop.v1.Order --index customer --index address.city
  collector collection create docs --type docs.v1.Doc --vector embedding --label team=search";

/// `collector collection describe`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DescribeArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    shape: Shape,
}

/// `collector collection modify`
#[derive(Debug, clap::Args)]
#[command(after_help = MODIFY_EXAMPLES)]
pub(in crate::cli) struct ModifyArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    indexes: Indexes,
    /// Drop all indexes
    #[arg(long, conflicts_with_all = ["index", "vector"])]
    no_indexes: bool,
}

const MODIFY_EXAMPLES: &str = "\
What is given is the whole new list: indexes that it does not name are dropped.

Examples:
  collector collection modify shop/orders --index customer --index total
  collector collection modify shop/orders --no-indexes";

impl Indexes {
    fn paths(self) -> Vec<String> {
        let vector = self.vector.map(|path| format!("{}{VECTOR}", path.trim_end_matches(VECTOR)));
        self.index.into_iter().chain(vector).collect()
    }
}

pub(super) async fn create(args: CreateArgs, output: &Output) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let made = make(&collection, args.definition).await?;
    let text = format!("{}: made; records go to {}", made.collection_id, made.server_endpoint);
    let value = json!({ "collection": made.collection_id, "endpoint": made.server_endpoint });
    output.answer(&one_line(&text, 1_024), &value);
    Ok(())
}

/// Makes an empty collection.
pub(super) async fn make(
    collection: &Collection,
    definition: Definition,
) -> Result<pb::CreateCollectionResponse, ClientError> {
    let full_text = if definition.no_full_text { pb::FullText::Off } else { pb::FullText::On };
    let message_type = definition.message.map(|name| pb::MessageTypeRef {
        namespace: String::new(),
        message_name: name.trim_start_matches('.').to_owned(),
    });
    let wanted = pb::Collection {
        namespace: collection.namespace.clone(),
        name: collection.name.clone(),
        message_type,
        indexed_fields: definition.indexes.paths(),
        server_endpoint: definition.endpoint.unwrap_or_default(),
        metadata: Some(pb::Metadata { labels: definition.label.into_iter().collect(), ..Default::default() }),
        full_text: full_text.into(),
    };
    let wanted = collection.request(pb::CreateCollectionRequest { collection: Some(wanted) })?;
    Ok(collection.client.repo().create_collection(wanted).await?.into_inner())
}

pub(super) async fn describe(args: DescribeArgs, output: &Output) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let found = described(&collection).await?;
    let definition = found.collection_definition.unwrap_or_default();
    let mut value = value(&definition);
    value["records"] = json!(found.record_count);
    value["bytes"] = json!(found.storage_size_bytes);
    if args.shape.format(output) != Format::Table {
        output.line(&value.to_string())?;
        return Ok(());
    }
    let bytes = HumanBytes(u64::try_from(found.storage_size_bytes).unwrap_or_default());
    let mut text = format!("collection  {}\n", collection.id());
    for (name, words) in words(&definition) {
        let _ = writeln!(text, "{name:<10}  {}", one_line(&words, 1_024));
    }
    let _ = write!(text, "records     {}\nsize        {bytes}", found.record_count);
    output.text(&text);
    Ok(())
}

/// Definition, count and size.
pub(super) async fn described(collection: &Collection) -> Result<pb::DescribeResponse, ClientError> {
    let wanted =
        pb::DescribeRequest { namespace: collection.namespace.clone(), collection_name: collection.name.clone() };
    Ok(collection.client.records().describe(collection.request(wanted)?).await?.into_inner())
}

pub(super) async fn modify(args: ModifyArgs, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let indexed_fields = args.indexes.paths();
    if indexed_fields.is_empty() && !args.no_indexes {
        bail!("there is nothing to change; name all indexes with --index and --vector, or give --no-indexes");
    }
    let collection = args.at.open().await?;
    let step = ui.step(&format!("building the indexes of {}", collection.id()));
    let wanted = collection.request(pb::ModifyRequest {
        namespace: collection.namespace.clone(),
        collection_name: collection.name.clone(),
        indexed_fields: indexed_fields.clone(),
    })?;
    collection.client.records().modify(wanted).await.map_err(ClientError::from)?;
    drop(step);
    let shown = if indexed_fields.is_empty() { "none".to_owned() } else { indexed_fields.join(", ") };
    let value = json!({ "collection": collection.id(), "indexed_fields": indexed_fields });
    output.answer(&one_line(&format!("{}: indexes: {shown}", collection.id()), 4_096), &value);
    Ok(())
}

/// What there is to say of a definition, word for word.
fn words(definition: &pb::Collection) -> Vec<(&'static str, String)> {
    let metadata = definition.metadata.clone().unwrap_or_default();
    let created = metadata.created_at.map(|time| time.to_string()).unwrap_or_default();
    let mut words = vec![("type", type_name(definition)), ("text", full_text(definition).to_owned())];
    if !definition.indexed_fields.is_empty() {
        words.push(("indexes", definition.indexed_fields.join(", ")));
    }
    if !metadata.labels.is_empty() {
        words.push(("labels", labels(definition)));
    }
    if !definition.server_endpoint.is_empty() {
        words.push(("endpoint", definition.server_endpoint.clone()));
    }
    words.push(("created", created));
    words
}

/// Full name of the type, or what records are without one.
pub(super) fn type_name(definition: &pb::Collection) -> String {
    match &definition.message_type {
        Some(of) if !of.message_name.is_empty() => of.message_name.clone(),
        _ => "JSON".to_owned(),
    }
}

/// `key=value`, ordered by key.
pub(super) fn labels(definition: &pb::Collection) -> String {
    let labels = definition.metadata.iter().flat_map(|metadata| &metadata.labels);
    let mut labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort_unstable();
    labels.join(" ")
}

fn full_text(definition: &pb::Collection) -> &'static str {
    match definition.full_text() {
        pb::FullText::On => "searchable",
        pb::FullText::Off => "not searchable",
    }
}

/// A definition for programs.
pub(super) fn value(definition: &pb::Collection) -> Value {
    let metadata = definition.metadata.clone().unwrap_or_default();
    json!({
        "namespace": definition.namespace,
        "name": definition.name,
        "type": definition.message_type.as_ref().map(|of| &of.message_name).filter(|name| !name.is_empty()),
        "indexed_fields": definition.indexed_fields,
        "full_text": definition.full_text() == pb::FullText::On,
        "endpoint": definition.server_endpoint,
        "labels": metadata.labels,
        "created_at": metadata.created_at.map(|time| time.to_string()),
        "updated_at": metadata.updated_at.map(|time| time.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_mark_the_vector() {
        let paths = |vector: &str| Indexes { index: vec!["a.b".into()], vector: Some(vector.into()) }.paths();
        assert_eq!(paths("v"), ["a.b", "v:vector"]);
        assert_eq!(paths("v:vector"), ["a.b", "v:vector"]);
        assert!(Indexes::default().paths().is_empty());
    }
}
