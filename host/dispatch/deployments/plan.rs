//! What a deployment would change, and what its code wants of the node.

use crate::exec::wasm::{Import, import};
use crate::registry::Change;
use crate::tenancy::Grants;

/// What a deployment changes.
#[derive(Debug)]
pub struct Plan {
    /// Services and methods that differ from what is registered.
    pub changes: Vec<Change>,
    /// Why it cannot be done.
    pub breaking: Vec<String>,
    /// What the component imports.
    pub powers: Vec<Power>,
}

/// One import of a component.
#[derive(Debug)]
pub struct Power {
    /// As the component names it.
    pub import: String,
    /// Whether the deployment has it.
    pub granted: bool,
    /// The kind of grant that it takes; `None`: none, or no grant gives it.
    pub grant: Option<&'static str>,
}

/// What code wants of the node, and whether it has it under these grants.
pub fn powers(imports: &[String], grants: &Grants) -> Vec<Power> {
    let power = |name: &String| {
        let (granted, grant) = match import(name) {
            Import::Free => (true, None),
            Import::ByGrant(kind) => (grants.has(kind), Some(kind)),
            Import::Unknown => (false, None),
        };
        Power { import: name.clone(), granted, grant }
    };
    imports.iter().map(power).collect()
}

/// The imports that are not given.
pub(super) fn missing(powers: &[Power]) -> Vec<String> {
    let words = |power: &Power| match power.grant {
        Some(kind) => format!("{} (needs a grant {kind}=...)", power.import),
        None => power.import.clone(),
    };
    powers.iter().filter(|power| !power.granted).map(words).collect()
}
