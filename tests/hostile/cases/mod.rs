//! The cases, a module per group of threats.md.

mod callers;
mod descriptors;
mod files;
mod host_calls;
mod overload;
mod payloads;
mod runtime;
mod transport;
mod uploads;

use crate::case::Case;

/// All of them, in the order of threats.md.
pub fn all() -> Vec<Case> {
    [
        transport::cases(),
        payloads::cases(),
        descriptors::cases(),
        uploads::cases(),
        runtime::cases(),
        host_calls::cases(),
        callers::cases(),
        overload::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
