//! `CollectionRepo`: convert, one domain call, convert.

use super::collections;
use super::convert::{self, BadRequest};
use super::edge;
use super::not_yet::{not_yet, service};
use super::page::Pages;
use super::{pb, status};
use crate::collections::{
    AcrossQuery, BadField, Collections, Definition, NewCollection, OfCollection, Place, Wanted, list_filter,
};
use crate::domain::{CollectionName, Deadline, Namespace, is_endpoint};
use crate::mesh::Peers;
use crate::registry::timestamp;
use crate::store::{Hit, Labels};
use crate::tenancy::Verb;
use prost::Message as _;
use prost_types::value::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::{Code, Request, Response, Status, Streaming};

/// Bytes of one page of definitions. 3 MiB: stock clients take 4 MiB.
const PAGE_BYTES: usize = 3 << 20;
/// Collections that one search may name. 100: whoever wants more wants all.
const NAMED_MAX: usize = 100;

/// The service.
pub struct RepoService {
    collections: Arc<Collections>,
    pages: Pages,
    advertised: String,
    peers: Peers,
}

impl RepoService {
    /// * `advertised`: where clients of collections without an endpoint of their own are routed to.
    /// * `peers`: the only ones that records may come from or go to.
    pub fn new(collections: Arc<Collections>, pages: Pages, advertised: String, peers: Peers) -> Self {
        Self { collections, pages, advertised, peers }
    }

    /// Lets through what names nobody, or a peer; nobody else is ever dialled.
    fn named<T>(&self, request: &Request<T>, field: &'static str, endpoint: &str) -> Result<(), Status> {
        if endpoint.is_empty() || self.peers.find_by_address(endpoint).is_some() {
            return Ok(());
        }
        if !is_endpoint(endpoint) {
            let why = BadRequest::Field { field: field.to_owned(), problem: "is not host:port".to_owned() };
            return Err(status::bad_request(why, &edge::request_id(request)));
        }
        let message =
            format!("{field} is none of this node's peers; its operator can make it one (`collector peer add`)");
        Err(status::plain(Code::PermissionDenied, "NOT_A_PEER", message))
    }

    fn endpoint(&self, definition: &Definition) -> String {
        match definition.server_endpoint.as_str() {
            "" => self.advertised.clone(),
            own => own.to_owned(),
        }
    }

    async fn create(
        &self,
        request: Request<pb::CreateCollectionRequest>,
    ) -> Result<Response<pb::CreateCollectionResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let bad = |why| status::bad_request(why, &id);
        let options = collections::options_without_if_match(request.metadata()).map_err(bad)?;
        let new = new_collection(request.into_inner()).map_err(bad)?;
        let made = self.collections.create_collection(&caller, new, options).await;
        let made = made.map_err(|why| status::collection(why, &id))?;
        Ok(Response::new(pb::CreateCollectionResponse {
            status: convert::ok(),
            collection_id: made.id(),
            server_endpoint: self.endpoint(&made),
        }))
    }

    fn find(&self, request: &Request<pb::DiscoverRequest>) -> Result<pb::DiscoverResponse, Status> {
        let id = edge::request_id(request);
        let caller = edge::caller(request)?;
        let bad = |why| status::bad_request(why, &id);
        let request = request.get_ref();
        let (mut wanted, query) = wanted(request).map_err(bad)?;
        let size = convert::page_size(request.page_size).map_err(bad)?;
        wanted.after = self.pages.read(&query, &request.page_token).map_err(bad)?;
        wanted.limit = size + 1;
        let mut found = self.collections.discover(&caller, &wanted).map_err(|why| status::collection(why, &id))?;
        let all = found.len();
        let mut bytes = 0;
        let mut collections = Vec::new();
        found.truncate(size);
        for one in &found {
            let one = collection(one);
            bytes += one.encoded_len();
            if bytes > PAGE_BYTES && !collections.is_empty() {
                break;
            }
            collections.push(one);
        }
        let last = collections.len().checked_sub(1).and_then(|last| found.get(last));
        let last = last.filter(|_| collections.len() < all);
        let next_page_token = last.map(|last| self.pages.token(&query, &last.id())).unwrap_or_default();
        Ok(pb::DiscoverResponse { status: convert::ok(), collections, next_page_token })
    }

    fn where_is(&self, request: &Request<pb::RouteRequest>) -> Result<pb::RouteResponse, Status> {
        let id = edge::request_id(request);
        let caller = edge::caller(request)?;
        let place = match &request.get_ref().collection {
            Some(named) => place(("collection.namespace", &named.namespace), ("collection.name", &named.name)),
            None => Err(BadRequest::Required("collection")),
        };
        let place = place.map_err(|why| status::bad_request(why, &id))?;
        let found = self.collections.definition(&caller, &place, Verb::Discover);
        let found = found.map_err(|why| status::collection(why, &id))?;
        Ok(pb::RouteResponse {
            status: convert::ok(),
            server_endpoint: self.endpoint(&found),
            collection: Some(collection(&found)),
        })
    }

    async fn search(
        &self,
        request: Request<pb::SearchCollectionsRequest>,
    ) -> Result<pb::SearchCollectionsResponse, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let deadline = edge::deadline(&request)?;
        let query = across(request.into_inner(), deadline).map_err(|why| status::bad_request(why, &id))?;
        let found = self.collections.search_collections(&caller, query).await;
        let found = found.map_err(|why| status::collection(why, &id))?;
        Ok(pb::SearchCollectionsResponse {
            status: convert::ok(),
            results: found.collections.into_iter().map(of_collection).collect(),
            total_matches: i64::try_from(found.total).unwrap_or(i64::MAX),
        })
    }
}

service! {
    pb::collection_repo_server::CollectionRepo, RepoService;
    backup_collection: BackupCollectionRequest -> BackupCollectionResponse = "CollectionRepo.BackupCollection", "backups";
    list_backups: ListBackupsRequest -> ListBackupsResponse = "CollectionRepo.ListBackups", "backups";
    restore_backup: RestoreBackupRequest -> RestoreBackupResponse = "CollectionRepo.RestoreBackup", "backups";
    delete_backup: DeleteBackupRequest -> DeleteBackupResponse = "CollectionRepo.DeleteBackup", "backups";
    verify_backup: VerifyBackupRequest -> VerifyBackupResponse = "CollectionRepo.VerifyBackup", "backups";
    ; {
        async fn clone(&self, request: Request<pb::CloneRequest>) -> Result<Response<pb::CloneResponse>, Status> {
            self.named(&request, "dest_endpoint", &request.get_ref().dest_endpoint)?;
            Err(not_yet("CollectionRepo.Clone", "transfer between nodes"))
        }

        async fn fetch(&self, request: Request<pb::FetchRequest>) -> Result<Response<pb::FetchResponse>, Status> {
            self.named(&request, "source_endpoint", &request.get_ref().source_endpoint)?;
            Err(not_yet("CollectionRepo.Fetch", "transfer between nodes"))
        }

        async fn create_collection(
            &self,
            request: Request<pb::CreateCollectionRequest>,
        ) -> Result<Response<pb::CreateCollectionResponse>, Status> {
            self.create(request).await
        }

        async fn discover(
            &self,
            request: Request<pb::DiscoverRequest>,
        ) -> Result<Response<pb::DiscoverResponse>, Status> {
            self.find(&request).map(Response::new)
        }

        async fn route(&self, request: Request<pb::RouteRequest>) -> Result<Response<pb::RouteResponse>, Status> {
            self.where_is(&request).map(Response::new)
        }

        async fn search_collections(
            &self,
            request: Request<pb::SearchCollectionsRequest>,
        ) -> Result<Response<pb::SearchCollectionsResponse>, Status> {
            self.search(request).await.map(Response::new)
        }

        async fn push_collection(
            &self,
            _: Request<Streaming<pb::PushCollectionRequest>>,
        ) -> Result<Response<pb::PushCollectionResponse>, Status> {
            Err(not_yet("CollectionRepo.PushCollection", "transfer between nodes"))
        }

        type PullCollectionStream = tokio_stream::Empty<Result<pb::PullCollectionChunk, Status>>;

        async fn pull_collection(
            &self,
            _: Request<pb::PullCollectionRequest>,
        ) -> Result<Response<Self::PullCollectionStream>, Status> {
            Err(not_yet("CollectionRepo.PullCollection", "transfer between nodes"))
        }
    }
}

/// A collection's name in its two parts, each with the field that it came in.
fn place(namespace: (&'static str, &str), name: (&'static str, &str)) -> Result<Place, BadRequest> {
    let namespace = convert::required(namespace.0, namespace.1)?;
    Ok(Place { namespace, collection: convert::required(name.0, name.1)? })
}

fn field(field: impl Into<String>, problem: impl Into<String>) -> BadRequest {
    BadRequest::Field { field: field.into(), problem: problem.into() }
}

fn new_collection(request: pb::CreateCollectionRequest) -> Result<NewCollection, BadRequest> {
    let asked = request.collection.ok_or(BadRequest::Required("collection"))?;
    let place = place(("collection.namespace", &asked.namespace), ("collection.name", &asked.name))?;
    let full_text = pb::FullText::try_from(asked.full_text);
    let full_text = full_text.map_err(|_| field("collection.full_text", "is a number that FullText lacks"))?;
    let of = asked.message_type.unwrap_or_default();
    if !of.namespace.is_empty() && of.namespace != place.namespace.as_str() {
        return Err(field("collection.message_type.namespace", "is another namespace; leave it empty"));
    }
    Ok(NewCollection {
        place,
        message_type: Some(of.message_name).filter(|name| !name.is_empty()),
        indexed_fields: asked.indexed_fields,
        server_endpoint: asked.server_endpoint,
        labels: asked.metadata.unwrap_or_default().labels.into_iter().collect(),
        full_text: full_text == pb::FullText::On,
    })
}

/// What is asked for, and the query that its page tokens are good for.
fn wanted(request: &pb::DiscoverRequest) -> Result<(Wanted, String), BadRequest> {
    let namespace = match request.namespace.as_str() {
        "" => None,
        one => Some(convert::required::<Namespace>("namespace", one)?),
    };
    let labels: BTreeMap<&String, &String> = request.label_filter.iter().collect();
    let labels: Vec<(String, String)> = labels.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let message_type = match &request.message_type_filter {
        None => None,
        Some(of) if of.namespace.is_empty() => Some((None, of.message_name.clone())),
        Some(of) => {
            let namespace = convert::required("message_type_filter.namespace", &of.namespace)?;
            Some((Some(namespace), of.message_name.clone()))
        }
    };
    let query = format!("CollectionRepo.Discover {:?} {labels:?} {message_type:?}", request.namespace);
    Ok((Wanted { namespace, labels, message_type, after: None, limit: 0 }, query))
}

fn across(request: pb::SearchCollectionsRequest, deadline: Deadline) -> Result<AcrossQuery, BadRequest> {
    let namespace = convert::required("namespace", &request.namespace)?;
    if request.collection_names.len() > NAMED_MAX {
        let problem = format!("has {} names, at most {NAMED_MAX} are allowed", request.collection_names.len());
        return Err(field("collection_names", format!("{problem}; leave it empty for all")));
    }
    let name = |(at, name): (usize, &String)| {
        let at = |why: crate::domain::NameError| field(format!("collection_names[{at}]"), why.to_string());
        name.parse::<CollectionName>().map_err(at)
    };
    let collections = request.collection_names.iter().enumerate().map(name).collect::<Result<_, _>>()?;
    let (mut full_text, mut filters) = (String::new(), Vec::new());
    for (key, value) in request.query.unwrap_or_default().fields {
        match (key.as_str(), value.kind) {
            ("full_text", Some(Kind::StringValue(text))) => full_text = text,
            ("full_text", _) => return Err(field("query.full_text", "must be text")),
            ("filters", Some(Kind::StructValue(by_path))) => filters = list_filter(&by_path).map_err(in_query)?,
            ("filters", _) => return Err(field("query.filters", "must be an object")),
            _ => return Err(field("query", "has a key other than full_text and filters")),
        }
    }
    let limit = convert::page_size(request.limit).map_err(|_| field("limit", "must not be negative"))?;
    Ok(AcrossQuery { namespace, collections, full_text, filters, order_by: request.order_by, limit, deadline })
}

/// A filter of `ListRequest` is `filters` here.
fn in_query(BadField { field: at, problem }: BadField) -> BadRequest {
    field(format!("query.filters{}", at.strip_prefix("filter").unwrap_or_default()), problem)
}

fn of_collection(found: OfCollection) -> pb::search_collections_response::CollectionResult {
    let mut result = pb::search_collections_response::CollectionResult {
        collection_name: found.name.to_string(),
        ..Default::default()
    };
    for Hit { record, score } in found.hits {
        result.scores.insert(record.id.clone(), score);
        let (item, info) = collections::record(record);
        result.items.push(item);
        result.infos.push(info);
    }
    result
}

fn metadata(created_at: i64, updated_at: i64, labels: &Labels) -> pb::Metadata {
    pb::Metadata {
        created_at: Some(timestamp(created_at)),
        updated_at: Some(timestamp(updated_at)),
        labels: labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

/// A definition as messages carry it.
pub(super) fn collection(definition: &Definition) -> pb::Collection {
    let message_type = definition.message_type.as_ref();
    let full_text = if definition.full_text { pb::FullText::On } else { pb::FullText::Off };
    pb::Collection {
        namespace: definition.namespace.to_string(),
        name: definition.name.to_string(),
        message_type: message_type
            .map(|name| pb::MessageTypeRef { namespace: definition.namespace.to_string(), message_name: name.clone() }),
        indexed_fields: definition.indexed_fields.clone(),
        server_endpoint: definition.server_endpoint.clone(),
        metadata: Some(metadata(definition.created_at, definition.updated_at, &definition.labels)),
        full_text: full_text.into(),
    }
}
