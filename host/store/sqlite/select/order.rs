//! Orders, and where in one a page goes on.
//!
//! A page that goes on is asked for in parts, each of which an index can begin in the middle of: the records that are
//! equal in the first key, those beyond it, and, where it descends, those that have none.

use super::index::{Indexed, key};
use super::statement::Writer;
use super::{Layout, invalid};
use crate::store::{Key, Path, Query, Scalar, Step, StoreError};
use rusqlite::types::Value;

/// How the matches are gone through.
#[derive(Debug)]
pub(super) enum Walk {
    /// All of them, the best kept; of equal ones the newest.
    Ranked,
    /// By creation.
    Row {
        /// Newest first.
        descending: bool,
    },
    /// By these, the last of which no two records share.
    Keys(Vec<SortKey>),
}

/// One key of an order.
#[derive(Debug)]
pub(super) struct SortKey {
    pub(super) by: By,
    pub(super) descending: bool,
}

/// What a key is.
#[derive(Debug)]
pub(super) enum By {
    /// A value of the document that has an index: its expression.
    Indexed(String),
    /// Another one: the path, bound.
    Path(String),
    /// When the record was last changed.
    Updated,
    /// Its id.
    Id,
    /// Its place in the order of creation.
    Row,
    /// How well it matches.
    Score,
}

impl Walk {
    /// * errors: `Invalid` for a path that leads to several values.
    pub(super) fn new(layout: &Layout, query: &Query) -> Result<Self, StoreError> {
        let scored = query.text.is_some() || query.nearest.is_some();
        let mut keys = Vec::new();
        for order in &query.order {
            let by = match &order.key {
                Key::Field(path) => field(layout, path)?,
                Key::CreatedAt => By::Row,
                Key::UpdatedAt => By::Updated,
                Key::Id => By::Id,
                Key::Score if scored => By::Score,
                Key::Score => continue,
            };
            let last = by.is_unique();
            keys.push(SortKey { by, descending: order.descending });
            if last {
                break;
            }
        }
        Ok(match keys.as_slice() {
            [] if query.order.is_empty() && scored => Self::Ranked,
            [] if query.order.is_empty() => Self::Row { descending: true },
            [SortKey { by: By::Score, descending: true }] => Self::Ranked,
            [SortKey { by: By::Row, descending }] => Self::Row { descending: *descending },
            _ => {
                if !keys.last().is_some_and(|key| key.by.is_unique()) {
                    keys.push(SortKey { by: By::Id, descending: false });
                }
                Self::Keys(keys)
            }
        })
    }

    /// Whether a page cannot be gone on from.
    pub(super) fn is_scored(&self) -> bool {
        match self {
            Self::Ranked => true,
            Self::Row { .. } => false,
            Self::Keys(keys) => keys.iter().any(|key| matches!(key.by, By::Score)),
        }
    }

    /// The keys whose values a position carries.
    pub(super) fn carried(&self) -> impl Iterator<Item = &SortKey> {
        let keys = if let Self::Keys(keys) = self { keys.as_slice() } else { &[] };
        keys.iter().filter(|key| matches!(key.by, By::Indexed(_) | By::Path(_) | By::Updated))
    }
}

fn field(layout: &Layout, path: &Path) -> Result<By, StoreError> {
    if let Some(Indexed { value, .. }) = layout.indexed(path) {
        return Ok(By::Indexed(value));
    }
    let mut way = String::from("$");
    for step in path.steps() {
        match step {
            Step::Member(name) => {
                way.push_str(".\"");
                way.push_str(name);
                way.push('"');
            }
            Step::Spread => {}
            Step::Elements | Step::Values => {
                return Err(invalid(format!("records cannot be ordered by {path}: it may have several values")));
            }
        }
    }
    Ok(By::Path(way))
}

impl By {
    fn is_unique(&self) -> bool {
        matches!(self, Self::Id | Self::Row)
    }

    /// The expression of the key in a statement.
    pub(super) fn expression(&self, writer: &mut Writer<'_>) -> String {
        match self {
            Self::Indexed(value) => value.clone(),
            Self::Path(way) => key(&format!("document ->> {}", writer.bind(Value::Text(way.clone())))),
            Self::Updated => "updated_at".to_owned(),
            Self::Id => "id".to_owned(),
            Self::Row => writer.row(),
            Self::Score => writer.score(),
        }
    }
}

/// Where a page goes on: the place of the last record before it, with the values of all keys of the order.
#[derive(Debug)]
pub(super) struct Place {
    /// Of the keys that a position carries.
    pub(super) values: Vec<Option<Scalar>>,
    pub(super) id: String,
    pub(super) sequence: i64,
}

/// What of an order comes after a place: parts, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Equal in the first key, and beyond in the others.
    Level,
    /// Beyond in the first key.
    Beyond,
    /// Without the first key, where those come last.
    Without,
}

impl Part {
    /// How many of the first keys are the same in all of it.
    pub(super) fn settled(self) -> usize {
        match self {
            Self::Level | Self::Without => 1,
            Self::Beyond => 0,
        }
    }
}

/// The parts in which there can be something.
pub(super) fn parts(walk: &Walk, place: &Place) -> Vec<Part> {
    let Walk::Keys(keys) = walk else { return vec![Part::Beyond] };
    let Some(first) = keys.first() else { return Vec::new() };
    if first.by.is_unique() {
        return vec![Part::Beyond];
    }
    match (first.descending, place.values.first()) {
        (false, _) => vec![Part::Level, Part::Beyond],
        (true, Some(None)) => vec![Part::Level],
        (true, _) => vec![Part::Level, Part::Beyond, Part::Without],
    }
}

/// What has to be so in one part.
pub(super) fn within(walk: &Walk, place: &Place, part: Part, writer: &mut Writer<'_>) -> String {
    let keys = match walk {
        Walk::Ranked => return "0".to_owned(),
        Walk::Row { descending } => return beyond_row(*descending, place.sequence, writer),
        Walk::Keys(keys) => keys,
    };
    let mut values = place.values.iter();
    let bounds = keys.iter().map(|key| {
        let value = match key.by {
            By::Indexed(_) | By::Path(_) | By::Updated => values.next().and_then(Option::as_ref).map(bound),
            By::Id => Some(Value::Text(place.id.clone())),
            By::Row | By::Score => None,
        };
        Bound::new(key, value, place, writer)
    });
    let bounds = bounds.collect::<Vec<_>>();
    let Some((first, rest)) = bounds.split_first() else { return "0".to_owned() };
    match part {
        Part::Level => format!("{} AND {}", first.level, after(rest)),
        Part::Beyond => first.beyond.clone(),
        Part::Without => first.without.clone(),
    }
}

/// What has to be so of one key.
struct Bound {
    level: String,
    /// Beyond, and there.
    beyond: String,
    without: String,
    /// Beyond, there or not.
    past: String,
}

impl Bound {
    fn new(key: &SortKey, value: Option<Value>, place: &Place, writer: &mut Writer<'_>) -> Self {
        let never = || "0".to_owned();
        if let By::Row = key.by {
            let past = beyond_row(key.descending, place.sequence, writer);
            return Self { level: never(), beyond: past.clone(), without: never(), past };
        }
        let this = key.by.expression(writer);
        let without = format!("{this} IS NULL");
        let Some(value) = value else {
            let past = if key.descending { never() } else { format!("{this} IS NOT NULL") };
            return Self { level: without, beyond: past.clone(), without: never(), past };
        };
        let value = writer.bind(value);
        let beyond = format!("{this} {} {value}", if key.descending { "<" } else { ">" });
        let past = if key.descending { format!("({beyond} OR {without})") } else { beyond.clone() };
        Self { level: format!("{this} = {value}"), beyond, without, past }
    }
}

/// After a place in the remaining keys.
fn after(bounds: &[Bound]) -> String {
    match bounds.split_first() {
        None => "0".to_owned(),
        Some((last, [])) => last.past.clone(),
        Some((first, rest)) => format!("({} OR ({} AND {}))", first.past, first.level, after(rest)),
    }
}

/// A row's number is its place and a byte that does not count here.
fn beyond_row(descending: bool, sequence: i64, writer: &mut Writer<'_>) -> String {
    let row = writer.row();
    let (compare, sequence) = if descending { ("<", sequence) } else { (">=", sequence.saturating_add(1)) };
    let edge = sequence.saturating_mul(1 << super::NORM_BITS);
    format!("{row} {compare} {}", writer.bind(Value::Integer(edge)))
}

/// A value as it is compared in statements: true is 1.
pub(super) fn bound(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Bool(value) => Value::Integer(i64::from(*value)),
        Scalar::Int(value) => Value::Integer(*value),
        Scalar::Real(value) => Value::Real(*value),
        Scalar::Text(value) => Value::Text(value.clone()),
    }
}
