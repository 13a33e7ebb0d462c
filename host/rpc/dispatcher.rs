//! `CollectiveDispatcher`: convert, one domain call, convert.

use super::anywhere::Anywhere;
use super::mesh::LinkKeeper;
use super::{convert, edge, pb, status};
use crate::dispatch::{Dispatcher, Served};
use std::sync::Arc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

/// The service.
pub struct DispatcherService {
    dispatcher: Arc<Dispatcher>,
    collector_id: String,
    links: LinkKeeper,
    anywhere: Anywhere,
}

impl DispatcherService {
    /// * `collector_id`: what answers call themselves.
    /// * `links`: what Connect is about.
    /// * `anywhere`: what Dispatch is.
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        collector_id: String,
        links: LinkKeeper,
        anywhere: Anywhere,
    ) -> Self {
        Self { dispatcher, collector_id, links, anywhere }
    }
}

/// Metadata that promises something about a call, and that nothing keeps yet. Ignored it would be a promise broken.
const PROMISES: [&str; 3] = ["collector-validate-only", "idempotency-key", "if-match"];

pub(super) fn refuse_promises(metadata: &MetadataMap) -> Result<(), Status> {
    match PROMISES.into_iter().find(|key| metadata.contains_key(*key)) {
        Some(key) => Err(super::not_yet::not_yet(&format!("metadata {key} on Serve"), "deployments and collections")),
        None => Ok(()),
    }
}

#[tonic::async_trait]
impl pb::collective_dispatcher_server::CollectiveDispatcher for DispatcherService {
    async fn serve(&self, request: Request<pb::ServeRequest>) -> Result<Response<pb::ServeResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let deadline = edge::deadline(&request)?;
        refuse_promises(request.metadata())?;
        let (metadata, _, body) = request.into_parts();
        let call = convert::call(body, &metadata, deadline).map_err(|why| status::bad_request(why, &id))?;
        let Served { outcome, output_type } =
            self.dispatcher.serve(&caller, call).await.map_err(|why| status::dispatch(why, &id))?;
        let reply = outcome.reply.map_err(|fault| status::fault(fault, &outcome.receipt))?;
        let type_url = output_type.as_deref().map(convert::type_url).unwrap_or_default();
        let mut response = Response::new(pb::ServeResponse {
            status: convert::ok(),
            output: Some(prost_types::Any { type_url, value: reply.into() }),
            executor_id: self.collector_id.clone(),
        });
        response.extensions_mut().insert(edge::ReceiptSlot::of(outcome.receipt));
        Ok(response)
    }

    async fn connect(&self, request: Request<pb::ConnectRequest>) -> Result<Response<pb::ConnectResponse>, Status> {
        self.links.connect(&request)
    }

    async fn dispatch(&self, request: Request<pb::DispatchRequest>) -> Result<Response<pb::DispatchResponse>, Status> {
        self.anywhere.dispatch(request).await
    }
}
