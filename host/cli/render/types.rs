//! Messages, fields and enums.

use super::Text;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};
use std::collections::BTreeMap;
use std::fmt::Display;

/// One above the largest field number. Source: the protobuf language guide, `to max`.
const FIELD_END: i32 = 536_870_912;

impl Text<'_> {
    pub(super) fn message(&mut self, message: &DescriptorProto) {
        let options = message.options.as_ref();
        self.block(&format!("message {}", message.name()), |text| {
            text.option(options.is_some_and(|options| options.deprecated()), "deprecated = true");
            text.reserved(message);
            text.fields(message);
            for range in &message.extension_range {
                text.line(&format!("extensions {};", range_of(range.start(), range.end() - 1, FIELD_END - 1)));
            }
            for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
                text.message(nested);
            }
            for one in &message.enum_type {
                text.enumeration(one);
            }
            text.extensions(&message.extension);
        });
    }

    fn reserved(&mut self, message: &DescriptorProto) {
        let ranges = message.reserved_range.iter();
        let ranges = ranges.map(|range| range_of(range.start(), range.end() - 1, FIELD_END - 1));
        self.list("reserved", ranges);
        self.list("reserved", message.reserved_name.iter().map(|name| format!("\"{name}\"")));
    }

    fn list(&mut self, word: &str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        if !items.is_empty() {
            self.line(&format!("{word} {};", items.join(", ")));
        }
    }

    /// Fields in their order; a oneof stands where its first case does.
    fn fields(&mut self, message: &DescriptorProto) {
        let mut shown = Vec::new();
        for field in &message.field {
            let Some(index) = field.oneof_index.filter(|_| !field.proto3_optional()) else {
                self.field(field, message);
                continue;
            };
            if shown.contains(&index) {
                continue;
            }
            shown.push(index);
            let oneof = usize::try_from(index).ok().and_then(|at| message.oneof_decl.get(at));
            self.block(&format!("oneof {}", oneof.map(|oneof| oneof.name()).unwrap_or_default()), |text| {
                for case in message.field.iter().filter(|case| case.oneof_index == Some(index)) {
                    text.declare("", case, message);
                }
            });
        }
    }

    fn field(&mut self, field: &FieldDescriptorProto, message: &DescriptorProto) {
        let label = match field.label() {
            _ if map_entry(field, message).is_some() => "",
            Label::Repeated => "repeated ",
            Label::Required => "required ",
            Label::Optional if field.proto3_optional() || !self.scope.proto3 => "optional ",
            Label::Optional => "",
        };
        self.declare(label, field, message);
    }

    fn declare(&mut self, label: &str, field: &FieldDescriptorProto, message: &DescriptorProto) {
        let kind = match map_entry(field, message).map(|entry| &entry.field[..]) {
            Some([key, value]) => format!("map<{}, {}>", self.kind(key), self.kind(value)),
            _ => self.kind(field),
        };
        let options = options(field);
        self.line(&format!("{label}{kind} {} = {}{options};", field.name(), field.number()));
    }

    fn kind(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type() {
            Type::Message | Type::Enum | Type::Group => self.scope.name(field.type_name()).to_owned(),
            // TYPE_SFIXED32 is sfixed32.
            scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
        }
    }

    pub(super) fn enumeration(&mut self, one: &EnumDescriptorProto) {
        let options = one.options.as_ref();
        self.block(&format!("enum {}", one.name()), |text| {
            text.option(options.is_some_and(|options| options.allow_alias()), "allow_alias = true");
            text.option(options.is_some_and(|options| options.deprecated()), "deprecated = true");
            let ranges = one.reserved_range.iter();
            text.list("reserved", ranges.map(|range| range_of(range.start(), range.end(), i32::MAX)));
            text.list("reserved", one.reserved_name.iter().map(|name| format!("\"{name}\"")));
            for value in &one.value {
                let deprecated = value.options.as_ref().is_some_and(|options| options.deprecated());
                let options = if deprecated { " [deprecated = true]" } else { "" };
                text.line(&format!("{} = {}{options};", value.name(), value.number()));
            }
        });
    }

    /// Extensions by the message that they extend.
    pub(super) fn extensions(&mut self, extensions: &[FieldDescriptorProto]) {
        let mut by_message: BTreeMap<&str, Vec<&FieldDescriptorProto>> = BTreeMap::new();
        for extension in extensions {
            by_message.entry(extension.extendee()).or_default().push(extension);
        }
        let none = DescriptorProto::default();
        for (message, fields) in by_message {
            if self.depth == 0 {
                self.line("");
            }
            self.block(&format!("extend {}", self.scope.name(message)), |text| {
                for field in fields {
                    text.field(field, &none);
                }
            });
        }
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

/// The nested message that stands for a map's pairs.
fn map_entry<'a>(field: &FieldDescriptorProto, message: &'a DescriptorProto) -> Option<&'a DescriptorProto> {
    let name = field.type_name().rsplit('.').next()?;
    let entry = message.nested_type.iter().find(|nested| is_map_entry(nested) && nested.name() == name)?;
    (field.label() == Label::Repeated && field.r#type() == Type::Message).then_some(entry)
}

/// `3`, `3 to 5`, `3 to max`.
fn range_of(start: i32, last: i32, max: i32) -> String {
    match last {
        last if last == start => start.to_string(),
        last if last == max => format!("{start} to max"),
        last => format!("{start} to {last}"),
    }
}

fn options(field: &FieldDescriptorProto) -> String {
    let options = field.options.as_ref();
    let mut shown = Vec::new();
    let mut add = |name: &str, value: &dyn Display| shown.push(format!("{name} = {value}"));
    if let Some(value) = &field.default_value {
        match field.r#type() {
            Type::String => add("default", &format!("{value:?}")),
            Type::Bytes => add("default", &format!("\"{value}\"")),
            _ => add("default", value),
        }
    }
    if field.json_name.as_ref().is_some_and(|name| *name != camel(field.name())) {
        add("json_name", &format!("{:?}", field.json_name()));
    }
    if let Some(packed) = options.and_then(|options| options.packed) {
        add("packed", &packed);
    }
    if options.is_some_and(|options| options.deprecated()) {
        add("deprecated", &true);
    }
    if shown.is_empty() { String::new() } else { format!(" [{}]", shown.join(", ")) }
}

/// The name that JSON has for a field unless told otherwise. Source: the ProtoJSON format.
fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut capital = false;
    for letter in name.chars() {
        match letter {
            '_' => capital = true,
            letter if capital => {
                camel.push(letter.to_ascii_uppercase());
                capital = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}
