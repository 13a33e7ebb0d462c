//! Messages and filters, made up.

#![expect(clippy::cast_possible_truncation, reason = "values are made up to fit, and rounding is meant")]

use super::{Means, entry_value};
use crate::collections::ask::{FieldFilter, Operator};
use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use prost_types::value::Kind as Given;

/// Makes things up, the same ones from the same seed.
#[derive(Debug)]
pub(in crate::collections) struct Dice(pub(in crate::collections) u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % count as u64) as usize
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A message with some of its fields.
    pub(in crate::collections) fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        if descriptor.full_name() == "google.protobuf.Any" {
            let inner = descriptor.parent_pool().get_message_by_name("t.Inner").unwrap();
            let url = self.pick(&["x/t.Inner", "x/t.Unknown", ""]);
            message.set_field_by_number(1, Value::String(url.into()));
            message.set_field_by_number(2, Value::Bytes(self.message(&inner, 3).encode_to_vec().into()));
            return message;
        }
        for field in descriptor.fields() {
            let deep = matches!(field.kind(), Kind::Message(_)) && depth > 4;
            if deep || self.below(if depth == 0 { 3 } else { 2 }) == 0 {
                continue;
            }
            let value = if field.is_list() {
                Value::List((0..self.below(4)).map(|_| self.value(&field.kind(), depth)).collect())
            } else if field.is_map() {
                let (key, value) = (field.kind().as_message().unwrap().map_entry_key_field(), entry_value(&field));
                let one = |dice: &mut Self| {
                    let key = match key.kind() {
                        Kind::String => Value::String(dice.pick(KEYS).into()),
                        Kind::Int32 => Value::I32(dice.pick(&[0, 7, -7])),
                        other => dice.value(&other, depth),
                    };
                    (key.into_map_key().unwrap(), dice.value(&value.kind(), depth))
                };
                Value::Map((0..self.below(4)).map(|_| one(self)).collect())
            } else {
                self.value(&field.kind(), depth)
            };
            message.set_field(&field, value);
        }
        message
    }

    fn value(&mut self, kind: &Kind, depth: usize) -> Value {
        match kind {
            Kind::Bool => Value::Bool(self.below(2) == 0),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.pick(&[0, 1, -1, 2, 5, i32::MIN, i32::MAX])),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.pick(WHOLE)),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.pick(&[0, 1, 2, u32::MAX])),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.pick(&[0, 1, 2, (1 << 53) + 1, 1 << 63, u64::MAX])),
            Kind::Float => Value::F32(self.pick(REAL) as f32),
            Kind::Double => Value::F64(self.pick(REAL)),
            Kind::String => Value::String(self.pick(TEXT).into()),
            Kind::Bytes => Value::Bytes(self.pick(BYTES).to_vec().into()),
            Kind::Enum(_) => Value::EnumNumber(self.pick(&[0, 1, 2, -5, 77])),
            Kind::Message(message) => Value::Message(self.message(message, depth + 1)),
        }
    }

    /// A path to something, and what is there.
    pub(in crate::collections) fn path(&mut self, root: &MessageDescriptor) -> (Vec<String>, Target) {
        let mut path = Vec::new();
        let mut message = root.clone();
        loop {
            if matches!(message.full_name(), "google.protobuf.Struct" | "google.protobuf.Value") {
                path.extend((0..=self.below(2)).map(|_| self.pick(KEYS).to_owned()));
                return (path, Target::Open);
            }
            if message.full_name() == "google.protobuf.Any" {
                path.push(self.pick(&["@type", "name", "nothing"]).to_owned());
                return (path, Target::Open);
            }
            let fields: Vec<FieldDescriptor> = message.fields().collect();
            let mut field = self.pick(&fields);
            path.push(if self.below(4) == 0 { field.json_name() } else { field.name() }.to_owned());
            let mut repeated = field.is_list();
            if field.is_map() {
                let key = field.kind().as_message().unwrap().map_entry_key_field().kind();
                field = entry_value(&field);
                repeated = self.below(2) == 0;
                if !repeated {
                    path.push(match key {
                        Kind::String => self.pick(KEYS).to_owned(),
                        Kind::Bool => "true".to_owned(),
                        _ => self.pick(&["0", "7", "-7"]).to_owned(),
                    });
                }
                if repeated {
                    return (path, Target::Value(field.kind(), true));
                }
            }
            match field.kind() {
                Kind::Message(inside) if self.below(4) > 0 => {
                    let name = inside.full_name();
                    let open =
                        matches!(name, "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.Any");
                    if name.starts_with("google.") && !open {
                        return (path, Target::Value(Kind::Message(inside), repeated));
                    }
                    message = inside;
                }
                kind => return (path, Target::Value(kind, repeated)),
            }
        }
    }

    /// A filter in the words of a request, its path in parts, and what its values mean.
    pub(in crate::collections) fn filter(
        &mut self,
        root: &MessageDescriptor,
    ) -> (FieldFilter, Vec<String>, Vec<Means>) {
        let (path, target) = self.path(root);
        let exists = [Operator::Exists, Operator::NotExists];
        let equal = [Operator::Exists, Operator::NotExists, Operator::Equals, Operator::NotEquals, Operator::In];
        let all = [
            Operator::Equals,
            Operator::NotEquals,
            Operator::GreaterThan,
            Operator::LessThan,
            Operator::GreaterEqual,
            Operator::LessEqual,
            Operator::In,
            Operator::Exists,
            Operator::NotExists,
            Operator::Contains,
        ];
        let operators = match &target {
            Target::Value(Kind::Bytes, _) => &equal[..],
            Target::Value(Kind::Message(inside), _) if !is_value(inside) => &exists[..],
            Target::Open => &all[..],
            Target::Value(kind, repeated) if *repeated || is_text(kind) => &all[..],
            Target::Value(..) => &all[..9],
        };
        let operator = self.pick(operators);
        let count = match operator {
            Operator::Exists | Operator::NotExists => 0,
            Operator::In => self.below(4),
            _ => 1,
        };
        let (values, meant): (Vec<_>, Vec<_>) = (0..count).map(|_| self.literal(&target)).unzip();
        let given = |kind| prost_types::Value { kind: Some(kind) };
        let values: Vec<prost_types::Value> = values.into_iter().map(given).collect();
        let value = match operator {
            Operator::In => Some(given(Given::ListValue(prost_types::ListValue { values }))),
            _ => values.into_iter().next(),
        };
        (FieldFilter { path: path.join("."), operator, value }, path, meant)
    }

    fn literal(&mut self, target: &Target) -> (Given, Means) {
        let kind = match target {
            Target::Value(kind, _) => kind.clone(),
            Target::Open => self.pick(&[Kind::Bool, Kind::Double, Kind::String]),
        };
        match &kind {
            Kind::Bool => {
                let value = self.below(2) == 0;
                (Given::BoolValue(value), Means::Bool(value))
            }
            Kind::String => {
                let text = self.pick(TEXT).to_owned();
                (Given::StringValue(text.clone()), Means::Text(text))
            }
            Kind::Bytes => {
                use base64::Engine as _;
                let bytes = self.pick(BYTES);
                let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
                (Given::StringValue(text), Means::Bytes(bytes.to_vec()))
            }
            Kind::Double | Kind::Float if matches!(target, Target::Open) => {
                let number = self.pick(&REAL[..6]);
                (Given::NumberValue(number), Means::Real(number))
            }
            Kind::Double | Kind::Float => {
                let number = self.pick(REAL);
                let given = match self.below(2) {
                    0 => Given::NumberValue(number),
                    _ if number.is_infinite() => Given::StringValue(format!("{number}").replace("inf", "Infinity")),
                    _ => Given::StringValue(number.to_string()),
                };
                let single = matches!(kind, Kind::Float);
                (given, Means::Real(if single { f64::from(number as f32) } else { number }))
            }
            Kind::Enum(_) if self.below(2) == 0 => {
                let (name, number) = self.pick(&[("NONE", 0), ("RED", 1), ("BELOW", -5)]);
                (Given::StringValue(name.into()), Means::Whole(number))
            }
            Kind::Enum(_) => (Given::NumberValue(77.0), Means::Whole(77)),
            Kind::Message(inside) => self.well_known(inside.full_name()),
            _ => match self.below(3) {
                0 => {
                    let number = self.pick(&[0.0, 1.0, 2.5, -0.5, -1.0, 1e30, -1e30, 9_007_199_254_740_992.0, 9.3e18]);
                    (Given::NumberValue(number), Means::Real(number))
                }
                1 => {
                    let number = self.pick(WHOLE);
                    (Given::StringValue(number.to_string()), Means::Whole(number.into()))
                }
                _ => {
                    let number = self.pick(&[u64::MAX, 1 << 63, 2, (1 << 53) + 1]);
                    (Given::StringValue(number.to_string()), Means::Whole(number.into()))
                }
            },
        }
    }

    fn well_known(&mut self, name: &str) -> (Given, Means) {
        let (text, meant) = match name {
            "google.protobuf.Timestamp" => self.pick(&[
                ("1970-01-01T00:00:00Z", Means::Time(0)),
                ("1970-01-01T02:00:01.0000000010+02:00", Means::Time(1_000_000_001)),
                ("1969-12-31T23:59:59.5Z", Means::Time(-500_000_000)),
            ]),
            "google.protobuf.Duration" => self.pick(&[
                ("0s", Means::Time(0)),
                ("-0.5s", Means::Time(-500_000_000)),
                ("1.000000001s", Means::Time(1_000_000_001)),
            ]),
            "google.protobuf.FieldMask" => {
                self.pick(&[("", Means::Text(String::new())), ("a,abC", Means::Text("a,abC".into()))])
            }
            "google.protobuf.StringValue" => return self.literal(&Target::Value(Kind::String, false)),
            "google.protobuf.Int64Value" => return self.literal(&Target::Value(Kind::Int64, false)),
            "google.protobuf.UInt64Value" => return self.literal(&Target::Value(Kind::Uint64, false)),
            _ => return self.literal(&Target::Open),
        };
        (Given::StringValue(text.into()), meant)
    }
}

/// What is at the end of a path.
#[derive(Debug)]
pub(in crate::collections) enum Target {
    /// Of that kind; one of several, or one.
    Value(Kind, bool),
    Open,
}

fn is_value(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("google.protobuf.")
}

fn is_text(kind: &Kind) -> bool {
    let texts =
        ["google.protobuf.StringValue", "google.protobuf.Value", "google.protobuf.Struct", "google.protobuf.Any"];
    matches!(kind, Kind::String) || kind.as_message().is_some_and(|message| texts.contains(&message.full_name()))
}

const WHOLE: &[i64] = &[0, 1, -1, 2, 5, (1 << 53) + 1, i64::MAX, i64::MIN];
const REAL: &[f64] = &[0.0, 1.0, -1.5, 2.5, 0.1, 1e300, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324];
const TEXT: &[&str] = &["", "a", "b", "ab", "abc", "é", "\u{0}\u{1f}", "quote\"\\", "NaN", "1", "a_c", "\u{10ffff}"];
const KEYS: &[&str] = &["a", "b", "é"];
const BYTES: &[&[u8]] = &[b"", b"\0", b"\xff\xfe", &[7; 40], &[8; 40]];
