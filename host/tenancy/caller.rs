//! Who is calling.

use crate::domain::{DeploymentName, Namespace};
use std::sync::Arc;

/// Who made one request, as the edge found out. Clones are the same caller.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Principal>);

/// What a caller showed of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nothing: somebody who reached the port of a node that asks nobody.
    Anonymous,
    /// Code of a deployment, in a host call. What it may do is its grants', whoever called it; here only that it stays in
    /// its namespace.
    Deployment {
        /// Where.
        namespace: Namespace,
        /// Which.
        name: DeploymentName,
    },
}

impl Caller {
    /// Somebody who reached the port.
    pub fn anonymous() -> Self {
        Self(Arc::new(Principal::Anonymous))
    }

    /// The code of a deployment. Only for what answers host calls.
    pub fn deployment(namespace: Namespace, name: DeploymentName) -> Self {
        Self(Arc::new(Principal::Deployment { namespace, name }))
    }

    /// What it showed.
    pub fn principal(&self) -> &Principal {
        &self.0
    }
}
