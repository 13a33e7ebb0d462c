//! Messages, their fields, and extensions.

use super::super::vet::json_name;
use super::ranges::{Covered, extensible, reserved};
use super::{Names, Report, join, went_with_parent};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

/// Adds what breaks in the messages of two files.
pub(super) fn compare(old: &Names<'_>, new: &Names<'_>, report: &mut Report) {
    for (name, was) in &old.messages {
        match new.messages.get(name) {
            Some(is) => {
                compare_fields(&Side { names: old, scope: name }, was, &Side { names: new, scope: name }, is, report);
                compare_ranges(name, was, is, report);
            }
            None if went_with_parent(name, old, new) => {}
            None => report.add(format_args!("{name}: message removed")),
        }
    }
}

/// Adds what breaks in the extensions of two files, nested ones too.
pub(super) fn compare_extensions(old: &Names<'_>, new: &Names<'_>, report: &mut Report) {
    for ((extendee, number), was) in &old.extensions {
        let element = format!("{} (extension {number} of {extendee})", was.name);
        let Some(is) = new.extensions.get(&(extendee.clone(), *number)) else {
            report.add(format_args!("{element}: removed"));
            continue;
        };
        if was.name != is.name {
            report.add(format_args!("{element}: renamed to {}", is.name));
        }
        let old = Side { names: old, scope: &was.scope };
        let new = Side { names: new, scope: &is.scope };
        compare_use(&element, (&old, was.field), (&new, is.field), report);
    }
}

/// Where a field stands: what its type name means depends on it.
struct Side<'a> {
    names: &'a Names<'a>,
    scope: &'a str,
}

fn compare_fields(old: &Side<'_>, was: &DescriptorProto, new: &Side<'_>, is: &DescriptorProto, report: &mut Report) {
    let (before, after) = (by_number(was), by_number(is));
    let numbers = Covered::by(reserved(is));
    let names: HashSet<&str> = is.reserved_name.iter().map(String::as_str).collect();
    let (old_oneofs, new_oneofs) = (oneofs(was), oneofs(is));
    for (number, field) in &before {
        let element = format!("{} (field {number})", join(old.scope, field.name()));
        if let Some(now) = after.get(number) {
            compare_names(&element, field, now, report);
            compare_use(&element, (old, field), (new, now), report);
            compare_oneof(&element, old_oneofs.get(number), new_oneofs.get(number), report);
            continue;
        }
        match (field.label() == Label::Required, numbers.has((*number, *number)), names.contains(field.name())) {
            (true, ..) => report.add(format_args!("{element}: required field removed")),
            (_, true, true) => {}
            (_, true, false) => report.add(format_args!("{element}: removed without reserving its name")),
            (_, false, true) => report.add(format_args!("{element}: removed without reserving its number")),
            (..) => report.add(format_args!("{element}: removed without reserving its number and name")),
        }
    }
    for (number, field) in after.iter().filter(|(number, _)| !before.contains_key(*number)) {
        if field.label() == Label::Required {
            report.add(format_args!("{}.{} (field {number}): required field added", new.scope, field.name()));
        }
    }
}

fn by_number(message: &DescriptorProto) -> BTreeMap<i32, &FieldDescriptorProto> {
    message.field.iter().map(|field| (field.number(), field)).collect()
}

fn compare_ranges(name: &str, was: &DescriptorProto, is: &DescriptorProto, report: &mut Report) {
    for (what, was, is) in [("reserved", reserved(was), reserved(is)), ("extension", extensible(was), extensible(is))] {
        let is = Covered::by(is);
        for (start, end) in was.into_iter().filter(|range| !is.has(*range)) {
            report.add(format_args!("{name}: {what} range {start} to {end} removed"));
        }
    }
    let names: HashSet<&String> = is.reserved_name.iter().collect();
    for gone in was.reserved_name.iter().filter(|gone| !names.contains(gone)) {
        report.add(format_args!("{name}: reserved name {gone} removed"));
    }
}

/// JSON is read by JSON name and by field name, so both must stay.
fn compare_names(element: &str, was: &FieldDescriptorProto, is: &FieldDescriptorProto, report: &mut Report) {
    if was.name() != is.name() {
        report.add(format_args!("{element}: renamed to {}", is.name()));
    }
    let (old, new) = (json(was), json(is));
    if old != new
        && (was.name() == is.name() || was.json_name.as_deref().is_some_and(|set| set != json_name(was.name())))
    {
        report.add(format_args!("{element}: JSON name changed from {old} to {new}"));
    }
}

fn json(field: &FieldDescriptorProto) -> Cow<'_, str> {
    let set = field.json_name.as_deref().filter(|name| !name.is_empty());
    set.map_or_else(|| json_name(field.name()).into(), Cow::from)
}

/// The real oneof of each field that has one, with how many fields share it. The oneof behind a proto3 `optional` is
/// none.
fn oneofs(message: &DescriptorProto) -> BTreeMap<i32, (&str, usize)> {
    let real = |field: &&FieldDescriptorProto| field.oneof_index.is_some() && !field.proto3_optional();
    let mut sizes: BTreeMap<i32, usize> = BTreeMap::new();
    for field in message.field.iter().filter(real) {
        *sizes.entry(field.oneof_index()).or_default() += 1;
    }
    let named = message.field.iter().filter(real).filter_map(|field| {
        let oneof = usize::try_from(field.oneof_index()).ok().and_then(|at| message.oneof_decl.get(at))?;
        Some((field.number(), (oneof.name(), sizes.get(&field.oneof_index()).copied().unwrap_or(0))))
    });
    named.collect()
}

/// A oneof of one field means nothing on the wire, so a field may move into and out of it.
fn compare_oneof(element: &str, was: Option<&(&str, usize)>, is: Option<&(&str, usize)>, report: &mut Report) {
    let shared = [was, is].into_iter().flatten().any(|(_, fields)| *fields > 1);
    let name = |of: Option<&(&str, usize)>| of.map_or("no oneof".to_owned(), |(name, _)| format!("oneof {name}"));
    if shared && was.map(|(name, _)| name) != is.map(|(name, _)| name) {
        report.add(format_args!("{element}: moved from {} to {}", name(was), name(is)));
    }
}

/// How many values, of which type, and which when there is none.
fn compare_use(
    element: &str,
    was: (&Side<'_>, &FieldDescriptorProto),
    is: (&Side<'_>, &FieldDescriptorProto),
    report: &mut Report,
) {
    let (old_map, new_map) = (entry(was), entry(is));
    let (old_many, new_many) = (cardinality(was.1, old_map.is_some()), cardinality(is.1, new_map.is_some()));
    if old_many != new_many {
        report.add(format_args!("{element}: changed from {old_many} to {new_many}"));
    }
    match (old_map, new_map) {
        (Some(old_entry), Some(new_entry)) => {
            for (what, number) in [("map key", 1), ("map value", 2)] {
                let find = |entry: &DescriptorProto| entry.field.iter().find(|field| field.number() == number).cloned();
                if let (Some(old), Some(new)) = (find(old_entry), find(new_entry)) {
                    compare_type(element, &format!("{what} "), (was.0, &old), (is.0, &new), report);
                }
            }
        }
        (None, None) => compare_type(element, "", was, is, report),
        // A map became a list or the other way round, which has been told.
        _ => {}
    }
    if was.1.default_value != is.1.default_value {
        let shown = |field: &FieldDescriptorProto| field.default_value.clone().unwrap_or_else(|| "none".to_owned());
        report.add(format_args!("{element}: default value changed from {} to {}", shown(was.1), shown(is.1)));
    }
}

/// The map entry of a map field.
fn entry<'a>((side, field): (&Side<'a>, &FieldDescriptorProto)) -> Option<&'a DescriptorProto> {
    if field.label() != Label::Repeated || kind(field) != Some(Type::Message) {
        return None;
    }
    side.names.entries.get(&side.names.resolve(side.scope, field.type_name())).copied()
}

fn cardinality(field: &FieldDescriptorProto, is_map: bool) -> &'static str {
    match field.label() {
        Label::Repeated if is_map => "map",
        Label::Repeated => "repeated",
        Label::Required => "required",
        // With or without presence: the wire does not tell them apart.
        Label::Optional => "singular",
    }
}

fn kind(field: &FieldDescriptorProto) -> Option<Type> {
    field.r#type.and_then(|kind| Type::try_from(kind).ok())
}

fn compare_type(
    element: &str,
    what: &str,
    was: (&Side<'_>, &FieldDescriptorProto),
    is: (&Side<'_>, &FieldDescriptorProto),
    report: &mut Report,
) {
    let (old, new) = (shown_type(was), shown_type(is));
    let compatible = match (kind(was.1), kind(is.1)) {
        (Some(old), Some(new)) => group(old).is_some_and(|group_of_old| group(new) == Some(group_of_old)),
        _ => false,
    };
    if old != new && !compatible {
        report.add(format_args!("{element}: {what}type changed from {old} to {new}"));
    }
}

/// Types of one group read each other's bytes and JSON; all others only their own. Source: buf,
/// `FIELD_WIRE_JSON_COMPATIBLE_TYPE`. Stricter than buf in one thing: another enum is another type, even if it has all
/// the values.
fn group(kind: Type) -> Option<u8> {
    match kind {
        Type::Int32 | Type::Uint32 => Some(1),
        Type::Int64 | Type::Uint64 => Some(2),
        Type::Fixed32 | Type::Sfixed32 => Some(3),
        Type::Fixed64 | Type::Sfixed64 => Some(4),
        _ => None,
    }
}

/// `int64`, `message shop.v1.Line`.
fn shown_type((side, field): (&Side<'_>, &FieldDescriptorProto)) -> String {
    let Some(kind) = kind(field) else { return "unknown".to_owned() };
    let word = kind.as_str_name().trim_start_matches("TYPE_").to_lowercase();
    match kind {
        Type::Message | Type::Group | Type::Enum => {
            format!("{word} {}", side.names.resolve(side.scope, field.type_name()))
        }
        _ => word,
    }
}
