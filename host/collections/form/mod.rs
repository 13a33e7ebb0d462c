//! What the records of a collection are, as the namespace's registry knows it now.

mod holds;

pub(super) use holds::{Holds, default_number};

use crate::registry::{MessageType, Snapshot};
use prost_reflect::MessageDescriptor;

/// What the records of a collection are.
#[derive(Debug, Clone)]
pub enum Form {
    /// Messages of a registered type.
    Typed {
        /// For names and values.
        descriptor: MessageDescriptor,
        /// For the check of bytes.
        check: MessageType,
    },
    /// Whatever comes: JSON objects are searchable as they are, anything else is opaque.
    Loose,
}

impl Form {
    /// What records of that type are to the namespace: typed if it is registered, or bundled, and links with the rest.
    pub fn of(snapshot: &Snapshot, message_type: Option<&str>) -> Self {
        let typed = message_type.and_then(|name| {
            let check = snapshot.message_type(name)?;
            let descriptor = snapshot.pool()?.get_message_by_name(name).filter(|found| !found.is_map_entry())?;
            Some(Self::Typed { descriptor, check })
        });
        typed.unwrap_or(Self::Loose)
    }
}
