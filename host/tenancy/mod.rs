//! Who may do what: the one place that hands out [`Permit`]s.
//!
//! Nobody works in `system` but who runs the node.

pub mod audit;
mod caller;
mod verb;

pub use caller::{Caller, Principal};
pub use verb::Verb;

use crate::domain::Namespace;
use audit::{Audit, Unrecorded};
use std::sync::Arc;

/// Proof that a caller may do something in a namespace. Only [`Tenancy::authorize`] makes one.
#[derive(Debug, Clone)]
pub struct Permit {
    namespace: Namespace,
    caller: Caller,
}

impl Permit {
    /// Where.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Who.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// A caller may not do what it asked for. Says nothing of what exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not in this namespace, whether there is one or not.
    #[error("not allowed in this namespace")]
    Forbidden,
    /// It may, but there is no record of it, so it must not.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// The policy decision point. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tenancy(Arc<Policy>);

#[derive(Debug, Default)]
struct Policy {
    audit: Option<Audit>,
}

impl Tenancy {
    /// One that writes down who changes something, and who is refused.
    pub fn audited(audit: Audit) -> Self {
        Self(Arc::new(Policy { audit: Some(audit) }))
    }

    /// Decides whether `caller` may do `verb` in `namespace`. What changes something is written down before this returns.
    ///
    /// * errors: `Forbidden`; `Unrecorded`.
    pub fn authorize(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> Result<Permit, Refused> {
        let audit = self.0.audit.as_ref();
        if !self.0.allows(caller, namespace, verb) {
            if let Some(audit) = audit {
                audit.refused(caller.principal(), caller.trail(), verb, namespace);
            }
            return Err(Refused::Forbidden);
        }
        if let Some(audit) = audit.filter(|_| verb.changes()) {
            audit.permitted(caller.principal(), caller.trail(), verb, namespace)?;
        }
        Ok(Permit { namespace: namespace.clone(), caller: caller.clone() })
    }

    /// The node gives its data folder back: nothing is written down any more, so nothing is changed.
    pub fn close(&self) {
        if let Some(audit) = &self.0.audit {
            audit.close();
        }
    }

    /// Whether it would, without asking for it: what a listing shows is no attempt.
    pub fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        self.0.allows(caller, namespace, verb)
    }
}

impl Policy {
    fn allows(&self, caller: &Caller, namespace: &Namespace, verb: Verb) -> bool {
        match (caller.principal(), verb) {
            // The node's own records are for its operators, who cannot be told apart yet.
            (Principal::Anonymous, _) if *namespace == Namespace::system() => false,
            (Principal::Anonymous, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_runs_code_in_system() {
        let (tenancy, anybody) = (Tenancy::default(), Caller::anonymous());
        for verb in Verb::ALL {
            let system = "system".parse().unwrap();
            assert_eq!(tenancy.authorize(&anybody, &system, verb).err(), Some(Refused::Forbidden));
            let other = "System".parse().unwrap();
            assert!(tenancy.authorize(&anybody, &other, verb).is_ok(), "names compare byte for byte");
        }
    }
}
