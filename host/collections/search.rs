//! Listing and searching: what a request asks for, in words that the store compares.

use super::known::{Known, vector_path};
use super::{
    BadField, CollectionError, Collections, Definition, FieldFilter, Found, Item, ListQuery, Listed, Operator,
};
use super::{Place, SearchQuery, ask, document, labels};
use crate::domain::Deadline;
use crate::store::{DIMENSIONS_MAX, HITS_MAX, Labels, Nearest, Page, Plan, Position, Query};
use crate::tenancy::{Caller, Verb};
use std::sync::Arc;

/// Bytes of records after which a reply is full. 3 MiB: stock clients take 4 MiB, and with one record more of the largest
/// kind it is still below the 8 MiB that a reply may have.
const REPLY_BYTES: usize = 3 << 20;

impl Collections {
    /// One page of a listing.
    ///
    /// * errors: `Refused`, `NoCollection`; `Field` for a bad filter, order or page; `Deadline`, `Store`.
    /// * cancel: safe; the work stops soon after.
    pub async fn list(&self, caller: &Caller, place: &Place, asked: &ListQuery) -> Result<Listed, CollectionError> {
        let definition = self.open(caller, place, Verb::Read)?;
        let known = self.known(&definition).await?;
        let page = self.answer(&definition, listing(&known, asked)?, asked.deadline).await?;
        let next = page.next.as_ref().map(serde_json::to_string).transpose();
        Ok(Listed {
            next: next.map_err(|why| CollectionError::Internal(why.into()))?,
            total: page.total.unwrap_or_default(),
            records: page.hits.into_iter().map(|hit| hit.record).collect(),
        })
    }

    /// Finds records. Returns those that fit into a reply, and how many match.
    ///
    /// * errors: as [`Collections::list`]; `NoFullText`, `NoVector`.
    /// * cancel: safe; the work stops soon after.
    pub async fn search(
        &self,
        caller: &Caller,
        place: &Place,
        asked: &SearchQuery,
    ) -> Result<(Vec<Found>, u64), CollectionError> {
        let definition = self.open(caller, place, Verb::Read)?;
        let known = self.known(&definition).await?;
        let page = self.answer(&definition, searching(&definition, &known, asked)?, asked.deadline).await?;
        let total = page.total.unwrap_or_default();
        if total == 0 && !asked.vector.is_empty() {
            self.check_length(&definition, &known, asked).await?;
        }
        let distance = |score: f64| if asked.vector.is_empty() { 0.0 } else { 1.0 - score };
        let found =
            |hit: crate::store::Hit| Found { distance: distance(hit.score), score: hit.score, record: hit.record };
        Ok((page.hits.into_iter().map(found).collect(), total))
    }

    /// How a listing would be carried out.
    ///
    /// * errors, cancel: as [`Collections::list`].
    pub async fn explain_list(
        &self,
        caller: &Caller,
        place: &Place,
        asked: &ListQuery,
    ) -> Result<Plan, CollectionError> {
        let definition = self.open(caller, place, Verb::Read)?;
        let known = self.known(&definition).await?;
        self.explain(&definition, listing(&known, asked)?).await
    }

    /// How a search would be carried out.
    ///
    /// * errors, cancel: as [`Collections::search`].
    pub async fn explain_search(
        &self,
        caller: &Caller,
        place: &Place,
        asked: &SearchQuery,
    ) -> Result<Plan, CollectionError> {
        let definition = self.open(caller, place, Verb::Read)?;
        let known = self.known(&definition).await?;
        self.explain(&definition, searching(&definition, &known, asked)?).await
    }

    async fn answer(&self, definition: &Definition, query: Query, deadline: Deadline) -> Result<Page, CollectionError> {
        let name = definition.name.as_str();
        Ok(self.parts.store.query(&definition.namespace, name, query, deadline.instant()).await?)
    }

    async fn explain(&self, definition: &Definition, query: Query) -> Result<Plan, CollectionError> {
        Ok(self.parts.store.explain(&definition.namespace, definition.name.as_str(), query).await?)
    }

    /// Tells a vector of the wrong length from one that nothing is near to. Asked only where nothing was found: how long
    /// the vectors are is known from the records alone.
    async fn check_length(
        &self,
        definition: &Definition,
        known: &Arc<Known>,
        asked: &SearchQuery,
    ) -> Result<(), CollectionError> {
        let Some(path) = vector_path(definition) else { return Ok(()) };
        let nearest = Some(Nearest { vector: asked.vector.clone(), at_least: None });
        let of_length = Query { nearest, limit: 1, ..Query::default() };
        if !self.answer(definition, of_length, asked.deadline).await?.hits.is_empty() {
            return Ok(());
        }
        let present = FieldFilter { path: path.to_owned(), operator: Operator::Exists, value: None };
        let conditions = ask::conditions(&known.form, &[present], &|path| path.to_owned())?;
        let newest = Query { conditions, limit: 1, ..Query::default() };
        let Some(hit) = self.answer(definition, newest, asked.deadline).await?.hits.into_iter().next() else {
            return Ok(());
        };
        let item = Item { type_url: hit.record.type_url, bytes: hit.record.bytes };
        let indexed = document::index(&known.form, &item, known.vector.as_ref()).ok().flatten();
        match indexed.and_then(|indexed| indexed.vector).map(|vector| vector.len()) {
            Some(length) if length != asked.vector.len() => {
                let problem = format!("has {} numbers, those of the records have {length}", asked.vector.len());
                Err(BadField::new("vector", problem).into())
            }
            _ => Ok(()),
        }
    }
}

fn listing(known: &Known, asked: &ListQuery) -> Result<Query, CollectionError> {
    let after = asked.after.as_deref().map(serde_json::from_str::<Position>).transpose();
    Ok(Query {
        conditions: ask::conditions(&known.form, &asked.filter, &|path| format!("filter[{path:?}]"))?,
        order: ask::order(&known.form, &asked.order_by, false)?,
        // The token was made here: it is of another version of this program.
        after: after
            .map_err(|_| BadField::new("page_token", "is of another version; leave it empty to start again"))?,
        limit: asked.page_size.min(HITS_MAX),
        bytes: REPLY_BYTES,
        total: true,
        ..Query::default()
    })
}

fn searching(definition: &Definition, known: &Known, asked: &SearchQuery) -> Result<Query, CollectionError> {
    let text = ask::text(&asked.full_text)?;
    if text.is_some() && !definition.full_text {
        return Err(CollectionError::NoFullText);
    }
    let labels: Labels = asked.labels.iter().cloned().collect();
    labels::check("label_filters", &labels)?;
    let order = match asked.order_by.as_str() {
        "" => Vec::new(),
        order_by => ask::order(&known.form, order_by, !asked.ascending)?,
    };
    Ok(Query {
        text,
        conditions: ask::conditions(&known.form, &asked.filters, &|path| format!("filters[{path:?}]"))?,
        labels: labels.into_iter().collect(),
        nearest: nearest(known, asked)?,
        order,
        offset: asked.offset,
        limit: asked.limit.min(HITS_MAX),
        bytes: REPLY_BYTES,
        total: true,
        ..Query::default()
    })
}

fn nearest(known: &Known, asked: &SearchQuery) -> Result<Option<Nearest>, CollectionError> {
    let (vector, threshold) = (&asked.vector, asked.similarity_threshold);
    if vector.is_empty() {
        return Ok(None);
    }
    let bad = |problem: String| Err(BadField::new("vector", problem).into());
    if vector.len() > DIMENSIONS_MAX {
        return bad(format!("has {} numbers, at most {DIMENSIONS_MAX} are allowed", vector.len()));
    }
    if let Some(at) = vector.iter().position(|number| !number.is_finite()) {
        return bad(format!("has {} at {at}, which is near to nothing", vector.get(at).unwrap_or(&f32::NAN)));
    }
    if vector.iter().all(|number| *number == 0.0) {
        return bad("is all zeros, which has no direction".to_owned());
    }
    if !(-1.0..=1.0).contains(&threshold) {
        return Err(BadField::new("similarity_threshold", "must be between -1 and 1").into());
    }
    if known.vector.is_none() {
        return Err(CollectionError::NoVector);
    }
    Ok(Some(Nearest { vector: vector.clone(), at_least: (threshold != 0.0).then_some(threshold) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collections::Form;
    use std::time::Duration;

    fn asked(vector: Vec<f32>, similarity_threshold: f32) -> SearchQuery {
        SearchQuery {
            full_text: String::new(),
            filters: Vec::new(),
            labels: Vec::new(),
            vector,
            similarity_threshold,
            limit: 1,
            offset: 0,
            order_by: String::new(),
            ascending: false,
            deadline: Deadline::after(Duration::from_secs(1)),
        }
    }

    #[tokio::test]
    async fn c12_vectors_that_are_near_to_nothing_are_refused() {
        let known = Known { form: Form::Loose, vector: None };
        let refused = |vector, threshold| match nearest(&known, &asked(vector, threshold)) {
            Err(CollectionError::Field(why)) => why.field,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(vec![1.0; 1_000_000], 0.0), "vector");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0] {
            assert_eq!(refused(vec![bad], 0.0), "vector");
        }
        for bad in [f32::NAN, 1.5, -1.5, f32::INFINITY] {
            assert_eq!(refused(vec![1.0], bad), "similarity_threshold");
        }
        assert!(matches!(nearest(&known, &asked(vec![1.0], 0.5)), Err(CollectionError::NoVector)));
        assert!(matches!(nearest(&known, &asked(vec![], f32::NAN)), Ok(None)), "not looked at without a vector");
    }
}
