//! What filters and orders mean, worked out straight from messages, and messages and filters to try it on. Written from
//! the comments of collection_service.proto, not from the code: slow, and right if it is short enough to be read.

#![expect(clippy::cast_possible_truncation, reason = "bounded just before")]

mod dice;

pub(in crate::collections) use dice::Dice;

use super::Operator;
use crate::collections::Form;
use crate::registry::MessageType;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};
use std::cmp::Ordering;

const RICH: &str = r#"
syntax = "proto3";
package t;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Color { NONE = 0; RED = 1; GREEN = 2; BELOW = -5; }
message Inner {
  string name = 1; int64 n = 2; optional int32 o = 3; Inner next = 4; repeated string tags = 5; uint64 u = 6;
  google.protobuf.Timestamp when = 7;
}
message Rich {
  string title = 1; bool flag = 2; int32 i32 = 3; int64 i64 = 4; uint32 u32 = 5; uint64 u64 = 6; sint64 s64 = 7;
  fixed64 x64 = 8; float real = 9; double dbl = 10; bytes raw = 11; Color color = 12;
  optional int64 maybe = 13; optional string note = 14; optional double maybe_dbl = 15;
  oneof kind { string word = 16; int64 number = 17; Inner part = 18; }
  Inner inner = 19; repeated Inner lines = 20; repeated int64 numbers = 21; repeated string tags = 22;
  repeated Color colors = 23; map<string, string> labels = 24; map<string, Inner> parts = 25;
  map<int32, int64> counts = 26; google.protobuf.Timestamp at = 27; google.protobuf.Duration took = 28;
  google.protobuf.Int64Value w_int = 29; google.protobuf.StringValue w_text = 30; google.protobuf.Struct meta = 31;
  google.protobuf.Value open = 32; google.protobuf.Any extra = 33; repeated float embedding = 34;
  repeated double values = 35; repeated google.protobuf.Timestamp moments = 36; google.protobuf.FieldMask mask = 37;
  string camel_case = 38; google.protobuf.UInt64Value w_unsigned = 39; map<bool, double> weights = 40;
  sint32 s32 = 41; sfixed64 sx64 = 42; repeated google.protobuf.Value opens = 43; bool id = 44;
}
"#;

struct Texts;

impl protox::file::FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        match name {
            "rich.proto" => protox::file::File::from_source(name, RICH),
            _ => protox::file::GoogleFileResolver::new().open_file(name),
        }
    }
}

/// A type with a field of every kind.
pub(in crate::collections) fn rich() -> MessageDescriptor {
    let mut compiler = protox::Compiler::with_file_resolver(Texts);
    compiler.include_imports(true).open_file("rich.proto").unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(compiler.file_descriptor_set()).unwrap();
    pool.get_message_by_name("t.Rich").unwrap()
}

/// Records of that type.
pub(in crate::collections) fn form(descriptor: &MessageDescriptor) -> Form {
    Form::Typed { check: MessageType::alone(descriptor), descriptor: descriptor.clone() }
}

/// A value, by its meaning.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::collections) enum Means {
    Bool(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Nanoseconds.
    Time(i128),
    /// Of Struct, Value and Any.
    Null,
    List(Vec<Means>),
    Object(Vec<(String, Means)>),
}

/// How two values of one kind compare. `None`: they are of different kinds.
pub(in crate::collections) fn compare(a: &Means, b: &Means) -> Option<Ordering> {
    use Means::{Bool, Bytes, Real, Text, Time, Whole};
    Some(match (a, b) {
        (Bool(a), Bool(b)) => a.cmp(b),
        (Whole(a), Whole(b)) | (Time(a), Time(b)) => a.cmp(b),
        (Real(a), Real(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(b).unwrap(),
            (a, b) => a.cmp(&b),
        },
        (Whole(a), Real(b)) => whole_to_real(*a, *b),
        (Real(a), Whole(b)) => whole_to_real(*b, *a).reverse(),
        (Text(a), Text(b)) => a.cmp(b),
        (Bytes(a), Bytes(b)) => a.cmp(b),
        _ => return None,
    })
}

fn whole_to_real(a: i128, b: f64) -> Ordering {
    if b.is_nan() || b > 1e37 {
        return Ordering::Less;
    }
    if b < -1e37 {
        return Ordering::Greater;
    }
    a.cmp(&(b.floor() as i128)).then(if b.fract() == 0.0 { Ordering::Equal } else { Ordering::Less })
}

/// What a path leads to in a message.
#[derive(Debug, Clone)]
pub(in crate::collections) enum There {
    /// A declared value, with its field's default if it has no presence.
    Value(Means, Option<Means>),
    /// A message, or a repeated field or map as a whole; how many are in it.
    Whole(usize),
    /// What nobody declared.
    Open(Means),
}

/// Everything that a path leads to; lists and maps at its end both as a whole and as what is in them.
pub(in crate::collections) fn follow(message: &DynamicMessage, path: &[&str]) -> Vec<There> {
    if message.descriptor().full_name() == "google.protobuf.Any"
        || message.descriptor().full_name() == "google.protobuf.Struct"
    {
        return open(&means(message), path);
    }
    let [first, rest @ ..] = path else { return vec![There::Whole(1)] };
    let descriptor = message.descriptor();
    let field = descriptor.get_field_by_name(first).or_else(|| descriptor.get_field_by_json_name(first)).unwrap();
    let implicit = !field.supports_presence() && !field.is_list() && !field.is_map();
    if !implicit && !message.has_field(&field) {
        return Vec::new();
    }
    let default = implicit.then(|| scalar(&field, &field.default_value()));
    match (message.get_field(&field).as_ref(), rest) {
        (Value::List(all), rest) => {
            let whole = rest.is_empty().then_some(There::Whole(all.len()));
            whole.into_iter().chain(all.iter().flat_map(|value| inside(&field, value, None, rest))).collect()
        }
        (Value::Map(all), []) => {
            let value = entry_value(&field);
            let whole = There::Whole(all.len());
            std::iter::once(whole).chain(all.values().flat_map(|v| inside(&value, v, None, &[]))).collect()
        }
        (Value::Map(all), [key, rest @ ..]) => {
            let found = all.iter().find(|(known, _)| key_text(known) == *key);
            found.map_or_else(Vec::new, |(_, value)| inside(&entry_value(&field), value, None, rest))
        }
        (value, rest) => inside(&field, value, default, rest),
    }
}

fn entry_value(field: &FieldDescriptor) -> FieldDescriptor {
    field.kind().as_message().unwrap().map_entry_value_field()
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn inside(field: &FieldDescriptor, value: &Value, default: Option<Means>, rest: &[&str]) -> Vec<There> {
    match value {
        Value::Message(message) => match message.descriptor().full_name() {
            "google.protobuf.Struct" | "google.protobuf.Any" => open(&means(message), rest),
            "google.protobuf.Value" | "google.protobuf.ListValue" if rest.is_empty() => {
                vec![There::Open(means(message))]
            }
            "google.protobuf.Value" | "google.protobuf.ListValue" => {
                spread(&means(message)).into_iter().flat_map(|value| open(&value, rest)).collect()
            }
            name if name.starts_with("google.protobuf.") => vec![There::Value(means(message), None)],
            _ => follow(message, rest),
        },
        scalar_value => vec![There::Value(scalar(field, scalar_value), default)],
    }
}

fn open(value: &Means, path: &[&str]) -> Vec<There> {
    let [first, rest @ ..] = path else { return vec![There::Open(value.clone())] };
    let Means::Object(members) = value else { return Vec::new() };
    let Some((_, member)) = members.iter().find(|(name, _)| name == first) else { return Vec::new() };
    if rest.is_empty() {
        return vec![There::Open(member.clone())];
    }
    spread(member).into_iter().flat_map(|value| open(&value, rest)).collect()
}

fn spread(value: &Means) -> Vec<Means> {
    if let Means::List(all) = value { all.clone() } else { vec![value.clone()] }
}

fn scalar(field: &FieldDescriptor, value: &Value) -> Means {
    match value {
        Value::Bool(value) => Means::Bool(*value),
        Value::I32(value) | Value::EnumNumber(value) => Means::Whole((*value).into()),
        Value::I64(value) => Means::Whole((*value).into()),
        Value::U32(value) => Means::Whole((*value).into()),
        Value::U64(value) => Means::Whole((*value).into()),
        Value::F32(value) => Means::Real((*value).into()),
        Value::F64(value) => Means::Real(*value),
        Value::String(value) => Means::Text(value.clone()),
        Value::Bytes(value) => Means::Bytes(value.to_vec()),
        other => panic!("{field:?} holds {other:?}"),
    }
}

/// What a well-known message means.
fn means(message: &DynamicMessage) -> Means {
    let get = |number| message.get_field_by_number(number).unwrap();
    let number = |value: &Value| i128::from(value.as_i64().or_else(|| value.as_i32().map(i64::from)).unwrap());
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            Means::Time(number(&get(1)) * 1_000_000_000 + number(&get(2)))
        }
        "google.protobuf.FieldMask" => {
            let paths = get(1);
            let paths: Vec<&str> = paths.as_list().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            Means::Text(paths.join(",").replace("_c", "C"))
        }
        "google.protobuf.Struct" => {
            let fields = get(1);
            let fields = fields.as_map().unwrap().iter();
            Means::Object(fields.map(|(key, value)| (key_text(key), means(value.as_message().unwrap()))).collect())
        }
        "google.protobuf.ListValue" => {
            Means::List(get(1).as_list().unwrap().iter().map(|value| means(value.as_message().unwrap())).collect())
        }
        "google.protobuf.Value" => match message.fields().next() {
            Some((field, value)) if field.number() > 1 => match value {
                Value::Message(inside) => means(inside),
                // JSON has no such number; where nobody declared one it is the text that protobuf's JSON makes of it.
                Value::F64(number) if number.is_nan() => Means::Text("NaN".to_owned()),
                value => scalar(&field, value),
            },
            _ => Means::Null,
        },
        "google.protobuf.Any" => {
            let url = get(1).as_str().unwrap().to_owned();
            let mut members = vec![("@type".to_owned(), Means::Text(url.clone()))];
            let known = descriptor.parent_pool().get_message_by_name(url.rsplit('/').next().unwrap());
            let inner = known.and_then(|known| DynamicMessage::decode(known, get(2).as_bytes().unwrap().clone()).ok());
            if let Some(inner) = inner {
                members.push((
                    "name".to_owned(),
                    Means::Text(inner.get_field_by_number(1).unwrap().as_str().unwrap().into()),
                ));
            }
            Means::Object(members)
        }
        _ => scalar(&descriptor.get_field(1).unwrap(), &get(1)),
    }
}

/// Whether a message matches.
/// * `meant`: the values of the filter, by their meaning.
pub(in crate::collections) fn matches(
    message: &DynamicMessage,
    path: &[&str],
    operator: Operator,
    meant: &[Means],
) -> bool {
    let there = follow(message, path);
    let present = |there: &There| match there {
        There::Value(value, Some(default)) => compare(value, default) != Some(Ordering::Equal),
        There::Value(..) => true,
        There::Whole(count) => *count > 0,
        There::Open(value) => *value != Means::Null,
    };
    let any = |test: &dyn Fn(&Means) -> bool| {
        there.iter().any(|there| match there {
            There::Value(value, _) => test(value),
            There::Open(value) => spread(value).iter().any(test),
            There::Whole(_) => false,
        })
    };
    let ordered = |test: &dyn Fn(Ordering) -> bool| any(&|value| compare(value, &meant[0]).is_some_and(test));
    match operator {
        Operator::Exists => there.iter().any(present),
        Operator::NotExists => !there.iter().any(present),
        Operator::Equals => ordered(&Ordering::is_eq),
        Operator::NotEquals => ordered(&Ordering::is_ne),
        Operator::GreaterThan => ordered(&Ordering::is_gt),
        Operator::LessThan => ordered(&Ordering::is_lt),
        Operator::GreaterEqual => ordered(&Ordering::is_ge),
        Operator::LessEqual => ordered(&Ordering::is_le),
        Operator::In => any(&|value| meant.iter().any(|one| compare(value, one) == Some(Ordering::Equal))),
        Operator::Contains => {
            let repeated = there.iter().any(|there| matches!(there, There::Whole(_)));
            let holds = |value: &Means| matches!((value, &meant[0]), (Means::Text(a), Means::Text(b)) if a.contains(b.as_str()));
            let element = ordered(&Ordering::is_eq);
            there.iter().any(|there| match there {
                There::Value(value, _) if !repeated => holds(value),
                There::Open(value) if !repeated => holds(value),
                _ => false,
            }) || (element && (repeated || there.iter().any(|there| matches!(there, There::Open(_)))))
        }
    }
}

/// How two messages stand in an ascending order by a path to at most one declared value. `None`: it is no such path.
pub(in crate::collections) fn order_of(a: &DynamicMessage, b: &DynamicMessage, path: &[&str]) -> Option<Ordering> {
    let value = |message| match follow(message, path).as_slice() {
        [] => Some(None),
        [There::Value(value, _)] => Some(Some(value.clone())),
        _ => None,
    };
    match (value(a)?, value(b)?) {
        (Some(a), Some(b)) => compare(&a, &b),
        (a, b) => Some(a.is_some().cmp(&b.is_some())),
    }
}
