//! JSON records: the document is the object itself.

use super::walk::say;
use super::{BadField, DOCUMENT_MAX, ITEM_VALUE, JSON_NESTED_MAX, VALUES_MAX, VectorField, vector_of};
use crate::store::Indexed;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;

/// What queries see of bytes that nobody declared: nothing, unless they are the text of a JSON object.
pub(super) fn index(bytes: &[u8], vector: Option<&VectorField>) -> Result<Option<Box<Indexed>>, BadField> {
    let Some(object) = parse(bytes)? else { return Ok(None) };
    let vector = match vector {
        Some(VectorField::Loose(members)) => vector_at(&object, members)?,
        _ => None,
    };
    let object = Value::Object(object);
    let document = object.to_string();
    if document.len() > DOCUMENT_MAX {
        return Err(BadField::new(ITEM_VALUE, format!("is longer than {DOCUMENT_MAX} bytes as JSON")));
    }
    let mut text = String::new();
    texts(&object, &mut text);
    Ok(Some(Box::new(Indexed { document, text, vector })))
}

/// The object that the bytes are the text of. `None`: they are not.
///
/// * errors: an object, but of more values or deeper than a record may be, or with something that nothing can be compared
///   with: a number beyond all doubles, half of a surrogate pair.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Map<String, Value>>, BadField> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Ok(None);
    }
    let state = State { values: Cell::new(VALUES_MAX), problem: Cell::new(None) };
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let read = Seed { state: &state, left: JSON_NESTED_MAX }.deserialize(&mut input);
    let read = read.and_then(|value| input.end().map(|()| value));
    if let Some(problem) = state.problem.take() {
        return Err(BadField::new(ITEM_VALUE, problem));
    }
    match read {
        Ok(Value::Object(object)) => Ok(Some(object)),
        // Its grammar is that of JSON, so whoever sent it means it to be found.
        Err(why) if serde_json::from_slice::<&RawValue>(bytes).is_ok() => {
            Err(BadField::new(ITEM_VALUE, format!("is JSON that cannot be searched: {why}")))
        }
        _ => Ok(None),
    }
}

fn vector_at(object: &Map<String, Value>, members: &[String]) -> Result<Option<Vec<f32>>, BadField> {
    let Some((first, rest)) = members.split_first() else { return Ok(None) };
    let found = rest.iter().try_fold(object.get(first), |value, name| Some(value?.get(name)));
    let Some(Some(Value::Array(elements))) = found else { return Ok(None) };
    let numbers: Option<Vec<f64>> = elements.iter().map(Value::as_f64).collect();
    numbers.map_or(Ok(None), |numbers| vector_of(numbers.into_iter()))
}

fn texts(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => say(text, out),
        Value::Array(elements) => elements.iter().for_each(|element| texts(element, out)),
        Value::Object(members) => members.values().for_each(|member| texts(member, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

struct State {
    values: Cell<usize>,
    problem: Cell<Option<String>>,
}

/// Reads a value, counting.
#[derive(Clone, Copy)]
struct Seed<'s> {
    state: &'s State,
    left: usize,
}

impl Seed<'_> {
    fn refuse<E: serde::de::Error>(self, problem: String) -> E {
        self.state.problem.set(Some(problem));
        E::custom("out of bounds")
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| self.refuse(format!("nests deeper than {JSON_NESTED_MAX}")))?;
        Ok(Self { left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.state.values.get().checked_sub(1);
        let left = left.ok_or_else(|| self.refuse(format!("has more than {VALUES_MAX} values")))?;
        self.state.values.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut all = Vec::new();
        while let Some(element) = elements.next_element_seed(seed)? {
            all.push(element);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let seed = self.deeper::<A::Error>()?;
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            all.insert(name, members.next_value_seed(seed)?);
        }
        Ok(Value::Object(all))
    }
}
