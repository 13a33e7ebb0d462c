//! How a collection is laid out: what of its records can be searched, and what has an index.

use super::StoreError;
use super::record::check_range;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most indexes of one collection. 32: each costs every write.
pub const INDEXES_MAX: usize = 32;
/// Most steps of a path.
pub const STEPS_MAX: usize = 32;
/// Longest name of a member in a path, in bytes.
pub const MEMBER_MAX: usize = 256;
/// Longest name of a member in the path of an index, in bytes.
pub const INDEXED_MEMBER_MAX: usize = 64;
/// Longest path of an index, in bytes: its names, and 3 for each. 128: a statement may name it forty times.
pub const INDEXED_PATH_MAX: usize = 128;

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// The member of this name of an object: 1 to [`MEMBER_MAX`] bytes without `"`, `\` and control characters.
    Member(String),
    /// Every element of an array.
    Elements,
    /// Every value of an object.
    Values,
    /// Every element if it is an array, itself if it is not: for documents that nobody declared.
    Spread,
}

/// A way into a document: 1 to [`STEPS_MAX`] steps. It may lead to several values, or to none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Path(Vec<Step>);

/// Why a path is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPath(String);

impl Path {
    /// * errors: a path outside of the bounds that [`Step`] and [`Path`] name.
    pub fn new(steps: Vec<Step>) -> Result<Self, BadPath> {
        if steps.is_empty() || steps.len() > STEPS_MAX {
            return Err(BadPath(format!("a path has 1 to {STEPS_MAX} steps, this one has {}", steps.len())));
        }
        for step in &steps {
            let Step::Member(name) = step else { continue };
            if name.is_empty() || name.len() > MEMBER_MAX {
                return Err(BadPath(format!("a field name has 1 to {MEMBER_MAX} bytes, this one has {}", name.len())));
            }
            if name.contains(['"', '\\']) || name.chars().any(char::is_control) {
                return Err(BadPath("a field name may not have quotes, backslashes or control characters".to_owned()));
            }
        }
        Ok(Self(steps))
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether it leads to at most one value in every document: it has members only.
    pub fn is_single(&self) -> bool {
        self.0.iter().all(|step| matches!(step, Step::Member(_)))
    }

    /// Whether nobody declared what it leads to, so that the kind of a value has to be looked at: it has a `Spread`.
    pub fn is_loose(&self) -> bool {
        self.0.contains(&Step::Spread)
    }
}

impl Path {
    /// Whether it can have an index: its names become part of the layout.
    pub fn is_indexable(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = 0;
        let steps = self.0.iter().all(|step| match step {
            Step::Member(name) => {
                bytes += name.len() + 3;
                (1..=INDEXED_MEMBER_MAX).contains(&name.len()) && name.bytes().all(plain)
            }
            Step::Spread => true,
            Step::Elements | Step::Values => false,
        });
        steps && bytes <= INDEXED_PATH_MAX && matches!(self.0.first(), Some(Step::Member(_)))
    }
}

/// For people: `a.b[].c`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for step in &self.0 {
            match step {
                Step::Member(name) => {
                    if !first {
                        f.write_str(".")?;
                    }
                    f.write_str(name)?;
                }
                Step::Elements => f.write_str("[]")?,
                Step::Values => f.write_str("{}")?,
                Step::Spread => {}
            }
            first = false;
        }
        Ok(())
    }
}

/// How a collection is laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Whether text search finds its records.
    pub full_text: bool,
    /// What has an index: at most [`INDEXES_MAX`], none twice. Members and `Spread` only, a member first, and the names of
    /// members at most [`INDEXED_MEMBER_MAX`] bytes of ASCII letters, digits and `_`, as they become part of the layout.
    pub indexes: Vec<Path>,
}

impl Shape {
    /// * errors: `Invalid` for one outside of the bounds.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        check_range("collection", "indexes", self.indexes.len(), 0, INDEXES_MAX)?;
        for (number, path) in self.indexes.iter().enumerate() {
            if self.indexes.iter().take(number).any(|other| other == path) {
                return Err(StoreError::Invalid(format!("{path} has two indexes")));
            }
            check_range("path of an index", "steps", path.0.len(), 1, STEPS_MAX)?;
            if !path.is_indexable() {
                return Err(StoreError::Invalid(format!("{path} cannot have an index")));
            }
        }
        Ok(())
    }
}

/// How much a namespace keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Records of all its collections.
    pub records: u64,
    /// Bytes on disk, indexes and what all collections share included.
    pub bytes: u64,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records, exactly.
    pub records: u64,
    /// Bytes on disk that this collection alone takes, indexes included.
    pub bytes: u64,
}
