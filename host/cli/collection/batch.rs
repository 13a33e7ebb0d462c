//! A batch of new records on its way to the node.

use super::super::client::{ClientError, headers};
use super::super::record::Collection;
use super::lines::Text;
use super::rejects::Reject;
use crate::rpc::pb;
use futures_util::future::BoxFuture;
use pb::request_op::Operation;
use tonic::{Code, Status};

/// Metadata with which each operation of a batch stands alone.
const BEST_EFFORT: &str = "collector-batch:best-effort";

/// A line and the record that it is to become.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: Text,
    pub(super) record: pb::CreateRequest,
}

/// Some lines of the input, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Lines that never reach the node.
    pub(super) rejects: Vec<Reject>,
    /// Where the last line ends in the input.
    pub(super) end: u64,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) made: u64,
    /// Records whose id is taken, where that is fine.
    pub(super) there: u64,
    pub(super) rejects: Vec<Reject>,
    pub(super) end: u64,
}

/// Sends a batch: at once, and where that fails operation by operation.
///
/// * `skip`: records that exist are fine.
/// * errors: those that have nothing to do with the records; the batch may then be repeated.
pub(super) async fn send(collection: &Collection, batch: Batch, skip: bool) -> Result<Done, ClientError> {
    let mut done = Done { rejects: batch.rejects, end: batch.end, ..Done::default() };
    if skip {
        each(collection, batch.entries, skip, &mut done).await?;
        return Ok(done);
    }
    match call(collection, &batch.entries, false).await {
        Ok(_) => done.made += batch.entries.len() as u64,
        Err(ClientError::Call(status)) if is_about_records(&status) => {
            each(collection, batch.entries, skip, &mut done).await?;
        }
        Err(why) => return Err(why),
    }
    Ok(done)
}

/// Has each entry stand alone. A batch that fails as a whole, too large for one, is sent in halves.
fn each<'a>(
    collection: &'a Collection,
    mut entries: Vec<Entry>,
    skip: bool,
    done: &'a mut Done,
) -> BoxFuture<'a, Result<(), ClientError>> {
    Box::pin(async move {
        match call(collection, &entries, true).await {
            Ok(responses) => {
                for (entry, response) in entries.into_iter().zip(responses) {
                    let status = response.status.unwrap_or_default();
                    let (code, name) = (status.code(), status.code().as_str_name());
                    settle(done, entry, code, skip, &format!("{name}: {}", status.message));
                }
                Ok(())
            }
            Err(ClientError::Call(status)) if is_about_records(&status) => {
                if entries.len() > 1 {
                    let rest = entries.split_off(entries.len() / 2);
                    each(collection, entries, skip, done).await?;
                    return each(collection, rest, skip, done).await;
                }
                let error = ClientError::Call(status).to_string();
                done.rejects.extend(entries.into_iter().map(|entry| Reject { line: entry.line, error: error.clone() }));
                Ok(())
            }
            Err(why) => Err(why),
        }
    })
}

fn settle(done: &mut Done, entry: Entry, code: pb::status::Code, skip: bool, error: &str) {
    match code {
        pb::status::Code::Ok => done.made += 1,
        pb::status::Code::AlreadyExists if skip => done.there += 1,
        _ => done.rejects.push(Reject { line: entry.line, error: error.to_owned() }),
    }
}

async fn call(
    collection: &Collection,
    entries: &[Entry],
    best_effort: bool,
) -> Result<Vec<pb::ResponseOp>, ClientError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let create = |entry: &Entry| pb::RequestOp { operation: Some(Operation::Create(entry.record.clone())) };
    let mut wanted = collection.request(pb::BatchRequest {
        namespace: collection.namespace.clone(),
        collection_name: collection.name.clone(),
        operations: entries.iter().map(create).collect(),
    })?;
    if best_effort {
        headers(wanted.metadata_mut(), &[BEST_EFFORT.to_owned()])?;
    }
    let responses = collection.client.records().batch(wanted).await?.into_inner().responses;
    if responses.len() != entries.len() {
        return Err(Status::internal("the node answered another number of operations than it was sent").into());
    }
    Ok(responses)
}

/// Whether other records might have done: anything else is no reason to reject a line.
fn is_about_records(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
    )
}
