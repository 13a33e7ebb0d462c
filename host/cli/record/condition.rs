//! `--where`: conditions on fields, as one types them.

use crate::rpc::pb::{Filter, FilterOperator};
use anyhow::{Context as _, bail};
use prost_types::value::Kind;
use prost_types::{ListValue, NullValue, Struct, Value};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};

const HELP: &str = "\
Conditions (--where, all must hold; one for each field):
  total=5  name=pen  name!=pen       equal to; present and different from
  total>5  total>=5  total<5  total<=5
  name~pen                           text that holds `pen`, or a list with the element `pen`
  colour in red,green,blue           one of these; also as a JSON list: colour in [\"red\",\"green\"]
  note exists   note not exists      present, absent
  address.city=Bern  tags=new  labels.a=b   into messages, lists (any element) and maps
A value is JSON where it reads as a number, true, false, null or a \"quoted text\", else it is text
as it stands: sku=\"007\" and sku=007 are text, sku=7 is a number. Quote the whole for your shell.";

/// What --help ends with, where a command takes conditions.
pub(in crate::cli) fn with_help(examples: &str) -> String {
    format!("{HELP}\n\n{examples}")
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Condition {
    path: String,
    operator: FilterOperator,
    value: Option<Json>,
}

/// What a condition may look like, for those who wrote it otherwise.
const FORMS: &str =
    "FIELD, then =, !=, >, >=, <, <= or ~ and a value; or FIELD in A,B; or FIELD exists; or FIELD not exists";

/// Signs, the longer ones first.
const SIGNS: [(&str, FilterOperator); 7] = [
    ("!=", FilterOperator::OpNotEquals),
    (">=", FilterOperator::OpGreaterEqual),
    ("<=", FilterOperator::OpLessEqual),
    ("=", FilterOperator::OpEquals),
    (">", FilterOperator::OpGreaterThan),
    ("<", FilterOperator::OpLessThan),
    ("~", FilterOperator::OpContains),
];

/// Largest integer up to which a double has them all. Larger ones travel as text.
const EXACT: u64 = 1 << 53;

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || "=!<>~".contains(c)).unwrap_or(text.len());
        let (path, rest) = text.split_at(end);
        if path.is_empty() {
            return Err(format!("the field is missing; write {FORMS}"));
        }
        let (operator, value) = operation(rest.trim_start())
            .ok_or_else(|| format!("{:?} after {path} is no condition; write {FORMS}", rest.trim()))?;
        Ok(Self { path: path.to_owned(), operator, value })
    }
}

fn operation(rest: &str) -> Option<(FilterOperator, Option<Json>)> {
    for (sign, operator) in SIGNS {
        if let Some(value) = rest.strip_prefix(sign) {
            // `==`, `=>`, `<>`: a sign that is not there, not a value that begins so.
            let odd = value.starts_with(['=', '<', '>', '~', '!']);
            return (!odd).then(|| (operator, Some(scalar(value))));
        }
    }
    let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let after = after.trim();
    match word {
        "exists" if after.is_empty() => Some((FilterOperator::OpExists, None)),
        "not" if after == "exists" => Some((FilterOperator::OpNotExists, None)),
        "in" if !after.is_empty() => Some((FilterOperator::OpIn, Some(list(after)))),
        _ => None,
    }
}

/// A JSON scalar, else the text as it stands.
fn scalar(text: &str) -> Json {
    let text = text.trim();
    match serde_json::from_str(text) {
        Ok(value @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_))) => value,
        _ => Json::String(text.to_owned()),
    }
}

fn list(text: &str) -> Json {
    match serde_json::from_str(text) {
        Ok(list @ Json::Array(_)) => list,
        _ => text.split(',').map(scalar).collect(),
    }
}

/// As `SearchRequest.filters` takes them.
///
/// * errors: two conditions on one field.
pub(in crate::cli) fn filters(conditions: &[Condition]) -> anyhow::Result<HashMap<String, Filter>> {
    let mut filters = HashMap::new();
    for one in conditions {
        let filter = Filter { operator: one.operator.into(), value: one.value.clone().map(value) };
        if filters.insert(one.path.clone(), filter).is_some() {
            bail!("there are two conditions on {}; a node takes one for each field", one.path);
        }
    }
    Ok(filters)
}

/// As `ListRequest.filter` takes them; `None` where there is none.
pub(in crate::cli) fn filters_object(conditions: &[Condition]) -> anyhow::Result<Option<Struct>> {
    if conditions.is_empty() {
        return Ok(None);
    }
    let mut fields = BTreeMap::new();
    for (path, filter) in filters(conditions)? {
        let operator = filter.operator().as_str_name();
        let name = operator.strip_prefix("OP_").context("an operator without its prefix")?;
        let mut words = BTreeMap::from([("op".to_owned(), text(name))]);
        words.extend(filter.value.map(|value| ("value".to_owned(), value)));
        fields.insert(path, Value { kind: Some(Kind::StructValue(Struct { fields: words })) });
    }
    Ok(Some(Struct { fields }))
}

/// Text as a value of a Struct.
pub(in crate::cli) fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(NullValue::NullValue.into()),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::String(value) => Kind::StringValue(value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), ..) if integer.unsigned_abs() > EXACT => Kind::StringValue(number.to_string()),
            (_, Some(integer), _) if integer > EXACT => Kind::StringValue(number.to_string()),
            (.., Some(double)) => Kind::NumberValue(double),
            _ => Kind::StringValue(number.to_string()),
        },
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() }),
        Json::Object(fields) => {
            Kind::StructValue(Struct { fields: fields.into_iter().map(|(key, one)| (key, value(one))).collect() })
        }
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition(text: &str) -> (String, &'static str, Option<Json>) {
        let one: Condition = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
        (one.path, one.operator.as_str_name(), one.value)
    }

    #[test]
    fn conditions_read_as_they_are_typed() {
        for (text, path, operator, value) in [
            ("total=5", "total", "OP_EQUALS", json!(5)),
            ("total = 5.5", "total", "OP_EQUALS", json!(5.5)),
            ("name=", "name", "OP_EQUALS", json!("")),
            ("name=true story", "name", "OP_EQUALS", json!("true story")),
            ("name=\" a=b \"", "name", "OP_EQUALS", json!(" a=b ")),
            ("sku=007", "sku", "OP_EQUALS", json!("007")),
            ("a.b!=null", "a.b", "OP_NOT_EQUALS", json!(null)),
            ("n>=-1", "n", "OP_GREATER_EQUAL", json!(-1)),
            ("n<=1e3", "n", "OP_LESS_EQUAL", json!(1e3)),
            ("n>1", "n", "OP_GREATER_THAN", json!(1)),
            ("n <1", "n", "OP_LESS_THAN", json!(1)),
            ("t~in a", "t", "OP_CONTAINS", json!("in a")),
            ("t~[1]", "t", "OP_CONTAINS", json!("[1]")),
            ("c in a, 2,\"x\"", "c", "OP_IN", json!(["a", 2, "x"])),
            ("c  in  [\"a,b\",1]", "c", "OP_IN", json!(["a,b", 1])),
            ("in in in", "in", "OP_IN", json!(["in"])),
        ] {
            assert_eq!(condition(text), (path.to_owned(), operator, Some(value)), "{text}");
        }
        assert_eq!(condition("a exists"), ("a".into(), "OP_EXISTS", None));
        assert_eq!(condition(" a  not   exists "), ("a".into(), "OP_NOT_EXISTS", None));
    }

    #[test]
    fn what_is_none_says_how_to_write_one() {
        for bad in
            ["a", "a is b", "a==b", "a=>b", "a<>1", "a in", "a not", "a not exists b", "a exists not", "a !", "!a"]
        {
            let why = bad.parse::<Condition>().unwrap_err();
            assert!(why.contains("FIELD"), "{bad}: {why}");
        }
        for bad in ["", "  ", "=5", "in"] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn large_integers_travel_as_text_and_a_field_has_one_condition() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Condition>>();
        let wire = |value: &str| {
            let filter = filters(&all(&[&format!("n={value}")])).unwrap().remove("n").unwrap();
            filter.value.unwrap().kind.unwrap()
        };
        assert_eq!(wire("9007199254740992"), Kind::NumberValue(9_007_199_254_740_992.0));
        assert_eq!(wire("9007199254740993"), Kind::StringValue("9007199254740993".into()));
        assert_eq!(wire("-9223372036854775808"), Kind::StringValue("-9223372036854775808".into()));
        assert_eq!(wire("18446744073709551615"), Kind::StringValue("18446744073709551615".into()));
        assert!(filters(&all(&["n>1", "n<3"])).unwrap_err().to_string().contains("two conditions on n"));
        let listed = filters_object(&all(&["n>1", "x exists"])).unwrap().unwrap();
        assert_eq!(listed.fields.len(), 2);
        assert!(filters_object(&[]).unwrap().is_none());
    }
}
