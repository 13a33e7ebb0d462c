//! The request as JSON, for commands that would rather read that: `GRPC_INPUT_DATA`. Source: design.md section 2.

use crate::domain::Deadline;
use crate::exec::Code;
use crate::registry::{MethodRef, Registry, Schema, Snapshot, to_json};
use std::sync::Arc;
use tokio::time::timeout_at;

/// Longest request, and longest text of it. 64 KiB: a variable may have 128, and this is made where the call stands.
const MOST: usize = 64 << 10;

/// Where the types of a call are from.
pub(super) enum Types<'a> {
    /// From what the code says about itself.
    Own(&'a Schema),
    /// From what the namespace has registered.
    Registered(&'a Registry, &'a Arc<Snapshot>),
}

impl Types<'_> {
    /// The request as canonical JSON; `None` for a handler, where the method is not known, where it has no JSON form, and
    /// above 64 KiB.
    ///
    /// * `deadline`: of the call; its first one may have to wait for the types to be linked.
    pub(super) async fn json(
        &self,
        code: &Code,
        method: Option<&MethodRef>,
        input: &[u8],
        deadline: Deadline,
    ) -> Option<String> {
        let method = method.filter(|_| code.kind.is_command() && input.len() <= MOST)?;
        let kind = method.method().input.name();
        let kind = match self {
            Self::Own(schema) => schema.pool()?.get_message_by_name(kind)?,
            Self::Registered(registry, snapshot) => {
                timeout_at(deadline.instant(), registry.linked(snapshot)).await.ok()??.get_message_by_name(kind)?
            }
        };
        String::from_utf8(to_json(kind, input, MOST).ok()?).ok()
    }
}
