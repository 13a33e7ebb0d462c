//! `collector collection list`

use super::super::client::{ClientError, request};
use super::super::output::{Output, table};
use super::super::place::Place;
use super::super::record::{Format, PAGE_MAX, Shape, pair};
use super::define::{labels, type_name, value};
use crate::domain::one_line;
use crate::rpc::pb;
use serde_json::json;

/// `collector collection list`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Namespace, instead of --namespace
    #[arg(value_name = "NS")]
    here: Option<String>,
    #[command(flatten)]
    place: Place,
    /// All namespaces that you may see
    #[arg(long, short = 'A', conflicts_with = "here")]
    all_namespaces: bool,
    /// Label that collections must have, may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Type that their records must have
    #[arg(long = "type", value_name = "MESSAGE")]
    message: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    let client = args.place.connect().await?;
    let place = args.here.unwrap_or(args.place.namespace);
    let namespace = if args.all_namespaces { String::new() } else { place.clone() };
    let filter = args.message.map(|name| pb::MessageTypeRef {
        namespace: String::new(),
        message_name: name.trim_start_matches('.').to_owned(),
    });
    let mut wanted = pb::DiscoverRequest {
        namespace: namespace.clone(),
        label_filter: args.label.into_iter().collect(),
        message_type_filter: filter,
        page_size: PAGE_MAX.into(),
        page_token: String::new(),
    };
    let format = args.shape.format(output);
    let mut all = Vec::new();
    loop {
        let page = client.repo().discover(request(&place, wanted.clone())?).await.map_err(ClientError::from)?;
        let page = page.into_inner();
        for one in page.collections {
            match format {
                Format::Jsonl if !output.line(&value(&one).to_string())? => return Ok(()),
                Format::Jsonl => {}
                Format::Table | Format::Json => all.push(one),
            }
        }
        wanted.page_token = page.next_page_token;
        if wanted.page_token.is_empty() {
            break;
        }
    }
    let text = match format {
        Format::Jsonl => return Ok(()),
        Format::Json => json!({ "collections": all.iter().map(value).collect::<Vec<_>>() }).to_string(),
        Format::Table if all.is_empty() && args.all_namespaces => "no collections".to_owned(),
        Format::Table if all.is_empty() => {
            format!("no collections in namespace {namespace}; make one with `collector collection create`")
        }
        Format::Table => table(&["COLLECTION", "TYPE", "INDEXES", "LABELS"], &all.iter().map(row).collect::<Vec<_>>()),
    };
    output.line(&text)?;
    Ok(())
}

fn row(one: &pb::Collection) -> Vec<String> {
    let id = format!("{}/{}", one.namespace, one.name);
    [id, type_name(one), one.indexed_fields.join(" "), labels(one)].map(|cell| one_line(&cell, 256)).to_vec()
}
