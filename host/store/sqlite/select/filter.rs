//! What a record has to be, where no index says so: looked up in its document, one walk for each condition.
//!
//! Linear in the document, whatever the paths: nothing of a tenant's becomes part of a statement, and nothing is nested.

use super::jsonb::{Plain, Value};
use crate::store::{Compare, Condition, Path, Scalar, Step, Test};
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a record has to be: all of it. Bound to a statement as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::store::sqlite) struct Filter<'q> {
    /// What its fields have to be.
    pub(super) conditions: Vec<Cow<'q, Condition>>,
    /// Labels that it has to have.
    pub(super) labels: Cow<'q, [(String, String)]>,
}

impl Filter<'_> {
    /// Whether every record is so.
    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.labels.is_empty()
    }
}

/// A filter, made ready to look at many records.
pub(in crate::store::sqlite) struct Prepared {
    conditions: Vec<Ready>,
    labels: Vec<(String, String)>,
}

struct Ready {
    any: Vec<(Path, Matcher)>,
    negate: bool,
}

enum Matcher {
    Compare {
        compare: Compare,
        with: Plain<'static>,
        loose: bool,
    },
    /// Sorted.
    In {
        values: Vec<Plain<'static>>,
        loose: bool,
    },
    Substring(Box<Finder<'static>>),
    Present,
}

impl Prepared {
    /// From what was bound to a statement.
    pub(in crate::store::sqlite) fn decode(
        json: &str,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync + 'static>> {
        let filter: Filter<'static> = serde_json::from_str(json)?;
        let conditions = filter.conditions.into_iter().map(|condition| Ready::new(condition.into_owned())).collect();
        Ok(Self { conditions, labels: filter.labels.into_owned() })
    }

    /// Whether a record is so. `None`: there is nothing to be seen of it, it has no labels.
    pub(in crate::store::sqlite) fn matches(&self, document: Option<&[u8]>, labels: Option<&[u8]>) -> bool {
        let labels = labels.and_then(Value::read);
        let has = |name: &str, wanted: &str| {
            let label = labels.and_then(|labels| labels.member(name)).and_then(Value::plain);
            label.is_some_and(|label| matches!(label, Plain::Text(text) if text == wanted))
        };
        let document = document.and_then(Value::read);
        self.labels.iter().all(|(name, wanted)| has(name, wanted))
            && self.conditions.iter().all(|condition| condition.matches(document))
    }
}

impl Ready {
    fn new(condition: Condition) -> Self {
        let any = condition.any.into_iter().map(|(path, test)| {
            let matcher = Matcher::new(test, path.is_loose());
            (path, matcher)
        });
        Self { any: any.collect(), negate: condition.negate }
    }

    fn matches(&self, document: Option<Value<'_>>) -> bool {
        let one = |(path, matcher): &(Path, Matcher)| {
            document.is_some_and(|document| some(document, path.steps(), &|value| matcher.matches(value)))
        };
        self.any.iter().any(one) != self.negate
    }
}

/// Whether one of the values that the steps lead to is so. As deep as there are steps.
fn some(value: Value<'_>, steps: &[Step], so: &dyn Fn(Value<'_>) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return so(value) };
    match step {
        Step::Member(name) => value.member(name).is_some_and(|value| some(value, rest, so)),
        Step::Values => value.values().any(|value| some(value, rest, so)),
        Step::Spread if !value.is_array() => some(value, rest, so),
        Step::Elements | Step::Spread => value.elements().any(|value| some(value, rest, so)),
    }
}

impl Matcher {
    fn new(test: Test, loose: bool) -> Self {
        match test {
            Test::Compare(compare, with) => Self::Compare { compare, with: plain(with), loose },
            Test::In(values) => {
                let mut values = values.into_iter().map(plain).collect::<Vec<_>>();
                values.sort_by(|one, other| one.order(other).then(one.kind().cmp(&other.kind())));
                Self::In { values, loose }
            }
            Test::Substring(text) => Self::Substring(Box::new(Finder::new(&text).into_owned())),
            Test::Present => Self::Present,
        }
    }

    fn matches(&self, value: Value<'_>) -> bool {
        if let Self::Present = self {
            return !value.is_null();
        }
        let Some(value) = value.plain() else { return false };
        match self {
            Self::Compare { compare, with, loose } => {
                (!loose || value.kind() == with.kind()) && holds(*compare, &value, with)
            }
            Self::In { values, loose: true } => {
                values.binary_search_by(|one| one.order(&value).then(one.kind().cmp(&value.kind()))).is_ok()
            }
            Self::In { values, loose: false } => values.binary_search_by(|one| one.order(&value)).is_ok(),
            Self::Substring(finder) => matches!(value, Plain::Text(text) if finder.find(text.as_bytes()).is_some()),
            Self::Present => true,
        }
    }
}

fn holds(compare: Compare, value: &Plain<'_>, with: &Plain<'_>) -> bool {
    let order = value.order(with);
    match compare {
        Compare::Equal => order.is_eq(),
        Compare::NotEqual => order.is_ne(),
        Compare::Greater => order.is_gt(),
        Compare::Less => order.is_lt(),
        Compare::GreaterEqual => order.is_ge(),
        Compare::LessEqual => order.is_le(),
    }
}

fn plain(scalar: Scalar) -> Plain<'static> {
    match scalar {
        Scalar::Bool(value) => Plain::Bool(value),
        Scalar::Int(value) => Plain::Int(value),
        Scalar::Real(value) => Plain::Real(value),
        Scalar::Text(value) => Plain::Text(Cow::Owned(value)),
    }
}
