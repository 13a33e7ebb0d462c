//! Whether a query is within the bounds that `query.rs` names.

use super::{Layout, invalid, text};
use crate::store::{
    CONDITIONS_MAX, Condition, DIMENSIONS_MAX, HITS_MAX, IN_MAX, Nearest, OFFSET_MAX, ORDER_MAX, Position, Query,
    Scalar, StoreError, Test, Text,
};

/// Most labels that one query asks for. 64: as many as conditions.
const LABELS_MAX: usize = CONDITIONS_MAX;

/// * errors: `Invalid`: what there is too much of, and how much may be.
pub(super) fn query(layout: &Layout, query: &Query) -> Result<(), StoreError> {
    most("hits", query.limit, HITS_MAX)?;
    most("hits to skip", query.offset, OFFSET_MAX)?;
    most("keys to order by", query.order.len(), ORDER_MAX)?;
    most("labels", query.labels.len(), LABELS_MAX)?;
    most("conditions", query.conditions.iter().map(|condition| condition.any.len()).sum(), CONDITIONS_MAX)?;
    query.conditions.iter().try_for_each(condition)?;
    query.text.iter().try_for_each(|wanted| text_of(layout, wanted))?;
    query.nearest.iter().try_for_each(nearest)?;
    query.after.iter().try_for_each(position)
}

/// * errors: `Invalid` for a collection without text search; as [`query`].
pub(super) fn text_of(layout: &Layout, text: &Text) -> Result<(), StoreError> {
    if !layout.full_text {
        return Err(invalid("the collection was created without full-text search".to_owned()));
    }
    text::check(text)
}

fn most(what: &str, found: usize, most: usize) -> Result<(), StoreError> {
    if found <= most {
        return Ok(());
    }
    Err(invalid(format!("the query has {found} {what}, at most {most} are allowed")))
}

fn condition(condition: &Condition) -> Result<(), StoreError> {
    if condition.any.is_empty() {
        return Err(invalid("a condition has no alternatives".to_owned()));
    }
    condition.any.iter().try_for_each(|(_, test)| match test {
        Test::Compare(_, value) => scalar(value),
        Test::In(values) => {
            most("values in one list", values.len(), IN_MAX)?;
            values.iter().try_for_each(scalar)
        }
        Test::Substring(_) | Test::Present => Ok(()),
    })
}

/// To the database NaN is no value at all.
fn scalar(value: &Scalar) -> Result<(), StoreError> {
    match value {
        Scalar::Real(value) if value.is_nan() => Err(invalid("NaN cannot be compared with".to_owned())),
        Scalar::Bool(_) | Scalar::Int(_) | Scalar::Real(_) | Scalar::Text(_) => Ok(()),
    }
}

fn nearest(Nearest { vector, at_least }: &Nearest) -> Result<(), StoreError> {
    if vector.is_empty() {
        return Err(invalid("the vector is empty".to_owned()));
    }
    most("numbers in its vector", vector.len(), DIMENSIONS_MAX)?;
    if !vector.iter().all(|number| number.is_finite()) || vector.iter().all(|number| *number == 0.0) {
        return Err(invalid("the numbers of the vector must be finite, and not all of them 0".to_owned()));
    }
    if at_least.is_some_and(f32::is_nan) {
        return Err(invalid("the least cosine must be a number".to_owned()));
    }
    Ok(())
}

fn position(position: &Position) -> Result<(), StoreError> {
    position.keys.iter().flatten().try_for_each(scalar)
}
