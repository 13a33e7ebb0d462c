//! `collections`: records of the call's own namespace.

use super::OneCall;
use super::fault::{self, fault};
use crate::collections::{
    Collections, FieldFilter, Item, ListQuery, Operation, Operator, Options, Outcome, Place, SearchQuery,
};
use crate::domain::{CollectionName, Fault, FaultCode, RecordId};
use crate::exec::host_calls::{Comparison, Entry, EntryPage, RecordQuery, RecordWrite};
use crate::store::{Labels, Record};
use crate::tenancy::Verb;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::sync::Arc;

/// Records of a page where the guest does not say. Source: semantics.md section 1.
const PAGE: usize = 100;
/// Most records of a page.
const PAGE_MAX: usize = 1_000;

impl OneCall {
    /// The place, where the deployment may do that there.
    fn place(&self, collection: &str, write: bool) -> Result<(Arc<Collections>, Place), Fault> {
        let collection: CollectionName = collection
            .parse()
            .map_err(|why| fault(FaultCode::InvalidArgument, format!("the collection's name {why}")))?;
        let verb = if write { Verb::Write } else { Verb::Read };
        self.grants().collection(&collection, write).map_err(|why| self.deny(&why, verb))?;
        let collections = self.parts.collections.upgrade().ok_or_else(fault::draining)?;
        Ok((collections, Place { namespace: self.namespace.clone(), collection }))
    }

    pub(super) async fn get_now(&self, collection: String, id: String) -> Result<Entry, Fault> {
        let (collections, place) = self.place(&collection, false)?;
        let found = collections.get(&self.code, &place, &record_id(&id)?, None).await;
        found.map(entry).map_err(fault::collection)
    }

    pub(super) async fn write_now(
        &self,
        collection: String,
        write: RecordWrite,
    ) -> Result<Option<(String, u64)>, Fault> {
        let (collections, place) = self.place(&collection, true)?;
        let (operation, if_match) = operation(write)?;
        let options = Options { if_match, ..Options::default() };
        match collections.write(&self.code, &place, operation, &options).await.map_err(fault::collection)? {
            Outcome::Put(info) => Ok(Some((info.id, info.revision))),
            Outcome::Deleted | Outcome::Checked => Ok(None),
        }
    }

    pub(super) async fn list_now(&self, collection: String, query: RecordQuery) -> Result<EntryPage, Fault> {
        let (collections, place) = self.place(&collection, false)?;
        // A token is good for what it was made for, and for nothing that a client of the node may ask.
        let RecordQuery { filters, order_by, size, .. } = &query;
        let asked = format!("guest {} {collection} {filters:?} {order_by:?} {size}", self.namespace);
        let after = self.parts.pages.read(&asked, &query.token);
        let after = after.map_err(|why| fault(FaultCode::InvalidArgument, format!("the token {why}")))?;
        let query = ListQuery {
            filter: conditions(query.filters)?,
            order_by: query.order_by,
            page_size: page(query.size),
            after,
            deadline: self.deadline,
        };
        let listed = collections.list(&self.code, &place, &query).await.map_err(fault::collection)?;
        Ok(EntryPage {
            next: listed.next.map(|next| self.parts.pages.token(&asked, &next)).unwrap_or_default(),
            total: listed.total,
            entries: listed.records.into_iter().map(entry).collect(),
        })
    }

    pub(super) async fn search_now(&self, collection: String, query: RecordQuery) -> Result<Vec<Entry>, Fault> {
        let (collections, place) = self.place(&collection, false)?;
        let query = SearchQuery {
            full_text: query.text,
            filters: conditions(query.filters)?,
            labels: Vec::new(),
            vector: Vec::new(),
            similarity_threshold: 0.0,
            limit: page(query.size),
            offset: 0,
            order_by: query.order_by,
            ascending: true,
            deadline: self.deadline,
        };
        let (found, _total) = collections.search(&self.code, &place, &query).await.map_err(fault::collection)?;
        Ok(found.into_iter().map(|found| entry(found.record)).collect())
    }
}

fn page(size: usize) -> usize {
    if size == 0 { PAGE } else { size.min(PAGE_MAX) }
}

fn record_id(id: &str) -> Result<RecordId, Fault> {
    id.parse().map_err(|why| fault(FaultCode::InvalidArgument, format!("the record's id {why}")))
}

fn operation(write: RecordWrite) -> Result<(Operation, Option<u64>), Fault> {
    let item = |(type_url, bytes)| Item { type_url, bytes };
    let labels = |labels: Vec<(String, String)>| labels.into_iter().collect::<Labels>();
    Ok(match write {
        RecordWrite::Create { id, item: what, labels: given } => {
            let id = id.as_deref().map(record_id).transpose()?;
            (Operation::Create { id, item: item(what), labels: labels(given) }, None)
        }
        RecordWrite::Update { id, item: what, labels: given, revision } => {
            let (id, item, labels) = (record_id(&id)?, item(what), labels(given));
            (Operation::Update { id, item, mask: Vec::new(), labels }, revision)
        }
        RecordWrite::Delete { id, revision } => (Operation::Delete { id: record_id(&id)? }, revision),
    })
}

fn entry(record: Record) -> Entry {
    Entry {
        id: record.id,
        type_url: record.type_url,
        bytes: record.bytes,
        labels: record.labels.into_iter().collect(),
        revision: record.revision,
    }
}

fn conditions(filters: Vec<(String, Comparison, String)>) -> Result<Vec<FieldFilter>, Fault> {
    // Before the texts are read; the collections have the same bound.
    if filters.len() > crate::store::CONDITIONS_MAX {
        let problem = format!("at most {} filters are allowed", crate::store::CONDITIONS_MAX);
        return Err(fault(FaultCode::InvalidArgument, problem));
    }
    let one = |(path, comparison, value): (String, Comparison, String)| {
        let value = match value.as_str() {
            "" => None,
            json => Some(
                serde_json::from_str(json)
                    .map(value_of)
                    .map_err(|_| fault(FaultCode::InvalidArgument, "a filter's value is no JSON"))?,
            ),
        };
        Ok(FieldFilter { path, operator: operator(comparison), value })
    };
    filters.into_iter().map(one).collect()
}

fn operator(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Equals => Operator::Equals,
        Comparison::NotEquals => Operator::NotEquals,
        Comparison::GreaterThan => Operator::GreaterThan,
        Comparison::LessThan => Operator::LessThan,
        Comparison::GreaterEqual => Operator::GreaterEqual,
        Comparison::LessEqual => Operator::LessEqual,
        Comparison::Contains => Operator::Contains,
        Comparison::In => Operator::In,
        Comparison::Exists => Operator::Exists,
        Comparison::NotExists => Operator::NotExists,
    }
}

/// JSON as `google.protobuf.Value`. As deep as serde_json reads: 128.
fn value_of(json: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(truth) => Kind::BoolValue(truth),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(all) => Kind::ListValue(ListValue { values: all.into_iter().map(value_of).collect() }),
        Json::Object(all) => {
            let fields = all.into_iter().map(|(key, value)| (key, value_of(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}
