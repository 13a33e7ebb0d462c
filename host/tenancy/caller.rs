//! Who is calling.

use super::quota::Visit;
use std::sync::Arc;

/// Who made one request, as the edge found out. Clones are the same caller, and hold the same places: see
/// [`super::Tenancy::enter`].
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Arc<Principal>,
    visit: Option<Arc<Visit>>,
}

/// What a caller showed of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nothing: somebody who reached the port of a node that asks nobody.
    Anonymous,
}

impl Caller {
    /// Somebody who reached the port.
    pub fn anonymous() -> Self {
        Self { principal: Arc::new(Principal::Anonymous), visit: None }
    }

    /// What it showed.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whose quotas its requests count for.
    pub(super) fn identity(&self) -> Identity {
        match self.principal() {
            Principal::Anonymous => Identity::Anonymous,
        }
    }

    /// Its places in the accounts, once it has entered.
    pub(super) fn visit(&self) -> Option<&Visit> {
        self.visit.as_deref()
    }

    /// The same caller, having entered.
    pub(super) fn entered(self, visit: Visit) -> Self {
        Self { visit: Some(Arc::new(visit)), ..self }
    }
}

/// A caller as its quotas know it: the same for every request and every way to show who one is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// All who showed nothing. One for all of them, not one per address: behind a proxy or a NAT many callers have one
    /// address, and one caller has many by IPv6.
    Anonymous,
}
