//! A message type, laid out for reading many messages of it.

use super::wire::Wire;
use crate::collections::form::{Holds, default_number};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;
use std::rc::Rc;

/// How many values a field has.
#[derive(Debug)]
pub(super) enum Many {
    One,
    List,
    /// With the key's kind and the value's default.
    Map(Kind, Wire<'static>),
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) descriptor: FieldDescriptor,
    pub(super) number: u32,
    pub(super) many: Many,
    /// Of the value, the elements, or the map's values.
    pub(super) holds: Holds,
    /// Which oneof of the message, if several fields share it.
    pub(super) oneof: Option<usize>,
    /// What it is where it is not on the wire: for fields without presence.
    pub(super) default: Option<Wire<'static>>,
}

/// A message type: its fields by number, ascending.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) fields: Vec<Field>,
    /// Which of them are there even if they are not on the wire.
    pub(super) always: Vec<usize>,
}

impl Layout {
    pub(super) fn of(message: &MessageDescriptor) -> Self {
        let oneofs: HashMap<u32, usize> = message
            .oneofs()
            .enumerate()
            .filter(|(_, oneof)| oneof.fields().len() > 1)
            .flat_map(|(at, oneof)| oneof.fields().map(move |field| (field.number(), at)).collect::<Vec<_>>())
            .collect();
        let fields: Vec<Field> = message.fields().map(|field| Field::of(field, &oneofs)).collect();
        let always = (0..).zip(&fields).filter(|(_, field)| field.default.is_some()).map(|(at, _)| at).collect();
        Self { fields, always }
    }

    pub(super) fn find(&self, number: u32) -> Option<(usize, &Field)> {
        // Most types number their fields from 1 on.
        let likely = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        if let Some(at) = likely
            && let Some(field) = self.fields.get(at).filter(|field| field.number == number)
        {
            return Some((at, field));
        }
        let at = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        self.fields.get(at).map(|field| (at, field))
    }
}

impl Field {
    fn of(descriptor: FieldDescriptor, oneofs: &HashMap<u32, usize>) -> Self {
        let number = descriptor.number();
        let oneof = oneofs.get(&number).copied();
        let kind = descriptor.kind();
        let entry = kind.as_message().filter(|message| message.is_map_entry()).cloned();
        let repeated = descriptor.cardinality() == Cardinality::Repeated;
        if let Some(entry) = entry.filter(|_| repeated)
            && let (Some(key), Some(value)) = (entry.get_field(1), entry.get_field(2))
        {
            let many = Many::Map(key.kind(), default_wire(&value, &value.kind()));
            return Self { number, many, holds: Holds::of(value.kind()), oneof, default: None, descriptor };
        }
        let implicit = !repeated && !descriptor.supports_presence();
        let default = implicit.then(|| default_wire(&descriptor, &kind));
        let many = if repeated { Many::List } else { Many::One };
        Self { number, many, holds: Holds::of(kind), oneof, default, descriptor }
    }
}

fn default_wire(field: &FieldDescriptor, kind: &Kind) -> Wire<'static> {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64(0),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32(0),
        Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Run(&[]),
        Kind::Enum(_) => Wire::Varint(i64::from(default_number(field)).cast_unsigned()),
        _ => Wire::Varint(0),
    }
}

/// The layouts of the types that were met, so that a thousand messages of one type cost one.
#[derive(Debug, Default)]
pub(super) struct Layouts(HashMap<String, Rc<Layout>>);

impl Layouts {
    pub(super) fn of(&mut self, message: &MessageDescriptor) -> Rc<Layout> {
        if let Some(known) = self.0.get(message.full_name()) {
            return Rc::clone(known);
        }
        let layout = Rc::new(Layout::of(message));
        self.0.insert(message.full_name().to_owned(), Rc::clone(&layout));
        layout
    }
}
