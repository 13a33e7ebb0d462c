//! Who is calling.

use super::audit::Trail;
use std::borrow::Cow;
use std::sync::Arc;

/// Who made one request, as the edge found out. Clones are the same caller.
#[derive(Debug, Clone)]
pub struct Caller {
    who: Arc<Principal>,
    trail: Option<Trail>,
}

/// What a caller showed of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nothing: somebody who reached the port of a node that asks nobody.
    Anonymous,
}

impl Principal {
    /// What the audit log calls it. No part of it is a secret.
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Anonymous => "anonymous".into(),
        }
    }
}

impl Caller {
    /// Somebody who reached the port.
    pub fn anonymous() -> Self {
        Self { who: Arc::new(Principal::Anonymous), trail: None }
    }

    /// What it showed.
    pub fn principal(&self) -> &Principal {
        &self.who
    }

    /// The same caller, what it changes and is refused being written as part of one request.
    pub fn on(self, trail: Trail) -> Self {
        Self { trail: Some(trail), ..self }
    }

    /// The request, where there is one.
    pub(super) fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
    }
}
