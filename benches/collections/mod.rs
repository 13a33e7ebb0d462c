//! What a collection costs beside the floors under it, in one run: an echo of the same size, an `fdatasync`, one fsync
//! per row.
//!
//! The node and the echo are processes of their own. Everything goes over gRPC, as clients do it, but for the `fdatasync`.

mod data;
mod find;
mod write;

pub(crate) use data::{NAMESPACE, TYPE, Words, register};
pub(crate) use write::load;

use crate::Failure;
use crate::node::channel;
use crate::options::Options;
use crate::process::Process;
use crate::report::Row;
use collector::rpc::pb;
use pb::collection_repo_client::CollectionRepoClient;
use pb::collection_service_client::CollectionServiceClient;
use tonic::transport::Channel;

/// How much is measured.
struct Size {
    rounds: usize,
    calls: usize,
    crowd: usize,
    found: usize,
    listed: usize,
}

impl Size {
    fn of(options: &Options) -> Self {
        let usual = Self { rounds: 0, calls: 1_000, crowd: 6_400, found: 100_000, listed: 1_000_000 };
        let quick = Self { rounds: 0, calls: 20, crowd: 128, found: 2_000, listed: 2_000 };
        Self { rounds: options.rounds(), ..options.pick(usual, quick) }
    }
}

/// Group `collections`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let size = &Size::of(options);
    // Beside the target folder, not in /tmp, which may be memory.
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let node = Process::node(data.path(), &[])?;
    let echo = Process::echo()?;
    data::register(&node.address).await?;
    for (name, full_text, indexed) in [
        ("searched", pb::FullText::On, &["number"][..]),
        ("plain", pb::FullText::Off, &[]),
        ("found", pb::FullText::On, &["number"]),
        ("listed", pb::FullText::Off, &[]),
    ] {
        make(&node.address, name, full_text, indexed).await?;
    }
    let mut rows = write::alone(&node.address, &echo.address, data.path(), size).await?;
    rows.extend(write::together(&node.address, size).await?);
    rows.extend(find::found(&node.address, size).await?);
    rows.push(find::listed(&node, size).await?);
    Ok(rows)
}

/// Makes a collection of records.
pub(crate) async fn make(address: &str, name: &str, full_text: pb::FullText, indexed: &[&str]) -> Result<(), Failure> {
    let message_type = pb::MessageTypeRef { namespace: String::new(), message_name: data::TYPE.to_owned() };
    let collection = pb::Collection {
        namespace: data::NAMESPACE.to_owned(),
        name: name.to_owned(),
        message_type: Some(message_type),
        indexed_fields: indexed.iter().map(|&path| path.to_owned()).collect(),
        full_text: full_text.into(),
        ..Default::default()
    };
    let request = pb::CreateCollectionRequest { collection: Some(collection) };
    CollectionRepoClient::new(channel(address).await?).create_collection(request).await?;
    Ok(())
}

/// A client over a connection of its own.
pub(crate) async fn client(address: &str) -> Result<CollectionServiceClient<Channel>, Failure> {
    let client = CollectionServiceClient::new(channel(address).await?);
    Ok(client.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20))
}
