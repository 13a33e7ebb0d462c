//! `CollectionService`: convert, one domain call, convert.

use super::collection_repo::collection;
use super::collections::{self as wire, Kind};
use super::convert::{self, BadRequest};
use super::edge::{self, ReceiptSlot, RequestId};
use super::page::Pages;
use super::{MESSAGE_MAX, pb, status};
use crate::collections::{CollectionError, Collections, Listed, RECORD_MAX, RUNS_MAX};
use crate::domain::RecordId;
use crate::store;
use std::collections::HashMap;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// What the node can do beyond the contract.
const FEATURES: [&str; 10] = [
    "batch_best_effort",
    "explain",
    "full_text",
    "idempotency_key",
    "if_match",
    "invoke",
    "json_records",
    "reindex",
    "validate_only",
    "vector",
];

/// The service.
pub struct CollectionService {
    collections: Arc<Collections>,
    pages: Pages,
}

impl CollectionService {
    /// * `pages`: makes page tokens.
    pub fn new(collections: Arc<Collections>, pages: Pages) -> Self {
        Self { collections, pages }
    }
}

/// Both kinds of errors as statuses of one request.
struct Failures(RequestId);

impl Failures {
    fn of<T>(request: &Request<T>) -> Self {
        Self(edge::request_id(request))
    }

    fn bad(&self, why: BadRequest) -> Status {
        status::bad_request(why, &self.0)
    }

    fn failed(&self, why: CollectionError) -> Status {
        status::collection(why, &self.0)
    }
}

#[tonic::async_trait]
impl pb::collection_service_server::CollectionService for CollectionService {
    async fn create(&self, request: Request<pb::CreateRequest>) -> Result<Response<pb::CreateResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let options = wire::options_without_if_match(request.metadata()).map_err(|why| no.bad(why))?;
        let request = request.into_inner();
        let place = wire::place(&request.namespace, &request.collection_name).map_err(|why| no.bad(why))?;
        let given = request.id.clone();
        let operation = wire::create(request).map_err(|why| no.bad(why))?;
        let outcome = self.collections.write(&caller, &place, operation, &options).await;
        let created = wire::created(outcome.map_err(|why| no.failed(why))?, given);
        let etag = created.info.as_ref().map(|info| info.etag.clone());
        Ok(wire::tagged(created, etag.as_deref()))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let if_match = wire::if_match(request.metadata()).map_err(|why| no.bad(why))?;
        let request = request.into_inner();
        let place = wire::place(&request.namespace, &request.collection_name).map_err(|why| no.bad(why))?;
        let id: RecordId = convert::required("id", &request.id).map_err(|why| no.bad(why))?;
        let record = self.collections.get(&caller, &place, &id, if_match).await;
        let (item, info) = wire::record(record.map_err(|why| no.failed(why))?);
        let etag = info.etag.clone();
        let reply = pb::GetResponse { status: convert::ok(), item: Some(item), info: Some(info) };
        Ok(wire::tagged(reply, Some(&etag)))
    }

    async fn update(&self, request: Request<pb::UpdateRequest>) -> Result<Response<pb::UpdateResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let options = wire::options(request.metadata()).map_err(|why| no.bad(why))?;
        let request = request.into_inner();
        let place = wire::place(&request.namespace, &request.collection_name).map_err(|why| no.bad(why))?;
        let operation = wire::update(request).map_err(|why| no.bad(why))?;
        let outcome = self.collections.write(&caller, &place, operation, &options).await;
        let info = wire::put(outcome.map_err(|why| no.failed(why))?);
        let etag = info.as_ref().map(|info| info.etag.clone());
        Ok(wire::tagged(pb::UpdateResponse { status: convert::ok(), info }, etag.as_deref()))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let options = wire::options(request.metadata()).map_err(|why| no.bad(why))?;
        let request = request.into_inner();
        let place = wire::place(&request.namespace, &request.collection_name).map_err(|why| no.bad(why))?;
        let operation = wire::delete(&request).map_err(|why| no.bad(why))?;
        let outcome = self.collections.write(&caller, &place, operation, &options).await;
        outcome.map_err(|why| no.failed(why))?;
        Ok(Response::new(pb::DeleteResponse { status: convert::ok() }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let deadline = edge::deadline(&request)?;
        let request = request.into_inner();
        let (place, mut query) = wire::list_query(&request, deadline).map_err(|why| no.bad(why))?;
        let key = wire::list_key(&place, &request);
        query.after = self.pages.read(&key, &request.page_token).map_err(|why| no.bad(why))?;
        let listed = self.collections.list(&caller, &place, &query).await;
        let Listed { records, next, total } = listed.map_err(|why| no.failed(why))?;
        let (items, infos) = records.into_iter().map(wire::record).unzip();
        let next_page_token = next.map(|last| self.pages.token(&key, &last)).unwrap_or_default();
        let total_count = i64::try_from(total).unwrap_or(i64::MAX);
        Ok(Response::new(pb::ListResponse { status: convert::ok(), items, next_page_token, total_count, infos }))
    }

    async fn search(&self, request: Request<pb::SearchRequest>) -> Result<Response<pb::SearchResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let deadline = edge::deadline(&request)?;
        let (place, query) = wire::search_query(request.into_inner(), deadline).map_err(|why| no.bad(why))?;
        let found = self.collections.search(&caller, &place, &query).await;
        let (found, total) = found.map_err(|why| no.failed(why))?;
        Ok(Response::new(pb::SearchResponse {
            status: convert::ok(),
            results: wire::results(found),
            total_count: i64::try_from(total).unwrap_or(i64::MAX),
        }))
    }

    async fn batch(&self, request: Request<pb::BatchRequest>) -> Result<Response<pb::BatchResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let options = wire::options_without_if_match(request.metadata()).map_err(|why| no.bad(why))?;
        let apart = wire::apart(request.metadata()).map_err(|why| no.bad(why))?;
        let request = request.into_inner();
        let place = wire::place(&request.namespace, &request.collection_name).map_err(|why| no.bad(why))?;
        let operations = wire::operations(&place, request.operations).map_err(|why| no.bad(why))?;
        let kinds: Vec<Kind> = operations.iter().map(Kind::of).collect();
        let outcomes = self.collections.batch(&caller, &place, &operations, apart, &options).await;
        let outcomes = kinds.into_iter().zip(outcomes.map_err(|why| no.failed(why))?);
        let responses = outcomes.map(|(kind, outcome)| wire::response(kind, outcome, &no.0)).collect();
        Ok(Response::new(pb::BatchResponse { status: convert::ok(), responses }))
    }

    async fn describe(&self, request: Request<pb::DescribeRequest>) -> Result<Response<pb::DescribeResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let place = wire::place(&request.namespace, &request.collection_name).map_err(|why| no.bad(why))?;
        let described = self.collections.describe(&caller, &place).await;
        let (definition, stats) = described.map_err(|why| no.failed(why))?;
        Ok(Response::new(pb::DescribeResponse {
            status: convert::ok(),
            collection_definition: Some(collection(&definition)),
            record_count: i64::try_from(stats.records).unwrap_or(i64::MAX),
            storage_size_bytes: i64::try_from(stats.bytes).unwrap_or(i64::MAX),
        }))
    }

    async fn modify(&self, request: Request<pb::ModifyRequest>) -> Result<Response<pb::ModifyResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let options = wire::options_without_if_match(request.metadata()).map_err(|why| no.bad(why))?;
        let request = request.into_inner();
        let place = wire::place(&request.namespace, &request.collection_name).map_err(|why| no.bad(why))?;
        let modified = self.collections.modify(&caller, &place, request.indexed_fields, &options).await;
        modified.map_err(|why| no.failed(why))?;
        Ok(Response::new(pb::ModifyResponse { status: convert::ok() }))
    }

    async fn meta(&self, _: Request<pb::MetaRequest>) -> Result<Response<pb::MetaResponse>, Status> {
        Ok(Response::new(pb::MetaResponse {
            status: convert::ok(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            limits: limits(),
            features: FEATURES.map(str::to_owned).into(),
        }))
    }

    async fn invoke(&self, request: Request<pb::InvokeRequest>) -> Result<Response<pb::InvokeResponse>, Status> {
        let no = Failures::of(&request);
        let caller = edge::caller(&request)?;
        let deadline = edge::deadline(&request)?;
        let options = wire::options_without_if_match(request.metadata()).map_err(|why| no.bad(why))?;
        if options.once.is_some() {
            return Err(super::not_yet::not_yet("metadata idempotency-key on Invoke", "remembered calls"));
        }
        let (place, invocation) = wire::invocation(request, deadline).map_err(|why| no.bad(why))?;
        let invoked = self.collections.invoke(&caller, &place, invocation).await;
        let invoked = invoked.map_err(|why| no.failed(why))?;
        let type_url = convert::type_url(&invoked.output_type);
        let outputs = invoked.outputs.into_iter().map(|bytes| wire::any(type_url.clone(), bytes)).collect();
        let mut response = Response::new(pb::InvokeResponse { status: convert::ok(), outputs });
        if let Some(receipt) = invoked.receipt {
            response.extensions_mut().insert(ReceiptSlot::of(receipt));
        }
        Ok(response)
    }
}

/// What one call may ask for.
fn limits() -> HashMap<String, i64> {
    let limits = [
        ("request_bytes", MESSAGE_MAX),
        ("record_bytes", RECORD_MAX),
        ("record_id_bytes", store::ID_MAX),
        ("type_url_bytes", store::TYPE_URL_MAX),
        ("batch_operations", store::CHANGES_MAX),
        ("page_size", store::HITS_MAX),
        ("offset", store::OFFSET_MAX),
        ("filters", store::CONDITIONS_MAX),
        ("in_values", store::IN_MAX),
        ("order_by_fields", store::ORDER_MAX),
        ("full_text_terms", store::TERMS_MAX),
        ("vector_dimensions", store::DIMENSIONS_MAX),
        ("indexed_fields", store::INDEXES_MAX),
        ("invoke_items", RUNS_MAX),
    ];
    limits.into_iter().map(|(name, limit)| (name.to_owned(), i64::try_from(limit).unwrap_or(i64::MAX))).collect()
}
