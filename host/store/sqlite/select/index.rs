//! Indexes on paths. The expressions here are the only text from outside that becomes part of a statement: names of
//! members that are of letters, digits and `_`.
//!
//! A path has an index on its value (`x<no>_<index>`). A loose one leads somewhere else where an array is on the way: a
//! second, small index (`s<no>_<index>`) has just those rows, so that they can be looked at one by one.

use crate::store::{Path, Scalar, Step, Test};

/// Characters of a text by which it is ordered and kept in an index. 256: an order and the making of an index hold the
/// keys of many records in memory, and records may have texts of megabytes.
const KEY_CHARS: usize = 256;
/// Bytes above which a text is cut to that: no shorter text is.
const KEY_BYTES: usize = 4 * KEY_CHARS;

/// What records are ordered by, given the expression of a value. A text that is cut ends in the last character that there
/// is: above all that it may be compared with, but for texts that are as long.
pub(super) fn key(value: &str) -> String {
    format!(
        "(CASE WHEN octet_length({value}) > {KEY_BYTES} THEN substr({value}, 1, {KEY_CHARS}) || char(1114111) ELSE {value} END)"
    )
}

/// Whether keys tell all that is asked of their values: no text is so long that theirs would have to be looked at.
pub(super) fn keys_tell(test: &Test) -> bool {
    let short = |value: &Scalar| !matches!(value, Scalar::Text(text) if text.chars().count() >= KEY_CHARS);
    match test {
        Test::Compare(_, value) => short(value),
        Test::In(values) => values.iter().all(short),
        Test::Substring(_) | Test::Present => true,
    }
}

/// A path that can have an index, as expressions of our SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexed {
    /// The [`key`] of its value; NULL where there is none or an array is on the way.
    pub(super) value: String,
    /// 1 where an array is on the way, else NULL. `None` for paths that no array can be on.
    pub(super) spread: Option<String>,
}

impl Indexed {
    /// `None`: such a path has no index.
    pub(super) fn new(path: &Path) -> Option<Self> {
        // Checked when it was made, and again where it becomes part of a statement.
        if !path.is_indexable() {
            return None;
        }
        let mut way = String::from("$");
        let mut spreads = Vec::new();
        for step in path.steps() {
            match step {
                Step::Member(name) => {
                    way.push_str(".\"");
                    way.push_str(name);
                    way.push('"');
                }
                Step::Spread => spreads.push(format!("json_type(document, '{way}') = 'array'")),
                Step::Elements | Step::Values => return None,
            }
        }
        let spread = (!spreads.is_empty()).then(|| format!("(CASE WHEN {} THEN 1 END)", spreads.join(" OR ")));
        Some(Self { value: key(&format!("document ->> '{way}'")), spread })
    }
}

/// Statements that make an index. None for a path that cannot have one.
///
/// * `number`: of the collection.
/// * `index`: of the index in it.
pub(in crate::store::sqlite) fn create_index(number: i64, index: i64, path: &Path) -> Vec<String> {
    let Some(Indexed { value, spread }) = Indexed::new(path) else { return Vec::new() };
    // By id too: it decides between equal values, in orders and in pages.
    let mut statements = vec![format!("CREATE INDEX x{number}_{index} ON r{number} ({value}, id)")];
    statements
        .extend(spread.map(|spread| {
            format!("CREATE INDEX s{number}_{index} ON r{number} ({spread}) WHERE {spread} IS NOT NULL")
        }));
    statements
}

/// Statements that drop an index that [`create_index`] made.
pub(in crate::store::sqlite) fn drop_index(number: i64, index: i64, path: &Path) -> Vec<String> {
    let Some(Indexed { spread, .. }) = Indexed::new(path) else { return Vec::new() };
    let mut statements = vec![format!("DROP INDEX x{number}_{index}")];
    statements.extend(spread.map(|_| format!("DROP INDEX s{number}_{index}")));
    statements
}
