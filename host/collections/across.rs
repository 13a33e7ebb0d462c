//! One query over several collections of a namespace.
//!
//! Ranks compare because all collections rank by the same numbers: how many records there are in all of them, how long
//! they are, and how many hold each phrase. Those are gathered first; then each collection is asked for its best, and the
//! best of those are kept.

use super::ask;
use super::document;
use super::known::Known;
use super::manage::at;
use super::{BadField, CollectionError, Collections, Definition, FieldFilter, Form, Item, Operator, Place};
use crate::domain::{CollectionName, Deadline, Namespace, one_line};
use crate::store::{Condition, Hit, Key, Order, Page, Path, Query, Step, StoreError, Text, TextStats};
use crate::tenancy::{Caller, Verb};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Collections that are asked at once, of one call: readers are few, and others want some too.
const AT_ONCE: usize = 4;
/// Bytes of records in an answer, past the first: with what stands around them they fit into a reply.
const ANSWER_BYTES: usize = 7 << 20;
/// About what a hit takes in a reply beside its record.
const BESIDE_RECORD: usize = 128;
/// Longest path of a filter that an error shows.
const SHOWN_PATH: usize = 256;

/// A search over several collections, as `SearchCollectionsRequest` says it.
#[derive(Debug, Clone, PartialEq)]
pub struct AcrossQuery {
    /// Where.
    pub namespace: Namespace,
    /// Empty: all that the caller may read.
    pub collections: Vec<CollectionName>,
    /// FTS5 expression; empty: none.
    pub full_text: String,
    /// ANDed.
    pub filters: Vec<FieldFilter>,
    /// As `SearchCollectionsRequest.order_by`.
    pub order_by: String,
    /// Most hits, of all collections together.
    pub limit: usize,
    /// Until when somebody waits.
    pub deadline: Deadline,
}

impl AcrossQuery {
    /// What a collection answers; nothing if it was dropped meanwhile and nobody named it.
    fn unless_dropped<T: Default>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match answer {
            Err(StoreError::NoCollection) if self.collections.is_empty() => Ok(T::default()),
            answer => answer,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Across {
    /// Only collections with hits, the one with the first hit first.
    pub collections: Vec<OfCollection>,
    /// All matches.
    pub total: u64,
}

/// What was found in one collection.
#[derive(Debug, Clone, PartialEq)]
pub struct OfCollection {
    /// Which.
    pub name: CollectionName,
    /// In order.
    pub hits: Vec<Hit>,
}

/// A collection and what it is asked.
struct Asked {
    place: Place,
    known: Arc<Known>,
    conditions: Vec<Condition>,
    order: Vec<Order>,
}

/// A hit with what it is ordered by.
struct Ranked {
    keys: Vec<Value>,
    collection: CollectionName,
    hit: Hit,
}

impl Collections {
    /// Asks several collections, and keeps the best of all.
    ///
    /// * errors: `Refused`, `NoCollection`, `NoFullText` of one that was named, `Field`, `Deadline`, `Store`.
    /// * cancel: safe, and the work stops soon after. Source: `SearchCollections`, proto/collector/collection_repo.proto.
    pub async fn search_collections(&self, caller: &Caller, query: AcrossQuery) -> Result<Across, CollectionError> {
        self.parts.tenancy.authorize(caller, &query.namespace, Verb::Read)?;
        let text = ask::text(&query.full_text).map_err(|why| within("query", why))?;
        let mut asked = Vec::new();
        for definition in self.named(&query, text.is_some())? {
            asked.extend(self.ask(&definition, &query, text.is_some()).await?);
        }
        let stats = match &text {
            Some(text) => Some(self.common_stats(&asked, text, &query).await?),
            None => None,
        };
        let mut best = Best::new(query.limit);
        let mut found = stream::iter(asked)
            .map(|asked| self.search_one(asked, &query, text.clone(), stats.clone()))
            .buffer_unordered(AT_ONCE);
        while let Some((order, ranked, total)) = found.try_next().await? {
            best.add(&order, ranked, total);
        }
        Ok(best.into_answer())
    }

    /// The collections that the query is about.
    fn named(&self, query: &AcrossQuery, text: bool) -> Result<Vec<Arc<Definition>>, CollectionError> {
        let namespace = &query.namespace;
        if query.collections.is_empty() {
            let searchable = |one: &Definition| one.full_text || !text;
            return Ok(self.parts.catalogue.list(Some(namespace), None, usize::MAX, searchable));
        }
        let mut names: Vec<&CollectionName> = query.collections.iter().collect();
        names.sort_unstable();
        names.dedup();
        let find = |name: &CollectionName| {
            let found = self.find(&Place { namespace: namespace.clone(), collection: name.clone() })?;
            if text && !found.full_text { Err(CollectionError::NoFullText) } else { Ok(found) }
        };
        names.into_iter().map(find).collect()
    }

    /// What one collection is asked; `None` if its type lacks a filtered field.
    async fn ask(
        &self,
        definition: &Arc<Definition>,
        query: &AcrossQuery,
        text: bool,
    ) -> Result<Option<Asked>, CollectionError> {
        let known = self.known(definition).await?;
        let Some(conditions) = conditions(&known.form, &query.filters)? else { return Ok(None) };
        let order = match query.order_by.as_str() {
            "" => vec![Order { key: if text { Key::Score } else { Key::CreatedAt }, descending: true }],
            order_by => ask::order(&known.form, order_by, false).map_err(|why| {
                BadField::new(why.field, format!("{} (in collection {})", why.problem, definition.name))
            })?,
        };
        let place = Place { namespace: definition.namespace.clone(), collection: definition.name.clone() };
        Ok(Some(Asked { place, known, conditions, order }))
    }

    /// What all the collections rank by.
    async fn common_stats(
        &self,
        asked: &[Asked],
        text: &Text,
        query: &AcrossQuery,
    ) -> Result<TextStats, CollectionError> {
        let stats = |asked: &Asked| {
            let place = asked.place.clone();
            async move {
                let name = place.collection.as_str();
                let until = query.deadline.instant();
                let stats = self.parts.store.text_stats(&place.namespace, name, text.clone(), until).await;
                query.unless_dropped(stats).map_err(|why| at(&place, why))
            }
        };
        let all = stream::iter(asked.iter().map(stats)).buffer_unordered(AT_ONCE);
        all.try_fold(TextStats::default(), async |sum, one| Ok(added(sum, &one))).await
    }

    /// The best of one collection, with what they are ordered by, and how many matches there are.
    async fn search_one(
        &self,
        asked: Asked,
        query: &AcrossQuery,
        text: Option<Text>,
        stats: Option<TextStats>,
    ) -> Result<(Vec<Order>, Vec<Ranked>, u64), CollectionError> {
        let Asked { place, known, conditions, order } = asked;
        // Newest first is what stores do by themselves.
        let newest = query.order_by.is_empty() && text.is_none();
        let question = Query {
            text,
            stats,
            conditions,
            order: if newest { Vec::new() } else { order.clone() },
            limit: query.limit,
            bytes: ANSWER_BYTES,
            total: true,
            ..Query::default()
        };
        let name = place.collection.as_str();
        let page = self.parts.store.query(&place.namespace, name, question, query.deadline.instant()).await;
        let Page { hits, total, .. } = query.unless_dropped(page).map_err(|why| at(&place, why))?;
        let by = order.clone();
        let rank = move || -> Vec<Ranked> {
            let ranked =
                |hit: Hit| Ranked { keys: keys(&known.form, &by, &hit), collection: place.collection.clone(), hit };
            hits.into_iter().map(ranked).collect()
        };
        // Only fields have to be looked up, and that takes time.
        let fields = order.iter().any(|order| matches!(order.key, Key::Field(_)));
        let ranked = match fields {
            true => self.heavy(rank).await?,
            false => rank(),
        };
        Ok((order, ranked, total.unwrap_or_default()))
    }
}

/// The filters as conditions; `None` if the type lacks one of the fields.
///
/// * errors: a filter that would be wrong whatever the type, or that is wrong for a field that the type has.
fn conditions(form: &Form, filters: &[FieldFilter]) -> Result<Option<Vec<Condition>>, BadField> {
    let field = |path: &str| format!("query.filters[{:?}]", one_line(path, SHOWN_PATH));
    let mut known = Vec::with_capacity(filters.len());
    for filter in filters {
        let there = [FieldFilter { path: filter.path.clone(), operator: Operator::Exists, value: None }];
        match ask::conditions(form, &there, &field) {
            Ok(_) => known.push(filter.clone()),
            // Of records without a type every path can be asked for that is one at all.
            Err(_) => drop(ask::conditions(&Form::Loose, &there, &field)?),
        }
    }
    let conditions = ask::conditions(form, &known, &field)?;
    Ok((known.len() == filters.len()).then_some(conditions))
}

fn within(part: &str, why: BadField) -> BadField {
    BadField { field: format!("{part}.{}", why.field), ..why }
}

fn added(sum: TextStats, one: &TextStats) -> TextStats {
    let mut holding = sum.holding;
    holding.resize(holding.len().max(one.holding.len()), 0);
    for (sum, one) in holding.iter_mut().zip(&one.holding) {
        *sum = sum.saturating_add(*one);
    }
    let (records, words) = (sum.records.saturating_add(one.records), sum.words.saturating_add(one.words));
    TextStats { records, words, holding }
}

/// What a hit is ordered by, a value per key; null: absent.
fn keys(form: &Form, order: &[Order], hit: &Hit) -> Vec<Value> {
    let record = &hit.record;
    let document = || {
        let item = Item { type_url: record.type_url.clone(), bytes: record.bytes.clone() };
        let indexed = document::index(form, &item, None).ok().flatten();
        indexed.map(|indexed| indexed.document).unwrap_or_default()
    };
    let fields = order.iter().any(|order| matches!(order.key, Key::Field(_)));
    let document = if fields { document() } else { String::new() };
    let key = |order: &Order| match &order.key {
        Key::Field(path) => value_at(&document, path),
        Key::CreatedAt => record.created_at.into(),
        Key::UpdatedAt => record.updated_at.into(),
        Key::Id => record.id.as_str().into(),
        Key::Score => hit.score.into(),
    };
    order.iter().map(key).collect()
}

/// The value that the store orders by: truth values are 0 and 1, arrays and objects are their text. The rest of the
/// document is passed over, so that its depth does not matter.
fn value_at(document: &str, path: &Path) -> Value {
    let names = path.steps().iter().filter_map(|step| match step {
        Step::Member(name) => Some(name.as_str()),
        _ => None,
    });
    let names: Vec<&str> = names.collect();
    // What is no object on the way is an error: nothing is there.
    let found = At(&names).deserialize(&mut serde_json::Deserializer::from_str(document));
    let Some(text) = found.ok().flatten().map(RawValue::get) else { return Value::Null };
    match text.as_bytes() {
        [b'[' | b'{', ..] => text.into(),
        b"true" => 1.into(),
        b"false" => 0.into(),
        // Infinity is written as a number that no double holds; for an order the largest one will do.
        [b'-', ..] => serde_json::from_str(text).unwrap_or_else(|_| f64::MIN.into()),
        _ => serde_json::from_str(text).unwrap_or_else(|_| f64::MAX.into()),
    }
}

/// The value below these members, as it is written.
struct At<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => <&RawValue>::deserialize(deserializer).map(Some),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            match self.0.split_first() {
                Some((wanted, below)) if *wanted == name => found = members.next_value_seed(At(below))?,
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Absent below numbers, those below texts.
fn compare(a: &Value, b: &Value) -> Ordering {
    let class = |value: &Value| match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => 2,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (a, b) => class(a).cmp(&class(b)),
    }
}

/// The best hits so far.
struct Best {
    limit: usize,
    hits: Vec<Ranked>,
    total: u64,
}

impl Best {
    fn new(limit: usize) -> Self {
        Self { limit, hits: Vec::new(), total: 0 }
    }

    /// * `order`: has the same keys for every collection, by whatever paths.
    fn add(&mut self, order: &[Order], hits: Vec<Ranked>, total: u64) {
        self.total = self.total.saturating_add(total);
        self.hits.extend(hits);
        self.hits.sort_by(|a, b| {
            let by_key = order.iter().zip(a.keys.iter().zip(&b.keys)).map(|(order, (a, b))| {
                let ordering = compare(a, b);
                if order.descending { ordering.reverse() } else { ordering }
            });
            let first = by_key.into_iter().find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal);
            first.then_with(|| a.hit.record.id.cmp(&b.hit.record.id)).then_with(|| a.collection.cmp(&b.collection))
        });
        // A collection whose page ended early for its bytes fills the answer alone up to there: nothing is passed over.
        let sizes = self.hits.iter().scan(0, |sum, ranked| {
            *sum += size(&ranked.hit);
            Some(*sum)
        });
        let fits = sizes.take_while(|sum| *sum <= ANSWER_BYTES).count().max(1);
        self.hits.truncate(self.limit.min(fits));
    }

    fn into_answer(self) -> Across {
        let mut collections: Vec<OfCollection> = Vec::new();
        for Ranked { collection, hit, .. } in self.hits {
            match collections.iter_mut().find(|of| of.name == collection) {
                Some(of) => of.hits.push(hit),
                None => collections.push(OfCollection { name: collection, hits: vec![hit] }),
            }
        }
        Across { collections, total: self.total }
    }
}

/// About what a hit takes in a reply. Never less than what the store counts of it.
fn size(hit: &Hit) -> usize {
    let record = &hit.record;
    let labels: usize = record.labels.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
    // The id stands in the scores, too.
    record.bytes.len() + record.type_url.len() + 2 * record.id.len() + labels + BESIDE_RECORD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Record;
    use bytes::Bytes;
    use serde_json::json;

    fn ranked(collection: &str, id: &str, keys: Vec<Value>, bytes: usize) -> Ranked {
        let record = Record {
            id: id.to_owned(),
            type_url: String::new(),
            bytes: Bytes::from(vec![0; bytes]),
            labels: Default::default(),
            created_at: 0,
            updated_at: 0,
            revision: 1,
        };
        Ranked { keys, collection: collection.parse().unwrap(), hit: Hit { record, score: 0.0 } }
    }

    fn answer(order: &[Order], limit: usize, pages: Vec<Vec<Ranked>>) -> Vec<(String, Vec<String>)> {
        let mut best = Best::new(limit);
        for page in pages {
            let total = page.len() as u64;
            best.add(order, page, total);
        }
        let ids = |of: OfCollection| (of.name.to_string(), of.hits.into_iter().map(|hit| hit.record.id).collect());
        best.into_answer().collections.into_iter().map(ids).collect()
    }

    fn by(descending: bool) -> [Order; 1] {
        [Order { key: Key::Score, descending }]
    }

    #[test]
    fn the_best_of_all_collections_are_kept_and_grouped_in_order_of_the_first() {
        let a = vec![ranked("a", "1", vec![json!(0.9)], 1), ranked("a", "2", vec![json!(0.2)], 1)];
        let b = vec![ranked("b", "3", vec![json!(1.5)], 1), ranked("b", "1", vec![json!(0.9)], 1)];
        let found = answer(&by(true), 3, vec![a, b]);
        assert_eq!(found, [("b".to_owned(), vec!["3".into(), "1".into()]), ("a".to_owned(), vec!["1".into()])]);
    }

    #[test]
    fn values_of_all_kinds_have_an_order() {
        let values =
            [json!(null), json!(-1), json!(0.5), json!(i64::MAX - 1), json!(i64::MAX), json!(1e300), json!("a")];
        let page = values.iter().enumerate().map(|(at, value)| ranked("a", &format!("{at}"), vec![value.clone()], 1));
        let found = answer(&by(false), 99, vec![page.rev().collect()]);
        let wanted: Vec<String> = (0..values.len()).map(|at| at.to_string()).collect();
        assert_eq!(found, [("a".to_owned(), wanted)]);
    }

    #[test]
    fn an_answer_ends_where_a_reply_would() {
        let half = ANSWER_BYTES / 2 + 1;
        let pages = (0..3).map(|n| vec![ranked("a", &n.to_string(), vec![json!(n)], half)]).collect();
        assert_eq!(answer(&by(false), 99, pages), [("a".to_owned(), vec!["0".to_owned()])]);
        let alone = vec![vec![ranked("a", "0", vec![json!(0)], 2 * ANSWER_BYTES)]];
        assert_eq!(answer(&by(false), 99, alone).len(), 1);
    }

    #[test]
    fn documents_with_infinities_are_read() {
        let path = |name: &str| Path::new(vec![Step::Member(name.to_owned()), Step::Spread]).unwrap();
        let document = r#"{"a":-9e999,"b":"9e999 \" 9e999","c":true,"d":[1],"e":9e999}"#;
        assert_eq!(value_at(document, &path("a")), json!(-f64::MAX));
        assert_eq!(value_at(document, &path("b")), json!("9e999 \" 9e999"));
        assert_eq!(value_at(document, &path("c")), json!(1));
        assert_eq!(value_at(document, &path("d")), json!("[1]"));
        assert_eq!(value_at(document, &path("e")), json!(f64::MAX));
        assert_eq!(value_at(document, &path("missing")), json!(null));
    }

    #[test]
    fn documents_of_any_depth_are_read() {
        let member = |name: &str| Step::Member(name.to_owned());
        let path = |steps| Path::new(steps).unwrap();
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        let document = format!(r#"{{"deep":{deep},"a":{{"b":7,"deep":{deep}}}}}"#);
        assert_eq!(value_at(&document, &path(vec![member("a"), Step::Spread, member("b")])), json!(7));
        assert_eq!(value_at(&document, &path(vec![member("deep")])), json!(deep));
        assert_eq!(value_at(&document, &path(vec![member("deep"), member("b")])), json!(null), "an array on the way");
    }

    #[test]
    fn statistics_add_up() {
        let one = TextStats { records: 2, words: 10, holding: vec![1, 0] };
        let two = TextStats { records: 3, words: 20, holding: vec![2, 5] };
        let sum = added(added(TextStats::default(), &one), &two);
        assert_eq!(sum, TextStats { records: 5, words: 30, holding: vec![3, 5] });
    }
}
