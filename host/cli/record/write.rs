//! `collector record create`, `get`, `update` and `delete`: one record each.

use super::super::client::{ClientError, headers};
use super::super::guest::Ui;
use super::super::output::Output;
use super::at::{At, Collection, pair};
use super::data::{Data, item};
use super::item::{Detail, Items};
use super::line::Line;
use crate::domain::one_line;
use crate::rpc::pb;
use prost_types::Any;
use serde_json::{Value, json};
use tonic::Request;

/// `collector record create`
#[derive(Debug, clap::Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    data: Data,
    /// Id of the record [default: the node makes one]
    #[arg(long)]
    id: Option<String>,
    /// Label, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  collector record create shop/orders -d '{\"customer\": \"Ann\", \"total\": 5}' --id o-1
  collector record create notes -f note.json --label colour=red
  echo '{\"text\": \"hi\"}' | collector record create notes -
  collector record create blobs -f picture.png --raw image/png --id p-1";

/// `collector record get`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct GetArgs {
    #[command(flatten)]
    at: At,
    /// Id of the record
    id: String,
}

/// `collector record update`
#[derive(Debug, clap::Args)]
#[command(after_help = UPDATE_EXAMPLES)]
pub(in crate::cli) struct UpdateArgs {
    #[command(flatten)]
    at: At,
    /// Id of the record
    id: String,
    #[command(flatten)]
    data: Data,
    /// Change only these dotted paths; what the item lacks of them is cleared [default: replace the record]
    #[arg(long, value_name = "A,B.C", value_delimiter = ',')]
    mask: Vec<String>,
    /// Only if this is still the record's etag
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    /// Labels instead of the present ones, may be repeated [default: they stay]
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
}

const UPDATE_EXAMPLES: &str = "\
Examples:
  collector record update shop/orders o-1 -d '{\"customer\": \"Ann\", \"total\": 6}'
  collector record update shop/orders o-1 -d '{\"total\": 6}' --mask total,address.city
  collector record update shop/orders o-1 -f order.json --if-match 0000018f";

/// `collector record delete`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DeleteArgs {
    #[command(flatten)]
    at: At,
    /// Id of the record
    id: String,
    /// Only if this is still the record's etag
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
}

pub(super) async fn create(args: CreateArgs, output: &Output) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let wanted = pb::CreateRequest {
        namespace: collection.namespace.clone(),
        collection_name: collection.name.clone(),
        item: Some(encode(&collection, &args.data).await?),
        id: args.id.unwrap_or_default(),
        labels: args.label.into_iter().collect(),
    };
    let made = collection.client.records().create(collection.request(wanted)?).await.map_err(ClientError::from)?;
    let made = made.into_inner();
    output.answer(&one_line(&made.id, 2_048), &value(&collection, &made.info.unwrap_or_default()));
    Ok(())
}

pub(super) async fn get(args: GetArgs, output: &Output, ui: &Ui) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let items = Items::of(&collection, None).await?;
    let wanted = pb::GetRequest {
        namespace: collection.namespace.clone(),
        collection_name: collection.name.clone(),
        id: args.id,
    };
    let found = collection.client.records().get(collection.request(wanted)?).await.map_err(ClientError::from)?;
    let found = found.into_inner();
    let item = found.item.unwrap_or_default();
    let line = Line::new(&items, &item, found.info.unwrap_or_default(), Detail::Everything);
    ui.note(&line.about());
    output.line(&if output.is_json() { line.text()? } else { line.pretty() })?;
    Ok(())
}

pub(super) async fn update(args: UpdateArgs, output: &Output) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let wanted = pb::UpdateRequest {
        namespace: collection.namespace.clone(),
        collection_name: collection.name.clone(),
        id: args.id,
        item: Some(encode(&collection, &args.data).await?),
        update_mask: args.mask,
        labels: args.label.into_iter().collect(),
    };
    let wanted = matching(collection.request(wanted)?, args.if_match)?;
    let done = collection.client.records().update(wanted).await.map_err(ClientError::from)?;
    let info = done.into_inner().info.unwrap_or_default();
    output.answer(&one_line(&format!("{}: etag {}", info.id, info.etag), 2_048), &value(&collection, &info));
    Ok(())
}

pub(super) async fn delete(args: DeleteArgs, output: &Output) -> anyhow::Result<()> {
    let collection = args.at.open().await?;
    let wanted = pb::DeleteRequest {
        namespace: collection.namespace.clone(),
        collection_name: collection.name.clone(),
        id: args.id.clone(),
    };
    let wanted = matching(collection.request(wanted)?, args.if_match)?;
    collection.client.records().delete(wanted).await.map_err(ClientError::from)?;
    let text = format!("{}: not in {} any more", args.id, collection.id());
    output.answer(&one_line(&text, 2_048), &json!({ "collection": collection.id(), "id": args.id }));
    Ok(())
}

async fn encode(collection: &Collection, data: &Data) -> anyhow::Result<Any> {
    let bytes = data.read()?;
    match data.opaque() {
        Some(type_url) => Ok(Any { type_url: type_url.to_owned(), value: bytes }),
        None => item(&Items::of(collection, data.given()).await?, &bytes),
    }
}

fn matching<T>(mut request: Request<T>, etag: Option<String>) -> Result<Request<T>, ClientError> {
    if let Some(etag) = etag {
        headers(request.metadata_mut(), &[format!("if-match:{etag}")])?;
    }
    Ok(request)
}

fn value(collection: &Collection, info: &pb::RecordInfo) -> Value {
    json!({ "collection": collection.id(), "id": info.id, "etag": info.etag })
}
