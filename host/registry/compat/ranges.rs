//! Number ranges of messages and enums.

use prost_types::{DescriptorProto, EnumDescriptorProto};

/// First and last number, both included.
pub(super) type Range = (i32, i32);

/// Reserved field numbers.
pub(super) fn reserved(message: &DescriptorProto) -> Vec<Range> {
    message.reserved_range.iter().map(|range| (range.start(), range.end().saturating_sub(1))).collect()
}

/// Field numbers that extensions may have.
pub(super) fn extensible(message: &DescriptorProto) -> Vec<Range> {
    message.extension_range.iter().map(|range| (range.start(), range.end().saturating_sub(1))).collect()
}

/// Reserved enum numbers.
pub(super) fn reserved_values(of: &EnumDescriptorProto) -> Vec<Range> {
    of.reserved_range.iter().map(|range| (range.start(), range.end())).collect()
}

/// Ranges to look numbers up in; ranges that touch are one.
#[derive(Debug)]
pub(super) struct Covered(Vec<Range>);

impl Covered {
    pub(super) fn by(mut ranges: Vec<Range>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    pub(super) fn has(&self, (start, end): Range) -> bool {
        let after = self.0.partition_point(|range| range.0 <= start);
        let at = after.checked_sub(1).and_then(|at| self.0.get(at));
        at.is_some_and(|range| end <= range.1)
    }
}
