//! The node's own collections that who runs the node may read like any other. Source: semantics.md sections 1 and 2.
//!
//! A list of what is shown, so that what is added to `system` (keys, secrets) stays hidden until somebody decides
//! otherwise. Tenancy lets nobody change them.

use super::Definition;
use crate::domain::{CollectionName, Namespace};
use crate::store::Labels;

/// Their names, and the types of their records, which every namespace has.
const SHOWN: [(&str, &str); COUNT] = [
    ("collections", "collector.Collection"),
    ("deployments", "collector.plugin.v1.Deployment"),
    ("peers", "collector.admin.v1.PeerRecord"),
    ("registered_protos", "collector.RegisteredProto"),
    ("registered_services", "collector.RegisteredService"),
];
/// How many they are.
pub(super) const COUNT: usize = 5;

/// What they are. Their modules make the tables; nothing in them can be searched, records are found by id and in order.
pub(super) fn definitions() -> Vec<Definition> {
    let of = |(name, message_type): (&str, &str)| {
        let name: CollectionName = name.parse().ok()?;
        Some(Definition {
            namespace: Namespace::system(),
            name,
            message_type: Some(message_type.to_owned()),
            indexed_fields: Vec::new(),
            server_endpoint: String::new(),
            labels: Labels::new(),
            full_text: false,
            created_at: 0,
            updated_at: 0,
        })
    };
    SHOWN.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_there_and_no_key_is() {
        let names: Vec<String> = definitions().iter().map(|one| one.name.to_string()).collect();
        assert_eq!(names, SHOWN.map(|(name, _)| name));
        assert!(!names.iter().any(|name| name.contains("key") || name.contains("token")));
    }
}
