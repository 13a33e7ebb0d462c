//! `collector.record.v1.Collections`: convert, one domain call, convert.

use super::collections::{list_query, options_without_if_match, place, search_query};
use super::convert::BadRequest;
use super::pb::record::v1 as pb;
use super::{edge, status};
use crate::collections::{Collections, Progress};
use crate::domain::Deadline;
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// The service.
pub struct CollectionsService {
    collections: Arc<Collections>,
}

impl CollectionsService {
    /// * `collections`: shared with the other services.
    pub fn new(collections: Arc<Collections>) -> Self {
        Self { collections }
    }
}

#[tonic::async_trait]
impl pb::collections_server::Collections for CollectionsService {
    async fn drop_collection(
        &self,
        request: Request<pb::DropCollectionRequest>,
    ) -> Result<Response<pb::DropCollectionResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let bad = |why| status::bad_request(why, &id);
        let options = options_without_if_match(request.metadata()).map_err(bad)?;
        let request = request.get_ref();
        let place = place(&request.namespace, &request.collection_name);
        let dropped = self.collections.drop_collection(&caller, place.map_err(bad)?, options).await;
        let records = dropped.map_err(|why| status::collection(why, &id))?;
        Ok(Response::new(pb::DropCollectionResponse { records: count(records) }))
    }

    type ReindexStream = Pin<Box<dyn Stream<Item = Result<pb::ReindexProgress, Status>> + Send>>;

    async fn reindex(&self, request: Request<pb::ReindexRequest>) -> Result<Response<Self::ReindexStream>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let bad = |why| status::bad_request(why, &id);
        let options = options_without_if_match(request.metadata()).map_err(bad)?;
        // The client's own: how long it takes depends on how much there is.
        let until = edge::asked(&request)?.map(Deadline::after);
        let request = request.get_ref();
        let place = place(&request.namespace, &request.collection_name);
        let progress = self.collections.reindex(&caller, place.map_err(bad)?, &options, until);
        let progress = ReceiverStream::new(progress.map_err(|why| status::collection(why, &id))?);
        let progress = progress.map(move |step| step.map(convert_progress).map_err(|why| status::collection(why, &id)));
        Ok(Response::new(Box::pin(progress)))
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainResponse>, Status> {
        use pb::explain_request::Query;
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let bad = |why| status::bad_request(why, &id);
        let deadline = edge::deadline(&request)?;
        let plan = match request.into_inner().query {
            None => return Err(bad(BadRequest::Required("query"))),
            Some(Query::Search(search)) => {
                let (place, query) = search_query(search, deadline).map_err(bad)?;
                self.collections.explain_search(&caller, &place, &query).await
            }
            Some(Query::List(list)) => {
                let (place, query) = list_query(&list, deadline).map_err(bad)?;
                self.collections.explain_list(&caller, &place, &query).await
            }
        };
        let plan = plan.map_err(|why| status::collection(why, &id))?;
        let indexed_fields = plan.indexes.iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::ExplainResponse { steps: plan.steps, indexed_fields }))
    }
}

fn convert_progress(progress: Progress) -> pb::ReindexProgress {
    pb::ReindexProgress { done: count(progress.done), total: count(progress.total), skipped: count(progress.skipped) }
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
