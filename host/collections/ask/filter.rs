//! Filters.

use super::literal::{self, Point};
use super::path::{End, resolve};
use crate::collections::form::{Holds, default_number};
use crate::collections::{BadField, Form};
use crate::domain::one_line;
use crate::store::{CONDITIONS_MAX, Compare, Condition, IN_MAX, Path, Scalar, Test};
use prost_reflect::{FieldDescriptor, Kind};
use prost_types::value::Kind as Given;
use prost_types::{Struct, Value};

/// How a filter compares. Source: `FilterOperator`, proto/collector/collection_service.proto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Field equals value.
    Equals,
    /// Field is present and differs from value.
    NotEquals,
    /// Field > value.
    GreaterThan,
    /// Field < value.
    LessThan,
    /// Field >= value.
    GreaterEqual,
    /// Field <= value.
    LessEqual,
    /// Text holds value; a repeated field holds it as an element.
    Contains,
    /// Field equals one element of value, a list.
    In,
    /// Field is present.
    Exists,
    /// Field is absent.
    NotExists,
}

/// One condition on a field, as a request says it.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldFilter {
    /// Dotted; proto or JSON names.
    pub path: String,
    /// How.
    pub operator: Operator,
    /// With what. `None` where the operator takes none.
    pub value: Option<Value>,
}

/// The conditions that `ListRequest.filter` stands for: values to be equal to, or `{"op": "GREATER_THAN", "value": 3}`.
///
/// * errors: `filter["a.b"]`: any other object, an unknown operator, a list of more than `IN_MAX`.
pub fn list_filter(filter: &Struct) -> Result<Vec<FieldFilter>, BadField> {
    if filter.fields.len() > CONDITIONS_MAX {
        let problem = format!("has {} conditions, at most {CONDITIONS_MAX} are allowed", filter.fields.len());
        return Err(BadField::new("filter", problem));
    }
    let one = |(path, value): (&String, &Value)| {
        let bad = |problem| BadField::new(format!("filter[{:?}]", one_line(path, 256)), problem);
        let (operator, value) = operation(value).map_err(bad)?;
        // What a value may be is checked before it is copied: it may be deep, or a hundred thousand.
        let value = value.map(|value| flat(value).map_err(bad)).transpose()?;
        Ok(FieldFilter { path: path.clone(), operator, value })
    };
    filter.fields.iter().map(one).collect()
}

fn operation(value: &Value) -> Result<(Operator, Option<&Value>), String> {
    const WANTED: &str = "must be a value, or an object such as {\"op\": \"GREATER_THAN\", \"value\": 3}";
    let Some(Given::StructValue(object)) = &value.kind else { return Ok((Operator::Equals, Some(value))) };
    let (op, value) = (object.fields.get("op"), object.fields.get("value"));
    let Some(Given::StringValue(op)) = op.and_then(|op| op.kind.as_ref()) else { return Err(WANTED.to_owned()) };
    if object.fields.len() != 1 + usize::from(value.is_some()) {
        return Err(WANTED.to_owned());
    }
    let operator = match op.strip_prefix("OP_").unwrap_or(op) {
        "EQUALS" => Operator::Equals,
        "NOT_EQUALS" => Operator::NotEquals,
        "GREATER_THAN" => Operator::GreaterThan,
        "LESS_THAN" => Operator::LessThan,
        "GREATER_EQUAL" => Operator::GreaterEqual,
        "LESS_EQUAL" => Operator::LessEqual,
        "CONTAINS" => Operator::Contains,
        "IN" => Operator::In,
        "EXISTS" => Operator::Exists,
        "NOT_EXISTS" => Operator::NotExists,
        other => return Err(format!("has no operator {:?}", one_line(other, 64))),
    };
    let takes_none = matches!(operator, Operator::Exists | Operator::NotExists);
    Ok((operator, value.filter(|_| !takes_none)))
}

/// The value, if it is a scalar or a list of scalars.
fn flat(value: &Value) -> Result<Value, String> {
    let is_deep = |value: &Value| matches!(value.kind, Some(Given::StructValue(_) | Given::ListValue(_)));
    match &value.kind {
        Some(Given::StructValue(_)) => Err("must not be compared with an object".to_owned()),
        Some(Given::ListValue(list)) if list.values.len() > IN_MAX => Err(too_long(list.values.len())),
        Some(Given::ListValue(list)) if list.values.iter().any(is_deep) => {
            Err("must not be compared with a list of lists or objects".to_owned())
        }
        _ => Ok(value.clone()),
    }
}

fn too_long(found: usize) -> String {
    format!("has a list of {found} values, at most {IN_MAX} are allowed")
}

/// What filters come to. All of them must hold.
///
/// * `field`: names the request's field for a path, for errors.
/// * errors: a path that leads nowhere, a value that its operator cannot take, more than [`CONDITIONS_MAX`].
pub(in crate::collections) fn conditions(
    form: &Form,
    filters: &[FieldFilter],
    field: &dyn Fn(&str) -> String,
) -> Result<Vec<Condition>, BadField> {
    let mut all = Vec::new();
    let mut left = CONDITIONS_MAX;
    for filter in filters {
        let bad = |problem| BadField::new(field(&one_line(&filter.path, 256)), problem);
        let condition = condition(form, filter).map_err(bad)?;
        let most = || bad(format!("is one condition too many: at most {CONDITIONS_MAX} are allowed"));
        left = left.checked_sub(condition.any.len()).ok_or_else(most)?;
        all.push(condition);
    }
    Ok(all)
}

fn condition(form: &Form, filter: &FieldFilter) -> Result<Condition, String> {
    let found = resolve(form, &filter.path).map_err(|why| format!("leads nowhere: {why}"))?;
    let value = || filter.value.as_ref().ok_or("needs a value");
    let compare = match filter.operator {
        Operator::Exists | Operator::NotExists => {
            let test = match &found.end {
                End::One(_, Some(field)) => Test::Compare(Compare::NotEqual, default(field)),
                _ => Test::Present,
            };
            let negate = filter.operator == Operator::NotExists;
            return Ok(Condition { any: vec![(found.whole()?, test)], negate });
        }
        Operator::Contains => return contains(&found.end, (found.path()?, found.whole()?), value()?),
        Operator::In => {
            let values = values(&found.end, value()?)?;
            return Ok(one(found.path()?, Test::In(values)));
        }
        Operator::Equals => Compare::Equal,
        Operator::NotEquals => Compare::NotEqual,
        Operator::GreaterThan => Compare::Greater,
        Operator::LessThan => Compare::Less,
        Operator::GreaterEqual => Compare::GreaterEqual,
        Operator::LessEqual => Compare::LessEqual,
    };
    let ordered = !matches!(compare, Compare::Equal | Compare::NotEqual);
    Ok(one(found.path()?, point(&found.end, value()?, ordered)?.test(compare)))
}

fn one(path: Path, test: Test) -> Condition {
    Condition { any: vec![(path, test)], negate: false }
}

fn point(end: &End, value: &Value, ordered: bool) -> Result<Point, String> {
    match end {
        End::Open => literal::loose(value).map(Point::At),
        End::One(holds, _) | End::Each(holds) => literal::typed(holds, value, ordered),
    }
}

/// What of a list the field can be equal to.
fn values(end: &End, value: &Value) -> Result<Vec<Scalar>, String> {
    let Some(Given::ListValue(list)) = &value.kind else { return Err("needs a list of values for IN".to_owned()) };
    if list.values.len() > IN_MAX {
        return Err(too_long(list.values.len()));
    }
    let points = list.values.iter().map(|value| point(end, value, false));
    let at = |point| match point {
        Point::At(value) => Some(value),
        Point::After(_) | Point::Above | Point::Below => None,
    };
    points.filter_map(|point| point.map(at).transpose()).collect()
}

/// * `path`, `whole`: to each value, and to the value itself.
fn contains(end: &End, (path, whole): (Path, Path), value: &Value) -> Result<Condition, String> {
    match end {
        End::Each(_) => Ok(one(path, point(end, value, false)?.test(Compare::Equal))),
        End::One(Holds::Scalar(Kind::String) | Holds::Wrapper(Kind::String) | Holds::Mask, _) => {
            Ok(one(path, Test::Substring(literal::substring(value)?)))
        }
        End::One(..) => Err("is neither text nor repeated, so it cannot be tested for CONTAINS".to_owned()),
        End::Open => {
            let mut any = vec![(path, point(end, value, false)?.test(Compare::Equal))];
            if matches!(value.kind, Some(Given::StringValue(_))) {
                any.push((whole, Test::Substring(literal::substring(value)?)));
            }
            Ok(Condition { any, negate: false })
        }
    }
}

/// What a field without presence is in the document where it is not on the wire.
fn default(field: &FieldDescriptor) -> Scalar {
    match field.kind() {
        Kind::Bool => Scalar::Bool(false),
        Kind::String => Scalar::Text(String::new()),
        Kind::Bytes => Scalar::Text("x:".to_owned()),
        Kind::Uint64 | Kind::Fixed64 => Scalar::Text("0".repeat(20)),
        Kind::Float | Kind::Double => Scalar::Real(0.0),
        Kind::Enum(_) => Scalar::Int(default_number(field).into()),
        _ => Scalar::Int(0),
    }
}
