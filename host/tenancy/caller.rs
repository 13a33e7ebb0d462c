//! Who is calling.

use std::sync::Arc;

/// Who made one request, as the edge found out. Clones are the same caller.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Principal>);

/// What a caller showed of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nothing: somebody who reached the port of a node that asks nobody.
    Anonymous,
}

impl Caller {
    /// Somebody who reached the port.
    pub fn anonymous() -> Self {
        Self(Arc::new(Principal::Anonymous))
    }

    /// What it showed.
    pub fn principal(&self) -> &Principal {
        &self.0
    }
}
