//! An example of a message: every field with a plausible value.

use prost::Message as _;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    SerializeOptions, Value,
};
use std::collections::HashMap;

/// How often a type may stand within itself: once shows that it can.
const SAME_TYPE: usize = 2;
/// How deep messages may stand within each other.
const DEPTH: usize = 8;
/// Messages in one example: a type with many fields of types with many fields is no example any more.
const MESSAGES: usize = 500;

/// A message with every field set: lists and maps with one element, oneofs with their first case, enums with their
/// first value that is not 0. Where types repeat without end, or too deep, fields stay empty.
pub(super) fn example(message: &MessageDescriptor) -> DynamicMessage {
    Filler { path: Vec::new(), left: MESSAGES }.fill(message)
}

/// A message as JSON for people, fields in the order of their numbers.
pub(super) fn pretty(message: &DynamicMessage) -> Result<String, serde_json::Error> {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::pretty(&mut text);
    message.serialize_with_options(&mut writer, &SerializeOptions::new().skip_default_fields(false))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

struct Filler {
    /// Full names of the messages around.
    path: Vec<String>,
    left: usize,
}

impl Filler {
    fn fill(&mut self, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        self.left = self.left.saturating_sub(1);
        self.path.push(descriptor.full_name().to_owned());
        if !well_known(&mut message) {
            for field in descriptor.fields().filter(|field| !is_choice(field)) {
                self.set(&mut message, &field);
            }
            for oneof in descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()) {
                // The first case that fits: one that repeats its own type may not.
                let _ = oneof.fields().any(|field| self.set(&mut message, &field));
            }
        }
        self.path.pop();
        message
    }

    /// * returns: whether there is a value for it.
    fn set(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> bool {
        let value = self.field(field);
        value.is_some_and(|value| message.try_set_field(field, value).is_ok())
    }

    fn field(&mut self, field: &FieldDescriptor) -> Option<Value> {
        let kind = field.kind();
        if field.is_map() {
            let entry = kind.as_message()?.clone();
            let key = map_key(&entry.map_entry_key_field().kind())?;
            let value = self.value(&entry.map_entry_value_field().kind(), "value")?;
            return Some(Value::Map(HashMap::from([(key, value)])));
        }
        let value = self.value(&kind, field.name())?;
        Some(if field.is_list() { Value::List(vec![value]) } else { value })
    }

    fn value(&mut self, kind: &Kind, name: &str) -> Option<Value> {
        Some(match kind {
            Kind::Double => Value::F64(1.5),
            Kind::Float => Value::F32(1.5),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(1),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(1),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(1),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(1),
            Kind::Bool => Value::Bool(true),
            Kind::String => Value::String(text(name)),
            Kind::Bytes => Value::Bytes(b"bytes"[..].into()),
            Kind::Enum(one) => Value::EnumNumber(first(one)),
            Kind::Message(message) if self.has_room(message) => Value::Message(self.fill(message)),
            Kind::Message(_) => return None,
        })
    }

    fn has_room(&self, message: &MessageDescriptor) -> bool {
        let same = self.path.iter().filter(|around| *around == message.full_name()).count();
        same < SAME_TYPE && self.path.len() < DEPTH && self.left > 0
    }
}

/// Whether the field is one case of several.
fn is_choice(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

/// The first value, as declared, that is not 0: that one mostly stands for nothing.
fn first(one: &EnumDescriptor) -> i32 {
    let mut declared = one.enum_descriptor_proto().value.iter().map(|value| value.number());
    declared.find(|number| *number != 0).unwrap_or(one.default_value().number())
}

fn map_key(kind: &Kind) -> Option<MapKey> {
    Some(match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(1),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(1),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(1),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(1),
        Kind::Bool => MapKey::Bool(true),
        Kind::String => MapKey::String("key".to_owned()),
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

/// Words that suit a field of this name.
fn text(name: &str) -> String {
    let last = name.rsplit('_').next().unwrap_or(name);
    match last {
        "name" => "Ada",
        "email" => "ada@example.com",
        "url" | "uri" => "https://example.com/",
        "namespace" => "default",
        "id" => "id-1",
        "" => "text",
        _ => name,
    }
    .to_owned()
}

/// Fills a type whose JSON is not that of its fields, or whose fields do not take any value.
///
/// * returns: false if it is none of those.
fn well_known(message: &mut DynamicMessage) -> bool {
    let set = |message: &mut DynamicMessage, pairs: &[(&str, Value)]| {
        pairs.iter().all(|(name, value)| message.try_set_field_by_name(name, value.clone()).is_ok())
    };
    let (descriptor, text) = (message.descriptor(), || Value::String("text".to_owned()));
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => set(message, &[("seconds", Value::I64(1_767_323_045))]), // 2026-01-02T03:04:05Z
        "google.protobuf.Duration" => set(message, &[("seconds", Value::I64(1)), ("nanos", Value::I32(500_000_000))]),
        "google.protobuf.FieldMask" => set(message, &[("paths", Value::List(vec![Value::String("name".to_owned())]))]),
        "google.protobuf.Value" => set(message, &[("string_value", text())]),
        "google.protobuf.Any" => {
            let content = descriptor.parent_pool().get_message_by_name("google.protobuf.StringValue");
            content.is_some_and(|content| {
                let url = format!("type.googleapis.com/{}", content.full_name());
                let mut content = DynamicMessage::new(content);
                set(&mut content, &[("value", text())]);
                let value = Value::Bytes(content.encode_to_vec().into());
                set(message, &[("type_url", Value::String(url)), ("value", value)])
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::parse_all;
    use super::super::render::tests::compile;
    use super::*;

    const PROTO: &str = r#"
        syntax = "proto3";
        package t.v1;
        import "google/protobuf/any.proto";
        import "google/protobuf/duration.proto";
        import "google/protobuf/empty.proto";
        import "google/protobuf/field_mask.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        enum Colour { NONE = 0; RED = 5; BLUE = 2; }
        enum Lonely { ALONE = 0; }
        message Tree { string name = 1; Tree left = 2; repeated Tree others = 3; map<string, Tree> named = 4; }
        message All {
          double a = 1; float b = 2; int32 c = 3; int64 d = 4; uint32 e = 5; uint64 f = 6; sint32 g = 7; sint64 h = 8;
          fixed32 i = 9; fixed64 j = 10; sfixed32 k = 11; sfixed64 l = 12; bool m = 13; string user_name = 14; bytes o = 15;
          Colour colour = 16; Lonely lonely = 17; Tree tree = 18; repeated int32 list = 19; repeated Tree trees = 20;
          map<int64, Colour> colours = 21; map<bool, Tree> forest = 22; map<string, bytes> blobs = 23;
          oneof choice { Tree first = 24; string second = 25; }
          optional string maybe = 26;
          google.protobuf.Any any = 30; google.protobuf.Duration duration = 31; google.protobuf.Empty empty = 32;
          google.protobuf.FieldMask mask = 33; google.protobuf.Struct object = 34; google.protobuf.Value value = 35;
          google.protobuf.ListValue values = 36; google.protobuf.NullValue null = 37;
          google.protobuf.Timestamp time = 38; google.protobuf.StringValue text = 39; google.protobuf.Int64Value number = 40;
          repeated google.protobuf.Any anys = 41;
        }
        message Loop { oneof next { Loop loop = 1; string end = 2; } }
        message Wide { Wide a = 1; Other b = 2; Other c = 3; Third d = 4; Third e = 5; }
        message Other { Wide a = 1; Third b = 2; Third c = 3; Wide d = 4; }
        message Third { Other a = 1; Wide b = 2; Other c = 3; Wide d = 4; repeated Wide f = 5; }
        message Nothing {}
    "#;

    fn example_of(name: &str) -> (MessageDescriptor, serde_json::Value) {
        let descriptor = compile(PROTO).get_message_by_name(name).unwrap();
        let text = pretty(&example(&descriptor)).unwrap();
        let back = parse_all(&descriptor, text.as_bytes()).unwrap_or_else(|why| panic!("{why}: {text}"));
        let bytes =
            |messages: &[DynamicMessage]| messages.iter().map(DynamicMessage::encode_to_vec).collect::<Vec<_>>();
        assert_eq!(bytes(&back), bytes(&[example(&descriptor)]), "JSON is the message: {text}");
        (descriptor, serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn every_field_of_every_kind_has_a_value_that_reads_back() {
        let (descriptor, json) = example_of("t.v1.All");
        for field in descriptor.fields().filter(|field| field.name() != "second") {
            assert!(json.get(field.json_name()).is_some(), "{} in {json}", field.name());
        }
        assert!(json.get("second").is_none(), "one case of a oneof");
        assert_eq!((&json["colour"], &json["lonely"]), (&"RED".into(), &"ALONE".into()));
        assert_eq!((&json["d"], &json["userName"], &json["maybe"]), (&"1".into(), &"Ada".into(), &"maybe".into()));
        assert_eq!(json["colours"], serde_json::json!({ "1": "RED" }));
        assert_eq!(json["time"], "2026-01-02T03:04:05Z");
        assert_eq!(json["duration"], "1.500s");
        assert_eq!(json["any"]["@type"], "type.googleapis.com/google.protobuf.StringValue");
        assert_eq!(json["object"], serde_json::json!({ "key": "text" }));
    }

    #[test]
    fn recursion_is_shown_once_and_ends() {
        let (_, json) = example_of("t.v1.Tree");
        assert_eq!(json["left"]["name"], "Ada");
        assert!(json["left"].get("left").is_none());
        assert_eq!(json["named"]["key"]["others"], serde_json::json!([]));
        let (_, json) = example_of("t.v1.Loop");
        assert_eq!(json, serde_json::json!({ "loop": { "end": "end" } }), "the next case where the first repeats");
        let (_, json) = example_of("t.v1.Wide");
        assert!(json.to_string().len() < 100_000, "bounded");
        assert_eq!(example_of("t.v1.Nothing").1, serde_json::json!({}));
    }

    #[test]
    fn well_known_types_are_examples_too() {
        for name in ["Any", "Duration", "Empty", "FieldMask", "Struct", "Value", "ListValue", "Timestamp", "BytesValue"]
        {
            example_of(&format!("google.protobuf.{name}"));
        }
    }
}
