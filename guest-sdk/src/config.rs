//! What the operator of the deployment told it: `collector plugin grant NAME config=KEY=VALUE`.
//!
//! ```
//! use collector_guest::config;
//!
//! let region = config::get("region").unwrap_or_else(|| "eu".to_owned());
//! # assert_eq!(region, "eu", "outside of a node nothing is configured");
//! ```

/// The value under a key; `None` where nobody granted one.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    node::get(key)
}

/// The keys that have a value, in order.
#[must_use]
pub fn keys() -> Vec<String> {
    node::keys()
}

#[cfg(target_family = "wasm")]
mod node {
    pub(super) use crate::component::bindings::collector::plugin::config::{get, keys};
}

#[cfg(not(target_family = "wasm"))]
mod node {
    pub(super) fn get(_: &str) -> Option<String> {
        None
    }
    pub(super) fn keys() -> Vec<String> {
        Vec::new()
    }
}
