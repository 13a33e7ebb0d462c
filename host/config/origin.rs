//! Where each setting came from: the layers that a configuration is put together from, leaf by leaf.

use std::collections::BTreeMap;
use std::fmt;
use toml::{Table, Value};

/// The layer that a setting came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// The configuration file.
    File,
    /// An environment variable, by its name.
    Variable(String),
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Where the settings of one configuration came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Notes that a layer sets `key` (`section.key`), over whatever was there.
    pub(crate) fn note(&mut self, key: String, origin: Origin) {
        self.0.insert(key, origin);
    }

    /// The same for every leaf of a file.
    pub(super) fn note_all(&mut self, table: &Table) {
        for (key, _) in leaves(table) {
            self.note(key, Origin::File);
        }
    }

    /// Where a leaf came from: from the layer that named it, or the table or list it is part of.
    pub fn of(&self, key: &str) -> Origin {
        let whole = std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(above, _)| above));
        whole.filter_map(|key| self.0.get(key)).next().cloned().unwrap_or_default()
    }
}

/// All settings of a configuration: `section.key` and value, in the order of their names.
pub fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    walk("", table, &mut found);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Configurations are as deep as their structs, and files were parsed with TOML's own bound.
fn walk(above: &str, table: &Table, found: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match value {
            Value::Table(below) if !below.is_empty() => walk(&key, below, found),
            value => found.push((key, value.clone())),
        }
    }
}
