//! Between records on the wire and domain words: requests of CollectionService in, its replies out.

use super::convert::{self, BadRequest};
use super::{pb, status};
use crate::collections::{
    BadField, CollectionError, FieldFilter, Found, Info, Invocation, Item, ListQuery, Operation, Operator, Options,
    Outcome, Place, SearchQuery, list_filter,
};
use crate::domain::{Deadline, RecordId};
use crate::registry::timestamp;
use crate::store::{Labels, OFFSET_MAX, Record};
use prost::Message as _;
use std::collections::HashMap;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response};

/// Metadata by which a write is made once.
const ONCE: &str = "idempotency-key";
/// Metadata that names the version of a record.
const IF_MATCH: &str = "if-match";
/// Metadata that lets the operations of a batch stand alone.
const BATCH: &str = "collector-batch";
/// Longest idempotency key, in bytes: several UUIDs.
const ONCE_MAX: usize = 255;
/// Bytes of a reply with several records: 8 MiB.
const REPLY_BYTES: usize = 8 << 20;

impl From<BadField> for BadRequest {
    fn from(BadField { field, problem }: BadField) -> Self {
        Self::Field { field, problem }
    }
}

fn bad(field: &str, problem: impl Into<String>) -> BadRequest {
    BadRequest::Field { field: field.to_owned(), problem: problem.into() }
}

/// Where a request is about.
pub(super) fn place(namespace: &str, collection: &str) -> Result<Place, BadRequest> {
    Ok(Place {
        namespace: convert::required("namespace", namespace)?,
        collection: convert::required("collection_name", collection)?,
    })
}

/// How a write is to be made.
pub(super) fn options(metadata: &MetadataMap) -> Result<Options, BadRequest> {
    let validate_only = convert::validate_only(metadata);
    Ok(Options { validate_only, once: once(metadata)?, if_match: if_match(metadata)? })
}

/// The same for what is no write of one record that is there.
pub(super) fn options_without_if_match(metadata: &MetadataMap) -> Result<Options, BadRequest> {
    match metadata.contains_key(IF_MATCH) {
        true => Err(bad("metadata if-match", "does not apply here")),
        false => options(metadata),
    }
}

fn once(metadata: &MetadataMap) -> Result<Option<String>, BadRequest> {
    let Some(key) = only(metadata, ONCE, "metadata idempotency-key")? else { return Ok(None) };
    let key = key.as_encoded_bytes();
    if !(1..=ONCE_MAX).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        return Err(bad("metadata idempotency-key", "must be 1 to 255 bytes of visible ASCII"));
    }
    Ok(Some(String::from_utf8_lossy(key).into_owned()))
}

/// The revision that `if-match` names: an etag as we give it, or the same in quotes as HTTP has it.
pub(super) fn if_match(metadata: &MetadataMap) -> Result<Option<u64>, BadRequest> {
    let Some(etag) = only(metadata, IF_MATCH, "metadata if-match")? else { return Ok(None) };
    let text = etag.to_str().unwrap_or_default();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let revision = text.parse().ok().filter(|_| digits);
    revision.map(Some).ok_or_else(|| bad("metadata if-match", "is no etag of this node"))
}

/// Whether the operations of a batch stand alone.
pub(super) fn apart(metadata: &MetadataMap) -> Result<bool, BadRequest> {
    match only(metadata, BATCH, "metadata collector-batch")?.map(|value| value.as_encoded_bytes()) {
        None => Ok(false),
        Some(b"best-effort") => Ok(true),
        Some(_) => Err(bad("metadata collector-batch", "must be best-effort where it is given")),
    }
}

fn only<'a>(
    metadata: &'a MetadataMap,
    key: &str,
    field: &'static str,
) -> Result<Option<&'a AsciiMetadataValue>, BadRequest> {
    let mut values = metadata.get_all(key).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(bad(field, "is there more than once")),
    }
}

fn item(item: Option<prost_types::Any>) -> Result<Item, BadRequest> {
    let item = item.ok_or(BadRequest::Required("item"))?;
    Ok(Item { type_url: item.type_url, bytes: item.value.into() })
}

fn labels(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

pub(super) fn create(request: pb::CreateRequest) -> Result<Operation, BadRequest> {
    let id = match request.id.as_str() {
        "" => None,
        id => Some(convert::required("id", id)?),
    };
    Ok(Operation::Create { id, item: item(request.item)?, labels: labels(request.labels) })
}

pub(super) fn update(request: pb::UpdateRequest) -> Result<Operation, BadRequest> {
    let id: RecordId = convert::required("id", &request.id)?;
    let (item, labels) = (item(request.item)?, labels(request.labels));
    Ok(Operation::Update { id, item, mask: request.update_mask, labels })
}

pub(super) fn delete(request: &pb::DeleteRequest) -> Result<Operation, BadRequest> {
    Ok(Operation::Delete { id: convert::required("id", &request.id)? })
}

/// The operations of a batch. Malformed ones are errors of the whole call.
pub(super) fn operations(place: &Place, operations: Vec<pb::RequestOp>) -> Result<Vec<Operation>, BadRequest> {
    use pb::request_op::Operation as Op;
    let one = |(index, one): (usize, pb::RequestOp)| {
        let inside = |why| match why {
            BadRequest::Required(field) => bad(&format!("operations[{index}].{field}"), "is required"),
            BadRequest::Field { field, problem } => bad(&format!("operations[{index}].{field}"), problem),
            code @ (BadRequest::Scheme(_) | BadRequest::ImageTag(_)) => code,
        };
        let Some(one) = one.operation else {
            return Err(bad(&format!("operations[{index}]"), "must be create, update or delete"));
        };
        let (namespace, collection) = match &one {
            Op::Create(one) => (&one.namespace, &one.collection_name),
            Op::Update(one) => (&one.namespace, &one.collection_name),
            Op::Delete(one) => (&one.namespace, &one.collection_name),
        };
        for (field, inner, outer) in [
            ("namespace", namespace, place.namespace.as_str()),
            ("collection_name", collection, place.collection.as_str()),
        ] {
            if !inner.is_empty() && inner != outer {
                return Err(inside(bad(field, format!("differs from that of the batch, {outer}; leave it empty"))));
            }
        }
        match one {
            Op::Create(one) => create(one),
            Op::Update(one) => update(one),
            Op::Delete(one) => delete(&one),
        }
        .map_err(inside)
    };
    operations.into_iter().enumerate().map(one).collect()
}

/// A listing, but for where it goes on.
pub(super) fn list_query(request: &pb::ListRequest, deadline: Deadline) -> Result<(Place, ListQuery), BadRequest> {
    let place = place(&request.namespace, &request.collection_name)?;
    let page_size = convert::page_size(request.page_size)?;
    let filter = request.filter.as_ref().map(list_filter).transpose()?.unwrap_or_default();
    Ok((place, ListQuery { filter, order_by: request.order_by.clone(), page_size, after: None, deadline }))
}

/// What a page token is good for: the same question.
pub(super) fn list_key(place: &Place, request: &pb::ListRequest) -> String {
    let filter = request.filter.as_ref().map(|filter| blake3::hash(&filter.encode_to_vec()).to_hex());
    let filter = filter.as_ref().map_or("", |hash| hash.as_str());
    format!("CollectionService.List {}/{} {filter} {}", place.namespace, place.collection, request.order_by)
}

pub(super) fn search_query(request: pb::SearchRequest, deadline: Deadline) -> Result<(Place, SearchQuery), BadRequest> {
    let place = place(&request.namespace, &request.collection_name)?;
    let filters = request.filters.into_iter().map(|(path, filter)| {
        let operator = operator(filter.operator)
            .ok_or_else(|| bad(&format!("filters[{path:?}].operator"), format!("{} is not known", filter.operator)))?;
        Ok(FieldFilter { path, operator, value: filter.value })
    });
    let mut filters = filters.collect::<Result<Vec<_>, BadRequest>>()?;
    filters.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let offset = usize::try_from(request.offset).map_err(|_| bad("offset", "must not be negative"))?;
    if offset > OFFSET_MAX {
        return Err(bad("offset", format!("must be at most {OFFSET_MAX}; List walks through more")));
    }
    let query = SearchQuery {
        full_text: request.full_text,
        filters,
        labels: request.label_filters.into_iter().collect(),
        vector: request.vector,
        similarity_threshold: request.similarity_threshold,
        limit: convert::page_size(request.limit).map_err(|_| bad("limit", "must not be negative"))?,
        offset,
        order_by: request.order_by,
        ascending: request.ascending,
        deadline,
    };
    Ok((place, query))
}

fn operator(number: i32) -> Option<Operator> {
    use pb::FilterOperator as Wire;
    Some(match Wire::try_from(number).ok()? {
        Wire::OpEquals => Operator::Equals,
        Wire::OpNotEquals => Operator::NotEquals,
        Wire::OpGreaterThan => Operator::GreaterThan,
        Wire::OpLessThan => Operator::LessThan,
        Wire::OpGreaterEqual => Operator::GreaterEqual,
        Wire::OpLessEqual => Operator::LessEqual,
        Wire::OpContains => Operator::Contains,
        Wire::OpIn => Operator::In,
        Wire::OpExists => Operator::Exists,
        Wire::OpNotExists => Operator::NotExists,
    })
}

pub(super) fn invocation(
    request: Request<pb::InvokeRequest>,
    deadline: Deadline,
) -> Result<(Place, Invocation), BadRequest> {
    let (metadata, _, request) = request.into_parts();
    let place = place(&request.namespace, &request.collection_name)?;
    if request.method_name.is_empty() {
        return Err(BadRequest::Required("method_name"));
    }
    let ids = request.item_ids.iter().map(|id| convert::required("item_ids", id)).collect::<Result<_, _>>()?;
    let invocation = Invocation {
        method: request.method_name,
        ids,
        input: request.input.map(|input| Item { type_url: input.type_url, bytes: input.value.into() }),
        metadata: convert::visible_metadata(&metadata),
        deadline,
        validate_only: convert::validate_only(&metadata),
    };
    Ok((place, invocation))
}

/// An item as it was stored.
pub(super) fn any(type_url: String, bytes: bytes::Bytes) -> prost_types::Any {
    prost_types::Any { type_url, value: bytes.into() }
}

/// A record as replies have it.
pub(super) fn record(record: Record) -> (prost_types::Any, pb::RecordInfo) {
    let Record { id, type_url, bytes, labels, created_at, updated_at, revision } = record;
    (any(type_url, bytes), info(Info { id, revision, created_at, updated_at, labels }))
}

pub(super) fn info(info: Info) -> pb::RecordInfo {
    pb::RecordInfo {
        id: info.id,
        etag: info.revision.to_string(),
        metadata: Some(pb::Metadata {
            created_at: Some(timestamp(info.created_at)),
            updated_at: Some(timestamp(info.updated_at)),
            labels: info.labels.into_iter().collect(),
        }),
    }
}

/// What became of a write; `None`: it was only checked, or it was a delete.
pub(super) fn put(outcome: Outcome) -> Option<pb::RecordInfo> {
    match outcome {
        Outcome::Put(put) => Some(info(put)),
        Outcome::Deleted | Outcome::Checked => None,
    }
}

/// A reply about one version of a record.
pub(super) fn tagged<T>(message: T, etag: Option<&str>) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(etag) = etag.and_then(|etag| AsciiMetadataValue::try_from(etag).ok()) {
        response.metadata_mut().insert("etag", etag);
    }
    response
}

/// The matches that fit into a reply, from the first on.
pub(super) fn results(found: Vec<Found>) -> Vec<pb::SearchResult> {
    let mut room = REPLY_BYTES;
    let result = |Found { record: found, score, distance }| {
        let (item, info) = record(found);
        pb::SearchResult { item: Some(item), score, distance, info: Some(info) }
    };
    let fits = |result: &pb::SearchResult| {
        let left = room.checked_sub(result.encoded_len() + 8);
        room = left.unwrap_or_default();
        left.is_some()
    };
    found.into_iter().map(result).take_while(fits).collect()
}

/// The answer to one operation of a batch.
pub(super) fn response(
    kind: Kind,
    outcome: Result<Outcome, CollectionError>,
    id: &super::edge::RequestId,
) -> pb::ResponseOp {
    use pb::response_op::Response as Op;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(why) => return pb::ResponseOp { status: Some(status::in_body(&why, id)), response: None },
    };
    let response = match kind {
        Kind::Create(given) => Op::Create(created(outcome, given)),
        Kind::Update => Op::Update(pb::UpdateResponse { status: convert::ok(), info: put(outcome) }),
        Kind::Delete => Op::Delete(pb::DeleteResponse { status: convert::ok() }),
    };
    pb::ResponseOp { status: convert::ok(), response: Some(response) }
}

/// * `given`: the id that the request names; empty if it names none.
pub(super) fn created(outcome: Outcome, given: String) -> pb::CreateResponse {
    let info = put(outcome);
    let id = info.as_ref().map_or(given, |info| info.id.clone());
    pb::CreateResponse { status: convert::ok(), id, info }
}

/// What an operation of a batch is, for its answer.
pub(super) enum Kind {
    /// With the id that was asked for.
    Create(String),
    Update,
    Delete,
}

impl Kind {
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Create { id, .. } => Self::Create(id.as_ref().map(ToString::to_string).unwrap_or_default()),
            Operation::Update { .. } => Self::Update,
            Operation::Delete { .. } => Self::Delete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &'static str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            metadata.append(*key, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn etags_are_numbers_perhaps_in_quotes() {
        let read = |value| if_match(&metadata(&[(IF_MATCH, value)])).ok().flatten();
        assert_eq!((read("17"), read("\"17\"")), (Some(17), Some(17)));
        for bad in ["", "*", "017", "+1", "-1", "1.0", "\"1", "W/\"1\"", "0", "18446744073709551616", "x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(if_match(&metadata(&[(IF_MATCH, "1"), (IF_MATCH, "1")])).is_err());
        assert_eq!(if_match(&metadata(&[])), Ok(None));
    }

    #[test]
    fn idempotency_keys_are_short_and_visible() {
        let read = |value| options(&metadata(&[(ONCE, value)])).map(|options| options.once);
        assert_eq!(read("a-1"), Ok(Some("a-1".to_owned())));
        assert!(read("").is_err() && read("a b").is_err());
        let long: &'static str = "k".repeat(256).leak();
        assert!(read(&long[1..]).is_ok() && read(long).is_err());
    }

    #[test]
    fn batches_know_one_mode_beside_the_usual() {
        assert_eq!(apart(&metadata(&[])), Ok(false));
        assert_eq!(apart(&metadata(&[(BATCH, "best-effort")])), Ok(true));
        assert!(apart(&metadata(&[(BATCH, "all")])).is_err());
    }

    #[tokio::test]
    async fn c05_limits_are_clamped_and_negative_ones_refused() {
        let deadline = Deadline::after(std::time::Duration::from_secs(1));
        let asked = |limit, offset| {
            let (namespace, collection_name) = ("a".to_owned(), "b".to_owned());
            let request = pb::SearchRequest { namespace, collection_name, limit, offset, ..Default::default() };
            search_query(request, deadline).map(|(_, query)| (query.limit, query.offset))
        };
        assert_eq!(asked(0, 0), Ok((100, 0)));
        assert_eq!(asked(i32::MAX, 100_000), Ok((1_000, 100_000)));
        for (limit, offset) in [(-1, 0), (i32::MIN, 0), (0, -1), (0, 100_001), (0, i32::MAX)] {
            assert!(asked(limit, offset).is_err(), "{limit} {offset}");
        }
    }
}
