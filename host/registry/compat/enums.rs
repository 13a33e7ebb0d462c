//! Enums: numbers matter on the wire, names in JSON.

use super::ranges::{Covered, reserved_values};
use super::{Names, Report, went_with_parent};
use prost_types::EnumDescriptorProto;
use std::collections::{BTreeMap, HashSet};

/// Adds what breaks in the enums of two files.
pub(super) fn compare(old: &Names<'_>, new: &Names<'_>, report: &mut Report) {
    for (name, was) in &old.enums {
        match new.enums.get(name) {
            Some(is) => compare_enum(name, was, is, report),
            None if went_with_parent(name, old, new) => {}
            None => report.add(format_args!("{name}: enum removed")),
        }
    }
}

fn compare_enum(name: &str, was: &EnumDescriptorProto, is: &EnumDescriptorProto, report: &mut Report) {
    let (before, after) = (by_number(was), by_number(is));
    let numbers = Covered::by(reserved_values(is));
    let names: HashSet<&str> = is.reserved_name.iter().map(String::as_str).collect();
    for (number, values) in &before {
        let kept = after.get(number);
        for value in values {
            let element = format_args!("{name}.{value} (value {number})");
            match kept {
                Some(kept) if kept.contains(value) => {}
                Some(kept) => report.add(format_args!("{element}: renamed to {}", kept.join(", "))),
                None => match (numbers.has((*number, *number)), names.contains(value)) {
                    (true, true) => {}
                    (true, false) => report.add(format_args!("{element}: removed without reserving its name")),
                    (false, true) => report.add(format_args!("{element}: removed without reserving its number")),
                    (false, false) => {
                        report.add(format_args!("{element}: removed without reserving its number and name"));
                    }
                },
            }
        }
    }
    for (start, end) in reserved_values(was).into_iter().filter(|range| !numbers.has(*range)) {
        report.add(format_args!("{name}: reserved range {start} to {end} removed"));
    }
    for gone in was.reserved_name.iter().filter(|gone| !names.contains(gone.as_str())) {
        report.add(format_args!("{name}: reserved name {gone} removed"));
    }
}

/// The names of each number: more than one if they are aliases.
fn by_number(of: &EnumDescriptorProto) -> BTreeMap<i32, Vec<&str>> {
    let mut all: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for value in &of.value {
        all.entry(value.number()).or_default().push(value.name());
    }
    all
}
